/*
 * The keys that requests to S3 are signed with, from the first source that has some: the options, the environment, a web
 * identity token, the shared files ~/.aws/credentials and ~/.aws/config, the container's endpoint, the machine's. Keys
 * that expire are fetched anew five minutes before that, by one thread while the others go on with the old ones.
 *
 * Threads: all functions but free may be called from any thread at once. Secrets are wiped as soon as nobody uses them.
 */
#pragma once

#include "net/sigv4.h"
#include "store/drivers.h"

typedef struct S3Credentials S3Credentials;

/* Keys that stay valid memory until the value is cleared, even if they are replaced meanwhile. */
typedef struct {
    SigCredentials keys;
    gint64 expires; /* seconds since 1970; 0: never */
    gpointer held;  /* private */
} S3CredentialsValue;

/* Gives the keys back. A zeroed value is fine. */
void s3_credentials_value_clear(S3CredentialsValue *value);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(S3CredentialsValue, s3_credentials_value_clear)

/* Reads options, environment and shared files; asks nobody yet. The options' strings are copied; cancel must outlive it.
 * INVALID if the chosen profile does not exist or cannot work (credential_process, half a key pair, ...); the message
 * says which file and what is wrong. */
S3Credentials *s3_credentials_new(const StoreOptions *options, GError **error);

/* The keys to sign the next request with; value is zeroed before and the caller's to clear. May ask STS or a metadata
 * service, once for all callers. DENIED if no source has any (the message names those that were tried) or one refused;
 * TRANSIENT if a service cannot be reached. */
gboolean s3_credentials_get(S3Credentials *credentials, S3CredentialsValue *value, GError **error);

/* Says that a store refused `value` as expired or unknown: the next get asks the source anew, unless that has happened
 * since. Keys of a fixed kind stay what they are. TRUE if other keys may come of it, so a second try makes sense. */
gboolean s3_credentials_expired(S3Credentials *credentials, const S3CredentialsValue *value);

/* What the chosen profile says, or NULL: "region", and "endpoint_url" (s3's own if the profile has one). Without the
 * environment. Valid as long as the credentials. */
const char *s3_credentials_region(const S3Credentials *credentials);
const char *s3_credentials_endpoint(const S3Credentials *credentials);

/* Where the last keys came from ("environment", "profile backup in /home/.../credentials", ...); never a secret. The
 * caller frees. "none yet" before the first get. */
char *s3_credentials_source(S3Credentials *credentials);

/* Wipes and frees; NULL is a no-op. */
void s3_credentials_free(S3Credentials *credentials);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(S3Credentials, s3_credentials_free)
