#include "engine/archive/chain.h"

#include "engine/archive/index_open.h"

#include <string.h>
#include <sys/stat.h>

/* What the readers of all points together read ahead, and the least for one. */
#define WINDOWS_MAX ((guint64)64 << 20)
#define WINDOW_MIN  ((gsize)64 << 10)

struct Chain {
    GPtrArray *indexes; /* of Index *, newest first */
};

/* --- opening --- */

static void close_index(gpointer index)
{
    index_close(index);
}

/* Opens the parent of the chain's oldest point. */
static gboolean open_parent(Chain *chain, const ArchivePlace *place, const CancelFlag *cancel, GError **error)
{
    const ArchivePoint *child = index_point(chain_index(chain, chain_length(chain) - 1));
    if (chain_length(chain) == ARCHIVE_CHAIN_MAX)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "%s needs a longer row of archives than %u", child->base,
                         ARCHIVE_CHAIN_MAX);
    GError *local = NULL;
    g_autoptr(Index) parent = index_open(place, child->parent, cancel, &local);
    if (!parent) {
        const char *help = error_is(local, BACKAPP_ERROR_NOT_FOUND) || error_is(local, BACKAPP_ERROR_CORRUPT)
                               ? " (if its volumes are there, 'backapp archive reindex' makes the index anew)"
                               : "";
        error_set(error, (BackappError)local->code, "the archive %s, which %s builds on, cannot be read: %s%s",
                  child->parent, child->base, local->message, help);
        g_error_free(local);
        return FALSE;
    }
    if (!archive_is_parent(index_point(parent), child->parent, child->parent_hash))
        return error_set(error, BACKAPP_ERROR_CORRUPT,
                         "the archive %s is not the one that %s was made on: its index was replaced", child->parent,
                         child->base);
    g_ptr_array_add(chain->indexes, g_steal_pointer(&parent));
    return TRUE;
}

static gboolean open_all(Chain *chain, const ArchivePlace *place, const char *base, const CancelFlag *cancel,
                         GError **error)
{
    Index *index = index_open(place, base, cancel, error);
    if (!index)
        return FALSE;
    g_ptr_array_add(chain->indexes, index);
    while (index_point(chain_index(chain, chain_length(chain) - 1))->parent)
        if (!open_parent(chain, place, cancel, error))
            return FALSE;
    return TRUE;
}

Chain *chain_open(const ArchivePlace *place, const char *base, const CancelFlag *cancel, gboolean *broken,
                  GError **error)
{
    g_autoptr(Chain) chain = g_new0(Chain, 1);
    GError *failure = NULL;
    chain->indexes = g_ptr_array_new_with_free_func(close_index);
    gboolean good = open_all(chain, place, base, cancel, &failure);
    if (broken)
        *broken = error_is(failure, BACKAPP_ERROR_NOT_FOUND) || error_is(failure, BACKAPP_ERROR_CORRUPT);
    if (good)
        return g_steal_pointer(&chain);
    g_propagate_error(error, failure);
    return NULL;
}

guint chain_length(const Chain *chain)
{
    return chain->indexes->len;
}

Index *chain_index(Chain *chain, guint number)
{
    return g_ptr_array_index(chain->indexes, number);
}

void chain_close(Chain *chain)
{
    if (!chain)
        return;
    g_ptr_array_unref(chain->indexes);
    g_free(chain);
}

/* --- reading: a heap of the points' next entries --- */

typedef struct {
    IndexReader *reader;
    IndexEntry entry;
    gboolean directory;
    guint number;
} Head;

struct ChainReader {
    Head *heads; /* one for each point */
    guint count;
    Head **heap; /* those that have an entry: the first path on top, of equal ones the newest point's */
    guint length;
    Head *given; /* its entry was handed out: it goes on with the next call */
};

static int compare_paths(const Head *a, const Head *b)
{
    return index_compare_paths(a->entry.entry.path, a->directory, b->entry.entry.path, b->directory);
}

static gboolean is_before(const Head *a, const Head *b)
{
    int order = compare_paths(a, b);
    return order != 0 ? order < 0 : a->number < b->number;
}

static void swap(Head **a, Head **b)
{
    Head *kept = *a;
    *a = *b;
    *b = kept;
}

static void push(ChainReader *reader, Head *head)
{
    guint at = reader->length++;
    reader->heap[at] = head;
    for (; at > 0 && is_before(reader->heap[at], reader->heap[(at - 1) / 2]); at = (at - 1) / 2)
        swap(&reader->heap[at], &reader->heap[(at - 1) / 2]);
}

static Head *pop(ChainReader *reader)
{
    Head *top = reader->heap[0];
    reader->heap[0] = reader->heap[--reader->length];
    for (guint at = 0;;) {
        guint least = at;
        for (guint child = 2 * at + 1; child <= 2 * at + 2 && child < reader->length; child++)
            if (is_before(reader->heap[child], reader->heap[least]))
                least = child;
        if (least == at)
            return top;
        swap(&reader->heap[at], &reader->heap[least]);
        at = least;
    }
}

/* Reads the head's next entry and puts it into the heap, unless there is none. */
static gboolean advance(ChainReader *reader, Head *head, GError **error)
{
    int more = index_reader_next(head->reader, &head->entry, error);
    if (more <= 0)
        return more == 0;
    head->directory = S_ISDIR(head->entry.entry.meta.mode);
    push(reader, head);
    return TRUE;
}

/* Each point's share of what is read ahead, by the length of its index. */
static gsize window_of(Chain *chain, guint number)
{
    guint64 total = 0;
    for (guint i = 0; i < chain_length(chain); i++)
        total += object_size(chain_index(chain, i)->object);
    double share = (double)object_size(chain_index(chain, number)->object) / (double)total;
    return MAX((gsize)((double)WINDOWS_MAX * share), WINDOW_MIN);
}

ChainReader *chain_read(Chain *chain, const char *from, gboolean from_is_directory, GError **error)
{
    g_autoptr(ChainReader) reader = g_new0(ChainReader, 1);
    reader->count = chain_length(chain);
    reader->heads = g_new0(Head, reader->count);
    reader->heap = g_new0(Head *, reader->count);
    for (guint i = 0; i < reader->count; i++) {
        Head *head = &reader->heads[i];
        head->number = i;
        head->reader = index_read_window(chain_index(chain, i), from, from_is_directory, window_of(chain, i), error);
        if (!head->reader || !advance(reader, head, error))
            return NULL;
    }
    return g_steal_pointer(&reader);
}

/* What older points say of the same path does not count. */
static gboolean pass_older(ChainReader *reader, const Head *newest, GError **error)
{
    while (reader->length > 0 && compare_paths(reader->heap[0], newest) == 0)
        if (!advance(reader, pop(reader), error))
            return FALSE;
    return TRUE;
}

int chain_reader_next(ChainReader *reader, IndexEntry *entry, guint *number, GError **error)
{
    for (;;) {
        Head *given = g_steal_pointer(&reader->given);
        if (given && !advance(reader, given, error))
            return -1;
        if (reader->length == 0)
            return 0;
        Head *newest = reader->given = pop(reader);
        if (!pass_older(reader, newest, error))
            return -1;
        if ((newest->entry.flags & INDEX_DELETED) != 0)
            continue;
        *entry = newest->entry;
        *number = newest->number;
        return 1;
    }
}

void chain_reader_free(ChainReader *reader)
{
    if (!reader)
        return;
    for (guint i = 0; i < reader->count; i++)
        if (reader->heads[i].reader)
            index_reader_free(reader->heads[i].reader);
    g_free(reader->heads);
    g_free(reader->heap);
    g_free(reader);
}
