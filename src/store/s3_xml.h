/*
 * Reading the XML that S3 servers answer with, and writing what they want to be sent: on expat, bounded in depth, number
 * of elements and length of text. Document types are refused, so nothing expands. Pure functions, any thread; a reader
 * belongs to the thread that uses it.
 */
#pragma once

#include <glib.h>

/* Bounds: an answer with 1,000 objects has 10,000 elements. */
#define S3_XML_MAX_DEPTH    16
#define S3_XML_MAX_ELEMENTS 1000000
#define S3_XML_MAX_TEXT     (64 * 1024)

/* What is called for each element. The root has depth 1. Names have no prefix. FALSE with an error ends the reading. */
typedef struct {
    /* May be NULL. */
    gboolean (*open)(gpointer user_data, guint depth, const char *name, GError **error);
    /* text: what stood in the element (an element with children: what came after the last), zero-terminated. */
    gboolean (*close)(gpointer user_data, guint depth, const char *name, const char *text, gsize length,
                      GError **error);
} S3XmlHandler;

/* Reads a whole document. CORRUPT if it is not well formed, beyond a bound, or has a document type. What XML cannot hold
 * (servers echo such keys) is read as question marks. */
gboolean s3_xml_parse(const void *data, gsize length, const S3XmlHandler *handler, gpointer user_data, GError **error);

/* The text of the first element at depth 2 with this name, or NULL if there is none or it cannot be read. For answers
 * that are one record. The caller frees. */
char *s3_xml_text(const void *data, gsize length, const char *name);

/* The source texts of all elements at depth 2 with this name, as they stand in the document ("<Rule>...</Rule>"). NULL
 * with CORRUPT. The caller unrefs; strings are freed with it. */
GPtrArray *s3_xml_sources(const void *data, gsize length, const char *name, GError **error);

/* Appends text with &, <, >, quotes and line ends escaped. FALSE, nothing appended, if XML cannot carry it (control
 * characters, U+FFFE, U+FFFF). The text is valid UTF-8. */
gboolean s3_xml_append(GString *out, const char *text);
