/*
 * The names of owners and groups in a sidecar: each is written once, in the block that is the first to need it. One
 * thread.
 */
#pragma once

#include "base/bytes.h"

typedef struct SidecarNames SidecarNames;

SidecarNames *sidecar_names_new(void);

/* The name of a user or group id; NULL if it is not known. Owned by names. */
const char *sidecar_names_get(const SidecarNames *names, gboolean group, guint32 id);

/* Finds out the name of an id that was not asked for before, by this machine or else by `old` (may be NULL), and appends
 * it to out. FALSE if there is nothing new. */
gboolean sidecar_names_learn(SidecarNames *names, const SidecarNames *old, gboolean group, guint32 id, GByteArray *out);

/* Reads the names at a block's beginning: a count, then what sidecar_names_learn appended. FALSE if they are damaged. */
gboolean sidecar_names_read(SidecarNames *names, BytesReader *in);

/* NULL is a no-op. */
void sidecar_names_free(SidecarNames *names);
