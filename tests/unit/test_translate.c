/* translate.c and the lowering behind it: what becomes of single instructions, where the way they are done matters for
 * more than speed. Golden code of the ordinary cases is in tests/emit. */
#include "tests/emit/host_check.h"

#include <check.h>

static struct xlf off, on; /* without and with windows */
static struct host_check h;

static void setup(void)
{
    xlf_init(&off, 4 << 20, false, 0);
    xlf_init(&on, 4 << 20, true, 0);
    host_check_init(&h);
}
static void teardown(void)
{
    xlf_free(&off);
    xlf_free(&on);
    host_check_free(&h);
}

#define EIP 0x00401000u
static struct block *make(struct xlf *f, u32 mode, const char *bytes, unsigned n)
{
    u8 code[64];
    memset(code, 0x90, sizeof code);
    memcpy(code, bytes, n);
    code[n] = 0xc3; /* ret: no fall-through */
    xl_flush(f->xl);
    struct block *b = xlf_translate(f, EIP, mode, code, sizeof code);
    const char *err = host_check_block(&h, f, b);
    if (err) ck_abort_msg("%s", err);
    return b;
}
#define MAKE(f, mode, bytes) make(f, mode, bytes, sizeof(bytes) - 1)

/* The whole block is a call of CALLOUT_EMULATE. */
static bool interpreted(struct xlf *f, const struct block *b)
{
    u8 load[] = { 0x4d, 0x8b, 0x8f, 0, 0, 0, 0 }; /* mov r9, [r15+helper]; after a mov r8d, eip */
    const u32 helper = offsetof(struct cpu, helpers) + 8 * HELPER_STEP;
    const u8 call[] = { 0x41, 0xff, 0x57, offsetof(struct cpu, callouts) + 8 * CALLOUT_HELPER };
    memcpy(load + 3, &helper, 4);
    const u8 *host = xlf_host(f, b);
    return b->ninsns == 1 && b->host_len == 6 + sizeof load + sizeof call && !memcmp(host + 6, load, sizeof load)
           && !memcmp(host + 6 + sizeof load, call, sizeof call);
}

static bool contains(const struct xlf *f, const struct block *b, const char *bytes, unsigned n)
{
    for (unsigned i = 0; i + n <= b->host_len; i++)
        if (!memcmp(xlf_host(f, b) + i, bytes, n)) return true;
    return false;
}
#define CONTAINS(f, b, bytes) contains(f, b, bytes, sizeof(bytes) - 1)

START_TEST(opcode_82_becomes_80)
{
    struct block *b = MAKE(&off, MODE_FLAT, "\x82\xc1\x05"); /* add cl, 5 */
    ck_assert(CONTAINS(&off, b, "\x80\xc1\x05"));
    ck_assert(!CONTAINS(&off, b, "\x82\xc1"));
}
END_TEST

START_TEST(high_byte_registers_never_meet_a_rex_prefix)
{
    /* mov ah, fs:[eax] and mov ah, [esp]: any host address of guest memory needs a REX prefix, so it goes through RSI.
     * host_check looks for SPL. */
    ck_assert(CONTAINS(&on, MAKE(&on, MODE_FLAT, "\x64\x8a\x20"), "\x8a\x26"));
    ck_assert(CONTAINS(&on, MAKE(&on, MODE_FLAT, "\x8a\x24\x24"), "\x8a\x26"));
    ck_assert(interpreted(&off, MAKE(&off, MODE_FLAT, "\x0f\xb6\xe4")));    /* movzx esp, ah */
    ck_assert(CONTAINS(&on, MAKE(&on, MODE_FLAT, "\x8a\x20"), "\x8a\x26")); /* mov ah, [eax] */
    ck_assert(!interpreted(&off, MAKE(&off, MODE_FLAT, "\x64\x8a\x20")));
}
END_TEST

