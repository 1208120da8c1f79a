#include "fs/pattern.h"

#include "base/error.h"

#include <ctype.h>
#include <string.h>

#define MAX_RULES   100000
#define MAX_PATTERN 4096
#define SHORT_PATH  4352 /* longer paths are copied to the heap */

typedef enum { TOKEN_BYTE, TOKEN_ANY, TOKEN_SET, TOKEN_STAR, TOKEN_DOUBLE_STAR } TokenKind;

typedef struct {
    guint8 kind;
    guint8 byte;
    guint16 set; /* index into the rule's sets */
} Token;

typedef struct {
    guint8 bits[32];
} ByteSet;

/* Where in a path a pattern may begin to match. What it matches always reaches to the path's end. */
typedef enum {
    FROM_ROOT,    /* at the first byte */
    FROM_SLASH,   /* at the first byte, with a slash put before it */
    FROM_NAME,    /* at the last component */
    FROM_TAIL,    /* at the last `components` components */
    FROM_ANYWHERE /* at any component */
} Origin;

typedef struct {
    char *pattern; /* as given */
    GArray *tokens;
    GArray *sets;
    guint components;
    Origin origin;
    gboolean include, directories_only, never;
    gboolean takes_slash; /* ends in three stars: a directory is matched with a slash after its name */
} Rule;

struct PatternList {
    GPtrArray *rules;
};

static void rule_free(gpointer data)
{
    Rule *rule = data;
    g_free(rule->pattern);
    g_array_unref(rule->tokens);
    g_array_unref(rule->sets);
    g_free(rule);
}

PatternList *pattern_list_new(void)
{
    PatternList *list = g_new0(PatternList, 1);
    list->rules = g_ptr_array_new_with_free_func(rule_free);
    return list;
}

void pattern_list_free(PatternList *list)
{
    if (!list)
        return;
    g_ptr_array_unref(list->rules);
    g_free(list);
}

static void set_add_range(ByteSet *set, guint first, guint last)
{
    for (guint byte = first; byte <= last; byte++)
        set->bits[byte / 8] |= (guint8)(1u << byte % 8);
}

static gboolean set_has(const ByteSet *set, guint8 byte)
{
    return (set->bits[byte / 8] >> byte % 8) & 1;
}

static int is_blank(int byte)
{
    return byte == ' ' || byte == '\t';
}

/* Adds a POSIX class to the set; FALSE if there is none of this name. */
static gboolean set_add_class(ByteSet *set, const guint8 *name, gsize length)
{
    static const struct {
        const char *name;
        int (*has)(int);
    } classes[] = {{"alnum", isalnum}, {"alpha", isalpha}, {"blank", is_blank}, {"cntrl", iscntrl},
                   {"digit", isdigit}, {"graph", isgraph}, {"lower", islower},  {"print", isprint},
                   {"punct", ispunct}, {"space", isspace}, {"upper", isupper},  {"xdigit", isxdigit}};
    for (gsize i = 0; i < G_N_ELEMENTS(classes); i++) {
        if (strlen(classes[i].name) != length || memcmp(classes[i].name, name, length) != 0)
            continue;
        /* Names are bytes, not characters of a locale: only ASCII belongs to a class. */
        for (guint byte = 1; byte < 128; byte++)
            if (classes[i].has((int)byte))
                set_add_range(set, byte, byte);
        return TRUE;
    }
    return FALSE;
}

/* If a class like [:alpha:] begins at `at`, adds it and returns what follows it; `at` if it is not one; NULL if it can
 * never be finished or is unknown. */
static const guint8 *read_class(const guint8 *at, ByteSet *set)
{
    if (at[0] != '[' || at[1] != ':')
        return at;
    const guint8 *name = at + 2;
    const guint8 *bracket = (const guint8 *)strchr((const char *)name, ']');
    if (!bracket)
        return NULL;
    if (bracket == name || bracket[-1] != ':')
        return at;
    return set_add_class(set, name, (gsize)(bracket - name) - 1) ? bracket + 1 : NULL;
}

