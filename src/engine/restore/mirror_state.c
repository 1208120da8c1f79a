#include "engine/restore/mirror_state.h"

#include "base/error.h"
#include "engine/archive/sort.h"
#include "engine/restore/mirror_sidecar.h"
#include "engine/source/scan.h"
#include "fs/dir.h"

#include <string.h>
#include <sys/stat.h>

#define TRASH ".trash"
/* Folders that only lead to what was kept are made with this mode and nothing else. */
#define LEADING_MODE 0700

/* ---- reading the layers ---- */

/* What a scan reports goes on to whoever restores, but its progress does not. */
typedef struct {
    RunSink sink; /* first */
    RunSink *outer;
} ScanSink;

static void no_stage(RunSink *sink, const char *name)
{
}

static void no_progress(RunSink *sink, const RunProgress *progress)
{
}

static void pass_warning(RunSink *sink, const char *code, const char *path, const char *message)
{
    RunSink *outer = ((ScanSink *)sink)->outer;
    /* The names that no backup into a store has: a mirror may have them. */
    if (outer && strcmp(code, "skipped") != 0)
        outer->warning(outer, code, path, message);
}

typedef struct {
    Sorter *sorter;
    guint number; /* of the layer */
    const MirrorLayer *layer;
    const char *below; /* what is scanned, below the layer; "" all of it */
    GByteArray *record;
    GString *path, *key;
} LayerScan;

static const char *join(GString *out, const char *folder, const char *path)
{
    g_string_assign(out, folder);
    if (*folder && *path)
        g_string_append_c(out, '/');
    return g_string_append(out, path)->str;
}

/* A record of the sorter: the path, zero, the layer's number, the entry. */
static gboolean put_found(const S3Entry *found, gpointer user_data, GError **error)
{
    LayerScan *scan = user_data;
    S3Entry entry = *found;
    entry.path = join(scan->path, scan->below, found->path);
    if (*entry.path == '\0' && !scan->layer->present)
        return TRUE;
    entry.key = S_ISREG(entry.meta.mode) ? join(scan->key, scan->layer->path, entry.path) : NULL;
    /* Made anew for the whole. */
    entry.link = NULL;
    g_byte_array_set_size(scan->record, 0);
    g_byte_array_append(scan->record, (const guint8 *)entry.path, (guint)strlen(entry.path) + 1);
    bytes_put_varint(scan->record, scan->number);
    entry_encode(&entry, "", scan->record);
    return sorter_put(scan->sorter, scan->record->data, scan->record->len, error);
}

/* Scans a folder of a layer, if it is there. */
static gboolean scan_below(LayerScan *scan, int root_fd, const RestoreSourceOptions *options, gboolean *partial,
                           GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *path = g_strdup(join(scan->path, scan->layer->path, scan->below));
    g_auto(AutoFd) fd = dir_open(root_fd, path, &local);
    if (fd < 0 && *scan->below != '\0')
        return TRUE;
    if (fd < 0) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    ScanSink sink = {.sink = {.stage = no_stage, .progress = no_progress, .warning = pass_warning},
                     .outer = options->sink};
    g_autoptr(S3Names) names = names_new_paths();
    ScanStats stats = {0};
    const ScanOptions scanning = {.root_fd = fd,
                                  .names = names,
                                  .is_mirror = TRUE,
                                  .metadata = TRUE,
                                  .cancel = options->cancel,
                                  .sink = &sink.sink};
    gboolean fine = scan_run(&scanning, put_found, scan, &stats, error);
    *partial = *partial || stats.partial;
    scan_stats_clear(&stats);
    return fine;
}

