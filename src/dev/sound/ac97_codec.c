/* Owns an AD1881A's registers, and what they make of samples.
 *   I1  The rates are 7040 to 48000, and 48000 unless variable rates are on.      [rate_write, ac97_codec_write]
 * Analog Devices AD1881A data sheet, rev. 0 (1999); AC'97 component specification, revision 2.1.
 * NOT-HW: only the volumes of what comes from the DACs are heard, with those of the output (not of headphones); 3D
 * sound is not; what is powered down plays on. */
#include "src/dev/sound/ac97_codec.h"

#include <string.h>

/* clang-format off */
enum { RESET = 0x00, MASTER = 0x02, HEADPHONE = 0x04, MONO = 0x06, BEEP = 0x0a, PHONE = 0x0c, MIC = 0x0e, LINE = 0x10,
    CD = 0x12, VIDEO = 0x14, AUX = 0x16, PCM = 0x18, REC_SELECT = 0x1a, REC_GAIN = 0x1c, GENERAL = 0x20, THREE_D = 0x22,
    POWER = 0x26, EXT_ID = 0x28, EXT_STATUS = 0x2a, DAC_RATE = 0x2c, ADC_RATE = 0x32, SERIAL = 0x74, MISC = 0x76,
    VENDOR1 = 0x7c, VENDOR2 = 0x7e };
/* clang-format on */
#define MUTE 0x8000u
#define VRA 1u
#define RATE_MIN 7040u
#define RATE_MAX 48000u
#define POWER_READY 0x0fu
#define SERIAL_SELF 0x1000u /* REGM0: registers of the first codec are meant */

/* What may be written, and what is there after a reset. */
static const struct {
    u8 at;
    u16 reset, writable;
} rows[] = {
    { RESET, 0x0410, 0 }, /* headphones, Analog Devices' 3D sound */
    { MASTER, 0x8000, 0x9f1f },
    { HEADPHONE, 0x8000, 0x9f1f },
    { MONO, 0x8000, 0x801f },
    { BEEP, 0x8000, 0x801e },
    { PHONE, 0x8008, 0x801f },
    { MIC, 0x8008, 0x805f },
    { LINE, 0x8808, 0x9f1f },
    { CD, 0x8808, 0x9f1f },
    { VIDEO, 0x8808, 0x9f1f },
    { AUX, 0x8808, 0x9f1f },
    { PCM, 0x8808, 0x9f1f },
    { REC_SELECT, 0x0000, 0x0707 },
    { REC_GAIN, 0x8000, 0x8f0f },
    { GENERAL, 0x0000, 0xa380 },
    { THREE_D, 0x0000, 0x000f },
    { POWER, POWER_READY, 0xbf00 },
    { EXT_ID, VRA, 0 },
    { EXT_STATUS, 0x0000, VRA },
    { DAC_RATE, RATE_MAX, 0xffff },
    { ADC_RATE, RATE_MAX, 0xffff },
    { SERIAL, 0x7000, 0xf000 },
    { MISC, 0x0404, 0xffff },
    { VENDOR1, 0x4144, 0 },
    { VENDOR2, 0x5348, 0 },
};

void ac97_codec_reset(struct ac97_codec *c)
{
    memset(c->reg, 0, sizeof c->reg);
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) c->reg[rows[i].at / 2] = rows[i].reset;
}

/* What is powered down is not ready: ADCs, DACs, the mixer, the reference. */
static u16 power_ready(u16 power)
{
    u16 ready = POWER_READY;

    if (power & 1 << 8) ready &= (u16)~1u;
    if (power & 1 << 9) ready &= (u16)~2u;
    if (power & 3 << 10) ready &= (u16)~4u;
    if (power & 1 << 11) ready &= (u16)~8u;
    return ready;
}

u16 ac97_codec_read(const struct ac97_codec *c, unsigned at)
{
    if (at != SERIAL && !(c->reg[SERIAL / 2] & SERIAL_SELF)) return 0; /* another codec's are meant */
    return c->reg[at / 2];
}

static u16 rate_near(const struct ac97_codec *c, u16 val)
{
    if (!(c->reg[EXT_STATUS / 2] & VRA)) return RATE_MAX;
    return val < RATE_MIN ? RATE_MIN : val > RATE_MAX ? RATE_MAX : val;
}

/* A sixth bit, which others have, is all five of ours. */
static u16 volume(unsigned at, u16 val)
{
    if (at != MASTER && at != HEADPHONE && at != MONO) return val;
    if (val & 0x2000) val |= 0x1f00;
    if (val & 0x0020) val |= 0x001f;
    return val;
}

bool ac97_codec_write(struct ac97_codec *c, unsigned at, u16 val)
{
    u16 *reg = &c->reg[at / 2], was[2] = { c->reg[DAC_RATE / 2], c->reg[ADC_RATE / 2] };
    unsigned i = 0;

    if (at != SERIAL && !(c->reg[SERIAL / 2] & SERIAL_SELF)) return false;
    while (i < sizeof rows / sizeof *rows && rows[i].at != at) i++;
    if (i == sizeof rows / sizeof *rows) return false;
    if (at == RESET) ac97_codec_reset(c);
    else if (rows[i].writable) *reg = volume(at, val) & rows[i].writable;
    if (at == POWER) *reg |= power_ready(*reg);
    if (at == DAC_RATE || at == ADC_RATE) *reg = rate_near(c, val);
    if (at == EXT_STATUS) {
        c->reg[DAC_RATE / 2] = rate_near(c, c->reg[DAC_RATE / 2]);
        c->reg[ADC_RATE / 2] = rate_near(c, c->reg[ADC_RATE / 2]);
    }
    return was[0] != c->reg[DAC_RATE / 2] || was[1] != c->reg[ADC_RATE / 2];
}

u32 ac97_codec_rate(const struct ac97_codec *c, bool out) { return c->reg[(out ? DAC_RATE : ADC_RATE) / 2]; }

bool ac97_codec_is_fine(const struct ac97_codec *c)
{
    u32 out = ac97_codec_rate(c, true), in = ac97_codec_rate(c, false);

    return out >= RATE_MIN && out <= RATE_MAX && in >= RATE_MIN && in <= RATE_MAX;
}

void ac97_codec_play(const struct ac97_codec *c, s16 *out, const u8 *in, u32 n)
{
    static const struct pcm_format format = { .wide = true, .stereo = true, .is_signed = true };
    u16 master = c->reg[MASTER / 2], pcm = c->reg[PCM / 2];
    u32 gain[2] = { 0 };

    for (unsigned i = 0; i < 2 && !((master | pcm) & MUTE); i++) {
        unsigned shift = i ? 0 : 8;

        /* Steps of 1.5 dB: of the output from 0 dB down, of the DACs from +12 dB. */
        gain[i] = pcm_gain((int)(master >> shift & 31) + (int)(pcm >> shift & 31) - 8, 150);
    }
    pcm_decode(out, in, n, format, gain);
}
