/* What is between a user who talks at the machine's terminal (Ctrl-A c) and the embedder. */
#ifndef SRC_VM_TALK_H
#define SRC_VM_TALK_H
#include "core/types.h"
#include "transvisor/vm.h"

/* What back ends call, with the machine, for their hosts' talk; NULL: the embedder does not listen. */
typedef void vm_talk_fn(void *vm, enum vm_talk what, const u8 *bytes, size_t n);
vm_talk_fn *vm_talk_heard(const struct vm *vm);

#endif
