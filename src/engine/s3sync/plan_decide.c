#include "engine/s3sync/plan_decide.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "crypto/digest.h"
#include "crypto/tink.h"
#include "engine/s3sync/content_hash.h"
#include "engine/s3sync/plan_items.h"
#include "fs/dir.h"
#include "fs/io.h"

#define READ_BYTES (1024 * 1024)
#define MD5_DIGITS (2 * HASH_MD5_BYTES)
#define ANY_CLASS  "STANDARD"

struct PlanDecider {
    const S3PlanInput *input;
    int root_fd;
    GPtrArray *rules; /* of PatternList, one for each of the options' class rules */
    ContentHash hash;
    Hash *md5; /* NULL where there is none */
    guint8 *buffer;
    GString *source; /* of the last copy */
    guint64 cold;
    GHashTable *wrong; /* keys of objects that a verification found damaged */
};

PlanDecider *plan_decider_new(const S3PlanInput *input, int root_fd, GError **error)
{
    const S3syncOptions *options = input->options;
    g_autoptr(GPtrArray) rules = g_ptr_array_new_with_free_func((GDestroyNotify)pattern_list_free);
    for (guint i = 0; i < options->class_rules_count; i++) {
        PatternList *rule = pattern_list_new();
        g_ptr_array_add(rules, rule);
        if (!pattern_list_add(rule, TRUE, options->class_rules[i].pattern, error))
            return NULL;
    }
    g_autoptr(GHashTable) wrong = catalogue_wrong(input->catalogue, error);
    if (wrong == NULL)
        return NULL;
    PlanDecider *decider = g_new0(PlanDecider, 1);
    decider->wrong = g_steal_pointer(&wrong);
    decider->input = input;
    decider->root_fd = root_fd;
    decider->rules = g_steal_pointer(&rules);
    decider->md5 = hash_new_md5(NULL);
    decider->source = g_string_new(NULL);
    return decider;
}

void plan_decider_free(PlanDecider *decider)
{
    if (decider == NULL)
        return;
    g_ptr_array_unref(decider->rules);
    g_hash_table_unref(decider->wrong);
    content_hash_clear(&decider->hash);
    hash_free(decider->md5);
    g_free(decider->buffer);
    g_string_free(decider->source, TRUE);
    g_free(decider);
}

guint64 plan_decider_cold(const PlanDecider *decider)
{
    return decider->cold;
}

/* A rule may name a folder: then it is about all below it. */
static gboolean rule_matches(const PatternList *rule, const char *path)
{
    if (pattern_list_match(rule, path, FALSE) != PATTERN_NONE)
        return TRUE;
    g_autofree char *parent = g_strdup(path);
    for (char *slash = strrchr(parent, '/'); slash != NULL; slash = strrchr(parent, '/')) {
        *slash = '\0';
        if (pattern_list_match(rule, parent, TRUE) != PATTERN_NONE)
            return TRUE;
    }
    return FALSE;
}

/* The class that the options ask for; NULL: none in particular. */
static const char *wanted_class(const PlanDecider *decider, const char *path)
{
    const S3syncOptions *options = decider->input->options;
    if (!store_can(decider->input->store, STORE_CLASSES))
        return NULL;
    for (guint i = 0; i < decider->rules->len; i++) {
        if (rule_matches(g_ptr_array_index(decider->rules, i), path))
            return options->class_rules[i].storage_class;
    }
    return options->storage_class;
}

static gboolean is_class(const char *have, const char *want)
{
    return strcmp(have != NULL && have[0] != '\0' ? have : ANY_CLASS, want) == 0;
}

static guint64 expected_size(const PlanDecider *decider, guint64 size)
{
    return decider->input->options->master_key != NULL ? tink_cipher_size(size) : size;
}

static gboolean same_time(const S3Entry *entry, const CatalogueRow *row)
{
    return entry->meta.mtime_s == row->mtime_s && entry->meta.mtime_ns == row->mtime_ns;
}

/* The row is about the object that is there. A store that tells no ETag is believed by size. */
static gboolean agrees(const CatalogueRow *row, const StoreObject *object)
{
    if (row == NULL || row->object_size != object->size)
        return FALSE;
    return object->etag == NULL || object->etag[0] == '\0' || g_strcmp0(row->etag, object->etag) == 0;
}

