/* The page walk and the accesses above it, against the manual's rules written out plainly. */
#include "mem_fixture.h"
#include "runtime/cpu/cpu_models.h"
#include "runtime/mem/mmu.h"

#define LA 0x40345000u /* the page under test */
#define PA 0x345000u

static void flush(void) { tlb_flush_all(cpu); }

/* ---- permissions ---- */

struct rights {
    bool pae, large, pde_u, pde_w, pte_u, pte_w, pde_nx, pte_nx, wp, nxe;
};

/* Maps LA to PA with these rights; A and D clear. */
static void map_rights(const struct rights *r)
{
    fix_paging(r->pae);
    if (!r->wp) cpu->cr0 &= ~CR0_WP;
    cpu->efer = r->nxe ? EFER_NXE : 0;
    u32 upper = P | (r->pde_u ? U : 0) | (r->pde_w ? W : 0), leaf = P | (r->pte_u ? U : 0) | (r->pte_w ? W : 0);
    if (r->pae && r->large) *pde_pae(LA) = 0x200000 | upper | PS | (r->pde_nx ? NX : 0);
    else if (r->pae) map_pae(LA, PA | leaf | (r->pte_nx ? NX : 0), upper | (r->pde_nx ? NX : 0));
    else if (r->large) *pde32(LA) = 0x0 | upper | PS;
    else map32(LA, PA | leaf, upper);
}

static u64 leaf_of(const struct rights *r)
{
    return r->pae ? r->large ? *pde_pae(LA) : *pte_pae(LA) : r->large ? *pde32(LA) : *pte32(LA);
}

/* What the manual says (vol. 3, 4.6 and 4.7): 0 if the access is allowed, else 1 + the error code. */
static u32 verdict(const struct rights *r, enum access acc, bool user)
{
    bool nx_on = r->pae && r->nxe;
    bool nx_bit = r->pae && (r->pde_nx || (!r->large && r->pte_nx));
    bool u = r->large ? r->pde_u : r->pde_u && r->pte_u, w = r->large ? r->pde_w : r->pde_w && r->pte_w;
    u32 code = (acc == ACC_W ? PF_W : 0) | (user ? PF_U : 0) | (acc == ACC_X && nx_on ? PF_I : 0);
    if (nx_bit && !nx_on) return 1 + (code | PF_P | PF_RSVD);
    bool ok = !user || u;
    if (acc == ACC_W && !w) ok &= !user && !r->wp;
    if (acc == ACC_X && nx_on && nx_bit) ok = false;
    return ok ? 0 : 1 + (code | PF_P);
}

static void check_rights(const struct rights *r, enum access acc, bool user)
{
    u32 expect = verdict(r, acc, user);
    paddr pa = 0;
    map_rights(r);
    flush();
    cpu->cr2 = 0;
    int st = mmu_translate(cpu, LA + 0x123, acc, user, &pa);
    const char *what = acc == ACC_R ? "read" : acc == ACC_W ? "write" : "fetch";
    u32 got = st ? 1 + cpu->exc.error : 0;
    ck_assert_msg(got == expect,
                  "%s user=%d pae=%d large=%d pde u%d w%d nx%d pte u%d w%d nx%d wp=%d nxe=%d: got %d, expected %d",
                  what, user, r->pae, r->large, r->pde_u, r->pde_w, r->pde_nx, r->pte_u, r->pte_w, r->pte_nx, r->wp,
                  r->nxe, (int)got - 1, (int)expect - 1);
    u64 ad = leaf_of(r) & (A | D);
    if (st) {
        ck_pf(st, LA + 0x123, expect - 1);
        ck_assert_msg(ad == 0, "A/D %llx after a fault", (unsigned long long)ad);
    } else {
        ck_assert_uint_eq(pa, PA + 0x123);
        ck_assert_uint_eq(ad, acc == ACC_W ? A | D : A);
    }
    if (!r->large) {
        u64 pde = r->pae ? *pde_pae(LA) : *pde32(LA);
        ck_assert_uint_eq(pde & (A | D), st ? 0 : A);
    }
    /* The same through the TLB, filled by it and then again from it. */
    u64 v;
    u8 b;
    unsigned n;
    for (unsigned i = 0; i < 2; i++) {
        cpu->cpl = user ? 3 : 0;
        st = acc == ACC_R   ? mem_read(cpu, LA + 0x123, 4, user, &v)
             : acc == ACC_W ? mem_write(cpu, LA + 0x123, 4, user, 0)
                            : mem_fetch(cpu, LA + 0x123, &b, 1, &n);
        ck_assert_int_eq(st != 0, expect != 0);
        if (st) ck_pf(st, LA + 0x123, expect - 1);
    }
}

