/*
 * Logging to standard error, as text for people or one JSON object a line for machines. Set up once before threads
 * start; then every function may be called from any thread. An error is logged once, at the edge.
 */
#pragma once

#include <glib.h>

typedef enum { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR } LogLevel;

/* Chooses the lowest level shown and the format. Default: INFO, text. Routes GLib's own messages here as well. */
void log_setup(LogLevel lowest, gboolean json);

/* Parses "debug", "info", "warning", "error". FALSE with INVALID otherwise. */
gboolean log_parse_level(const char *text, LogLevel *level, GError **error);

/* Writes one line (time with milliseconds in UTC, level, message). The message is made printable. */
void log_write(LogLevel level, const char *format, ...) G_GNUC_PRINTF(2, 3);

#define log_debug(...)   log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...)    log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_error(...)   log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
