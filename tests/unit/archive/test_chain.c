#include "../base/cmocka_all.h"
#include "base/error.h"
#include "engine/archive/chain.h"
#include "index_scene.h"
#include "store/drivers.h"

#include <string.h>
#include <sys/stat.h>

#define ROUNDS 12
#define TREE   4000
#define FULL   "2026-11-01T020000Z-full.tar.gz"

static const guint8 KEY[32] = {1, 2, 3};

/* A tree that changes, and what the indexes of its points say. */
typedef struct {
    GRand *random;
    Store *store;
    ArchivePlace place;
    GPtrArray *tree;                /* of SceneItem *, in order */
    GHashTable *newest;             /* of paths with a slash at a directory's end: the round that stored it, + 1 */
    GPtrArray *trees[ROUNDS + 1];   /* as they were at each point */
    GHashTable *rounds[ROUNDS + 1]; /* and newest */
    ArchivePoint *points[ROUNDS + 1];
} World;

static void free_item(gpointer item)
{
    scene_item_free(item);
}

static char *key_of(const SceneItem *item)
{
    return g_strconcat(item->path, item->directory ? "/" : "", NULL);
}

static char *base_of(const World *world, guint round)
{
    return g_strdup_printf("2026-11-%02uT020000Z-%s.tar.gz%s", round + 1, round == 0 ? "full" : "incremental",
                           world->place.content_key ? ".aes" : "");
}

static gpointer copy_item(gconstpointer item, gpointer data)
{
    return scene_item_copy(item);
}

/* Writes a round's index and keeps the tree as it is now. differential: on the full one. */
static void write_point(World *world, guint round, GPtrArray *items, gboolean differential)
{
    g_autofree char *base = base_of(world, round);
    g_autoptr(GError) error = NULL;
    ArchivePoint *parent = round == 0 ? NULL : world->points[differential ? 0 : round - 1];
    world->points[round] = scene_write(&world->place, base, items, parent, world->random, &error);
    if (!world->points[round])
        fail_msg("%s", error->message);
    world->trees[round] = g_ptr_array_copy(world->tree, copy_item, NULL);
    g_ptr_array_set_free_func(world->trees[round], free_item);
    world->rounds[round] = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    GHashTableIter iter;
    gpointer key, value;
    g_hash_table_iter_init(&iter, world->newest);
    while (g_hash_table_iter_next(&iter, &key, &value))
        g_hash_table_insert(world->rounds[round], g_strdup(key), value);
}

static void note(World *world, const SceneItem *item, guint round)
{
    g_hash_table_insert(world->newest, key_of(item), GUINT_TO_POINTER(round + 1));
}

static void drop(World *world, guint number)
{
    SceneItem *gone = g_ptr_array_steal_index(world->tree, number);
    g_autofree char *key = key_of(gone);
    g_hash_table_remove(world->newest, key);
    scene_item_free(gone);
}

static gboolean is_below(const SceneItem *item, const char *folder)
{
    return g_str_has_prefix(item->path, folder) && item->path[strlen(folder)] == '/';
}

/* Removes an item and all below it. Returns its path. */
static char *remove_item(World *world, guint number)
{
    char *path = g_strdup(((SceneItem *)world->tree->pdata[number])->path);
    drop(world, number);
    while (number < world->tree->len && is_below(world->tree->pdata[number], path))
        drop(world, number);
    return path;
}

static void add_item(World *world, SceneItem *item, guint round)
{
    g_ptr_array_add(world->tree, item);
    note(world, item, round);
}

static gboolean is_taken(World *world, const SceneItem *item)
{
    g_autofree char *folder = g_strconcat(item->path, "/", NULL);
    return g_hash_table_contains(world->newest, item->path) || g_hash_table_contains(world->newest, folder);
}

