/* Owns the order of registers towards gdb: that of its i386 features (core, sse), and a feature of our own for what the
 * system has beside them. One table gives numbers, description and places. */
#include "src/face/gdb_registers.h"

#include <string.h>

enum kind {
    WORD,     /* 32 bits of struct vm_registers */
    SELECTOR, /* of a segment */
    WORD16,   /* 16 bits there, 32 for gdb */
    BYTE,     /* 8 bits there, 32 for gdb */
    ST,       /* 80 bits of fx */
    XMM,      /* 128 bits of fx */
    FX16,     /* 16 bits of fx, 32 for gdb */
    FX32,
    FTAG, /* the tag word as FNSTENV has it: fx has a bit for each */
};

struct row {
    const char *name, *type;
    enum kind kind;
    size_t at;
    const char *group;
};

#define AT(field) offsetof(struct vm_registers, field)
#define SEG(s) \
    { #s "_base", "int32", WORD, AT(s.base), NULL }, { #s "_limit", "int32", WORD, AT(s.limit), NULL }
/* clang-format off */
#define CORE "org.gnu.gdb.i386.core"
#define SSE "org.gnu.gdb.i386.sse"
#define SYSTEM "org.transvisor.i386.system"
static const struct row rows[] = {
    { "eax", "int32", WORD, AT(eax), CORE }, { "ecx", "int32", WORD, AT(ecx), NULL },
    { "edx", "int32", WORD, AT(edx), NULL }, { "ebx", "int32", WORD, AT(ebx), NULL },
    { "esp", "data_ptr", WORD, AT(esp), NULL }, { "ebp", "data_ptr", WORD, AT(ebp), NULL },
    { "esi", "int32", WORD, AT(esi), NULL }, { "edi", "int32", WORD, AT(edi), NULL },
    { "eip", "code_ptr", WORD, AT(eip), NULL }, { "eflags", "i386_eflags", WORD, AT(eflags), NULL },
    { "cs", "int32", SELECTOR, AT(cs), NULL }, { "ss", "int32", SELECTOR, AT(ss), NULL },
    { "ds", "int32", SELECTOR, AT(ds), NULL }, { "es", "int32", SELECTOR, AT(es), NULL },
    { "fs", "int32", SELECTOR, AT(fs), NULL }, { "gs", "int32", SELECTOR, AT(gs), NULL },
    { "st0", "i387_ext", ST, AT(fx) + 32, NULL }, { "st1", "i387_ext", ST, AT(fx) + 48, NULL },
    { "st2", "i387_ext", ST, AT(fx) + 64, NULL }, { "st3", "i387_ext", ST, AT(fx) + 80, NULL },
    { "st4", "i387_ext", ST, AT(fx) + 96, NULL }, { "st5", "i387_ext", ST, AT(fx) + 112, NULL },
    { "st6", "i387_ext", ST, AT(fx) + 128, NULL }, { "st7", "i387_ext", ST, AT(fx) + 144, NULL },
    { "fctrl", "int", FX16, AT(fx) + 0, NULL }, { "fstat", "int", FX16, AT(fx) + 2, NULL },
    { "ftag", "int", FTAG, 0, NULL }, { "fiseg", "int", FX16, AT(fx) + 12, NULL },
    { "fioff", "int", FX32, AT(fx) + 8, NULL }, { "foseg", "int", FX16, AT(fx) + 20, NULL },
    { "fooff", "int", FX32, AT(fx) + 16, NULL }, { "fop", "int", FX16, AT(fx) + 6, NULL },
    { "xmm0", "vec128", XMM, AT(fx) + 160, SSE }, { "xmm1", "vec128", XMM, AT(fx) + 176, NULL },
    { "xmm2", "vec128", XMM, AT(fx) + 192, NULL }, { "xmm3", "vec128", XMM, AT(fx) + 208, NULL },
    { "xmm4", "vec128", XMM, AT(fx) + 224, NULL }, { "xmm5", "vec128", XMM, AT(fx) + 240, NULL },
    { "xmm6", "vec128", XMM, AT(fx) + 256, NULL }, { "xmm7", "vec128", XMM, AT(fx) + 272, NULL },
    { "mxcsr", "i386_mxcsr", FX32, AT(fx) + 24, NULL },
    { "cr0", "int32", WORD, AT(cr0), SYSTEM }, { "cr2", "data_ptr", WORD, AT(cr2), NULL },
    { "cr3", "int32", WORD, AT(cr3), NULL }, { "cr4", "int32", WORD, AT(cr4), NULL },
    SEG(es), SEG(cs), SEG(ss), SEG(ds), SEG(fs), SEG(gs),
    { "ldtr", "int32", SELECTOR, AT(ldtr), NULL }, SEG(ldtr),
    { "tr", "int32", SELECTOR, AT(tr), NULL }, SEG(tr),
    { "gdtr_base", "data_ptr", WORD, AT(gdtr.base), NULL }, { "gdtr_limit", "int32", WORD16, AT(gdtr.limit), NULL },
    { "idtr_base", "data_ptr", WORD, AT(idtr.base), NULL }, { "idtr_limit", "int32", WORD16, AT(idtr.limit), NULL },
    { "dr0", "data_ptr", WORD, AT(dr[0]), NULL }, { "dr1", "data_ptr", WORD, AT(dr[1]), NULL },
    { "dr2", "data_ptr", WORD, AT(dr[2]), NULL }, { "dr3", "data_ptr", WORD, AT(dr[3]), NULL },
    { "dr6", "int32", WORD, AT(dr[6]), NULL }, { "dr7", "int32", WORD, AT(dr[7]), NULL },
    { "cpl", "int32", BYTE, AT(cpl), NULL }, { "halted", "int32", BYTE, AT(halted), NULL },
    { "interrupt_shadow", "int32", BYTE, AT(interrupt_shadow), NULL },
};
/* clang-format on */

unsigned gdb_registers(void) { return ARRAY_LEN(rows); }

static unsigned bytes_of(enum kind k) { return k == ST ? 10 : k == XMM ? 16 : 4; }

unsigned gdb_register_bytes(unsigned n) { return n < ARRAY_LEN(rows) ? bytes_of(rows[n].kind) : 0; }

/* ---- the x87 unit's tags (SDM vol. 1, 8.1.7 and 10.5.1) ---- */

enum tag { TAG_VALID, TAG_ZERO, TAG_SPECIAL, TAG_EMPTY };

static enum tag tag_of(const u8 *st)
{
    u64 mantissa;
    u16 exponent;
    memcpy(&mantissa, st, 8);
    memcpy(&exponent, st + 8, 2);
    exponent &= 0x7fff;
    if (exponent == 0x7fff || (exponent && !(mantissa >> 63))) return TAG_SPECIAL;
    if (exponent) return TAG_VALID;
    return mantissa ? TAG_SPECIAL : TAG_ZERO;
}

static u32 full_tags(const struct vm_registers *r)
{
    u32 tags = 0, top = r->fx[3] >> 3 & 7;
    for (unsigned i = 0; i < 8; i++) { /* physical register i is ST((i - top) mod 8) */
        const u8 *st = r->fx + 32 + 16 * ((i - top) & 7);
        tags |= (u32)(r->fx[4] >> i & 1 ? tag_of(st) : TAG_EMPTY) << 2 * i;
    }
    return tags;
}

static u8 short_tags(u32 tags)
{
    u8 bits = 0;
    for (unsigned i = 0; i < 8; i++) bits |= (u8)(((tags >> 2 * i & 3) != TAG_EMPTY) << i);
    return bits;
}

/* ---- in and out ---- */

void gdb_register_get(const struct vm_registers *r, unsigned n, u8 out[GDB_REGISTER_BYTES_MAX])
{
    const struct row *row = &rows[n];
    const u8 *at = (const u8 *)r + row->at;
    u32 v;
    memset(out, 0, GDB_REGISTER_BYTES_MAX);
    switch (row->kind) {
    case ST: memcpy(out, at, 10); break;
    case XMM: memcpy(out, at, 16); break;
    case WORD:
    case FX32: memcpy(out, at, 4); break;
    case SELECTOR: memcpy(out, &((const struct vm_segment *)at)->selector, 2); break;
    case WORD16:
    case FX16: memcpy(out, at, 2); break;
    case BYTE: out[0] = *at; break;
    case FTAG:
        v = full_tags(r);
        memcpy(out, &v, 4);
        break;
    }
}

/* Where descriptors are none the base follows the selector. */
static void set_selector(const struct vm_registers *r, struct vm_segment *s, u16 selector)
{
    s->selector = selector;
    if (!(r->cr0 & 1) || r->eflags & 1u << 17) s->base = (u32)selector << 4;
}

void gdb_register_set(struct vm_registers *r, unsigned n, const u8 *in)
{
    const struct row *row = &rows[n];
    u8 *at = (u8 *)r + row->at;
    u32 v = 0;
    u16 word;
    memcpy(&v, in, 4);
    memcpy(&word, in, 2);
    switch (row->kind) {
    case ST: memcpy(at, in, 10); break;
    case XMM: memcpy(at, in, 16); break;
    case WORD:
    case FX32: memcpy(at, in, 4); break;
    case SELECTOR:
        if (((struct vm_segment *)at)->selector != word) set_selector(r, (struct vm_segment *)at, word);
        break;
    case WORD16:
    case FX16: memcpy(at, in, 2); break;
    case BYTE: *at = in[0]; break;
    case FTAG: r->fx[4] = short_tags(v); break;
    }
}

/* ---- the description ---- */

static const char sse_types[] =
    "<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/><vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
    "<vector id=\"v16i8\" type=\"int8\" count=\"16\"/><vector id=\"v8i16\" type=\"int16\" count=\"8\"/>"
    "<vector id=\"v4i32\" type=\"int32\" count=\"4\"/><vector id=\"v2i64\" type=\"int64\" count=\"2\"/>"
    "<union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/><field name=\"v2_double\" type=\"v2d\"/>"
    "<field name=\"v16_int8\" type=\"v16i8\"/><field name=\"v8_int16\" type=\"v8i16\"/>"
    "<field name=\"v4_int32\" type=\"v4i32\"/><field name=\"v2_int64\" type=\"v2i64\"/>"
    "<field name=\"uint128\" type=\"uint128\"/></union>\n";

/* Flags of a register: name and bit. */
struct flag {
    const char *name;
    unsigned bit;
};
static void flags_xml(FILE *out, const char *id, const struct flag *f, size_t n)
{
    fprintf(out, "<flags id=\"%s\" size=\"4\">", id);
    for (size_t i = 0; i < n; i++)
        fprintf(out, "<field name=\"%s\" start=\"%u\" end=\"%u\"/>", f[i].name, f[i].bit, f[i].bit);
    fputs("</flags>\n", out);
}

void gdb_registers_xml(FILE *out, bool code16)
{
    static const struct flag eflags[] = { { "CF", 0 },   { "", 1 },    { "PF", 2 },  { "AF", 4 },  { "ZF", 6 },
                                          { "SF", 7 },   { "TF", 8 },  { "IF", 9 },  { "DF", 10 }, { "OF", 11 },
                                          { "NT", 14 },  { "RF", 16 }, { "VM", 17 }, { "AC", 18 }, { "VIF", 19 },
                                          { "VIP", 20 }, { "ID", 21 } };
    static const struct flag mxcsr[] = { { "IE", 0 },  { "DE", 1 },  { "ZE", 2 },  { "OE", 3 }, { "UE", 4 },
                                         { "PE", 5 },  { "DAZ", 6 }, { "IM", 7 },  { "DM", 8 }, { "ZM", 9 },
                                         { "OM", 10 }, { "UM", 11 }, { "PM", 12 }, { "FZ", 15 } };
    fprintf(out,
            "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target><architecture>%s"
            "</architecture>\n",
            code16 ? "i8086" : "i386");
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].group) {
            fprintf(out, "%s<feature name=\"%s\">\n", i ? "</feature>\n" : "", rows[i].group);
            if (!strcmp(rows[i].group, CORE)) flags_xml(out, "i386_eflags", eflags, ARRAY_LEN(eflags));
            if (!strcmp(rows[i].group, SSE)) {
                fputs(sse_types, out);
                flags_xml(out, "i386_mxcsr", mxcsr, ARRAY_LEN(mxcsr));
            }
        }
        bool flt =
            rows[i].kind == FX16 || rows[i].kind == FTAG || (rows[i].kind == FX32 && strcmp(rows[i].name, "mxcsr"));
        fprintf(out, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\"%s/>\n", rows[i].name, 8 * bytes_of(rows[i].kind),
                rows[i].type, flt ? " group=\"float\"" : "");
    }
    fputs("</feature></target>", out);
}