START_TEST(addresses_of_16_bits_are_interpreted)
{
    ck_assert(interpreted(&off, MAKE(&off, MODE_FLAT, "\x67\xd7")));     /* xlat [bx] */
    ck_assert(interpreted(&off, MAKE(&off, MODE_FLAT, "\x67\x8b\x07"))); /* mov eax, [bx] */
    ck_assert(interpreted(&off, MAKE(&off, MODE_FLAT, "\x67\xa4")));     /* movsb [di], [si] */
    ck_assert(interpreted(&off, MAKE(&off, MODE_FLAT, "\x67\xe2\x00"))); /* loop, counting CX */
    ck_assert(interpreted(&off, MAKE(&off, MODE_FLAT, "\x67\xe3\x00"))); /* jcxz */
    ck_assert(!interpreted(&off, MAKE(&off, MODE_FLAT, "\xd7")));
}
END_TEST

START_TEST(writes_through_CS_are_interpreted_and_reads_are_not)
{
    ck_assert(interpreted(&off, MAKE(&off, MODE_FLAT, "\x2e\x89\x03"))); /* mov cs:[ebx], eax */
    ck_assert(interpreted(&off, MAKE(&off, MODE_FLAT, "\x2e\xa3\x00\x10\x00\x00")));
    ck_assert(interpreted(&off, MAKE(&off, MODE_FLAT, "\x2e\x0f\xab\x03"))); /* bts cs:[ebx], eax */
    ck_assert(interpreted(&off, MAKE(&off, MODE_FLAT, "\x2e\x8f\x03")));     /* pop cs:[ebx] */
    ck_assert(!interpreted(&off, MAKE(&off, MODE_FLAT, "\x2e\x8b\x03")));
    ck_assert(!interpreted(&off, MAKE(&off, MODE_FLAT, "\x2e\x39\x03"))); /* cmp cs:[ebx], eax */
    ck_assert(!interpreted(&off, MAKE(&off, MODE_FLAT, "\x66\x2e\x0f\x1f\x84\x00\x00\x00\x00\x00"))); /* a compiler's
                                                                                                         long NOP */
}
END_TEST

START_TEST(operands_of_16_bits_on_the_stack_and_in_transfers_are_interpreted)
{
    static const char *const code[] = {
        "\x66\x50", "\x66\x58", "\x66\xc9", "\x66\xc3", "\x66\xe8\x00\x00", "\x66\xeb\x00", "\x66\x0f\x84\x00\x00",
        "\x66\x9c", "\x66\xcf"
    };
    static const unsigned len[] = { 2, 2, 2, 2, 4, 3, 5, 2, 2 };
    for (unsigned i = 0; i < ARRAY_LEN(code); i++)
        ck_assert_msg(interpreted(&off, make(&off, MODE_FLAT, code[i], len[i])), "case %u", i);
}
END_TEST

START_TEST(privileged_instructions_are_inline_at_CPL_0_only)
{
    static const char *const code[] = { "\xfa", "\xfb", "\x0f\x20\xc0", "\x9d", "\x0f\x01\x38" };
    static const unsigned len[] = { 1, 1, 3, 1, 3 };
    for (unsigned i = 0; i < ARRAY_LEN(code); i++) {
        ck_assert_msg(!interpreted(&off, make(&off, MODE_FLAT, code[i], len[i])), "case %u", i);
        for (u32 cpl = 1; cpl <= 3; cpl++)
            ck_assert_msg(interpreted(&off, make(&off, MODE_FLAT | cpl, code[i], len[i])), "case %u CPL %u", i, cpl);
    }
    for (u32 cpl = 0; cpl <= 3; cpl++) ck_assert(!interpreted(&off, make(&off, MODE_FLAT | cpl, "\x0f\x31", 2)));
}
END_TEST

#define LOAD_EAX_EBX "\x41\x8b\x04\x1c" /* mov eax, [r12 + rbx] */
#define LOAD_ECX_EBX "\x41\x8b\x0c\x1c"
#define LOAD_EAX_R8 "\x43\x8b\x04\x04"

