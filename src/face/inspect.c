/* Owns how registers, tables and page tables are shown to a person. Everything is read without side effects. */
#include "src/face/inspect.h"
#include "core/types.h"

#include <string.h>

/* ---- registers ---- */

static void show_segment(const char *name, const struct vm_segment *s, FILE *out)
{
    fprintf(out, "%-4s %04x base %08x limit %08x attributes %05x\n", name, s->selector, s->base, s->limit,
            s->attributes);
}

static void info_registers(struct vm *vm, const char *arg UNUSED, FILE *out)
{
    struct vm_registers r;
    if (vm_get_registers(vm, &r)) return;
    fprintf(out, "eax %08x ebx %08x ecx %08x edx %08x\nesi %08x edi %08x ebp %08x esp %08x\n", r.eax, r.ebx, r.ecx,
            r.edx, r.esi, r.edi, r.ebp, r.esp);
    fprintf(out, "eip %08x eflags %08x cpl %u%s%s%s\n", r.eip, r.eflags, r.cpl, r.halted ? " halted" : "",
            r.interrupt_shadow ? " shadow" : "", r.nmi_blocked ? " nmi-blocked" : "");
    show_segment("es", &r.es, out);
    show_segment("cs", &r.cs, out);
    show_segment("ss", &r.ss, out);
    show_segment("ds", &r.ds, out);
    show_segment("fs", &r.fs, out);
    show_segment("gs", &r.gs, out);
    show_segment("ldtr", &r.ldtr, out);
    show_segment("tr", &r.tr, out);
    fprintf(out, "gdtr base %08x limit %04x\nidtr base %08x limit %04x\n", r.gdtr.base, r.gdtr.limit, r.idtr.base,
            r.idtr.limit);
    fprintf(out, "cr0 %08x cr2 %08x cr3 %08x cr4 %08x\n", r.cr0, r.cr2, r.cr3, r.cr4);
    fprintf(out, "dr0 %08x dr1 %08x dr2 %08x dr3 %08x dr6 %08x dr7 %08x\n", r.dr[0], r.dr[1], r.dr[2], r.dr[3], r.dr[6],
            r.dr[7]);
}

/* ---- descriptor tables ---- */

static const char *system_type(unsigned type)
{
    static const char *const names[16] = { "reserved", "TSS16",     "LDT",         "TSS16 busy",
                                           "call16",   "task gate", "interrupt16", "trap16",
                                           "reserved", "TSS32",     "reserved",    "TSS32 busy",
                                           "call32",   "reserved",  "interrupt32", "trap32" };
    return names[type & 15];
}

static void info_gdt(struct vm *vm, const char *arg UNUSED, FILE *out)
{
    struct vm_registers r;
    if (vm_get_registers(vm, &r)) return;
    for (u32 at = 0; at + 7 <= r.gdtr.limit; at += 8) {
        u32 d[2];
        if (vm_read_linear(vm, r.gdtr.base + at, d, 8) != 8) {
            fprintf(out, "%04x: not mapped\n", at);
            return;
        }
        if (!d[0] && !d[1]) continue;
        u32 base = d[0] >> 16 | (d[1] & 0xff) << 16 | (d[1] & 0xff000000), limit = (d[0] & 0xffff) | (d[1] & 0xf0000);
        if (d[1] >> 23 & 1) limit = limit << 12 | 0xfff;
        const char *what = d[1] >> 12 & 1 ? d[1] >> 11 & 1 ? "code" : "data" : system_type(d[1] >> 8);
        fprintf(out, "%04x: base %08x limit %08x dpl %u %s%s%s\n", at, base, limit, d[1] >> 13 & 3, what,
                d[1] >> 12 & 1 ? d[1] >> 22 & 1 ? "32" : "16" : "", d[1] >> 15 & 1 ? "" : " not present");
    }
}

static void info_idt(struct vm *vm, const char *arg UNUSED, FILE *out)
{
    struct vm_registers r;
    if (vm_get_registers(vm, &r)) return;
    bool real = !(r.cr0 & 1);
    u32 size = real ? 4 : 8;
    for (u32 v = 0; v < 256 && v * size + size - 1 <= r.idtr.limit; v++) {
        u32 d[2] = { 0 };
        if (vm_read_linear(vm, r.idtr.base + v * size, d, size) != size) {
            fprintf(out, "%02x: not mapped\n", v);
            return;
        }
        if (!d[0] && !d[1]) continue;
        if (real) fprintf(out, "%02x: %04x:%04x\n", v, d[0] >> 16, d[0] & 0xffff);
        else
            fprintf(out, "%02x: %04x:%08x dpl %u %s%s\n", v, d[0] >> 16, (d[0] & 0xffff) | (d[1] & 0xffff0000),
                    d[1] >> 13 & 3, system_type(d[1] >> 8), d[1] >> 15 & 1 ? "" : " not present");
    }
}

/* ---- page tables ---- */

enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40, PTE_PS = 0x80, PTE_G = 0x100 };
#define PTE_NX ((u64)1 << 63)
#define FRAME ((u64)0xffffffffff000)

/* rights: as in an entry, of all levels together. */
typedef void mapping_fn(void *arg, u32 la, u32 bytes, u64 pa, u64 entry, u64 rights);

struct walk {
    struct vm *vm;
    bool pae;
    u32 cr4;
    mapping_fn *fn;
    void *arg;
};

static unsigned read_table(const struct walk *w, u64 pa, u64 entry[1024])
{
    u32 narrow[1024];
    if (w->pae) {
        vm_read_physical(w->vm, pa & FRAME, entry, 4096);
        return 512;
    }
    vm_read_physical(w->vm, pa & FRAME, narrow, 4096);
    for (unsigned i = 0; i < 1024; i++) entry[i] = narrow[i];
    return 1024;
}

