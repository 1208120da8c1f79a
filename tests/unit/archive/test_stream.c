/*
 * A tar on its way to the store: what comes back is what was written, volumes and parts are cut as they should, and
 * whatever the store refuses, the first error is told and nothing is left behind.
 */
#include <fcntl.h>
#include <string.h>

#include "../base/cmocka_all.h"
#include "base/error.h"
#include "crypto/digest.h"
#include "crypto/tink.h"
#include "engine/archive/codec.h"
#include "engine/archive/object.h"
#include "engine/archive/stream.h"
#include "fs/remove.h"
#include "store/drivers.h"

#define MIB ((gsize)1 << 20)

static const guint8 KEY[TINK_KEY_BYTES] = "a key that nobody has to guess..";

/* --- a store whose requests can be counted, refused or held back --- */

static const StoreOps *real_ops;
static StoreOps spy_ops;
static atomic_uint requests, refuse_at, parts_sent, put_sent, completed;
static atomic_bool hold;

/* Counts a request that writes. */
static gboolean admit(GError **error)
{
    while (atomic_load(&hold))
        g_usleep(1000);
    guint number = atomic_fetch_add(&requests, 1) + 1;
    return number != atomic_load(&refuse_at) || error_set(error, BACKAPP_ERROR_DENIED, "request %u is refused", number);
}

static gboolean spy_put(Store *store, const char *key, const StoreBody *body, const StorePut *how, StoreResult *result,
                        GError **error)
{
    atomic_fetch_add(&put_sent, 1);
    return body->sha256 && admit(error) && real_ops->put(store, key, body, how, result, error);
}

static char *spy_begin(Store *store, const char *key, const StorePut *how, GError **error)
{
    return admit(error) ? real_ops->begin(store, key, how, error) : NULL;
}

static gboolean spy_part(Store *store, const char *key, const char *upload, guint number, const StoreBody *body,
                         char **etag, GError **error)
{
    atomic_fetch_add(&parts_sent, 1);
    return body->sha256 && admit(error) && real_ops->part(store, key, upload, number, body, etag, error);
}

static gboolean spy_complete(Store *store, const char *key, const char *upload, const StorePart *parts, guint count,
                             const StorePut *how, StoreResult *result, GError **error)
{
    if (!admit(error) || !real_ops->complete(store, key, upload, parts, count, how, result, error))
        return FALSE;
    atomic_fetch_add(&completed, 1);
    return TRUE;
}

/* A store in memory that cuts parts of 1 MiB. */
static Store *spy_new(void)
{
    Store *store = store_memory_new();
    real_ops = store->ops;
    spy_ops = *real_ops;
    spy_ops.put = spy_put;
    spy_ops.begin = spy_begin;
    spy_ops.part = spy_part;
    spy_ops.complete = spy_complete;
    store->ops = &spy_ops;
    store->max_part = MIB;
    atomic_store(&requests, 0);
    atomic_store(&refuse_at, 0);
    atomic_store(&parts_sent, 0);
    atomic_store(&put_sent, 0);
    atomic_store(&completed, 0);
    atomic_store(&hold, FALSE);
    return store;
}

static guint uploads_left(Store *store)
{
    g_autoptr(GPtrArray) uploads = store_list_uploads(store, "", NULL);
    assert_non_null(uploads);
    return uploads->len;
}

/* --- a scene: a store, a place, an archive of it --- */

typedef struct {
    Store *store;
    ArchivePlace place;
    ArchivePoint *point;
    StreamOptions options;
    GByteArray *tar; /* what was written */
    GArray *lengths;
    CancelFlag cancel;
    /* Of the last call of volume_done. */
    GArray *done_volumes, *done_lengths;
    guint64 done_end;
    guint done_count, stop_after;
} Scene;

static gboolean note_volume(gpointer user_data, const GArray *volumes, const GArray *lengths, guint64 tar_end,
                            GError **error)
{
    Scene *scene = user_data;
    const ArchiveVolume *last = &g_array_index(volumes, ArchiveVolume, volumes->len - 1);
    /* Not before the store has it. */
    g_autofree char *key = archive_volume_key(scene->point, volumes->len - 1);
    g_autoptr(StoreObject) object = store_head(scene->store, key, NULL, NULL);
    if (!object || object->size != last->size || tar_end != (guint64)lengths->len * ARCHIVE_MEMBER_BYTES)
        return error_set(error, BACKAPP_ERROR_INTERNAL, "%s was told wrongly", key);
    g_array_set_size(scene->done_volumes, 0);
    g_array_append_vals(scene->done_volumes, volumes->data, volumes->len);
    g_array_set_size(scene->done_lengths, 0);
    g_array_append_vals(scene->done_lengths, lengths->data, lengths->len);
    scene->done_end = tar_end;
    scene->done_count++;
    return scene->done_count != scene->stop_after || error_set(error, BACKAPP_ERROR_LOCKED, "this is enough");
}

