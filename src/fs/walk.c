#include "fs/walk.h"

#include "base/bytes.h"
#include "base/error.h"
#include "fs/spool.h"

#include <string.h>

#define RECORD_MAX        (1024 * 1024)
#define IN_MEMORY_MAX     (1024 * 1024)
#define BUFFERED_MAX      (16 * 1024 * 1024)
#define VISITED_AHEAD_MAX 4096
#define WAKE_AHEAD                                                                                                     \
    64 /* visited directories for which the emitter is woken: a switch of threads for each would cost more */

typedef enum { STATE_WAITING, STATE_VISITING, STATE_VISITED } State;

/*
 * A directory. What a visit leaves is a sequence of items: a record, or the next child. A node is linked in `pending`
 * (the directories not yet visited, in depth-first order) until it is visited, and lives until its parent's items are
 * all emitted.
 */
struct WalkDir {
    WalkDir *parent;
    WalkDir *previous, *next; /* in pending */
    WalkDir *first_child, *last_child, *sibling;
    GByteArray *items; /* varint length + 1 and bytes; 0 means "next child" */
    Spool *spill;      /* where the items are if they became too many; one record each, empty means "next child" */
    Walk *walk;
    const char *path; /* during the visit */
    guint tag;
    State state;
    char name[];
};

struct Walk {
    GMutex lock;
    GCond work; /* something became visitable, or the end */
    GCond done; /* the wanted directory was visited, or a failure */
    WalkDir *pending_head;
    WalkDir *wanted; /* what the emitter waits for: may be visited whatever is buffered */
    gsize buffered;  /* bytes of items that wait */
    guint ahead;     /* visited directories that wait */
    guint idle;      /* threads that wait for something to visit */
    gboolean stop;
    GError *error;
    const WalkFuncs *funcs;
    const CancelFlag *cancel;
    int temp_fd;
};

static WalkDir *dir_new(Walk *walk, WalkDir *parent, const char *name, guint tag)
{
    gsize length = strlen(name) + 1;
    WalkDir *dir = g_malloc0(sizeof *dir + length);
    dir->walk = walk;
    dir->parent = parent;
    dir->tag = tag;
    memcpy(dir->name, name, length);
    return dir;
}

static void dir_clear_items(WalkDir *dir)
{
    if (dir->items != NULL) {
        g_byte_array_unref(dir->items);
        dir->items = NULL;
    }
    spool_free(dir->spill);
    dir->spill = NULL;
}

/* Frees a whole subtree without recursion: children are moved in front of what is still to free. */
static void dir_free_tree(WalkDir *dir)
{
    dir->sibling = NULL;
    while (dir != NULL) {
        WalkDir *next = dir->sibling;
        if (dir->first_child != NULL) {
            dir->last_child->sibling = next;
            next = dir->first_child;
        }
        dir_clear_items(dir);
        g_free(dir);
        dir = next;
    }
}

static char *dir_path(const WalkDir *dir)
{
    gsize length = 0;
    for (const WalkDir *d = dir; d->parent != NULL; d = d->parent)
        length += strlen(d->name) + 1;
    if (length == 0)
        return g_strdup("");
    char *path = g_malloc(length);
    gsize at = length;
    for (const WalkDir *d = dir; d->parent != NULL; d = d->parent) {
        gsize n = strlen(d->name);
        path[--at] = d == dir ? '\0' : '/';
        at -= n;
        memcpy(path + at, d->name, n);
    }
    return path;
}

const char *walk_dir_path(WalkDir *dir)
{
    return dir->path;
}

guint walk_dir_tag(WalkDir *dir)
{
    return dir->tag;
}

