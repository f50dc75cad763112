/* The x87 unit's instruction and data pointers: whoever asks (FNSTENV, FNSAVE, FXSAVE in the kernel) finds the last
 * instruction that was none of control, and its last operand in memory, wherever the program was left. SDM vol. 1,
 * 8.1.8 to 8.1.10. */
#include "user.h"

const char guest_name[] = "x87";

struct fx {
    u16 fcw, fsw; u8 ftw, zero; u16 fop; u32 fip; u16 fcs, r1; u32 fdp; u16 fds, r2; u32 mxcsr, mask;
    u8 rest[480];
} __attribute__((aligned(16)));
_Static_assert(sizeof(struct fx) == 512, "");

static struct fx fx;
static void fxsave(void) { __asm__ volatile("fxsave %0" : "=m"(fx)); }

enum { TLS = TEST_SEL(0) | 3 };

/* Each begins by FNINIT (2 bytes). EBX and ESI point at U_DATA, EDI below the end of its page. */
USER(to_the_end, fninit; fldl 8(%ebx); fld1; DONE);
USER(operand_moved_on, fninit; fldl 8(%ebx); addl $64, %ebx; fld1; movl %ebx, %ecx; DONE);
USER(left_amidst, fninit; fldl 8(%ebx); fld1; movl %eax, 0x0a000000; DONE);
USER(left_amidst_moved_on, fninit; fldl 8(%ebx); movl $0, %ebx; fld1; movl %eax, 0x0a000000; fldz; DONE);
USER(left_before, fninit; movl %eax, 0x0a000000; fldl 8(%ebx); DONE);
USER(left_in_a_string, fninit; flds 8(%esi); movl $256, %ecx; rep movsb; DONE);
USER(left_by_its_operand, fninit; fldl 8(%ebx); faddl 0x0a000000; DONE);
USER(control, fninit; fldl 8(%ebx); fnstsw %ax; fnstcw 32(%ebx); fldcw 32(%ebx); fwait; fnclex; DONE);
USER(on_the_stack, fninit; fldl -8(%esp); pushl %eax; fchs; DONE);
USER(by_fs, fninit; fldl 8(%ebx); fldl %fs:16; DONE);
USER(initialised, fninit; fldl 8(%ebx); fninit; DONE);
USER(many_times, fninit; movl $100, %ecx; 1: fldl 8(%ebx); fstpl 16(%ebx); addl $8, %ebx; decl %ecx; jnz 1b; DONE);
/* Loops of one block, left in a later turn: before its first x87 instruction, and at its operand. */
USER(turn_before, fninit; movl $100, %ecx; 1: movl (%esi), %eax; fldl 8(%ebx); fstpl 16(%ebx);
     addl $8, %ebx; addl $64, %esi; decl %ecx; jnz 1b; DONE);
USER(turn_operand, fninit; movl $100, %ecx; 1: fldl (%esi); fstpl 8(%ebx, %ecx, 8);
     addl $1024, %esi; decl %ecx; jnz 1b; DONE);
USER(turn_loses, fninit; movl $100, %ecx; 1: movl %esi, %ebx; movl (%edi), %eax; fldl 8(%ebx); fstp %st(0);
     addl $16, %esi; addl $32, %edi; decl %ecx; jnz 1b; DONE);
USER(turn_large_steps, fninit; movl $3, %ecx; 1: fldl (%esi); fstpl (%ebx); addl $1024, %ebx; subl $-1024, %esi;
     decl %ecx; jnz 1b; DONE);
USER(turn_by_loop, fninit; movl $100, %ecx; 1: fldl 8(%ebx); fstpl 16(%ebx, %ecx, 8); loop 1b; DONE);
USER(turn_interrupted, fninit; movl $1000, %edx; 2: movl $3500, %ecx; 1: fldl 8(%ebx, %ecx); fstp %st(0);
     decl %ecx; jnz 1b; decl %edx; jnz 2b; DONE);

/* User code runs until its end, or until it meets what is not there; then the kernel looks. */
static u32 go_(const u8 *from, const u8 *end, u32 vector)
{
    struct frame f;
    user_program(U_CODE, from, end);
    f = user_frame(U_CODE);
    f.ebx = f.esi = U_DATA, f.edi = U_DATA + PAGE - 100, f.fs = TLS;
    CHECK_EQ(user_go(&f), vector);
    fxsave();
    return f.eip;
}
#define GO(name, vector) go_(name, name##_end, vector)

