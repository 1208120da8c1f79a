#include "vectors.h"

#include "base/error.h"
#include "crypto/tink_format.h"

/* Our format with segments of 72 bytes: 16 bytes of content in the first, 56 in the others. */
static const TinkFormat small = {"SHA256", 32, 32, 72};
#define SMALL_FIRST 16
#define SMALL_FULL  56

/* Salt and prefix are 40, 41, ..., the key 00, 01, ... */
static void fill_key_and_header(guint8 key[TINK_KEY_BYTES], guint8 header[TINK_HEADER_BYTES])
{
    for (guint8 i = 0; i < TINK_KEY_BYTES; i++)
        key[i] = i;
    header[0] = TINK_HEADER_BYTES;
    for (guint8 i = 1; i < TINK_HEADER_BYTES; i++)
        header[i] = (guint8)(0x3f + i);
}

static gboolean collect(const guint8 *data, gsize length, gpointer user, GError **error)
{
    g_byte_array_append(user, data, (guint)length);
    return TRUE;
}

static gboolean refuse(const guint8 *data, gsize length, gpointer user, GError **error)
{
    return error_set(error, BACKAPP_ERROR_NO_SPACE, "full");
}

/* The stream of content fed in pieces of `piece` bytes (0: all at once), with the header above. */
static GByteArray *encrypt_pieces(const TinkFormat *format, const char *associated, const guint8 *plain, gsize length,
                                  gsize piece)
{
    guint8 key[TINK_KEY_BYTES];
    guint8 header[TINK_HEADER_BYTES];
    fill_key_and_header(key, header);
    g_autoptr(TinkEncryptor) encryptor = tink_encryptor_new_format(format, key);
    GByteArray *out = g_byte_array_new();
    assert_true(tink_encryptor_begin_fixed(encryptor, associated, strlen(associated), header, NULL));
    for (gsize at = 0; at < length;) {
        gsize next = piece > 0 ? MIN(piece, length - at) : length;
        assert_true(tink_encryptor_update(encryptor, plain + at, next, collect, out, NULL));
        at += next;
    }
    assert_true(tink_encryptor_finish(encryptor, collect, out, NULL));
    return out;
}

/* The content of a stream fed in pieces, or NULL with the error. */
static GByteArray *decrypt_with(TinkDecryptor *decryptor, const char *associated, const guint8 *data, gsize length,
                                gsize piece, GError **error)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    assert_true(tink_decryptor_begin(decryptor, associated, strlen(associated), NULL));
    for (gsize at = 0; at < length;) {
        gsize next = piece > 0 ? MIN(piece, length - at) : length;
        if (!tink_decryptor_update(decryptor, data + at, next, collect, out, error))
            return NULL;
        at += next;
    }
    return tink_decryptor_finish(decryptor, collect, out, error) ? g_steal_pointer(&out) : NULL;
}

static TinkDecryptor *new_decryptor(const TinkFormat *format)
{
    guint8 key[TINK_KEY_BYTES];
    guint8 header[TINK_HEADER_BYTES];
    fill_key_and_header(key, header);
    return tink_decryptor_new_format(format, key);
}

/* Known answers of the Tink library: AesGcmHkdfStreamingTestUtil in tink-java, numbers 2, 5 and 7. Together they cover
 * each parameter of ours but the segment size. */
