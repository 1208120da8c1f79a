#include "engine/archive/retire.h"

#include "../base/cmocka_all.h"
#include "../mirror/collector.h"
#include "base/error.h"
#include "engine/archive/chain.h"
#include "store/drivers.h"
#include "store/lock_object.h"
#include "store/memory.h"

#include <string.h>
#include <sys/stat.h>

#define NAME  "home"
#define DAY   86400
#define NOW   G_GINT64_CONSTANT(1795176000) /* 2026-11-20T12:00:00Z */
#define F(d)  "2026-11-" d "T020000Z-full.tar.gz"
#define I(d)  "2026-11-" d "T020000Z-incremental.tar.gz"
#define D(d)  "2026-11-" d "T020000Z-differential.tar.gz"
#define LIMIT 400 /* of requests in a whole run of these */

static const guint8 key[32] = {1, 2, 3};

/* What the store does before it dies: everything from a certain request on fails, and that one may be done nevertheless. */
typedef struct {
    Store base;
    Store *inner;
    GMutex mutex;
    guint count, dies_at; /* 0: never */
    gboolean after;
    GPtrArray *writes; /* what was written and deleted, in order */
} Mortal;

/* 1: goes on, 0: dies before, -1: dies after it was written. */
static int pass(Mortal *mortal, gboolean writes, GError **error)
{
    g_mutex_lock(&mortal->mutex);
    guint number = ++mortal->count;
    g_mutex_unlock(&mortal->mutex);
    if (mortal->dies_at == 0 || number < mortal->dies_at)
        return 1;
    if (number == mortal->dies_at && mortal->after && writes)
        return -1;
    (void)error_set(error, BACKAPP_ERROR_INTERNAL, "killed");
    return 0;
}

static gboolean answer(int passed, gboolean good, GError **error)
{
    return passed > 0 || !good ? good : error_set(error, BACKAPP_ERROR_INTERNAL, "killed");
}

static void wrote(Mortal *mortal, const char *what, const char *name)
{
    g_mutex_lock(&mortal->mutex);
    g_ptr_array_add(mortal->writes, g_strconcat(what, " ", name, NULL));
    g_mutex_unlock(&mortal->mutex);
}

static gboolean mortal_put(Store *store, const char *name, const StoreBody *body, const StorePut *how,
                           StoreResult *result, GError **error)
{
    Mortal *mortal = (Mortal *)store;
    int passed = pass(mortal, TRUE, error);
    if (passed == 0)
        return FALSE;
    wrote(mortal, "put", name);
    return answer(passed, store_put(mortal->inner, name, body, how, result, error), error);
}

static gboolean mortal_get(Store *store, const StoreRange *range, StoreWrite write, gpointer user_data,
                           StoreObject **object, GError **error)
{
    Mortal *mortal = (Mortal *)store;
    return pass(mortal, FALSE, error) > 0 && store_get(mortal->inner, range, write, user_data, object, error);
}

static StoreObject *mortal_head(Store *store, const char *name, const char *version, GError **error)
{
    Mortal *mortal = (Mortal *)store;
    return pass(mortal, FALSE, error) > 0 ? store_head(mortal->inner, name, version, error) : NULL;
}

static StoreList *mortal_list(Store *store, const char *prefix, const char *after, gboolean versions, GError **error)
{
    Mortal *mortal = (Mortal *)store;
    return pass(mortal, FALSE, error) > 0 ? store_list(mortal->inner, prefix, after, versions, error) : NULL;
}

static gboolean mortal_delete(Store *store, const char *name, const char *version, GError **error)
{
    Mortal *mortal = (Mortal *)store;
    int passed = pass(mortal, TRUE, error);
    if (passed == 0)
        return FALSE;
    wrote(mortal, "delete", name);
    return answer(passed, store_delete(mortal->inner, name, version, error), error);
}

static gboolean mortal_facts(Store *store, StoreFacts *facts, GError **error)
{
    Mortal *mortal = (Mortal *)store;
    return pass(mortal, FALSE, error) > 0 && store_facts(mortal->inner, facts, error);
}

static const StoreOps mortal_ops = {.name = "mortal",
                                    .put = mortal_put,
                                    .get = mortal_get,
                                    .head = mortal_head,
                                    .list = mortal_list,
                                    .delete_one = mortal_delete,
                                    .facts = mortal_facts};

