#include "store/s3_xml.h"

#include <expat.h>
#include <string.h>

#include "base/error.h"

typedef struct {
    XML_Parser parser;
    const S3XmlHandler *handler;
    gpointer user_data;
    GString *text;
    GError *error;
    guint depth, elements;
} Reader;

static void stop(Reader *reader)
{
    (void)XML_StopParser(reader->parser, XML_FALSE);
}

static void fail(Reader *reader, const char *what)
{
    if (!reader->error)
        error_set(&reader->error, BACKAPP_ERROR_CORRUPT, "the server's XML answer %s", what);
    stop(reader);
}

static const char *local_name(const char *name)
{
    const char *colon = strrchr(name, ':');
    return colon ? colon + 1 : name;
}

static void XMLCALL on_open(void *data, const XML_Char *name, const XML_Char **attributes)
{
    Reader *reader = data;
    if (reader->error)
        return;
    if (++reader->depth > S3_XML_MAX_DEPTH) {
        fail(reader, "is nested too deeply");
        return;
    }
    if (++reader->elements > S3_XML_MAX_ELEMENTS) {
        fail(reader, "has too many elements");
        return;
    }
    g_string_truncate(reader->text, 0);
    if (reader->handler->open &&
        !reader->handler->open(reader->user_data, reader->depth, local_name(name), &reader->error))
        stop(reader);
}

static void XMLCALL on_close(void *data, const XML_Char *name)
{
    Reader *reader = data;
    if (reader->error)
        return;
    if (!reader->handler->close(reader->user_data, reader->depth, local_name(name), reader->text->str,
                                reader->text->len, &reader->error))
        stop(reader);
    reader->depth--;
    g_string_truncate(reader->text, 0);
}

static void XMLCALL on_text(void *data, const XML_Char *text, int length)
{
    Reader *reader = data;
    if (reader->error)
        return;
    if (reader->text->len + (gsize)length > S3_XML_MAX_TEXT)
        fail(reader, "has a text that is too long");
    else
        g_string_append_len(reader->text, text, length);
}

static void XMLCALL on_doctype(void *data, const XML_Char *name, const XML_Char *system, const XML_Char *public_id,
                               int internal)
{
    fail(data, "has a document type, which is refused");
}

