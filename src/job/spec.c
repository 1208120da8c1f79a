#include "job/spec.h"

#include "base/error.h"
#include "job/json_line.h"
#include "job/json_name.h"

#include <string.h>

#define PATH_BYTES   4095
#define MAX_SOURCES  1000
#define MAX_PATTERNS 100000
#define MIN_MEMORY   (G_GUINT64_CONSTANT(64) * 1024 * 1024)

static const char *const type_names[] = {"rsync-local",     "recover",           "verify",    "rsync-to-s3",
                                         "s3-mirror",       "restore",           "direct-s3", "archive-verify",
                                         "archive-reindex", "archive-retention", "drill"};
static const char *const ionice_names[] = {"none", NULL, "best-effort", "idle"};

const char *job_type_name(JobType type)
{
    return type_names[type];
}

static void clear_destination(gpointer data)
{
    JobDestination *destination = data;
    g_free(destination->path);
    g_free(destination->expected_id);
    job_store_clear(&destination->store);
}

static void clear_rule(gpointer data)
{
    g_free(((JobRule *)data)->pattern);
}

JobSpec *job_spec_new(JobType type)
{
    JobSpec *spec = g_new0(JobSpec, 1);
    spec->type = type;
    spec->sources = g_ptr_array_new_with_free_func(g_free);
    spec->destinations = g_array_new(FALSE, TRUE, sizeof(JobDestination));
    g_array_set_clear_func(spec->destinations, clear_destination);
    JobOptions *options = &spec->options;
    options->hard_links = options->acls = options->xattrs = TRUE;
    options->max_delete_percent = 50;
    options->exclude_patterns = g_ptr_array_new_with_free_func(g_free);
    options->include_patterns = g_ptr_array_new_with_free_func(g_free);
    options->rules = g_array_new(FALSE, TRUE, sizeof(JobRule));
    g_array_set_clear_func(options->rules, clear_rule);
    job_s3_options_init(&options->s3);
    job_restore_options_init(&options->restore);
    job_archive_options_init(&options->archive);
    return spec;
}

void job_spec_free(JobSpec *spec)
{
    if (!spec)
        return;
    g_free(spec->run_id);
    g_ptr_array_unref(spec->sources);
    g_array_unref(spec->destinations);
    JobOptions *options = &spec->options;
    g_ptr_array_unref(options->exclude_patterns);
    g_ptr_array_unref(options->include_patterns);
    g_array_unref(options->rules);
    g_free(options->exclude_if_present);
    g_free(options->confirm);
    g_free(options->ssh_user);
    g_free(options->ssh_identity_file);
    g_free(options->ssh_known_hosts);
    job_s3_options_clear(&options->s3);
    job_restore_options_clear(&options->restore);
    job_archive_options_clear(&options->archive);
    job_retention_options_clear(&options->retention);
    job_store_clear(&spec->store);
    char *const secrets[] = {spec->rsync_password, spec->encryption_key, spec->passphrase};
    for (guint i = 0; i < G_N_ELEMENTS(secrets); i++) {
        if (secrets[i])
            explicit_bzero(secrets[i], strlen(secrets[i]));
        g_free(secrets[i]);
    }
    g_free(spec);
}

static gboolean read_names(const json_t *value, const char *where, gsize max, GPtrArray *names, GError **error)
{
    if (!json_line_want_array(value, max, where, error))
        return FALSE;
    for (gsize i = 0; i < json_array_size(value); i++) {
        g_autofree char *item = g_strdup_printf("%s[%" G_GSIZE_FORMAT "]", where, i);
        char *name = json_name_get(json_array_get(value, i), item, 1, PATH_BYTES, error);
        if (!name)
            return FALSE;
        g_ptr_array_add(names, name);
    }
    return TRUE;
}

static gboolean read_sources(const json_t *value, const char *where, gpointer member, GError **error)
{
    return read_names(value, where, MAX_SOURCES, *(GPtrArray **)member, error);
}

