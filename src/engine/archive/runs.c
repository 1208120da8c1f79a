#include "engine/archive/runs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "crypto/digest.h"
#include "fs/dir.h"
#include "fs/io.h"

#define BUFFER_BYTES (256 * 1024)
#define READ_BYTES   (64 * 1024)
#define RECORD_MAX   (64u * 1024 * 1024)
#define PASSES_MAX   1000
/* A run that goes on adds two. */
#define PASSES_KEPT_MAX (PASSES_MAX - 2)

/* Each record: its length (u32), its kind, a CRC32C of kind and bytes (u32), its bytes: but for a pass where the tar goes on (u64), of what is
 * begun its header (a blob), and the entry. */
enum { RECORD_PASS = 1, RECORD_BEGUN, RECORD_ENTRY, RECORD_DROPPED };

#define HEAD_BYTES 9

struct Runs {
    int fd;
    GMutex lock; /* for what follows */
    GByteArray *buffer;
    guint64 written; /* bytes in the file; the buffer's come behind them */
    GArray *passes;  /* of guint64: where each begins */
    GByteArray *record;
};

/* Reads one pass. */
typedef struct {
    Runs *runs;
    guint64 at, end; /* in the file: what is not yet in data */
    GByteArray *data;
    gsize start; /* of what is not yet read in data */
    GByteArray *arena;
    IndexEntry entry;
    guint64 tar_end;
    gboolean has_entry;
} Pass;

struct RunsReader {
    GPtrArray *passes; /* of Pass *, in the order they were made */
    guint given;       /* which one's entry was given last; it is moved on with the next call */
    gboolean gave;
};

static gboolean write_out(Runs *runs, GError **error)
{
    if (runs->buffer->len == 0)
        return TRUE;
    if (!io_write_at(runs->fd, runs->buffer->data, runs->buffer->len, runs->written))
        return error_set_errno(error, errno, "cannot write the list of what was archived");
    runs->written += runs->buffer->len;
    g_byte_array_set_size(runs->buffer, 0);
    return TRUE;
}

static guint32 sum_of(guint8 kind, const guint8 *data, gsize length)
{
    return digest_crc32c(digest_crc32c(0, &kind, 1), data, length);
}

static gboolean put_record(Runs *runs, guint8 kind, const IndexEntry *entry, const GByteArray *header, guint64 tar_end,
                           GError **error)
{
    g_mutex_lock(&runs->lock);
    GByteArray *record = runs->record;
    g_byte_array_set_size(record, 0);
    if (kind == RECORD_PASS) {
        guint64 at = runs->written + runs->buffer->len;
        g_array_append_val(runs->passes, at);
    }
    if (entry != NULL) {
        bytes_put_u64(record, tar_end);
        if (kind == RECORD_BEGUN)
            bytes_put_blob(record, header != NULL ? header->data : NULL, header != NULL ? header->len : 0);
        index_entry_encode(entry, "", record);
    }
    gboolean good = record->len <= RECORD_MAX ||
                    error_set(error, BACKAPP_ERROR_INVALID, "the metadata of one file is larger than 64 MiB");
    if (good) {
        bytes_put_u32(runs->buffer, record->len);
        g_byte_array_append(runs->buffer, &kind, 1);
        bytes_put_u32(runs->buffer, sum_of(kind, record->data, record->len));
        g_byte_array_append(runs->buffer, record->data, record->len);
        good = runs->buffer->len < BUFFER_BYTES || write_out(runs, error);
    }
    g_mutex_unlock(&runs->lock);
    return good;
}

static Runs *runs_of(int fd)
{
    Runs *runs = g_new0(Runs, 1);
    g_mutex_init(&runs->lock);
    runs->fd = fd;
    runs->buffer = g_byte_array_new();
    runs->record = g_byte_array_new();
    runs->passes = g_array_new(FALSE, FALSE, sizeof(guint64));
    return runs;
}

