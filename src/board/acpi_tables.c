/* Owns nothing that lives on: builds the ACPI tables of the board, from RSDP to DSDT, into memory of the caller's.
 *   I1  A buffer that ran out of memory stays empty-handed: every emitter copes, acpi_tables_build() reports it once.
 *   I2  aml_open() and aml_close() nest; an enclosing package may move the bytes of an inner one, so positions are
 *       offsets.
 * Enter at acpi_tables_build(). ACPI 2.0c chapters 5, 6, 16 (tables, resources) and 17 (AML encoding); FADT revision 3.
 *
 * The DSDT, as ASL would say it, stands above each emitter. */
#include "src/dev/pc_devices.h"

#include <errno.h>
#include <string.h>

struct blob {
    u8 *data;
    size_t len, size;
    bool failed;
};

static void blob_reserve(struct blob *b, size_t more)
{
    size_t size = b->size ? b->size : 4096;
    u8 *data;

    if (b->failed || b->len + more <= b->size) return;
    while (size < b->len + more) size *= 2;
    data = realloc(b->data, size);
    if (!data) {
        b->failed = true;
        return;
    }
    b->data = data;
    b->size = size;
}

static void put(struct blob *b, const void *p, size_t n)
{
    blob_reserve(b, n);
    if (b->failed) return;
    memcpy(b->data + b->len, p, n);
    b->len += n;
}
static void put8(struct blob *b, u8 v) { put(b, &v, 1); }
static void put16(struct blob *b, u16 v)
{
    put8(b, v);
    put8(b, v >> 8);
}
static void put32(struct blob *b, u32 v)
{
    put16(b, v);
    put16(b, v >> 16);
}
static void put64(struct blob *b, u64 v)
{
    put32(b, v);
    put32(b, v >> 32);
}
static void put_zeros(struct blob *b, size_t n)
{
    while (n--) put8(b, 0);
}
static void align(struct blob *b, size_t to)
{
    while (!b->failed && b->len % to) put8(b, 0);
}

static u8 checksum(const u8 *p, size_t n)
{
    u8 sum = 0;

    while (n--) sum += *p++;
    return -sum;
}

/* ---- AML ---- */

/* clang-format off */
enum {
    AML_ZERO = 0x00, AML_ONE = 0x01, AML_NAME = 0x08, AML_BYTE = 0x0a, AML_WORD = 0x0b, AML_DWORD = 0x0c,
    AML_SCOPE = 0x10,
    AML_BUFFER = 0x11, AML_PACKAGE = 0x12, AML_METHOD = 0x14, AML_EXT = 0x5b, AML_LOCAL0 = 0x60, AML_ARG0 = 0x68,
    AML_STORE = 0x70, AML_DECREMENT = 0x76, AML_SHIFT_LEFT = 0x79, AML_AND = 0x7b, AML_OR = 0x7d,
    AML_FIND_SET_RIGHT_BIT = 0x82,
    AML_CREATE_WORD_FIELD = 0x8b, AML_IF = 0xa0, AML_ELSE = 0xa1, AML_RETURN = 0xa4,
    EXT_OP_REGION = 0x80, EXT_FIELD = 0x81, EXT_DEVICE = 0x82, EXT_PROCESSOR = 0x83,
};
/* clang-format on */
enum { METHOD_SERIALIZED = 8 };
enum { REGION_PCI_CONFIG = 2, FIELD_BYTE_ACCESS = 1 };

/* Starts a PkgLength; returns the position to hand to aml_close(), which inserts it. */
static size_t aml_open(struct blob *b) { return b->len; }

/* PkgLength counts itself: one byte up to 63, else a nibble and one to three bytes. */
static void aml_close(struct blob *b, size_t at)
{
    size_t len = b->len - at;
    unsigned extra = len + 1 < 64 ? 0 : len + 2 < 4096 ? 1 : len + 3 < 1u << 20 ? 2 : 3;
    u8 enc[4];

    blob_reserve(b, 1 + extra);
    if (b->failed) return;
    len += 1 + extra;
    enc[0] = extra ? extra << 6 | (len & 15) : len;
    for (unsigned i = 0; i < extra; i++) enc[1 + i] = len >> (4 + 8 * i);
    memmove(b->data + at + 1 + extra, b->data + at, b->len - at);
    memcpy(b->data + at, enc, 1 + extra);
    b->len += 1 + extra;
}

