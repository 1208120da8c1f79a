#include "engine/restore/s3_source.h"

#include "base/error.h"
#include "engine/restore/points.h"
#include "engine/s3sync/tree_format.h"
#include "store/drivers.h"

#include <string.h>

static const char *name_of(const TreeRoot *root)
{
    return g_str_has_prefix(root->key, TREE_ROOTS) ? root->key + strlen(TREE_ROOTS) : root->key;
}

static gboolean s3_seek(RestoreSource *source, const char *path, GError **error)
{
    return tree_reader_seek(((S3Source *)source)->tree, path, error);
}

static int s3_next(RestoreSource *source, RestoreEntry *entry, GError **error)
{
    *entry = (RestoreEntry){0};
    return tree_reader_next(((S3Source *)source)->tree, &entry->entry, error);
}

static gboolean s3_fetch(RestoreSource *source, const RestoreEntry *entry, RestoreFetch *fetch, GError **error)
{
    return s3_source_content((S3Source *)source, &entry->entry, fetch, error);
}

static void s3_free(RestoreSource *source)
{
    S3Source *self = (S3Source *)source;
    g_clear_pointer(&self->tree, tree_reader_free);
    g_clear_pointer(&self->times, g_ptr_array_unref);
    g_mutex_clear(&self->lock);
    s3keys_clear(&self->keys);
    g_free(self);
}

static const RestoreSourceOps s3_ops = {.seek = s3_seek, .next = s3_next, .fetch = s3_fetch, .free = s3_free};

static const TreeRoot *choose(const GPtrArray *roots, const char *at, GError **error)
{
    g_autoptr(GPtrArray) points = points_new();
    for (guint i = 0; i < roots->len; i++) {
        const TreeRoot *root = g_ptr_array_index(roots, i);
        points_add(points, name_of(root), root->time);
    }
    guint number = 0;
    return points_choose(points, at, &number, error) ? g_ptr_array_index(roots, number) : NULL;
}

RestoreSource *s3_source_open(const RestoreSourceOptions *options, const GPtrArray *roots, GError **error)
{
    const TreeRoot *root = choose(roots, options->at, error);
    if (!root)
        return NULL;
    S3Source *self = g_new0(S3Source, 1);
    g_mutex_init(&self->lock);
    self->source = (RestoreSource){.ops = &s3_ops, .kind = RESTORE_FROM_S3_MIRROR};
    g_autoptr(RestoreSource) source = &self->source;
    self->options = *options;
    self->store = options->store;
    if (options->master_key)
        s3keys_derive(options->master_key, &self->keys);
    self->tree = tree_reader_open(self->store, root->key, options->master_key ? self->keys.content : NULL, error);
    if (!self->tree)
        return NULL;
    const TreeRoot *read = tree_reader_root(self->tree);
    self->content_key = read->encrypted ? self->keys.content : NULL;
    source->point = (RestorePoint){.name = g_strdup(name_of(root)),
                                   .time = read->time,
                                   .files = read->files,
                                   .bytes = read->bytes,
                                   .known = TRUE,
                                   .partial = read->partial};
    return g_steal_pointer(&source);
}

/* Reads a point's numbers. FALSE if that is no matter of this point alone. */
static gboolean read_point(Store *store, const TreeRoot *root, const guint8 *content_key, RestorePoint *point,
                           GError **error)
{
    TreeRoot read = {0};
    g_autoptr(GArray) blocks = tree_blocks_new();
    g_autoptr(GError) local = NULL;
    gboolean fine = tree_root_read(store, root->key, content_key, &read, blocks, &local);
    if (fine) {
        point->time = read.time;
        point->files = read.files;
        point->bytes = read.bytes;
        point->known = TRUE;
        point->partial = read.partial;
    } else if (error_is(local, BACKAPP_ERROR_CORRUPT) || error_is(local, BACKAPP_ERROR_NOT_FOUND)) {
        point->problem = g_strdup(local->message);
        fine = TRUE;
    } else {
        g_propagate_error(error, g_steal_pointer(&local));
    }
    tree_root_clear(&read);
    return fine;
}

gboolean s3_source_list(const RestoreSourceOptions *options, const char *folder, GPtrArray *points, GError **error)
{
    g_auto(S3Keys) keys = {0};
    if (options->master_key)
        s3keys_derive(options->master_key, &keys);
    const guint8 *content_key = options->master_key ? keys.content : NULL;
    g_autofree char *prefix = g_strconcat(folder ? folder : "", "/", NULL);
    g_autoptr(Store) below = folder ? store_prefix_borrow(options->store, prefix) : NULL;
    Store *mirror = below ? below : options->store;
    g_autoptr(GPtrArray) roots = tree_list_roots(mirror, error);
    for (guint i = 0; roots && i < roots->len; i++) {
        const TreeRoot *root = g_ptr_array_index(roots, i);
        RestorePoint *point = points_add(points, name_of(root), root->time);
        point->folder = g_strdup(folder);
        if (!cancel_check(options->cancel, error) || !read_point(mirror, root, content_key, point, error))
            return FALSE;
    }
    return roots != NULL;
}
