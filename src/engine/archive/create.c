/* archive_create: choose, plan, write, record, verify. */
#include "engine/archive/archive.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/error.h"
#include "base/human.h"
#include "crypto/tink.h"
#include "engine/archive/create_write.h"
#include "engine/archive/resume.h"
#include "engine/archive/verify.h"
#include "engine/source/folders.h"
#include "fs/dir.h"
#include "store/drivers.h"
#include "store/lock_object.h"

#define DAY_S            86400
#define RESUME_MAX_S     (7 * (gint64)DAY_S)
#define CLOCK_AHEAD_S    3600
#define MULTIPLE_PERCENT 101 /* what does not compress becomes a little longer */

typedef struct {
    CreateRun run;
    const ArchiveOptions *options;
    ArchiveStats *stats;
    Store *store; /* below PREFIX/NAME/ */
    LockObject *lock;
    int state_fd;
    GPtrArray *listed;   /* of ArchiveListed, newest first */
    ArchivePoint *point; /* that is being made */
    CreateTotals totals;
    CreatePlan *plan;
    Resume resume;          /* point NULL: nothing is resumed */
    guint8 how[HASH_BYTES]; /* as Resume.how */
    gint64 began;
} Create;

void archive_options_default(ArchiveOptions *options)
{
    *options = (ArchiveOptions){.type = ARCHIVE_INCREMENTAL,
                                .codec = ARCHIVE_GZIP,
                                .level = ARCHIVE_LEVEL_DEFAULT,
                                .volume_size = ARCHIVE_VOLUME_DEFAULT,
                                .full_every_days = ARCHIVE_FULL_EVERY,
                                .acls = TRUE,
                                .xattrs = TRUE};
}

void archive_stats_clear(ArchiveStats *stats)
{
    g_clear_pointer(&stats->point, g_free);
    g_clear_pointer(&stats->parent, g_free);
}

void create_warn(CreateRun *run, const char *code, const char *path, const char *message)
{
    run->stats->partial = TRUE;
    run->options->sink->warning(run->options->sink, code, path, message);
}

void create_note(CreateRun *run, const char *path, const char *message)
{
    run->options->sink->warning(run->options->sink, "note", path, message);
}

const char *create_path_in_source(const CreateSource *source, const char *path)
{
    gsize length = strlen(source->folder);
    if (length == 0)
        return path;
    if (strncmp(path, source->folder, length) != 0 || (path[length] != '\0' && path[length] != '/'))
        return NULL;
    return path[length] == '/' ? path + length + 1 : path + length;
}

const char *create_archive_path(const CreateSource *source, const char *path, GString *out)
{
    g_string_assign(out, source->folder);
    if (out->len > 0 && path[0] != '\0')
        g_string_append_c(out, '/');
    g_string_append(out, path);
    return out->str;
}

/* ---- sources ---- */

static void clear_source(gpointer data)
{
    CreateSource *source = data;
    g_free(source->folder);
    fd_clear(&source->root_fd);
}

static int compare_sources(gconstpointer a, gconstpointer b)
{
    return index_compare_paths(((const CreateSource *)a)->folder, TRUE, ((const CreateSource *)b)->folder, TRUE);
}

static gboolean open_sources(Create *create, GError **error)
{
    g_auto(GStrv) folders = source_folders(create->options->sources, error);
    if (folders == NULL)
        return FALSE;
    for (guint i = 0; create->options->sources[i] != NULL; i++) {
        const char *path = create->options->sources[i];
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            return error_set_errno(error, errno, "cannot open the source %s", path);
        CreateSource source = {.path = path, .folder = g_strdup(folders[i]), .root_fd = fd};
        g_array_append_val(create->run.sources, source);
    }
    g_array_sort(create->run.sources, compare_sources);
    return TRUE;
}

/* ---- which point, on what ---- */

/* The newest archive that is a point, of a type (0: any). NULL if there is none. */
static const ArchiveListed *newest(const Create *create, ArchiveType type)
{
    for (guint i = 0; i < create->listed->len; i++) {
        const ArchiveListed *listed = g_ptr_array_index(create->listed, i);
        if (listed->has_index && (type == 0 || listed->name.type == type))
            return listed;
    }
    return NULL;
}

