/* cpu.c, msr.c and cpu_models.c: reset, control and debug registers, MSRs, CPUID. */
#include "runtime/cpu/msr.h"
#include "tests/unit/cpu_fixture.h"
#include "translator/front/insn.h"

#include <x86intrin.h>

/* ---- reset ---- */

START_TEST(reset_is_what_the_manual_says)
{
    cpu_set_eflags(cpu, ~0u);
    cpu->cr4 = ~0u;
    cpu->cr0 |= CR0_PG;
    cpu->halted = 1;
    cpu->nmi_pending = cpu->exc.valid = true;
    cpu->sysenter_cs = 8;
    cpu_reset(cpu);
    ck_assert_uint_eq(cpu->eip, 0xfff0);
    ck_assert_uint_eq(cpu->seg[S_CS].sel, 0xf000);
    ck_assert_uint_eq(cpu->seg[S_CS].base, 0xffff0000);
    ck_assert_uint_eq(cpu->cr0, 0x60000010);
    ck_assert_uint_eq(cpu->cr4, 0);
    ck_assert_uint_eq(cpu_eflags(cpu), F_FIXED);
    ck_assert_uint_eq(cpu->gpr[G_EDX], 0x106c2);
    ck_assert_uint_eq(cpu->gpr[G_ESP], 0);
    ck_assert_uint_eq(cpu->dr[6], 0xffff0ff0);
    ck_assert_uint_eq(cpu->dr[7], 0x400);
    ck_assert_uint_eq(cpu->seg[S_DS].limit, 0xffff);
    ck_assert_uint_eq(cpu->idtr.limit, 0xffff);
    ck_assert_uint_eq(cpu->mode, MK_CSLIMIT);
    ck_assert_uint_eq(cpu->pat, 0x0007040600070406ull);
    ck_assert_uint_eq(cpu->sysenter_cs, 0);
    ck_assert(!cpu->halted && !cpu->nmi_pending && !cpu->exc.valid);
    assert_mode_consistent();
}
END_TEST

/* ---- control registers ---- */

START_TEST(cr0_refuses_contradictions)
{
    static const struct {
        u32 val;
        bool ok;
    } t[] = {
        { CR0_PE, true },           { 0, true },
        { CR0_PG, false },          { CR0_PG | CR0_PE, true },
        { CR0_PE | CR0_NW, false }, { CR0_PE | CR0_NW | CR0_CD, true },
        { CR0_PE | CR0_CD, true },
    };
    for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
        u32 before = cpu->cr0, v;
        ASSERT_RAISED(cpu_write_cr(cpu, 0, t[i].val), t[i].ok ? 0 : EXC(V_GP, 0));
        ASSERT_RAISED(cpu_read_cr(cpu, 0, &v), 0);
        ck_assert_uint_eq(v, t[i].ok ? t[i].val | CR0_ET : before);
        ck_assert_int_eq((cpu->mode & MK_PE) != 0, (v & CR0_PE) != 0);
        ck_assert_int_eq((cpu->mode & MK_PG) != 0, (v & CR0_PG) != 0);
        assert_mode_consistent();
    }
    ASSERT_RAISED(cpu_write_cr(cpu, 0, 0xffffffff), 0); /* reserved bits are ignored */
    ck_assert_uint_eq(cpu->cr0, 0xe005003f);
    ASSERT_RAISED(cpu_write_cr(cpu, 1, 0), EXC(V_UD, 0));
    ASSERT_RAISED(cpu_write_cr(cpu, 8, 0), EXC(V_UD, 0));
}
END_TEST

START_TEST(cr4_has_the_bits_of_the_model)
{
    const u32 n270 = CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE | CR4_OSFXSR
                     | CR4_OSXMMEXCPT;
    for (unsigned bit = 0; bit < 32; bit++)
        ASSERT_RAISED(cpu_write_cr(cpu, 4, 1u << bit), n270 >> bit & 1 ? 0 : EXC(V_GP, 0));
    ASSERT_RAISED(cpu_write_cr(cpu, 4, n270), 0);
    ck_assert_uint_eq(cpu->cr4, n270);
}
END_TEST

