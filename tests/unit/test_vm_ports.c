/* A machine's ports behind COM1 and its clock, as a description names them and as a guest finds them. */
#define _DEFAULT_SOURCE /* tzset, mkdtemp */
#include "src/vm_clock.h"
#include "vm_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static char folder[32], path[4][64], spec[4][72];

static void setup(void)
{
    strcpy(folder, "/tmp/vm-ports-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    for (unsigned i = 0; i < 4; i++) {
        snprintf(path[i], sizeof path[i], "%s/%u", folder, i);
        snprintf(spec[i], sizeof spec[i], "file:%s", path[i]);
    }
}
static void teardown(void)
{
    for (unsigned i = 0; i < 4; i++) unlink(path[i]);
    rmdir(folder);
}

static int read_byte(const char *file)
{
    FILE *f = fopen(file, "r");
    int c = f ? fgetc(f) : -1;
    if (f) ck_assert_int_eq(EOF, fgetc(f));
    if (f) fclose(f);
    return c;
}

/* mov al, 'a'; mov dx, 2f8h; out dx, al; inc eax; mov dx, 3e8h; out dx, al; inc eax; mov dx, 2e8h; out dx, al; inc eax;
 * mov dx, 378h; out dx, al; inc edx; inc edx; mov al, 1; out dx, al; mov dx, 2fbh; in al, dx; out f4h, al */
#define PRINTS                                                                                                       \
    0xb0, 'a', 0x66, 0xba, 0xf8, 0x02, 0xee, 0x40, 0x66, 0xba, 0xe8, 0x03, 0xee, 0x40, 0x66, 0xba, 0xe8, 0x02, 0xee, \
        0x40, 0x66, 0xba, 0x78, 0x03, 0xee, 0x42, 0x42, 0xb0, 0x01, 0xee, 0x66, 0xba, 0xfb, 0x02, 0xec, 0xe6, 0xf4

START_TEST(each_port_has_its_own_back_end_and_without_one_there_is_no_port)
{
    for (unsigned n = 0; n < 2; n++) {
        struct vm_config cfg = vm_fixture_config(engines[n]);
        for (unsigned i = 0; i < VM_SERIAL_MORE; i++) cfg.serial_more[i] = spec[i];
        cfg.parallel = spec[3];
        struct vm *vm = vm_fixture_new(&cfg);
        LOAD(vm, PRINTS);
        vm_fixture_run(vm, VM_EXIT_DEBUG);
        ck_assert_uint_ne(0x1ff, vm_debug_exit_value(vm));
        vm_free(vm);
        for (int i = 0; i < 4; i++) ck_assert_int_eq('a' + i, read_byte(path[i]));
    }
    struct vm_config cfg = vm_fixture_config(VM_ENGINE_INTERP);
    struct vm *vm = vm_fixture_new(&cfg);
    LOAD(vm, PRINTS);
    vm_fixture_run(vm, VM_EXIT_DEBUG);
    ck_assert_uint_eq(0x1ff, vm_debug_exit_value(vm)); /* ones */
    vm_free(vm);
}
END_TEST

START_TEST(a_saved_machine_has_the_ports_that_it_had)
{
    struct vm_config cfg = vm_fixture_config(VM_ENGINE_INTERP);
    struct vm_error err;
    cfg.serial_more[1] = "null";
    cfg.parallel = "null";
    struct vm *vm = vm_fixture_new(&cfg);
    FILE *f = tmpfile();
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(0, vm_save(vm, fileno(f), &err));
    vm_free(vm);
    static const struct {
        const char *com2, *com3, *lpt;
        int rc;
    } wanted[] = { { NULL, NULL, NULL, 0 }, { NULL, "null", NULL, 0 }, { "null", NULL, NULL, -EINVAL } };
    for (unsigned i = 0; i < ARRAY_LEN(wanted); i++) {
        cfg = vm_fixture_config(VM_ENGINE_INTERP);
        cfg.serial_more[0] = wanted[i].com2;
        cfg.serial_more[1] = wanted[i].com3;
        rewind(f);
        lseek(fileno(f), 0, SEEK_SET);
        ck_assert_int_eq(wanted[i].rc, vm_load(&vm, &cfg, fileno(f), &err));
        if (!wanted[i].rc) vm_free(vm);
    }
    fclose(f);
}
END_TEST

