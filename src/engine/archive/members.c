#include "engine/archive/members.h"

#include <string.h>

#include "base/error.h"
#include "base/pool.h"
#include "engine/archive/codec.h"
#include "engine/archive/object.h"

#define MEMORY_DEFAULT (64u * 1024 * 1024)
#define MEMBERS_MIN    8
/* The most of one request, and the members that one may bring. */
#define RUN_BYTES_MAX   (8u * 1024 * 1024)
#define RUN_MEMBERS_MAX 8
/* How far is fetched ahead, by how many threads. */
#define AHEAD_MEMBERS 16
#define AHEAD_THREADS 4
/* No member is packed into more: what does not shrink grows by little. */
#define PACKED_MAX  (2u * ARCHIVE_MEMBER_BYTES)
#define OBJECTS_MAX 64
#define CODECS      (ARCHIVE_ZSTD + 1)
/* How often a thread that waits for room looks whether it is cancelled. */
#define WAIT_US (G_TIME_SPAN_SECOND / 2)

typedef struct {
    guint number; /* of the point */
    guint64 member;
} SlotKey;

typedef enum { SLOT_LOADING, SLOT_READY, SLOT_FAILED } SlotState;

/* One member that is kept, or on its way. */
typedef struct {
    SlotKey key; /* first: it is the key of the table */
    SlotState state;
    guint refs;     /* who reads from it or waits for it */
    gboolean ahead; /* nobody asked for it so far */
    gsize size;
    guint8 *data;  /* ARCHIVE_MEMBER_BYTES */
    GError *error; /* of a failed one */
    GList idle;    /* its place in the row of those that nobody reads */
} Slot;

typedef struct {
    guint number, volume;
} ObjectKey;

/* An open volume. */
typedef struct {
    ObjectKey key;
    ArchiveObject *object;
    guint refs;
    guint64 used_at; /* by members->clock */
} OpenObject;

struct Members {
    ArchivePlace place;
    Chain *chain;
    const CancelFlag *cancel;
    guint capacity; /* members */
    Pool *pool;

    GMutex lock; /* for what follows */
    GCond changed;
    GHashTable *slots; /* SlotKey -> Slot * */
    GQueue idle;       /* of Slot *, those that were used longest ago first */
    guint buffers;     /* all, spare ones too */
    GPtrArray *spare;  /* buffers */
    guint ahead;       /* slots that nobody asked for so far */
    guint fetching;    /* runs that wait for the pool or are in it */
    GHashTable *objects;
    guint64 clock;
    GPtrArray *codecs[CODECS]; /* those that nobody uses */
};

/* Members of one volume, one behind the other, that are fetched in one request. */
typedef struct {
    Members *members;
    const ArchivePoint *point;
    guint number, volume;
    guint64 packed_offset;
    guint count;
    guint32 lengths[RUN_MEMBERS_MAX];
    Slot *slots[RUN_MEMBERS_MAX];
} Run;

/* ---- the table of members; with the lock ---- */

static guint slot_hash(gconstpointer data)
{
    const SlotKey *key = data;
    return (guint)(key->member ^ (key->member >> 32)) * 31u + key->number;
}

static gboolean slot_equal(gconstpointer a, gconstpointer b)
{
    const SlotKey *x = a, *y = b;
    return x->number == y->number && x->member == y->member;
}

static Slot *find(Members *members, guint number, guint64 member)
{
    SlotKey key = {.number = number, .member = member};
    return g_hash_table_lookup(members->slots, &key);
}

/* It has left the table, or was never in it. */
static void slot_drop(Members *members, Slot *slot)
{
    if (slot->ahead)
        members->ahead--;
    if (slot->data != NULL)
        g_ptr_array_add(members->spare, slot->data);
    g_clear_error(&slot->error);
    g_free(slot);
}

