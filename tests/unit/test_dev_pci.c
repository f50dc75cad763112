/* PCI: enumeration as a kernel does it, BARs that come and go on the bus, the interrupt router, reset by 0xcf9. */
#include "fake_machine.h"
#include "src/dev/pc_devices.h"

static struct pci *pci;
static struct wire isa[16], apic[4];
static struct event_log reset;

static u32 get(unsigned dev, unsigned fn, unsigned reg, unsigned size)
{
    bus_out(&fake_bus, 0xcf8, 4, 0x80000000u | dev << 11 | fn << 8 | (reg & 0xfc));
    return bus_in(&fake_bus, 0xcfc + (reg & 3), size);
}
static void put(unsigned dev, unsigned fn, unsigned reg, unsigned size, u32 v)
{
    bus_out(&fake_bus, 0xcf8, 4, 0x80000000u | dev << 11 | fn << 8 | (reg & 0xfc));
    bus_out(&fake_bus, 0xcfc + (reg & 3), size, v);
}
static u32 dev_read(void *dev, u32 off, unsigned size UNUSED) { return *(u32 *)dev + off; }
static void dev_write(void *dev, u32 off UNUSED, unsigned size UNUSED, u32 val) { *(u32 *)dev = val; }
static const struct io_ops dev_ops = { dev_read, dev_write };
static u32 reg_io = 0x1000, n_reset;
static void dev_reset(void *opaque UNUSED) { n_reset++; }
static struct pci_desc card(u8 dev, u8 fn)
{
    return (struct pci_desc){
        .dev = dev,
        .fn = fn,
        .vendor = 0x1af4,
        .device = 0x1000,
        .subsys_vendor = 0x1af4,
        .subsys = 1,
        .class_code = 2,
        .int_pin = 1,
        .bar = { { .size = 32, .io = true, .ops = &dev_ops }, { .size = 0x1000, .ops = &dev_ops } },
        .opaque = &reg_io,
        .name = "card",
        .reset = dev_reset,
    };
}

static void setup(void)
{
    struct irq_line i[16], a[4];

    machine_clear();
    memset(isa, 0, sizeof(isa));
    memset(apic, 0, sizeof(apic));
    memset(&reset, 0, sizeof(reset));
    for (unsigned n = 0; n < 16; n++) i[n] = (struct irq_line){ wire_set, isa, n };
    for (unsigned n = 0; n < 4; n++) a[n] = (struct irq_line){ wire_set, apic, n };
    ck_assert_int_eq(pci_new(&pci, &fake_bus, i, a, (struct dev_event){ event_fired, &reset }), 0);
}
static void teardown(void) { pci_free(pci); }

/* A ROM of which the header is wanted, and whose sum is 0. */
static u8 rom[0x1000];
static void rom_make(u16 vendor, u16 device)
{
    static const u8 head[] = { 0x55, 0xaa, 2, 0xe9, 0, 0, 0x77 };
    u8 sum = 0;

    memset(rom, 0xff, sizeof rom);
    memset(rom, 0, 0x400);
    memcpy(rom, head, sizeof head);
    rom[0x18] = 0x20;
    memcpy(rom + 0x20, "PCIR", 4);
    rom[0x24] = (u8)vendor, rom[0x25] = (u8)(vendor >> 8), rom[0x26] = (u8)device, rom[0x27] = (u8)(device >> 8);
    for (unsigned n = 0; n < 0x400; n++) sum = (u8)(sum + rom[n]);
    rom[0x3ff] = (u8)-sum;
}