static gboolean scan_layer(Sorter *sorter, int root_fd, const GArray *layers, guint number,
                           const RestoreSourceOptions *options, gboolean *partial, GError **error)
{
    g_autoptr(GByteArray) record = g_byte_array_new();
    g_autoptr(GString) path = g_string_new(NULL), key = g_string_new(NULL);
    LayerScan scan = {.sorter = sorter,
                      .number = number,
                      .layer = &g_array_index(layers, MirrorLayer, number),
                      .below = "",
                      .record = record,
                      .path = path,
                      .key = key};
    if (!scan_below(&scan, root_fd, options, partial, error))
        return FALSE;
    /* A scan leaves it out; in a mirror it is a folder as any other. */
    scan.below = TRASH;
    return scan_below(&scan, root_fd, options, partial, error);
}

typedef struct {
    Sorter *sorter;
    guint number; /* of the records: behind the layers */
    GByteArray *record;
} SidecarScan;

static gboolean put_sidecar(const S3Entry *found, gboolean unsure, gpointer user_data, GError **error)
{
    SidecarScan *scan = user_data;
    if (unsure)
        return TRUE;
    g_byte_array_set_size(scan->record, 0);
    g_byte_array_append(scan->record, (const guint8 *)found->path, (guint)strlen(found->path) + 1);
    bytes_put_varint(scan->record, scan->number);
    entry_encode(found, "", scan->record);
    return sorter_put(scan->sorter, scan->record->data, scan->record->len, error);
}