START_TEST(a_486_has_no_cr4_and_no_msrs)
{
    u32 v;
    u64 m;
    fix_teardown();
    fix_setup_model("486");
    ASSERT_RAISED(cpu_read_cr(cpu, 4, &v), EXC(V_UD, 0));
    ASSERT_RAISED(cpu_write_cr(cpu, 4, 0), EXC(V_UD, 0));
    for (u32 msr = 0; msr < 0x500; msr++) ASSERT_RAISED(cpu_rdmsr(cpu, msr, &m), EXC(V_GP, 0));
}
END_TEST

static void put_pdpte(paddr at, unsigned i, u64 v) { memcpy(ram(at + 8 * i), &v, 8); }

START_TEST(pdptes_are_loaded_and_checked_when_the_manual_says)
{
    ASSERT_RAISED(cpu_write_cr(cpu, 4, CR4_PAE), 0);
    ASSERT_RAISED(cpu_write_cr(cpu, 3, PAGE_DIR + 0x20), 0);
    put_pdpte(PAGE_DIR + 0x20, 0, 0x30001);
    put_pdpte(PAGE_DIR + 0x20, 1, 0x31001 | 1 << 5); /* reserved */
    ck_assert_uint_eq(cpu->pdpte[0], 0);             /* paging is off: not yet */
    ASSERT_RAISED(cpu_write_cr(cpu, 0, cpu->cr0 | CR0_PG), EXC(V_GP, 0));
    ck_assert_uint_eq(cpu->cr0 & CR0_PG, 0);
    put_pdpte(PAGE_DIR + 0x20, 1, 0x31000 | 1 << 5); /* not present: anything goes */
    ASSERT_RAISED(cpu_write_cr(cpu, 0, cpu->cr0 | CR0_PG), 0);
    ck_assert_uint_eq(cpu->pdpte[0], 0x30001);

    /* a change in memory counts from the next load on */
    put_pdpte(PAGE_DIR + 0x20, 0, 0x40001);
    ck_assert_uint_eq(cpu->pdpte[0], 0x30001);
    ASSERT_RAISED(cpu_write_cr(cpu, 4, CR4_PAE | CR4_PGE), 0);
    ck_assert_uint_eq(cpu->pdpte[0], 0x40001);
    static const u64 reserved[] = { 1ull << 1, 1ull << 2, 1ull << 5, 1ull << 8, 1ull << 36, 1ull << 63 };
    for (unsigned i = 0; i < ARRAY_LEN(reserved); i++) {
        put_pdpte(PAGE_DIR, 3, 0x50001 | reserved[i]);
        ASSERT_RAISED(cpu_write_cr(cpu, 3, PAGE_DIR), EXC(V_GP, 0));
        ck_assert_uint_eq(cpu->cr3, PAGE_DIR + 0x20);
        ck_assert_uint_eq(cpu->pdpte[0], 0x40001);
    }
    put_pdpte(PAGE_DIR, 3, 0xf00050e19ull); /* AVL, PCD, PWT, 36 bits of address */
    ASSERT_RAISED(cpu_write_cr(cpu, 3, PAGE_DIR), 0);
    ck_assert_uint_eq(cpu->pdpte[3], 0xf00050e19ull);
    ASSERT_RAISED(cpu_write_cr(cpu, 0, cpu->cr0 & ~CR0_PG), 0);
}
END_TEST

/* What the processor still believes about a page whose table entry was changed behind its back. */
static bool sees(laddr la, u32 what)
{
    u64 v;
    ck_assert_int_eq(mem_read(cpu, la, 4, false, &v), 0);
    return v == what;
}

