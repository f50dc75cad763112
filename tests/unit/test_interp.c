/* The interpreter's own business: the loop and its ways out, the cache of decoded blocks, faults in the middle of
 * things, stacks and modes. What single instructions compute is compared with the processor in tests/diff. */
#include "runtime/interp/interp_core.h"
#include "tests/insn_encode.h"
#include "tests/unit/interp_fixture.h"

enum { DATA = 0x80000 };

/* ---- the loop ---- */

START_TEST(a_budget_is_kept_to_the_instruction)
{
    PROGRAM(0x40, 0x41, 0x42, 0xeb, 0xfb); /* inc eax; inc ecx; inc edx; jmp CODE */
    cpu->gpr[G_EAX] = cpu->gpr[G_ECX] = cpu->gpr[G_EDX] = 0;
    ck_assert_int_eq(interp_run(ip, 4000), INTERP_BUDGET);
    ck_assert_uint_eq(cpu->gpr[G_EDX], 1000);
    ck_assert_int_eq(interp_run(ip, 2), INTERP_BUDGET);
    ck_assert_uint_eq(cpu->gpr[G_EAX], 1001);
    ck_assert_uint_eq(cpu->gpr[G_ECX], 1001);
    ck_assert_uint_eq(cpu->gpr[G_EDX], 1000);
    ck_assert_uint_eq(cpu->eip, CODE + 2);
    ck_assert_uint_eq(cpu->ctr.interp_insns, 4002);
}
END_TEST

START_TEST(a_kick_ends_it_within_a_block)
{
    PROGRAM(0xeb, 0xfe);
    cpu->kick = 1;
    ck_assert_int_eq(interp_run(ip, 1000000000), INTERP_KICK);
}
END_TEST

START_TEST(hlt_stops_behind_itself)
{
    PROGRAM(0xf4, 0x90);
    ck_assert_int_eq(interp_run(ip, 100), INTERP_HLT);
    ck_assert_uint_eq(cpu->eip, CODE + 1);
    ck_assert_uint_eq(cpu->halted, 1);
}
END_TEST

START_TEST(sti_opens_the_window_one_instruction_later)
{
    PROGRAM(0x40, 0xfb, 0x40, 0x40, 0x40); /* inc eax; sti; inc eax .. */
    cpu->gpr[G_EAX] = 0;
    cpu->irq_pending = 1;
    ck_assert_int_eq(interp_run(ip, 100), INTERP_INT_WINDOW);
    ck_assert_uint_eq(cpu->gpr[G_EAX], 2);
    ck_assert_uint_eq(cpu->eip, CODE + 3);
    ck_assert_uint_eq(cpu->intr_shadow, 0);
}
END_TEST

START_TEST(sti_with_if_set_shadows_nothing)
{
    PROGRAM(0xfb, 0x40, 0x40);
    cpu->iflag = 1;
    cpu->irq_pending = 1;
    cpu->gpr[G_EAX] = 0;
    ck_assert_int_eq(interp_run(ip, 100), INTERP_INT_WINDOW);
    ck_assert_uint_eq(cpu->eip, CODE + 1);
}
END_TEST

static void arm(unsigned n, laddr la, u32 condition_and_length)
{
    cpu->dr[n] = la;
    cpu->dr[7] = 0x400 | 2u << 2 * n | condition_and_length << (16 + 4 * n);
    cpu->dr[6] = 0xffff0ff0;
    cpu_update_mode(cpu);
}

START_TEST(mov_ss_suppresses_a_breakpoint_on_the_next_instruction_and_sti_does_not)
{
    PROGRAM(0x8e, 0xd0, 0x90, 0x90); /* mov ss, eax; nop; nop */
    cpu->gpr[G_EAX] = SS0;
    arm(0, CODE + 2, 0);
    STEPS(2);
    ck_assert_uint_eq(cpu->eip, CODE + 3);
    arm(0, CODE + 3, 0);
    ASSERT_EXC(EXC(V_DB, 0));
    PROGRAM(0x17, 0x90); /* pop ss; nop */
    poke32(cpu->gpr[G_ESP], SS0);
    arm(0, CODE + 1, 0);
    STEPS(2);
    PROGRAM(0xfb, 0x90); /* sti; nop */
    STEPS(1);
    ASSERT_EXC(EXC(V_DB, 0));
}
END_TEST

/* NOP, INT n, INT3, INTO, REP STOSB of 2, and MOV SS once more. */
START_TEST(a_data_breakpoint_that_mov_ss_meets_is_reported_after_the_next_instruction)
{
    static const struct {
        u8 code[2];
        u32 eip;
    } next[] = {
        { { 0x90 }, CODE + 8 },
        { { 0xcd, 0x30 }, 0x40300 },
        { { 0xcc }, 0x40000 + 16 * V_BP },
        { { 0xce }, 0x40000 + 16 * V_OF },
        { { 0xf3, 0xaa }, CODE + 9 },
    };
    for (unsigned i = 0; i < ARRAY_LEN(next); i++) {
        fix_ring(0);
        PUT(CODE, 0x66, 0x8e, 0x15, 0, 0, 2, 0, next[i].code[0], next[i].code[1]); /* mov ss, [20000] */
        poke32(0x20000, SS0);
        cpu_set_eflags(cpu, F_OF);
        cpu->gpr[G_ECX] = 2;
        cpu->gpr[G_EDI] = 0x30000;
        arm(0, 0x20000, 7); /* read or write, two bytes */
        STEPS(1);
        while (next[i].code[1] == 0xaa && cpu->gpr[G_ECX] > 1) STEPS(1);
        ASSERT_EXC(EXC(V_DB, 0));
        ck_assert_msg(cpu->eip == next[i].eip, "case %u: #DB at %x, expected %x", i, cpu->eip, next[i].eip);
        ck_assert_uint_eq(cpu->dr[6] & 0xe00f, 1);
        cpu->dr[6] = 0xffff0ff0;
        cpu->dr[7] = 0x400;
        cpu_update_mode(cpu);
        PUT(cpu->eip, 0x90);
        STEPS(1); /* once */
    }
}
END_TEST

