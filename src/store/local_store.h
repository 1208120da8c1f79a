/*
 * The inside of the local driver (local*.c): keys as paths, facts beside the bytes, and the one way in which something
 * becomes an object. docs/formats/local-store.md says what lies where.
 *
 * Threads and processes: objects are never changed, only replaced by rename, so readers take no lock. What moves names
 * (renaming in, moving aside, deleting, removing empty directories) holds the store's lock, which is a mutex for the
 * threads of this process and a flock for other processes. Nothing is written or made durable under it but directories
 * and side files.
 */
#pragma once

#include "fs/dir.h"
#include "store/common.h"

#include <sys/stat.h>

/* Names that begin so are the driver's, in every directory: what stands for something else. */
#define LOCAL_OURS        ".backapp-"
#define LOCAL_FILE        ".backapp-@" /* an object */
#define LOCAL_DIRECTORY   ".backapp-=" /* a directory */
#define LOCAL_PIECE       ".backapp-+" /* a first piece of a name that is too long for one */
#define LOCAL_HIDDEN      ".backapp-store"
#define LOCAL_UPLOAD_INFO "upload" /* in an upload's directory: what it is for */

#define LOCAL_FILE_MODE 0600
#define LOCAL_DIR_MODE  0700
#define LOCAL_TRIES     1000 /* how often to begin anew when others move names meanwhile */

typedef struct {
    Store base;
    char *directory;
    int root_fd;
    GMutex prepare;                               /* of the next line, which is opened by the first write */
    int hidden_fd, temp_fd, uploads_fd, facts_fd; /* -1: not yet */
    GMutex lock;                                  /* with a flock on lock_fd */
    int lock_fd;
    atomic_bool side_files; /* the file system has no attributes */
    atomic_uint temporaries;
    StoreTally tally;
} LocalStore;

/* --- local_key.c: pure functions; returned strings are the caller's --- */

/* The path of a key's object relative to the store. For a key whose last component can be a file name there are two:
 * plainly, and, where a directory has that name, `aside`. Else the plain one is NULL. */
char *local_key_path(const char *key, gboolean aside);

/* The path of the directory that holds the keys beginning with the first `length` bytes of key, which end in a slash
 * (or are none: ""). */
char *local_key_directory(const char *key, gsize length);

/* Where a file with this name is moved to if it stands where a directory must be: relative to its directory. */
char *local_name_aside(const char *name);

/* TRUE if a name of a directory stands for itself. */
gboolean local_name_is_plain(const char *name, gsize length);

/* The path that a component has if it does not stand for itself, as an object or as a directory. */
char *local_component_escape(const char *component, gsize length, gboolean directory);

/* --- local_facts.c --- */

/* What is kept beside the bytes. */
typedef struct {
    char *etag, *mtime, *storage_class, *content_type;
} LocalFacts;
void local_facts_clear(LocalFacts *facts);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(LocalFacts, local_facts_clear)

/* Fills *facts (zeroed) from `how`. */
void local_facts_set(LocalFacts *facts, const StorePut *how);

/* Reads the facts of an open object. What was not kept, or belongs to bytes that somebody else changed since, is made
 * up: an ETag of size and time, class STANDARD. */
gboolean local_facts_read(LocalStore *self, const char *key, int fd, const struct stat *st, LocalFacts *facts,
                          GError **error);

/* Gives the facts to a file that is complete: to its attributes, or notes that it takes a side file. */
gboolean local_facts_write(LocalStore *self, int fd, const LocalFacts *facts, GError **error);

/* Where side files are needed: writes the one of the new object, which is still to be renamed in (its time may be moved
 * so that no other file of this key has the same); removes that of an old one (new_fd: what took its place, or -1). To be
 * called under the lock. */
gboolean local_facts_put_side(LocalStore *self, const char *key, int fd, const LocalFacts *facts, GError **error);
void local_facts_drop_side(LocalStore *self, const char *key, const struct stat *old, int new_fd);

/* Facts as lines of text and back (FALSE if they are damaged or of another version). */
char *local_facts_encode(const LocalFacts *facts, const char *first_line);
gboolean local_facts_decode(const char *text, const char *first_line, LocalFacts *facts);

/* --- local_commit.c --- */

/* Makes the driver's own directory, on the first write. */
gboolean local_prepare(LocalStore *self, GError **error);

/* Opens one that is there, to read; -1 without an error if there is none. */
int local_open_hidden(LocalStore *self, const char *name);

void local_lock(LocalStore *self);
void local_unlock(LocalStore *self);

/* A file that is being written, below `directory_fd`. */
typedef struct {
    int directory_fd, fd; /* fd -1: none */
    char name[32];
} LocalTemp;
gboolean local_temp_open(LocalStore *self, LocalTemp *temp, GError **error);
/* Closes it, and removes what was not renamed. */
void local_temp_clear(LocalTemp *temp);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(LocalTemp, local_temp_clear)

/* Makes a complete file the object of a key, durably. */
gboolean local_commit(LocalStore *self, const char *key, LocalTemp *temp, const LocalFacts *facts, gboolean if_absent,
                      GError **error);

/* Removes the object of a key, and directories that are empty then. */
gboolean local_remove(LocalStore *self, const char *key, GError **error);

/* Opens a key's object. -1 with NOT_FOUND or another error. */
int local_open(LocalStore *self, const char *key, struct stat *st, GError **error);

/* --- local.c --- */

/* An error that names the store's directory and key. Returns FALSE. */
gboolean local_failed(const LocalStore *self, int errnum, const char *what, const char *key, GError **error);

/* Writes a body to a file from `at` on and hashes it; *etag is the hash in hexadecimal digits. */
gboolean local_write_body(LocalStore *self, int fd, guint64 at, const char *key, const StoreBody *body, char **etag,
                          GError **error);

/* Copies `length` bytes from `offset` of one file behind what `to_fd` holds up to *at, without moving them through this
 * process where the file system can. */
gboolean local_copy_range(LocalStore *self, int from_fd, guint64 offset, guint64 length, int to_fd, guint64 *at,
                          const char *key, GError **error);

/* The source of a copy, open, with its ETag compared. -1 on error. */
int local_open_source(LocalStore *self, const StoreSource *source, struct stat *st, LocalFacts *facts, GError **error);

/* --- local_list.c, local_upload.c: functions of the table --- */
StoreList *local_list(Store *store, const char *prefix, const char *start_after, gboolean versions, GError **error);
char *local_begin(Store *store, const char *key, const StorePut *how, GError **error);
gboolean local_part(Store *store, const char *key, const char *id, guint number, const StoreBody *body, char **etag,
                    GError **error);
gboolean local_copy_part(Store *store, const char *key, const char *id, guint number, const StoreSource *source,
                         guint64 offset, guint64 length, char **etag, GError **error);
gboolean local_complete(Store *store, const char *key, const char *id, const StorePart *parts, guint count,
                        const StorePut *how, StoreResult *result, GError **error);
gboolean local_abort(Store *store, const char *key, const char *id, GError **error);
GPtrArray *local_list_uploads(Store *store, const char *prefix, GError **error);
GArray *local_list_parts(Store *store, const char *key, const char *id, GError **error);
