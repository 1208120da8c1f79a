#include "engine/archive/create_plan.h"

#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "engine/archive/tar_format.h"
#include "engine/source/scan.h"
#include "fs/spool.h"

/* Before the parent's look at the sources began: what changed so late may have changed again unseen. */
#define LATE_S 2
/* What the headers of an entry take at most beside names and attributes. */
#define HEADERS_MAX 3072

struct CreatePlan {
    Spool *spool;
};

struct CreatePlanReader {
    SpoolReader *reader;
    GByteArray *arena;
};

/* When something is put into this archive: by this run, by the interrupted one, or by this one if it is read as another. */
typedef enum { STORED_NOW = 1, STORED_BEFORE, STORED_PERHAPS } StoredWhen;

/* Entries in the index's order, one ahead. */
typedef struct {
    ChainReader *chain;
    RunsReader *runs;
    IndexEntry entry;
    gboolean has;
} Ahead;

typedef struct {
    CreateRun *run;
    CreatePlan *plan;
    CreateTotals *totals;
    Ahead parent, done;
    gint64 late_s; /* changes from then on are not proven by size and times */
    ScanStats *scans;
    guint *unread_at;         /* for each source: the first of its unread paths that may still come */
    guint source;             /* the present one */
    GHashTable *stored_links; /* first names of several that are stored, in the archive: to a StoredWhen */
    GString *path, *link;
    GByteArray *record;
} Maker;

/* ---- items ---- */

void create_item_encode(const CreateItem *item, GByteArray *out)
{
    bytes_put_varint(out, item->op);
    bytes_put_varint(out, item->known ? 1 : 0);
    bytes_put_varint(out, item->source);
    entry_encode(&item->entry, "", out);
}

gboolean create_item_decode(const guint8 *data, gsize length, GByteArray *arena, CreateItem *item, GError **error)
{
    BytesReader in = bytes_reader(data, length);
    item->op = (CreateOp)bytes_get_varint(&in);
    item->known = bytes_get_varint(&in) != 0;
    item->source = (guint)bytes_get_varint(&in);
    g_byte_array_set_size(arena, 0);
    return entry_decode(&in, "", arena, &item->entry, error);
}

static void show(const Maker *maker, const CreateItem *item)
{
    RunSink *sink = maker->run->options->sink;
    if (sink->item == NULL || item->op == CREATE_DROP || item->op == CREATE_CHECK || item->op == CREATE_FOLLOW)
        return;
    const S3Entry *entry = &item->entry;
    gboolean is_file = S_ISREG(entry->meta.mode) && entry->link == NULL;
    RunItem shown = {.action = item->op == CREATE_DELETE ? "delete"
                               : item->known             ? "update"
                                                         : "create",
                     .kind = meta_kind(entry->meta.mode),
                     .path = entry->path,
                     .bytes = item->op == CREATE_STORE && is_file ? entry->meta.size : 0,
                     .files = item->op == CREATE_DELETE ? 1 : 0};
    sink->item(sink, &shown);
}

static void count(CreateTotals *totals, const CreateItem *item)
{
    const S3Entry *entry = &item->entry;
    gboolean is_content = S_ISREG(entry->meta.mode) && entry->link == NULL;
    guint64 content = is_content ? entry->meta.size : 0;
    if (item->op == CREATE_DELETE)
        totals->deleted++;
    if (item->op == CREATE_CHECK)
        totals->check_bytes += content;
    if (item->op == CREATE_STORE) {
        totals->store_files += S_ISDIR(entry->meta.mode) ? 0 : 1;
        totals->store_bytes += content;
        totals->created += item->known ? 0 : 1;
        totals->changed += item->known ? 1 : 0;
    }
    if (item->op != CREATE_DELETE && item->op != CREATE_DROP)
        totals->tar_bytes += HEADERS_MAX + 2 * strlen(entry->path) + entry->attrs_length * 2 + content;
}

static gboolean put(Maker *maker, const CreateItem *item, GError **error)
{
    g_byte_array_set_size(maker->record, 0);
    create_item_encode(item, maker->record);
    count(maker->totals, item);
    show(maker, item);
    return spool_put(maker->plan->spool, maker->record->data, maker->record->len, error);
}

/* ---- what was there ---- */

static gboolean move_on(Ahead *ahead, GError **error)
{
    int got = 0;
    guint number = 0;
    if (ahead->chain != NULL)
        got = chain_reader_next(ahead->chain, &ahead->entry, &number, error);
    else if (ahead->runs != NULL)
        got = runs_reader_next(ahead->runs, &ahead->entry, error);
    ahead->has = got == 1;
    return got >= 0;
}

