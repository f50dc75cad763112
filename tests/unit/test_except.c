/* except.c: from an event to the first instruction of its handler. */
#define _GNU_SOURCE
#include "runtime/cpu/except.h"
#include "runtime/cpu/far.h"
#include "tests/unit/cpu_fixture.h"

#define HANDLER(v) (0x40000u + 16 * (v))
#define NEXT (CODE + 2)

static int deliver(enum vector v, u32 error)
{
    (void)exc_raise_err(cpu, v, error);
    return exc_deliver(cpu);
}

static void assert_frame(const u32 *frame, unsigned n, u32 top)
{
    ck_assert_uint_eq(cpu->gpr[G_ESP], top - 4 * n);
    for (unsigned i = 0; i < n; i++)
        ck_assert_msg(peek32(cpu->gpr[G_ESP] + 4 * i) == frame[i], "word %u: %x, expected %x", i,
                      peek32(cpu->gpr[G_ESP] + 4 * i), frame[i]);
}
#define ASSERT_FRAME(top, ...)                        \
    do {                                              \
        const u32 frame_[] = { __VA_ARGS__ };         \
        assert_frame(frame_, ARRAY_LEN(frame_), top); \
    } while (0)

/* ---- frames and flags ---- */

START_TEST(a_fault_pushes_rf_and_its_error_code)
{
    static const u8 with_error[] = { V_DF, V_TS, V_NP, V_SS, V_GP, V_PF, V_AC };
    for (u32 v = 0; v < 20; v++) {
        if (v == V_DB || v == V_NMI || v == V_BP || v == V_OF || v == V_MC) continue;
        bool error = memchr(with_error, (int)v, sizeof with_error);
        u32 rf = v == V_DF ? 0 : F_RF;
        fix_ring(0);
        cpu_set_eflags(cpu, F_IF | F_CF);
        ck_assert_int_eq(deliver((enum vector)v, error ? 0x88 : 0), 0);
        if (error) ASSERT_FRAME(STACK0, 0x88, CODE, CS0, F_IF | F_CF | F_FIXED | rf);
        else ASSERT_FRAME(STACK0, CODE, CS0, F_IF | F_CF | F_FIXED | rf);
        ck_assert_uint_eq(cpu->eip, HANDLER(v));
    }
}
END_TEST

START_TEST(traps_and_interrupts_push_the_flags_as_they_are)
{
    cpu_set_eflags(cpu, F_IF);
    ck_assert_int_eq(deliver(V_BP, 0), 0);
    ASSERT_FRAME(STACK0, CODE, CS0, F_IF | F_FIXED);
    fix_ring(0);
    cpu_set_eflags(cpu, F_IF | F_RF);
    cpu->intr_shadow = 1;
    ck_assert_int_eq(exc_interrupt(cpu, 0x31), 0);
    ASSERT_FRAME(STACK0, CODE, CS0, F_IF | F_RF | F_FIXED);
    ck_assert_uint_eq(cpu_eflags(cpu), F_FIXED);
    ck_assert_uint_eq(cpu->intr_shadow, 0);
}
END_TEST

START_TEST(interrupt_gates_clear_if_and_both_kinds_clear_tf_nt_rf)
{
    for (unsigned trap = 0; trap < 2; trap++) {
        fix_ring(0);
        idt_set(0x30, CS0, HANDLER(0x30), trap ? AC_TRAP32 : AC_INT32);
        cpu_set_eflags(cpu, F_IF | F_TF | F_NT | F_RF | F_AC | F_ID | F_DF | F_CF);
        cpu_update_mode(cpu);
        ck_assert_int_eq(exc_interrupt(cpu, 0x30), 0);
        ck_assert_uint_eq(cpu_eflags(cpu), F_AC | F_ID | F_DF | F_CF | F_FIXED | (trap ? F_IF : 0));
        ck_assert_uint_eq(cpu->mode & MK_SLOW, 0);
        assert_mode_consistent();
    }
}
END_TEST

