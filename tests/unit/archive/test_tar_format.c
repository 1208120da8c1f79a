#include "../base/cmocka_all.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "engine/archive/tar_format.h"

#define GIB (G_GUINT64_CONSTANT(1) << 30)

/* What a reader makes of headers: what the block says, and the records before it as "KEY=VALUE\n" without lengths. */
typedef struct {
    char name[101], prefix[156], link[101], user[33];
    char type, long_type;
    guint64 size, uid, mtime;
    GString *records;
    char *long_name; /* of GNU's own header */
    gsize length;    /* of it all */
} Seen;

static guint64 octal(const guint8 *field, gsize size)
{
    char text[16] = {0};
    memcpy(text, field, size);
    char *end;
    guint64 value = g_ascii_strtoull(text, &end, 8);
    assert_true(end == text + size - 1);
    return value;
}

static void check_sum(const guint8 *block)
{
    guint sum = 8 * ' ';
    for (guint i = 0; i < TAR_BLOCK; i++)
        sum += i < 148 || i >= 156 ? block[i] : 0;
    assert_int_equal(octal(block + 148, 7), sum);
    assert_memory_equal(block + 257,
                        "ustar\0"
                        "00",
                        8);
}

/* Each record's length is its own. */
static void read_records(const guint8 *data, gsize length, GString *records)
{
    for (gsize at = 0; at < length;) {
        char *end;
        gsize record = g_ascii_strtoull((const char *)data + at, &end, 10);
        gsize head = (gsize)((const guint8 *)end + 1 - (data + at));
        assert_true(*end == ' ' && record > head && at + record <= length && data[at + record - 1] == '\n');
        g_string_append_len(records, end + 1, (gssize)(record - head));
        at += record;
    }
}

static Seen read_headers(const guint8 *data, gsize length)
{
    Seen seen = {.records = g_string_new(NULL)};
    for (;; data += TAR_BLOCK) {
        assert_true(length >= seen.length + TAR_BLOCK);
        check_sum(data);
        seen.length += TAR_BLOCK;
        gsize size = octal(data + 124, 12), padded = size + tar_padding(size);
        if (data[156] == 'x')
            read_records(data + TAR_BLOCK, size, seen.records);
        else if (data[156] == 'L' || data[156] == 'K')
            seen.long_name = g_strdup((const char *)data + TAR_BLOCK);
        else
            break;
        if (data[156] != 'x')
            seen.long_type = (char)data[156];
        data += padded;
        seen.length += padded;
    }
    memcpy(seen.name, data, 100);
    memcpy(seen.link, data + 157, 100);
    memcpy(seen.user, data + 265, 32);
    memcpy(seen.prefix, data + 345, 155);
    seen.type = (char)data[156];
    seen.uid = octal(data + 108, 8);
    seen.size = octal(data + 124, 12);
    seen.mtime = octal(data + 136, 12);
    return seen;
}

static void seen_clear(Seen *seen)
{
    g_string_free(seen->records, TRUE);
    g_free(seen->long_name);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Seen, seen_clear)

static Seen put(const S3Entry *entry, const TarExtent *extents, guint count)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    /* What is there stays there. */
    g_byte_array_append(out, (const guint8 *)"before", 6);
    assert_true(tar_put_header(entry, extents, count, out, NULL));
    assert_memory_equal(out->data, "before", 6);
    Seen seen = read_headers(out->data + 6, out->len - 6);
    assert_int_equal(seen.length, out->len - 6);
    return seen;
}

