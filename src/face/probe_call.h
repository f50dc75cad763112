/* A function of a shared library that a probe calls, with values of the guest's for arguments (libffi). */
#ifndef SRC_FACE_PROBE_CALL_H
#define SRC_FACE_PROBE_CALL_H
#include "core/types.h"
#include "transvisor/vm.h"

struct probe_call;

/* text: [eax=|verdict=]LIB:FUNCTION(ARG, ..), an ARG being TYPE VALUE (docs/instruments.md). Loads LIB, which stays
 * loaded, and compares with FUNCTION_signature in it, if there is one. 0 or -EINVAL, with *err set. */
MUST_CHECK int probe_call_open(struct probe_call **out, const char *text, struct vm_error *err);
void probe_call_close(struct probe_call *c); /* NULL is fine */
vm_probe_fn probe_call_make;                 /* arg: the struct probe_call */

#endif
