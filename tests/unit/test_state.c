/* state.c and inspect.c: a CPU's whole state goes out of one machine and into another, whatever engines they have, and
 * the guest does not notice; guest memory can be read and written between runs. */
#include "runtime/run/rt.h"

#include <check.h>
#include <pthread.h>
#include <string.h>

#define RAM_BYTES (4u << 20)
enum { GDT = 0x1000, IDT = 0x2000, TSS = 0x3000, STACK0 = 0x8000, PD = 0x20000, PT = 0x21000, CODE = 0x100000 };
enum { DATA = 0x110000, STACK = 0x120000, READ_ONLY = 0x130000, ABSENT = 0x131000, PORT = 0xf4 };
enum { TSS_LIMIT = 0x68 + 64 /* with permission for all of 512 ports */ };
enum { CS0 = 0x08, DS0 = 0x10, CS3 = 0x1b, DS3 = 0x23, SEL_TSS = 0x28 };

static const struct kind {
    const char *name;
    struct rt_config cfg;
} kind[] = {
    { "interpreter", { .ram_size = RAM_BYTES, .engine = RT_INTERP } },
    { "translator", { .ram_size = RAM_BYTES, .engine = RT_BT, .direct = RT_DIRECT_OFF } },
    { "translator, no windows", { .ram_size = RAM_BYTES, .engine = RT_BT, .no_windows = true } },
    { "direct execution", { .ram_size = RAM_BYTES, .engine = RT_BT, .direct = RT_DIRECT_ALWAYS } },
};
enum { DIRECT = 3 };

struct machine {
    struct rt *rt;
    u32 outs; /* writes to PORT */
};

static u32 port_read(void *dev, u32 off, unsigned size)
{
    (void)off, (void)size;
    return ((struct machine *)dev)->outs;
}
static void port_write(void *dev, u32 off, unsigned size, u32 val)
{
    (void)off, (void)size, (void)val;
    struct machine *m = dev;
    m->outs++;
    rt_stop(m->rt);
}
static const struct io_ops port_ops = { .read = port_read, .write = port_write };

/* false: this host runs no 32-bit code. */
static bool machine_new(struct machine *m, unsigned k)
{
    const char *what;
    *m = (struct machine){ 0 };
    int err = rt_new(&m->rt, &kind[k].cfg, &what);
    if (err && k == DIRECT) return false;
    ck_assert_msg(!err, "%s: %s: %d", kind[k].name, what, err);
    ck_assert_int_eq(bus_map_pio(rt_bus(m->rt), PORT, 4, &port_ops, m, "end"), 0);
    return true;
}

static void put(struct machine *m, u32 at, const void *from, u32 n)
{
    ck_assert_uint_eq(rt_write_phys(m->rt, at, from, n), n);
}
static void put32(struct machine *m, u32 at, u32 v) { put(m, at, &v, 4); }
static void put_desc(struct machine *m, u32 at, u32 base, u32 limit, u32 access, u32 flags)
{
    put32(m, at, (limit & 0xffff) | base << 16);
    put32(m, at + 4, (base >> 16 & 0xff) | access << 8 | (limit & 0xf0000) | flags << 20 | (base & 0xff000000));
}
static struct seg flat(u16 sel, u32 type)
{
    u32 dpl = (u32)(sel & 3) << SEG_DPL_SHIFT;
    return (struct seg){ .sel = sel, .limit = 0xffffffff, .attr = type | SEG_S | dpl | SEG_P | SEG_D | SEG_G };
}

/* Rounds of integer, flag, string, x87 and SSE work on the data page; a write to the port after each, which the TSS
 * allows. In user mode: then all engines have a part in it. */
