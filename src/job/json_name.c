#include "job/json_name.h"

#include "base/error.h"
#include "base/human.h"

#include <string.h>

json_t *json_name_new(const char *bytes)
{
    if (g_utf8_validate(bytes, -1, NULL))
        return json_string(bytes);
    g_autofree char *encoded = g_base64_encode((const guchar *)bytes, strlen(bytes));
    json_t *name = json_object();
    json_object_set_new(name, "b64", json_string(encoded));
    return name;
}

void json_name_set(json_t *object, const char *key, const char *bytes)
{
    if (!bytes)
        return;
    json_t *name = json_name_new(bytes);
    gboolean encoded = json_is_object(name);
    json_object_set_new(object, key, name);
    if (encoded) {
        g_autofree char *printable_key = g_strconcat(key, "Printable", NULL);
        g_autofree char *printable = human_name(bytes, -1);
        json_object_set_new(object, printable_key, json_string(printable));
    }
}

/* GLib's decoder passes over what it does not know, so the text is only taken if encoding gives it back. */
static char *decode_strictly(const char *text, gsize *length)
{
    g_autofree guchar *decoded = g_base64_decode(text, length);
    g_autofree char *again = g_base64_encode(decoded, *length);
    if (strcmp(again, text) != 0)
        return NULL;
    return g_strndup((const char *)decoded, *length);
}

char *json_name_get(const json_t *value, const char *where, gsize min, gsize max, GError **error)
{
    g_autofree char *name = NULL;
    gsize length = 0;
    const json_t *encoded = json_object_get(value, "b64");
    if (json_is_string(value)) {
        length = json_string_length(value);
        name = length <= max ? g_strndup(json_string_value(value), length) : NULL;
    } else if (json_is_string(encoded) && json_object_size(value) == 1) {
        /* Four characters stand for three bytes: what is too long is known before it is decoded. */
        length = json_string_length(encoded) / 4 * 3;
        if (length <= max + 2)
            name = decode_strictly(json_string_value(encoded), &length);
        if (!name && length <= max + 2)
            return error_set(error, BACKAPP_ERROR_INVALID, "%s: b64 must be padded base64", where), NULL;
    } else {
        return error_set(error, BACKAPP_ERROR_INVALID, "%s: must be a string or {\"b64\":\"..\"}", where), NULL;
    }
    if (!name || length > max)
        return error_set(error, BACKAPP_ERROR_INVALID, "%s: longer than %" G_GSIZE_FORMAT " bytes", where, max), NULL;
    if (length < min)
        return error_set(error, BACKAPP_ERROR_INVALID, "%s: is empty", where), NULL;
    if (strlen(name) != length)
        return error_set(error, BACKAPP_ERROR_INVALID, "%s: holds a zero byte", where), NULL;
    return g_steal_pointer(&name);
}

json_t *json_name_text(const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    return json_string(valid);
}
