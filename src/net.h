/* The network of a machine: what a description says of it, and the back end made of that. */
#ifndef SRC_NET_H
#define SRC_NET_H
#include "src/back/netdev.h"

struct net;
/* spec: as vm_config.net has it. host: told, on the back end's thread, that net_deliver() is wanted; NULL: the machine
 * never runs, and its card is on no wire. *out is NULL where there is to be no card. 0 or -errno. */
MUST_CHECK int net_open(struct net **out, const char *spec, const struct netdev_host *host, struct vm_error *err);
void net_close(struct net *n); /* copes with NULL */
void net_deliver(struct net *n);
struct netdev *net_dev(const struct net *n, const u8 **mac); /* NULL where n is */
u64 net_dropped(const struct net *n);

#endif
