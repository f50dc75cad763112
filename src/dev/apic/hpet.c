/* Owns the high precision event timers, three of them, at 0xfed00000 (IA-PC HPET specification, 1.0a). Timer 0 is 64
 * bits wide and can be periodic, the others are 32 bits wide, as in Intel's ICH.
 * Nothing counts here: the main counter follows from guest time.
 *   I1  due[n] is the value of the whole main counter at which timer n matches it next, if armed[n].  [look_ahead]
 *   I2  wake is armed iff a timer is armed whose time comes within years.                             [schedule]
 *   I3  Each wire's level follows from what is here, whoever drives it: timers, or for IRQ 0 and 8 without LEG_RT_CNF
 *       the 8254 and the RTC.                                                                         [drive]
 * NOT-HW: a periodic timer's interrupts that came due while the host kept us from running are one; an edge stays high
 * until the next, since the 8259A wants to see the level when it is asked. No FSB delivery.
 * Enter at hpet_write() (the guest), input_set() (the 8254, the RTC). */
#include "core/snap.h"
#include "src/dev/pc_devices.h"

#include <errno.h>

#define TIMERS 3u           /* HPET_ID says so */
#define PERIOD_FS 69841279u /* 14.318180 MHz */
#define FS_PER_NS 1000000u
#define MIN_SPACING_NS 50000u /* as the 8254's: a guest asking for more must not keep us from running it */
#define FAR (1ull << 50)      /* counts: two and a half years */
#define ROUTES 0x00f00000u    /* the I/O APIC's pins that a timer may have */
#define FIRST_ROUTE 20u

/* clang-format off */
enum { GCAP_ID = 0, GEN_CONF = 0x10, GINTR_STA = 0x20, MAIN_CNT = 0xf0, TIMER = 0x100, TIMER_STRIDE = 0x20 };
enum { T_CONF = 0, T_COMPARATOR = 8 };
enum { ENABLE_CNF = 1, LEG_RT_CNF = 2 };
enum { T_LEVEL = 2, T_ENABLE = 4, T_PERIODIC = 8, T_PERIODIC_CAP = 0x10, T_SIZE_CAP = 0x20, T_VAL_SET = 0x40,
       T_32BIT = 0x100, T_ROUTE = 0x3e00, T_ROUTE_SHIFT = 9 };
/* clang-format on */

struct hpet {
    struct clock *clk;
    struct hpet_wires to;
    u8 conf;   /* GEN_CONF */
    u8 status; /* GINTR_STA */
    u8 inputs; /* levels: bit 0 the 8254's, bit 1 the RTC's */
    u64 count; /* the main counter while it is halted; else what it is ahead of guest time */
    u16 timer[TIMERS];
    u64 comparator[TIMERS], period[TIMERS], due[TIMERS];
    bool armed[TIMERS];
    bool edge[TIMERS]; /* of an edge timer: the level it has left */
    struct timer wake;
};

static const struct snap_field hpet_fields[] = {
    SNAP(struct hpet, conf, .max = ENABLE_CNF | LEG_RT_CNF),
    SNAP(struct hpet, status, .max = (1u << TIMERS) - 1),
    SNAP(struct hpet, inputs, .keep = true, .max = 3),
    SNAP(struct hpet, count),
    SNAP_ARRAY(struct hpet, timer),
    SNAP_ARRAY(struct hpet, comparator, .reset = UINT64_MAX),
    SNAP_ARRAY(struct hpet, period),
    SNAP_ARRAY(struct hpet, due),
    SNAP_ARRAY(struct hpet, armed),
    SNAP_ARRAY(struct hpet, edge),
    SNAP(struct hpet, wake),
    { 0 },
};

static bool is_enabled(const struct hpet *h) { return h->conf & ENABLE_CNF; }
static bool replaces(const struct hpet *h, unsigned n) { return n < 2 && h->conf & LEG_RT_CNF; }
static bool is_narrow(const struct hpet *h, unsigned n) { return n || h->timer[n] & T_32BIT; }
static bool is_periodic(const struct hpet *h, unsigned n) { return h->timer[n] & T_PERIODIC && h->period[n]; }
static unsigned route_of(const struct hpet *h, unsigned n) { return (h->timer[n] & T_ROUTE) >> T_ROUTE_SHIFT; }
static u16 writable(unsigned n)
{
    return (u16)(T_LEVEL | T_ENABLE | T_ROUTE | (n ? 0 : T_PERIODIC | T_VAL_SET | T_32BIT));
}

/* ---- time ---- */

static u64 ticks(const struct hpet *h) { return (u64)((unsigned __int128)clock_now(h->clk) * FS_PER_NS / PERIOD_FS); }

static u64 main_count(const struct hpet *h) { return is_enabled(h) ? h->count + ticks(h) : h->count; }

/* Guest time in ns at which the running counter is `count`. */
static u64 time_of(const struct hpet *h, u64 count)
{
    unsigned __int128 fs = (unsigned __int128)(count - h->count) * PERIOD_FS;
    return (u64)((fs + FS_PER_NS - 1) / FS_PER_NS);
}

/* ---- wires ---- */

