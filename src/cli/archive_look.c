#include "cli/archive_look.h"

#include "base/error.h"
#include "base/human.h"
#include "cli/archive_options.h"
#include "cli/store_args.h"
#include "cli/terminal.h"
#include "job/event.h"
#include "job/json_name.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

void archive_look_clear(ArchiveLook *look)
{
    engine_place_clear(&look->place);
    job_spec_free(look->spec);
    *look = (ArchiveLook){0};
}

gboolean archive_look_prepare(const OptionArgs *args, ArchiveLook *look, GError **error)
{
    look->json = options_has(args, OPT_JSON);
    look->spec = job_spec_new(JOB_ARCHIVE_VERIFY);
    store_args_set_source(look->spec, g_ptr_array_index(args->operands, 1));
    return archive_options_apply(look->spec, args, error) && store_args_passphrase(look->spec, args, error) &&
           store_args_complete(look->spec, error) && job_spec_validate(look->spec, error);
}

gboolean archive_look_open(ArchiveLook *look, GError **error)
{
    return engine_place_open(look->spec, &look->spec->store, NULL, NULL, &look->place, error);
}

int archive_look_end(gboolean fine, const GError *error)
{
    int code = command_finish_output();
    if (fine)
        return code;
    g_autofree char *message = terminal_safe(error->message);
    fprintf(stderr, "backapp: failed: %s\n", message);
    return job_status_exit_code(JOB_FAILED);
}

char *archive_look_time(gint64 seconds)
{
    g_autoptr(GDateTime) time = g_date_time_new_from_unix_utc(seconds);
    return time ? g_date_time_format(time, "%Y-%m-%dT%H:%M:%SZ") : g_strdup("?");
}

void archive_look_print(json_t *line)
{
    g_autofree char *text = json_line_print(line);
    fputs(text, stdout);
}

void archive_look_entry(json_t *line, const S3Entry *entry)
{
    const FileMeta *meta = &entry->meta;
    json_name_set(line, "path", entry->path);
    json_object_set_new(line, "kind", json_string(meta_kind(meta->mode)));
    g_autofree char *mode = g_strdup_printf("%04o", meta->mode & 07777U);
    json_object_set_new(line, "mode", json_string(mode));
    if (S_ISREG(meta->mode))
        json_object_set_new(line, "size", json_line_count(meta->size));
    g_autofree char *when = archive_look_time(meta->mtime_s);
    json_object_set_new(line, "mtime", json_string(when));
    json_object_set_new(line, "uid", json_integer(meta->uid));
    json_object_set_new(line, "gid", json_integer(meta->gid));
    json_name_set(line, "user", entry->user);
    json_name_set(line, "group", entry->group);
    json_name_set(line, "target", entry->target);
    json_name_set(line, "link", entry->link);
}

char *archive_look_path(const S3Entry *entry)
{
    g_autofree char *shown = human_name(*entry->path ? entry->path : ".", -1);
    return g_strconcat(shown, S_ISDIR(entry->meta.mode) ? "/" : "", NULL);
}
