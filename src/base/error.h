/*
 * Errors: one GError domain for the whole program, with codes that say what a caller can do.
 *
 * Every fallible function takes a trailing `GError **error` and returns FALSE or NULL when it sets it. Layers on the
 * way up prefix what they were doing (g_prefix_error); an error is logged or shown once, at the edge. All functions
 * may be called from any thread.
 */
#pragma once

#include <glib.h>

#define BACKAPP_ERROR (backapp_error_quark())

/* What went wrong, told apart by what can be done about it. */
typedef enum {
    BACKAPP_ERROR_NOT_FOUND, /* the thing does not exist */
    BACKAPP_ERROR_DENIED,    /* permission is missing */
    BACKAPP_ERROR_INVALID,   /* the input is wrong: correct it */
    BACKAPP_ERROR_CONFLICT,  /* the state does not allow it; a refusal by a safety check has this code */
    BACKAPP_ERROR_TRANSIENT, /* trying again may help */
    BACKAPP_ERROR_CORRUPT,   /* stored data is damaged */
    BACKAPP_ERROR_NO_SPACE,  /* a file system or quota is full */
    BACKAPP_ERROR_LOCKED,    /* somebody else is at work there */
    BACKAPP_ERROR_CANCELLED, /* the user or the parent stopped it */
    BACKAPP_ERROR_INTERNAL,  /* anything else; a bug or an I/O error */
} BackappError;

/* The domain's quark. */
GQuark backapp_error_quark(void);

/* The code's name in upper case as the specification has it ("NOT_FOUND"); static. */
const char *error_code_name(BackappError code);

/* The code that fits an errno value: ENOENT is NOT_FOUND, EACCES and EPERM DENIED, ENOSPC and EDQUOT NO_SPACE, ... */
BackappError error_code_from_errno(int errnum);

/* Sets *error (unless error is NULL) with a printf-style message. Always returns FALSE, so `return error_set(...)`. */
gboolean error_set(GError **error, BackappError code, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* Like error_set, with the code that fits errnum and ": <strerror>" appended. Always returns FALSE. */
gboolean error_set_errno(GError **error, int errnum, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* TRUE if err is of our domain and has this code. err may be NULL. */
gboolean error_is(const GError *err, BackappError code);
