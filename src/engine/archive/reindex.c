#include "engine/archive/verify.h"

#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/run_stage.h"
#include "engine/archive/index.h"
#include "engine/archive/sort.h"
#include "engine/archive/stored_file.h"
#include "engine/archive/tar_reader.h"
#include "engine/archive/volumes_reader.h"

typedef struct {
    const ArchivePlace *place;
    const CancelFlag *cancel;
    RunSink *sink;
    RunStage stage;
    guint64 told; /* bytes that the stage knows of */
    ArchivePoint *point;
    VolumesReader *volumes;
    StoredFile *file;
    Sorter *sorter; /* of records: whether it is a directory, its path, the entry */
    GByteArray *record;
} Reindex;

static void reindex_clear(Reindex *run)
{
    volumes_reader_free(run->volumes);
    stored_file_free(run->file);
    sorter_free(run->sorter);
    if (run->record != NULL)
        g_byte_array_unref(run->record);
    archive_point_free(run->point);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Reindex, reindex_clear)

/* Those of one path come one behind the other, in the order in which they lie in the tar. */
static int compare_records(const guint8 *a, gsize a_length, const guint8 *b, gsize b_length)
{
    return index_compare_paths((const char *)a + 1, a[0] != 0, (const char *)b + 1, b[0] != 0);
}

/* ---- from the tar ---- */

static void leave_out(Reindex *run, const char *path, const char *why)
{
    run->sink->warning(run->sink, "skipped", path, why);
    run->point->unread++;
    run->point->partial = TRUE;
}

static void tell(Reindex *run, guint64 files, const char *path)
{
    guint64 done = volumes_reader_done(run->volumes);
    run_stage_add(&run->stage, run->sink, files, done - run->told, path);
    run->told = done;
}

static gboolean put(Reindex *run, const IndexEntry *entry, GError **error)
{
    const char *path = entry->entry.path;
    guint8 directory = S_ISDIR(entry->entry.meta.mode);
    g_byte_array_set_size(run->record, 0);
    g_byte_array_append(run->record, &directory, 1);
    g_byte_array_append(run->record, (const guint8 *)path, (guint)strlen(path) + 1);
    index_entry_encode(entry, "", run->record);
    return sorter_put(run->sorter, run->record->data, run->record->len, error);
}

/* Reads the content for its hash. *why: it is not what its header says. */
static gboolean read_content(Reindex *run, TarReader *tar, const TarEntry *entry, guint8 hash[HASH_BYTES],
                             const char **why, GError **error)
{
    const guint8 *data = NULL;
    gsize length = 0, used = 0;
    int got;
    stored_file_begin(run->file, entry->entry.meta.size, entry->sparse, NULL, NULL);
    while ((got = tar_reader_content(tar, &data, &length, error)) == 1) {
        if (!cancel_check(run->cancel, error))
            return FALSE;
        if (!stored_file_feed(run->file, data, length, &used, NULL) || used < length) {
            *why = "the map of its holes is damaged";
            return TRUE;
        }
        tell(run, 0, entry->entry.path);
    }
    if (got < 0)
        return FALSE;
    if (stored_file_wanted(run->file) > 0)
        *why = "its content is shorter than its header says";
    else
        stored_file_finish(run->file, hash);
    return TRUE;
}

static gboolean take_entry(Reindex *run, TarReader *tar, const TarEntry *in, GError **error)
{
    const char *why = in->refused;
    IndexEntry entry = {.entry = in->entry, .tar_offset = in->offset, .header_length = in->header_length};
    entry.flags = INDEX_STORED | (in->sparse ? INDEX_SPARSE : 0u);
    if (why == NULL && S_ISREG(in->entry.meta.mode) && in->entry.link == NULL) {
        if (!read_content(run, tar, in, entry.entry.hash, &why, error))
            return FALSE;
        entry.entry.part_size = MAX(in->entry.meta.size, 1);
    }
    if (why != NULL)
        leave_out(run, in->entry.path, why);
    else if (!put(run, &entry, error))
        return FALSE;
    tell(run, 1, in->entry.path);
    return TRUE;
}

/* The rest has no entries, but its members have to be known. */
static gboolean read_rest(Reindex *run, GError **error)
{
    const guint8 *data = NULL;
    gsize length = 0;
    int got;
    while ((got = volumes_reader_next(run->volumes, &data, &length, error)) == 1)
        tell(run, 0, NULL);
    return got == 0;
}

