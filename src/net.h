/* The network of a machine: what a description says of it, and the back end made of that. */
#ifndef SRC_NET_H
#define SRC_NET_H
#include "src/back/netdev.h"

struct net;
/* spec and dump: as vm_config.net and net_dump have them. host: told, on the back end's thread, that net_deliver() is
 * wanted; NULL: the machine never runs, and its card is on no wire. end: ends the wait for a FIFO's reader. *out is
 * NULL where there is to be no card. 0 or -errno. */
MUST_CHECK int net_open(struct net **out, const char *spec, const char *dump, const struct netdev_host *host,
                        const struct wait_end *end, struct vm_error *err);
void net_close(struct net *n); /* copes with NULL */
void net_deliver(struct net *n);
struct netdev *net_dev(const struct net *n, const u8 **mac); /* NULL where n is */
/* The card that the description asks for. */
struct net_card {
    const char *model; /* one of nic_model() */
    u16 port;          /* of a card on ISA: its first port and interrupt */
    u8 irq;
};
const struct net_card *net_card(const struct net *n); /* of one that is there */
/* It is the machine's card number `at`: that is part of an address that the description does not say. */
void net_number(struct net *n, unsigned at);
u64 net_dropped(const struct net *n);
/* true, once: the dump has ended early, and why. */
bool net_trouble(struct net *n, struct vm_error *why);

#endif
