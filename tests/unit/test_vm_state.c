/* The embedding API: registers, MSRs and memory, between runs. */
#include "tests/unit/vm_fixture.h"

#include <errno.h>

/* clang-format off */
#define OUT_DEBUG 0xe6, DEBUG_PORT /* OUT F4h, AL */
/* clang-format on */

static void set(struct vm *vm, const struct vm_registers *r)
{
    struct vm_error err = { "" };
    ck_assert_msg(!vm_set_registers(vm, r, &err), "%s", err.text);
}

/* ---- registers ---- */

/* Another value in every field, that a processor could hold. */
static void fill(struct vm_registers *r)
{
    u32 *const general[] = { &r->eax, &r->ecx, &r->edx, &r->ebx, &r->esp, &r->ebp, &r->esi, &r->edi, &r->eip };
    struct vm_segment *const segment[] = { &r->es, &r->cs, &r->ss, &r->ds, &r->fs, &r->gs, &r->ldtr, &r->tr };
    for (unsigned i = 0; i < ARRAY_LEN(general); i++) *general[i] = 0x11111111 * (i + 1) + 5;
    for (unsigned i = 0; i < ARRAY_LEN(segment); i++)
        *segment[i] = (struct vm_segment){ (u16)(8 * i + 3), 0, 0x1000 * i, 0xfffff000 + i, 0xc093 + i % 3 };
    segment[4]->attributes = 1 << 16;
    r->eflags = 0x2 | 0x8d5 | 1 << 10 | 3 << 12 | 1 << 14 | 1 << 18 | 1 << 21;
    r->gdtr = (struct vm_table){ 0x12345678, 0x9abc, 0 };
    r->idtr = (struct vm_table){ 0x87654321, 0xcba9, 0 };
    r->cr0 = 0x80050033;
    r->cr2 = 0xdeadbeef;
    r->cr3 = 0x00321000;
    r->cr4 = 0x6b0; /* OSXMMEXCPT OSFXSR PGE PAE PSE */
    for (unsigned i = 0; i < 4; i++) r->dr[i] = 0xa0000000 + i, r->pdpte[i] = 0x300001000 * (i + 1) + 1;
    r->dr[6] = 0xffff4ff2;
    r->dr[7] = 0x400; /* none enabled */
    r->cpl = 3;
    r->halted = 1;
    r->interrupt_shadow = 2;
    r->nmi_blocked = 1;
    for (unsigned i = 0; i < 288; i++) r->fx[i] = (u8)(i * 7 + 3);
    r->fx[7] &= 7;                                                /* the opcode has 11 bits */
    r->fx[5] = r->fx[14] = r->fx[15] = r->fx[22] = r->fx[23] = 0; /* reserved */
    memcpy(r->fx + 24, "\x80\x5f\0\0\xff\xff\0\0", 8);            /* MXCSR and its mask */
}

START_TEST(every_register_is_what_has_been_put_into_it)
{
    struct vm_config cfg = vm_fixture_config(engines[_i]);
    struct vm *vm = vm_fixture_new(&cfg);
    struct vm_registers before = vm_fixture_registers(vm), want = before;
    fill(&want);
    set(vm, &want);
    struct vm_registers got = vm_fixture_registers(vm);
#define SAME(field) ck_assert_msg(!memcmp(&want.field, &got.field, sizeof want.field), #field " is not what it was")
    /* clang-format off */
    SAME(eax); SAME(ecx); SAME(edx); SAME(ebx); SAME(esp); SAME(ebp); SAME(esi); SAME(edi); SAME(eip); SAME(eflags);
    SAME(es); SAME(cs); SAME(ss); SAME(ds); SAME(fs); SAME(gs); SAME(ldtr); SAME(tr); SAME(gdtr); SAME(idtr);
    SAME(cr0); SAME(cr2); SAME(cr3); SAME(cr4); SAME(dr); SAME(pdpte); SAME(cpl); SAME(halted); SAME(interrupt_shadow);
    SAME(nmi_blocked); SAME(reserved); SAME(fx);
    /* clang-format on */
    ck_assert(!memcmp(&want, &got, sizeof want)); /* nor is there anything else */
    set(vm, &before);
    got = vm_fixture_registers(vm);
    ck_assert(!memcmp(&before, &got, sizeof got));

    /* Fixed bits are so afterwards. */
    want = before;
    want.eflags = 0;
    want.dr[6] = 0xf;
    want.dr[7] = 0;
    set(vm, &want);
    got = vm_fixture_registers(vm);
    ck_assert_uint_eq(2, got.eflags);
    ck_assert_uint_eq(0xffff0fff, got.dr[6]);
    ck_assert_uint_eq(0x400, got.dr[7]);
    vm_free(vm);
}
END_TEST

