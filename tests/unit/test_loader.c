/* Both boot protocols on made-up kernels, whole and damaged, against a bus that is an array. */
#define _GNU_SOURCE /* memfd_create */
#include "core/cpu_arch.h"
#include "src/board/loader.h"

#include <check.h>
#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB (1u << 20)
#define RAM (64u * MIB)

/* ---- the fake bus: writes land in an array, and any that the memory map does not call usable is counted ---- */

struct bus {
    u8 *ram;
};
static struct bus bus;
static unsigned stray_writes;
static struct memory_map map;

u64 bus_dma_write(struct bus *b, paddr pa, const void *buf, u64 len)
{
    bool ok = false;
    for (unsigned i = 0; i < map.n; i++)
        ok |= map.entry[i].type == E820_RAM && pa >= map.entry[i].addr
              && pa + len <= map.entry[i].addr + map.entry[i].size;
    if (!ok) {
        stray_writes++;
        return 0;
    }
    memcpy(b->ram + pa, buf, len);
    return len;
}

static u32 rd(u64 at, unsigned n)
{
    u32 v = 0;
    memcpy(&v, bus.ram + at, n);
    return v;
}

static struct cpu_arch *cpu;

static void setup(void)
{
    bus.ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(MAP_FAILED, bus.ram);
    cpu = calloc(1, sizeof *cpu);
    memset(cpu->gpr, 0xcc, sizeof cpu->gpr);
    stray_writes = 0;
    map = (struct memory_map){ .entry = { { 0, 0x9fc00, E820_RAM },
                                          { 0x9fc00, 0x400, E820_RESERVED },
                                          { 0xe0000, 0x20000, E820_RESERVED },
                                          { MIB, RAM - MIB - 0x10000, E820_RAM },
                                          { RAM - 0x10000, 0x10000, E820_RESERVED } },
                               .n = 5 };
}
static void teardown(void)
{
    munmap(bus.ram, RAM);
    free(cpu);
}

/* ---- files ---- */

struct file {
    int fd;
    char path[64];
};
static struct file file_make(const void *data, size_t len)
{
    struct file f = { .fd = memfd_create("kernel", 0) };
    ck_assert_int_ge(f.fd, 0);
    ck_assert_int_eq((ssize_t)len, write(f.fd, data, len));
    snprintf(f.path, sizeof f.path, "/proc/self/fd/%d", f.fd);
    return f;
}

/* ---- a Linux kernel: 3 setup sectors, 100 KiB behind them, to run at 16 MiB with 20 MiB of room ---- */

enum { SETUP = 4 * 512, BODY = 100 * 1024, PREF = 16 * MIB, INIT = 20 * MIB };
static u8 linux_image[SETUP + BODY];

static void put(u8 *p, u64 v, unsigned n) { memcpy(p, &v, n); }
static void linux_make(void)
{
    u8 *d = linux_image;
    memset(d, 0, SETUP);
    for (unsigned i = 0; i < BODY; i++) d[SETUP + i] = (u8)(i * 7 + i / 256);
    d[0x1f1] = 3;
    put(d + 0x1f4, BODY / 16, 4);
    put(d + 0x1fe, 0xaa55, 2);
    d[0x200] = 0xeb;
    d[0x201] = 0x6a;
    memcpy(d + 0x202, "HdrS", 4);
    put(d + 0x206, 0x20f, 2);
    d[0x211] = 1;
    put(d + 0x214, 0x100000, 4);
    put(d + 0x22c, 0x7fffffff, 4);
    put(d + 0x230, 0x1000000, 4);
    d[0x234] = 1;
    put(d + 0x238, 2047, 4);
    put(d + 0x258, PREF, 8);
    put(d + 0x260, INIT, 4);
}

static char kernel_path[64]; /* of the last load() */

static int load_with(struct vm_config cfg, const void *kernel, size_t len, struct vm_error *err)
{
    struct file f = file_make(kernel, len);
    strcpy(kernel_path, f.path);
    cfg.kernel = f.path;
    struct boot *b = NULL;
    strcpy(err->text, "");
    int rc = boot_open(&b, &cfg, NULL, err);
    if (!rc) rc = boot_load(b, &bus, cpu, &map, err);
    boot_free(b);
    close(f.fd);
    return rc;
}

