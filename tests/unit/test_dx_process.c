/* The direct-execution process by itself: what is mapped is there, registers go in and come out, every stop is told
 * apart, and nothing is left behind. On a host that runs no 32-bit code: that it says so, and leaves nothing behind. */
#define _GNU_SOURCE
#include "runtime/direct/dx_birth.h"
#include "runtime/direct/dx_process.h"

#include <check.h>
#include <cpuid.h>
#include <cpuid.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CODE 0x08048000u
#define DATA 0x09000000u
#define PAGE(la) ((la) >> PAGE_SHIFT)

static int ram;
static u8 *view; /* page 0: code; pages 1 to 15: data */
static struct dx *dx;
static struct dx_maker *maker; /* NULL: the test's own thread makes the processes */
static bool able;

static void ram_new(void)
{
    ram = memfd_create("ram", MFD_CLOEXEC);
    ck_assert_int_ge(ram, 0);
    ck_assert_int_eq(ftruncate(ram, 16 * PAGE_SIZE), 0);
    view = mmap(NULL, 16 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, ram, 0);
    ck_assert_ptr_ne(view, MAP_FAILED);
}

static void map_first(void)
{
    dx_map(dx, PAGE(CODE), 1, PROT_READ | PROT_EXEC, 0);
    dx_map(dx, PAGE(DATA), 2, PROT_READ | PROT_WRITE, PAGE_SIZE);
    ck_assert_uint_eq(dx_waiting(dx), 2);
    ck_assert_int_eq(dx_commit(dx), 0);
    ck_assert_uint_eq(dx_waiting(dx), 0);
}

static void setup(void)
{
    const char *why;
    ram_new();
    int err = dx_new(&dx, NULL, ram, false, &why);
    ck_assert_msg(!err, "%s", why);
    map_first();
}
static void teardown(void)
{
    dx_free(dx);
    munmap(view, 16 * PAGE_SIZE);
    close(ram);
}

/* The maker has the descriptor of guest RAM, so it is made for one RAM. */
static void setup_made(void)
{
    const char *why;
    ram_new();
    int err = dx_maker_new(&maker, ram, &why);
    ck_assert_msg(!err, "%s", why);
    err = dx_new(&dx, maker, ram, false, &why);
    ck_assert_msg(!err, "%s", why);
    map_first();
}
static void teardown_made(void)
{
    teardown();
    dx_maker_free(maker);
    maker = NULL;
}

static struct dx_regs fresh(void)
{
    struct dx_regs r = { .gpr = { 1, 2, 3, 4, DATA + 0x1800, 6, 7, 8 }, .eip = CODE, .eflags = F_IF | F_FIXED };
    r.null[S_FS] = r.null[S_GS] = true;
    return r;
}
static void code(const char *hex)
{
    unsigned v, at = 0;
    memset(view, 0xf4, PAGE_SIZE);
    for (int n; sscanf(hex, "%x%n", &v, &n) == 1; hex += n) view[at++] = (u8)v;
}
static struct dx_stop run(const char *hex, struct dx_regs *r)
{
    struct dx_stop stop;
    code(hex);
    dx_run(dx, r, &stop);
    return stop;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* How many there are, zombies too; each is sent signo, if not 0, as soon as it is seen. */
static unsigned children(pid_t of, int signo)
{
    unsigned n = 0;
    char path[64];
    DIR *d = opendir("/proc");
    for (struct dirent *e; d && (e = readdir(d));) {
        int parent = 0;
        snprintf(path, sizeof path, "/proc/%.20s/stat", e->d_name);
        FILE *f = e->d_name[0] > '0' && e->d_name[0] <= '9' ? fopen(path, "r") : NULL;
        bool found = f && fscanf(f, "%*d (%*[^)]) %*c %d", &parent) == 1 && parent == of;
        if (found && signo) kill(atoi(e->d_name), signo);
        if (f) fclose(f);
        n += found;
    }
    if (d) closedir(d);
    return n;
}

START_TEST(a_host_that_cannot_says_so_and_keeps_nothing)
{
    const char *why = NULL;
    struct dx *d = NULL;
    ram_new();
    unsigned before = children(getpid(), 0);
    int err = dx_new(&d, NULL, ram, false, &why);
    if (able) {
        ck_assert_int_eq(err, 0);
        ck_assert_uint_eq(children(getpid(), 0), before + 2);
        ck_assert_uint_gt(dx_round_trip_ns(d), 0);
        dx_free(d);
    } else {
        ck_assert_int_eq(err, -ENOTSUP);
        if (strcmp(why, "direct: PTRACE_SYSEMU is refused"))
            ck_assert_str_eq(why, "direct: the host runs no 32-bit code");
    }
    ck_assert_uint_eq(children(getpid(), 0), before);
}
END_TEST

/* RDTSC and then HLT, which faults: which of the two stops it? */
START_TEST(rdtsc_stops_it_where_the_guest_has_a_counter_of_its_own)
{
    const char *why;
    dx_free(dx);
    ck_assert_int_eq(dx_new(&dx, maker, ram, _i, &why), 0);
    dx_map(dx, PAGE(CODE), 1, PROT_READ | PROT_EXEC, 0);
    ck_assert_int_eq(dx_commit(dx), 0);
    struct dx_regs r = fresh();
    struct dx_stop stop = run("90 0f 31 f4", &r);
    ck_assert_int_eq(stop.why, DX_OTHER);
    ck_assert_uint_eq(r.eip, CODE + (_i ? 1 : 3));
    if (_i) ck_assert_uint_eq(r.gpr[G_EAX], 1);
}
END_TEST

static unsigned descriptors(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d)) n++;
    if (d) closedir(d);
    return n;
}

