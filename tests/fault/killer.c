/*
 * killer: runs a program and acts at the N-th system call that writes to a file system.
 *
 *   killer [OPTION]... [--] PROGRAM [ARG]...
 *     --count          print the number of such calls as the last line of standard output
 *     --at N           kill the program and all its children with SIGKILL at the N-th call
 *     --exit           ... when that call returns, instead of before it runs
 *     --fail ERRNO     with --at: do not kill; the N-th call does not run and returns this error (name or number)
 *     --sticky         with --fail: and so does each later call that takes space (as on a full disk)
 *     --stop N[,N]...  at these calls run the hook, then go on
 *     --hook COMMAND   shell command for --stop, and for --at before it kills; KILLER_POINT is the call's number
 *     --under DIR      count only calls on DIR and what is below it (an absolute path without symlinks)
 *     --log FILE       write number, thread, call and path of each counted call
 *     --no-filter      look at every call, as where no seccomp filter can be set (slow)
 *     --timeout SEC    end everything after this time (default 120)
 *
 * Every thread and every child is followed. A seccomp filter stops the program only at the calls that count, which
 * makes a traced run about as fast as a free one; where no filter can be set, every call is looked at. The tracer is
 * one thread: while it runs a hook, no traced thread gets past its next writing call, so that the file system stands
 * still. When the killer ends, by whatever cause, the kernel kills what it traces.
 *
 * Exit: 200 when it killed, 201 when the killer itself failed, else the program's own code (128 + signal).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <linux/ptrace.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/* <sys/ptrace.h> and <linux/ptrace.h> cannot be included together everywhere, so the call is made directly. */
#define trace(request, pid, addr, data)                                                                                \
    syscall(SYS_ptrace, (long)(request), (long)(pid), (unsigned long)(uintptr_t)(addr),                                \
            (unsigned long)(uintptr_t)(data))

#define EXIT_KILLED  200
#define EXIT_BROKEN  201
#define MAX_STOPS    256
#define FILTER_SLOTS 512
#define NONE         (-1)

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#else
#error "killer knows x86_64 and aarch64 only"
#endif

typedef enum {
    CALL_DATA,  /* writes through a descriptor: only regular files and block devices count */
    CALL_FD,    /* changes what a descriptor stands for */
    CALL_PATH,  /* changes a name */
    CALL_OPEN,  /* counts when its flags create or truncate */
    CALL_OPEN2, /* the same, flags in a struct */
    CALL_IOCTL, /* counts when it clones */
    CALL_ALL,   /* has no argument that names a file */
} CallKind;

/* One system call of interest. fd: argument with the descriptor (the directory for names), path: with the name. */
typedef struct {
    long nr;
    const char *name;
    CallKind kind;
    signed char fd;
    signed char path;
    signed char flags;
    bool takes_space;
} Call;