static const u8 program[] = {
    0x69, 0xc0, 0x0d, 0x66, 0x19, 0x00,       /* imul eax, eax, 0x19660d */
    0x05, 0x5f, 0xf3, 0x6e, 0x3c,             /* add eax, 0x3c6ef35f */
    0x13, 0xd8,                               /* adc ebx, eax */
    0xd1, 0xd3,                               /* rcl ebx, 1 */
    0x89, 0xc6,                               /* mov esi, eax */
    0x81, 0xe6, 0xf0, 0x0f, 0x00, 0x00,       /* and esi, 0xff0 */
    0x89, 0x9e, 0x00, 0x00, 0x11, 0x00,       /* mov [esi + DATA], ebx */
    0x0f, 0x28, 0x8e, 0x00, 0x00, 0x11, 0x00, /* movaps xmm1, [esi + DATA] */
    0x66, 0x0f, 0xfe, 0xc1,                   /* paddd xmm0, xmm1 */
    0x66, 0x0f, 0xef, 0xd0,                   /* pxor xmm2, xmm0 */
    0xdb, 0x86, 0x00, 0x00, 0x11, 0x00,       /* fild dword [esi + DATA] */
    0xde, 0xc1,                               /* faddp */
    0xd9, 0xe8,                               /* fld1 */
    0xde, 0xc1,                               /* faddp */
    0x81, 0xc6, 0x00, 0x00, 0x11, 0x00,       /* add esi, DATA */
    0xbf, 0x00, 0x08, 0x12, 0x00,             /* mov edi, STACK + 0x800 */
    0xa5,                                     /* movsd */
    0x9c, 0x5a,                               /* pushfd; pop edx */
    0x31, 0xd5,                               /* xor ebp, edx */
    0x41,                                     /* inc ecx */
    0xf6, 0xc1, 0x0f,                         /* test cl, 15 */
    0x75, 0xb2,                               /* jnz program */
    0xf6, 0xc1, 0x10,                         /* test cl, 16 */
    0x74, 0x03,                               /* jz +3 */
    0xfd,                                     /* std: the direction differs from stop to stop */
    0xeb, 0x01,                               /* jmp +1 */
    0xfc,                                     /* cld */
    0xd1, 0xe2,                               /* shl edx, 1: flags for the next round */
    0xe7, PORT,                               /* out PORT, eax */
    0xeb, 0xa3,                               /* jmp program */
};

static void machine_fill(struct machine *m)
{
    struct cpu_arch a;
    const char *field;
    put_desc(m, GDT + CS0, 0, 0xfffff, 0x9b, 0xc);
    put_desc(m, GDT + DS0, 0, 0xfffff, 0x93, 0xc);
    put_desc(m, GDT + (CS3 & ~3), 0, 0xfffff, 0xfb, 0xc);
    put_desc(m, GDT + (DS3 & ~3), 0, 0xfffff, 0xf3, 0xc);
    put_desc(m, GDT + SEL_TSS, TSS, TSS_LIMIT, 0x8b, 0);
    put32(m, TSS + 4, STACK0);
    put32(m, TSS + 8, DS0);
    put32(m, TSS + 0x64, 0x68 << 16);
    for (u32 i = 0; i < RAM_BYTES / PAGE_SIZE; i++) put32(m, PT + 4 * i, i << 12 | 7);
    put32(m, PT + 4 * (READ_ONLY >> 12), READ_ONLY | 5);
    put32(m, PT + 4 * (ABSENT >> 12), 0);
    put32(m, PD, PT | 7);
    put(m, CODE, program, sizeof program);
    for (u32 i = 0; i < PAGE_SIZE; i += 4) put32(m, DATA + i, i * 0x9e3779b1u);
    rt_get_state(m->rt, &a);
    a.gdtr = (struct table_reg){ GDT, 0x2f };
    a.idtr = (struct table_reg){ IDT, 0x7ff };
    a.tr = (struct seg){ .sel = SEL_TSS, .base = TSS, .limit = TSS_LIMIT, .attr = 0x8b };
    a.ldtr = (struct seg){ .attr = SEG_UNUSABLE };
    for (unsigned s = 0; s < S_COUNT; s++) a.seg[s] = s == S_CS ? flat(CS3, 0xb) : flat(DS3, 3);
    a.cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_MP | CR0_PG;
    a.cr3 = PD;
    a.cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
    a.cpl = 3;
    arch_set_eflags(&a, F_IF);
    memset(&a.fx, 0, sizeof a.fx);
    a.fx.fcw = 0x37f;
    a.fx.mxcsr = 0x1f80;
    a.fx.fsw = 7 << 11; /* one on the stack: what is summed up */
    a.fx.ftw = 0x80;
    a.gpr[G_ESP] = STACK + 0x700;
    a.eip = CODE;
    ck_assert_int_eq(rt_set_state(m->rt, &a, &field), 0);
}

static void run_to(struct machine *m, u32 outs)
{
    while (m->outs < outs) ck_assert_int_eq(rt_run(m->rt), RT_STOPPED);
    ck_assert_uint_eq(m->outs, outs);
}

/* A test of direct execution in which nothing ran directly would prove little. */
static void assert_ran(struct machine *m, unsigned k)
{
    if (k == DIRECT) ck_assert_uint_gt(rt_cpu(m->rt)->ctr.direct_runs, 0);
}