static int open_nameless(GError **error)
{
    const char *directory = g_get_tmp_dir();
    int fd = open(directory, O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd < 0) {
        g_autofree char *path = g_build_filename(directory, "backapp-archive-XXXXXX", NULL);
        fd = g_mkstemp_full(path, O_RDWR | O_CLOEXEC, S_IRUSR | S_IWUSR);
        if (fd >= 0)
            (void)unlink(path);
    }
    if (fd < 0)
        error_set_errno(error, errno, "cannot make a temporary file in %s", directory);
    return fd;
}

Runs *runs_new(int dir_fd, const char *name, GError **error)
{
    int fd = -1;
    if (name == NULL)
        fd = open_nameless(error);
    else if ((fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR)) < 0)
        error_set_errno(error, errno, "cannot make the list of what is archived, %s", name);
    if (fd < 0)
        return NULL;
    g_autoptr(Runs) runs = runs_of(fd);
    return runs_begin_pass(runs, error) ? g_steal_pointer(&runs) : NULL;
}

gboolean runs_begin_pass(Runs *runs, GError **error)
{
    if (runs->passes->len >= PASSES_MAX)
        return error_set(error, BACKAPP_ERROR_CONFLICT, "this archive was interrupted too often to go on with it");
    return put_record(runs, RECORD_PASS, NULL, NULL, 0, error);
}

gboolean runs_begin_entry(Runs *runs, const IndexEntry *entry, const GByteArray *header, GError **error)
{
    return put_record(runs, RECORD_BEGUN, entry, header, entry->tar_offset, error);
}

gboolean runs_put(Runs *runs, const IndexEntry *entry, guint64 tar_end, GError **error)
{
    /* An index knows no such flag, nor would it be read back. */
    IndexEntry bare = *entry;
    bare.flags &= ~RUNS_DROPPED;
    guint8 kind = bare.flags == entry->flags ? RECORD_ENTRY : RECORD_DROPPED;
    return put_record(runs, kind, &bare, NULL, tar_end, error);
}

gboolean runs_sync(Runs *runs, guint64 *length, GError **error)
{
    g_mutex_lock(&runs->lock);
    gboolean good = write_out(runs, error);
    *length = runs->written;
    g_mutex_unlock(&runs->lock);
    if (good && fdatasync(runs->fd) != 0)
        good = error_set_errno(error, errno, "cannot make the list of what was archived durable");
    return good;
}

/* ---- reading ---- */

static gboolean damaged(GError **error)
{
    return error_set(error, BACKAPP_ERROR_CORRUPT, "the list of what was archived is damaged");
}

/* Makes at least `need` bytes readable at pass->start. FALSE without an error if the pass ends before. */
static gboolean fill(Pass *pass, gsize need, GError **error)
{
    GByteArray *data = pass->data;
    if (data->len - pass->start >= need)
        return TRUE;
    if (pass->start > 0)
        g_byte_array_remove_range(data, 0, (guint)pass->start);
    pass->start = 0;
    gsize had = data->len, want = MIN(MAX(need, READ_BYTES) - had, pass->end - pass->at);
    g_byte_array_set_size(data, (guint)(had + want));
    gssize got = want > 0 ? io_read_at(pass->runs->fd, data->data + had, want, pass->at) : 0;
    if (got < 0)
        return error_set_errno(error, errno, "cannot read the list of what was archived");
    g_byte_array_set_size(data, (guint)(had + (gsize)got));
    pass->at += (gsize)got;
    return data->len >= need;
}

/* The next record: 1 with its kind and bytes (valid until the next call), 0 at the end, -1. */
static int next_record(Pass *pass, guint8 *kind, BytesReader *in, GError **error)
{
    g_autoptr(GError) local = NULL;
    if (!fill(pass, HEAD_BYTES, &local)) {
        if (local != NULL)
            g_propagate_error(error, g_steal_pointer(&local));
        else if (pass->data->len > pass->start)
            damaged(error);
        else
            return 0;
        return -1;
    }
    BytesReader head = bytes_reader(pass->data->data + pass->start, HEAD_BYTES);
    guint32 length = bytes_get_u32(&head);
    *kind = *head.at++;
    guint32 sum = bytes_get_u32(&head);
    if (length > RECORD_MAX || *kind < RECORD_PASS || *kind > RECORD_DROPPED ||
        !fill(pass, HEAD_BYTES + length, &local)) {
        if (local != NULL)
            g_propagate_error(error, g_steal_pointer(&local));
        else
            damaged(error);
        return -1;
    }
    const guint8 *bytes = pass->data->data + pass->start + HEAD_BYTES;
    if (sum_of(*kind, bytes, length) != sum) {
        damaged(error);
        return -1;
    }
    *in = bytes_reader(bytes, length);
    pass->start += HEAD_BYTES + length;
    return 1;
}

