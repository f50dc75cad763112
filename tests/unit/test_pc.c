/* The board, with its real chips, bus and clock, around a CPU that is two wires. */
#include "runtime/mem/physmem.h"
#include "runtime/runtime.h"
#include "src/board/firmware.h"
#include "src/board/pc.h"

#include <check.h>
#include <errno.h>
#include <string.h>

struct rt {
    struct bus *bus;
    struct clock *clock;
    bool intr, nmi;
    const struct intc_ops *intc;
    void *intc_dev;
    struct irq_line ferr;
    bool ignne;
};

struct bus *rt_bus(struct rt *rt) { return rt->bus; }
struct clock *rt_clock(struct rt *rt) { return rt->clock; }
struct trace *rt_trace(struct rt *rt UNUSED)
{
    static struct trace none;
    return &none;
}
void rt_set_intc(struct rt *rt, const struct intc_ops *ops, void *dev)
{
    rt->intc = ops;
    rt->intc_dev = dev;
}
static void set_intr(void *rt, unsigned n UNUSED, bool level) { ((struct rt *)rt)->intr = level; }
static void set_nmi(void *rt, unsigned n UNUSED, bool level) { ((struct rt *)rt)->nmi = level; }
struct irq_line rt_intr_line(struct rt *rt) { return (struct irq_line){ set_intr, rt, 0 }; }
struct irq_line rt_nmi_line(struct rt *rt) { return (struct irq_line){ set_nmi, rt, 0 }; }
static void set_ignne(void *rt, unsigned n UNUSED, bool level) { ((struct rt *)rt)->ignne = level; }
struct irq_line rt_ignne_line(struct rt *rt) { return (struct irq_line){ set_ignne, rt, 0 }; }
void rt_set_ferr(struct rt *rt, struct irq_line line) { rt->ferr = line; }

static struct rt rt;
static struct pc *pc;
static unsigned poweroffs, resets;
static u32 debug_value;

static void on_poweroff(void *arg UNUSED, u32 v UNUSED) { poweroffs++; }
static void on_reset(void *arg UNUSED, u32 v UNUSED) { resets++; }
static void on_debug(void *arg UNUSED, u32 v) { debug_value = v; }

static unsigned inits;
static void on_init(void *arg UNUSED, u32 v UNUSED) { inits++; }
static const struct firmware *firmware; /* of the next board */

static int board(u64 ram, u16 debug_exit, struct vm_error *err)
{
    memset(&rt, 0, sizeof rt);
    ck_assert_int_eq(0, bus_new(&rt.bus, ram));
    ck_assert_int_eq(0, clock_new(&rt.clock));
    clock_set_manual(rt.clock, 0);
    struct pc_config cfg = { .has_debug_exit = debug_exit != 0,
                             .debug_exit = debug_exit,
                             .poweroff = { on_poweroff, NULL },
                             .reset = { on_reset, NULL },
                             .init = { on_init, NULL },
                             .firmware = firmware,
                             .debug = { on_debug, NULL } };
    pc = NULL;
    return pc_new(&pc, &rt, &cfg, err);
}
static void board_end(void)
{
    pc_free(pc);
    clock_free(rt.clock);
    bus_free(rt.bus);
}

static void out8(u16 port, u8 v) { bus_out(rt.bus, port, 1, v); }
static u32 peek(paddr at, unsigned n)
{
    u32 v = 0;
    ck_assert_uint_eq(n, bus_dma_read(rt.bus, at, &v, n));
    return v;
}

static const u64 sizes[] = { 16ull << 20, 64ull << 20, 512ull << 20, 3072ull << 20, 3584ull << 20 };

