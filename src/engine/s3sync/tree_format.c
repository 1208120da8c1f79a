#include "engine/s3sync/tree_format.h"

#include <string.h>
#include <zstd.h>

#include "base/error.h"
#include "crypto/digest.h"
#include "crypto/tink.h"

#define MAGIC_LENGTH 8
#define PLAIN_MAGIC  "BATREE1p"
#define SEALED_MAGIC "BATREE1e"
#define ROOT_VERSION 1
#define STRING_MAX   (64 * 1024)
#define PATH_MAX_LEN (8 * 1024 * 1024)
#define ZSTD_LEVEL   3
#define ASSOCIATED   "backapp s3-mirror tree 1 "

enum { ROOT_PARTIAL = 1 << 0, ROOT_ENCRYPTED = 1 << 1, ROOT_NAMES = 1 << 2 };

void tree_root_clear(TreeRoot *root)
{
    g_free(root->run_id);
    g_free(root->source);
    g_free(root->host);
    g_free(root->key);
    *root = (TreeRoot){0};
}

static void clear_block(gpointer data)
{
    TreeBlock *block = data;
    g_clear_pointer(&block->first, g_free);
}

GArray *tree_blocks_new(void)
{
    GArray *blocks = g_array_new(FALSE, FALSE, sizeof(TreeBlock));
    g_array_set_clear_func(blocks, clear_block);
    return blocks;
}

static void put_string(GByteArray *out, const char *text)
{
    bytes_put_blob(out, text, text != NULL ? strlen(text) : 0);
}

void tree_root_encode(const TreeRoot *root, const GArray *blocks, GByteArray *out)
{
    guint flags = (root->partial ? ROOT_PARTIAL : 0) | (root->encrypted ? ROOT_ENCRYPTED : 0) |
                  (root->encrypted_names ? ROOT_NAMES : 0);
    gsize start = out->len;
    bytes_put_varint(out, ROOT_VERSION);
    put_string(out, root->run_id);
    bytes_put_signed(out, root->time);
    put_string(out, root->source);
    put_string(out, root->host);
    bytes_put_varint(out, root->files);
    bytes_put_varint(out, root->directories);
    bytes_put_varint(out, root->bytes);
    bytes_put_varint(out, flags);
    bytes_put_varint(out, blocks->len);
    for (guint i = 0; i < blocks->len; i++) {
        const TreeBlock *block = &g_array_index(blocks, TreeBlock, i);
        g_byte_array_append(out, block->name, HASH_BYTES);
        bytes_put_varint(out, block->entries);
        bytes_put_varint(out, block->directory ? 1 : 0);
        put_string(out, block->first);
    }
    guint8 sum[HASH_BYTES];
    digest_sha256(out->data + start, out->len - start, sum);
    g_byte_array_append(out, sum, HASH_BYTES);
}

static gboolean damaged(GError **error)
{
    return error_set(error, BACKAPP_ERROR_CORRUPT, "it is damaged");
}

static gboolean get_block(BytesReader *in, GArray *blocks)
{
    TreeBlock block = {0};
    if (in->end - in->at < HASH_BYTES)
        return FALSE;
    memcpy(block.name, in->at, HASH_BYTES);
    in->at += HASH_BYTES;
    block.entries = bytes_get_varint(in);
    block.directory = bytes_get_varint(in) != 0;
    block.first = bytes_get_string(in, PATH_MAX_LEN);
    if (block.first == NULL)
        return FALSE;
    g_array_append_val(blocks, block);
    return TRUE;
}

gboolean tree_root_decode(const guint8 *data, gsize length, TreeRoot *root, GArray *blocks, GError **error)
{
    guint8 sum[HASH_BYTES];
    if (length < HASH_BYTES)
        return damaged(error);
    digest_sha256(data, length - HASH_BYTES, sum);
    if (memcmp(sum, data + length - HASH_BYTES, HASH_BYTES) != 0)
        return damaged(error);
    BytesReader in = bytes_reader(data, length - HASH_BYTES);
    guint64 version = bytes_get_varint(&in);
    if (!in.bad && version != ROOT_VERSION)
        return error_set(error, BACKAPP_ERROR_INVALID, "it has a format of a newer version of this program");
    root->run_id = bytes_get_string(&in, STRING_MAX);
    root->time = bytes_get_signed(&in);
    root->source = bytes_get_string(&in, STRING_MAX);
    root->host = bytes_get_string(&in, STRING_MAX);
    root->files = bytes_get_varint(&in);
    root->directories = bytes_get_varint(&in);
    root->bytes = bytes_get_varint(&in);
    guint64 flags = bytes_get_varint(&in);
    root->partial = (flags & ROOT_PARTIAL) != 0;
    root->encrypted = (flags & ROOT_ENCRYPTED) != 0;
    root->encrypted_names = (flags & ROOT_NAMES) != 0;
    guint64 count = bytes_get_varint(&in);
    for (guint64 i = 0; i < count && !in.bad; i++) {
        if (!get_block(&in, blocks))
            return damaged(error);
    }
    return bytes_reader_done(&in) || damaged(error);
}