static gboolean read_patterns(const json_t *value, const char *where, gpointer member, GError **error)
{
    return read_names(value, where, MAX_PATTERNS, *(GPtrArray **)member, error);
}

static json_t *print_names(gconstpointer member)
{
    const GPtrArray *names = *(GPtrArray *const *)member;
    json_t *array = json_array();
    for (guint i = 0; i < names->len; i++)
        json_array_append_new(array, json_name_new(g_ptr_array_index(names, i)));
    return array;
}

static json_t *print_patterns(gconstpointer member)
{
    return (*(GPtrArray *const *)member)->len > 0 ? print_names(member) : NULL;
}

static const JsonField rule_fields[] = {
    {.key = "include", .kind = FIELD_BOOL, .offset = G_STRUCT_OFFSET(JobRule, include)},
    {.key = "pattern", .kind = FIELD_NAME, .offset = G_STRUCT_OFFSET(JobRule, pattern), .min = 1, .max = PATH_BYTES},
    {0},
};

static gboolean read_rules(const json_t *value, const char *where, gpointer member, GError **error)
{
    GArray *rules = *(GArray **)member;
    if (!json_line_want_array(value, MAX_PATTERNS, where, error))
        return FALSE;
    for (gsize i = 0; i < json_array_size(value); i++) {
        g_autofree char *item = g_strdup_printf("%s[%" G_GSIZE_FORMAT "]", where, i);
        g_array_set_size(rules, rules->len + 1);
        JobRule *rule = &g_array_index(rules, JobRule, rules->len - 1);
        const json_t *given = json_array_get(value, i);
        if (!json_line_read_object(given, rule_fields, item, rule, error))
            return FALSE;
        /* A rule of unknown sense would be worse than none. */
        if (!rule->pattern || !json_object_get(given, "include"))
            return error_set(error, BACKAPP_ERROR_INVALID, "%s: needs both include and pattern", item);
    }
    return TRUE;
}

static json_t *print_rules(gconstpointer member)
{
    const GArray *rules = *(GArray *const *)member;
    json_t *array = rules->len > 0 ? json_array() : NULL;
    for (guint i = 0; i < rules->len; i++)
        json_array_append_new(array, json_line_print_object(rule_fields, &g_array_index(rules, JobRule, i)));
    return array;
}

static gboolean read_store(const json_t *value, const char *where, gpointer member, GError **error)
{
    return json_line_read_object(value, job_store_fields, where, member, error);
}

static json_t *print_store(gconstpointer member)
{
    return ((const JobStore *)member)->url ? json_line_print_object(job_store_fields, member) : NULL;
}

static const JsonField destination_fields[] = {
    {.key = "path", .kind = FIELD_NAME, .offset = G_STRUCT_OFFSET(JobDestination, path), .min = 1, .max = PATH_BYTES},
    {.key = "expectedId",
     .kind = FIELD_TEXT,
     .offset = G_STRUCT_OFFSET(JobDestination, expected_id),
     .min = 1,
     .max = 128},
    {.key = "store",
     .kind = FIELD_CUSTOM,
     .offset = G_STRUCT_OFFSET(JobDestination, store),
     .read = read_store,
     .print = print_store},
    {0},
};

static gboolean read_destinations(const json_t *value, const char *where, gpointer member, GError **error)
{
    GArray *destinations = *(GArray **)member;
    if (!json_line_want_array(value, MAX_SOURCES, where, error))
        return FALSE;
    for (gsize i = 0; i < json_array_size(value); i++) {
        g_autofree char *item = g_strdup_printf("%s[%" G_GSIZE_FORMAT "]", where, i);
        g_array_set_size(destinations, destinations->len + 1);
        JobDestination *destination = &g_array_index(destinations, JobDestination, destinations->len - 1);
        if (!json_line_read_object(json_array_get(value, i), destination_fields, item, destination, error))
            return FALSE;
        if (!destination->path == !destination->store.url)
            return error_set(error, BACKAPP_ERROR_INVALID, "%s: needs either a path or a store with its url", item);
    }
    return TRUE;
}

