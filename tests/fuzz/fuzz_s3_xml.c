/*
 * What S3 servers answer, from the input's bytes: as a page of a list, a refusal, single texts, and rules to be kept. What
 * must hold: reading ends, never outside the bytes; entries have keys; a rule that is kept is XML by itself; what is
 * written reads the same.
 */
#include "store/s3_error.h"
#include "store/s3_page.h"
#include "store/s3_url.h"
#include "store/s3_xml.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_page(GByteArray *body, gboolean versions)
{
    g_autoptr(S3Page) page = s3_page_new(versions);
    if (!s3_page_parse(page, body, NULL))
        return;
    for (guint i = 0; i < page->entries->len; i++) {
        const S3Entry *entry = &g_array_index(page->entries, S3Entry, i);
        const gsize texts[] = {entry->key, entry->etag, entry->version, entry->storage_class};
        g_assert_true(entry->key > 0);
        for (gsize k = 0; k < G_N_ELEMENTS(texts); k++)
            g_assert_true(texts[k] < page->text->len &&
                          strlen(page->text->str + texts[k]) < page->text->len - texts[k]);
    }
}

static void read_failure(GByteArray *body)
{
    g_autoptr(GPtrArray) headers = g_ptr_array_new();
    HttpResponse response = {.status = 400, .headers = headers, .body = body};
    g_auto(S3Failure) failure = {0};
    S3Deed deed = {"cannot write", "s3://bucket/key", "s3:PutObject", "arn:aws:s3:::bucket/*"};
    g_autoptr(GError) error = NULL;
    s3_failure_read(&failure, &response);
    g_assert_nonnull(failure.code);
    s3_failure_set(&failure, &deed, &error);
    g_assert_true(g_utf8_validate(error->message, -1, NULL));
}

static void read_rules(const uint8_t *data, size_t size)
{
    g_autoptr(GPtrArray) rules = s3_xml_sources(data, size, "Rule", NULL);
    for (guint i = 0; rules && i < rules->len; i++) {
        const char *rule = rules->pdata[i];
        g_autoptr(GString) document = g_string_new("<L>");
        g_string_append(document, rule);
        g_string_append(document, "</L>");
        g_autoptr(GPtrArray) again = s3_xml_sources(document->str, document->len, "Rule", NULL);
        /* Another encoding than UTF-8 is not kept: the servers have none. */
        g_assert_true(!g_utf8_validate((const char *)data, (gssize)size, NULL) || memmem(data, size, "encoding", 8) ||
                      (again && again->len == 1 && strcmp(again->pdata[0], rule) == 0));
    }
}

static void write_text(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, MIN(size, S3_XML_MAX_TEXT));
    if (!g_utf8_validate(text, -1, NULL))
        return;
    g_autoptr(GString) xml = g_string_new("<R><K>");
    if (!s3_xml_append(xml, text))
        return;
    g_string_append(xml, "</K></R>");
    g_autofree char *back = s3_xml_text(xml->str, xml->len, "K");
    g_assert_cmpstr(back, ==, text);
    gsize before = strlen(text);
    g_assert_true(s3_url_decode(text) <= before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GByteArray) body = g_byte_array_new();
    g_byte_array_append(body, data, (guint)size);
    read_page(body, FALSE);
    read_page(body, TRUE);
    read_failure(body);
    read_rules(data, size);
    write_text(data, size);
    return 0;
}
