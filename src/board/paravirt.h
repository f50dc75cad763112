/* The board's small virtio devices: random numbers, a console, a balloon. */
#ifndef SRC_BOARD_PARAVIRT_H
#define SRC_BOARD_PARAVIRT_H
#include "src/dev/pc_devices.h"

enum paravirt_kind { PARAVIRT_RNG = 1, PARAVIRT_BALLOON = 2, PARAVIRT_CONSOLE = 4 }; /* bits of a set */
#define PARAVIRT_SLOTS 3u
/* Which there are, and what is behind them. Borrowed. */
struct paravirt_config {
    unsigned kinds;
    const struct rngdev *rng; /* may be NULL in a machine that never runs */
    struct chardev *console;
};
struct paravirt;
/* NULL if there are none. 00:slot.0 and on: each has a place of its own, whoever else is there. 0 or -errno. */
MUST_CHECK int paravirt_new(struct paravirt **out, struct bus *b, struct clock *clk, struct pci *p, u8 slot,
                            const struct paravirt_config *cfg);
/* All cope with NULL. */
void paravirt_free(struct paravirt *v);
unsigned paravirt_parts(struct paravirt *v, struct snap_part *out, unsigned room);
struct virtio_balloon *paravirt_balloon(struct paravirt *v); /* NULL: there is none */

#endif
