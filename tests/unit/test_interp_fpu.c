/* x87, MMX and SSE in the interpreter: what must hold before, the exceptions afterwards, and state in memory. What the
 * instructions compute is the host's own business, and compared in tests/diff. */
#include "tests/unit/interp_fixture.h"

enum { DATA = 0x80000 };
#define MODRM_DATA 0x00, 0x00, 0x08, 0x00 /* disp32 */
#define NO_EXCEPTION 0u

static void setup(void)
{
    interp_setup();
    cpu->cr0 |= CR0_NE | CR0_MP;
    cpu->cr4 |= CR4_OSFXSR | CR4_OSXMMEXCPT;
    PROGRAM(0xdb, 0xe3); /* fninit */
    STEPS(1);
    cpu->fx.mxcsr = 0x1f80;
}

static void poke_double(paddr at, double v) { memcpy(ram(at), &v, 8); }
static double peek_double(paddr at)
{
    double v;
    memcpy(&v, ram(at), 8);
    return v;
}

START_TEST(arithmetic_goes_through_memory_and_back)
{
    /* fld qword [DATA]; fmul qword [DATA+8]; fstp qword [DATA+16] */
    PROGRAM(0xdd, 0x05, MODRM_DATA, 0xdc, 0x0d, 8, 0, 8, 0, 0xdd, 0x1d, 16, 0, 8, 0);
    poke_double(DATA, 1.5);
    poke_double(DATA + 8, -4.0);
    STEPS(3);
    ck_assert(peek_double(DATA + 16) == -6.0);
    ck_assert_uint_eq(cpu->fx.ftw, 0);
}
END_TEST

START_TEST(sse_reads_and_writes_general_registers)
{
    /* cvtsi2sd xmm1, ebx; addsd xmm1, xmm1; cvttsd2si esi, xmm1; movd edi, xmm1 */
    PROGRAM(0xf2, 0x0f, 0x2a, 0xcb, 0xf2, 0x0f, 0x58, 0xc9, 0xf2, 0x0f, 0x2c, 0xf1, 0x66, 0x0f, 0x7e, 0xcf);
    cpu->gpr[G_EBX] = (u32)-21;
    cpu->gpr[G_EAX] = 7;
    STEPS(4);
    ck_assert_int_eq((s32)cpu->gpr[G_ESI], -42);
    ck_assert_uint_eq(cpu->gpr[G_EDI], 0);
    ck_assert_uint_eq(cpu->gpr[G_EAX], 7);
}
END_TEST

START_TEST(a_general_register_beside_memory_keeps_its_place)
{
    PROGRAM(0xf3, 0x0f, 0x2c, 0x35, MODRM_DATA); /* cvttss2si esi, [DATA] */
    float v = 12.75f;
    memcpy(ram(DATA), &v, 4);
    cpu->gpr[G_EAX] = 7;
    STEPS(1);
    ck_assert_uint_eq(cpu->gpr[G_ESI], 12);
    ck_assert_uint_eq(cpu->gpr[G_EAX], 7);
}
END_TEST

START_TEST(comparisons_set_eflags_and_fcmov_reads_them)
{
    PROGRAM(0xd9, 0xe8, 0xd9, 0xee, 0xdf, 0xf1, 0x66, 0x0f, 0x2f, 0xc1, 0xda, 0xc8); /* fld1; fldz; fcomip st1; comisd
                                                                                        xmm0, xmm1; fcmove st0, st0 */
    cpu->aflags = F_OF | F_AF | F_SF;
    STEPS(3);
    ck_assert_uint_eq(cpu->aflags, F_CF); /* 0 below 1 */
    STEPS(2);
    ck_assert_uint_eq(cpu->aflags, F_ZF); /* both 0 */
}
END_TEST

/* ---- what must hold before ---- */

