/*
 * Writes tars by tar_format.h for test_tar_peers.py:
 *   tar_tool tree DIR   DIR with everything in it, to stdout
 *   tar_tool odd        entries that hardly a file system has, huge ones with holes of the output as content
 *   tar_tool huge       a sparse file with a piece of 9 GiB
 *   tar_tool many N     a file with N attributes of 64 KiB
 */
#include "engine/archive/tar_format.h"
#include "engine/source/scan.h"
#include "fs/dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define GIB (G_GUINT64_CONSTANT(1) << 30)

static gboolean put(const void *data, gsize length)
{
    return fwrite(data, 1, length, stdout) == length;
}

/* FALSE if the file has no holes. */
static gboolean find_extents(int fd, guint64 size, GArray *extents)
{
    for (off_t at = 0; at < (off_t)size;) {
        off_t data = lseek(fd, at, SEEK_DATA);
        if (data < 0)
            break;
        off_t hole = lseek(fd, data, SEEK_HOLE);
        TarExtent extent = {.offset = (guint64)data, .length = (guint64)(hole - data)};
        g_array_append_val(extents, extent);
        at = hole;
    }
    return extents->len != 1 || g_array_index(extents, TarExtent, 0).length != size;
}

static gboolean copy_piece(int fd, const TarExtent *piece)
{
    static guint8 buffer[65536];
    for (guint64 done = 0; done < piece->length;) {
        gsize step = (gsize)MIN(piece->length - done, sizeof buffer);
        ssize_t got = pread(fd, buffer, step, (off_t)(piece->offset + done));
        if (got <= 0 || !put(buffer, (gsize)got))
            return FALSE;
        done += (guint64)got;
    }
    return TRUE;
}

