/* Tells a user who looks at the serial port that the guest shows something on its screen instead. */
#ifndef SRC_VM_UNSEEN_H
#define SRC_VM_UNSEEN_H
#include "core/types.h"

struct vm;
struct vm_unseen;
/* For a machine with a screen that no display shows, and somebody to tell; else *out is NULL. Once it has its board.
 * 0 or -errno. */
MUST_CHECK int vm_unseen_new(struct vm_unseen **out, struct vm *vm);
void vm_unseen_free(struct vm_unseen *u); /* before the board; copes with NULL */

#endif