START_TEST(every_combination_of_rights_is_judged_as_the_manual_does)
{
    for (unsigned bits = 0; bits < 1u << 10; bits++) {
        struct rights r = { bits & 1,      bits >> 1 & 1, bits >> 2 & 1, bits >> 3 & 1, bits >> 4 & 1,
                            bits >> 5 & 1, bits >> 6 & 1, bits >> 7 & 1, bits >> 8 & 1, bits >> 9 & 1 };
        if (!r.pae && (r.pde_nx || r.pte_nx)) continue;
        if (r.large && (r.pte_u || r.pte_w || r.pte_nx)) continue;
        for (enum access acc = ACC_R; acc <= ACC_X; acc++) {
            check_rights(&r, acc, false);
            check_rights(&r, acc, true);
        }
    }
}
END_TEST

START_TEST(without_paging_linear_is_physical)
{
    paddr pa;
    wr(0x1234, 4, true, 0xcafe);
    ck_assert_uint_eq(*ram32(0x1234), 0xcafe);
    ck_assert_uint_eq(rd(0x1234, 4, false), 0xcafe);
    ck_assert_int_eq(mmu_translate(cpu, 0x123456, ACC_X, true, &pa), 0);
    ck_assert_uint_eq(pa, 0x123456);
    ck_assert_uint_eq(rd(0xfffffffe, 4, false), (u64)(u16)*ram32(0) << 16 | 0xffff); /* and wraps at 4 GiB */
}
END_TEST

START_TEST(what_is_not_present_faults_at_the_level_it_is_missing)
{
    fix_paging(false);
    u64 v;
    ck_pf(mem_read(cpu, LA, 4, false, &v), LA, 0);
    ck_pf(mem_write(cpu, LA + 3, 1, true, 0), LA + 3, PF_W | PF_U);
    map32(LA, PA | W | U, P | W | U); /* leaf not present; the other bits mean nothing */
    ck_pf(mem_write(cpu, LA, 4, true, 0), LA, PF_W | PF_U);
    ck_assert_uint_eq(*pde32(LA) & A, 0);
    fix_paging(true);
    cpu->efer = EFER_NXE;
    cpu->pdpte[1] = 0;
    unsigned got;
    u8 b;
    cpu->cpl = 3;
    flush();
    ck_pf(mem_fetch(cpu, LA, &b, 1, &got), LA, PF_U | PF_I);
    *pde_pae(LA) = 1ull << 62; /* not present: reserved bits are not looked at */
    cpu->pdpte[1] = (FIX_PD_PAE + PAGE_SIZE) | P;
    ck_pf(mem_read(cpu, LA, 4, false, &v), LA, 0);
}
END_TEST

START_TEST(reserved_bits_fault_with_rsvd)
{
    u64 v;
    fix_paging(false);
    for (unsigned bit = 13; bit <= 21; bit++) { /* 4 MiB page without PSE-36 */
        *pde32(LA) = P | W | PS | 1u << bit;
        flush();
        ck_pf(mem_read(cpu, LA, 4, false, &v), LA, PF_P | PF_RSVD);
        ck_assert_uint_eq(*pde32(LA) & A, 0);
    }
    *pde32(LA) = P | W | PS | 1u << 12; /* PAT */
    flush();
    ck_assert_int_eq(mem_read(cpu, LA, 4, false, &v), 0);
    cpu->cr4 &= ~CR4_PSE; /* PS is ignored then */
    *pde32(LA) = FIX_TABLES | P | W | PS;
    *ram32(FIX_TABLES + (LA >> 12 & 1023) * 4) = PA | P;
    flush();
    ck_assert_int_eq(mem_read(cpu, LA, 4, false, &v), 0);

    fix_paging(true);
    for (unsigned bit = 36; bit <= 63; bit++) {
        map_pae(LA, PA | P | 1ull << bit, P | W);
        flush();
        ck_pf(mem_read(cpu, LA, 4, false, &v), LA, PF_P | PF_RSVD);
        map_pae(LA, PA | P, P | W | 1ull << bit);
        ck_pf(mem_read(cpu, LA, 4, true, &v), LA, PF_P | PF_U | PF_RSVD);
        *pde_pae(LA) = 0x200000 | P | PS | 1ull << bit;
        ck_pf(mem_write(cpu, LA, 4, false, 0), LA, PF_P | PF_W | PF_RSVD);
    }
    for (unsigned bit = 13; bit <= 20; bit++) {
        *pde_pae(LA) = 0x200000 | P | PS | 1ull << bit;
        ck_pf(mem_read(cpu, LA, 4, false, &v), LA, PF_P | PF_RSVD);
    }
    cpu->cr4 &= ~CR4_PSE; /* 2 MiB pages do not need it */
    *pde_pae(LA) = 0x200000 | P | PS;
    ck_assert_int_eq(mem_read(cpu, LA, 4, false, &v), 0);
}
END_TEST

