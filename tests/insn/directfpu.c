/* Threads of a user program: each with its own thread-local segment and x87/SSE state, which the kernel saves and
 * restores, looks at, changes, or leaves where it is behind CR0.TS. What a monitor that keeps that state elsewhere
 * while user code runs must not lose, mix up or show too late. SDM vol. 1, 10.5; vol. 3, 2.5, 13.4. */
#include "user.h"

const char guest_name[] = "directfpu";

struct fx {
    u16 fcw, fsw; u8 ftw, zero; u16 fop; u32 fip; u16 fcs, r1; u32 fdp; u16 fds, r2; u32 mxcsr, mask;
    u8 st[8][16], xmm[8][16], rest[224];
} __attribute__((aligned(16)));
_Static_assert(sizeof(struct fx) == 512, "");

static inline void fxsave(struct fx *x) { __asm__ volatile("fxsave %0" : "=m"(*x)); }
static inline void fxrstor(const struct fx *x) { __asm__ volatile("fxrstor %0" : : "m"(*x)); }
static inline void clts(void) { __asm__ volatile("clts"); }
static inline void stts(void) { write_cr0(read_cr0() | CR0_TS); }

enum { THREADS = 3, LOOPS = 40, AREA = U_DATA, TLS_DATA = U_DATA + 0x800, TLS = TEST_SEL(0) | 3, TLS2 = TEST_SEL(1) |
        3 };
enum { RC_NEAREST, RC_DOWN, RC_UP };

/* A thread: EBX its numbers (a control word, an MXCSR, two doubles, a third at gs:0), ESI times. It adds in ST0, XMM0
 * and MM7's neighbour XMM5, and keeps a quotient by its own rounding; what it has at its end is stored behind the
 * numbers. */
USER(thread,
    fninit;
    fldcw (%ebx);
    ldmxcsr 4(%ebx);
    fldl 8(%ebx);
    movups 16(%ebx), %xmm0;
    movups %xmm0, %xmm5;
1:  int $0x80;
    faddl 8(%ebx);
    addps 16(%ebx), %xmm0;
    movl %gs:0, %eax;
    addl %eax, %gs:4;
    movl %fs:8, %eax;
    addl %eax, 64(%ebx);
    decl %esi;
    jnz 1b;
    fstpl 32(%ebx);
    movups %xmm0, 48(%ebx);
    movups %xmm5, 80(%ebx);
    fld1;
    fdivs 40(%ebx);
    fstps 68(%ebx);
    fnstcw 72(%ebx);
    stmxcsr 76(%ebx);
    movss 44(%ebx), %xmm1;
    divss 40(%ebx), %xmm1;
    movss %xmm1, 96(%ebx);
    DONE);

struct numbers {                                               /* as the thread has them: 128 bytes */
    u32 fcw, mxcsr;
    double step;
    float add[4];
    double sum;
    float three, one;
    float sums[4];
    u32 tls_sum; float quotient; u32 fcw_end, mxcsr_end;
    float kept[4];
    float quotient_sse;
    u32 pad[7];
} __attribute__((packed));
_Static_assert(sizeof(struct numbers) == 128, "");

static struct thread {
    struct frame f;
    struct fx fx;
    u32 base, turns;
} threads[THREADS];
static u32 current, switches, wrong;
static bool done[THREADS];

static u32 data_page(void) { return (u32)pte_get(U_DATA) & ~0xfffu; }
/* Doubles and floats as bits: the kernel has no FPU of its own. */
static u64 bits64(u32 whole)                                   /* of a whole number above 0 */
{
    u32 top = 31 - (u32)__builtin_clz(whole);
    return (u64)(1023 + top) << 52 | ((u64)whole << (52 - top) & ((1ull << 52) - 1));
}
static u32 bits32(u32 whole)
{
    u32 top = 31 - (u32)__builtin_clz(whole);
    return (127 + top) << 23 | (whole << (23 - top) & 0x7fffff);
}

