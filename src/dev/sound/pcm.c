/* Owns the conversion of samples, and volumes. */
#include "src/dev/sound/pcm.h"

static s16 scaled(s32 v, u32 gain)
{
    s64 r = (s64)v * gain / PCM_UNITY;

    return (s16)(r > INT16_MAX ? INT16_MAX : r < INT16_MIN ? INT16_MIN : r);
}

static s32 sample(const u8 *in, u32 i, struct pcm_format f)
{
    if (f.wide) return (s16)((in[2 * i] | in[2 * i + 1] << 8) ^ (f.is_signed ? 0 : 0x8000));
    return (s8)(in[i] ^ (f.is_signed ? 0 : 0x80)) * 256;
}

void pcm_decode(s16 *out, const u8 *in, u32 n, struct pcm_format f, const u32 gain[2])
{
    for (u32 i = 0; i < n; i++)
        for (u32 c = 0; c < 2; c++) out[2 * i + c] = scaled(sample(in, f.stereo ? 2 * i + c : i, f), gain[c]);
}

u32 pcm_gain(int steps, unsigned step_cdb)
{
    /* 10 ^ (-n / 20) of a decibel's hundredths, by squares: 2^k hundredths in 1/2^32. */
    static const u32 factor[15] = { 0xffb497a2u, 0xff694579u, 0xfed2e3b2u, 0xfda7298fu, 0xfb53d54cu,
                                    0xf6bd7fb7u, 0xedd0bdbau, 0xdcec2980u, 0xbea6c130u, 0x8dfbf363u,
                                    0x4ebf8212u, 0x18394286u, 0x024ac948u, 0x000540feu, 0x0000001cu };
    u32 cdb = (u32)(steps < 0 ? -steps : steps) * step_cdb;
    u64 g = 1ull << 32;

    for (unsigned k = 0; k < 15; k++)
        if (cdb >> k & 1) g = (u64)(((unsigned __int128)g * factor[k]) >> 32);
    if (cdb >> 15) g = 0;
    if (steps < 0) return g ? (u32)((unsigned __int128)PCM_UNITY * (1ull << 32) / g) : UINT32_MAX;
    return (u32)(g >> 16);
}
