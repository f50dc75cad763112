/* The mixer of a Sound Blaster 16, which also tells and says where the card's interrupt and DMA channels are. */
#ifndef SRC_DEV_SOUND_SB16_MIXER_H
#define SRC_DEV_SOUND_SB16_MIXER_H
#include "core/snap.h"

#define SB16_MIXER_REGS 0x83u
struct sb16_mixer {
    u8 index, reg[SB16_MIXER_REGS];
};
#define SB16_MIXER_FIELDS(T, m) SNAP(T, m.index), SNAP_ARRAY(T, m.reg, .keep = true)

enum { SB16_PENDING_8 = 1, SB16_PENDING_16 = 2 };

void sb16_mixer_power_on(struct sb16_mixer *m);
u8 sb16_mixer_read(const struct sb16_mixer *m, u8 pending); /* pending: what it shows at 82h */
void sb16_mixer_write(struct sb16_mixer *m, u8 val);
int sb16_mixer_irq(const struct sb16_mixer *m);                /* 2, 5, 7, 10; -1: none */
int sb16_mixer_dma(const struct sb16_mixer *m, bool wide);     /* of the 8-bit or of the 16-bit transfers; -1: none */
bool sb16_mixer_stereo(const struct sb16_mixer *m);            /* as a Sound Blaster Pro is told */
void sb16_mixer_gain(const struct sb16_mixer *m, u32 gain[2]); /* of samples, as pcm_decode() takes it */

#endif
