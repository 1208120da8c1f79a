#include "engine/retention/rules.h"

#include "base/error.h"
#include "base/human.h"

#include <string.h>

/* No calendar of ours has more. */
#define SPAN_MAX 100000

static gboolean span_is_given(const RetentionSpan *span)
{
    return span->years > 0 || span->months > 0 || span->days > 0 || span->hours > 0;
}

/* One number with its unit at *at; its place in the order of units. -1 if it is none. */
static int take_unit(const char **at, guint *number)
{
    static const char units[] = "ymwdh";
    guint64 value = 0;
    const char *begin = *at;
    for (; g_ascii_isdigit(**at) && value <= SPAN_MAX; (*at)++)
        value = value * 10 + (guint64)(**at - '0');
    const char *unit = **at != '\0' ? strchr(units, **at) : NULL;
    if (*at == begin || value > SPAN_MAX || !unit)
        return -1;
    (*at)++;
    *number = (guint)value;
    return (int)(unit - units);
}

gboolean retention_parse_span(const char *text, RetentionSpan *span, GError **error)
{
    guint numbers[5] = {0};
    const char *at = text;
    int last = -1;
    gboolean good = *text != '\0';
    while (good && *at != '\0') {
        guint number = 0;
        int unit = take_unit(&at, &number);
        good = unit > last;
        if (good)
            numbers[unit] = number;
        last = unit;
    }
    *span = (RetentionSpan){numbers[0], numbers[1], numbers[2] * 7 + numbers[3], numbers[4]};
    if (good && span_is_given(span))
        return TRUE;
    g_autofree char *shown = human_name(text, (gssize)MIN(strlen(text), 64));
    return error_set(error, BACKAPP_ERROR_INVALID,
                     "'%s' is no span of time: write 30d, 12h, 2w or 1y6m (years, months, weeks, days, hours)", shown);
}

gboolean retention_parse_count(const char *text, const char *what, guint *count, GError **error)
{
    guint64 value = 0;
    if (strcmp(text, "unlimited") == 0) {
        *count = RETENTION_ALL;
        return TRUE;
    }
    if (!human_parse_number(text, 1, G_MAXINT32, what, &value, error))
        return FALSE;
    *count = (guint)value;
    return TRUE;
}

char *retention_print_span(const RetentionSpan *span)
{
    const struct {
        guint value;
        char unit;
    } parts[] = {{span->years, 'y'}, {span->months, 'm'}, {span->days, 'd'}, {span->hours, 'h'}};
    GString *out = g_string_new(NULL);
    for (guint i = 0; i < G_N_ELEMENTS(parts); i++)
        if (parts[i].value > 0)
            g_string_append_printf(out, "%u%c", parts[i].value, parts[i].unit);
    return g_string_free(out, FALSE);
}

gboolean retention_has_rules(const RetentionRules *rules)
{
    return rules->count > 0 || rules->days > 0 || rules->last > 0 || rules->hourly > 0 || rules->daily > 0 ||
           rules->weekly > 0 || rules->monthly > 0 || rules->yearly > 0 || span_is_given(&rules->within);
}

static void describe_count(GPtrArray *parts, guint count, const char *word)
{
    if (count == RETENTION_ALL)
        g_ptr_array_add(parts, g_strdup_printf("all %s", word));
    else if (count > 0)
        g_ptr_array_add(parts, g_strdup_printf("%u %s", count, word));
}

char *retention_describe(const RetentionRules *rules)
{
    if (!retention_has_rules(rules))
        return g_strdup("all points");
    g_autoptr(GPtrArray) parts = g_ptr_array_new_with_free_func(g_free);
    const struct {
        guint count;
        const char *word;
    } buckets[] = {{rules->hourly, "hourly"},
                   {rules->daily, "daily"},
                   {rules->weekly, "weekly"},
                   {rules->monthly, "monthly"},
                   {rules->yearly, "yearly"}};
    guint newest = MAX(rules->count, rules->last);
    if (newest == RETENTION_ALL)
        g_ptr_array_add(parts, g_strdup("all points"));
    else if (newest > 0)
        g_ptr_array_add(parts, g_strdup_printf("the newest %u", newest));
    for (guint i = 0; i < G_N_ELEMENTS(buckets); i++)
        describe_count(parts, buckets[i].count, buckets[i].word);
    if (rules->days > 0)
        g_ptr_array_add(parts, g_strdup_printf("what is not older than %u days", rules->days));
    if (span_is_given(&rules->within)) {
        g_autofree char *span = retention_print_span(&rules->within);
        g_ptr_array_add(parts, g_strdup_printf("what is within %s of the newest", span));
    }
    g_ptr_array_add(parts, NULL);
    return g_strjoinv(", ", (char **)parts->pdata);
}

