/* Owns the AC'97 controller of an 82801AA (ICH): three bus masters that go through lists of buffers. The codec behind
 * it is ac97_codec.c's.
 *   I1  INTA is asserted iff a master has a cause that it is enabled for.                          [interrupt_update]
 *   I2  A master that runs has a descriptor, and moves samples as guest time passes.               [fetch, master_play]
 *   I3  tick is armed iff a master runs: for the end of its buffer, or soon.                       [schedule]
 * Enter at nabm_read(), nabm_write(), nam_read(), nam_write(). Intel 82801AA (ICH) and 82801AB (ICH0) data sheet,
 * 290655-003, chapters 12 and 13; AC'97 component specification, revision 2.1.
 * NOT-HW: FIFOs are never over- or underrun; what is recorded is silence; there is no modem and no second codec; the
 * first is always ready. */
#include "src/dev/sound/ac97_codec.h"
#include "core/audiodev.h"
#include "src/dev/pc_devices.h"
#include "src/dev/sound/pace.h"

#include <errno.h>
#include <string.h>

/* clang-format off */
enum { PCM_IN, PCM_OUT, MIC_IN, MASTERS };
enum { BDBAR = 0, CIV = 4, LVI = 5, SR = 6, PICB = 8, PIV = 10, CR = 11 }; /* of each master, 16 bytes apart */
enum { GLOB_CNT = 0x2c, GLOB_STA = 0x30, CAS = 0x34, NABM_PORTS = 64, NAM_PORTS = 256 };
enum { SR_DCH = 1, SR_CELV = 2, SR_LVBCI = 4, SR_BCIS = 8, SR_FIFOE = 16, SR_CLEARED = SR_LVBCI | SR_BCIS | SR_FIFOE };
enum { CR_RPBM = 1, CR_RR = 2, CR_LVBIE = 4, CR_FEIE = 8, CR_IOCE = 16, CR_ENABLES = CR_LVBIE | CR_FEIE | CR_IOCE };
enum { GC_COLD = 2, GC_WARM = 4, GC_BITS = 0x3f & ~GC_WARM };
enum { GS_PIINT = 1 << 5, GS_POINT = 1 << 6, GS_MINT = 1 << 7, GS_PCR = 1 << 8 };
enum { BD_IOC = 0x8000, BDS = 32 };
/* clang-format on */
#define TICK_NS 10000000u
#define CHUNK 512u /* frames */

struct master {
    u32 bdbar, addr; /* the list; what is next in the buffer */
    u8 civ, lvi, piv, cr, sr;
    u16 picb, flags; /* samples left in the buffer; the descriptor's upper half */
    bool fetched;    /* addr, picb and flags are of descriptor civ */
    struct pace pace;
};

struct ac97 {
    struct bus *bus;
    struct clock *clk;
    struct pci_fn *fn;
    struct irq_line intx;
    struct sound_out to;
    struct master m[MASTERS];
    struct ac97_codec codec;
    u8 glob_cnt;
    bool cas; /* the codec has been taken by who read the semaphore */
    struct timer tick;
};

static const struct snap_field ac97_fields[] = {
    SNAP_COLUMN(struct ac97, m, bdbar),
    SNAP_COLUMN(struct ac97, m, addr),
    SNAP_COLUMN(struct ac97, m, civ, .max = BDS - 1),
    SNAP_COLUMN(struct ac97, m, lvi, .max = BDS - 1),
    SNAP_COLUMN(struct ac97, m, piv, .max = BDS - 1),
    SNAP_COLUMN(struct ac97, m, cr),
    SNAP_COLUMN(struct ac97, m, sr, .reset = SR_DCH),
    SNAP_COLUMN(struct ac97, m, picb),
    SNAP_COLUMN(struct ac97, m, flags),
    SNAP_COLUMN(struct ac97, m, fetched),
    PACE_COLUMNS(struct ac97, m, pace),
    AC97_CODEC_FIELDS(struct ac97, codec),
    SNAP(struct ac97, glob_cnt),
    SNAP(struct ac97, cas),
    SNAP(struct ac97, tick),
    { 0 },
};

