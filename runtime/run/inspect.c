/* What others than the runtime see of a CPU between runs, and may change: its state as one piece, guest memory by
 * physical and by linear address, and the names a description may use. */
#include "runtime/cpu/cpu.h"
#include "runtime/cpu/cpu_models.h"
#include "runtime/cpu/msr.h"
#include "runtime/cpu/state.h"
#include "runtime/mem/mmu.h"
#include "runtime/interp/interp.h"
#include "runtime/mem/physmem.h"
#include "runtime/run/rt.h"
#include "runtime/mem/coherence.h"
#include "runtime/mem/watch.h"

#include <errno.h>

/* ---- state ---- */

void rt_get_state(struct rt *rt, struct cpu_arch *out)
{
    rt->engine->state_out(rt);
    *out = rt->cpu->arch;
}

/* Breakpoints are known to those who must heed them. */
static void debug_changed(struct rt *rt)
{
    watch_update(rt->cpu);
    coherence_debug(bus_coherence(rt->bus), rt->cpu);
}

int rt_set_state(struct rt *rt, const struct cpu_arch *in, const char **field)
{
    if (cpu_set_arch(rt->cpu, in, field)) return -EINVAL;
    breaks_forget(&rt->cpu->watch->breaks);
    debug_changed(rt);
    rt->engine->state_in(rt);
    return 0;
}

void rt_flush(struct rt *rt)
{
    tlb_flush_all(rt->cpu);
    rt->engine->flush(rt);
}

int rt_ram_fd(const struct rt *rt) { return bus_ram_fd(rt->bus); }
u64 rt_ram_len(const struct rt *rt) { return bus_file_used(rt->bus); }

void rt_update(struct rt *rt)
{
    cpu_update_mode(rt->cpu);
    debug_changed(rt);
    rt_flush(rt);
}

int rt_get_msr(struct rt *rt, u32 msr, u64 *val)
{
    rt->engine->state_out(rt);
    struct pending_exc before = rt->cpu->exc;
    int fault = cpu_rdmsr(rt->cpu, msr, val);
    rt->cpu->exc = before; /* what has been raised is nobody's */
    return fault ? -EINVAL : 0;
}

int rt_set_msr(struct rt *rt, u32 msr, u64 val)
{
    rt->engine->state_out(rt);
    struct pending_exc before = rt->cpu->exc;
    int fault = cpu_wrmsr(rt->cpu, msr, val);
    rt->cpu->exc = before;
    rt->engine->state_in(rt);
    return fault ? -EINVAL : 0;
}

struct counters *rt_counters(struct rt *rt) { return &rt->cpu->ctr; }

/* ---- a debugger's breakpoints ---- */

_Static_assert((int)RT_BREAK_READ == WATCH_READS && (int)RT_BREAK_WRITE == WATCH_WRITES
                   && (int)RT_BREAK_FETCH == WATCH_FETCHES && RT_BREAK_MAX == BREAK_BYTES_MAX,
               "the same, for those outside");

/* Nothing translated runs across a breakpoint for fetches, or begins there. */
int rt_break_add(struct rt *rt, unsigned kinds, laddr la, u32 len)
{
    rt->engine->state_out(rt); /* it may be in a process that is about to lose a page */
    int rc = watch_break_add(rt->cpu, (struct break_point){ la, len, (u8)kinds });
    if (!rc && kinds & RT_BREAK_FETCH && rt->xl) xl_forget_linear(rt->xl, la);
    return rc;
}

int rt_break_remove(struct rt *rt, unsigned kinds, laddr la, u32 len)
{
    breaks_forget(&rt->cpu->watch->breaks);
    return watch_break_remove(rt->cpu, (struct break_point){ la, len, (u8)kinds });
}

void rt_break_remove_all(struct rt *rt)
{
    struct breaks *b = &rt->cpu->watch->breaks;
    breaks_forget(b);
    while (b->n) (void)!watch_break_remove(rt->cpu, b->point[b->n - 1]);
}

void rt_break_met(const struct rt *rt, unsigned *kinds, laddr *la, u32 *len)
{
    const struct break_point *p = &rt->cpu->watch->breaks.at;
    *kinds = p->kinds, *la = p->la, *len = p->len;
}

void rt_break_pass(struct rt *rt)
{
    const struct cpu *c = rt->cpu;
    rt->pass = breaks_code(&c->watch->breaks, c->eip + c->seg[S_CS].base);
}

/* ---- memory ---- */

u64 rt_read_phys(struct rt *rt, paddr pa, void *buf, u64 len) { return bus_dma_read(rt->bus, pa, buf, len); }
u64 rt_write_phys(struct rt *rt, paddr pa, const void *buf, u64 len) { return bus_dma_write(rt->bus, pa, buf, len); }

/* Page by page; stops at the first byte that is not there. */
static u64 linear(struct rt *rt, laddr la, void *buf, u64 len, bool write)
{
    u64 done = 0;
    while (done < len) {
        laddr at = la + (u32)done;
        paddr pa;
        if (!mmu_probe(rt->cpu, at, &pa)) break;
        u64 n = PAGE_SIZE - (at & ~PAGE_MASK);
        if (n > len - done) n = len - done;
        u64 hit =
            write ? bus_dma_write(rt->bus, pa, (u8 *)buf + done, n) : bus_dma_read(rt->bus, pa, (u8 *)buf + done, n);
        done += hit;
        if (hit < n) break;
    }
    return done;
}

u64 rt_read_linear(struct rt *rt, laddr la, void *buf, u64 len) { return linear(rt, la, buf, len, false); }
u64 rt_write_linear(struct rt *rt, laddr la, const void *buf, u64 len)
{
    return linear(rt, la, (void *)(uintptr_t)buf, len, true);
}

/* ---- names ---- */

const char *rt_cpu_name(unsigned i)
{
    const struct cpu_model *m = cpu_model_at(i);
    return m ? m->name : NULL;
}

const char *rt_cpu_feature_name(unsigned i) { return cpu_feature_name(i); }

const char *rt_cpu_wrong(const char *description)
{
    struct cpu_model m;
    return cpu_model_make(&m, description);
}

struct name {
    const char *name, *what;
};
static const struct name class_names[] = {
#define INSN_CLASS(name, text) { #name, text },
#include "translator/front/insn_class.def"
#undef INSN_CLASS
};
_Static_assert(ARRAY_LEN(class_names) <= 32, "a class is a bit of rt_config.disabled_classes");

const char *rt_class_name(unsigned i, const char **what)
{
    if (i >= ARRAY_LEN(class_names)) return NULL;
    *what = class_names[i].what;
    return class_names[i].name;
}
