#include "engine/s3sync/place.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "crypto/digest.h"
#include "engine/s3sync/prefix.h"
#include "engine/s3sync/record.h"
#include "engine/s3sync/tree.h"
#include "fs/atomic.h"
#include "fs/dir.h"
#include "store/drivers.h"

#define DAY_S      86400
#define DAYS_BACK  31
#define NAME_BYTES 16
#define PREFIX_MAX 4096

/* The name of a file about this place: a hash, since a prefix may be anything. */
static char *file_name(const Store *bucket, const char *prefix, const char *suffix)
{
    guint8 hash[HASH_BYTES];
    g_autofree char *place = g_strconcat(bucket->url, "\n", prefix, NULL);
    digest_sha256(place, strlen(place), hash);
    g_autofree char *hex = digest_hex(hash, NAME_BYTES);
    return g_strconcat(hex, suffix, NULL);
}

static gboolean make_state_dir(const char *path, GError **error)
{
    return g_mkdir_with_parents(path, 0700) == 0 ||
           error_set_errno(error, errno, "cannot make the directory for catalogues %s", path);
}

/* It can be made again from the place's newest root. */
static gboolean forget_catalogue(int state_fd, const Store *bucket, const char *prefix, int *errnum)
{
    static const char *const suffixes[] = {".catalogue", ".catalogue-wal", ".catalogue-shm"};
    for (guint i = 0; i < G_N_ELEMENTS(suffixes); i++) {
        g_autofree char *name = file_name(bucket, prefix, suffixes[i]);
        if (unlinkat(state_fd, name, 0) != 0 && errno != ENOENT) {
            *errnum = errno;
            return FALSE;
        }
    }
    return TRUE;
}

/* One that could not be filled would not look new to the next run. */
static void drop_unfilled(const char *state_dir, const Store *bucket, const char *prefix)
{
    int errnum = 0;
    g_auto(AutoFd) fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        (void)forget_catalogue(fd, bucket, prefix, &errnum);
}

Catalogue *place_catalogue(const char *state_dir, Store *bucket, const char *prefix, const guint8 *content_key,
                           gboolean *fresh, gboolean *unfinished, GError **error)
{
    g_autofree char *name = file_name(bucket, prefix, ".catalogue");
    g_autofree char *path = g_build_filename(state_dir, name, NULL);
    g_autofree char *destination = g_strconcat(bucket->url, "/", prefix, NULL);
    if (!make_state_dir(state_dir, error))
        return NULL;
    g_autoptr(Catalogue) catalogue = catalogue_open(path, destination, fresh, unfinished, error);
    if (catalogue == NULL || !*fresh)
        return g_steal_pointer(&catalogue);
    g_autoptr(Store) store = store_prefix_borrow(bucket, prefix);
    if (record_rebuild(catalogue, store, content_key, error))
        return g_steal_pointer(&catalogue);
    g_clear_pointer(&catalogue, catalogue_free);
    drop_unfilled(state_dir, bucket, prefix);
    return NULL;
}

gboolean place_prefix(const S3syncOptions *options, gint64 time, char **prefix, char **common, gboolean *dated,
                      GError **error)
{
    PrefixValues values = {
        .time = time, .timezone = options->timezone, .config = options->config_name, .host = g_get_host_name()};
    *prefix = prefix_expand(options->prefix, options->s3_prefix, &values, dated, error);
    *common = *prefix != NULL ? prefix_common(options->prefix, options->s3_prefix, &values, error) : NULL;
    return *common != NULL;
}

/* 1 if there is a root below prefix, 0, -1. */
static int has_root(Store *bucket, const char *prefix, GError **error)
{
    g_autoptr(Store) store = store_prefix_borrow(bucket, prefix);
    g_autoptr(GPtrArray) roots = tree_list_roots(store, error);
    return roots == NULL ? -1 : roots->len > 0 ? 1 : 0;
}

/* 1 if there is anything below prefix, 0, -1. */
static int has_objects(Store *bucket, const char *prefix, GError **error)
{
    const StoreObject *object = NULL;
    g_autoptr(StoreList) list = store_list(bucket, prefix, NULL, FALSE, error);
    return list != NULL ? store_list_next(list, &object, error) : -1;
}

char *place_last(const S3syncOptions *options, const char *common)
{
    if (options->state_dir == NULL)
        return NULL;

    g_autofree char *name = file_name(options->store, common, ".last");
    g_auto(AutoFd) fd = open(options->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char *text = NULL;
    gsize length = 0;
    if (fd < 0 || !atomic_read(fd, name, PREFIX_MAX, &text, &length, NULL))
        return NULL;
    return text;
}

/* The prefix to copy from; *found stays NULL if there is none. */
static gboolean find_base(const S3syncOptions *options, const char *common, const char *prefix, char **found,
                          GError **error)
{
    g_autofree char *last = place_last(options, common);
    if (last != NULL && g_str_equal(last, prefix))
        return TRUE; /* this date is complete already: what it lacks is new */
    int got = last != NULL ? has_root(options->store, last, error) : 0;
    if (got != 0) {
        *found = got > 0 ? g_steal_pointer(&last) : NULL;
        return got > 0;
    }
    got = has_objects(options->store, common, error);
    if (got <= 0)
        return got == 0;
    gint64 time = options->time > 0 ? options->time : g_get_real_time() / G_USEC_PER_SEC;
    for (guint days = 1; days <= DAYS_BACK; days++) {
        g_autofree char *other = NULL;
        g_autofree char *other_common = NULL;
        gboolean dated = FALSE;
        if (!place_prefix(options, time - (gint64)days * DAY_S, &other, &other_common, &dated, error))
            return FALSE;
        got = g_str_equal(other, prefix) ? 0 : has_root(options->store, other, error);
        if (got < 0)
            return FALSE;
        if (got > 0) {
            *found = g_steal_pointer(&other);
            return TRUE;
        }
    }
    return TRUE;
}

gboolean place_base(const S3syncOptions *options, const char *common, const char *prefix, const guint8 *content_key,
                    char **base_prefix, Catalogue **catalogue, GError **error)
{
    gboolean fresh = FALSE;
    gboolean unfinished = FALSE;
    *base_prefix = NULL;
    *catalogue = NULL;
    if (!find_base(options, common, prefix, base_prefix, error))
        return FALSE;
    if (*base_prefix == NULL)
        return TRUE;
    *catalogue =
        place_catalogue(options->state_dir, options->store, *base_prefix, content_key, &fresh, &unfinished, error);
    return *catalogue != NULL;
}

gboolean place_done(const S3syncOptions *options, const char *common, const char *prefix, const char *base_prefix,
                    GError **error)
{
    g_autofree char *name = file_name(options->store, common, ".last");
    g_auto(AutoFd) fd = open(options->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(error, errno, "cannot open %s", options->state_dir);
    if (!atomic_write(fd, name, prefix, strlen(prefix), 0600, error))
        return FALSE;
    int errnum = 0;
    return base_prefix == NULL || forget_catalogue(fd, options->store, base_prefix, &errnum) ||
           error_set_errno(error, errnum, "cannot remove the catalogue of %s in %s", base_prefix, options->state_dir);
}
