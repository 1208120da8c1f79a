#include "job/spec_store.h"

#include "base/error.h"
#include "job/json_name.h"

#include <string.h>

#define PATH_BYTES      4095
#define MAX_PATHS       100000
#define MAX_CLASS_RULES 1000
#define DAYS_MAX        36500
#define MAX_CONCURRENCY 256

static void wipe(char *secret)
{
    if (secret)
        explicit_bzero(secret, strlen(secret));
    g_free(secret);
}

#define STORE(name) G_STRUCT_OFFSET(JobStore, name)
#define STORE_TEXT(json, member, most)                                                                                 \
    {                                                                                                                  \
        .key = json, .kind = FIELD_TEXT, .offset = STORE(member), .min = 1, .max = (most)                              \
    }

const JsonField job_store_fields[] = {
    {.key = "url", .kind = FIELD_NAME, .offset = STORE(url), .min = 1, .max = PATH_BYTES},
    STORE_TEXT("endpoint", endpoint, 2048),
    STORE_TEXT("region", region, 128),
    STORE_TEXT("provider", provider, 128),
    STORE_TEXT("profile", profile, 256),
    {.key = "caFile", .kind = FIELD_NAME, .offset = STORE(ca_file), .min = 1, .max = PATH_BYTES},
    STORE_TEXT("sse", sse, 64),
    STORE_TEXT("sseKmsKey", sse_kms_key, 2048),
    STORE_TEXT("roleArn", role_arn, 2048),
    STORE_TEXT("externalId", external_id, 1224),
    {.key = "insecure", .kind = FIELD_BOOL, .offset = STORE(insecure)},
    {.key = "pathStyle", .kind = FIELD_BOOL, .offset = STORE(path_style)},
    {.key = "virtualHostStyle", .kind = FIELD_BOOL, .offset = STORE(virtual_style)},
    {0},
};

const JsonField job_store_secret_fields[] = {
    STORE_TEXT("accessKey", access_key, 1024),
    STORE_TEXT("secretKey", secret_key, 1024),
    STORE_TEXT("sessionToken", session_token, 16384),
    {0},
};

void job_store_clear(JobStore *store)
{
    char *const strings[] = {store->url, store->endpoint,    store->region,   store->provider,   store->profile,
                             store->sse, store->sse_kms_key, store->role_arn, store->external_id};
    for (guint i = 0; i < G_N_ELEMENTS(strings); i++)
        g_free(strings[i]);
    g_free(store->ca_file);
    wipe(store->access_key);
    wipe(store->secret_key);
    wipe(store->session_token);
    *store = (JobStore){0};
}

gboolean job_store_validate(const JobStore *store, const char *where, GError **error)
{
    if (!store->url)
        return error_set(error, BACKAPP_ERROR_INVALID, "%s.url: is missing", where);
    if (store->path_style && store->virtual_style)
        return error_set(error, BACKAPP_ERROR_INVALID, "%s.pathStyle: cannot stand beside virtualHostStyle", where);
    if (!store->access_key != !store->secret_key)
        return error_set(error, BACKAPP_ERROR_INVALID, "%s: an access key and a secret key are only of use together",
                         where);
    return TRUE;
}

#define RULE(name) G_STRUCT_OFFSET(JobClassRule, name)

static const JsonField class_rule_fields[] = {
    {.key = "pattern", .kind = FIELD_NAME, .offset = RULE(pattern), .min = 1, .max = PATH_BYTES},
    {.key = "storageClass", .kind = FIELD_TEXT, .offset = RULE(storage_class), .min = 1, .max = 64},
    {0},
};

static void clear_class_rule(gpointer data)
{
    JobClassRule *rule = data;
    g_free(rule->pattern);
    g_free(rule->storage_class);
}

static gboolean read_class_rules(const json_t *value, const char *where, gpointer member, GError **error)
{
    GArray *rules = *(GArray **)member;
    if (!json_line_want_array(value, MAX_CLASS_RULES, where, error))
        return FALSE;
    for (gsize i = 0; i < json_array_size(value); i++) {
        g_autofree char *item = g_strdup_printf("%s[%" G_GSIZE_FORMAT "]", where, i);
        g_array_set_size(rules, rules->len + 1);
        JobClassRule *rule = &g_array_index(rules, JobClassRule, rules->len - 1);
        if (!json_line_read_object(json_array_get(value, i), class_rule_fields, item, rule, error))
            return FALSE;
        if (!rule->pattern || !rule->storage_class)
            return error_set(error, BACKAPP_ERROR_INVALID, "%s: needs both pattern and storageClass", item);
    }
    return TRUE;
}

static json_t *print_class_rules(gconstpointer member)
{
    const GArray *rules = *(GArray *const *)member;
    json_t *array = rules->len > 0 ? json_array() : NULL;
    for (guint i = 0; i < rules->len; i++)
        json_array_append_new(array, json_line_print_object(class_rule_fields, &g_array_index(rules, JobClassRule, i)));
    return array;
}

#define S3(name) G_STRUCT_OFFSET(JobS3Options, name)
#define S3_TEXT(json, member, most)                                                                                    \
    {                                                                                                                  \
        .key = json, .kind = FIELD_TEXT, .offset = S3(member), .min = 1, .max = (most)                                 \
    }
