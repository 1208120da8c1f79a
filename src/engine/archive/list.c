#include "engine/archive/point.h"

#include "base/error.h"

#include <string.h>

/* More archives of one name than anybody keeps: a list of them is held in memory. */
#define LISTED_MAX 200000
/* Of a folder's objects so many are looked at: an archive's names begin with a digit, so they are among the first. */
#define LOOKED_AT_MAX 100
/* Each folder with more objects than that costs a request. */
#define FOLDERS_MAX 2000

void archive_listed_free(ArchiveListed *listed)
{
    if (!listed)
        return;
    g_free(listed->base);
    g_free(listed);
}

static void free_listed(gpointer data)
{
    archive_listed_free(data);
}

/* The line of the archive that this object belongs to: an archive's objects need not follow one another, "x.tar.gz" comes
 * between "x.tar" and "x.tar.index". NULL with an error if there are too many. */
static ArchiveListed *find_line(GHashTable *lines, GPtrArray *list, const ArchiveName *name, GError **error)
{
    g_autofree char *base = archive_base_name(name);
    ArchiveListed *listed = g_hash_table_lookup(lines, base);
    if (listed)
        return listed;
    if (list->len == LISTED_MAX) {
        (void)error_set(error, BACKAPP_ERROR_INVALID, "there are more than %u archives of this name", LISTED_MAX);
        return NULL;
    }
    listed = g_new0(ArchiveListed, 1);
    listed->name = *name;
    listed->name.role = ARCHIVE_OBJECT_INDEX;
    listed->name.volume = 0;
    listed->base = g_steal_pointer(&base);
    g_ptr_array_add(list, listed);
    g_hash_table_insert(lines, listed->base, listed);
    return listed;
}

static void count_object(ArchiveListed *listed, const ArchiveName *name, const StoreObject *object)
{
    listed->modified = MAX(listed->modified, object->modified);
    if (name->role == ARCHIVE_OBJECT_INDEX) {
        listed->has_index = TRUE;
        listed->index_size = object->size;
        return;
    }
    listed->volumes++;
    listed->stored_bytes += object->size;
}

static int newest_first(gconstpointer a, gconstpointer b)
{
    const ArchiveListed *left = *(const ArchiveListed *const *)a, *right = *(const ArchiveListed *const *)b;
    if (left->name.time != right->name.time)
        return left->name.time < right->name.time ? 1 : -1;
    return strcmp(left->base, right->base);
}

GPtrArray *archive_list(const ArchivePlace *place, const CancelFlag *cancel, GError **error)
{
    g_autofree char *prefix = g_strconcat(place->name, "/", NULL);
    gsize prefix_length = strlen(prefix);
    g_autoptr(StoreList) objects = store_list(place->store, prefix, NULL, FALSE, error);
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(free_listed);
    g_autoptr(GHashTable) lines = g_hash_table_new(g_str_hash, g_str_equal);
    const StoreObject *object;
    int more = -1;
    while (objects && cancel_check(cancel, error) && (more = store_list_next(objects, &object, error)) > 0) {
        ArchiveName name;
        if (!archive_name_parse(object->key + prefix_length, &name))
            continue;
        ArchiveListed *listed = find_line(lines, list, &name, error);
        if (!listed)
            return NULL;
        count_object(listed, &name, object);
    }
    if (more != 0)
        return NULL;
    g_ptr_array_sort(list, newest_first);
    return g_steal_pointer(&list);
}

/* Where the search for places stands. */
typedef struct {
    GPtrArray *places;
    char *folder;   /* of the objects that come now; NULL: none yet */
    guint looked;   /* at so many of them */
    gboolean known; /* it is a place, or can be none */
} PlaceSearch;

/* Looks at one object. FALSE if those that follow in its folder need not be looked at. */
static gboolean look_at(PlaceSearch *search, const char *key)
{
    const char *slash = strchr(key, '/');
    if (!slash)
        return TRUE;
    gsize length = (gsize)(slash - key);
    if (!search->folder || strncmp(search->folder, key, length) != 0 || search->folder[length] != '\0') {
        g_free(search->folder);
        search->folder = g_strndup(key, length);
        search->looked = 0;
        search->known = !archive_check_name(search->folder, NULL);
    }
    ArchiveName name;
    if (!search->known && archive_name_parse(slash + 1, &name)) {
        g_ptr_array_add(search->places, g_strdup(search->folder));
        search->known = TRUE;
    }
    return ++search->looked < LOOKED_AT_MAX;
}

/* Goes on from where `start` says, until a folder is left early (TRUE, *more is 1), or the list ends (*more is 0). */
static gboolean look_on(Store *store, const char *start, PlaceSearch *search, const CancelFlag *cancel, int *more,
                        GError **error)
{
    g_autoptr(StoreList) objects = store_list(store, "", start, FALSE, error);
    const StoreObject *object;
    *more = -1;
    while (objects && cancel_check(cancel, error) && (*more = store_list_next(objects, &object, error)) > 0)
        if (!look_at(search, object->key))
            return TRUE;
    return *more == 0;
}

static int by_bytes(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

GPtrArray *archive_places(Store *store, const CancelFlag *cancel, GError **error)
{
    g_autoptr(GPtrArray) places = g_ptr_array_new_with_free_func(g_free);
    PlaceSearch search = {.places = places};
    g_autofree char *start = NULL;
    int more = 1;
    gboolean good = TRUE;
    for (guint left = FOLDERS_MAX; good && more > 0; left--) {
        good = left > 0 ? look_on(store, start, &search, cancel, &more, error)
                        : error_set(error, BACKAPP_ERROR_INVALID,
                                    "the store has more than %u large folders: name the one that holds the archives",
                                    FOLDERS_MAX);
        g_free(start);
        /* The character behind the slash sorts after all that is below the folder. */
        start = g_strdup_printf("%s%c", search.folder ? search.folder : "", '/' + 1);
    }
    g_free(search.folder);
    if (!good)
        return NULL;
    g_ptr_array_sort(places, by_bytes);
    return g_steal_pointer(&places);
}
