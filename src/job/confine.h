/*
 * Confinement of this process to what its job needs, by Landlock: from confine_enter on, opening a file or changing a
 * directory anywhere else is denied by the kernel, for the calling thread and for the threads and programs it starts
 * later. It cannot be undone. To be entered before any other thread starts. Descriptors that are open stay usable.
 */
#pragma once

#include <glib.h>

typedef enum {
    CONFINE_READ = 1,       /* read files and list directories */
    CONFINE_WRITE = 2,      /* everything but executing: create, write, rename and link across directories, remove */
    CONFINE_SCRATCH = 4,    /* make, read, write and remove plain files, but no other things */
    CONFINE_EXECUTE = 8,    /* run programs; add CONFINE_READ, which the loader needs */
    CONFINE_READWRITE = 16, /* read and write what is there (a device), create nothing */
} ConfineAccess;

typedef struct Confine Confine;

/* The newest Landlock version that this kernel and this module both know; 0 if there is none or it is off. */
int confine_abi(void);

/* An empty list of rules: nothing is allowed. */
Confine *confine_new(void);

/* Allows this access (of ConfineAccess, ORed) to the path and all below it. A symbolic link is followed now. FALSE if
 * there is nothing to be found at the path: then there is nothing to allow. */
gboolean confine_allow(Confine *confine, const char *path, guint access);

/* Enters. *left_out (owned by the caller) is NULL if the process is confined now; otherwise it says why this kernel
 * cannot confine it, which is no error. FALSE with INTERNAL if the kernel could and failed. */
gboolean confine_enter(Confine *confine, char **left_out, GError **error);

/* Frees the rules; NULL is a no-op. The confinement stays. */
void confine_free(Confine *confine);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Confine, confine_free)
