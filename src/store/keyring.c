#include "store/keyring.h"

#include "base/error.h"
#include "crypto/secret.h"

#include <string.h>

#define ID_BYTES (KEYRING_ID_LENGTH / 2)

void keyring_record_free(KeyringRecord *record)
{
    if (!record)
        return;
    g_free(record->id);
    g_free(record);
}

static gboolean is_id(const char *text)
{
    return strlen(text) == KEYRING_ID_LENGTH && strspn(text, "0123456789abcdef") == KEYRING_ID_LENGTH;
}

static char *new_id(void)
{
    guint8 bytes[ID_BYTES];
    secret_random(bytes, sizeof bytes);
    GString *id = g_string_sized_new(KEYRING_ID_LENGTH);
    for (guint i = 0; i < ID_BYTES; i++)
        g_string_append_printf(id, "%02x", bytes[i]);
    return g_string_free(id, FALSE);
}

GPtrArray *keyring_list(Store *store, GError **error)
{
    g_autoptr(GPtrArray) records = g_ptr_array_new_with_free_func((GDestroyNotify)keyring_record_free);
    g_autoptr(StoreList) objects = store_list(store, KEYRING_PREFIX, NULL, FALSE, error);
    if (!objects)
        return NULL;
    const StoreObject *object;
    int more;
    while ((more = store_list_next(objects, &object, error)) > 0) {
        const char *id = object->key + strlen(KEYRING_PREFIX);
        if (!is_id(id))
            continue;
        if (records->len == KEYRING_MAX) {
            (void)error_set(error, BACKAPP_ERROR_INVALID,
                            "%s has more than %d keys: remove those that nobody uses, with 'backapp store rm'",
                            store->url, KEYRING_MAX);
            return NULL;
        }
        KeyringRecord *record = g_new0(KeyringRecord, 1);
        record->id = g_strdup(id);
        record->created = object->modified;
        g_ptr_array_add(records, record);
    }
    return more < 0 ? NULL : g_steal_pointer(&records);
}

static char *key_of(const char *id)
{
    return g_strconcat(KEYRING_PREFIX, id, NULL);
}

static gboolean none_there(Store *store, GError **error)
{
    return error_set(error, BACKAPP_ERROR_NOT_FOUND,
                     "%s has no key that a passphrase opens: 'backapp key create' makes one", store->url);
}

/* Wraps the key and stores the record under a new ID. */
static char *put_record(Store *store, const Key *master, const char *passphrase, GError **error)
{
    g_autofree char *text = key_wrap(master, passphrase, NULL, error);
    if (!text)
        return NULL;
    g_autofree char *id = new_id(), *key = key_of(id);
    const StoreBody body = {.data = text, .length = strlen(text)};
    const StorePut how = {.content_type = "application/json", .if_absent = store_can(store, STORE_IF_MATCH)};
    if (!store_put(store, key, &body, &how, NULL, error)) {
        g_prefix_error(error, "cannot store the key: ");
        return NULL;
    }
    return g_steal_pointer(&id);
}

/* Who made a record at the same time has another master key, and one passphrase would open half of what is stored: the
 * records are looked at again, and this one goes if it is not alone. */
static gboolean is_alone(Store *store, const char *id, GError **error)
{
    g_autoptr(GPtrArray) records = keyring_list(store, error);
    if (records && records->len == 1 && strcmp(((KeyringRecord *)g_ptr_array_index(records, 0))->id, id) == 0)
        return TRUE;
    g_autofree char *key = key_of(id);
    if (!store_delete(store, key, NULL, records ? error : NULL))
        return FALSE;
    return records && error_set(error, BACKAPP_ERROR_CONFLICT,
                                "somebody else makes the key of %s at this moment: this one was withdrawn", store->url);
}

char *keyring_create(Store *store, const Key *master, const char *passphrase, GError **error)
{
    g_autoptr(GPtrArray) records = keyring_list(store, error);
    if (!records)
        return NULL;
    if (records->len > 0) {
        (void)error_set(error, BACKAPP_ERROR_CONFLICT,
                        "%s has a key already, and what it opens needs it: 'backapp key add' adds a passphrase",
                        store->url);
        return NULL;
    }
    g_autofree char *id = put_record(store, master, passphrase, error);
    return id && is_alone(store, id, error) ? g_steal_pointer(&id) : NULL;
}

