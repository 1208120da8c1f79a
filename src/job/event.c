#include "job/event.h"

#include "base/error.h"
#include "job/json_line.h"
#include "job/json_name.h"
#include "job/spec.h"

#include <math.h>
#include <string.h>

static const char *const event_names[] = {"stage", "progress", "warning", "item", "summary", "need", "done"};
static const char *const status_names[] = {"completed", "partial", "failed", "refused", "cancelled"};
static const int exit_codes[] = {0, 3, 1, 4, 130};

const char *job_status_name(JobStatus status)
{
    return status_names[status];
}

int job_status_exit_code(JobStatus status)
{
    return exit_codes[status];
}

Event *event_new(EventType type)
{
    Event *event = g_new0(Event, 1);
    event->type = type;
    event->eta = -1;
    event->destination = -1;
    return event;
}

void event_free(Event *event)
{
    if (!event)
        return;
    char *const strings[] = {event->name, event->path, event->code,       event->message,       event->action,
                             event->kind, NULL,        event->error_code, event->error_message, event->plan_hash};
    for (guint i = 0; i < G_N_ELEMENTS(strings); i++)
        g_free(strings[i]);
    json_decref(event->summary);
    g_free(event);
}

/* Longer texts are cut, so that a line stays below JOB_LINE_MAX whatever its escapes: a byte takes at most seven. */
#define TEXT_SHOWN (64 * 1024)

static char *cut_text(const char *text)
{
    gsize length = strlen(text);
    if (length <= TEXT_SHOWN)
        return g_strdup(text);
    length = TEXT_SHOWN - strlen("...");
    /* Not within a character. */
    for (guint i = 0; i < 3 && (text[length] & 0xC0) == 0x80; i++)
        length--;
    return g_strdup_printf("%.*s...", (int)length, text);
}

/* A number with as many decimals as anybody reads. One that is unknown, or that JSON cannot hold, is null. */
static void set_real(json_t *object, const char *key, double value, double decimals)
{
    gboolean known = isfinite(value) && value >= 0 && value < 1e12;
    json_object_set_new(object, key,
                        known ? json_real((double)(gint64)(value * decimals + 0.5) / decimals) : json_null());
}

static void set_name(json_t *object, const char *key, const char *name)
{
    g_autofree char *cut = name ? cut_text(name) : NULL;
    json_name_set(object, key, cut);
}

static void set_text(json_t *object, const char *key, const char *text)
{
    if (!text)
        return;
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    g_autofree char *cut = cut_text(valid);
    json_object_set_new(object, key, json_string(cut));
}

static void print_progress(const Event *event, json_t *object)
{
    json_object_set_new(object, "files", json_line_count(event->files_done));
    json_object_set_new(object, "filesTotal", json_line_count(event->files_total));
    json_object_set_new(object, "bytes", json_line_count(event->bytes_done));
    json_object_set_new(object, "bytesTotal", json_line_count(event->bytes_total));
    set_real(object, "percentage", event->percentage, 100);
    set_name(object, "currentFile", event->path);
    set_real(object, "rate", event->rate, 1);
    set_real(object, "eta", event->eta, 1);
}

static void print_item(const Event *event, json_t *object)
{
    set_text(object, "action", event->action);
    set_text(object, "kind", event->kind);
    set_name(object, "path", event->path);
    json_object_set_new(object, "bytes", json_line_count(event->bytes_done));
    json_object_set_new(object, "files", json_line_count(event->files_done));
}

static void print_done(const Event *event, json_t *object)
{
    json_object_set_new(object, "status", json_string(job_status_name(event->status)));
    if (event->error_code || event->error_message) {
        json_t *error = json_object();
        set_text(error, "code", event->error_code);
        set_text(error, "message", event->error_message);
        json_object_set_new(object, "error", error);
    }
    set_text(object, "planHash", event->plan_hash);
}

char *event_print(const Event *event)
{
    json_t *object = json_object();
    json_object_set_new(object, "type", json_string(event_names[event->type]));
    switch (event->type) {
    case EVENT_STAGE:
    case EVENT_NEED:
        set_text(object, "name", event->name);
        break;
    case EVENT_PROGRESS:
        print_progress(event, object);
        break;
    case EVENT_WARNING:
        set_text(object, "code", event->code);
        set_name(object, "path", event->path);
        set_text(object, "message", event->message);
        break;
    case EVENT_ITEM:
        print_item(event, object);
        break;
    case EVENT_SUMMARY:
        json_object_set(object, "stats", event->summary);
        break;
    case EVENT_DONE:
        print_done(event, object);
        break;
    }
    if (event->destination >= 0)
        json_object_set_new(object, "destination", json_integer(event->destination));
    return json_line_print(object);
}

#define TEXT_BYTES   JOB_LINE_MAX
#define MEMBER(name) G_STRUCT_OFFSET(Event, name)
/* As many as a spec may have. */
#define DESTINATION_MAX 999

static gboolean read_real(const json_t *value, const char *where, gpointer member, GError **error)
{
    if (json_is_null(value))
        *(double *)member = -1;
    else if (json_is_number(value) && json_number_value(value) >= 0)
        *(double *)member = json_number_value(value);
    else
        return error_set(error, BACKAPP_ERROR_INVALID, "%s: must be null or a number from 0 on", where);
    return TRUE;
}

static gboolean read_status(const json_t *value, const char *where, gpointer member, GError **error)
{
    for (guint i = 0; i < G_N_ELEMENTS(status_names); i++)
        if (json_is_string(value) && strcmp(json_string_value(value), status_names[i]) == 0) {
            *(JobStatus *)member = (JobStatus)i;
            return TRUE;
        }
    return error_set(error, BACKAPP_ERROR_INVALID, "%s: unknown status", where);
}