START_TEST(the_guest_finds_what_has_been_put_into_registers_and_leaves_its_own)
{
    struct vm_config cfg = vm_fixture_config(engines[_i]);
    struct vm *vm = vm_fixture_new(&cfg);
    /* MOV EAX, FS:[4]; ADD EAX, EBX; ADC EDX, 0; MOV ECX, CR2; MOV EDI, DR3; ADDPS XMM1, XMM2; FADDP; INC ESI; OUT */
    LOAD(vm, 0x64, 0xa1, 4, 0, 0, 0, 0x01, 0xd8, 0x83, 0xd2, 0, 0x0f, 0x20, 0xd1, 0x0f, 0x21, 0xdf, 0x0f, 0x58, 0xca,
         0xde, 0xc1, 0x46, OUT_DEBUG);
    struct vm_registers r = vm_fixture_registers(vm);
    const u32 data = 0xfffffff0;
    static const float one[4] = { 1, 2, 3, 4 }, two[4] = { 10, 20, 30, 40 }, sum[4] = { 11, 22, 33, 44 };
    static const u8 real2[10] = { 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0x40 },
                    real6[10] = { 0, 0, 0, 0, 0, 0, 0, 0xc0, 1, 0x40 };
    ck_assert_uint_eq(4, vm_write_physical(vm, 0x5004, &data, 4));
    r.fs.base = 0x5000;
    r.ebx = 0x20;
    r.edx = 7;
    r.esi = 0xffffffff;
    r.cr2 = 0xc0ffee;
    r.dr[3] = 0xd3d3d3d3;
    r.cr4 |= 0x600;
    memcpy(r.fx + 160 + 16, one, 16);
    memcpy(r.fx + 160 + 32, two, 16);
    r.fx[0] = 0x7f, r.fx[1] = 3; /* all masked, extended precision */
    r.fx[2] = 0, r.fx[3] = 6 << 3;
    r.fx[4] = 0xc0; /* ST0 and ST1 */
    memcpy(r.fx + 32, real2, 10);
    memcpy(r.fx + 48, real2, 10);
    r.fx[48 + 8] = 1; /* 4 */
    set(vm, &r);
    vm_fixture_run(vm, VM_EXIT_DEBUG);
    r = vm_fixture_registers(vm);
    ck_assert_uint_eq(0x10, r.eax);
    ck_assert_uint_eq(8, r.edx);
    ck_assert_uint_eq(0xc0ffee, r.ecx);
    ck_assert_uint_eq(0xd3d3d3d3, r.edi);
    ck_assert_uint_eq(0, r.esi);
    ck_assert_uint_eq(0x56, r.eflags & 0x8d7); /* ZF AF PF of INC, no CF of ADC */
    ck_assert(!memcmp(sum, r.fx + 160 + 16, 16));
    ck_assert_msg(!memcmp(real6, r.fx + 32, 10), "ST0 %02x%02x..%02x", r.fx[41], r.fx[40], r.fx[32]);
    ck_assert_uint_eq(0x80, r.fx[4]);
    ck_assert_uint_eq(7 << 3, r.fx[3] & 0x38);
    vm_free(vm);
}
END_TEST

/* A register with a value that no processor holds is named, and nothing has been done. */
START_TEST(an_impossible_value_is_refused_by_name)
{
    struct vm_config cfg = vm_fixture_config(VM_ENGINE_BT);
    struct vm *vm = vm_fixture_new(&cfg);
    struct vm_registers good = vm_fixture_flat(vm, CODE), r;
    struct vm_error err;
    set(vm, &good);
#define WRONG(name, change)                                                                                        \
    do {                                                                                                           \
        r = good;                                                                                                  \
        r.eax = 0x55aa;                                                                                            \
        change;                                                                                                    \
        ck_assert_int_eq(-EINVAL, vm_set_registers(vm, &r, &err));                                                 \
        ck_assert_msg(!strncmp(err.text, name ": ", sizeof name + 1), "'%s' does not begin with " name, err.text); \
        ck_assert_uint_eq(good.eax, vm_fixture_registers(vm).eax);                                                 \
    } while (0)
    WRONG("eflags", r.eflags = 1 << 3);
    WRONG("eflags", r.eflags = 1 << 22);
    WRONG("cr0", r.cr0 = 1u << 31);    /* PG without PE */
    WRONG("cr0", r.cr0 = 1 | 1 << 29); /* NW without CD */
    WRONG("cr4", r.cr4 = 1 << 13);
    WRONG("cpl", r.cpl = 4);
    WRONG("cpl", r.eflags = 1 << 17); /* VM at CPL 0 */
    WRONG("cpl", (r.cpl = 3, r.cr0 = 0x10));
    WRONG("halted", r.halted = 2);
    WRONG("interrupt_shadow", r.interrupt_shadow = 3);
    WRONG("nmi_blocked", r.nmi_blocked = 2);
    WRONG("fx", r.fx[26] = 1); /* MXCSR, bit 16 */
    WRONG("pdpte", (r.cr0 |= 1u << 31, r.cr4 |= 1 << 5, r.pdpte[2] = 7));
    WRONG("reserved", r.reserved[3] = 1);
    WRONG("reserved", r.idtr.reserved = 1);
    WRONG("reserved", r.tr.reserved = 1);
    vm_free(vm);
}
END_TEST

