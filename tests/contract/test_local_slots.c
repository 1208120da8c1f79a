/* Parts of uploads to a directory that are written where they will lie. */
#include "../unit/fs/scratch.h"

#include "base/error.h"
#include "store/drivers.h"

#include <signal.h>

#define SIZE   70000
#define LAST   333
#define LENGTH (3 * SIZE + LAST)

typedef struct {
    Scratch *scratch;
    Store *store;
    char *upload;
    guint8 *data;
    StorePart parts[9]; /* by number - 1 */
} Scene;

static void scene_clear(Scene *scene)
{
    store_free(scene->store);
    g_free(scene->upload);
    g_free(scene->data);
    for (guint i = 0; i < G_N_ELEMENTS(scene->parts); i++)
        g_free(scene->parts[i].etag);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Scene, scene_clear)

static void begin(Scene *scene, Scratch *scratch)
{
    scene->scratch = scratch;
    scene->store = store_local_new(scratch->path, NULL);
    assert_non_null(scene->store);
    scene->upload = store_begin(scene->store, "k", NULL, NULL);
    assert_non_null(scene->upload);
    scene->data = g_malloc(LENGTH);
    g_autoptr(GRand) random = g_rand_new_with_seed(7);
    for (gsize i = 0; i < LENGTH; i++)
        scene->data[i] = (guint8)g_rand_int(random);
}

/* Sends a range of the data as a part, which takes the place of an earlier one. */
static void send_part(Scene *scene, guint number, gsize offset, gsize length)
{
    StorePart *part = &scene->parts[number - 1];
    StoreBody body = {.data = scene->data + offset, .length = length};
    g_autoptr(GError) error = NULL;
    g_clear_pointer(&part->etag, g_free);
    *part = (StorePart){.number = number, .size = length};
    if (!store_part(scene->store, "k", scene->upload, number, &body, &part->etag, &error))
        fail_msg("part %u: %s", number, error->message);
}

static void send_numbered(Scene *scene, guint number)
{
    send_part(scene, number, (number - 1) * (gsize)SIZE, number == 4 ? LAST : SIZE);
}

static void complete(Scene *scene, const StorePart *parts, guint count)
{
    g_autoptr(GError) error = NULL;
    if (!store_complete(scene->store, "k", scene->upload, parts, count, NULL, NULL, &error))
        fail_msg("complete: %s", error->message);
    g_auto(AutoFd) uploads = dir_open(scene->scratch->fd, ".backapp-store/uploads", NULL);
    assert_int_equal(count_names(uploads), 0);
}

static void assert_object(const Scene *scene, const guint8 *data, gsize length)
{
    g_autoptr(GBytes) bytes = store_get_bytes(scene->store, "k", NULL, LENGTH + 1, NULL, NULL);
    assert_non_null(bytes);
    assert_int_equal(g_bytes_get_size(bytes), length);
    assert_memory_equal(g_bytes_get_data(bytes, NULL), data, length);
}