static gboolean read_stats(const json_t *value, const char *where, gpointer member, GError **error)
{
    if (!json_is_object(value))
        return error_set(error, BACKAPP_ERROR_INVALID, "%s: must be an object", where);
    *(json_t **)member = json_incref((json_t *)value);
    return TRUE;
}

static const JsonField error_fields[] = {
    {.key = "code", .kind = FIELD_TEXT, .offset = MEMBER(error_code), .max = TEXT_BYTES},
    {.key = "message", .kind = FIELD_TEXT, .offset = MEMBER(error_message), .max = TEXT_BYTES},
    {0},
};

static gboolean read_error(const json_t *value, const char *where, gpointer member, GError **error)
{
    if (!json_is_object(value))
        return error_set(error, BACKAPP_ERROR_INVALID, "%s: must be an object", where);
    return json_line_read(value, error_fields, "error.", TRUE, member, error);
}

static const JsonField name_fields[] = {
    {.key = "name", .kind = FIELD_TEXT, .offset = MEMBER(name), .max = TEXT_BYTES},
    {.key = "destination", .kind = FIELD_INT, .offset = MEMBER(destination), .max = DESTINATION_MAX},
    {0},
};

static const JsonField progress_fields[] = {
    {.key = "files", .kind = FIELD_UINT64, .offset = MEMBER(files_done), .max = G_MAXINT64},
    {.key = "filesTotal", .kind = FIELD_UINT64, .offset = MEMBER(files_total), .max = G_MAXINT64},
    {.key = "bytes", .kind = FIELD_UINT64, .offset = MEMBER(bytes_done), .max = G_MAXINT64},
    {.key = "bytesTotal", .kind = FIELD_UINT64, .offset = MEMBER(bytes_total), .max = G_MAXINT64},
    {.key = "percentage", .kind = FIELD_CUSTOM, .offset = MEMBER(percentage), .read = read_real},
    {.key = "currentFile", .kind = FIELD_NAME, .offset = MEMBER(path), .max = TEXT_BYTES},
    {.key = "rate", .kind = FIELD_CUSTOM, .offset = MEMBER(rate), .read = read_real},
    {.key = "eta", .kind = FIELD_CUSTOM, .offset = MEMBER(eta), .read = read_real},
    {.key = "destination", .kind = FIELD_INT, .offset = MEMBER(destination), .max = DESTINATION_MAX},
    {0},
};

static const JsonField warning_fields[] = {
    {.key = "code", .kind = FIELD_TEXT, .offset = MEMBER(code), .max = TEXT_BYTES},
    {.key = "path", .kind = FIELD_NAME, .offset = MEMBER(path), .max = TEXT_BYTES},
    {.key = "message", .kind = FIELD_TEXT, .offset = MEMBER(message), .max = TEXT_BYTES},
    {.key = "destination", .kind = FIELD_INT, .offset = MEMBER(destination), .max = DESTINATION_MAX},
    {0},
};

static const JsonField item_fields[] = {
    {.key = "action", .kind = FIELD_TEXT, .offset = MEMBER(action), .max = TEXT_BYTES},
    {.key = "kind", .kind = FIELD_TEXT, .offset = MEMBER(kind), .max = TEXT_BYTES},
    {.key = "path", .kind = FIELD_NAME, .offset = MEMBER(path), .max = TEXT_BYTES},
    {.key = "bytes", .kind = FIELD_UINT64, .offset = MEMBER(bytes_done), .max = G_MAXINT64},
    {.key = "files", .kind = FIELD_UINT64, .offset = MEMBER(files_done), .max = G_MAXINT64},
    {.key = "destination", .kind = FIELD_INT, .offset = MEMBER(destination), .max = DESTINATION_MAX},
    {0},
};

static const JsonField summary_fields[] = {
    {.key = "stats", .kind = FIELD_CUSTOM, .offset = MEMBER(summary), .read = read_stats},
    {0},
};

static const JsonField done_fields[] = {
    {.key = "status", .kind = FIELD_CUSTOM, .offset = MEMBER(status), .read = read_status},
    {.key = "error", .kind = FIELD_CUSTOM, .read = read_error},
    {.key = "planHash", .kind = FIELD_TEXT, .offset = MEMBER(plan_hash), .max = TEXT_BYTES},
    {0},
};

static const JsonField *const fields_of[] = {name_fields,    progress_fields, warning_fields, item_fields,
                                             summary_fields, name_fields,     done_fields};
/* What an event is nothing without; NULL where every key may be missing. */
static const char *const required_key[] = {"name", NULL, "message", "action", "stats", "name", "status"};

static Event *read_event(const json_t *object, GError **error)
{
    const char *name = json_string_value(json_object_get(object, "type"));
    guint type = 0;
    while (type < G_N_ELEMENTS(event_names) && !(name && strcmp(name, event_names[type]) == 0))
        type++;
    if (type == G_N_ELEMENTS(event_names))
        return error_set(error, BACKAPP_ERROR_INVALID, "type: is missing or unknown"), NULL;
    if (required_key[type] && !json_object_get(object, required_key[type]))
        return error_set(error, BACKAPP_ERROR_INVALID, "%s: is missing", required_key[type]), NULL;
    g_autoptr(Event) event = event_new((EventType)type);
    if (!json_line_read(object, fields_of[type], "", TRUE, event, error))
        return NULL;
    return g_steal_pointer(&event);
}

Event *event_parse(const char *line, gsize length, GError **error)
{
    json_t *object = json_line_parse(line, length, JOB_LINE_MAX, "event", error);
    if (!object)
        return NULL;
    Event *event = read_event(object, error);
    if (!event)
        g_prefix_error(error, "event: ");
    json_decref(object);
    return event;
}
