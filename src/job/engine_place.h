/*
 * From a job spec to a place of archives: the store, the name, the key. For the worker's engines and for commands that
 * only look. The caller's thread.
 */
#pragma once

#include "crypto/tink.h"
#include "engine/archive/point.h"
#include "job/engine_store.h"

/* An open place. Zero it before. `place` is what the archive engine takes; it points into the rest. */
typedef struct {
    ArchivePlace place;
    Store *store;
    char *name;
    gboolean has_key; /* content_key is one: encrypted archives can be read */
    guint8 content_key[TINK_KEY_BYTES];
} EnginePlace;

/* Opens the place spec->options.archive.name in the store `where` to read there. Without a name it is the only one that
 * the store has: NOT_FOUND if there is none, INVALID if there are several, and the message lists them. The key is derived
 * if the spec has a secret for it; with an encryption key that is none, or a passphrase that opens nothing, it fails as
 * engine_master_key does. Clear it in any case. */
gboolean engine_place_open(const JobSpec *spec, const JobStore *where, Rate *rate, const CancelFlag *cancel,
                           EnginePlace *place, GError **error);

/* The same to write an archive: a name is needed, the store is opened by engine_open_target, and a key is only taken if
 * encryption is asked for: then INVALID says what to do if there is none. */
gboolean engine_place_make(const JobSpec *spec, const JobStore *where, Rate *rate, const CancelFlag *cancel,
                           EnginePlace *place, GError **error);

/* Wipes and frees what is inside. */
void engine_place_clear(EnginePlace *place);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(EnginePlace, engine_place_clear)