static gboolean put_file(int root, const S3Entry *entry, GError **error)
{
    static const guint8 ZEROS[TAR_BLOCK];
    static const TarExtent NONE;
    g_auto(AutoFd) fd = openat(root, entry->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    g_autoptr(GArray) pieces = g_array_new(FALSE, FALSE, sizeof(TarExtent));
    g_autoptr(GByteArray) head = g_byte_array_new();
    TarExtent whole = {.length = entry->meta.size};
    gboolean sparse = fd >= 0 && entry->meta.size > 0 && find_extents(fd, entry->meta.size, pieces);
    const TarExtent *extents = !sparse ? NULL : pieces->len > 0 ? (const TarExtent *)(gpointer)pieces->data : &NONE;
    if (fd < 0 || !tar_put_header(entry, extents, pieces->len, head, error))
        return FALSE;
    if (sparse)
        tar_put_map(entry, extents, pieces->len, head);
    gboolean good = put(head->data, head->len);
    for (guint i = 0; good && i < (sparse ? pieces->len : 1); i++)
        good = copy_piece(fd, sparse ? &extents[i] : &whole);
    return good && put(ZEROS, tar_padding(tar_content_size(entry, extents, pieces->len)));
}

static gboolean found(const S3Entry *entry, gpointer user_data, GError **error)
{
    if (S_ISSOCK(entry->meta.mode))
        return TRUE;
    if (S_ISREG(entry->meta.mode) && entry->link == NULL)
        return put_file(*(int *)user_data, entry, error);
    g_autoptr(GByteArray) head = g_byte_array_new();
    return tar_put_header(entry, NULL, 0, head, error) && put(head->data, head->len);
}

static void ignore_progress(RunSink *sink, const RunProgress *progress)
{
    (void)sink;
    (void)progress;
}

static void show_warning(RunSink *sink, const char *code, const char *path, const char *message)
{
    (void)sink;
    fprintf(stderr, "%s %s: %s\n", code, path, message);
}

static gboolean write_tree(const char *path, GError **error)
{
    g_auto(AutoFd) root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    RunSink sink = {.progress = ignore_progress, .warning = show_warning};
    ScanStats stats = {0};
    S3Names *names = names_new_paths();
    ScanOptions options = {.root_fd = root, .names = names, .metadata = TRUE, .sink = &sink};
    gboolean good = root >= 0 && scan_run(&options, found, &root, &stats, error);
    scan_stats_clear(&stats);
    names_free(names);
    return good;
}

/* Headers of what is not there; the contents are left as holes. */
static gboolean write_entries(const S3Entry *entries, guint count, guint64 piece, GError **error)
{
    const TarExtent pieces[] = {{4096, 10}, {GIB << 3, piece}};
    for (guint i = 0; i < count; i++) {
        gboolean sparse = strcmp(entries[i].path, "sparse") == 0;
        const TarExtent *extents = sparse ? pieces : NULL;
        guint length = sparse ? G_N_ELEMENTS(pieces) : 0;
        g_autoptr(GByteArray) head = g_byte_array_new();
        if (!tar_put_header(&entries[i], extents, length, head, error))
            return FALSE;
        if (sparse)
            tar_put_map(&entries[i], extents, length, head);
        guint64 content = tar_content_size(&entries[i], extents, length);
        content += tar_padding(content);
        if (!put(head->data, head->len) || (content > 0 && fseeko(stdout, (off_t)content, SEEK_CUR) != 0))
            return FALSE;
    }
    return TRUE;
}

static gboolean write_odd(GError **error)
{
    g_autofree char *longest = g_strnfill(300, 'n');
    const FileMeta file = {.mode = S_IFREG | 0640, .uid = 3000000000, .gid = 4000000000, .mtime_s = 1, .mtime_ns = 5};
    const S3Entry entries[] = {
        {.path = "owner", .meta = file, .user = "\xc3\xbcser", .group = longest},
        {.path = "bytes", .meta = file, .user = "\xff\xfe", .group = "group"},
        {.path = "before", .meta = {.mode = S_IFREG | 0600, .mtime_s = -2, .mtime_ns = 250000000}},
        {.path = "far", .meta = {.mode = S_IFREG | 0600, .mtime_s = GIB << 10}},
        {.path = "device", .meta = {.mode = S_IFBLK | 0600, .rdev = makedev(4095, 1048575)}},
        {.path = "huge", .meta = {.mode = S_IFREG | 0600, .size = 9 * GIB}},
        {.path = "sparse", .meta = {.mode = S_IFREG | 0600, .size = GIB << 10}},
        {.path = "end", .meta = {.mode = S_IFREG | 0600}},
    };
    return write_entries(entries, G_N_ELEMENTS(entries), GIB, error);
}

static gboolean write_huge(GError **error)
{
    const S3Entry entries[] = {
        {.path = "sparse", .meta = {.mode = S_IFREG | 0600, .size = GIB << 10}},
        {.path = "end", .meta = {.mode = S_IFREG | 0600}},
    };
    return write_entries(entries, G_N_ELEMENTS(entries), 9 * GIB, error);
}

/* An attribute of 64 KiB for each name, together more than a header holds. */
static gboolean write_many(const char *count, GError **error)
{
    g_autoptr(GByteArray) attrs = g_byte_array_new();
    g_autofree char *value = g_strnfill(65536, 'v');
    guint number = (guint)g_ascii_strtoull(count, NULL, 10);
    bytes_put_varint(attrs, number);
    for (guint i = 0; i < number; i++) {
        g_autofree char *name = g_strdup_printf("user.%02u", i);
        bytes_put_blob(attrs, name, strlen(name));
        bytes_put_blob(attrs, value, 65536);
    }
    const S3Entry entries[] = {
        {.path = "many", .meta = {.mode = S_IFREG | 0600}, .attrs = attrs->data, .attrs_length = attrs->len},
        {.path = "end", .meta = {.mode = S_IFREG | 0600}},
    };
    return write_entries(entries, G_N_ELEMENTS(entries), 0, error);
}

static gboolean write_what(int argc, char **argv, GError **error)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "tree") == 0 && argc == 3)
        return write_tree(argv[2], error);
    if (strcmp(what, "many") == 0 && argc == 3)
        return write_many(argv[2], error);
    if (strcmp(what, "odd") == 0)
        return write_odd(error);
    return strcmp(what, "huge") == 0 && write_huge(error);
}

int main(int argc, char **argv)
{
    static const guint8 END[TAR_END_BYTES];
    g_autoptr(GError) error = NULL;
    if (write_what(argc, argv, &error) && put(END, sizeof END) && fclose(stdout) == 0)
        return 0;
    fprintf(stderr, "tar_tool: %s\n", error != NULL ? error->message : strerror(errno));
    return 1;
}
