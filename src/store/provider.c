#include "store/provider.h"

#include <jansson.h>
#include <string.h>

#include "base/error.h"
#include "store/providers_json.h"

static const struct {
    const char *name;
    ProviderCan can;
} abilities[] = {
    {"copy", PROVIDER_COPY},
    {"rangeCopy", PROVIDER_RANGE_COPY},
    {"versions", PROVIDER_VERSIONS},
    {"lock", PROVIDER_LOCK},
    {"classes", PROVIDER_CLASSES},
    {"ifAbsent", PROVIDER_IF_ABSENT},
    {"deleteMany", PROVIDER_DELETE_MANY},
    {"lifecycle", PROVIDER_LIFECYCLE},
    {"thaw", PROVIDER_THAW},
    {"crc32c", PROVIDER_CRC32C},
    {"sse", PROVIDER_SSE},
    {"sseKms", PROVIDER_SSE_KMS},
    {"etagMd5", PROVIDER_ETAG_MD5},
    {"conditions", PROVIDER_CONDITIONS},
    {"cephConditions", PROVIDER_CEPH_CONDITIONS},
};

static gboolean read_can(json_t *list, Provider *provider, GError **error)
{
    size_t index = 0;
    json_t *item = NULL;
    json_array_foreach(list, index, item)
    {
        ProviderCan found = 0;
        for (gsize i = 0; i < G_N_ELEMENTS(abilities); i++)
            if (g_strcmp0(json_string_value(item), abilities[i].name) == 0)
                found = abilities[i].can;
        if (found == 0)
            return error_set(error, BACKAPP_ERROR_INVALID, "%s: unknown ability %s", provider->id,
                             json_string_value(item) ? json_string_value(item) : "(not a text)");
        provider->can |= found;
    }
    return TRUE;
}

static gboolean read_regions(json_t *list, Provider *provider, GError **error)
{
    ProviderRegion *regions = g_new0(ProviderRegion, MAX(json_array_size(list), 1));
    provider->regions = regions;
    size_t index = 0;
    json_t *item = NULL;
    json_array_foreach(list, index, item)
    {
        const char *name = NULL, *place = NULL, *endpoint = NULL;
        int eu = 0;
        json_error_t why;
        if (json_unpack_ex(item, &why, JSON_STRICT, "{s:s, s:s, s:b, s?s}", "name", &name, "place", &place, "eu", &eu,
                           "endpoint", &endpoint) != 0)
            return error_set(error, BACKAPP_ERROR_INVALID, "%s: region %zu: %s", provider->id, index, why.text);
        regions[index] = (ProviderRegion){g_strdup(name), g_strdup(place), g_strdup(endpoint), eu != 0};
        provider->region_count++;
    }
    return TRUE;
}

static gboolean read_classes(json_t *list, Provider *provider, GError **error)
{
    ProviderClass *classes = g_new0(ProviderClass, MAX(json_array_size(list), 1));
    provider->classes = classes;
    size_t index = 0;
    json_t *item = NULL;
    json_array_foreach(list, index, item)
    {
        ProviderClass *class = &classes[index];
        const char *name = NULL;
        int days = 0, size = 0;
        json_error_t why;
        if (json_unpack_ex(item, &why, JSON_STRICT, "{s:s, s:F, s?F, s?F, s?F, s?i, s?i}", "name", &name, "gbMonth",
                           &class->gb_month, "put1000", &class->put_1000, "get1000", &class->get_1000, "retrievalGb",
                           &class->retrieval_gb, "minimumDays", &days, "minimumSize", &size) != 0)
            return error_set(error, BACKAPP_ERROR_INVALID, "%s: class %zu: %s", provider->id, index, why.text);
        class->name = g_strdup(name);
        class->minimum_days = (guint)MAX(days, 0);
        class->minimum_size = (guint)MAX(size, 0);
        provider->class_count++;
    }
    return TRUE;
}

static void read_hosts(json_t *list, Provider *provider)
{
    GPtrArray *hosts = g_ptr_array_new();
    size_t index = 0;
    json_t *item = NULL;
    json_array_foreach(list, index, item) if (json_is_string(item))
        g_ptr_array_add(hosts, g_strdup(json_string_value(item)));
    g_ptr_array_add(hosts, NULL);
    provider->hosts = (char **)g_ptr_array_free(hosts, FALSE);
}