static long pages_mapped(void)
{
    long n = -1;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%ld", &n) != 1) n = -1;
    if (f) fclose(f);
    return n;
}

/* A monitor that does nothing but make processes, for so many seconds, or for ever. Its status is the sum of: a process
 * is left behind, not every one came to what the first one did, descriptors are left, memory is. */
enum { LEFT_PROCESS = 1, FAILED_SOME = 2, LEFT_DESCRIPTOR = 4, LEFT_MEMORY = 8 };
static pid_t monitor(double seconds)
{
    const char *why;
    struct dx *d;
    pid_t pid = fork();
    if (pid) { /* the other one asserts nothing: it would write to the same pipe */
        ck_assert_int_gt(pid, 0);
        return pid;
    }
    setpgid(0, 0);
    bool all = true;
    unsigned fds = descriptors();
    long pages = pages_mapped();
    for (double end = now() + seconds; seconds == 0 || now() < end;) {
        int err = dx_new(&d, NULL, ram, false, &why);
        if (!err) dx_free(d);
        all &= err == (able ? 0 : -ENOTSUP);
    }
    _exit((children(getpid(), 0) ? LEFT_PROCESS : 0) + (all ? 0 : FAILED_SOME)
          + (descriptors() != fds ? LEFT_DESCRIPTOR : 0) + (pages_mapped() > pages + 64 ? LEFT_MEMORY : 0)); /* 64: the
                                                                                                                heap's
                                                                                                              */
}

