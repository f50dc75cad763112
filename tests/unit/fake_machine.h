/* A bus, a clock and wires for chip tests: all of core/bus.h and core/clock.h in memory, with time that stands still
 * until the test moves it. One test program, one translation unit: so the definitions are right here. */
#ifndef TESTS_UNIT_FAKE_MACHINE_H
#define TESTS_UNIT_FAKE_MACHINE_H
#include "core/bus.h"
#include "core/clock.h"

#include <check.h>
#include <errno.h>
#include <string.h>

#define US 1000ull
#define MS 1000000ull
#define SEC 1000000000ull

/* ---- bus ---- */

struct fake_range {
    u64 base, len;
    const struct io_ops *ops;
    void *dev;
};
struct fake_space {
    struct fake_range r[64];
    unsigned n;
};
struct bus {
    struct fake_space pio, mmio;
    u64 ram_size, ram_low;
};

static struct fake_range *fake_find(struct fake_space *s, u64 at)
{
    for (unsigned i = 0; i < s->n; i++)
        if (at >= s->r[i].base && at - s->r[i].base < s->r[i].len) return &s->r[i];
    return NULL;
}
static int fake_map(struct fake_space *s, u64 base, u64 len, const struct io_ops *ops, void *dev)
{
    for (unsigned i = 0; i < s->n; i++)
        if (base < s->r[i].base + s->r[i].len && s->r[i].base < base + len) return -EBUSY;
    ck_assert_uint_lt(s->n, ARRAY_LEN(s->r));
    s->r[s->n++] = (struct fake_range){ base, len, ops, dev };
    return 0;
}
static void fake_unmap(struct fake_space *s, u64 base)
{
    for (unsigned i = 0; i < s->n; i++) {
        if (s->r[i].base != base) continue;
        s->r[i] = s->r[--s->n];
        return;
    }
    ck_abort_msg("unmapping 0x%llx, where nothing is mapped", (unsigned long long)base);
}
static u32 fake_read(struct fake_space *s, u64 at, unsigned size)
{
    struct fake_range *r = fake_find(s, at);
    u32 v = 0;

    if (r && at + size <= r->base + r->len) {
        v = r->ops->read(r->dev, at - r->base, size);
        return size == 4 ? v : v & ((1u << 8 * size) - 1);
    }
    if (size == 1) return 0xff;
    for (unsigned i = 0; i < size; i++) v |= fake_read(s, at + i, 1) << 8 * i;
    return v;
}
static void fake_write(struct fake_space *s, u64 at, unsigned size, u32 val)
{
    struct fake_range *r = fake_find(s, at);

    if (r && at + size <= r->base + r->len) {
        r->ops->write(r->dev, at - r->base, size, val);
        return;
    }
    for (unsigned i = 0; size > 1 && i < size; i++) fake_write(s, at + i, 1, val >> 8 * i & 0xff);
}

int bus_map_pio(struct bus *b, u16 base, u32 len, const struct io_ops *ops, void *dev, const char *name UNUSED)
{
    return fake_map(&b->pio, base, len, ops, dev);
}
int bus_map_mmio(struct bus *b, paddr base, u64 len, const struct io_ops *ops, void *dev, const char *name UNUSED)
{
    return fake_map(&b->mmio, base, len, ops, dev);
}
void bus_unmap_pio(struct bus *b, u16 base) { fake_unmap(&b->pio, base); }
void bus_unmap_mmio(struct bus *b, paddr base) { fake_unmap(&b->mmio, base); }
int bus_map_rom(struct bus *b UNUSED, paddr base UNUSED, u64 len UNUSED, const u8 *data UNUSED, const char *name UNUSED)
{
    return -ENOMEM;
}
int bus_map_ram(struct bus *b UNUSED, paddr base UNUSED, struct bus_ram *r UNUSED, const char *name UNUSED)
{
    return -ENOMEM;
}
void bus_unmap_ram(struct bus_ram *r UNUSED) {}
u32 bus_in(struct bus *b, u16 port, unsigned size) { return fake_read(&b->pio, port, size); }
void bus_out(struct bus *b, u16 port, unsigned size, u32 val) { fake_write(&b->pio, port, size, val); }
u32 bus_mmio_read(struct bus *b, paddr pa, unsigned size) { return fake_read(&b->mmio, pa, size); }
void bus_mmio_write(struct bus *b, paddr pa, unsigned size, u32 val) { fake_write(&b->mmio, pa, size, val); }
u64 bus_dma_read(struct bus *b UNUSED, paddr pa UNUSED, void *buf, u64 len)
{
    memset(buf, 0xff, len);
    return 0;
}
u64 bus_dma_write(struct bus *b UNUSED, paddr pa UNUSED, const void *buf UNUSED, u64 len UNUSED) { return 0; }
u64 bus_ram_size(const struct bus *b) { return b->ram_size; }
u64 bus_ram_low(const struct bus *b) { return b->ram_low; }

