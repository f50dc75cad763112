/* A tone by the kernel's own interface, in the guest of sound.py: for the i386 program to be small and of no library.
 *
 *   tone CARD DEVICE RATE BITS CHANNELS HZ MS     by ALSA's device, with what is muted turned on first; an SB16's
 *                                                 driver plays samples of 8 bits while it keeps its 16-bit DMA channel
 *                                                 for recording
 *   tone speaker HZ MS                            by the console's KIOCSOUND */
#include <errno.h>
#include <fcntl.h>
#include <linux/kd.h>
#include <math.h>
#include <sound/asound.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define LOUD 7000

static void die(const char *what)
{
    printf("TONE %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- the mixer ---- */

static int is_ours(const char *name)
{
    static const char *const first[] = { "Master ", "PCM ", "Synth ", "FM ", "Headphone " };
    for (unsigned i = 0; i < sizeof first / sizeof *first; i++)
        if (!strncmp(name, first[i], strlen(first[i]))) return 1;
    return 0;
}

static void turn_on(int card, unsigned bits)
{
    static struct snd_ctl_elem_id ids[512];
    char path[32];
    snprintf(path, sizeof path, "/dev/snd/controlC%d", card);
    int fd = open(path, O_RDWR);
    struct snd_ctl_elem_list list = { .space = 512, .pids = ids };
    if (fd < 0 || ioctl(fd, SNDRV_CTL_IOCTL_ELEM_LIST, &list)) die(path);
    for (unsigned i = 0; i < list.used; i++) {
        const char *name = (const char *)ids[i].name;
        struct snd_ctl_elem_info info = { .id = ids[i] };
        struct snd_ctl_elem_value v = { .id = ids[i] };
        if (!strcmp(name, "16-bit DMA Allocation")) {
            v.value.enumerated.item[0] = bits == 8 ? 2 : 0; /* capture, auto */
            if (ioctl(fd, SNDRV_CTL_IOCTL_ELEM_WRITE, &v) < 0) die(name);
        }
        if (!is_ours(name) || ioctl(fd, SNDRV_CTL_IOCTL_ELEM_INFO, &info)) continue;
        int is_switch = info.type == SNDRV_CTL_ELEM_TYPE_BOOLEAN && strstr(name, "Switch");
        int is_volume = info.type == SNDRV_CTL_ELEM_TYPE_INTEGER && strstr(name, "Volume") && !strstr(name, "Capture");
        if (!is_switch && !is_volume) continue;
        for (unsigned k = 0; k < info.count; k++) v.value.integer.value[k] = is_switch ? 1 : info.value.integer.max;
        if (ioctl(fd, SNDRV_CTL_IOCTL_ELEM_WRITE, &v) < 0) die(name);
    }
    close(fd);
}

/* ---- samples ---- */

static void mask_set(struct snd_pcm_hw_params *p, int which, unsigned bit)
{
    struct snd_mask *m = &p->masks[which - SNDRV_PCM_HW_PARAM_FIRST_MASK];
    memset(m, 0, sizeof *m);
    m->bits[bit / 32] = 1u << bit % 32;
}

static void interval_set(struct snd_pcm_hw_params *p, int which, unsigned min, unsigned max)
{
    struct snd_interval *i = &p->intervals[which - SNDRV_PCM_HW_PARAM_FIRST_INTERVAL];
    *i = (struct snd_interval){ .min = min, .max = max, .integer = 1 };
}

static void play(int card, int device, unsigned rate, unsigned bits, unsigned channels, double hz, unsigned ms)
{
    char path[32];
    struct snd_pcm_hw_params hw = { .rmask = ~0u };
    unsigned frames = rate / 1000 * ms;
    uint8_t *data = malloc((size_t)frames * channels * 2);
    snprintf(path, sizeof path, "/dev/snd/pcmC%dD%dp", card, device);
    int fd = open(path, O_RDWR);
    if (fd < 0 || !data) die(path);
    memset(hw.masks, 0xff, sizeof hw.masks);
    for (unsigned i = 0; i < sizeof hw.intervals / sizeof *hw.intervals; i++)
        hw.intervals[i] = (struct snd_interval){ .max = ~0u };
    mask_set(&hw, SNDRV_PCM_HW_PARAM_ACCESS, SNDRV_PCM_ACCESS_RW_INTERLEAVED);
    mask_set(&hw, SNDRV_PCM_HW_PARAM_FORMAT, bits == 16 ? SNDRV_PCM_FORMAT_S16_LE : SNDRV_PCM_FORMAT_U8);
    mask_set(&hw, SNDRV_PCM_HW_PARAM_SUBFORMAT, SNDRV_PCM_SUBFORMAT_STD);
    interval_set(&hw, SNDRV_PCM_HW_PARAM_CHANNELS, channels, channels);
    interval_set(&hw, SNDRV_PCM_HW_PARAM_RATE, rate, rate);
    /* What is long has a buffer of a third of a second, as players have it; what is short, one that goes round. */
    interval_set(&hw, SNDRV_PCM_HW_PARAM_PERIOD_SIZE, ms < 1000 ? 512 : 2048, 2048);
    interval_set(&hw, SNDRV_PCM_HW_PARAM_PERIODS, 3, 8);
    if (ioctl(fd, SNDRV_PCM_IOCTL_HW_PARAMS, &hw)) die("HW_PARAMS");
    if (ioctl(fd, SNDRV_PCM_IOCTL_PREPARE)) die("PREPARE");
    for (unsigned i = 0; i < frames; i++)
        for (unsigned c = 0; c < channels; c++) {
            int16_t v = (int16_t)(LOUD * sin(2 * M_PI * hz * i / rate));
            if (bits == 16) memcpy(data + 2 * ((size_t)i * channels + c), &v, 2);
            else data[(size_t)i * channels + c] = (uint8_t)((v >> 8) + 128);
        }
    for (unsigned done = 0; done < frames;) {
        struct snd_xferi x = { .buf = data + (size_t)done * channels * (bits / 8), .frames = frames - done };
        if (ioctl(fd, SNDRV_PCM_IOCTL_WRITEI_FRAMES, &x)) die("WRITEI_FRAMES");
        done += (unsigned)x.result;
    }
    if (ioctl(fd, SNDRV_PCM_IOCTL_DRAIN)) die("DRAIN");
    close(fd);
    free(data);
}

int main(int argc, char **argv)
{
    if (argc == 4) {
        int fd = open("/dev/tty1", O_RDWR);
        if (fd < 0 || ioctl(fd, KIOCSOUND, 1193182 / atoi(argv[2]))) die("KIOCSOUND");
        usleep((useconds_t)atoi(argv[3]) * 1000);
        ioctl(fd, KIOCSOUND, 0);
        return 0;
    }
    if (argc != 8) return 2;
    turn_on(atoi(argv[1]), (unsigned)atoi(argv[4]));
    play(atoi(argv[1]), atoi(argv[2]), (unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]), (unsigned)atoi(argv[5]),
         atof(argv[6]), (unsigned)atoi(argv[7]));
    return 0;
}
