/* What wrappers do when the store around which they are fails: retry, breaker, limit, and a stack of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/memory.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static const RetryPolicy quick = {.attempts = 4, .first_delay_ms = 1, .max_delay_ms = 4};

typedef struct {
    Store *memory; /* belongs to store */
    Store *store;
} Pair;

static int make_retry(void **state)
{
    Pair *pair = g_new0(Pair, 1);
    pair->memory = store_memory_new();
    pair->store = store_retry_new(pair->memory, &quick, NULL);
    *state = pair;
    return 0;
}

static int free_pair(void **state)
{
    Pair *pair = *state;
    store_free(pair->store);
    g_free(pair);
    return 0;
}

#define PAIR                                                                                                           \
    Pair *pair = *state;                                                                                               \
    Store *store = pair->store

#define RETRY_TEST(test) cmocka_unit_test_setup_teardown(test, make_retry, free_pair)

static gboolean put(Store *store, const char *key, const char *text, const StorePut *how, GError **error)
{
    StoreBody body = {.data = text, .length = strlen(text)};
    return store_put(store, key, &body, how, NULL, error);
}

static void assert_text(Store *store, const char *key, const char *text)
{
    g_autoptr(GBytes) bytes = store_get_bytes(store, key, NULL, 1000, NULL, NULL);
    assert_non_null(bytes);
    assert_int_equal(g_bytes_get_size(bytes), strlen(text));
    assert_memory_equal(g_bytes_get_data(bytes, NULL), text, strlen(text));
}

static guint64 requests(Store *store, StoreRequest kind)
{
    StoreCounts counts;
    store_counts(store, &counts);
    return counts.requests[kind];
}

static guint64 retries(Store *store)
{
    StoreCounts counts;
    store_counts(store, &counts);
    return counts.retries;
}

static void test_transient_failures_pass(void **state)
{
    PAIR;
    for (StoreRequest kind = 0; kind < STORE_REQUEST_OTHER; kind++)
        store_memory_fail_next(pair->memory, kind, BACKAPP_ERROR_TRANSIENT, 3, FALSE);
    assert_true(put(store, "k", "text", NULL, NULL));
    assert_text(store, "k", "text");
    g_autoptr(StoreObject) object = store_head(store, "k", NULL, NULL);
    assert_non_null(object);
    StoreSource source = {.key = "k", .size = 4};
    assert_true(store_copy(store, &source, "l", NULL, NULL, NULL));
    g_autoptr(StoreList) list = store_list(store, "", NULL, FALSE, NULL);
    const StoreObject *listed = NULL;
    assert_int_equal(store_list_next(list, &listed, NULL), 1);
    assert_true(store_delete(store, "k", NULL, NULL));
    assert_int_equal(retries(store), 6 * 3);
}

static void test_attempts_end(void **state)
{
    PAIR;
    store_memory_fail_next(pair->memory, STORE_REQUEST_PUT, BACKAPP_ERROR_TRANSIENT, 4, FALSE);
    g_autoptr(GError) error = NULL;
    assert_false(put(store, "k", "text", NULL, &error));
    assert_true(error_is(error, BACKAPP_ERROR_TRANSIENT));
    assert_non_null(strstr(error->message, "4 attempts"));
    assert_int_equal(requests(store, STORE_REQUEST_PUT), 4);
    assert_true(put(store, "k", "text", NULL, NULL));
}

static void test_other_failures_are_not_tried_again(void **state)
{
    PAIR;
    const BackappError codes[] = {BACKAPP_ERROR_DENIED, BACKAPP_ERROR_NOT_FOUND, BACKAPP_ERROR_CONFLICT,
                                  BACKAPP_ERROR_NO_SPACE, BACKAPP_ERROR_CANCELLED};
    for (guint i = 0; i < G_N_ELEMENTS(codes); i++) {
        store_memory_fail_next(pair->memory, STORE_REQUEST_PUT, codes[i], 1, FALSE);
        g_autoptr(GError) error = NULL;
        assert_false(put(store, "k", "text", NULL, &error));
        assert_true(error_is(error, codes[i]));
        assert_int_equal(requests(store, STORE_REQUEST_PUT), i + 1);
    }
}