/* Its place in the order against a path: before (-1), at (0), behind (1); behind if there is none. */
static int place_of(const Ahead *ahead, const char *path, gboolean is_directory)
{
    if (!ahead->has)
        return 1;
    const S3Entry *entry = &ahead->entry.entry;
    return path == NULL ? -1 : index_compare_paths(entry->path, S_ISDIR(entry->meta.mode), path, is_directory);
}

/* TRUE if the scan said that of this path nothing is known. */
static gboolean is_unread(Maker *maker, const S3Entry *entry)
{
    const char *path = entry->path;
    const char *slash = S_ISDIR(entry->meta.mode) ? "/" : "";
    for (guint i = 0; i <= maker->source && i < maker->run->sources->len; i++) {
        const CreateSource *source = &g_array_index(maker->run->sources, CreateSource, i);
        const char *own = create_path_in_source(source, path);
        const ScanStats *scan = &maker->scans[i];
        /* The root itself was read. */
        if (own == NULL || own[0] == '\0' || scan->unread == NULL)
            continue;
        if (scan->all_unread)
            return TRUE;
        /* A directory's key ends in a slash, by which it is sorted. */
        g_autofree char *key = scan->unread->len > 0 ? g_strconcat(own, slash, NULL) : NULL;
        for (guint *at = &maker->unread_at[i]; *at < scan->unread->len; (*at)++) {
            const char *unread = g_ptr_array_index(scan->unread, *at);
            gboolean below = g_str_has_suffix(unread, "/");
            if (below ? g_str_has_prefix(key, unread) : strcmp(key, unread) == 0)
                return TRUE;
            if (strcmp(unread, key) > 0)
                break;
        }
    }
    return FALSE;
}

static gboolean put_gone(Maker *maker, const S3Entry *entry, CreateOp op, GError **error)
{
    CreateItem item = {.op = op, .known = op == CREATE_DELETE, .source = maker->source};
    item.entry.path = entry->path;
    item.entry.meta.mode = entry->meta.mode;
    return put(maker, &item, error);
}

/* What the parent or the interrupted run has before the path (NULL: all that is left), and the sources have not. */
static gboolean pass_until(Maker *maker, const char *path, gboolean is_directory, GError **error)
{
    while (place_of(&maker->parent, path, is_directory) < 0 || place_of(&maker->done, path, is_directory) < 0) {
        Ahead *parent = &maker->parent, *done = &maker->done;
        int order = !parent->has ? 1
                    : !done->has ? -1
                                 : index_compare_paths(parent->entry.entry.path, S_ISDIR(parent->entry.entry.meta.mode),
                                                       done->entry.entry.path, S_ISDIR(done->entry.entry.meta.mode));
        gboolean in_parent = order <= 0, in_done = order >= 0;
        const S3Entry *entry = in_parent ? &parent->entry.entry : &done->entry.entry;
        gboolean deleted_already = in_done && (done->entry.flags & INDEX_DELETED) != 0;
        gboolean unread = is_unread(maker, entry);
        gboolean good = TRUE;
        if (!unread && in_parent && !deleted_already)
            good = put_gone(maker, entry, CREATE_DELETE, error);
        else if (in_done && (unread ? deleted_already : !in_parent && !deleted_already))
            good = put_gone(maker, entry, CREATE_DROP, error);
        if (!good || !cancel_check(maker->run->options->cancel, error) || (in_parent && !move_on(parent, error)) ||
            (in_done && !move_on(done, error)))
            return FALSE;
    }
    return TRUE;
}

/* ---- comparing ---- */

static gboolean same_owner_and_mode(const FileMeta *a, const FileMeta *b)
{
    return a->mode == b->mode && a->uid == b->uid && a->gid == b->gid;
}

static gboolean same_mtime(const FileMeta *a, const FileMeta *b)
{
    return a->mtime_s == b->mtime_s && a->mtime_ns == b->mtime_ns;
}

static gboolean same_attrs(const S3Entry *a, const S3Entry *b)
{
    return a->attrs_length == b->attrs_length &&
           (a->attrs_length == 0 || memcmp(a->attrs, b->attrs, a->attrs_length) == 0);
}

/* It may be one of several names of a file. */
static gboolean has_names(const FileMeta *meta)
{
    return !S_ISDIR(meta->mode) && meta->nlink > 1;
}

/* A regular file, and what has several names, is the same by what an inode tells; anything else by all that is kept of
 * it. */
