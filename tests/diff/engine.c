/* Owns a machine without devices but one: a range of ports, one per vector. The interrupt stubs do `out vector, al`,
 * which stops the machine with the registers as the case left them and the exception frame on the CPL 0 stack.
 *
 * System pages are for CPL 0 only, and lie at linear addresses where the native program has its own
 * (CHILD_LO..CHILD_HI), so that a case that reaches for them is thrown away on either side's account. */
#include "tests/diff/engine.h"

#include <errno.h>
#include <string.h>

#include "runtime/cpu/cpu.h"
#include "runtime/run/rt.h"

#define SYS_LINEAR 0x57000000u /* linear = physical + SYS_LINEAR for these */
#define PD_AT 0x10000u
#define PT_AT 0x11000u     /* for 0..4 MiB */
#define SYS_PT_AT 0x12000u /* for 4 MiB from SYS_LINEAR */
#define GDT_AT 0x13000u
#define LDT_AT 0x13800u /* in the same page */
#define IDT_AT 0x14000u
#define STUBS_AT 0x15000u
#define TSS_AT 0x16000u
#define KERNEL_STACK_TOP 0x18000u
#define SYSTEM_LO 0x10000u
#define SYSTEM_HI 0x18000u
/* Physical pages that CODE_BASE maps in turn, the last of RAM: what the translator learns about an instruction of one
 * case should not decide how the next one is translated. Directly, there are so many that none is written to often. */
#define CODE_PAGES(direct) ((direct) ? 4096u : 256u)
#define RAM_BYTES(direct) ((8u << 20) + CODE_PAGES(direct) * PAGE)
#define KERNEL_CS 0x08u
#define KERNEL_DS 0x10u
#define TSS_SEL 0x30u

static const struct diff_segment ldt[LDT_ENTRIES] = DIFF_LDT;

struct engine {
    struct rt *rt;
    struct cpu *cpu;
    struct bus *bus;
    bool kernel, direct;
    u32 cases;
    u32 vector; /* what the stubs reported */
};

struct decoder *engine_decoder(struct engine *e) { return rt_decoder(e->rt); }
struct rt *engine_rt(struct engine *e) { return e->rt; }
u64 engine_direct_runs(struct engine *e) { return e->cpu->ctr.direct_runs; }

static void vector_out(void *dev, u32 off, unsigned size, u32 val)
{
    struct engine *e = dev;
    (void)size;
    (void)val;
    e->vector = off;
    rt_stop(e->rt);
}
static const struct io_ops vector_ops = { .write = vector_out };

static void write_ram(struct engine *e, u32 at, const void *from, u32 n) { bus_dma_write(e->bus, at, from, n); }
static void write32(struct engine *e, u32 at, u32 val) { write_ram(e, at, &val, 4); }
static u32 read32(struct engine *e, u32 at)
{
    u32 val = 0;
    bus_dma_read(e->bus, at, &val, 4);
    return val;
}

enum { PRESENT = 1, WRITE = 2, USER = 4 };

static void make_pages(struct engine *e)
{
    const u32 user = e->kernel ? 0 : USER;
    write32(e, PD_AT, PT_AT | PRESENT | WRITE | user);
    write32(e, PD_AT + (SYS_LINEAR >> 22) * 4, SYS_PT_AT | PRESENT | WRITE | user);
    for (u32 at = SYSTEM_LO; at < SYSTEM_HI; at += PAGE) write32(e, SYS_PT_AT + at / PAGE * 4, at | PRESENT | WRITE);
    for (u32 at = DATA_BASE; at < RO_BASE; at += PAGE) write32(e, PT_AT + at / PAGE * 4, at | PRESENT | WRITE | user);
    write32(e, PT_AT + RO_BASE / PAGE * 4, RO_BASE | PRESENT | user);
    write32(e, PT_AT + STACK_BASE / PAGE * 4, STACK_BASE | PRESENT | WRITE | user);
}

