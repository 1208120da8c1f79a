#include "engine/archive/stream.h"

#include "base/error.h"
#include "base/pool.h"
#include "engine/archive/codec.h"
#include "engine/archive/volume.h"

#include <string.h>

#define THREADS_MAX 32
#define WAIT_US     (50 * G_TIME_SPAN_MILLISECOND) /* how often a wait looks at the cancel flag */

/* A slot of the ring. It belongs to the writing thread until it is submitted, to a packing one until it is packed, to the
 * ordering one until it is taken. */
typedef struct {
    guint8 *in, *out; /* out: NULL where members stay as they are */
    gsize in_length, out_length;
    gboolean packed; /* under the lock */
} Member;

struct ArchiveStream {
    StreamOptions options;
    ArchivePlace place;
    guint64 tar_start; /* where this stream begins in the tar */
    VolumeWriter *writer;
    Pool *packers; /* NULL: members stay as they are */
    Pool *order;
    Member *ring;
    guint slots;

    /* The writing thread's. */
    guint64 offset;
    Member *filling;
    gsize filled;

    /* The ordering thread's, until it is done. */
    GArray *volumes, *packed_lengths;
    guint64 tar_end;
    guint64 first_member;

    atomic_bool failed; /* as error != NULL, to be looked at without the lock */
    GMutex lock;        /* of all below */
    GCond room, packed; /* for the writing and for the ordering thread */
    GPtrArray *codecs;  /* those that pack nothing just now */
    guint64 submitted, taken;
    gboolean ended, done;
    GError *error;
};

/* Takes the first error, and ends everything. */
static void fail(ArchiveStream *stream, GError *failure)
{
    g_mutex_lock(&stream->lock);
    if (!stream->error)
        stream->error = g_steal_pointer(&failure);
    atomic_store(&stream->failed, TRUE);
    g_cond_broadcast(&stream->room);
    g_cond_broadcast(&stream->packed);
    g_mutex_unlock(&stream->lock);
    g_clear_error(&failure);
}

/* FALSE with the stream's first error. */
static gboolean check(ArchiveStream *stream, GError **error)
{
    GError *cancelled = NULL;
    if (!cancel_check(stream->options.cancel, &cancelled))
        fail(stream, cancelled);
    if (!atomic_load(&stream->failed))
        return TRUE;
    g_mutex_lock(&stream->lock);
    g_propagate_error(error, g_error_copy(stream->error));
    g_mutex_unlock(&stream->lock);
    return FALSE;
}

/* FALSE if waiting is over because of an error or a cancellation. The lock is held. */
static gboolean wait_more(ArchiveStream *stream, GCond *cond)
{
    if (atomic_load(&stream->failed) || cancel_is_set(stream->options.cancel))
        return FALSE;
    (void)g_cond_wait_until(cond, &stream->lock, g_get_monotonic_time() + WAIT_US);
    return TRUE;
}

/* --- packing --- */

static void pack_member(gpointer item, gpointer user_data)
{
    Member *member = item;
    ArchiveStream *stream = user_data;
    if (atomic_load(&stream->failed))
        return;
    g_mutex_lock(&stream->lock);
    Codec *codec = g_ptr_array_steal_index_fast(stream->codecs, stream->codecs->len - 1);
    g_mutex_unlock(&stream->lock);
    member->out_length = codec_pack(codec, member->in, member->in_length, member->out);
    g_mutex_lock(&stream->lock);
    g_ptr_array_add(stream->codecs, codec);
    member->packed = TRUE;
    g_cond_signal(&stream->packed);
    g_mutex_unlock(&stream->lock);
}

/* --- putting in order and sending, in a thread of its own --- */

/* The next member in order, when it is packed; NULL at the end and on errors. */
static Member *next_member(ArchiveStream *stream)
{
    Member *member = NULL;
    g_mutex_lock(&stream->lock);
    for (;;) {
        Member *next = &stream->ring[stream->taken % stream->slots];
        gboolean there = stream->taken < stream->submitted;
        if (there && next->packed) {
            member = next;
            break;
        }
        if ((!there && stream->ended) || !wait_more(stream, &stream->packed))
            break;
    }
    g_mutex_unlock(&stream->lock);
    return member;
}