/* Points of one bucket have one number. */
typedef gint64 (*BucketOf)(GDateTime *time);

static gint64 year_of(GDateTime *time)
{
    return g_date_time_get_year(time);
}

static gint64 month_of(GDateTime *time)
{
    return year_of(time) * 100 + g_date_time_get_month(time);
}

static gint64 day_of(GDateTime *time)
{
    return month_of(time) * 100 + g_date_time_get_day_of_month(time);
}

static gint64 hour_of(GDateTime *time)
{
    return day_of(time) * 100 + g_date_time_get_hour(time);
}

static gint64 week_of(GDateTime *time)
{
    return (gint64)g_date_time_get_week_numbering_year(time) * 100 + g_date_time_get_week_of_year(time);
}

typedef struct {
    const char *word;
    guint left;
    BucketOf of;
    gint64 previous; /* the bucket of the point that was kept last */
} Bucket;

/* Whether this rule keeps the next older point. */
static gboolean bucket_keeps(Bucket *bucket, GDateTime *time, gboolean oldest, gboolean *only_oldest)
{
    if (bucket->left == 0)
        return FALSE;
    gint64 value = bucket->of(time);
    *only_oldest = value == bucket->previous;
    if (*only_oldest && !oldest)
        return FALSE;
    bucket->previous = value;
    if (bucket->left != RETENTION_ALL)
        bucket->left--;
    return TRUE;
}

/* A point on its way to a verdict. */
typedef struct {
    RetentionPoint point;
    guint number; /* in the caller's order */
    GString *why;
} Candidate;

static void clear_candidate(gpointer data)
{
    Candidate *candidate = data;
    if (candidate->why)
        (void)g_string_free(candidate->why, TRUE);
}

static void G_GNUC_PRINTF(2, 3) keep(Candidate *candidate, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (candidate->why->len > 0)
        g_string_append(candidate->why, ", ");
    g_string_append_vprintf(candidate->why, format, arguments);
    va_end(arguments);
}

static int newest_first(gconstpointer a, gconstpointer b)
{
    const Candidate *left = a, *right = b;
    if (left->point.time != right->point.time)
        return left->point.time < right->point.time ? 1 : -1;
    return left->number < right->number ? -1 : left->number > right->number;
}

/* What counts for the rules, newest first: all but what is dated in the future. */
static GArray *sort_points(const RetentionPoint *points, guint count, gint64 now)
{
    GArray *candidates = g_array_new(FALSE, TRUE, sizeof(Candidate));
    g_array_set_clear_func(candidates, clear_candidate);
    for (guint i = 0; i < count; i++) {
        if (points[i].time > now)
            continue;
        Candidate candidate = {.point = points[i], .number = i, .why = g_string_new(NULL)};
        g_array_append_val(candidates, candidate);
    }
    g_array_sort(candidates, newest_first);
    return candidates;
}

/* The moment that lies this span before `time`; the beginning of time if no calendar has it. */
static gint64 before(gint64 time, const RetentionSpan *span, GTimeZone *zone)
{
    g_autoptr(GDateTime) utc = g_date_time_new_from_unix_utc(time);
    g_autoptr(GDateTime) when = utc ? g_date_time_to_timezone(utc, zone) : NULL;
    g_autoptr(GDateTime) day =
        when ? g_date_time_add_full(when, -(int)span->years, -(int)span->months, -(int)span->days, 0, 0, 0) : NULL;
    return day ? g_date_time_to_unix(day) - (gint64)span->hours * 3600 : G_MININT64;
}

static void apply_newest(GArray *candidates, const RetentionRules *rules)
{
    for (guint i = 0; i < candidates->len; i++) {
        Candidate *candidate = &g_array_index(candidates, Candidate, i);
        guint newest = MAX(rules->count, rules->last);
        if (newest == RETENTION_ALL)
            keep(candidate, "all points stay");
        else if (i < newest)
            keep(candidate, "one of the newest %u", newest);
    }
}

