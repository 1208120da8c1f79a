#include "engine/s3sync/plan.h"

#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "engine/s3sync/plan_decide.h"
#include "engine/s3sync/plan_items.h"
#include "engine/s3sync/plan_list.h"

struct S3Plan {
    PlanItems *items;
};

/* One of the sorted sequences: its present element and key, NULL at the end. */
typedef struct {
    CatalogueReader *reader;
    const CatalogueRow *row;
} Rows;

typedef struct {
    const S3PlanInput *input;
    const ScanOptions *scan_options;
    ScanStats *scan;
    PlanItems *items;
    PlanDecider *decider;
    PlanList *list;            /* NULL: the catalogue stands for it */
    const StoreObject *object; /* the list's present one */
    StoreObject stand_in;      /* made of a row where nothing is listed */
    Rows rows, base;
    guint unread_at;          /* in scan->unread: all before concern keys that were passed */
    GHashTable *long_objects; /* by key; NULL: not yet asked for */
    Spool *stale;             /* keys of rows whose objects are gone; NULL: none */
    GString *last_key;        /* of the scan, to see that its order holds */
} Merge;

static void merge_clear(Merge *merge)
{
    plan_list_free(merge->list);
    plan_decider_free(merge->decider);
    catalogue_reader_free(merge->rows.reader);
    catalogue_reader_free(merge->base.reader);
    if (merge->long_objects != NULL)
        g_hash_table_unref(merge->long_objects);
    spool_free(merge->stale);
    g_string_free(merge->last_key, TRUE);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Merge, merge_clear)

static gboolean next_object(Merge *merge, GError **error)
{
    int got = plan_list_next(merge->list, &merge->object, error);
    if (got <= 0)
        merge->object = NULL;
    return got >= 0;
}

/* The next row that is not one of a long key: those are looked up one by one. */
static gboolean next_row(Rows *rows, GError **error)
{
    int got = 1;
    do
        got = catalogue_reader_next(rows->reader, &rows->row, error);
    while (got == 1 && names_is_own_key(rows->row->key));
    if (got <= 0)
        rows->row = NULL;
    return got >= 0;
}

static gboolean begin_rows(Rows *rows, Catalogue *catalogue, GError **error)
{
    if (catalogue == NULL)
        return TRUE;
    rows->reader = catalogue_reader_new(catalogue, error);
    return rows->reader != NULL && next_row(rows, error);
}

/* The object that a row stands for where nothing is listed. */
static const StoreObject *stand_in(Merge *merge, const CatalogueRow *row)
{
    if (row == NULL)
        return NULL;
    merge->stand_in = (StoreObject){.key = row->key, .size = row->object_size, .etag = row->etag};
    merge->stand_in.version = row->version;
    merge->stand_in.storage_class = row->storage_class;
    merge->stand_in.latest = TRUE;
    return &merge->stand_in;
}

/* TRUE if the scan said that nothing at this key may be deleted. Keys come in order. */
static gboolean is_unread(Merge *merge, const char *key)
{
    const GPtrArray *unread = merge->scan->unread;
    for (; merge->unread_at < unread->len; merge->unread_at++) {
        const char *at = g_ptr_array_index(unread, merge->unread_at);
        gsize length = strlen(at);
        gboolean below = length > 0 && at[length - 1] == '/';
        if (below ? strncmp(key, at, length) == 0 : strcmp(key, at) == 0)
            return TRUE;
        if (strcmp(at, key) > 0)
            return FALSE;
    }
    return FALSE;
}

