/* Which code may run without supervision: one instruction at a time, and whole pages; what a page is patched with. */
#include "runtime/direct/scan_page.h"

#include <check.h>
#include <string.h>

static struct decoder *dec;
static u8 page[PAGE_SIZE];
static struct scan_result found;
static const u32 n270 = ~0u & ~(1u << FEAT_MONITOR);
static struct scan_rules rules; /* a host that has all there is */

static void setup(void)
{
    ck_assert_int_eq(decoder_new(&dec), 0);
    memset(page, 0x90, sizeof page);
    rules = (struct scan_rules){ .features = n270, .tzcnt = true, .lzcnt = true, .wide_mxcsr = true };
}
static void teardown(void) { decoder_free(dec); }

static enum scan_verdict verdict(const u16 *starts, unsigned n, const u8 *next)
{
    const struct code_page_bytes p = { page, next, starts, n };
    found.where = 0xffff;
    return scan_page(dec, &rules, &p, &found);
}
static bool scan(const u16 *starts, unsigned n, const u8 *next) { return verdict(starts, n, next) == SCAN_FIT; }

static void put(unsigned at, const char *hex)
{
    unsigned v;
    for (int n; sscanf(hex, "%x%n", &v, &n) == 1; hex += n) page[at++] = (u8)v;
}

/* What the processor would do for itself instead of for the guest, without a trap. */
/* clang-format off */
static const char *const sensitive[] = {
    "0f a2" /* cpuid */, "0f 34" /* sysenter */, "0f 01 00" /* sgdt [eax] */, "0f 01 08" /* sidt */,
    "0f 00 c0" /* sldt eax */, "0f 00 c8" /* str */,
    "0f 01 e0" /* smsw */, "0f 02 c0" /* lar */, "0f 03 c0" /* lsl */, "0f 00 e0" /* verr */, "0f 00 e8" /* verw */,
    "63 c8" /* arpl */,
    "8c d8" /* mov eax, ds */, "8e e8" /* mov gs, eax */, "8e d8" /* mov ds */, "8e d0" /* mov ss */,
    "06" /* push es */, "07" /* pop es */, "1f" /* pop ds */,
    "17" /* pop ss */, "0f a9" /* pop gs */, "0f a0" /* push fs */, "c5 00" /* lds eax, [eax] */, "c4 00" /* les */,
    "0f b2 00" /* lss */, "cf" /* iret */,
    "cb" /* retf */, "ca 04 00", "ff 18" /* call far [eax] */, "ff 28" /* jmp far [eax] */, "9a 00 00 00 00 33 00",
    "ea 00 00 00 00 33 00", "ce" /* into */,
    "cd 03", "cd 04", "f1" /* int1 */, "66 8c d8", "2e 0f a2" /* with a prefix */,
};
/* clang-format on */
/* What traps, or gives the guest's own result. */
/* clang-format off */
static const char *const harmless[] = {
    "9c" /* pushf */, "9d" /* popf */, "0f 31" /* rdtsc */, "cd 80", "cd 21", "cc" /* int3 */, "f4" /* hlt */,
    "fa" /* cli */, "fb", "e4 10" /* in */,
    "ec", "6c" /* ins */, "0f 20 c0" /* mov eax, cr0 */, "0f 22 c0", "0f 0b" /* ud2 */, "0f 08" /* invd */,
    "0f 06" /* clts */, "0f 32" /* rdmsr */, "c3", "e8 00 00 00 00",
    "65 a1 14 00 00 00" /* mov eax, gs:[14h] */, "89 c8", "f3 a4", "d9 c0", "0f 58 c1",
    /* prefixes that mean nothing, or became hints */
    "f3 90" /* pause */, "f3 0f 1e fb" /* endbr32 */, "f3 0f 1e c8" /* rdsspd */, "f3 c3",
    "f2 0f 84 00 00 00 00" /* bnd jz */,
    "f2 f0 01 00" /* xacquire lock add */, "f3 c7 00 00 00 00 00" /* xrelease mov */, "f3 0f 09" /* wbnoinvd: #GP */,
    "0f bc c1", "0f bd c1", "0f ae 18" /* stmxcsr */, "0f 1c 00" /* cldemote */,
    /* #UD for good */
    "0f 0b", "0f b9 c0", "0f ff c0", "ff ff", "fe d0", "8d c0", "8e c8",
};
/* clang-format on */

