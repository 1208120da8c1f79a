#include "engine/archive/index_format.h"

#include "crypto/digest.h"
#include "crypto/tink.h"

#include <jansson.h>
#include <string.h>

#define FORMAT       "backapp archive index"
#define VERSION      1
#define SOURCES_MAX  4096
#define TEXT_MAX     ((gsize)1 << 20)
#define HOST_MAX     1024
#define LEVEL_MAX    22
#define NS_MAX       999999999
#define COUNT_MAX    ((guint64)G_MAXINT64)
#define INT_FIELD(n) json_integer((json_int_t)(n))

static gboolean no_point(BackappError code, const char *why, GError **error)
{
    return error_set(error, code, "what it says of its archive does not fit together: %s", why);
}

static gboolean check_volumes(const ArchivePoint *point, BackappError code, GError **error)
{
    guint64 before = 0;
    for (guint i = 0; i < point->volumes->len; i++) {
        const ArchiveVolume *volume = &g_array_index(point->volumes, ArchiveVolume, i);
        gboolean in_order = i == 0 ? volume->first_member == 0 : volume->first_member > before;
        if (!in_order || volume->first_member >= point->members || volume->packed_size == 0)
            return no_point(code, "the volumes' members", error);
        if (volume->packed_size > TINK_PLAIN_MAX ||
            volume->size != (point->name.encrypted ? tink_cipher_size(volume->packed_size) : volume->packed_size))
            return no_point(code, "the volumes' sizes", error);
        before = volume->first_member;
    }
    return TRUE;
}

gboolean index_point_check(const ArchivePoint *point, BackappError code, GError **error)
{
    ArchiveName parent;
    if (point->parent && (!archive_name_parse(point->parent, &parent) || parent.volume != 0 ||
                          parent.role == ARCHIVE_OBJECT_INDEX || point->name.type == ARCHIVE_FULL))
        return no_point(code, "its parent", error);
    if (point->members != point->tar_size / ARCHIVE_MEMBER_BYTES + (point->tar_size % ARCHIVE_MEMBER_BYTES > 0))
        return no_point(code, "the size of the tar and its members", error);
    if (point->volumes->len > ARCHIVE_VOLUMES_MAX || (point->volumes->len > 1 && !point->numbered) ||
        (point->volumes->len == 0) != (point->members == 0))
        return no_point(code, "the number of volumes", error);
    if (point->level < 0 || point->level > LEVEL_MAX || point->scan_ns > NS_MAX || point->deletions > point->entries)
        return no_point(code, "its numbers", error);
    return check_volumes(point, code, error);
}

/* JSON is UTF-8, names are bytes: what is no UTF-8 is {"b64": "..."}. */
static json_t *print_name(const char *bytes)
{
    if (g_utf8_validate(bytes, -1, NULL))
        return json_string(bytes);
    g_autofree char *encoded = digest_base64((const guint8 *)bytes, strlen(bytes));
    return json_pack("{s:s}", "b64", encoded);
}

static json_t *print_hash(const guint8 hash[HASH_BYTES])
{
    g_autofree char *hex = digest_hex(hash, HASH_BYTES);
    return json_string(hex);
}

static json_t *print_volumes(const GArray *volumes)
{
    json_t *list = json_array();
    for (guint i = 0; i < volumes->len; i++) {
        const ArchiveVolume *volume = &g_array_index(volumes, ArchiveVolume, i);
        json_t *object = json_object();
        json_object_set_new(object, "size", INT_FIELD(volume->size));
        json_object_set_new(object, "packedSize", INT_FIELD(volume->packed_size));
        json_object_set_new(object, "firstMember", INT_FIELD(volume->first_member));
        json_object_set_new(object, "partSize", INT_FIELD(volume->part_size));
        json_object_set_new(object, "partsHash", print_hash(volume->parts_hash));
        json_array_append_new(list, object);
    }
    return list;
}

