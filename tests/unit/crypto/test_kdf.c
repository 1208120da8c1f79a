#include "vectors.h"

#include "base/error.h"
#include "crypto/kdf.h"
#include "crypto/secret.h"

/* RFC 5869, A.1 to A.4. */
static void test_hkdf(void **state)
{
    static const struct {
        const char *digest, *key, *salt, *info, *out;
    } cases[] = {
        {"SHA256", "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "000102030405060708090a0b0c", "f0f1f2f3f4f5f6f7f8f9",
         "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"},
        {"SHA256",
         "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435"
         "363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f",
         "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f808182838485868788898a8b8c8d8e8f909192939495"
         "969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaeaf",
         "b0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5"
         "e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
         "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f"
         "09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"},
        {"SHA256", "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "", "",
         "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"},
        {"SHA1", "0b0b0b0b0b0b0b0b0b0b0b", "000102030405060708090a0b0c", "f0f1f2f3f4f5f6f7f8f9",
         "085a01ea1b10f36933068b56efa5ad81a4f14b822f5b091568a9cdd4f155fda2c22e422478d305f3f896"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GBytes) key = from_hex(cases[i].key);
        g_autoptr(GBytes) salt = from_hex(cases[i].salt);
        g_autoptr(GBytes) info = from_hex(cases[i].info);
        guint8 out[82];
        gsize length = strlen(cases[i].out) / 2;
        kdf_hkdf(cases[i].digest, g_bytes_get_data(key, NULL), g_bytes_get_size(key), g_bytes_get_data(salt, NULL),
                 g_bytes_get_size(salt), g_bytes_get_data(info, NULL), g_bytes_get_size(info), out, length);
        assert_hex(out, length, cases[i].out);
    }
}

/* HKDF by hand from HMAC, for an info of the greatest length: T(1) = HMAC(HMAC(salt, key), info | 01). */
static void test_hkdf_longest_info(void **state)
{
    g_autofree guint8 *info = patterned(KDF_INFO_MAX + 1);
    info[KDF_INFO_MAX] = 1;
    guint8 extracted[HASH_BYTES];
    guint8 expected[HASH_BYTES];
    guint8 out[HASH_BYTES];
    digest_hmac_sha256("salt", 4, "key", 3, extracted);
    digest_hmac_sha256(extracted, sizeof extracted, info, KDF_INFO_MAX + 1, expected);
    kdf_hkdf_sha256((const guint8 *)"key", 3, (const guint8 *)"salt", 4, info, KDF_INFO_MAX, out, sizeof out);
    assert_memory_equal(out, expected, sizeof out);
}

/* RFC 7914, section 12 (the one that takes 1 GiB is left out). */
static void test_scrypt(void **state)
{
    static const struct {
        const char *passphrase, *salt;
        KdfCost cost;
        const char *out;
    } cases[] = {
        {"",
         "",
         {4, 1, 1},
         "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d"
         "3628cf35e20c38d18906"},
        {"password",
         "NaCl",
         {10, 8, 16},
         "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b3731622eaf30d92e22a3886ff109279d9830dac727afb94a83"
         "ee6d8360cbdfa2cc0640"},
        {"pleaseletmein",
         "SodiumChloride",
         {14, 8, 1},
         "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2d5432955613f0fcf62d49705242a9af9e61e85dc0d65"
         "1e40dfcf017b45575887"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        guint8 out[64];
        assert_true(kdf_scrypt(cases[i].passphrase, strlen(cases[i].passphrase), (const guint8 *)cases[i].salt,
                               strlen(cases[i].salt), &cases[i].cost, out, sizeof out, NULL));
        assert_hex(out, sizeof out, cases[i].out);
    }
}

static void test_scrypt_is_bounded(void **state)
{
    static const KdfCost wrong[] = {{0, 8, 1},   {21, 1, 1}, {63, 1, 1},  {64, 1, 1}, {99, 8, 1}, {15, 0, 1},
                                    {15, 33, 1}, {15, 8, 0}, {15, 8, 17}, {20, 8, 1}, {19, 5, 1}};
    guint8 out[32];
    for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GError) error = NULL;
        assert_false(kdf_cost_valid(&wrong[i]));
        assert_false(kdf_scrypt("p", 1, (const guint8 *)"s", 1, &wrong[i], out, sizeof out, &error));
        assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    }
    const KdfCost greatest[] = {{18, 8, 16}, {16, 32, 16}, {20, 2, 16}, {1, 1, 1}};
    for (gsize i = 0; i < G_N_ELEMENTS(greatest); i++)
        assert_true(kdf_cost_valid(&greatest[i]));
}

static void test_secret(void **state)
{
    guint8 a[64] = {0};
    guint8 b[64] = {0};
    static const guint8 zero[64];
    secret_random(a, sizeof a);
    secret_random(b, sizeof b);
    assert_memory_not_equal(a, zero, 16);
    assert_memory_not_equal(a + 48, zero, 16);
    assert_false(secret_equal(a, b, sizeof a));
    memcpy(b, a, sizeof a);
    assert_true(secret_equal(a, b, sizeof a));
    b[63] ^= 0x80;
    assert_false(secret_equal(a, b, sizeof a));
    assert_true(secret_equal(a, b, 63));
    assert_true(secret_equal(NULL, NULL, 0));
    guint8 *copy = secret_copy(a, sizeof a);
    assert_memory_equal(copy, a, sizeof a);
    secret_free(copy, sizeof a);
    secret_free(NULL, 5);
    secret_wipe(a, sizeof a);
    assert_memory_equal(a, zero, sizeof a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hkdf),   cmocka_unit_test(test_hkdf_longest_info),
        cmocka_unit_test(test_scrypt), cmocka_unit_test(test_scrypt_is_bounded),
        cmocka_unit_test(test_secret),
    };
    return cmocka_run_group_tests_name("unit/crypto/kdf", tests, NULL, NULL);
}