START_TEST(writes_to_control_registers_flush_the_tlb)
{
    enum { LA = 0x50000, OLD = 0x60000, NEW = 0x61000 };
    poke32(OLD, 0x01d01d), poke32(NEW, 0x2e32e3);
    for (unsigned how = 0; how < 5; how++) {
        cpu->cr0 &= ~CR0_PG;
        cpu->cr4 = CR4_PGE;
        cpu_update_mode(cpu);
        fix_page();
        bool global = how == 1 || how == 2;
        poke32(PAGE_TABLE + (LA >> 10), OLD | 3 | (global ? 0x100 : 0));
        tlb_flush_all(cpu);
        ck_assert(sees(LA, 0x01d01d));
        poke32(PAGE_TABLE + (LA >> 10), NEW | 3);
        ck_assert(sees(LA, 0x01d01d));
        switch (how) {
        case 0: ASSERT_RAISED(cpu_write_cr(cpu, 3, PAGE_DIR), 0); break;
        case 1: /* a global page survives MOV CR3, and nothing else */
            ASSERT_RAISED(cpu_write_cr(cpu, 3, PAGE_DIR), 0);
            ck_assert(sees(LA, 0x01d01d));
            ASSERT_RAISED(cpu_write_cr(cpu, 4, CR4_PGE | CR4_PSE), 0);
            break;
        case 2: ASSERT_RAISED(cpu_write_cr(cpu, 4, 0), 0); break;
        case 3: /* WP is looked at with each access: nothing is cached of it */
            ASSERT_RAISED(cpu_write_cr(cpu, 0, cpu->cr0 ^ CR0_WP), 0);
            ck_assert(sees(LA, 0x01d01d));
            ASSERT_RAISED(cpu_write_cr(cpu, 0, cpu->cr0 & ~CR0_PG), 0);
            ASSERT_RAISED(cpu_write_cr(cpu, 0, cpu->cr0 | CR0_PG), 0);
            break;
        case 4: ASSERT_RAISED(cpu_wrmsr(cpu, 0xc0000080, EFER_NXE), 0); break;
        }
        ck_assert_msg(sees(LA, 0x2e32e3), "way %u", how);
    }
}
END_TEST

/* ---- debug registers ---- */

START_TEST(debug_registers_have_fixed_bits_and_aliases)
{
    u32 v;
    ASSERT_RAISED(cpu_write_dr(cpu, 6, 0), 0);
    ASSERT_RAISED(cpu_read_dr(cpu, 4, &v), 0);
    ck_assert_uint_eq(v, 0xffff0ff0);
    ASSERT_RAISED(cpu_write_dr(cpu, 5, 0xffffffff), 0);
    ASSERT_RAISED(cpu_read_dr(cpu, 7, &v), 0);
    ck_assert_uint_eq(v, 0xffff27ff);
    ck_assert(cpu->mode & MK_ARMED);
    ASSERT_RAISED(cpu_write_dr(cpu, 7, 0xffff0000), 0);
    ck_assert(!(cpu->mode & MK_ARMED));
    ASSERT_RAISED(cpu_write_cr(cpu, 4, CR4_DE), 0);
    ASSERT_RAISED(cpu_write_dr(cpu, 4, 0), EXC(V_UD, 0));
    ASSERT_RAISED(cpu_read_dr(cpu, 5, &v), EXC(V_UD, 0));
    ASSERT_RAISED(cpu_write_dr(cpu, 3, 0x12345678), 0);
    ASSERT_RAISED(cpu_read_dr(cpu, 3, &v), 0);
    ck_assert_uint_eq(v, 0x12345678);
}
END_TEST

/* ---- MSRs ---- */

static u64 rdmsr(u32 msr)
{
    u64 v = 0;
    ASSERT_RAISED(cpu_rdmsr(cpu, msr, &v), 0);
    return v;
}

struct msr_case {
    u32 msr;
    u64 val;
    bool ok;
};
/* clang-format off */
static const struct msr_case msrs[] = {
    { 0x174, 0x60, true }, { 0x175, 0xc0001000, true }, { 0x176, 0xc1234567, true },
    { 0x277, 0x0007010600070406ull, true }, { 0x277, 2, false }, { 0x277, 8ull << 56, false },
    { 0x1b, 0xfee00900, true }, { 0x1b, 0xfee00500, false }, { 0x1b, 1ull << 36 | 0x900, false },
    { 0x2ff, 0xc06, true }, { 0x2ff, 0x1c06, false }, { 0x2ff, 7, false },
    { 0x200, 0x80000006, true }, { 0x200, 0x80000106, false }, { 0x200, 2, false }, { 0x201, 0xf80000800ull, true },
    { 0x201, 1, false }, { 0x201, 1ull << 40, false },
    { 0x20f, 0, true }, { 0x210, 0, false }, { 0x250, 0x0606060606060606ull, true },
    { 0x258, 0x0202020202020202ull, false }, { 0x26f, 0, true },
    { 0xfe, 0, false }, { 0x179, 0, false }, { 0x17a, 7, true }, { 0x17a, 8, false }, { 0x17b, 0, false },
    { 0x400, ~0ull, true }, { 0x401, 0, true }, { 0x401, 1, false }, { 0x413, 0, false }, { 0x414, 0, false },
    { 0xc0000080, EFER_NXE, true }, { 0xc0000080, 1 << 8, false }, { 0xc0000080, 1, false },
    { 0x1a0, 1 | 1 << 22, true }, { 0x1a0, 1 << 18, false },
    { 0x1a0, 1 << 3 | 1 << 10 | 1 << 13 | 1 << 16 | 1 << 23, true }, { 0x1a0, 1 << 20 | 1 << 16, true },
    { 0x1a0, 1 << 2, false }, { 0x1a0, 1 << 14, false }, { 0x1a0, 1 << 24, false }, { 0xc0010000, 0, false },
    { 0xc0010004, 0, false }, { 0x8b, 0, true }, { 0x17, 0, false }, { 0x79, 0, true },
    { 0x3a, 0, false }, { 0xc1, 0, false }, { 0x186, 0, false }, { 0x38f, 0, false }, { 0x1234, 0, false },
    { 0xc0000081, 0, false }, { 0xc0010015, 0, false },
};
/* clang-format on */

