#include "job/engine_store.h"

#include "base/error.h"
#include "base/human.h"
#include "crypto/key.h"
#include "fs/dir.h"
#include "store/keyring.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static Store *open_url(const char *url, const JobStore *where, Rate *rate, const CancelFlag *cancel, GError **error)
{
    StoreOptions options;
    store_options_default(&options);
    options.endpoint = where->endpoint;
    options.region = where->region;
    options.provider = where->provider;
    options.profile = where->profile;
    options.access_key = where->access_key;
    options.secret_key = where->secret_key;
    options.session_token = where->session_token;
    options.role_arn = where->role_arn;
    options.external_id = where->external_id;
    options.ca_file = where->ca_file;
    options.insecure = where->insecure;
    options.path_style = where->path_style ? 1 : where->virtual_style ? 0 : -1;
    options.sse = where->sse;
    options.sse_kms_key = where->sse_kms_key;
    options.rate = rate;
    options.cancel = cancel;
    return store_open(url, &options, error);
}

static char *directory_of(const char *url)
{
    if (g_str_has_prefix(url, "file:"))
        return g_filename_from_uri(url, NULL, NULL);
    return store_is_url(url) ? NULL : g_strdup(url);
}

char *engine_store_directory(const JobStore *where)
{
    return directory_of(where->url);
}

/* The directory, or the nearest one above it that is there. */
static int open_nearest(const char *directory)
{
    g_autofree char *path = g_canonicalize_filename(directory, NULL);
    for (;;) {
        int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0 || errno != ENOENT || g_str_equal(path, "/"))
            return fd;
        char *parent = g_path_get_dirname(path);
        g_free(path);
        path = parent;
    }
}

/* TRUE if a walk of the source does not get to the directory. */
static gboolean is_left_out(const char *directory, const char *source, const PatternList *patterns)
{
    g_autofree char *clean = g_canonicalize_filename(directory, NULL);
    g_autofree char *top = g_canonicalize_filename(source, NULL);
    gsize length = g_str_equal(top, "/") ? 0 : strlen(top);
    if (pattern_list_length(patterns) == 0 || strncmp(clean, top, length) != 0 || clean[length] != '/')
        return FALSE;
    char *path = clean + length + 1;
    for (char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        gboolean out = pattern_list_match(patterns, path, TRUE) == PATTERN_EXCLUDE;
        *slash = '/';
        if (out)
            return TRUE;
    }
    return pattern_list_match(patterns, path, TRUE) == PATTERN_EXCLUDE;
}

static gboolean same_file_system(int a, int b)
{
    struct stat first, second;
    return fstat(a, &first) != 0 || fstat(b, &second) != 0 || first.st_dev == second.st_dev;
}