static u32 rounding(u32 i) { return i == 0 ? RC_NEAREST : i == 1 ? RC_DOWN : RC_UP; }

static void thread_make(u32 i)
{
    struct thread *t = &threads[i];
    u32 n = data_page() + i * 128, tls = data_page() + 0x800 + i * 16;

    memset((void *)n, 0, 128);
    poke(n, 0x037f | rounding(i) << 10);
    poke(n + 4, 0x1f80 | rounding(i) << 13);
    u64 step = bits64(i + 2);
    memcpy((void *)(n + 8), &step, 8);
    for (u32 k = 0; k < 4; k++)
        poke(n + 16 + 4 * k, bits32(10 * i + k + 1));
    poke(n + 40, bits32(3)), poke(n + 44, bits32(1));
    poke(tls, i + 1), poke(tls + 4, 0), poke(tls + 8, 100 * (i + 1));
    *t = (struct thread){.f = user_frame(U_CODE), .base = TLS_DATA + i * 16};
    t->f.ebx = AREA + i * 128, t->f.esi = LOOPS, t->f.gs = TLS, t->f.fs = TLS2, t->f.esp -= i * 256;
    t->fx.fcw = 0x37f, t->fx.mxcsr = 0x1f80;
    done[i] = false;
}

/* The descriptors are those of the thread that runs, as Linux does it: the selectors stay. */
static void thread_segments(const struct thread *t)
{
    gdt[TLS / 8] = descriptor(t->base, 0xfffff, SEG_DATA | SEG_DPL3, SEG_BIG | SEG_GRAN);
    gdt[TLS2 / 8] = descriptor(t->base, 0xf, SEG_DATA | SEG_DPL3, SEG_BIG);
}

/* What the kernel finds in the FPU must be what the thread has there. */
static void inspect(const struct fx *x, u32 i, u32 turns)
{
    if ((x->fcw | 0x40) != (0x37f | rounding(i) << 10 | 0x40) || (x->mxcsr & 0xffc0) != (0x1f80 | rounding(i) << 13))
        wrong++;
    for (u32 k = 0; k < 4; k++)
        if (*(const u32 *)&x->xmm[5][4 * k] != bits32(10 * i + k + 1) ||
            *(const u32 *)&x->xmm[0][4 * k] != bits32((10 * i + k + 1) * turns))
            wrong++;
    u32 sum = (i + 2) * turns, top = 31 - (u32)__builtin_clz(sum);
    if (*(const u16 *)&x->st[0][8] != 16383 + top || *(const u64 *)&x->st[0][0] != (u64)sum << (63 - top) ||
        x->ftw != 0x80)
        wrong++;
}

static void to_thread(struct frame *f, u32 i)
{
    current = i;
    switches++;
    thread_segments(&threads[i]);
    *f = threads[i].f;
}

/* The next thread that is not done; this one again if there is none. */
static u32 next_thread(void)
{
    u32 i = current;
    do
        i = (i + 1) % THREADS;
    while (done[i] && i != current);
    return i;
}

/* Saves and restores at each call. */
static bool switch_eagerly(struct frame *f)
{
    struct thread *t = &threads[current];

    t->f = *f;
    t->turns++;
    fxsave(&t->fx);
    inspect(&t->fx, current, t->turns);
    u32 to = next_thread();
    fxrstor(&threads[to].fx);
    to_thread(f, to);
    return true;
}

/* Every third call; in between the state stays where it is. */
static bool switch_sometimes(struct frame *f)
{
    threads[current].turns++;
    if (threads[current].turns % 3)
        return true;
    threads[current].turns--;
    return switch_eagerly(f);
}

