#include "../base/cmocka_all.h"
#include "base/error.h"
#include "engine/archive/point.h"
#include "store/memory.h"

#include <string.h>

#define NOVEMBER 1795140000 /* 2026-11-20T02:00:00Z */

static const ArchiveName FULL = {
    .time = NOVEMBER, .type = ARCHIVE_FULL, .codec = ARCHIVE_GZIP, .encrypted = TRUE, .volume = 0};

static void test_names(void **state)
{
    g_autofree char *base = archive_base_name(&FULL);
    assert_string_equal(base, "2026-11-20T020000Z-full.tar.gz.aes");
    ArchiveName name = FULL;
    name.volume = 17;
    g_autofree char *volume = archive_object_name(&name);
    assert_string_equal(volume, "2026-11-20T020000Z-full.tar.gz.aes.vol0017");
    g_autofree char *same = archive_base_name(&name);
    assert_string_equal(same, base);
    name.role = ARCHIVE_OBJECT_INDEX;
    g_autofree char *index = archive_object_name(&name);
    assert_string_equal(index, "2026-11-20T020000Z-full.tar.gz.aes.index");
}

/* Every name that can be made is read as what it was made of. */
static void test_names_are_read(void **state)
{
    static const gint64 times[] = {0, NOVEMBER, 951782399, G_GINT64_CONSTANT(253402300799)};
    for (guint i = 0; i < G_N_ELEMENTS(times) * 3 * 3 * 2 * 4; i++) {
        guint kind = i / 72;
        ArchiveName name = {.time = times[i % 4],
                            .type = (ArchiveType)(i / 4 % 3 + 1),
                            .codec = (ArchiveCodec)(i / 12 % 3 + 1),
                            .encrypted = i / 36 % 2,
                            .role = kind == 3 ? ARCHIVE_OBJECT_INDEX : ARCHIVE_OBJECT_VOLUME,
                            .volume = kind == 1   ? 1
                                      : kind == 2 ? ARCHIVE_VOLUMES_MAX
                                                  : 0};
        g_autofree char *text = archive_object_name(&name);
        ArchiveName back;
        assert_true(archive_name_parse(text, &back));
        assert_true(back.time == name.time && back.type == name.type && back.codec == name.codec);
        assert_true(back.encrypted == name.encrypted && back.role == name.role && back.volume == name.volume);
    }
}

static void test_other_names(void **state)
{
    static const char *const others[] = {"",
                                         "2026-11-20T020000Z",
                                         "2026-11-20T020000Z-full",
                                         "2026-11-20T020000Z-full.tar.gz.aes.vol0000",
                                         "2026-11-20T020000Z-full.tar.gz.aes.vol1",
                                         "2026-11-20T020000Z-full.tar.gz.aes.vol00001",
                                         "2026-11-20T020000Z-full.tar.gz.aes.vol0001.index",
                                         "2026-11-20T020000Z-full.tar.gz.aes.index ",
                                         "2026-11-20T020000Z-full.tar.aes.gz",
                                         "2026-11-20T020000Z-full.tar.gz.zst",
                                         "2026-11-20T020000Z-Full.tar",
                                         "2026-11-20T020000Z-fulls.tar",
                                         "2026-11-20T240000Z-full.tar",
                                         "2026-11-20T020060Z-full.tar",
                                         "2026-02-29T020000Z-full.tar",
                                         "2026-11-20T02000Z-full.tar",
                                         "2026-11-20t020000Z-full.tar",
                                         "1969-12-31T235959Z-full.tar",
                                         "+026-11-20T020000Z-full.tar",
                                         " 2026-11-20T020000Z-full.tar",
                                         "sub/2026-11-20T020000Z-full.tar"};
    ArchiveName name;
    for (guint i = 0; i < G_N_ELEMENTS(others); i++)
        if (archive_name_parse(others[i], &name))
            fail_msg("taken for an archive: %s", others[i]);
}

static void test_types(void **state)
{
    ArchiveType type;
    assert_true(archive_type_parse("differential", &type) && type == ARCHIVE_DIFFERENTIAL);
    assert_string_equal(archive_type_name(ARCHIVE_INCREMENTAL), "incremental");
    assert_false(archive_type_parse("", &type) || archive_type_parse("fulls", &type));
}

static void test_place_names(void **state)
{
    g_autofree char *longest = g_strnfill(ARCHIVE_NAME_MAX, 'n');
    g_autofree char *too_long = g_strnfill(ARCHIVE_NAME_MAX + 1, 'n');
    assert_true(archive_check_name("photos", NULL) && archive_check_name("Bücher 2026", NULL) &&
                archive_check_name(longest, NULL));
    const char *const wrong[] = {"", ".hidden", "a/b", "a\nb", "\xff", "a\x7f", "a\xc2\x85", too_long};
    for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GError) error = NULL;
        assert_false(archive_check_name(wrong[i], &error));
        assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    }
}