/* Feeds `size` bytes of a file, from its beginning, to hash or md5 (the other one is NULL). FALSE if there are fewer, or
 * (*cancelled) if the run is to stop. */
static gboolean feed(const PlanDecider *decider, int fd, guint64 size, ContentHash *hash, Hash *md5,
                     gboolean *cancelled, GError **error)
{
    for (guint64 at = 0; at < size;) {
        *cancelled = !cancel_check(decider->input->options->cancel, error);
        gssize got = *cancelled ? -1 : io_read_at(fd, decider->buffer, (gsize)MIN(size - at, READ_BYTES), at);
        if (got <= 0)
            return FALSE;
        if (hash != NULL)
            content_hash_update(hash, decider->buffer, (gsize)got);
        if (md5 != NULL)
            hash_update(md5, decider->buffer, (gsize)got);
        at += (guint64)got;
    }
    return TRUE;
}

/* By the ETag of an object that was not sent in parts; another ETag proves nothing, so then they count as different. */
static gboolean same_md5(PlanDecider *decider, int fd, guint64 size, const char *etag, gboolean *cancelled,
                         GError **error)
{
    guint8 sum[HASH_BYTES], wanted[HASH_MD5_BYTES];
    if (decider->md5 == NULL || etag == NULL || strlen(etag) != MD5_DIGITS ||
        !digest_parse_hex(etag, wanted, HASH_MD5_BYTES))
        return FALSE;
    hash_reset(decider->md5);
    if (!feed(decider, fd, size, NULL, decider->md5, cancelled, error))
        return FALSE;
    hash_finish(decider->md5, sum);
    return memcmp(sum, wanted, HASH_MD5_BYTES) == 0;
}

/* Reads the file: TRUE in *same if its content is that of the object which the row is about. FALSE: cancelled. */
static gboolean same_content(PlanDecider *decider, const S3Entry *entry, const CatalogueRow *row, gboolean *same,
                             GError **error)
{
    const char *base = NULL;
    guint8 hash[HASH_BYTES];
    gboolean cancelled = FALSE;
    *same = FALSE;
    g_auto(AutoFd) parent = dir_open_parent(decider->root_fd, entry->path, &base, NULL);
    g_auto(AutoFd) fd = parent >= 0 ? openat(parent, base, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC) : -1;
    if (fd < 0)
        return TRUE;
    if (decider->buffer == NULL)
        decider->buffer = g_malloc(READ_BYTES);
    if (row->part_size > 0) {
        content_hash_begin(&decider->hash, entry->meta.size, row->part_size);
        *same = feed(decider, fd, entry->meta.size, &decider->hash, NULL, &cancelled, error);
        content_hash_end(&decider->hash, hash);
        *same = *same && memcmp(hash, row->hash, HASH_BYTES) == 0;
    } else if (decider->input->options->master_key == NULL) {
        *same = same_md5(decider, fd, entry->meta.size, row->etag, &cancelled, error);
    }
    return !cancelled;
}

static void keep(const S3Entry *entry, const StoreObject *object, const CatalogueRow *row, S3PlanItem *item)
{
    (void)entry;
    item->op = S3PLAN_KEEP;
    item->reason = NULL;
    item->entry.object_size = object->size;
    item->entry.etag = row->etag;
    item->entry.version = row->version;
    item->entry.part_size = row->part_size;
    memcpy(item->entry.hash, row->hash, HASH_BYTES);
}

/* The content is right, something beside it is not: a copy onto itself, where it can be read. */
static void touch(PlanDecider *decider, const StoreObject *object, const CatalogueRow *row, const char *reason,
                  S3PlanItem *item)
{
    gboolean cold = store_class_is_cold(object->storage_class);
    gboolean can = store_can(decider->input->store, STORE_COPY) && !cold;
    item->op = can ? S3PLAN_TOUCH : S3PLAN_UPLOAD;
    item->reason = reason;
    decider->cold += cold ? 1 : 0;
    item->entry.object_size = object->size;
    item->entry.part_size = row->part_size;
    memcpy(item->entry.hash, row->hash, HASH_BYTES);
}

/* Content and time are right. A class that somebody else has changed (a rule of the bucket's life cycle) is left: only
 * what was asked for at another time than now is changed. */
