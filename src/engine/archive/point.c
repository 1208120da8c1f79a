#include "engine/archive/point.h"

static const char *const TYPE_NAMES[] = {
    [ARCHIVE_FULL] = "full", [ARCHIVE_INCREMENTAL] = "incremental", [ARCHIVE_DIFFERENTIAL] = "differential"};

const char *archive_type_name(ArchiveType type)
{
    return TYPE_NAMES[type];
}

gboolean archive_type_parse(const char *text, ArchiveType *type)
{
    for (guint i = ARCHIVE_FULL; i < G_N_ELEMENTS(TYPE_NAMES); i++) {
        if (!g_str_equal(text, TYPE_NAMES[i]))
            continue;
        *type = (ArchiveType)i;
        return TRUE;
    }
    return FALSE;
}