START_TEST(a_rom_is_for_the_function_that_it_is_on)
{
    struct pci_desc d = card(3, 0);
    u8 sum = 0;

    rom_make(0, 0x8139);
    d.rom = rom;
    d.rom_size = sizeof rom;
    d.bar[1] = (struct pci_bar){ .size = 0 }; /* the ROM alone is memory */
    ck_assert_int_eq(pci_add(pci, NULL, &d), 0);
    ck_assert_mem_eq(rom + 0x24, ((u8[]){ 0xf4, 0x1a, 0x00, 0x10 }), 4);
    for (unsigned n = 0; n < 0x400; n++) sum = (u8)(sum + rom[n]);
    ck_assert_uint_eq(0, sum);
    put(3, 0, 4, 2, 3);
    ck_assert_uint_eq(3, get(3, 0, 4, 2));
}
END_TEST

START_TEST(what_is_no_rom_stays_as_it_is)
{
    u8 was[sizeof rom];

    rom_make(0x1234, 0x1111);
    rom[0x20] = 'p';
    memcpy(was, rom, sizeof rom);
    pci_rom_name(rom, sizeof rom, 1, 2);
    ck_assert_mem_eq(was, rom, sizeof rom);
    rom_make(0x1234, 0x1111);
    rom[0x18] = 0xfe, rom[0x19] = 0xff;
    memcpy(was, rom, sizeof rom);
    pci_rom_name(rom, sizeof rom, 1, 2);
    pci_rom_name(rom, 10, 1, 2);
    ck_assert_mem_eq(was, rom, sizeof rom);
}
END_TEST

START_TEST(the_two_bridges_are_found_and_nothing_else)
{
    unsigned found = 0;

    bus_out(&fake_bus, 0xcf8, 4, 0x80000000u);
    ck_assert_uint_eq(bus_in(&fake_bus, 0xcf8, 4), 0x80000000u);
    for (unsigned dev = 0; dev < 32; dev++)
        for (unsigned fn = 0; fn < 8; fn++) found += get(dev, fn, 0, 4) != 0xffffffff;
    ck_assert_uint_eq(found, 2);
    ck_assert_uint_eq(get(0, 0, 0, 4), 0x12378086);
    ck_assert_uint_eq(get(0, 0, 0x0a, 2), 0x0600);
    ck_assert_uint_eq(get(1, 0, 0, 4), 0x70008086);
    ck_assert_uint_eq(get(1, 0, 0x0a, 2), 0x0601);
    bus_out(&fake_bus, 0xcf8, 4, 0x80010000u); /* bus 1 */
    ck_assert_uint_eq(bus_in(&fake_bus, 0xcfc, 4), 0xffffffff);
    bus_out(&fake_bus, 0xcf8, 4, 0); /* not enabled */
    ck_assert_uint_eq(bus_in(&fake_bus, 0xcfc, 4), 0xffffffff);
}
END_TEST

START_TEST(read_only_registers_stay)
{
    for (unsigned reg = 0; reg < 0x40; reg += 4) {
        u32 before = get(1, 0, reg, 4);
        put(1, 0, reg, 4, ~before);
        if (reg != 0x04 && reg != 0x0c) ck_assert_msg(get(1, 0, reg, 4) == before, "register %02x", reg);
    }
    ck_assert_uint_eq(get(1, 0, 4, 2) & 7, 7);
}
END_TEST

