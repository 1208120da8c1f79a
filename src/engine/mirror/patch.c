#include "engine/mirror/patch.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/bytes.h"
#include "base/error.h"
#include "fs/io.h"

#define MAGIC        "BACKAPPP\1\0\0\0" /* with the version */
#define MAGIC_LENGTH 12U
#define BLOCK        (64U * 1024)
#define HEAD_LENGTH  28U /* kind, offset, length, checksum */
#define SUMMED_HEAD  20U

enum { KIND_DATA = 1, KIND_HOLE = 2, KIND_END = 3 };

typedef struct {
    guint32 kind;
    guint64 offset, length; /* END: new size, number of frames before */
} Frame;

/* A patch being written. */
typedef struct {
    int src_fd, old_fd, patch_fd;
    const CopyOptions *options;
    CopyResult *result;
    guint64 at;  /* length of the patch so far */
    guint64 end; /* of the last block in it */
    guint64 frames;
    XXH3_state_t *sums;
    guint8 *src, *old, *out;
} Making;

static gboolean write_at(int fd, const guint8 *data, gsize length, guint64 offset, const char *what, GError **error)
{
    return io_write_at(fd, data, length, offset) || error_set_errno(error, errno, "cannot write %s", what);
}

static gboolean is_zero(const guint8 *data, gsize length)
{
    return length == 0 || (data[0] == 0 && memcmp(data, data + 1, length - 1) == 0);
}

static void store(guint8 *out, guint64 value, gsize length)
{
    guint64 little = GUINT64_TO_LE(value);
    memcpy(out, &little, length);
}

static void add_sum(XXH3_state_t *sums, guint64 sum)
{
    guint64 little = GUINT64_TO_LE(sum);
    XXH3_64bits_update(sums, &little, sizeof little);
}

/* The checksum of a frame whose first bytes are its head and whose data follow the head. */
static guint64 frame_sum(const guint8 *frame, gsize data_length)
{
    guint64 head = XXH3_64bits(frame, SUMMED_HEAD);
    return data_length > 0 ? XXH3_64bits_withSeed(frame + HEAD_LENGTH, data_length, head) : head;
}

/* ---- making ---- */

/* Appends a frame; the data of a DATA frame are in out behind the head already. */
static gboolean put_frame(Making *making, const Frame *frame, GError **error)
{
    gsize data_length = frame->kind == KIND_DATA ? (gsize)frame->length : 0;
    store(making->out, frame->kind, 4);
    store(making->out + 4, frame->offset, 8);
    store(making->out + 12, frame->length, 8);
    guint64 sum = frame_sum(making->out, data_length);
    if (frame->kind == KIND_END)
        sum ^= XXH3_64bits_digest(making->sums);
    store(making->out + SUMMED_HEAD, sum, 8);
    add_sum(making->sums, sum);
    making->frames++;
    if (!write_at(making->patch_fd, making->out, HEAD_LENGTH + data_length, making->at, "the patch", error))
        return FALSE;
    making->at += HEAD_LENGTH + data_length;
    making->end = frame->offset + frame->length;
    return TRUE;
}

static gboolean is_hole(int fd, guint64 offset, guint64 length)
{
    off_t data = lseek(fd, (off_t)offset, SEEK_DATA);
    return data < 0 ? errno == ENXIO : (guint64)data >= offset + length;
}

/* Writes down one block that differs. `beyond`: the old file has nothing there. */
static gboolean put_block(Making *making, const guint8 *data, gsize length, guint64 offset, gboolean beyond,
                          GError **error)
{
    if (is_zero(data, length) && is_hole(making->src_fd, offset, length)) {
        Frame hole = {.kind = KIND_HOLE, .offset = offset, .length = length};
        return beyond || put_frame(making, &hole, error);
    }
    const CopyOptions *options = making->options;
    if (options != NULL && !rate_take(options->rate, length, options->cancel, error))
        return FALSE;
    memcpy(making->out + HEAD_LENGTH, data, length);
    Frame frame = {.kind = KIND_DATA, .offset = offset, .length = length};
    if (!put_frame(making, &frame, error))
        return FALSE;
    making->result->copied += length;
    if (options != NULL && options->progress != NULL)
        options->progress(length, options->user_data);
    return TRUE;
}

/* Where the next block begins: behind what is a hole in both files. */
static guint64 skip_holes(const Making *making, guint64 at, guint64 size)
{
    off_t src = lseek(making->src_fd, (off_t)at, SEEK_DATA);
    if (src < 0 && errno != ENXIO)
        return at;
    off_t old = lseek(making->old_fd, (off_t)at, SEEK_DATA);
    if (old < 0 && errno != ENXIO)
        return at;
    guint64 next = MIN(src < 0 ? size : (guint64)src, old < 0 ? size : (guint64)old);
    if (next >= size)
        return size;
    return MAX(at, next - next % BLOCK);
}

