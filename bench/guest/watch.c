/* A program under a debugger whose watchpoint is never met: what gdb's `watch` costs while nothing happens. */
#include "bench.h"
#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DR7_LE0_GE0_WRITE_4 = 0xd0101, WORDS = 64 };

static volatile unsigned watched;

/* Loads, stores and calls, none of them near what is watched. */
static __attribute__((noinline)) unsigned mix(volatile unsigned *words, unsigned i)
{
    words[i % WORDS] = words[(i + 1) % WORDS] * 3 + i;
    return words[i % WORDS];
}

static void work(unsigned n)
{
    volatile unsigned words[WORDS] = { 0 };
    unsigned sum = 0;
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL)) _exit(2);
    raise(SIGSTOP);
    for (unsigned i = 0; i < n; i++) sum += mix(words, i);
    words[0] = sum;
    _exit(0);
}

static uint64_t armed(unsigned n)
{
    int status;
    pid_t child = fork();
    if (!child) work(n);
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) die("no child to trace");
    if (ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg[0]), &watched)
        || ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg[7]), DR7_LE0_GE0_WRITE_4))
        die("the debug registers cannot be set");
    uint64_t start = now_ns();
    ptrace(PTRACE_CONT, child, NULL, NULL);
    if (waitpid(child, &status, 0) != child || status) die("the child did not come to its end");
    return now_ns() - start;
}

void bench_watch(unsigned units) { (void)units, measure("watch", 100000, armed); }
