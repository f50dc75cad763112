/* Runs translated code and checks it against itself. No reference is needed for three things that must hold of any
 * block:
 *
 *   E1  It makes no difference whether the soft TLB has an entry or a miss brings it: registers, flags, memory and FPU
 *       state come out the same, and so does the way out.
 *   E2  When the nth miss leaves for the interpreter instead, nothing of the instruction is committed: a block that
 *       starts at the recovered EIP ends in the same state. The same goes for faults in a window, and for a cold FPU.
 *   E3  Kicks, which come all the time, change nothing: not even the way out, since a block leaves at its end in any
 *       case.
 *   E4  A block that reaches memory through a window gives what it gives through the soft TLB, if it leaves in the same
 *       way.
 *
 * What the instructions do is tests/diff's business. Guest memory is eight pages, seen repeated through all 4 GiB.
 *
 *   fuzz_exec [--seed N] [--count N] [--from N] [--verbose] */
#define _GNU_SOURCE
#include "runtime/run/hostsig.h"
#include "runtime/mem/window.h"
#include "runtime/run/x87.h"
#include "tests/emit/xl_fixture.h"
#include "tests/fuzz/gen_guest.h"

#include <getopt.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int rt_enter(struct cpu *c, const void *code);
extern char rt_exit_jump[], rt_exit_chain[], rt_exit_emulate[], rt_stub_tlb[], rt_stub_fpu[], rt_stub_helper[],
    rt_stub_mov_sreg[];
u64 callout_tlb(struct cpu *c, laddr la, u64 desc);
int callout_fpu(struct cpu *c, u32 sse);

#define RAM_PAGES 8u
#define RAM_BYTES (RAM_PAGES * PAGE_SIZE)
#define MAX_FILLED 4096
#define RESERVED_BYTES (2 * WINDOW_GUARD + (1ull << 32))

struct state {
    u32 gpr[8], aflags;
    s32 df;
    u8 iflag;
    struct fxstate fx;
    u8 ram[RAM_BYTES];
};

/* How one run goes. */
struct run {
    int refuse; /* the number of the TLB miss, FPU load or helper call that leaves for the interpreter; -1: none */
    int misses; /* counted */
    enum exit_reason why;
    laddr eip; /* where it left: the target, or the instruction to be interpreted */
};

struct fuzz {
    struct xlf f[2];
    struct cpu *cpu;
    u8 *ram, *window, *reservation; /* the window has its guards in the reservation */
    int ram_fd;
    u64 *filled[MAX_FILLED];
    unsigned nfilled;
    u32 mapped[MAX_FILLED];
    unsigned nmapped;
    struct run run;
    struct rng rng;
    u64 seed, number, exits[8], compared;
    bool helper_done;
    struct {
        laddr eip;
        u32 mode;
        bool window;
        u8 code[GUEST_MAX];
        unsigned n;
        struct state in;
    } c;
};

/* Found from the callouts: they get struct cpu, whose rt is not a runtime here. */
static struct fuzz *fuzz_of(struct cpu *c) { return (struct fuzz *)c->rt; }

static u8 *ram_page(const struct fuzz *z, laddr la) { return z->ram + (la >> PAGE_SHIFT) % RAM_PAGES * PAGE_SIZE; }

/* Leaves nothing of value in any register that a C function may change. */
static void scramble(void)
{
    __asm__ volatile(
        "mov $-1, %%rax; mov %%rax, %%rcx; mov %%rax, %%rdx; mov %%rax, %%rsi; mov %%rax, %%rdi; mov %%rax, %%r8; mov "
        "%%rax, %%r9;"
        "mov %%rax, %%r10; mov %%rax, %%r11; movq %%rax, %%xmm0; movaps %%xmm0, %%xmm1; movaps %%xmm0, %%xmm2; movaps "
        "%%xmm0, %%xmm3;"
        "movaps %%xmm0, %%xmm4; movaps %%xmm0, %%xmm5; movaps %%xmm0, %%xmm6; movaps %%xmm0, %%xmm7; add $1, %%rax"
        :
        :
        : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5",
          "xmm6", "xmm7", "cc");
}

static bool refuse(struct fuzz *z)
{
    scramble();
    return z->run.misses++ == z->run.refuse;
}

