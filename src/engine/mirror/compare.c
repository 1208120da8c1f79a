#include "engine/mirror/compare.h"

#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "engine/mirror/compare_dir.h"
#include "engine/mirror/links.h"
#include "engine/mirror/sidecar_merge.h"

#define PATCH_MIN_SIZE (1024 * 1024)

/* A directory whose records are coming in. */
typedef struct {
    gboolean is_new;
    gboolean seen_self; /* it could be opened */
    gboolean touched;   /* a name in it comes, goes or is replaced, so its mtime has to be set again */
    Found self;
} Level;

typedef struct {
    MirrorRun *run;
    Plan *plan;
    PlanTotals *totals;
    Links *links;
    gboolean items;
    GArray *levels;
    GString *path; /* of the entry being handled */
    gsize base;    /* length of the current directory's path in it */
    GString *name, *message, *target;
    Found pending_new;     /* the directory that is entered next */
    SidecarMerge *merge;   /* NULL where there is no sidecar */
    guint64 without_proof; /* entries of which no sidecar tells whether they changed */
} Emitter;

static Level *top(Emitter *emitter)
{
    return &g_array_index(emitter->levels, Level, emitter->levels->len - 1);
}

/* The path of a name in the current directory. */
static const char *path_of(Emitter *emitter, const char *name)
{
    g_string_truncate(emitter->path, emitter->base);
    if (name[0] != '\0') {
        if (emitter->base > 0)
            g_string_append_c(emitter->path, '/');
        g_string_append(emitter->path, name);
    }
    return emitter->path->str;
}

static void show(Emitter *emitter, const char *action, guint32 mode, const PlanEntry *entry)
{
    RunSink *sink = emitter->run->sink;
    if (!emitter->items || sink->item == NULL)
        return;
    RunItem item = {.action = action,
                    .kind = meta_kind(mode),
                    .path = entry->path[0] != '\0' ? entry->path : ".",
                    .bytes = entry->bytes,
                    .files = entry->files};
    sink->item(sink, &item);
}

static gboolean add(Emitter *emitter, PlanEntry *entry, GError **error)
{
    const char *rest = NULL;
    guint source = run_source_of(emitter->run, entry->path, &rest);
    entry->source = source == G_MAXUINT ? 0 : source;
    if (emitter->levels->len > 0 && top(emitter)->is_new)
        entry->flags |= PLAN_IN_NEW;
    return plan_add(emitter->plan, entry, error);
}

/* What is displaced together with the name counts as deleted if it was a directory. */
static void count_displaced(Emitter *emitter, const Found *found)
{
    if (S_ISDIR(found->have_mode)) {
        emitter->totals->deleted += found->files > 0 ? found->files - 1 : 0;
        emitter->totals->deleted_files += found->gone_files;
    }
}

static gboolean may_be_patched(const Emitter *emitter, const Found *found)
{
    const MirrorOptions *options = emitter->run->options;
    gboolean versions = options->keep_versions_days > 0 || options->keep_versions_count > 0;
    return options->inplace && !versions && found->verdict == VERDICT_REPLACE && S_ISREG(found->want.mode) &&
           S_ISREG(found->have_mode) && found->have_nlink == 1 && found->want.nlink == 1 &&
           found->want.size >= PATCH_MIN_SIZE && found->have_size >= PATCH_MIN_SIZE;
}

/* Whole blocks; holes and, roughly, compression of the source are left out. */
static guint64 space_on_disk(const Found *found)
{
    if (!S_ISREG(found->want.mode))
        return 0;
    guint64 rounded = (found->want.size + 4095) / 4096 * 4096;
    return MIN(rounded, MAX(found->want.blocks, 8) * 512);
}

static gboolean add_copy(Emitter *emitter, const Found *found, PlanEntry *entry, GError **error)
{
    entry->op = PLAN_FILE;
    entry->bytes = S_ISREG(found->want.mode) ? found->want.size : 0;
    if (may_be_patched(emitter, found))
        entry->flags |= PLAN_PATCH;
    emitter->totals->copy_files++;
    emitter->totals->copy_bytes += entry->bytes;
    emitter->totals->copy_space += space_on_disk(found);
    emitter->totals->new_inodes++;
    show(emitter, found->have_mode == 0 ? "create" : "update", found->want.mode, entry);
    return add(emitter, entry, error);
}

/* Only the sidecar changes. */
static gboolean add_record(Emitter *emitter, const char *action, PlanEntry *entry, GError **error)
{
    entry->op = PLAN_RECORD;
    show(emitter, action, entry->want.mode, entry);
    return add(emitter, entry, error);
}

