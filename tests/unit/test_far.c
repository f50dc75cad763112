/* far.c and task.c: transfers of control that change CS, privilege or task. */
#include "runtime/cpu/except.h"
#include "runtime/cpu/far.h"
#include "runtime/cpu/seg.h"
#include "tests/unit/cpu_fixture.h"

static void push32(u32 v)
{
    cpu->gpr[G_ESP] -= 4;
    poke32(cpu->gpr[G_ESP], v);
}

#define TARGET 0x123456u
#define NEXT (CODE + 7)

/* ---- without a gate ---- */

struct direct {
    unsigned access;
    u16 rpl;
    u32 ring0, ring3; /* vector, or 0 */
};
static const struct direct directs[] = {
    { AC_CODE, 0, 0, V_GP },
    { AC_CODE, 3, V_GP, V_GP },
    { AC_CODE | AC_DPL3, 3, V_GP, 0 },
    { AC_CODE | AC_DPL3, 0, V_GP, 0 },
    { 0x9f, 0, 0, 0 },
    { 0x9f, 3, 0, 0 },
    { 0x9f | AC_DPL3, 3, V_GP, 0 },
    { AC_CODE & ~0x80u, 0, V_NP, V_GP },
    { AC_DATA, 0, V_GP, V_GP },
    { AC_LDT, 0, V_GP, V_GP },
    { AC_INT32, 0, V_GP, V_GP },
    { AC_TSS | 2, 0, V_GP, V_GP }, /* a busy one */
};

START_TEST(a_direct_transfer_checks_the_code_segment)
{
    const struct direct *d = &directs[_i];
    for (unsigned call = 0; call < 2; call++) {
        for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
            fix_ring(cpl);
            gdt_set(SEL_X, 0, 0xfffff, d->access, FLAT);
            struct regs before;
            regs_get(&before);
            u32 v = cpl ? d->ring3 : d->ring0;
            ASSERT_RAISED(call ? far_call(cpu, SEL_X | d->rpl, TARGET, NEXT, 4)
                               : far_jmp(cpu, SEL_X | d->rpl, TARGET, 4),
                          v ? EXC(v, SEL_X) : 0);
            if (v) {
                ck_assert(regs_same(&before));
                continue;
            }
            ck_assert_uint_eq(cpu->eip, TARGET);
            ck_assert_uint_eq(cpu->seg[S_CS].sel, SEL_X | cpl);
            ck_assert_uint_eq(cpu->cpl, cpl);
            ck_assert_uint_eq(cpu->gpr[G_ESP], before.gpr[G_ESP] - (call ? 8 : 0));
            if (call) {
                ck_assert_uint_eq(peek32(cpu->gpr[G_ESP]), NEXT);
                ck_assert_uint_eq(peek32(cpu->gpr[G_ESP] + 4), before.seg[S_CS].sel);
                ASSERT_RAISED(far_ret(cpu, 4, 12), 0);
                ck_assert_uint_eq(cpu->eip, NEXT);
                ck_assert_uint_eq(cpu->seg[S_CS].sel, before.seg[S_CS].sel);
                ck_assert_uint_eq(cpu->gpr[G_ESP], before.gpr[G_ESP] + 12);
            }
            assert_mode_consistent();
        }
    }
}
END_TEST

START_TEST(null_and_absent_selectors_and_bad_offsets)
{
    ASSERT_RAISED(far_jmp(cpu, 0, 0, 4), EXC(V_GP, 0));
    ASSERT_RAISED(far_jmp(cpu, GDT_ENTRIES * 8, 0, 4), EXC(V_GP, GDT_ENTRIES * 8));
    gdt_set(SEL_X, 0, 0xffff, AC_CODE, WIDE);
    ASSERT_RAISED(far_jmp(cpu, SEL_X, 0x10000, 4), EXC(V_GP, 0));
    ASSERT_RAISED(far_jmp(cpu, SEL_X, 0x1ffff, 2), 0); /* 16 bits of it count */
    ck_assert_uint_eq(cpu->eip, 0xffff);
    ck_assert_uint_eq(cpu->mode & MK_CSFLAT, 0);
    fix_ring(0);
    cpu->seg[S_SS].limit = STACK0 - 9; /* no room for the return address: comes before the offset */
    cpu_update_mode(cpu);
    ASSERT_RAISED(far_call(cpu, SEL_X, 0x10000, NEXT, 4), EXC(V_SS, 0));
    poke32(STACK0 - 8, 0x5a5a5a5a);
    cpu->seg[S_SS].limit = 0xffffffff;
    cpu_update_mode(cpu);
    ASSERT_RAISED(far_call(cpu, SEL_X, 0x10000, NEXT, 4), EXC(V_GP, 0));
    ck_assert_uint_eq(peek32(STACK0 - 8), 0x5a5a5a5a);
}
END_TEST

