/* Owns the short way of far transfers of protected mode that stay in their privilege level: CS is loaded as it has been
 * loaded before.
 *
 *   I1  What is remembered of a selector follows from its descriptor, CPL and mode alone, and is taken only while all
 *       of them are the same: the descriptor is read each time.      [remembered]
 *   I2  Whatever is not plain is not begun: a fault, a page that the soft TLB does not know, a gate other than an
 *       interrupt's, flags that mean more than themselves. It is far.c's and except.c's.
 *
 * SDM vol. 2, CALL, JMP, RET, INT n, IRET; vol. 3, 5.8.1 (which privilege a code segment asks for). */
#include "runtime/cpu/cpu_priv.h"
#include "runtime/cpu/far.h"

/* Bits of the mode key that CS has. */
#define CS_BITS ((u32)(MK_CS32 | MK_CSFLAT | MK_CSLIMIT))

static inline struct far_memo *memo_of(struct cpu *c, u16 sel) { return &c->far_memo[sel >> 2 & (FAR_MEMOS - 1)]; }
static inline u16 at_cpl(const struct cpu *c, u16 sel) { return (u16)((sel & 0xfffc) | c->cpl); }

/* The descriptor as it lies in memory; 0 if that takes more than a look. */
static inline u64 look_at_descriptor(struct cpu *c, u16 sel)
{
    bool local = sel & 4;
    u32 limit = local ? c->ldtr.limit : c->gdtr.limit;
    if (unlikely((sel | 7u) > limit || (local && c->ldtr.attr & SEG_UNUSABLE))) return 0;
    const u8 *p = fast_ptr(c, (local ? c->ldtr.base : c->gdtr.base) + (sel & 0xfff8u), 8, TLB_SUP_R);
    return likely(p) ? ((const struct unaligned64 *)p)->v : 0;
}

/* What a load of sel, whose RPL is CPL, makes of CS; NULL: that is not known. */
static inline const struct far_memo *remembered(struct cpu *c, u16 sel)
{
    const struct far_memo *m = memo_of(c, sel);
    if (unlikely(m->key != FAR_MEMO_KEY(c->mode, sel) || m->window != c->window)) return NULL;
    return likely(look_at_descriptor(c, sel) == m->raw) ? m : NULL;
}

void far_remember(struct cpu *c)
{
    const u32 matter = MK_PE | MK_VM | MK_SLOW | MK_ARMED;
    const struct seg *cs = &c->seg[S_CS];
    struct seg loaded;
    if ((c->mode & matter) != MK_PE || sel_null(cs->sel)) return;
    u64 raw = look_at_descriptor(c, cs->sel);
    const struct desc d = { .lo = (u32)raw, .hi = (u32)(raw >> 32) };
    if (!desc_is_code(&d) || !desc_present(&d) || !(d.hi & DH_A)) return;
    if (d.hi & DH_C ? desc_dpl(&d) > c->cpl : desc_dpl(&d) != c->cpl) return;
    desc_unpack(&d, cs->sel, &loaded);
    if (loaded.base != cs->base || loaded.limit != cs->limit || loaded.attr != cs->attr) return; /* changed since */
    *memo_of(c, cs->sel) = (struct far_memo){ .raw = raw,
                                              .key = FAR_MEMO_KEY(c->mode, cs->sel),
                                              .mode = c->mode & CS_BITS,
                                              .seg = loaded,
                                              .complex = c->seg_complex[S_CS],
                                              .room = { c->seg_room[0][S_CS], c->seg_room[1][S_CS] },
                                              .context_tag = c->context_tag,
                                              .context_spread = c->context_spread,
                                              .window = c->window };
}

void far_forget(struct cpu *c)
{
    for (unsigned i = 0; i < FAR_MEMOS; i++) c->far_memo[i].key = 0;
}

