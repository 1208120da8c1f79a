#include "base/human.h"

#include "base/error.h"

#include <string.h>

char *human_size(guint64 bytes)
{
    static const char units[] = "KMGTPE";
    if (bytes < 1024)
        return g_strdup_printf("%" G_GUINT64_FORMAT " B", bytes);
    for (guint unit = 0;; unit++) {
        guint shift = 10 * (unit + 1);
        guint64 rest = bytes & ((G_GUINT64_CONSTANT(1) << shift) - 1);
        guint64 tenths = (bytes >> shift) * 10 + ((rest * 10 + (G_GUINT64_CONSTANT(1) << (shift - 1))) >> shift);
        /* What would round to "1024.0 KiB" reads as "1.0 MiB". */
        if (tenths < 10240 || units[unit + 1] == '\0')
            return g_strdup_printf("%" G_GUINT64_FORMAT ".%" G_GUINT64_FORMAT " %ciB", tenths / 10, tenths % 10,
                                   units[unit]);
    }
}

static char *two_units(guint64 large, const char *large_name, guint64 small, const char *small_name)
{
    if (small == 0)
        return g_strdup_printf("%" G_GUINT64_FORMAT " %s", large, large_name);
    return g_strdup_printf("%" G_GUINT64_FORMAT " %s %" G_GUINT64_FORMAT " %s", large, large_name, small, small_name);
}

char *human_duration(double seconds)
{
    /* The comparison is written so that NaN counts as nothing too. */
    if (!(seconds > 0))
        seconds = 0;
    seconds = MIN(seconds, 1e15);
    guint64 tenths = (guint64)(seconds * 10 + 0.5);
    if (tenths < 100)
        return g_strdup_printf("%" G_GUINT64_FORMAT ".%" G_GUINT64_FORMAT " s", tenths / 10, tenths % 10);
    guint64 whole = (guint64)(seconds + 0.5);
    if (whole < 60)
        return g_strdup_printf("%" G_GUINT64_FORMAT " s", whole);
    if (whole < 3600)
        return two_units(whole / 60, "min", whole % 60, "s");
    if (whole < 86400)
        return two_units(whole / 3600, "h", whole % 3600 / 60, "min");
    return two_units(whole / 86400, "d", whole % 86400 / 3600, "h");
}

char *human_count(guint64 count)
{
    char digits[32];
    char out[48];
    gsize length = (gsize)g_snprintf(digits, sizeof digits, "%" G_GUINT64_FORMAT, count);
    gsize used = 0;
    for (gsize i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            out[used++] = ',';
        out[used++] = digits[i];
    }
    return g_strndup(out, used);
}

/* Reads decimal digits at *at into *value; FALSE if there is none or they do not fit. */
static gboolean read_digits(const char **at, guint64 *value)
{
    if (!g_ascii_isdigit(**at))
        return FALSE;
    for (*value = 0; g_ascii_isdigit(**at); (*at)++) {
        guint64 digit = (guint64)g_ascii_digit_value(**at);
        if (!g_uint64_checked_mul(value, *value, 10) || !g_uint64_checked_add(value, *value, digit))
            return FALSE;
    }
    return TRUE;
}

/* Reads ".5" at *at as a fraction *part / *scale. Digits that cannot change a result are passed over. */
static gboolean read_fraction(const char **at, guint64 *part, guint64 *scale)
{
    (*at)++;
    if (!g_ascii_isdigit(**at))
        return FALSE;
    for (; g_ascii_isdigit(**at); (*at)++) {
        if (*scale >= G_GUINT64_CONSTANT(1000000000000000000))
            continue;
        *part = *part * 10 + (guint64)g_ascii_digit_value(**at);
        *scale *= 10;
    }
    return TRUE;
}

/* Reads what may follow the number, up to the end of the text: how far to shift, or -1. */
static int read_unit(const char *at)
{
    static const char units[] = "KMGTP";
    if (*at == ' ')
        at++;
    int shift = 0;
    const char *unit = *at ? strchr(units, g_ascii_toupper(*at)) : NULL;
    if (unit) {
        shift = 10 * (int)(unit - units + 1);
        at++;
        if (*at == 'i' && g_ascii_toupper(at[1]) == 'B')
            at++;
    }
    if (g_ascii_toupper(*at) == 'B')
        at++;
    return *at == '\0' ? shift : -1;
}

