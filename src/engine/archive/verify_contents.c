#include "engine/archive/verify_run.h"

#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "crypto/digest.h"
#include "engine/archive/sort.h"
#include "engine/archive/stored_file.h"

#define THREADS_MAX 8

/* A file that is to be proven, as it is sorted: numbers first, then its path. */
typedef struct {
    guint64 number, start; /* of the point; of its content in the tar */
    guint64 size;
    guint32 sparse, has_hash;
    guint8 hash[HASH_BYTES];
} Item;

typedef struct {
    VerifyRun *run;
    Sorter *sorter;
    Item item; /* the next file, or the one that is going on */
    GString *path;
    gboolean has_item;
    guint number;  /* of the point that is read */
    guint64 share; /* of progress, which counts what is stored: a member's, near enough */
    StoredFile *file;
    gboolean active;   /* the item has begun */
    guint64 bad_until; /* damage before this place of the tar is accounted for by a file */

    /* The volume that is read, and what its bytes are. */
    gboolean hashing, unread, named;
    guint volume;
    Hash *part, *parts;
    guint64 in_part;
} Proof;

static void proof_clear(Proof *proof)
{
    sorter_free(proof->sorter);
    stored_file_free(proof->file);
    hash_free(proof->part);
    hash_free(proof->parts);
    if (proof->path != NULL)
        g_string_free(proof->path, TRUE);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Proof, proof_clear)

static int compare_items(const guint8 *a, gsize a_length, const guint8 *b, gsize b_length)
{
    Item x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    if (x.number != y.number)
        return x.number < y.number ? -1 : 1;
    return (x.start > y.start) - (x.start < y.start);
}

/* ---- what there is to be proven ---- */

static void judge(Proof *proof, const Item *item, const char *path, const guint8 hash[HASH_BYTES])
{
    VerifyRun *run = proof->run;
    if (!item->has_hash) {
        run->stats->unproven++;
    } else if (memcmp(hash, item->hash, HASH_BYTES) == 0) {
        run->stats->files++;
        run->stats->bytes += item->size;
    } else {
        verify_bad(run, FALSE, path, "its content in the archive is not what was stored");
        proof->named = TRUE;
    }
    run_stage_add(&run->stage, run->sink, 1, 0, path);
}

static gboolean put_item(Proof *proof, const IndexEntry *entry, guint number, GByteArray *record, GError **error)
{
    Item item = {.number = number, .size = entry->entry.meta.size};
    if (entry->header_length > G_MAXUINT64 - entry->tar_offset)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "the index names a place that cannot be");
    item.start = entry->tar_offset + entry->header_length;
    item.sparse = (entry->flags & INDEX_SPARSE) != 0;
    item.has_hash = entry->entry.part_size > 0;
    memcpy(item.hash, entry->entry.hash, HASH_BYTES);
    if (item.size == 0 && !item.sparse) {
        guint8 hash[HASH_BYTES];
        digest_sha256(NULL, 0, hash);
        judge(proof, &item, entry->entry.path, hash);
        return TRUE;
    }
    g_byte_array_set_size(record, 0);
    g_byte_array_append(record, (const guint8 *)&item, sizeof item);
    g_byte_array_append(record, (const guint8 *)entry->entry.path, (guint)strlen(entry->entry.path));
    return sorter_put(proof->sorter, record->data, record->len, error);
}

static gboolean gather(Proof *proof, GError **error)
{
    g_autoptr(ChainReader) reader = chain_read(proof->run->chain, NULL, FALSE, error);
    g_autoptr(GByteArray) record = g_byte_array_new();
    IndexEntry entry;
    guint number = 0;
    int got = -1;
    while (reader != NULL && (got = chain_reader_next(reader, &entry, &number, error)) == 1) {
        gboolean is_file = S_ISREG(entry.entry.meta.mode) && entry.entry.link == NULL;
        if (!cancel_check(proof->run->cancel, error))
            return FALSE;
        if (is_file && (entry.flags & INDEX_STORED) == 0)
            proof->run->stats->unproven++;
        else if (is_file && !put_item(proof, &entry, number, record, error))
            return FALSE;
        else if (!is_file && !S_ISDIR(entry.entry.meta.mode))
            run_stage_add(&proof->run->stage, proof->run->sink, 1, 0, entry.entry.path);
    }
    return got == 0 && sorter_finish(proof->sorter, error);
}