u64 callout_tlb(struct cpu *c, laddr la, u64 desc)
{
    struct fuzz *z = fuzz_of(c);
    if ((la & ~PAGE_MASK) + TLB_DESC_SIZE(desc) > PAGE_SIZE) return 0;
    u64 *entry = &cpu_tlb(c, TLB_DESC_KIND(desc))[la >> PAGE_SHIFT];
    if (!*entry) {
        if (z->nfilled == MAX_FILLED || refuse(z)) return 0;
        z->filled[z->nfilled++] = entry;
        *entry = (u64)ram_page(z, la) - (la & PAGE_MASK);
    }
    return *entry;
}

int callout_fpu(struct cpu *c, u32 sse)
{
    (void)sse;
    if (refuse(fuzz_of(c))) return 0;
    if (!c->fpu_hot) x87_hot(c), c->fpu_hot = 2;
    c->sse_hot = 1;
    return 1;
}

/* Whatever the helper was to do, it does nothing: it says that it has, or asks for the interpreter. */
static int helper_goes_on(struct cpu *c, u32 arg)
{
    struct fuzz *z = fuzz_of(c);
    (void)arg;
    if (refuse(z) || !z->helper_done) return HELPER_EMULATE;
    return HELPER_DONE;
}

static int helper_leaves(struct cpu *c, u32 arg)
{
    (void)c, (void)arg;
    return HELPER_EMULATE;
}

static int (*helper_of(enum helper h))(struct cpu *, u32)
{
    switch (h) {
    case HELPER_IRET:
    case HELPER_INT:
    case HELPER_SYSENTER:
    case HELPER_SYSEXIT:
    case HELPER_STEP: return helper_leaves; /* nothing of the block comes after it */
    default: return helper_goes_on;
    }
}

/* ---- state ---- */

static void load(struct fuzz *z, const struct state *s)
{
    struct cpu *c = z->cpu;
    memcpy(c->gpr, s->gpr, sizeof c->gpr);
    c->aflags = s->aflags;
    c->df = s->df;
    c->iflag = s->iflag;
    c->fx = s->fx;
    memcpy(z->ram, s->ram, RAM_BYTES);
}

static void save(struct fuzz *z, struct state *s)
{
    const struct cpu *c = z->cpu;
    memset(s, 0, sizeof *s);
    memcpy(s->gpr, c->gpr, sizeof c->gpr);
    s->aflags = c->aflags & F_ARITH;
    s->df = c->df;
    s->iflag = c->iflag;
    s->fx = c->fx;
    memset(s->fx.rest, 0, sizeof s->fx.rest); /* XMM8 and up are nobody's */
    memcpy(s->ram, z->ram, RAM_BYTES);
}

static const char *differ(const struct state *a, const struct state *b)
{
    static const char *const name[8] = { "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi" };
    for (unsigned i = 0; i < 8; i++)
        if (a->gpr[i] != b->gpr[i]) return name[i];
    if (a->aflags != b->aflags) return "flags";
    if (a->df != b->df) return "DF";
    if (a->iflag != b->iflag) return "IF";
    if (memcmp(&a->fx, &b->fx, sizeof a->fx)) return "FPU state";
    return memcmp(a->ram, b->ram, RAM_BYTES) ? "memory" : NULL;
}

static void forget_tlb(struct fuzz *z)
{
    while (z->nfilled) *z->filled[--z->nfilled] = 0;
    while (z->nmapped)
        BUG_ON(mmap(z->window + ((u64)z->mapped[--z->nmapped] << PAGE_SHIFT), PAGE_SIZE, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0)
               == MAP_FAILED);
}

static void forget_code(struct fuzz *z)
{
    for (unsigned i = 0; i < 2; i++) {
        struct xl *xl = z->f[i].xl;
        xl_flush(xl);
        for (unsigned k = 0; k < xl->sites.cap; k++) xl->sites.slot[k] = (struct site){ 0 };
        xl->sites.used = xl->sites.soft = 0;
    }
}

/* ---- running ---- */

/* In a guard: the block is made anew, with an address that wraps around, the first time. */
static bool site_fault_again(struct fuzz *z, const struct xl_point *p)
{
    struct xl *xl = z->f[1].xl;
    if (site_get(&xl->sites, p->pa) != SITE_FITS) return false;
    xl_site_fault(xl, p->pa, true);
    return true;
}

