#include "../fs/scratch.h"

#include "db/db.h"

static const DbOptions EXCLUSIVE = {.exclusive = TRUE, .hostile = TRUE};

static char *db_path(const Scratch *scratch)
{
    return g_strconcat(scratch->path, "/db", NULL);
}

static Db *open_db(const Scratch *scratch, const DbOptions *options)
{
    g_autofree char *path = db_path(scratch);
    g_autoptr(GError) error = NULL;
    Db *db = db_open(path, options, &error);
    if (db == NULL)
        fail_msg("%s", error->message);
    return db;
}

static void test_values_come_back(void **state)
{
    g_autoptr(Db) db = open_db(*state, &EXCLUSIVE);
    static const guint8 BYTES[] = {0, 1, 255, 0};
    assert_true(db_execute(db, "CREATE TABLE t(i INTEGER, s TEXT, b BLOB, n TEXT)", NULL));
    DbQuery *put = db_query(db, "INSERT INTO t VALUES($3, $1, $2, $4)", NULL);
    assert_non_null(put);
    db_bind_text(put, 1, "text");
    db_bind_bytes(put, 2, BYTES, sizeof BYTES);
    db_bind_integer(put, 3, G_MININT64);
    db_bind_text(put, 4, NULL);
    assert_true(db_query_run(put, NULL));

    DbQuery *get = db_query(db, "SELECT i, s, b, n FROM t", NULL);
    gsize length = 0;
    assert_int_equal(db_query_next(get, NULL), 1);
    assert_true(db_column_integer(get, 0) == G_MININT64);
    assert_string_equal(db_column_text(get, 1), "text");
    const guint8 *bytes = db_column_bytes(get, 2, &length);
    assert_int_equal(length, sizeof BYTES);
    assert_memory_equal(bytes, BYTES, sizeof BYTES);
    assert_int_equal(bytes[length], 0);
    assert_true(db_column_is_null(get, 3));
    assert_null(db_column_text(get, 3));
    assert_null(db_column_text(get, 0));
    assert_int_equal(db_query_next(get, NULL), 0);
    /* Nothing of the last use is left in it. */
    assert_ptr_equal(db_query(db, "SELECT i, s, b, n FROM t", NULL), get);
    assert_int_equal(db_query_next(get, NULL), 1);
}

static void test_a_statement_forgets_its_parameters(void **state)
{
    static const char *const SQL = "SELECT $1 IS NULL";
    g_autoptr(Db) db = open_db(*state, &EXCLUSIVE);
    DbQuery *query = db_query(db, SQL, NULL);
    db_bind_integer(query, 1, 5);
    assert_int_equal(db_query_next(query, NULL), 1);
    assert_int_equal(db_column_integer(query, 0), 0);
    query = db_query(db, SQL, NULL);
    assert_int_equal(db_query_next(query, NULL), 1);
    assert_int_equal(db_column_integer(query, 0), 1);
}

static gint64 count_rows(Db *db)
{
    DbQuery *query = db_query(db, "SELECT count(*) FROM t", NULL);
    assert_int_equal(db_query_next(query, NULL), 1);
    gint64 count = db_column_integer(query, 0);
    db_query_reset(query);
    return count;
}

static gboolean insert_and_fail(Db *db)
{
    g_auto(DbTransaction) transaction = {0};
    return db_begin(db, &transaction, NULL) && db_execute(db, "INSERT INTO t VALUES(1)", NULL) &&
           db_execute(db, "INSERT INTO missing VALUES(1)", NULL) && db_commit(&transaction, NULL);
}

static void test_a_transaction_is_whole_or_not(void **state)
{
    g_autoptr(Db) db = open_db(*state, &EXCLUSIVE);
    assert_true(db_execute(db, "CREATE TABLE t(i INTEGER)", NULL));
    assert_false(insert_and_fail(db));
    assert_int_equal(count_rows(db), 0);
    g_auto(DbTransaction) transaction = {0};
    assert_true(db_begin(db, &transaction, NULL));
    assert_true(db_execute(db, "INSERT INTO t VALUES(1)", NULL));
    assert_true(db_commit(&transaction, NULL));
    assert_int_equal(count_rows(db), 1);
}

static void test_an_exclusive_one_is_alone(void **state)
{
    Scratch *scratch = *state;
    g_autofree char *path = db_path(scratch);
    g_autoptr(GError) error = NULL;
    g_autoptr(Db) db = open_db(scratch, &EXCLUSIVE);
    assert_null(db_open(path, &EXCLUSIVE, &error));
    assert_true(error_is(error, BACKAPP_ERROR_LOCKED));
    db_free(g_steal_pointer(&db));
    db = open_db(scratch, &EXCLUSIVE);
}

