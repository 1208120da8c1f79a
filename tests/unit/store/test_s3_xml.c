#include "../base/cmocka_all.h"

#include "base/error.h"
#include "store/s3_time.h"
#include "store/s3_xml.h"

#include <string.h>

/* Writes what is called as text: "<1 a>", "1 a [text]>". */
static gboolean log_open(gpointer user_data, guint depth, const char *name, GError **error)
{
    g_string_append_printf(user_data, "<%u %s>", depth, name);
    return TRUE;
}

static gboolean log_close(gpointer user_data, guint depth, const char *name, const char *text, gsize length,
                          GError **error)
{
    assert_int_equal(strlen(text), length);
    g_string_append_printf(user_data, "%u %s [%s];", depth, name, text);
    return strcmp(name, "stop") != 0 || error_set(error, BACKAPP_ERROR_CONFLICT, "stopped");
}

static const S3XmlHandler logger = {.open = log_open, .close = log_close};

static char *events(const char *xml, GError **error)
{
    g_autoptr(GString) log = g_string_new(NULL);
    return s3_xml_parse(xml, strlen(xml), &logger, log, error) ? g_strdup(log->str) : NULL;
}

static void test_elements_and_texts(void **state)
{
    g_autofree char *log = events("<?xml version=\"1.0\"?><a xmlns=\"urn:x\"> <x:b>1 &lt; 2&#10;</x:b><c/></a>", NULL);
    assert_string_equal(log, "<1 a><2 b>2 b [1 < 2\n];<2 c>2 c [];1 a [];");
}

static void test_broken_documents_are_corrupt(void **state)
{
    static const char *const broken[] = {"",
                                         "<a>",
                                         "<a></b>",
                                         "text",
                                         "<a/><b/>",
                                         "<a>&unknown;</a>",
                                         "<!DOCTYPE a [<!ENTITY e \"x\">]><a>&e;</a>",
                                         "<!DOCTYPE a><a/>"};
    for (gsize i = 0; i < G_N_ELEMENTS(broken); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *log = events(broken[i], &error);
        assert_null(log);
        assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    }
}

/* Servers echo keys that XML cannot hold. */
static void test_forbidden_characters_are_read_as_question_marks(void **state)
{
    g_autofree char *log = events("<a>\x1bred\x01<b>&#x1b;&#27;&#9;&#x41;\xEF\xBF\xBF</b></a>", NULL);
    assert_string_equal(log, "<1 a><2 b>2 b [???????????\tA???];1 a [];");
    const char *begun = "<a><Key>\x1b</Key><UploadId>7</UploadId></a>";
    g_autofree char *id = s3_xml_text(begun, strlen(begun), "UploadId");
    assert_string_equal(id, "7");
}

static void test_a_handler_ends_the_reading(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *log = events("<a><stop/><never/></a>", &error);
    assert_null(log);
    assert_string_equal(error->message, "stopped");
}

static void test_depth_and_text_are_bounded(void **state)
{
    g_autoptr(GString) deep = g_string_new(NULL);
    for (int i = 0; i < S3_XML_MAX_DEPTH; i++)
        g_string_append(deep, "<a>");
    for (int i = 0; i < S3_XML_MAX_DEPTH; i++)
        g_string_append(deep, "</a>");
    g_autofree char *good = events(deep->str, NULL);
    assert_non_null(good);
    g_string_prepend(deep, "<a>");
    g_string_append(deep, "</a>");
    g_autoptr(GError) error = NULL;
    assert_null(events(deep->str, &error));
    assert_non_null(strstr(error->message, "nested too deeply"));

    g_autofree char *words = g_strnfill(S3_XML_MAX_TEXT + 1, 'x');
    g_autofree char *xml = g_strdup_printf("<a>%s</a>", words);
    g_clear_error(&error);
    assert_null(events(xml, &error));
    assert_non_null(strstr(error->message, "too long"));
    xml[3 + S3_XML_MAX_TEXT] = ' '; /* still one too many */
    memmove(xml + 3, xml + 4, strlen(xml + 3));
    g_autofree char *fits = events(xml, NULL);
    assert_non_null(fits);
}

static void test_one_text(void **state)
{
    static const char xml[] = "<R><Status>Enabled</Status><In><Status>no</Status></In><Status>second</Status></R>";
    g_autofree char *text = s3_xml_text(xml, strlen(xml), "Status");
    assert_string_equal(text, "Enabled");
    assert_null(s3_xml_text(xml, strlen(xml), "Other"));
    assert_null(s3_xml_text("<R><Status>x</Status>", 21, "Status"));
}

