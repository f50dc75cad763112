/* policy.c: instruction and mode to the way it is done. */
#include "tests/emit/xl_fixture.h"
#include "translator/lower/island.h"
#include "translator/lower/lower_ctl.h"
#include "translator/lower/lower_far.h"
#include "translator/lower/lower_int.h"
#include "translator/lower/lower_string.h"
#include "translator/lower/lower_sys.h"
#include "translator/lower/policy.h"

#include <check.h>

static struct xlf f;
static struct insn in;
static struct xl_source src;
static struct xl_ctx x;

static void setup(void) { xlf_init(&f, XL_CACHE_MIN, false, 0); }
static void teardown(void) { xlf_free(&f); }

static lower_fn *policy(u32 mode, const char *bytes, unsigned n)
{
    ck_assert_int_eq(decode(f.dec, (const u8 *)bytes, n, 0x401000, true, ~0u, &in), DECODE_OK);
    src = (struct xl_source){ .mode = mode };
    x = (struct xl_ctx){ .opt = &f.xl->cfg.opt, .src = &src };
    return xl_policy(&x, &in);
}
#define POLICY(mode, bytes) policy(mode, bytes, sizeof(bytes) - 1)

START_TEST(every_mode_is_translated_but_single_steps)
{
    ck_assert(xl_can_translate(MODE_FLAT));
    ck_assert(xl_can_translate(MODE_USER | MK_UWINDOW));
    ck_assert(xl_can_translate(0)); /* real */
    ck_assert(xl_can_translate(3 | MK_PE | MK_VM));
    ck_assert(!xl_can_translate(MODE_FLAT | MK_SLOW));
    ck_assert(!xl_can_translate(MK_SLOW));
}
END_TEST

START_TEST(code_is_segmented_unless_it_is_32_bit_protected_mode_on_such_a_stack_without_a_code_limit)
{
    ck_assert(!mode_segmented(MODE_FLAT));
    ck_assert(!mode_segmented(MODE_BARE));
    ck_assert(!mode_segmented(MODE_FLAT & ~(u32)MK_CSFLAT)); /* with a base */
    const u32 need[] = { MK_PE, MK_CS32, MK_SS32 };
    for (unsigned i = 0; i < ARRAY_LEN(need); i++) ck_assert(mode_segmented(MODE_FLAT & ~need[i]));
    ck_assert(mode_segmented(MODE_FLAT | MK_VM));
    ck_assert(mode_segmented((MODE_FLAT & ~(u32)MK_CSFLAT) | MK_CSLIMIT));
    ck_assert_uint_eq(mode_translated(MODE_FLAT | MK_ARMED), MODE_FLAT);
    ck_assert_uint_eq(mode_translated(MODE_FLAT & ~(u32)MK_CS32), MK_PE | MK_PG | MK_SS32); /* no segment is flat */
}
END_TEST

START_TEST(strings_are_inline_and_repeated_ones_a_helper_where_segments_are_flat)
{
    ck_assert(POLICY(MODE_BARE, "\xa5") == lower_string);
    ck_assert(POLICY(MODE_FLAT, "\xf3\xa5") == lower_rep_string);
    ck_assert(POLICY(MODE_FLAT, "\xf2\xa5") == lower_rep_string); /* REPNE repeats all the same */
    ck_assert(POLICY(MODE_FLAT, "\xf3\xab") == lower_rep_string);
    ck_assert(POLICY(MODE_FLAT & ~(u32)MK_DSFLAT, "\xf3\xab") == lower_rep_string); /* STOS needs ES only */
    ck_assert(POLICY(MODE_FLAT & ~(u32)MK_ESFLAT, "\xf3\xab") == xl_lower_emulate);
    ck_assert(POLICY(MODE_FLAT & ~(u32)MK_DSFLAT, "\xf3\xa5") == xl_lower_emulate);
    ck_assert(POLICY(MODE_FLAT, "\x64\xf3\xa5") == xl_lower_emulate); /* from FS */
    ck_assert(POLICY(MODE_FLAT, "\x26\xf3\xa5") == lower_rep_string);
    ck_assert(POLICY(MODE_FLAT, "\xf3\xa6") == lower_rep_string);
    ck_assert(POLICY(MODE_FLAT & ~(u32)MK_DSFLAT, "\xf3\xa6") == xl_lower_emulate);
    ck_assert(POLICY(MODE_FLAT & ~(u32)MK_DSFLAT, "\xf2\xae") == lower_rep_string); /* SCAS needs ES only */
    ck_assert(POLICY(MODE_FLAT, "\xf3\xac") == xl_lower_emulate);
    ck_assert(POLICY(MODE_FLAT, "\x67\xf3\xa5") == xl_lower_emulate);
}
END_TEST