static void give_back(ArchiveStream *stream, Member *member)
{
    g_mutex_lock(&stream->lock);
    member->packed = FALSE;
    stream->taken++;
    g_cond_signal(&stream->room);
    g_mutex_unlock(&stream->lock);
}

static gboolean begin_volume(ArchiveStream *stream, GError **error)
{
    if (stream->volumes->len >= ARCHIVE_VOLUMES_MAX)
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "the archive needs more than %d volumes of %" G_GUINT64_FORMAT " bytes: choose larger volumes",
                         ARCHIVE_VOLUMES_MAX, stream->options.volume_size);
    stream->first_member = stream->packed_lengths->len;
    return volume_begin(stream->writer, stream->volumes->len + 1, error);
}

static gboolean end_volume(ArchiveStream *stream, GError **error)
{
    ArchiveVolume volume = {.first_member = stream->first_member};
    if (!volume_end(stream->writer, &volume, error))
        return FALSE;
    g_array_append_val(stream->volumes, volume);
    /* Nothing can go on behind a member that is shorter than others. */
    gboolean can_go_on = stream->tar_end % ARCHIVE_MEMBER_BYTES == 0 && stream->options.point->numbered;
    return !can_go_on || !stream->options.volume_done ||
           stream->options.volume_done(stream->options.user_data, stream->volumes, stream->packed_lengths,
                                       stream->tar_end, error);
}

static gboolean add_member(ArchiveStream *stream, const Member *member, GError **error)
{
    if (!volume_is_open(stream->writer) && !begin_volume(stream, error))
        return FALSE;
    const guint8 *data = member->out ? member->out : member->in;
    guint32 length = (guint32)(member->out ? member->out_length : member->in_length);
    if (!volume_add(stream->writer, data, length, error))
        return FALSE;
    g_array_append_val(stream->packed_lengths, length);
    stream->tar_end += member->in_length;
    /* Without a number there is only one name, and so one volume, however large it gets. */
    return !stream->options.point->numbered || volume_size(stream->writer) < volume_limit(stream->writer) ||
           end_volume(stream, error);
}

/* The work of the ordering thread from the first member to the last. */
static void order_members(gpointer item, gpointer user_data)
{
    ArchiveStream *stream = user_data;
    GError *failure = NULL;
    gboolean good = TRUE;
    Member *member = NULL;
    while (good && (member = next_member(stream))) {
        good = add_member(stream, member, &failure);
        give_back(stream, member);
    }
    good = good && check(stream, NULL) && (!volume_is_open(stream->writer) || end_volume(stream, &failure));
    if (!good) {
        volume_abort(stream->writer);
        if (failure)
            fail(stream, failure);
        return;
    }
    g_mutex_lock(&stream->lock);
    stream->done = TRUE;
    g_cond_signal(&stream->room);
    g_mutex_unlock(&stream->lock);
}

/* --- the writing thread --- */

static gboolean check_resume(ArchiveStream *stream, GError **error)
{
    guint64 packed = 0, lengths = 0;
    gboolean good = stream->volumes->len == 0 || stream->options.point->numbered;
    for (guint i = 0; i < stream->volumes->len; i++) {
        const ArchiveVolume *volume = &g_array_index(stream->volumes, ArchiveVolume, i);
        good = good && (i == 0 ? volume->first_member == 0 : volume->first_member > volume[-1].first_member) &&
               volume->first_member < stream->packed_lengths->len;
        packed += volume->packed_size;
    }
    for (guint i = 0; i < stream->packed_lengths->len; i++)
        lengths += g_array_index(stream->packed_lengths, guint32, i);
    return (good && packed == lengths) ||
           error_set(error, BACKAPP_ERROR_CORRUPT, "what is known of the complete volumes of %s does not fit together",
                     stream->options.point->base);
}

/* Parts that an interrupted run left cost money and are of no use. It is no harm if they may not be looked for. */
static void abort_leftovers(const ArchiveStream *stream)
{
    Store *store = stream->place.store;
    if (!store_can(store, STORE_MULTIPART))
        return;
    g_autofree char *prefix = g_strconcat(stream->place.name, "/", stream->options.point->base, NULL);
    g_autoptr(GPtrArray) uploads = store_list_uploads(store, prefix, NULL);
    for (guint i = 0; uploads && i < uploads->len; i++) {
        const StoreUpload *upload = g_ptr_array_index(uploads, i);
        (void)store_abort(store, upload->key, upload->id, NULL);
    }
}

