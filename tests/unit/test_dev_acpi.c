/* ACPI: the fixed hardware as a driver uses it, and the tables as a parser of its own reads them. */
#include "fake_machine.h"
#include "src/dev/pc_devices.h"

static struct acpi_pm *pm;
static struct wire sci;
static struct event_log off;

static u32 in(u16 port, unsigned size) { return bus_in(&fake_bus, port, size); }
static void out(u16 port, unsigned size, u32 v) { bus_out(&fake_bus, port, size, v); }
#define STS ACPI_PM_BASE
#define EN (ACPI_PM_BASE + 2)
#define CNT (ACPI_PM_BASE + 4)
#define TMR (ACPI_PM_BASE + 8)

static void setup(void)
{
    machine_clear();
    memset(&sci, 0, sizeof(sci));
    memset(&off, 0, sizeof(off));
    ck_assert_int_eq(acpi_pm_new(&pm, &fake_bus, &fake_clock, wire_line(&sci), (struct dev_event){ event_fired, &off }),
                     0);
}
static void teardown(void) { acpi_pm_free(pm); }

START_TEST(acpi_mode_is_entered_and_left_by_the_smi_port)
{
    ck_assert_uint_eq(in(CNT, 2) & 1, 0);
    out(ACPI_SMI_CMD, 1, ACPI_ENABLE_CMD);
    ck_assert_uint_eq(in(CNT, 2) & 1, 1);
    out(CNT, 2, 0); /* SCI_EN is not for the OS to clear */
    ck_assert_uint_eq(in(CNT, 2) & 1, 1);
    out(ACPI_SMI_CMD, 1, ACPI_DISABLE_CMD);
    ck_assert_uint_eq(in(CNT, 2) & 1, 0);
}
END_TEST

START_TEST(the_power_button_interrupts_until_its_status_is_cleared)
{
    acpi_pm_power_button(pm);
    out(EN, 2, 0x100);
    ck_assert(!sci.level); /* still in legacy mode */
    out(ACPI_SMI_CMD, 1, ACPI_ENABLE_CMD);
    ck_assert(sci.level);
    ck_assert_uint_eq(in(STS, 4), 0x01000100);
    out(STS, 2, 0x0020);
    ck_assert(sci.level);
    out(STS, 2, 0x0100);
    ck_assert(!sci.level);
    acpi_pm_power_button(pm);
    out(STS + 1, 1, 0x01); /* byte-wise as well */
    ck_assert(!sci.level);
}
END_TEST

START_TEST(enable_bits_stick_and_reserved_ones_do_not)
{
    out(EN, 2, 0xffff);
    ck_assert_uint_eq(in(EN, 2), 0x0721);
    out(EN, 1, 0);
    ck_assert_uint_eq(in(EN, 2), 0x0700);
}
END_TEST

START_TEST(the_pm_timer_runs_at_its_rate_in_24_bits)
{
    u32 first = in(TMR, 4);

    pass(&fake_clock, SEC);
    ck_assert_uint_eq(in(TMR, 4) - first, 3579545);
    pass(&fake_clock, 4 * SEC);
    ck_assert_uint_eq(in(TMR, 4), 5 * 3579545 - (1 << 24));
}
END_TEST

START_TEST(the_timer_carry_interrupts_every_half_wrap)
{
    out(ACPI_SMI_CMD, 1, ACPI_ENABLE_CMD);
    out(EN, 2, 1);
    ck_assert(!sci.level);
    for (unsigned i = 1; i < 10; i++) {
        u64 due = ((u64)i * (1 << 23) * SEC + 3579544) / 3579545;
        pass(&fake_clock, due - 1 - fake_clock.now);
        ck_assert_msg(!sci.level, "carry %u is early", i);
        pass(&fake_clock, 1);
        ck_assert_msg(sci.level, "carry %u is missing", i);
        out(STS, 2, 1);
        ck_assert(!sci.level);
    }
}
END_TEST

START_TEST(tmr_sts_comes_up_unasked)
{
    pass(&fake_clock, 3 * SEC);
    ck_assert_uint_eq(in(STS, 2), 1);
    ck_assert_uint_eq(clock_next_deadline(&fake_clock), UINT64_MAX);
}
END_TEST

