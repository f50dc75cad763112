/* Small guests in flat protected mode, without devices but a port that ends them; under each engine, and with and
 * without windows. One test program, one translation unit: so the definitions are right here. */
#ifndef TESTS_UNIT_SMALL_GUEST_H
#define TESTS_UNIT_SMALL_GUEST_H
#include "core/bus.h"
#include "runtime/mem/physmem.h"
#include "runtime/run/rt.h"

#include <check.h>
#include <string.h>

/* clang-format off */
enum { GDT = 0x1000, IDT = 0x2000, TSS_A = 0x3000, TSS_B = 0x3100, STACK = 0x8000, STACK_B = 0x9000, CODE = 0x10000,
    PD = 0x20000, PT = 0x21000, DATA = 0x30000,
       FRAME_1 = 0x40000, FRAME_2 = 0x41000, SEL_CS = 0x08, SEL_DS = 0x10, SEL_TSS_A = 0x18, SEL_TSS_B = 0x20,
       PORT = 0xf4 };

static struct rt *rt;
static struct cpu *c;
static u32 out_value;

static void port_write(void *dev, u32 off, unsigned size, u32 val)
{
    (void)dev, (void)off, (void)size;
    out_value = val;
    rt_stop(rt);
}
static const struct io_ops port_ops = { .write = port_write };

static void put(u32 at, const void *from, unsigned n) { memcpy(bus_ram_ptr(rt_bus(rt), at), from, n); }
static void put32(u32 at, u32 v) { put(at, &v, 4); }
static UNUSED u32 get32(u32 at)
{
    u32 v;
    memcpy(&v, bus_ram_ptr(rt_bus(rt), at), 4);
    return v;
}

static void put_desc(u32 at, u32 base, u32 limit, u32 access, u32 flags)
{
    put32(at, (limit & 0xffff) | base << 16);
    put32(at + 4, (base >> 16 & 0xff) | access << 8 | (limit & 0xf0000) | flags << 20 | (base & 0xff000000));
}
static UNUSED void put_gate(unsigned vector, u32 off) /* interrupt gate */
{
    put32(IDT + 8 * vector, (u32)SEL_CS << 16 | (off & 0xffff));
    put32(IDT + 8 * vector + 4, (off & 0xffff0000) | 0x8e00);
}

static struct seg flat(u16 sel,
    u32 type) { return (struct seg){ .sel = sel, .limit = 0xffffffff, .attr = type | SEG_S | SEG_P | SEG_D | SEG_G }; }

static const struct { const char *name; struct rt_config cfg; } engine[] = {
    { "interpreter", { .ram_size = 4 << 20, .engine = RT_INTERP } },
    { "translator", { .ram_size = 4 << 20, .engine = RT_BT } },
    { "translator, no windows", { .ram_size = 4 << 20, .engine = RT_BT, .no_windows = true } },
};
/* clang-format on */

static void start(int which)
{
    const char *what;
    ck_assert_int_eq(rt_new(&rt, &engine[which].cfg, &what), 0);
    ck_assert_int_eq(bus_map_pio(rt_bus(rt), PORT, 4, &port_ops, NULL, "end"), 0);
    c = rt_cpu(rt);
    put_desc(GDT + SEL_CS, 0, 0xfffff, 0x9b, 0xc);
    put_desc(GDT + SEL_DS, 0, 0xfffff, 0x93, 0xc);
    put_desc(GDT + SEL_TSS_A, TSS_A, 0x67, 0x8b, 0);
    put_desc(GDT + SEL_TSS_B, TSS_B, 0x67, 0x89, 0);
    c->gdtr = (struct table_reg){ GDT, 0x27 };
    c->idtr = (struct table_reg){ IDT, 0x7ff };
    c->tr = (struct seg){ .sel = SEL_TSS_A, .base = TSS_A, .limit = 0x67, .attr = 0x8b };
    c->ldtr = (struct seg){ .attr = SEG_UNUSABLE };
    for (unsigned s = 0; s < S_COUNT; s++) c->seg[s] = s == S_CS ? flat(SEL_CS, 0xb) : flat(SEL_DS, 3);
    c->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_MP;
    c->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
    c->fx = (struct fxstate){ .fcw = 0x37f, .mxcsr = 0x1f80 };
    c->gpr[G_ESP] = STACK;
    c->eip = CODE;
    out_value = 0;
    /* An exception that no test expects ends the guest: out 0xf4, eax with EAX = 0xdead. */
    put(0x7000, "\xb8\xad\xde\x00\x00\xe7\xf4\xeb\xfe", 9);
    for (unsigned v = 0; v < 256; v++) put_gate(v, 0x7000);
}

/* Identity, all writable, supervisor. */
static UNUSED void page(void)
{
    put32(PD, PT | 3);
    for (u32 i = 0; i < 1024; i++) put32(PT + 4 * i, i << 12 | 3);
    c->cr3 = PD;
    c->cr0 |= CR0_PG;
}
/* Paging, and a ring 3 that may use all but the page at 50000h: INT 80h comes to service, a page fault to fault. */
static UNUSED void with_user_code(u32 service, u32 fault)
{
    put_desc(GDT + 0x28, 0, 0xfffff, 0xfb, 0xc);
    put_desc(GDT + 0x30, 0, 0xfffff, 0xf3, 0xc);
    c->gdtr.limit = 0x37;
    put_gate(0x80, service);
    put32(IDT + 8 * 0x80 + 4, (service & 0xffff0000) | 0xee00); /* DPL 3 */
    put_gate(V_PF, fault);
    put32(TSS_A + 4, STACK); /* ESP0, SS0 */
    put32(TSS_A + 8, SEL_DS);
    page();
    for (u32 i = 0; i < 1024; i++) put32(PT + 4 * i, i << 12 | 7);
    put32(PD, PT | 7);
    put32(PT + 4 * 0x50, 0x50000);
}

static UNUSED u32 run(void)
{
    rt_update(rt);
    ck_assert_int_eq(rt_run(rt), RT_STOPPED);
    return out_value;
}

static void end(void)
{
    rt_free(rt);
    rt = NULL;
}

#define CODE_AT(at, bytes) put(at, bytes, sizeof(bytes) - 1)

/* The program's main(): each test with each engine, at most so many seconds. */
#define SMALL_GUEST_SUITE(name, seconds, ...)                                                                   \
    int main(void)                                                                                              \
    {                                                                                                           \
        const TTest *const tests[] = { __VA_ARGS__ };                                                           \
        Suite *s = suite_create(name);                                                                          \
        TCase *t = tcase_create("guests");                                                                      \
        tcase_set_timeout(t, seconds);                                                                          \
        for (unsigned i = 0; i < ARRAY_LEN(tests); i++) tcase_add_loop_test(t, tests[i], 0, ARRAY_LEN(engine)); \
        suite_add_tcase(s, t);                                                                                  \
        SRunner *r = srunner_create(s);                                                                         \
        srunner_run_all(r, CK_ENV);                                                                             \
        int failed = srunner_ntests_failed(r);                                                                  \
        srunner_free(r);                                                                                        \
        return failed != 0;                                                                                     \
    }

#endif
