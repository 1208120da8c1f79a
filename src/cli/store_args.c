#include "cli/store_args.h"

#include "base/error.h"
#include "base/human.h"
#include "cli/job_options.h"
#include "cli/mirror_options.h"
#include "cli/passphrase.h"
#include "engine/s3sync/prefix.h"
#include "job/engine_store.h"
#include "store/drivers.h"
#include "store/provider.h"

#include <errno.h>
#include <string.h>

gboolean store_args_is_url(const char *operand)
{
    return store_is_url(operand);
}

static char *absolute(const char *operand)
{
    return store_is_url(operand) ? g_strdup(operand) : mirror_options_absolute(operand);
}

void store_args_add_destination(JobSpec *spec, const char *operand)
{
    JobDestination destination = {.store = {.url = absolute(operand)}};
    g_array_append_val(spec->destinations, destination);
}

void store_args_set_source(JobSpec *spec, const char *operand)
{
    g_free(spec->store.url);
    spec->store.url = absolute(operand);
}

/* Keys of the environment are for every S3 store that is not said to take them from a profile. */
static void fill_keys(JobStore *store)
{
    if (!store->url || !g_str_has_prefix(store->url, "s3:") || store->profile)
        return;
    const char *access = g_getenv("AWS_ACCESS_KEY_ID"), *secret = g_getenv("AWS_SECRET_ACCESS_KEY");
    if (!access || !secret || !*access || !*secret)
        return;
    store->access_key = g_strdup(access);
    store->secret_key = g_strdup(secret);
    store->session_token = g_strdup(g_getenv("AWS_SESSION_TOKEN"));
    if (store->session_token && !*store->session_token)
        g_clear_pointer(&store->session_token, g_free);
}

/* Makes the folder that was given, or the default's. */
static gboolean make_folder(char **folder, const char *name, const char *what, GError **error)
{
    if (!*folder)
        *folder = g_build_filename(g_get_user_state_dir(), "backapp", name, NULL);
    if (!g_path_is_absolute(*folder)) {
        char *whole = mirror_options_absolute(*folder);
        g_free(*folder);
        *folder = whole;
    }
    return g_mkdir_with_parents(*folder, 0700) == 0 ||
           error_set_errno(error, errno, "cannot make %s, the folder for %s", *folder, what);
}

static gboolean make_state_dir(JobSpec *spec, GError **error)
{
    switch (spec->type) {
    case JOB_S3_MIRROR:
    case JOB_TWO_STAGE:
    case JOB_VERIFY:
        return make_folder(&spec->options.s3.state_dir, "s3", "catalogues", error);
    case JOB_ARCHIVE:
        return spec->options.dry_run ||
               make_folder(&spec->options.archive.state_dir, "archives", "what an interrupted run goes on with", error);
    default:
        return TRUE;
    }
}

/* What can be told of a URL before anything is asked. */
static gboolean check_url(const char *url, GError **error)
{
    g_autofree char *shown = human_name(url, -1);
    const char *bucket = g_str_has_prefix(url, "s3://") ? url + strlen("s3://") : NULL;
    if (g_str_has_prefix(url, "s3:") && (!bucket || *bucket == '\0' || *bucket == '/'))
        return error_set(error, BACKAPP_ERROR_INVALID, "%s names no bucket: write s3://BUCKET or s3://BUCKET/PREFIX",
                         shown);
    /* Not shown: it may be a key. */
    if (bucket && strcspn(bucket, "@:") < strcspn(bucket, "/"))
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "a STORE is written s3://BUCKET/PREFIX: keys do not belong there, but into the environment or "
                         "a profile");
    g_autofree char *host = NULL;
    g_autofree char *path = g_str_has_prefix(url, "file:") ? g_filename_from_uri(url, &host, NULL) : NULL;
    if (g_str_has_prefix(url, "file:") && (!path || (host && strcmp(host, "localhost") != 0)))
        return error_set(error, BACKAPP_ERROR_INVALID, "%s names no directory of this machine: write file:///DIRECTORY",
                         shown);
    if (strstr(url, "://") && !store_is_url(url) && *url != '/')
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "%s is no store: s3://BUCKET/PREFIX, file:///DIRECTORY and paths "
                         "are",
                         shown);
    return TRUE;
}

