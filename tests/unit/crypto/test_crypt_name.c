#include "vectors.h"

#include "base/error.h"
#include "crypto/crypt_name.h"

static CryptName *new_names(guint8 first)
{
    guint8 key[SIV_KEY_BYTES];
    for (guint8 i = 0; i < SIV_KEY_BYTES; i++)
        key[i] = i;
    key[0] = first;
    return crypt_name_new(key);
}

/* What a program of its own gives for these paths (AES-SIV by hand from AES-CMAC and AES-CTR). */
static void test_known_answers(void **state)
{
    static const char *const cases[][2] = {
        {"", ""},
        {"a", "o600cionfreln08o3sedg6jb4d0g"},
        {"photos/2024/caf\xc3\xa9.jpg", "momqpqno5t7feqm2fk310g1ua641l3iaift0/8t6ohro7ebpjooooobng9rb7tk824r7l/"
                                        "6d5vm78se7qgglbta1iufms6sqqe8dhrnlf4dr5l"},
        {"\xff\xfe\n/.hidden", "fs6d2un66p0hqvcb328580sdc8og4d0/0b4dkpa5p2e72t5h91q6naaojnfk971tgkcpu"},
    };
    g_autoptr(CryptName) names = new_names(0);
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *encrypted = crypt_name_encrypt(names, cases[i][0], 0, 0, NULL);
        assert_string_equal(encrypted, cases[i][1]);
        g_autofree char *plain = crypt_name_decrypt(names, encrypted, NULL);
        assert_string_equal(plain, cases[i][0]);
    }
}

/* Names of every length come back, alone and below a folder, and have the length that was promised. */
static void test_lengths(void **state)
{
    g_autoptr(CryptName) names = new_names(0);
    for (gsize length = 1; length <= 300; length++) {
        g_autofree guint8 *bytes = patterned(length);
        for (gsize i = 0; i < length; i++)
            bytes[i] = bytes[i] == '/' || bytes[i] == 0 || bytes[i] == '.' ? 'x' : bytes[i];
        bytes[length] = 0;
        const char *name = (const char *)bytes;
        g_autofree char *encrypted = crypt_name_encrypt_segment(names, "", name, NULL);
        assert_int_equal(strlen(encrypted), crypt_name_length(length));
        assert_int_equal(strspn(encrypted, "0123456789abcdefghijklmnopqrstuv"), strlen(encrypted));
        g_autofree char *plain = crypt_name_decrypt_segment(names, "", encrypted, NULL);
        assert_string_equal(plain, name);
        g_autofree char *below = crypt_name_encrypt_segment(names, encrypted, name, NULL);
        assert_string_not_equal(below, encrypted);
        g_autofree char *path = g_strconcat(name, "/", name, NULL);
        g_autofree char *whole = crypt_name_encrypt(names, path, 0, 0, NULL);
        g_autofree char *joined = g_strconcat(encrypted, "/", below, NULL);
        assert_string_equal(whole, joined);
        g_autofree char *back = crypt_name_decrypt(names, whole, NULL);
        assert_string_equal(back, path);
    }
}

/* What is encoded sorts as the bytes do: digits before letters, and a slash before both. */
static void test_order(void **state)
{
    g_autoptr(CryptName) names = new_names(0);
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(g_free);
    for (int i = 0; i < 200; i++) {
        g_autofree char *name = g_strdup_printf("file %03d", i);
        g_ptr_array_add(all, crypt_name_encrypt_segment(names, "", name, NULL));
    }
    for (guint i = 0; i < all->len; i++)
        for (guint j = 0; j < all->len; j++) {
            const char *one = g_ptr_array_index(all, i);
            const char *two = g_ptr_array_index(all, j);
            /* The first eight digits of each are its first five bytes. */
            guint64 bytes[2] = {0, 0};
            for (int k = 0; k < 8; k++) {
                bytes[0] = bytes[0] << 5 | (guint64)(one[k] <= '9' ? one[k] - '0' : one[k] - 'a' + 10);
                bytes[1] = bytes[1] << 5 | (guint64)(two[k] <= '9' ? two[k] - '0' : two[k] - 'a' + 10);
            }
            if (bytes[0] != bytes[1])
                assert_int_equal(bytes[0] < bytes[1], strcmp(one, two) < 0);
        }
}

