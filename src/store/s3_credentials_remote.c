#include "store/s3_credentials_private.h"

#include "base/error.h"
#include "crypto/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MAX_TOKEN    (64 * 1024)
#define MAX_ROLE     512
#define TOKEN_PATH   "/latest/api/token"
#define ROLES_PATH   "/latest/meta-data/iam/security-credentials/"
#define TOKEN_HEADER "X-aws-ec2-metadata-token"
/* Long enough for the two requests behind it. */
#define TOKEN_TTL_S 300

/* Another device or a pipe could give bytes without end, or keep us waiting. */
static gboolean is_readable_kind(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3)));
}

gssize s3_read_small(const char *path, const char *what, char *buffer, gsize size, GError **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        error_set_errno(error, errno == ENOTDIR ? ENOENT : errno, "cannot read %s in %s", what, path);
        return -1;
    }
    if (!is_readable_kind(fd)) {
        error_set(error, BACKAPP_ERROR_INVALID, "cannot read %s in %s: it is not a regular file", what, path);
        (void)close(fd);
        return -1;
    }
    gsize length = 0;
    gssize got = 1;
    while (got > 0 && length < size) {
        got = read(fd, buffer + length, size - length);
        if (got < 0 && errno == EINTR)
            got = 1;
        else if (got > 0)
            length += (gsize)got;
    }
    if (got < 0)
        error_set_errno(error, errno, "cannot read %s in %s", what, path);
    /* It was only read. */
    (void)close(fd);
    return got < 0 ? -1 : (gssize)length;
}

static gboolean is_token(const char *text)
{
    for (; *text; text++)
        if (!g_ascii_isgraph(*text) && *text != ' ')
            return FALSE;
    return TRUE;
}

char *s3_read_token(const char *path, GError **error)
{
    gsize size = MAX_TOKEN + 2;
    char *text = g_malloc0(size);
    gssize length = s3_read_small(path, "the token", text, size - 1, error);
    if (length >= 0) {
        g_strstrip(text);
        if (length > MAX_TOKEN || *text == '\0' || !is_token(text)) {
            error_set(error, BACKAPP_ERROR_INVALID, "the file %s holds no token", path);
            length = -1;
        }
    }
    char *token = length >= 0 ? g_strdup(text) : NULL;
    secret_wipe(text, size);
    g_free(text);
    return token;
}

static gboolean is_loopback(const char *host)
{
    return strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 ||
           (g_str_has_prefix(host, "127.") && g_hostname_is_ip_address(host));
}

gboolean s3_container_url_allowed(const char *url)
{
    if (g_str_has_prefix(url, "https://") && url[8] != '\0')
        return TRUE;
    if (!g_str_has_prefix(url, "http://"))
        return FALSE;
    const char *at = url + strlen("http://");
    gsize length = strcspn(at, "/?#");
    /* A name in front of an '@' would look like the host. */
    if (memchr(at, '@', length) || memchr(at, '\\', length))
        return FALSE;
    g_autofree char *host = g_strndup(at, length);
    char *port = strrchr(host, ':');
    if (port && !strchr(port, ']'))
        *port = '\0';
    /* Of ECS and of EKS. */
    return is_loopback(host) || strcmp(host, "169.254.170.2") == 0 || strcmp(host, "169.254.170.23") == 0 ||
           g_ascii_strcasecmp(host, "[fd00:ec2::23]") == 0;
}

static gboolean get(HttpClient *client, const char *method, const char *url, char *header, HttpResponse *response,
                    GError **error)
{
    g_autoptr(GPtrArray) headers = g_ptr_array_new_with_free_func(s3_secret_free);
    if (header)
        g_ptr_array_add(headers, header);
    HttpRequest request = {.method = method, .url = url, .headers = headers};
    return http_perform(client, &request, response, error);
}

static gboolean status_error(const char *what, const HttpResponse *response, GError **error)
{
    gboolean transient = response->status >= 500 || response->status == 429;
    return error_set(error, transient ? BACKAPP_ERROR_TRANSIENT : BACKAPP_ERROR_DENIED, "%s answers with status %u",
                     what, response->status);
}

