/*
 * Where a bucket is: the address that requests go to, in path style (https://host/bucket/key) or virtual-host style
 * (https://bucket.host/key), and the region that they are signed for. A place is immutable and counted, so threads may
 * go on with one while another puts a newer in its stead.
 */
#pragma once

#include <glib.h>

typedef struct {
    char *origin; /* "https://s3.example.com:9000", what a URL begins with */
    char *host;   /* "s3.example.com:9000", as the Host header has it */
    char *path;   /* what comes before the key's slash: "", "/bucket", "/gateway/bucket" */
    char *region;
    gboolean tls, virtual_host;
} S3Place;

/* The place of a bucket at an endpoint ("https://host[:port][/path]"; without a scheme https is meant). path_style: 1
 * yes, 0 no. Without TLS a bucket with dots may still be a virtual host; with TLS it becomes path style, because no
 * certificate fits it. INVALID if the endpoint is no such URL or the bucket no valid name. */
S3Place *s3_place_new(const char *endpoint, const char *bucket, const char *region, int path_style, GError **error);
S3Place *s3_place_ref(S3Place *place);
void s3_place_unref(S3Place *place);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(S3Place, s3_place_unref)

/* The host of an endpoint, without scheme, port and path. INVALID as above. The caller frees. */
char *s3_endpoint_host(const char *endpoint, GError **error);

/* TRUE if the host is an address or a name of this machine, where virtual hosts are not to be expected. */
gboolean s3_host_is_plain(const char *host);

/* The path of a key (NULL: the bucket itself) below `path`, encoded. The caller frees. */
GString *s3_place_path(const S3Place *place, const char *prefix, const char *key);

/* Decodes %XX and '+' in place, as lists with encoding-type=url have it; returns the new length. What is no valid escape
 * stays. A zero byte that was encoded stays encoded. */
gsize s3_url_decode(char *text);
