#include "engine/mirror/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/error.h"
#include "base/human.h"
#include "fs/dir.h"

#define RENEW_S       30
#define FOREIGN_OLD_S 600
#define CONTENT_MAX   4096

struct Lock {
    int fd;
    gint64 started; /* seconds since 1970 */
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
    gboolean good = pwrite(lock->fd, text, length, 0) == (gssize)length && ftruncate(lock->fd, (off_t)length) == 0;
    free(text);
    return good || error_set_errno(error, errno, "cannot write the lock");
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
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += RENEW_S;
        pthread_cond_timedwait(&lock->wake, &lock->mutex, &until);
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

/* The file is ours by the kernel; is what an earlier owner wrote in it in our way? */
static gboolean check_earlier_owner(int fd, const char *what, RunSink *sink, GError **error)
{
    Owner owner;
    if (!read_owner(fd, &owner))
        return TRUE;
    g_autofree char *text = owner_text(&owner);
    gint64 age = g_get_real_time() / G_USEC_PER_SEC - owner.renewed;
    if (!g_str_equal(owner.host, g_get_host_name()) && age >= 0 && age < FOREIGN_OLD_S)
        return error_set(error, BACKAPP_ERROR_LOCKED,
                         "%s is being written by another host (%s); if that host is gone, its lock is taken over 10 "
                         "minutes after its last sign of life",
                         what, text);
    g_autofree char *message = g_strdup_printf("the last run (%s) did not end properly; its lock is taken over", text);
    sink->warning(sink, "note", NULL, message);
    return TRUE;
}

Lock *lock_take(int state_fd, const char *what, RunSink *sink, GError **error)
{
    g_auto(AutoFd) fd = openat(state_fd, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        error_set_errno(error, errno, "cannot open the lock of %s", what);
        return NULL;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int errnum = errno;
        Owner owner;
        g_autofree char *text = read_owner(fd, &owner) ? owner_text(&owner) : g_strdup("unknown owner");
        if (errnum == EWOULDBLOCK)
            error_set(error, BACKAPP_ERROR_LOCKED, "another run is at work in %s (%s): wait for it, or cancel it", what,
                      text);
        else if (errnum != EOPNOTSUPP && errnum != ENOLCK)
            error_set_errno(error, errnum, "cannot lock %s", what);
        if (errnum != EOPNOTSUPP && errnum != ENOLCK)
            return NULL;
    }
    if (!check_earlier_owner(fd, what, sink, error))
        return NULL;
    g_autofree Lock *lock = g_new0(Lock, 1);
    lock->fd = fd;
    lock->started = g_get_real_time() / G_USEC_PER_SEC;
    pthread_mutex_init(&lock->mutex, NULL);
    pthread_cond_init(&lock->wake, NULL);
    if (!write_owner(lock, error) || !start_thread(lock, error))
        return NULL;
    lock->fd = fd_steal(&fd);
    return g_steal_pointer(&lock);
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
    if (ftruncate(lock->fd, 0) != 0)
        g_warning("cannot empty the lock: %s", g_strerror(errno));
    fd_clear(&lock->fd);
    pthread_cond_destroy(&lock->wake);
    pthread_mutex_destroy(&lock->mutex);
    g_free(lock);
}
