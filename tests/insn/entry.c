/* What a Multiboot kernel finds when it is entered: kernels out in the world rely on more than the specification
 * says. */
#include "rt.h"

const char guest_name[] = "entry";

enum { COM1 = 0x3f8, IRQ_COM1 = 4, MCR_OUT2 = 8, IER_THRE = 2, SELECTOR = ~7 };

static bool ends_with(const char *text, u32 n, const char *end)
{
    u32 len = 0;
    while (end[len])
        len++;
    return n >= len && !memcmp(text + n - len, end, len);
}

static void the_command_line_begins_with_the_kernels_name(void)
{
    u32 n = 0;
    while (command_line[n] && command_line[n] != ' ')
        n++;
    CHECK(ends_with(command_line, n, "entry.elf"));
}

static void there_is_a_stack(void)
{
    CHECK(entry_esp > PAGE && entry_esp <= RAM_SIZE);
    CHECK(entry_esp <= 0x9fc00 || entry_esp >= (u32)image_end);
    poke(entry_esp - 4, 0x12345678);
    CHECK_EQ(peek(entry_esp - 4), 0x12345678);
}

static void selectors_follow_each_other(void)
{
    CHECK(entry_cs == 0x10 || entry_cs == 0x08);
    CHECK_EQ(entry_cs & SELECTOR, entry_cs);
    CHECK_EQ(entry_ds, entry_cs + 8);
}

/* A kernel that prints by interrupts alone may never have heard of OUT2. */
static void the_serial_port_can_interrupt(void)
{
    CHECK(inb(COM1 + 4) & MCR_OUT2);
    CHECK(!(pic_irr() >> IRQ_COM1 & 1));
    outb(COM1 + 1, IER_THRE);
    CHECK(pic_irr() >> IRQ_COM1 & 1);
    outb(COM1 + 1, 0);
}

static u8 sum(u32 at, u32 n)
{
    u8 s = 0;
    while (n--)
        s += peek8(at++);
    return s;
}

static void mp_tables_are_found_by_searching(void)
{
    u32 at = 0xf0000;
    while (at < 0x100000 && (memcmp((void *)at, "_MP_", 4) || sum(at, 16)))
        at += 16;
    CHECK(at < 0x100000);
    u32 table = peek(at + 4);
    CHECK(!memcmp((void *)table, "PCMP", 4));
    CHECK_EQ(sum(table, peek(table + 4) & 0xffff), 0);
    CHECK_EQ(peek(table + 36), APIC_BASE);
}

void guest_main(void)
{
    section("entry");
    the_command_line_begins_with_the_kernels_name();
    there_is_a_stack();
    selectors_follow_each_other();
    the_serial_port_can_interrupt();
    mp_tables_are_found_by_searching();
}
