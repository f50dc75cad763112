/* Owns the two boot protocols and the checks on their files; not the memory map (pc.c), nor devices.
 *   I1  no byte of a file is used before its offset has been checked.       [image_has, field readers below it]
 *   I2  whatever is written to guest memory lies in RAM that map calls usable, and overlaps nothing written before.
 *                                                                           [only place() writes]
 * Enter at boot_open(), then boot_load().
 * Linux: Documentation/arch/x86/boot.rst, "32-bit boot protocol". Multiboot Specification 0.6.96. */
#define _GNU_SOURCE /* asprintf */
#include "src/board/loader.h"
#include "core/cpu_arch.h"
#include "src/error.h"
#include "src/wait.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum boot_kind { BOOT_LINUX, BOOT_MULTIBOOT_ELF, BOOT_MULTIBOOT_FLAT };

struct image {
    u8 *data;
    u64 len;
    char *path;
    char *args; /* Multiboot: the module's string; Linux: unused */
};

struct boot {
    enum boot_kind kind;
    struct image kernel;
    struct image *module;
    unsigned nmodules;
    char *cmdline;
    u64 mb_header; /* file offset of the Multiboot header */
    u16 entry_cs;  /* Multiboot: selector of CS at entry */
};

/* What boot_load() knows while it works: where things are, and what is taken. */
struct layout {
    struct bus *bus;
    const struct memory_map *map;
    const char *kernel_path;
    struct {
        u64 from, to;
    } taken[64];
    unsigned ntaken;
    struct vm_error *err;
};

#define MIB ((u64)1 << 20)
static u64 align_up(u64 v, u64 a) { return (v + a - 1) & ~(a - 1); }
static u64 align_down(u64 v, u64 a) { return v & ~(a - 1); }

/* ---- files ---- */

#define TOO_LARGE "%s %s: larger than the largest machine's memory"

static int image_read(struct image *im, const char *path, const char *role, const struct wait_end *end,
                      struct vm_error *err)
{
    int fd = wait_open(path, O_RDONLY, 0, end);
    if (fd < 0) return vm_fail(err, fd, "%s %s: %s", role, path, strerror(-fd));
    struct stat st;
    int rc = 0;
    u64 room = 0;
    if (fstat(fd, &st)) {
        rc = vm_fail(err, -errno, "%s %s: %s", role, path, strerror(errno));
        goto out;
    }
    if (S_ISDIR(st.st_mode)) {
        rc = vm_fail(err, -EISDIR, "%s %s: is a directory", role, path);
        goto out;
    }
    if (st.st_size > 0 && (u64)st.st_size > VM_MEMORY_MAX) {
        rc = vm_fail(err, -EFBIG, TOO_LARGE, role, path);
        goto out;
    }
    /* A pipe or device has no size, so read until the end. */
    for (;;) {
        if (im->len == room) {
            u64 want = room                                                ? room * 2
                       : st.st_size > 0 && (u64)st.st_size < VM_MEMORY_MAX ? (u64)st.st_size + 1
                                                                           : 1 * MIB;
            u8 *more = realloc(im->data, want);
            if (!more) {
                rc = vm_fail(err, -ENOMEM, "%s %s: out of memory", role, path);
                goto out;
            }
            im->data = more;
            room = want;
        }
        ssize_t n = wait_read(fd, im->data + im->len, room - im->len, end);
        if (n < 0) {
            rc = vm_fail(err, (int)n, "%s %s: %s", role, path, strerror((int)-n));
            goto out;
        }
        if (n == 0) break;
        im->len += (u64)n;
        if (im->len > VM_MEMORY_MAX) {
            rc = vm_fail(err, -EFBIG, TOO_LARGE, role, path);
            goto out;
        }
    }
    if (!im->len) rc = vm_fail(err, -ENOEXEC, "%s %s: the file is empty", role, path);
out:
    close(fd);
    return rc;
}

static void image_free(struct image *im)
{
    free(im->data);
    free(im->path);
    free(im->args);
}

static bool image_has(const struct image *im, u64 off, u64 len) { return off <= im->len && len <= im->len - off; }
/* The caller has checked with image_has(). */
static u32 get16(const u8 *p) { return p[0] | (u32)p[1] << 8; }
static u32 get32(const u8 *p) { return get16(p) | get16(p + 2) << 16; }
static u64 get64(const u8 *p) { return get32(p) | (u64)get32(p + 4) << 32; }
static void put8(u8 *p, u32 v) { p[0] = (u8)v; }
static void put16(u8 *p, u32 v)
{
    p[0] = (u8)v;
    p[1] = (u8)(v >> 8);
}
static void put32(u8 *p, u32 v)
{
    put16(p, v);
    put16(p + 2, v >> 16);
}
static void put64(u8 *p, u64 v)
{
    put32(p, (u32)v);
    put32(p + 4, (u32)(v >> 32));
}

