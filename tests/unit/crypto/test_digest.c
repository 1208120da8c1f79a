#include "vectors.h"

#include "base/error.h"

static void test_sha256(void **state)
{
    g_autofree char *abc = digest_sha256_hex("abc", 3);
    assert_string_equal(abc, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    g_autofree char *empty = digest_sha256_hex(NULL, 0);
    assert_string_equal(empty, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

/* The hashes of RFC 1321, A.5, in base64 as RFC 1864 has it. */
static void test_md5(void **state)
{
    static const char *const texts[][2] = {
        {"", "d41d8cd98f00b204e9800998ecf8427e"},
        {"a", "0cc175b9c0f1b6a831c399e269772661"},
        {"message digest", "f96b697d7cb7938d525a2f31aaf161d0"},
        {"12345678901234567890123456789012345678901234567890123456789012345678901234567890",
         "57edf4a22be3c955ac49da2e2107b67a"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GBytes) raw = from_hex(texts[i][1]);
        g_autofree char *expected = digest_base64(g_bytes_get_data(raw, NULL), HASH_MD5_BYTES);
        g_autofree char *actual = digest_md5_base64(texts[i][0], strlen(texts[i][0]), NULL);
        assert_non_null(actual);
        assert_string_equal(actual, expected);
    }
}

static void test_md5_in_pieces(void **state)
{
    g_autoptr(Hash) hash = hash_new_md5(NULL);
    guint8 out[HASH_BYTES];
    memset(out, 0xee, sizeof out);
    for (int round = 0; round < 2; round++) {
        hash_update(hash, "message", 7);
        hash_update(hash, " digest", 7);
        hash_finish(hash, out);
        assert_hex(out, HASH_MD5_BYTES, "f96b697d7cb7938d525a2f31aaf161d0");
        assert_int_equal(out[HASH_MD5_BYTES], 0xee);
    }
}

/* RFC 4231, cases 1 to 4 and 6. */
static void test_hmac(void **state)
{
    static const struct {
        const char *key, *data, *mac;
    } cases[] = {
        {"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "4869205468657265",
         "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
        {"4a656665", "7768617420646f2079612077616e7420666f72206e6f7468696e673f",
         "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
         "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd",
         "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
        {"0102030405060708090a0b0c0d0e0f10111213141516171819",
         "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
         "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
    };
    guint8 out[HASH_BYTES];
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GBytes) key = from_hex(cases[i].key);
        g_autoptr(GBytes) data = from_hex(cases[i].data);
        digest_hmac_sha256(g_bytes_get_data(key, NULL), g_bytes_get_size(key), g_bytes_get_data(data, NULL),
                           g_bytes_get_size(data), out);
        assert_hex(out, sizeof out, cases[i].mac);
    }
    guint8 long_key[131];
    memset(long_key, 0xaa, sizeof long_key);
    static const char data[] = "Test Using Larger Than Block-Size Key - Hash Key First";
    digest_hmac_sha256(long_key, sizeof long_key, data, strlen(data), out);
    assert_hex(out, sizeof out, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    digest_hmac_sha256(NULL, 0, NULL, 0, out);
    assert_hex(out, sizeof out, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

/* A chain as request signing has it: what one HMAC gave is the key of the next, in the same memory. */
static void test_hmac_in_place(void **state)
{
    guint8 chained[HASH_BYTES];
    guint8 once[HASH_BYTES];
    guint8 twice[HASH_BYTES];
    digest_hmac_sha256("key", 3, "one", 3, once);
    digest_hmac_sha256(once, sizeof once, "two", 3, twice);
    digest_hmac_sha256("key", 3, "one", 3, chained);
    digest_hmac_sha256(chained, sizeof chained, "two", 3, chained);
    assert_memory_equal(chained, twice, sizeof twice);
}

/* RFC 3720, B.4, and the check value of the CRC catalogues. */
static void test_crc32c_published(void **state)
{
    guint8 bytes[32] = {0};
    assert_int_equal(digest_crc32c(0, bytes, 32), 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(digest_crc32c(0, bytes, 32), 0x62a8ab43);
    for (guint8 i = 0; i < 32; i++)
        bytes[i] = i;
    assert_int_equal(digest_crc32c(0, bytes, 32), 0x46dd794e);
    for (guint8 i = 0; i < 32; i++)
        bytes[i] = (guint8)(31 - i);
    assert_int_equal(digest_crc32c(0, bytes, 32), 0x113fdb5c);
    assert_int_equal(digest_crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(digest_crc32c(0, NULL, 0), 0);
    g_autofree char *text = digest_crc32c_base64(0xe3069283);
    assert_string_equal(text, "4waSgw==");
}

/* Instruction and table agree, at every alignment and length, and pieces make no difference. */
static void test_crc32c_paths(void **state)
{
    g_autofree guint8 *bytes = patterned(4096);
    for (gsize start = 0; start < 9; start++)
        for (gsize length = 0; length < 70; length++) {
            guint32 whole = digest_crc32c(0x1234, bytes + start, length);
            assert_int_equal(whole, digest_crc32c_portable(0x1234, bytes + start, length));
            gsize cut = length / 3;
            guint32 half = digest_crc32c(0x1234, bytes + start, cut);
            assert_int_equal(whole, digest_crc32c_portable(half, bytes + start + cut, length - cut));
        }
    assert_int_equal(digest_crc32c(0, bytes, 4096), digest_crc32c_portable(0, bytes, 4096));
}

static void test_text_forms(void **state)
{
    guint8 bytes[4] = {0x00, 0x9f, 0xff, 0x10};
    g_autofree char *hex = digest_hex(bytes, 4);
    assert_string_equal(hex, "009fff10");
    g_autofree char *base64 = digest_base64(bytes, 4);
    assert_string_equal(base64, "AJ//EA==");
    g_autofree char *empty = digest_base64(bytes, 0);
    assert_string_equal(empty, "");
    guint8 back[4];
    assert_true(digest_parse_hex("009FfF10", back, 4));
    assert_memory_equal(back, bytes, 4);
    assert_false(digest_parse_hex("009fff1", back, 4));
    assert_false(digest_parse_hex("009fff100", back, 4));
    assert_false(digest_parse_hex("009fff1g", back, 4));
}

static void test_base64_has_one_form(void **state)
{
    guint8 bytes[40];
    for (gsize length = 0; length <= sizeof bytes; length++) {
        g_autofree guint8 *source = patterned(length);
        g_autofree char *text = digest_base64(source, length);
        assert_true(digest_parse_base64(text, bytes, length));
        assert_memory_equal(bytes, source, length);
        assert_false(digest_parse_base64(text, bytes, length + 1));
        assert_true(length == 0 || !digest_parse_base64(text, bytes, length - 1));
    }
    static const char *const wrong[] = {"AJ//EB==",  "AJ//EA=",   "AJ//EA",   "AJ//EA===", "AJ__EA==", "AJ//\nEA==",
                                        " AJ//EA==", "AJ//EA== ", "AJ//EAA=", "AJ//=A==",  "",         "===="};
    for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++) {
        memset(bytes, 0xee, 4);
        assert_false(digest_parse_base64(wrong[i], bytes, 4));
        assert_hex(bytes, 4, "00000000");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256),
        cmocka_unit_test(test_md5),
        cmocka_unit_test(test_md5_in_pieces),
        cmocka_unit_test(test_hmac),
        cmocka_unit_test(test_hmac_in_place),
        cmocka_unit_test(test_crc32c_published),
        cmocka_unit_test(test_crc32c_paths),
        cmocka_unit_test(test_text_forms),
        cmocka_unit_test(test_base64_has_one_form),
    };
    return cmocka_run_group_tests_name("unit/crypto/digest", tests, NULL, NULL);
}