static bool level_of(const struct hpet *h, unsigned n)
{
    if (!is_enabled(h) || !(h->timer[n] & T_ENABLE)) return false;
    return h->timer[n] & T_LEVEL ? h->status >> n & 1 : h->edge[n];
}

static void drive(const struct hpet *h)
{
    unsigned pins = 0;

    for (unsigned n = 0; n < TIMERS; n++)
        if (!replaces(h, n) && level_of(h, n) && route_of(h, n) >= FIRST_ROUTE)
            pins |= 1u << (route_of(h, n) - FIRST_ROUTE);
    for (unsigned i = 0; i < ARRAY_LEN(h->to.apic); i++) irq_set(&h->to.apic[i], pins >> i & 1);
    for (unsigned n = 0; n < 2; n++) irq_set(&h->to.isa[n], replaces(h, n) ? level_of(h, n) : h->inputs >> n & 1);
}

static void input_set(void *opaque, unsigned n, bool level)
{
    struct hpet *h = opaque;

    h->inputs = (u8)((h->inputs & ~(1u << n)) | (unsigned)level << n);
    if (!replaces(h, n)) irq_set(&h->to.isa[n], level);
}

struct irq_line hpet_legacy_input(struct hpet *h, unsigned n)
{
    BUG_ON(n > 1);
    return (struct irq_line){ input_set, h, n };
}

/* ---- timers ---- */

static void schedule(struct hpet *h)
{
    u64 now = clock_now(h->clk), count = main_count(h), first = UINT64_MAX;

    for (unsigned n = 0; n < TIMERS && is_enabled(h); n++) {
        u64 at;

        if (!h->armed[n] || ((s64)(h->due[n] - count) > 0 && h->due[n] - count > FAR)) continue;
        at = (s64)(h->due[n] - count) > 0 ? time_of(h, h->due[n]) : now;
        if (is_periodic(h, n) && at < now + MIN_SPACING_NS) at = now + MIN_SPACING_NS;
        if (at < first) first = at;
    }
    if (first == UINT64_MAX) timer_cancel(&h->wake);
    else timer_arm(&h->wake, first);
}

/* When timer n matches next, from now on. */
static void look_ahead(struct hpet *h, unsigned n)
{
    u64 count = main_count(h), ahead = h->comparator[n] - count;

    h->due[n] = count + (is_narrow(h, n) ? (u32)ahead : ahead);
    h->armed[n] = true;
}

static void fire(struct hpet *h, unsigned n)
{
    if (!(h->timer[n] & T_ENABLE)) return;
    if (h->timer[n] & T_LEVEL) {
        h->status |= (u8)(1u << n);
    } else {
        h->edge[n] = false;
        drive(h);
        h->edge[n] = true;
    }
    drive(h);
}

static void match(struct hpet *h, unsigned n, u64 count)
{
    u64 step = is_periodic(h, n) ? h->period[n] : 1ull << 32;

    fire(h, n);
    if (!is_periodic(h, n) && !is_narrow(h, n)) {
        h->armed[n] = false;
        return;
    }
    step *= (count - h->due[n]) / step + 1;
    h->due[n] += step;
    if (!is_periodic(h, n)) return;
    h->comparator[n] += step;
    if (is_narrow(h, n)) h->comparator[n] &= UINT32_MAX;
}

static void on_wake(void *opaque)
{
    struct hpet *h = opaque;
    u64 count = main_count(h);

    for (unsigned n = 0; n < TIMERS; n++)
        if (h->armed[n] && (s64)(count - h->due[n]) >= 0) match(h, n, count);
    schedule(h);
}

/* ---- registers ---- */

static void conf_write(struct hpet *h, u64 val)
{
    u8 conf = (u8)(val & (ENABLE_CNF | LEG_RT_CNF));
    bool was = is_enabled(h), is = conf & ENABLE_CNF;

    if (was && !is) h->count += ticks(h);
    if (!was && is) h->count -= ticks(h);
    h->conf = conf;
    for (unsigned n = 0; n < TIMERS && was != is; n++) {
        h->edge[n] = false;
        if (is) look_ahead(h, n);
    }
    drive(h);
}

static void timer_conf_write(struct hpet *h, unsigned n, u64 val)
{
    u16 was = h->timer[n], conf = (u16)(val & writable(n));

    if (!(ROUTES >> ((conf & T_ROUTE) >> T_ROUTE_SHIFT) & 1)) conf = (u16)((conf & ~T_ROUTE) | (was & T_ROUTE));
    h->timer[n] = conf;
    if (is_narrow(h, n)) h->comparator[n] &= UINT32_MAX, h->period[n] &= UINT32_MAX;
    if ((was ^ conf) & (T_LEVEL | T_ROUTE) || !(conf & T_ENABLE)) h->edge[n] = false;
    if (is_enabled(h)) look_ahead(h, n);
    drive(h);
}

