/*
 * Include and exclude rules with the meaning that rsync gives them: `*` stops at a slash, `**` does not, `?` is one
 * character but a slash, `[...]` classes; a leading slash anchors at the transfer's root; a trailing slash matches
 * directories only; a pattern with a slash (not trailing) or `**` is matched against the end of the whole path, else
 * against the last component; a pattern that ends in a slash and three stars matches the directory and all in it; the
 * first rule that matches decides; what matches no rule is included. Names are bytes.
 *
 * A PatternList is built by one thread and then only read, by any number. Rules: at most 100,000, each at most 4,096
 * bytes.
 */
#pragma once

#include <glib.h>

typedef struct PatternList PatternList;

PatternList *pattern_list_new(void);

/* Appends a rule. INVALID for an empty pattern, one too long, or too many. */
gboolean pattern_list_add(PatternList *list, gboolean include, const char *pattern, GError **error);

/* Appends the rules that a config's patterns mean (NULL-terminated vectors; either may be NULL). The excludes come
 * first, so they win. If there is any include, then of all that is not a directory only what an include matches is
 * included; directories are, unless an exclude matches them. An include that ends in a slash can match no file: it
 * stands for all files below such directories. INVALID as for pattern_list_add; then the list is as it was. */
gboolean pattern_list_add_config(PatternList *list, const char *const *includes, const char *const *excludes,
                                 GError **error);

/* Number of rules. list may be NULL (0). */
guint pattern_list_length(const PatternList *list);

/* The pattern of the rule at index (< length) as rsync's `--filter='+ PATTERN'` or `'- PATTERN'` takes it, and whether
 * it includes. The string is the list's. */
const char *pattern_list_rule(const PatternList *list, guint index, gboolean *include);

typedef enum { PATTERN_NONE, PATTERN_INCLUDE, PATTERN_EXCLUDE } PatternResult;

/* What the first matching rule says of `path` (relative to the root, no leading slash, "a/b/c"). Parents are not looked
 * at: the caller does not enter an excluded directory. list may be NULL. Time is bounded (no exponential patterns). */
PatternResult pattern_list_match(const PatternList *list, const char *path, gboolean is_directory);

void pattern_list_free(PatternList *list);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(PatternList, pattern_list_free)