/* A name path as ASL writes it, segments of at most four characters: "\\_SB.PCI0", "_HID". */
static void aml_path(struct blob *b, const char *path)
{
    unsigned segments = 1;

    if (*path == '\\') put8(b, *path++);
    for (const char *p = path; *p; p++) segments += *p == '.';
    if (segments == 2) put8(b, 0x2e);
    if (segments > 2) {
        put8(b, 0x2f);
        put8(b, segments);
    }
    for (; segments; segments--) {
        for (unsigned i = 0; i < 4; i++) put8(b, *path && *path != '.' ? *path++ : '_');
        if (*path == '.') path++;
    }
}

static void aml_int(struct blob *b, u32 v)
{
    if (v <= 1) {
        put8(b, v ? AML_ONE : AML_ZERO);
    } else if (v <= 0xff) {
        put8(b, AML_BYTE);
        put8(b, v);
    } else if (v <= 0xffff) {
        put8(b, AML_WORD);
        put16(b, v);
    } else {
        put8(b, AML_DWORD);
        put32(b, v);
    }
}

static void aml_name(struct blob *b, const char *name)
{
    put8(b, AML_NAME);
    aml_path(b, name);
}
static void aml_name_int(struct blob *b, const char *name, u32 v)
{
    aml_name(b, name);
    aml_int(b, v);
}

/* EISAID("PNP0A03"): three letters of five bits, then four hexadecimal digits, most significant byte first. */
static void aml_name_eisaid(struct blob *b, const char *name, const char *id)
{
    u32 letters = (id[0] & 0x1f) << 10 | (id[1] & 0x1f) << 5 | (id[2] & 0x1f);
    u32 digits = strtoul(id + 3, NULL, 16);

    aml_name(b, name);
    put8(b, AML_DWORD);
    put8(b, letters >> 8);
    put8(b, letters);
    put8(b, digits >> 8);
    put8(b, digits);
}

static size_t aml_scope(struct blob *b, const char *path)
{
    size_t at;

    put8(b, AML_SCOPE);
    at = aml_open(b);
    aml_path(b, path);
    return at;
}
static size_t aml_device(struct blob *b, const char *name)
{
    size_t at;

    put8(b, AML_EXT);
    put8(b, EXT_DEVICE);
    at = aml_open(b);
    aml_path(b, name);
    return at;
}
static size_t aml_method(struct blob *b, const char *name, u8 flags)
{
    size_t at;

    put8(b, AML_METHOD);
    at = aml_open(b);
    aml_path(b, name);
    put8(b, flags);
    return at;
}
static size_t aml_package(struct blob *b, u8 elements)
{
    size_t at;

    put8(b, AML_PACKAGE);
    at = aml_open(b);
    put8(b, elements);
    return at;
}

/* Name(name, Buffer() { content }). */
static void aml_name_buffer(struct blob *b, const char *name, const struct blob *content)
{
    size_t at;

    aml_name(b, name);
    put8(b, AML_BUFFER);
    at = aml_open(b);
    aml_int(b, content->len);
    put(b, content->data, content->len);
    aml_close(b, at);
    b->failed |= content->failed;
}

/* ---- resource descriptors ---- */

static void res_io(struct blob *r, u16 base, u8 len)
{
    put8(r, 0x47);
    put8(r, 1); /* decodes 16 bits */
    put16(r, base);
    put16(r, base);
    put8(r, 1);
    put8(r, len);
}

/* IRQNoFlags: edge, active high. */
static void res_irq(struct blob *r, unsigned irq)
{
    put8(r, 0x22);
    put16(r, 1u << irq);
}

static void res_dma(struct blob *r, unsigned channel)
{
    put8(r, 0x2a);
    put8(r, 1u << channel);
    put8(r, 0); /* 8 bits, no bus master, compatible speed */
}

/* Memory32Fixed. */
static void res_memory(struct blob *r, u32 base, u32 len)
{
    put8(r, 0x86);
    put16(r, 9);
    put8(r, 1); /* read and write */
    put32(r, base);
    put32(r, len);
}

enum { SPACE_MEMORY = 0, SPACE_IO = 1, SPACE_BUS = 2, SPACE_FIXED = 0x0c /* minimum and maximum are fixed */ };
enum { MEM_READ_WRITE = 1, MEM_CACHEABLE = 2, IO_ENTIRE_RANGE = 3 };