START_TEST(a_saved_machine_has_the_virtio_devices_that_it_had)
{
    struct vm_config cfg = vm_fixture_config(VM_ENGINE_INTERP);
    struct vm_error err;
    uint64_t bytes;
    struct vm_balloon_stats stats;
    cfg.balloon = true;
    cfg.hpet = true;
    cfg.console = "null";
    struct vm *vm = vm_fixture_new(&cfg);
    FILE *f = tmpfile();
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(-EINVAL, vm_balloon(vm, 0));
    ck_assert_int_eq(0, vm_balloon(vm, 1));
    ck_assert_int_eq(0, vm_get_balloon_stats(vm, &stats));
    ck_assert_uint_eq(0, stats.said); /* no driver */
    ck_assert_int_eq(0, vm_save(vm, fileno(f), &err));
    vm_free(vm);
    static const struct {
        bool rng;
        const char *console, *why;
    } wanted[] = { { false, NULL, NULL }, { false, "null", NULL }, { true, NULL, "rng: the saved machine has none" } };
    for (unsigned i = 0; i < ARRAY_LEN(wanted); i++) {
        cfg = vm_fixture_config(VM_ENGINE_INTERP);
        cfg.rng = wanted[i].rng;
        cfg.console = wanted[i].console;
        rewind(f);
        lseek(fileno(f), 0, SEEK_SET);
        ck_assert_int_eq(wanted[i].why ? -EINVAL : 0, vm_load(&vm, &cfg, fileno(f), &err));
        if (wanted[i].why) ck_assert_str_eq(wanted[i].why, err.text);
        if (wanted[i].why) continue;
        ck_assert_int_eq(0, vm_get_balloon(vm, &bytes));
        vm_free(vm);
    }
    fclose(f);
    cfg = vm_fixture_config(VM_ENGINE_INTERP);
    vm = vm_fixture_new(&cfg);
    ck_assert_int_eq(-ENODEV, vm_balloon(vm, 1));
    ck_assert_int_eq(-ENODEV, vm_get_balloon(vm, &bytes));
    ck_assert_int_eq(-ENODEV, vm_get_balloon_stats(vm, &stats));
    vm_free(vm);
}
END_TEST

START_TEST(the_clock_begins_where_it_is_said)
{
    struct vm_config cfg = vm_fixture_config(VM_ENGINE_INTERP);
    cfg.rtc = "1999-12-31T23:59:00";
    struct vm *vm = vm_fixture_new(&cfg);
    /* mov al, 32h; out 70h, al; in al, 71h; mov ah, al; mov al, 9; out 70h, al; in al, 71h; sub al, ah; out f4h, al */
    LOAD(vm, 0xb0, 0x32, 0xe6, 0x70, 0xe4, 0x71, 0x88, 0xc4, 0xb0, 0x09, 0xe6, 0x70, 0xe4, 0x71, 0x28, 0xe0, 0xe6,
         0xf4);
    vm_fixture_run(vm, VM_EXIT_DEBUG);
    ck_assert_uint_eq((0x99 - 0x19) << 1 | 1, vm_debug_exit_value(vm));
    vm_free(vm);
}
END_TEST

START_TEST(a_time_is_a_word_or_a_date_that_there_is)
{
    static const struct {
        const char *word;
        s64 offset; /* of 2000-01-01; -1: refused */
    } words[] = { { NULL, 0 },
                  { "utc", 0 },
                  { "2000-01-02", 86400 },
                  { "2000-02-29T00:00:01", 59 * 86400 + 1 },
                  { "2001-02-29", -1 },
                  { "2000-01-01T24:00:00", -1 },
                  { "2000-01-01T1", -1 },
                  { "2000-01-01x", -1 },
                  { "1970-01-01", -1 },
                  { "gmt", -1 },
                  { "", -1 } };
    for (unsigned i = 0; i < ARRAY_LEN(words); i++) {
        struct vm_error err;
        s64 offset;
        int rc = vm_clock_parse(words[i].word, 946684800, &offset, &err);
        ck_assert_msg(rc == (words[i].offset < 0 ? -EINVAL : 0), "%s: %d", words[i].word, rc);
        if (!rc) ck_assert_msg(offset == words[i].offset, "%s: %lld", words[i].word, (long long)offset);
    }
    struct vm_error err;
    s64 offset;
    setenv("TZ", "XYZ-3", 1);
    tzset();
    ck_assert_int_eq(0, vm_clock_parse("localtime", 946684800, &offset, &err));
    ck_assert_int_eq(3 * 3600, offset);
}
END_TEST

START_TEST(what_is_for_firmware_is_refused_where_none_runs)
{
    struct vm_config cfg = vm_fixture_config(VM_ENGINE_INTERP);
    struct vm_error err;
    struct vm *vm;
    cfg.smbios[0] = "type=1,product=X";
    ck_assert_int_eq(-EINVAL, vm_create(&vm, &cfg, &err));
    ck_assert_msg(!strncmp(err.text, "smbios: ", 8), "%s", err.text);
    cfg.smbios[0] = NULL;
    cfg.option_rom[0] = "/dev/null";
    ck_assert_int_eq(-EINVAL, vm_create(&vm, &cfg, &err));
    ck_assert_msg(!strncmp(err.text, "option_rom: ", 12), "%s", err.text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ports");
    TCase *t = tcase_create("ports");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, each_port_has_its_own_back_end_and_without_one_there_is_no_port);
    tcase_add_test(t, a_saved_machine_has_the_ports_that_it_had);
    tcase_add_test(t, a_saved_machine_has_the_virtio_devices_that_it_had);
    tcase_add_test(t, the_clock_begins_where_it_is_said);
    tcase_add_test(t, a_time_is_a_word_or_a_date_that_there_is);
    tcase_add_test(t, what_is_for_firmware_is_refused_where_none_runs);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