START_TEST(a_16_bit_gate_pushes_words)
{
    idt_set(V_GP, CS0, 0xffff1234, AC_INT16);
    ck_assert_int_eq(deliver(V_GP, 0x77), 0);
    ck_assert_uint_eq(cpu->eip, 0x1234);
    ck_assert_uint_eq(cpu->gpr[G_ESP], STACK0 - 8);
    ck_assert_uint_eq(peek16(STACK0 - 8), 0x77);
    ck_assert_uint_eq(peek16(STACK0 - 4), CS0);
}
END_TEST

START_TEST(an_inner_handler_gets_the_stack_of_the_tss)
{
    fix_ring(3);
    cpu_set_eflags(cpu, F_IF);
    cpu->cr2 = 0x1234;
    ck_assert_int_eq(deliver(V_PF, PF_U | PF_W), 0);
    ASSERT_FRAME(STACK0, PF_U | PF_W, CODE, CS3, F_IF | F_RF | F_FIXED, STACK3, DS3);
    ck_assert_uint_eq(cpu->cpl, 0);
    ck_assert_uint_eq(cpu->seg[S_SS].sel, SS0);
    ck_assert_uint_eq(cpu->seg[S_DS].sel, DS3); /* stays */
    assert_mode_consistent();
    ck_assert_uint_eq(cpu->ctr.pf, 1);
}
END_TEST

START_TEST(a_conforming_handler_stays_at_the_callers_privilege)
{
    gdt_set(SEL_X, 0, 0xfffff, 0x9f, FLAT);
    idt_set(V_UD, SEL_X, 0x123456, AC_INT32);
    fix_ring(3);
    ck_assert_int_eq(deliver(V_UD, 0), 0);
    ck_assert_uint_eq(cpu->cpl, 3);
    ck_assert_uint_eq(cpu->seg[S_CS].sel, SEL_X | 3);
    ASSERT_FRAME(STACK3, CODE, CS3, F_RF | F_FIXED);
}
END_TEST

START_TEST(real_mode_uses_the_interrupt_table)
{
    cpu->cr0 &= ~CR0_PE;
    for (unsigned s = 0; s < S_COUNT; s++) cpu->seg[s] = (struct seg){ .limit = 0xffff, .attr = AC_DATA };
    cpu->seg[S_CS].sel = 0x1000, cpu->seg[S_CS].base = 0x10000;
    cpu->gpr[G_ESP] = 0x2000;
    cpu->eip = 0x55;
    cpu->idtr = (struct table_reg){ 0, 0x3ff };
    cpu_set_eflags(cpu, F_IF | F_CF);
    cpu_update_mode(cpu);
    poke16(0x21 * 4, 0x1111), poke16(0x21 * 4 + 2, 0x2222);
    ASSERT_RAISED(exc_soft_int(cpu, 0x21, 0x57, true), 0);
    ck_assert_uint_eq(cpu->eip, 0x1111);
    ck_assert_uint_eq(cpu->seg[S_CS].base, 0x22220);
    ck_assert_uint_eq(cpu_eflags(cpu), F_CF | F_FIXED);
    ck_assert_uint_eq(peek16(0x1ffa), 0x57);
    ck_assert_uint_eq(peek16(0x1ffc), 0x1000);
    ck_assert_uint_eq(peek16(0x1ffe), F_IF | F_CF | F_FIXED);
    ASSERT_RAISED(far_iret(cpu, 2), 0);
    ck_assert_uint_eq(cpu->eip, 0x57);
    ck_assert_uint_eq(cpu->iflag, 1);
    ck_assert_uint_eq(cpu->gpr[G_ESP], 0x2000);

    poke16(V_GP * 4, 0x3333), poke16(V_GP * 4 + 2, 0);
    ck_assert_int_eq(deliver(V_GP, 0), 0); /* no error code */
    ck_assert_uint_eq(cpu->gpr[G_ESP], 0x2000 - 6);
    cpu->idtr.limit = 0x33;
    ASSERT_RAISED(exc_soft_int(cpu, 0x21, 0x57, true), EXC(V_GP, 0));
    cpu->idtr.limit = 0;
    ck_assert_int_eq(deliver(V_GP, 0), EXC_SHUTDOWN);
}
END_TEST