/* One round of changes. */
static void mutate(World *world, guint round)
{
    GRand *random = world->random;
    for (guint i = 0; i < 60; i++) {
        guint number = (guint)g_rand_int_range(random, 1, (gint)world->tree->len);
        gboolean directory = ((SceneItem *)world->tree->pdata[number])->directory;
        g_autofree char *path = remove_item(world, number);
        /* Some come back as what they were not. */
        if (i % 3 != 0)
            continue;
        SceneItem *other = scene_item_new(random, "", !directory);
        g_free(other->path);
        other->path = g_steal_pointer(&path);
        add_item(world, other, round);
        scene_sort(world->tree);
    }
    for (guint i = 0; i < 100; i++) {
        const SceneItem *parent = world->tree->pdata[g_rand_int_range(random, 0, (gint)world->tree->len)];
        SceneItem *item = scene_item_new(random, parent->directory ? parent->path : "", i % 10 == 0);
        if (is_taken(world, item))
            scene_item_free(item);
        else
            add_item(world, item, round);
    }
    for (guint i = 0; i < 100; i++) {
        SceneItem *item = world->tree->pdata[g_rand_int_range(random, 0, (gint)world->tree->len)];
        scene_touch(item, random);
        note(world, item, round);
    }
    scene_sort(world->tree);
}

/* What an index says of a round, in order: what is new since the point `since`, and what is no more. */
static GPtrArray *changes_since(World *world, guint since)
{
    GPtrArray *changes = g_ptr_array_new_with_free_func(free_item);
    for (guint i = 0; i < world->tree->len; i++) {
        const SceneItem *item = world->tree->pdata[i];
        g_autofree char *key = key_of(item);
        if (GPOINTER_TO_UINT(g_hash_table_lookup(world->newest, key)) > since + 1)
            g_ptr_array_add(changes, scene_item_copy(item));
    }
    for (guint i = 0; i < world->trees[since]->len; i++) {
        const SceneItem *item = world->trees[since]->pdata[i];
        g_autofree char *key = key_of(item);
        if (g_hash_table_contains(world->newest, key))
            continue;
        SceneItem *gone = scene_item_copy(item);
        gone->flags = INDEX_DELETED;
        g_ptr_array_add(changes, gone);
    }
    scene_sort(changes);
    return changes;
}

static World *world_new(const guint8 *key, gboolean differential)
{
    World *world = g_new0(World, 1);
    world->random = g_rand_new_with_seed(12);
    world->store = store_memory_new();
    world->place = (ArchivePlace){.store = world->store, .name = "photos", .content_key = key};
    world->tree = scene_tree(world->random, TREE);
    world->newest = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (guint i = 0; i < world->tree->len; i++)
        note(world, world->tree->pdata[i], 0);
    write_point(world, 0, world->tree, FALSE);
    for (guint round = 1; round <= ROUNDS; round++) {
        mutate(world, round);
        g_autoptr(GPtrArray) changes = changes_since(world, differential ? 0 : round - 1);
        write_point(world, round, changes, differential);
        if (differential)
            break;
    }
    return world;
}

static void world_free(World *world)
{
    for (guint i = 0; i <= ROUNDS && world->trees[i]; i++) {
        g_ptr_array_unref(world->trees[i]);
        g_hash_table_unref(world->rounds[i]);
        archive_point_free(world->points[i]);
    }
    g_ptr_array_unref(world->tree);
    g_hash_table_unref(world->newest);
    g_rand_free(world->random);
    store_free(world->store);
    g_free(world);
}

