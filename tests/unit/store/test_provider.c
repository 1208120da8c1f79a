#include "../base/cmocka_all.h"

#include "base/error.h"
#include "store/provider.h"

#include <string.h>

static void test_the_built_in_table(void **state)
{
    static const char *const ids[] = {"aws", "scaleway", "ovhcloud", "hetzner", "exoscale",
                                      "b2",  "wasabi",   "r2",       "any"};
    guint count = 0;
    const Provider *table = provider_table(&count);
    assert_int_equal(count, G_N_ELEMENTS(ids));
    for (guint i = 0; i < count; i++) {
        const Provider *provider = &table[i];
        assert_string_equal(provider->id, ids[i]);
        assert_ptr_equal(provider_find(ids[i], NULL), provider);
        assert_true(provider->min_part >= 1 && provider->max_parts >= 1000);
        /* a region that is signed with has to be one of the known, where there are any */
        assert_true(provider->region_count == 0 || provider_region(provider, provider->default_region));
        assert_true(provider->class_count == 0 || provider_class(provider, "STANDARD"));
        assert_true(provider->class_count == 0 || (provider->currency && provider->price_date));
        for (guint k = 0; k < provider->class_count; k++) {
            const ProviderClass *class = &provider->classes[k];
            assert_true(class->gb_month > 0 && class->gb_month < 1 && class->put_1000 >= 0 && class->put_1000 < 1);
        }
    }
}

static void test_endpoints_and_back(void **state)
{
    guint count = 0;
    const Provider *table = provider_table(&count);
    for (guint i = 0; i < count; i++) {
        for (guint k = 0; table[i].endpoint && k < table[i].region_count; k++) {
            const char *name = table[i].regions[k].name;
            g_autofree char *endpoint = provider_endpoint(&table[i], name, NULL);
            assert_true(g_str_has_prefix(endpoint, "https://"));
            const char *host = endpoint + strlen("https://");
            assert_ptr_equal(provider_of_host(host), &table[i]);
            g_autofree char *region = provider_region_of_host(&table[i], host);
            assert_string_equal(region, name);
        }
    }
    const Provider *scaleway = provider_find("Scaleway", NULL);
    g_autofree char *paris = provider_endpoint(scaleway, "fr-par", NULL);
    assert_string_equal(paris, "https://s3.fr-par.scw.cloud");
    assert_true(provider_region(scaleway, "fr-par")->eu);
    assert_false(provider_region(provider_find("aws", NULL), "eu-west-2")->eu);
}

static void test_hosts_of_nobody(void **state)
{
    static const char *const hosts[] = {"127.0.0.1",  "minio.example.com", "amazonaws.com.evil.example",
                                        "xscw.cloud", "scw.cloud",         ""};
    for (gsize i = 0; i < G_N_ELEMENTS(hosts); i++)
        assert_string_equal(provider_of_host(hosts[i])->id, "any");
    assert_string_equal(provider_of_host("photos.S3.fr-par.SCW.cloud")->id, "scaleway");
    assert_null(provider_region_of_host(provider_find("aws", NULL), "s3.amazonaws.com"));
    assert_null(provider_region_of_host(provider_find("aws", NULL), "s3.a.b.amazonaws.com"));
    assert_null(provider_region_of_host(provider_find("any", NULL), "s3.a.b"));
}

static void test_what_cannot_be_found(void **state)
{
    g_autoptr(GError) error = NULL;
    assert_null(provider_find("azure", &error));
    assert_non_null(strstr(error->message, "scaleway, ovhcloud"));
    g_clear_error(&error);
    assert_null(provider_endpoint(provider_find("r2", NULL), "auto", &error));
    assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    g_clear_error(&error);
    assert_null(provider_endpoint(provider_find("aws", NULL), "x.evil.example/", &error));
    assert_true(error_is(error, BACKAPP_ERROR_INVALID));
}

static void test_broken_tables(void **state)
{
    static const char *const broken[] = {
        "",
        "{}",
        "{\"providers\":[]}",
        "{\"providers\":[{\"id\":\"x\"}]}",
        "{\"providers\":[{\"id\":\"x\",\"title\":\"X\",\"defaultRegion\":\"r\",\"pathStyle\":true,\"can\":[\"fly\"]}]}",
        "{\"providers\":[{\"id\":\"x\",\"title\":\"X\",\"defaultRegion\":\"r\",\"pathStyle\":true,\"can\":[],"
        "\"maxParts\":0}]}",
        "{\"providers\":[{\"id\":\"x\",\"title\":\"X\",\"defaultRegion\":\"r\",\"pathStyle\":true,\"can\":[],\"typo\":"
        "0}]}",
        "{\"providers\":[{\"id\":\"x\",\"title\":\"X\",\"defaultRegion\":\"r\",\"pathStyle\":true,\"can\":[],"
        "\"regions\":[{\"name\":\"a\"}]}]}",
    };
    for (gsize i = 0; i < G_N_ELEMENTS(broken); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(provider_parse(broken[i], strlen(broken[i]), &error));
        assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    }
    static const char good[] =
        "{\"providers\":[{\"id\":\"x\",\"title\":\"X\",\"defaultRegion\":\"r\",\"pathStyle\":true,"
        "\"can\":[\"copy\"]}]}";
    GArray *table = provider_parse(good, strlen(good), NULL);
    assert_int_equal(table->len, 1);
    provider_list_free(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_built_in_table), cmocka_unit_test(test_endpoints_and_back),
        cmocka_unit_test(test_hosts_of_nobody),    cmocka_unit_test(test_what_cannot_be_found),
        cmocka_unit_test(test_broken_tables),
    };
    return cmocka_run_group_tests_name("unit/store/provider", tests, NULL, NULL);
}