static void test_limits(void **state)
{
    g_autoptr(CryptName) names = new_names(0);
    g_autoptr(GError) error = NULL;
    assert_int_equal(crypt_name_length(143), CRYPT_NAME_FILE_LIMIT);
    g_autofree char *fits = g_strnfill(143, 'x');
    g_autofree char *over = g_strnfill(144, 'x');
    g_autofree char *encrypted = crypt_name_encrypt(names, fits, CRYPT_NAME_FILE_LIMIT, 0, NULL);
    assert_true(g_str_has_prefix(encrypted, "dphj3mueb6thcruikc0kd5qihrpvb8sop01qt3gtf55q"));
    assert_null(crypt_name_encrypt(names, over, CRYPT_NAME_FILE_LIMIT, 0, &error));
    assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    assert_non_null(strstr(error->message, over));
    assert_non_null(strstr(error->message, "256"));
    g_clear_error(&error);
    /* Four of them and their slashes are 1,023 bytes; a fifth is over a key's limit, and none of them over a file's. */
    g_autofree char *four = g_strjoin("/", fits, fits, fits, fits, NULL);
    g_autofree char *five = g_strjoin("/", four, "x", NULL);
    g_autofree char *key = crypt_name_encrypt(names, four, CRYPT_NAME_FILE_LIMIT, CRYPT_NAME_KEY_LIMIT, NULL);
    assert_int_equal(strlen(key), 1023);
    g_autofree char *exact = crypt_name_encrypt(names, four, 255, 1023, NULL);
    assert_string_equal(exact, key);
    assert_null(crypt_name_encrypt(names, four, 255, 1022, NULL));
    assert_null(crypt_name_encrypt(names, five, CRYPT_NAME_FILE_LIMIT, CRYPT_NAME_KEY_LIMIT, &error));
    assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    g_clear_error(&error);
    g_autofree char *longest = g_strnfill(CRYPT_NAME_MAX, 'x');
    g_autofree char *longer = g_strnfill(CRYPT_NAME_MAX + 1, 'x');
    g_autofree char *sealed = crypt_name_encrypt_segment(names, "", longest, NULL);
    g_autofree char *back = crypt_name_decrypt_segment(names, "", sealed, NULL);
    assert_string_equal(back, longest);
    assert_null(crypt_name_encrypt_segment(names, "", longer, &error));
    assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    g_clear_error(&error);
    g_autofree char *folder = g_strnfill(CRYPT_NAME_PATH_MAX + 1, 'a');
    assert_null(crypt_name_encrypt_segment(names, folder, "x", &error));
    assert_true(error_is(error, BACKAPP_ERROR_INVALID));
}

static void test_refused_names(void **state)
{
    g_autoptr(CryptName) names = new_names(0);
    static const char *const paths[] = {"/", "/a", "a/", "a//b", ".", "..", "a/./b", "a/.."};
    for (gsize i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(crypt_name_encrypt(names, paths[i], 0, 0, &error));
        assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    }
    static const char *const segments[] = {"", "a/b", "/", ".", ".."};
    for (gsize i = 0; i < G_N_ELEMENTS(segments); i++)
        assert_null(crypt_name_encrypt_segment(names, "", segments[i], NULL));
    g_autofree char *dots = crypt_name_encrypt(names, "...", 0, 0, NULL);
    assert_non_null(dots);
    crypt_name_free(NULL);
}

static void assert_damaged(CryptName *names, const char *folder, const char *encrypted)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *plain = crypt_name_decrypt_segment(names, folder, encrypted, &error);
    assert_null(plain);
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
}