/* 16-bit code, that one instruction of a block of n. */
static lower_fn *policy16(u32 mode, u32 context, unsigned n, const char *bytes, unsigned len)
{
    ck_assert_int_eq(decode(f.dec, (const u8 *)bytes, len, 0x1000, false, ~0u, &in), DECODE_OK);
    src = (struct xl_source){ .mode = mode, .context = context, .limit = 0xffff };
    x = (struct xl_ctx){ .opt = &f.xl->cfg.opt, .src = &src, .scan.n = n };
    return xl_policy(&x, &in);
}
#define REAL_MODE MK_CSLIMIT
#define VM86_MODE (MK_CSLIMIT | MK_PE | MK_VM | 3)
#define PROT16_MODE (MK_CSLIMIT | MK_PE)
#define POLICY16(mode, bytes) policy16(mode, xlf_context(mode), 2, bytes, sizeof(bytes) - 1)

START_TEST(far_transfers_between_paragraphs_are_in_line)
{
    const char *const far[] = { "\x9a\x34\x12\x00\xf0", "\xea\x34\x12\x00\xf0", "\xff\x1c", "\xff\x2c", "\xcb" };
    const unsigned len[] = { 5, 5, 2, 2, 1 };
    for (unsigned i = 0; i < ARRAY_LEN(far); i++) {
        ck_assert(policy16(REAL_MODE, xlf_context(REAL_MODE), 1, far[i], len[i]) == lower_far_paragraph);
        ck_assert(policy16(VM86_MODE, xlf_context(VM86_MODE), 1, far[i], len[i]) == lower_far_paragraph);
        ck_assert(policy16(REAL_MODE, 1, 1, far[i], len[i]) == lower_far); /* CS is not one */
        ck_assert(policy16(PROT16_MODE, 1, 1, far[i], len[i]) == lower_far);
    }
    ck_assert(POLICY16(REAL_MODE, "\xcd\x21") == lower_int_real);
    ck_assert(POLICY16(VM86_MODE, "\xcd\x21") == lower_far); /* IOPL, and the TSS, say where it goes */
    ck_assert(POLICY16(REAL_MODE, "\xcf") == lower_iret_paragraph);
    ck_assert(POLICY16(VM86_MODE, "\xcf") == lower_iret_paragraph);
    ck_assert(POLICY16(REAL_MODE, "\x66\xcf") == lower_far); /* of 32 bits */
    ck_assert(POLICY16(REAL_MODE, "\x66\xcb") == lower_far);
}
END_TEST

START_TEST(segmented_code_goes_on_behind_a_load_of_ss_in_the_same_block_or_not_at_all)
{
    const u32 modes[] = { REAL_MODE, VM86_MODE, PROT16_MODE };
    for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
        ck_assert(POLICY16(modes[i], "\x8e\xd0") == lower_load_ss);
        ck_assert(POLICY16(modes[i], "\x17") == lower_load_ss);
        ck_assert(POLICY16(modes[i], "\x0f\xb2\x24") == lower_load_far); /* SS and SP at once: no shadow */
        ck_assert(POLICY16(modes[i] | MK_CHECKED, "\x8e\xd0") == xl_lower_emulate);
        ck_assert(policy16(modes[i], xlf_context(modes[i]), 1, "\x8e\xd0", 2) == xl_lower_emulate);
    }
}
END_TEST

START_TEST(interrupt_flag_of_programs_is_in_line_in_segmented_code)
{
    ck_assert(POLICY16(VM86_MODE, "\xfa") == lower_cli_user);
    ck_assert(POLICY16(VM86_MODE, "\xfb") == lower_sti_user);
    ck_assert(POLICY16(VM86_MODE, "\x9c") == lower_pushf_vm86);
    ck_assert(POLICY16(VM86_MODE, "\x66\x9c") == xl_lower_emulate); /* VM is not to be seen */
    ck_assert(POLICY16(VM86_MODE, "\x9d") == lower_popf16);
    ck_assert(POLICY16(PROT16_MODE | 3, "\xfa") == lower_cli_user);
    ck_assert(POLICY16(PROT16_MODE | 1, "\xfa") == xl_lower_emulate);
    ck_assert(POLICY16(REAL_MODE, "\xfa") == lower_cli);
    ck_assert(POLICY16(REAL_MODE, "\xf3\xa5") == lower_rep_string);
    ck_assert(POLICY16(REAL_MODE, "\xf3\xad") == xl_lower_emulate); /* LODS */
    ck_assert(POLICY16(REAL_MODE, "\xc8\x10\x00\x00") == lower_enter);
    ck_assert(POLICY16(REAL_MODE, "\xc8\x10\x00\x01") == xl_lower_emulate);
}
END_TEST

START_TEST(stack_segment_loads_of_flat_code_are_the_interpreters)
{
    ck_assert(POLICY(MODE_FLAT, "\x8e\xd0") == xl_lower_emulate); /* mov ss, ax */
    ck_assert(POLICY(MODE_FLAT, "\x17") == xl_lower_emulate);
    ck_assert(POLICY(MODE_FLAT, "\x8e\xd8") == lower_mov_sreg);
    ck_assert(POLICY(MODE_FLAT, "\x8e\x18") == lower_mov_sreg); /* from memory */
    ck_assert(POLICY(MODE_FLAT, "\x8e\x10") == xl_lower_emulate);
    ck_assert(POLICY(MODE_FLAT, "\x0f\xa9") == lower_pop_sreg);
    ck_assert(POLICY(MODE_FLAT, "\x66\x1f") == xl_lower_emulate);
}
END_TEST

