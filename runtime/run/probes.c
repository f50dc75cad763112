/* Owns probes: which there are, what each is told, and what becomes of its answer.
 *
 *   I1  of[] and told[] say what is in slot[], and cpu->probes is set iff there is one.          [probes_changed]
 *   I2  Translated code that tells or counts is as slot[] says: it is forgotten when that changes. [probes_changed]
 *   I3  What counts is counted by translated code in line if it can be (tally), else here. An instruction is counted
 *       when it is done; it is told of when it begins.
 *
 * Instructions that somebody is told of are left to the interpreter, which tells; so what is told is the same in both
 * engines. */
#include "runtime/run/probes.h"
#include "runtime/cpu/fpu_park.h"
#include "runtime/interp/interp.h"
#include "runtime/mem/watch.h"
#include "runtime/run/rt.h"
#include "runtime/run/stream.h"
#include "translator/front/insn.h"
#include "transvisor/stream.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#define LINUX_SYSCALL 0x80
#define WATCHED_MAX (16u << 20) /* bytes of a range of memory */
#define EACH(i, set) \
    (u64 i##_left = (set), i; i##_left && (i = (u64)__builtin_ctzll(i##_left), 1); i##_left &= i##_left - 1)

/* ---- what a probe is about ---- */

static bool covers(const struct rt_probe *p, u64 address, unsigned size, unsigned cpl)
{
    return address <= p->to && address + size - 1 >= p->from && p->cpls >> cpl & 1;
}

static bool names(const struct rt_probe *p, const struct insn *in)
{
    return (!p->op || p->op == in->op) && (p->cls < 0 || p->cls == in->row->cls);
}

static int vector_of(const struct rt_probe *p) { return p->vector < 0 ? LINUX_SYSCALL : p->vector; }

static bool is_syscall(const struct rt_probe *p, const struct insn *in, unsigned cpl)
{
    if (cpl != 3) return false;
    return in->op == OP_SYSENTER || (in->op == OP_INT && (in->imm & 0xff) == (u32)vector_of(p));
}

/* Whether it is told of this instruction as it begins. */
static bool begins_with(const struct probe *s, const struct insn *in, laddr la, unsigned cpl)
{
    const struct rt_probe *p = &s->is;
    if (!covers(p, la, 1, cpl)) return false;
    switch (p->event) {
    case EV_INSN: return names(p, in);
    case EV_SYSCALL: return is_syscall(p, in, cpl);
    case EV_HLT: return in->op == OP_HLT || in->op == OP_MWAIT;
    default: return false;
    }
}

static u64 of_instructions(const struct probes *p) { return p->of[EV_INSN] | p->of[EV_SYSCALL] | p->of[EV_HLT]; }

u32 probes_tally_insn(const struct probes *p, const struct insn *in, laddr la, unsigned cpl)
{
    u32 mask = 0;
    for
        EACH(i, p->of[EV_INSN] & ~p->told[EV_INSN])
    if (begins_with(&p->slot[i], in, la, cpl)) mask |= 1u << p->slot[i].tally;
    return mask;
}

u32 probes_tally_entry(const struct probes *p, laddr la, unsigned cpl)
{
    u32 mask = 0;
    for
        EACH(i, p->of[EV_BLOCK] & ~p->told[EV_BLOCK])
    if (covers(&p->slot[i].is, la, 1, cpl)) mask |= 1u << p->slot[i].tally;
    return mask;
}

/* The number of a set; TAP_INTERPRET: there are too many. */
static u32 set_number(struct probes *p, u64 set)
{
    for (unsigned i = 0; i < p->sets; i++)
        if (p->set[i] == set) return i;
    if (p->sets == PROBE_SETS) return TAP_INTERPRET;
    p->set[p->sets] = set;
    return p->sets++;
}

u32 probes_told(struct probes *p, const struct insn *in, laddr la, unsigned cpl)
{
    bool returns = in->op == OP_IRET || in->op == OP_SYSEXIT;
    bool ports = in->op == OP_IN || in->op == OP_OUT || in->op == OP_INS || in->op == OP_OUTS;
    u64 set = 0;
    if (returns && p->of[EV_SYSRET]) return TAP_INTERPRET;
    if (ports && p->of[EV_IN] | p->of[EV_OUT]) return TAP_INTERPRET; /* which knows how many came before */
    for
        EACH(i, p->told[EV_INSN] | p->of[EV_SYSCALL])
    if (begins_with(&p->slot[i], in, la, cpl)) set |= 1ull << i;
    return set ? set_number(p, set) : TAP_NOBODY;
}

bool probes_told_entry(const struct probes *p, laddr la, unsigned cpl)
{
    for
        EACH(i, p->told[EV_BLOCK])
    if (covers(&p->slot[i].is, la, 1, cpl)) return true;
    return false;
}

/* ---- telling ---- */

static void stop(struct probes *p, unsigned i)
{
    if (!p->stopped) p->met = i;
    p->stopped = true;
    p->rt->cpu->kick = 1;
    interp_attend(p->rt->interp);
    p->rt->engine->kick(p->rt);
}

static enum rt_verdict tell(struct probes *p, struct cpu *c, unsigned i, const struct rt_event *e)
{
    struct probe *s = &p->slot[i];
    if (!s->is.fn) {
        s->hits++;
        return RT_GO;
    }
    struct fpu_parked f;
    fpu_park(c, &f);
    enum rt_verdict v = s->is.fn(s->is.arg, e, &c->arch);
    fpu_unpark(&f);
    s->hits += v != RT_PASS;
    if (v == RT_STOP) stop(p, i);
    return v;
}

static struct rt_event event_here(const struct cpu *c, enum probe_event what)
{
    laddr la = c->eip + c->seg[S_CS].base;
    return (struct rt_event){ .event = what, .la = la, .address = la };
}

/* Tells of the instruction at cpu->eip. True: it is to be skipped. */
static bool tell_begins(struct probes *p, struct cpu *c, u64 set)
{
    bool skip = false;
    struct rt_event e = event_here(c, EV_INSN);
    for
        EACH(i, set)
        {
            e.event = p->slot[i].is.event;
            e.value = e.event == EV_SYSCALL ? c->gpr[G_EAX] : 0;
            skip |= tell(p, c, (unsigned)i, &e) == RT_SKIP;
        }
    return skip;
}

static bool begins(void *arg, struct cpu *c, const struct insn *in, bool again)
{
    struct probes *p = arg;
    u64 set = 0;
    laddr la = c->eip + c->seg[S_CS].base;
    if (unlikely(p->rt->stream.cfg.what)) stream_insn(&p->rt->stream, in, la, again);
    if (again) return false;
    for
        EACH(i, of_instructions(p))
    if (!p->slot[i].tally && begins_with(&p->slot[i], in, la, c->cpl)) set |= 1ull << i;
    return set && tell_begins(p, c, set);
}

int helper_tell(struct cpu *c, u32 arg);
/* Translated code, before an instruction. Where the guest is to stop, it stops behind what is interpreted. */
int helper_tell(struct cpu *c, u32 arg)
{
    struct probes *p = &c->rt->probes;
    bool skip = tell_begins(p, c, p->set[arg & 0xffff]);
    c->insns_ahead = 0;
    if (skip) {
        c->eip += arg >> 16;
        p->skipped = true;
        return HELPER_NEXT;
    }
    return p->stopped ? HELPER_EMULATE : HELPER_DONE;
}

/* An interrupt may come there as well, and its return look like the system call's: in time that is next to nothing. */
static bool behind_int(struct rt *rt, const struct rt_probe *p, laddr la)
{
    u8 insn[2];
    return rt_read_linear(rt, la - 2, insn, 2) == 2 && insn[0] == 0xcd && insn[1] == vector_of(p);
}

static void done(void *arg, struct cpu *c, const struct insn *in, laddr la, u8 cpl)
{
    struct probes *p = arg;
    for (u32 m = probes_tally_insn(p, in, la, cpl); m; m &= m - 1) cpu_tally(c)[__builtin_ctz(m)]++;
    bool returns = (in->op == OP_IRET || in->op == OP_SYSEXIT) && cpl < 3 && c->cpl == 3;
    if (likely(!returns || !p->of[EV_SYSRET])) return;
    struct rt_event e = event_here(c, EV_SYSRET);
    e.value = c->gpr[G_EAX];
    for
        EACH(i, p->of[EV_SYSRET])
    if (covers(&p->slot[i].is, e.la, 1, 3) && behind_int(p->rt, &p->slot[i].is, e.la))
        (void)tell(p, c, (unsigned)i, &e);
}

static void entered_told(struct probes *p, struct cpu *c)
{
    const struct rt_event e = event_here(c, EV_BLOCK);
    for
        EACH(i, p->told[EV_BLOCK])
    if (covers(&p->slot[i].is, e.la, 1, c->cpl)) (void)tell(p, c, (unsigned)i, &e);
}

static void entered(void *arg, struct cpu *c)
{
    struct probes *p = arg;
    laddr la = c->eip + c->seg[S_CS].base;
    for (u32 m = probes_tally_entry(p, la, c->cpl); m; m &= m - 1) cpu_tally(c)[__builtin_ctz(m)]++;
    if (p->told[EV_BLOCK]) entered_told(p, c);
}

int helper_entry(struct cpu *c, u32 eip);
/* Translated code, at the beginning of a block. */
int helper_entry(struct cpu *c, u32 eip)
{
    c->eip = eip;
    entered_told(&c->rt->probes, c);
    c->insns_ahead = 0;
    return c->rt->probes.stopped ? HELPER_EMULATE : HELPER_DONE; /* what is interpreted is looked behind */
}

static bool has_vector(enum probe_event what) { return what == EV_EXCEPTION || what == EV_INTERRUPT; }

static void happens(void *arg, struct cpu *c, enum probe_event what, u64 address, unsigned size, u64 value, u32 error)
{
    struct probes *p = arg;
    if (unlikely(stream_wants(&p->rt->stream, VM_STREAM_EVENTS)))
        stream_event(&p->rt->stream, what, address, size, value, error);
    if (likely(!p->of[what])) return;
    struct rt_event e = event_here(c, what);
    bool at_insn = has_vector(what) || what == EV_CR3 || what == EV_TASK;
    e.address = address, e.size = (u8)(size > 255 ? 255 : size), e.value = value, e.error = error;
    for
        EACH(i, p->of[what])
        {
            const struct rt_probe *is = &p->slot[i].is;
            if (!covers(is, at_insn ? e.la : address, size ? size : 1, c->cpl)) continue;
            if (has_vector(what) && is->vector >= 0 && (u64)is->vector != value) continue;
            (void)tell(p, c, (unsigned)i, &e);
        }
}

static void accessed(void *arg, struct cpu *c UNUSED, laddr la, unsigned size, bool write, const void *bytes)
{
    stream_access(&((struct probes *)arg)->rt->stream, la, size, write, bytes);
}

/* ---- which there are ---- */

void probes_init(struct probes *p, struct rt *rt)
{
    p->rt = rt;
    p->hooks = (struct probe_hooks){
        .arg = p, .begins = begins, .done = done, .entered = entered, .happens = happens, .accessed = accessed
    };
}

static bool of_memory(const struct rt_probe *p) { return p->event == EV_READ || p->event == EV_WRITE; }

static int watch_all(struct probes *p)
{
    int rc = 0;
    watch_probes_none(p->rt->cpu);
    for (unsigned i = 0; i < PROBES_MAX && !rc; i++) {
        const struct rt_probe *is = &p->slot[i].is;
        if (p->slot[i].used && of_memory(is))
            rc = watch_probe_add(p->rt->cpu, (laddr)is->from, (laddr)is->to,
                                 is->event == EV_READ ? WATCH_READS : WATCH_WRITES);
    }
    return rc;
}

/* 0 or -ENOMEM. */
static int probes_changed(struct probes *p)
{
    u64 all = 0;
    bool was = p->in_code;
    memset(p->of, 0, sizeof p->of);
    memset(p->told, 0, sizeof p->told);
    for (unsigned i = 0; i < PROBES_MAX; i++) {
        const struct probe *s = &p->slot[i];
        if (!s->used) continue;
        all |= p->of[s->is.event] |= 1ull << i;
        if (!s->tally) p->told[s->is.event] |= 1ull << i;
    }
    u64 code = p->of[EV_INSN] | p->of[EV_BLOCK] | p->of[EV_SYSCALL] | p->of[EV_SYSRET];
    const struct stream *stream = &p->rt->stream;
    p->in_code = code != 0 || stream_wants(stream, STREAM_BLOCKS | STREAM_MEMORY);
    p->hooks.accesses = stream_wants(stream, STREAM_MEMORY);
    p->hooks.blocks = p->of[EV_BLOCK] != 0;
    /* The interpreter knows where it is, and how many came before, if it does one at a time; or at an exception. */
    p->hooks.insns = (all & ~(p->of[EV_EXCEPTION] | p->of[EV_INTERRUPT])) != 0 || stream->cfg.what;
    p->rt->cpu->probes = all || stream->cfg.what ? &p->hooks : NULL;
    interp_probes_changed(p->rt->interp);
    p->sets = 0;
    if (was || p->in_code || p->rt->tap.on) rt_tap_changed(p->rt);
    return watch_all(p);
}

int probes_stream_changed(struct probes *p) { return probes_changed(p); }

/* A counter of translated code's that nobody has; 0: there is none. The last ones are reached by the shortest code. */
static u8 free_tally(const struct probes *p)
{
    u32 used = 1u << TALLY_INSNS | 1;
    for (unsigned i = 0; i < PROBES_MAX; i++)
        if (p->slot[i].used) used |= 1u << p->slot[i].tally;
    return ~used ? (u8)(31 - __builtin_clz(~used)) : 0;
}

int rt_probe_add(struct rt *rt, const struct rt_probe *is, unsigned *id)
{
    struct probes *p = &rt->probes;
    unsigned i = 0;
    if (is->event >= EV_COUNT || is->to < is->from) return -EINVAL;
    if (of_memory(is) && (is->to > UINT32_MAX || is->to - is->from >= WATCHED_MAX)) return -E2BIG;
    while (i < PROBES_MAX && p->slot[i].used) i++;
    if (i == PROBES_MAX) return -ENOSPC;
    struct probe *s = &p->slot[i];
    *s = (struct probe){ .used = true, .is = *is };
    if (!is->fn && (is->event == EV_INSN || is->event == EV_BLOCK)) s->tally = free_tally(p);
    if (s->tally) cpu_tally(rt->cpu)[s->tally] = 0;
    int rc = probes_changed(p);
    if (rc) {
        s->used = false;
        (void)!probes_changed(p); /* there is less of it */
        return rc;
    }
    *id = i;
    return 0;
}

int rt_probe_remove(struct rt *rt, unsigned id)
{
    struct probes *p = &rt->probes;
    if (id >= PROBES_MAX || !p->slot[id].used) return -ENOENT;
    p->slot[id].used = false;
    return probes_changed(p);
}

u64 rt_probe_hits(const struct rt *rt, unsigned id)
{
    const struct probe *s = &rt->probes.slot[id % PROBES_MAX];
    return s->tally ? cpu_tally(rt->cpu)[s->tally] : s->hits;
}

unsigned rt_probe_met(const struct rt *rt) { return rt->probes.met; }

/* ---- names ---- */

const char *rt_event_name(unsigned i, const char **what)
{
    static const struct {
        const char *name, *what;
    } event[] = {
#define EVENT(name, spelling, text, address) { spelling, text },
#include "core/events.def"
#undef EVENT
    };
    if (i >= ARRAY_LEN(event)) return NULL;
    if (what) *what = event[i].what;
    return event[i].name;
}

u16 rt_mnemonic(const char *name)
{
    static const char *const op[OP_COUNT] = {
#define INSN_OP(name) [OP_##name] = #name,
#include "translator/front/insn_op.def"
#undef INSN_OP
    };
    for (unsigned i = 1; i < OP_COUNT; i++)
        if (!strcasecmp(op[i], name)) return (u16)i;
    return 0;
}