typedef struct {
    Store *store;
    Mortal mortal;
    Collector *collector;
    ArchivePlace place;
    RetireOptions options;
    RetireReport report;
} Scene;

static int setup(void **state)
{
    Scene *scene = g_new0(Scene, 1);
    scene->store = store_memory_new();
    scene->collector = collector_new();
    scene->mortal = (Mortal){.base = *scene->store, .inner = scene->store};
    scene->mortal.base.ops = &mortal_ops;
    scene->mortal.writes = g_ptr_array_new_with_free_func(g_free);
    scene->place = (ArchivePlace){.store = scene->store, .name = NAME};
    scene->options = (RetireOptions){.place = scene->place, .now = NOW, .sink = &scene->collector->sink};
    scene->options.place.store = &scene->mortal.base;
    scene->options.zone = g_time_zone_new_utc();
    *state = scene;
    return 0;
}

static int teardown(void **state)
{
    Scene *scene = *state;
    archive_retire_clear(&scene->report);
    g_time_zone_unref(scene->options.zone);
    collector_free(scene->collector);
    g_ptr_array_unref(scene->mortal.writes);
    store_free(scene->store);
    g_free(scene);
    return 0;
}

static void put(Store *store, const char *name, const char *text)
{
    const StoreBody body = {.data = text, .length = strlen(text)};
    assert_true(store_put(store, name, &body, NULL, NULL, NULL));
}

static ArchivePoint *point_new(const char *base, const ArchivePoint *parent, gboolean partial, guint volumes)
{
    ArchivePoint *point = g_new0(ArchivePoint, 1);
    assert_true(archive_name_parse(base, &point->name));
    point->base = g_strdup(base);
    point->place_name = g_strdup(NAME);
    point->time = point->name.time;
    point->host = g_strdup("here");
    point->sources = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(point->sources, g_strdup("/home"));
    point->volumes = g_array_new(FALSE, TRUE, sizeof(ArchiveVolume));
    point->numbered = volumes > 1;
    point->partial = partial;
    point->tar_size = (guint64)volumes * ARCHIVE_MEMBER_BYTES;
    point->members = volumes;
    if (parent) {
        point->parent = g_strdup(parent->base);
        memcpy(point->parent_hash, parent->hash, HASH_BYTES);
    }
    for (guint i = 0; i < volumes; i++) {
        const ArchiveVolume volume = {.size = 6, .packed_size = 6, .first_member = i, .part_size = 8 << 20};
        g_array_append_val(point->volumes, volume);
    }
    return point;
}

/* An archive with volumes of six bytes and an index that names a root. */
static ArchivePoint *make(const ArchivePlace *place, const char *base, const ArchivePoint *parent, gboolean partial,
                          guint volumes)
{
    ArchivePoint *point = point_new(base, parent, partial, volumes);
    g_autoptr(GArray) lengths = g_array_new(FALSE, FALSE, sizeof(guint32));
    for (guint i = 0; i < volumes; i++) {
        const guint32 length = 6;
        g_autofree char *name = archive_volume_key(point, i);
        g_array_append_val(lengths, length);
        put(place->store, name, "volume");
    }
    g_autoptr(IndexWriter) writer = index_writer_new(place, base, NULL, NULL, NULL);
    IndexEntry root = {.flags = INDEX_STORED, .header_length = 512};
    root.entry.path = "";
    root.entry.meta.mode = S_IFDIR | 0755;
    root.entry.meta.nlink = 1;
    g_autoptr(GError) error = NULL;
    if (!writer || !index_writer_put(writer, &root, &error) ||
        !index_writer_commit(writer, point, lengths, NULL, &error))
        fail_msg("%s: %s", base, error ? error->message : "no writer");
    return point;
}

/* Two rows: 1 full, 2, 3, 4 on it; 10 full, 11 and 12 on it; and 12 is partial. */
static void make_rows(const ArchivePlace *place)
{
    static const char *const bases[] = {F("01"), I("02"), I("03"), D("04"), F("10"), I("11"), I("12")};
    static const int parents[] = {-1, 0, 1, 0, -1, 4, 5};
    ArchivePoint *points[G_N_ELEMENTS(bases)];
    for (guint i = 0; i < G_N_ELEMENTS(bases); i++)
        points[i] = make(place, bases[i], parents[i] < 0 ? NULL : points[parents[i]], i == 6, i == 0 || i == 4 ? 2 : 1);
    for (guint i = 0; i < G_N_ELEMENTS(bases); i++)
        archive_point_free(points[i]);
}