START_TEST(real_mode_transfers_and_their_way_back)
{
    cpu->cr0 &= ~CR0_PE;
    for (unsigned s = 0; s < S_COUNT; s++) cpu->seg[s] = (struct seg){ .limit = 0xffff, .attr = AC_DATA };
    cpu->seg[S_CS].sel = 0x100, cpu->seg[S_CS].base = 0x1000;
    cpu->gpr[G_ESP] = 0xabcd0002; /* SP 2: the second word wraps around */
    cpu_update_mode(cpu);
    ASSERT_RAISED(far_call(cpu, 0x2000, 0x34, 0x77, 2), 0);
    ck_assert_uint_eq(cpu->eip, 0x34);
    ck_assert_uint_eq(cpu->seg[S_CS].base, 0x20000);
    ck_assert_uint_eq(cpu->gpr[G_ESP], 0xabcdfffe);
    ck_assert_uint_eq(peek16(0), 0x100);
    ck_assert_uint_eq(peek16(0xfffe), 0x77);
    ASSERT_RAISED(far_ret(cpu, 2, 0), 0);
    ck_assert_uint_eq(cpu->eip, 0x77);
    ck_assert_uint_eq(cpu->seg[S_CS].base, 0x1000);
    ck_assert_uint_eq(cpu->gpr[G_ESP], 0xabcd0002);
    ASSERT_RAISED(far_jmp(cpu, 0x2000, 0x10000, 4), EXC(V_GP, 0));
}
END_TEST

/* ---- call gates ---- */

START_TEST(a_call_gate_switches_stacks_and_copies_parameters)
{
    put_gate(GDT + SEL_GATE, CS0, TARGET, AC_CALL32 | AC_DPL3, 3);
    fix_ring(3);
    push32(0x33), push32(0x22), push32(0x11);
    u32 esp = cpu->gpr[G_ESP];
    ASSERT_RAISED(far_call(cpu, SEL_GATE | 3, 0xdead, NEXT, 4), 0);
    ck_assert_uint_eq(cpu->eip, TARGET);
    ck_assert_uint_eq(cpu->cpl, 0);
    ck_assert_uint_eq(cpu->seg[S_CS].sel, CS0);
    ck_assert_uint_eq(cpu->seg[S_SS].sel, SS0);
    const u32 frame[] = { NEXT, CS3, 0x11, 0x22, 0x33, esp, DS3 };
    ck_assert_uint_eq(cpu->gpr[G_ESP], STACK0 - sizeof frame);
    ck_assert_mem_eq(ram(cpu->gpr[G_ESP]), frame, sizeof frame);
    assert_mode_consistent();

    /* and back, with the parameters dropped from both stacks */
    cpu->seg[S_FS] = cpu->seg[S_SS];
    ASSERT_RAISED(far_ret(cpu, 4, 12), 0);
    ck_assert_uint_eq(cpu->cpl, 3);
    ck_assert_uint_eq(cpu->eip, NEXT);
    ck_assert_uint_eq(cpu->gpr[G_ESP], esp + 12);
    ck_assert_uint_eq(cpu->seg[S_FS].sel, 0); /* was privileged */
    ck_assert(cpu->seg[S_FS].attr & SEG_UNUSABLE);
    ck_assert_uint_eq(cpu->seg[S_DS].sel, DS3);
    assert_mode_consistent();
}
END_TEST

START_TEST(a_call_gate_of_16_bits_pushes_words)
{
    put_gate(GDT + SEL_GATE, CS0, 0x4321, AC_CALL16 | AC_DPL3, 1);
    fix_ring(3);
    cpu->gpr[G_ESP] -= 2;
    poke16(cpu->gpr[G_ESP], 0x11);
    ASSERT_RAISED(far_call(cpu, SEL_GATE, 0, NEXT, 4), 0);
    const u16 frame[] = { (u16)NEXT, CS3, 0x11, STACK3 - 2, DS3 };
    ck_assert_uint_eq(cpu->gpr[G_ESP], STACK0 - sizeof frame);
    ck_assert_mem_eq(ram(cpu->gpr[G_ESP]), frame, sizeof frame);
    ck_assert_uint_eq(cpu->eip, 0x4321);
}
END_TEST

