/*
 * Runs one harness without libFuzzer over the corpus it was given: every file, and every beginning of the short ones,
 * which is how most parsers are broken. So what a fuzzer once found stays found in every build.
 */
#include <glib.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SHORT_FILE 2048

/* From memory of exactly that size, so that a sanitizer sees a read beyond it. */
static void feed(const char *bytes, gsize length)
{
    uint8_t *copy = g_malloc(length + (length == 0));
    memcpy(copy, bytes, length);
    (void)LLVMFuzzerTestOneInput(copy, length);
    g_free(copy);
}

static void feed_file(const char *bytes, gsize length)
{
    feed(bytes, length);
    for (gsize i = 0; length <= SHORT_FILE && i < length; i++)
        feed(bytes, i);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s NAME CORPUS\n", argv[0]);
        return 2;
    }
    g_autoptr(GDir) dir = g_dir_open(argv[2], 0, NULL);
    guint files = 0;
    for (const char *name; dir && (name = g_dir_read_name(dir));) {
        g_autofree char *path = g_build_filename(argv[2], name, NULL);
        g_autofree char *bytes = NULL;
        gsize length;
        if (!g_file_get_contents(path, &bytes, &length, NULL))
            continue;
        /* The last line of a run that dies is the input that killed it. */
        printf("feeding %s\n", name);
        fflush(stdout);
        feed_file(bytes, length);
        files++;
    }
    if (files == 0) {
        printf("not ok fuzz/%s: no corpus in %s\n", argv[1], argv[2]);
        return 1;
    }
    printf("ok fuzz/%s\n", argv[1]);
    return 0;
}
