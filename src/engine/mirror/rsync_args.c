#include "engine/mirror/rsync_args.h"

#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/human.h"
#include "engine/mirror/destination.h"
#include "engine/mirror/rsync_engine.h"

#define URL               "rsync://"
#define NO_SHELL_VERSION  30204 /* from here on rsync protects the other side's arguments by itself */
#define DAEMON_CONNECT_S  "60"
#define DAEMON_TIMEOUT_S  "600"
#define USER_NAME_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@+"

/* The colon that ends the host of "host:path", "user@host:path" or "[address]:path"; NULL if it is a local path. */
static const char *find_host_end(const char *destination)
{
    const char *host = destination;
    for (const char *at = destination; *at && *at != '/'; at++) {
        if (*at == ':')
            return at;
        if (*at == '@')
            host = at + 1;
        if (*at == '[') {
            gsize length = at == host ? strcspn(at + 1, "]/") : 0;
            const char *end = at + 1 + length;
            return length > 0 && end[0] == ']' && end[1] == ':' ? end + 1 : NULL;
        }
    }
    return NULL;
}

RsyncPlace rsync_args_place(const char *destination)
{
    if (g_ascii_strncasecmp(destination, URL, strlen(URL)) == 0)
        return RSYNC_DAEMON;
    const char *colon = find_host_end(destination);
    if (!colon)
        return RSYNC_LOCAL;
    return colon[1] == ':' ? RSYNC_DAEMON : RSYNC_SHELL;
}

gboolean rsync_is_remote(const char *destination)
{
    return rsync_args_place(destination) != RSYNC_LOCAL;
}

static gboolean cannot(const char *option, const char *why, GError **error)
{
    return error_set(error, BACKAPP_ERROR_INVALID, "%s cannot be had with the rsync engine: %s", option, why);
}

static gboolean check_options(const MirrorOptions *options, GError **error)
{
    if (options->keep_versions_days > 0 || options->keep_versions_count > 0)
        return cannot("--keep-versions", "only the native engine keeps what it replaces; leave it out", error);
    if (options->exclude_caches)
        return cannot("--exclude-caches", "rsync does not know cache tags; exclude the directories by name", error);
    if (options->exclude_if_present)
        return cannot("--exclude-if-present", "rsync does not look for such files; exclude the directories by name",
                      error);
    if (options->confirm)
        return cannot("--confirm", "it makes no plan that a hash could name; use --force after a dry run", error);
    return TRUE;
}

/* A path that stands in a value of an ssh option, where quotes, backslashes and dollars have a meaning. */
static gboolean check_ssh_path(const char *path, const char *what, GError **error)
{
    if (!path)
        return TRUE;
    g_autofree char *shown = human_name(path, -1);
    if (*path != '/')
        return error_set(error, BACKAPP_ERROR_INVALID, "%s %s: give an absolute path", what, shown);
    for (const char *at = path; *at; at++)
        if (strchr("\"'\\$", *at) || g_ascii_iscntrl(*at))
            return error_set(error, BACKAPP_ERROR_INVALID,
                             "%s %s: ssh cannot be given a path with quotation marks, backslashes, dollars or control "
                             "characters; rename it",
                             what, shown);
    return TRUE;
}

static gboolean check_ssh(const MirrorOptions *options, RsyncPlace place, GError **error)
{
    const MirrorSsh *ssh = &options->ssh;
    gboolean given = ssh->user || ssh->port > 0 || ssh->identity_file || ssh->known_hosts;
    if (given && place != RSYNC_SHELL)
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "the options rsync.ssh apply to a destination host:path only; leave them out");
    if (ssh->port > G_MAXUINT16)
        return error_set(error, BACKAPP_ERROR_INVALID, "rsync.ssh.port is above 65535");
    const char *user = ssh->user;
    if (user && (*user == '\0' || *user == '-' || user[strspn(user, USER_NAME_LETTERS)] != '\0')) {
        g_autofree char *shown = human_name(user, -1);
        return error_set(error, BACKAPP_ERROR_INVALID, "rsync.ssh.user '%s' is not the name of a user", shown);
    }
    const char *colon = user ? find_host_end(options->destination) : NULL;
    if (colon && memchr(options->destination, '@', (gsize)(colon - options->destination)))
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "the user is given twice, in rsync.ssh.user and in the destination; leave one out");
    return check_ssh_path(ssh->identity_file, "rsync.ssh.identityFile", error) &&
           check_ssh_path(ssh->known_hosts, "rsync.ssh.knownHosts", error);
}

/* What follows host and colons, or "" for the home directory. */
static const char *remote_path(const char *destination, RsyncPlace place)
{
    if (place == RSYNC_DAEMON && g_ascii_strncasecmp(destination, URL, strlen(URL)) == 0) {
        const char *slash = strchr(destination + strlen(URL), '/');
        return slash ? slash + 1 : "";
    }
    const char *colon = find_host_end(destination);
    return place == RSYNC_DAEMON ? colon + 2 : colon + 1;
}

