/*
 * What S3 keys are read from: shared files, the JSON of metadata services, the XML of STS; and the check of a container's
 * endpoint. What must hold: values have no spaces around them and no line end in them; keys that came out can be put into
 * a header as they are; what is allowed as an endpoint is a URL.
 */
#include "store/s3_credentials_private.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_value(const char *value)
{
    if (!value)
        return;
    gsize length = strlen(value);
    g_assert_true(length > 0 && !g_ascii_isspace(value[0]) && !g_ascii_isspace(value[length - 1]));
    g_assert_null(strchr(value, '\n'));
}

static void read_file(const char *text, gsize length, gboolean config)
{
    g_autoptr(S3Profiles) profiles = s3_profiles_new();
    g_autoptr(GError) error = NULL;
    gboolean good = s3_profiles_add(profiles, text, length, config, "FILE", &error);
    g_assert_true(good == (error == NULL));
    check_value(s3_profiles_get(profiles, "default", "aws_secret_access_key"));
    check_value(s3_profiles_get(profiles, "default", "s3.endpoint_url"));
    check_value(s3_profiles_get(profiles, "a", "region"));
}

static void check_keys(S3Keys *keys, const GError *error)
{
    g_assert_true((keys == NULL) == (error != NULL));
    const char *const texts[] = {keys ? keys->access_key : NULL, keys ? keys->secret_key : NULL,
                                 keys ? keys->session_token : NULL};
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++)
        for (const char *at = texts[i]; at && *at; at++)
            g_assert_true(g_ascii_isgraph(*at));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    read_file(text, size, FALSE);
    read_file(text, size, TRUE);
    g_autoptr(GError) json_error = NULL;
    g_autoptr(S3Keys) json = s3_keys_from_json(text, size, &json_error);
    check_keys(json, json_error);
    g_autoptr(GError) xml_error = NULL;
    g_autoptr(S3Keys) xml = s3_keys_from_xml(text, size, &xml_error);
    check_keys(xml, xml_error);
    g_autofree char *url = g_strndup(text, size);
    if (s3_container_url_allowed(url))
        g_assert_true(g_str_has_prefix(url, "https://") || strstr(url, "127.") || strstr(url, "localhost") ||
                      strchr(url, '[') || strstr(url, "169.254.170.2"));
    return 0;
}
