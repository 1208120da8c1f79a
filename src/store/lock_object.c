#include "store/lock_object.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"
#include "base/human.h"
#include "fs/dir.h"
#include "fs/facts.h"

#define KEY         ".backapp/lock"
#define RENEW_S     60
#define OLD_S       600
#define CONTENT_MAX 4096
#define TRIES       3

struct LockObject {
    Store *store;
    char *id;
    gint64 started;
    pthread_t thread;
    pthread_mutex_t mutex; /* for what follows */
    pthread_cond_t wake;
    gboolean stop, lost;
    gint64 renewed; /* when the store last took our sign of life; seconds since the machine began, asleep or not */
};

/* The ids of this process's locks: one with its pid that is not among them was left by a run that has ended. */
static GMutex held_lock;
static GHashTable *held;

static void hold(const char *id, gboolean on)
{
    g_mutex_lock(&held_lock);
    if (held == NULL)
        held = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    if (on)
        g_hash_table_add(held, g_strdup(id));
    else
        g_hash_table_remove(held, id);
    /* Nothing is left behind by the last one. */
    if (g_hash_table_size(held) == 0)
        g_clear_pointer(&held, g_hash_table_unref);
    g_mutex_unlock(&held_lock);
}

static gboolean is_held(const char *id)
{
    g_mutex_lock(&held_lock);
    gboolean found = held != NULL && g_hash_table_contains(held, id);
    g_mutex_unlock(&held_lock);
    return found;
}

/* Who holds or held it. */
typedef struct {
    char *id, *host, *boot;
    gint64 pid, process_start, started, renewed;
} Owner;

static void owner_clear(Owner *owner)
{
    g_free(owner->id);
    g_free(owner->host);
    g_free(owner->boot);
    *owner = (Owner){0};
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Owner, owner_clear)

/* Whether there is no such process, or it has ended and was only not yet asked for by its parent. Where a worker is
 * confined it cannot read /proc of others. */
static gboolean has_ended(gint64 pid)
{
    g_auto(AutoFd) fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    if (fd < 0)
        return kill((pid_t)pid, 0) != 0 && errno == ESRCH;
    return poll(&poll_fd, 1, 0) > 0;
}

/* When a process began, in ticks since the machine did: with its pid it is never another's. 0: there is no such
 * process, -1: not known. */
static gint64 process_start(gint64 pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/stat", pid);
    g_autofree char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return pid > 0 && pid <= G_MAXINT32 && has_ended(pid) ? 0 : -1;
    /* The name in parentheses may hold anything. */
    const char *after = strrchr(text, ')');
    g_auto(GStrv) fields = g_strsplit(after != NULL ? after + 1 : "", " ", -1);
    gint64 start = 0;
    /* Ended, and only not yet asked for by its parent. */
    if (g_strv_length(fields) > 1 && (g_str_equal(fields[1], "Z") || g_str_equal(fields[1], "X")))
        return 0;
    /* Field 22; the first one after the name is the third, behind a space. */
    if (g_strv_length(fields) <= 20 || !g_ascii_string_to_signed(fields[20], 10, 1, G_MAXINT64, &start, NULL))
        return -1;
    return start;
}

/* Reads the lock: 1, 0 if there is none, 2 if nobody can be made of it, -1. */
static int read_owner(Store *store, Owner *owner, GError **error)
{
    g_autoptr(GError) local = NULL;
    *owner = (Owner){0};
    g_autoptr(GBytes) bytes = store_get_bytes(store, KEY, NULL, CONTENT_MAX, NULL, &local);
    if (bytes == NULL && error_is(local, BACKAPP_ERROR_NOT_FOUND))
        return 0;
    if (bytes == NULL && error_is(local, BACKAPP_ERROR_CORRUPT))
        return 2;
    if (bytes == NULL) {
        g_propagate_prefixed_error(error, g_steal_pointer(&local), "cannot read the lock of %s: ", store->url);
        return -1;
    }
    gsize length = 0;
    const char *text = g_bytes_get_data(bytes, &length);
    json_t *json = json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL);
    const char *id = json_string_value(json_object_get(json, "id"));
    const char *host = json_string_value(json_object_get(json, "host"));
    const char *boot = json_string_value(json_object_get(json, "boot"));
    gboolean good = id != NULL && host != NULL;
    owner->id = g_strdup(id);
    owner->host = g_strdup(host);
    owner->boot = g_strdup(boot);
    owner->pid = json_integer_value(json_object_get(json, "pid"));
    owner->process_start = json_integer_value(json_object_get(json, "processStart"));
    owner->started = json_integer_value(json_object_get(json, "started"));
    owner->renewed = json_integer_value(json_object_get(json, "renewed"));
    json_decref(json);
    return good ? 1 : 2;
}

