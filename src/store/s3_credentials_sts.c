#include "store/s3_credentials_private.h"

#include "base/error.h"
#include "base/log.h"
#include "crypto/digest.h"
#include "crypto/secret.h"
#include "store/s3_xml.h"

#include <string.h>

/* STS accepts a clock that is wrong by five minutes. */
#define WRONG_CLOCK_S 240

static void append_field(GString *form, const char *name, const char *value)
{
    if (!value)
        return;
    if (form->len > 0)
        g_string_append_c(form, '&');
    g_string_append(form, name);
    g_string_append_c(form, '=');
    http_encode(form, value, -1, FALSE);
}

static GString *make_form(const S3Source *source, const char *web_token)
{
    GString *form = g_string_sized_new(512);
    append_field(form, "Action", web_token ? "AssumeRoleWithWebIdentity" : "AssumeRole");
    append_field(form, "Version", "2011-06-15");
    append_field(form, "RoleArn", source->role_arn);
    append_field(form, "RoleSessionName", source->session_name ? source->session_name : "backapp");
    append_field(form, "ExternalId", source->external_id);
    append_field(form, "WebIdentityToken", web_token);
    if (source->duration_s > 0) {
        g_autofree char *duration = g_strdup_printf("%u", source->duration_s);
        append_field(form, "DurationSeconds", duration);
    }
    return form;
}

static void sign(const S3Source *source, const S3Keys *base, const GString *form, gint64 time, GPtrArray *headers)
{
    const char *host = strstr(source->url, "://") + 3;
    g_autofree char *host_name = g_strndup(host, strcspn(host, "/"));
    g_autofree char *hash = digest_sha256_hex(form->str, form->len);
    const SigCredentials keys = {base->access_key, base->secret_key, base->session_token};
    const SigRequest request = {
        .method = "POST", .host = host_name, .path = "/", .region = source->region, .service = "sts", .time = time};
    sigv4_sign(&request, &keys, hash, headers);
}

/* The code and words of an error answer. */
typedef struct {
    char *code, *message;
} Refusal;

static gboolean take_refusal(gpointer user_data, guint depth, const char *name, const char *text, gsize length,
                             GError **error)
{
    Refusal *refusal = user_data;
    char **place = strcmp(name, "Code") == 0 ? &refusal->code : strcmp(name, "Message") == 0 ? &refusal->message : NULL;
    if (place && !*place)
        *place = g_strndup(text, MIN(length, 500));
    return TRUE;
}

static gboolean is_transient(guint status, const char *code)
{
    return status >= 500 || status == 429 || status == 408 ||
           (code && (strstr(code, "Throttl") || strcmp(code, "IDPCommunicationError") == 0));
}

static gboolean refused(const S3Source *source, const HttpResponse *response, GError **error)
{
    static const S3XmlHandler handler = {.close = take_refusal};
    Refusal refusal = {0};
    (void)s3_xml_parse(response->body->data, response->body->len, &handler, &refusal, NULL);
    g_autofree char *code = refusal.code;
    g_autofree char *message = refusal.message;
    g_autofree char *status = g_strdup_printf("status %u", response->status);
    return error_set(error, is_transient(response->status, code) ? BACKAPP_ERROR_TRANSIENT : BACKAPP_ERROR_DENIED,
                     "STS does not give out the role %s: %s%s%s", source->role_arn, code ? code : status,
                     message && *message ? ": " : "", message ? message : "");
}

/* Sends the form, signed if there are keys to sign with. */
static gboolean ask(const S3Source *source, const S3Keys *base, const GString *form, gint64 time, HttpClient *client,
                    HttpResponse *response, GError **error)
{
    g_autofree char *url =
        g_str_has_suffix(source->url, "/") ? g_strdup(source->url) : g_strconcat(source->url, "/", NULL);
    g_autoptr(GPtrArray) headers = g_ptr_array_new_with_free_func(s3_secret_free);
    g_ptr_array_add(headers, g_strdup("Content-Type: application/x-www-form-urlencoded"));
    if (base)
        sign(source, base, form, time, headers);
    HttpBody body = {.data = form->str, .length = form->len};
    HttpRequest request = {.method = "POST", .url = url, .headers = headers, .body = &body};
    return http_perform(client, &request, response, error);
}

static S3Keys *keys_of(const S3Source *source, HttpResponse *response, GError **error)
{
    S3Keys *keys = NULL;
    if (response->status != 200)
        refused(source, response, error);
    else
        keys = s3_keys_from_xml((const char *)response->body->data, response->body->len, error);
    if (response->body)
        secret_wipe(response->body->data, response->body->len);
    return keys;
}

static gboolean clock_is_wrong(const HttpResponse *response, gint64 now)
{
    return response->status == 403 && response->server_time != 0 && ABS(response->server_time - now) > WRONG_CLOCK_S;
}

S3Keys *s3_sts_fetch(const S3Source *source, const S3Keys *base, HttpClient *client, GError **error)
{
    char *web_token = NULL;
    if (source->kind == S3_SOURCE_WEB_IDENTITY && !(web_token = s3_read_token(source->token_file, error)))
        return NULL;
    GString *form = make_form(source, web_token);
    s3_secret_free(web_token);
    gint64 now = g_get_real_time() / G_USEC_PER_SEC;
    g_auto(HttpResponse) response = {0};
    gboolean good = ask(source, base, form, now, client, &response, error);
    if (good && base && clock_is_wrong(&response, now)) {
        gint64 theirs = response.server_time;
        http_response_clear(&response);
        good = ask(source, base, form, theirs, client, &response, error);
    }
    secret_wipe(form->str, form->len);
    g_string_free(form, TRUE);
    if (!good) {
        g_prefix_error(error, "role %s: ", source->role_arn);
        return NULL;
    }
    S3Keys *keys = keys_of(source, &response, error);
    if (keys)
        log_debug("credentials: STS gave keys of the role %s", source->role_arn);
    return keys;
}
