#include "cli/archive_command.h"

#include "base/error.h"
#include "base/human.h"
#include "cli/archive_look.h"
#include "cli/job_options.h"
#include "job/json_name.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* One of the two points, and where its reading is. */
typedef struct {
    Chain *chain;
    ChainReader *reader;
    IndexEntry entry;
    int more; /* of chain_reader_next */
} Side;

static void side_clear(Side *side)
{
    chain_reader_free(side->reader);
    chain_close(side->chain);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Side, side_clear)

static gboolean advance(Side *side, GError **error)
{
    guint number = 0;
    side->more = chain_reader_next(side->reader, &side->entry, &number, error);
    return side->more >= 0;
}

static gboolean open_side(const ArchivePlace *place, const char *at, Side *side, GError **error)
{
    g_autofree char *base = chain_choose(place, at, NULL, error);
    side->chain = base ? chain_open(place, base, NULL, NULL, error) : NULL;
    side->reader = side->chain ? chain_read(side->chain, NULL, FALSE, error) : NULL;
    return side->reader && advance(side, error);
}

static gboolean same_content(const S3Entry *a, const S3Entry *b)
{
    if ((a->meta.mode & S_IFMT) != (b->meta.mode & S_IFMT) || g_strcmp0(a->target, b->target) != 0 ||
        g_strcmp0(a->link, b->link) != 0)
        return FALSE;
    if (S_ISBLK(a->meta.mode) || S_ISCHR(a->meta.mode))
        return a->meta.rdev == b->meta.rdev;
    if (!S_ISREG(a->meta.mode))
        return TRUE;
    if (a->meta.size != b->meta.size)
        return FALSE;
    if (a->part_size > 0 && b->part_size > 0)
        return memcmp(a->hash, b->hash, HASH_BYTES) == 0;
    return meta_same_mtime(&a->meta, &b->meta, 1);
}

static gboolean same_metadata(const S3Entry *a, const S3Entry *b)
{
    return a->meta.mode == b->meta.mode && a->meta.uid == b->meta.uid && a->meta.gid == b->meta.gid &&
           meta_same_mtime(&a->meta, &b->meta, 1) && a->attrs_length == b->attrs_length &&
           (a->attrs_length == 0 || memcmp(a->attrs, b->attrs, a->attrs_length) == 0);
}

static void print(const ArchiveLook *look, const char *action, const S3Entry *entry)
{
    gboolean file = S_ISREG(entry->meta.mode);
    if (look->json) {
        json_t *line = json_object();
        json_object_set_new(line, "action", json_string(action));
        archive_look_entry(line, entry);
        archive_look_print(line);
        return;
    }
    g_autofree char *path = archive_look_path(entry), *size = human_size(entry->meta.size);
    if (file && strcmp(action, "metadata") != 0)
        printf("%-8s %s (%s)\n", action, path, size);
    else
        printf("%-8s %s\n", action, path);
}

static gboolean merge(const ArchiveLook *look, Side *before, Side *after, GError **error)
{
    while ((before->more > 0 || after->more > 0) && !ferror(stdout)) {
        const S3Entry *a = &before->entry.entry, *b = &after->entry.entry;
        int order = before->more <= 0 ? 1
                    : after->more <= 0
                        ? -1
                        : index_compare_paths(a->path, S_ISDIR(a->meta.mode), b->path, S_ISDIR(b->meta.mode));
        if (order < 0)
            print(look, "delete", a);
        else if (order > 0)
            print(look, "create", b);
        else if (!same_content(a, b))
            print(look, "update", b);
        else if (!same_metadata(a, b))
            print(look, "metadata", b);
        if ((order <= 0 && !advance(before, error)) || (order >= 0 && !advance(after, error)))
            return FALSE;
    }
    return TRUE;
}

static int run(const Command *command, const OptionArgs *args)
{
    g_autoptr(GError) error = NULL;
    g_auto(ArchiveLook) look = {0};
    if (args->operands->len != 4) {
        (void)error_set(&error, BACKAPP_ERROR_INVALID, "archive diff needs a STORE and two POINTs");
        return command_usage_error(command, error);
    }
    if (!archive_look_prepare(args, &look, &error))
        return command_usage_error(command, error);
    g_auto(Side) before = {0};
    g_auto(Side) after = {0};
    gboolean fine = archive_look_open(&look, &error) &&
                    open_side(&look.place.place, g_ptr_array_index(args->operands, 2), &before, &error) &&
                    open_side(&look.place.place, g_ptr_array_index(args->operands, 3), &after, &error) &&
                    merge(&look, &before, &after, &error);
    return archive_look_end(fine, error);
}

static const int takes[] = {0};

const ArchiveAction archive_diff_action = {.name = "diff", .takes = takes, .run = run};
