/* Owns the forms of host code that depend on where a block lies, and their correction. */
#include "translator/lower/reloc.h"

#include <string.h>

#define DISP32 \
    0x7fffffff /* a displacement that takes 32 bits, at the end of the instruction; the right one replaces it */

static void put_disp32(struct emit *e, u32 v)
{
    if (!e->overflow) memcpy(e->p - 4, &v, 4);
}

void emit_mov_eip(struct emit *e, int dst, vaddr eip, unsigned at)
{
    emit_mov_ri32(e, dst, eip);
    emit_note(e, RELOC_EIP, at);
}

void emit_store_eip(struct emit *e, struct hmem m, vaddr eip)
{
    emit_store_imm(e, m, eip, 4);
    emit_note(e, RELOC_EIP, 0);
}

void emit_mov_eip_high(struct emit *e, int dst, vaddr eip, u32 low)
{
    emit_mov_ri64_long(e, dst, (u64)eip << 32 | low);
    emit_note(e, RELOC_EIP, 0);
}

void emit_add_eip(struct emit *e, int dst, vaddr eip, unsigned at)
{
    emit_op_rm(e, 0, 0x8d, 0, dst, hm(dst, DISP32));
    put_disp32(e, eip);
    emit_note(e, RELOC_EIP, at);
}

static u32 slot_of(vaddr eip) { return jump_index(eip) * (u32)sizeof(struct jump_entry); }

void emit_load_slot(struct emit *e, int dst, vaddr eip, unsigned at)
{
    emit_load32(e, dst, hm(H_JC, DISP32));
    put_disp32(e, slot_of(eip) + (u32)offsetof(struct jump_entry, neg_eip));
    emit_note(e, RELOC_SLOT, at);
}

void emit_jmp_slot(struct emit *e, vaddr eip, unsigned at)
{
    emit_jmp_m(e, hm(H_JC, DISP32));
    put_disp32(e, slot_of(eip) + (u32)offsetof(struct jump_entry, code));
    emit_note(e, RELOC_SLOT, at);
}

void reloc_apply(u8 *code, const struct reloc *r, unsigned n, u32 delta, const u8 *was, const u8 *is)
{
    vaddr eip = 0; /* what was corrected last */
    for (; n--; r++) {
        u32 v = get32(code + r->at);
        if (r->kind == RELOC_SLOT) v = slot_of(eip) + v % (u32)sizeof(struct jump_entry);
        else {
            if (was && r->field) v += get32(is + r->field) - get32(was + r->field);
            if (r->kind == RELOC_EIP) eip = v += delta;
        }
        memcpy(code + r->at, &v, 4);
    }
}

void emit_edge(struct emit *e, u32 block, unsigned i) { emit_mov_ri32(e, H_R8, block * 2 + i); }

void emit_patch_edge(u8 *thunk, u32 block, unsigned i)
{
    u32 v = block * 2 + i;
    memcpy(thunk + 2, &v, 4);
}
