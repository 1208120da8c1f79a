#include "engine/restore/plan.h"

#include "base/error.h"
#include "base/human.h"
#include "engine/restore/existing.h"
#include "engine/restore/selection.h"
#include "engine/source/names.h"
#include "fs/dir.h"
#include "fs/remove.h"
#include "fs/spool.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define HEAD_BYTES 3
/* Longer than the longest path, which it may hold. */
#define PLACE_BYTES_MAX (16 * 1024 * 1024)

struct RestorePlan {
    Spool *spool;
};

struct RestorePlanReader {
    SpoolReader *reader;
    GByteArray *arena;
};

/* A folder of the point whose entries are being looked at; with deletion, what it holds is remembered to see what else the
 * target has there. */
typedef struct {
    char *path;
    GHashTable *names; /* of char *; NULL: nothing is deleted here */
} Folder;

typedef struct {
    RestoreRun *run;
    RestorePlan *plan;
    RestoreTotals *totals;
    Selection *selection;
    GArray *folders; /* of Folder: from the root down to the one at hand */
    int dir_fd;      /* of dir_path in the target; -1: it is not there */
    char *dir_path;  /* NULL: none is open */
    GByteArray *record;
    GString *left; /* a subtree that stays out, because something else stays in its place; "" none */
    /* First names of hard-linked files that were not asked for, and which of the further names stands for them. */
    GHashTable *stand_ins;
    /* Inodes in the target that have several names and stay: for each the name that the point has for it. */
    GHashTable *claims;
} Maker;

static void clear_folder(gpointer data)
{
    Folder *folder = data;
    g_free(folder->path);
    g_clear_pointer(&folder->names, g_hash_table_unref);
}