static gboolean check_remote(const char *destination, RsyncPlace place, GError **error)
{
    g_autofree char *shown = human_name(destination, -1);
    gboolean url = g_ascii_strncasecmp(destination, URL, strlen(URL)) == 0;
    const char *host = url ? destination + strlen(URL) : destination;
    const char *path = remote_path(destination, place);
    g_autofree char *whole_host = g_strndup(host, (gsize)(path - host));
    const char *sign = strrchr(whole_host, '@');
    const char *name = sign ? sign + 1 : whole_host;
    if (*whole_host == '-' || *name == '-' || *name == '\0' || *name == ':' || *name == '/' || sign == whole_host)
        return error_set(error, BACKAPP_ERROR_INVALID, "the destination %s names no host before its path", shown);
    for (const char *at = destination; *at; at++)
        if (g_ascii_iscntrl(*at) || strchr("\"'`\\$;&|<>", *at) || (at < path && (*at == ' ' || *at == '!')))
            return error_set(error, BACKAPP_ERROR_INVALID,
                             "the destination %s holds a character that a remote shell could read as more than a name",
                             shown);
    if (strpbrk(path, "*?[]"))
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "the destination %s holds a wildcard, which the other side would look up instead of taking it "
                         "as a name",
                         shown);
    if (*path == '-')
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "the path of the destination %s begins with a hyphen; write ./ before it", shown);
    if (place == RSYNC_DAEMON && (*path == '\0' || *path == '/'))
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "the destination %s names no module of the rsync daemon: rsync://host/module", shown);
    return TRUE;
}

gboolean rsync_args_check(const MirrorOptions *options, GError **error)
{
    RsyncPlace place = rsync_args_place(options->destination);
    for (const char *const *source = options->sources; *source; source++) {
        if (!rsync_is_remote(*source))
            continue;
        g_autofree char *shown = human_name(*source, -1);
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "the source %s is on another host: only the destination may be (a local path with a colon is "
                         "written with ./ before it)",
                         shown);
    }
    if (!check_options(options, error) || !check_ssh(options, place, error))
        return FALSE;
    return place == RSYNC_LOCAL || check_remote(options->destination, place, error);
}

static void add(GPtrArray *argv, const char *argument)
{
    g_ptr_array_add(argv, g_strdup(argument));
}

