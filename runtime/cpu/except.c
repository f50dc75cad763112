/* Owns the way from an event to its handler: exceptions, software interrupts, external interrupts and NMI, through the
 * IDT, or the interrupt table in real mode. SDM vol. 3, chapter 6; vol. 2, INT n.
 *
 *   I1  deliver() either reaches the handler's first instruction or changes nothing and raises what went wrong.
 *   I2  Two exceptions that the manual does not handle one after the other become #DF, and #DF with another becomes
 *       shutdown: table 6-5, in combine() alone.
 *   I3  RF in the image that is pushed is 1 for faults (so that the instruction breakpoint is not met again); for all
 *       else it is what EFLAGS has.
 *
 * Enter at exc_deliver() (what an instruction raised), exc_soft_int(), exc_interrupt(). */
#include "runtime/cpu/probe.h"
#include "runtime/cpu/except.h"
#include "runtime/cpu/cpu_priv.h"
#include "runtime/cpu/cpu_trace.h"

#define ERR_EXT 1u /* not caused by the program itself */
#define ERR_IDT 2u /* the index is one into the IDT */

/* ---- raising ---- */

/* Vectors that push an error code. */
static bool has_error(unsigned v)
{
    const u32 set = 1u << V_DF | 1u << V_TS | 1u << V_NP | 1u << V_SS | 1u << V_GP | 1u << V_PF | 1u << V_AC;
    return v < 32 && set >> v & 1;
}

int exc_raise(struct cpu *c, enum vector v) { return exc_raise_err(c, v, 0); }

int exc_raise_err(struct cpu *c, enum vector v, u32 error)
{
    c->exc.valid = true;
    c->exc.has_error = has_error(v);
    c->exc.vector = (u8)v;
    c->exc.error = error;
    return GUEST_FAULT;
}

int exc_raise_db(struct cpu *c, u32 dr6)
{
    c->dr[6] |= dr6;
    return exc_raise(c, V_DB);
}

/* ---- delivery ---- */

struct event {
    u8 vector;
    bool has_error;
    bool software; /* INT n, INT3, INTO: the gate's DPL counts */
    u32 ext;       /* EXT bit of error codes that its delivery raises */
    u32 error;
    u32 eip, eflags; /* to push */
};

/* Real mode: four bytes a vector, no error codes. */
static int deliver_real(struct cpu *c, const struct event *e)
{
    u64 ip, cs;
    u32 at = e->vector * 4u;
    if (at + 3 > c->idtr.limit) return guest_fault(c, V_GP, 0);
    if (lin_read(c, c->idtr.base + at, 2, false, &ip) || lin_read(c, c->idtr.base + at + 2, 2, false, &cs))
        return GUEST_FAULT;
    const u32 frame[3] = { e->eflags, c->seg[S_CS].sel, e->eip };
    if (stack_push(c, &c->seg[S_SS], c->gpr[G_ESP], frame, 3, 2, false, 0)) return GUEST_FAULT;
    stack_set_sp(c, c->gpr[G_ESP] - 6);
    c->iflag = 0;
    c->eflags_sys &= ~(u32)(F_TF | F_AC | F_RF);
    seg_set_real(c, S_CS, (u16)cs);
    c->eip = (u32)ip;
    mode_refresh(c);
    return 0;
}

/* What changes once nothing can fail any more. */
static void enter_handler(struct cpu *c, struct seg *cs, unsigned cpl, u32 eip, bool interrupt_gate)
{
    c->eflags_sys &= ~(u32)(F_TF | F_NT | F_RF | F_VM);
    if (interrupt_gate) c->iflag = 0;
    cs->sel = (u16)((cs->sel & 0xfffc) | cpl);
    c->cpl = (u8)cpl;
    seg_set(c, S_CS, cs);
    c->eip = eip;
    mode_refresh(c);
}

