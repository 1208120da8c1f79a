#include "engine/archive/sort.h"

#include "base/error.h"
#include "fs/spool.h"

#define MEMORY_DEFAULT (16u * 1024 * 1024)
#define RECORD_MAX     (16u * 1024 * 1024)
/* As many are merged at once; each has a buffer of 64 KiB. When there are so many, they become one. */
#define RUNS_MAX 64

/* A record in memory. */
typedef struct {
    gsize at, length;
} Place;

/* A run that is being merged, and its present record. */
typedef struct {
    SpoolReader *reader;
    guint order; /* of runs; the earlier one comes first where records are equal */
    const guint8 *data;
    gsize length;
} Head;

struct Sorter {
    SorterCompare compare;
    gsize memory;
    GByteArray *bytes;
    GArray *places;  /* of Place */
    guint next;      /* of places, if all was kept in memory */
    GPtrArray *runs; /* of Spool *, in the order they were made */
    GPtrArray *heap; /* of Head *, the least first; NULL while nothing is merged */
    gboolean given;  /* the first of the heap was given and has to move on */
};

Sorter *sorter_new(SorterCompare compare, gsize memory)
{
    Sorter *sorter = g_new0(Sorter, 1);
    sorter->compare = compare;
    sorter->memory = memory > 0 ? memory : MEMORY_DEFAULT;
    sorter->bytes = g_byte_array_new();
    sorter->places = g_array_new(FALSE, FALSE, sizeof(Place));
    sorter->runs = g_ptr_array_new_with_free_func((GDestroyNotify)spool_free);
    return sorter;
}

static int compare_places(gconstpointer a, gconstpointer b, gpointer user_data)
{
    const Sorter *sorter = user_data;
    const Place *x = a, *y = b;
    const guint8 *data = sorter->bytes->data;
    int order = sorter->compare(data + x->at, x->length, data + y->at, y->length);
    return order != 0 ? order : (x->at > y->at) - (x->at < y->at);
}

static void sort_memory(Sorter *sorter)
{
    g_array_sort_with_data(sorter->places, compare_places, sorter);
}

static int compare_heads(const Sorter *sorter, const Head *a, const Head *b)
{
    int order = sorter->compare(a->data, a->length, b->data, b->length);
    return order != 0 ? order : (a->order > b->order) - (a->order < b->order);
}

/* Lets the head at `i` sink to where it belongs. */
static void sink(Sorter *sorter, guint i)
{
    gpointer *heads = sorter->heap->pdata;
    for (;;) {
        guint least = i, left = 2 * i + 1;
        for (guint child = left; child < sorter->heap->len && child <= left + 1; child++)
            if (compare_heads(sorter, heads[child], heads[least]) < 0)
                least = child;
        if (least == i)
            return;
        gpointer kept = heads[i];
        heads[i] = heads[least];
        heads[least] = kept;
        i = least;
    }
}

static void head_free(gpointer data)
{
    Head *head = data;
    spool_reader_free(head->reader);
    g_free(head);
}

/* Begins to merge all runs. */
static gboolean open_heap(Sorter *sorter, GError **error)
{
    sorter->heap = g_ptr_array_new_with_free_func(head_free);
    sorter->given = FALSE;
    for (guint i = 0; i < sorter->runs->len; i++) {
        Head *head = g_new0(Head, 1);
        head->order = i;
        head->reader = spool_reader_new(g_ptr_array_index(sorter->runs, i));
        int got = spool_reader_next(head->reader, &head->data, &head->length, error);
        if (got == 1)
            g_ptr_array_add(sorter->heap, head);
        else
            head_free(head);
        if (got < 0)
            return FALSE;
    }
    for (guint i = sorter->heap->len / 2; i-- > 0;)
        sink(sorter, i);
    return TRUE;
}

