#include "engine/mirror/rsync_output.h"

#include <string.h>

#define FLAGS_MIN 11 /* YXcstpoguax */
#define FLAGS_MAX 32
#define NEW_MARK  '+'

void rsync_line_clear(RsyncLine *line)
{
    g_clear_pointer(&line->path, g_free);
    g_clear_pointer(&line->message, g_free);
}

/* A decimal number, with or without commas between its digits; *at moves behind it. FALSE if there is none. */
static gboolean read_number(const char **at, guint64 *value)
{
    const char *start = *at;
    guint64 sum = 0;
    for (; g_ascii_isdigit(**at) || (**at == ',' && *at > start && g_ascii_isdigit((*at)[1])); (*at)++) {
        if (**at == ',')
            continue;
        guint digit = (guint)(**at - '0');
        sum = sum > (G_MAXUINT64 - digit) / 10 ? G_MAXUINT64 : sum * 10 + digit;
    }
    *value = sum;
    return *at > start;
}

static gboolean is_octal(char c)
{
    return c >= '0' && c <= '7';
}

char *rsync_output_name(const char *text, gsize length)
{
    g_autoptr(GString) name = g_string_sized_new(length);
    for (gsize i = 0; i < length; i++) {
        gboolean escape = text[i] == '\\' && length - i >= 5 && text[i + 1] == '#' && text[i + 2] <= '3' &&
                          is_octal(text[i + 2]) && is_octal(text[i + 3]) && is_octal(text[i + 4]);
        guint byte = 0;
        if (escape)
            byte = (guint)((text[i + 2] - '0') * 64 + (text[i + 3] - '0') * 8 + (text[i + 4] - '0'));
        /* No name has a zero byte: then it is no escape of rsync's. */
        if (byte == 0) {
            g_string_append_c(name, text[i]);
            continue;
        }
        g_string_append_c(name, (char)byte);
        i += 4;
    }
    return g_string_free(g_steal_pointer(&name), FALSE);
}

static const char *item_kind(char letter)
{
    switch (letter) {
    case 'd':
        return "directory";
    case 'L':
        return "symlink";
    case 'D':
        return "device";
    case 'S':
        return "fifo"; /* or a socket: rsync has one letter for both */
    default:
        return "file";
    }
}

static const char *item_action(const RsyncLine *line, char letter)
{
    if (line->deleted)
        return "delete";
    if (letter == 'h')
        return "link";
    if (line->created)
        return "create";
    if (line->metadata_only)
        return "metadata";
    return letter == 'c' ? "replace" : "update";
}

/* "@" and then `%i %l %n`: flags of rsync's itemized list, size, name. */
static gboolean read_item(const char *text, RsyncLine *out)
{
    const char *flags = text;
    gsize length = strcspn(text, " ");
    if (length > FLAGS_MAX)
        return FALSE;
    out->deleted = strncmp(flags, "*deleting", length) == 0 && length == strlen("*deleting");
    if (!out->deleted && (length < FLAGS_MIN || !strchr("<>ch.", *flags)))
        return FALSE;
    const char *at = text + length;
    while (*at == ' ') /* the deletion's flags are filled up in some versions */
        at++;
    guint64 size = 0;
    if (!read_number(&at, &size) || *at != ' ' || at[1] == '\0')
        return FALSE;
    const char *name = at + 1;
    gsize name_length = strlen(name);
    out->is_directory = out->deleted ? name[name_length - 1] == '/' : flags[1] == 'd';
    while (name_length > 1 && name[name_length - 1] == '/')
        name_length--;
    out->created = !out->deleted && flags[2] == NEW_MARK;
    out->metadata_only = !out->deleted && !out->created && (*flags == '.' || (out->is_directory && *flags == 'c'));
    gboolean content = *flags == '<' || *flags == '>';
    out->same_size_and_time = content && flags[3] == '.' && flags[4] == '.';
    out->path = rsync_output_name(name, name_length);
    out->item.kind = out->is_directory ? "directory" : item_kind(out->deleted ? 'f' : flags[1]);
    out->item.action = item_action(out, *flags);
    out->item.path = out->path;
    out->item.bytes = content ? size : 0;
    out->item.files = out->deleted ? 1 : 0;
    out->kind = RSYNC_LINE_ITEM;
    return TRUE;
}

/* "  1,234,567  45%  12.34MB/s    0:00:07 (xfr#12, to-chk=3/10)", with ir-chk while the list still grows. */
static gboolean read_progress(const char *line, RsyncLine *out)
{
    const char *at = line + strspn(line, " ");
    guint64 percent = 0;
    if (!read_number(&at, &out->bytes) || *at != ' ')
        return FALSE;
    at += strspn(at, " ");
    if (!read_number(&at, &percent) || *at != '%')
        return FALSE;
    out->kind = RSYNC_LINE_PROGRESS;
    const char *check = strstr(at, "-chk=");
    if (!check)
        return TRUE;
    gboolean whole = check - at >= 2 && strncmp(check - 2, "to", 2) == 0;
    guint64 left = 0;
    guint64 total = 0;
    at = check + strlen("-chk=");
    if (!read_number(&at, &left) || *at++ != '/' || !read_number(&at, &total) || left > total)
        return TRUE;
    out->files_left = left;
    out->files_total = whole ? total : 0;
    return TRUE;
}