START_TEST(a_window_serves_CPL_0_and_users_that_have_one)
{
    const u32 mode[] = { MODE_FLAT, MODE_FLAT | 1, MODE_USER, MODE_USER | MK_UWINDOW };
    const bool expect[] = { true, false, false, true };
    for (unsigned i = 0; i < ARRAY_LEN(mode); i++) {
        struct block *b = MAKE(&on, mode[i], "\x8b\x03"); /* mov eax, [ebx] */
        ck_assert_int_eq(CONTAINS(&on, b, LOAD_EAX_EBX), expect[i]);
    }
}
END_TEST

START_TEST(what_the_interpreter_does_ends_a_block)
{
    static const struct {
        const char *bytes;
        unsigned n;
    } last[] = { { "\x0f\xa2", 2 }, { "\x37", 1 },     { "\x27", 1 },
                 { "\x0f\x0b", 2 }, { "\x0f\xff", 2 }, { "\x67\xa1\0\0", 4 } };
    for (unsigned i = 0; i < ARRAY_LEN(last); i++) {
        u8 code[16];
        memset(code, 0x40, sizeof code);
        memcpy(code + 1, last[i].bytes, last[i].n);
        struct block *b = xlf_translate(&off, EIP + 0x20 * i, MODE_FLAT, code, sizeof code);
        ck_assert_msg(b->ninsns == 2, "case %u: %u instructions", i, b->ninsns);
        ck_assert_uint_eq(b->guest_len, 1 + last[i].n);
    }
}
END_TEST

START_TEST(a_soft_site_leaves_the_window_from_the_next_translation_on)
{
    xl_site_fault(on.xl, EIP, false);
    ck_assert(!CONTAINS(&on, MAKE(&on, MODE_FLAT, "\x8b\x03"), LOAD_EAX_EBX));
    struct block *b = MAKE(&on, MODE_FLAT, "\x8b\x0b\x8b\x03"); /* the site is the first of two */
    ck_assert(!CONTAINS(&on, b, LOAD_ECX_EBX));
    ck_assert(CONTAINS(&on, b, LOAD_EAX_EBX));
}
END_TEST

START_TEST(a_soft_site_goes_back_when_its_time_has_come_and_waits_twice_as_long_the_next_time)
{
    u32 now = 0, wait = SITE_FIRST_WAIT;
    for (unsigned round = 0; round < 4; round++, wait *= 2) {
        xl_site_fault(on.xl, EIP, false);
        struct block *b = MAKE(&on, MODE_FLAT, "\x8b\x03");
        for (unsigned i = 0; i < 64; i++) xl_sites_age(on.xl, now + wait - 1, 8);
        ck_assert(xl_block_live(b));
        ck_assert_uint_eq(xl_usage(on.xl).soft_sites, 1);
        now += wait;
        for (unsigned i = 0; i < 64; i++) xl_sites_age(on.xl, now, 8);
        ck_assert(!xl_block_live(b));
        ck_assert_uint_eq(xl_usage(on.xl).soft_sites, 0);
        ck_assert_uint_eq(on.ctr.site_back, round + 1);
        ck_assert(CONTAINS(&on, MAKE(&on, MODE_FLAT, "\x8b\x03"), LOAD_EAX_EBX));
    }
}
END_TEST