/* The point that this one is made on; NULL: it is a full one. */
static const ArchiveListed *choose_parent(const Create *create, gint64 now)
{
    const ArchiveOptions *options = create->options;
    const ArchiveListed *full = newest(create, ARCHIVE_FULL);
    if (options->type == ARCHIVE_FULL || full == NULL)
        return NULL;
    if (options->full_every_days > 0 && now - full->name.time >= (gint64)options->full_every_days * DAY_S)
        return NULL;
    return options->type == ARCHIVE_DIFFERENTIAL ? full : newest(create, 0);
}

static const ArchiveListed *find_listed(const Create *create, const char *base)
{
    for (guint i = 0; i < create->listed->len; i++) {
        const ArchiveListed *listed = g_ptr_array_index(create->listed, i);
        if (g_str_equal(listed->base, base))
            return listed;
    }
    return NULL;
}

/* All volumes of the chain are in the list, as long as they were. */
static gboolean is_whole(const Create *create, GError **error)
{
    for (guint i = 0; i < chain_length(create->run.chain); i++) {
        const ArchivePoint *point = index_point(chain_index(create->run.chain, i));
        const ArchiveListed *listed = find_listed(create, point->base);
        guint64 bytes = 0;
        for (guint j = 0; j < point->volumes->len; j++)
            bytes += g_array_index(point->volumes, ArchiveVolume, j).size;
        if (listed == NULL || listed->volumes != point->volumes->len || listed->stored_bytes != bytes)
            return error_set(error, BACKAPP_ERROR_CORRUPT, "volumes of %s are missing, or are not as they were",
                             point->base);
    }
    return TRUE;
}

/* A chain that does not hold asks for a new full archive; what only cannot be read now ends the run. */
static gboolean open_parent(Create *create, const ArchiveListed *parent, GError **error)
{
    if (parent == NULL)
        return TRUE;
    g_autoptr(GError) local = NULL;
    gboolean broken = FALSE;
    create->run.chain = chain_open(&create->options->place, parent->base, create->options->cancel, &broken, &local);
    gboolean whole = create->run.chain != NULL && is_whole(create, &local);
    if (whole && chain_length(create->run.chain) < ARCHIVE_CHAIN_MAX)
        return TRUE;
    if (whole) {
        g_clear_pointer(&create->run.chain, chain_close);
        create_note(&create->run, NULL,
                    "the row of incremental archives is at its longest: this one becomes a full one");
        return TRUE;
    }
    g_clear_pointer(&create->run.chain, chain_close);
    if (!broken && !error_is(local, BACKAPP_ERROR_CORRUPT)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    g_autofree char *message =
        g_strdup_printf("the earlier archives cannot be built on, so this one becomes a full one: %s", local->message);
    create->options->sink->warning(create->options->sink, "damaged", NULL, message);
    return TRUE;
}

/* Names sort by time: a point is named later than all there are, whatever the clock says. */
static gint64 choose_time(Create *create, gint64 wanted)
{
    gint64 last = G_MININT64;
    for (guint i = 0; i < create->listed->len; i++)
        last = MAX(last, ((const ArchiveListed *)g_ptr_array_index(create->listed, i))->name.time);
    if (last >= wanted + CLOCK_AHEAD_S)
        create_note(
            &create->run, NULL,
            "there is an archive from the future: the clock of this machine was or is wrong; this one is named a "
            "second later than that");
    return last >= wanted ? last + 1 : wanted;
}

static ArchivePoint *new_point(Create *create, gint64 now)
{
    const ArchiveOptions *options = create->options;
    ArchivePoint *point = g_new0(ArchivePoint, 1);
    struct timespec scan = {0};
    (void)clock_gettime(CLOCK_REALTIME, &scan);
    point->name = (ArchiveName){.time = choose_time(create, options->time > 0 ? options->time : now),
                                .type = create->run.chain != NULL ? options->type : ARCHIVE_FULL,
                                .codec = options->codec,
                                .encrypted = options->place.content_key != NULL,
                                .role = ARCHIVE_OBJECT_INDEX};
    point->base = archive_base_name(&point->name);
    point->place_name = g_strdup(options->place.name);
    point->time = now;
    point->scan_s = scan.tv_sec;
    point->scan_ns = (guint32)scan.tv_nsec;
    point->host = g_strdup(g_get_host_name());
    point->level = options->level;
    point->volumes = g_array_new(FALSE, TRUE, sizeof(ArchiveVolume));
    point->sources = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; options->sources[i] != NULL; i++)
        g_ptr_array_add(point->sources, g_strdup(options->sources[i]));
    if (create->run.chain != NULL) {
        const ArchivePoint *parent = index_point(chain_index(create->run.chain, 0));
        point->parent = g_strdup(parent->base);
        memcpy(point->parent_hash, parent->hash, HASH_BYTES);
    }
    return point;
}