/* As rsync does: what is excluded is not deleted either, nor what lies in an excluded folder. */
static gboolean is_excluded(const Merge *merge, const char *path)
{
    const PatternList *patterns = merge->scan_options->patterns;
    if (pattern_list_length(patterns) == 0)
        return FALSE;
    g_autofree char *part = g_strdup(path);
    for (char *slash = strchr(part, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        gboolean out = pattern_list_match(patterns, part, TRUE) == PATTERN_EXCLUDE;
        *slash = '/';
        if (out)
            return TRUE;
    }
    return pattern_list_match(patterns, path, FALSE) == PATTERN_EXCLUDE;
}

/* Names of ours in the root of a source are left out; so are they here. */
static gboolean is_own_path(const char *path)
{
    g_autofree char *first = g_strndup(path, strcspn(path, "/"));
    return names_is_own_root(first);
}

static gboolean put_delete(Merge *merge, const char *path, const StoreObject *object, const CatalogueRow *row,
                           GError **error)
{
    S3PlanItem item = {.op = S3PLAN_DELETE, .have_etag = object->etag != NULL ? object->etag : ""};
    gboolean known = row != NULL && g_strcmp0(row->etag, object->etag) == 0;
    item.entry.path = path;
    item.entry.key = object->key;
    item.entry.object_size = object->size;
    item.entry.meta.size = known ? row->size : object->size;
    item.entry.etag = object->etag;
    item.entry.version = known ? row->version : NULL;
    item.have_class = object->storage_class;
    item.have_size = object->size;
    return plan_items_put(merge->items, &item, error);
}

/* An object that the source has no file for. */
static gboolean handle_extraneous(Merge *merge, const StoreObject *object, const CatalogueRow *row, GError **error)
{
    plan_items_counts(merge->items)->objects++;
    gboolean unread = is_unread(merge, object->key);
    if (!merge->input->options->delete_extraneous || merge->scan->all_unread || unread)
        return TRUE;
    /* A key that no file has was made by others: it goes too, unless its very bytes are excluded. */
    g_autofree char *path = names_path(merge->scan_options->names, object->key, NULL);
    const char *judged = path != NULL ? path : object->key;
    if (is_excluded(merge, judged) || is_own_path(judged))
        return TRUE;
    return put_delete(merge, judged, object, row, error);
}

/* A row whose object is gone, and no file asks for it. */
static gboolean note_stale(Merge *merge, const char *key, GError **error)
{
    if (merge->stale == NULL)
        merge->stale = plan_spool_new(merge->scan_options->temp_dir, error);
    return merge->stale != NULL && spool_put(merge->stale, key, strlen(key) + 1, error);
}

/* Handles what list and catalogue have before `key` (NULL: all that is left). */
static gboolean pass_until(Merge *merge, const char *key, GError **error)
{
    for (;;) {
        const char *listed = merge->object != NULL ? merge->object->key : NULL;
        const char *rowed = merge->rows.row != NULL ? merge->rows.row->key : NULL;
        int order = listed == NULL ? 1 : rowed == NULL ? -1 : strcmp(listed, rowed);
        const char *least = order <= 0 ? listed : rowed;
        if (least == NULL || (key != NULL && strcmp(least, key) >= 0))
            return TRUE;
        const CatalogueRow *row = order >= 0 ? merge->rows.row : NULL;
        const StoreObject *object = order <= 0 ? merge->object : NULL;
        if (merge->list == NULL)
            object = stand_in(merge, row);
        if (!cancel_check(merge->input->options->cancel, error) ||
            !(object != NULL ? handle_extraneous(merge, object, row, error) : note_stale(merge, least, error)))
            return FALSE;
        if ((merge->list != NULL && order <= 0 && !next_object(merge, error)) ||
            (order >= 0 && !next_row(&merge->rows, error)))
            return FALSE;
    }
}

static gboolean decide_and_put(Merge *merge, const S3Entry *entry, const StoreObject *object, const CatalogueRow *row,
                               const CatalogueRow *base, GError **error)
{
    S3PlanItem item;
    if (object != NULL)
        plan_items_counts(merge->items)->objects++;
    return plan_decide(merge->decider, entry, object, row, base, &item, error) &&
           plan_items_put(merge->items, &item, error);
}

static gboolean handle_file(Merge *merge, const S3Entry *entry, GError **error)
{
    const char *key = entry->key;
    if (!pass_until(merge, key, error))
        return FALSE;
    while (merge->base.row != NULL && strcmp(merge->base.row->key, key) < 0) {
        if (!next_row(&merge->base, error))
            return FALSE;
    }
    gboolean has_row = merge->rows.row != NULL && strcmp(merge->rows.row->key, key) == 0;
    gboolean has_object = merge->object != NULL && strcmp(merge->object->key, key) == 0;
    const CatalogueRow *row = has_row ? merge->rows.row : NULL;
    const StoreObject *object = has_object ? merge->object : merge->list == NULL ? stand_in(merge, row) : NULL;
    gboolean has_base = merge->base.row != NULL && strcmp(merge->base.row->key, key) == 0;
    return decide_and_put(merge, entry, object, row, has_base ? merge->base.row : NULL, error) &&
           (!has_object || next_object(merge, error)) && (!has_row || next_row(&merge->rows, error));
}

static gboolean list_long(Merge *merge, GError **error)
{
    if (merge->list == NULL || merge->long_objects != NULL)
        return TRUE;
    merge->long_objects = plan_list_long(merge->input->store, error);
    return merge->long_objects != NULL;
}

/* A file whose key is too long for S3: its object lies under a hash of the key. */
static gboolean handle_long(Merge *merge, const S3Entry *entry, GError **error)
{
    g_autofree char *key = names_long_key(entry->key);
    g_autoptr(CatalogueRow) row = NULL;
    g_autoptr(CatalogueRow) base = NULL;
    S3Entry renamed = *entry;
    renamed.key = key;
    if (!list_long(merge, error) || catalogue_find(merge->input->catalogue, key, &row, error) < 0 ||
        (merge->input->base != NULL && catalogue_find(merge->input->base, key, &base, error) < 0))
        return FALSE;
    StoreObject *listed = merge->list != NULL ? g_hash_table_lookup(merge->long_objects, key) : NULL;
    const StoreObject *object = merge->list != NULL ? listed : stand_in(merge, row);
    if (!decide_and_put(merge, &renamed, object, row, base, error))
        return FALSE;
    if (listed != NULL)
        g_hash_table_remove(merge->long_objects, key);
    return TRUE;
}

static gboolean found(const S3Entry *entry, gpointer user_data, GError **error)
{
    Merge *merge = user_data;
    if (entry->key == NULL) {
        S3PlanItem item = {.op = S3PLAN_META, .entry = *entry};
        return plan_items_put(merge->items, &item, error);
    }
    if (merge->last_key->len > 0 && strcmp(merge->last_key->str, entry->key) >= 0)
        return error_set(error, BACKAPP_ERROR_INTERNAL, "plan: the scan is out of order");
    g_string_assign(merge->last_key, entry->key);
    if (names_is_long(merge->input->prefix_length, entry->key))
        return handle_long(merge, entry, error);
    return handle_file(merge, entry, error);
}

/* Objects of long keys that no file asked for. Which paths they had is not known, so they only go if no path could have
 * been kept. */
static gboolean handle_long_extraneous(Merge *merge, GError **error)
{
    gboolean certain = merge->scan->unread->len == 0 && !merge->scan->all_unread &&
                       pattern_list_length(merge->scan_options->patterns) == 0;
    if (merge->list == NULL || !merge->input->options->delete_extraneous || !certain)
        return TRUE;
    if (merge->long_objects == NULL && !plan_list_has_own(merge->list))
        return TRUE;
    if (!list_long(merge, error))
        return FALSE;
    g_autoptr(GList) keys = g_list_sort(g_hash_table_get_keys(merge->long_objects), (GCompareFunc)strcmp);
    for (GList *at = keys; at != NULL; at = at->next) {
        const StoreObject *object = g_hash_table_lookup(merge->long_objects, at->data);
        plan_items_counts(merge->items)->objects++;
        if (!put_delete(merge, object->key, object, NULL, error))
            return FALSE;
    }
    return TRUE;
}

/* Rows are only removed once nothing reads them any more. */
static gboolean remove_stale(Merge *merge, GError **error)
{
    if (merge->stale == NULL || merge->input->options->dry_run)
        return TRUE;
    if (!spool_finish(merge->stale, error))
        return FALSE;
    g_autoptr(SpoolReader) reader = spool_reader_new(merge->stale);
    const guint8 *key = NULL;
    gsize length = 0;
    int got;
    while ((got = spool_reader_next(reader, &key, &length, error)) > 0) {
        if (!catalogue_remove(merge->input->catalogue, (const char *)key, error))
            return FALSE;
    }
    return got == 0 && catalogue_flush(merge->input->catalogue, error);
}

static void note_cold(const Merge *merge)
{
    guint64 cold = plan_decider_cold(merge->decider);
    RunSink *sink = merge->scan_options->sink;
    if (cold == 0 || sink == NULL)
        return;
    g_autofree char *message = g_strdup_printf(
        "%" G_GUINT64_FORMAT " objects in GLACIER or DEEP_ARCHIVE get another time or class: they cannot be copied, so "
        "they are uploaded anew; what they replace is still paid for until its minimum storage time is over",
        cold);
    sink->warning(sink, "note", NULL, message);
}

static guint64 list_requests(Store *store)
{
    StoreCounts counts = {0};
    store_counts(store, &counts);
    return counts.requests[STORE_REQUEST_LIST];
}

static gboolean begin(Merge *merge, GError **error)
{
    const S3PlanInput *input = merge->input;
    merge->decider = plan_decider_new(input, merge->scan_options->root_fd, error);
    if (merge->decider == NULL || !begin_rows(&merge->rows, input->catalogue, error) ||
        !begin_rows(&merge->base, input->base, error))
        return FALSE;
    if (!input->list)
        return TRUE;
    merge->list = plan_list_new(input->store, error);
    return merge->list != NULL && next_object(merge, error);
}

static gboolean make(PlanItems *items, const S3PlanInput *input, const ScanOptions *scan_options, ScanStats *scan,
                     GError **error)
{
    g_auto(Merge) merge = {.input = input, .scan_options = scan_options, .scan = scan, .items = items};
    merge.last_key = g_string_new(NULL);
    if (!begin(&merge, error) || !scan_run(scan_options, found, &merge, scan, error) ||
        !pass_until(&merge, NULL, error) || !handle_long_extraneous(&merge, error))
        return FALSE;
    note_cold(&merge);
    return plan_items_finish(items, error) && remove_stale(&merge, error);
}

S3Plan *s3plan_make(const S3PlanInput *input, const ScanOptions *scan_options, ScanStats *scan, GError **error)
{
    ScanOptions options = *scan_options;
    if (options.temp_dir == NULL)
        options.temp_dir = input->options->state_dir;
    *scan = (ScanStats){0};
    PlanItems *items = plan_items_new(options.temp_dir, error);
    if (items == NULL)
        return NULL;
    g_autoptr(S3Plan) plan = g_new0(S3Plan, 1);
    plan->items = items;
    guint64 before = list_requests(input->store);
    if (!make(items, input, &options, scan, error))
        return NULL;
    plan_items_counts(items)->listed = list_requests(input->store) - before;
    return g_steal_pointer(&plan);
}

const S3PlanCounts *s3plan_counts(const S3Plan *plan)
{
    return plan_items_counts(plan->items);
}

char *s3plan_hash(const S3Plan *plan)
{
    return plan_items_hash(plan->items);
}

S3PlanReader *s3plan_reader_new(S3Plan *plan)
{
    return plan_items_reader_new(plan->items);
}

void s3plan_free(S3Plan *plan)
{
    if (plan == NULL)
        return;
    plan_items_free(plan->items);
    g_free(plan);
}
