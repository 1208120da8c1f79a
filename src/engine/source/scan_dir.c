#include "engine/source/scan_dir.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "engine/source/scan_names.h"
#include "fs/dir.h"
#include "fs/select.h"

#define TEXT_MAX  (64 * 1024)
#define ATTRS_MAX (32 * 1024 * 1024)
/* A record of the walk is at most 1 MiB; no file system known keeps as much as this beside a file. */
#define ATTRS_KEPT_MAX (900 * 1024)

/* One directory while it is looked at. */
typedef struct {
    const ScanOptions *options;
    WalkDir *dir;
    int fd;
    FileMeta self;
    GString *path;   /* of the entry being looked at */
    GByteArray *out; /* its record */
} Visit;

/* With its zero byte, so that reading needs no copy; NULL as nothing. */
static void put_text(GByteArray *out, const char *text)
{
    bytes_put_blob(out, text, text != NULL ? strlen(text) + 1 : 0);
}

static const char *get_text(BytesReader *in)
{
    gsize length = 0;
    const guint8 *bytes = bytes_get_blob(in, TEXT_MAX, &length);
    if (bytes != NULL && length > 0 && bytes[length - 1] != 0)
        in->bad = TRUE;
    return bytes != NULL && length > 0 && !in->bad ? (const char *)bytes : NULL;
}

static gboolean put(Visit *visit, const Found *found, GError **error)
{
    GByteArray *out = visit->out;
    g_byte_array_set_size(out, 0);
    bytes_put_varint(out, found->kind);
    bytes_put_varint(out, found->directory ? 1 : 0);
    put_text(out, found->name);
    put_text(out, found->segment == found->name || strcmp(found->segment, found->name) == 0 ? NULL : found->segment);
    if (found->kind == FOUND_ENTRY) {
        meta_encode(&found->meta, out);
        put_text(out, found->target);
        bytes_put_blob(out, found->attrs, found->attrs_length);
    } else {
        put_text(out, found->message);
    }
    return walk_dir_put(visit->dir, out->data, out->len, error);
}

gboolean scan_dir_decode(const guint8 *data, gsize length, Found *found, GError **error)
{
    BytesReader in = bytes_reader(data, length);
    *found = (Found){.kind = (FoundKind)bytes_get_varint(&in)};
    found->directory = bytes_get_varint(&in) != 0;
    found->name = get_text(&in);
    found->segment = get_text(&in);
    if (found->segment == NULL)
        found->segment = found->name;
    if (found->kind == FOUND_ENTRY) {
        meta_decode(&in, &found->meta);
        found->target = get_text(&in);
        found->attrs = bytes_get_blob(&in, ATTRS_MAX, &found->attrs_length);
        if (found->attrs_length == 0)
            found->attrs = NULL;
    } else {
        found->message = get_text(&in);
    }
    return (found->name != NULL && bytes_reader_done(&in)) ||
           error_set(error, BACKAPP_ERROR_INTERNAL, "scan: a record was damaged on its way through the walk");
}

static gboolean put_problem(Visit *visit, FoundKind kind, const ScanName *name, const char *message, GError **error)
{
    Found found = {.kind = kind, .name = name->name, .segment = name->segment, .directory = name->directory};
    found.message = message;
    return put(visit, &found, error);
}

/* A failed look: gone, or unreadable. */
static gboolean put_failure(Visit *visit, const ScanName *name, const GError *why, GError **error)
{
    gboolean gone = error_is(why, BACKAPP_ERROR_NOT_FOUND);
    return put_problem(visit, gone ? FOUND_VANISHED : FOUND_UNREADABLE, name, gone ? NULL : why->message, error);
}

/* What every mirror of ours has at its root. */
static gboolean is_of_mirror(const char *name)
{
    return strcmp(name, ".backapp") == 0 || strcmp(name, ".backapp-destination") == 0;
}

/* Takes part by name: what does not is said or silent. */
static gboolean is_wanted_by_name(Visit *visit, const ScanName *name, gboolean *good, GError **error)
{
    gboolean at_root = walk_dir_path(visit->dir)[0] == '\0';
    *good = TRUE;
    if (at_root && visit->options->is_mirror && is_of_mirror(name->name))
        return FALSE;
    if (at_root && names_is_own_root(name->name)) {
        *good = put_problem(visit, FOUND_SKIPPED, name,
                            "names that begin with .backapp, and .trash, at a source's root are BackApp's own and are "
                            "left out",
                            error);
        return FALSE;
    }
    return pattern_list_match(visit->options->patterns, visit->path->str, name->directory) != PATTERN_EXCLUDE;
}

/* Takes part by what it is. */
static gboolean is_wanted(Visit *visit, const ScanName *name, const FileMeta *meta, gboolean *good, GError **error)
{
    const ScanOptions *options = visit->options;
    *good = TRUE;
    if (S_ISDIR(meta->mode) != name->directory) {
        *good = put_problem(visit, FOUND_UNREADABLE, name, "it became something else while it was looked at", error);
        return FALSE;
    }
    if (name->directory &&
        select_leaves_out(visit->fd, name->name, options->exclude_caches, options->exclude_if_present)) {
        *good = put_problem(visit, FOUND_LEFT_OUT, name, NULL, error);
        return FALSE;
    }
    if (options->exclude_larger_than > 0 && S_ISREG(meta->mode) && meta->size > options->exclude_larger_than) {
        *good = put_problem(visit, FOUND_SKIPPED, name, "it is larger than --exclude-larger-than allows", error);
        return FALSE;
    }
    return TRUE;
}

