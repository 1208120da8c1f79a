/*
 * Objects in cold storage classes: telling that they are, and asking for them. Any thread.
 */
#pragma once

#include "engine/restore/source.h"

/* TRUE if it has to be thawed before it can be read. */
gboolean cold_is(const StoreObject *object);

/* Says of a cold object what to do; with options->thaw_days asks for it first, unless it was `asked` for already. Returns
 * FALSE always: CONFLICT, or what kept it from being asked for. version may be NULL. */
gboolean cold_report(Store *store, const char *key, const char *version, const StoreObject *object, gboolean asked,
                     const RestoreSourceOptions *options, GError **error);