START_TEST(mov_ss_shadows_one_instruction)
{
    PROGRAM(0x8e, 0xd0, 0x89, 0xdc, 0x40); /* mov ss, eax; mov esp, ebx; inc eax */
    cpu->gpr[G_EAX] = SS0;
    cpu->gpr[G_EBX] = 0x5000;
    cpu->iflag = 1;
    cpu->irq_pending = 1;
    ck_assert_int_eq(interp_run(ip, 100), INTERP_INT_WINDOW);
    ck_assert_uint_eq(cpu->eip, CODE + 4);
    ck_assert_uint_eq(cpu->gpr[G_ESP], 0x5000);
}
END_TEST

START_TEST(a_triple_fault_is_a_shutdown)
{
    cpu->idtr.limit = 0;
    PROGRAM(0x0f, 0x0b);
    ck_assert_int_eq(interp_run(ip, 100), INTERP_SHUTDOWN);
}
END_TEST

START_TEST(a_guest_that_only_faults_still_ends)
{
    idt_set(V_UD, CS0, CODE, AC_INT32);
    PROGRAM(0x0f, 0x0b);
    ck_assert_int_eq(interp_run(ip, 100), INTERP_BUDGET);
}
END_TEST

START_TEST(the_exception_is_delivered_with_the_eip_of_the_instruction)
{
    PUT(0x40000 + V_DE * 16, 0xf4);
    PROGRAM(0x31, 0xc9, 0xf7, 0xf1); /* xor ecx, ecx; div ecx */
    ck_assert_int_eq(interp_run(ip, 100), INTERP_HLT);
    ck_assert_uint_eq(peek32(STACK0 - 12), CODE + 2);
    ck_assert_uint_eq(cpu->exc_count, 1);
}
END_TEST

/* ---- single-stepping ---- */

START_TEST(tf_traps_behind_each_instruction)
{
    PROGRAM(0x40, 0x40);
    cpu->eflags_sys |= F_TF;
    cpu_update_mode(cpu);
    ASSERT_EXC(EXC(V_DB, 0));
    ck_assert_uint_eq(cpu->eip, CODE + 1);
    ck_assert_uint_eq(cpu->dr[6] & DR6_BS, DR6_BS);
}
END_TEST

START_TEST(tf_traps_behind_each_iteration_of_rep)
{
    PROGRAM(0xf3, 0xaa, 0x90);
    cpu->gpr[G_ECX] = 3;
    cpu->gpr[G_EDI] = DATA;
    cpu->eflags_sys |= F_TF;
    cpu_update_mode(cpu);
    ASSERT_EXC(EXC(V_DB, 0));
    ck_assert_uint_eq(cpu->gpr[G_ECX], 2);
    ck_assert_uint_eq(cpu->eip, CODE);
    ASSERT_EXC(EXC(V_DB, 0));
    ASSERT_EXC(EXC(V_DB, 0));
    ck_assert_uint_eq(cpu->gpr[G_ECX], 0);
    ck_assert_uint_eq(cpu->eip, CODE + 2);
}
END_TEST

START_TEST(an_instruction_breakpoint_faults_before_and_rf_lets_it_pass)
{
    PROGRAM(0x40, 0x40);
    cpu->dr[0] = CODE + 1;
    cpu->dr[7] = 0x401;
    cpu_update_mode(cpu);
    cpu->gpr[G_EAX] = 0;
    STEPS(1);
    ASSERT_EXC(EXC(V_DB, 0));
    ck_assert_uint_eq(cpu->dr[6] & 15, 1);
    ck_assert_uint_eq(cpu->eip, CODE + 1);
    cpu->eflags_sys |= F_RF;
    STEPS(1);
    ck_assert_uint_eq(cpu->gpr[G_EAX], 2);
    ck_assert_uint_eq(cpu->eflags_sys & F_RF, 0);
}
END_TEST

START_TEST(a_data_breakpoint_traps_behind_the_access)
{
    PROGRAM(0xa3, 0x02, 0x00, 0x08, 0x00, 0xa1, 0x00, 0x00, 0x08, 0x00, 0xa3, 0x04, 0x00, 0x08, 0x00); /* mov [DATA+2],
                                                                                                          eax; mov eax,
                                                                                                          [DATA]; mov
                                                                                                          [DATA+4], eax
                                                                                                        */
    cpu->dr[1] = DATA;
    cpu->dr[7] = 0x400 | 2 << 2 | 1u << 20 | 3u << 22; /* 4 bytes, writes */
    cpu_update_mode(cpu);
    ASSERT_EXC(EXC(V_DB, 0));
    ck_assert_uint_eq(cpu->dr[6] & 15, 2);
    ck_assert_uint_eq(cpu->eip, CODE + 5);
    STEPS(2);
}
END_TEST

START_TEST(breakpoints_that_are_armed_while_stepping_are_seen)
{
    PROGRAM(0x0f, 0x23, 0xf8, 0xa3, 0, 0, 8, 0); /* mov db7, eax; mov [DATA], eax */
    cpu->dr[0] = DATA;
    cpu->gpr[G_EAX] = 0x400 | 1 | 1u << 16;
    cpu->eflags_sys |= F_TF;
    cpu_update_mode(cpu);
    ASSERT_EXC(EXC(V_DB, 0));
    cpu->dr[6] = 0;
    ASSERT_EXC(EXC(V_DB, 0));
    ck_assert_uint_eq(cpu->dr[6] & (DR6_BS | 15), DR6_BS | DR6_B0);
}
END_TEST

/* ---- decoded code and memory ---- */

START_TEST(a_program_that_changes_its_next_instruction_runs_the_new_one)
{
    /* mov byte [CODE+7], 0x41 (inc ecx); inc eax */
    PROGRAM(0xc6, 0x05, 0x07, 0x00, 0x01, 0x00, 0x41, 0x40, 0xf4);
    cpu->gpr[G_EAX] = cpu->gpr[G_ECX] = 0;
    for (unsigned i = 0; i < 2; i++) {
        *ram(CODE + 7) = 0x40;
        interp_invalidate(ip, CODE, 16);
        cpu->eip = CODE;
        cpu->halted = 0;
        ck_assert_int_eq(interp_run(ip, 100), INTERP_HLT);
        ck_assert_uint_eq(cpu->gpr[G_EAX], 0);
        ck_assert_uint_eq(cpu->gpr[G_ECX], i + 1);
    }
}
END_TEST

