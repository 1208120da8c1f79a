#include "engine/archive/tar_records.h"

#include <string.h>

#include "base/error.h"

#define XATTR_PREFIX "SCHILY.xattr."
#define ATTRS_MAX    65536
#define NAME_MAX_LEN 255
#define VALUE_MAX    65536

#define ACL_VERSION 2
#define ACL_NO_ID   0xffffffffu

/* An attribute; the value belongs to the records, or to made. */
typedef struct {
    char *name;
    const guint8 *value;
    gsize length;
    GByteArray *made; /* of an ACL */
} Attr;

typedef struct {
    TarRecords *out;
    GArray *attrs; /* of Attr */
} Parser;

static void attr_clear(gpointer data)
{
    Attr *attr = data;
    g_free(attr->name);
    if (attr->made != NULL)
        g_byte_array_unref(attr->made);
}

/* A decimal number that is the whole of the text. */
static gboolean read_number(const char *text, gsize length, guint64 *value)
{
    *value = 0;
    for (gsize i = 0; i < length; i++) {
        if (!g_ascii_isdigit(text[i]))
            return FALSE;
        guint digit = (guint)(text[i] - '0');
        if (*value > (G_MAXUINT64 - digit) / 10)
            return FALSE;
        *value = *value * 10 + digit;
    }
    return length > 0;
}

/* "-0.5" is half a second before 1970. */
static gboolean read_time(const char *text, gsize length, TarRecords *out)
{
    gboolean negative = length > 0 && text[0] == '-';
    text += negative;
    length -= negative ? 1 : 0;
    const char *dot = memchr(text, '.', length);
    gsize whole = dot != NULL ? (gsize)(dot - text) : length;
    guint64 seconds = 0;
    if (!read_number(text, whole, &seconds) || seconds > G_MAXINT64 - 1)
        return FALSE;
    guint32 ns = 0, unit = 100000000;
    for (gsize i = whole + 1; i < length; i++, unit /= 10) {
        if (!g_ascii_isdigit(text[i]))
            return FALSE;
        ns += (guint32)(text[i] - '0') * unit;
    }
    out->mtime_s = negative ? -(gint64)seconds : (gint64)seconds;
    out->mtime_ns = ns;
    if (negative && ns > 0) {
        out->mtime_s--;
        out->mtime_ns = 1000000000 - ns;
    }
    return TRUE;
}

/* Takes a path: *zero if it is none because of a zero byte. */
static void take_text(char **to, const guint8 *value, gsize length, gboolean *zero)
{
    g_free(*to);
    *to = g_strndup((const char *)value, length);
    if (zero != NULL && strlen(*to) != length)
        *zero = TRUE;
}

/* ---- attributes ---- */

/* One of "user:1000:r-x". */
static gboolean read_acl_entry(const char *text, GByteArray *out)
{
    static const struct {
        const char *kind;
        guint plain, with_id; /* tags; 0: there is none */
    } TAGS[] = {{"user", 0x01, 0x02}, {"group", 0x04, 0x08}, {"mask", 0x10, 0}, {"other", 0x20, 0}};
    g_auto(GStrv) parts = g_strsplit(text, ":", 4);
    if (g_strv_length(parts) != 3 || strlen(parts[2]) != 3)
        return FALSE;
    guint i = 0;
    while (i < G_N_ELEMENTS(TAGS) && strcmp(TAGS[i].kind, parts[0]) != 0)
        i++;
    guint64 id = ACL_NO_ID;
    gboolean has_id = parts[1][0] != '\0';
    if (i == G_N_ELEMENTS(TAGS) ||
        (has_id && (TAGS[i].with_id == 0 || !read_number(parts[1], strlen(parts[1]), &id) || id >= ACL_NO_ID)))
        return FALSE;
    guint permissions = 0;
    for (guint bit = 0; bit < 3; bit++) {
        if (parts[2][bit] == "rwx"[bit])
            permissions |= 4u >> bit;
        else if (parts[2][bit] != '-')
            return FALSE;
    }
    bytes_put_u32(out, (has_id ? TAGS[i].with_id : TAGS[i].plain) | permissions << 16);
    bytes_put_u32(out, (guint32)id);
    return TRUE;
}

/* The kernel's form of an ACL; NULL if the text is none. */
static GByteArray *read_acl(const guint8 *value, gsize length)
{
    if (length > VALUE_MAX || memchr(value, 0, length) != NULL)
        return NULL;
    g_autofree char *text = g_strndup((const char *)value, length);
    g_auto(GStrv) lines = g_strsplit(text, ",", -1);
    g_autoptr(GByteArray) out = g_byte_array_new();
    bytes_put_u32(out, ACL_VERSION);
    for (char **line = lines; *line != NULL; line++)
        if (!read_acl_entry(*line, out))
            return NULL;
    return out->len <= VALUE_MAX ? g_steal_pointer(&out) : NULL;
}

/* "%25" and "%3D" are a percent and an equals sign. */
static char *xattr_name(const char *key, gsize length)
{
    GString *name = g_string_new(NULL);
    for (gsize i = 0; i < length; i++) {
        if (key[i] == '%' && i + 2 < length && g_ascii_isxdigit(key[i + 1]) && g_ascii_isxdigit(key[i + 2])) {
            g_string_append_c(name, (char)(g_ascii_xdigit_value(key[i + 1]) * 16 + g_ascii_xdigit_value(key[i + 2])));
            i += 2;
        } else {
            g_string_append_c(name, key[i]);
        }
    }
    return g_string_free(name, FALSE);
}