/* A buffer for a member; NULL if all are in use. */
static guint8 *take_buffer(Members *members)
{
    if (members->spare->len == 0 && members->buffers < members->capacity) {
        members->buffers++;
        return g_malloc(ARCHIVE_MEMBER_BYTES);
    }
    if (members->spare->len == 0) {
        GList *oldest = g_queue_peek_head_link(&members->idle);
        if (oldest == NULL)
            return NULL;
        Slot *slot = oldest->data;
        g_queue_unlink(&members->idle, oldest);
        g_hash_table_remove(members->slots, &slot->key);
        slot_drop(members, slot);
    }
    return g_ptr_array_steal_index_fast(members->spare, members->spare->len - 1);
}

static Slot *add_slot(Members *members, guint number, guint64 member, gsize size, gboolean ahead)
{
    guint8 *buffer = take_buffer(members);
    if (buffer == NULL)
        return NULL;
    Slot *slot = g_new0(Slot, 1);
    slot->key = (SlotKey){.number = number, .member = member};
    slot->idle.data = slot;
    slot->data = buffer;
    slot->size = size;
    slot->ahead = ahead;
    if (ahead)
        members->ahead++;
    g_hash_table_insert(members->slots, &slot->key, slot);
    return slot;
}

/* Nobody reads from it now. What failed is tried again by the next who asks. */
static void slot_rest(Members *members, Slot *slot)
{
    if (slot->refs > 0 || slot->state == SLOT_LOADING)
        return;
    if (slot->state == SLOT_READY) {
        g_queue_push_tail_link(&members->idle, &slot->idle);
    } else {
        g_hash_table_remove(members->slots, &slot->key);
        slot_drop(members, slot);
    }
    g_cond_broadcast(&members->changed); /* for those who wait for room */
}

static void slot_take(Members *members, Slot *slot)
{
    if (slot->refs++ == 0 && slot->state == SLOT_READY)
        g_queue_unlink(&members->idle, &slot->idle);
    if (slot->ahead) {
        slot->ahead = FALSE;
        members->ahead--;
    }
}

static void slot_give_back(Members *members, Slot *slot)
{
    slot->refs--;
    slot_rest(members, slot);
}

/* ---- volumes and codecs ---- */

static guint object_hash(gconstpointer data)
{
    const ObjectKey *key = data;
    return key->number * 10007u + key->volume;
}

static gboolean object_equal(gconstpointer a, gconstpointer b)
{
    const ObjectKey *x = a, *y = b;
    return x->number == y->number && x->volume == y->volume;
}

static void open_object_free(gpointer data)
{
    OpenObject *open = data;
    object_close(open->object);
    g_free(open);
}

/* Closes the one that nobody has used for longest if there are too many. With the lock. */
static void close_oldest(Members *members)
{
    if (g_hash_table_size(members->objects) < OBJECTS_MAX)
        return;
    GHashTableIter iter;
    gpointer value;
    OpenObject *oldest = NULL;
    g_hash_table_iter_init(&iter, members->objects);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        OpenObject *open = value;
        if (open->refs == 0 && (oldest == NULL || open->used_at < oldest->used_at))
            oldest = open;
    }
    if (oldest != NULL)
        g_hash_table_remove(members->objects, &oldest->key);
}

static ArchiveObject *open_volume(const Run *run, guint64 size, GError **error)
{
    const ArchivePoint *point = run->point;
    g_autofree char *key = archive_volume_key(point, run->volume);
    g_autofree char *associated =
        archive_associated(point->place_name, point->base, run->volume + 1, ARCHIVE_OBJECT_VOLUME);
    return object_open(&run->members->place, key, size, point->name.encrypted, associated, run->members->cancel, error);
}

