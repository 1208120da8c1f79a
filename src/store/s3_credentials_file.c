#include "store/s3_credentials_private.h"

#include "base/error.h"
#include "crypto/secret.h"

#include <string.h>

#define MAX_PROFILES 10000

struct S3Profiles {
    GHashTable *sections; /* name -> table of key -> value */
};

void s3_secret_free(void *text)
{
    if (text)
        secret_wipe(text, strlen(text));
    g_free(text);
}

S3Profiles *s3_profiles_new(void)
{
    S3Profiles *profiles = g_new0(S3Profiles, 1);
    profiles->sections = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_hash_table_unref);
    return profiles;
}

void s3_profiles_free(S3Profiles *profiles)
{
    if (!profiles)
        return;
    g_hash_table_unref(profiles->sections);
    g_free(profiles);
}

gboolean s3_profiles_has(const S3Profiles *profiles, const char *profile)
{
    return g_hash_table_contains(profiles->sections, profile);
}

const char *s3_profiles_get(const S3Profiles *profiles, const char *profile, const char *key)
{
    GHashTable *section = g_hash_table_lookup(profiles->sections, profile);
    return section ? g_hash_table_lookup(section, key) : NULL;
}

/* A line under work. It ends up wiped with the whole text's copy. */
typedef struct {
    S3Profiles *profiles;
    GHashTable *section; /* NULL: one that is of no use to us */
    char *parent;        /* key of the indented lines; NULL outside */
    gboolean config;
} Parser;

/* The name of a section as we keep it; NULL for one that means nothing here. */
static const char *section_name(char *inside, gboolean config)
{
    g_strstrip(inside);
    if (!config || strcmp(inside, "default") == 0)
        return inside;
    if (g_str_has_prefix(inside, "profile ") || g_str_has_prefix(inside, "profile\t"))
        return g_strchug(inside + strlen("profile "));
    return g_str_has_prefix(inside, "services ") ? inside : NULL;
}

static gboolean open_section(Parser *parser, char *line)
{
    char *end = strchr(line, ']');
    if (!end)
        return FALSE;
    *end = '\0';
    const char *name = section_name(line + 1, parser->config);
    GHashTable *sections = parser->profiles->sections;
    g_clear_pointer(&parser->parent, g_free);
    parser->section = name && *name ? g_hash_table_lookup(sections, name) : NULL;
    if (parser->section || !name || *name == '\0')
        return TRUE;
    if (g_hash_table_size(sections) >= MAX_PROFILES)
        return FALSE;
    parser->section = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, s3_secret_free);
    g_hash_table_insert(sections, g_strdup(name), parser->section);
    return TRUE;
}

/* A '#' or ';' behind a space begins a comment. */
static void cut_comment(char *value)
{
    for (char *at = value; *at; at++) {
        if ((*at == '#' || *at == ';') && (at == value || g_ascii_isspace(at[-1]))) {
            *at = '\0';
            return;
        }
    }
}

static gboolean take_setting(Parser *parser, char *line, gboolean indented)
{
    char *equals = strchr(line, '=');
    /* An indented line may go on with a value that is of no use here. */
    if (!equals || equals == line)
        return indented;
    *equals = '\0';
    char *value = equals + 1;
    cut_comment(value);
    g_strstrip(value);
    g_autofree char *key = g_ascii_strdown(g_strchomp(line), -1);
    if (!indented) {
        g_free(parser->parent);
        parser->parent = *value == '\0' ? g_strdup(key) : NULL;
    }
    if (!parser->section || *value == '\0' || (indented && !parser->parent))
        return TRUE;
    char *full = indented ? g_strdup_printf("%s.%s", parser->parent, key) : g_steal_pointer(&key);
    g_hash_table_insert(parser->section, full, g_strdup(value));
    return TRUE;
}

static gboolean take_line(Parser *parser, char *line)
{
    gboolean indented = g_ascii_isspace(*line);
    g_strstrip(line);
    if (*line == '\0' || *line == '#' || *line == ';')
        return TRUE;
    return *line == '[' ? open_section(parser, line) : take_setting(parser, line, indented);
}

static gboolean parse(S3Profiles *profiles, char *text, gsize length, gboolean config, const char *file, GError **error)
{
    Parser parser = {.profiles = profiles, .config = config};
    gboolean good = TRUE;
    guint number = 0;
    for (gsize at = 0; good && at < length;) {
        gsize line = strcspn(text + at, "\n");
        text[at + line] = '\0';
        number++;
        good = take_line(&parser, text + at);
        at += line + 1;
    }
    g_free(parser.parent);
    return good || error_set(error, BACKAPP_ERROR_INVALID,
                             "%s: line %u is neither a [section] nor \"name = value\"; correct it", file, number);
}

gboolean s3_profiles_add(S3Profiles *profiles, const char *text, gsize length, gboolean config, const char *file,
                         GError **error)
{
    if (length > S3_FILE_MAX)
        return error_set(error, BACKAPP_ERROR_INVALID, "%s is longer than 1 MiB", file);
    if (memchr(text, '\0', length))
        return error_set(error, BACKAPP_ERROR_INVALID, "%s is not a text file", file);
    char *copy = g_strndup(text, length);
    gboolean good = parse(profiles, copy, length, config, file, error);
    secret_wipe(copy, length);
    g_free(copy);
    return good;
}