/* Lazily: the FPU belongs to owner; TS is set for everybody else. */
static u32 owner, nm_traps;
static bool switch_lazily(struct frame *f)
{
    threads[current].f = *f;
    threads[current].turns++;
    to_thread(f, next_thread());
    if (current == owner)
        clts();
    else
        stts();
    return true;
}
static bool device_not_available(struct frame *f)
{
    if ((f->cs & 3) != 3)
        return false;
    clts();
    nm_traps++;
    if (owner < THREADS && owner != current) {
        fxsave(&threads[owner].fx);
        if (!done[owner] && threads[owner].turns)
            inspect(&threads[owner].fx, owner, threads[owner].turns);
    }
    fxrstor(&threads[current].fx);
    owner = current;
    return true;
}

/* A thread has come to its end: the others go on, with their own state. */
static bool thread_done(struct frame *f)
{
    done[current] = true;
    u32 to = next_thread();
    if (to == current)
        return false;
    if (owner < THREADS) {                                     /* lazily */
        if (owner == current)
            owner = THREADS;
        to_thread(f, to);
        if (to == owner)
            clts();
        else
            stts();
        return true;
    }
    fxrstor(&threads[to].fx);
    to_thread(f, to);
    return true;
}

static void check_thread(u32 i)
{
    const struct numbers *n = (const struct numbers *)(data_page() + i * 128);
    u32 total = (i + 2) * (LOOPS + 1), words[2];

    u64 want = bits64(total);
    memcpy(words, &n->sum, 8);
    CHECK_EQ(words[0], (u32)want);
    CHECK_EQ(words[1], (u32)(want >> 32));
    for (u32 k = 0; k < 4; k++) {
        CHECK_EQ(((const u32 *)n->sums)[k], bits32((10 * i + k + 1) * (LOOPS + 1)));
        CHECK_EQ(((const u32 *)n->kept)[k], bits32(10 * i + k + 1));
    }
    CHECK_EQ(n->tls_sum, LOOPS * 100 * (i + 1));
    CHECK_EQ(peek(data_page() + 0x800 + i * 16 + 4), LOOPS * (i + 1));
    u32 third = rounding(i) == RC_DOWN ? 0x3eaaaaaa : 0x3eaaaaab;
    CHECK_EQ(*(const u32 *)&n->quotient, third);
    CHECK_EQ(*(const u32 *)&n->quotient_sse, third);
    CHECK_EQ(n->fcw_end & 0xffff, 0x37f | rounding(i) << 10);
    CHECK_EQ(n->mxcsr_end & 0xffc0, 0x1f80 | rounding(i) << 13);
}

static void threads_run(const char *name, bool (*on_call)(struct frame *), u32 first_owner)
{
    struct frame f;

    section(name);
    PROGRAM(U_CODE, thread);
    user_page(U_DATA, P_RW);
    for (u32 i = 0; i < THREADS; i++)
        thread_make(i);
    on_trap(0x80, on_call);
    on_trap(U_DONE, thread_done);
    on_trap(7, device_not_available);
    owner = first_owner;                                       /* THREADS: nobody, it is not lazy */
    nm_traps = switches = wrong = 0;
    to_thread(&f, 0);
    CHECK_EQ(user_go(&f), U_DONE);
    clts();
    CHECK_EQ(wrong, 0);
    for (u32 i = 0; i < THREADS; i++)
        check_thread(i);
    on_trap(0x80, NULL);
    on_trap(U_DONE, NULL);
    on_trap(7, NULL);
}

/* ---- The kernel reaches into the state. */
USER(ask,                                                      /* XMM1 is EAX, ST0 is 1; a call; what they are then */
    fninit;
    fld1;
    movd %eax, %xmm1;
    movl $5, %ecx;
1:  int $0x80;
    decl %ecx;
    jnz 1b;
    movd %xmm1, %eax;
    fnstsw 0x08080000;
    fnstcw 0x08080004;
    fstps 0x08080008;
    DONE);