static Scene *scene_new(ArchiveCodec codec, gboolean encrypted, guint64 volume_size)
{
    Scene *scene = g_new0(Scene, 1);
    scene->store = spy_new();
    scene->place = (ArchivePlace){.store = scene->store, .name = "docs", .content_key = encrypted ? KEY : NULL};
    scene->point = g_new0(ArchivePoint, 1);
    scene->point->name =
        (ArchiveName){.time = 1763604000, .type = ARCHIVE_FULL, .codec = codec, .encrypted = encrypted};
    scene->point->base = archive_base_name(&scene->point->name);
    scene->point->place_name = g_strdup("docs");
    scene->point->numbered = TRUE;
    scene->point->level = 1;
    scene->done_volumes = g_array_new(FALSE, FALSE, sizeof(ArchiveVolume));
    scene->done_lengths = g_array_new(FALSE, FALSE, sizeof(guint32));
    scene->tar = g_byte_array_new();
    scene->options = (StreamOptions){.place = &scene->place,
                                     .point = scene->point,
                                     .volume_size = volume_size,
                                     .threads = 2,
                                     .cancel = &scene->cancel,
                                     .volume_done = note_volume,
                                     .user_data = scene};
    return scene;
}

static void scene_free(Scene *scene)
{
    archive_point_free(scene->point);
    g_clear_pointer(&scene->lengths, g_array_unref);
    g_array_unref(scene->done_volumes);
    g_array_unref(scene->done_lengths);
    g_byte_array_unref(scene->tar);
    store_free(scene->store);
    g_free(scene);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Scene, scene_free)

/* Bytes of which half cannot be compressed; the same for the same place. */
static void fill(guint8 *out, guint64 offset, gsize length)
{
    for (gsize i = 0; i < length; i++) {
        guint64 at = offset + i;
        guint64 mixed = (at + 1) * G_GUINT64_CONSTANT(0x9E3779B97F4A7C15);
        mixed = (mixed ^ (mixed >> 29)) * G_GUINT64_CONSTANT(0xBF58476D1CE4E5B9);
        out[i] = (at >> 16) % 2 == 0 ? (guint8)(mixed >> 56) : (guint8)(at >> 12);
    }
}

/* Writes up to `total` bytes of the tar, in every way that there is. */
static gboolean write_until(Scene *scene, ArchiveStream *stream, guint64 total, GError **error)
{
    static const gsize STEPS[] = {512, 100000, 7, 65536, 1500000};
    for (guint i = 0; stream_offset(stream) < total; i++) {
        guint64 offset = stream_offset(stream);
        gsize step = (gsize)MIN(STEPS[i % G_N_ELEMENTS(STEPS)], total - offset);
        g_autofree guint8 *bytes = g_malloc0(step);
        gsize room = 0;
        gboolean good = TRUE;
        if (i % 7 == 3) {
            good = stream_zeros(stream, step, error);
        } else if (i % 3 == 1) {
            guint8 *out = stream_reserve(stream, &room, error);
            if (!out)
                return FALSE;
            assert_in_range(room, 1, ARCHIVE_MEMBER_BYTES);
            step = MIN(step, room);
            fill(bytes, offset, step);
            memcpy(out, bytes, step);
            good = stream_advance(stream, step, error);
        } else {
            fill(bytes, offset, step);
            good = stream_write(stream, bytes, step, error);
        }
        /* What failed may have gone a part of the way. */
        g_byte_array_set_size(scene->tar, (guint)offset);
        g_byte_array_append(scene->tar, bytes, (guint)step);
        if (!good)
            return FALSE;
        assert_int_equal(stream_offset(stream), offset + step);
    }
    return TRUE;
}