static Pass *pass_new(Runs *runs, guint64 at, guint64 end)
{
    Pass *pass = g_new0(Pass, 1);
    pass->runs = runs;
    pass->at = at;
    pass->end = end;
    pass->data = g_byte_array_new();
    pass->arena = g_byte_array_new();
    return pass;
}

static void pass_free(gpointer data)
{
    Pass *pass = data;
    g_byte_array_unref(pass->data);
    g_byte_array_unref(pass->arena);
    g_free(pass);
}

/* A record's entry; its strings point into its bytes or into arena. *header: what came with one that is begun. */
static gboolean decode(guint8 kind, BytesReader *in, GByteArray *arena, IndexEntry *entry, guint64 *tar_end,
                       const guint8 **header, gsize *header_length, GError **error)
{
    g_byte_array_set_size(arena, 0);
    *tar_end = bytes_get_u64(in);
    *header_length = 0;
    *header = kind == RECORD_BEGUN ? bytes_get_blob(in, RECORD_MAX, header_length) : NULL;
    if (!index_entry_decode(in, "", arena, entry, error))
        return FALSE;
    if (kind == RECORD_DROPPED)
        entry->flags |= RUNS_DROPPED;
    return bytes_reader_done(in) || damaged(error);
}

static gboolean decode_into(Pass *pass, guint8 kind, BytesReader *in, GError **error)
{
    const guint8 *header = NULL;
    gsize length = 0;
    return decode(kind, in, pass->arena, &pass->entry, &pass->tar_end, &header, &length, error);
}

/* Moves on to the pass's next whole entry. */
static gboolean next_entry(Pass *pass, GError **error)
{
    guint8 kind = 0;
    BytesReader in;
    int got;
    pass->has_entry = FALSE;
    do
        got = next_record(pass, &kind, &in, error);
    while (got == 1 && kind != RECORD_ENTRY && kind != RECORD_DROPPED);
    pass->has_entry = got == 1 && decode_into(pass, kind, &in, error);
    return got == 0 || pass->has_entry;
}

RunsReader *runs_read(Runs *runs, GError **error)
{
    g_mutex_lock(&runs->lock);
    gboolean good = write_out(runs, error);
    g_mutex_unlock(&runs->lock);
    g_autoptr(RunsReader) reader = g_new0(RunsReader, 1);
    reader->passes = g_ptr_array_new_with_free_func(pass_free);
    for (guint i = 0; good && i < runs->passes->len; i++) {
        guint64 at = g_array_index(runs->passes, guint64, i);
        guint64 end = i + 1 < runs->passes->len ? g_array_index(runs->passes, guint64, i + 1) : runs->written;
        Pass *pass = pass_new(runs, at, end);
        g_ptr_array_add(reader->passes, pass);
        good = next_entry(pass, error);
    }
    return good ? g_steal_pointer(&reader) : NULL;
}

static int compare(const IndexEntry *a, const IndexEntry *b)
{
    return index_compare_paths(a->entry.path, S_ISDIR(a->entry.meta.mode), b->entry.path, S_ISDIR(b->entry.meta.mode));
}

/* The pass whose entry comes next: the least path, of equal ones the latest pass. */
static Pass *least(const RunsReader *reader, guint *which)
{
    Pass *best = NULL;
    for (guint i = 0; i < reader->passes->len; i++) {
        Pass *pass = g_ptr_array_index(reader->passes, i);
        if (!pass->has_entry || (best != NULL && compare(&pass->entry, &best->entry) > 0))
            continue;
        best = pass;
        *which = i;
    }
    return best;
}

