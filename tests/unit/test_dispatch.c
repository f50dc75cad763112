/* dispatch.c and callout.c: what translated code and the loop around it must get right together. Each test is run
 * under both engines, and with and without windows. */
#include "tests/unit/small_guest.h"

#include <pthread.h>
#include <time.h>

/* INTR stays asserted with IF clear while an NMI is latched in an NMI handler: nothing can be delivered, so
 * instructions run. */
START_TEST(a_blocked_NMI_beside_a_masked_interrupt_does_not_stop_the_guest)
{
    start(_i);
    CODE_AT(CODE, "\xb8\x07\x00\x00\x00" /* mov eax, 7     */
                  "\xe7\xf4"             /* out 0xf4, eax  */
                  "\xeb\xfe");
    c->nmi_pending = c->nmi_blocked = true;
    c->iflag = 0;
    struct irq_line intr = rt_intr_line(rt);
    irq_set(&intr, true);
    ck_assert_uint_eq(run(), 7);
    end();
}
END_TEST

/* A code segment with a base and no limit: EIP is not the linear address, and it is translated all the same. */
START_TEST(code_in_a_segment_with_a_base_is_translated_and_sees_its_EIPs)
{
    start(_i);
    put_desc(GDT + 0x28, FRAME_1 - 0xac0, 0xfffff, 0x9b, 0xc);
    c->gdtr.limit = 0x2f;
    CODE_AT(CODE, "\xea\xc0\x0a\x00\x00\x28\x00");  /* jmp 28:ac0          */
    CODE_AT(FRAME_1, "\xbf\xe8\x03\x00\x00"         /* mov edi, 1000       */
                     "\xe8\xf6\x0f\x00\x00"         /* call 1ac0, on the next page */
                     "\x4f\x75\xf8"                 /* dec edi; jnz the call */
                     "\x8b\x44\x24\xfc"             /* mov eax, [esp-4]: where it came back to */
                     "\x2e\x03\x05\xc0\x0a\x00\x00" /* add eax, cs:[ac0]   */
                     "\xe7\xf4\xeb\xfe");
    CODE_AT(FRAME_1 + 0x1000, "\x83\xc3\x01\xc3"); /* add ebx, 1; ret     */
    ck_assert_uint_eq(run(), 0xaca + 0x0003e8bf);
    ck_assert_uint_eq(c->gpr[G_EBX], 1000);
    if (engine[_i].cfg.engine == RT_BT) ck_assert_uint_lt(c->ctr.emulated + c->ctr.interp_insns, 50);
    end();
}
END_TEST

/* The same EIP in two segments is two places; what a jump cache knows is one segment's. */
START_TEST(an_indirect_jump_after_a_change_of_CS_goes_where_the_new_base_says)
{
    start(_i);
    put_desc(GDT + 0x28, FRAME_1 - 0x1000, 0xfffff, 0x9b, 0xc);
    put_desc(GDT + 0x30, DATA - 0x1000, 0xfffff, 0x9b, 0xc);
    c->gdtr.limit = 0x37;
    CODE_AT(CODE, "\xbf\x03\x00\x00\x00\xea\x00\x10\x00\x00\x28\x00"); /* mov edi, 3; jmp 28:1000   */
    CODE_AT(FRAME_1, "\xb9\x00\x20\x00\x00\xff\xd1\x01\xc6"            /* mov ecx, 2000h; call ecx; add esi, eax */
                     "\xea\x00\x10\x00\x00\x30\x00");                  /* jmp 30:1000               */
    CODE_AT(DATA, "\xb9\x00\x20\x00\x00\xff\xd1\x01\xc6\x4f\x74\x07"   /* the same; dec edi; jz on  */
                  "\xea\x00\x10\x00\x00\x28\x00"                       /* jmp 28:1000               */
                  "\x89\xf0\xe7\xf4\xeb\xfe");                         /* on: mov eax, esi; out     */
    CODE_AT(FRAME_1 + 0x1000, "\xb8\x01\x00\x00\x00\xc3");             /* mov eax, 1; ret           */
    CODE_AT(DATA + 0x1000, "\xb8\x10\x00\x00\x00\xc3");                /* mov eax, 16; ret          */
    ck_assert_uint_eq(run(), 3 * 17);
    end();
}
END_TEST

/* The page being executed is remapped: the instruction behind INVLPG comes from the new frame, however often the way
 * has been gone before. EDI counts rounds; the PTE to store is in ESI. */