START_TEST(a_string_store_over_itself_runs_the_new_code)
{
    PROGRAM(0xf3, 0xaa, 0x40, 0x40, 0xf4); /* rep stosb over the two inc eax: inc ecx */
    cpu->gpr[G_EAX] = 0x41;
    cpu->gpr[G_ECX] = 2;
    cpu->gpr[G_EDI] = CODE + 2;
    ck_assert_int_eq(interp_run(ip, 100), INTERP_HLT);
    ck_assert_uint_eq(cpu->gpr[G_EAX], 0x41);
    ck_assert_uint_eq(cpu->gpr[G_ECX], 2);
}
END_TEST

START_TEST(dma_over_decoded_code_is_noticed)
{
    PROGRAM(0x40, 0xf4);
    cpu->gpr[G_EAX] = cpu->gpr[G_ECX] = 0;
    ck_assert_int_eq(interp_run(ip, 100), INTERP_HLT);
    PROGRAM(0x41, 0xf4);
    cpu->halted = 0;
    ck_assert_int_eq(interp_run(ip, 100), INTERP_HLT);
    ck_assert_uint_eq(cpu->gpr[G_EAX], 1);
    ck_assert_uint_eq(cpu->gpr[G_ECX], 1);
}
END_TEST

START_TEST(one_physical_page_runs_at_two_addresses)
{
    fix_page();
    poke32(PAGE_TABLE + 4 * 0x200, CODE | 7);
    tlb_flush_all(cpu);
    PROGRAM(0xe8, 0, 0, 0, 0, 0xf4); /* call next: pushes where it is */
    STEPS(1);
    cpu->eip = 0x200000;
    STEPS(1);
    ck_assert_uint_eq(peek32(STACK0 - 4), CODE + 5);
    ck_assert_uint_eq(peek32(STACK0 - 8), 0x200005);
}
END_TEST

START_TEST(a_remapped_code_page_is_fetched_anew)
{
    fix_page();
    PUT(0x30000, 0x41, 0xf4);
    PROGRAM(0x40, 0xf4);
    cpu->gpr[G_EAX] = cpu->gpr[G_ECX] = 0;
    STEPS(1);
    poke32(PAGE_TABLE + 4 * (CODE >> 12), 0x30000 | 7);
    tlb_flush_page(cpu, CODE);
    cpu->eip = CODE;
    STEPS(1);
    ck_assert_uint_eq(cpu->gpr[G_ECX], 1);
}
END_TEST

START_TEST(an_instruction_may_straddle_two_pages)
{
    fix_page();
    PUT(CODE + PAGE_SIZE - 2, 0xb8, 0x78, 0x56, 0x34, 0x12, 0xf4); /* mov eax, 0x12345678 */
    cpu->eip = CODE + PAGE_SIZE - 2;
    STEPS(1);
    ck_assert_uint_eq(cpu->gpr[G_EAX], 0x12345678);
    ck_assert_uint_eq(cpu->eip, CODE + PAGE_SIZE + 3);
    fix_pte(CODE + PAGE_SIZE, 0);
    cpu->eip = CODE + PAGE_SIZE - 2;
    ASSERT_EXC(EXC(V_PF, 0));
    ck_assert_uint_eq(cpu->cr2, CODE + PAGE_SIZE);
    ck_assert_uint_eq(cpu->eip, CODE + PAGE_SIZE - 2);
}
END_TEST

START_TEST(instructions_before_the_end_of_a_page_do_not_need_the_next)
{
    fix_page();
    PUT(CODE + PAGE_SIZE - 2, 0x40, 0xf4);
    fix_pte(CODE + PAGE_SIZE, 0);
    cpu->eip = CODE + PAGE_SIZE - 2;
    ck_assert_int_eq(interp_run(ip, 100), INTERP_HLT);
}
END_TEST

START_TEST(fifteen_bytes_run_and_sixteen_fault)
{
    PUT(CODE, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x40);
    cpu->eip = CODE;
    STEPS(1);
    PUT(CODE, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x40);
    cpu->eip = CODE;
    ASSERT_EXC(EXC(V_GP, 0));
}
END_TEST

static u32 dev_val;
static u32 dev_read(void *dev, u32 off, unsigned size)
{
    (void)dev, (void)off, (void)size;
    return dev_val;
}
static void dev_write(void *dev, u32 off, unsigned size, u32 val)
{
    (void)dev, (void)off, (void)size;
    dev_val = val;
}
static const struct io_ops dev_ops = { dev_read, dev_write };

START_TEST(devices_are_reached_by_memory_and_by_port)
{
    ck_assert_int_eq(bus_map_mmio(bus, 0xf0000000, PAGE_SIZE, &dev_ops, NULL, "dev"), 0);
    ck_assert_int_eq(bus_map_pio(bus, 0x500, 4, &dev_ops, NULL, "dev"), 0);
    /* mov [0xf0000010], eax; add dword [0xf0000010], 1; mov edx, 0x500; in eax, dx */
    PROGRAM(0xa3, 0x10, 0, 0, 0xf0, 0x83, 0x05, 0x10, 0, 0, 0xf0, 1, 0xba, 0, 5, 0, 0, 0xed);
    cpu->gpr[G_EAX] = 41;
    STEPS(4);
    ck_assert_uint_eq(cpu->gpr[G_EAX], 42);
}
END_TEST

/* ---- faults in the middle ---- */

START_TEST(rep_movs_stops_at_the_element_that_faults)
{
    fix_page();
    fix_pte(DATA + 2 * PAGE_SIZE, 0);
    PROGRAM(0xf3, 0xa5);
    cpu->gpr[G_ESI] = 0x30000;
    cpu->gpr[G_EDI] = DATA + PAGE_SIZE + 0x10;
    cpu->gpr[G_ECX] = 3000;
    ASSERT_EXC(EXC(V_PF, PF_W));
    ck_assert_uint_eq(cpu->cr2, DATA + 2 * PAGE_SIZE);
    ck_assert_uint_eq(cpu->gpr[G_EDI], DATA + 2 * PAGE_SIZE);
    ck_assert_uint_eq(cpu->gpr[G_ESI], 0x30000 + PAGE_SIZE - 0x10);
    ck_assert_uint_eq(cpu->gpr[G_ECX], 3000 - (PAGE_SIZE - 0x10) / 4);
    ck_assert_uint_eq(cpu->eip, CODE);
}
END_TEST

