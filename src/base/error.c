#include "base/error.h"

#include <errno.h>
#include <stdarg.h>

GQuark backapp_error_quark(void)
{
    return g_quark_from_static_string("backapp-error");
}

const char *error_code_name(BackappError code)
{
    switch (code) {
    case BACKAPP_ERROR_NOT_FOUND:
        return "NOT_FOUND";
    case BACKAPP_ERROR_DENIED:
        return "DENIED";
    case BACKAPP_ERROR_INVALID:
        return "INVALID";
    case BACKAPP_ERROR_CONFLICT:
        return "CONFLICT";
    case BACKAPP_ERROR_TRANSIENT:
        return "TRANSIENT";
    case BACKAPP_ERROR_CORRUPT:
        return "CORRUPT";
    case BACKAPP_ERROR_NO_SPACE:
        return "NO_SPACE";
    case BACKAPP_ERROR_LOCKED:
        return "LOCKED";
    case BACKAPP_ERROR_CANCELLED:
        return "CANCELLED";
    case BACKAPP_ERROR_INTERNAL:
        return "INTERNAL";
    }
    return "INTERNAL";
}

static gboolean errno_is_transient(int errnum)
{
    switch (errnum) {
    case EAGAIN:
    case EINTR:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ESTALE:
    case ETIMEDOUT:
    case ECONNRESET:
    case ECONNREFUSED:
    case ECONNABORTED:
    case EPIPE:
    case ENETDOWN:
    case ENETUNREACH:
    case ENETRESET:
    case EHOSTDOWN:
    case EHOSTUNREACH:
        return TRUE;
    default:
        return FALSE;
    }
}

BackappError error_code_from_errno(int errnum)
{
    if (errno_is_transient(errnum))
        return BACKAPP_ERROR_TRANSIENT;
    switch (errnum) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
    case ESRCH:
        return BACKAPP_ERROR_NOT_FOUND;
    case EACCES:
    case EPERM:
    case EROFS:
        return BACKAPP_ERROR_DENIED;
    case EINVAL:
    case ENAMETOOLONG:
    case ENOTDIR:
    case EISDIR:
    case ELOOP:
    case EILSEQ:
        return BACKAPP_ERROR_INVALID;
    case EEXIST:
    case ENOTEMPTY:
    case EXDEV:
    case EMLINK:
        return BACKAPP_ERROR_CONFLICT;
    case EBADMSG:
    case EUCLEAN:
        return BACKAPP_ERROR_CORRUPT;
    case ENOSPC:
    case EDQUOT:
        return BACKAPP_ERROR_NO_SPACE;
    case EBUSY:
    case ETXTBSY:
    case EDEADLK:
        return BACKAPP_ERROR_LOCKED;
    case ECANCELED:
        return BACKAPP_ERROR_CANCELLED;
    default:
        return BACKAPP_ERROR_INTERNAL;
    }
}

gboolean error_set(GError **error, BackappError code, const char *format, ...)
{
    if (!error)
        return FALSE;
    va_list arguments;
    va_start(arguments, format);
    GError *made = g_error_new_valist(BACKAPP_ERROR, (gint)code, format, arguments);
    va_end(arguments);
    g_propagate_error(error, made);
    return FALSE;
}

gboolean error_set_errno(GError **error, int errnum, const char *format, ...)
{
    if (!error)
        return FALSE;
    va_list arguments;
    va_start(arguments, format);
    g_autofree char *what = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    return error_set(error, error_code_from_errno(errnum), "%s: %s", what, g_strerror(errnum));
}

gboolean error_is(const GError *err, BackappError code)
{
    return err && err->domain == BACKAPP_ERROR && err->code == (gint)code;
}