static void res_word_space(struct blob *r, u8 type, u8 flags, u16 first, u16 last)
{
    put8(r, 0x88);
    put16(r, 13);
    put8(r, type);
    put8(r, SPACE_FIXED);
    put8(r, flags);
    put16(r, 0); /* granularity */
    put16(r, first);
    put16(r, last);
    put16(r, 0); /* translation */
    put16(r, last - first + 1);
}

static void res_dword_space(struct blob *r, u8 type, u8 flags, u32 first, u32 last)
{
    put8(r, 0x87);
    put16(r, 23);
    put8(r, type);
    put8(r, SPACE_FIXED);
    put8(r, flags);
    put32(r, 0);
    put32(r, first);
    put32(r, last);
    put32(r, 0);
    put32(r, last - first + 1);
}

static void res_end(struct blob *r)
{
    put8(r, 0x79);
    put8(r, 0); /* no checksum */
}

/* ---- DSDT ---- */

/* Device(name) { Name(_HID, EISAID(hid)) Name(_UID, uid) Name(_STA, 0x0f) Name(_CRS, res) }   ; frees res */
static void dsdt_legacy(struct blob *b, const char *name, const char *hid, u32 uid, struct blob *res)
{
    size_t dev = aml_device(b, name);

    res_end(res);
    aml_name_eisaid(b, "_HID", hid);
    aml_name_int(b, "_UID", uid);
    aml_name_int(b, "_STA", 0x0f);
    aml_name_buffer(b, "_CRS", res);
    aml_close(b, dev);
    free(res->data);
}

static void dsdt_serial(struct blob *b, unsigned n)
{
    static const u16 base[4] = { 0x3f8, 0x2f8, 0x3e8, 0x2e8 };
    static const u8 irq[4] = { 4, 3, 4, 3 };
    char name[5] = { 'C', 'O', 'M', '1' + n, 0 };
    struct blob r = { 0 };

    res_io(&r, base[n], 8);
    res_irq(&r, irq[n]);
    dsdt_legacy(b, name, "PNP0501", n + 1, &r);
}

static void dsdt_parallel(struct blob *b)
{
    struct blob r = { 0 };

    res_io(&r, 0x378, 8);
    res_irq(&r, 7);
    dsdt_legacy(b, "LPT1", "PNP0400", 1, &r);
}

/* What sits behind the ISA bridge. */
static void dsdt_isa_devices(struct blob *b, const struct acpi_config *cfg)
{
    struct blob pic = { 0 }, pit = { 0 }, dma = { 0 }, rtc = { 0 }, speaker = { 0 }, fpu = { 0 }, kbd = { 0 },
                mouse = { 0 }, board = { 0 };

    res_io(&pic, 0x20, 2);
    res_io(&pic, 0xa0, 2);
    res_io(&pic, 0x4d0, 2);
    res_irq(&pic, 2);
    dsdt_legacy(b, "PIC", "PNP0000", 0, &pic);

    res_io(&pit, 0x40, 4);
    res_irq(&pit, 0);
    dsdt_legacy(b, "TIMR", "PNP0100", 0, &pit);

    res_io(&dma, 0x00, 16);
    res_io(&dma, 0x81, 15);
    res_io(&dma, 0xc0, 32);
    res_dma(&dma, 4);
    dsdt_legacy(b, "DMAC", "PNP0200", 0, &dma);

    res_io(&rtc, 0x70, 2);
    res_irq(&rtc, 8);
    dsdt_legacy(b, "RTC", "PNP0B00", 0, &rtc);

    res_io(&speaker, 0x61, 1);
    dsdt_legacy(b, "SPKR", "PNP0800", 0, &speaker);

    res_io(&fpu, 0xf0, 16);
    res_irq(&fpu, 13);
    dsdt_legacy(b, "FPU", "PNP0C04", 0, &fpu);

    res_io(&kbd, 0x60, 1);
    res_io(&kbd, 0x64, 1);
    res_irq(&kbd, 1);
    dsdt_legacy(b, "KBD", "PNP0303", 0, &kbd);

    res_irq(&mouse, 12);
    dsdt_legacy(b, "MOU", "PNP0F13", 0, &mouse);

    res_io(&board, 0x80, 1);
    res_io(&board, 0x92, 1);
    res_io(&board, ACPI_SMI_CMD, 2);
    res_io(&board, ACPI_PM_BASE, 64); /* with GPE0; as one range, or Linux finds that it overlaps the PCI function */
    dsdt_legacy(b, "MBRD", "PNP0C02", 0, &board);

    if (cfg->has_hpet) {
        struct blob hpet = { 0 };

        res_memory(&hpet, HPET_BASE, HPET_LEN);
        dsdt_legacy(b, "HPET", "PNP0103", 0, &hpet);
    }
    for (unsigned n = 0; n < 4; n++)
        if (cfg->serial_ports >> n & 1) dsdt_serial(b, n);
    if (cfg->parallel_port) dsdt_parallel(b);
}

