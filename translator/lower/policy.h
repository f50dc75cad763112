/* How each instruction is done. */
#ifndef TRANSLATOR_POLICY_H
#define TRANSLATOR_POLICY_H
#include "translator/lower/ctx.h"

lower_fn *xl_policy(const struct xl_ctx *x, const struct insn *in); /* never NULL */

#endif