static void test_published(void **state)
{
    static const struct {
        TinkFormat format;
        const char *key, *associated, *plain, *stream;
    } cases[] = {
        {{"SHA256", 16, 16, 64},
         "6eb56cdc726dfbe5d57f2fcdc6e9345b",
         "",
         "",
         "18be78bce0cab6fd38a9041eea8ab0ffc4cf17e3c00b661d3927f5f79069f41a210fedc40b25648c"},
        {{"SHA1", 32, 32, 64},
         "00112233445566778899aabbccddeeff6eb56cdc726dfbe5d57f2fcdc6e9345b",
         "",
         "",
         "28fae780c70a82d1256c8303a1261ac6a98cf557b4e173967a62f3c149517ba5b2431da93b3c6e90f508b34dc14bfda59bab05681c6a"
         "d3fa"},
        {{"SHA1", 32, 32, 120},
         "00112233445566778899aabbccddeeff6eb56cdc726dfbe5d57f2fcdc6e9345b",
         "00010203",
         "424c4f434b20312e424c4f434b20322e424c4f434b20332e424c4f434b20342e"
         "424c4f434b20352e424c4f434b20362e424c4f434b20372e424c4f434b20382e",
         "28782994617714a80fa085e15051a16854522330d6d0f26c049b2192f09cdd98b2eb90c753bfff277a29e54fa4afb15d648c28477eb0"
         "7f012535c767f5fdce24ffffae318480c1d37357d6d3c511159318afa09ef38aa3f5456fd7817c5c02dd6e1a7fef174c8bd24e38b598"
         "2ac105497c0101ac5581fe5b"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GBytes) key = from_hex(cases[i].key);
        g_autoptr(GBytes) associated = from_hex(cases[i].associated);
        g_autoptr(GBytes) plain = from_hex(cases[i].plain);
        g_autoptr(GBytes) stream = from_hex(cases[i].stream);
        g_autoptr(TinkEncryptor) encryptor = tink_encryptor_new_format(&cases[i].format, g_bytes_get_data(key, NULL));
        g_autoptr(TinkDecryptor) decryptor = tink_decryptor_new_format(&cases[i].format, g_bytes_get_data(key, NULL));
        g_autoptr(GByteArray) out = g_byte_array_new();
        assert_true(tink_encryptor_begin_fixed(encryptor, g_bytes_get_data(associated, NULL),
                                               g_bytes_get_size(associated), g_bytes_get_data(stream, NULL), NULL));
        assert_true(tink_encryptor_update(encryptor, g_bytes_get_data(plain, NULL), g_bytes_get_size(plain), collect,
                                          out, NULL));
        assert_true(tink_encryptor_finish(encryptor, collect, out, NULL));
        assert_hex(out->data, out->len, cases[i].stream);
        g_byte_array_set_size(out, 0);
        assert_true(
            tink_decryptor_begin(decryptor, g_bytes_get_data(associated, NULL), g_bytes_get_size(associated), NULL));
        assert_true(tink_decryptor_update(decryptor, g_bytes_get_data(stream, NULL), g_bytes_get_size(stream), collect,
                                          out, NULL));
        assert_true(tink_decryptor_finish(decryptor, collect, out, NULL));
        assert_hex(out->data, out->len, cases[i].plain);
    }
}

/* Number 0 of the same, which has three segments. */
static void test_published_segments(void **state)
{
    static const TinkFormat format = {"SHA1", 16, 16, 64};
    static const char plain[] =
        "This is a fairly long plaintext. It is of the exact length to create three output blocks. ";
    g_autoptr(GBytes) key = from_hex("6eb56cdc726dfbe5d57f2fcdc6e9345b");
    g_autoptr(GBytes) stream =
        from_hex("1893b3af5e14ab378d065addfc8484da642c0862877baea8"
                 "db92d9c77406a406168478821c4298eab3e6d531277f4c1a051714faebcaefcbca7b7be05e9445ea"
                 "a0bb2904153398a25084dd80ae0edcd1c3079fcea2cd3770630ee36f7539207b8ec9d754956d486b71cdf989f0ed6fba6779b"
                 "63558be0a66"
                 "e668df14e1603cd2"
                 "af8944844078345286d0b292e772e7190775c51a0f83e40c0b75821027e7e538e111");
    const guint8 *data = g_bytes_get_data(stream, NULL);
    gsize length = g_bytes_get_size(stream);
    g_autoptr(TinkEncryptor) encryptor = tink_encryptor_new_format(&format, g_bytes_get_data(key, NULL));
    g_autoptr(TinkDecryptor) decryptor = tink_decryptor_new_format(&format, g_bytes_get_data(key, NULL));
    g_autoptr(TinkReader) reader = tink_reader_new_format(&format, g_bytes_get_data(key, NULL));
    g_autoptr(GByteArray) out = g_byte_array_new();
    assert_true(tink_encryptor_begin_fixed(encryptor, "aad", 3, data, NULL));
    assert_true(tink_encryptor_update(encryptor, plain, strlen(plain), collect, out, NULL));
    assert_true(tink_encryptor_finish(encryptor, collect, out, NULL));
    assert_int_equal(out->len, length);
    assert_memory_equal(out->data, data, length);
    g_autoptr(GByteArray) opened = decrypt_with(decryptor, "aad", data, length, 7, NULL);
    assert_non_null(opened);
    assert_int_equal(opened->len, strlen(plain));
    assert_memory_equal(opened->data, plain, opened->len);
    assert_true(tink_reader_begin(reader, "aad", 3, data, length, NULL));
    for (guint64 index = 0; index < 3; index++) {
        TinkSpan span;
        guint8 piece[64];
        assert_true(tink_format_span(&format, length, index, &span));
        assert_true(tink_reader_segment(reader, index, data + span.cipher_offset, span.cipher_length, piece, NULL));
        assert_memory_equal(piece, plain + span.plain_offset, span.plain_length);
    }
}