static void apply_ages(GArray *candidates, const RetentionRules *rules, gint64 now, GTimeZone *zone)
{
    if (candidates->len == 0)
        return;
    gint64 newest = g_array_index(candidates, Candidate, 0).point.time;
    RetentionSpan days = {.days = rules->days};
    gint64 days_edge = before(now, &days, zone), within_edge = before(newest, &rules->within, zone);
    g_autofree char *span = retention_print_span(&rules->within);
    for (guint i = 0; i < candidates->len; i++) {
        Candidate *candidate = &g_array_index(candidates, Candidate, i);
        if (rules->days > 0 && candidate->point.time >= days_edge)
            keep(candidate, "not older than %u days", rules->days);
        if (span_is_given(&rules->within) && candidate->point.time > within_edge)
            keep(candidate, "within %s", span);
    }
}

static void apply_buckets(GArray *candidates, const RetentionRules *rules, GTimeZone *zone)
{
    Bucket buckets[] = {{"hourly", rules->hourly, hour_of, -1},
                        {"daily", rules->daily, day_of, -1},
                        {"weekly", rules->weekly, week_of, -1},
                        {"monthly", rules->monthly, month_of, -1},
                        {"yearly", rules->yearly, year_of, -1}};
    for (guint i = 0; i < candidates->len; i++) {
        Candidate *candidate = &g_array_index(candidates, Candidate, i);
        g_autoptr(GDateTime) utc = g_date_time_new_from_unix_utc(candidate->point.time);
        g_autoptr(GDateTime) time = utc ? g_date_time_to_timezone(utc, zone) : NULL;
        /* What no calendar has is not ours to judge. */
        if (!time)
            keep(candidate, "its date is none");
        for (guint k = 0; time && k < G_N_ELEMENTS(buckets); k++) {
            gboolean only_oldest = FALSE;
            if (bucket_keeps(&buckets[k], time, i + 1 == candidates->len, &only_oldest))
                keep(candidate, only_oldest ? "the oldest (%s)" : "%s", buckets[k].word);
        }
    }
}

/* The last good one is nobody's to lose; if none is good, the newest is the best there is. */
static void keep_the_last_good(GArray *candidates)
{
    for (guint i = 0; i < candidates->len; i++) {
        Candidate *candidate = &g_array_index(candidates, Candidate, i);
        if (!candidate->point.good)
            continue;
        keep(candidate, "the newest complete one");
        return;
    }
    if (candidates->len > 0)
        keep(&g_array_index(candidates, Candidate, 0), "the newest, and none is complete");
}

static void clear_verdict(gpointer data)
{
    g_free(((RetentionVerdict *)data)->why);
}

GArray *retention_decide(const RetentionPoint *points, guint count, const RetentionRules *rules, gint64 now,
                         GTimeZone *zone)
{
    GArray *verdicts = g_array_sized_new(FALSE, TRUE, sizeof(RetentionVerdict), count);
    g_array_set_clear_func(verdicts, clear_verdict);
    g_array_set_size(verdicts, count);
    g_autoptr(GArray) candidates = sort_points(points, count, now);
    if (retention_has_rules(rules)) {
        apply_newest(candidates, rules);
        apply_ages(candidates, rules, now, zone);
        apply_buckets(candidates, rules, zone);
        keep_the_last_good(candidates);
    }
    for (guint i = 0; i < candidates->len; i++) {
        Candidate *candidate = &g_array_index(candidates, Candidate, i);
        RetentionVerdict *verdict = &g_array_index(verdicts, RetentionVerdict, candidate->number);
        verdict->keep = candidate->why->len > 0 || !retention_has_rules(rules);
        if (!retention_has_rules(rules))
            verdict->why = g_strdup("no rule is given");
        else
            verdict->why = verdict->keep ? g_strdup(candidate->why->str) : g_strdup("no rule keeps it");
    }
    for (guint i = 0; i < count; i++)
        if (points[i].time > now)
            g_array_index(verdicts, RetentionVerdict, i) =
                (RetentionVerdict){TRUE, g_strdup("its date is in the future: look at the clocks")};
    return verdicts;
}
