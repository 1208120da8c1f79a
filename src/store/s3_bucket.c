#include "store/s3.h"

#include <string.h>

#include "base/error.h"
#include "store/s3_xml.h"

#define OWN_RULES "backapp-"

static gboolean contains(const S3Answer *answer, const char *text)
{
    const GByteArray *body = answer->http.body;
    return body && body->len > 0 && g_strstr_len((const char *)body->data, (gssize)body->len, text) != NULL;
}

static gboolean text_is(const S3Answer *answer, const char *name, const char *wanted)
{
    const GByteArray *body = answer->http.body;
    g_autofree char *text = body ? s3_xml_text(body->data, body->len, name) : NULL;
    return g_strcmp0(text, wanted) == 0;
}

/* Asks for a setting of the bucket, which is an element of that name. 1: answer has it; 0: there is none; -1: not known
 * (denied, or not offered: some servers then answer with a list of objects); -2: error. */
static int ask(S3Store *s3, const char *query, const char *element, const char *what, const char *permission,
               S3Answer *answer, GError **error)
{
    S3Request request = {
        .kind = STORE_REQUEST_OTHER, .method = "GET", .query = query, .what = what, .permission = permission};
    g_autoptr(GError) local = NULL;
    if (s3_perform(s3, &request, answer, &local))
        return contains(answer, element) ? 1 : -1;
    if (error_is(local, BACKAPP_ERROR_NOT_FOUND) && g_strcmp0(answer->code, "NoSuchBucket") != 0)
        return 0;
    if (error_is(local, BACKAPP_ERROR_DENIED) || error_is(local, BACKAPP_ERROR_INVALID))
        return -1;
    g_propagate_error(error, g_steal_pointer(&local));
    return -2;
}

static gboolean ask_versioning(S3Store *s3, StoreFacts *facts, GError **error)
{
    g_auto(S3Answer) answer = {0};
    int known = ask(s3, "versioning=", "<VersioningConfiguration", "cannot ask whether versions are kept in",
                    "s3:GetBucketVersioning", &answer, error);
    if (known == 1) {
        facts->versioning = text_is(&answer, "Status", "Enabled");
        facts->versioning_suspended = text_is(&answer, "Status", "Suspended");
        facts->mfa_delete = text_is(&answer, "MfaDelete", "Enabled") || text_is(&answer, "MFADelete", "Enabled");
    }
    if (answer.http.server_time != 0)
        facts->clock_skew = answer.http.server_time - g_get_real_time() / G_USEC_PER_SEC;
    return known != -2;
}

static gboolean ask_lock(S3Store *s3, StoreFacts *facts, GError **error)
{
    g_auto(S3Answer) answer = {0};
    int known = ask(s3, "object-lock=", "<ObjectLockConfiguration", "cannot ask whether objects can be locked in",
                    "s3:GetBucketObjectLockConfiguration", &answer, error);
    facts->lock = known == 1 ? text_is(&answer, "ObjectLockEnabled", "Enabled") : known;
    return known != -2;
}

static gboolean ask_encryption(S3Store *s3, StoreFacts *facts, GError **error)
{
    g_auto(S3Answer) answer = {0};
    int known = ask(s3, "encryption=", "<ServerSideEncryptionConfiguration", "cannot ask for the encryption of",
                    "s3:GetEncryptionConfiguration", &answer, error);
    facts->encryption = known == 1 ? contains(&answer, "<SSEAlgorithm>") : known;
    return known != -2;
}

