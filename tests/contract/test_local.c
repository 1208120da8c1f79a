#include "../unit/fs/scratch.h"

#include "crypto/digest.h"
#include "fs/atomic.h"
#include "store/drivers.h"

#include <sys/resource.h>

static Store *open_local(Scratch *scratch)
{
    Store *store = store_local_new(scratch->path, NULL);
    assert_non_null(store);
    return store;
}

static void put(Store *store, const char *key, const char *text)
{
    StoreBody body = {.data = text, .length = strlen(text)};
    g_autoptr(GError) error = NULL;
    if (!store_put(store, key, &body, NULL, NULL, &error))
        fail_msg("cannot put %s: %s", key, error->message);
}

static void assert_text(Store *store, const char *key, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) bytes = store_get_bytes(store, key, NULL, 1000, NULL, &error);
    if (!bytes)
        fail_msg("cannot get %s: %s", key, error->message);
    assert_int_equal(g_bytes_get_size(bytes), strlen(text));
    assert_memory_equal(g_bytes_get_data(bytes, NULL), text, strlen(text));
}

static char *list_keys(Store *store)
{
    GString *keys = g_string_new(NULL);
    g_autoptr(StoreList) list = store_list(store, "", NULL, FALSE, NULL);
    const StoreObject *object = NULL;
    int got = 0;
    while ((got = store_list_next(list, &object, NULL)) > 0)
        g_string_append_printf(keys, "%s%s", keys->len ? " " : "", object->key);
    assert_int_equal(got, 0);
    return g_string_free(keys, FALSE);
}