START_TEST(a_call_gate_refuses)
{
    struct regs before;
    fix_ring(3);
    regs_get(&before);
    put_gate(GDT + SEL_GATE, CS0, TARGET, AC_CALL32, 0);
    ASSERT_RAISED(far_call(cpu, SEL_GATE, 0, NEXT, 4), EXC(V_GP, SEL_GATE)); /* DPL 0 */
    put_gate(GDT + SEL_GATE, CS0, TARGET, (AC_CALL32 | AC_DPL3) & ~0x80, 0);
    ASSERT_RAISED(far_call(cpu, SEL_GATE, 0, NEXT, 4), EXC(V_NP, SEL_GATE));
    put_gate(GDT + SEL_GATE, 0, TARGET, AC_CALL32 | AC_DPL3, 0);
    ASSERT_RAISED(far_call(cpu, SEL_GATE, 0, NEXT, 4), EXC(V_GP, 0));
    put_gate(GDT + SEL_GATE, SS0, TARGET, AC_CALL32 | AC_DPL3, 0);
    ASSERT_RAISED(far_call(cpu, SEL_GATE, 0, NEXT, 4), EXC(V_GP, SS0));
    put_gate(GDT + SEL_GATE, CS0, TARGET, AC_CALL32 | AC_DPL3, 0);
    ASSERT_RAISED(far_jmp(cpu, SEL_GATE, 0, 4), EXC(V_GP, CS0)); /* JMP does not change privilege */
    gdt_set(CS0, 0, 0xfffff, AC_CODE & ~0x80, FLAT);
    ASSERT_RAISED(far_call(cpu, SEL_GATE, 0, NEXT, 4), EXC(V_NP, CS0));
    gdt_set(CS0, 0, 0xff, AC_CODE, WIDE);
    ASSERT_RAISED(far_call(cpu, SEL_GATE, 0, NEXT, 4), EXC(V_GP, 0)); /* offset */
    gdt_set(CS0, 0, 0xfffff, AC_CODE, FLAT);
    gdt_set(SS0, 0, STACK0 - 9, AC_DATA, WIDE);
    ASSERT_RAISED(far_call(cpu, SEL_GATE, 0, NEXT, 4), EXC(V_SS, SS0));
    gdt_set(SS0, 0, 0xfffff, AC_DATA & ~0x80, FLAT);
    ASSERT_RAISED(far_call(cpu, SEL_GATE, 0, NEXT, 4), EXC(V_SS, SS0));
    gdt_set(SS0, 0, 0xfffff, 0x91, FLAT);
    ASSERT_RAISED(far_call(cpu, SEL_GATE, 0, NEXT, 4), EXC(V_TS, SS0));
    poke16(TSS + 8, DS3);
    ASSERT_RAISED(far_call(cpu, SEL_GATE, 0, NEXT, 4), EXC(V_TS, DS3 & ~3));
    poke16(TSS + 8, 0);
    ASSERT_RAISED(far_call(cpu, SEL_GATE, 0, NEXT, 4), EXC(V_TS, 0));
    cpu->tr.limit = 8;
    before.tr.limit = 8;
    ASSERT_RAISED(far_call(cpu, SEL_GATE, 0, NEXT, 4), EXC(V_TS, SEL_TSS));
    ck_assert(regs_same(&before));
}
END_TEST

/* ---- IRET ---- */

static void iret_frame(u32 eip, u32 cs, u32 eflags)
{
    cpu->gpr[G_ESP] = STACK0;
    push32(DS3), push32(STACK3), push32(eflags), push32(cs), push32(eip);
}

START_TEST(iret_changes_only_the_flags_that_privilege_allows)
{
    const u32 all = F_ARITH | F_TF | F_IF | F_DF | F_IOPL | F_NT | F_RF | F_AC | F_VIF | F_VIP | F_ID;
    const u32 always = F_ARITH | F_TF | F_DF | F_NT | F_RF | F_AC | F_ID;
    static const struct {
        unsigned cpl, iopl;
        u32 extra;
    } t[] = {
        { 0, 0, F_IF | F_IOPL | F_VIF | F_VIP },
        { 3, 0, 0 },
        { 3, 3, F_IF },
    };
    for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
        fix_ring(t[i].cpl);
        cpu_set_eflags(cpu, t[i].iopl << 12);
        u32 esp = cpu->gpr[G_ESP];
        push32(all), push32(cpu->seg[S_CS].sel), push32(TARGET);
        ASSERT_RAISED(far_iret(cpu, 4), 0);
        ck_assert_uint_eq(cpu_eflags(cpu), always | t[i].extra | F_FIXED | t[i].iopl << 12);
        ck_assert_uint_eq(cpu->eip, TARGET);
        ck_assert_uint_eq(cpu->gpr[G_ESP], esp);
        ck_assert(cpu->mode & MK_SLOW); /* TF */
        assert_mode_consistent();
        cpu_set_eflags(cpu, 0);
    }
}
END_TEST

START_TEST(rf_outlives_iret_only_while_a_breakpoint_is_armed)
{
    for (u32 armed = 0; armed < 2; armed++) {
        fix_ring(0);
        ASSERT_RAISED(cpu_write_dr(cpu, 7, armed), 0);
        push32(F_RF), push32(CS0), push32(TARGET);
        ASSERT_RAISED(far_iret(cpu, 4), 0);
        ck_assert_uint_eq(cpu->eflags_sys, armed ? F_RF : 0);
    }
}
END_TEST

START_TEST(iret_of_16_bits_leaves_the_upper_flags)
{
    cpu_set_eflags(cpu, F_ID | F_AC);
    cpu->gpr[G_ESP] -= 6;
    poke16(cpu->gpr[G_ESP], 0x1234), poke16(cpu->gpr[G_ESP] + 2, CS0), poke16(cpu->gpr[G_ESP] + 4, F_IF | F_CF);
    ASSERT_RAISED(far_iret(cpu, 2), 0);
    ck_assert_uint_eq(cpu_eflags(cpu), F_ID | F_AC | F_IF | F_CF | F_FIXED);
    ck_assert_uint_eq(cpu->eip, 0x1234);
    ck_assert_uint_eq(cpu->gpr[G_ESP], STACK0);
}
END_TEST