/* Reads one bracket expression; `at` is behind the opening bracket. Returns what follows the closing one, or NULL if
 * the expression is malformed. */
static const guint8 *read_set(const guint8 *at, ByteSet *set)
{
    gboolean negated = *at == '!' || *at == '^';
    if (negated)
        at++;
    guint8 range_start = 0; /* zero: a hyphen here is only a hyphen */
    for (gboolean first = TRUE; first || *at != ']'; first = FALSE) {
        const guint8 *after = read_class(at, set);
        if (!after)
            return NULL;
        if (after != at) {
            at = after;
            range_start = 0;
            continue;
        }
        gboolean range = *at == '-' && range_start && at[1] && at[1] != ']';
        if (range)
            at++;
        if (*at == '\\')
            at++;
        if (!*at)
            return NULL;
        set_add_range(set, range ? range_start : *at, *at);
        range_start = range ? 0 : *at;
        at++;
    }
    for (guint i = 0; negated && i < sizeof set->bits; i++)
        set->bits[i] = (guint8)~set->bits[i];
    set->bits['/' / 8] &= (guint8) ~(1u << '/' % 8);
    return at + 1;
}

/* Translates a pattern with wildcards; FALSE if it is malformed. */
static gboolean read_tokens(Rule *rule, const char *pattern)
{
    for (const guint8 *at = (const guint8 *)pattern; *at;) {
        Token token = {.kind = TOKEN_BYTE, .byte = *at};
        if (*at == '*') {
            token.kind = at[1] == '*' ? TOKEN_DOUBLE_STAR : TOKEN_STAR;
            while (*at == '*')
                at++;
        } else if (*at == '[') {
            ByteSet set = {{0}};
            at = read_set(at + 1, &set);
            if (!at)
                return FALSE;
            token.kind = TOKEN_SET;
            token.set = (guint16)rule->sets->len;
            g_array_append_val(rule->sets, set);
        } else if (*at == '\\') {
            if (!at[1])
                return FALSE;
            token.byte = at[1];
            at += 2;
        } else {
            token.kind = *at == '?' ? TOKEN_ANY : TOKEN_BYTE;
            at++;
        }
        g_array_append_val(rule->tokens, token);
    }
    return TRUE;
}

static guint count_slashes(const char *text)
{
    guint count = 0;
    for (; *text; text++)
        count += *text == '/';
    return count;
}

static Origin find_origin(const char *pattern, guint slashes)
{
    /* As in rsync the stars are looked for in the text, so `[**]` and `\**` count as well. */
    const char *stars = strstr(pattern, "**");
    if (*pattern == '/')
        return FROM_ROOT;
    if (stars == pattern)
        return FROM_SLASH;
    if (stars)
        return FROM_ANYWHERE;
    return slashes ? FROM_TAIL : FROM_NAME;
}

static Rule *rule_new(gboolean include, const char *given)
{
    Rule *rule = g_new0(Rule, 1);
    rule->include = include;
    rule->pattern = g_strdup(given);
    rule->tokens = g_array_new(FALSE, FALSE, sizeof(Token));
    rule->sets = g_array_new(FALSE, FALSE, sizeof(ByteSet));

    g_autofree char *text = g_strdup(given);
    gsize length = strlen(text);
    rule->directories_only = length > 1 && text[length - 1] == '/';
    if (rule->directories_only)
        text[--length] = '\0';
    guint slashes = count_slashes(text);
    rule->components = slashes + 1;
    rule->origin = find_origin(text, slashes);
    rule->takes_slash = g_str_has_suffix(text, "***");

    const char *body = text + (*text == '/');
    if (strpbrk(text, "*[?")) {
        rule->never = !read_tokens(rule, body);
    } else {
        for (; *body; body++) {
            Token token = {.kind = TOKEN_BYTE, .byte = (guint8)*body};
            g_array_append_val(rule->tokens, token);
        }
    }
    return rule;
}

