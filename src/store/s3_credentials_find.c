#include "store/s3_credentials_private.h"

#include "base/error.h"
#include "crypto/secret.h"

#include <errno.h>
#include <string.h>

/* Profiles that name each other as their source; nobody needs more. */
#define MAX_CHAIN 8
/* STS refuses others. */
#define MIN_DURATION_S 900
#define MAX_DURATION_S 43200

#define CONTAINER_HOST "http://169.254.170.2"
#define MACHINE_HOST   "http://169.254.169.254"
#define MACHINE_HOST_6 "http://[fd00:ec2::254]"

/* What the search goes through. */
typedef struct {
    const StoreOptions *options;
    S3Profiles *profiles;
    char *credentials_file, *config_file;
    const char *profile; /* chosen; the options', the environment's or "default" */
    gboolean chosen;     /* not just "default" */
    const char *chain[MAX_CHAIN];
    guint depth;
    S3Found *found;
} Search;

void s3_source_free(S3Source *source)
{
    if (!source)
        return;
    s3_keys_unref(source->fixed);
    s3_source_free(source->base);
    g_free(source->name);
    g_free(source->role_arn);
    g_free(source->external_id);
    g_free(source->session_name);
    g_free(source->token_file);
    g_free(source->url);
    s3_secret_free(source->token);
    g_free(source->region);
    g_free(source);
}

/* An empty variable is like none. */
static const char *environment(const char *name)
{
    const char *value = g_getenv(name);
    return value && *value ? value : NULL;
}

static const char *either(const char *first, const char *second)
{
    return first ? first : second;
}

static S3Source *new_source(S3SourceKind kind, const char *name)
{
    S3Source *source = g_new0(S3Source, 1);
    source->kind = kind;
    source->name = g_strdup(name);
    return source;
}