static const struct {
    const char *what;
    u8 code[8];
    u32 cr0_set, cr4_clear, expected;
} gates[] = {
    { "x87, TS", { 0xd9, 0xe8 }, CR0_TS, 0, EXC(V_NM, 0) },
    { "x87, EM", { 0xd9, 0xe8 }, CR0_EM, 0, EXC(V_NM, 0) },
    { "fninit, TS", { 0xdb, 0xe3 }, CR0_TS, 0, EXC(V_NM, 0) },
    { "fwait, TS and MP", { 0x9b }, CR0_TS, 0, EXC(V_NM, 0) },
    { "fwait, EM", { 0x9b }, CR0_EM, 0, NO_EXCEPTION },
    { "mmx, TS", { 0x0f, 0xef, 0xc0 }, CR0_TS, 0, EXC(V_NM, 0) },
    { "mmx, EM", { 0x0f, 0xef, 0xc0 }, CR0_EM, 0, EXC(V_UD, 0) },
    { "mmx, no OSFXSR", { 0x0f, 0xef, 0xc0 }, 0, CR4_OSFXSR, NO_EXCEPTION },
    { "sse, TS", { 0x0f, 0x57, 0xc0 }, CR0_TS, 0, EXC(V_NM, 0) },
    { "sse, EM", { 0x0f, 0x57, 0xc0 }, CR0_EM, 0, EXC(V_UD, 0) },
    { "sse, no OSFXSR", { 0x0f, 0x57, 0xc0 }, 0, CR4_OSFXSR, EXC(V_UD, 0) },
    { "fxsave, TS", { 0x0f, 0xae, 0x05, MODRM_DATA }, CR0_TS, 0, EXC(V_NM, 0) },
    { "fxsave, no OSFXSR", { 0x0f, 0xae, 0x05, MODRM_DATA }, 0, CR4_OSFXSR, NO_EXCEPTION },
    { "sfence, TS", { 0x0f, 0xae, 0xf8 }, CR0_TS | CR0_EM, CR4_OSFXSR, NO_EXCEPTION },
    { "movnti, TS", { 0x0f, 0xc3, 0x05, MODRM_DATA }, CR0_TS | CR0_EM, CR4_OSFXSR, NO_EXCEPTION },
    { "movaps, misaligned", { 0x0f, 0x28, 0x05, 8, 0, 8, 0 }, 0, 0, EXC(V_GP, 0) },
    { "movups, misaligned", { 0x0f, 0x10, 0x05, 8, 0, 8, 0 }, 0, 0, NO_EXCEPTION },
    { "fxsave, misaligned", { 0x0f, 0xae, 0x05, 8, 0, 8, 0 }, 0, 0, EXC(V_GP, 0) },
};

START_TEST(an_instruction_is_let_through_or_not)
{
    bus_dma_write(bus, CODE, gates[_i].code, sizeof gates[_i].code);
    cpu->eip = CODE;
    cpu->cr0 |= gates[_i].cr0_set;
    cpu->cr4 &= ~gates[_i].cr4_clear;
    u32 got = RAISED(interp_one(ip));
    ck_assert_msg(got == gates[_i].expected, "%s: raised %05x, expected %05x", gates[_i].what, got, gates[_i].expected);
}
END_TEST

/* ---- x87 exceptions ---- */

START_TEST(an_unmasked_x87_exception_waits_for_the_next_waiting_instruction)
{
    /* fldz; fdivr [DATA] (1/0); fnstsw ax; fld1 */
    PROGRAM(0xd9, 0xee, 0xdc, 0x3d, MODRM_DATA, 0xdf, 0xe0, 0xd9, 0xe8);
    poke_double(DATA, 1.0);
    cpu->fx.fcw = 0x37b; /* ZM clear */
    STEPS(3);
    ck_assert_uint_eq(cpu->gpr[G_EAX] & 0x80ff, 0x8084); /* B, ES, ZE */
    ASSERT_EXC(EXC(V_MF, 0));
    ck_assert_uint_eq(cpu->fx.ftw, 0x80); /* still the one zero */
    ck_assert_uint_eq(cpu->fx.st[0][9], 0);
    PROGRAM(0x9b);
    ASSERT_EXC(EXC(V_MF, 0));
    PROGRAM(0x0f, 0x77); /* emms */
    ASSERT_EXC(EXC(V_MF, 0));
    PROGRAM(0xdb, 0xe2, 0x9b); /* fnclex; fwait */
    STEPS(2);
}
END_TEST

START_TEST(an_unmasked_invalid_store_leaves_memory_alone)
{
    PROGRAM(0xd9, 0x05, MODRM_DATA, 0xdb, 0x1d, 8, 0, 8, 0); /* fld dword [DATA]; fistp dword [DATA+8] */
    float big = 1e30f;
    memcpy(ram(DATA), &big, 4);
    poke32(DATA + 8, 0x55555555);
    cpu->fx.fcw = 0x37e; /* IM clear */
    STEPS(2);
    ck_assert_uint_eq(peek32(DATA + 8), 0x55555555);
    ck_assert_uint_eq(cpu->fx.ftw, 0x80); /* nor popped */
    ck_assert_uint_eq(cpu->fx.fsw & 0x8081, 0x8081);
}
END_TEST