START_TEST(INVLPG_needs_an_address_without_a_base)
{
    ck_assert(POLICY(MODE_FLAT, "\x0f\x01\x38") == lower_invlpg);
    ck_assert(POLICY(MODE_FLAT, "\x0f\x01\x7d\x00") == lower_invlpg); /* [ebp]: SS */
    ck_assert(POLICY(MODE_FLAT, "\x64\x0f\x01\x38") == xl_lower_emulate);
    ck_assert(POLICY(MODE_FLAT & ~(u32)MK_SSFLAT, "\x0f\x01\x7d\x00") == xl_lower_emulate);
}
END_TEST

START_TEST(what_64_bit_mode_lacks_or_means_otherwise_is_never_copied)
{
    static const struct {
        const char *bytes;
        unsigned n;
    } gone[] = {
        { "\x06", 1 },
        { "\x0e", 1 },
        { "\x27", 1 },
        { "\x2f", 1 },
        { "\x37", 1 },
        { "\x3f", 1 },
        { "\x40", 1 },
        { "\x4f", 1 },
        { "\x60", 1 },
        { "\x61", 1 },
        { "\x62\x00", 2 },
        { "\x63\xc0", 2 },
        { "\x9a\0\0\0\0\0\0", 7 },
        { "\xa1\0\0\0\0", 5 },
        { "\xc4\x00", 2 },
        { "\xc5\x00", 2 },
        { "\xce", 1 },
        { "\xd4\x0a", 2 },
        { "\xd5\x0a", 2 },
        { "\xd6", 1 },
        { "\xea\0\0\0\0\0\0", 7 },
        { "\x50", 1 },
        { "\x58", 1 },
        { "\xc9", 1 },
        { "\xff\x30", 2 },
        { "\x0f\xa0", 2 },
        { "\x68\0\0\0\0", 5 },
        { "\x90", 1 },
        { "\x0f\x1f\x00", 3 },
        { "\xe2\x00", 2 },
        { "\x0f\x05", 2 },
        { "\x0f\x34", 2 },
    };
    for (unsigned i = 0; i < ARRAY_LEN(gone); i++)
        for (u32 cpl = 0; cpl < 4; cpl += 3)
            ck_assert_msg(policy(MODE_FLAT | cpl, gone[i].bytes, gone[i].n) != lower_ident, "%02x %02x is copied",
                          (u8)gone[i].bytes[0], (u8)gone[i].bytes[1]);
}
END_TEST

/* Identity is for instructions that see nothing but registers and memory. */
START_TEST(no_sensitive_row_is_copied)
{
    for (unsigned id = INSN_INVALID + 1; id < INSN_COUNT; id++) {
        const struct insn_row *row = &insn_rows[id];
        if (!(row->attr & (A_SENS | A_PRIV | A_STACK | A_END))) continue;
        for (u32 mode = 0; mode < 4; mode++) {
            memset(&in, 0, sizeof in);
            in = (struct insn){ .row = row,
                                .id = (u16)id,
                                .op = row->op,
                                .opsize = 4,
                                .addrsize = 4,
                                .opcode = row->opcode,
                                .base = -1,
                                .index = -1 };
            in.opnd[0].reg = in.opnd[1].reg = 2;
            src = (struct xl_source){ .mode = MODE_FLAT | mode };
            x = (struct xl_ctx){ .opt = &f.xl->cfg.opt, .src = &src };
            ck_assert_msg(xl_policy(&x, &in) != lower_ident, "%s at CPL %u", row->name, mode);
        }
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("policy");
    TCase *t = tcase_create("ways");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, every_mode_is_translated_but_single_steps);
    tcase_add_test(t, code_is_segmented_unless_it_is_32_bit_protected_mode_on_such_a_stack_without_a_code_limit);
    tcase_add_test(t, strings_are_inline_and_repeated_ones_a_helper_where_segments_are_flat);
    tcase_add_test(t, stack_segment_loads_of_flat_code_are_the_interpreters);
    tcase_add_test(t, far_transfers_between_paragraphs_are_in_line);
    tcase_add_test(t, segmented_code_goes_on_behind_a_load_of_ss_in_the_same_block_or_not_at_all);
    tcase_add_test(t, interrupt_flag_of_programs_is_in_line_in_segmented_code);
    tcase_add_test(t, INVLPG_needs_an_address_without_a_base);
    tcase_add_test(t, what_64_bit_mode_lacks_or_means_otherwise_is_never_copied);
    tcase_add_test(t, no_sensitive_row_is_copied);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
