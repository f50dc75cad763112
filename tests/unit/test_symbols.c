/* symbols.c: names and addresses from each kind of file, and what is none. */
#include "src/face/symbols.h"

#include <check.h>
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[64];

static void write_file(const void *bytes, size_t n)
{
    strcpy(path, "/tmp/test-symbols-XXXXXX");
    int fd = mkstemp(path);
    ck_assert_int_eq(write(fd, bytes, n), (ssize_t)n);
    close(fd);
}

static struct symbols *opened(const char *words)
{
    char spec[128];
    struct symbols *s = NULL;
    struct vm_error err;
    snprintf(spec, sizeof spec, "%s%s", path, words);
    ck_assert_msg(!symbols_open(&s, spec, &err), "%s", err.text);
    unlink(path);
    return s;
}

static const char map[] =
    "c1000000 T startup_32\nc1000400 t helper.part.0\n  nonsense\nc1000400 T alias\nc2000000 D jiffies\n"
    "c1000900 T last\t[ext4]\nfffffffff D too_far\n";

static void check_map(const struct symbols *s, u32 slide)
{
    u32 at = 0, off = 0;
    char text[100];
    ck_assert(symbols_find(s, "startup_32", &at));
    ck_assert_uint_eq(at, 0xc1000000 + slide);
    ck_assert(symbols_find(s, "jiffies+4", &at));
    ck_assert_uint_eq(at, 0xc2000004 + slide);
    ck_assert(symbols_find(s, "last", &at));
    ck_assert(!symbols_find(s, "too_far", &at));
    ck_assert(!symbols_find(s, "startup", &at));
    ck_assert(!symbols_find(s, "startup_32+x", &at));
    ck_assert_str_eq(symbols_at(s, 0xc10003ff + slide, &off), "startup_32");
    ck_assert_uint_eq(off, 0x3ff);
    ck_assert_str_eq(symbols_at(s, 0xc1000400 + slide, &off), "alias"); /* of two, always the same */
    ck_assert_str_eq(symbols_text(s, 0xc1000910 + slide, text, sizeof text), "last+0x10");
    ck_assert_ptr_null(symbols_at(s, 0xc0ffffff + slide, &off));
    ck_assert_ptr_null(symbols_at(s, 0xc2000000 + slide, &off)); /* data is no place in code */
}

START_TEST(a_system_map_names_addresses)
{
    write_file(map, sizeof map - 1);
    struct symbols *s = opened("");
    check_map(s, 0);
    symbols_close(s);
    write_file(map, sizeof map - 1);
    check_map(s = opened(",slide=0x1000000"), 0x1000000);
    symbols_close(s);
}
END_TEST

/* Handlers of a kernel, and others whose addresses end as theirs do. */
static const char handlers_map[] =
    "c0ffe100 t other\nc1000100 t asm_0\nc1000120 t asm_1\nc1000180 t asm_2\nc1000200 t asm_3\n"
    "c1000210 t asm_4\nc1000240 t asm_5\nc1000280 t asm_6\nc10002c0 t asm_7\nc10002d0 t asm_8\n"
    "c10072d0 t late\nc1010000 T schedule\nc1020000 T early_idt_handler_array\n";

START_TEST(a_kernels_place_is_found_by_its_handlers)
{
    static const u32 there[] = { 0x100, 0x120, 0x180, 0x200, 0, 0x240, 0x280, 0x2c0, 0x2d0, 0 };
    u32 gate[ARRAY_LEN(there)], at, off;
    const u32 slide = 0x5800000;
    write_file(handlers_map, sizeof handlers_map - 1);
    struct symbols *s = opened(",slide=auto");
    ck_assert(!symbols_settled(s));
    ck_assert(!symbols_find(s, "schedule", &at));
    ck_assert_ptr_null(symbols_at(s, 0xc1010004, &off));
    memset(gate, 0, sizeof gate);
    ck_assert(!symbols_settle(s, gate, ARRAY_LEN(gate)));
    for (unsigned i = 0; i < 4; i++) gate[i] = 0xc1000000 + there[i] + slide;
    ck_assert_msg(!symbols_settle(s, gate, ARRAY_LEN(gate)), "four are too few");
    for (unsigned i = 0; i < ARRAY_LEN(there); i++) gate[i] = there[i] ? 0xc1000000 + there[i] + slide : 0;
    gate[5] += 16;
    ck_assert_msg(!symbols_settle(s, gate, ARRAY_LEN(gate)), "one is no function");
    gate[5] -= 16;
    ck_assert(symbols_settle(s, gate, ARRAY_LEN(gate)));
    ck_assert(symbols_settled(s) && symbols_find(s, "schedule", &at));
    ck_assert_uint_eq(at, 0xc1010000 + slide);
    ck_assert_str_eq(symbols_at(s, at + 8, &off), "schedule");
    ck_assert_uint_eq(off, 8);
    symbols_close(s);
}
END_TEST

START_TEST(linuxs_first_handlers_tell_it_too)
{
    u32 gate[20], at;
    write_file(handlers_map, sizeof handlers_map - 1);
    struct symbols *s = opened(",slide=auto");
    for (unsigned i = 0; i < ARRAY_LEN(gate); i++) gate[i] = 0xd1020000 + 9 * i;
    ck_assert(symbols_settle(s, gate, ARRAY_LEN(gate)));
    ck_assert(symbols_find(s, "schedule", &at));
    ck_assert_uint_eq(at, 0xd1010000);
    symbols_close(s);
}
END_TEST

