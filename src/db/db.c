#include "db/db.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

#define PARAMETERS_MAX 32
/* The longest text or bytes in a row: 10,000 hashes of parts are 320 KB. */
#define LENGTH_MAX (16 * 1024 * 1024)

struct Db {
    sqlite3 *handle;
    char *path;
    GHashTable *queries; /* sql (the caller's) to DbQuery, owned */
};

struct DbQuery {
    Db *db;
    sqlite3_stmt *statement;
    int index[PARAMETERS_MAX + 1]; /* of $1 and so on in SQLite's count; 0: not in the statement */
    int failed;                    /* SQLite's code of the first bind that failed */
};

static BackappError code_of(int extended, int errnum)
{
    if (errnum == ENOSPC || errnum == EDQUOT)
        return BACKAPP_ERROR_NO_SPACE;
    switch (extended & 0xff) {
    case SQLITE_FULL:
        return BACKAPP_ERROR_NO_SPACE;
    case SQLITE_BUSY:
        return BACKAPP_ERROR_LOCKED;
    case SQLITE_LOCKED:
    case SQLITE_NOMEM:
    case SQLITE_SCHEMA:
        return BACKAPP_ERROR_TRANSIENT;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
        return BACKAPP_ERROR_CORRUPT;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return BACKAPP_ERROR_DENIED;
    case SQLITE_CONSTRAINT:
        return BACKAPP_ERROR_CONFLICT;
    case SQLITE_TOOBIG:
        return BACKAPP_ERROR_INVALID;
    case SQLITE_INTERRUPT:
        return BACKAPP_ERROR_CANCELLED;
    case SQLITE_CANTOPEN:
        return errnum != 0 ? error_code_from_errno(errnum) : BACKAPP_ERROR_DENIED;
    default:
        return BACKAPP_ERROR_INTERNAL;
    }
}

/* Sets what the handle says of its last failure. `code` is what the call returned. */
static gboolean fail(const Db *db, int code, const char *what, GError **error)
{
    int extended = sqlite3_errcode(db->handle) == (code & 0xff) ? sqlite3_extended_errcode(db->handle) : code;
    gboolean by_system = (code & 0xff) == SQLITE_IOERR || (code & 0xff) == SQLITE_CANTOPEN;
    int errnum = by_system ? sqlite3_system_errno(db->handle) : 0;
    const char *said = sqlite3_errcode(db->handle) == SQLITE_OK ? sqlite3_errstr(code) : sqlite3_errmsg(db->handle);
    return error_set(error, code_of(extended, errnum), "cannot %s the database %s: %s%s%s", what, db->path, said,
                     errnum != 0 ? ": " : "", errnum != 0 ? g_strerror(errnum) : "");
}

static gboolean run_pragma(Db *db, const char *sql, GError **error)
{
    int code = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);
    return code == SQLITE_OK || fail(db, code, "set up", error);
}

/* SQLite makes files with mode 0644: it is made before, so that the names in it stay private. One that is there is not
 * opened: to close it again would drop the locks that other connections of this process have on it. */
static gboolean make_file(const char *path, GError **error)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 && errno == EEXIST)
        return TRUE;
    if (fd < 0)
        return error_set_errno(error, errno, "cannot open the database %s", path);
    (void)close(fd); /* nothing was written */
    return TRUE;
}

