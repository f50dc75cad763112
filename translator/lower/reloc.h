/* What in a block's host code depends on the EIP that it was made for, or is a constant of 32 bits that the guest's
 * code has as it is. Code that is relocated changes in those. Whatever is emitted of that kind is emitted by a call
 * that says so, and leaves a note; template.c makes a block for another EIP, or of other constants, by going through
 * the notes. Host code is never searched for addresses, and has none of the host's: callouts, helpers and guest state
 * are reached through R15, its own parts by relative branches.
 *
 * The encodings have one length whatever the value, so that a block is as long at one EIP as at another. */
#ifndef TRANSLATOR_RELOC_H
#define TRANSLATOR_RELOC_H
#include "core/cpu.h"
#include "translator/lower/emit_x64.h"

#include <string.h>

/* at: as for emit_note(), where the guest's code has eip relative to itself. */
void emit_mov_eip(struct emit *e, int dst, vaddr eip, unsigned at);   /* mov r32, eip                      */
void emit_store_eip(struct emit *e, struct hmem m, vaddr eip);        /* mov dword [m], eip                */
void emit_mov_eip_high(struct emit *e, int dst, vaddr eip, u32 low);  /* mov r64, eip << 32 | low          */
void emit_add_eip(struct emit *e, int dst, vaddr eip, unsigned at);   /* lea r32, [dst + eip]              */
void emit_load_slot(struct emit *e, int dst, vaddr eip, unsigned at); /* mov r32, [jump entry of eip]      */
void emit_jmp_slot(struct emit *e, vaddr eip, unsigned at);           /* jmp [jump entry of eip, its code] */

static inline u32 get32(const u8 *at)
{
    u32 v;
    memcpy(&v, at, 4);
    return v;
}

/* Corrects code that was made for another EIP. delta: the new one less that; was, is: guest bytes of the one and the
 * other, or NULL if they are the same. */
void reloc_apply(u8 *code, const struct reloc *r, unsigned n, u32 delta, const u8 *was, const u8 *is);

/* How a thunk begins: mov r8d, number of edge i of the block of that index (xl_edge). Each block has its own, wherever
 * it is. */
void emit_edge(struct emit *e, u32 block, unsigned i);
void emit_patch_edge(u8 *thunk, u32 block, unsigned i);

#endif