/* ---- software interrupts ---- */

START_TEST(int_n_needs_the_privilege_of_its_gate)
{
    fix_ring(3);
    struct regs before;
    regs_get(&before);
    ASSERT_RAISED(exc_soft_int(cpu, 0x80, NEXT, true), EXC(V_GP, 0x80 * 8 + 2));
    ASSERT_RAISED(exc_soft_int(cpu, V_BP, NEXT, false), EXC(V_GP, V_BP * 8 + 2));
    ck_assert(regs_same(&before));
    ASSERT_RAISED(exc_soft_int(cpu, V_DB, NEXT, false), 0); /* ICEBP does not */
    fix_ring(3);
    idt_set(0x80, CS0, HANDLER(0x80), AC_INT32 | AC_DPL3);
    cpu_set_eflags(cpu, F_IF);
    ASSERT_RAISED(exc_soft_int(cpu, 0x80, NEXT, true), 0);
    ASSERT_FRAME(STACK0, NEXT, CS3, F_IF | F_FIXED, STACK3, DS3);
    ck_assert_uint_eq(cpu->exc_count, 0); /* a system call is not an exception */
    idt_set(0x80, CS0, 0, (AC_INT32 | AC_DPL3) & ~0x80u);
    fix_ring(3);
    ASSERT_RAISED(exc_soft_int(cpu, 0x80, NEXT, true), EXC(V_NP, 0x80 * 8 + 2));
    cpu->idtr.limit = 0x80 * 8 + 6;
    ASSERT_RAISED(exc_soft_int(cpu, 0x80, NEXT, true), EXC(V_GP, 0x80 * 8 + 2));
}
END_TEST

START_TEST(what_goes_wrong_on_the_way_to_a_handler_is_told_in_the_error_code)
{
    fix_ring(3);
    idt_set(0x80, CS0, HANDLER(0x80), AC_INT32 | AC_DPL3);
    struct regs before;
    regs_get(&before);
    gdt_set(CS0, 0, 0xfffff, AC_CODE & ~0x80, FLAT);
    ASSERT_RAISED(exc_soft_int(cpu, 0x80, NEXT, true), EXC(V_NP, CS0));
    gdt_set(CS0, 0, 0xfffff, AC_DATA, FLAT);
    ASSERT_RAISED(exc_soft_int(cpu, 0x80, NEXT, true), EXC(V_GP, CS0));
    gdt_set(CS0, 0, 0xff, AC_CODE, WIDE);
    ASSERT_RAISED(exc_soft_int(cpu, 0x80, NEXT, true), EXC(V_GP, 0));
    gdt_set(CS0, 0, 0xfffff, AC_CODE, FLAT);
    gdt_set(SS0, 0, STACK0 - 17, AC_DATA, WIDE);
    ASSERT_RAISED(exc_soft_int(cpu, 0x80, NEXT, true), EXC(V_SS, SS0));
    poke16(TSS + 8, 0xfff8);
    ASSERT_RAISED(exc_soft_int(cpu, 0x80, NEXT, true), EXC(V_TS, 0xfff8));
    cpu->tr.limit = before.tr.limit = 7;
    ASSERT_RAISED(exc_soft_int(cpu, 0x80, NEXT, true), EXC(V_TS, SEL_TSS));
    ck_assert(regs_same(&before));
    /* the same by an external interrupt has EXT set; #TS finds no stack either, so it ends in #DF's and shutdown */
    ck_assert_int_eq(exc_interrupt(cpu, 0x30), EXC_SHUTDOWN);
    ck_assert_uint_eq(cpu->exc_log[0].vector, V_TS);
    ck_assert_uint_eq(cpu->exc_log[0].error, SEL_TSS | 1);
    ck_assert_uint_eq(cpu->exc_log[1].vector, V_DF);
    ck_assert_uint_eq(cpu->exc_log[1].fate, EXC_TRIPLE);
}
END_TEST

