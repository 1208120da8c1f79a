#include "cli/terminal.h"

#include "base/human.h"

#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define REDRAW_US (G_USEC_PER_SEC / 10)
#define WORDS_US  (10 * G_USEC_PER_SEC)

struct Terminal {
    FILE *out, *err;
    gboolean live;
    gboolean drawn;    /* a progress line stands on the screen */
    gint64 next_shown; /* monotonic time from which progress may be shown again */
};

Terminal *terminal_new(FILE *out, FILE *err, gboolean live)
{
    Terminal *terminal = g_new0(Terminal, 1);
    terminal->out = out;
    terminal->err = err;
    terminal->live = live;
    /* Short runs end without a line about their middle. */
    terminal->next_shown = g_get_monotonic_time() + (live ? 0 : WORDS_US);
    return terminal;
}

gboolean terminal_is_live(FILE *out)
{
    const char *term = g_getenv("TERM");
    return isatty(fileno(out)) && term && *term && strcmp(term, "dumb") != 0;
}

static void write_text(FILE *stream, const char *text)
{
    if (ferror(stream))
        return;
    if (fputs(text, stream) != EOF)
        (void)fflush(stream);
}

static G_GNUC_PRINTF(3, 0) void write_line(Terminal *terminal, FILE *stream, const char *format, va_list values)
{
    g_autofree char *text = g_strdup_vprintf(format, values);
    g_autofree char *line = g_strconcat(text, "\n", NULL);
    terminal_clear(terminal);
    write_text(stream, line);
}

void terminal_line(Terminal *terminal, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    write_line(terminal, terminal->out, format, values);
    va_end(values);
}

void terminal_error(Terminal *terminal, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    write_line(terminal, terminal->err, format, values);
    va_end(values);
}

void terminal_raw(Terminal *terminal, const char *text)
{
    terminal_clear(terminal);
    write_text(terminal->out, text);
}

void terminal_clear(Terminal *terminal)
{
    if (!terminal->drawn)
        return;
    write_text(terminal->out, "\r\033[K");
    terminal->drawn = FALSE;
}