static gboolean read_target(Visit *visit, const char *name, GString *target, GError **error)
{
    g_string_set_size(target, PATH_MAX + 1);
    gssize length = readlinkat(visit->fd, name, target->str, PATH_MAX + 1);
    if (length < 0 || length > PATH_MAX) {
        int errnum = length < 0 ? errno : ENAMETOOLONG;
        return error_set_errno(error, errnum, "cannot read the symbolic link");
    }
    g_string_set_size(target, (gsize)length);
    return TRUE;
}

/* Attributes as attrs_encode writes them, nothing if there are none. What cannot be read is a warning before the entry. */
static gboolean read_attrs(Visit *visit, const ScanName *name, const char *file, GByteArray *out, GError **error)
{
    const AttrsFilter filter = {.xattrs = !visit->options->no_xattrs, .acls = !visit->options->no_acls};
    g_autoptr(GError) local = NULL;
    if (!visit->options->metadata)
        return TRUE;
    const Attrs *attrs ATTRS_AUTO = attrs_read(visit->fd, file, -1, &filter, &local);
    if (attrs == NULL)
        return error_is(local, BACKAPP_ERROR_NOT_FOUND) ||
               put_problem(visit, FOUND_UNKEPT, name, local->message, error);
    if (attrs_is_empty(attrs))
        return TRUE;
    attrs_encode(attrs, out);
    if (out->len <= ATTRS_KEPT_MAX)
        return TRUE;
    g_byte_array_set_size(out, 0);
    return put_problem(visit, FOUND_UNKEPT, name, "its extended attributes are too large to be kept", error);
}

static gboolean put_entry(Visit *visit, const ScanName *name, const FileMeta *meta, GError **error)
{
    g_autoptr(GByteArray) attrs = g_byte_array_new();
    g_autoptr(GString) target = S_ISLNK(meta->mode) ? g_string_new(NULL) : NULL;
    g_autoptr(GError) local = NULL;
    if (target != NULL && !read_target(visit, name->name, target, &local))
        return put_failure(visit, name, local, error);
    if (!read_attrs(visit, name, name->name, attrs, error))
        return FALSE;
    Found found = {.kind = FOUND_ENTRY, .name = name->name, .segment = name->segment, .directory = name->directory};
    found.meta = *meta;
    found.target = target != NULL ? target->str : NULL;
    found.attrs = attrs->data;
    found.attrs_length = attrs->len;
    return put(visit, &found, error);
}

/* Names the directory to the walk, unless another file system begins there. */
static gboolean enter(Visit *visit, const ScanName *name, const FileMeta *meta, GError **error)
{
    gboolean other = meta->dev != visit->self.dev || meta->mount != visit->self.mount;
    if (visit->options->one_file_system && other)
        return put_problem(visit, FOUND_LEFT_OUT, name, NULL, error);
    walk_dir_child(visit->dir, name->name, 0);
    return TRUE;
}

static gboolean look_at(Visit *visit, const ScanName *name, GError **error)
{
    FileMeta meta;
    gboolean good = TRUE;
    g_autoptr(GError) local = NULL;
    if (!is_wanted_by_name(visit, name, &good, error))
        return good;
    if (!meta_read(visit->fd, name->name, &meta, &local))
        return put_failure(visit, name, local, error);
    if (!is_wanted(visit, name, &meta, &good, error))
        return good;
    return put_entry(visit, name, &meta, error) && (!name->directory || enter(visit, name, &meta, error));
}

/* The key of the directory. */
static GString *key_of(const S3Names *names, const char *path)
{
    GString *key = g_string_new(NULL);
    if (path[0] == '\0')
        return key;
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    for (guint i = 0; parts[i] != NULL; i++) {
        g_autofree char *parent = g_strdup(key->str);
        g_string_truncate(key, 0);
        names_child_key(names, parent, parts[i], key);
    }
    return key;
}

static gboolean look_at_names(Visit *visit, ScanNames *names, GError **error)
{
    ScanName name;
    int got = 0;
    gsize base = visit->path->len;
    for (guint i = 0; (got = scan_names_next(names, &name, error)) > 0; i++) {
        if (i % 64 == 0 && !cancel_check(visit->options->cancel, error))
            return FALSE;
        g_string_truncate(visit->path, base);
        if (base > 0)
            g_string_append_c(visit->path, '/');
        g_string_append(visit->path, name.name);
        if (!look_at(visit, &name, error))
            return FALSE;
    }
    return got == 0;
}

gboolean scan_dir_visit(WalkDir *dir, gpointer visit_data, GError **error)
{
    const ScanVisits *visits = visit_data;
    static const ScanName SELF = {.name = "", .segment = "", .directory = TRUE};
    const char *path = walk_dir_path(dir);
    gboolean is_root = path[0] == '\0';
    g_autoptr(GError) local = NULL;
    g_autoptr(GByteArray) out = g_byte_array_sized_new(256);
    g_autoptr(GString) scratch = g_string_new(path);
    Visit visit = {.options = visits->options, .dir = dir, .path = scratch, .out = out};

    g_auto(AutoFd) fd = dir_open(visits->options->root_fd, path, &local);
    visit.fd = fd;
    gboolean opened = fd >= 0 && meta_read(fd, "", &visit.self, &local);
    if (opened && is_root && !put_entry(&visit, &SELF, &visit.self, error))
        return FALSE;
    g_autoptr(GString) key = key_of(visits->options->names, path);
    g_autoptr(ScanNames) names =
        opened ? scan_names_read(fd, visits->options->names, key->str, visits->temp_fd, visits->options->cancel, &local)
               : NULL;
    if (names != NULL)
        return look_at_names(&visit, names, error);
    if (!is_root && !error_is(local, BACKAPP_ERROR_CANCELLED) && !error_is(local, BACKAPP_ERROR_NO_SPACE))
        return put_failure(&visit, &SELF, local, error);
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}