static void test_what_arrived_damaged_is_sent_again(void **state)
{
    PAIR;
    store_memory_fail_next(pair->memory, STORE_REQUEST_PUT, BACKAPP_ERROR_CORRUPT, 2, FALSE);
    assert_true(put(store, "k", "text", NULL, NULL));
    assert_text(store, "k", "text");
    store_memory_fail_next(pair->memory, STORE_REQUEST_PUT, BACKAPP_ERROR_CORRUPT, 3, FALSE);
    g_autoptr(GError) error = NULL;
    assert_false(put(store, "k", "text", NULL, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    assert_int_equal(requests(store, STORE_REQUEST_PUT), 3 + 3);
}

/* The look whether a lost answer was a good one may fail as well. */
static void test_looking_whether_it_was_ours_is_repeated(void **state)
{
    PAIR;
    const StorePut how = {.if_absent = TRUE};
    store_memory_fail_next(pair->memory, STORE_REQUEST_PUT, BACKAPP_ERROR_TRANSIENT, 1, TRUE);
    store_memory_fail_next(pair->memory, STORE_REQUEST_HEAD, BACKAPP_ERROR_TRANSIENT, 2, FALSE);
    assert_true(put(store, "k", "text", &how, NULL));
}

static void test_cancelling_ends_the_waiting(void **state)
{
    CancelFlag cancel = {0};
    const RetryPolicy slow = {.attempts = 100, .first_delay_ms = 3600000, .max_delay_ms = 3600000};
    Store *memory = store_memory_new();
    g_autoptr(Store) store = store_retry_new(memory, &slow, &cancel);
    store_memory_fail_next(memory, STORE_REQUEST_PUT, BACKAPP_ERROR_TRANSIENT, 1000, FALSE);
    cancel_set(&cancel);
    g_autoptr(GError) error = NULL;
    assert_false(put(store, "k", "text", NULL, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CANCELLED));
}

static gboolean append(gpointer user_data, const void *data, gsize length, GError **error)
{
    g_string_append_len(user_data, data, (gssize)length);
    return TRUE;
}

static void test_a_get_goes_on_behind_what_arrived(void **state)
{
    PAIR;
    assert_true(put(store, "k", "0123456789abcdef", NULL, NULL));
    const struct {
        guint64 offset, length;
        const char *expected;
    } cases[] = {{0, G_MAXUINT64, "0123456789abcdef"}, {4, G_MAXUINT64, "456789abcdef"}, {2, 9, "23456789a"}};
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        /* Each breaks off in the middle of what is left. */
        store_memory_fail_next(pair->memory, STORE_REQUEST_GET, BACKAPP_ERROR_TRANSIENT, 3, TRUE);
        g_autoptr(GString) text = g_string_new(NULL);
        g_autoptr(StoreObject) object = NULL;
        g_autoptr(GError) error = NULL;
        StoreRange range = {.key = "k", .offset = cases[i].offset, .length = cases[i].length};
        if (!store_get(store, &range, append, text, &object, &error))
            fail_msg("%s", error->message);
        assert_string_equal(text->str, cases[i].expected);
        assert_int_equal(object->size, 16);
    }
    StoreCounts counts;
    store_counts(store, &counts);
    /* Nothing came twice. */
    assert_int_equal(counts.bytes_received, 16 + 12 + 9);
}

typedef struct {
    Store *memory;
    guint calls;
} Changer;

static gboolean change_object(gpointer user_data, const void *data, gsize length, GError **error)
{
    Changer *changer = user_data;
    if (changer->calls++ == 0)
        assert_true(put(changer->memory, "k", "another one now", NULL, NULL));
    return TRUE;
}

static void test_a_get_never_joins_two_objects(void **state)
{
    PAIR;
    assert_true(put(store, "k", "0123456789abcdef", NULL, NULL));
    store_memory_fail_next(pair->memory, STORE_REQUEST_GET, BACKAPP_ERROR_TRANSIENT, 1, TRUE);
    Changer changer = {.memory = pair->memory};
    StoreRange range = {.key = "k", .length = G_MAXUINT64};
    g_autoptr(GError) error = NULL;
    assert_false(store_get(store, &range, change_object, &changer, NULL, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CONFLICT));
    assert_int_equal(changer.calls, 1);
}

static gboolean refuse(gpointer user_data, const void *data, gsize length, GError **error)
{
    (*(guint *)user_data)++;
    return error_set(error, BACKAPP_ERROR_TRANSIENT, "the receiver is busy");
}

static void test_a_receiver_that_fails_is_not_asked_again(void **state)
{
    PAIR;
    assert_true(put(store, "k", "0123456789abcdef", NULL, NULL));
    guint calls = 0;
    StoreRange range = {.key = "k", .length = G_MAXUINT64};
    assert_false(store_get(store, &range, refuse, &calls, NULL, NULL));
    assert_int_equal(calls, 1);
}

static void test_a_put_whose_answer_was_lost(void **state)
{
    PAIR;
    const StorePut how = {.if_absent = TRUE, .mtime = "1.000000001"};
    store_memory_fail_next(pair->memory, STORE_REQUEST_PUT, BACKAPP_ERROR_TRANSIENT, 1, TRUE);
    g_auto(StoreResult) result = {0};
    StoreBody body = {.data = "ours", .length = 4};
    g_autoptr(GError) error = NULL;
    if (!store_put(store, "k", &body, &how, &result, &error))
        fail_msg("%s", error->message);
    g_autoptr(StoreObject) object = store_head(store, "k", NULL, NULL);
    assert_string_equal(result.etag, object->etag);
    /* The same text by somebody else is not ours if the answer was not lost. */
    assert_false(put(store, "k", "ours", &how, NULL));
}

static void test_a_put_that_somebody_else_won(void **state)
{
    PAIR;
    const StorePut how = {.if_absent = TRUE};
    const char *const theirs[] = {"them", "them two"};
    for (guint i = 0; i < G_N_ELEMENTS(theirs); i++) {
        assert_true(put(pair->memory, "k", theirs[i], NULL, NULL));
        store_memory_fail_next(pair->memory, STORE_REQUEST_PUT, BACKAPP_ERROR_TRANSIENT, 1, FALSE);
        g_autoptr(GError) error = NULL;
        assert_false(put(store, "k", "ours", &how, &error));
        assert_true(error_is(error, BACKAPP_ERROR_CONFLICT));
        assert_text(store, "k", theirs[i]);
    }
}

static void test_a_copy_whose_answer_was_lost(void **state)
{
    PAIR;
    assert_true(put(store, "k", "text", NULL, NULL));
    const StorePut how = {.if_absent = TRUE};
    StoreSource source = {.key = "k", .size = 4};
    store_memory_fail_next(pair->memory, STORE_REQUEST_COPY, BACKAPP_ERROR_TRANSIENT, 1, TRUE);
    assert_true(store_copy(store, &source, "l", &how, NULL, NULL));
    assert_text(store, "l", "text");
    assert_true(put(store, "m", "more", NULL, NULL));
    store_memory_fail_next(pair->memory, STORE_REQUEST_COPY, BACKAPP_ERROR_TRANSIENT, 1, FALSE);
    assert_false(store_copy(store, &source, "m", &how, NULL, NULL));
    assert_text(store, "m", "more");
}

static void test_a_completion_whose_answer_was_lost(void **state)
{
    PAIR;
    for (guint i = 0; i < 2; i++) {
        const StorePut how = {.if_absent = i == 1};
        g_autofree char *key = g_strdup_printf("k%u", i);
        g_autofree char *upload = store_begin(store, key, &how, NULL);
        StoreBody body = {.data = "text", .length = 4};
        StorePart part = {.number = 1};
        assert_true(store_part(store, key, upload, 1, &body, &part.etag, NULL));
        store_memory_fail_next(pair->memory, STORE_REQUEST_PUT, BACKAPP_ERROR_TRANSIENT, 1, TRUE);
        g_auto(StoreResult) result = {0};
        g_autoptr(GError) error = NULL;
        if (!store_complete(store, key, upload, &part, 1, &how, &result, &error))
            fail_msg("%s", error->message);
        assert_true(g_str_has_suffix(result.etag, "-1"));
        assert_text(store, key, "text");
        /* An upload that is gone for another reason is no success. */
        g_autofree char *other = store_begin(store, key, NULL, NULL);
        g_clear_pointer(&part.etag, g_free);
        body.data = "TEXT";
        assert_true(store_part(store, key, other, 1, &body, &part.etag, NULL));
        assert_true(store_abort(store, key, other, NULL));
        store_memory_fail_next(pair->memory, STORE_REQUEST_PUT, BACKAPP_ERROR_TRANSIENT, 1, FALSE);
        g_autoptr(GError) gone = NULL;
        assert_false(store_complete(store, key, other, &part, 1, NULL, NULL, &gone));
        assert_true(error_is(gone, BACKAPP_ERROR_NOT_FOUND));
        g_free(part.etag);
    }
}

static void test_a_list_goes_on_behind_what_arrived(void **state)
{
    PAIR;
    assert_true(store_set_versioning(store, TRUE, NULL));
    for (guint i = 0; i < 30; i++) {
        g_autofree char *key = g_strdup_printf("p/%02u", i / 3);
        assert_true(put(store, key, "x", NULL, NULL));
    }
    assert_true(store_delete(store, "p/05", NULL, NULL));
    for (guint versions = 0; versions < 2; versions++) {
        g_autoptr(StoreList) whole = store_list(pair->memory, "p/", "p/00", (gboolean)versions, NULL);
        g_autoptr(StoreList) broken = store_list(store, "p/", "p/00", (gboolean)versions, NULL);
        guint count = 0;
        for (;; count++) {
            const StoreObject *expected = NULL, *got = NULL;
            int more = store_list_next(whole, &expected, NULL);
            store_memory_fail_next(pair->memory, STORE_REQUEST_LIST, BACKAPP_ERROR_TRANSIENT, count % 3, FALSE);
            assert_int_equal(store_list_next(broken, &got, NULL), more);
            store_memory_fail_next(pair->memory, STORE_REQUEST_LIST, BACKAPP_ERROR_TRANSIENT, 0, FALSE);
            if (!more)
                break;
            assert_string_equal(got->key, expected->key);
            assert_string_equal(got->version, expected->version);
        }
        assert_int_equal(count, versions ? 28 : 8);
    }
}

static void test_deleting_many_tries_the_failed_ones_again(void **state)
{
    PAIR;
    const char *keys[6];
    for (guint i = 0; i < 6; i++) {
        keys[i] = g_strdup_printf("%u", i);
        assert_true(put(store, keys[i], "x", NULL, NULL));
    }
    store_memory_fail_next(pair->memory, STORE_REQUEST_DELETE, BACKAPP_ERROR_TRANSIENT, 9, FALSE);
    assert_true(store_delete_many(store, keys, NULL, 6, NULL, NULL));
    /* 6 that fail, 3 of 6 that fail, 3. */
    assert_int_equal(requests(store, STORE_REQUEST_DELETE), 15);
    for (guint i = 0; i < 6; i++)
        assert_true(put(store, keys[i], "x", NULL, NULL));
    store_memory_fail_next(pair->memory, STORE_REQUEST_DELETE, BACKAPP_ERROR_DENIED, 2, FALSE);
    GError *errors[6] = {0};
    g_autoptr(GError) error = NULL;
    assert_false(store_delete_many(store, keys, NULL, 6, errors, &error));
    assert_true(error_is(error, BACKAPP_ERROR_DENIED));
    assert_non_null(strstr(error->message, "2 of 6"));
    for (guint i = 0; i < 6; i++) {
        assert_int_equal(errors[i] != NULL, i < 2);
        g_clear_error(&errors[i]);
        g_free((char *)keys[i]);
    }
}

/* Breaks off behind the first key, as a server does that fails in the middle. */
static gboolean delete_first(Store *store, const char *const *keys, const char *const *versions, guint count,
                             GError **errors, GError **error)
{
    (void)store->ops->delete_one(store, keys[0], NULL, &errors[0]);
    for (guint i = 1; i < count; i++)
        errors[i] = g_error_new(BACKAPP_ERROR, BACKAPP_ERROR_DENIED, "not tried");
    return error_set(error, BACKAPP_ERROR_DENIED, "broken off");
}

static gboolean delete_nothing(Store *store, const char *const *keys, const char *const *versions, guint count,
                               GError **errors, GError **error)
{
    return error_set(error, BACKAPP_ERROR_DENIED, "nothing was deleted");
}

/* A key without an error is taken for deleted: so no other may be without one, whatever ended the deletion. */
static void test_keys_that_were_not_tried_have_errors(void **state)
{
    static const char *const names[] = {"", "prefix", "breaker", "retry"};
    const char *const keys[] = {"a", "b", "c"};
    for (guint at = 0; at < 2 * G_N_ELEMENTS(names); at++) {
        const char *name = names[at / 2];
        Store *store = store_memory_new();
        for (guint i = 0; i < 3; i++)
            assert_true(put(store, keys[i], "x", NULL, NULL));
        StoreOps hooked = *store->ops;
        hooked.delete_many = at % 2 ? delete_first : delete_nothing;
        store->ops = &hooked;
        store = !strcmp(name, "prefix")    ? store_prefix_new(store, "")
                : !strcmp(name, "breaker") ? store_breaker_new(store, 9, 1)
                : !strcmp(name, "retry")   ? store_retry_new(store, &quick, NULL)
                                           : store;
        GError *errors[3] = {0};
        g_autoptr(GError) error = NULL;
        assert_false(store_delete_many(store, keys, NULL, 3, errors, &error));
        assert_true(error_is(error, BACKAPP_ERROR_DENIED));
        for (guint i = 0; i < 3; i++) {
            g_autoptr(StoreObject) object = store_head(store, keys[i], NULL, NULL);
            assert_int_equal(errors[i] != NULL, object != NULL);
            assert_int_equal(object != NULL, i > 0 || at % 2 == 0);
            g_clear_error(&errors[i]);
        }
        store_free(store);
    }
}

static void test_refused_deletions_have_errors(void **state)
{
    Store *memory = store_memory_new();
    g_autoptr(Store) store = store_breaker_new(memory, 1, 3600000);
    const char *const keys[] = {"a", "b"};
    const char *const wrong[] = {"a", ""};
    GError *errors[4] = {0};
    assert_false(store_delete_many(store, wrong, NULL, 2, errors, NULL));
    store_memory_fail_next(memory, STORE_REQUEST_PUT, BACKAPP_ERROR_TRANSIENT, 1, FALSE);
    assert_false(put(store, "k", "x", NULL, NULL));
    assert_false(store_delete_many(store, keys, NULL, 2, errors + 2, NULL));
    for (guint i = 0; i < 4; i++) {
        assert_true(error_is(errors[i], i < 2 ? BACKAPP_ERROR_INVALID : BACKAPP_ERROR_TRANSIENT));
        g_clear_error(&errors[i]);
    }
}

static void test_a_breaker_opens_and_closes(void **state)
{
    Store *memory = store_memory_new();
    g_autoptr(Store) store = store_breaker_new(memory, 3, 60);
    store_memory_fail_next(memory, STORE_REQUEST_PUT, BACKAPP_ERROR_TRANSIENT, 4, FALSE);
    for (guint i = 0; i < 3; i++)
        assert_false(put(store, "k", "x", NULL, NULL));
    assert_int_equal(requests(store, STORE_REQUEST_PUT), 3);
    g_autoptr(GError) error = NULL;
    gint64 opened = g_get_monotonic_time();
    gboolean refused = !put(store, "k", "x", NULL, &error);
    /* A machine that stood still for longer than the pause proves nothing here. */
    if (g_get_monotonic_time() - opened < 50000) {
        assert_true(refused && error_is(error, BACKAPP_ERROR_TRANSIENT));
        assert_non_null(strstr(error->message, "3 failures"));
        assert_int_equal(requests(store, STORE_REQUEST_PUT), 3);
    }
    /* The pause ends: one tries and fails, and the next pause begins; then one succeeds. */
    g_usleep(70000);
    (void)put(store, "k", "x", NULL, NULL);
    g_usleep(70000);
    assert_true(put(store, "k", "x", NULL, NULL));
    assert_true(put(store, "k", "x", NULL, NULL));
}

static void test_answers_close_a_breaker(void **state)
{
    Store *memory = store_memory_new();
    g_autoptr(Store) store = store_breaker_new(memory, 3, 3600000);
    for (guint i = 0; i < 10; i++) {
        store_memory_fail_next(memory, STORE_REQUEST_PUT, BACKAPP_ERROR_TRANSIENT, 2, FALSE);
        assert_false(put(store, "k", "x", NULL, NULL));
        assert_false(put(store, "k", "x", NULL, NULL));
        /* "There is none" is an answer. */
        assert_null(store_head(store, "none", NULL, NULL));
    }
    assert_true(put(store, "k", "x", NULL, NULL));
}

static void test_being_stopped_says_nothing_to_a_breaker(void **state)
{
    Store *memory = store_memory_new();
    g_autoptr(Store) store = store_breaker_new(memory, 3, 3600000);
    const BackappError codes[] = {BACKAPP_ERROR_TRANSIENT, BACKAPP_ERROR_TRANSIENT, BACKAPP_ERROR_CANCELLED,
                                  BACKAPP_ERROR_TRANSIENT};
    for (guint i = 0; i < G_N_ELEMENTS(codes); i++) {
        store_memory_fail_next(memory, STORE_REQUEST_PUT, codes[i], 1, FALSE);
        assert_false(put(store, "k", "x", NULL, NULL));
    }
    assert_int_equal(requests(store, STORE_REQUEST_PUT), 4);
    assert_false(put(store, "k", "x", NULL, NULL));
    assert_int_equal(requests(store, STORE_REQUEST_PUT), 4);
}

static atomic_uint running, most;

static gssize observe(gpointer user_data, guint64 offset, void *buffer, gsize size, GError **error)
{
    guint now = atomic_fetch_add(&running, 1) + 1;
    guint seen = atomic_load(&most);
    while (now > seen && !atomic_compare_exchange_weak(&most, &seen, now))
        continue;
    g_usleep(2000);
    memset(buffer, 0, size);
    atomic_fetch_sub(&running, 1);
    return (gssize)size;
}

static gpointer put_some(gpointer data)
{
    for (guint i = 0; i < 5; i++) {
        StoreBody body = {.length = 10, .read = observe};
        assert_true(store_put(data, "k", &body, NULL, NULL, NULL));
    }
    return NULL;
}

static void test_a_limit_of_requests_at_once(void **state)
{
    g_autoptr(Store) store = store_limit_new(store_memory_new(), 3, 0, NULL);
    GThread *threads[10];
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("limit", put_some, store);
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        (void)g_thread_join(threads[i]);
    assert_in_range(atomic_load(&most), 2, 3);
    assert_int_equal(requests(store, STORE_REQUEST_PUT), 50);
}

static void test_a_limit_of_requests_per_second(void **state)
{
    g_autoptr(Store) store = store_limit_new(store_memory_new(), 0, 200, NULL);
    gint64 start = g_get_monotonic_time();
    for (guint i = 0; i < 21; i++)
        assert_true(put(store, "k", "x", NULL, NULL));
    /* Not faster than asked for. How slow it may be is not for a test to say. */
    assert_true(g_get_monotonic_time() - start >= 20 * 5000);
}

static void test_a_limit_can_be_cancelled(void **state)
{
    CancelFlag cancel = {0};
    g_autoptr(Store) store = store_limit_new(store_memory_new(), 1, 1, &cancel);
    assert_true(put(store, "k", "x", NULL, NULL));
    cancel_set(&cancel);
    g_autoptr(GError) error = NULL;
    assert_false(put(store, "k", "x", NULL, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CANCELLED));
}

static void test_a_prefix_hides_the_rest(void **state)
{
    Store *memory = store_memory_new();
    assert_true(put(memory, "other", "x", NULL, NULL));
    assert_true(put(memory, "in/", "marker", NULL, NULL));
    assert_true(put(memory, "in/side", "x", NULL, NULL));
    {
        g_autoptr(Store) store = store_prefix_borrow(memory, "in/");
        assert_true(put(store, "new", "y", NULL, NULL));
        g_autoptr(StoreList) list = store_list(store, "", NULL, FALSE, NULL);
        const StoreObject *object = NULL;
        assert_int_equal(store_list_next(list, &object, NULL), 1);
        assert_string_equal(object->key, "new");
        assert_int_equal(store_list_next(list, &object, NULL), 1);
        assert_string_equal(object->key, "side");
        assert_int_equal(store_list_next(list, &object, NULL), 0);
        assert_null(store_head(store, "other", NULL, NULL));
    }
    assert_text(memory, "in/new", "y");
    store_free(memory);
}

static void test_a_stack_holds_under_failures(void **state)
{
    Store *memory = store_memory_new();
    g_autoptr(Store) store = store_prefix_new(
        store_retry_new(store_limit_new(store_breaker_new(memory, 20, 1), 2, 0, NULL), &quick, NULL), "p/");
    for (guint i = 0; i < 50; i++) {
        g_autofree char *key = g_strdup_printf("%u", i);
        store_memory_fail_next(memory, STORE_REQUEST_PUT, BACKAPP_ERROR_TRANSIENT, i % 4, i % 2 == 0);
        store_memory_fail_next(memory, STORE_REQUEST_GET, BACKAPP_ERROR_TRANSIENT, i % 3, TRUE);
        const StorePut how = {.if_absent = TRUE};
        g_autoptr(GError) error = NULL;
        if (!put(store, key, "some text", &how, &error))
            fail_msg("%s: %s", key, error->message);
        assert_text(store, key, "some text");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RETRY_TEST(test_transient_failures_pass),
        RETRY_TEST(test_attempts_end),
        RETRY_TEST(test_other_failures_are_not_tried_again),
        RETRY_TEST(test_what_arrived_damaged_is_sent_again),
        RETRY_TEST(test_looking_whether_it_was_ours_is_repeated),
        cmocka_unit_test(test_cancelling_ends_the_waiting),
        RETRY_TEST(test_a_get_goes_on_behind_what_arrived),
        RETRY_TEST(test_a_get_never_joins_two_objects),
        RETRY_TEST(test_a_receiver_that_fails_is_not_asked_again),
        RETRY_TEST(test_a_put_whose_answer_was_lost),
        RETRY_TEST(test_a_put_that_somebody_else_won),
        RETRY_TEST(test_a_copy_whose_answer_was_lost),
        RETRY_TEST(test_a_completion_whose_answer_was_lost),
        RETRY_TEST(test_a_list_goes_on_behind_what_arrived),
        RETRY_TEST(test_deleting_many_tries_the_failed_ones_again),
        cmocka_unit_test(test_keys_that_were_not_tried_have_errors),
        cmocka_unit_test(test_refused_deletions_have_errors),
        cmocka_unit_test(test_a_breaker_opens_and_closes),
        cmocka_unit_test(test_answers_close_a_breaker),
        cmocka_unit_test(test_being_stopped_says_nothing_to_a_breaker),
        cmocka_unit_test(test_a_limit_of_requests_at_once),
        cmocka_unit_test(test_a_limit_of_requests_per_second),
        cmocka_unit_test(test_a_limit_can_be_cancelled),
        cmocka_unit_test(test_a_prefix_hides_the_rest),
        cmocka_unit_test(test_a_stack_holds_under_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