/* ---- nothing half done ---- */

START_TEST(a_stack_that_is_not_mapped_takes_no_part_of_the_frame)
{
    fix_page();
    idt_set(0x80, CS0, HANDLER(0x80), AC_INT32 | AC_DPL3);
    fix_ring(3);
    poke32(TSS + 4, STACK0 + 8); /* two words above the page boundary, three below */
    poke32(STACK0 + 4, 0x11111111), poke32(STACK0 - 12, 0x22222222);
    struct regs before;
    for (unsigned high = 0; high < 2; high++) {
        regs_get(&before);
        fix_pte(high ? STACK0 : STACK0 - 4, high ? 5 : 0);
        ASSERT_RAISED(exc_soft_int(cpu, 0x80, NEXT, true), EXC(V_PF, high ? PF_P | PF_W : PF_W));
        ck_assert_uint_eq(cpu->cr2 & PAGE_MASK, high ? STACK0 : STACK0 - 0x1000u);
        ck_assert(regs_same(&before));
        fix_pte(STACK0, 7), fix_pte(STACK0 - 4, 7);
        ck_assert_uint_eq(peek32(STACK0 + 4), 0x11111111);
        ck_assert_uint_eq(peek32(STACK0 - 12), 0x22222222);
    }
    ASSERT_RAISED(exc_soft_int(cpu, 0x80, NEXT, true), 0);
    ASSERT_FRAME(STACK0 + 8, NEXT, CS3, F_FIXED, STACK3, DS3);
}
END_TEST

START_TEST(the_inner_stack_may_be_a_supervisor_page_and_the_outer_may_not)
{
    fix_page();
    idt_set(0x80, CS0, HANDLER(0x80), AC_INT32 | AC_DPL3);
    fix_ring(3);
    fix_pte(STACK0 - 4, 3), fix_pte(GDT, 3), fix_pte(IDT, 3), fix_pte(TSS, 3);
    ASSERT_RAISED(exc_soft_int(cpu, 0x80, NEXT, true), 0);
    gdt_set(SEL_X, 0, 0xfffff, 0x9f, FLAT);
    idt_set(0x81, SEL_X, HANDLER(0x81), AC_INT32 | AC_DPL3);
    fix_ring(3);
    fix_pte(STACK3 - 4, 3);
    ASSERT_RAISED(exc_soft_int(cpu, 0x81, NEXT, true), EXC(V_PF, PF_P | PF_W | PF_U));
}
END_TEST

/* ---- exceptions on the way to handlers: SDM vol. 3, table 6-5 ---- */

/* What reaches a handler when the gate of first is broken in this way, at CPL 0. */
enum broken { NOT_PRESENT, BAD_CS };
struct nested {
    enum vector first;
    enum broken how;
    enum vector reached;
    u32 error;
};
static const struct nested nested[] = {
    { V_UD, NOT_PRESENT, V_NP, V_UD * 8 + 3 }, /* benign, then anything: one after the other */
    { V_UD, BAD_CS, V_GP, 0xfff8 | 1 },
    { V_DE, NOT_PRESENT, V_DF, 0 }, /* contributory, then contributory */
    { V_TS, NOT_PRESENT, V_DF, 0 },
    { V_SS, NOT_PRESENT, V_DF, 0 },
    { V_GP, NOT_PRESENT, V_DF, 0 },
    { V_PF, NOT_PRESENT, V_DF, 0 }, /* page fault, then contributory */
    { V_PF, BAD_CS, V_DF, 0 },
    { V_AC, NOT_PRESENT, V_NP, V_AC * 8 + 3 },
};

