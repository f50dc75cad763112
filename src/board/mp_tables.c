/* Owns the layout of the MP tables. MultiProcessor Specification 1.4, chapter 4: a bus, an interrupt and its I/O APIC
 * input are an entry each. Enter at mp_tables_build(). */
#include "src/board/mp_tables.h"

#include <string.h>

enum { FLOATING = 16, SPEC_1_4 = 4, CPU_ENABLED = 1, CPU_BOOT = 2 };
enum { ENTRY_CPU, ENTRY_BUS, ENTRY_IOAPIC, ENTRY_IO_INTERRUPT, ENTRY_LOCAL_INTERRUPT };
enum { INT_VECTORED = 0, INT_NMI = 1, INT_EXTINT = 3 };
enum { CONFORMS = 0, HIGH_LEVEL = 0x0d, LOW_LEVEL = 0x0f }; /* polarity and trigger mode */
enum { BUS_PCI, BUS_ISA };
enum { PCI_DEVICES = 32, PIRQ_PIN = 16, ALL_APICS = 0xff, APIC_VERSION = 0x14, IOAPIC_VERSION = 0x11 };

/* What the specification has for a processor without CPUID: family 6, FPU and APIC. */
enum { CPU_SIGNATURE = 0x600, CPU_FEATURES = 0x201 };

static void put(struct mp_tables *t, u32 v, unsigned n)
{
    BUG_ON(t->len + n > sizeof t->blob);
    for (; n--; v >>= 8) t->blob[t->len++] = (u8)v;
}

static void put_text(struct mp_tables *t, const char *text, size_t n)
{
    BUG_ON(t->len + n > sizeof t->blob);
    memcpy(t->blob + t->len, text, n);
    t->len += n;
}

static void put_interrupt(struct mp_tables *t, u8 entry, u8 type, u32 flags, u8 bus, u32 irq, u8 apic, u32 pin)
{
    put(t, entry, 1);
    put(t, type, 1);
    put(t, flags, 2);
    put(t, bus, 1);
    put(t, irq, 1);
    put(t, apic, 1);
    put(t, pin, 1);
}

static void put_bus(struct mp_tables *t, u8 id, const char name[6])
{
    put(t, ENTRY_BUS, 1);
    put(t, id, 1);
    put_text(t, name, 6);
}

static void put_cpu(struct mp_tables *t, u8 id)
{
    put(t, ENTRY_CPU, 1);
    put(t, id, 1);
    put(t, APIC_VERSION, 1);
    put(t, CPU_ENABLED | (id == 0 ? CPU_BOOT : 0), 1);
    put(t, CPU_SIGNATURE, 4);
    put(t, CPU_FEATURES, 4);
    put(t, 0, 4);
    put(t, 0, 4);
}

/* Returns how many entries there are. */
static unsigned put_entries(struct mp_tables *t, const struct mp_config *cfg)
{
    unsigned n = cfg->cpus + 3u;
    for (u8 id = 0; id < cfg->cpus; id++) put_cpu(t, id);
    put_bus(t, BUS_PCI, "PCI   ");
    put_bus(t, BUS_ISA, "ISA   ");
    put(t, ENTRY_IOAPIC, 1);
    put(t, cfg->ioapic_id, 1);
    put(t, IOAPIC_VERSION, 1);
    put(t, 1, 1); /* usable */
    put(t, cfg->ioapic_base, 4);
    for (u32 irq = 0; irq < 16; irq++) {
        if (irq == 2) continue; /* the cascade */
        put_interrupt(t, ENTRY_IO_INTERRUPT, INT_VECTORED, irq == cfg->sci_irq ? HIGH_LEVEL : CONFORMS, BUS_ISA, irq,
                      cfg->ioapic_id, irq == 0 ? 2 : irq);
        n++;
    }
    for (u32 source = 0; source < PCI_DEVICES * 4;
         source++, n++) /* device * 4 + INTx; it is PIRQ (device + x - 1) mod 4 */
        put_interrupt(t, ENTRY_IO_INTERRUPT, INT_VECTORED, LOW_LEVEL, BUS_PCI, source, cfg->ioapic_id,
                      PIRQ_PIN + (source / 4 + source + 3) % 4);
    put_interrupt(t, ENTRY_LOCAL_INTERRUPT, INT_EXTINT, CONFORMS, BUS_ISA, 0, ALL_APICS, 0);
    put_interrupt(t, ENTRY_LOCAL_INTERRUPT, INT_NMI, CONFORMS, BUS_ISA, 0, ALL_APICS, 1);
    return n + 2;
}

static u8 checksum(const u8 *p, size_t n)
{
    u8 sum = 0;
    while (n--) sum += *p++;
    return (u8)-sum;
}

void mp_tables_build(struct mp_tables *out, const struct mp_config *cfg)
{
    BUG_ON(!cfg->cpus || cfg->cpus > 16);
    *out = (struct mp_tables){ 0 };
    put_text(out, "_MP_", 4);
    put(out, cfg->tables + FLOATING, 4);
    put(out, FLOATING / 16, 1);
    put(out, SPEC_1_4, 1);
    put(out, 0, 4); /* checksum; no default configuration; virtual wire mode, so no IMCR */
    put(out, 0, 2);

    put_text(out, "PCMP", 4);
    put(out, 0, 4); /* length, version, checksum: below */
    put_text(out, "TRNSVISR", 8);
    put_text(out, "PC          ", 12);
    put(out, 0, 4); /* no OEM table */
    put(out, 0, 4); /* its size, and the number of entries */
    put(out, cfg->lapic_base, 4);
    put(out, 0, 4); /* no extended table */

    u8 *table = out->blob + FLOATING;
    unsigned n = put_entries(out, cfg);
    size_t len = out->len - FLOATING;
    table[4] = (u8)len;
    table[5] = (u8)(len >> 8);
    table[6] = SPEC_1_4;
    table[34] = (u8)n;
    table[35] = (u8)(n >> 8);
    table[7] = checksum(table, len);
    out->blob[10] = checksum(out->blob, FLOATING);
}
