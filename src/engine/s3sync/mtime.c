#include "engine/s3sync/mtime.h"

#include <stdio.h>
#include <string.h>

#define NS_PER_S   1000000000
#define NS_DIGITS  9
#define DIGITS_MAX 18 /* of the seconds: what fits in 63 bits whatever they are */

void mtime_format(gint64 seconds, guint32 ns, char text[MTIME_TEXT_BYTES])
{
    gboolean negative = seconds < 0;
    guint64 whole = negative ? 0 - (guint64)seconds : (guint64)seconds;
    /* -1 s and 0.25 s is -0.75. */
    if (negative && ns > 0) {
        whole--;
        ns = NS_PER_S - ns;
    }
    int length = snprintf(text, MTIME_TEXT_BYTES, "%s%" G_GUINT64_FORMAT ".%09u", negative ? "-" : "", whole, ns);
    while (length > 0 && text[length - 1] == '0')
        length--;
    if (length > 0 && text[length - 1] == '.')
        length--;
    text[length] = '\0';
}

gboolean mtime_parse(const char *text, gint64 *seconds, guint32 *ns)
{
    if (text == NULL)
        return FALSE;
    gboolean negative = *text == '-';
    text += negative ? 1 : 0;
    gint64 whole = 0;
    guint digits = 0;
    for (; g_ascii_isdigit(*text); text++, digits++) {
        if (digits == DIGITS_MAX)
            return FALSE;
        whole = whole * 10 + (*text - '0');
    }
    guint32 part = 0;
    if (digits > 0 && *text == '.') {
        text++;
        guint decimals = 0;
        for (; g_ascii_isdigit(*text); text++) {
            if (decimals < NS_DIGITS) {
                part = part * 10 + (guint32)(*text - '0');
                decimals++;
            }
        }
        for (; decimals < NS_DIGITS; decimals++)
            part *= 10;
    }
    if (digits == 0 || *text != '\0')
        return FALSE;
    *seconds = negative ? -whole - (part > 0 ? 1 : 0) : whole;
    *ns = negative && part > 0 ? NS_PER_S - part : part;
    return TRUE;
}
