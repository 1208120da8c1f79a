#include "net/http_private.h"

#include "base/error.h"

#include <string.h>

#define STATUS_LINE "HTTP/1."

void http_response_init(HttpResponse *response)
{
    *response = (HttpResponse){.headers = g_ptr_array_new_full(16, g_free), .body = g_byte_array_new()};
    /* So that an empty body has its zero byte too. */
    g_byte_array_append(response->body, (const guint8 *)"", 1);
    g_byte_array_set_size(response->body, 0);
}

void http_response_clear(HttpResponse *response)
{
    if (response->headers)
        g_ptr_array_unref(response->headers);
    if (response->body)
        g_byte_array_unref(response->body);
    *response = (HttpResponse){0};
}

const char *http_response_header(const HttpResponse *response, const char *name)
{
    gsize length = strlen(name);
    for (guint i = 0; response->headers && i < response->headers->len; i++) {
        const char *line = response->headers->pdata[i];
        if (strncmp(line, name, length) == 0 && line[length] == ':' && line[length + 1] == ' ')
            return line + length + 2;
    }
    return NULL;
}

static gboolean is_digits(const char *text, guint count)
{
    for (guint i = 0; i < count; i++)
        if (!g_ascii_isdigit(text[i]))
            return FALSE;
    return TRUE;
}

static guint number(const char *text, guint count)
{
    guint value = 0;
    for (guint i = 0; i < count; i++)
        value = value * 10 + (guint)(text[i] - '0');
    return value;
}

static guint month(const char *text)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    for (guint i = 0; i < 12; i++)
        if (memcmp(names + (gsize)3 * i, text, 3) == 0)
            return i + 1;
    return 0;
}

/* Days from 1970-01-01 in the Gregorian calendar; the year is shifted to begin in March, so that the leap day is last. */
static gint64 days_since_1970(gint64 year, guint of_month, guint day)
{
    year -= of_month <= 2;
    gint64 era = year / 400;
    gint64 year_of_era = year % 400;
    gint64 day_of_year = (153 * ((gint64)of_month + (of_month > 2 ? -3 : 9)) + 2) / 5 + (gint64)day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

/* libcurl reads dates of every kind, but takes longer than all the rest of an answer; servers send this one form. */
gint64 http_parse_date(const char *text)
{
    static const char form[] = "Sun, 06 Nov 1994 08:49:37 GMT";
    if (strlen(text) != sizeof form - 1 || memcmp(text + 25, " GMT", 4) != 0 || memcmp(text + 3, ", ", 2) != 0 ||
        !is_digits(text + 5, 2) || !is_digits(text + 12, 4) || !is_digits(text + 17, 2) || text[19] != ':' ||
        !is_digits(text + 20, 2) || text[22] != ':' || !is_digits(text + 23, 2) || number(text + 12, 4) < 1970)
        return MAX(curl_getdate(text, NULL), 0);
    guint of_month = month(text + 8);
    guint day = number(text + 5, 2);
    guint hour = number(text + 17, 2);
    guint minute = number(text + 20, 2);
    guint second = number(text + 23, 2);
    if (of_month == 0 || day == 0 || day > 31 || hour > 23 || minute > 59 || second > 60)
        return 0;
    return days_since_1970(number(text + 12, 4), of_month, day) * 86400 + hour * 3600 + minute * 60 + second;
}

static gboolean add_status(HttpResponse *response, const char *line, gsize length, GError **error)
{
    gsize at = strlen(STATUS_LINE) + 1;
    if (length < at + 4 || line[at] != ' ' || !is_digits(line + at + 1, 3))
        return error_set(error, BACKAPP_ERROR_TRANSIENT, "the server's answer does not begin with an HTTP status");
    /* What was sent before belongs to an interim answer such as 100. */
    g_ptr_array_set_size(response->headers, 0);
    response->server_time = 0;
    response->status = number(line + at + 1, 3);
    return TRUE;
}

gboolean http_response_add_line(HttpResponse *response, const char *line, gsize length, GError **error)
{
    while (length > 0 && (line[length - 1] == '\r' || line[length - 1] == '\n'))
        length--;
    if (memchr(line, '\0', length))
        return error_set(error, BACKAPP_ERROR_TRANSIENT, "a header of the server's answer has a zero byte in it");
    if (length >= strlen(STATUS_LINE) && memcmp(line, STATUS_LINE, strlen(STATUS_LINE)) == 0)
        return add_status(response, line, length, error);
    const char *colon = memchr(line, ':', length);
    /* A line that is no header says nothing to us. */
    if (!colon || colon == line)
        return TRUE;
    gsize name = (gsize)(colon - line);
    gsize start = name + 1;
    while (start < length && (line[start] == ' ' || line[start] == '\t'))
        start++;
    while (length > start && (line[length - 1] == ' ' || line[length - 1] == '\t'))
        length--;
    char *copy = g_malloc(name + 2 + (length - start) + 1);
    for (gsize i = 0; i < name; i++)
        copy[i] = g_ascii_tolower(line[i]);
    copy[name] = ':';
    copy[name + 1] = ' ';
    memcpy(copy + name + 2, line + start, length - start);
    copy[name + 2 + (length - start)] = '\0';
    g_ptr_array_add(response->headers, copy);
    if (name == 4 && memcmp(copy, "date", 4) == 0)
        response->server_time = http_parse_date(copy + name + 2);
    return TRUE;
}

void http_encode(GString *out, const char *bytes, gssize length, gboolean keep_slash)
{
    static const char digits[] = "0123456789ABCDEF";
    gsize count = length < 0 ? strlen(bytes) : (gsize)length;
    for (gsize i = 0; i < count; i++) {
        guchar c = (guchar)bytes[i];
        if (g_ascii_isalnum((char)c) || c == '-' || c == '.' || c == '_' || c == '~' || (c == '/' && keep_slash)) {
            g_string_append_c(out, (char)c);
        } else {
            const char escape[3] = {'%', digits[c >> 4], digits[c & 0xf]};
            g_string_append_len(out, escape, sizeof escape);
        }
    }
}