static OpenObject *take_object(const Run *run, GError **error)
{
    Members *members = run->members;
    ObjectKey key = {.number = run->number, .volume = run->volume};
    g_mutex_lock(&members->lock);
    OpenObject *open = g_hash_table_lookup(members->objects, &key);
    if (open == NULL) {
        /* To open it may mean to ask the store. Two who do it at once both have one, the later one's is closed. */
        g_mutex_unlock(&members->lock);
        guint64 size = g_array_index(run->point->volumes, ArchiveVolume, run->volume).size;
        ArchiveObject *object = open_volume(run, size, error);
        if (object == NULL)
            return NULL;
        g_mutex_lock(&members->lock);
        open = g_hash_table_lookup(members->objects, &key);
        if (open != NULL) {
            object_close(object);
        } else {
            close_oldest(members);
            open = g_new0(OpenObject, 1);
            open->key = key;
            open->object = object;
            g_hash_table_insert(members->objects, &open->key, open);
        }
    }
    open->refs++;
    open->used_at = ++members->clock;
    g_mutex_unlock(&members->lock);
    return open;
}

static void give_object_back(Members *members, OpenObject *open)
{
    g_mutex_lock(&members->lock);
    open->refs--;
    g_mutex_unlock(&members->lock);
}

static Codec *take_codec(Members *members, ArchiveCodec kind, GError **error)
{
    g_mutex_lock(&members->lock);
    GPtrArray *free_ones = members->codecs[kind];
    Codec *codec = free_ones->len > 0 ? g_ptr_array_steal_index_fast(free_ones, free_ones->len - 1) : NULL;
    g_mutex_unlock(&members->lock);
    return codec != NULL ? codec : codec_new(kind, 1, error);
}

static void give_codec_back(Members *members, ArchiveCodec kind, Codec *codec)
{
    g_mutex_lock(&members->lock);
    g_ptr_array_add(members->codecs[kind], codec);
    g_mutex_unlock(&members->lock);
}

/* ---- fetching a run ---- */

typedef struct {
    Run *run;
    Codec *codec;
    guint i;        /* which member comes */
    guint8 *packed; /* what there is of it, if it came in pieces */
    gsize have, room;
} Fetch;

/* Names the member and its volume. */
static void say_where(const Run *run, const Slot *slot, GError **error)
{
    if (error == NULL || *error == NULL)
        return;
    g_autofree char *key = archive_volume_key(run->point, run->volume);
    g_prefix_error(error, "%s, member %" G_GUINT64_FORMAT ": ", key, slot->key.member);
}

static void slot_done(Members *members, Slot *slot, GError *failed)
{
    g_mutex_lock(&members->lock);
    slot->state = failed == NULL ? SLOT_READY : SLOT_FAILED;
    slot->error = failed;
    slot_rest(members, slot);
    g_cond_broadcast(&members->changed);
    g_mutex_unlock(&members->lock);
}

/* The member's packed bytes are there. That it is damaged concerns only who wants it. */
static void expand(Fetch *fetch, const guint8 *packed)
{
    Run *run = fetch->run;
    Slot *slot = run->slots[fetch->i];
    GError *failed = NULL;
    if (!codec_unpack(fetch->codec, packed, run->lengths[fetch->i], slot->data, slot->size, &failed))
        say_where(run, slot, &failed);
    slot_done(run->members, slot, failed);
    fetch->i++;
    fetch->have = 0;
}

static gboolean take_packed(gpointer user_data, const void *data, gsize length, GError **error)
{
    Fetch *fetch = user_data;
    const Run *run = fetch->run;
    const guint8 *at = data;
    if (!cancel_check(run->members->cancel, error))
        return FALSE;
    while (length > 0 && fetch->i < run->count) {
        gsize need = run->lengths[fetch->i];
        if (fetch->have == 0 && length >= need) {
            expand(fetch, at);
            at += need;
            length -= need;
            continue;
        }
        if (fetch->room < need) {
            fetch->packed = g_realloc(fetch->packed, need);
            fetch->room = need;
        }
        gsize step = MIN(need - fetch->have, length);
        memcpy(fetch->packed + fetch->have, at, step);
        fetch->have += step;
        at += step;
        length -= step;
        if (fetch->have == need)
            expand(fetch, fetch->packed);
    }
    return TRUE;
}

