#include "cli/archive_command.h"

#include "base/error.h"
#include "base/human.h"
#include "base/pool.h"
#include "cli/archive_look.h"
#include "cli/job_options.h"
#include "cli/terminal.h"
#include "job/event.h"
#include "job/json_name.h"

#include <stdio.h>
#include <string.h>

/* Each index is two requests to a store that may be far away. */
#define THREADS 16
/* So many are read before they are printed: what is held of each is small, but there may be very many. */
#define BATCH 64

/* One archive and what its index says of it. */
typedef struct {
    const ArchivePlace *place;
    const ArchiveListed *listed;
    Index *index; /* NULL: none, or it cannot be read */
    GError *error;
} Line;

static void read_index(gpointer item, gpointer user_data)
{
    Line *line = item;
    line->index = index_open(line->place, line->listed->base, NULL, &line->error);
}

static void line_clear(gpointer data)
{
    Line *line = data;
    index_close(line->index);
    g_clear_error(&line->error);
}

static const char *codec_name(ArchiveCodec codec)
{
    return codec == ARCHIVE_GZIP ? "gzip" : codec == ARCHIVE_ZSTD ? "zstd" : "none";
}

static void print_json(const Line *line)
{
    const ArchiveListed *listed = line->listed;
    json_t *object = json_object();
    g_autofree char *when = archive_look_time(listed->name.time);
    json_object_set_new(object, "name", json_string(line->place->name));
    json_object_set_new(object, "point", json_string(listed->base));
    json_object_set_new(object, "time", json_string(when));
    json_object_set_new(object, "type", json_string(archive_type_name(listed->name.type)));
    json_object_set_new(object, "codec", json_string(codec_name(listed->name.codec)));
    json_object_set_new(object, "encrypted", json_boolean(listed->name.encrypted));
    json_object_set_new(object, "unfinished", json_boolean(!listed->has_index));
    json_object_set_new(object, "stored", json_line_count(listed->stored_bytes + listed->index_size));
    json_object_set_new(object, "volumes", json_integer(listed->volumes));
    if (line->index) {
        const ArchivePoint *point = index_point(line->index);
        json_object_set_new(object, "files", json_line_count(point->files));
        json_object_set_new(object, "directories", json_line_count(point->directories));
        json_object_set_new(object, "bytes", json_line_count(point->bytes));
        json_object_set_new(object, "entries", json_line_count(point->entries));
        json_object_set_new(object, "deletions", json_line_count(point->deletions));
        json_object_set_new(object, "unread", json_line_count(point->unread));
        json_object_set_new(object, "partial", json_boolean(point->partial));
        if (point->parent)
            json_object_set_new(object, "parent", json_name_text(point->parent));
    }
    if (line->error)
        json_object_set_new(object, "problem", json_name_text(line->error->message));
    archive_look_print(object);
}

static void print_text(const Line *line)
{
    const ArchiveListed *listed = line->listed;
    g_autofree char *stored = human_size(listed->stored_bytes + listed->index_size);
    g_autofree char *name = human_name(line->place->name, -1);
    printf("%s/%s  ", name, listed->base);
    if (!listed->has_index) {
        printf("%s stored, UNFINISHED: it has no index\n", stored);
        return;
    }
    if (!line->index) {
        g_autofree char *problem = terminal_safe(line->error != NULL ? line->error->message : "");
        printf("%s stored, CANNOT BE READ: %s\n", stored, problem);
        return;
    }
    const ArchivePoint *point = index_point(line->index);
    g_autofree char *files = human_count(point->files), *size = human_size(point->bytes);
    printf("%s file%s, %s, %s stored", files, point->files == 1 ? "" : "s", size, stored);
    if (point->parent) {
        g_autofree char *parent = human_name(point->parent, -1);
        printf(", since %s", parent);
    }
    printf("%s\n", point->partial ? ", some files could not be read" : "");
}

/* Reads the indexes of some archives at once and prints them in order. FALSE in *sound if one is damaged. */
static gboolean print_batch(const ArchiveLook *look, const ArchivePlace *place, GPtrArray *list, guint from,
                            gboolean *sound, GError **error)
{
    guint count = MIN(BATCH, list->len - from);
    g_autoptr(GArray) lines = g_array_sized_new(FALSE, TRUE, sizeof(Line), count);
    g_array_set_clear_func(lines, line_clear);
    g_array_set_size(lines, count);
    g_autoptr(Pool) pool = pool_new("indexes", MIN(THREADS, count), count, read_index, NULL, error);
    if (!pool)
        return FALSE;
    for (guint i = 0; i < count; i++) {
        Line *line = &g_array_index(lines, Line, i);
        line->place = place;
        line->listed = g_ptr_array_index(list, from + i);
        if (line->listed->has_index)
            pool_push(pool, line);
    }
    pool_wait(pool);
    for (guint i = 0; i < count; i++) {
        const Line *line = &g_array_index(lines, Line, i);
        /* Without the key what the names say is all there is to see, and nothing is wrong with it. */
        *sound = *sound && (!line->error || error_is(line->error, BACKAPP_ERROR_DENIED));
        if (look->json)
            print_json(line);
        else
            print_text(line);
    }
    return TRUE;
}

static gboolean list_place(const ArchiveLook *look, const ArchivePlace *place, gboolean *sound, GError **error)
{
    g_autoptr(GPtrArray) list = archive_list(place, NULL, error);
    if (!list)
        return FALSE;
    for (guint i = 0; i < list->len && !ferror(stdout); i += BATCH)
        if (!print_batch(look, place, list, i, sound, error))
            return FALSE;
    return TRUE;
}

/* The place that was named, or all there are. */
static gboolean list(ArchiveLook *look, gboolean *sound, GError **error)
{
    if (look->spec->options.archive.name)
        return archive_look_open(look, error) && list_place(look, &look->place.place, sound, error);
    g_autoptr(Store) store = engine_open_store(&look->spec->store, NULL, NULL, error);
    g_autoptr(GPtrArray) names = store ? archive_places(store, NULL, error) : NULL;
    if (!names)
        return FALSE;
    if (names->len == 0)
        return error_set(error, BACKAPP_ERROR_NOT_FOUND, "%s holds no archives: no folder below it has any",
                         store->url);
    gboolean fine = TRUE;
    for (guint i = 0; i < names->len && fine; i++) {
        g_free(look->spec->options.archive.name);
        look->spec->options.archive.name = g_strdup(g_ptr_array_index(names, i));
        engine_place_clear(&look->place);
        fine = archive_look_open(look, error) && list_place(look, &look->place.place, sound, error);
    }
    return fine;
}

static int run(const Command *command, const OptionArgs *args)
{
    g_autoptr(GError) error = NULL;
    g_auto(ArchiveLook) look = {0};
    if (args->operands->len > 2) {
        (void)error_set(&error, BACKAPP_ERROR_INVALID, "archive list takes no more than a STORE");
        return command_usage_error(command, error);
    }
    if (!archive_look_prepare(args, &look, &error))
        return command_usage_error(command, error);
    gboolean sound = TRUE;
    gboolean fine = list(&look, &sound, &error);
    int code = archive_look_end(fine, error);
    return code != 0 || sound ? code : job_status_exit_code(JOB_PARTIAL);
}

static const int takes[] = {0};

const ArchiveAction archive_list_action = {.name = "list", .takes = takes, .run = run};