/* Device(ISA) { Name(_ADR, 0x00010000)
 *   OperationRegion(PIRQ, PCI_Config, 0x60, 4)  Field(PIRQ, ByteAcc, NoLock, Preserve) { PRQA, 8, PRQB, 8, PRQC, 8,
 *   PRQD, 8 } ... } */
static void dsdt_isa(struct blob *b, const struct acpi_config *cfg)
{
    size_t dev = aml_device(b, "ISA"), field;

    aml_name_int(b, "_ADR", 0x00010000);
    put8(b, AML_EXT);
    put8(b, EXT_OP_REGION);
    aml_path(b, "PIRQ");
    put8(b, REGION_PCI_CONFIG);
    aml_int(b, 0x60);
    aml_int(b, 4);
    put8(b, AML_EXT);
    put8(b, EXT_FIELD);
    field = aml_open(b);
    aml_path(b, "PIRQ");
    put8(b, FIELD_BYTE_ACCESS);
    for (char c = 'A'; c <= 'D'; c++) {
        put(b, (char[]){ 'P', 'R', 'Q', c }, 4);
        put8(b, 8); /* bits, as a PkgLength */
    }
    aml_close(b, field);
    dsdt_isa_devices(b, cfg);
    aml_close(b, dev);
}

/* Package() { 0xdddd, pin, link, 0 } or { 0xdddd, pin, Zero, GSI }, for all pins of all devices. INTx of device d is
 * PIRQ (d + x - 1) mod 4. */
static void dsdt_prt(struct blob *b, const char *name, bool apic)
{
    static const char *const link[4] = { "\\_SB.LNKA", "\\_SB.LNKB", "\\_SB.LNKC", "\\_SB.LNKD" };
    size_t outer, inner;

    aml_name(b, name);
    outer = aml_package(b, 31 * 4);
    for (u32 dev = 1; dev < 32; dev++) {
        for (u32 pin = 0; pin < 4; pin++) {
            inner = aml_package(b, 4);
            aml_int(b, dev << 16 | 0xffff);
            aml_int(b, pin);
            if (apic) aml_int(b, 0);
            else aml_path(b, link[(dev + pin - 1) & 3]);
            aml_int(b, apic ? 16 + ((dev + pin - 1) & 3) : 0);
            aml_close(b, inner);
        }
    }
    aml_close(b, outer);
}

/* Device(PCI0) { Name(_HID, EISAID("PNP0A03")) Name(_UID, 0) Name(_CRS, ...)
 *   Name(PRTP, ...) Name(PRTA, ...) Method(_PRT) { If(PICF) { Return(PRTA) } Else { Return(PRTP) } } ... } */
static void dsdt_pci(struct blob *b, const struct acpi_config *cfg)
{
    size_t dev = aml_device(b, "PCI0"), method, branch;
    struct blob r = { 0 };

    aml_name_eisaid(b, "_HID", "PNP0A03");
    aml_name_int(b, "_UID", 0);
    res_word_space(&r, SPACE_BUS, 0, 0x00, 0xff);
    res_io(&r, 0xcf8, 8);
    res_word_space(&r, SPACE_IO, IO_ENTIRE_RANGE, 0x0000, 0x0cf7);
    res_word_space(&r, SPACE_IO, IO_ENTIRE_RANGE, 0x0d00, 0xffff);
    res_dword_space(&r, SPACE_MEMORY, MEM_READ_WRITE | MEM_CACHEABLE, 0x000a0000, 0x000bffff);
    res_dword_space(&r, SPACE_MEMORY, MEM_READ_WRITE, cfg->pci_mem_first, cfg->pci_mem_last);
    res_end(&r);
    aml_name_buffer(b, "_CRS", &r);
    free(r.data);

    dsdt_prt(b, "PRTP", false);
    dsdt_prt(b, "PRTA", true);
    method = aml_method(b, "_PRT", 0);
    put8(b, AML_IF);
    branch = aml_open(b);
    aml_path(b, "\\PICF");
    put8(b, AML_RETURN);
    aml_path(b, "PRTA");
    aml_close(b, branch);
    put8(b, AML_ELSE);
    branch = aml_open(b);
    put8(b, AML_RETURN);
    aml_path(b, "PRTP");
    aml_close(b, branch);
    aml_close(b, method);

    dsdt_isa(b, cfg);
    aml_close(b, dev);
}