/* Its status, or -1 if it does not end; then it is killed. */
static int end_of(pid_t pid, double seconds)
{
    int status;
    for (double end = now() + seconds; !waitpid(pid, &status, WNOHANG); usleep(1000)) {
        if (now() < end) continue;
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        return -1;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

START_TEST(one_that_is_stopped_at_its_birth_holds_nobody)
{
    ram_new();
    pid_t pid = monitor(2);
    setpgid(pid, pid);
    for (double end = now() + 2; now() < end; usleep(100 + (unsigned)rand() % 200)) {
        kill(-pid, SIGSTOP); /* whoever is there, at whatever step; and then the monitor alone goes on */
        kill(pid, SIGCONT);
    }
    kill(pid, SIGCONT);
    ck_assert_int_eq(end_of(pid, 20) & ~FAILED_SOME, 0);
}
END_TEST

/* In QEMU's TCG, where tests/nested runs this, so few processes are made that none need be met. */
static bool host_is_emulated(void)
{
    unsigned a, b = 0, c = 0, d = 0;
    __cpuid(0x40000000, a, b, c, d);
    return b == 0x54474354 && c == 0x43544743 && d == 0x47435447; /* "TCGTCGTCGTCG" */
}

START_TEST(one_that_is_killed_at_its_birth_is_buried)
{
    ram_new();
    int status = 0;
    unsigned met = 0;
    for (unsigned tries = 0; tries < 8 && !status; tries++) { /* until one has been met: a slow host makes few */
        void (*before)(int) = signal(SIGCHLD, _i ? SIG_IGN : SIG_DFL); /* ignored, it lets the kernel bury them, and
                                                                          their pids are free at once */
        pid_t pid = monitor(3);
        signal(SIGCHLD, before);
        for (double end = now() + 3; now() < end;) met += children(pid, SIGKILL);
        status = end_of(pid, 20);
    }
    ck_assert_int_eq(status & ~FAILED_SOME, 0);
    if (able && !host_is_emulated())
        ck_assert_msg(status == FAILED_SOME, "%u processes were sent SIGKILL, and none failed to be made", met);
}
END_TEST

START_TEST(one_whose_monitor_is_killed_at_its_birth_dies)
{
    ram_new();
    ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0); /* orphans are ours */
    for (unsigned i = 0; i < 100; i++) {
        pid_t pid = monitor(0);
        usleep(1000 + (unsigned)rand() % 4000);
        kill(pid, SIGKILL);
    }
    pid_t r;
    for (double end = now() + 10; (r = waitpid(-1, NULL, WNOHANG | __WALL)) >= 0;) {
        if (r) continue;
        ck_assert_msg(now() < end, "%u are still there", children(getpid(), 0));
        usleep(1000);
    }
}
END_TEST

START_TEST(registers_go_in_and_come_out)
{
    struct dx_regs r = fresh();
    r.eflags |= F_DF | F_CF;
    struct dx_stop s = run("05 10 00 00 00 41 87 d3 a3 00 00 00 09 cd 80", &r); /* add eax,16; inc ecx; xchg edx,ebx;
                                                                                   mov [DATA],eax; int 80h */
    ck_assert_int_eq(s.why, DX_SYSCALL);
    ck_assert_uint_eq(r.gpr[G_EAX], 17);
    ck_assert_uint_eq(r.gpr[G_ECX], 3);
    ck_assert_uint_eq(r.gpr[G_EDX], 4);
    ck_assert_uint_eq(r.gpr[G_EBX], 3);
    ck_assert_uint_eq(r.gpr[G_ESP], DATA + 0x1800);
    ck_assert_uint_eq(r.eip, CODE + 15);
    ck_assert_uint_eq(r.eflags & (F_DF | F_CF | F_IF), F_DF | F_IF);
    ck_assert_uint_eq(r.changed, 0);
    ck_assert_uint_eq(*(u32 *)(view + PAGE_SIZE), 17);
}
END_TEST

/* One kind of stop for each way out. off: where EIP is then. */
/* clang-format off */
static const struct { const char *hex; enum dx_why why; u32 addr, off; bool step; } stops[] = {
    { "cd 80", DX_SYSCALL, 0, 2, false },
    { "a1 00 00 00 70", DX_FAULT, 0x70000000, 0, false },        /* mov eax, [70000000h] */
    { "a3 00 80 04 08", DX_FAULT, CODE, 0, false },              /* a write to the code */
    { "ff 25 00 00 00 09", DX_FAULT, 0, 0, false },              /* jmp [DATA], which is 0; EIP is checked below */
    { "f4", DX_OTHER, 0, 0, false }, { "cd 21", DX_OTHER, 0, 0, false }, { "0f 0b", DX_OTHER, 0, 0, false },
    { "ec", DX_OTHER, 0, 0, false },
    { "31 c9 f7 f1", DX_OTHER, 0, 2, false },                    /* div by zero */
    { "62 05 00 00 00 09", DX_OTHER, 0, 0, false },              /* bound eax, [DATA]: 1 is not in 0..0 */
    { "cc", DX_TRAP, 0, 1, false },
    { "9c 81 0c 24 00 01 00 00 9d 90 90", DX_TRAP, 0, 10, true }, /* pushf; or [esp], TF; popf; nop */
    { "ea 00 00 00 00 33 00", DX_ESCAPED, 0, 0, false },         /* jmp 33h:0: 64-bit code, at once in a page fault */
};
/* clang-format on */

START_TEST(every_stop_is_told_apart)
{
    struct dx_regs r = fresh();
    memset(view + PAGE_SIZE, 0, 8);
    struct dx_stop s = run(stops[_i].hex, &r);
    ck_assert_msg(s.why == stops[_i].why, "%s: %d", stops[_i].hex, s.why);
    if (s.why == DX_FAULT) ck_assert_msg(s.addr == stops[_i].addr, "%s: %08x", stops[_i].hex, s.addr);
    ck_assert_int_eq(s.step, stops[_i].step);
    u32 eip = stops[_i].hex[0] == 'f' && stops[_i].hex[1] == 'f' ? 0 : CODE + stops[_i].off;
    if (s.why != DX_ESCAPED) ck_assert_msg(r.eip == eip, "%s: eip %08x", stops[_i].hex, r.eip);
}
END_TEST

static bool has_protection_keys(void)
{
    u32 a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && c & 1u << 4; /* OSPKE */
}

START_TEST(what_may_be_executed_only_runs_and_is_sealed_to_reads_and_writes)
{
    static const struct {
        const char *hex;
        enum dx_why why;
        u32 off;
    } cases[] = {
        { "b8 2a 00 00 00 cd 80", DX_SYSCALL, 7 }, /* mov eax, 42 */
        { "90 a1 00 80 04 08", DX_SEALED, 1 },     /* mov eax, [CODE] */
        { "90 a3 00 80 04 08", DX_SEALED, 1 },     /* mov [CODE], eax */
        { "b8 2a 00 00 00 f4", DX_OTHER, 5 },      /* hlt */
        { "a1 00 00 00 09 cd 80", DX_SYSCALL, 7 }, /* other pages are as they were */
    };
    if (!has_protection_keys()) return; /* there PROT_EXEC alone can be read, and direct.c makes no such page */
    dx_map(dx, PAGE(CODE), 1, PROT_EXEC, 0);
    ck_assert_int_eq(dx_commit(dx), 0);
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct dx_regs r = fresh();
        struct dx_stop s = run(cases[i].hex, &r);
        ck_assert_msg(s.why == cases[i].why, "%s: %d", cases[i].hex, s.why);
        ck_assert_msg(r.eip == CODE + cases[i].off, "%s: eip %08x", cases[i].hex, r.eip);
        if (s.why == DX_SEALED) ck_assert_uint_eq(s.addr, CODE);
    }
}
END_TEST

