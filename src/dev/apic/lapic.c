/* Owns one CPU's local APIC: its registers, its timer, and what the CPU's INTR and NMI pins show.
 *   I1  The intr wire is lapic_wants_intr(): a deliverable vector in IRR, or an 8259A request that reaches the CPU.
 *       Each entry point ends in lapic_update().
 *   I2  timer is armed iff the counter runs to an expiry that LVT lets through.               [lapic_timer_schedule]
 * Enter at lapic_write() (the guest), lapic_deliver() (the APIC bus), lapic_acknowledge() (the CPU).
 * SDM vol. 3, chapter 11, as in a P6/Atom: version 0x14, six LVT entries, no x2APIC, no TSC deadline.
 *
 * The timer's bus clock is a nominal 1 GHz: one tick is one ns before the divider, which makes counts exact.
 * A periodic timer that is late keeps its phase and drops what it missed; it fires at most 20000 times a second, so
 * that a guest cannot ask for more interrupts than it can be run between.
 *
 * NOT-HW, for want of firmware: reset leaves LINT0 as unmasked ExtINT and LINT1 as NMI (what a BIOS sets up as "virtual
 * wire mode", MP specification 3.6.2.2), and while the APIC is disabled the 8259A's INT passes through to the CPU.
 * INIT and STARTUP do nothing: there is one CPU, and it is running. */
#include "core/snap.h"
#include "src/dev/pc_devices.h"

#include <errno.h>

/* clang-format off */
enum {
    REG_ID = 0x02, REG_VERSION = 0x03, REG_TPR = 0x08, REG_APR = 0x09, REG_PPR = 0x0a, REG_EOI = 0x0b, REG_RRD = 0x0c,
    REG_LDR = 0x0d, REG_DFR = 0x0e, REG_SVR = 0x0f, REG_ISR = 0x10, REG_TMR = 0x18, REG_IRR = 0x20, REG_ESR = 0x28,
    REG_ICR_LO = 0x30, REG_ICR_HI = 0x31, REG_LVT = 0x32, REG_LVT_LAST = 0x37, REG_TICR = 0x38, REG_TCCR = 0x39,
    REG_TDCR = 0x3e,
};
/* clang-format on */
enum { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };
enum {
    LVT_STATUS = 1 << 12,
    LVT_POLARITY = 1 << 13,
    LVT_RIRR = 1 << 14,
    LVT_LEVEL = 1 << 15,
    LVT_MASKED = 1 << 16,
    LVT_PERIODIC = 1 << 17,
};
enum { SVR_ENABLE = 1 << 8, SVR_WRITABLE = 0x3ff };
enum { ESR_SEND_VECTOR = 1 << 5, ESR_RECEIVE_VECTOR = 1 << 6, ESR_REGISTER = 1 << 7 };
enum { ICR_LOGICAL = 1 << 11, ICR_ASSERT = 1 << 14, ICR_LEVEL = 1 << 15, ICR_WRITABLE = 0xccfff };
enum { SHORT_NONE, SHORT_SELF, SHORT_ALL, SHORT_OTHERS };

#define LAPIC_BASE 0xfee00000u
#define LAPIC_LEN 0x1000u
#define APIC_BASE_ENABLE (1u << 11) /* IA32_APIC_BASE.EN */
#define MIN_PERIOD_NS 50000u

struct lapic {
    u32 id, tpr, ldr, dfr, svr, esr, esr_pending, icr_lo, icr_hi;
    u32 lvt[LVT_COUNT];
    u32 isr[8], tmr[8], irr[8];
    bool hw_enabled; /* IA32_APIC_BASE.EN */
    u64 base;        /* where the registers are */
    bool mapped;
    bool lint[2];       /* levels of the inputs */
    bool ioapic_extint; /* an ExtINT message is waiting for the INTA cycle */
    bool intr_level;

    u32 ticr, tdcr;
    bool timer_running;
    u64 timer_start; /* guest ns at which the counter was (as if) loaded with ticr */
    struct timer timer;

    struct bus *bus;
    struct clock *clk;
    struct irq_line intr, nmi;
    int (*pic_ack)(void *pic);
    void *pic;
    void (*eoi)(void *ioapic, u8 vector);
    void *ioapic;
    u8 reset_id;
};