START_TEST(a_long_rep_comes_back_now_and_then)
{
    PROGRAM(0xf3, 0xaa, 0x90);
    cpu->gpr[G_EAX] = 0xcc;
    cpu->gpr[G_EDI] = DATA + 3;
    cpu->gpr[G_ECX] = 100000;
    unsigned times = 0;
    while (cpu->eip == CODE) {
        STEPS(1);
        times++;
    }
    ck_assert_uint_ge(times, 10);
    ck_assert_uint_eq(cpu->gpr[G_ECX], 0);
    ck_assert_uint_eq(cpu->gpr[G_EDI], DATA + 3 + 100000);
    ck_assert_uint_eq(*ram(DATA + 2), 0);
    ck_assert_uint_eq(*ram(DATA + 3), 0xcc);
    ck_assert_uint_eq(*ram(DATA + 3 + 99999), 0xcc);
    ck_assert_uint_eq(*ram(DATA + 3 + 100000), 0);
}
END_TEST

START_TEST(rep_movs_into_itself_repeats_a_pattern)
{
    PROGRAM(0xf3, 0xa4);
    PUT(DATA, 'a', 'b', 'c');
    cpu->gpr[G_ESI] = DATA;
    cpu->gpr[G_EDI] = DATA + 3;
    cpu->gpr[G_ECX] = 6;
    STEPS(1);
    ck_assert_int_eq(memcmp(ram(DATA), "abcabcabc", 9), 0);
}
END_TEST

START_TEST(rep_movs_downwards)
{
    PROGRAM(0xfd, 0xf3, 0xa4, 0xfc);
    PUT(DATA, 1, 2, 3, 4, 5);
    cpu->gpr[G_ESI] = DATA + 4;
    cpu->gpr[G_EDI] = DATA + 5;
    cpu->gpr[G_ECX] = 5;
    STEPS(2);
    ck_assert_int_eq(memcmp(ram(DATA + 1), "\1\2\3\4\5", 5), 0);
    ck_assert_uint_eq(cpu->gpr[G_EDI], DATA);
}
END_TEST

/* What each REP does downwards: its elements one by one, the highest first. */
static void movs_by_elements(u8 *mem, u32 to, u32 from, u32 n, unsigned size, bool fill)
{
    for (u32 i = 0; i < n; i++) {
        u8 element[4] = { 0x5a, 0xa5, 0x11, 0x22 };
        if (!fill) memcpy(element, mem + from - i * size, size);
        memcpy(mem + to - i * size, element, size);
    }
}

/* Over ends of pages, from in line with them and not, apart and overlapping on either side. */
START_TEST(a_rep_downwards_is_its_elements_from_the_top)
{
    static const struct {
        u32 to, from; /* offsets of the elements in the first three pages at DATA */
    } at[] = { { 0x2ffc, 0x1ff8 }, { 0x2ffa, 0x1ffd }, { 0x2000, 0x2004 }, { 0x2004, 0x2000 }, { 0x2001, 0x2801 } };
    static u8 want[3 * PAGE_SIZE];
    for (unsigned i = 0; i < ARRAY_LEN(at); i++)
        for (unsigned how = 0; how < 4; how++) {
            bool fill = how & 1;
            unsigned size = how & 2 ? 4 : 1;
            const u32 n = 0x17fd / size;
            PROGRAM(0xfd, 0xf3, (u8)((fill ? 0xaa : 0xa4) | size >> 2), 0xfc);
            for (u32 k = 0; k < sizeof want; k++) want[k] = *ram(DATA + k) = (u8)(k * 7 + (k >> 8));
            movs_by_elements(want, at[i].to, at[i].from, n, size, fill);
            cpu->gpr[G_EAX] = 0x2211a55a;
            cpu->gpr[G_ESI] = DATA + at[i].from;
            cpu->gpr[G_EDI] = DATA + at[i].to;
            cpu->gpr[G_ECX] = n;
            STEPS(1);
            while (cpu->eip == CODE + 1) STEPS(1);
            ck_assert_uint_eq(cpu->gpr[G_ECX], 0);
            ck_assert_uint_eq(cpu->gpr[G_EDI], DATA + at[i].to - n * size);
            ck_assert_uint_eq(cpu->gpr[G_ESI], DATA + at[i].from - (fill ? 0 : n * size));
            for (u32 k = 0; k < sizeof want; k++) ck_assert_uint_eq(*ram(DATA + k), want[k]);
            STEPS(1);
        }
}
END_TEST

START_TEST(a_rep_downwards_stops_where_a_page_is_not_there)
{
    fix_page();
    fix_pte(DATA, 0);
    PROGRAM(0xfd, 0xf3, 0xa5, 0xfc);
    cpu->gpr[G_ESI] = 0x30ffc;
    cpu->gpr[G_EDI] = DATA + PAGE_SIZE + 0x100;
    cpu->gpr[G_ECX] = 3000;
    STEPS(1);
    ASSERT_EXC(EXC(V_PF, PF_W));
    ck_assert_uint_eq(cpu->cr2, DATA + PAGE_SIZE - 4);
    ck_assert_uint_eq(cpu->gpr[G_EDI], DATA + PAGE_SIZE - 4);
    ck_assert_uint_eq(cpu->gpr[G_ECX], 3000 - 0x41);
    ck_assert_uint_eq(cpu->gpr[G_ESI], 0x30ffc - 0x41 * 4);
    ck_assert_uint_eq(cpu->eip, CODE + 1);
}
END_TEST

START_TEST(repne_scas_finds_and_repe_cmps_compares)
{
    PROGRAM(0xf2, 0xae, 0xf3, 0xa6);
    PUT(DATA, 'a', 'b', 'c', 'd');
    PUT(DATA + 16, 'a', 'b', 'x', 'd');
    cpu->gpr[G_EAX] = 'c';
    cpu->gpr[G_EDI] = DATA;
    cpu->gpr[G_ECX] = 10;
    STEPS(1);
    ck_assert_uint_eq(cpu->gpr[G_EDI], DATA + 3);
    ck_assert_uint_eq(cpu->gpr[G_ECX], 7);
    cpu->gpr[G_ESI] = DATA;
    cpu->gpr[G_EDI] = DATA + 16;
    STEPS(1);
    ck_assert_uint_eq(cpu->gpr[G_ECX], 4);
    ck_assert_uint_eq(cpu->aflags & (F_ZF | F_CF), F_CF); /* 'c' below 'x' */
}
END_TEST