/* Moves all passes on that stand at the path that was given. */
static gboolean move_on(RunsReader *reader, GError **error)
{
    Pass *given = g_ptr_array_index(reader->passes, reader->given);
    for (guint i = 0; i < reader->passes->len; i++) {
        Pass *pass = g_ptr_array_index(reader->passes, i);
        if (pass != given && pass->has_entry && compare(&pass->entry, &given->entry) == 0 && !next_entry(pass, error))
            return FALSE;
    }
    return next_entry(given, error);
}

int runs_reader_next(RunsReader *reader, IndexEntry *entry, GError **error)
{
    for (;;) {
        if (reader->gave && !move_on(reader, error))
            return -1;
        reader->gave = FALSE;
        Pass *pass = least(reader, &reader->given);
        if (pass == NULL)
            return 0;
        reader->gave = TRUE;
        if ((pass->entry.flags & RUNS_DROPPED) != 0)
            continue;
        *entry = pass->entry;
        return 1;
    }
}

void runs_reader_free(RunsReader *reader)
{
    if (reader == NULL)
        return;
    g_ptr_array_unref(reader->passes);
    g_free(reader);
}

/* ---- going on ---- */

static gsize position(const Pass *pass)
{
    return pass->at - (pass->data->len - pass->start);
}

static gboolean keep_open(RunsOpen *open, const BytesReader *in, GError **error)
{
    runs_open_clear(open);
    open->bytes = g_byte_array_new();
    open->arena = g_byte_array_new();
    g_byte_array_append(open->bytes, in->at, (guint)(in->end - in->at));
    BytesReader again = bytes_reader(open->bytes->data, open->bytes->len);
    guint64 tar_end = 0;
    open->is_open =
        decode(RECORD_BEGUN, &again, open->arena, &open->entry, &tar_end, &open->header, &open->header_length, error);
    return open->is_open;
}

/* Finds the passes again, and how much of the file counts. */
static gboolean look_through(Runs *runs, Pass *pass, guint64 tar_end, RunsOpen *open, GError **error)
{
    for (;;) {
        guint8 kind = 0;
        BytesReader in;
        guint64 at = position(pass);
        int got = next_record(pass, &kind, &in, error);
        if (got <= 0) {
            runs->written = at;
            return got == 0 && (runs->passes->len > 0 || damaged(error));
        }
        if (kind == RECORD_PASS) {
            if (runs->passes->len >= PASSES_KEPT_MAX)
                return damaged(error);
            g_array_append_val(runs->passes, at);
            continue;
        }
        BytesReader whole = in;
        if (!decode_into(pass, kind, &in, error))
            return FALSE;
        if (pass->tar_end > tar_end || (kind == RECORD_BEGUN && pass->tar_end == tar_end)) {
            runs->written = at;
            return TRUE;
        }
        if (kind != RECORD_BEGUN)
            runs_open_clear(open);
        else if (!keep_open(open, &whole, error))
            return FALSE;
    }
}

Runs *runs_open(int dir_fd, const char *name, guint64 length, guint64 tar_end, RunsOpen *open, GError **error)
{
    g_auto(AutoFd) fd = openat(dir_fd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    *open = (RunsOpen){0};
    if (fd < 0 || fstat(fd, &st) != 0) {
        error_set_errno(error, errno, "cannot open the list of what was archived, %s", name);
        return NULL;
    }
    if (!S_ISREG(st.st_mode) || (guint64)st.st_size < length) {
        damaged(error);
        return NULL;
    }
    g_autoptr(Runs) runs = runs_of(fd_steal(&fd));
    Pass *pass = pass_new(runs, 0, length);
    gboolean good = look_through(runs, pass, tar_end, open, error);
    pass_free(pass);
    if (good)
        return g_steal_pointer(&runs);
    runs_open_clear(open);
    return NULL;
}

void runs_open_clear(RunsOpen *open)
{
    g_clear_pointer(&open->bytes, g_byte_array_unref);
    g_clear_pointer(&open->arena, g_byte_array_unref);
    open->is_open = FALSE;
}

void runs_free(Runs *runs)
{
    if (runs == NULL)
        return;
    fd_clear(&runs->fd);
    g_mutex_clear(&runs->lock);
    g_byte_array_unref(runs->buffer);
    g_byte_array_unref(runs->record);
    g_array_unref(runs->passes);
    g_free(runs);
}