START_TEST(the_memory_map_is_sorted_without_overlap_and_adds_up)
{
    struct vm_error err;
    ck_assert_int_eq(0, board(sizes[_i], 0, &err));
    const struct memory_map *m = pc_memory_map(pc);
    u64 end = 0, ram = 0;
    for (unsigned i = 0; i < m->n; i++) {
        ck_assert_uint_ge(m->entry[i].addr, end);
        ck_assert_uint_gt(m->entry[i].size, 0);
        end = m->entry[i].addr + m->entry[i].size;
        if (m->entry[i].type != E820_RAM) continue;
        ram += m->entry[i].size;
        /* What is called usable can be written and read back at both ends. */
        u64 at[2] = { m->entry[i].addr, end - 8 };
        for (unsigned k = 0; k < 2; k++) {
            u64 v = 0x1122334455667788 + k, got = 0;
            ck_assert_uint_eq(8, bus_dma_write(rt.bus, at[k], &v, 8));
            ck_assert_uint_eq(8, bus_dma_read(rt.bus, at[k], &got, 8));
            ck_assert_uint_eq(v, got);
        }
    }
    /* All RAM but the legacy hole, the EBDA and the tables' 64 KiB. */
    ck_assert_uint_eq(sizes[_i] - (0x100000 - 0x9fc00) - 0x10000, ram);
    board_end();
}
END_TEST

static u8 sum(paddr at, u32 len)
{
    u8 s = 0;
    for (u32 i = 0; i < len; i++) s = (u8)(s + peek(at + i, 1));
    return s;
}

START_TEST(an_os_finds_the_acpi_tables_by_searching)
{
    struct vm_error err;
    ck_assert_int_eq(0, board(sizes[_i], 0, &err));
    paddr rsdp = 0;
    for (paddr at = 0xe0000; at < 0x100000 && !rsdp; at += 16) {
        char sig[8];
        bus_dma_read(rt.bus, at, sig, 8);
        if (!memcmp(sig, "RSD PTR ", 8) && !sum(at, 20)) rsdp = at;
    }
    ck_assert_uint_ne(0, rsdp);
    u32 rsdt = peek(rsdp + 16, 4), len = peek(rsdt + 4, 4);
    ck_assert_uint_eq(0x54445352 /* RSDT */, peek(rsdt, 4));
    ck_assert_uint_eq(0, sum(rsdt, len));
    bool fadt = false, madt = false;
    for (u32 at = rsdt + 36; at < rsdt + len; at += 4) {
        u32 t = peek(at, 4);
        ck_assert_uint_eq(0, sum(t, peek(t + 4, 4)));
        fadt |= peek(t, 4) == 0x50434146 /* FACP */;
        madt |= peek(t, 4) == 0x43495041 /* APIC */;
    }
    ck_assert(fadt);
    ck_assert(madt);
    board_end();
}
END_TEST

/* What xv6 and its like go by. */
START_TEST(a_system_without_acpi_finds_the_same_in_the_mp_tables)
{
    struct vm_error err;
    ck_assert_int_eq(0, board(16 << 20, 0, &err));
    paddr mp = 0;
    for (paddr at = 0xf0000; at < 0x100000 && !mp; at += 16)
        if (peek(at, 4) == 0x5f504d5f /* _MP_ */ && !sum(at, 16)) mp = at;
    ck_assert_uint_ne(0, mp);
    ck_assert_uint_eq(1, peek(mp + 8, 1));  /* paragraphs */
    ck_assert_uint_eq(0, peek(mp + 11, 1)); /* there is a configuration table */
    u32 table = peek(mp + 4, 4), len = peek(table + 4, 2), at = table + 44;
    ck_assert_uint_eq(0x504d4350 /* PCMP */, peek(table, 4));
    ck_assert_uint_eq(0, sum(table, len));
    ck_assert_uint_eq(0xfee00000, peek(table + 36, 4));
    unsigned count[5] = { 0 }, pin_of_irq[16] = { 0 };
    for (unsigned n = peek(table + 34, 2); n--; count[peek(at, 1)]++, at += peek(at, 1) ? 8 : 20) {
        ck_assert_uint_le(peek(at, 1), 4);
        if (peek(at, 1) == 0) ck_assert_uint_eq(3, peek(at + 3, 1)); /* usable, the boot processor */
        if (peek(at, 1) == 2) ck_assert_uint_eq(0xfec00000, peek(at + 4, 4));
        if (peek(at, 1) == 3 && peek(at + 4, 1) == 1) pin_of_irq[peek(at + 5, 1)] = peek(at + 7, 1);
    }
    ck_assert_uint_eq(table + len, at);
    ck_assert_uint_eq(1, count[0]);
    ck_assert_uint_eq(2, count[1]);
    ck_assert_uint_eq(1, count[2]);
    ck_assert_uint_eq(15 + 128, count[3]);
    ck_assert_uint_eq(2, count[4]);
    for (unsigned irq = 0; irq < 16; irq++) ck_assert_uint_eq(irq == 0 ? 2 : irq == 2 ? 0 : irq, pin_of_irq[irq]);
    board_end();
}
END_TEST

