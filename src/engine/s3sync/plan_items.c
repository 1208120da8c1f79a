#include "engine/s3sync/plan_items.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/error.h"
#include "crypto/digest.h"
#include "fs/dir.h"

#define TEXT_MAX    (8 * 1024 * 1024)
#define HASH_DIGITS 32

const char *const plan_reason_new = "new";
const char *const plan_reason_size = "size";
const char *const plan_reason_damaged = "damaged";
const char *const plan_reason_time = "time";
const char *const plan_reason_content = "content";
const char *const plan_reason_etag = "etag";
const char *const plan_reason_lost = "lost";
const char *const plan_reason_class = "class";

struct PlanItems {
    Spool *spool;
    GByteArray *buffer;
    GString *previous; /* path of the last item: the next one stores only what differs */
    Hash *hash;
    guint8 digest[HASH_BYTES]; /* once finished */
    S3PlanCounts counts;
};

struct S3PlanReader {
    SpoolReader *reader;
    GString *previous;
    GByteArray *arena;
};

static const char *const *reason_at(guint index)
{
    static const char *const *const REASONS[] = {
        &plan_reason_new,  &plan_reason_size, &plan_reason_time,  &plan_reason_content,
        &plan_reason_etag, &plan_reason_lost, &plan_reason_class, &plan_reason_damaged,
    };
    return index < G_N_ELEMENTS(REASONS) ? REASONS[index] : NULL;
}

/* From 1; 0 is none. */
static guint reason_number(const char *reason)
{
    for (guint i = 0; reason != NULL && reason_at(i) != NULL; i++) {
        if (strcmp(*reason_at(i), reason) == 0)
            return i + 1;
    }
    return 0;
}

