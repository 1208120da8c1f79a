#include "engine/mirror/resume.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/error.h"
#include "fs/atomic.h"
#include "fs/dir.h"
#include "fs/remove.h"

#define OLD_STAGES    3
#define HEADER_LENGTH 96
#define FLUSH_BYTES   (64 * 1024)
#define LOG_MAX       (G_GUINT64_CONSTANT(16) * 100 * 1000 * 1000)

typedef struct {
    guint64 high, low;
} Digest;

struct Resume {
    Destination *dest;
    GMutex lock;
    GByteArray *buffer; /* digests not yet written */
    char *session;      /* facts_session of the destination */
    guint64 checkpoints;
    guint64 kept; /* what of a file is kept: part of its digest */
    /* For each stage of an earlier run: its tree, and the complete files there (of Digest, sorted). Only the log of a
     * stage speaks for its files, for another one may hold an unfinished file of the same name. */
    GArray *known[OLD_STAGES];
    int old_fds[OLD_STAGES];
    int log_fd, tree_fd;
};

static Digest file_digest(const Resume *resume, const char *path, const FileMeta *source)
{
    guint64 numbers[] = {source->dev,      source->ino,
                         source->size,     (guint64)source->mtime_s,
                         source->mtime_ns, (guint64)source->ctime_s,
                         source->ctime_ns, source->mode,
                         resume->kept};
    XXH3_state_t *state = XXH3_createState();
    XXH3_128bits_reset(state);
    XXH3_128bits_update(state, numbers, sizeof numbers);
    XXH3_128bits_update(state, path, strlen(path));
    XXH128_hash_t hash = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    return (Digest){hash.high64, hash.low64};
}

/* The mark of checkpoint number n. Zeroes that a power loss leaves in a file are none. */
static Digest checkpoint_digest(const char *session, guint64 n)
{
    g_autofree char *text = g_strdup_printf("checkpoint %s %" G_GUINT64_FORMAT, session, n);
    XXH128_hash_t hash = XXH3_128bits(text, strlen(text));
    return (Digest){hash.high64, hash.low64};
}

static int compare_digests(gconstpointer a, gconstpointer b)
{
    const Digest *x = a;
    const Digest *y = b;
    if (x->high != y->high)
        return x->high < y->high ? -1 : 1;
    return x->low == y->low ? 0 : x->low < y->low ? -1 : 1;
}

static void old_stage_name(char name[32], guint n)
{
    g_snprintf(name, 32, "stage.old.%u", n);
}

/* Reads the log of one old stage. What is not surely durable is left out. */
static void load_log(Resume *resume, int stage_fd, GArray *known)
{
    g_auto(AutoFd) fd = openat(stage_fd, "log", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    char header[HEADER_LENGTH + 1] = {0};
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || (guint64)st.st_size > LOG_MAX ||
        read(fd, header, HEADER_LENGTH) != HEADER_LENGTH || !g_str_has_prefix(header, "backapp-stage-2 "))
        return;
    g_autofree char *session = g_strstrip(g_strdup(header + strlen("backapp-stage-2 ")));
    gboolean same_session = g_str_equal(session, resume->session) && !g_str_equal(session, "unknown");
    guint durable = 0;
    guint64 checkpoints = 0;
    Digest mark = checkpoint_digest(session, 0);
    Digest digests[1024];
    gssize got;
    while ((got = read(fd, digests, sizeof digests)) >= (gssize)sizeof(Digest)) {
        for (gsize i = 0; i < (gsize)got / sizeof(Digest); i++) {
            if (compare_digests(&digests[i], &mark) == 0) {
                durable = known->len;
                mark = checkpoint_digest(session, ++checkpoints);
            } else {
                g_array_append_val(known, digests[i]);
            }
        }
    }
    if (!same_session)
        g_array_set_size(known, durable);
    g_array_sort(known, compare_digests);
}