static int load(const void *kernel, size_t len, const char *initrd, const char *cmdline, struct vm_error *err)
{
    return load_with((struct vm_config){ .initrd = initrd, .cmdline = cmdline }, kernel, len, err);
}

static void check_flat32_of(u32 entry, u16 cs)
{
    ck_assert_uint_eq(entry, cpu->eip);
    ck_assert_uint_eq(CR0_PE | CR0_ET, cpu->cr0);
    for (int s = 0; s < S_COUNT; s++) {
        ck_assert_uint_eq(s == S_CS ? cs : cs + 8, cpu->seg[s].sel);
        ck_assert_uint_eq(0, cpu->seg[s].base);
        ck_assert_uint_eq(0xffffffff, cpu->seg[s].limit);
        ck_assert(cpu->seg[s].attr & SEG_D);
    }
    ck_assert_uint_eq(0, cpu->iflag);
    ck_assert_uint_eq(F_FIXED, arch_eflags(cpu));
    /* The descriptors in memory say what the hidden parts hold: a guest may reload its segments from them. */
    ck_assert_uint_eq(cs + 16 - 1, cpu->gdtr.limit);
    ck_assert_uint_eq(0x0000ffff, rd(cpu->gdtr.base + cs, 4));
    ck_assert_uint_eq(0x00cf9b00, rd(cpu->gdtr.base + cs + 4, 4));
    ck_assert_uint_eq(0x0000ffff, rd(cpu->gdtr.base + cs + 8, 4));
    ck_assert_uint_eq(0x00cf9300, rd(cpu->gdtr.base + cs + 12, 4));
}

static void check_flat32(u32 entry) { check_flat32_of(entry, 0x10); }

START_TEST(linux_is_entered_by_the_32_bit_boot_protocol)
{
    struct vm_error err;
    linux_make();
    ck_assert_msg(!load(linux_image, sizeof linux_image, NULL, "console=ttyS0 quiet", &err), "%s", err.text);
    ck_assert_int_eq(0, memcmp(bus.ram + MIB, linux_image + SETUP, BODY));
    check_flat32(MIB);
    u32 bp = cpu->gpr[G_ESI];
    for (int r = 0; r < 8; r++)
        if (r != G_ESI) ck_assert_uint_eq(0, cpu->gpr[r]);
    ck_assert_int_eq(0, memcmp(bus.ram + bp + 0x202, linux_image + 0x202, 14)); /* the header was copied */
    ck_assert_uint_eq(0xff, rd(bp + 0x210, 1));
    ck_assert_uint_eq(MIB, rd(bp + 0x214, 4));
    ck_assert_uint_eq(0, rd(bp + 0x218, 4));
    ck_assert_uint_eq(0, rd(bp + 0x21c, 4));
    ck_assert_uint_eq(0, rd(bp + 0x1ef, 1)); /* sentinel: the rest of the page is to be believed */
    ck_assert_str_eq("console=ttyS0 quiet", (char *)bus.ram + rd(bp + 0x228, 4));
    /* No screen: neither lines nor columns, and no video mode that means monochrome memory. */
    ck_assert_uint_eq(0, rd(bp + 0x06, 1) | rd(bp + 0x07, 1) | rd(bp + 0x0e, 1) | rd(bp + 0x0f, 1));
    ck_assert_uint_eq(5, rd(bp + 0x1e8, 1));
    for (unsigned i = 0; i < map.n; i++) {
        ck_assert_uint_eq(map.entry[i].addr, rd(bp + 0x2d0 + i * 20, 4));
        ck_assert_uint_eq(map.entry[i].size, rd(bp + 0x2d0 + i * 20 + 8, 4));
        ck_assert_uint_eq(map.entry[i].type, rd(bp + 0x2d0 + i * 20 + 16, 4));
    }
    ck_assert_uint_eq(0, stray_writes);
}
END_TEST

