/* x87 exceptions by interrupt, as MS-DOS's programs and its like have them: CR0.NE is clear, the processor asserts
 * FERR#, the board makes IRQ 13 of it, and the handler writes to port F0h. SDM vol. 1, 8.7.2 and appendix D; SDM vol.
 * 3, 2.5 (CR0.NE). QEMU 7.2 departs: its processor does not wait for the interrupt. */
#include "rt.h"

const char guest_name[] = "ferr";

/* The exception is reported by the next instruction that waits, and FNSTSW is none. */
__asm__(".globl divides, waits_fld, waits_fwait, waits_mmx\n"
        "divides: fninit; fldcw control; fld1; fdivl zero; movl $1, step; fnstsw status; movl $2, step; ret\n"
        "fld: call divides\nwaits_fld: fld1; movl $3, step; ret\n"
        "fwait_: call divides\nwaits_fwait: fwait; movl $3, step; ret\n"
        "mmx: call divides\nwaits_mmx: movd %eax, %mm0; movl $3, step; ret\n");
void fld(void), fwait_(void), mmx(void);
extern const u8 waits_fld[], waits_fwait[], waits_mmx[];
u16 control = 0x37b, status; /* ZM is clear */
volatile u32 step;
double zero;

static volatile u32 count, seen_eip, seen_step, ticks, ticks_at;
static enum { CLEAR_LAST, CLEAR_FIRST, LEAVE } handling;

static void fnclex(void) { __asm__ volatile("fnclex"); }
static u32 fsw(void)
{
    u16 v;
    __asm__ volatile("fnstsw %0" : "=m"(v));
    return v;
}

static bool on_ferr(struct frame *f)
{
    count++;
    seen_eip = f->eip, seen_step = step;
    if (handling == CLEAR_FIRST)
        fnclex();
    outb(0xf0, 0);
    if (handling == CLEAR_LAST)
        fnclex();
    pic_eoi(13);
    return true;
}

static bool on_tick(struct frame *f)
{
    ticks++;
    if (f->eip == (u32)waits_fld && step == 2)
        ticks_at++;
    if (ticks == 5)
        pic_unmask(13);
    else
        pit_oneshot(500);
    pic_eoi(0);
    return true;
}

static void run(void (*program)(void))
{
    count = step = 0;
    __asm__ volatile("sti" : : : "memory");
    program();
    __asm__ volatile("cli" : : : "memory");
}

static const struct {
    void (*program)(void);
    const u8 *waits;
} waiting[] = { { fld, waits_fld }, { fwait_, waits_fwait }, { mmx, waits_mmx } };

static void reported_once(void)
{
    for (u32 i = 0; i < 90; i++) {
        handling = i / 3 % 2 ? CLEAR_FIRST : CLEAR_LAST;
        run(waiting[i % 3].program);
        CHECK_EQ(count, 1);
        CHECK_EQ(seen_step, 2);
        CHECK_EQ(seen_eip, waiting[i % 3].waits);
        CHECK_EQ(step, 3);
        CHECK_EQ(status & 0x8084, 0x8084);
        CHECK_EQ(fsw() & 0x80ff, 0);
    }
}

/* IGNNE#: from port F0h until the exception is cleared. */
static void ignored(void)
{
    handling = LEAVE;
    run(fld);
    CHECK_EQ(count, 1);
    CHECK_EQ(step, 3);
    CHECK_EQ(fsw() & 0x8084, 0x8084);
    __asm__ volatile("sti; fld1; fwait; fstp %%st(0); cli" : : : "memory");
    CHECK_EQ(count, 1);
    CHECK_EQ(fsw() & 0x8084, 0x8084);
    fnclex();
    handling = CLEAR_LAST;
    run(fld);
    CHECK_EQ(count, 1);
    CHECK_EQ(seen_eip, waits_fld);
    section("masked by FLDCW, FNSTENV; gone by FNSAVE, FNINIT");
    for (u32 i = 0; i < 4; i++) {
        u32 room[27];
        u16 all = 0x37f;
        handling = LEAVE;
        run(fld);
        if (i == 0)
            __asm__ volatile("fldcw %0" : : "m"(all));
        else if (i == 1)
            __asm__ volatile("fnstenv %0" : "=m"(room));
        else if (i == 2)
            __asm__ volatile("fnsave %0" : "=m"(room));
        else
            __asm__ volatile("fninit");
        handling = CLEAR_LAST;
        run(fld); /* had IGNNE# stayed, this would go unnoticed */
        CHECK_EQ(count, 1);
        CHECK_EQ(step, 3);
    }
}

/* Other interrupts are served meanwhile, and come back to the instruction. */
static void waits_as_long_as_it_takes(void)
{
    handling = CLEAR_LAST;
    pic_mask(13);
    ticks = ticks_at = 0;
    pic_unmask(0);
    pit_oneshot(2000);
    run(fld);
    pic_mask(0);
    CHECK_EQ(count, 1);
    CHECK_EQ(ticks, 5);
    CHECK(ticks_at >= 4);
    CHECK_EQ(step, 3);
}

static void nothing(void *arg) { ((void (*)(void))arg)(); }

void guest_main(void)
{
    u32 cr0 = (read_cr0() & ~(u32)(CR0_EM | CR0_TS | CR0_NE)) | CR0_MP;
    on_trap(IRQ_BASE + 13, on_ferr);
    on_trap(IRQ_BASE, on_tick);
    pic_unmask(13);
    write_cr0(cr0);
    section("IRQ 13");
    reported_once();
    section("IGNNE#");
    ignored();
    section("IRQ 13 is masked");
    waits_as_long_as_it_takes();
    section("port F0h with nothing pending");
    outb(0xf0, 0);
    handling = CLEAR_LAST;
    run(fld);
    CHECK_EQ(count, 1);
    section("CR0.NE");
    write_cr0(cr0 | CR0_NE);
    count = 0;
    CHECK_TRAPS(nothing, fld, V_MF, 0);
    CHECK_EQ(trap.eip, waits_fld);
    CHECK_EQ(count, 0);
    CHECK_EQ(pic_irr() >> 13 & 1, 0);
    __asm__ volatile("fninit");
}