/* Moves the items from memory to a temporary file once they are too many. */
static gboolean spill_items(WalkDir *dir, GError **error)
{
    dir->spill = spool_new(dir->walk->temp_fd, error);
    if (dir->spill == NULL)
        return FALSE;
    BytesReader in = bytes_reader(dir->items->data, dir->items->len);
    while (in.at < in.end) {
        guint64 length = bytes_get_varint(&in);
        gsize n = length > 0 ? (gsize)(length - 1) : 0;
        if (in.bad || n > (gsize)(in.end - in.at))
            return error_set(error, BACKAPP_ERROR_INTERNAL, "walk: damaged items in memory");
        /* A record is stored with a leading byte, so that an empty one differs from "next child". */
        g_autoptr(GByteArray) copy = g_byte_array_new();
        if (length > 0) {
            g_byte_array_append(copy, (const guint8 *)"r", 1);
            g_byte_array_append(copy, in.at, (guint)n);
        }
        if (!spool_put(dir->spill, copy->data, copy->len, error))
            return FALSE;
        in.at += n;
    }
    g_byte_array_unref(dir->items);
    dir->items = NULL;
    return TRUE;
}

gboolean walk_dir_put(WalkDir *dir, const void *data, gsize length, GError **error)
{
    if (length > RECORD_MAX)
        return error_set(error, BACKAPP_ERROR_INTERNAL, "walk: a record of %zu bytes is too long", length);
    if (dir->spill == NULL) {
        if (dir->items == NULL)
            dir->items = g_byte_array_new();
        bytes_put_varint(dir->items, length + 1);
        g_byte_array_append(dir->items, data, (guint)length);
        return dir->items->len <= IN_MEMORY_MAX || spill_items(dir, error);
    }
    g_autoptr(GByteArray) copy = g_byte_array_sized_new((guint)length + 1);
    g_byte_array_append(copy, (const guint8 *)"r", 1);
    g_byte_array_append(copy, data, (guint)length);
    return spool_put(dir->spill, copy->data, copy->len, error);
}

void walk_dir_child(WalkDir *dir, const char *name, guint tag)
{
    WalkDir *child = dir_new(dir->walk, dir, name, tag);
    if (dir->last_child != NULL)
        dir->last_child->sibling = child;
    else
        dir->first_child = child;
    dir->last_child = child;
    if (dir->spill != NULL) {
        /* A failure shows in spool_finish. */
        spool_put(dir->spill, "", 0, NULL);
        return;
    }
    if (dir->items == NULL)
        dir->items = g_byte_array_new();
    bytes_put_varint(dir->items, 0);
}

static void pending_remove(Walk *walk, WalkDir *dir)
{
    if (dir->previous != NULL)
        dir->previous->next = dir->next;
    else
        walk->pending_head = dir->next;
    if (dir->next != NULL)
        dir->next->previous = dir->previous;
    dir->previous = dir->next = NULL;
}

/* Puts the children of a visited directory where it stood in the order. */
static void pending_replace_by_children(Walk *walk, WalkDir *dir)
{
    WalkDir *after = dir->previous;
    pending_remove(walk, dir);
    for (WalkDir *child = dir->first_child; child != NULL; child = child->sibling) {
        child->previous = after;
        child->next = after != NULL ? after->next : walk->pending_head;
        if (after != NULL)
            after->next = child;
        else
            walk->pending_head = child;
        if (child->next != NULL)
            child->next->previous = child;
        after = child;
    }
}

/* The next directory to visit, or NULL if there is none now. At most as many as there are threads are skipped. */
static WalkDir *next_to_visit(Walk *walk)
{
    if (walk->buffered >= BUFFERED_MAX || walk->ahead >= VISITED_AHEAD_MAX)
        return walk->wanted != NULL && walk->wanted->state == STATE_WAITING ? walk->wanted : NULL;
    WalkDir *dir = walk->pending_head;
    while (dir != NULL && dir->state == STATE_VISITING)
        dir = dir->next;
    return dir;
}

static gsize items_in_memory(const WalkDir *dir)
{
    return dir->items != NULL ? dir->items->len : 0;
}

/* Lets the emitter go on if it can. Called when enough is there for it, and before a thread waits. */
static void wake_emitter(Walk *walk)
{
    if (walk->stop || (walk->wanted != NULL && walk->wanted->state == STATE_VISITED))
        g_cond_signal(&walk->done);
}

