/*
 * Hashes of bytes that lie in memory, the message authentication code that requests are signed with, the checksum
 * CRC32C, and the text forms in which protocols carry them. What is fed in pieces is hashed with hash.h. All functions
 * may be called from any thread and allocate nothing but the strings they return, which are the caller's. They fail
 * only where hash.h ends the program.
 */
#pragma once

#include "crypto/hash.h"

/* The SHA-256 of `length` bytes. data may be NULL if length is 0. */
void digest_sha256(const void *data, gsize length, guint8 out[HASH_BYTES]);

/* The same as 64 lower-case hexadecimal digits. */
char *digest_sha256_hex(const void *data, gsize length);

/* The MD5 of `length` bytes in base64, as a Content-MD5 header has it. NULL with INVALID where MD5 is switched off. */
char *digest_md5_base64(const void *data, gsize length, GError **error);

/* HMAC-SHA256 of `length` bytes under a key of any length. out may be the same memory as key or data. */
void digest_hmac_sha256(const void *key, gsize key_length, const void *data, gsize length, guint8 out[HASH_BYTES]);

/* CRC32C (Castagnoli) over what gave `crc` before, and these bytes; start with 0. data may be NULL if length is 0. */
guint32 digest_crc32c(guint32 crc, const void *data, gsize length);

/* The same without the processor's instruction, for those that have none, and to test one against the other. */
guint32 digest_crc32c_portable(guint32 crc, const void *data, gsize length);

/* A CRC32C as x-amz-checksum-crc32c has it: its four bytes, highest first, in base64. */
char *digest_crc32c_base64(guint32 crc);

/* Bytes as lower-case hexadecimal digits. */
char *digest_hex(const guint8 *bytes, gsize length);

/* Bytes in base64 (the standard alphabet, padded). */
char *digest_base64(const guint8 *bytes, gsize length);

/* Reads exactly `length` bytes from their only base64 form: standard alphabet, padded, no spaces, no stray bits. FALSE
 * if text is anything else; then out is zero. Takes no detour through memory that is not wiped, so keys may be read. */
gboolean digest_parse_base64(const char *text, guint8 *out, gsize length);

/* Reads exactly `length` bytes from twice as many hexadecimal digits of either case. FALSE if text is anything else. */
gboolean digest_parse_hex(const char *text, guint8 *out, gsize length);
