#include "engine/mirror/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/human.h"
#include "fs/dir.h"

#define RENEW_S       30
#define FOREIGN_OLD_S 600
#define CONTENT_MAX   4096
#define READ_TRIES    20
#define READ_PAUSE_US 10000

struct Lock {
    int fd;
    gboolean shared; /* other hosts may use this file system */
    gint64 started;  /* seconds since 1970 */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    gboolean stop;
};

/* Who holds or held it. */
typedef struct {
    char host[256];
    gint64 pid, started, renewed;
} Owner;

/* Unknown types are thought to be shared: the worst that comes of it is a wait of 10 minutes. */
static gboolean is_shared(const char *type)
{
    static const char *const types[] = {"nfs", "cifs", "smb", "fuse", "9p", "ceph"};
    for (guint i = 0; i < G_N_ELEMENTS(types); i++) {
        if (g_str_equal(type, types[i]))
            return TRUE;
    }
    return g_str_has_prefix(type, "0x");
}

static gboolean read_owner(int fd, Owner *owner)
{
    char content[CONTENT_MAX];
    gssize length = pread(fd, content, sizeof content, 0);
    json_t *json = length > 0 ? json_loadb(content, (gsize)length, JSON_REJECT_DUPLICATES, NULL) : NULL;
    const char *host = json_string_value(json_object_get(json, "host"));
    *owner = (Owner){0};
    g_strlcpy(owner->host, host != NULL ? host : "", sizeof owner->host);
    owner->pid = json_integer_value(json_object_get(json, "pid"));
    owner->started = json_integer_value(json_object_get(json, "started"));
    owner->renewed = json_integer_value(json_object_get(json, "renewed"));
    gboolean good = host != NULL;
    json_decref(json);
    return good;
}

static gboolean write_owner(const Lock *lock, GError **error)
{
    json_t *json =
        json_pack("{s:i, s:s, s:I, s:I, s:I}", "version", 1, "host", g_get_host_name(), "pid", (json_int_t)getpid(),
                  "started", (json_int_t)lock->started, "renewed", (json_int_t)(g_get_real_time() / G_USEC_PER_SEC));
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (text == NULL)
        return error_set(error, BACKAPP_ERROR_INTERNAL, "cannot describe the lock's owner");
    gsize length = strlen(text);
    gssize wrote = pwrite(lock->fd, text, length, 0);
    /* A short write is that of a full disk. */
    int errnum = wrote < 0 ? errno : wrote < (gssize)length ? ENOSPC : 0;
    free(text);
    if (errnum == 0 && ftruncate(lock->fd, (off_t)length) != 0)
        errnum = errno;
    /* Other hosts see only what the server has. */
    if (errnum == 0 && lock->shared && fdatasync(lock->fd) != 0)
        errnum = errno;
    return errnum == 0 || error_set_errno(error, errnum, "cannot write the lock");
}

static char *owner_text(const Owner *owner)
{
    g_autoptr(GDateTime) time = g_date_time_new_from_unix_utc(owner->started);
    g_autofree char *started = time != NULL ? g_date_time_format(time, "%Y-%m-%d %H:%M:%SZ") : g_strdup("?");
    g_autofree char *host = human_name(owner->host, -1);
    return g_strdup_printf("host %s, pid %" G_GINT64_FORMAT ", since %s", host, owner->pid, started);
}

static gpointer renew(Lock *lock)
{
    pthread_mutex_lock(&lock->mutex);
    while (!lock->stop) {
        /* Monotonic: a clock that is set back must not delay the sign of life. */
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += RENEW_S;
        int result = 0;
        while (!lock->stop && result == 0)
            result = pthread_cond_timedwait(&lock->wake, &lock->mutex, &until);
        if (!lock->stop)
            (void)write_owner(lock, NULL); /* a full disk: the kernel's lock still holds */
    }
    pthread_mutex_unlock(&lock->mutex);
    return NULL;
}

static void *renew_thread(void *data)
{
    return renew(data);
}

static gboolean start_thread(Lock *lock, GError **error)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int result = pthread_create(&lock->thread, NULL, renew_thread, lock);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return result == 0 || error_set_errno(error, result, "cannot start the lock's thread");
}