START_TEST(without_ne_a_pending_exception_is_ignored_where_ferr_is_not_wired)
{
    PROGRAM(0xd9, 0xe8, 0x9b, 0x0f, 0xef, 0xc0); /* fld1; fwait; pxor mm0, mm0 */
    cpu->cr0 &= ~(u32)CR0_NE;
    cpu->fx.fcw = 0x37b;
    cpu->fx.fsw = 0x8084;
    STEPS(3);
    ck_assert_uint_eq(cpu->fx.fcw, 0x37b);
    ck_assert_uint_eq(cpu->fx.fsw & 0x8084, 0x8084);
}
END_TEST

/* ---- SSE exceptions ---- */

static bool ferr;
static void on_ferr(void *arg, bool level) { *(bool *)arg = level; }

START_TEST(without_ne_the_processor_waits_with_ferr_until_ignne)
{
    PROGRAM(0xfb, 0xd9, 0xe8, 0xdb, 0xe2); /* sti; fld1; fnclex */
    u32 at = cpu->eip;
    cpu->ferr_hook = on_ferr;
    cpu->ferr_arg = &ferr;
    cpu->cr0 &= ~(u32)CR0_NE;
    cpu->fx.fcw = 0x37b;
    cpu->fx.fsw = 0x8084;
    STEPS(2);
    ck_assert(ferr && cpu->ferr);
    ck_assert_uint_eq(cpu->halted, 1);
    ck_assert_uint_eq(cpu->eip, at + 1);
    ck_assert_uint_eq(cpu->intr_shadow, SHADOW_NONE); /* STI's does not keep the interrupt away */
    cpu->halted = 0;
    cpu->eflags_sys |= F_TF; /* what has not been done is not followed by a trap */
    STEPS(1);
    ck_assert_uint_eq(cpu->halted, 1);
    ck_assert_uint_eq(cpu->eip, at + 1);
    cpu->eflags_sys &= ~(u32)F_TF;
    cpu->halted = 0;
    cpu->ignne = 1;
    STEPS(1);
    ck_assert_uint_eq(cpu->halted, 0);
    ck_assert_uint_eq(cpu->eip, at + 3);
    ck_assert(ferr);
    STEPS(1);
    ck_assert(!ferr && !cpu->ferr);
}
END_TEST

START_TEST(an_unmasked_sse_exception_faults_and_changes_only_mxcsr)
{
    PROGRAM(0xf2, 0x0f, 0x5e, 0x05, MODRM_DATA); /* divsd xmm0, [DATA] */
    double one = 1.0, got;
    memcpy(cpu->fx.xmm[0], &one, 8);
    poke_double(DATA, 0.0);
    cpu->fx.mxcsr = 0x1f80 & ~0x200u; /* ZM clear */
    ASSERT_EXC(EXC(V_XM, 0));
    ck_assert_uint_eq(cpu->fx.mxcsr, 0x1d84);
    memcpy(&got, cpu->fx.xmm[0], 8);
    ck_assert(got == 1.0);
    cpu->cr4 &= ~(u32)CR4_OSXMMEXCPT;
    ASSERT_EXC(EXC(V_UD, 0));
    cpu->fx.mxcsr = 0x1f80;
    STEPS(1);
    ck_assert_uint_eq(cpu->fx.mxcsr, 0x1f84);
}
END_TEST

START_TEST(flags_that_are_set_already_do_not_fault)
{
    PROGRAM(0xf2, 0x0f, 0x58, 0x05, MODRM_DATA); /* addsd xmm0, [DATA] */
    poke_double(DATA, 1.0);
    cpu->fx.mxcsr = 0x003f; /* everything flagged, nothing masked */
    STEPS(1);
    ck_assert_uint_eq(cpu->fx.mxcsr, 0x003f);
}
END_TEST

START_TEST(reserved_bits_of_mxcsr_fault)
{
    PROGRAM(0x0f, 0xae, 0x15, MODRM_DATA); /* ldmxcsr */
    poke32(DATA, 0x10000);
    ASSERT_EXC(EXC(V_GP, 0));
    poke32(DATA, 0xffff);
    STEPS(1);
    ck_assert_uint_eq(cpu->fx.mxcsr, 0xffff);
    PROGRAM(0x0f, 0xae, 0x0d, MODRM_DATA); /* fxrstor */
    poke32(DATA + 24, 0x80001f80);
    ASSERT_EXC(EXC(V_GP, 0));
}
END_TEST

