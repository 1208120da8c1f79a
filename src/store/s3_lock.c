#include "store/s3.h"

#include <string.h>

#include "base/error.h"
#include "store/s3_time.h"
#include "store/s3_xml.h"

static char *sub_query(const char *name, const char *version)
{
    g_autoptr(GString) query = g_string_new(name);
    g_string_append_c(query, '=');
    if (version)
        s3_query_add(query, "versionId", version);
    return g_strdup(query->str);
}

/* The lock of a version: its mode (NULL: none) and end. FALSE with an error if that may not be asked. */
static gboolean read_retention(S3Store *s3, const char *key, const char *version, char **mode, gint64 *until,
                               GError **error)
{
    g_autofree char *query = sub_query("retention", version);
    S3Request request = {.kind = STORE_REQUEST_OTHER,
                         .method = "GET",
                         .key = key,
                         .query = query,
                         .what = "cannot ask for the lock of",
                         .permission = "s3:GetObjectRetention"};
    g_auto(S3Answer) answer = {0};
    g_autoptr(GError) local = NULL;
    *mode = NULL;
    *until = 0;
    if (!s3_perform(s3, &request, &answer, &local)) {
        /* The second is radosgw's word for it. */
        if (error_is(local, BACKAPP_ERROR_NOT_FOUND) &&
            (g_strcmp0(answer.code, "NoSuchObjectLockConfiguration") == 0 ||
             g_strcmp0(answer.code, "ObjectLockConfigurationNotFoundError") == 0))
            return TRUE;
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    const GByteArray *body = answer.http.body;
    g_autofree char *date = body ? s3_xml_text(body->data, body->len, "RetainUntilDate") : NULL;
    *mode = body ? s3_xml_text(body->data, body->len, "Mode") : NULL;
    if (*mode && (!date || !s3_time_parse_iso(date, until))) {
        g_clear_pointer(mode, g_free);
        return error_set(error, BACKAPP_ERROR_CORRUPT, "the lock of %s has no end that can be read", key);
    }
    return TRUE;
}

GError *s3_lock_conflict(S3Store *s3, const char *key, const char *version)
{
    g_autofree char *mode = NULL;
    gint64 until = 0;
    GError *conflict = NULL;
    if (!read_retention(s3, key, version, &mode, &until, NULL) || !mode || until <= s3_time_now(s3))
        return NULL;
    g_autofree char *where = s3_name(s3, key);
    g_autofree char *date = s3_time_format_iso(until);
    error_set(&conflict, BACKAPP_ERROR_CONFLICT, "cannot delete %s: this version is locked (%s) until %s", where, mode,
              date);
    return conflict;
}

gboolean s3_set_lock(Store *store, const char *key, const char *version, const char *mode, gint64 until, GError **error)
{
    S3Store *s3 = s3_of(store);
    g_autofree char *has = NULL;
    gint64 has_until = 0;
    g_autoptr(GError) local = NULL;
    /* Without the permission to ask, the server's own refusal to shorten must do: it has one for COMPLIANCE, and for
     * GOVERNANCE unless a bypass is asked for, which we never do. */
    if (!read_retention(s3, key, version, &has, &has_until, &local) && !error_is(local, BACKAPP_ERROR_DENIED)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    gboolean compliance = g_strcmp0(has, "COMPLIANCE") == 0 && has_until > s3_time_now(s3);
    const char *stricter = compliance ? "COMPLIANCE" : mode;
    if (has && has_until >= until && strcmp(has, stricter) == 0)
        return TRUE;
    g_autofree char *date = s3_time_format_iso(MAX(until, has ? has_until : until));
    g_autoptr(GString) document = g_string_new("<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>");
    if (!date || !s3_xml_append(document, stricter))
        return error_set(error, BACKAPP_ERROR_INVALID, "that is no lock: %s", mode);
    g_string_append_printf(document, "</Mode><RetainUntilDate>%s</RetainUntilDate></Retention>", date);
    StoreBody body = {.data = document->str, .length = document->len};
    g_autofree char *query = sub_query("retention", version);
    S3Request request = {.kind = STORE_REQUEST_OTHER,
                         .method = "PUT",
                         .key = key,
                         .query = query,
                         .body = &body,
                         .md5 = TRUE,
                         .what = "cannot lock",
                         .permission = "s3:PutObjectRetention"};
    g_auto(S3Answer) answer = {0};
    return s3_perform(s3, &request, &answer, error);
}

gboolean s3_thaw(Store *store, const char *key, const char *version, guint days, const char *tier, GError **error)
{
    S3Store *s3 = s3_of(store);
    g_autoptr(GString) document =
        g_string_new("<RestoreRequest xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Days>");
    g_string_append_printf(document, "%u</Days><GlacierJobParameters><Tier>", MAX(days, 1));
    if (!s3_xml_append(document, tier ? tier : "Standard"))
        return error_set(error, BACKAPP_ERROR_INVALID, "that is no tier of a thaw");
    g_string_append(document, "</Tier></GlacierJobParameters></RestoreRequest>");
    StoreBody body = {.data = document->str, .length = document->len};
    g_autofree char *query = sub_query("restore", version);
    S3Request request = {.kind = STORE_REQUEST_OTHER,
                         .method = "POST",
                         .key = key,
                         .query = query,
                         .body = &body,
                         .md5 = TRUE,
                         .what = "cannot thaw",
                         .permission = "s3:RestoreObject"};
    g_auto(S3Answer) answer = {0};
    g_autoptr(GError) local = NULL;
    if (s3_perform(s3, &request, &answer, &local) || g_strcmp0(answer.code, "RestoreAlreadyInProgress") == 0)
        return TRUE;
    if (g_strcmp0(answer.code, "InvalidObjectState") == 0)
        return error_set(error, BACKAPP_ERROR_CONFLICT, "%s is in no cold storage class: it can be read as it is", key);
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}
