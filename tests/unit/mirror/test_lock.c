#include "../fs/scratch.h"
#include "collector.h"

#include "engine/mirror/lock.h"

#include <sys/socket.h>
#include <sys/un.h>

#define TAKERS 8
#define MINUTE 60
#define WHAT   "/the/destination"
#define CONTENT                                                                                                        \
    "{\"version\":1,\"host\":\"%s\",\"pid\":%d,\"started\":%" G_GINT64_FORMAT ",\"renewed\":%" G_GINT64_FORMAT "}"

static gint64 now_s(void)
{
    return g_get_real_time() / G_USEC_PER_SEC;
}

/* What an owner that was killed leaves. `age` is how long ago it wrote, in seconds. */
static void leave_content(int fd, const char *host, gint64 age)
{
    g_autofree char *text = g_strdup_printf(CONTENT, host, 4711, now_s() - age, now_s() - age);
    struct timespec times[2] = {{.tv_sec = now_s() - age}, {.tv_sec = now_s() - age}};
    put_file(fd, "lock", text, strlen(text));
    assert_int_equal(utimensat(fd, "lock", times, 0), 0);
}

static char *read_content(const Scratch *scratch)
{
    g_autofree char *path = g_build_filename(scratch->path, "lock", NULL);
    char *text = NULL;
    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return text;
}

/* Takes and releases; returns the notes that came. */
static guint take_freely(int fd, const char *type)
{
    g_autoptr(Collector) collector = collector_new();
    g_autoptr(GError) error = NULL;
    Lock *lock = lock_take(fd, type, WHAT, &collector->sink, &error);
    if (lock == NULL)
        fail_msg("%s", error->message);
    lock_release(lock);
    assert_int_equal(count_names(fd), 1);
    return collector->warnings->len;
}

/* The message of the refusal. */
static char *take_in_vain(int fd, const char *type, BackappError code)
{
    g_autoptr(Collector) collector = collector_new();
    g_autoptr(GError) error = NULL;
    assert_null(lock_take(fd, type, WHAT, &collector->sink, &error));
    assert_non_null(error);
    if (!error_is(error, code))
        fail_msg("%s", error->message);
    assert_int_equal(collector->warnings->len, 0);
    return g_strdup(error->message);
}

static void test_content_names_the_owner_while_held(void **state)
{
    const Scratch *scratch = *state;
    g_autoptr(Collector) collector = collector_new();
    Lock *lock = lock_take(scratch->fd, "ext4", WHAT, &collector->sink, NULL);
    assert_non_null(lock);
    g_autofree char *held = read_content(scratch);
    g_autofree char *host = g_strdup_printf("\"host\":\"%s\"", g_get_host_name());
    g_autofree char *pid = g_strdup_printf("\"pid\":%d", (int)getpid());
    assert_non_null(strstr(held, host));
    assert_non_null(strstr(held, pid));
    lock_release(lock);
    g_autofree char *released = read_content(scratch);
    assert_string_equal(released, "");
    assert_int_equal(take_freely(scratch->fd, "ext4"), 0);
}

static void test_second_taker_is_told_of_the_first(void **state)
{
    const Scratch *scratch = *state;
    g_autoptr(Collector) collector = collector_new();
    Lock *lock = lock_take(scratch->fd, "ext4", WHAT, &collector->sink, NULL);
    g_autofree char *message = take_in_vain(scratch->fd, "ext4", BACKAPP_ERROR_LOCKED);
    g_autofree char *owner = g_strdup_printf("host %s, pid %d, since 2", g_get_host_name(), (int)getpid());
    assert_non_null(strstr(message, owner));
    assert_non_null(strstr(message, WHAT));
    lock_release(lock);
    assert_int_equal(take_freely(scratch->fd, "ext4"), 0);
}