START_TEST(gs_addresses_what_its_descriptor_says)
{
    struct dx_regs r = fresh();
    *(u32 *)(view + PAGE_SIZE + 0x114) = 0xcafe;
    r.null[S_GS] = false;
    r.gs = (struct dx_seg){ 0x33, DATA + 0x100, 0x1ff, true };
    ck_assert_int_eq(run("65 a1 14 00 00 00 cd 80", &r).why, DX_SYSCALL);
    ck_assert_uint_eq(r.gpr[G_EAX], 0xcafe);
    r.eip = CODE;
    r.gs.base = DATA + 0x110; /* changes take effect */
    ck_assert_int_eq(run("65 a1 04 00 00 00 cd 80", &r).why, DX_SYSCALL);
    ck_assert_uint_eq(r.gpr[G_EAX], 0xcafe);
    r.eip = CODE;
    r.null[S_GS] = true;
    ck_assert_int_ne(run("65 a1 04 00 00 00 cd 80", &r).why, DX_SYSCALL); /* #GP; QEMU knows no null selectors: page
                                                                             fault */
    ck_assert_uint_eq(r.eip, CODE);
}
END_TEST

START_TEST(a_selector_that_code_loads_is_noticed)
{
    struct dx_regs r = fresh();
    ck_assert_int_eq(run("66 b8 00 00 8e d8 cd 80", &r).why, DX_SYSCALL); /* mov ds, 0 */
    ck_assert_uint_eq(r.changed, 1 << S_DS);
    ck_assert_uint_eq(r.loaded[S_DS], 0);
}
END_TEST

