#include "../fs/scratch.h"
#include "collector.h"

#include "engine/mirror/destination.h"

#include <jansson.h>
#include <sys/xattr.h>

#define OTHER_ID "3f2504e0-4f89-41d3-9a0c-0305e82c3301"

typedef struct {
    Destination *dest; /* NULL: not opened */
    gboolean refused;
    GError *error;
    guint notes;
} Outcome;

static void outcome_clear(Outcome *outcome)
{
    destination_close(outcome->dest);
    g_clear_error(&outcome->error);
    outcome->dest = NULL;
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Outcome, outcome_clear)

static char *path_in(const Scratch *scratch, const char *name)
{
    return g_build_filename(scratch->path, name, NULL);
}

static Outcome open_path(const char *path, const DestinationOptions *options)
{
    g_autoptr(Collector) collector = collector_new();
    const DestinationOptions none = {0};
    Outcome outcome = {0};
    gboolean good = destination_open(path, options != NULL ? options : &none, &collector->sink, &outcome.dest,
                                     &outcome.refused, &outcome.error);
    g_assert(good == (outcome.dest != NULL) && good == (outcome.error == NULL) && !(good && outcome.refused));
    outcome.notes = collector->warnings->len;
    return outcome;
}

static Outcome open_name(const Scratch *scratch, const char *name, const DestinationOptions *options)
{
    g_autofree char *path = path_in(scratch, name);
    return open_path(path, options);
}

static void assert_error(const Outcome *outcome, BackappError code)
{
    assert_null(outcome->dest);
    if (!error_is(outcome->error, code))
        fail_msg("%s (code %d)", outcome->error->message, outcome->error->code);
    assert_int_equal(outcome->refused, code == BACKAPP_ERROR_CONFLICT);
}

static void assert_opened(const Outcome *outcome)
{
    if (outcome->dest == NULL)
        fail_msg("%s", outcome->error->message);
}

/* Opens and closes; the id of what was opened. */
static char *open_once(const Scratch *scratch, const char *name)
{
    g_auto(Outcome) outcome = open_name(scratch, name, NULL);
    assert_opened(&outcome);
    return g_strdup(outcome.dest->id);
}

static guint names_in(const Scratch *scratch, const char *name)
{
    AutoFd fd = dir_open(scratch->fd, name, NULL);
    assert_true(fd >= 0);
    return count_names(fd);
}

