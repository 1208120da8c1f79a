#include "job/engine_place.h"

#include "base/error.h"
#include "base/human.h"
#include "crypto/key.h"
#include "crypto/secret.h"

void engine_place_clear(EnginePlace *place)
{
    store_free(place->store);
    g_free(place->name);
    secret_wipe(place->content_key, sizeof place->content_key);
    *place = (EnginePlace){0};
}

/* The one name there is. */
static char *only_name(Store *store, const CancelFlag *cancel, GError **error)
{
    g_autoptr(GPtrArray) names = archive_places(store, cancel, error);
    if (!names)
        return NULL;
    if (names->len == 1)
        return g_strdup(g_ptr_array_index(names, 0));
    if (names->len == 0) {
        (void)error_set(error, BACKAPP_ERROR_NOT_FOUND, "%s holds no archives: no folder below it has any", store->url);
        return NULL;
    }
    GString *list = g_string_new(NULL);
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *shown = human_name(g_ptr_array_index(names, i), -1);
        g_string_append_printf(list, "%s%s", i > 0 ? ", " : "", shown);
    }
    (void)error_set(error, BACKAPP_ERROR_INVALID, "%s holds archives of several names; say with --name which: %s",
                    store->url, list->str);
    g_string_free(list, TRUE);
    return NULL;
}

static gboolean derive(const JobSpec *spec, EnginePlace *place, GError **error)
{
    guint8 bytes[KEY_BYTES] = {0};
    gboolean fine = engine_master_key(spec, place->store, bytes, &place->has_key, error);
    if (fine && place->has_key)
        kdf_hkdf_sha256(bytes, KEY_BYTES, NULL, 0, KEY_FOR_CONTENT, sizeof KEY_FOR_CONTENT - 1, place->content_key,
                        sizeof place->content_key);
    secret_wipe(bytes, sizeof bytes);
    place->has_key = fine && place->has_key;
    return fine;
}

static void complete(EnginePlace *place)
{
    place->place = (ArchivePlace){
        .store = place->store, .name = place->name, .content_key = place->has_key ? place->content_key : NULL};
}

gboolean engine_place_open(const JobSpec *spec, const JobStore *where, Rate *rate, const CancelFlag *cancel,
                           EnginePlace *place, GError **error)
{
    const char *name = spec->options.archive.name;
    if (name && !archive_check_name(name, error))
        return FALSE;
    place->store = engine_open_store(where, rate, cancel, error);
    if (!place->store)
        return FALSE;
    place->name = name ? g_strdup(name) : only_name(place->store, cancel, error);
    if (!place->name || !derive(spec, place, error))
        return FALSE;
    complete(place);
    return TRUE;
}

gboolean engine_place_make(const JobSpec *spec, const JobStore *where, Rate *rate, const CancelFlag *cancel,
                           EnginePlace *place, GError **error)
{
    const JobArchiveOptions *archive = &spec->options.archive;
    if (!archive_check_name(archive->name, error))
        return FALSE;
    place->store = engine_open_target(where, spec->options.dry_run, rate, cancel, error);
    place->name = g_strdup(archive->name);
    if (!place->store || (archive->encryption && !derive(spec, place, error)))
        return FALSE;
    complete(place);
    if (archive->encryption && !place->has_key && spec->passphrase)
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "%s has no key that a passphrase opens: make one with 'backapp key create'",
                         place->store->url);
    return !archive->encryption || place->has_key ||
           error_set(error, BACKAPP_ERROR_INVALID,
                     "encryption is asked for, but there is no key: set BACKUP_PASSPHRASE to the passphrase of a key "
                     "that 'backapp key create' made, or BACKUP_ENCRYPTION_KEY to 32 random bytes in base64 (openssl "
                     "rand -base64 32), and keep a copy of it elsewhere");
}
