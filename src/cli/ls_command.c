#include "cli/command.h"

#include "base/error.h"
#include "base/human.h"
#include "cli/archive_look.h"
#include "cli/inner_paths.h"
#include "cli/job_options.h"
#include "cli/store_args.h"
#include "crypto/key.h"
#include "crypto/secret.h"
#include "engine/restore/source.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { OPT_LONG = 1000, OPT_RECURSIVE };

static const OptionDef options[] = {
    {"at", 0, "WHEN",
     "Show this point: latest (default), a date (2026-11-20), a time (2026-11-20T02:00:00Z), or its name.", OPT_AT},
    {"recursive", 'R', NULL, "Show what is in the folders too.", OPT_RECURSIVE},
    {"long", 'l', NULL, "Show mode, owner, group, size and time too.", OPT_LONG},
    ROW_NAME,
    ROW_PASSPHRASE_FILE,
    ROWS_STORE,
    {"json", 0, NULL, "Print one JSON object a line.", OPT_JSON},
    OPTION_HELP_ROW,
    OPTION_END,
};

/* What is shown, and how. */
typedef struct {
    JobSpec *spec;
    const char *path; /* the spec's; "": everything */
    gboolean detailed, recursive, json;
} Listing;

static void listing_clear(Listing *listing)
{
    job_spec_free(listing->spec);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Listing, listing_clear)

static gboolean prepare(const OptionArgs *args, Listing *listing, GError **error)
{
    guint count = args->operands->len;
    if (count == 0 || *(const char *)g_ptr_array_index(args->operands, 0) == '\0')
        return error_set(error, BACKAPP_ERROR_INVALID, "ls needs a STORE: ls STORE [PATH]");
    if (count > 2)
        return error_set(error, BACKAPP_ERROR_INVALID, "ls takes no more than a STORE and a PATH");
    listing->detailed = options_has(args, OPT_LONG);
    listing->recursive = options_has(args, OPT_RECURSIVE);
    listing->json = options_has(args, OPT_JSON);
    listing->spec = job_spec_new(JOB_RESTORE);
    store_args_set_source(listing->spec, g_ptr_array_index(args->operands, 0));
    if (!inner_paths_add(listing->spec, args, 1, error))
        return FALSE;
    const GPtrArray *paths = listing->spec->options.restore.paths;
    listing->path = paths->len > 0 ? g_ptr_array_index(paths, 0) : "";
    return job_options_apply(listing->spec, args, error) && store_args_passphrase(listing->spec, args, error) &&
           store_args_complete(listing->spec, error) && job_store_validate(&listing->spec->store, "store", error);
}

/* "-rw-r--r--" as ls(1) has it. */
static void describe_mode(guint32 mode, char out[11])
{
    static const char letters[] = "rwxrwxrwx";
    out[0] = S_ISDIR(mode)    ? 'd'
             : S_ISLNK(mode)  ? 'l'
             : S_ISFIFO(mode) ? 'p'
             : S_ISSOCK(mode) ? 's'
             : S_ISBLK(mode)  ? 'b'
             : S_ISCHR(mode)  ? 'c'
                              : '-';
    for (guint i = 0; i < 9; i++)
        out[i + 1] = (mode & (0400U >> i)) != 0 ? letters[i] : '-';
    const struct {
        guint32 bit;
        guint place;
        char letter;
    } special[] = {{S_ISUID, 3, 's'}, {S_ISGID, 6, 's'}, {S_ISVTX, 9, 't'}};
    for (guint i = 0; i < G_N_ELEMENTS(special); i++)
        if (mode & special[i].bit)
            out[special[i].place] =
                out[special[i].place] == 'x' ? special[i].letter : g_ascii_toupper(special[i].letter);
    out[10] = '\0';
}

/* A name, or the number where there is none. */
static char *owner_text(const char *name, guint32 id)
{
    return name ? human_name(name, -1) : g_strdup_printf("%u", id);
}