/* Fetches the members from fetch->i up to `end`. */
static gboolean fetch_some(Fetch *fetch, ArchiveObject *object, guint end, GError **error)
{
    const Run *run = fetch->run;
    guint64 offset = run->packed_offset, length = 0;
    for (guint i = 0; i < end; i++) {
        offset += i < fetch->i ? run->lengths[i] : 0;
        length += i < fetch->i ? 0 : run->lengths[i];
    }
    fetch->have = 0;
    if (offset > object_size(object) || length > object_size(object) - offset)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "the volume ends before it");
    return object_read(object, offset, length, take_packed, fetch, error);
}

static void fail_one(Fetch *fetch, const GError *why)
{
    Slot *slot = fetch->run->slots[fetch->i++];
    GError *failed = g_error_copy(why);
    say_where(fetch->run, slot, &failed);
    slot_done(fetch->run->members, slot, failed);
}

/* A volume that was cut off still has what lies before its end; NULL if it has its size. */
static ArchiveObject *open_cut_volume(const Run *run)
{
    const ArchivePoint *point = run->point;
    g_autofree char *key = archive_volume_key(point, run->volume);
    g_autoptr(StoreObject) facts = store_head(run->members->place.store, key, NULL, NULL);
    if (facts == NULL || facts->size == 0 ||
        facts->size == g_array_index(point->volumes, ArchiveVolume, run->volume).size)
        return NULL;
    return open_volume(run, facts->size, NULL);
}

static void fetch_all(Fetch *fetch, ArchiveObject *object)
{
    Run *run = fetch->run;
    g_autoptr(GError) failed = NULL;
    (void)fetch_some(fetch, object, run->count, &failed);
    g_autoptr(ArchiveObject) cut = error_is(failed, BACKAPP_ERROR_CORRUPT) ? open_cut_volume(run) : NULL;
    if (cut != NULL)
        object = cut;
    /* A damaged place of the volume costs only the members that lie in it: each of them is tried alone. */
    while (error_is(failed, BACKAPP_ERROR_CORRUPT) && fetch->i < run->count) {
        g_autoptr(GError) alone = NULL;
        if (!fetch_some(fetch, object, fetch->i + 1, &alone))
            fail_one(fetch, alone);
        if (alone != NULL && !error_is(alone, BACKAPP_ERROR_CORRUPT)) {
            g_clear_error(&failed);
            failed = g_steal_pointer(&alone);
        }
    }
    while (fetch->i < run->count)
        fail_one(fetch, failed);
}

/* Fetches a run and frees it; all its slots are ready, or failed. */
static void run_load(Run *run)
{
    Members *members = run->members;
    Fetch fetch = {.run = run};
    g_autoptr(GError) failed = NULL;
    fetch.codec = take_codec(members, run->point->name.codec, &failed);
    OpenObject *open = fetch.codec != NULL ? take_object(run, &failed) : NULL;
    if (open != NULL) {
        fetch_all(&fetch, open->object);
        give_object_back(members, open);
    }
    while (fetch.i < run->count)
        fail_one(&fetch, failed);
    if (fetch.codec != NULL)
        give_codec_back(members, run->point->name.codec, fetch.codec);
    g_free(fetch.packed);
    g_free(run);
}

static void fetch_ahead(gpointer item, gpointer user_data)
{
    Members *members = user_data;
    run_load(item);
    g_mutex_lock(&members->lock);
    members->fetching--;
    g_mutex_unlock(&members->lock);
}

/* ---- what is to be fetched; with the lock ---- */

static gsize size_of(const ArchivePoint *point, guint64 member)
{
    guint64 left = point->tar_size - member * ARCHIVE_MEMBER_BYTES;
    return (gsize)MIN(left, ARCHIVE_MEMBER_BYTES);
}

static gboolean is_possible(const ArchivePoint *point, guint volume, guint64 offset, guint32 length)
{
    if (volume >= point->volumes->len || length == 0 || length > PACKED_MAX)
        return FALSE;
    guint64 packed = g_array_index(point->volumes, ArchiveVolume, volume).packed_size;
    return offset <= packed && length <= packed - offset;
}