static gboolean is_file(Scratch *scratch, const char *path)
{
    struct stat st;
    return fstatat(scratch->fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
}

static void test_ordinary_keys_are_plain_paths(void **state)
{
    Scratch *scratch = *state;
    g_autoptr(Store) store = open_local(scratch);
    const char *const keys[] = {"a.txt", "dir/b c", "dir/100%", "dir/.hidden", "d\xc3\xa9j\xc3\xa0/vu", "x/.backapp/y"};
    for (guint i = 0; i < G_N_ELEMENTS(keys); i++) {
        put(store, keys[i], "x");
        assert_true(is_file(scratch, keys[i]));
    }
}

static void test_what_cannot_be_a_path_has_one_that_is_documented(void **state)
{
    Scratch *scratch = *state;
    g_autoptr(Store) store = open_local(scratch);
    g_autofree char *longest = g_strnfill(300, 'n');
    g_autofree char *piece = g_strnfill(240, 'n');
    g_autofree char *rest = g_strnfill(60, 'n');
    g_autofree char *long_path = g_strconcat("long/.backapp-+", piece, "/.backapp-@", rest, NULL);
    g_autofree char *long_key = g_strconcat("long/", longest, NULL);
    const char *const cases[][2] = {
        {"folder/", "folder/.backapp-@"},
        {"/top", ".backapp-=/top"},
        {"a//b", "a/.backapp-=/b"},
        {"../up", ".backapp-=../up"},
        {"d/..", "d/.backapp-@.."},
        {".backapp-store", ".backapp-@.backapp-store"},
        {".backapp-store/lock", ".backapp-=.backapp-store/lock"},
        {long_key, long_path},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        put(store, cases[i][0], cases[i][0]);
        assert_true(is_file(scratch, cases[i][1]));
        assert_text(store, cases[i][0], cases[i][0]);
    }
}

static void test_long_names_are_cut_between_characters(void **state)
{
    Scratch *scratch = *state;
    g_autoptr(Store) store = open_local(scratch);
    g_autoptr(GString) name = g_string_new("x");
    while (name->len < 300)
        g_string_append(name, "\xe6\x97\xa5");
    put(store, name->str, "x");
    /* 240 bytes end in the middle of the 80th. */
    g_autofree char *first = g_strndup(name->str, 238);
    g_autofree char *path = g_strconcat(".backapp-+", first, "/.backapp-@", name->str + 238, NULL);
    assert_true(is_file(scratch, path));
}

static void test_names_that_nobody_writes_are_no_objects(void **state)
{
    Scratch *scratch = *state;
    g_autoptr(Store) store = open_local(scratch);
    const char *const directories[] = {".backapp-=plain", ".backapp-+short", ".backapp-x"};
    for (guint i = 0; i < G_N_ELEMENTS(directories); i++) {
        assert_int_equal(mkdirat(scratch->fd, directories[i], 0700), 0);
        g_auto(AutoFd) fd = dir_open(scratch->fd, directories[i], NULL);
        put_file(fd, "a", "x", 1);
        put_file(fd, ".backapp-@b", "x", 1);
    }
    put_file(scratch->fd, ".backapp-", "x", 1);
    put_file(scratch->fd, ".backapp-tmp", "x", 1);
    g_autofree char *keys = list_keys(store);
    assert_string_equal(keys, "");
}

#define DEEP 400

static void test_deep_folders_take_few_descriptors(void **state)
{
    Scratch *scratch = *state;
    g_autoptr(Store) store = open_local(scratch);
    g_autoptr(GString) key = g_string_new(NULL);
    for (guint i = 0; i < DEEP; i++)
        g_string_append(key, "d/");
    g_string_append(key, "k");
    struct rlimit before, few;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = before;
    few.rlim_cur = 60;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    put(store, key->str, "x");
    put(store, "z", "x");
    g_autofree char *keys = list_keys(store);
    g_string_append(key, " z");
    assert_string_equal(keys, key->str);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void test_a_part_that_was_replaced_takes_no_space(void **state)
{
    Scratch *scratch = *state;
    g_autoptr(Store) store = open_local(scratch);
    g_autofree char *upload = store_begin(store, "k", NULL, NULL);
    const char *const texts[] = {"one", "two", "three", "four"};
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        StoreBody body = {.data = texts[i], .length = strlen(texts[i])};
        g_autofree char *etag = NULL;
        assert_true(store_part(store, "k", upload, 1, &body, &etag, NULL));
    }
    g_autofree char *path = g_strconcat(".backapp-store/uploads/", upload, NULL);
    g_auto(AutoFd) fd = dir_open(scratch->fd, path, NULL);
    /* Its description, the slot of the first one, and the last one. */
    assert_int_equal(count_names(fd), 3);
}

/* --- what was made durable, and when --- */

static ino_t synced[64];
static guint synced_count;
static const char *watched; /* a path that is looked at on each fsync */
static int watched_fd;
static gboolean seen_early;

/* Takes the place of the C library's for the whole program. */
int fsync(int fd)
{
    struct stat st;
    if (fstat(fd, &st) == 0 && synced_count < G_N_ELEMENTS(synced))
        synced[synced_count++] = st.st_ino;
    if (watched && S_ISREG(st.st_mode) && faccessat(watched_fd, watched, F_OK, 0) == 0)
        seen_early = TRUE;
    return (int)syscall(SYS_fsync, fd);
}

static gboolean was_synced(Scratch *scratch, const char *path)
{
    struct stat st;
    assert_int_equal(fstatat(scratch->fd, path, &st, 0), 0);
    for (guint i = 0; i < synced_count; i++)
        if (synced[i] == st.st_ino)
            return TRUE;
    return FALSE;
}

/* Nothing would ever find it again. */
static void test_an_upload_that_did_not_begin_leaves_nothing(void **state)
{
    Scratch *scratch = *state;
    g_autoptr(Store) store = open_local(scratch);
    g_autofree char *other = store_begin(store, "other", NULL, NULL);
    assert_non_null(other);
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    struct rlimit nothing = {0, before.rlim_max};
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &nothing), 0);
    g_autoptr(GError) error = NULL;
    g_autofree char *upload = store_begin(store, "k", NULL, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, handler);
    assert_null(upload);
    assert_non_null(error);
    g_auto(AutoFd) uploads = dir_open(scratch->fd, ".backapp-store/uploads", NULL);
    assert_int_equal(count_names(uploads), 1);
}