/* ---- placing things in guest memory ---- */

static bool map_usable(const struct memory_map *map, u64 from, u64 to)
{
    for (unsigned i = 0; i < map->n; i++) {
        const struct e820_entry *e = &map->entry[i];
        if (e->type == E820_RAM && from >= e->addr && to <= e->addr + e->size) return true;
    }
    return false;
}

static bool layout_free(const struct layout *l, u64 from, u64 to)
{
    for (unsigned i = 0; i < l->ntaken; i++)
        if (from < l->taken[i].to && l->taken[i].from < to) return false;
    return true;
}

static int layout_take(struct layout *l, u64 from, u64 to, const char *what)
{
    if (l->ntaken == ARRAY_LEN(l->taken)) return vm_fail(l->err, -E2BIG, "%s: too many parts to load", l->kernel_path);
    if (!map_usable(l->map, from, to))
        return vm_fail(l->err, -ENOMEM, "%s does not fit in memory: it needs 0x%llx to 0x%llx", what,
                       (unsigned long long)from, (unsigned long long)to);
    if (!layout_free(l, from, to))
        return vm_fail(l->err, -ENOEXEC, "%s overlaps another part of what is loaded, at 0x%llx to 0x%llx", what,
                       (unsigned long long)from, (unsigned long long)to);
    l->taken[l->ntaken].from = from;
    l->taken[l->ntaken++].to = to;
    return 0;
}

/* Claims [at, at+room) and writes data to its start; the rest of it is zero, as RAM is at power-on. */
static int place(struct layout *l, u64 at, const void *data, u64 len, u64 room, const char *what)
{
    BUG_ON(len > room);
    if (!room) return 0;
    int rc = layout_take(l, at, at + room, what);
    if (rc) return rc;
    if (bus_dma_write(l->bus, at, data, len) != len) return vm_fail(l->err, -ENOMEM, "%s does not fit in memory", what);
    return 0;
}

/* The highest free place for size bytes that ends at or below limit, or the lowest that starts at or above floor. */
static bool find_high(const struct layout *l, u64 size, u64 align, u64 floor, u64 limit, u64 *at)
{
    u64 best = 0;
    bool found = false;
    for (unsigned i = 0; i < l->map->n; i++) {
        const struct e820_entry *e = &l->map->entry[i];
        u64 end = e->addr + e->size < limit ? e->addr + e->size : limit;
        u64 start = e->addr > floor ? e->addr : floor;
        if (e->type != E820_RAM) continue;
        while (end > start && end - start >= size) {
            u64 cand = align_down(end - size, align);
            if (cand < start) break;
            if (layout_free(l, cand, cand + size)) {
                if (!found || cand > best) best = cand;
                found = true;
                break;
            }
            /* Step below whatever is in the way. */
            u64 next = cand;
            for (unsigned k = 0; k < l->ntaken; k++)
                if (cand < l->taken[k].to && l->taken[k].from < cand + size && l->taken[k].from < next + size)
                    next = l->taken[k].from;
            end = next < end ? next : end - align;
        }
    }
    *at = best;
    return found;
}

static bool find_low(const struct layout *l, u64 size, u64 align, u64 floor, u64 limit, u64 *at)
{
    u64 best = UINT64_MAX;
    for (unsigned i = 0; i < l->map->n; i++) {
        const struct e820_entry *e = &l->map->entry[i];
        u64 end = e->addr + e->size < limit ? e->addr + e->size : limit;
        u64 cand = align_up(e->addr > floor ? e->addr : floor, align);
        if (e->type != E820_RAM) continue;
        while (cand < end && end - cand >= size && cand < best) {
            if (layout_free(l, cand, cand + size)) {
                best = cand;
                break;
            }
            u64 next = cand + align;
            for (unsigned k = 0; k < l->ntaken; k++)
                if (cand < l->taken[k].to && l->taken[k].from < cand + size && l->taken[k].to > next)
                    next = l->taken[k].to;
            cand = align_up(next, align);
        }
    }
    *at = best;
    return best != UINT64_MAX;
}

/* ---- the processor at the entry point ---- */

#define LINUX_CS 0x10 /* __BOOT_CS; __BOOT_DS is the next */
#define MB_CS 0x10    /* Multiboot leaves the choice to the loader: this is GRUB's */
#define MB_CS_LOW 0x08

static void seg_flat(struct seg *s, u16 sel, u32 type)
{
    *s = (struct seg){ .sel = sel, .base = 0, .limit = 0xffffffff, .attr = type | SEG_S | SEG_P | SEG_D | SEG_G };
}

/* Protected mode, paging off, flat segments (CS of selector cs, all others of the next), interrupts off. The GDT stays
 * in low memory, where both protocols allow the guest to find one until it loads its own. */
