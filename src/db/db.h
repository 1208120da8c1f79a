/*
 * SQLite, as far as this program uses it: a file in WAL mode with one writer, statements prepared once, parameters
 * written $1, $2, ..., errors in our domain. SQL is never made of data. A Db, its queries and transactions belong to one
 * thread at a time; whoever shares one locks.
 *
 * Errors: NO_SPACE (disk full), LOCKED (another connection holds it), DENIED, CORRUPT (damaged, or no database),
 * NOT_FOUND (the file's directory), CONFLICT (a constraint), INVALID (too large), TRANSIENT (no memory), else INTERNAL.
 */
#pragma once

#include <glib.h>

typedef struct Db Db;

typedef struct {
    gboolean exclusive; /* nobody else may have it open; LOCKED at once if somebody has */
    gboolean durable;   /* each commit survives a power failure; else the last ones may be lost, never torn */
    guint busy_ms;      /* how long to wait for another writer */
    gboolean hostile;   /* the file may have been made by others: every page is checked when it is read */
} DbOptions;

/* Opens or makes the database file `path` (mode 0600). */
Db *db_open(const char *path, const DbOptions *options, GError **error);

/* Reads the whole file and checks its structure: CORRUPT names what is wrong. */
gboolean db_check(Db *db, GError **error);

/* Changes how durable commits are; not inside a transaction. */
gboolean db_set_durable(Db *db, gboolean durable, GError **error);

/* Runs statements without parameters or rows, separated by semicolons. */
gboolean db_execute(Db *db, const char *sql, GError **error);

/* A statement with its parameters. Prepared at the first call with this sql and kept (sql must live as long as the Db:
 * a constant); each call resets it and clears its parameters. One use of a statement at a time. Valid until db_free. */
typedef struct DbQuery DbQuery;
DbQuery *db_query(Db *db, const char *sql, GError **error);

/* Give $number its value. Text and bytes must live until the query is stepped for the last time or reset; NULL bytes or
 * text are SQL's NULL. A failure is reported by the next db_query_next. */
void db_bind_integer(DbQuery *query, guint number, gint64 value);
void db_bind_text(DbQuery *query, guint number, const char *text);
void db_bind_bytes(DbQuery *query, guint number, const void *bytes, gsize length);

/* The next row: 1; 0 at the end (then the query is reset); -1 on error (reset too). */
int db_query_next(DbQuery *query, GError **error);
/* Runs it to its end, rows are ignored. */
gboolean db_query_run(DbQuery *query, GError **error);
/* Ends it before its last row. */
void db_query_reset(DbQuery *query);

/* Columns of the present row, from 0, valid until the next step. Text and bytes are NULL for SQL's NULL, text also if it
 * is not what it should be; an integer is then 0. Bytes are zero-terminated behind their length. */
gint64 db_column_integer(DbQuery *query, guint column);
const char *db_column_text(DbQuery *query, guint column);
const guint8 *db_column_bytes(DbQuery *query, guint column, gsize *length);
gboolean db_column_is_null(DbQuery *query, guint column);

/* A transaction that is rolled back at the end of its scope unless it was committed:
 *     g_auto(DbTransaction) transaction = {0};
 *     ... db_begin(db, &transaction, error) && ... && db_commit(&transaction, error) */
typedef struct {
    Db *db;
} DbTransaction;
gboolean db_begin(Db *db, DbTransaction *transaction, GError **error);
gboolean db_commit(DbTransaction *transaction, GError **error);
void db_rollback(DbTransaction *transaction);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(DbTransaction, db_rollback)

/* Closes; an open transaction is rolled back. NULL is a no-op. */
void db_free(Db *db);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Db, db_free)