/* Our own format, against answers that another implementation (Python's cryptography) gave. */
static void test_known_answers(void **state)
{
    static const struct {
        gsize length;
        const char *hash;
    } cases[] = {
        {TINK_SEGMENT_BYTES - 56, "ec6dd0c51d70700157f6e7568871f0f156236d70b8107a4b46abbeec7f5e3ddc"},
        {TINK_SEGMENT_BYTES - 55, "39f7531a0c97ad8110b02b8d6f8c1dfbb19dfc89b4ea6f6daa9692d5ddce2852"},
        {2 * TINK_SEGMENT_BYTES - 72, "919e25ca994209ae670148a0ed00501573fa134754a2c65cbe6e05a3a129f25a"},
        {2 * TINK_SEGMENT_BYTES - 71, "7fd35dd4069b57d8a4b29e5543bd4fe04d1988bce495f8d597913284511ac6b5"},
        {2500000, "9a4099a6d65a64a66919ed2a1aa90f3d9ac750902cca74f544fa4b5d99f96c51"},
    };
    g_autoptr(GByteArray) word =
        encrypt_pieces(&tink_format_1mb, "test 1", (const guint8 *)"BackApp", strlen("BackApp"), 0);
    assert_hex(word->data, word->len,
               "28404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f6061626364656636b6ac7239872d6969bc15"
               "0fa9a751a886cd85ff8f51fd");
    g_autoptr(GByteArray) empty = encrypt_pieces(&tink_format_1mb, "", NULL, 0, 0);
    assert_hex(empty->data, empty->len,
               "28404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f60616263646566d2ec42dcdfe588e3328937"
               "ddc84ecaaa");
    g_autofree guint8 *content = patterned(2500000);
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GByteArray) stream = encrypt_pieces(&tink_format_1mb, "test 1", content, cases[i].length, 300000);
        g_autofree char *hash = digest_sha256_hex(stream->data, stream->len);
        assert_string_equal(hash, cases[i].hash);
        assert_int_equal(stream->len, tink_cipher_size(cases[i].length));
    }
}

