/* The sidecar: round trip, order, damage, marking, and the step of a replay. */
#include "engine/mirror/sidecar.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../base/cmocka_all.h"
#include "base/error.h"
#include "fs/atomic.h"
#include "fs/remove.h"

#define MANY 3000 /* several blocks */

static char *scratch;
static Destination dest = {.root_fd = -1, .state_fd = -1};

static int setup(void **state)
{
    (void)state;
    scratch = g_dir_make_tmp("backapp-sidecar-XXXXXX", NULL);
    dest.path = scratch;
    dest.state_fd = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    dest.abilities = (FsAbilities){.hard_links = TRUE, .acls = TRUE, .any_name = TRUE, .mtime_granularity_ns = 100};
    return dest.state_fd >= 0 ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    close(dest.state_fd);
    gboolean good = remove_tree(AT_FDCWD, scratch, FALSE, NULL, NULL);
    g_free(scratch);
    return good ? 0 : -1;
}

static void put(SidecarWriter *writer, const SidecarRecord *record, const char *attrs, gsize attrs_length)
{
    g_autoptr(GByteArray) body = g_byte_array_new();
    g_autofree char *key = sidecar_key(record->path, S_ISDIR(record->meta.mode));
    sidecar_encode(record, (const guint8 *)attrs, attrs_length, body);
    assert_true(sidecar_writer_put(writer, key, body->data, body->len, NULL));
}

/* One of each kind, in order. */
static void write_kinds(void)
{
    static const char attrs[] = "\x02\x06user.a\x01x\x06user.b\x00";
    g_autoptr(SidecarWriter) writer = sidecar_writer_open(&dest, NULL, NULL);
    assert_non_null(writer);
    const SidecarRecord records[] = {
        {.path = "", .meta = {.mode = S_IFDIR | 0750, .uid = 0, .gid = 0, .mtime_s = 5, .mtime_ns = 999999999}},
        {.path = "device", .meta = {.mode = S_IFCHR | 0600, .rdev = 0x103, .uid = 4000000000U}},
        {.path = "fifo", .meta = {.mode = S_IFIFO | 0600, .mtime_s = -7}},
        {.path = "file", .meta = {.mode = S_IFREG | 04755, .size = 1 << 30, .gid = 12345}},
        {.path = "link", .meta = {.mode = S_IFLNK | 0777}, .target = "a target\n"},
        {.path = "other", .meta = {.mode = S_IFREG | 0644}, .link = "file"},
        {.path = "dir", .meta = {.mode = S_IFDIR | 0700}},
        {.path = "dir/x", .meta = {.mode = S_IFREG}, .unsure = TRUE},
    };
    for (guint i = 0; i < G_N_ELEMENTS(records); i++)
        put(writer, &records[i], attrs, g_str_equal(records[i].path, "file") ? sizeof attrs - 1 : 0);
    assert_true(sidecar_writer_finish(writer, NULL));
    assert_true(sidecar_replay(&dest, NULL));
}

static SidecarReader *open_reader(void)
{
    g_autoptr(GError) error = NULL;
    SidecarReader *reader = sidecar_reader_open(&dest, SIDECAR_NAME, &error);
    assert_null(error);
    return reader;
}

static SidecarRecord next(SidecarReader *reader, const char *path)
{
    g_autoptr(GError) error = NULL;
    SidecarRecord record;
    assert_int_equal(sidecar_reader_next(reader, &record, &error), 1);
    assert_string_equal(record.path, path);
    return record;
}

static void test_round_trip(void **state)
{
    (void)state;
    write_kinds();
    g_autoptr(SidecarReader) reader = open_reader();
    SidecarRecord record = next(reader, "");
    assert_int_equal(record.meta.mode, S_IFDIR | 0750);
    assert_int_equal(record.meta.mtime_ns, 999999999);
    assert_string_equal(record.user, "root");
    assert_string_equal(record.group, "root");
    record = next(reader, "device");
    assert_int_equal(record.meta.rdev, 0x103);
    assert_int_equal(record.meta.uid, 4000000000U);
    assert_null(record.user);
    assert_int_equal(next(reader, "fifo").meta.mtime_s, -7);
    record = next(reader, "file");
    assert_int_equal(record.meta.size, 1 << 30);
    assert_int_equal(record.meta.mode, S_IFREG | 04755);
    assert_int_equal(record.meta.gid, 12345);
    assert_null(record.link);
    g_autoptr(GByteArray) attrs = g_byte_array_new();
    attrs_encode(record.attrs, attrs);
    assert_int_equal(attrs->len, 18);
    assert_string_equal(next(reader, "link").target, "a target\n");
    record = next(reader, "other");
    assert_string_equal(record.link, "file");
    assert_true(attrs_is_empty(record.attrs));
    next(reader, "dir");
    assert_true(next(reader, "dir/x").unsure);
    assert_int_equal(sidecar_reader_next(reader, &record, NULL), 0);
    assert_int_equal(sidecar_reader_next(reader, &record, NULL), 0);
    FsAbilities abilities = {.symlinks = TRUE, .reflink = TRUE};
    sidecar_reader_abilities(reader, &abilities);
    assert_true(abilities.hard_links && abilities.acls && abilities.any_name && !abilities.symlinks &&
                abilities.reflink);
    assert_int_equal(abilities.mtime_granularity_ns, 100);
}

