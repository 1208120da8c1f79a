#include "engine/archive/sweep.h"

#include <string.h>

#include "base/error.h"
#include "base/pool.h"
#include "engine/archive/codec.h"
#include "engine/archive/object.h"

/* Members of one volume that are fetched with one request. */
#define UNIT_MEMBERS 8
#define UNIT_BYTES   (8u * 1024 * 1024)

typedef struct Sweep Sweep;

typedef struct {
    Sweep *sweep;
    guint volume;
    guint64 first;
    guint count;
    guint64 packed_offset;
    gsize packed_length;
    guint32 lengths[UNIT_MEMBERS];
    gsize sizes[UNIT_MEMBERS];
    guint8 *packed, *plain; /* UNIT_BYTES or more; a MiB for each member */
    gsize room, have;       /* of packed */
    GError *why[UNIT_MEMBERS];
    GError *failed;  /* ends the sweep */
    gboolean unread; /* not all of packed could be read */
    gboolean done;   /* with the lock */
} Unit;

/* An open volume. */
typedef struct {
    ArchiveObject *object;
    GError *why; /* there is none */
} Volume;

struct Sweep {
    const SweepOptions *options;
    const ArchivePoint *point;
    Volume *volumes;
    guint64 next; /* member that is in no unit yet */
    Pool *pool;
    Unit *units;
    guint unit_count;
    GMutex lock; /* for done of all units, and the codecs */
    GCond changed;
    GPtrArray *codecs;
};

/* ---- in the pool ---- */

typedef struct {
    guint8 *at;
    gsize left;
} Room;

static gboolean to_room(gpointer user_data, const void *data, gsize length, GError **error)
{
    Room *room = user_data;
    if (length > room->left)
        return error_set(error, BACKAPP_ERROR_INTERNAL, "the store gave more than it was asked for");
    memcpy(room->at, data, length);
    room->at += length;
    room->left -= length;
    return TRUE;
}

/* Reads a part of what the unit covers. Damage, and what does not lie in the volume, is *why; anything else ends all. */
static gboolean read_part(Unit *unit, gsize from, gsize length, GError **why)
{
    ArchiveObject *object = unit->sweep->volumes[unit->volume].object;
    guint64 size = object_size(object), offset = unit->packed_offset + from;
    if (offset > size || length > size - offset)
        return error_set(why, BACKAPP_ERROR_CORRUPT, "the volume ends before it");
    Room room = {.at = unit->packed + from, .left = length};
    g_autoptr(GError) local = NULL;
    if (object_read(object, offset, length, to_room, &room, &local))
        return TRUE;
    if (error_is(local, BACKAPP_ERROR_CORRUPT) || error_is(local, BACKAPP_ERROR_NOT_FOUND))
        g_propagate_error(why, g_steal_pointer(&local));
    else if (unit->failed == NULL)
        unit->failed = g_steal_pointer(&local);
    return FALSE;
}

/* The whole in one request; or, if something in it is damaged, each member alone. */
static void read_unit(Unit *unit)
{
    g_autoptr(GError) together = NULL;
    if (read_part(unit, 0, unit->packed_length, &together) || unit->failed != NULL)
        return;
    gsize at = 0;
    for (guint i = 0; i < unit->count && unit->failed == NULL; i++) {
        if (!read_part(unit, at, unit->lengths[i], &unit->why[i]))
            unit->unread = TRUE;
        at += unit->lengths[i];
    }
}

static Codec *take_codec(Sweep *sweep, GError **error)
{
    g_mutex_lock(&sweep->lock);
    Codec *codec = sweep->codecs->len > 0 ? g_ptr_array_steal_index_fast(sweep->codecs, sweep->codecs->len - 1) : NULL;
    g_mutex_unlock(&sweep->lock);
    return codec != NULL ? codec : codec_new(sweep->point->name.codec, 1, error);
}

static void expand_unit(Unit *unit, Codec *codec)
{
    gsize at = 0;
    for (guint i = 0; i < unit->count; i++) {
        if (unit->why[i] == NULL)
            (void)codec_unpack(codec, unit->packed + at, unit->lengths[i], unit->plain + i * ARCHIVE_MEMBER_BYTES,
                               unit->sizes[i], &unit->why[i]);
        at += unit->lengths[i];
    }
}