static void test_keys(void **state)
{
    g_autofree char *index = archive_index_key("photos", "BASE");
    assert_string_equal(index, "photos/BASE.index");
    ArchivePoint *point = g_new0(ArchivePoint, 1);
    point->base = g_strdup("BASE");
    point->place_name = g_strdup("photos");
    g_autofree char *only = archive_volume_key(point, 0);
    assert_string_equal(only, "photos/BASE");
    point->numbered = TRUE;
    g_autofree char *first = archive_volume_key(point, 0);
    assert_string_equal(first, "photos/BASE.vol0001");
    archive_point_free(point);
    g_autofree char *data = archive_associated("photos", "BASE", 12, ARCHIVE_OBJECT_VOLUME);
    assert_string_equal(data, "backapp archive 1\nphotos/BASE\n12\ndata");
    g_autofree char *of_index = archive_associated("photos", "BASE", 0, ARCHIVE_OBJECT_INDEX);
    assert_string_equal(of_index, "backapp archive 1\nphotos/BASE\n0\nindex");
}

static void put(Store *store, const char *key, guint64 size)
{
    g_autofree char *data = g_malloc0(size + 1);
    StoreBody body = {.data = data, .length = size};
    assert_true(store_put(store, key, &body, NULL, NULL, NULL));
}

static void test_list(void **state)
{
    g_autoptr(Store) store = store_memory_new();
    put(store, "photos/2026-11-20T020000Z-full.tar", 10);
    put(store, "photos/2026-11-20T020000Z-full.tar.index", 3);
    put(store, "photos/2026-11-20T020000Z-full.tar.gz.vol0001", 20);
    put(store, "photos/2026-11-20T020000Z-full.tar.gz.vol0002", 5);
    put(store, "photos/2026-11-21T020000Z-incremental.tar.gz.index", 7);
    put(store, "photos/notes.txt", 1);
    put(store, "photos/sub/2026-11-20T020000Z-full.tar", 1);
    put(store, "photos2/2026-11-22T020000Z-full.tar.index", 1);
    ArchivePlace place = {.store = store, .name = "photos"};
    g_autoptr(GPtrArray) list = archive_list(&place, NULL, NULL);
    assert_non_null(list);
    assert_int_equal(list->len, 3);
    const ArchiveListed *newest = g_ptr_array_index(list, 0), *plain = g_ptr_array_index(list, 1),
                        *unfinished = g_ptr_array_index(list, 2);
    assert_string_equal(newest->base, "2026-11-21T020000Z-incremental.tar.gz");
    assert_true(newest->has_index && newest->index_size == 7 && newest->volumes == 0 && newest->modified > 0);
    assert_true(newest->name.type == ARCHIVE_INCREMENTAL && newest->name.role == ARCHIVE_OBJECT_INDEX);
    assert_string_equal(plain->base, "2026-11-20T020000Z-full.tar");
    assert_true(plain->has_index && plain->volumes == 1 && plain->stored_bytes == 10);
    assert_false(unfinished->has_index);
    assert_true(unfinished->volumes == 2 && unfinished->stored_bytes == 25 && unfinished->name.volume == 0);
    ArchivePlace nothing = {.store = store, .name = "none"};
    g_autoptr(GPtrArray) empty = archive_list(&nothing, NULL, NULL);
    assert_true(empty != NULL && empty->len == 0);
}

static void test_list_fails(void **state)
{
    g_autoptr(Store) store = store_memory_new();
    g_autoptr(GError) error = NULL;
    ArchivePlace place = {.store = store, .name = "photos"};
    store_memory_fail_next(store, STORE_REQUEST_LIST, BACKAPP_ERROR_DENIED, 1, FALSE);
    assert_null(archive_list(&place, NULL, &error));
    assert_true(error_is(error, BACKAPP_ERROR_DENIED));
    g_clear_error(&error);
    CancelFlag cancel = {0};
    cancel_set(&cancel);
    assert_null(archive_places(store, &cancel, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CANCELLED));
}

static void test_places(void **state)
{
    g_autoptr(Store) store = store_memory_new();
    put(store, "2026-11-20T020000Z-full.tar.index", 1);
    put(store, ".hidden/2026-11-20T020000Z-full.tar.index", 1);
    put(store, "docs/2026-11-20T020000Z-full.tar.gz.vol0001", 1);
    for (guint i = 0; i < 3000; i++) {
        g_autofree char *key = g_strdup_printf("large/%04u.txt", i);
        put(store, key, 0);
    }
    put(store, "large.d/2026-11-20T020000Z-full.tar.index", 1);
    put(store, "large0/2026-11-20T020000Z-full.tar.index", 1);
    put(store, "mirror/sub/2026-11-20T020000Z-full.tar.index", 1);
    put(store, "photos/2026-11-20T020000Z-full.tar", 1);
    put(store, "photos/2026-11-20T020000Z-full.tar.index", 1);
    StoreCounts before = {0}, after = {0};
    store_counts(store, &before);
    g_autoptr(GPtrArray) places = archive_places(store, NULL, NULL);
    store_counts(store, &after);
    static const char *const want[] = {"docs", "large.d", "large0", "photos"};
    assert_non_null(places);
    assert_int_equal(places->len, G_N_ELEMENTS(want));
    for (guint i = 0; i < G_N_ELEMENTS(want); i++)
        assert_string_equal(g_ptr_array_index(places, i), want[i]);
    assert_true(after.requests[STORE_REQUEST_LIST] - before.requests[STORE_REQUEST_LIST] <= 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names), cmocka_unit_test(test_names_are_read), cmocka_unit_test(test_other_names),
        cmocka_unit_test(test_types), cmocka_unit_test(test_place_names),    cmocka_unit_test(test_keys),
        cmocka_unit_test(test_list),  cmocka_unit_test(test_list_fails),     cmocka_unit_test(test_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
