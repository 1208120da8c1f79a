#include "engine/archive/create_write.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "engine/archive/tar_format.h"
#include "fs/dir.h"
#include "fs/io.h"
#include "fs/spool.h"

/* A file with more pieces is stored whole: its holes are read as zeros. */
#define EXTENTS_MAX (1024 * 1024)
#define BLOCK_BYTES 512
#define PIECE_BYTES (256 * 1024)
#define RATE_BYTES  (64 * 1024)

/* What is kept of a file that is newer than the plan. */
typedef struct {
    FileMeta meta;
    gsize attrs_length;
    guint8 attrs[];
} Fresh;

typedef struct {
    CreateRun *run;
    Hash *hash;
    GByteArray *header;
    GArray *extents; /* of TarExtent */
    int dir_fd;      /* of dir_path in dir_source; -1: none is open */
    GString *dir_path;
    guint dir_source;
    Spool *again; /* what has to be stored once more; NULL: nothing, or it is the second time */
    gboolean second;
    GHashTable *again_links; /* first names among them */
    GHashTable *other_links; /* first names that were read and have another content than in the parent */
    GHashTable *fresh_links; /* first names that changed since the plan: to a Fresh */
    GHashTable *lost_links;  /* first names that could not be stored, and a further one that was instead, or "" */
    GByteArray *record;
} Writer;

static void writer_init(Writer *writer, CreateRun *run)
{
    *writer = (Writer){.run = run, .dir_fd = -1};
    writer->hash = hash_new();
    writer->header = g_byte_array_new();
    writer->extents = g_array_new(FALSE, FALSE, sizeof(TarExtent));
    writer->dir_path = g_string_new(NULL);
    writer->again_links = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    writer->other_links = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    writer->fresh_links = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    writer->lost_links = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    writer->record = g_byte_array_new();
}

static void writer_clear(Writer *writer)
{
    hash_free(writer->hash);
    g_byte_array_unref(writer->header);
    g_array_unref(writer->extents);
    fd_clear(&writer->dir_fd);
    g_string_free(writer->dir_path, TRUE);
    g_clear_pointer(&writer->again, spool_free);
    g_hash_table_unref(writer->again_links);
    g_hash_table_unref(writer->other_links);
    g_hash_table_unref(writer->fresh_links);
    g_hash_table_unref(writer->lost_links);
    g_byte_array_unref(writer->record);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Writer, writer_clear)

/* ---- the file ---- */

/* Points *base at the name of the path in its source, and opens its folder. FALSE with errno. */
static gboolean open_folder(Writer *writer, guint source_number, const char *path, const char **base)
{
    const CreateSource *source = &g_array_index(writer->run->sources, CreateSource, source_number);
    const char *own = create_path_in_source(source, path);
    const char *slash = strrchr(own, '/');
    gsize length = slash != NULL ? (gsize)(slash - own) : 0;
    *base = slash != NULL ? slash + 1 : own;
    if (writer->dir_fd >= 0 && writer->dir_source == source_number && writer->dir_path->len == length &&
        memcmp(writer->dir_path->str, own, length) == 0)
        return TRUE;
    fd_clear(&writer->dir_fd);
    g_string_truncate(writer->dir_path, 0);
    g_string_append_len(writer->dir_path, own, (gssize)length);
    writer->dir_source = source_number;
    writer->dir_fd = dir_open(source->root_fd, writer->dir_path->str, NULL);
    return writer->dir_fd >= 0;
}

static int open_file(Writer *writer, guint source, const char *path)
{
    const char *base = NULL;
    if (!open_folder(writer, source, path, &base))
        return -1;
    int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    int fd = openat(writer->dir_fd, base, flags | O_NOATIME);
    return fd < 0 && errno == EPERM ? openat(writer->dir_fd, base, flags) : fd;
}