/* Level, active low, shared: 3 4 5 6 7 10 11 12 14 15 could be had from a PIIX3; those that no ISA device here uses,
 * unless there is a card for one of them. */
#define LINK_IRQS (1u << 5 | 1u << 10 | 1u << 11)
#define LINK_IRQ_FLAGS 0x18

static void res_link(struct blob *r, u16 irqs)
{
    put8(r, 0x23);
    put16(r, irqs);
    put8(r, LINK_IRQ_FLAGS);
    res_end(r);
}

/* Device(LNKx) { Name(_HID, EISAID("PNP0C0F")) Name(_UID, n) Name(_PRS, ...)
 *   Method(_STA) { If(And(PRQx, 0x80)) { Return(0x09) } Else { Return(0x0b) } }
 *   Method(_DIS) { Or(PRQx, 0x80, PRQx) }
 *   Method(_CRS, 0, Serialized) { Name(BUF, ...) CreateWordField(BUF, 1, IRQS)
 *     If(And(PRQx, 0x80)) { Store(Zero, IRQS) } Else { ShiftLeft(One, And(PRQx, 0x0f), IRQS) }  Return(BUF) }
 *   Method(_SRS, 1, Serialized) { CreateWordField(Arg0, 1, IRQS) FindSetRightBit(IRQS, Local0) Decrement(Local0)
 *   Store(Local0, PRQx) } } */
static void aml_if_pirq_off(struct blob *b, const char *reg, size_t *branch)
{
    put8(b, AML_IF);
    *branch = aml_open(b);
    put8(b, AML_AND);
    aml_path(b, reg);
    aml_int(b, 0x80);
    put8(b, AML_ZERO); /* no target */
}

static void dsdt_link_sta(struct blob *b, const char *reg)
{
    size_t method = aml_method(b, "_STA", 0), branch;

    aml_if_pirq_off(b, reg, &branch);
    put8(b, AML_RETURN);
    aml_int(b, 0x09);
    aml_close(b, branch);
    put8(b, AML_ELSE);
    branch = aml_open(b);
    put8(b, AML_RETURN);
    aml_int(b, 0x0b);
    aml_close(b, branch);
    aml_close(b, method);
}

static void dsdt_link_crs(struct blob *b, const char *reg)
{
    size_t method = aml_method(b, "_CRS", METHOD_SERIALIZED), branch;
    struct blob r = { 0 };

    res_link(&r, 0);
    aml_name_buffer(b, "BUF", &r);
    free(r.data);
    put8(b, AML_CREATE_WORD_FIELD);
    aml_path(b, "BUF");
    aml_int(b, 1);
    aml_path(b, "IRQS");
    aml_if_pirq_off(b, reg, &branch);
    put8(b, AML_STORE);
    put8(b, AML_ZERO);
    aml_path(b, "IRQS");
    aml_close(b, branch);
    put8(b, AML_ELSE);
    branch = aml_open(b);
    put8(b, AML_SHIFT_LEFT);
    put8(b, AML_ONE);
    put8(b, AML_AND);
    aml_path(b, reg);
    aml_int(b, 0x0f);
    put8(b, AML_ZERO);
    aml_path(b, "IRQS");
    aml_close(b, branch);
    put8(b, AML_RETURN);
    aml_path(b, "BUF");
    aml_close(b, method);
}

static void dsdt_link_srs(struct blob *b, const char *reg)
{
    size_t method = aml_method(b, "_SRS", 1 | METHOD_SERIALIZED);

    put8(b, AML_CREATE_WORD_FIELD);
    put8(b, AML_ARG0);
    aml_int(b, 1);
    aml_path(b, "IRQS");
    put8(b, AML_FIND_SET_RIGHT_BIT);
    aml_path(b, "IRQS");
    put8(b, AML_LOCAL0);
    put8(b, AML_DECREMENT);
    put8(b, AML_LOCAL0);
    put8(b, AML_STORE);
    put8(b, AML_LOCAL0);
    aml_path(b, reg);
    aml_close(b, method);
}

