#include "job/message.h"

#include "base/error.h"
#include "job/json_line.h"
#include "job/spec.h"

#include <string.h>

static const char *const type_names[] = {"cancel", "pause", "resume", "limits", "credentials", "presigned"};

/* read_type has looked at it before. */
static gboolean accept_type(const json_t *value, const char *where, gpointer member, GError **error)
{
    return TRUE;
}

static const JsonField plain_fields[] = {
    {.key = "type", .kind = FIELD_CUSTOM, .read = accept_type},
    {0},
};

static const JsonField limit_fields[] = {
    {.key = "type", .kind = FIELD_CUSTOM, .read = accept_type},
    {.key = "bandwidth", .kind = FIELD_UINT64, .offset = G_STRUCT_OFFSET(Message, bandwidth), .max = G_MAXINT64},
    {.key = "nice", .kind = FIELD_UINT64, .offset = G_STRUCT_OFFSET(Message, nice), .max = 19},
    {0},
};

static gboolean read_type(const json_t *object, MessageType *type, GError **error)
{
    const char *name = json_string_value(json_object_get(object, "type"));
    for (guint i = 0; i < G_N_ELEMENTS(type_names); i++)
        if (name && strcmp(name, type_names[i]) == 0) {
            *type = (MessageType)i;
            return TRUE;
        }
    return error_set(error, BACKAPP_ERROR_INVALID, "message: type: is missing or unknown");
}

gboolean message_parse(const char *line, gsize length, Message *message, GError **error)
{
    *message = (Message){.bandwidth = MESSAGE_NOT_GIVEN, .nice = MESSAGE_NOT_GIVEN};
    json_t *object = json_line_parse(line, length, JOB_LINE_MAX, "message", error);
    if (!object)
        return FALSE;
    gboolean fine = read_type(object, &message->type, error);
    gboolean secrets = message->type == MESSAGE_CREDENTIALS || message->type == MESSAGE_PRESIGNED;
    if (fine && !secrets)
        fine = json_line_read(object, message->type == MESSAGE_LIMITS ? limit_fields : plain_fields, "message: ", FALSE,
                              message, error);
    json_decref(object);
    return fine;
}

char *message_print(const Message *message)
{
    json_t *object = json_object();
    json_object_set_new(object, "type", json_string(type_names[message->type]));
    if (message->bandwidth != MESSAGE_NOT_GIVEN)
        json_object_set_new(object, "bandwidth", json_line_count(message->bandwidth));
    if (message->nice != MESSAGE_NOT_GIVEN)
        json_object_set_new(object, "nice", json_line_count(message->nice));
    return json_line_print(object);
}