/* Denormals-are-zeros came with SSE2; a mask of 0 in the image says that it is not there (SDM vol. 1, 11.6.6). */
START_TEST(a_model_without_daz_refuses_its_bit)
{
    interp_teardown();
    interp_setup_model("pentium3");
    cpu->cr4 |= CR4_OSFXSR;
    cpu->fx.mxcsr = 0x1f80;
    PROGRAM(0x0f, 0xae, 0x15, MODRM_DATA, 0x0f, 0xae, 0x05, MODRM_DATA); /* ldmxcsr; fxsave */
    poke32(DATA, 0x1fc0);
    ASSERT_EXC(EXC(V_GP, 0));
    poke32(DATA, 0x1f80);
    STEPS(2);
    ck_assert_uint_eq(peek32(DATA + 28), 0);
}
END_TEST

/* ---- state in memory ---- */

START_TEST(fxsave_and_fxrstor_are_inverse_and_leave_the_rest_alone)
{
    struct fxstate before;
    PROGRAM(0xd9, 0xe8, 0x0f, 0xae, 0x05, MODRM_DATA, 0xdb, 0xe3, 0x0f, 0xae, 0x0d, MODRM_DATA); /* fld1; fxsave;
                                                                                                    fninit; fxrstor */
    memset(ram(DATA), 0xaa, 512);
    for (unsigned i = 0; i < 8; i++) memset(cpu->fx.xmm[i], (int)(i + 1), 16);
    STEPS(1);
    before = cpu->fx;
    STEPS(3);
    ck_assert_mem_eq(&before, &cpu->fx, offsetof(struct fxstate, rest));
    ck_assert_uint_eq(peek32(DATA + 28), 0xffff); /* MXCSR_MASK */
    for (unsigned i = 288; i < 512; i++) ck_assert_uint_eq(*ram(DATA + i), 0xaa);
}
END_TEST

START_TEST(fxsave_and_fnstenv_name_the_last_instruction_and_its_operand)
{
    PROGRAM(0xdd, 0x05, MODRM_DATA, 0x0f, 0xae, 0x05, 0, 1, 8, 0, 0xd9, 0x35, 0, 2, 8, 0); /* fld qword [DATA]; fxsave
                                                                                              [DATA+100]; fnstenv
                                                                                              [DATA+200] */
    STEPS(3);
    ck_assert_uint_eq(peek16(DATA + 0x100 + 6), 0x505); /* FOP */
    ck_assert_uint_eq(peek32(DATA + 0x100 + 8), CODE);
    ck_assert_uint_eq(peek32(DATA + 0x100 + 12), cpu->seg[S_CS].sel);
    ck_assert_uint_eq(peek32(DATA + 0x100 + 16), DATA);
    ck_assert_uint_eq(peek32(DATA + 0x100 + 20), cpu->seg[S_DS].sel);
    ck_assert_uint_eq(peek32(DATA + 0x200 + 12), CODE);
    ck_assert_uint_eq(peek32(DATA + 0x200 + 16), 0x5050000u | cpu->seg[S_CS].sel);
    ck_assert_uint_eq(peek32(DATA + 0x200 + 20), DATA);
    ck_assert_uint_eq(peek32(DATA + 0x200 + 24), 0xffff0000u | cpu->seg[S_DS].sel);
}
END_TEST

/* fld qword [DATA]; then one instruction; fnstenv [DATA+200]. Returns whether that one has moved FIP. */
static bool moves_fip(const u8 *code, unsigned len, u32 *fdp)
{
    u8 program[32] = { 0xdb, 0xe3, 0xdd, 0x05, MODRM_DATA };
    interp_teardown();
    interp_setup();
    memcpy(program + 8, code, len);
    memcpy(program + 8 + len, (u8[]){ 0xd9, 0x35, 0, 2, 8, 0 }, 6);
    memcpy(ram(CODE), program, 14 + len);
    cpu->eip = CODE;
    STEPS(4);
    *fdp = peek32(DATA + 0x200 + 20);
    u32 fip = peek32(DATA + 0x200 + 12);
    ck_assert_msg(fip == CODE + 2 || fip == CODE + 8, "FIP is %x", fip);
    return fip == CODE + 8;
}

