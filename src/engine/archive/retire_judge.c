#include "base/error.h"
#include "base/human.h"
#include "base/pool.h"
#include "engine/archive/index.h"
#include "engine/archive/retire_private.h"

#include <string.h>

/* An index costs two or three requests, and most of their time is waiting. */
#define READERS 8

RetireCandidate *retire_parent(const Retire *retire, const RetireCandidate *candidate)
{
    return candidate->parent ? g_hash_table_lookup(retire->by_base, candidate->parent) : NULL;
}

void retire_keep(RetireCandidate *candidate, char *why)
{
    g_autofree char *reason = why, *before = candidate->report->why;
    candidate->report->why =
        candidate->keep && before ? g_strconcat(before, ", ", reason, NULL) : g_steal_pointer(&reason);
    candidate->report->state = RETIRE_KEEP;
    candidate->keep = TRUE;
}

void retire_keep_parents(const Retire *retire, const RetireCandidate *candidate)
{
    RetireCandidate *parent = retire_parent(retire, candidate);
    /* Each step goes down by one, and what is kept already has its parents kept. */
    for (guint left = retire->candidates->len; parent && !parent->keep && left > 0; left--) {
        retire_keep(parent, g_strdup_printf("needed by %s", candidate->listed->base));
        candidate = parent;
        parent = retire_parent(retire, candidate);
    }
}

static void read_index(gpointer item, gpointer user_data)
{
    RetireCandidate *candidate = item;
    const Retire *retire = user_data;
    const RetireOptions *options = retire->options;
    g_autoptr(Index) index = index_open(&options->place, candidate->listed->base, options->cancel, &candidate->error);
    if (!index)
        return;
    const ArchivePoint *point = index_point(index);
    candidate->opened = TRUE;
    candidate->parent = g_strdup(point->parent);
    memcpy(candidate->parent_hash, point->parent_hash, HASH_BYTES);
    memcpy(candidate->hash, point->hash, HASH_BYTES);
    candidate->rebuilt_full = point->rebuilt && point->name.type == ARCHIVE_FULL;
    candidate->wanted_volumes = point->volumes->len;
    for (guint i = 0; i < point->volumes->len; i++)
        candidate->wanted_bytes += g_array_index(point->volumes, ArchiveVolume, i).size;
    candidate->report->partial = point->partial;
}

static gboolean read_indexes(Retire *retire, GError **error)
{
    g_autoptr(Pool) pool = pool_new("retire", READERS, READERS, read_index, retire, error);
    if (!pool)
        return FALSE;
    for (guint i = 0; i < retire->candidates->len; i++) {
        RetireCandidate *candidate = g_ptr_array_index(retire->candidates, i);
        if (candidate->listed->has_index)
            pool_push(pool, candidate);
    }
    pool_wait(pool);
    return cancel_check(retire->options->cancel, error);
}

/* A damaged index is a state that a person has to look at; anything else that hides one ends the run. */
static gboolean look_at_errors(Retire *retire, GError **error)
{
    RunSink *sink = retire->options->sink;
    for (guint i = 0; i < retire->candidates->len; i++) {
        RetireCandidate *candidate = g_ptr_array_index(retire->candidates, i);
        if (!candidate->error)
            continue;
        if (!error_is(candidate->error, BACKAPP_ERROR_CORRUPT)) {
            g_propagate_prefixed_error(
                error, g_steal_pointer(&candidate->error),
                "nothing was removed, because what %s builds on is not known: ", candidate->listed->base);
            return FALSE;
        }
        sink->warning(sink, "damaged", candidate->listed->base, candidate->error->message);
        retire->report->partial = TRUE;
    }
    return TRUE;
}

/* What can be said of one archive without those it builds on. */
static gboolean is_whole(const RetireCandidate *candidate)
{
    return candidate->opened && candidate->listed->volumes == candidate->wanted_volumes &&
           candidate->listed->stored_bytes == candidate->wanted_bytes;
}

/* Judges a candidate whose parent, if it has one, is judged. */
static void judge_sound(const Retire *retire, RetireCandidate *candidate)
{
    const RetireCandidate *parent = retire_parent(retire, candidate);
    candidate->judged = TRUE;
    candidate->depth = parent ? parent->depth + 1 : 0;
    candidate->sound = is_whole(candidate);
    if (candidate->sound && candidate->parent)
        candidate->sound = parent && parent->sound &&
                           (parent->rebuilt_full || memcmp(parent->hash, candidate->parent_hash, HASH_BYTES) == 0);
}