static int enter_flat32(struct layout *l, struct cpu_arch *c, u32 entry, u16 cs)
{
    u64 gdt[4] = { 0 }, at, len = cs + 2u * sizeof gdt[0];
    BUG_ON(len > sizeof gdt);
    gdt[cs / 8] = 0x00cf9b000000ffff;
    gdt[cs / 8 + 1] = 0x00cf93000000ffff;
    if (!find_low(l, len, 16, 0x1000, 1 * MIB, &at))
        return vm_fail(l->err, -ENOMEM, "%s: no room for a descriptor table below 1 MiB", l->kernel_path);
    int rc = place(l, at, gdt, len, len, "descriptor table");
    if (rc) return rc;
    c->gdtr = (struct table_reg){ (u32)at, (u16)(len - 1) };
    c->cr0 = CR0_PE | CR0_ET;
    c->cr3 = c->cr4 = 0;
    seg_flat(&c->seg[S_CS], cs, SEG_CODE | SEG_R | SEG_A);
    for (int s = 0; s < S_COUNT; s++)
        if (s != S_CS) seg_flat(&c->seg[s], cs + 8u, SEG_W | SEG_A);
    c->cpl = 0;
    memset(c->gpr, 0, sizeof c->gpr);
    arch_set_eflags(c, 0);
    c->eip = entry;
    return 0;
}

/* ---- Linux ---- */

/* Offsets in the file's first sectors, and, from 0x1f1 on, in struct boot_params as well. */
/* clang-format off */
enum {
    LX_SETUP_SECTS = 0x1f1, LX_VID_MODE = 0x1fa, LX_BOOT_FLAG = 0x1fe, LX_JUMP = 0x200, LX_HEADER = 0x202,
    LX_VERSION = 0x206, LX_TYPE_OF_LOADER = 0x210, LX_LOADFLAGS = 0x211, LX_CODE32_START = 0x214,
    LX_RAMDISK_IMAGE = 0x218, LX_RAMDISK_SIZE = 0x21c, LX_CMD_LINE_PTR = 0x228, LX_INITRD_ADDR_MAX = 0x22c,
    LX_KERNEL_ALIGNMENT = 0x230, LX_RELOCATABLE = 0x234, LX_XLOADFLAGS = 0x236, LX_CMDLINE_SIZE = 0x238,
    LX_PREF_ADDRESS = 0x258, LX_INIT_SIZE = 0x260, LX_HEADER_MIN = 0x264,
    BP_E820_ENTRIES = 0x1e8, BP_E820_TABLE = 0x2d0, BP_SIZE = 4096, BP_HDR_END = 0x290,
    LOADED_HIGH = 1, XLF_KERNEL_64 = 1,
};
/* clang-format on */

static bool linux_detect(const struct image *im)
{
    return image_has(im, LX_HEADER, 4) && !memcmp(im->data + LX_HEADER, "HdrS", 4);
}

static u64 linux_setup_size(const u8 *d)
{
    u64 sects = d[LX_SETUP_SECTS];
    return (1 + (sects ? sects : 4)) * 512; /* 0 means 4, says the protocol */
}

static int linux_check(const struct boot *b, struct vm_error *err)
{
    const struct image *im = &b->kernel;
    const u8 *d = im->data;
    if (!image_has(im, 0, LX_HEADER_MIN))
        return vm_fail(err, -ENOEXEC, "kernel %s: truncated: ends in the setup header", im->path);
    if (get16(d + LX_BOOT_FLAG) != 0xaa55)
        return vm_fail(err, -ENOEXEC, "kernel %s: boot flag is 0x%04x, not 0xaa55", im->path, get16(d + LX_BOOT_FLAG));
    u32 version = get16(d + LX_VERSION);
    if (version < 0x20a)
        return vm_fail(err, -ENOEXEC, "kernel %s: boot protocol %u.%02u is older than 2.10", im->path, version >> 8,
                       version & 0xff);
    if (get16(d + LX_XLOADFLAGS) & XLF_KERNEL_64 && version >= 0x20c)
        return vm_fail(err, -ENOEXEC, "kernel %s: is a 64-bit kernel; the guest's processor is 32-bit", im->path);
    if (!(d[LX_LOADFLAGS] & LOADED_HIGH))
        return vm_fail(err, -ENOEXEC, "kernel %s: is a zImage (LOADED_HIGH is clear); only bzImage is supported",
                       im->path);
    u64 hdr_end = LX_HEADER + d[LX_JUMP + 1];
    if (d[LX_JUMP] != 0xeb || hdr_end < LX_HEADER_MIN || hdr_end > BP_HDR_END)
        return vm_fail(err, -ENOEXEC, "kernel %s: the setup header's length is wrong", im->path);
    u64 setup = linux_setup_size(d);
    if (im->len < hdr_end || im->len <= setup)
        return vm_fail(err, -ENOEXEC, "kernel %s: truncated: %llu bytes, of which %llu would be setup code", im->path,
                       (unsigned long long)im->len, (unsigned long long)setup);
    /* syssize counts 16-byte paragraphs of the protected-mode part, checksum included. */
    u64 need = setup + (u64)get32(d + 0x1f4) * 16;
    if (im->len + 15 < need)
        return vm_fail(err, -ENOEXEC, "kernel %s: truncated: %llu bytes of %llu", im->path, (unsigned long long)im->len,
                       (unsigned long long)need);
    u32 align = get32(d + LX_KERNEL_ALIGNMENT);
    if (!align || (align & (align - 1)) || align > 1u << 30)
        return vm_fail(err, -ENOEXEC, "kernel %s: alignment 0x%x is not a power of two", im->path, align);
    if (get64(d + LX_PREF_ADDRESS) > UINT32_MAX)
        return vm_fail(err, -ENOEXEC, "kernel %s: wants to be loaded at 0x%llx, above 4 GiB", im->path,
                       (unsigned long long)get64(d + LX_PREF_ADDRESS));
    u32 max = get32(d + LX_CMDLINE_SIZE);
    if (strlen(b->cmdline) > max)
        return vm_fail(err, -EINVAL, "cmdline: %zu characters; kernel %s takes at most %u", strlen(b->cmdline),
                       im->path, max);
    return 0;
}