static gboolean check_store(const JobStore *store, GError **error)
{
    if (!store->url)
        return TRUE;
    if (store->endpoint && !g_str_has_prefix(store->endpoint, "http://") &&
        !g_str_has_prefix(store->endpoint, "https://"))
        return error_set(error, BACKAPP_ERROR_INVALID, "--endpoint must begin with https:// or http://");
    if (store->endpoint && strchr(store->endpoint, '@'))
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "--endpoint: keys do not belong there, but into the environment or a profile");
    if (store->provider && !provider_find(store->provider, error)) {
        g_prefix_error(error, "--provider: ");
        return FALSE;
    }
    if (store->sse && strcmp(store->sse, "AES256") != 0 && strcmp(store->sse, "aws:kms") != 0)
        return error_set(error, BACKAPP_ERROR_INVALID, "--sse must be AES256 or aws:kms");
    if (store->sse_kms_key && g_strcmp0(store->sse, "aws:kms") != 0)
        return error_set(error, BACKAPP_ERROR_INVALID, "--sse-kms-key is only of use with --sse aws:kms");
    return check_url(store->url, error);
}

static gboolean check_class(const char *name, const char *option, GError **error)
{
    if (!name || strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == strlen(name))
        return TRUE;
    g_autofree char *shown = human_name(name, -1);
    return error_set(error, BACKAPP_ERROR_INVALID, "%s: %s is no storage class: they are written like STANDARD_IA",
                     option, shown);
}

static gboolean check_s3_options(const JobSpec *spec, GError **error)
{
    const JobS3Options *s3 = &spec->options.s3;
    const PrefixValues values = {.time = 1};
    for (guint i = 0; i < s3->class_rules->len; i++)
        if (!check_class(g_array_index(s3->class_rules, JobClassRule, i).storage_class, "--class-for", error))
            return FALSE;
    if (!check_class(s3->storage_class, "--storage-class", error))
        return FALSE;
    g_autofree char *prefix = prefix_expand(NULL, s3->s3_prefix, &values, NULL, error);
    if (!prefix) {
        g_prefix_error(error, "--s3-prefix: ");
        return FALSE;
    }
    guint8 key[32];
    gboolean fine = (!s3->encrypt && !spec->encryption_key) || engine_encryption_key(spec, key, error);
    explicit_bzero(key, sizeof key);
    return fine;
}

static gboolean check(const JobSpec *spec, GError **error)
{
    for (guint i = 0; i < spec->destinations->len; i++) {
        const JobStore *store = &g_array_index(spec->destinations, JobDestination, i).store;
        if (!check_store(store, error))
            return FALSE;
        for (guint j = 0; j < i; j++)
            if (store->url &&
                g_strcmp0(store->url, g_array_index(spec->destinations, JobDestination, j).store.url) == 0)
                return error_set(error, BACKAPP_ERROR_INVALID, "the same STORE is given twice");
    }
    return check_store(&spec->store, error) && check_s3_options(spec, error);
}

gboolean store_args_passphrase(JobSpec *spec, const OptionArgs *args, GError **error)
{
    const char *file = options_value(args, OPT_PASSPHRASE_FILE);
    if (!file)
        return TRUE;
    passphrase_free(spec->passphrase);
    spec->passphrase = passphrase_read_file(file, error);
    return spec->passphrase != NULL;
}

/* What opens what is encrypted: a file that was named, the key itself, a passphrase; the first that is there. */
static void fill_secrets(JobSpec *spec)
{
    const char *key = g_getenv("BACKUP_ENCRYPTION_KEY"), *passphrase = g_getenv("BACKUP_PASSPHRASE");
    gboolean archive = spec->options.archive.encryption || spec->store.url;
    if (!spec->passphrase && key && *key && (spec->options.s3.encrypt || archive))
        spec->encryption_key = g_strdup(key);
    else if (!spec->passphrase && passphrase && *passphrase && archive)
        spec->passphrase = g_strdup(passphrase);
}

gboolean store_args_complete(JobSpec *spec, GError **error)
{
    static const char *const secrets[] = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
                                          "BACKUP_ENCRYPTION_KEY", "BACKUP_PASSPHRASE"};
    for (guint i = 0; i < spec->destinations->len; i++)
        fill_keys(&g_array_index(spec->destinations, JobDestination, i).store);
    fill_keys(&spec->store);
    fill_secrets(spec);
    for (guint i = 0; i < G_N_ELEMENTS(secrets); i++)
        g_unsetenv(secrets[i]);
    return check(spec, error) && make_state_dir(spec, error);
}
