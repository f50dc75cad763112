/* seg.c: what may be loaded into which register, and what an access against it may do. */
#include "runtime/cpu/seg.h"
#include "tests/unit/cpu_fixture.h"

/* ---- loads ---- */

struct load {
    unsigned access; /* of SEL_X; 0: beyond the table */
    u16 rpl;
    u32 data0, data3, ss0, ss3; /* what loading DS and SS raises at CPL 0 and 3: vector, or 0 */
};
static const struct load loads[] = {
    { AC_DATA, 0, 0, V_GP, 0, V_GP },
    { AC_DATA, 3, V_GP, V_GP, V_GP, V_GP },
    { AC_DATA | AC_DPL3, 0, 0, 0, V_GP, V_GP },
    { AC_DATA | AC_DPL3, 3, 0, 0, V_GP, 0 },
    { AC_DATA & ~0x80u, 0, V_NP, V_GP, V_SS, V_GP },
    { (AC_DATA | AC_DPL3) & ~0x80u, 3, V_NP, V_NP, V_GP, V_SS },
    { 0x91 /* read-only */, 0, 0, V_GP, V_GP, V_GP },
    { 0x91 | AC_DPL3, 3, 0, 0, V_GP, V_GP },
    { AC_CODE, 0, 0, V_GP, V_GP, V_GP },
    { 0x99 /* execute-only */, 0, V_GP, V_GP, V_GP, V_GP },
    { 0x9f /* conforming, readable */, 3, 0, 0, V_GP, V_GP },
    { 0x97 /* expand-down */, 0, 0, V_GP, 0, V_GP },
    { AC_TSS, 0, V_GP, V_GP, V_GP, V_GP },
    { AC_LDT, 0, V_GP, V_GP, V_GP, V_GP },
    { AC_CALL32, 0, V_GP, V_GP, V_GP, V_GP },
};

START_TEST(a_load_raises_what_the_manual_says)
{
    const struct load *l = &loads[_i];
    for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
        for (unsigned ss = 0; ss <= 1; ss++) {
            fix_ring(cpl);
            gdt_set(SEL_X, 0x12345000, 0xffff, l->access, WIDE);
            u16 sel = SEL_X | l->rpl;
            u32 v = ss ? cpl ? l->ss3 : l->ss0 : cpl ? l->data3 : l->data0;
            enum segreg s = ss ? S_SS : S_DS;
            struct regs before;
            regs_get(&before);
            ASSERT_RAISED(seg_load(cpu, s, sel), v ? EXC(v, SEL_X) : 0);
            if (v) {
                ck_assert(regs_same(&before));
            } else {
                ck_assert_uint_eq(cpu->seg[s].sel, sel);
                ck_assert_uint_eq(cpu->seg[s].base, 0x12345000);
                ck_assert_uint_eq(cpu->seg[s].limit, 0xffff);
                ck_assert_uint_eq(cpu->seg[s].attr, l->access | SEG_D);
            }
            assert_mode_consistent();
        }
    }
}
END_TEST

START_TEST(selectors_beyond_the_table_and_null_ones)
{
    ASSERT_RAISED(seg_load(cpu, S_DS, GDT_ENTRIES * 8), EXC(V_GP, GDT_ENTRIES * 8));
    ASSERT_RAISED(seg_load(cpu, S_DS, 0x0c), EXC(V_GP, 0x0c)); /* no LDT */
    ASSERT_RAISED(seg_load(cpu, S_SS, 0), EXC(V_GP, 0));
    ASSERT_RAISED(seg_load(cpu, S_SS, 3), EXC(V_GP, 0));
    cpu->gdtr.limit = CS0 + 6; /* one byte short */
    ASSERT_RAISED(seg_load(cpu, S_ES, CS0), EXC(V_GP, CS0));
    for (u16 sel = 0; sel < 4; sel++) {
        ASSERT_RAISED(seg_load(cpu, S_FS, sel), 0);
        ck_assert_uint_eq(cpu->seg[S_FS].sel, sel);
        laddr la;
        ASSERT_RAISED(seg_linear(cpu, S_FS, 0, 1, ACC_R, &la), EXC(V_GP, 0));
    }
}
END_TEST

START_TEST(the_accessed_bit_is_set_once)
{
    gdt_set(SEL_X, 0, 0xfffff, AC_DATA & ~1u, FLAT);
    ASSERT_RAISED(seg_load(cpu, S_ES, SEL_X), 0);
    ck_assert_uint_eq(gdt_access(SEL_X), AC_DATA);
    ck_assert(cpu->seg[S_ES].attr & SEG_A);
    /* Set already: a read-only descriptor table does no harm. */
    fix_page();
    fix_pte(GDT, 5);
    ASSERT_RAISED(seg_load(cpu, S_ES, SEL_X), 0);
    gdt_set(SEL_Y, 0, 0xfffff, AC_DATA & ~1u, FLAT);
    ASSERT_RAISED(seg_load(cpu, S_ES, SEL_Y), EXC(V_PF, PF_P | PF_W));
    ck_assert_uint_eq(cpu->cr2, GDT + SEL_Y + 5);
    ck_assert_uint_eq(cpu->seg[S_ES].sel, SEL_X);
}
END_TEST