/* Where a member lies. CORRUPT if the index names a place that cannot be. */
static gboolean locate(Members *members, guint number, guint64 member, Run *at, GError **error)
{
    Index *index = chain_index(members->chain, number);
    at->point = index_point(index);
    if (!index_member(index, member, &at->volume, &at->packed_offset, &at->lengths[0], error))
        return FALSE;
    return is_possible(at->point, at->volume, at->packed_offset, at->lengths[0]) ||
           error_set(error, BACKAPP_ERROR_CORRUPT, "the index of %s has no place for member %" G_GUINT64_FORMAT,
                     at->point->base, member);
}

/* A run from `first`, which is not in the table, to at most before `end`: as much as one request brings and as there is
 * room for. NULL without an error if there is no room even for the first. */
static Run *claim(Members *members, guint number, guint64 first, guint64 end, gboolean ahead, GError **error)
{
    Run start = {.members = members, .number = number};
    if (!locate(members, number, first, &start, error))
        return NULL;
    Slot *slot = add_slot(members, number, first, size_of(start.point, first), ahead);
    if (slot == NULL)
        return NULL;
    Run *run = g_new(Run, 1);
    *run = start;
    run->slots[run->count++] = slot;
    guint64 bytes = run->lengths[0];
    for (guint64 member = first + 1; member < end && run->count < RUN_MEMBERS_MAX; member++) {
        Run next = {.number = number};
        /* What is wrong with it is found by who wants it. */
        if (find(members, number, member) != NULL || !locate(members, number, member, &next, NULL) ||
            next.volume != run->volume || next.packed_offset != run->packed_offset + bytes ||
            bytes + next.lengths[0] > RUN_BYTES_MAX || members->ahead >= members->capacity / 2)
            break;
        slot = add_slot(members, number, member, size_of(run->point, member), TRUE);
        if (slot == NULL)
            break;
        run->lengths[run->count] = next.lengths[0];
        run->slots[run->count++] = slot;
        bytes += next.lengths[0];
    }
    return run;
}

/* Lets the pool fetch what comes behind `member`, before `end`. */
static void look_ahead(Members *members, guint number, guint64 member, guint64 end)
{
    guint64 limit = MIN(end, member + 1 + AHEAD_MEMBERS);
    for (guint64 next = member + 1; next < limit && members->fetching < AHEAD_THREADS;) {
        if (find(members, number, next) != NULL) {
            next++;
            continue;
        }
        /* A few at a time would be many requests. */
        if (limit < end && limit - next < RUN_MEMBERS_MAX)
            return;
        if (members->ahead >= members->capacity / 2)
            return;
        Run *run = claim(members, number, next, limit, TRUE, NULL);
        if (run == NULL)
            return;
        next += run->count;
        members->fetching++;
        pool_push(members->pool, run); /* never waits: it has room for so many */
    }
}

static gboolean was_used(Members *members, guint number, guint64 member)
{
    const Slot *slot = find(members, number, member);
    return slot != NULL && !slot->ahead;
}

/* Waits for a member that was taken; NULL if it could not be had. Gives the lock back. */
static Slot *wait_for(Members *members, Slot *slot, GError **error)
{
    while (slot->state == SLOT_LOADING)
        g_cond_wait(&members->changed, &members->lock);
    if (slot->state == SLOT_FAILED) {
        g_propagate_error(error, g_error_copy(slot->error));
        slot_give_back(members, slot);
        slot = NULL;
    }
    g_mutex_unlock(&members->lock);
    return slot;
}

/* The member, taken, when it is there; `end`: up to where it is worth to look ahead. */
static Slot *get(Members *members, guint number, guint64 member, guint64 end, GError **error)
{
    g_mutex_lock(&members->lock);
    Slot *slot;
    while ((slot = find(members, number, member)) == NULL) {
        GError *failed = NULL;
        Run *run = claim(members, number, member, end, FALSE, &failed);
        if (run != NULL) {
            slot = run->slots[0];
            slot_take(members, slot);
            look_ahead(members, number, member + run->count - 1, end);
            g_mutex_unlock(&members->lock);
            run_load(run);
            g_mutex_lock(&members->lock);
            return wait_for(members, slot, error);
        }
        if (failed == NULL)
            (void)g_cond_wait_until(&members->changed, &members->lock, g_get_monotonic_time() + WAIT_US);
        if (failed != NULL || !cancel_check(members->cancel, &failed)) {
            g_mutex_unlock(&members->lock);
            g_propagate_error(error, failed);
            return NULL;
        }
    }
    slot_take(members, slot);
    look_ahead(members, number, member, end);
    return wait_for(members, slot, error);
}

