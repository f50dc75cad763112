/* A machine's drives while it lives: media that come and go, as an embedder asks for it and as a guest sees it. */
#include "vm_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { DISK, CD, FLOPPY };
static char folder[] = "/tmp/vm-drive-XXXXXX";
static char disk[64], cd[64], cd2[64], floppy[64], odd[64];

static void file_make(char name[64], const char *what, off_t size)
{
    snprintf(name, 64, "%s/%s", folder, what);
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(0, ftruncate(fd, size));
    close(fd);
}
static void setup(void)
{
    strcpy(folder, "/tmp/vm-drive-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    file_make(disk, "disk", 1 << 20);
    file_make(cd, "cd", 64 << 10);
    file_make(cd2, "cd2", 128 << 10);
    file_make(floppy, "floppy", 1440 << 10);
    file_make(odd, "odd", 4 << 20);
}
static void teardown(void)
{
    const char *const all[] = { disk, cd, cd2, floppy, odd };
    for (unsigned i = 0; i < ARRAY_LEN(all); i++) unlink(all[i]);
    rmdir(folder);
}

static struct vm *machine(void)
{
    struct vm_config cfg = vm_fixture_config(VM_ENGINE_INTERP);
    cfg.disk[DISK] = (struct vm_disk){ .file = disk };
    cfg.disk[CD] = (struct vm_disk){ .file = cd, .cdrom = true };
    cfg.disk[FLOPPY] = (struct vm_disk){ .file = "", .bus = VM_BUS_FLOPPY };
    return vm_fixture_new(&cfg);
}

static struct vm_drive drive(struct vm *vm, unsigned i)
{
    struct vm_drive d;
    ck_assert_int_eq(0, vm_get_drive(vm, i, &d));
    return d;
}
static int change(struct vm *vm, unsigned i, const char *file, bool force)
{
    struct vm_error err = { "" };
    const struct vm_disk medium = { .file = file };
    int rc = vm_change_medium(vm, i, &medium, force, &err);
    ck_assert_msg(!rc == !*err.text, "%d: '%s'", rc, err.text);
    return rc;
}

START_TEST(what_is_in_a_drive_is_known_and_what_cannot_be_changed_stays)
{
    struct vm_drive d;
    struct vm *vm = machine();
    ck_assert(!drive(vm, DISK).removable && drive(vm, CD).removable && drive(vm, FLOPPY).removable);
    ck_assert_str_eq(cd, drive(vm, CD).disk.file);
    ck_assert_str_eq("", drive(vm, FLOPPY).disk.file);
    ck_assert_int_eq(-ENODEV, vm_get_drive(vm, 3, &d));
    ck_assert_int_eq(-ENODEV, change(vm, 3, cd2, false));
    ck_assert_int_eq(-ENODEV, change(vm, 17, cd2, false));
    ck_assert_int_eq(-ENODEV, change(vm, DISK, cd2, true));
    ck_assert_int_eq(-ENOENT, change(vm, CD, "/nonexistent", false));
    ck_assert_int_eq(-EINVAL, change(vm, FLOPPY, odd, false)); /* it fits on no floppy disk */
    ck_assert_str_eq(cd, drive(vm, CD).disk.file);
    ck_assert_int_eq(0, change(vm, CD, cd2, false));
    ck_assert_str_eq(cd2, drive(vm, CD).disk.file);
    ck_assert(drive(vm, CD).disk.cdrom);
    ck_assert_int_eq(0, change(vm, CD, "", false));
    ck_assert_str_eq("", drive(vm, CD).disk.file);
    vm_free(vm);
}
END_TEST

START_TEST(a_floppy_disk_that_comes_is_seen_on_the_change_line_and_is_the_machines_alone)
{
    struct vm *vm = machine(), *other;
    struct vm_error err;
    /* mov dx, 3f2h; mov al, 1ch; out dx, al; mov dl, f7h; in al, dx; shr al, 7; out f4h, al; jmp to the start */
    LOAD(vm, 0x66, 0xba, 0xf2, 0x03, 0xb0, 0x1c, 0xee, 0xb2, 0xf7, 0xec, 0xc0, 0xe8, 0x07, 0xe6, 0xf4, 0xeb, 0xef);
    vm_fixture_run(vm, VM_EXIT_DEBUG);
    ck_assert_uint_eq(3, vm_debug_exit_value(vm));
    ck_assert_int_eq(0, change(vm, FLOPPY, floppy, false));
    vm_fixture_run(vm, VM_EXIT_DEBUG);
    ck_assert_uint_eq(3, vm_debug_exit_value(vm)); /* nobody has moved the heads */
    struct vm_config cfg = vm_fixture_config(VM_ENGINE_INTERP);
    cfg.disk[0] = (struct vm_disk){ .file = floppy, .bus = VM_BUS_FLOPPY };
    ck_assert_int_ne(0, vm_create(&other, &cfg, &err)); /* it is locked */
    ck_assert_int_eq(0, change(vm, FLOPPY, "", false));
    other = vm_fixture_new(&cfg);
    vm_free(other);
    vm_free(vm);
}
END_TEST

START_TEST(a_tray_that_the_guest_has_locked_opens_by_force_alone)
{
    struct vm *vm = machine();
    /* mov dx, 176h; mov al, a0h; out dx, al; inc edx; out dx, al; mov dl, 70h; mov esi, 10001fh; mov ecx, 6;
     * rep outsw; mov al, 1; out f4h, al; jmp to the start; the packet: PREVENT */
    LOAD(vm, 0x66, 0xba, 0x76, 0x01, 0xb0, 0xa0, 0xee, 0x42, 0xee, 0xb2, 0x70, 0xbe, 0x1f, 0x00, 0x10, 0x00, 0xb9, 0x06,
         0x00, 0x00, 0x00, 0xf3, 0x66, 0x6f, 0xb0, 0x01, 0xe6, 0xf4, 0xeb, 0xe2, 0x90, 0x1e, 0, 0, 0, 1, 0, 0, 0, 0, 0,
         0, 0);
    vm_fixture_run(vm, VM_EXIT_DEBUG); /* the drive tells first that a medium has come */
    ck_assert(!drive(vm, CD).locked);
    vm_fixture_run(vm, VM_EXIT_DEBUG);
    ck_assert(drive(vm, CD).locked);
    ck_assert_int_eq(-EPERM, change(vm, CD, cd2, false));
    ck_assert_str_eq(cd, drive(vm, CD).disk.file);
    ck_assert_int_eq(0, change(vm, CD, cd2, true));
    ck_assert_str_eq(cd2, drive(vm, CD).disk.file);
    ck_assert(!drive(vm, CD).locked && !drive(vm, CD).tray_open);
    vm_free(vm);
}
END_TEST

static int result;
static void on_output(void *arg, const uint8_t *bytes, size_t n)
{
    struct vm **vm = arg;
    (void)bytes, (void)n;
    result = change(*vm, CD, cd2, true);
}

START_TEST(while_the_machine_runs_nothing_is_changed)
{
    struct vm *vm = NULL;
    struct vm_config cfg = vm_fixture_config(VM_ENGINE_INTERP);
    cfg.disk[DISK] = (struct vm_disk){ .file = disk };
    cfg.disk[CD] = (struct vm_disk){ .file = cd, .cdrom = true };
    cfg.serial_output = on_output;
    cfg.serial_output_arg = &vm;
    vm = vm_fixture_new(&cfg);
    LOAD(vm, 0xe6, 0xe9, 0xe6, 0xf4); /* out e9h, al; out f4h, al */
    vm_fixture_run(vm, VM_EXIT_DEBUG);
    ck_assert_int_eq(-EBUSY, result);
    vm_free(vm);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("drives");
    TCase *t = tcase_create("drives");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, what_is_in_a_drive_is_known_and_what_cannot_be_changed_stays);
    tcase_add_test(t, a_floppy_disk_that_comes_is_seen_on_the_change_line_and_is_the_machines_alone);
    tcase_add_test(t, a_tray_that_the_guest_has_locked_opens_by_force_alone);
    tcase_add_test(t, while_the_machine_runs_nothing_is_changed);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
