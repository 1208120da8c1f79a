#include "plan_scene.h"

#include "engine/s3sync/estimate.h"

static void test_new_changed_and_gone(void **state)
{
    g_autoptr(Scene) scene = scene_new(*state, "p/", FALSE);
    scene_write(scene, "a", "one", 100);
    scene_write(scene, "d/b", "two", 100);
    scene_write(scene, "d.c", "three", 100);
    scene_expect(scene, "U a new, U d.c new, U d/b new");
    scene_run(scene);
    scene_expect(scene, "");

    scene_write(scene, "a", "One", 200);
    scene_write(scene, "d/b", "longer", 100);
    assert_int_equal(unlinkat(scene->source_fd, "d.c", 0), 0);
    scene_expect(scene, "U a time, D d.c, U d/b size");
    scene->options.delete_extraneous = FALSE;
    scene_expect(scene, "U a time, U d/b size");
    scene->options.delete_extraneous = TRUE;
    scene_run(scene);
    scene_expect(scene, "");
    g_autofree char *content = scene_get(scene, "a");
    assert_string_equal(content, "One");
}

static void test_what_others_did_to_the_bucket(void **state)
{
    g_autoptr(Scene) scene = scene_new(*state, "", FALSE);
    scene_write(scene, "lost", "x", 1);
    scene_write(scene, "same-size", "abc", 1);
    scene_write(scene, "other-size", "abc", 1);
    scene_run(scene);
    assert_true(store_delete(scene->store, "lost", NULL, NULL));
    scene_put(scene, "same-size", "xyz", NULL);
    scene_put(scene, "other-size", "more", NULL);
    scene_put(scene, "zz/foreign", "f", NULL);
    scene_expect(scene, "U lost lost, U other-size etag, C same-size etag, D zz/foreign");
    scene_run(scene);
    scene_expect(scene, "");
    g_autofree char *content = scene_get(scene, "same-size");
    assert_string_equal(content, "abc");
}

/* As rclone leaves them: right size, mtime in the metadata, no row. */
static void test_objects_without_a_row_are_looked_at(void **state)
{
    g_autoptr(Scene) scene = scene_new(*state, "p/", FALSE);
    scene_write(scene, "f", "abc", 7);
    scene_write(scene, "g", "abcd", 7);
    scene_put(scene, "f", "abc", "7.000000000");
    scene_put(scene, "g", "abc", "7.000000000");
    scene_expect(scene, "C f time, U g size");
    scene_run(scene);
    scene_expect(scene, "");
}

static void test_without_a_list_the_catalogue_counts(void **state)
{
    g_autoptr(Scene) scene = scene_new(*state, "p/", FALSE);
    scene_write(scene, "a", "one", 100);
    scene_write(scene, "b", "two", 100);
    scene_run(scene);
    scene->list = FALSE;
    scene_put(scene, "unseen", "x", NULL);
    assert_true(store_delete(scene->store, "a", NULL, NULL));
    scene_expect(scene, "");
    g_autoptr(S3Plan) plan = scene_plan(scene);
    assert_int_equal(s3plan_counts(plan)->listed, 0);
    assert_int_equal(s3plan_counts(plan)->objects, 2);
    assert_int_equal(unlinkat(scene->source_fd, "b", 0), 0);
    scene_expect(scene, "D b");
}

static void test_a_damaged_object_is_uploaded_whatever_it_says(void **state)
{
    g_autoptr(Scene) scene = scene_new(*state, "p/", FALSE);
    scene_write(scene, "a", "one", 100);
    scene_write(scene, "b", "two", 100);
    scene_run(scene);
    assert_true(catalogue_add_wrong(scene->catalogue, "a", NULL));
    scene_expect(scene, "U a damaged");
    /* Without a list an object is known by its row, and that is gone. */
    scene->list = FALSE;
    scene_expect(scene, "U a new");
    scene_run(scene);
    scene->list = TRUE;
    scene_expect(scene, "");
}

static void test_own_keys_are_passed_over(void **state)
{
    static const char *const OURS[] = {".backapp/generation", ".backapp/tree/x", ".trash/2024/f", ".backapp/~~",
                                       ".trash/~~"};
    g_autoptr(Scene) scene = scene_new(*state, "p/", FALSE);
    for (guint i = 0; i < G_N_ELEMENTS(OURS); i++)
        scene_put(scene, OURS[i], "ours", NULL);
    scene_put(scene, "!before", "x", NULL);
    scene_put(scene, ".backapp0", "x", NULL);
    scene_put(scene, ".bb", "x", NULL);
    scene_put(scene, ".trasi", "x", NULL);
    scene_expect(scene, "D !before, D .bb, D .trasi");
    scene_write(scene, ".backapp-x", "not taken", 1);
    scene_write(scene, ".trash/y", "not taken", 1);
    scene_write(scene, "d/.backapp", "taken", 1);
    scene_expect(scene, "D !before, D .bb, D .trasi, U d/.backapp new");
    assert_true(scene_warned(scene, "skipped .backapp-x") && scene_warned(scene, "skipped .trash"));
    assert_false(scene->stats.partial);
}

