/*
 * Deriving keys: from a key by HKDF (RFC 5869), from a passphrase by scrypt (RFC 7914). Any thread.
 */
#pragma once

#include <glib.h>

/* The longest info that HKDF takes here, in bytes (a limit of OpenSSL 3.0). */
#define KDF_INFO_MAX 2048

/* Derives out_length (1 to 8,160) bytes from a key by HKDF with SHA-256. salt and info may be empty, and NULL then.
 * info_length is at most KDF_INFO_MAX: a longer one is a mistake of the caller and ends the program. */
void kdf_hkdf_sha256(const guint8 *key, gsize key_length, const guint8 *salt, gsize salt_length, const void *info,
                     gsize info_length, guint8 *out, gsize out_length);

/* The same with another hash of OpenSSL's, by name. For published test vectors; everything of ours is SHA-256. */
void kdf_hkdf(const char *digest, const guint8 *key, gsize key_length, const guint8 *salt, gsize salt_length,
              const void *info, gsize info_length, guint8 *out, gsize out_length);

/* What scrypt costs: 128 * 2^log2_n * r bytes of memory, and p times the work for filling it. */
typedef struct {
    guint log2_n, r, p;
} KdfCost;

/* The greatest cost that is accepted, since it may come from a damaged or hostile file. */
#define KDF_LOG2_N_MAX 20
#define KDF_R_MAX      32
#define KDF_P_MAX      16
#define KDF_MEMORY_MAX (G_GUINT64_CONSTANT(256) * 1024 * 1024)

/* TRUE if each number is at least 1 and the cost stays within the limits above. */
gboolean kdf_cost_valid(const KdfCost *cost);

/* Derives out_length bytes from a passphrase. FALSE with INVALID if the cost is not valid, TRANSIENT if the memory
 * cannot be had. */
gboolean kdf_scrypt(const char *passphrase, gsize passphrase_length, const guint8 *salt, gsize salt_length,
                    const KdfCost *cost, guint8 *out, gsize out_length, GError **error);
