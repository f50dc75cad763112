/* Owns the one case in which two exceptions are right: an instruction reads or writes memory in two places, both
 * accesses fault, and a processor reports whichever it comes to first. (Zen 3 takes ES:[EDI] of CMPS first, and only
 * sometimes.) What either may report is computed from the registers and the fixed address space of a case. */
#include "tests/diff/operands.h"

enum { SELECTOR_TI = 4 };

struct access {
    unsigned seg;
    uint32_t at;
    unsigned size;
    bool write;
};

/* Pages of a case; what is not among them is not present. */
static bool page_present(uint32_t la)
{
    return la - CODE_BASE < PAGE || la - DATA_BASE < DATA_BYTES || la - RO_BASE < PAGE || la - STACK_BASE < PAGE;
}
static bool page_writable(uint32_t la) { return la - DATA_BASE < DATA_BYTES || la - STACK_BASE < PAGE; }

/* The page fault that the access raises if its segment lets it pass. Returns false if it raises none. */
static bool page_fault(const struct access *a, uint32_t *error, uint32_t *cr2)
{
    uint32_t last = a->at + a->size - 1;
    for (uint32_t la = a->at;; la = last & ~(PAGE - 1)) {
        if (!page_present(la) || (a->write && !page_writable(la))) {
            *error = PF_U | (a->write ? PF_W : 0) | (page_present(la) ? PF_P : 0);
            *cr2 = la;
            return true;
        }
        if ((la ^ last) < PAGE) return false;
    }
}

/* Whether what s reports is a fault of access a. What reaches across 4 GiB may or may not violate the limit (SDM vol.
 * 3, 5.3), and so may an access through a segment of the LDT, whose limits are the business of gen16.c. */
static bool reports(const struct diff_state *s, const struct access *a, uint32_t error_mask)
{
    uint32_t sel = s->seg[a->seg] & 0xfffcu, error, cr2;
    bool refused = !sel || (a->write && (a->seg == S_CS || sel == (USER_CS & 0xfffcu)));
    bool may_be_beyond = a->at + a->size - 1 < a->at || (sel & SELECTOR_TI);
    if (s->vector == (a->seg == S_SS ? V_SS : V_GP)) return (refused || may_be_beyond) && !s->error;
    return s->vector == V_PF && !refused && page_fault(a, &error, &cr2) && s->cr2 == cr2
           && !((s->error ^ error) & error_mask);
}

/* The memory operand in ModRM, with a base register of ESP counted from stack pointer esp. */
static struct access explicit_access(const struct insn *in, const struct diff_state *s, uint32_t esp, bool write)
{
    uint32_t at = in->disp;
    if (in->base >= 0) at += in->base == G_ESP ? esp : s->gpr[in->base];
    if (in->index >= 0) at += s->gpr[in->index] * in->scale;
    return (struct access){ in->seg, in->addrsize == 4 ? at : at & 0xffff, insn_mem(in)->size, write };
}

static bool two_accesses(const struct insn *in, const struct diff_state *s, struct access a[2])
{
    const uint32_t mask = in->addrsize == 4 ? ~0u : 0xffff, esp = s->gpr[G_ESP];
    switch (in->op) {
    case OP_MOVS:
    case OP_CMPS:
        a[0] = (struct access){ in->seg, s->gpr[G_ESI] & mask, insn_mem(in)->size, false };
        a[1] = (struct access){ S_ES, s->gpr[G_EDI] & mask, insn_mem(in)->size, in->op == OP_MOVS };
        return true;
    case OP_PUSH:
    case OP_CALL:
        if (!insn_mem(in)) return false;
        a[0] = explicit_access(in, s, esp, false);
        a[1] = (struct access){ S_SS, esp - in->opsize, in->opsize, true };
        return true;
    case OP_POP: /* a destination relative to ESP counts from the ESP after it */
        if (!insn_mem(in)) return false;
        a[0] = (struct access){ S_SS, esp, in->opsize, false };
        a[1] = explicit_access(in, s, esp + in->opsize, true);
        return true;
    default: return false;
    }
}

bool operand_order_differs(const struct insn *in, const struct diff_state *a, const struct diff_state *b, bool kernel)
{
    struct access of[2];
    const uint32_t b_mask = kernel ? ~(uint32_t)PF_U : ~0u;
    if (!two_accesses(in, a, of)) return false;
    return (reports(a, &of[0], ~0u) && reports(b, &of[1], b_mask))
           || (reports(a, &of[1], ~0u) && reports(b, &of[0], b_mask));
}
