#include "net/sigv4_parts.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *text;
    gsize name, length; /* of the name, and of all; a value begins behind an '=' */
} Part;

typedef struct {
    const char *line;
    gsize name; /* length */
    guint index;
} Header;

static int compare_bytes(const char *a, gsize a_length, const char *b, gsize b_length)
{
    int order = memcmp(a, b, MIN(a_length, b_length));
    return order != 0 ? order : (a_length > b_length) - (a_length < b_length);
}

static int compare_parts(const void *a, const void *b)
{
    const Part *one = a;
    const Part *two = b;
    int order = compare_bytes(one->text, one->name, two->text, two->name);
    return order != 0 ? order
                      : compare_bytes(one->text + one->name, one->length - one->name, two->text + two->name,
                                      two->length - two->name);
}

static gsize count_of(const char *text, char wanted)
{
    gsize count = 0;
    for (; *text; text++)
        count += *text == wanted;
    return count;
}

void sigv4_canonical_query(GString *out, const char *query)
{
    if (!query || *query == '\0')
        return;
    g_autofree Part *parts = g_new(Part, count_of(query, '&') + 1);
    gsize count = 0;
    for (const char *at = query; *at;) {
        gsize length = strcspn(at, "&");
        const char *equals = memchr(at, '=', length);
        if (length > 0)
            parts[count++] = (Part){at, equals ? (gsize)(equals - at) : length, length};
        at += length + (at[length] == '&');
    }
    qsort(parts, count, sizeof *parts, compare_parts);
    for (gsize i = 0; i < count; i++) {
        if (i > 0)
            g_string_append_c(out, '&');
        g_string_append_len(out, parts[i].text, (gssize)parts[i].length);
        if (parts[i].name == parts[i].length)
            g_string_append_c(out, '=');
    }
}

/* Lines of one name stay in their order: their values are joined in it. */
static int compare_headers(const void *a, const void *b)
{
    const Header *one = a;
    const Header *two = b;
    int order = g_ascii_strncasecmp(one->line, two->line, MIN(one->name, two->name));
    if (order == 0)
        order = (one->name > two->name) - (one->name < two->name);
    return order != 0 ? order : (one->index > two->index) - (one->index < two->index);
}

static gboolean is_name(const char *line, gsize length, const char *name)
{
    return strlen(name) == length && g_ascii_strncasecmp(line, name, length) == 0;
}

/* Those that a proxy or libcurl may change on the way. */
static gboolean is_signed(const char *line, gsize length)
{
    return !is_name(line, length, "content-length") && !is_name(line, length, "expect") &&
           !is_name(line, length, "user-agent") && !is_name(line, length, "accept-encoding");
}

static gsize collect_headers(const GPtrArray *headers, const char *host_line, Header *out)
{
    gsize count = 0;
    gboolean host = FALSE;
    for (guint i = 0; headers && i < headers->len; i++) {
        const char *line = headers->pdata[i];
        gsize name = strcspn(line, ":");
        if (line[name] == '\0' || !is_signed(line, name))
            continue;
        host = host || is_name(line, name, "host");
        out[count++] = (Header){line, name, i};
    }
    if (!host)
        out[count++] = (Header){host_line, strlen("host"), 0};
    qsort(out, count, sizeof *out, compare_headers);
    return count;
}

/* Without spaces at the ends, and one space for each run of them inside. */
static void append_value(GString *out, const char *value)
{
    gsize length = strlen(value);
    while (length > 0 && g_ascii_isspace(value[length - 1]))
        length--;
    gsize at = 0;
    while (at < length && g_ascii_isspace(value[at]))
        at++;
    for (gsize start = at; start < length; start = at) {
        while (at < length && value[at] != ' ')
            at++;
        /* With its first space, if there is one. */
        g_string_append_len(out, value + start, (gssize)(at - start + (at < length)));
        while (at < length && value[at] == ' ')
            at++;
    }
}

static void append_lower(GString *out, const char *text, gsize length)
{
    gsize start = out->len;
    g_string_append_len(out, text, (gssize)length);
    for (gsize i = start; i < out->len; i++)
        out->str[i] = g_ascii_tolower(out->str[i]);
}

static void append_headers(const SigRequest *request, const GPtrArray *headers, GString *out, GString *names)
{
    g_autofree char *host_line = g_strconcat("host:", request->host, NULL);
    g_autofree Header *list = g_new(Header, (headers ? headers->len : 0) + 1);
    gsize count = collect_headers(headers, host_line, list);
    for (gsize i = 0; i < count; i++) {
        const char *value = list[i].line + list[i].name + 1;
        if (i > 0 && list[i - 1].name == list[i].name &&
            g_ascii_strncasecmp(list[i - 1].line, list[i].line, list[i].name) == 0) {
            out->str[out->len - 1] = ',';
        } else {
            if (names->len > 0)
                g_string_append_c(names, ';');
            append_lower(names, list[i].line, list[i].name);
            append_lower(out, list[i].line, list[i].name);
            g_string_append_c(out, ':');
        }
        append_value(out, value);
        g_string_append_c(out, '\n');
    }
}

void sigv4_canonical(const SigRequest *request, const char *query, const GPtrArray *headers, const char *payload_hash,
                     GString *out, GString *names)
{
    g_string_append(out, request->method);
    g_string_append_c(out, '\n');
    g_string_append(out, request->path);
    g_string_append_c(out, '\n');
    sigv4_canonical_query(out, query);
    g_string_append_c(out, '\n');
    append_headers(request, headers, out, names);
    g_string_append_c(out, '\n');
    g_string_append_len(out, names->str, (gssize)names->len);
    g_string_append_c(out, '\n');
    g_string_append(out, payload_hash);
}