/* All initrds as one: Linux takes any number of cpio archives, each on a 4-byte boundary. */
static int linux_place_initrd(struct boot *b, struct layout *l, u64 floor, u8 *params)
{
    u64 size = 0;
    for (unsigned i = 0; i < b->nmodules; i++) size = align_up(size, 4) + b->module[i].len;
    if (!size) return 0;
    u64 limit = (u64)get32(params + LX_INITRD_ADDR_MAX) + 1, at;
    if (!find_high(l, size, PAGE_SIZE, floor, limit, &at))
        return vm_fail(l->err, -ENOMEM, "initrd %s: %llu bytes do not fit in memory beside the kernel",
                       b->module[0].path, (unsigned long long)size);
    u64 off = 0;
    for (unsigned i = 0; i < b->nmodules; i++) {
        off = align_up(off, 4);
        int rc = place(l, at + off, b->module[i].data, b->module[i].len, b->module[i].len, b->module[i].path);
        if (rc) return rc;
        off += b->module[i].len;
    }
    put32(params + LX_RAMDISK_IMAGE, (u32)at);
    put32(params + LX_RAMDISK_SIZE, (u32)size);
    return 0;
}

static int linux_load(struct boot *b, struct layout *l, struct cpu_arch *c)
{
    const struct image *im = &b->kernel;
    const u8 *d = im->data;
    u64 setup = linux_setup_size(d), size = im->len - setup, load = 1 * MIB;
    bool relocatable = d[LX_RELOCATABLE];

    /* It decompresses to the preferred address (or to its own, if that is above), and needs init_size bytes there. */
    u64 pref = get64(d + LX_PREF_ADDRESS);
    u64 run = relocatable && load > pref ? align_up(load, get32(d + LX_KERNEL_ALIGNMENT)) : pref;
    u64 run_end = run + get32(d + LX_INIT_SIZE);
    if (!map_usable(l->map, run, run_end) || !map_usable(l->map, load, load + size))
        return vm_fail(l->err, -ENOMEM, "kernel %s does not fit in memory: it needs %llu MiB", im->path,
                       (unsigned long long)(align_up(run_end > load + size ? run_end : load + size, MIB) / MIB));
    int rc = place(l, load, d + setup, size, size, im->path);
    if (rc) return rc;
    if (layout_free(l, run, run_end) && (rc = layout_take(l, run, run_end, im->path))) return rc;

    /* The zero page: all zero except the setup header, what it asks us to fill in, and the memory map. No screen is
     * described: with 0 lines and columns neither the decompressor nor the VGA console touches video memory. */
    u8 params[BP_SIZE] = { 0 };
    u64 hdr_end = LX_HEADER + d[LX_JUMP + 1];
    memcpy(params + LX_SETUP_SECTS, d + LX_SETUP_SECTS, hdr_end - LX_SETUP_SECTS);
    put8(params + LX_TYPE_OF_LOADER, 0xff); /* no assigned loader id */
    put16(params + LX_VID_MODE, 0xffff);    /* "normal" */
    put32(params + LX_CODE32_START, (u32)load);
    put32(params + LX_RAMDISK_IMAGE, 0);
    put32(params + LX_RAMDISK_SIZE, 0);
    rc = linux_place_initrd(b, l, run_end > load + size ? run_end : load + size, params);
    if (rc) return rc;

    u64 cmdline_at, params_at, cmdline_len = strlen(b->cmdline) + 1;
    if (!find_low(l, BP_SIZE, 16, 0x10000, 1 * MIB, &params_at)
        || (rc = layout_take(l, params_at, params_at + BP_SIZE, "boot parameters")))
        return rc ? rc : vm_fail(l->err, -ENOMEM, "no room for boot parameters below 1 MiB");
    if (!find_low(l, cmdline_len, 16, 0x20000, 1 * MIB, &cmdline_at))
        return vm_fail(l->err, -ENOMEM, "cmdline: no room for %llu characters below 1 MiB",
                       (unsigned long long)cmdline_len);
    rc = place(l, cmdline_at, b->cmdline, cmdline_len, cmdline_len, "command line");
    if (rc) return rc;
    put32(params + LX_CMD_LINE_PTR, (u32)cmdline_at);

    put8(params + BP_E820_ENTRIES, l->map->n);
    for (unsigned i = 0; i < l->map->n; i++) {
        u8 *e = params + BP_E820_TABLE + i * 20;
        put64(e, l->map->entry[i].addr);
        put64(e + 8, l->map->entry[i].size);
        put32(e + 16, l->map->entry[i].type);
    }
    if (bus_dma_write(l->bus, params_at, params, sizeof params) != sizeof params)
        return vm_fail(l->err, -ENOMEM, "boot parameters do not fit in memory");

    rc = enter_flat32(l, c, (u32)load, LINUX_CS);
    if (rc) return rc;
    c->gpr[G_ESI] = (u32)params_at;
    return 0;
}