static gboolean retire(Scene *scene, GError **error)
{
    archive_retire_clear(&scene->report);
    return archive_retire(&scene->options, &scene->report, error);
}

static void retire_well(Scene *scene)
{
    g_autoptr(GError) error = NULL;
    if (!retire(scene, &error))
        fail_msg("%s", error->message);
}

static const RetirePoint *report_of(const Scene *scene, const char *base)
{
    for (guint i = 0; i < scene->report.points->len; i++) {
        const RetirePoint *point = g_ptr_array_index(scene->report.points, i);
        if (strcmp(point->base, base) == 0)
            return point;
    }
    fail_msg("%s is not reported", base);
    return NULL;
}

static void expect(const Scene *scene, const char *base, RetireState wanted, const char *why)
{
    const RetirePoint *point = report_of(scene, base);
    if (point->state != wanted || !strstr(point->why, why))
        fail_msg("%s: %s (%s), wanted %s (%s)", base, archive_retire_state_name(point->state), point->why,
                 archive_retire_state_name(wanted), why);
}

/* All keys, one a line. */
static char *keys_of(Store *store)
{
    GString *out = g_string_new(NULL);
    g_autoptr(StoreList) objects = store_list(store, "", NULL, FALSE, NULL);
    const StoreObject *object;
    while (store_list_next(objects, &object, NULL) > 0)
        g_string_append_printf(out, "%s\n", object->key);
    return g_string_free(out, FALSE);
}

/* The points with an index, newest first, by their days: "12 11 10". */
static char *days_of(const ArchivePlace *place)
{
    g_autoptr(GPtrArray) list = archive_list(place, NULL, NULL);
    GString *out = g_string_new(NULL);
    for (guint i = 0; i < list->len; i++) {
        const ArchiveListed *listed = g_ptr_array_index(list, i);
        if (listed->has_index)
            g_string_append_printf(out, "%s%.2s", out->len > 0 ? " " : "", listed->base + strlen("2026-11-"));
    }
    return g_string_free(out, FALSE);
}

static void expect_days(const Scene *scene, const char *wanted)
{
    g_autofree char *found = days_of(&scene->place);
    assert_string_equal(found, wanted);
}

/* Whatever is a point can be restored: its row is there, and of each of it all volumes. */
static void check_points(const ArchivePlace *place)
{
    g_autoptr(GPtrArray) list = archive_list(place, NULL, NULL);
    for (guint i = 0; i < list->len; i++) {
        const ArchiveListed *listed = g_ptr_array_index(list, i);
        g_autoptr(GError) error = NULL;
        if (!listed->has_index)
            continue;
        g_autoptr(Chain) chain = chain_open(place, listed->base, NULL, NULL, &error);
        if (!chain)
            fail_msg("%s: %s", listed->base, error->message);
        if (index_point(chain_index(chain, 0))->volumes->len != listed->volumes)
            fail_msg("%s has lost volumes", listed->base);
    }
}

static void test_simulation_changes_nothing(void **state)
{
    Scene *scene = *state;
    make_rows(&scene->place);
    g_autofree char *before = keys_of(scene->store);
    scene->options.simulate = TRUE;
    scene->options.rules = (RetentionRules){.last = 1};
    retire_well(scene);
    g_autofree char *after = keys_of(scene->store);
    assert_string_equal(before, after);
    assert_int_equal(scene->mortal.writes->len, 0);
    expect(scene, I("12"), RETIRE_KEEP, "one of the newest 1");
    expect(scene, I("11"), RETIRE_KEEP, "the newest complete one");
    expect(scene, F("10"), RETIRE_KEEP, "needed by " I("11"));
    expect(scene, D("04"), RETIRE_GO, "no rule keeps it");
    assert_true(report_of(scene, I("12"))->partial);
    assert_int_equal(scene->report.would_go, 4);
    assert_int_equal(scene->report.kept, 3);
    assert_string_equal(scene->report.rules, "the newest 1");
    scene->options.rules.last = 5;
    retire_well(scene);
    expect(scene, I("02"), RETIRE_KEEP, "needed by " I("03"));
    expect(scene, F("01"), RETIRE_KEEP, "needed by ");
    assert_int_equal(scene->report.would_go, 0);
}