/* As soon as it is in DR7, and also where the code has been translated before. */
START_TEST(a_breakpoint_that_has_been_put_into_debug_registers_is_met)
{
    struct vm_config cfg = vm_fixture_config(engines[_i]);
    struct vm *vm = vm_fixture_new(&cfg);
    static const u8 handler[] = { 0xb0, 0x21, OUT_DEBUG }; /* MOV AL, 21h; OUT */
    const u64 gdt[] = { 0, 0x00cf9b000000ffff, 0x00cf93000000ffff }, gate = 0x00008e0000082000;
    ck_assert_uint_eq(sizeof gdt, vm_write_physical(vm, 0x3000, gdt, sizeof gdt));
    ck_assert_uint_eq(8, vm_write_physical(vm, 0x4008, &gate, 8)); /* #DB at 2000h */
    ck_assert_uint_eq(sizeof handler, vm_write_physical(vm, 0x2000, handler, sizeof handler));
    LOAD(vm, 0x40, 0x43, 0x47, OUT_DEBUG, 0xeb, 0xf9); /* INC EAX, EBX, EDI; OUT; JMP */
    struct vm_registers r = vm_fixture_registers(vm);
    r.gdtr = (struct vm_table){ 0x3000, sizeof gdt - 1, 0 };
    r.idtr = (struct vm_table){ 0x4000, 0x7ff, 0 };
    r.ebx = r.edi = 0;
    set(vm, &r);
    for (u32 i = 1; i <= 50; i++) {
        vm_fixture_run(vm, VM_EXIT_DEBUG);
        ck_assert_uint_eq(i, vm_fixture_registers(vm).edi);
    }
    r = vm_fixture_registers(vm);
    r.dr[2] = CODE + 2;
    r.dr[7] = 0x420; /* G2: execution */
    set(vm, &r);
    vm_fixture_run(vm, VM_EXIT_DEBUG);
    ck_assert_uint_eq(0x43, vm_debug_exit_value(vm));
    r = vm_fixture_registers(vm);
    ck_assert_uint_eq(51, r.ebx);
    ck_assert_uint_eq(50, r.edi);
    ck_assert_uint_eq(4, r.dr[6] & 0xf);
    u32 pushed = 0;
    ck_assert_uint_eq(4, vm_read_linear(vm, r.esp, &pushed, 4));
    ck_assert_uint_eq(CODE + 2, pushed);
    vm_free(vm);
}
END_TEST