/* What a chain gives from item `from` on is the tree at that point. */
static void assert_chain(World *world, Chain *chain, guint round, guint from, guint count)
{
    const GPtrArray *tree = world->trees[round];
    const SceneItem *first = tree->pdata[from];
    g_autoptr(GError) error = NULL;
    g_autoptr(ChainReader) reader = chain_read(chain, from > 0 ? first->path : NULL, first->directory, &error);
    IndexEntry entry = {0};
    guint number = 99;
    for (guint i = from; i < MIN(tree->len, from + count); i++) {
        const SceneItem *item = tree->pdata[i];
        g_autofree char *key = key_of(item);
        guint stored = GPOINTER_TO_UINT(g_hash_table_lookup(world->rounds[round], key)) - 1;
        if (!reader || chain_reader_next(reader, &entry, &number, &error) != 1)
            fail_msg("point %u, entry %u: %s", round, i, error ? error->message : "the end");
        if (!scene_same(item, &entry) || number != round - stored)
            fail_msg("point %u has %s from %u instead of %s from %u", round, entry.entry.path, number, key,
                     round - stored);
    }
    if (from + count >= tree->len)
        assert_int_equal(chain_reader_next(reader, &entry, &number, NULL), 0);
}

static void try_chain(const guint8 *key)
{
    World *world = world_new(key, FALSE);
    for (guint round = 0; round <= ROUNDS; round++) {
        g_autofree char *base = base_of(world, round);
        gboolean broken = TRUE;
        g_autoptr(Chain) chain = chain_open(&world->place, base, NULL, &broken, NULL);
        assert_non_null(chain);
        assert_false(broken);
        assert_int_equal(chain_length(chain), round + 1);
        assert_string_equal(index_point(chain_index(chain, round))->base, world->points[0]->base);
        assert_chain(world, chain, round, 0, G_MAXINT);
        for (guint i = 0; i < 20; i++)
            assert_chain(world, chain, round, (guint)g_rand_int_range(world->random, 0, (gint)world->trees[round]->len),
                         3);
    }
    world_free(world);
}

static void test_chain(void **state)
{
    try_chain(NULL);
}

static void test_chain_encrypted(void **state)
{
    try_chain(KEY);
}

static void test_differential(void **state)
{
    World *world = world_new(NULL, TRUE);
    g_autofree char *base = base_of(world, 1);
    g_autoptr(Chain) chain = chain_open(&world->place, base, NULL, NULL, NULL);
    assert_int_equal(chain_length(chain), 2);
    assert_chain(world, chain, 1, 0, G_MAXINT);
    world_free(world);
}

static void assert_broken(World *world, guint round, BackappError code, const char *named)
{
    g_autofree char *base = base_of(world, round);
    g_autoptr(GError) error = NULL;
    gboolean broken = FALSE;
    assert_null(chain_open(&world->place, base, NULL, &broken, &error));
    assert_true(broken);
    if (!error_is(error, code) || !strstr(error->message, named))
        fail_msg("%s", error->message);
}

static void test_broken(void **state)
{
    World *world = world_new(NULL, FALSE);
    g_autofree char *third = base_of(world, 3);
    /* A parent that was made again is another one. */
    g_autoptr(GPtrArray) empty = g_ptr_array_new();
    g_autoptr(ArchivePoint) other = scene_write(&world->place, third, empty, world->points[2], world->random, NULL);
    assert_non_null(other);
    assert_broken(world, 5, BACKAPP_ERROR_CORRUPT, third);
    g_autofree char *key = archive_index_key("photos", third);
    assert_true(store_delete(world->store, key, NULL, NULL));
    assert_broken(world, 5, BACKAPP_ERROR_NOT_FOUND, third);
    g_autofree char *second = base_of(world, 2);
    g_autoptr(Chain) chain = chain_open(&world->place, second, NULL, NULL, NULL);
    assert_non_null(chain);
    world_free(world);
}

static void put(Store *store, const char *key)
{
    StoreBody body = {.data = "", .length = 0};
    assert_true(store_put(store, key, &body, NULL, NULL, NULL));
}

