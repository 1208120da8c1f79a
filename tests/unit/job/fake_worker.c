/*
 * A program that test_child.c starts in place of a worker. The run id in the spec says how it shall behave, mostly badly.
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define LINE_MAX_BYTES (1024 * 1024 + 2)

static char spec[LINE_MAX_BYTES];

static void say(const char *line)
{
    printf("%s\n", line);
    fflush(stdout);
}

static int is_run(const char *name)
{
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\"runId\":\"%s\"", name);
    return strstr(spec, wanted) != NULL;
}

static void stop_for_ever(void)
{
    signal(SIGTERM, SIG_IGN);
    say("{\"type\":\"stage\",\"name\":\"deaf\"}");
    /* Not for ever, should the test itself fail. */
    alarm(30);
    for (;;)
        pause();
}

static void crash(void)
{
    const struct rlimit none = {0};
    setrlimit(RLIMIT_CORE, &none);
    say("{\"type\":\"stage\",\"name\":\"scan\"}");
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
}

/* Ends only when the cancel message comes, not by the signal. */
static int obey_message(void)
{
    static char line[4096];
    signal(SIGTERM, SIG_IGN);
    alarm(30);
    say("{\"type\":\"stage\",\"name\":\"ready\"}");
    while (fgets(line, sizeof line, stdin) && !strstr(line, "\"cancel\""))
        printf("{\"type\":\"warning\",\"message\":\"heard %zu\"}\n", strlen(line)), fflush(stdout);
    say("{\"type\":\"done\",\"status\":\"cancelled\"}");
    return 130;
}

static int count_descriptors(void)
{
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir))
        count++;
    if (dir)
        closedir(dir);
    /* ".", ".." and the directory itself. */
    printf("{\"type\":\"warning\",\"message\":\"%d\"}\n", count - 3);
    say("{\"type\":\"done\",\"status\":\"completed\"}");
    return 0;
}

static int flood(void)
{
    for (int i = 0; i < 20000; i++)
        printf("{\"type\":\"warning\",\"code\":\"vanished\",\"path\":\"file-%d\",\"message\":\"gone\"}\n", i);
    say("{\"type\":\"done\",\"status\":\"partial\"}");
    return 3;
}

static void write_long_line(void)
{
    static char block[65536];
    memset(block, 'x', sizeof block);
    for (int i = 0; i < 24; i++)
        fwrite(block, 1, sizeof block, stdout);
    fflush(stdout);
    alarm(30);
    for (;;)
        pause();
}

int main(void)
{
    if (!fgets(spec, sizeof spec, stdin))
        return 99;
    if (is_run("segv"))
        crash();
    if (is_run("deaf"))
        stop_for_ever();
    if (is_run("obey"))
        return obey_message();
    if (is_run("long"))
        write_long_line();
    if (is_run("descriptors"))
        return count_descriptors();
    if (is_run("flood"))
        return flood();
    if (is_run("silent"))
        return 7;
    if (is_run("garbage")) {
        say("this is no JSON");
        say("{\"type\":\"stage\",\"name\":\"after\"}");
        say("{\"type\":\"done\",\"status\":\"completed\"}");
        return 0;
    }
    if (is_run("cut")) {
        printf("{\"type\":\"done\",\"status\":\"comp");
        fflush(stdout);
        return 0;
    }
    if (is_run("lie")) {
        say("{\"type\":\"done\",\"status\":\"completed\"}");
        return 9;
    }
    if (is_run("echo")) {
        printf("{\"type\":\"warning\",\"message\":\"%zu\"}\n", strlen(spec));
        say("{\"type\":\"done\",\"status\":\"completed\"}");
        return 0;
    }
    say("{\"type\":\"stage\",\"name\":\"scan\"}");
    say("{\"type\":\"summary\",\"stats\":{\"stage1\":{\"filesTotal\":3}}}");
    say("{\"type\":\"done\",\"status\":\"refused\",\"error\":{\"code\":\"CONFLICT\",\"message\":\"no\"},"
        "\"planHash\":\"ab\"}");
    return 4;
}