static void test_all_is_durable_before_it_is_seen(void **state)
{
    Scratch *scratch = *state;
    g_autoptr(Store) store = open_local(scratch);
    put(store, "x", "x");
    put(store, "d/x", "x");
    synced_count = 0;
    seen_early = FALSE;
    watched = "d/e/f";
    watched_fd = scratch->fd;
    put(store, "d/e/f", "x");
    watched = NULL;
    assert_false(seen_early);
    assert_true(was_synced(scratch, "d/e/f") && was_synced(scratch, "d/e") && was_synced(scratch, "d"));
    synced_count = 0;
    put(store, "d/e/f", "y");
    assert_true(was_synced(scratch, "d/e/f") && was_synced(scratch, "d/e"));
    synced_count = 0;
    assert_true(store_delete(store, "d/e/f", NULL, NULL));
    assert_true(was_synced(scratch, "d"));
    synced_count = 0;
    put(store, "x/y", "x");
    assert_true(was_synced(scratch, "x/y") && was_synced(scratch, "x") && was_synced(scratch, "."));
}

static void test_a_file_makes_way_for_a_directory(void **state)
{
    Scratch *scratch = *state;
    g_autoptr(Store) store = open_local(scratch);
    put(store, "a", "1");
    assert_true(is_file(scratch, "a"));
    put(store, "a/b", "2");
    assert_true(is_file(scratch, "a/b"));
    assert_true(is_file(scratch, ".backapp-@a"));
    assert_text(store, "a", "1");
    put(store, "a", "3");
    assert_text(store, "a", "3");
    g_autofree char *keys = list_keys(store);
    assert_string_equal(keys, "a a/b");
    assert_true(store_delete(store, "a/b", NULL, NULL));
    assert_text(store, "a", "3");
    assert_true(store_delete(store, "a", NULL, NULL));
    g_autofree char *none = list_keys(store);
    assert_string_equal(none, "");
    /* Only the driver's own directory is left. */
    assert_int_equal(count_names(scratch->fd), 1);
}

static void test_symlinks_are_not_followed(void **state)
{
    Scratch *scratch = *state;
    assert_int_equal(mkdirat(scratch->fd, "store", 0700), 0);
    assert_int_equal(mkdirat(scratch->fd, "outside", 0700), 0);
    g_auto(AutoFd) outside = dir_open(scratch->fd, "outside", NULL);
    put_file(outside, "secret", "secret", 6);
    assert_int_equal(symlinkat("../outside", scratch->fd, "store/out"), 0);
    assert_int_equal(symlinkat("../outside/secret", scratch->fd, "store/file"), 0);
    g_autofree char *path = g_strconcat(scratch->path, "/store", NULL);
    g_autoptr(Store) store = store_local_new(path, NULL);
    g_autoptr(GError) error = NULL;
    assert_null(store_head(store, "out/secret", NULL, &error));
    assert_true(error_is(error, BACKAPP_ERROR_NOT_FOUND));
    assert_null(store_head(store, "file", NULL, NULL));
    StoreBody body = {.data = "x", .length = 1};
    g_clear_error(&error);
    assert_false(store_put(store, "out/new", &body, NULL, NULL, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CONFLICT));
    put(store, "file", "mine");
    g_autofree char *keys = list_keys(store);
    assert_string_equal(keys, "file");
    assert_int_equal(count_names(outside), 1);
    g_autofree char *secret = NULL;
    assert_true(atomic_read(outside, "secret", 100, &secret, NULL, NULL));
    assert_string_equal(secret, "secret");
    assert_true(store_delete(store, "out/secret", NULL, NULL));
    assert_int_equal(count_names(outside), 1);
}