/* ---- interrupts ---- */

static bool master_asks(const struct master *m)
{
    return (m->sr & SR_LVBCI && m->cr & CR_LVBIE) || (m->sr & SR_BCIS && m->cr & CR_IOCE)
           || (m->sr & SR_FIFOE && m->cr & CR_FEIE);
}

static u32 glob_sta(const struct ac97 *a)
{
    return GS_PCR | (master_asks(&a->m[PCM_IN]) ? GS_PIINT : 0) | (master_asks(&a->m[PCM_OUT]) ? GS_POINT : 0)
           | (master_asks(&a->m[MIC_IN]) ? GS_MINT : 0);
}

static void interrupt_update(struct ac97 *a) { irq_set(&a->intx, glob_sta(a) & (GS_PIINT | GS_POINT | GS_MINT)); }

/* ---- bus masters ---- */

static unsigned channels(unsigned which) { return which == MIC_IN ? 1 : 2; }
static u32 rate(const struct ac97 *a, unsigned which) { return ac97_codec_rate(&a->codec, which == PCM_OUT); }
static bool master_runs(const struct master *m) { return m->cr & CR_RPBM && !(m->sr & SR_DCH); }

/* The descriptor at civ. */
static void fetch(struct ac97 *a, struct master *m)
{
    u32 bd[2];

    (void)bus_dma_read(a->bus, (paddr)m->bdbar + 8u * m->civ, bd, sizeof bd);
    m->addr = bd[0] & ~1u;
    m->picb = (u16)bd[1];
    m->flags = (u16)(bd[1] >> 16);
    m->fetched = true;
}

/* On from a descriptor that is through, or has never been begun. */
static void next(struct ac97 *a, struct master *m)
{
    m->civ = m->piv;
    m->piv = (m->piv + 1) % BDS;
    fetch(a, m);
}

static void buffer_end(struct ac97 *a, struct master *m)
{
    m->fetched = false;
    if (m->flags & BD_IOC) m->sr |= SR_BCIS;
    if (m->civ == m->lvi) {
        m->sr |= SR_LVBCI | SR_DCH | SR_CELV;
        return;
    }
    next(a, m);
}

/* n frames, which are in the buffer. */
static void move(struct ac97 *a, unsigned which, u32 n)
{
    struct master *m = &a->m[which];
    u32 bytes = n * channels(which) * 2;
    u8 data[CHUNK * PCM_FRAME_MAX] = { 0 };
    s16 out[CHUNK * 2];

    if (which == PCM_OUT) {
        (void)bus_dma_read(a->bus, m->addr, data, bytes);
        ac97_codec_play(&a->codec, out, data, n);
        audiodev_put(a->to.dev, a->to.voice, pace_time(&m->pace, rate(a, which), 0), rate(a, which), out, n);
    } else {
        (void)bus_dma_write(a->bus, m->addr, data, bytes);
    }
    m->addr += bytes;
    m->picb -= (u16)(n * channels(which));
    m->pace.done += n;
}

/* What is due by now. */
static void master_play(struct ac97 *a, unsigned which)
{
    struct master *m = &a->m[which];
    u32 due;

    if (!master_runs(m) || !pci_fn_bus_master(a->fn)) return;
    due = pace_due(&m->pace, rate(a, which), clock_now(a->clk));
    for (unsigned empty = 0; master_runs(m) && (due || !m->picb) && empty <= BDS;) {
        u32 n = m->picb / channels(which);

        if (n > due) n = due;
        if (n > CHUNK) n = CHUNK;
        empty = n ? 0 : empty + 1;
        if (n) move(a, which, n);
        due -= n;
        if (m->picb < channels(which)) buffer_end(a, m); /* half a frame is nobody's */
    }
}

