/*
 * What the rsync program prints, as any bytes, which may come from another host: cut into lines, each read as standard
 * output and as standard error. What must hold: an item has a name, an action and a kind; a message has a code and a
 * text; numbers of files left stay below the total; a name that is printed with rsync's escapes comes back.
 */
#include "engine/mirror/rsync_exit.h"
#include "engine/mirror/rsync_output.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_line(const RsyncLine *line)
{
    switch (line->kind) {
    case RSYNC_LINE_ITEM:
        g_assert_true(line->item.path == line->path && line->path[0] != '\0');
        g_assert_true(line->item.action && line->item.kind);
        g_assert_true(line->created + line->deleted + line->metadata_only <= 1);
        break;
    case RSYNC_LINE_PROGRESS:
        g_assert_true(line->files_total == 0 || line->files_left <= line->files_total);
        break;
    case RSYNC_LINE_MESSAGE:
        g_assert_true(line->code && line->message);
        break;
    case RSYNC_LINE_END:
        g_assert_true(line->message != NULL);
        break;
    case RSYNC_LINE_STAT:
        g_assert_true(line->stat <= RSYNC_STAT_LITERAL_BYTES);
        break;
    case RSYNC_LINE_NOTHING:
        g_assert_true(!line->path && !line->message);
        break;
    }
}

/* As rsync prints a name with LC_ALL=C. */
static char *print_name(const char *name)
{
    GString *printed = g_string_new(NULL);
    for (const char *at = name; *at; at++) {
        gboolean like_escape =
            at[0] == '\\' && at[1] == '#' && g_ascii_isdigit(at[2]) && g_ascii_isdigit(at[3]) && g_ascii_isdigit(at[4]);
        if (g_ascii_isprint(*at) && !like_escape)
            g_string_append_c(printed, *at);
        else
            g_string_append_printf(printed, "\\#%03o", (guint)(guint8)*at);
    }
    return g_string_free(printed, FALSE);
}

static void check_name(const char *name)
{
    g_autofree char *printed = print_name(name);
    g_autofree char *again = rsync_output_name(printed, strlen(printed));
    g_assert_cmpstr(name, ==, again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    g_auto(GStrv) lines = g_strsplit_set(text, "\r\n", 256);
    RsyncTail *tail = rsync_tail_new();
    for (char **at = lines; *at; at++) {
        g_auto(RsyncLine) out = {0};
        g_auto(RsyncLine) err = {0};
        guint major = 0;
        guint minor = 0;
        guint patch = 0;
        rsync_output_read(*at, &out);
        rsync_output_read_error(*at, &err);
        check_line(&out);
        check_line(&err);
        check_name(*at);
        (void)rsync_output_version(*at, &major, &minor, &patch);
        rsync_tail_add(tail, *at);
    }
    g_autoptr(GError) error = NULL;
    gboolean partial = FALSE;
    if (!rsync_exit_check(12 << 8, tail, "host:path", &partial, &error))
        g_assert_true(error != NULL && strlen(error->message) < 8192);
    rsync_tail_free(tail);
    return 0;
}