static gboolean read_provider(json_t *item, Provider *provider, GError **error)
{
    const char *id = NULL, *title = NULL, *endpoint = NULL, *region = NULL, *currency = NULL, *date = NULL;
    const char *note = NULL;
    int path_style = 0, max_parts = 10000;
    json_int_t min_part = 5 * 1024 * 1024;
    json_t *hosts = NULL, *can = NULL, *regions = NULL, *classes = NULL;
    json_error_t why;
    if (json_unpack_ex(
            item, &why, JSON_STRICT, "{s:s, s:s, s?s, s:s, s:b, s:o, s?o, s?o, s?o, s?s, s?s, s?s, s?F, s?i, s?I}",
            "id", &id, "title", &title, "endpoint", &endpoint, "defaultRegion", &region, "pathStyle", &path_style,
            "can", &can, "hosts", &hosts, "regions", &regions, "classes", &classes, "currency", &currency, "priceDate",
            &date, "note", &note, "egressGb", &provider->egress_gb, "maxParts", &max_parts, "minPart", &min_part) != 0)
        return error_set(error, BACKAPP_ERROR_INVALID, "provider %s: %s", id ? id : "without an id", why.text);
    if (max_parts < 1 || max_parts > 10000 || min_part < 1)
        return error_set(error, BACKAPP_ERROR_INVALID, "provider %s: impossible parts", id);
    provider->id = g_strdup(id);
    provider->title = g_strdup(title);
    provider->endpoint = g_strdup(endpoint);
    provider->default_region = g_strdup(region);
    provider->path_style = path_style != 0;
    provider->currency = g_strdup(currency);
    provider->price_date = g_strdup(date);
    provider->note = g_strdup(note);
    provider->max_parts = (guint)max_parts;
    provider->min_part = (guint64)min_part;
    read_hosts(hosts, provider);
    return read_can(can, provider, error) && read_regions(regions, provider, error) &&
           read_classes(classes, provider, error);
}

static void clear_provider(gpointer data)
{
    Provider *provider = data;
    for (guint i = 0; i < provider->region_count; i++) {
        g_free(provider->regions[i].name);
        g_free(provider->regions[i].place);
        g_free(provider->regions[i].endpoint);
    }
    for (guint i = 0; i < provider->class_count; i++)
        g_free(provider->classes[i].name);
    g_free((gpointer)provider->regions);
    g_free((gpointer)provider->classes);
    g_strfreev(provider->hosts);
    g_free(provider->id);
    g_free(provider->title);
    g_free(provider->endpoint);
    g_free(provider->default_region);
    g_free(provider->currency);
    g_free(provider->price_date);
    g_free(provider->note);
}

void provider_list_free(GArray *providers)
{
    if (providers)
        g_array_unref(providers);
}

GArray *provider_parse(const char *json, gsize length, GError **error)
{
    json_error_t why;
    json_t *root = json_loadb(json, length, JSON_REJECT_DUPLICATES, &why);
    json_t *list = json_object_get(root, "providers");
    if (!json_is_array(list) || json_array_size(list) == 0) {
        error_set(error, BACKAPP_ERROR_INVALID, "the table of providers cannot be read: %s (line %d)",
                  root ? "no list \"providers\"" : why.text, root ? 0 : why.line);
        json_decref(root);
        return NULL;
    }
    GArray *providers = g_array_new(FALSE, TRUE, sizeof(Provider));
    g_array_set_clear_func(providers, clear_provider);
    gboolean good = TRUE;
    size_t index = 0;
    json_t *item = NULL;
    json_array_foreach(list, index, item)
    {
        Provider provider = {0};
        good = good && read_provider(item, &provider, error);
        g_array_append_val(providers, provider);
    }
    json_decref(root);
    if (good)
        return providers;
    provider_list_free(providers);
    return NULL;
}