/* As a processor (Zen 3) has it. */
START_TEST(all_x87_instructions_but_those_of_control_move_the_pointers)
{
    static const struct {
        u8 code[6], len;
        bool moves, operand;
    } of[] = {
        { { 0xd9, 0xd0 }, 2, true, false },                 /* FNOP */
        { { 0xd9, 0xf7 }, 2, true, false },                 /* FINCSTP */
        { { 0xdd, 0xc1 }, 2, true, false },                 /* FFREE */
        { { 0xd9, 0xe5 }, 2, true, false },                 /* FXAM */
        { { 0xd8, 0xc1 }, 2, true, false },                 /* FADD */
        { { 0xdd, 0x1d, 0x40, 0, 8, 0 }, 6, true, true },   /* FSTP [DATA+40] */
        { { 0xd9, 0x2d, 0x00, 2, 8, 0 }, 6, false, false }, /* FLDCW */
        { { 0xd9, 0x3d, 0x40, 0, 8, 0 }, 6, false, false }, /* FNSTCW */
        { { 0xdd, 0x3d, 0x40, 0, 8, 0 }, 6, false, false }, /* FNSTSW */
        { { 0xdf, 0xe0 }, 2, false, false },                /* FNSTSW AX */
        { { 0xdb, 0xe2 }, 2, false, false },                /* FNCLEX */
        { { 0x9b }, 1, false, false },                      /* FWAIT */
        { { 0xdb, 0xe0 }, 2, false, false },                /* FNENI */
        { { 0x0f, 0x6f, 0xc1 }, 3, false, false },          /* MOVQ MM0, MM1 */
        { { 0x0f, 0x77 }, 2, false, false },                /* EMMS */
        { { 0xd9, 0x35, 0x00, 2, 8, 0 }, 6, false, false }, /* FNSTENV */
    };
    for (unsigned i = 0; i < sizeof of / sizeof of[0]; i++) {
        u32 fdp;
        bool moved = moves_fip(of[i].code, of[i].len, &fdp);
        ck_assert_msg(moved == of[i].moves, "row %u: moved %d", i, moved);
        ck_assert_msg(fdp == (of[i].operand ? DATA + 0x40 : DATA), "row %u: FDP %x", i, fdp);
    }
}
END_TEST

/* SDM vol. 1, figures 8-10 and 8-12. */
START_TEST(real_modes_formats_have_linear_addresses)
{
    /* fld qword [DATA]; fnstenv [DATA+200]; fnstenv16 [DATA+300] */
    PROGRAM(0xdd, 0x05, MODRM_DATA, 0xd9, 0x35, 0, 2, 8, 0, 0x66, 0xd9, 0x35, 0, 3, 8, 0);
    u32 from = ((u32)cpu->seg[S_CS].sel << 4) + CODE, dp = ((u32)cpu->seg[S_DS].sel << 4) + DATA;
    STEPS(1);
    cpu->cr0 &= ~(u32)CR0_PE;
    STEPS(2);
    ck_assert_uint_eq(peek32(DATA + 0x20c), 0xffff0000u | (from & 0xffff));
    ck_assert_uint_eq(peek32(DATA + 0x210), from >> 16 << 12 | 0x505);
    ck_assert_uint_eq(peek32(DATA + 0x214), 0xffff0000u | (dp & 0xffff));
    ck_assert_uint_eq(peek32(DATA + 0x218), dp >> 16 << 12);
    ck_assert_uint_eq(peek16(DATA + 0x306), from & 0xffff);
    ck_assert_uint_eq(peek16(DATA + 0x308), (from >> 16 & 15) << 12 | 0x505);
    ck_assert_uint_eq(peek16(DATA + 0x30a), dp & 0xffff);
    ck_assert_uint_eq(peek16(DATA + 0x30c), (dp >> 16 & 15) << 12);
    cpu->cr0 |= CR0_PE;
}
END_TEST