/* ---- going on with what was interrupted ---- */

static gboolean same_sources(const ArchivePoint *point, const char *const *sources)
{
    for (guint i = 0; i < point->sources->len; i++) {
        if (sources[i] == NULL || !g_str_equal(sources[i], g_ptr_array_index(point->sources, i)))
            return FALSE;
    }
    return sources[point->sources->len] == NULL;
}

/* It would become what this run is to make. */
static gboolean fits(const Create *create, const Resume *resume, gint64 now)
{
    const ArchiveOptions *options = create->options;
    const ArchivePoint *was = resume->point;
    const ArchiveListed *last = newest(create, 0);
    const ArchivePoint *parent = create->run.chain != NULL ? index_point(chain_index(create->run.chain, 0)) : NULL;
    return was->name.codec == options->codec && was->level == options->level &&
           was->name.encrypted == (options->place.content_key != NULL) && resume->volume_size == options->volume_size &&
           memcmp(resume->how, create->how, HASH_BYTES) == 0 && same_sources(was, options->sources) &&
           now >= was->time && now - was->time < RESUME_MAX_S &&
           was->name.type == (parent != NULL ? options->type : ARCHIVE_FULL) &&
           g_strcmp0(was->parent, parent != NULL ? parent->base : NULL) == 0 &&
           (parent == NULL || memcmp(was->parent_hash, parent->hash, HASH_BYTES) == 0) &&
           (last == NULL || last->name.time < was->name.time);
}

/* Every volume is there as it was when it was complete: 1, 0, -1 if that cannot be told now. */
static int volumes_are_there(const Create *create, const Resume *resume, GError **error)
{
    for (guint i = 0; i < resume->volumes->len; i++) {
        g_autofree char *key = archive_volume_key(resume->point, i);
        g_autoptr(GError) local = NULL;
        g_autoptr(StoreObject) object = store_head(create->options->place.store, key, NULL, &local);
        if (object == NULL && !error_is(local, BACKAPP_ERROR_NOT_FOUND)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return -1;
        }
        if (object == NULL || object->size != g_array_index(resume->volumes, ArchiveVolume, i).size)
            return 0;
    }
    return resume->volumes->len > 0 ? 1 : 0;
}

/* The names of an archive's volumes that are there, below PREFIX/NAME/. */
static GPtrArray *list_volumes(Create *create, const char *base, GError **error)
{
    g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(StoreList) list = store_list(create->store, base, NULL, FALSE, error);
    const StoreObject *object = NULL;
    int got = -1;
    while (list != NULL && (got = store_list_next(list, &object, error)) > 0) {
        ArchiveName name;
        g_autofree char *own = NULL;
        if (archive_name_parse(object->key, &name) && name.role == ARCHIVE_OBJECT_VOLUME)
            own = archive_base_name(&name);
        if (g_strcmp0(own, base) == 0)
            g_ptr_array_add(keys, g_strdup(object->key));
    }
    return got == 0 ? g_steal_pointer(&keys) : NULL;
}