static void print_long(const S3Entry *entry, const char *path)
{
    char mode[11];
    describe_mode(entry->meta.mode, mode);
    g_autofree char *user = owner_text(entry->user, entry->meta.uid),
                    *group = owner_text(entry->group, entry->meta.gid);
    g_autofree char *size = S_ISREG(entry->meta.mode) ? human_size(entry->meta.size) : g_strdup("-");
    g_autofree char *when = archive_look_time(entry->meta.mtime_s);
    printf("%s %-8s %-8s %10s %s %s", mode, user, group, size, when, path);
    if (entry->target) {
        g_autofree char *target = human_name(entry->target, -1);
        printf(" -> %s", target);
    }
    putchar('\n');
}

static void print(const Listing *listing, const S3Entry *entry)
{
    if (listing->json) {
        json_t *line = json_object();
        archive_look_entry(line, entry);
        archive_look_print(line);
        return;
    }
    g_autofree char *path = archive_look_path(entry);
    if (listing->detailed)
        print_long(entry, path);
    else
        printf("%s\n", path);
}

/* What of an entry's path is below the folder that is listed; NULL: it is not there. "" is what was named itself. */
static const char *below(const Listing *listing, const char *path)
{
    gsize length = strlen(listing->path);
    if (length == 0)
        return path;
    if (strncmp(path, listing->path, length) != 0)
        return NULL;
    return path[length] == '\0' ? "" : path[length] == '/' ? path + length + 1 : NULL;
}

static gboolean show(const Listing *listing, RestoreSource *source, GError **error)
{
    RestoreEntry entry;
    const char *rest = NULL;
    int more = restore_source_seek(source, listing->path, error) ? restore_source_next(source, &entry, error) : -1;
    for (; more > 0 && (rest = below(listing, entry.entry.path)) != NULL && !ferror(stdout);
         more = restore_source_next(source, &entry, error)) {
        /* Of a folder what is in it is shown, not itself. */
        gboolean itself = *rest == '\0' && S_ISDIR(entry.entry.meta.mode);
        if (!itself && (listing->recursive || !strchr(rest, '/')))
            print(listing, &entry.entry);
    }
    return more >= 0;
}

static gboolean list(const Listing *listing, GError **error)
{
    const JobSpec *spec = listing->spec;
    g_assert(spec != NULL);
    guint8 key[KEY_BYTES] = {0};
    gboolean has_key = FALSE;
    g_autoptr(Store) store = engine_open_store(&spec->store, NULL, NULL, error);
    if (!store || !engine_master_key(spec, store, key, &has_key, error))
        return FALSE;
    g_autofree char *directory = engine_store_directory(&spec->store);
    const RestoreSourceOptions from = {.store = store,
                                       .directory = directory,
                                       .name = spec->options.archive.name,
                                       .at = spec->options.restore.at,
                                       .master_key = has_key ? key : NULL};
    g_autoptr(RestoreSource) source = restore_source_open(&from, error);
    gboolean fine = source && show(listing, source, error);
    secret_wipe(key, sizeof key);
    return fine;
}

static int run(const Command *command, const OptionArgs *args)
{
    g_autoptr(GError) error = NULL;
    g_auto(Listing) listing = {0};
    if (!prepare(args, &listing, &error))
        return command_usage_error(command, error);
    gboolean fine = list(&listing, &error);
    return archive_look_end(fine, error);
}

const Command ls_command = {
    .name = "ls",
    .usage = "ls [OPTION]... STORE [PATH]",
    .summary = "show what a point of a backup holds",
    .details = "STORE is what 'backapp restore' takes: s3://BUCKET/PREFIX, or a directory, with\n"
               "archives or a mirror. Shown is what is in the folder PATH at that point, or in\n"
               "the uppermost one; a PATH that is a file is shown itself.",
    .options = options,
    .run = run,
};
