/* fw_cfg as firmware asks it through its ports; by DMA in test_pc.c, where there is memory. */
#include "fake_machine.h"
#include "src/board/firmware.h"
#include "src/dev/pc_devices.h"

static struct fw_cfg *fw;

static void setup(void)
{
    machine_clear();
    ck_assert_int_eq(fw_cfg_new(&fw, &fake_bus), 0);
}
static void teardown(void) { fw_cfg_free(fw); }

static u32 take(unsigned n)
{
    u32 v = 0;
    while (n--) v = v << 8 | inb(0x511);
    return v;
}
static void choose(u16 key) { bus_out(&fake_bus, 0x510, 2, key); }

START_TEST(its_signature_says_who_it_is_and_that_it_has_dma)
{
    choose(0);
    ck_assert_uint_eq(take(4), 0x51454d55); /* QEMU */
    choose(1);
    ck_assert_uint_eq(take(4), 0x03000000);
    ck_assert_uint_eq(bus_in(&fake_bus, 0x514, 4), 0x554d4551);
}
END_TEST

START_TEST(files_are_found_by_the_directory_and_end_in_zeroes)
{
    static const char text[] = "hello";
    ck_assert_int_eq(fw_cfg_file(fw, "etc/first", "x", 1), 0);
    ck_assert_int_eq(fw_cfg_file(fw, "etc/second", text, 5), 0);
    choose(0x19);
    ck_assert_uint_eq(take(4), 2);
    for (unsigned i = 0; i < 64; i++) (void)take(1);
    ck_assert_uint_eq(take(4), 5);
    u16 key = (u16)take(2);
    (void)take(2);
    for (const char *p = "etc/second"; *p; p++) ck_assert_uint_eq(take(1), (u8)*p);
    choose(key);
    for (unsigned i = 0; i < 5; i++) ck_assert_uint_eq(take(1), (u8)text[i]);
    ck_assert_uint_eq(take(4), 0);
    choose(key); /* starts anew */
    ck_assert_uint_eq(take(1), 'h');
}
END_TEST

/* Chooses the file of that name; returns how many bytes it has, 0: there is none. */
static u32 choose_file(const char *name)
{
    choose(0x19);
    for (u32 n = take(4); n; n--) {
        char its[FW_CFG_NAME];
        u32 len = take(4), key = take(2);
        (void)take(2);
        for (unsigned i = 0; i < sizeof its; i++) its[i] = (char)take(1);
        if (strcmp(its, name)) continue;
        choose((u16)key);
        return len;
    }
    return 0;
}

START_TEST(words_for_smbios_become_fields_of_its_tables)
{
    static const u8 uuid[16] = { 0x67, 0x45, 0x23, 0x01, 0xab, 0x89, 0xef, 0xcd,
                                 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef };
    struct vm_error err;
    ck_assert_int_eq(0, firmware_smbios(fw, "type=0,vendor=Us", &err));
    ck_assert_int_eq(
        0, firmware_smbios(fw, "type=1,product=A PC,version=7,uuid=01234567-89ab-cdef-0123-456789ABCDEF", &err));
    ck_assert_uint_eq(3, choose_file("smbios/field0-4"));
    ck_assert_uint_eq(0x557300, take(3));
    ck_assert_uint_eq(5, choose_file("smbios/field1-5"));
    ck_assert_uint_eq(0x41205043, take(4));
    ck_assert_uint_eq(2, choose_file("smbios/field1-6"));
    ck_assert_uint_eq(16, choose_file("smbios/field1-8"));
    for (unsigned i = 0; i < 16; i++) ck_assert_uint_eq(uuid[i], take(1));
}
END_TEST

START_TEST(words_for_smbios_that_are_wrong_are_named)
{
    static const char *const wrong[][2] = {
        { "product=X", "type=0 or type=1" },
        { "type=4,product=X", "type=0 or type=1" },
        { "type=0,product=X", "'product=X'" },
        { "type=1,product", "'product'" },
        { "type=1,product=", "1 to 64" },
        { "type=1,uuid=01234567-89ab-cdef-0123-456789abcdeg", "no UUID" },
        { "type=1,uuid=0123456789abcdef0123456789abcdef", "no UUID" },
        { "type=1,uuid=01234567-89ab-cdef-0123-456789abcdef0", "no UUID" },
    };
    for (unsigned i = 0; i < ARRAY_LEN(wrong); i++) {
        struct vm_error err = { "" };
        ck_assert_int_eq(-EINVAL, firmware_smbios(fw, wrong[i][0], &err));
        ck_assert_msg(strstr(err.text, wrong[i][1]), "'%s' lacks '%s'", err.text, wrong[i][1]);
    }
}
END_TEST

START_TEST(a_key_that_nobody_has_reads_as_zeroes)
{
    static const u16 keys[] = { 0x18, 0x20, 0x5f, 0x60, 0x8000, 0xffff };
    for (unsigned i = 0; i < ARRAY_LEN(keys); i++) {
        choose(keys[i]);
        ck_assert_uint_eq(take(4), 0);
    }
}
END_TEST

START_TEST(too_many_files_and_too_long_names_are_refused)
{
    char name[FW_CFG_NAME + 1];
    int rc = 0;
    memset(name, 'n', sizeof name);
    name[FW_CFG_NAME] = 0;
    ck_assert_int_eq(fw_cfg_file(fw, name, "", 0), -EINVAL);
    name[FW_CFG_NAME - 1] = 0;
    for (unsigned i = 0; i < 64 && !rc; i++) rc = fw_cfg_file(fw, name, "", 0);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(fw_cfg_file(fw, name, "", 0), -ENOSPC);
}
END_TEST

CHIP_SUITE("fw_cfg", setup, teardown, its_signature_says_who_it_is_and_that_it_has_dma,
           files_are_found_by_the_directory_and_end_in_zeroes, a_key_that_nobody_has_reads_as_zeroes,
           too_many_files_and_too_long_names_are_refused, words_for_smbios_become_fields_of_its_tables,
           words_for_smbios_that_are_wrong_are_named)