gboolean members_read(Members *members, guint number, guint64 tar_offset, guint64 length, StoreWrite write,
                      gpointer user_data, GError **error)
{
    const ArchivePoint *point = index_point(chain_index(members->chain, number));
    if (length == 0)
        return TRUE;
    if (tar_offset > point->tar_size || length > point->tar_size - tar_offset)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "%s ends before what its index says is in it", point->base);
    guint64 first = tar_offset / ARCHIVE_MEMBER_BYTES, last = (tar_offset + length - 1) / ARCHIVE_MEMBER_BYTES;
    g_mutex_lock(&members->lock);
    gboolean in_order = first > 0 && was_used(members, number, first - 1);
    g_mutex_unlock(&members->lock);
    guint64 all = (point->tar_size - 1) / ARCHIVE_MEMBER_BYTES + 1;
    guint64 end = in_order ? all : last + 1;
    while (length > 0) {
        guint64 member = tar_offset / ARCHIVE_MEMBER_BYTES;
        gsize skip = (gsize)(tar_offset % ARCHIVE_MEMBER_BYTES);
        if (!cancel_check(members->cancel, error))
            return FALSE;
        Slot *slot = get(members, number, member, end, error);
        if (slot == NULL)
            return FALSE;
        gsize step = (gsize)MIN(length, slot->size - skip);
        gboolean good = write(user_data, slot->data + skip, step, error);
        g_mutex_lock(&members->lock);
        slot_give_back(members, slot);
        g_mutex_unlock(&members->lock);
        if (!good)
            return FALSE;
        tar_offset += step;
        length -= step;
    }
    return TRUE;
}

guint64 members_tar_size(const Members *members, guint number)
{
    return index_point(chain_index(members->chain, number))->tar_size;
}

Members *members_new(const ArchivePlace *place, Chain *chain, gsize memory, const CancelFlag *cancel, GError **error)
{
    g_autoptr(Members) members = g_new0(Members, 1);
    members->place = *place;
    members->chain = chain;
    members->cancel = cancel;
    gsize capacity = (memory > 0 ? memory : MEMORY_DEFAULT) / ARCHIVE_MEMBER_BYTES;
    members->capacity = (guint)CLAMP(capacity, MEMBERS_MIN, G_MAXUINT / 2);
    g_mutex_init(&members->lock);
    g_cond_init(&members->changed);
    members->slots = g_hash_table_new(slot_hash, slot_equal);
    g_queue_init(&members->idle);
    members->spare = g_ptr_array_new_with_free_func(g_free);
    members->objects = g_hash_table_new_full(object_hash, object_equal, NULL, open_object_free);
    for (guint i = 0; i < CODECS; i++)
        members->codecs[i] = g_ptr_array_new_with_free_func((GDestroyNotify)codec_free);
    members->pool = pool_new("ahead", AHEAD_THREADS, AHEAD_THREADS, fetch_ahead, members, error);
    return members->pool != NULL ? g_steal_pointer(&members) : NULL;
}

void members_free(Members *members)
{
    if (members == NULL)
        return;
    pool_free(members->pool);
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, members->slots);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        slot_drop(members, value);
    g_hash_table_unref(members->slots);
    g_ptr_array_unref(members->spare);
    g_hash_table_unref(members->objects);
    for (guint i = 0; i < CODECS; i++)
        g_ptr_array_unref(members->codecs[i]);
    g_cond_clear(&members->changed);
    g_mutex_clear(&members->lock);
    g_free(members);
}