/* What can only be a record at the destination: *state is what there is of it. */
static gboolean handle_record(Emitter *emitter, const Found *found, PlanEntry *entry, SidecarState state,
                              GError **error)
{
    PlanTotals *totals = emitter->totals;
    if (found->have_mode == 0 && state == SIDECAR_SAME) {
        totals->unchanged++;
        return TRUE;
    }
    if (found->have_mode == 0 && state != SIDECAR_DIFFERS) {
        totals->created++;
        return add_record(emitter, "create", entry, error);
    }
    totals->changed++;
    if (found->have_mode == 0)
        return add_record(emitter, "update", entry, error);
    /* Something else has the name: it makes way. */
    top(emitter)->touched = TRUE;
    count_displaced(emitter, found);
    show(emitter, "update", found->want.mode, entry);
    entry->op = PLAN_REMOVE;
    entry->files = MAX(found->files, 1);
    return add(emitter, entry, error);
}

/* Tells the sidecar of an entry. A file whose content may differ though its size and coarse time do not is copied. */
static gboolean put_record(Emitter *emitter, Found *found, const char *path, SidecarState *state, GError **error)
{
    const MirrorOptions *options = emitter->run->options;
    gboolean linked = options->hard_links && !S_ISDIR(found->want.mode) &&
                      (found->record_only || !emitter->run->dest->abilities.hard_links);
    SidecarRecord record = {.path = path,
                            .meta = found->want,
                            .target = found->target,
                            .link = linked ? links_first_name(emitter->links, path, &found->want) : NULL};
    gboolean stale = FALSE;
    if (S_ISDIR(found->have_mode) && !S_ISDIR(found->want.mode))
        sidecar_merge_remove(emitter->merge, path);
    if (!sidecar_merge_put(emitter->merge, &record, found->encoded, found->encoded_length, state, &stale, error))
        return FALSE;
    gboolean there = found->verdict == VERDICT_SAME || found->verdict == VERDICT_META;
    if (*state == SIDECAR_UNKNOWN && there)
        emitter->without_proof++;
    gboolean unproven = stale || (found->odd_time && *state != SIDECAR_SAME && S_ISREG(found->want.mode));
    if (unproven && there && !options->checksum)
        found->verdict = VERDICT_REPLACE;
    return TRUE;
}

static gboolean handle_entry(Emitter *emitter, Found *found, GError **error)
{
    PlanTotals *totals = emitter->totals;
    SidecarState state = SIDECAR_SAME;
    PlanEntry entry = {.path = path_of(emitter, found->name),
                       .want = found->want,
                       .have_ino = found->have_ino,
                       .have_mode = found->have_mode};
    if (emitter->merge != NULL && !put_record(emitter, found, entry.path, &state, error))
        return FALSE;
    if (found->record_only)
        return handle_record(emitter, found, &entry, state, error);
    LinksDecision decision = links_decide(emitter->links, entry.path, found, &entry.target);
    if (decision == LINKS_KEEP && found->verdict == VERDICT_SAME) {
        if (state == SIDECAR_SAME || state == SIDECAR_UNKNOWN) {
            totals->unchanged++;
            return TRUE;
        }
        totals->changed++;
        totals->metadata_changed++;
        return add_record(emitter, "metadata", &entry, error);
    }
    if (decision == LINKS_KEEP) {
        entry.op = PLAN_META;
        entry.flags = found->attrs ? PLAN_ATTRS : 0;
        totals->changed++;
        totals->metadata_changed++;
        show(emitter, "metadata", found->want.mode, &entry);
        return add(emitter, &entry, error);
    }
    top(emitter)->touched = TRUE;
    count_displaced(emitter, found);
    if (found->have_mode == 0)
        totals->created++;
    else
        totals->changed++;
    if (decision == LINKS_COPY)
        return add_copy(emitter, found, &entry, error);
    entry.op = PLAN_LINK;
    show(emitter, "link", found->want.mode, &entry);
    return add(emitter, &entry, error);
}

static gboolean handle_remove(Emitter *emitter, const Found *found, GError **error)
{
    PlanEntry entry = {.op = PLAN_REMOVE,
                       .path = path_of(emitter, found->name),
                       .have_ino = found->have_ino,
                       .have_mode = found->have_mode,
                       .files = found->files,
                       .bytes = found->bytes};
    if (emitter->merge != NULL)
        sidecar_merge_remove(emitter->merge, entry.path);
    top(emitter)->touched = TRUE;
    emitter->totals->deleted += found->files;
    emitter->totals->deleted_files += found->gone_files;
    show(emitter, "delete", found->have_mode, &entry);
    return add(emitter, &entry, error);
}