static void test_no_rule_removes_nothing(void **state)
{
    Scene *scene = *state;
    make_rows(&scene->place);
    retire_well(scene);
    assert_int_equal(scene->report.kept, 7);
    expect_days(scene, "12 11 10 04 03 02 01");
}

static void test_what_is_needed_stays(void **state)
{
    Scene *scene = *state;
    make_rows(&scene->place);
    scene->options.rules = (RetentionRules){.weekly = 2};
    scene->options.now = NOW - 9 * DAY; /* before 12: that one is dated in the future */
    retire_well(scene);
    expect(scene, I("12"), RETIRE_KEEP, "in the future");
    expect(scene, I("11"), RETIRE_KEEP, "weekly");
    expect(scene, F("10"), RETIRE_KEEP, "needed by " I("11"));
    expect(scene, D("04"), RETIRE_KEEP, "weekly");
    expect(scene, F("01"), RETIRE_KEEP, "needed by " D("04"));
    expect_days(scene, "12 11 10 04 01");
    check_points(&scene->place);
}

/* The newest one has another parent's hash in it, the one before volumes that are gone: neither counts as good. */
static void test_the_only_good_one_stays(void **state)
{
    Scene *scene = *state;
    archive_point_free(make(&scene->place, F("01"), NULL, FALSE, 1));
    g_autoptr(ArchivePoint) lossy = make(&scene->place, F("03"), NULL, FALSE, 2);
    archive_point_free(make(&scene->place, I("05"), lossy, FALSE, 1));
    g_autoptr(ArchivePoint) orphan = point_new(F("02"), NULL, FALSE, 0);
    archive_point_free(make(&scene->place, I("06"), orphan, FALSE, 1));
    assert_true(store_delete(scene->store, NAME "/" F("03") ".vol0002", NULL, NULL));
    scene->options.rules = (RetentionRules){.last = 1};
    retire_well(scene);
    expect(scene, I("06"), RETIRE_KEEP, "one of the newest 1");
    expect(scene, F("01"), RETIRE_KEEP, "the newest complete one");
    expect_days(scene, "06 01");
}

static void test_the_order_of_removing(void **state)
{
    Scene *scene = *state;
    g_autoptr(ArchivePoint) full = make(&scene->place, F("01"), NULL, FALSE, 1);
    archive_point_free(make(&scene->place, I("02"), full, FALSE, 1));
    archive_point_free(make(&scene->place, F("10"), NULL, FALSE, 1));
    scene->options.rules = (RetentionRules){.days = 11};
    retire_well(scene);
    g_ptr_array_add(scene->mortal.writes, NULL);
    g_autofree char *text = g_strjoinv("\n", (char **)scene->mortal.writes->pdata);
    assert_string_equal(
        text,
        "put home/.backapp/lock\n"
        "put home/.backapp/retired/" I(
            "02") "\n"
                  "delete home/" I(
                      "02") ".index\n"
                            "delete home/" I(
                                "02") "\n"
                                      "delete home/.backapp/retired/" I(
                                          "02") "\n"
                                                "put home/.backapp/retired/" F(
                                                    "01") "\n"
                                                          "delete home/" F(
                                                              "01") ".index\n"
                                                                    "delete home/" F(
                                                                        "01") "\n"
                                                                              "delete home/.backapp/retired/" F(
                                                                                  "01") "\n"
                                                                                        "delete home/.backapp/lock");
}

/* One whole run that dies at a request; what is left is consistent, and the next run makes it right. */
static gboolean dies_at(guint number, gboolean after)
{
    void *state = NULL;
    setup(&state);
    Scene *scene = state;
    make_rows(&scene->place);
    put(scene->store, NAME "/2026-11-05T020000Z-full.tar.gz.vol0001", "volume");
    scene->options.rules = (RetentionRules){.last = 1};
    scene->options.unfinished = TRUE;
    scene->options.now = g_get_real_time() / G_USEC_PER_SEC + 8 * DAY;
    scene->mortal.dies_at = number;
    scene->mortal.after = after;
    g_autoptr(GError) error = NULL;
    gboolean died = !retire(scene, &error);
    if (died && !strstr(error->message, "killed"))
        fail_msg("request %u: %s", number, error->message);
    check_points(&scene->place);
    /* The last requests give the lock back, and nobody cares whether they can. */
    gboolean over = scene->mortal.count < number;
    scene->mortal.dies_at = 0;
    retire_well(scene);
    g_autofree char *keys = keys_of(scene->store);
    assert_string_equal(
        keys,
        "home/" F("10") ".index\n"
                        "home/" F("10") ".vol0001\n"
                                        "home/" F("10") ".vol0002\n"
                                                        "home/" I("11") "\n"
                                                                        "home/" I("11") ".index\n"
                                                                                        "home/" I(
                                                                                            "12") "\n"
                                                                                                  "home/" I(
                                                                                                      "12") ".index\n");
    check_points(&scene->place);
    teardown(&state);
    return over;
}