/* ---- clock ---- */

struct clock {
    u64 now, wall_at_zero;
    u64 passes_at_a_look; /* ns after each clock_now(): a host that takes the processor away */
    struct timer *first;
};

u64 clock_now(const struct clock *c)
{
    u64 now = c->now;

    ((struct clock *)(uintptr_t)c)->now += c->passes_at_a_look;
    return now;
}
void clock_stall(const struct clock *c UNUSED, u64 ns UNUSED) {}
u64 clock_wall_ns(const struct clock *c) { return c->wall_at_zero + c->now; }
void timer_init(struct timer *t, struct clock *c, void (*fn)(void *), void *arg)
{
    *t = (struct timer){ .clk = c, .fn = fn, .arg = arg };
}
void timer_cancel(struct timer *t)
{
    struct timer **p = &t->clk->first;

    if (!t->armed) return;
    while (*p != t) p = &(*p)->next;
    *p = t->next;
    t->armed = false;
}
void timer_arm(struct timer *t, u64 deadline)
{
    struct timer **p = &t->clk->first;

    timer_cancel(t);
    while (*p && (*p)->deadline <= deadline) p = &(*p)->next;
    t->deadline = deadline;
    t->armed = true;
    t->next = *p;
    *p = t;
}
int clock_new(struct clock **out)
{
    *out = calloc(1, sizeof(**out));
    return *out ? 0 : -ENOMEM;
}
void clock_free(struct clock *c) { free(c); }
void clock_set_manual(struct clock *c, u64 now_ns) { c->now = now_ns; }
void clock_set_wall(struct clock *c, u64 wall_ns) { c->wall_at_zero = wall_ns - c->now; }
u64 clock_next_deadline(const struct clock *c) { return c->first ? c->first->deadline : UINT64_MAX; }
void clock_run_due(struct clock *c)
{
    while (c->first && c->first->deadline <= c->now) {
        struct timer *t = c->first;

        timer_cancel(t);
        t->fn(t->arg);
    }
}
void clock_on_deadline(struct clock *c UNUSED, void (*fn)(void *, u64) UNUSED, void *arg UNUSED) {}

/* Time passes, and every timer fires when it is due. */
static UNUSED void pass(struct clock *c, u64 ns)
{
    u64 end = c->now + ns;

    while (c->first && c->first->deadline <= end) {
        if (c->first->deadline > c->now) c->now = c->first->deadline;
        clock_run_due(c);
    }
    c->now = end;
}
/* Time passes, and nobody looks at timers until the end. */
static UNUSED void stall(struct clock *c, u64 ns)
{
    c->now += ns;
    clock_run_due(c);
}

/* ---- wires and events ---- */

struct wire {
    bool level;
    unsigned rises, falls;
};
static UNUSED void wire_set(void *opaque, unsigned n, bool level)
{
    struct wire *w = (struct wire *)opaque + n;

    w->rises += level && !w->level;
    w->falls += !level && w->level;
    w->level = level;
}
static UNUSED struct irq_line wire_line(struct wire *w) { return (struct irq_line){ .set = wire_set, .opaque = w }; }

struct event_log {
    unsigned count;
    u32 value;
};
static UNUSED void event_fired(void *opaque, u32 value)
{
    struct event_log *e = opaque;

    e->count++;
    e->value = value;
}

/* A machine with nothing in it. */
static struct bus fake_bus;
static struct clock fake_clock;
static UNUSED void machine_clear(void)
{
    memset(&fake_bus, 0, sizeof(fake_bus));
    memset(&fake_clock, 0, sizeof(fake_clock));
    fake_bus.ram_size = fake_bus.ram_low = 64u << 20;
}
static UNUSED u8 inb(u16 port) { return bus_in(&fake_bus, port, 1); }
static UNUSED void outb(u16 port, u8 val) { bus_out(&fake_bus, port, 1, val); }

/* ---- runner ---- */

static UNUSED int run_suite(Suite *s)
{
    SRunner *r = srunner_create(s);
    int failed;

    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
#define CHIP_SUITE(name, setup, teardown, ...)                                       \
    int main(void)                                                                   \
    {                                                                                \
        const TTest *const tests[] = { __VA_ARGS__ };                                \
        Suite *s = suite_create(name);                                               \
        TCase *c = tcase_create(name);                                               \
        tcase_add_checked_fixture(c, setup, teardown);                               \
        for (unsigned i = 0; i < ARRAY_LEN(tests); i++) tcase_add_test(c, tests[i]); \
        suite_add_tcase(s, c);                                                       \
        return run_suite(s);                                                         \
    }

#endif