static void test_plain_things_need_one_block(void **state)
{
    (void)state;
    S3Entry file = {
        .path = "dir/a", .meta = {.mode = S_IFREG | 0644, .size = 5, .uid = 1000, .mtime_s = 77}, .user = "u"};
    S3Entry root = {.path = "", .meta = {.mode = S_IFDIR | 0755, .size = 4096}};
    S3Entry dir = {.path = "dir", .meta = {.mode = S_IFDIR | 0755, .size = 4096}};
    S3Entry symlink = {.path = "s", .target = "../x", .meta = {.mode = S_IFLNK | 0777, .size = 4}};
    S3Entry link = {.path = "b", .link = "dir/a", .meta = file.meta};
    g_auto(Seen) a = put(&file, NULL, 0);
    assert_true(a.length == TAR_BLOCK && a.type == '0' && a.size == 5 && a.uid == 1000 && a.mtime == 77);
    assert_string_equal(a.user, "u");
    g_auto(Seen) b = put(&root, NULL, 0);
    assert_string_equal(b.name, "./");
    g_auto(Seen) c = put(&dir, NULL, 0);
    assert_string_equal(c.name, "dir/");
    assert_true(c.length == TAR_BLOCK && c.type == '5' && c.size == 0);
    g_auto(Seen) d = put(&symlink, NULL, 0);
    assert_true(d.type == '2' && d.size == 0);
    assert_string_equal(d.link, "../x");
    g_auto(Seen) e = put(&link, NULL, 0);
    assert_true(e.type == '1' && e.size == 0 && tar_content_size(&link, NULL, 0) == 0);
    assert_string_equal(e.link, "dir/a");
}

static void test_times(void **state)
{
    static const struct {
        gint64 s;
        guint32 ns;
        const char *record;
    } TIMES[] = {
        {0, 0, ""},
        {1, 5, "mtime=1.000000005\n"},
        {-1, 0, "mtime=-1\n"},
        {-1, 500000000, "mtime=-0.500000000\n"},
        {-2, 250000000, "mtime=-1.750000000\n"},
        {0xffffffffff, 1, "mtime=1099511627775.000000001\n"},
        {077777777777, 0, ""},
        {0100000000000, 0, "mtime=8589934592\n"},
        {G_MININT64, 0, "mtime=-9223372036854775808\n"},
    };
    (void)state;
    for (guint i = 0; i < G_N_ELEMENTS(TIMES); i++) {
        S3Entry entry = {.path = "a", .meta = {.mode = S_IFREG, .mtime_s = TIMES[i].s, .mtime_ns = TIMES[i].ns}};
        g_auto(Seen) seen = put(&entry, NULL, 0);
        assert_string_equal(seen.records->str, TIMES[i].record);
    }
}

static void test_large_numbers(void **state)
{
    (void)state;
    S3Entry entry = {.path = "a", .meta = {.mode = S_IFREG, .size = 8 * GIB, .uid = 2097152, .gid = G_MAXUINT32}};
    g_auto(Seen) seen = put(&entry, NULL, 0);
    assert_string_equal(seen.records->str, "uid=2097152\ngid=4294967295\nsize=8589934592\n");
    /* Whoever reads the block alone does not take it for root's. */
    assert_int_equal(seen.uid, 07777777);
    entry.meta.size--;
    entry.meta.uid--;
    entry.meta.gid = 0;
    g_auto(Seen) fits = put(&entry, NULL, 0);
    assert_true(fits.records->len == 0 && fits.size == 8 * GIB - 1 && fits.uid == 2097151);
}

/* first of the letter a, then a slash, then second of the letter b. */
static char *make_path(gsize first, gsize second, const char *end)
{
    g_autofree char *a = g_strnfill(first, 'a');
    g_autofree char *b = g_strnfill(second, 'b');
    return g_strconcat(a, "/", b, end, NULL);
}

static void test_long_names(void **state)
{
    static const struct {
        gsize first, second;
        gboolean fits;
    } LENGTHS[] = {{49, 50, TRUE},    {1, 100, TRUE},  {155, 100, TRUE}, {156, 100, FALSE},
                   {155, 101, FALSE}, {0, 101, FALSE}, {156, 1, FALSE},  {155, 1, TRUE}};
    (void)state;
    for (guint i = 0; i < G_N_ELEMENTS(LENGTHS); i++) {
        g_autofree char *path = make_path(LENGTHS[i].first, LENGTHS[i].second, "");
        S3Entry entry = {.path = path, .meta = {.mode = S_IFREG}};
        g_auto(Seen) seen = put(&entry, NULL, 0);
        g_autofree char *joined = g_strconcat(seen.prefix, seen.prefix[0] ? "/" : "", seen.name, NULL);
        g_autofree char *record = g_strdup_printf("path=%s\n", path);
        if (LENGTHS[i].fits)
            assert_string_equal(joined, path);
        assert_string_equal(seen.records->str, LENGTHS[i].fits ? "" : record);
        entry.path = "s";
        entry.target = path;
        entry.meta.mode = S_IFLNK;
        g_auto(Seen) symlink = put(&entry, NULL, 0);
        assert_int_equal(g_str_has_prefix(symlink.records->str, "linkpath=a"), strlen(path) > 100 && path[0] == 'a');
    }
}