static bool map_faulted(struct fuzz *z, const struct xl_point *point)
{
    bool write;
    u64 page = (hostsig_fault_addr(&write) - (u64)z->window) >> PAGE_SHIFT;
    if (page >= TLB_PAGES) return site_fault_again(z, point);
    if (z->nmapped == MAX_FILLED) return false;
    z->mapped[z->nmapped++] = (u32)page;
    void *p = mmap(z->window + (page << PAGE_SHIFT), PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                   z->ram_fd, (off_t)(page % RAM_PAGES * PAGE_SIZE));
    return p != MAP_FAILED;
}

static struct block *block_at(struct fuzz *z, laddr eip)
{
    struct xlf *f = &z->f[z->c.window];
    unsigned off = eip - z->c.eip;
    struct block *b = xlf_find(f->xl, eip, eip, z->c.mode);
    return b ? b : xlf_translate(f, eip, z->c.mode, z->c.code + off, z->c.n - off);
}

/* Runs from eip to the first exit that is not a window fault. */
static void enter(struct fuzz *z, laddr eip)
{
    struct xlf *f = &z->f[z->c.window];
    struct cpu *c = z->cpu;
    for (;;) {
        struct block *b = block_at(z, eip);
        struct xl_point p;
        c->jump_cache = xl_jump_cache(f->xl, XL_JC_SUPERVISOR);
        c->window = z->c.window ? (u64)z->window : XL_NO_WINDOW;
        hostsig_ack(c);
        z->run.why = (enum exit_reason)rt_enter(c, xl_entry(f->xl, b));
        z->exits[z->run.why]++;
        switch (z->run.why) {
        case EXIT_KICKED: break; /* behind hostsig_ack() */
        case EXIT_JUMP: z->run.eip = c->eip; return;
        case EXIT_CHAIN: z->run.eip = xl_edge_target(xl_edge(f->xl, c->exit_arg)); return;
        case EXIT_FAULT:
            BUG_ON(!xl_recover(f->xl, c->exit_arg, &p));
            x87_recover(c, f->xl, &p);
            z->run.eip = eip = p.eip;
            if (!map_faulted(z, &p)) return;
            break;
        default:
            BUG_ON(!xl_recover(f->xl, c->exit_arg, &p));
            x87_recover(c, f->xl, &p);
            z->run.eip = p.eip;
            return;
        }
    }
}

static const char *compare(const struct run *a, const struct state *sa, const struct run *b, const struct state *sb)
{
    if (a->eip != b->eip || a->why != b->why) return "the way out";
    return differ(sa, sb);
}

/* E4. The soft TLB leaves where an access crosses pages; there is nothing to be compared then. */
static const char *compare_with_soft(struct fuzz *z, const struct run *window, const struct state *state)
{
    static struct state soft_state;
    forget_tlb(z);
    hostsig_detach();
    BUG_ON(hostsig_attach(&(struct hostsig_cpu){ .cpu = z->cpu, .xl = z->f[0].xl }));
    z->c.window = false;
    load(z, &z->c.in);
    z->run = (struct run){ .refuse = -1 };
    enter(z, z->c.eip);
    z->c.window = true;
    if (z->run.eip != window->eip || z->run.why != window->why) return NULL;
    z->compared++;
    save(z, &soft_state);
    const char *what = differ(&soft_state, state);
    if (what) printf("FAIL E4: window and soft TLB differ in %s\n", what);
    return what;
}

/* The runs of one case: cold, hot, and one refusal after another. */
static const char *run_case(struct fuzz *z)
{
    static struct state cold_state, other_state;
    struct run cold, other;
    load(z, &z->c.in);
    z->run = (struct run){ .refuse = -1 };
    enter(z, z->c.eip);
    cold = z->run;
    save(z, &cold_state);

    load(z, &z->c.in);
    z->run = (struct run){ .refuse = -1 };
    enter(z, z->c.eip);
    other = z->run;
    save(z, &other_state);
    const char *what = compare(&cold, &cold_state, &other, &other_state);
    if (what) {
        printf("FAIL E1: cold and hot differ in %s: left at %08x (%d) and %08x (%d)\n", what, cold.eip, cold.why,
               other.eip, other.why);
        return what;
    }
    for (int n = 0; n < cold.misses && n < 12; n++) {
        forget_tlb(z);
        load(z, &z->c.in);
        z->run = (struct run){ .refuse = n };
        enter(z, z->c.eip);
        laddr left = z->run.eip;
        if (z->run.why == EXIT_EMULATE) enter(z, left);
        other = z->run;
        save(z, &other_state);
        what = compare(&cold, &cold_state, &other, &other_state);
        if (!what) continue;
        printf("FAIL E2: after leaving at %08x (miss %d) and coming back, different %s: left at %08x (%d), not %08x "
               "(%d)\n",
               left, n, what, other.eip, other.why, cold.eip, cold.why);
        return what;
    }
    return z->c.window ? compare_with_soft(z, &cold, &cold_state) : NULL;
}