/* ---- Multiboot ---- */

/* clang-format off */
enum {
    MB_MAGIC = 0x1badb002, MB_BOOT_MAGIC = 0x2badb002, MB_SEARCH = 8192,
    MB_F_ALIGN = 1 << 0, MB_F_MEMINFO = 1 << 1, MB_F_VIDEO = 1 << 2, MB_F_KLUDGE = 1 << 16,
    MB_F_UNKNOWN = 0xffff & ~(MB_F_ALIGN | MB_F_MEMINFO | MB_F_VIDEO), /* bits 0-15: refuse what one does not know */
    MBI_MEM = 1 << 0, MBI_CMDLINE = 1 << 2, MBI_MODS = 1 << 3, MBI_MMAP = 1 << 6, MBI_LOADER = 1 << 9,
    MBI_SIZE = 120, MB_MOD_SIZE = 16, MB_MMAP_SIZE = 24, MB_STACK = 4096,
};
/* clang-format on */

static bool multiboot_find(const struct image *im, u64 *off)
{
    for (u64 o = 0; o + 12 <= im->len && o + 12 <= MB_SEARCH; o += 4) {
        const u8 *h = im->data + o;
        if (get32(h) == MB_MAGIC && get32(h) + get32(h + 4) + get32(h + 8) == 0) {
            *off = o;
            return true;
        }
    }
    return false;
}

static int multiboot_check(const struct boot *b, struct vm_error *err)
{
    const struct image *im = &b->kernel;
    u32 flags = get32(im->data + b->mb_header + 4);
    if (flags & MB_F_UNKNOWN)
        return vm_fail(err, -ENOEXEC, "kernel %s: its Multiboot header demands features 0x%x that are not known",
                       im->path, (unsigned)(flags & MB_F_UNKNOWN));
    if (b->kind == BOOT_MULTIBOOT_FLAT && !image_has(im, b->mb_header, 32))
        return vm_fail(err, -ENOEXEC, "kernel %s: truncated: ends in the Multiboot header", im->path);
    return 0;
}

/* Loads by the addresses in the header itself ("a.out kludge"). */
static int multiboot_load_flat(struct boot *b, struct layout *l, u32 *entry, u64 *end)
{
    const struct image *im = &b->kernel;
    const u8 *h = im->data + b->mb_header;
    u64 header_addr = get32(h + 12), load = get32(h + 16), load_end = get32(h + 20), bss_end = get32(h + 24);
    *entry = get32(h + 28);
    if (load > header_addr || header_addr - load > b->mb_header)
        return vm_fail(l->err, -ENOEXEC, "kernel %s: its Multiboot header puts the load address outside the file",
                       im->path);
    u64 from = b->mb_header - (header_addr - load);
    u64 len = load_end ? load_end - load : im->len - from;
    if (load_end && load_end < load)
        return vm_fail(l->err, -ENOEXEC, "kernel %s: its Multiboot load_end_addr is below load_addr", im->path);
    if (!image_has(im, from, len))
        return vm_fail(l->err, -ENOEXEC, "kernel %s: truncated: its Multiboot header asks for %llu bytes", im->path,
                       (unsigned long long)(from + len));
    u64 room = len;
    if (bss_end) {
        if (bss_end < load + len)
            return vm_fail(l->err, -ENOEXEC, "kernel %s: its Multiboot bss_end_addr is inside the data", im->path);
        room = bss_end - load;
    }
    if (*entry < load || *entry >= load + room)
        return vm_fail(l->err, -ENOEXEC, "kernel %s: its entry point is outside what is loaded", im->path);
    *end = load + room;
    return place(l, load, im->data + from, len, room, im->path);
}