START_TEST(slp_en_with_the_s5_type_powers_off_and_no_other)
{
    out(CNT, 2, 3 << 10 | 1 << 13);
    ck_assert_uint_eq(off.count, 0);
    out(CNT, 2, ACPI_S5_TYP << 10);
    ck_assert_uint_eq(off.count, 0);
    out(CNT, 2, ACPI_S5_TYP << 10 | 1 << 13);
    ck_assert_uint_eq(off.count, 1);
    ck_assert_uint_eq(in(CNT, 2) & 1 << 13, 0);
}
END_TEST

START_TEST(general_purpose_events_interrupt)
{
    out(ACPI_SMI_CMD, 1, ACPI_ENABLE_CMD);
    out(ACPI_GPE0_BASE + 3, 1, 0x02);
    acpi_pm_gpe(pm, 9);
    ck_assert(sci.level);
    ck_assert_uint_eq(in(ACPI_GPE0_BASE + 1, 1), 2);
    out(ACPI_GPE0_BASE + 1, 1, 2);
    ck_assert(!sci.level);
}
END_TEST

/* ---- tables ---- */

static struct acpi_tables t;
/* clang-format off */
static const struct acpi_config config = {
    .tables = 0x7ff0000, .lapic_base = 0xfee00000, .ioapic_base = 0xfec00000, .cpus = 2, .ioapic_id = 7,
    .pci_mem_first = 0xc0000000, .pci_mem_last = 0xfebfffff, .serial_ports = 5,
};
/* clang-format on */

static u32 le32(const u8 *p) { return p[0] | p[1] << 8 | p[2] << 16 | (u32)p[3] << 24; }
static u16 le16(const u8 *p) { return p[0] | p[1] << 8; }
static u8 sum(const u8 *p, size_t n)
{
    u8 s = 0;
    while (n--) s += *p++;
    return s;
}
static const u8 *at(u64 pa)
{
    ck_assert_uint_ge(pa, config.tables);
    ck_assert_uint_lt(pa - config.tables, t.len);
    return t.blob + (pa - config.tables);
}
/* The table whose address the n-th entry of RSDT and XSDT gives. */
static const u8 *table(const char *signature)
{
    const u8 *rsdt = at(le32(t.rsdp + 16)), *xsdt = at(le32(t.rsdp + 24));

    for (u32 i = 0; 36 + 4 * i < le32(rsdt + 4); i++) {
        const u8 *p = at(le32(rsdt + 36 + 4 * i));
        ck_assert_uint_eq(le32(xsdt + 36 + 8 * i), le32(rsdt + 36 + 4 * i));
        if (memcmp(p, signature, 4)) continue;
        ck_assert_uint_eq(sum(p, le32(p + 4)), 0);
        return p;
    }
    ck_abort_msg("no %s", signature);
    return NULL;
}

START_TEST(the_chain_of_tables_holds)
{
    ck_assert_int_eq(acpi_tables_build(&t, &config), 0);
    ck_assert(!memcmp(t.rsdp, "RSD PTR ", 8));
    ck_assert_uint_eq(sum(t.rsdp, 20), 0);
    ck_assert_uint_eq(sum(t.rsdp, 36), 0);
    const u8 *rsdt = at(le32(t.rsdp + 16)), *xsdt = at(le32(t.rsdp + 24));
    ck_assert(!memcmp(rsdt, "RSDT", 4) && !memcmp(xsdt, "XSDT", 4));
    ck_assert_uint_eq(sum(rsdt, le32(rsdt + 4)), 0);
    ck_assert_uint_eq(sum(xsdt, le32(xsdt + 4)), 0);
    const u8 *fadt = table("FACP");
    ck_assert_uint_eq(le32(fadt + 4), 244);
    const u8 *dsdt = at(le32(fadt + 40)), *facs = at(le32(fadt + 36));
    ck_assert(!memcmp(dsdt, "DSDT", 4) && !memcmp(facs, "FACS", 4));
    ck_assert_uint_eq(sum(dsdt, le32(dsdt + 4)), 0);
    ck_assert_uint_eq(le32(facs + 4), 64);
    ck_assert_uint_eq(le32(fadt + 36) % 64, 0);
    ck_assert_uint_eq(le32(fadt + 140), le32(fadt + 40));
    acpi_tables_free(&t);
}
END_TEST

