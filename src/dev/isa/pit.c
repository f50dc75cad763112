/* Owns the 8254's three counters and port B (0x61): the speaker's gate, the refresh toggle, OUT2.
 * Nothing counts here: all is derived from how many periods of the 1.193182 MHz clock have passed since power-on.
 *   I1  reload is 1..65536 (10000 in BCD): a guest's 0 means the most.                          [counter_load]
 *   I2  a counter's running value is a function of (mode, reload, origin, now); origin is the clock tick at which its
 *       count was (or will be) loaded into the counting element, so no error accumulates.       [counter_sync moves it]
 *   I3  tick is armed iff counter 0 has an edge to come.                                        [pit_schedule]
 * Enter at pit_write(). Intel 8254, 231164-005; what departs from it says NOT-HW.
 *
 * Late ticks. When the host kept us from running, several rising edges of OUT0 are due at once. They are not dropped:
 * one is given at once and the rest are owed, given an eighth of a period apart, so that a guest that counts ticks soon
 * has them. At most OWED_MAX_NS worth is owed: after a longer stop the guest simply loses time. (Most of what the host
 * takes never becomes late ticks: guest time does not run on meanwhile, runtime/run/time.c.)
 *
 * Reads take as long as an 8-bit I/O cycle on the ISA bus. Guests calibrate their clocks by polling these ports, and
 * judge the result by comparing the slowest poll with the fastest: far faster ones than a PC's make every hiccup look
 * bad. NOT-HW: in mode 3 the interrupt line stays high through the low half of the square wave. The rising edge is what
 * matters to the 8259A, and a falling edge before the acknowledge would lose the tick. */
#include "src/dev/isa/byte_ports.h"
#include "core/snap.h"
#include "src/dev/pc_devices.h"

#include <errno.h>

#define NS_PER_S 1000000000ull
#define ISA_READ_NS 1000u
#define OWED_MAX_NS NS_PER_S
#define MIN_SPACING_NS 50000u /* a guest asking for more than 20000 ticks a second must not keep us from running it */
#define REFRESH_HALF_NS 15085u
#define NEVER (1ll << 60) /* clock tick: 30000 years from now */

enum { ACCESS_LATCH, ACCESS_LSB, ACCESS_MSB, ACCESS_BOTH };

struct counter {
    u8 mode, access;
    bool bcd, gate;
    bool loaded;              /* a count is in the counting element (modes 1, 5: or waits for its trigger) */
    bool triggered;           /* modes 1 and 5: the gate has risen since the control word */
    bool null_count;          /* a count was written that is not yet in the counting element */
    bool write_msb, read_msb; /* ACCESS_BOTH: which byte is next */
    u8 write_lsb;
    u32 reload;
    s64 origin;     /* clock tick of the load */
    s64 stopped_at; /* gate low: the tick at which counting stopped */
    bool has_next;  /* modes 2 and 3: a new count for the end of this (half) cycle, which is at next_at */
    u32 next_reload;
    s64 next_at;
    bool status_latched;
    u8 status;
    u8 count_bytes; /* how many latched bytes are still to be read */
    u16 count;
};

struct pit {
    struct counter c[3];
    u8 port_b; /* bits 0..3 as written */
    struct clock *clk;
    struct irq_line irq0;
    struct timer tick;
    s64 next_edge; /* clock tick of the next rising edge of OUT0; -1: none */
    u64 owed;
    struct dev_event speaking; /* the speaker is about to hear something else */
};

