/*
 * The contract of store.h, proved against one store:
 *
 *     contract-store [WRAPPER+]...STORE
 *
 * STORE is "local" (a fresh directory), "local-side-files" (one on a file system without attributes), "memory:", or a URL;
 * a URL's options are found in the environment. A WRAPPER is retry, limit, breaker, or prefix. Without an argument
 * $BACKAPP_TEST_STORE is taken.
 */
#include "contract.h"

#include "../unit/fs/scratch.h"

static const char *spec;
static char *directory;   /* of "local" */
static guint descriptors; /* open before the store is */

const char *keep(Contract *contract, char *string)
{
    g_ptr_array_add(contract->strings, string);
    return string;
}

const char *key_of(Contract *contract, const char *name)
{
    return keep(contract, g_strconcat(contract->folder, name, NULL));
}

guint8 *make_bytes(gsize length, guint32 seed)
{
    guint8 *bytes = g_malloc(length + 1);
    guint32 x = seed * 2654435761U + 12345;
    for (gsize i = 0; i < length; i++) {
        x = x * 1664525U + 1013904223U;
        bytes[i] = (guint8)(x >> 24);
    }
    return bytes;
}

void put_bytes(Store *store, const char *key, const void *data, gsize length)
{
    StoreBody body = {.data = data, .length = length};
    WORKS(store_put(store, key, &body, NULL, NULL, &error));
}

void put_text(Store *store, const char *key, const char *text)
{
    put_bytes(store, key, text, strlen(text));
}

void assert_content(Store *store, const char *key, const void *data, gsize length)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) bytes = store_get_bytes(store, key, NULL, length + 1, NULL, &error);
    if (!bytes)
        fail_msg("cannot read %s: %s", key, error->message);
    assert_int_equal(g_bytes_get_size(bytes), length);
    if (length > 0)
        assert_memory_equal(g_bytes_get_data(bytes, NULL), data, length);
}

void assert_text(Store *store, const char *key, const char *text)
{
    assert_content(store, key, text, strlen(text));
}

void assert_no_object(Store *store, const char *key)
{
    FAILS(store_head(store, key, NULL, &error), BACKAPP_ERROR_NOT_FOUND);
}

static gboolean append(gpointer user_data, const void *data, gsize length, GError **error)
{
    g_byte_array_append(user_data, data, (guint)length);
    return TRUE;
}

GByteArray *read_range(Store *store, const StoreRange *range, StoreObject **object, GError **error)
{
    GByteArray *bytes = g_byte_array_new();
    if (store_get(store, range, append, bytes, object, error))
        return bytes;
    g_byte_array_unref(bytes);
    return NULL;
}

char *list_names(Contract *contract, const char *prefix, const char *start_after)
{
    g_autoptr(GString) names = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    const char *whole = key_of(contract, prefix);
    const char *after = start_after ? key_of(contract, start_after) : NULL;
    g_autoptr(StoreList) list = store_list(contract->store, whole, after, FALSE, &error);
    assert_non_null(list);
    const StoreObject *object = NULL;
    int got = 0;
    while ((got = store_list_next(list, &object, &error)) > 0)
        g_string_append_printf(names, "%s%s", names->len > 0 ? " " : "", object->key + strlen(contract->folder));
    if (got < 0)
        fail_msg("cannot list: %s", error->message);
    return g_string_free(g_steal_pointer(&names), FALSE);
}

static gssize give(gpointer user_data, guint64 offset, void *buffer, gsize size, GError **error)
{
    const Source *source = user_data;
    if (offset >= source->fails_at) {
        error_set(error, BACKAPP_ERROR_DENIED, "the source cannot be read");
        return -1;
    }
    gsize n = (gsize)MIN(MIN(size, 10007), MIN(source->length, source->fails_at) - offset);
    memcpy(buffer, source->data + offset, n);
    return (gssize)n;
}

StoreBody source_body(Source *source)
{
    return (StoreBody){.length = source->length, .read = give, .user_data = source};
}

/* --- the store under test --- */

/* Options that the environment does not say itself. */
static void read_options(StoreOptions *options)
{
    store_options_default(options);
    options->ca_file = g_getenv("S3_TEST_CA");
    const char *style = g_getenv("BACKAPP_TEST_PATH_STYLE");
    options->path_style = style ? (int)g_ascii_strtoll(style, NULL, 10) : -1;
    options->retry = (RetryPolicy){.attempts = 4, .first_delay_ms = 20, .max_delay_ms = 200};
}

