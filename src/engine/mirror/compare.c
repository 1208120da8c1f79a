#include "engine/mirror/compare.h"

#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "engine/mirror/compare_dir.h"
#include "engine/mirror/links.h"

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
    GString *name, *message;
    Found pending_new; /* the directory that is entered next */
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

static gboolean handle_entry(Emitter *emitter, const Found *found, GError **error)
{
    PlanTotals *totals = emitter->totals;
    PlanEntry entry = {.path = path_of(emitter, found->name),
                       .want = found->want,
                       .have_ino = found->have_ino,
                       .have_mode = found->have_mode};
    LinksDecision decision = links_decide(emitter->links, entry.path, found, &entry.target);
    if (decision == LINKS_KEEP && found->verdict == VERDICT_SAME) {
        totals->unchanged++;
        return TRUE;
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

static void handle_warning(Emitter *emitter, const Found *found)
{
    MirrorRun *run = emitter->run;
    const char *path = path_of(emitter, found->name);
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
    if (!compare_found_decode(data, length, &found, emitter->name, emitter->message, error))
        return FALSE;
    switch (found.kind) {
    case FOUND_SELF:
        top(emitter)->self = found;
        top(emitter)->seen_self = TRUE;
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

gboolean compare_plan(MirrorRun *run, Plan *plan, gboolean items, PlanTotals *totals, GError **error)
{
    *totals = (PlanTotals){0};
    g_autoptr(Links) links = links_new(run->options->hard_links);
    g_autoptr(GArray) levels = g_array_new(FALSE, FALSE, sizeof(Level));
    g_autoptr(GString) path = g_string_new(NULL);
    g_autoptr(GString) name = g_string_new(NULL);
    g_autoptr(GString) message = g_string_new(NULL);
    Emitter emitter = {.run = run,
                       .plan = plan,
                       .totals = totals,
                       .links = links,
                       .items = items,
                       .levels = levels,
                       .path = path,
                       .name = name,
                       .message = message};
    WalkFuncs funcs = {.visit = compare_visit,
                       .record = emit_record,
                       .enter = enter_directory,
                       .leave = leave_directory,
                       .visit_data = run,
                       .user_data = &emitter};
    int temp_fd = run->options->dry_run ? -1 : run->dest->state_fd;
    return walk_run(run->jobs, COMPARE_PAIR, temp_fd, &funcs, run->cancel, error) && plan_finish(plan, error);
}