/* Differences of ticks stay far from what 64 bits hold. */
#define PIT_TICK .min = -(1 << 20), .max = NEVER
#define PIT_COUNT .reset = 65536, .max = 65536
static const struct snap_field pit_fields[] = {
    SNAP_COLUMN(struct pit, c, mode, .reset = 3, .max = 5),
    SNAP_COLUMN(struct pit, c, access, .reset = ACCESS_BOTH, .max = ACCESS_BOTH),
    SNAP_COLUMN(struct pit, c, bcd),
    SNAP_COLUMN(struct pit, c, gate, .reset = 1),
    SNAP_COLUMN(struct pit, c, loaded),
    SNAP_COLUMN(struct pit, c, triggered),
    SNAP_COLUMN(struct pit, c, null_count, .reset = 1),
    SNAP_COLUMN(struct pit, c, write_msb),
    SNAP_COLUMN(struct pit, c, read_msb),
    SNAP_COLUMN(struct pit, c, write_lsb),
    SNAP_COLUMN(struct pit, c, reload, PIT_COUNT),
    SNAP_COLUMN(struct pit, c, origin, PIT_TICK),
    SNAP_COLUMN(struct pit, c, stopped_at, PIT_TICK),
    SNAP_COLUMN(struct pit, c, has_next),
    SNAP_COLUMN(struct pit, c, next_reload, PIT_COUNT),
    SNAP_COLUMN(struct pit, c, next_at, PIT_TICK),
    SNAP_COLUMN(struct pit, c, status_latched),
    SNAP_COLUMN(struct pit, c, status),
    SNAP_COLUMN(struct pit, c, count_bytes, .max = 2),
    SNAP_COLUMN(struct pit, c, count),
    SNAP(struct pit, port_b, .max = 15),
    SNAP(struct pit, tick),
    SNAP(struct pit, next_edge, .reset = (u64)-1, .min = -1, .max = NEVER),
    SNAP(struct pit, owed, .max = 2 * PIT_HZ),
    { 0 },
};

static s64 pit_ticks(const struct pit *p) { return (unsigned __int128)clock_now(p->clk) * PIT_HZ / NS_PER_S; }

/* The first ns at which pit_ticks() gives t. */
static u64 tick_to_ns(s64 t) { return ((unsigned __int128)t * NS_PER_S + PIT_HZ - 1) / PIT_HZ; }

static bool counter_periodic(const struct counter *c) { return c->mode == 2 || c->mode == 3; }
static u32 counter_modulus(const struct counter *c) { return c->bcd ? 10000 : 65536; }
static u32 high_half(u32 reload) { return (reload + 1) / 2; }

static bool counter_counting(const struct counter *c)
{
    if (!c->loaded) return false;
    return (c->mode == 1 || c->mode == 5) ? c->triggered : true;
}

/* Ticks that the counting element has counted. Negative: the load is still to come. */
static s64 counter_elapsed(const struct counter *c, s64 now)
{
    bool stops = c->mode != 1 && c->mode != 5; /* there the gate is a trigger only */

    return (stops && !c->gate ? c->stopped_at : now) - c->origin;
}

/* Brings the written count into effect when its time has come (I2). */
static void counter_sync(struct counter *c, s64 now)
{
    if (c->has_next && c->gate && now >= c->next_at) {
        /* Mode 3 takes a new count at the end of either half. After the high one, the low half of the new period
         * begins. */
        bool low_half = c->mode == 3 && (c->next_at - c->origin) % c->reload != 0;

        c->reload = c->next_reload;
        c->origin = c->next_at - (low_half ? high_half(c->reload) : 0);
        c->has_next = false;
        c->null_count = false;
    }
    if (c->null_count && !c->has_next && counter_counting(c) && now >= c->origin) c->null_count = false;
}

static u32 counter_value(const struct counter *c, s64 now)
{
    s64 e = counter_elapsed(c, now), m = counter_modulus(c);
    s64 n = c->reload, half;

    if (!counter_counting(c)) return c->loaded ? n % m : 0;
    if (e < 0) e = 0;
    switch (c->mode) {
    case 2: return (n - e % n) % m;
    case 3:
        e %= n;
        half = high_half(n);
        if (e >= half) e -= half;
        return ((n & ~1ll) - 2 * e) % m;
    default: /* runs on through zero */ return (((n - e) % m) + m) % m;
    }
}

static bool counter_out(const struct counter *c, s64 now)
{
    s64 e = counter_elapsed(c, now);

    if (!counter_counting(c) || e < 0) return c->mode != 0;
    switch (c->mode) {
    case 0:
    case 1: return e >= c->reload;
    case 2: return !c->gate || e % c->reload != c->reload - 1;
    case 3: return !c->gate || e % c->reload < high_half(c->reload);
    default: return e != c->reload;
    }
}

/* The first rising edge of OUT after now; -1 if there is none to come. */
static s64 counter_next_edge(const struct counter *c, s64 now)
{
    s64 e = counter_elapsed(c, now), n = c->reload;

    if (!counter_counting(c)) return -1;
    if (!c->gate && c->mode != 1 && c->mode != 5) return -1;
    switch (c->mode) {
    case 0:
    case 1: return e < n ? c->origin + n : -1;
    case 2:
    case 3: return c->origin + (e < 0 ? 1 : e / n + 1) * n;
    default: return e < n + 1 ? c->origin + n + 1 : -1;
    }
}