START_TEST(a_descriptor_table_that_is_not_mapped_is_a_supervisor_page_fault)
{
    fix_page();
    fix_ring(3);
    fix_pte(GDT, 6);
    struct regs before;
    regs_get(&before);
    ASSERT_RAISED(seg_load(cpu, S_DS, DS3), EXC(V_PF, 0));
    ck_assert(regs_same(&before));
    fix_pte(GDT, 3); /* a supervisor page is good enough */
    ASSERT_RAISED(seg_load(cpu, S_DS, DS3), 0);
}
END_TEST

START_TEST(the_ldt_is_used_for_selectors_with_ti)
{
    put_desc(LDT + 8, 0x5000, 0xff, AC_DATA, WIDE);
    ASSERT_RAISED(seg_lldt(cpu, SEL_LDT), 0);
    ASSERT_RAISED(seg_load(cpu, S_GS, 0x0c), 0);
    ck_assert_uint_eq(cpu->seg[S_GS].base, 0x5000);
    ASSERT_RAISED(seg_load(cpu, S_GS, 0x44), EXC(V_GP, 0x44)); /* limit 3f */
    ASSERT_RAISED(seg_lldt(cpu, 0), 0);
    ASSERT_RAISED(seg_load(cpu, S_GS, 0x0c), EXC(V_GP, 0x0c));
}
END_TEST

START_TEST(real_and_virtual_8086_mode_take_paragraphs)
{
    cpu->cr0 &= ~CR0_PE;
    cpu_update_mode(cpu);
    ASSERT_RAISED(seg_load(cpu, S_ES, 0x1234), 0);
    ck_assert_uint_eq(cpu->seg[S_ES].base, 0x12340);
    ck_assert_uint_eq(cpu->seg[S_ES].limit, 0xffffffff); /* unreal mode */
    assert_mode_consistent();

    cpu->cr0 |= CR0_PE;
    cpu->cpl = 3;
    cpu->eflags_sys |= F_VM;
    cpu_update_mode(cpu);
    ASSERT_RAISED(seg_load(cpu, S_SS, 0xffff), 0);
    ck_assert_uint_eq(cpu->seg[S_SS].base, 0xffff0);
    ck_assert_uint_eq(cpu->seg[S_SS].limit, 0xffff);
    ck_assert_uint_eq(cpu->seg[S_SS].attr & SEG_DPL, SEG_DPL);
    assert_mode_consistent();
}
END_TEST

/* ---- accesses ---- */

struct access_case {
    unsigned access, flags;
    u32 limit20, off;
    unsigned size;
    bool r, w; /* allowed */
};
static const struct access_case accesses[] = {
    { AC_DATA, FLAT, 0xfffff, 0xffffffff, 1, true, true },
    { AC_DATA, WIDE, 0xfff, 0xffc, 4, true, true },
    { AC_DATA, WIDE, 0xfff, 0xffd, 4, false, false },
    { AC_DATA, WIDE, 0xfff, 0xfff, 1, true, true },
    { AC_DATA, WIDE, 0xfff, 0x1000, 1, false, false },
    { AC_DATA, WIDE, 0xfff, 0xfffffffe, 4, false, false }, /* must not wrap around to the start */
    { AC_DATA, 0x8, 0, 0xfff, 1, true, true },             /* G: limit 0 is 4 KiB */
    { AC_DATA, 0x8, 0, 0x1000, 1, false, false },
    { 0x91, WIDE, 0xfff, 0, 4, true, false },
    { 0x91, FLAT, 0xfffff, 0, 4, true, false },
    { AC_CODE, FLAT, 0xfffff, 0, 4, true, false },
    { 0x97, WIDE, 0xfff, 0x1000, 4, true, true }, /* expand-down: above the limit */
    { 0x97, WIDE, 0xfff, 0xfff, 4, false, false },
    { 0x97, WIDE, 0xfff, 0xfffffffc, 4, true, true },
    { 0x97, WIDE, 0xfff, 0xfffffffd, 4, false, false },
    { 0x97, 0, 0xfff, 0xfffc, 4, true, true }, /* B=0: up to ffff */
    { 0x97, 0, 0xfff, 0xfffd, 4, false, false },
    { 0x97, FLAT, 0xfffff, 0, 1, false, false }, /* nothing is above 4 GiB */
};