static const struct snap_field lapic_fields[] = {
    SNAP(struct lapic, id, .keep = true, .max = 0xff000000),
    SNAP(struct lapic, tpr, .max = 0xff),
    SNAP(struct lapic, ldr, .max = 0xff000000),
    SNAP(struct lapic, dfr, .reset = 0xffffffff),
    SNAP(struct lapic, svr, .reset = 0xff, .max = SVR_WRITABLE),
    SNAP(struct lapic, esr, .max = 0xff),
    SNAP(struct lapic, esr_pending, .max = 0xff),
    SNAP(struct lapic, icr_lo, .max = ICR_WRITABLE),
    SNAP(struct lapic, icr_hi, .max = 0xff000000),
    SNAP_ARRAY(struct lapic, lvt, .reset = LVT_MASKED),
    SNAP_ARRAY(struct lapic, isr),
    SNAP_ARRAY(struct lapic, tmr),
    SNAP_ARRAY(struct lapic, irr),
    SNAP(struct lapic, hw_enabled, .keep = true),
    SNAP(struct lapic, base, .keep = true, .max = 0xffffff000),
    SNAP(struct lapic, mapped, .keep = true),
    SNAP_ARRAY(struct lapic, lint, .keep = true),
    SNAP(struct lapic, ioapic_extint),
    SNAP(struct lapic, intr_level, .keep = true),
    SNAP(struct lapic, ticr),
    SNAP(struct lapic, tdcr, .max = 0xb),
    SNAP(struct lapic, timer_running),
    SNAP(struct lapic, timer_start),
    SNAP(struct lapic, timer),
    { 0 },
};

static bool bit_test(const u32 *map, unsigned n) { return map[n / 32] >> n % 32 & 1; }
static void bit_assign(u32 *map, unsigned n, bool v)
{
    u32 bit = 1u << n % 32;

    map[n / 32] = v ? map[n / 32] | bit : map[n / 32] & ~bit;
}
/* The highest bit set; -1 if none is. */
static int bit_highest(const u32 *map)
{
    for (int i = 7; i >= 0; i--)
        if (map[i]) return i * 32 + 31 - __builtin_clz(map[i]);
    return -1;
}

static bool lapic_sw_enabled(const struct lapic *l) { return l->hw_enabled && (l->svr & SVR_ENABLE); }

static u8 lapic_ppr(const struct lapic *l)
{
    int isr = bit_highest(l->isr);
    u8 service = isr < 0 ? 0 : isr & 0xf0;

    return (l->tpr & 0xf0) >= service ? l->tpr : service;
}

/* The vector that the CPU would be given now, ExtINT aside; -1 if there is none. */
static int lapic_deliverable(const struct lapic *l)
{
    int irr = bit_highest(l->irr);

    if (!lapic_sw_enabled(l) || irr < 0 || (irr & 0xf0) <= (lapic_ppr(l) & 0xf0)) return -1;
    return irr;
}

static unsigned lvt_delivery(u32 lvt) { return lvt >> 8 & 7; }

/* Is the 8259A asking, and does its request reach the CPU? */
static bool lapic_extint(const struct lapic *l)
{
    u32 lvt = l->lvt[LVT_LINT0];

    if (l->lint[0] && (!lapic_sw_enabled(l) || (!(lvt & LVT_MASKED) && lvt_delivery(lvt) == APIC_EXTINT))) return true;
    return l->ioapic_extint && lapic_sw_enabled(l);
}

static void lapic_update(struct lapic *l)
{
    bool level = lapic_deliverable(l) >= 0 || lapic_extint(l);

    if (level == l->intr_level) return;
    l->intr_level = level;
    irq_set(&l->intr, level);
}

static void lapic_error(struct lapic *l, u32 bit);

/* Accepts a fixed interrupt into IRR. */
static void lapic_accept(struct lapic *l, u8 vector, bool level)
{
    if (vector < 16) {
        lapic_error(l, ESR_RECEIVE_VECTOR);
        return;
    }
    bit_assign(l->irr, vector, true);
    bit_assign(l->tmr, vector, level);
}