/* A child that takes the lock, says so, and waits. */
static pid_t start_holder(const Scratch *scratch)
{
    int said[2];
    char byte = 0;
    assert_int_equal(pipe(said), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)alarm(30);
        g_autoptr(Collector) collector = collector_new();
        Lock *lock = lock_take(scratch->fd, "ext4", WHAT, &collector->sink, NULL);
        if (lock != NULL && write(said[1], "x", 1) == 1)
            (void)pause();
        _exit(1);
    }
    (void)close(said[1]);
    assert_int_equal(read(said[0], &byte, 1), 1);
    (void)close(said[0]);
    return pid;
}

static void test_lock_of_a_killed_owner_is_taken_over(void **state)
{
    const Scratch *scratch = *state;
    pid_t pid = start_holder(scratch);
    g_autofree char *owner = g_strdup_printf("pid %d,", (int)pid);
    g_autofree char *message = take_in_vain(scratch->fd, "ext4", BACKAPP_ERROR_LOCKED);
    assert_non_null(strstr(message, owner));
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);

    g_autoptr(Collector) collector = collector_new();
    Lock *lock = lock_take(scratch->fd, "ext4", WHAT, &collector->sink, NULL);
    assert_non_null(lock);
    lock_release(lock);
    assert_int_equal(collector->warnings->len, 1);
    assert_int_equal(collector_warned(collector, owner), 1);
    assert_int_equal(take_freely(scratch->fd, "ext4"), 0);
}

/* One of several takers: waits for the start, tries, says how it went, holds until the end is told. */
static void be_a_taker(int state_fd, int start, int result, int end)
{
    char byte = 0;
    g_autoptr(Collector) collector = collector_new();
    (void)alarm(30);
    if (read(start, &byte, 1) != 0)
        _exit(1);
    Lock *lock = lock_take(state_fd, "ext4", WHAT, &collector->sink, NULL);
    if (write(result, lock != NULL ? "1" : "0", 1) != 1 || read(end, &byte, 1) != 0)
        _exit(1);
    lock_release(lock);
    _exit(0);
}

static void test_exactly_one_of_many_wins(void **state)
{
    const Scratch *scratch = *state;
    int start[2] = {-1, -1};
    int result[2] = {-1, -1};
    int end[2] = {-1, -1};
    pid_t pids[TAKERS];
    char answers[TAKERS] = {0};
    guint winners = 0;
    leave_content(scratch->fd, "elsewhere", 3600);
    assert_true(pipe(start) == 0 && pipe(result) == 0 && pipe(end) == 0);
    for (guint i = 0; i < TAKERS; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            (void)close(start[1]);
            (void)close(end[1]);
            be_a_taker(scratch->fd, start[0], result[1], end[0]);
        }
    }
    (void)close(start[1]);
    for (guint i = 0; i < TAKERS; i++) {
        assert_int_equal(read(result[0], &answers[i], 1), 1);
        winners += answers[i] == '1' ? 1 : 0;
    }
    (void)close(end[1]);
    for (guint i = 0; i < TAKERS; i++) {
        int status = 0;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    (void)close(start[0]);
    (void)close(result[0]);
    (void)close(result[1]);
    (void)close(end[0]);
    assert_int_equal(winners, 1);
}

/* Who had it mounted is gone when this host has. */
static void test_other_host_does_not_count_on_our_own_disk(void **state)
{
    const Scratch *scratch = *state;
    leave_content(scratch->fd, "elsewhere", 5);
    assert_int_equal(take_freely(scratch->fd, "ext4"), 1);
}

static void test_other_host_counts_where_hosts_share(void **state)
{
    const Scratch *scratch = *state;
    const char *const types[] = {"nfs", "cifs", "smb", "fuse", "9p", "ceph", "0x12345678"};
    for (guint i = 0; i < G_N_ELEMENTS(types); i++) {
        leave_content(scratch->fd, "elsewhere", 5 * MINUTE);
        g_autofree char *message = take_in_vain(scratch->fd, types[i], BACKAPP_ERROR_LOCKED);
        assert_non_null(strstr(message, "host elsewhere, pid 4711"));
        /* Nothing of its content may be lost, nor of ours stay. */
        g_autofree char *content = read_content(scratch);
        assert_non_null(strstr(content, "elsewhere"));
        assert_int_equal(count_names(scratch->fd), 1);
        leave_content(scratch->fd, "elsewhere", 11 * MINUTE);
        assert_int_equal(take_freely(scratch->fd, types[i]), 1);
    }
}

