/* Instructions with two memory operands, both of which fault: which of the two faults is reported is open. */
#ifndef TESTS_DIFF_OPERANDS_H
#define TESTS_DIFF_OPERANDS_H
#include <stdbool.h>

#include "tests/diff/diff.h"
#include "translator/front/insn.h"

/* Whether a and b, results of the same case that ended at in with registers as before it, report different operands of
 * which each faults just so: vector, error code and CR2 are right for that operand. Addresses and rights are those of
 * diff.h. kernel: b's error codes are those of CPL 0. */
bool operand_order_differs(const struct insn *in, const struct diff_state *a, const struct diff_state *b, bool kernel);
#endif