static const Call calls[] = {
    {SYS_write, "write", CALL_DATA, 0, NONE, NONE, true},
    {SYS_pwrite64, "pwrite64", CALL_DATA, 0, NONE, NONE, true},
    {SYS_writev, "writev", CALL_DATA, 0, NONE, NONE, true},
    {SYS_pwritev, "pwritev", CALL_DATA, 0, NONE, NONE, true},
    {SYS_pwritev2, "pwritev2", CALL_DATA, 0, NONE, NONE, true},
    {SYS_copy_file_range, "copy_file_range", CALL_DATA, 2, NONE, NONE, true},
    {SYS_sendfile, "sendfile", CALL_DATA, 0, NONE, NONE, true},
    {SYS_splice, "splice", CALL_DATA, 2, NONE, NONE, true},
    {SYS_ioctl, "ioctl", CALL_IOCTL, 0, NONE, 1, true},
    {SYS_openat, "openat", CALL_OPEN, 0, 1, 2, true},
    {SYS_openat2, "openat2", CALL_OPEN2, 0, 1, 2, true},
    {SYS_renameat2, "renameat2", CALL_PATH, 2, 3, NONE, true},
    {SYS_linkat, "linkat", CALL_PATH, 2, 3, NONE, true},
    {SYS_unlinkat, "unlinkat", CALL_PATH, 0, 1, NONE, false},
    {SYS_symlinkat, "symlinkat", CALL_PATH, 1, 2, NONE, true},
    {SYS_mkdirat, "mkdirat", CALL_PATH, 0, 1, NONE, true},
    {SYS_mknodat, "mknodat", CALL_PATH, 0, 1, NONE, true},
    {SYS_fchmod, "fchmod", CALL_FD, 0, NONE, NONE, false},
    {SYS_fchmodat, "fchmodat", CALL_PATH, 0, 1, NONE, false},
    {452, "fchmodat2", CALL_PATH, 0, 1, NONE, false},
    {SYS_fchown, "fchown", CALL_FD, 0, NONE, NONE, false},
    {SYS_fchownat, "fchownat", CALL_PATH, 0, 1, NONE, false},
    {SYS_utimensat, "utimensat", CALL_PATH, 0, 1, NONE, false},
    {SYS_setxattr, "setxattr", CALL_PATH, NONE, 0, NONE, true},
    {SYS_lsetxattr, "lsetxattr", CALL_PATH, NONE, 0, NONE, true},
    {SYS_fsetxattr, "fsetxattr", CALL_FD, 0, NONE, NONE, true},
    {463, "setxattrat", CALL_PATH, 0, 1, NONE, true},
    {SYS_removexattr, "removexattr", CALL_PATH, NONE, 0, NONE, false},
    {SYS_lremovexattr, "lremovexattr", CALL_PATH, NONE, 0, NONE, false},
    {SYS_fremovexattr, "fremovexattr", CALL_FD, 0, NONE, NONE, false},
    {466, "removexattrat", CALL_PATH, 0, 1, NONE, false},
    {SYS_truncate, "truncate", CALL_PATH, NONE, 0, NONE, false},
    {SYS_ftruncate, "ftruncate", CALL_FD, 0, NONE, NONE, false},
    {SYS_fallocate, "fallocate", CALL_FD, 0, NONE, NONE, true},
    {SYS_fsync, "fsync", CALL_FD, 0, NONE, NONE, false},
    {SYS_fdatasync, "fdatasync", CALL_FD, 0, NONE, NONE, false},
    {SYS_syncfs, "syncfs", CALL_FD, 0, NONE, NONE, false},
    {SYS_sync, "sync", CALL_ALL, NONE, NONE, NONE, false},
    {SYS_msync, "msync", CALL_ALL, NONE, NONE, NONE, false},
#ifdef SYS_renameat
    {SYS_renameat, "renameat", CALL_PATH, 2, 3, NONE, true},
#endif
#ifdef SYS_open
    {SYS_open, "open", CALL_OPEN, NONE, 0, 1, true},
    {SYS_creat, "creat", CALL_PATH, NONE, 0, NONE, true},
    {SYS_rename, "rename", CALL_PATH, NONE, 1, NONE, true},
    {SYS_link, "link", CALL_PATH, NONE, 1, NONE, true},
    {SYS_unlink, "unlink", CALL_PATH, NONE, 0, NONE, false},
    {SYS_symlink, "symlink", CALL_PATH, NONE, 1, NONE, true},
    {SYS_mkdir, "mkdir", CALL_PATH, NONE, 0, NONE, true},
    {SYS_rmdir, "rmdir", CALL_PATH, NONE, 0, NONE, false},
    {SYS_mknod, "mknod", CALL_PATH, NONE, 0, NONE, true},
    {SYS_chmod, "chmod", CALL_PATH, NONE, 0, NONE, false},
    {SYS_chown, "chown", CALL_PATH, NONE, 0, NONE, false},
    {SYS_lchown, "lchown", CALL_PATH, NONE, 0, NONE, false},
    {SYS_utime, "utime", CALL_PATH, NONE, 0, NONE, false},
    {SYS_utimes, "utimes", CALL_PATH, NONE, 0, NONE, false},
    {SYS_futimesat, "futimesat", CALL_PATH, 0, 1, NONE, false},
#endif
};