static json_t *print_span(const IndexSpan *span)
{
    json_t *object = json_object();
    json_object_set_new(object, "offset", INT_FIELD(span->offset));
    json_object_set_new(object, "length", INT_FIELD(span->stored));
    json_object_set_new(object, "rawLength", INT_FIELD(span->raw));
    json_object_set_new(object, "hash", print_hash(span->hash));
    return object;
}

static void print_counts(const ArchivePoint *point, json_t *object)
{
    json_object_set_new(object, "level", INT_FIELD(point->level));
    json_object_set_new(object, "tarSize", INT_FIELD(point->tar_size));
    json_object_set_new(object, "members", INT_FIELD(point->members));
    json_object_set_new(object, "files", INT_FIELD(point->files));
    json_object_set_new(object, "directories", INT_FIELD(point->directories));
    json_object_set_new(object, "bytes", INT_FIELD(point->bytes));
    json_object_set_new(object, "entries", INT_FIELD(point->entries));
    json_object_set_new(object, "deletions", INT_FIELD(point->deletions));
    json_object_set_new(object, "unread", INT_FIELD(point->unread));
    json_object_set_new(object, "partial", json_boolean(point->partial));
    json_object_set_new(object, "rebuilt", json_boolean(point->rebuilt));
}

static json_t *print_point(const ArchivePoint *point)
{
    json_t *object = json_object();
    json_t *sources = json_array();
    json_object_set_new(object, "format", json_string(FORMAT));
    json_object_set_new(object, "version", INT_FIELD(VERSION));
    json_object_set_new(object, "archive", json_string(point->base));
    json_object_set_new(object, "name", json_string(point->place_name));
    json_object_set_new(object, "time", INT_FIELD(point->time));
    json_object_set_new(object, "scanTime", INT_FIELD(point->scan_s));
    json_object_set_new(object, "scanNs", INT_FIELD(point->scan_ns));
    if (point->parent) {
        json_object_set_new(object, "parent", json_string(point->parent));
        json_object_set_new(object, "parentHash", print_hash(point->parent_hash));
    }
    json_object_set_new(object, "host", print_name(point->host ? point->host : ""));
    for (guint i = 0; point->sources && i < point->sources->len; i++)
        json_array_append_new(sources, print_name(g_ptr_array_index(point->sources, i)));
    json_object_set_new(object, "sources", sources);
    json_object_set_new(object, "volumes", print_volumes(point->volumes));
    json_object_set_new(object, "numbered", json_boolean(point->numbered));
    print_counts(point, object);
    return object;
}

GByteArray *index_footer_print(const ArchivePoint *point, const IndexSpan *table, GError **error)
{
    if (!index_point_check(point, BACKAPP_ERROR_INTERNAL, error))
        return NULL;
    json_t *object = print_point(point);
    json_object_set_new(object, "table", print_span(table));
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    gsize length = text ? strlen(text) : 0;
    if (!text || length >= INDEX_FOOTER_MAX || (point->sources && point->sources->len > SOURCES_MAX)) {
        free(text);
        (void)error_set(error, BACKAPP_ERROR_INVALID, "there are too many sources, or their names are too long");
        return NULL;
    }
    GByteArray *out = g_byte_array_sized_new((guint)length + 1);
    g_byte_array_append(out, (const guint8 *)text, (guint)length);
    g_byte_array_append(out, (const guint8 *)"\n", 1);
    free(text);
    return out;
}

/* Reading: every field is asked for once, so an object with more fields than that has one that nobody knows. The first
 * thing that is wrong spoils all. */
typedef struct {
    const json_t *object;
    gsize asked;
    const char *bad; /* the field; NULL: none */
} Fields;

static const json_t *take_field(Fields *in, const char *key)
{
    const json_t *value = json_object_get(in->object, key);
    in->asked += value != NULL;
    return value;
}