static void add_format(GPtrArray *argv, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void add_format(GPtrArray *argv, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    g_ptr_array_add(argv, g_strdup_vprintf(format, arguments));
    va_end(arguments);
}

/* `-o NAME="PATH"` in the quotation marks of both readers, rsync's and ssh's; ssh would expand percent signs. */
static void append_ssh_path(GString *command, const char *name, const char *path)
{
    if (!path)
        return;
    g_auto(GStrv) parts = g_strsplit(path, "%", -1);
    g_autofree char *escaped = g_strjoinv("%%", parts);
    g_string_append_printf(command, " -o '%s=\"%s\"'", name, escaped);
}

/* What rsync cuts into ssh and its arguments itself. Nothing may ask at a terminal, and no unknown host is believed. */
static char *ssh_command(const MirrorSsh *ssh)
{
    g_autoptr(GString) command =
        g_string_new("ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o UpdateHostKeys=no "
                     "-o ConnectTimeout=60 -o ServerAliveInterval=60 -o ServerAliveCountMax=5");
    if (ssh->port > 0)
        g_string_append_printf(command, " -p %u", ssh->port);
    if (ssh->user)
        g_string_append_printf(command, " -l %s", ssh->user);
    append_ssh_path(command, "IdentityFile", ssh->identity_file);
    if (ssh->identity_file)
        g_string_append(command, " -o IdentitiesOnly=yes");
    append_ssh_path(command, "UserKnownHostsFile", ssh->known_hosts);
    if (ssh->known_hosts)
        g_string_append(command, " -o GlobalKnownHostsFile=/dev/null");
    return g_string_free(g_steal_pointer(&command), FALSE);
}

/* The user's rules are for paths below a source. With several, rsync matches below the destination, where each path
 * begins with its source's folder. */
static void add_patterns(GPtrArray *argv, const PatternList *patterns, gboolean several)
{
    add(argv, "--filter=P /.backapp*");
    add(argv, "--exclude=/.backapp*");
    if (several && pattern_list_length(patterns) > 0)
        add(argv, "--include=/*/");
    for (guint i = 0; i < pattern_list_length(patterns); i++) {
        gboolean include = FALSE;
        const char *pattern = pattern_list_rule(patterns, i, &include);
        add_format(argv, "--filter=%c %s%s", include ? '+' : '-', several && *pattern == '/' ? "/*" : "", pattern);
    }
}

static void add_options(GPtrArray *argv, const MirrorOptions *options, const RsyncPass *pass)
{
    add(argv, "-a");
    if (options->hard_links)
        add(argv, "-H");
    if (options->acls)
        add(argv, "-A");
    if (options->xattrs)
        add(argv, "-X");
    add(argv, "--numeric-ids");
    add(argv, "--no-human-readable");
    add(argv, "--no-motd");
    add(argv, "--info=progress2,stats2");
    add(argv, "--out-format=@%i %l %n");
    /* rsync updates in place or with a delay, not both. */
    add(argv, options->inplace ? "--inplace" : "--delay-updates");
    if (pass->delete_extraneous)
        add(argv, "--delete-delay");
    if (pass->dry_run)
        add(argv, "--dry-run");
    if (pass->checksum)
        add(argv, "--checksum");
    if (options->one_file_system)
        add(argv, "--one-file-system");
    if (options->exclude_larger_than > 0) {
        add(argv, "--info=skip1"); /* names them */
        add_format(argv, "--max-size=%" G_GUINT64_FORMAT, options->exclude_larger_than);
    }
    guint64 limit = options->rate ? rate_get(options->rate) : 0;
    if (limit > 0)
        add_format(argv, "--bwlimit=%" G_GUINT64_FORMAT, limit / 1024 + (limit % 1024 > 0));
}

static void add_connection(GPtrArray *argv, const MirrorOptions *options, RsyncPlace place, guint version)
{
    if (place == RSYNC_DAEMON) {
        add(argv, "--contimeout=" DAEMON_CONNECT_S);
        add(argv, "--timeout=" DAEMON_TIMEOUT_S);
    } else if (place == RSYNC_SHELL) {
        g_autofree char *command = ssh_command(&options->ssh);
        add_format(argv, "--rsh=%s", command);
        if (version < NO_SHELL_VERSION)
            add(argv, "--protect-args");
    }
}

static char *without_slashes(const char *path)
{
    gsize length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    return g_strndup(path, length);
}

/* A local path that cannot be taken for anything else. */
static char *plain_path(const char *path)
{
    return *path == '/' ? g_strdup(path) : g_strconcat("./", path, NULL);
}

/* One of several sources: without a slash at its end, so that rsync makes its folder, and not a symbolic link, which it
 * would copy as such. */
static char *source_argument(const char *source, const char *folder, GError **error)
{
    struct stat st;
    g_autofree char *bare = without_slashes(source);
    g_autofree char *last = g_path_get_basename(bare);
    if (g_str_equal(last, folder) && lstat(bare, &st) == 0 && !S_ISLNK(st.st_mode))
        return plain_path(bare);
    g_autofree char *real = realpath(source, NULL); /* NOLINT: freed by g_free, which is free */
    g_autofree char *real_name = real ? g_path_get_basename(real) : NULL;
    if (real && g_str_equal(real_name, folder))
        return g_steal_pointer(&real);
    g_autofree char *shown = human_name(source, -1);
    error_set(error, BACKAPP_ERROR_INVALID,
              "the source %s is a symbolic link: as one of several sources give rsync the directory itself", shown);
    return NULL;
}

char **rsync_args_build(const MirrorOptions *options, const RsyncPass *pass, GError **error)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    RsyncPlace place = rsync_args_place(options->destination);
    gboolean several = options->sources[0] != NULL && options->sources[1] != NULL;
    add(argv, pass->program);
    add_options(argv, options, pass);
    add_connection(argv, options, place, pass->version);
    add_patterns(argv, options->patterns, several);
    add(argv, "--");
    for (guint i = 0; options->sources[i]; i++) {
        g_autofree char *source =
            several ? source_argument(options->sources[i], pass->folders[i], error) : plain_path(options->sources[i]);
        if (!source)
            return NULL;
        add_format(argv, "%s%s", source, several ? "" : "/");
    }
    const char *destination = options->destination;
    g_autofree char *local = place == RSYNC_LOCAL ? plain_path(destination) : g_strdup(destination);
    /* "host:" is the home directory there; with a slash it would be the root. */
    gboolean home = place == RSYNC_SHELL && *remote_path(destination, place) == '\0';
    add_format(argv, "%s%s", local, home ? "" : "/");
    g_ptr_array_add(argv, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&argv), FALSE);
}

char **rsync_args_environment(const MirrorOptions *options)
{
    static const char *const unwanted[] = {
        "RSYNC_RSH",   "RSYNC_CONNECT_PROG",  "RSYNC_PARTIAL_DIR",   "RSYNC_OLD_ARGS", "RSYNC_PROTECT_ARGS",
        "RSYNC_ICONV", "RSYNC_CHECKSUM_LIST", "RSYNC_COMPRESS_LIST", "RSYNC_PASSWORD", "LANGUAGE",
    };
    char **environment = g_get_environ();
    for (guint i = 0; i < G_N_ELEMENTS(unwanted); i++)
        environment = g_environ_unsetenv(environment, unwanted[i]);
    environment = g_environ_setenv(environment, "LC_ALL", "C", TRUE);
    if (options->rsync_password && rsync_args_place(options->destination) == RSYNC_DAEMON)
        environment = g_environ_setenv(environment, "RSYNC_PASSWORD", options->rsync_password, TRUE);
    return environment;
}

void rsync_args_free_environment(char **environment)
{
    for (char **entry = environment; entry && *entry; entry++)
        if (g_str_has_prefix(*entry, "RSYNC_PASSWORD="))
            explicit_bzero(*entry, strlen(*entry));
    g_strfreev(environment);
}