static gboolean run(Scene *scene, guint64 total, GError **error)
{
    g_autoptr(ArchiveStream) stream = stream_new(&scene->options, error);
    g_clear_pointer(&scene->lengths, g_array_unref);
    return stream && write_until(scene, stream, total, error) &&
           stream_finish(stream, scene->point, &scene->lengths, error);
}

static void must(gboolean good, GError *error)
{
    if (!good)
        fail_msg("%s", error ? error->message : "no error");
}

static const ArchiveVolume *volume_at(const Scene *scene, guint i)
{
    return &g_array_index(scene->point->volumes, ArchiveVolume, i);
}

/* Proves a volume's hash of its parts. */
static void check_parts(const guint8 *data, gsize length, const ArchiveVolume *volume)
{
    g_autoptr(GByteArray) hashes = g_byte_array_new();
    guint8 hash[HASH_BYTES];
    for (gsize at = 0; at < length; at += volume->part_size) {
        digest_sha256(data + at, (gsize)MIN(length - at, volume->part_size), hash);
        g_byte_array_append(hashes, hash, sizeof hash);
    }
    digest_sha256(hashes->data, hashes->len, hash);
    assert_memory_equal(hash, volume->parts_hash, HASH_BYTES);
}

/* Reads all members of a volume; returns how many. */
static guint check_volume(Scene *scene, guint i, Codec *codec)
{
    const ArchiveVolume *volume = volume_at(scene, i);
    g_autoptr(GError) error = NULL;
    g_autofree char *key = archive_volume_key(scene->point, i);
    g_autofree char *associated = archive_associated("docs", scene->point->base, i + 1, ARCHIVE_OBJECT_VOLUME);
    g_autoptr(GBytes) stored = store_get_bytes(scene->store, key, NULL, 64 * MIB, NULL, &error);
    must(stored != NULL, error);
    assert_int_equal(g_bytes_get_size(stored), volume->size);
    check_parts(g_bytes_get_data(stored, NULL), g_bytes_get_size(stored), volume);

    g_autoptr(ArchiveObject) object =
        object_open(&scene->place, key, volume->size, scene->place.content_key != NULL, associated, NULL, &error);
    must(object != NULL, error);
    assert_int_equal(object_size(object), volume->packed_size);
    g_autofree guint8 *packed = g_malloc((gsize)volume->packed_size);
    g_autofree guint8 *member = g_malloc(ARCHIVE_MEMBER_BYTES);
    must(object_read_bytes(object, 0, (gsize)volume->packed_size, packed, &error), error);
    guint next =
        i + 1 < scene->point->volumes->len ? (guint)volume_at(scene, i + 1)->first_member : scene->lengths->len;
    gsize at = 0;
    for (guint number = (guint)volume->first_member; number < next; number++) {
        guint64 start = (guint64)number * ARCHIVE_MEMBER_BYTES;
        gsize size = (gsize)MIN(ARCHIVE_MEMBER_BYTES, scene->tar->len - start);
        gsize length = g_array_index(scene->lengths, guint32, number);
        assert_true(at + length <= volume->packed_size);
        must(codec_unpack(codec, packed + at, length, member, size, &error), error);
        assert_memory_equal(member, scene->tar->data + start, size);
        at += length;
    }
    assert_int_equal(at, volume->packed_size);
    return next - (guint)volume->first_member;
}

/* Reads everything back and compares. */
static void check_archive(Scene *scene, guint64 total)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Codec) codec = codec_new(scene->point->name.codec, 1, &error);
    must(codec != NULL, error);
    guint members = 0;
    for (guint i = 0; i < scene->point->volumes->len; i++) {
        assert_int_equal(volume_at(scene, i)->first_member, members);
        members += check_volume(scene, i, codec);
    }
    assert_int_equal(scene->tar->len, total);
    assert_int_equal(scene->point->tar_size, total);
    assert_int_equal(scene->point->members, members);
    assert_int_equal(members, (total + ARCHIVE_MEMBER_BYTES - 1) / ARCHIVE_MEMBER_BYTES);
    assert_int_equal(scene->lengths->len, members);
    assert_int_equal(uploads_left(scene->store), 0);
}

/* --- tests --- */

