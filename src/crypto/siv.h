/*
 * Deterministic authenticated encryption with AES-SIV (RFC 5297): equal bytes under an equal key and associated data
 * give equal results, which is what names need and nothing else should use. What is sealed begins with the 16 bytes
 * that both authenticate and act as the nonce; the rest is as long as the plain bytes. A Siv belongs to one thread at a
 * time; it holds its key until it is freed, which wipes it.
 */
#pragma once

#include <glib.h>

/* Length of the key of AES-256-SIV in bytes (two AES-256 keys), and by how much sealing lengthens. */
#define SIV_KEY_BYTES 64
#define SIV_TAG_BYTES 16

/* The most bytes that one call takes, plain or associated. */
#define SIV_MAX_BYTES (1024 * 1024)

typedef struct Siv Siv;

/* A context with a copy of the key, of SIV_KEY_BYTES; 32 bytes give AES-128-SIV, for published test vectors. */
Siv *siv_new(const guint8 *key, gsize key_length);

/* Encrypts `length` (1 to SIV_MAX_BYTES) bytes to out, which has room for SIV_TAG_BYTES more and does not overlap. The
 * associated data is not empty either: OpenSSL before 3.0.10 ignores an empty one, so it would not mean the same
 * everywhere. */
void siv_seal(Siv *siv, const void *associated, gsize associated_length, const void *plain, gsize length, guint8 *out);

/* Reverses siv_seal: writes length - SIV_TAG_BYTES bytes to out, which does not overlap. FALSE, with out zero, if the
 * bytes are damaged or too short, or key or associated data are others. */
gboolean siv_open(Siv *siv, const void *associated, gsize associated_length, const guint8 *sealed, gsize length,
                  guint8 *out);

/* Wipes and frees; NULL is a no-op. */
void siv_free(Siv *siv);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Siv, siv_free)
