/* Many at once. */
#include "contract.h"

#define RACERS  8
#define WORKERS 16
#define ROUNDS  12

/* Starts `count` threads with func(contract, number) and waits; returns how many gave TRUE. */
typedef struct {
    Contract *contract;
    guint number;
    gboolean (*func)(Contract *contract, guint number);
} Task;

static gpointer run_task(gpointer data)
{
    Task *task = data;
    return GINT_TO_POINTER(task->func(task->contract, task->number));
}

static guint run_threads(Contract *contract, guint count, gboolean (*func)(Contract *contract, guint number))
{
    Task tasks[WORKERS];
    GThread *threads[WORKERS];
    guint good = 0;
    assert_true(count <= WORKERS);
    for (guint i = 0; i < count; i++) {
        tasks[i] = (Task){contract, i, func};
        threads[i] = g_thread_new("contract", run_task, &tasks[i]);
    }
    for (guint i = 0; i < count; i++)
        good += GPOINTER_TO_INT(g_thread_join(threads[i])) ? 1 : 0;
    return good;
}

static gboolean put_if_absent(Contract *contract, guint number)
{
    g_autofree char *key = g_strconcat(contract->folder, "lock/one", NULL);
    g_autofree char *text = g_strdup_printf("%u", number);
    StoreBody body = {.data = text, .length = strlen(text)};
    StorePut how = {.if_absent = TRUE};
    g_autoptr(GError) error = NULL;
    if (store_put(contract->store, key, &body, &how, NULL, &error))
        return TRUE;
    if (!error_is(error, BACKAPP_ERROR_CONFLICT))
        (void)fprintf(stderr, "not a conflict: %s\n", error->message);
    return !error_is(error, BACKAPP_ERROR_CONFLICT);
}

static void test_one_of_many_wins(void **state)
{
    CONTRACT;
    NEEDS(STORE_IF_MATCH);
    for (guint round = 0; round < 5; round++) {
        assert_int_equal(run_threads(contract, RACERS, put_if_absent), 1);
        g_autoptr(StoreObject) object = store_head(store, key_of(contract, "lock/one"), NULL, NULL);
        assert_non_null(object);
        assert_int_equal(object->size, 1);
        WORKS(store_delete(store, key_of(contract, "lock/one"), NULL, &error));
    }
}

static gboolean work(Contract *contract, guint number)
{
    Store *store = contract->store;
    gboolean good = TRUE;
    for (guint i = 0; good && i < ROUNDS; i++) {
        g_autofree char *key = g_strdup_printf("%sw/%u/x/%u", contract->folder, number % 4, number);
        gsize length = 1 + (number * 7919 + i * 104729) % 90000;
        g_autofree guint8 *data = make_bytes(length, number * 100 + i);
        StoreBody body = {.data = data, .length = length};
        g_autoptr(GError) error = NULL;
        g_autoptr(GBytes) read = NULL;
        good = store_put(store, key, &body, NULL, NULL, &error) &&
               (read = store_get_bytes(store, key, NULL, length, NULL, &error)) && g_bytes_get_size(read) == length &&
               memcmp(g_bytes_get_data(read, NULL), data, length) == 0;
        /* Folders come and go under the others' hands. */
        if (good && i % 2 == 0)
            good = store_delete(store, key, NULL, &error);
        if (!good)
            (void)fprintf(stderr, "thread %u, round %u: %s\n", number, i, error ? error->message : "wrong content");
    }
    return good;
}

static void test_many_threads_work_at_once(void **state)
{
    CONTRACT;
    assert_int_equal(run_threads(contract, WORKERS, work), WORKERS);
    g_autoptr(StoreList) list = store_list(store, contract->folder, NULL, FALSE, NULL);
    const StoreObject *object = NULL;
    guint count = 0;
    while (store_list_next(list, &object, NULL) > 0)
        count++;
    assert_int_equal(count, WORKERS);
}

#define BLOCK 150000

/* Half write whole objects of one byte value, half read: what is read must be one of them. */
static gboolean write_or_read(Contract *contract, guint number)
{
    g_autofree char *key = g_strconcat(contract->folder, "shared", NULL);
    g_autofree guint8 *data = g_malloc(BLOCK);
    for (guint i = 0; i < ROUNDS; i++) {
        g_autoptr(GError) error = NULL;
        if (number % 2) {
            memset(data, (int)('a' + number), BLOCK);
            StoreBody body = {.data = data, .length = BLOCK};
            if (!store_put(contract->store, key, &body, NULL, NULL, &error))
                return FALSE;
            continue;
        }
        g_autoptr(GBytes) read = store_get_bytes(contract->store, key, NULL, BLOCK, NULL, &error);
        if (!read || g_bytes_get_size(read) != BLOCK)
            return FALSE;
        const guint8 *bytes = g_bytes_get_data(read, NULL);
        for (guint j = 1; j < BLOCK; j++)
            if (bytes[j] != bytes[0])
                return FALSE;
    }
    return TRUE;
}

static void test_a_reader_never_sees_half_an_object(void **state)
{
    CONTRACT;
    g_autofree guint8 *data = g_malloc0(BLOCK);
    put_bytes(store, key_of(contract, "shared"), data, BLOCK);
    assert_int_equal(run_threads(contract, 8, write_or_read), 8);
}

/* Some write "a", some "a/N": a file system has to make room for both. */
static gboolean write_both(Contract *contract, guint number)
{
    Store *store = contract->store;
    for (guint i = 0; i < ROUNDS; i++) {
        g_autofree char *outer = g_strdup_printf("%sboth/%u", contract->folder, i);
        g_autofree char *inner = g_strdup_printf("%sboth/%u/%u", contract->folder, i, number);
        StoreBody body = {.data = "x", .length = 1};
        const char *key = number % 2 ? inner : outer;
        g_autoptr(StoreObject) object = NULL;
        g_autoptr(GError) error = NULL;
        if (!store_put(store, key, &body, NULL, NULL, &error) || !(object = store_head(store, key, NULL, &error))) {
            (void)fprintf(stderr, "%s: %s\n", key, error->message);
            return FALSE;
        }
    }
    return TRUE;
}

static void test_keys_and_folders_of_one_name_at_once(void **state)
{
    CONTRACT;
    assert_int_equal(run_threads(contract, 8, write_both), 8);
    g_autoptr(StoreList) list = store_list(store, contract->folder, NULL, FALSE, NULL);
    const StoreObject *object = NULL;
    guint count = 0;
    while (store_list_next(list, &object, NULL) > 0)
        count++;
    assert_int_equal(count, ROUNDS * 5);
}

const struct CMUnitTest *thread_tests(size_t *count)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_of_many_wins),
        cmocka_unit_test(test_many_threads_work_at_once),
        cmocka_unit_test(test_a_reader_never_sees_half_an_object),
        cmocka_unit_test(test_keys_and_folders_of_one_name_at_once),
    };
    *count = G_N_ELEMENTS(tests);
    return tests;
}
