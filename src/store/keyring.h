/*
 * The keys of a store: records at .backapp/keys/ID, each of them the store's one random master key wrapped by another
 * passphrase (crypto/key.h). Whoever knows one passphrase can open the backups, and add another. The caller's thread;
 * two callers who change the keys of one store at once are told apart only where that would make two master keys.
 */
#pragma once

#include "crypto/key.h"
#include "store/store.h"

#define KEYRING_PREFIX ".backapp/keys/"
/* The length of an ID: hexadecimal digits. */
#define KEYRING_ID_LENGTH 16
/* The most records that a store may have. */
#define KEYRING_MAX 100

typedef struct {
    char *id;
    gint64 created; /* seconds since 1970, by the store's clock */
} KeyringRecord;
void keyring_record_free(KeyringRecord *record);

/* The store's records by ID (of KeyringRecord *, freed with the array; empty if there are none). Objects that are none of
 * ours are passed over. */
GPtrArray *keyring_list(Store *store, GError **error);

/* Makes the store's first record, for a master key that is new or was kept elsewhere. CONFLICT if the store has one
 * already. Returns its ID, the caller's. */
char *keyring_create(Store *store, const Key *master, const char *passphrase, GError **error);

/* The master key that the passphrase opens; each record is tried. NOT_FOUND if there is no record, DENIED if none opens,
 * CORRUPT if all are damaged. The caller frees. */
Key *keyring_unlock(Store *store, const char *passphrase, GError **error);

/* Adds a record that `added` opens, for the key that `passphrase` opens. Errors as of keyring_unlock. Returns the new ID,
 * the caller's. */
char *keyring_add(Store *store, const char *passphrase, const char *added, GError **error);

/* Removes a record. NOT_FOUND if there is none of this ID. CONFLICT if no sound one would be left and not force: the key
 * that the records hold may be nowhere else. */
gboolean keyring_remove(Store *store, const char *id, gboolean force, GError **error);