/* What only newer processors define, or define otherwise. */
/* clang-format off */
static const char *const redefined[] = {
    "f3 0f bc c1" /* tzcnt */, "f3 0f bd c1" /* lzcnt */, "66 f3 0f bc c1", "f2 0f bc c1", "f3 0f b8 c1" /* popcnt */,
    "f2 0f 38 f0 c1" /* crc32 */, "f2 0f 38 f1 c1", "66 0f 38 f6 c1" /* adcx */, "f3 0f 38 f6 c1" /* adox */,
    "0f c7 f0" /* rdrand */, "0f c7 f8" /* rdseed */, "f3 0f c7 f8" /* rdpid */, "66 0f ae 38" /* clflushopt */,
    "66 0f ae 30" /* clwb */, "66 0f ae f0" /* tpause */, "f3 0f ae f0" /* umonitor */, "f3 0f ae e0" /* ptwrite */,
    "0f ae 20" /* xsave */, "0f ae 28" /* xrstor */, "0f c7 20" /* xsavec */, "0f 01 d0" /* xgetbv */,
    "0f 01 f9" /* rdtscp */, "0f 01 fd" /* rdpru */, "0f 01 d6" /* xtest */, "c6 f8 00" /* xabort */,
    "c7 f8 00 00 00 00" /* xbegin */, "c5 f8 77" /* vzeroupper */, "c4 e2 71 00 c2" /* vpshufb */, "c5 f9 6f c1",
    "62 f1 7c 48 58 c1" /* vaddps zmm */, "8f e8 78 c0 c1 01" /* xop */, "0f 0d 00" /* prefetchw */,
    "0f 0f c1 9e" /* 3dnow */, "0f 0e" /* femms */, "66 0f 38 10 c1" /* pblendvb */,
    "66 0f 3a 63 c1 00" /* pcmpistri */, "66 0f 38 dc c1" /* aesenc */, "0f 38 c8 c1" /* sha */,
    "66 0f 79 c1" /* extrq */,
    "f2 0f 2b 00" /* movntsd */, "0f 05" /* syscall */, "0f 01 c8" /* monitor */, "f0 0f af c1", "f3 0f a3 c1",
    "f2 0f af c1",
    /* both have them, and differ */
    "d9 30" /* fnstenv */, "d9 20" /* fldenv */, "dd 30" /* fnsave */, "dd 20" /* frstor */, "0f ae 00" /* fxsave */,
    "0f ae 08" /* fxrstor */, "0f ae 10" /* ldmxcsr */, "37" /* aaa */, "3f", "27", "2f", "d4 0a", "d5 0a",
};
/* clang-format on */

START_TEST(each_instruction_of_other_processors_is_found)
{
    const u16 start = 0x100;
    put(0x100, redefined[_i]);
    ck_assert_msg(!scan(&start, 1, NULL), "%s passes", redefined[_i]);
    ck_assert_msg(found.where == 0x100, "%s found at %03x", redefined[_i], found.where);
}
END_TEST

START_TEST(what_this_host_does_as_the_guests_processor_passes)
{
    const u16 start = 0x100;
    rules.tzcnt = rules.lzcnt = rules.wide_mxcsr = false;
    put(0x100, "f3 0f bc c1 f3 0f bd c1 0f ae 10");
    ck_assert(scan(&start, 1, NULL));
}
END_TEST

START_TEST(what_the_model_lacks_is_found)
{
    static const struct {
        unsigned feature;
        const char *code;
    } lacking[] = { { FEAT_SSE2, "66 0f 58 c1" },         { FEAT_SSSE3, "0f 38 00 c1" }, { FEAT_CMOV, "0f 44 c1" },
                    { FEAT_CMOV, "db c1" /* fcmovnb */ }, { FEAT_MOVBE, "0f 38 f0 00" }, { FEAT_SSE3, "db 08" } };
    const u16 start = 0x100;
    for (unsigned i = 0; i < ARRAY_LEN(lacking); i++) {
        memset(page, 0x90, sizeof page);
        put(0x100, lacking[i].code);
        ck_assert_msg(scan(&start, 1, NULL), "%s", lacking[i].code);
        rules.features &= ~(1u << lacking[i].feature);
        ck_assert_msg(!scan(&start, 1, NULL), "%s passes", lacking[i].code);
        rules.features = n270;
    }
}
END_TEST