/* XML cannot hold some characters that a key can; servers put them into their answers all the same. */
static gboolean is_forbidden(guint64 c)
{
    return (c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0xFFFE || c == 0xFFFF ||
           (c >= 0xD800 && c < 0xE000);
}

/* The length of what begins at data[0] and is such a character, as bytes or as a reference; 0 if it is none. */
static gsize forbidden_length(const guchar *data, gsize length)
{
    if (is_forbidden(data[0]))
        return 1;
    if (length >= 3 && data[0] == 0xEF && data[1] == 0xBF && data[2] >= 0xBE)
        return 3;
    if (length < 4 || data[0] != '&' || data[1] != '#')
        return 0;
    gboolean hex = data[2] == 'x';
    gsize at = hex ? 3 : 2;
    guint64 number = 0;
    for (; at < MIN(length, 12) && g_ascii_isxdigit((char)data[at]); at++)
        number = number * (hex ? 16 : 10) + (guint64)g_ascii_xdigit_value((char)data[at]);
    return at < length && data[at] == ';' && is_forbidden(number) ? at + 1 : 0;
}

/* The document with question marks, as many bytes, in place of what would make it no XML; NULL if there is nothing of it.
 * Lists ask for encoded keys and are not concerned; elsewhere a key is only an echo of ours. */
static char *readable(const void *data, gsize length)
{
    const guchar *from = data;
    char *copy = NULL;
    for (gsize at = 0, bad = 0; at<length; at += bad> 0 ? bad : 1) {
        bad = forbidden_length(from + at, length - at);
        if (bad > 0 && !copy)
            copy = g_memdup2(data, length);
        if (bad > 0)
            memset(copy + at, '?', bad);
    }
    return copy;
}

gboolean s3_xml_parse(const void *data, gsize length, const S3XmlHandler *handler, gpointer user_data, GError **error)
{
    Reader reader = {.handler = handler, .user_data = user_data};
    g_autofree char *copy = readable(data, length);
    data = copy ? copy : data;
    reader.parser = XML_ParserCreate(NULL);
    if (!reader.parser)
        return error_set(error, BACKAPP_ERROR_INTERNAL, "no memory to read an XML answer");
    reader.text = g_string_sized_new(256);
    XML_SetUserData(reader.parser, &reader);
    XML_SetElementHandler(reader.parser, on_open, on_close);
    XML_SetCharacterDataHandler(reader.parser, on_text);
    XML_SetStartDoctypeDeclHandler(reader.parser, on_doctype);
    gboolean good =
        length <= G_MAXINT && XML_Parse(reader.parser, data, (int)length, XML_TRUE) == XML_STATUS_OK && !reader.error;
    if (!good && !reader.error)
        error_set(&reader.error, BACKAPP_ERROR_CORRUPT, "the server's XML answer cannot be read: %s in line %lu",
                  XML_ErrorString(XML_GetErrorCode(reader.parser)),
                  (unsigned long)XML_GetCurrentLineNumber(reader.parser));
    XML_ParserFree(reader.parser);
    g_string_free(reader.text, TRUE);
    if (reader.error)
        g_propagate_error(error, reader.error);
    return good;
}

typedef struct {
    const char *name;
    char *text;
} Wanted;

static gboolean take_text(gpointer user_data, guint depth, const char *name, const char *text, gsize length,
                          GError **error)
{
    Wanted *wanted = user_data;
    if (depth == 2 && !wanted->text && strcmp(name, wanted->name) == 0)
        wanted->text = g_strndup(text, length);
    return TRUE;
}

char *s3_xml_text(const void *data, gsize length, const char *name)
{
    static const S3XmlHandler handler = {.close = take_text};
    Wanted wanted = {.name = name};
    if (length == 0 || s3_xml_parse(data, length, &handler, &wanted, NULL))
        return wanted.text;
    g_free(wanted.text);
    return NULL;
}

typedef struct {
    XML_Parser parser;
    const char *document;
    const char *name;
    GPtrArray *sources;
    guint depth;
    XML_Index start;
    gboolean bad;
} Slicer;

static void XMLCALL slice_open(void *data, const XML_Char *name, const XML_Char **attributes)
{
    Slicer *slicer = data;
    if (++slicer->depth == 2)
        slicer->start = XML_GetCurrentByteIndex(slicer->parser);
    if (slicer->depth > S3_XML_MAX_DEPTH) {
        slicer->bad = TRUE;
        (void)XML_StopParser(slicer->parser, XML_FALSE);
    }
}

static void XMLCALL slice_close(void *data, const XML_Char *name)
{
    Slicer *slicer = data;
    if (slicer->depth-- != 2 || slicer->bad || strcmp(local_name(name), slicer->name) != 0)
        return;
    XML_Index end = XML_GetCurrentByteIndex(slicer->parser) + XML_GetCurrentByteCount(slicer->parser);
    /* An empty element's end is reported where it starts, with its length or with none. */
    if (end > slicer->start)
        g_ptr_array_add(slicer->sources, g_strndup(slicer->document + slicer->start, (gsize)(end - slicer->start)));
}

static void XMLCALL slice_doctype(void *data, const XML_Char *name, const XML_Char *system, const XML_Char *public_id,
                                  int internal)
{
    Slicer *slicer = data;
    slicer->bad = TRUE;
    (void)XML_StopParser(slicer->parser, XML_FALSE);
}

GPtrArray *s3_xml_sources(const void *data, gsize length, const char *name, GError **error)
{
    Slicer slicer = {.parser = XML_ParserCreate(NULL), .document = data, .name = name};
    if (!slicer.parser) {
        error_set(error, BACKAPP_ERROR_INTERNAL, "no memory to read an XML answer");
        return NULL;
    }
    slicer.sources = g_ptr_array_new_with_free_func(g_free);
    XML_SetUserData(slicer.parser, &slicer);
    XML_SetElementHandler(slicer.parser, slice_open, slice_close);
    XML_SetStartDoctypeDeclHandler(slicer.parser, slice_doctype);
    gboolean good =
        length <= G_MAXINT && XML_Parse(slicer.parser, data, (int)length, XML_TRUE) == XML_STATUS_OK && !slicer.bad;
    XML_ParserFree(slicer.parser);
    if (good)
        return slicer.sources;
    g_ptr_array_unref(slicer.sources);
    error_set(error, BACKAPP_ERROR_CORRUPT, "the server's XML answer cannot be read");
    return NULL;
}

static gboolean can_carry(const char *text)
{
    for (const guchar *at = (const guchar *)text; *at != '\0'; at++) {
        if (*at < 0x20 && *at != '\t' && *at != '\n' && *at != '\r')
            return FALSE;
        if (at[0] == 0xEF && at[1] == 0xBF && at[2] >= 0xBE)
            return FALSE;
    }
    return TRUE;
}

gboolean s3_xml_append(GString *out, const char *text)
{
    if (!can_carry(text))
        return FALSE;
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '&':
            g_string_append(out, "&amp;");
            break;
        case '<':
            g_string_append(out, "&lt;");
            break;
        case '>':
            g_string_append(out, "&gt;");
            break;
        case '"':
            g_string_append(out, "&quot;");
            break;
        case '\t':
        case '\n':
        case '\r':
            g_string_append_printf(out, "&#%d;", *text);
            break;
        default:
            g_string_append_c(out, *text);
        }
    }
    return TRUE;
}