START_TEST(the_models_physical_address_width_decides_what_is_reserved)
{
    static const struct cpuid_leaf leaf[] = { { .leaf = 0x80000008, .eax = 0x2020 } };
    struct cpu_model model = { .name = "narrow", .leaves = leaf, .nleaves = 1 };
    u64 v;
    cpu->model = &model;
    mmu_model(cpu);
    fix_paging(true);
    map_pae(LA, PA | P | 1ull << 32, P);
    ck_pf(mem_read(cpu, LA, 4, false, &v), LA, PF_P | PF_RSVD);
    map_pae(LA, PA | P, P);
    ck_assert_int_eq(mem_read(cpu, LA, 4, false, &v), 0);
}
END_TEST

/* ---- A and D ---- */

START_TEST(dirty_is_set_by_the_first_write_only)
{
    for (unsigned pae = 0; pae < 2; pae++) {
        fix_paging(pae);
        if (pae) map_pae(LA, PA | P | W, P | W);
        else map32(LA, PA | P | W, P | W);
        flush();
        rd(LA, 4, false);
        ck_assert_uint_eq((pae ? *pte_pae(LA) : *pte32(LA)) & (A | D), A);
        wr(LA, 4, false, 1);
        ck_assert_uint_eq((pae ? *pte_pae(LA) : *pte32(LA)) & (A | D), A | D);
        ck_assert_uint_eq((pae ? *pde_pae(LA) : *pde32(LA)) & (A | D), A);
    }
}
END_TEST

START_TEST(dirty_comes_back_when_the_guest_clears_it_and_flushes)
{
    fix_paging(false);
    map32(LA, PA | P | W, P | W);
    wr(LA, 4, false, 1);
    *pte32(LA) &= ~(A | D);
    wr(LA, 4, false, 2); /* from the TLB */
    ck_assert_uint_eq(*pte32(LA) & (A | D), 0);
    tlb_flush_page(cpu, LA);
    rd(LA, 4, false);
    ck_assert_uint_eq(*pte32(LA) & (A | D), A);
    wr(LA, 4, false, 3);
    ck_assert_uint_eq(*pte32(LA) & (A | D), A | D);
}
END_TEST

START_TEST(a_write_probe_sets_dirty_and_writes_nothing)
{
    fix_paging(false);
    map32(LA, PA | P | W | U, P | W | U);
    map32(LA + PAGE_SIZE, (PA + PAGE_SIZE) | P | U, P | W | U);
    *ram32(PA) = 0x5555;
    ck_assert_int_eq(mem_probe_write(cpu, LA, 4, true), 0);
    ck_assert_uint_eq(*pte32(LA) & D, D);
    ck_assert_uint_eq(*ram32(PA), 0x5555);
    ck_pf(mem_probe_write(cpu, LA + 0xffe, 4, true), LA + PAGE_SIZE, PF_P | PF_W | PF_U);
    ck_assert_int_eq(mem_probe_read(cpu, LA + 0xffe, 4, true), 0);
    ck_pf(mem_probe_read(cpu, LA, 3 * PAGE_SIZE, true), LA + 2 * PAGE_SIZE, PF_U);
}
END_TEST