static void schedule(struct ac97 *a)
{
    u64 now = clock_now(a->clk), at = UINT64_MAX;

    for (unsigned i = 0; i < MASTERS; i++) {
        struct master *m = &a->m[i];
        u64 end = pace_time(&m->pace, rate(a, i), m->picb / channels(i));

        if (!master_runs(m)) continue;
        if (end > now + TICK_NS || end <= now) end = now + TICK_NS;
        if (end < at) at = end;
    }
    if (at == UINT64_MAX) timer_cancel(&a->tick);
    else timer_arm(&a->tick, at);
}

static void play(struct ac97 *a)
{
    for (unsigned i = 0; i < MASTERS; i++) master_play(a, i);
    interrupt_update(a);
    schedule(a);
}

static void on_tick(void *arg) { play(arg); }

static void master_reset(struct master *m)
{
    *m = (struct master){ .cr = m->cr & CR_ENABLES, .sr = SR_DCH, .pace.from_ns = m->pace.from_ns };
}

static void master_start(struct ac97 *a, struct master *m)
{
    if (!m->fetched) next(a, m);
    m->sr &= ~(SR_DCH | SR_CELV);
    pace_start(&m->pace, clock_now(a->clk));
}

static void cr_write(struct ac97 *a, struct master *m, u8 val)
{
    bool ran = m->cr & CR_RPBM;

    m->cr = val & (CR_ENABLES | CR_RPBM);
    if (val & CR_RR) {
        if (!(m->cr & CR_RPBM)) master_reset(m);
    } else if (m->cr & CR_RPBM && !ran) {
        master_start(a, m);
    } else if (!(m->cr & CR_RPBM) && ran) {
        m->sr |= SR_DCH;
    }
}

/* A master that has come to the end of its list goes on with what has been added to it. */
static void lvi_write(struct ac97 *a, struct master *m, u8 val)
{
    m->lvi = val % BDS;
    if (m->cr & CR_RPBM && m->sr & SR_CELV && m->lvi != m->civ) master_start(a, m);
}

/* ---- registers ---- */

static u8 master_read(const struct master *m, unsigned at)
{
    switch (at) {
    case BDBAR:
    case BDBAR + 1:
    case BDBAR + 2:
    case BDBAR + 3: return (u8)(m->bdbar >> 8 * at);
    case CIV: return m->civ;
    case LVI: return m->lvi;
    case SR: return m->sr;
    case PICB: return (u8)m->picb;
    case PICB + 1: return (u8)(m->picb >> 8);
    case PIV: return m->piv;
    case CR: return m->cr;
    default: return 0;
    }
}

static void master_write(struct ac97 *a, struct master *m, unsigned at, u8 val)
{
    switch (at) {
    case BDBAR:
    case BDBAR + 1:
    case BDBAR + 2:
    case BDBAR + 3: m->bdbar = ((m->bdbar & ~(0xffu << 8 * at)) | (u32)val << 8 * at) & ~7u; break;
    case LVI: lvi_write(a, m, val); break;
    case SR: m->sr &= (u8) ~(val & SR_CLEARED); break;
    case CR: cr_write(a, m, val); break;
    default: break;
    }
}

static void glob_cnt_write(struct ac97 *a, u8 val)
{
    if (!(val & GC_COLD) && a->glob_cnt & GC_COLD) {
        for (unsigned i = 0; i < MASTERS; i++) {
            a->m[i].cr = 0;
            master_reset(&a->m[i]);
        }
        ac97_codec_reset(&a->codec);
    }
    a->glob_cnt = val & GC_BITS;
}

static u32 nabm_read(void *dev, u32 off, unsigned size)
{
    struct ac97 *a = dev;
    u32 v = 0;

    play(a);
    for (unsigned i = 0; i < size; i++) {
        unsigned at = (off + i) % NABM_PORTS;
        u8 byte = 0;

        if (at < GLOB_CNT) byte = master_read(&a->m[at / 16], at % 16);
        else if (at == GLOB_CNT) byte = a->glob_cnt;
        else if (at >= GLOB_STA && at < GLOB_STA + 4) byte = (u8)(glob_sta(a) >> 8 * (at - GLOB_STA));
        else if (at == CAS) {
            byte = a->cas;
            a->cas = true;
        }
        v |= (u32)byte << 8 * i;
    }
    return v;
}

