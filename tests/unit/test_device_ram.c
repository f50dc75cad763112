/* A device's own memory as a running guest finds it, under each engine: user code runs in it, writes to it, and
 * overwrites itself, and the dirty log has what it wrote. */
#include "core/bus.h"
#include "runtime/mem/physmem.h"
#include "runtime/run/rt.h"

#include <check.h>
#include <errno.h>
#include <string.h>

/* clang-format off */
enum { GDT = 0x1000, IDT = 0x2000, TSS = 0x3000, STACK = 0x8000, KERNEL = 0x10000, PD = 0x20000, PT = 0x21000,
       PT_USER = 0x22000, PORT = 0xf4, SEL_CS = 0x08, SEL_DS = 0x10, SEL_UCS = 0x1b, SEL_UDS = 0x23, SEL_TSS = 0x28 };
/* clang-format on */
#define FB 0xe0000000u   /* physical */
#define USER 0x40000000u /* linear: the same */
#define PAGES 16u

static const struct {
    const char *name;
    struct rt_config cfg;
} engine[] = {
    { "interpreter", { .ram_size = 4 << 20, .engine = RT_INTERP } },
    { "translator", { .ram_size = 4 << 20, .engine = RT_BT, .direct = RT_DIRECT_OFF, .eager_windows = true } },
    { "soft TLB", { .ram_size = 4 << 20, .engine = RT_BT, .no_windows = true } },
    { "direct execution", { .ram_size = 4 << 20, .engine = RT_BT, .direct = RT_DIRECT_ALWAYS } },
};

static struct rt *rt;
static struct cpu *c;
static struct bus *bus;
static struct bus_ram *fb;
static struct dirty_log *dl;
static u32 out_value;

static void port_write(void *dev, u32 off, unsigned size, u32 val)
{
    (void)dev, (void)off, (void)size;
    out_value = val;
    rt_stop(rt);
}
static const struct io_ops port_ops = { .write = port_write };

static void put(paddr at, const void *from, unsigned n) { ck_assert_uint_eq(bus_dma_write(bus, at, from, n), n); }
static void put32(paddr at, u32 v) { put(at, &v, 4); }
static void put_desc(u32 at, u32 base, u32 limit, u32 access, u32 flags)
{
    put32(at, (limit & 0xffff) | base << 16);
    put32(at + 4, (base >> 16 & 0xff) | access << 8 | (limit & 0xf0000) | flags << 20 | (base & 0xff000000));
}
static struct seg flat(u16 sel, u32 type)
{
    return (struct seg){ .sel = sel,
                         .limit = 0xffffffff,
                         .attr = type | (u32)(sel & 3) << SEG_DPL_SHIFT | SEG_S | SEG_P | SEG_D | SEG_G };
}

/* A kernel that writes EAX to the port at INT 80h (and 0xdead at any exception), and a user program at USER. False: the
 * host cannot run this engine. */
static bool start(int which, const char *code, unsigned n)
{
    const char *what;
    int err = rt_new(&rt, &engine[which].cfg, &what);
    if (err == -ENOTSUP) return false;
    ck_assert_msg(!err, "%s: %s: %s", engine[which].name, what, strerror(-err));
    c = rt_cpu(rt);
    bus = rt_bus(rt);
    ck_assert_int_eq(bus_map_pio(bus, PORT, 4, &port_ops, NULL, "end"), 0);
    ck_assert_int_eq(bus_ram_new(&fb, bus, PAGES * PAGE_SIZE), 0);
    ck_assert_int_eq(bus_map_ram(bus, FB, fb, "fb"), 0);
    put_desc(GDT + SEL_CS, 0, 0xfffff, 0x9b, 0xc);
    put_desc(GDT + SEL_DS, 0, 0xfffff, 0x93, 0xc);
    put_desc(GDT + (SEL_UCS & ~3), 0, 0xfffff, 0xfb, 0xc);
    put_desc(GDT + (SEL_UDS & ~3), 0, 0xfffff, 0xf3, 0xc);
    put_desc(GDT + SEL_TSS, TSS, 0x67, 0x8b, 0);
    put32(TSS + 4, STACK);
    put32(TSS + 8, SEL_DS);
    put(KERNEL, "\xe7\xf4\xeb\xfe", 4);                             /* out 0xf4, eax; jmp $ */
    put(KERNEL + 0x100, "\xb8\xad\xde\x00\x00\xe7\xf4\xeb\xfe", 9); /* mov eax, 0xdead; .. */
    for (u32 v = 0; v < 256; v++) {
        u32 off = v == 0x80 ? KERNEL : KERNEL + 0x100;
        put32(IDT + 8 * v, SEL_CS << 16 | (off & 0xffff));
        put32(IDT + 8 * v + 4, (off & 0xffff0000) | 0xee00);
    }
    put32(PD, PT | 3);
    put32(PD + (USER >> 22) * 4, PT_USER | 7);
    for (u32 i = 0; i < 1024; i++) put32(PT + 4 * i, i << 12 | 3);
    for (u32 i = 0; i < PAGES; i++) put32(PT_USER + 4 * i, (FB + i * PAGE_SIZE) | 7);
    memcpy(bus_ram_host(fb), code, n);
    ck_assert_int_eq(dirty_log_new(&dl, bus, fb), 0);
    c->gdtr = (struct table_reg){ GDT, 0x2f };
    c->idtr = (struct table_reg){ IDT, 0x7ff };
    c->tr = (struct seg){ .sel = SEL_TSS, .base = TSS, .limit = 0x67, .attr = 0x8b };
    c->ldtr = (struct seg){ .attr = SEG_UNUSABLE };
    for (unsigned s = 0; s < S_COUNT; s++) c->seg[s] = s == S_CS ? flat(SEL_UCS, 0xb) : flat(SEL_UDS, 3);
    c->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_MP | CR0_PG | CR0_WP;
    c->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
    c->cr3 = PD;
    c->fx = (struct fxstate){ .fcw = 0x37f, .mxcsr = 0x1f80 };
    c->cpl = 3;
    cpu_set_eflags(c, F_IF);
    return true;
}

