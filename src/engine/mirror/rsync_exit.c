#include "engine/mirror/rsync_exit.h"

#include <string.h>
#include <sys/wait.h>

#include "base/error.h"
#include "base/human.h"

#define TAIL_LINES 4
#define TAIL_BYTES 400

struct RsyncTail {
    char *lines[TAIL_LINES]; /* a ring */
    guint count;
    char *end;
};

RsyncTail *rsync_tail_new(void)
{
    return g_new0(RsyncTail, 1);
}

void rsync_tail_add(RsyncTail *tail, const char *message)
{
    char **place = &tail->lines[tail->count++ % TAIL_LINES];
    g_free(*place);
    *place = g_strndup(message, TAIL_BYTES);
}

void rsync_tail_end(RsyncTail *tail, const char *message)
{
    g_free(tail->end);
    tail->end = g_strndup(message, TAIL_BYTES);
}

void rsync_tail_free(RsyncTail *tail)
{
    if (!tail)
        return;
    for (guint i = 0; i < TAIL_LINES; i++)
        g_free(tail->lines[i]);
    g_free(tail->end);
    g_free(tail);
}

/* "line; line; line", oldest first. */
static char *tail_text(const RsyncTail *tail)
{
    g_autoptr(GString) text = g_string_new(NULL);
    guint first = tail->count > TAIL_LINES ? tail->count - TAIL_LINES : 0;
    for (guint i = first; i < tail->count; i++) {
        g_autofree char *safe = human_name(tail->lines[i % TAIL_LINES], -1);
        g_string_append_printf(text, "%s%s", text->len > 0 ? "; " : "", safe);
    }
    if (text->len == 0 && tail->end) {
        g_autofree char *safe = human_name(tail->end, -1);
        g_string_append(text, safe);
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

/* Where the code alone does not tell, what was said does. */
static const struct {
    const char *words;
    gboolean connecting; /* means this only where ssh ended: file errors have the same words */
    BackappError code;
    const char *advice;
} said[] = {
    {"No space left", FALSE, BACKAPP_ERROR_NO_SPACE, "make space, or exclude something"},
    {"Disk quota exceeded", FALSE, BACKAPP_ERROR_NO_SPACE, "make space, or exclude something"},
    {"Host key verification failed", TRUE, BACKAPP_ERROR_DENIED,
     "the host is not known, or not the one that is known: put its key into the known hosts"},
    {"Permission denied (", TRUE, BACKAPP_ERROR_DENIED,
     "the host did not accept the key: check user and identity file"},
    {"auth failed", FALSE, BACKAPP_ERROR_DENIED, "the daemon did not accept user and password (RSYNC_PASSWORD)"},
    {"Unknown module", FALSE, BACKAPP_ERROR_NOT_FOUND, "the daemon has no such module"},
    {"module is read only", FALSE, BACKAPP_ERROR_DENIED, "the daemon lets nobody write there"},
    {"rsync: command not found", TRUE, BACKAPP_ERROR_NOT_FOUND, "install rsync on the other host"},
    {"rsync: not found", TRUE, BACKAPP_ERROR_NOT_FOUND, "install rsync on the other host"},
    {"Could not resolve hostname", TRUE, BACKAPP_ERROR_NOT_FOUND, "check the name of the host"},
    {"Read-only file system", FALSE, BACKAPP_ERROR_DENIED, "the destination can only be read"},
};

static const struct {
    int exit_code;
    BackappError code;
    const char *advice;
} ends[] = {
    {1, BACKAPP_ERROR_INVALID, "this rsync does not take an argument"},
    {2, BACKAPP_ERROR_INVALID, "the two rsync programs do not understand each other: install a newer one"},
    {3, BACKAPP_ERROR_NOT_FOUND, "a source or the destination cannot be used"},
    {4, BACKAPP_ERROR_INVALID,
     "one of the rsync programs lacks a feature: try --no-acls, --no-xattrs or --no-hard-links"},
    {5, BACKAPP_ERROR_DENIED, "the daemon refused"},
    {10, BACKAPP_ERROR_TRANSIENT, "the host cannot be reached, or the connection broke"},
    {11, BACKAPP_ERROR_INTERNAL, "a file could not be read or written"},
    {12, BACKAPP_ERROR_TRANSIENT, "the connection broke, or the other side ended"},
    {14, BACKAPP_ERROR_NOT_FOUND, "a program could not be started: is ssh installed?"},
    {30, BACKAPP_ERROR_TRANSIENT, "the other side did not answer in time"},
    {35, BACKAPP_ERROR_TRANSIENT, "the daemon did not answer in time"},
    {127, BACKAPP_ERROR_NOT_FOUND, "install rsync on the other host"},
    {255, BACKAPP_ERROR_TRANSIENT, "ssh could not connect"},
};

static void explain(int exit_code, const char *text, BackappError *code, const char **advice)
{
    gboolean connecting = exit_code == 12 || exit_code == 127 || exit_code == 255;
    *code = BACKAPP_ERROR_INTERNAL;
    *advice = "it did not finish";
    for (guint i = 0; i < G_N_ELEMENTS(ends); i++) {
        if (ends[i].exit_code == exit_code) {
            *code = ends[i].code;
            *advice = ends[i].advice;
        }
    }
    for (guint i = 0; i < G_N_ELEMENTS(said); i++) {
        if (strstr(text, said[i].words) && (!said[i].connecting || connecting)) {
            *code = said[i].code;
            *advice = said[i].advice;
            return;
        }
    }
}

gboolean rsync_exit_check(int status, const RsyncTail *tail, const char *destination, gboolean *partial, GError **error)
{
    g_autofree char *shown = human_name(destination, -1);
    g_autofree char *text = tail_text(tail);
    const char *colon = *text ? ": " : "";
    if (WIFSIGNALED(status))
        return error_set(error, BACKAPP_ERROR_INTERNAL, "rsync to %s was ended by signal %d (%s)%s%s", shown,
                         WTERMSIG(status), g_strsignal(WTERMSIG(status)), colon, text);
    int exit_code = WEXITSTATUS(status);
    *partial = exit_code == 23;
    if (exit_code == 0 || exit_code == 23 || exit_code == 24)
        return TRUE;
    BackappError code;
    const char *advice;
    explain(exit_code, text, &code, &advice);
    return error_set(error, code, "rsync to %s failed (exit code %d): %s%s%s", shown, exit_code, advice, colon, text);
}