START_TEST(each_sensitive_instruction_is_found)
{
    const u16 start = 0x100;
    put(0x100, sensitive[_i]);
    ck_assert_msg(!scan(&start, 1, NULL), "%s passes", sensitive[_i]);
    ck_assert_msg(found.where == 0x100, "%s found at %03x", sensitive[_i], found.where);
}
END_TEST

START_TEST(each_harmless_instruction_passes)
{
    const u16 start = 0x100;
    put(0x100, harmless[_i]);
    ck_assert_msg(scan(&start, 1, NULL), "%s is found at %03x", harmless[_i], found.where);
}
END_TEST

START_TEST(bytes_inside_an_instruction_are_not_instructions)
{
    const u16 start = 0x100;
    put(0x100, "b8 0f a2 0f a2"); /* mov eax, imm32 */
    ck_assert(scan(&start, 1, NULL));
    const u16 inside[] = { 0x100, 0x101 }; /* unless something jumps there */
    ck_assert(!scan(inside, 2, NULL));
    ck_assert_uint_eq(found.where, 0x101);
}
END_TEST

START_TEST(the_page_is_swept_from_its_top_too)
{
    put(0x800, "0f a2");
    ck_assert(!scan(NULL, 0, NULL));
    ck_assert_uint_eq(found.where, 0x800);
}
END_TEST

START_TEST(data_between_functions_does_not_hide_what_follows)
{
    const u16 start = 0x40;
    memset(page + 0x80, 0xff, 64); /* no instruction at all */
    put(0x200, "0f a2");
    ck_assert(!scan(&start, 1, NULL));
    ck_assert_uint_eq(found.where, 0x200);
}
END_TEST

START_TEST(the_first_bytes_may_belong_to_an_instruction_of_the_page_before)
{
    put(0, "cf 0f a2"); /* the rest of an immediate, say */
    ck_assert(scan(NULL, 0, NULL));
    const u16 start = 1;
    ck_assert(!scan(&start, 1, NULL));
}
END_TEST

START_TEST(an_instruction_that_straddles_is_seen_whole)
{
    const u8 cpuid_next[16] = { 0xa2 }, other_next[16] = { 0xaf, 0xc0 };
    put(PAGE_SIZE - 1, "0f");
    ck_assert(!scan(NULL, 0, cpuid_next));
    ck_assert_uint_eq(found.where, PAGE_SIZE - 1);
    ck_assert(scan(NULL, 0, other_next)); /* imul eax, eax */
}
END_TEST

/* The first constants of SHA-256, as OpenSSL has them between two functions: CF is IRET, 2F DAS, 07 POP ES. */
static const char sha_table[] =
    "98 2f 8a 42 91 44 37 71 cf fb c0 b5 a5 db b5 e9 5b c2 56 39 f1 11 f1 59 a4 82 3f 92 d5 5e 1c ab "
    "98 aa 07 d8 01 5b 83 12 be 85 31 24 c3 7d 0c 55 74 5d be 72 fe b1 de 80 a7 06 dc 9b 74 f1 9b c1 "
    "c1 69 9b e4 86 47 be ef c6 9d c1 0f cc a1 0c 24 6f 2c e9 2d aa 84 74 4a dc a9 b0 5c da 88 f9 76";

START_TEST(a_table_between_functions_is_no_code)
{
    const u16 start = 0x100;
    put(0x100, "89 c8 c3");
    put(0x110, sha_table);
    put(0x180, "89 c8 c3");
    ck_assert_msg(scan(&start, 1, NULL), "unfit at %03x", found.where);
}
END_TEST

START_TEST(a_table_that_code_goes_to_is_code)
{
    const u16 start = 0x100;
    put(0x110, sha_table);
    put(0x100, "85 c0 74 2e c3"); /* test eax, eax; jz 132h, where 07 is */
    ck_assert(!scan(&start, 1, NULL));
    ck_assert_uint_eq(found.where, 0x132);
    put(0x100, "85 c0 90 90 c3");
    const u16 known[] = { 0x100, 0x132 }; /* translated code has been there */
    ck_assert(!scan(known, 2, NULL));
    ck_assert_uint_eq(found.where, 0x132);
}
END_TEST