/* An event of a local source, as its LVT entry says. */
static void lapic_local(struct lapic *l, unsigned n, bool level)
{
    u32 lvt = l->lvt[n];

    if (lvt & LVT_MASKED || !l->hw_enabled) return;
    switch (n == LVT_TIMER || n == LVT_ERROR ? APIC_FIXED : lvt_delivery(lvt)) {
    case APIC_FIXED:
        if (lapic_sw_enabled(l)) lapic_accept(l, lvt & 0xff, level);
        break;
    case APIC_NMI:
        irq_set(&l->nmi, true);
        irq_set(&l->nmi, false);
        break;
    default: /* ExtINT is a matter of level: lapic_extint(). There is no SMM, and INIT would reset the only CPU */
        break;
    }
}

/* Records an error. The LVT error interrupt must not recurse when its own vector is the illegal one. */
static void lapic_error(struct lapic *l, u32 bit)
{
    bool first = !(l->esr_pending & bit);

    l->esr_pending |= bit;
    if (first) lapic_local(l, LVT_ERROR, false);
}

bool lapic_deliver(void *opaque, const struct apic_msg *m)
{
    struct lapic *l = opaque;
    bool match;

    if (m->dest == 0xff) match = true;
    else if (!m->logical) match = m->dest == l->id >> 24;
    else if (l->dfr >> 28 == 0xf) match = m->dest & l->ldr >> 24;                              /* flat */
    else match = (m->dest & 0xf0) == (l->ldr >> 24 & 0xf0) && (m->dest & l->ldr >> 24 & 0x0f); /* cluster */
    if (!match || !l->hw_enabled) return false;

    switch (m->delivery) {
    case APIC_FIXED:
    case APIC_LOWEST:
        if (!lapic_sw_enabled(l)) return false;
        lapic_accept(l, m->vector, m->level);
        break;
    case APIC_NMI:
        irq_set(&l->nmi, true);
        irq_set(&l->nmi, false);
        break;
    case APIC_EXTINT:
        if (!lapic_sw_enabled(l)) return false;
        l->ioapic_extint = true;
        break;
    default: break;
    }
    lapic_update(l);
    return true;
}

static void lapic_send(struct lapic *l)
{
    u32 icr = l->icr_lo;
    unsigned shorthand = icr >> 18 & 3;
    struct apic_msg m = {
        .dest = shorthand == SHORT_NONE ? l->icr_hi >> 24 : 0xff,
        .logical = shorthand == SHORT_NONE && (icr & ICR_LOGICAL),
        .delivery = lvt_delivery(icr),
        .vector = icr,
    };

    if ((m.delivery == APIC_FIXED || m.delivery == APIC_LOWEST) && m.vector < 16) {
        lapic_error(l, ESR_SEND_VECTOR);
        return;
    }
    if (shorthand == SHORT_OTHERS) return;                    /* nobody else is on the bus */
    if (m.delivery == APIC_EXTINT || m.delivery == 3) return; /* not for software to send */
    lapic_deliver(l, &m);
}

static void lapic_eoi(struct lapic *l)
{
    int vector = bit_highest(l->isr);

    if (vector < 0) return;
    bit_assign(l->isr, vector, false);
    if (bit_test(l->tmr, vector) && l->eoi) l->eoi(l->ioapic, vector);
}

static int lapic_acknowledge(void *opaque)
{
    struct lapic *l = opaque;
    int vector = lapic_deliverable(l);

    if (vector >= 0) {
        bit_assign(l->irr, vector, false);
        bit_assign(l->isr, vector, true);
    } else if (lapic_extint(l)) {
        l->ioapic_extint = false;
        vector = l->pic_ack ? l->pic_ack(l->pic) : -1; /* drops or renews LINT0 itself */
    } else if (lapic_sw_enabled(l) && bit_highest(l->irr) >= 0) {
        vector = l->svr & 0xff; /* the request has been masked since: the spurious vector, and no ISR bit */
    }
    lapic_update(l);
    return vector;
}

/* ---- timer ---- */

/* Bus clocks per count, as a shift. */
static unsigned timer_shift(const struct lapic *l) { return (((l->tdcr & 3) | (l->tdcr >> 1 & 4)) + 1) & 7; }

