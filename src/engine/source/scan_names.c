#include "engine/source/scan_names.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "fs/dir.h"
#include "fs/spool.h"

#ifndef IN_MEMORY_MAX /* a test has a smaller one */
#define IN_MEMORY_MAX 200000
#endif
#define NAMES_MAX 50000000

enum { IS_DIRECTORY = 1, NAME_DIFFERS = 2 };

/*
 * A name is a flag byte, the segment with a slash if it is a directory, a zero byte, and, if the segment is not the name
 * itself, the name and a zero byte.
 */
typedef struct {
    Spool *spool;
    SpoolReader *reader;
    const guint8 *head; /* NULL at the end */
} Run;

struct ScanNames {
    GByteArray *arena;
    GArray *offsets; /* guint32 into arena; sorted once all are read */
    guint at;
    GArray *runs; /* of Run; empty if all is in memory */
    int temp_fd;
    guint total;
    GString *segment; /* of the present name, without the slash */
};

static void run_clear(gpointer data)
{
    Run *run = data;
    spool_reader_free(run->reader);
    spool_free(run->spool);
}

void scan_names_free(ScanNames *scan)
{
    if (scan == NULL)
        return;
    g_byte_array_unref(scan->arena);
    g_array_unref(scan->offsets);
    g_array_unref(scan->runs);
    g_string_free(scan->segment, TRUE);
    g_free(scan);
}

static const char *sort_key(const guint8 *record)
{
    return (const char *)record + 1;
}

static gsize record_length(const guint8 *record)
{
    gsize length = 1 + strlen(sort_key(record)) + 1;
    return (*record & NAME_DIFFERS) != 0 ? length + strlen((const char *)record + length) + 1 : length;
}

static int compare_offsets(const void *a, const void *b, void *arena)
{
    const guint32 *x = a, *y = b;
    const guint8 *start = arena;
    return strcmp(sort_key(start + *x), sort_key(start + *y));
}

static void sort_memory(ScanNames *scan)
{
    if (scan->offsets->len > 1)
        qsort_r(scan->offsets->data, scan->offsets->len, sizeof(guint32), compare_offsets, scan->arena->data);
}

/* Moves what is in memory to a sorted run. */
static gboolean spill(ScanNames *scan, GError **error)
{
    sort_memory(scan);
    Run run = {.spool = spool_new(scan->temp_fd, error)};
    if (run.spool == NULL)
        return FALSE;
    g_array_append_val(scan->runs, run);
    for (guint i = 0; i < scan->offsets->len; i++) {
        const guint8 *record = scan->arena->data + g_array_index(scan->offsets, guint32, i);
        if (!spool_put(run.spool, record, record_length(record), error))
            return FALSE;
    }
    g_byte_array_set_size(scan->arena, 0);
    g_array_set_size(scan->offsets, 0);
    return spool_finish(run.spool, error);
}

/* A directory while it is read. */
typedef struct {
    ScanNames *scan;
    int dir_fd;
    const S3Names *names;
    const char *parent_key;
    GString *key; /* of the entry at hand */
} Reading;