static int elf32_check(const struct image *im, struct vm_error *err)
{
    const u8 *d = im->data;
    if (!image_has(im, 0, sizeof(Elf32_Ehdr)))
        return vm_fail(err, -ENOEXEC, "kernel %s: truncated: ends in the ELF header", im->path);
    Elf32_Ehdr eh;
    memcpy(&eh, d, sizeof eh);
    if (eh.e_ident[EI_DATA] != ELFDATA2LSB || (eh.e_machine != EM_386))
        return vm_fail(err, -ENOEXEC, "kernel %s: is an ELF file for another processor (machine %u), not for i386",
                       im->path, eh.e_machine);
    if (eh.e_type != ET_EXEC && eh.e_type != ET_DYN) /* ET_DYN: position-independent, and loaded where it says */
        return vm_fail(err, -ENOEXEC, "kernel %s: is an ELF file, but not an executable one", im->path);
    if (eh.e_phentsize != sizeof(Elf32_Phdr) || !eh.e_phnum)
        return vm_fail(err, -ENOEXEC, "kernel %s: has no ELF program headers", im->path);
    if (!image_has(im, eh.e_phoff, (u64)eh.e_phnum * sizeof(Elf32_Phdr)))
        return vm_fail(err, -ENOEXEC, "kernel %s: truncated: ends in the ELF program headers", im->path);
    return 0;
}

static int multiboot_load_elf(struct boot *b, struct layout *l, u32 *entry, u64 *end)
{
    const struct image *im = &b->kernel;
    Elf32_Ehdr eh;
    memcpy(&eh, im->data, sizeof eh);
    bool linear = false, physical = false;
    *end = 0;
    *entry = eh.e_entry;
    for (unsigned i = 0; i < eh.e_phnum; i++) {
        Elf32_Phdr ph;
        memcpy(&ph, im->data + eh.e_phoff + i * sizeof ph, sizeof ph);
        if (ph.p_type != PT_LOAD || !ph.p_memsz) continue;
        if (ph.p_filesz > ph.p_memsz)
            return vm_fail(l->err, -ENOEXEC, "kernel %s: ELF segment %u is larger in the file than in memory", im->path,
                           i);
        if (!image_has(im, ph.p_offset, ph.p_filesz))
            return vm_fail(l->err, -ENOEXEC, "kernel %s: truncated: ELF segment %u is not wholly there", im->path, i);
        int rc = place(l, ph.p_paddr, im->data + ph.p_offset, ph.p_filesz, ph.p_memsz, im->path);
        if (rc) return rc;
        if ((u64)ph.p_paddr + ph.p_memsz > *end) *end = (u64)ph.p_paddr + ph.p_memsz;
        /* The entry is a linked address, mostly; paging is off, so the physical one that it stands for counts. Kernels
         * of the higher half may give that one right away. */
        if (eh.e_entry >= ph.p_vaddr && eh.e_entry - ph.p_vaddr < ph.p_memsz && !linear) {
            *entry = ph.p_paddr + (eh.e_entry - ph.p_vaddr);
            linear = true;
        }
        physical |= eh.e_entry >= ph.p_paddr && eh.e_entry - ph.p_paddr < ph.p_memsz;
    }
    if (!linear && !physical)
        return vm_fail(l->err, -ENOEXEC, "kernel %s: its entry point is outside every ELF segment", im->path);
    return 0;
}

/* Claims len bytes of low memory (or, if the kernel has taken that, above it), and writes data there. */
static int place_info(struct layout *l, const void *data, u64 len, u64 floor, const char *what, u32 *at)
{
    u64 a;
    if (!find_low(l, len, 16, 0x10000, 1 * MIB, &a) && !find_low(l, len, 16, floor, (u64)1 << 32, &a))
        return vm_fail(l->err, -ENOMEM, "%s does not fit in memory", what);
    *at = (u32)a;
    return place(l, a, data, len, len, what);
}

