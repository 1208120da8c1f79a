/*
 * Names of files in JSON. JSON is UTF-8, names are bytes: one that is valid UTF-8 is a string, any other one is
 * {"b64":"<its bytes>"}. Pure functions for any thread.
 */
#pragma once

#include <glib.h>
#include <jansson.h>

/* The JSON form of a name. A new reference, the caller's. */
json_t *json_name_new(const char *bytes);

/* Sets object[key] to the name, and, if it is not UTF-8, object[key + "Printable"] to what can be shown of it. NULL
 * bytes set nothing. */
void json_name_set(json_t *object, const char *key, const char *bytes);

/* The bytes of a name of `min` to `max` bytes, zero-terminated; the caller frees. NULL with INVALID (`where` names it)
 * if value is neither a string nor {"b64":".."}, is too short or too long, or holds a zero byte. */
char *json_name_get(const json_t *value, const char *where, gsize min, gsize max, GError **error);

/* A text for people: UTF-8 stays, in anything else the bad bytes are replaced. A new reference, the caller's. */
json_t *json_name_text(const char *text);