START_TEST(an_access_obeys_type_and_limit)
{
    const struct access_case *a = &accesses[_i];
    laddr la = 0;
    gdt_set(SEL_X, 0x10000, a->limit20, a->access, a->flags);
    ASSERT_RAISED(seg_load(cpu, S_DS, SEL_X), 0);
    ASSERT_RAISED(seg_linear(cpu, S_DS, a->off, a->size, ACC_R, &la), a->r ? 0 : EXC(V_GP, 0));
    ASSERT_RAISED(seg_linear(cpu, S_DS, a->off, a->size, ACC_W, &la), a->w ? 0 : EXC(V_GP, 0));
    if (a->r) ck_assert_uint_eq(la, a->off + 0x10000);
    ASSERT_RAISED(seg_linear(cpu, S_DS, a->off, 0, ACC_R, &la), 0);
    if ((a->access & 0x1a) == 0x12 && !a->r) { /* SS can hold it: the exception is #SS there */
        ASSERT_RAISED(seg_load(cpu, S_SS, SEL_X), 0);
        ASSERT_RAISED(seg_linear(cpu, S_SS, a->off, a->size, ACC_R, &la), EXC(V_SS, 0));
    }
    assert_mode_consistent();
}
END_TEST

START_TEST(complexity_tells_translated_code_what_it_may_do)
{
    static const struct {
        unsigned access, flags;
        u32 limit, complexity;
    } t[] = {
        { AC_DATA, FLAT, 0xfffff, 0 }, { AC_DATA, FLAT, 0xffffe, 3 }, { 0x91, FLAT, 0xfffff, 2 },
        { 0x97, FLAT, 0, 3 },          { AC_CODE, FLAT, 0xfffff, 2 },
    };
    for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
        for (u32 base = 0; base <= 0x1000; base += 0x1000) {
            gdt_set(SEL_X, base, t[i].limit, t[i].access, t[i].flags);
            ASSERT_RAISED(seg_load(cpu, S_DS, SEL_X), 0);
            ck_assert_uint_eq(cpu->seg_complex[S_DS], t[i].complexity);
            ck_assert_int_eq((cpu->mode & MK_DSFLAT) != 0, !t[i].complexity && !base);
        }
    }
}
END_TEST

/* Loads that change nothing of what the mode key, seg_complex and seg_room hold leave them alone. */
START_TEST(any_segment_loaded_over_any_other_leaves_what_is_derived_from_it_right)
{
    static const u8 access[] = { AC_DATA, AC_DATA | AC_DPL3, 0x91, 0x97, AC_CODE };
    static const u32 limit[] = { 0xfffff, 0xffff }, base[] = { 0, 0x1000 };
    static const u8 flags[] = { FLAT, WIDE, 0 };
    const unsigned n = ARRAY_LEN(access) * ARRAY_LEN(limit) * ARRAY_LEN(base) * ARRAY_LEN(flags);
    for (unsigned i = 0; i < n * n; i++) {
        for (unsigned k = 0, rest = i; k < 2; k++) {
            u8 a = access[rest % ARRAY_LEN(access)];
            rest /= ARRAY_LEN(access);
            u32 l = limit[rest % ARRAY_LEN(limit)], b = base[rest / 2 % ARRAY_LEN(base)];
            rest /= 4;
            gdt_set(SEL_X, b, l, a, flags[rest % ARRAY_LEN(flags)]);
            rest /= ARRAY_LEN(flags);
            ASSERT_RAISED(seg_load(cpu, S_DS, SEL_X), 0);
            if (a == AC_DATA) ASSERT_RAISED(seg_load(cpu, S_SS, SEL_X), 0);
            assert_mode_consistent();
        }
    }
}
END_TEST

/* ---- system registers and questions ---- */

START_TEST(ltr_takes_available_tss_and_marks_them_busy)
{
    for (unsigned type = 0; type < 16; type++) {
        gdt_set(SEL_X, TSS_B, 0x67, 0x80 | type, 0);
        bool ok = type == 1 || type == 9;
        ASSERT_RAISED(seg_ltr(cpu, SEL_X), ok ? 0 : EXC(V_GP, SEL_X));
        ck_assert_uint_eq(gdt_access(SEL_X), 0x80 | type | (ok ? 2 : 0));
        if (ok) ck_assert_uint_eq(cpu->tr.sel, SEL_X);
        gdt_set(SEL_X, LDT, 0xff, 0x80 | type, 0);
        ASSERT_RAISED(seg_lldt(cpu, SEL_X), type == 2 ? 0 : EXC(V_GP, SEL_X));
    }
    gdt_set(SEL_X, TSS_B, 0x67, 0x09, 0);
    ASSERT_RAISED(seg_ltr(cpu, SEL_X), EXC(V_NP, SEL_X));
    gdt_set(SEL_X, LDT, 0xff, 0x02, 0);
    ASSERT_RAISED(seg_lldt(cpu, SEL_X), EXC(V_NP, SEL_X));
    ASSERT_RAISED(seg_ltr(cpu, 0), EXC(V_GP, 0));
    ASSERT_RAISED(seg_ltr(cpu, 0x0c), EXC(V_GP, 0x0c));
    ASSERT_RAISED(seg_lldt(cpu, 0x0c), EXC(V_GP, 0x0c));
}
END_TEST

