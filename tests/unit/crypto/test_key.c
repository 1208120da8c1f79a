#include "vectors.h"

#include "base/error.h"
#include "crypto/key.h"
#include "crypto/siv.h"

static const KdfCost cheap = {.log2_n = 4, .r = 1, .p = 1};

/* A record that another implementation made (Python's hashlib and cryptography), of the key 00, 01, ..., 1f. */
static const char foreign[] = "{\n"
                              "  \"format\": \"backapp key\",\n"
                              "  \"version\": 1,\n"
                              "  \"kdf\": \"scrypt\",\n"
                              "  \"log2N\": 4,\n"
                              "  \"r\": 1,\n"
                              "  \"p\": 1,\n"
                              "  \"salt\": \"ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+f4CBgoM=\",\n"
                              "  \"nonce\": \"yMnKy8zNzs/Q0dLT\",\n"
                              "  \"key\": \"BooGsVP0/A1+qDBxEihSSMfOQhvbGDiKHW6QyYw9QF0mq9aSVgNXNKioB/L+RNXZ\",\n"
                              "  \"sum\": \"0fe4e7d5fb0f4831479feac077cd66157502c0f7aeecb7f1ab4937699e9029ab\"\n"
                              "}\n";

static Key *counting_key(void)
{
    return key_from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "test", NULL);
}

static void test_base64(void **state)
{
    g_autoptr(Key) key = counting_key();
    assert_non_null(key);
    assert_hex(key_bytes(key), KEY_BYTES, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
    g_autoptr(Key) spaced = key_from_base64(" \tAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\r\n", "test", NULL);
    assert_non_null(spaced);
    assert_memory_equal(key_bytes(spaced), key_bytes(key), KEY_BYTES);
    static const char *const wrong[] = {
        "",
        "=",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg==",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g",
        "AAECAwQFBgcICQoL DA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
    };
    for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(key_from_base64(wrong[i], "BACKUP_ENCRYPTION_KEY", &error));
        assert_true(error_is(error, BACKAPP_ERROR_INVALID));
        assert_non_null(strstr(error->message, "BACKUP_ENCRYPTION_KEY"));
        assert_null(strstr(error->message, "AAECAwQFBgcICQoL"));
    }
}

static void test_generate(void **state)
{
    g_autoptr(Key) one = key_generate();
    g_autoptr(Key) two = key_generate();
    assert_memory_not_equal(key_bytes(one), key_bytes(two), KEY_BYTES);
    key_free(NULL);
}

/* Known answers by Python's hmac: these bytes are part of the format. */
static void test_derived_keys(void **state)
{
    g_autoptr(Key) key = counting_key();
    guint8 out[SIV_KEY_BYTES];
    key_derive(key, KEY_FOR_CONTENT, out, KEY_BYTES);
    assert_hex(out, KEY_BYTES, "8a8f78e8a3ec7abf50393de285865ae223b2cc124d57e9b413988662048d0bc8");
    key_derive(key, KEY_FOR_NAMES, out, SIV_KEY_BYTES);
    assert_hex(out, SIV_KEY_BYTES,
               "c0cc48cece74e7714254d267705c683717edf0d3e098c30ec226ef1edb9e4363931ec46a35be31ef1fe59bd043430ee27af4e2a"
               "a275287e373303744446272eb");
}

static void test_wrap(void **state)
{
    g_autoptr(Key) key = key_generate();
    g_autofree char *record = key_wrap(key, "correct horse", &cheap, NULL);
    g_autofree char *again = key_wrap(key, "correct horse", &cheap, NULL);
    assert_non_null(record);
    assert_string_not_equal(record, again);
    g_autoptr(Key) back = key_unwrap(record, strlen(record), "correct horse", NULL);
    assert_non_null(back);
    assert_memory_equal(key_bytes(back), key_bytes(key), KEY_BYTES);
    static const char *const wrong[] = {"correct hors", "correct horse ", "Correct horse", "x"};
    for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(key_unwrap(record, strlen(record), wrong[i], &error));
        assert_true(error_is(error, BACKAPP_ERROR_DENIED));
        assert_string_equal(error->message, "wrong passphrase");
    }
}

static void test_default_cost(void **state)
{
    g_autoptr(Key) key = counting_key();
    g_autofree char *record = key_wrap(key, "p", NULL, NULL);
    assert_non_null(strstr(record, "\"log2N\": 15,\n  \"r\": 8,\n  \"p\": 3,"));
    g_autoptr(Key) back = key_unwrap(record, strlen(record), "p", NULL);
    assert_memory_equal(key_bytes(back), key_bytes(key), KEY_BYTES);
}

static void test_passphrase_limits(void **state)
{
    g_autoptr(Key) key = key_generate();
    g_autofree char *longest = g_strnfill(KEY_PASSPHRASE_MAX, 'p');
    g_autofree char *longer = g_strnfill(KEY_PASSPHRASE_MAX + 1, 'p');
    g_autofree char *record = key_wrap(key, longest, &cheap, NULL);
    assert_non_null(record);
    const char *const wrong[] = {"", longer};
    for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(key_wrap(key, wrong[i], &cheap, &error));
        assert_true(error_is(error, BACKAPP_ERROR_INVALID));
        g_clear_error(&error);
        assert_null(key_unwrap(record, strlen(record), wrong[i], &error));
        assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    }
    const KdfCost excessive = {.log2_n = 20, .r = 32, .p = 16};
    g_autoptr(GError) error = NULL;
    assert_null(key_wrap(key, "p", &excessive, &error));
    assert_true(error_is(error, BACKAPP_ERROR_INVALID));
}