static gint64 get_signed(Fields *in, const char *key)
{
    const json_t *value = take_field(in, key);
    if (!json_is_integer(value))
        in->bad = key;
    return json_integer_value(value);
}

static guint64 get_count(Fields *in, const char *key, guint64 max)
{
    gint64 value = get_signed(in, key);
    if (value >= 0 && (guint64)value <= max)
        return (guint64)value;
    in->bad = key;
    return 0;
}

static gboolean get_boolean(Fields *in, const char *key)
{
    const json_t *value = take_field(in, key);
    if (!json_is_boolean(value))
        in->bad = key;
    return json_is_true(value);
}

static void get_hash(Fields *in, const char *key, guint8 hash[HASH_BYTES])
{
    const json_t *value = take_field(in, key);
    if (!json_is_string(value) || !digest_parse_hex(json_string_value(value), hash, HASH_BYTES))
        in->bad = key;
}

static char *get_text(Fields *in, const char *key)
{
    const json_t *value = take_field(in, key);
    if (!json_is_string(value)) {
        in->bad = key;
        return NULL;
    }
    return g_strdup(json_string_value(value));
}

/* The bytes of padded base64; NULL if it is none, or holds a zero byte. */
static char *parse_base64(const char *text, gsize length)
{
    if (length == 0 || length % 4 != 0 || length > TEXT_MAX)
        return NULL;
    gsize bytes = length / 4 * 3 - (text[length - 1] == '=') - (text[length - 2] == '=');
    g_autofree char *name = g_malloc0(bytes + 1);
    if (!digest_parse_base64(text, (guint8 *)name, bytes) || strlen(name) != bytes)
        return NULL;
    return g_steal_pointer(&name);
}

static char *parse_name(const json_t *value)
{
    if (json_is_string(value))
        return json_string_length(value) <= TEXT_MAX ? g_strdup(json_string_value(value)) : NULL;
    const json_t *encoded = json_object_get(value, "b64");
    if (!json_is_string(encoded) || json_object_size(value) != 1)
        return NULL;
    return parse_base64(json_string_value(encoded), json_string_length(encoded));
}

static void get_sources(Fields *in, ArchivePoint *point)
{
    const json_t *list = take_field(in, "sources");
    if (!json_is_array(list) || json_array_size(list) > SOURCES_MAX)
        in->bad = "sources";
    for (gsize i = 0; !in->bad && i < json_array_size(list); i++) {
        char *name = parse_name(json_array_get(list, i));
        if (name)
            g_ptr_array_add(point->sources, name);
        else
            in->bad = "sources";
    }
}

/* What was wrong inside is the outer object's fault. */
static void close_fields(Fields *outer, const Fields *inner, const char *key)
{
    if (inner->bad || inner->asked != json_object_size(inner->object))
        outer->bad = key;
}

static void get_volumes(Fields *in, ArchivePoint *point)
{
    const json_t *list = take_field(in, "volumes");
    if (!json_is_array(list) || json_array_size(list) > ARCHIVE_VOLUMES_MAX)
        in->bad = "volumes";
    for (gsize i = 0; !in->bad && i < json_array_size(list); i++) {
        Fields of = {.object = json_array_get(list, i)};
        ArchiveVolume volume = {.size = get_count(&of, "size", COUNT_MAX),
                                .packed_size = get_count(&of, "packedSize", COUNT_MAX),
                                .first_member = get_count(&of, "firstMember", COUNT_MAX),
                                .part_size = get_count(&of, "partSize", COUNT_MAX)};
        get_hash(&of, "partsHash", volume.parts_hash);
        close_fields(in, &of, "volumes");
        g_array_append_val(point->volumes, volume);
    }
}

static void get_table(Fields *in, IndexSpan *table)
{
    Fields of = {.object = take_field(in, "table")};
    table->offset = get_count(&of, "offset", COUNT_MAX);
    table->stored = get_count(&of, "length", 2 * INDEX_TABLE_MAX);
    table->raw = get_count(&of, "rawLength", INDEX_TABLE_MAX);
    get_hash(&of, "hash", table->hash);
    close_fields(in, &of, "table");
}

