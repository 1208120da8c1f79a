#include "store/local_store.h"

#include "base/error.h"
#include "fs/remove.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define PROBE "user.backapp.probe"
/* A temporary file that nobody holds and that is older is what a killed process left. */
#define LEFT_AFTER_SECONDS 60

/* --- the driver's own directory --- */

static int make_directory(int parent_fd, const char *name)
{
    if (mkdirat(parent_fd, name, LOCAL_DIR_MODE) == 0) {
        if (fsync(parent_fd) != 0)
            return -1;
    } else if (errno != EEXIST) {
        return -1;
    }
    return openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Removes temporary files that no process holds (each is locked while it is written). */
static void sweep(int temp_fd)
{
    g_auto(DirNames) names = {0};
    if (!dir_names_read(temp_fd, &names, NULL, NULL))
        return;
    for (guint i = 0; i < dir_names_count(&names); i++) {
        struct stat st;
        const char *name = dir_names_get(&names, i);
        g_auto(AutoFd) fd = openat(temp_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0 && fstat(fd, &st) == 0 && st.st_mtime < time(NULL) - LEFT_AFTER_SECONDS &&
            flock(fd, LOCK_EX | LOCK_NB) == 0)
            (void)unlinkat(temp_fd, name, 0);
    }
}

/* Removes uploads that a kill left without what says what they are for: nobody could find them to abort them. */
static void sweep_uploads(int uploads_fd)
{
    g_auto(DirNames) names = {0};
    if (!dir_names_read(uploads_fd, &names, NULL, NULL))
        return;
    for (guint i = 0; i < dir_names_count(&names); i++) {
        struct stat st;
        const char *name = dir_names_get(&names, i);
        g_auto(AutoFd) fd = openat(uploads_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && fstat(fd, &st) == 0 && st.st_mtime < time(NULL) - LEFT_AFTER_SECONDS &&
            faccessat(fd, LOCAL_UPLOAD_INFO, F_OK, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT)
            (void)remove_tree(uploads_fd, name, FALSE, NULL, NULL);
    }
}

static gboolean open_own(LocalStore *self, int hidden_fd)
{
    g_auto(AutoFd) temp = make_directory(hidden_fd, "tmp");
    g_auto(AutoFd) uploads = temp < 0 ? -1 : make_directory(hidden_fd, "uploads");
    g_auto(AutoFd) facts = uploads < 0 ? -1 : make_directory(hidden_fd, "facts");
    g_auto(AutoFd) lock =
        facts < 0 ? -1 : openat(hidden_fd, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, LOCAL_FILE_MODE);
    if (lock < 0)
        return FALSE;
    atomic_store(&self->side_files, fsetxattr(lock, PROBE, "", 0, 0) != 0);
    sweep(temp);
    sweep_uploads(uploads);
    self->temp_fd = fd_steal(&temp);
    self->uploads_fd = fd_steal(&uploads);
    self->facts_fd = fd_steal(&facts);
    self->lock_fd = fd_steal(&lock);
    return TRUE;
}

gboolean local_prepare(LocalStore *self, GError **error)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&self->prepare);
    if (self->hidden_fd >= 0)
        return TRUE;
    g_auto(AutoFd) hidden = make_directory(self->root_fd, LOCAL_HIDDEN);
    if (hidden < 0 || !open_own(self, hidden))
        return error_set_errno(error, errno, "cannot write to %s", self->directory);
    self->hidden_fd = fd_steal(&hidden);
    return TRUE;
}

int local_open_hidden(LocalStore *self, const char *name)
{
    g_autofree char *path = g_strconcat(LOCAL_HIDDEN "/", name, NULL);
    return dir_open(self->root_fd, path, NULL);
}

void local_lock(LocalStore *self)
{
    g_mutex_lock(&self->lock);
    /* Where the file system knows no such locks, the mutex is all there is. */
    while (flock(self->lock_fd, LOCK_EX) != 0 && errno == EINTR)
        continue;
}