static u16 to_bcd(u32 v) { return v % 10 | v / 10 % 10 << 4 | v / 100 % 10 << 8 | v / 1000 % 10 << 12; }
static u32 from_bcd(u16 v) { return (v & 15) + (v >> 4 & 15) * 10 + (v >> 8 & 15) * 100 + (v >> 12 & 15) * 1000; }

static void pit_pulse(struct pit *p)
{
    irq_set(&p->irq0, false);
    irq_set(&p->irq0, true);
}

/* Arms the timer for the next edge of OUT0, regular or owed (I3). */
static void pit_schedule(struct pit *p)
{
    struct counter *c = &p->c[0];
    u64 now = clock_now(p->clk), due, sooner, soonest = now + MIN_SPACING_NS;

    if (p->next_edge < 0) {
        timer_cancel(&p->tick);
        return;
    }
    due = tick_to_ns(p->next_edge);
    if (p->owed) {
        sooner = now + (u64)c->reload * NS_PER_S / PIT_HZ / 8;
        if (sooner < due) due = sooner;
    }
    timer_arm(&p->tick, counter_periodic(c) && due < soonest ? soonest : due);
}

/* Counter 0 was reprogrammed. */
static void pit_restart(struct pit *p, s64 now)
{
    struct counter *c = &p->c[0];

    p->owed = 0;
    p->next_edge = counter_next_edge(c, now);
    irq_set(&p->irq0, counter_periodic(c) || counter_out(c, now));
    pit_schedule(p);
}

static void pit_tick(void *arg)
{
    struct pit *p = arg;
    struct counter *c = &p->c[0];
    s64 now = pit_ticks(p), edges = 0;
    u64 most;

    counter_sync(c, now);
    if (p->next_edge >= 0 && now >= p->next_edge) {
        edges = counter_periodic(c) ? (now - p->next_edge) / c->reload + 1 : 1;
        p->next_edge = counter_next_edge(c, now);
    }
    p->owed += edges;
    most = OWED_MAX_NS * PIT_HZ / NS_PER_S / c->reload;
    if (p->owed > most + 1) p->owed = most + 1;
    if (p->owed) {
        p->owed--;
        pit_pulse(p);
    }
    pit_schedule(p);
}

/* A complete count has been written. */
static void counter_load(struct counter *c, u16 val, s64 now)
{
    u32 n = c->bcd ? from_bcd(val) : val;
    s64 e, half;

    if (n == 0) n = counter_modulus(c);
    c->null_count = true;
    if (counter_periodic(c) && counter_counting(c)) {
        e = counter_elapsed(c, now);
        if (e >= 0) {
            half = high_half(c->reload);
            c->next_at = c->origin + (e / c->reload + 1) * c->reload;
            if (c->mode == 3 && e % c->reload < half) c->next_at -= c->reload - half;
            c->next_reload = n;
            c->has_next = true;
            return;
        }
    }
    if (c->triggered) { /* a one-shot that has begun goes on; the next trigger takes the new count */
        c->next_at = NEVER;
        c->next_reload = n;
        c->has_next = true;
        return;
    }
    c->reload = n;
    c->loaded = true;
    if (c->mode == 1 || c->mode == 5) return; /* waits for its trigger */
    c->origin = now + 1;                      /* the next CLK pulse loads it */
    c->stopped_at = now + 1;
}

static void counter_write(struct counter *c, u8 val, s64 now)
{
    switch (c->access) {
    case ACCESS_LSB: counter_load(c, val, now); break;
    case ACCESS_MSB: counter_load(c, val << 8, now); break;
    case ACCESS_BOTH:
        if (c->write_msb) {
            counter_load(c, val << 8 | c->write_lsb, now);
        } else {
            c->write_lsb = val;
            if (c->mode == 0) c->loaded = false; /* writing the first byte stops the count, OUT goes low */
        }
        c->write_msb = !c->write_msb;
    }
}

static void counter_latch_count(struct counter *c, s64 now)
{
    u32 v;

    if (c->count_bytes) return; /* the first latch holds until it is read */
    v = counter_value(c, now);
    c->count = c->bcd ? to_bcd(v) : v;
    c->count_bytes = c->access == ACCESS_BOTH ? 2 : 1;
}