static void test_damage(void **state)
{
    g_autoptr(CryptName) names = new_names(0);
    g_autoptr(CryptName) stranger = new_names(1);
    const char *folder = "o600cionfreln08o3sedg6jb4d0g";
    g_autofree char *good = crypt_name_encrypt_segment(names, folder, "names", NULL);
    gsize length = strlen(good); /* of 34 digits, the last of which has two bits that carry nothing */
    for (gsize i = 0; i < length; i++) {
        char kept = good[i];
        for (const char *other = "0123456789abcdefghijklmnopqrstuvwxyzAV=./ \xff"; *other; other++) {
            good[i] = *other;
            if (*other != kept)
                assert_damaged(names, folder, good);
        }
        good[i] = '\0';
        assert_damaged(names, folder, good);
        good[i] = kept;
    }
    g_autofree char *longer = g_strconcat(good, "0", NULL);
    g_autofree char *padded = g_strconcat(good, "======", NULL);
    g_autofree char *upper = g_ascii_strup(good, -1);
    g_autofree char *huge = g_strnfill(100000, '0');
    assert_damaged(names, folder, longer);
    assert_damaged(names, folder, padded);
    assert_damaged(names, folder, upper);
    assert_damaged(names, folder, huge);
    assert_damaged(names, "", good);
    assert_damaged(names, "o600cionfreln08o3sedg6jb4d0", good);
    assert_damaged(stranger, folder, good);
    g_autofree char *plain = crypt_name_decrypt_segment(names, folder, good, NULL);
    assert_string_equal(plain, "names");
    /* A path with a damaged folder, and one with an empty segment. */
    g_autofree char *path = g_strconcat("o600cionfreln08o3sedg6jb4d0h/", good, NULL);
    g_autofree char *doubled = g_strconcat(folder, "//", good, NULL);
    g_autofree char *open = g_strconcat(folder, "/", NULL);
    assert_null(crypt_name_decrypt(names, path, NULL));
    assert_null(crypt_name_decrypt(names, doubled, NULL));
    assert_null(crypt_name_decrypt(names, open, NULL));
}

/* Somebody with the key sealed what is no name: it must not come out as one. */
static void test_hostile_names(void **state)
{
    guint8 key[SIV_KEY_BYTES];
    for (guint8 i = 0; i < SIV_KEY_BYTES; i++)
        key[i] = i;
    g_autoptr(CryptName) names = crypt_name_new(key);
    g_autoptr(Siv) siv = siv_new(key, sizeof key);
    static const struct {
        const char *name;
        gsize length;
        gboolean good;
    } cases[] = {{"..", 2, FALSE},   {".", 1, FALSE},  {"../x", 4, FALSE}, {"/etc", 4, FALSE},
                 {"a\0b", 3, FALSE}, {"...", 3, TRUE}, {"..x", 3, TRUE},   {"plain", 5, TRUE}};
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        guint8 sealed[64];
        char text[128];
        siv_seal(siv, "/", 1, cases[i].name, cases[i].length, sealed);
        gsize bits = (cases[i].length + SIV_TAG_BYTES) * 8;
        gsize count = (bits + 4) / 5;
        for (gsize k = 0; k < count; k++) {
            guint value = 0;
            for (gsize bit = 5 * k; bit < 5 * k + 5; bit++)
                value = value << 1 | (bit < bits ? sealed[bit / 8] >> (7 - bit % 8) & 1U : 0);
            text[k] = "0123456789abcdefghijklmnopqrstuv"[value];
        }
        text[count] = '\0';
        g_autofree char *plain = crypt_name_decrypt_segment(names, "", text, NULL);
        assert_int_equal(plain != NULL, cases[i].good);
        if (plain)
            assert_string_equal(plain, cases[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers), cmocka_unit_test(test_lengths),       cmocka_unit_test(test_order),
        cmocka_unit_test(test_limits),        cmocka_unit_test(test_refused_names), cmocka_unit_test(test_damage),
        cmocka_unit_test(test_hostile_names),
    };
    return cmocka_run_group_tests_name("unit/crypto/crypt_name", tests, NULL, NULL);
}
