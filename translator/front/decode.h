/* Bytes to struct insn. The rows of insn.def decide what is valid, how long it is and what it means; capstone checks
 * that in the unit test, measures what has no row, and writes the text. */
#ifndef TRANSLATOR_DECODE_H
#define TRANSLATOR_DECODE_H
#include "translator/front/insn.h"

struct decoder;

/* One decoder per vCPU (capstone handles are not shared between threads). Returns 0 or -ENOMEM. */
MUST_CHECK int decoder_new(struct decoder **out);
void decoder_free(struct decoder *d);

enum decode_status {
    DECODE_OK, /* *in is complete. An instruction that the CPU does not have, or an illegal LOCK or operand form, has
                * row == &insn_rows[INSN_INVALID] and len = what could be measured (at least 1): it raises #UD */
    DECODE_TRUNCATED, /* the instruction runs past the n bytes given: more are needed */
    DECODE_TOO_LONG,  /* longer than 15 bytes: #GP(0) */
};
/* Decodes one instruction at eip from bytes[0..n). code32: CS.D. features: bit mask over enum insn_feature of the CPU
 * model. */
enum decode_status decode(struct decoder *d, const u8 *bytes, unsigned n, u32 eip, bool code32, u32 features,
                          struct insn *in);

/* Text in Intel syntax, without the address. For dumps and diagnoses. */
void insn_text(struct decoder *d, const u8 *bytes, unsigned n, u32 eip, bool code32, char *buf, size_t bufsize);
#endif