START_TEST(msrs_are_read_and_written_as_by_the_guest)
{
    struct vm_config cfg = vm_fixture_config(engines[_i]);
    struct vm *vm = vm_fixture_new(&cfg);
    static const struct {
        u32 msr;
        u64 value;
    } good[] = { { 0x174, 0x10 },
                 { 0x175, 0xc0001000 },
                 { 0x176, 0xc0100000 },
                 { 0xc0000080, 1 << 11 },
                 { 0x1b, 0xfee00900 },
                 { 0x277, 0x0007010600070106 },
                 { 0x1d9, 3 },
                 { 0x17a, 5 },
                 { 0x200, 0x6 },
                 { 0x201, 0xfc0000800 },
                 { 0x250, 0x0606060606060606 },
                 { 0x2ff, 0xc06 },
                 { 0x400, 0xff } };
    u64 v = 0;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        ck_assert_msg(!vm_set_msr(vm, good[i].msr, good[i].value), "%x is refused", good[i].msr);
        ck_assert_int_eq(0, vm_get_msr(vm, good[i].msr, &v));
        ck_assert_msg(v == good[i].value, "%x: %llx, not %llx", good[i].msr, (unsigned long long)v,
                      (unsigned long long)good[i].value);
    }
    ck_assert_int_eq(0, vm_set_msr(vm, 0x10, (u64)1 << 40)); /* the TSC, which goes on */
    ck_assert_int_eq(0, vm_get_msr(vm, 0x10, &v));
    ck_assert_uint_ge(v, (u64)1 << 40);
    ck_assert_uint_lt(v, (u64)1 << 41);

    v = 42;
    ck_assert_int_eq(-EINVAL, vm_get_msr(vm, 0x12345, &v));
    ck_assert_uint_eq(42, v);
    ck_assert_int_eq(-EINVAL, vm_set_msr(vm, 0x12345, 0));
    ck_assert_int_eq(-EINVAL, vm_set_msr(vm, 0x277, 2)); /* no memory type */
    ck_assert_int_eq(0, vm_get_msr(vm, 0x277, &v));
    ck_assert_uint_eq(0x0007010600070106, v);

    LOAD(vm, 0xb9, 0x75, 1, 0, 0, 0x0f, 0x32, 0x40, 0x0f, 0x30, OUT_DEBUG); /* RDMSR 175h; INC EAX; WRMSR */
    vm_fixture_run(vm, VM_EXIT_DEBUG);                                      /* and no #GP is left over */
    ck_assert_uint_eq(0xc0001001, vm_fixture_registers(vm).eax);
    ck_assert_int_eq(0, vm_get_msr(vm, 0x175, &v));
    ck_assert_uint_eq(0xc0001001, v);
    vm_free(vm);
}
END_TEST

/* ---- memory ---- */

START_TEST(physical_memory_is_reached_across_pages_and_nothing_else_is)
{
    struct vm_config cfg = vm_fixture_config(engines[_i]);
    struct vm *vm = vm_fixture_new(&cfg);
    static u8 out[3 * PAGE_SIZE], in[3 * PAGE_SIZE];
    const u64 end = VM_MEMORY_MIN;
    for (size_t i = 0; i < sizeof out; i++) out[i] = (u8)(i * 31 + (i >> 8));
    ck_assert_uint_eq(sizeof out, vm_write_physical(vm, 0x200ffd, out, sizeof out));
    ck_assert_uint_eq(sizeof in, vm_read_physical(vm, 0x200ffd, in, sizeof in));
    ck_assert(!memcmp(in, out, sizeof in));
    ck_assert_uint_eq(0, vm_read_physical(vm, 0x200000, in, 0));

    /* At the end of RAM, and beyond it. */
    ck_assert_uint_eq(5, vm_write_physical(vm, end - 5, out, 12));
    memset(in, 0, 16);
    ck_assert_uint_eq(5, vm_read_physical(vm, end - 5, in, 12));
    ck_assert(!memcmp(in, out, 5));
    for (int i = 5; i < 12; i++) ck_assert_uint_eq(0xff, in[i]);
    ck_assert_uint_eq(0, in[12]);
    static const u64 nowhere[] = { VM_MEMORY_MIN, 0xd0000000, 0xfee00000, (u64)1 << 32, (u64)1 << 36, (u64)-8 };
    for (size_t i = 0; i < ARRAY_LEN(nowhere); i++) {
        memset(in, 0, 9);
        ck_assert_uint_eq(0, vm_read_physical(vm, nowhere[i], in, 8));
        ck_assert(!memcmp(in, "\xff\xff\xff\xff\xff\xff\xff\xff\0", 9));
        ck_assert_uint_eq(0, vm_write_physical(vm, nowhere[i], out, 8));
    }
    vm_free(vm);
}
END_TEST

/* Page directory at 8000h, table at 9000h: linear 400000h.. to pages as written below. */
static void paging(struct vm *vm)
{
    const u32 pde = 0x9007, pte[] = { 0x301003, 0x300001, 0, 0x302007, 0xd0000003 };
    struct vm_registers r = vm_fixture_flat(vm, CODE);
    ck_assert_uint_eq(4, vm_write_physical(vm, 0x8004, &pde, 4));
    ck_assert_uint_eq(sizeof pte, vm_write_physical(vm, 0x9000, pte, sizeof pte));
    r.cr3 = 0x8000;
    r.cr0 |= 1u << 31 | 1 << 16;
    set(vm, &r);
}

