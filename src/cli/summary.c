#include "cli/summary.h"

#include "base/human.h"
#include "cli/summary_archive.h"
#include "cli/summary_proof.h"
#include "cli/summary_store.h"
#include "cli/terminal.h"

#include <string.h>

/* The value of a key: at the top, or in the object of the stage it belongs to. */
static const json_t *find(const json_t *summary, const char *key)
{
    static const char *const stages[] = {"stage1", "verify"};
    const json_t *value = json_object_get(summary, key);
    for (guint i = 0; i < G_N_ELEMENTS(stages) && !value; i++)
        value = json_object_get(json_object_get(summary, stages[i]), key);
    return value;
}

guint64 summary_count(const json_t *summary, const char *key)
{
    json_int_t value = json_integer_value(find(summary, key));
    return value > 0 ? (guint64)value : 0;
}

double summary_seconds(const json_t *summary, const char *key)
{
    double value = json_number_value(find(summary, key));
    return value > 0 ? value : 0;
}

const char *summary_text(const json_t *summary, const char *key)
{
    return json_string_value(find(summary, key));
}

/* "1 file", "1,234 files". */
static char *amount(guint64 count, const char *one, const char *many)
{
    g_autofree char *number = human_count(count);
    return g_strdup_printf("%s %s", number, count == 1 ? one : many);
}

static void append_amount(GString *out, const char *before, guint64 count, const char *one, const char *many)
{
    g_autofree char *text = amount(count, one, many);
    g_string_append_printf(out, "%s%s", before, text);
}

static void append_count(GString *out, const char *before, guint64 count)
{
    g_autofree char *number = human_count(count);
    g_string_append_printf(out, "%s%s", before, number);
}

static void append_size(GString *out, const char *before, guint64 bytes)
{
    g_autofree char *size = human_size(bytes);
    g_string_append_printf(out, "%s%s", before, size);
}

