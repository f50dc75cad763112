/* Between the parts of vm_host_check(). */
#ifndef SRC_HOST_CHECK_H
#define SRC_HOST_CHECK_H
#include "core/types.h"
#include "transvisor/vm.h"

/* Whether /dev/kvm runs a 32-bit guest with paging, and how fast. Takes two seconds at most. */
void host_check_kvm(struct vm_host_item *item);

/* Runs fn in a process of its own, for at most so many seconds. Returns what it returned (0 to 125), or 126 if it took
 * longer, 127 if it could not be started, 128 + N if signal N ended it. */
int host_check_apart(int (*fn)(void *arg), void *arg, unsigned seconds);

#endif