static void is(u32 ip, u32 op, u32 cs, u32 dp, u32 ds)
{
    CHECK_EQ(fx.fip, ip);
    CHECK_EQ(fx.fop, op);
    CHECK_EQ(fx.fcs, cs);
    CHECK_EQ(fx.fdp, dp);
    CHECK_EQ(fx.fds, ds);
}
#define IS(at, op, dp, ds) is(U_CODE + (at), op, SEL_UCODE, dp, ds)

static void as_the_kernel_sees_them(void)
{
    section("at a block's end");
    GO(to_the_end, U_DONE), IS(5, 0x1e8, U_DATA + 8, SEL_UDATA);
    section("the operand's register has changed since");
    GO(operand_moved_on, U_DONE), IS(8, 0x1e8, U_DATA + 8, SEL_UDATA);
    section("left amidst");
    GO(left_amidst, V_PF), IS(5, 0x1e8, U_DATA + 8, SEL_UDATA);
    section("left amidst, the operand's register has changed since");
    GO(left_amidst_moved_on, V_PF), IS(10, 0x1e8, U_DATA + 8, SEL_UDATA);
    section("left before");
    GO(left_before, V_PF), is(0, 0, 0, 0, 0);
    section("left in a string instruction that has changed the operand's register");
    GO(left_in_a_string, V_PF), IS(2, 0x146, U_DATA + 8, SEL_UDATA);
    section("one whose operand is not there has not been executed");
    GO(left_by_its_operand, V_PF), IS(2, 0x543, U_DATA + 8, SEL_UDATA);
    section("control instructions");
    GO(control, U_DONE), IS(2, 0x543, U_DATA + 8, SEL_UDATA);
    section("by ESP, and by FS");
    GO(on_the_stack, U_DONE), IS(7, 0x1e0, U_TOP - 16 - 8, SEL_UDATA);
    GO(by_fs, U_DONE), IS(5, 0x505, 16, TLS);
    section("FNINIT");
    GO(initialised, U_DONE), is(0, 0, 0, 0, 0);
    section("a loop");
    GO(many_times, U_DONE), IS(10, 0x55b, U_DATA + 99 * 8 + 16, SEL_UDATA);
    section("a loop, left before its first x87 instruction");
    GO(turn_before, V_PF), IS(12, 0x55b, U_DATA + 63 * 8 + 16, SEL_UDATA);
    section("a loop, left by the operand of one");
    GO(turn_operand, V_PF), IS(9, 0x55c, U_DATA + 97 * 8 + 8, SEL_UDATA);
    section("a loop, left behind what has changed the operand's register");
    GO(turn_loses, V_PF), IS(14, 0x5d8, U_DATA + 3 * 16 + 8, SEL_UDATA);
    section("a loop with large steps");
    GO(turn_large_steps, U_DONE), IS(9, 0x51b, U_DATA + 2 * 1024, SEL_UDATA);
    section("LOOP");
    GO(turn_by_loop, U_DONE), IS(10, 0x55c, U_DATA + 16 + 8, SEL_UDATA);
}

/* What turn_interrupted has come to, by the registers: its turns, from its FLD at byte 12 on, count ECX down. */
static u32 turns_seen;
static void look(const struct frame *f)
{
    u32 at = f->eip - U_CODE, turn = at > 18 || at == 12 ? f->ecx + 1 : f->ecx;
    if (at < 12 || at > 19 || turn > 3500)
        return;
    fxsave();
    IS(at == 16 ? 12 : 16, at == 16 ? 0x544 : 0x5d8, U_DATA + 8 + turn, SEL_UDATA);
    turns_seen++;
}

static void at_interrupts(void)
{
    section("a loop, interrupted");
    turns_seen = 0;
    user_ticked = look;
    user_ticks(200);
    for (int i = 0; i < 100 && turns_seen < 20; i++)
        GO(turn_interrupted, U_DONE), IS(16, 0x5d8, U_DATA + 8 + 1, SEL_UDATA);
    user_ticks(0);
    user_ticked = 0;
    CHECK(turns_seen >= 20);
}

/* In the kernel itself. */
u32 env[7];
static u32 env2[7];

