/* Owns the ACPI fixed hardware: PM1a event and control blocks, PM timer, GPE0 block, and the SMI command port through
 * which an OS takes over from (here: absent) firmware.
 *   I1  The sci wire is SCI_EN and any status bit whose enable bit is set.          [acpi_update]
 *   I2  TMR_STS is right as of carries_seen; the timer is armed iff TMR_EN waits for the next carry.  [acpi_account]
 * Enter at pm_write(). ACPI 2.0, chapter 4.7; Intel 290562 (PIIX4), function 3. The PM timer is 24 bits wide. */
#include "src/dev/isa/byte_ports.h"
#include "core/snap.h"
#include "src/dev/pc_devices.h"

#include <errno.h>

#define PM_TIMER_HZ 3579545u
#define NS_PER_S 1000000000ull
#define CARRY_SHIFT 23 /* TMR_STS is set whenever bit 23 changes */

/* clang-format off */
enum { STS_TMR = 1 << 0, STS_GBL = 1 << 5, STS_PWRBTN = 1 << 8, STS_SLPBTN = 1 << 9, STS_RTC = 1 << 10,
    STS_WAK = 1 << 15 };
/* clang-format on */
enum { STS_ALL = STS_TMR | STS_GBL | STS_PWRBTN | STS_SLPBTN | STS_RTC | STS_WAK, EN_ALL = STS_ALL & ~STS_WAK };
enum { CNT_SCI_EN = 1 << 0, CNT_BM_RLD = 1 << 1, CNT_GBL_RLS = 1 << 2, CNT_SLP_EN = 1 << 13 };
enum { OFF_STS = 0, OFF_EN = 2, OFF_CNT = 4, OFF_TMR = 8, PM_LEN = 12 };
/* Of the PCI function. */
enum { CFG_PMBA = 0x40, CFG_DEVACTB = 0x58, CFG_PMREGMISC = 0x80, CFG_SMBUS = 0x90, CFG_SMBUS_HOST = 0xd2 };
enum { PMIOSE = 1, PMBA_LEN = 64, APMC_EN = 1 << 25 };

struct acpi_pm {
    u16 sts, en, cnt;
    u16 gpe_sts, gpe_en;
    u8 smi_status; /* port 0xb3: scratch */
    u8 smi_cmd;
    u64 carries_seen;
    u16 base; /* of the PM block; 0: it is nowhere */
    struct bus *bus;
    struct pci_fn *fn; /* NULL: there is no such function, and the block stays */
    struct clock *clk;
    struct timer carry;
    struct irq_line sci;
    struct dev_event poweroff;
};

static const struct snap_field acpi_fields[] = {
    SNAP(struct acpi_pm, sts, .max = STS_ALL),
    SNAP(struct acpi_pm, en, .max = EN_ALL),
    SNAP(struct acpi_pm, cnt),
    SNAP(struct acpi_pm, gpe_sts),
    SNAP(struct acpi_pm, gpe_en),
    SNAP(struct acpi_pm, smi_status),
    SNAP(struct acpi_pm, smi_cmd),
    SNAP(struct acpi_pm, carries_seen),
    SNAP(struct acpi_pm, carry),
    SNAP(struct acpi_pm, base, .since = 2, .keep = true),
    { 0 },
};

static u64 acpi_ticks(const struct acpi_pm *a) { return (unsigned __int128)clock_now(a->clk) * PM_TIMER_HZ / NS_PER_S; }

static void acpi_account(struct acpi_pm *a)
{
    u64 carries = acpi_ticks(a) >> CARRY_SHIFT;

    if (carries != a->carries_seen) a->sts |= STS_TMR;
    a->carries_seen = carries;
}

static void acpi_update(struct acpi_pm *a)
{
    u64 next;

    acpi_account(a);
    irq_set(&a->sci, (a->cnt & CNT_SCI_EN) && ((a->sts & a->en & EN_ALL) || (a->gpe_sts & a->gpe_en)));
    timer_cancel(&a->carry);
    if (!(a->en & STS_TMR) || (a->sts & STS_TMR)) return;
    next = (a->carries_seen + 1) << CARRY_SHIFT;
    timer_arm(&a->carry, ((unsigned __int128)next * NS_PER_S + PM_TIMER_HZ - 1) / PM_TIMER_HZ);
}

static void acpi_carry(void *arg) { acpi_update(arg); }

static void acpi_write_cnt(struct acpi_pm *a, u16 val)
{
    /* SCI_EN is for the SMI handler to change, GBL_RLS and SLP_EN read as zero. */
    a->cnt = (val & ~(CNT_SCI_EN | CNT_GBL_RLS | CNT_SLP_EN)) | (a->cnt & CNT_SCI_EN);
    if ((val & CNT_SLP_EN) && (val >> 10 & 7) == ACPI_S5_TYP) dev_event_fire(&a->poweroff, 0);
}