START_TEST(a_read_modify_write_faults_as_a_write_before_it_reads)
{
    fix_page();
    fix_pte(DATA, 5);                   /* present, user, read-only */
    PROGRAM(0x83, 0x05, 0, 0, 8, 0, 1); /* add dword [DATA], 1 */
    u32 flags = cpu->aflags = F_CF | F_ZF;
    ASSERT_EXC(EXC(V_PF, PF_P | PF_W));
    ck_assert_uint_eq(cpu->aflags, flags);
}
END_TEST

START_TEST(pusha_pushes_all_or_nothing)
{
    fix_page();
    fix_pte(DATA, 0);
    PROGRAM(0x60);
    cpu->gpr[G_ESP] = DATA + PAGE_SIZE + 16; /* four fit, the fifth is on the page that is not there */
    poke32(DATA + PAGE_SIZE + 12, 0xdeadbeef);
    ASSERT_EXC(EXC(V_PF, PF_W));
    ck_assert_uint_eq(cpu->gpr[G_ESP], DATA + PAGE_SIZE + 16);
    ck_assert_uint_eq(peek32(DATA + PAGE_SIZE + 12), 0xdeadbeef);
}
END_TEST

/* ---- stack ---- */

START_TEST(pop_to_memory_sees_esp_incremented)
{
    PROGRAM(0x8f, 0x04, 0x24); /* pop [esp] */
    cpu->gpr[G_ESP] = DATA;
    poke32(DATA, 0x11223344);
    STEPS(1);
    ck_assert_uint_eq(cpu->gpr[G_ESP], DATA + 4);
    ck_assert_uint_eq(peek32(DATA + 4), 0x11223344);
}
END_TEST

START_TEST(push_esp_pushes_the_old_value_and_pop_esp_keeps_the_new)
{
    PROGRAM(0x54, 0x5c); /* push esp; pop esp */
    cpu->gpr[G_ESP] = DATA;
    STEPS(1);
    ck_assert_uint_eq(peek32(DATA - 4), DATA);
    poke32(DATA - 4, 0x5000);
    STEPS(1);
    ck_assert_uint_eq(cpu->gpr[G_ESP], 0x5000);
}
END_TEST

START_TEST(enter_with_levels_copies_the_display)
{
    PROGRAM(0xc8, 0x10, 0x00, 0x03); /* enter 16, 3 */
    cpu->gpr[G_ESP] = DATA;
    cpu->gpr[G_EBP] = DATA + 0x100;
    poke32(DATA + 0x100 - 4, 0xaaaaaaaa);
    poke32(DATA + 0x100 - 8, 0xbbbbbbbb);
    STEPS(1);
    ck_assert_uint_eq(peek32(DATA - 4), DATA + 0x100);
    ck_assert_uint_eq(peek32(DATA - 8), 0xaaaaaaaa);
    ck_assert_uint_eq(peek32(DATA - 12), 0xbbbbbbbb);
    ck_assert_uint_eq(peek32(DATA - 16), DATA - 4);
    ck_assert_uint_eq(cpu->gpr[G_EBP], DATA - 4);
    ck_assert_uint_eq(cpu->gpr[G_ESP], DATA - 16 - 16);
}
END_TEST

START_TEST(a_sixteen_bit_stack_wraps_and_keeps_the_upper_half)
{
    cpu->seg[S_SS].attr &= ~(u32)SEG_D;
    cpu->seg[S_SS].limit = 0xffff;
    cpu->seg[S_SS].base = DATA;
    cpu_update_mode(cpu);
    PROGRAM(0x50, 0x58); /* push eax; pop eax */
    cpu->gpr[G_ESP] = 0x12340002;
    cpu->gpr[G_EAX] = 0xcafe;
    ASSERT_EXC(EXC(V_SS, 0)); /* fffe..10001 lies across the limit */
    cpu->gpr[G_ESP] = 0x12340000;
    STEPS(1);
    ck_assert_uint_eq(cpu->gpr[G_ESP], 0x1234fffc);
    ck_assert_uint_eq(peek32(DATA + 0xfffc), 0xcafe);
    STEPS(1);
    ck_assert_uint_eq(cpu->gpr[G_ESP], 0x12340000);
}
END_TEST

/* ---- 16-bit code ---- */

static void code16(u32 base, u32 limit, u32 eip)
{
    cpu->seg[S_CS] = (struct seg){ .sel = CS0, .base = base, .limit = limit, .attr = AC_CODE };
    cpu->eip = eip;
    cpu_update_mode(cpu);
}

START_TEST(sixteen_bit_code_goes_on_beyond_ffff_and_faults_at_its_limit)
{
    PUT(CODE + 0xfffe, 0x90, 0x90, 0x43); /* nop; nop; inc bx */
    code16(CODE, 0x1ffff, 0xfffe);
    STEPS(2);
    ck_assert_uint_eq(cpu->eip, 0x10000);
    STEPS(1);
    ck_assert_uint_eq(cpu->eip, 0x10001);
    ck_assert_uint_eq(cpu->gpr[G_EBX] & 0xffff, 1);
    code16(CODE, 0xffff, 0xfffe);
    STEPS(2);
    ASSERT_EXC(EXC(V_GP, 0));
    ck_assert_uint_eq(cpu->eip, 0x10000);
    code16(CODE, 0xffff, 0xfff0); /* in a block, not step by step */
    memset(ram(CODE + 0xfff0), 0x90, 16);
    idt_set(V_GP, CS0, 0x40000, AC_INT32);
    PUT(0x40000, 0xf4); /* hlt */
    ck_assert_int_eq(interp_run(ip, 100), INTERP_HLT);
    ck_assert_uint_eq(peek32(cpu->gpr[G_ESP] + 4), 0x10000);
}
END_TEST

