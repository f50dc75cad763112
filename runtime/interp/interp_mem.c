/* Accesses that the soft TLB does not answer at once: misses, page crossings, devices, code pages, data breakpoints and
 * alignment checks; and operands of more than 4 bytes.
 *
 *   I1  With ip->checked every access comes here.   [state_update in interp.c] */
#include "runtime/interp/interp_core.h"

#include <string.h>

/* Data and I/O breakpoints (SDM vol. 3, 17.2.4): condition is the R/W field's meaning of the access. */
enum { WATCH_EXEC, WATCH_WRITE, WATCH_IO, WATCH_READ };

static bool breakpoint_covers(const struct cpu *c, unsigned i, u32 addr, unsigned size)
{
    static const u8 lengths[4] = { 1, 2, 8, 4 };
    u32 len = lengths[c->dr[7] >> (18 + 4 * i) & 3], from = c->dr[i] & ~(len - 1);
    return addr - from < len || from - addr < size;
}

static void watch(struct interp *ip, u32 addr, unsigned size, bool write)
{
    const struct cpu *c = ip->c;
    for (unsigned i = 0; i < 4; i++) {
        u32 rw = c->dr[7] >> (16 + 4 * i) & 3;
        if (!(c->dr[7] >> 2 * i & 3) || !(rw == WATCH_READ || (rw == WATCH_WRITE && write))) continue;
        if (breakpoint_covers(c, i, addr, size)) ip->watch_hits |= (u8)(1u << i);
    }
}

void interp_watch_io(struct interp *ip, u16 port, unsigned size)
{
    const struct cpu *c = ip->c;
    if (!ip->single || !(c->cr4 & CR4_DE)) return;
    for (unsigned i = 0; i < 4; i++)
        if ((c->dr[7] >> 2 * i & 3) && (c->dr[7] >> (16 + 4 * i) & 3) == WATCH_IO
            && breakpoint_covers(c, i, port, size))
            ip->watch_hits |= (u8)(1u << i);
}

/* What an operand of so many bytes is aligned to (SDM vol. 3, table 6-7): the x87 unit's environments and states to
 * their words or doublewords, pseudo-descriptors to 4, an FXSAVE image to nothing here, for it demands 16 and raises
 * #GP. */
static unsigned natural_alignment(unsigned size)
{
    switch (size) {
    case 6:
    case 28:
    case 108: return 4;
    case 10: return 8;
    case 14:
    case 94: return 2;
    default: return size > 16 ? 1 : size;
    }
}

/* #AC (SDM vol. 3, 6.15). Operands that demand alignment anyway raise #GP before they come here. */
static int check_alignment(const struct interp *ip, laddr la, unsigned alignment)
{
    struct cpu *c = ip->c;
    if (c->cpl != 3 || !(c->cr0 & CR0_AM) || !(c->eflags_sys & F_AC)) return 0;
    return la & (alignment - 1) ? exc_raise_err(c, V_AC, 0) : 0;
}

/* A device may have asked for something, which is looked at after this instruction. */
static void look_around(struct interp *ip)
{
    if (unlikely(ip->c->kick || ip->c->irq_pending)) ip->attention = 1;
}

int interp_read_slow(struct interp *ip, laddr la, unsigned size, u32 *out)
{
    u64 v;
    if (ip->checked && check_alignment(ip, la, size)) return ST_FAULT;
    if (mem_read(ip->c, la, size, ip->c->cpl == 3, &v)) return ST_FAULT;
    if (ip->checked) watch(ip, la, size, false);
    look_around(ip);
    *out = (u32)v & size_mask(size);
    return 0;
}

int interp_write_slow(struct interp *ip, laddr la, unsigned size, u32 val)
{
    if (ip->checked && check_alignment(ip, la, size)) return ST_FAULT;
    if (mem_write(ip->c, la, size, ip->c->cpl == 3, val & size_mask(size))) return ST_FAULT;
    if (ip->checked) watch(ip, la, size, true);
    look_around(ip);
    return 0;
}

int interp_modify_slow(struct interp *ip, laddr la, unsigned size, u32 *out)
{
    if (ip->checked && check_alignment(ip, la, size)) return ST_FAULT;
    if (mem_probe_write(ip->c, la, size, ip->c->cpl == 3)) return ST_FAULT;
    return interp_read_slow(ip, la, size, out);
}

/* ---- longer operands ---- */

int interp_read_buf(struct interp *ip, unsigned seg, u32 off, void *buf, unsigned size)
{
    return interp_read_parts(ip, seg, off, buf, size, natural_alignment(size));
}

int interp_read_parts(struct interp *ip, unsigned seg, u32 off, void *buf, unsigned size, unsigned alignment)
{
    laddr la;
    if (seg_to_linear(ip->c, seg, off, size, ACC_R, &la)) return ST_FAULT;
    const u8 *p = tlb_hit(ip->tlb_r, la, size);
    if (likely(p != NULL)) {
        memcpy(buf, p, size);
        return 0;
    }
    if (ip->checked && check_alignment(ip, la, alignment)) return ST_FAULT;
    if (mem_read_buf(ip->c, la, buf, size, ip->c->cpl == 3)) return ST_FAULT;
    if (ip->checked) watch(ip, la, size, false);
    look_around(ip);
    return 0;
}

int interp_probe_write(struct interp *ip, unsigned seg, u32 off, unsigned size)
{
    laddr la;
    if (seg_to_linear(ip->c, seg, off, size, ACC_W, &la)) return ST_FAULT;
    if (likely(tlb_hit(ip->tlb_w, la, size) != NULL)) return 0;
    if (ip->checked && check_alignment(ip, la, natural_alignment(size))) return ST_FAULT;
    return mem_probe_write(ip->c, la, size, ip->c->cpl == 3);
}

int interp_write_buf(struct interp *ip, unsigned seg, u32 off, const void *buf, unsigned size)
{
    laddr la;
    if (seg_to_linear(ip->c, seg, off, size, ACC_W, &la)) return ST_FAULT;
    u8 *p = tlb_hit(ip->tlb_w, la, size);
    if (likely(p != NULL)) {
        memcpy(p, buf, size);
        return 0;
    }
    if (ip->checked && check_alignment(ip, la, natural_alignment(size))) return ST_FAULT;
    if (mem_write_buf(ip->c, la, buf, size, ip->c->cpl == 3)) return ST_FAULT;
    if (ip->checked) watch(ip, la, size, true);
    look_around(ip);
    return 0;
}