START_TEST(a_broken_gate_leads_where_the_table_says)
{
    const struct nested *n = &nested[_i];
    idt_set(n->first, n->how == BAD_CS ? 0xfff8 : CS0, 0, n->how == NOT_PRESENT ? AC_INT32 & ~0x80u : AC_INT32);
    ck_assert_int_eq(deliver(n->first, 0), 0);
    ck_assert_uint_eq(cpu->eip, HANDLER(n->reached));
    ASSERT_FRAME(STACK0, n->error, CODE, CS0, F_FIXED | (n->reached == V_DF ? 0 : F_RF));
    ck_assert_uint_eq(cpu->exc_log[0].fate, EXC_NESTED);
    ck_assert_uint_eq(cpu->exc_log[1].fate, EXC_DELIVERED);
}
END_TEST

START_TEST(page_faults_on_the_way_to_handlers)
{
    fix_page();
    /* contributory, then page fault: one after the other. #PF's own gate is on a mapped page */
    cpu->idtr.base = IDT + 0x1000 - V_PF * 8;
    memcpy(ram(IDT + 0x1000), ram(IDT + V_PF * 8), 8);
    fix_pte(IDT, 0);
    ck_assert_int_eq(deliver(V_GP, 0), 0);
    ck_assert_uint_eq(cpu->eip, HANDLER(V_PF));
    ck_assert_uint_eq(cpu->cr2, cpu->idtr.base + V_GP * 8);
    /* page fault, then page fault: double fault, whose gate is not there either: shutdown */
    fix_ring(0);
    fix_pte(IDT + 0x1000, 0);
    ck_assert_int_eq(deliver(V_PF, 0), EXC_SHUTDOWN);
    ck_assert_uint_eq(cpu->exc_log[(cpu->exc_count - 1) % EXC_LOG].vector, V_DF);
    ck_assert_uint_eq(cpu->eip, CODE); /* where it happened */
}
END_TEST

START_TEST(a_double_fault_that_fails_is_shutdown_and_the_chain_is_told)
{
    idt_set(V_GP, CS0, 0, 0), idt_set(V_DF, CS0, 0, 0);
    ck_assert_int_eq(deliver(V_GP, 0x18), EXC_SHUTDOWN);
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    exc_describe_chain(cpu, f);
    fclose(f);
    const char *gp =
        strstr(text, "#GP vector 0d at 0008:00010000 esp 00009000 cpl 0 error 0018: its delivery raised the next");
    const char *df =
        strstr(text, "#DF vector 08 at 0008:00010000 esp 00009000 cpl 0 error 0000: its delivery failed: shutdown");
    ck_assert_msg(gp && df && gp < df, "%s", text);
    free(text);
}
END_TEST

START_TEST(the_log_keeps_the_last_exceptions)
{
    for (u32 i = 0; i < EXC_LOG + 3; i++) {
        fix_ring(0);
        cpu->eip = i;
        ck_assert_int_eq(deliver(V_UD, 0), 0);
    }
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    exc_describe_chain(cpu, f);
    fclose(f);
    ck_assert_ptr_eq(strstr(text, "0008:00000002"), NULL);
    const char *first = strstr(text, "0008:00000003"), *last = strstr(text, "0008:00000012");
    ck_assert_msg(first && last && first < last, "%s", text);
    free(text);
}
END_TEST

/* ---- task gates, NMI, debug ---- */