/* Reads a record and tries the passphrase. */
static Key *open_record(Store *store, const char *id, const char *passphrase, GError **error)
{
    g_autofree char *name = key_of(id);
    g_autoptr(GBytes) bytes = store_get_bytes(store, name, NULL, KEY_RECORD_MAX, NULL, error);
    if (!bytes)
        return NULL;
    gsize length = 0;
    const char *record = g_bytes_get_data(bytes, &length);
    Key *key = key_unwrap(record ? record : "", length, passphrase, error);
    if (!key)
        g_prefix_error(error, "key %s of %s: ", id, store->url);
    return key;
}

/* Whether another record may open where this error came up; else it concerns them all. */
static gboolean is_of_one(const GError *error)
{
    return error_is(error, BACKAPP_ERROR_DENIED) || error_is(error, BACKAPP_ERROR_CORRUPT) ||
           error_is(error, BACKAPP_ERROR_NOT_FOUND);
}

Key *keyring_unlock(Store *store, const char *passphrase, GError **error)
{
    g_autoptr(GPtrArray) records = keyring_list(store, error);
    if (!records || (records->len == 0 && !none_there(store, error)))
        return NULL;
    guint damaged = 0;
    g_autoptr(GError) odd = NULL; /* of a record of a newer program, for one */
    for (guint i = 0; i < records->len; i++) {
        const KeyringRecord *record = g_ptr_array_index(records, i);
        g_autoptr(GError) why = NULL;
        Key *key = open_record(store, record->id, passphrase, &why);
        if (key)
            return key;
        damaged += error_is(why, BACKAPP_ERROR_CORRUPT) ? 1 : 0;
        if (!is_of_one(why) && !odd)
            odd = g_steal_pointer(&why);
    }
    if (odd)
        g_propagate_error(error, g_steal_pointer(&odd));
    else if (damaged == records->len)
        (void)error_set(error, BACKAPP_ERROR_CORRUPT,
                        "every key of %s is damaged: put back " KEYRING_PREFIX " from a copy of the store", store->url);
    else if (damaged > 0)
        (void)error_set(error, BACKAPP_ERROR_DENIED,
                        "the passphrase opens none of the keys of %s (damaged are %u of %u: it may be that of one of "
                        "those)",
                        store->url, damaged, records->len);
    else
        (void)error_set(error, BACKAPP_ERROR_DENIED, "the passphrase opens none of the keys of %s: it is another one",
                        store->url);
    return NULL;
}

char *keyring_add(Store *store, const char *passphrase, const char *added, GError **error)
{
    g_autoptr(Key) master = keyring_unlock(store, passphrase, error);
    return master ? put_record(store, master, added, error) : NULL;
}

/* Whether a record is whole: damage is found before the passphrase is looked at, and an empty one costs nothing. */
static gboolean is_sound(Store *store, const char *id)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(Key) key = open_record(store, id, "", &why);
    return key || error_is(why, BACKAPP_ERROR_INVALID);
}

gboolean keyring_remove(Store *store, const char *id, gboolean force, GError **error)
{
    g_autoptr(GPtrArray) records = keyring_list(store, error);
    if (!records)
        return FALSE;
    gboolean found = FALSE, others = force;
    for (guint i = 0; i < records->len; i++) {
        const KeyringRecord *record = g_ptr_array_index(records, i);
        gboolean same = strcmp(record->id, id) == 0;
        found = found || same;
        others = others || (!same && is_sound(store, record->id));
    }
    if (!found)
        return error_set(error, BACKAPP_ERROR_NOT_FOUND,
                         "%s has no key of this ID: 'backapp key list' shows those it has", store->url);
    if (!others)
        return error_set(error, BACKAPP_ERROR_CONFLICT,
                         "key %s is the last sound one of %s: without it nothing that it encrypts can be read again. "
                         "Add another first, or remove it with --force",
                         id, store->url);
    g_autofree char *key = key_of(id);
    return store_delete(store, key, NULL, error);
}