static void work(gpointer item, gpointer user_data)
{
    Sweep *sweep = user_data;
    Unit *unit = item;
    read_unit(unit);
    Codec *codec = unit->failed == NULL ? take_codec(sweep, &unit->failed) : NULL;
    if (codec != NULL)
        expand_unit(unit, codec);
    g_mutex_lock(&sweep->lock);
    if (codec != NULL)
        g_ptr_array_add(sweep->codecs, codec);
    unit->done = TRUE;
    g_cond_broadcast(&sweep->changed);
    g_mutex_unlock(&sweep->lock);
}

/* ---- in the calling thread ---- */

static gboolean open_volume(Sweep *sweep, guint number, GError **error)
{
    const SweepOptions *options = sweep->options;
    const ArchivePoint *point = sweep->point;
    Volume *volume = &sweep->volumes[number];
    if (volume->object != NULL || volume->why != NULL)
        return TRUE;
    g_autofree char *key = archive_volume_key(point, number);
    if (options->sizes[number] == SWEEP_MISSING || options->sizes[number] == 0) {
        (void)error_set(&volume->why, BACKAPP_ERROR_NOT_FOUND, "its volume %s is %s", key,
                        options->sizes[number] == 0 ? "empty" : "missing");
        return TRUE;
    }
    g_autofree char *associated = archive_associated(point->place_name, point->base, number + 1, ARCHIVE_OBJECT_VOLUME);
    g_autoptr(GError) local = NULL;
    volume->object = object_open(options->place, key, options->sizes[number], point->name.encrypted, associated,
                                 options->cancel, &local);
    if (volume->object != NULL)
        return TRUE;
    gboolean damaged = error_is(local, BACKAPP_ERROR_CORRUPT) || error_is(local, BACKAPP_ERROR_NOT_FOUND);
    g_propagate_error(damaged ? &volume->why : error, g_steal_pointer(&local));
    return damaged;
}

/* Gathers the next members into a unit. */
static gboolean plan_unit(Sweep *sweep, Unit *unit, GError **error)
{
    const ArchivePoint *point = sweep->point;
    unit->first = sweep->next;
    unit->count = 0;
    unit->packed_length = 0;
    unit->done = unit->unread = FALSE;
    while (unit->count < UNIT_MEMBERS && sweep->next < point->members) {
        guint volume = 0;
        guint64 offset = 0;
        guint32 length = 0;
        if (!index_member(sweep->options->index, sweep->next, &volume, &offset, &length, error))
            return FALSE;
        if (volume >= point->volumes->len || length > UNIT_BYTES)
            return error_set(error, BACKAPP_ERROR_CORRUPT, "the index of %s names a place that cannot be", point->base);
        if (unit->count == 0) {
            unit->volume = volume;
            unit->packed_offset = offset;
        } else if (volume != unit->volume || offset != unit->packed_offset + unit->packed_length ||
                   unit->packed_length + length > UNIT_BYTES) {
            break;
        }
        guint64 left = point->tar_size - sweep->next * ARCHIVE_MEMBER_BYTES;
        unit->sizes[unit->count] = (gsize)MIN(left, ARCHIVE_MEMBER_BYTES);
        unit->lengths[unit->count++] = length;
        unit->packed_length += length;
        sweep->next++;
    }
    return TRUE;
}

/* Sends the next unit on its way; one of a volume that cannot be read has no way. */
static gboolean start_unit(Sweep *sweep, Unit *unit, GError **error)
{
    if (!plan_unit(sweep, unit, error) || !open_volume(sweep, unit->volume, error))
        return FALSE;
    if (unit->plain == NULL)
        unit->plain = g_malloc(UNIT_MEMBERS * ARCHIVE_MEMBER_BYTES);
    if (unit->room < unit->packed_length) {
        g_free(unit->packed);
        unit->packed = g_malloc(unit->packed_length);
        unit->room = unit->packed_length;
    }
    const Volume *volume = &sweep->volumes[unit->volume];
    if (volume->object != NULL) {
        pool_push(sweep->pool, unit);
        return TRUE;
    }
    for (guint i = 0; i < unit->count; i++)
        unit->why[i] = g_error_copy(volume->why);
    unit->unread = unit->done = TRUE;
    return TRUE;
}

