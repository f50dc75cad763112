/* What a stop of direct execution costs beside the bare ptrace round trip: medians of interleaved batches, one line.
 *
 *   dx_stop_ns value ns   bare_ns value ns   ratio_bare value
 *
 * The process runs INT 80h over and over. Bare: PTRACE_SYSEMU and waitpid() alone; the other: registers in and out as
 * well, and the stop told apart, as direct.c needs it. */
#define _GNU_SOURCE
#include "runtime/direct/dx_process.h"

#include <string.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BATCHES 21
#define BATCH 200
#define CODE 0x08048000u

static u64 now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000000000u + (u64)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v)
{
    qsort(v, BATCHES, sizeof *v, by_value);
    return v[BATCHES / 2];
}

static double bare(struct dx *dx)
{
    int status;
    u64 begin = now_ns();
    for (unsigned i = 0; i < BATCH; i++) {
        ptrace(31 /* PTRACE_SYSEMU */, dx_tid(dx), NULL, NULL);
        waitpid(dx_tid(dx), &status, __WALL);
    }
    return (double)(now_ns() - begin) / BATCH;
}

static double whole(struct dx *dx, struct dx_regs *r)
{
    struct dx_stop stop;
    u64 begin = now_ns();
    for (unsigned i = 0; i < BATCH; i++) {
        r->eip = CODE;
        dx_run(dx, r, &stop);
    }
    return stop.why == DX_SYSCALL ? (double)(now_ns() - begin) / BATCH : -1;
}

int main(void)
{
    static const u8 loop[] = { 0xcd, 0x80, 0xeb, 0xfc };
    struct dx *dx;
    const char *why;
    double b[BATCHES], w[BATCHES];
    int ram = memfd_create("ram", MFD_CLOEXEC);
    if (ram < 0 || ftruncate(ram, PAGE_SIZE) || pwrite(ram, loop, sizeof loop, 0) != sizeof loop
        || dx_new(&dx, NULL, ram, false, &why)) {
        fprintf(stderr, "dx_stop: %s\n", ram < 0 ? "no memory file" : why);
        return 1;
    }
    dx_map(dx, CODE >> PAGE_SHIFT, 1, PROT_READ | PROT_EXEC, 0);
    if (dx_commit(dx)) return 1;
    dx_pin(dx, sched_getcpu());
    struct dx_regs r = { .eip = CODE, .eflags = F_IF | F_FIXED, .null = { [S_FS] = true, [S_GS] = true } };
    for (unsigned i = 0; i < BATCHES; i++) {
        w[i] = whole(dx, &r);
        b[i] = bare(dx);
    }
    double mw = median(w), mb = median(b);
    printf("dx_stop_ns %.0f bare_ns %.0f ratio_bare %.3f\n", mw, mb, mw / mb);
    dx_free(dx);
    return 0;
}
