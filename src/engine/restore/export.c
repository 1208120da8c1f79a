#include "engine/restore/export.h"

#include "base/error.h"
#include "base/pool.h"
#include "base/run_stage.h"
#include "engine/restore/export_format.h"
#include "engine/restore/plan.h"
#include "engine/restore/selection.h"
#include "fs/dir.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_CONCURRENCY 16
/* Entries that are on their way at most, and bytes of their contents unless a single one has more. */
#define ON_THE_WAY 128u
#define BYTES_MAX  (G_GUINT64_CONSTANT(256) * 1024 * 1024)

/* An entry whose turn has not come. */
typedef struct {
    GByteArray *bytes; /* as an item of a plan */
    guint64 size;
    gboolean has_content;
    gboolean done; /* what follows is set; under the export's lock */
    int fd;
    gboolean cold;
    GError *error; /* NULL: it is fine */
} Slot;

typedef struct {
    const RestoreExportOptions *options;
    RestoreStats *stats;
    RestoreSource *source;
    Selection *selection;
    ExportWriter *writer;
    Pool *pool;
    GQueue *slots; /* of Slot, in order */
    guint64 bytes; /* of the contents in slots */
    RunStage stage;
    GHashTable *stand_ins; /* first names that were not asked for, and which further name stands for each */
    GHashTable *absent;    /* paths that could not be written: nothing can be linked to them */
    GMutex lock;
    GCond turned;
} Export;

static void slot_free(Slot *slot)
{
    g_byte_array_unref(slot->bytes);
    fd_clear(&slot->fd);
    g_clear_error(&slot->error);
    g_free(slot);
}

/* ---- fetching, in the threads of the pool ---- */