START_TEST(a_function_header_is_sized_and_mapped)
{
    struct pci_fn *f;
    struct pci_desc d = card(3, 0);

    ck_assert_int_eq(pci_add(pci, &f, &d), 0);
    ck_assert_int_eq(pci_add(pci, &f, &d), -EBUSY);
    ck_assert_uint_eq(get(3, 0, 0, 4), 0x10001af4);
    ck_assert_uint_eq(get(3, 0, 0x2c, 4), 0x00011af4);
    ck_assert_uint_eq(get(3, 0, 0x3d, 1), 1);
    put(3, 0, 0x10, 4, 0xffffffff);
    ck_assert_uint_eq(get(3, 0, 0x10, 4), 0xffffffe1);
    put(3, 0, 0x14, 4, 0xffffffff);
    ck_assert_uint_eq(get(3, 0, 0x14, 4), 0xfffff000);
    put(3, 0, 0x18, 4, 0xffffffff);
    ck_assert_uint_eq(get(3, 0, 0x18, 4), 0);
    put(3, 0, 0x10, 4, 0xc000);
    put(3, 0, 0x14, 4, 0xe0000000);
    ck_assert_uint_eq(bus_in(&fake_bus, 0xc004, 4), 0xffffffff);
    put(3, 0, 0x04, 2, 1);
    ck_assert_uint_eq(bus_in(&fake_bus, 0xc004, 4), 0x1004);
    ck_assert_uint_eq(bus_mmio_read(&fake_bus, 0xe0000008, 4), 0xffffffff);
    put(3, 0, 0x04, 2, 3);
    ck_assert_uint_eq(bus_mmio_read(&fake_bus, 0xe0000008, 4), 0x1008);
    put(3, 0, 0x10, 4, 0xd000);
    ck_assert_uint_eq(bus_in(&fake_bus, 0xc004, 4), 0xffffffff);
    ck_assert_uint_eq(bus_in(&fake_bus, 0xd004, 4), 0x1004);
    ck_assert(!pci_fn_bus_master(f));
    put(3, 0, 0x04, 2, 6);
    ck_assert(pci_fn_bus_master(f));
    ck_assert_uint_eq(bus_in(&fake_bus, 0xd004, 4), 0xffffffff);
}
END_TEST

START_TEST(a_bar_over_something_else_stays_unmapped_until_moved)
{
    struct pci_desc d = card(3, 0);

    ck_assert_int_eq(pci_add(pci, NULL, &d), 0);
    put(3, 0, 0x10, 4, 0x0ce0); /* up to 0xcff: the configuration ports */
    put(3, 0, 0x04, 2, 1);
    ck_assert_uint_eq(get(0, 0, 0, 4), 0x12378086);
    put(3, 0, 0x10, 4, 0xc000);
    ck_assert_uint_eq(bus_in(&fake_bus, 0xc000, 4), 0x1000);
}
END_TEST

START_TEST(more_functions_make_a_device_multifunction)
{
    struct pci_desc f0 = card(4, 0), f1 = card(4, 1);

    ck_assert_int_eq(pci_add(pci, NULL, &f1), 0);
    ck_assert_int_eq(pci_add(pci, NULL, &f0), 0);
    ck_assert_uint_eq(get(4, 0, 0x0e, 1), 0x80);
    f1.dev = 1;
    ck_assert_int_eq(pci_add(pci, NULL, &f1), 0);
    ck_assert_uint_eq(get(1, 0, 0x0e, 1), 0x80);
}
END_TEST

START_TEST(intx_reaches_its_pirq_shared_and_routed)
{
    struct pci_fn *a, *b;
    struct pci_desc d3 = card(3, 0), d7 = card(7, 0);

    ck_assert_int_eq(pci_add(pci, &a, &d3), 0);
    ck_assert_int_eq(pci_add(pci, &b, &d7), 0);
    struct irq_line la = pci_fn_irq(a), lb = pci_fn_irq(b);
    irq_set(&la, true); /* (3 + 0 - 1) mod 4: PIRQC */
    ck_assert(apic[2].level && !apic[0].level);
    for (unsigned n = 0; n < 16; n++) ck_assert(!isa[n].level); /* not routed after reset */
    ck_assert_uint_eq(get(3, 0, 6, 1) & 8, 8);
    put(1, 0, 0x62, 1, 11);
    ck_assert(isa[11].level);
    irq_set(&lb, true);
    irq_set(&la, false);
    ck_assert(isa[11].level && apic[2].level);
    put(1, 0, 0x62, 1, 10);
    ck_assert(isa[10].level && !isa[11].level);
    put(1, 0, 0x62, 1, 8); /* not one a PIRQ may go to */
    ck_assert(!isa[8].level && !isa[10].level);
    put(7, 0, 0x04, 2, 0x400); /* INTx disable */
    ck_assert(!apic[2].level);
}
END_TEST