/* A policy or a grant opens it. Unknown unless one says yes, or both could be asked. */
static gboolean ask_public(S3Store *s3, StoreFacts *facts, GError **error)
{
    g_auto(S3Answer) policy = {0};
    g_auto(S3Answer) acl = {0};
    int by_policy = ask(s3, "policyStatus=", "<PolicyStatus", "cannot ask who may read", "s3:GetBucketPolicyStatus",
                        &policy, error);
    if (by_policy == -2)
        return FALSE;
    int by_acl = ask(s3, "acl=", "<AccessControlPolicy", "cannot ask who may read", "s3:GetBucketAcl", &acl, error);
    if (by_acl == -2)
        return FALSE;
    if (by_policy == 1)
        by_policy = text_is(&policy, "IsPublic", "true") || text_is(&policy, "IsPublic", "TRUE");
    if (by_acl == 1)
        by_acl = contains(&acl, "/groups/global/AllUsers") || contains(&acl, "/groups/global/AuthenticatedUsers");
    facts->public_access = by_policy == 1 || by_acl == 1 ? 1 : by_policy == 0 && by_acl == 0 ? 0 : -1;
    return TRUE;
}

gboolean s3_facts(Store *store, StoreFacts *facts, GError **error)
{
    S3Store *s3 = s3_of(store);
    *facts = (StoreFacts){.versioning = -1,
                          .mfa_delete = -1,
                          .lock = -1,
                          .encryption = -1,
                          .public_access = -1,
                          .versioning_suspended = -1};
    if ((s3->provider->can & PROVIDER_VERSIONS) == 0)
        facts->versioning = facts->mfa_delete = facts->versioning_suspended = 0;
    if (!ask_versioning(s3, facts, error) || !ask_encryption(s3, facts, error) || !ask_public(s3, facts, error))
        return FALSE;
    if ((s3->provider->can & PROVIDER_LOCK) == 0)
        facts->lock = 0;
    else if (!ask_lock(s3, facts, error))
        return FALSE;
    /* Afterwards: a redirect may have told better. A program has few stores, so these may stay for good. */
    g_autoptr(S3Place) place = s3_place_now(s3);
    facts->endpoint = g_intern_string(place->origin);
    facts->region = g_intern_string(place->region);
    return TRUE;
}

/* Puts a document in force. */
static gboolean configure(S3Store *s3, const char *query, const GString *document, const char *what,
                          const char *permission, GError **error)
{
    StoreBody body = {.data = document->str, .length = document->len};
    g_autoptr(GPtrArray) headers = s3_headers_new();
    s3_headers_add(headers, "Content-Type", "application/xml");
    S3Request request = {.kind = STORE_REQUEST_OTHER,
                         .method = "PUT",
                         .query = query,
                         .headers = headers,
                         .body = &body,
                         .md5 = TRUE,
                         .what = what,
                         .permission = permission};
    g_auto(S3Answer) answer = {0};
    return s3_perform(s3, &request, &answer, error);
}

gboolean s3_set_versioning(Store *store, gboolean on, GError **error)
{
    g_autoptr(GString) document = g_string_new(NULL);
    g_string_printf(document,
                    "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>%s</Status>"
                    "</VersioningConfiguration>",
                    on ? "Enabled" : "Suspended");
    return configure(s3_of(store), "versioning=", document, "cannot switch versions on or off in",
                     "s3:PutBucketVersioning", error);
}