static gboolean configure(Db *db, const DbOptions *options, GError **error)
{
    (void)sqlite3_extended_result_codes(db->handle, 1);
    (void)sqlite3_limit(db->handle, SQLITE_LIMIT_LENGTH, LENGTH_MAX);
    (void)sqlite3_limit(db->handle, SQLITE_LIMIT_ATTACHED, 0);
    (void)sqlite3_busy_timeout(db->handle, (int)MIN(options->busy_ms, G_MAXINT));
    /* A file that others made must not run anything by its schema. */
    (void)sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    (void)sqlite3_db_config(db->handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    (void)sqlite3_db_config(db->handle, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    (void)sqlite3_db_config(db->handle, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
    if (options->hostile && !run_pragma(db, "PRAGMA cell_size_check=ON; PRAGMA mmap_size=0", error))
        return FALSE;
    /* Before the WAL mode: then its index is in memory instead of a file that others could map. */
    if (options->exclusive && !run_pragma(db, "PRAGMA locking_mode=EXCLUSIVE", error))
        return FALSE;
    if (!run_pragma(db, "PRAGMA journal_mode=WAL", error) || !db_set_durable(db, options->durable, error) ||
        !run_pragma(db, "PRAGMA foreign_keys=ON; PRAGMA temp_store=MEMORY", error))
        return FALSE;
    /* The lock is taken by the first access: now, so that a second process hears of it here. */
    return !options->exclusive || run_pragma(db, "BEGIN IMMEDIATE; COMMIT", error);
}

static void query_free(gpointer data)
{
    DbQuery *query = data;
    (void)sqlite3_finalize(query->statement); /* repeats what the last step said */
    g_free(query);
}

Db *db_open(const char *path, const DbOptions *options, GError **error)
{
    if (!make_file(path, error))
        return NULL;
    g_autoptr(Db) db = g_new0(Db, 1);
    db->path = g_strdup(path);
    db->queries = g_hash_table_new_full(NULL, NULL, NULL, query_free);
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_NOFOLLOW;
    int code = sqlite3_open_v2(path, &db->handle, flags, NULL);
    if (code != SQLITE_OK && db->handle == NULL) {
        error_set(error, BACKAPP_ERROR_TRANSIENT, "cannot open the database %s: out of memory", path);
        return NULL;
    }
    if (code != SQLITE_OK) {
        fail(db, code, "open", error);
        return NULL;
    }
    return configure(db, options, error) ? g_steal_pointer(&db) : NULL;
}

gboolean db_check(Db *db, GError **error)
{
    DbQuery *query = db_query(db, "PRAGMA quick_check(1)", error);
    int got = query != NULL ? db_query_next(query, error) : -1;
    if (got < 0)
        return FALSE;
    const char *said = got == 1 ? db_column_text(query, 0) : NULL;
    gboolean good = said != NULL && strcmp(said, "ok") == 0;
    if (!good)
        error_set(error, BACKAPP_ERROR_CORRUPT, "the database %s is damaged: %s", db->path,
                  said != NULL ? said : "it cannot be checked");
    db_query_reset(query);
    return good;
}

gboolean db_set_durable(Db *db, gboolean durable, GError **error)
{
    return run_pragma(db, durable ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL", error);
}

gboolean db_execute(Db *db, const char *sql, GError **error)
{
    int code = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);
    return code == SQLITE_OK || fail(db, code, "change", error);
}

static void find_parameters(DbQuery *query)
{
    for (int i = 1; i <= sqlite3_bind_parameter_count(query->statement); i++) {
        const char *name = sqlite3_bind_parameter_name(query->statement, i);
        guint64 number = name != NULL && name[0] == '$' ? g_ascii_strtoull(name + 1, NULL, 10) : 0;
        g_assert(number >= 1 && number <= PARAMETERS_MAX);
        query->index[number] = i;
    }
}

DbQuery *db_query(Db *db, const char *sql, GError **error)
{
    DbQuery *query = g_hash_table_lookup(db->queries, sql);
    if (query != NULL) {
        db_query_reset(query);
        (void)sqlite3_clear_bindings(query->statement); /* cannot fail */
        query->failed = SQLITE_OK;
        return query;
    }
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL);
    if (code != SQLITE_OK) {
        fail(db, code, "ask", error);
        return NULL;
    }
    query = g_new0(DbQuery, 1);
    query->db = db;
    query->statement = statement;
    find_parameters(query);
    g_hash_table_insert(db->queries, (gpointer)sql, query);
    return query;
}

static void note(DbQuery *query, int code)
{
    if (query->failed == SQLITE_OK)
        query->failed = code;
}

static int index_of(const DbQuery *query, guint number)
{
    g_assert(number >= 1 && number <= PARAMETERS_MAX && query->index[number] > 0);
    return query->index[number];
}

void db_bind_integer(DbQuery *query, guint number, gint64 value)
{
    note(query, sqlite3_bind_int64(query->statement, index_of(query, number), value));
}

void db_bind_text(DbQuery *query, guint number, const char *text)
{
    note(query, sqlite3_bind_text(query->statement, index_of(query, number), text, -1, SQLITE_STATIC));
}

void db_bind_bytes(DbQuery *query, guint number, const void *bytes, gsize length)
{
    note(query, sqlite3_bind_blob64(query->statement, index_of(query, number), bytes, length, SQLITE_STATIC));
}

int db_query_next(DbQuery *query, GError **error)
{
    int code = query->failed != SQLITE_OK ? query->failed : sqlite3_step(query->statement);
    if (code == SQLITE_ROW)
        return 1;
    if (code != SQLITE_DONE)
        fail(query->db, code, "use", error);
    db_query_reset(query);
    return code == SQLITE_DONE ? 0 : -1;
}

gboolean db_query_run(DbQuery *query, GError **error)
{
    int got = 1;
    while (got == 1)
        got = db_query_next(query, error);
    return got == 0;
}

void db_query_reset(DbQuery *query)
{
    (void)sqlite3_reset(query->statement); /* repeats what the last step said */
}

gint64 db_column_integer(DbQuery *query, guint column)
{
    return sqlite3_column_int64(query->statement, (int)column);
}

const char *db_column_text(DbQuery *query, guint column)
{
    if (sqlite3_column_type(query->statement, (int)column) != SQLITE_TEXT)
        return NULL;
    return (const char *)sqlite3_column_text(query->statement, (int)column);
}

const guint8 *db_column_bytes(DbQuery *query, guint column, gsize *length)
{
    *length = 0;
    if (db_column_is_null(query, column))
        return NULL;
    /* As text: only that is terminated, and SQLite takes the bytes as they are. */
    const guint8 *bytes = sqlite3_column_text(query->statement, (int)column);
    *length = bytes != NULL ? (gsize)sqlite3_column_bytes(query->statement, (int)column) : 0;
    return bytes;
}

gboolean db_column_is_null(DbQuery *query, guint column)
{
    return sqlite3_column_type(query->statement, (int)column) == SQLITE_NULL;
}

gboolean db_begin(Db *db, DbTransaction *transaction, GError **error)
{
    int code = sqlite3_exec(db->handle, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    if (code != SQLITE_OK)
        return fail(db, code, "write", error);
    transaction->db = db;
    return TRUE;
}

gboolean db_commit(DbTransaction *transaction, GError **error)
{
    Db *db = transaction->db;
    int code = sqlite3_exec(db->handle, "COMMIT", NULL, NULL, NULL);
    if (code != SQLITE_OK)
        return fail(db, code, "write", error); /* the scope's end rolls back */
    transaction->db = NULL;
    return TRUE;
}

void db_rollback(DbTransaction *transaction)
{
    /* After some errors (disk full) SQLite has rolled back by itself. */
    if (transaction->db != NULL && !sqlite3_get_autocommit(transaction->db->handle))
        (void)sqlite3_exec(transaction->db->handle, "ROLLBACK", NULL, NULL, NULL);
    transaction->db = NULL;
}

void db_free(Db *db)
{
    if (db == NULL)
        return;
    g_hash_table_destroy(db->queries);
    (void)sqlite3_close(db->handle); /* no statement is left, so it closes */
    g_free(db->path);
    g_free(db);
}