/* Sizes around every boundary, in one encryptor and decryptor, with pieces that do and do not meet it. */
static void test_round_trip(void **state)
{
    static const gsize sizes[] = {0,
                                  1,
                                  TINK_SEGMENT_BYTES - 57,
                                  TINK_SEGMENT_BYTES - 56,
                                  TINK_SEGMENT_BYTES - 55,
                                  TINK_SEGMENT_BYTES,
                                  2 * TINK_SEGMENT_BYTES - 72,
                                  2 * TINK_SEGMENT_BYTES - 71,
                                  3 * TINK_SEGMENT_BYTES + 5};
    guint8 key[TINK_KEY_BYTES];
    guint8 header[TINK_HEADER_BYTES];
    fill_key_and_header(key, header);
    g_autofree guint8 *content = patterned(4 * TINK_SEGMENT_BYTES);
    g_autoptr(TinkEncryptor) encryptor = tink_encryptor_new(key);
    g_autoptr(TinkDecryptor) decryptor = tink_decryptor_new(key);
    for (gsize i = 0; i < G_N_ELEMENTS(sizes); i++)
        for (gsize piece = 0; piece <= 2 * 70001; piece += 70001) {
            g_autoptr(GByteArray) stream = g_byte_array_new();
            assert_true(tink_encryptor_begin(encryptor, "k", 1, NULL));
            for (gsize at = 0; at < sizes[i];) {
                gsize next = piece > 0 ? MIN(piece, sizes[i] - at) : sizes[i];
                assert_true(tink_encryptor_update(encryptor, content + at, next, collect, stream, NULL));
                at += next;
            }
            assert_true(tink_encryptor_finish(encryptor, collect, stream, NULL));
            assert_int_equal(stream->len, tink_cipher_size(sizes[i]));
            g_autoptr(GByteArray) back = decrypt_with(decryptor, "k", stream->data, stream->len, piece, NULL);
            assert_non_null(back);
            assert_int_equal(back->len, sizes[i]);
            assert_memory_equal(back->data, content, sizes[i]);
        }
}

/* Every size up to four segments in every piece length. */
static void test_small_round_trips(void **state)
{
    g_autofree guint8 *content = patterned(256);
    g_autoptr(TinkDecryptor) decryptor = new_decryptor(&small);
    for (gsize size = 0; size <= SMALL_FIRST + 3 * SMALL_FULL + 1; size++) {
        g_autoptr(GByteArray) whole = encrypt_pieces(&small, "x", content, size, 0);
        for (gsize piece = 1; piece <= 73; piece += 1 + piece / 8) {
            g_autoptr(GByteArray) pieces = encrypt_pieces(&small, "x", content, size, piece);
            assert_int_equal(pieces->len, whole->len);
            assert_memory_equal(pieces->data, whole->data, whole->len);
            g_autoptr(GByteArray) back = decrypt_with(decryptor, "x", whole->data, whole->len, piece, NULL);
            assert_non_null(back);
            assert_int_equal(back->len, size);
            assert_memory_equal(back->data, content, size);
        }
    }
}

static gboolean note_length(const guint8 *data, gsize length, gpointer user, GError **error)
{
    g_array_append_val(user, length);
    return TRUE;
}

static void test_sink_gets_whole_segments(void **state)
{
    guint8 key[TINK_KEY_BYTES] = {0};
    g_autofree guint8 *content = patterned(300);
    g_autoptr(TinkEncryptor) encryptor = tink_encryptor_new_format(&small, key);
    g_autoptr(GArray) lengths = g_array_new(FALSE, FALSE, sizeof(gsize));
    assert_true(tink_encryptor_begin(encryptor, NULL, 0, NULL));
    assert_true(tink_encryptor_update(encryptor, content, SMALL_FIRST + SMALL_FULL, note_length, lengths, NULL));
    assert_int_equal(lengths->len, 1); /* the second may be the last */
    assert_true(tink_encryptor_update(encryptor, NULL, 0, note_length, lengths, NULL));
    assert_int_equal(lengths->len, 1);
    assert_true(tink_encryptor_update(encryptor, content, 1, note_length, lengths, NULL));
    assert_true(tink_encryptor_finish(encryptor, note_length, lengths, NULL));
    assert_int_equal(lengths->len, 3);
    assert_int_equal(g_array_index(lengths, gsize, 0), 72);
    assert_int_equal(g_array_index(lengths, gsize, 1), 72);
    assert_int_equal(g_array_index(lengths, gsize, 2), 17);
}