START_TEST(an_initrd_goes_as_high_as_ram_allows)
{
    static u8 initrd[5000];
    memset(initrd, 0x5a, sizeof initrd);
    struct file f = file_make(initrd, sizeof initrd);
    struct vm_error err;
    linux_make();
    ck_assert_msg(!load(linux_image, sizeof linux_image, f.path, NULL, &err), "%s", err.text);
    u32 bp = cpu->gpr[G_ESI], at = rd(bp + 0x218, 4);
    ck_assert_uint_eq(RAM - 0x10000 - 8192, at);
    ck_assert_uint_eq(sizeof initrd, rd(bp + 0x21c, 4));
    ck_assert_int_eq(0, memcmp(bus.ram + at, initrd, sizeof initrd));
    close(f.fd);
}
END_TEST

START_TEST(an_initrd_stays_below_what_the_kernel_can_reach)
{
    struct file f = file_make("cpio", 4);
    struct vm_error err;
    linux_make();
    put(linux_image + 0x22c, 40 * MIB - 1, 4);
    ck_assert_msg(!load(linux_image, sizeof linux_image, f.path, NULL, &err), "%s", err.text);
    ck_assert_uint_eq(40 * MIB - 4096, rd(cpu->gpr[G_ESI] + 0x218, 4));
    close(f.fd);
}
END_TEST

START_TEST(several_initrds_are_one_archive_after_another)
{
    struct file a = file_make("first", 5), b = file_make("second!", 7);
    char list[160];
    snprintf(list, sizeof list, "%s,%s", a.path, b.path);
    struct vm_error err;
    linux_make();
    ck_assert_msg(!load(linux_image, sizeof linux_image, list, NULL, &err), "%s", err.text);
    u32 at = rd(cpu->gpr[G_ESI] + 0x218, 4);
    ck_assert_uint_eq(15, rd(cpu->gpr[G_ESI] + 0x21c, 4));
    ck_assert_int_eq(0, memcmp(bus.ram + at, "first\0\0\0second!", 15));
    close(a.fd);
    close(b.fd);
}
END_TEST

START_TEST(an_initrd_that_does_not_fit_is_refused)
{
    size_t len = RAM - 30 * MIB; /* less than RAM, more than what the kernel leaves of it */
    u8 *big = calloc(1, len);
    struct file f = file_make(big, len);
    struct vm_error err;
    linux_make();
    ck_assert_int_eq(-ENOMEM, load(linux_image, sizeof linux_image, f.path, NULL, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "do not fit in memory"));
    ck_assert_ptr_nonnull(strstr(err.text, f.path));
    free(big);
    close(f.fd);
}
END_TEST

/* Each row: what is changed in the good kernel (n bytes at off become val; n 0: the file ends at off), and a word of
 * the reason. */
static const struct {
    unsigned off, n;
    u64 val;
    const char *word;
} linux_bad[] = {
    { 0, 0, 0, "empty" },
    { 100, 0, 0, "truncated or not a kernel" },
    { 0x205, 0, 0, "truncated or not a kernel" },
    { 0x206, 0, 0, "truncated" },
    { 0x263, 0, 0, "truncated" },
    { SETUP, 0, 0, "truncated" },
    { SETUP + BODY / 2, 0, 0, "truncated" },
    { 0x1fe, 2, 0x1234, "boot flag" },
    { 0x202, 4, 0x12345678, "neither a Linux bzImage nor a Multiboot" },
    { 0x206, 2, 0x209, "2.09 is older than 2.10" },
    { 0x211, 1, 0, "zImage" },
    { 0x236, 2, 1, "64-bit kernel" },
    { 0x201, 1, 0x10, "header's length" },
    { 0x201, 1, 0xff, "header's length" },
    { 0x200, 1, 0x90, "header's length" },
    { 0x230, 4, 0, "power of two" },
    { 0x230, 4, 0x1001, "power of two" },
    { 0x258, 8, 0x100000000, "above 4 GiB" },
    { 0x258, 8, 0xfffff000, "does not fit in memory" },
    { 0x260, 4, RAM, "does not fit in memory" },
    { 0x260, 4, 0xffffffff, "does not fit in memory" },
    { 0x1f4, 4, 0xffffffff, "truncated" },
};

