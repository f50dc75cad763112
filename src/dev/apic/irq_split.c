/* Owns nothing: hands the level of one wire on to several. The board uses it where an ISA interrupt reaches both
 * the 8259A and the I/O APIC. */
#include "src/dev/pc_devices.h"

static void irq_split_set(void *opaque, unsigned n UNUSED, bool level)
{
    struct irq_split *s = opaque;

    for (unsigned i = 0; i < ARRAY_LEN(s->out); i++) irq_set(&s->out[i], level);
}

struct irq_line irq_split_input(struct irq_split *s) { return (struct irq_line){ .set = irq_split_set, .opaque = s }; }