static gboolean handle_new_dir(Emitter *emitter, const Found *found, GError **error)
{
    PlanEntry entry = {.op = PLAN_DIR_NEW,
                       .path = path_of(emitter, found->name),
                       .want = found->want,
                       .have_ino = found->have_ino,
                       .have_mode = found->have_mode};
    emitter->pending_new = *found;
    top(emitter)->touched = TRUE;
    if (found->have_mode == 0)
        emitter->totals->created++;
    else
        emitter->totals->changed++;
    emitter->totals->new_inodes++;
    show(emitter, found->have_mode == 0 ? "create" : "update", found->want.mode, &entry);
    return add(emitter, &entry, error);
}

/* A directory's own record. Times of a file system's root are not kept by some. */
static gboolean handle_self(Emitter *emitter, Found *found, GError **error)
{
    Level *level = top(emitter);
    const char *path = path_of(emitter, "");
    SidecarState state = SIDECAR_SAME;
    level->seen_self = TRUE;
    level->self = *found;
    if (emitter->merge == NULL || (path[0] == '\0' && emitter->run->sources > 1))
        return TRUE;
    if (!put_record(emitter, found, path, &state, error))
        return FALSE;
    if (state == SIDECAR_DIFFERS || state == SIDECAR_ABSENT)
        level->self.changed = TRUE;
    else if (state == SIDECAR_SAME && path[0] == '\0')
        level->self.changed = FALSE;
    return TRUE;
}

/* There was only a record of it. */
static gboolean handle_gone(const char *path, guint32 mode, gboolean whole, gpointer user_data, GError **error)
{
    Emitter *emitter = user_data;
    PlanEntry entry = {.op = PLAN_RECORD, .path = path, .files = 1};
    emitter->totals->deleted++;
    emitter->totals->deleted_files++;
    if (whole)
        return TRUE;
    show(emitter, "delete", mode, &entry);
    return add(emitter, &entry, error);
}

static void handle_warning(Emitter *emitter, const Found *found)
{
    MirrorRun *run = emitter->run;
    const char *path = path_of(emitter, found->name);
    if (emitter->merge != NULL && !g_str_equal(found->code, "metadata"))
        sidecar_merge_keep(emitter->merge, path);
    if (g_str_equal(found->code, "vanished"))
        run_warn_vanished(run, path);
    else if (g_str_equal(found->code, "unreadable"))
        run_warn_unreadable(run, path, found->message);
    else if (g_str_equal(found->code, "skipped"))
        run_warn_skipped(run, path, found->message, FALSE);
    else if (g_str_equal(found->code, "skipped-partial"))
        run_warn_skipped(run, path, found->message, TRUE);
    else
        run_warn(run, found->code, path, found->message);
}

static gboolean emit_record(const guint8 *data, gsize length, gpointer user_data, GError **error)
{
    Emitter *emitter = user_data;
    PlanTotals *totals = emitter->totals;
    Found found;
    if (!compare_found_decode(data, length, &found, emitter->name, emitter->message, emitter->target, error))
        return FALSE;
    switch (found.kind) {
    case FOUND_SELF:
        return handle_self(emitter, &found, error);
    case FOUND_SUBDIR:
        return sidecar_merge_directory(emitter->merge, path_of(emitter, found.name), error);
    case FOUND_LEFT:
        sidecar_merge_keep(emitter->merge, path_of(emitter, found.name));
        return TRUE;
    case FOUND_ENTRY:
        return handle_entry(emitter, &found, error);
    case FOUND_DIR_NEW:
        return handle_new_dir(emitter, &found, error);
    case FOUND_REMOVE:
        return handle_remove(emitter, &found, error);
    case FOUND_WARNING:
        handle_warning(emitter, &found);
        return TRUE;
    case FOUND_COUNTS:
        totals->unchanged += found.unchanged;
        totals->files_total += found.files_total;
        totals->bytes_total += found.bytes_total;
        totals->dest_files += found.dest_files;
        run_progress(emitter->run, found.files_total, found.bytes_total, path_of(emitter, ""));
        return TRUE;
    default:
        return error_set(error, BACKAPP_ERROR_INTERNAL, "compare: unknown record %d", (int)found.kind);
    }
}

static gboolean enter_directory(const char *path, guint tag, gpointer user_data, GError **error)
{
    Emitter *emitter = user_data;
    Level level = {.is_new = (tag & COMPARE_NEW) != 0};
    if (level.is_new)
        level.self = emitter->pending_new;
    g_array_append_val(emitter->levels, level);
    if (emitter->merge != NULL && (tag & COMPARE_STOP) != 0)
        sidecar_merge_keep(emitter->merge, path);
    g_string_assign(emitter->path, path);
    emitter->base = emitter->path->len;
    return TRUE;
}