static void test_round_trip(void **state)
{
    static const guint64 TOTALS[] = {1, ARCHIVE_MEMBER_BYTES, 3 * ARCHIVE_MEMBER_BYTES + 12345};
    for (ArchiveCodec codec = ARCHIVE_PLAIN; codec <= ARCHIVE_ZSTD; codec++)
        for (guint i = 0; i < 2 * G_N_ELEMENTS(TOTALS); i++) {
            g_autoptr(Scene) scene = scene_new(codec, i % 2 == 1, 16 * MIB);
            g_autoptr(GError) error = NULL;
            scene->point->numbered = FALSE;
            must(run(scene, TOTALS[i / 2], &error), error);
            assert_int_equal(scene->point->volumes->len, 1);
            check_archive(scene, TOTALS[i / 2]);
            assert_int_equal(scene->done_count, 0);
        }
}

static void test_empty(void **state)
{
    g_autoptr(Scene) scene = scene_new(ARCHIVE_GZIP, TRUE, 16 * MIB);
    g_autoptr(GError) error = NULL;
    must(run(scene, 0, &error), error);
    assert_int_equal(scene->point->volumes->len, 0);
    check_archive(scene, 0);
    assert_int_equal(atomic_load(&requests), 0);
}

static void test_volumes(void **state)
{
    const guint64 size = 700 * 1024, total = 12 * ARCHIVE_MEMBER_BYTES + 99;
    for (guint i = 0; i < 4; i++) {
        g_autoptr(Scene) scene = scene_new(i / 2 ? ARCHIVE_GZIP : ARCHIVE_PLAIN, i % 2 == 1, size);
        g_autoptr(GError) error = NULL;
        must(run(scene, total, &error), error);
        check_archive(scene, total);
        guint count = scene->point->volumes->len;
        assert_true(count > 4);
        for (guint v = 0; v + 1 < count; v++) {
            const ArchiveVolume *volume = volume_at(scene, v);
            guint64 last = g_array_index(scene->lengths, guint32, volume[1].first_member - 1);
            assert_true(volume->size >= size);
            assert_true(volume->size - last < size);
        }
        assert_int_equal(scene->done_count, count - 1);
    }
}

/* Every volume has its own salt and prefix, in a second attempt too. */
static void test_salts(void **state)
{
    g_autoptr(Scene) scene = scene_new(ARCHIVE_PLAIN, TRUE, 64 * 1024);
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (guint attempt = 0; attempt < 2; attempt++) {
        g_autoptr(GError) error = NULL;
        must(run(scene, 4 * ARCHIVE_MEMBER_BYTES, &error), error);
        for (guint i = 0; i < scene->point->volumes->len; i++) {
            g_autofree char *key = archive_volume_key(scene->point, i);
            g_autoptr(GBytes) stored = store_get_bytes(scene->store, key, NULL, 64 * MIB, NULL, &error);
            must(stored != NULL, error);
            assert_true(g_hash_table_add(seen, digest_hex(g_bytes_get_data(stored, NULL), TINK_HEADER_BYTES)));
        }
    }
    assert_int_equal(g_hash_table_size(seen), 8);
}

static void test_parts(void **state)
{
    g_autoptr(Scene) scene = scene_new(ARCHIVE_PLAIN, FALSE, 16 * MIB);
    g_autoptr(GError) error = NULL;
    must(run(scene, 9 * MIB + 5, &error), error);
    check_archive(scene, 9 * MIB + 5);
    assert_int_equal(volume_at(scene, 0)->part_size, MIB);
    assert_int_equal(atomic_load(&parts_sent), 10);
    assert_int_equal(atomic_load(&put_sent), 0);
    assert_int_equal(atomic_load(&completed), 1);

    /* What fills the first part exactly still goes in one request. */
    g_autoptr(Scene) small = scene_new(ARCHIVE_PLAIN, FALSE, 16 * MIB);
    must(run(small, MIB, &error), error);
    check_archive(small, MIB);
    assert_int_equal(atomic_load(&requests), 1);
    assert_int_equal(atomic_load(&put_sent), 1);
}

/* Without numbers there is one name: a second volume would overwrite the first. */
static void test_one_name(void **state)
{
    g_autoptr(Scene) scene = scene_new(ARCHIVE_PLAIN, FALSE, MIB);
    g_autoptr(GError) error = NULL;
    scene->point->numbered = FALSE;
    must(run(scene, 5 * MIB + 1, &error), error);
    assert_int_equal(scene->point->volumes->len, 1);
    check_archive(scene, 5 * MIB + 1);
    scene->store->max_parts = 2;
    assert_false(run(scene, 5 * MIB + 1, &error));
    assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    assert_int_equal(uploads_left(scene->store), 0);
}

