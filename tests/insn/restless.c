/* Two programs that compute without end, of which a timer's interrupt makes one stop and the other go on, as an
 * operating system does it. One that gets an exception is started anew: that is what a kernel does when the machine
 * says that a program has failed. What they compute they check themselves. For 300 ms, or as long as the command line
 * says, or longer on a slow machine: it is a guest to look at, and to disturb. */
#include "user.h"

const char guest_name[] = "restless";

enum { TICK_US = 2000, PROGRAMS = 2, TLS = TEST_SEL(0) | 3 };

/* EBX its page: two counters that are equal but for a moment, their sum in x87 and XMM registers, a word that only the
 * kernel changes. The page behind is a new one after each call. */
USER(work,
    fninit;
    fldz;
    xorps %xmm0, %xmm0;
    movl $1, %eax;
    cvtsi2ss %eax, %xmm1;
1:  movl $20000, %ecx;
2:  incl (%ebx);
    fld1;
    faddp;
    addss %xmm1, %xmm0;
    incl 4(%ebx);
    movl (%ebx), %eax;
    cmpl 4(%ebx), %eax;
    jne 4f;
    loop 2b;
    fistl 8(%ebx);
    movl 8(%ebx), %eax;
    cmpl (%ebx), %eax;
    jne 4f;
    cvttss2si %xmm0, %edx;
    cmpl %eax, %edx;
    jne 4f;
    cmpl %gs:0, %ebp;
    jne 4f;
    int $0x80;
    cmpl $0, 0x1000(%ebx);
    jne 4f;
    incl 0x1000(%ebx);
    cmpl $4000000, (%ebx);                                     /* a float counts no further than 2^24 */
    jb 1b;
    movl $0, (%ebx);
    movl $0, 4(%ebx);
    fstp %st(0);
    fldz;
    xorps %xmm0, %xmm0;
    jmp 1b;
4:  DONE);

static struct program {
    u32 root;
    struct frame f;
    u8 fx[512] __attribute__((aligned(16)));
    struct ring pages;                                         /* for its starts */
} program[PROGRAMS];
static struct ring demanded;
static u32 current, deaths, calls, switches;
static u64 end, armed;
enum { SAMPLES = 512 };
static u32 late_us[SAMPLES];                                   /* what the timer's interrupt came too late by */

static void start(u32 i)
{
    struct program *p = &program[i];

    paging_use(p->root);
    user_take_from(&p->pages);
    user_program(U_CODE, work, work_end);
    poke(user_page(U_DATA, P_RW) + 0x10, i + 1);
    p->f = user_frame(U_CODE);
    p->f.ebx = U_DATA, p->f.ebp = i + 1, p->f.gs = TLS;
    *(u16 *)p->fx = 0x37f, *(u32 *)(p->fx + 24) = 0x1f80;
}

static void resume(struct frame *f, u32 i)
{
    current = i;
    paging_use(program[i].root);
    __asm__ volatile("fxrstor %0" : : "m"(program[i].fx));
    *f = program[i].f;
}

static void arm(void)
{
    armed = rdtsc();
    pit_oneshot(PIT_HZ / (1000000 / TICK_US));
}

static bool tick(struct frame *f)
{
    u64 us = (rdtsc() - armed) * 1000 / (tsc_hz() / 1000);

    late_us[switches % SAMPLES] = us > TICK_US ? (u32)us - TICK_US : 0;
    pic_eoi(0);
    if (rdtsc() >= end && calls > 10)
        return false;
    switches++;
    arm();
    program[current].f = *f;
    __asm__ volatile("fxsave %0" : "=m"(program[current].fx));
    resume(f, (current + 1) % PROGRAMS);
    return true;
}

static bool call(struct frame *f)
{
    (void)f;
    calls++;
    pte_set(U_DATA + PAGE, 0);
    invlpg(U_DATA + PAGE);
    return true;
}

static bool demand(struct frame *f)
{
    if ((f->cs & 3) != 3 || f->error & 1 || read_cr2() != U_DATA + PAGE)
        return false;
    user_take_from(&demanded);
    user_page(U_DATA + PAGE, P_RW);
    return true;
}

static bool died(struct frame *f)
{
    if ((f->cs & 3) != 3)
        return false;
    deaths++;
    start(current);
    resume(f, current);
    return true;
}

static void report_lateness(void)
{
    u32 n = switches < SAMPLES ? switches : SAMPLES;

    for (u32 i = 1; i < n; i++)
        for (u32 k = i; k > 0 && late_us[k - 1] > late_us[k]; k--) {
            u32 t = late_us[k];
            late_us[k] = late_us[k - 1], late_us[k - 1] = t;
        }
    print("restless: timer late by us: least %u median %u most %u\n", late_us[0], late_us[n / 2], late_us[n - 1]);
}

static u32 milliseconds(void)
{
    return told("60s") ? 60000 : told("30s") ? 30000 : told("10s") ? 10000 : told("3s") ? 3000 : 300;
}

void guest_main(void)
{
    struct frame f;

    user_start(true);
    gdt[TLS / 8] = descriptor(U_DATA + 0x10, 0xfff, SEG_DATA | SEG_DPL3, SEG_BIG);
    for (u32 i = 0; i < PROGRAMS; i++)
        program[i].root = user_space();
    for (u32 i = 0; i < PROGRAMS; i++)
        program[i].pages = user_ring(500);
    demanded = user_ring(1000);
    for (u32 i = 0; i < PROGRAMS; i++)
        start(i);
    on_trap(IRQ_BASE, tick);
    on_trap(0x80, call);
    on_trap(V_GP, died);
    on_trap(V_PF, demand);
    end = rdtsc() + tsc_hz() / 1000 * milliseconds();
    print("restless: begins\n");
    resume(&f, 0);
    arm();
    pic_unmask(0);
    CHECK_EQ(user_go(&f), IRQ_BASE);                           /* its time is over: nothing else ends it */
    pic_mask(0);
    CHECK(switches > 0);
    print("restless: %u calls, %u switches, %u programs died\n", calls, switches, deaths);
    report_lateness();
    user_stop();
}
