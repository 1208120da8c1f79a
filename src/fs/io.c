#include "fs/io.h"

#include <errno.h>
#include <unistd.h>

gssize io_read_at(int fd, guint8 *data, gsize length, guint64 offset)
{
    gsize done = 0;
    while (done < length) {
        gssize got = pread(fd, data + done, length - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        done += (gsize)got;
    }
    return (gssize)done;
}

gboolean io_write_at(int fd, const guint8 *data, gsize length, guint64 offset)
{
    while (length > 0) {
        gssize put = pwrite(fd, data, length, (off_t)offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return FALSE;
        data += put;
        length -= (gsize)put;
        offset += (guint64)put;
    }
    return TRUE;
}