static void test_resume(void **state)
{
    const guint64 total = 11 * ARCHIVE_MEMBER_BYTES + 77;
    for (guint encrypted = 0; encrypted < 2; encrypted++) {
        g_autoptr(Scene) scene = scene_new(ARCHIVE_GZIP, encrypted == 1, 1200 * 1024);
        g_autoptr(GError) error = NULL;
        scene->stop_after = 2;
        assert_false(run(scene, total, &error));
        assert_true(error_is(error, BACKAPP_ERROR_LOCKED));
        g_clear_error(&error);
        g_autofree char *key = archive_volume_key(scene->point, 2);
        g_autofree char *left = store_begin(scene->store, key, NULL, NULL);
        assert_non_null(left);

        g_autoptr(GArray) volumes = g_array_copy(scene->done_volumes);
        g_autoptr(GArray) lengths = g_array_copy(scene->done_lengths);
        guint64 end = scene->done_end;
        assert_int_equal(volumes->len, 2);
        scene->options.volumes = volumes;
        scene->options.packed_lengths = lengths;
        g_autoptr(ArchiveStream) stream = stream_new(&scene->options, &error);
        must(stream != NULL, error);
        assert_int_equal(stream_offset(stream), end);
        assert_true(scene->tar->len >= end);
        must(write_until(scene, stream, total, &error), error);
        must(stream_finish(stream, scene->point, &scene->lengths, &error), error);
        assert_true(scene->point->volumes->len > 3);
        check_archive(scene, total);
        guint64 sent = 0;
        for (guint i = 2; i < scene->point->volumes->len; i++)
            sent += volume_at(scene, i)->size;
        assert_int_equal(stream_stored(stream), sent);
    }
}