START_TEST(wrmsr_takes_what_an_n270_takes)
{
    const struct msr_case *m = &msrs[_i];
    u64 before = 0, v;
    bool readable = !RAISED(cpu_rdmsr(cpu, m->msr, &before));
    ASSERT_RAISED(cpu_wrmsr(cpu, m->msr, m->val), m->ok ? 0 : EXC(V_GP, 0));
    if (!readable || m->msr == 0x8b || m->msr == 0x401) return;
    v = rdmsr(m->msr);
    if (!m->ok) ck_assert_uint_eq(v, before);
    else if (m->msr == 0x1a0) ck_assert_uint_eq(v, (before & 0x1800) | m->val); /* two bits are read-only */
    else ck_assert_uint_eq(v, m->val);
}
END_TEST

START_TEST(the_speedstep_lock_holds_until_reset)
{
    ASSERT_RAISED(cpu_wrmsr(cpu, 0x1a0, 1 << 20), 0);
    ASSERT_RAISED(cpu_wrmsr(cpu, 0x1a0, 1 << 16), 0);
    ck_assert_uint_eq(rdmsr(0x1a0) & (1 << 20 | 1 << 16), 1 << 20);
    cpu_reset(cpu);
    ASSERT_RAISED(cpu_wrmsr(cpu, 0x1a0, 1 << 16), 0);
    ck_assert_uint_eq(rdmsr(0x1a0) & (1 << 20 | 1 << 16), 1 << 16);
}
END_TEST

/* AMD 22007, appendix A: four event selects, four counters of 48 bits, which RDPMC reads as well. */
START_TEST(an_athlon_has_the_performance_counters_of_the_k7)
{
    u64 v;
    fix_teardown();
    fix_setup_model("athlon");
    for (u32 i = 0; i < 4; i++) {
        ck_assert_uint_eq(rdmsr(0xc0010000 + i), 0);
        ASSERT_RAISED(cpu_wrmsr(cpu, 0xc0010000 + i, 0x430076), 0);
        ck_assert_uint_eq(rdmsr(0xc0010000 + i), 0x430076);
        ASSERT_RAISED(cpu_wrmsr(cpu, 0xc0010004 + i, ~0ull - i), 0);
        ck_assert_uint_eq(rdmsr(0xc0010004 + i), 0xffffffffffffull - i);
        ASSERT_RAISED(cpu_rdpmc(cpu, i, &v), 0);
        ck_assert_uint_eq(v, 0xffffffffffffull - i);
    }
    ASSERT_RAISED(cpu_rdmsr(cpu, 0xc0010008, &v), EXC(V_GP, 0));
    ASSERT_RAISED(cpu_rdpmc(cpu, 4, &v), EXC(V_GP, 0));
    fix_ring(3);
    ASSERT_RAISED(cpu_rdpmc(cpu, 0, &v), EXC(V_GP, 0));
}
END_TEST

START_TEST(reading_msrs_that_are_constants)
{
    u64 v;
    ck_assert_uint_eq(rdmsr(0xfe), 0x508);
    ck_assert_uint_eq(rdmsr(0x179), 5);
    ck_assert_uint_ge(rdmsr(0x8b) >> 32, 0x20e); /* Linux mistrusts PSE below */
    ck_assert_uint_eq(rdmsr(0x1b), 0xfee00900);
    ASSERT_RAISED(cpu_rdmsr(cpu, 0x3a, &v), EXC(V_GP, 0));
    ASSERT_RAISED(cpu_rdmsr(cpu, 0x403, &v), EXC(V_GP, 0));
}
END_TEST

