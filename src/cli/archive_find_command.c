#include "cli/archive_command.h"

#include "base/error.h"
#include "base/human.h"
#include "cli/archive_look.h"
#include "cli/job_options.h"
#include "fs/pattern.h"
#include "job/json_name.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* What was there when, as one archive after the other tells of it: what is in an index was new, changed or gone at its
 * point. */
static void print(const ArchiveLook *look, const ArchiveListed *listed, const IndexEntry *entry)
{
    gboolean deleted = (entry->flags & INDEX_DELETED) != 0;
    g_autofree char *when = archive_look_time(listed->name.time);
    if (look->json) {
        json_t *line = json_object();
        json_object_set_new(line, "point", json_string(listed->base));
        json_object_set_new(line, "time", json_string(when));
        json_object_set_new(line, "deleted", json_boolean(deleted));
        if (deleted) {
            json_name_set(line, "path", entry->entry.path);
            json_object_set_new(line, "kind", json_string(meta_kind(entry->entry.meta.mode)));
        } else
            archive_look_entry(line, &entry->entry);
        archive_look_print(line);
        return;
    }
    g_autofree char *path = archive_look_path(&entry->entry), *changed = archive_look_time(entry->entry.meta.mtime_s);
    g_autofree char *size = S_ISREG(entry->entry.meta.mode) ? human_size(entry->entry.meta.size) : g_strdup("");
    const char *type = archive_type_name(listed->name.type);
    printf("%s %-12s %10s  %-20s  %s\n", when, type, deleted ? "" : size, deleted ? "deleted" : changed, path);
}

static gboolean search(const ArchiveLook *look, const ArchiveListed *listed, const PatternList *pattern, guint64 *found,
                       GError **error)
{
    g_autoptr(Index) index = index_open(&look->place.place, listed->base, NULL, error);
    g_autoptr(IndexReader) reader = index ? index_read(index, NULL, FALSE, error) : NULL;
    if (!reader)
        return FALSE;
    IndexEntry entry;
    int more;
    while ((more = index_reader_next(reader, &entry, error)) > 0 && !ferror(stdout)) {
        if (pattern_list_match(pattern, entry.entry.path, S_ISDIR(entry.entry.meta.mode)) != PATTERN_INCLUDE)
            continue;
        print(look, listed, &entry);
        ++*found;
    }
    return more >= 0;
}

static gboolean find(ArchiveLook *look, const PatternList *pattern, GError **error)
{
    g_autoptr(GPtrArray) list = archive_look_open(look, error) ? archive_list(&look->place.place, NULL, error) : NULL;
    if (!list)
        return FALSE;
    guint64 found = 0;
    guint points = 0;
    for (guint i = list->len; i > 0 && !ferror(stdout); i--) {
        const ArchiveListed *listed = g_ptr_array_index(list, i - 1);
        if (!listed->has_index)
            continue;
        points++;
        if (!search(look, listed, pattern, &found, error))
            return FALSE;
    }
    return found > 0 ||
           error_set(error, BACKAPP_ERROR_NOT_FOUND, "nothing in %u point%s matches", points, points == 1 ? "" : "s");
}

static int run(const Command *command, const OptionArgs *args)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(PatternList) pattern = pattern_list_new();
    g_auto(ArchiveLook) look = {0};
    if (args->operands->len != 3) {
        (void)error_set(&error, BACKAPP_ERROR_INVALID, "archive find needs a STORE and one PATTERN");
        return command_usage_error(command, error);
    }
    if (!pattern_list_add(pattern, TRUE, g_ptr_array_index(args->operands, 2), &error) ||
        !archive_look_prepare(args, &look, &error))
        return command_usage_error(command, error);
    gboolean fine = find(&look, pattern, &error);
    return archive_look_end(fine, error);
}

static const int takes[] = {0};

const ArchiveAction archive_find_action = {.name = "find", .takes = takes, .run = run};
