/*
 * What the files of the contract suite share: the store under test, keys of a test's own, and a few verbs. Every test
 * gets a fresh folder of keys, so what one leaves behind is nobody's. One thread, unless a test starts others.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "store/drivers.h"

#include <stdio.h>
#include <string.h>

typedef struct {
    Store *store;
    char *folder; /* of the test that runs, with a slash at its end */
    GPtrArray *strings;
} Contract;

/* The tests of a file; *count gets how many. */
const struct CMUnitTest *object_tests(size_t *count);
const struct CMUnitTest *list_tests(size_t *count);
const struct CMUnitTest *copy_tests(size_t *count);
const struct CMUnitTest *part_tests(size_t *count);
const struct CMUnitTest *thread_tests(size_t *count);
const struct CMUnitTest *version_tests(size_t *count);

/* The store and the contract of a test. */
#define CONTRACT                                                                                                       \
    Contract *contract = *state;                                                                                       \
    Store *store = contract->store

/* A key in the test's folder; valid until the test ends. */
const char *key_of(Contract *contract, const char *name);
/* A string that lives as long as the test. */
const char *keep(Contract *contract, char *string);

/* Skips the test if the store cannot do this. */
#define NEEDS(what)                                                                                                    \
    do {                                                                                                               \
        if (!store_can(store, what)) {                                                                                 \
            (void)printf("skipped: %s has no %s\n", store->url, #what);                                                \
            skip();                                                                                                    \
        }                                                                                                              \
    } while (0)

/* Fails with the error's text unless `call`, which sets `error`, went well. */
#define WORKS(call)                                                                                                    \
    do {                                                                                                               \
        g_autoptr(GError) error = NULL;                                                                                \
        if (!(call))                                                                                                   \
            fail_msg("%s: %s", #call, error ? error->message : "no error was set");                                    \
        if (error)                                                                                                     \
            fail_msg("%s: worked and set an error: %s", #call, error->message);                                        \
    } while (0)

/* Fails unless `call` gave FALSE or NULL with this code. */
#define FAILS(call, wanted)                                                                                            \
    do {                                                                                                               \
        g_autoptr(GError) error = NULL;                                                                                \
        if (call)                                                                                                      \
            fail_msg("%s: worked", #call);                                                                             \
        if (!error_is(error, wanted))                                                                                  \
            fail_msg("%s: not %s: %s", #call, #wanted, error ? error->message : "no error was set");                   \
    } while (0)

/* Bytes that differ from place to place and from seed to seed. The caller frees. */
guint8 *make_bytes(gsize length, guint32 seed);

/* Stores text or bytes; fails the test if that does not work. */
void put_text(Store *store, const char *key, const char *text);
void put_bytes(Store *store, const char *key, const void *data, gsize length);

/* The whole object is exactly this. */
void assert_content(Store *store, const char *key, const void *data, gsize length);
void assert_text(Store *store, const char *key, const char *text);
void assert_no_object(Store *store, const char *key);

/* What a range of an object gives; NULL with the error. The caller frees. */
GByteArray *read_range(Store *store, const StoreRange *range, StoreObject **object, GError **error);

/* The keys that a list gives, without the test's folder, joined by spaces. The caller frees. */
char *list_names(Contract *contract, const char *prefix, const char *start_after);

/* A body of bytes that a function gives, in small pieces. From `fails_at` on it fails (G_MAXUINT64: never). */
typedef struct {
    const guint8 *data;
    guint64 length, fails_at;
} Source;
StoreBody source_body(Source *source);