static json_t *print_destinations(gconstpointer member)
{
    const GArray *destinations = *(GArray *const *)member;
    json_t *array = json_array();
    for (guint i = 0; i < destinations->len; i++)
        json_array_append_new(
            array, json_line_print_object(destination_fields, &g_array_index(destinations, JobDestination, i)));
    return array;
}

/* The nested objects are flat in JobOptions and JobLimits: their fields' member is the whole structure. */
#define OPTION(name) G_STRUCT_OFFSET(JobOptions, name)
#define LIMIT(name)  G_STRUCT_OFFSET(JobLimits, name)

static const JsonField keep_fields[] = {
    {.key = "days", .kind = FIELD_UINT, .offset = OPTION(keep_versions_days), .max = 36500},
    {.key = "count", .kind = FIELD_UINT, .offset = OPTION(keep_versions_count), .max = 100000},
    {0},
};

static gboolean read_engine(const json_t *value, const char *where, gpointer member, GError **error)
{
    const char *name = json_is_string(value) ? json_string_value(value) : "";
    *(gboolean *)member = strcmp(name, "rsync") == 0;
    return strcmp(name, "native") == 0 || *(gboolean *)member ||
           error_set(error, BACKAPP_ERROR_INVALID, "%s: must be \"native\" or \"rsync\"", where);
}

static json_t *print_engine(gconstpointer member)
{
    return json_string(*(const gboolean *)member ? "rsync" : "native");
}

static const JsonField ssh_fields[] = {
    {.key = "user", .kind = FIELD_TEXT, .offset = OPTION(ssh_user), .min = 1, .max = 256},
    {.key = "port", .kind = FIELD_UINT, .offset = OPTION(ssh_port), .max = 65535},
    {.key = "identityFile", .kind = FIELD_NAME, .offset = OPTION(ssh_identity_file), .min = 1, .max = PATH_BYTES},
    {.key = "knownHosts", .kind = FIELD_NAME, .offset = OPTION(ssh_known_hosts), .min = 1, .max = PATH_BYTES},
    {0},
};

static const JsonField rsync_fields[] = {
    {.key = "ssh", .kind = FIELD_OBJECT, .fields = ssh_fields},
    {0},
};

static const JsonField option_fields[] = {
    {.key = "deleteExtraneous", .kind = FIELD_BOOL, .offset = OPTION(delete_extraneous)},
    {.key = "excludePatterns",
     .kind = FIELD_CUSTOM,
     .offset = OPTION(exclude_patterns),
     .read = read_patterns,
     .print = print_patterns},
    {.key = "includePatterns",
     .kind = FIELD_CUSTOM,
     .offset = OPTION(include_patterns),
     .read = read_patterns,
     .print = print_patterns},
    {.key = "rules", .kind = FIELD_CUSTOM, .offset = OPTION(rules), .read = read_rules, .print = print_rules},
    {.key = "hardLinks", .kind = FIELD_BOOL, .offset = OPTION(hard_links)},
    {.key = "dryRun", .kind = FIELD_BOOL, .offset = OPTION(dry_run)},
    {.key = "acls", .kind = FIELD_BOOL, .offset = OPTION(acls)},
    {.key = "xattrs", .kind = FIELD_BOOL, .offset = OPTION(xattrs)},
    {.key = "checksum", .kind = FIELD_BOOL, .offset = OPTION(checksum)},
    {.key = "maxDeletePercent", .kind = FIELD_UINT, .offset = OPTION(max_delete_percent), .max = 100},
    {.key = "keepVersions", .kind = FIELD_OBJECT, .fields = keep_fields},
    {.key = "inplace", .kind = FIELD_BOOL, .offset = OPTION(inplace)},
    {.key = "verify", .kind = FIELD_BOOL, .offset = OPTION(verify)},
    {.key = "engine", .kind = FIELD_CUSTOM, .offset = OPTION(engine_rsync), .read = read_engine, .print = print_engine},
    {.key = "oneFileSystem", .kind = FIELD_BOOL, .offset = OPTION(one_file_system)},
    {.key = "excludeCaches", .kind = FIELD_BOOL, .offset = OPTION(exclude_caches)},
    {.key = "excludeIfPresent", .kind = FIELD_NAME, .offset = OPTION(exclude_if_present), .min = 1, .max = 255},
    {.key = "excludeLargerThan", .kind = FIELD_UINT64, .offset = OPTION(exclude_larger_than), .max = G_MAXINT64},
    {.key = "force", .kind = FIELD_BOOL, .offset = OPTION(force)},
    {.key = "confirm", .kind = FIELD_TEXT, .offset = OPTION(confirm), .min = 1, .max = 128},
    {.key = "jobs", .kind = FIELD_UINT, .offset = OPTION(jobs), .max = 256},
    {.key = "items", .kind = FIELD_BOOL, .offset = OPTION(items)},
    {.key = "rsync", .kind = FIELD_OBJECT, .fields = rsync_fields},
    {.key = "syncToS3", .kind = FIELD_OBJECT, .offset = OPTION(s3), .fields = job_s3_fields},
    {.key = "restore", .kind = FIELD_OBJECT, .offset = OPTION(restore), .fields = job_restore_fields},
    {.key = "archive", .kind = FIELD_OBJECT, .offset = OPTION(archive), .fields = job_archive_fields},
    {.key = "retention", .kind = FIELD_OBJECT, .offset = OPTION(retention), .fields = job_retention_fields},
    {.key = "drill", .kind = FIELD_OBJECT, .offset = OPTION(drill), .fields = job_drill_fields},
    {0},
};