START_TEST(the_tsc_follows_the_host_with_an_offset)
{
    u64 before = __rdtsc(), v = rdmsr(0x10);
    ck_assert_uint_ge(v, before);
    ASSERT_RAISED(cpu_wrmsr(cpu, 0x10, 1000), 0);
    v = cpu_tsc(cpu);
    ck_assert_uint_ge(v, 1000);
    ck_assert_uint_lt(v, 1000 + (1ull << 36));
}
END_TEST

static u64 hooked;
static void hook(void *arg, u64 msr) { *(u64 *)arg = msr; }

START_TEST(the_local_apic_is_told_where_it_is)
{
    u32 id[4];
    hooked = 0;
    cpu->apic_base_hook = hook;
    cpu->apic_base_arg = &hooked;
    cpu_cpuid(cpu, 1, 0, id);
    ck_assert(id[3] & 1 << 9);
    ASSERT_RAISED(cpu_wrmsr(cpu, 0x1b, 0xfec80100), 0);
    ck_assert_uint_eq(hooked, 0xfec80100);
    cpu_cpuid(cpu, 1, 0, id);
    ck_assert(!(id[3] & 1 << 9)); /* disabled: not there */
}
END_TEST

START_TEST(xd_disable_hides_nx)
{
    u32 id[4];
    ASSERT_RAISED(cpu_wrmsr(cpu, 0xc0000080, EFER_NXE), 0);
    ASSERT_RAISED(cpu_wrmsr(cpu, 0x1a0, 1ull << 34), 0);
    ck_assert_uint_eq(cpu->efer, 0);
    cpu_cpuid(cpu, 0x80000001, 0, id);
    ck_assert_uint_eq(id[3], 0);
    ASSERT_RAISED(cpu_wrmsr(cpu, 0xc0000080, EFER_NXE), EXC(V_GP, 0));
    ASSERT_RAISED(cpu_wrmsr(cpu, 0x1a0, 0), 0);
    ASSERT_RAISED(cpu_wrmsr(cpu, 0xc0000080, EFER_NXE), 0);
}
END_TEST

/* ---- CPUID ---- */

static void brand(char text[49])
{
    for (u32 i = 0; i < 3; i++) {
        u32 r[4];
        cpu_cpuid(cpu, 0x80000002 + i, 0, r);
        memcpy(text + 16 * i, r, 16);
    }
    text[48] = 0;
}

START_TEST(cpuid_of_an_n270)
{
    u32 r[4];
    char text[49], vendor[13] = { 0 };
    cpu_cpuid(cpu, 0, 0, r);
    memcpy(vendor, &r[1], 4), memcpy(vendor + 4, &r[3], 4), memcpy(vendor + 8, &r[2], 4);
    ck_assert_str_eq(vendor, "GenuineIntel");
    ck_assert_uint_eq(r[0], 10);
    brand(text);
    ck_assert_str_eq(text, "Intel(R) Atom(TM) CPU N270   @ 1.60GHz");
    cpu_cpuid(cpu, 1, 0, r);
    ck_assert_uint_eq(r[0], 0x106c2);                      /* family 6, model 28, stepping 2 */
    ck_assert_uint_eq(r[2], 1u << 0 | 1u << 9 | 1u << 22); /* SSE3, SSSE3, MOVBE */
    ck_assert_uint_eq(r[3], 0x0789fbff);
    cpu_cpuid(cpu, 4, 0, r);
    ck_assert_uint_eq(((r[1] >> 22) + 1) * ((r[1] & 0xfff) + 1) * (r[2] + 1), 24 * 1024);
    cpu_cpuid(cpu, 4, 1, r);
    ck_assert_uint_eq(((r[1] >> 22) + 1) * ((r[1] & 0xfff) + 1) * (r[2] + 1), 32 * 1024);
    cpu_cpuid(cpu, 4, 2, r);
    ck_assert_uint_eq(((r[1] >> 22) + 1) * ((r[1] & 0xfff) + 1) * (r[2] + 1), 512 * 1024);
    cpu_cpuid(cpu, 4, 3, r);
    ck_assert_uint_eq(r[0], 0);
    cpu_cpuid(cpu, 10, 0, r);
    ck_assert_uint_eq(r[0], 0); /* no performance monitoring */
    cpu_cpuid(cpu, 0x80000000, 0, r);
    ck_assert_uint_eq(r[0], 0x80000008);
    cpu_cpuid(cpu, 0x80000001, 0, r);
    ck_assert_uint_eq(r[3], 1u << 20); /* NX and no long mode */
    cpu_cpuid(cpu, 0x80000008, 0, r);
    ck_assert_uint_eq(r[0], 0x2024);
    u32 top[4];
    cpu_cpuid(cpu, 10, 0, top);
    cpu_cpuid(cpu, 0x40000000, 0, r); /* out of range: the highest basic leaf; no hypervisor shows itself */
    ck_assert_mem_eq(r, top, sizeof r);
    ASSERT_RAISED(cpu_wrmsr(cpu, 0x1a0, 1 << 22), 0);
    cpu_cpuid(cpu, 0, 0, r);
    ck_assert_uint_eq(r[0], 3);
}
END_TEST