static void test_names_of_users(void **state)
{
    (void)state;
    g_autofree char *name = g_strnfill(32, 'u');
    S3Entry entry = {.path = "a", .meta = {.mode = S_IFREG}, .user = name + 1, .group = name};
    g_auto(Seen) seen = put(&entry, NULL, 0);
    assert_string_equal(seen.user, name + 1);
    assert_string_equal(seen.records->str, "gname=uuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu\n");
}

/* Readers convert what a pax header says, so what is not ASCII keeps out of it. */
static void test_names_stay_bytes(void **state)
{
    static const char *const ENDS[] = {"e\xcc\x81", "\xff", "\xc3\xa9"};
    (void)state;
    for (guint i = 0; i < G_N_ELEMENTS(ENDS); i++) {
        S3Entry entry = {.path = ENDS[i], .user = ENDS[i], .meta = {.mode = S_IFREG}};
        g_auto(Seen) seen = put(&entry, NULL, 0);
        assert_int_equal(seen.length, TAR_BLOCK);
        assert_string_equal(seen.name, ENDS[i]);
        assert_string_equal(seen.user, ENDS[i]);
        g_autofree char *path = make_path(100, 200, ENDS[i]);
        entry.path = path;
        entry.user = path;
        g_auto(Seen) longer = put(&entry, NULL, 0);
        assert_true(longer.long_type == 'L' && longer.records->len == 0);
        assert_string_equal(longer.long_name, path);
        entry.path = "s";
        entry.target = path;
        entry.meta.mode = S_IFLNK;
        g_auto(Seen) symlink = put(&entry, NULL, 0);
        assert_true(symlink.long_type == 'K' && symlink.records->len == 0);
        assert_string_equal(symlink.long_name, path);
        static const TarExtent none;
        S3Entry sparse = {.path = path, .meta = {.mode = S_IFREG, .size = 7}};
        g_auto(Seen) hole = put(&sparse, &none, 0);
        assert_string_equal(hole.long_name, path);
        assert_null(strstr(hole.records->str, "GNU.sparse.name"));
    }
}

static void add_attr(GByteArray *attrs, const char *name, const void *value, gsize length)
{
    bytes_put_blob(attrs, name, strlen(name));
    bytes_put_blob(attrs, value, length);
}

static void test_attributes_and_acls(void **state)
{
    static const guint8 ACL[] = {2,   0,   0, 0, 1,   0,   7,   0,   255, 255, 255, 255, 2,   0,   5,   0,  0, 94,
                                 208, 178, 4, 0, 4,   0,   255, 255, 255, 255, 8,   0,   0,   0,   33,  0,  0, 0,
                                 16,  0,   5, 0, 255, 255, 255, 255, 32,  0,   1,   0,   255, 255, 255, 255};
    static const char TEXT[] = "user::rwx,user:3000000000:r-x,group::r--,group:33:---,mask::r-x,other::--x";
    (void)state;
    g_autoptr(GByteArray) attrs = g_byte_array_new();
    bytes_put_varint(attrs, 5);
    add_attr(attrs, "system.posix_acl_access", ACL, sizeof ACL);
    add_attr(attrs, "system.posix_acl_default", ACL, sizeof ACL);
    add_attr(attrs, "user.a=b%c", "\0\n=", 3);
    add_attr(attrs, "user.empty", "", 0);
    add_attr(attrs, "user.plain", "value", 5);
    S3Entry entry = {.path = "d", .meta = {.mode = S_IFDIR}, .attrs = attrs->data, .attrs_length = attrs->len};
    g_auto(Seen) seen = put(&entry, NULL, 0);
    g_autoptr(GString) wanted = g_string_new(NULL);
    g_string_append_printf(wanted, "SCHILY.acl.access=%s\nSCHILY.acl.default=%s\nSCHILY.xattr.user.a%%3Db%%25c=", TEXT,
                           TEXT);
    g_string_append_len(wanted, "\0\n=\n", 4);
    g_string_append(wanted, "SCHILY.xattr.user.empty=\nSCHILY.xattr.user.plain=value\n");
    assert_true(g_string_equal(seen.records, wanted));
    /* A further name has them by the first one. */
    entry.link = "e";
    entry.meta.mode = S_IFREG;
    g_auto(Seen) link = put(&entry, NULL, 0);
    assert_int_equal(link.records->len, 0);
}

