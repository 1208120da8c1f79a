/*
 * The file in which the parts of an upload to a directory lie at their places, so that a complete upload is renamed and
 * not put together: part N at (N - 1) times the size of the first part that came (only the last one may be shorter; what
 * does not fit is a file of its own). A part is there when a file NUMBER-ETAG@LENGTH is, which is empty and made after the
 * bytes are durable; a slot whose part is there is not written again.
 *
 * Threads and processes: whoever writes into a slot holds a lock on its range of the file, whoever renames the file one on
 * all of it. Locks end with the descriptor.
 */
#pragma once

#include "store/local_store.h"

#define LOCAL_ETAG_MAX  65
#define LOCAL_PART_NAME 96

/* What the name of a part says. */
typedef struct {
    guint number;
    gboolean placed; /* in a slot; else a file of its own has the bytes */
    guint64 size;    /* of one in a slot */
    char etag[LOCAL_ETAG_MAX];
} LocalPart;

/* FALSE if the name is not one of a part. */
gboolean local_part_parse(const char *name, LocalPart *part);

typedef struct {
    int upload_fd, fd; /* fd -1: there is no such file, or it cannot be used */
    guint64 size;      /* of a slot */
    guint64 offset;    /* of the slot that was taken */
    char name[32];
} LocalSlots;

/* Closes the file; what was locked is free. */
void local_slots_clear(LocalSlots *slots);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(LocalSlots, local_slots_clear)

/* Opens the file of an upload, if it has one. FALSE only on errors. */
gboolean local_slots_open(int upload_fd, LocalSlots *slots, GError **error);

/* Takes the slot of a part of this length to write to; slots->fd is -1 if it has to be a file of its own. FALSE only on
 * errors. */
gboolean local_slots_take(LocalStore *self, int upload_fd, guint number, guint64 length, LocalSlots *slots,
                          GError **error);

/* Makes what was written into the slot the part, durably. NOT_FOUND if the upload was ended meanwhile. */
gboolean local_slots_commit(LocalStore *self, LocalSlots *slots, guint number, guint64 length, const char *etag,
                            GError **error);

/* Takes the whole file if nobody writes into it and it has this size. */
gboolean local_slots_take_all(LocalSlots *slots, guint64 size);