/* The file system's idea of now: what it gives a file that is written now. Clocks of other hosts do not matter then. */
static gboolean file_system_time(int state_fd, gint64 *now)
{
    char name[32];
    struct stat st;
    g_snprintf(name, sizeof name, "lock.clock.%d", (int)getpid());
    if (unlinkat(state_fd, name, 0) != 0 && errno != ENOENT)
        return FALSE;
    g_auto(AutoFd) fd = openat(state_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    gboolean good = fd >= 0 && write(fd, "x", 1) == 1 && fsync(fd) == 0 && fstat(fd, &st) == 0;
    if (good)
        *now = st.st_mtim.tv_sec;
    return fd >= 0 && unlinkat(state_fd, name, 0) == 0 && good;
}

/* TRUE if the owner gave a sign of life in the last minutes. Times in the future count as long as those in the past. */
static gboolean is_recent(int state_fd, int fd, const Owner *owner)
{
    struct stat st;
    gint64 now = g_get_real_time() / G_USEC_PER_SEC;
    gint64 seen = owner->renewed;
    gint64 file_system_now = 0;
    if (file_system_time(state_fd, &file_system_now) && fstat(fd, &st) == 0) {
        now = file_system_now;
        seen = st.st_mtim.tv_sec;
    }
    return seen > now - FOREIGN_OLD_S && seen < now + FOREIGN_OLD_S;
}

/* The file is ours by the kernel; is what an earlier owner wrote in it in our way? */
static gboolean check_earlier_owner(int state_fd, int fd, gboolean shared, const char *what, RunSink *sink,
                                    GError **error)
{
    Owner owner;
    if (!read_owner(fd, &owner))
        return TRUE;
    g_autofree char *text = owner_text(&owner);
    if (shared && !g_str_equal(owner.host, g_get_host_name()) && is_recent(state_fd, fd, &owner))
        return error_set(error, BACKAPP_ERROR_LOCKED,
                         "%s is being written by another host (%s); if that host is gone, its lock is taken over 10 "
                         "minutes after its last sign of life",
                         what, text);
    g_autofree char *message = g_strdup_printf("the last run (%s) did not end properly; its lock is taken over", text);
    sink->warning(sink, "note", NULL, message);
    return TRUE;
}

/* Opens the file; what a stranger may have put in its place is not touched. */
static int open_lock(int state_fd, const char *what, GError **error)
{
    g_auto(AutoFd) fd = openat(state_fd, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    int errnum = fd < 0 ? errno : 0;
    struct stat st = {0};
    if (fd >= 0 && fstat(fd, &st) != 0)
        errnum = errno;
    gboolean strange =
        errnum == 0 ? !S_ISREG(st.st_mode) || st.st_nlink > 1 : errnum == ELOOP || errnum == EISDIR || errnum == ENXIO;
    if (!strange && errnum == 0)
        return fd_steal(&fd);
    if (strange)
        error_set(error, BACKAPP_ERROR_INVALID, "%s/.backapp/lock is not a plain file of its own: remove it", what);
    else
        error_set_errno(error, errnum, "cannot open the lock of %s", what);
    return -1;
}

/* Sets the error for a lock that somebody else holds, or that the file system does not give. */
static void set_not_taken(int fd, int errnum, const char *what, GError **error)
{
    if (errnum != EWOULDBLOCK) {
        error_set_errno(error, errnum,
                        "cannot lock %s: its file system has no working locks (on NFS: start the lock service, or "
                        "mount it with local_lock=flock if no other host writes there)",
                        what);
        return;
    }
    /* The owner may have had no time yet to write who it is. */
    Owner owner;
    gboolean known = read_owner(fd, &owner);
    for (guint i = 0; !known && i < READ_TRIES; i++) {
        g_usleep(READ_PAUSE_US);
        known = read_owner(fd, &owner);
    }
    g_autofree char *text = known ? owner_text(&owner) : g_strdup("unknown owner");
    error_set(error, BACKAPP_ERROR_LOCKED, "another run is at work in %s (%s): wait for it, or cancel it", what, text);
}

static void init_wake(Lock *lock)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&lock->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&lock->mutex, NULL);
}

/* On a full disk of this host alone the kernel's lock is enough: what makes space there needs it. */
static gboolean write_first(const Lock *lock, GError **error)
{
    g_autoptr(GError) local = NULL;
    if (write_owner(lock, &local) || (!lock->shared && error_is(local, BACKAPP_ERROR_NO_SPACE)))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

Lock *lock_take(int state_fd, const char *type, const char *what, RunSink *sink, GError **error)
{
    gboolean shared = is_shared(type);
    g_auto(AutoFd) fd = open_lock(state_fd, what, error);
    if (fd < 0)
        return NULL;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        set_not_taken(fd, errno, what, error);
        return NULL;
    }
    if (!check_earlier_owner(state_fd, fd, shared, what, sink, error))
        return NULL;
    g_autofree Lock *lock = g_new0(Lock, 1);
    lock->fd = fd;
    lock->shared = shared;
    lock->started = g_get_real_time() / G_USEC_PER_SEC;
    init_wake(lock);
    if (!write_first(lock, error) || !start_thread(lock, error)) {
        pthread_cond_destroy(&lock->wake);
        pthread_mutex_destroy(&lock->mutex);
        return NULL;
    }
    lock->fd = fd_steal(&fd);
    return g_steal_pointer(&lock);
}

/* Whether the content is still what this lock wrote: another host may have taken over a process that was stopped. */
static gboolean is_ours(const Lock *lock)
{
    Owner owner;
    return !read_owner(lock->fd, &owner) || (g_str_equal(owner.host, g_get_host_name()) && owner.pid == getpid());
}

void lock_release(Lock *lock)
{
    if (lock == NULL)
        return;
    pthread_mutex_lock(&lock->mutex);
    lock->stop = TRUE;
    pthread_cond_signal(&lock->wake);
    pthread_mutex_unlock(&lock->mutex);
    pthread_join(lock->thread, NULL);
    /* The file stays: removing it could take it from under somebody who has just opened it. Empty means released. */
    if (is_ours(lock) && ftruncate(lock->fd, 0) != 0)
        g_warning("cannot empty the lock: %s", g_strerror(errno));
    fd_clear(&lock->fd);
    pthread_cond_destroy(&lock->wake);
    pthread_mutex_destroy(&lock->mutex);
    g_free(lock);
}