static void make_descriptors(struct engine *e)
{
    static const struct {
        u32 sel, lo, hi;
    } gdt[] = {
        { KERNEL_CS, 0x0000ffff, 0x00cf9b00 },
        { KERNEL_DS, 0x0000ffff, 0x00cf9300 },
        { USER_CS & ~3u, 0x0000ffff, 0x00cffb00 },
        { USER_DS & ~3u, 0x0000ffff, 0x00cff300 },
        { TSS_SEL, (TSS_AT & 0xffff) << 16 | 0x67,
          0x00008b00 | ((SYS_LINEAR + TSS_AT) >> 16 & 0xff) | ((SYS_LINEAR + TSS_AT) & 0xff000000) },
    };
    for (unsigned i = 0; i < ARRAY_LEN(gdt); i++) {
        write32(e, GDT_AT + gdt[i].sel, gdt[i].lo);
        write32(e, GDT_AT + gdt[i].sel + 4, gdt[i].hi);
    }
    for (unsigned i = 0; i < LDT_ENTRIES; i++) {
        const struct diff_segment *s = &ldt[i];
        u32 type = (s->contents & 2 ? 8u : 0u) | (s->contents & 1 ? 4u : 0u) | (s->fixed ? 0u : 2u) | 1u;
        write32(e, LDT_AT + 8 * i, s->base << 16 | (s->limit & 0xffff));
        write32(e, LDT_AT + 8 * i + 4, (s->base >> 16 & 0xff) | (0xf0 | type) << 8 | (s->base & 0xff000000));
    }
    for (u32 v = 0; v < 256; v++) { /* interrupt gates; INT3 and INTO are open to CPL 3, as Linux has it */
        u32 stub = SYS_LINEAR + STUBS_AT + 4 * v, dpl = v == V_BP || v == V_OF ? 3 : 0;
        u8 code[4] = { 0xe6, (u8)v, 0xeb, 0xfe }; /* out v, al; jmp . */
        write32(e, IDT_AT + 8 * v, KERNEL_CS << 16 | (stub & 0xffff));
        write32(e, IDT_AT + 8 * v + 4, (stub & 0xffff0000) | 0x8e00 | dpl << 13);
        write_ram(e, STUBS_AT + 4 * v, code, 4);
    }
    write32(e, TSS_AT + 4, SYS_LINEAR + KERNEL_STACK_TOP);
    write32(e, TSS_AT + 8, KERNEL_DS);
    write32(e, TSS_AT + 0x64, 0x68 << 16); /* no I/O permission map */
}

static struct seg flat(u16 sel, u32 type)
{
    u32 dpl = (u32)(sel & 3) << SEG_DPL_SHIFT;
    return (struct seg){ .sel = sel, .limit = 0xffffffff, .attr = type | SEG_S | dpl | SEG_P | SEG_D | SEG_G };
}

static void make_cpu(struct engine *e)
{
    struct cpu *c = e->cpu;
    c->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
    c->cr3 = PD_AT;
    c->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
    c->gdtr = (struct table_reg){ SYS_LINEAR + GDT_AT, 0x37 };
    c->idtr = (struct table_reg){ SYS_LINEAR + IDT_AT, 0x7ff };
    c->tr = (struct seg){ .sel = TSS_SEL, .base = SYS_LINEAR + TSS_AT, .limit = 0x67, .attr = 0xb | SEG_P };
    c->ldtr = (struct seg){ .base = SYS_LINEAR + LDT_AT, .limit = LDT_ENTRIES * 8 - 1, .attr = 2 | SEG_P };
}

int engine_new(struct engine **out, const struct engine_config *config, const char **what)
{
    struct rt_config cfg = { .ram_size = RAM_BYTES(config->direct),
                             .engine = config->kind,
                             .direct = config->direct ? RT_DIRECT_ALWAYS : RT_DIRECT_OFF,
                             .no_windows = config->no_windows,
                             .eager_windows = config->eager_windows };
    struct engine *e = calloc(1, sizeof(*e));
    int err;

    *what = "memory";
    if (!e) return -ENOMEM;
    if ((err = rt_new(&e->rt, &cfg, what))) goto fail;
    e->kernel = config->kernel;
    e->direct = config->direct;
    e->cpu = rt_cpu(e->rt);
    e->bus = rt_bus(e->rt);
    *what = "ports";
    if ((err = bus_map_pio(e->bus, 0, 256, &vector_ops, e, "vectors"))) goto fail;
    make_pages(e);
    make_descriptors(e);
    make_cpu(e);
    write_ram(e, RO_BASE, config->ro, PAGE);
    rt_update(e->rt);
    *out = e;
    return 0;
fail:
    engine_free(e);
    return err;
}

void engine_free(struct engine *e)
{
    if (!e) return;
    rt_free(e->rt);
    free(e);
}

/* What the processor has in a segment register after loading one of the LDT's selectors, or null. */
static struct seg local(u16 sel)
{
    if (!(sel & 4)) return (struct seg){ .sel = sel, .attr = SEG_UNUSABLE };
    const struct diff_segment *s = &ldt[sel / 8];
    u32 type = (s->contents & 2 ? SEG_CODE : 0u) | (s->contents & 1 ? SEG_E : 0u) | (s->fixed ? 0u : SEG_W) | SEG_A;
    return (struct seg){ .sel = sel, .base = s->base, .limit = s->limit, .attr = type | SEG_S | SEG_DPL | SEG_P };
}