static u32 lapic_timer_count(const struct lapic *l, u64 now)
{
    u64 elapsed;

    if (!l->timer_running || !l->ticr) return 0;
    elapsed = (now - l->timer_start) >> timer_shift(l);
    if (l->lvt[LVT_TIMER] & LVT_PERIODIC) return l->ticr - elapsed % l->ticr;
    return elapsed < l->ticr ? l->ticr - elapsed : 0;
}

/* All of one register access is of one moment, now: the host may take the processor away for longer than a period
 * between two looks at its clock, and a timer that was started before it and judged after it would never fire. */
static void lapic_timer_schedule(struct lapic *l, u64 now)
{
    u64 period = (u64)l->ticr << timer_shift(l), due = l->timer_start + period;

    timer_cancel(&l->timer);
    if (!l->timer_running || !period || (l->lvt[LVT_TIMER] & LVT_MASKED)) return;
    if (l->lvt[LVT_TIMER] & LVT_PERIODIC) {
        if (due <= now) due = l->timer_start + ((now - l->timer_start) / period + 1) * period;
        if (due < now + MIN_PERIOD_NS && period < MIN_PERIOD_NS) due = now + MIN_PERIOD_NS;
    } else if (due <= now) {
        return; /* expired while masked */
    }
    timer_arm(&l->timer, due);
}

static void lapic_timer_expired(void *arg)
{
    struct lapic *l = arg;

    lapic_local(l, LVT_TIMER, false);
    if (l->lvt[LVT_TIMER] & LVT_PERIODIC) lapic_timer_schedule(l, clock_now(l->clk));
    lapic_update(l);
}

/* Before the timer's registers change: an expiry that is past counts, though its timer has not yet been served. */
static u64 lapic_timer_catch_up(struct lapic *l)
{
    u64 now = clock_now(l->clk);

    if (l->timer.armed && l->timer.deadline <= now) {
        timer_cancel(&l->timer);
        lapic_timer_expired(l);
    }
    return now;
}

/* Divider or mode change under a running counter: it goes on from its present count. */
static void lapic_timer_rebase(struct lapic *l, u32 count, u64 now)
{
    if (!count) l->timer_running = false;
    l->timer_start = now - ((u64)(l->ticr - count) << timer_shift(l));
    lapic_timer_schedule(l, now);
}

/* ---- inputs ---- */

static void lapic_set_lint(void *opaque, unsigned n, bool level)
{
    struct lapic *l = opaque;
    u32 lvt = l->lvt[LVT_LINT0 + n];
    bool rise = level && !l->lint[n];

    l->lint[n] = level;
    /* NOT-HW: a LINT pin in level mode is taken at its rise, like an edge; no PC wires one to a level source but the
     * 8259A. */
    if (rise && lvt_delivery(lvt) != APIC_EXTINT) lapic_local(l, LVT_LINT0 + n, false);
    lapic_update(l);
}

struct irq_line lapic_lint0(struct lapic *l) { return (struct irq_line){ .set = lapic_set_lint, .opaque = l, .n = 0 }; }
struct irq_line lapic_lint1(struct lapic *l) { return (struct irq_line){ .set = lapic_set_lint, .opaque = l, .n = 1 }; }

void lapic_on_eoi(struct lapic *l, void (*eoi)(void *ioapic, u8 vector), void *ioapic)
{
    l->eoi = eoi;
    l->ioapic = ioapic;
}

/* ---- registers ---- */

static const u32 lvt_writable[LVT_COUNT] = {
    [LVT_TIMER] = 0xff | LVT_MASKED | LVT_PERIODIC,
    [LVT_THERMAL] = 0x7ff | LVT_MASKED,
    [LVT_PERF] = 0x7ff | LVT_MASKED,
    [LVT_LINT0] = 0x7ff | LVT_POLARITY | LVT_LEVEL | LVT_MASKED,
    [LVT_LINT1] = 0x7ff | LVT_POLARITY | LVT_LEVEL | LVT_MASKED,
    [LVT_ERROR] = 0xff | LVT_MASKED,
};

