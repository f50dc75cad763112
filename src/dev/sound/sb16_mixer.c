/* Owns a CT1745. Creative, Sound Blaster Series Hardware Programming Guide (1996), chapter 4.
 * NOT-HW: volumes are at their most after a reset (24 of 31 there): games leave them so, and hosts do not amplify.
 * Those of output and samples are heard; tone, gains and switches are kept, and do nothing. */
#include "src/dev/sound/sb16_mixer.h"
#include "src/dev/sound/pcm.h"

#include <string.h>

/* clang-format off */
enum { RESET = 0x00, PRO_VOICE = 0x04, PRO_MIC = 0x0a, PRO_OUTPUT = 0x0e, PRO_MASTER = 0x22, PRO_MIDI = 0x26,
    PRO_CD = 0x28, PRO_LINE = 0x2e, MASTER = 0x30, VOICE = 0x32, MIDI = 0x34, CD = 0x36, LINE = 0x38, MIC = 0x3a,
    SPEAKER = 0x3b, OUT_SWITCHES = 0x3c, IN_LEFT = 0x3d, IN_RIGHT = 0x3e, IN_GAIN = 0x3f, TREBLE = 0x44, BASS = 0x46,
    IRQS = 0x80, DMAS = 0x81, PENDING = 0x82 };
/* clang-format on */
#define PRO_STEREO 2u
#define LOUDEST 31

/* Registers of a Sound Blaster Pro, and the pair of ours that they are. */
static const u8 pro[][2] = { { PRO_VOICE, VOICE },
                             { PRO_MASTER, MASTER },
                             { PRO_MIDI, MIDI },
                             { PRO_CD, CD },
                             { PRO_LINE, LINE } };

static int pro_pair(u8 index)
{
    for (unsigned i = 0; i < sizeof pro / sizeof *pro; i++)
        if (pro[i][0] == index) return pro[i][1];
    return -1;
}

static void mixer_reset(struct sb16_mixer *m)
{
    memset(m->reg, 0, IRQS);
    for (unsigned i = MASTER; i < CD; i++) m->reg[i] = LOUDEST << 3;
    m->reg[OUT_SWITCHES] = 0x1f;
    m->reg[IN_LEFT] = 0x15;
    m->reg[IN_RIGHT] = 0x0b;
    memset(m->reg + TREBLE, 0x80, 4);
}

void sb16_mixer_power_on(struct sb16_mixer *m)
{
    mixer_reset(m);
    m->index = 0;
    m->reg[IRQS] = 0x02; /* 5 */
    m->reg[DMAS] = 0x22; /* 1 and 5 */
}

u8 sb16_mixer_read(const struct sb16_mixer *m, u8 pending)
{
    int pair = pro_pair(m->index);

    if (pair >= 0) return (u8)((m->reg[pair] & 0xf0) | m->reg[pair + 1] >> 4);
    if (m->index == PRO_MIC) return m->reg[MIC] >> 5;
    if (m->index == PENDING) return pending;
    return m->index < SB16_MIXER_REGS ? m->reg[m->index] : 0xff;
}

void sb16_mixer_write(struct sb16_mixer *m, u8 val)
{
    /* What there is of each from 30h to 47h. */
    static const u8 bits[] = { 0xf8, 0xf8, 0xf8, 0xf8, 0xf8, 0xf8, 0xf8, 0xf8, 0xf8, 0xf8, 0xf8, 0xc0,
                               0x1f, 0x7f, 0x7f, 0xc0, 0xc0, 0xc0, 0xc0, 0x01, 0xf0, 0xf0, 0xf0, 0xf0 };
    int pair = pro_pair(m->index);

    if (m->index == RESET) mixer_reset(m);
    if (pair >= 0) {
        m->reg[pair] = (val & 0xf0) | 8;
        m->reg[pair + 1] = (u8)(val << 4 | 8);
    }
    if (m->index == PRO_MIC) m->reg[MIC] = (u8)(val << 5 | 0x18);
    if (m->index == PRO_OUTPUT) m->reg[PRO_OUTPUT] = val & 0x22;
    if (m->index >= MASTER && m->index < MASTER + sizeof bits) m->reg[m->index] = val & bits[m->index - MASTER];
    if (m->index == IRQS) m->reg[IRQS] = val & 0x0f;
    if (m->index == DMAS) m->reg[DMAS] = val & 0xeb;
}

int sb16_mixer_irq(const struct sb16_mixer *m)
{
    static const s8 irqs[4] = { 2, 5, 7, 10 };

    for (unsigned i = 0; i < 4; i++)
        if (m->reg[IRQS] >> i & 1) return irqs[i];
    return -1;
}

int sb16_mixer_dma(const struct sb16_mixer *m, bool wide)
{
    for (int i = wide ? 5 : 0; i < (wide ? 8 : 4); i++)
        if (m->reg[DMAS] >> i & 1) return i;
    return wide ? sb16_mixer_dma(m, false) : -1; /* without one of 16 bits the other does both */
}

bool sb16_mixer_stereo(const struct sb16_mixer *m) { return m->reg[PRO_OUTPUT] & PRO_STEREO; }

void sb16_mixer_gain(const struct sb16_mixer *m, u32 gain[2])
{
    /* Steps of 2 dB; the least is nothing. */
    for (unsigned i = 0; i < 2; i++) {
        unsigned out = m->reg[MASTER + i] >> 3, voice = m->reg[VOICE + i] >> 3;

        gain[i] = out && voice ? pcm_gain(2 * LOUDEST - (int)out - (int)voice, 200) : 0;
    }
}
