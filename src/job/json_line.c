#include "job/json_line.h"

#include "base/error.h"
#include "base/human.h"
#include "job/json_name.h"

#include <string.h>

/* How deep brackets nest, known before the recursive parser sees them. Unbalanced ones are the parser's to refuse. */
static guint nesting(const char *line, gsize length)
{
    guint depth = 0, deepest = 0;
    gboolean in_string = FALSE;
    for (gsize i = 0; i < length; i++) {
        char c = line[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = FALSE;
        } else if (c == '"') {
            in_string = TRUE;
        } else if (c == '{' || c == '[') {
            depth++;
            deepest = MAX(deepest, depth);
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return deepest;
}

json_t *json_line_parse(const char *line, gsize length, gsize max, const char *what, GError **error)
{
    if (length > max)
        return error_set(error, BACKAPP_ERROR_INVALID, "%s: longer than %" G_GSIZE_FORMAT " bytes", what, max), NULL;
    if (nesting(line, length) > JSON_LINE_DEPTH)
        return error_set(error, BACKAPP_ERROR_INVALID, "%s: nested more than %d deep", what, JSON_LINE_DEPTH), NULL;
    json_error_t problem;
    json_t *object = json_loadb(line, length, JSON_REJECT_DUPLICATES, &problem);
    if (!object) {
        /* The parser's own text quotes the input, in which a secret may stand. */
        gboolean twice = json_error_code(&problem) == json_error_duplicate_key;
        return error_set(error, BACKAPP_ERROR_INVALID, "%s: %s at byte %d", what,
                         twice ? "a key stands there twice" : "not valid JSON", problem.position),
               NULL;
    }
    if (json_is_object(object))
        return object;
    json_decref(object);
    return error_set(error, BACKAPP_ERROR_INVALID, "%s: must be a JSON object", what), NULL;
}

char *json_line_print(json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(12));
    json_decref(object);
    /* From the allocator of jansson into GLib's. */
    char *line = g_strconcat(text ? text : "{}", "\n", NULL);
    if (text) {
        explicit_bzero(text, strlen(text));
        free(text);
    }
    return line;
}

static gboolean read_number(const json_t *value, const JsonField *field, const char *where, guint64 *number,
                            GError **error)
{
    json_int_t given = json_integer_value(value);
    if (!json_is_integer(value) || given < 0 || (guint64)given < field->min || (guint64)given > field->max)
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "%s: must be a whole number from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT, where,
                         field->min, field->max);
    *number = (guint64)given;
    return TRUE;
}

static gboolean read_text(const json_t *value, const JsonField *field, const char *where, char **text, GError **error)
{
    gsize length = json_string_length(value);
    if (!json_is_string(value) || length < field->min || length > field->max)
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "%s: must be a string of %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT " bytes", where,
                         field->min, field->max);
    g_free(*text);
    *text = g_strdup(json_string_value(value));
    return TRUE;
}

static gboolean read_field(const json_t *value, const JsonField *field, const char *where, gpointer into,
                           GError **error)
{
    gpointer member = (char *)into + field->offset;
    guint64 number = 0;
    char *name = NULL;
    switch (field->kind) {
    case FIELD_BOOL:
        if (!json_is_boolean(value))
            return error_set(error, BACKAPP_ERROR_INVALID, "%s: must be true or false", where);
        *(gboolean *)member = json_is_true(value);
        return TRUE;
    case FIELD_INT:
    case FIELD_UINT:
        if (!read_number(value, field, where, &number, error))
            return FALSE;
        *(guint *)member = (guint)number;
        return TRUE;
    case FIELD_UINT64:
        if (!read_number(value, field, where, &number, error))
            return FALSE;
        *(guint64 *)member = number;
        return TRUE;
    case FIELD_TEXT:
        return read_text(value, field, where, member, error);
    case FIELD_NAME:
        name = json_name_get(value, where, field->min, field->max, error);
        if (!name)
            return FALSE;
        g_free(*(char **)member);
        *(char **)member = name;
        return TRUE;
    case FIELD_OBJECT:
        return json_line_read_object(value, field->fields, where, member, error);
    case FIELD_CUSTOM:
        return field->read(value, where, member, error);
    }
    return FALSE;
}

static gboolean check_known(const json_t *object, const JsonField *fields, const char *prefix, GError **error)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        const JsonField *field = fields;
        while (field->key && strcmp(field->key, key) != 0)
            field++;
        if (field->key)
            continue;
        g_autofree char *shown = human_name(key, (gssize)strnlen(key, 100));
        return error_set(error, BACKAPP_ERROR_INVALID, "%s%s: unknown key", prefix, shown);
    }
    return TRUE;
}

gboolean json_line_read(const json_t *object, const JsonField *fields, const char *prefix, gboolean ignore_unknown,
                        gpointer into, GError **error)
{
    if (!ignore_unknown && !check_known(object, fields, prefix, error))
        return FALSE;
    for (const JsonField *field = fields; field->key; field++) {
        const json_t *value = json_object_get(object, field->key);
        if (!value)
            continue;
        g_autofree char *where = g_strconcat(prefix, field->key, NULL);
        if (!read_field(value, field, where, into, error))
            return FALSE;
    }
    return TRUE;
}

void json_line_write(json_t *object, const JsonField *fields, gconstpointer from)
{
    for (const JsonField *field = fields; field->key; field++) {
        gconstpointer member = (const char *)from + field->offset;
        json_t *value = NULL;
        switch (field->kind) {
        case FIELD_BOOL:
            value = json_boolean(*(const gboolean *)member);
            break;
        case FIELD_INT:
            value = json_integer(*(const int *)member);
            break;
        case FIELD_UINT:
            value = json_integer(*(const guint *)member);
            break;
        case FIELD_UINT64:
            value = json_line_count(*(const guint64 *)member);
            break;
        case FIELD_TEXT:
            value = *(char *const *)member ? json_name_text(*(char *const *)member) : NULL;
            break;
        case FIELD_NAME:
            value = *(char *const *)member ? json_name_new(*(char *const *)member) : NULL;
            break;
        case FIELD_OBJECT:
            value = json_line_print_object(field->fields, member);
            break;
        case FIELD_CUSTOM:
            value = field->print ? field->print(member) : NULL;
            break;
        }
        if (value)
            json_object_set_new(object, field->key, value);
    }
}

json_t *json_line_count(guint64 value)
{
    return json_integer((json_int_t)MIN(value, (guint64)G_MAXINT64));
}

gboolean json_line_want_array(const json_t *value, gsize max, const char *where, GError **error)
{
    if (!json_is_array(value))
        return error_set(error, BACKAPP_ERROR_INVALID, "%s: must be an array", where);
    if (json_array_size(value) > max)
        return error_set(error, BACKAPP_ERROR_INVALID, "%s: more than %" G_GSIZE_FORMAT " entries", where, max);
    return TRUE;
}

gboolean json_line_read_object(const json_t *value, const JsonField *fields, const char *where, gpointer into,
                               GError **error)
{
    if (!json_is_object(value))
        return error_set(error, BACKAPP_ERROR_INVALID, "%s: must be an object", where);
    g_autofree char *prefix = g_strconcat(where, ".", NULL);
    return json_line_read(value, fields, prefix, FALSE, into, error);
}

json_t *json_line_print_object(const JsonField *fields, gconstpointer from)
{
    json_t *object = json_object();
    json_line_write(object, fields, from);
    return object;
}