START_TEST(behind_INVLPG_of_its_own_page_code_comes_from_the_new_frame)
{
    start(_i);
    page();
    put32(PT + 4 * 0x300, FRAME_1 | 3);
    CODE_AT(CODE, "\xbf\x06\x00\x00\x00"                      /* mov edi, 6                    */
                  "\xbe\x03\x00\x04\x00"                      /* mov esi, FRAME_1 | 3          */
                  "\xb8\x00\x00\x30\x00\xff\xe0");            /* mov eax, 0x300000; jmp eax    */
    static const char code[] = "\x89\x35\x00\x1c\x02\x00"     /* start: mov [PT + 4 * 0x300], esi */
                               "\x0f\x01\x3d\x00\x00\x30\x00" /* invlpg [0x300000]             */
                               "\xb8\x01\x00\x00\x00"         /* mov eax, 1                    */
                               "\x4f\x78\x09\x75\xe9"         /* dec edi; js end; jnz start    */
                               "\xbe\x03\x10\x04\x00"         /* mov esi, FRAME_2 | 3          */
                               "\xeb\xe2"                     /* jmp start                     */
                               "\xe7\xf4\xeb\xfe";            /* end: out 0xf4, eax            */
    put(FRAME_1, code, sizeof code - 1);
    put(FRAME_2, code, sizeof code - 1);
    CODE_AT(FRAME_2 + 13, "\xb8\x02\x00\x00\x00\xe7\xf4\xeb\xfe"); /* mov eax, 2; out 0xf4, eax */
    ck_assert_uint_eq(run(), 2);
    end();
}
END_TEST

/* An instruction across the end of a page whose second page comes with the first fault: from then on it is translated.
 */
START_TEST(an_instruction_whose_second_page_came_late_is_not_interpreted_for_ever)
{
    start(_i);
    page();
    put32(PT + 4 * 0x301, 0); /* not present at first */
    put_gate(V_PF, 0x7100);
    CODE_AT(0x7100, "\xc7\x05\x04\x1c\x02\x00\x03\x10\x30\x00" /* mov dword [PT + 4 * 0x301], 0x301003 */
                    "\x83\xc4\x04\xcf");                       /* add esp, 4; iret                     */
    CODE_AT(CODE, "\xbf\xe8\x03\x00\x00"                       /* mov edi, 1000                        */
                  "\xb8\xfd\x0f\x30\x00\xff\xe0");             /* mov eax, 0x300ffd; jmp eax           */
    CODE_AT(0x300ffd, "\xb8\x78\x56\x34\x12"                   /* mov eax, 0x12345678, split after 3   */
                      "\x4f\x75\xf8"                           /* dec edi; jnz 0x300ffd                */
                      "\xe7\xf4\xeb\xfe");
    ck_assert_uint_eq(run(), 0x12345678);
    ck_assert_uint_eq(c->cr2, 0x301000);
    if (engine[_i].cfg.engine == RT_BT) ck_assert_uint_lt(c->ctr.emulated, 100);
    end();
}
END_TEST

/* A task switch sets CR0.TS: x87 state that was in the host's registers must not be used without #NM. Global pages, so
 * that the jump cache survives the switch and the new task is reached without the dispatcher. */
START_TEST(a_task_gate_disarms_the_FPU)
{
    start(_i);
    page();
    for (u32 i = 0; i < 1024; i++) put32(PT + 4 * i, i << 12 | 0x103);
    c->cr4 |= CR4_PGE;
    put32(TSS_B + 0x1c, PD);
    put32(IDT + 8 * 0x40, (u32)SEL_TSS_B << 16);
    put32(IDT + 8 * 0x40 + 4, 0x8500);
    put32(TSS_B + 0x20, CODE + 0x100);
    put32(TSS_B + 0x24, 2);
    put32(TSS_B + 0x38, STACK_B);
    for (unsigned s = 0; s < S_COUNT; s++) put32(TSS_B + 0x48 + 4 * s, s == S_CS ? SEL_CS : SEL_DS);
    put_gate(V_NM, 0x7200);
    CODE_AT(0x7200, "\xb8\x02\x00\x00\x00\xe7\xf4\xeb\xfe");       /* EAX = 2: as it should be */
    CODE_AT(CODE, "\xbb\x01\x00\x00\x00"                           /* mov ebx, 1: the new task has 0  */
                  "\xb8\x00\x01\x01\x00\xff\xe0");                 /* mov eax, CODE + 0x100; jmp eax  */
    CODE_AT(CODE + 0x100, "\xd9\xe8\x4b\x75\x04\xd9\xe8\xcd\x40"   /* fld1; dec ebx; jnz on; fld1; int 0x40 */
                          "\xb8\x01\x00\x00\x00\xe7\xf4\xeb\xfe"); /* on: EAX = 1       */
    ck_assert_uint_eq(run(), 2);
    end();
}
END_TEST