START_TEST(com1_is_left_as_firmware_leaves_it)
{
    struct vm_error err;
    ck_assert_int_eq(0, board(16 << 20, 0, &err));
    ck_assert_uint_eq(0x03, bus_in(rt.bus, 0x3fb, 1));
    ck_assert_uint_eq(0x08, bus_in(rt.bus, 0x3fc, 1) & 0x18); /* OUT2 lets interrupts through; no loopback */
    board_end();
}
END_TEST

START_TEST(the_bios_data_area_tells_of_the_ebda_and_com1)
{
    struct vm_error err;
    ck_assert_int_eq(0, board(16 << 20, 0, &err));
    ck_assert_uint_eq(0x3f8, peek(0x400, 2));
    ck_assert_uint_eq(0x9fc00, peek(0x40e, 2) << 4);
    ck_assert_uint_eq(0x9fc00 / 1024, peek(0x413, 2));
    ck_assert_uint_eq(1, peek(0x9fc00, 1));
    board_end();
}
END_TEST

/* The 8254's first counter reaches the CPU through the 8259A and LINT0, as at power-on. */
START_TEST(the_timer_interrupts_through_the_pic)
{
    struct vm_error err;
    ck_assert_int_eq(0, board(16 << 20, 0, &err));
    static const struct {
        u16 port;
        u8 val;
    } init[] = { { 0x20, 0x11 }, { 0x21, 0x20 }, { 0x21, 4 },   { 0x21, 1 }, { 0x21, 0xfe },
                 { 0xa0, 0x11 }, { 0xa1, 0x28 }, { 0xa1, 2 },   { 0xa1, 1 }, { 0xa1, 0xff },
                 { 0x43, 0x34 }, { 0x40, 0xa9 }, { 0x40, 0x04 } /* 1193: 1 ms */ };
    for (size_t i = 0; i < ARRAY_LEN(init); i++) out8(init[i].port, init[i].val);
    ck_assert(!rt.intr);
    clock_set_manual(rt.clock, 1100000);
    clock_run_due(rt.clock);
    ck_assert(rt.intr);
    ck_assert_int_eq(0x20, rt.intc->acknowledge(rt.intc_dev));
    ck_assert(!rt.intr);
    board_end();
}
END_TEST

/* IRQ0 is pin 2 of the I/O APIC, and other ISA interrupts are pins of their own number. */
/* OUT0 is high after a reset. That it was low before is no interrupt. */
START_TEST(the_timers_reset_is_no_interrupt)
{
    struct vm_error err;
    ck_assert_int_eq(0, board(16 << 20, 0, &err));
    out8(0x43, 0x30); /* counter 0, mode 0: OUT is low */
    ck_assert_int_eq(0, pc_reset(pc));
    out8(0x20, 0x0a); /* OCW3: IRR is read */
    ck_assert_uint_eq(0, bus_in(rt.bus, 0x20, 1) & 1);
    board_end();
}
END_TEST