START_TEST(the_fadt_names_the_ports_that_the_chip_has)
{
    ck_assert_int_eq(acpi_tables_build(&t, &config), 0);
    const u8 *f = table("FACP");
    static const struct {
        u16 field, x_field, port, len;
    } block[] = {
        { 56, 148, ACPI_PM_BASE, 4 },
        { 64, 172, ACPI_PM_BASE + 4, 2 },
        { 76, 208, ACPI_PM_BASE + 8, 4 },
        { 80, 220, ACPI_GPE0_BASE, 4 },
    };
    static const u8 len_at[] = { 88, 89, 91, 92 };
    for (unsigned i = 0; i < ARRAY_LEN(block); i++) {
        ck_assert_uint_eq(le32(f + block[i].field), block[i].port);
        ck_assert_uint_eq(f[len_at[i]], block[i].len);
        ck_assert_uint_eq(f[block[i].x_field], 1);
        ck_assert_uint_eq(f[block[i].x_field + 1], block[i].len * 8);
        ck_assert_uint_eq(le32(f + block[i].x_field + 4), block[i].port);
    }
    ck_assert_uint_eq(le16(f + 46), ACPI_SCI_IRQ);
    ck_assert_uint_eq(le32(f + 48), ACPI_SMI_CMD);
    ck_assert_uint_eq(f[52], ACPI_ENABLE_CMD);
    ck_assert_uint_eq(f[53], ACPI_DISABLE_CMD);
    ck_assert_uint_eq(f[108], 0x32);
    ck_assert_uint_eq(le16(f + 109), 7);
    ck_assert_uint_eq(le32(f + 112) & 1 << 10, 1 << 10);
    ck_assert_uint_eq(le32(f + 120), 0xcf9);
    ck_assert_uint_eq(f[128], 6);
    acpi_tables_free(&t);
}
END_TEST

START_TEST(the_madt_lists_apics_and_overrides)
{
    unsigned lapics = 0, ioapics = 0, overrides = 0, nmis = 0;

    ck_assert_int_eq(acpi_tables_build(&t, &config), 0);
    const u8 *m = table("APIC"), *end = m + le32(m + 4);
    ck_assert_uint_eq(le32(m + 36), 0xfee00000);
    ck_assert_uint_eq(le32(m + 40), 1);
    for (const u8 *p = m + 44; p < end; p += p[1]) {
        ck_assert_uint_ge(p[1], 2);
        switch (p[0]) {
        case 0: ck_assert_uint_eq(p[3], lapics++); break;
        case 1:
            ck_assert_uint_eq(p[2], 7);
            ck_assert_uint_eq(le32(p + 4), 0xfec00000);
            ioapics++;
            break;
        case 2:
            if (p[3] == 0) ck_assert_uint_eq(le32(p + 4), 2);
            else ck_assert_uint_eq(le16(p + 8), 0x0d);
            overrides++;
            break;
        case 4: nmis++; break;
        default: ck_abort_msg("entry of type %u", p[0]);
        }
        ck_assert(p + p[1] <= end);
    }
    ck_assert_uint_eq(lapics, 2);
    ck_assert_uint_eq(ioapics, 1);
    ck_assert_uint_eq(overrides, 2);
    ck_assert_uint_eq(nmis, 1);
    acpi_tables_free(&t);
}
END_TEST

/* A parser of the part of AML that the DSDT uses. It notes every object it meets under its full path. */
struct aml {
    const u8 *p;
    char seen[256][64];
    const u8 *value[256];
    unsigned n;
};
static u32 pkg_length(const u8 **p)
{
    const u8 *q = *p;
    unsigned extra = q[0] >> 6;
    u32 len = extra ? q[0] & 15 : q[0] & 63;

    for (unsigned i = 0; i < extra; i++) len |= (u32)q[1 + i] << (4 + 8 * i);
    *p = q + 1 + extra;
    return len;
}
static void name_string(struct aml *a, char *out, const char *scope)
{
    unsigned n = 1;

    if (*a->p == '\\') {
        a->p++;
        *out = 0;
    } else {
        strcpy(out, scope);
    }
    if (*a->p == 0x2e) n = 2, a->p++;
    else if (*a->p == 0x2f) n = a->p[1], a->p += 2;
    for (; n; n--, a->p += 4) {
        for (unsigned i = 0; i < 4; i++)
            ck_assert_msg((a->p[i] >= 'A' && a->p[i] <= 'Z') || a->p[i] == '_'
                              || (i && a->p[i] >= '0' && a->p[i] <= '9'),
                          "byte %02x in a name", a->p[i]);
        ck_assert_uint_lt(strlen(out), 50);
        strcat(out, ".");
        strncat(out, (const char *)a->p, 4);
    }
}
static void note(struct aml *a, const char *path)
{
    ck_assert_uint_lt(a->n, ARRAY_LEN(a->seen));
    for (unsigned i = 0; i < a->n; i++) ck_assert_msg(strcmp(a->seen[i], path), "%s twice", path);
    strcpy(a->seen[a->n], path);
    a->value[a->n++] = a->p;
}
static bool is_name(u8 c) { return c == '\\' || c == '_' || c == 0x2e || c == 0x2f || (c >= 'A' && c <= 'Z'); }
static void term_list(struct aml *a, const u8 *end, const char *scope);