static char *owner_text(const Owner *owner)
{
    g_autoptr(GDateTime) time = g_date_time_new_from_unix_utc(owner->started);
    g_autofree char *started = time != NULL ? g_date_time_format(time, "%Y-%m-%d %H:%M:%SZ") : g_strdup("?");
    g_autofree char *host = human_name(owner->host, -1);
    return g_strdup_printf("host %s, pid %" G_GINT64_FORMAT ", since %s", host, owner->pid, started);
}

/* TRUE if whoever it is may still be at work. */
static gboolean is_alive(const Owner *owner)
{
    gint64 now = g_get_real_time() / G_USEC_PER_SEC;
    if (g_str_equal(owner->host, g_get_host_name()) && owner->boot != NULL) {
        g_autofree char *boot = facts_boot_id();
        /* Another boot id under the same name may be a container or another machine: then only time tells. */
        gboolean same = g_str_equal(boot, owner->boot) && !g_str_equal(boot, "unknown");
        gint64 start = same ? process_start(owner->pid) : -1;
        if (start == 0 || (start > 0 && owner->process_start > 0 && start != owner->process_start))
            return FALSE;
        if (start > 0 && owner->pid == getpid() && owner->process_start == start)
            return is_held(owner->id);
    }
    return owner->renewed > now - OLD_S && owner->renewed < now + OLD_S;
}

static gboolean refuse(const Store *store, const Owner *owner, GError **error)
{
    g_autofree char *text = owner_text(owner);
    return error_set(
        error, BACKAPP_ERROR_LOCKED,
        "another run is at work in %s (%s): wait for it, or cancel it; if it is gone, its lock is taken over "
        "10 minutes after its last sign of life",
        store->url, text);
}

gboolean lock_object_look(Store *store, GError **error)
{
    g_auto(Owner) owner = {0};
    int got = read_owner(store, &owner, error);
    if (got != 1)
        return got >= 0;
    return !is_alive(&owner) || refuse(store, &owner, error);
}

static gboolean write_owner(const LockObject *lock, gboolean if_absent, GError **error)
{
    g_autofree char *boot = facts_boot_id();
    json_t *json =
        json_pack("{s:i, s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "version", 1, "id", lock->id, "host", g_get_host_name(),
                  "boot", boot, "pid", (json_int_t)getpid(), "processStart", (json_int_t)process_start(getpid()),
                  "started", (json_int_t)lock->started, "renewed", (json_int_t)(g_get_real_time() / G_USEC_PER_SEC));
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (text == NULL)
        return error_set(error, BACKAPP_ERROR_INTERNAL, "cannot describe the lock's owner");
    StoreBody body = {.data = text, .length = strlen(text)};
    StorePut how = {.content_type = "application/json", .if_absent = if_absent};
    g_auto(StoreResult) result = {0};
    gboolean good = store_put(lock->store, KEY, &body, &how, &result, error);
    free(text);
    return good;
}

/* A machine that slept has to notice it. */
static gint64 seconds_running(void)
{
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_BOOTTIME, &now);
    return now.tv_sec;
}

/* Looks whether the lock is still ours, and renews it. What cannot be asked now is asked again later. */
static void renew(LockObject *lock)
{
    g_auto(Owner) owner = {0};
    gint64 began = seconds_running();
    int got = read_owner(lock->store, &owner, NULL);
    gboolean lost = got == 1 && !g_str_equal(owner.id, lock->id);
    gboolean renewed = !lost && got >= 0 && write_owner(lock, FALSE, NULL);
    pthread_mutex_lock(&lock->mutex);
    lock->lost = lock->lost || lost;
    if (renewed)
        lock->renewed = began;
    pthread_mutex_unlock(&lock->mutex);
}

static void *renew_thread(void *data)
{
    LockObject *lock = data;
    pthread_mutex_lock(&lock->mutex);
    while (!lock->stop && !lock->lost) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += RENEW_S;
        int result = 0;
        while (!lock->stop && result == 0)
            result = pthread_cond_timedwait(&lock->wake, &lock->mutex, &until);
        if (lock->stop)
            break;
        pthread_mutex_unlock(&lock->mutex);
        renew(lock);
        pthread_mutex_lock(&lock->mutex);
    }
    pthread_mutex_unlock(&lock->mutex);
    return NULL;
}