static void test_files_of_others_are_objects_too(void **state)
{
    Scratch *scratch = *state;
    assert_int_equal(mkdirat(scratch->fd, "d", 0700), 0);
    assert_int_equal(mkdirat(scratch->fd, "empty", 0700), 0);
    put_file(scratch->fd, "d/by hand", "12345", 5);
    assert_int_equal(mkfifoat(scratch->fd, "fifo", 0600), 0);
    put_file(scratch->fd, "bad\xff", "x", 1);
    g_autoptr(Store) store = open_local(scratch);
    g_autofree char *keys = list_keys(store);
    assert_string_equal(keys, "d/by hand");
    /* Reading leaves nothing behind. */
    assert_int_equal(count_names(scratch->fd), 4);
    g_autoptr(StoreObject) before = store_head(store, "d/by hand", NULL, NULL);
    assert_non_null(before);
    assert_true(before->etag[0]);
    put_file(scratch->fd, "d/by hand", "123456", 6);
    g_autoptr(StoreObject) after = store_head(store, "d/by hand", NULL, NULL);
    assert_string_not_equal(before->etag, after->etag);
}

static void test_an_edited_file_has_another_etag(void **state)
{
    Scratch *scratch = *state;
    g_autoptr(Store) store = open_local(scratch);
    StoreBody body = {.data = "one", .length = 3};
    StorePut how = {.mtime = "5.000000000"};
    assert_true(store_put(store, "k", &body, &how, NULL, NULL));
    g_autoptr(StoreObject) before = store_head(store, "k", NULL, NULL);
    assert_int_equal(strlen(before->etag), 64);
    put_file(scratch->fd, "k", "two", 3);
    g_autoptr(StoreObject) after = store_head(store, "k", NULL, NULL);
    assert_string_not_equal(before->etag, after->etag);
    assert_null(after->mtime);
    assert_text(store, "k", "two");
}

static void test_metadata_outlives_the_process(void **state)
{
    Scratch *scratch = *state;
    for (guint i = 0; i < 2; i++) {
        g_autoptr(Store) store = open_local(scratch);
        StoreBody body = {.data = "one", .length = 3};
        StorePut how = {.mtime = "5.000000001", .storage_class = "GLACIER"};
        if (i == 0)
            assert_true(store_put(store, "k", &body, &how, NULL, NULL));
        g_autoptr(StoreObject) object = store_head(store, "k", NULL, NULL);
        assert_string_equal(object->mtime, "5.000000001");
        assert_string_equal(object->storage_class, "GLACIER");
    }
}

static void test_what_a_killed_process_left_is_removed(void **state)
{
    Scratch *scratch = *state;
    {
        g_autoptr(Store) store = open_local(scratch);
        put(store, "k", "x");
    }
    g_auto(AutoFd) temp = dir_open(scratch->fd, ".backapp-store/tmp", NULL);
    assert_true(temp >= 0);
    put_file(temp, "old", "x", 1);
    put_file(temp, "new", "x", 1);
    struct timespec long_ago[2] = {{.tv_sec = 1000000}, {.tv_sec = 1000000}};
    assert_int_equal(utimensat(temp, "old", long_ago, 0), 0);
    g_autoptr(Store) store = open_local(scratch);
    put(store, "k", "y");
    /* A young one may be another process's that is writing. */
    assert_int_equal(count_names(temp), 1);
}

/* The receiver of a write that never ends well. */
static gssize give_zeros(gpointer user_data, guint64 offset, void *buffer, gsize size, GError **error)
{
    memset(buffer, 0, size);
    return (gssize)size;
}

static int fill_disk(Scratch *scratch)
{
    if (!mount_private_tmpfs(scratch, "", "size=2m"))
        return CHILD_SKIPS;
    g_autoptr(Store) store = store_local_new(scratch->path, NULL);
    CHECK(store != NULL);
    StoreBody small = {.data = "old", .length = 3};
    CHECK(store_put(store, "k", &small, NULL, NULL, NULL));
    StoreBody large = {.length = 8 << 20, .read = give_zeros};
    g_autoptr(GError) error = NULL;
    CHECK(!store_put(store, "k", &large, NULL, NULL, &error));
    CHECK(error_is(error, BACKAPP_ERROR_NO_SPACE));
    g_autoptr(GBytes) bytes = store_get_bytes(store, "k", NULL, 10, NULL, NULL);
    CHECK(bytes && g_bytes_get_size(bytes) == 3);
    g_autofree char *upload = store_begin(store, "m", NULL, NULL);
    g_autofree char *etag = NULL;
    g_clear_error(&error);
    CHECK(upload && !store_part(store, "m", upload, 1, &large, &etag, &error));
    CHECK(error_is(error, BACKAPP_ERROR_NO_SPACE));
    CHECK(store_abort(store, "m", upload, NULL));
    /* Nothing of it takes space any more. */
    StoreBody most = {.length = 1 << 20, .read = give_zeros};
    CHECK(store_put(store, "k2", &most, NULL, NULL, NULL));
    CHECK(store_delete(store, "k2", NULL, NULL));
    return 0;
}