static gpointer parse_built_in(gpointer unused)
{
    g_autoptr(GError) error = NULL;
    GArray *table = provider_parse((const char *)providers_json, providers_json_length, &error);
    if (!table)
        g_error("the built-in table of providers is broken: %s", error->message);
    return table;
}

const Provider *provider_table(guint *count)
{
    static GOnce once = G_ONCE_INIT;
    const GArray *table = g_once(&once, parse_built_in, NULL);
    if (count)
        *count = table->len;
    return &g_array_index(table, Provider, 0);
}

const Provider *provider_find(const char *id, GError **error)
{
    guint count = 0;
    const Provider *table = provider_table(&count);
    g_autoptr(GString) names = g_string_new(NULL);
    for (guint i = 0; i < count; i++) {
        if (g_ascii_strcasecmp(table[i].id, id) == 0)
            return &table[i];
        g_string_append_printf(names, "%s%s", i > 0 ? ", " : "", table[i].id);
    }
    error_set(error, BACKAPP_ERROR_INVALID, "no provider is named %s; there are %s", id, names->str);
    return NULL;
}

const Provider *provider_of_host(const char *host)
{
    guint count = 0;
    const Provider *table = provider_table(&count);
    for (guint i = 0; i < count; i++) {
        for (char **suffix = table[i].hosts; *suffix; suffix++) {
            gsize extra = strlen(host) > strlen(*suffix) ? strlen(host) - strlen(*suffix) : 0;
            if (extra > 0 && host[extra - 1] == '.' && g_ascii_strcasecmp(host + extra, *suffix) == 0)
                return &table[i];
        }
    }
    return &table[count - 1];
}

char *provider_region_of_host(const Provider *provider, const char *host)
{
    for (guint i = 0; i < provider->region_count; i++) {
        const char *own = provider->regions[i].endpoint;
        if (own && g_str_has_prefix(own, "https://") && g_ascii_strcasecmp(own + 8, host) == 0)
            return g_strdup(provider->regions[i].name);
    }
    const char *pattern = provider->endpoint ? strstr(provider->endpoint, "://") : NULL;
    const char *hole = pattern ? strstr(pattern, "{region}") : NULL;
    if (!hole)
        return NULL;
    gsize before = (gsize)(hole - (pattern + 3));
    const char *after = hole + strlen("{region}");
    gsize length = strlen(host);
    if (length <= before + strlen(after) || g_ascii_strncasecmp(host, pattern + 3, before) != 0 ||
        g_ascii_strcasecmp(host + length - strlen(after), after) != 0)
        return NULL;
    g_autofree char *region = g_ascii_strdown(host + before, (gssize)(length - before - strlen(after)));
    return strpbrk(region, "./:") ? NULL : g_steal_pointer(&region);
}

char *provider_endpoint(const Provider *provider, const char *region, GError **error)
{
    const ProviderRegion *known = provider_region(provider, region);
    if (known && known->endpoint)
        return g_strdup(known->endpoint);
    const char *hole = provider->endpoint ? strstr(provider->endpoint, "{region}") : NULL;
    if (!provider->endpoint) {
        error_set(error, BACKAPP_ERROR_INVALID, "%s has no endpoint that is the same for all: give yours (--endpoint)",
                  provider->title);
        return NULL;
    }
    for (const char *at = region; *at != '\0'; at++)
        if (!g_ascii_isalnum(*at) && *at != '-') {
            error_set(error, BACKAPP_ERROR_INVALID, "%s is not a region's name", region);
            return NULL;
        }
    if (!hole)
        return g_strdup(provider->endpoint);
    return g_strdup_printf("%.*s%s%s", (int)(hole - provider->endpoint), provider->endpoint, region,
                           hole + strlen("{region}"));
}

const ProviderRegion *provider_region(const Provider *provider, const char *name)
{
    for (guint i = 0; i < provider->region_count; i++)
        if (g_ascii_strcasecmp(provider->regions[i].name, name) == 0)
            return &provider->regions[i];
    return NULL;
}

const ProviderClass *provider_class(const Provider *provider, const char *name)
{
    for (guint i = 0; i < provider->class_count; i++)
        if (g_ascii_strcasecmp(provider->classes[i].name, name) == 0)
            return &provider->classes[i];
    return NULL;
}