static gboolean take_options(ArchiveStream *stream, const StreamOptions *options, GError **error)
{
    stream->options = *options;
    stream->place = *options->place;
    stream->options.place = &stream->place;
    guint members = options->packed_lengths ? options->packed_lengths->len : 0;
    if (options->volumes && options->volumes->len > 0)
        g_array_append_vals(stream->volumes, options->volumes->data, options->volumes->len);
    if (members > 0)
        g_array_append_vals(stream->packed_lengths, options->packed_lengths->data, members);
    stream->tar_start = (guint64)members * ARCHIVE_MEMBER_BYTES;
    stream->tar_end = stream->tar_start;
    stream->offset = stream->tar_start;
    if (!check_resume(stream, error))
        return FALSE;
    if (members > 0)
        abort_leftovers(stream);
    return TRUE;
}

static gboolean make_ring(ArchiveStream *stream, guint threads, gsize bound, GError **error)
{
    stream->slots = 2 * threads + 4;
    stream->ring = g_new0(Member, stream->slots);
    for (guint i = 0; i < stream->slots; i++) {
        Member *member = &stream->ring[i];
        member->in = g_try_malloc(ARCHIVE_MEMBER_BYTES);
        member->out = bound > 0 ? g_try_malloc(bound) : NULL;
        if (!member->in || (bound > 0 && !member->out))
            return error_set(error, BACKAPP_ERROR_TRANSIENT,
                             "no memory to compress with %u threads: choose fewer threads", threads);
    }
    return TRUE;
}

static gboolean start(ArchiveStream *stream, GError **error)
{
    const ArchivePoint *point = stream->options.point;
    gboolean pack = point->name.codec != ARCHIVE_PLAIN;
    guint wanted = stream->options.threads > 0 ? stream->options.threads : g_get_num_processors();
    guint threads = pack ? CLAMP(wanted, 1, THREADS_MAX) : 1;
    gsize bound = 0;
    for (guint i = 0; pack && i < threads; i++) {
        Codec *codec = codec_new(point->name.codec, point->level, error);
        if (!codec)
            return FALSE;
        bound = codec_bound(codec, ARCHIVE_MEMBER_BYTES);
        g_ptr_array_add(stream->codecs, codec);
    }
    VolumeOptions options = {.place = &stream->place,
                             .point = point,
                             .volume_size = stream->options.volume_size,
                             .member_max = MAX(bound, ARCHIVE_MEMBER_BYTES),
                             .storage_class = stream->options.storage_class,
                             .cancel = stream->options.cancel};
    stream->writer = volume_new(&options, error);
    if (!stream->writer || !make_ring(stream, threads, bound, error))
        return FALSE;
    if (pack) {
        stream->packers = pool_new("archive-pack", threads, stream->slots, pack_member, stream, error);
        if (!stream->packers)
            return FALSE;
    }
    stream->order = pool_new("archive-order", 1, 1, order_members, stream, error);
    if (!stream->order)
        return FALSE;
    pool_push(stream->order, stream);
    return TRUE;
}

static void free_codec(gpointer codec)
{
    codec_free(codec);
}

ArchiveStream *stream_new(const StreamOptions *options, GError **error)
{
    g_autoptr(ArchiveStream) stream = g_new0(ArchiveStream, 1);
    g_mutex_init(&stream->lock);
    g_cond_init(&stream->room);
    g_cond_init(&stream->packed);
    atomic_init(&stream->failed, FALSE);
    stream->codecs = g_ptr_array_new_with_free_func(free_codec);
    stream->volumes = g_array_new(FALSE, FALSE, sizeof(ArchiveVolume));
    stream->packed_lengths = g_array_new(FALSE, FALSE, sizeof(guint32));
    if (!cancel_check(options->cancel, error) || !take_options(stream, options, error) || !start(stream, error))
        return NULL;
    return g_steal_pointer(&stream);
}

/* Gives the member at hand to those that pack. */
static void submit(ArchiveStream *stream)
{
    Member *member = stream->filling;
    member->in_length = stream->filled;
    stream->filling = NULL;
    g_mutex_lock(&stream->lock);
    stream->submitted++;
    member->packed = !stream->packers;
    if (member->packed)
        g_cond_signal(&stream->packed);
    g_mutex_unlock(&stream->lock);
    if (stream->packers)
        pool_push(stream->packers, member);
}

