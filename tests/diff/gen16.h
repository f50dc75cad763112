/* Cases of 16-bit code in segments of an LDT (diff_ldt in diff.h): operand and address prefixes, bases, limits,
 * expand-down and read-only segments, a stack of 16 bits. */
#ifndef TESTS_DIFF_GEN16_H
#define TESTS_DIFF_GEN16_H
#include "tests/diff/gen.h"

void gen16_sequence(struct rng *r, struct decoder *d, unsigned only /* OP_*, or OP_INVALID */, struct sequence *s);
bool gen16_makes(unsigned id); /* a row of insn.def */
#endif