/* The PM block is accessed in bytes, words and dwords: each byte is taken on its own. */
static u8 pm_read_byte(struct acpi_pm *a, u32 off)
{
    u64 v;

    switch (off) {
    case OFF_STS:
    case OFF_STS + 1: v = a->sts; break;
    case OFF_EN:
    case OFF_EN + 1: v = a->en; break;
    case OFF_CNT:
    case OFF_CNT + 1: v = a->cnt; break;
    default: return 0;
    }
    return v >> 8 * (off & 1);
}

static u32 pm_read(void *dev, u32 off, unsigned size)
{
    struct acpi_pm *a = dev;
    u32 v = 0;

    if (off >= OFF_TMR) return (acpi_ticks(a) & 0xffffff) >> 8 * (off - OFF_TMR); /* one look, however wide */
    acpi_account(a);
    for (unsigned i = 0; i < size; i++) v |= (u32)pm_read_byte(a, off + i) << 8 * i;
    return v;
}

static void pm_write(void *dev, u32 off, unsigned size, u32 val)
{
    struct acpi_pm *a = dev;
    u16 cnt = a->cnt;
    bool cnt_written = false;

    acpi_account(a);
    for (unsigned i = 0; i < size; i++) {
        unsigned at = off + i, shift = 8 * (at & 1);
        u16 byte = (val >> 8 * i & 0xff) << shift, mask = 0xff << shift;

        switch (at & ~1u) {
        case OFF_STS:
            a->sts &= ~(byte & STS_ALL); /* write one to clear */
            break;
        case OFF_EN: a->en = ((a->en & ~mask) | byte) & EN_ALL; break;
        case OFF_CNT:
            cnt = (cnt & ~mask) | byte;
            cnt_written = true;
            break;
        default: break;
        }
    }
    if (cnt_written) acpi_write_cnt(a, cnt);
    acpi_update(a);
}

static u32 gpe_read(void *dev, u32 off, unsigned size)
{
    struct acpi_pm *a = dev;
    u32 v = (u32)a->gpe_en << 16 | a->gpe_sts;

    (void)size;
    return v >> 8 * off;
}

static void gpe_write(void *dev, u32 off, unsigned size, u32 val)
{
    struct acpi_pm *a = dev;

    for (unsigned i = 0; i < size; i++) {
        unsigned at = off + i, shift = 8 * (at & 1);
        u16 byte = (val >> 8 * i & 0xff) << shift, mask = 0xff << shift;

        if (at < 2) a->gpe_sts &= ~byte;
        else a->gpe_en = (a->gpe_en & ~mask) | byte;
    }
    acpi_update(a);
}

static u8 smi_read(void *dev, u32 off)
{
    struct acpi_pm *a = dev;
    return off ? a->smi_status : a->smi_cmd;
}

static void smi_write(void *dev, u32 off, u8 val)
{
    struct acpi_pm *a = dev;

    if (off) {
        a->smi_status = val;
        return;
    }
    a->smi_cmd = val;
    if (val == ACPI_ENABLE_CMD) a->cnt |= CNT_SCI_EN;
    else if (val == ACPI_DISABLE_CMD) a->cnt &= ~CNT_SCI_EN;
    acpi_update(a);
}

void acpi_pm_power_button(struct acpi_pm *a)
{
    a->sts |= STS_PWRBTN;
    acpi_update(a);
}

void acpi_pm_gpe(struct acpi_pm *a, unsigned n)
{
    BUG_ON(n > 15);
    a->gpe_sts |= 1u << n;
    acpi_update(a);
}

static const struct io_ops pm_ops = { pm_read, pm_write };
static const struct io_ops gpe_ops = { gpe_read, gpe_write };
BYTE_PORT_OPS(smi_ops, smi_read, smi_write);

/* ---- where it is ---- */

/* What is in the way stays, and the block is nowhere. */
static void acpi_place(struct acpi_pm *a, u16 base)
{
    if (a->base == base) return;
    if (a->base) bus_unmap_pio(a->bus, a->base);
    a->base = base && !bus_map_pio(a->bus, base, PM_LEN, &pm_ops, a, "acpi pm") ? base : 0;
}

static void fn_follow(struct acpi_pm *a)
{
    const u8 *cfg = pci_fn_config(a->fn);
    u16 base = (u16)((cfg[CFG_PMBA] | cfg[CFG_PMBA + 1] << 8) & ~(PMBA_LEN - 1u));

    acpi_place(a, cfg[CFG_PMREGMISC] & PMIOSE ? base : 0);
}
static void fn_written(void *opaque, u8 off UNUSED, unsigned size UNUSED) { fn_follow(opaque); }