/* The inode of the file of slots, or of the object; 0 if there is none. */
static ino_t slots_inode(const Scene *scene, guint size)
{
    struct stat st;
    g_autofree char *path = g_strdup_printf(".backapp-store/uploads/%s/data-%u", scene->upload, size);
    return fstatat(scene->scratch->fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_ino : 0;
}

static ino_t object_inode(const Scene *scene)
{
    struct stat st;
    return fstatat(scene->scratch->fd, "k", &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_ino : 0;
}

static void test_equal_parts_are_not_put_together(void **state)
{
    g_auto(Scene) scene = {0};
    begin(&scene, *state);
    static const guint order[] = {3, 1, 4, 2};
    for (guint i = 0; i < G_N_ELEMENTS(order); i++)
        send_numbered(&scene, order[i]);
    ino_t inode = slots_inode(&scene, SIZE);
    assert_true(inode != 0 && object_inode(&scene) == 0);
    g_autoptr(GArray) listed = store_list_parts(scene.store, "k", scene.upload, NULL);
    assert_int_equal(listed->len, 4);
    for (guint i = 0; i < 4; i++) {
        const StorePart *part = &g_array_index(listed, StorePart, i);
        assert_int_equal(part->number, i + 1);
        assert_int_equal(part->size, scene.parts[i].size);
        assert_string_equal(part->etag, scene.parts[i].etag);
    }
    complete(&scene, scene.parts, 4);
    assert_int_equal(object_inode(&scene), inode);
    assert_object(&scene, scene.data, LENGTH);
}

/* What does not lie as the object does: gaps, parts that are left out, other sizes, parts that were sent again. */
static void test_all_else_is_put_together(void **state)
{
    static const struct {
        guint sent[4];   /* numbers, in this order */
        gsize sizes[4];  /* 0: end */
        guint wanted[4]; /* numbers; 0: end */
    } cases[] = {
        {{1, 3}, {SIZE, SIZE}, {1, 3}},
        {{1, 2, 3}, {SIZE, SIZE, SIZE}, {1, 2}},
        {{1, 2, 3}, {SIZE, SIZE, SIZE}, {2, 3}},
        {{1, 2, 3}, {SIZE, LAST, SIZE}, {1, 2, 3}},
        {{4, 1, 2}, {LAST, SIZE, SIZE}, {1, 2, 4}},
        {{1, 2, 3}, {LAST, SIZE, LAST}, {1, 2, 3}},
        {{1, 2, 1}, {SIZE, SIZE, SIZE}, {1, 2}},
        {{1, 2, 2}, {SIZE, SIZE, LAST}, {1, 2}},
        {{1, 2, 3}, {SIZE, SIZE, 0}, {1, 2}},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_auto(Scene) scene = {0};
        g_autoptr(GByteArray) expected = g_byte_array_new();
        gsize offsets[4] = {0};
        guint count = 0;
        begin(&scene, *state);
        for (guint j = 0; j < 4 && cases[i].sizes[j] > 0; j++) {
            offsets[cases[i].sent[j] - 1] = j * 1000 + 1;
            send_part(&scene, cases[i].sent[j], j * 1000 + 1, cases[i].sizes[j]);
        }
        StorePart parts[4];
        for (; count < 4 && cases[i].wanted[count] > 0; count++) {
            guint number = cases[i].wanted[count];
            parts[count] = scene.parts[number - 1];
            g_byte_array_append(expected, scene.data + offsets[number - 1], (guint)parts[count].size);
        }
        complete(&scene, parts, count);
        assert_object(&scene, expected->data, expected->len);
    }
}

static void test_a_failed_completion_leaves_the_parts(void **state)
{
    g_auto(Scene) scene = {0};
    begin(&scene, *state);
    StoreBody old = {.data = "old", .length = 3};
    assert_true(store_put(scene.store, "k", &old, NULL, NULL, NULL));
    for (guint i = 1; i <= 4; i++)
        send_numbered(&scene, i);
    StorePut absent = {.if_absent = TRUE};
    g_autoptr(GError) error = NULL;
    assert_false(store_complete(scene.store, "k", scene.upload, scene.parts, 4, &absent, NULL, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CONFLICT));
    assert_object(&scene, (const guint8 *)"old", 3);
    ino_t inode = slots_inode(&scene, SIZE);
    complete(&scene, scene.parts, 4);
    assert_int_equal(object_inode(&scene), inode);
    assert_object(&scene, scene.data, LENGTH);
}

/* A part's bytes, which complete the upload before any is written, or end the process when half of them are. */
typedef struct {
    Scene *scene;
    guint completes; /* with so many parts; 0: kills */
} Trap;

static gssize give_with_trap(gpointer user_data, guint64 offset, void *buffer, gsize size, GError **error)
{
    Trap *trap = user_data;
    memset(buffer, 'x', size);
    if (offset > 0 && trap->completes == 0)
        (void)kill(getpid(), SIGKILL);
    if (offset == 0 && trap->completes > 0)
        complete(trap->scene, trap->scene->parts, trap->completes);
    return (gssize)size;
}

#define TRAP_BYTES 524288 /* more than one piece of a body */

static void test_who_still_writes_does_not_write_to_the_object(void **state)
{
    g_auto(Scene) scene = {0};
    begin(&scene, *state);
    g_free(scene.data);
    scene.data = g_malloc0(2 * TRAP_BYTES);
    send_part(&scene, 1, 0, TRAP_BYTES);
    send_part(&scene, 2, TRAP_BYTES, TRAP_BYTES);
    Trap trap = {&scene, 2};
    StoreBody body = {.length = TRAP_BYTES, .read = give_with_trap, .user_data = &trap};
    g_autofree char *etag = NULL;
    g_autoptr(GError) error = NULL;
    assert_false(store_part(scene.store, "k", scene.upload, 3, &body, &etag, &error));
    assert_true(error_is(error, BACKAPP_ERROR_NOT_FOUND));
    g_autoptr(GBytes) bytes = store_get_bytes(scene.store, "k", NULL, 3 * TRAP_BYTES, NULL, NULL);
    assert_int_equal(g_bytes_get_size(bytes), 2 * TRAP_BYTES);
    assert_memory_equal(g_bytes_get_data(bytes, NULL), scene.data, 2 * TRAP_BYTES);
}

static void test_a_killed_writer_leaves_no_part(void **state)
{
    g_auto(Scene) scene = {0};
    begin(&scene, *state);
    g_free(scene.data);
    scene.data = g_malloc0(3 * TRAP_BYTES);
    send_part(&scene, 1, 0, TRAP_BYTES);
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        (void)alarm(30);
        Trap trap = {&scene, 0};
        StoreBody body = {.length = TRAP_BYTES, .read = give_with_trap, .user_data = &trap};
        char *etag = NULL;
        (void)store_part(scene.store, "k", scene.upload, 3, &body, &etag, NULL);
        _exit(1);
    }
    int status = 0;
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
    g_autoptr(GArray) listed = store_list_parts(scene.store, "k", scene.upload, NULL);
    assert_int_equal(listed->len, 1);
    ino_t inode = slots_inode(&scene, TRAP_BYTES);
    send_part(&scene, 2, TRAP_BYTES, TRAP_BYTES);
    send_part(&scene, 3, 2 * TRAP_BYTES, TRAP_BYTES);
    complete(&scene, scene.parts, 3);
    assert_int_equal(object_inode(&scene), inode);
    g_autoptr(GBytes) bytes = store_get_bytes(scene.store, "k", NULL, 4 * TRAP_BYTES, NULL, NULL);
    assert_int_equal(g_bytes_get_size(bytes), 3 * TRAP_BYTES);
    assert_memory_equal(g_bytes_get_data(bytes, NULL), scene.data, 3 * TRAP_BYTES);
}

/* --- what was made durable, and when --- */

static int upload_fd = -1; /* watched */
static guint names_at_sync, data_syncs;

/* Takes the place of the C library's for the whole program. */
int fdatasync(int fildes) /* NOLINT: the name of the parameter in glibc is reserved */
{
    if (upload_fd >= 0) {
        names_at_sync = count_names(upload_fd);
        data_syncs++;
    }
    return (int)syscall(SYS_fdatasync, fildes);
}

static void test_a_part_is_durable_before_it_is_one(void **state)
{
    g_auto(Scene) scene = {0};
    begin(&scene, *state);
    g_autofree char *path = g_strconcat(".backapp-store/uploads/", scene.upload, NULL);
    g_auto(AutoFd) fd = dir_open(scene.scratch->fd, path, NULL);
    assert_true(fd >= 0);
    upload_fd = fd;
    send_numbered(&scene, 1);
    upload_fd = -1;
    assert_int_equal(data_syncs, 1);
    /* The upload's description and the file of slots. */
    assert_int_equal(names_at_sync, 2);
    assert_int_equal(count_names(fd), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(test_equal_parts_are_not_put_together),
        SCRATCH_TEST(test_all_else_is_put_together),
        SCRATCH_TEST(test_a_failed_completion_leaves_the_parts),
        SCRATCH_TEST(test_who_still_writes_does_not_write_to_the_object),
        SCRATCH_TEST(test_a_killed_writer_leaves_no_part),
        SCRATCH_TEST(test_a_part_is_durable_before_it_is_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