static void test_a_full_disk(void **state)
{
    RUN_CHILD(fill_disk, *state);
}

static int read_only(Scratch *scratch)
{
    if (!become_nobody())
        return CHILD_SKIPS;
    g_autoptr(Store) store = store_local_new(scratch->path, NULL);
    CHECK(store != NULL);
    g_autofree char *keys = list_keys(store);
    CHECK(strcmp(keys, "k") == 0);
    g_autoptr(GBytes) bytes = store_get_bytes(store, "k", NULL, 10, NULL, NULL);
    CHECK(bytes != NULL);
    g_autoptr(GError) error = NULL;
    StoreBody body = {.data = "x", .length = 1};
    CHECK(!store_put(store, "k", &body, NULL, NULL, &error));
    CHECK(error_is(error, BACKAPP_ERROR_DENIED));
    return 0;
}

static void test_a_store_that_may_only_be_read(void **state)
{
    Scratch *scratch = *state;
    put_file(scratch->fd, "k", "x", 1);
    assert_int_equal(fchmodat(scratch->fd, ".", 0555, 0), 0);
    RUN_CHILD(read_only, scratch);
}

#define RACERS 4

static int write_if_absent(Scratch *scratch)
{
    guint won = 0;
    g_autoptr(Store) store = store_local_new(scratch->path, NULL);
    for (guint i = 0; i < 20; i++) {
        g_autofree char *key = g_strdup_printf("race/%u", i);
        g_autofree char *below = g_strdup_printf("race/%u/%d", i, (int)getpid());
        StoreBody body = {.data = "x", .length = 1};
        StorePut how = {.if_absent = TRUE};
        won += store_put(store, key, &body, &how, NULL, NULL) ? 1 : 0;
        CHECK(store_put(store, below, &body, NULL, NULL, NULL));
        CHECK(store_delete(store, below, NULL, NULL));
    }
    return (int)won + 100;
}

static void test_processes_exclude_each_other(void **state)
{
    Scratch *scratch = *state;
    pid_t pids[RACERS];
    (void)fflush(NULL);
    for (guint i = 0; i < RACERS; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            (void)alarm(60);
            _exit(write_if_absent(scratch));
        }
        assert_true(pids[i] > 0);
    }
    int won = 0;
    for (guint i = 0; i < RACERS; i++) {
        int status = 0;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) >= 100);
        won += WEXITSTATUS(status) - 100;
    }
    assert_int_equal(won, 20);
}

#define KILLED_BYTES 300000

/* Writes objects of one byte value each for ever, and parts. */
static int write_for_ever(Scratch *scratch)
{
    g_autoptr(Store) store = store_local_new(scratch->path, NULL);
    g_autofree guint8 *data = g_malloc(KILLED_BYTES);
    for (guint i = 0;; i++) {
        memset(data, (int)('a' + i % 26), KILLED_BYTES);
        StoreBody body = {.data = data, .length = KILLED_BYTES};
        CHECK(store_put(store, "d/k", &body, NULL, NULL, NULL));
        CHECK(store_put(store, i % 2 ? "e" : "e/f", &body, NULL, NULL, NULL));
        CHECK(store_delete(store, i % 2 ? "e/f" : "e", NULL, NULL));
    }
}