static gboolean same(const S3Entry *entry, const S3Entry *was)
{
    const FileMeta *a = &entry->meta, *b = &was->meta;
    if (!same_owner_and_mode(a, b) || !same_mtime(a, b) || g_strcmp0(entry->link, was->link) != 0)
        return FALSE;
    gboolean same_inode = a->ino == b->ino && a->ctime_s == b->ctime_s && a->ctime_ns == b->ctime_ns;
    if (S_ISREG(a->mode))
        return same_inode && a->size == b->size;
    if (has_names(a) && !same_inode)
        return FALSE;
    if (!same_attrs(entry, was))
        return FALSE;
    if (S_ISLNK(a->mode))
        return g_strcmp0(entry->target, was->target) == 0;
    return S_ISDIR(a->mode) || a->rdev == b->rdev;
}

/* Nobody can say that such a file did not change in the instant after it was read. */
static gboolean is_late(const Maker *maker, const FileMeta *meta)
{
    return meta->mtime_s >= maker->late_s || meta->ctime_s >= maker->late_s;
}

/* What has to be done for an entry that the parent has, or not (NULL). 0: nothing. */
static CreateOp decide(Maker *maker, const S3Entry *entry, const IndexEntry *was)
{
    gboolean is_file = S_ISREG(entry->meta.mode);
    if (was == NULL || !same(entry, &was->entry) || (was->flags & INDEX_CHANGED) != 0)
        return CREATE_STORE;
    if (entry->link != NULL || !is_file || !(maker->run->options->checksum || is_late(maker, &entry->meta)))
        return 0;
    return was->entry.part_size > 0 ? CREATE_CHECK : CREATE_STORE;
}

/* When a first name is stored; 0: it is not. */
static StoredWhen stored_when(const Maker *maker, const char *path)
{
    return (StoredWhen)GPOINTER_TO_UINT(g_hash_table_lookup(maker->stored_links, path));
}

static gboolean put_found(Maker *maker, const S3Entry *entry, GError **error)
{
    const IndexEntry *was =
        place_of(&maker->parent, entry->path, S_ISDIR(entry->meta.mode)) == 0 ? &maker->parent.entry : NULL;
    const IndexEntry *done =
        place_of(&maker->done, entry->path, S_ISDIR(entry->meta.mode)) == 0 ? &maker->done.entry : NULL;
    gboolean is_done =
        done != NULL && (done->flags & (INDEX_DELETED | INDEX_CHANGED)) == 0 && same(entry, &done->entry);
    CreateOp op = is_done ? 0 : done != NULL ? CREATE_STORE : decide(maker, entry, was);
    StoredWhen first = entry->link != NULL ? stored_when(maker, entry->link) : 0;
    if (first == STORED_NOW || (first == STORED_BEFORE && !is_done))
        op = CREATE_STORE;
    if (first == STORED_PERHAPS && op == 0 && !is_done)
        op = CREATE_FOLLOW;
    if (entry->link == NULL && has_names(&entry->meta) && (is_done || op != 0)) {
        StoredWhen when = is_done ? STORED_BEFORE : op == CREATE_STORE ? STORED_NOW : STORED_PERHAPS;
        g_hash_table_insert(maker->stored_links, g_strdup(entry->path), GUINT_TO_POINTER(when));
    }
    if (op == 0) {
        maker->totals->unchanged += !is_done && !S_ISDIR(entry->meta.mode) ? 1 : 0;
        return TRUE;
    }
    CreateItem item = {.op = op, .known = was != NULL, .source = maker->source, .entry = *entry};
    if (op == CREATE_CHECK) {
        item.entry.part_size = was->entry.part_size;
        memcpy(item.entry.hash, was->entry.hash, HASH_BYTES);
    }
    return put(maker, &item, error);
}

static gboolean found(const S3Entry *scanned, gpointer user_data, GError **error)
{
    Maker *maker = user_data;
    const CreateSource *source = &g_array_index(maker->run->sources, CreateSource, maker->source);
    S3Entry entry = *scanned;
    entry.key = NULL;
    entry.path = create_archive_path(source, scanned->path, maker->path);
    if (scanned->link != NULL)
        entry.link = create_archive_path(source, scanned->link, maker->link);
    gboolean is_directory = S_ISDIR(entry.meta.mode);
    return pass_until(maker, entry.path, is_directory, error) && put_found(maker, &entry, error) &&
           (place_of(&maker->parent, entry.path, is_directory) != 0 || move_on(&maker->parent, error)) &&
           (place_of(&maker->done, entry.path, is_directory) != 0 || move_on(&maker->done, error));
}

/* ---- the whole ---- */