START_TEST(every_model_says_what_its_decoder_accepts)
{
    static const struct {
        unsigned reg, bit, feature;
    } t[] = {
        { 3, 0, FEAT_FPU },     { 3, 11, FEAT_SEP },  { 3, 15, FEAT_CMOV },    { 3, 23, FEAT_MMX },
        { 3, 24, FEAT_FXSR },   { 3, 25, FEAT_SSE },  { 3, 26, FEAT_SSE2 },    { 2, 0, FEAT_SSE3 },
        { 2, 3, FEAT_MONITOR }, { 2, 9, FEAT_SSSE3 }, { 2, 22, FEAT_MOVBE },   { 3, 4, FEAT_TSC },
        { 3, 5, FEAT_MSR },     { 3, 8, FEAT_CX8 },   { 3, 19, FEAT_CLFLUSH },
    };
    const struct cpu_model *m;
    unsigned n = 0;
    for (; (m = cpu_model_at(n)); n++) {
        ck_assert_ptr_eq(cpu_model_find(m->name), m);
        if (!(m->features & 1u << FEAT_CPUID)) continue;
        cpu->model = m;
        cpu_reset(cpu);
        u32 r[4];
        cpu_cpuid(cpu, 1, 0, r);
        for (unsigned i = 0; i < ARRAY_LEN(t); i++)
            ck_assert_msg((r[t[i].reg] >> t[i].bit & 1) == (m->features >> t[i].feature & 1), "%s, feature %u", m->name,
                          t[i].feature);
        ck_assert_msg(!(r[3] & (1u << 21 | 1u << 29)), "%s shows what the machine has not", m->name);
        cpu_cpuid(cpu, 0, 0, r);
        ck_assert_uint_eq(r[0], m->max_leaf);
    }
    ck_assert_uint_eq(n, 12);
    ck_assert_str_eq(cpu_model_at(0)->name, "n270");
    ck_assert_ptr_eq(cpu_model_find("z80"), NULL);
    ck_assert_ptr_eq(cpu_model_find(""), NULL);
    ck_assert_ptr_eq(cpu_model_find("n27"), NULL);
}
END_TEST

/* 80386 PRM, 10.1: EDX at reset has the component; AP-485, table 2-2 and 3-4, for the others. */
START_TEST(edx_at_reset_tells_the_part)
{
    static const struct {
        const char *name;
        u32 edx;
    } t[] = { { "386", 0x308 },      { "486", 0x433 },      { "pentium", 0x52c },  { "pentium-mmx", 0x543 },
              { "pentium2", 0x652 }, { "pentium3", 0x686 }, { "pentium4", 0xf29 }, { "core-duo", 0x6e8 },
              { "n270", 0x106c2 },   { "k6", 0x570 },       { "athlon", 0x680 } };
    for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
        fix_teardown();
        fix_setup_model(t[i].name);
        cpu_reset(cpu);
        ck_assert_msg(cpu->gpr[G_EDX] == t[i].edx, "%s: %x", t[i].name, cpu->gpr[G_EDX]);
        ck_assert_msg(cpu->cr0 == (i ? 0x60000010 : 0x10), "%s: CR0 %x", t[i].name, cpu->cr0);
    }
}
END_TEST

