/*
 * Asks for S3 credentials as test_credentials.py says: options as NAME=VALUE, then actions; a line of JSON for each.
 */
#include "base/error.h"
#include "base/log.h"
#include "store/s3_credentials.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static CancelFlag cancel;
static GMutex printing;

static void print(json_t *line)
{
    char *shown = json_dumps(line, JSON_COMPACT);
    g_mutex_lock(&printing);
    printf("%s\n", shown);
    fflush(stdout);
    g_mutex_unlock(&printing);
    free(shown);
    json_decref(line);
}

static void print_error(const GError *error)
{
    print(json_pack("{s:b, s:s, s:s}", "ok", 0, "code", error_code_name((BackappError)error->code), "error",
                    error->message));
}

static gboolean get(S3Credentials *credentials, S3CredentialsValue *value)
{
    g_autoptr(GError) error = NULL;
    if (!s3_credentials_get(credentials, value, &error)) {
        print_error(error);
        return FALSE;
    }
    g_autofree char *source = s3_credentials_source(credentials);
    print(json_pack("{s:b, s:s, s:s, s:s?, s:s, s:I}", "ok", 1, "access", value->keys.access_key, "secret",
                    value->keys.secret_key, "token", value->keys.session_token, "source", source, "expires",
                    (json_int_t)value->expires));
    return TRUE;
}

static gpointer get_in_thread(gpointer data)
{
    g_auto(S3CredentialsValue) value = {0};
    (void)get(data, &value);
    return NULL;
}

static gpointer cancel_later(gpointer data)
{
    g_usleep(200000);
    cancel_set(&cancel);
    return NULL;
}

static void act(S3Credentials *credentials, const char *action, S3CredentialsValue *first, S3CredentialsValue *last)
{
    if (strcmp(action, "get") == 0) {
        S3CredentialsValue *place = first->held ? last : first;
        s3_credentials_value_clear(place);
        (void)get(credentials, place);
    } else if (strcmp(action, "expired") == 0) {
        print(json_pack("{s:b}", "again", s3_credentials_expired(credentials, last->held ? last : first)));
    } else if (strcmp(action, "first-expired") == 0) {
        print(json_pack("{s:b}", "again", s3_credentials_expired(credentials, first)));
    } else if (strcmp(action, "place") == 0) {
        print(json_pack("{s:s?, s:s?}", "region", s3_credentials_region(credentials), "endpoint",
                        s3_credentials_endpoint(credentials)));
    } else if (strcmp(action, "cancel") == 0) {
        g_thread_unref(g_thread_new("cancel", cancel_later, NULL));
    } else if (g_str_has_prefix(action, "sleep=")) {
        g_usleep((gulong)g_ascii_strtoull(action + 6, NULL, 10) * 1000);
    } else if (strcmp(action, "threads") == 0) {
        GThread *threads[16];
        for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
            threads[i] = g_thread_new("get", get_in_thread, credentials);
        for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
            g_thread_join(threads[i]);
    }
}

static gboolean set_option(StoreOptions *options, const char *argument)
{
    const struct {
        const char *name;
        const char **place;
    } names[] = {{"access=", &options->access_key},   {"secret=", &options->secret_key},
                 {"token=", &options->session_token}, {"profile=", &options->profile},
                 {"role=", &options->role_arn},       {"external=", &options->external_id},
                 {"region=", &options->region},       {"endpoint=", &options->endpoint}};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        if (!g_str_has_prefix(argument, names[i].name))
            continue;
        *names[i].place = argument + strlen(names[i].name);
        return TRUE;
    }
    return strcmp(argument, "debug") == 0 && (options->debug = TRUE);
}

int main(int argc, char **argv)
{
    StoreOptions options = {.path_style = -1, .cancel = &cancel};
    log_setup(LOG_LEVEL_DEBUG, FALSE);
    int first = 1;
    while (first < argc && set_option(&options, argv[first]))
        first++;
    g_autoptr(GError) error = NULL;
    g_autoptr(S3Credentials) credentials = s3_credentials_new(&options, &error);
    if (!credentials) {
        print_error(error);
        return 0;
    }
    g_auto(S3CredentialsValue) earliest = {0};
    g_auto(S3CredentialsValue) last = {0};
    for (int i = first; i < argc; i++)
        act(credentials, argv[i], &earliest, &last);
    return 0;
}