static void get_point(Fields *in, ArchivePoint *point)
{
    point->base = get_text(in, "archive");
    point->place_name = get_text(in, "name");
    point->time = get_signed(in, "time");
    point->scan_s = get_signed(in, "scanTime");
    point->scan_ns = (guint32)get_count(in, "scanNs", NS_MAX);
    if (json_object_get(in->object, "parent")) {
        point->parent = get_text(in, "parent");
        get_hash(in, "parentHash", point->parent_hash);
    }
    const json_t *host = take_field(in, "host");
    point->host = parse_name(host);
    if (!point->host || strlen(point->host) > HOST_MAX)
        in->bad = "host";
    get_sources(in, point);
    get_volumes(in, point);
    point->numbered = get_boolean(in, "numbered");
    point->level = (int)get_count(in, "level", LEVEL_MAX);
    point->tar_size = get_count(in, "tarSize", COUNT_MAX);
    point->members = get_count(in, "members", COUNT_MAX);
    point->files = get_count(in, "files", COUNT_MAX);
    point->directories = get_count(in, "directories", COUNT_MAX);
    point->bytes = get_count(in, "bytes", COUNT_MAX);
    point->entries = get_count(in, "entries", COUNT_MAX);
    point->deletions = get_count(in, "deletions", COUNT_MAX);
    point->unread = get_count(in, "unread", COUNT_MAX);
    point->partial = get_boolean(in, "partial");
    point->rebuilt = get_boolean(in, "rebuilt");
}

/* The archive's name, which says what else is known of it. */
static gboolean read_names(ArchivePoint *point, GError **error)
{
    if (!archive_name_parse(point->base, &point->name) || point->name.role != ARCHIVE_OBJECT_VOLUME ||
        point->name.volume != 0 || !archive_check_name(point->place_name, NULL))
        return no_point(BACKAPP_ERROR_CORRUPT, "its name", error);
    point->name.role = ARCHIVE_OBJECT_INDEX;
    return index_point_check(point, BACKAPP_ERROR_CORRUPT, error);
}

static gboolean read_footer(const json_t *object, ArchivePoint *point, IndexSpan *table, GError **error)
{
    Fields in = {.object = object};
    g_autofree char *format = get_text(&in, "format");
    guint64 version = get_count(&in, "version", COUNT_MAX);
    if (!in.bad && version > VERSION)
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "it has a format of a newer version of this program: use that version");
    if (in.bad || version != VERSION || strcmp(format, FORMAT) != 0)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "its footer is not that of an index");
    get_point(&in, point);
    get_table(&in, table);
    if (in.bad)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "its footer is damaged at \"%s\"", in.bad);
    if (in.asked != json_object_size(object))
        return error_set(error, BACKAPP_ERROR_CORRUPT, "its footer says something that is not known");
    return read_names(point, error);
}

ArchivePoint *index_footer_parse(const guint8 *data, gsize length, IndexSpan *table, GError **error)
{
    json_error_t where;
    json_t *object =
        length <= INDEX_FOOTER_MAX ? json_loadb((const char *)data, length, JSON_REJECT_DUPLICATES, &where) : NULL;
    if (!json_is_object(object)) {
        json_decref(object);
        (void)error_set(error, BACKAPP_ERROR_CORRUPT, "its footer is no JSON object");
        return NULL;
    }
    g_autoptr(ArchivePoint) point = g_new0(ArchivePoint, 1);
    point->sources = g_ptr_array_new_with_free_func(g_free);
    point->volumes = g_array_new(FALSE, TRUE, sizeof(ArchiveVolume));
    gboolean good = read_footer(object, point, table, error);
    json_decref(object);
    return good ? g_steal_pointer(&point) : NULL;
}