/* d_type does not tell everywhere. What is gone by now counts as a file: looking at it will find out. */
static gboolean is_directory(int dir_fd, const char *name, guint8 type)
{
    struct stat st;
    if (type != DT_UNKNOWN)
        return type == DT_DIR;
    return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static gboolean add(const char *name, guint8 type, gpointer user_data, GError **error)
{
    Reading *reading = user_data;
    ScanNames *scan = reading->scan;
    if (scan->total++ >= NAMES_MAX)
        return error_set(error, BACKAPP_ERROR_INVALID, "the directory has more than %d names", NAMES_MAX);
    gsize parent = reading->parent_key[0] != '\0' ? strlen(reading->parent_key) + 1 : 0;
    g_string_truncate(reading->key, 0);
    names_child_key(reading->names, reading->parent_key, name, reading->key);
    const char *segment = reading->key->str + parent;
    guint8 flags = strcmp(segment, name) != 0 ? NAME_DIFFERS : 0;
    flags |= is_directory(reading->dir_fd, name, type) ? IS_DIRECTORY : 0;

    guint32 offset = scan->arena->len;
    g_byte_array_append(scan->arena, &flags, 1);
    g_byte_array_append(scan->arena, (const guint8 *)segment, (guint)strlen(segment));
    g_byte_array_append(scan->arena, (const guint8 *)"/", (flags & IS_DIRECTORY) != 0 ? 1 : 0);
    g_byte_array_append(scan->arena, (const guint8 *)"", 1);
    if ((flags & NAME_DIFFERS) != 0)
        g_byte_array_append(scan->arena, (const guint8 *)name, (guint)strlen(name) + 1);
    g_array_append_val(scan->offsets, offset);
    return scan->offsets->len < IN_MEMORY_MAX || spill(scan, error);
}

static gboolean advance(Run *run, GError **error)
{
    gsize length = 0;
    int got = spool_reader_next(run->reader, &run->head, &length, error);
    if (got == 0)
        run->head = NULL;
    return got >= 0;
}

static gboolean begin_merge(ScanNames *scan, GError **error)
{
    if (scan->offsets->len > 0 && !spill(scan, error))
        return FALSE;
    for (guint i = 0; i < scan->runs->len; i++) {
        Run *run = &g_array_index(scan->runs, Run, i);
        run->reader = spool_reader_new(run->spool);
        if (!advance(run, error))
            return FALSE;
    }
    return TRUE;
}

ScanNames *scan_names_read(int dir_fd, const S3Names *names, const char *parent_key, int temp_fd,
                           const CancelFlag *cancel, GError **error)
{
    g_autoptr(ScanNames) scan = g_new0(ScanNames, 1);
    scan->arena = g_byte_array_new();
    scan->offsets = g_array_new(FALSE, FALSE, sizeof(guint32));
    scan->runs = g_array_new(FALSE, FALSE, sizeof(Run));
    g_array_set_clear_func(scan->runs, run_clear);
    scan->segment = g_string_new(NULL);
    scan->temp_fd = temp_fd;
    g_autoptr(GString) key = g_string_new(NULL);
    Reading reading = {.scan = scan, .dir_fd = dir_fd, .names = names, .parent_key = parent_key, .key = key};
    if (!dir_each(dir_fd, add, &reading, cancel, error))
        return NULL;
    if (scan->runs->len == 0)
        sort_memory(scan);
    else if (!begin_merge(scan, error))
        return NULL;
    return g_steal_pointer(&scan);
}

/* The run with the smallest head; NULL at the end. */
static Run *smallest(ScanNames *scan)
{
    Run *best = NULL;
    for (guint i = 0; i < scan->runs->len; i++) {
        Run *run = &g_array_index(scan->runs, Run, i);
        if (run->head != NULL && (best == NULL || strcmp(sort_key(run->head), sort_key(best->head)) < 0))
            best = run;
    }
    return best;
}

static void present(ScanNames *scan, const guint8 *record, ScanName *name)
{
    gsize length = strlen(sort_key(record));
    name->directory = (*record & IS_DIRECTORY) != 0;
    g_string_truncate(scan->segment, 0);
    g_string_append_len(scan->segment, sort_key(record), (gssize)length - (name->directory ? 1 : 0));
    name->segment = scan->segment->str;
    name->name = (*record & NAME_DIFFERS) != 0 ? sort_key(record) + length + 1 : scan->segment->str;
}

int scan_names_next(ScanNames *scan, ScanName *name, GError **error)
{
    if (scan->runs->len == 0) {
        if (scan->at >= scan->offsets->len)
            return 0;
        present(scan, scan->arena->data + g_array_index(scan->offsets, guint32, scan->at++), name);
        return 1;
    }
    /* The last one given is still in its run: only now is it passed over. */
    if (scan->at > 0) {
        Run *run = smallest(scan);
        if (run != NULL && !advance(run, error))
            return -1;
    }
    scan->at = 1;
    Run *run = smallest(scan);
    if (run == NULL)
        return 0;
    present(scan, run->head, name);
    return 1;
}