/* IRET with RF, as from any fault: the flag lasts for one instruction. */
START_TEST(RF_does_not_outlive_an_instruction)
{
    start(_i);
    CODE_AT(CODE, "\x68\x02\x00\x01\x00\x6a\x08"   /* push 0x10002; push 8     */
                  "\x68\x0d\x00\x01\x00\xcf"       /* push CODE + 13; iret     */
                  "\x90\x9c\x58\xe7\xf4\xeb\xfe"); /* nop; pushf; pop eax; out */
    ck_assert_uint_eq(run() & F_RF, 0);
    end();
}
END_TEST

static int acknowledge(void *dev) { return (void)dev, 0x30; }
static const struct intc_ops intc = { .acknowledge = acknowledge };

/* The shadow of MOV SS is over after one instruction, with an interrupt pending and masked as well: POPF lets it in at
 * once. */
START_TEST(a_shadow_does_not_outlive_an_instruction)
{
    start(_i);
    put_gate(0x30, 0x7300);
    CODE_AT(0x7300, "\x89\xd8\xe7\xf4\xeb\xfe"); /* mov eax, ebx; out 0xf4, eax  */
    CODE_AT(CODE, "\x31\xdb\x8e\xd2\x90"         /* xor ebx, ebx; mov ss, edx; nop */
                  "\x68\x02\x02\x00\x00\x9d\x43" /* push 0x202; popf; inc ebx     */
                  "\xb8\xff\x00\x00\x00\xe7\xf4\xeb\xfe");
    c->gpr[G_EDX] = SEL_DS;
    c->iflag = 0;
    rt_set_intc(rt, &intc, NULL);
    struct irq_line intr = rt_intr_line(rt);
    irq_set(&intr, true);
    ck_assert_uint_eq(run(), 0);
    end();
}
END_TEST

/* Reserved bits of MXCSR in the saved image would make the host's FXRSTOR fault. */
START_TEST(reserved_MXCSR_bits_from_outside_do_no_harm)
{
    start(_i);
    CODE_AT(CODE, "\x0f\x57\xc0\xb8\x05\x00\x00\x00\xe7\xf4\xeb\xfe"); /* xorps xmm0, xmm0 */
    c->fx.mxcsr = 0xffffffff;
    ck_assert_uint_eq(run(), 5);
    end();
}
END_TEST

/* MXCSR_MASK is the model's, whatever the host has (AMD: 2FFFF). MM with SSE2: FFFF; each bit beyond is #GP. */
START_TEST(mxcsr_has_the_bits_of_the_model_and_no_others)
{
    start(_i);
    put_gate(13, 0x7100);
    put(0x7100, "\xe7\xf4\xeb\xfe", 4); /* out 0xf4, eax */
    for (unsigned bit = 0; bit < 32; bit++) {
        put32(0x8000, 1u << bit);
        put32(0x8100, 0);
        CODE_AT(CODE, "\x31\xc0"                     /* xor eax, eax             */
                      "\x0f\xae\x05\x00\x81\x00\x00" /* fxsave [8100]            */
                      "\x0f\xae\x15\x00\x80\x00\x00" /* ldmxcsr [8000]           */
                      "\x0f\xae\x1d\x04\x80\x00\x00" /* stmxcsr [8004]           */
                      "\x40\xe7\xf4\xeb\xfe");       /* inc eax; out 0xf4, eax   */
        c->eip = CODE;
        c->gpr[G_ESP] = STACK;
        ck_assert_msg(run() == (bit < 16), "%s: LDMXCSR of bit %u", engine[_i].name, bit);
        ck_assert_msg(get32(0x8100 + 28) == 0xffff, "%s: MXCSR_MASK %x", engine[_i].name, get32(0x8100 + 28));
        if (bit < 16) ck_assert_uint_eq(get32(0x8004), 1u << bit);
    }
    end();
}
END_TEST

/* A program that changes its own next instruction, in a loop. */
START_TEST(code_that_writes_into_itself_is_obeyed)
{
    start(_i);
    CODE_AT(CODE, "\x31\xc0\xb9\x64\x00\x00\x00" /* xor eax, eax; mov ecx, 100     */
                  "\xfe\x05\x0f\x00\x01\x00"     /* inc byte [CODE + 15]           */
                  "\x90\x05\x00\x00\x00\x00"     /* nop; add eax, imm              */
                  "\x49\x75\xf1"                 /* dec ecx; jnz                   */
                  "\xe7\xf4\xeb\xfe");
    ck_assert_uint_eq(run(), 5050);
    end();
}
END_TEST

