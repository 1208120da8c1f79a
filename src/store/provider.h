/*
 * What is known of the companies and programs that offer S3: endpoints, regions and where they lie, what works there
 * and what does not, and what it costs, from the table providers.json that is built into the program. Prices are
 * estimates without tax, as the providers' lists had them on the table's date. Read once, then constant: any thread.
 */
#pragma once

#include <glib.h>

typedef enum {
    PROVIDER_COPY = 1 << 0,
    PROVIDER_RANGE_COPY = 1 << 1,
    PROVIDER_VERSIONS = 1 << 2,
    PROVIDER_LOCK = 1 << 3,
    PROVIDER_CLASSES = 1 << 4,
    PROVIDER_IF_ABSENT = 1 << 5,   /* PUT with If-None-Match: * */
    PROVIDER_DELETE_MANY = 1 << 6, /* POST ?delete */
    PROVIDER_LIFECYCLE = 1 << 7,
    PROVIDER_THAW = 1 << 8,
    PROVIDER_CRC32C = 1 << 9,           /* checks x-amz-checksum-crc32c */
    PROVIDER_SSE = 1 << 10,             /* x-amz-server-side-encryption: AES256 */
    PROVIDER_SSE_KMS = 1 << 11,         /* aws:kms */
    PROVIDER_ETAG_MD5 = 1 << 12,        /* the ETag of a plain object is its MD5, where the answer names no KMS key */
    PROVIDER_CONDITIONS = 1 << 13,      /* conditions hold for copies, copies of parts, and completed uploads too */
    PROVIDER_CEPH_CONDITIONS = 1 << 14, /* of copies only, by a header of Ceph's own */
} ProviderCan;

typedef struct {
    char *name, *place; /* "fr-par", "Paris, France" */
    char *endpoint;     /* NULL: the provider's template */
    gboolean eu;        /* lies in the European Union */
} ProviderRegion;

/* Prices of a storage class, in the provider's currency. */
typedef struct {
    char *name;
    double gb_month;                  /* of a GB (10^9 bytes) for a month */
    double put_1000, get_1000;        /* of 1,000 requests; lists and copies cost as puts */
    double retrieval_gb;              /* of reading a GB back */
    guint minimum_days, minimum_size; /* billed at least so long, as so many bytes */
} ProviderClass;

typedef struct Provider {
    char *id, *title;
    char *endpoint;       /* a template with {region}; NULL: it has to be given */
    char *default_region; /* signed with if no region is known; never NULL */
    gboolean path_style;
    ProviderCan can;
    guint64 min_part;
    guint max_parts;
    char *currency, *price_date; /* "EUR"; "2025-07"; NULL: no prices */
    double egress_gb;
    char *note; /* something that its users should know; may be NULL */
    const ProviderRegion *regions;
    guint region_count;
    const ProviderClass *classes;
    guint class_count;
    char **hosts; /* suffixes of hosts that are this provider's; NULL-terminated */
} Provider;

/* All providers, "any" last; count gets their number. */
const Provider *provider_table(guint *count);

/* The provider with this id, or NULL with INVALID that lists those there are. */
const Provider *provider_find(const char *id, GError **error);

/* The provider that a host belongs to; "any" if it is nobody's. Never NULL. */
const Provider *provider_of_host(const char *host);

/* The region in a host's name, by the provider's template ("s3.fr-par.scw.cloud": "fr-par"). NULL if it has none. */
char *provider_region_of_host(const Provider *provider, const char *host);

/* The endpoint of a region, known or not. NULL with INVALID if the provider has no template. The caller frees. */
char *provider_endpoint(const Provider *provider, const char *region, GError **error);

/* A region or a class by its name, NULL if the table has none. */
const ProviderRegion *provider_region(const Provider *provider, const char *name);
const ProviderClass *provider_class(const Provider *provider, const char *name);

/* Reads a table's text. NULL with INVALID, saying what is wrong. For the built-in table's own test; freed with
 * provider_list_free. */
GArray *provider_parse(const char *json, gsize length, GError **error);
void provider_list_free(GArray *providers);