static void term(struct aml *a, const char *scope)
{
    char path[64];
    const u8 *end;
    u8 op = *a->p;

    if (is_name(op)) {
        name_string(a, path, scope);
        return;
    }
    a->p++;
    switch (op) {
    case 0x00:
    case 0x01:
    case 0x60:
    case 0x68: return;
    case 0x0a: a->p += 1; return;
    case 0x0b: a->p += 2; return;
    case 0x0c: a->p += 4; return;
    case 0x08: /* Name */
        name_string(a, path, scope);
        note(a, path);
        term(a, scope);
        return;
    case 0x10: /* Scope */
        end = a->p;
        end += pkg_length(&a->p);
        name_string(a, path, scope);
        term_list(a, end, path);
        return;
    case 0x11: /* Buffer: a resource template must end in an end tag */
        end = a->p;
        end += pkg_length(&a->p);
        term(a, scope);
        ck_assert_uint_eq(end[-2], 0x79);
        a->p = end;
        return;
    case 0x12: { /* Package */
        end = a->p;
        end += pkg_length(&a->p);
        unsigned n = *a->p++;
        for (; n; n--) term(a, scope);
        ck_assert_ptr_eq(a->p, end);
        return;
    }
    case 0x14: /* Method */
        end = a->p;
        end += pkg_length(&a->p);
        name_string(a, path, scope);
        note(a, path);
        a->p++;
        term_list(a, end, path);
        return;
    case 0x70:
    case 0x82:
        term(a, scope);
        term(a, scope);
        return;
    case 0x76:
    case 0xa4: term(a, scope); return;
    case 0x79:
    case 0x7b:
    case 0x7d:
        term(a, scope);
        term(a, scope);
        term(a, scope);
        return;
    case 0x8b:
        term(a, scope);
        term(a, scope);
        name_string(a, path, scope);
        return;
    case 0xa0:
        end = a->p;
        end += pkg_length(&a->p);
        term(a, scope);
        term_list(a, end, scope);
        return;
    case 0xa1:
        end = a->p;
        end += pkg_length(&a->p);
        term_list(a, end, scope);
        return;
    case 0x5b: break;
    default: ck_abort_msg("opcode %02x", op);
    }
    op = *a->p++;
    if (op == 0x80) { /* OperationRegion */
        name_string(a, path, scope);
        note(a, path);
        a->p++;
        term(a, scope);
        term(a, scope);
        return;
    }
    end = a->p;
    end += pkg_length(&a->p);
    name_string(a, path, scope);
    switch (op) {
    case 0x81: /* Field */
        a->p++;
        while (a->p < end) {
            name_string(a, path, scope);
            note(a, path);
            pkg_length(&a->p);
        }
        ck_assert_ptr_eq(a->p, end);
        return;
    case 0x82: note(a, path); break;
    case 0x83:
        note(a, path);
        a->p += 6;
        break;
    default: ck_abort_msg("extended opcode %02x", op);
    }
    term_list(a, end, path);
}
static void term_list(struct aml *a, const u8 *end, const char *scope)
{
    while (a->p < end) term(a, scope);
    ck_assert_ptr_eq(a->p, end);
}
static struct aml parsed;
static const u8 *object(const char *path)
{
    for (unsigned i = 0; i < parsed.n; i++)
        if (!strcmp(parsed.seen[i], path)) return parsed.value[i];
    return NULL;
}