START_TEST(x87_and_sse_state_go_in_and_come_out)
{
    struct dx_regs r = fresh();
    struct fxstate fx = { .fcw = 0x27f, .mxcsr = 0x1fa0, .mxcsr_mask = 0xffff };
    for (unsigned i = 0; i < 8; i++) memset(fx.xmm[i], (int)(0x10 + i), 16);
    ck_assert_int_eq(dx_set_fx(dx, &fx), 0);
    ck_assert_int_eq(run("0f 28 c1 d9 e8 cd 80", &r).why, DX_SYSCALL); /* movaps xmm0, xmm1; fld1; int 80h */
    ck_assert_int_eq(dx_get_fx(dx, &fx), 0);
    ck_assert_uint_eq(fx.fcw, 0x27f);
    ck_assert_uint_eq(fx.mxcsr, 0x1fa0);
    ck_assert_uint_eq(fx.xmm[0][5], 0x11);
    ck_assert_uint_eq(fx.xmm[7][15], 0x17);
    ck_assert_uint_eq(fx.ftw, 0x80);
    ck_assert_uint_eq(fx.st[0][9], 0x3f);         /* 1.0 */
    ck_assert(fx.fip == 0 || fx.fip == CODE + 3); /* no exception is pending: not all hosts give it */
}
END_TEST

static bool processor_is_qemu(void)
{
    unsigned a, b = 0, c = 0, d = 0;
    __cpuid(0x40000000, a, b, c, d);
    return b == 0x54474354 && c == 0x43544743 && d == 0x47435447; /* "TCGTCGTCGTCG" */
}

START_TEST(the_pointers_of_an_x87_exception_come_out_and_selectors_stay)
{
    struct dx_regs r = fresh();
    struct fxstate fx = { .fcw = 0x37b, .mxcsr = 0x1f80, .fcs = 0x73, .fds = 0x7b };
    memset(view + PAGE_SIZE, 0, 16);
    ck_assert_int_eq(dx_set_fx(dx, &fx), 0);
    r.gpr[G_EBX] = DATA;
    ck_assert_int_eq(run("d9 e8 90 dc 33 90 9b cd 80", &r).why, DX_OTHER); /* fld1; fdiv qword [ebx]; fwait: #MF */
    ck_assert_uint_eq(r.eip, CODE + 6);
    ck_assert_int_eq(dx_get_fx(dx, &fx), 0);
    if (!processor_is_qemu() || fx.fip) { /* which may not have them */
        ck_assert_uint_eq(fx.fip, CODE + 3);
        ck_assert_uint_eq(fx.fop, 0x433);
        ck_assert_uint_eq(fx.fdp, DATA);
    }
    ck_assert_uint_eq(fx.fcs, 0x73);
    ck_assert_uint_eq(fx.fds, 0x7b);
}
END_TEST

START_TEST(more_mappings_than_a_list_holds_are_made_in_several)
{
    struct dx_regs r = fresh();
    for (u32 i = 0; i < 200; i++) dx_map(dx, PAGE(0x20000000) + 2 * i, 1, PROT_READ, (1 + i % 15) * PAGE_SIZE);
    ck_assert_int_eq(dx_commit(dx), 0);
    view[15 * PAGE_SIZE] = 0x5a;
    ck_assert_int_eq(run("0f b6 05 00 c0 01 20 cd 80", &r).why, DX_SYSCALL); /* page 14 of them */
    ck_assert_uint_eq(r.gpr[G_EAX], 0x5a);
    dx_unmap(dx, PAGE(0x20000000), 400);
    dx_protect(dx, PAGE(DATA), 1, PROT_READ);
    ck_assert_int_eq(dx_commit(dx), 0);
    r.eip = CODE;
    ck_assert_int_eq(run("a1 00 c0 01 20", &r).why, DX_FAULT);
    r.eip = CODE;
    ck_assert_int_eq(run("a3 00 00 00 09", &r).why, DX_FAULT);
}
END_TEST

START_TEST(a_mapping_that_the_host_refuses_ends_it)
{
    dx_map(dx, PAGE(DATA), 1, PROT_READ, 0x123); /* not a page's offset */
    ck_assert_int_lt(dx_commit(dx), 0);
    ck_assert_int_lt(dx_commit(dx), 0);
}
END_TEST