/* Every length near the places where the number of its digits changes. */
static void test_record_lengths(void **state)
{
    (void)state;
    g_autofree char *value = g_strnfill(10100, 'v');
    for (gsize length = 1; length < 10100; length += length < 1100 || length > 9900 ? 1 : 97) {
        g_autoptr(GByteArray) attrs = g_byte_array_new();
        bytes_put_varint(attrs, 1);
        add_attr(attrs, "user.a", value, length);
        S3Entry entry = {.path = "a", .meta = {.mode = S_IFREG}, .attrs = attrs->data, .attrs_length = attrs->len};
        g_auto(Seen) seen = put(&entry, NULL, 0);
        assert_int_equal(seen.records->len, strlen("SCHILY.xattr.user.a=\n") + length);
    }
}

static void check_refused(const S3Entry *entry, const TarExtent *extents, guint count, BackappError code)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    g_byte_array_append(out, (const guint8 *)"x", 1);
    assert_false(tar_put_header(entry, extents, count, out, &error));
    assert_true(error_is(error, code));
    assert_int_equal(out->len, 1);
}

static void test_what_a_tar_cannot_hold(void **state)
{
    static const guint8 NO_ACL[] = {3, 0, 0, 0}, CUT_ACL[] = {2, 0, 0, 0, 1},
                        ODD_ACL[] = {2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0};
    static const struct {
        const guint8 *value;
        gsize length;
    } ACLS[] = {{NO_ACL, sizeof NO_ACL}, {CUT_ACL, sizeof CUT_ACL}, {ODD_ACL, sizeof ODD_ACL}, {ODD_ACL, 0}};
    (void)state;
    S3Entry socket = {.path = "s", .meta = {.mode = S_IFSOCK}};
    check_refused(&socket, NULL, 0, BACKAPP_ERROR_INVALID);
    socket.link = "t";
    check_refused(&socket, NULL, 0, BACKAPP_ERROR_INVALID);
    S3Entry sparse = {.path = "s", .meta = {.mode = S_IFREG, .size = GIB}};
    static const TarExtent none;
    check_refused(&sparse, &none, TAR_EXTENTS_MAX + 1, BACKAPP_ERROR_INVALID);
    g_autofree char *path = make_path(200, 200, "\xff");
    for (guint i = 0; i < G_N_ELEMENTS(ACLS); i++) {
        g_autoptr(GByteArray) attrs = g_byte_array_new();
        bytes_put_varint(attrs, 1);
        add_attr(attrs, "system.posix_acl_access", ACLS[i].value, ACLS[i].length);
        S3Entry entry = {.path = path, .meta = {.mode = S_IFREG}, .attrs = attrs->data, .attrs_length = attrs->len};
        check_refused(&entry, NULL, 0, BACKAPP_ERROR_CORRUPT);
        entry.attrs_length--;
        check_refused(&entry, NULL, 0, BACKAPP_ERROR_CORRUPT);
    }
}

static guint64 check_map(guint64 size, const TarExtent *extents, guint count)
{
    S3Entry entry = {.path = "a", .meta = {.mode = S_IFREG, .size = size}};
    g_autoptr(GByteArray) out = g_byte_array_new();
    tar_put_map(&entry, extents, count, out);
    assert_int_equal(out->len % TAR_BLOCK, 0);
    /* The header counts it. */
    g_auto(Seen) seen = put(&entry, extents, count);
    assert_int_equal(seen.size, out->len + tar_content_size(&entry, extents, count));
    gsize used;
    g_autoptr(GArray) back = g_array_new(FALSE, FALSE, sizeof(TarExtent));
    const TarExtent mark = {.offset = 99};
    g_array_append_val(back, mark);
    for (gsize cut = 0; cut < out->len; cut++) {
        g_autofree guint8 *part = g_memdup2(out->data, cut);
        assert_int_equal(tar_read_map(part, cut, size, back, &used, NULL), 0);
        assert_int_equal(back->len, 1);
    }
    assert_int_equal(tar_read_map(out->data, out->len, size, back, &used, NULL), 1);
    assert_int_equal(used, out->len);
    assert_int_equal(back->len, count + 1);
    if (count > 0)
        assert_memory_equal(&g_array_index(back, TarExtent, 1), extents, count * sizeof *extents);
    return out->len;
}