START_TEST(each_format_of_the_environment_holds_what_it_has_room_for)
{
    /* fldenv [DATA]; fnstenv [DATA+200]; fnstenv16 [DATA+300]; fldenv16 [DATA+300]; fnstenv [DATA+400] */
    PROGRAM(0xd9, 0x25, MODRM_DATA, 0xd9, 0x35, 0, 2, 8, 0, 0x66, 0xd9, 0x35, 0, 3, 8, 0, 0x66, 0xd9, 0x25, 0, 3, 8, 0,
            0xd9, 0x35, 0, 4, 8, 0);
    static const u32 env[7] = { 0x37f, 0, 0xffff, 0x12345678, 0xffaa1234, 0x9abcdef0, 0x00005678 };
    for (unsigned i = 0; i < 7; i++) poke32(DATA + 4 * i, env[i]);
    STEPS(5);
    ck_assert_uint_eq(peek32(DATA + 0x20c), 0x12345678);
    ck_assert_uint_eq(peek32(DATA + 0x210), 0x07aa1234);
    ck_assert_uint_eq(peek32(DATA + 0x214), 0x9abcdef0);
    ck_assert_uint_eq(peek32(DATA + 0x218), 0xffff5678);
    ck_assert_uint_eq(peek32(DATA + 0x306), 0x12345678);
    ck_assert_uint_eq(peek32(DATA + 0x30a), 0x5678def0);
    ck_assert_uint_eq(peek32(DATA + 0x40c), 0x5678);
    ck_assert_uint_eq(peek32(DATA + 0x410), 0x1234);
    ck_assert_uint_eq(peek32(DATA + 0x414), 0xdef0);
    ck_assert_uint_eq(peek32(DATA + 0x418), 0xffff5678);
}
END_TEST

START_TEST(fnsave_writes_tags_and_registers_and_frstor_brings_them_back)
{
    /* fldz; fld1; fnsave [DATA]; frstor [DATA] */
    PROGRAM(0xd9, 0xee, 0xd9, 0xe8, 0xdd, 0x35, MODRM_DATA, 0xdd, 0x25, MODRM_DATA);
    STEPS(3);
    ck_assert_uint_eq(peek16(DATA), 0x37f);
    ck_assert_uint_eq(peek16(DATA + 4), 6 << 11);
    ck_assert_uint_eq(peek16(DATA + 8), 0x4fff);      /* R7 zero, R6 valid, the others empty */
    ck_assert_uint_eq(peek16(DATA + 28 + 8), 0x3fff); /* ST0 = 1.0 */
    ck_assert_uint_eq(cpu->fx.ftw, 0);
    ck_assert_uint_eq(cpu->fx.fsw, 0);
    STEPS(1);
    ck_assert_uint_eq(cpu->fx.ftw, 0xc0);
    ck_assert_uint_eq(cpu->fx.st[0][9], 0x3f);
    ck_assert_uint_eq(cpu->fx.st[1][9], 0);
}
END_TEST

START_TEST(fldenv_that_moves_the_top_leaves_the_registers_where_they_are)
{
    PROGRAM(0xd9, 0xe8, 0xd9, 0x35, MODRM_DATA, 0xd9, 0x25, MODRM_DATA); /* fld1 (R7); fnstenv; fldenv */
    STEPS(2);
    poke16(DATA + 4, 5 << 11); /* TOP: 5, so that R7 is ST2 */
    STEPS(1);
    ck_assert_uint_eq(cpu->fx.st[2][9], 0x3f);
    ck_assert_uint_eq(cpu->fx.st[0][9], 0);
}
END_TEST

START_TEST(maskmovdqu_touches_only_what_is_selected)
{
    fix_page();
    fix_pte(DATA + PAGE_SIZE, 0);
    PROGRAM(0x66, 0x0f, 0xf7, 0xc1); /* maskmovdqu xmm0, xmm1 */
    memset(cpu->fx.xmm[0], 0x11, 16);
    memset(cpu->fx.xmm[1], 0, 16);
    cpu->fx.xmm[1][0] = cpu->fx.xmm[1][3] = 0x80;
    cpu->gpr[G_EDI] = DATA + PAGE_SIZE - 4; /* the last twelve bytes would fault */
    STEPS(1);
    ck_assert_uint_eq(peek32(DATA + PAGE_SIZE - 4), 0x11000011);
    cpu->fx.xmm[1][4] = 0x80;
    cpu->eip = CODE;
    poke32(DATA + PAGE_SIZE - 4, 0);
    ASSERT_EXC(EXC(V_PF, PF_W));
    ck_assert_uint_eq(peek32(DATA + PAGE_SIZE - 4), 0);
}
END_TEST