static unsigned code_writes;
static paddr code_pa;
static bool on_code(void *arg, paddr pa, unsigned len, u8 flags)
{
    (void)arg, (void)len, (void)flags;
    code_writes++;
    code_pa = pa;
    return true;
}

START_TEST(setting_a_bit_in_a_page_table_that_holds_code_is_a_write_to_code)
{
    fix_paging(false);
    map32(LA, PA | P | W, P | W | A);
    struct coherence_listener l = { .rank = COHERENCE_CODE, .written = on_code };
    coherence_listen(bus_coherence(bus), &l);
    paddr table = FIX_TABLES + (LA >> 22) * PAGE_SIZE;
    bus_mark_code(bus, table);
    code_writes = 0;
    rd(LA, 4, false);
    ck_assert_uint_eq(code_writes, 1);
    ck_assert_uint_eq(code_pa, table + (LA >> 12 & 1023) * 4);
    tlb_flush_all(cpu);
    rd(LA, 4, false); /* A is set already: no write */
    ck_assert_uint_eq(code_writes, 1);
}
END_TEST

START_TEST(page_tables_outside_ram_read_as_ones)
{
    u64 v;
    fix_paging(false);
    cpu->cr3 = 0xe0000000;
    ck_pf(mem_read(cpu, LA, 4, false, &v), LA, PF_P | PF_RSVD);
    cpu->cr4 &= ~CR4_PSE;
    ck_assert_uint_eq(rd(LA, 4, true), 0xffffffff); /* ones lead to the last page, where nothing answers */
    fix_paging(true);
    cpu->pdpte[1] = 0xe0000000 | P;
    ck_pf(mem_write(cpu, LA, 4, true, 0), LA, PF_P | PF_W | PF_U | PF_RSVD);
}
END_TEST

/* ---- accesses ---- */

static void map_two(u32 second)
{
    fix_paging(false);
    map32(LA, PA | P | W | U, P | W | U);
    map32(LA + PAGE_SIZE, second, P | W | U);
}

START_TEST(accesses_of_every_size_cross_pages_that_are_not_neighbours)
{
    map_two(0x777000 | P | W | U);
    for (unsigned n = 1; n <= 8; n *= 2)
        for (unsigned off = PAGE_SIZE - 8; off < PAGE_SIZE + 1; off++) {
            u64 val = 0x8877665544332211ull + off * 0x0101010101010101ull, mask = n == 8 ? ~0ull : (1ull << n * 8) - 1;
            wr(LA + off, n, true, val);
            ck_assert_uint_eq(rd(LA + off, n, true), val & mask);
            for (unsigned i = 0; i < n; i++) {
                paddr pa = off + i < PAGE_SIZE ? PA + off + i : 0x777000 + off + i - PAGE_SIZE;
                ck_assert_uint_eq(*bus_ram_ptr(bus, pa), (u8)(val >> i * 8));
            }
        }
}
END_TEST

START_TEST(a_write_that_faults_on_its_second_page_writes_nothing)
{
    map_two(0);
    *ram32(PA + 0xffc) = 0x11111111;
    ck_pf(mem_write(cpu, LA + 0xffe, 4, true, ~0u), LA + PAGE_SIZE, PF_W | PF_U);
    ck_assert_uint_eq(*ram32(PA + 0xffc), 0x11111111);
    u8 buf[64];
    memset(buf, 0xee, sizeof buf);
    ck_pf(mem_write_buf(cpu, LA + 0xff0, buf, sizeof buf, true), LA + PAGE_SIZE, PF_W | PF_U);
    ck_assert_uint_eq(*ram32(PA + 0xffc), 0x11111111);
    u64 v = 42;
    ck_pf(mem_read(cpu, LA + 0xfff, 8, true, &v), LA + PAGE_SIZE, PF_U);
    ck_assert_uint_eq(v, 42);
}
END_TEST

