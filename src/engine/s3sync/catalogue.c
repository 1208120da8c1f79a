#include "engine/s3sync/catalogue.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "db/db.h"

#define FORMAT        "1"
#define BATCH_ROWS    1000
#define BATCH_US      G_USEC_PER_SEC
#define PARTS_MAX     10000
#define UPLOADS_MAX   100000
#define KEY_MAX_BYTES (8 * 1024 * 1024)

static const char *const SCHEMA =
    "CREATE TABLE IF NOT EXISTS facts(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS objects(key BLOB PRIMARY KEY, object_size INTEGER NOT NULL, size INTEGER NOT NULL,"
    " mtime_s INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_s INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,"
    " ino INTEGER NOT NULL, etag TEXT, version TEXT, class TEXT, part_size INTEGER NOT NULL, hash BLOB) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS parts(key BLOB PRIMARY KEY, hashes BLOB NOT NULL);"
    "CREATE TABLE IF NOT EXISTS uploads(id TEXT PRIMARY KEY, key BLOB NOT NULL, size INTEGER NOT NULL,"
    " part_size INTEGER NOT NULL, mtime_s INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_s INTEGER NOT NULL,"
    " ctime_ns INTEGER NOT NULL, ino INTEGER NOT NULL, started INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS wrong(key BLOB PRIMARY KEY) WITHOUT ROWID;";

#define ROW_COLUMNS                                                                                                    \
    "key,object_size,size,mtime_s,mtime_ns,ctime_s,ctime_ns,ino,etag,version,class,part_size,hash FROM objects"

static const char *const READ_ALL = "SELECT " ROW_COLUMNS " ORDER BY key";
static const char *const FIND = "SELECT " ROW_COLUMNS " WHERE key=$1";
static const char *const FIND_PARTS = "SELECT hashes FROM parts WHERE key=$1";
static const char *const PUT = "INSERT INTO objects VALUES($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13)"
                               " ON CONFLICT(key) DO UPDATE SET object_size=$2,size=$3,mtime_s=$4,mtime_ns=$5,"
                               "ctime_s=$6,ctime_ns=$7,ino=$8,etag=$9,version=$10,class=$11,part_size=$12,hash=$13";
static const char *const ANY_PARTS = "SELECT 1 FROM parts LIMIT 1";
static const char *const ANY_WRONG = "SELECT 1 FROM wrong LIMIT 1";
static const char *const PUT_PARTS = "INSERT OR REPLACE INTO parts VALUES($1,$2)";
static const char *const REMOVE = "DELETE FROM objects WHERE key=$1";
static const char *const REMOVE_PARTS = "DELETE FROM parts WHERE key=$1";
static const char *const ADD_WRONG = "INSERT OR IGNORE INTO wrong VALUES($1)";
static const char *const REMOVE_WRONG = "DELETE FROM wrong WHERE key=$1";
static const char *const READ_WRONG = "SELECT key FROM wrong LIMIT $1";
static const char *const GET_FACT = "SELECT value FROM facts WHERE name=$1";
static const char *const SET_FACT = "INSERT OR REPLACE INTO facts VALUES($1,$2)";
static const char *const REMOVE_FACT = "DELETE FROM facts WHERE name=$1";
static const char *const PUT_UPLOAD = "INSERT OR REPLACE INTO uploads VALUES($1,$2,$3,$4,$5,$6,$7,$8,$9,$10)";
static const char *const REMOVE_UPLOAD = "DELETE FROM uploads WHERE id=$1";
#define UPLOAD_COLUMNS "id,key,size,part_size,mtime_s,mtime_ns,ctime_s,ctime_ns,ino,started FROM uploads"
static const char *const FIND_UPLOAD = "SELECT " UPLOAD_COLUMNS " WHERE key=$1 ORDER BY started DESC, id LIMIT 1";
static const char *const READ_UPLOADS = "SELECT " UPLOAD_COLUMNS " ORDER BY key, started";

struct Catalogue {
    GMutex lock; /* of all below: pools write rows */
    Db *db;
    char *path;
    DbTransaction batch; /* open if batch.db is set */
    guint batch_rows;
    gint64 batch_began;
    gboolean has_parts; /* some row has, or had, parts: else there are none to remove */
    gboolean has_wrong; /* likewise */
};

