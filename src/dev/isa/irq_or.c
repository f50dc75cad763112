/* Owns a wire that two chips drive: high while either of them wants it. */
#include "core/snap.h"
#include "src/dev/pc_devices.h"

#include <errno.h>

struct irq_or {
    u8 levels; /* bit n: of input n */
    struct irq_line out;
};

static const struct snap_field irq_or_fields[] = { SNAP(struct irq_or, levels, .keep = true, .max = 3), { 0 } };
static const struct snap_table irq_or_table = { .name = "shared irq",
                                                .version = 1,
                                                .size = sizeof(struct irq_or),
                                                .fields = irq_or_fields };

static void input_set(void *opaque, unsigned n, bool level)
{
    struct irq_or *o = opaque;
    o->levels = (u8)((o->levels & ~(1u << n)) | (unsigned)level << n);
    irq_set(&o->out, o->levels);
}

struct irq_line irq_or_input(struct irq_or *o, unsigned n)
{
    BUG_ON(n > 1);
    return (struct irq_line){ input_set, o, n };
}

struct snap_part irq_or_part(struct irq_or *o, const char *name)
{
    return (struct snap_part){ name, &irq_or_table, o };
}

int irq_or_new(struct irq_or **out, struct irq_line to)
{
    struct irq_or *o = calloc(1, sizeof *o);
    if (!o) return -ENOMEM;
    o->out = to;
    *out = o;
    return 0;
}

void irq_or_free(struct irq_or *o) { free(o); }