/* The volumes of an archive that will not become a point. Nothing is removed unless the store says that it is none: the
 * end of the run that made it a point may be all that is missing. */
static gboolean remove_volumes(Create *create, const ArchivePoint *point, GError **error)
{
    g_autofree char *index = archive_index_key(point->place_name, point->base);
    g_autoptr(GError) local = NULL;
    g_autoptr(StoreObject) object = store_head(create->options->place.store, index, NULL, &local);
    if (object != NULL)
        return TRUE;
    if (!error_is(local, BACKAPP_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    g_autoptr(GPtrArray) keys = list_volumes(create, point->base, error);
    for (guint i = 0; keys != NULL && i < keys->len; i++) {
        if (!store_delete(create->store, g_ptr_array_index(keys, i), NULL, error))
            return FALSE;
    }
    return keys != NULL;
}

/* What else decides what is stored, and how, and is not in the state by itself; of the key nothing can be learnt. */
static void hash_how(const ArchiveOptions *options, guint8 hash[HASH_BYTES])
{
    g_autoptr(Hash) state = hash_new();
    const guint8 flags[] = {options->acls ? 1 : 0, options->xattrs ? 1 : 0, options->place.content_key != NULL ? 1 : 0};
    hash_update(state, "how an archive is resumed", strlen("how an archive is resumed"));
    hash_update(state, flags, sizeof flags);
    if (options->place.content_key != NULL)
        hash_update(state, options->place.content_key, TINK_KEY_BYTES);
    hash_finish(state, hash);
}

static gboolean forget(Create *create, Resume *resume, GError **error)
{
    gboolean good = resume->point == NULL || remove_volumes(create, resume->point, error);
    resume_clear(resume);
    return good && resume_forget(create->state_fd, error);
}

/* Opens what an interrupted run left, if this one can go on with it. */
static gboolean find_resume(Create *create, RunsOpen *open, gint64 now, GError **error)
{
    const ArchiveOptions *options = create->options;
    if (create->state_fd < 0)
        return TRUE;
    int got = resume_load(create->state_fd, &options->place, &create->resume, error);
    if (got <= 0)
        return got == 0;
    create->resume.point->name.role = ARCHIVE_OBJECT_INDEX;
    create->resume.point->volumes = g_array_ref(create->resume.volumes);
    g_autoptr(GError) local = NULL;
    int there = fits(create, &create->resume, now) ? volumes_are_there(create, &create->resume, error) : 0;
    if (there < 0)
        return FALSE;
    if (there > 0)
        create->run.runs = runs_open(create->state_fd, RESUME_ENTRIES, create->resume.entries_length,
                                     create->resume.tar_end, open, &local);
    return create->run.runs != NULL || forget(create, &create->resume, error);
}

static gboolean note_state(Create *create, const GArray *volumes, const GArray *packed_lengths, guint64 tar_end,
                           GError **error)
{
    Resume state = {.point = create->point,
                    .volume_size = create->options->volume_size,
                    .volumes = (GArray *)volumes,
                    .packed_lengths = (GArray *)packed_lengths,
                    .tar_end = tar_end};
    memcpy(state.how, create->how, HASH_BYTES);
    return runs_sync(create->run.runs, &state.entries_length, error) && resume_save(create->state_fd, &state, error);
}

/* In a thread of the stream's. */
static gboolean volume_done(gpointer user_data, const GArray *volumes, const GArray *packed_lengths, guint64 tar_end,
                            GError **error)
{
    Create *create = user_data;
    if (create->state_fd < 0)
        return TRUE;
    return lock_object_check(create->lock, error) && note_state(create, volumes, packed_lengths, tar_end, error);
}

/* ---- writing ---- */

static gboolean open_stream(Create *create, const Resume *resume, GError **error)
{
    const ArchiveOptions *options = create->options;
    StreamOptions how = {.place = &options->place,
                         .point = create->point,
                         .volume_size = options->volume_size,
                         .storage_class = options->storage_class,
                         .threads = options->threads,
                         .cancel = options->cancel,
                         .volumes = resume != NULL ? resume->volumes : NULL,
                         .packed_lengths = resume != NULL ? resume->packed_lengths : NULL,
                         .volume_done = volume_done,
                         .user_data = create};
    create->run.stream = stream_new(&how, error);
    return create->run.stream != NULL;
}

static gboolean make_plan(Create *create, GError **error)
{
    run_stage_begin(&create->run.stage, create->options->sink, "scan", 0, 0);
    create->plan = create_plan_make(&create->run, &create->totals, error);
    return create->plan != NULL;
}

/* Goes on behind the complete volumes. *possible FALSE: that cannot be done after all. */
static gboolean begin_resumed(Create *create, const RunsOpen *open, gboolean *possible, GError **error)
{
    g_autofree char *size = NULL;
    create->point = g_steal_pointer(&create->resume.point);
    g_array_unref(create->point->volumes);
    create->point->volumes = g_array_new(FALSE, TRUE, sizeof(ArchiveVolume));
    create->point->host = g_strdup(g_get_host_name());
    *possible = TRUE;
    if (!open_stream(create, &create->resume, error))
        return FALSE;
    for (guint i = 0; i < create->resume.volumes->len; i++)
        create->stats->resumed_bytes += g_array_index(create->resume.volumes, ArchiveVolume, i).size;
    size = human_size(create->stats->resumed_bytes);
    g_autofree char *message =
        g_strdup_printf("goes on with an interrupted archive: %s of it are in the store already", size);
    create_note(&create->run, NULL, message);
    create->run.logs_beginnings = TRUE;
    /* What the state calls the list's end lies behind what will now be overwritten. */
    if (!note_state(create, create->resume.volumes, create->resume.packed_lengths, create->resume.tar_end, error))
        return FALSE;
    if (open->is_open && !create_write_rest(&create->run, open, possible, error))
        return FALSE;
    if (*possible)
        return runs_begin_pass(create->run.runs, error) && make_plan(create, error);
    return TRUE;
}

/* As if there had been nothing to go on with. */
static gboolean drop_resumed(Create *create, GError **error)
{
    g_clear_pointer(&create->run.stream, stream_free);
    g_clear_pointer(&create->run.runs, runs_free);
    gboolean good = remove_volumes(create, create->point, error);
    g_clear_pointer(&create->point, archive_point_free);
    resume_clear(&create->resume);
    create->stats->resumed_bytes = 0;
    return good && resume_forget(create->state_fd, error);
}

/* From now on a run that finds this one dead removes what it has not completed. */
static gboolean announce(Create *create, GError **error)
{
    g_autoptr(GArray) none = g_array_new(FALSE, FALSE, sizeof(ArchiveVolume));
    Resume state = {
        .point = create->point, .volume_size = create->options->volume_size, .volumes = none, .packed_lengths = none};
    memcpy(state.how, create->how, HASH_BYTES);
    return create->state_fd < 0 || resume_save(create->state_fd, &state, error);
}

static gboolean begin_new(Create *create, gint64 now, GError **error)
{
    const ArchiveOptions *options = create->options;
    create->point = new_point(create, now);
    if (!make_plan(create, error))
        return FALSE;
    if (options->dry_run)
        return TRUE;
    create->point->numbered = create->totals.tar_bytes / 100 * MULTIPLE_PERCENT >= options->volume_size;
    gboolean named = create->state_fd >= 0 && create->point->numbered;
    create->run.logs_beginnings = named;
    create->run.runs = runs_new(named ? create->state_fd : -1, named ? RESUME_ENTRIES : NULL, error);
    return create->run.runs != NULL && announce(create, error) && open_stream(create, NULL, error);
}

static gboolean write_index(Create *create, const GArray *packed_lengths, GError **error)
{
    const ArchiveOptions *options = create->options;
    run_stage_begin(&create->run.stage, options->sink, "index", 0, 0);
    g_autoptr(RunsReader) reader = runs_read(create->run.runs, error);
    /* The next run has to read it at once. */
    const char *class = store_class_is_cold(options->storage_class) ? NULL : options->storage_class;
    g_autoptr(IndexWriter) writer =
        reader != NULL ? index_writer_new(&options->place, create->point->base, class, options->cancel, error) : NULL;
    if (writer == NULL)
        return FALSE;
    IndexEntry entry;
    int got;
    while ((got = runs_reader_next(reader, &entry, error)) == 1) {
        if (!index_writer_put(writer, &entry, error))
            return FALSE;
    }
    guint64 stored = 0;
    if (got < 0 || !lock_object_check(create->lock, error) ||
        !index_writer_commit(writer, create->point, packed_lengths, &stored, error))
        return FALSE;
    create->stats->archive_bytes += stored;
    return TRUE;
}

static gboolean write_archive(Create *create, GError **error)
{
    ArchiveStats *stats = create->stats;
    ArchivePoint *point = create->point;
    const CreateTotals *totals = &create->totals;
    g_autoptr(GArray) lengths = NULL;
    run_stage_begin(&create->run.stage, create->options->sink, "archive", totals->store_files,
                    totals->store_bytes + totals->check_bytes);
    if (!create_write_all(&create->run, create->plan, error) ||
        !stream_finish(create->run.stream, point, &lengths, error))
        return FALSE;
    stats->volumes = point->volumes->len;
    stats->tar_bytes = point->tar_size;
    for (guint i = 0; i < point->volumes->len; i++)
        stats->archive_bytes += g_array_index(point->volumes, ArchiveVolume, i).size;
    point->files = totals->files;
    point->directories = totals->directories;
    point->bytes = totals->bytes;
    point->unread = create->run.unread + totals->unreadable;
    point->partial = stats->partial || totals->partial;
    if (!write_index(create, lengths, error))
        return FALSE;
    stats->point = g_strdup(point->base);
    /* The next run sees by itself that the state is of a point. */
    g_autoptr(GError) local = NULL;
    if (create->state_fd >= 0 && !resume_forget(create->state_fd, &local))
        create_note(&create->run, NULL, local->message);
    return TRUE;
}

/* After a failure: what no later run can go on with would only lie there. */
static void remove_useless(Create *create)
{
    if (create->point == NULL || create->options->dry_run || create->stats->point != NULL ||
        (create->state_fd >= 0 && create->point->numbered) || !lock_object_check(create->lock, NULL))
        return;
    g_clear_pointer(&create->run.stream, stream_free);
    (void)remove_volumes(create, create->point, NULL); /* else it is found as unfinished later */
}

/* ---- the whole ---- */

static void fill_stats(Create *create)
{
    ArchiveStats *stats = create->stats;
    const CreateTotals *totals = &create->totals;
    stats->files_total = totals->files;
    stats->directories = totals->directories;
    stats->bytes_total = totals->bytes;
    stats->created = totals->created;
    stats->changed = totals->changed;
    stats->deleted = totals->deleted;
    stats->files_unchanged += totals->unchanged;
    stats->unreadable += totals->unreadable;
    stats->vanished += totals->vanished;
    stats->files_skipped = totals->skipped;
    stats->partial |= totals->partial;
    if (create->options->dry_run) {
        stats->files_archived = totals->store_files;
        stats->bytes_archived = totals->store_bytes;
        stats->tar_bytes = totals->tar_bytes;
    }
    if (create->point != NULL) {
        stats->type = create->point->name.type;
        stats->parent = g_strdup(create->point->parent);
    }
    store_counts(create->options->place.store, &stats->counts);
    const ProviderClass *prices = create->options->prices;
    const guint64 *requests = stats->counts.requests;
    if (prices != NULL)
        stats->cost =
            (double)(requests[STORE_REQUEST_PUT] + requests[STORE_REQUEST_COPY] + requests[STORE_REQUEST_LIST]) *
                prices->put_1000 / 1000 +
            (double)(requests[STORE_REQUEST_GET] + requests[STORE_REQUEST_HEAD]) * prices->get_1000 / 1000;
}

/* What a killed run left of unfinished uploads. The lock says that nobody is at it. */
static gboolean abort_uploads(Create *create, GError **error)
{
    if (!store_can(create->store, STORE_MULTIPART))
        return TRUE;
    g_autoptr(GError) local = NULL;
    g_autoptr(GPtrArray) uploads = store_list_uploads(create->store, "", &local);
    if (uploads == NULL && !error_is(local, BACKAPP_ERROR_DENIED)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    for (guint i = 0; uploads != NULL && i < uploads->len; i++) {
        const StoreUpload *upload = g_ptr_array_index(uploads, i);
        if (!store_abort(create->store, upload->key, upload->id, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean open_place(Create *create, GError **error)
{
    const ArchiveOptions *options = create->options;
    g_autofree char *prefix = g_strconcat(options->place.name, "/", NULL);
    create->store = store_prefix_borrow(options->place.store, prefix);
    if (!options->dry_run) {
        create->lock = lock_object_take(create->store, options->sink, error);
        if (create->lock == NULL || !abort_uploads(create, error))
            return FALSE;
        if (options->state_dir != NULL) {
            create->state_fd = resume_folder(options->state_dir, &options->place, error);
            if (create->state_fd < 0)
                return FALSE;
        }
    }
    create->listed = archive_list(&options->place, options->cancel, error);
    return create->listed != NULL;
}

static gboolean check_options(const ArchiveOptions *options, GError **error)
{
    if (!archive_check_name(options->place.name, error))
        return FALSE;
    if (options->volume_size < ARCHIVE_VOLUME_MIN)
        return error_set(error, BACKAPP_ERROR_INVALID, "a volume has at least 8 MiB");
    return TRUE;
}

static gboolean run_create(Create *create, GError **error)
{
    gint64 now = g_get_real_time() / G_USEC_PER_SEC;
    if (!check_options(create->options, error) || !open_sources(create, error) || !open_place(create, error) ||
        !open_parent(create, choose_parent(create, now), error))
        return FALSE;
    g_auto(RunsOpen) open = {0};
    if (!find_resume(create, &open, now, error))
        return FALSE;
    gboolean resumed = create->run.runs != NULL;
    if (resumed && (!begin_resumed(create, &open, &resumed, error) || (!resumed && !drop_resumed(create, error))))
        return FALSE;
    if (!resumed && !begin_new(create, now, error))
        return FALSE;
    return create->options->dry_run || write_archive(create, error);
}

static gboolean verify(Create *create, GError **error)
{
    const ArchiveOptions *options = create->options;
    ArchiveVerifyStats stats = {0};
    gboolean good = archive_verify(&options->place, create->stats->point, FALSE, options->threads, options->cancel,
                                   options->sink, &stats, error);
    archive_verify_stats_clear(&stats);
    return good;
}

static void create_clear(Create *create)
{
    stream_free(create->run.stream);
    runs_free(create->run.runs);
    create_plan_free(create->plan);
    g_clear_pointer(&create->run.chain, chain_close);
    resume_clear(&create->resume);
    archive_point_free(create->point);
    g_clear_pointer(&create->listed, g_ptr_array_unref);
    lock_object_release(create->lock);
    store_free(create->store);
    g_array_unref(create->run.sources);
    fd_clear(&create->state_fd);
}

gboolean archive_create(const ArchiveOptions *options, ArchiveStats *stats, GError **error)
{
    *stats = (ArchiveStats){0};
    gint64 start = g_get_monotonic_time();
    Create create = {.options = options, .stats = stats, .state_fd = -1};
    create.run.options = options;
    create.run.stats = stats;
    create.run.sources = g_array_new(FALSE, TRUE, sizeof(CreateSource));
    g_array_set_clear_func(create.run.sources, clear_source);
    hash_how(options, create.how);
    gboolean good = run_create(&create, error);
    if (!good)
        remove_useless(&create);
    fill_stats(&create);
    good = good && (!options->verify || options->dry_run || verify(&create, error));
    create_clear(&create);
    stats->duration = (double)(g_get_monotonic_time() - start) / G_USEC_PER_SEC;
    return good;
}
