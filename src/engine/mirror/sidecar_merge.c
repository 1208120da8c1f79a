#include "engine/mirror/sidecar_merge.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "engine/mirror/extraneous.h"

struct SidecarMerge {
    MirrorRun *run;
    SidecarGone gone;
    gpointer user_data;
    SidecarReader *old; /* NULL: there is none, or no more of it */
    SidecarWriter *new;
    gboolean unknown; /* there is no present sidecar, or the rest of it is damaged */
    gboolean changed;
    guint64 kept;         /* present records that stay as they are, until the first change */
    guint64 only_records; /* present ones */
    /* The present record at hand; key NULL: none. They lie in the reader. */
    const char *key;
    const guint8 *body;
    gsize length;
    GHashTable *stays, *goes; /* paths */
    GByteArray *buffer;
    GString *scratch;
};

gboolean sidecar_is_needed(const FsAbilities *abilities, const AttrsFilter *wanted)
{
    gboolean root = geteuid() == 0;
    /* Devices alone are no reason: root in a container may not make them anywhere. */
    return !abilities->symlinks || !abilities->hard_links || !abilities->modes || !abilities->fifos ||
           (root && !abilities->owners) || (wanted->xattrs && !abilities->xattrs) || (wanted->acls && !abilities->acls);
}

gboolean sidecar_is_record_only(const FsAbilities *abilities, guint32 mode)
{
    if (S_ISLNK(mode))
        return !abilities->symlinks;
    if (S_ISFIFO(mode) || S_ISSOCK(mode))
        return !abilities->fifos;
    return (S_ISCHR(mode) || S_ISBLK(mode)) && !abilities->devices;
}

static gboolean needs_record(const MirrorRun *run, const SidecarRecord *record, gboolean with_attrs)
{
    const FsAbilities *can = &run->dest->abilities;
    gboolean root = geteuid() == 0;
    return !can->modes || (root && !can->owners) || sidecar_is_record_only(can, record->meta.mode) ||
           (record->link != NULL && !can->hard_links) || (with_attrs && (!can->xattrs || !can->acls));
}

/* ---- reading the present one ---- */

static gboolean begin_new(SidecarMerge *merge, GError **error);

/* Damage is no failure: the rest is written anew. */
static gboolean give_up_old(SidecarMerge *merge, const GError *why, GError **error)
{
    g_autofree char *text =
        g_strdup_printf("%s: it is written anew; what the source no longer has is lost from it", why->message);
    run_warn(merge->run, "note", NULL, text);
    merge->unknown = TRUE;
    merge->key = NULL;
    return begin_new(merge, error);
}

static gboolean step_old(SidecarMerge *merge, GError **error)
{
    g_autoptr(GError) local = NULL;
    SidecarRecord record;
    merge->key = NULL;
    if (merge->unknown || merge->old == NULL)
        return TRUE;
    int got = sidecar_reader_step(merge->old, &merge->key, &merge->body, &merge->length, &local);
    if (got < 0)
        return give_up_old(merge, local, error);
    if (got == 0) {
        merge->key = NULL;
        return TRUE;
    }
    if (!sidecar_peek(merge->body, merge->length, &record)) {
        error_set(&local, BACKAPP_ERROR_CORRUPT, "%s/.backapp/" SIDECAR_NAME " is damaged", merge->run->dest->path);
        return give_up_old(merge, local, error);
    }
    if (sidecar_is_record_only(&merge->run->dest->abilities, record.meta.mode))
        merge->only_records++;
    return TRUE;
}

SidecarMerge *sidecar_merge_new(MirrorRun *run, SidecarGone gone, gpointer user_data, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(SidecarMerge) merge = g_new0(SidecarMerge, 1);
    merge->run = run;
    merge->gone = gone;
    merge->user_data = user_data;
    merge->stays = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    merge->goes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    merge->buffer = g_byte_array_new();
    merge->scratch = g_string_new(NULL);
    merge->old = sidecar_reader_open(run->dest, SIDECAR_NAME, &local);
    merge->unknown = merge->old == NULL;
    gboolean good = local != NULL ? give_up_old(merge, local, error) : step_old(merge, error);
    return good ? g_steal_pointer(&merge) : NULL;
}