/* The end of the piece that begins at `at`: at most a block, and either all hole or all data in the source, because a hole
 * that is written with what is beside it would be filled. */
static guint64 piece_end(const Making *making, guint64 at, guint64 size)
{
    guint64 end = MIN(size, at - at % BLOCK + BLOCK);
    off_t data = lseek(making->src_fd, (off_t)at, SEEK_DATA);
    if (data > (off_t)at)
        return MIN(end, (guint64)data);
    off_t hole = data < 0 ? -1 : lseek(making->src_fd, (off_t)at, SEEK_HOLE);
    return hole > (off_t)at ? MIN(end, (guint64)hole) : end;
}

/* Compares all blocks; *size becomes what the source really had. */
static gboolean make_blocks(Making *making, guint64 *size, GError **error)
{
    const CancelFlag *cancel = making->options != NULL ? making->options->cancel : NULL;
    guint64 at = 0;
    while (cancel_check(cancel, error)) {
        at = skip_holes(making, at, *size);
        if (at >= *size)
            return TRUE;
        gsize want = (gsize)(piece_end(making, at, *size) - at);
        gssize got = io_read_at(making->src_fd, making->src, want, at);
        if (got < 0) {
            making->result->source_failed = TRUE;
            return error_set_errno(error, errno, "cannot read the source");
        }
        gssize old = got == 0 ? 0 : io_read_at(making->old_fd, making->old, (gsize)got, at);
        if (old < 0)
            return error_set_errno(error, errno, "cannot read the old copy");
        gboolean same = old == got && memcmp(making->src, making->old, (gsize)got) == 0;
        if (!same && !put_block(making, making->src, (gsize)got, at, old == 0, error))
            return FALSE;
        at += (guint64)got;
        if ((gsize)got < want) {
            making->result->shrunk = TRUE;
            *size = at;
        }
    }
    return FALSE;
}

/* A source that ends in a hole is not read there, so its length has to be asked for. The new version is not shorter than
 * what was written down of it. */
static gboolean check_length(Making *making, guint64 *size, GError **error)
{
    struct stat st;
    if (fstat(making->src_fd, &st) != 0) {
        making->result->source_failed = TRUE;
        return error_set_errno(error, errno, "cannot read the source");
    }
    if ((guint64)st.st_size < *size && S_ISREG(st.st_mode)) {
        making->result->shrunk = TRUE;
        *size = MAX((guint64)st.st_size, making->end);
    }
    return TRUE;
}

static void free_state(XXH3_state_t **state)
{
    XXH3_freeState(*state);
}

gboolean patch_make(int src_fd, int old_fd, int patch_fd, guint64 size, const CopyOptions *options, CopyResult *result,
                    GError **error)
{
    *result = (CopyResult){0};
    g_autofree guint8 *buffer = g_malloc(3 * BLOCK + HEAD_LENGTH);
    XXH3_state_t *sums __attribute__((cleanup(free_state))) = XXH3_createState();
    XXH3_64bits_reset(sums);
    Making making = {.src_fd = src_fd,
                     .old_fd = old_fd,
                     .patch_fd = patch_fd,
                     .options = options,
                     .result = result,
                     .at = MAGIC_LENGTH,
                     .sums = sums,
                     .src = buffer,
                     .old = buffer + BLOCK,
                     .out = buffer + 2 * (gsize)BLOCK};
    if (size > G_MAXINT64)
        return error_set(error, BACKAPP_ERROR_INVALID, "a file cannot be so large");
    if (!write_at(patch_fd, (const guint8 *)MAGIC, MAGIC_LENGTH, 0, "the patch", error) ||
        !make_blocks(&making, &size, error) || !check_length(&making, &size, error))
        return FALSE;
    Frame end = {.kind = KIND_END, .offset = size, .length = making.frames};
    return put_frame(&making, &end, error);
}

/* ---- applying ---- */

/* A patch being read: once to check it, once to apply it. */
typedef struct {
    int patch_fd;
    guint64 at, frames;
    guint64 next; /* offsets below it were there already */
    XXH3_state_t *sums;
    guint8 *frame; /* head and data */
} Reading;

static int damaged(GError **error, const char *what)
{
    error_set(error, BACKAPP_ERROR_CORRUPT, "the patch is damaged: %s", what);
    return -1;
}

