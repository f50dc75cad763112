/* Code for single x87, MMX and SSE instructions.
 *
 * An instruction is re-encoded with its memory operand as [rdi] and its general-purpose register as EAX, so that forms
 * that differ in nothing else share their code; prefixes that only mean something to addressing are left out.
 *
 *   I1  A cell holds one instruction and RET, or zeros. It is written once, through rw, and never changed until all of
 *       them are dropped.                                             [cell_find, cells_drop]
 *   I2  The cells are the hash table: what would be written is what is looked for. */
#define _GNU_SOURCE
#include "runtime/interp/hostexec.h"
#include "core/hash.h"
#include "translator/front/insn.h"
#include "translator/store/hostmem.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CELLS 32768u
#define CELL_BYTES 8
#define RET 0xc3

struct hostexec {
    u64 *rw;
    const u64 *rx;
    unsigned used;
};
_Static_assert(offsetof(struct hostexec_regs, mem) == 8 && offsetof(struct hostexec_regs, flags) == 16
                   && offsetof(struct hostexec_regs, gpr) == 24,
               "hostexec_x64.S");

void hostexec_enter(struct hostexec_regs *r, const void *code); /* hostexec_x64.S */

int hostexec_new(struct hostexec **out)
{
    size_t bytes = CELLS * CELL_BYTES;
    struct hostexec *h = calloc(1, sizeof *h);
    if (!h) return -ENOMEM;
    u8 *rw, *rx;
    int err = hostmem_map_code(bytes, false, &rw, &rx);
    h->rw = (u64 *)rw;
    h->rx = (const u64 *)rx;
    if (err) {
        hostexec_free(h);
        return err;
    }
    *out = h;
    return 0;
}

void hostexec_free(struct hostexec *h)
{
    if (!h) return;
    if (h->rw) munmap(h->rw, CELLS * CELL_BYTES);
    if (h->rx) munmap((void *)h->rx, CELLS * CELL_BYTES);
    free(h);
}

/* ModRM as the host is to see it. */
static u8 host_modrm(const struct insn *in)
{
    u8 modrm = in->modrm;
    if (insn_has_mem(in)) return (u8)((modrm & 0x38) | 7); /* [rdi] */
    for (unsigned i = 0; i < in->nops; i++) {
        if (in->opnd[i].kind != OPK_REG) continue;
        modrm &= (u8)(in->row->enc[i] == ENC_Gd ? ~0x38 : ~7);
    }
    return modrm;
}

static u8 host_modrm_mem_gpr(const struct insn *in, u8 modrm) /* memory beside a register in ModRM.reg: CVTTSS2SI Gd,
                                                                 m32 */
{
    for (unsigned i = 0; i < in->nops; i++)
        if (in->opnd[i].kind == OPK_REG && in->row->enc[i] == ENC_Gd) modrm &= (u8)~0x38;
    return modrm;
}

static u64 host_encode(const struct insn *in)
{
    static const u8 prefix[] = { [PFX_66] = 0x66, [PFX_F3] = 0xf3, [PFX_F2] = 0xf2 };
    const struct insn_row *row = in->row;
    u8 code[CELL_BYTES] = { 0 };
    unsigned n = 0;
    u64 cell;
    if (row->pfx == PFX_66 || row->pfx == PFX_F3 || row->pfx == PFX_F2) code[n++] = prefix[row->pfx];
    if (row->map != MAP_1B) code[n++] = 0x0f;
    if (row->map == MAP_0F38 || row->map == MAP_0F3A) code[n++] = row->map == MAP_0F38 ? 0x38 : 0x3a;
    code[n++] = in->opcode;
    if (row->form != MR_NONE) code[n++] = host_modrm_mem_gpr(in, host_modrm(in));
    if (in->nops && in->opnd[in->nops - 1].kind == OPK_IMM) code[n++] = (u8)in->imm;
    code[n++] = RET;
    BUG_ON(n > CELL_BYTES);
    memcpy(&cell, code, sizeof cell);
    return cell;
}

/* Cells are written over only here, all at once; CPUID serialises, so that none is run as it was. */
static void cells_drop(struct hostexec *h)
{
    unsigned a, b, c, d;
    memset(h->rw, 0, CELLS * CELL_BYTES);
    h->used = 0;
    __cpuid(0, a, b, c, d);
}

static const void *cell_find(struct hostexec *h, u64 cell)
{
    unsigned i = (unsigned)hash_slot(cell, 24) % CELLS;
    while (h->rw[i] != cell) {
        if (!h->rw[i]) {
            if (h->used >= CELLS / 2) {
                cells_drop(h);
                return cell_find(h, cell);
            }
            h->rw[i] = cell;
            h->used++;
            break;
        }
        i = (i + 1) % CELLS;
    }
    return &h->rx[i];
}

void hostexec_run(struct hostexec *h, const struct insn *in, struct hostexec_regs *r)
{
    hostexec_enter(r, cell_find(h, host_encode(in)));
}