Spool *plan_spool_new(const char *temp_dir, GError **error)
{
    g_auto(AutoFd) temp_fd = -1;
    if (temp_dir != NULL) {
        temp_fd = open(temp_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (temp_fd < 0) {
            error_set_errno(error, errno, "cannot open the directory for temporary files %s", temp_dir);
            return NULL;
        }
    }
    return spool_new(temp_fd, error);
}

PlanItems *plan_items_new(const char *temp_dir, GError **error)
{
    Spool *spool = plan_spool_new(temp_dir, error);
    if (spool == NULL)
        return NULL;
    PlanItems *items = g_new0(PlanItems, 1);
    items->spool = spool;
    items->buffer = g_byte_array_new();
    items->previous = g_string_new(NULL);
    items->hash = hash_new();
    return items;
}

void plan_items_free(PlanItems *items)
{
    if (items == NULL)
        return;
    spool_free(items->spool);
    g_byte_array_unref(items->buffer);
    g_string_free(items->previous, TRUE);
    hash_free(items->hash);
    g_free(items);
}

static void count(PlanItems *items, const S3PlanItem *item)
{
    S3PlanCounts *counts = &items->counts;
    guint64 size = item->entry.meta.size;
    gboolean is_new = item->have_etag == NULL;
    switch (item->op) {
    case S3PLAN_KEEP:
        counts->kept++;
        counts->kept_bytes += size;
        counts->unchanged++;
        break;
    case S3PLAN_UPLOAD:
        /* Every store of ours can copy. */
        counts->copies += s3plan_is_link_copy(item) ? 1 : 0;
        counts->copy_bytes += s3plan_is_link_copy(item) ? size : 0;
        counts->uploads += s3plan_is_link_copy(item) ? 0 : 1;
        counts->upload_bytes += s3plan_is_link_copy(item) ? 0 : size;
        break;
    case S3PLAN_CHECK:
        counts->checks++;
        break;
    case S3PLAN_TOUCH:
        counts->touches++;
        counts->changed++;
        break;
    case S3PLAN_COPY:
        counts->copies++;
        counts->copy_bytes += size;
        break;
    case S3PLAN_DELETE:
        counts->deletes++;
        counts->delete_bytes += item->have_size;
        break;
    case S3PLAN_META:
    default:
        break;
    }
    if (item->op == S3PLAN_UPLOAD || item->op == S3PLAN_COPY) {
        counts->created += is_new ? 1 : 0;
        counts->changed += is_new ? 0 : 1;
    }
}

static void hash_text(Hash *hash, const char *text)
{
    hash_update(hash, text != NULL ? text : "", text != NULL ? strlen(text) + 1 : 1);
}

/* What the user agrees to when a plan is confirmed: which object gets which content, and what goes. Not what only
 * identifies a file on this machine. */
static void hash_item(PlanItems *items, const S3PlanItem *item)
{
    if (item->op == S3PLAN_KEEP || item->op == S3PLAN_META)
        return;
    guint64 numbers[] = {GUINT64_TO_LE((guint64)item->op), GUINT64_TO_LE(item->entry.meta.size),
                         GUINT64_TO_LE((guint64)item->entry.meta.mtime_s), GUINT64_TO_LE(item->entry.meta.mtime_ns),
                         GUINT64_TO_LE(item->have_size)};
    hash_update(items->hash, numbers, sizeof numbers);
    hash_text(items->hash, item->entry.key);
    hash_text(items->hash, item->storage_class);
    hash_text(items->hash, item->have_etag);
    hash_text(items->hash, item->source);
    hash_text(items->hash, item->source_etag);
}

static void put_text(GByteArray *out, const char *text)
{
    bytes_put_blob(out, text, text != NULL ? strlen(text) + 1 : 0);
}

gboolean plan_items_put(PlanItems *items, const S3PlanItem *item, GError **error)
{
    GByteArray *out = items->buffer;
    g_byte_array_set_size(out, 0);
    bytes_put_varint(out, item->op);
    bytes_put_varint(out, reason_number(item->reason));
    if (item->op != S3PLAN_META) {
        put_text(out, item->storage_class);
        put_text(out, item->have_class);
        put_text(out, item->have_etag);
        bytes_put_varint(out, item->have_size);
    }
    if (item->op == S3PLAN_COPY) {
        put_text(out, item->source);
        put_text(out, item->source_etag);
        put_text(out, item->source_version);
    }
    entry_encode(&item->entry, items->previous->str, out);
    g_string_assign(items->previous, item->entry.path);
    count(items, item);
    hash_item(items, item);
    return spool_put(items->spool, out->data, out->len, error);
}

gboolean plan_items_finish(PlanItems *items, GError **error)
{
    hash_finish(items->hash, items->digest);
    return spool_finish(items->spool, error);
}

S3PlanCounts *plan_items_counts(PlanItems *items)
{
    return &items->counts;
}

char *plan_items_hash(const PlanItems *items)
{
    return digest_hex(items->digest, HASH_DIGITS / 2);
}

S3PlanReader *plan_items_reader_new(PlanItems *items)
{
    S3PlanReader *reader = g_new0(S3PlanReader, 1);
    reader->reader = spool_reader_new(items->spool);
    reader->previous = g_string_new(NULL);
    reader->arena = g_byte_array_new();
    return reader;
}

void s3plan_reader_free(S3PlanReader *reader)
{
    if (reader == NULL)
        return;
    spool_reader_free(reader->reader);
    g_string_free(reader->previous, TRUE);
    g_byte_array_unref(reader->arena);
    g_free(reader);
}

static const char *get_text(BytesReader *in)
{
    gsize length = 0;
    const guint8 *bytes = bytes_get_blob(in, TEXT_MAX, &length);
    if (bytes != NULL && length > 0 && bytes[length - 1] != 0)
        in->bad = TRUE;
    return bytes != NULL && length > 0 ? (const char *)bytes : NULL;
}

int s3plan_reader_next(S3PlanReader *reader, S3PlanItem *item, GError **error)
{
    const guint8 *data = NULL;
    gsize length = 0;
    int got = spool_reader_next(reader->reader, &data, &length, error);
    if (got <= 0)
        return got;
    BytesReader in = bytes_reader(data, length);
    *item = (S3PlanItem){.op = (S3PlanOp)bytes_get_varint(&in)};
    guint64 reason = bytes_get_varint(&in);
    if (reason > 0 && reason <= G_MAXUINT && reason_at((guint)reason - 1) != NULL)
        item->reason = *reason_at((guint)reason - 1);
    if (item->op != S3PLAN_META) {
        item->storage_class = get_text(&in);
        item->have_class = get_text(&in);
        item->have_etag = get_text(&in);
        item->have_size = bytes_get_varint(&in);
    }
    if (item->op == S3PLAN_COPY) {
        item->source = get_text(&in);
        item->source_etag = get_text(&in);
        item->source_version = get_text(&in);
    }
    g_byte_array_set_size(reader->arena, 0);
    if (!entry_decode(&in, reader->previous->str, reader->arena, &item->entry, NULL) || !bytes_reader_done(&in)) {
        error_set(error, BACKAPP_ERROR_INTERNAL, "the plan's temporary file was damaged while it was used");
        return -1;
    }
    g_string_assign(reader->previous, item->entry.path);
    return 1;
}
