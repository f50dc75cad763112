/* The MultiProcessor Specification's tables, for systems that know no ACPI: what is said there of APICs and interrupts,
 * said once more. */
#ifndef SRC_MP_TABLES_H
#define SRC_MP_TABLES_H
#include "core/types.h"

struct mp_config {
    u32 tables; /* where the blob will be: 16-byte aligned, in 0xf0000..0xfffff */
    u32 lapic_base, ioapic_base;
    u8 cpus, ioapic_id; /* APIC IDs are 0..cpus-1, the I/O APIC's another */
    u8 sci_irq;         /* level-triggered, active high, as the MADT says */
};
#define MP_TABLES_MAX 2048
struct mp_tables {
    u8 blob[MP_TABLES_MAX]; /* the floating pointer, and behind it the configuration table */
    size_t len;
};
void mp_tables_build(struct mp_tables *out, const struct mp_config *cfg); /* cfg->cpus is 1 to 16 */

#endif