static u32 run(void)
{
    c->eip = USER;
    c->cpl = 3;
    c->seg[S_CS] = flat(SEL_UCS, 0xb);
    c->seg[S_SS] = flat(SEL_UDS, 3);
    cpu_set_eflags(c, F_IF);
    c->gpr[G_ESP] = USER + 15 * PAGE_SIZE;
    rt_update(rt);
    ck_assert_int_eq(rt_run(rt), RT_STOPPED);
    return out_value;
}

static u64 taken(void)
{
    u64 bits[1];
    dirty_log_take(dl, bits);
    return bits[0];
}

static void end(void)
{
    dirty_log_free(dl);
    rt_free(rt);
}

/* Fills pages 2, 4 and 6 in a loop, by STOSD and MOV, and reads them back. */
static const char fill[] = "\xb9\x03\x00\x00\x00"     /* mov ecx, 3 */
                           "\xbf\x00\x20\x00\x40"     /* mov edi, USER + 0x2000 */
                           "\x31\xc0"                 /* xor eax, eax */
                           "\x89\x4f\x10"             /* 1: mov [edi+0x10], ecx */
                           "\x03\x47\x10"             /* add eax, [edi+0x10] */
                           "\x03\x87\x00\x10\x00\x00" /* add eax, [edi+0x1000]: only read */
                           "\x81\xc7\x00\x20\x00\x00" /* add edi, 0x2000 */
                           "\xe2\xec"                 /* loop 1b */
                           "\xcd\x80";                /* int 0x80 */

START_TEST(code_runs_in_a_devices_memory_and_what_it_writes_is_in_the_dirty_log)
{
    if (!start(_i, fill, sizeof fill - 1)) return;
    for (unsigned round = 0; round < 3; round++) {
        ck_assert_msg(run() == 6, "%s: %x", engine[_i].name, out_value);
        u64 dirty = taken();
        ck_assert_msg(dirty == (1 << 2 | 1 << 4 | 1 << 6), "%s, round %u: %llx", engine[_i].name, round,
                      (unsigned long long)dirty);
        ck_assert_uint_eq(*(u32 *)(bus_ram_host(fb) + 0x4010), 2);
    }
    if (engine[_i].cfg.direct == RT_DIRECT_ALWAYS) ck_assert_uint_gt(c->ctr.direct_runs, 0);
    end();
}
END_TEST

/* Code that its device replaces between two runs, by its own pointer and by DMA. */
static const char returns_1[] = "\xb8\x01\x00\x00\x00\xcd\x80"; /* mov eax, 1; int 0x80 */

START_TEST(code_that_the_device_or_dma_replaces_is_not_run_again)
{
    if (!start(_i, returns_1, sizeof returns_1 - 1)) return;
    ck_assert_uint_eq(run(), 1);
    bus_ram_host(fb)[1] = 2;
    bus_ram_written(fb, 1, 1);
    ck_assert_uint_eq(run(), 2);
    u64 len = 16;
    u8 *p = bus_dma_map(bus, FB, &len);
    p[1] = 3;
    bus_dma_unmap(bus, p, len, DMA_TO_GUEST);
    ck_assert_uint_eq(run(), 3);
    put(FB + 1, "\x04", 1);
    ck_assert_uint_eq(run(), 4);
    ck_assert_uint_eq(taken(), 1);
    end();
}
END_TEST

/* Overwrites the immediate of its own second MOV. */
static const char patches[] = "\xc6\x05\x08\x00\x00\x40\x05" /* mov byte [USER + 8], 5 */
                              "\xb8\x01\x00\x00\x00"         /* mov eax, 1 */
                              "\xcd\x80";                    /* int 0x80 */

START_TEST(code_in_a_devices_memory_may_overwrite_itself)
{
    if (!start(_i, patches, sizeof patches - 1)) return;
    ck_assert_uint_eq(run(), 5);
    ck_assert_uint_eq(taken(), 1);
    end();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("device_ram");
    TCase *t = tcase_create("device_ram");
    const int n = ARRAY_LEN(engine);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, code_runs_in_a_devices_memory_and_what_it_writes_is_in_the_dirty_log, 0, n);
    tcase_add_loop_test(t, code_that_the_device_or_dma_replaces_is_not_run_again, 0, n);
    tcase_add_loop_test(t, code_in_a_devices_memory_may_overwrite_itself, 0, n);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
