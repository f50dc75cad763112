/* What is looked for in a console's bytes, and what a file is taken for. */
#include "src/face/image.h"
#include "src/face/watch.h"

#include <check.h>
#include <string.h>
#include <unistd.h>

/* Every place where text ends in stream, found byte by byte. */
static unsigned count(const char *text, const char *stream)
{
    struct matcher m;
    unsigned n = 0;
    matcher_init(&m, text);
    for (; *stream; stream++) n += matcher_feed(&m, (const u8 *)stream, 1);
    return n;
}

START_TEST(a_text_is_found_wherever_it_is_cut)
{
    static const char stream[] = "the end of the endless";
    for (size_t cut = 0; cut <= strlen(stream); cut++) {
        struct matcher m;
        matcher_init(&m, "the endless");
        bool first = matcher_feed(&m, (const u8 *)stream, cut);
        bool second = matcher_feed(&m, (const u8 *)stream + cut, strlen(stream) - cut);
        ck_assert_msg(first != second, "cut at %zu", cut);
    }
}
END_TEST

START_TEST(a_text_that_repeats_itself_is_found_in_overlaps)
{
    ck_assert_uint_eq(1, count("aab", "aaab"));
    ck_assert_uint_eq(1, count("abacabad", "abacabacabad"));
    ck_assert_uint_eq(3, count("aa", "aaaa"));
    ck_assert_uint_eq(0, count("abc", "ababab"));
    ck_assert_uint_eq(1, count("\xff\x01", "\xff\xff\x01"));
}
END_TEST

START_TEST(nothing_is_found_if_nothing_is_looked_for)
{
    struct matcher m;
    matcher_init(&m, NULL);
    ck_assert(!matcher_feed(&m, (const u8 *)"text", 4));
}
END_TEST

static const struct {
    const char *name;
    u32 at;
    const char *bytes;
    enum image_kind kind;
} file[] = {
    { "vmlinuz", 0x202, "HdrS", IMAGE_LINUX },
    { "vmlinuz.img", 0x202, "HdrS", IMAGE_LINUX },
    { "kernel", 0, "\177ELF\1\1\1", IMAGE_ELF },
    { "a", 0, "QFI\xfb", IMAGE_DISK },
    { "b", 0x8001, "CD001", IMAGE_CDROM },
    { "c", 0x1fe, "\x55\xaa", IMAGE_UNKNOWN },
    { "zeroes.img", 5000, " ", IMAGE_DISK },
    { "zeroes", 5000, " ", IMAGE_UNKNOWN },
    { "initrd.img", 0, "\x1f\x8b\x08", IMAGE_RAM_DISK },
    { "d", 0, "070701", IMAGE_RAM_DISK },
    { "gone.ISO", 0, NULL, IMAGE_CDROM },
    { "gone", 0, NULL, IMAGE_UNKNOWN },
    { "short", 0, "x", IMAGE_UNKNOWN },
};

START_TEST(a_boot_sector_makes_a_disk_of_a_file_of_whole_sectors)
{
    char path[] = "/tmp/test_watch.XXXXXX";
    const char *what;
    int fd = mkstemp(path);
    ck_assert_int_eq(2, pwrite(fd, "\x55\xaa", 2, 0x1fe));
    ck_assert_int_eq(0, ftruncate(fd, 2 << 20));
    ck_assert_int_eq(IMAGE_DISK, image_probe(path, &what));
    ck_assert_int_eq(0, ftruncate(fd, 1474560));
    ck_assert_int_eq(IMAGE_FLOPPY, image_probe(path, &what));
    ck_assert_int_eq(0, ftruncate(fd, 1474561));
    ck_assert_int_eq(IMAGE_UNKNOWN, image_probe(path, &what));
    close(fd);
    unlink(path);
}
END_TEST

START_TEST(a_file_is_known_by_its_bytes_and_else_by_its_name)
{
    char dir[] = "/tmp/test_watch.XXXXXX", path[128];
    const char *what;
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/%s", dir, file[_i].name);
    if (file[_i].bytes) {
        FILE *f = fopen(path, "w");
        fseek(f, file[_i].at, SEEK_SET);
        fputs(file[_i].bytes, f);
        fclose(f);
    }
    enum image_kind kind = image_probe(path, &what);
    unlink(path);
    rmdir(dir);
    ck_assert_msg(kind == file[_i].kind, "%s: %d, not %d", file[_i].name, kind, file[_i].kind);
    if (kind == IMAGE_DISK_FORMAT || kind == IMAGE_RAM_DISK) ck_assert_ptr_nonnull(what);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("watch");
    TCase *t = tcase_create("watch");
    tcase_add_test(t, a_text_is_found_wherever_it_is_cut);
    tcase_add_test(t, a_text_that_repeats_itself_is_found_in_overlaps);
    tcase_add_test(t, nothing_is_found_if_nothing_is_looked_for);
    tcase_add_test(t, a_boot_sector_makes_a_disk_of_a_file_of_whole_sectors);
    tcase_add_loop_test(t, a_file_is_known_by_its_bytes_and_else_by_its_name, 0, (int)ARRAY_LEN(file));
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
