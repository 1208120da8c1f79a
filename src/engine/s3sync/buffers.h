/*
 * Memory for what is read and sent, bounded: many small buffers and a few large ones, kept for the next file. Taking a
 * large one waits while all are in use, so nobody may hold one and take another. Any thread.
 */
#pragma once

#include <glib.h>

#define BUFFERS_SMALL_BYTES ((gsize)256 * 1024)
/* A part of 8 MiB, and what encryption adds to it. */
#define BUFFERS_LARGE_BYTES ((gsize)9 * 1024 * 1024)
#define BUFFERS_LARGE_COUNT 8

typedef struct Buffers Buffers;

Buffers *buffers_new(void);
/* A buffer of at least `size` bytes (at most BUFFERS_LARGE_BYTES). Given back with the same size. */
guint8 *buffers_take(Buffers *buffers, gsize size);
void buffers_give(Buffers *buffers, guint8 *buffer, gsize size);
/* Frees; all have to be back. NULL is a no-op. */
void buffers_free(Buffers *buffers);