static void test_killed_at_every_request(void **state)
{
    (void)state;
    guint number = 1;
    while (number < LIMIT && !dies_at(number, FALSE))
        number++;
    assert_in_range(number, 30, LIMIT - 1);
    for (guint i = 1; i < number; i++)
        (void)dies_at(i, TRUE);
}

/* A marker of a point that has its index: it was not begun with, and may be needed again by now. */
static void test_a_marker_alone_says_nothing(void **state)
{
    Scene *scene = *state;
    make_rows(&scene->place);
    put(scene->store, NAME "/.backapp/retired/" I("11"), "x");
    put(scene->store, NAME "/.backapp/retired/" F("09"), "x");
    scene->options.rules = (RetentionRules){.last = 2};
    retire_well(scene);
    expect_days(scene, "12 11 10");
    g_autofree char *keys = keys_of(scene->store);
    assert_null(strstr(keys, "retired"));
}

static void test_locked_by_another_run(void **state)
{
    Scene *scene = *state;
    make_rows(&scene->place);
    g_autofree char *before = keys_of(scene->store);
    g_autoptr(Store) below = store_prefix_borrow(scene->store, NAME "/");
    g_autoptr(GError) error = NULL;
    LockObject *lock = lock_object_take(below, &scene->collector->sink, NULL);
    scene->options.rules = (RetentionRules){.last = 1};
    assert_false(retire(scene, &error));
    assert_true(error_is(error, BACKAPP_ERROR_LOCKED));
    lock_object_release(lock);
    g_autofree char *after = keys_of(scene->store);
    assert_string_equal(before, after);
}

/* The increment is locked: it is skipped, and what it builds on stays with it. */
static void test_locked_objects_are_skipped(void **state)
{
    Scene *scene = *state;
    make_rows(&scene->place);
    gint64 until = g_get_real_time() / G_USEC_PER_SEC + DAY;
    assert_true(store_set_lock(scene->store, NAME "/" I("02") ".index", NULL, "COMPLIANCE", until, NULL));
    scene->options.rules = (RetentionRules){.last = 1};
    retire_well(scene);
    expect(scene, I("02"), RETIRE_SKIPPED, "is locked");
    expect(scene, F("01"), RETIRE_KEEP, "needed by " I("02"));
    expect(scene, I("03"), RETIRE_REMOVED, "no rule");
    expect_days(scene, "12 11 10 02 01");
    assert_true(scene->report.partial);
    assert_int_equal(scene->report.skipped, 1);
    assert_int_equal(collector_warned(scene->collector, "skipped " I("02")), 1);
    check_points(&scene->place);
    g_autofree char *keys = keys_of(scene->store);
    assert_null(strstr(keys, "retired"));
}

/* Where versions are kept and can be locked, the versions themselves go, and a locked one keeps the point. */
static void test_versions_and_locks(void **state)
{
    Scene *scene = *state;
    assert_true(store_set_versioning(scene->store, TRUE, NULL));
    make_rows(&scene->place);
    g_autoptr(StoreObject) index = store_head(scene->store, NAME "/" I("02") ".index", NULL, NULL);
    gint64 until = g_get_real_time() / G_USEC_PER_SEC + DAY;
    assert_true(store_set_lock(scene->store, index->key, index->version, "COMPLIANCE", until, NULL));
    scene->options.rules = (RetentionRules){.last = 1};
    retire_well(scene);
    StoreFacts facts = {0};
    assert_true(store_facts(scene->store, &facts, NULL));
    if (facts.lock <= 0) {
        expect_days(scene, "12 11 10");
        return;
    }
    expect(scene, I("02"), RETIRE_SKIPPED, "is locked");
    expect_days(scene, "12 11 10 02 01");
    g_autoptr(StoreList) versions = store_list(scene->store, NAME "/" I("03"), NULL, TRUE, NULL);
    const StoreObject *object;
    assert_int_equal(store_list_next(versions, &object, NULL), 0);
}

