/* Far transfers of real and virtual-8086 mode. */
#ifndef TRANSLATOR_LOWER_FAR_H
#define TRANSLATOR_LOWER_FAR_H
#include "translator/lower/ctx.h"

/* In code whose context is a paragraph (CONTEXT_PARAGRAPHS), with operands of 16 bits, and while nobody is told of what
 * is in memory. INT is one of real mode only. */
lower_fn lower_far_paragraph, lower_int_real, lower_iret_paragraph;

#endif
