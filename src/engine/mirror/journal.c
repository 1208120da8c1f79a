#include "engine/mirror/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/bytes.h"
#include "base/error.h"
#include "engine/mirror/destination.h"
#include "fs/dir.h"

#define MAGIC          "BACKAPPJ"
#define MAGIC_LENGTH   8
#define VERSION        1
#define RECORD_MAX     (32U * 1024 * 1024)
#define PATH_BYTES     (16U * 1024 * 1024)
#define NAME_BYTES     255U
#define BUFFER_BYTES   (256U * 1024)
#define FRAME_HEAD     12U /* length, checksum */
#define TRAILER_LENGTH 28U /* zero, number of frames, sum of sums, sum of these */
#define NS_PER_SECOND  1000000000U

enum { FLAG_STABLE_INODES = 1, FLAG_XATTRS = 2, FLAG_ACLS = 4, FLAG_SIDECAR = 8, FLAGS_ALL = 15 };

struct JournalWriter {
    int state_fd, fd;
    GByteArray *buffer;  /* not yet written */
    GByteArray *payload; /* of the frame in the making */
    XXH3_state_t *sums;
    guint64 frames; /* the header among them */
};

struct Journal {
    int fd;
    guint8 *buffer;
    gsize at, filled;
    guint64 left; /* bytes of the file that are not in the buffer yet */
    GByteArray *payload;
    XXH3_state_t *sums;
    guint64 frames;
    gboolean ended;
    char *run_id, *versions, *path;
    const Attrs *attrs;
    JournalHeader header;
};