static u64 both(u64 a, u64 b) { return (a & b & (PTE_W | PTE_U)) | ((a | b) & PTE_NX); }

static void walk_directory(const struct walk *w, u64 directory, u32 base)
{
    u64 dir[1024], table[1024];
    unsigned n = read_table(w, directory, dir), shift = w->pae ? 21 : 22;
    bool large = w->pae || w->cr4 & 1 << 4 /* PSE */;
    for (unsigned i = 0; i < n; i++) {
        u32 la = base + ((u32)i << shift);
        if (!(dir[i] & PTE_P)) continue;
        if (dir[i] & PTE_PS && large) {
            u64 pa = w->pae ? dir[i] & FRAME & ~(u64)0x1fffff : (dir[i] & 0xffc00000) | (dir[i] >> 13 & 0xff) << 32;
            w->fn(w->arg, la, 1u << shift, pa, dir[i], both(dir[i], dir[i]));
            continue;
        }
        unsigned m = read_table(w, dir[i], table);
        for (unsigned k = 0; k < m; k++)
            if (table[k] & PTE_P)
                w->fn(w->arg, la + k * 4096, 4096, table[k] & FRAME, table[k], both(dir[i], table[k]));
    }
}

/* Every page that the page tables map, in order. False: paging is off. */
static bool walk_all(struct vm *vm, mapping_fn *fn, void *arg)
{
    struct vm_registers r;
    if (vm_get_registers(vm, &r) || !(r.cr0 >> 31)) return false;
    struct walk w = { vm, r.cr4 >> 5 & 1, r.cr4, fn, arg };
    if (!w.pae) walk_directory(&w, r.cr3, 0);
    else
        for (unsigned i = 0; i < 4; i++)
            if (r.pdpte[i] & PTE_P) walk_directory(&w, r.pdpte[i], i << 30);
    return true;
}

static void show_page(void *arg, u32 la, u32 bytes, u64 pa, u64 entry, u64 rights)
{
    fprintf(arg, "%08x: %010llx %c%c%c%c%c%c%c\n", la, (unsigned long long)pa, bytes > 4096 ? 'P' : '-',
            entry & PTE_G ? 'G' : '-', entry & PTE_D ? 'D' : '-', entry & PTE_A ? 'A' : '-', rights & PTE_U ? 'U' : '-',
            rights & PTE_W ? 'W' : '-', rights & PTE_NX ? '-' : 'X');
}

static void info_tlb(struct vm *vm, const char *arg UNUSED, FILE *out)
{
    if (!walk_all(vm, show_page, out)) fputs("paging is off\n", out);
}

struct range {
    FILE *out;
    u32 from;
    u64 to, rights; /* from == to: none yet */
};

static void end_range(const struct range *g)
{
    if (g->to > g->from)
        fprintf(g->out, "%08x-%09llx %09llx %c%c%c\n", g->from, (unsigned long long)g->to,
                (unsigned long long)(g->to - g->from), g->rights & PTE_U ? 'u' : '-', g->rights & PTE_W ? 'w' : 'r',
                g->rights & PTE_NX ? '-' : 'x');
}

static void join_page(void *arg, u32 la, u32 bytes, u64 pa UNUSED, u64 entry UNUSED, u64 rights)
{
    struct range *g = arg;
    if (g->to != la || g->rights != rights) {
        end_range(g);
        g->from = la;
        g->rights = rights;
    }
    g->to = (u64)la + bytes;
}

static void info_mem(struct vm *vm, const char *arg UNUSED, FILE *out)
{
    struct range g = { .out = out };
    if (!walk_all(vm, join_page, &g)) fputs("paging is off\n", out);
    end_range(&g);
}

/* ---- chips ---- */

static void info_chip(struct vm *vm, const char *arg, FILE *out)
{
    if (vm_info(vm, arg && *arg ? arg : NULL, out)) fprintf(out, "the machine has no chip '%s'\n", arg);
}
static void info_pic(struct vm *vm, const char *arg UNUSED, FILE *out) { info_chip(vm, "pic", out); }
static void info_apic(struct vm *vm, const char *arg UNUSED, FILE *out)
{
    info_chip(vm, "lapic", out);
    info_chip(vm, "ioapic", out);
}

/* ---- what may be asked ---- */

static const struct {
    const char *name, *what;
    void (*show)(struct vm *vm, const char *arg, FILE *out);
} things[] = {
    { "registers", "the processor's registers", info_registers },
    { "mem", "what the page tables map, as ranges", info_mem },
    { "tlb", "what the page tables map, page by page", info_tlb },
    { "gdt", "the global descriptor table", info_gdt },
    { "idt", "the interrupt descriptor table", info_idt },
    { "pic", "the interrupt controllers (8259A)", info_pic },
    { "apic", "local APIC and I/O APIC", info_apic },
    { "chip", "a chip's state, or that of all: chip [NAME]", info_chip },
};

const char *inspect_name(unsigned i, const char **what)
{
    if (i >= ARRAY_LEN(things)) return NULL;
    *what = things[i].what;
    return things[i].name;
}

bool inspect(struct vm *vm, const char *words, FILE *out)
{
    size_t n = strcspn(words, " ");
    const char *arg = words + n + strspn(words + n, " ");
    for (size_t i = 0; i < ARRAY_LEN(things); i++)
        if (strlen(things[i].name) == n && !strncmp(things[i].name, words, n)) {
            things[i].show(vm, arg, out);
            return true;
        }
    fprintf(out, "info %.*s: there is none; there are:\n", (int)(n < 40 ? n : 40), words);
    for (size_t i = 0; i < ARRAY_LEN(things); i++) fprintf(out, "  info %-10s %s\n", things[i].name, things[i].what);
    return false;
}
