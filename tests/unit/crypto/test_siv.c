#include "vectors.h"

#include "crypto/siv.h"

typedef struct {
    const char *key, *associated, *plain, *sealed;
} Vector;

static void check_vector(const Vector *vector)
{
    g_autoptr(GBytes) key = from_hex(vector->key);
    g_autoptr(GBytes) associated = from_hex(vector->associated);
    g_autoptr(GBytes) plain = from_hex(vector->plain);
    gsize length = g_bytes_get_size(plain);
    g_autoptr(Siv) siv = siv_new(g_bytes_get_data(key, NULL), g_bytes_get_size(key));
    guint8 sealed[128];
    guint8 opened[128];
    /* Twice, since a context has to serve any number of names. */
    for (int round = 0; round < 2; round++) {
        siv_seal(siv, g_bytes_get_data(associated, NULL), g_bytes_get_size(associated), g_bytes_get_data(plain, NULL),
                 length, sealed);
        assert_hex(sealed, length + SIV_TAG_BYTES, vector->sealed);
        assert_true(siv_open(siv, g_bytes_get_data(associated, NULL), g_bytes_get_size(associated), sealed,
                             length + SIV_TAG_BYTES, opened));
        assert_memory_equal(opened, g_bytes_get_data(plain, NULL), length);
    }
}

/* RFC 5297, A.1, which is AES-128-SIV. */
static void test_rfc(void **state)
{
    static const Vector vector = {"fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
                                  "101112131415161718191a1b1c1d1e1f2021222324252627", "112233445566778899aabbccddee",
                                  "85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c"};
    check_vector(&vector);
}

/* AES-256-SIV: cases 302, 304, 305, 319, 320, 324, 326, 330 of aes_siv_cmac_test in Project Wycheproof. */
static void test_wycheproof(void **state)
{
    static const Vector vectors[] = {
        {"c25cafc6018b98dfbb79a40ec89c575a4f88c4116489bba27707479800c0130235334a45dbe8d8dae3da8dcb45bbe5dce031b0f68ded5"
         "44fda7eca30d6749442",
         "deeb0ccf3aef47a296ed1ca8f4ae5907", "beec61030fa3d670337196beade6aeaa",
         "5865208eab9163db85cab9f96d846234a2626aae22f5c17c9aad4b501f4416e4"},
        {"97bfd0f3e9bb8167bbb55f4cdc14529d8307c0ec2c3fe8bc88522d05c1261ba460c9cb4116f630edd74d413ec417324c6e29b566fb2dd"
         "3df18e07b53b1f9f83b",
         "1cda342c166ea208df5c56bcf995a59b",
         "48ef10ccb1978b53ae73167abe1cc538fa80da3f5df93e3d5c4e9a9ad1f213504f22a694b98a35ad67620af9d8a29fc7",
         "d55c5d0af0260dc1123adb5d7869201f8ccee46deb66dd695c593cde1d7645c72796e42a1733b6705753631b9b626991ddbd28473ce75"
         "cfdc4c14d20e66f212d"},
        {"e2c5662bb18fbb411d0304e4241db073fe60a4704fee290073513038a22b4cd542580b2b4edbc37e3de01c0cb61abcad46986cdc491ce"
         "9e5ae5af223ff58b953",
         "fab912dec29a34aabfaef176", "0d", "1c6969ecb15741a9959b7a8492250e391a"},
        {"2a93a0c37797bee0c344b9ceed1a609813d8c5ee686d260f3aa6fc2f66dc59f400479d1dfe04e89e6df608a3f699ff1cb4e9bf24a78fb"
         "2dfddaa0011a2e40208",
         "6ae54f41ac52baf2f89abe8e", "3fc3bf53bb485c9edcb1d25adb4ca0",
         "2d344a54038a857f47e0c77eb0834538aaf01e61a8ac82c0012f9dac6f15ef"},
        {"139383f3f82dc78e0b380027f9e5fcd2ed23716404be5c554452e4dc73d237026594491820c6b8297185cc1fa84f49a5c7d7cd05c5de0"
         "90ff1c3397bc2740437",
         "d39da73ffc03ad0a9213ffc7", "48604944a80fadf50d55b87727934458c8",
         "a9cf73951cb39823777f35c96c845169476e2ec2317cb6b8dd8b6172fdceabff9d"},
        {"72a76714e0171e8213de624f00e273bc900050e69d25c454cc42b61e8b3fbc92d4942e1ae14421e164046c1479a7b9c9f4b50b382cb62"
         "dfeaa210b98dec7d937",
         "6a8aaf2c84003e0e6f409658",
         "92d8f4dc7d41e8b180d66e8994022db79249cdc76fd7f3ea12d9925b51925250cd75a15fcfd78ea85c57fe6196f8d7545086f99ea796a"
         "0ea69170db9944200435d9d3d551943892400ce787f703c1105",
         "69f720f36b0da86ec8cc0f46d62835dcb35ac23f5b891152d861c4e0f0018f19d272ee8b12d83300bfd46aeec0124d5d23b3cb849c1ca"
         "b1fdf64b70947ebf79f5442e209076dfa9a3f36ab0a6d3cf4a75ddfcdc21837743b20885db4c803ac27"},
        {"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f3031323334353"
         "63738393a3b3c3d3e3f",
         "000102030405060708090a0b0c0d0e0f", "bfa1733d07afa03cb3f2eeb81bbde037",
         "000000000000000000000000000000004ce637d6ca9cdf1c2feb0d140865cddb"},
        {"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f3031323334353"
         "63738393a3b3c3d3e3f",
         "000102030405060708090a0b0c0d0e0f", "cd53e1763fbb8663afe74dc1bd443e52",
         "ffffffffffffffffffffffff7fffffff82b74728b73fc76c14b6bdb999625008"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(vectors); i++)
        check_vector(&vectors[i]);
}

static void test_every_bit_counts(void **state)
{
    g_autofree guint8 *key = patterned(SIV_KEY_BYTES);
    g_autoptr(Siv) siv = siv_new(key, SIV_KEY_BYTES);
    guint8 sealed[SIV_TAG_BYTES + 5];
    guint8 opened[5];
    guint8 same[sizeof sealed];
    siv_seal(siv, "/", 1, "plain", 5, sealed);
    siv_seal(siv, "/", 1, "plain", 5, same);
    assert_memory_equal(sealed, same, sizeof same);
    for (gsize bit = 0; bit < 8 * sizeof sealed; bit++) {
        memcpy(same, sealed, sizeof same);
        same[bit / 8] ^= (guint8)(1U << (bit % 8));
        memset(opened, 0xee, sizeof opened);
        assert_false(siv_open(siv, "/", 1, same, sizeof same, opened));
        assert_hex(opened, sizeof opened, "0000000000");
    }
    for (gsize length = 0; length < sizeof sealed; length++)
        assert_false(siv_open(siv, "/", 1, sealed, length, opened));
    assert_false(siv_open(siv, "/a", 2, sealed, sizeof sealed, opened));
    key[63] ^= 1;
    g_autoptr(Siv) other = siv_new(key, SIV_KEY_BYTES);
    assert_false(siv_open(other, "/", 1, sealed, sizeof sealed, opened));
    /* A refusal leaves the context usable. */
    assert_true(siv_open(siv, "/", 1, sealed, sizeof sealed, opened));
    assert_memory_equal(opened, "plain", 5);
    siv_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc),
        cmocka_unit_test(test_wycheproof),
        cmocka_unit_test(test_every_bit_counts),
    };
    return cmocka_run_group_tests_name("unit/crypto/siv", tests, NULL, NULL);
}