static void nabm_write(void *dev, u32 off, unsigned size, u32 val)
{
    struct ac97 *a = dev;

    play(a);
    for (unsigned i = 0; i < size; i++) {
        unsigned at = (off + i) % NABM_PORTS;
        u8 byte = (u8)(val >> 8 * i);

        if (at < GLOB_CNT) master_write(a, &a->m[at / 16], at % 16, byte);
        else if (at == GLOB_CNT) glob_cnt_write(a, byte);
    }
    play(a);
}

/* The codec's registers have 16 bits. Those of a second one would follow at 80h. */
static u32 nam_read(void *dev, u32 off, unsigned size)
{
    struct ac97 *a = dev;
    u32 v = 0;

    a->cas = false;
    for (unsigned i = 0; i < size; i++) {
        unsigned at = (off + i) % NAM_PORTS;
        u32 byte = at < AC97_CODEC_SIZE ? ac97_codec_read(&a->codec, at & ~1u) >> 8 * (at & 1) & 0xff : 0xff;

        v |= byte << 8 * i;
    }
    return v;
}

static void nam_write(void *dev, u32 off, unsigned size, u32 val)
{
    struct ac97 *a = dev;

    a->cas = false;
    if (size == 1 || off & 1) return;
    play(a); /* with the volume and at the rate that were so far */
    for (unsigned i = 0; i < size; i += 2)
        if (off + i < AC97_CODEC_SIZE && ac97_codec_write(&a->codec, off + i, (u16)(val >> 8 * i)))
            for (unsigned k = 0; k < MASTERS; k++) pace_start(&a->m[k].pace, clock_now(a->clk));
    schedule(a);
}

static const struct io_ops nabm_ops = { nabm_read, nabm_write }, nam_ops = { nam_read, nam_write };

/* ---- a board's part ---- */

static bool ac97_check(const void *chip) { return ac97_codec_is_fine(&((const struct ac97 *)chip)->codec); }

static const struct snap_table ac97_table;

static void ac97_on_reset(void *chip)
{
    struct ac97 *a = chip;

    timer_cancel(&a->tick);
    snap_reset(&ac97_table, a);
    for (unsigned i = 0; i < MASTERS; i++) pace_start(&a->m[i].pace, 0);
    ac97_codec_reset(&a->codec);
    interrupt_update(a);
}

static const struct snap_table ac97_table = { .name = "ac97",
                                              .version = 1,
                                              .size = sizeof(struct ac97),
                                              .fields = ac97_fields,
                                              .reset = ac97_on_reset,
                                              .check = ac97_check };

struct snap_part ac97_part(struct ac97 *a) { return (struct snap_part){ ac97_table.name, &ac97_table, a }; }

int ac97_new(struct ac97 **out, struct bus *bus, struct clock *clk, struct pci *pci, u8 slot, struct sound_out to)
{
    struct ac97 *a = calloc(1, sizeof *a);
    int err;

    if (!a) return -ENOMEM;
    const struct pci_desc fn = {
        .dev = slot,
        .vendor = 0x8086,
        .device = 0x2415,
        .subsys_vendor = 0x8086,
        .subsys = 0x0000,
        .revision = 0x02,
        .class_code = 4, /* multimedia, audio */
        .subclass = 1,
        .int_pin = 1,
        .bar = { { .size = NAM_PORTS, .io = true, .ops = &nam_ops },
                 { .size = NABM_PORTS, .io = true, .ops = &nabm_ops } },
        .opaque = a,
        .name = "ac97",
    };
    err = pci_add(pci, &a->fn, &fn);
    if (err) {
        free(a);
        return err;
    }
    a->bus = bus;
    a->clk = clk;
    a->to = to;
    a->intx = pci_fn_irq(a->fn);
    timer_init(&a->tick, clk, on_tick, a);
    ac97_on_reset(a);
    *out = a;
    return 0;
}

void ac97_free(struct ac97 *a)
{
    if (!a) return;
    timer_cancel(&a->tick);
    free(a);
}