/* The record with `from` replaced by `to`. */
static char *replaced(const char *record, const char *from, const char *to)
{
    g_auto(GStrv) parts = g_strsplit(record, from, -1);
    assert_int_equal(g_strv_length(parts), 2);
    return g_strjoinv(to, parts);
}

static void assert_unwrap_fails(const char *record, BackappError code)
{
    g_autoptr(GError) error = NULL;
    assert_null(key_unwrap(record, strlen(record), "naïve passphrase", &error));
    if (!error_is(error, code))
        fail_msg("%s instead of %s for %s", error->message, error_code_name(code), record);
}

static void test_foreign_record(void **state)
{
    g_autoptr(Key) key = counting_key();
    g_autoptr(Key) back = key_unwrap(foreign, strlen(foreign), "naïve passphrase", NULL);
    assert_non_null(back);
    assert_memory_equal(key_bytes(back), key_bytes(key), KEY_BYTES);
}

static void test_damaged_records(void **state)
{
    static const struct {
        const char *from, *to;
        BackappError code;
    } changes[] = {
        {"\"version\": 1", "\"version\": 2", BACKAPP_ERROR_INVALID},
        {"\"version\": 1", "\"version\": 0", BACKAPP_ERROR_CORRUPT},
        {"\"version\": 1", "\"version\": \"1\"", BACKAPP_ERROR_CORRUPT},
        {"backapp key", "backup key", BACKAPP_ERROR_CORRUPT},
        {"scrypt", "script", BACKAPP_ERROR_CORRUPT},
        {"\"log2N\": 4", "\"log2N\": 5", BACKAPP_ERROR_CORRUPT},
        {"\"log2N\": 4", "\"log2N\": -4", BACKAPP_ERROR_CORRUPT},
        {"\"log2N\": 4", "\"log2N\": 4294967300", BACKAPP_ERROR_CORRUPT},
        {"\"log2N\": 4", "\"log2N\": 4.0", BACKAPP_ERROR_CORRUPT},
        {"\"p\": 1", "\"p\": 1, \"p\": 1", BACKAPP_ERROR_CORRUPT},
        {"\"p\": 1", "\"p\": 1, \"q\": 1", BACKAPP_ERROR_CORRUPT},
        {"\"p\": 1,", "", BACKAPP_ERROR_CORRUPT},
        {"\"salt\": \"", "\"salt\": \"A", BACKAPP_ERROR_CORRUPT},
        {"}", "", BACKAPP_ERROR_CORRUPT},
        {"}", "} x", BACKAPP_ERROR_CORRUPT},
        {"{", "[{", BACKAPP_ERROR_CORRUPT},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(changes); i++) {
        g_autofree char *changed = replaced(foreign, changes[i].from, changes[i].to);
        assert_unwrap_fails(changed, changes[i].code);
    }
    /* Every character of the values, and every beginning. */
    char changed[sizeof foreign];
    for (gsize i = (gsize)(strstr(foreign, "\"salt\"") - foreign); foreign[i] != '\0'; i++) {
        memcpy(changed, foreign, sizeof foreign);
        changed[i] = changed[i] == 'b' ? 'c' : 'b';
        g_autoptr(GError) error = NULL;
        assert_true(g_ascii_isspace(foreign[i]) || !key_unwrap(changed, strlen(changed), "x", &error));
        assert_true(!error || error_is(error, BACKAPP_ERROR_CORRUPT));
    }
    for (gsize length = 0; length + 2 < strlen(foreign); length++) {
        g_autoptr(GError) error = NULL;
        assert_null(key_unwrap(foreign, length, "naïve passphrase", &error));
        assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    }
    g_autofree char *padding = g_strnfill(KEY_RECORD_MAX, ' ');
    g_autofree char *padded = g_strconcat(foreign, padding, NULL);
    assert_unwrap_fails(padded, BACKAPP_ERROR_CORRUPT);
}

/* A record whose sum is right and whose cost would take all memory. */
static void test_excessive_record(void **state)
{
    g_autoptr(GError) error = NULL;
    static const char excessive[] = "{\n"
                                    "  \"format\": \"backapp key\",\n"
                                    "  \"version\": 1,\n"
                                    "  \"kdf\": \"scrypt\",\n"
                                    "  \"log2N\": 20,\n"
                                    "  \"r\": 32,\n"
                                    "  \"p\": 16,\n"
                                    "  \"salt\": \"ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+f4CBgoM=\",\n"
                                    "  \"nonce\": \"yMnKy8zNzs/Q0dLT\",\n"
                                    "  \"key\": \"bis6Pd3nIF8Jh1j/WtQEXU1SCNojv7w/xu8h5xO6B+MxudQ2Cfl7TU7BgweOm53s\",\n"
                                    "  \"sum\": \"ee4230f52a86296dde2e35c5651466f6ddcd0677ebda232f19d9ecf76f5acca2\"\n"
                                    "}\n";
    assert_null(key_unwrap(excessive, strlen(excessive), "naïve passphrase", &error));
    assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    assert_non_null(strstr(error->message, "scrypt"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64),           cmocka_unit_test(test_generate),
        cmocka_unit_test(test_derived_keys),     cmocka_unit_test(test_wrap),
        cmocka_unit_test(test_default_cost),     cmocka_unit_test(test_passphrase_limits),
        cmocka_unit_test(test_foreign_record),   cmocka_unit_test(test_damaged_records),
        cmocka_unit_test(test_excessive_record),
    };
    return cmocka_run_group_tests_name("unit/crypto/key", tests, NULL, NULL);
}