struct CatalogueReader {
    Catalogue *catalogue;
    DbQuery *query; /* NULL at the end */
    CatalogueRow row;
    GByteArray *previous; /* key, to see that the order holds */
};

/* What fails with CORRUPT here will fail again: the file is moved aside, so that the next run begins with a new one. */
static gboolean failed(Catalogue *catalogue, GError **error)
{
    if (error == NULL || !error_is(*error, BACKAPP_ERROR_CORRUPT))
        return FALSE;
    g_autofree char *aside = g_strconcat(catalogue->path, ".damaged", NULL);
    if (rename(catalogue->path, aside) == 0)
        g_prefix_error(error, "the catalogue is damaged and was moved to %s; the next run makes it anew: ", aside);
    return FALSE;
}

static gboolean commit_batch(Catalogue *catalogue, GError **error)
{
    if (catalogue->batch.db == NULL)
        return TRUE;
    catalogue->batch_rows = 0;
    gboolean good = db_commit(&catalogue->batch, error);
    db_rollback(&catalogue->batch);
    return good || failed(catalogue, error);
}

static gboolean join_batch(Catalogue *catalogue, GError **error)
{
    if (catalogue->batch.db != NULL)
        return TRUE;
    catalogue->batch_began = g_get_monotonic_time();
    return db_begin(catalogue->db, &catalogue->batch, error);
}

/* After a change: commits when enough are together. */
static gboolean leave_batch(Catalogue *catalogue, gboolean good, GError **error)
{
    if (!good) {
        /* What was written before in the batch is right, but SQLite may have rolled it back with the rest. Rows that are
         * missing are found out again. */
        db_rollback(&catalogue->batch);
        catalogue->batch_rows = 0;
        return failed(catalogue, error);
    }
    catalogue->batch_rows++;
    gboolean full = catalogue->batch_rows >= BATCH_ROWS;
    return (!full && g_get_monotonic_time() - catalogue->batch_began < BATCH_US) || commit_batch(catalogue, error);
}

static char *get_fact(Db *db, const char *name, GError **error)
{
    DbQuery *query = db_query(db, GET_FACT, error);
    if (query == NULL)
        return NULL;
    db_bind_text(query, 1, name);
    char *value = db_query_next(query, error) == 1 ? g_strdup(db_column_text(query, 0)) : NULL;
    db_query_reset(query);
    return value;
}

/* value NULL removes it. */
static gboolean set_fact(Db *db, const char *name, const char *value, GError **error)
{
    DbQuery *query = db_query(db, value != NULL ? SET_FACT : REMOVE_FACT, error);
    if (query == NULL)
        return FALSE;
    db_bind_text(query, 1, name);
    if (value != NULL)
        db_bind_text(query, 2, value);
    return db_query_run(query, error);
}

/* Tables and destination of a file that may be new. */
static gboolean prepare(Db *db, const char *path, const char *destination, gboolean *fresh, gboolean *unfinished,
                        GError **error)
{
    g_auto(DbTransaction) transaction = {0};
    g_autoptr(GError) local = NULL;
    if (!db_begin(db, &transaction, error) || !db_execute(db, SCHEMA, error))
        return FALSE;
    g_autofree char *format = get_fact(db, "format", &local);
    g_autofree char *whose = local == NULL ? get_fact(db, "destination", &local) : NULL;
    g_autofree char *run = local == NULL ? get_fact(db, "run", &local) : NULL;
    if (local != NULL) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    *fresh = format == NULL;
    *unfinished = run != NULL;
    if (format != NULL && strcmp(format, FORMAT) != 0)
        return error_set(error, BACKAPP_ERROR_CONFLICT,
                         "the catalogue %s was written by another version of this program; remove it", path);
    if (whose != NULL && strcmp(whose, destination) != 0)
        return error_set(error, BACKAPP_ERROR_CONFLICT, "the catalogue %s belongs to %s, not to %s; remove it", path,
                         whose, destination);
    return (format != NULL && whose != NULL) ||
           (set_fact(db, "format", FORMAT, error) && set_fact(db, "destination", destination, error) &&
            db_commit(&transaction, error));
}