static gboolean next_item(Proof *proof, GError **error)
{
    const guint8 *data = NULL;
    gsize length = 0;
    int got = sorter_next(proof->sorter, &data, &length, error);
    proof->has_item = got == 1;
    proof->active = FALSE;
    if (got == 1) {
        memcpy(&proof->item, data, sizeof proof->item);
        g_string_truncate(proof->path, 0);
        g_string_append_len(proof->path, (const char *)data + sizeof proof->item,
                            (gssize)(length - sizeof proof->item));
    }
    return got >= 0;
}

/* ---- going through the tar ---- */

/* The file is damaged: it is named, and the next one is looked for. */
static gboolean lose_item(Proof *proof, gboolean missing, const char *why, GError **error)
{
    verify_bad(proof->run, missing, proof->path->str, why);
    run_stage_add(&proof->run->stage, proof->run->sink, 1, 0, proof->path->str);
    proof->named = TRUE;
    /* How much of a sparse file there is, is not known; it is not more than all of it and its map. */
    proof->bad_until = MAX(proof->bad_until, proof->item.start + MIN(proof->item.size, G_MAXINT64));
    return next_item(proof, error);
}

/* The item takes what is its own of a piece of the tar: *used. */
static gboolean feed_item(Proof *proof, const guint8 *data, gsize length, gsize *used, GError **error)
{
    g_autoptr(GError) local = NULL;
    if (!proof->active)
        stored_file_begin(proof->file, proof->item.size, proof->item.sparse != 0, NULL, NULL);
    proof->active = TRUE;
    if (!stored_file_feed(proof->file, data, length, used, &local)) {
        *used = 0;
        return lose_item(proof, FALSE, local->message, error);
    }
    if (stored_file_wanted(proof->file) > 0)
        return TRUE;
    guint8 hash[HASH_BYTES];
    stored_file_finish(proof->file, hash);
    judge(proof, &proof->item, proof->path->str, hash);
    return next_item(proof, error);
}

static gboolean take_data(Proof *proof, guint64 at, const guint8 *data, gsize size, GError **error)
{
    guint64 end = at + size;
    while (at < end && proof->has_item && proof->item.number == proof->number && proof->item.start < end) {
        gsize used = 0;
        if (!proof->active && proof->item.start < at) {
            if (!lose_item(proof, FALSE, "the index has it where another file lies", error))
                return FALSE;
            continue;
        }
        if (!proof->active) {
            data += proof->item.start - at;
            at = proof->item.start;
        }
        if (!feed_item(proof, data, (gsize)(end - at), &used, error))
            return FALSE;
        at += used;
        data += used;
    }
    return TRUE;
}

static gboolean take_damage(Proof *proof, guint64 at, gsize size, guint volume, const GError *why, GError **error)
{
    guint64 end = at + size;
    gboolean missing = error_is(why, BACKAPP_ERROR_NOT_FOUND), touched = proof->bad_until > at;
    g_autofree char *message = g_strdup_printf("a part of it cannot be read: %s", why->message);
    while (proof->has_item && proof->item.number == proof->number && proof->item.start < end) {
        touched = TRUE;
        if (!lose_item(proof, missing, message, error))
            return FALSE;
    }
    proof->named |= touched;
    if (touched || missing)
        return TRUE;
    g_autofree char *key = archive_volume_key(index_point(chain_index(proof->run->chain, proof->number)), volume);
    g_autofree char *text = g_strdup_printf("%s: member %" G_GUINT64_FORMAT " is damaged (%s); no content of a file of "
                                            "this point lies in it",
                                            key, at / ARCHIVE_MEMBER_BYTES, why->message);
    verify_bad(proof->run, FALSE, NULL, text);
    proof->named = TRUE;
    return TRUE;
}

/* ---- the volumes as a whole ---- */

static void end_part(Proof *proof)
{
    guint8 hash[HASH_BYTES];
    hash_finish(proof->part, hash);
    hash_update(proof->parts, hash, HASH_BYTES);
    proof->in_part = 0;
}

