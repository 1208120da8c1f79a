#include "engine/archive/point.h"

#include "base/error.h"
#include "base/human.h"

#include <string.h>

#define STAMP_LENGTH (sizeof "2026-11-20T020000Z" - 1)
/* The first and the last second that a name can say: 1970 and the end of 9999. */
#define TIME_MAX G_GINT64_CONSTANT(253402300799)

static const char *const TYPE_NAMES[] = {
    [ARCHIVE_FULL] = "full", [ARCHIVE_INCREMENTAL] = "incremental", [ARCHIVE_DIFFERENTIAL] = "differential"};
static const char *const CODEC_SUFFIXES[] = {[ARCHIVE_PLAIN] = "", [ARCHIVE_GZIP] = ".gz", [ARCHIVE_ZSTD] = ".zst"};

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

static gboolean has_control(const char *text)
{
    for (; *text != '\0'; text = g_utf8_next_char(text))
        if (g_unichar_iscntrl(g_utf8_get_char(text)))
            return TRUE;
    return FALSE;
}

gboolean archive_check_name(const char *name, GError **error)
{
    gsize length = strlen(name);
    const char *why = NULL;
    if (length == 0)
        why = "it is empty";
    else if (length > ARCHIVE_NAME_MAX)
        why = "it is longer than 128 bytes";
    else if (!g_utf8_validate(name, (gssize)length, NULL))
        why = "it is not UTF-8";
    else if (name[0] == '.')
        why = "it begins with a dot";
    else if (strchr(name, '/') || has_control(name))
        why = "it holds a slash or a control character";
    if (!why)
        return TRUE;
    g_autofree char *shown = human_name(name, (gssize)MIN(length, ARCHIVE_NAME_MAX));
    return error_set(error, BACKAPP_ERROR_INVALID, "an archive cannot have the name \"%s\": %s; choose another --name",
                     shown, why);
}

/* Appends "2026-11-20T020000Z". */
static void put_stamp(GString *out, gint64 time)
{
    g_autoptr(GDateTime) when = g_date_time_new_from_unix_utc(CLAMP(time, 0, TIME_MAX));
    g_autofree char *text = g_date_time_format(when, "%Y-%m-%dT%H%M%SZ");
    g_string_append(out, text);
}

char *archive_base_name(const ArchiveName *name)
{
    GString *out = g_string_new(NULL);
    put_stamp(out, name->time);
    g_string_append_printf(out, "-%s.tar%s%s", TYPE_NAMES[name->type], CODEC_SUFFIXES[name->codec],
                           name->encrypted ? ".aes" : "");
    return g_string_free(out, FALSE);
}

char *archive_object_name(const ArchiveName *name)
{
    g_autofree char *base = archive_base_name(name);
    if (name->role == ARCHIVE_OBJECT_INDEX)
        return g_strconcat(base, ".index", NULL);
    return name->volume == 0 ? g_steal_pointer(&base) : g_strdup_printf("%s.vol%04u", base, name->volume);
}

/* `digits` decimal digits at *at, which goes on behind them and behind `end`. FALSE if it is anything else. */
static gboolean take_number(const char **at, guint digits, char end, int *value)
{
    *value = 0;
    for (guint i = 0; i < digits; i++, (*at)++) {
        if (!g_ascii_isdigit(**at))
            return FALSE;
        *value = *value * 10 + (**at - '0');
    }
    if (end != '\0' && *(*at)++ != end)
        return FALSE;
    return TRUE;
}

static gboolean take_stamp(const char **at, gint64 *time)
{
    int year, month, day, hour, minute, second;
    if (!take_number(at, 4, '-', &year) || !take_number(at, 2, '-', &month) || !take_number(at, 2, 'T', &day) ||
        !take_number(at, 2, '\0', &hour) || !take_number(at, 2, '\0', &minute) || !take_number(at, 2, 'Z', &second))
        return FALSE;
    g_autoptr(GDateTime) when = year < 1970 ? NULL : g_date_time_new_utc(year, month, day, hour, minute, second);
    if (!when)
        return FALSE;
    *time = g_date_time_to_unix(when);
    return TRUE;
}

static gboolean take_text(const char **at, const char *text)
{
    if (!g_str_has_prefix(*at, text))
        return FALSE;
    *at += strlen(text);
    return TRUE;
}

static gboolean take_type(const char **at, ArchiveType *type)
{
    for (guint i = ARCHIVE_FULL; i < G_N_ELEMENTS(TYPE_NAMES); i++) {
        if (!take_text(at, TYPE_NAMES[i]))
            continue;
        *type = (ArchiveType)i;
        return TRUE;
    }
    return FALSE;
}

/* What stands behind the base name: nothing, a volume's number, ".index". */
static gboolean take_role(const char **at, ArchiveName *name)
{
    int number;
    name->role = ARCHIVE_OBJECT_VOLUME;
    name->volume = 0;
    if (take_text(at, ".index")) {
        name->role = ARCHIVE_OBJECT_INDEX;
    } else if (take_text(at, ".vol")) {
        if (!take_number(at, 4, '\0', &number) || number == 0)
            return FALSE;
        name->volume = (guint)number;
    }
    return **at == '\0';
}

gboolean archive_name_parse(const char *text, ArchiveName *name)
{
    const char *at = text;
    *name = (ArchiveName){.codec = ARCHIVE_PLAIN};
    if (!take_stamp(&at, &name->time) || !take_text(&at, "-") || !take_type(&at, &name->type) ||
        !take_text(&at, ".tar"))
        return FALSE;
    if (take_text(&at, CODEC_SUFFIXES[ARCHIVE_GZIP]))
        name->codec = ARCHIVE_GZIP;
    else if (take_text(&at, CODEC_SUFFIXES[ARCHIVE_ZSTD]))
        name->codec = ARCHIVE_ZSTD;
    name->encrypted = take_text(&at, ".aes");
    return take_role(&at, name);
}

char *archive_associated(const char *place_name, const char *base, guint volume, ArchiveRole role)
{
    return g_strdup_printf("backapp archive 1\n%s/%s\n%u\n%s", place_name, base, volume,
                           role == ARCHIVE_OBJECT_INDEX ? "index" : "data");
}

char *archive_index_key(const char *place_name, const char *base)
{
    return g_strconcat(place_name, "/", base, ".index", NULL);
}

char *archive_volume_key(const ArchivePoint *point, guint volume_index)
{
    return point->numbered ? g_strdup_printf("%s/%s.vol%04u", point->place_name, point->base, volume_index + 1)
                           : g_strconcat(point->place_name, "/", point->base, NULL);
}

gboolean archive_is_parent(const ArchivePoint *point, const char *child_parent, const guint8 child_hash[HASH_BYTES])
{
    gboolean rebuilt = point->rebuilt && point->name.type == ARCHIVE_FULL;
    return g_str_equal(point->base, child_parent) && (rebuilt || memcmp(point->hash, child_hash, HASH_BYTES) == 0);
}

void archive_point_free(ArchivePoint *point)
{
    if (!point)
        return;
    g_free(point->base);
    g_free(point->place_name);
    g_free(point->parent);
    g_free(point->host);
    g_clear_pointer(&point->sources, g_ptr_array_unref);
    g_clear_pointer(&point->volumes, g_array_unref);
    g_free(point);
}