START_TEST(a_double_fault_through_a_task_gate_finds_a_fresh_stack)
{
    idt_set(V_DF, SEL_TSS_B, 0, AC_TASK);
    poke32(TSS_B + 0x20, 0x55555), poke32(TSS_B + 0x38, STACK3);
    for (u32 s = 0; s < S_COUNT; s++) poke32(TSS_B + 0x48 + 4 * s, s == S_CS ? CS0 : SS0);
    cpu->gpr[G_ESP] = 0x1000;
    cpu->seg[S_SS].limit = 0xffff, cpu->seg[S_SS].attr |= SEG_E; /* the old stack is of no use: #SS */
    cpu_update_mode(cpu);
    ck_assert_int_eq(deliver(V_PF, PF_W), 0);
    ck_assert_uint_eq(cpu->eip, 0x55555);
    ck_assert_uint_eq(cpu->tr.sel, SEL_TSS_B);
    ASSERT_FRAME(STACK3, 0); /* the error code */
    ck_assert_uint_eq(peek32(TSS + 0x20), CODE);
    ck_assert_uint_eq(peek32(TSS + 0x38), 0x1000);
    ck_assert(cpu->eflags_sys & F_NT);
    assert_mode_consistent();
}
END_TEST

START_TEST(nmis_are_blocked_until_iret)
{
    cpu->nmi_blocked = true;
    ck_assert_int_eq(exc_interrupt(cpu, V_NMI), 0);
    ck_assert_uint_eq(cpu->eip, HANDLER(V_NMI));
    cpu->nmi_pending = true;
    ASSERT_RAISED(far_iret(cpu, 4), 0);
    ck_assert(!cpu->nmi_blocked);
    ck_assert_uint_eq(cpu->irq_pending, 1);
}
END_TEST

START_TEST(a_debug_exception_sets_dr6_and_clears_gd)
{
    ck_assert_int_eq(cpu_write_dr(cpu, 7, 1u << 13), 0);
    cpu->debugctl = 2;
    ck_assert_int_eq(exc_raise_db(cpu, DR6_BS), GUEST_FAULT);
    ck_assert_int_eq(exc_deliver(cpu), 0);
    ASSERT_FRAME(STACK0, CODE, CS0, F_FIXED);
    ck_assert_uint_eq(cpu->dr[6], 0xffff0ff0 | DR6_BS);
    ck_assert_uint_eq(cpu->dr[7], 0x400);
    ck_assert_uint_eq(cpu->debugctl, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("except");
    TCase *t = tcase_create("except");
    tcase_add_checked_fixture(t, fix_setup, fix_teardown);
    tcase_add_test(t, a_fault_pushes_rf_and_its_error_code);
    tcase_add_test(t, traps_and_interrupts_push_the_flags_as_they_are);
    tcase_add_test(t, interrupt_gates_clear_if_and_both_kinds_clear_tf_nt_rf);
    tcase_add_test(t, a_16_bit_gate_pushes_words);
    tcase_add_test(t, an_inner_handler_gets_the_stack_of_the_tss);
    tcase_add_test(t, a_conforming_handler_stays_at_the_callers_privilege);
    tcase_add_test(t, real_mode_uses_the_interrupt_table);
    tcase_add_test(t, int_n_needs_the_privilege_of_its_gate);
    tcase_add_test(t, what_goes_wrong_on_the_way_to_a_handler_is_told_in_the_error_code);
    tcase_add_test(t, a_stack_that_is_not_mapped_takes_no_part_of_the_frame);
    tcase_add_test(t, the_inner_stack_may_be_a_supervisor_page_and_the_outer_may_not);
    tcase_add_loop_test(t, a_broken_gate_leads_where_the_table_says, 0, ARRAY_LEN(nested));
    tcase_add_test(t, page_faults_on_the_way_to_handlers);
    tcase_add_test(t, a_double_fault_that_fails_is_shutdown_and_the_chain_is_told);
    tcase_add_test(t, the_log_keeps_the_last_exceptions);
    tcase_add_test(t, a_double_fault_through_a_task_gate_finds_a_fresh_stack);
    tcase_add_test(t, nmis_are_blocked_until_iret);
    tcase_add_test(t, a_debug_exception_sets_dr6_and_clears_gd);
    suite_add_tcase(s, t);
    return fix_run(s);
}