static gboolean scan_source(Maker *maker, const S3Names *names, GError **error)
{
    const ArchiveOptions *options = maker->run->options;
    const CreateSource *source = &g_array_index(maker->run->sources, CreateSource, maker->source);
    ScanOptions how = {.root_fd = source->root_fd,
                       .names = names,
                       .patterns = options->patterns,
                       .one_file_system = options->one_file_system,
                       .exclude_caches = options->exclude_caches,
                       .exclude_if_present = options->exclude_if_present,
                       .exclude_larger_than = options->exclude_larger_than,
                       .metadata = TRUE,
                       .no_xattrs = !options->xattrs,
                       .no_acls = !options->acls,
                       .cancel = options->cancel,
                       .sink = options->sink};
    ScanStats *scan = &maker->scans[maker->source];
    CreateTotals *totals = maker->totals;
    gboolean good = scan_run(&how, found, maker, scan, error);
    totals->files += scan->files;
    totals->directories += scan->directories;
    totals->bytes += scan->bytes;
    totals->unreadable += scan->unreadable;
    totals->vanished += scan->vanished;
    totals->skipped += scan->skipped;
    totals->partial |= scan->partial;
    return good;
}

/* What a point could not read was looked at last when an earlier one was made. */
static gint64 late_since(Chain *chain)
{
    gint64 since = G_MAXINT64;
    for (guint i = 0; i < chain_length(chain); i++) {
        const ArchivePoint *point = index_point(chain_index(chain, i));
        since = MIN(since, point->scan_s - LATE_S);
        if (point->unread == 0)
            break;
    }
    return since;
}

static gboolean begin(Maker *maker, GError **error)
{
    CreateRun *run = maker->run;
    maker->late_s = G_MAXINT64;
    if (run->chain != NULL) {
        maker->late_s = late_since(run->chain);
        maker->parent.chain = chain_read(run->chain, NULL, FALSE, error);
        if (maker->parent.chain == NULL)
            return FALSE;
    }
    if (run->runs != NULL) {
        maker->done.runs = runs_read(run->runs, error);
        if (maker->done.runs == NULL)
            return FALSE;
    }
    return move_on(&maker->parent, error) && move_on(&maker->done, error);
}

static gboolean make(Maker *maker, GError **error)
{
    g_autoptr(S3Names) names = names_new_paths();
    if (!begin(maker, error))
        return FALSE;
    for (maker->source = 0; maker->source < maker->run->sources->len; maker->source++) {
        if (!scan_source(maker, names, error))
            return FALSE;
    }
    return pass_until(maker, NULL, FALSE, error) && spool_finish(maker->plan->spool, error);
}

CreatePlan *create_plan_make(CreateRun *run, CreateTotals *totals, GError **error)
{
    *totals = (CreateTotals){0};
    g_autoptr(CreatePlan) plan = g_new0(CreatePlan, 1);
    plan->spool = spool_new(-1, error);
    if (plan->spool == NULL)
        return NULL;
    guint count = run->sources->len;
    Maker maker = {.run = run, .plan = plan, .totals = totals};
    maker.scans = g_new0(ScanStats, count);
    maker.unread_at = g_new0(guint, count);
    maker.stored_links = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    maker.path = g_string_new(NULL);
    maker.link = g_string_new(NULL);
    maker.record = g_byte_array_new();
    gboolean good = make(&maker, error);
    for (guint i = 0; i < count; i++)
        scan_stats_clear(&maker.scans[i]);
    g_free(maker.scans);
    g_free(maker.unread_at);
    g_hash_table_unref(maker.stored_links);
    g_string_free(maker.path, TRUE);
    g_string_free(maker.link, TRUE);
    g_byte_array_unref(maker.record);
    chain_reader_free(maker.parent.chain);
    runs_reader_free(maker.done.runs);
    return good ? g_steal_pointer(&plan) : NULL;
}

CreatePlanReader *create_plan_read(CreatePlan *plan)
{
    CreatePlanReader *reader = g_new0(CreatePlanReader, 1);
    reader->reader = spool_reader_new(plan->spool);
    reader->arena = g_byte_array_new();
    return reader;
}

int create_plan_next(CreatePlanReader *reader, CreateItem *item, GError **error)
{
    const guint8 *data = NULL;
    gsize length = 0;
    int got = spool_reader_next(reader->reader, &data, &length, error);
    if (got <= 0)
        return got;
    return create_item_decode(data, length, reader->arena, item, error) ? 1 : -1;
}

void create_plan_reader_free(CreatePlanReader *reader)
{
    if (reader == NULL)
        return;
    spool_reader_free(reader->reader);
    g_byte_array_unref(reader->arena);
    g_free(reader);
}

void create_plan_free(CreatePlan *plan)
{
    if (plan == NULL)
        return;
    spool_free(plan->spool);
    g_free(plan);
}
