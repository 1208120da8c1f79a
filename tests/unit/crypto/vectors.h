/*
 * Bytes from the hexadecimal text of published vectors, comparing them, and bytes with a pattern. For one thread.
 */
#pragma once

#include "../base/cmocka_all.h"

#include "crypto/digest.h"

#include <string.h>

/* The bytes of `hex`. */
static inline GBytes *from_hex(const char *hex)
{
    gsize length = strlen(hex) / 2;
    guint8 *bytes = g_malloc(length + 1);
    assert_true(digest_parse_hex(hex, bytes, length));
    return g_bytes_new_take(bytes, length);
}

/* The bytes are those of `hex`. */
static inline void assert_hex(const guint8 *bytes, gsize length, const char *hex)
{
    g_autofree char *text = digest_hex(bytes, length);
    assert_string_equal(text, hex);
}

/* `length` bytes with no short period. */
static inline guint8 *patterned(gsize length)
{
    guint8 *bytes = g_malloc(length + 1);
    guint32 state = 1;
    for (gsize i = 0; i < length; i++) {
        state = state * 1664525U + 1013904223U;
        bytes[i] = (guint8)(state >> 24);
    }
    return bytes;
}