/* ---- cases ---- */

static void make_state(struct rng *r, struct state *s)
{
    for (unsigned i = 0; i < 8; i++) s->gpr[i] = guest_value(r);
    s->gpr[G_ESP] = rng_u32(r) & (rng_percent(r, 90) ? ~3u : ~0u);
    if (rng_percent(r, 50)) s->gpr[G_ESI] &= ~15u;
    s->aflags = rng_u32(r) & F_ARITH;
    s->df = rng_percent(r, 20) ? -1 : 1;
    s->iflag = rng_u32(r) & 1;
    for (unsigned i = 0; i < RAM_BYTES; i += 8) {
        u64 v = rng_u64(r);
        memcpy(s->ram + i, &v, 8);
    }
    memset(&s->fx, 0, sizeof s->fx);
    s->fx.fcw = rng_percent(r, 85) ? 0x37f : (u16)(0x340 | rng_below(r, 64));
    s->fx.fsw = (u16)(rng_below(r, 8) << 11);
    s->fx.ftw = (u8)rng_u32(r);
    s->fx.mxcsr = rng_percent(r, 85) ? 0x1f80 : rng_below(r, 64) << 7;
    for (unsigned i = 0; i < 8; i++) {
        u64 frac = rng_u64(r) | 1ull << 63;
        u16 exp = (u16)(0x3fff - 30 + rng_below(r, 60));
        memcpy(s->fx.st[i], &frac, 8);
        memcpy(s->fx.st[i] + 8, &exp, 2);
        for (unsigned k = 0; k < 16; k++) s->fx.xmm[i][k] = (u8)rng_u32(r);
    }
}

/* Time goes on between two runs, and FNOP-like x87 instructions may depend on nothing else of the host. */
static bool repeatable(const struct fuzz *z, const u8 *code, unsigned n)
{
    struct insn in;
    return decode(z->f[0].dec, code, n, 0, true, ~0u, &in) == DECODE_OK && in.op != OP_RDTSC;
}

static void make_case(struct fuzz *z)
{
    struct rng *r = &z->rng;
    rng_seed(r, z->seed * 1000003 + z->number);
    z->c.window = rng_percent(r, 40);
    z->helper_done = rng_percent(r, 70);
    z->c.mode = rng_percent(r, 60) ? MODE_FLAT : MODE_BARE | (rng_u32(r) & (MK_SSFLAT | MK_DSFLAT | MK_ESFLAT));
    if (!z->c.window && rng_percent(r, 50)) z->c.mode |= 3;
    memset(z->c.code, 0x0f, sizeof z->c.code); /* 0f 0f: not an instruction */
    unsigned n = 0, count = rng_percent(r, 40) ? 1 : 1 + rng_below(r, 16);
    for (unsigned i = 0; i < count; i++) {
        unsigned len;
        do len = rng_percent(r, 25) ? guest_insn_long(r, z->c.code + n) : guest_insn(r, false, z->c.code + n);
        while (!repeatable(z, z->c.code + n, len));
        n += len;
    }
    memset(z->c.code + n, 0x0f, 32);
    z->c.n = n + 32;
    z->c.eip = 0x00401000 + rng_below(r, PAGE_SIZE - GUEST_MAX);
    make_state(r, &z->c.in);
    for (unsigned i = 0; i < S_COUNT; i++) z->cpu->seg[i].base = i == S_CS ? 0 : rng_percent(r, 50) ? 0 : rng_u32(r);
    z->cpu->mode = z->c.mode;
}

static void describe(const struct fuzz *z, FILE *out)
{
    fprintf(out, "seed %llu number %llu: eip %08x mode %04x window %d\n", (unsigned long long)z->seed,
            (unsigned long long)z->number, z->c.eip, z->c.mode, z->c.window);
    for (unsigned off = 0; off < z->c.n;) {
        struct insn in;
        char text[120];
        if (decode(z->f[0].dec, z->c.code + off, z->c.n - off, z->c.eip + off, true, ~0u, &in) != DECODE_OK) break;
        insn_text(z->f[0].dec, z->c.code + off, in.len, z->c.eip + off, true, text, sizeof text);
        fprintf(out, "  %08x  %s\n", z->c.eip + off, text);
        if (in.id == INSN_INVALID) break;
        off += in.len;
    }
    for (unsigned i = 0; i < 8; i++) fprintf(out, "  %08x", z->c.in.gpr[i]);
    fprintf(out, "  flags %03x\n", z->c.in.aflags);
}

