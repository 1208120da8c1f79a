#include "fs/apply.h"

#include <sys/stat.h>
#include <unistd.h>

/* Without root a file's own read-only mode would forbid user.* attributes. */
static gboolean make_writable(int dir_fd, const char *name, int fd, const FileMeta *want, GError **error)
{
    FileMeta writable = *want;
    writable.mode |= S_IWUSR;
    return meta_apply(dir_fd, name, fd, &writable, META_MODE, NULL, error);
}

gboolean apply_metadata(int dir_fd, const char *name, int fd, const FileMeta *want, MetaParts parts, const Attrs *attrs,
                        const Attrs *have, const AttrsFilter *filter, ApplyLosses *losses, GError **error)
{
    MetaParts failed = 0;
    *losses = (ApplyLosses){0};
    if (attrs == NULL || (attrs_is_empty(attrs) && have != NULL && attrs_is_empty(have))) {
        if (!meta_apply(dir_fd, name, fd, want, parts, &failed, error))
            return FALSE;
        losses->failed = failed;
        return TRUE;
    }
    if ((parts & META_OWNER) != 0) {
        if (!meta_apply(dir_fd, name, fd, want, META_OWNER, &failed, error))
            return FALSE;
        losses->failed |= failed;
    }
    if (geteuid() != 0 && !S_ISLNK(want->mode) && (want->mode & S_IWUSR) == 0 &&
        !make_writable(dir_fd, name, fd, want, error))
        return FALSE;
    if (!attrs_apply(dir_fd, name, fd, attrs, have, filter, &losses->refused_attrs, error))
        return FALSE;
    /* An ACL changes the group's bits of the mode, so the mode is set again whatever was asked for. */
    MetaParts rest = (parts & ~(MetaParts)META_OWNER) | META_MODE;
    if (!meta_apply(dir_fd, name, fd, want, rest, &failed, error))
        return FALSE;
    losses->failed |= failed;
    return TRUE;
}

char *apply_losses_text(const ApplyLosses *losses)
{
    if (losses->failed == 0 && losses->refused_attrs == 0)
        return NULL;
    GString *text = g_string_new("could not be kept:");
    if ((losses->failed & META_OWNER) != 0)
        g_string_append(text, " owner or group (needs root)");
    if ((losses->failed & META_MODE) != 0)
        g_string_append(text, " permission bits");
    if ((losses->failed & META_MTIME) != 0)
        g_string_append(text, " modification time");
    if (losses->refused_attrs > 0)
        g_string_append_printf(text, " %u extended attributes or ACLs", losses->refused_attrs);
    return g_string_free(text, FALSE);
}