START_TEST(an_address_that_wraps_is_computed_in_32_bits_and_one_that_may_from_the_first_fault_on)
{
    ck_assert(CONTAINS(&on, MAKE(&on, MODE_FLAT, "\x8b\x43\xf8"), "\x41\x8b\x44\x1c\xf8")); /* [ebx - 8] */
    ck_assert(CONTAINS(&on, MAKE(&on, MODE_FLAT, "\x8b\x83\x78\x56\x34\x12"),
                       "\x41\x8b\x84\x1c\x78\x56\x34\x12"));                                 /* [ebx + 0x12345678] */
    ck_assert(CONTAINS(&on, MAKE(&on, MODE_FLAT, "\x8b\x83\x78\x56\x34\xc2"), LOAD_EAX_R8)); /* [ebx + 0xc2345678]: a
                                                                                                kernel's table */
    ck_assert(CONTAINS(&on, MAKE(&on, MODE_FLAT, "\xa1\x78\x56\x34\xc2"), "\x41\xb8\x78\x56\x34\xc2" LOAD_EAX_R8));
    ck_assert(CONTAINS(&on, MAKE(&on, MODE_FLAT, "\x8b\x04\x8b"), LOAD_EAX_R8)); /* [ebx + ecx*4] */
    xl_site_fault(on.xl, EIP, true);
    ck_assert(CONTAINS(&on, MAKE(&on, MODE_FLAT, "\x8b\x43\xf8"), LOAD_EAX_R8));
    xl_site_fault(on.xl, EIP, true); /* the sum in 32 bits leads out of the window: across its end */
    ck_assert(!CONTAINS(&on, MAKE(&on, MODE_FLAT, "\x8b\x43\xf8"), LOAD_EAX_R8));
    ck_assert_uint_eq(on.ctr.site_wrap, 1);
    ck_assert_uint_eq(on.ctr.site_soft, 1);
}
END_TEST

START_TEST(every_disabled_class_is_interpreted)
{
    static const struct {
        enum insn_class cls;
        const char *code;
        unsigned len;
    } probe[] = {
        { CLS_int, "\x01\xd8", 2 },     { CLS_stack, "\x50", 1 },       { CLS_ctl, "\xc3", 1 },
        { CLS_string, "\xa4", 1 },      { CLS_bcd, "\xd7", 1 },         { CLS_flag, "\x9c", 1 },
        { CLS_seg, "\x1e", 1 },         { CLS_sys, "\x0f\x31", 2 },     { CLS_x87, "\xd9\xe8", 2 },
        { CLS_mmx, "\x0f\xef\xc0", 3 }, { CLS_sse, "\x0f\x57\xc0", 3 },
    };
    for (unsigned i = 0; i < ARRAY_LEN(probe); i++)
        for (unsigned cls = 0; cls < CLS_COUNT; cls++) {
            off.xl->cfg.opt.disabled = 1u << cls;
            struct block *b = make(&off, MODE_FLAT, probe[i].code, probe[i].len);
            ck_assert_msg(interpreted(&off, b) == (cls == probe[i].cls), "probe %u with class %u disabled", i, cls);
        }
}
END_TEST

START_TEST(a_block_of_the_largest_instructions_has_room)
{
    /* MOVSW and CMPSW with both segments based; xchg fs:[eax+ecx*8+disp32], ax; mov fs:[..], ds; mov ds, fs:[..], which
     * ends a block */
    static const char *const code[] = { "\x66\xa5", "\x66\x64\x87\x84\xc8\x78\x56\x34\x12", "\x66\xa7",
                                        "\x66\x64\x8c\x9c\xc8\x78\x56\x34\x12", "\x64\x8e\x9c\xc8\x78\x56\x34\x12" };
    static const unsigned len[] = { 2, 9, 2, 9, 8 };
    for (unsigned i = 0; i < ARRAY_LEN(code); i++)
        for (unsigned lead = 0; lead < 16; lead++) { /* shifts the islands */
            u8 guest[512];
            memset(guest, 0x90, sizeof guest);
            unsigned n = 0;
            guest[n++] = 0x8b, guest[n++] = 0x03; /* mov eax, [ebx]: an island is open from here on */
            for (unsigned k = 0; k < lead; k++) guest[n++] = k & 1 ? 0x40 : 0x43;
            for (unsigned k = 0; k < XL_MAX_INSNS; k++) memcpy(guest + n, code[i], len[i]), n += len[i];
            xl_flush(off.xl);
            struct block *b = xlf_translate(&off, EIP, MODE_BARE, guest, sizeof guest);
            const char *err = host_check_block(&h, &off, b);
            ck_assert_msg(!err, "%s", err);
            if (i < 4) ck_assert_int_eq(b->ninsns, XL_MAX_INSNS);
        }
}
END_TEST