static void counter_latch_status(struct counter *c, s64 now)
{
    if (c->status_latched) return;
    c->status = counter_out(c, now) << 7 | c->null_count << 6 | c->access << 4 | c->mode << 1 | c->bcd;
    c->status_latched = true;
}

static u8 counter_read(struct counter *c, s64 now)
{
    u16 v = c->count;
    bool msb;

    if (c->status_latched) {
        c->status_latched = false;
        return c->status;
    }
    if (c->count_bytes) {
        c->count_bytes--;
    } else {
        v = counter_value(c, now);
        if (c->bcd) v = to_bcd(v);
    }
    msb = c->access == ACCESS_MSB || (c->access == ACCESS_BOTH && c->read_msb);
    if (c->access == ACCESS_BOTH) c->read_msb = !c->read_msb;
    return msb ? v >> 8 : v;
}

static void counter_control(struct counter *c, u8 val)
{
    c->mode = val >> 1 & 7;
    if (c->mode > 5) c->mode -= 4; /* x10, x11 */
    c->access = val >> 4 & 3;
    c->bcd = val & 1;
    c->loaded = c->triggered = c->write_msb = c->read_msb = c->has_next = c->status_latched = false;
    c->null_count = true;
    c->count_bytes = 0;
}

static void counter_gate(struct counter *c, bool level, s64 now)
{
    bool rise = level && !c->gate;

    if (level == c->gate) return;
    counter_sync(c, now);
    if (!level) {
        c->stopped_at = now;
    } else if (rise && c->loaded) {
        if (c->mode == 1 || c->mode == 5 || counter_periodic(c)) { /* trigger: reload on the next CLK */
            c->origin = now + 1;
            c->triggered = c->mode == 1 || c->mode == 5;
            if (c->has_next) c->reload = c->next_reload;
            c->has_next = false;
        } else { /* go on from where it stopped */
            c->origin += now - c->stopped_at;
        }
    }
    c->gate = level;
}

static void pit_control(struct pit *p, u8 val, s64 now)
{
    unsigned n = val >> 6;

    if (n == 3) { /* read-back */
        for (n = 0; n < 3; n++) {
            if (!(val & 2u << n)) continue;
            if (!(val & 0x20)) counter_latch_count(&p->c[n], now);
            if (!(val & 0x10)) counter_latch_status(&p->c[n], now);
        }
        return;
    }
    if ((val >> 4 & 3) == ACCESS_LATCH) {
        counter_latch_count(&p->c[n], now);
        return;
    }
    counter_control(&p->c[n], val);
    if (n == 0) pit_restart(p, now);
}

/* ---- what the speaker hears: OUT2 and port B's bit 1 ---- */

#define PARTS ((s64)PIT_SPEAKER_PARTS)

/* Before counter 2 changes, or is looked at when a new count has taken effect since. */
static void speaker_tell(struct pit *p, s64 now)
{
    const struct counter *c = &p->c[2];

    if (c->has_next && now >= c->next_at) dev_event_fire(&p->speaking, 0);
}

/* Parts for which a periodic counter's OUT is high in its first e, from the load on. */
static s64 periodic_high(const struct counter *c, s64 e)
{
    s64 n = c->reload * PARTS, high = (c->mode == 2 ? c->reload - 1 : high_half(c->reload)) * PARTS;

    if (e <= 0) return e;
    return e / n * high + (e % n < high ? e % n : high);
}

u32 pit_speaker_high(struct pit *p, u64 from, u64 to)
{
    struct counter *c = &p->c[2];
    s64 origin, edge;

    if (!(p->port_b & 2)) return 0;
    counter_sync(c, (s64)(from / PIT_SPEAKER_PARTS));
    origin = c->origin * PARTS;
    if (counter_counting(c) && counter_periodic(c) && c->gate)
        return (u32)(periodic_high(c, (s64)to - origin) - periodic_high(c, (s64)from - origin));
    if (counter_counting(c) && c->mode <= 1 && (c->gate || c->mode == 1)) {
        edge = origin + c->reload * PARTS;
        return edge <= (s64)from ? (u32)(to - from) : edge >= (s64)to ? 0 : (u32)((s64)to - edge);
    }
    return counter_out(c, (s64)(from / PIT_SPEAKER_PARTS)) ? (u32)(to - from) : 0;
}

