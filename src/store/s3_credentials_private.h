/*
 * What the files of s3_credentials share: keys as counted, unchanging objects; the source that they come from; the shared
 * files; the services that are asked. Only for s3_credentials*.c and their tests.
 */
#pragma once

#include "net/http.h"
#include "store/s3_credentials.h"

/* Keys; never changed after they were made. */
typedef struct {
    gatomicrefcount references;
    char *access_key, *secret_key, *session_token; /* token may be NULL */
    gint64 expires;                                /* seconds since 1970; 0: never */
} S3Keys;

/* The strings are copied; an empty token is none. */
S3Keys *s3_keys_new(const char *access_key, const char *secret_key, const char *session_token, gint64 expires);
S3Keys *s3_keys_ref(S3Keys *keys);
/* The last one wipes and frees. NULL is a no-op. */
void s3_keys_unref(S3Keys *keys);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(S3Keys, s3_keys_unref)

/* Wipes a string and frees it. NULL is a no-op. */
void s3_secret_free(void *text);

/* The shared files, read: profiles by name. */
typedef struct S3Profiles S3Profiles;

/* Reads the text of one file into profiles. In a config file sections are "[default]", "[profile NAME]" and "[services
 * NAME]" (kept under "services NAME"), in a credentials file "[NAME]"; what was there before stays. FALSE with INVALID,
 * naming `file` and the line. Nothing of the text is in the message. */
gboolean s3_profiles_add(S3Profiles *profiles, const char *text, gsize length, gboolean config, const char *file,
                         GError **error);
S3Profiles *s3_profiles_new(void);
/* The value of a profile's key, names in lower case, "s3.endpoint_url" for one that is indented below "s3 ="; or NULL. */
const char *s3_profiles_get(const S3Profiles *profiles, const char *profile, const char *key);
gboolean s3_profiles_has(const S3Profiles *profiles, const char *profile);
void s3_profiles_free(S3Profiles *profiles);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(S3Profiles, s3_profiles_free)

typedef enum {
    S3_SOURCE_FIXED,
    S3_SOURCE_ROLE,         /* AssumeRole with the keys of `base` */
    S3_SOURCE_WEB_IDENTITY, /* AssumeRoleWithWebIdentity with the token in a file */
    S3_SOURCE_CONTAINER,
    S3_SOURCE_MACHINE,
} S3SourceKind;

/* Where keys come from. Unchanging once it was found. */
typedef struct S3Source S3Source;
struct S3Source {
    S3SourceKind kind;
    char *name; /* shown */
    S3Keys *fixed;
    S3Source *base;
    char *role_arn, *external_id, *session_name, *token_file;
    guint duration_s; /* 0: the service's own */
    char *url;        /* of the service */
    char *token;      /* a container's, if it is given in the environment */
    char *region;     /* for signing to STS */
};
void s3_source_free(S3Source *source);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(S3Source, s3_source_free)

/* What is known before anybody is asked. */
typedef struct {
    S3Source *source;
    GString *tried; /* the sources that had nothing, for people */
    char *region, *endpoint;
} S3Found;

/* Looks through options, environment and shared files. INVALID as s3_credentials_new says. */
gboolean s3_credentials_find(const StoreOptions *options, S3Found *found, GError **error);

/* The clients to ask with: STS lies on the network, the others on this machine or next to it. */
typedef struct {
    HttpClient *network, *near;
} S3Askers;

/* Gets keys; NULL with DENIED, TRANSIENT or CANCELLED. */
S3Keys *s3_source_fetch(const S3Source *source, const S3Askers *askers, GError **error);
S3Keys *s3_sts_fetch(const S3Source *source, const S3Keys *base, HttpClient *client, GError **error);
S3Keys *s3_container_fetch(const S3Source *source, HttpClient *client, GError **error);
/* NOT_FOUND if nobody answers there: then this is no such machine. */
S3Keys *s3_machine_fetch(const S3Source *source, HttpClient *client, GError **error);

/* Keys out of the JSON that the metadata services answer with, or out of STS's XML. CORRUPT if it is something else. */
S3Keys *s3_keys_from_json(const char *text, gsize length, GError **error);
S3Keys *s3_keys_from_xml(const char *text, gsize length, GError **error);

/* The longest shared file: more than any that a person keeps. */
#define S3_FILE_MAX (1024 * 1024)

/* Reads a small file (a regular one, or the null device), at most `size` bytes of it: ask for one more than may be, and
 * a longer one shows. `what` is for messages ("the token"). Returns the length; -1 with an error, NOT_FOUND if it is not
 * there. */
gssize s3_read_small(const char *path, const char *what, char *buffer, gsize size, GError **error);

/* A token that lies in a file, without the line end; at most 64 KiB. The caller frees with s3_secret_free. */
char *s3_read_token(const char *path, GError **error);

/* TRUE if a container's endpoint may be asked there: over TLS, or at one of the addresses that lie on the machine. */
gboolean s3_container_url_allowed(const char *url);