/* The mapper's filter: a list that somebody else had written does not reach anything but guest RAM below 4 GiB. */
static const struct {
    u32 page, n;
    int prot;
} forbidden[] = {
    { TLB_PAGES, 1, PROT_READ },     /* at 4 GiB */
    { TLB_PAGES - 1, 2, PROT_READ }, /* across */
    { 0x7fff0000, 1, PROT_READ },    /* far above */
    { PAGE(DATA), 1, PROT_READ | PROT_WRITE | PROT_EXEC },
    { PAGE(DATA), 1, PROT_WRITE | PROT_EXEC },
    { PAGE(DATA), 1, PROT_READ | 8 },
};
START_TEST(what_is_not_a_mapping_of_ram_below_4_gib_kills_the_mapper)
{
    dx_map(dx, forbidden[_i].page, forbidden[_i].n, forbidden[_i].prot, 0);
    ck_assert_int_eq(dx_commit(dx), -ESRCH);
}
END_TEST

START_TEST(protection_and_removal_are_filtered_as_well)
{
    if (_i == 0) dx_protect(dx, PAGE(DATA), 1, PROT_READ | PROT_WRITE | PROT_EXEC);
    if (_i == 1) dx_protect(dx, TLB_PAGES, 1, PROT_READ);
    if (_i == 2) dx_unmap(dx, TLB_PAGES, 1);
    if (_i == 3) dx_unmap(dx, 1, TLB_PAGES);
    ck_assert_int_eq(dx_commit(dx), -ESRCH);
}
END_TEST

START_TEST(all_of_the_4_gib_can_be_unmapped)
{
    dx_unmap(dx, 0, TLB_PAGES);
    ck_assert_int_eq(dx_commit(dx), 0);
    dx_protect(dx, 0, TLB_PAGES, PROT_NONE); /* nothing there: refused by the kernel, not by the filter */
    ck_assert_int_eq(dx_commit(dx), -ENOMEM);
}
END_TEST

/* "Name:" of /proc/PID/status, its n-th number in base; -1: there is none. */
static long long status_of(pid_t pid, const char *name, unsigned n, int base)
{
    char path[64], line[256];
    long long v = -1;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        char *p = line + strlen(name);
        if (strncmp(line, name, strlen(name))) continue;
        for (unsigned i = 0; i <= n; i++) v = strtoll(p, &p, base);
    }
    if (f) fclose(f);
    return v;
}

START_TEST(both_tasks_are_nobody_and_may_nothing)
{
    pid_t both[2] = { dx_tid(dx), -1 };
    DIR *dir = opendir("/proc");
    for (struct dirent *e; (e = readdir(dir));) { /* the mapper: our other child */
        pid_t pid = atoi(e->d_name);
        if (pid > 0 && pid != both[0] && status_of(pid, "PPid:", 0, 10) == getpid()) both[1] = pid;
    }
    closedir(dir);
    ck_assert_int_gt(both[1], 0);
    for (unsigned i = 0; i < 2; i++) {
        static const char *const sets[] = { "CapInh:", "CapPrm:", "CapEff:", "CapAmb:" };
        for (unsigned k = 0; k < 4; k++) ck_assert_int_eq(status_of(both[i], sets[k], 0, 16), 0);
        if (geteuid()) continue;
        for (unsigned k = 0; k < 4; k++) {
            ck_assert_int_eq(status_of(both[i], "Uid:", k, 10), 65534);
            ck_assert_int_eq(status_of(both[i], "Gid:", k, 10), 65534);
        }
        ck_assert_int_eq(status_of(both[i], "NoNewPrivs:", 0, 10), 1);
    }
}
END_TEST

START_TEST(one_that_is_killed_is_reported_and_can_be_freed)
{
    struct dx_regs r = fresh(), before = r;
    struct dx_stop s;
    struct fxstate fx = { .mxcsr = 0x1f80 };
    kill(dx_tid(dx), SIGKILL);
    usleep(20000);
    dx_run(dx, &r, &s);
    ck_assert_int_eq(s.why, DX_DIED);
    ck_assert(!s.ran);
    ck_assert_mem_eq(&r, &before, sizeof r);
    ck_assert_int_lt(dx_set_fx(dx, &fx), 0);
    ck_assert_int_lt(dx_get_fx(dx, &fx), 0);
}
END_TEST

