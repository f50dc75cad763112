/* Where a guest's kernel is that chooses its place at boot (KASLR). */
#ifndef SRC_FACE_KASLR_H
#define SRC_FACE_KASLR_H
#include "src/face/symbols.h"

/* As long as that is not known (--symbols FILE,slide=auto): looks whether the guest's IDT tells it by now. Between
 * runs, or in vm_config.symbol. */
void kaslr_look(struct symbols *s, struct vm *vm);

#endif