/* A header is never used twice, also where a stream was left unfinished. */
static void test_headers_are_fresh(void **state)
{
    guint8 key[TINK_KEY_BYTES] = {0};
    g_autoptr(TinkEncryptor) encryptor = tink_encryptor_new_format(&small, key);
    g_autoptr(GHashTable) salts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (int i = 0; i < 50; i++) {
        g_autoptr(GByteArray) out = g_byte_array_new();
        assert_true(tink_encryptor_begin(encryptor, "a", 1, NULL));
        assert_true(tink_encryptor_update(encryptor, "12345678901234567", 17, collect, out, NULL));
        assert_int_equal(out->data[0], TINK_HEADER_BYTES);
        assert_true(g_hash_table_add(salts, digest_hex(out->data + 1, 32)));
        assert_true(g_hash_table_add(salts, digest_hex(out->data + 33, 7)));
    }
}

static void test_sizes(void **state)
{
    guint64 plain = 0;
    guint64 segments = 0;
    for (guint64 size = 0; size < 400; size++) {
        guint64 cipher = tink_format_cipher_size(&small, size);
        segments = size <= SMALL_FIRST ? 1 : 1 + (size - SMALL_FIRST + SMALL_FULL - 1) / SMALL_FULL;
        assert_int_equal(cipher, 40 + size + 16 * segments);
        assert_true(tink_format_plain_size(&small, cipher, &plain, NULL));
        assert_int_equal(plain, size);
        /* The spans tile both sides, and the mapping of offsets agrees with them. */
        guint64 cipher_at = 40;
        guint64 plain_at = 0;
        TinkSpan span;
        for (guint64 index = 0; index < segments; index++) {
            assert_true(tink_format_span(&small, cipher, index, &span));
            assert_int_equal(span.cipher_offset, cipher_at);
            assert_int_equal(span.plain_offset, plain_at);
            assert_int_equal(span.cipher_length, span.plain_length + 16);
            assert_int_equal(span.last, index + 1 == segments);
            for (guint64 i = 0; i < span.plain_length; i++)
                assert_int_equal(tink_format_segment_of(&small, plain_at + i), index);
            cipher_at += span.cipher_length;
            plain_at += span.plain_length;
        }
        assert_int_equal(cipher_at, cipher);
        assert_int_equal(plain_at, size);
        assert_false(tink_format_span(&small, cipher, segments, &span));
    }
    /* No stream has any other length. */
    guint64 possible = 0;
    for (guint64 cipher = 0; cipher < tink_format_cipher_size(&small, 400); cipher++)
        possible += tink_format_plain_size(&small, cipher, &plain, NULL) ? 1 : 0;
    assert_int_equal(possible, 400);
}

static void test_sizes_of_the_format(void **state)
{
    guint64 plain = 0;
    TinkSpan span;
    assert_int_equal(tink_cipher_size(0), 56);
    assert_int_equal(tink_cipher_size(1), 57);
    assert_int_equal(tink_cipher_size(1048520), 1048576);
    assert_int_equal(tink_cipher_size(1048521), 1048576 + 17);
    assert_int_equal(tink_segment_of(1048519), 0);
    assert_int_equal(tink_segment_of(1048520), 1);
    assert_int_equal(tink_segment_of(1048520 + 1048560), 2);
    assert_true(tink_plain_size(G_GUINT64_CONSTANT(1048576) * 7 + 17, &plain, NULL));
    assert_int_equal(plain, 1048520 + 6 * 1048560 + 1);
    assert_true(tink_segment_span(G_GUINT64_CONSTANT(1048576) * 7 + 17, 7, &span));
    assert_int_equal(span.cipher_offset, 7 * 1048576);
    assert_int_equal(span.plain_offset, 1048520 + 6 * 1048560);
    assert_int_equal(span.plain_length, 1);
    assert_true(span.last);
    g_autoptr(GError) error = NULL;
    assert_false(tink_plain_size(G_MAXUINT64, &plain, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    /* The largest stream, and one byte more. */
    guint64 largest = G_GUINT64_CONSTANT(0x100000000) * TINK_SEGMENT_BYTES;
    assert_int_equal(tink_cipher_size(TINK_PLAIN_MAX), largest);
    assert_true(tink_plain_size(largest, &plain, NULL) && plain == TINK_PLAIN_MAX);
    assert_false(tink_plain_size(largest + 17, &plain, NULL));
    assert_true(tink_segment_span(largest, G_MAXUINT32, &span) && span.last);
    assert_false(tink_segment_span(largest, G_GUINT64_CONSTANT(0x100000000), &span));
}

#define FOUR_SEGMENTS (SMALL_FIRST + 2 * SMALL_FULL + 30)

/* Decrypting fails with CORRUPT, and the message says `what`, in pieces and at once. */
static void assert_corrupt(TinkDecryptor *decryptor, const guint8 *data, gsize length, const char *what)
{
    for (gsize piece = 0; piece <= 13; piece += 13) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GByteArray) out = decrypt_with(decryptor, "ad", data, length, piece, &error);
        assert_null(out);
        assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
        if (what && !strstr(error->message, what))
            fail_msg("\"%s\" does not say \"%s\"", error->message, what);
    }
}

