/*
 * Retention of archives: which points of a place go by the rules, and removing them. A point that another one builds on
 * stays as long as that one does. Removing can be killed at any request: the next retention goes on with it, and meanwhile
 * whoever lists points sees either a whole one or none. One run at a time for a place, and not while an archive is made
 * there.
 *
 * The order for each point, the ones that build on others first: a marker NAME/.backapp/retired/BASE, the index (from here
 * on it is no point any more), the volumes, the marker. A marker whose index is still there means that nothing was lost:
 * it is dropped and the point judged anew.
 */
#pragma once

#include "base/run_sink.h"
#include "engine/archive/point.h"
#include "engine/retention/rules.h"

/* Volumes without an index may belong to a run that goes on later; not after so many days. */
#define RETIRE_UNFINISHED_DAYS 7

typedef struct {
    ArchivePlace place;
    RetentionRules rules; /* none: all stay */
    GTimeZone *zone;      /* by which days end; NULL: local time */
    gint64 now; /* seconds since 1970; 0: the earlier one of this machine's clock and the store's, so that a clock
                             that is ahead makes nothing old */
    gboolean simulate; /* only says what would go; asks the store nothing that writes */
    gboolean
        unfinished; /* volumes without an index go too, once they are RETIRE_UNFINISHED_DAYS old by the store's clock */
    const CancelFlag *cancel; /* may be NULL */
    RunSink *sink;            /* never NULL */
} RetireOptions;

typedef enum {
    RETIRE_KEEP = 1,
    RETIRE_GO, /* not removed: a simulation, or the run ended before */
    RETIRE_REMOVED,
    RETIRE_SKIPPED, /* it should go, but something in it is locked */
} RetireState;

typedef struct {
    char *base;
    gint64 time;
    ArchiveType type;
    guint64 bytes;       /* in the store, index included */
    gboolean unfinished; /* without an index */
    gboolean partial;    /* files could not be read when it was made */
    RetireState state;
    char *why; /* in words */
} RetirePoint;

typedef struct {
    GPtrArray *points; /* of RetirePoint *, newest first; owned; NULL if it did not come so far */
    guint kept, removed, would_go, skipped, unfinished;
    guint64 bytes_removed; /* would_go's in a simulation */
    char *rules;           /* in words; owned */
    gboolean partial;      /* something was skipped, or an index is damaged */
    double duration;
} RetireReport;

/* "keep", "go", "removed", "skipped"; static. */
const char *archive_retire_state_name(RetireState state);

/* Removes what the rules let go. FALSE with an error that ended it (NOT_FOUND: no archive has this name; LOCKED; DENIED:
 * encrypted, and the key is missing or another); what was removed until then is in the report. */
gboolean archive_retire(const RetireOptions *options, RetireReport *report, GError **error);
void archive_retire_clear(RetireReport *report);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(RetireReport, archive_retire_clear)
