#include "engine/archive/retire.h"

#include "base/error.h"
#include "base/human.h"
#include "engine/archive/retire_private.h"
#include "store/drivers.h"
#include "store/lock_object.h"

#include <string.h>

#define MARKERS     ".backapp/retired/"
#define STAGE       "retention"
#define FAR_CLOCK_S 3600

const char *archive_retire_state_name(RetireState state)
{
    static const char *const names[] = {
        [RETIRE_KEEP] = "keep", [RETIRE_GO] = "go", [RETIRE_REMOVED] = "removed", [RETIRE_SKIPPED] = "skipped"};
    return names[state];
}

static void free_point(gpointer data)
{
    RetirePoint *point = data;
    g_free(point->base);
    g_free(point->why);
    g_free(point);
}

void archive_retire_clear(RetireReport *report)
{
    g_clear_pointer(&report->points, g_ptr_array_unref);
    g_free(report->rules);
    *report = (RetireReport){0};
}

static void free_candidate(gpointer data)
{
    RetireCandidate *candidate = data;
    g_free(candidate->parent);
    g_clear_error(&candidate->error);
    g_free(candidate);
}

static void retire_clear(Retire *retire)
{
    g_clear_pointer(&retire->by_base, g_hash_table_unref);
    g_clear_pointer(&retire->begun, g_hash_table_unref);
    g_clear_pointer(&retire->candidates, g_ptr_array_unref);
    g_clear_pointer(&retire->listed, g_ptr_array_unref);
    g_clear_pointer(&retire->zone, g_time_zone_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Retire, retire_clear)

static void note(const Retire *retire, const char *base, const char *message)
{
    RunSink *sink = retire->options->sink;
    sink->warning(sink, "note", base, message);
}

/* What depends on the store as a whole. Of two clocks the earlier one counts: nothing becomes old because one of them is
 * ahead. */
static void ask_store(Retire *retire)
{
    Store *store = retire->options->place.store;
    StoreFacts facts = {0};
    retire->now = g_get_real_time() / G_USEC_PER_SEC;
    if (store_facts(store, &facts, NULL)) {
        retire->lockable = facts.lock > 0 && store_can(store, STORE_LOCK | STORE_VERSIONS);
        retire->now += MIN(facts.clock_skew, 0);
    }
    if (ABS(facts.clock_skew) > FAR_CLOCK_S)
        note(retire, NULL,
             "the store's clock and this machine's are more than an hour apart: the earlier one decides what is old");
    if (retire->options->now > 0)
        retire->now = retire->options->now;
}

static void add_candidate(Retire *retire, const ArchiveListed *listed)
{
    RetirePoint *point = g_new0(RetirePoint, 1);
    point->base = g_strdup(listed->base);
    point->time = listed->name.time;
    point->type = listed->name.type;
    point->bytes = listed->index_size + listed->stored_bytes;
    g_ptr_array_add(retire->report->points, point);
    RetireCandidate *candidate = g_new0(RetireCandidate, 1);
    candidate->listed = listed;
    candidate->report = point;
    g_ptr_array_add(retire->candidates, candidate);
    g_hash_table_insert(retire->by_base, listed->base, candidate);
}

static gboolean list_archives(Retire *retire, GError **error)
{
    const ArchivePlace *place = &retire->options->place;
    retire->listed = archive_list(place, retire->options->cancel, error);
    if (!retire->listed)
        return FALSE;
    retire->report->points = g_ptr_array_new_with_free_func(free_point);
    retire->candidates = g_ptr_array_new_with_free_func(free_candidate);
    retire->by_base = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < retire->listed->len; i++)
        add_candidate(retire, g_ptr_array_index(retire->listed, i));
    g_autofree char *shown = human_name(place->name, -1);
    return retire->listed->len > 0 || g_hash_table_size(retire->begun) > 0 ||
           error_set(error, BACKAPP_ERROR_NOT_FOUND, "%s holds no archives of the name %s", place->store->url, shown);
}

/* The bases that an interrupted retention had begun with. */
static gboolean list_markers(Retire *retire, GError **error)
{
    const ArchivePlace *place = &retire->options->place;
    g_autofree char *prefix = g_strconcat(place->name, "/" MARKERS, NULL);
    g_autoptr(StoreList) objects = store_list(place->store, prefix, NULL, FALSE, error);
    const StoreObject *object;
    int more = -1;
    retire->begun = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    while (objects && (more = store_list_next(objects, &object, error)) > 0) {
        const char *base = object->key + strlen(prefix);
        ArchiveName name;
        if (archive_name_parse(base, &name) && name.role == ARCHIVE_OBJECT_VOLUME && name.volume == 0)
            g_hash_table_add(retire->begun, g_strdup(base));
    }
    return more == 0;
}

/* An object with all its versions: where objects can be locked a deletion that only hides them would hide the lock too.
 * CONFLICT if one is locked. */
