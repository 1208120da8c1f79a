#include "fs/copy.h"

#include "base/error.h"
#include "fs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define KIB               1024U
#define BUFFER_BYTES      (1024U * KIB)
#define SMALL_BYTES       (128U * KIB)     /* one read and one write up to here */
#define CLONE_BYTES       (64U * KIB)      /* below, sharing blocks costs more than copying them */
#define HOLE_BYTES        (4U * KIB)       /* up to here a file is too short to look for holes */
#define PIECE_BYTES       (8U * KIB * KIB) /* between two looks at cancel */
#define RATED_PIECE_BYTES (256U * KIB)     /* the same under a rate limit */
#define CHANGED_BLOCK     (64U * KIB)

/*
 * What pairs of devices cannot do, so that it is tried once and not for every file. Each slot holds a hash of a pair
 * with the flags in its low bits; a collision or a race costs a useless attempt, or a slower copy, never a wrong one.
 */
#define NO_CLONE   1U
#define NO_RANGE   2U
#define FLAG_BITS  3U
#define PAIR_SLOTS 16U
static _Atomic guint64 pair_slots[PAIR_SLOTS];

/* One copy under way. */
typedef struct {
    int src_fd, dst_fd;
    const CopyOptions *options;
    CopyResult *result;
    guint64 pair;  /* hash of the devices; 0 while unknown */
    guint64 flags; /* what they cannot do */
} Job;

static guint8 *copy_buffer(void)
{
    static GPrivate private = G_PRIVATE_INIT(g_free);
    guint8 *buffer = g_private_get(&private);
    if (!buffer) {
        buffer = g_malloc(BUFFER_BYTES);
        g_private_set(&private, buffer);
    }
    return buffer;
}

static gboolean fail(int errnum, const char *what, GError **error)
{
    if (errnum == ENOSPC || errnum == EDQUOT)
        return error_set(error, BACKAPP_ERROR_NO_SPACE, "%s: %s", what, g_strerror(errnum));
    return error_set(error, BACKAPP_ERROR_INTERNAL, "%s: %s", what, g_strerror(errnum));
}

static gboolean fail_write(int errnum, GError **error)
{
    return fail(errnum, "cannot write the copy", error);
}

/* A failure to read is told apart from one to write: it concerns one file, not the whole destination. */
static gboolean fail_read(Job *job, int errnum, GError **error)
{
    job->result->source_failed = TRUE;
    return fail(errnum, "cannot read the source", error);
}

static gboolean write_at(int fd, const guint8 *data, gsize length, guint64 offset, GError **error)
{
    return io_write_at(fd, data, length, offset) || fail_write(errno, error);
}

static gboolean set_length(int fd, guint64 length, GError **error)
{
    return ftruncate(fd, (off_t)length) == 0 || fail_write(errno, error);
}

static gboolean may_write(const Job *job, guint64 bytes, GError **error)
{
    return cancel_check(job->options->cancel, error) &&
           rate_take(job->options->rate, bytes, job->options->cancel, error);
}

static void wrote(Job *job, guint64 bytes)
{
    job->result->copied += bytes;
    if (bytes > 0 && job->options->progress)
        job->options->progress(bytes, job->options->user_data);
}

static gboolean is_zero(const guint8 *data, gsize length)
{
    return length == 0 || (data[0] == 0 && memcmp(data, data + 1, length - 1) == 0);
}

static void look_up_pair(Job *job)
{
    struct stat src, dst;
    if (job->pair || fstat(job->src_fd, &src) != 0 || fstat(job->dst_fd, &dst) != 0)
        return;
    guint64 hash = ((guint64)src.st_dev * 0x9e3779b97f4a7c15U ^ (guint64)dst.st_dev) * 0xd6e8feb86659fd93U;
    hash ^= hash >> 32;
    job->pair = (hash | 1U << FLAG_BITS) & ~(guint64)((1U << FLAG_BITS) - 1);
    guint64 slot = atomic_load_explicit(&pair_slots[job->pair >> FLAG_BITS & (PAIR_SLOTS - 1)], memory_order_relaxed);
    guint64 known = slot & ((1U << FLAG_BITS) - 1);
    if ((slot ^ known) == job->pair)
        job->flags = known;
}