/* Renames stage to a free stage.old.N; the oldest goes if there are too many. */
static gboolean set_aside(Resume *resume, const CancelFlag *cancel, GError **error)
{
    int state_fd = resume->dest->state_fd;
    char last[32];
    old_stage_name(last, OLD_STAGES - 1);
    if (!remove_tree(state_fd, last, FALSE, cancel, error))
        return FALSE;
    for (guint i = OLD_STAGES - 1; i > 0; i--) {
        char from[32];
        char to[32];
        old_stage_name(from, i - 1);
        old_stage_name(to, i);
        if (renameat(state_fd, from, state_fd, to) != 0 && errno != ENOENT)
            return error_set_errno(error, errno, "cannot rename %s/.backapp/%s", resume->dest->path, from);
    }
    char first[32];
    old_stage_name(first, 0);
    if (renameat(state_fd, "stage", state_fd, first) != 0 && errno != ENOENT)
        return error_set_errno(error, errno, "cannot rename %s/.backapp/stage", resume->dest->path);
    return TRUE;
}

/* Opens the old stages and learns which of their files are complete. */
static void load_old(Resume *resume)
{
    for (guint i = 0; i < OLD_STAGES; i++) {
        char name[32];
        old_stage_name(name, i);
        g_auto(AutoFd) stage_fd = openat(resume->dest->state_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (stage_fd < 0)
            continue;
        load_log(resume, stage_fd, resume->known[i]);
        resume->old_fds[i] = openat(stage_fd, "tree", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }
}

static gboolean start_new(Resume *resume, GError **error)
{
    const char *path = resume->dest->path;
    if (!dir_make_path(resume->dest->state_fd, "stage/tree", 0700, error))
        return FALSE;
    g_auto(AutoFd) stage_fd = dir_open(resume->dest->state_fd, "stage", error);
    if (stage_fd < 0)
        return FALSE;
    resume->tree_fd = dir_open(stage_fd, "tree", error);
    if (resume->tree_fd < 0)
        return FALSE;
    resume->log_fd = openat(stage_fd, "log", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (resume->log_fd < 0)
        return error_set_errno(error, errno, "cannot create %s/.backapp/stage/log", path);
    char header[HEADER_LENGTH + 1];
    g_snprintf(header, sizeof header, "%-*s", HEADER_LENGTH - 1, "");
    int length = g_snprintf(header, sizeof header, "backapp-stage-2 %s", resume->session);
    memset(header + length, ' ', (gsize)(HEADER_LENGTH - length));
    header[HEADER_LENGTH - 1] = '\n';
    if (write(resume->log_fd, header, HEADER_LENGTH) != HEADER_LENGTH)
        return error_set_errno(error, errno, "cannot write %s/.backapp/stage/log", path);
    return TRUE;
}

/* Another user gives files other owners, other filters leave out attributes. */
static guint64 kept_of_files(const AttrsFilter *filter)
{
    return (guint64)geteuid() << 2 | (filter->xattrs ? 2U : 0U) | (filter->acls ? 1U : 0U);
}

Resume *resume_open(Destination *dest, const AttrsFilter *filter, RunSink *sink, const CancelFlag *cancel,
                    GError **error)
{
    g_autoptr(Resume) resume = g_new0(Resume, 1);
    g_mutex_init(&resume->lock);
    resume->dest = dest;
    resume->buffer = g_byte_array_new();
    resume->session = facts_session(dest->root_fd);
    resume->kept = kept_of_files(filter);
    resume->log_fd = resume->tree_fd = -1;
    guint known = 0;
    for (guint i = 0; i < OLD_STAGES; i++) {
        resume->known[i] = g_array_new(FALSE, FALSE, sizeof(Digest));
        resume->old_fds[i] = -1;
    }
    if (!set_aside(resume, cancel, error))
        return NULL;
    load_old(resume);
    if (!start_new(resume, error))
        return NULL;
    for (guint i = 0; i < OLD_STAGES; i++)
        known += resume->known[i]->len;
    if (known > 0)
        sink->warning(sink, "note", NULL, "an earlier run was interrupted; what it had copied is used again");
    return g_steal_pointer(&resume);
}

int resume_tree_fd(const Resume *resume)
{
    return resume->tree_fd;
}

gboolean resume_take(Resume *resume, const char *path, const FileMeta *source, int dir_fd, const char *name)
{
    Digest digest = file_digest(resume, path, source);
    for (guint i = 0; i < OLD_STAGES; i++) {
        const GArray *known = resume->known[i];
        if (resume->old_fds[i] < 0 || known->len == 0 ||
            bsearch(&digest, known->data, known->len, sizeof digest, compare_digests) == NULL)
            continue;
        const char *base = NULL;
        g_auto(AutoFd) parent = dir_open_parent(resume->old_fds[i], path, &base, NULL);
        FileMeta staged;
        if (parent >= 0 && meta_read(parent, base, &staged, NULL) && S_ISREG(staged.mode) &&
            staged.size == source->size && renameat(parent, base, dir_fd, name) == 0)
            return TRUE;
    }
    return FALSE;
}

/* Writes the digests that wait. The lock is held. */
static gboolean flush_log(Resume *resume, GError **error)
{
    gsize done = 0;
    while (done < resume->buffer->len) {
        gssize wrote = write(resume->log_fd, resume->buffer->data + done, resume->buffer->len - done);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return error_set_errno(error, errno, "cannot write %s/.backapp/stage/log", resume->dest->path);
        done += (gsize)wrote;
    }
    g_byte_array_set_size(resume->buffer, 0);
    return TRUE;
}

gboolean resume_done(Resume *resume, const char *path, const FileMeta *source, GError **error)
{
    Digest digest = file_digest(resume, path, source);
    g_mutex_lock(&resume->lock);
    g_byte_array_append(resume->buffer, (const guint8 *)&digest, sizeof digest);
    gboolean good = resume->buffer->len < FLUSH_BYTES || flush_log(resume, error);
    g_mutex_unlock(&resume->lock);
    return good;
}

gboolean resume_checkpoint(Resume *resume, GError **error)
{
    g_mutex_lock(&resume->lock);
    gboolean good = flush_log(resume, error) && facts_sync(resume->log_fd, resume->dest->path, error);
    if (good) {
        Digest mark = checkpoint_digest(resume->session, resume->checkpoints++);
        g_byte_array_append(resume->buffer, (const guint8 *)&mark, sizeof mark);
        good = flush_log(resume, error);
    }
    if (good && fdatasync(resume->log_fd) != 0)
        good = error_set_errno(error, errno, "cannot sync %s/.backapp/stage/log", resume->dest->path);
    g_mutex_unlock(&resume->lock);
    return good;
}

gboolean resume_close_log(Resume *resume, GError **error)
{
    return resume->log_fd < 0 || fd_close(&resume->log_fd, "the stage's log", error);
}

gboolean resume_drop_old(Destination *dest, const CancelFlag *cancel, GError **error)
{
    for (guint i = 0; i < OLD_STAGES; i++) {
        char name[32];
        old_stage_name(name, i);
        if (!remove_tree(dest->state_fd, name, FALSE, cancel, error))
            return FALSE;
    }
    return TRUE;
}

void resume_free(Resume *resume)
{
    if (resume == NULL)
        return;
    /* What waits in the buffer is only a help for the next run: losing it costs a second copy, nothing else. */
    if (resume->log_fd >= 0)
        flush_log(resume, NULL);
    for (guint i = 0; i < OLD_STAGES; i++) {
        fd_clear(&resume->old_fds[i]);
        g_array_unref(resume->known[i]);
    }
    fd_clear(&resume->log_fd);
    fd_clear(&resume->tree_fd);
    g_byte_array_unref(resume->buffer);
    g_free(resume->session);
    g_mutex_clear(&resume->lock);
    g_free(resume);
}
