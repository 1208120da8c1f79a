#include "engine/mirror/plan.h"

#include "base/error.h"
#include "fs/spool.h"

#include <string.h>
#include <xxhash.h>

#define PATH_BYTES_MAX (8 * 1024 * 1024)

struct Plan {
    Spool *spool;
    GByteArray *buffer;
    GString *previous; /* path of the last entry: the next one stores only what differs */
    XXH3_state_t *hash;
    guint64 count;
};

struct PlanReader {
    SpoolReader *reader;
    GString *path;
    GString *target;
};

Plan *plan_new(int temp_fd, GError **error)
{
    Spool *spool = spool_new(temp_fd, error);
    if (spool == NULL)
        return NULL;
    Plan *plan = g_new0(Plan, 1);
    plan->spool = spool;
    plan->buffer = g_byte_array_new();
    plan->previous = g_string_new(NULL);
    plan->hash = XXH3_createState();
    XXH3_128bits_reset(plan->hash);
    return plan;
}

/* What the user agrees to when a plan is confirmed: which path gets which content and metadata. */
static void hash_entry(Plan *plan, const PlanEntry *entry)
{
    guint64 numbers[] = {entry->op,
                         entry->flags & (PLAN_ATTRS | PLAN_CHANGED),
                         entry->have_mode & 0170000,
                         entry->files,
                         entry->bytes,
                         entry->want.mode,
                         entry->want.uid,
                         entry->want.gid,
                         (guint64)entry->want.mtime_s,
                         entry->want.mtime_ns,
                         entry->want.size,
                         entry->want.rdev};
    XXH3_128bits_update(plan->hash, numbers, sizeof numbers);
    XXH3_128bits_update(plan->hash, entry->path, strlen(entry->path) + 1);
    if (entry->target != NULL)
        XXH3_128bits_update(plan->hash, entry->target, strlen(entry->target) + 1);
}

static gsize shared_prefix(const char *a, const char *b)
{
    gsize n = 0;
    while (a[n] != '\0' && a[n] == b[n])
        n++;
    return n;
}

gboolean plan_add(Plan *plan, const PlanEntry *entry, GError **error)
{
    GByteArray *out = plan->buffer;
    g_byte_array_set_size(out, 0);
    gsize prefix = shared_prefix(plan->previous->str, entry->path);
    bytes_put_varint(out, entry->op);
    bytes_put_varint(out, entry->flags);
    bytes_put_varint(out, entry->source);
    bytes_put_varint(out, prefix);
    bytes_put_blob(out, entry->path + prefix, strlen(entry->path + prefix));
    g_string_assign(plan->previous, entry->path);
    bytes_put_varint(out, entry->have_ino);
    bytes_put_varint(out, entry->have_mode);
    bytes_put_varint(out, entry->files);
    bytes_put_varint(out, entry->bytes);
    if (entry->op != PLAN_REMOVE)
        meta_encode(&entry->want, out);
    if (entry->op == PLAN_LINK)
        bytes_put_blob(out, entry->target, strlen(entry->target));
    hash_entry(plan, entry);
    plan->count++;
    return spool_put(plan->spool, out->data, out->len, error);
}

gboolean plan_finish(Plan *plan, GError **error)
{
    return spool_finish(plan->spool, error);
}

gboolean plan_is_empty(const Plan *plan)
{
    return plan->count == 0;
}

char *plan_hash(const Plan *plan)
{
    XXH128_hash_t hash = XXH3_128bits_digest(plan->hash);
    return g_strdup_printf("%016" G_GINT64_MODIFIER "x%016" G_GINT64_MODIFIER "x", (guint64)hash.high64,
                           (guint64)hash.low64);
}

PlanReader *plan_reader_new(Plan *plan)
{
    PlanReader *reader = g_new0(PlanReader, 1);
    reader->reader = spool_reader_new(plan->spool);
    reader->path = g_string_new(NULL);
    reader->target = g_string_new(NULL);
    return reader;
}

static gboolean get_entry(PlanReader *reader, BytesReader *in, PlanEntry *entry)
{
    *entry = (PlanEntry){0};
    entry->op = (PlanOp)bytes_get_varint(in);
    entry->flags = (guint)bytes_get_varint(in);
    entry->source = (guint)bytes_get_varint(in);
    guint64 prefix = bytes_get_varint(in);
    gsize length = 0;
    const guint8 *rest = bytes_get_blob(in, PATH_BYTES_MAX, &length);
    if (rest == NULL || prefix > reader->path->len)
        return FALSE;
    g_string_truncate(reader->path, (gsize)prefix);
    g_string_append_len(reader->path, (const char *)rest, (gssize)length);
    entry->path = reader->path->str;
    entry->have_ino = bytes_get_varint(in);
    entry->have_mode = (guint32)bytes_get_varint(in);
    entry->files = bytes_get_varint(in);
    entry->bytes = bytes_get_varint(in);
    if (entry->op != PLAN_REMOVE)
        meta_decode(in, &entry->want);
    if (entry->op == PLAN_LINK) {
        const guint8 *target = bytes_get_blob(in, PATH_BYTES_MAX, &length);
        if (target == NULL)
            return FALSE;
        g_string_truncate(reader->target, 0);
        g_string_append_len(reader->target, (const char *)target, (gssize)length);
        entry->target = reader->target->str;
    }
    return bytes_reader_done(in);
}

int plan_reader_next(PlanReader *reader, PlanEntry *entry, GError **error)
{
    const guint8 *data = NULL;
    gsize length = 0;
    int got = spool_reader_next(reader->reader, &data, &length, error);
    if (got <= 0)
        return got;
    BytesReader in = bytes_reader(data, length);
    if (!get_entry(reader, &in, entry)) {
        error_set(error, BACKAPP_ERROR_INTERNAL, "the plan's temporary file was damaged while it was used");
        return -1;
    }
    return 1;
}

void plan_reader_free(PlanReader *reader)
{
    if (reader == NULL)
        return;
    spool_reader_free(reader->reader);
    g_string_free(reader->path, TRUE);
    g_string_free(reader->target, TRUE);
    g_free(reader);
}

void plan_free(Plan *plan)
{
    if (plan == NULL)
        return;
    spool_free(plan->spool);
    g_byte_array_unref(plan->buffer);
    g_string_free(plan->previous, TRUE);
    XXH3_freeState(plan->hash);
    g_free(plan);
}