/* Intel486 PRM, 4.1.3 against 80386 PRM, 4.1.3: WP, AM, NE, NW and CD are the 486's. */
START_TEST(a_386_has_no_wp_no_am_and_no_ne)
{
    u32 v;
    fix_teardown();
    fix_setup_model("386");
    ASSERT_RAISED(cpu_write_cr(cpu, 0, ~0u & ~CR0_PG), 0);
    ASSERT_RAISED(cpu_read_cr(cpu, 0, &v), 0);
    ck_assert_uint_eq(v, CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET);
    ASSERT_RAISED(cpu_write_cr(cpu, 4, 0), EXC(V_UD, 0));
}
END_TEST

START_TEST(features_are_added_and_removed_with_what_they_need)
{
    struct cpu_model m;
    u32 r[4];
    ck_assert_ptr_eq(cpu_model_make(&m, NULL), NULL);
    ck_assert_str_eq(m.name, "n270");
    ck_assert_ptr_eq(cpu_model_make(&m, "n270,-sse2,-nx"), NULL);
    cpu->model = &m;
    cpu_cpuid(cpu, 1, 0, r);
    ck_assert_uint_eq(r[3] & (1u << 25 | 1u << 26), 1u << 25);
    ck_assert_uint_eq(r[2] & (1u << 0 | 1u << 9 | 1u << 22), 1u << 22); /* SSE3 and SSSE3 need SSE2, MOVBE does not */
    cpu_cpuid(cpu, 0x80000001, 0, r);
    ck_assert_uint_eq(r[3], 0);
    ck_assert(!model_has_nx(&m));
    u32 gone = 1u << FEAT_SSE2 | 1u << FEAT_SSE3 | 1u << FEAT_SSSE3;
    ck_assert_uint_eq(m.features, cpu_model_find("n270")->features & ~gone);
    ck_assert_ptr_eq(cpu_model_make(&m, "pentium,+sse"), NULL);
    ck_assert_uint_eq(m.features, cpu_model_find("pentium")->features | 1u << FEAT_SSE | 1u << FEAT_FXSR);
    ck_assert_uint_eq(model_edx(&m) >> 24, 3);
    ck_assert_ptr_eq(cpu_model_make(&m, "n270,-pae"), NULL); /* what a table entry's NX needs */
    ck_assert(!model_has_nx(&m) && !(model_edx(&m) & CPUID_PAE));
    ck_assert_ptr_eq(cpu_model_make(&m, "486,-fpu"), NULL);
    ck_assert_uint_eq(m.features & 1u << FEAT_FPU, 0);
    static const struct {
        const char *spec;
        unsigned wrong; /* where */
    } bad[] = { { "z80", 0 },         { "n270,sse", 5 }, { "n270,+sse,-foo", 10 },
                { "n270,", 5 },       { "486,+sse", 4 }, { "pentium,+nx", 8 },
                { "n270,-sse2x", 5 }, { "", 0 },         { "n270,-sse,,", 10 } };
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(cpu_model_make(&m, bad[i].spec) == bad[i].spec + bad[i].wrong, "'%s'", bad[i].spec);
}
END_TEST

/* Which MSRs a model has. SDM vol. 4, tables 2-2 and 2-63 (Pentium), 2-20 (P6), 2-56 (Pentium 4), 2-19 (Core Duo), 2-4
 * (Atom); AMD 21828 (K6), 22007 (K7). Machine-check banks, MTRRs, PAT and so on go by CPUID. */
#define MTRRS "fe 200-20f 250 258-259 268-26f 277 2ff "
#define P6_ALL "0-1 10 17 1b 2a 8b 174-176 179-17a 1d9 " MTRRS
#define BANKS "400-402 404-406 408-40a 40c-40e 410-412 "
static const struct {
    const char *model, *msrs;
} msr_lists[] = {
    { "386", "" },
    { "486", "" },
    { "pentium", "0-1 e 10-13" },
    { "pentium-mmx", "0-1 e 10-13" },
    { "k6", "0-1 e 10 c0000082" },
    { "pentium2", P6_ALL BANKS },
    { "pentium3", P6_ALL BANKS },
    { "pentium4", P6_ALL "1a0 " BANKS },
    { "core-duo", P6_ALL "cd 1a0 c0000080 " BANKS },
    { "n270", P6_ALL "cd 1a0 c0000080 " BANKS },
    { "n270,-nx,-mtrr,-mca,-sep", "0-1 10 17 1b 2a 8b cd 1a0 1d9 277" },
    { "athlon", "0-1 10 1b 8b 174-176 179-17a " MTRRS BANKS "c0010000-c0010007 c0010015 c001001b" },
};