static gboolean any_row(Db *db, const char *sql)
{
    DbQuery *query = db_query(db, sql, NULL);
    gboolean any = query == NULL || db_query_next(query, NULL) != 0;
    if (query != NULL)
        db_query_reset(query);
    return any;
}

static Db *open_once(const char *path, const char *destination, gboolean *fresh, gboolean *unfinished, GError **error)
{
    DbOptions options = {.exclusive = TRUE, .hostile = TRUE};
    g_autoptr(Db) db = db_open(path, &options, error);
    /* Only after a crash or power failure is it worth the time to read all of it. */
    if (db == NULL || !prepare(db, path, destination, fresh, unfinished, error) ||
        (*unfinished && !db_check(db, error)))
        return NULL;
    return g_steal_pointer(&db);
}

static gboolean move_aside(const char *path, GError **error)
{
    static const char *const COMPANIONS[] = {"-wal", "-shm", "-journal"};
    g_autofree char *aside = g_strconcat(path, ".damaged", NULL);
    if (rename(path, aside) != 0)
        return error_set_errno(error, errno, "cannot move the damaged catalogue %s aside", path);
    for (guint i = 0; i < G_N_ELEMENTS(COMPANIONS); i++) {
        /* Never to be replayed into the new file. */
        g_autofree char *companion = g_strconcat(path, COMPANIONS[i], NULL);
        if (unlink(companion) != 0 && errno != ENOENT)
            return error_set_errno(error, errno, "cannot remove %s", companion);
    }
    return TRUE;
}

Catalogue *catalogue_open(const char *path, const char *destination, gboolean *fresh, gboolean *unfinished,
                          GError **error)
{
    g_autoptr(GError) local = NULL;
    *fresh = *unfinished = FALSE;
    Db *db = open_once(path, destination, fresh, unfinished, &local);
    if (db == NULL && error_is(local, BACKAPP_ERROR_CORRUPT)) {
        g_clear_error(&local);
        if (move_aside(path, &local))
            db = open_once(path, destination, fresh, unfinished, &local);
    }
    if (db == NULL) {
        gboolean locked = error_is(local, BACKAPP_ERROR_LOCKED);
        g_propagate_error(error, g_steal_pointer(&local));
        if (locked)
            g_prefix_error(error, "another run for this destination is at work: ");
        return NULL;
    }
    Catalogue *catalogue = g_new0(Catalogue, 1);
    g_mutex_init(&catalogue->lock);
    catalogue->db = db;
    catalogue->path = g_strdup(path);
    catalogue->has_parts = any_row(db, ANY_PARTS);
    catalogue->has_wrong = any_row(db, ANY_WRONG);
    return catalogue;
}

void catalogue_free(Catalogue *catalogue)
{
    if (catalogue == NULL)
        return;
    (void)commit_batch(catalogue, NULL); /* rows that are lost are found out again */
    db_free(catalogue->db);
    g_mutex_clear(&catalogue->lock);
    g_free(catalogue->path);
    g_free(catalogue);
}

char *catalogue_get_value(Catalogue *catalogue, const char *name, GError **error)
{
    g_autofree char *full = g_strconcat("value ", name, NULL);
    g_autoptr(GError) local = NULL;
    g_mutex_lock(&catalogue->lock);
    char *value = get_fact(catalogue->db, full, &local);
    if (local != NULL) {
        failed(catalogue, &local);
        g_propagate_error(error, g_steal_pointer(&local));
    }
    g_mutex_unlock(&catalogue->lock);
    return value;
}

gboolean catalogue_set_value(Catalogue *catalogue, const char *name, const char *value, GError **error)
{
    g_autofree char *full = g_strconcat("value ", name, NULL);
    g_autoptr(GError) local = NULL;
    g_mutex_lock(&catalogue->lock);
    gboolean good =
        join_batch(catalogue, &local) && leave_batch(catalogue, set_fact(catalogue->db, full, value, &local), &local);
    g_mutex_unlock(&catalogue->lock);
    if (!good)
        g_propagate_error(error, g_steal_pointer(&local));
    return good;
}