static void test_our_own_host_does_not_wait(void **state)
{
    const Scratch *scratch = *state;
    leave_content(scratch->fd, g_get_host_name(), 5);
    assert_int_equal(take_freely(scratch->fd, "nfs"), 1);
}

/* What the other host's clock wrote does not matter, only the file system's. */
static void test_wrong_clocks_do_not_matter(void **state)
{
    const Scratch *scratch = *state;
    const gint64 renewed[] = {0, G_MININT64, G_MAXINT64, now_s() + 86400, now_s() - 86400};
    for (guint i = 0; i < G_N_ELEMENTS(renewed); i++) {
        g_autofree char *text = g_strdup_printf(CONTENT, "elsewhere", 1, renewed[i], renewed[i]);
        put_file(scratch->fd, "lock", text, strlen(text));
        g_autofree char *message = take_in_vain(scratch->fd, "nfs", BACKAPP_ERROR_LOCKED);
        assert_non_null(strstr(message, "elsewhere"));
        struct timespec old[2] = {{.tv_sec = now_s() - 3600}, {.tv_sec = now_s() - 3600}};
        assert_int_equal(utimensat(scratch->fd, "lock", old, 0), 0);
        assert_int_equal(take_freely(scratch->fd, "nfs"), 1);
    }
    leave_content(scratch->fd, "elsewhere", -5 * MINUTE);
    g_free(take_in_vain(scratch->fd, "nfs", BACKAPP_ERROR_LOCKED));
    leave_content(scratch->fd, "elsewhere", -20 * MINUTE);
    assert_int_equal(take_freely(scratch->fd, "nfs"), 1);
}

static void test_damaged_content_is_no_owner(void **state)
{
    const Scratch *scratch = *state;
    g_autofree char *deep = g_strnfill(4000, '[');
    g_autofree char *large = g_strnfill(100000, ' ');
    const char *const contents[] = {"x",  "[]", "{}", "null", "{\"host\":7}", "{\"host\":\"a\",\"host\":\"b\"}",
                                    deep, large};
    for (guint i = 0; i < G_N_ELEMENTS(contents); i++) {
        put_file(scratch->fd, "lock", contents[i], strlen(contents[i]));
        assert_int_equal(take_freely(scratch->fd, "nfs"), 0);
        g_autofree char *after = read_content(scratch);
        assert_string_equal(after, "");
    }
}

static void test_hostile_content_is_shown_safely(void **state)
{
    const Scratch *scratch = *state;
    const char *text = "{\"host\":\"\\u001b[2Jevil\\n\",\"pid\":-1,\"started\":9223372036854775807,\"renewed\":true}";
    g_autoptr(Collector) collector = collector_new();
    put_file(scratch->fd, "lock", text, strlen(text));
    g_autofree char *message = take_in_vain(scratch->fd, "nfs", BACKAPP_ERROR_LOCKED);
    assert_null(strchr(message, '\x1b'));
    assert_null(strchr(message, '\n'));
    Lock *lock = lock_take(scratch->fd, "ext4", WHAT, &collector->sink, NULL);
    assert_non_null(lock);
    lock_release(lock);
    assert_int_equal(collector_warned(collector, "\x1b"), 0);
    assert_int_equal(collector_warned(collector, "\\x1B[2Jevil"), 1);
}

static void make_socket(const Scratch *scratch)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    AutoFd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d/lock", scratch->fd);
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
}