struct kick {
    pid_t tid;
    int signo;
};

static void *kicker(void *arg)
{
    const struct kick *k = arg;
    usleep(50000);
    kill(k->tid, k->signo);
    return NULL;
}

START_TEST(one_that_is_killed_while_it_runs_has_run)
{
    struct dx_regs r = fresh(), before = r;
    struct kick k = { dx_tid(dx), SIGKILL };
    pthread_t t;
    ck_assert_int_eq(pthread_create(&t, NULL, kicker, &k), 0);
    struct dx_stop s = run("40 eb fd", &r); /* inc eax, for ever */
    pthread_join(t, NULL);
    ck_assert_int_eq(s.why, DX_DIED);
    ck_assert(s.ran);
    ck_assert_mem_eq(&r, &before, sizeof r);
}
END_TEST

static const int ends_a_mapper[] = { SIGKILL, SIGSTOP };

START_TEST(a_mapper_that_cannot_answer_is_given_up_soon)
{
    struct dx_regs r = fresh();
    struct dx_stop s;
    unsigned before = children(getpid(), 0);
    children(getpid(), ends_a_mapper[_i]); /* to the runner as well; if that is stopped it goes on */
    dx_map(dx, PAGE(DATA) + 4, 1, PROT_READ, 0);
    double begin = now();
    ck_assert_int_eq(dx_commit(dx), -ESRCH);
    ck_assert_msg(now() - begin < 2, "after %g s", now() - begin);
    ck_assert_int_eq(dx_commit(dx), -ESRCH);
    dx_run(dx, &r, &s);
    ck_assert_int_eq(s.why, DX_DIED);
    dx_free(dx);
    dx = NULL;
    ck_assert_uint_eq(children(getpid(), 0), before - 2);
}
END_TEST

START_TEST(what_a_terminal_sends_to_all_changes_nothing)
{
    struct dx_regs r = fresh();
    signal(SIGINT, SIG_IGN);
    kill(0, SIGINT); /* the test's process group: Check gives each test one */
    usleep(20000);
    dx_map(dx, PAGE(DATA) + 4, 1, PROT_READ, 0);
    ck_assert_int_eq(dx_commit(dx), 0);
    struct dx_stop s = run("eb fe", &r);
    ck_assert_int_eq(s.why, DX_KICKED); /* by that signal */
}
END_TEST

START_TEST(code_that_never_ends_is_stopped_by_a_signal)
{
    struct dx_regs r = fresh();
    struct kick k = { dx_tid(dx), dx_signo() };
    pthread_t t;
    ck_assert_int_eq(pthread_create(&t, NULL, kicker, &k), 0);
    ck_assert_int_eq(run("eb fe", &r).why, DX_KICKED);
    ck_assert_uint_eq(r.eip, CODE);
    pthread_join(t, NULL);
    kill(dx_tid(dx), SIGTERM); /* and whatever else somebody sends */
    ck_assert_int_eq(run("eb fe", &r).why, DX_KICKED);
}
END_TEST

START_TEST(a_64_bit_system_call_does_not_reach_the_host)
{
    struct dx_regs r = fresh();
    /* jmp 33h:next; next, 64-bit: mov eax, 39 (getpid); syscall */
    ck_assert_int_eq(run("ea 07 80 04 08 33 00 b8 27 00 00 00 0f 05", &r).why, DX_ESCAPED);
    ck_assert_uint_eq(r.eip, CODE + 14);
}
END_TEST

