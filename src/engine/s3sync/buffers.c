#include "engine/s3sync/buffers.h"

#define SMALL_KEPT 64

struct Buffers {
    GMutex lock;
    GCond given;
    guint8 *small[SMALL_KEPT], *large[BUFFERS_LARGE_COUNT];
    guint small_kept, large_kept, large_used;
};

Buffers *buffers_new(void)
{
    Buffers *buffers = g_new0(Buffers, 1);
    g_mutex_init(&buffers->lock);
    g_cond_init(&buffers->given);
    return buffers;
}

static guint8 *take_small(Buffers *buffers)
{
    guint8 *buffer = NULL;
    g_mutex_lock(&buffers->lock);
    if (buffers->small_kept > 0)
        buffer = buffers->small[--buffers->small_kept];
    g_mutex_unlock(&buffers->lock);
    return buffer != NULL ? buffer : g_malloc(BUFFERS_SMALL_BYTES);
}

guint8 *buffers_take(Buffers *buffers, gsize size)
{
    g_assert(size <= BUFFERS_LARGE_BYTES);
    if (size <= BUFFERS_SMALL_BYTES)
        return take_small(buffers);
    guint8 *buffer = NULL;
    g_mutex_lock(&buffers->lock);
    while (buffers->large_used == BUFFERS_LARGE_COUNT)
        g_cond_wait(&buffers->given, &buffers->lock);
    buffers->large_used++;
    if (buffers->large_kept > 0)
        buffer = buffers->large[--buffers->large_kept];
    g_mutex_unlock(&buffers->lock);
    return buffer != NULL ? buffer : g_malloc(BUFFERS_LARGE_BYTES);
}

void buffers_give(Buffers *buffers, guint8 *buffer, gsize size)
{
    if (buffer == NULL)
        return;
    g_mutex_lock(&buffers->lock);
    if (size > BUFFERS_SMALL_BYTES) {
        buffers->large[buffers->large_kept++] = buffer;
        buffers->large_used--;
        g_cond_signal(&buffers->given);
        buffer = NULL;
    } else if (buffers->small_kept < SMALL_KEPT) {
        buffers->small[buffers->small_kept++] = buffer;
        buffer = NULL;
    }
    g_mutex_unlock(&buffers->lock);
    g_free(buffer);
}

void buffers_free(Buffers *buffers)
{
    if (buffers == NULL)
        return;
    for (guint i = 0; i < buffers->small_kept; i++)
        g_free(buffers->small[i]);
    for (guint i = 0; i < buffers->large_kept; i++)
        g_free(buffers->large[i]);
    g_cond_clear(&buffers->given);
    g_mutex_clear(&buffers->lock);
    g_free(buffers);
}
