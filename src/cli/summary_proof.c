#include "cli/summary_proof.h"

#include "base/human.h"
#include "cli/summary_words.h"
#include "cli/terminal.h"

#include <string.h>

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
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
    g_autofree char *size = human_size(summary_count_of(point, "bytes"));
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
    if (summary_count_of(retention, "pointsLeftOut") > 0)
        summary_append_count(out, "  and ", summary_count_of(retention, "pointsLeftOut"), " older ones\n");
    summary_append_count(out, "  kept ", summary_count_of(retention, "kept"), "");
    summary_append_count(out, dry_run ? ", would remove " : ", removed ",
                         summary_count_of(retention, dry_run ? "wouldGo" : "removed"), "");
    summary_append_size(out, ", ", summary_count_of(retention, "bytesRemoved"), "\n");
    if (summary_count_of(retention, "skipped") > 0)
        summary_append_count(out, "  SKIPPED ", summary_count_of(retention, "skipped"),
                             " that should go, but could not\n");
    if (summary_count_of(retention, "unfinished") > 0)
        summary_append_count(out, "  ", summary_count_of(retention, "unfinished"), " unfinished or without an index\n");
}

void summary_append_drill(GString *out, const json_t *drill)
{
    if (!drill)
        return;
    guint64 files = summary_count_of(drill, "files"), proven = summary_count_of(drill, "proven");
    if (*text_of(drill, "point")) {
        g_autofree char *point = human_name(text_of(drill, "point"), -1);
        g_string_append_printf(out, "  the point %s", point);
        summary_append_count(out, " has ", summary_count_of(drill, "filesTotal"), "");
        summary_append_size(out, summary_count_of(drill, "filesTotal") == 1 ? " file, " : " files, ",
                            summary_count_of(drill, "bytesTotal"), "\n");
    }
    if (files == 0)
        return;
    summary_append_count(out, "  proven restorable: ", proven, "");
    summary_append_count(out, " of ", files, files == 1 ? " file" : " files");
    summary_append_size(out, ", ", summary_count_of(drill, "bytes"), "");
    summary_append_count(out, ", ", summary_count_of(drill, "compared"), " of them equal to their source\n");
    if (summary_count_of(drill, "failed") > 0)
        summary_append_count(out, "  NOT RESTORABLE: ", summary_count_of(drill, "failed"),
                             summary_count_of(drill, "failed") == 1 ? " file\n" : " files\n");
    if (summary_count_of(drill, "unproven") > 0)
        summary_append_count(out, "  NOT PROVEN: ", summary_count_of(drill, "unproven"),
                             summary_count_of(drill, "unproven") == 1 ? " file\n" : " files\n");
    g_string_append_printf(out, "  --seed %" G_GUINT64_FORMAT " chooses the same files again\n",
                           summary_count_of(drill, "seed"));
}