static void lapic_write_lvt(struct lapic *l, unsigned n, u32 val)
{
    u64 now = lapic_timer_catch_up(l);
    u32 count = lapic_timer_count(l, now);

    if (!(l->svr & SVR_ENABLE)) val |= LVT_MASKED; /* software-disabled: mask bits cannot be cleared */
    l->lvt[n] = val & lvt_writable[n];
    if (n == LVT_TIMER) lapic_timer_rebase(l, count, now);
}

static void lapic_write_svr(struct lapic *l, u32 val)
{
    u64 now = lapic_timer_catch_up(l);

    l->svr = val & SVR_WRITABLE;
    if (l->svr & SVR_ENABLE) return;
    for (unsigned n = 0; n < LVT_COUNT; n++) l->lvt[n] |= LVT_MASKED;
    lapic_timer_schedule(l, now);
}

static void lapic_write_reg(struct lapic *l, unsigned reg, u32 val)
{
    u64 now;
    u32 count;

    switch (reg) {
    case REG_ID: l->id = val & 0xff000000; break;
    case REG_TPR: l->tpr = val & 0xff; break;
    case REG_EOI: lapic_eoi(l); break;
    case REG_LDR: l->ldr = val & 0xff000000; break;
    case REG_DFR: l->dfr = val | 0x0fffffff; break;
    case REG_SVR: lapic_write_svr(l, val); break;
    case REG_ESR: /* any write shows the errors since the last one */
        l->esr = l->esr_pending;
        l->esr_pending = 0;
        break;
    case REG_ICR_LO:
        l->icr_lo = val & ICR_WRITABLE;
        lapic_send(l);
        break;
    case REG_ICR_HI: l->icr_hi = val & 0xff000000; break;
    case REG_LVT ... REG_LVT_LAST: lapic_write_lvt(l, reg - REG_LVT, val); break;
    case REG_TICR:
        now = lapic_timer_catch_up(l);
        l->ticr = val;
        l->timer_running = val != 0;
        l->timer_start = now;
        lapic_timer_schedule(l, now);
        break;
    case REG_TDCR:
        now = lapic_timer_catch_up(l);
        count = lapic_timer_count(l, now);
        l->tdcr = val & 0xb;
        lapic_timer_rebase(l, count, now);
        break;
    case REG_VERSION:
    case REG_APR:
    case REG_PPR:
    case REG_RRD:
    case REG_ISR ... REG_ESR - 1:
    case REG_TCCR: break; /* read-only */
    default: lapic_error(l, ESR_REGISTER);
    }
}

static u32 lapic_read_reg(struct lapic *l, unsigned reg)
{
    switch (reg) {
    case REG_ID: return l->id;
    case REG_VERSION: return 0x14 | (LVT_COUNT - 1) << 16;
    case REG_TPR: return l->tpr;
    case REG_APR: return lapic_ppr(l); /* arbitration has nobody to lose to */
    case REG_PPR: return lapic_ppr(l);
    case REG_EOI: return 0;
    case REG_RRD: return 0;
    case REG_LDR: return l->ldr;
    case REG_DFR: return l->dfr;
    case REG_SVR: return l->svr;
    case REG_ISR ... REG_ISR + 7: return l->isr[reg - REG_ISR];
    case REG_TMR ... REG_TMR + 7: return l->tmr[reg - REG_TMR];
    case REG_IRR ... REG_IRR + 7: return l->irr[reg - REG_IRR];
    case REG_ESR: return l->esr;
    case REG_ICR_LO: return l->icr_lo;
    case REG_ICR_HI: return l->icr_hi;
    case REG_LVT ... REG_LVT_LAST: return l->lvt[reg - REG_LVT];
    case REG_TICR: return l->ticr;
    case REG_TCCR: return lapic_timer_count(l, clock_now(l->clk));
    case REG_TDCR: return l->tdcr;
    default:
        lapic_error(l, ESR_REGISTER);
        lapic_update(l);
        return 0;
    }
}

/* Registers are 32 bits wide on 16-byte boundaries, and software must access them whole. What it may not do: a narrower
 * read gives its part of the register, a narrower write is dropped; the 12 bytes between registers read as zero. */