START_TEST(iret_to_the_outer_ring)
{
    cpu->seg[S_DS].attr = AC_DATA | AC_DPL3 | SEG_D | SEG_G; /* stays */
    iret_frame(TARGET, CS3, F_IF);
    ASSERT_RAISED(far_iret(cpu, 4), 0);
    ck_assert_uint_eq(cpu->cpl, 3);
    ck_assert_uint_eq(cpu->eip, TARGET);
    ck_assert_uint_eq(cpu->gpr[G_ESP], STACK3);
    ck_assert_uint_eq(cpu->seg[S_SS].sel, DS3);
    ck_assert_uint_eq(cpu->iflag, 1);
    ck_assert_uint_eq(cpu->seg[S_DS].sel, SS0);
    ck_assert(cpu->seg[S_ES].attr & SEG_UNUSABLE);
    ck_assert_uint_eq(cpu->mode & MK_CPL, 3);
    assert_mode_consistent();
}
END_TEST

START_TEST(iret_to_a_16_bit_stack_keeps_the_upper_half_of_esp)
{
    gdt_set(SEL_X, 0, 0xffff, AC_DATA | AC_DPL3, 0);
    iret_frame(TARGET, CS3, 0);
    poke32(STACK0 - 4, SEL_X | 3);
    poke32(STACK0 - 8, 0x77775678);
    ASSERT_RAISED(far_iret(cpu, 4), 0);
    ck_assert_uint_eq(cpu->gpr[G_ESP], ((STACK0 - 20) & 0xffff0000) | 0x5678);
    assert_mode_consistent();
}
END_TEST

START_TEST(iret_to_virtual_8086_mode_and_out_of_it_again)
{
    push32(0x4000), push32(0x3000), push32(0x2000), push32(0x1000); /* GS FS DS ES */
    push32(0x0500), push32(0x1234), push32(F_VM | F_IF | F_IOPL), push32(0x0700), push32(0x0042);
    ASSERT_RAISED(far_iret(cpu, 4), 0);
    ck_assert_uint_eq(cpu->cpl, 3);
    ck_assert(cpu->mode & MK_VM);
    ck_assert_uint_eq(cpu->eip, 0x42);
    ck_assert_uint_eq(cpu->gpr[G_ESP], 0x1234);
    static const u16 sel[S_COUNT] = {
        [S_ES] = 0x1000, [S_CS] = 0x700, [S_SS] = 0x500, [S_DS] = 0x2000, [S_FS] = 0x3000, [S_GS] = 0x4000
    };
    for (unsigned s = 0; s < S_COUNT; s++) {
        ck_assert_uint_eq(cpu->seg[s].sel, sel[s]);
        ck_assert_uint_eq(cpu->seg[s].base, (u32)sel[s] << 4);
        ck_assert_uint_eq(cpu->seg[s].limit, 0xffff);
    }
    assert_mode_consistent();

    /* within: IRET leaves VM and IOPL alone; without IOPL 3 it is the monitor's */
    poke32(0x5000 + 0x1234, 0x10), poke32(0x5000 + 0x1238, 0x710), poke32(0x5000 + 0x123c, F_CF);
    ASSERT_RAISED(far_iret(cpu, 4), 0);
    ck_assert_uint_eq(cpu_eflags(cpu), F_VM | F_IOPL | F_CF | F_FIXED);
    ck_assert_uint_eq(cpu->seg[S_CS].base, 0x7100);
    cpu->eflags_sys &= ~F_IOPL;
    ASSERT_RAISED(far_iret(cpu, 4), EXC(V_GP, 0));
    ASSERT_RAISED(exc_soft_int(cpu, 0x80, 0x12, true), EXC(V_GP, 0));

    /* out: an exception goes to ring 0 with the segment registers on its stack */
    cpu->gpr[G_ESP] = 0x4444;
    cpu->eip = 0x66;
    (void)exc_raise_err(cpu, V_GP, 0);
    ck_assert_int_eq(exc_deliver(cpu), 0);
    const u32 frame[] = { 0, 0x66, 0x710, F_VM | F_CF | F_RF | F_FIXED, 0x4444, 0x500, 0x1000, 0x2000, 0x3000, 0x4000 };
    ck_assert_uint_eq(cpu->gpr[G_ESP], STACK0 - sizeof frame);
    ck_assert_mem_eq(ram(cpu->gpr[G_ESP]), frame, sizeof frame);
    ck_assert_uint_eq(cpu->cpl, 0);
    ck_assert(!(cpu->mode & MK_VM));
    ck_assert(cpu->seg[S_DS].attr & SEG_UNUSABLE);
    ck_assert(cpu->seg[S_GS].attr & SEG_UNUSABLE);
    assert_mode_consistent();
}
END_TEST

