/*
 * From paths to keys and back. Plain: as rclone's S3 backend encodes names, so that rclone sees the same files. Encrypted:
 * segment by segment (crypto). The order of a walk is that of the keys. A S3Names is read-only after it is made: any thread.
 */
#pragma once

#include <glib.h>

typedef struct S3Names S3Names;

/* name_key: 64 bytes for encrypted names, or NULL for plain ones. */
S3Names *names_new(const guint8 *name_key);
/* Whose keys are the paths as they are. */
S3Names *names_new_paths(void);

/* Appends the key of child `name` of the directory whose key is parent_key ("" the root, else without a slash at its
 * end) to out, parent and slash included. */
void names_child_key(const S3Names *names, const char *parent_key, const char *name, GString *out);

/* The path of a key; the caller frees. NULL with INVALID if no path has that key. */
char *names_path(const S3Names *names, const char *key, GError **error);

/* Keys (with the prefix) that S3 does not take because they are longer than 1,024 bytes lie at ".backapp/long/" and the
 * hex SHA-256 of the key. TRUE if prefix_length + the key's length asks for that. */
gboolean names_is_long(gsize prefix_length, const char *key);
char *names_long_key(const char *key);

/* TRUE for what is ours in a bucket: ".backapp/..." and ".trash/..."; and in a source's root: ".backapp*", ".trash". */
gboolean names_is_own_key(const char *key);
gboolean names_is_own_root(const char *name);

void names_free(S3Names *names);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(S3Names, names_free)