static void tried(Search *search, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void tried(Search *search, const char *format, ...)
{
    GString *out = search->found->tried;
    va_list arguments;
    if (out->len > 0)
        g_string_append(out, "; ");
    va_start(arguments, format);
    g_string_append_vprintf(out, format, arguments);
    va_end(arguments);
}

static gboolean read_file(Search *search, const char *path, gboolean config, GError **error)
{
    g_autoptr(GError) local = NULL;
    char *text = g_malloc(S3_FILE_MAX + 1);
    gssize length = s3_read_small(path, "the profiles", text, S3_FILE_MAX + 1, &local);
    gboolean good = length < 0 || s3_profiles_add(search->profiles, text, (gsize)length, config, path, error);
    secret_wipe(text, S3_FILE_MAX + 1);
    g_free(text);
    if (local && !error_is(local, BACKAPP_ERROR_NOT_FOUND))
        tried(search, "%s", local->message);
    return good;
}

static char *file_path(const char *variable, const char *name)
{
    const char *said = environment(variable);
    return said ? g_strdup(said) : g_build_filename(g_get_home_dir(), ".aws", name, NULL);
}

static gboolean read_files(Search *search, GError **error)
{
    const StoreOptions *options = search->options;
    const char *said = environment("AWS_PROFILE");
    search->profiles = s3_profiles_new();
    search->config_file = file_path("AWS_CONFIG_FILE", "config");
    search->credentials_file = file_path("AWS_SHARED_CREDENTIALS_FILE", "credentials");
    search->profile = either(either(options->profile, said), "default");
    search->chosen = options->profile || said;
    return read_file(search, search->config_file, TRUE, error) &&
           read_file(search, search->credentials_file, FALSE, error);
}

static const char *setting(const Search *search, const char *profile, const char *key)
{
    return s3_profiles_get(search->profiles, profile, key);
}

/* Region and endpoint of the chosen profile. */
static void take_place(Search *search)
{
    const char *services = setting(search, search->profile, "services");
    g_autofree char *section = services ? g_strconcat("services ", services, NULL) : NULL;
    const char *own = section ? setting(search, section, "s3.endpoint_url") : NULL;
    search->found->region = g_strdup(setting(search, search->profile, "region"));
    search->found->endpoint = g_strdup(either(own, setting(search, search->profile, "endpoint_url")));
}

static const char *region(const Search *search)
{
    const char *said =
        either(search->options->region, either(environment("AWS_REGION"), environment("AWS_DEFAULT_REGION")));
    return either(either(said, search->found->region), "us-east-1");
}

/* Where STS is. A private store has its own at the store's endpoint. */
static char *sts_url(const Search *search)
{
    const char *said = either(environment("AWS_ENDPOINT_URL_STS"), environment("AWS_ENDPOINT_URL"));
    const char *endpoint = search->options->endpoint;
    if (said)
        return g_strdup(said);
    if (endpoint && strstr(endpoint, "://") && !strstr(endpoint, "amazonaws.com"))
        return g_strdup(endpoint);
    return g_strdup_printf("https://sts.%s.amazonaws.com%s", region(search),
                           g_str_has_prefix(region(search), "cn-") ? ".cn" : "");
}

static gboolean finish_role(const Search *search, S3Source *source, GError **error)
{
    source->url = sts_url(search);
    source->region = g_strdup(region(search));
    const char *host = strstr(source->url, "://");
    const char *rest = host ? host + 3 + strcspn(host + 3, "/?#") : NULL;
    if (!host || rest == host + 3 || (*rest != '\0' && strcmp(rest, "/") != 0))
        return error_set(error, BACKAPP_ERROR_INVALID, "the endpoint of STS %s is not https://HOST[:PORT]",
                         source->url);
    return TRUE;
}

static S3Source *role_of(const Search *search, S3Source *base, const char *arn, const char *external_id,
                         const char *name, GError **error)
{
    g_autoptr(S3Source) source = new_source(S3_SOURCE_ROLE, name);
    source->base = base;
    source->role_arn = g_strdup(arn);
    source->external_id = g_strdup(external_id);
    return finish_role(search, source, error) ? g_steal_pointer(&source) : NULL;
}

static S3Source *web_identity_of(const Search *search, const char *arn, const char *file, const char *session,
                                 const char *name, GError **error)
{
    g_autoptr(S3Source) source = new_source(S3_SOURCE_WEB_IDENTITY, name);
    source->role_arn = g_strdup(arn);
    source->token_file = g_strdup(file);
    source->session_name = g_strdup(session);
    return finish_role(search, source, error) ? g_steal_pointer(&source) : NULL;
}

/* NULL without an error: not configured. */
static S3Source *from_pair(const char *access, const char *secret, const char *token, const char *name,
                           const char *what, GError **error)
{
    if (!access && !secret)
        return NULL;
    if (!access || !secret) {
        error_set(error, BACKAPP_ERROR_INVALID, "%s: there is %s, but no %s", what,
                  access ? "an access key" : "a secret key", access ? "secret key" : "access key");
        return NULL;
    }
    S3Source *source = new_source(S3_SOURCE_FIXED, name);
    source->fixed = s3_keys_new(access, secret, token, 0);
    return source;
}

static S3Source *from_environment(Search *search, GError **error)
{
    return from_pair(environment("AWS_ACCESS_KEY_ID"), environment("AWS_SECRET_ACCESS_KEY"),
                     environment("AWS_SESSION_TOKEN"), "environment", "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY",
                     error);
}

static S3Source *from_web_identity(Search *search, GError **error)
{
    const char *file = environment("AWS_WEB_IDENTITY_TOKEN_FILE");
    const char *arn = environment("AWS_ROLE_ARN");
    if (!file)
        return NULL;
    if (!arn) {
        error_set(error, BACKAPP_ERROR_INVALID, "AWS_WEB_IDENTITY_TOKEN_FILE is set, but not AWS_ROLE_ARN");
        return NULL;
    }
    return web_identity_of(search, arn, file, environment("AWS_ROLE_SESSION_NAME"), "web identity", error);
}

static S3Source *from_container(Search *search, GError **error)
{
    const char *relative = environment("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *full = environment("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    if (!relative && !full)
        return NULL;
    if (relative && *relative != '/') {
        error_set(error, BACKAPP_ERROR_INVALID, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI does not begin with a slash");
        return NULL;
    }
    if (!relative && !s3_container_url_allowed(full)) {
        error_set(
            error, BACKAPP_ERROR_INVALID,
            "AWS_CONTAINER_CREDENTIALS_FULL_URI names neither https:// nor an address of this machine, so no keys "
            "are asked for there");
        return NULL;
    }
    S3Source *source = new_source(S3_SOURCE_CONTAINER, "container endpoint");
    source->url = relative ? g_strconcat(CONTAINER_HOST, relative, NULL) : g_strdup(full);
    source->token_file = g_strdup(environment("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"));
    source->token = g_strdup(environment("AWS_CONTAINER_AUTHORIZATION_TOKEN"));
    return source;
}

static S3Source *from_machine(Search *search)
{
    const char *disabled = environment("AWS_EC2_METADATA_DISABLED");
    const char *endpoint = environment("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    const char *mode = environment("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");
    if (disabled && g_ascii_strcasecmp(disabled, "true") == 0)
        return NULL;
    S3Source *source = new_source(S3_SOURCE_MACHINE, "metadata service of the machine");
    gboolean six = mode && g_ascii_strcasecmp(mode, "ipv6") == 0;
    source->url = g_strdup(either(endpoint, six ? MACHINE_HOST_6 : MACHINE_HOST));
    if (g_str_has_suffix(source->url, "/"))
        source->url[strlen(source->url) - 1] = '\0';
    return source;
}

static S3Source *from_profile(Search *search, const char *profile, GError **error);

/* The keys that a profile's role is assumed with. */
static S3Source *role_base(Search *search, const char *profile, GError **error)
{
    const char *other = setting(search, profile, "source_profile");
    const char *place = setting(search, profile, "credential_source");
    S3Source *base = NULL;
    GError *local = NULL;
    if (other)
        base = from_profile(search, other, &local);
    else if (place && strcmp(place, "Environment") == 0)
        base = from_environment(search, &local);
    else if (place && strcmp(place, "EcsContainer") == 0)
        base = from_container(search, &local);
    else if (place && strcmp(place, "Ec2InstanceMetadata") == 0)
        base = from_machine(search);
    if (!base && !local)
        error_set(&local, BACKAPP_ERROR_INVALID,
                  "profile %s has a role_arn, but its %s %s gives no keys to assume it with", profile,
                  place && !other ? "credential_source" : "source_profile", either(other, either(place, "(missing)")));
    if (local)
        g_propagate_error(error, local);
    return base;
}

static gboolean set_duration(S3Source *source, const char *text, const char *profile, GError **error)
{
    guint64 value = 0;
    if (!text)
        return TRUE;
    if (!g_ascii_string_to_unsigned(text, 10, MIN_DURATION_S, MAX_DURATION_S, &value, NULL))
        return error_set(error, BACKAPP_ERROR_INVALID, "profile %s: duration_seconds is not a number from %d to %d",
                         profile, MIN_DURATION_S, MAX_DURATION_S);
    source->duration_s = (guint)value;
    return TRUE;
}

static S3Source *from_role_profile(Search *search, const char *profile, const char *name, GError **error)
{
    const char *arn = setting(search, profile, "role_arn");
    const char *file = setting(search, profile, "web_identity_token_file");
    const char *session = setting(search, profile, "role_session_name");
    g_autoptr(S3Source) source = NULL;
    if (setting(search, profile, "mfa_serial")) {
        error_set(error, BACKAPP_ERROR_INVALID,
                  "profile %s asks for a code of a device (mfa_serial); a backup runs without anybody to type it",
                  profile);
        return NULL;
    }
    if (file) {
        source = web_identity_of(search, arn, file, session, name, error);
    } else {
        S3Source *base = role_base(search, profile, error);
        source = base ? role_of(search, base, arn, setting(search, profile, "external_id"), name, error) : NULL;
        if (source)
            source->session_name = g_strdup(session);
    }
    if (!source || !set_duration(source, setting(search, profile, "duration_seconds"), profile, error))
        return NULL;
    return g_steal_pointer(&source);
}

static gboolean enter(Search *search, const char *profile, GError **error)
{
    if (!s3_profiles_has(search->profiles, profile))
        return error_set(error, BACKAPP_ERROR_INVALID, "there is no profile %s, neither in %s nor in %s", profile,
                         search->credentials_file, search->config_file);
    if (search->depth == MAX_CHAIN)
        return error_set(error, BACKAPP_ERROR_INVALID, "profile %s: too many source_profile behind one another",
                         profile);
    search->chain[search->depth++] = profile;
    return TRUE;
}

/* A profile may name itself: its own keys assume its role. */
static gboolean is_repeated(const Search *search, const char *profile)
{
    for (guint i = 0; i < search->depth; i++)
        if (strcmp(search->chain[i], profile) == 0)
            return TRUE;
    return FALSE;
}

/* NULL without an error: the profile has nothing that gives keys. */
static S3Source *from_profile(Search *search, const char *profile, GError **error)
{
    gboolean repeated = is_repeated(search, profile);
    if (!enter(search, profile, error))
        return NULL;
    g_autofree char *name = g_strdup_printf("profile %s", profile);
    if (setting(search, profile, "role_arn") && !repeated)
        return from_role_profile(search, profile, name, error);
    const char *access = setting(search, profile, "aws_access_key_id");
    const char *secret = setting(search, profile, "aws_secret_access_key");
    if (access || secret)
        return from_pair(access, secret, setting(search, profile, "aws_session_token"), name, name, error);
    if (setting(search, profile, "credential_process"))
        error_set(
            error, BACKAPP_ERROR_INVALID,
            "%s names a program that gives the keys (credential_process); that is not supported, since whoever can "
            "write the file could run any program: put the keys into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            name);
    else if (setting(search, profile, "sso_session") || setting(search, profile, "sso_start_url"))
        error_set(error, BACKAPP_ERROR_INVALID,
                  "%s wants a person to log in (sso); a backup needs keys or a role of its own", name);
    return NULL;
}

static S3Source *from_files(Search *search, GError **error)
{
    if (!search->chosen && !s3_profiles_has(search->profiles, search->profile)) {
        tried(search, "no profile in %s and %s", search->credentials_file, search->config_file);
        return NULL;
    }
    GError *local = NULL;
    S3Source *source = from_profile(search, search->profile, &local);
    if (local)
        g_propagate_error(error, local);
    else if (!source)
        tried(search, "profile %s has no keys", search->profile);
    return source;
}

/* The sources in their order. A profile that the options name goes before the environment. */
static S3Source *search_all(Search *search, GError **error)
{
    const StoreOptions *options = search->options;
    GError *local = NULL;
    S3Source *source = from_pair(options->access_key, options->secret_key, options->session_token, "options",
                                 "the store's options", &local);
    if (!source && !local && !options->profile) {
        source = from_environment(search, &local);
        if (!source && !local)
            source = from_web_identity(search, &local);
        if (!source && !local)
            tried(search, "neither AWS_ACCESS_KEY_ID nor AWS_WEB_IDENTITY_TOKEN_FILE is set");
    }
    if (!source && !local)
        source = from_files(search, &local);
    if (!source && !local) {
        source = from_container(search, &local);
        if (!source && !local)
            tried(search, "no AWS_CONTAINER_CREDENTIALS_FULL_URI");
    }
    if (!source && !local && !(source = from_machine(search)))
        tried(search, "AWS_EC2_METADATA_DISABLED is set");
    if (local)
        g_propagate_error(error, local);
    return source;
}

static gboolean find(Search *search, GError **error)
{
    if (!read_files(search, error))
        return FALSE;
    take_place(search);
    GError *local = NULL;
    S3Source *source = search_all(search, &local);
    if (source && search->options->role_arn) {
        g_autofree char *name = g_strdup_printf("role with the keys of %s", source->name);
        source = role_of(search, source, search->options->role_arn, search->options->external_id, name, &local);
    }
    search->found->source = source;
    if (local)
        g_propagate_error(error, local);
    /* That there is none at all is said when keys are asked for. */
    return !local;
}

gboolean s3_credentials_find(const StoreOptions *options, S3Found *found, GError **error)
{
    Search search = {.options = options, .found = found};
    found->tried = g_string_new(NULL);
    gboolean good = find(&search, error);
    s3_profiles_free(search.profiles);
    g_free(search.credentials_file);
    g_free(search.config_file);
    return good;
}
