/*
 * How contents are encrypted on this side: the keys, and what their streams are bound to. Objects are copied inside the
 * store (to the trash, to the next date), so a stream is not bound to its key; the metadata tree, which is, holds the
 * hash of each file's content. Pure; any thread.
 */
#pragma once

#include "crypto/key.h"
#include "crypto/siv.h"
#include "crypto/tink.h"

#define S3CONTENT_ASSOCIATED "backapp s3-mirror content 1"

typedef struct {
    guint8 content[TINK_KEY_BYTES];
    guint8 names[SIV_KEY_BYTES];
} S3Keys;

/* Derives both from a master key of KEY_BYTES. The caller clears. */
void s3keys_derive(const guint8 *master_key, S3Keys *keys);
void s3keys_clear(S3Keys *keys);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(S3Keys, s3keys_clear)