enum { MSR_RANGE = 0x2000 };
/* Those of MSR_RANGE from `from` on that the list has. */
static void list_read(bool has[MSR_RANGE], const char *list, u32 from)
{
    memset(has, 0, MSR_RANGE * sizeof *has);
    while (*list) {
        char *end;
        u32 first = (u32)strtoul(list, &end, 16), last = *end == '-' ? (u32)strtoul(end + 1, &end, 16) : first;
        for (u32 msr = first; msr <= last; msr++)
            if (msr - from < MSR_RANGE) has[msr - from] = true;
        for (list = end; *list == ' '; list++) {}
    }
}

START_TEST(a_model_has_these_msrs_and_the_rest_are_gp)
{
    static const u32 from[] = { 0, 0x40000000, 0xc0000000, 0xc0010000 };
    struct cpu_model m;
    u64 v;
    ck_assert_ptr_eq(cpu_model_make(&m, msr_lists[_i].model), NULL);
    fix_teardown();
    fix_setup_model(m.name);
    cpu->model = &m;
    for (unsigned k = 0; k < ARRAY_LEN(from); k++) {
        bool has[MSR_RANGE];
        list_read(has, msr_lists[_i].msrs, from[k]);
        for (u32 i = 0; i < MSR_RANGE; i++) { /* with an `if`: each of check's assertions is told to its parent */
            u32 msr = from[k] + i, want = has[i] ? 0 : EXC(V_GP, 0), got = RAISED(cpu_rdmsr(cpu, msr, &v));
            if (got != want) ck_abort_msg("%s: RDMSR %x raised %x", msr_lists[_i].model, msr, got);
            bool trigger = msr == 0x79; /* of microcode updates: write-only */
            if (!want || trigger) continue;
            got = RAISED(cpu_wrmsr(cpu, msr, 0));
            if (got != want) ck_abort_msg("%s: WRMSR %x raised %x", msr_lists[_i].model, msr, got);
        }
    }
}
END_TEST

START_TEST(the_host_model_carries_the_hosts_name)
{
    char text[49], host[49] = { 0 };
    fix_teardown();
    fix_setup_model("host");
    brand(text);
    for (u32 i = 0; i < 3; i++) {
        u32 a = 0x80000002 + i, b, c = 0, d;
        __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
        const u32 r[4] = { a, b, c, d };
        memcpy(host + 16 * i, r, 16);
    }
    ck_assert_str_eq(text, host);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cpu");
    TCase *t = tcase_create("cpu");
    tcase_add_checked_fixture(t, fix_setup, fix_teardown);
    tcase_add_test(t, reset_is_what_the_manual_says);
    tcase_add_test(t, cr0_refuses_contradictions);
    tcase_add_test(t, edx_at_reset_tells_the_part);
    tcase_add_test(t, a_386_has_no_wp_no_am_and_no_ne);
    tcase_add_test(t, features_are_added_and_removed_with_what_they_need);
    tcase_add_loop_test(t, a_model_has_these_msrs_and_the_rest_are_gp, 0, ARRAY_LEN(msr_lists));
    tcase_add_test(t, cr4_has_the_bits_of_the_model);
    tcase_add_test(t, a_486_has_no_cr4_and_no_msrs);
    tcase_add_test(t, pdptes_are_loaded_and_checked_when_the_manual_says);
    tcase_add_test(t, writes_to_control_registers_flush_the_tlb);
    tcase_add_test(t, debug_registers_have_fixed_bits_and_aliases);
    tcase_add_loop_test(t, wrmsr_takes_what_an_n270_takes, 0, ARRAY_LEN(msrs));
    tcase_add_test(t, the_speedstep_lock_holds_until_reset);
    tcase_add_test(t, an_athlon_has_the_performance_counters_of_the_k7);
    tcase_add_test(t, reading_msrs_that_are_constants);
    tcase_add_test(t, the_tsc_follows_the_host_with_an_offset);
    tcase_add_test(t, the_local_apic_is_told_where_it_is);
    tcase_add_test(t, xd_disable_hides_nx);
    tcase_add_test(t, cpuid_of_an_n270);
    tcase_add_test(t, every_model_says_what_its_decoder_accepts);
    tcase_add_test(t, the_host_model_carries_the_hosts_name);
    suite_add_tcase(s, t);
    return fix_run(s);
}
