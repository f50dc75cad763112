/* Owns the small virtio devices of a board, and their places. Enter at paravirt_new(). */
#include "src/board/paravirt.h"

#include <errno.h>
#include <stdlib.h>

enum { AT_RNG, AT_CONSOLE, AT_BALLOON };
_Static_assert(AT_BALLOON + 1 == PARAVIRT_SLOTS, "a slot for each");

struct paravirt {
    struct virtio_rng *rng; /* NULL: there is no such device; likewise: */
    struct virtio_console *console;
    struct virtio_balloon *balloon;
};

int paravirt_new(struct paravirt **out, struct bus *b, struct clock *clk, struct pci *p, u8 slot,
                 const struct paravirt_config *cfg)
{
    if (!cfg->kinds) return 0;
    struct paravirt *v = calloc(1, sizeof *v);
    if (!v) return -ENOMEM;
    int rc = cfg->kinds & PARAVIRT_RNG ? virtio_rng_new(&v->rng, b, p, (u8)(slot + AT_RNG), cfg->rng) : 0;
    if (!rc && cfg->kinds & PARAVIRT_CONSOLE)
        rc = virtio_console_new(&v->console, b, p, (u8)(slot + AT_CONSOLE), cfg->console);
    if (!rc && cfg->kinds & PARAVIRT_BALLOON) rc = virtio_balloon_new(&v->balloon, b, clk, p, (u8)(slot + AT_BALLOON));
    if (rc) paravirt_free(v);
    else *out = v;
    return rc;
}

void paravirt_free(struct paravirt *v)
{
    if (!v) return;
    virtio_balloon_free(v->balloon);
    virtio_console_free(v->console);
    virtio_rng_free(v->rng);
    free(v);
}

unsigned paravirt_parts(struct paravirt *v, struct snap_part *out, unsigned room)
{
    unsigned n = 0;
    if (!v) return 0;
    if (v->rng && n < room) out[n++] = virtio_rng_part(v->rng);
    if (v->console) n += virtio_console_parts(v->console, out + n, room - n);
    if (v->balloon) n += virtio_balloon_parts(v->balloon, out + n, room - n);
    return n;
}

struct virtio_balloon *paravirt_balloon(struct paravirt *v) { return v ? v->balloon : NULL; }