static void as_the_program_sees_them(void)
{
    u32 at;
    section("FNSTENV");
    __asm__ volatile("fninit\n1: fldz\n\tfnstenv %0\n\tmovl $1b, %1" : "=m"(env), "=r"(at));
    CHECK_EQ(env[3], at);
    CHECK_EQ(env[4], 0x1ee0000 | SEL_KCODE);
    CHECK_EQ(env[5], 0);
    CHECK_EQ(env[6], 0xffff0000);
    section("FNSTENV, 16 bits");
    __asm__ volatile("fninit\n1: fildl %2\n\tdata16 fnstenv %0\n\tmovl $1b, %1" : "=m"(env), "=r"(at) : "m"(env2));
    CHECK_EQ(env[1] >> 16, at & 0xffff);
    CHECK_EQ(env[2], (u32)env2 << 16 | SEL_KCODE);
    CHECK_EQ(env[3] & 0xffff, SEL_KDATA);
    section("FLDENV");
    __asm__ volatile("fninit; fnstenv %0" : "=m"(env));
    env[3] = 0x12345678, env[4] = 0x07aa1234, env[5] = 0x9abcdef0, env[6] = 0xffff5678;
    __asm__ volatile("fldenv %1; fnstenv %0" : "=m"(env2) : "m"(env));
    for (int i = 3; i < 7; i++)
        CHECK_EQ(env2[i], env[i]);
    section("FXRSTOR");
    fxsave();
    fx.fip = 0x11111111, fx.fcs = 0x2222, fx.fdp = 0x33333333, fx.fds = 0x4444, fx.fop = 0x555;
    __asm__ volatile("fxrstor %1; fnstenv %0" : "=m"(env2) : "m"(fx));
    CHECK_EQ(env2[3], 0x11111111);
    CHECK_EQ(env2[4], 0x5552222);
    CHECK_EQ(env2[5], 0x33333333);
    CHECK_EQ(env2[6], 0xffff4444);
    section("those that were loaded stay beside SSE");
    __asm__ volatile("fxrstor %0; addps %%xmm0, %%xmm1; fxsave %0" : "+m"(fx));
    is(0x11111111, 0x555, 0x2222, 0x33333333, 0x4444);
}

/* FSTP writes the instruction after the next. In a page that is written to as often as that, a block looks at its own
 * bytes behind each write, and is left there when they differ. CDQ is one that ends what is known of an operand's
 * address. */
__asm__(".text\n"
        ".balign 256\n"
        "write_page: movl $200, %ecx\n"
        "1: incl 2f; decl %ecx; jnz 1b; ret\n"
        "2: .long 0\n"
        "write_code: movl 4(%esp), %eax; fninit; fldl (%eax)\n"
        "writer: fstpl written; cltd\n"
        "written: .byte 0xb8, 1, 0, 0, 0, 0x90, 0x90, 0x90\n"
        "fnstenv env; ret\n");
extern const u8 writer[], written[];
void write_page(void);
u32 write_code(const u8 *code);

static void when_code_is_overwritten(void)
{
    static const u8 code[2][8] = { { 0xb8, 1, 0, 0, 0, 0x90, 0x90, 0x90 }, { 0xb8, 2, 0, 0, 0, 0x90, 0x90, 0x90 } };
    section("the code behind is overwritten");
    write_page();
    for (u32 i = 0; i < 12; i++) {
        CHECK_EQ(write_code(code[i == 9]), 1 + (i == 9));
        CHECK_EQ(env[3], (u32)writer);
        CHECK_EQ(env[5], (u32)written);
    }
}

/* Reported late: the program goes on until the next instruction that waits. */
USER(divides, fninit; fldcw 40(%ebx); fld1; fdivl 32(%ebx); movl $1, %ebx; movl $2, %ecx; fld1; DONE);

static void as_an_exception_names_them(u32 data)
{
    if (told("tcg")) return; /* QEMU's processor does not report it */
    section("#MF");
    poke(data + 32, 0), poke(data + 36, 0);
    poke(data + 40, 0x37b);
    write_cr0(read_cr0() | CR0_NE);
    u32 at = GO(divides, V_MF);
    CHECK_EQ(at, U_CODE + 20);
    IS(7, 0x473, U_DATA + 32, SEL_UDATA);
    __asm__ volatile("fninit");
}

void guest_main(void)
{
    user_start(false);
    gdt[TLS / 8] = descriptor(U_DATA, 0xfffff, SEG_DATA | SEG_DPL3, SEG_BIG | SEG_GRAN);
    u32 data = user_page(U_DATA, P_RW);
    for (int i = 0; i < 50; i++)
        as_the_kernel_sees_them();
    at_interrupts();
    as_the_program_sees_them();
    when_code_is_overwritten();
    as_an_exception_names_them(data);
    user_stop();
}