static void dsdt_link(struct blob *b, unsigned n, u16 isa_irqs)
{
    static const char *const reg[4] = { "\\_SB.PCI0.ISA.PRQA", "\\_SB.PCI0.ISA.PRQB", "\\_SB.PCI0.ISA.PRQC",
                                        "\\_SB.PCI0.ISA.PRQD" };
    char name[5] = { 'L', 'N', 'K', 'A' + n, 0 };
    size_t dev = aml_device(b, name), method;
    struct blob r = { 0 };

    aml_name_eisaid(b, "_HID", "PNP0C0F");
    aml_name_int(b, "_UID", n + 1);
    res_link(&r, LINK_IRQS & ~isa_irqs);
    aml_name_buffer(b, "_PRS", &r);
    free(r.data);
    dsdt_link_sta(b, reg[n]);
    method = aml_method(b, "_DIS", 0);
    put8(b, AML_OR);
    aml_path(b, reg[n]);
    aml_int(b, 0x80);
    aml_path(b, reg[n]);
    aml_close(b, method);
    dsdt_link_crs(b, reg[n]);
    dsdt_link_srs(b, reg[n]);
    aml_close(b, dev);
}

/* Scope(\_PR) { Processor(CPU0, 0, 0, 0) { } ... }   Name(\_S5, Package() { typ, typ, 0, 0 })
 * Name(PICF, 0)   Method(_PIC, 1) { Store(Arg0, PICF) }   Scope(\_SB) { links, PCI0 } */
static void dsdt_body(struct blob *b, const struct acpi_config *cfg)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t scope = aml_scope(b, "\\_PR"), cpu, at;

    for (unsigned n = 0; n < cfg->cpus; n++) {
        char name[5] = { 'C', 'P', hex[n >> 4], hex[n & 15], 0 };

        put8(b, AML_EXT);
        put8(b, EXT_PROCESSOR);
        cpu = aml_open(b);
        aml_path(b, name);
        put8(b, n);
        put32(b, 0); /* no P_BLK */
        put8(b, 0);
        aml_close(b, cpu);
    }
    aml_close(b, scope);

    aml_name(b, "\\_S5");
    at = aml_package(b, 4);
    aml_int(b, ACPI_S5_TYP);
    aml_int(b, ACPI_S5_TYP);
    aml_int(b, 0);
    aml_int(b, 0);
    aml_close(b, at);

    aml_name_int(b, "\\PICF", 0);
    at = aml_method(b, "\\_PIC", 1);
    put8(b, AML_STORE);
    put8(b, AML_ARG0);
    aml_path(b, "\\PICF");
    aml_close(b, at);

    scope = aml_scope(b, "\\_SB");
    for (unsigned n = 0; n < 4; n++) dsdt_link(b, n, cfg->isa_irqs);
    dsdt_pci(b, cfg);
    aml_close(b, scope);
}

/* ---- tables ---- */

/* An address in the blob, which firmware may have to correct. */
static void put_pointer(struct acpi_tables *t, struct blob *b, u32 address, u8 size)
{
    BUG_ON(t->npointers == ACPI_POINTERS_MAX);
    t->pointer[t->npointers].at = (u32)b->len;
    t->pointer[t->npointers++].size = size;
    put32(b, address);
    if (size == 8) put32(b, 0);
}

static const char oem_id[6] = { 'T', 'R', 'V', 'I', 'S', 'R' };
static const char oem_table[8] = { 'T', 'R', 'V', 'I', 'S', 'R', 'P', 'C' };

static size_t table_open(struct blob *b, const char *signature, u8 revision)
{
    size_t at;

    align(b, 16);
    at = b->len;
    put(b, signature, 4);
    put32(b, 0); /* length: table_close() */
    put8(b, revision);
    put8(b, 0); /* checksum: table_close() */
    put(b, oem_id, 6);
    put(b, oem_table, 8);
    put32(b, 1); /* OEM revision */
    put(b, "TRVI", 4);
    put32(b, 1);
    return at;
}

static void table_close(struct acpi_tables *t, struct blob *b, size_t at)
{
    u32 len = b->len - at;

    BUG_ON(t->ntables == ACPI_TABLES_MAX);
    t->table[t->ntables].at = (u32)at;
    t->table[t->ntables++].len = len;
    if (b->failed) return;
    for (unsigned i = 0; i < 4; i++) b->data[at + 4 + i] = len >> 8 * i;
    b->data[at + ACPI_CHECKSUM] = checksum(b->data + at, len);
}