gboolean engine_check_apart(const JobStore *where, const char *const *sources, const PatternList *patterns,
                            gboolean one_file_system, GError **error)
{
    g_autofree char *directory = engine_store_directory(where);
    g_auto(AutoFd) store = directory ? open_nearest(directory) : -1;
    for (; store >= 0 && *sources; sources++) {
        g_auto(AutoFd) source = open(*sources, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (source < 0 || !dir_lies_in(store, source) || is_left_out(directory, *sources, patterns) ||
            (one_file_system && !same_file_system(store, source)))
            continue;
        g_autofree char *to = human_name(directory, -1), *from = human_name(*sources, -1);
        return error_set(
            error, BACKAPP_ERROR_INVALID,
            "the store %s lies inside the source %s: each copy would hold the ones before it; choose a store "
            "elsewhere, or leave it out with --exclude",
            to, from);
    }
    return TRUE;
}

static gboolean is_missing(const char *url)
{
    struct stat st;
    g_autofree char *path = directory_of(url);
    return path && stat(path, &st) < 0 && errno == ENOENT;
}

gboolean engine_store_is_there(const JobStore *where, GError **error)
{
    if (!is_missing(where->url))
        return TRUE;
    g_autofree char *shown = human_name(where->url, -1);
    return error_set(error, BACKAPP_ERROR_NOT_FOUND, "there is no store %s: no such directory", shown);
}

Store *engine_open_unmade(const JobStore *where, Rate *rate, const CancelFlag *cancel, char **prefix, GError **error)
{
    if (!is_missing(where->url))
        return engine_open_bucket(where, rate, cancel, prefix, error);
    struct stat st;
    g_autofree char *path = directory_of(where->url);
    g_autofree char *parent = g_path_get_dirname(path);
    g_autofree char *shown = human_name(where->url, -1);
    if (stat(parent, &st) < 0) {
        (void)error_set_errno(error, errno, "cannot make the directory %s", shown);
        return NULL;
    }
    Store *store = store_memory_new();
    g_free(store->url);
    store->url = g_strdup(where->url);
    *prefix = g_strdup("");
    return store;
}

Store *engine_open_store(const JobStore *where, Rate *rate, const CancelFlag *cancel, GError **error)
{
    return engine_store_is_there(where, error) ? open_url(where->url, where, rate, cancel, error) : NULL;
}

Store *engine_open_bucket(const JobStore *where, Rate *rate, const CancelFlag *cancel, char **prefix, GError **error)
{
    static const char scheme[] = "s3://";
    g_autofree char *url = g_strdup(where->url);
    char *slash = g_str_has_prefix(url, scheme) ? strchr(url + strlen(scheme), '/') : NULL;
    g_autofree char *rest = g_strdup(slash ? slash + 1 : "");
    if (slash)
        *slash = '\0';
    Store *store = open_url(url, where, rate, cancel, error);
    if (store)
        *prefix = g_steal_pointer(&rest);
    return store;
}

Store *engine_open_target(const JobStore *where, gboolean dry_run, Rate *rate, const CancelFlag *cancel, GError **error)
{
    g_autofree char *none = NULL;
    return dry_run && is_missing(where->url) ? engine_open_unmade(where, rate, cancel, &none, error)
                                             : open_url(where->url, where, rate, cancel, error);
}

gboolean engine_master_key(const JobSpec *spec, Store *store, guint8 key[32], gboolean *given, GError **error)
{
    *given = spec->encryption_key || spec->passphrase;
    if (spec->encryption_key)
        return engine_encryption_key(spec, key, error);
    if (!spec->passphrase)
        return TRUE;
    GError *why = NULL;
    g_autoptr(Key) master = keyring_unlock(store, spec->passphrase, &why);
    if (!master && error_is(why, BACKAPP_ERROR_NOT_FOUND)) {
        /* A passphrase in the environment does not make a store that is not encrypted unreadable. */
        *given = FALSE;
        g_error_free(why);
        return TRUE;
    }
    if (!master) {
        g_propagate_error(error, why);
        return FALSE;
    }
    memcpy(key, key_bytes(master), KEY_BYTES);
    return TRUE;
}

static const char *environment_endpoint(void)
{
    static const char *const names[] = {"AWS_ENDPOINT_URL_S3", "AWS_S3_ENDPOINT", "AWS_ENDPOINT_URL"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        const char *value = g_getenv(names[i]);
        if (value && *value)
            return value;
    }
    return NULL;
}

const Provider *engine_provider(const JobStore *where)
{
    if (!where->url || !g_str_has_prefix(where->url, "s3:"))
        return NULL;
    if (where->provider)
        return provider_find(where->provider, NULL);
    const char *endpoint = where->endpoint ? where->endpoint : environment_endpoint();
    /* A profile may name an endpoint, which only the store looks up. */
    if (!endpoint)
        return where->profile || g_getenv("AWS_PROFILE") ? NULL : provider_find("aws", NULL);
    const char *scheme = strstr(endpoint, "://");
    const char *host = scheme ? scheme + strlen("://") : endpoint;
    g_autofree char *name = g_strndup(host, strcspn(host, ":/"));
    return provider_of_host(name);
}

gboolean engine_encryption_key(const JobSpec *spec, guint8 key[32], GError **error)
{
    if (!spec->encryption_key)
        return error_set(
            error, BACKAPP_ERROR_INVALID,
            "encryption is asked for, but there is no key: set BACKUP_ENCRYPTION_KEY to 32 random bytes in "
            "base64 (openssl rand -base64 32), and keep a copy of it elsewhere");
    g_autoptr(Key) parsed = key_from_base64(spec->encryption_key, "the encryption key", NULL);
    if (!parsed)
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "the encryption key is not 32 bytes in base64 (44 characters, the last one '=')");
    memcpy(key, key_bytes(parsed), KEY_BYTES);
    return TRUE;
}