START_TEST(iret_refuses)
{
    static const struct {
        u32 cs, ss, raised;
    } t[] = {
        { 0, DS3, EXC(V_GP, 0) },
        { CS0 | 1, DS3, EXC(V_GP, CS0) },
        { DS3, DS3, EXC(V_GP, DS3 & ~3) },
        { 0xfff8, DS3, EXC(V_GP, 0xfff8) },
        { CS3, 0, EXC(V_GP, 0) },
        { CS3, SS0, EXC(V_GP, SS0) },
        { CS3, SS0 | 3, EXC(V_GP, SS0) },
        { CS3, CS3, EXC(V_GP, CS3 & ~3) },
        { SEL_X | 3, DS3, EXC(V_NP, SEL_X) },
        { CS3, SEL_Y | 3, EXC(V_SS, SEL_Y) },
    };
    gdt_set(SEL_X, 0, 0xfffff, (AC_CODE | AC_DPL3) & ~0x80, FLAT);
    gdt_set(SEL_Y, 0, 0xfffff, (AC_DATA | AC_DPL3) & ~0x80, FLAT);
    for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
        iret_frame(TARGET, t[i].cs, F_IF);
        poke32(STACK0 - 4, t[i].ss);
        struct regs before;
        regs_get(&before);
        ASSERT_RAISED(far_iret(cpu, 4), t[i].raised);
        ck_assert(regs_same(&before));
    }
    fix_ring(3); /* inwards */
    push32(F_IF), push32(CS0), push32(TARGET);
    ASSERT_RAISED(far_iret(cpu, 4), EXC(V_GP, CS0));
}
END_TEST

START_TEST(a_frame_that_is_not_mapped_is_a_page_fault_with_nothing_changed)
{
    fix_page();
    cpu->gpr[G_ESP] = STACK0 - 8; /* EIP and CS are here, EFLAGS is on the next page */
    poke32(STACK0 - 8, TARGET), poke32(STACK0 - 4, CS0), poke32(STACK0, 0);
    fix_pte(STACK0, 0);
    struct regs before;
    regs_get(&before);
    ASSERT_RAISED(far_iret(cpu, 4), EXC(V_PF, 0));
    ck_assert_uint_eq(cpu->cr2, STACK0);
    ck_assert(regs_same(&before));
    fix_pte(STACK0, 7);
    ASSERT_RAISED(far_iret(cpu, 4), 0);
    ck_assert_uint_eq(cpu->eip, TARGET);
}
END_TEST

/* ---- SYSENTER, SYSEXIT ---- */

START_TEST(sysenter_and_sysexit)
{
    fix_ring(3);
    ASSERT_RAISED(far_sysenter(cpu), EXC(V_GP, 0)); /* SYSENTER_CS is 0 */
    cpu->sysenter_cs = CS0;
    cpu->sysenter_esp = STACK0;
    cpu->sysenter_eip = TARGET;
    cpu_set_eflags(cpu, F_IF | F_CF | F_RF);
    ASSERT_RAISED(far_sysexit(cpu), EXC(V_GP, 0)); /* CPL 3 */
    ASSERT_RAISED(far_sysenter(cpu), 0);
    ck_assert_uint_eq(cpu->eip, TARGET);
    ck_assert_uint_eq(cpu->gpr[G_ESP], STACK0);
    ck_assert_uint_eq(cpu->cpl, 0);
    ck_assert_uint_eq(cpu_eflags(cpu), F_CF | F_FIXED);
    const struct seg cs = { .sel = CS0, .limit = 0xffffffff, .attr = AC_CODE | SEG_D | SEG_G },
                     ss = { .sel = SS0, .limit = 0xffffffff, .attr = AC_DATA | SEG_D | SEG_G };
    ck_assert_mem_eq(&cpu->seg[S_CS], &cs, sizeof cs);
    ck_assert_mem_eq(&cpu->seg[S_SS], &ss, sizeof ss);
    assert_mode_consistent();

    cpu->gpr[G_ECX] = STACK3;
    cpu->gpr[G_EDX] = NEXT;
    ASSERT_RAISED(far_sysexit(cpu), 0);
    ck_assert_uint_eq(cpu->eip, NEXT);
    ck_assert_uint_eq(cpu->gpr[G_ESP], STACK3);
    ck_assert_uint_eq(cpu->cpl, 3);
    ck_assert_uint_eq(cpu->seg[S_CS].sel, CS3);
    ck_assert_uint_eq(cpu->seg[S_CS].attr, AC_CODE | AC_DPL3 | SEG_D | SEG_G);
    ck_assert_uint_eq(cpu->seg[S_SS].sel, DS3);
    ck_assert_uint_eq(cpu->seg[S_SS].attr, AC_DATA | AC_DPL3 | SEG_D | SEG_G);
    assert_mode_consistent();

    cpu->cr0 &= ~CR0_PE;
    ASSERT_RAISED(far_sysenter(cpu), EXC(V_GP, 0));
}
END_TEST

START_TEST(sysenter_out_of_virtual_8086_mode)
{
    push32(0), push32(0), push32(0x2000), push32(0x1000), push32(0x500), push32(0x1234), push32(F_VM | F_IF),
        push32(0x700), push32(0x42);
    ASSERT_RAISED(far_iret(cpu, 4), 0);
    cpu->sysenter_cs = CS0;
    ASSERT_RAISED(far_sysenter(cpu), 0);
    ck_assert_uint_eq(cpu->eflags_sys & F_VM, 0);
    ck_assert_uint_eq(cpu->mode & (MK_VM | MK_CPL), 0);
    assert_mode_consistent();
}
END_TEST

/* ---- tasks ---- */