void pit_on_speaker(struct pit *p, struct dev_event speaking) { p->speaking = speaking; }

/* ---- ports ---- */

static void pit_write(void *dev, u32 off, u8 val)
{
    struct pit *p = dev;
    s64 now = pit_ticks(p);
    bool in_cycle;

    if (off >= 2) dev_event_fire(&p->speaking, 0);
    for (unsigned i = 0; i < 3; i++) counter_sync(&p->c[i], now);
    if (off == 3) {
        pit_control(p, val, now);
        return;
    }
    counter_write(&p->c[off], val, now);
    if (off != 0) return;
    in_cycle = p->c[0].has_next;
    if (!in_cycle) {
        pit_restart(p, now);
        return;
    }
    /* A new count waits for the end of the (half) cycle. Ending the high half, it moves the edge that ends the low one.
     */
    p->next_edge = p->c[0].next_at;
    if (p->c[0].mode == 3 && (p->c[0].next_at - p->c[0].origin) % p->c[0].reload != 0)
        p->next_edge += p->c[0].next_reload - high_half(p->c[0].next_reload);
    pit_schedule(p);
}

static u8 pit_read(void *dev, u32 off)
{
    struct pit *p = dev;
    clock_stall(p->clk, ISA_READ_NS);
    s64 now = pit_ticks(p);

    if (off == 3) return 0xff; /* the control word cannot be read */
    if (off == 2) speaker_tell(p, now);
    counter_sync(&p->c[off], now);
    return counter_read(&p->c[off], now);
}

static u8 port_b_read(void *dev, u32 off UNUSED)
{
    struct pit *p = dev;
    clock_stall(p->clk, ISA_READ_NS);
    s64 now = pit_ticks(p);

    speaker_tell(p, now);
    counter_sync(&p->c[2], now);
    return p->port_b | (clock_now(p->clk) / REFRESH_HALF_NS & 1) << 4 | counter_out(&p->c[2], now) << 5;
}

static void port_b_write(void *dev, u32 off UNUSED, u8 val)
{
    struct pit *p = dev;

    dev_event_fire(&p->speaking, 0);
    p->port_b = val & 0x0f;
    counter_gate(&p->c[2], val & 1, pit_ticks(p));
}

BYTE_PORT_OPS(pit_ops, pit_read, pit_write);
BYTE_PORT_OPS(port_b_ops, port_b_read, port_b_write);

static bool pit_check(const void *chip)
{
    const struct pit *p = chip;

    for (unsigned i = 0; i < 3; i++) {
        const struct counter *c = &p->c[i];

        /* Zero would be divided by; a latch command is no way of access. */
        if (!c->reload || !c->next_reload || c->access == ACCESS_LATCH) return false;
    }
    return true;
}

static void pit_on_reset(void *chip) { pit_reset(chip); }

static const struct snap_table pit_table = { .name = "pit",
                                             .version = 1,
                                             .size = sizeof(struct pit),
                                             .fields = pit_fields,
                                             .reset = pit_on_reset,
                                             .check = pit_check };

struct snap_part pit_part(struct pit *p) { return (struct snap_part){ pit_table.name, &pit_table, p }; }

/* The data sheet leaves the state at power-on undefined: nothing counts until it is programmed. */
void pit_reset(struct pit *p)
{
    snap_reset(&pit_table, p);
    p->c[2].gate = false; /* port B's bit 0 */
    irq_set(&p->irq0, true);
}

int pit_new(struct pit **out, struct bus *b, struct clock *clk, struct irq_line irq0)
{
    struct pit *p = calloc(1, sizeof(*p));
    int err;

    if (!p) return -ENOMEM;
    p->clk = clk;
    p->irq0 = irq0;
    timer_init(&p->tick, clk, pit_tick, p);
    pit_reset(p);
    if ((err = bus_map_pio(b, 0x40, 4, &pit_ops, p, "pit"))) goto fail;
    if ((err = bus_map_pio(b, 0x61, 1, &port_b_ops, p, "port b"))) goto fail_pit;
    *out = p;
    return 0;

fail_pit:
    bus_unmap_pio(b, 0x40);
fail:
    free(p);
    return err;
}

void pit_free(struct pit *p)
{
    if (p) timer_cancel(&p->tick);
    free(p);
}