static void test_none(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    assert_null(sidecar_reader_open(&dest, SIDECAR_NAME, &error));
    assert_null(error);
    /* Nothing to do, and nothing to remove. */
    assert_true(sidecar_replay(&dest, NULL) && sidecar_drop_new(&dest, NULL));
    assert_int_equal(mkfifoat(dest.state_fd, SIDECAR_NAME, 0600), 0);
    assert_null(sidecar_reader_open(&dest, SIDECAR_NAME, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
}

static void write_many(void)
{
    g_autoptr(SidecarWriter) writer = sidecar_writer_open(&dest, NULL, NULL);
    for (guint i = 0; i < MANY; i++) {
        g_autofree char *path = g_strdup_printf("a/directory/with/a/long/name/%08u", i);
        SidecarRecord record = {.path = path, .meta = {.mode = S_IFREG | 0644, .uid = i, .size = i}};
        put(writer, &record, NULL, 0);
    }
    assert_true(sidecar_writer_finish(writer, NULL));
}

static void test_many_and_marks(void **state)
{
    (void)state;
    write_many();
    g_autoptr(GHashTable) paths = g_hash_table_new(g_str_hash, g_str_equal);
    assert_true(sidecar_mark_unsure(&dest, paths, NULL));
    g_hash_table_add(paths, (gpointer) "a/directory/with/a/long/name/00000000");
    g_hash_table_add(paths, (gpointer) "a/directory/with/a/long/name/00002999");
    g_hash_table_add(paths, (gpointer) "not there");
    assert_true(sidecar_mark_unsure(&dest, paths, NULL));
    assert_true(sidecar_replay(&dest, NULL) && sidecar_replay(&dest, NULL));
    g_autoptr(SidecarReader) reader = open_reader();
    for (guint i = 0; i < MANY; i++) {
        g_autofree char *path = g_strdup_printf("a/directory/with/a/long/name/%08u", i);
        SidecarRecord record = next(reader, path);
        assert_int_equal(record.meta.size, i);
        assert_int_equal(record.meta.uid, i);
        assert_int_equal(record.unsure, i == 0 || i == MANY - 1);
    }
}

/* Reads to the end; FALSE with CORRUPT. */
static gboolean reads(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(SidecarReader) reader = sidecar_reader_open(&dest, SIDECAR_NAME, &error);
    SidecarRecord record;
    int got = -1;
    while (reader != NULL && (got = sidecar_reader_next(reader, &record, &error)) > 0)
        ;
    assert_true(got == 0 || error_is(error, BACKAPP_ERROR_CORRUPT));
    return got == 0;
}

/* Not atomic_write: so many fsyncs take long. */
static void overwrite(const char *data, gsize length)
{
    int fd = openat(dest.state_fd, SIDECAR_NAME, O_WRONLY | O_TRUNC | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, length), length);
    assert_int_equal(close(fd), 0);
}

static void test_each_damaged_byte_is_seen(void **state)
{
    (void)state;
    g_autofree char *data = NULL;
    gsize length = 0;
    write_kinds();
    assert_true(atomic_read(dest.state_fd, SIDECAR_NAME, 1 << 20, &data, &length, NULL));
    assert_true(reads());
    for (gsize i = 0; i < length; i++) {
        data[i] = (char)(data[i] ^ 4);
        overwrite(data, length);
        assert_false(reads());
        data[i] = (char)(data[i] ^ 4);
        overwrite(data, i);
        assert_false(reads());
    }
    g_autofree char *longer = g_malloc0(length + 1);
    memcpy(longer, data, length);
    overwrite(longer, length + 1);
    assert_false(reads());
}

/* Sums are right here, but what they protect is not. */
static void test_false_records(void **state)
{
    (void)state;
    const SidecarRecord file = {.path = "b", .meta = {.mode = S_IFREG}};
    static const char *const keys[] = {"a", "b", "/b", "b/", "../b", "c/../b", "c/./b", "c//b", ".", ".backapp/lock"};
    for (guint i = 0; i < G_N_ELEMENTS(keys); i++) {
        g_autoptr(SidecarWriter) writer = sidecar_writer_open(&dest, NULL, NULL);
        g_autoptr(GByteArray) body = g_byte_array_new();
        put(writer, &file, NULL, 0);
        sidecar_encode(&file, NULL, 0, body);
        assert_true(sidecar_writer_put(writer, keys[i], body->data, body->len, NULL));
        assert_true(sidecar_writer_finish(writer, NULL) && sidecar_replay(&dest, NULL));
        assert_false(reads());
    }
}

static void test_unfinished_is_removed(void **state)
{
    (void)state;
    write_kinds();
    {
        g_autoptr(SidecarWriter) writer = sidecar_writer_open(&dest, NULL, NULL);
        assert_int_equal(faccessat(dest.state_fd, SIDECAR_NEW_NAME, F_OK, 0), 0);
        assert_non_null(writer);
    }
    assert_int_equal(faccessat(dest.state_fd, SIDECAR_NEW_NAME, F_OK, 0), -1);
    assert_true(reads());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_none, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_and_marks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_each_damaged_byte_is_seen, setup, teardown),
        cmocka_unit_test_setup_teardown(test_false_records, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unfinished_is_removed, setup, teardown),
    };
    return cmocka_run_group_tests_name("sidecar", tests, NULL, NULL);
}
