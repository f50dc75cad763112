/* Sensitive instructions: simulated in line, or by a C function that translated code calls. */
#ifndef TRANSLATOR_LOWER_SYS_H
#define TRANSLATOR_LOWER_SYS_H
#include "translator/lower/ctx.h"

lower_fn lower_ldmxcsr, lower_pushf, lower_cli, lower_sti, lower_mov_from_sreg, lower_mov_from_cr, lower_rdtsc;
lower_fn lower_rep_string, lower_mov_sreg, lower_pop_sreg, lower_push_sreg, lower_popf, lower_popf16, lower_iret,
    lower_int, lower_sysenter, lower_sysexit, lower_invlpg, lower_far, lower_load_far, lower_pusha, lower_cli_user,
    lower_sti_user, lower_pushf_vm86, lower_load_ss;
void xl_eflags_to_r11(struct xl_ctx *x); /* as PUSHF has them; R9 and R10 are scratch */
/* R9: IF of the flags in R11. The host's ZF is clear if an interrupt waits for it to be 1. R8 is scratch. */
void xl_if_from_r11(struct xl_ctx *x);
/* The arithmetic flags are those in R11, which is lost. EAX is what R10 has. */
void xl_arith_from_r11(struct xl_ctx *x);

#endif
