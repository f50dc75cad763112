/* Owns the MC146818 real-time clock and the 128 bytes of CMOS RAM around it. The time is the host's UTC plus an offset
 * that the guest moves by setting the clock; nothing ticks unless an interrupt that the guest has enabled needs it.
 *   I1  While the clock runs, the time bytes are computed; while it is stopped (SET, or the divider held in reset),
 *       they are what cmos[] holds.                                              [rtc_running decides; rtc_stop,
 *       rtc_start change over]
 *   I2  UF and AF are right as of `seen`, the last second looked at; rtc_account() brings them up to now before
 *       register C is read or its timer is armed.
 *   I3  The irq8 wire is IRQF, always.                                  [rtc_update_irq]
 * Enter at rtc_write(). Motorola MC146818A, and the century byte 0x32 of the PC. Daylight saving (DSE) is not kept. */
#include "src/dev/isa/byte_ports.h"
#include "core/snap.h"
#include "src/dev/pc_devices.h"

#include <errno.h>
#include <string.h>

#define NS_PER_S 1000000000u
#define UIP_NS 2228000u /* 244 us of warning and 1984 us of update */
#define DIVIDER_HALF_NS (NS_PER_S / 2)

/* clang-format off */
enum {
    R_SEC, R_SEC_ALARM, R_MIN, R_MIN_ALARM, R_HOUR, R_HOUR_ALARM, R_WDAY, R_MDAY, R_MONTH, R_YEAR, R_A, R_B, R_C, R_D,
    R_FIRST_RAM, R_CENTURY = 0x32,
};
/* clang-format on */
enum { A_UIP = 0x80, A_DV = 0x70, A_DV_RUN = 0x20, A_RS = 0x0f };
enum { B_SET = 0x80, B_PIE = 0x40, B_AIE = 0x20, B_UIE = 0x10, B_BINARY = 0x04, B_24H = 0x02 };
enum { C_IRQF = 0x80, C_PF = 0x40, C_AF = 0x20, C_UF = 0x10 };
enum { D_VRT = 0x80 };
enum { HOUR_PM = 0x80, ALARM_ANY = 0xc0 };

struct rtc {
    u8 index;
    u8 cmos[128];
    s64 offset_s;      /* guest's time minus the host's UTC is offset_s seconds */
    u32 offset_ns;     /* and this, below 1 s; both meaningless while stopped */
    s64 seen;          /* second up to which UF and AF are accounted for */
    u64 periodic_from; /* guest ns: origin of the periodic interrupt */
    u64 periods_seen;  /* periods since then that PF is accounted for */
    struct clock *clk;
    struct irq_line irq8, nmi_mask;
    struct timer second; /* next update or alarm that interrupts */
    struct timer period;
};

#define FAR_S (1ll << 40) /* seconds: 30000 years */
static const struct snap_field rtc_fields[] = {
    SNAP(struct rtc, index, .max = 0x7f),
    SNAP_ARRAY(struct rtc, cmos, .keep = true),
    SNAP(struct rtc, offset_s, .keep = true, .min = -FAR_S, .max = FAR_S),
    SNAP(struct rtc, offset_ns, .keep = true, .max = NS_PER_S - 1),
    SNAP(struct rtc, seen, .keep = true, .min = -FAR_S, .max = FAR_S),
    SNAP(struct rtc, periodic_from, .keep = true),
    SNAP(struct rtc, periods_seen, .keep = true),
    SNAP(struct rtc, second),
    SNAP(struct rtc, period),
    { 0 },
};

struct civil {
    s64 year;
    unsigned month, mday, wday /* 1 Sunday */, hour, min, sec;
};