static guint screen_columns(FILE *out)
{
    struct winsize size = {0};
    if (ioctl(fileno(out), TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
        return 80;
    return size.ws_col;
}

void terminal_progress(Terminal *terminal, const char *stage, const Event *progress)
{
    gint64 now = g_get_monotonic_time();
    if (now < terminal->next_shown)
        return;
    terminal->next_shown = now + (terminal->live ? REDRAW_US : WORDS_US);
    if (!terminal->live) {
        g_autofree char *words = terminal_format_words(stage, progress);
        terminal_line(terminal, "%s", words);
        return;
    }
    /* The last column stays free: a character there makes some terminals go to the next line. */
    g_autofree char *bar = terminal_format_bar(stage, progress, screen_columns(terminal->out) - 1);
    g_autofree char *text = g_strconcat("\r", bar, "\033[K", NULL);
    write_text(terminal->out, text);
    terminal->drawn = TRUE;
}

void terminal_free(Terminal *terminal)
{
    if (!terminal)
        return;
    terminal_clear(terminal);
    g_free(terminal);
}

static guint char_columns(gunichar c)
{
    if (g_unichar_iszerowidth(c))
        return 0;
    return g_unichar_iswide(c) ? 2 : 1;
}

guint terminal_columns(const char *text)
{
    guint columns = 0;
    for (; *text; text = g_utf8_next_char(text))
        columns += char_columns(g_utf8_get_char(text));
    return columns;
}

char *terminal_cut(const char *text, guint columns)
{
    static const char dots[] = "...";
    guint left = terminal_columns(text);
    if (left <= columns)
        return g_strdup(text);
    guint room = columns > strlen(dots) ? columns - (guint)strlen(dots) : 0;
    while (left > room) {
        left -= char_columns(g_utf8_get_char(text));
        text = g_utf8_next_char(text);
    }
    /* A mark that combines with the character before it would combine with the dots. */
    while (*text && g_unichar_iszerowidth(g_utf8_get_char(text)))
        text = g_utf8_next_char(text);
    return g_strdup_printf("%.*s%s", (int)MIN(columns, strlen(dots)), dots, text);
}

char *terminal_safe(const char *message)
{
    g_auto(GStrv) parts = g_strsplit(message, "\\", -1);
    for (char **part = parts; *part; part++) {
        char *safe = human_name(*part, -1);
        g_free(*part);
        *part = safe;
    }
    return g_strjoinv("\\", parts);
}

/* Between 0 and 100; what is not known or not a number is 0. */
static double percentage(const Event *progress)
{
    return progress->percentage > 0 ? MIN(progress->percentage, 100) : 0;
}

static gboolean knows_total(const Event *progress)
{
    return progress->files_total > 0 || progress->bytes_total > 0;
}

static char *format_meter(double percent, guint width)
{
    char *meter = g_strnfill(width, ' ');
    guint inner = width - 2;
    guint full = (guint)(percent * inner / 100);
    meter[0] = '[';
    memset(meter + 1, '=', full);
    if (full < inner)
        meter[1 + full] = '>';
    meter[width - 1] = ']';
    return meter;
}

static char *format_files(const Event *progress)
{
    g_autofree char *done = human_count(progress->files_done);
    g_autofree char *total = human_count(progress->files_total);
    return progress->files_total > 0 ? g_strdup_printf("%s/%s files", done, total) : g_strdup_printf("%s files", done);
}

static char *format_bytes(const Event *progress)
{
    g_autofree char *done = human_size(progress->bytes_done);
    g_autofree char *total = human_size(progress->bytes_total);
    return progress->bytes_total > 0 ? g_strdup_printf("%s/%s", done, total) : g_strdup(done);
}

static char *format_rate(const Event *progress)
{
    if (!(progress->rate >= 1))
        return NULL;
    g_autofree char *rate = human_size((guint64)MIN(progress->rate, 1e18));
    return g_strconcat(rate, "/s", NULL);
}

static char *format_eta(const Event *progress)
{
    if (!(progress->eta >= 0))
        return NULL;
    /* An estimate has no tenths. */
    return progress->eta < 10 ? g_strdup_printf("%.0f s", progress->eta) : human_duration(progress->eta);
}

/* The pieces of the bar in the order of the line. */
enum { PIECE_HEAD, PIECE_METER, PIECE_FILES, PIECE_BYTES, PIECE_RATE, PIECE_ETA, PIECE_COUNT };

static guint pieces_columns(char *const *pieces)
{
    guint columns = 0;
    for (guint i = 0; i < PIECE_COUNT; i++)
        if (pieces[i])
            columns += terminal_columns(pieces[i]) + (columns > 0 ? 2 : 0);
    return columns;
}

/* Drops what matters least until the rest fits. */
static void drop_pieces(char **pieces, guint columns)
{
    static const guint first_to_go[] = {PIECE_BYTES, PIECE_METER, PIECE_ETA, PIECE_RATE, PIECE_FILES};
    for (guint i = 0; i < G_N_ELEMENTS(first_to_go); i++) {
        /* The current file may push out bytes and meter, but none of the rest. */
        guint keep_free = i < 2 ? MIN(24, columns / 4) : 0;
        if (pieces_columns(pieces) + keep_free <= columns)
            return;
        g_clear_pointer(&pieces[first_to_go[i]], g_free);
    }
}

char *terminal_format_bar(const char *stage, const Event *progress, guint columns)
{
    char *pieces[PIECE_COUNT] = {NULL};
    gboolean total = knows_total(progress);
    g_autofree char *eta = format_eta(progress);
    pieces[PIECE_HEAD] = total ? g_strdup_printf("%3.0f%% %s", percentage(progress), stage) : g_strdup(stage);
    pieces[PIECE_METER] = total ? format_meter(percentage(progress), columns < 110 ? 12 : 22) : NULL;
    pieces[PIECE_FILES] = format_files(progress);
    pieces[PIECE_BYTES] = progress->bytes_done > 0 || progress->bytes_total > 0 ? format_bytes(progress) : NULL;
    pieces[PIECE_RATE] = format_rate(progress);
    pieces[PIECE_ETA] = eta ? g_strconcat("ETA ", eta, NULL) : NULL;
    drop_pieces(pieces, columns);

    GString *line = g_string_new(NULL);
    for (guint i = 0; i < PIECE_COUNT; i++) {
        if (pieces[i])
            g_string_append_printf(line, "%s%s", line->len > 0 ? "  " : "", pieces[i]);
        g_free(pieces[i]);
    }
    guint used = terminal_columns(line->str);
    if (progress->path && *progress->path && used + 2 + 8 <= columns) {
        g_autofree char *name = human_name(progress->path, -1);
        g_autofree char *cut = terminal_cut(name, columns - used - 2);
        g_string_append_printf(line, "  %s", cut);
    }
    g_autofree char *whole = g_string_free(line, FALSE);
    return terminal_cut(whole, columns);
}

char *terminal_format_words(const char *stage, const Event *progress)
{
    GString *line = g_string_new(stage);
    if (knows_total(progress))
        g_string_append_printf(line, ": %.0f%%", percentage(progress));
    g_autofree char *files = format_files(progress);
    g_string_append_printf(line, "%s %s", knows_total(progress) ? "," : ":", files);
    if (progress->bytes_done > 0 || progress->bytes_total > 0) {
        g_autofree char *bytes = format_bytes(progress);
        g_string_append_printf(line, ", %s", bytes);
    }
    g_autofree char *rate = format_rate(progress);
    if (rate)
        g_string_append_printf(line, ", %s", rate);
    g_autofree char *eta = format_eta(progress);
    if (eta)
        g_string_append_printf(line, ", about %s left", eta);
    return g_string_free(line, FALSE);
}
