#include "engine/archive/tar_attrs.h"

#include "base/error.h"
#include "base/human.h"

#include <string.h>

/* The kernel's form of an ACL (linux/posix_acl_xattr.h), little-endian: a version, then tag, permissions and id each. */
#define ACL_VERSION     2
#define ACL_HEAD_BYTES  4
#define ACL_ENTRY_BYTES 8

#define RECORD_HEAD_MAX 32 /* of the length, the space, the equals sign and the line's end */

void tar_put_record(GByteArray *out, const char *key, const void *value, gsize length)
{
    /* The length counts its own digits. */
    gsize rest = strlen(key) + length + 3;
    gsize total = rest + 1;
    char digits[24];
    while (rest + (gsize)g_snprintf(digits, sizeof digits, "%" G_GSIZE_FORMAT, total) != total)
        total = rest + strlen(digits);
    g_byte_array_append(out, (const guint8 *)digits, (guint)strlen(digits));
    g_byte_array_append(out, (const guint8 *)" ", 1);
    g_byte_array_append(out, (const guint8 *)key, (guint)strlen(key));
    g_byte_array_append(out, (const guint8 *)"=", 1);
    if (length > 0)
        g_byte_array_append(out, value, (guint)length);
    g_byte_array_append(out, (const guint8 *)"\n", 1);
}

/* "user:1000:r-x"; FALSE for a tag that no ACL has. */
static gboolean put_acl_entry(GString *text, guint tag, guint permissions, guint32 id)
{
    static const struct {
        guint tag;
        const char *kind;
        gboolean has_id;
    } TAGS[] = {{0x01, "user", FALSE}, {0x02, "user", TRUE},  {0x04, "group", FALSE},
                {0x08, "group", TRUE}, {0x10, "mask", FALSE}, {0x20, "other", FALSE}};
    guint i = 0;
    while (i < G_N_ELEMENTS(TAGS) && TAGS[i].tag != tag)
        i++;
    if (i == G_N_ELEMENTS(TAGS) || permissions > 7)
        return FALSE;
    g_string_append_printf(text, "%s%s:", text->len > 0 ? "," : "", TAGS[i].kind);
    if (TAGS[i].has_id)
        g_string_append_printf(text, "%u", id);
    g_string_append_printf(text, ":%c%c%c", permissions & 4 ? 'r' : '-', permissions & 2 ? 'w' : '-',
                           permissions & 1 ? 'x' : '-');
    return TRUE;
}

static GString *acl_text(const guint8 *value, gsize length)
{
    BytesReader in = bytes_reader(value, length);
    if (bytes_get_u32(&in) != ACL_VERSION || (length - ACL_HEAD_BYTES) % ACL_ENTRY_BYTES != 0)
        return NULL;
    GString *text = g_string_new(NULL);
    gboolean good = TRUE;
    while (good && in.at < in.end) {
        guint32 tag_and_permissions = bytes_get_u32(&in);
        guint32 id = bytes_get_u32(&in);
        good = put_acl_entry(text, tag_and_permissions & 0xffff, tag_and_permissions >> 16, id);
    }
    if (good)
        return text;
    g_string_free(text, TRUE);
    return NULL;
}

static void put_if_room(GByteArray *out, const char *key, const void *value, gsize length)
{
    if (out->len + strlen(key) + length + RECORD_HEAD_MAX <= TAR_RECORDS_MAX)
        tar_put_record(out, key, value, length);
}

static gboolean put_acl(GByteArray *out, const char *key, const guint8 *value, gsize length)
{
    GString *text = acl_text(value, length);
    if (text == NULL)
        return FALSE;
    if (text->len > 0)
        put_if_room(out, key, text->str, text->len);
    g_string_free(text, TRUE);
    return TRUE;
}

static void put_xattr(GByteArray *out, const char *name, const guint8 *value, gsize length)
{
    g_autoptr(GString) key = g_string_new("SCHILY.xattr.");
    for (; *name != '\0'; name++) {
        if (*name == '%' || *name == '=')
            g_string_append_printf(key, "%%%02X", (guint)*name);
        else
            g_string_append_c(key, *name);
    }
    put_if_room(out, key->str, value, length);
}

static gboolean put_attr(const char *name, const guint8 *value, gsize length, gpointer user_data)
{
    GByteArray *out = user_data;
    if (strcmp(name, "system.posix_acl_access") == 0)
        return put_acl(out, "SCHILY.acl.access", value, length);
    if (strcmp(name, "system.posix_acl_default") == 0)
        return put_acl(out, "SCHILY.acl.default", value, length);
    put_xattr(out, name, value, length);
    return TRUE;
}

gboolean tar_put_attrs(const S3Entry *entry, GByteArray *out, GError **error)
{
    if (entry->attrs == NULL || entry->attrs_length == 0)
        return TRUE;
    BytesReader in = bytes_reader(entry->attrs, entry->attrs_length);
    const Attrs *attrs ATTRS_AUTO = attrs_decode(&in, error);
    if (attrs == NULL)
        return FALSE;
    if (attrs_each(attrs, put_attr, out))
        return TRUE;
    g_autofree char *shown = human_name(entry->path, -1);
    return error_set(error, BACKAPP_ERROR_CORRUPT, "damaged record of the ACL of %s", shown);
}