START_TEST(only_targets_of_jumps_are_cut_to_sixteen_bits)
{
    PUT(CODE + 0xfffe, 0xeb, 0x10); /* jmp short +10 */
    code16(CODE, 0x1ffff, 0xfffe);
    STEPS(1);
    ck_assert_uint_eq(cpu->eip, 0x10);
    PUT(CODE + 0xfffd, 0xe8, 0x20, 0x00); /* call +20: returns to 0000, for 16 bits of it are pushed */
    code16(CODE, 0x1ffff, 0xfffd);
    STEPS(1);
    ck_assert_uint_eq(cpu->eip, 0x20);
    ck_assert_uint_eq(peek16(cpu->gpr[G_ESP]), 0);
    PUT(CODE + 0xffff, 0x74, 0x10); /* jz, not taken */
    code16(CODE, 0x1ffff, 0xffff);
    cpu_set_eflags(cpu, 0);
    STEPS(1);
    ck_assert_uint_eq(cpu->eip, 0x10001);
}
END_TEST

START_TEST(code_beyond_the_limit_is_not_fetched)
{
    PUT(CODE + 0xffe, 0xb8, 0x34, 0x12); /* mov ax, 1234: its last byte is on the next page */
    fix_page();
    fix_pte(CODE + 0x1000, 0);
    code16(CODE, 0xffe, 0xfff);
    ASSERT_EXC(EXC(V_GP, 0));
    code16(CODE, 0xfff, 0x1000);
    ASSERT_EXC(EXC(V_GP, 0)); /* not #PF */
    code16(CODE, 0xfff, 0xffe);
    ASSERT_EXC(EXC(V_GP, 0));
    code16(CODE, 0x1fff, 0xffe);
    ASSERT_EXC(EXC(V_PF, 0));
    ck_assert_uint_eq(cpu->cr2, CODE + 0x1000);
}
END_TEST

/* ---- flags and privilege ---- */

START_TEST(popf_changes_what_privilege_allows)
{
    PROGRAM(0x9d);
    poke32(STACK0, ~0u & ~(u32)F_TF);
    STEPS(1);
    ck_assert_uint_eq(cpu_eflags(cpu), F_ARITH | F_IF | F_DF | F_IOPL | F_NT | F_AC | F_ID | F_FIXED);
    cpu_set_eflags(cpu, 0);
    fix_ring(3);
    poke32(STACK3, ~0u & ~(u32)F_TF);
    STEPS(1);
    ck_assert_uint_eq(cpu_eflags(cpu), F_ARITH | F_DF | F_NT | F_AC | F_ID | F_FIXED);
}
END_TEST

START_TEST(ports_obey_iopl_and_the_bitmap)
{
    fix_ring(3);
    cpu->tr.limit = 0x67 + 33;
    poke16(TSS + 0x66, 0x68);
    memset(ram(TSS + 0x68), 0xff, 34);
    *ram(TSS + 0x68 + 0x80 / 8) = 0xfe;          /* port 80 alone */
    PROGRAM(0xe4, 0x80, 0xe5, 0x80, 0xe4, 0x81); /* in al, 0x80; in eax, 0x80; in al, 0x81 */
    STEPS(1);
    ASSERT_EXC(EXC(V_GP, 0));
    cpu->eip = CODE + 4;
    ASSERT_EXC(EXC(V_GP, 0));
    cpu->eflags_sys |= F_IOPL;
    STEPS(1);
    cpu->eflags_sys &= ~(u32)F_IOPL;
    PROGRAM(0xed);
    cpu->gpr[G_EDX] = 0xffff; /* beyond the map */
    ASSERT_EXC(EXC(V_GP, 0));
}
END_TEST

START_TEST(privileged_instructions_fault_outside_cpl_0)
{
    static const u8 code[][4] = { { 0xf4 },
                                  { 0x0f, 0x06 },
                                  { 0x0f, 0x08 },
                                  { 0x0f, 0x09 },
                                  { 0x0f, 0x20, 0xc0 },
                                  { 0x0f, 0x22, 0xc0 },
                                  { 0x0f, 0x21, 0xc0 },
                                  { 0x0f, 0x23, 0xc0 },
                                  { 0x0f, 0x30 },
                                  { 0x0f, 0x32 },
                                  { 0x0f, 0x01, 0x10 },
                                  { 0x0f, 0x01, 0x18 },
                                  { 0x0f, 0x01, 0x38 },
                                  { 0x0f, 0x01, 0xf0 },
                                  { 0x0f, 0x00, 0xd0 },
                                  { 0x0f, 0x00, 0xd8 },
                                  { 0xfa },
                                  { 0xfb },
                                  { 0xec },
                                  { 0xee } };
    for (unsigned i = 0; i < ARRAY_LEN(code); i++) {
        fix_ring(3);
        bus_dma_write(bus, CODE, code[i], 4);
        ASSERT_EXC(EXC(V_GP, 0));
    }
}
END_TEST

START_TEST(misalignment_faults_where_it_is_checked)
{
    PROGRAM(0xa1, 2, 0, 8, 0, 0xa1, 4, 0, 8, 0); /* mov eax, [DATA+2]; mov eax, [DATA+4] */
    fix_ring(3);
    cpu->cr0 |= CR0_AM;
    cpu->eflags_sys |= F_AC;
    cpu_update_mode(cpu);
    ASSERT_EXC(EXC(V_AC, 0));
    cpu->eip = CODE + 5;
    STEPS(1);
    cpu->eflags_sys &= ~(u32)F_AC;
    cpu_update_mode(cpu);
    cpu->eip = CODE;
    STEPS(1);
}
END_TEST

/* ---- segments and modes ---- */

START_TEST(a_segment_limit_is_checked)
{
    cpu->seg[S_DS].limit = DATA + 2;
    cpu_update_mode(cpu);
    PROGRAM(0xa0, 2, 0, 8, 0, 0xa1, 0, 0, 8, 0); /* mov al, [DATA+2]; mov eax, [DATA] */
    STEPS(1);
    ASSERT_EXC(EXC(V_GP, 0));
}
END_TEST

