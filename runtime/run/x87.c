/* The x87 unit's pointers on their way in and out of translated code. */
#include "runtime/run/x87.h"

void x87_hot(struct cpu *c)
{
    c->x87 = (struct x87_hot){
        .op = X87_LATCHED | c->fx.fop, .ip = c->fx.fip, .dp = c->fx.fdp, .ds = X87_LATCHED | c->fx.fds, .cs = c->fx.fcs
    };
}

void callout_x87_home(struct cpu *c)
{
    cpu_x87_latch(c);
    c->fx.fop = (u16)c->x87.op;
    c->fx.fip = c->x87.ip;
    c->fx.fcs = (u16)c->x87.cs;
    c->fx.fdp = c->x87.dp;
    c->fx.fds = (u16)c->x87.ds;
    c->fx.rsvd2 = c->fx.rsvd3 = 0;
}

void x87_recover(struct cpu *c, struct xl *xl, const struct xl_point *at)
{
    struct xl_x87 due;
    if (likely(!xl_recover_x87(xl, at, &due))) return;
    c->fx.fip = due.ip;
    c->fx.fcs = c->seg[S_CS].sel;
    c->fx.fop = due.op;
    if (!due.addressed) return;
    c->fx.fdp = insn_address(&due.operand, c->gpr) + due.off;
    if (due.operand.addrsize == 2) c->fx.fdp &= 0xffff;
    c->fx.fds = c->seg[due.operand.seg].sel;
}