#define CALL_COUNT (sizeof calls / sizeof calls[0])
/* O_TMPFILE contains O_DIRECTORY, which alone writes nothing. */
#define WRITING_OPEN (O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY))

typedef struct {
    bool count;
    bool at_exit;
    bool sticky;
    bool no_filter;
    unsigned long at;
    long fail;
    unsigned long stops[MAX_STOPS];
    size_t stop_count;
    const char *hook;
    const char *under;
    const char *log_path;
    unsigned timeout;
    char **command;
} Options;

typedef struct {
    Options options;
    FILE *log;
    bool filtered; /* a seccomp filter is in place */
    unsigned long seen;
    pid_t root;
    int root_status;
    pid_t last;   /* thread whose N-th call runs before the kill, or 0 */
    bool killing; /* everything that still reports is to be killed */
    pid_t *pids;
    size_t pid_count;
    size_t pid_room;
} Tracer;

/* ---- the filter ---- */

static size_t emit(struct sock_filter *out, size_t n, unsigned short code, unsigned jt, unsigned jf, unsigned k)
{
    out[n] = (struct sock_filter){.code = code, .jt = (unsigned char)jt, .jf = (unsigned char)jf, .k = k};
    return n + 1;
}

static unsigned low_word(int arg)
{
    return (unsigned)(offsetof(struct seccomp_data, args) + (size_t)arg * sizeof(uint64_t));
}

static size_t emit_call(struct sock_filter *out, size_t n, const Call *call)
{
    const unsigned short load = BPF_LD | BPF_W | BPF_ABS;
    const unsigned short equal = BPF_JMP | BPF_JEQ | BPF_K;
    const unsigned short verdict = BPF_RET | BPF_K;
    if (call->kind == CALL_OPEN) {
        n = emit(out, n, equal, 0, 4, (unsigned)call->nr);
        n = emit(out, n, load, 0, 0, low_word(call->flags));
        n = emit(out, n, BPF_JMP | BPF_JSET | BPF_K, 0, 1, WRITING_OPEN);
        n = emit(out, n, verdict, 0, 0, SECCOMP_RET_TRACE);
        return emit(out, n, verdict, 0, 0, SECCOMP_RET_ALLOW);
    }
    if (call->kind == CALL_IOCTL) {
        n = emit(out, n, equal, 0, 5, (unsigned)call->nr);
        n = emit(out, n, load, 0, 0, low_word(call->flags));
        n = emit(out, n, equal, 1, 0, FICLONE);
        n = emit(out, n, equal, 0, 1, FICLONERANGE);
        n = emit(out, n, verdict, 0, 0, SECCOMP_RET_TRACE);
        return emit(out, n, verdict, 0, 0, SECCOMP_RET_ALLOW);
    }
    n = emit(out, n, equal, 0, 1, (unsigned)call->nr);
    return emit(out, n, verdict, 0, 0, SECCOMP_RET_TRACE);
}

/* False where the kernel refuses a filter; the tracer then looks at every call. */
static bool install_filter(void)
{
    struct sock_filter code[FILTER_SLOTS];
    size_t n = 0;
    n = emit(code, n, BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, arch));
    n = emit(code, n, BPF_JMP | BPF_JEQ | BPF_K, 1, 0, NATIVE_ARCH);
    n = emit(code, n, BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
    n = emit(code, n, BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < CALL_COUNT; i++) {
        n = emit_call(code, n, &calls[i]);
    }
    n = emit(code, n, BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = (unsigned short)n, .filter = code};
    /* Without the privilege to set a filter, the promise never to gain privileges is what the kernel asks for. */
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0UL, &program) == 0) {
        return true;
    }
    return prctl(PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L) == 0 &&
           syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0UL, &program) == 0;
}

