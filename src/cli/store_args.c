#include "cli/store_args.h"

#include "base/error.h"
#include "cli/mirror_options.h"
#include "store/drivers.h"

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

static gboolean make_state_dir(JobSpec *spec, GError **error)
{
    JobS3Options *s3 = &spec->options.s3;
    if (spec->type != JOB_S3_MIRROR && spec->type != JOB_TWO_STAGE && spec->type != JOB_VERIFY)
        return TRUE;
    if (!s3->state_dir)
        s3->state_dir = g_build_filename(g_get_user_state_dir(), "backapp", "s3", NULL);
    if (!g_path_is_absolute(s3->state_dir)) {
        char *whole = mirror_options_absolute(s3->state_dir);
        g_free(s3->state_dir);
        s3->state_dir = whole;
    }
    if (g_mkdir_with_parents(s3->state_dir, 0700) < 0)
        return error_set_errno(error, errno, "cannot make %s, the folder for catalogues", s3->state_dir);
    return TRUE;
}

gboolean store_args_complete(JobSpec *spec, GError **error)
{
    static const char *const secrets[] = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
                                          "BACKUP_ENCRYPTION_KEY"};
    for (guint i = 0; i < spec->destinations->len; i++)
        fill_keys(&g_array_index(spec->destinations, JobDestination, i).store);
    fill_keys(&spec->store);
    const char *key = g_getenv("BACKUP_ENCRYPTION_KEY");
    if (key && *key && (spec->options.s3.encrypt || spec->store.url))
        spec->encryption_key = g_strdup(key);
    for (guint i = 0; i < G_N_ELEMENTS(secrets); i++)
        g_unsetenv(secrets[i]);
    return make_state_dir(spec, error);
}