START_TEST(code_beyond_the_limit_of_cs_faults)
{
    cpu->seg[S_CS].limit = CODE + 2;
    cpu_update_mode(cpu);
    PROGRAM(0x40, 0x83, 0xc0, 0x01, 0xf4); /* inc eax; add eax, 1: its last byte is outside */
    STEPS(1);
    ASSERT_EXC(EXC(V_GP, 0));
    PROGRAM(0xeb, 0x10); /* faults at the jump */
    ASSERT_EXC(EXC(V_GP, 0));
    ck_assert_uint_eq(cpu->eip, CODE);
}
END_TEST

static void real_mode(void)
{
    cpu->cr0 &= ~(u32)CR0_PE;
    cpu->idtr = (struct table_reg){ 0, 0x3ff };
    for (unsigned s = 0; s < S_COUNT; s++)
        cpu->seg[s] = (struct seg){ .limit = 0xffff, .attr = s == S_CS ? AC_CODE : AC_DATA };
    cpu->seg[S_CS].sel = CODE >> 4;
    cpu->seg[S_CS].base = CODE;
    cpu->seg[S_DS].sel = DATA >> 4;
    cpu->seg[S_DS].base = DATA;
    cpu->gpr[G_ESP] = 0x9000;
    cpu_update_mode(cpu);
    cpu->eip = 0;
}

START_TEST(real_mode_runs_sixteen_bit_code)
{
    real_mode();
    /* mov bx, 2; mov si, 4; mov word [bx+si], 0x1234; mov eax, [bx+si] (66); mov cx, 3; loop $; call +1; hlt; ret */
    PUT(CODE, 0xbb, 2, 0, 0xbe, 4, 0, 0xc7, 0, 0x34, 0x12, 0x66, 0x8b, 0, 0xb9, 3, 0, 0xe2, 0xfe, 0xe8, 1, 0, 0xf4,
        0xc3);
    ck_assert_int_eq(interp_run(ip, 100), INTERP_HLT);
    ck_assert_uint_eq(cpu->gpr[G_EAX], 0x1234);
    ck_assert_uint_eq(peek16(DATA + 6), 0x1234);
    ck_assert_uint_eq(cpu->gpr[G_ECX] & 0xffff, 0);
    ck_assert_uint_eq(cpu->gpr[G_ESP], 0x9000);
    ck_assert_uint_eq(cpu->eip, 22);
    ck_assert_uint_eq(peek16(0x9000 - 2), 21);
}
END_TEST

START_TEST(real_mode_interrupts_use_the_vector_table)
{
    real_mode();
    poke32(0x21 * 4, (u32)(DATA >> 4) << 16 | 0x100);
    PUT(DATA + 0x100, 0xcf); /* iret */
    PUT(CODE, 0xcd, 0x21, 0xf4);
    STEPS(1);
    ck_assert_uint_eq(cpu->eip, 0x100);
    ck_assert_uint_eq(cpu->seg[S_CS].base, DATA);
    STEPS(1);
    ck_assert_uint_eq(cpu->eip, 2);
    ck_assert_uint_eq(cpu->seg[S_CS].base, CODE);
}
END_TEST

START_TEST(virtual_8086_mode_checks_iopl)
{
    real_mode();
    cpu->cr0 |= CR0_PE;
    cpu->eflags_sys = F_VM;
    cpu->cpl = 3;
    for (unsigned s = 0; s < S_COUNT; s++) cpu->seg[s].attr = SEG_P | SEG_S | SEG_DPL | SEG_W | SEG_A;
    cpu_update_mode(cpu);
    PUT(CODE, 0x9c, 0xfa, 0xcd, 0x21, 0x40);
    ASSERT_EXC(EXC(V_GP, 0)); /* pushf */
    cpu->eip = 1;
    ASSERT_EXC(EXC(V_GP, 0)); /* cli */
    cpu->eip = 2;
    ASSERT_EXC(EXC(V_GP, 0)); /* int 21 */
    cpu->eip = 4;
    STEPS(1);
    cpu->eflags_sys |= F_IOPL;
    cpu->iflag = 1;
    cpu->eip = 1;
    STEPS(1);
    ck_assert_uint_eq(cpu->iflag, 0);
}
END_TEST

/* ---- everything ---- */

static u32 rnd(u32 *s) { return (*s = *s * 1664525 + 1013904223) >> 3; }

/* A state to start from: code at CODE, registers that point into RAM as often as not. */
static void random_state(u32 *s, const struct cpu *clean, unsigned how)
{
    tlb_flush_all(cpu);
    u32 generation = cpu->tlb_generation;
    *cpu = *clean;
    cpu->tlb_generation = generation;
    for (unsigned i = 0; i < 8; i++) cpu->gpr[i] = rnd(s) & 1 ? rnd(s) * 8 : rnd(s) % RAM_SIZE;
    for (unsigned i = 0; i < sizeof cpu->fx.st; i++) ((u8 *)cpu->fx.st)[i] = (u8)rnd(s);
    for (unsigned i = 0; i < sizeof cpu->fx.xmm; i++) ((u8 *)cpu->fx.xmm)[i] = (u8)rnd(s);
    cpu->fx.fcw = (u16)rnd(s);
    cpu->fx.fsw = (u16)rnd(s);
    cpu->fx.ftw = (u8)rnd(s);
    cpu->fx.mxcsr = rnd(s);
    cpu->aflags = rnd(s) & F_ARITH;
    if (how == 1) {
        fix_ring(3);
        cpu->gpr[G_ESP] = rnd(s);
    }
    if (how == 2) real_mode();
    if (how != 2) cpu->eip = CODE;
    if (how == 3) {
        cpu->eflags_sys = F_TF | F_AC;
        cpu->dr[7] = rnd(s) << 3;
        cpu_update_mode(cpu);
    }
}

static void run_row(unsigned id, const struct cpu *clean)
{
    const struct insn_row *row = &insn_rows[id];
    u32 s = id * 77 + 1;
    for (unsigned n = 0; n < 60; n++) {
        u8 code[32];
        struct encoding e = { .offset = (u8)(row->count > 1 ? rnd(&s) % row->count : 0),
                              .modrm = (u8)rnd(&s),
                              .sib = (u8)rnd(&s),
                              .disp = rnd(&s),
                              .imm = rnd(&s),
                              .imm2 = rnd(&s),
                              .code32 = n % 4 != 2 };
        if (n % 5 == 0) e.prefix[e.nprefix++] = (u8[]){ 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x64 }[rnd(&s) % 6];
        unsigned len = insn_encode(row, &e, code);
        random_state(&s, clean, n % 4);
        bus_dma_write(bus, CODE, code, len < 32 ? len : 32);
        int r = interp_one(ip);
        ck_assert_msg(!r || (cpu->exc.valid && cpu->exc.vector <= V_XM), "%s, state %u: exception %u, valid %u",
                      row->name, n, cpu->exc.vector, cpu->exc.valid);
        ck_assert_msg(!(cpu->fx.mxcsr_mask & ~0xffffu), "%s, state %u: MXCSR_MASK %x", row->name, n,
                      cpu->fx.mxcsr_mask);
    }
}

