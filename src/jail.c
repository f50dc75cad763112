/* Owns how threads go to jail, and what becomes of one that does what it has no need of.
 *   I1  Filters and rules are made before the first thread goes, and never changed or freed.          [jail_new]
 *   I2  Each thread goes by itself: the kernel lets nobody else do it. A signal makes it.       [jail_enter_others]
 *   I3  Handlers make system calls only.                                                  [on_going, on_refused] */
#define _GNU_SOURCE
#include "src/jail.h"
#include "src/jail_files.h"
#include "src/jail_filter.h"
#include "src/back/terminal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_MS 5000

struct jail {
    struct jail_config cfg;
    struct jail_filter filter[THREAD_ROLES];
    struct tids *told;  /* while threads are told to go */
    _Atomic int failed; /* -errno of one that could not */
};

/* Threads by their number. */
struct tids {
    struct tid {
        pid_t id; /* 0: it has ended */
        _Atomic bool gone;
    } * of;
    unsigned n, room;
};

/* What a signal handler can find: the jail that is being entered. Threads of one process, so there is one at a time. */
static struct jail *_Atomic entering;

/* ---- what a thread does wrong ---- */

static size_t put(char *line, size_t n, size_t room, const char *text)
{
    while (*text && n < room) line[n++] = *text++;
    return n;
}

static size_t put_number(char *line, size_t n, size_t room, unsigned v)
{
    char digits[12];
    size_t at = sizeof digits;
    digits[--at] = 0;
    do digits[--at] = (char)('0' + v % 10);
    while (v /= 10);
    return put(line, n, room, digits + at);
}

static const char *const role_names[THREAD_ROLES] = {
    [THREAD_MAIN] = "main thread",   [THREAD_VCPU] = "vCPU thread",     [THREAD_DISK] = "disk thread",
    [THREAD_NBD] = "NBD thread",     [THREAD_SERIAL] = "serial thread", [THREAD_TEXT] = "display thread",
    [THREAD_VNC] = "VNC thread",     [THREAD_NET] = "network thread",   [THREAD_AUDIO] = "sound thread",
    [THREAD_SHARE] = "share thread", [THREAD_RNG] = "entropy thread",
};

static void on_refused(int sig, siginfo_t *si, void *context)
{
    (void)sig, (void)context;
    char line[200];
    const char *name = jail_filter_name(si->si_syscall);
    size_t n = put(line, 0, sizeof line - 1, "transvisor: jail: the ");
    n = put(line, n, sizeof line - 1, role_names[thread_role()]);
    n = put(line, n, sizeof line - 1, " has made a system call that it has no need of: ");
    n = put_number(line, n, sizeof line - 1, (unsigned)si->si_syscall);
    if (name) n = put(line, put(line, n, sizeof line - 1, ", "), sizeof line - 1, name);
    line[n++] = '\n';
    terminal_restore();
    (void)!write(STDERR_FILENO, line, n);
    _exit(1);
}

static int handler_set(void)
{
    struct sigaction sa = { .sa_sigaction = on_refused, .sa_flags = SA_SIGINFO };
    sigset_t one;
    sigfillset(&sa.sa_mask);
    sigemptyset(&one);
    sigaddset(&one, SIGSYS);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    return sigaction(SIGSYS, &sa, NULL) ? -errno : 0;
}

/* ---- a thread ---- */

/* Async-signal-safe. */
int jail_enter_files(struct jail *j)
{
    int files = j->cfg.files[thread_role()];
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return -errno;
    return files >= 0 ? jail_files_enter(files) : 0;
}

/* Async-signal-safe. The hardware's speculation stays as it was: what the filter guards is no secret in here. */
int jail_enter_calls(struct jail *j)
{
    const struct jail_filter *f = &j->filter[thread_role()];
    const struct sock_fprog program = { f->n, f->code };
    thread_set_jailed();
    if (!j->cfg.filters) return 0;
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program) ? -errno : 0;
}

static void on_going(int sig)
{
    (void)sig;
    int saved = errno;
    pid_t me = (pid_t)syscall(SYS_gettid);
    struct jail *j = entering;
    bool outside = j && thread_role() != THREAD_VCPU && !thread_jailed();
    int rc = outside ? jail_enter_files(j) : 0;
    if (!rc && outside) rc = jail_enter_calls(j);
    if (j && rc) j->failed = rc;
    for (unsigned i = 0; j && i < j->told->n; i++)
        if (j->told->of[i].id == me) j->told->of[i].gone = true;
    errno = saved;
}

/* ---- all threads ---- */