static void test_every_bit_counts(void **state)
{
    g_autofree guint8 *content = patterned(FOUR_SEGMENTS);
    g_autoptr(GByteArray) stream = encrypt_pieces(&small, "ad", content, FOUR_SEGMENTS, 0);
    g_autoptr(TinkDecryptor) decryptor = new_decryptor(&small);
    for (gsize bit = 0; bit < (gsize)stream->len * 8; bit++) {
        stream->data[bit / 8] ^= (guint8)(1U << (bit % 8));
        g_autofree char *what = g_strdup_printf("segment %zu of", bit / 8 / 72);
        assert_corrupt(decryptor, stream->data, stream->len, bit < 8 ? "header" : what);
        stream->data[bit / 8] ^= (guint8)(1U << (bit % 8));
    }
    g_autoptr(GByteArray) back = decrypt_with(decryptor, "ad", stream->data, stream->len, 0, NULL);
    assert_non_null(back);
}

static void test_cut_off_and_lengthened(void **state)
{
    g_autofree guint8 *content = patterned(FOUR_SEGMENTS);
    g_autoptr(GByteArray) stream = encrypt_pieces(&small, "ad", content, FOUR_SEGMENTS, 0);
    g_autoptr(TinkDecryptor) decryptor = new_decryptor(&small);
    for (gsize length = 0; length < stream->len; length++) {
        gboolean between = length > 0 && length % 72 == 0;
        g_autofree char *what = g_strdup_printf(between ? "cut off after segment %zu" : "segment %zu",
                                                between ? length / 72 - 1 : length / 72);
        assert_corrupt(decryptor, stream->data, length, what);
    }
    /* After the last segment, which is short: one byte more, and whole segments more. */
    gsize length = stream->len;
    g_byte_array_append(stream, (const guint8 *)"", 1);
    assert_corrupt(decryptor, stream->data, stream->len, "segment 3");
    g_byte_array_set_size(stream, (guint)length);
    g_byte_array_append(stream, content, 100);
    assert_corrupt(decryptor, stream->data, stream->len, "segment 3");
    /* After one that is full. */
    g_autoptr(GByteArray) full = encrypt_pieces(&small, "ad", content, SMALL_FIRST + SMALL_FULL, 0);
    g_byte_array_append(full, content, 1);
    assert_corrupt(decryptor, full->data, full->len, "goes on after its end in segment 1");
}

static void test_segments_out_of_place(void **state)
{
    g_autofree guint8 *content = patterned(FOUR_SEGMENTS);
    g_autoptr(GByteArray) stream = encrypt_pieces(&small, "ad", content, FOUR_SEGMENTS, 0);
    g_autoptr(GByteArray) other = encrypt_pieces(&small, "ad", content + 1, FOUR_SEGMENTS - 1, 0);
    g_autoptr(TinkDecryptor) decryptor = new_decryptor(&small);
    guint8 changed[400];
    memcpy(changed, stream->data, stream->len); /* segments 1 and 2 swapped */
    memcpy(changed + 72, stream->data + 144, 72);
    memcpy(changed + 144, stream->data + 72, 72);
    assert_corrupt(decryptor, changed, stream->len, "segment 1");
    memcpy(changed, stream->data, stream->len); /* 1 twice */
    memcpy(changed + 144, stream->data + 72, 72);
    assert_corrupt(decryptor, changed, stream->len, "segment 2");
    memcpy(changed, stream->data, 72); /* 1 left out */
    memcpy(changed + 72, stream->data + 144, stream->len - 144);
    assert_corrupt(decryptor, changed, stream->len - 72, "segment 1");
    memcpy(changed, stream->data, 40); /* 0 left out */
    memcpy(changed + 40, stream->data + 72, stream->len - 72);
    assert_corrupt(decryptor, changed, stream->len - 32, "segment 0");
    /* The header of another stream of the same key (one bit of the prefix differs). */
    memcpy(changed, other->data, other->len);
    changed[39] ^= 1;
    assert_corrupt(decryptor, changed, other->len, "segment 0");
}

