#include "engine/mirror/compare_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/human.h"
#include "engine/mirror/extraneous.h"
#include "engine/mirror/names.h"
#include "engine/mirror/plan.h"
#include "engine/mirror/sidecar_merge.h"
#include "fs/copy.h"
#include "fs/dir.h"
#include "fs/select.h"

#define NAME_BYTES_MAX    (8 * 1024 * 1024)
#define MESSAGE_BYTES_MAX (64 * 1024)
#define COARSE_TIME       (10 * 1000 * 1000) /* ns: FAT and exFAT, not NTFS */

/* One directory while it is looked at. */
typedef struct {
    MirrorRun *run;
    WalkDir *dir;
    const char *path;        /* below the destination */
    const char *source_path; /* below its source */
    guint source;
    int src_fd;
    int dst_fd; /* -1: nothing is there */
    guint64 source_dev, source_mount;
    GString *scratch;   /* source path of the entry being looked at */
    GPtrArray *subdirs; /* of char *: names to be walked, with the tag in the first byte */
    GByteArray *subdir_records;
    NamesSeen *names_seen; /* NULL where case tells names apart */
    GByteArray *attrs;     /* of the entry being looked at, encoded for the sidecar; NULL: there is none */
    char *target;          /* of a symlink likewise; PATH_MAX + 1 bytes */
    Found counts;
} Visit;

static gboolean put_found(WalkDir *dir, const Found *found, GError **error)
{
    g_autoptr(GByteArray) out = g_byte_array_sized_new(128);
    bytes_put_varint(out, found->kind);
    switch (found->kind) {
    case FOUND_WARNING:
        bytes_put_blob(out, found->name, strlen(found->name));
        bytes_put_u64(out, (guint64)(guintptr)found->code);
        bytes_put_blob(out, found->message, strlen(found->message));
        break;
    case FOUND_COUNTS:
        bytes_put_varint(out, found->unchanged);
        bytes_put_varint(out, found->files_total);
        bytes_put_varint(out, found->bytes_total);
        bytes_put_varint(out, found->dest_files);
        break;
    case FOUND_SUBDIR:
    case FOUND_LEFT:
        bytes_put_blob(out, found->name, strlen(found->name));
        break;
    case FOUND_SELF:
    case FOUND_ENTRY:
    case FOUND_DIR_NEW:
    case FOUND_REMOVE:
        bytes_put_blob(out, found->name, found->name != NULL ? strlen(found->name) : 0);
        bytes_put_varint(out, found->verdict);
        bytes_put_varint(out, (found->attrs ? 1U : 0U) | (found->changed ? 2U : 0U) | (found->record_only ? 4U : 0U) |
                                  (found->odd_time ? 16U : 0U) | (found->target != NULL ? 8U : 0U));
        if (found->target != NULL)
            bytes_put_blob(out, found->target, strlen(found->target));
        bytes_put_blob(out, found->encoded, found->encoded_length);
        meta_encode(&found->want, out);
        bytes_put_varint(out, found->have_ino);
        bytes_put_varint(out, found->have_mode);
        bytes_put_varint(out, found->have_size);
        bytes_put_varint(out, found->have_nlink);
        bytes_put_varint(out, found->files);
        bytes_put_varint(out, found->bytes);
        bytes_put_varint(out, found->gone_files);
        break;
    default:
        return error_set(error, BACKAPP_ERROR_INTERNAL, "compare: unknown record");
    }
    return walk_dir_put(dir, out->data, out->len, error);
}

static const char *get_text(BytesReader *in, gsize max, GString *text)
{
    gsize length = 0;
    const guint8 *bytes = bytes_get_blob(in, max, &length);
    g_string_truncate(text, 0);
    if (bytes != NULL)
        g_string_append_len(text, (const char *)bytes, (gssize)length);
    return text->str;
}