static void maker_clear(Maker *maker)
{
    g_clear_pointer(&maker->selection, selection_free);
    g_clear_pointer(&maker->folders, g_array_unref);
    fd_clear(&maker->dir_fd);
    g_free(maker->dir_path);
    g_clear_pointer(&maker->record, g_byte_array_unref);
    if (maker->left)
        g_string_free(maker->left, TRUE);
    g_clear_pointer(&maker->stand_ins, g_hash_table_unref);
    g_clear_pointer(&maker->claims, g_hash_table_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Maker, maker_clear)

static const char *op_action(const RestoreItem *item)
{
    switch (item->op) {
    case RESTORE_DELETE:
        return "delete";
    case RESTORE_META:
        return "metadata";
    case RESTORE_LINK:
        return "link";
    case RESTORE_DIR:
    case RESTORE_PARENT:
        return item->exists ? "metadata" : "create";
    case RESTORE_FILE:
    case RESTORE_OTHER:
        break;
    }
    return item->exists ? "update" : "create";
}

static void show(const Maker *maker, const RestoreItem *item)
{
    RunSink *sink = maker->run->options->sink;
    if (!sink->item || item->op == RESTORE_PARENT || (item->op == RESTORE_DIR && item->exists))
        return;
    RunItem shown = {.action = op_action(item),
                     .kind = meta_kind(item->entry.meta.mode),
                     .path = item->entry.path,
                     .bytes = item->op == RESTORE_FILE ? item->entry.meta.size : 0,
                     .files = item->entries};
    sink->item(sink, &shown);
}

void restore_item_encode(const RestoreItem *item, GByteArray *out)
{
    const guint8 head[HEAD_BYTES] = {(guint8)item->op, item->exists ? 1 : 0, item->aside ? 1 : 0};
    g_byte_array_append(out, head, sizeof head);
    bytes_put_blob(out, item->place, item->place_length);
    entry_encode(&item->entry, "", out);
}

gboolean restore_item_decode(const guint8 *data, gsize length, GByteArray *arena, RestoreItem *item, GError **error)
{
    if (length < HEAD_BYTES)
        return error_set(error, BACKAPP_ERROR_INTERNAL, "the plan is damaged");
    *item = (RestoreItem){.op = (RestoreOp)data[0], .exists = data[1] != 0, .aside = data[2] != 0};
    BytesReader in = bytes_reader(data + HEAD_BYTES, length - HEAD_BYTES);
    item->place = bytes_get_blob(&in, PLACE_BYTES_MAX, &item->place_length);
    g_byte_array_set_size(arena, 0);
    return entry_decode(&in, "", arena, &item->entry, error);
}

static gboolean put(Maker *maker, const RestoreItem *item, GError **error)
{
    g_byte_array_set_size(maker->record, 0);
    restore_item_encode(item, maker->record);
    show(maker, item);
    return spool_put(maker->plan->spool, maker->record->data, maker->record->len, error);
}

/* Counts what goes with `name`, which is not in the point. */
static gboolean count_deletes(Maker *maker, int dir_fd, const char *name, guint64 *entries, GError **error)
{
    if (!remove_count(dir_fd, name, maker->run->options->cancel, entries, error))
        return FALSE;
    maker->totals->deletes += *entries;
    maker->totals->present += *entries;
    return TRUE;
}

/* The names of the target's folder that the point does not have there. */
static gboolean find_extraneous(Maker *maker, const Folder *folder, GError **error)
{
    if (maker->run->root_fd < 0)
        return TRUE;
    g_autoptr(GError) local = NULL;
    g_auto(AutoFd) fd = dir_open(maker->run->root_fd, folder->path, &local);
    if (fd < 0) {
        if (error_is(local, BACKAPP_ERROR_NOT_FOUND) || error_is(local, BACKAPP_ERROR_CONFLICT))
            return TRUE;
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    g_auto(DirNames) names = {0};
    if (!dir_names_read(fd, &names, maker->run->options->cancel, error))
        return FALSE;
    for (guint i = 0; i < dir_names_count(&names); i++) {
        const char *name = dir_names_get(&names, i);
        /* What no backup ever holds is not missing from it. */
        if (g_hash_table_contains(folder->names, name) || (!*folder->path && names_is_own_root(name))) {
            maker->totals->present++;
            continue;
        }
        g_autofree char *path = *folder->path ? g_strconcat(folder->path, "/", name, NULL) : g_strdup(name);
        RestoreItem item = {.op = RESTORE_DELETE, .exists = TRUE, .entry = {.path = path}};
        FileMeta meta;
        if (meta_read(fd, name, &meta, NULL))
            item.entry.meta.mode = meta.mode;
        maker->totals->delete_items++;
        if (!count_deletes(maker, fd, name, &item.entries, error) || !put(maker, &item, error))
            return FALSE;
    }
    return TRUE;
}

/* Leaves folders until the one at hand holds `path`. */
static gboolean leave_folders(Maker *maker, const char *path, GError **error)
{
    while (maker->folders->len > 0) {
        const Folder *last = &g_array_index(maker->folders, Folder, maker->folders->len - 1);
        if (path && selection_is_below(path, last->path) && strcmp(path, last->path) != 0)
            return TRUE;
        if (last->names && !find_extraneous(maker, last, error))
            return FALSE;
        g_array_set_size(maker->folders, maker->folders->len - 1);
    }
    return TRUE;
}

static void enter_folder(Maker *maker, const char *path, gboolean whole)
{
    gboolean remember = whole && maker->run->options->delete_extraneous;
    Folder folder = {.path = g_strdup(path),
                     .names = remember ? g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL) : NULL};
    g_array_append_val(maker->folders, folder);
}

/* Opens the target's folder of `path` unless it is open, and points *base at the last component. The descriptor stays the
 * maker's; -1 in *dir_fd if there is no such folder. */
static gboolean open_folder(Maker *maker, const char *path, int *dir_fd, const char **base, GError **error)
{
    const char *slash = strrchr(path, '/');
    g_autofree char *parent = slash ? g_strndup(path, (gsize)(slash - path)) : g_strdup("");
    *base = slash ? slash + 1 : path;
    if (!maker->dir_path || strcmp(maker->dir_path, parent) != 0) {
        g_autoptr(GError) local = NULL;
        fd_clear(&maker->dir_fd);
        g_free(maker->dir_path);
        maker->dir_path = g_strdup(parent);
        maker->dir_fd = maker->run->root_fd < 0 ? -1 : dir_open(maker->run->root_fd, parent, &local);
        if (local && !error_is(local, BACKAPP_ERROR_NOT_FOUND) && !error_is(local, BACKAPP_ERROR_CONFLICT)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
    }
    *dir_fd = maker->dir_fd;
    return TRUE;
}

static gboolean stays(Existing existing)
{
    return existing == EXISTING_RIGHT || existing == EXISTING_META;
}

/* The inode that a further name has to have: the first one's, if that stays as it is; else 0, which none is. */
static gboolean first_inode(Maker *maker, const S3Entry *entry, const char *link, guint64 *inode, GError **error)
{
    const char *base;
    FileMeta have;
    Existing existing = EXISTING_NONE;
    *inode = 0;
    g_auto(AutoFd) fd = maker->run->root_fd < 0 ? -1 : dir_open_parent(maker->run->root_fd, link, &base, NULL);
    if (fd >= 0 && !existing_compare(maker->run, fd, base, entry, NULL, &existing, &have, error))
        return FALSE;
    if (stays(existing))
        *inode = have.ino;
    return TRUE;
}

/* FALSE if the inode belongs to another file of the point: these two were linked once and are not any more. */
static gboolean claim(Maker *maker, const FileMeta *have, const char *first)
{
    if (have->nlink < 2 || S_ISDIR(have->mode))
        return TRUE;
    const char *owner = g_hash_table_lookup(maker->claims, &have->ino);
    if (!owner)
        g_hash_table_insert(maker->claims, g_memdup2(&have->ino, sizeof have->ino), g_strdup(first));
    return !owner || strcmp(owner, first) == 0;
}

/* What is there of an entry, and what follows from it. */
static gboolean look(Maker *maker, const S3Entry *entry, const char *link, Existing *existing, GError **error)
{
    const char *base;
    int dir_fd;
    guint64 inode = 0;
    FileMeta have;
    *existing = EXISTING_NONE;
    if (!open_folder(maker, entry->path, &dir_fd, &base, error))
        return FALSE;
    if (dir_fd < 0)
        return TRUE;
    if (link && !first_inode(maker, entry, link, &inode, error))
        return FALSE;
    if (!existing_compare(maker->run, dir_fd, base, entry, link ? &inode : NULL, existing, &have, error))
        return FALSE;
    if (stays(*existing) && !claim(maker, &have, link ? link : entry->path))
        *existing = existing_policy(maker->run, entry, &have);
    /* A folder that makes room for something else goes with all below it. */
    guint64 entries;
    return *existing != EXISTING_REPLACE || !S_ISDIR(have.mode) || !maker->run->options->delete_extraneous ||
           count_deletes(maker, dir_fd, base, &entries, error);
}

static void count_total(Maker *maker, const S3Entry *entry)
{
    if (S_ISDIR(entry->meta.mode))
        return;
    maker->totals->files_total++;
    if (S_ISREG(entry->meta.mode))
        maker->totals->bytes_total += entry->meta.size;
}

/* The name that this one is to be linked to; NULL if it is the first of those that are restored. */
static const char *link_of(Maker *maker, const S3Entry *entry)
{
    if (!entry->link || selection_has(maker->selection, entry->link))
        return entry->link;
    const char *other = g_hash_table_lookup(maker->stand_ins, entry->link);
    if (!other)
        g_hash_table_insert(maker->stand_ins, g_strdup(entry->link), g_strdup(entry->path));
    return other;
}

static RestoreOp choose_op(const S3Entry *entry, gboolean linked)
{
    if (S_ISDIR(entry->meta.mode))
        return RESTORE_DIR;
    if (linked)
        return RESTORE_LINK;
    return S_ISREG(entry->meta.mode) ? RESTORE_FILE : RESTORE_OTHER;
}

/* Decides about one entry that was asked for. */
static gboolean plan_entry(Maker *maker, const RestoreEntry *found, gboolean parent, GError **error)
{
    RestoreRun *run = maker->run;
    const S3Entry *entry = &found->entry;
    Existing existing;
    const char *link = link_of(maker, entry);
    if (!look(maker, entry, link, &existing, error))
        return FALSE;
    RestoreItem item = {.op = parent ? RESTORE_PARENT : choose_op(entry, link != NULL),
                        .exists = existing != EXISTING_NONE,
                        .aside = existing == EXISTING_ASIDE,
                        .entry = *entry,
                        .place = found->place,
                        .place_length = found->place_length};
    item.entry.link = link;
    if (!parent)
        count_total(maker, entry);
    switch (existing) {
    case EXISTING_RIGHT:
        atomic_fetch_add(&run->unchanged, 1);
        return TRUE;
    case EXISTING_LEAVE:
        atomic_fetch_add(&run->skipped, 1);
        restore_note(run, entry->path, "differs and was left as it is");
        if (S_ISDIR(entry->meta.mode))
            g_string_assign(maker->left, entry->path);
        return TRUE;
    case EXISTING_META:
        if (!S_ISDIR(entry->meta.mode)) {
            item.op = RESTORE_META;
            atomic_fetch_add(&run->unchanged, 1);
        }
        break;
    case EXISTING_NONE:
    case EXISTING_REPLACE:
    case EXISTING_ASIDE:
        break;
    }
    if (item.op == RESTORE_FILE || item.op == RESTORE_OTHER || item.op == RESTORE_LINK)
        maker->totals->place_files++;
    if (item.op == RESTORE_FILE)
        maker->totals->fetch_bytes += entry->meta.size;
    return put(maker, &item, error);
}

static gboolean take_entry(const RestoreEntry *found, gboolean parent, gpointer user_data, GError **error)
{
    Maker *maker = user_data;
    const S3Entry *entry = &found->entry;
    if (!leave_folders(maker, entry->path, error))
        return FALSE;
    if (maker->left->len > 0 && selection_is_below(entry->path, maker->left->str))
        return TRUE;
    g_string_truncate(maker->left, 0);
    if (maker->folders->len > 0) {
        const Folder *folder = &g_array_index(maker->folders, Folder, maker->folders->len - 1);
        const char *slash = strrchr(entry->path, '/');
        if (folder->names)
            g_hash_table_add(folder->names, g_strdup(slash ? slash + 1 : entry->path));
    }
    if (*entry->path == '\0') {
        /* The target itself. */
        RestoreItem item = {.op = parent ? RESTORE_PARENT : RESTORE_DIR, .exists = TRUE, .entry = *entry};
        if (!put(maker, &item, error))
            return FALSE;
    } else if (!plan_entry(maker, found, parent, error)) {
        return FALSE;
    }
    if (S_ISDIR(entry->meta.mode))
        enter_folder(maker, entry->path, !parent);
    return TRUE;
}

RestorePlan *restore_plan_make(RestoreRun *run, RestoreTotals *totals, GError **error)
{
    g_autoptr(RestorePlan) plan = g_new0(RestorePlan, 1);
    *totals = (RestoreTotals){0};
    plan->spool = spool_new(-1, error);
    if (!plan->spool)
        return NULL;
    g_auto(Maker) maker = {.run = run, .plan = plan, .totals = totals, .dir_fd = -1};
    maker.selection = selection_new(run->options->paths);
    maker.folders = g_array_new(FALSE, TRUE, sizeof(Folder));
    g_array_set_clear_func(maker.folders, clear_folder);
    maker.record = g_byte_array_new();
    maker.left = g_string_new(NULL);
    maker.claims = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    maker.stand_ins = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    if (!selection_each(maker.selection, run->source, run->options->cancel, take_entry, &maker, error) ||
        !leave_folders(&maker, NULL, error) || !spool_finish(plan->spool, error))
        return NULL;
    return g_steal_pointer(&plan);
}

RestorePlanReader *restore_plan_read(RestorePlan *plan)
{
    RestorePlanReader *reader = g_new0(RestorePlanReader, 1);
    reader->reader = spool_reader_new(plan->spool);
    reader->arena = g_byte_array_new();
    return reader;
}

int restore_plan_next(RestorePlanReader *reader, RestoreItem *item, GError **error)
{
    const guint8 *data;
    gsize length;
    int more = spool_reader_next(reader->reader, &data, &length, error);
    if (more <= 0)
        return more;
    return restore_item_decode(data, length, reader->arena, item, error) ? 1 : -1;
}

void restore_plan_reader_free(RestorePlanReader *reader)
{
    if (!reader)
        return;
    spool_reader_free(reader->reader);
    g_byte_array_unref(reader->arena);
    g_free(reader);
}

void restore_plan_free(RestorePlan *plan)
{
    if (!plan)
        return;
    spool_free(plan->spool);
    g_free(plan);
}