static void pause_ms(unsigned ms)
{
    const struct timespec t = { 0, ms * 1000000L };
    nanosleep(&t, NULL);
}

/* 1: it is new. 0: it is known. Or -errno. */
static int tids_add(struct tids *t, pid_t id)
{
    for (unsigned i = 0; i < t->n; i++)
        if (t->of[i].id == id) return 0;
    if (t->n == t->room) {
        struct tid *more = realloc(t->of, (t->room + 64) * sizeof *more);
        if (!more) return -ENOMEM;
        t->of = more;
        t->room += 64;
    }
    t->of[t->n].id = id;
    t->of[t->n++].gone = false;
    return 1;
}

/* All threads there are. Returns how many are new, or -errno. */
static int tids_find(struct tids *t)
{
    int n = 0, rc = 0;
    DIR *tasks = opendir("/proc/self/task");
    if (!tasks) return -errno;
    for (struct dirent *e; rc >= 0 && (e = readdir(tasks)); n += rc == 1) {
        pid_t tid = (pid_t)atoi(e->d_name);
        rc = tid > 0 ? tids_add(t, tid) : 0;
    }
    closedir(tasks);
    return rc < 0 ? rc : n;
}

/* How many of them are neither gone nor ended. One that ends takes its signal with it, unheard. */
static unsigned tids_left(struct tids *t, int sig)
{
    unsigned n = 0;
    for (unsigned i = 0; i < t->n; i++) {
        struct tid *one = &t->of[i];
        if (one->gone || !one->id) continue;
        if (syscall(SYS_tgkill, getpid(), one->id, sig)) one->id = 0;
        else n++;
    }
    return n;
}

/* One that was outside may have made another meanwhile: until there is no new one. The list only grows between rounds,
 * when nobody has it in hand. */
static int others_go(struct jail *j)
{
    struct tids told = { 0 };
    int rc = tids_add(&told, (pid_t)syscall(SYS_gettid));
    if (rc > 0) told.of[0].gone = true;
    j->told = &told;
    entering = j;
    for (unsigned waited = 0; rc >= 0 && (rc = tids_find(&told)) > 0;) {
        (void)tids_left(&told, THREAD_SIGNAL);
        while (tids_left(&told, 0) && waited++ < PATIENCE_MS) pause_ms(1);
        if (waited > PATIENCE_MS) rc = -ETIMEDOUT;
    }
    entering = NULL;
    free(told.of);
    return rc < 0 ? rc : j->failed;
}

int jail_enter_others(struct jail *j)
{
    struct sigaction sa = { .sa_handler = on_going, .sa_flags = SA_RESTART }, before;
    sigemptyset(&sa.sa_mask);
    if (sigaction(THREAD_SIGNAL, &sa, &before)) return -errno;
    int rc = others_go(j);
    return sigaction(THREAD_SIGNAL, &before, NULL) && !rc ? -errno : rc;
}

/* ---- the process ---- */

bool jail_has_filters(void)
{
    const u32 action = SECCOMP_RET_TRAP;
    return !syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action);
}

static void descriptors_close(void)
{
    DIR *all = opendir("/proc/self/fd");
    for (struct dirent *e; all && (e = readdir(all));) {
        int fd = atoi(e->d_name), flags = fd > STDERR_FILENO ? fcntl(fd, F_GETFD) : -1;
        if (flags >= 0 && !(flags & FD_CLOEXEC)) close(fd);
    }
    if (all) closedir(all);
}

/* malloc() looks into /sys for how many processors there are, when there are many threads: it is told now. free() looks
 * into /proc before it makes a heap smaller whose end is free: it leaves that. Large pieces have no place in heaps. */
static void heaps_settle(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    mallopt(M_ARENA_MAX, 8 * (int)(n > 0 ? n : 1)); /* what it would come to by itself */
    mallopt(M_TRIM_THRESHOLD, -1);
}

int jail_process(void)
{
    descriptors_close();
    heaps_settle();
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) ? -errno : 0;
}

int jail_new(struct jail **out, const struct jail_config *cfg)
{
    struct jail *j = calloc(1, sizeof *j);
    if (!j) return -ENOMEM;
    j->cfg = *cfg;
    int rc = cfg->filters ? handler_set() : 0;
    for (unsigned i = 0; i < THREAD_ROLES && cfg->filters && !rc; i++) rc = jail_filter_make(&j->filter[i], i);
    if (!rc) {
        *out = j;
        return 0;
    }
    for (unsigned i = 0; i < THREAD_ROLES; i++) free(j->filter[i].code);
    free(j);
    return rc;
}