/* NOT-HW: the block is on and in its place before firmware has said so: there may be none. SeaBIOS leaves it there. */
static void fn_reset(void *opaque)
{
    struct acpi_pm *a = opaque;
    u8 *cfg;

    if (!a->fn) return;
    cfg = pci_fn_config(a->fn);
    cfg[CFG_PMBA] = (ACPI_PM_BASE & 0xff) | 1;
    cfg[CFG_PMBA + 1] = ACPI_PM_BASE >> 8;
    cfg[CFG_PMREGMISC] = PMIOSE;
    fn_follow(a);
}

int acpi_pm_attach(struct acpi_pm *a, struct pci *p)
{
    const struct pci_desc d = { .dev = 1,
                                .fn = 3,
                                .vendor = 0x8086,
                                .device = 0x7113,
                                .class_code = 6,
                                .subclass = 0x80,
                                .revision = 3,
                                .opaque = a,
                                .name = "piix4 pm",
                                .reset = fn_reset,
                                .cfg_written = fn_written };
    int err = pci_add(p, &a->fn, &d);
    u8 *writable;

    if (err) return err;
    writable = pci_fn_writable(a->fn);
    writable[CFG_PMBA] = 0xc0;
    writable[CFG_PMBA + 1] = 0xff;
    writable[CFG_PMREGMISC] = PMIOSE;
    for (unsigned i = CFG_SMBUS; i < CFG_SMBUS + 4; i++) writable[i] = 0xff; /* kept: there is no SMBus */
    writable[CFG_SMBUS_HOST] = 0xff;
    pci_fn_config(a->fn)[CFG_DEVACTB + 3] = APMC_EN >> 24; /* NOT-HW: firmware takes SMM for set up, and lets it be */
    fn_reset(a);
    return 0;
}

static void acpi_unmap(void *chip)
{
    struct acpi_pm *a = chip;
    if (a->base) bus_unmap_pio(a->bus, a->base);
    a->base = 0;
}

static int acpi_loaded(void *chip)
{
    struct acpi_pm *a = chip;
    u16 base = a->base;

    a->base = 0;
    acpi_place(a, base);
    return a->base == base ? 0 : -EBUSY;
}

static bool acpi_check(const void *chip)
{
    const struct acpi_pm *a = chip;
    return !(a->sts & ~STS_ALL) && !(a->en & ~EN_ALL) && !(a->cnt & (CNT_GBL_RLS | CNT_SLP_EN))
           && a->carries_seen <= acpi_ticks(a) >> CARRY_SHIFT;
}

static void acpi_on_reset(void *chip) { acpi_pm_reset(chip); }

static const struct snap_table acpi_table = { .name = "acpi",
                                              .version = 2,
                                              .size = sizeof(struct acpi_pm),
                                              .fields = acpi_fields,
                                              .reset = acpi_on_reset,
                                              .check = acpi_check,
                                              .unmap = acpi_unmap,
                                              .loaded = acpi_loaded };

struct snap_part acpi_pm_part(struct acpi_pm *a) { return (struct snap_part){ acpi_table.name, &acpi_table, a }; }

void acpi_pm_reset(struct acpi_pm *a)
{
    snap_reset(&acpi_table, a);
    a->carries_seen = acpi_ticks(a) >> CARRY_SHIFT;
    acpi_update(a);
}

int acpi_pm_new(struct acpi_pm **out, struct bus *b, struct clock *clk, struct irq_line sci, struct dev_event poweroff)
{
    struct acpi_pm *a = calloc(1, sizeof(*a));
    int err;

    if (!a) return -ENOMEM;
    a->bus = b;
    a->clk = clk;
    a->sci = sci;
    a->poweroff = poweroff;
    timer_init(&a->carry, clk, acpi_carry, a);
    acpi_pm_reset(a);
    if ((err = bus_map_pio(b, ACPI_PM_BASE, PM_LEN, &pm_ops, a, "acpi pm"))) goto fail;
    a->base = ACPI_PM_BASE;
    if ((err = bus_map_pio(b, ACPI_GPE0_BASE, 4, &gpe_ops, a, "acpi gpe0"))) goto fail_pm;
    if ((err = bus_map_pio(b, ACPI_SMI_CMD, 2, &smi_ops, a, "apm"))) goto fail_gpe;
    *out = a;
    return 0;

fail_gpe:
    bus_unmap_pio(b, ACPI_GPE0_BASE);
fail_pm:
    bus_unmap_pio(b, ACPI_PM_BASE);
fail:
    free(a);
    return err;
}

void acpi_pm_free(struct acpi_pm *a)
{
    if (a) timer_cancel(&a->carry);
    free(a);
}