static gboolean exists(const Scratch *scratch, const char *name)
{
    return faccessat(scratch->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void make_dir(const Scratch *scratch, const char *name)
{
    assert_true(dir_make_path(scratch->fd, name, 0755, NULL));
}

static const Scratch *interrupted; /* whose .backapp is being made; NULL: nothing is to come in between */
static char *id_between;

/* In place of the C library's: a whole run of another opener fits in here. */
int mkdirat(int fd, const char *path, mode_t mode)
{
    if (interrupted != NULL && g_str_equal(path, DESTINATION_STATE_DIR)) {
        const Scratch *scratch = interrupted;
        interrupted = NULL;
        id_between = open_once(scratch, "dest");
    }
    return (int)syscall(SYS_mkdirat, fd, path, mode);
}

/* ---- what is made ---- */

static void test_first_open_makes_state_and_marker(void **state)
{
    const Scratch *scratch = *state;
    make_dir(scratch, "dest");
    g_auto(Outcome) outcome = open_name(scratch, "dest", NULL);
    assert_opened(&outcome);
    g_autofree char *marker = path_in(scratch, "dest/" DESTINATION_MARKER);
    json_t *json = json_load_file(marker, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(json, "version")), 1);
    assert_string_equal(json_string_value(json_object_get(json, "id")), outcome.dest->id);
    g_autoptr(GDateTime) created =
        g_date_time_new_from_iso8601(json_string_value(json_object_get(json, "created")), NULL);
    assert_non_null(created);
    json_decref(json);
    assert_true(g_uuid_string_is_valid(outcome.dest->id));
    struct stat st;
    assert_int_equal(fstat(outcome.dest->state_fd, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(names_in(scratch, "dest"), 2);
    assert_int_equal(names_in(scratch, "dest/.backapp"), 1); /* the lock; the probe's folder is gone */
    assert_true(outcome.dest->abilities.mtime_granularity_ns >= 1);
    assert_int_equal(outcome.notes, 0);
}

static void test_the_id_stays(void **state)
{
    const Scratch *scratch = *state;
    g_autofree char *first = open_once(scratch, "dest");
    g_autofree char *second = open_once(scratch, "dest");
    assert_string_equal(first, second);
    DestinationOptions options = {.expected_id = first};
    g_auto(Outcome) outcome = open_name(scratch, "dest", &options);
    assert_opened(&outcome);
}

static void test_a_missing_directory_is_made_if_its_parent_is_there(void **state)
{
    const Scratch *scratch = *state;
    g_auto(Outcome) made = open_name(scratch, "dest//", NULL);
    assert_opened(&made);
    g_autofree char *real = realpath(scratch->path, NULL);
    g_autofree char *expected = g_build_filename(real, "dest", NULL);
    assert_string_equal(made.dest->path, expected);
    g_auto(Outcome) deep = open_name(scratch, "no/dest", NULL);
    assert_error(&deep, BACKAPP_ERROR_NOT_FOUND);
    g_auto(Outcome) dot = open_name(scratch, "no/.", NULL);
    assert_error(&dot, BACKAPP_ERROR_NOT_FOUND);
    assert_false(exists(scratch, "no"));
}

static void test_links_on_the_way_are_resolved(void **state)
{
    const Scratch *scratch = *state;
    make_dir(scratch, "real/dest");
    assert_int_equal(symlinkat("real", scratch->fd, "way"), 0);
    assert_int_equal(symlinkat("real/dest", scratch->fd, "link"), 0);
    g_autofree char *top = realpath(scratch->path, NULL);
    const char *const paths[][2] = {{"link", "real/dest"}, {"way/dest", "real/dest"}, {"way/new", "real/new"}};
    for (guint i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_auto(Outcome) outcome = open_name(scratch, paths[i][0], NULL);
        assert_opened(&outcome);
        g_autofree char *expected = g_build_filename(top, paths[i][1], NULL);
        assert_string_equal(outcome.dest->path, expected);
    }
}

/* A default ACL for user 1 and a set-group-id parent: neither gets into our folder. */
static void test_nothing_is_inherited(void **state)
{
    const Scratch *scratch = *state;
    static const guint8 acl[] = {2, 0, 0,   0,   0x01, 0,    7,    0, 255, 255, 255, 255, 0x02, 0,    7,
                                 0, 1, 0,   0,   0,    0x04, 0,    7, 0,   255, 255, 255, 255,  0x10, 0,
                                 7, 0, 255, 255, 255,  255,  0x20, 0, 5,   0,   255, 255, 255,  255};
    make_dir(scratch, "dest");
    AutoFd fd = dir_open(scratch->fd, "dest", NULL);
    if (fsetxattr(fd, "system.posix_acl_default", acl, sizeof acl, 0) != 0)
        skip();
    assert_true(geteuid() != 0 || fchown(fd, 0, 12345) == 0);
    assert_int_equal(fchmod(fd, 02777), 0);
    g_auto(Outcome) outcome = open_name(scratch, "dest", NULL);
    assert_opened(&outcome);
    struct stat st;
    assert_int_equal(fstat(outcome.dest->state_fd, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(st.st_gid, getegid());
    assert_int_equal(fgetxattr(outcome.dest->state_fd, "system.posix_acl_default", NULL, 0), -1);
    assert_int_equal(fgetxattr(outcome.dest->state_fd, "system.posix_acl_access", NULL, 0), -1);
}

/* ---- what is refused, and leaves nothing behind ---- */

static void test_no_directory_is_invalid(void **state)
{
    const Scratch *scratch = *state;
    put_file(scratch->fd, "file", "x", 1);
    assert_int_equal(mkfifoat(scratch->fd, "fifo", 0600), 0);
    g_auto(Outcome) empty = open_path("", NULL);
    assert_error(&empty, BACKAPP_ERROR_INVALID);
    g_auto(Outcome) file = open_name(scratch, "file", NULL);
    assert_error(&file, BACKAPP_ERROR_INVALID);
    g_auto(Outcome) fifo = open_name(scratch, "fifo", NULL);
    assert_error(&fifo, BACKAPP_ERROR_INVALID);
    g_auto(Outcome) below = open_name(scratch, "file/dest", NULL);
    assert_error(&below, BACKAPP_ERROR_INVALID);
    assert_int_equal(count_names(scratch->fd), 2);
}

static void test_a_link_to_nothing_is_not_made(void **state)
{
    const Scratch *scratch = *state;
    const DestinationOptions dry = {.dry_run = TRUE};
    assert_int_equal(symlinkat("absent", scratch->fd, "link"), 0);
    g_auto(Outcome) outcome = open_name(scratch, "link", NULL);
    assert_error(&outcome, BACKAPP_ERROR_NOT_FOUND);
    g_auto(Outcome) planned = open_name(scratch, "link", &dry);
    assert_error(&planned, BACKAPP_ERROR_NOT_FOUND);
    assert_false(exists(scratch, "absent"));
}

static void test_a_strange_state_directory_is_invalid(void **state)
{
    const Scratch *scratch = *state;
    make_dir(scratch, "elsewhere");
    for (guint kind = 0; kind < 4; kind++) {
        make_dir(scratch, "dest");
        AutoFd fd = dir_open(scratch->fd, "dest", NULL);
        if (kind == 0)
            put_file(fd, ".backapp", "x", 1);
        else if (kind == 1)
            assert_int_equal(symlinkat("../elsewhere", fd, ".backapp"), 0);
        else if (kind == 2)
            assert_int_equal(symlinkat("nothing", fd, ".backapp"), 0);
        else
            assert_int_equal(mkfifoat(fd, ".backapp", 0600), 0);
        for (guint how = 0; how < 3; how++) {
            const DestinationOptions options = {.dry_run = how == 1, .existing_only = how == 2};
            g_auto(Outcome) outcome = open_name(scratch, "dest", &options);
            assert_error(&outcome, BACKAPP_ERROR_INVALID);
        }
        assert_int_equal(count_names(fd), 1);
        assert_int_equal(names_in(scratch, "elsewhere"), 0);
        assert_true(remove_tree(scratch->fd, "dest", FALSE, NULL, NULL));
    }
}

static void test_a_strange_marker_is_invalid(void **state)
{
    const Scratch *scratch = *state;
    make_dir(scratch, "dest");
    AutoFd fd = dir_open(scratch->fd, "dest", NULL);
    const DestinationOptions force = {.force = TRUE};
    put_file(scratch->fd, "good", "{\"version\":1,\"id\":\"" OTHER_ID "\"}", 55);
    for (guint kind = 0; kind < 3; kind++) {
        if (kind == 0)
            assert_int_equal(symlinkat("../good", fd, DESTINATION_MARKER), 0);
        else if (kind == 1)
            assert_int_equal(mkfifoat(fd, DESTINATION_MARKER, 0600), 0);
        else
            assert_int_equal(mkdirat(fd, DESTINATION_MARKER, 0700), 0);
        g_auto(Outcome) outcome = open_name(scratch, "dest", NULL);
        assert_error(&outcome, BACKAPP_ERROR_INVALID);
        g_auto(Outcome) forced = open_name(scratch, "dest", &force);
        assert_error(&forced, BACKAPP_ERROR_INVALID);
        assert_int_equal(count_names(fd), 1);
        assert_int_equal(unlinkat(fd, DESTINATION_MARKER, kind == 2 ? AT_REMOVEDIR : 0), 0);
    }
}

static void test_a_damaged_marker_is_corrupt(void **state)
{
    const Scratch *scratch = *state;
    g_autofree char *large = g_strnfill(100000, ' ');
    const char *const contents[] = {
        "",
        "x",
        "[]",
        "{\"version\":1}",
        "{\"version\":1,\"id\":\"\"}",
        "{\"version\":1,\"id\":7}",
        ("{\"id\":\"" OTHER_ID "\"}"),
        "{\"version\":1,\"id\":\"a b\"}",
        "{\"version\":1,\"id\":\"a\\u001b[2J\"}",
        "{\"version\":1,\"id\":\"a\",\"id\":\"b\"}",
        "{\"version\":1,\"id\":\"0123456789012345678901234567890123456789012345678901234567890123456789\"}",
        large};
    make_dir(scratch, "dest");
    AutoFd fd = dir_open(scratch->fd, "dest", NULL);
    for (guint i = 0; i < G_N_ELEMENTS(contents); i++) {
        put_file(fd, DESTINATION_MARKER, contents[i], strlen(contents[i]));
        g_auto(Outcome) outcome = open_name(scratch, "dest", NULL);
        assert_error(&outcome, BACKAPP_ERROR_CORRUPT);
        assert_non_null(strstr(outcome.error->message, DESTINATION_MARKER));
        assert_int_equal(count_names(fd), 1);
    }
    const char *newer = "{\"version\":2,\"id\":\"" OTHER_ID "\"}";
    put_file(fd, DESTINATION_MARKER, newer, strlen(newer));
    g_auto(Outcome) outcome = open_name(scratch, "dest", NULL);
    assert_error(&outcome, BACKAPP_ERROR_INVALID);
}

static int child_denied(Scratch *scratch)
{
    const DestinationOptions dry = {.dry_run = TRUE};
    g_autofree char *path = path_in(scratch, "dest");
    g_autofree char *missing = path_in(scratch, "missing");
    CHECK(mkdirat(scratch->fd, "dest", 0755) == 0);
    CHECK(fchmodat(scratch->fd, "dest", geteuid() == 0 ? 0755 : 0555, 0) == 0);
    CHECK(fchmod(scratch->fd, geteuid() == 0 ? 0755 : 0555) == 0);
    CHECK(become_nobody());
    g_auto(Outcome) outcome = open_path(path, NULL);
    CHECK(error_is(outcome.error, BACKAPP_ERROR_DENIED) && !outcome.refused);
    CHECK(strstr(outcome.error->message, path) != NULL);
    g_auto(Outcome) unmade = open_path(missing, NULL);
    CHECK(error_is(unmade.error, BACKAPP_ERROR_DENIED));
    g_auto(Outcome) planned = open_path(path, &dry);
    CHECK(planned.dest != NULL && planned.dest->state_fd == -1);
    return 0;
}

static void test_an_unwritable_directory_is_denied(void **state)
{
    Scratch *scratch = *state;
    RUN_CHILD(child_denied, scratch);
    (void)fchmod(scratch->fd, 0700);
}

static int child_read_only(Scratch *scratch)
{
    const DestinationOptions dry = {.dry_run = TRUE};
    CHECK(mkdirat(scratch->fd, "dest", 0755) == 0);
    if (!mount_private_tmpfs(scratch, "dest", "size=1m"))
        return CHILD_SKIPS;
    g_autofree char *path = path_in(scratch, "dest");
    g_autofree char *missing = path_in(scratch, "dest/missing");
    CHECK(mount(NULL, path, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0);
    g_auto(Outcome) outcome = open_path(path, NULL);
    CHECK(error_is(outcome.error, BACKAPP_ERROR_DENIED) && strstr(outcome.error->message, "read-only") != NULL);
    g_auto(Outcome) unmade = open_path(missing, NULL);
    CHECK(error_is(unmade.error, BACKAPP_ERROR_DENIED) && strstr(unmade.error->message, "read-only") != NULL);
    g_auto(Outcome) planned = open_path(path, &dry);
    CHECK(planned.dest != NULL);
    return 0;
}

static void test_a_read_only_mount_is_denied(void **state)
{
    RUN_CHILD(child_read_only, *state);
}

/* ---- identity ---- */

static void test_an_expected_marker_that_is_missing(void **state)
{
    const Scratch *scratch = *state;
    const DestinationOptions expecting = {.expected_id = OTHER_ID};
    const DestinationOptions forced = {.expected_id = OTHER_ID, .force = TRUE};
    const DestinationOptions planned = {.expected_id = OTHER_ID, .dry_run = TRUE};
    g_auto(Outcome) missing = open_name(scratch, "dest", &expecting);
    assert_error(&missing, BACKAPP_ERROR_CONFLICT);
    assert_false(exists(scratch, "dest"));
    make_dir(scratch, "dest");
    g_auto(Outcome) empty = open_name(scratch, "dest", &expecting);
    assert_error(&empty, BACKAPP_ERROR_CONFLICT);
    assert_non_null(strstr(empty.error->message, "the drive is not mounted"));
    g_auto(Outcome) dry = open_name(scratch, "dest", &planned);
    assert_error(&dry, BACKAPP_ERROR_CONFLICT);
    assert_int_equal(names_in(scratch, "dest"), 0);
    g_auto(Outcome) anew = open_name(scratch, "dest", &forced);
    assert_opened(&anew);
    assert_string_not_equal(anew.dest->id, OTHER_ID);
}

static void test_another_id_is_refused_until_forced(void **state)
{
    const Scratch *scratch = *state;
    const DestinationOptions expecting = {.expected_id = OTHER_ID};
    const DestinationOptions forced = {.expected_id = OTHER_ID, .force = TRUE};
    g_autofree char *id = open_once(scratch, "dest");
    g_auto(Outcome) outcome = open_name(scratch, "dest", &expecting);
    assert_error(&outcome, BACKAPP_ERROR_CONFLICT);
    assert_non_null(strstr(outcome.error->message, id));
    assert_non_null(strstr(outcome.error->message, OTHER_ID));
    g_auto(Outcome) adopted = open_name(scratch, "dest", &forced);
    assert_opened(&adopted);
    assert_string_equal(adopted.dest->id, id);
}

/* Places for drives in a private /run, which is a file system of its own on every machine. */
static int child_run_media(Scratch *scratch)
{
    const DestinationOptions forced = {.force = TRUE};
    const DestinationOptions dry = {.dry_run = TRUE};
    g_autofree char *slash = g_strdup("/");
    Scratch root = {.path = slash, .fd = -1};
    if (!mount_private_tmpfs(&root, "run", "size=1m,mode=755"))
        return CHILD_SKIPS;
    CHECK(g_mkdir_with_parents("/run/media/user/DRIVE", 0755) == 0);
    CHECK(symlinkat("/run/media/user", scratch->fd, "link") == 0);
    g_autofree char *linked = path_in(scratch, "link/new");
    const char *const paths[] = {"/run/media/user/DRIVE", "/run/media/user/DRIVE/new", "/run/media/user/ABSENT",
                                 linked};
    for (guint i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_auto(Outcome) outcome = open_path(paths[i], NULL);
        CHECK(outcome.refused && error_is(outcome.error, BACKAPP_ERROR_CONFLICT));
        CHECK(strstr(outcome.error->message, "the drive is not mounted") != NULL);
        g_auto(Outcome) planned = open_path(paths[i], &dry);
        CHECK(planned.refused);
    }
    CHECK(rmdir("/run/media/user/DRIVE") == 0 && mkdir("/run/media/user/DRIVE", 0755) == 0);
    CHECK(access("/run/media/user/new", F_OK) != 0 && access("/run/media/user/ABSENT", F_OK) != 0);
    if (!mount_private_tmpfs(&root, "run/media/user/DRIVE", "size=1m"))
        return CHILD_SKIPS;
    g_auto(Outcome) mounted = open_path("/run/media/user/DRIVE/new", NULL);
    CHECK(mounted.dest != NULL);
    g_auto(Outcome) force = open_path("/run/media/user/FORCED", &forced);
    CHECK(force.dest != NULL);
    /* It has a marker now, so it is what was meant. */
    outcome_clear(&force);
    g_auto(Outcome) again = open_path("/run/media/user/FORCED", NULL);
    CHECK(again.dest != NULL);
    return 0;
}

static void test_a_place_for_drives_without_a_mount_is_refused(void **state)
{
    RUN_CHILD(child_run_media, *state);
}

static int child_fstab(Scratch *scratch)
{
    if (!mount_private_tmpfs(scratch, "", "size=1m"))
        return CHILD_SKIPS;
    CHECK(mkdirat(scratch->fd, "place", 0755) == 0 && mkdirat(scratch->fd, "beside", 0755) == 0);
    g_autofree char *place = path_in(scratch, "place");
    g_autofree char *below = path_in(scratch, "place/below");
    g_autofree char *beside = path_in(scratch, "beside");
    g_autofree char *fstab = path_in(scratch, "fstab");
    g_autofree char *text = g_strdup_printf("/dev/disk %s auto defaults 0 0\n", place);
    put_file(scratch->fd, "fstab", text, strlen(text));
    if (mount(fstab, "/etc/fstab", NULL, MS_BIND, NULL) != 0)
        return CHILD_SKIPS;
    g_auto(Outcome) itself = open_path(place, NULL);
    CHECK(itself.refused && strstr(itself.error->message, "the drive is not mounted") != NULL);
    g_auto(Outcome) inside = open_path(below, NULL);
    CHECK(inside.refused && access(below, F_OK) != 0);
    g_auto(Outcome) other = open_path(beside, NULL);
    CHECK(other.dest != NULL);
    if (!mount_private_tmpfs(scratch, "place", "size=1m"))
        return CHILD_SKIPS;
    g_auto(Outcome) mounted = open_path(below, NULL);
    CHECK(mounted.dest != NULL);
    return 0;
}

static void test_a_place_in_fstab_without_a_mount_is_refused(void **state)
{
    RUN_CHILD(child_fstab, *state);
}

static int child_state_elsewhere(Scratch *scratch)
{
    CHECK(dir_make_path(scratch->fd, "dest/.backapp", 0700, NULL));
    if (!mount_private_tmpfs(scratch, "dest/.backapp", "size=1m"))
        return CHILD_SKIPS;
    g_autofree char *path = path_in(scratch, "dest");
    g_auto(Outcome) outcome = open_path(path, NULL);
    CHECK(error_is(outcome.error, BACKAPP_ERROR_CONFLICT) && !outcome.refused);
    AutoFd fd = dir_open(scratch->fd, "dest/.backapp", NULL);
    CHECK(count_names(fd) == 0);
    return 0;
}

static void test_state_on_another_file_system_is_refused(void **state)
{
    RUN_CHILD(child_state_elsewhere, *state);
}

/* ---- dry runs, verify and recover ---- */

static void test_dry_run_writes_nothing(void **state)
{
    const Scratch *scratch = *state;
    const DestinationOptions dry = {.dry_run = TRUE};
    g_auto(Outcome) missing = open_name(scratch, "dest", &dry);
    assert_opened(&missing);
    assert_true(missing.dest->root_fd == -1 && missing.dest->state_fd == -1 && missing.dest->id == NULL);
    assert_true(missing.dest->abilities.symlinks && missing.dest->facts.type[0] != '\0');
    assert_int_equal(count_names(scratch->fd), 0);
    make_dir(scratch, "dest");
    g_auto(Outcome) empty = open_name(scratch, "dest", &dry);
    assert_opened(&empty);
    assert_true(empty.dest->root_fd >= 0 && empty.dest->state_fd == -1);
    assert_int_equal(names_in(scratch, "dest"), 0);
    g_autofree char *id = open_once(scratch, "dest");
    struct stat before;
    struct stat after;
    assert_int_equal(fstatat(scratch->fd, "dest/.backapp", &before, 0), 0);
    g_auto(Outcome) held = open_name(scratch, "dest", NULL);
    assert_opened(&held);
    outcome_clear(&held);
    assert_int_equal(fstatat(scratch->fd, "dest/.backapp", &before, 0), 0);
    g_auto(Outcome) known = open_name(scratch, "dest", &dry);
    assert_opened(&known);
    assert_string_equal(known.dest->id, id);
    assert_true(known.dest->state_fd >= 0);
    assert_int_equal(fstatat(scratch->fd, "dest/.backapp", &after, 0), 0);
    assert_memory_equal(&before.st_ctim, &after.st_ctim, sizeof before.st_ctim);
}

static void test_existing_only_makes_nothing(void **state)
{
    const Scratch *scratch = *state;
    const DestinationOptions existing = {.existing_only = TRUE};
    g_auto(Outcome) missing = open_name(scratch, "dest", &existing);
    assert_error(&missing, BACKAPP_ERROR_NOT_FOUND);
    assert_false(exists(scratch, "dest"));
    make_dir(scratch, "dest");
    g_auto(Outcome) bare = open_name(scratch, "dest", &existing);
    assert_error(&bare, BACKAPP_ERROR_NOT_FOUND);
    assert_int_equal(names_in(scratch, "dest"), 0);
    g_autofree char *id = open_once(scratch, "dest");
    g_auto(Outcome) mirror = open_name(scratch, "dest", &existing);
    assert_opened(&mirror);
    assert_string_equal(mirror.dest->id, id);
}

/* ---- several at once ---- */

static void test_an_open_destination_is_locked(void **state)
{
    const Scratch *scratch = *state;
    g_auto(Outcome) first = open_name(scratch, "dest", NULL);
    assert_opened(&first);
    g_auto(Outcome) second = open_name(scratch, "dest", NULL);
    assert_error(&second, BACKAPP_ERROR_LOCKED);
    outcome_clear(&first);
    g_auto(Outcome) third = open_name(scratch, "dest", NULL);
    assert_opened(&third);
    assert_int_equal(third.notes, 0);
}

/* Another first run comes in between the look at the marker and the lock. */
static void test_first_runs_at_once_agree_on_the_id(void **state)
{
    const Scratch *scratch = *state;
    make_dir(scratch, "dest");
    interrupted = scratch;
    g_auto(Outcome) outcome = open_name(scratch, "dest", NULL);
    assert_opened(&outcome);
    assert_null(interrupted);
    assert_non_null(id_between);
    assert_string_equal(outcome.dest->id, id_between);
    g_clear_pointer(&id_between, g_free);
}

/* What frees space on a full disk has to be able to begin. */
static int child_full(Scratch *scratch)
{
    static const char block[1024 * 1024];
    if (!mount_private_tmpfs(scratch, "", "size=256k"))
        return CHILD_SKIPS;
    g_autofree char *path = path_in(scratch, "dest");
    g_auto(Outcome) first = open_path(path, NULL);
    CHECK(first.dest != NULL);
    outcome_clear(&first);
    AutoFd fd = openat(scratch->fd, "filler", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(write(fd, block, sizeof block) > 0);
    g_auto(Outcome) full = open_path(path, NULL);
    CHECK(full.dest != NULL && full.notes == 1);
    CHECK(full.dest->abilities.symlinks && full.dest->abilities.mtime_granularity_ns == 1);
    g_autofree char *other = path_in(scratch, "other");
    g_auto(Outcome) unmarked = open_path(other, NULL);
    CHECK(error_is(unmarked.error, BACKAPP_ERROR_NO_SPACE));
    return 0;
}

static void test_a_full_disk_can_be_opened(void **state)
{
    RUN_CHILD(child_full, *state);
}

/* ---- state.json ---- */

static void test_sources_are_remembered(void **state)
{
    const Scratch *scratch = *state;
    g_auto(Outcome) outcome = open_name(scratch, "dest", NULL);
    assert_opened(&outcome);
    assert_null(destination_load_sources(outcome.dest));
    const char *const sources[] = {"/a/b", "/bytes \xff\xfe", "relative", "/a/./c/", NULL};
    assert_true(destination_save_state(outcome.dest, sources, NULL));
    g_auto(GStrv) loaded = destination_load_sources(outcome.dest);
    g_autofree char *relative = g_canonicalize_filename("relative", NULL);
    assert_non_null(loaded);
    assert_int_equal(g_strv_length(loaded), 4);
    assert_string_equal(loaded[0], "/a/b");
    assert_string_equal(loaded[1], "/bytes \xff\xfe");
    assert_string_equal(loaded[2], relative);
    assert_string_equal(loaded[3], "/a/c");
}

static void test_damaged_state_is_no_state(void **state)
{
    const Scratch *scratch = *state;
    g_auto(Outcome) outcome = open_name(scratch, "dest", NULL);
    assert_opened(&outcome);
    g_autofree char *large = g_strnfill(2 * 1024 * 1024, ' ');
    const char *const contents[] = {"",
                                    "x",
                                    "[]",
                                    "{\"sources\":7}",
                                    "{\"sources\":[1,{},[],null,{\"b64\":\"AGEA\"}]}",
                                    "{\"sources\":[{\"b64\":\"\"},{\"b64\":3}]}",
                                    large};
    for (guint i = 0; i < G_N_ELEMENTS(contents); i++) {
        put_file(outcome.dest->state_fd, "state.json", contents[i], strlen(contents[i]));
        assert_null(destination_load_sources(outcome.dest));
    }
    put_file(scratch->fd, "good", "{\"sources\":[\"/a\"]}", 18);
    assert_int_equal(unlinkat(outcome.dest->state_fd, "state.json", 0), 0);
    assert_int_equal(symlinkat("../../good", outcome.dest->state_fd, "state.json"), 0);
    assert_null(destination_load_sources(outcome.dest));
    const char *const sources[] = {"/b", NULL};
    assert_true(destination_save_state(outcome.dest, sources, NULL));
    g_auto(GStrv) loaded = destination_load_sources(outcome.dest);
    assert_string_equal(loaded[0], "/b");
    struct stat st;
    assert_int_equal(fstatat(scratch->fd, "good", &st, 0), 0);
    assert_int_equal(st.st_size, 18);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(test_first_open_makes_state_and_marker),
        SCRATCH_TEST(test_the_id_stays),
        SCRATCH_TEST(test_a_missing_directory_is_made_if_its_parent_is_there),
        SCRATCH_TEST(test_links_on_the_way_are_resolved),
        SCRATCH_TEST(test_nothing_is_inherited),
        SCRATCH_TEST(test_no_directory_is_invalid),
        SCRATCH_TEST(test_a_link_to_nothing_is_not_made),
        SCRATCH_TEST(test_a_strange_state_directory_is_invalid),
        SCRATCH_TEST(test_a_strange_marker_is_invalid),
        SCRATCH_TEST(test_a_damaged_marker_is_corrupt),
        SCRATCH_TEST(test_an_unwritable_directory_is_denied),
        SCRATCH_TEST(test_a_read_only_mount_is_denied),
        SCRATCH_TEST(test_an_expected_marker_that_is_missing),
        SCRATCH_TEST(test_another_id_is_refused_until_forced),
        SCRATCH_TEST(test_a_place_for_drives_without_a_mount_is_refused),
        SCRATCH_TEST(test_a_place_in_fstab_without_a_mount_is_refused),
        SCRATCH_TEST(test_state_on_another_file_system_is_refused),
        SCRATCH_TEST(test_dry_run_writes_nothing),
        SCRATCH_TEST(test_existing_only_makes_nothing),
        SCRATCH_TEST(test_an_open_destination_is_locked),
        SCRATCH_TEST(test_first_runs_at_once_agree_on_the_id),
        SCRATCH_TEST(test_a_full_disk_can_be_opened),
        SCRATCH_TEST(test_sources_are_remembered),
        SCRATCH_TEST(test_damaged_state_is_no_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