/* To a more privileged handler, on the stack that the TSS has for it. */
static int deliver_inner(struct cpu *c, const struct event *e, struct seg *cs, unsigned dpl, u32 eip, unsigned size,
                         bool interrupt_gate)
{
    u32 word[10], esp;
    unsigned n = 0;
    struct seg ss;
    bool vm86 = c->eflags_sys & F_VM;
    int r = stack_inner(c, dpl, e->ext, &ss, &esp);
    if (unlikely(r)) return r;
    if (unlikely(vm86)) {
        word[n++] = c->seg[S_GS].sel;
        word[n++] = c->seg[S_FS].sel;
        word[n++] = c->seg[S_DS].sel;
        word[n++] = c->seg[S_ES].sel;
    }
    word[n++] = c->seg[S_SS].sel;
    word[n++] = c->gpr[G_ESP];
    word[n++] = e->eflags;
    word[n++] = c->seg[S_CS].sel;
    word[n++] = e->eip;
    if (e->has_error) word[n++] = e->error;
    u32 ss_error = sel_error(ss.sel) | e->ext;
    if (unlikely(eip > cs->limit))
        return stack_room(c, &ss, esp, n, size, ss_error) ? GUEST_FAULT : guest_fault(c, V_GP, e->ext);
    if (unlikely(stack_push(c, &ss, esp, word, n, size, false, ss_error))) return GUEST_FAULT;

    if (unlikely(vm86)) {
        c->eflags_sys &= ~(u32)F_VM; /* seg_set() asks */
        static const u8 dropped[4] = { S_GS, S_FS, S_DS, S_ES };
        for (unsigned i = 0; i < 4; i++) seg_set_null(c, (enum segreg)dropped[i], 0);
    }
    seg_set(c, S_SS, &ss);
    c->gpr[G_ESP] = esp;
    stack_set_sp(c, esp - n * size);
    enter_handler(c, cs, dpl, eip, interrupt_gate);
    c->ctr.inner++;
    return 0;
}

static int deliver_same(struct cpu *c, const struct event *e, struct seg *cs, u32 eip, unsigned size,
                        bool interrupt_gate)
{
    u32 word[4] = { e->eflags, c->seg[S_CS].sel, e->eip, e->error };
    unsigned n = e->has_error ? 4 : 3;
    const struct seg *ss = &c->seg[S_SS];
    if (unlikely(eip > cs->limit))
        return stack_room(c, ss, c->gpr[G_ESP], n, size, e->ext) ? GUEST_FAULT : guest_fault(c, V_GP, e->ext);
    if (unlikely(stack_push(c, ss, c->gpr[G_ESP], word, n, size, c->cpl == 3, e->ext))) return GUEST_FAULT;
    stack_set_sp(c, c->gpr[G_ESP] - n * size);
    enter_handler(c, cs, c->cpl, eip, interrupt_gate);
    return 0;
}