/* ---- writing the new one ---- */

/* Copies the present records that stay as they were. */
static gboolean copy_kept(SidecarMerge *merge, GError **error)
{
    g_autoptr(SidecarReader) again =
        merge->kept > 0 ? sidecar_reader_open(merge->run->dest, SIDECAR_NAME, error) : NULL;
    if (merge->kept > 0 && again == NULL)
        return FALSE;
    for (guint64 i = 0; i < merge->kept; i++) {
        const char *key = NULL;
        const guint8 *body = NULL;
        gsize length = 0;
        int got = sidecar_reader_step(again, &key, &body, &length, error);
        if (got == 0)
            error_set(error, BACKAPP_ERROR_CORRUPT, "the sidecar became shorter while it was read");
        if (got <= 0 || !sidecar_writer_put(merge->new, key, body, length, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean begin_new(SidecarMerge *merge, GError **error)
{
    if (merge->changed)
        return TRUE;
    merge->changed = TRUE;
    if (merge->run->options->dry_run)
        return TRUE;
    merge->new = sidecar_writer_open(merge->run->dest, merge->old, error);
    return merge->new != NULL &&copy_kept(merge, error);
}

static gboolean write_new(SidecarMerge *merge, const char *key, const guint8 *body, gsize length, GError **error)
{
    return begin_new(merge, error) && (merge->new == NULL || sidecar_writer_put(merge->new, key, body, length, error));
}

/* The present record at hand stays. */
static gboolean keep_old(SidecarMerge *merge, GError **error)
{
    if (!merge->changed)
        merge->kept++;
    else if (!write_new(merge, merge->key, merge->body, merge->length, error))
        return FALSE;
    return step_old(merge, error);
}

static gboolean drop_old(SidecarMerge *merge, GError **error)
{
    return begin_new(merge, error) && step_old(merge, error);
}

/* ---- records without an entry ---- */

/* TRUE if the path or one above it is in the set. */
static gboolean is_covered(const SidecarMerge *merge, GHashTable *set, const char *path)
{
    if (g_hash_table_size(set) == 0)
        return FALSE;
    GString *part = merge->scratch;
    g_string_assign(part, path);
    while (!g_hash_table_contains(set, part->str)) {
        const char *slash = strrchr(part->str, '/');
        if (part->len == 0)
            return FALSE;
        g_string_truncate(part, slash != NULL ? (gsize)(slash - part->str) : 0);
    }
    return TRUE;
}

/* TRUE if the rules exclude the path, or a directory above it: then it is not ours to delete. */
static gboolean is_protected(const SidecarMerge *merge, const char *path, gboolean is_directory)
{
    const char *source_path = NULL;
    if (run_source_of(merge->run, path, &source_path) == G_MAXUINT)
        return TRUE; /* of no source of this run */
    if (source_path[0] == '\0')
        return FALSE;
    g_autofree char *part = g_strdup(source_path);
    for (char *slash = strchr(part, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (extraneous_is_protected(merge->run, part, TRUE))
            return TRUE;
        *slash = '/';
    }
    return extraneous_is_protected(merge->run, part, is_directory);
}

/* The present record at hand is of something that the source no longer has, or not as far as this run can see. */
static gboolean leave_behind(SidecarMerge *merge, GError **error)
{
    SidecarRecord record;
    sidecar_peek(merge->body, merge->length, &record);
    gsize length = strlen(merge->key);
    gboolean is_directory = length > 0 && merge->key[length - 1] == '/';
    g_autofree char *path = g_strndup(merge->key, is_directory ? length - 1 : length);
    gboolean whole = is_covered(merge, merge->goes, path);
    if (!whole && (!merge->run->options->delete_extraneous || is_covered(merge, merge->stays, path) ||
                   is_protected(merge, path, is_directory)))
        return keep_old(merge, error);
    if (sidecar_is_record_only(&merge->run->dest->abilities, record.meta.mode) &&
        !merge->gone(path, record.meta.mode, whole, merge->user_data, error))
        return FALSE;
    return drop_old(merge, error);
}

static gboolean advance(SidecarMerge *merge, const char *key, int *order, GError **error)
{
    *order = 1;
    while (merge->key != NULL && (*order = sidecar_order(merge->key, key)) < 0) {
        *order = 1;
        if (!leave_behind(merge, error))
            return FALSE;
    }
    if (merge->key == NULL)
        *order = 1;
    return TRUE;
}

/* ---- entries ---- */

/* The present record speaks of a file that the source no longer has in this form; the coarse time of the copy hides it. */
static gboolean is_stale(const SidecarMerge *merge, const SidecarRecord *record)
{
    SidecarRecord old;
    return sidecar_peek(merge->body, merge->length, &old) && S_ISREG(record->meta.mode) &&
           (old.unsure || !S_ISREG(old.meta.mode) || old.meta.size != record->meta.size ||
            old.meta.mtime_s != record->meta.mtime_s || old.meta.mtime_ns != record->meta.mtime_ns);
}

static gboolean put_without_old(SidecarMerge *merge, const char *key, gboolean needed, SidecarState *state,
                                GError **error)
{
    if (merge->unknown)
        *state = SIDECAR_UNKNOWN;
    else
        *state = needed ? SIDECAR_ABSENT : SIDECAR_SAME;
    return !needed || write_new(merge, key, merge->buffer->data, merge->buffer->len, error);
}

gboolean sidecar_merge_put(SidecarMerge *merge, const SidecarRecord *record, const guint8 *attrs, gsize attrs_length,
                           SidecarState *state, gboolean *stale, GError **error)
{
    g_autofree char *key = sidecar_key(record->path, S_ISDIR(record->meta.mode));
    gboolean needed = needs_record(merge->run, record, attrs_length > 0);
    int order = 0;
    g_byte_array_set_size(merge->buffer, 0);
    sidecar_encode(record, attrs, attrs_length, merge->buffer);
    if (!advance(merge, key, &order, error))
        return FALSE;
    if (stale != NULL)
        *stale = order == 0 && is_stale(merge, record);
    if (order != 0)
        return put_without_old(merge, key, needed, state, error);
    gboolean same =
        needed && merge->length == merge->buffer->len && memcmp(merge->body, merge->buffer->data, merge->length) == 0;
    *state = same ? SIDECAR_SAME : SIDECAR_DIFFERS;
    if (same)
        return keep_old(merge, error);
    return (!needed || write_new(merge, key, merge->buffer->data, merge->buffer->len, error)) && drop_old(merge, error);
}

gboolean sidecar_merge_directory(SidecarMerge *merge, const char *path, GError **error)
{
    int order = 0;
    return advance(merge, path, &order, error) && (order != 0 || drop_old(merge, error));
}

void sidecar_merge_keep(SidecarMerge *merge, const char *path)
{
    g_hash_table_add(merge->stays, g_strdup(path));
}

void sidecar_merge_remove(SidecarMerge *merge, const char *path)
{
    g_hash_table_add(merge->goes, g_strdup(path));
}

guint64 sidecar_merge_only_records(const SidecarMerge *merge)
{
    return merge->only_records;
}

gboolean sidecar_merge_finish(SidecarMerge *merge, gboolean *changed, GError **error)
{
    while (merge->key != NULL) {
        if (!leave_behind(merge, error))
            return FALSE;
    }
    *changed = merge->changed;
    return merge->new == NULL || sidecar_writer_finish(merge->new, error);
}

void sidecar_merge_free(SidecarMerge *merge)
{
    if (merge == NULL)
        return;
    sidecar_writer_free(merge->new);
    sidecar_reader_free(merge->old);
    g_hash_table_destroy(merge->stays);
    g_hash_table_destroy(merge->goes);
    g_byte_array_unref(merge->buffer);
    g_string_free(merge->scratch, TRUE);
    g_free(merge);
}