/* ---- what a call is about ---- */

static bool read_memory(pid_t tid, uint64_t address, void *buffer, size_t size)
{
    struct iovec local = {.iov_base = buffer, .iov_len = size};
    struct iovec remote = {.iov_base = (void *)(uintptr_t)address, .iov_len = size};
    return process_vm_readv(tid, &local, 1, &remote, 1, 0) == (ssize_t)size;
}

/* Reads up to the end of the page at a time, because the string may stand at the very end of what is mapped. */
static bool read_string(pid_t tid, uint64_t address, char *buffer, size_t size)
{
    size_t have = 0;
    while (have + 1 < size) {
        size_t piece = 4096 - (size_t)((address + have) % 4096);
        if (piece > size - 1 - have) {
            piece = size - 1 - have;
        }
        if (!read_memory(tid, address + have, buffer + have, piece)) {
            return false;
        }
        if (memchr(buffer + have, '\0', piece) != NULL) {
            return true;
        }
        have += piece;
    }
    buffer[have] = '\0';
    return true;
}

static bool read_link(const char *link, char *out, size_t size)
{
    ssize_t length = readlink(link, out, size - 1);
    if (length < 0) {
        return false;
    }
    out[length] = '\0';
    return true;
}

static bool descriptor_path(pid_t tid, int fd, char *out, size_t size)
{
    char link[64];
    if (fd == AT_FDCWD) {
        (void)snprintf(link, sizeof link, "/proc/%d/cwd", (int)tid);
    } else {
        (void)snprintf(link, sizeof link, "/proc/%d/fd/%d", (int)tid, fd);
    }
    return read_link(link, out, size);
}

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* What N or N/name below the program's own /proc/self/fd stands for. */
static bool magic_path(pid_t tid, const char *tail, char *out, size_t size)
{
    char *rest = NULL;
    if (!descriptor_path(tid, (int)strtol(tail, &rest, 10), out, size)) {
        return false;
    }
    size_t length = strlen(out);
    if (length < size) {
        (void)snprintf(out + length, size - length, "%s", rest);
    }
    return true;
}

/* The name a call works on, as far as it can be told without resolving it; a long one is cut. */
static bool call_path(pid_t tid, const Call *call, const uint64_t *args, char *out, size_t size)
{
    int fd = call->fd >= 0 ? (int)args[call->fd] : AT_FDCWD;
    char name[PATH_MAX] = "";
    if (call->path >= 0 && args[call->path] != 0 && !read_string(tid, args[call->path], name, sizeof name)) {
        return false;
    }
    if (starts_with(name, "/proc/self/fd/") || starts_with(name, "/proc/thread-self/fd/")) {
        return magic_path(tid, strstr(name, "/fd/") + strlen("/fd/"), out, size);
    }
    if (name[0] == '/') {
        (void)snprintf(out, size, "%s", name);
        return true;
    }
    if (!descriptor_path(tid, fd, out, size)) {
        return false;
    }
    size_t length = strlen(out);
    if (name[0] != '\0' && length + 2 < size) {
        out[length] = '/';
        (void)snprintf(out + length + 1, size - length - 1, "%s", name);
    }
    return true;
}

/* Pipes, sockets and the like have no path; what the kernel invents is no file system that can lose anything. */
static bool on_file_system(const char *path)
{
    if (path[0] != '/' || starts_with(path, "/memfd:") || starts_with(path, "/proc/") || starts_with(path, "/sys/")) {
        return false;
    }
    return !starts_with(path, "/dev/") || starts_with(path, "/dev/shm/");
}

static bool is_below(const char *path, const char *top)
{
    size_t length = strlen(top);
    return strncmp(path, top, length) == 0 && (path[length] == '\0' || path[length] == '/');
}