void tree_block_name(const guint8 *content_key, const void *data, gsize length, guint8 name[HASH_BYTES])
{
    if (content_key != NULL)
        digest_hmac_sha256(content_key, TINK_KEY_BYTES, data, length, name);
    else
        digest_sha256(data, length, name);
}

char *tree_block_key(const guint8 name[HASH_BYTES])
{
    g_autofree char *hex = digest_hex(name, HASH_BYTES);
    return g_strconcat(TREE_BLOCK_PREFIX, hex, NULL);
}

static gboolean append(const guint8 *data, gsize length, gpointer user, GError **error)
{
    GByteArray *out = user;
    if (length > TREE_STORED_MAX || out->len > TREE_STORED_MAX - length)
        return damaged(error);
    g_byte_array_append(out, data, (guint)length);
    return TRUE;
}

GByteArray *tree_pack(const guint8 *content_key, const char *what, const void *data, gsize length, GError **error)
{
    gsize bound = ZSTD_compressBound(length);
    if (length > TREE_RAW_MAX) {
        error_set(error, BACKAPP_ERROR_INTERNAL, "%zu bytes of metadata are too many for one object", length);
        return NULL;
    }
    g_autoptr(GByteArray) out = g_byte_array_sized_new((guint)bound + MAGIC_LENGTH);
    g_byte_array_append(out, (const guint8 *)(content_key != NULL ? SEALED_MAGIC : PLAIN_MAGIC), MAGIC_LENGTH);
    g_byte_array_set_size(out, (guint)bound + MAGIC_LENGTH);
    gsize packed = ZSTD_compress(out->data + MAGIC_LENGTH, bound, data, length, ZSTD_LEVEL);
    if (ZSTD_isError(packed)) {
        error_set(error, BACKAPP_ERROR_INTERNAL, "cannot compress metadata: %s", ZSTD_getErrorName(packed));
        return NULL;
    }
    g_byte_array_set_size(out, (guint)packed + MAGIC_LENGTH);
    if (content_key == NULL)
        return g_steal_pointer(&out);
    g_autofree char *associated = g_strconcat(ASSOCIATED, what, NULL);
    g_autoptr(GByteArray) sealed = g_byte_array_new();
    g_byte_array_append(sealed, out->data, MAGIC_LENGTH);
    g_autoptr(TinkEncryptor) encryptor = tink_encryptor_new(content_key);
    if (!tink_encryptor_begin(encryptor, associated, strlen(associated), error) ||
        !tink_encryptor_update(encryptor, out->data + MAGIC_LENGTH, out->len - MAGIC_LENGTH, append, sealed, error) ||
        !tink_encryptor_finish(encryptor, append, sealed, error))
        return NULL;
    return g_steal_pointer(&sealed);
}

static GByteArray *inflate(const guint8 *data, gsize length, GError **error)
{
    unsigned long long size = ZSTD_getFrameContentSize(data, length);
    if (size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR || size > TREE_RAW_MAX) {
        damaged(error);
        return NULL;
    }
    /* What is stated may be a lie: memory is taken for it only if there is that much. */
    guint8 *raw = g_try_malloc(size > 0 ? size : 1);
    if (raw == NULL) {
        error_set(error, BACKAPP_ERROR_TRANSIENT, "out of memory for %llu bytes of metadata", size);
        return NULL;
    }
    gsize got = ZSTD_decompress(raw, size, data, length);
    if (ZSTD_isError(got) || got != size) {
        g_free(raw);
        damaged(error);
        return NULL;
    }
    return g_byte_array_new_take(raw, got);
}

GByteArray *tree_unpack(const guint8 *content_key, const char *what, const void *data, gsize length, GError **error)
{
    const guint8 *bytes = data;
    gboolean sealed = length >= MAGIC_LENGTH && memcmp(bytes, SEALED_MAGIC, MAGIC_LENGTH) == 0;
    if (!sealed && (length < MAGIC_LENGTH || memcmp(bytes, PLAIN_MAGIC, MAGIC_LENGTH) != 0)) {
        damaged(error);
        return NULL;
    }
    if (!sealed && content_key != NULL) {
        /* Whoever can write to the store could otherwise put a tree of his own in the place of an encrypted one. */
        error_set(error, BACKAPP_ERROR_CORRUPT, "it is not encrypted, but the mirror is");
        return NULL;
    }
    if (!sealed)
        return inflate(bytes + MAGIC_LENGTH, length - MAGIC_LENGTH, error);
    if (content_key == NULL) {
        error_set(error, BACKAPP_ERROR_DENIED,
                  "it is encrypted: set BACKUP_ENCRYPTION_KEY to the key that it was made with");
        return NULL;
    }
    g_autofree char *associated = g_strconcat(ASSOCIATED, what, NULL);
    g_autoptr(GByteArray) packed = g_byte_array_new();
    g_autoptr(TinkDecryptor) decryptor = tink_decryptor_new(content_key);
    if (!tink_decryptor_begin(decryptor, associated, strlen(associated), error) ||
        !tink_decryptor_update(decryptor, bytes + MAGIC_LENGTH, length - MAGIC_LENGTH, append, packed, error) ||
        !tink_decryptor_finish(decryptor, append, packed, error))
        return NULL;
    return inflate(packed->data, packed->len, error);
}