static void dsdt_parse(void)
{
    const u8 *dsdt = at(le32(table("FACP") + 40));
    memset(&parsed, 0, sizeof(parsed));
    parsed.p = dsdt + 36;
    term_list(&parsed, dsdt + le32(dsdt + 4), "");
}

START_TEST(the_dsdt_parses_and_has_what_an_os_looks_for)
{
    static const char *const wanted[] = {
        "._S5_",
        "._PIC",
        "._PR_.CP00",
        "._PR_.CP01",
        "._SB_.PCI0",
        "._SB_.PCI0._HID",
        "._SB_.PCI0._CRS",
        "._SB_.PCI0._PRT",
        "._SB_.LNKA._CRS",
        "._SB_.LNKB._SRS",
        "._SB_.LNKC._PRS",
        "._SB_.LNKD._DIS",
        "._SB_.PCI0.ISA_.PRQA",
        "._SB_.PCI0.ISA_.COM1",
        "._SB_.PCI0.ISA_.COM3",
        "._SB_.PCI0.ISA_.RTC_",
        "._SB_.PCI0.ISA_.KBD_",
        "._SB_.PCI0.ISA_.MOU_",
    };

    ck_assert_int_eq(acpi_tables_build(&t, &config), 0);
    dsdt_parse();
    for (unsigned i = 0; i < ARRAY_LEN(wanted); i++)
        ck_assert_msg(object(wanted[i]) != NULL, "%s is missing", wanted[i]);
    ck_assert(!object("._SB_.PCI0.ISA_.COM2"));
    const u8 *hid = object("._SB_.PCI0._HID");
    ck_assert_uint_eq(le32(hid + 1), 0x030ad041); /* PNP0A03 */
    const u8 *s5 = object("._S5_");               /* PackageOp, length, elements, BytePrefix, SLP_TYPa */
    ck_assert_uint_eq(s5[0], 0x12);
    ck_assert_uint_eq(s5[4], ACPI_S5_TYP);
    acpi_tables_free(&t);
}
END_TEST

START_TEST(the_hpet_is_told_of_where_there_is_one)
{
    struct acpi_config c = config;

    c.has_hpet = true;
    ck_assert_int_eq(acpi_tables_build(&t, &c), 0);
    const u8 *h = table("HPET");
    ck_assert_uint_eq(le32(h + 4), 56);
    ck_assert_uint_eq(le32(h + 36), HPET_ID);
    ck_assert_uint_eq(h[40], 0); /* in memory */
    ck_assert_uint_eq(le32(h + 44), HPET_BASE);
    ck_assert_uint_eq(le32(h + 48), 0);
    dsdt_parse();
    ck_assert_uint_eq(le32(object("._SB_.PCI0.ISA_.HPET._HID") + 1), 0x0301d041); /* PNP0103 */
    acpi_tables_free(&t);
}
END_TEST

START_TEST(nonsense_in_the_configuration_is_refused)
{
    struct acpi_config c = config;

    c.tables = 0x7ff0010;
    ck_assert_int_eq(acpi_tables_build(&t, &c), -EINVAL);
    c = config;
    c.cpus = 0;
    ck_assert_int_eq(acpi_tables_build(&t, &c), -EINVAL);
    c = config;
    c.pci_mem_first = c.pci_mem_last + 1;
    ck_assert_int_eq(acpi_tables_build(&t, &c), -EINVAL);
}
END_TEST

CHIP_SUITE("acpi", setup, teardown, acpi_mode_is_entered_and_left_by_the_smi_port,
           the_power_button_interrupts_until_its_status_is_cleared, enable_bits_stick_and_reserved_ones_do_not,
           the_pm_timer_runs_at_its_rate_in_24_bits, the_timer_carry_interrupts_every_half_wrap,
           tmr_sts_comes_up_unasked, slp_en_with_the_s5_type_powers_off_and_no_other, general_purpose_events_interrupt,
           the_chain_of_tables_holds, the_fadt_names_the_ports_that_the_chip_has, the_madt_lists_apics_and_overrides,
           the_dsdt_parses_and_has_what_an_os_looks_for, the_hpet_is_told_of_where_there_is_one,
           nonsense_in_the_configuration_is_refused)
