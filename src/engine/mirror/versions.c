#include "engine/mirror/commit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "fs/dir.h"
#include "fs/meta.h"
#include "fs/remove.h"

#define TIME_FORMAT "%Y-%m-%dT%H%M%SZ"
#define TIME_LENGTH 18U
#define DAY_SECONDS 86400

typedef struct {
    gint64 time;
    guint64 number; /* 1 where there is no suffix */
    const char *name;
} Version;

char *versions_name(Destination *dest, gint64 now_s)
{
    g_autoptr(GDateTime) time = g_date_time_new_from_unix_utc(now_s);
    g_autofree char *stamp = time != NULL ? g_date_time_format(time, TIME_FORMAT) : g_strdup("1970-01-01T000000Z");
    g_auto(AutoFd) versions = dest->state_fd < 0 ? -1 : dir_open(dest->state_fd, "versions", NULL);
    if (versions < 0 || faccessat(versions, stamp, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
        return g_steal_pointer(&stamp);
    for (guint n = 2;; n++) {
        g_autofree char *name = g_strdup_printf("%s-%u", stamp, n);
        if (n == G_MAXUINT || faccessat(versions, name, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
            return g_steal_pointer(&name);
    }
}

/* The number that so many digits at `text` make. */
static int digits(const char *text, guint count)
{
    int value = 0;
    for (guint i = 0; i < count; i++)
        value = value * 10 + g_ascii_digit_value(text[i]);
    return value;
}

/* Reads "2026-11-21T131500Z" or "2026-11-21T131500Z-2". FALSE for everything else. */
static gboolean parse_name(const char *name, Version *version)
{
    static const char shape[] = "dddd-dd-ddTddddddZ";
    for (guint i = 0; i < TIME_LENGTH; i++) {
        gboolean fits = shape[i] == 'd' ? g_ascii_isdigit(name[i]) : name[i] == shape[i];
        if (!fits)
            return FALSE;
    }
    g_autoptr(GDateTime) time = g_date_time_new_utc(digits(name, 4), digits(name + 5, 2), digits(name + 8, 2),
                                                    digits(name + 11, 2), digits(name + 13, 2), digits(name + 15, 2));
    if (time == NULL)
        return FALSE;
    *version = (Version){.time = g_date_time_to_unix(time), .number = 1, .name = name};
    const char *rest = name + TIME_LENGTH;
    if (rest[0] == '\0')
        return TRUE;
    return rest[0] == '-' && g_ascii_isdigit(rest[1]) && rest[1] != '0' &&
           g_ascii_string_to_unsigned(rest + 1, 10, 2, G_MAXUINT32, &version->number, NULL);
}

/* The newest first. */
static int compare_versions(gconstpointer a, gconstpointer b)
{
    const Version *x = a;
    const Version *y = b;
    if (x->time != y->time)
        return x->time > y->time ? -1 : 1;
    return x->number == y->number ? 0 : x->number > y->number ? -1 : 1;
}

/* First out of sight, so that what is half removed never looks like a version. */
static gboolean remove_version(const Destination *dest, int versions_fd, const char *name, const CancelFlag *cancel,
                               GError **error)
{
    g_autofree char *gone = g_strdup_printf("version-%s", name);
    if (!dir_make_path(dest->state_fd, "old", 0700, error))
        return FALSE;
    g_auto(AutoFd) old_fd = dir_open(dest->state_fd, "old", error);
    if (old_fd < 0 || !remove_tree(old_fd, gone, FALSE, cancel, error))
        return FALSE;
    if (renameat(versions_fd, name, old_fd, gone) != 0)
        return error_set_errno(error, errno, "cannot remove the version %s", name);
    return remove_tree(old_fd, gone, FALSE, cancel, error);
}

gboolean versions_prune(Destination *dest, guint days, guint count, gint64 now_s, const CancelFlag *cancel,
                        GError **error)
{
    if (days == 0 && count == 0)
        return TRUE;
    g_autoptr(GError) local = NULL;
    g_auto(AutoFd) versions_fd = dir_open(dest->state_fd, "versions", &local);
    if (versions_fd < 0) {
        if (error_is(local, BACKAPP_ERROR_NOT_FOUND))
            return TRUE;
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    g_auto(DirNames) names = {0};
    if (!dir_names_read(versions_fd, &names, cancel, error))
        return FALSE;
    g_autoptr(GArray) versions = g_array_new(FALSE, FALSE, sizeof(Version));
    for (guint i = 0; i < dir_names_count(&names); i++) {
        Version version;
        FileMeta meta;
        const char *name = dir_names_get(&names, i);
        if (parse_name(name, &version) && meta_read(versions_fd, name, &meta, NULL) && S_ISDIR(meta.mode))
            g_array_append_val(versions, version);
    }
    g_array_sort(versions, compare_versions);
    for (guint i = count; i < versions->len; i++) {
        const Version *version = &g_array_index(versions, Version, i);
        if (days > 0 && version->time >= now_s - (gint64)days * DAY_SECONDS)
            continue;
        if (!remove_version(dest, versions_fd, version->name, cancel, error))
            return FALSE;
    }
    return TRUE;
}