/* What was wrong with the source's files, if anything was. */
static void describe_trouble(GString *out, const json_t *summary)
{
    static const struct {
        const char *key, *one, *many;
    } troubles[] = {
        {"unreadable", "could not be read", "could not be read"},
        {"changedDuringRead", "changed while it was read", "changed while they were read"},
        {"vanished", "vanished during the run", "vanished during the run"},
        {"filesSkipped", "was skipped", "were skipped"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(troubles); i++) {
        guint64 count = summary_count(summary, troubles[i].key);
        if (count == 0)
            continue;
        append_amount(out, "  ", count, "file", "files");
        g_string_append_printf(out, " %s\n", count == 1 ? troubles[i].one : troubles[i].many);
    }
}

static void describe_proof(GString *out, const json_t *summary)
{
    guint64 proven = summary_count(summary, "proven"), recorded = summary_count(summary, "recorded");
    guint64 unproven = summary_count(summary, "unproven"), damaged = summary_count(summary, "damaged");
    guint64 missing = summary_count(summary, "missing");
    append_count(out, "  ", proven);
    append_count(out, " equal to their recorded hash, ", recorded);
    append_count(out, " equal to their source and now recorded, ", unproven);
    append_count(out, " not yet proven, ", damaged);
    append_count(out, " damaged, ", missing);
    g_string_append(out, " missing\n");
    if (unproven > 0) {
        append_amount(out, "  NOT YET PROVEN: ", unproven, "file", "files");
        g_string_append(out, " with no recorded hash and no unchanged source to compare with;\n"
                             "  'backapp mirror --verify' records them\n");
    }
}

static void describe_copied(GString *out, gboolean dry_run, const json_t *summary)
{
    guint64 files = summary_count(summary, "filesTransferred"), bytes = summary_count(summary, "bytesTransferred");
    append_amount(out, dry_run ? "  would copy " : "  copied ", files, "file", "files");
    append_size(out, ", ", bytes);
    double seconds = summary_seconds(summary, "duration");
    if (!dry_run && bytes > 0 && seconds >= 0.1) {
        append_size(out, " (", (guint64)((double)bytes / seconds));
        g_string_append(out, "/s)");
    }
    append_amount(out, "; the source has ", summary_count(summary, "filesTotal"), "file", "files");
    append_size(out, ", ", summary_count(summary, "bytesTotal"));
    g_string_append_c(out, '\n');
}

static void describe_mirror(GString *out, gboolean dry_run, const json_t *summary)
{
    if (json_is_true(find(summary, "recovered")))
        g_string_append(out, "  an interrupted run was completed first\n");
    append_count(out, dry_run ? "  would create " : "  created ", summary_count(summary, "filesCreated"));
    append_count(out, dry_run ? ", change " : ", changed ", summary_count(summary, "filesChanged"));
    append_count(out, dry_run ? ", delete " : ", deleted ", summary_count(summary, "filesDeleted"));
    append_count(out, dry_run ? "; unchanged " : ", unchanged ", summary_count(summary, "filesUnchanged"));
    g_string_append_c(out, '\n');
    describe_copied(out, dry_run, summary);
    describe_trouble(out, summary);
    if (find(summary, "verified")) {
        append_amount(out, "  verified: ", summary_count(summary, "verified"), "file is", "files are");
        append_count(out, " proven, ", summary_count(summary, "unproven"));
        append_count(out, " not yet proven, ", summary_count(summary, "damaged"));
        g_string_append(out, " damaged\n");
    }
    /* A name that is not UTF-8 has its printable form beside it. */
    const char *path = summary_text(summary, "localPathPrintable");
    if (!path)
        path = summary_text(summary, "localPath");
    if (path && !dry_run) {
        g_autofree char *shown = terminal_safe(path);
        g_string_append_printf(out, "  the mirror is in %s\n", shown);
    }
}

static void describe_verify(GString *out, const json_t *summary)
{
    append_amount(out, "  read ", summary_count(summary, "files"), "file", "files");
    append_size(out, ", ", summary_count(summary, "bytes"));
    g_string_append_c(out, '\n');
    describe_proof(out, summary);
}

char *summary_describe(JobType type, gboolean dry_run, const json_t *summary)
{
    GString *out = g_string_new(NULL);
    if (!summary)
        return g_string_free(out, FALSE);
    const json_t *stage2 = json_object_get(summary, "stage2");
    switch (type) {
    case JOB_MIRROR:
        describe_mirror(out, dry_run, summary);
        break;
    case JOB_TWO_STAGE:
        if (json_object_get(summary, "stage1"))
            describe_mirror(out, dry_run, summary);
        summary_append_stage2(out, dry_run, stage2);
        break;
    case JOB_S3_MIRROR:
        summary_append_stage2(out, dry_run, stage2);
        summary_append_destinations(out, dry_run, json_object_get(summary, "destinations"));
        break;
    case JOB_RESTORE:
        summary_append_restore(out, dry_run, json_object_get(summary, "restore"));
        break;
    case JOB_VERIFY:
        if (stage2)
            summary_append_store_proof(out, stage2);
        else
            describe_verify(out, summary);
        break;
    case JOB_ARCHIVE:
        summary_append_archive(out, dry_run, json_object_get(summary, "archive"));
        break;
    case JOB_ARCHIVE_VERIFY:
        summary_append_archive_proof(out, json_object_get(summary, "archive"));
        break;
    case JOB_ARCHIVE_REINDEX:
        summary_append_reindexed(out, json_object_get(summary, "archive"));
        break;
    case JOB_ARCHIVE_RETENTION:
        summary_append_retention(out, dry_run, json_object_get(summary, "retention"));
        break;
    case JOB_DRILL:
        summary_append_drill(out, json_object_get(summary, "drill"));
        break;
    case JOB_RECOVER:
        g_string_append(out, json_is_true(find(summary, "recovered")) ? "  the interrupted run was completed\n"
                                                                      : "  there was nothing to complete\n");
        break;
    }
    return g_string_free(out, FALSE);
}

char *summary_item(const Event *item)
{
    const char *action = item->action ? item->action : "?";
    gboolean directory = g_strcmp0(item->kind, "directory") == 0;
    g_autofree char *path = human_name(item->path && *item->path ? item->path : ".", -1);
    GString *out = g_string_new(NULL);
    g_string_append_printf(out, "%-8s %s%s", action, path, directory ? "/" : "");
    if (directory && strcmp(action, "delete") == 0) {
        g_autofree char *entries = amount(MAX(item->files_done, 1), "entry", "entries");
        g_string_append_printf(out, " (%s)", entries);
    } else if (g_strcmp0(item->kind, "file") == 0 &&
               (strcmp(action, "create") == 0 || strcmp(action, "update") == 0 || strcmp(action, "replace") == 0)) {
        g_autofree char *size = human_size(item->bytes_done);
        g_string_append_printf(out, " (%s)", size);
    }
    return g_string_free(out, FALSE);
}
