/*
 * What the rsync program is started with: which options of a run it cannot do, its argument vector, its environment,
 * and how it reads a destination. Never a shell's line. Pure but for looking at sources and the environment; any thread.
 */
#pragma once

#include "engine/mirror/mirror.h"

typedef enum {
    RSYNC_LOCAL,  /* a directory of this machine */
    RSYNC_SHELL,  /* host:path, through ssh */
    RSYNC_DAEMON, /* host::module/path or rsync://host/module/path */
} RsyncPlace;

/* How rsync reads a destination. */
RsyncPlace rsync_args_place(const char *destination);

/* INVALID, by the name of the option, for what this engine cannot do (keep versions, exclude-caches, ...), for ssh
 * options that do not apply or are not safe to hand on, and for a remote destination that rsync or the other side would
 * read otherwise than it is written (no host, wildcards, control characters). */
gboolean rsync_args_check(const MirrorOptions *options, GError **error);

typedef struct {
    const char *program;        /* path of rsync */
    guint version;              /* major * 10000 + minor * 100 + patch */
    const char *const *folders; /* as source_folders gives them */
    gboolean dry_run, delete_extraneous, checksum;
} RsyncPass;

/* The argument vector of one pass of a run whose options were checked; NULL-terminated, the caller frees with
 * g_strfreev. NULL with INVALID if a source of several is a symbolic link whose target has another name. */
char **rsync_args_build(const MirrorOptions *options, const RsyncPass *pass, GError **error);

/* The environment: the process's own without what would change rsync's arguments, with LC_ALL=C, and for a daemon with
 * the password. The caller frees with rsync_args_free_environment. */
char **rsync_args_environment(const MirrorOptions *options);

/* Wipes and frees. NULL is a no-op. */
void rsync_args_free_environment(char **environment);