static gboolean start_thread(LockObject *lock, GError **error)
{
    sigset_t all;
    sigset_t before;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&lock->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&lock->mutex, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int result = pthread_create(&lock->thread, NULL, renew_thread, lock);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (result == 0)
        return TRUE;
    pthread_cond_destroy(&lock->wake);
    pthread_mutex_destroy(&lock->mutex);
    return error_set_errno(error, result, "cannot start the lock's thread");
}

/* One try: 1 if it is ours, 0 if somebody was faster, -1. */
static int try_take(LockObject *lock, RunSink *sink, GError **error)
{
    g_auto(Owner) owner = {0};
    g_autoptr(GError) local = NULL;
    int got = read_owner(lock->store, &owner, error);
    /* Written by the try before, of which the answer was lost, and the repeated request refused. */
    if (got == 1 && g_str_equal(owner.id, lock->id))
        return 1;
    if (got < 0 || (got == 1 && is_alive(&owner) && !refuse(lock->store, &owner, error)))
        return -1;
    gboolean atomic = store_can(lock->store, STORE_IF_MATCH);
    if (got == 1) {
        g_autofree char *text = owner_text(&owner);
        g_autofree char *message =
            g_strdup_printf("the last run (%s) did not end properly; its lock is taken over", text);
        sink->warning(sink, "note", NULL, message);
    }
    /* Also one that says nothing: it is in the way of a put that wants none there. */
    if (atomic && got > 0 && !store_delete(lock->store, KEY, NULL, error))
        return -1;
    if (!write_owner(lock, atomic, &local)) {
        if (error_is(local, BACKAPP_ERROR_CONFLICT))
            return 0;
        g_propagate_prefixed_error(error, g_steal_pointer(&local), "cannot write the lock of %s: ", lock->store->url);
        return -1;
    }
    if (atomic && got == 0)
        return 1;
    /* Of two that found the same dead owner, the later one has deleted or replaced what the other wrote. */
    g_auto(Owner) now = {0};
    got = read_owner(lock->store, &now, error);
    if (got < 0)
        return -1;
    return got == 1 && g_str_equal(now.id, lock->id) ? 1 : 0;
}

LockObject *lock_object_take(Store *store, RunSink *sink, GError **error)
{
    g_autofree LockObject *lock = g_new0(LockObject, 1);
    g_autofree char *id = g_uuid_string_random();
    lock->store = store;
    lock->id = id;
    lock->started = g_get_real_time() / G_USEC_PER_SEC;
    lock->renewed = seconds_running();
    hold(id, TRUE);
    int got = 0;
    for (guint i = 0; i < TRIES && got == 0; i++)
        got = try_take(lock, sink, error);
    if (got == 0)
        error_set(error, BACKAPP_ERROR_LOCKED, "another run has just begun in %s: wait for it", store->url);
    if (got <= 0 || !start_thread(lock, error)) {
        hold(id, FALSE);
        return NULL;
    }
    (void)g_steal_pointer(&id);
    return g_steal_pointer(&lock);
}

gboolean lock_object_check(LockObject *lock, GError **error)
{
    if (lock == NULL)
        return TRUE;
    pthread_mutex_lock(&lock->mutex);
    gboolean lost = lock->lost;
    gboolean old = seconds_running() - lock->renewed >= OLD_S;
    pthread_mutex_unlock(&lock->mutex);
    if (lost)
        return error_set(error, BACKAPP_ERROR_LOCKED,
                         "another machine has taken over the lock of %s, so this run stops", lock->store->url);
    return !old || error_set(error, BACKAPP_ERROR_LOCKED,
                             "the lock of %s could not be renewed for 10 minutes (was this machine asleep, or the line "
                             "down?), so another machine may be at work there and this run stops: run it again",
                             lock->store->url);
}

void lock_object_release(LockObject *lock)
{
    if (lock == NULL)
        return;
    pthread_mutex_lock(&lock->mutex);
    lock->stop = TRUE;
    pthread_cond_signal(&lock->wake);
    pthread_mutex_unlock(&lock->mutex);
    pthread_join(lock->thread, NULL);
    /* Nobody took it over while it was fresh; else it may be another's, and is not ours to remove. */
    g_auto(Owner) owner = {0};
    gboolean ours = lock_object_check(lock, NULL);
    if (!ours && !lock->lost)
        ours = read_owner(lock->store, &owner, NULL) == 1 && g_str_equal(owner.id, lock->id);
    if (ours)
        (void)store_delete(lock->store, KEY, NULL, NULL);
    hold(lock->id, FALSE);
    pthread_cond_destroy(&lock->wake);
    pthread_mutex_destroy(&lock->mutex);
    g_free(lock->id);
    g_free(lock);
}
