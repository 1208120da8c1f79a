#include "job/confine.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The oldest version with which a directory tree can be mirrored: the first one forbids every rename and link across
 * directories. */
#define ABI_REFER    2
#define ABI_TRUNCATE 3

/* Newer than Debian 12's headers. */
#define ACCESS_TRUNCATE (G_GUINT64_CONSTANT(1) << 14)

#define ACCESS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define ACCESS_SCRATCH                                                                                                 \
    (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_WRITE_FILE | ACCESS_TRUNCATE |    \
     LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE)
#define ACCESS_WRITE                                                                                                   \
    (ACCESS_SCRATCH | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR |     \
     LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |                     \
     LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER)
#define ACCESS_READWRITE (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | ACCESS_TRUNCATE)
/* What a rule for something that is no directory may hold. */
#define ACCESS_OF_FILE (LANDLOCK_ACCESS_FS_EXECUTE | ACCESS_READWRITE)
#define ACCESS_ALL     (ACCESS_WRITE | LANDLOCK_ACCESS_FS_EXECUTE)

typedef struct {
    int fd;
    guint64 access;
} Rule;

struct Confine {
    GArray *rules;
};

static void clear_rule(gpointer data)
{
    (void)close(((Rule *)data)->fd); /* O_PATH: nothing can be lost */
}

int confine_abi(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    return abi < 0 ? 0 : (int)MIN(abi, ABI_TRUNCATE);
}

Confine *confine_new(void)
{
    Confine *confine = g_new0(Confine, 1);
    confine->rules = g_array_new(FALSE, TRUE, sizeof(Rule));
    g_array_set_clear_func(confine->rules, clear_rule);
    return confine;
}

void confine_free(Confine *confine)
{
    if (!confine)
        return;
    g_array_unref(confine->rules);
    g_free(confine);
}

static guint64 rights_of(guint access)
{
    guint64 rights = 0;
    if (access & CONFINE_READ)
        rights |= ACCESS_READ;
    if (access & CONFINE_WRITE)
        rights |= ACCESS_WRITE;
    if (access & CONFINE_SCRATCH)
        rights |= ACCESS_SCRATCH;
    if (access & CONFINE_EXECUTE)
        rights |= LANDLOCK_ACCESS_FS_EXECUTE;
    if (access & CONFINE_READWRITE)
        rights |= ACCESS_READWRITE;
    return rights;
}

gboolean confine_allow(Confine *confine, const char *path, guint access)
{
    Rule rule = {.fd = open(path, O_PATH | O_CLOEXEC), .access = rights_of(access)};
    if (rule.fd < 0)
        return FALSE;
    struct stat facts;
    if (fstat(rule.fd, &facts) == 0 && !S_ISDIR(facts.st_mode))
        rule.access &= ACCESS_OF_FILE;
    g_array_append_val(confine->rules, rule);
    return TRUE;
}

static gboolean fill_ruleset(const Confine *confine, int ruleset, guint64 handled, GError **error)
{
    for (guint i = 0; i < confine->rules->len; i++) {
        const Rule *rule = &g_array_index(confine->rules, Rule, i);
        struct landlock_path_beneath_attr beneath = {.parent_fd = rule->fd, .allowed_access = rule->access & handled};
        if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) < 0)
            return error_set(error, BACKAPP_ERROR_INTERNAL, "cannot confine the worker: %s", g_strerror(errno));
    }
    return TRUE;
}

gboolean confine_enter(Confine *confine, char **left_out, GError **error)
{
    *left_out = NULL;
    int abi = confine_abi();
    if (abi < ABI_REFER) {
        *left_out = g_strdup(abi == 0 ? "this kernel does not offer Landlock: the worker runs unconfined"
                                      : "this kernel's Landlock is too old (it forbids renames): the worker runs "
                                        "unconfined");
        return TRUE;
    }
    guint64 handled = abi < ABI_TRUNCATE ? ACCESS_ALL & ~ACCESS_TRUNCATE : ACCESS_ALL;
    struct landlock_ruleset_attr attributes = {.handled_access_fs = handled};
    /* Only the first member: a header newer than the kernel may know more. */
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes.handled_access_fs, 0);
    if (ruleset < 0)
        return error_set(error, BACKAPP_ERROR_INTERNAL, "cannot confine the worker: %s", g_strerror(errno));
    gboolean fine = fill_ruleset(confine, ruleset, handled, error);
    if (fine && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(SYS_landlock_restrict_self, ruleset, 0) < 0))
        fine = error_set(error, BACKAPP_ERROR_INTERNAL, "cannot confine the worker: %s", g_strerror(errno));
    (void)close(ruleset);
    return fine;
}