/* As another process sees it: what is locked there. */
static int look_for_locks(Scratch *scratch)
{
    AutoFd fd = openat(scratch->fd, "db", O_RDWR | O_CLOEXEC);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    CHECK(fd >= 0 && fcntl(fd, F_GETLK, &lock) == 0);
    CHECK(lock.l_type != F_UNLCK);
    return 0;
}

static void test_opening_again_leaves_the_locks(void **state)
{
    Scratch *scratch = *state;
    g_autofree char *path = db_path(scratch);
    g_autoptr(Db) db = open_db(scratch, &EXCLUSIVE);
    assert_non_null(db);
    RUN_CHILD(look_for_locks, scratch);
    assert_null(db_open(path, &EXCLUSIVE, NULL));
    RUN_CHILD(look_for_locks, scratch);
}

static void test_the_file_is_private(void **state)
{
    Scratch *scratch = *state;
    struct stat st;
    g_autoptr(Db) db = open_db(scratch, &EXCLUSIVE);
    assert_true(db_execute(db, "CREATE TABLE t(i INTEGER)", NULL));
    assert_int_equal(fstatat(scratch->fd, "db", &st, 0), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(fstatat(scratch->fd, "db-wal", &st, 0), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void test_damage_is_named(void **state)
{
    Scratch *scratch = *state;
    g_autofree char *path = db_path(scratch);
    g_autoptr(GError) error = NULL;
    put_file(scratch->fd, "db", "this is no database, but it is long enough to look like one", 58);
    assert_null(db_open(path, &EXCLUSIVE, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
}

static void test_a_check_finds_a_broken_page(void **state)
{
    Scratch *scratch = *state;
    {
        g_autoptr(Db) db = open_db(scratch, &EXCLUSIVE);
        assert_true(db_execute(db,
                               "CREATE TABLE t(i INTEGER PRIMARY KEY, s TEXT);"
                               "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n WHERE x<2000)"
                               " INSERT INTO t SELECT x, hex(randomblob(50)) FROM n",
                               NULL));
        assert_true(db_check(db, NULL));
    }
    AutoFd fd = openat(scratch->fd, "db", O_WRONLY | O_CLOEXEC);
    static const guint8 JUNK[64] = {0x55};
    assert_int_equal(pwrite(fd, JUNK, sizeof JUNK, 4096L * 5), sizeof JUNK);
    g_autoptr(Db) db = open_db(scratch, &EXCLUSIVE);
    g_autoptr(GError) error = NULL;
    assert_false(db_check(db, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
}

static int fill_small_disk(Scratch *scratch)
{
    if (!mount_private_tmpfs(scratch, "", "size=256k"))
        return CHILD_SKIPS;
    g_autofree char *path = db_path(scratch);
    g_autoptr(Db) db = db_open(path, &EXCLUSIVE, NULL);
    CHECK(db != NULL && db_execute(db, "CREATE TABLE t(b BLOB)", NULL));
    g_autoptr(GError) error = NULL;
    for (guint i = 0; i < 100 && error == NULL; i++)
        db_execute(db, "INSERT INTO t VALUES(randomblob(20000))", &error);
    CHECK(error_is(error, BACKAPP_ERROR_NO_SPACE));
    return 0;
}

static void test_a_full_disk_is_no_space(void **state)
{
    RUN_CHILD(fill_small_disk, *state);
}

static void test_other_errors(void **state)
{
    Scratch *scratch = *state;
    g_autoptr(GError) error = NULL;
    g_autofree char *nowhere = g_strconcat(scratch->path, "/missing/db", NULL);
    assert_null(db_open(nowhere, &EXCLUSIVE, &error));
    assert_true(error_is(error, BACKAPP_ERROR_NOT_FOUND));
    g_clear_error(&error);
    g_autoptr(Db) db = open_db(scratch, &EXCLUSIVE);
    assert_true(db_execute(db, "CREATE TABLE t(i INTEGER PRIMARY KEY); INSERT INTO t VALUES(1)", NULL));
    assert_false(db_execute(db, "INSERT INTO t VALUES(1)", &error));
    assert_true(error_is(error, BACKAPP_ERROR_CONFLICT));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(test_values_come_back),
        SCRATCH_TEST(test_a_statement_forgets_its_parameters),
        SCRATCH_TEST(test_a_transaction_is_whole_or_not),
        SCRATCH_TEST(test_an_exclusive_one_is_alone),
        SCRATCH_TEST(test_opening_again_leaves_the_locks),
        SCRATCH_TEST(test_the_file_is_private),
        SCRATCH_TEST(test_damage_is_named),
        SCRATCH_TEST(test_a_check_finds_a_broken_page),
        SCRATCH_TEST(test_a_full_disk_is_no_space),
        SCRATCH_TEST(test_other_errors),
    };
    return cmocka_run_group_tests_name("db", tests, NULL, NULL);
}
