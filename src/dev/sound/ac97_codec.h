/* The codec behind an AC'97 link: an AD1881A, whose sample rates the driver sets. */
#ifndef SRC_DEV_SOUND_AC97_CODEC_H
#define SRC_DEV_SOUND_AC97_CODEC_H
#include "core/snap.h"
#include "src/dev/sound/pcm.h"

#define AC97_CODEC_SIZE 0x80u /* bytes of registers */

struct ac97_codec {
    u16 reg[AC97_CODEC_SIZE / 2];
};
#define AC97_CODEC_FIELDS(T, m) SNAP_ARRAY(T, m.reg, .keep = true)

void ac97_codec_reset(struct ac97_codec *c);
u16 ac97_codec_read(const struct ac97_codec *c, unsigned at);      /* at: even */
bool ac97_codec_write(struct ac97_codec *c, unsigned at, u16 val); /* true: a sample rate has changed */
u32 ac97_codec_rate(const struct ac97_codec *c, bool out);
bool ac97_codec_is_fine(const struct ac97_codec *c); /* after a load */
/* n frames of 16 bits in stereo, as they leave it. */
void ac97_codec_play(const struct ac97_codec *c, s16 *out, const u8 *in, u32 n);

#endif