static gpointer visit_thread(gpointer data)
{
    Walk *walk = data;
    g_mutex_lock(&walk->lock);
    while (!walk->stop) {
        WalkDir *dir = next_to_visit(walk);
        if (dir == NULL) {
            wake_emitter(walk);
            walk->idle++;
            g_cond_wait(&walk->work, &walk->lock);
            walk->idle--;
            continue;
        }
        dir->state = STATE_VISITING;
        g_mutex_unlock(&walk->lock);

        g_autofree char *path = dir_path(dir);
        GError *error = NULL;
        dir->path = path;
        gboolean good = cancel_check(walk->cancel, &error) &&
                        walk->funcs->visit(dir, walk->funcs->visit_data, &error) &&
                        (dir->spill == NULL || spool_finish(dir->spill, &error));
        dir->path = NULL;

        g_mutex_lock(&walk->lock);
        dir->state = STATE_VISITED;
        pending_replace_by_children(walk, dir);
        walk->buffered += items_in_memory(dir);
        walk->ahead++;
        if (!good) {
            walk->stop = TRUE;
            if (walk->error == NULL)
                walk->error = g_steal_pointer(&error);
            g_clear_error(&error);
        }
        if (walk->ahead >= WAKE_AHEAD || walk->stop)
            wake_emitter(walk);
        if (walk->idle > 0)
            g_cond_broadcast(&walk->work);
    }
    wake_emitter(walk);
    g_mutex_unlock(&walk->lock);
    return NULL;
}

/* Waits until dir is visited; FALSE if the walk stopped. */
static gboolean wait_visited(Walk *walk, WalkDir *dir)
{
    g_mutex_lock(&walk->lock);
    walk->wanted = dir;
    if (dir->state == STATE_WAITING && walk->idle > 0)
        g_cond_broadcast(&walk->work);
    while (dir->state != STATE_VISITED && !walk->stop)
        g_cond_wait(&walk->done, &walk->lock);
    walk->wanted = NULL;
    gboolean good = !walk->stop;
    if (good) {
        /* Its items leave the window now: they are emitted before anything else is waited for. */
        walk->buffered -= items_in_memory(dir);
        walk->ahead--;
        if (walk->idle > 0)
            g_cond_broadcast(&walk->work);
    }
    g_mutex_unlock(&walk->lock);
    return good;
}

/* A directory whose items are being emitted. */
typedef struct {
    WalkDir *dir;
    SpoolReader *reader;
    gsize at;          /* in items */
    gsize path_length; /* of its own path */
} Frame;

static void frame_clear(gpointer data)
{
    Frame *frame = data;
    spool_reader_free(frame->reader);
}

/* The frame's next item: 1 and the record, 2 for the next child, 0 at the end, -1 error. */
static int frame_next(Frame *frame, const guint8 **data, gsize *length, GError **error)
{
    if (frame->reader != NULL) {
        int got = spool_reader_next(frame->reader, data, length, error);
        if (got <= 0)
            return got;
        if (*length == 0)
            return 2;
        (*data)++;
        (*length)--;
        return 1;
    }
    GByteArray *items = frame->dir->items;
    if (items == NULL || frame->at >= items->len)
        return 0;
    BytesReader in = bytes_reader(items->data + frame->at, items->len - frame->at);
    guint64 stored = bytes_get_varint(&in);
    *data = in.at;
    *length = stored > 0 ? (gsize)(stored - 1) : 0;
    frame->at = (gsize)(in.at - items->data) + *length;
    return stored == 0 ? 2 : 1;
}

static gboolean enter_dir(Walk *walk, GArray *frames, GString *path, WalkDir *dir, GError **error)
{
    if (dir->parent != NULL) {
        if (path->len > 0)
            g_string_append_c(path, '/');
        g_string_append(path, dir->name);
    }
    if (walk->funcs->enter != NULL && !walk->funcs->enter(path->str, dir->tag, walk->funcs->user_data, error))
        return FALSE;
    if (!wait_visited(walk, dir))
        return FALSE;
    Frame frame = {.dir = dir, .path_length = path->len};
    if (dir->spill != NULL)
        frame.reader = spool_reader_new(dir->spill);
    g_array_append_val(frames, frame);
    return TRUE;
}

