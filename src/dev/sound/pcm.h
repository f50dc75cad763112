/* Samples as cards have them in memory, and as an audio device takes them. */
#ifndef SRC_DEV_SOUND_PCM_H
#define SRC_DEV_SOUND_PCM_H
#include "core/types.h"

#define PCM_FRAME_MAX 4u /* bytes of a frame in memory */
#define PCM_UNITY 0x10000u

struct pcm_format {
    bool wide, stereo, is_signed; /* 16 bits, little end first; two channels; else from 0 to the most */
};
static inline u32 pcm_frame(struct pcm_format f) { return (f.wide ? 2u : 1u) << f.stereo; }
/* n frames of memory as left and right, each times gain / PCM_UNITY. */
void pcm_decode(s16 *out, const u8 *in, u32 n, struct pcm_format f, const u32 gain[2]);
/* PCM_UNITY, less so many steps of hundredths of a decibel, at most 200 of them; negative: more. */
u32 pcm_gain(int steps, unsigned step_cdb);

#endif