static void tss_b(u32 eip, u32 eflags)
{
    static const u16 sel[S_COUNT] = { SS0, CS0, SS0, SS0, SS0, SS0 };
    poke32(TSS_B + 0x20, eip);
    poke32(TSS_B + 0x24, eflags);
    for (u32 i = 0; i < 8; i++) poke32(TSS_B + 0x28 + 4 * i, 0xb0000000 | i);
    poke32(TSS_B + 0x28 + 4 * G_ESP, STACK3);
    for (u32 s = 0; s < S_COUNT; s++) poke32(TSS_B + 0x48 + 4 * s, sel[s]);
    poke32(TSS_B + 0x60, 0);
    poke32(TSS_B + 0x64, 0);
}

START_TEST(a_task_switch_saves_one_task_and_loads_the_other)
{
    tss_b(TARGET, F_IF | F_CF);
    cpu->gpr[G_EAX] = 0xaaaa;
    cpu->dr[7] |= 0x155 | 2;
    cpu_set_eflags(cpu, F_ZF);
    memcpy(ram(CODE), "\xea\0\0\0\0\0\0", 7); /* JMP far: the task resumes behind it */
    ASSERT_RAISED(far_jmp(cpu, SEL_TSS_B, 0, 4), 0);
    ck_assert_uint_eq(cpu->eip, TARGET);
    ck_assert_uint_eq(cpu->gpr[G_EAX], 0xb0000000);
    ck_assert_uint_eq(cpu->gpr[G_ESP], STACK3);
    ck_assert_uint_eq(cpu_eflags(cpu), F_IF | F_CF | F_FIXED);
    ck_assert_uint_eq(cpu->tr.sel, SEL_TSS_B);
    ck_assert_uint_eq(gdt_access(SEL_TSS_B), AC_TSS | 2);
    ck_assert_uint_eq(gdt_access(SEL_TSS), AC_TSS);
    ck_assert(cpu->cr0 & CR0_TS);
    ck_assert_uint_eq(cpu->dr[7] & 0x3ff, 2); /* only the global ones are left */
    ck_assert_uint_eq(peek32(TSS + 0x20), CODE + 7);
    ck_assert_uint_eq(peek32(TSS + 0x24), F_ZF | F_FIXED);
    ck_assert_uint_eq(peek32(TSS + 0x28), 0xaaaa);
    ck_assert_uint_eq(peek16(TSS + 0x4c), CS0);
    ck_assert_uint_eq(cpu->mode & MK_ARMED, MK_ARMED);
    assert_mode_consistent();
}
END_TEST

START_TEST(a_nested_task_returns_along_the_link)
{
    tss_b(TARGET, 0);
    put_gate(GDT + SEL_TASK_GATE, SEL_TSS_B, 0, AC_TASK, 0);
    ASSERT_RAISED(far_call(cpu, SEL_TASK_GATE, 0, NEXT, 4), 0);
    ck_assert(cpu->eflags_sys & F_NT);
    ck_assert_uint_eq(peek16(TSS_B), SEL_TSS);
    ck_assert_uint_eq(gdt_access(SEL_TSS), AC_TSS | 2); /* both are busy */
    ck_assert_uint_eq(gdt_access(SEL_TSS_B), AC_TSS | 2);
    ASSERT_RAISED(far_jmp(cpu, SEL_TSS_B, 0, 4), EXC(V_GP, SEL_TSS_B)); /* tasks are not recursive */

    memcpy(ram(TARGET), "\x2e\xcf", 2); /* a prefix, IRET */
    ASSERT_RAISED(far_iret(cpu, 4), 0);
    ck_assert_uint_eq(cpu->eip, NEXT);
    ck_assert_uint_eq(cpu->tr.sel, SEL_TSS);
    ck_assert_uint_eq(cpu->eflags_sys & F_NT, 0);
    ck_assert_uint_eq(gdt_access(SEL_TSS_B), AC_TSS);
    ck_assert_uint_eq(peek32(TSS_B + 0x20), TARGET + 2);
    ck_assert_uint_eq(peek32(TSS_B + 0x24) & F_NT, 0);
    cpu->eflags_sys |= F_NT;
    poke16(TSS, SEL_TSS_B); /* not busy */
    ASSERT_RAISED(far_iret(cpu, 4), EXC(V_TS, SEL_TSS_B));
}
END_TEST

START_TEST(a_16_bit_task)
{
    poke16(TSS_16 + 0x0e, 0x4321);
    poke16(TSS_16 + 0x12, 0x5678);
    poke16(TSS_16 + 0x1a, 0x8000);
    poke16(TSS_16 + 0x22, 0), poke16(TSS_16 + 0x24, CS0), poke16(TSS_16 + 0x26, SS0), poke16(TSS_16 + 0x28, SS0),
        poke16(TSS_16 + 0x2a, 0);
    cpu->cr3 = 0x5000;
    cpu->gpr[G_EAX] = 0x11112222;
    ASSERT_RAISED(far_jmp(cpu, SEL_TSS_16, 0, 4), 0);
    ck_assert_uint_eq(cpu->eip, 0x4321);
    ck_assert_uint_eq(cpu->gpr[G_EAX], 0x11115678);
    ck_assert_uint_eq(cpu->gpr[G_ESP] & 0xffff, 0x8000);
    ck_assert_uint_eq(cpu->cr3, 0x5000); /* has none to load */
    ck_assert(cpu->seg[S_FS].attr & SEG_UNUSABLE);
    ck_assert_uint_eq(cpu->tr.attr & 0xf, 3);
    assert_mode_consistent();
}
END_TEST