/* Sums that leave 32 bits on either side, a table in the upper half, and an operand across the end of linear memory;
 * each often enough that translated code has changed its way. */
START_TEST(addresses_wrap_around_at_4_GiB)
{
    start(_i);
    page();
    for (u32 i = 0; i < 1024; i++) put32(PT + 4 * i, i << 12 | 0x63);
    put32(PD + 4 * 0x3ff, PT | 3); /* the last 4 MiB are the first 4 MiB once more */
    put32(DATA, 0x11111111);
    put32(DATA + 4, 0x22222222);
    put32(0x3ffffc, 0x44000000);
    put32(0, 0x00ccbbaa);
    CODE_AT(CODE, "\xbf\x64\x00\x00\x00\x31\xd2" /* mov edi, 100; xor edx, edx     */
                  "\xbb\x01\x00\x03\x80"         /* loop: mov ebx, 0x80030001      */
                  "\x03\x93\xff\xff\xff\x7f"     /* add edx, [ebx + 0x7fffffff]    */
                  "\xb9\x03\x00\x00\x00"         /* mov ecx, 3                     */
                  "\x03\x91\x01\x00\xc3\xff"     /* add edx, [ecx + 0xffc30001]    */
                  "\x31\xc9\xbe\x00\x80\x00\x40" /* xor ecx, ecx; mov esi, 0x40008000 */
                  "\x03\x14\xb5\x00\x00\x01\x00" /* add edx, [esi*4 + 0x10000]     */
                  "\x33\x51\xff"                 /* xor edx, [ecx - 1]             */
                  "\x01\x51\xff\x29\x51\xff"     /* add [ecx - 1], edx; sub        */
                  "\x4f\x75\xd0"                 /* dec edi; jnz loop              */
                  "\x89\xd0\xe7\xf4\xeb\xfe");   /* mov eax, edx; out 0xf4, eax    */
    u32 expect = 0;
    for (unsigned i = 0; i < 100; i++) expect = (expect + 0x11111111 + 0x22222222 + 0x11111111) ^ 0xccbbaa44;
    ck_assert_uint_eq(run(), expect);
    ck_assert_uint_eq(get32(0), 0x00ccbbaa);
    bool windows = engine[_i].cfg.engine == RT_BT && !engine[_i].cfg.no_windows;
    ck_assert_int_eq(c->ctr.fault_guard > 0, windows);
    ck_assert_uint_lt(c->ctr.fault_guard, 20);
    end();
}
END_TEST

static volatile bool kicking;
static void *kicker(void *arg)
{
    (void)arg;
    while (kicking) {
        rt_kick(rt);
        nanosleep(&(struct timespec){ .tv_nsec = 3000 }, NULL);
    }
    return NULL;
}

/* Kicks from another thread, one after the other, into loops of linked blocks, jump caches, TLB misses and FPU code.
 * Returns how many came. */
static u64 run_kicked(int which)
{
    const u32 rounds = engine[which].cfg.engine == RT_INTERP ? 0x40000 : 0x800000;
    start(which);
    CODE_AT(CODE, "\xbf\x00\x00\x00\x00\xd9\xee" /* mov edi, rounds; fldz   */
                  "\xe8\x0c\x00\x00\x00"         /* loop: call f             */
                  "\xd9\xe8\xde\xc1"             /* fld1; faddp              */
                  "\x4f\x75\xf4"                 /* dec edi; jnz loop        */
                  "\xe9\xe9\x0f\x00\x00"         /* jmp done                 */
                  "\x01\x3d\x00\x00\x03\x00"     /* f: add [DATA], edi       */
                  "\x83\x15\x04\x00\x03\x00\x00" /* adc dword [DATA + 4], 0  */
                  "\xe9\xd6\x0f\x00\x00");       /* jmp to RET, a page on    */
    CODE_AT(CODE + 0x1000, "\xc3"
                           "\xdb\x1d\x08\x00\x03\x00" /* done: fistp dword [DATA + 8] */
                           "\xa1\x08\x00\x03\x00"     /* mov eax, [DATA + 8]      */
                           "\xe7\xf4\xeb\xfe");
    put32(CODE + 1, rounds);
    put32(DATA, 0);
    put32(DATA + 4, 0);
    rt_update(rt);
    pthread_t t;
    kicking = true;
    ck_assert_int_eq(pthread_create(&t, NULL, kicker, NULL), 0);
    ck_assert_int_eq(rt_run(rt), RT_STOPPED);
    kicking = false;
    pthread_join(t, NULL);
    ck_assert_uint_eq(out_value, rounds);
    u64 sum = (u64)rounds * (rounds + 1) / 2, kicks = c->ctr.kicks;
    ck_assert_uint_eq(get32(DATA), (u32)sum);
    ck_assert_uint_eq(get32(DATA + 4), (u32)(sum >> 32));
    end();
    return kicks;
}

