/* Sound cards by name, whatever chip is on them. */
#ifndef SRC_BOARD_SOUNDS_H
#define SRC_BOARD_SOUNDS_H
#include "src/dev/pc_devices.h"
#include "transvisor/vm.h"

enum sound_kind { SOUND_SPEAKER, SOUND_AC97, SOUND_ES1370, SOUND_SB16, SOUND_KINDS };
const char *sound_name(unsigned i, const char **what); /* NULL: there are no more */
/* A comma-separated list of them, or "none", into a set: bits of enum sound_kind. With any of them there is the
 * speaker. 0 or -EINVAL. */
MUST_CHECK int sounds_parse(const char *list, unsigned *kinds, struct vm_error *err);

/* What is behind the board's slots, and where the cards play to. Borrowed. */
struct sound_buses {
    struct bus *bus;
    struct clock *clk;
    struct pci *pci;
    struct pit *pit;
    struct dma8237 *dma;
    const struct irq_line *isa; /* 16 */
    const struct audiodev *audio;
    u8 slot; /* 00:slot.0 and on, for those on PCI: SOUND_KINDS of them */
};
struct sounds;
/* Makes those of a set. 0 or -errno, with *err set. */
MUST_CHECK int sounds_new(struct sounds **out, const struct sound_buses *on, unsigned kinds, struct vm_error *err);
void sounds_free(struct sounds *s); /* before the PIT; copes with NULL */
/* At most room of them; returns how many. s may be NULL. */
unsigned sounds_parts(struct sounds *s, struct snap_part *out, unsigned room);

#endif