/* One fact, written at once and to the disk. */
static gboolean set_durable_fact(Catalogue *catalogue, const char *name, const char *value, GError **error)
{
    g_mutex_lock(&catalogue->lock);
    gboolean good = commit_batch(catalogue, error) && db_set_durable(catalogue->db, TRUE, error) &&
                    set_fact(catalogue->db, name, value, error) && db_set_durable(catalogue->db, FALSE, error);
    g_mutex_unlock(&catalogue->lock);
    return good;
}

gboolean catalogue_begin_run(Catalogue *catalogue, GError **error)
{
    return set_durable_fact(catalogue, "run", "begun", error);
}

gboolean catalogue_end_run(Catalogue *catalogue, GError **error)
{
    return set_durable_fact(catalogue, "run", NULL, error);
}

gboolean catalogue_flush(Catalogue *catalogue, GError **error)
{
    g_mutex_lock(&catalogue->lock);
    gboolean good = commit_batch(catalogue, error);
    g_mutex_unlock(&catalogue->lock);
    return good;
}

static gboolean damaged_row(GError **error)
{
    return error_set(error, BACKAPP_ERROR_CORRUPT, "a row of the catalogue is damaged");
}

/* Strings point into the query's row. */
static gboolean read_row(DbQuery *query, CatalogueRow *row, gsize *key_length, GError **error)
{
    gsize hash_length = 0;
    *row = (CatalogueRow){.key = (const char *)db_column_bytes(query, 0, key_length)};
    row->object_size = (guint64)db_column_integer(query, 1);
    row->size = (guint64)db_column_integer(query, 2);
    row->mtime_s = db_column_integer(query, 3);
    row->mtime_ns = (guint32)db_column_integer(query, 4);
    row->ctime_s = db_column_integer(query, 5);
    row->ctime_ns = (guint32)db_column_integer(query, 6);
    row->ino = (guint64)db_column_integer(query, 7);
    row->etag = db_column_text(query, 8);
    row->version = db_column_text(query, 9);
    row->storage_class = db_column_text(query, 10);
    row->part_size = (guint64)db_column_integer(query, 11);
    const guint8 *hash = db_column_bytes(query, 12, &hash_length);
    if (row->key == NULL || *key_length == 0 || *key_length > KEY_MAX_BYTES ||
        memchr(row->key, 0, *key_length) != NULL || (hash != NULL && hash_length != HASH_BYTES))
        return damaged_row(error);
    if (hash != NULL)
        memcpy(row->hash, hash, HASH_BYTES);
    else
        row->part_size = 0;
    return TRUE;
}

CatalogueReader *catalogue_reader_new(Catalogue *catalogue, GError **error)
{
    g_mutex_lock(&catalogue->lock);
    DbQuery *query = db_query(catalogue->db, READ_ALL, error);
    g_mutex_unlock(&catalogue->lock);
    if (query == NULL)
        return NULL;
    CatalogueReader *reader = g_new0(CatalogueReader, 1);
    reader->catalogue = catalogue;
    reader->query = query;
    reader->previous = g_byte_array_new();
    return reader;
}

static gboolean check_order(CatalogueReader *reader, gsize length, GError **error)
{
    GByteArray *previous = reader->previous;
    const char *key = reader->row.key;
    if (previous->len > 0 && strcmp((const char *)previous->data, key) >= 0)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "the rows of the catalogue are out of order");
    g_byte_array_set_size(previous, 0);
    g_byte_array_append(previous, (const guint8 *)key, (guint)length + 1);
    return TRUE;
}

int catalogue_reader_next(CatalogueReader *reader, const CatalogueRow **row, GError **error)
{
    if (reader->query == NULL)
        return 0;
    g_autoptr(GError) local = NULL;
    gsize length = 0;
    g_mutex_lock(&reader->catalogue->lock);
    int got = db_query_next(reader->query, &local);
    if (got == 1 && (!read_row(reader->query, &reader->row, &length, &local) || !check_order(reader, length, &local)))
        got = -1;
    if (got < 0) {
        failed(reader->catalogue, &local);
        g_propagate_error(error, g_steal_pointer(&local));
        db_query_reset(reader->query);
    }
    g_mutex_unlock(&reader->catalogue->lock);
    if (got < 1)
        reader->query = NULL;
    *row = &reader->row;
    return got;
}