static void put_facs(struct blob *b)
{
    put(b, "FACS", 4);
    put32(b, 64);
    put_zeros(b, 24); /* hardware signature, waking vectors, global lock, flags */
    put8(b, 1);       /* version */
    put_zeros(b, 31);
}

static size_t put_dsdt(struct acpi_tables *t, struct blob *b, const struct acpi_config *cfg)
{
    size_t at = table_open(b, "DSDT", 1);

    dsdt_body(b, cfg);
    table_close(t, b, at);
    return at;
}

/* Generic address in I/O space, len bytes wide; access: 0 any, 1 byte, 2 word, 3 dword. */
static void put_gas(struct blob *b, u16 port, u8 len, u8 access)
{
    put8(b, port ? 1 : 0);
    put8(b, len * 8);
    put8(b, 0);
    put8(b, access);
    put64(b, port);
}

enum {
    FADT_WBINVD = 1 << 0,
    FADT_PROC_C1 = 1 << 2,
    FADT_SLP_BUTTON = 1 << 5 /* no such */,
    FADT_FIX_RTC = 1 << 6 /* no RTC_STS */,
    FADT_RESET_REG_SUP = 1 << 10,
    BOOT_LEGACY_DEVICES = 1 << 0,
    BOOT_8042 = 1 << 1,
    BOOT_NO_VGA = 1 << 2,
};

static size_t put_fadt(struct acpi_tables *t, struct blob *b, const struct acpi_config *cfg, u32 facs, u32 dsdt)
{
    size_t at = table_open(b, "FACP", 3);

    put_pointer(t, b, facs, 4);
    put_pointer(t, b, dsdt, 4);
    put8(b, 0);
    put8(b, 1); /* preferred profile: desktop */
    put16(b, ACPI_SCI_IRQ);
    put32(b, ACPI_SMI_CMD);
    put8(b, ACPI_ENABLE_CMD);
    put8(b, ACPI_DISABLE_CMD);
    put16(b, 0); /* S4BIOS, PSTATE_CNT */
    put32(b, ACPI_PM_BASE);
    put32(b, 0);
    put32(b, ACPI_PM_BASE + 4);
    put32(b, 0);
    put32(b, 0); /* PM2_CNT */
    put32(b, ACPI_PM_BASE + 8);
    put32(b, ACPI_GPE0_BASE);
    put32(b, 0);
    put8(b, 4); /* PM1_EVT_LEN */
    put8(b, 2); /* PM1_CNT_LEN */
    put8(b, 0);
    put8(b, 4); /* PM_TMR_LEN */
    put8(b, 4); /* GPE0_BLK_LEN */
    put8(b, 0);
    put8(b, 0);
    put8(b, 0);
    put16(b, 0x0fff); /* C2 and C3 latency: beyond their limits, so unsupported */
    put16(b, 0x0fff);
    put32(b, 0); /* flush size and stride: WBINVD works */
    put16(b, 0); /* duty cycle: none */
    put8(b, 0);  /* no day or month alarm */
    put8(b, 0);
    put8(b, 0x32); /* CMOS century */
    put16(b, BOOT_LEGACY_DEVICES | BOOT_8042 | (cfg->has_vga ? 0 : BOOT_NO_VGA));
    put8(b, 0);
    put32(b, FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_FIX_RTC | FADT_RESET_REG_SUP);
    put_gas(b, ACPI_RESET_PORT, 1, 1);
    put8(b, ACPI_RESET_VALUE);
    put_zeros(b, 3);
    put64(b, 0); /* X_FIRMWARE_CTRL: the 32-bit one holds */
    put_pointer(t, b, dsdt, 8);
    put_gas(b, ACPI_PM_BASE, 4, 2);
    put_gas(b, 0, 0, 0);
    put_gas(b, ACPI_PM_BASE + 4, 2, 2);
    put_gas(b, 0, 0, 0);
    put_gas(b, 0, 0, 0);
    put_gas(b, ACPI_PM_BASE + 8, 4, 3);
    put_gas(b, ACPI_GPE0_BASE, 4, 1);
    put_gas(b, 0, 0, 0);
    table_close(t, b, at);
    return at;
}

enum { MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_OVERRIDE = 2, MADT_LAPIC_NMI = 4, MADT_HIGH_LEVEL = 0x000d };