static void test_key_and_associated_data(void **state)
{
    g_autofree guint8 *content = patterned(100);
    g_autoptr(GByteArray) stream = encrypt_pieces(&small, "volume 1", content, 100, 0);
    g_autoptr(TinkDecryptor) decryptor = new_decryptor(&small);
    guint8 key[TINK_KEY_BYTES] = {1};
    g_autoptr(TinkDecryptor) stranger = tink_decryptor_new_format(&small, key);
    g_autoptr(GError) error = NULL;
    assert_null(decrypt_with(stranger, "volume 1", stream->data, stream->len, 0, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    assert_non_null(strstr(error->message, "another key"));
    g_clear_error(&error);
    assert_null(decrypt_with(decryptor, "volume 2", stream->data, stream->len, 0, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    g_clear_error(&error);
    g_autoptr(GByteArray) back = decrypt_with(decryptor, "volume 1", stream->data, stream->len, 0, NULL);
    assert_non_null(back);
    /* The longest that is taken, and one byte more. */
    g_autofree guint8 *name = patterned(TINK_ASSOCIATED_MAX + 1);
    g_autoptr(TinkEncryptor) encryptor = tink_encryptor_new_format(&small, key);
    assert_true(tink_encryptor_begin(encryptor, name, TINK_ASSOCIATED_MAX, NULL));
    assert_false(tink_encryptor_begin(encryptor, name, TINK_ASSOCIATED_MAX + 1, &error));
    assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    g_clear_error(&error);
    assert_false(tink_decryptor_begin(decryptor, name, TINK_ASSOCIATED_MAX + 1, &error));
    assert_true(error_is(error, BACKAPP_ERROR_INVALID));
}

static void test_failed_sink(void **state)
{
    g_autofree guint8 *content = patterned(200);
    g_autoptr(GByteArray) stream = encrypt_pieces(&small, "ad", content, 200, 0);
    guint8 key[TINK_KEY_BYTES];
    guint8 header[TINK_HEADER_BYTES];
    fill_key_and_header(key, header);
    g_autoptr(TinkEncryptor) encryptor = tink_encryptor_new_format(&small, key);
    g_autoptr(TinkDecryptor) decryptor = tink_decryptor_new_format(&small, key);
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    assert_true(tink_encryptor_begin(encryptor, NULL, 0, NULL));
    assert_false(tink_encryptor_update(encryptor, content, 200, refuse, NULL, &error));
    assert_true(error_is(error, BACKAPP_ERROR_NO_SPACE));
    assert_false(tink_encryptor_update(encryptor, content, 1, collect, out, NULL));
    assert_false(tink_encryptor_finish(encryptor, collect, out, NULL));
    g_clear_error(&error);
    assert_true(tink_decryptor_begin(decryptor, "ad", 2, NULL));
    assert_false(tink_decryptor_update(decryptor, stream->data, stream->len, refuse, NULL, &error));
    assert_true(error_is(error, BACKAPP_ERROR_NO_SPACE));
    assert_false(tink_decryptor_update(decryptor, stream->data, 1, collect, out, NULL));
    assert_false(tink_decryptor_finish(decryptor, collect, out, NULL));
    assert_int_equal(out->len, 0);
    /* Both serve the next stream. */
    assert_true(tink_encryptor_begin(encryptor, "ad", 2, NULL));
    assert_true(tink_encryptor_finish(encryptor, collect, out, NULL));
    g_autoptr(GByteArray) back = decrypt_with(decryptor, "ad", out->data, out->len, 0, NULL);
    assert_non_null(back);
    assert_int_equal(back->len, 0);
}

static void test_reader(void **state)
{
    g_autofree guint8 *content = patterned(FOUR_SEGMENTS);
    g_autoptr(GByteArray) stream = encrypt_pieces(&small, "ad", content, FOUR_SEGMENTS, 0);
    guint8 key[TINK_KEY_BYTES];
    guint8 header[TINK_HEADER_BYTES];
    fill_key_and_header(key, header);
    g_autoptr(TinkReader) reader = tink_reader_new_format(&small, key);
    static const guint8 zero[72];
    guint8 out[72];
    TinkSpan span;
    assert_true(tink_reader_begin(reader, "ad", 2, header, stream->len, NULL));
    for (guint64 step = 0; step < 4; step++) {
        guint64 index = 3 - step;
        assert_true(tink_format_span(&small, stream->len, index, &span));
        const guint8 *data = stream->data + span.cipher_offset;
        assert_true(tink_reader_segment(reader, index, data, span.cipher_length, out, NULL));
        assert_memory_equal(out, content + span.plain_offset, span.plain_length);
        memcpy(out, data, span.cipher_length); /* in place */
        assert_true(tink_reader_segment(reader, index, out, span.cipher_length, out, NULL));
        assert_memory_equal(out, content + span.plain_offset, span.plain_length);
        g_autoptr(GError) error = NULL;
        guint8 changed[72];
        memcpy(changed, data, span.cipher_length);
        changed[span.cipher_length - 1] ^= 1;
        g_autofree char *what = g_strdup_printf("segment %u of", (guint)index);
        assert_false(tink_reader_segment(reader, index, changed, span.cipher_length, out, &error));
        assert_true(error_is(error, BACKAPP_ERROR_CORRUPT) && strstr(error->message, what));
        assert_memory_equal(out, zero, span.plain_length);
        g_clear_error(&error);
        assert_false(tink_reader_segment(reader, index, data, span.cipher_length - 1, out, &error));
        assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    }
    /* Segment 1 is not segment 2, and nothing is segment 4. */
    g_autoptr(GError) error = NULL;
    assert_false(tink_reader_segment(reader, 2, stream->data + 72, 72, out, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    g_clear_error(&error);
    assert_false(tink_reader_segment(reader, 4, stream->data, 72, out, &error));
    assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    g_clear_error(&error);
    /* Told a wrong length: what is taken for the last one is not. */
    assert_true(tink_reader_begin(reader, "ad", 2, header, 144, NULL));
    assert_false(tink_reader_segment(reader, 1, stream->data + 72, 72, out, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    g_clear_error(&error);
    assert_false(tink_reader_begin(reader, "ad", 2, header, 150, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    g_clear_error(&error);
    header[0] = 41;
    assert_false(tink_reader_begin(reader, "ad", 2, header, stream->len, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    g_clear_error(&error);
    assert_false(tink_reader_segment(reader, 0, stream->data, 32, out, &error)); /* none begun */
    tink_reader_free(NULL);
    tink_encryptor_free(NULL);
    tink_decryptor_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published),
        cmocka_unit_test(test_published_segments),
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_small_round_trips),
        cmocka_unit_test(test_sink_gets_whole_segments),
        cmocka_unit_test(test_headers_are_fresh),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_sizes_of_the_format),
        cmocka_unit_test(test_every_bit_counts),
        cmocka_unit_test(test_cut_off_and_lengthened),
        cmocka_unit_test(test_segments_out_of_place),
        cmocka_unit_test(test_key_and_associated_data),
        cmocka_unit_test(test_failed_sink),
        cmocka_unit_test(test_reader),
    };
    return cmocka_run_group_tests_name("unit/crypto/tink", tests, NULL, NULL);
}