static gboolean read_stat(const char *line, RsyncLine *out)
{
    static const struct {
        const char *title;
        RsyncStat stat;
    } titles[] = {{"Number of files: ", RSYNC_STAT_FILES},
                  {"Number of regular files transferred: ", RSYNC_STAT_TRANSFERRED_FILES},
                  {"Total file size: ", RSYNC_STAT_TOTAL_BYTES},
                  {"Total transferred file size: ", RSYNC_STAT_TRANSFERRED_BYTES},
                  {"Literal data: ", RSYNC_STAT_LITERAL_BYTES}};
    for (guint i = 0; i < G_N_ELEMENTS(titles); i++) {
        if (!g_str_has_prefix(line, titles[i].title))
            continue;
        const char *at = line + strlen(titles[i].title);
        if (!read_number(&at, &out->value))
            return FALSE;
        out->stat = titles[i].stat;
        out->kind = RSYNC_LINE_STAT;
        const char *directories = strstr(at, "dir: ");
        if (directories) {
            directories += strlen("dir: ");
            (void)read_number(&directories, &out->directories);
        }
        return TRUE;
    }
    return FALSE;
}

/* The rest of the statistics, and what rsync says when all goes well. */
static gboolean is_chatter(const char *line)
{
    static const char *const starts[] = {
        "Number of created files: ",
        "Number of deleted files: ",
        "Matched data: ",
        "File list size: ",
        "File list generation time",
        "File list transfer time",
        "Total bytes sent: ",
        "Total bytes received: ",
        "sent ",
        "total size is ",
        "sending incremental ",
        "building file list",
        "created directory ",
        "delta-transmission ",
        "created 1 directory ",
    };
    for (guint i = 0; i < G_N_ELEMENTS(starts); i++)
        if (g_str_has_prefix(line, starts[i]))
            return TRUE;
    return line[strspn(line, " \t")] == '\0';
}

static gboolean has_any(const char *line, const char *const *parts)
{
    for (; *parts; parts++)
        if (strstr(line, *parts))
            return TRUE;
    return FALSE;
}

static const char *message_code(const char *line, gboolean has_path)
{
    static const char *const source[] = {"send_files failed to open", "opendir ", "readlink_stat(",
                                         "read errors mapping",       "readlink", NULL};
    static const char *const metadata[] = {"xattr",  "_acl",   "acl(",           "chown ",
                                           "chgrp ", "chmod ", "failed to set ", NULL};
    static const char *const other_side[] = {"[receiver]", "[generator]", "[Receiver]", NULL};
    static const char *const skipped[] = {"skipping ", "cannot delete non-empty directory", "could not make way", NULL};
    if (strstr(line, "has vanished:"))
        return "vanished";
    if (has_any(line, metadata))
        return "metadata";
    if (strstr(line, "failed verification"))
        return "changed";
    if (has_any(line, source) && !has_any(line, other_side))
        return "unreadable";
    return has_any(line, skipped) || (has_path && g_str_has_prefix(line, "rsync: ")) ? "skipped" : "note";
}

/* The name between the first and the last quotation mark that can be its end: names may hold quotation marks. */
static char *message_path(const char *line)
{
    const char *start = strchr(line, '"');
    if (!start)
        return NULL;
    start++;
    /* Of functions with two arguments only the first is the name. */
    const char *end = strstr(start, "\",\"");
    if (!end)
        end = strrchr(start, '"');
    return end && end > start ? rsync_output_name(start, (gsize)(end - start)) : NULL;
}

static void read_message(const char *line, RsyncLine *out)
{
    out->kind = RSYNC_LINE_MESSAGE;
    out->path = message_path(line);
    out->code = message_code(line, out->path != NULL);
    out->message = g_strdup(g_str_has_prefix(line, "rsync: ") ? line + strlen("rsync: ") : line);
}

/* "NAME is over max-size", of --info=skip. */
static gboolean read_too_large(const char *line, RsyncLine *out)
{
    static const char end[] = " is over max-size";
    gsize length = strlen(line);
    if (!g_str_has_suffix(line, end) || length == strlen(end))
        return FALSE;
    out->kind = RSYNC_LINE_MESSAGE;
    out->code = "skipped";
    out->path = rsync_output_name(line, length - strlen(end));
    out->message = g_strdup("it is larger than --exclude-larger-than allows");
    return TRUE;
}

void rsync_output_read(const char *line, RsyncLine *out)
{
    *out = (RsyncLine){.kind = RSYNC_LINE_NOTHING};
    if (*line == '@' && read_item(line + 1, out))
        return;
    if (read_too_large(line, out) || read_progress(line, out) || read_stat(line, out) || is_chatter(line))
        return;
    read_message(line, out);
}

void rsync_output_read_error(const char *line, RsyncLine *out)
{
    *out = (RsyncLine){.kind = RSYNC_LINE_NOTHING};
    if (line[strspn(line, " \t")] == '\0')
        return;
    gboolean ends = g_str_has_prefix(line, "rsync error: ");
    if (ends || g_str_has_prefix(line, "rsync warning: ")) {
        out->kind = RSYNC_LINE_END;
        out->message = g_strdup(strchr(line, ':') + 2);
        return;
    }
    read_message(line, out);
}

gboolean rsync_output_version(const char *line, guint *major, guint *minor, guint *patch)
{
    static const char start[] = "rsync  version ";
    if (!g_str_has_prefix(line, start))
        return FALSE;
    const char *at = line + strlen(start);
    guint *const parts[] = {major, minor, patch};
    for (guint i = 0; i < G_N_ELEMENTS(parts); i++) {
        guint64 value = 0;
        at += *at == 'v' ? 1 : 0;
        *parts[i] = 0;
        if (i == 2 && *at != '.') /* 3.1 has no third */
            return TRUE;
        at += i > 0 && *at == '.' ? 1 : 0;
        if (!read_number(&at, &value) || value > 10000)
            return i == 2;
        *parts[i] = (guint)value;
    }
    return TRUE;
}
