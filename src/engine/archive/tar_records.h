/*
 * Reading the records of a pax header, and the texts in which attributes and ACLs are told (tar_attrs.h writes them).
 * Values; any thread.
 */
#pragma once

#include "engine/source/entry.h"

/* What the records of one header say. Strings are owned; NULL or FALSE: not said. */
typedef struct {
    char *path, *link, *user, *group, *sparse_name;
    gboolean has_size, has_uid, has_gid, has_mtime, has_real_size, is_sparse;
    guint64 size, uid, gid, real_size;
    gint64 mtime_s;
    guint32 mtime_ns;
    GByteArray *attrs; /* as attrs_encode writes them */
    gboolean has_zero; /* a path or a link with a zero byte in it */
} TarRecords;

/* Reads them into *records (zeroed before; to be cleared in any case). CORRUPT if they are none. Records that nobody knows
 * are passed over; attributes that cannot be are too. */
gboolean tar_records_read(const guint8 *data, gsize length, TarRecords *records, GError **error);
void tar_records_clear(TarRecords *records);