static gboolean read_tar(Reindex *run, GError **error)
{
    g_autoptr(TarReader) tar = tar_reader_new(volumes_reader_next, run->volumes);
    g_autoptr(GError) local = NULL;
    g_autofree char *last = NULL;
    TarEntry entry;
    int got;
    while ((got = tar_reader_next(tar, &entry, &local)) == 1) {
        g_free(last);
        last = g_strdup(entry.entry.path);
        if (!cancel_check(run->cancel, error))
            return FALSE;
        if (!take_entry(run, tar, &entry, &local))
            break;
    }
    if (got == 0 && local == NULL)
        return read_rest(run, error);
    if (!tar_reader_was_cut(tar)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    leave_out(run, got == 1 ? last : NULL,
              "the archive ends before its tar does: it was never finished, or volumes at its end are missing");
    return TRUE;
}

/* ---- to the index ---- */

static void count(ArchivePoint *point, const IndexEntry *entry)
{
    if (S_ISDIR(entry->entry.meta.mode)) {
        point->directories++;
    } else {
        point->files++;
        if (S_ISREG(entry->entry.meta.mode))
            point->bytes += entry->entry.meta.size;
    }
}

static gboolean write_record(Reindex *run, IndexWriter *writer, const GByteArray *record, GByteArray *arena,
                             GError **error)
{
    gsize skip = 1 + strlen((const char *)record->data + 1) + 1;
    BytesReader in = bytes_reader(record->data + skip, record->len - skip);
    IndexEntry entry;
    g_byte_array_set_size(arena, 0);
    if (!index_entry_decode(&in, "", arena, &entry, error) || !index_writer_put(writer, &entry, error))
        return FALSE;
    count(run->point, &entry);
    return cancel_check(run->cancel, error);
}

/* Of entries with one path only the last counts: it was stored again because it had changed. */
static gboolean write_entries(Reindex *run, IndexWriter *writer, GError **error)
{
    g_autoptr(GByteArray) held = g_byte_array_new();
    g_autoptr(GByteArray) arena = g_byte_array_new();
    const guint8 *data = NULL;
    gsize length = 0;
    int got;
    if (!sorter_finish(run->sorter, error))
        return FALSE;
    while ((got = sorter_next(run->sorter, &data, &length, error)) == 1) {
        if (held->len > 0 && compare_records(held->data, held->len, data, length) != 0 &&
            !write_record(run, writer, held, arena, error))
            return FALSE;
        g_byte_array_set_size(held, 0);
        g_byte_array_append(held, data, (guint)length);
    }
    return got == 0 && (held->len == 0 || write_record(run, writer, held, arena, error));
}

static gboolean write_index(Reindex *run, GError **error)
{
    g_autoptr(GArray) lengths = NULL;
    g_autoptr(IndexWriter) writer = index_writer_new(run->place, run->point->base, NULL, run->cancel, error);
    if (writer == NULL || !write_entries(run, writer, error))
        return FALSE;
    volumes_reader_finish(run->volumes, run->point, &lengths);
    return index_writer_commit(writer, run->point, lengths, NULL, error);
}

/* What an archive's name says of it as a whole. */
static ArchivePoint *point_of(const ArchivePlace *place, const char *base, GError **error)
{
    g_autofree char *object = g_strconcat(base, ".index", NULL);
    ArchiveName name;
    if (!archive_name_parse(object, &name) || name.role != ARCHIVE_OBJECT_INDEX) {
        error_set(error, BACKAPP_ERROR_INVALID, "%s is not the name of an archive", base);
        return NULL;
    }
    ArchivePoint *point = g_new0(ArchivePoint, 1);
    point->name = name;
    point->base = g_strdup(base);
    point->place_name = g_strdup(place->name);
    point->rebuilt = TRUE;
    point->time = point->scan_s = name.time;
    point->host = g_strdup("");
    point->sources = g_ptr_array_new_with_free_func(g_free);
    point->volumes = g_array_new(FALSE, FALSE, sizeof(ArchiveVolume));
    return point;
}

/* What it was made on cannot be learnt from its tar: it must not pass for a whole tree. */
static void tell_of_part(Reindex *run)
{
    if (run->point->name.type == ARCHIVE_FULL)
        return;
    run->point->partial = TRUE;
    run->sink->warning(
        run->sink, "skipped", NULL,
        "what this archive was made on, and what was deleted, stood in its index only: it becomes a point "
        "that has nothing but what changed then");
}

static gboolean check_no_index(const ArchivePlace *place, const char *base, GError **error)
{
    g_autofree char *key = archive_index_key(place->name, base);
    g_autoptr(GError) local = NULL;
    g_autoptr(StoreObject) object = store_head(place->store, key, NULL, &local);
    if (object != NULL)
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "%s has an index: force it to be replaced if it is damaged (a new one knows no deletions)",
                         base);
    if (error_is(local, BACKAPP_ERROR_NOT_FOUND))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

gboolean archive_reindex(const ArchivePlace *place, const char *base, gboolean force, const CancelFlag *cancel,
                         RunSink *sink, ArchivePoint **point, GError **error)
{
    g_auto(Reindex) run = {.place = place, .cancel = cancel, .sink = sink};
    run.point = point_of(place, base, error);
    if (run.point == NULL || (!force && !check_no_index(place, base, error)))
        return FALSE;
    run.volumes = volumes_reader_new(place, base, cancel, error);
    if (run.volumes == NULL)
        return FALSE;
    run.file = stored_file_new();
    run.sorter = sorter_new(compare_records, 0);
    run.record = g_byte_array_new();
    run_stage_begin(&run.stage, sink, "reindex", 0, volumes_reader_size(run.volumes));
    if (!read_tar(&run, error))
        return FALSE;
    tell_of_part(&run);
    if (!write_index(&run, error))
        return FALSE;
    if (point != NULL)
        *point = g_steal_pointer(&run.point);
    return TRUE;
}