START_TEST(buffers_cross_pages_and_reach_devices)
{
    struct probe_dev d = { 0 };
    u8 out[PAGE_SIZE], in[PAGE_SIZE];
    map_two(0xd0000000 | P | W | U);
    ck_assert_int_eq(bus_map_mmio(bus, 0xd0000000, PAGE_SIZE, &probe_ops, &d, "dev"), 0);
    for (unsigned i = 0; i < sizeof out; i++) out[i] = (u8)(i * 3);
    ck_assert_int_eq(mem_write_buf(cpu, LA + 0xfe0, out, 48, true), 0);
    ck_assert_mem_eq(bus_ram_ptr(bus, PA + 0xfe0), out, 32);
    ck_assert_uint_eq(d.writes, 4);
    ck_assert_uint_eq(d.val, out[44] | (u32)out[45] << 8 | (u32)out[46] << 16 | (u32)out[47] << 24);
    ck_assert_int_eq(mem_read_buf(cpu, LA + 0xfe0, in, 48, true), 0);
    ck_assert_mem_eq(in, out, 32);
    ck_assert_uint_eq(in[32], 0x10);
    ck_assert_uint_eq(in[47], 0x1f);
    map32(LA + PAGE_SIZE, 0x777000 | P | W | U, P | W | U);
    tlb_flush_page(cpu, LA + PAGE_SIZE);
    ck_assert_int_eq(mem_write_buf(cpu, LA + 0x800, out, sizeof out, true), 0);
    ck_assert_int_eq(mem_read_buf(cpu, LA + 0x800, in, sizeof in, true), 0);
    ck_assert_mem_eq(in, out, sizeof out);
    ck_assert_mem_eq(bus_ram_ptr(bus, 0x777000), out + 0x800, 0x800);
}
END_TEST

static u32 read_and_clobber(void *dev, u32 off, unsigned size)
{
    (void)dev, (void)off, (void)size;
    __asm__ volatile("pcmpeqd %%xmm5, %%xmm5; fninit; fld1; fld1" : : : "xmm5");
    return 7;
}

START_TEST(devices_may_use_vector_registers_while_the_guests_are_live)
{
    static const struct io_ops ops = { .read = read_and_clobber };
    ck_assert_int_eq(bus_map_mmio(bus, 0xd0000000, PAGE_SIZE, &ops, NULL, "dev"), 0);
    u64 v = 0, mark = 0x0123456789abcdef, after;
    u16 fsw;
    cpu->fpu_hot = 1;
    __asm__ volatile("fninit; movq %0, %%xmm5" : : "r"(mark) : "xmm5");
    int st = mem_read(cpu, 0xd0000000, 4, false, &v);
    __asm__ volatile("movq %%xmm5, %0; fnstsw %1; fninit" : "=r"(after), "=m"(fsw));
    cpu->fpu_hot = 0;
    ck_assert_int_eq(st, 0);
    ck_assert_uint_eq(v, 7);
    ck_assert_uint_eq(after, mark);
    ck_assert_uint_eq(fsw >> 11 & 7, 0);
}
END_TEST

START_TEST(code_is_fetched_up_to_the_page_that_faults)
{
    map_two(0);
    cpu->cpl = 3;
    u8 buf[16];
    unsigned got;
    memcpy(bus_ram_ptr(bus, PA + 0xff8), "ABCDEFGH", 8);
    cpu->cr2 = 0x99;
    ck_assert_int_eq(mem_fetch(cpu, LA + 0xff8, buf, 15, &got), 0);
    ck_assert_uint_eq(got, 8);
    ck_assert_mem_eq(buf, "ABCDEFGH", 8);
    ck_assert_uint_eq(cpu->cr2, 0x99);
    ck_assert(!cpu->exc.valid);
    ck_pf(mem_fetch(cpu, LA + PAGE_SIZE, buf, 15, &got), LA + PAGE_SIZE, PF_U);
    map32(LA + PAGE_SIZE, 0x777000 | P | U, P | W | U);
    memcpy(bus_ram_ptr(bus, 0x777000), "IJKLMNO", 7);
    ck_assert_int_eq(mem_fetch(cpu, LA + 0xff8, buf, 15, &got), 0);
    ck_assert_uint_eq(got, 15);
    ck_assert_mem_eq(buf, "ABCDEFGHIJKLMNO", 15);
}
END_TEST

