/*
 * Names of a store's objects, and the name of a place. What must hold: what is taken for the name of an archive's object
 * is what would be printed for it; a place's name that is believed makes a key that a store takes.
 */
#include "base/error.h"
#include "engine/archive/point.h"
#include "store/drivers.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_name(const char *text)
{
    ArchiveName name, again;
    if (!archive_name_parse(text, &name))
        return;
    g_autofree char *printed = archive_object_name(&name);
    g_assert_cmpstr(printed, ==, text);
    g_autofree char *base = archive_base_name(&name);
    g_assert_true(g_str_has_prefix(text, base) && archive_name_parse(base, &again));
    g_assert_true(again.time == name.time && again.volume == 0 && again.role == ARCHIVE_OBJECT_VOLUME);
    g_assert_true(name.volume <= ARCHIVE_VOLUMES_MAX && (name.volume == 0 || name.role == ARCHIVE_OBJECT_VOLUME));
}

/* A store with objects of this and the next line's name: listing it passes over what is none of ours. */
static void try_place(const char *name, const char *object)
{
    g_autoptr(GError) error = NULL;
    if (!archive_check_name(name, &error))
        return;
    g_autoptr(Store) store = store_memory_new();
    ArchivePlace place = {.store = store, .name = name};
    g_autofree char *key = g_strconcat(name, "/", object, NULL);
    StoreBody body = {.data = "x", .length = 1};
    ArchiveName parsed;
    if (!store_put(store, key, &body, NULL, NULL, NULL))
        return;
    guint expected = archive_name_parse(object, &parsed) ? 1 : 0;
    g_autoptr(GPtrArray) list = archive_list(&place, NULL, &error);
    g_assert_true(list != NULL && list->len == expected);
    g_autoptr(GPtrArray) places = archive_places(store, NULL, &error);
    g_assert_true(places != NULL && places->len == expected);
    if (expected > 0)
        g_assert_cmpstr(g_ptr_array_index(places, 0), ==, name);
}

/* The first line is a name, the second one another. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    char *rest = strchr(text, '\n');
    if (rest)
        *rest++ = '\0';
    try_name(text);
    try_name(rest ? rest : "");
    try_place(text, rest ? rest : "");
    return 0;
}