void catalogue_reader_free(CatalogueReader *reader)
{
    if (reader == NULL)
        return;
    g_mutex_lock(&reader->catalogue->lock);
    if (reader->query != NULL)
        db_query_reset(reader->query);
    g_mutex_unlock(&reader->catalogue->lock);
    g_byte_array_unref(reader->previous);
    g_free(reader);
}

static DbQuery *query_by_key(Catalogue *catalogue, const char *sql, const char *key, GError **error)
{
    DbQuery *query = db_query(catalogue->db, sql, error);
    if (query != NULL)
        db_bind_bytes(query, 1, key, strlen(key));
    return query;
}

static gboolean find_parts(Catalogue *catalogue, CatalogueRow *row, GError **error)
{
    DbQuery *query = query_by_key(catalogue, FIND_PARTS, row->key, error);
    int got = query != NULL ? db_query_next(query, error) : -1;
    if (got <= 0)
        return got == 0;
    gsize length = 0;
    const guint8 *hashes = db_column_bytes(query, 0, &length);
    gboolean good = hashes != NULL && length > 0 && length % HASH_BYTES == 0 && length / HASH_BYTES <= PARTS_MAX;
    if (good) {
        row->parts = g_memdup2(hashes, length);
        row->parts_count = (guint)(length / HASH_BYTES);
    }
    db_query_reset(query);
    return good || damaged_row(error);
}

int catalogue_find(Catalogue *catalogue, const char *key, CatalogueRow **row, GError **error)
{
    g_autoptr(GError) local = NULL;
    gsize length = 0;
    *row = NULL;
    g_mutex_lock(&catalogue->lock);
    DbQuery *query = query_by_key(catalogue, FIND, key, &local);
    int got = query != NULL ? db_query_next(query, &local) : -1;
    if (got == 1) {
        CatalogueRow found;
        got = read_row(query, &found, &length, &local) ? 1 : -1;
        if (got == 1) {
            *row = g_memdup2(&found, sizeof found);
            (*row)->key = g_strdup(found.key);
            (*row)->etag = g_strdup(found.etag);
            (*row)->version = g_strdup(found.version);
            (*row)->storage_class = g_strdup(found.storage_class);
        }
        db_query_reset(query);
    }
    if (got == 1 && !find_parts(catalogue, *row, &local))
        got = -1;
    if (got < 0) {
        failed(catalogue, &local);
        g_propagate_error(error, g_steal_pointer(&local));
        catalogue_row_free(*row);
        *row = NULL;
    }
    g_mutex_unlock(&catalogue->lock);
    return got;
}

void catalogue_row_free(CatalogueRow *row)
{
    if (row == NULL)
        return;
    g_free((char *)row->key);
    g_free((char *)row->etag);
    g_free((char *)row->version);
    g_free((char *)row->storage_class);
    g_free((guint8 *)row->parts);
    g_free(row);
}

static gboolean put_parts(Catalogue *catalogue, const CatalogueRow *row, GError **error)
{
    if (row->parts_count == 0 && !catalogue->has_parts)
        return TRUE;
    catalogue->has_parts = TRUE;
    DbQuery *query = query_by_key(catalogue, row->parts_count > 0 ? PUT_PARTS : REMOVE_PARTS, row->key, error);
    if (query != NULL && row->parts_count > 0)
        db_bind_bytes(query, 2, row->parts, (gsize)row->parts_count * HASH_BYTES);
    return query != NULL && db_query_run(query, error);
}