static int get_bytes(Reading *reading, guint8 *out, gsize length, GError **error)
{
    gssize got = io_read_at(reading->patch_fd, out, length, reading->at);
    if (got < 0) {
        error_set_errno(error, errno, "cannot read the patch");
        return -1;
    }
    if ((gsize)got < length)
        return damaged(error, "it ends too early");
    reading->at += length;
    return 1;
}

static gboolean is_sensible(const Reading *reading, const Frame *frame)
{
    if (frame->offset > G_MAXINT64)
        return FALSE;
    if (frame->kind == KIND_END)
        return frame->length == reading->frames;
    return (frame->kind == KIND_DATA || frame->kind == KIND_HOLE) && frame->length > 0 && frame->length <= BLOCK &&
           frame->offset >= reading->next && frame->offset + frame->length <= G_MAXINT64;
}

/* After the end there must be nothing, and no block may lie beyond the new size. */
static int check_end(Reading *reading, const Frame *frame, GError **error)
{
    guint8 more;
    gssize got = io_read_at(reading->patch_fd, &more, 1, reading->at);
    if (got < 0) {
        error_set_errno(error, errno, "cannot read the patch");
        return -1;
    }
    return got > 0 || reading->next > frame->offset ? damaged(error, "its end does not fit") : 0;
}

/* The next frame, its data behind the head: 1; 0 for the END frame; -1. */
static int next_frame(Reading *reading, Frame *frame, GError **error)
{
    if (get_bytes(reading, reading->frame, HEAD_LENGTH, error) < 0)
        return -1;
    BytesReader in = bytes_reader(reading->frame, HEAD_LENGTH);
    frame->kind = bytes_get_u32(&in);
    frame->offset = bytes_get_u64(&in);
    frame->length = bytes_get_u64(&in);
    guint64 stated = bytes_get_u64(&in);
    if (!is_sensible(reading, frame))
        return damaged(error, "a block makes no sense");
    gsize data_length = frame->kind == KIND_DATA ? (gsize)frame->length : 0;
    if (data_length > 0 && get_bytes(reading, reading->frame + HEAD_LENGTH, data_length, error) < 0)
        return -1;
    guint64 sum = frame_sum(reading->frame, data_length);
    if (frame->kind == KIND_END)
        sum ^= XXH3_64bits_digest(reading->sums);
    if (sum != stated)
        return damaged(error, "a block's checksum does not fit");
    if (frame->kind == KIND_END)
        return check_end(reading, frame, error);
    add_sum(reading->sums, sum);
    reading->frames++;
    reading->next = frame->offset + frame->length;
    return 1;
}

static gboolean start_reading(Reading *reading, GError **error)
{
    guint8 magic[MAGIC_LENGTH];
    reading->at = reading->frames = reading->next = 0;
    XXH3_64bits_reset(reading->sums);
    if (get_bytes(reading, magic, sizeof magic, error) < 0)
        return FALSE;
    return memcmp(magic, MAGIC, sizeof magic) == 0 || damaged(error, "it does not begin as one") > 0;
}

static gboolean make_hole(int fd, const Frame *frame, guint8 *buffer, GError **error)
{
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)frame->offset, (off_t)frame->length) == 0)
        return TRUE;
    memset(buffer, 0, (gsize)frame->length);
    return write_at(fd, buffer, (gsize)frame->length, frame->offset, "the patched file", error);
}

gboolean patch_apply(int patch_fd, int file_fd, GError **error)
{
    g_autofree guint8 *buffer = g_malloc(BLOCK + HEAD_LENGTH);
    XXH3_state_t *sums __attribute__((cleanup(free_state))) = XXH3_createState();
    Reading reading = {.patch_fd = patch_fd, .sums = sums, .frame = buffer};
    Frame frame;
    int got = start_reading(&reading, error) ? 1 : -1;
    while (got > 0)
        got = next_frame(&reading, &frame, error);
    if (got < 0 || !start_reading(&reading, error))
        return FALSE;
    while ((got = next_frame(&reading, &frame, error)) > 0) {
        gboolean good = frame.kind == KIND_HOLE ? make_hole(file_fd, &frame, buffer + HEAD_LENGTH, error)
                                                : write_at(file_fd, buffer + HEAD_LENGTH, (gsize)frame.length,
                                                           frame.offset, "the patched file", error);
        if (!good)
            return FALSE;
    }
    if (got < 0)
        return FALSE;
    if (ftruncate(file_fd, (off_t)frame.offset) != 0)
        return error_set_errno(error, errno, "cannot set the patched file's length");
    if (fsync(file_fd) != 0)
        return error_set_errno(error, errno, "cannot write the patched file to disk");
    return TRUE;
}