#define S3_FLAG(json, member)                                                                                          \
    {                                                                                                                  \
        .key = json, .kind = FIELD_BOOL, .offset = S3(member)                                                          \
    }
#define S3_NUMBER(json, member, most)                                                                                  \
    {                                                                                                                  \
        .key = json, .kind = FIELD_UINT, .offset = S3(member), .max = (most)                                           \
    }

const JsonField job_s3_fields[] = {
    S3_TEXT("storageClass", storage_class, 64),
    S3_TEXT("s3Prefix", s3_prefix, 1024),
    S3_TEXT("timezone", time_zone, 128),
    S3_TEXT("configName", config_name, 256),
    {.key = "stateDir", .kind = FIELD_NAME, .offset = S3(state_dir), .min = 1, .max = PATH_BYTES},
    {.key = "classRules",
     .kind = FIELD_CUSTOM,
     .offset = S3(class_rules),
     .read = read_class_rules,
     .print = print_class_rules},
    S3_FLAG("deleteFromS3", delete_from_s3),
    S3_FLAG("verify", verify),
    S3_FLAG("readBack", read_back),
    S3_FLAG("relist", relist),
    S3_FLAG("encrypt", encrypt),
    S3_FLAG("onlyS3", only_s3),
    S3_NUMBER("trashDays", trash_days, DAYS_MAX),
    S3_NUMBER("relistDays", relist_days, DAYS_MAX),
    S3_NUMBER("versionsKeepDays", versions_keep_days, DAYS_MAX),
    S3_NUMBER("concurrency", concurrency, MAX_CONCURRENCY),
    {.key = "time", .kind = FIELD_UINT64, .offset = S3(time), .max = G_GINT64_CONSTANT(253402300799)},
    {0},
};

void job_s3_options_init(JobS3Options *options)
{
    *options = (JobS3Options){.trash_days = 30};
    options->class_rules = g_array_new(FALSE, TRUE, sizeof(JobClassRule));
    g_array_set_clear_func(options->class_rules, clear_class_rule);
}

void job_s3_options_clear(JobS3Options *options)
{
    g_free(options->storage_class);
    g_free(options->s3_prefix);
    g_free(options->time_zone);
    g_free(options->config_name);
    g_free(options->state_dir);
    g_array_unref(options->class_rules);
}

#define RESTORE(name) G_STRUCT_OFFSET(JobRestoreOptions, name)

static gboolean read_paths(const json_t *value, const char *where, gpointer member, GError **error)
{
    GPtrArray *paths = *(GPtrArray **)member;
    if (!json_line_want_array(value, MAX_PATHS, where, error))
        return FALSE;
    for (gsize i = 0; i < json_array_size(value); i++) {
        g_autofree char *item = g_strdup_printf("%s[%" G_GSIZE_FORMAT "]", where, i);
        char *path = json_name_get(json_array_get(value, i), item, 1, JOB_PATH_MAX, error);
        if (!path)
            return FALSE;
        g_ptr_array_add(paths, path);
    }
    return TRUE;
}

static json_t *print_paths(gconstpointer member)
{
    const GPtrArray *paths = *(GPtrArray *const *)member;
    json_t *array = paths->len > 0 ? json_array() : NULL;
    for (guint i = 0; i < paths->len; i++)
        json_array_append_new(array, json_name_new(g_ptr_array_index(paths, i)));
    return array;
}

const JsonField job_restore_fields[] = {
    {.key = "at", .kind = FIELD_TEXT, .offset = RESTORE(at), .min = 1, .max = 1024},
    {.key = "conflict", .kind = FIELD_TEXT, .offset = RESTORE(conflict), .min = 1, .max = 16},
    {.key = "thawTier", .kind = FIELD_TEXT, .offset = RESTORE(thaw_tier), .min = 1, .max = 16},
    {.key = "paths", .kind = FIELD_CUSTOM, .offset = RESTORE(paths), .read = read_paths, .print = print_paths},
    {.key = "thawDays", .kind = FIELD_UINT, .offset = RESTORE(thaw_days), .max = 365},
    {.key = "concurrency", .kind = FIELD_UINT, .offset = RESTORE(concurrency), .max = MAX_CONCURRENCY},
    {0},
};

void job_restore_options_init(JobRestoreOptions *options)
{
    *options = (JobRestoreOptions){.paths = g_ptr_array_new_with_free_func(g_free)};
}

void job_restore_options_clear(JobRestoreOptions *options)
{
    g_free(options->at);
    g_free(options->conflict);
    g_free(options->thaw_tier);
    g_ptr_array_unref(options->paths);
}

const char *const job_conflict_words[] = {"overwrite", "if-newer", "skip", "rename", NULL};
const char *const job_thaw_tiers[] = {"Standard", "Bulk", "Expedited", NULL};

static gboolean is_one_of(const char *value, const char *const *words)
{
    return !value || g_strv_contains(words, value);
}

gboolean job_restore_options_validate(const JobRestoreOptions *options, GError **error)
{
    if (!is_one_of(options->conflict, job_conflict_words))
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "options.restore.conflict: must be overwrite, if-newer, skip or rename");
    if (!is_one_of(options->thaw_tier, job_thaw_tiers))
        return error_set(error, BACKAPP_ERROR_INVALID, "options.restore.thawTier: must be Standard, Bulk or Expedited");
    return TRUE;
}