START_TEST(the_timer_interrupts_through_the_io_apic_pin_2)
{
    struct vm_error err;
    ck_assert_int_eq(0, board(16 << 20, 0, &err));
    bus_mmio_write(rt.bus, 0xfee000f0, 4, 0x1ff); /* APIC on */
    for (unsigned pin = 0; pin < 24; pin++) {     /* each pin its own vector, to APIC 0 */
        bus_mmio_write(rt.bus, 0xfec00000, 4, 0x10 + pin * 2);
        bus_mmio_write(rt.bus, 0xfec00010, 4, 0x40 + pin);
    }
    out8(0x43, 0x34);
    out8(0x40, 0xa9);
    out8(0x40, 0x04);
    clock_set_manual(rt.clock, 1100000);
    clock_run_due(rt.clock);
    ck_assert(rt.intr);
    ck_assert_int_eq(0x42, rt.intc->acknowledge(rt.intc_dev));
    board_end();
}
END_TEST

START_TEST(power_off_reset_and_debug_exit_reach_the_machine)
{
    struct vm_error err;
    poweroffs = resets = debug_value = 0;
    ck_assert_int_eq(0, board(16 << 20, 0xf4, &err));
    bus_out(rt.bus, ACPI_PM_BASE + 4, 2, 1 << 13 | ACPI_S5_TYP << 10);
    ck_assert_uint_eq(1, poweroffs);
    out8(ACPI_RESET_PORT, ACPI_RESET_VALUE);
    ck_assert_uint_eq(1, resets);
    out8(0x64, 0xfe); /* keyboard controller: pulse the reset line */
    ck_assert_uint_eq(2, resets);
    out8(0xf4, 0x10);
    ck_assert_uint_eq(0x21, debug_value);
    board_end();
}
END_TEST

START_TEST(a_debug_exit_port_that_is_taken_is_refused)
{
    static const u16 taken[] = { 0x20, 0x40, 0x60, 0x70, 0x80, 0xe9, 0x3f8, 0x3ff, 0xcf8, 0x600 };
    struct vm_error err;
    ck_assert_int_eq(-EINVAL, board(16 << 20, taken[_i], &err));
    char want[80];
    snprintf(want, sizeof want, "debug_exit: port 0x%x belongs to another device", taken[_i]);
    ck_assert_str_eq(want, err.text);
    clock_free(rt.clock);
    bus_free(rt.bus);
}
END_TEST

START_TEST(a_closed_a20_gate_makes_the_second_megabyte_the_first)
{
    static const struct {
        u16 port;
        u8 close, open;
    } switches[] = { { 0x92, 0, 2 }, { 0x64, 0xdd, 0xdf } };
    struct vm_error err;
    ck_assert_int_eq(0, board(16 << 20, 0, &err));
    for (unsigned i = 0; i < ARRAY_LEN(switches); i++) {
        bus_mmio_write(rt.bus, 0x500, 4, 0x11111111);
        bus_mmio_write(rt.bus, 0x100500, 4, 0x22222222);
        out8(switches[i].port, switches[i].close);
        ck_assert_uint_eq(0x11111111, bus_mmio_read(rt.bus, 0x100500, 4));
        bus_mmio_write(rt.bus, 0x100502, 2, 0x3333);
        ck_assert_uint_eq(0x33331111, bus_mmio_read(rt.bus, 0x500, 4));
        ck_assert_uint_eq(0x33331111, bus_mmio_read(rt.bus, 0x100500, 4));
        out8(switches[i].port, switches[i].open);
        ck_assert_uint_eq(0x22222222, bus_mmio_read(rt.bus, 0x100500, 4));
        ck_assert_uint_eq(0x33331111, bus_mmio_read(rt.bus, 0x500, 4));
    }
    out8(0x92, 0);
    ck_assert_int_eq(0, pc_reset(pc)); /* opens it */
    ck_assert_uint_eq(0x22222222, bus_mmio_read(rt.bus, 0x100500, 4));
    board_end();
}
END_TEST

/* ---- with firmware ---- */

static u8 rom_bytes[256 << 10];
static const struct firmware rom = { rom_bytes, sizeof rom_bytes };

