#include "job/engine_store.h"

#include "base/error.h"
#include "crypto/digest.h"

#include <string.h>

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

Store *engine_open_store(const JobStore *where, Rate *rate, const CancelFlag *cancel, GError **error)
{
    return open_url(where->url, where, rate, cancel, error);
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

gboolean engine_encryption_key(const JobSpec *spec, guint8 key[32], GError **error)
{
    if (!spec->encryption_key)
        return error_set(
            error, BACKAPP_ERROR_INVALID,
            "encryption is asked for, but there is no key: set BACKUP_ENCRYPTION_KEY to 32 random bytes in "
            "base64 (openssl rand -base64 32), and keep a copy of it elsewhere");
    if (!digest_parse_base64(spec->encryption_key, key, 32))
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "the encryption key is not 32 bytes in base64 (44 characters, the last one '=')");
    return TRUE;
}