static void test_choose(void **state)
{
    static const struct {
        const char *at, *want;
        BackappError code;
    } ways[] = {
        {NULL, "2026-11-20T020000Z-incremental.tar", 0},
        {"latest", "2026-11-20T020000Z-incremental.tar", 0},
        {"2026-11-01T020000Z-full.tar.gz", "2026-11-01T020000Z-full.tar.gz", 0},
        {"2026-11-01T020000Z-full.tar", "2026-11-01T020000Z-full.tar", 0},
        {"2026-11-01T020000Z-full.tar.g", "2026-11-01T020000Z-full.tar.gz", 0},
        {"2026-11-01T020000Z-full.t", NULL, BACKAPP_ERROR_INVALID},
        {"2026-11-20T", "2026-11-20T020000Z-incremental.tar", 0},
        {"2026-11-20", "2026-11-20T020000Z-incremental.tar", 0},
        {"2026-11-14", "2026-11-10T020000Z-incremental.tar.gz", 0},
        /* Half past midnight of the next day, here. */
        {"2026-11-15", "2026-11-10T020000Z-incremental.tar.gz", 0},
        {"2026-11-16", "2026-11-15T233000Z-incremental.tar.gz", 0},
        {"2026-11-10", "2026-11-10T020000Z-incremental.tar.gz", 0},
        {"2026-11-10T02:00:00Z", "2026-11-10T020000Z-incremental.tar.gz", 0},
        {"2026-11-10T02:00:00+01:00", "2026-11-01T020000Z-full.tar", 0},
        {"2026-11-10T020001Z", "2026-11-10T020000Z-incremental.tar.gz", 0},
        {"2026-11-10T020000Z", "2026-11-10T020000Z-incremental.tar.gz", 0},
        {"2026-11-10T015959Z", "2026-11-01T020000Z-full.tar", 0},
        {"2026-11-01T020000Z", "2026-11-01T020000Z-full.tar", 0},
        {"2026-11-01T01:59:59Z", NULL, BACKAPP_ERROR_NOT_FOUND},
        {"2025-01-01", NULL, BACKAPP_ERROR_NOT_FOUND},
        {"yesterday", NULL, BACKAPP_ERROR_NOT_FOUND},
        {"", NULL, BACKAPP_ERROR_NOT_FOUND},
        /* Unfinished, or without its index. */
        {"2026-11-25T020000Z-full.tar", NULL, BACKAPP_ERROR_NOT_FOUND},
        {"2026-11-26", "2026-11-20T020000Z-incremental.tar", 0},
    };
    g_autoptr(Store) store = store_memory_new();
    ArchivePlace place = {.store = store, .name = "photos"};
    g_autoptr(GError) error = NULL;
    assert_null(chain_choose(&place, NULL, NULL, &error));
    assert_true(error_is(error, BACKAPP_ERROR_NOT_FOUND) && strstr(error->message, "photos"));
    put(store, "photos/" FULL ".index");
    put(store, "photos/2026-11-01T020000Z-full.tar.index");
    put(store, "photos/2026-11-10T020000Z-incremental.tar.gz.index");
    put(store, "photos/2026-11-15T233000Z-incremental.tar.gz.index");
    put(store, "photos/2026-11-20T020000Z-incremental.tar.index");
    put(store, "photos/2026-11-25T020000Z-full.tar");
    for (guint i = 0; i < G_N_ELEMENTS(ways); i++) {
        g_clear_error(&error);
        g_autofree char *got = chain_choose(&place, ways[i].at, NULL, &error);
        if (g_strcmp0(got, ways[i].want) != 0 || (!got && !error_is(error, ways[i].code)))
            fail_msg("%s: %s", ways[i].at ? ways[i].at : "(nothing)", got ? got : error->message);
    }
    g_clear_error(&error);
    assert_null(chain_choose(&place, "2025-01-01", NULL, &error));
    assert_non_null(strstr(error->message, "2026-11-20T020000Z-incremental.tar"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain),  cmocka_unit_test(test_chain_encrypted), cmocka_unit_test(test_differential),
        cmocka_unit_test(test_broken), cmocka_unit_test(test_choose),
    };
    (void)g_setenv("TZ", "Europe/Vienna", TRUE);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