static gboolean put_row(Catalogue *catalogue, const CatalogueRow *row, GError **error)
{
    DbQuery *query = query_by_key(catalogue, PUT, row->key, error);
    if (query == NULL)
        return FALSE;
    db_bind_integer(query, 2, (gint64)row->object_size);
    db_bind_integer(query, 3, (gint64)row->size);
    db_bind_integer(query, 4, row->mtime_s);
    db_bind_integer(query, 5, row->mtime_ns);
    db_bind_integer(query, 6, row->ctime_s);
    db_bind_integer(query, 7, row->ctime_ns);
    db_bind_integer(query, 8, (gint64)row->ino);
    db_bind_text(query, 9, row->etag);
    db_bind_text(query, 10, row->version);
    db_bind_text(query, 11, row->storage_class);
    db_bind_integer(query, 12, (gint64)row->part_size);
    db_bind_bytes(query, 13, row->part_size > 0 ? row->hash : NULL, HASH_BYTES);
    if (!db_query_run(query, error) || !put_parts(catalogue, row, error))
        return FALSE;
    DbQuery *right = catalogue->has_wrong ? query_by_key(catalogue, REMOVE_WRONG, row->key, error) : NULL;
    return !catalogue->has_wrong || (right != NULL && db_query_run(right, error));
}

gboolean catalogue_put(Catalogue *catalogue, const CatalogueRow *row, GError **error)
{
    if (row->parts_count > PARTS_MAX)
        return error_set(error, BACKAPP_ERROR_INTERNAL, "catalogue: an object of %u parts", row->parts_count);
    g_autoptr(GError) local = NULL;
    g_mutex_lock(&catalogue->lock);
    gboolean good = join_batch(catalogue, &local) && leave_batch(catalogue, put_row(catalogue, row, &local), &local);
    g_mutex_unlock(&catalogue->lock);
    if (!good)
        g_propagate_error(error, g_steal_pointer(&local));
    return good;
}

static gboolean remove_row(Catalogue *catalogue, const char *key, GError **error)
{
    DbQuery *row = query_by_key(catalogue, REMOVE, key, error);
    if (row == NULL || !db_query_run(row, error))
        return FALSE;
    if (!catalogue->has_parts)
        return TRUE;
    DbQuery *parts = query_by_key(catalogue, REMOVE_PARTS, key, error);
    return parts != NULL && db_query_run(parts, error);
}

gboolean catalogue_remove(Catalogue *catalogue, const char *key, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_mutex_lock(&catalogue->lock);
    gboolean good = join_batch(catalogue, &local) && leave_batch(catalogue, remove_row(catalogue, key, &local), &local);
    g_mutex_unlock(&catalogue->lock);
    if (!good)
        g_propagate_error(error, g_steal_pointer(&local));
    return good;
}

static gboolean add_wrong(Catalogue *catalogue, const char *key, GError **error)
{
    catalogue->has_wrong = TRUE;
    DbQuery *query = query_by_key(catalogue, ADD_WRONG, key, error);
    return query != NULL && db_query_run(query, error) && remove_row(catalogue, key, error);
}

gboolean catalogue_add_wrong(Catalogue *catalogue, const char *key, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_mutex_lock(&catalogue->lock);
    gboolean good = join_batch(catalogue, &local) && leave_batch(catalogue, add_wrong(catalogue, key, &local), &local);
    g_mutex_unlock(&catalogue->lock);
    if (!good)
        g_propagate_error(error, g_steal_pointer(&local));
    return good;
}

GHashTable *catalogue_wrong(Catalogue *catalogue, GError **error)
{
    g_autoptr(GHashTable) wrong = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_mutex_lock(&catalogue->lock);
    DbQuery *query = db_query(catalogue->db, READ_WRONG, error);
    int got = -1;
    if (query != NULL) {
        db_bind_integer(query, 1, CATALOGUE_WRONG_MAX);
        while ((got = db_query_next(query, error)) == 1) {
            gsize length = 0;
            const guint8 *key = db_column_bytes(query, 0, &length);
            g_hash_table_add(wrong, g_strndup((const char *)key, length));
        }
        db_query_reset(query);
    }
    g_mutex_unlock(&catalogue->lock);
    return got == 0 ? g_steal_pointer(&wrong) : NULL;
}

static gboolean put_upload(Catalogue *catalogue, const CatalogueUpload *upload, GError **error)
{
    DbQuery *query = db_query(catalogue->db, PUT_UPLOAD, error);
    if (query == NULL)
        return FALSE;
    db_bind_text(query, 1, upload->id);
    db_bind_bytes(query, 2, upload->key, strlen(upload->key));
    db_bind_integer(query, 3, (gint64)upload->size);
    db_bind_integer(query, 4, (gint64)upload->part_size);
    db_bind_integer(query, 5, upload->mtime_s);
    db_bind_integer(query, 6, upload->mtime_ns);
    db_bind_integer(query, 7, upload->ctime_s);
    db_bind_integer(query, 8, upload->ctime_ns);
    db_bind_integer(query, 9, (gint64)upload->ino);
    db_bind_integer(query, 10, upload->started);
    return db_query_run(query, error);
}