static gboolean leave_dir(Walk *walk, GArray *frames, GString *path, GError **error)
{
    Frame *frame = &g_array_index(frames, Frame, frames->len - 1);
    WalkDir *dir = frame->dir;
    gboolean good =
        walk->funcs->leave == NULL || walk->funcs->leave(path->str, dir->tag, walk->funcs->user_data, error);
    g_array_set_size(frames, frames->len - 1);
    dir_clear_items(dir);
    if (frames->len > 0) {
        WalkDir *parent = dir->parent;
        g_string_truncate(path, g_array_index(frames, Frame, frames->len - 1).path_length);
        /* All its children were emitted and freed before; it is its parent's first. The visiting threads may still read
         * names of other directories, never of this one. */
        parent->first_child = dir->sibling;
        if (parent->first_child == NULL)
            parent->last_child = NULL;
        g_free(dir);
    }
    return good;
}

static gboolean emit_all(Walk *walk, WalkDir *root, GError **error)
{
    g_autoptr(GArray) frames = g_array_new(FALSE, FALSE, sizeof(Frame));
    g_array_set_clear_func(frames, frame_clear);
    g_autoptr(GString) path = g_string_new(NULL);
    if (!enter_dir(walk, frames, path, root, error))
        return FALSE;
    while (frames->len > 0) {
        if (!cancel_check(walk->cancel, error))
            return FALSE;
        Frame *frame = &g_array_index(frames, Frame, frames->len - 1);
        const guint8 *data = NULL;
        gsize length = 0;
        int got = frame_next(frame, &data, &length, error);
        if (got < 0)
            return FALSE;
        gboolean good = TRUE;
        if (got == 1)
            good = walk->funcs->record(data, length, walk->funcs->user_data, error);
        else if (got == 2)
            good = enter_dir(walk, frames, path, frame->dir->first_child, error);
        else
            good = leave_dir(walk, frames, path, error);
        if (!good)
            return FALSE;
    }
    return TRUE;
}

static gboolean run_threads(Walk *walk, WalkDir *root, guint threads, GError **error)
{
    g_autoptr(GPtrArray) running = g_ptr_array_new();
    gboolean good = TRUE;
    for (guint i = 0; i < threads && good; i++) {
        GThread *thread = g_thread_try_new("walk", visit_thread, walk, i == 0 ? error : NULL);
        if (thread != NULL)
            g_ptr_array_add(running, thread);
        good = thread != NULL || i > 0;
    }
    if (good)
        good = emit_all(walk, root, error);
    g_mutex_lock(&walk->lock);
    walk->stop = TRUE;
    g_cond_broadcast(&walk->work);
    g_mutex_unlock(&walk->lock);
    for (guint i = 0; i < running->len; i++)
        g_thread_join(g_ptr_array_index(running, i));
    return good;
}

gboolean walk_run(guint threads, guint root_tag, int temp_fd, const WalkFuncs *funcs, const CancelFlag *cancel,
                  GError **error)
{
    Walk walk = {.funcs = funcs, .cancel = cancel, .temp_fd = temp_fd};
    g_mutex_init(&walk.lock);
    g_cond_init(&walk.work);
    g_cond_init(&walk.done);
    WalkDir *root = dir_new(&walk, NULL, "", root_tag);
    walk.pending_head = root;

    g_autoptr(GError) own = NULL;
    gboolean good = run_threads(&walk, root, threads, &own);
    if (walk.error != NULL) {
        /* What a visit said is the cause; the emitter only noticed that the walk stopped. */
        g_clear_error(&own);
        own = walk.error;
        good = FALSE;
    }
    if (!good && own == NULL)
        error_set(&own, BACKAPP_ERROR_INTERNAL, "walk: stopped without a reason");
    if (!good)
        g_propagate_error(error, g_steal_pointer(&own));
    dir_free_tree(root);
    g_cond_clear(&walk.done);
    g_cond_clear(&walk.work);
    g_mutex_clear(&walk.lock);
    return good;
}
