#include "engine/s3sync/content.h"

#include <string.h>

void s3keys_derive(const guint8 *master_key, S3Keys *keys)
{
    kdf_hkdf_sha256(master_key, KEY_BYTES, NULL, 0, KEY_FOR_CONTENT, strlen(KEY_FOR_CONTENT), keys->content,
                    sizeof keys->content);
    kdf_hkdf_sha256(master_key, KEY_BYTES, NULL, 0, KEY_FOR_NAMES, strlen(KEY_FOR_NAMES), keys->names,
                    sizeof keys->names);
}

void s3keys_clear(S3Keys *keys)
{
    explicit_bzero(keys, sizeof *keys);
}
