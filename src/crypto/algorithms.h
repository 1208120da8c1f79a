/*
 * The algorithms of OpenSSL that this folder uses, each looked up once for the whole process: a look-up takes a lock
 * and more time than encrypting a file name. From any thread; what is returned stays valid to the end and is not freed.
 * For the .c files of src/crypto only. One that is missing ends the program, as hash.h says of a broken library.
 */
#pragma once

#include <glib.h>
#include <openssl/evp.h>

/* SHA-256; HMAC; HKDF; scrypt. */
const EVP_MD *algorithms_sha256(void);
EVP_MAC *algorithms_hmac(void);
EVP_KDF *algorithms_hkdf(void);
EVP_KDF *algorithms_scrypt(void);

/* AES-GCM with a key of 16 or 32 bytes. */
const EVP_CIPHER *algorithms_aes_gcm(gsize key_bytes);

/* AES-SIV with a key (both halves) of 32 or 64 bytes. */
const EVP_CIPHER *algorithms_aes_siv(gsize key_bytes);

/* Ends the program with a message if a call that cannot fail did. */
void algorithms_require(gboolean worked);