static bool data_counts(pid_t tid, int fd)
{
    char link[64];
    struct stat st;
    (void)snprintf(link, sizeof link, "/proc/%d/fd/%d", (int)tid, fd);
    return fd != STDOUT_FILENO && fd != STDERR_FILENO && stat(link, &st) == 0 &&
           (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode));
}

static bool flags_count(pid_t tid, const Call *call, const uint64_t *args)
{
    if (call->kind == CALL_OPEN) {
        return (args[call->flags] & (uint64_t)WRITING_OPEN) != 0;
    }
    if (call->kind == CALL_OPEN2) {
        struct open_how how = {0};
        return read_memory(tid, args[call->flags], &how, sizeof how) && (how.flags & (uint64_t)WRITING_OPEN) != 0;
    }
    if (call->kind == CALL_IOCTL) {
        return (uint32_t)args[call->flags] == (uint32_t)FICLONE ||
               (uint32_t)args[call->flags] == (uint32_t)FICLONERANGE;
    }
    return true;
}

/* The call if it writes to a file system and is to be counted, else NULL; path is where. */
static const Call *counted_call(const Tracer *tracer, pid_t tid, uint64_t nr, const uint64_t *args, char *path,
                                size_t size)
{
    const Call *call = NULL;
    for (size_t i = 0; i < CALL_COUNT && call == NULL; i++) {
        if (calls[i].nr == (long)nr) {
            call = &calls[i];
        }
    }
    path[0] = '\0';
    if (call == NULL || !flags_count(tid, call, args)) {
        return NULL;
    }
    if (call->kind == CALL_ALL) {
        return tracer->options.under == NULL ? call : NULL;
    }
    if (call->kind == CALL_DATA && !data_counts(tid, (int)args[call->fd])) {
        return NULL;
    }
    if (!call_path(tid, call, args, path, size) || !on_file_system(path)) {
        return NULL;
    }
    return tracer->options.under == NULL || is_below(path, tracer->options.under) ? call : NULL;
}

/* ---- what is done at a call ---- */

static bool fail_call(pid_t tid, long error)
{
#if defined(__x86_64__)
    struct user_regs_struct regs;
    if (trace(PTRACE_GETREGS, tid, 0, &regs) != 0) {
        return false;
    }
    regs.orig_rax = (unsigned long long)-1LL;
    regs.rax = (unsigned long long)-error;
    return trace(PTRACE_SETREGS, tid, 0, &regs) == 0;
#else
    struct user_regs_struct regs;
    struct iovec vector = {.iov_base = &regs, .iov_len = sizeof regs};
    int none = -1;
    struct iovec number = {.iov_base = &none, .iov_len = sizeof none};
    if (trace(PTRACE_GETREGSET, tid, 1, &vector) != 0) {
        return false;
    }
    regs.regs[0] = (unsigned long long)-error;
    return trace(PTRACE_SETREGSET, tid, 1, &vector) == 0 && trace(PTRACE_SETREGSET, tid, 0x404, &number) == 0;
#endif
}