static int make_temp(GError **error)
{
    const char *folder = g_get_tmp_dir();
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
        return fd;
    g_autofree char *name = g_build_filename(folder, "backapp-export-XXXXXX", NULL);
    fd = g_mkstemp_full(name, O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
        (void)unlink(name);
    else
        (void)error_set_errno(error, errno, "cannot make a temporary file in %s", folder);
    return fd;
}

static gboolean fetch(Export *self, Slot *slot, GError **error)
{
    RestoreItem item;
    g_autoptr(GByteArray) arena = g_byte_array_new();
    if (!cancel_check(self->options->cancel, error) ||
        !restore_item_decode(slot->bytes->data, slot->bytes->len, arena, &item, error))
        return FALSE;
    slot->fd = make_temp(error);
    const RestoreEntry entry = {.entry = item.entry, .place = item.place, .place_length = item.place_length};
    RestoreFetch fetched = {.fd = slot->fd};
    gboolean fine = slot->fd >= 0 && restore_source_fetch(self->source, &entry, &fetched, error);
    slot->cold = fetched.cold;
    return fine;
}

static void run_fetch(gpointer data, gpointer user_data)
{
    Slot *slot = data;
    Export *self = user_data;
    GError *error = NULL;
    (void)fetch(self, slot, &error);
    g_mutex_lock(&self->lock);
    slot->error = error;
    slot->done = TRUE;
    g_cond_broadcast(&self->turned);
    g_mutex_unlock(&self->lock);
}

/* ---- writing, in order ---- */

static void wait_for_slot(Export *self, const Slot *slot)
{
    g_mutex_lock(&self->lock);
    while (!slot->done)
        g_cond_wait(&self->turned, &self->lock);
    g_mutex_unlock(&self->lock);
}

/* What concerns one entry is a warning; the first failure of the output or of this machine ends the export. */
static gboolean settle(Export *self, const Slot *slot, const char *path, GError **error)
{
    RestoreStats *stats = self->stats;
    if (error_is(slot->error, BACKAPP_ERROR_NO_SPACE) || error_is(slot->error, BACKAPP_ERROR_CANCELLED)) {
        g_propagate_error(error, g_error_copy(slot->error));
        return FALSE;
    }
    const char *code = "unwritable";
    if (slot->cold) {
        code = "cold";
        stats->cold++;
    } else if (error_is(slot->error, BACKAPP_ERROR_CORRUPT)) {
        code = "damaged";
        stats->damaged++;
    } else if (error_is(slot->error, BACKAPP_ERROR_NOT_FOUND)) {
        code = "missing";
        stats->missing++;
    }
    stats->partial = TRUE;
    g_hash_table_add(self->absent, g_strdup(path));
    self->options->sink->warning(self->options->sink, code, path, slot->error->message);
    return TRUE;
}

static gboolean write_entry(Export *self, const Slot *slot, const S3Entry *entry, GError **error)
{
    g_autoptr(GError) local = NULL;
    if (self->writer->put(self->writer, entry, slot->has_content ? slot->fd : -1, &local)) {
        if (!S_ISDIR(entry->meta.mode))
            self->stats->files_restored++;
        self->stats->bytes_restored += slot->size;
        run_stage_add(&self->stage, self->options->sink, S_ISDIR(entry->meta.mode) ? 0 : 1, slot->size, entry->path);
        return TRUE;
    }
    if (!error_is(local, BACKAPP_ERROR_INVALID)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    self->stats->files_skipped++;
    g_hash_table_add(self->absent, g_strdup(entry->path));
    self->options->sink->warning(self->options->sink, "note", entry->path, local->message);
    return TRUE;
}

/* Writes the entry whose turn it is. */
static gboolean write_first(Export *self, GError **error)
{
    Slot *slot = g_queue_pop_head(self->slots);
    RestoreItem item;
    g_autoptr(GByteArray) arena = g_byte_array_new();
    wait_for_slot(self, slot);
    self->bytes -= slot->size;
    gboolean fine = restore_item_decode(slot->bytes->data, slot->bytes->len, arena, &item, error);
    if (fine)
        fine = slot->error ? settle(self, slot, item.entry.path, error) : write_entry(self, slot, &item.entry, error);
    slot_free(slot);
    return fine;
}

static gboolean write_all(Export *self, GError **error)
{
    while (!g_queue_is_empty(self->slots))
        if (!write_first(self, error))
            return FALSE;
    return TRUE;
}

/* The name that this one can be linked to; NULL if it needs its own content. */
static const char *link_of(Export *self, const S3Entry *entry)
{
    const char *first = entry->link;
    if (!first || !self->writer->has_links)
        return NULL;
    if (!selection_has(self->selection, first)) {
        const char *other = g_hash_table_lookup(self->stand_ins, first);
        if (!other)
            g_hash_table_insert(self->stand_ins, g_strdup(first), g_strdup(entry->path));
        first = other;
    }
    return first && !g_hash_table_contains(self->absent, first) ? first : NULL;
}

static gboolean take_entry(const RestoreEntry *found, gboolean parent, gpointer user_data, GError **error)
{
    Export *self = user_data;
    RestoreItem item = {
        .op = RESTORE_OTHER, .entry = found->entry, .place = found->place, .place_length = found->place_length};
    if (!self->options->attributes) {
        item.entry.attrs = NULL;
        item.entry.attrs_length = 0;
    }
    /* Whether a first name is there is known when its turn has come. */
    if (item.entry.link && self->writer->has_links && !write_all(self, error))
        return FALSE;
    item.entry.link = link_of(self, &found->entry);
    Slot *slot = g_new0(Slot, 1);
    *slot = (Slot){.bytes = g_byte_array_new(), .fd = -1};
    slot->has_content = S_ISREG(item.entry.meta.mode) && !item.entry.link;
    slot->size = slot->has_content ? item.entry.meta.size : 0;
    slot->done = !slot->has_content;
    restore_item_encode(&item, slot->bytes);
    gboolean fine = TRUE;
    while (fine && (self->slots->length >= ON_THE_WAY || (self->bytes > 0 && self->bytes + slot->size > BYTES_MAX)))
        fine = write_first(self, error);
    g_queue_push_tail(self->slots, slot);
    self->bytes += slot->size;
    if (fine && slot->has_content)
        pool_push(self->pool, slot);
    else
        slot->done = TRUE;
    return fine;
}

static void export_clear(Export *self)
{
    g_clear_pointer(&self->pool, pool_free);
    while (self->slots && !g_queue_is_empty(self->slots))
        slot_free(g_queue_pop_head(self->slots));
    g_clear_pointer(&self->slots, g_queue_free);
    if (self->writer)
        self->writer->free(self->writer);
    g_clear_pointer(&self->selection, selection_free);
    g_clear_pointer(&self->stand_ins, g_hash_table_unref);
    g_clear_pointer(&self->absent, g_hash_table_unref);
    g_clear_pointer(&self->source, restore_source_free);
    g_mutex_clear(&self->lock);
    g_cond_clear(&self->turned);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Export, export_clear)

static gboolean run_export(Export *self, GError **error)
{
    const RestoreExportOptions *options = self->options;
    RestoreSourceOptions from = options->source;
    from.cancel = options->cancel;
    from.sink = options->sink;
    self->source = restore_source_open(&from, error);
    if (!self->source)
        return FALSE;
    self->stats->point = g_strdup(self->source->point.name);
    self->stats->point_time = self->source->point.time;
    self->writer = options->format == RESTORE_ZIP ? export_zip_new(options->fd, error) : export_tar_new(options->fd);
    guint threads = options->concurrency > 0 ? options->concurrency : DEFAULT_CONCURRENCY;
    self->pool = self->writer ? pool_new("export", threads, ON_THE_WAY, run_fetch, self, error) : NULL;
    if (!self->pool)
        return FALSE;
    run_stage_begin(&self->stage, options->sink, "restore", 0, 0);
    return selection_each(self->selection, self->source, options->cancel, take_entry, self, error) &&
           write_all(self, error) && self->writer->end(self->writer, error);
}

gboolean restore_export(const RestoreExportOptions *options, RestoreStats *stats, GError **error)
{
    *stats = (RestoreStats){0};
    gint64 start = g_get_monotonic_time();
    g_auto(Export) self = {.options = options, .stats = stats};
    g_mutex_init(&self.lock);
    g_cond_init(&self.turned);
    self.slots = g_queue_new();
    self.selection = selection_new(options->paths);
    self.stand_ins = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    self.absent = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    gboolean fine = run_export(&self, error);
    stats->duration = (double)(g_get_monotonic_time() - start) / G_USEC_PER_SEC;
    return fine;
}