START_TEST(a_store_to_a_page_that_faults_changes_nothing)
{
    struct fxstate before;
    fix_page();
    fix_pte(DATA, 5);
    PROGRAM(0xd9, 0xe8, 0xdd, 0x1d, MODRM_DATA); /* fld1; fstp qword [DATA] */
    STEPS(1);
    before = cpu->fx;
    ASSERT_EXC(EXC(V_PF, PF_P | PF_W));
    ck_assert_mem_eq(&before, &cpu->fx, sizeof before);
}
END_TEST

START_TEST(the_hosts_own_control_words_stay)
{
    u16 fcw;
    u32 mxcsr;
    PROGRAM(0xd9, 0xe8, 0x0f, 0x57, 0xc0); /* fld1; xorps */
    cpu->fx.fcw = 0x0040;                  /* nothing masked, single precision */
    cpu->fx.mxcsr = 0xe040;                /* flush to zero, denormals are zeros, towards zero; nothing masked */
    STEPS(2);
    __asm__ volatile("fnstcw %0; stmxcsr %1" : "=m"(fcw), "=m"(mxcsr));
    ck_assert_uint_eq(fcw, 0x37f);
    ck_assert_uint_eq(mxcsr & ~0x3fu, 0x1f80);
}
END_TEST

START_TEST(more_forms_than_there_is_room_for)
{
    /* pshufd xmm0, xmm1, imm8 with all registers and immediates: 16384 forms; twice, so that some were dropped
     * meanwhile */
    for (unsigned i = 0; i < 40000; i++) {
        u8 code[5] = { 0x66, 0x0f, 0x70, (u8)(0xc0 | (i & 63)), (u8)(i >> 6) };
        unsigned dst = i >> 3 & 7, src = i & 7;
        u32 in[4] = { 10, 11, 12, 13 }, out[4];
        memcpy(cpu->fx.xmm[src], in, 16);
        bus_dma_write(bus, CODE, code, sizeof code);
        cpu->eip = CODE;
        STEPS(1);
        memcpy(out, cpu->fx.xmm[dst], 16);
        for (unsigned k = 0; k < 4; k++) ck_assert_uint_eq(out[k], in[code[4] >> 2 * k & 3]);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("interp_fpu");
    TCase *t = tcase_create("interp_fpu");
    tcase_add_checked_fixture(t, setup, interp_teardown);
    tcase_add_test(t, arithmetic_goes_through_memory_and_back);
    tcase_add_test(t, sse_reads_and_writes_general_registers);
    tcase_add_test(t, a_general_register_beside_memory_keeps_its_place);
    tcase_add_test(t, comparisons_set_eflags_and_fcmov_reads_them);
    tcase_add_loop_test(t, an_instruction_is_let_through_or_not, 0, ARRAY_LEN(gates));
    tcase_add_test(t, an_unmasked_x87_exception_waits_for_the_next_waiting_instruction);
    tcase_add_test(t, an_unmasked_invalid_store_leaves_memory_alone);
    tcase_add_test(t, without_ne_a_pending_exception_is_ignored_where_ferr_is_not_wired);
    tcase_add_test(t, without_ne_the_processor_waits_with_ferr_until_ignne);
    tcase_add_test(t, an_unmasked_sse_exception_faults_and_changes_only_mxcsr);
    tcase_add_test(t, flags_that_are_set_already_do_not_fault);
    tcase_add_test(t, reserved_bits_of_mxcsr_fault);
    tcase_add_test(t, a_model_without_daz_refuses_its_bit);
    tcase_add_test(t, fxsave_and_fxrstor_are_inverse_and_leave_the_rest_alone);
    tcase_add_test(t, fxsave_and_fnstenv_name_the_last_instruction_and_its_operand);
    tcase_add_test(t, all_x87_instructions_but_those_of_control_move_the_pointers);
    tcase_add_test(t, real_modes_formats_have_linear_addresses);
    tcase_add_test(t, each_format_of_the_environment_holds_what_it_has_room_for);
    tcase_add_test(t, fnsave_writes_tags_and_registers_and_frstor_brings_them_back);
    tcase_add_test(t, fldenv_that_moves_the_top_leaves_the_registers_where_they_are);
    tcase_add_test(t, maskmovdqu_touches_only_what_is_selected);
    tcase_add_test(t, a_store_to_a_page_that_faults_changes_nothing);
    tcase_add_test(t, the_hosts_own_control_words_stay);
    tcase_add_test(t, more_forms_than_there_is_room_for);
    tcase_set_timeout(t, 60);
    suite_add_tcase(s, t);
    return fix_run(s);
}