static int multiboot_place_modules(struct boot *b, struct layout *l, u64 floor, u8 *info)
{
    u8 list[MB_MOD_SIZE * 32] = { 0 };
    if (b->nmodules > ARRAY_LEN(list) / MB_MOD_SIZE)
        return vm_fail(l->err, -E2BIG, "initrd: more than %zu modules", ARRAY_LEN(list) / MB_MOD_SIZE);
    for (unsigned i = 0; i < b->nmodules; i++) {
        const struct image *m = &b->module[i];
        u64 at;
        if (!find_low(l, m->len, PAGE_SIZE, floor, (u64)1 << 32, &at))
            return vm_fail(l->err, -ENOMEM, "initrd %s: %llu bytes do not fit in memory", m->path,
                           (unsigned long long)m->len);
        int rc = place(l, at, m->data, m->len, m->len, m->path);
        u32 name = 0;
        if (!rc) rc = place_info(l, m->args, strlen(m->args) + 1, floor, "module string", &name);
        if (rc) return rc;
        put32(list + i * MB_MOD_SIZE, (u32)at);
        put32(list + i * MB_MOD_SIZE + 4, (u32)(at + m->len));
        put32(list + i * MB_MOD_SIZE + 8, name);
    }
    u32 at = 0;
    int rc = b->nmodules ? place_info(l, list, (u64)b->nmodules * MB_MOD_SIZE, floor, "module list", &at) : 0;
    put32(info + 20, b->nmodules);
    put32(info + 24, at);
    return rc;
}

static int multiboot_place_mmap(struct layout *l, u64 floor, u8 *info)
{
    u8 list[MB_MMAP_SIZE * E820_MAX];
    for (unsigned i = 0; i < l->map->n; i++) {
        u8 *e = list + i * MB_MMAP_SIZE;
        put32(e, MB_MMAP_SIZE - 4); /* the size field does not count itself */
        put64(e + 4, l->map->entry[i].addr);
        put64(e + 12, l->map->entry[i].size);
        put32(e + 20, l->map->entry[i].type);
    }
    u32 at = 0;
    int rc = place_info(l, list, (u64)l->map->n * MB_MMAP_SIZE, floor, "memory map", &at);
    put32(info + 44, l->map->n * MB_MMAP_SIZE);
    put32(info + 48, at);
    return rc;
}

/* What GRUB and QEMU pass: the kernel's name, and then what the user said. */
static int multiboot_place_cmdline(const struct boot *b, struct layout *l, u64 floor, u8 *info)
{
    char *line = NULL;
    u32 at = 0;
    int n = asprintf(&line, "%s%s%s", b->kernel.path, *b->cmdline ? " " : "", b->cmdline);
    if (n < 0) return vm_fail(l->err, -ENOMEM, "command line: out of memory");
    int rc = place_info(l, line, (u64)n + 1, floor, "command line", &at);
    free(line);
    put32(info + 16, at);
    return rc;
}

/* The specification leaves ESP to the kernel, but some call before they set it. The memory map calls this usable, as it
 * does all that the loader leaves behind. */
static int multiboot_place_stack(struct layout *l, u64 floor, u32 *top)
{
    static const u8 zero[MB_STACK];
    int rc = place_info(l, zero, sizeof zero, floor, "stack", top);
    *top += MB_STACK;
    return rc;
}

static int multiboot_load(struct boot *b, struct layout *l, struct cpu_arch *c)
{
    u32 entry = 0, at = 0, stack = 0;
    u64 end = 0;
    int rc = b->kind == BOOT_MULTIBOOT_ELF ? multiboot_load_elf(b, l, &entry, &end)
                                           : multiboot_load_flat(b, l, &entry, &end);
    if (rc) return rc;
    u64 floor = align_up(end < MIB ? MIB : end, PAGE_SIZE);

    u8 info[MBI_SIZE] = { 0 };
    put32(info, MBI_MEM | MBI_CMDLINE | MBI_MODS | MBI_MMAP | MBI_LOADER);
    for (unsigned i = 0; i < l->map->n; i++) {
        const struct e820_entry *e = &l->map->entry[i];
        if (e->type != E820_RAM) continue;
        if (e->addr == 0) put32(info + 4, (u32)(e->size >> 10));
        if (e->addr == MIB) put32(info + 8, (u32)(e->size >> 10));
    }
    rc = multiboot_place_modules(b, l, floor, info);
    if (!rc) rc = multiboot_place_mmap(l, floor, info);
    if (!rc) rc = multiboot_place_cmdline(b, l, floor, info);
    if (!rc) rc = place_info(l, "transvisor", sizeof "transvisor", floor, "boot loader name", &at);
    put32(info + 64, at);
    if (!rc) rc = place_info(l, info, sizeof info, floor, "boot information", &at);
    if (!rc) rc = multiboot_place_stack(l, floor, &stack);
    if (!rc) rc = enter_flat32(l, c, entry, b->entry_cs);
    if (rc) return rc;
    c->gpr[G_ESP] = stack;
    c->gpr[G_EAX] = MB_BOOT_MAGIC;
    c->gpr[G_EBX] = at;
    return 0;
}