static gboolean delete_versions(Store *store, const char *key, GError **error)
{
    g_autoptr(GPtrArray) versions = g_ptr_array_new_with_free_func((GDestroyNotify)store_object_free);
    g_autoptr(StoreList) objects = store_list(store, key, NULL, TRUE, error);
    const StoreObject *object;
    int more = -1;
    while (objects && (more = store_list_next(objects, &object, error)) > 0 && g_str_has_prefix(object->key, key))
        if (strcmp(object->key, key) == 0)
            g_ptr_array_add(versions, store_object_copy(object));
    /* The oldest first: if one is locked, what is seen stays as it is. */
    for (guint i = versions->len; more >= 0 && i-- > 0;) {
        const StoreObject *version = g_ptr_array_index(versions, i);
        if (!store_delete(store, key, version->version, error))
            return FALSE;
    }
    return more >= 0;
}

static gboolean delete_object(Store *store, const char *key, gboolean lockable, GError **error)
{
    return lockable ? delete_versions(store, key, error) : store_delete(store, key, NULL, error);
}

/* The keys of an archive's volumes. */
static GPtrArray *list_volumes(const ArchivePlace *place, const char *base, gboolean versions, GError **error)
{
    g_autofree char *prefix = g_strconcat(place->name, "/", base, NULL);
    g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(StoreList) objects = store_list(place->store, prefix, NULL, versions, error);
    const StoreObject *object;
    int more = -1;
    while (objects && (more = store_list_next(objects, &object, error)) > 0) {
        ArchiveName name;
        if (!archive_name_parse(object->key + strlen(place->name) + 1, &name) || name.role != ARCHIVE_OBJECT_VOLUME)
            continue;
        /* "BASE" begins "BASE.gz" too, and with versions a key comes several times. */
        g_autofree char *of = archive_base_name(&name);
        const char *last = keys->len > 0 ? g_ptr_array_index(keys, keys->len - 1) : "";
        if (strcmp(of, base) == 0 && strcmp(last, object->key) != 0)
            g_ptr_array_add(keys, g_strdup(object->key));
    }
    return more == 0 ? g_steal_pointer(&keys) : NULL;
}

static gboolean delete_volumes(const ArchivePlace *place, const char *base, gboolean lockable, GError **error)
{
    g_autoptr(GPtrArray) keys = list_volumes(place, base, lockable, error);
    if (!keys)
        return FALSE;
    if (!lockable)
        return keys->len == 0 ||
               store_delete_many(place->store, (const char *const *)keys->pdata, NULL, keys->len, NULL, error);
    for (guint i = 0; i < keys->len; i++)
        if (!delete_versions(place->store, g_ptr_array_index(keys, i), error))
            return FALSE;
    return TRUE;
}

static char *marker_key(const ArchivePlace *place, const char *base)
{
    return g_strconcat(place->name, "/" MARKERS, base, NULL);
}

static gboolean put_marker(const ArchivePlace *place, const char *base, GError **error)
{
    g_autofree char *key = marker_key(place, base);
    g_autofree char *text = g_strconcat("backapp removes this archive: ", base, "\n", NULL);
    const StoreBody body = {.data = text, .length = strlen(text)};
    const StorePut how = {.content_type = "text/plain"};
    return store_put(place->store, key, &body, &how, NULL, error);
}

static gboolean drop_marker(const ArchivePlace *place, const char *base, GError **error)
{
    g_autofree char *key = marker_key(place, base);
    return store_delete(place->store, key, NULL, error);
}

/* What is left once the marker is there. CONFLICT: something in it is locked. */
static gboolean remove_archive(const ArchivePlace *place, const char *base, gboolean lockable, GError **error)
{
    g_autofree char *index = archive_index_key(place->name, base);
    return delete_object(place->store, index, lockable, error) && delete_volumes(place, base, lockable, error) &&
           drop_marker(place, base, error);
}