static void test_what_is_excluded_is_kept_in_the_bucket(void **state)
{
    g_autoptr(Scene) scene = scene_new(*state, "p/", FALSE);
    scene_put(scene, "keep.log", "x", NULL);
    scene_put(scene, "cache/deep/file", "x", NULL);
    scene_put(scene, "d/gone", "x", NULL);
    scene_put(scene, "d/keep.log", "x", NULL);
    assert_true(pattern_list_add(scene->patterns, FALSE, "*.log", NULL));
    assert_true(pattern_list_add(scene->patterns, FALSE, "/cache/", NULL));
    scene_write(scene, "new.log", "x", 1);
    scene_write(scene, "cache/other", "x", 1);
    scene_expect(scene, "D d/gone");
}

static void test_what_is_left_out_is_kept_in_the_bucket(void **state)
{
    g_autoptr(Scene) scene = scene_new(*state, "p/", FALSE);
    scene->scan.exclude_caches = TRUE;
    scene->scan.exclude_if_present = ".nobackup";
    scene->scan.exclude_larger_than = 3;
    scene_write(scene, "c/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55", 1);
    scene_write(scene, "n/.nobackup", "", 1);
    scene_write(scene, "large", "four", 1);
    scene_write(scene, "small", "333", 1);
    scene_put(scene, "c/x", "x", NULL);
    scene_put(scene, "c0", "x", NULL);
    scene_put(scene, "n/y", "x", NULL);
    scene_put(scene, "large", "x", NULL);
    scene_put(scene, "larger", "x", NULL);
    scene_put(scene, "n-", "x", NULL);
    scene_expect(scene, "D c0, D larger, D n-, U small new");
    assert_false(scene->stats.partial);
}

static int plan_unreadable(Scratch *scratch)
{
    if (!become_nobody())
        return CHILD_SKIPS;
    g_autoptr(Scene) scene = scene_new(scratch, "p/", FALSE);
    scene_write(scene, "closed/f", "x", 1);
    scene_write(scene, "e", "x", 1);
    scene_run(scene);
    scene_put(scene, "closed/g", "x", NULL);
    scene_put(scene, "closed-", "x", NULL);
    CHECK(fchmodat(scene->source_fd, "closed", 0, 0) == 0);
    g_autoptr(S3Plan) plan = scene_plan(scene);
    g_autofree char *text = scene_describe(plan);
    CHECK(strcmp(text, "D closed-") == 0 && scene->stats.partial && scene_warned(scene, "unreadable closed"));
    CHECK(fchmodat(scene->source_fd, "closed", 0755, 0) == 0);
    return 0;
}

static void test_below_unreadable_folders_nothing_is_deleted(void **state)
{
    Scratch *scratch = *state;
    assert_int_equal(fchmod(scratch->fd, 0777), 0);
    RUN_CHILD(plan_unreadable, scratch);
}

static void test_checksum_reads_the_file(void **state)
{
    g_autoptr(Scene) scene = scene_new(*state, "p/", FALSE);
    scene_write(scene, "same", "abc", 1);
    scene_write(scene, "touched", "abc", 1);
    scene_write(scene, "silent", "abc", 1);
    scene_run(scene);
    scene_write(scene, "touched", "abc", 2);
    scene_write(scene, "silent", "abd", 1);
    scene_expect(scene, "U touched time");
    scene->options.checksum = TRUE;
    scene_expect(scene, "U silent content, T touched time");
    scene_run(scene);
    scene_expect(scene, "");
    /* No row: the ETag is all there is. */
    scene_write(scene, "x", "123", 1);
    scene_write(scene, "y", "123", 1);
    scene_put(scene, "x", "123", "1.000000000");
    scene_put(scene, "y", "321", "1.000000000");
    scene_expect(scene, "C x content, U y content");
}