static void load_state(struct engine *e, const struct diff_state *s, bool code16)
{
    struct cpu *c = e->cpu;
    memcpy(c->gpr, s->gpr, sizeof(c->gpr));
    c->eip = s->eip;
    cpu_set_eflags(c, s->eflags);
    memcpy(&c->fx, s->fx, sizeof(c->fx));
    c->fx_version++;
    c->seg[S_CS] = flat(e->kernel ? KERNEL_CS : USER_CS, SEG_CODE | SEG_R | SEG_A);
    c->seg[S_SS] = c->seg[S_DS] = c->seg[S_ES] = flat(e->kernel ? KERNEL_DS : USER_DS, SEG_W | SEG_A);
    c->seg[S_FS] = c->seg[S_GS] = (struct seg){ .attr = SEG_UNUSABLE };
    for (unsigned i = 0; code16 && i < S_COUNT; i++) c->seg[i] = local(s->seg[i]);
    c->cpl = e->kernel ? 0 : 3;
    c->cr2 = 0;
    c->exc.valid = false;
    c->halted = 0;
    c->intr_shadow = 0;
    c->dr[6] = 0xffff0ff0;
    cpu_update_mode(c);
}

/* The next physical page for CODE_BASE, and a CR3 write for the TLB to know of it. */
static void load_code(struct engine *e, const struct diff_case *k)
{
    u32 pa = RAM_BYTES(e->direct) - PAGE * (1 + e->cases++ % CODE_PAGES(e->direct));
    u8 code[PAGE];

    memset(code, 0xcc, sizeof(code));
    memcpy(code, k->code, k->ncode);
    write_ram(e, pa, code, PAGE);
    write32(e, PT_AT + CODE_BASE / PAGE * 4, pa | PRESENT | (e->kernel ? 0 : USER));
    BUG_ON(cpu_write_cr(e->cpu, 3, PD_AT));
}

static void load_data(struct engine *e, const u8 *image)
{
    write_ram(e, DATA_BASE, image, DATA_BYTES);
    write_ram(e, STACK_BASE, image + DATA_BYTES, PAGE);
}

static bool has_error(u32 vector) { return vector == V_DF || (vector >= V_TS && vector <= V_PF) || vector == V_AC; }

/* The exception frame tells what the stub's own registers no longer do. */
static void read_frame(struct engine *e, struct diff_state *s)
{
    u32 at = KERNEL_STACK_TOP - (has_error(s->vector) ? 24 : 20);
    s->error = has_error(s->vector) ? read32(e, at) : 0;
    if (has_error(s->vector)) at += 4;
    s->eip = read32(e, at);
    s->seg[S_CS] = (u16)read32(e, at + 4);
    s->seg[S_SS] = (u16)read32(e, at + 16);
    if ((s->seg[S_CS] & 3) != 3) s->vector = VECTOR_CRASH; /* an exception in a stub */
    s->eflags = read32(e, at + 8);
    s->gpr[G_ESP] = read32(e, at + 12);
}

/* On the same stack: linear is physical wherever that may be. */
static void read_kernel_frame(struct engine *e, struct diff_state *s)
{
    u32 at = s->gpr[G_ESP];
    s->error = has_error(s->vector) ? read32(e, at) : 0;
    if (has_error(s->vector)) at += 4;
    s->eip = read32(e, at);
    s->eflags = read32(e, at + 8);
    s->gpr[G_ESP] = at + 12;
}

void engine_run(struct engine *e, const struct diff_case *k, const u8 *image, bool again, struct diff_result *r)
{
    struct diff_state *s = &r->out;
    enum rt_exit exit;

    if (!again) load_code(e, k);
    load_data(e, image);
    load_state(e, &k->in, k->code16);
    e->vector = VECTOR_CRASH;
    exit = rt_run(e->rt);
    memcpy(s->gpr, e->cpu->gpr, sizeof(s->gpr));
    s->vector = exit == RT_STOPPED ? e->vector : VECTOR_CRASH;
    s->cr2 = e->cpu->cr2;
    for (unsigned i = 0; i < S_COUNT; i++) s->seg[i] = e->cpu->seg[i].sel;
    BUG_ON(e->cpu->fpu_hot);
    memcpy(s->fx, &e->cpu->fx, sizeof(s->fx));
    if (e->kernel) read_kernel_frame(e, s);
    else read_frame(e, s);
    bus_dma_read(e->bus, DATA_BASE, r->memory, DATA_BYTES);
    bus_dma_read(e->bus, STACK_BASE, r->memory + DATA_BYTES, PAGE);
}
