/* Direct execution as the host sees it: what its processes hold, which system calls they make, what becomes of them and
 * of the machine when somebody kills the one or the other.
 *
 *   host_test --transvisor PROGRAM --guests DIRECTORY [--guest-words WORDS] [--late-us N] TEST...
 *   TEST: proc, signals, ends, lateness, trace
 *
 * trace needs root and tracefs; proc sees more as root. Exits with 0, 1 if something was not as it must be, 77 if this
 * host, or this user, cannot run it. The guests are tests/insn's "restless" and "hostile". */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SKIPPED = 77, PASSED = 33, MAX = 64 };

static const char *transvisor, *guests, *guest_words = "";
static long late_us = 200;
static int failures;
static bool left_out;                             /* the test, for want of something */
static char folder[] = P_tmpdir "/direct-XXXXXX"; /* as mkdtemp() wants it */

static void check(bool holds, const char *format, ...)
{
    if (holds) return;
    va_list args;
    va_start(args, format);
    printf("FAIL ");
    vprintf(format, args);
    printf("\n");
    va_end(args);
    failures++;
}

static void give_up(const char *what)
{
    printf("%s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void pause_ms(unsigned ms)
{
    struct timespec t = { ms / 1000, ms % 1000 * 1000000L };
    nanosleep(&t, NULL);
}

/* A file's text, up to size, into text; "" if it cannot be read, with errno. */
static char *read_text(const char *path, char *text, size_t size)
{
    size_t n = 0;
    ssize_t r = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    text[0] = 0;
    if (fd < 0) return text;
    while (n + 1 < size && (r = read(fd, text + n, size - 1 - n)) > 0) n += (size_t)r;
    int err = r < 0 ? errno : 0;
    close(fd);
    text[n] = 0;
    errno = err;
    return text;
}

static char *in_folder(const char *name)
{
    static char path[4][128];
    static unsigned which;
    char *p = path[which++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

/* ---- machines ---- */

/* Starts a guest; its output and its counters go to files in folder. Not to be mixed: one at a time. */
static pid_t start(const char *guest, const char *words, const char *direct)
{
    char kernel[512], append[128];
    snprintf(kernel, sizeof kernel, "%s/%s.elf", guests, guest);
    snprintf(append, sizeof append, "%s %s", guest_words, words);
    unlink(in_folder("stats"));
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) give_up("fork");
    if (pid) return pid;
    int out = open(in_folder("out"), O_WRONLY | O_CREAT | O_TRUNC, 0644), in = open("/dev/null", O_RDONLY);
    if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0) _exit(126);
    execl(transvisor, "transvisor", "run", "--kernel", kernel, "--memory", "64M", "--direct", direct, "--append",
          append, "--debug-exit", "0xf4", "--stats", in_folder("stats"), (char *)NULL);
    _exit(127);
}

static bool running(pid_t pid)
{
    siginfo_t si = { 0 };
    return !waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG | WNOWAIT) && si.si_pid != pid;
}

/* Its exit status; 128 and a signal's number; -1 if it had to be ended after so many seconds. */
static int finish(pid_t pid, double seconds)
{
    int status;
    for (double end = now() + seconds; waitpid(pid, &status, WNOHANG) == 0; pause_ms(20)) {
        if (now() < end) continue;
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        return -1;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void show_output(void)
{
    static char text[1 << 16];
    printf("%s\n", read_text(in_folder("out"), text, sizeof text));
}

static void must_pass(int status, const char *after)
{
    check(status == PASSED, "the machine ends with status %d (-1: not at all) after %s", status, after);
    if (status != PASSED) show_output();
}

static long counter(const char *name)
{
    static char text[1 << 16];
    char key[64];
    snprintf(key, sizeof key, "\"%s\":", name);
    char *at = strstr(read_text(in_folder("stats"), text, sizeof text), key);
    return at ? atol(at + strlen(key)) : -1;
}

/* ---- their processes ---- */

struct process {
    pid_t pid;
    bool runner;
}; /* else a mapper */

static long status_field(pid_t pid, const char *name, int base)
{
    char path[64], text[4096], key[64];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    snprintf(key, sizeof key, "\n%s:", name);
    char *at = strstr(read_text(path, text, sizeof text), key);
    return at ? strtol(at + strlen(key), NULL, base) : -1;
}

/* The maker is the monitor's own program, without a guest in it (docs/security.md). Only what has begun has a name. */
static bool is_maker(pid_t pid, pid_t parent)
{
    char path[64], names[2][64];
    for (unsigned i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "/proc/%d/comm", i ? parent : pid);
        read_text(path, names[i], sizeof names[i]);
    }
    return !strcmp(names[0], names[1]);
}

/* By a thread of its parent's: the vCPU's is not the first one in a jail. */
static bool is_traced(pid_t pid, pid_t parent)
{
    char path[64];
    long tracer = status_field(pid, "TracerPid", 10);
    snprintf(path, sizeof path, "/proc/%d/task/%ld", parent, tracer);
    return tracer > 0 && !access(path, F_OK);
}

/* Those that guests' programs have. */
static unsigned children(pid_t parent, struct process *list)
{
    unsigned n = 0;
    DIR *proc = opendir("/proc");
    if (!proc) give_up("/proc");
    for (struct dirent *e; (e = readdir(proc)) && n < MAX;) {
        pid_t pid = atoi(e->d_name);
        if (pid <= 0 || status_field(pid, "PPid", 10) != parent || is_maker(pid, parent)) continue;
        list[n++] = (struct process){ pid, is_traced(pid, parent) };
    }
    closedir(proc);
    return n;
}

/* Waits until both of the guest's programs have a process of two tasks. 0: they never had, before the machine ended. */
static unsigned wait_for_processes(pid_t vm, struct process *list)
{
    for (double end = now() + 30; now() < end && running(vm); pause_ms(50)) {
        unsigned n = children(vm, list);
        if (n == 4) {
            pause_ms(300); /* they have begun by now */
            if (children(vm, list) == 4) return n;
        }
    }
    return 0;
}

static unsigned must_have_processes(pid_t vm, struct process *list)
{
    unsigned n = wait_for_processes(vm, list);
    check(n > 0, "no two direct-execution processes appear");
    if (!n) show_output();
    return n;
}

static bool exists(pid_t pid) { return !kill(pid, 0) || errno != ESRCH; }

/* Orphans come to us (PR_SET_CHILD_SUBREAPER). */
static void bury(void)
{
    while (waitpid(-1, NULL, WNOHANG | __WALL) > 0) continue;
}

/* Those of a machine that has ended are ours. */
static void must_have_no_children(const char *after)
{
    pid_t r;
    for (double end = now() + 5; (r = waitpid(-1, NULL, WNOHANG | __WALL)) >= 0 && now() < end;)
        if (!r) pause_ms(20);
    check(r < 0, "there still are processes after %s", after);
}

static void must_be_gone(const struct process *list, unsigned n, const char *when)
{
    bool any = true;
    for (double end = now() + 5; any && now() < end; pause_ms(20)) {
        bury();
        any = false;
        for (unsigned i = 0; i < n; i++) any |= exists(list[i].pid);
    }
    for (unsigned i = 0; i < n; i++)
        check(!exists(list[i].pid), "a %s is still there %s", list[i].runner ? "runner" : "mapper", when);
}

/* ---- proc: what they hold ---- */

static void check_maps(pid_t pid)
{
    char path[64];
    static char text[1 << 18];
    unsigned low = 0, high = 0;
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    read_text(path, text, sizeof text);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        unsigned long from, to;
        char rights[8];
        if (sscanf(line, "%lx-%lx %7s", &from, &to, rights) != 3) continue;
        if (strstr(line, "[vsyscall]")) continue;
        check(!(strchr(rights, 'w') && strchr(rights, 'x')), "mapped writable and executable: %s", line);
        if (to <= 1ul << 32) {
            low++;
            check(from >= 65536, "mapped below 64 KiB: %s", line);
            continue;
        }
        high++;
        check(to - from == 4096 && !strcmp(rights, "r-xs"), "mapped: %s", line);
    }
    check(low > 0, "%d has nothing mapped below 4 GiB", pid);
    check(high == 1, "%d has %u mappings above 4 GiB, not one", pid, high);
}

/* -1: it has ended, or may not be looked at. */
static int descriptors(pid_t pid)
{
    char path[64];
    int n = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *d = opendir(path);
    if (!d) return -1;
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

/* Who is not root may not look into it, though it is the user's own: it is not dumpable. */
static void check_closed(pid_t pid)
{
    static const char *const files[] = { "maps", "mem", "environ", "auxv" };
    char path[64];
    struct stat st;
    for (unsigned i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(path, sizeof path, "/proc/%d/%s", pid, files[i]);
        int fd = open(path, O_RDONLY);
        check(fd < 0 && errno == EACCES, "%s can be opened", path);
        if (fd >= 0) close(fd);
        check(!stat(path, &st) && st.st_uid == 0, "%s is owned by %u: the process is dumpable", path,
              (unsigned)st.st_uid);
    }
}

static void check_process(const struct process *p)
{
    char path[64], text[4096];
    check(status_field(p->pid, "Seccomp", 10) == 2, "%d: no filter", p->pid);
    check(status_field(p->pid, "NoNewPrivs", 10) == 1, "%d: may gain privileges", p->pid);
    check(status_field(p->pid, "Threads", 10) == 1, "%d: threads", p->pid);
    if (geteuid() != 0) {
        check_closed(p->pid);
        return;
    }
    check_maps(p->pid);
    int n = descriptors(p->pid);
    check(n == (p->runner ? 0 : 2), "the %s has %d descriptors", p->runner ? "runner" : "mapper", n);
    snprintf(path, sizeof path, "/proc/%d/environ", p->pid);
    check(!read_text(path, text, sizeof text)[0], "environment: %s", text);
    snprintf(path, sizeof path, "/proc/%d/cmdline", p->pid);
    check(!read_text(path, text, sizeof text)[0], "arguments: %s", text);
}

static void test_proc(void)
{
    struct process list[MAX];
    pid_t vm = start("restless", "60s", "always");
    unsigned n = must_have_processes(vm, list), runners = 0;
    for (unsigned i = 0; i < n; i++) {
        runners += list[i].runner;
        check_process(&list[i]);
    }
    check(runners * 2 == n, "%u runners of %u tasks", runners, n);
    kill(vm, SIGTERM);
    int status = finish(vm, 30);
    check(status == 128 + SIGTERM, "SIGTERM ends it with status %d", status);
    must_be_gone(list, n, "after SIGTERM");
}

/* ---- signals: somebody sends them ---- */

/* Six processes there are at most, of two tasks; the monitor has two descriptors for each, and two more while it makes
 * one. */
enum { TASKS_MAX = 12, DESCRIPTORS_MAX = 14 };

/* How long a guest runs. On a slow host few processes live in three seconds, or none: then it runs again, longer. */
static const char *const lengths[] = { "3s", "10s", "30s" };

/* What a guest that runs for a while met of it. */
struct disturbed {
    unsigned lived; /* processes that there were at first */
    unsigned sent, most;
    int fds, most_fds;
    long died;
};

static struct disturbed disturb_once(const char *what, const char *seconds, bool runners, const int *signals,
                                     unsigned nsignals)
{
    struct process list[MAX];
    struct disturbed d = { .most_fds = -1 };
    pid_t vm = start("restless", seconds, "always");
    d.lived = wait_for_processes(vm, list);
    d.fds = descriptors(vm);
    for (double end = now() + 120; now() < end && running(vm); pause_ms(70)) {
        unsigned n = children(vm, list);
        int now_fds = descriptors(vm);
        if (n > d.most) d.most = n;
        if (now_fds > d.most_fds) d.most_fds = now_fds;
        for (unsigned i = 0; i < n; i++)
            if (list[i].runner == runners) kill(list[i].pid, signals[d.sent++ % nsignals]);
    }
    must_pass(finish(vm, 120), what);
    must_have_no_children(what);
    d.died = counter("direct_lost");
    check(!d.lived || counter("direct_runs") > 0, "%s: %ld direct runs", what, counter("direct_runs"));
    return d;
}

/* Until enough was met. */
static void disturb(const char *what, bool runners, const int *signals, unsigned nsignals, bool lost)
{
    struct disturbed d = { 0 };
    for (unsigned i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        d = disturb_once(what, lengths[i], runners, signals, nsignals);
        printf("%s, %s: %u sent, %ld processes lost\n", what, lengths[i], d.sent, d.died);
        if (!d.lived) continue;
        check(d.most <= TASKS_MAX, "%s: there were %u tasks", what, d.most);
        /* A jailed machine's descriptors are root's to see. */
        check((d.fds > 0 || geteuid() != 0) && d.most_fds <= d.fds + DESCRIPTORS_MAX, "%s: %d descriptors became %d",
              what, d.fds, d.most_fds);
        if (!lost) check(d.died == 0, "%s: %ld processes lost", what, d.died);
        if (d.sent > 2 && (!lost || d.died > 0)) return;
    }
    check(d.sent > 2, "%s: only %u were sent", what, d.sent);
    check(!lost || d.died > 0, "%s: no process was lost", what);
}

static void test_signals(void)
{
    static const int killing[] = { SIGKILL }, stopping[] = { SIGSTOP },
                     confusing[] = { SIGSEGV, SIGTRAP, SIGSYS,  SIGILL,  SIGFPE,  SIGBUS, SIGURG,
                                     SIGCONT, SIGTSTP, SIGTERM, SIGUSR1, SIGABRT, SIGHUP },
                     ignored[] = {
                         SIGINT, SIGSEGV, SIGTERM, SIGQUIT, SIGSYS, SIGUSR1, SIGHUP, SIGTSTP, SIGPIPE, SIGALRM
                     };
    disturb("SIGKILL of runners", true, killing, 1, true);
    disturb("SIGKILL of mappers", false, killing, 1, true);
    disturb("SIGSTOP of runners", true, stopping, 1, false);
    disturb("SIGSTOP of mappers", false, stopping, 1, true);
    disturb("all kinds to runners", true, confusing, sizeof confusing / sizeof confusing[0], false);
    disturb("all kinds to mappers", false, ignored, sizeof ignored / sizeof ignored[0], false);
}

/* ---- ends: nothing stays behind ---- */

static void test_ends(void)
{
    static const int how[] = { SIGKILL, SIGTERM, SIGINT, SIGSEGV };
    struct process list[MAX];
    for (unsigned i = 0; i < sizeof how / sizeof how[0]; i++) {
        char when[32];
        pid_t vm = start("restless", "60s", "always");
        unsigned n = must_have_processes(vm, list);
        kill(vm, how[i]);
        int status = finish(vm, 30);
        snprintf(when, sizeof when, "after %s", strsignal(how[i]));
        check(status == 128 + how[i], "%s it ends with status %d", when, status);
        must_be_gone(list, n, when);
    }
    unsigned n = 0;
    for (unsigned i = 0; !n && i < sizeof lengths / sizeof lengths[0]; i++) {
        pid_t vm = start("restless", lengths[i], "always");
        n = wait_for_processes(vm, list);
        must_pass(finish(vm, 60), "nothing");
    }
    check(n > 0, "no two direct-execution processes appear");
    must_be_gone(list, n, "after its end");
    must_have_no_children("all ends");
}

/* ---- lateness of interrupts ---- */

static long median_lateness(const char *direct)
{
    static char text[1 << 16];
    static const char before[] = "late by us: least ";
    long least, median = -1;
    pid_t vm = start("restless", "3s", direct);
    must_pass(finish(vm, 60), "nothing");
    char *at = strstr(read_text(in_folder("out"), text, sizeof text), before);
    check(at && sscanf(at + strlen(before), "%ld median %ld", &least, &median) == 2, "the guest does not tell");
    if (!strcmp(direct, "always")) check(counter("direct_runs") > 20, "%ld direct runs", counter("direct_runs"));
    return median;
}

static void test_lateness(void)
{
    long off = median_lateness("off"), on = median_lateness("always");
    printf("timer interrupts come late by %ld us, without direct execution %ld us (medians)\n", on, off);
    check(on >= 0 && on <= late_us, "timer interrupts come late by %ld us, not %ld", on, late_us);
}

/* ---- trace: system calls ---- */

#define TRACEFS "/sys/kernel/tracing"

static bool trace_set(const char *file, const char *value)
{
    char path[128];
    snprintf(path, sizeof path, TRACEFS "/%s", file);
    int fd = open(path, O_WRONLY | O_TRUNC);
    if (fd < 0) return false;
    bool done = write(fd, value, strlen(value)) == (ssize_t)strlen(value);
    close(fd);
    return done;
}

/* The program's own are left out by their names: the processes' is that of a descriptor, from execveat. */
static bool trace_start(void)
{
    mkdir(TRACEFS, 0755);
    if (access(TRACEFS "/trace", R_OK)) (void)!mount("tracefs", TRACEFS, "tracefs", 0, NULL);
    return trace_set("buffer_size_kb", "65536") && trace_set("trace", "")
           && trace_set("events/raw_syscalls/sys_enter/filter", "comm != \"transvisor\" && comm != \"host_test\"")
           && trace_set("events/raw_syscalls/sys_enter/enable", "1") && trace_set("tracing_on", "1");
}

/* What a task has done so far. A runner is one that has split off its mapper; both lock themselves in. */
struct task {
    pid_t pid;
    bool runner, locked;
};
static struct task tasks[1 << 16];

static struct task *task_of(pid_t pid)
{
    struct task *t = &tasks[(unsigned)pid % (sizeof tasks / sizeof tasks[0])];
    if (t->pid != pid) *t = (struct task){ .pid = pid };
    return t;
}

static struct {
    long runners, mappers, calls[512], late;
} seen;

static void note_call(struct task *t, long nr, unsigned long a, unsigned long b, const char *line)
{
    if (t->locked) {
        bool allowed = !t->runner
                       && (nr == SYS_mmap || nr == SYS_munmap || nr == SYS_mprotect || nr == SYS_recvfrom
                           || nr == SYS_sendto || nr == SYS_exit_group);
        if (!allowed && seen.late++ < 20) printf("after its filter: %s", line);
        if (nr >= 0 && nr < 512) seen.calls[nr]++;
    }
    if (nr == SYS_clone) t->runner = true;
    if (nr != SYS_prctl || a != PR_SET_SECCOMP || b != 2) return;
    t->locked = true;
    (*(t->runner ? &seen.runners : &seen.mappers))++;
}

static void trace_read(void)
{
    char line[1024];
    FILE *f = fopen(TRACEFS "/trace", "r");
    if (!f) give_up(TRACEFS "/trace");
    while (fgets(line, sizeof line, f)) {
        long nr;
        unsigned long a = 0, b = 0;
        char *call = strstr(line, "sys_enter: NR "), *bracket = strstr(line, " [");
        if (!call || !bracket || sscanf(call, "sys_enter: NR %ld (%lx, %lx", &nr, &a, &b) < 1) continue;
        while (bracket > line && bracket[-1] == ' ') bracket--;
        char *pid = bracket;
        while (pid > line && pid[-1] >= '0' && pid[-1] <= '9') pid--;
        note_call(task_of(atoi(pid)), nr, a, b, line);
    }
    fclose(f);
}

static void trace_must_be_whole(void)
{
    char path[128], text[4096];
    for (unsigned cpu = 0;; cpu++) {
        snprintf(path, sizeof path, TRACEFS "/per_cpu/cpu%u/stats", cpu);
        if (!read_text(path, text, sizeof text)[0]) return;
        char *at = strstr(text, "overrun: ");
        check(at && atol(at + 9) == 0, "the host's buffer of traced calls overran on cpu %u", cpu);
    }
}

static void test_trace(void)
{
    if (geteuid() != 0 || !trace_start()) {
        left_out = true;
        return;
    }
    pid_t vm = start("hostile", "", "always");
    int status = finish(vm, 600);
    trace_set("tracing_on", "0");
    trace_set("events/raw_syscalls/sys_enter/enable", "0");
    must_pass(status, "hostile code");
    trace_must_be_whole();
    trace_read();
    long made = counter("direct_promoted") + 1; /* and one to see whether the host can */
    printf("trace: %ld runners and %ld mappers of %ld; mappers: mmap %ld munmap %ld mprotect %ld recvfrom %ld sendto "
           "%ld exit %ld; %ld escapes\n",
           seen.runners, seen.mappers, made, seen.calls[SYS_mmap], seen.calls[SYS_munmap], seen.calls[SYS_mprotect],
           seen.calls[SYS_recvfrom], seen.calls[SYS_sendto], seen.calls[SYS_exit_group], counter("direct_escapes"));
    /* A mapper has nothing to do, and may not have locked itself in yet, when the first process is ended that was to
     * see whether the host can. */
    check(seen.runners == made && seen.mappers <= made && seen.mappers >= made - 1,
          "%ld runners and %ld mappers were seen, %ld were made", seen.runners, seen.mappers, made);
    check(seen.late == 0, "%ld system calls that must not be", seen.late);
    check(seen.calls[SYS_mmap] > made && seen.calls[SYS_sendto] > made, "mappers do their work unseen");
    check(counter("direct_escapes") > 500, "hostile code got into 64-bit mode %ld times only",
          counter("direct_escapes"));
    /* QEMU's TCG says of a far return's fault on its stack that it is the kernel's: Linux kills the process that it
     * finds there. */
    check(counter("direct_lost") == 0 || strstr(guest_words, "tcg"), "%ld processes lost", counter("direct_lost"));
}

/* ---- */

static const struct {
    const char *name;
    void (*run)(void);
} tests[] = {
    { "proc", test_proc },         { "signals", test_signals }, { "ends", test_ends },
    { "lateness", test_lateness }, { "trace", test_trace },
};

static bool host_can(void)
{
    static char text[1 << 16];
    pid_t vm = start("restless", "", "always");
    if (finish(vm, 120) == PASSED) return true;
    read_text(in_folder("out"), text, sizeof text);
    printf("%s", text);
    return !strstr(text, "--direct: the host runs no 32-bit code") && !strstr(text, "PTRACE_SYSEMU is refused");
}

static bool run_test(const char *name)
{
    for (unsigned i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        if (strcmp(tests[i].name, name)) continue;
        int before = failures;
        double begin = now();
        tests[i].run();
        printf("%s %s, %.1f s\n", failures != before ? "FAILED" : left_out ? "left out:" : "ok  ", name, now() - begin);
        fflush(stdout);
        return true;
    }
    return false;
}

int main(int argc, char **argv)
{
    int i = 1;
    for (; i + 1 < argc && !strncmp(argv[i], "--", 2); i += 2) {
        if (!strcmp(argv[i], "--transvisor")) transvisor = argv[i + 1];
        else if (!strcmp(argv[i], "--guests")) guests = argv[i + 1];
        else if (!strcmp(argv[i], "--guest-words")) guest_words = argv[i + 1];
        else if (!strcmp(argv[i], "--late-us")) late_us = atol(argv[i + 1]);
    }
    if (!transvisor || !guests || !mkdtemp(folder) || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)) {
        printf(
            "usage: host_test --transvisor PROGRAM --guests DIRECTORY [--guest-words WORDS] [--late-us N] TEST...\n");
        return 2;
    }
    if (!host_can()) return SKIPPED;
    for (; i < argc; i++)
        if (!run_test(argv[i])) check(false, "no test %s", argv[i]);
    unlink(in_folder("out")), unlink(in_folder("stats")), rmdir(folder);
    return failures ? 1 : left_out ? SKIPPED : 0;
}