START_TEST(a_damaged_linux_kernel_is_refused_with_its_name)
{
    struct vm_error err;
    linux_make();
    size_t len = sizeof linux_image;
    if (linux_bad[_i].n) put(linux_image + linux_bad[_i].off, linux_bad[_i].val, linux_bad[_i].n);
    else len = linux_bad[_i].off;
    int rc = load(linux_image, len, NULL, NULL, &err);
    ck_assert_msg(rc < 0 && rc != -EINVAL, "row %d: rc %d", _i, rc);
    ck_assert_msg(strstr(err.text, linux_bad[_i].word) != NULL, "row %d: '%s' lacks '%s'", _i, err.text,
                  linux_bad[_i].word);
    ck_assert_msg(strstr(err.text, "/proc/self/fd/") != NULL, "row %d: '%s' names no file", _i, err.text);
    ck_assert_uint_eq(0, stray_writes);
}
END_TEST

START_TEST(a_command_line_beyond_the_kernels_limit_is_refused)
{
    struct vm_error err;
    char line[2100];
    memset(line, 'x', sizeof line);
    line[2047] = 0;
    linux_make();
    ck_assert_msg(!load(linux_image, sizeof linux_image, NULL, line, &err), "%s", err.text);
    line[2047] = 'x';
    line[2048] = 0;
    ck_assert_int_eq(-EINVAL, load(linux_image, sizeof linux_image, NULL, line, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "at most 2047"));
}
END_TEST

START_TEST(a_missing_file_or_a_directory_is_named)
{
    struct boot *b;
    struct vm_error err;
    struct vm_config cfg = { .kernel = "/nonexistent/kernel" };
    ck_assert_int_eq(-ENOENT, boot_open(&b, &cfg, NULL, &err));
    ck_assert_str_eq("kernel /nonexistent/kernel: No such file or directory", err.text);
    cfg.kernel = "/";
    ck_assert_int_eq(-EISDIR, boot_open(&b, &cfg, NULL, &err));
    ck_assert_str_eq("kernel /: is a directory", err.text);
}
END_TEST

/* ---- Multiboot ---- */

enum { MB_TEXT = 0x1000, MB_LEN = 0x1800 };
static u8 mb_image[MB_LEN];

static void mb_header(u8 *h, u32 flags)
{
    put(h, 0x1badb002, 4);
    put(h + 4, flags, 4);
    put(h + 8, (u32) - (0x1badb002 + flags), 4);
}

static Elf32_Phdr *mb_phdr(void) { return (Elf32_Phdr *)(mb_image + sizeof(Elf32_Ehdr)); }

/* One segment: linked at 3 GiB, loaded at 2 MiB, with a page of bss. */
static void mb_elf_make(void)
{
    memset(mb_image, 0, sizeof mb_image);
    Elf32_Ehdr eh = { .e_type = ET_EXEC,
                      .e_machine = EM_386,
                      .e_version = 1,
                      .e_entry = 0xc0200010,
                      .e_phoff = sizeof eh,
                      .e_ehsize = sizeof eh,
                      .e_phentsize = sizeof(Elf32_Phdr),
                      .e_phnum = 1 };
    memcpy(eh.e_ident, ELFMAG, SELFMAG);
    eh.e_ident[EI_CLASS] = ELFCLASS32;
    eh.e_ident[EI_DATA] = ELFDATA2LSB;
    memcpy(mb_image, &eh, sizeof eh);
    *mb_phdr() = (Elf32_Phdr){ .p_type = PT_LOAD,
                               .p_offset = MB_TEXT,
                               .p_vaddr = 0xc0200000,
                               .p_paddr = 0x200000,
                               .p_filesz = MB_LEN - MB_TEXT,
                               .p_memsz = MB_LEN - MB_TEXT + 4096 };
    for (unsigned i = MB_TEXT; i < MB_LEN; i++) mb_image[i] = (u8)i;
    mb_header(mb_image + MB_TEXT, 3);
}

/* A page below ESP is RAM that nothing else lies in: writing there changes nothing that the kernel is given. */
static void check_stack(u32 mbi)
{
    u32 esp = cpu->gpr[G_ESP], mm = rd(mbi + 48, 4), from = esp - 4096;
    const u32 given[][2] = { { mbi, 120 }, { mm, rd(mbi + 44, 4) }, { rd(mbi + 16, 4), 64 }, { cpu->gdtr.base, 32 } };
    ck_assert_uint_eq(0, esp % 16);
    ck_assert(esp <= 0x9fc00 && from >= 0x1000);
    for (size_t i = 0; i < ARRAY_LEN(given); i++)
        ck_assert_msg(given[i][0] >= esp || given[i][0] + given[i][1] <= from, "%x lies in the stack", given[i][0]);
}

