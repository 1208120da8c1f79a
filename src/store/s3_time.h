/*
 * The two forms in which S3 writes times. Pure functions.
 */
#pragma once

#include <glib.h>

/* "2009-10-12T17:50:30.000Z" or "2009-10-12T17:50:30Z" as seconds since 1970. FALSE if it is anything else. */
gboolean s3_time_parse_iso(const char *text, gint64 *seconds);

/* "Wed, 12 Oct 2009 17:50:00 GMT", the form of HTTP headers, as seconds since 1970. FALSE if it is anything else. */
gboolean s3_time_parse_http(const char *text, gint64 *seconds);

/* Seconds since 1970 (years 1 to 9999) as "2009-10-12T17:50:30Z". The caller frees. */
char *s3_time_format_iso(gint64 seconds);
