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

Confine *worker_confine_rules(const JobSpec *spec, gboolean remote)
{
    Confine *confine = confine_new();
    const JobOptions *options = &spec->options;
    const char *destination = g_array_index(spec->destinations, JobDestination, 0).path;
    allow_system(confine);
    if (options->engine_rsync || remote)
        allow_programs(confine, options);
    for (guint i = 0; i < spec->sources->len; i++)
        (void)confine_allow(confine, g_ptr_array_index(spec->sources, i), CONFINE_READ);
    /* The mirror itself names its sources. */
    if (spec->type == JOB_VERIFY && spec->sources->len == 0)
        (void)confine_allow(confine, "/", CONFINE_READ);
    if (!remote)
        allow_destination(confine, destination, options->dry_run ? CONFINE_READ : CONFINE_WRITE);
    return confine;
}