/* Some rows a case: a process and a machine of its own for each would be most of the cost. */
#define ROWS 16u
START_TEST(every_row_runs_in_any_state_and_never_harms_us)
{
    cpu->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
    struct cpu clean = *cpu;
    for (unsigned id = (unsigned)_i * ROWS; id < (unsigned)(_i + 1) * ROWS && id < INSN_COUNT; id++)
        if (id != INSN_INVALID) run_row(id, &clean);
}
END_TEST

START_TEST(code_at_random_runs_in_any_state_and_never_harms_us)
{
    u32 s = (u32)_i + 1;
    cpu->cr4 = CR4_OSFXSR;
    struct cpu clean = *cpu;
    for (unsigned n = 0; n < 500; n++) {
        u8 code[64];
        for (unsigned i = 0; i < sizeof code; i++) code[i] = (u8)rnd(&s);
        random_state(&s, &clean, n % 4);
        bus_dma_write(bus, CODE, code, sizeof code);
        interp_run(ip, 20);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("interp");
    TCase *t = tcase_create("interp");
    tcase_add_checked_fixture(t, interp_setup, interp_teardown);
    tcase_add_test(t, a_budget_is_kept_to_the_instruction);
    tcase_add_test(t, a_kick_ends_it_within_a_block);
    tcase_add_test(t, hlt_stops_behind_itself);
    tcase_add_test(t, sti_opens_the_window_one_instruction_later);
    tcase_add_test(t, sti_with_if_set_shadows_nothing);
    tcase_add_test(t, mov_ss_shadows_one_instruction);
    tcase_add_test(t, mov_ss_suppresses_a_breakpoint_on_the_next_instruction_and_sti_does_not);
    tcase_add_test(t, a_data_breakpoint_that_mov_ss_meets_is_reported_after_the_next_instruction);
    tcase_add_test(t, a_triple_fault_is_a_shutdown);
    tcase_add_test(t, a_guest_that_only_faults_still_ends);
    tcase_add_test(t, the_exception_is_delivered_with_the_eip_of_the_instruction);
    tcase_add_test(t, tf_traps_behind_each_instruction);
    tcase_add_test(t, tf_traps_behind_each_iteration_of_rep);
    tcase_add_test(t, an_instruction_breakpoint_faults_before_and_rf_lets_it_pass);
    tcase_add_test(t, a_data_breakpoint_traps_behind_the_access);
    tcase_add_test(t, breakpoints_that_are_armed_while_stepping_are_seen);
    tcase_add_test(t, a_program_that_changes_its_next_instruction_runs_the_new_one);
    tcase_add_test(t, a_string_store_over_itself_runs_the_new_code);
    tcase_add_test(t, dma_over_decoded_code_is_noticed);
    tcase_add_test(t, one_physical_page_runs_at_two_addresses);
    tcase_add_test(t, a_remapped_code_page_is_fetched_anew);
    tcase_add_test(t, an_instruction_may_straddle_two_pages);
    tcase_add_test(t, instructions_before_the_end_of_a_page_do_not_need_the_next);
    tcase_add_test(t, fifteen_bytes_run_and_sixteen_fault);
    tcase_add_test(t, devices_are_reached_by_memory_and_by_port);
    tcase_add_test(t, rep_movs_stops_at_the_element_that_faults);
    tcase_add_test(t, a_long_rep_comes_back_now_and_then);
    tcase_add_test(t, rep_movs_into_itself_repeats_a_pattern);
    tcase_add_test(t, rep_movs_downwards);
    tcase_add_test(t, a_rep_downwards_is_its_elements_from_the_top);
    tcase_add_test(t, a_rep_downwards_stops_where_a_page_is_not_there);
    tcase_add_test(t, repne_scas_finds_and_repe_cmps_compares);
    tcase_add_test(t, a_read_modify_write_faults_as_a_write_before_it_reads);
    tcase_add_test(t, pusha_pushes_all_or_nothing);
    tcase_add_test(t, pop_to_memory_sees_esp_incremented);
    tcase_add_test(t, push_esp_pushes_the_old_value_and_pop_esp_keeps_the_new);
    tcase_add_test(t, enter_with_levels_copies_the_display);
    tcase_add_test(t, a_sixteen_bit_stack_wraps_and_keeps_the_upper_half);
    tcase_add_test(t, sixteen_bit_code_goes_on_beyond_ffff_and_faults_at_its_limit);
    tcase_add_test(t, only_targets_of_jumps_are_cut_to_sixteen_bits);
    tcase_add_test(t, code_beyond_the_limit_is_not_fetched);
    tcase_add_test(t, popf_changes_what_privilege_allows);
    tcase_add_test(t, ports_obey_iopl_and_the_bitmap);
    tcase_add_test(t, privileged_instructions_fault_outside_cpl_0);
    tcase_add_test(t, misalignment_faults_where_it_is_checked);
    tcase_add_test(t, a_segment_limit_is_checked);
    tcase_add_test(t, code_beyond_the_limit_of_cs_faults);
    tcase_add_test(t, real_mode_runs_sixteen_bit_code);
    tcase_add_test(t, real_mode_interrupts_use_the_vector_table);
    tcase_add_test(t, virtual_8086_mode_checks_iopl);
    tcase_add_loop_test(t, every_row_runs_in_any_state_and_never_harms_us, 0, (INSN_COUNT + ROWS - 1) / ROWS);
    tcase_add_loop_test(t, code_at_random_runs_in_any_state_and_never_harms_us, 0, 10);
    tcase_set_timeout(t, 60);
    suite_add_tcase(s, t);
    return fix_run(s);
}
