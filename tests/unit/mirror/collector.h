/*
 * A sink that keeps what an engine tells it, for tests to look at. May be called from several threads; read it when
 * they have ended.
 */
#pragma once

#include <string.h>

#include "base/run_sink.h"

typedef struct {
    RunSink sink; /* first: the callbacks get it back */
    GMutex mutex;
    GPtrArray *warnings; /* of "code path message" */
    GPtrArray *items;    /* of "action kind path bytes files" */
} Collector;

static inline void collector_stage(RunSink *sink, const char *name)
{
}

static inline void collector_progress(RunSink *sink, const RunProgress *progress)
{
}

static inline void collector_warning(RunSink *sink, const char *code, const char *path, const char *message)
{
    Collector *collector = (Collector *)sink;
    g_mutex_lock(&collector->mutex);
    g_ptr_array_add(collector->warnings, g_strdup_printf("%s %s %s", code, path != NULL ? path : "-", message));
    g_mutex_unlock(&collector->mutex);
}

static inline void collector_item(RunSink *sink, const RunItem *item)
{
    Collector *collector = (Collector *)sink;
    g_mutex_lock(&collector->mutex);
    g_ptr_array_add(collector->items, g_strdup_printf("%s %s %s %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT, item->action,
                                                      item->kind, item->path, item->bytes, item->files));
    g_mutex_unlock(&collector->mutex);
}

static inline Collector *collector_new(void)
{
    Collector *collector = g_new0(Collector, 1);
    collector->sink = (RunSink){
        .stage = collector_stage, .progress = collector_progress, .warning = collector_warning, .item = collector_item};
    g_mutex_init(&collector->mutex);
    collector->warnings = g_ptr_array_new_with_free_func(g_free);
    collector->items = g_ptr_array_new_with_free_func(g_free);
    return collector;
}

static inline void collector_free(Collector *collector)
{
    if (collector == NULL)
        return;
    g_ptr_array_unref(collector->warnings);
    g_ptr_array_unref(collector->items);
    g_mutex_clear(&collector->mutex);
    g_free(collector);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Collector, collector_free)

/* Number of warnings that contain `text`. */
static inline guint collector_warned(const Collector *collector, const char *text)
{
    guint count = 0;
    for (guint i = 0; i < collector->warnings->len; i++)
        count += strstr(g_ptr_array_index(collector->warnings, i), text) != NULL ? 1 : 0;
    return count;
}