gboolean pattern_list_add(PatternList *list, gboolean include, const char *pattern, GError **error)
{
    gsize length = strlen(pattern);
    if (length == 0)
        return error_set(error, BACKAPP_ERROR_INVALID, "a pattern is empty: remove it or write what it is to match");
    if (length > MAX_PATTERN)
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "the pattern that begins \"%.40s\" has %" G_GSIZE_FORMAT
                         " bytes, at most %d are allowed: shorten it",
                         pattern, length, MAX_PATTERN);
    if (list->rules->len >= MAX_RULES)
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "there are more than %d patterns (the first too many is \"%.40s\"): use wildcards instead",
                         MAX_RULES, pattern);
    g_ptr_array_add(list->rules, rule_new(include, pattern));
    return TRUE;
}

/* The pattern of all that lies below the directories that `pattern` (it ends in a slash) matches. */
static char *below_pattern(const char *pattern)
{
    GString *below = g_string_new(NULL);
    gboolean wild = strpbrk(pattern, "*[?") != NULL;
    for (const char *at = pattern; *at; at++) {
        /* The stars to come make an escape of each backslash that was literal so far. */
        if (*at == '\\' && !wild)
            g_string_append_c(below, '\\');
        g_string_append_c(below, *at);
    }
    g_string_append(below, "***");
    return g_string_free(below, FALSE);
}

static gboolean add_include(PatternList *list, const char *pattern, GError **error)
{
    if (strlen(pattern) <= 1 || !g_str_has_suffix(pattern, "/"))
        return pattern_list_add(list, TRUE, pattern, error);
    g_autofree char *below = below_pattern(pattern);
    return pattern_list_add(list, TRUE, below, error);
}

static gboolean add_config(PatternList *list, const char *const *includes, const char *const *excludes, GError **error)
{
    for (; excludes && *excludes; excludes++)
        if (!pattern_list_add(list, FALSE, *excludes, error))
            return FALSE;
    if (!includes || !*includes)
        return TRUE;
    for (; *includes; includes++)
        if (!add_include(list, *includes, error))
            return FALSE;
    return pattern_list_add(list, TRUE, "*/", error) && pattern_list_add(list, FALSE, "*", error);
}

gboolean pattern_list_add_config(PatternList *list, const char *const *includes, const char *const *excludes,
                                 GError **error)
{
    guint before = list->rules->len;
    if (add_config(list, includes, excludes, error))
        return TRUE;
    g_ptr_array_set_size(list->rules, (gint)before);
    return FALSE;
}

guint pattern_list_length(const PatternList *list)
{
    return list ? list->rules->len : 0;
}

const char *pattern_list_rule(const PatternList *list, guint index, gboolean *include)
{
    const Rule *rule = g_ptr_array_index(list->rules, index);
    *include = rule->include;
    return rule->pattern;
}

static gboolean is_star(const Token *token)
{
    return token->kind == TOKEN_STAR || token->kind == TOKEN_DOUBLE_STAR;
}

static gboolean takes_byte(const Rule *rule, const Token *token, guint8 byte)
{
    switch (token->kind) {
    case TOKEN_BYTE:
        return token->byte == byte;
    case TOKEN_SET:
        return set_has(&g_array_index(rule->sets, ByteSet, token->set), byte);
    case TOKEN_STAR:
    case TOKEN_ANY:
        return byte != '/';
    default:
        return TRUE;
    }
}

/* Whether tokens [low, high) match the text [at, end), or (floating) its part from some component on. All the ways to
 * match are followed at once: active[i] is set if the first i tokens can match what has been read, so the time is at
 * most the product of the lengths, whatever the pattern. */
