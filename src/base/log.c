#include "base/log.h"

#include "base/error.h"
#include "base/human.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Written by log_setup before threads start, so they need no lock. */
static LogLevel lowest_level = LOG_LEVEL_INFO;
static gboolean as_json = FALSE;

/* A pthread mutex, as everywhere in base: the thread sanitizer sees it, and GLib's own it does not. */
static pthread_mutex_t write_lock = PTHREAD_MUTEX_INITIALIZER;

static const char *const level_names[] = {"debug", "info", "warning", "error"};
static const char *const level_labels[] = {"DEBUG", "INFO", "WARNING", "ERROR"};

/* Writes a whole line to standard error. If nobody takes it, it is dropped: there is nowhere left to say so. */
static void write_line(const char *line, gsize length)
{
    pthread_mutex_lock(&write_lock);
    while (length > 0) {
        ssize_t written = write(STDERR_FILENO, line, length);
        if (written > 0) {
            line += written;
            length -= (gsize)written;
            continue;
        }
        if (written < 0 && errno == EINTR)
            continue;
        /* A non-blocking standard error gets a second to drain, so that a stuck reader cannot stop a run. */
        struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};
        if (written < 0 && errno == EAGAIN && poll(&ready, 1, 1000) > 0)
            continue;
        break;
    }
    pthread_mutex_unlock(&write_lock);
}

/* "2026-01-31T12:00:00.123Z" */
static void format_now(char *out, gsize size)
{
    struct timespec now = {0};
    struct tm parts = {0};
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (!gmtime_r(&now.tv_sec, &parts))
        memset(&parts, 0, sizeof parts);
    char seconds[32];
    if (strftime(seconds, sizeof seconds, "%Y-%m-%dT%H:%M:%S", &parts) == 0)
        seconds[0] = '\0';
    g_snprintf(out, (gulong)size, "%s.%03ldZ", seconds, now.tv_nsec / 1000000);
}

/* Names in a message have been through human_name already, so its backslashes are left as they are. */
static char *make_printable(const char *message)
{
    g_auto(GStrv) pieces = g_strsplit(message, "\\", -1);
    for (char **piece = pieces; *piece; piece++) {
        char *safe = human_name(*piece, -1);
        g_free(*piece);
        *piece = safe;
    }
    return g_strjoinv("\\", pieces);
}

/* The text is printable UTF-8, so quote and backslash are all that JSON asks to be escaped. */
static void append_json_string(GString *out, const char *text)
{
    g_string_append_c(out, '"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            g_string_append_c(out, '\\');
        g_string_append_c(out, *text);
    }
    g_string_append_c(out, '"');
}

static void write_message(LogLevel level, const char *message)
{
    char when[64];
    format_now(when, sizeof when);
    g_autofree char *printable = make_printable(message);
    g_autoptr(GString) line = g_string_new(NULL);
    if (as_json) {
        g_string_append_printf(line, "{\"time\":\"%s\",\"level\":\"%s\",\"message\":", when, level_names[level]);
        append_json_string(line, printable);
        g_string_append(line, "}\n");
    } else {
        g_string_append_printf(line, "%s %s %s\n", when, level_labels[level], printable);
    }
    write_line(line->str, line->len);
}

static LogLevel level_from_glib(GLogLevelFlags flags)
{
    if (flags & (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL))
        return LOG_LEVEL_ERROR;
    if (flags & G_LOG_LEVEL_WARNING)
        return LOG_LEVEL_WARNING;
    return flags & (G_LOG_LEVEL_MESSAGE | G_LOG_LEVEL_INFO) ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG;
}

static GLogWriterOutput take_glib_message(GLogLevelFlags flags, const GLogField *fields, gsize count,
                                          gpointer user_data)
{
    LogLevel level = level_from_glib(flags);
    if (level < lowest_level)
        return G_LOG_WRITER_HANDLED;
    for (gsize i = 0; i < count; i++) {
        if (strcmp(fields[i].key, "MESSAGE") != 0)
            continue;
        gsize length = fields[i].length < 0 ? strlen(fields[i].value) : (gsize)fields[i].length;
        g_autofree char *message = g_strndup(fields[i].value, length);
        write_message(level, message);
    }
    return G_LOG_WRITER_HANDLED;
}

void log_setup(LogLevel lowest, gboolean json)
{
    static gboolean routed = FALSE;
    lowest_level = lowest;
    as_json = json;
    /* GLib allows its writer to be set only once in a process. */
    if (!routed)
        g_log_set_writer_func(take_glib_message, NULL, NULL);
    routed = TRUE;
}

gboolean log_parse_level(const char *text, LogLevel *level, GError **error)
{
    for (guint i = 0; i < G_N_ELEMENTS(level_names); i++) {
        if (g_strcmp0(text, level_names[i]) == 0) {
            *level = (LogLevel)i;
            return TRUE;
        }
    }
    g_autofree char *shown = human_name(text ? text : "", -1);
    return error_set(error, BACKAPP_ERROR_INVALID, "'%s' is not a log level: use debug, info, warning or error", shown);
}

void log_write(LogLevel level, const char *format, ...)
{
    if (level < lowest_level)
        return;
    va_list arguments;
    va_start(arguments, format);
    g_autofree char *message = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    write_message(level, message);
}
