#include "engine/restore/cold.h"

#include "base/error.h"

#include <string.h>

gboolean cold_is(const StoreObject *object)
{
    gboolean thawed = object->restore && strstr(object->restore, "ongoing-request=\"false\"");
    return store_class_is_cold(object->storage_class) && !thawed;
}

gboolean cold_report(Store *store, const char *key, const char *version, const StoreObject *object, gboolean asked,
                     const RestoreSourceOptions *options, GError **error)
{
    if (options->thaw_days == 0)
        return error_set(error, BACKAPP_ERROR_CONFLICT,
                         "it is in cold storage (%s): ask for it with --thaw DAYS, which costs what the provider "
                         "charges for it, and restore again when it is ready (hours)",
                         object->storage_class);
    const char *tier = options->thaw_tier ? options->thaw_tier : "Standard";
    if (!asked && !store_thaw(store, key, version, options->thaw_days, tier, error))
        return FALSE;
    return error_set(error, BACKAPP_ERROR_CONFLICT,
                     "it is in cold storage (%s) and was asked for now: restore again when it is ready (hours)",
                     object->storage_class);
}