START_TEST(kicks_change_nothing)
{
    u64 kicks = 0;
    for (unsigned i = 0; i < 20 && kicks <= 10; i++) kicks += run_kicked(_i); /* few come on a busy host */
    ck_assert_uint_gt(kicks, 10);
}
END_TEST

/* The host takes 60 ms from the guest, which then reads its TSC a thousand times: how often was it not later? */
static void slow_write(void *dev UNUSED, u32 off UNUSED, unsigned size UNUSED, u32 val UNUSED)
{
    nanosleep(&(struct timespec){ .tv_nsec = 60000000 }, NULL);
}
static const struct io_ops slow_ops = { .write = slow_write };

static void start_tsc_reader(int which, bool user)
{
    start(which);
    ck_assert_int_eq(bus_map_pio(rt_bus(rt), 0x80, 1, &slow_ops, NULL, "slow"), 0);
    CODE_AT(CODE, "\xe6\x80"             /* out 0x80, al  */
                  "\xb9\xe8\x03\x00\x00" /* mov ecx, 1000 */
                  "\x31\xdb\x31\xf6"     /* xor ebx, ebx; xor esi, esi */
                  "\x31\xed"             /* xor ebp, ebp  */
                  "\x0f\x31"             /* rdtsc         */
                  "\x89\xc7\x29\xdf"     /* mov edi, eax; sub edi, ebx */
                  "\x89\xd7\x19\xf7"     /* mov edi, edx; sbb edi, esi */
                  "\x83\xd5\x00"         /* adc ebp, 0    */
                  "\x89\xc3\x89\xd6"     /* mov ebx, eax; mov esi, edx */
                  "\x49\x75\xec"         /* dec ecx; jnz rdtsc */
                  "\x89\xe8\xe7\xf4"     /* mov eax, ebp; out 0xf4, eax */
                  "\xeb\xfe");
    put32(TSS_A + 4, STACK_B);
    put32(TSS_A + 8, SEL_DS);
    if (!user) return;
    for (unsigned s = 0; s < S_COUNT; s++) c->seg[s].sel |= 3, c->seg[s].attr |= 3u << SEG_DPL_SHIFT;
    c->cpl = 3;
    c->eflags_sys |= F_IOPL;
}

START_TEST(a_TSC_that_lags_is_read_without_leaving_translated_code)
{
    for (unsigned user = 0; user < 2; user++) {
        start_tsc_reader(_i, user);
        ck_assert_uint_eq(run(), 0);
        ck_assert_uint_gt(clock_lag_ns(rt_clock(rt)), 10000000);
        ck_assert_msg(rt->emulated_op[OP_RDTSC] < 20 /* kicks */, "%llu interpreted at CPL %u",
                      (unsigned long long)rt->emulated_op[OP_RDTSC], 3 * user);
        end();
    }
}
END_TEST

START_TEST(with_TSD_the_TSC_is_the_kernels)
{
    for (unsigned user = 0; user < 2; user++) {
        start_tsc_reader(_i, user);
        c->cr4 |= CR4_TSD;
        ck_assert_uint_eq(run(), user ? 0xdead : 0);
        end();
    }
}
END_TEST

SMALL_GUEST_SUITE("dispatch", 20, a_blocked_NMI_beside_a_masked_interrupt_does_not_stop_the_guest,
                  code_in_a_segment_with_a_base_is_translated_and_sees_its_EIPs,
                  an_indirect_jump_after_a_change_of_CS_goes_where_the_new_base_says,
                  behind_INVLPG_of_its_own_page_code_comes_from_the_new_frame,
                  an_instruction_whose_second_page_came_late_is_not_interpreted_for_ever, a_task_gate_disarms_the_FPU,
                  RF_does_not_outlive_an_instruction, a_shadow_does_not_outlive_an_instruction,
                  reserved_MXCSR_bits_from_outside_do_no_harm, mxcsr_has_the_bits_of_the_model_and_no_others,
                  code_that_writes_into_itself_is_obeyed, addresses_wrap_around_at_4_GiB, kicks_change_nothing,
                  a_TSC_that_lags_is_read_without_leaving_translated_code, with_TSD_the_TSC_is_the_kernels)