START_TEST(control_goes_on_behind_INVLPG_through_the_jump_cache)
{
    /* An edge would lead on in the page as it was mapped before. */
    struct block *b = MAKE(&off, MODE_FLAT, "\x0f\x01\x38");
    ck_assert(!b->edge[0].from);
    b = MAKE(&off, MODE_FLAT, "\x9d"); /* popf ends a block as well, but changes no mapping */
    ck_assert(b->edge[0].from);
}
END_TEST

START_TEST(a_full_cache_is_emptied_and_says_so)
{
    struct xlf f;
    unsigned evictions = 0;
    u8 code[32];
    memset(code, 0x90, sizeof code);
    code[0] = 0x8b, code[1] = 0x03, code[2] = 0xc3;
    xlf_init(&f, XL_CACHE_MIN, false, 0);
    for (unsigned i = 0; i < 3000; i++) {
        struct xl_source src = xlf_source(EIP + i * 16, MODE_FLAT, code, 4);
        bool evicted;
        struct block *b = xl_translate(f.xl, &src, &evicted);
        evictions += evicted;
        ck_assert(xlf_find(f.xl, src.eip, src.pa, src.mode) == b);
        if (evicted) ck_assert_ptr_null(xlf_find(f.xl, EIP, EIP, MODE_FLAT));
        ck_assert_uint_le(xl_usage(f.xl).cache_used, XL_CACHE_MIN);
    }
    ck_assert_uint_gt(evictions, 2);
    ck_assert_uint_eq(f.ctr.evictions, evictions);
    xlf_free(&f);
}
END_TEST

START_TEST(counters_count)
{
    u64 blocks = off.ctr.blocks, insns = off.ctr.guest_insns, bytes = off.ctr.guest_bytes;
    struct block *b = MAKE(&off, MODE_FLAT, "\x40\x43\x83\xc0\x05");
    ck_assert_uint_eq(off.ctr.blocks - blocks, 1);
    ck_assert_uint_eq(off.ctr.guest_insns - insns, 4);
    ck_assert_uint_eq(off.ctr.guest_bytes - bytes, 6);
    ck_assert_uint_eq(b->guest_len, 6);
}
END_TEST

START_TEST(absurd_cache_sizes_are_refused)
{
    struct xl_config cfg = off.xl->cfg;
    const u64 bad[] = { 0, 1, XL_CACHE_MIN - 1, (u64)XL_CACHE_MAX + 1, 1ull << 40 };
    struct xl *xl;
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        cfg.cache_bytes = bad[i];
        ck_assert_int_lt(xl_new(&xl, &cfg), 0);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("translate");
    TCase *t = tcase_create("lowering");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, opcode_82_becomes_80);
    tcase_add_test(t, high_byte_registers_never_meet_a_rex_prefix);
    tcase_add_test(t, addresses_of_16_bits_are_interpreted);
    tcase_add_test(t, writes_through_CS_are_interpreted_and_reads_are_not);
    tcase_add_test(t, operands_of_16_bits_on_the_stack_and_in_transfers_are_interpreted);
    tcase_add_test(t, privileged_instructions_are_inline_at_CPL_0_only);
    tcase_add_test(t, a_window_serves_CPL_0_and_users_that_have_one);
    tcase_add_test(t, what_the_interpreter_does_ends_a_block);
    tcase_add_test(t, a_soft_site_leaves_the_window_from_the_next_translation_on);
    tcase_add_test(t, a_soft_site_goes_back_when_its_time_has_come_and_waits_twice_as_long_the_next_time);
    tcase_add_test(t, an_address_that_wraps_is_computed_in_32_bits_and_one_that_may_from_the_first_fault_on);
    tcase_add_test(t, every_disabled_class_is_interpreted);
    tcase_add_test(t, a_block_of_the_largest_instructions_has_room);
    tcase_add_test(t, control_goes_on_behind_INVLPG_through_the_jump_cache);
    tcase_add_test(t, a_full_cache_is_emptied_and_says_so);
    tcase_add_test(t, counters_count);
    tcase_add_test(t, absurd_cache_sizes_are_refused);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
