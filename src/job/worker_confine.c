#include "job/worker_confine.h"

#include <string.h>

static void allow_all(Confine *confine, const char *const *paths, guint access)
{
    for (; *paths; paths++)
        (void)confine_allow(confine, *paths, access);
}

static void allow_system(Confine *confine)
{
    static const char *const readable[] = {"/proc/self", "/proc/sys/kernel", "/etc", "/usr", "/lib", "/lib64", NULL};
    static const char *const devices[] = {"/dev/null", "/dev/zero", "/dev/urandom", "/dev/random", NULL};
    allow_all(confine, readable, CONFINE_READ);
    allow_all(confine, devices, CONFINE_READWRITE);
    /* Spill files. */
    (void)confine_allow(confine, g_get_tmp_dir(), CONFINE_SCRATCH);
}

/* rsync and ssh run within the same confinement and need what they need anywhere. */
static void allow_programs(Confine *confine, const JobOptions *options)
{
    static const char *const programs[] = {"/usr", "/lib", "/lib64", "/bin", "/sbin", NULL};
    static const char *const names[] = {"/run/systemd/resolve", "/etc/resolv.conf", "/var/lib/sss", NULL};
    allow_all(confine, programs, CONFINE_READ | CONFINE_EXECUTE);
    allow_all(confine, names, CONFINE_READ);
    const char *path = g_getenv("PATH");
    g_auto(GStrv) folders = g_strsplit(path ? path : "", ":", -1);
    allow_all(confine, (const char *const *)folders, CONFINE_READ | CONFINE_EXECUTE);
    g_autofree char *ssh = g_build_filename(g_get_home_dir(), ".ssh", NULL);
    (void)confine_allow(confine, ssh, CONFINE_READ);
    if (options->ssh_identity_file)
        (void)confine_allow(confine, options->ssh_identity_file, CONFINE_READ);
    if (options->ssh_known_hosts)
        (void)confine_allow(confine, options->ssh_known_hosts, CONFINE_READ);
}

static void allow_destination(Confine *confine, const char *path, guint access)
{
    if (confine_allow(confine, path, access))
        return;
    /* The engine makes it if its parent is there, and a rule cannot be for what does not exist yet. */
    g_autofree char *trimmed = g_strdup(path);
    for (gsize length = strlen(trimmed); length > 1 && trimmed[length - 1] == '/'; length--)
        trimmed[length - 1] = '\0';
    g_autofree char *parent = g_path_get_dirname(trimmed);
    (void)confine_allow(confine, parent, access);
}

/* What is needed to find a store's keys (they may stand in the user's files) and to trust its certificate. */
static void allow_keys(Confine *confine, const JobStore *store)
{
    static const char *const folders[] = {"/run/systemd/resolve", "/run/secrets",      "/var/run/secrets",
                                          "/var/lib/sss",         "/sys/class/dmi/id", NULL};
    static const char *const variables[] = {"AWS_SHARED_CREDENTIALS_FILE",
                                            "AWS_CONFIG_FILE",
                                            "AWS_WEB_IDENTITY_TOKEN_FILE",
                                            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                                            "AWS_CA_BUNDLE",
                                            "SSL_CERT_FILE",
                                            "SSL_CERT_DIR"};
    allow_all(confine, folders, CONFINE_READ);
    for (guint i = 0; i < G_N_ELEMENTS(variables); i++)
        if (g_getenv(variables[i]))
            (void)confine_allow(confine, g_getenv(variables[i]), CONFINE_READ);
    g_autofree char *aws = g_build_filename(g_get_home_dir(), ".aws", NULL);
    (void)confine_allow(confine, aws, CONFINE_READ);
    if (store->ca_file)
        (void)confine_allow(confine, store->ca_file, CONFINE_READ);
}

static void allow_store(Confine *confine, const JobStore *store, guint access)
{
    const char *path = store->url;
    if (g_str_has_prefix(path, "s3:") || g_str_has_prefix(path, "memory:")) {
        allow_keys(confine, store);
        return;
    }
    /* In a URL a blank, for one, is written %20. */
    g_autofree char *decoded = g_str_has_prefix(path, "file:") ? g_filename_from_uri(path, NULL, NULL) : NULL;
    allow_destination(confine, decoded ? decoded : path, access);
}

/* Whether spec->store is written to. */
static gboolean changes_store(const JobSpec *spec)
{
    return spec->type == JOB_ARCHIVE_REINDEX || (spec->type == JOB_ARCHIVE_RETENTION && !spec->options.dry_run);
}

Confine *worker_confine_rules(const JobSpec *spec, gboolean remote)
{
    Confine *confine = confine_new();
    const JobOptions *options = &spec->options;
    guint access = options->dry_run ? CONFINE_READ : CONFINE_WRITE;
    allow_system(confine);
    if (options->engine_rsync || remote)
        allow_programs(confine, options);
    for (guint i = 0; i < spec->sources->len; i++)
        (void)confine_allow(confine, g_ptr_array_index(spec->sources, i), CONFINE_READ);
    /* The mirror itself names its sources. */
    if (spec->type == JOB_VERIFY && !spec->store.url && spec->sources->len == 0)
        (void)confine_allow(confine, "/", CONFINE_READ);
    for (guint i = 0; i < spec->destinations->len; i++) {
        const JobDestination *destination = &g_array_index(spec->destinations, JobDestination, i);
        if (destination->store.url)
            allow_store(confine, &destination->store, access);
        else if (!remote)
            allow_destination(confine, destination->path, access);
    }
    if (spec->store.url)
        allow_store(confine, &spec->store, changes_store(spec) ? CONFINE_WRITE : CONFINE_READ);
    /* The sandbox is a directory of its own. */
    if (spec->type == JOB_DRILL)
        (void)confine_allow(confine, g_get_tmp_dir(), CONFINE_WRITE);
    if (options->s3.state_dir)
        (void)confine_allow(confine, options->s3.state_dir, CONFINE_WRITE);
    if (options->archive.state_dir)
        (void)confine_allow(confine, options->archive.state_dir, CONFINE_WRITE);
    return confine;
}