static void test_maps(void **state)
{
    static const TarExtent ALL[] = {{0, 100}}, ENDS[] = {{0, 1}, {GIB, 5}},
                           HUGE_ONES[] = {{1, 5}, {G_MAXUINT64 - 9, 9}};
    (void)state;
    (void)check_map(100, ALL, 1);
    (void)check_map(GIB + 5, ENDS, 2);
    (void)check_map(GIB + 6, ENDS, 2);
    (void)check_map(G_MAXUINT64, HUGE_ONES, 2);
    (void)check_map(GIB, ALL, 0);
    TarExtent comb[120];
    gboolean whole_block = FALSE;
    for (guint i = 0; i < G_N_ELEMENTS(comb); i++)
        comb[i] = (TarExtent){.offset = i * 8192, .length = 4096};
    for (guint count = 1; count <= G_N_ELEMENTS(comb); count += 7)
        whole_block |= check_map(GIB, comb, count) > TAR_BLOCK;
    assert_true(whole_block);
}

static void test_damaged_maps(void **state)
{
    static const char *const MAPS[] = {
        "x",
        "\n",
        "-1\n",
        "+1\n0\n1\n",
        "1 \n0\n1\n",
        "1\n\n",
        "102\n",
        "16777218\n",
        "1\n0\n101\n",
        "1\n101\n0\n",
        "1\n1\n100\n",
        "2\n5\n5\n9\n1\n",
        "2\n5\n5\n0\n1\n",
        "99999999999999999999\n",
        "00000000000000000000001\n",
        "1\n18446744073709551615\n2\n",
        "1\n50\n18446744073709551615\n",
        "1\n18446744073709551616\n0\n",
    };
    (void)state;
    for (guint i = 0; i < G_N_ELEMENTS(MAPS); i++) {
        guint8 block[TAR_BLOCK] = {0};
        memcpy(block, MAPS[i], strlen(MAPS[i]));
        g_autoptr(GArray) extents = g_array_new(FALSE, FALSE, sizeof(TarExtent));
        g_autoptr(GError) error = NULL;
        gsize used;
        assert_int_equal(tar_read_map(block, sizeof block, i == 7 ? G_MAXUINT64 : 100, extents, &used, &error), -1);
        assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
        assert_int_equal(extents->len, 0);
    }
}

static void test_sizes(void **state)
{
    static const TarExtent PIECES[] = {{5, 10}, {100, GIB}};
    (void)state;
    S3Entry entry = {.path = "a", .meta = {.mode = S_IFREG, .size = 3 * GIB}};
    assert_true(tar_content_size(&entry, NULL, 0) == 3 * GIB);
    assert_true(tar_content_size(&entry, PIECES, 2) == GIB + 10);
    assert_true(tar_content_size(&entry, PIECES, 0) == 0);
    entry.meta.mode = S_IFDIR;
    assert_true(tar_content_size(&entry, NULL, 0) == 0);
    assert_int_equal(tar_padding(0), 0);
    assert_int_equal(tar_padding(1), 511);
    assert_int_equal(tar_padding(512), 0);
    assert_int_equal(tar_padding(513 + 8 * GIB), 511);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_things_need_one_block),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_large_numbers),
        cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_names_of_users),
        cmocka_unit_test(test_names_stay_bytes),
        cmocka_unit_test(test_attributes_and_acls),
        cmocka_unit_test(test_record_lengths),
        cmocka_unit_test(test_what_a_tar_cannot_hold),
        cmocka_unit_test(test_maps),
        cmocka_unit_test(test_damaged_maps),
        cmocka_unit_test(test_sizes),
    };
    return cmocka_run_group_tests_name("archive/tar_format", tests, NULL, NULL);
}
