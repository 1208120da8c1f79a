/*
 * Entries of the list of files from the input's bytes, one after another. What must hold: reading ends, never outside the
 * bytes; what can be read is written again and then reads the same.
 */
#include "engine/source/entry.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_and_read(const S3Entry *entry, const char *previous)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_autoptr(GByteArray) again = g_byte_array_new();
    g_autoptr(GByteArray) arena = g_byte_array_new();
    S3Entry back;
    entry_encode(entry, previous, bytes);
    BytesReader in = bytes_reader(bytes->data, bytes->len);
    g_assert_true(entry_decode(&in, previous, arena, &back, NULL) && bytes_reader_done(&in));
    entry_encode(&back, previous, again);
    g_assert_true(bytes->len == again->len && memcmp(bytes->data, again->data, again->len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GByteArray) arena = g_byte_array_new();
    g_autoptr(GString) previous = g_string_new(NULL);
    BytesReader in = bytes_reader(data, size);
    S3Entry entry;
    while (in.at < in.end && entry_decode(&in, previous->str, arena, &entry, NULL)) {
        write_and_read(&entry, previous->str);
        g_string_assign(previous, entry.path);
        g_byte_array_set_size(arena, 0);
    }
    return 0;
}
