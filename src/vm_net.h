/* The networks of a machine, and the boot ROMs of its cards. */
#ifndef SRC_VM_NET_H
#define SRC_VM_NET_H
#include "src/board/nics.h"

struct vm;
struct vm_nets;
struct netdev_host;
/* As vm's description has them. host: as of back ends, with vm_nets_deliver() to be arranged for. 0 or -errno. */
MUST_CHECK int vm_nets_open(struct vm_nets **out, struct vm *vm, const struct netdev_host *host,
                            const struct wait_end *end, struct vm_error *err);
void vm_nets_close(struct vm_nets *n); /* copes with NULL; after the cards */
void vm_nets_deliver(struct vm_nets *n);
/* What the board is to have. false: there is no card i. */
bool vm_nets_card(struct vm_nets *n, unsigned i, struct nic_config *card);
u64 vm_nets_dropped(const struct vm_nets *n);
/* true, once: something has gone wrong, and why. */
bool vm_nets_trouble(struct vm_nets *n, struct vm_error *why);

#endif