static void board_with_rom(void)
{
    struct vm_error err;
    for (u32 i = 0; i < sizeof rom_bytes; i++) rom_bytes[i] = (u8)(i >> 12 ^ i);
    firmware = &rom;
    ck_assert_int_eq(0, board(64 << 20, 0, &err));
    firmware = NULL;
}
static void pam(unsigned reg, u8 v)
{
    bus_out(rt.bus, 0xcf8, 4, 0x80000000u | (reg & 0xfc));
    bus_out(rt.bus, (u16)(0xcfc + (reg & 3)), 1, v);
}
static u8 look(paddr at) { return (u8)bus_mmio_read(rt.bus, at, 1); }

START_TEST(the_rom_is_below_4_gib_and_its_end_below_1_mib)
{
    board_with_rom();
    for (u32 i = 0; i < sizeof rom_bytes; i += 0x123) {
        ck_assert_uint_eq(rom_bytes[i], look(((u64)1 << 32) - sizeof rom_bytes + i));
        if (i >= 0x20000) ck_assert_uint_eq(rom_bytes[i], look(0xc0000 + i));
    }
    ck_assert_uint_eq(0xff, look(0xc0000)); /* no option ROM */
    bus_mmio_write(rt.bus, 0xf1234, 1, 0x77);
    ck_assert_uint_eq(rom_bytes[0x31234], look(0xf1234));
    board_end();
}
END_TEST

/* As a BIOS shadows itself: writes to RAM while the ROM is read, then RAM alone, then RAM that cannot be written. */
START_TEST(pam_says_who_is_read_and_who_is_written)
{
    board_with_rom();
    static const struct {
        unsigned reg, shift;
        paddr at;
    } segment[] = { { 0x59, 4, 0xf0000 }, { 0x59, 4, 0xffff0 }, { 0x5a, 0, 0xc0000 }, { 0x5a, 4, 0xc4000 },
                    { 0x5d, 4, 0xdffff }, { 0x5e, 0, 0xe3ff0 }, { 0x5f, 4, 0xec000 } };
    for (unsigned i = 0; i < ARRAY_LEN(segment); i++) {
        paddr at = segment[i].at;
        u8 before = look(at), mine = (u8)(0x40 + i);
        ck_assert_uint_ne(before, mine);
        pam(segment[i].reg, (u8)(2 << segment[i].shift));
        bus_mmio_write(rt.bus, at, 1, mine);
        ck_assert_uint_eq(before, look(at));
        pam(segment[i].reg, (u8)(1 << segment[i].shift));
        ck_assert_uint_eq(mine, look(at));
        bus_mmio_write(rt.bus, at, 1, 0);
        ck_assert_uint_eq(mine, look(at));
        pam(segment[i].reg, (u8)(3 << segment[i].shift));
        bus_mmio_write(rt.bus, at, 1, 0x99);
        ck_assert_uint_eq(0x99, look(at));
        pam(segment[i].reg, 0);
        ck_assert_uint_eq(before, look(at));
    }
    board_end();
}
END_TEST

START_TEST(a_reset_shows_the_rom_again_and_ram_keeps_what_it_had)
{
    board_with_rom();
    pam(0x59, 0x30);
    bus_mmio_write(rt.bus, 0xf0000, 4, 0x12345678);
    bus_mmio_write(rt.bus, 0x5000, 4, 0x9abcdef0);
    ck_assert_int_eq(0, pc_reset(pc));
    ck_assert_uint_eq(rom_bytes[0x30000], look(0xf0000));
    ck_assert_uint_eq(0x9abcdef0, bus_mmio_read(rt.bus, 0x5000, 4));
    pam(0x59, 0x10);
    ck_assert_uint_eq(0x12345678, bus_mmio_read(rt.bus, 0xf0000, 4));
    board_end();
}
END_TEST

START_TEST(the_keyboard_controller_and_port_92h_reset_the_processor_alone)
{
    board_with_rom();
    inits = resets = 0;
    out8(0x64, 0xfe);
    ck_assert_uint_eq(1, inits);
    out8(0x92, 0x03);
    ck_assert_uint_eq(2, inits);
    ck_assert_uint_eq(0, resets);
    out8(ACPI_RESET_PORT, ACPI_RESET_VALUE);
    ck_assert_uint_eq(1, resets);
    board_end();
}
END_TEST