static int next_of_heap(Sorter *sorter, const guint8 **data, gsize *length, GError **error)
{
    if (sorter->given) {
        Head *head = g_ptr_array_index(sorter->heap, 0);
        int got = spool_reader_next(head->reader, &head->data, &head->length, error);
        if (got < 0)
            return -1;
        if (got == 0)
            g_ptr_array_remove_index_fast(sorter->heap, 0);
        sink(sorter, 0);
        sorter->given = FALSE;
    }
    if (sorter->heap->len == 0)
        return 0;
    const Head *head = g_ptr_array_index(sorter->heap, 0);
    *data = head->data;
    *length = head->length;
    sorter->given = TRUE;
    return 1;
}

/* All runs become one. */
static gboolean merge_runs(Sorter *sorter, GError **error)
{
    g_autoptr(Spool) spool = spool_new(-1, error);
    gboolean good = spool != NULL && open_heap(sorter, error);
    const guint8 *data = NULL;
    gsize length = 0;
    int got = 0;
    while (good && (got = next_of_heap(sorter, &data, &length, error)) == 1)
        good = spool_put(spool, data, length, error);
    good = good && got == 0 && spool_finish(spool, error);
    g_clear_pointer(&sorter->heap, g_ptr_array_unref);
    if (!good)
        return FALSE;
    g_ptr_array_set_size(sorter->runs, 0);
    g_ptr_array_add(sorter->runs, g_steal_pointer(&spool));
    return TRUE;
}

/* What is in memory becomes a run. */
static gboolean spill(Sorter *sorter, GError **error)
{
    if (sorter->runs->len >= RUNS_MAX && !merge_runs(sorter, error))
        return FALSE;
    g_autoptr(Spool) spool = spool_new(-1, error);
    if (spool == NULL)
        return FALSE;
    sort_memory(sorter);
    for (guint i = 0; i < sorter->places->len; i++) {
        const Place *place = &g_array_index(sorter->places, Place, i);
        if (!spool_put(spool, sorter->bytes->data + place->at, place->length, error))
            return FALSE;
    }
    if (!spool_finish(spool, error))
        return FALSE;
    g_byte_array_set_size(sorter->bytes, 0);
    g_array_set_size(sorter->places, 0);
    g_ptr_array_add(sorter->runs, g_steal_pointer(&spool));
    return TRUE;
}

gboolean sorter_put(Sorter *sorter, const void *data, gsize length, GError **error)
{
    if (length > RECORD_MAX)
        return error_set(error, BACKAPP_ERROR_INVALID, "a record of %zu bytes is too long to be sorted", length);
    gsize held = sorter->bytes->len + sorter->places->len * sizeof(Place);
    if (sorter->places->len > 0 && held + length + sizeof(Place) > sorter->memory && !spill(sorter, error))
        return FALSE;
    Place place = {.at = sorter->bytes->len, .length = length};
    if (length > 0)
        g_byte_array_append(sorter->bytes, data, (guint)length);
    g_array_append_val(sorter->places, place);
    return TRUE;
}

gboolean sorter_finish(Sorter *sorter, GError **error)
{
    if (sorter->runs->len > 0)
        return (sorter->places->len == 0 || spill(sorter, error)) && open_heap(sorter, error);
    sort_memory(sorter);
    return TRUE;
}

int sorter_next(Sorter *sorter, const guint8 **data, gsize *length, GError **error)
{
    if (sorter->heap != NULL)
        return next_of_heap(sorter, data, length, error);
    if (sorter->next >= sorter->places->len)
        return 0;
    const Place *place = &g_array_index(sorter->places, Place, sorter->next++);
    *data = sorter->bytes->data + place->at;
    *length = place->length;
    return 1;
}

void sorter_free(Sorter *sorter)
{
    if (sorter == NULL)
        return;
    if (sorter->heap != NULL)
        g_ptr_array_unref(sorter->heap);
    g_ptr_array_unref(sorter->runs);
    g_array_unref(sorter->places);
    g_byte_array_unref(sorter->bytes);
    g_free(sorter);
}