/* Returns 0, GUEST_FAULT, or TASK_FAULTED. */
static int deliver(struct cpu *c, const struct event *e)
{
    if (unlikely(!(c->cr0 & CR0_PE))) return deliver_real(c, e);
    u64 raw;
    u32 at = e->vector * 8u, gate_error = at | ERR_IDT | e->ext;
    if (unlikely(at + 7 > c->idtr.limit)) return guest_fault(c, V_GP, gate_error);
    if (unlikely(lin_read(c, c->idtr.base + at, 8, false, &raw))) return GUEST_FAULT;
    const struct desc gate = { .lo = (u32)raw, .hi = (u32)(raw >> 32) };
    unsigned type = desc_type(&gate);
    bool known = type == ST_TASK_GATE || type == ST_INT16 || type == ST_TRAP16 || type == ST_INT32 || type == ST_TRAP32;
    if (unlikely(gate.hi & DH_S || !known || (e->software && desc_dpl(&gate) < c->cpl)))
        return guest_fault(c, V_GP, gate_error);
    if (unlikely(!desc_present(&gate))) return guest_fault(c, V_NP, gate_error);
    u16 sel = (u16)(gate.lo >> 16);
    if (unlikely(type == ST_TASK_GATE)) {
        u32 eflags = c->eflags_sys;
        c->eflags_sys |= e->eflags & F_RF; /* for the image in the old TSS */
        int r = task_switch_gate(c, sel, TASK_CALL, e->eip, e->has_error ? &e->error : NULL, e->ext);
        if (r == GUEST_FAULT) c->eflags_sys = eflags;
        return r;
    }

    struct desc d;
    struct seg cs;
    if (unlikely(sel_null(sel))) return guest_fault(c, V_GP, e->ext);
    int r = desc_need(c, sel, &d, V_GP, e->ext);
    if (unlikely(r)) return r;
    unsigned dpl = desc_dpl(&d);
    bool inner = !(d.hi & DH_C) && dpl < c->cpl, vm86 = c->eflags_sys & F_VM;
    bool ok = desc_is_code(&d) && dpl <= c->cpl && !(vm86 && (!inner || dpl != 0));
    if (unlikely(!ok)) return guest_fault(c, V_GP, sel_error(sel) | e->ext);
    if (unlikely(!desc_present(&d))) return guest_fault(c, V_NP, sel_error(sel) | e->ext);
    if (unlikely(desc_mark(c, &d))) return GUEST_FAULT;
    desc_unpack(&d, sel, &cs);

    bool wide = type & 8, interrupt_gate = !(type & 1);
    u32 eip = wide ? (gate.lo & 0xffff) | (gate.hi & 0xffff0000) : gate.lo & 0xffff;
    if (inner) return deliver_inner(c, e, &cs, dpl, eip, wide ? 4 : 2, interrupt_gate);
    return deliver_same(c, e, &cs, eip, wide ? 4 : 2, interrupt_gate);
}

/* ---- exceptions during delivery ---- */

enum exc_class { EXC_BENIGN, EXC_CONTRIBUTORY, EXC_PAGE_FAULT, EXC_DOUBLE };

static enum exc_class class_of(unsigned v)
{
    switch (v) {
    case V_DE:
    case V_TS:
    case V_NP:
    case V_SS:
    case V_GP: return EXC_CONTRIBUTORY;
    case V_PF: return EXC_PAGE_FAULT;
    case V_DF: return EXC_DOUBLE;
    default: return EXC_BENIGN;
    }
}

enum combined { HANDLE_SECOND, DOUBLE_FAULT, SHUTDOWN };

/* SDM vol. 3, table 6-5. */
static enum combined combine(enum exc_class first, enum exc_class second)
{
    if (second == EXC_BENIGN) return HANDLE_SECOND;
    switch (first) {
    case EXC_DOUBLE: return SHUTDOWN;
    case EXC_CONTRIBUTORY: return second == EXC_PAGE_FAULT ? HANDLE_SECOND : DOUBLE_FAULT;
    case EXC_PAGE_FAULT: return DOUBLE_FAULT;
    default: return second == EXC_DOUBLE ? SHUTDOWN : HANDLE_SECOND;
    }
}

/* Faults leave EIP at the instruction, and their image of EFLAGS has RF set. #DB is a fault or a trap: whoever raises
 * it as a fault sets RF. #BP, #OF are traps; #DF and #MC are aborts. */
static bool is_fault(unsigned v)
{
    const u32 others = 1u << V_DB | 1u << V_NMI | 1u << V_BP | 1u << V_OF | 1u << V_DF | 1u << V_MC;
    return v < 32 && !(others >> v & 1);
}

static struct exc_record *log_exception(struct cpu *c, const struct event *e)
{
    struct exc_record *r = &c->exc_log[c->exc_count++ % EXC_LOG];
    r->eip = c->eip;
    r->esp = c->gpr[G_ESP];
    r->cr2 = c->cr2;
    r->error = e->error;
    r->cs = c->seg[S_CS].sel;
    r->vector = e->vector;
    r->cpl = c->cpl;
    r->has_error = e->has_error;
    r->fate = EXC_DELIVERED;
    return r;
}

