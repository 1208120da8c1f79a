#include "engine/s3sync/items.h"

#include "fs/meta.h"

static const char *action_of(const S3PlanItem *item)
{
    switch (item->op) {
    case S3PLAN_UPLOAD:
        return item->have_etag != NULL ? "update" : "create";
    case S3PLAN_COPY:
        return "copy";
    case S3PLAN_CHECK:
        return "check";
    case S3PLAN_TOUCH:
        return "metadata";
    case S3PLAN_DELETE:
        return "delete";
    case S3PLAN_KEEP:
    case S3PLAN_META:
        break;
    }
    return NULL;
}

gboolean items_show(S3Plan *plan, RunSink *sink, GError **error)
{
    if (sink->item == NULL)
        return TRUE;
    g_autoptr(S3PlanReader) reader = s3plan_reader_new(plan);
    S3PlanItem item;
    int got = 0;
    while ((got = s3plan_reader_next(reader, &item, error)) > 0) {
        const char *action = action_of(&item);
        if (action == NULL)
            continue;
        gboolean named = item.entry.path != NULL && item.entry.path[0] != '\0';
        RunItem shown = {.action = action,
                         .kind = "file",
                         .path = named ? item.entry.path : item.entry.key,
                         .bytes = item.op == S3PLAN_UPLOAD || item.op == S3PLAN_COPY ? item.entry.meta.size : 0,
                         .files = item.op == S3PLAN_DELETE ? 1 : 0};
        sink->item(sink, &shown);
    }
    return got >= 0;
}