START_TEST(a_multiboot_elf_is_loaded_and_told_about_the_machine)
{
    struct vm_error err;
    struct file a = file_make("module one", 10), b = file_make("two", 3);
    char list[160];
    snprintf(list, sizeof list, "%s arg=1,%s", a.path, b.path);
    mb_elf_make();
    ck_assert_msg(!load(mb_image, sizeof mb_image, list, "root=x", &err), "%s", err.text);
    check_flat32(0x200010);
    ck_assert_uint_eq(0x2badb002, cpu->gpr[G_EAX]);
    ck_assert_int_eq(0, memcmp(bus.ram + 0x200000, mb_image + MB_TEXT, MB_LEN - MB_TEXT));
    u32 mbi = cpu->gpr[G_EBX];
    ck_assert_uint_eq(0x24d, rd(mbi, 4));
    ck_assert_uint_eq(0x9fc00 / 1024, rd(mbi + 4, 4));
    ck_assert_uint_eq((RAM - MIB - 0x10000) / 1024, rd(mbi + 8, 4));
    char line[96];
    snprintf(line, sizeof line, "%s root=x", kernel_path);
    ck_assert_str_eq(line, (char *)bus.ram + rd(mbi + 16, 4));
    check_stack(mbi);
    ck_assert_str_eq("transvisor", (char *)bus.ram + rd(mbi + 64, 4));
    ck_assert_uint_eq(2, rd(mbi + 20, 4));
    u32 mods = rd(mbi + 24, 4);
    for (unsigned i = 0; i < 2; i++) {
        u32 start = rd(mods + i * 16, 4), end = rd(mods + i * 16 + 4, 4);
        ck_assert_uint_eq(0, start & 4095);
        ck_assert_uint_ge(start, 0x200000 + MB_LEN - MB_TEXT + 4096);
        ck_assert_uint_eq(i ? 3 : 10, end - start);
        ck_assert_int_eq(0, memcmp(bus.ram + start, i ? "two" : "module one", end - start));
    }
    char first[96];
    snprintf(first, sizeof first, "%s arg=1", a.path);
    ck_assert_str_eq(first, (char *)bus.ram + rd(mods + 8, 4));
    ck_assert_str_eq(b.path, (char *)bus.ram + rd(mods + 24, 4));
    ck_assert_uint_eq(5 * 24, rd(mbi + 44, 4));
    u32 mm = rd(mbi + 48, 4);
    for (unsigned i = 0; i < map.n; i++) {
        ck_assert_uint_eq(20, rd(mm + i * 24, 4));
        ck_assert_uint_eq(map.entry[i].addr, rd(mm + i * 24 + 4, 4));
        ck_assert_uint_eq(map.entry[i].size, rd(mm + i * 24 + 12, 4));
        ck_assert_uint_eq(map.entry[i].type, rd(mm + i * 24 + 20, 4));
    }
    ck_assert_uint_eq(0, stray_writes);
    close(a.fd);
    close(b.fd);
}
END_TEST

START_TEST(an_entry_point_may_be_linear_or_physical)
{
    struct vm_error err;
    Elf32_Ehdr *eh = (Elf32_Ehdr *)mb_image;
    for (unsigned type = ET_EXEC; type <= ET_DYN; type++) {
        mb_elf_make();
        eh->e_type = (Elf32_Half)type;
        eh->e_entry = 0x20000c;
        ck_assert_msg(!load(mb_image, sizeof mb_image, NULL, NULL, &err), "%s", err.text);
        check_flat32(0x20000c);
    }
    /* Where both are possible, the linked address counts: GRUB's rule. */
    mb_elf_make();
    mb_phdr()->p_vaddr = 0x1ff000;
    eh->e_entry = 0x200000;
    ck_assert_msg(!load(mb_image, sizeof mb_image, NULL, NULL, &err), "%s", err.text);
    check_flat32(0x201000);
}
END_TEST

START_TEST(without_arguments_the_command_line_is_the_kernels_name)
{
    struct vm_error err;
    mb_elf_make();
    ck_assert_int_eq(0, load(mb_image, sizeof mb_image, NULL, NULL, &err));
    ck_assert_str_eq(kernel_path, (char *)bus.ram + rd(cpu->gpr[G_EBX] + 16, 4));
}
END_TEST