static gboolean match_states(const Rule *rule, guint low, guint high, const guint8 *at, const guint8 *end,
                             gboolean floating)
{
    const Token *tokens = (const Token *)(gpointer)rule->tokens->data + low;
    guint count = high - low, first = 0, last = 0;
    guint8 active[MAX_PATTERN + 1];
    memset(active, 0, count + 1);
    gboolean arrived = TRUE; /* at the token looked at: from the token before, or as a new beginning */
    for (guint8 byte = 0;; byte = *at++) {
        guint top = 0, floor = first;
        gboolean alive = FALSE;
        arrived = arrived || (floating && byte == '/');
        for (guint i = first; i <= count && (i <= last || arrived); i++) {
            gboolean was = i < count && active[i];
            gboolean taken = was && takes_byte(rule, &tokens[i], byte);
            gboolean star = i < count && is_star(&tokens[i]);
            active[i] = arrived || (taken && star);
            arrived = (taken && !star) || (active[i] && star);
            if (active[i]) {
                alive = TRUE;
                top = i;
                /* A double star that is reached takes all that comes: how it was reached matters no more. */
                if (i < count && tokens[i].kind == TOKEN_DOUBLE_STAR)
                    floor = i;
            }
        }
        first = floor;
        last = MAX(top, first);
        arrived = FALSE;
        if (at == end)
            return active[count];
        if (!alive && !floating)
            return FALSE;
    }
}

static gboolean match_tokens(const Rule *rule, const guint8 *at, const guint8 *end, gboolean floating)
{
    const Token *tokens = (const Token *)(gpointer)rule->tokens->data;
    guint low = 0, high = rule->tokens->len;
    /* What is outside the stars has one place only; most patterns are decided here. */
    for (; high > 0 && !is_star(&tokens[high - 1]); high--, end--)
        if (at == end || !takes_byte(rule, &tokens[high - 1], end[-1]))
            return FALSE;
    if (floating)
        return match_states(rule, low, high, at, end, TRUE);
    for (; low < high && !is_star(&tokens[low]); low++, at++)
        if (at == end || !takes_byte(rule, &tokens[low], *at))
            return FALSE;
    if (low == high)
        return at == end;
    if (high - low == 1)
        return tokens[low].kind == TOKEN_DOUBLE_STAR || !memchr(at, '/', (gsize)(end - at));
    return match_states(rule, low, high, at, end, FALSE);
}

/* A path with a slash before and after it, and where its parts are. */
typedef struct {
    const guint8 *slash, *name, *end; /* end: of the path, at the slash after it */
    gboolean is_directory;
} Subject;

/* The first byte of the last `components` components, or NULL if there are fewer. */
static const guint8 *find_tail(const Subject *subject, guint components)
{
    const guint8 *at = subject->end;
    while (at > subject->slash) {
        at--;
        if (*at == '/' && --components == 0)
            return at + 1;
    }
    return NULL;
}

static gboolean rule_matches(const Rule *rule, const Subject *subject)
{
    if (rule->never || (rule->directories_only && !subject->is_directory))
        return FALSE;
    const guint8 *end = subject->end + (rule->takes_slash && subject->is_directory);
    const guint8 *tail = NULL;
    switch (rule->origin) {
    case FROM_ROOT:
        return match_tokens(rule, subject->slash + 1, end, FALSE);
    case FROM_SLASH:
        return match_tokens(rule, subject->slash, end, FALSE);
    case FROM_NAME:
        return match_tokens(rule, subject->name, end, FALSE);
    case FROM_TAIL:
        tail = find_tail(subject, rule->components);
        return tail && match_tokens(rule, tail, end, FALSE);
    default:
        return match_tokens(rule, subject->slash + 1, end, TRUE);
    }
}

PatternResult pattern_list_match(const PatternList *list, const char *path, gboolean is_directory)
{
    gsize length = strlen(path);
    if (!list || list->rules->len == 0 || length == 0)
        return PATTERN_NONE;
    guint8 room[SHORT_PATH];
    g_autofree guint8 *long_room = length + 2 > sizeof room ? g_malloc(length + 2) : NULL;
    guint8 *text = long_room ? long_room : room;
    text[0] = '/';
    memcpy(text + 1, path, length);
    text[length + 1] = '/';

    Subject subject = {.slash = text, .end = text + length + 1, .is_directory = is_directory};
    subject.name = find_tail(&subject, 1);
    for (guint i = 0; i < list->rules->len; i++) {
        const Rule *rule = g_ptr_array_index(list->rules, i);
        if (rule_matches(rule, &subject))
            return rule->include ? PATTERN_INCLUDE : PATTERN_EXCLUDE;
    }
    return PATTERN_NONE;
}