/* The fields of what has metadata. */
static void get_entry(BytesReader *in, Found *found, GString *target)
{
    found->verdict = (Verdict)bytes_get_varint(in);
    guint64 bits = bytes_get_varint(in);
    found->attrs = (bits & 1) != 0;
    found->changed = (bits & 2) != 0;
    found->record_only = (bits & 4) != 0;
    found->odd_time = (bits & 16) != 0;
    if ((bits & 8) != 0)
        found->target = get_text(in, PATH_MAX, target);
    found->encoded = bytes_get_blob(in, SIDECAR_ATTRS_MAX, &found->encoded_length);
    meta_decode(in, &found->want);
    found->have_ino = bytes_get_varint(in);
    found->have_mode = (guint32)bytes_get_varint(in);
    found->have_size = bytes_get_varint(in);
    found->have_nlink = bytes_get_varint(in);
    found->files = bytes_get_varint(in);
    found->bytes = bytes_get_varint(in);
    found->gone_files = bytes_get_varint(in);
}

gboolean compare_found_decode(const guint8 *data, gsize length, Found *found, GString *name, GString *message,
                              GString *target, GError **error)
{
    BytesReader in = bytes_reader(data, length);
    *found = (Found){.kind = (FoundKind)bytes_get_varint(&in)};
    if (found->kind == FOUND_COUNTS) {
        found->unchanged = bytes_get_varint(&in);
        found->files_total = bytes_get_varint(&in);
        found->bytes_total = bytes_get_varint(&in);
        found->dest_files = bytes_get_varint(&in);
    } else {
        found->name = get_text(&in, NAME_BYTES_MAX, name);
    }
    if (found->kind == FOUND_WARNING) {
        found->code = (const char *)(guintptr)bytes_get_u64(&in);
        found->message = get_text(&in, MESSAGE_BYTES_MAX, message);
    } else if (found->kind != FOUND_COUNTS && found->kind != FOUND_SUBDIR && found->kind != FOUND_LEFT) {
        get_entry(&in, found, target);
    }
    return bytes_reader_done(&in) ||
           error_set(error, BACKAPP_ERROR_INTERNAL, "compare: a record was damaged on its way through the walk");
}

static gboolean put_warning(WalkDir *dir, const char *code, const char *name, const char *message, GError **error)
{
    Found found = {.kind = FOUND_WARNING, .code = code, .name = name, .message = message};
    return put_found(dir, &found, error);
}

static gboolean put_name(Visit *visit, FoundKind kind, const char *name, GError **error)
{
    Found found = {.kind = kind, .name = name};
    return put_found(visit->dir, &found, error);
}

/* A failed look at a source's entry: gone, or unreadable. */
static gboolean put_source_error(Visit *visit, const char *name, const GError *why, GError **error)
{
    if (error_is(why, BACKAPP_ERROR_NOT_FOUND))
        return put_warning(visit->dir, "vanished", name, "it was gone when it should be read", error);
    return put_warning(visit->dir, "unreadable", name, why->message, error);
}

static gboolean is_root_of_single_source(const Visit *visit)
{
    return visit->source_path[0] == '\0';
}

static gboolean is_own_name(const Visit *visit, const char *name)
{
    return is_root_of_single_source(visit) && g_str_has_prefix(name, DESTINATION_STATE_DIR);
}

/* TRUE if the entry takes part; what does not is as if it were on neither side. */
static gboolean is_included(Visit *visit, const char *name, const FileMeta *meta, gboolean *said, GError **error)
{
    const MirrorOptions *options = visit->run->options;
    gboolean is_directory = S_ISDIR(meta->mode);
    *said = TRUE;
    if (is_own_name(visit, name)) {
        *said = put_warning(visit->dir, "note", name,
                            "names that begin with .backapp at a source's root are "
                            "BackApp's own and are left out",
                            error);
        return FALSE;
    }
    if (extraneous_is_protected(visit->run, visit->scratch->str, is_directory))
        return FALSE;
    const char *problem = names_problem(&visit->run->dest->abilities, visit->names_seen, name, meta);
    if (problem != NULL) {
        *said = put_warning(visit->dir, "skipped-partial", name, problem, error);
        return FALSE;
    }
    if (is_directory)
        return !select_leaves_out(visit->src_fd, name, options->exclude_caches, options->exclude_if_present);
    if (options->exclude_larger_than > 0 && S_ISREG(meta->mode) && meta->size > options->exclude_larger_than) {
        *said = put_warning(visit->dir, "skipped", name, "it is larger than --exclude-larger-than allows", error);
        return FALSE;
    }
    return TRUE;
}

