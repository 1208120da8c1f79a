/*
 * One JSON object on a line, read strictly: bounded length and nesting, no key twice, every field's type and range
 * checked by a table, and errors that name the key but never show a value (it may be a secret). Pure functions for any
 * thread.
 */
#pragma once

#include <glib.h>
#include <jansson.h>

#define JSON_LINE_DEPTH 16

/* Parses one object of at most `max` bytes and JSON_LINE_DEPTH levels. `what` names it in errors ("job spec"). NULL
 * with INVALID. A new reference, the caller's. */
json_t *json_line_parse(const char *line, gsize length, gsize max, const char *what, GError **error);

/* The object as one line, newline included; the caller frees. Takes the reference. */
char *json_line_print(json_t *object);

typedef enum {
    FIELD_BOOL,   /* gboolean */
    FIELD_INT,    /* int, from min to max */
    FIELD_UINT,   /* guint, from min to max */
    FIELD_UINT64, /* guint64, from min to max */
    FIELD_TEXT,   /* char *, UTF-8, min to max bytes */
    FIELD_NAME,   /* char *, any bytes, min to max of them (json_name.h) */
    FIELD_OBJECT, /* an object with the keys of another table */
    FIELD_CUSTOM, /* read by the function */
} FieldKind;

typedef struct JsonField JsonField;
struct JsonField {
    const char *key;
    FieldKind kind;
    gsize offset; /* of the member in the structure */
    guint64 min, max;
    const JsonField *fields; /* FIELD_OBJECT: its table; offsets there count from the member */
    /* FIELD_CUSTOM: reads value into member; `where` names it. */
    gboolean (*read)(const json_t *value, const char *where, gpointer member, GError **error);
    /* FIELD_CUSTOM: the member as JSON, a new reference; NULL leaves the key out. May be NULL: never printed. */
    json_t *(*print)(gconstpointer member);
};

/* Reads the object's keys into `into`; keys that are not there leave the member as it is. The table ends with a NULL
 * key. `prefix` stands before a key in errors ("options."). INVALID for an unknown key (unless ignore_unknown), a wrong
 * type, a value out of range. A string that was there is freed. */
gboolean json_line_read(const json_t *object, const JsonField *fields, const char *prefix, gboolean ignore_unknown,
                        gpointer into, GError **error);

/* Sets the object's keys from the structure; NULL strings are left out. */
void json_line_write(json_t *object, const JsonField *fields, gconstpointer from);

/* For FIELD_CUSTOM: the value must be an object with these keys (none unknown); an array of at most max entries. INVALID
 * names `where`. */
gboolean json_line_read_object(const json_t *value, const JsonField *fields, const char *where, gpointer into,
                               GError **error);
gboolean json_line_want_array(const json_t *value, gsize max, const char *where, GError **error);

/* A new object from the structure; the caller's reference. */
json_t *json_line_print_object(const JsonField *fields, gconstpointer from);

/* A number from a guint64; what does not fit in JSON's 63 bits becomes the largest that does. A new reference. */
json_t *json_line_count(guint64 value);