void local_unlock(LocalStore *self)
{
    (void)flock(self->lock_fd, LOCK_UN);
    g_mutex_unlock(&self->lock);
}

/* --- temporary files --- */

gboolean local_temp_open(LocalStore *self, LocalTemp *temp, GError **error)
{
    *temp = (LocalTemp){.directory_fd = self->temp_fd, .fd = -1};
    for (guint i = 0; i < LOCAL_TRIES && temp->fd < 0; i++) {
        (void)snprintf(temp->name, sizeof temp->name, "%08x%08x", g_random_int(),
                       atomic_fetch_add(&self->temporaries, 1));
        temp->fd =
            openat(self->temp_fd, temp->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, LOCAL_FILE_MODE);
        if (temp->fd < 0 && errno != EEXIST)
            break;
    }
    if (temp->fd < 0)
        return error_set_errno(error, errno, "cannot make a temporary file in %s", self->directory);
    (void)flock(temp->fd, LOCK_EX | LOCK_NB);
    return TRUE;
}

void local_temp_clear(LocalTemp *temp)
{
    if (temp->fd >= 0 && temp->name[0])
        (void)unlinkat(temp->directory_fd, temp->name, 0);
    fd_clear(&temp->fd);
}

/* --- directories on the way to an object --- */

/* A file stands where a directory has to be: moves it to the name that stands for it then. */
static gboolean move_aside(LocalStore *self, int parent_fd, const char *name, GError **error)
{
    g_autofree char *aside = local_name_aside(name);
    char *slash = strrchr(aside, '/');
    if (slash) {
        *slash = '\0';
        if (!dir_make_path(parent_fd, aside, LOCAL_DIR_MODE, error))
            return FALSE;
        *slash = '/';
    }
    struct stat st;
    local_lock(self);
    gboolean there = fstatat(parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    gboolean good =
        !there || S_ISDIR(st.st_mode) || (S_ISREG(st.st_mode) && renameat(parent_fd, name, parent_fd, aside) == 0);
    int saved = errno;
    local_unlock(self);
    if (!good && !S_ISREG(st.st_mode))
        return error_set(error, BACKAPP_ERROR_CONFLICT, "%s in %s is neither a file nor a directory: move it away",
                         name, self->directory);
    if (!good)
        return error_set_errno(error, saved, "cannot move the object %s in %s aside", name, self->directory);
    g_auto(AutoFd) pieces = slash ? dir_open_parent(parent_fd, aside, &(const char *){NULL}, NULL) : -1;
    return (pieces < 0 || dir_sync(pieces, aside, error)) && dir_sync(parent_fd, self->directory, error);
}

/* Makes and opens one directory on the way, durably. -1 without an error: somebody removed the parent, begin anew. */
static int enter(LocalStore *self, int parent_fd, const char *name, GError **error)
{
    for (guint i = 0; i < LOCAL_TRIES; i++) {
        int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0)
            return fd;
        if (errno == ENOTDIR || errno == ELOOP) {
            if (!move_aside(self, parent_fd, name, error))
                return -1;
            continue;
        }
        if (errno == ENOENT && mkdirat(parent_fd, name, LOCAL_DIR_MODE) == 0) {
            if (!dir_sync(parent_fd, self->directory, error))
                return -1;
            continue;
        }
        if (errno == ENOENT)
            return -1;
        if (errno != EEXIST) {
            local_failed(self, errno, "make a directory for", name, error);
            return -1;
        }
    }
    error_set(error, BACKAPP_ERROR_TRANSIENT, "%s in %s changes all the time", name, self->directory);
    return -1;
}