START_TEST(lar_and_lsl_know_these_system_types)
{
    const u32 lar = 0x1a3e /* 1 to 5, 9, b, c */, lsl = 0x0a0e;
    int fault;
    u32 v;
    for (unsigned type = 0; type < 16; type++) {
        gdt_set(SEL_X, 0, 0x12345, 0x80 | type, 0x8);
        bool lar_ok = lar >> type & 1, lsl_ok = lsl >> type & 1;
        ck_assert_msg(seg_lar(cpu, SEL_X, &v, &fault) == lar_ok, "LAR type %u", type);
        ck_assert_int_eq(fault, 0);
        if (lar_ok) ck_assert_uint_eq(v, 0x00808000u | type << 8);
        ck_assert_msg(seg_lsl(cpu, SEL_X, &v, &fault) == lsl_ok, "LSL type %u", type);
        if (lsl_ok) ck_assert_uint_eq(v, 0x12345fff);
    }
    ck_assert(seg_lsl(cpu, DS3, &v, &fault));
    ck_assert_uint_eq(v, 0xffffffff);
    ck_assert(!seg_lar(cpu, 0, &v, &fault));
    ck_assert(!seg_lar(cpu, GDT_ENTRIES * 8, &v, &fault));
    ck_assert_int_eq(fault, 0);
    fix_ring(3);
    ck_assert(!seg_lar(cpu, SS0, &v, &fault)); /* too privileged to be seen */
    ck_assert(!seg_lar(cpu, SEL_TSS, &v, &fault));
    fix_page();
    fix_pte(GDT, 0);
    ck_assert(!seg_lar(cpu, DS3, &v, &fault));
    ck_assert_int_eq(fault, GUEST_FAULT);
    ck_assert_uint_eq(cpu->exc.vector, V_PF);
}
END_TEST

START_TEST(verr_and_verw)
{
    static const struct {
        unsigned access;
        bool r, w;
    } t[] = {
        { AC_DATA, true, true }, { 0x91, true, false },    { AC_CODE, true, false },
        { 0x99, false, false },  { AC_TSS, false, false },
    };
    int fault;
    for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
        gdt_set(SEL_X, 0, 0, t[i].access, 0);
        ck_assert_int_eq(seg_verr(cpu, SEL_X, false, &fault), t[i].r);
        ck_assert_int_eq(seg_verr(cpu, SEL_X, true, &fault), t[i].w);
        ck_assert_int_eq(fault, 0);
        ck_assert(!seg_verr(cpu, SEL_X | 3, false, &fault)); /* RPL counts */
    }
    gdt_set(SEL_X, 0, 0, 0x9f, 0);
    ck_assert(seg_verr(cpu, SEL_X | 3, false, &fault)); /* conforming: it does not */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("seg");
    TCase *t = tcase_create("seg");
    tcase_add_checked_fixture(t, fix_setup, fix_teardown);
    tcase_add_loop_test(t, a_load_raises_what_the_manual_says, 0, ARRAY_LEN(loads));
    tcase_add_test(t, selectors_beyond_the_table_and_null_ones);
    tcase_add_test(t, the_accessed_bit_is_set_once);
    tcase_add_test(t, a_descriptor_table_that_is_not_mapped_is_a_supervisor_page_fault);
    tcase_add_test(t, the_ldt_is_used_for_selectors_with_ti);
    tcase_add_test(t, real_and_virtual_8086_mode_take_paragraphs);
    tcase_add_loop_test(t, an_access_obeys_type_and_limit, 0, ARRAY_LEN(accesses));
    tcase_add_test(t, any_segment_loaded_over_any_other_leaves_what_is_derived_from_it_right);
    tcase_add_test(t, complexity_tells_translated_code_what_it_may_do);
    tcase_add_test(t, ltr_takes_available_tss_and_marks_them_busy);
    tcase_add_test(t, lar_and_lsl_know_these_system_types);
    tcase_add_test(t, verr_and_verw);
    suite_add_tcase(s, t);
    return fix_run(s);
}
