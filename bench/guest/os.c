/* What the kernel's services cost, seen from a process. All processes of one measurement share a processor: a wake-up
 * across processors is another thing. */
#define _GNU_SOURCE
#include "bench.h"
#include <signal.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096 };

static uint64_t getppid_int80(unsigned n)
{
    uint64_t start = now_ns();
    long want = getppid(), got;

    for (unsigned i = 0; i < n; i++) {
        __asm__ volatile("int $0x80" : "=a"(got) : "0"(SYS_getppid) : "memory");
        if (got != want) die("wrong parent");
    }
    return now_ns() - start;
}

static uint64_t getppid_sysenter(unsigned n)
{
    unsigned long entry = getauxval(AT_SYSINFO);
    uint64_t start = now_ns();
    long want = getppid(), got;

    if (!entry) die("the kernel offers no AT_SYSINFO entry");
    for (unsigned i = 0; i < n; i++) {
        __asm__ volatile("call *%1" : "=a"(got) : "r"(entry), "0"(SYS_getppid) : "memory");
        if (got != want) die("wrong parent");
    }
    return now_ns() - start;
}

static uint64_t pagefault(unsigned n)
{
    uint64_t total = 0;
    unsigned left = n;

    while (left > 0) {
        unsigned pages = left < 4096 ? left : 4096;
        volatile char *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        uint64_t start;

        if (p == MAP_FAILED) die("mmap");
        start = now_ns();
        for (unsigned i = 0; i < pages; i++) p[i * PAGE] = 1;
        total += now_ns() - start;
        munmap((void *)p, pages * PAGE);
        left -= pages;
    }
    return total;
}

static volatile char *guarded;
static volatile unsigned faults;

static void on_segv(int sig)
{
    (void)sig;
    faults++;
    if (mprotect((void *)guarded, PAGE, PROT_READ | PROT_WRITE) != 0) _exit(1);
}

static uint64_t mprotect_cycle(unsigned n)
{
    struct sigaction sa = { .sa_handler = on_segv };
    uint64_t start;

    guarded = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (guarded == MAP_FAILED) die("mmap");
    *guarded = 1;
    sigaction(SIGSEGV, &sa, NULL);
    faults = 0;
    start = now_ns();
    for (unsigned i = 0; i < n; i++) {
        mprotect((void *)guarded, PAGE, PROT_READ);
        *guarded = 2;
    }
    start = now_ns() - start;
    if (faults != n) die("a write to a read-only page did not fault");
    signal(SIGSEGV, SIG_DFL);
    munmap((void *)guarded, PAGE);
    return start;
}

static void wait_for(pid_t child)
{
    int status;

    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) die("child failed");
}

static uint64_t fork_wait(unsigned n)
{
    uint64_t start = now_ns();

    for (unsigned i = 0; i < n; i++) {
        pid_t child = fork();
        if (child == 0) _exit(0);
        wait_for(child);
    }
    return now_ns() - start;
}

/* Adams & Agesen's: 40,000 processes. */
void bench_forkwait(unsigned units)
{
    (void)units;
    report("forkwait", (double)fork_wait(40000) / 1e6, "ms");
}

static uint64_t exec_wait(unsigned n)
{
    uint64_t start = now_ns();

    for (unsigned i = 0; i < n; i++) {
        pid_t child = vfork();
        if (child == 0) {
            execl("/proc/self/exe", "bench", "--exit", (char *)NULL);
            _exit(127);
        }
        wait_for(child);
    }
    return now_ns() - start;
}

/* A token goes n times around a ring of processes joined by pipes. Returns the ns for all rounds. */
static uint64_t ring(unsigned processes, unsigned n)
{
    int pipes[8][2];
    pid_t child[8];
    uint64_t start;
    char token = 'x';

    share_one_processor();
    for (unsigned i = 0; i < processes; i++)
        if (pipe(pipes[i]) != 0) die("pipe");
    for (unsigned i = 1; i < processes; i++) {
        child[i] = fork();
        if (child[i] == 0) {
            for (unsigned k = 0; k < n; k++)
                if (read(pipes[i - 1][0], &token, 1) != 1 || write(pipes[i][1], &token, 1) != 1) _exit(1);
            _exit(0);
        }
    }
    start = now_ns();
    for (unsigned k = 0; k < n; k++)
        if (write(pipes[0][1], &token, 1) != 1 || read(pipes[processes - 1][0], &token, 1) != 1) die("token lost");
    start = now_ns() - start;
    for (unsigned i = 0; i < processes; i++) {
        close(pipes[i][0]);
        close(pipes[i][1]);
        if (i > 0) wait_for(child[i]);
    }
    return start;
}

static uint64_t pipe_pingpong(unsigned n) { return ring(2, n); }

/* One hop in a ring of eight: one read, one write, one switch to another address space. */
static uint64_t switches(unsigned n) { return ring(8, n / 8 + 1) * n / (8 * (n / 8 + 1)); }

static volatile unsigned signals;

static void on_usr1(int sig)
{
    (void)sig;
    signals++;
}

static uint64_t signal_self(unsigned n)
{
    struct sigaction sa = { .sa_handler = on_usr1 };
    pid_t self = getpid();
    uint64_t start;

    sigaction(SIGUSR1, &sa, NULL);
    signals = 0;
    start = now_ns();
    for (unsigned i = 0; i < n; i++) kill(self, SIGUSR1);
    start = now_ns() - start;
    if (signals != n) die("a signal was lost");
    return start;
}

#define BENCH(fn, first, body)      \
    void bench_##fn(unsigned units) \
    {                               \
        (void)units;                \
        measure(#fn, first, body);  \
    }
BENCH(getppid_sysenter, 10000, getppid_sysenter)
BENCH(getppid_int80, 10000, getppid_int80)
BENCH(pagefault, 1000, pagefault)
BENCH(mprotect, 500, mprotect_cycle)
BENCH(fork, 10, fork_wait)
BENCH(exec, 10, exec_wait)
BENCH(pipe, 100, pipe_pingpong)
BENCH(signal, 1000, signal_self)
BENCH(ctxsw, 200, switches)