static void keep_or_change_class(PlanDecider *decider, const S3Entry *entry, const StoreObject *object,
                                 const CatalogueRow *row, S3PlanItem *item)
{
    const char *want = item->storage_class;
    if (want == NULL || is_class(object->storage_class, want) || is_class(row->storage_class, want))
        keep(entry, object, row, item);
    else
        touch(decider, object, row, plan_reason_class, item);
}

/* The row is about the object. */
static gboolean decide_known(PlanDecider *decider, const S3Entry *entry, const StoreObject *object,
                             const CatalogueRow *row, S3PlanItem *item, GError **error)
{
    gboolean timely = same_time(entry, row);
    gboolean same = timely;
    item->op = S3PLAN_UPLOAD;
    item->reason = plan_reason_size;
    if (entry->meta.size != row->size)
        return TRUE;
    item->reason = plan_reason_time;
    if (decider->input->options->checksum) {
        item->reason = plan_reason_content;
        if (!same_content(decider, entry, row, &same, error))
            return FALSE;
    }
    if (same && timely)
        keep_or_change_class(decider, entry, object, row, item);
    else if (same)
        touch(decider, object, row, plan_reason_time, item);
    return TRUE;
}

/* Nothing, or something else, was known of the object: made by others, or by a run that was cut off. */
static gboolean decide_unknown(PlanDecider *decider, const S3Entry *entry, const StoreObject *object,
                               const CatalogueRow *row, S3PlanItem *item, GError **error)
{
    gboolean same = object->size == expected_size(decider, entry->meta.size);
    item->reason = row != NULL ? plan_reason_etag : same ? plan_reason_time : plan_reason_size;
    if (same && decider->input->options->checksum) {
        CatalogueRow unknown = {.etag = object->etag};
        item->reason = plan_reason_content;
        if (!same_content(decider, entry, &unknown, &same, error))
            return FALSE;
    }
    item->op = same ? S3PLAN_CHECK : S3PLAN_UPLOAD;
    return TRUE;
}

/* The object of the date before can be copied. */
static gboolean can_copy(PlanDecider *decider, const S3Entry *entry, const CatalogueRow *base, gboolean *can,
                         GError **error)
{
    *can = base != NULL && store_can(decider->input->store, STORE_COPY) && base->etag != NULL &&
           base->size == entry->meta.size && same_time(entry, base) && !store_class_is_cold(base->storage_class);
    if (!*can || !decider->input->options->checksum)
        return TRUE;
    return same_content(decider, entry, base, can, error);
}

static void copy(PlanDecider *decider, const CatalogueRow *base, S3PlanItem *item)
{
    g_string_assign(decider->source, decider->input->base_prefix);
    g_string_append(decider->source, base->key);
    item->op = S3PLAN_COPY;
    item->source = decider->source->str;
    item->source_etag = base->etag;
    item->source_version = base->version;
    item->entry.object_size = base->object_size;
    item->entry.part_size = base->part_size;
    memcpy(item->entry.hash, base->hash, HASH_BYTES);
}

gboolean plan_decide(PlanDecider *decider, const S3Entry *entry, const StoreObject *object, const CatalogueRow *row,
                     const CatalogueRow *base, S3PlanItem *item, GError **error)
{
    *item = (S3PlanItem){.op = S3PLAN_UPLOAD, .entry = *entry, .reason = plan_reason_new};
    item->storage_class = wanted_class(decider, entry->path);
    gboolean known = object != NULL && agrees(row, object);
    if (object != NULL) {
        item->have_etag = object->etag != NULL ? object->etag : "";
        item->have_class = object->storage_class;
        item->have_size = object->size;
    }
    if (object != NULL && g_hash_table_contains(decider->wrong, entry->key)) {
        item->reason = plan_reason_damaged; /* whatever it says of itself */
    } else if (known) {
        if (!decide_known(decider, entry, object, row, item, error))
            return FALSE;
    } else if (object != NULL) {
        if (!decide_unknown(decider, entry, object, row, item, error))
            return FALSE;
    } else if (row != NULL) {
        item->reason = plan_reason_lost;
    }
    gboolean copies = FALSE;
    if (item->op == S3PLAN_UPLOAD && !can_copy(decider, entry, base, &copies, error))
        return FALSE;
    if (copies)
        copy(decider, base, item);
    return TRUE;
}