static gboolean append_rule(const S3Store *s3, GString *out, const StoreLifecycleRule *rule, GError **error)
{
    g_autofree char *prefix = g_strconcat(s3->prefix, rule->prefix ? rule->prefix : "", NULL);
    if (!rule->id || !g_str_has_prefix(rule->id, OWN_RULES))
        return error_set(error, BACKAPP_ERROR_INVALID, "a rule's id has to begin with " OWN_RULES);
    if ((rule->transition_days || rule->old_versions_transition_days) && !rule->transition_class)
        return error_set(error, BACKAPP_ERROR_INVALID, "rule %s does not say to which storage class", rule->id);
    g_string_append(out, "<Rule><ID>");
    gboolean good = s3_xml_append(out, rule->id);
    g_string_append(out, "</ID><Filter><Prefix>");
    good = s3_xml_append(out, prefix) && good;
    g_string_append(out, "</Prefix></Filter><Status>Enabled</Status>");
    const char *class = rule->transition_class ? rule->transition_class : "";
    if (rule->transition_days > 0)
        g_string_append_printf(out, "<Transition><Days>%u</Days><StorageClass>%s</StorageClass></Transition>",
                               rule->transition_days, class);
    if (rule->expire_days > 0)
        g_string_append_printf(out, "<Expiration><Days>%u</Days></Expiration>", rule->expire_days);
    if (rule->old_versions_transition_days > 0)
        g_string_append_printf(out,
                               "<NoncurrentVersionTransition><NoncurrentDays>%u</NoncurrentDays><StorageClass>%s"
                               "</StorageClass></NoncurrentVersionTransition>",
                               rule->old_versions_transition_days, class);
    if (rule->old_versions_expire_days > 0)
        g_string_append_printf(out,
                               "<NoncurrentVersionExpiration><NoncurrentDays>%u</NoncurrentDays>"
                               "</NoncurrentVersionExpiration>",
                               rule->old_versions_expire_days);
    if (rule->abort_uploads_days > 0)
        g_string_append_printf(out,
                               "<AbortIncompleteMultipartUpload><DaysAfterInitiation>%u</DaysAfterInitiation>"
                               "</AbortIncompleteMultipartUpload>",
                               rule->abort_uploads_days);
    g_string_append(out, "</Rule>");
    return good || error_set(error, BACKAPP_ERROR_INVALID, "rule %s has a prefix that no rule can have", rule->id);
}

/* The rules that are not ours, as they stand in the server's document. */
static gboolean append_others(const S3Answer *answer, GString *out, guint *count, GError **error)
{
    const GByteArray *body = answer->http.body;
    if (!body || body->len == 0)
        return TRUE;
    g_autoptr(GPtrArray) sources = s3_xml_sources(body->data, body->len, "Rule", error);
    for (guint i = 0; sources && i < sources->len; i++) {
        const char *source = sources->pdata[i];
        g_autofree char *id = s3_xml_text(source, strlen(source), "ID");
        if (id && g_str_has_prefix(id, OWN_RULES))
            continue;
        g_string_append(out, source);
        (*count)++;
    }
    return sources != NULL;
}

static gboolean remove_lifecycle(S3Store *s3, GError **error)
{
    S3Request request = {.kind = STORE_REQUEST_OTHER,
                         .method = "DELETE",
                         .query = "lifecycle=",
                         .what = "cannot remove the life cycle of",
                         .permission = "s3:PutLifecycleConfiguration"};
    g_auto(S3Answer) answer = {0};
    return s3_perform(s3, &request, &answer, error);
}

gboolean s3_set_lifecycle(Store *store, const StoreLifecycleRule *rules, guint count, GError **error)
{
    S3Store *s3 = s3_of(store);
    if ((s3->provider->can & PROVIDER_LIFECYCLE) == 0)
        return error_set(error, BACKAPP_ERROR_INVALID, "%s offers no life cycle rules", s3->provider->title);
    S3Request request = {.kind = STORE_REQUEST_OTHER,
                         .method = "GET",
                         .query = "lifecycle=",
                         .what = "cannot ask for the life cycle of",
                         .permission = "s3:GetLifecycleConfiguration"};
    g_auto(S3Answer) answer = {0};
    g_autoptr(GError) local = NULL;
    /* Without knowing the others they cannot be kept: a refusal is final. */
    gboolean there = s3_perform(s3, &request, &answer, &local);
    if (!there && (!error_is(local, BACKAPP_ERROR_NOT_FOUND) || g_strcmp0(answer.code, "NoSuchBucket") == 0)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    g_autoptr(GString) document =
        g_string_new("<LifecycleConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    guint all = count;
    if (there && !append_others(&answer, document, &all, error))
        return FALSE;
    for (guint i = 0; i < count; i++)
        if (!append_rule(s3, document, &rules[i], error))
            return FALSE;
    g_string_append(document, "</LifecycleConfiguration>");
    if (all == 0)
        return !there || remove_lifecycle(s3, error);
    return configure(s3, "lifecycle=", document, "cannot set the life cycle of", "s3:PutLifecycleConfiguration", error);
}