/* Compares a volume with its hash. Damage that is known by name already is not told twice. */
static void end_volume(Proof *proof)
{
    if (!proof->hashing)
        return;
    const ArchivePoint *point = index_point(chain_index(proof->run->chain, proof->number));
    const ArchiveVolume *volume = &g_array_index(point->volumes, ArchiveVolume, proof->volume);
    if (proof->in_part > 0)
        end_part(proof);
    guint8 hash[HASH_BYTES];
    hash_finish(proof->parts, hash);
    hash_reset(proof->part);
    proof->hashing = FALSE;
    if (proof->unread || proof->named || memcmp(hash, volume->parts_hash, HASH_BYTES) == 0)
        return;
    g_autofree char *key = archive_volume_key(point, proof->volume);
    g_autofree char *text =
        g_strdup_printf("%s is not what was stored, in a place where no whole file of this point lies", key);
    verify_bad(proof->run, FALSE, NULL, text);
}

static gboolean take_packed(gpointer user_data, guint number, const guint8 *data, gsize length, GError **error)
{
    Proof *proof = user_data;
    const ArchivePoint *point = index_point(chain_index(proof->run->chain, proof->number));
    const ArchiveVolume *volume = &g_array_index(point->volumes, ArchiveVolume, number);
    if (proof->hashing && proof->volume != number)
        end_volume(proof);
    if (!proof->hashing) {
        proof->hashing = TRUE;
        proof->volume = number;
        proof->unread = proof->named = FALSE;
    }
    proof->unread |= data == NULL;
    while (!proof->unread && length > 0) {
        gsize step = (gsize)MIN(length, volume->part_size - proof->in_part);
        if (step == 0)
            return error_set(error, BACKAPP_ERROR_CORRUPT, "the index of %s names parts of no size", point->base);
        hash_update(proof->part, data, step);
        proof->in_part += step;
        data += step;
        length -= step;
        if (proof->in_part == volume->part_size)
            end_part(proof);
    }
    return TRUE;
}

static gboolean take_member(gpointer user_data, guint volume, guint64 tar_offset, const guint8 *data, gsize size,
                            const GError *why, GError **error)
{
    Proof *proof = user_data;
    VerifyRun *run = proof->run;
    gboolean good = data != NULL ? take_data(proof, tar_offset, data, size, error)
                                 : take_damage(proof, tar_offset, size, volume, why, error);
    run_stage_add(&run->stage, run->sink, 0, proof->share, NULL);
    return good;
}

static gboolean read_archive(Proof *proof, guint threads, GError **error)
{
    VerifyRun *run = proof->run;
    SweepOptions options = {.place = run->place,
                            .index = chain_index(run->chain, proof->number),
                            .sizes = g_ptr_array_index(run->sizes, proof->number),
                            .threads = threads,
                            .cancel = run->cancel,
                            .packed = take_packed,
                            .member = take_member,
                            .user_data = proof};
    const ArchivePoint *point = index_point(options.index);
    guint64 stored = 0;
    for (guint i = 0; i < point->volumes->len; i++)
        stored += g_array_index(point->volumes, ArchiveVolume, i).packed_size;
    proof->share = stored / MAX(point->members, 1);
    proof->bad_until = 0;
    if (!sweep_run(&options, error))
        return FALSE;
    end_volume(proof);
    while (proof->has_item && proof->item.number == proof->number)
        if (!lose_item(proof, FALSE, "the archive ends before it", error))
            return FALSE;
    return TRUE;
}

gboolean verify_contents(VerifyRun *run, GError **error)
{
    guint threads = run->threads > 0 ? run->threads : g_get_num_processors();
    g_auto(Proof) proof = {.run = run, .path = g_string_new(NULL)};
    proof.sorter = sorter_new(compare_items, 0);
    proof.file = stored_file_new();
    proof.part = hash_new();
    proof.parts = hash_new();
    if (!gather(&proof, error) || !next_item(&proof, error))
        return FALSE;
    for (proof.number = 0; proof.number < chain_length(run->chain); proof.number++)
        if (!read_archive(&proof, CLAMP(threads, 2, THREADS_MAX), error))
            return FALSE;
    return TRUE;
}
