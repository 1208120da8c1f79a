#include "cli/summary_proof.h"

#include "base/human.h"
#include "cli/terminal.h"

#include <string.h>

static guint64 count_of(const json_t *object, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(object, key));
    return value > 0 ? (guint64)value : 0;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static void append_count(GString *out, const char *before, guint64 count, const char *after)
{
    g_autofree char *text = human_count(count);
    g_string_append_printf(out, "%s%s%s", before, text, after);
}

static void append_size(GString *out, const char *before, guint64 bytes, const char *after)
{
    g_autofree char *text = human_size(bytes);
    g_string_append_printf(out, "%s%s%s", before, text, after);
}

static const char *state_word(const char *state, gboolean dry_run)
{
    static const struct {
        const char *state, *word, *dry_word;
    } known[] = {{"keep", "stays", "stays"},
                 {"go", "NOT REMOVED", "would go"},
                 {"removed", "removed", "would go"},
                 {"skipped", "SKIPPED", "SKIPPED"}};
    for (guint i = 0; i < G_N_ELEMENTS(known); i++)
        if (strcmp(known[i].state, state) == 0)
            return dry_run ? known[i].dry_word : known[i].word;
    return "?";
}

static void append_point(GString *out, gboolean dry_run, const json_t *point)
{
    g_autofree char *name = human_name(text_of(point, "point"), -1);
    g_autofree char *why = terminal_safe(text_of(point, "why"));
    g_autofree char *size = human_size(count_of(point, "bytes"));
    gboolean partial = json_is_true(json_object_get(point, "partial"));
    g_string_append_printf(out, "  %-8s  %s  %s%s: %s\n", state_word(text_of(point, "state"), dry_run), name, size,
                           partial ? ", partial" : "", why);
}

void summary_append_retention(GString *out, gboolean dry_run, const json_t *retention)
{
    if (!retention)
        return;
    const json_t *points = json_object_get(retention, "points");
    g_autofree char *rules = terminal_safe(text_of(retention, "rules"));
    g_string_append_printf(out, "  the rules keep: %s\n", rules);
    for (gsize i = 0; i < json_array_size(points); i++)
        append_point(out, dry_run, json_array_get(points, i));
    if (count_of(retention, "pointsLeftOut") > 0)
        append_count(out, "  and ", count_of(retention, "pointsLeftOut"), " older ones\n");
    append_count(out, "  kept ", count_of(retention, "kept"), "");
    append_count(out, dry_run ? ", would remove " : ", removed ", count_of(retention, dry_run ? "wouldGo" : "removed"),
                 "");
    append_size(out, ", ", count_of(retention, "bytesRemoved"), "\n");
    if (count_of(retention, "skipped") > 0)
        append_count(out, "  SKIPPED ", count_of(retention, "skipped"), " that should go, but could not\n");
    if (count_of(retention, "unfinished") > 0)
        append_count(out, "  ", count_of(retention, "unfinished"), " unfinished or without an index\n");
}

void summary_append_drill(GString *out, const json_t *drill)
{
    if (!drill)
        return;
    guint64 files = count_of(drill, "files"), proven = count_of(drill, "proven");
    if (*text_of(drill, "point")) {
        g_autofree char *point = human_name(text_of(drill, "point"), -1);
        g_string_append_printf(out, "  the point %s", point);
        append_count(out, " has ", count_of(drill, "filesTotal"), "");
        append_size(out, count_of(drill, "filesTotal") == 1 ? " file, " : " files, ", count_of(drill, "bytesTotal"),
                    "\n");
    }
    if (files == 0)
        return;
    append_count(out, "  proven restorable: ", proven, "");
    append_count(out, " of ", files, files == 1 ? " file" : " files");
    append_size(out, ", ", count_of(drill, "bytes"), "");
    append_count(out, ", ", count_of(drill, "compared"), " of them equal to their source\n");
    if (count_of(drill, "failed") > 0)
        append_count(out, "  NOT RESTORABLE: ", count_of(drill, "failed"),
                     count_of(drill, "failed") == 1 ? " file\n" : " files\n");
    if (count_of(drill, "unproven") > 0)
        append_count(out, "  NOT PROVEN: ", count_of(drill, "unproven"),
                     count_of(drill, "unproven") == 1 ? " file\n" : " files\n");
    g_string_append_printf(out, "  --seed %" G_GUINT64_FORMAT " chooses the same files again\n",
                           count_of(drill, "seed"));
}
