/*
 * Passphrases at the command line: from a file, from the environment (taken out of it, so that no child inherits it), or
 * typed at the terminal without echo; never an argument, which others could read. While one is typed the signals that end
 * the program are caught, so that the terminal is put back as it was. From the main thread, one at a time.
 */
#pragma once

#include "cli/command.h"

/* Where a passphrase may come from. */
typedef struct {
    const char *file;     /* value of an option; NULL: not given */
    const char *option;   /* its name, for messages, without the dashes */
    const char *variable; /* of the environment */
    const char *given;    /* what passphrase_take found there before; NULL: it is still to be looked for */
    const char *prompt;   /* what is asked at the terminal ("Passphrase"); NULL: nothing is asked */
    gboolean twice;       /* asked again, since nobody sees what was typed */
} PassphraseSource;

/* The passphrase from the first of file, environment, terminal that is there; wiped and freed by passphrase_free. Says on
 * standard error if others can read the file. NULL with INVALID if it is nowhere (the message says where it could be),
 * empty, too long, or if both entries differ; CANCELLED; or what reading the file says. */
char *passphrase_get(const PassphraseSource *source, GError **error);

/* The variable's value, or NULL if it has none; in any case it is gone from the environment then. */
char *passphrase_take(const char *variable);

/* The first line of a file as above. */
char *passphrase_read_file(const char *path, GError **error);

/* Wipes and frees; NULL is a no-op. */
void passphrase_free(char *passphrase);

typedef char *Passphrase;
G_DEFINE_AUTO_CLEANUP_FREE_FUNC(Passphrase, passphrase_free, NULL)