START_TEST(firmware_leaves_everything_assigned)
{
    struct pci_desc d3 = card(3, 0), d4 = card(4, 0);

    ck_assert_int_eq(pci_add(pci, NULL, &d3), 0);
    ck_assert_int_eq(pci_add(pci, NULL, &d4), 0);
    pci_firmware_setup(pci, 0xe0000000, 0xc000);
    ck_assert_uint_eq(get(3, 0, 0x10, 4), 0xc001);
    ck_assert_uint_eq(get(4, 0, 0x10, 4), 0xc021);
    ck_assert_uint_eq(get(3, 0, 0x14, 4), 0xe0000000);
    ck_assert_uint_eq(get(4, 0, 0x14, 4), 0xe0001000);
    ck_assert_uint_eq(bus_in(&fake_bus, 0xc020, 4), 0x1000);
    ck_assert_uint_eq(get(3, 0, 0x3c, 1), 11);
    ck_assert_uint_eq(get(1, 0, 0x60, 4), 0x0b0b0a0a);
}
END_TEST

START_TEST(reset_takes_it_all_back)
{
    struct pci_desc d = card(3, 0);

    ck_assert_int_eq(pci_add(pci, NULL, &d), 0);
    pci_firmware_setup(pci, 0xe0000000, 0xc000);
    n_reset = 0;
    pci_reset(pci);
    ck_assert_uint_eq(n_reset, 1);
    ck_assert_uint_eq(bus_in(&fake_bus, 0xc000, 4), 0xffffffff);
    ck_assert_uint_eq(get(3, 0, 0x10, 4), 1);
    ck_assert_uint_eq(get(1, 0, 0x60, 4), 0x80808080);
}
END_TEST

START_TEST(port_cf9_resets_on_the_rise_of_bit_2)
{
    outb(0xcf9, 0x02);
    ck_assert_uint_eq(reset.count, 0);
    ck_assert_uint_eq(inb(0xcf9), 0x02);
    outb(0xcf9, 0x06);
    ck_assert_uint_eq(reset.count, 1);
    outb(0xcf9, 0x06);
    ck_assert_uint_eq(reset.count, 1);
    bus_out(&fake_bus, 0xcf8, 4, 0x80000600u); /* a dword is CONFIG_ADDRESS, all of it */
    ck_assert_uint_eq(reset.count, 1);
}
END_TEST

START_TEST(random_accesses_do_no_harm)
{
    struct pci_desc d = card(3, 0);
    u32 x = 31337;

    ck_assert_int_eq(pci_add(pci, NULL, &d), 0);
    for (unsigned i = 0; i < 300000; i++) {
        x = x * 1664525 + 1013904223;
        u32 v = x * 2654435761u;
        if (x >> 30 == 0) bus_out(&fake_bus, 0xcf8, 4, 0x80000000u | (x >> 8 & 3) << 11 | (x >> 12 & 0xfc));
        else if (x >> 30 == 1) bus_in(&fake_bus, 0xcfc + (x >> 8 & 3), 1 << (x >> 12 & 1));
        else bus_out(&fake_bus, 0xcfc + (x >> 8 & 3), 1 << (x >> 12) % 3, v);
    }
    ck_assert_uint_le(fake_bus.pio.n, 3);
}
END_TEST

CHIP_SUITE("pci", setup, teardown, a_rom_is_for_the_function_that_it_is_on, what_is_no_rom_stays_as_it_is,
           the_two_bridges_are_found_and_nothing_else, read_only_registers_stay, a_function_header_is_sized_and_mapped,
           a_bar_over_something_else_stays_unmapped_until_moved, more_functions_make_a_device_multifunction,
           intx_reaches_its_pirq_shared_and_routed, firmware_leaves_everything_assigned, reset_takes_it_all_back,
           port_cf9_resets_on_the_rise_of_bit_2, random_accesses_do_no_harm)