START_TEST(instructions_of_the_system_count_even_in_tables)
{
    static const char *const bytes[] = { "0f a2",    "0f 01 00", "0f 34", "0f ae 00",
                                         "0f 02 c0", "cd 03",    "d9 30", "dd 74 24 08" };
    const u16 start = 0x100;
    for (unsigned i = 0; i < ARRAY_LEN(bytes); i++) {
        memset(page, 0x90, sizeof page);
        put(0x100, "89 c8 c3");
        memset(page + 0x103, 0xf1, 0x100);
        put(0x110, bytes[i]);
        put(0x118, "fb"); /* sti: it is data */
        ck_assert_msg(!scan(&start, 1, NULL), "%s", bytes[i]);
        ck_assert_uint_eq(found.where, 0x110);
    }
}
END_TEST

/* As in cc1: the page begins inside an instruction, and is in step much later. */
START_TEST(the_end_of_a_function_that_begins_on_the_page_before_is_no_code_of_its_own)
{
    const u16 start = 0x40;
    put(0, "24 08 c7 44 24 04 00 00 00 00 c7 04 24 01 00 00 00 c7 44 24 1e 06 00 00 00 1f c3");
    put(0x1d, "90");
    ck_assert_msg(scan(&start, 1, NULL), "unfit at %03x", found.where);
}
END_TEST

START_TEST(what_a_branch_a_call_and_the_way_past_a_branch_reach_is_code)
{
    static const struct {
        const char *code;
        unsigned at;
    } ways[] = {
        { "74 3e c3", 0x140 }, { "0f 84 3a 00 00 00 c3", 0x140 }, { "eb 3e", 0x140 }, { "e8 3b 00 00 00 c3", 0x140 },
        { "e2 3e c3", 0x140 }, { "74 02 c3 90 06 c3", 0x104 },
    };
    const u16 start = 0x100;
    for (unsigned i = 0; i < ARRAY_LEN(ways); i++) {
        memset(page, 0x90, sizeof page);
        memset(page + 0x110, 0xfb, 0x100); /* data */
        put(0x140, "06");
        put(0x100, ways[i].code);
        if (ways[i].at != 0x140) page[0x140] = 0xfb;
        ck_assert_msg(!scan(&start, 1, NULL), "%s passes", ways[i].code);
        ck_assert_msg(found.where == ways[i].at, "%s: found at %03x", ways[i].code, found.where);
    }
}
END_TEST

/* What nobody has come to may do as the host does where that shows at the next exit, or stands behind a CPUID. */
START_TEST(bytes_that_are_not_known_to_be_code_count_only_if_they_are_rare_in_data)
{
    static const char *const bytes[] = {
        "06", "8e e8", "0f a9",          "cb",          "0f b2 00",         "f3 0f bc c1", "0f ae 10", "d9 20",
        "27", "c4 00", "66 0f 38 dc c1", "0f 38 c8 c1", "c7 f8 00 00 00 00"
    };
    const u16 start = 0x100;
    for (unsigned i = 0; i < ARRAY_LEN(bytes); i++) {
        memset(page, 0x90, sizeof page);
        put(0x100, "89 c8 e8 f9 0e 00 00"); /* mov eax, ecx; call elsewhere: nobody knows whether it comes back */
        put(0x107, bytes[i]);
        ck_assert_msg(scan(&start, 1, NULL), "%s: unfit at %03x", bytes[i], found.where);
        const u16 known[] = { 0x100, 0x107 };
        ck_assert_msg(!scan(known, 2, NULL), "%s passes once it has been executed", bytes[i]);
        ck_assert_uint_eq(found.where, 0x107);
    }
}
END_TEST

START_TEST(known_code_traps_at_the_first_byte_of_each_sensitive_instruction)
{
    const u16 start = 0x100;
    rules.execute_only = true;
    put(0x100, "85 c0 74 3c 2e 0f a2 66 8c d8 c3"); /* test; jz 140h; cs: cpuid; mov ax, ds; ret */
    put(0x140, "0f 34");                            /* sysenter */
    ck_assert_int_eq(verdict(&start, 1, NULL), SCAN_PATCHED);
    const u16 at[] = { 0x104, 0x107, 0x140 };
    ck_assert_uint_eq(found.n, ARRAY_LEN(at));
    for (unsigned i = 0; i < ARRAY_LEN(at); i++) {
        ck_assert_uint_eq(found.patch[i].at, at[i]);
        ck_assert_uint_eq(found.patch[i].byte, 0xf4);
    }
    rules.execute_only = false; /* nothing keeps the patches from being read */
    ck_assert_int_eq(verdict(&start, 1, NULL), SCAN_UNFIT);
    ck_assert_uint_eq(found.where, 0x104);
}
END_TEST