static u32 lapic_read(void *dev, u32 off, unsigned size)
{
    unsigned in_reg = off & 15;

    if (in_reg + size > 4) return 0;
    return lapic_read_reg(dev, off >> 4) >> 8 * in_reg & (size == 4 ? ~0u : (1u << 8 * size) - 1);
}

static void lapic_write(void *dev, u32 off, unsigned size, u32 val)
{
    struct lapic *l = dev;

    if (size != 4 || off & 15) return;
    lapic_write_reg(l, off >> 4, val);
    lapic_update(l);
}

static const struct io_ops lapic_ops = { lapic_read, lapic_write };

/* ---- life ---- */

static bool lapic_check(const void *chip)
{
    const struct lapic *l = chip;

    for (unsigned n = 0; n < LVT_COUNT; n++)
        if (l->lvt[n] & ~lvt_writable[n]) return false;
    return !(l->base % LAPIC_LEN) && l->timer_start <= clock_now(l->clk) && (l->hw_enabled || !l->mapped);
}

static void lapic_unmap(void *chip)
{
    struct lapic *l = chip;

    if (l->mapped) bus_unmap_mmio(l->bus, l->base);
    l->mapped = false;
}

static int lapic_loaded(void *chip)
{
    struct lapic *l = chip;
    int err = l->mapped ? bus_map_mmio(l->bus, l->base, LAPIC_LEN, &lapic_ops, l, "lapic") : 0;

    if (err) l->mapped = false;
    return err;
}

static void lapic_on_reset(void *chip) { lapic_reset(chip); }

static const struct snap_table lapic_table = { .name = "lapic",
                                               .version = 1,
                                               .size = sizeof(struct lapic),
                                               .fields = lapic_fields,
                                               .reset = lapic_on_reset,
                                               .check = lapic_check,
                                               .unmap = lapic_unmap,
                                               .loaded = lapic_loaded };

struct snap_part lapic_part(struct lapic *l) { return (struct snap_part){ lapic_table.name, &lapic_table, l }; }

static void lapic_reset_registers(struct lapic *l)
{
    snap_reset(&lapic_table, l);
    l->lvt[LVT_LINT0] = APIC_EXTINT << 8;
    l->lvt[LVT_LINT1] = APIC_NMI << 8;
}

/* WRMSR IA32_APIC_BASE. Clearing EN resets the APIC, as a power-up would (SDM vol. 3, 11.4.3). */
static void lapic_set_apic_base(void *opaque, u64 msr)
{
    struct lapic *l = opaque;
    bool enable = msr & APIC_BASE_ENABLE;
    u64 base = msr & 0xffffff000ull;

    if (base != l->base || !enable) lapic_unmap(l);
    l->base = base;
    if (enable && !l->mapped) /* over something else's addresses: the guest has hidden its APIC, and sees the other
                                 device */
        l->mapped = bus_map_mmio(l->bus, base, LAPIC_LEN, &lapic_ops, l, "lapic") == 0;
    if (!enable && l->hw_enabled) lapic_reset_registers(l);
    l->hw_enabled = enable;
    lapic_update(l);
}

const struct intc_ops lapic_intc_ops = { .acknowledge = lapic_acknowledge, .set_apic_base = lapic_set_apic_base };

void lapic_reset(struct lapic *l)
{
    lapic_reset_registers(l);
    l->id = (u32)l->reset_id << 24;
    lapic_set_apic_base(l, LAPIC_BASE | APIC_BASE_ENABLE);
}

int lapic_new(struct lapic **out, struct bus *b, struct clock *clk, u8 id, struct irq_line intr, struct irq_line nmi,
              int (*pic_ack)(void *pic), void *pic)
{
    struct lapic *l = calloc(1, sizeof(*l));

    if (!l) return -ENOMEM;
    l->bus = b;
    l->clk = clk;
    l->reset_id = id;
    l->intr = intr;
    l->nmi = nmi;
    l->pic_ack = pic_ack;
    l->pic = pic;
    timer_init(&l->timer, clk, lapic_timer_expired, l);
    lapic_reset(l);
    if (!l->mapped) {
        free(l);
        return -EBUSY;
    }
    *out = l;
    return 0;
}

void lapic_free(struct lapic *l)
{
    if (l) timer_cancel(&l->timer);
    free(l);
}
