#include "cli/passphrase.h"

#include "base/error.h"
#include "base/human.h"
#include "crypto/key.h"
#include "crypto/secret.h"
#include "fs/dir.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

void passphrase_free(char *passphrase)
{
    if (passphrase)
        secret_wipe(passphrase, strlen(passphrase));
    g_free(passphrase);
}

/* The bytes before the first line end, checked. */
static char *first_line(const char *bytes, gsize length, const char *what, GError **error)
{
    const char *newline = memchr(bytes, '\n', length);
    gsize line = newline ? (gsize)(newline - bytes) : length;
    if (line > 0 && bytes[line - 1] == '\r')
        line--;
    if (line == 0)
        return error_set(error, BACKAPP_ERROR_INVALID, "%s is empty", what), NULL;
    if (line > KEY_PASSPHRASE_MAX)
        return error_set(error, BACKAPP_ERROR_INVALID, "%s has more than %d bytes", what, KEY_PASSPHRASE_MAX), NULL;
    if (memchr(bytes, '\0', line))
        return error_set(error, BACKAPP_ERROR_INVALID, "%s holds a zero byte", what), NULL;
    return g_strndup(bytes, line);
}

/* Reads up to `size` bytes; -1 with errno. */
static gssize read_some(int fd, char *buffer, gsize size)
{
    gsize length = 0;
    while (length < size) {
        gssize got = read(fd, buffer + length, size - length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        length += (gsize)got;
    }
    return (gssize)length;
}

char *passphrase_read_file(const char *path, GError **error)
{
    g_autofree char *shown = human_name(path, -1);
    g_auto(AutoFd) fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return error_set_errno(error, errno, "cannot read the passphrase in %s", shown), NULL;
    if (S_ISREG(st.st_mode) && (st.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        fprintf(stderr, "note: others may read the passphrase in %s: 'chmod 600' keeps it to you\n", shown);
    char buffer[KEY_PASSPHRASE_MAX + 2] = "";
    gssize length = read_some(fd, buffer, sizeof buffer);
    g_autofree char *what = g_strdup_printf("the passphrase in %s", shown);
    char *passphrase = NULL;
    if (length < 0)
        (void)error_set_errno(error, errno, "cannot read %s", what);
    else
        passphrase = first_line(buffer, (gsize)length, what, error);
    secret_wipe(buffer, sizeof buffer);
    return passphrase;
}

static volatile sig_atomic_t interrupted;

static void note_signal(int number)
{
    interrupted = 1;
}

static const int stopping[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

/* Reads one line from the terminal with its echo off. */
static char *read_typed(int tty, const char *prompt, GError **error)
{
    struct termios before, quiet;
    if (tcgetattr(tty, &before) < 0)
        return error_set_errno(error, errno, "cannot ask for a passphrase at the terminal"), NULL;
    quiet = before;
    quiet.c_lflag &= ~(tcflag_t)(ECHO | ECHOE | ECHOK | ECHONL);
    if (tcsetattr(tty, TCSAFLUSH, &quiet) < 0)
        return error_set_errno(error, errno, "cannot turn the terminal's echo off"), NULL;
    dprintf(tty, "%s: ", prompt);
    char buffer[KEY_PASSPHRASE_MAX + 2];
    gsize length = 0;
    gssize got = 0;
    /* A terminal gives a line at a time; without SA_RESTART a signal ends the read. */
    for (gboolean ended = FALSE; length < sizeof buffer && !interrupted && !ended; length += (gsize)got) {
        got = read(tty, buffer + length, sizeof buffer - length);
        if (got <= 0)
            break;
        ended = memchr(buffer + length, '\n', (gsize)got) != NULL;
    }
    int read_errno = errno;
    (void)tcsetattr(tty, TCSAFLUSH, &before);
    dprintf(tty, "\n");
    char *passphrase = NULL;
    if (interrupted)
        (void)error_set(error, BACKAPP_ERROR_CANCELLED, "cancelled; no passphrase was given");
    else if (got < 0)
        (void)error_set_errno(error, read_errno, "cannot read from the terminal");
    else
        passphrase = first_line(buffer, length, "the passphrase", error);
    secret_wipe(buffer, sizeof buffer);
    return passphrase;
}

static char *ask(int tty, const PassphraseSource *source, GError **error)
{
    g_auto(Passphrase) first = read_typed(tty, source->prompt, error);
    if (!first || !source->twice)
        return g_steal_pointer(&first);
    g_autofree char *prompt = g_strdup_printf("%s again", source->prompt);
    g_auto(Passphrase) second = read_typed(tty, prompt, error);
    if (!second)
        return NULL;
    if (strcmp(first, second) != 0)
        return error_set(error, BACKAPP_ERROR_INVALID, "the two entries differ: nothing was done"), NULL;
    return g_steal_pointer(&first);
}

static char *ask_undisturbed(int tty, const PassphraseSource *source, GError **error)
{
    struct sigaction before[G_N_ELEMENTS(stopping)];
    struct sigaction action = {.sa_handler = note_signal};
    sigemptyset(&action.sa_mask);
    interrupted = 0;
    for (guint i = 0; i < G_N_ELEMENTS(stopping); i++)
        sigaction(stopping[i], &action, &before[i]);
    char *passphrase = ask(tty, source, error);
    for (guint i = 0; i < G_N_ELEMENTS(stopping); i++)
        sigaction(stopping[i], &before[i], NULL);
    return passphrase;
}

char *passphrase_take(const char *variable)
{
    const char *value = g_getenv(variable);
    char *passphrase = value && *value ? g_strdup(value) : NULL;
    g_unsetenv(variable);
    return passphrase;
}

char *passphrase_get(const PassphraseSource *source, GError **error)
{
    if (source->file)
        return passphrase_read_file(source->file, error);
    g_auto(Passphrase) given = source->given ? g_strdup(source->given) : passphrase_take(source->variable);
    if (given && strlen(given) > KEY_PASSPHRASE_MAX)
        return error_set(error, BACKAPP_ERROR_INVALID, "%s has more than %d bytes", source->variable,
                         KEY_PASSPHRASE_MAX),
               NULL;
    if (given)
        return g_steal_pointer(&given);
    g_auto(AutoFd) tty = source->prompt && isatty(STDIN_FILENO) ? open("/dev/tty", O_RDWR | O_CLOEXEC) : -1;
    if (tty >= 0)
        return ask_undisturbed(tty, source, error);
    (void)error_set(error, BACKAPP_ERROR_INVALID,
                    "the passphrase is missing: set %s, or name a file that holds it with --%s", source->variable,
                    source->option);
    return NULL;
}
