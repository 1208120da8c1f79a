/*
 * Keys and names from the input's bytes. What must hold: a key that is some path's is the key of that path; a name's key
 * is valid UTF-8 and leads back to the name; encrypted ones that were not made with the key are refused.
 */
#include "engine/source/names.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *key_of(const S3Names *names, const char *path)
{
    GString *key = g_string_new(NULL);
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    for (guint i = 0; parts[i] != NULL; i++) {
        g_autofree char *parent = g_strdup(key->str);
        g_string_truncate(key, 0);
        names_child_key(names, parent, parts[i], key);
    }
    return g_string_free(key, FALSE);
}

static gboolean is_name(const char *name)
{
    return name[0] != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static S3Names *plain, *encrypted;
    if (plain == NULL) {
        static const guint8 KEY[64] = {1};
        plain = names_new(NULL);
        encrypted = names_new(KEY);
    }
    g_autofree char *text = g_strndup((const char *)data, size);
    g_autofree char *path = names_path(plain, text, NULL);
    if (path != NULL) {
        g_autofree char *key = key_of(plain, path);
        g_assert_cmpstr(key, ==, text);
    }
    if (is_name(text)) {
        g_autofree char *key = key_of(plain, text);
        g_autofree char *again = names_path(plain, key, NULL);
        g_assert_cmpstr(again, ==, text);
        g_assert_true(g_utf8_validate(key, -1, NULL));
    }
    g_autofree char *opened = names_path(encrypted, text, NULL);
    if (opened != NULL) {
        g_autofree char *key = key_of(encrypted, opened);
        g_assert_cmpstr(key, ==, text);
    }
    return 0;
}