static void set_up(struct fuzz *z)
{
    for (unsigned i = 0; i < 2; i++) {
        xlf_init(&z->f[i], 8 << 20, i, 0);
        for (unsigned k = 0; k < JUMP_ENTRIES; k++) z->f[i].xl->jc[XL_JC_MISS][k].code = rt_exit_jump;
    }
    struct cpu_area *area =
        mmap(NULL, CPU_MAPPING, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    z->ram_fd = memfd_create("ram", MFD_CLOEXEC);
    BUG_ON(area == MAP_FAILED || z->ram_fd < 0 || ftruncate(z->ram_fd, RAM_BYTES));
    z->cpu = &area->cpu;
    z->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, z->ram_fd, 0);
    z->reservation =
        mmap((void *)0x100100000000ull, RESERVED_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    BUG_ON(z->ram == MAP_FAILED || z->reservation == MAP_FAILED);
    z->window = z->reservation + WINDOW_GUARD;
    struct cpu *c = z->cpu;
    c->rt = (struct rt *)z;
    for (unsigned h = 0; h < HELPER_COUNT; h++) c->helpers[h] = helper_of((enum helper)h);
    c->callouts[CALLOUT_JUMP] = rt_exit_jump;
    c->callouts[CALLOUT_CHAIN] = rt_exit_chain;
    c->callouts[CALLOUT_EMULATE] = rt_exit_emulate;
    c->callouts[CALLOUT_TLB] = rt_stub_tlb;
    c->callouts[CALLOUT_FPU] = rt_stub_fpu;
    c->callouts[CALLOUT_HELPER] = rt_stub_helper;
    c->callouts[CALLOUT_MOV_SREG] = rt_stub_mov_sreg;
    BUG_ON(hostsig_install());
}

/* E3: the kick signal, every KICK_NS. */
#define KICK_NS 157000
static void start_kicks(void)
{
    struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = hostsig_kick_signo() };
    const struct itimerspec it = { .it_value = { 0, KICK_NS }, .it_interval = { 0, KICK_NS } };
    timer_t t;
    ev._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    BUG_ON(timer_create(CLOCK_MONOTONIC, &ev, &t) || timer_settime(t, 0, &it, NULL));
}

int main(int argc, char **argv)
{
    static const struct option options[] = { { "seed", required_argument, 0, 's' },
                                             { "count", required_argument, 0, 'c' },
                                             { "from", required_argument, 0, 'f' },
                                             { "verbose", no_argument, 0, 'v' },
                                             { 0 } };
    struct fuzz *z = calloc(1, sizeof *z);
    u64 count = 20000, from = 0;
    bool verbose = false;
    int failed = 0;
    BUG_ON(!z);
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) >= 0;) switch (o) {
        case 's': z->seed = strtoull(optarg, NULL, 0); break;
        case 'c': count = strtoull(optarg, NULL, 0); break;
        case 'f': from = strtoull(optarg, NULL, 0); break;
        case 'v': verbose = true; break;
        default: return 2;
        }
    setvbuf(stdout, NULL, _IOLBF, 0);
    set_up(z);
    start_kicks();
    for (z->number = from; z->number < from + count && failed < 10; z->number++) {
        make_case(z);
        if (verbose) describe(z, stderr);
        BUG_ON(hostsig_attach(&(struct hostsig_cpu){
            .cpu = z->cpu, .xl = z->f[z->c.window].xl, .window = (u64)z->reservation, .window_span = RESERVED_BYTES }));
        const char *err = run_case(z);
        hostsig_detach();
        forget_tlb(z);
        forget_code(z);
        if (!err) continue;
        describe(z, stdout);
        failed++;
    }
    printf("%llu cases, exits:", (unsigned long long)(z->number - from));
    for (unsigned i = 0; i < 6; i++) printf(" %llu", (unsigned long long)z->exits[i]);
    printf(", %llu compared with soft, %d failures\n", (unsigned long long)z->compared, failed);
    return failed != 0;
}