/* A periodic timer takes what is written for its period, and with VAL_SET for its next match as well. */
static void comparator_write(struct hpet *h, unsigned n, u64 val, u64 mask)
{
    bool periodic = h->timer[n] & T_PERIODIC, sets = !periodic || h->timer[n] & T_VAL_SET;

    if (is_narrow(h, n)) mask &= UINT32_MAX;
    if (periodic) h->period[n] = (h->period[n] & ~mask) | (val & mask);
    if (sets) h->comparator[n] = (h->comparator[n] & ~mask) | (val & mask);
    h->timer[n] &= (u16)~T_VAL_SET;
    if (sets && is_enabled(h)) look_ahead(h, n);
}

static void count_write(struct hpet *h, u64 val, u64 mask)
{
    h->count = (main_count(h) & ~mask) | (val & mask);
    if (!is_enabled(h)) return;
    h->count -= ticks(h);
    for (unsigned n = 0; n < TIMERS; n++) look_ahead(h, n);
}

static void status_write(struct hpet *h, u64 val)
{
    h->status &= (u8)~val;
    drive(h);
}

/* at: of eight bytes, of which those under mask are written. */
static void reg_write(struct hpet *h, u32 at, u64 val, u64 mask)
{
    unsigned n = (at - TIMER) / TIMER_STRIDE;
    bool low = mask & 0xff;

    if (at == GEN_CONF && low) conf_write(h, val);
    else if (at == GINTR_STA) status_write(h, val & mask);
    else if (at == MAIN_CNT) count_write(h, val, mask);
    else if (at < TIMER || n >= TIMERS) return;
    else if (at % TIMER_STRIDE == T_CONF && low) timer_conf_write(h, n, val);
    else if (at % TIMER_STRIDE == T_COMPARATOR) comparator_write(h, n, val, mask);
    schedule(h);
}

static u64 reg_read(const struct hpet *h, u32 at)
{
    unsigned n = (at - TIMER) / TIMER_STRIDE;

    switch (at) {
    case GCAP_ID: return HPET_ID | (u64)PERIOD_FS << 32;
    case GEN_CONF: return h->conf;
    case GINTR_STA: return h->status;
    case MAIN_CNT: return main_count(h);
    default: break;
    }
    if (at < TIMER || n >= TIMERS) return 0;
    if (at % TIMER_STRIDE == T_CONF) return h->timer[n] | (n ? 0 : T_PERIODIC_CAP | T_SIZE_CAP) | (u64)ROUTES << 32;
    return at % TIMER_STRIDE == T_COMPARATOR ? h->comparator[n] : 0;
}

static u32 hpet_read(void *dev, u32 off, unsigned size)
{
    u64 v = reg_read(dev, off & ~7u) >> 8 * (off & 7);
    return (u32)(size < 4 ? v & ((1u << 8 * size) - 1) : v);
}

/* Parts of a register keep the rest of its half. */
static void hpet_write(void *dev, u32 off, unsigned size, u32 val)
{
    struct hpet *h = dev;
    u32 at = off & ~7u, half = off & 4;
    u64 mask = (size < 4 ? (1ull << 8 * size) - 1 : UINT32_MAX) << 8 * (off & 7);
    u64 v = (u64)val << 8 * (off & 7) & mask;

    if (size < 4 && at != GINTR_STA) {
        u64 whole = (u64)UINT32_MAX << 8 * half;
        v |= reg_read(h, at) & whole & ~mask;
        mask = whole;
    }
    reg_write(h, at, v, mask);
}

static const struct io_ops hpet_ops = { hpet_read, hpet_write };

/* ---- a board's part ---- */

static bool hpet_check(const void *chip)
{
    const struct hpet *h = chip;

    for (unsigned n = 0; n < TIMERS; n++) {
        bool routed = ROUTES >> route_of(h, n) & 1 || !route_of(h, n);
        if (h->timer[n] & ~writable(n) || !routed) return false;
    }
    return true;
}

static const struct snap_table hpet_table;

static void hpet_on_reset(void *chip)
{
    struct hpet *h = chip;

    timer_cancel(&h->wake);
    snap_reset(&hpet_table, h);
    for (unsigned n = 0; n < TIMERS; n++) h->comparator[n] &= n ? UINT32_MAX : UINT64_MAX;
    drive(h);
}

static const struct snap_table hpet_table = { .name = "hpet",
                                              .version = 1,
                                              .size = sizeof(struct hpet),
                                              .fields = hpet_fields,
                                              .reset = hpet_on_reset,
                                              .check = hpet_check };

struct snap_part hpet_part(struct hpet *h) { return (struct snap_part){ hpet_table.name, &hpet_table, h }; }

int hpet_new(struct hpet **out, struct bus *b, struct clock *clk, const struct hpet_wires *to)
{
    struct hpet *h = calloc(1, sizeof *h);
    int err;

    if (!h) return -ENOMEM;
    h->clk = clk;
    h->to = *to;
    timer_init(&h->wake, clk, on_wake, h);
    hpet_on_reset(h);
    err = bus_map_mmio(b, HPET_BASE, HPET_LEN, &hpet_ops, h, "HPET");
    if (err) {
        free(h);
        return err;
    }
    *out = h;
    return 0;
}

void hpet_free(struct hpet *h)
{
    if (h) timer_cancel(&h->wake);
    free(h);
}
