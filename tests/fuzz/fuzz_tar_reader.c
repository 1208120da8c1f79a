/*
 * A tar of which nothing is known, as it is read when its index is lost. What must hold: reading ends, never outside the
 * bytes; an entry that is not refused has a path that stays in its tree, attributes that can be read, and can be put into
 * an index; of its content there is as much as its header says.
 */
#include "engine/archive/index.h"
#include "engine/archive/stored_file.h"
#include "engine/archive/tar_format.h"
#include "engine/archive/tar_reader.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HOLES_MAX (1024 * 1024)

typedef struct {
    const guint8 *at, *end;
    gsize step;
} Input;

static int give(gpointer user_data, const guint8 **data, gsize *length, GError **error)
{
    Input *input = user_data;
    *length = MIN(input->step, (gsize)(input->end - input->at));
    *data = input->at;
    input->at += *length;
    return *length > 0;
}

static void check_path(const char *path)
{
    g_assert_true(path[0] != '/' && strlen(path) <= 65536);
    g_auto(GStrv) names = g_strsplit(path, "/", -1);
    for (char **name = names; *name != NULL; name++)
        g_assert_true((*name)[0] != '\0' && strcmp(*name, ".") != 0 && strcmp(*name, "..") != 0);
}

static void check_entry(const TarEntry *in)
{
    if (in->entry.path[0] != '\0')
        check_path(in->entry.path);
    if (in->entry.link != NULL)
        check_path(in->entry.link);
    if (in->entry.attrs != NULL) {
        BytesReader bytes = bytes_reader(in->entry.attrs, in->entry.attrs_length);
        const Attrs *attrs ATTRS_AUTO = attrs_decode(&bytes, NULL);
        g_assert_true(attrs != NULL && bytes_reader_done(&bytes));
    }
    g_autoptr(GByteArray) first = g_byte_array_new();
    g_autoptr(GByteArray) again = g_byte_array_new();
    g_autoptr(GByteArray) arena = g_byte_array_new();
    IndexEntry entry = {.entry = in->entry, .tar_offset = in->offset, .header_length = in->header_length};
    index_entry_encode(&entry, "", first);
    BytesReader bytes = bytes_reader(first->data, first->len);
    g_assert_true(index_entry_decode(&bytes, "", arena, &entry, NULL) && bytes_reader_done(&bytes));
    index_entry_encode(&entry, "", again);
    g_assert_true(again->len == first->len && memcmp(again->data, first->data, first->len) == 0);
}

static void read_content(TarReader *tar, const TarEntry *entry)
{
    g_autoptr(StoredFile) file = stored_file_new();
    const guint8 *data = NULL;
    gsize length = 0, used = 0;
    guint64 seen = 0;
    gboolean good = entry->entry.meta.size <= HOLES_MAX;
    int got;
    stored_file_begin(file, entry->entry.meta.size, entry->sparse, NULL, NULL);
    while ((got = tar_reader_content(tar, &data, &length, NULL)) == 1) {
        good = good && stored_file_feed(file, data, length, &used, NULL);
        g_assert_true(!good || used <= length);
        seen += length;
    }
    g_assert_true(got < 0 || seen == entry->stored);
    guint8 hash[HASH_BYTES];
    if (got == 0 && good && stored_file_wanted(file) == 0)
        stored_file_finish(file, hash);
}

/* Whoever forges a tar makes its checksums right. */
static void sum_blocks(guint8 *tar, gsize length)
{
    for (guint8 *block = tar; length - (gsize)(block - tar) >= TAR_BLOCK; block += TAR_BLOCK) {
        if (memcmp(block + 257, "ustar", 5) != 0)
            continue;
        memset(block + 148, ' ', 8);
        guint sum = 0;
        for (guint i = 0; i < TAR_BLOCK; i++)
            sum += block[i];
        char text[16];
        (void)g_snprintf(text, sizeof text, "%06o", sum);
        memcpy(block + 148, text, 7);
    }
}

/* The first byte says in what steps the rest comes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const gsize STEPS[] = {1, 7, 512, 100000};
    if (size < 1)
        return 0;
    g_autofree guint8 *copy = g_memdup2(data, size);
    sum_blocks(copy + 1, size - 1);
    Input input = {.at = copy + 1, .end = copy + size, .step = STEPS[data[0] % G_N_ELEMENTS(STEPS)]};
    g_autoptr(TarReader) tar = tar_reader_new(give, &input);
    TarEntry entry;
    while (tar_reader_next(tar, &entry, NULL) == 1) {
        g_assert_true(entry.header_length >= TAR_BLOCK && entry.header_length % TAR_BLOCK == 0);
        if (entry.refused != NULL)
            continue;
        check_entry(&entry);
        read_content(tar, &entry);
    }
    return 0;
}