/* What a #DB handler finds changed in the debug registers (SDM vol. 3, 17.2.4, 17.4.1). */
static void note_debug(struct cpu *c)
{
    c->dr[7] &= ~(1u << 13); /* GD */
    c->debugctl = 0;         /* LBR, BTF */
}

static struct event event_of_exception(const struct cpu *c)
{
    const struct pending_exc *x = &c->exc;
    return (struct event){ .vector = x->vector,
                           .has_error = has_error(x->vector),
                           .ext = ERR_EXT,
                           .error = x->error,
                           .eip = c->eip,
                           .eflags = cpu_eflags(c) | (is_fault(x->vector) ? F_RF : 0) };
}

/* Delivers e and what its delivery raises. */
static int deliver_chain(struct cpu *c, struct event e, enum exc_class first)
{
    for (;;) {
        struct exc_record *record = log_exception(c, &e);
        if (e.vector == V_PF) c->ctr.pf++;
        probe_tell(c, EV_EXCEPTION, e.vector == V_PF ? c->cr2 : c->seg[S_CS].base + c->eip, 0, e.vector, e.error);
        CPU_TRACE(c, exc, "exception %02x error %x at %04x:%08x cpl %u cr2 %08x\n", e.vector, e.error, c->seg[S_CS].sel,
                  c->eip, c->cpl, c->cr2);
        int r = deliver(c, &e);
        if (likely(!r)) {
            if (e.vector == V_DB) note_debug(c);
            return 0;
        }
        enum exc_class second = class_of(c->exc.vector);
        record->fate = EXC_NESTED;
        c->exc.valid = false;
        enum combined what = combine(first, second);
        if (what == SHUTDOWN) {
            record->fate = EXC_TRIPLE;
            return EXC_SHUTDOWN;
        }
        if (what == DOUBLE_FAULT) {
            exc_raise_err(c, V_DF, 0);
            c->exc.valid = false;
        }
        first = class_of(c->exc.vector);
        e = event_of_exception(c);
    }
}

int exc_deliver(struct cpu *c)
{
    BUG_ON(!c->exc.valid);
    c->exc.valid = false;
    c->intr_shadow = SHADOW_NONE;
    c->debug_pending = 0;
    return deliver_chain(c, event_of_exception(c), class_of(c->exc.vector));
}

int exc_interrupt(struct cpu *c, u8 vector)
{
    c->intr_shadow = 0;
    probe_tell(c, EV_INTERRUPT, c->seg[S_CS].base + c->eip, 0, vector, 0);
    struct event e = { .vector = vector, .ext = ERR_EXT, .eip = c->eip, .eflags = cpu_eflags(c) };
    int r = deliver(c, &e);
    if (likely(!r)) return 0;
    /* An interrupt is benign: what its delivery raised comes next, on its own. */
    return exc_deliver(c);
}

/* ---- INT n of an 8086 program, with CR4.VME (SDM vol. 3, 20.3.3) ---- */

#define TSS_IOMAP_OFFSET 0x66
#define TSS32_LIMIT_MIN 0x67
#define REDIRECTION_BYTES 32u /* below the map of ports */

/* Whether the program's own handler is to have it: the TSS says. #GP(0) if that has no place for it. */
static int vme_redirects(struct cpu *c, u8 vector, bool *own)
{
    u64 map, bits;
    bool tss32 = (c->tr.attr & SEG_P) && (c->tr.attr & SEG_TYPE & ~2u) == ST_TSS32;
    if (!tss32 || c->tr.limit < TSS32_LIMIT_MIN) return guest_fault(c, V_GP, 0);
    if (lin_read(c, c->tr.base + TSS_IOMAP_OFFSET, 2, false, &map)) return GUEST_FAULT;
    u32 at = (u32)map - REDIRECTION_BYTES + vector / 8;
    if (at > c->tr.limit) return guest_fault(c, V_GP, 0);
    if (mem_read(c, c->tr.base + at, 1, false, &bits)) return GUEST_FAULT;
    *own = !(bits >> vector % 8 & 1);
    return 0;
}