/* ---- what it is ---- */

static int boot_classify(struct boot *b, struct vm_error *err)
{
    const struct image *im = &b->kernel;
    bool elf = image_has(im, 0, EI_NIDENT) && !memcmp(im->data, ELFMAG, SELFMAG);
    if (elf && im->data[EI_CLASS] == ELFCLASS64)
        return vm_fail(err, -ENOEXEC, "kernel %s: is a 64-bit ELF file; the guest's processor is 32-bit", im->path);
    if (linux_detect(im)) {
        b->kind = BOOT_LINUX;
        return linux_check(b, err);
    }
    if (multiboot_find(im, &b->mb_header)) {
        b->kind = get32(im->data + b->mb_header + 4) & MB_F_KLUDGE ? BOOT_MULTIBOOT_FLAT : BOOT_MULTIBOOT_ELF;
        if (b->kind == BOOT_MULTIBOOT_ELF) {
            if (!elf)
                return vm_fail(err, -ENOEXEC,
                               "kernel %s: has a Multiboot header, but is neither ELF nor has load addresses in it",
                               im->path);
            int rc = elf32_check(im, err);
            if (rc) return rc;
        }
        return multiboot_check(b, err);
    }
    if (elf) {
        int rc = elf32_check(im, err);
        if (rc) return rc;
        return vm_fail(err, -ENOEXEC,
                       "kernel %s: is an ELF file without a Multiboot header (of Linux, use the bzImage)", im->path);
    }
    if (im->len < 0x206)
        return vm_fail(err, -ENOEXEC, "kernel %s: truncated or not a kernel: only %llu bytes", im->path,
                       (unsigned long long)im->len);
    return vm_fail(err, -ENOEXEC, "kernel %s: is neither a Linux bzImage nor a Multiboot kernel", im->path);
}

/* --initrd FILE[,FILE...]. A Multiboot module may be followed by a blank and its arguments. */
static int boot_read_modules(struct boot *b, const char *list, const struct wait_end *end, struct vm_error *err)
{
    if (!list) return 0;
    for (const char *p = list;;) {
        size_t len = strcspn(p, ",");
        struct image *more = realloc(b->module, (b->nmodules + 1) * sizeof *more);
        if (!more) return vm_fail(err, -ENOMEM, "initrd %s: out of memory", list);
        b->module = more;
        struct image *m = &b->module[b->nmodules++];
        *m = (struct image){ .path = strndup(p, len), .args = strndup(p, len) };
        if (!m->path || !m->args) return vm_fail(err, -ENOMEM, "initrd %s: out of memory", list);
        if (b->kind != BOOT_LINUX) m->path[strcspn(m->path, " ")] = 0;
        int rc = image_read(m, m->path, "initrd", end, err);
        if (rc) return rc;
        p += len;
        if (!*p++) return 0;
    }
}

int boot_open(struct boot **out, const struct vm_config *cfg, const struct wait_end *end, struct vm_error *err)
{
    if (!cfg->kernel) return vm_fail(err, -EINVAL, "no kernel given");
    if (cfg->entry_cs && cfg->entry_cs != MB_CS && cfg->entry_cs != MB_CS_LOW)
        return vm_fail(err, -EINVAL, "entry_cs: 0x%x is neither 0x08 nor 0x10", cfg->entry_cs);
    struct boot *b = calloc(1, sizeof *b);
    int rc = -ENOMEM;
    if (b) {
        b->entry_cs = cfg->entry_cs ? cfg->entry_cs : MB_CS;
        b->kernel.path = strdup(cfg->kernel);
        b->cmdline = strdup(cfg->cmdline ? cfg->cmdline : "");
    }
    if (!b || !b->kernel.path || !b->cmdline) {
        vm_fail(err, rc, "kernel %s: out of memory", cfg->kernel);
        goto fail;
    }
    if ((rc = image_read(&b->kernel, b->kernel.path, "kernel", end, err)) || (rc = boot_classify(b, err))
        || (rc = boot_read_modules(b, cfg->initrd, end, err)))
        goto fail;
    *out = b;
    return 0;
fail:
    boot_free(b);
    return rc;
}

void boot_free(struct boot *b)
{
    if (!b) return;
    image_free(&b->kernel);
    for (unsigned i = 0; i < b->nmodules; i++) image_free(&b->module[i]);
    free(b->module);
    free(b->cmdline);
    free(b);
}

int boot_load(struct boot *b, struct bus *bus, struct cpu_arch *c, const struct memory_map *map, struct vm_error *err)
{
    struct layout l = { .bus = bus, .map = map, .kernel_path = b->kernel.path, .err = err };
    return b->kind == BOOT_LINUX ? linux_load(b, &l, c) : multiboot_load(b, &l, c);
}