static void test_what_is_no_plain_file_is_left_alone(void **state)
{
    const Scratch *scratch = *state;
    put_file(scratch->fd, "victim", "precious", 8);
    for (guint kind = 0; kind < 6; kind++) {
        if (kind == 0)
            assert_int_equal(symlinkat("victim", scratch->fd, "lock"), 0);
        else if (kind == 1)
            assert_int_equal(symlinkat("nothing", scratch->fd, "lock"), 0);
        else if (kind == 2)
            assert_int_equal(mkfifoat(scratch->fd, "lock", 0600), 0);
        else if (kind == 3)
            assert_int_equal(mkdirat(scratch->fd, "lock", 0700), 0);
        else if (kind == 4)
            assert_int_equal(linkat(scratch->fd, "victim", scratch->fd, "lock", 0), 0);
        else
            make_socket(scratch);
        g_autofree char *message = take_in_vain(scratch->fd, "ext4", BACKAPP_ERROR_INVALID);
        assert_non_null(strstr(message, WHAT));
        assert_int_equal(count_names(scratch->fd), 2);
        assert_int_equal(unlinkat(scratch->fd, "lock", kind == 3 ? AT_REMOVEDIR : 0), 0);
    }
    struct stat st;
    assert_int_equal(fstatat(scratch->fd, "victim", &st, 0), 0);
    assert_int_equal(st.st_size, 8);
}

/* After another host took over, what it wrote is not ours to remove. */
static void test_release_leaves_what_another_wrote(void **state)
{
    const Scratch *scratch = *state;
    g_autoptr(Collector) collector = collector_new();
    Lock *lock = lock_take(scratch->fd, "nfs", WHAT, &collector->sink, NULL);
    assert_non_null(lock);
    leave_content(scratch->fd, "elsewhere", 0);
    lock_release(lock);
    g_autofree char *content = read_content(scratch);
    assert_non_null(strstr(content, "elsewhere"));
}

static int child_full_disk(Scratch *scratch)
{
    g_autoptr(Collector) collector = collector_new();
    g_autoptr(GError) error = NULL;
    static const char block[65536];
    if (!mount_private_tmpfs(scratch, "", "size=64k"))
        return CHILD_SKIPS;
    AutoFd fd = openat(scratch->fd, "filler", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(write(fd, block, sizeof block) > 0);
    CHECK(lock_take(scratch->fd, "nfs", WHAT, &collector->sink, &error) == NULL);
    CHECK(error_is(error, BACKAPP_ERROR_NO_SPACE));
    Lock *lock = lock_take(scratch->fd, "tmpfs", WHAT, &collector->sink, NULL);
    CHECK(lock != NULL);
    CHECK(lock_take(scratch->fd, "tmpfs", WHAT, &collector->sink, NULL) == NULL);
    lock_release(lock);
    return 0;
}

static void test_a_full_disk_can_be_locked(void **state)
{
    RUN_CHILD(child_full_disk, *state);
}

static int child_without_locks(Scratch *scratch)
{
    g_autoptr(Collector) collector = collector_new();
    g_autoptr(GError) error = NULL;
    if (!forbid_call(SYS_flock))
        return CHILD_SKIPS;
    CHECK(lock_take(scratch->fd, "nfs", WHAT, &collector->sink, &error) == NULL);
    CHECK(strstr(error->message, "no working locks") != NULL);
    return 0;
}

static void test_without_locks_nothing_runs(void **state)
{
    RUN_CHILD(child_without_locks, *state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(test_content_names_the_owner_while_held),
        SCRATCH_TEST(test_second_taker_is_told_of_the_first),
        SCRATCH_TEST(test_lock_of_a_killed_owner_is_taken_over),
        SCRATCH_TEST(test_exactly_one_of_many_wins),
        SCRATCH_TEST(test_other_host_does_not_count_on_our_own_disk),
        SCRATCH_TEST(test_other_host_counts_where_hosts_share),
        SCRATCH_TEST(test_our_own_host_does_not_wait),
        SCRATCH_TEST(test_wrong_clocks_do_not_matter),
        SCRATCH_TEST(test_damaged_content_is_no_owner),
        SCRATCH_TEST(test_hostile_content_is_shown_safely),
        SCRATCH_TEST(test_what_is_no_plain_file_is_left_alone),
        SCRATCH_TEST(test_release_leaves_what_another_wrote),
        SCRATCH_TEST(test_a_full_disk_can_be_locked),
        SCRATCH_TEST(test_without_locks_nothing_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