/* Volumes without an index: young ones stay, old ones too unless they are asked for, and never what a point needs. */
static void test_unfinished_ones(void **state)
{
    Scene *scene = *state;
    make_rows(&scene->place);
    put(scene->store, NAME "/" F("05") ".vol0001", "volume");
    assert_true(store_delete(scene->store, NAME "/" F("10") ".index", NULL, NULL));
    gint64 now = g_get_real_time() / G_USEC_PER_SEC;
    scene->options.rules = (RetentionRules){.last = 2};
    scene->options.now = now + 6 * DAY;
    scene->options.unfinished = TRUE;
    scene->options.simulate = TRUE;
    retire_well(scene);
    expect(scene, F("05"), RETIRE_KEEP, "not 7 days old");
    scene->options.now = now + 8 * DAY;
    scene->options.unfinished = FALSE;
    retire_well(scene);
    expect(scene, F("05"), RETIRE_KEEP, "only with --unfinished");
    assert_int_equal(scene->report.unfinished, 2);
    scene->options.unfinished = TRUE;
    scene->options.simulate = FALSE;
    retire_well(scene);
    expect(scene, F("05"), RETIRE_REMOVED, "7 days");
    /* 12 and 11 stay by the rule and lack it; 4 is the newest complete one. */
    expect(scene, F("10"), RETIRE_KEEP, "needed by " I("11"));
    expect(scene, D("04"), RETIRE_KEEP, "the newest complete one");
    expect_days(scene, "12 11 04 01");
}

static void test_damaged_indexes_are_kept(void **state)
{
    Scene *scene = *state;
    make_rows(&scene->place);
    put(scene->store, NAME "/" I("03") ".index", "this is none");
    scene->options.rules = (RetentionRules){.last = 1};
    retire_well(scene);
    expect(scene, I("03"), RETIRE_KEEP, "its index is damaged");
    expect(scene, I("02"), RETIRE_KEEP, "may be needed by " I("03"));
    expect(scene, F("01"), RETIRE_KEEP, "may be needed by " I("03"));
    expect(scene, D("04"), RETIRE_REMOVED, "no rule");
    assert_true(scene->report.partial);
    assert_int_equal(collector_warned(scene->collector, "damaged " I("03")), 1);
}

static void test_a_key_is_needed(void **state)
{
    Scene *scene = *state;
    ArchivePlace with_key = scene->place;
    with_key.content_key = key;
    archive_point_free(make(&with_key, F("01") ".aes", NULL, FALSE, 0));
    archive_point_free(make(&with_key, F("02") ".aes", NULL, FALSE, 0));
    scene->options.rules = (RetentionRules){.last = 1};
    g_autoptr(GError) error = NULL;
    assert_false(retire(scene, &error));
    assert_true(error_is(error, BACKAPP_ERROR_DENIED));
    expect_days(scene, "02 01");
    scene->options.place.content_key = key;
    retire_well(scene);
    expect_days(scene, "02");
}

static void test_cancelled_and_nothing_there(void **state)
{
    Scene *scene = *state;
    g_autoptr(GError) none = NULL, cancelled = NULL;
    assert_false(retire(scene, &none));
    assert_true(error_is(none, BACKAPP_ERROR_NOT_FOUND));
    make_rows(&scene->place);
    CancelFlag flag = {0};
    cancel_set(&flag);
    scene->options.cancel = &flag;
    scene->options.rules = (RetentionRules){.last = 1};
    assert_false(retire(scene, &cancelled));
    assert_true(error_is(cancelled, BACKAPP_ERROR_CANCELLED));
    expect_days(scene, "12 11 10 04 03 02 01");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_simulation_changes_nothing),
        CASE(test_no_rule_removes_nothing),
        CASE(test_what_is_needed_stays),
        CASE(test_the_only_good_one_stays),
        CASE(test_the_order_of_removing),
        cmocka_unit_test(test_killed_at_every_request),
        CASE(test_a_marker_alone_says_nothing),
        CASE(test_locked_by_another_run),
        CASE(test_locked_objects_are_skipped),
        CASE(test_versions_and_locks),
        CASE(test_unfinished_ones),
        CASE(test_damaged_indexes_are_kept),
        CASE(test_a_key_is_needed),
        CASE(test_cancelled_and_nothing_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