START_TEST(a_switch_that_cannot_be_made_changes_nothing)
{
    struct regs before;
    tss_b(TARGET, 0);
    fix_page();
    regs_get(&before);
    gdt_set(SEL_TSS_B, TSS_B, 0x66, AC_TSS, 0);
    ASSERT_RAISED(far_call(cpu, SEL_TSS_B, 0, NEXT, 4), EXC(V_TS, SEL_TSS_B));
    gdt_set(SEL_TSS_B, TSS_B, 0x67, AC_TSS & ~0x80, 0);
    ASSERT_RAISED(far_call(cpu, SEL_TSS_B, 0, NEXT, 4), EXC(V_NP, SEL_TSS_B));
    gdt_set(SEL_TSS_B, TSS_B, 0x67, AC_TSS, 0);
    fix_pte(TSS, 5); /* the old TSS cannot be written */
    ASSERT_RAISED(far_call(cpu, SEL_TSS_B, 0, NEXT, 4), EXC(V_PF, PF_P | PF_W));
    fix_pte(TSS, 7);
    fix_pte(GDT, 5);
    ASSERT_RAISED(far_call(cpu, SEL_TSS_B, 0, NEXT, 4), EXC(V_PF, PF_P | PF_W));
    fix_pte(GDT, 7);
    put_gate(GDT + SEL_TASK_GATE, CS0, 0, AC_TASK, 0);
    ASSERT_RAISED(far_call(cpu, SEL_TASK_GATE, 0, NEXT, 4), EXC(V_GP, CS0));
    ck_assert(regs_same(&before));
    ck_assert_uint_eq(gdt_access(SEL_TSS_B), AC_TSS);
    ck_assert_uint_eq(peek32(TSS + 0x20), 0);
}
END_TEST

/* The new task's descriptors are loaded when it is already the current one: the exception is its own. */
START_TEST(a_bad_segment_in_the_new_task_is_delivered_in_the_new_task)
{
    tss_b(TARGET, 0);
    poke16(TSS_B + 0x54, SS0 | 4); /* DS: there is no LDT */
    ASSERT_RAISED(far_call(cpu, SEL_TSS_B, 0, NEXT, 4), 0);
    ck_assert_uint_eq(cpu->tr.sel, SEL_TSS_B);
    ck_assert_uint_eq(cpu->eip, 0x40000 + 16 * V_TS);
    const u32 frame[] = { SS0 | 4, TARGET, CS0, F_NT | F_RF | F_FIXED };
    ck_assert_uint_eq(cpu->gpr[G_ESP], STACK3 - sizeof frame);
    ck_assert_mem_eq(ram(cpu->gpr[G_ESP]), frame, sizeof frame);
    ck_assert_uint_eq(peek32(TSS + 0x20), NEXT);
    assert_mode_consistent();
}
END_TEST

START_TEST(the_trap_bit_of_a_tss_is_a_debug_exception)
{
    tss_b(TARGET, 0);
    poke16(TSS_B + 0x64, 1);
    ASSERT_RAISED(far_call(cpu, SEL_TSS_B, 0, NEXT, 4), 0);
    ck_assert_uint_eq(cpu->eip, 0x40000 + 16 * V_DB);
    ck_assert_uint_eq(cpu->dr[6], 0xffff0ff0 | DR6_BT);
    ck_assert_uint_eq(peek32(cpu->gpr[G_ESP]), TARGET);
}
END_TEST

START_TEST(hot_fpu_state_leaves_a_task_switch_to_the_interpreter)
{
    tss_b(TARGET, 0);
    cpu->fpu_hot = 1;
    ck_assert_int_eq(far_jmp(cpu, SEL_TSS_B, 0, 4), GUEST_FAULT);
    ck_assert_uint_eq(cpu->tr.sel, SEL_TSS);
    ck_assert_uint_eq(cpu->cr0 & CR0_TS, 0);
    cpu->fpu_hot = 0;
}
END_TEST

/* ---- at random ---- */

static u32 seed;
static u32 rnd(u32 n)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % n;
}

static void random_descriptor(paddr at)
{
    static const u32 limit[] = { 0xfffff, 0xfffff, 0x67, 0xffff, 0x2b };
    unsigned flags = rnd(3) ? FLAT : rnd(16), access = (rnd(8) ? 0x80 : 0) | rnd(128);
    u32 base = rnd(2) ? 0 : rnd(RAM_SIZE);
    if (rnd(4)) put_desc(at, base, limit[rnd(5)], access, flags);
    else put_gate(at, (u16)(rnd(GDT_ENTRIES) * 8), rnd(RAM_SIZE), access, rnd(32));
}

/* Whatever lies in the tables and on the stack, a fault leaves the registers as they were, and the mode key is right.
 */