static gboolean read_ionice_class(const json_t *value, const char *where, gpointer member, GError **error)
{
    const char *name = json_is_string(value) ? json_string_value(value) : "";
    for (int i = 0; i < (int)G_N_ELEMENTS(ionice_names); i++)
        if (ionice_names[i] && strcmp(name, ionice_names[i]) == 0) {
            *(int *)member = i;
            return TRUE;
        }
    return error_set(error, BACKAPP_ERROR_INVALID, "%s: must be \"none\", \"best-effort\" or \"idle\"", where);
}

static json_t *print_ionice_class(gconstpointer member)
{
    return json_string(ionice_names[*(const int *)member]);
}

static const JsonField ionice_fields[] = {
    {.key = "class",
     .kind = FIELD_CUSTOM,
     .offset = LIMIT(ionice_class),
     .read = read_ionice_class,
     .print = print_ionice_class},
    {.key = "level", .kind = FIELD_INT, .offset = LIMIT(ionice_level), .max = 7},
    {0},
};

static gboolean read_memory(const json_t *value, const char *where, gpointer member, GError **error)
{
    json_int_t bytes = json_integer_value(value);
    if (!json_is_integer(value) || bytes < 0 || (bytes > 0 && (guint64)bytes < MIN_MEMORY))
        return error_set(error, BACKAPP_ERROR_INVALID, "%s: must be 0 (no limit) or at least 67108864 (64 MiB)", where);
    *(guint64 *)member = (guint64)bytes;
    return TRUE;
}

static json_t *print_memory(gconstpointer member)
{
    return json_line_count(*(const guint64 *)member);
}

static const JsonField limit_fields[] = {
    {.key = "nice", .kind = FIELD_INT, .offset = LIMIT(nice), .max = 19},
    {.key = "ionice", .kind = FIELD_OBJECT, .fields = ionice_fields},
    {.key = "memory", .kind = FIELD_CUSTOM, .offset = LIMIT(memory), .read = read_memory, .print = print_memory},
    {.key = "bandwidth", .kind = FIELD_UINT64, .offset = LIMIT(bandwidth), .max = G_MAXINT64},
    {0},
};

#define SPEC(name) G_STRUCT_OFFSET(JobSpec, name)

