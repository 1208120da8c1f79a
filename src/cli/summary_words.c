#include "cli/summary_words.h"

#include "base/human.h"

guint64 summary_count_of(const json_t *object, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(object, key));
    return value > 0 ? (guint64)value : 0;
}

void summary_append_count(GString *out, const char *before, guint64 count, const char *after)
{
    g_autofree char *text = human_count(count);
    g_string_append_printf(out, "%s%s%s", before, text, after);
}

void summary_append_size(GString *out, const char *before, guint64 bytes, const char *after)
{
    g_autofree char *text = human_size(bytes);
    g_string_append_printf(out, "%s%s%s", before, text, after);
}

void summary_append_if_any(GString *out, const json_t *object, const char *key, const char *one, const char *many)
{
    guint64 count = summary_count_of(object, key);
    if (count > 0)
        summary_append_count(out, "  ", count, count == 1 ? one : many);
}