START_TEST(random_tables_never_leave_a_transfer_half_done)
{
    static const u16 known[4] = { CS0, SS0, CS3, DS3 };
    u32 done = 0, faults = 0;
    seed = 0x5eed + (u32)_i;
    for (unsigned n = 0; n < 20000; n++) {
        for (u32 i = 1; i < GDT_ENTRIES; i++)
            if (i > 4 || !rnd(16)) random_descriptor(GDT + 8 * i);
            else put_desc(GDT + 8 * i, 0, 0xfffff, (i & 1 ? AC_CODE : AC_DATA) | (i > 2 ? AC_DPL3 : 0), FLAT);
        for (u32 at = STACK0 - 64; at < STACK0 + 64; at += 4)
            poke32(at, rnd(2)   ? known[rnd(4)]
                       : rnd(2) ? rnd(GDT_ENTRIES * 8)
                       : rnd(4) ? rnd(RAM_SIZE)
                                : rnd(0x7fffffff));
        fix_ring(rnd(2) * 3);
        cpu_set_eflags(cpu, rnd(0x4000) | (rnd(8) ? 0 : F_NT));
        cpu->tr = (struct seg){ .sel = SEL_TSS, .base = TSS, .limit = rnd(8) ? 0x67 : rnd(0x68), .attr = AC_TSS | 2 };
        cpu->gpr[G_ESP] = STACK0 - rnd(13) * 4;
        cpu->gdtr.limit = GDT_ENTRIES * 8 - 1;
        cpu->cr0 &= ~CR0_TS;
        cpu_update_mode(cpu);
        struct regs before;
        regs_get(&before);
        u32 count = cpu->exc_count;
        u16 sel = (u16)rnd(GDT_ENTRIES * 8);
        unsigned size = rnd(4) ? 4 : 2;
        int r = 0;
        switch (rnd(6)) {
        case 0: r = far_jmp(cpu, sel, rnd(RAM_SIZE), size); break;
        case 1: r = far_call(cpu, sel, rnd(RAM_SIZE), NEXT, size); break;
        case 2: r = far_ret(cpu, size, (u16)rnd(16)); break;
        case 3: r = far_iret(cpu, size); break;
        case 4: r = seg_load(cpu, rnd(2) ? S_DS : S_SS, sel); break;
        case 5: put_gate(IDT, sel, rnd(RAM_SIZE), rnd(128) | 0x80, 0), r = exc_soft_int(cpu, 0, NEXT, true); break;
        }
        if (r && cpu->exc_count == count) { /* not one that a new task raised on arrival */
            ck_assert_msg(regs_same(&before), "seed %x, step %u: vector %u error %x", 0x5eed + (u32)_i, n,
                          cpu->exc.vector, cpu->exc.error);
            faults++;
        }
        if (!r) done++;
        cpu->exc.valid = false;
        assert_mode_consistent();
        cpu->eflags_sys &= ~F_VM;
        cpu->ldtr = (struct seg){ .attr = SEG_UNUSABLE };
    }
    ck_assert_uint_gt(done, 1000);
    ck_assert_uint_gt(faults, 1000);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("far");
    TCase *t = tcase_create("far");
    tcase_add_checked_fixture(t, fix_setup, fix_teardown);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, a_direct_transfer_checks_the_code_segment, 0, ARRAY_LEN(directs));
    tcase_add_test(t, null_and_absent_selectors_and_bad_offsets);
    tcase_add_test(t, real_mode_transfers_and_their_way_back);
    tcase_add_test(t, a_call_gate_switches_stacks_and_copies_parameters);
    tcase_add_test(t, a_call_gate_of_16_bits_pushes_words);
    tcase_add_test(t, a_call_gate_refuses);
    tcase_add_test(t, iret_changes_only_the_flags_that_privilege_allows);
    tcase_add_test(t, rf_outlives_iret_only_while_a_breakpoint_is_armed);
    tcase_add_test(t, iret_of_16_bits_leaves_the_upper_flags);
    tcase_add_test(t, iret_to_the_outer_ring);
    tcase_add_test(t, iret_to_a_16_bit_stack_keeps_the_upper_half_of_esp);
    tcase_add_test(t, iret_to_virtual_8086_mode_and_out_of_it_again);
    tcase_add_test(t, iret_refuses);
    tcase_add_test(t, a_frame_that_is_not_mapped_is_a_page_fault_with_nothing_changed);
    tcase_add_test(t, sysenter_and_sysexit);
    tcase_add_test(t, sysenter_out_of_virtual_8086_mode);
    tcase_add_test(t, a_task_switch_saves_one_task_and_loads_the_other);
    tcase_add_test(t, a_nested_task_returns_along_the_link);
    tcase_add_test(t, a_16_bit_task);
    tcase_add_test(t, a_switch_that_cannot_be_made_changes_nothing);
    tcase_add_test(t, a_bad_segment_in_the_new_task_is_delivered_in_the_new_task);
    tcase_add_test(t, the_trap_bit_of_a_tss_is_a_debug_exception);
    tcase_add_test(t, hot_fpu_state_leaves_a_task_switch_to_the_interpreter);
    tcase_add_loop_test(t, random_tables_never_leave_a_transfer_half_done, 0, 4);
    suite_add_tcase(s, t);
    return fix_run(s);
}