static u32 seen_xmm1, call_number;
static bool kernel_looks(struct frame *f)
{
    (void)f;
    if (++call_number == 4)
        __asm__ volatile("movd %%xmm1, %0" : "=r"(seen_xmm1));
    return true;
}
static bool kernel_changes(struct frame *f)
{
    (void)f;
    if (++call_number == 4)
        __asm__ volatile("fninit; fldpi; movd %0, %%xmm1" : : "r"(0x600df00d));
    return true;
}
static bool kernel_sets_ts(struct frame *f)
{
    (void)f;
    if (++call_number == 5)
        stts();
    return true;
}

static void reach_in(void)
{
    struct frame f;

    section("the kernel reads a register");
    on_trap(0x80, kernel_looks);
    call_number = 0;
    CHECK_EQ(RUN(ask, 0x1234567, &f), U_DONE);
    CHECK_EQ(seen_xmm1, 0x1234567);
    CHECK_EQ(f.eax, 0x1234567);
    CHECK_EQ(peek(data_page() + 8), 0x3f800000);
    section("the kernel changes them");
    on_trap(0x80, kernel_changes);
    call_number = 0;
    CHECK_EQ(RUN(ask, 0x1234567, &f), U_DONE);
    CHECK_EQ(f.eax, 0x600df00d);
    CHECK_EQ(peek(data_page() + 8), 0x40490fdb);               /* pi */
    CHECK_EQ(peek(data_page() + 4) & 0xffff, 0x37f);
    section("the kernel sets TS");
    on_trap(0x80, kernel_sets_ts);
    for (int i = 0; i < 3; i++) {
        call_number = 0;
        CHECK_EQ(RUN(ask, 0x1234567, &f), 7);
        CHECK_EQ(f.eip, U_CODE + 2 + 2 + 4 + 5 + 2 + 1 + 2);   /* the MOVD behind the loop */
        clts();
        CHECK_EQ(user_go(&f), U_DONE);
        CHECK_EQ(f.eax, 0x1234567);
    }
    section("EM");
    on_trap(0x80, NULL);
    write_cr0(read_cr0() | CR0_EM);
    CHECK_EQ(RUN(ask, 0, &f), 7);
    CHECK_EQ(f.eip, U_CODE);
    write_cr0(read_cr0() & ~(u32)CR0_EM);
}

/* ---- MMX shares the x87 registers; exceptions pend in the state that is saved. */
USER(mmx,
    movd %eax, %mm0;
    movd %eax, %mm7;
    paddd %mm0, %mm7;
    int $0x80;
    paddd %mm0, %mm7;
    movd %mm7, %eax;
    emms;
    DONE);
/* a division by zero, unmasked, is told at the next x87 instruction */
USER(pending,
    fninit;
    pushl $0x037b;
    fldcw (%esp);
    fld1;
    fldz;
    fdivrp;
    int $0x80;
    fwait;
    DONE);
static struct fx saved;
static bool save_and_restore(struct frame *f)
{
    (void)f;
    fxsave(&saved);
    __asm__ volatile("fninit; pxor %xmm0, %xmm0");
    fxrstor(&saved);
    return true;
}
static bool save_and_clear(struct frame *f)
{
    (void)f;
    fxsave(&saved);
    __asm__ volatile("fninit");
    return true;
}

static void other_state(void)
{
    struct frame f;

    section("MMX");
    on_trap(0x80, save_and_restore);
    CHECK_EQ(RUN(mmx, 0x111, &f), U_DONE);
    CHECK_EQ(f.eax, 0x333);
    CHECK_EQ(saved.ftw, 0xff);
    CHECK_EQ(*(u32 *)&saved.st[7][0], 0x222);
    if (!told("tcg"))
        CHECK_EQ(*(u16 *)&saved.st[7][8], 0xffff);
    section("a pending exception is part of the state");
    CHECK_EQ(RUN(pending, 0, &f), V_MF);
    CHECK_EQ(f.eip, U_CODE + (u32)(pending_end - pending) - 3);
    CHECK_EQ(saved.fsw & 0x8084, 0x8084);
    __asm__ volatile("fninit");
    on_trap(0x80, save_and_clear);
    CHECK_EQ(RUN(pending, 0, &f), U_DONE);
    CHECK_EQ(saved.fsw & 0x8084, 0x8084);
    on_trap(0x80, NULL);
}

