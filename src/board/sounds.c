/* Owns the names and the making of sound cards: one row each. Enter at sounds_new(). */
#include "src/board/sounds.h"
#include "core/audiodev.h"
#include "src/error.h"

#include <errno.h>
#include <string.h>

struct sounds {
    void *card[SOUND_KINDS]; /* NULL: there is no such */
};

static int make_speaker(void **card, const struct sound_buses *on, u8 slot UNUSED, struct sound_out to)
{
    return speaker_new((struct speaker **)card, on->clk, on->pit, to);
}

static int make_sb16(void **card, const struct sound_buses *on, u8 slot UNUSED, struct sound_out to)
{
    const struct irq_line irq[4] = { on->isa[9], on->isa[5], on->isa[7], on->isa[10] };
    return sb16_new((struct sb16 **)card, on->bus, on->clk, on->dma, irq, to);
}

#define MAKE_PCI(chip)                                                                              \
    static int make_##chip(void **card, const struct sound_buses *on, u8 slot, struct sound_out to) \
    {                                                                                               \
        return chip##_new((struct chip **)card, on->bus, on->clk, on->pci, slot, to);               \
    }
MAKE_PCI(ac97)
MAKE_PCI(es1370)

#define CALLS(chip)                                           \
    static void chip##_end(void *card) { chip##_free(card); } \
    static struct snap_part chip##_saved(void *card) { return chip##_part(card); }
CALLS(speaker)
CALLS(ac97)
CALLS(es1370)
CALLS(sb16)

static const struct {
    const char *name, *what;
    unsigned voices;
    int (*make)(void **card, const struct sound_buses *on, u8 slot, struct sound_out to);
    void (*free)(void *card);
    struct snap_part (*part)(void *card);
} rows[SOUND_KINDS] = {
    [SOUND_SPEAKER] = { "speaker", "the PC's speaker", 1, make_speaker, speaker_end, speaker_saved },
    [SOUND_AC97] = { "ac97", "the 82801AA's, with an AD1881A", 1, make_ac97, ac97_end, ac97_saved },
    [SOUND_ES1370] = { "es1370", "AudioPCI, with an AK4531", 2, make_es1370, es1370_end, es1370_saved },
    [SOUND_SB16] = { "sb16", "a Sound Blaster 16 on ISA: port 220h, IRQ 5, DMA 1 and 5", 2, make_sb16, sb16_end,
                     sb16_saved },
};

const char *sound_name(unsigned i, const char **what)
{
    if (i >= SOUND_KINDS) return NULL;
    if (what) *what = rows[i].what;
    return rows[i].name;
}

int sounds_parse(const char *list, unsigned *kinds, struct vm_error *err)
{
    char names[128] = "";
    *kinds = 0;
    if (!strcmp(list, "none")) return 0;
    for (const char *word = list;; word++) {
        size_t n = strcspn(word, ",");
        unsigned i = 0;
        while (i < SOUND_KINDS && (strlen(rows[i].name) != n || memcmp(rows[i].name, word, n))) i++;
        if (i == SOUND_KINDS) {
            for (i = 0; i < SOUND_KINDS; i++)
                snprintf(names + strlen(names), sizeof names - strlen(names), ", %s", rows[i].name);
            return vm_fail(err, -EINVAL, "sound: there is no '%.*s'; there are none%s", n > 64 ? 64 : (int)n, word,
                           names);
        }
        *kinds |= 1u << i;
        word += n;
        if (*word) continue;
        *kinds |= 1u << SOUND_SPEAKER; /* as in any PC */
        return 0;
    }
}

int sounds_new(struct sounds **out, const struct sound_buses *on, unsigned kinds, struct vm_error *err)
{
    struct sounds *s = calloc(1, sizeof *s);
    if (!s) return vm_fail(err, -ENOMEM, "sound: out of memory");
    unsigned voice = 0;
    for (unsigned i = 0; i < SOUND_KINDS; voice += rows[i++].voices) {
        if (!(kinds & 1u << i)) continue;
        int rc = rows[i].make(&s->card[i], on, (u8)(on->slot + i), (struct sound_out){ on->audio, voice });
        if (!rc) continue;
        s->card[i] = NULL;
        sounds_free(s);
        if (rc == -EBUSY) return vm_fail(err, -EINVAL, "sound: %s: its ports belong to another device", rows[i].name);
        return vm_fail(err, rc, "sound: %s: %s", rows[i].name, strerror(-rc));
    }
    BUG_ON(voice > AUDIO_VOICES);
    *out = s;
    return 0;
}

void sounds_free(struct sounds *s)
{
    if (!s) return;
    for (unsigned i = 0; i < SOUND_KINDS; i++)
        if (s->card[i]) rows[i].free(s->card[i]);
    free(s);
}

unsigned sounds_parts(struct sounds *s, struct snap_part *out, unsigned room)
{
    unsigned n = 0;
    for (unsigned i = 0; s && i < SOUND_KINDS; i++)
        if (s->card[i] && n < room) out[n++] = rows[i].part(s->card[i]);
    return n;
}
