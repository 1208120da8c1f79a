/*
 * Encrypted names: a path becomes a path of as many segments, each AES-SIV (siv.h) of the plain one with the encrypted
 * path of its folder as associated data, in base32hex. Equal paths give equal results, so an object is found again and
 * folders stay folders; who reads them learns how deep and how long names are, and which are equal in one folder, no
 * more. docs/formats/encryption.md has the bytes. A CryptName belongs to one thread at a time. Paths are bytes, relative,
 * segments parted by single slashes; "" is the root.
 */
#pragma once

#include <glib.h>

#include "crypto/siv.h"

/* The longest plain segment that is taken, and the longest encrypted path, in bytes. */
#define CRYPT_NAME_MAX      4096
#define CRYPT_NAME_PATH_MAX (512 * 1024)

/* Usual limits for crypt_name_encrypt: of a file's name, and of an object's key. A segment of 143 bytes or less stays
 * within the first. */
#define CRYPT_NAME_FILE_LIMIT 255
#define CRYPT_NAME_KEY_LIMIT  1024

typedef struct CryptName CryptName;

/* With a copy of the key: key_derive(..., KEY_FOR_NAMES, ...). */
CryptName *crypt_name_new(const guint8 key[SIV_KEY_BYTES]);

/* The length of an encrypted segment for a plain one of `length` bytes. */
gsize crypt_name_length(gsize length);

/* The encrypted form of the segment `name` in the folder whose encrypted path is `folder`. INVALID if name is empty,
 * "." or "..", has a slash, or is too long. The caller frees. */
char *crypt_name_encrypt_segment(CryptName *names, const char *folder, const char *name, GError **error);

/* The reverse. CORRUPT if it is not what crypt_name_encrypt_segment gave for this folder under this key. */
char *crypt_name_decrypt_segment(CryptName *names, const char *folder, const char *encrypted, GError **error);

/* The encrypted form of a whole path. INVALID also if an encrypted segment would be longer than segment_max bytes or
 * the whole longer than path_max; 0 is no such limit. The caller frees. */
char *crypt_name_encrypt(CryptName *names, const char *path, gsize segment_max, gsize path_max, GError **error);

/* The plain form of a whole encrypted path. Errors as crypt_name_decrypt_segment. */
char *crypt_name_decrypt(CryptName *names, const char *encrypted, GError **error);

/* Wipes and frees; NULL is a no-op. */
void crypt_name_free(CryptName *names);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(CryptName, crypt_name_free)