static S3Keys *keys_of(HttpResponse *response, const char *what, GError **error)
{
    S3Keys *keys = s3_keys_from_json((const char *)response->body->data, response->body->len, error);
    if (!keys)
        g_prefix_error(error, "%s: ", what);
    secret_wipe(response->body->data, response->body->len);
    return keys;
}

S3Keys *s3_container_fetch(const S3Source *source, HttpClient *client, GError **error)
{
    char *token = source->token_file ? s3_read_token(source->token_file, error) : g_strdup(source->token);
    if (source->token_file && !token)
        return NULL;
    char *header = token ? g_strconcat("Authorization: ", token, NULL) : NULL;
    s3_secret_free(token);
    g_auto(HttpResponse) response = {0};
    if (!get(client, "GET", source->url, header, &response, error)) {
        g_prefix_error(error, "%s: ", source->name);
        return NULL;
    }
    if (response.status != 200) {
        status_error(source->name, &response, error);
        return NULL;
    }
    return keys_of(&response, source->name, error);
}

/* One value of the metadata service; NULL with an error. The caller frees with s3_secret_free. */
static char *machine_get(const S3Source *source, HttpClient *client, const char *path, const char *token,
                         HttpResponse *response, GError **error)
{
    g_autofree char *url = g_strconcat(source->url, path, NULL);
    gboolean first = token == NULL;
    char *header = first ? g_strdup_printf(TOKEN_HEADER "-ttl-seconds: %d", TOKEN_TTL_S)
                         : g_strconcat(TOKEN_HEADER ": ", token, NULL);
    if (!get(client, first ? "PUT" : "GET", url, header, response, error)) {
        /* Most machines are none of Amazon's. */
        if (first && error_is(*error, BACKAPP_ERROR_TRANSIENT))
            (*error)->code = BACKAPP_ERROR_NOT_FOUND;
        return NULL;
    }
    if (response->status == 200)
        return g_strndup((const char *)response->body->data, response->body->len);
    if (response->status == 404 && !first)
        error_set(error, BACKAPP_ERROR_NOT_FOUND, "the machine has no role");
    else
        status_error(source->name, response, error);
    return NULL;
}

/* The first line, if it is a name. */
static char *role_of(const char *list, GError **error)
{
    gsize length = strcspn(list, "\r\n");
    g_autofree char *role = g_strstrip(g_strndup(list, length));
    if (*role != '\0' && strlen(role) <= MAX_ROLE && is_token(role) && !strpbrk(role, "/?# "))
        return g_steal_pointer(&role);
    error_set(error, BACKAPP_ERROR_CORRUPT, "the metadata service's answer is not the name of a role");
    return NULL;
}

/* One request after another, each with what the one before gave. */
static S3Keys *machine_steps(const S3Source *source, HttpClient *client, char **token, GError **error)
{
    g_auto(HttpResponse) first = {0};
    *token = machine_get(source, client, TOKEN_PATH, NULL, &first, error);
    if (!*token)
        return NULL;
    if (!is_token(*token)) {
        error_set(error, BACKAPP_ERROR_CORRUPT, "the metadata service's answer is not a token");
        return NULL;
    }
    g_auto(HttpResponse) second = {0};
    g_autofree char *list = machine_get(source, client, ROLES_PATH, *token, &second, error);
    g_autofree char *role = list ? role_of(list, error) : NULL;
    if (!role)
        return NULL;
    g_autoptr(GString) path = g_string_new(ROLES_PATH);
    http_encode(path, role, -1, FALSE);
    g_auto(HttpResponse) third = {0};
    char *unused = machine_get(source, client, path->str, *token, &third, error);
    gboolean good = unused != NULL;
    s3_secret_free(unused);
    return good ? keys_of(&third, source->name, error) : NULL;
}

S3Keys *s3_machine_fetch(const S3Source *source, HttpClient *client, GError **error)
{
    char *token = NULL;
    GError *local = NULL;
    S3Keys *keys = machine_steps(source, client, &token, &local);
    s3_secret_free(token);
    if (local)
        g_propagate_error(error, local);
    return keys;
}
