#include "scene.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/error.h"
#include "engine/mirror/journal.h"
#include "fs/atomic.h"
#include "fs/dir.h"

#define JOURNAL_MAX (64 * 1024 * 1024)

static const JournalHeader header = {
    .run_id = "run-1", .versions = "2026-11-21T131500Z", .stable_inodes = TRUE, .filter = {.xattrs = TRUE}};

/* A set with one attribute of `length` bytes. */
static const Attrs *one_attr(gsize length)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_autofree char *value = g_malloc(length);
    memset(value, 'v', length);
    bytes_put_varint(bytes, 1);
    bytes_put_blob(bytes, "user.name", strlen("user.name"));
    bytes_put_blob(bytes, value, length);
    BytesReader in = bytes_reader(bytes->data, bytes->len);
    const Attrs *attrs = attrs_decode(&in, NULL);
    assert_non_null(attrs);
    return attrs;
}

static FileMeta some_meta(void)
{
    return (FileMeta){.mode = S_IFREG | 04750, .uid = 1000, .gid = G_MAXUINT32, .mtime_s = -3, .mtime_ns = 999999999};
}

/* One record of each kind; attrs go into the META one. */
static void put_all(JournalWriter *writer, const Attrs *attrs)
{
    JournalRecord records[] = {
        {.op = JOURNAL_PLACE, .path = "a", .staged_ino = 5, .have_ino = G_MAXUINT64, .have_mode = S_IFREG | 0600},
        {.op = JOURNAL_PATCH, .path = "b/\xff\n", .staged_ino = 6, .have_ino = 7, .meta = some_meta()},
        {.op = JOURNAL_REMOVE, .path = "b/c", .have_ino = 8, .have_mode = S_IFDIR},
        {.op = JOURNAL_META, .path = "b/d", .meta = some_meta(), .with_attrs = TRUE, .attrs = attrs},
        {.op = JOURNAL_DIR, .path = "", .meta = some_meta(), .with_attrs = TRUE, .attrs = attrs_empty()},
    };
    for (guint i = 0; i < G_N_ELEMENTS(records); i++)
        assert_true(journal_put(writer, &records[i], NULL));
    assert_int_equal(journal_count(writer), G_N_ELEMENTS(records));
}

static void write_journal(Scene *scene)
{
    const Attrs *attrs ATTRS_AUTO = one_attr(3);
    g_autoptr(JournalWriter) writer = journal_writer_new(scene->dest.state_fd, &header, NULL);
    assert_non_null(writer);
    put_all(writer, attrs);
    assert_true(journal_commit(writer, NULL));
}

static void check_meta(const FileMeta *meta)
{
    FileMeta want = some_meta();
    assert_int_equal(meta->mode, want.mode);
    assert_int_equal(meta->uid, want.uid);
    assert_int_equal(meta->gid, want.gid);
    assert_true(meta->mtime_s == want.mtime_s);
    assert_int_equal(meta->mtime_ns, want.mtime_ns);
}

static void check_records(Journal *journal)
{
    JournalRecord record;
    const Attrs *attrs ATTRS_AUTO = one_attr(3);
    assert_int_equal(journal_next(journal, &record, NULL), 1);
    assert_int_equal(record.op, JOURNAL_PLACE);
    assert_string_equal(record.path, "a");
    assert_int_equal(record.staged_ino, 5);
    assert_true(record.have_ino == G_MAXUINT64);
    assert_int_equal(record.have_mode, S_IFREG | 0600);
    assert_int_equal(journal_next(journal, &record, NULL), 1);
    assert_int_equal(record.op, JOURNAL_PATCH);
    assert_string_equal(record.path, "b/\xff\n");
    check_meta(&record.meta);
    assert_false(record.with_attrs);
    assert_int_equal(journal_next(journal, &record, NULL), 1);
    assert_int_equal(record.op, JOURNAL_REMOVE);
    assert_int_equal(record.have_mode, S_IFDIR);
    assert_int_equal(journal_next(journal, &record, NULL), 1);
    assert_int_equal(record.op, JOURNAL_META);
    check_meta(&record.meta);
    assert_true(record.with_attrs);
    assert_true(attrs_equal(record.attrs, attrs));
    assert_int_equal(journal_next(journal, &record, NULL), 1);
    assert_int_equal(record.op, JOURNAL_DIR);
    assert_string_equal(record.path, "");
    assert_true(record.with_attrs && attrs_is_empty(record.attrs));
    assert_int_equal(journal_next(journal, &record, NULL), 0);
    assert_int_equal(journal_next(journal, &record, NULL), 0);
}

