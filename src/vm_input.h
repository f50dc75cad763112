/* Keyboard and mouse of a machine, for whoever has a user: displays, and texts that are typed. */
#ifndef SRC_VM_INPUT_H
#define SRC_VM_INPUT_H
#include "core/types.h"

struct vm;
struct vm_input;
MUST_CHECK int vm_input_new(struct vm_input **out, struct vm *vm); /* once it has its board; 0 or -ENOMEM */
void vm_input_free(struct vm_input *in);                           /* before the clock; copes with NULL */

/* Thread-safe. key: as src/back/keys.h has it. Keys wait until the guest takes them; too many are lost. */
void vm_input_key(struct vm_input *in, unsigned key, bool down);
struct vm_place {
    unsigned x, y; /* of 0 to 32767 from the top left */
};
/* at: where the pointer is, for a guest that has a tablet; others are told of dx, dy. NULL: nobody knows. */
void vm_input_move(struct vm_input *in, int dx, int dy /* up is positive */, int dz,
                   unsigned buttons /* 1 left, 2 right, 4 middle */, const struct vm_place *at);

#endif