START_TEST(each_sensitive_instruction_that_is_known_can_be_patched_but_for_those_that_show_x87_pointers)
{
    const u16 start = 0x100;
    const char *hex = _i < (int)ARRAY_LEN(sensitive) ? sensitive[_i] : redefined[_i - (int)ARRAY_LEN(sensitive)];
    rules.execute_only = true;
    put(0x100, hex);
    if (!strcmp(hex, "d9 30") || !strcmp(hex, "dd 30") || !strcmp(hex, "0f ae 00")) {
        ck_assert_msg(verdict(&start, 1, NULL) == SCAN_UNFIT, "%s", hex);
        return;
    }
    ck_assert_msg(verdict(&start, 1, NULL) == SCAN_PATCHED, "%s", hex);
    ck_assert_uint_eq(found.n, 1);
    ck_assert_uint_eq(found.patch[0].at, 0x100);
}
END_TEST

START_TEST(a_repeat_prefix_of_a_bit_scan_becomes_the_prefix_of_the_segment_that_it_uses)
{
    static const struct {
        const char *code;
        u8 byte;
    } scans[] = {
        { "f3 0f bc c1", 0x3e },    { "f3 0f bd 00", 0x3e },    { "f3 0f bc 45 00", 0x36 }, { "f3 0f bd 04 24", 0x36 },
        { "f3 66 0f bc c1", 0xf4 }, { "65 f3 0f bc 00", 0xf4 }, { "f2 0f bc c1", 0xf4 },
    };
    const u16 start = 0x100;
    rules.execute_only = true;
    for (unsigned i = 0; i < ARRAY_LEN(scans); i++) {
        memset(page, 0x90, sizeof page);
        put(0x100, scans[i].code);
        ck_assert_msg(verdict(&start, 1, NULL) == SCAN_PATCHED, "%s", scans[i].code);
        ck_assert_uint_eq(found.n, 1);
        ck_assert_msg(found.patch[0].byte == scans[i].byte, "%s: %02x", scans[i].code, found.patch[0].byte);
    }
}
END_TEST

START_TEST(what_is_also_inside_of_another_instruction_is_not_changed)
{
    rules.execute_only = true;
    put(0x100, "b8 0f a2 00 00 c3"); /* mov eax, 0a20fh */
    const u16 both[] = { 0x100, 0x101 };
    ck_assert_int_eq(verdict(both, 2, NULL), SCAN_UNFIT);
    ck_assert_uint_eq(found.where, 0x101);
    const u16 reversed[] = { 0x101, 0x100 };
    ck_assert_int_eq(verdict(reversed, 2, NULL), SCAN_UNFIT);
    ck_assert_int_eq(verdict(both + 1, 1, NULL), SCAN_PATCHED);
    memset(page, 0x90, sizeof page); /* an instruction of the page before may go on here */
    put(0x00d, "0f a2 c3");
    const u16 top[] = { 0x00d };
    ck_assert_int_eq(verdict(top, 1, NULL), SCAN_UNFIT);
    put(0x00d, "90 0f a2 c3");
    ck_assert_int_eq(verdict(top, 1, NULL), SCAN_PATCHED);
}
END_TEST

START_TEST(a_page_with_too_many_of_them_is_unfit)
{
    const u16 start = 0x100;
    rules.execute_only = true;
    memset(page + 0x100, 0x06, SCAN_PATCHES_MAX);
    ck_assert_int_eq(verdict(&start, 1, NULL), SCAN_PATCHED);
    ck_assert_uint_eq(found.n, SCAN_PATCHES_MAX);
    page[0x100 + SCAN_PATCHES_MAX] = 0x06;
    ck_assert_int_eq(verdict(&start, 1, NULL), SCAN_UNFIT);
}
END_TEST

/* The rest of an assertion's code in Debian's libc, whose displacement ends in FF; here it ends in 0F A2. */
START_TEST(an_operand_of_code_that_nobody_has_come_to_is_not_changed)
{
    static const char code[] =
        "50 e8 49 e5 f8 ff 8d 90 b0 f4 f9 ff 52 8d 90 2c a3 f9 ff 8d 80 68 f4 0f a2 68 c3 02 00 00";
    const u16 start = 0x040;
    rules.execute_only = true;
    put(0x40, "c3");
    for (unsigned at = 0x100; at < 0x140; at++) {
        memset(page + 0x41, 0x90, sizeof page - 0x41);
        put(at, code);
        ck_assert_msg(verdict(&start, 1, NULL) == SCAN_FIT, "at %03x: patched at %03x", at, found.where);
    }
    put(0x200, "53 31 c0 0f a2 89 5d f8 89 4d f4 5b c3"); /* a function that has it */
    ck_assert_int_eq(verdict(&start, 1, NULL), SCAN_PATCHED);
    ck_assert_uint_eq(found.n, 1);
    ck_assert_uint_eq(found.patch[0].at, 0x203);
}
END_TEST