/* Days since 1970-01-01 of a date in the proleptic Gregorian calendar; March is month 0 of its year. */
static s64 days_of(s64 year, unsigned month, unsigned mday)
{
    s64 y = month <= 2 ? year - 1 : year;
    s64 era = (y >= 0 ? y : y - 399) / 400;
    s64 yoe = y - era * 400;
    s64 doy = (153 * ((month + 9) % 12) + 2) / 5 + (s64)mday - 1;

    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static s64 floor_div(s64 a, s64 b) { return a / b - (a % b < 0); }

static struct civil civil_of(s64 sec)
{
    s64 days = floor_div(sec, 86400), rest = sec - days * 86400;
    s64 z = days + 719468, era = floor_div(z, 146097), doe = z - era * 146097;
    s64 yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    s64 doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    s64 mp = (5 * doy + 2) / 153;
    struct civil c;

    c.mday = doy - (153 * mp + 2) / 5 + 1;
    c.month = mp < 10 ? mp + 3 : mp - 9;
    c.year = yoe + era * 400 + (c.month <= 2);
    c.wday = (unsigned)(((days + 4) % 7 + 7) % 7) + 1; /* 1970-01-01 was a Thursday */
    c.hour = rest / 3600;
    c.min = rest / 60 % 60;
    c.sec = rest % 60;
    return c;
}

static bool rtc_running(const struct rtc *r) { return !(r->cmos[R_B] & B_SET) && (r->cmos[R_A] & A_DV) == A_DV_RUN; }

/* The guest's time, in s since 1970 and ns. */
static s64 rtc_now(const struct rtc *r, u32 *ns)
{
    u64 wall = clock_wall_ns(r->clk), rest = wall % NS_PER_S + r->offset_ns;

    *ns = rest % NS_PER_S;
    return (s64)(wall / NS_PER_S + rest / NS_PER_S) + r->offset_s;
}

/* Register encoding of a number, and back, by the present DM bit. */
static u8 rtc_encode(const struct rtc *r, unsigned v) { return r->cmos[R_B] & B_BINARY ? v : v / 10 << 4 | v % 10; }
static unsigned rtc_decode(const struct rtc *r, u8 v) { return r->cmos[R_B] & B_BINARY ? v : (v >> 4) * 10 + (v & 15); }
static u8 rtc_encode_hour(const struct rtc *r, unsigned h)
{
    if (r->cmos[R_B] & B_24H) return rtc_encode(r, h);
    return rtc_encode(r, h % 12 ? h % 12 : 12) | (h >= 12 ? HOUR_PM : 0);
}
static unsigned rtc_decode_hour(const struct rtc *r, u8 v)
{
    if (r->cmos[R_B] & B_24H) return rtc_decode(r, v);
    return rtc_decode(r, v & ~HOUR_PM) % 12 + (v & HOUR_PM ? 12 : 0);
}

/* Puts the running time into the time bytes. */
static void rtc_to_cmos(struct rtc *r)
{
    u32 ns;
    struct civil c = civil_of(rtc_now(r, &ns));

    r->cmos[R_SEC] = rtc_encode(r, c.sec);
    r->cmos[R_MIN] = rtc_encode(r, c.min);
    r->cmos[R_HOUR] = rtc_encode_hour(r, c.hour);
    r->cmos[R_WDAY] = rtc_encode(r, c.wday);
    r->cmos[R_MDAY] = rtc_encode(r, c.mday);
    r->cmos[R_MONTH] = rtc_encode(r, c.month);
    r->cmos[R_YEAR] = rtc_encode(r, (c.year % 100 + 100) % 100);
    r->cmos[R_CENTURY] = (u8)(c.year / 100 % 100 / 10 << 4 | c.year / 100 % 10); /* BCD whatever DM says, as PC BIOSes
                                                                                    keep it */
}

/* Takes the time bytes for the time now, with the given fraction of a second gone. Nonsense in them counts as it adds
 * up. */
static void rtc_from_cmos(struct rtc *r, u32 fraction_ns)
{
    u64 wall = clock_wall_ns(r->clk);
    u32 wall_ns = wall % NS_PER_S;
    unsigned century = (r->cmos[R_CENTURY] >> 4) * 10 + (r->cmos[R_CENTURY] & 15);
    unsigned month = rtc_decode(r, r->cmos[R_MONTH]);
    s64 sec = days_of((s64)century * 100 + rtc_decode(r, r->cmos[R_YEAR]), month >= 1 && month <= 12 ? month : 1,
                      rtc_decode(r, r->cmos[R_MDAY]))
              * 86400;

    sec +=
        rtc_decode_hour(r, r->cmos[R_HOUR]) * 3600 + rtc_decode(r, r->cmos[R_MIN]) * 60 + rtc_decode(r, r->cmos[R_SEC]);
    r->offset_s = sec - (s64)(wall / NS_PER_S) - (fraction_ns < wall_ns);
    r->offset_ns = fraction_ns - wall_ns + (fraction_ns < wall_ns ? NS_PER_S : 0);
    r->seen = sec;
}

/* Does second t, as hour, minute and second of a day, fit the alarm bytes? Moves *t to the next that may. */
static bool alarm_step(const struct rtc *r, s64 *t)
{
    const u8 *m = r->cmos;
    unsigned s = *t % 86400;

    if (m[R_HOUR_ALARM] < ALARM_ANY && rtc_decode_hour(r, m[R_HOUR_ALARM]) != s / 3600) {
        *t += 3600 - s % 3600;
        return false;
    }
    if (m[R_MIN_ALARM] < ALARM_ANY && rtc_decode(r, m[R_MIN_ALARM]) != s / 60 % 60) {
        *t += 60 - s % 60;
        return false;
    }
    if (m[R_SEC_ALARM] < ALARM_ANY && rtc_decode(r, m[R_SEC_ALARM]) != s % 60) {
        *t += 1;
        return false;
    }
    return true;
}

/* The first second after t at which the alarm goes off; INT64_MAX if its bytes name no time of day. */
static s64 rtc_next_alarm(const struct rtc *r, s64 t)
{
    s64 day = floor_div(t, 86400) * 86400, s = t - day + 1, last = s + 86400;
    const u8 *m = r->cmos;

    if ((m[R_HOUR_ALARM] < ALARM_ANY && rtc_decode_hour(r, m[R_HOUR_ALARM]) > 23)
        || (m[R_MIN_ALARM] < ALARM_ANY && rtc_decode(r, m[R_MIN_ALARM]) > 59)
        || (m[R_SEC_ALARM] < ALARM_ANY && rtc_decode(r, m[R_SEC_ALARM]) > 59))
        return INT64_MAX;
    while (s <= last)
        if (alarm_step(r, &s)) return day + s;
    return INT64_MAX;
}

/* Length of a period of the rate selected in A, in 1/32768 s; 0: none. */
static unsigned rtc_period(const struct rtc *r)
{
    unsigned rs = r->cmos[R_A] & A_RS;

    if (!rs || (r->cmos[R_A] & A_DV) != A_DV_RUN) return 0;
    return 1u << (rs <= 2 ? rs + 6 : rs - 1);
}

/* Sets PF for the periods gone by since last asked. Those that went unnoticed are lost, as on the chip when C is not
 * read. */
static void rtc_account_periods(struct rtc *r)
{
    unsigned length = rtc_period(r);
    u64 n;

    if (!length) return;
    n = (unsigned __int128)(clock_now(r->clk) - r->periodic_from) * 32768 / ((u64)length * NS_PER_S);
    if (n > r->periods_seen) r->cmos[R_C] |= C_PF;
    r->periods_seen = n;
}

/* Guest ns of the first period not yet seen: the first at which rtc_account_periods() sees it. */
static u64 rtc_next_period(const struct rtc *r)
{
    return r->periodic_from + ((unsigned __int128)(r->periods_seen + 1) * rtc_period(r) * NS_PER_S + 32767) / 32768;
}

/* Brings UF, AF and PF up to now (I2). */
static void rtc_account(struct rtc *r)
{
    s64 now;
    u32 ns;

    rtc_account_periods(r);
    if (!rtc_running(r)) return;
    now = rtc_now(r, &ns);
    if (now < r->seen) r->seen = now; /* the host's clock was set back */
    if (now == r->seen) return;
    r->cmos[R_C] |= C_UF;
    if (rtc_next_alarm(r, r->seen) <= now) r->cmos[R_C] |= C_AF;
    r->seen = now;
}

static void rtc_update_irq(struct rtc *r)
{
    bool level = r->cmos[R_B] & r->cmos[R_C] & (C_PF | C_AF | C_UF);

    r->cmos[R_C] = (r->cmos[R_C] & ~C_IRQF) | (level ? C_IRQF : 0);
    irq_set(&r->irq8, level);
}

/* Arms the timers for the next event that interrupts. A flag that is already up interrupts no more until C is read. */
static void rtc_schedule(struct rtc *r)
{
    u8 wanted = r->cmos[R_B] & ~r->cmos[R_C];
    s64 second = INT64_MAX, alarm, now;
    u32 ns;

    timer_cancel(&r->second);
    timer_cancel(&r->period);
    if ((wanted & B_PIE) && rtc_period(r)) timer_arm(&r->period, rtc_next_period(r));
    if (!rtc_running(r)) return;
    if (wanted & B_UIE) second = r->seen + 1;
    if (wanted & B_AIE) {
        alarm = rtc_next_alarm(r, r->seen);
        if (alarm < second) second = alarm;
    }
    if (second == INT64_MAX) return;
    now = rtc_now(r, &ns);
    timer_arm(&r->second, clock_now(r->clk) + (second > now ? (u64)(second - now) * NS_PER_S - ns : 0));
}

static void rtc_refresh(struct rtc *r)
{
    rtc_account(r);
    rtc_update_irq(r);
    rtc_schedule(r);
}

static void rtc_timer(void *arg) { rtc_refresh(arg); }

static bool is_time(u8 i)
{
    return i == R_SEC || i == R_MIN || i == R_HOUR || (i >= R_WDAY && i <= R_YEAR) || i == R_CENTURY;
}

/* Writes A or B, which may stop or start the clock. */
static void rtc_write_control(struct rtc *r, u8 i, u8 val)
{
    bool ran = rtc_running(r), was_held = (r->cmos[R_A] & A_DV) != A_DV_RUN;
    unsigned old_period = rtc_period(r);

    rtc_account(r);
    if (ran) rtc_to_cmos(r); /* in the format that B has until now */
    if (i == R_A) r->cmos[R_A] = val & ~A_UIP;
    else r->cmos[R_B] = val & B_SET ? val & ~B_UIE : val; /* SET clears UIE */
    if (!ran && rtc_running(r)) {
        /* The first update comes half a second after the divider is let go. */
        rtc_from_cmos(r, was_held ? DIVIDER_HALF_NS : 0);
    }
    if (rtc_period(r) != old_period) {
        r->periodic_from = clock_now(r->clk);
        r->periods_seen = 0;
    }
}

static void rtc_write_time(struct rtc *r, u8 i, u8 val)
{
    u32 fraction;

    if (!rtc_running(r)) {
        r->cmos[i] = val;
        return;
    }
    rtc_account(r);
    rtc_to_cmos(r);
    rtc_now(r, &fraction);
    r->cmos[i] = val;
    rtc_from_cmos(r, fraction);
}

static void rtc_write(void *dev, u32 off, u8 val)
{
    struct rtc *r = dev;

    if (off == 0) {
        r->index = val & 0x7f;
        irq_set(&r->nmi_mask, val & 0x80);
        return;
    }
    switch (r->index) {
    case R_A:
    case R_B: rtc_write_control(r, r->index, val); break;
    case R_C:
    case R_D: return; /* read-only */
    default:
        if (is_time(r->index)) {
            rtc_write_time(r, r->index, val);
        } else {
            rtc_account(r); /* up to now the old alarm holds */
            r->cmos[r->index] = val;
        }
    }
    rtc_refresh(r);
}

static u8 rtc_read(void *dev, u32 off)
{
    struct rtc *r = dev;
    u32 ns;
    u8 v;

    if (off == 0) return 0xff; /* the index cannot be read back */
    switch (r->index) {
    case R_A:
        v = r->cmos[R_A];
        if (rtc_running(r)) {
            rtc_now(r, &ns);
            if (ns >= NS_PER_S - UIP_NS) v |= A_UIP;
        }
        return v;
    case R_C:
        rtc_account(r);
        rtc_update_irq(r);
        v = r->cmos[R_C];
        r->cmos[R_C] = 0;
        rtc_refresh(r);
        return v;
    default:
        if (is_time(r->index) && rtc_running(r)) rtc_to_cmos(r);
        return r->cmos[r->index];
    }
}

void rtc_cmos_set(struct rtc *r, u8 index, u8 val)
{
    BUG_ON(index < R_FIRST_RAM || index > 127 || index == R_CENTURY);
    r->cmos[index] = val;
}

u8 rtc_cmos_get(const struct rtc *r, u8 index)
{
    BUG_ON(index < R_FIRST_RAM || index > 127 || index == R_CENTURY);
    return r->cmos[index];
}

static void cmos_set16(struct rtc *r, u8 index, u64 v)
{
    u16 w = v > 0xffff ? 0xffff : v;

    r->cmos[index] = w;
    r->cmos[index + 1] = w >> 8;
}

/* What a PC BIOS leaves in CMOS: equipment, memory sizes, checksum of 0x10..0x2d. */
static void rtc_fill_cmos(struct rtc *r, struct bus *b)
{
    u64 low = bus_ram_low(b), high = bus_ram_size(b) - low, mib = 1 << 20;
    unsigned sum = 0;

    r->cmos[0x14] = 0x06; /* equipment: FPU, PS/2 mouse */
    cmos_set16(r, 0x15, low / 1024 < 640 ? low / 1024 : 640);
    cmos_set16(r, 0x17, low > mib ? (low - mib) / 1024 : 0);
    cmos_set16(r, 0x30, low > mib ? (low - mib) / 1024 : 0);
    cmos_set16(r, 0x34, low > 16 * mib ? (low - 16 * mib) >> 16 : 0);
    r->cmos[0x5b] = high >> 16; /* above 4 GiB, in 64 KiB: where SeaBIOS looks */
    r->cmos[0x5c] = high >> 24;
    r->cmos[0x5d] = high >> 32;
    for (unsigned i = 0x10; i <= 0x2d; i++) sum += r->cmos[i];
    r->cmos[0x2e] = sum >> 8;
    r->cmos[0x2f] = sum;
}

static bool rtc_check(const void *chip)
{
    const struct rtc *r = chip;
    return !(r->cmos[R_A] & A_UIP) && r->periodic_from <= clock_now(r->clk);
}

/* The wall clock has gone on since the save, or is another host's: what was armed for it is due at another guest time.
 * rtc_account() has yet to find out what went by. */
static int rtc_loaded(void *chip)
{
    rtc_schedule(chip);
    return 0;
}

static void rtc_on_reset(void *chip) { rtc_reset(chip); }

static const struct snap_table rtc_table = { .name = "rtc",
                                             .version = 1,
                                             .size = sizeof(struct rtc),
                                             .fields = rtc_fields,
                                             .reset = rtc_on_reset,
                                             .check = rtc_check,
                                             .loaded = rtc_loaded };

struct snap_part rtc_part(struct rtc *r) { return (struct snap_part){ rtc_table.name, &rtc_table, r }; }

/* RESET# clears the interrupt enables and flags; the time, the alarm and the RAM are kept by the battery. */
void rtc_reset(struct rtc *r)
{
    rtc_account(r);
    snap_reset(&rtc_table, r);
    r->cmos[R_B] &= ~(B_PIE | B_AIE | B_UIE | 0x08 /* SQWE */);
    r->cmos[R_C] = 0;
    irq_set(&r->nmi_mask, false);
    rtc_refresh(r);
}

BYTE_PORT_OPS(rtc_ops, rtc_read, rtc_write);

int rtc_new(struct rtc **out, struct bus *b, struct clock *clk, struct irq_line irq8, struct irq_line nmi_mask)
{
    struct rtc *r = calloc(1, sizeof(*r));
    int err;

    if (!r) return -ENOMEM;
    r->clk = clk;
    r->irq8 = irq8;
    r->nmi_mask = nmi_mask;
    timer_init(&r->second, clk, rtc_timer, r);
    timer_init(&r->period, clk, rtc_timer, r);
    r->cmos[R_A] = A_DV_RUN | 6; /* 1024 Hz */
    r->cmos[R_B] = B_24H;
    r->cmos[R_D] = D_VRT;
    r->seen = (s64)(clock_wall_ns(clk) / NS_PER_S);
    r->periodic_from = clock_now(clk);
    rtc_fill_cmos(r, b);
    rtc_reset(r);
    err = bus_map_pio(b, 0x70, 2, &rtc_ops, r, "rtc");
    if (err) {
        rtc_free(r);
        return err;
    }
    *out = r;
    return 0;
}

void rtc_set_offset(struct rtc *r, s64 seconds)
{
    BUG_ON(seconds <= -FAR_S || seconds >= FAR_S);
    r->offset_s = seconds;
    r->seen = (s64)(clock_wall_ns(r->clk) / NS_PER_S) + seconds;
}

void rtc_free(struct rtc *r)
{
    if (!r) return;
    timer_cancel(&r->second);
    timer_cancel(&r->period);
    free(r);
}