/* The keys of the stores: one entry for each destination, then one for the spec's own store. An entry may be null. */
static gboolean read_store_secrets(const json_t *value, const char *where, gpointer member, GError **error)
{
    JobSpec *spec = member;
    guint stores = spec->destinations->len + (spec->store.url ? 1 : 0);
    if (!json_line_want_array(value, stores, where, error))
        return FALSE;
    for (guint i = 0; i < json_array_size(value); i++) {
        const json_t *secrets = json_array_get(value, i);
        g_autofree char *item = g_strdup_printf("%s[%u]", where, i);
        JobStore *store =
            i < spec->destinations->len ? &g_array_index(spec->destinations, JobDestination, i).store : &spec->store;
        if (!json_is_null(secrets) && !json_line_read_object(secrets, job_store_secret_fields, item, store, error))
            return FALSE;
    }
    return TRUE;
}

static json_t *print_one_secret(const JobStore *store, gboolean *any)
{
    if (!store->access_key)
        return json_null();
    *any = TRUE;
    return json_line_print_object(job_store_secret_fields, store);
}

static json_t *print_store_secrets(gconstpointer member)
{
    const JobSpec *spec = member;
    json_t *array = json_array();
    gboolean any = FALSE;
    for (guint i = 0; i < spec->destinations->len; i++) {
        const JobDestination *destination = &g_array_index(spec->destinations, JobDestination, i);
        json_array_append_new(array, print_one_secret(&destination->store, &any));
    }
    if (spec->store.url)
        json_array_append_new(array, print_one_secret(&spec->store, &any));
    if (!any)
        g_clear_pointer(&array, json_decref);
    return array;
}

static const JsonField secret_fields[] = {
    {.key = "rsyncPassword", .kind = FIELD_NAME, .offset = SPEC(rsync_password), .min = 1, .max = 4096},
    {.key = "encryptionKey", .kind = FIELD_TEXT, .offset = SPEC(encryption_key), .min = 1, .max = 128},
    {.key = "passphrase", .kind = FIELD_NAME, .offset = SPEC(passphrase), .min = 1, .max = 1024},
    {.key = "stores", .kind = FIELD_CUSTOM, .read = read_store_secrets, .print = print_store_secrets},
    {0},
};

static gboolean read_secrets(const json_t *value, const char *where, gpointer member, GError **error)
{
    return json_line_read_object(value, secret_fields, where, member, error);
}

static json_t *print_secrets(gconstpointer member)
{
    json_t *secrets = json_line_print_object(secret_fields, member);
    if (json_object_size(secrets) == 0)
        g_clear_pointer(&secrets, json_decref);
    return secrets;
}

/* The version and the type are read before everything else, so that an unknown one is named and nothing else is. */
static gboolean accept_head(const json_t *value, const char *where, gpointer member, GError **error)
{
    return TRUE;
}

static const JsonField spec_fields[] = {
    {.key = "version", .kind = FIELD_CUSTOM, .read = accept_head},
    {.key = "type", .kind = FIELD_CUSTOM, .read = accept_head},
    {.key = "runId", .kind = FIELD_TEXT, .offset = SPEC(run_id), .min = 1, .max = 128},
    {.key = "sources", .kind = FIELD_CUSTOM, .offset = SPEC(sources), .read = read_sources, .print = print_names},
    {.key = "destinations",
     .kind = FIELD_CUSTOM,
     .offset = SPEC(destinations),
     .read = read_destinations,
     .print = print_destinations},
    {.key = "options", .kind = FIELD_OBJECT, .offset = SPEC(options), .fields = option_fields},
    {.key = "limits", .kind = FIELD_OBJECT, .offset = SPEC(limits), .fields = limit_fields},
    {.key = "store", .kind = FIELD_CUSTOM, .offset = SPEC(store), .read = read_store, .print = print_store},
    /* After the stores, which the keys in it are for. */
    {.key = "secrets", .kind = FIELD_CUSTOM, .read = read_secrets, .print = print_secrets},
    {0},
};

