/* Guest memory operands, and guest registers as host registers. */
#ifndef TRANSLATOR_LOWER_MEM_H
#define TRANSLATOR_LOWER_MEM_H
#include "translator/lower/ctx.h"

enum xl_access { XL_R, XL_W }; /* what the access needs; what is written may be read, too */
struct hmem xl_ea(const struct insn *in);
/* All that lowering asks of the value of a displacement of 32 bits. */
enum xl_disp_class { DISP_UP, DISP_DOWN /* up to half a MiB */, DISP_FAR_DOWN };
static inline enum xl_disp_class xl_disp_class(s32 disp)
{
    return disp >= 0 ? DISP_UP : disp >= -0x80000 ? DISP_DOWN : DISP_FAR_DOWN;
}
int xl_gpr(unsigned guest_reg);
static inline bool xl_segmented(const struct xl_ctx *x) { return mode_segmented(x->src->mode); }
bool xl_seg_flat(const struct xl_ctx *x, enum segreg seg); /* base 0, limit 4 GiB in this block's mode */
struct hmem xl_mem(struct xl_ctx *x, const struct insn *in, enum xl_access acc, unsigned size);
/* As what is at register + disp on the stack: with the width that the stack has. */
struct hmem xl_stack(struct xl_ctx *x, int reg, s32 disp, enum xl_access acc, unsigned size);
/* Several words at ESP + disp, of which none wraps around. In segmented code, untold. */
struct hmem xl_frame(struct xl_ctx *x, s32 disp, enum xl_access acc, unsigned size);
/* At the linear address in R8; at CPL 0. */
struct hmem xl_mem_linear(struct xl_ctx *x, enum xl_access acc, unsigned size);
/* With an offset of 16 bits, as what is beyond them is not looked at. Segmented code only. */
struct hmem xl_mem_at16(struct xl_ctx *x, struct hmem ea, enum segreg seg, enum xl_access acc, unsigned size);
struct hmem xl_mem_at(struct xl_ctx *x, struct hmem ea, enum segreg seg, enum xl_access acc, unsigned size);

#endif