static void test_classes(void **state)
{
    static const S3syncClassRule RULES[] = {{"*.iso", "GLACIER_IR"}, {"/cold/", "DEEP_ARCHIVE"}};
    g_autoptr(Scene) scene = scene_new(*state, "p/", FALSE);
    if (!store_can(scene->store, STORE_CLASSES))
        skip();
    scene_write(scene, "a.iso", "x", 1);
    scene_write(scene, "cold/b", "x", 1);
    scene_write(scene, "c", "x", 1);
    scene_run(scene);
    scene->options.class_rules = RULES;
    scene->options.class_rules_count = G_N_ELEMENTS(RULES);
    scene->options.storage_class = "STANDARD_IA";
    scene_expect(scene, "T a.iso class, T c class, T cold/b class");
    scene_run(scene);
    scene_expect(scene, "");
    /* Out of the cold nothing is copied. */
    scene->options.class_rules_count = 0;
    scene_expect(scene, "T a.iso class, U cold/b class");
    assert_true(scene_warned(scene, "note -"));
    /* A rule of the bucket's life cycle moved it: that is not undone. */
    scene_run(scene);
    StoreBody body = {.data = "x", .length = 1};
    StorePut how = {.storage_class = "GLACIER", .mtime = "1.000000000"};
    g_auto(StoreResult) result = {0};
    assert_true(store_put(scene->store, "c", &body, &how, &result, NULL));
    scene_expect(scene, "");
}

/* An object of the date before, and its row. */
static void put_base(Scene *scene, const char *key, const char *content, gint64 mtime, const char *storage_class)
{
    g_autofree char *full = g_strconcat(scene->base_prefix, key, NULL);
    StoreBody body = {.data = content, .length = strlen(content)};
    StorePut how = {0};
    g_auto(StoreResult) result = {0};
    assert_true(store_put(scene->whole, full, &body, &how, &result, NULL));
    CatalogueRow row = {.key = key, .object_size = body.length, .size = body.length, .mtime_s = mtime};
    row.etag = result.etag;
    row.storage_class = storage_class;
    assert_true(catalogue_put(scene->base, &row, NULL));
}

static void test_a_new_date_copies_from_the_last(void **state)
{
    g_autoptr(Scene) scene = scene_new(*state, "2024-01-02/", FALSE);
    scene->base = scene_catalogue(scene, "2024-01-01/");
    scene->base_prefix = g_strdup("2024-01-01/");
    put_base(scene, "changed", "abc", 1, NULL);
    put_base(scene, "cold", "abc", 1, "GLACIER");
    put_base(scene, "gone", "abc", 1, NULL);
    put_base(scene, "same", "abc", 1, NULL);
    scene_write(scene, "changed", "abc", 2);
    scene_write(scene, "cold", "abc", 1);
    scene_write(scene, "new", "abc", 2);
    scene_write(scene, "same", "abc", 1);
    scene_expect(scene, "U changed new, U cold new, U new new, Y same new");
    scene_run(scene);
    scene_expect(scene, "");
    g_autofree char *content = scene_get(scene, "same");
    assert_string_equal(content, "abc");
}

static char *long_path(char last)
{
    GString *path = g_string_new(NULL);
    for (guint i = 0; i < 6; i++) {
        for (guint j = 0; j < 200; j++)
            g_string_append_c(path, (char)('a' + i));
        g_string_append_c(path, '/');
    }
    g_string_append_c(path, last);
    return g_string_free(path, FALSE);
}

static void test_long_keys_lie_elsewhere(void **state)
{
    g_autoptr(Scene) scene = scene_new(*state, "p/", FALSE);
    g_autofree char *path = long_path('x');
    g_autofree char *second = long_path('y');
    g_autofree char *key = names_long_key(path);
    g_autofree char *want = g_strdup_printf("U %s new, U z new", key);
    scene_write(scene, path, "abc", 1);
    scene_write(scene, "z", "abc", 1);
    scene_expect(scene, want);
    scene_run(scene);
    scene_expect(scene, "");
    scene->list = FALSE;
    scene_expect(scene, "");
    scene->list = TRUE;
    g_autofree char *second_key = names_long_key(second);
    g_autofree char *both = g_strdup_printf("D %s", second_key);
    scene_put(scene, second_key, "foreign", NULL);
    scene_expect(scene, both);
    assert_true(pattern_list_add(scene->patterns, FALSE, "something", NULL));
    scene_expect(scene, "");
    assert_true(store_delete(scene->store, key, NULL, NULL));
    g_autofree char *lost = g_strdup_printf("U %s lost", key);
    scene_expect(scene, lost);
}

static void test_objects_of_long_keys_go_too(void **state)
{
    g_autoptr(Scene) scene = scene_new(*state, "p/", FALSE);
    scene_write(scene, "f", "abc", 1);
    scene_run(scene);
    scene_put(scene, ".backapp/long/x", "foreign", NULL);
    scene_expect(scene, "D .backapp/long/x");
    scene->options.delete_extraneous = FALSE;
    scene_expect(scene, "");
}

