#include "cli/summary_store.h"

#include "base/human.h"
#include "cli/summary_words.h"
#include "cli/terminal.h"

#include <string.h>

/* "1 file", "1,234 files". */
static void append_amount(GString *out, const char *before, guint64 count, const char *one, const char *many)
{
    summary_append_count(out, before, count, count == 1 ? one : many);
}

void summary_append_requests(GString *out, gboolean dry_run, const json_t *stage2)
{
    const json_t *requests = json_object_get(stage2, "requests");
    static const char *const kinds[] = {"put", "copy", "get", "head", "list", "delete", "other"};
    guint64 sum = 0;
    GString *detail = g_string_new(NULL);
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
        guint64 count = summary_count_of(requests, kinds[i]);
        sum += count;
        if (count > 0)
            g_string_append_printf(detail, "%s%s %" G_GUINT64_FORMAT, detail->len > 0 ? ", " : "", kinds[i], count);
    }
    append_amount(out, "  ", sum, " request", " requests");
    if (dry_run)
        g_string_append(out, " for this plan");
    if (detail->len > 0)
        g_string_append_printf(out, " (%s)", detail->str);
    g_string_free(detail, TRUE);
    double cost = json_number_value(json_object_get(stage2, "estimatedCost"));
    const char *currency = json_string_value(json_object_get(stage2, "currency"));
    if (cost >= 0.00005 && currency)
        g_string_append_printf(out, ", about %.4f %s", cost, strcmp(currency, "USD") == 0 ? "US dollars" : currency);
    g_string_append_c(out, '\n');
}

static void append_place(GString *out, const json_t *stage2)
{
    const char *path = json_string_value(json_object_get(stage2, "s3PathPrintable"));
    if (!path)
        path = json_string_value(json_object_get(stage2, "s3Path"));
    if (!path)
        return;
    g_autofree char *shown = terminal_safe(path);
    g_string_append_printf(out, "  the copy is in %s\n", shown);
}

static void append_proof(GString *out, const json_t *stage2)
{
    summary_append_if_any(out, stage2, "verified", " object verified\n", " objects verified\n");
    summary_append_if_any(out, stage2, "damaged", " DAMAGED object\n", " DAMAGED objects\n");
    summary_append_if_any(out, stage2, "missing", " MISSING object\n", " MISSING objects\n");
}

static void append_work(GString *out, gboolean dry_run, const json_t *stage2)
{
    append_amount(out, dry_run ? "  would upload " : "  uploaded ", summary_count_of(stage2, "filesUploaded"), " file",
                  " files");
    summary_append_size(out, ", ", summary_count_of(stage2, "bytesUploaded"), "");
    summary_append_count(out, dry_run ? "; copy inside the store " : "; copied inside the store ",
                         summary_count_of(stage2, "filesCopied"), "");
    summary_append_count(out, dry_run ? ", delete " : ", deleted ", summary_count_of(stage2, "filesDeleted"), "");
    summary_append_count(out, "; unchanged ", summary_count_of(stage2, "filesUnchanged"), "\n");
    if (summary_count_of(stage2, "bytesSaved") > 0)
        summary_append_size(out, "  not sent because it was there already: ", summary_count_of(stage2, "bytesSaved"),
                            "\n");
    summary_append_requests(out, dry_run, stage2);
    summary_append_if_any(out, stage2, "unreadable", " could not be read\n", " could not be read\n");
    summary_append_if_any(out, stage2, "changedDuringRead", " changed while it was read\n",
                          " changed while they were read\n");
    summary_append_if_any(out, stage2, "vanished", " vanished during the run\n", " vanished during the run\n");
    summary_append_if_any(out, stage2, "filesSkipped", " was skipped\n", " were skipped\n");
    append_proof(out, stage2);
}

void summary_append_store_proof(GString *out, const json_t *stage2)
{
    if (summary_count_of(stage2, "verified") == 0)
        g_string_append(out, "  0 objects verified\n");
    append_proof(out, stage2);
    summary_append_requests(out, FALSE, stage2);
}

void summary_append_stage2(GString *out, gboolean dry_run, const json_t *stage2)
{
    if (!stage2)
        return;
    append_work(out, dry_run, stage2);
    if (!dry_run)
        append_place(out, stage2);
}

void summary_append_destinations(GString *out, gboolean dry_run, const json_t *destinations)
{
    for (gsize i = 0; i < json_array_size(destinations); i++) {
        const json_t *one = json_array_get(destinations, i);
        const char *url = json_string_value(json_object_get(one, "url"));
        const char *status = json_string_value(json_object_get(one, "status"));
        const char *error = json_string_value(json_object_get(one, "error"));
        g_autofree char *shown_url = human_name(url ? url : "?", -1);
        g_autofree char *shown_status = human_name(status ? status : "?", -1);
        g_string_append_printf(out, " %s: %s\n", shown_url, shown_status);
        if (error) {
            g_autofree char *shown = terminal_safe(error);
            g_string_append_printf(out, "  %s\n", shown);
        }
        const json_t *stage2 = json_object_get(one, "stage2");
        if (stage2 && error)
            append_work(out, dry_run, stage2);
        else
            summary_append_stage2(out, dry_run, stage2);
    }
}

void summary_append_restore(GString *out, gboolean dry_run, const json_t *restore)
{
    append_amount(out, dry_run ? "  would restore " : "  restored ", summary_count_of(restore, "filesRestored"),
                  " file", " files");
    summary_append_size(out, ", ", summary_count_of(restore, "bytesRestored"), "");
    summary_append_count(out, "; already right ", summary_count_of(restore, "filesUnchanged"), "");
    summary_append_count(out, dry_run ? ", to delete " : ", deleted ", summary_count_of(restore, "filesDeleted"), "\n");
    summary_append_if_any(out, restore, "filesRenamed", " file that was in the way kept under another name\n",
                          " files that were in the way kept under another name\n");
    summary_append_if_any(out, restore, "filesSkipped", " skipped\n", " skipped\n");
    summary_append_if_any(out, restore, "cold", " is in cold storage and must be thawed first (--thaw DAYS)\n",
                          " are in cold storage and must be thawed first (--thaw DAYS)\n");
    summary_append_if_any(out, restore, "damaged", " DAMAGED in the store\n", " DAMAGED in the store\n");
    summary_append_if_any(out, restore, "missing", " MISSING in the store\n", " MISSING in the store\n");
    const char *point = json_string_value(json_object_get(restore, "point"));
    if (point) {
        g_autofree char *shown = human_name(point, -1);
        g_string_append_printf(out, "  restored from the point %s\n", shown);
    }
}
