/* Instructions that are copied, and their relatives. */
#ifndef TRANSLATOR_LOWER_INT_H
#define TRANSLATOR_LOWER_INT_H
#include "translator/lower/ctx.h"

lower_fn lower_ident, lower_incdec_z, lower_mov_zv, lower_moffs, lower_xchg_mem, lower_bt_mem, lower_lea, lower_nop,
    lower_bswap, lower_xchg_zv, lower_xlat, lower_cldstd;

#endif