static inline void go(struct cpu *c, const struct far_memo *m, u32 eip)
{
    c->seg[S_CS] = m->seg;
    c->seg_complex[S_CS] = m->complex;
    c->seg_room[0][S_CS] = m->room[0];
    c->seg_room[1][S_CS] = m->room[1];
    c->mode = (c->mode & ~CS_BITS) | m->mode;
    c->context_tag = m->context_tag;
    c->context_spread = m->context_spread;
    c->eip = eip;
}

/* ---- frames, if they are in a page that the soft TLB knows ---- */

static inline u8 *frame_ptr(struct cpu *c, u32 off, u32 mask, unsigned n, bool write)
{
    u64 last = (u64)off + n - 1;
    if (unlikely((s64)(c->seg_room[write][S_SS] + last) >= 0 || last > mask)) return NULL;
    enum tlb_kind k = c->cpl == 3 ? write ? TLB_USER_W : TLB_USER_R : write ? TLB_SUP_W : TLB_SUP_R;
    return fast_ptr(c, c->seg[S_SS].base + off, n, k);
}
static inline u32 word_of(const u8 *frame, unsigned i, unsigned size)
{
    return size == 2 ? ((const struct unaligned16 *)frame)[i].v : ((const struct unaligned32 *)frame)[i].v;
}
static inline void set_word(u8 *frame, unsigned i, unsigned size, u32 v)
{
    if (size == 2) ((struct unaligned16 *)frame)[i].v = (u16)v;
    else ((struct unaligned32 *)frame)[i].v = v;
}
/* Where ESP leads to, and all that of it changes. */
struct top {
    u32 esp, mask;
};
static inline struct top top_of(const struct cpu *c)
{
    return (struct top){ c->gpr[G_ESP], c->mode & MK_SS32 ? ~0u : 0xffffu };
}
static inline void set_sp(struct cpu *c, struct top t, u32 sp) { c->gpr[G_ESP] = (t.esp & ~t.mask) | (sp & t.mask); }

/* ---- transfers: true, or nothing has been done ---- */

static inline bool jump(struct cpu *c, u16 sel, u32 off)
{
    if (unlikely(sel_rpl(sel) > c->cpl)) return false;
    const struct far_memo *m = remembered(c, at_cpl(c, sel));
    if (unlikely(!m || off > m->seg.limit)) return false;
    go(c, m, off);
    return true;
}

static inline bool call(struct cpu *c, u16 sel, u32 off, u32 next, unsigned size)
{
    if (unlikely(sel_rpl(sel) > c->cpl)) return false;
    const struct far_memo *m = remembered(c, at_cpl(c, sel));
    if (unlikely(!m || off > m->seg.limit)) return false;
    const struct top t = top_of(c);
    u32 sp = (t.esp - 2 * size) & t.mask, from = c->seg[S_CS].sel;
    u8 *frame = frame_ptr(c, sp, t.mask, 2 * size, true);
    if (unlikely(!frame)) return false;
    set_sp(c, t, sp);
    go(c, m, off);
    set_word(frame, 1, size, from);
    set_word(frame, 0, size, next);
    return true;
}

static inline bool ret(struct cpu *c, u16 pop_bytes, unsigned size)
{
    const struct top t = top_of(c);
    const u8 *frame = frame_ptr(c, t.esp & t.mask, t.mask, 2 * size, false);
    if (unlikely(!frame)) return false;
    u32 eip = word_of(frame, 0, size);
    u16 sel = (u16)word_of(frame, 1, size);
    if (unlikely(sel_rpl(sel) != c->cpl)) return false;
    const struct far_memo *m = remembered(c, sel);
    if (unlikely(!m || eip > m->seg.limit)) return false;
    set_sp(c, t, t.esp + 2 * size + pop_bytes);
    go(c, m, eip);
    return true;
}

/* Of EFLAGS, arithmetic flags, DF and IF may change: of all others something follows. RF does nothing without a
 * breakpoint, and is not left set (far_iret). */
