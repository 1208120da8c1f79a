#include "engine/s3sync/content_hash.h"

void content_hash_begin(ContentHash *hash, guint64 size, guint64 part_size)
{
    hash->part_size = part_size;
    hash->in_part = 0;
    hash->several = size > part_size;
    if (hash->part == NULL)
        hash->part = hash_new();
    hash_reset(hash->part);
    if (hash->several && hash->whole == NULL)
        hash->whole = hash_new();
    if (hash->several)
        hash_reset(hash->whole);
}

static void end_part(ContentHash *hash)
{
    guint8 digest[HASH_BYTES];
    hash_finish(hash->part, digest);
    hash_update(hash->whole, digest, sizeof digest);
    hash->in_part = 0;
}

void content_hash_update(ContentHash *hash, const guint8 *data, gsize length)
{
    while (length > 0) {
        gsize piece = hash->several ? (gsize)MIN(length, hash->part_size - hash->in_part) : length;
        hash_update(hash->part, data, piece);
        hash->in_part += piece;
        data += piece;
        length -= piece;
        if (hash->several && hash->in_part == hash->part_size)
            end_part(hash);
    }
}

void content_hash_end(ContentHash *hash, guint8 out[HASH_BYTES])
{
    if (hash->several && hash->in_part > 0)
        end_part(hash);
    hash_finish(hash->several ? hash->whole : hash->part, out);
}

void content_hash_clear(ContentHash *hash)
{
    hash_free(hash->part);
    hash_free(hash->whole);
    *hash = (ContentHash){0};
}
