#include "engine/drill/sample.h"

#include <sys/stat.h>

/* A copy of an entry, of which any of the three lists may hold a reference. */
typedef struct {
    guint references;
    guint64 size;
    gint64 mtime_s;
    guint32 mtime_ns;
    GByteArray *encoded, *place, *arena;
    gboolean taken;
    RestoreEntry entry; /* once it is taken */
} Candidate;

struct Sample {
    guint each;
    guint64 max_bytes, files, bytes;
    guint64 fitting; /* that are not too large */
    GRand *random;
    GPtrArray *newest, *largest; /* of Candidate *, the first is the most so */
    GPtrArray *reservoir;
};

static Candidate *candidate_new(const RestoreEntry *entry)
{
    Candidate *candidate = g_new0(Candidate, 1);
    candidate->references = 1;
    candidate->size = entry->entry.meta.size;
    candidate->mtime_s = entry->entry.meta.mtime_s;
    candidate->mtime_ns = entry->entry.meta.mtime_ns;
    candidate->encoded = g_byte_array_new();
    entry_encode(&entry->entry, "", candidate->encoded);
    if (entry->place) {
        candidate->place = g_byte_array_sized_new((guint)entry->place_length);
        g_byte_array_append(candidate->place, entry->place, (guint)entry->place_length);
    }
    return candidate;
}

static void candidate_unref(gpointer data)
{
    Candidate *candidate = data;
    if (!candidate || --candidate->references > 0)
        return;
    g_byte_array_unref(candidate->encoded);
    g_clear_pointer(&candidate->place, g_byte_array_unref);
    g_clear_pointer(&candidate->arena, g_byte_array_unref);
    g_free(candidate);
}

Sample *sample_new(guint each, guint64 max_bytes, guint32 seed)
{
    Sample *sample = g_new0(Sample, 1);
    sample->each = each;
    sample->max_bytes = max_bytes;
    sample->random = g_rand_new_with_seed(seed);
    sample->newest = g_ptr_array_new_with_free_func(candidate_unref);
    sample->largest = g_ptr_array_new_with_free_func(candidate_unref);
    sample->reservoir = g_ptr_array_new_with_free_func(candidate_unref);
    return sample;
}

void sample_free(Sample *sample)
{
    if (!sample)
        return;
    g_rand_free(sample->random);
    g_ptr_array_unref(sample->newest);
    g_ptr_array_unref(sample->largest);
    g_ptr_array_unref(sample->reservoir);
    g_free(sample);
}

/* Made at the first list that wants it. */
static Candidate *share(Candidate **candidate, const RestoreEntry *entry)
{
    if (!*candidate)
        *candidate = candidate_new(entry);
    (*candidate)->references++;
    return *candidate;
}

static gboolean is_newer(const FileMeta *meta, const Candidate *than)
{
    return meta->mtime_s != than->mtime_s ? meta->mtime_s > than->mtime_s : meta->mtime_ns > than->mtime_ns;
}

static gboolean is_larger(const FileMeta *meta, const Candidate *than)
{
    return meta->size > than->size;
}

/* Puts the entry where it belongs in a list of the best ones, if it is one of them. */
static void offer_best(const Sample *sample, GPtrArray *list, gboolean (*better)(const FileMeta *, const Candidate *),
                       const RestoreEntry *entry, Candidate **candidate)
{
    const FileMeta *meta = &entry->entry.meta;
    guint at = list->len;
    while (at > 0 && better(meta, g_ptr_array_index(list, at - 1)))
        at--;
    if (at >= sample->each)
        return;
    if (list->len == sample->each)
        g_ptr_array_set_size(list, (int)list->len - 1);
    g_ptr_array_insert(list, (int)at, share(candidate, entry));
}

/* Of all files so far each is in the reservoir with the same probability. */
static void offer_random(Sample *sample, const RestoreEntry *entry, Candidate **candidate)
{
    if (sample->reservoir->len < sample->each) {
        g_ptr_array_add(sample->reservoir, share(candidate, entry));
        return;
    }
    guint64 at = (guint64)(g_rand_double(sample->random) * (double)sample->fitting);
    if (at >= sample->each)
        return;
    candidate_unref(g_ptr_array_index(sample->reservoir, at));
    g_ptr_array_index(sample->reservoir, at) = share(candidate, entry);
}

void sample_offer(Sample *sample, const RestoreEntry *entry)
{
    const S3Entry *of = &entry->entry;
    if (!S_ISREG(of->meta.mode) || of->link)
        return;
    sample->files++;
    sample->bytes += of->meta.size;
    if (of->meta.size > sample->max_bytes)
        return;
    sample->fitting++;
    Candidate *candidate = NULL;
    offer_best(sample, sample->newest, is_newer, entry, &candidate);
    offer_best(sample, sample->largest, is_larger, entry, &candidate);
    offer_random(sample, entry, &candidate);
    candidate_unref(candidate);
}

void sample_totals(const Sample *sample, guint64 *files, guint64 *bytes)
{
    *files = sample->files;
    *bytes = sample->bytes;
}

/* The entry as it was offered. */
static gboolean open_candidate(Candidate *candidate, GError **error)
{
    BytesReader in = bytes_reader(candidate->encoded->data, candidate->encoded->len);
    candidate->arena = g_byte_array_new();
    if (!entry_decode(&in, "", candidate->arena, &candidate->entry.entry, error))
        return FALSE;
    if (candidate->place) {
        candidate->entry.place = candidate->place->data;
        candidate->entry.place_length = candidate->place->len;
    }
    return TRUE;
}

/* Takes what fits, of all kinds in turn. left: bytes for each kind; together: the first is for all of them. */
static gboolean take_round(Sample *sample, guint64 left[3], gboolean together, GPtrArray *chosen, GError **error)
{
    const GPtrArray *lists[] = {sample->newest, sample->largest, sample->reservoir};
    for (guint i = 0; i < sample->each; i++)
        for (guint k = 0; k < G_N_ELEMENTS(lists); k++) {
            Candidate *candidate = i < lists[k]->len ? g_ptr_array_index(lists[k], i) : NULL;
            guint64 *budget = &left[together ? 0 : k];
            if (!candidate || candidate->taken || candidate->size > *budget)
                continue;
            if (!open_candidate(candidate, error))
                return FALSE;
            candidate->taken = TRUE;
            *budget -= candidate->size;
            g_ptr_array_add(chosen, &candidate->entry);
        }
    return TRUE;
}

GPtrArray *sample_take(Sample *sample, GError **error)
{
    g_autoptr(GPtrArray) chosen = g_ptr_array_new();
    const guint64 third = sample->max_bytes / 3;
    guint64 left[] = {third, third, sample->max_bytes - 2 * third};
    /* First a third for each kind, so that a few large files do not leave the others out; then what is left for all. */
    if (!take_round(sample, left, FALSE, chosen, error))
        return NULL;
    left[0] += left[1] + left[2];
    return take_round(sample, left, TRUE, chosen, error) ? g_steal_pointer(&chosen) : NULL;
}