static void run_hook(const Tracer *tracer)
{
    char point[32];
    (void)snprintf(point, sizeof point, "%lu", tracer->seen);
    pid_t pid = fork();
    if (pid == 0) {
        (void)setenv("KILLER_POINT", point, 1);
        (void)execl("/bin/sh", "sh", "-c", tracer->options.hook, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (pid < 0 || status != 0) {
        (void)fprintf(stderr, "killer: the hook failed at call %s\n", point);
    }
}

static void remember(Tracer *tracer, pid_t pid)
{
    for (size_t i = 0; i < tracer->pid_count; i++) {
        if (tracer->pids[i] == pid) {
            return;
        }
    }
    if (tracer->pid_count == tracer->pid_room) {
        size_t room = tracer->pid_room == 0 ? 64 : tracer->pid_room * 2;
        pid_t *grown = realloc(tracer->pids, room * sizeof *grown);
        if (grown == NULL) {
            return;
        }
        tracer->pids = grown;
        tracer->pid_room = room;
    }
    tracer->pids[tracer->pid_count++] = pid;
}

static void forget(Tracer *tracer, pid_t pid)
{
    for (size_t i = 0; i < tracer->pid_count; i++) {
        if (tracer->pids[i] == pid) {
            tracer->pids[i] = tracer->pids[--tracer->pid_count];
            return;
        }
    }
}

static void kill_all(Tracer *tracer)
{
    tracer->killing = true;
    for (size_t i = 0; i < tracer->pid_count; i++) {
        (void)kill(tracer->pids[i], SIGKILL);
    }
}

static void resume(const Tracer *tracer, pid_t tid, int signal)
{
    bool every = !tracer->filtered || tid == tracer->last;
    /* ESRCH means that the thread died meanwhile; waitpid will say so. */
    (void)trace(every ? PTRACE_SYSCALL : PTRACE_CONT, tid, 0, (long)signal);
}

static bool is_stop_point(const Options *options, unsigned long number)
{
    for (size_t i = 0; i < options->stop_count; i++) {
        if (options->stops[i] == number) {
            return true;
        }
    }
    return false;
}

/* One line a call, whatever bytes the path has. */
static void log_call(const Tracer *tracer, pid_t tid, const Call *call, char *path)
{
    if (tracer->log == NULL) {
        return;
    }
    for (char *c = path; *c != '\0'; c++) {
        *c = (unsigned char)*c < ' ' ? '?' : *c;
    }
    (void)fprintf(tracer->log, "%lu %d %s %s\n", tracer->seen, (int)tid, call->name, path);
    (void)fflush(tracer->log);
}

static void on_entry(Tracer *tracer, pid_t tid, uint64_t nr, const uint64_t *args)
{
    const Options *options = &tracer->options;
    char path[PATH_MAX * 2];
    const Call *call = counted_call(tracer, tid, nr, args, path, sizeof path);
    if (call == NULL) {
        resume(tracer, tid, 0);
        return;
    }
    tracer->seen++;
    log_call(tracer, tid, call, path);
    bool here = options->at != 0 && tracer->seen == options->at;
    if (options->hook != NULL && (is_stop_point(options, tracer->seen) || (here && options->fail == 0))) {
        run_hook(tracer);
    }
    if (options->fail != 0) {
        bool later = options->sticky && tracer->seen > options->at && options->at != 0 && call->takes_space;
        if ((here || later) && !fail_call(tid, options->fail)) {
            (void)fprintf(stderr, "killer: cannot change call %lu: %s\n", tracer->seen, strerror(errno));
        }
    } else if (here && !options->at_exit) {
        kill_all(tracer);
        return;
    } else if (here) {
        tracer->last = tid;
    }
    resume(tracer, tid, 0);
}

/* A stop at the entry or the return of a call; with a filter in place the entry of a counted call comes as an event. */
static void on_call(Tracer *tracer, pid_t tid)
{
    struct ptrace_syscall_info info = {0};
    if (trace(PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info) < 0) {
        resume(tracer, tid, 0);
    } else if (info.op == PTRACE_SYSCALL_INFO_SECCOMP) {
        on_entry(tracer, tid, info.seccomp.nr, (const uint64_t *)info.seccomp.args);
    } else if (info.op == PTRACE_SYSCALL_INFO_ENTRY && !tracer->filtered) {
        on_entry(tracer, tid, info.entry.nr, (const uint64_t *)info.entry.args);
    } else if (info.op == PTRACE_SYSCALL_INFO_EXIT && tid == tracer->last) {
        kill_all(tracer);
    } else {
        resume(tracer, tid, 0);
    }
}

static void on_stop(Tracer *tracer, pid_t tid, int status)
{
    int event = status >> 16;
    int signal = WSTOPSIG(status);
    remember(tracer, tid);
    if (tracer->killing) {
        (void)kill(tid, SIGKILL);
        return;
    }
    if (event == PTRACE_EVENT_SECCOMP || signal == (SIGTRAP | 0x80)) {
        on_call(tracer, tid);
    } else if (event == PTRACE_EVENT_STOP && signal != SIGTRAP) {
        (void)trace(PTRACE_LISTEN, tid, 0, 0L);
    } else {
        resume(tracer, tid, event == 0 ? signal : 0);
    }
}

static void run(Tracer *tracer)
{
    for (;;) {
        int status = 0;
        pid_t tid = waitpid(-1, &status, __WALL);
        if (tid < 0 && errno == EINTR) {
            continue;
        }
        if (tid < 0) {
            return;
        }
        if (WIFSTOPPED(status)) {
            on_stop(tracer, tid, status);
            continue;
        }
        forget(tracer, tid);
        if (tid == tracer->root) {
            tracer->root_status = status;
        }
    }
}

/* ---- start ---- */

/* The child waits for its tracer, sets the filter, says whether it could, and becomes the program. */
static void become_program(const Options *options, int go, int told)
{
    char byte = 0;
    if (read(go, &byte, 1) != 1) {
        _exit(EXIT_BROKEN);
    }
    byte = !options->no_filter && install_filter() ? 'y' : 'n';
    /* The second byte comes when the tracer knows the answer, so that the exec finds it ready. */
    if (write(told, &byte, 1) != 1 || read(go, &byte, 1) != 1) {
        _exit(EXIT_BROKEN);
    }
    (void)execvp(options->command[0], options->command);
    (void)fprintf(stderr, "killer: cannot run %s: %s\n", options->command[0], strerror(errno));
    _exit(EXIT_BROKEN);
}

static bool start(Tracer *tracer)
{
    int go[2];
    int told[2];
    const unsigned long follow = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
                                 PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC | PTRACE_O_TRACESECCOMP | PTRACE_O_EXITKILL;
    if (pipe2(go, O_CLOEXEC) != 0 || pipe2(told, O_CLOEXEC) != 0) {
        return false;
    }
    tracer->root = fork();
    if (tracer->root == 0) {
        become_program(&tracer->options, go[0], told[1]);
    }
    if (tracer->root < 0 || trace(PTRACE_SEIZE, tracer->root, 0, follow) != 0) {
        return false;
    }
    remember(tracer, tracer->root);
    /* The first thing the child does under the filter is the write that answers, which stops it: the answer can only
       be read once that stop is served. Taking it as filtered is right then, and nothing is counted (a pipe). */
    if (write(go[1], "g", 1) != 1) {
        return false;
    }
    int status = 0;
    char answer = 'y';
    int flags = fcntl(told[0], F_GETFL);
    bool quiet = flags >= 0 && fcntl(told[0], F_SETFL, flags | O_NONBLOCK) == 0;
    while (quiet && read(told[0], &answer, 1) != 1) {
        if (waitpid(tracer->root, &status, __WALL | WNOHANG) == tracer->root) {
            if (!WIFSTOPPED(status)) {
                return false;
            }
            (void)trace(PTRACE_CONT, tracer->root, 0, (long)(status >> 16 != 0 ? 0 : WSTOPSIG(status)));
        }
        (void)usleep(200);
    }
    tracer->filtered = answer == 'y';
    /* Without a filter it runs freely until its next stop, the exec event: nothing has been written by then. */
    if (!quiet || write(go[1], "x", 1) != 1) {
        return false;
    }
    (void)close(go[0]);
    (void)close(go[1]);
    (void)close(told[0]);
    (void)close(told[1]);
    return true;
}

static long error_number(const char *text)
{
    static const struct {
        const char *name;
        int value;
    } names[] = {{"ENOSPC", ENOSPC}, {"EIO", EIO},     {"EDQUOT", EDQUOT}, {"EROFS", EROFS},
                 {"EACCES", EACCES}, {"EPERM", EPERM}, {"EFBIG", EFBIG},   {"EINTR", EINTR}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i].name) == 0) {
            return names[i].value;
        }
    }
    return strtol(text, NULL, 10);
}