static void unit_clear_errors(Unit *unit)
{
    for (guint i = 0; i < UNIT_MEMBERS; i++)
        g_clear_error(&unit->why[i]);
    g_clear_error(&unit->failed);
}

/* Waits for a unit and hands on what is in it. */
static gboolean finish_unit(Sweep *sweep, Unit *unit, GError **error)
{
    const SweepOptions *options = sweep->options;
    g_mutex_lock(&sweep->lock);
    while (!unit->done)
        g_cond_wait(&sweep->changed, &sweep->lock);
    g_mutex_unlock(&sweep->lock);
    if (unit->failed != NULL) {
        g_propagate_error(error, g_steal_pointer(&unit->failed));
        return FALSE;
    }
    gboolean good =
        sweep->point->name.encrypted || options->packed(options->user_data, unit->volume,
                                                        unit->unread ? NULL : unit->packed, unit->packed_length, error);
    for (guint i = 0; good && i < unit->count; i++) {
        const GError *why = unit->why[i];
        good = options->member(options->user_data, unit->volume, (unit->first + i) * ARCHIVE_MEMBER_BYTES,
                               why == NULL ? unit->plain + i * ARCHIVE_MEMBER_BYTES : NULL, unit->sizes[i], why, error);
    }
    unit_clear_errors(unit);
    return good;
}

static gboolean run(Sweep *sweep, GError **error)
{
    guint64 started = 0, finished = 0;
    for (;;) {
        while (sweep->next < sweep->point->members && started - finished < sweep->unit_count) {
            if (!start_unit(sweep, &sweep->units[started % sweep->unit_count], error))
                return FALSE;
            started++;
        }
        if (started == finished)
            return TRUE;
        Unit *unit = &sweep->units[finished++ % sweep->unit_count];
        if (!cancel_check(sweep->options->cancel, error) || !finish_unit(sweep, unit, error))
            return FALSE;
        /* Units are finished in order: no later one is of an earlier volume. */
        for (guint i = unit->volume; i-- > 0 && sweep->volumes[i].object != NULL;)
            g_clear_pointer(&sweep->volumes[i].object, object_close);
    }
}

gboolean sweep_run(const SweepOptions *options, GError **error)
{
    Sweep sweep = {.options = options, .point = index_point(options->index), .unit_count = options->threads + 2};
    if (sweep.point->members == 0)
        return TRUE;
    sweep.pool = pool_new("sweep", options->threads, sweep.unit_count, work, &sweep, error);
    if (sweep.pool == NULL)
        return FALSE;
    g_mutex_init(&sweep.lock);
    g_cond_init(&sweep.changed);
    sweep.codecs = g_ptr_array_new_with_free_func((GDestroyNotify)codec_free);
    sweep.volumes = g_new0(Volume, sweep.point->volumes->len);
    sweep.units = g_new0(Unit, sweep.unit_count);
    for (guint i = 0; i < sweep.unit_count; i++)
        sweep.units[i].sweep = &sweep;
    gboolean good = run(&sweep, error);
    pool_free(sweep.pool);
    for (guint i = 0; i < sweep.unit_count; i++) {
        unit_clear_errors(&sweep.units[i]);
        g_free(sweep.units[i].packed);
        g_free(sweep.units[i].plain);
    }
    for (guint i = 0; i < sweep.point->volumes->len; i++) {
        object_close(sweep.volumes[i].object);
        g_clear_error(&sweep.volumes[i].why);
    }
    g_free(sweep.units);
    g_free(sweep.volumes);
    g_ptr_array_unref(sweep.codecs);
    g_cond_clear(&sweep.changed);
    g_mutex_clear(&sweep.lock);
    return good;
}