/* A point that cannot be removed stays whole as long as its index is there, and with it what it builds on. */
static gboolean skip(Retire *retire, RetireCandidate *candidate, const GError *why, GError **error)
{
    const ArchivePlace *place = &retire->options->place;
    RunSink *sink = retire->options->sink;
    const char *base = candidate->listed->base;
    g_autofree char *index = archive_index_key(place->name, base);
    g_autoptr(GError) local = NULL;
    g_autoptr(StoreObject) there = store_head(place->store, index, NULL, &local);
    if (!there && !error_is(local, BACKAPP_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    g_autofree char *message = g_strdup_printf("it should go, but stays: %s", why->message);
    sink->warning(sink, "skipped", base, message);
    retire->report->partial = TRUE;
    retire->report->skipped++;
    if (there) {
        candidate->keep = TRUE;
        retire_keep_parents(retire, candidate);
        if (!drop_marker(place, base, error))
            return FALSE;
    }
    g_free(candidate->report->why);
    candidate->report->why = g_strdup(why->message);
    candidate->report->state = RETIRE_SKIPPED;
    return TRUE;
}

static gboolean retire_one(Retire *retire, RetireCandidate *candidate, GError **error)
{
    const ArchivePlace *place = &retire->options->place;
    const char *base = candidate->listed->base;
    g_autoptr(GError) local = NULL;
    gboolean begun = g_hash_table_contains(retire->begun, base);
    gboolean good = (begun || put_marker(place, base, &local)) && remove_archive(place, base, retire->lockable, &local);
    if (!good && error_is(local, BACKAPP_ERROR_CONFLICT))
        return skip(retire, candidate, local, error);
    if (!good) {
        g_propagate_prefixed_error(error, g_steal_pointer(&local), "cannot remove the archive %s: ", base);
        return FALSE;
    }
    candidate->report->state = RETIRE_REMOVED;
    return TRUE;
}

/* What builds on others first: their parents may only go after them. */
static int deepest_first(gconstpointer a, gconstpointer b)
{
    const RetireCandidate *left = *(const RetireCandidate *const *)a, *right = *(const RetireCandidate *const *)b;
    if (left->depth != right->depth)
        return left->depth < right->depth ? 1 : -1;
    return left->listed->name.time < right->listed->name.time ? 1 : -1;
}

/* A marker whose archive has its index still says nothing; one whose archive is gone altogether is the last that is left. */
static gboolean drop_old_markers(Retire *retire, GError **error)
{
    GHashTableIter iter;
    gpointer base;
    g_hash_table_iter_init(&iter, retire->begun);
    while (g_hash_table_iter_next(&iter, &base, NULL)) {
        const RetireCandidate *candidate = g_hash_table_lookup(retire->by_base, base);
        if (candidate && !candidate->listed->has_index)
            continue;
        if (!retire->options->simulate && !drop_marker(&retire->options->place, base, error))
            return FALSE;
        g_hash_table_iter_remove(&iter);
    }
    return TRUE;
}

static gboolean remove_all(Retire *retire, LockObject *lock, GError **error)
{
    const RetireOptions *options = retire->options;
    g_autoptr(GPtrArray) going = g_ptr_array_new();
    for (guint i = 0; i < retire->candidates->len; i++) {
        RetireCandidate *candidate = g_ptr_array_index(retire->candidates, i);
        if (!candidate->keep)
            g_ptr_array_add(going, candidate);
    }
    g_ptr_array_sort(going, deepest_first);
    RunProgress progress = {.files_total = going->len};
    for (guint i = 0; i < going->len; i++) {
        RetireCandidate *candidate = g_ptr_array_index(going, i);
        progress.files_done = i;
        progress.current_file = candidate->listed->base;
        options->sink->progress(options->sink, &progress);
        /* One that builds on it was skipped. */
        if (candidate->keep)
            continue;
        if (!cancel_check(options->cancel, error) || !lock_object_check(lock, error) ||
            !retire_one(retire, candidate, error))
            return FALSE;
    }
    progress.files_done = going->len;
    progress.current_file = NULL;
    options->sink->progress(options->sink, &progress);
    return TRUE;
}

static void count(RetireReport *report, gboolean simulate)
{
    for (guint i = 0; report->points && i < report->points->len; i++) {
        const RetirePoint *point = g_ptr_array_index(report->points, i);
        report->kept += point->state == RETIRE_KEEP;
        report->removed += point->state == RETIRE_REMOVED;
        report->would_go += point->state == RETIRE_GO;
        report->unfinished += point->unfinished && point->state == RETIRE_KEEP;
        if (point->state == (simulate ? RETIRE_GO : RETIRE_REMOVED))
            report->bytes_removed += point->bytes;
    }
}

static gboolean run(Retire *retire, LockObject *lock, GError **error)
{
    const RetireOptions *options = retire->options;
    retire->zone = options->zone ? g_time_zone_ref(options->zone) : g_time_zone_new_local();
    ask_store(retire);
    /* Markers first: one that is set later cannot be mistaken for an interrupted one. */
    if (!list_markers(retire, error) || !list_archives(retire, error) || !drop_old_markers(retire, error) ||
        !retire_judge(retire, error))
        return FALSE;
    return options->simulate || remove_all(retire, lock, error);
}

gboolean archive_retire(const RetireOptions *options, RetireReport *report, GError **error)
{
    *report = (RetireReport){.rules = retention_describe(&options->rules)};
    gint64 began = g_get_monotonic_time();
    g_autofree char *prefix = g_strconcat(options->place.name, "/", NULL);
    g_autoptr(Store) below = store_prefix_borrow(options->place.store, prefix);
    g_autoptr(LockObject) lock = NULL;
    options->sink->stage(options->sink, STAGE);
    if (!options->simulate && !(lock = lock_object_take(below, options->sink, error)))
        return FALSE;
    g_auto(Retire) retire = {.options = options, .report = report};
    gboolean good = run(&retire, lock, error);
    count(report, options->simulate);
    report->duration = (double)(g_get_monotonic_time() - began) / G_USEC_PER_SEC;
    return good;
}