START_TEST(a_multiboot_kernel_may_be_entered_with_the_low_selectors)
{
    struct vm_error err;
    mb_elf_make();
    ck_assert_int_eq(0, load_with((struct vm_config){ .entry_cs = 8 }, mb_image, sizeof mb_image, &err));
    check_flat32_of(0x200010, 8);
    ck_assert_int_eq(-EINVAL, load_with((struct vm_config){ .entry_cs = 0x18 }, mb_image, sizeof mb_image, &err));
    ck_assert_str_eq("entry_cs: 0x18 is neither 0x08 nor 0x10", err.text);
    linux_make();
    ck_assert_int_eq(0, load_with((struct vm_config){ .entry_cs = 8 }, linux_image, sizeof linux_image, &err));
    check_flat32(MIB); /* Linux has its own */
}
END_TEST

/* Flat: the whole file at 1 MiB, header at 0x100, bss of 8 KiB. */
static void mb_flat_make(void)
{
    for (unsigned i = 0; i < MB_LEN; i++) mb_image[i] = (u8)(i * 3);
    mb_header(mb_image + 0x100, 1 << 16);
    u8 *h = mb_image + 0x100;
    put(h + 12, MIB + 0x100, 4);
    put(h + 16, MIB, 4);
    put(h + 20, 0, 4);
    put(h + 24, MIB + MB_LEN + 8192, 4);
    put(h + 28, MIB + 0x400, 4);
}

START_TEST(a_flat_multiboot_kernel_is_loaded_by_its_header)
{
    struct vm_error err;
    mb_flat_make();
    ck_assert_msg(!load(mb_image, sizeof mb_image, NULL, NULL, &err), "%s", err.text);
    check_flat32(MIB + 0x400);
    ck_assert_int_eq(0, memcmp(bus.ram + MIB, mb_image, MB_LEN));
    ck_assert_uint_eq(0, rd(cpu->gpr[G_EBX] + 20, 4));
}
END_TEST

enum { PH = sizeof(Elf32_Ehdr), HDR = 0x100 };
static const struct {
    bool flat;
    unsigned off, n;
    u64 val;
    const char *word;
} mb_bad[] = {
    { false, 4, 1, ELFCLASS64, "64-bit ELF" },
    { false, 5, 1, ELFDATA2MSB, "another processor" },
    { false, 18, 2, EM_ARM, "another processor" },
    { false, 16, 2, ET_REL, "not an executable one" },
    { false, 28, 4, 0xfffffff0, "truncated" },
    { false, 42, 2, 16, "no ELF program headers" },
    { false, 44, 2, 0, "no ELF program headers" },
    { false, 44, 2, 0xffff, "truncated" },
    { false, 24, 4, 0x1000, "entry point" },
    { false, PH + 4, 4, 0xffffff00, "truncated" },
    { false, PH + 16, 4, 0x700000, "larger in the file" },
    { false, PH + 12, 4, 0xa0000, "does not fit in memory" },
    { false, PH + 12, 4, RAM - 4096, "does not fit in memory" },
    { false, PH + 12, 4, 0xfffff000, "does not fit in memory" },
    { false, PH + 20, 4, 0xffffffff, "does not fit in memory" },
    { false, MB_TEXT, 4, 0, "without a Multiboot header" },
    { true, HDR + 16, 4, MIB + 0x200, "outside the file" },
    { true, HDR + 16, 4, 0, "outside the file" },
    { true, HDR + 20, 4, MIB - 1, "below load_addr" },
    { true, HDR + 20, 4, MIB + MB_LEN + 1, "truncated" },
    { true, HDR + 24, 4, MIB + 1, "bss_end_addr" },
    { true, HDR + 24, 4, 0xffffffff, "does not fit in memory" },
    { true, HDR + 28, 4, 0x10, "entry point" },
};