static void judge_chain(const Retire *retire, RetireCandidate *candidate)
{
    g_autoptr(GPtrArray) path = g_ptr_array_new();
    for (; candidate && !candidate->judged; candidate = retire_parent(retire, candidate)) {
        /* A row that leads back to itself ends here, and is not sound. */
        candidate->judged = TRUE;
        g_ptr_array_add(path, candidate);
    }
    for (guint i = path->len; i-- > 0;)
        judge_sound(retire, g_ptr_array_index(path, i));
}

/* Applies the rules to all points whose index can be read. */
static void apply_rules(Retire *retire)
{
    g_autoptr(GArray) points = g_array_new(FALSE, TRUE, sizeof(RetentionPoint));
    g_autoptr(GPtrArray) which = g_ptr_array_new();
    for (guint i = 0; i < retire->candidates->len; i++) {
        RetireCandidate *candidate = g_ptr_array_index(retire->candidates, i);
        judge_chain(retire, candidate);
        if (!candidate->opened)
            continue;
        RetentionPoint point = {.time = candidate->listed->name.time,
                                .good = candidate->sound && !candidate->report->partial};
        g_array_append_val(points, point);
        g_ptr_array_add(which, candidate);
    }
    g_autoptr(GArray) verdicts = retention_decide((const RetentionPoint *)(gpointer)points->data, points->len,
                                                  &retire->options->rules, retire->now, retire->zone);
    for (guint i = 0; i < which->len; i++) {
        RetireCandidate *candidate = g_ptr_array_index(which, i);
        RetentionVerdict *verdict = &g_array_index(verdicts, RetentionVerdict, i);
        candidate->keep = verdict->keep;
        candidate->report->why = g_steal_pointer(&verdict->why);
        candidate->report->state = verdict->keep ? RETIRE_KEEP : RETIRE_GO;
    }
}

/* Nobody knows what a damaged one needs, but it is not older than the last full one before it. */
static void keep_damaged(const Retire *retire, guint number)
{
    RetireCandidate *damaged = g_ptr_array_index(retire->candidates, number);
    retire_keep(damaged, g_strdup("its index is damaged: verify it, and reindex it"));
    if (damaged->listed->name.type == ARCHIVE_FULL)
        return;
    for (guint i = number + 1; i < retire->candidates->len; i++) {
        RetireCandidate *older = g_ptr_array_index(retire->candidates, i);
        if (!older->listed->has_index)
            continue;
        if (!older->keep)
            retire_keep(older, g_strdup_printf("may be needed by %s, whose index is damaged", damaged->listed->base));
        if (older->opened && older->listed->name.type == ARCHIVE_FULL)
            return;
    }
}

/* Volumes without an index. */
static void judge_unfinished(const Retire *retire, RetireCandidate *candidate)
{
    const gint64 edge = retire->now - RETIRE_UNFINISHED_DAYS * G_GINT64_CONSTANT(86400);
    RetirePoint *report = candidate->report;
    report->unfinished = TRUE;
    if (g_hash_table_contains(retire->begun, candidate->listed->base)) {
        report->state = RETIRE_GO;
        report->why = g_strdup("an earlier retention has begun to remove it");
        return;
    }
    gboolean old = candidate->listed->modified < edge;
    report->state = old && retire->options->unfinished ? RETIRE_GO : RETIRE_KEEP;
    candidate->keep = report->state == RETIRE_KEEP;
    if (!old)
        report->why = g_strdup_printf("unfinished or without an index, and not %d days old", RETIRE_UNFINISHED_DAYS);
    else if (candidate->keep)
        report->why = g_strdup_printf("unfinished or without an index for %d days: goes only with --unfinished; "
                                      "'backapp archive reindex' can make the index anew",
                                      RETIRE_UNFINISHED_DAYS);
    else
        report->why = g_strdup_printf("unfinished or without an index for %d days", RETIRE_UNFINISHED_DAYS);
}

gboolean retire_judge(Retire *retire, GError **error)
{
    if (!read_indexes(retire, error) || !look_at_errors(retire, error))
        return FALSE;
    apply_rules(retire);
    for (guint i = 0; i < retire->candidates->len; i++) {
        RetireCandidate *candidate = g_ptr_array_index(retire->candidates, i);
        if (!candidate->listed->has_index)
            judge_unfinished(retire, candidate);
        else if (!candidate->opened)
            keep_damaged(retire, i);
    }
    /* retire_keep_parents stops at what is kept, so all that is kept by itself has to be asked. */
    g_autoptr(GPtrArray) kept = g_ptr_array_new();
    for (guint i = 0; i < retire->candidates->len; i++) {
        RetireCandidate *candidate = g_ptr_array_index(retire->candidates, i);
        if (candidate->keep)
            g_ptr_array_add(kept, candidate);
    }
    for (guint i = 0; i < kept->len; i++)
        retire_keep_parents(retire, g_ptr_array_index(kept, i));
    return TRUE;
}