static bool read_stops(Options *options, const char *text)
{
    const char *at = text;
    while (*at != '\0' && options->stop_count < MAX_STOPS) {
        char *end = NULL;
        options->stops[options->stop_count++] = strtoul(at, &end, 10);
        if (end == at || (*end != ',' && *end != '\0')) {
            return false;
        }
        at = *end == ',' ? end + 1 : end;
    }
    return *at == '\0' && options->stop_count > 0;
}

static bool read_value(Options *options, const char *name, const char *value)
{
    if (strcmp(name, "--at") == 0) {
        options->at = strtoul(value, NULL, 10);
        return options->at > 0;
    }
    if (strcmp(name, "--fail") == 0) {
        options->fail = error_number(value);
        return options->fail > 0 && options->fail < 4096;
    }
    if (strcmp(name, "--stop") == 0) {
        return read_stops(options, value);
    }
    if (strcmp(name, "--hook") == 0) {
        options->hook = value;
        return true;
    }
    if (strcmp(name, "--under") == 0) {
        options->under = value;
        return value[0] == '/';
    }
    if (strcmp(name, "--log") == 0) {
        options->log_path = value;
        return true;
    }
    if (strcmp(name, "--timeout") == 0) {
        options->timeout = (unsigned)strtoul(value, NULL, 10);
        return options->timeout > 0;
    }
    return false;
}