/* Makes the directories that `path` lies in. They may be gone again when it returns. */
static gboolean make_parents(LocalStore *self, const char *path, GError **error)
{
    g_autofree char *copy = g_strdup(path);
    g_autoptr(GError) local = NULL;
    g_auto(AutoFd) current = -1;
    char *slash = NULL;
    for (char *name = copy; (slash = strchr(name, '/')); name = slash + 1) {
        *slash = '\0';
        int next = enter(self, current >= 0 ? current : self->root_fd, name, &local);
        fd_clear(&current);
        if (next < 0)
            break;
        current = next;
    }
    if (!local)
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

/* --- replacing and removing, under the lock --- */

typedef struct {
    int parent_fd;
    char *path; /* relative to the store */
    const char *name;
    gboolean exists;
    struct stat old;
} Place;

static void place_clear(Place *place)
{
    fd_clear(&place->parent_fd);
    g_clear_pointer(&place->path, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Place, place_clear)

/* Opens the parent of a path and looks at what is there. FALSE with errno; ENOENT and ENOTDIR: no such parent. */
static gboolean look_at(LocalStore *self, Place *place)
{
    place->parent_fd = dir_open_parent(self->root_fd, place->path, &place->name, NULL);
    if (place->parent_fd < 0)
        return FALSE;
    place->exists = fstatat(place->parent_fd, place->name, &place->old, AT_SYMLINK_NOFOLLOW) == 0;
    return place->exists || errno == ENOENT;
}

/* Where the object of a key is, or is to be. FALSE with errno; the path is set then too. */
static gboolean find_place(LocalStore *self, const char *key, Place *place)
{
    place->path = local_key_path(key, FALSE);
    gboolean plain = place->path != NULL;
    if (plain && !look_at(self, place))
        return FALSE;
    if (plain && place->exists && !S_ISDIR(place->old.st_mode))
        return TRUE;
    g_auto(Place) aside = {.parent_fd = -1, .path = local_key_path(key, TRUE)};
    gboolean seen = look_at(self, &aside);
    /* Neither is there: plainly. A parent that only the second lacks is one for the pieces of a long name. */
    if (plain && !place->exists && (seen ? !aside.exists : errno == ENOENT))
        return TRUE;
    place_clear(place);
    *place = aside;
    aside = (Place){.parent_fd = -1};
    return seen;
}

/* Renames the file in. FALSE with errno; EEXIST: there is one. */
static gboolean rename_in(const LocalTemp *temp, const Place *place, gboolean if_absent)
{
    if (!if_absent)
        return renameat(temp->directory_fd, temp->name, place->parent_fd, place->name) == 0;
    if (renameat2(temp->directory_fd, temp->name, place->parent_fd, place->name, RENAME_NOREPLACE) == 0)
        return TRUE;
    if (errno != EINVAL && errno != ENOSYS)
        return FALSE;
    /* A file system without it; the lock keeps others of us away, and nothing is there. */
    return renameat(temp->directory_fd, temp->name, place->parent_fd, place->name) == 0;
}

/* One attempt under the lock. FALSE without an error: begin anew, after the parents of *place were made. */
static gboolean replace(LocalStore *self, const char *key, LocalTemp *temp, const LocalFacts *facts, gboolean if_absent,
                        Place *place, GError **error)
{
    if (!find_place(self, key, place))
        return errno != ENOENT && errno != ENOTDIR && local_failed(self, errno, "store", key, error);
    if (if_absent && place->exists)
        return local_failed(self, EEXIST, "store", key, error);
    if (!local_facts_put_side(self, key, temp->fd, facts, error))
        return FALSE;
    if (rename_in(temp, place, if_absent)) {
        temp->name[0] = '\0';
        if (place->exists)
            local_facts_drop_side(self, key, &place->old, temp->fd);
        return TRUE;
    }
    /* Directories are made without the lock: there is one now. */
    return errno != EISDIR && errno != EEXIST && local_failed(self, errno, "store", key, error);
}

gboolean local_commit(LocalStore *self, const char *key, LocalTemp *temp, const LocalFacts *facts, gboolean if_absent,
                      GError **error)
{
    if (!local_facts_write(self, temp->fd, facts, error))
        return FALSE;
    if (fsync(temp->fd) != 0)
        return local_failed(self, errno, "make durable", key, error);
    for (guint i = 0; i < LOCAL_TRIES; i++) {
        g_auto(Place) place = {.parent_fd = -1};
        g_autoptr(GError) local = NULL;
        local_lock(self);
        gboolean done = replace(self, key, temp, facts, if_absent, &place, &local);
        local_unlock(self);
        if (done)
            return dir_sync(place.parent_fd, self->directory, error);
        if (local) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
        if (!make_parents(self, place.path, error))
            return FALSE;
    }
    return error_set(error, BACKAPP_ERROR_TRANSIENT, "the directories of %s change all the time", self->directory);
}

/* Removes directories on the way to `path` that are empty, the deepest first. *changed_fd (or -1) becomes the one that
 * lost a name. */
static void prune(LocalStore *self, const char *path, int *changed_fd)
{
    g_autofree char *copy = g_strdup(path);
    char *slash = NULL;
    while ((slash = strrchr(copy, '/'))) {
        *slash = '\0';
        const char *name = NULL;
        g_auto(AutoFd) parent = dir_open_parent(self->root_fd, copy, &name, NULL);
        if (parent < 0 || unlinkat(parent, name, AT_REMOVEDIR) != 0)
            return;
        fd_clear(changed_fd);
        *changed_fd = fd_steal(&parent);
    }
}

/* Removes the object at one of a key's two paths, under the lock. */
static gboolean remove_at(LocalStore *self, const char *key, gboolean aside, int *changed_fd, GError **error)
{
    g_auto(Place) place = {.parent_fd = -1, .path = local_key_path(key, aside)};
    if (!place.path)
        return TRUE;
    if (!look_at(self, &place))
        return errno == ENOENT || errno == ENOTDIR || errno == ELOOP || local_failed(self, errno, "delete", key, error);
    if (!place.exists || !S_ISREG(place.old.st_mode))
        return TRUE;
    if (unlinkat(place.parent_fd, place.name, 0) != 0 && errno != ENOENT)
        return local_failed(self, errno, "delete", key, error);
    local_facts_drop_side(self, key, &place.old, -1);
    fd_clear(changed_fd);
    *changed_fd = fd_steal(&place.parent_fd);
    prune(self, place.path, changed_fd);
    return TRUE;
}

gboolean local_remove(LocalStore *self, const char *key, GError **error)
{
    g_auto(AutoFd) changed = -1;
    local_lock(self);
    gboolean good = remove_at(self, key, TRUE, &changed, error) && remove_at(self, key, FALSE, &changed, error);
    local_unlock(self);
    return good && (changed < 0 || dir_sync(changed, self->directory, error));
}

/* Opens the file at a path, if it is one. -1 with errno. */
static int open_file(LocalStore *self, const char *path, struct stat *st)
{
    const char *name = NULL;
    g_auto(AutoFd) parent = dir_open_parent(self->root_fd, path, &name, NULL);
    if (parent < 0)
        return -1;
    g_auto(AutoFd) fd = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, st) != 0)
        return -1;
    if (S_ISREG(st->st_mode))
        return fd_steal(&fd);
    errno = ENOENT;
    return -1;
}

int local_open(LocalStore *self, const char *key, struct stat *st, GError **error)
{
    g_autofree char *plain = local_key_path(key, FALSE);
    int fd = plain ? open_file(self, plain, st) : -1;
    if (plain && (fd >= 0 || (errno != ENOENT && errno != ENOTDIR && errno != ELOOP && errno != ENXIO))) {
        if (fd < 0)
            local_failed(self, errno, "open", key, error);
        return fd;
    }
    g_autofree char *aside = local_key_path(key, TRUE);
    fd = open_file(self, aside, st);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP || errno == ENXIO))
        store_no_object(key, error);
    else if (fd < 0)
        local_failed(self, errno, "open", key, error);
    return fd;
}
