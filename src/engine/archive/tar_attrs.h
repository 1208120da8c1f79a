/*
 * Records of a pax header, and those in which attributes and ACLs are told. Values; any thread.
 */
#pragma once

#include "engine/source/entry.h"

/* The most bytes of records in one header: libarchive reads no more than 1 MiB. */
#define TAR_RECORDS_MAX 1000000

/* Appends "LENGTH KEY=VALUE\n". key holds no "=". */
void tar_put_record(GByteArray *out, const char *key, const void *value, gsize length);

/* Appends an entry's attributes: SCHILY.xattr.NAME ("%" and "=" in NAME as %25 and %3D), SCHILY.acl.access and
 * SCHILY.acl.default as text with numbers. An attribute with which `out` would grow beyond TAR_RECORDS_MAX is left out:
 * the index has it. FALSE with CORRUPT for an entry whose attributes cannot be read. */
gboolean tar_put_attrs(const S3Entry *entry, GByteArray *out, GError **error);