/* Through the program's interrupt table, as in real mode. With an IOPL below 3 it sees and loses VIF instead of IF. */
static int deliver_vme(struct cpu *c, u8 vector, u32 next)
{
    bool vif = cpu_uses_vif(c);
    u32 flags = cpu_eflags(c) & 0xffff;
    u64 ip, cs;
    if (lin_read(c, vector * 4u, 2, false, &ip) || lin_read(c, vector * 4u + 2, 2, false, &cs)) return GUEST_FAULT;
    if (vif) flags = (flags & ~(u32)F_IF) | F_IOPL | (c->eflags_sys & F_VIF ? F_IF : 0);
    const u32 frame[3] = { flags, c->seg[S_CS].sel, next };
    if (stack_push(c, &c->seg[S_SS], c->gpr[G_ESP], frame, 3, 2, true, 0)) return GUEST_FAULT;
    stack_set_sp(c, c->gpr[G_ESP] - 6);
    c->eflags_sys &= ~(u32)(F_TF | F_RF | (vif ? F_VIF : 0));
    if (!vif) c->iflag = 0;
    seg_set_vm86(c, S_CS, (u16)cs);
    c->eip = (u32)ip;
    mode_refresh(c);
    return 0;
}

static int vm86_int(struct cpu *c, u8 vector, u32 next, bool *done)
{
    *done = false;
    if (c->cr4 & CR4_VME && vme_redirects(c, vector, done)) return GUEST_FAULT;
    if (*done) return deliver_vme(c, vector, next);
    return cpu_iopl(c) < 3 ? guest_fault(c, V_GP, 0) : 0;
}

int exc_soft_int(struct cpu *c, u8 vector, u32 next, bool int_n)
{
    bool icebp = vector == V_DB && !int_n;
    if (unlikely(c->eflags_sys & F_VM && int_n)) {
        bool done;
        int failed = vm86_int(c, vector, next, &done);
        if (done && !failed) c->intr_shadow = 0;
        if (done || failed) return failed;
    }
    struct event e = {
        .vector = vector, .software = !icebp, .ext = icebp ? ERR_EXT : 0, .eip = next, .eflags = cpu_eflags(c)
    };
    int r = task_settle(c, deliver(c, &e));
    if (likely(!r)) c->intr_shadow = 0;
    return r;
}

/* ---- for people ---- */

void exc_describe_chain(const struct cpu *c, FILE *out)
{
    static const char *const name[20] = { "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "",
                                          "#TS", "#NP", "#SS", "#GP", "#PF", "",    "#MF", "#AC", "#MC", "#XM" };
    static const char *const fate[] = { [EXC_DELIVERED] = "delivered",
                                        [EXC_NESTED] = "its delivery raised the next",
                                        [EXC_TRIPLE] = "its delivery failed: shutdown" };
    u32 n = c->exc_count < EXC_LOG ? c->exc_count : EXC_LOG;
    fprintf(out, "last exceptions, oldest first (%u of %u):\n", n, c->exc_count);
    for (u32 i = c->exc_count - n; i != c->exc_count; i++) {
        const struct exc_record *r = &c->exc_log[i % EXC_LOG];
        fprintf(out, "  %-3s", r->vector < 20 && *name[r->vector] ? name[r->vector] : "");
        fprintf(out, " vector %02x at %04x:%08x esp %08x cpl %u", r->vector, r->cs, r->eip, r->esp, r->cpl);
        if (r->has_error) fprintf(out, " error %04x", r->error);
        if (r->vector == V_PF) fprintf(out, " cr2 %08x", r->cr2);
        fprintf(out, ": %s\n", fate[r->fate]);
    }
}
