/* What a person asks of a machine that stands: `info registers|mem|tlb|gdt|idt|pic|apic|chip NAME`. */
#ifndef SRC_FACE_INSPECT_H
#define SRC_FACE_INSPECT_H
#include "transvisor/vm.h"

/* What may be asked, and what that is; NULL past the last. */
const char *inspect_name(unsigned i, const char **what);
/* words: what follows `info`. Between runs. False: there is no such thing; *out says so. */
bool inspect(struct vm *vm, const char *words, FILE *out);

#endif
