#include "cli/summary_archive.h"

#include "base/human.h"
#include "cli/summary_store.h"
#include "cli/summary_words.h"

#include <string.h>

static void append_files(GString *out, const char *before, guint64 count)
{
    summary_append_count(out, before, count, count == 1 ? " file" : " files");
}

/* "  BEFORE NAME\n" of a name in the summary. */
static void append_name(GString *out, const json_t *archive, const char *key, const char *before)
{
    const char *name = json_string_value(json_object_get(archive, key));
    if (!name)
        return;
    g_autofree char *shown = human_name(name, -1);
    g_string_append_printf(out, "  %s %s\n", before, shown);
}

static void append_stored(GString *out, const json_t *archive)
{
    guint64 tar = summary_count_of(archive, "tarBytes"), stored = summary_count_of(archive, "archiveBytes");
    summary_append_size(out, "  stored ", stored, "");
    if (tar > 0 && stored > 0)
        g_string_append_printf(out, " (%.1f%% of the tar)", 100.0 * (double)stored / (double)tar);
    summary_append_count(out, " in ", summary_count_of(archive, "volumes"),
                         summary_count_of(archive, "volumes") == 1 ? " volume" : " volumes");
    double seconds = json_number_value(json_object_get(archive, "duration"));
    if (seconds >= 0.1)
        summary_append_size(out, ", ", (guint64)((double)tar / seconds), "/s");
    g_string_append_c(out, '\n');
    if (summary_count_of(archive, "resumedBytes") > 0)
        summary_append_size(out, "  of it from an interrupted run: ", summary_count_of(archive, "resumedBytes"), "\n");
}

void summary_append_archive(GString *out, gboolean dry_run, const json_t *archive)
{
    if (!archive)
        return;
    const char *type = json_string_value(json_object_get(archive, "type"));
    append_files(out, dry_run ? "  would archive " : "  archived ", summary_count_of(archive, "filesArchived"));
    summary_append_size(out, ", ", summary_count_of(archive, "bytesArchived"), "");
    append_files(out, "; the source has ", summary_count_of(archive, "filesTotal"));
    summary_append_size(out, ", ", summary_count_of(archive, "bytesTotal"), "\n");
    if (g_strcmp0(type, "full") != 0) {
        summary_append_count(out, "  since the point before: created ", summary_count_of(archive, "filesCreated"), "");
        summary_append_count(out, ", changed ", summary_count_of(archive, "filesChanged"), "");
        summary_append_count(out, ", deleted ", summary_count_of(archive, "filesDeleted"), "");
        summary_append_count(out, ", unchanged ", summary_count_of(archive, "filesUnchanged"), "\n");
    }
    if (!dry_run)
        append_stored(out, archive);
    summary_append_requests(out, dry_run, archive);
    summary_append_if_any(out, archive, "unreadable", " could not be read\n", " could not be read\n");
    summary_append_if_any(out, archive, "changedDuringRead", " changed while it was read\n",
                          " changed while they were read\n");
    summary_append_if_any(out, archive, "vanished", " vanished during the run\n", " vanished during the run\n");
    summary_append_if_any(out, archive, "filesSkipped", " was skipped\n", " were skipped\n");
    append_name(out, archive, "point", dry_run ? "the point would be" : "the point is");
    append_name(out, archive, "parent", "it builds on");
}

void summary_append_archive_proof(GString *out, const json_t *archive)
{
    if (!archive)
        return;
    guint64 points = summary_count_of(archive, "points"),
            wrong = summary_count_of(archive, "damaged") + summary_count_of(archive, "missing");
    append_name(out, archive, "point", "the point");
    summary_append_count(out, "  ", points,
                         points == 1 ? " archive of its chain looked at\n" : " archives of its chain looked at\n");
    if (json_is_true(json_object_get(archive, "full"))) {
        append_files(out, "  every byte was read: ", summary_count_of(archive, "files"));
        summary_append_size(out, ", ", summary_count_of(archive, "bytes"), " proven by their hashes\n");
    } else if (wrong == 0)
        g_string_append(out, "  every index is whole, every volume is there as recorded\n");
    summary_append_if_any(out, archive, "unproven", " file without a hash\n", " files without a hash\n");
    summary_append_if_any(out, archive, "damaged", " DAMAGED\n", " DAMAGED\n");
    summary_append_if_any(out, archive, "missing", " MISSING\n", " MISSING\n");
}

void summary_append_reindexed(GString *out, const json_t *archive)
{
    if (!archive)
        return;
    append_files(out, "  the index was made anew: ", summary_count_of(archive, "files"));
    summary_append_size(out, ", ", summary_count_of(archive, "bytes"), "\n");
    append_name(out, archive, "point", "the point is");
}