static void test_sources_are_kept_as_they_stand(void **state)
{
    static const char xml[] = "<L xmlns=\"u\">\n <Rule><ID>a</ID><x y='1'>&amp;</x></Rule><Other/><Rule ><ID>b</ID>"
                              "</Rule >\n<In><Rule>no</Rule></In><Rule/></L>";
    g_autoptr(GPtrArray) rules = s3_xml_sources(xml, strlen(xml), "Rule", NULL);
    assert_int_equal(rules->len, 3);
    assert_string_equal(rules->pdata[0], "<Rule><ID>a</ID><x y='1'>&amp;</x></Rule>");
    assert_string_equal(rules->pdata[1], "<Rule ><ID>b</ID></Rule >");
    assert_string_equal(rules->pdata[2], "<Rule/>");
    g_autoptr(GError) error = NULL;
    assert_null(s3_xml_sources("<L><Rule>", 9, "Rule", &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
}

static void test_what_is_appended_reads_the_same(void **state)
{
    static const char text[] = "a<b>&c\"d'e\tf\ng\rh \xc3\xa9 ]]>";
    g_autoptr(GString) xml = g_string_new("<R><K>");
    assert_true(s3_xml_append(xml, text));
    g_string_append(xml, "</K></R>");
    g_autofree char *back = s3_xml_text(xml->str, xml->len, "K");
    assert_string_equal(back, text);
    gsize before = xml->len;
    assert_false(s3_xml_append(xml, "a\x01"));
    assert_false(s3_xml_append(xml, "a\xef\xbf\xbe"));
    assert_int_equal(xml->len, before);
    assert_true(s3_xml_append(xml, "\xef\xbf\xbd"));
}

static void test_times(void **state)
{
    static const struct {
        const char *iso, *http;
        gint64 seconds;
    } good[] = {
        {"1970-01-01T00:00:00Z", "Thu, 01 Jan 1970 00:00:00 GMT", 0},
        {"2009-10-12T17:50:30.000Z", "Mon, 12 Oct 2009 17:50:30 GMT", 1255369830},
        {"2000-02-29T23:59:59.5Z", "Tue, 29 Feb 2000 23:59:59 GMT", 951868799},
        {"2024-03-01T00:00:00Z", "Fri, 01 Mar 2024 00:00:00 GMT", 1709251200},
        {"1900-03-01T00:00:00Z", "Thu, 01 Mar 1900 00:00:00 GMT", -2203891200},
        {"2100-12-31T12:00:00.123456Z", "Fri, 31 Dec 2100 12:00:00 GMT", 4133937600},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(good); i++) {
        gint64 iso = -1, http = -1;
        assert_true(s3_time_parse_iso(good[i].iso, &iso));
        assert_true(s3_time_parse_http(good[i].http, &http));
        assert_int_equal(iso, good[i].seconds);
        assert_int_equal(http, good[i].seconds);
    }
    static const char *const bad[] = {"",
                                      "2009-10-12",
                                      "2009-10-12T17:50:30",
                                      "2009-13-12T17:50:30Z",
                                      "2009-10-32T17:50:30Z",
                                      "2009-10-12T24:50:30Z",
                                      "x009-10-12T17:50:30Z",
                                      "2009-10-12T17:50:30Zx",
                                      "Mon, 12 Foo 2009 17:50:30 GMT",
                                      "Mon, 12 Oct 2009 17:50:30 CET",
                                      "Mon, 2 Oct 2009 17:50:30 GMT",
                                      ", "};
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        gint64 seconds = 0;
        assert_false(s3_time_parse_iso(bad[i], &seconds));
        assert_false(s3_time_parse_http(bad[i], &seconds));
    }
    g_autofree char *text = s3_time_format_iso(1255369830);
    assert_string_equal(text, "2009-10-12T17:50:30Z");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elements_and_texts),
        cmocka_unit_test(test_broken_documents_are_corrupt),
        cmocka_unit_test(test_forbidden_characters_are_read_as_question_marks),
        cmocka_unit_test(test_a_handler_ends_the_reading),
        cmocka_unit_test(test_depth_and_text_are_bounded),
        cmocka_unit_test(test_one_text),
        cmocka_unit_test(test_sources_are_kept_as_they_stand),
        cmocka_unit_test(test_what_is_appended_reads_the_same),
        cmocka_unit_test(test_times),
    };
    return cmocka_run_group_tests_name("unit/store/s3_xml", tests, NULL, NULL);
}