START_TEST(looking_ahead_leaves_cr2_and_the_pending_exception_alone)
{
    paddr pa;
    map_two(0);
    cpu->cr2 = 0x77;
    ck_assert(!mmu_try(cpu, LA + PAGE_SIZE, ACC_R, true, &pa));
    ck_assert(cpu->cr2 == 0x77 && !cpu->exc.valid);
    ck_assert(mmu_probe(cpu, LA + 5, &pa));
    ck_assert_uint_eq(pa, PA + 5);
    ck_assert(!mmu_probe(cpu, LA + PAGE_SIZE, &pa));
    ck_assert_uint_eq(*pte32(LA) & A, 0);
    ck_assert(mmu_try(cpu, LA, ACC_W, true, &pa));
    ck_assert_uint_eq(*pte32(LA) & (A | D), A | D);
}
END_TEST

START_TEST(large_pages_lead_where_their_frame_says)
{
    fix_paging(false);
    *pde32(0x80000000) = 0x800000 | P | W | PS;
    wr(0x803ffffc, 4, false, 0xabcd);
    ck_assert_uint_eq(*ram32(0xbffffc), 0xabcd);
    fix_paging(true);
    flush();
    *pde_pae(0xc0200000) = 0xa00000 | P | W | PS;
    ck_assert_uint_eq(rd(0xc03ffffc, 4, false), 0xabcd);
}
END_TEST

/* SDM vol. 3, 4.3, table 4-4: bits 16:13 of a 4 MiB page's entry are bits 35:32 of its address, 20:17 and 21 reserved.
 * */
START_TEST(pse36_reaches_above_4_gib_and_its_other_bits_are_reserved)
{
    paddr pa;
    struct cpu_model model = *cpu_model_find("pentium3");
    cpu->model = &model;
    mmu_model(cpu);
    fix_paging(false);
    for (unsigned bit = 13; bit <= 21; bit++) {
        *pde32(LA) = 0x800000 | P | PS | 1u << bit;
        flush();
        int st = mmu_translate(cpu, LA + 0x123, ACC_R, false, &pa);
        if (bit < 17) ck_assert_uint_eq(pa, (1ull << (bit + 19) | 0x800000) + ((LA + 0x123) & 0x3fffff));
        ck_assert_int_eq(st != 0, bit >= 17);
        if (st) ck_pf(st, LA + 0x123, PF_P | PF_RSVD);
    }
    model.removed[CPUID_1_EDX] = CPUID_PSE36;
    mmu_model(cpu);
    *pde32(LA) = 0x800000 | P | PS | 1u << 13;
    flush();
    ck_pf(mmu_translate(cpu, LA, ACC_R, false, &pa), LA, PF_P | PF_RSVD);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("mmu");
    TCase *t = tcase_create("mmu");
    tcase_add_checked_fixture(t, fix_setup, fix_teardown);
    tcase_set_timeout(t, 30);
    tcase_add_test(t, every_combination_of_rights_is_judged_as_the_manual_does);
    tcase_add_test(t, without_paging_linear_is_physical);
    tcase_add_test(t, what_is_not_present_faults_at_the_level_it_is_missing);
    tcase_add_test(t, reserved_bits_fault_with_rsvd);
    tcase_add_test(t, the_models_physical_address_width_decides_what_is_reserved);
    tcase_add_test(t, pse36_reaches_above_4_gib_and_its_other_bits_are_reserved);
    tcase_add_test(t, dirty_is_set_by_the_first_write_only);
    tcase_add_test(t, dirty_comes_back_when_the_guest_clears_it_and_flushes);
    tcase_add_test(t, a_write_probe_sets_dirty_and_writes_nothing);
    tcase_add_test(t, setting_a_bit_in_a_page_table_that_holds_code_is_a_write_to_code);
    tcase_add_test(t, page_tables_outside_ram_read_as_ones);
    tcase_add_test(t, accesses_of_every_size_cross_pages_that_are_not_neighbours);
    tcase_add_test(t, a_write_that_faults_on_its_second_page_writes_nothing);
    tcase_add_test(t, buffers_cross_pages_and_reach_devices);
    tcase_add_test(t, devices_may_use_vector_registers_while_the_guests_are_live);
    tcase_add_test(t, code_is_fetched_up_to_the_page_that_faults);
    tcase_add_test(t, looking_ahead_leaves_cr2_and_the_pending_exception_alone);
    tcase_add_test(t, large_pages_lead_where_their_frame_says);
    suite_add_tcase(s, t);
    return fix_run(s);
}