gboolean catalogue_put_upload(Catalogue *catalogue, const CatalogueUpload *upload, GError **error)
{
    g_mutex_lock(&catalogue->lock);
    gboolean good = commit_batch(catalogue, error) && db_set_durable(catalogue->db, TRUE, error) &&
                    put_upload(catalogue, upload, error) && db_set_durable(catalogue->db, FALSE, error);
    g_mutex_unlock(&catalogue->lock);
    return good;
}

gboolean catalogue_remove_upload(Catalogue *catalogue, const char *id, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_mutex_lock(&catalogue->lock);
    DbQuery *query = join_batch(catalogue, &local) ? db_query(catalogue->db, REMOVE_UPLOAD, &local) : NULL;
    if (query != NULL)
        db_bind_text(query, 1, id);
    gboolean good = query != NULL && leave_batch(catalogue, db_query_run(query, &local), &local);
    g_mutex_unlock(&catalogue->lock);
    if (!good)
        g_propagate_error(error, g_steal_pointer(&local));
    return good;
}

static gboolean read_upload(DbQuery *query, CatalogueUpload *upload, GError **error)
{
    gsize length = 0;
    const guint8 *key = db_column_bytes(query, 1, &length);
    const char *id = db_column_text(query, 0);
    if (key == NULL || length == 0 || length > KEY_MAX_BYTES || memchr(key, 0, length) != NULL || id == NULL)
        return damaged_row(error);
    *upload = (CatalogueUpload){.id = g_strdup(id), .key = g_strdup((const char *)key)};
    upload->size = (guint64)db_column_integer(query, 2);
    upload->part_size = (guint64)db_column_integer(query, 3);
    upload->mtime_s = db_column_integer(query, 4);
    upload->mtime_ns = (guint32)db_column_integer(query, 5);
    upload->ctime_s = db_column_integer(query, 6);
    upload->ctime_ns = (guint32)db_column_integer(query, 7);
    upload->ino = (guint64)db_column_integer(query, 8);
    upload->started = db_column_integer(query, 9);
    return TRUE;
}

int catalogue_find_upload(Catalogue *catalogue, const char *key, CatalogueUpload *upload, GError **error)
{
    *upload = (CatalogueUpload){0};
    g_mutex_lock(&catalogue->lock);
    DbQuery *query = query_by_key(catalogue, FIND_UPLOAD, key, error);
    int got = query != NULL ? db_query_next(query, error) : -1;
    if (got == 1 && !read_upload(query, upload, error))
        got = -1;
    if (query != NULL)
        db_query_reset(query);
    g_mutex_unlock(&catalogue->lock);
    return got;
}

static void upload_free(gpointer data)
{
    catalogue_upload_clear(data);
    g_free(data);
}

GPtrArray *catalogue_uploads(Catalogue *catalogue, GError **error)
{
    g_autoptr(GPtrArray) uploads = g_ptr_array_new_with_free_func(upload_free);
    g_mutex_lock(&catalogue->lock);
    DbQuery *query = db_query(catalogue->db, READ_UPLOADS, error);
    int got = query != NULL ? 1 : -1;
    while (got == 1 && uploads->len < UPLOADS_MAX && (got = db_query_next(query, error)) == 1) {
        g_autofree CatalogueUpload *upload = g_new0(CatalogueUpload, 1);
        if (read_upload(query, upload, error))
            g_ptr_array_add(uploads, g_steal_pointer(&upload));
        else
            got = -1;
    }
    if (query != NULL)
        db_query_reset(query);
    g_mutex_unlock(&catalogue->lock);
    return got >= 0 ? g_steal_pointer(&uploads) : NULL;
}

void catalogue_upload_clear(CatalogueUpload *upload)
{
    g_clear_pointer(&upload->key, g_free);
    g_clear_pointer(&upload->id, g_free);
}