/* The root of several sources is only a place for their folders: its own metadata is not theirs. */
static gboolean is_bare_root(const Emitter *emitter, const char *path)
{
    return path[0] == '\0' && emitter->run->sources > 1;
}

static gboolean leave_directory(const char *path, guint tag, gpointer user_data, GError **error)
{
    Emitter *emitter = user_data;
    Level level = *top(emitter);
    g_array_set_size(emitter->levels, emitter->levels->len - 1);
    const char *slash = strrchr(path, '/');
    gsize parent = slash != NULL ? (gsize)(slash - path) : 0;
    PlanEntry entry = {.path = path, .want = level.self.want, .have_ino = level.self.have_ino};
    gboolean good = TRUE;
    if (level.is_new) {
        entry.op = PLAN_DIR_END;
        good = add(emitter, &entry, error);
    } else if (level.seen_self && !is_bare_root(emitter, path)) {
        entry.have_mode = level.self.have_mode;
        gboolean changed = level.self.changed || level.self.have_mode == 0;
        if (changed) {
            emitter->totals->changed++;
            emitter->totals->metadata_changed++;
            show(emitter, "metadata", S_IFDIR, &entry);
        } else if (path[0] != '\0') {
            emitter->totals->unchanged++;
        }
        if (changed || level.touched) {
            entry.op = PLAN_DIR_TOUCH;
            entry.flags =
                (level.self.attrs || level.self.have_mode == 0 ? PLAN_ATTRS : 0U) | (changed ? PLAN_CHANGED : 0U);
            good = add(emitter, &entry, error);
        }
    }
    g_string_truncate(emitter->path, 0);
    g_string_append_len(emitter->path, path, (gssize)parent);
    emitter->base = parent;
    return good;
}

/* The rest of the sidecar. The plan has to say that it changes even if nothing else does. */
static gboolean finish_sidecar(Emitter *emitter, GError **error)
{
    MirrorRun *run = emitter->run;
    gboolean changed = FALSE;
    if (emitter->merge == NULL)
        return TRUE;
    if (!sidecar_merge_finish(emitter->merge, &changed, error))
        return FALSE;
    emitter->totals->dest_files += sidecar_merge_only_records(emitter->merge);
    if (emitter->without_proof > 0)
        run_warn(run, "note", NULL,
                 "the sidecar with what the destination's file system cannot hold is not there or not whole: it is "
                 "written anew from the sources");
    run->sidecar_new = changed && !run->options->dry_run;
    PlanEntry entry = {.op = PLAN_RECORD, .path = ""};
    return !changed || plan_add(emitter->plan, &entry, error);
}

static gboolean walk_and_finish(Emitter *emitter, GError **error)
{
    MirrorRun *run = emitter->run;
    WalkFuncs funcs = {.visit = compare_visit,
                       .record = emit_record,
                       .enter = enter_directory,
                       .leave = leave_directory,
                       .visit_data = run,
                       .user_data = emitter};
    int temp_fd = run->options->dry_run ? -1 : run->dest->state_fd;
    return walk_run(run->jobs, COMPARE_PAIR, temp_fd, &funcs, run->cancel, error) && finish_sidecar(emitter, error) &&
           plan_finish(emitter->plan, error);
}

gboolean compare_plan(MirrorRun *run, Plan *plan, gboolean items, PlanTotals *totals, GError **error)
{
    *totals = (PlanTotals){0};
    /* Where names cannot share a file each has its own, and the sidecar says that they belong together. */
    g_autoptr(Links) links = links_new(run->options->hard_links && (!run->sidecar || run->dest->abilities.hard_links));
    g_autoptr(GArray) levels = g_array_new(FALSE, FALSE, sizeof(Level));
    g_autoptr(GString) path = g_string_new(NULL);
    g_autoptr(GString) name = g_string_new(NULL);
    g_autoptr(GString) message = g_string_new(NULL);
    g_autoptr(GString) target = g_string_new(NULL);
    Emitter emitter = {.run = run,
                       .plan = plan,
                       .totals = totals,
                       .links = links,
                       .items = items,
                       .levels = levels,
                       .path = path,
                       .name = name,
                       .message = message,
                       .target = target};
    g_autoptr(SidecarMerge) merge = run->sidecar ? sidecar_merge_new(run, handle_gone, &emitter, error) : NULL;
    if (run->sidecar && merge == NULL)
        return FALSE;
    emitter.merge = merge;
    return walk_and_finish(&emitter, error);
}