static void test_rows_of_what_is_gone_are_forgotten(void **state)
{
    g_autoptr(Scene) scene = scene_new(*state, "p/", FALSE);
    g_autoptr(CatalogueRow) row = NULL;
    scene_write(scene, "f", "abc", 1);
    scene_run(scene);
    assert_int_equal(unlinkat(scene->source_fd, "f", 0), 0);
    assert_true(store_delete(scene->store, "f", NULL, NULL));
    scene->options.dry_run = TRUE;
    scene_expect(scene, "");
    assert_int_equal(catalogue_find(scene->catalogue, "f", &row, NULL), 1);
    catalogue_row_free(g_steal_pointer(&row));
    scene->options.dry_run = FALSE;
    scene_expect(scene, "");
    assert_int_equal(catalogue_find(scene->catalogue, "f", &row, NULL), 0);
}

static void test_counts_hash_and_estimate(void **state)
{
    g_autoptr(Scene) scene = scene_new(*state, "p/", FALSE);
    scene_write(scene, "a", "12345", 1);
    scene_write(scene, "b", "123", 1);
    scene_run(scene);
    scene_write(scene, "b", "1234", 1);
    scene_write(scene, "c", "12", 1);
    scene_put(scene, "x", "1234567", NULL);
    g_autoptr(S3Plan) plan = scene_plan(scene);
    const S3PlanCounts *counts = s3plan_counts(plan);
    assert_true(counts->uploads == 2 && counts->upload_bytes == 6 && counts->created == 1 && counts->changed == 1);
    assert_true(counts->kept == 1 && counts->kept_bytes == 5 && counts->unchanged == 1);
    assert_true(counts->deletes == 1 && counts->delete_bytes == 7 && counts->objects == 3 && counts->listed >= 1);

    ProviderClass prices = {.put_1000 = 5, .get_1000 = 1, .gb_month = 1e9};
    EstimateHow how = {.store = scene->store, .put_max = 1 << 20, .trash = FALSE, .prices = &prices};
    Estimate estimate;
    assert_true(estimate_plan(plan, &how, &estimate, NULL));
    assert_true(estimate.bytes_sent == 6);
    assert_true(estimate.bytes_stored == 4 + 2 - 3 - 7);
    assert_true(estimate.requests[STORE_REQUEST_PUT] == 2 + 3 + 1);
    assert_true(estimate.requests[STORE_REQUEST_COPY] == 0);
    assert_int_equal(estimate.requests[STORE_REQUEST_GET], 5);
    assert_int_equal(estimate.requests[STORE_REQUEST_HEAD], 1);
    assert_int_equal(estimate.requests[STORE_REQUEST_LIST], counts->listed + 2);
    assert_int_equal(estimate.requests[STORE_REQUEST_DELETE], 2);
    assert_int_equal(estimate.requests[STORE_REQUEST_OTHER], 5);
    assert_true(estimate.month_cost < -3.9 && estimate.month_cost > -4.1);
    assert_true(estimate.requests_cost > 0.03);
    how.trash = TRUE;
    assert_true(estimate_plan(plan, &how, &estimate, NULL));
    assert_true(estimate.requests[STORE_REQUEST_COPY] == 2 && estimate.bytes_stored == 6);
    assert_int_equal(estimate.requests[STORE_REQUEST_HEAD], 1 + 2 * 2);

    g_autofree char *hash = s3plan_hash(plan);
    g_autoptr(S3Plan) again = scene_plan(scene);
    g_autofree char *same = s3plan_hash(again);
    assert_int_equal(strlen(hash), 32);
    assert_string_equal(hash, same);
    scene_write(scene, "c", "13", 2);
    g_autoptr(S3Plan) other = scene_plan(scene);
    g_autofree char *different = s3plan_hash(other);
    assert_string_not_equal(hash, different);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(test_new_changed_and_gone),
        SCRATCH_TEST(test_what_others_did_to_the_bucket),
        SCRATCH_TEST(test_objects_without_a_row_are_looked_at),
        SCRATCH_TEST(test_without_a_list_the_catalogue_counts),
        SCRATCH_TEST(test_a_damaged_object_is_uploaded_whatever_it_says),
        SCRATCH_TEST(test_own_keys_are_passed_over),
        SCRATCH_TEST(test_what_is_excluded_is_kept_in_the_bucket),
        SCRATCH_TEST(test_what_is_left_out_is_kept_in_the_bucket),
        SCRATCH_TEST(test_below_unreadable_folders_nothing_is_deleted),
        SCRATCH_TEST(test_checksum_reads_the_file),
        SCRATCH_TEST(test_classes),
        SCRATCH_TEST(test_a_new_date_copies_from_the_last),
        SCRATCH_TEST(test_long_keys_lie_elsewhere),
        SCRATCH_TEST(test_objects_of_long_keys_go_too),
        SCRATCH_TEST(test_rows_of_what_is_gone_are_forgotten),
        SCRATCH_TEST(test_counts_hash_and_estimate),
    };
    return cmocka_run_group_tests_name("s3sync/plan", tests, NULL, NULL);
}