/* A file with a null section, the names, and the symbols. */
static size_t make_elf(u8 *out)
{
    static const char names[] = "\0startup_32\0jiffies\0helper";
    Elf32_Ehdr h = { .e_shoff = 64, .e_shnum = 3, .e_shentsize = sizeof(Elf32_Shdr) };
    memcpy(h.e_ident, ELFMAG, SELFMAG);
    h.e_ident[EI_CLASS] = ELFCLASS32, h.e_ident[EI_DATA] = ELFDATA2LSB;
    const Elf32_Sym y[] = { { .st_name = 0 },
                            { .st_name = 1, .st_value = 0xc1000000, .st_info = STT_FUNC, .st_shndx = 1 },
                            { .st_name = 12, .st_value = 0xc2000000, .st_info = STT_OBJECT, .st_shndx = 1 },
                            { .st_name = 20, .st_value = 0xc1000400, .st_info = STT_NOTYPE, .st_shndx = 1 } };
    const Elf32_Shdr t[] = { { 0 },
                             { .sh_type = SHT_STRTAB, .sh_offset = 256, .sh_size = sizeof names },
                             { .sh_type = SHT_SYMTAB, .sh_link = 1, .sh_offset = 512, .sh_size = sizeof y } };
    memset(out, 0, 1024);
    memcpy(out, &h, sizeof h);
    memcpy(out + 64, t, sizeof t);
    memcpy(out + 256, names, sizeof names);
    memcpy(out + 512, y, sizeof y);
    return 512 + sizeof y;
}

START_TEST(an_elf_file_names_addresses)
{
    u8 elf[1024];
    u32 at, off;
    write_file(elf, make_elf(elf));
    struct symbols *s = opened("");
    ck_assert(symbols_find(s, "jiffies", &at));
    ck_assert_uint_eq(at, 0xc2000000);
    ck_assert_str_eq(symbols_at(s, 0xc1000401, &off), "helper");
    symbols_close(s);
}
END_TEST

START_TEST(an_elf_file_that_is_damaged_is_refused_or_read_within_its_bytes)
{
    u8 elf[1024];
    size_t n = make_elf(elf);
    srand(7);
    for (unsigned i = 0; i < 3000; i++) {
        struct symbols *s;
        struct vm_error err;
        (void)make_elf(elf);
        for (unsigned k = 0; k < 3; k++) elf[16 + (unsigned)rand() % (n - 16)] = (u8)rand();
        write_file(elf, i % 3 ? n : 16 + (unsigned)rand() % (n - 16));
        if (!symbols_open(&s, path, &err)) symbols_close(s);
        unlink(path);
    }
}
END_TEST

START_TEST(what_is_no_file_of_symbols_is_said)
{
    struct symbols *s;
    struct vm_error err;
    write_file("hello\n", 6);
    ck_assert_int_eq(symbols_open(&s, path, &err), -ENOEXEC);
    ck_assert_msg(strstr(err.text, "neither a System.map nor") != NULL, "%s", err.text);
    unlink(path);
    ck_assert_int_eq(symbols_open(&s, path, &err), -ENOENT);
    write_file("00000000 T a\n00000000 T b\n", 26);
    ck_assert_int_eq(symbols_open(&s, path, &err), -EACCES);
    unlink(path);
}
END_TEST

START_TEST(names_in_words_become_addresses)
{
    char out[100];
    struct vm_error err;
    write_file(map, sizeof map - 1);
    struct symbols *s = opened("");
    ck_assert_int_eq(symbols_words(s, "insn=nop,at=startup_32-alias+0x10,cpl=0", out, sizeof out, &err), 0);
    ck_assert_str_eq(out, "insn=nop,at=0xc1000000-0xc1000410,cpl=0");
    ck_assert_int_eq(symbols_words(s, "write,at=0x10-0x20,if=eax==1", out, sizeof out, &err), 0);
    ck_assert_str_eq(out, "write,at=0x10-0x20,if=eax==1");
    ck_assert_int_eq(symbols_words(NULL, "at=name", out, sizeof out, &err), 0);
    ck_assert_str_eq(out, "at=name");
    ck_assert_int_eq(symbols_words(s, "insn,at=frob", out, sizeof out, &err), -EINVAL);
    ck_assert_str_eq(err.text, "there is no symbol 'frob'");
    ck_assert_int_eq(symbols_words(s, "insn,at=startup_32", out, 12, &err), -EINVAL);
    symbols_close(s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("symbols");
    TCase *t = tcase_create("files");
    tcase_add_test(t, a_system_map_names_addresses);
    tcase_add_test(t, a_kernels_place_is_found_by_its_handlers);
    tcase_add_test(t, linuxs_first_handlers_tell_it_too);
    tcase_add_test(t, an_elf_file_names_addresses);
    tcase_add_test(t, an_elf_file_that_is_damaged_is_refused_or_read_within_its_bytes);
    tcase_add_test(t, what_is_no_file_of_symbols_is_said);
    tcase_add_test(t, names_in_words_become_addresses);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
