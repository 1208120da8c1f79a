#include "engine/mirror/prepare.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "fs/dir.h"

/* An open directory that is kept while entries of it come. */
typedef struct {
    AutoFd fd;
    char *path; /* NULL: none */
} Parent;

typedef struct {
    MirrorRun *run;
    int tree_fd;
    JournalWriter *writer;
    GPtrArray *unproven;
    Parent staged, source;
} Prepare;

/* Opens path's parent below root_fd unless it is the one that is open. Returns the last component, NULL if the parent
 * is not there. */
static const char *open_parent(Parent *parent, int root_fd, const char *path)
{
    const char *slash = strrchr(path, '/');
    gsize length = slash != NULL ? (gsize)(slash - path) : 0;
    if (parent->path == NULL || strlen(parent->path) != length || memcmp(parent->path, path, length) != 0) {
        fd_clear(&parent->fd);
        g_free(parent->path);
        parent->path = g_strndup(path, length);
        parent->fd = dir_open(root_fd, parent->path, NULL);
    }
    if (parent->fd < 0)
        return NULL;
    return slash != NULL ? slash + 1 : path;
}

/* The source's attributes of an entry; NULL (with a warning if they cannot be read) if there is nothing to apply. */
static const Attrs *read_attrs(Prepare *prepare, const PlanEntry *entry)
{
    MirrorRun *run = prepare->run;
    const char *source_path = NULL;
    guint source = run_source_of(run, entry->path, &source_path);
    if ((!run->filter.acls && !run->filter.xattrs) || source == G_MAXUINT)
        return NULL;
    g_autoptr(GError) local = NULL;
    int root_fd = run_source_fd(run, source);
    const char *name = "";
    int fd = root_fd;
    if (source_path[0] != '\0') {
        if (run->sources > 1) {
            /* Parents of different sources may have the same path. */
            fd_clear(&prepare->source.fd);
            g_clear_pointer(&prepare->source.path, g_free);
        }
        name = open_parent(&prepare->source, root_fd, source_path);
        fd = prepare->source.fd;
    }
    if (name == NULL)
        return NULL;
    const Attrs *attrs = attrs_read(fd, name, -1, &run->filter, &local);
    if (attrs == NULL && !error_is(local, BACKAPP_ERROR_NOT_FOUND))
        run_warn(run, "metadata", entry->path, local->message);
    return attrs;
}

static gboolean put_with_attrs(Prepare *prepare, JournalRecord *record, const PlanEntry *entry, gboolean wanted,
                               GError **error)
{
    const Attrs *attrs ATTRS_AUTO = wanted ? read_attrs(prepare, entry) : NULL;
    record->with_attrs = attrs != NULL;
    record->attrs = attrs;
    record->meta = entry->want;
    return journal_put(prepare->writer, record, error);
}

/* The records of what is rewritten in place or goes away must not be taken for damage or loss later. */
static void forget_proofs(Prepare *prepare, const char *path)
{
    g_ptr_array_add(prepare->unproven, g_strdup(path));
}

/* A staged file, link or topmost new directory. */
static gboolean put_staged(Prepare *prepare, const PlanEntry *entry, GError **error)
{
    const char *name = open_parent(&prepare->staged, prepare->tree_fd, entry->path);
    FileMeta staged;
    if (name == NULL || !meta_read(prepare->staged.fd, name, &staged, NULL))
        return TRUE; /* a warning said why it is not there */
    JournalRecord record = {.op = JOURNAL_PLACE,
                            .path = entry->path,
                            .staged_ino = staged.ino,
                            .have_ino = entry->have_ino,
                            .have_mode = entry->have_mode,
                            .meta = entry->want};
    if (S_ISDIR(entry->have_mode) || (entry->have_mode != 0 && !prepare->run->dest->abilities.stable_inodes))
        forget_proofs(prepare, entry->path);
    if (entry->op != PLAN_FILE || (entry->flags & PLAN_PATCH) == 0)
        return journal_put(prepare->writer, &record, error);
    record.op = JOURNAL_PATCH;
    forget_proofs(prepare, entry->path);
    return put_with_attrs(prepare, &record, entry, TRUE, error);
}

/* Setting the owner, even to what it is, drops security.capability of a file: then it has to be set again. */
static gboolean needs_attrs(const PlanEntry *entry)
{
    return (entry->flags & PLAN_ATTRS) != 0 || (S_ISREG(entry->want.mode) && geteuid() == 0);
}

static gboolean put_entry(Prepare *prepare, const PlanEntry *entry, GError **error)
{
    if ((entry->flags & PLAN_IN_NEW) != 0)
        return TRUE;
    JournalRecord record = {.path = entry->path, .have_ino = entry->have_ino, .have_mode = entry->have_mode};
    switch (entry->op) {
    case PLAN_FILE:
    case PLAN_LINK:
    case PLAN_DIR_NEW:
        return put_staged(prepare, entry, error);
    case PLAN_DIR_END:
        record.op = JOURNAL_DIR;
        return put_with_attrs(prepare, &record, entry, TRUE, error);
    case PLAN_DIR_TOUCH:
        record.op = JOURNAL_DIR;
        return put_with_attrs(prepare, &record, entry, (entry->flags & PLAN_ATTRS) != 0, error);
    case PLAN_META:
        record.op = JOURNAL_META;
        return put_with_attrs(prepare, &record, entry, needs_attrs(entry), error);
    case PLAN_REMOVE:
        record.op = JOURNAL_REMOVE;
        forget_proofs(prepare, entry->path);
        return journal_put(prepare->writer, &record, error);
    case PLAN_RECORD:
        return TRUE; /* it is in sidecar.new, which goes with the journal as a whole */
    default:
        return error_set(error, BACKAPP_ERROR_INTERNAL, "the plan has an unknown entry");
    }
}

static void parent_clear(Parent *parent)
{
    fd_clear(&parent->fd);
    g_clear_pointer(&parent->path, g_free);
}

gboolean prepare_journal(MirrorRun *run, Plan *plan, int tree_fd, JournalWriter *writer, GPtrArray *unproven,
                         GError **error)
{
    Prepare prepare = {.run = run,
                       .tree_fd = tree_fd,
                       .writer = writer,
                       .unproven = unproven,
                       .staged = {.fd = -1},
                       .source = {.fd = -1}};
    g_autoptr(PlanReader) reader = plan_reader_new(plan);
    PlanEntry entry;
    int got = 0;
    gboolean good = TRUE;
    while (good && (got = plan_reader_next(reader, &entry, error)) > 0)
        good = cancel_check(run->cancel, error) && put_entry(&prepare, &entry, error);
    parent_clear(&prepare.staged);
    parent_clear(&prepare.source);
    return good && got >= 0;
}