static void remember(Job *job, guint64 flag)
{
    job->flags |= flag;
    if (job->pair)
        atomic_store_explicit(&pair_slots[job->pair >> FLAG_BITS & (PAIR_SLOTS - 1)], job->pair | job->flags,
                              memory_order_relaxed);
}

gboolean copy_try_reflink(int src_fd, int dst_fd)
{
    return ioctl(dst_fd, FICLONE, src_fd) == 0;
}

/* Shares the source's blocks if that can be done: *done. Then the copy's length is set right. */
static gboolean try_clone(Job *job, guint64 size, guint64 blocks, gboolean *done, GError **error)
{
    if (job->options->no_reflink || size < CLONE_BYTES)
        return TRUE;
    look_up_pair(job);
    if (job->flags & NO_CLONE)
        return TRUE;
    if (!cancel_check(job->options->cancel, error))
        return FALSE;
    if (!copy_try_reflink(job->src_fd, job->dst_fd)) {
        /* Others, like EINVAL for a file without checksums on btrfs, say nothing about the next file. */
        if (errno == EOPNOTSUPP || errno == EXDEV || errno == ENOTTY || errno == ENOSYS)
            remember(job, NO_CLONE);
        return TRUE;
    }
    struct stat st;
    if (fstat(job->dst_fd, &st) != 0)
        return fail_write(errno, error);
    guint64 length = (guint64)st.st_size;
    *done = TRUE;
    job->result->reflinked = TRUE;
    job->result->shrunk = length < size;
    wrote(job, MIN(MIN(length, size), blocks * 512));
    return length <= size || set_length(job->dst_fd, size, error);
}

/* Copies a range by reading and writing. *done are the bytes before the end of the file. */
static gboolean copy_by_buffer(Job *job, guint64 offset, guint64 length, guint64 *done, GError **error)
{
    guint8 *buffer = copy_buffer();
    gsize piece_max = job->options->rate ? RATED_PIECE_BYTES : BUFFER_BYTES;
    while (*done < length) {
        gsize piece = (gsize)MIN(length - *done, piece_max);
        if (!may_write(job, piece, error))
            return FALSE;
        gssize got = io_read_at(job->src_fd, buffer, piece, offset + *done);
        if (got < 0)
            return fail_read(job, errno, error);
        if (!write_at(job->dst_fd, buffer, (gsize)got, offset + *done, error))
            return FALSE;
        *done += (guint64)got;
        wrote(job, (guint64)got);
        if ((gsize)got < piece)
            return TRUE;
    }
    return TRUE;
}

/* Whether copy_file_range says that it cannot, as against that this copy failed. */
static gboolean is_unsupported(int errnum)
{
    return errnum == EXDEV || errnum == ENOSYS || errnum == EOPNOTSUPP || errnum == EINVAL || errnum == EPERM;
}

/* Copies a range inside the kernel as far as that goes; what is missing is left to copy_by_buffer, which also finds
 * out which side failed. */
static gboolean copy_by_range(Job *job, guint64 offset, guint64 length, guint64 *done, GError **error)
{
    guint64 piece_max = job->options->rate ? RATED_PIECE_BYTES : PIECE_BYTES;
    while (*done < length) {
        gsize piece = (gsize)MIN(length - *done, piece_max);
        if (!may_write(job, piece, error))
            return FALSE;
        for (gsize left = piece; left > 0;) {
            loff_t in = (loff_t)(offset + *done), out = in;
            ssize_t got = copy_file_range(job->src_fd, &in, job->dst_fd, &out, left, 0);
            if (got < 0 && errno == EINTR)
                continue;
            if (got < 0 && (errno == ENOSPC || errno == EDQUOT))
                return fail_write(errno, error);
            if (got < 0 && is_unsupported(errno))
                remember(job, NO_RANGE);
            if (got <= 0)
                return TRUE;
            left -= (gsize)got;
            *done += (guint64)got;
            wrote(job, (guint64)got);
        }
    }
    return TRUE;
}

