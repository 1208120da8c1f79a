/* Decides what the lines of standard input ask, one verdict of 0 and 1 a point:
 * ZONE NOW COUNT DAYS LAST HOURLY DAILY WEEKLY MONTHLY YEARLY SPAN|- [TIME:GOOD]... */
#include "engine/retention/rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static guint number_of(const char *text)
{
    return strcmp(text, "-1") == 0 ? RETENTION_ALL : (guint)strtoul(text, NULL, 10);
}

static gboolean answer(char *line)
{
    g_auto(GStrv) words = g_strsplit(g_strchomp(line), " ", -1);
    guint count = g_strv_length(words);
    if (count < 11)
        return FALSE;
    RetentionRules rules = {.count = number_of(words[2]),
                            .days = number_of(words[3]),
                            .last = number_of(words[4]),
                            .hourly = number_of(words[5]),
                            .daily = number_of(words[6]),
                            .weekly = number_of(words[7]),
                            .monthly = number_of(words[8]),
                            .yearly = number_of(words[9])};
    g_autoptr(GTimeZone) zone = g_time_zone_new_identifier(words[0]);
    if (!zone || (strcmp(words[10], "-") != 0 && !retention_parse_span(words[10], &rules.within, NULL)))
        return FALSE;
    g_autoptr(GArray) points = g_array_new(FALSE, TRUE, sizeof(RetentionPoint));
    for (guint i = 11; i < count; i++) {
        char *rest = NULL;
        RetentionPoint point = {.time = strtoll(words[i], &rest, 10)};
        point.good = strcmp(rest, ":1") == 0;
        g_array_append_val(points, point);
    }
    g_autoptr(GArray) verdicts = retention_decide((const RetentionPoint *)(gpointer)points->data, points->len, &rules,
                                                  strtoll(words[1], NULL, 10), zone);
    for (guint i = 0; i < verdicts->len; i++)
        putchar(g_array_index(verdicts, RetentionVerdict, i).keep ? '1' : '0');
    return putchar('\n') != EOF;
}

int main(void)
{
    static char line[1 << 20];
    while (fgets(line, sizeof line, stdin))
        if (!answer(line)) {
            fputs("a line says nothing\n", stderr);
            return 1;
        }
    return 0;
}