/* ---- Segments: each load by the kernel's IRET counts, null too. */
USER(by_fs_gs,
    movl %fs:4, %eax;
    movl %gs:8, %ebx;
    movl $0x77, %gs:12;
    DONE);

static void segments(void)
{
    struct frame f;
    u32 data = data_page();

    section("FS and GS with different bases");
    PROGRAM(U_CODE, by_fs_gs);
    for (u32 i = 0; i < 0x200; i += 4)
        poke(data + i, i);
    for (u32 i = 0; i < 8; i++) {
        gdt[TLS / 8] = descriptor(U_DATA + i * 0x20, 0xfffff, SEG_DATA | SEG_DPL3, SEG_BIG | SEG_GRAN);
        gdt[TLS2 / 8] = descriptor(U_DATA + 0x100 - i * 0x20, 0xff, SEG_DATA | SEG_DPL3, SEG_BIG);
        f = user_frame(U_CODE);
        f.fs = i & 1 ? TLS2 : TLS, f.gs = i & 1 ? TLS : TLS2;
        CHECK_EQ(user_go(&f), U_DONE);
        CHECK_EQ(f.eax, i & 1 ? 0x104 - i * 0x20 : i * 0x20 + 4);
        CHECK_EQ(f.ebx, i & 1 ? i * 0x20 + 8 : 0x108 - i * 0x20);
        CHECK_EQ(f.fs & 0xffff, i & 1 ? TLS2 : TLS);
        CHECK_EQ(f.gs & 0xffff, i & 1 ? TLS : TLS2);
    }
    section("a base that wraps");
    gdt[TLS / 8] = descriptor(U_DATA - 0x1000, 0xfffff, SEG_DATA | SEG_DPL3, SEG_BIG | SEG_GRAN);
    gdt[TLS2 / 8] = descriptor(0xffffff00, 0xfffff, SEG_DATA | SEG_DPL3, SEG_BIG | SEG_GRAN);
    USER(wraps, movl %fs:0x08080108, %eax; movl %gs:0x1004, %ebx; DONE);
    PROGRAM(U_CODE, wraps);
    f = user_frame(U_CODE);
    f.fs = TLS2, f.gs = TLS;
    CHECK_EQ(user_go(&f), U_DONE);
    CHECK_EQ(f.eax, 8);
    CHECK_EQ(f.ebx, 4);
    section("null");
    gdt[TLS / 8] = descriptor(U_DATA, 0xfffff, SEG_DATA | SEG_DPL3, SEG_BIG | SEG_GRAN);
    PROGRAM(U_CODE, by_fs_gs);
    f = user_frame(U_CODE);
    f.fs = 0, f.gs = TLS;
    if (!told("tcg")) {
        CHECK_EQ(user_go(&f), V_GP);
        CHECK_EQ(f.error, 0);
        CHECK_EQ(f.eip, U_CODE);
        f = user_frame(U_CODE);
        f.fs = TLS, f.gs = 3;
        CHECK_EQ(user_go(&f), V_GP);
        CHECK_EQ(f.eip, U_CODE + 6);
        CHECK_EQ(f.gs & 0xffff, 3);
    }
}

void guest_main(void)
{
    for (int pae = 0; pae < 2; pae++) {
        user_start(pae);
        threads_run("threads, switched at each call", switch_eagerly, THREADS);
        threads_run("threads, switched now and then", switch_sometimes, THREADS);
        threads_run("threads, FPU switched lazily", switch_lazily, 0);
        CHECK(nm_traps > LOOPS);
        user_ticks(300);
        threads_run("threads, with a timer", switch_eagerly, THREADS);
        user_ticks(0);
        reach_in();
        other_state();
        segments();
        user_stop();
    }
}