/* Of OpenSSL, whose function of CPUIDs straddles into the page of the one that clears memory. */
START_TEST(what_nobody_has_come_to_is_patched_near_the_top_of_a_page_too_if_decoding_agrees)
{
    static const char code[] =
        "ba e2 1c 0f 83 83 00 00 00 c1 eb 10 81 e3 ff 00 00 00 39 f3 77 76 81 e2 ff ff ff ef eb 6e 83 ff "
        "04 be ff ff ff ff 72 17 b8 04 00 00 00 b9 00 00 00 00 0f a2 89 c6 c1 ee 0e 81 e6 ff 0f 00 00 b8";
    const u16 start = 0x200;
    rules.execute_only = true;
    put(0x200, "c3");
    put(0, code); /* at +032, as there */
    ck_assert_int_eq(verdict(&start, 1, NULL), SCAN_PATCHED);
    ck_assert_uint_eq(found.n, 1);
    ck_assert_uint_eq(found.patch[0].at, 0x032);
    put(0, code + 3 * 18); /* at +020, the first place where decodings from sixteen bytes agree */
    ck_assert_int_eq(verdict(&start, 1, NULL), SCAN_PATCHED);
    ck_assert_uint_eq(found.patch[0].at, 0x020);
    put(0, code + 3 * 19); /* one less: too few for a copy */
    ck_assert_int_eq(verdict(&start, 1, NULL), SCAN_UNFIT);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("scan_page");
    TCase *t = tcase_create("scan_page");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, each_sensitive_instruction_is_found, 0, ARRAY_LEN(sensitive));
    tcase_add_loop_test(t, each_harmless_instruction_passes, 0, ARRAY_LEN(harmless));
    tcase_add_loop_test(t, each_instruction_of_other_processors_is_found, 0, ARRAY_LEN(redefined));
    tcase_add_test(t, what_this_host_does_as_the_guests_processor_passes);
    tcase_add_test(t, what_the_model_lacks_is_found);
    tcase_add_test(t, bytes_inside_an_instruction_are_not_instructions);
    tcase_add_test(t, the_page_is_swept_from_its_top_too);
    tcase_add_test(t, data_between_functions_does_not_hide_what_follows);
    tcase_add_test(t, the_first_bytes_may_belong_to_an_instruction_of_the_page_before);
    tcase_add_test(t, an_instruction_that_straddles_is_seen_whole);
    tcase_add_test(t, a_table_between_functions_is_no_code);
    tcase_add_test(t, a_table_that_code_goes_to_is_code);
    tcase_add_test(t, instructions_of_the_system_count_even_in_tables);
    tcase_add_test(t, the_end_of_a_function_that_begins_on_the_page_before_is_no_code_of_its_own);
    tcase_add_test(t, what_a_branch_a_call_and_the_way_past_a_branch_reach_is_code);
    tcase_add_test(t, bytes_that_are_not_known_to_be_code_count_only_if_they_are_rare_in_data);
    tcase_add_test(t, known_code_traps_at_the_first_byte_of_each_sensitive_instruction);
    tcase_add_loop_test(t, each_sensitive_instruction_that_is_known_can_be_patched_but_for_those_that_show_x87_pointers,
                        0, ARRAY_LEN(sensitive) + ARRAY_LEN(redefined));
    tcase_add_test(t, a_repeat_prefix_of_a_bit_scan_becomes_the_prefix_of_the_segment_that_it_uses);
    tcase_add_test(t, what_is_also_inside_of_another_instruction_is_not_changed);
    tcase_add_test(t, an_operand_of_code_that_nobody_has_come_to_is_not_changed);
    tcase_add_test(t, what_nobody_has_come_to_is_patched_near_the_top_of_a_page_too_if_decoding_agrees);
    tcase_add_test(t, a_page_with_too_many_of_them_is_unfit);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