/* A damaged sidecar costs the metadata that is only there. */
static gboolean read_sidecar(Sorter *sorter, int root_fd, guint number, const RestoreSourceOptions *options,
                             gboolean *partial, guint64 *granularity_ns, GError **error)
{
    g_autoptr(GByteArray) record = g_byte_array_new();
    SidecarScan scan = {sorter, number, record};
    g_autoptr(GError) local = NULL;
    if (mirror_sidecar_read(root_fd, put_sidecar, &scan, granularity_ns, &local))
        return TRUE;
    if (!error_is(local, BACKAPP_ERROR_CORRUPT)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    *partial = TRUE;
    if (options->sink) {
        g_autofree char *text = g_strdup_printf("%s: metadata that only it has cannot be restored", local->message);
        options->sink->warning(options->sink, "metadata", NULL, text);
    }
    return TRUE;
}

/* ---- merging ---- */

/* Below a path what layers behind this one have does not count: something that is no folder was there. */
typedef struct {
    char *path;
    guint last;
} Cut;

static void clear_cut(gpointer data)
{
    g_free(((Cut *)data)->path);
}

typedef struct {
    Spool *spool;
    GArray *cuts;        /* of Cut: of the paths above the one at hand */
    GHashTable *firsts;  /* by inode: the first name of files with several */
    GByteArray *winner;  /* the record that tells of the path at hand; empty: there is none yet */
    gboolean leads_only; /* it is a folder that may only lead to what was kept */
    guint cut;           /* G_MAXUINT: folders in all layers */
    guint winner_layer;
    guint64 granularity_ns;
    GByteArray *arena, *record, *other_arena;
} Merger;

typedef struct {
    InodeKey inode; /* first */
    char *path;
} FirstName;

static void free_first(gpointer data)
{
    FirstName *first = data;
    g_free(first->path);
    g_free(first);
}

static void merger_clear(Merger *merger)
{
    g_clear_pointer(&merger->cuts, g_array_unref);
    g_clear_pointer(&merger->firsts, g_hash_table_unref);
    g_clear_pointer(&merger->winner, g_byte_array_unref);
    g_clear_pointer(&merger->arena, g_byte_array_unref);
    g_clear_pointer(&merger->record, g_byte_array_unref);
    g_clear_pointer(&merger->other_arena, g_byte_array_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Merger, merger_clear)

/* A slash before everything else: what has one path comes together, whatever it is, and then what is below it. */
static int compare_records(const guint8 *a, gsize a_length, const guint8 *b, gsize b_length)
{
    gsize i = 0;
    while (a[i] != 0 && a[i] == b[i])
        i++;
    int left = a[i] == '/' ? 1 : a[i] ? a[i] + 1 : 0, right = b[i] == '/' ? 1 : b[i] ? b[i] + 1 : 0;
    /* Equal ones stay in the order of the layers, in which they came. */
    return left - right;
}

static gboolean read_record(const guint8 *data, gsize length, GByteArray *arena, guint *layer, S3Entry *entry,
                            GError **error)
{
    gsize path = strlen((const char *)data) + 1;
    BytesReader in = bytes_reader(data + path, length - path);
    *layer = (guint)bytes_get_varint(&in);
    g_byte_array_set_size(arena, 0);
    return entry_decode(&in, "", arena, entry, error);
}

/* The path of another name of the same file that was told already; NULL if this is the first. */
static const char *first_name(Merger *merger, const S3Entry *entry)
{
    if (entry->meta.nlink < 2 || S_ISDIR(entry->meta.mode))
        return NULL;
    const InodeKey inode = {entry->meta.dev, entry->meta.ino};
    const FirstName *known = g_hash_table_lookup(merger->firsts, &inode);
    if (known)
        return known->path;
    FirstName *first = g_new0(FirstName, 1);
    *first = (FirstName){inode, g_strdup(entry->path)};
    g_hash_table_add(merger->firsts, first);
    return NULL;
}

/* Tells of the path at hand. */
static gboolean flush(Merger *merger, GError **error)
{
    guint layer;
    S3Entry entry;
    if (merger->winner->len == 0)
        return TRUE;
    if (!read_record(merger->winner->data, merger->winner->len, merger->arena, &layer, &entry, error))
        return FALSE;
    const char *first = first_name(merger, &entry);
    entry.link = first ? first : entry.link;
    g_byte_array_set_size(merger->record, 0);
    entry_encode(&entry, "", merger->record);
    if (merger->cut != G_MAXUINT) {
        Cut cut = {g_strdup(entry.path), merger->cut};
        g_array_append_val(merger->cuts, cut);
    }
    g_byte_array_set_size(merger->winner, 0);
    return spool_put(merger->spool, merger->record->data, merger->record->len, error);
}

static gboolean is_below(const char *path, const char *folder)
{
    gsize length = strlen(folder);
    return length == 0 || (strncmp(path, folder, length) == 0 && path[length] == '/');
}

/* The last layer that counts for a path. */
static guint last_layer(Merger *merger, const char *path)
{
    while (merger->cuts->len > 0 && !is_below(path, g_array_index(merger->cuts, Cut, merger->cuts->len - 1).path))
        g_array_set_size(merger->cuts, merger->cuts->len - 1);
    guint last = G_MAXUINT;
    for (guint i = 0; i < merger->cuts->len; i++)
        last = MIN(last, g_array_index(merger->cuts, Cut, i).last);
    return last;
}

static gboolean same_path(const Merger *merger, const char *path)
{
    return merger->winner->len > 0 && strcmp((const char *)merger->winner->data, path) == 0;
}

static void set_winner(Merger *merger, guint layer, const guint8 *data, gsize length)
{
    g_byte_array_set_size(merger->winner, 0);
    g_byte_array_append(merger->winner, data, (guint)length);
    merger->winner_layer = layer;
}

/* What the sidecar says of the path at hand: all of something that cannot exist there, else the metadata of what does, if
 * that is still what the record was made of. */
static gboolean take_sidecar(Merger *merger, guint present, const S3Entry *side, const guint8 *data, gsize length,
                             GError **error)
{
    guint32 type = side->meta.mode & S_IFMT;
    if (merger->winner->len == 0) {
        if (type != S_IFREG && type != S_IFDIR && last_layer(merger, side->path) >= present)
            set_winner(merger, present, data, length);
        return TRUE;
    }
    guint layer;
    S3Entry entry;
    if (merger->winner_layer != present)
        return TRUE;
    if (!read_record(merger->winner->data, merger->winner->len, merger->other_arena, &layer, &entry, error))
        return FALSE;
    gboolean same = type == S_IFDIR || (type == S_IFREG && side->meta.size == entry.meta.size &&
                                        meta_same_mtime(&side->meta, &entry.meta, merger->granularity_ns));
    if ((entry.meta.mode & S_IFMT) != type || !same)
        return TRUE;
    S3Entry whole = *side;
    whole.key = entry.key;
    whole.meta.ino = entry.meta.ino;
    whole.meta.dev = entry.meta.dev;
    whole.meta.nlink = entry.meta.nlink;
    g_byte_array_set_size(merger->record, 0);
    g_byte_array_append(merger->record, (const guint8 *)side->path, (guint)strlen(side->path) + 1);
    bytes_put_varint(merger->record, present);
    entry_encode(&whole, "", merger->record);
    set_winner(merger, present, merger->record->data, merger->record->len);
    return TRUE;
}

static gboolean take_record(Merger *merger, const GArray *layers, const guint8 *data, gsize length, GError **error)
{
    const char *path = (const char *)data;
    if (!same_path(merger, path) && !flush(merger, error))
        return FALSE;
    guint layer;
    S3Entry entry;
    if (!read_record(data, length, merger->arena, &layer, &entry, error))
        return FALSE;
    gboolean first = merger->winner->len == 0;
    if (first)
        merger->cut = G_MAXUINT;
    if (layer >= layers->len)
        return take_sidecar(merger, layers->len - 1, &entry, data, length, error);
    if (layer > MIN(last_layer(merger, path), merger->cut))
        return TRUE;
    gboolean is_dir = S_ISDIR(entry.meta.mode);
    if (!is_dir)
        merger->cut = layer;
    if (!first && (!is_dir || !merger->leads_only))
        return TRUE;
    /* Of a folder that leads only, another layer may know what it really is. */
    merger->leads_only =
        is_dir && (entry.meta.mode & ALLPERMS) == LEADING_MODE && !g_array_index(layers, MirrorLayer, layer).present;
    set_winner(merger, layer, data, length);
    return TRUE;
}

static gboolean merge(Sorter *sorter, Spool *spool, const GArray *layers, guint64 granularity_ns,
                      const CancelFlag *cancel, GError **error)
{
    g_auto(Merger) merger = {.spool = spool, .cut = G_MAXUINT, .granularity_ns = granularity_ns};
    merger.cuts = g_array_new(FALSE, TRUE, sizeof(Cut));
    g_array_set_clear_func(merger.cuts, clear_cut);
    merger.firsts = g_hash_table_new_full(inode_key_hash, inode_key_equal, free_first, NULL);
    merger.winner = g_byte_array_new();
    merger.arena = g_byte_array_new();
    merger.record = g_byte_array_new();
    merger.other_arena = g_byte_array_new();
    const guint8 *data;
    gsize length;
    int more = 0;
    while (cancel_check(cancel, error) && (more = sorter_next(sorter, &data, &length, error)) > 0)
        if (!take_record(&merger, layers, data, length, error))
            return FALSE;
    return more == 0 && !cancel_is_set(cancel) && flush(&merger, error);
}

Spool *mirror_state_merge(int root_fd, const GArray *layers, const RestoreSourceOptions *options, gboolean *partial,
                          guint64 *granularity_ns, GError **error)
{
    g_autoptr(Sorter) sorter = sorter_new(compare_records, 0);
    g_autoptr(Spool) spool = spool_new(-1, error);
    *partial = FALSE;
    if (!spool)
        return NULL;
    for (guint i = 0; i < layers->len; i++)
        if (!scan_layer(sorter, root_fd, layers, i, options, partial, error))
            return NULL;
    if (!read_sidecar(sorter, root_fd, layers->len, options, partial, granularity_ns, error) ||
        !sorter_finish(sorter, error) || !merge(sorter, spool, layers, *granularity_ns, options->cancel, error) ||
        !spool_finish(spool, error))
        return NULL;
    return g_steal_pointer(&spool);
}