START_TEST(a_damaged_multiboot_kernel_is_refused_with_its_name)
{
    struct vm_error err;
    if (mb_bad[_i].flat) mb_flat_make();
    else mb_elf_make();
    put(mb_image + mb_bad[_i].off, mb_bad[_i].val, mb_bad[_i].n);
    int rc = load(mb_image, sizeof mb_image, NULL, NULL, &err);
    ck_assert_msg(rc < 0 && rc != -EINVAL, "row %d: rc %d", _i, rc);
    ck_assert_msg(strstr(err.text, mb_bad[_i].word) != NULL, "row %d: '%s' lacks '%s'", _i, err.text, mb_bad[_i].word);
    ck_assert_msg(strstr(err.text, "/proc/self/fd/") != NULL, "row %d: '%s' names no file", _i, err.text);
    ck_assert_uint_eq(0, stray_writes);
}
END_TEST

START_TEST(unknown_demands_of_a_multiboot_header_are_refused)
{
    struct vm_error err;
    mb_elf_make();
    mb_header(mb_image + MB_TEXT, 1 << 5);
    ck_assert_int_eq(-ENOEXEC, load(mb_image, sizeof mb_image, NULL, NULL, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "demands features 0x20"));
}
END_TEST

START_TEST(segments_that_overlap_are_refused)
{
    struct vm_error err;
    mb_elf_make();
    ((Elf32_Ehdr *)mb_image)->e_phnum = 2;
    mb_phdr()[1] = mb_phdr()[0];
    ck_assert_int_eq(-ENOEXEC, load(mb_image, sizeof mb_image, NULL, NULL, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "overlaps"));
}
END_TEST

/* A hostile file: random damage to the headers may load or be refused, but never writes outside usable RAM. */
START_TEST(random_damage_never_writes_outside_ram)
{
    u64 seed = 0x9e3779b97f4a7c15;
    for (unsigned round = 0; round < 3000; round++) {
        u8 *image = round % 3 == 0 ? linux_image : mb_image;
        size_t len = round % 3 == 0 ? sizeof linux_image : sizeof mb_image;
        if (round % 3 == 0) linux_make();
        else if (round % 3 == 1) mb_elf_make();
        else mb_flat_make();
        unsigned where = round % 3 == 0   ? 0x1f0
                         : round % 3 == 1 ? 0
                                          : 0x100,
                 span = round % 3 == 0   ? 0x80
                        : round % 3 == 1 ? 0x60
                                         : 0x20;
        for (unsigned k = 0; k < 1 + round % 4; k++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            image[where + (seed >> 33) % span] = (u8)(seed >> 56);
        }
        struct vm_error err;
        int rc = load(image, len, NULL, "x", &err);
        ck_assert_msg(stray_writes == 0, "round %u", round);
        ck_assert_msg(!rc || err.text[0], "round %u: rc %d without a reason", round, rc);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("loader");
    TCase *t = tcase_create("loader");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, linux_is_entered_by_the_32_bit_boot_protocol);
    tcase_add_test(t, an_initrd_goes_as_high_as_ram_allows);
    tcase_add_test(t, an_initrd_stays_below_what_the_kernel_can_reach);
    tcase_add_test(t, several_initrds_are_one_archive_after_another);
    tcase_add_test(t, an_initrd_that_does_not_fit_is_refused);
    tcase_add_loop_test(t, a_damaged_linux_kernel_is_refused_with_its_name, 0, (int)ARRAY_LEN(linux_bad));
    tcase_add_test(t, a_command_line_beyond_the_kernels_limit_is_refused);
    tcase_add_test(t, a_missing_file_or_a_directory_is_named);
    tcase_add_test(t, a_multiboot_elf_is_loaded_and_told_about_the_machine);
    tcase_add_test(t, an_entry_point_may_be_linear_or_physical);
    tcase_add_test(t, without_arguments_the_command_line_is_the_kernels_name);
    tcase_add_test(t, a_multiboot_kernel_may_be_entered_with_the_low_selectors);
    tcase_add_test(t, a_flat_multiboot_kernel_is_loaded_by_its_header);
    tcase_add_loop_test(t, a_damaged_multiboot_kernel_is_refused_with_its_name, 0, (int)ARRAY_LEN(mb_bad));
    tcase_add_test(t, unknown_demands_of_a_multiboot_header_are_refused);
    tcase_add_test(t, segments_that_overlap_are_refused);
    tcase_add_test(t, random_damage_never_writes_outside_ram);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