static TCase *on_a_capable_host(const char *name, void (*begin)(void), void (*end)(void))
{
    TCase *t = tcase_create(name);
    tcase_add_checked_fixture(t, begin, end);
    tcase_add_test(t, registers_go_in_and_come_out);
    tcase_add_loop_test(t, rdtsc_stops_it_where_the_guest_has_a_counter_of_its_own, 0, 2);
    tcase_add_loop_test(t, every_stop_is_told_apart, 0, ARRAY_LEN(stops));
    tcase_add_test(t, what_may_be_executed_only_runs_and_is_sealed_to_reads_and_writes);
    tcase_add_test(t, gs_addresses_what_its_descriptor_says);
    tcase_add_test(t, a_selector_that_code_loads_is_noticed);
    tcase_add_test(t, x87_and_sse_state_go_in_and_come_out);
    tcase_add_test(t, the_pointers_of_an_x87_exception_come_out_and_selectors_stay);
    tcase_add_test(t, more_mappings_than_a_list_holds_are_made_in_several);
    tcase_add_test(t, a_mapping_that_the_host_refuses_ends_it);
    tcase_add_loop_test(t, what_is_not_a_mapping_of_ram_below_4_gib_kills_the_mapper, 0, ARRAY_LEN(forbidden));
    tcase_add_loop_test(t, protection_and_removal_are_filtered_as_well, 0, 4);
    tcase_add_test(t, all_of_the_4_gib_can_be_unmapped);
    tcase_add_test(t, both_tasks_are_nobody_and_may_nothing);
    tcase_add_test(t, one_that_is_killed_is_reported_and_can_be_freed);
    tcase_add_test(t, one_that_is_killed_while_it_runs_has_run);
    tcase_add_loop_test(t, a_mapper_that_cannot_answer_is_given_up_soon, 0, ARRAY_LEN(ends_a_mapper));
    tcase_add_test(t, what_a_terminal_sends_to_all_changes_nothing);
    tcase_add_test(t, code_that_never_ends_is_stopped_by_a_signal);
    tcase_add_test(t, a_64_bit_system_call_does_not_reach_the_host);
    return t;
}

/* ---- the maker ---- */

START_TEST(a_maker_makes_children_of_the_thread_that_asked_and_dies_with_it)
{
    const char *why;
    unsigned before = children(getpid(), 0);
    ram_new();
    ck_assert_int_eq(dx_maker_new(&maker, ram, &why), 0);
    ck_assert_uint_eq(children(getpid(), 0), before + 1);
    for (unsigned i = 0; i < 20; i++) {
        int err = dx_new(&dx, maker, ram, false, &why);
        ck_assert_msg(!err, "%s", why);
        ck_assert_uint_eq(children(getpid(), 0), before + 3);
        dx_free(dx);
    }
    dx_maker_free(maker);
    ck_assert_uint_eq(children(getpid(), 0), before);
}
END_TEST

START_TEST(a_maker_that_cannot_answer_is_given_up_with_a_line)
{
    const char *why = "";
    unsigned fds = descriptors();
    ram_new();
    ck_assert_int_eq(dx_maker_new(&maker, ram, &why), 0);
    (void)children(getpid(), _i ? SIGSTOP : SIGKILL);
    double begin = now();
    ck_assert_int_eq(dx_new(&dx, maker, ram, false, &why), -EPERM);
    ck_assert_str_eq(why, "direct: somebody has stopped or killed the process that makes its processes");
    ck_assert_msg(now() - begin < 4, "it took %.1f s", now() - begin);
    dx_maker_free(maker);
    close(ram);
    ck_assert_uint_eq(descriptors(), fds);
}
END_TEST

static TCase *with_a_maker(void)
{
    TCase *t = tcase_create("the maker");
    tcase_add_test(t, a_maker_makes_children_of_the_thread_that_asked_and_dies_with_it);
    tcase_add_loop_test(t, a_maker_that_cannot_answer_is_given_up_with_a_line, 0, 2);
    return t;
}

int main(void)
{
    const char *why;
    int fd = memfd_create("ram", MFD_CLOEXEC);
    able = !dx_new(&dx, NULL, fd, false, &why);
    if (able) dx_free(dx);
    close(fd);
    Suite *s = suite_create("dx_process");
    TCase *plain = tcase_create("any host");
    tcase_add_test(plain, a_host_that_cannot_says_so_and_keeps_nothing);
    tcase_add_test(plain, one_that_is_stopped_at_its_birth_holds_nobody);
    tcase_add_loop_test(plain, one_that_is_killed_at_its_birth_is_buried, 0, 2);
    tcase_add_test(plain, one_whose_monitor_is_killed_at_its_birth_dies);
    suite_add_tcase(s, plain);
    if (able) suite_add_tcase(s, on_a_capable_host("made by the thread", setup, teardown));
    if (able) suite_add_tcase(s, on_a_capable_host("made by the maker", setup_made, teardown_made));
    if (able) suite_add_tcase(s, with_a_maker());
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