static Store *open_bare(const char *name, GError **error)
{
    StoreOptions options;
    read_options(&options);
    if (strcmp(name, "memory:") == 0)
        return store_memory_new();
    if (strcmp(name, "local-side-files") == 0 && !(forbid_call(SYS_fsetxattr) && forbid_call(SYS_fgetxattr)))
        exit(CHILD_SKIPS);
    if (strcmp(name, "local") != 0 && strcmp(name, "local-side-files") != 0)
        return store_open(name, &options, error);
    directory = g_strdup_printf("%s/backapp-contract-XXXXXX", g_get_tmp_dir());
    if (!g_mkdtemp(directory))
        return NULL;
    return store_local_new(directory, error);
}

static Store *wrap(Store *store, const char *wrapper)
{
    const RetryPolicy policy = {.attempts = 4, .first_delay_ms = 1, .max_delay_ms = 10};
    if (strcmp(wrapper, "retry") == 0)
        return store_retry_new(store, &policy, NULL);
    if (strcmp(wrapper, "limit") == 0)
        return store_limit_new(store, 3, 100000, NULL);
    if (strcmp(wrapper, "breaker") == 0)
        return store_breaker_new(store, 5, 50);
    if (strcmp(wrapper, "prefix") == 0)
        return store_prefix_new(store, "some/where else/");
    (void)fprintf(stderr, "there is no wrapper %s\n", wrapper);
    exit(2);
}

/* How many descriptors the program has. */
static guint count_descriptors(void)
{
    g_auto(AutoFd) fd = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 ? count_names(fd) : 0;
}

static int open_store(void **state)
{
    descriptors = count_descriptors();
    g_auto(GStrv) words = g_strsplit(spec, "+", -1);
    guint count = g_strv_length(words);
    g_autoptr(GError) error = NULL;
    Store *store = open_bare(words[count - 1], &error);
    if (!store) {
        (void)fprintf(stderr, "cannot open %s: %s\n", spec, error ? error->message : "?");
        return -1;
    }
    for (guint i = count - 1; i-- > 0;)
        store = wrap(store, words[i]);
    Contract *contract = g_new0(Contract, 1);
    contract->store = store;
    *state = contract;
    return 0;
}

static int close_store(void **state)
{
    Contract *contract = *state;
    store_free(contract->store);
    g_free(contract);
    guint left = count_descriptors();
    if (left != descriptors)
        (void)fprintf(stderr, "%u descriptors were open before, and %u are now\n", descriptors, left);
    gboolean good = !directory || remove_tree(AT_FDCWD, directory, FALSE, NULL, NULL);
    g_free(directory);
    return good && left == descriptors ? 0 : -1;
}

static int begin_test(void **state)
{
    Contract *contract = *state;
    contract->strings = g_ptr_array_new_with_free_func(g_free);
    contract->folder = g_strdup_printf("test-%08x%08x/", g_random_int(), g_random_int());
    return 0;
}

static int end_test(void **state)
{
    Contract *contract = *state;
    g_ptr_array_unref(contract->strings);
    g_free(contract->folder);
    return 0;
}

typedef const struct CMUnitTest *(*Tests)(size_t *count);

int main(int argc, char **argv)
{
    spec = argc > 1 ? argv[1] : g_getenv("BACKAPP_TEST_STORE");
    if (!spec) {
        (void)fprintf(stderr, "usage: contract-store [WRAPPER+]...STORE\n");
        return 2;
    }
    static const Tests files[] = {object_tests, list_tests, copy_tests, part_tests, thread_tests, version_tests};
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(struct CMUnitTest));
    for (guint i = 0; i < G_N_ELEMENTS(files); i++) {
        size_t count = 0;
        const struct CMUnitTest *tests = files[i](&count);
        g_array_append_vals(all, tests, (guint)count);
    }
    struct CMUnitTest *tests = (struct CMUnitTest *)(void *)all->data;
    for (guint i = 0; i < all->len; i++) {
        tests[i].setup_func = begin_test;
        tests[i].teardown_func = end_test;
    }
    return _cmocka_run_group_tests(spec, tests, all->len, open_store, close_store);
}