static gboolean read_head(const json_t *object, JobType *type, GError **error)
{
    const json_t *version = json_object_get(object, "version");
    if (!json_is_integer(version))
        return error_set(error, BACKAPP_ERROR_INVALID, "version: must be the number %d", JOB_SPEC_VERSION);
    if (json_integer_value(version) != JOB_SPEC_VERSION)
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "version: %" JSON_INTEGER_FORMAT
                         " is not known, only %d is: use the same version of backapp on both sides",
                         json_integer_value(version), JOB_SPEC_VERSION);
    const json_t *name = json_object_get(object, "type");
    for (guint i = 0; i < G_N_ELEMENTS(type_names); i++)
        if (json_is_string(name) && strcmp(json_string_value(name), type_names[i]) == 0) {
            *type = (JobType)i;
            return TRUE;
        }
    g_autofree char *list = NULL;
    for (guint i = 0; i < G_N_ELEMENTS(type_names); i++) {
        char *longer = list ? g_strjoin(", ", list, type_names[i], NULL) : g_strdup(type_names[i]);
        g_free(list);
        list = longer;
    }
    return error_set(error, BACKAPP_ERROR_INVALID, "type: must be one of %s", list);
}

static JobSpec *read_spec(const json_t *object, GError **error)
{
    JobType type = JOB_MIRROR;
    if (!read_head(object, &type, error))
        return NULL;
    g_autoptr(JobSpec) spec = job_spec_new(type);
    if (!json_line_read(object, spec_fields, "", FALSE, spec, error) || !job_spec_validate(spec, error))
        return NULL;
    return g_steal_pointer(&spec);
}

JobSpec *job_spec_parse(const char *line, gsize length, GError **error)
{
    json_t *object = json_line_parse(line, length, JOB_LINE_MAX, "job spec", error);
    if (!object)
        return NULL;
    JobSpec *spec = read_spec(object, error);
    if (!spec)
        g_prefix_error(error, "job spec: ");
    json_decref(object);
    return spec;
}

/* The id becomes part of file names in the destination. */
static gboolean run_id_is_plain(const char *id)
{
    return *id != '.' && strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:") == strlen(id);
}

static gboolean validate_options(const JobSpec *spec, GError **error)
{
    const JobOptions *options = &spec->options;
    if (options->rules->len > 0 && options->include_patterns->len + options->exclude_patterns->len > 0)
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "options.rules: cannot stand beside includePatterns or excludePatterns");
    if (options->exclude_if_present && strchr(options->exclude_if_present, '/'))
        return error_set(error, BACKAPP_ERROR_INVALID, "options.excludeIfPresent: must be a name without '/'");
    return TRUE;
}

/* What stands at each place of `destinations`, by type: a directory, a store, or either. */
static gboolean validate_destination(const JobSpec *spec, guint i, gboolean store, GError **error)
{
    const JobDestination *destination = &g_array_index(spec->destinations, JobDestination, i);
    g_autofree char *where = g_strdup_printf("destinations[%u]", i);
    if (store) {
        g_autofree char *at = g_strconcat(where, ".store", NULL);
        return job_store_validate(&destination->store, at, error);
    }
    if (!destination->path)
        return error_set(error, BACKAPP_ERROR_INVALID, "%s: must be a directory (path) for a job of type %s", where,
                         job_type_name(spec->type));
    return *destination->path || error_set(error, BACKAPP_ERROR_INVALID, "%s.path: is empty", where);
}

static gboolean validate_destinations(const JobSpec *spec, GError **error)
{
    guint count = spec->destinations->len;
    gboolean stores = spec->type == JOB_S3_MIRROR || spec->type == JOB_ARCHIVE;
    if (spec->type == JOB_S3_MIRROR) {
        if (count == 0)
            return error_set(error, BACKAPP_ERROR_INVALID, "destinations: at least one is needed");
    } else if (spec->type == JOB_TWO_STAGE) {
        if (count != 2)
            return error_set(error, BACKAPP_ERROR_INVALID,
                             "destinations: a directory and a store are needed, %u are given", count);
    } else if (spec->type != JOB_RESTORE && spec->store.url) {
        return count == 0 || error_set(error, BACKAPP_ERROR_INVALID, "destinations: none belong beside a store");
    } else if (count != 1) {
        return error_set(error, BACKAPP_ERROR_INVALID, "destinations: exactly one is needed, %u are given", count);
    }
    for (guint i = 0; i < count; i++)
        if (!validate_destination(spec, i, stores || (spec->type == JOB_TWO_STAGE && i == 1), error))
            return FALSE;
    return TRUE;
}