/* Waits for a free slot, and makes it the one at hand. */
static gboolean take_slot(ArchiveStream *stream, GError **error)
{
    g_mutex_lock(&stream->lock);
    gboolean there = FALSE;
    do
        there = stream->submitted - stream->taken < stream->slots;
    while (!there && wait_more(stream, &stream->room));
    guint64 next = stream->submitted;
    g_mutex_unlock(&stream->lock);
    if (!check(stream, error))
        return FALSE;
    stream->filling = &stream->ring[next % stream->slots];
    stream->filled = 0;
    return TRUE;
}

guint8 *stream_reserve(ArchiveStream *stream, gsize *room, GError **error)
{
    if (!check(stream, error) || (!stream->filling && !take_slot(stream, error)))
        return NULL;
    *room = ARCHIVE_MEMBER_BYTES - stream->filled;
    return stream->filling->in + stream->filled;
}

gboolean stream_advance(ArchiveStream *stream, gsize length, GError **error)
{
    g_assert(length == 0 || (stream->filling && length <= ARCHIVE_MEMBER_BYTES - stream->filled));
    stream->filled += length;
    stream->offset += length;
    if (stream->filling && stream->filled == ARCHIVE_MEMBER_BYTES)
        submit(stream);
    return check(stream, error);
}

/* Adds bytes, or zeros where data is NULL. */
static gboolean add(ArchiveStream *stream, const guint8 *data, guint64 length, GError **error)
{
    while (length > 0) {
        gsize room = 0;
        guint8 *out = stream_reserve(stream, &room, error);
        if (!out)
            return FALSE;
        gsize piece = (gsize)MIN(room, length);
        if (data)
            memcpy(out, data, piece);
        else
            memset(out, 0, piece);
        if (!stream_advance(stream, piece, error))
            return FALSE;
        data = data ? data + piece : NULL;
        length -= piece;
    }
    return check(stream, error);
}

gboolean stream_write(ArchiveStream *stream, const void *data, gsize length, GError **error)
{
    return add(stream, data, length, error);
}

gboolean stream_zeros(ArchiveStream *stream, guint64 length, GError **error)
{
    return add(stream, NULL, length, error);
}

guint64 stream_offset(const ArchiveStream *stream)
{
    return stream->offset;
}

guint64 stream_stored(ArchiveStream *stream)
{
    return volume_sent(stream->writer);
}

gboolean stream_finish(ArchiveStream *stream, ArchivePoint *point, GArray **packed_lengths, GError **error)
{
    g_assert(stream->packed_lengths);
    if (stream->filling && stream->filled > 0)
        submit(stream);
    g_mutex_lock(&stream->lock);
    stream->ended = TRUE;
    g_cond_broadcast(&stream->packed);
    while (!stream->done && wait_more(stream, &stream->room))
        ;
    gboolean done = stream->done;
    g_mutex_unlock(&stream->lock);
    if (!done)
        return check(stream, error);
    if (!point->volumes)
        point->volumes = g_array_new(FALSE, FALSE, sizeof(ArchiveVolume));
    g_array_set_size(point->volumes, 0);
    if (stream->volumes->len > 0)
        g_array_append_vals(point->volumes, stream->volumes->data, stream->volumes->len);
    point->tar_size = stream->tar_end;
    point->members = stream->packed_lengths->len;
    *packed_lengths = g_steal_pointer(&stream->packed_lengths);
    return TRUE;
}

void stream_free(ArchiveStream *stream)
{
    if (!stream)
        return;
    fail(stream, g_error_new_literal(BACKAPP_ERROR, BACKAPP_ERROR_CANCELLED, "the archive was given up"));
    pool_free(stream->order);
    pool_free(stream->packers);
    volume_free(stream->writer);
    for (guint i = 0; stream->ring && i < stream->slots; i++) {
        g_free(stream->ring[i].in);
        g_free(stream->ring[i].out);
    }
    g_free(stream->ring);
    g_ptr_array_unref(stream->codecs);
    g_array_unref(stream->volumes);
    g_clear_pointer(&stream->packed_lengths, g_array_unref);
    g_clear_error(&stream->error);
    g_cond_clear(&stream->packed);
    g_cond_clear(&stream->room);
    g_mutex_clear(&stream->lock);
    g_free(stream);
}