static void test_resume_refused(void **state)
{
    g_autoptr(Scene) scene = scene_new(ARCHIVE_PLAIN, FALSE, MIB);
    g_autoptr(GError) error = NULL;
    must(run(scene, 3 * MIB + 1, &error), error);
    assert_int_equal(scene->done_lengths->len, 3);
    scene->options.volumes = scene->done_volumes;
    scene->options.packed_lengths = scene->done_lengths;
    g_array_index(scene->done_lengths, guint32, 1)--;
    assert_null(stream_new(&scene->options, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    g_clear_error(&error);
    g_array_index(scene->done_lengths, guint32, 1)++;
    scene->point->numbered = FALSE;
    assert_null(stream_new(&scene->options, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
}

/* Whichever request is refused: its error, no upload, and no volume that is told but not there. */
static void test_refused(void **state)
{
    gboolean good = FALSE;
    for (guint at = 1; !good; at++) {
        assert_true(at < 40);
        g_autoptr(Scene) scene = scene_new(ARCHIVE_PLAIN, TRUE, 3 * MIB);
        g_autoptr(GError) error = NULL;
        g_autofree char *expected = g_strdup_printf("request %u is refused", at);
        atomic_store(&refuse_at, at);
        g_autoptr(ArchiveStream) stream = stream_new(&scene->options, &error);
        must(stream != NULL, error);
        good =
            write_until(scene, stream, 7 * MIB, &error) && stream_finish(stream, scene->point, &scene->lengths, &error);
        if (good)
            break;
        assert_true(error_is(error, BACKAPP_ERROR_DENIED));
        assert_string_equal(error->message, expected);
        /* It stays the error, whatever is called. */
        g_autoptr(GError) again = NULL, last = NULL;
        gsize room = 0;
        assert_null(stream_reserve(stream, &room, &again));
        assert_string_equal(again->message, expected);
        assert_false(stream_finish(stream, scene->point, &scene->lengths, &last));
        assert_string_equal(last->message, expected);
        g_clear_pointer(&stream, stream_free);
        assert_int_equal(uploads_left(scene->store), 0);
    }
}

static gpointer release_later(gpointer cancel)
{
    g_usleep(20 * 1000);
    cancel_set(cancel);
    return NULL;
}

/* The store answers nothing: writing waits with bounded memory, and a cancellation ends the wait. */
static void test_cancel(void **state)
{
    g_autoptr(Scene) scene = scene_new(ARCHIVE_GZIP, TRUE, 64 * MIB);
    g_autoptr(GError) error = NULL;
    atomic_store(&hold, TRUE);
    GThread *thread = g_thread_new("cancel", release_later, &scene->cancel);
    ArchiveStream *stream = stream_new(&scene->options, &error);
    must(stream != NULL, error);
    gboolean good = write_until(scene, stream, 100 * MIB, &error);
    assert_false(good);
    assert_true(error_is(error, BACKAPP_ERROR_CANCELLED));
    /* 8 members in the ring, one at hand, and 5 parts that hold fewer than 4 members each. */
    assert_in_range(stream_offset(stream), 1, 29 * MIB);
    g_clear_error(&error);
    assert_false(stream_finish(stream, scene->point, &scene->lengths, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CANCELLED));
    g_thread_join(thread);
    atomic_store(&hold, FALSE);
    stream_free(stream);
    assert_int_equal(uploads_left(scene->store), 0);
}

/* Given up in the middle, without an error. */
static void test_given_up(void **state)
{
    g_autoptr(Scene) scene = scene_new(ARCHIVE_PLAIN, FALSE, 64 * MIB);
    g_autoptr(GError) error = NULL;
    ArchiveStream *stream = stream_new(&scene->options, &error);
    must(stream != NULL, error);
    must(write_until(scene, stream, 6 * MIB + 9, &error), error);
    stream_free(stream);
    assert_int_equal(uploads_left(scene->store), 0);
    g_autoptr(StoreList) list = store_list(scene->store, "", NULL, FALSE, &error);
    const StoreObject *object = NULL;
    assert_int_equal(store_list_next(list, &object, &error), 0);
}

static void test_limits(void **state)
{
    g_autoptr(Scene) scene = scene_new(ARCHIVE_GZIP, FALSE, 8 * MIB);
    g_autoptr(GError) error = NULL;
    scene->point->level = 77;
    assert_null(stream_new(&scene->options, &error));
    assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    g_clear_error(&error);
    scene->point->level = 1;
    /* Without parts a volume is one request. */
    scene->store->can &= ~(guint)STORE_MULTIPART;
    scene->store->max_put = 4 * MIB;
    assert_null(stream_new(&scene->options, &error));
    assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    g_clear_error(&error);
    scene->options.volume_size = 2 * MIB;
    must(run(scene, 10 * MIB, &error), error);
    check_archive(scene, 10 * MIB);
    assert_int_equal(atomic_load(&put_sent), scene->point->volumes->len);
    /* A store that takes fewer parts gets larger ones, and smaller volumes if even those do not do. */
    g_autoptr(Scene) few = scene_new(ARCHIVE_PLAIN, FALSE, 8 * MIB);
    few->store->max_part = 2 * MIB;
    few->store->max_parts = 2;
    must(run(few, 10 * MIB, &error), error);
    check_archive(few, 10 * MIB);
    assert_true(few->point->volumes->len > 2);
    assert_true(volume_at(few, 0)->size <= 4 * MIB);
}

/* A store that hashes what it gets by itself is believed, not asked to prove it. */
static void test_local(void **state)
{
    g_autoptr(Scene) scene = scene_new(ARCHIVE_GZIP, TRUE, 3 * MIB);
    g_autoptr(GError) error = NULL;
    g_autofree char *directory = g_dir_make_tmp("backapp-stream-XXXXXX", &error);
    must(directory != NULL, error);
    store_free(scene->store);
    scene->store = store_local_new(directory, &error);
    g_assert(scene->store != NULL);
    assert_true(store_can(scene->store, STORE_ETAG_SHA256));
    scene->store->max_part = MIB;
    scene->place.store = scene->store;
    gboolean good = run(scene, 9 * ARCHIVE_MEMBER_BYTES + 1, &error);
    if (good)
        check_archive(scene, 9 * ARCHIVE_MEMBER_BYTES + 1);
    guint volumes = good ? scene->point->volumes->len : 0;
    good = good && run(scene, 1000, &error);
    if (good)
        check_archive(scene, 1000);
    assert_true(remove_tree(AT_FDCWD, directory, FALSE, NULL, NULL));
    must(good, error);
    assert_true(volumes >= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_empty),    cmocka_unit_test(test_volumes),
        cmocka_unit_test(test_salts),          cmocka_unit_test(test_parts),    cmocka_unit_test(test_one_name),
        cmocka_unit_test(test_resume),         cmocka_unit_test(test_refused),  cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_resume_refused), cmocka_unit_test(test_given_up), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_local),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