static gboolean is_one_name(const char *name)
{
    return name[0] != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* TRUE for what stays below the destination and outside of our own folder. */
static gboolean is_safe_path(const char *path)
{
    gsize first = strcspn(path, "/");
    if (first == strlen(DESTINATION_STATE_DIR) && strncmp(path, DESTINATION_STATE_DIR, first) == 0)
        return FALSE;
    return dir_is_inner_path(path);
}

static gboolean has_meta(JournalOp op)
{
    return op == JOURNAL_META || op == JOURNAL_DIR || op == JOURNAL_PATCH;
}

static guint64 checksum(const void *data, gsize length, guint64 number)
{
    return XXH3_64bits_withSeed(data, length, number);
}

static void add_sum(XXH3_state_t *sums, guint64 sum)
{
    guint64 little = GUINT64_TO_LE(sum);
    XXH3_64bits_update(sums, &little, sizeof little);
}

/* ---- writing ---- */

static gboolean flush(JournalWriter *writer, GError **error)
{
    gsize done = 0;
    while (done < writer->buffer->len) {
        gssize put = write(writer->fd, writer->buffer->data + done, writer->buffer->len - done);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return error_set_errno(error, errno, "cannot write the journal");
        done += (gsize)put;
    }
    g_byte_array_set_size(writer->buffer, 0);
    return TRUE;
}

/* Appends the payload as a frame. Its number is part of the checksum, so no frame is taken for another one. */
static gboolean put_frame(JournalWriter *writer, GError **error)
{
    const GByteArray *payload = writer->payload;
    if (payload->len > RECORD_MAX)
        return error_set(error, BACKAPP_ERROR_INVALID, "a record of the journal is longer than %u MiB",
                         RECORD_MAX / 1024 / 1024);
    guint64 sum = checksum(payload->data, payload->len, writer->frames++);
    add_sum(writer->sums, sum);
    bytes_put_u32(writer->buffer, payload->len);
    bytes_put_u64(writer->buffer, sum);
    g_byte_array_append(writer->buffer, payload->data, payload->len);
    return writer->buffer->len < BUFFER_BYTES || flush(writer, error);
}

static gboolean put_header(JournalWriter *writer, const JournalHeader *header, GError **error)
{
    if (!is_one_name(header->run_id) || (header->versions[0] != '\0' && !is_one_name(header->versions)) ||
        strlen(header->run_id) > NAME_BYTES || strlen(header->versions) > NAME_BYTES)
        return error_set(error, BACKAPP_ERROR_INVALID, "a run's name \"%s\" or its versions' \"%s\" is no file name",
                         header->run_id, header->versions);
    guint flags = (header->stable_inodes ? FLAG_STABLE_INODES : 0) | (header->filter.xattrs ? FLAG_XATTRS : 0) |
                  (header->filter.acls ? FLAG_ACLS : 0) | (header->sidecar ? FLAG_SIDECAR : 0);
    g_byte_array_append(writer->buffer, (const guint8 *)MAGIC, MAGIC_LENGTH);
    g_byte_array_set_size(writer->payload, 0);
    bytes_put_varint(writer->payload, VERSION);
    bytes_put_blob(writer->payload, header->run_id, strlen(header->run_id));
    bytes_put_blob(writer->payload, header->versions, strlen(header->versions));
    bytes_put_varint(writer->payload, flags);
    return put_frame(writer, error);
}

JournalWriter *journal_writer_new(int state_fd, const JournalHeader *header, GError **error)
{
    if (faccessat(state_fd, "journal", F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        error_set(error, BACKAPP_ERROR_CONFLICT,
                  "the journal of an earlier run is still there; it has to be completed first (--recover)");
        return NULL;
    }
    if (unlinkat(state_fd, "journal.new", 0) != 0 && errno != ENOENT) {
        error_set_errno(error, errno, "cannot remove an old journal.new");
        return NULL;
    }
    int fd = openat(state_fd, "journal.new", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        error_set_errno(error, errno, "cannot create the journal");
        return NULL;
    }
    g_autoptr(JournalWriter) writer = g_new0(JournalWriter, 1);
    writer->state_fd = state_fd;
    writer->fd = fd;
    writer->buffer = g_byte_array_new();
    writer->payload = g_byte_array_new();
    writer->sums = XXH3_createState();
    XXH3_64bits_reset(writer->sums);
    return put_header(writer, header, error) ? g_steal_pointer(&writer) : NULL;
}

gboolean journal_put(JournalWriter *writer, const JournalRecord *record, GError **error)
{
    if (!is_safe_path(record->path) && !(record->op == JOURNAL_DIR && record->path[0] == '\0'))
        return error_set(error, BACKAPP_ERROR_INTERNAL, "\"%s\" is no path for the journal", record->path);
    GByteArray *out = writer->payload;
    g_byte_array_set_size(out, 0);
    bytes_put_varint(out, record->op);
    bytes_put_blob(out, record->path, strlen(record->path));
    bytes_put_varint(out, record->staged_ino);
    bytes_put_varint(out, record->have_ino);
    bytes_put_varint(out, record->have_mode);
    if (has_meta(record->op)) {
        bytes_put_varint(out, record->meta.mode);
        bytes_put_varint(out, record->meta.uid);
        bytes_put_varint(out, record->meta.gid);
        bytes_put_signed(out, record->meta.mtime_s);
        bytes_put_varint(out, record->meta.mtime_ns);
        gboolean with_attrs = record->with_attrs && record->attrs != NULL;
        bytes_put_varint(out, with_attrs ? 1 : 0);
        if (with_attrs)
            attrs_encode(record->attrs, out);
    }
    return put_frame(writer, error);
}

guint64 journal_count(const JournalWriter *writer)
{
    return writer->frames - 1;
}

static void put_trailer(JournalWriter *writer)
{
    GByteArray *trailer = writer->payload;
    g_byte_array_set_size(trailer, 0);
    bytes_put_u32(trailer, 0);
    bytes_put_u64(trailer, writer->frames);
    bytes_put_u64(trailer, XXH3_64bits_digest(writer->sums));
    bytes_put_u64(trailer, checksum(trailer->data, trailer->len, writer->frames));
    g_byte_array_append(writer->buffer, trailer->data, trailer->len);
}

gboolean journal_commit(JournalWriter *writer, GError **error)
{
    put_trailer(writer);
    if (!flush(writer, error))
        return FALSE;
    if (fsync(writer->fd) != 0)
        return error_set_errno(error, errno, "cannot write the journal to disk");
    if (!fd_close(&writer->fd, "the journal", error))
        return FALSE;
    if (renameat(writer->state_fd, "journal.new", writer->state_fd, "journal") != 0)
        return error_set_errno(error, errno, "cannot rename journal.new to journal");
    if (dir_sync(writer->state_fd, DESTINATION_STATE_DIR, error))
        return TRUE;
    /* Whether it is durable is not known, so the run must not count as committed: the caller will empty the stage. */
    if (unlinkat(writer->state_fd, "journal", 0) != 0)
        g_warning("cannot take the journal back: %s", g_strerror(errno));
    return FALSE;
}

void journal_writer_free(JournalWriter *writer)
{
    if (writer == NULL)
        return;
    fd_clear(&writer->fd);
    /* After the commit the name is gone; else what is left is never read, and the next writer removes it. */
    if (unlinkat(writer->state_fd, "journal.new", 0) != 0 && errno != ENOENT)
        g_warning("cannot remove journal.new: %s", g_strerror(errno));
    g_byte_array_unref(writer->buffer);
    g_byte_array_unref(writer->payload);
    XXH3_freeState(writer->sums);
    g_free(writer);
}

/* ---- reading ---- */

static int damaged(GError **error, const char *what)
{
    error_set(error, BACKAPP_ERROR_CORRUPT, "the journal is damaged: %s", what);
    return -1;
}

/* Copies the next bytes of the file: 1, or -1 (CORRUPT at its end). */
static int get_bytes(Journal *journal, guint8 *out, gsize length, GError **error)
{
    if (length > journal->left + (journal->filled - journal->at))
        return damaged(error, "it ends too early");
    while (length > 0) {
        if (journal->at == journal->filled) {
            gssize got = read(journal->fd, journal->buffer, BUFFER_BYTES);
            if (got < 0 && errno == EINTR)
                continue;
            if (got < 0) {
                error_set_errno(error, errno, "cannot read the journal");
                return -1;
            }
            if (got == 0)
                return damaged(error, "it ends too early");
            journal->at = 0;
            journal->filled = (gsize)got;
            journal->left -= MIN(journal->left, (guint64)got);
        }
        gsize piece = MIN(length, journal->filled - journal->at);
        memcpy(out, journal->buffer + journal->at, piece);
        journal->at += piece;
        out += piece;
        length -= piece;
    }
    return 1;
}

/* The trailer, of which the first bytes are read already. */
static int check_trailer(Journal *journal, guint8 trailer[TRAILER_LENGTH], GError **error)
{
    if (get_bytes(journal, trailer + FRAME_HEAD, TRAILER_LENGTH - FRAME_HEAD, error) < 0)
        return -1;
    BytesReader in = bytes_reader(trailer, TRAILER_LENGTH);
    bytes_get_u32(&in);
    guint64 frames = bytes_get_u64(&in);
    guint64 sums = bytes_get_u64(&in);
    guint64 sum = bytes_get_u64(&in);
    if (frames != journal->frames || sums != XXH3_64bits_digest(journal->sums) ||
        sum != checksum(trailer, TRAILER_LENGTH - sizeof sum, frames))
        return damaged(error, "its trailer does not fit");
    if (journal->left > 0 || journal->at < journal->filled)
        return damaged(error, "it goes on after its trailer");
    journal->ended = TRUE;
    return 0;
}

/* The next frame's payload: 1; 0 after the trailer; -1. */
static int next_frame(Journal *journal, GError **error)
{
    guint8 head[TRAILER_LENGTH];
    if (journal->ended)
        return 0;
    if (get_bytes(journal, head, FRAME_HEAD, error) < 0)
        return -1;
    BytesReader in = bytes_reader(head, FRAME_HEAD);
    guint32 length = bytes_get_u32(&in);
    guint64 sum = bytes_get_u64(&in);
    if (length == 0)
        return check_trailer(journal, head, error);
    /* Nothing is allocated that the file cannot fill. */
    if (length > RECORD_MAX || length > journal->left + (journal->filled - journal->at))
        return damaged(error, "a record has an impossible length");
    g_byte_array_set_size(journal->payload, length);
    if (get_bytes(journal, journal->payload->data, length, error) < 0)
        return -1;
    if (checksum(journal->payload->data, length, journal->frames) != sum)
        return damaged(error, "a record's checksum does not fit");
    journal->frames++;
    add_sum(journal->sums, sum);
    return 1;
}

static gboolean get_header(Journal *journal, GError **error)
{
    BytesReader in = bytes_reader(journal->payload->data, journal->payload->len);
    guint64 version = bytes_get_varint(&in);
    if (!in.bad && version != VERSION)
        return error_set(error, BACKAPP_ERROR_CONFLICT,
                         "the journal has format version %" G_GUINT64_FORMAT
                         ", which this program does not know: complete it with the program that wrote it",
                         version);
    journal->run_id = bytes_get_string(&in, NAME_BYTES);
    journal->versions = bytes_get_string(&in, NAME_BYTES);
    guint64 flags = bytes_get_varint(&in);
    if (!bytes_reader_done(&in) || flags > FLAGS_ALL || !is_one_name(journal->run_id) ||
        (journal->versions[0] != '\0' && !is_one_name(journal->versions)))
        return damaged(error, "its header makes no sense") > 0;
    journal->header =
        (JournalHeader){.run_id = journal->run_id,
                        .versions = journal->versions,
                        .stable_inodes = (flags & FLAG_STABLE_INODES) != 0,
                        .filter = {.xattrs = (flags & FLAG_XATTRS) != 0, .acls = (flags & FLAG_ACLS) != 0},
                        .sidecar = (flags & FLAG_SIDECAR) != 0};
    return TRUE;
}

gboolean journal_rewind(Journal *journal, GError **error)
{
    struct stat st;
    guint8 magic[MAGIC_LENGTH];
    if (lseek(journal->fd, 0, SEEK_SET) != 0 || fstat(journal->fd, &st) != 0)
        return error_set_errno(error, errno, "cannot read the journal");
    journal->at = journal->filled = 0;
    journal->left = (guint64)st.st_size;
    journal->frames = 0;
    journal->ended = FALSE;
    XXH3_64bits_reset(journal->sums);
    if (get_bytes(journal, magic, sizeof magic, error) < 0)
        return FALSE;
    if (memcmp(magic, MAGIC, sizeof magic) != 0)
        return damaged(error, "it does not begin as one") > 0;
    int got = next_frame(journal, error);
    if (got == 0)
        return damaged(error, "it has no header") > 0;
    return got > 0 && (journal->run_id != NULL || get_header(journal, error));
}

static gboolean get_record(Journal *journal, BytesReader *in, JournalRecord *record, GError **error)
{
    *record = (JournalRecord){0};
    guint64 op = bytes_get_varint(in);
    journal->path = bytes_get_string(in, PATH_BYTES);
    record->path = journal->path;
    record->staged_ino = bytes_get_varint(in);
    record->have_ino = bytes_get_varint(in);
    guint64 have_mode = bytes_get_varint(in);
    if (in->bad || op < JOURNAL_PLACE || op > JOURNAL_DIR || have_mode > G_MAXUINT32)
        return FALSE;
    record->op = (JournalOp)op;
    record->have_mode = (guint32)have_mode;
    if (!is_safe_path(record->path) && !(op == JOURNAL_DIR && record->path[0] == '\0'))
        return FALSE;
    if (!has_meta(record->op))
        return bytes_reader_done(in);
    guint64 mode = bytes_get_varint(in);
    guint64 uid = bytes_get_varint(in);
    guint64 gid = bytes_get_varint(in);
    record->meta.mtime_s = bytes_get_signed(in);
    guint64 ns = bytes_get_varint(in);
    guint64 with_attrs = bytes_get_varint(in);
    if (in->bad || mode > G_MAXUINT32 || uid > G_MAXUINT32 || gid > G_MAXUINT32 || ns >= NS_PER_SECOND ||
        with_attrs > 1)
        return FALSE;
    record->meta.mode = (guint32)mode;
    record->meta.uid = (guint32)uid;
    record->meta.gid = (guint32)gid;
    record->meta.mtime_ns = (guint32)ns;
    record->with_attrs = with_attrs != 0;
    if (record->with_attrs)
        record->attrs = journal->attrs = attrs_decode(in, error);
    return (!record->with_attrs || record->attrs != NULL) && bytes_reader_done(in);
}

int journal_next(Journal *journal, JournalRecord *record, GError **error)
{
    attrs_free(journal->attrs);
    journal->attrs = NULL;
    g_clear_pointer(&journal->path, g_free);
    int got = next_frame(journal, error);
    if (got <= 0)
        return got;
    g_autoptr(GError) local = NULL;
    BytesReader in = bytes_reader(journal->payload->data, journal->payload->len);
    if (get_record(journal, &in, record, &local))
        return 1;
    return damaged(error, local != NULL ? local->message : "a record makes no sense");
}

Journal *journal_open(int state_fd, GError **error)
{
    g_autoptr(Journal) journal = g_new0(Journal, 1);
    journal->fd = openat(state_fd, "journal", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (journal->fd < 0) {
        error_set_errno(error, errno, "cannot open the journal");
        return NULL;
    }
    journal->buffer = g_malloc(BUFFER_BYTES);
    journal->payload = g_byte_array_new();
    journal->sums = XXH3_createState();
    JournalRecord record;
    int got = journal_rewind(journal, error) ? 1 : -1;
    while (got > 0)
        got = journal_next(journal, &record, error);
    return got == 0 && journal_rewind(journal, error) ? g_steal_pointer(&journal) : NULL;
}

const JournalHeader *journal_header(const Journal *journal)
{
    return &journal->header;
}

void journal_free(Journal *journal)
{
    if (journal == NULL)
        return;
    fd_clear(&journal->fd);
    attrs_free(journal->attrs);
    g_free(journal->buffer);
    if (journal->payload != NULL)
        g_byte_array_unref(journal->payload);
    XXH3_freeState(journal->sums);
    g_free(journal->run_id);
    g_free(journal->versions);
    g_free(journal->path);
    g_free(journal);
}