static void *ram_of(struct machine *m)
{
    void *p = malloc(RAM_BYTES);
    ck_assert_ptr_nonnull(p);
    ck_assert_uint_eq(rt_read_phys(m->rt, 0, p, RAM_BYTES), RAM_BYTES);
    return p;
}

/* Without an exception pending, some processors lose the x87 unit's pointers when a process is switched away. */
static struct cpu_arch comparable(const struct cpu_arch *a, bool direct)
{
    struct cpu_arch s = *a;
    if (direct) s.fx.fop = s.fx.fcs = s.fx.fds = 0, s.fx.fip = s.fx.fdp = 0;
    return s;
}

static void assert_same_state(const struct cpu_arch *in, const struct cpu_arch *out, const char *from, const char *to)
{
    bool direct = !strcmp(from, "direct execution") || !strcmp(to, "direct execution");
    const struct cpu_arch a = comparable(in, direct), b = comparable(out, direct);
#define ARCH(type, name, dim, text)                                                                                 \
    ck_assert_msg(!strcmp(#name, "tsc") || !memcmp(&a.name, &b.name, sizeof a.name), "%s differs: %s to %s", #name, \
                  from, to);
#include "core/cpu_arch.def"
#undef ARCH
}

/* Half the way here, half the way there, beside all of it under the interpreter. */
static void move(unsigned from, unsigned to)
{
    struct machine a, b, whole;
    struct cpu_arch half, end, expected;
    const char *field;
    if (!machine_new(&a, from)) return;
    if (!machine_new(&b, to)) {
        rt_free(a.rt);
        return;
    }
    ck_assert(machine_new(&whole, 0));
    machine_fill(&a);
    machine_fill(&whole);
    run_to(&whole, 75);
    rt_get_state(whole.rt, &expected);
    run_to(&a, 33);
    rt_get_state(a.rt, &half);
    void *ram = ram_of(&a);
    ck_assert_uint_eq(rt_write_phys(b.rt, 0, ram, RAM_BYTES), RAM_BYTES);
    rt_get_state(b.rt, &end);
    half.tsc = end.tsc; /* there is no direct execution where the guest's counter is not the host's */
    ck_assert_int_eq(rt_set_state(b.rt, &half, &field), 0);
    b.outs = a.outs;
    run_to(&b, 75);
    assert_ran(&a, from);
    assert_ran(&b, to);
    rt_get_state(b.rt, &end);
    assert_same_state(&expected, &end, kind[from].name, kind[to].name);
    free(ram);
    ram = ram_of(&b);
    void *should = ram_of(&whole);
    u32 at = 0;
    while (at < RAM_BYTES && ((u8 *)ram)[at] == ((u8 *)should)[at]) at++;
    ck_assert_msg(at == RAM_BYTES, "RAM at %x differs: %s to %s", at, kind[from].name, kind[to].name);
    free(ram);
    free(should);
    rt_free(a.rt);
    rt_free(b.rt);
    rt_free(whole.rt);
}

START_TEST(a_guest_goes_on_in_another_machine_whatever_its_engine)
{
    for (unsigned to = 0; to < ARRAY_LEN(kind); to++) move((unsigned)_i, to);
}
END_TEST

START_TEST(a_state_got_and_put_back_at_each_stop_changes_nothing)
{
    struct machine a, b;
    struct cpu_arch s, t;
    const char *field;
    if (!machine_new(&a, (unsigned)_i)) return;
    ck_assert(machine_new(&b, 0));
    machine_fill(&a);
    machine_fill(&b);
    for (u32 n = 1; n <= 40; n++) {
        run_to(&a, n);
        run_to(&b, n);
        rt_get_state(a.rt, &s);
        ck_assert_int_eq(rt_set_state(a.rt, &s, &field), 0);
        rt_get_state(a.rt, &s);
        rt_get_state(b.rt, &t);
        assert_same_state(&t, &s, "interpreter", kind[_i].name);
    }
    assert_ran(&a, (unsigned)_i);
    rt_free(a.rt);
    rt_free(b.rt);
}
END_TEST

static void *run_one(void *arg)
{
    struct machine *m = arg;
    run_to(m, m->outs + 1);
    return NULL;
}

START_TEST(a_machine_may_be_run_by_one_thread_after_another)
{
    struct machine a, b;
    struct cpu_arch s, t;
    if (!machine_new(&a, (unsigned)_i)) return;
    ck_assert(machine_new(&b, 0));
    machine_fill(&a);
    machine_fill(&b);
    for (u32 n = 1; n <= 12; n++) {
        pthread_t thread;
        if (n % 3) run_to(&a, a.outs + 3);
        ck_assert_int_eq(pthread_create(&thread, NULL, run_one, &a), 0);
        pthread_join(thread, NULL);
        run_to(&b, a.outs);
        rt_get_state(a.rt, &s);
        rt_get_state(b.rt, &t);
        assert_same_state(&t, &s, "interpreter", kind[_i].name);
    }
    assert_ran(&a, (unsigned)_i);
    rt_free(a.rt);
    rt_free(b.rt);
}
END_TEST

/* Every byte of every row that may be anything comes back as it was. */
START_TEST(a_state_is_kept_to_the_byte)
{
    struct machine m;
    struct cpu_arch s, got;
    const char *field;
    u32 x = 12345;
    ck_assert(machine_new(&m, (unsigned)_i & 1));
    for (unsigned round = 0; round < 200; round++) {
        for (u8 *p = (u8 *)&s; p < (u8 *)(&s + 1); p++) *p = (u8)((x = x * 1103515245 + 12345) >> 16);
        s.df = s.df & 1 ? 1 : -1;
        s.eflags_sys &= F_SYS & ~F_VM;
        s.aflags &= F_ARITH;
        s.iflag &= 1, s.intr_shadow &= 1, s.halted &= 1, s.cpl &= 3;
        s.nmi_pending = s.gpr[0] & 1, s.nmi_blocked = s.gpr[0] & 2, s.intr_line = s.gpr[0] & 4;
        s.exc.valid = true, s.exc.has_error = s.gpr[0] & 8, s.exc.vector &= 31, s.exc.pad = 0;
        s.reserved = 0, s.debug_pending &= 15, s.ferr &= 1, s.ignne &= 1;
        for (unsigned i = 0; i < S_COUNT; i++) s.seg[i].pad = 0;
        s.ldtr.pad = s.tr.pad = 0;
        s.dr[4] = s.dr[5] = 0;
        s.dr[6] = (s.dr[6] & 0xe00f) | 0xffff0ff0, s.dr[7] = (s.dr[7] & 0xffff23ff) | 0x400;
        s.cr0 = CR0_PE | CR0_ET | (s.cr0 & (CR0_TS | CR0_WP | CR0_PG | CR0_EM | CR0_AM));
        s.cr4 &= CR4_PSE | CR4_PGE | CR4_OSFXSR;
        s.apic_base &= 0xffffff000;
        s.fx.mxcsr &= 0xffff, s.fx.mxcsr_mask = 0xffff;
        memset(s.fx.rest, 0, sizeof s.fx.rest);
        s.fx.fop &= 0x7ff, s.fx.rsvd1 = 0, s.fx.rsvd2 = s.fx.rsvd3 = 0;
        int rc = rt_set_state(m.rt, &s, &field);
        ck_assert_msg(!rc, "round %u: %s is refused", round, field);
        rt_get_state(m.rt, &got);
        assert_same_state(&s, &got, "in", "out");
    }
    rt_free(m.rt);
}
END_TEST

START_TEST(what_no_CPU_could_hold_is_refused_by_name_and_nothing_changes)
{
    struct machine m;
    struct cpu_arch good, s, after;
    const char *field;
    ck_assert(machine_new(&m, 1));
    machine_fill(&m);
    rt_get_state(m.rt, &good);
#define REFUSED(name, change)                                          \
    do {                                                               \
        s = good;                                                      \
        change;                                                        \
        s.gpr[G_EAX] ^= 1;                                             \
        ck_assert_int_lt(rt_set_state(m.rt, &s, &field), 0);           \
        ck_assert_str_eq(field, name);                                 \
        rt_get_state(m.rt, &after);                                    \
        assert_same_state(&good, &after, "before", "after a refusal"); \
    } while (0)
    REFUSED("df", s.df = 0);
    REFUSED("iflag", s.iflag = 2);
    REFUSED("cpl", s.cpl = 4);
    REFUSED("cpl", s.cr0 = CR0_ET);
    REFUSED("cpl", (s.cpl = 0, s.eflags_sys |= F_VM));
    REFUSED("eflags_sys", s.eflags_sys |= 1u << 15);
    REFUSED("fx.mxcsr", s.fx.mxcsr |= 1u << 16);
    REFUSED("cr0", (s.cr0 = CR0_PG | CR0_ET, s.cpl = 0));
    REFUSED("cr4", s.cr4 |= 1u << 13);
    REFUSED("pdpte", (s.cr4 |= CR4_PAE, s.pdpte[2] = 3));
    REFUSED("apic_base", s.apic_base |= 1ull << 36);
    REFUSED("exc.vector", (s.exc.valid = true, s.exc.vector = 32));
    REFUSED("ferr", s.ferr = 2);
    REFUSED("ignne", s.ignne = 2);
    REFUSED("reserved", s.reserved = 1);
    rt_free(m.rt);
}
END_TEST

START_TEST(the_time_stamp_counter_goes_on_unless_it_is_set)
{
    struct machine m;
    struct cpu_arch a, b;
    const char *field;
    ck_assert(machine_new(&m, 0));
    rt_get_state(m.rt, &a);
    ck_assert_int_eq(rt_set_state(m.rt, &a, &field), 0);
    ck_assert_uint_eq(rt_cpu(m.rt)->tsc_offset, 0); /* so the guest may go on reading the host's */
    rt_get_state(m.rt, &b);
    ck_assert_uint_gt(b.tsc, a.tsc);
    b.tsc = 1000;
    ck_assert_int_eq(rt_set_state(m.rt, &b, &field), 0);
    rt_get_state(m.rt, &a);
    ck_assert_uint_ge(a.tsc, 1000);
    ck_assert_uint_lt(a.tsc, 1000 + 60000000000ull);
    rt_free(m.rt);
}
END_TEST

START_TEST(memory_is_read_and_written_by_linear_address_as_far_as_it_is_mapped)
{
    struct machine m;
    u8 buf[64], back[64];
    ck_assert(machine_new(&m, (unsigned)_i));
    machine_fill(&m);
    for (unsigned i = 0; i < sizeof buf; i++) buf[i] = (u8)(i + 1);
    ck_assert_uint_eq(rt_write_linear(m.rt, READ_ONLY + PAGE_SIZE - 32, buf, sizeof buf), 32);
    ck_assert_uint_eq(rt_read_phys(m.rt, READ_ONLY + PAGE_SIZE - 32, back, 32), 32);
    ck_assert_mem_eq(buf, back, 32);
    ck_assert_uint_eq(rt_read_linear(m.rt, ABSENT, back, 1), 0);
    ck_assert_uint_eq(rt_read_linear(m.rt, ABSENT - 16, back, sizeof back), 16);
    ck_assert_mem_eq(buf + 16, back, 16);
    u32 pte;
    ck_assert_uint_eq(rt_read_phys(m.rt, PT + 4 * (READ_ONLY >> 12), &pte, 4), 4);
    ck_assert_uint_eq(pte, READ_ONLY | 5); /* neither accessed nor dirty */
    rt_free(m.rt);
}
END_TEST

START_TEST(what_is_written_into_code_between_runs_is_obeyed)
{
    struct machine m;
    struct cpu_arch s;
    if (!machine_new(&m, (unsigned)_i)) return;
    machine_fill(&m);
    run_to(&m, 20);
    const u8 patch[] = { 0xb8, 0x44, 0x33, 0x22, 0x11, 0xe7, PORT, 0xeb, 0xf7 }; /* mov eax, imm; out; jmp */
    ck_assert_uint_eq(rt_write_linear(m.rt, CODE, patch, sizeof patch), sizeof patch);
    run_to(&m, 22);
    rt_get_state(m.rt, &s);
    ck_assert_uint_eq(s.gpr[G_EAX], 0x11223344);
    ck_assert_uint_eq(s.eip, CODE + 7);
    rt_free(m.rt);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("state");
    TCase *t = tcase_create("state");
    tcase_add_loop_test(t, a_guest_goes_on_in_another_machine_whatever_its_engine, 0, ARRAY_LEN(kind));
    tcase_add_loop_test(t, a_state_got_and_put_back_at_each_stop_changes_nothing, 0, ARRAY_LEN(kind));
    tcase_add_loop_test(t, a_machine_may_be_run_by_one_thread_after_another, 0, ARRAY_LEN(kind));
    tcase_add_loop_test(t, a_state_is_kept_to_the_byte, 0, 2);
    tcase_add_test(t, what_no_CPU_could_hold_is_refused_by_name_and_nothing_changes);
    tcase_add_test(t, the_time_stamp_counter_goes_on_unless_it_is_set);
    tcase_add_loop_test(t, memory_is_read_and_written_by_linear_address_as_far_as_it_is_mapped, 0, 2);
    tcase_add_loop_test(t, what_is_written_into_code_between_runs_is_obeyed, 0, ARRAY_LEN(kind));
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