static gboolean copy_range(Job *job, guint64 offset, guint64 length, guint64 *done, GError **error)
{
    *done = 0;
    /* With no_reflink neither: copy_file_range shares blocks where it can. */
    if (length > SMALL_BYTES && !job->options->no_reflink) {
        look_up_pair(job);
        if (!(job->flags & NO_RANGE) && !copy_by_range(job, offset, length, done, error))
            return FALSE;
    }
    return *done == length || copy_by_buffer(job, offset, length, done, error);
}

/* Copies data only, hole after hole. The length is set at the end: the last part may be a hole. */
static gboolean copy_sparse(Job *job, guint64 size, GError **error)
{
    guint64 at = 0;
    gboolean ended = FALSE;
    while (at < size && !ended) {
        off_t data = lseek(job->src_fd, (off_t)at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            break;
        off_t hole = data < 0 ? -1 : lseek(job->src_fd, data, SEEK_HOLE);
        /* Without an answer all is data. */
        guint64 start = data < 0 ? at : MAX((guint64)data, at);
        guint64 end = hole <= data ? size : MIN((guint64)hole, size);
        if (start >= size)
            break;
        guint64 done = 0;
        if (!copy_range(job, start, end - start, &done, error))
            return FALSE;
        ended = done < end - start;
        at = start + done;
    }
    struct stat st;
    if (fstat(job->src_fd, &st) != 0)
        return fail_read(job, errno, error);
    /* A source that ended early is as long as it is now, but not shorter than what was read of it. */
    guint64 length = MAX(at, MIN(size, (guint64)st.st_size));
    if (ended)
        length = at;
    job->result->shrunk = length < size;
    return set_length(job->dst_fd, length, error);
}

/* The hot path of a tree of small files: one read, one write. */
static gboolean copy_small(Job *job, gsize size, gboolean sparse, GError **error)
{
    guint8 *buffer = copy_buffer();
    if (!may_write(job, size, error))
        return FALSE;
    gssize got = io_read_at(job->src_fd, buffer, size, 0);
    if (got < 0)
        return fail_read(job, errno, error);
    job->result->shrunk = (gsize)got < size;
    if (sparse && is_zero(buffer, (gsize)got))
        return set_length(job->dst_fd, (guint64)got, error);
    if (!write_at(job->dst_fd, buffer, (gsize)got, 0, error))
        return FALSE;
    wrote(job, (guint64)got);
    return TRUE;
}

static const CopyOptions no_options;

gboolean copy_data(int src_fd, int dst_fd, guint64 size, guint64 blocks, const CopyOptions *options, CopyResult *result,
                   GError **error)
{
    *result = (CopyResult){0};
    Job job = {.src_fd = src_fd, .dst_fd = dst_fd, .options = options ? options : &no_options, .result = result};
    if (size == 0)
        return TRUE;
    gboolean sparse = blocks < size / 512 + (size % 512 != 0);
    gboolean done = FALSE;
    if (!try_clone(&job, size, blocks, &done, error))
        return FALSE;
    if (done)
        return TRUE;
    if (sparse && size > HOLE_BYTES)
        return copy_sparse(&job, size, error);
    if (size <= SMALL_BYTES)
        return copy_small(&job, (gsize)size, sparse, error);
    guint64 copied = 0;
    if (!copy_range(&job, 0, size, &copied, error))
        return FALSE;
    result->shrunk = copied < size;
    return TRUE;
}

/* TRUE if nothing but a hole is in the range. */
static gboolean is_hole(int fd, guint64 offset, guint64 length)
{
    off_t data = lseek(fd, (off_t)offset, SEEK_DATA);
    return data < 0 ? errno == ENXIO : (guint64)data >= offset + length;
}

/* Gives a block of the destination the source's content, or its hole. */
static gboolean rewrite_block(Job *job, const guint8 *data, gsize length, guint64 offset, gboolean beyond,
                              GError **error)
{
    if (is_zero(data, length) && is_hole(job->src_fd, offset, length)) {
        if (beyond ||
            fallocate(job->dst_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length) == 0)
            return TRUE;
    }
    if (!may_write(job, length, error) || !write_at(job->dst_fd, data, length, offset, error))
        return FALSE;
    wrote(job, length);
    return TRUE;
}

/* Where the next piece begins: behind what is a hole in both files. */
static guint64 skip_holes(const Job *job, guint64 at, guint64 size)
{
    off_t src = lseek(job->src_fd, (off_t)at, SEEK_DATA);
    if (src < 0 && errno != ENXIO)
        return at;
    off_t dst = lseek(job->dst_fd, (off_t)at, SEEK_DATA);
    if (dst < 0 && errno != ENXIO)
        return at;
    guint64 next = MIN(src < 0 ? size : (guint64)src, dst < 0 ? size : (guint64)dst);
    next -= next % CHANGED_BLOCK;
    return CLAMP(next, at, size);
}

/* Compares and rewrites one piece that starts at `at`; *got is how much of the source there was. */
static gboolean rewrite_piece(Job *job, guint64 at, gsize piece, gsize *got, GError **error)
{
    guint8 *src = copy_buffer(), *dst = src + BUFFER_BYTES / 2;
    gssize there = io_read_at(job->src_fd, src, piece, at);
    if (there < 0)
        return fail_read(job, errno, error);
    *got = (gsize)there;
    gssize old = io_read_at(job->dst_fd, dst, *got, at);
    if (old < 0)
        return fail(errno, "cannot read the old copy", error);
    for (gsize block = 0; block < *got; block += CHANGED_BLOCK) {
        gsize n = MIN(CHANGED_BLOCK, *got - block);
        gboolean beyond = block >= (gsize)old;
        if (block + n <= (gsize)old && memcmp(src + block, dst + block, n) == 0)
            continue;
        if (!rewrite_block(job, src + block, n, at + block, beyond, error))
            return FALSE;
    }
    return TRUE;
}

gboolean copy_changed_blocks(int src_fd, int dst_fd, guint64 size, const CopyOptions *options, CopyResult *result,
                             GError **error)
{
    *result = (CopyResult){0};
    Job job = {.src_fd = src_fd, .dst_fd = dst_fd, .options = options ? options : &no_options, .result = result};
    struct stat st;
    if (fstat(src_fd, &st) != 0)
        return fail_read(&job, errno, error);
    result->shrunk = (guint64)st.st_size < size;
    guint64 end = MIN((guint64)st.st_size, size);
    gboolean sparse = (guint64)st.st_blocks < size / 512;
    guint64 at = 0;
    while (at < end) {
        if (!cancel_check(job.options->cancel, error))
            return FALSE;
        if (sparse)
            at = skip_holes(&job, at, end);
        gsize piece = (gsize)MIN(end - at, BUFFER_BYTES / 2), got = 0;
        if (!rewrite_piece(&job, at, piece, &got, error))
            return FALSE;
        at += got;
        if (got < piece) {
            result->shrunk = TRUE;
            break;
        }
    }
    return set_length(dst_fd, at, error);
}

gboolean copy_same_content(int a_fd, int b_fd, guint64 size, const CancelFlag *cancel, gboolean *same, GError **error)
{
    guint8 *a = copy_buffer(), *b = a + BUFFER_BYTES / 2;
    *same = TRUE;
    for (guint64 at = 0; at < size && *same;) {
        if (!cancel_check(cancel, error))
            return FALSE;
        gsize piece = (gsize)MIN(size - at, BUFFER_BYTES / 2);
        gssize x = io_read_at(a_fd, a, piece, at);
        gssize y = x < 0 ? -1 : io_read_at(b_fd, b, piece, at);
        if (y < 0)
            return fail(errno, "cannot read to compare", error);
        *same = x == y && memcmp(a, b, (gsize)x) == 0;
        if ((gsize)x < piece)
            break;
        at += piece;
    }
    return TRUE;
}