static void add_attr(Parser *parser, char *name, const guint8 *value, gsize length, GByteArray *made)
{
    Attr attr = {.name = name, .value = value, .length = length, .made = made};
    gsize name_length = strlen(name);
    if (name_length == 0 || name_length > NAME_MAX_LEN || length > VALUE_MAX || parser->attrs->len >= ATTRS_MAX)
        attr_clear(&attr);
    else
        g_array_append_val(parser->attrs, attr);
}

static void add_acl(Parser *parser, const char *name, const guint8 *value, gsize length)
{
    GByteArray *made = read_acl(value, length);
    if (made != NULL)
        add_attr(parser, g_strdup(name), made->data, made->len, made);
}

static int compare_attrs(gconstpointer a, gconstpointer b)
{
    return strcmp(((const Attr *)a)->name, ((const Attr *)b)->name);
}

/* As attrs_encode: sorted, each name once. */
static void encode_attrs(Parser *parser)
{
    GArray *attrs = parser->attrs;
    g_array_sort(attrs, compare_attrs);
    for (guint i = 1; i < attrs->len;) {
        if (compare_attrs(&g_array_index(attrs, Attr, i - 1), &g_array_index(attrs, Attr, i)) == 0)
            g_array_remove_index(attrs, i);
        else
            i++;
    }
    if (attrs->len == 0)
        return;
    GByteArray *out = parser->out->attrs = g_byte_array_new();
    bytes_put_varint(out, attrs->len);
    for (guint i = 0; i < attrs->len; i++) {
        const Attr *attr = &g_array_index(attrs, Attr, i);
        bytes_put_blob(out, attr->name, strlen(attr->name));
        bytes_put_blob(out, attr->value, attr->length);
    }
}

/* ---- records ---- */

static gboolean key_is(const char *key, gsize length, const char *name)
{
    return strlen(name) == length && memcmp(key, name, length) == 0;
}

/* FALSE for a number that is none. */
static gboolean take_number(Parser *parser, const char *key, gsize key_length, const char *text, gsize length)
{
    TarRecords *out = parser->out;
    const struct {
        const char *name;
        gboolean *has;
        guint64 *value;
    } NUMBERS[] = {{"size", &out->has_size, &out->size},
                   {"uid", &out->has_uid, &out->uid},
                   {"gid", &out->has_gid, &out->gid},
                   {"GNU.sparse.realsize", &out->has_real_size, &out->real_size}};
    for (guint i = 0; i < G_N_ELEMENTS(NUMBERS); i++)
        if (key_is(key, key_length, NUMBERS[i].name))
            return *NUMBERS[i].has = read_number(text, length, NUMBERS[i].value);
    if (key_is(key, key_length, "GNU.sparse.major"))
        return out->is_sparse = key_is(text, length, "1");
    if (key_is(key, key_length, "mtime"))
        return out->has_mtime = read_time(text, length, out);
    return TRUE;
}

static gboolean take_record(Parser *parser, const char *key, gsize key_length, const guint8 *value, gsize length)
{
    TarRecords *out = parser->out;
    const struct {
        const char *name;
        char **to;
        gboolean *zero;
    } TEXTS[] = {{"path", &out->path, &out->has_zero},
                 {"linkpath", &out->link, &out->has_zero},
                 {"GNU.sparse.name", &out->sparse_name, &out->has_zero},
                 {"uname", &out->user, NULL},
                 {"gname", &out->group, NULL}};
    for (guint i = 0; i < G_N_ELEMENTS(TEXTS); i++) {
        if (!key_is(key, key_length, TEXTS[i].name))
            continue;
        take_text(TEXTS[i].to, value, length, TEXTS[i].zero);
        return TRUE;
    }
    gsize prefix = strlen(XATTR_PREFIX);
    if (key_length > prefix && memcmp(key, XATTR_PREFIX, prefix) == 0)
        add_attr(parser, xattr_name(key + prefix, key_length - prefix), value, length, NULL);
    else if (key_is(key, key_length, "SCHILY.acl.access"))
        add_acl(parser, "system.posix_acl_access", value, length);
    else if (key_is(key, key_length, "SCHILY.acl.default"))
        add_acl(parser, "system.posix_acl_default", value, length);
    else
        return take_number(parser, key, key_length, (const char *)value, length);
    return TRUE;
}

/* Takes the record that data begins with; its length, or 0 if it is none. */
static gsize next_record(Parser *parser, const char *data, gsize length)
{
    const char *space = memchr(data, ' ', MIN(length, 20));
    guint64 whole = 0;
    if (space == NULL || !read_number(data, (gsize)(space - data), &whole) || whole > length)
        return 0;
    const char *key = space + 1, *end = data + whole;
    if (end <= key || end[-1] != '\n')
        return 0;
    const char *equals = memchr(key, '=', (gsize)(end - 1 - key));
    if (equals == NULL ||
        !take_record(parser, key, (gsize)(equals - key), (const guint8 *)equals + 1, (gsize)(end - 1 - (equals + 1))))
        return 0;
    return (gsize)whole;
}

gboolean tar_records_read(const guint8 *data, gsize length, TarRecords *records, GError **error)
{
    Parser parser = {.out = records, .attrs = g_array_new(FALSE, FALSE, sizeof(Attr))};
    g_array_set_clear_func(parser.attrs, attr_clear);
    gsize at = 0, used = 1;
    while (at < length && (used = next_record(&parser, (const char *)data + at, length - at)) > 0)
        at += used;
    if (used > 0)
        encode_attrs(&parser);
    g_array_unref(parser.attrs);
    return used > 0 || error_set(error, BACKAPP_ERROR_CORRUPT, "a pax header is damaged");
}

void tar_records_clear(TarRecords *records)
{
    g_free(records->path);
    g_free(records->link);
    g_free(records->user);
    g_free(records->group);
    g_free(records->sparse_name);
    if (records->attrs != NULL)
        g_byte_array_unref(records->attrs);
    *records = (TarRecords){0};
}