static gboolean same_state(const FileMeta *a, const FileMeta *b)
{
    return a->size == b->size && a->mtime_s == b->mtime_s && a->mtime_ns == b->mtime_ns && a->ctime_s == b->ctime_s &&
           a->ctime_ns == b->ctime_ns && a->ino == b->ino;
}

/* The file's pieces of data into writer->extents. FALSE if it has no holes, or they cannot be told. */
static gboolean find_extents(Writer *writer, int fd, const FileMeta *meta)
{
    g_array_set_size(writer->extents, 0);
    if (meta->blocks * BLOCK_BYTES >= meta->size)
        return FALSE;
    off_t at = 0, size = (off_t)meta->size;
    while (at < size) {
        off_t data = lseek(fd, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            break;
        off_t hole = data >= 0 ? lseek(fd, data, SEEK_HOLE) : -1;
        if (hole < 0 || writer->extents->len >= EXTENTS_MAX)
            return FALSE;
        TarExtent extent = {.offset = (guint64)data, .length = (guint64)(MIN(hole, size) - data)};
        if (data < size)
            g_array_append_val(writer->extents, extent);
        at = hole;
    }
    if (writer->extents->len != 1)
        return TRUE;
    const TarExtent *only = &g_array_index(writer->extents, TarExtent, 0);
    return only->offset != 0 || only->length != meta->size;
}

/* ---- into the stream ---- */

static gboolean write_headers(Writer *writer, IndexEntry *entry, gboolean sparse, GError **error)
{
    CreateRun *run = writer->run;
    const TarExtent *extents = sparse ? (const TarExtent *)(gpointer)writer->extents->data : NULL;
    guint count = sparse ? writer->extents->len : 0;
    /* No pieces at all are still a map, not a file without holes. */
    static const TarExtent none;
    if (sparse && count == 0)
        extents = &none;
    g_byte_array_set_size(writer->header, 0);
    if (!tar_put_header(&entry->entry, extents, count, writer->header, error))
        return FALSE;
    entry->tar_offset = stream_offset(run->stream);
    entry->header_length = writer->header->len;
    entry->flags |= INDEX_STORED | (sparse ? INDEX_SPARSE : 0);
    if (sparse)
        tar_put_map(&entry->entry, extents, count, writer->header);
    if (run->logs_beginnings && !runs_begin_entry(run->runs, entry, sparse ? writer->header : NULL, error))
        return FALSE;
    return stream_write(run->stream, writer->header->data, writer->header->len, error);
}

/* What reading a piece of a file came to. */
typedef enum { READ_ALL, READ_SHORT, READ_FAILED, READ_STOPPED } ReadResult;

/* Hashes and writes a range of the file. What could not be read is left out; *done tells how much was written. */
static ReadResult write_range(Writer *writer, int fd, guint64 offset, guint64 length, guint64 *done, GError **error)
{
    CreateRun *run = writer->run;
    for (*done = 0; *done < length;) {
        gsize room = 0;
        guint8 *into = stream_reserve(run->stream, &room, error);
        if (into == NULL)
            return READ_STOPPED;
        gsize piece = (gsize)MIN(MIN(room, PIECE_BYTES), length - *done);
        if (run->options->rate != NULL)
            piece = MIN(piece, RATE_BYTES);
        if (!rate_take(run->options->rate, piece, run->options->cancel, error))
            return READ_STOPPED;
        gssize got = io_read_at(fd, into, piece, offset + *done);
        if (got <= 0)
            return got < 0 ? READ_FAILED : READ_SHORT;
        hash_update(writer->hash, into, (gsize)got);
        if (!stream_advance(run->stream, (gsize)got, error))
            return READ_STOPPED;
        *done += (guint64)got;
        run_stage_add(&run->stage, run->options->sink, 0, (guint64)got, NULL);
    }
    return READ_ALL;
}

static gboolean hash_zeros(Writer *writer, guint64 length, GError **error)
{
    static const guint8 zeros[PIECE_BYTES];
    while (length > 0) {
        gsize piece = (gsize)MIN(length, sizeof zeros);
        hash_update(writer->hash, zeros, piece);
        length -= piece;
        if (!cancel_check(writer->run->options->cancel, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean put_zeros(Writer *writer, guint64 length, GError **error)
{
    return hash_zeros(writer, length, error) && stream_zeros(writer->run->stream, length, error);
}

static ReadResult hash_range(Writer *writer, int fd, guint64 offset, guint64 length, GError **error)
{
    g_autofree guint8 *piece = g_malloc(PIECE_BYTES);
    for (guint64 done = 0; done < length;) {
        gssize got = io_read_at(fd, piece, (gsize)MIN(PIECE_BYTES, length - done), offset + done);
        if (got <= 0)
            return got < 0 ? READ_FAILED : READ_SHORT;
        hash_update(writer->hash, piece, (gsize)got);
        done += (guint64)got;
        if (!cancel_check(writer->run->options->cancel, error))
            return READ_STOPPED;
    }
    return READ_ALL;
}

/* One piece of data, of which the first `skip` bytes are in the tar already. */
static gboolean write_extent(Writer *writer, int fd, const TarExtent *extent, guint64 skip, ReadResult *result,
                             GError **error)
{
    guint64 done = 0, rest = extent->length - skip;
    if (*result == READ_ALL && skip > 0)
        *result = hash_range(writer, fd, extent->offset, skip, error);
    if (*result == READ_ALL)
        *result = write_range(writer, fd, extent->offset + skip, rest, &done, error);
    return *result != READ_STOPPED && (done == rest || put_zeros(writer, rest - done, error));
}

/* The content behind the headers, whatever becomes of the file (*result), but for the first `skip` bytes. fd -1: zeros. */
static gboolean write_content(Writer *writer, int fd, const IndexEntry *entry, guint64 skip, ReadResult *result,
                              GError **error)
{
    TarExtent whole = {.length = entry->entry.meta.size};
    gboolean sparse = (entry->flags & INDEX_SPARSE) != 0;
    const TarExtent *extents = sparse ? (const TarExtent *)(gpointer)writer->extents->data : &whole;
    guint count = sparse ? writer->extents->len : 1;
    guint64 at = 0, stored = 0;
    *result = fd >= 0 ? READ_ALL : READ_SHORT;
    for (guint i = 0; i < count; i++) {
        guint64 skipped = MIN(skip, extents[i].length);
        if (!hash_zeros(writer, extents[i].offset - at, error) ||
            !write_extent(writer, fd, &extents[i], skipped, result, error))
            return FALSE;
        at = extents[i].offset + extents[i].length;
        stored += extents[i].length;
        skip -= skipped;
    }
    guint padding = tar_padding(stored);
    return hash_zeros(writer, entry->entry.meta.size - at, error) &&
           stream_zeros(writer->run->stream, padding - MIN(skip, padding), error);
}

static gboolean put_entry(Writer *writer, const IndexEntry *entry, GError **error)
{
    return runs_put(writer->run->runs, entry, stream_offset(writer->run->stream), error);
}

/* ---- what a file came to ---- */

/* It will be stored once more, its further names too. */
static gboolean put_again(Writer *writer, const CreateItem *item, GError **error)
{
    if (writer->again == NULL && (writer->again = spool_new(-1, error)) == NULL)
        return FALSE;
    if (item->entry.link == NULL && item->entry.meta.nlink > 1)
        g_hash_table_add(writer->again_links, g_strdup(item->entry.path));
    CreateItem again = *item;
    again.op = CREATE_STORE;
    g_byte_array_set_size(writer->record, 0);
    create_item_encode(&again, writer->record);
    return spool_put(writer->again, writer->record->data, writer->record->len, error);
}

/* Its further names cannot be links to it: the next one that can be read has to hold the content. */
static void note_lost(Writer *writer, const CreateItem *item)
{
    if (item->entry.link == NULL && item->entry.meta.nlink > 1)
        g_hash_table_insert(writer->lost_links, g_strdup(item->entry.path), g_strdup(""));
}

/* There is no such file any more. */
static gboolean put_vanished(Writer *writer, const CreateItem *item, GError **error)
{
    IndexEntry entry = {.entry = {.path = item->entry.path, .meta = {.mode = item->entry.meta.mode}}};
    entry.flags = item->known ? INDEX_DELETED : RUNS_DROPPED;
    note_lost(writer, item);
    writer->run->stats->vanished++;
    writer->run->options->sink->warning(writer->run->options->sink, "vanished", item->entry.path,
                                        "it was gone when it should be read");
    return put_entry(writer, &entry, error);
}

static gboolean is_gone(int errnum)
{
    return errnum == ENOENT || errnum == ENOTDIR || errnum == ESTALE || errnum == ELOOP;
}

/* What the parent has of it stays what is known of it. */
static void note_unreadable(Writer *writer, const CreateItem *item, const char *why)
{
    CreateRun *run = writer->run;
    run->stats->unreadable++;
    run->unread++;
    /* The second time, what was read the first time stays. */
    if (!writer->second)
        note_lost(writer, item);
    g_autofree char *message =
        item->known ? g_strdup_printf("%s; the point keeps what an earlier one had of it", why) : g_strdup(why);
    create_warn(run, "unreadable", item->entry.path, message);
}

/* Its content is in the tar, but it is not the file's. */
static gboolean put_unreadable(Writer *writer, const CreateItem *item, const char *why, GError **error)
{
    IndexEntry entry = {.entry = {.path = item->entry.path, .meta = {.mode = item->entry.meta.mode}}};
    entry.flags = RUNS_DROPPED;
    note_unreadable(writer, item, why);
    /* What was read the first time is better than nothing. */
    return writer->second || put_entry(writer, &entry, error);
}

static gboolean put_read(Writer *writer, const CreateItem *item, IndexEntry *entry, int fd, ReadResult result,
                         GError **error)
{
    CreateRun *run = writer->run;
    FileMeta now = {0};
    entry->entry.part_size = MAX(entry->entry.meta.size, 1);
    hash_finish(writer->hash, entry->entry.hash);
    gboolean changed = result == READ_SHORT || !meta_read(fd, "", &now, NULL) || !same_state(&now, &entry->entry.meta);
    if (changed)
        entry->flags |= INDEX_CHANGED;
    if (changed && !writer->second)
        return put_again(writer, item, error) && put_entry(writer, entry, error);
    if (changed) {
        run->stats->changed_during_read++;
        run->unread++;
        create_warn(run, "changed", item->entry.path, "it changed while it was read, twice: what is kept may be a mix");
    }
    run->stats->files_archived++;
    run->stats->bytes_archived += entry->entry.meta.size;
    run_stage_add(&run->stage, run->options->sink, 1, 0, item->entry.path);
    return put_entry(writer, entry, error);
}

/* A file whose metadata is newer than the plan: what is kept of it is as it is now. */
static void refresh(Writer *writer, int fd, const FileMeta *now, S3Entry *entry, GByteArray *attrs)
{
    if (same_state(now, &entry->meta))
        return;
    const AttrsFilter filter = {.xattrs = writer->run->options->xattrs, .acls = writer->run->options->acls};
    const Attrs *read ATTRS_AUTO = attrs_read(fd, "", fd, &filter, NULL);
    entry->meta = *now;
    if (read == NULL)
        return;
    entry->attrs = NULL;
    entry->attrs_length = 0;
    if (attrs_is_empty(read))
        return;
    attrs_encode(read, attrs);
    entry->attrs = attrs->data;
    entry->attrs_length = attrs->len;
}

/* The further names that follow say the same of it. */
static void note_fresh(Writer *writer, const S3Entry *entry)
{
    Fresh *fresh = g_malloc(sizeof *fresh + entry->attrs_length);
    fresh->meta = entry->meta;
    fresh->attrs_length = entry->attrs_length;
    if (entry->attrs_length > 0)
        memcpy(fresh->attrs, entry->attrs, entry->attrs_length);
    g_hash_table_insert(writer->fresh_links, g_strdup(entry->path), fresh);
}

/* TRUE in *equal if the file still has the content that the parent knows. */
static gboolean check_content(Writer *writer, int fd, const S3Entry *entry, gboolean *equal, GError **error)
{
    CreateRun *run = writer->run;
    g_autofree guint8 *piece = g_malloc(PIECE_BYTES);
    guint8 hash[HASH_BYTES];
    *equal = FALSE;
    for (guint64 at = 0; at < entry->meta.size;) {
        gsize want = (gsize)MIN(PIECE_BYTES, entry->meta.size - at);
        if (!rate_take(run->options->rate, want, run->options->cancel, error) ||
            !cancel_check(run->options->cancel, error))
            return FALSE;
        gssize got = io_read_at(fd, piece, want, at);
        if (got <= 0) {
            hash_reset(writer->hash);
            return TRUE;
        }
        hash_update(writer->hash, piece, (gsize)got);
        at += (guint64)got;
        run_stage_add(&run->stage, run->options->sink, 0, (guint64)got, NULL);
    }
    hash_finish(writer->hash, hash);
    FileMeta now = {0};
    *equal =
        memcmp(hash, entry->hash, HASH_BYTES) == 0 && meta_read(fd, "", &now, NULL) && same_state(&now, &entry->meta);
    return TRUE;
}

static guint64 holes_of(const Writer *writer, const FileMeta *meta)
{
    guint64 holes = meta->size;
    for (guint i = 0; i < writer->extents->len; i++)
        holes -= g_array_index(writer->extents, TarExtent, i).length;
    return holes;
}

static gboolean write_opened(Writer *writer, const CreateItem *item, int fd, GError **error)
{
    IndexEntry entry = {.entry = item->entry};
    g_autoptr(GByteArray) attrs = g_byte_array_new();
    FileMeta now = {0};
    if (!meta_read(fd, "", &now, NULL) || !S_ISREG(now.mode))
        return put_vanished(writer, item, error);
    if (item->op == CREATE_CHECK && same_state(&now, &item->entry.meta)) {
        gboolean equal = FALSE;
        if (!check_content(writer, fd, &item->entry, &equal, error))
            return FALSE;
        if (equal) {
            writer->run->stats->files_unchanged++;
            return TRUE;
        }
    }
    if (item->op == CREATE_CHECK && item->entry.meta.nlink > 1)
        g_hash_table_add(writer->other_links, g_strdup(item->entry.path));
    refresh(writer, fd, &now, &entry.entry, attrs);
    if (now.nlink > 1 && !same_state(&now, &item->entry.meta))
        note_fresh(writer, &entry.entry);
    ReadResult result = READ_ALL;
    gboolean sparse = find_extents(writer, fd, &entry.entry.meta);
    if (sparse && holes_of(writer, &entry.entry.meta) > TAR_HOLES_MAX) {
        note_unreadable(writer, item, "its holes are more than 64 TiB, which are not archived");
        return TRUE;
    }
    hash_reset(writer->hash);
    if (!write_headers(writer, &entry, sparse, error) || !write_content(writer, fd, &entry, 0, &result, error))
        return FALSE;
    if (result == READ_FAILED) {
        hash_reset(writer->hash);
        return put_unreadable(writer, item, "an error came up while it was read", error);
    }
    return put_read(writer, item, &entry, fd, result, error);
}

static gboolean write_file(Writer *writer, const CreateItem *item, GError **error)
{
    g_auto(AutoFd) fd = open_file(writer, item->source, item->entry.path);
    if (fd >= 0)
        return write_opened(writer, item, fd, error);
    if (is_gone(errno))
        return put_vanished(writer, item, error);
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
        return error_set_errno(error, errno, "cannot open %s", item->entry.path);
    note_unreadable(writer, item, g_strerror(errno));
    return TRUE;
}

/* All that has no content of its own. */
static gboolean write_other(Writer *writer, const CreateItem *item, GError **error)
{
    CreateRun *run = writer->run;
    IndexEntry entry = {.entry = item->entry};
    const Fresh *fresh = item->entry.link != NULL ? g_hash_table_lookup(writer->fresh_links, item->entry.link) : NULL;
    if (fresh != NULL) {
        entry.entry.meta = fresh->meta;
        entry.entry.attrs = fresh->attrs_length > 0 ? fresh->attrs : NULL;
        entry.entry.attrs_length = fresh->attrs_length;
    }
    /* A tar cannot hold a socket; the index can. */
    if (!S_ISSOCK(item->entry.meta.mode) && !write_headers(writer, &entry, FALSE, error))
        return FALSE;
    gboolean again =
        item->entry.link != NULL && !writer->second && g_hash_table_contains(writer->again_links, item->entry.link);
    if (again && !put_again(writer, item, error))
        return FALSE;
    if (!S_ISDIR(item->entry.meta.mode) && !again) {
        run->stats->files_archived++;
        run_stage_add(&run->stage, run->options->sink, 1, 0, item->entry.path);
    }
    return put_entry(writer, &entry, error);
}

/* A further name. If the first one could not be stored, it is a link to the one that was instead, or becomes that. */
static gboolean write_link(Writer *writer, const CreateItem *item, GError **error)
{
    const char *instead = g_hash_table_lookup(writer->lost_links, item->entry.link);
    if (instead == NULL)
        return write_other(writer, item, error);
    CreateItem moved = *item;
    moved.entry.link = *instead != '\0' ? instead : NULL;
    if (moved.entry.link != NULL)
        return write_other(writer, &moved, error);
    if (!write_file(writer, &moved, error))
        return FALSE;
    if (!g_hash_table_contains(writer->lost_links, moved.entry.path))
        g_hash_table_insert(writer->lost_links, g_strdup(item->entry.link), g_strdup(moved.entry.path));
    return TRUE;
}

static gboolean write_item(Writer *writer, const CreateItem *item, GError **error)
{
    if (!cancel_check(writer->run->options->cancel, error))
        return FALSE;
    IndexEntry gone = {.entry = {.path = item->entry.path, .meta = {.mode = item->entry.meta.mode}}};
    switch (item->op) {
    case CREATE_DELETE:
        gone.flags = INDEX_DELETED;
        return put_entry(writer, &gone, error);
    case CREATE_DROP:
        gone.flags = RUNS_DROPPED;
        return put_entry(writer, &gone, error);
    case CREATE_FOLLOW:
        if (g_hash_table_contains(writer->other_links, item->entry.link) ||
            g_hash_table_contains(writer->lost_links, item->entry.link))
            break;
        writer->run->stats->files_unchanged++;
        return TRUE;
    case CREATE_STORE:
    case CREATE_CHECK:
    default:
        break;
    }
    if (!S_ISREG(item->entry.meta.mode))
        return write_other(writer, item, error);
    return item->entry.link != NULL ? write_link(writer, item, error) : write_file(writer, item, error);
}

/* ---- the whole ---- */

static gboolean write_plan(Writer *writer, CreatePlan *plan, GError **error)
{
    g_autoptr(CreatePlanReader) reader = create_plan_read(plan);
    CreateItem item;
    int got;
    while ((got = create_plan_next(reader, &item, error)) == 1) {
        if (!write_item(writer, &item, error))
            return FALSE;
    }
    return got == 0;
}

/* What changed while it was read, in the same order. */
static gboolean write_again(Writer *writer, GError **error)
{
    if (writer->again == NULL)
        return TRUE;
    writer->second = TRUE;
    if (!runs_begin_pass(writer->run->runs, error) || !spool_finish(writer->again, error))
        return FALSE;
    g_autoptr(SpoolReader) reader = spool_reader_new(writer->again);
    g_autoptr(GByteArray) arena = g_byte_array_new();
    const guint8 *data = NULL;
    gsize length = 0;
    int got;
    while ((got = spool_reader_next(reader, &data, &length, error)) == 1) {
        CreateItem item;
        if (!create_item_decode(data, length, arena, &item, error) || !write_item(writer, &item, error))
            return FALSE;
    }
    return got == 0;
}

gboolean create_write_all(CreateRun *run, CreatePlan *plan, GError **error)
{
    g_auto(Writer) writer = {0};
    writer_init(&writer, run);
    if (!write_plan(&writer, plan, error) || !write_again(&writer, error))
        return FALSE;
    return stream_offset(run->stream) == 0 || stream_zeros(run->stream, TAR_END_BYTES, error);
}

/* ---- going on ---- */

static guint source_of(const CreateRun *run, const char *path)
{
    for (guint i = 0; i < run->sources->len; i++) {
        if (create_path_in_source(&g_array_index(run->sources, CreateSource, i), path) != NULL)
            return i;
    }
    return G_MAXUINT;
}

/* The file of an entry that was begun, if it is as it was then. */
static int open_rest(Writer *writer, const IndexEntry *open)
{
    guint source = source_of(writer->run, open->entry.path);
    g_auto(AutoFd) fd = source != G_MAXUINT ? open_file(writer, source, open->entry.path) : -1;
    FileMeta now = {0};
    if (fd < 0 || !meta_read(fd, "", &now, NULL) || !S_ISREG(now.mode) || !same_state(&now, &open->entry.meta))
        return -1;
    return fd_steal(&fd);
}

/* The headers as they were written, a sparse file's map behind them (in writer->extents too). FALSE if they cannot be
 * made again. */
static gboolean make_headers_again(Writer *writer, const RunsOpen *open)
{
    const IndexEntry *entry = &open->entry;
    if ((entry->flags & INDEX_SPARSE) == 0)
        return tar_put_header(&entry->entry, NULL, 0, writer->header, NULL) &&
               writer->header->len == entry->header_length;
    gsize used = 0;
    if (open->header_length < entry->header_length)
        return FALSE;
    g_byte_array_append(writer->header, open->header, (guint)open->header_length);
    return tar_read_map(open->header + entry->header_length, open->header_length - entry->header_length,
                        entry->entry.meta.size, writer->extents, &used, NULL) == 1 &&
           used == open->header_length - entry->header_length;
}

static gboolean write_rest(Writer *writer, int fd, const IndexEntry *open, GError **error)
{
    CreateRun *run = writer->run;
    IndexEntry entry = *open;
    guint64 done = stream_offset(run->stream) - open->tar_offset;
    guint head = writer->header->len;
    if (done < head && !stream_write(run->stream, writer->header->data + done, head - done, error))
        return FALSE;
    if (!S_ISREG(entry.entry.meta.mode) || entry.entry.link != NULL)
        return put_entry(writer, &entry, error);
    ReadResult result = READ_ALL;
    if (!write_content(writer, fd, &entry, done > head ? done - head : 0, &result, error))
        return FALSE;
    entry.entry.part_size = MAX(entry.entry.meta.size, 1);
    hash_finish(writer->hash, entry.entry.hash);
    FileMeta now = {0};
    gboolean right = result == READ_ALL && meta_read(fd, "", &now, NULL) && same_state(&now, &entry.entry.meta);
    return !right || put_entry(writer, &entry, error);
}

gboolean create_write_rest(CreateRun *run, const RunsOpen *open, gboolean *possible, GError **error)
{
    g_auto(Writer) writer = {0};
    writer_init(&writer, run);
    g_auto(AutoFd) fd = open_rest(&writer, &open->entry);
    *possible = make_headers_again(&writer, open);
    return !*possible || write_rest(&writer, fd, &open->entry, error);
}