static gboolean parse_size(const char *text, guint64 *bytes)
{
    const char *at = text;
    guint64 whole = 0, part = 0, scale = 1;
    if (!read_digits(&at, &whole))
        return FALSE;
    if (*at == '.' && !read_fraction(&at, &part, &scale))
        return FALSE;
    if (*at == ' ' && at[1] == '\0')
        return FALSE;
    int shift = read_unit(at);
    /* Half a byte is nobody's intention. */
    if (shift < 0 || (shift == 0 && scale > 1) || whole > ((guint64)G_MAXINT64 >> shift))
        return FALSE;
    unsigned __int128 extra = ((unsigned __int128)part << shift) / scale;
    /* extra is below 1 << shift, so the sum stays within 63 bits as well. */
    *bytes = (whole << shift) + (guint64)extra;
    return TRUE;
}

gboolean human_parse_size(const char *text, guint64 *bytes, GError **error)
{
    if (text && parse_size(text, bytes))
        return TRUE;
    g_autofree char *shown = human_name(text ? text : "", -1);
    return error_set(error, BACKAPP_ERROR_INVALID,
                     "'%s' is not a size: write a number with K, M, G, T or P behind it, as in 10M or 1.5G", shown);
}

gboolean human_parse_number(const char *text, guint64 min, guint64 max, const char *what, guint64 *value,
                            GError **error)
{
    const char *at = text ? text : "";
    guint64 parsed = 0;
    if (read_digits(&at, &parsed) && *at == '\0' && parsed >= min && parsed <= max) {
        *value = parsed;
        return TRUE;
    }
    g_autofree char *shown = human_name(text ? text : "", -1);
    return error_set(error, BACKAPP_ERROR_INVALID,
                     "%s must be a whole number from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT ", not '%s'", what,
                     min, max, shown);
}

/* Whether a terminal would show the character as itself and nothing else. */
static gboolean is_harmless(gunichar c)
{
    switch (g_unichar_type(c)) {
    case G_UNICODE_CONTROL:
    case G_UNICODE_FORMAT:
    case G_UNICODE_PRIVATE_USE:
    case G_UNICODE_SURROGATE:
    case G_UNICODE_LINE_SEPARATOR:
    case G_UNICODE_PARAGRAPH_SEPARATOR:
        return FALSE;
    default:
        return TRUE;
    }
}

/* How many bytes at `at` form one character that may stay; 0 if the first byte must be escaped. *together is set to how
 * many bytes belong together either way. */
static gsize harmless_length(const char *at, gsize left, gsize *together)
{
    *together = 1;
    guint8 first = (guint8)*at;
    if (first < 0x80)
        return first >= 0x20 && first < 0x7f ? 1 : 0;
    gunichar c = g_utf8_get_char_validated(at, (gssize)left);
    if (c == (gunichar)-1 || c == (gunichar)-2)
        return 0;
    *together = (gsize)(g_utf8_next_char(at) - at);
    return is_harmless(c) ? *together : 0;
}

char *human_name(const char *bytes, gssize length)
{
    gsize size = length < 0 ? strlen(bytes) : (gsize)length;
    GString *out = g_string_sized_new(size + 1);
    for (gsize i = 0; i < size;) {
        gsize together;
        gsize stays = harmless_length(bytes + i, size - i, &together);
        if (bytes[i] == '\\')
            g_string_append(out, "\\\\");
        else if (bytes[i] == '\n')
            g_string_append(out, "\\n");
        else if (bytes[i] == '\t')
            g_string_append(out, "\\t");
        else if (stays > 0)
            g_string_append_len(out, bytes + i, (gssize)stays);
        else
            for (gsize j = 0; j < together; j++)
                g_string_append_printf(out, "\\x%02X", (guint)(guint8)bytes[i + j]);
        i += together;
    }
    return g_string_free(out, FALSE);
}