static gboolean validate_sources(const JobSpec *spec, GError **error)
{
    gboolean reads = spec->type == JOB_MIRROR || spec->type == JOB_TWO_STAGE || spec->type == JOB_S3_MIRROR ||
                     spec->type == JOB_ARCHIVE;
    if (reads && spec->sources->len == 0 && !spec->options.s3.only_s3)
        return error_set(error, BACKAPP_ERROR_INVALID, "sources: at least one is needed");
    if (!reads && spec->type != JOB_VERIFY && spec->type != JOB_DRILL && spec->sources->len > 0)
        return error_set(error, BACKAPP_ERROR_INVALID, "sources: none belong to a job of type %s",
                         job_type_name(spec->type));
    for (guint i = 0; i < spec->sources->len; i++)
        if (*(const char *)g_ptr_array_index(spec->sources, i) == '\0')
            return error_set(error, BACKAPP_ERROR_INVALID, "sources[%u]: is empty", i);
    return TRUE;
}

/* What reads a store, and has no other form. */
static gboolean needs_store(JobType type)
{
    return type == JOB_RESTORE || type == JOB_ARCHIVE_VERIFY || type == JOB_ARCHIVE_REINDEX ||
           type == JOB_ARCHIVE_RETENTION || type == JOB_DRILL;
}

static gboolean validate_archive(const JobSpec *spec, GError **error)
{
    const JobArchiveOptions *archive = &spec->options.archive;
    /* To read, it is those of the only name there is. */
    if (spec->type == JOB_ARCHIVE && !archive->name)
        return error_set(error, BACKAPP_ERROR_INVALID, "options.archive.name: is missing");
    if (spec->type == JOB_ARCHIVE_REINDEX && !archive->at)
        return error_set(error, BACKAPP_ERROR_INVALID, "options.archive.at: is missing: which archive is meant");
    return job_archive_options_validate(archive, error);
}

gboolean job_spec_validate(const JobSpec *spec, GError **error)
{
    if (spec->run_id && !run_id_is_plain(spec->run_id))
        return error_set(error, BACKAPP_ERROR_INVALID, "runId: may hold letters, digits, '-', '_', '.' and ':' only");
    if (needs_store(spec->type) || spec->store.url) {
        if (!needs_store(spec->type) && spec->type != JOB_VERIFY)
            return error_set(error, BACKAPP_ERROR_INVALID, "store: does not belong to a job of type %s",
                             job_type_name(spec->type));
        if (!job_store_validate(&spec->store, "store", error))
            return FALSE;
    }
    if (spec->options.s3.only_s3 && spec->type != JOB_TWO_STAGE)
        return error_set(error, BACKAPP_ERROR_INVALID, "options.syncToS3.onlyS3: belongs to rsync-to-s3 only");
    return validate_destinations(spec, error) && validate_sources(spec, error) && validate_options(spec, error) &&
           job_restore_options_validate(&spec->options.restore, error) && validate_archive(spec, error);
}

gboolean job_spec_has_secrets(const JobSpec *spec)
{
    gboolean any = spec->rsync_password || spec->encryption_key || spec->passphrase || spec->store.secret_key;
    for (guint i = 0; i < spec->destinations->len && !any; i++)
        any = g_array_index(spec->destinations, JobDestination, i).store.secret_key != NULL;
    return any;
}

char *job_spec_print(const JobSpec *spec)
{
    json_t *object = json_object();
    json_object_set_new(object, "version", json_integer(JOB_SPEC_VERSION));
    json_object_set_new(object, "type", json_string(job_type_name(spec->type)));
    json_line_write(object, spec_fields, spec);
    return json_line_print(object);
}