static void assert_whole(Store *store, const char *key)
{
    g_autoptr(StoreObject) object = NULL;
    g_autoptr(GBytes) bytes = store_get_bytes(store, key, NULL, 2 * KILLED_BYTES, &object, NULL);
    if (!bytes)
        return;
    const guint8 *data = g_bytes_get_data(bytes, NULL);
    assert_int_equal(g_bytes_get_size(bytes), KILLED_BYTES);
    assert_true(memcmp(data, data + 1, KILLED_BYTES - 1) == 0);
    /* Its ETag is that of its bytes, not one made up. */
    g_autofree char *sum = digest_sha256_hex(data, KILLED_BYTES);
    assert_string_equal(object->etag, sum);
}

static void test_a_kill_leaves_whole_objects(void **state)
{
    Scratch *scratch = *state;
    for (guint i = 0; i < 12; i++) {
        (void)fflush(NULL);
        pid_t pid = fork();
        if (pid == 0) {
            (void)alarm(30);
            _exit(write_for_ever(scratch));
        }
        assert_true(pid > 0);
        g_usleep(10000 + i * 3371);
        assert_int_equal(kill(pid, SIGKILL), 0);
        int status = 0;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        g_autoptr(Store) store = open_local(scratch);
        assert_whole(store, "d/k");
        assert_whole(store, "e");
        assert_whole(store, "e/f");
        g_autofree char *keys = list_keys(store);
        assert_true(strlen(keys) <= strlen("d/k e e/f"));
        put(store, "after", "x");
        assert_true(store_delete(store, "after", NULL, NULL));
    }
}

static void test_opening(void **state)
{
    Scratch *scratch = *state;
    StoreOptions options;
    store_options_default(&options);
    g_autofree char *url = g_strconcat("file://", scratch->path, "/new%20one", NULL);
    g_autoptr(Store) store = store_open(url, &options, NULL);
    assert_non_null(store);
    put(store, "k", "x");
    assert_true(is_file(scratch, "new one/k"));
    g_autofree char *path = g_strconcat(scratch->path, "/second", NULL);
    g_autoptr(Store) plain = store_open(path, &options, NULL);
    assert_non_null(plain);
    g_autoptr(Store) memory = store_open("memory:", &options, NULL);
    assert_non_null(memory);
    g_autofree char *deep = g_strconcat(scratch->path, "/no/such/parent", NULL);
    const char *const bad[] = {deep, "file://host/dir", "s3://", "s3:bucket", "gopher://x/y"};
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(store_open(bad[i], &options, &error));
        assert_non_null(error);
    }
    assert_true(store_is_url("s3://b") && store_is_url("file:///x") && store_is_url("memory:"));
    assert_false(store_is_url("/s3:") || store_is_url("dir") || store_is_url("./file:x"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(test_ordinary_keys_are_plain_paths),
        SCRATCH_TEST(test_what_cannot_be_a_path_has_one_that_is_documented),
        SCRATCH_TEST(test_long_names_are_cut_between_characters),
        SCRATCH_TEST(test_names_that_nobody_writes_are_no_objects),
        SCRATCH_TEST(test_deep_folders_take_few_descriptors),
        SCRATCH_TEST(test_a_part_that_was_replaced_takes_no_space),
        SCRATCH_TEST(test_an_upload_that_did_not_begin_leaves_nothing),
        SCRATCH_TEST(test_all_is_durable_before_it_is_seen),
        SCRATCH_TEST(test_a_file_makes_way_for_a_directory),
        SCRATCH_TEST(test_symlinks_are_not_followed),
        SCRATCH_TEST(test_files_of_others_are_objects_too),
        SCRATCH_TEST(test_an_edited_file_has_another_etag),
        SCRATCH_TEST(test_metadata_outlives_the_process),
        SCRATCH_TEST(test_what_a_killed_process_left_is_removed),
        SCRATCH_TEST(test_a_full_disk),
        SCRATCH_TEST(test_a_store_that_may_only_be_read),
        SCRATCH_TEST(test_processes_exclude_each_other),
        SCRATCH_TEST(test_a_kill_leaves_whole_objects),
        SCRATCH_TEST(test_opening),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