START_TEST(linear_memory_is_as_the_page_tables_have_it)
{
    struct vm_config cfg = vm_fixture_config(engines[_i]);
    struct vm *vm = vm_fixture_new(&cfg);
    static u8 out[2 * PAGE_SIZE], in[2 * PAGE_SIZE];
    for (size_t i = 0; i < sizeof out; i++) out[i] = (u8)(i * 13 + (i >> 7));

    struct vm_registers flat = vm_fixture_flat(vm, CODE);
    set(vm, &flat);
    ck_assert_uint_eq(8, vm_write_linear(vm, 0x5ffc, out, 8)); /* without paging */
    ck_assert_uint_eq(8, vm_read_physical(vm, 0x5ffc, in, 8));
    ck_assert(!memcmp(in, out, 8));

    paging(vm);
    /* Two pages that lie the other way round, the second read-only: who looks from outside may. */
    ck_assert_uint_eq(0x1800, vm_write_linear(vm, 0x400400, out, 0x1800));
    ck_assert_uint_eq(0xc00, vm_read_physical(vm, 0x301400, in, 0xc00));
    ck_assert_uint_eq(0xc00, vm_read_physical(vm, 0x300000, in + 0xc00, 0xc00));
    ck_assert(!memcmp(in, out, 0x1800));
    memset(in, 0, sizeof in);
    ck_assert_uint_eq(0x1800, vm_read_linear(vm, 0x400400, in, 0x1800));
    ck_assert(!memcmp(in, out, 0x1800));

    /* Up to the first page that is not there, or that is no memory. */
    ck_assert_uint_eq(6, vm_read_linear(vm, 0x401ffa, in, 20));
    ck_assert_uint_eq(6, vm_write_linear(vm, 0x401ffa, out, 20));
    ck_assert_uint_eq(0, vm_read_linear(vm, 0x402000, in, 1));
    ck_assert_uint_eq(1, vm_write_linear(vm, 0x403fff, out, 2));
    ck_assert_uint_eq(0, vm_read_linear(vm, 0x404000, in, 4));
    ck_assert_uint_eq(0, vm_read_linear(vm, 0xffffffff, in, 4));

    u32 pte[5], pde; /* neither accessed nor dirty */
    ck_assert_uint_eq(sizeof pte, vm_read_physical(vm, 0x9000, pte, sizeof pte));
    ck_assert_uint_eq(4, vm_read_physical(vm, 0x8004, &pde, 4));
    ck_assert_uint_eq(0x301003, pte[0]);
    ck_assert_uint_eq(0x300001, pte[1]);
    ck_assert_uint_eq(0x302007, pte[3]);
    ck_assert_uint_eq(0x9007, pde);
    vm_free(vm);
}
END_TEST

START_TEST(code_that_is_overwritten_between_runs_is_run_as_it_is_then)
{
    struct vm_config cfg = vm_fixture_config(engines[_i]);
    struct vm *vm = vm_fixture_new(&cfg);
    LOAD(vm, 0xb0, 0, OUT_DEBUG, 0xeb, 0xfa); /* MOV AL, 0; OUT; JMP */
    for (u8 i = 0; i < 100; i++) {
        u64 n = i & 1 ? vm_write_linear(vm, CODE + 1, &i, 1) : vm_write_physical(vm, CODE + 1, &i, 1);
        ck_assert_uint_eq(1, n);
        vm_fixture_run(vm, VM_EXIT_DEBUG);
        ck_assert_uint_eq((u32)i << 1 | 1, vm_debug_exit_value(vm));
    }
    vm_free(vm);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("vm_state");
    TCase *t = tcase_create("vm_state");
    const int n = ARRAY_LEN(engines);
    tcase_add_loop_test(t, every_register_is_what_has_been_put_into_it, 0, n);
    tcase_add_loop_test(t, the_guest_finds_what_has_been_put_into_registers_and_leaves_its_own, 0, n);
    tcase_add_test(t, an_impossible_value_is_refused_by_name);
    tcase_add_loop_test(t, a_breakpoint_that_has_been_put_into_debug_registers_is_met, 0, n);
    tcase_add_loop_test(t, msrs_are_read_and_written_as_by_the_guest, 0, n);
    tcase_add_loop_test(t, physical_memory_is_reached_across_pages_and_nothing_else_is, 0, n);
    tcase_add_loop_test(t, linear_memory_is_as_the_page_tables_have_it, 0, n);
    tcase_add_loop_test(t, code_that_is_overwritten_between_runs_is_run_as_it_is_then, 0, n);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