static void put_be(paddr at, u64 v, unsigned n)
{
    for (unsigned i = 0; i < n; i++) bus_mmio_write(rt.bus, at + i, 1, v >> 8 * (n - 1 - i) & 0xff);
}
/* Selects key, and reads n bytes of it to 0x2000. */
static void fw_dma(u16 key, u32 n)
{
    put_be(0x1000, (u32)key << 16 | 8 | 2, 4);
    put_be(0x1004, n, 4);
    put_be(0x1008, 0x2000, 8);
    bus_out(rt.bus, 0x514, 4, 0);
    bus_out(rt.bus, 0x518, 4, __builtin_bswap32(0x1000));
    ck_assert_uint_eq(0, peek(0x1000, 4));
}

START_TEST(firmware_is_told_of_memory_and_acpi_by_dma)
{
    board_with_rom();
    fw_dma(0x19, 4);
    u32 files = __builtin_bswap32(peek(0x2000, 4)), found = 0;
    ck_assert_uint_le(files, 64);
    for (u32 i = 0; i < files; i++) {
        char name[57] = "";
        fw_dma(0x19, 4 + 64 * (i + 1));
        bus_dma_read(rt.bus, 0x2000 + 4 + 64 * i + 8, name, 56);
        u16 key = __builtin_bswap16((u16)peek(0x2000 + 4 + 64 * i + 4, 2));
        u32 n = __builtin_bswap32(peek(0x2000 + 4 + 64 * i, 4));
        fw_dma(key, n);
        if (!strcmp(name, "etc/e820")) {
            found |= 1;
            ck_assert_uint_eq(20, n);
            ck_assert_uint_eq(64 << 20, peek(0x2008, 4));
            ck_assert_uint_eq(E820_RAM, peek(0x2010, 4));
        }
        if (!strcmp(name, "etc/acpi/rsdp")) {
            found |= 2;
            ck_assert_uint_eq(0, sum(0x2000, 36));
        }
        if (!strcmp(name, "etc/table-loader")) {
            found |= 4;
            ck_assert_uint_eq(0, n % 128);
            ck_assert_uint_eq(1, peek(0x2000, 4)); /* allocates first */
        }
    }
    ck_assert_uint_eq(7, found);
    board_end();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pc");
    TCase *t = tcase_create("pc");
    tcase_set_timeout(t, 30);
    tcase_add_loop_test(t, the_memory_map_is_sorted_without_overlap_and_adds_up, 0, (int)ARRAY_LEN(sizes));
    tcase_add_loop_test(t, an_os_finds_the_acpi_tables_by_searching, 0, (int)ARRAY_LEN(sizes));
    tcase_add_test(t, a_system_without_acpi_finds_the_same_in_the_mp_tables);
    tcase_add_test(t, com1_is_left_as_firmware_leaves_it);
    tcase_add_test(t, the_bios_data_area_tells_of_the_ebda_and_com1);
    tcase_add_test(t, the_timer_interrupts_through_the_pic);
    tcase_add_test(t, the_timers_reset_is_no_interrupt);
    tcase_add_test(t, the_timer_interrupts_through_the_io_apic_pin_2);
    tcase_add_test(t, power_off_reset_and_debug_exit_reach_the_machine);
    tcase_add_loop_test(t, a_debug_exit_port_that_is_taken_is_refused, 0, 10);
    tcase_add_test(t, a_closed_a20_gate_makes_the_second_megabyte_the_first);
    tcase_add_test(t, the_rom_is_below_4_gib_and_its_end_below_1_mib);
    tcase_add_test(t, pam_says_who_is_read_and_who_is_written);
    tcase_add_test(t, a_reset_shows_the_rom_again_and_ram_keeps_what_it_had);
    tcase_add_test(t, the_keyboard_controller_and_port_92h_reset_the_processor_alone);
    tcase_add_test(t, firmware_is_told_of_memory_and_acpi_by_dma);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