static void test_every_record_comes_back(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    write_journal(scene);
    g_autoptr(Journal) journal = journal_open(scene->dest.state_fd, NULL);
    assert_non_null(journal);
    const JournalHeader *got = journal_header(journal);
    assert_string_equal(got->run_id, header.run_id);
    assert_string_equal(got->versions, header.versions);
    assert_true(got->stable_inodes && got->filter.xattrs && !got->filter.acls);
    check_records(journal);
    assert_true(journal_rewind(journal, NULL));
    check_records(journal);
    JournalRecord record;
    assert_true(journal_rewind(journal, NULL));
    assert_int_equal(journal_next(journal, &record, NULL), 1);
    assert_true(journal_rewind(journal, NULL));
    check_records(journal);
}

/* Expects these bytes to be refused with `code`. */
static void refuse(Scene *scene, const char *data, gsize length, BackappError code)
{
    g_autoptr(GError) error = NULL;
    g_auto(AutoFd) fd = openat(scene->dest.state_fd, "journal", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(pwrite(fd, data, length, 0), length);
    assert_int_equal(ftruncate(fd, (off_t)length), 0);
    g_autoptr(Journal) journal = journal_open(scene->dest.state_fd, &error);
    assert_null(journal);
    assert_true(error_is(error, code));
}

static void test_every_truncation_is_noticed(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    g_autofree char *data = NULL;
    gsize length = 0;
    write_journal(scene);
    assert_true(atomic_read(scene->dest.state_fd, "journal", JOURNAL_MAX, &data, &length, NULL));
    for (gsize i = 0; i < length; i++)
        refuse(scene, data, i, BACKAPP_ERROR_CORRUPT);
    g_autofree char *longer = g_strndup("", length + 1);
    memcpy(longer, data, length);
    refuse(scene, longer, length + 1, BACKAPP_ERROR_CORRUPT);
}

static void test_every_flipped_bit_is_noticed(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    g_autofree char *data = NULL;
    gsize length = 0;
    write_journal(scene);
    assert_true(atomic_read(scene->dest.state_fd, "journal", JOURNAL_MAX, &data, &length, NULL));
    for (gsize i = 0; i < length * 8; i++) {
        data[i / 8] = (char)(data[i / 8] ^ (1 << (i % 8)));
        refuse(scene, data, length, BACKAPP_ERROR_CORRUPT);
        data[i / 8] = (char)(data[i / 8] ^ (1 << (i % 8)));
    }
}

static void test_a_newer_format_is_not_called_damaged(void **state)
{
    /* It would be thrown away. The version is the first byte of the first frame: magic, length, checksum, payload. */
    g_autoptr(Scene) scene = scene_new();
    g_autofree char *data = NULL;
    gsize length = 0;
    write_journal(scene);
    assert_true(atomic_read(scene->dest.state_fd, "journal", JOURNAL_MAX, &data, &length, NULL));
    guint32 payload_length = 0;
    memcpy(&payload_length, data + 8, sizeof payload_length);
    data[20] = 2;
    guint64 sum = GUINT64_TO_LE(XXH3_64bits_withSeed(data + 20, GUINT32_FROM_LE(payload_length), 0));
    memcpy(data + 12, &sum, sizeof sum);
    refuse(scene, data, length, BACKAPP_ERROR_CONFLICT);
}

static void test_exchanged_records_are_noticed(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    g_autoptr(JournalWriter) writer = journal_writer_new(scene->dest.state_fd, &header, NULL);
    JournalRecord record = {.op = JOURNAL_REMOVE, .path = "first", .have_ino = 8, .have_mode = S_IFDIR};
    assert_true(journal_put(writer, &record, NULL));
    record.path = "other";
    assert_true(journal_put(writer, &record, NULL));
    assert_true(journal_commit(writer, NULL));
    g_autofree char *data = NULL;
    gsize length = 0;
    assert_true(atomic_read(scene->dest.state_fd, "journal", JOURNAL_MAX, &data, &length, NULL));
    char *a = memmem(data, length, "first", 5);
    char *b = memmem(data, length, "other", 5);
    assert_non_null(a);
    assert_non_null(b);
    gsize frame = (gsize)(b - a);
    g_autofree char *copy = g_memdup2(a - 14, frame);
    memcpy(a - 14, b - 14, frame);
    memcpy(b - 14, copy, frame);
    refuse(scene, data, length, BACKAPP_ERROR_CORRUPT);
}

static void test_what_is_not_committed_does_not_count(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    g_autoptr(GError) error = NULL;
    JournalWriter *writer = journal_writer_new(scene->dest.state_fd, &header, NULL);
    put_all(writer, attrs_empty());
    assert_null(journal_open(scene->dest.state_fd, &error));
    assert_true(error_is(error, BACKAPP_ERROR_NOT_FOUND));
    assert_true(scene_ino(scene, ".backapp/journal.new") != 0);
    journal_writer_free(writer);
    assert_true(scene_ino(scene, ".backapp/journal.new") == 0);
    journal_writer_free(NULL);
    journal_free(NULL);
}

static void test_a_journal_in_the_way_is_not_overwritten(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    g_autoptr(GError) error = NULL;
    write_journal(scene);
    assert_null(journal_writer_new(scene->dest.state_fd, &header, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CONFLICT));
    g_autoptr(Journal) journal = journal_open(scene->dest.state_fd, NULL);
    assert_non_null(journal);
}

static void test_an_old_journal_new_is_replaced(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    scene_write(scene, ".backapp/journal.new", "left by a run that was killed");
    write_journal(scene);
    g_autoptr(Journal) journal = journal_open(scene->dest.state_fd, NULL);
    assert_non_null(journal);
    check_records(journal);
}

static void test_paths_that_lead_outside_are_refused(void **state)
{
    static const char *const bad[] = {"",    "/a",   "a/", "a//b",     "..",         "a/../b",
                                      "./a", "a/..", ".",  ".backapp", ".backapp/x", "../x"};
    g_autoptr(Scene) scene = scene_new();
    g_autoptr(JournalWriter) writer = journal_writer_new(scene->dest.state_fd, &header, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        JournalRecord record = {.op = JOURNAL_REMOVE, .path = bad[i]};
        assert_false(journal_put(writer, &record, NULL));
    }
    JournalRecord fine = {.op = JOURNAL_REMOVE, .path = ".backapp2/..a/...", .have_ino = 1};
    assert_true(journal_put(writer, &fine, NULL));
    const JournalHeader bad_run = {.run_id = "../x", .versions = ""};
    const JournalHeader bad_versions = {.run_id = "x", .versions = ".."};
    assert_null(journal_writer_new(scene->dest.state_fd, &bad_run, NULL));
    assert_null(journal_writer_new(scene->dest.state_fd, &bad_versions, NULL));
}

static void test_long_records_cross_the_buffers(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    const Attrs *attrs ATTRS_AUTO = one_attr(60000);
    g_autoptr(JournalWriter) writer = journal_writer_new(scene->dest.state_fd, &header, NULL);
    JournalRecord record = {.op = JOURNAL_META, .meta = some_meta(), .with_attrs = TRUE, .attrs = attrs};
    for (guint i = 0; i < 40; i++) {
        g_autofree char *path = g_strnfill(i * 1000 + 1, 'p');
        record.path = path;
        assert_true(journal_put(writer, &record, NULL));
    }
    assert_true(journal_commit(writer, NULL));
    g_autoptr(Journal) journal = journal_open(scene->dest.state_fd, NULL);
    assert_non_null(journal);
    for (guint i = 0; i < 40; i++) {
        JournalRecord got;
        assert_int_equal(journal_next(journal, &got, NULL), 1);
        assert_int_equal(strlen(got.path), i * 1000 + 1);
        assert_true(attrs_equal(got.attrs, attrs));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_record_comes_back),
        cmocka_unit_test(test_every_truncation_is_noticed),
        cmocka_unit_test(test_every_flipped_bit_is_noticed),
        cmocka_unit_test(test_a_newer_format_is_not_called_damaged),
        cmocka_unit_test(test_exchanged_records_are_noticed),
        cmocka_unit_test(test_what_is_not_committed_does_not_count),
        cmocka_unit_test(test_a_journal_in_the_way_is_not_overwritten),
        cmocka_unit_test(test_an_old_journal_new_is_replaced),
        cmocka_unit_test(test_paths_that_lead_outside_are_refused),
        cmocka_unit_test(test_long_records_cross_the_buffers),
    };
    return cmocka_run_group_tests_name("unit/mirror/journal", tests, NULL, NULL);
}