static void put_override(struct blob *b, u8 irq, u32 gsi, u16 flags)
{
    put8(b, MADT_OVERRIDE);
    put8(b, 10);
    put8(b, 0); /* ISA */
    put8(b, irq);
    put32(b, gsi);
    put16(b, flags);
}

static size_t put_madt(struct acpi_tables *t, struct blob *b, const struct acpi_config *cfg)
{
    size_t at = table_open(b, "APIC", 1);

    put32(b, cfg->lapic_base);
    put32(b, 1); /* PCAT_COMPAT: there are 8259As */
    for (unsigned n = 0; n < cfg->cpus; n++) {
        put8(b, MADT_LAPIC);
        put8(b, 8);
        put8(b, n);
        put8(b, n);
        put32(b, 1); /* enabled */
    }
    put8(b, MADT_IOAPIC);
    put8(b, 12);
    put8(b, cfg->ioapic_id);
    put8(b, 0);
    put32(b, cfg->ioapic_base);
    put32(b, 0); /* GSI base */
    put_override(b, 0, 2, 0);
    put_override(b, ACPI_SCI_IRQ, ACPI_SCI_IRQ, MADT_HIGH_LEVEL);
    put8(b, MADT_LAPIC_NMI);
    put8(b, 6);
    put8(b, 0xff); /* of all processors */
    put16(b, 0);
    put8(b, 1); /* LINT1 */
    table_close(t, b, at);
    return at;
}

/* IA-PC HPET specification, 3.2.4. */
static size_t put_hpet(struct acpi_tables *t, struct blob *b)
{
    size_t at = table_open(b, "HPET", 1);

    put32(b, HPET_ID);
    put32(b, 64 << 8); /* in memory, 64 bits wide */
    put64(b, HPET_BASE);
    put8(b, 0);    /* the first */
    put16(b, 128); /* counts that a periodic timer is at least given */
    put8(b, 0);    /* nothing is promised of what else is in its page */
    table_close(t, b, at);
    return at;
}

static void fill_rsdp(u8 rsdp[36], u64 rsdt, u64 xsdt)
{
    memset(rsdp, 0, 36);
    memcpy(rsdp, "RSD PTR ", 8);
    memcpy(rsdp + 9, oem_id, 6);
    rsdp[15] = 2; /* revision */
    rsdp[20] = 36;
    for (unsigned i = 0; i < 4; i++) rsdp[16 + i] = rsdt >> 8 * i;
    for (unsigned i = 0; i < 8; i++) rsdp[24 + i] = xsdt >> 8 * i;
    rsdp[8] = checksum(rsdp, 20);
    rsdp[32] = checksum(rsdp, 36);
}

/* The tables that there are, by their addresses of so many bytes. */
static size_t put_list(struct acpi_tables *t, struct blob *b, const struct acpi_config *cfg, const char *signature,
                       u8 size, const size_t listed[], size_t n)
{
    size_t at = table_open(b, signature, 1);

    for (size_t i = 0; i < n; i++) put_pointer(t, b, cfg->tables + (u32)listed[i], size);
    table_close(t, b, at);
    return at;
}

int acpi_tables_build(struct acpi_tables *out, const struct acpi_config *cfg)
{
    struct blob b = { 0 };
    size_t dsdt, listed[3], n = 0;

    if (cfg->tables & 63 || cfg->tables > 0xfff00000u || !cfg->cpus || cfg->pci_mem_first > cfg->pci_mem_last)
        return -EINVAL;
    *out = (struct acpi_tables){ 0 };
    put_facs(&b);
    dsdt = put_dsdt(out, &b, cfg);
    listed[n++] = put_fadt(out, &b, cfg, cfg->tables, cfg->tables + dsdt);
    listed[n++] = put_madt(out, &b, cfg);
    if (cfg->has_hpet) listed[n++] = put_hpet(out, &b);
    size_t rsdt = put_list(out, &b, cfg, "RSDT", 4, listed, n), xsdt = put_list(out, &b, cfg, "XSDT", 8, listed, n);
    if (b.failed) {
        free(b.data);
        return -ENOMEM;
    }
    fill_rsdp(out->rsdp, cfg->tables + rsdt, cfg->tables + xsdt);
    out->blob = b.data;
    out->len = b.len;
    return 0;
}

void acpi_tables_free(struct acpi_tables *t)
{
    free(t->blob);
    t->blob = NULL;
}