static bool read_options(Options *options, int argc, char **argv)
{
    int i = 1;
    for (; i < argc && starts_with(argv[i], "--") && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--count") == 0) {
            options->count = true;
        } else if (strcmp(argv[i], "--exit") == 0) {
            options->at_exit = true;
        } else if (strcmp(argv[i], "--no-filter") == 0) {
            options->no_filter = true;
        } else if (strcmp(argv[i], "--sticky") == 0) {
            options->sticky = true;
        } else if (i + 1 >= argc || !read_value(options, argv[i], argv[i + 1])) {
            return false;
        } else {
            i++;
        }
    }
    i += i < argc && strcmp(argv[i], "--") == 0 ? 1 : 0;
    options->command = argv + i;
    return i < argc;
}

int main(int argc, char **argv)
{
    Tracer tracer = {.options = {.timeout = 120}};
    if (!read_options(&tracer.options, argc, argv)) {
        (void)fprintf(stderr, "usage: killer [--count] [--at N] [--exit] [--fail ERRNO] [--sticky] [--stop N,..] "
                              "[--hook COMMAND] [--under DIR] [--log FILE] [--timeout SEC] [--] PROGRAM [ARG]...\n");
        return EXIT_BROKEN;
    }
    if (tracer.options.log_path != NULL) {
        tracer.log = fopen(tracer.options.log_path, "we");
        if (tracer.log == NULL) {
            (void)fprintf(stderr, "killer: cannot write %s: %s\n", tracer.options.log_path, strerror(errno));
            return EXIT_BROKEN;
        }
    }
    /* The alarm's default action ends the killer, and with it, by PTRACE_O_EXITKILL, everything it traces. */
    (void)alarm(tracer.options.timeout);
    if (!start(&tracer)) {
        (void)fprintf(stderr, "killer: cannot start: %s\n", strerror(errno));
        return EXIT_BROKEN;
    }
    run(&tracer);
    if (tracer.options.count) {
        (void)printf("%lu\n", tracer.seen);
    }
    if (tracer.log != NULL && fclose(tracer.log) != 0) {
        return EXIT_BROKEN;
    }
    free(tracer.pids);
    if (tracer.killing) {
        return EXIT_KILLED;
    }
    return WIFSIGNALED(tracer.root_status) ? 128 + WTERMSIG(tracer.root_status) : WEXITSTATUS(tracer.root_status);
}