static gboolean same_target(const Visit *visit, const char *name)
{
    g_autofree char *a = g_malloc(2 * (PATH_MAX + 1));
    char *b = a + PATH_MAX + 1;
    gssize a_length = readlinkat(visit->src_fd, name, a, PATH_MAX + 1);
    gssize b_length = readlinkat(visit->dst_fd, name, b, PATH_MAX + 1);
    return a_length >= 0 && a_length == b_length && memcmp(a, b, (gsize)a_length) == 0;
}

/* Reads both files: for --checksum. What cannot be read counts as different, so that the copy reports it. */
static gboolean same_content(const Visit *visit, const char *name, const FileMeta *want)
{
    g_auto(AutoFd) src = openat(visit->src_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    g_auto(AutoFd) dst = openat(visit->dst_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    gboolean same = FALSE;
    return src >= 0 && dst >= 0 && copy_same_content(src, dst, want->size, visit->run->cancel, &same, NULL) && same;
}

/* FAT and exFAT have the years 1980 to 2107, in local time: a day at either end is left to be sure. ntfs-3g rounds times
 * before 1970 in a way of its own. */
static gboolean has_odd_time(const Visit *visit, const FileMeta *want)
{
    const gint64 first = 315532800 + 86400;
    const gint64 last = G_GINT64_CONSTANT(4354819200) - 86400;
    if (!visit->run->sidecar)
        return FALSE;
    if (visit->run->granularity_ns >= COARSE_TIME)
        return want->mtime_s < first || want->mtime_s > last;
    return visit->run->granularity_ns > 1 && want->mtime_s < 0;
}

/* Which metadata differs of what the destination can hold. */
static gboolean differs_there(const Visit *visit, const FileMeta *want, const FileMeta *have)
{
    MetaParts parts = visit->run->parts;
    if (has_odd_time(visit, want))
        parts &= ~(MetaParts)META_MTIME;
    return (meta_difference(want, have, visit->run->granularity_ns) & parts) != 0;
}

/* TRUE if type and content are as in the source, by the rules of this run. */
static gboolean has_same_data(const Visit *visit, const char *name, const FileMeta *want, const FileMeta *have)
{
    if ((want->mode & S_IFMT) != (have->mode & S_IFMT))
        return FALSE;
    if (S_ISLNK(want->mode))
        return same_target(visit, name);
    if (S_ISCHR(want->mode) || S_ISBLK(want->mode))
        return want->rdev == have->rdev;
    if (!S_ISREG(want->mode))
        return TRUE;
    if (want->size != have->size)
        return FALSE;
    if (visit->run->options->checksum)
        return same_content(visit, name, want);
    return has_odd_time(visit, want) || meta_same_mtime(want, have, visit->run->granularity_ns);
}

/* Compares the extended attributes. Unreadable ones of the source are reported when they are copied. */
static gboolean same_attrs(const Visit *visit, const char *src_name, int src_fd, int dst_fd)
{
    if (!visit->run->filter.acls && !visit->run->filter.xattrs)
        return TRUE;
    const Attrs *want ATTRS_AUTO = attrs_read(src_fd, src_name, -1, &visit->run->filter, NULL);
    const Attrs *have ATTRS_AUTO = attrs_read(dst_fd, src_name, -1, &visit->run->filter, NULL);
    return want == NULL || (have != NULL && attrs_equal(want, have));
}

static void set_have(Found *found, const FileMeta *have)
{
    found->have_ino = have->ino;
    found->have_mode = have->mode;
    found->have_size = have->size;
    found->have_nlink = have->nlink;
}

/* What the sidecar will say of an entry besides its metadata; found points into the visit. */
static gboolean read_for_sidecar(Visit *visit, const char *name, Found *found, GError **error)
{
    const MirrorRun *run = visit->run;
    if (visit->attrs == NULL || (!run->wanted.acls && !run->wanted.xattrs))
        return TRUE;
    g_autoptr(GError) local = NULL;
    const Attrs *attrs ATTRS_AUTO = attrs_read(visit->src_fd, name, -1, &run->wanted, &local);
    if (attrs == NULL)
        return error_is(local, BACKAPP_ERROR_NOT_FOUND) ||
               put_warning(visit->dir, "metadata", name, local->message, error);
    if (attrs_is_empty(attrs))
        return TRUE;
    g_byte_array_set_size(visit->attrs, 0);
    attrs_encode(attrs, visit->attrs);
    if (visit->attrs->len > SIDECAR_ATTRS_MAX)
        return put_warning(visit->dir, "metadata", name, "its extended attributes are too large for the sidecar",
                           error);
    found->encoded = visit->attrs->data;
    found->encoded_length = visit->attrs->len;
    return TRUE;
}

/* The target of a symlink, for the sidecar. FALSE with *said if it cannot be read. */
static gboolean read_target(Visit *visit, const char *name, Found *found, gboolean *said, GError **error)
{
    *said = TRUE;
    if (!visit->run->sidecar || !S_ISLNK(found->want.mode))
        return TRUE;
    gssize length = readlinkat(visit->src_fd, name, visit->target, PATH_MAX);
    if (length <= 0) {
        g_autoptr(GError) local = NULL;
        error_set_errno(&local, length < 0 ? errno : ENOENT, "cannot read the symlink");
        *said = put_source_error(visit, name, local, error);
        return FALSE;
    }
    visit->target[length] = '\0';
    found->target = visit->target;
    return TRUE;
}

/* A directory stands where something else shall be. TRUE in *way if it may be displaced. */
static gboolean check_displaced_directory(Visit *visit, const char *name, Found *found, gboolean *way, GError **error)
{
    ExtraneousCount count = {0};
    *way = FALSE;
    if (!extraneous_count(visit->run, visit->dst_fd, name, visit->scratch->str, &count, error))
        return FALSE;
    found->files = count.entries;
    found->bytes = count.bytes;
    found->gone_files = count.files;
    visit->counts.dest_files += count.files;
    if (count.protected)
        return put_warning(visit->dir, "skipped-partial", name,
                           "a directory with excluded files is in its place in the destination", error);
    if (count.entries > 1 && !visit->run->options->delete_extraneous)
        return put_warning(visit->dir, "skipped-partial", name,
                           "a directory that is not empty is in its place in the destination; --delete makes "
                           "way",
                           error);
    *way = TRUE;
    return TRUE;
}

static gboolean look_at_file(Visit *visit, const char *name, const FileMeta *want, const FileMeta *have, GError **error)
{
    Found found = {.kind = FOUND_ENTRY, .name = name, .want = *want, .verdict = VERDICT_NEW};
    visit->counts.files_total++;
    visit->counts.bytes_total += S_ISREG(want->mode) ? want->size : 0;
    found.record_only = visit->run->sidecar && sidecar_is_record_only(&visit->run->dest->abilities, want->mode);
    gboolean said = TRUE;
    if (!read_target(visit, name, &found, &said, error))
        return said;
    if (!read_for_sidecar(visit, name, &found, error))
        return FALSE;
    if (have == NULL)
        return put_found(visit->dir, &found, error);
    set_have(&found, have);
    if (!extraneous_check_boundary(visit->run, have, visit->scratch->str, error))
        return FALSE;
    if (S_ISDIR(have->mode)) {
        gboolean way = FALSE;
        if (!check_displaced_directory(visit, name, &found, &way, error))
            return FALSE;
        if (!way)
            return TRUE;
    }
    if (found.record_only || !has_same_data(visit, name, want, have)) {
        found.verdict = VERDICT_REPLACE;
        return put_found(visit->dir, &found, error);
    }
    found.attrs = !same_attrs(visit, name, visit->src_fd, visit->dst_fd);
    found.odd_time = has_odd_time(visit, want);
    found.verdict = found.attrs || differs_there(visit, want, have) ? VERDICT_META : VERDICT_SAME;
    gboolean may_be_link = want->nlink > 1 || have->nlink > 1;
    if (found.verdict == VERDICT_SAME && !may_be_link && !visit->run->sidecar) {
        visit->counts.unchanged++;
        return TRUE;
    }
    return put_found(visit->dir, &found, error);
}

/* The destination, seen through a bind mount in the source: its path did not show that it lies there. */
static gboolean check_not_destination(const Visit *visit, const FileMeta *want, GError **error)
{
    const Destination *dest = visit->run->dest;
    if (want->ino != dest->ino || want->dev != dest->dev || dest->root_fd < 0)
        return TRUE;
    g_autofree char *name = human_name(visit->scratch->str, -1);
    return error_set(error, BACKAPP_ERROR_INVALID,
                     "the destination %s lies inside the source, as %s: a mirror of itself would grow without end; "
                     "choose a destination elsewhere, or exclude it with --exclude '/%s'",
                     dest->path, name, name);
}

/* Directories come after the files of their parent: they are kept until those are all looked at. */
static gboolean keep_subdir(Visit *visit, const char *name, const FileMeta *want, const FileMeta *have, GError **error)
{
    guint tag = have != NULL && S_ISDIR(have->mode) ? COMPARE_PAIR : COMPARE_NEW;
    gboolean other_fs = want->dev != visit->source_dev || want->mount != visit->source_mount;
    if (!check_not_destination(visit, want, error))
        return FALSE;
    if (tag == COMPARE_PAIR && !extraneous_check_boundary(visit->run, have, visit->scratch->str, error))
        return FALSE;
    if (visit->run->options->one_file_system && other_fs)
        tag |= COMPARE_STOP;
    g_ptr_array_add(visit->subdirs, g_strdup_printf("%c%s", (char)tag, name));
    if (visit->run->sidecar && !put_name(visit, FOUND_SUBDIR, name, error))
        return FALSE;
    if ((tag & COMPARE_NEW) != 0) {
        Found found = {.kind = FOUND_DIR_NEW, .name = name, .want = *want, .verdict = VERDICT_NEW};
        if (have != NULL) {
            set_have(&found, have);
            found.verdict = VERDICT_REPLACE;
        }
        bytes_put_blob(visit->subdir_records, &found, sizeof found);
    }
    return TRUE;
}

static gboolean name_subdirs(Visit *visit, GError **error)
{
    BytesReader records = bytes_reader(visit->subdir_records->data, visit->subdir_records->len);
    for (guint i = 0; i < visit->subdirs->len; i++) {
        const char *entry = g_ptr_array_index(visit->subdirs, i);
        guint tag = (guint8)entry[0];
        if ((tag & COMPARE_NEW) != 0) {
            gsize length = 0;
            const guint8 *stored = bytes_get_blob(&records, sizeof(Found), &length);
            Found found;
            if (stored == NULL || length != sizeof found)
                return error_set(error, BACKAPP_ERROR_INTERNAL, "compare: lost a directory's record");
            memcpy(&found, stored, sizeof found);
            found.name = entry + 1;
            if (!put_found(visit->dir, &found, error))
                return FALSE;
        }
        walk_dir_child(visit->dir, entry + 1, tag);
    }
    return TRUE;
}

static gboolean put_removable(const char *relative, const FileMeta *meta, const ExtraneousCount *count,
                              gpointer user_data, GError **error)
{
    Visit *visit = user_data;
    Found found = {.kind = FOUND_REMOVE,
                   .name = relative,
                   .files = count->entries,
                   .bytes = count->bytes,
                   .gone_files = count->files};
    set_have(&found, meta);
    return put_found(visit->dir, &found, error);
}

/* Something that only the destination has. */
static gboolean look_at_extraneous(Visit *visit, const char *name, GError **error)
{
    FileMeta have;
    if (visit->path[0] == '\0' && g_str_has_prefix(name, DESTINATION_STATE_DIR))
        return TRUE;
    if (!meta_read(visit->dst_fd, name, &have, NULL))
        return TRUE;
    gboolean is_directory = S_ISDIR(have.mode);
    visit->counts.dest_files += is_directory ? 0 : 1;
    if (!visit->run->options->delete_extraneous ||
        extraneous_is_protected(visit->run, visit->scratch->str, is_directory))
        return TRUE;
    if (!extraneous_check_boundary(visit->run, &have, visit->scratch->str, error))
        return FALSE;
    ExtraneousCount count = {.entries = 1, .files = 1, .bytes = S_ISREG(have.mode) ? have.size : 0};
    if (is_directory && !extraneous_count(visit->run, visit->dst_fd, name, visit->scratch->str, &count, error))
        return FALSE;
    visit->counts.dest_files += is_directory ? count.files : 0;
    if (!count.protected)
        return put_removable(name, &have, &count, visit, error);
    return extraneous_each_removable(visit->run, visit->dst_fd, name, visit->scratch->str, put_removable, visit, error);
}

static gboolean look_at_source_entry(Visit *visit, const char *name, gboolean in_dest, GError **error)
{
    FileMeta want;
    FileMeta have;
    g_autoptr(GError) local = NULL;
    if (!meta_read(visit->src_fd, name, &want, &local))
        return put_source_error(visit, name, local, error);
    in_dest = in_dest && meta_read(visit->dst_fd, name, &have, NULL);
    /* Excluded here, but perhaps not as what it is there: a rule with a trailing slash is only about directories. */
    if (in_dest && (S_ISDIR(want.mode) != S_ISDIR(have.mode)) && !is_own_name(visit, name) &&
        extraneous_is_protected(visit->run, visit->scratch->str, S_ISDIR(want.mode)))
        return look_at_extraneous(visit, name, error);
    if (in_dest && !S_ISDIR(have.mode))
        visit->counts.dest_files++;
    gboolean said = TRUE;
    if (!is_included(visit, name, &want, &said, error))
        return said && (!visit->run->sidecar || put_name(visit, FOUND_LEFT, name, error));
    if (S_ISDIR(want.mode))
        return keep_subdir(visit, name, &want, in_dest ? &have : NULL, error);
    return look_at_file(visit, name, &want, in_dest ? &have : NULL, error);
}

/* Merges the two sorted lists of names. */
static gboolean merge(Visit *visit, const DirNames *src, const DirNames *dst, GError **error)
{
    guint i = 0;
    guint j = 0;
    guint src_count = dir_names_count(src);
    guint dst_count = visit->dst_fd >= 0 ? dir_names_count(dst) : 0;
    gsize base = visit->scratch->len;
    while (i < src_count || j < dst_count) {
        if (!cancel_check(visit->run->cancel, error))
            return FALSE;
        int order = i >= src_count ? 1 : j >= dst_count ? -1 : strcmp(dir_names_get(src, i), dir_names_get(dst, j));
        const char *name = order <= 0 ? dir_names_get(src, i) : dir_names_get(dst, j);
        g_string_truncate(visit->scratch, base);
        if (base > 0)
            g_string_append_c(visit->scratch, '/');
        g_string_append(visit->scratch, name);
        gboolean good =
            order <= 0 ? look_at_source_entry(visit, name, order == 0, error) : look_at_extraneous(visit, name, error);
        if (!good)
            return FALSE;
        i += order <= 0 ? 1 : 0;
        j += order >= 0 ? 1 : 0;
    }
    return TRUE;
}

/* The directory itself, once both sides are open. */
static gboolean put_self(Visit *visit, GError **error)
{
    Found found = {.kind = FOUND_SELF, .name = ""};
    FileMeta have;
    if (!meta_read(visit->src_fd, "", &found.want, error))
        return FALSE;
    visit->source_dev = found.want.dev;
    visit->source_mount = found.want.mount;
    if (visit->dst_fd >= 0 && meta_read(visit->dst_fd, "", &have, NULL)) {
        set_have(&found, &have);
        found.attrs = !same_attrs(visit, "", visit->src_fd, visit->dst_fd);
        found.changed = found.attrs || differs_there(visit, &found.want, &have);
    }
    if (!read_for_sidecar(visit, "", &found, error))
        return FALSE;
    return put_found(visit->dir, &found, error);
}

static gboolean visit_opened(Visit *visit, GError **error)
{
    MirrorRun *run = visit->run;
    g_auto(DirNames) src = {0};
    g_auto(DirNames) dst = {0};
    g_autoptr(GError) local = NULL;
    if (!put_self(visit, error))
        return FALSE;
    if ((walk_dir_tag(visit->dir) & COMPARE_STOP) != 0)
        return TRUE;
    if (!dir_names_read(visit->src_fd, &src, run->cancel, &local)) {
        if (error_is(local, BACKAPP_ERROR_CANCELLED)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
        return put_source_error(visit, "", local, error);
    }
    if (visit->dst_fd >= 0 && !dir_names_read(visit->dst_fd, &dst, run->cancel, error))
        return FALSE;
    visit->counts.kind = FOUND_COUNTS;
    return merge(visit, &src, &dst, error) && put_found(visit->dir, &visit->counts, error) &&
           name_subdirs(visit, error);
}

static int compare_folders(gconstpointer a, gconstpointer b, gpointer folders)
{
    char *const *names = folders;
    return strcmp(names[*(const guint *)a], names[*(const guint *)b]);
}

/* The root of a run with several sources: nothing but their folders, in the order of names (which the sidecar needs). */
static gboolean visit_folders(MirrorRun *run, WalkDir *dir, GError **error)
{
    g_autofree guint *order = g_new(guint, run->sources);
    for (guint i = 0; i < run->sources; i++)
        order[i] = i;
    g_qsort_with_data(order, (gint)run->sources, sizeof *order, compare_folders, run->folders);
    for (guint at = 0; at < run->sources; at++) {
        guint i = order[at];
        Found found = {.kind = FOUND_DIR_NEW, .name = run->folders[i], .verdict = VERDICT_NEW};
        FileMeta have;
        if (!meta_read(run_source_fd(run, i), "", &found.want, error))
            return FALSE;
        gboolean there = run->dest->root_fd >= 0 && meta_read(run->dest->root_fd, run->folders[i], &have, NULL);
        guint tag = there && S_ISDIR(have.mode) ? COMPARE_PAIR : COMPARE_NEW;
        if (tag == COMPARE_PAIR && !extraneous_check_boundary(run, &have, run->folders[i], error))
            return FALSE;
        if (there) {
            set_have(&found, &have);
            found.verdict = VERDICT_REPLACE;
        }
        if (tag == COMPARE_NEW && !put_found(dir, &found, error))
            return FALSE;
        walk_dir_child(dir, run->folders[i], tag);
    }
    return TRUE;
}

gboolean compare_visit(WalkDir *dir, gpointer user_data, GError **error)
{
    MirrorRun *run = user_data;
    Visit visit = {.run = run, .dir = dir, .path = walk_dir_path(dir), .src_fd = -1, .dst_fd = -1};
    if (run->sources > 1 && visit.path[0] == '\0')
        return visit_folders(run, dir, error);
    visit.source = run_source_of(run, visit.path, &visit.source_path);

    g_autoptr(GError) local = NULL;
    g_auto(AutoFd) src_fd = dir_open(run_source_fd(run, visit.source), visit.source_path, &local);
    if (src_fd < 0)
        return put_source_error(&visit, "", local, error);
    g_auto(AutoFd) dst_fd = -1;
    if ((walk_dir_tag(dir) & COMPARE_PAIR) != 0 && run->dest->root_fd >= 0) {
        dst_fd = dir_open(run->dest->root_fd, visit.path, error);
        if (dst_fd < 0) {
            g_prefix_error(error, "the destination's directory cannot be read: ");
            return FALSE;
        }
    }
    g_autoptr(GString) scratch = g_string_new(visit.source_path);
    g_autoptr(GPtrArray) subdirs = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GByteArray) subdir_records = g_byte_array_new();
    g_autoptr(NamesSeen) names_seen = names_seen_new(&run->dest->abilities);
    g_autoptr(GByteArray) attrs = run->sidecar ? g_byte_array_new() : NULL;
    g_autofree char *target = run->sidecar ? g_malloc(PATH_MAX + 1) : NULL;
    visit.src_fd = src_fd;
    visit.dst_fd = dst_fd;
    visit.scratch = scratch;
    visit.subdirs = subdirs;
    visit.subdir_records = subdir_records;
    visit.names_seen = names_seen;
    visit.attrs = attrs;
    visit.target = target;
    return visit_opened(&visit, error);
}