static inline bool iret(struct cpu *c, unsigned size)
{
    const struct top t = top_of(c);
    const u8 *frame = frame_ptr(c, t.esp & t.mask, t.mask, 3 * size, false);
    if (unlikely(!frame || c->nmi_blocked || c->eflags_sys & F_NT)) return false;
    u32 eip = word_of(frame, 0, size), flags = word_of(frame, 2, size);
    u16 sel = (u16)word_of(frame, 1, size);
    if (unlikely(sel_rpl(sel) != c->cpl)) return false;
    u32 stays = F_TF | F_NT;
    if (size == 4) stays |= F_AC | F_ID;
    if (c->cpl == 0) stays |= F_IOPL | (size == 4 ? F_VIF | F_VIP | F_VM : 0);
    if (unlikely((flags ^ c->eflags_sys) & stays & (F_VM | c->eflags_known))) return false;
    const struct far_memo *m = remembered(c, sel);
    if (unlikely(!m || eip > m->seg.limit)) return false;
    set_sp(c, t, t.esp + 3 * size);
    c->aflags = flags & F_ARITH;
    c->df = flags & F_DF ? -1 : 1;
    if (c->cpl <= cpu_iopl(c)) c->iflag = (flags & F_IF) != 0;
    c->eflags_sys &= ~(u32)F_RF;
    go(c, m, eip);
    return true;
}

static inline void push_interrupted(u8 *frame, unsigned size, u32 flags, u32 from, u32 next)
{
    set_word(frame, 2, size, flags);
    set_word(frame, 1, size, from);
    set_word(frame, 0, size, next);
}

static inline bool interrupt(struct cpu *c, u8 vector, u32 next)
{
    const u32 gates = 1u << ST_INT16 | 1u << ST_TRAP16 | 1u << ST_INT32 | 1u << ST_TRAP32;
    u32 at = vector * 8u;
    const u8 *p = likely(at + 7 <= c->idtr.limit) ? fast_ptr(c, c->idtr.base + at, 8, TLB_SUP_R) : NULL;
    if (unlikely(!p)) return false;
    u64 raw = ((const struct unaligned64 *)p)->v;
    const struct desc gate = { .lo = (u32)raw, .hi = (u32)(raw >> 32) };
    unsigned type = desc_type(&gate);
    if (unlikely(gate.hi & DH_S || !(gates >> type & 1) || !desc_present(&gate) || desc_dpl(&gate) < c->cpl))
        return false;
    const struct far_memo *m = remembered(c, at_cpl(c, (u16)(gate.lo >> 16)));
    bool wide = type & 8;
    u32 eip = wide ? (gate.lo & 0xffff) | (gate.hi & 0xffff0000) : gate.lo & 0xffff;
    if (unlikely(!m || eip > m->seg.limit)) return false;
    const struct top t = top_of(c);
    unsigned n = wide ? 12 : 6;
    u32 sp = (t.esp - n) & t.mask, from = c->seg[S_CS].sel, flags = cpu_eflags(c);
    u8 *frame = frame_ptr(c, sp, t.mask, n, true);
    if (unlikely(!frame)) return false;
    set_sp(c, t, sp);
    c->eflags_sys &= ~(u32)(F_TF | F_NT | F_RF);
    if (!(type & 1)) c->iflag = 0;
    go(c, m, eip);
    if (likely(wide)) push_interrupted(frame, 4, flags, from, next);
    else push_interrupted(frame, 2, flags, from, next);
    return true;
}

bool far_again(struct cpu *c, u32 how, u16 sel, u32 off)
{
    u32 next = c->eip + HELPER_FAR_LEN(how);
    bool wide = HELPER_FAR_OPSIZE(how) == 4;
    switch (HELPER_FAR_KIND(how)) {
    case FAR_JMP: return jump(c, sel, wide ? off : off & 0xffff);
    case FAR_CALL: return wide ? call(c, sel, off, next, 4) : call(c, sel, off & 0xffff, next, 2);
    case FAR_RET: return wide ? ret(c, (u16)off, 4) : ret(c, (u16)off, 2);
    case FAR_IRET: return wide ? iret(c, 4) : iret(c, 2);
    default: return interrupt(c, (u8)off, next);
    }
}
