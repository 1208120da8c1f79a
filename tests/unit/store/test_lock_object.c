/*
 * The lock of a place in a store, by a clock that the tests set: clock_gettime here is the function below, also for the
 * lock's own code (-Dclock_gettime). The thread that renews finds that a minute has gone by each time it looks.
 */
#include "../base/cmocka_all.h"
#include "../mirror/collector.h"
#include "base/error.h"
#include "fs/facts.h"
#include "store/drivers.h"
#include "store/lock_object.h"
#include "store/memory.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KEY      ".backapp/lock"
#define MINUTE   (60 * G_USEC_PER_SEC)
#define PAUSE_US 5000
#define TRIES    4000

static atomic_int boot_seconds;

int clock_gettime(clockid_t id, struct timespec *time) /* NOLINT: glibc's names are reserved */
{
    gint64 now = g_get_monotonic_time() - MINUTE + PAUSE_US;
    *time = id == CLOCK_BOOTTIME
                ? (struct timespec){.tv_sec = atomic_load(&boot_seconds)}
                : (struct timespec){.tv_sec = now / G_USEC_PER_SEC, .tv_nsec = now % G_USEC_PER_SEC * 1000};
    return 0;
}

typedef struct {
    Store *store;
    Collector *collector;
    LockObject *lock;
} Locked;

static int setup(void **state)
{
    Locked *locked = g_new0(Locked, 1);
    atomic_store(&boot_seconds, 1000);
    locked->store = store_memory_new();
    locked->collector = collector_new();
    locked->lock = lock_object_take(locked->store, &locked->collector->sink, NULL);
    *state = locked;
    return locked->lock == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    Locked *locked = *state;
    lock_object_release(locked->lock);
    collector_free(locked->collector);
    store_free(locked->store);
    g_free(locked);
    return 0;
}

static guint64 count_puts(const Locked *locked)
{
    StoreCounts counts = {0};
    store_counts(locked->store, &counts);
    return counts.requests[STORE_REQUEST_PUT];
}

/* Waits for renewals: of three the second began after this was called, and has ended. */
static void wait_for_renewals(const Locked *locked)
{
    guint64 before = count_puts(locked);
    for (guint i = 0; i < TRIES && count_puts(locked) < before + 3; i++)
        g_usleep(PAUSE_US);
    assert_true(count_puts(locked) >= before + 3);
}

static gboolean is_there(const Locked *locked)
{
    g_autoptr(StoreObject) object = store_head(locked->store, KEY, NULL, NULL);
    return object != NULL;
}

static void test_a_renewed_lock_holds(void **state)
{
    Locked *locked = *state;
    for (guint i = 0; i < 3; i++) {
        atomic_fetch_add(&boot_seconds, 599);
        assert_true(lock_object_check(locked->lock, NULL));
        wait_for_renewals(locked);
    }
    lock_object_release(g_steal_pointer(&locked->lock));
    assert_false(is_there(locked));
}

static void test_a_lock_that_is_not_renewed_ends_the_run(void **state)
{
    Locked *locked = *state;
    g_autoptr(GError) error = NULL;
    store_memory_fail_next(locked->store, STORE_REQUEST_PUT, BACKAPP_ERROR_TRANSIENT, G_MAXUINT, FALSE);
    wait_for_renewals(locked);
    atomic_fetch_add(&boot_seconds, 599);
    wait_for_renewals(locked);
    assert_true(lock_object_check(locked->lock, &error));
    atomic_fetch_add(&boot_seconds, 1);
    assert_false(lock_object_check(locked->lock, &error));
    assert_true(error_is(error, BACKAPP_ERROR_LOCKED));
    assert_non_null(strstr(error->message, "could not be renewed"));
    /* Nobody else has it: it does not stay behind. */
    lock_object_release(g_steal_pointer(&locked->lock));
    assert_false(is_there(locked));
}

static void test_a_lock_that_was_taken_over_is_left_alone(void **state)
{
    static const char other[] =
        "{\"version\":1,\"id\":\"x\",\"host\":\"elsewhere\",\"pid\":1,\"started\":1,\"renewed\":1}";
    for (guint old = 0; old < 2; old++) {
        Locked *locked = *state;
        g_autoptr(GError) error = NULL;
        StoreBody body = {.data = other, .length = strlen(other)};
        /* With every second renewal in between it may be put over: until it is seen. */
        for (guint i = 0; i < TRIES && lock_object_check(locked->lock, NULL); i++) {
            assert_true(store_put(locked->store, KEY, &body, NULL, NULL, NULL));
            g_usleep(PAUSE_US);
        }
        assert_false(lock_object_check(locked->lock, &error));
        assert_true(error_is(error, BACKAPP_ERROR_LOCKED));
        assert_non_null(strstr(error->message, "taken over"));
        lock_object_release(g_steal_pointer(&locked->lock));
        assert_true(is_there(locked));
        locked->lock = lock_object_take(locked->store, &locked->collector->sink, NULL);
        assert_non_null(locked->lock);
    }
}

/* A process that has ended may long have no one who asks for it. */
static void test_a_lock_of_a_process_that_ended_is_free(void **state)
{
    Locked *locked = *state;
    lock_object_release(g_steal_pointer(&locked->lock));
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        char byte = 0;
        (void)close(ends[1]);
        _exit(read(ends[0], &byte, 1) == 0 ? 0 : 1);
    }
    assert_true(child > 0);
    (void)close(ends[0]);
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)child);
    g_autofree char *stat = NULL;
    assert_true(g_file_get_contents(path, &stat, NULL, NULL));
    g_auto(GStrv) fields = g_strsplit(strrchr(stat, ')') + 1, " ", -1);
    g_autofree char *boot = facts_boot_id();
    gint64 now = g_get_real_time() / G_USEC_PER_SEC;
    g_autofree char *text =
        g_strdup_printf("{\"version\":1,\"id\":\"x\",\"host\":\"%s\",\"boot\":\"%s\",\"pid\":%d,"
                        "\"processStart\":%s,\"started\":%" G_GINT64_FORMAT ",\"renewed\":%" G_GINT64_FORMAT "}",
                        g_get_host_name(), boot, (int)child, fields[20], now, now);
    StoreBody body = {.data = text, .length = strlen(text)};
    assert_true(store_put(locked->store, KEY, &body, NULL, NULL, NULL));
    g_autoptr(GError) error = NULL;
    assert_false(lock_object_look(locked->store, &error));
    assert_true(error_is(error, BACKAPP_ERROR_LOCKED));
    (void)close(ends[1]);
    siginfo_t info = {0};
    assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    assert_true(lock_object_look(locked->store, NULL));
    assert_int_equal(waitpid(child, NULL, 0), child);
}

#define LOCK_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOCK_TEST(test_a_renewed_lock_holds),
        LOCK_TEST(test_a_lock_that_is_not_renewed_ends_the_run),
        LOCK_TEST(test_a_lock_that_was_taken_over_is_left_alone),
        LOCK_TEST(test_a_lock_of_a_process_that_ended_is_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
