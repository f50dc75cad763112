/* insn.def as data: no two rows overlap, every row can be reached, and what rows say about themselves is consistent. */
#include <check.h>
#include <string.h>

#include "tests/insn_encode.h"
#include "translator/front/decode.h"

#define FIRST (INSN_INVALID + 1)
/* ck_assert_msg() writes to a pipe even when it holds: too slow for millions of checks. */
#define EXPECT(cond, ...)                       \
    do {                                        \
        if (!(cond)) ck_abort_msg(__VA_ARGS__); \
    } while (0)

static bool mentions(const struct insn_row *row, const u8 *encs, unsigned n)
{
    for (unsigned i = 0; i < 4; i++)
        for (unsigned k = 0; k < n; k++)
            if (row->enc[i] == encs[k]) return true;
    return false;
}

static bool row_covers_modrm(const struct insn_row *row, unsigned modrm)
{
    if (row->ext >= 0 && (modrm >> 3 & 7) != (unsigned)row->ext) return false;
    if (modrm < 0xc0) return row->form != MR_REG;
    return row->form != MR_MEM && (row->rm < 0 || (modrm & 7) == (unsigned)row->rm);
}

/* A PFX_ANY row and one with a mandatory prefix may share an encoding (the latter wins); two of a kind may not. */
START_TEST(no_two_rows_claim_one_encoding)
{
    for (unsigned a = FIRST; a < INSN_COUNT; a++)
        for (unsigned b = a + 1; b < INSN_COUNT; b++) {
            const struct insn_row *x = &insn_rows[a], *y = &insn_rows[b];
            if (x->map != y->map || x->pfx != y->pfx) continue;
            if (x->opcode + x->count <= y->opcode || y->opcode + y->count <= x->opcode) continue;
            EXPECT(x->form != MR_NONE && y->form != MR_NONE, "%s and %s", x->name, y->name);
            for (unsigned modrm = 0; modrm < 256; modrm++)
                EXPECT(!row_covers_modrm(x, modrm) || !row_covers_modrm(y, modrm), "%s and %s share ModRM %02x",
                       x->name, y->name, modrm);
        }
}
END_TEST

START_TEST(every_row_is_reached_by_its_encodings)
{
    struct decoder *d;

    ck_assert_int_eq(decoder_new(&d), 0);
    for (unsigned id = FIRST; id < INSN_COUNT; id++)
        for (unsigned offset = 0; offset < insn_rows[id].count; offset++)
            for (unsigned modrm = 0; modrm < 256; modrm++)
                for (unsigned variant = 0; variant < 8; variant++) {
                    const struct insn_row *row = &insn_rows[id];
                    struct encoding e = { .offset = (u8)offset,
                                          .modrm = (u8)modrm,
                                          .sib = (u8)(modrm * 37),
                                          .disp = 0x89abcdef,
                                          .imm = 0x12345678,
                                          .imm2 = 0x9abc,
                                          .code32 = variant & 1 };
                    struct insn in;
                    u8 bytes[32];
                    unsigned n;
                    if (variant & 2) e.prefix[e.nprefix++] = 0x67;
                    if (variant & 4) {
                        if (row->pfx != PFX_ANY && row->pfx != PFX_66) continue;
                        e.prefix[e.nprefix++] = 0x66;
                    }
                    if (row->enc[0] == ENC_Sw || row->enc[1] == ENC_Sw)
                        if ((encode_modrm(row, e.modrm) >> 3 & 7) > S_GS) continue;
                    if (row->enc[0] == ENC_Cd || row->enc[1] == ENC_Cd)
                        if (!(0x1d >> (modrm >> 3 & 7) & 1)) continue; /* CR0, CR2, CR3, CR4 */
                    n = insn_encode(row, &e, bytes);
                    EXPECT(decode(d, bytes, n, 0, e.code32, ~0u, &in) == DECODE_OK, "%s does not decode", row->name);
                    EXPECT(in.id == id, "%s decodes as %s (ModRM %02x, variant %u)", row->name, in.row->name, modrm,
                           variant);
                    EXPECT(in.len == n, "%s is %u bytes, not %u (ModRM %02x, variant %u)", row->name, n, in.len, modrm,
                           variant);
                    if (n > 1)
                        EXPECT(decode(d, bytes, n - 1, 0, e.code32, ~0u, &in) == DECODE_TRUNCATED,
                               "%s without its last byte", row->name);
                }
    decoder_free(d);
}
END_TEST

/* Operands of a row fit its form: what is in ModRM needs one, memory-only and register-only operands need that form. */
START_TEST(operands_fit_the_modrm_form)
{
    static const u8 modrm[] = { ENC_Eb,   ENC_Ew,  ENC_Ed,   ENC_Ev,   ENC_Gb,   ENC_Gw, ENC_Gd,   ENC_Gv,   ENC_Rw,
                                ENC_Rd,   ENC_Rv,  ENC_RvMw, ENC_RdMb, ENC_RdMw, ENC_M,  ENC_Mb,   ENC_Mw,   ENC_Md,
                                ENC_Mq,   ENC_Mdq, ENC_Ms,   ENC_Mt,   ENC_Ma,   ENC_Mp, ENC_Menv, ENC_Mfpu, ENC_Mfx,
                                ENC_Mbcd, ENC_Sw,  ENC_Cd,   ENC_Dd,   ENC_Pq,   ENC_Qq, ENC_Qd,   ENC_Nq,   ENC_Vx,
                                ENC_Wdq,  ENC_Wq,  ENC_Wd,   ENC_Ww,   ENC_Ux,   ENC_STi };
    static const u8 memory[] = { ENC_M,  ENC_Mb, ENC_Mw, ENC_Md,   ENC_Mq,   ENC_Mdq, ENC_Ms,
                                 ENC_Mt, ENC_Ma, ENC_Mp, ENC_Menv, ENC_Mfpu, ENC_Mfx, ENC_Mbcd };
    static const u8 registers[] = { ENC_Rw, ENC_Rv, ENC_Nq, ENC_Ux, ENC_STi };
    static const u8 low3[] = { ENC_Zb, ENC_Zv };

    for (unsigned id = FIRST; id < INSN_COUNT; id++) {
        const struct insn_row *row = &insn_rows[id];
        if (mentions(row, modrm, sizeof(modrm))) EXPECT(row->form != MR_NONE, "%s", row->name);
        if (mentions(row, memory, sizeof(memory))) EXPECT(row->form == MR_MEM, "%s", row->name);
        if (mentions(row, registers, sizeof(registers))) EXPECT(row->form == MR_REG, "%s", row->name);
        if (row->form == MR_NONE) EXPECT(row->ext < 0 && row->rm < 0, "%s", row->name);
        if (row->rm >= 0) EXPECT(row->form == MR_REG, "%s", row->name);
        if (mentions(row, low3, sizeof(low3)))
            EXPECT((row->opcode & 7) + row->count == 8, "%s takes a register from its opcode", row->name);
        if (row->attr & A_CC) EXPECT(row->count == 16 && (row->opcode & 15) == 0, "%s", row->name);
        for (unsigned i = 1; i < 4; i++)
            if (row->enc[i] != ENC_NONE)
                EXPECT(row->enc[i - 1] != ENC_NONE, "%s has a hole among its operands", row->name);
    }
}
END_TEST

START_TEST(attributes_are_consistent)
{
    static const u8 strings[] = { ENC_Xb, ENC_Xv, ENC_Yb, ENC_Yv };
    static const u8 lockable[] = { ENC_Eb, ENC_Ev, ENC_Mq };
    static const u8 simd[] = { ENC_Pq, ENC_Qq, ENC_Qd, ENC_Nq, ENC_Vx,  ENC_Wdq,
                               ENC_Wq, ENC_Wd, ENC_Ww, ENC_Ux, ENC_ST0, ENC_STi };
    static const u8 wide[] = { ENC_Wdq, ENC_Mdq, ENC_Mfx };

    for (unsigned id = FIRST; id < INSN_COUNT; id++) {
        const struct insn_row *row = &insn_rows[id];
        u32 a = row->attr;
        const char *name = row->name;
        bool string = mentions(row, strings, sizeof(strings));

        EXPECT(!(row->writes & row->undef), "%s: flags both written and undefined", name);
        EXPECT((a & (A_REP | A_REPCC)) != (A_REP | A_REPCC), "%s", name);
        EXPECT(string == !!(a & (A_REP | A_REPCC)), "%s", name);
        if (string) EXPECT((a & A_IMPMEM) && (row->reads & F_DF), "%s", name);
        if (a & A_LOCK) {
            EXPECT((a & A_WR) && row->form != MR_REG, "%s", name);
            EXPECT(row->enc[0] == lockable[0] || row->enc[0] == lockable[1] || row->enc[0] == lockable[2], "%s", name);
        }
        if (a & A_LOCKED) EXPECT(a & A_LOCK, "%s", name);
        if (a & A_FENCE) EXPECT(row->form == MR_REG && row->enc[0] == ENC_NONE && !row->writes, "%s", name);
        if (a & A_WR1) EXPECT(row->enc[1] != ENC_NONE && (a & A_WR), "%s", name);
        if (a & A_WR) EXPECT(row->enc[0] != ENC_NONE, "%s", name);
        if (a & A_STACK) EXPECT(a & A_IMPMEM, "%s", name);
        if (a & A_FLAGS0) EXPECT((a & A_FLAGCNT) && (row->writes & F_OF), "%s", name);
        if (a & A_FLAGCNT) EXPECT(row->writes && (a & A_WR), "%s", name);
        if (a & A_CC) EXPECT(row->reads == (F_CF | F_PF | F_ZF | F_SF | F_OF), "%s", name);
        if (a & A_ALIGN16) EXPECT(mentions(row, wide, sizeof(wide)), "%s", name);
        if (a & A_NOWAIT) EXPECT(a & A_FPU, "%s", name);
        if (a & A_PRIV) EXPECT(a & A_SENS, "%s", name);
        if (row->cls == CLS_x87 || row->cls == CLS_mmx || row->cls == CLS_sse) EXPECT(a & A_FPU, "%s", name);
        else EXPECT(!(a & A_FPU), "%s", name);
        if (mentions(row, simd, sizeof(simd))) EXPECT(a & A_FPU, "%s", name);
        if (row->cls == CLS_ctl) EXPECT(a & A_END, "%s", name);
        if (row->feat == FEAT_FPU) EXPECT(row->cls == CLS_x87, "%s", name);
        EXPECT(row->map <= MAP_0F3A && row->count >= 1 && row->opcode + row->count <= 256, "%s", name);
        if (row->map == MAP_1B) EXPECT(row->pfx == PFX_ANY || row->pfx == PFX_F3, "%s", name);
    }
}
END_TEST

START_TEST(names_begin_with_their_mnemonic)
{
    for (unsigned id = FIRST; id < INSN_COUNT; id++) {
        const struct insn_row *row = &insn_rows[id];
        ck_assert_ptr_nonnull(row->name);
        ck_assert_uint_ne(row->op, OP_INVALID);
        ck_assert_uint_lt(row->op, OP_COUNT);
        for (unsigned other = id + 1; other < INSN_COUNT; other++)
            if (insn_rows[other].op == row->op) ck_assert_str_eq(insn_rows[other].mnemonic, row->mnemonic);
    }
}
END_TEST

/* Feature bits turn instructions off, and only the right ones. */
START_TEST(an_instruction_the_cpu_lacks_is_undefined)
{
    struct decoder *d;

    ck_assert_int_eq(decoder_new(&d), 0);
    for (unsigned id = FIRST; id < INSN_COUNT; id++) {
        const struct insn_row *row = &insn_rows[id];
        struct encoding e = { .modrm = 0x00, .code32 = true };
        struct insn in;
        u8 bytes[32];
        unsigned n = insn_encode(row, &e, bytes);
        ck_assert_int_eq(decode(d, bytes, n, 0, true, 1u << row->feat, &in), DECODE_OK);
        EXPECT(in.id == id, "%s with its own feature", row->name);
        ck_assert_int_eq(decode(d, bytes, n, 0, true, ~(1u << row->feat), &in), DECODE_OK);
        EXPECT(in.id == INSN_INVALID && in.row == &insn_rows[INSN_INVALID], "%s without its feature", row->name);
        ck_assert_uint_ge(in.len, 1);
    }
    decoder_free(d);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("insn_table");
    TCase *tc = tcase_create("table");
    SRunner *sr;
    int failed;

    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, no_two_rows_claim_one_encoding);
    tcase_add_test(tc, every_row_is_reached_by_its_encodings);
    tcase_add_test(tc, operands_fit_the_modrm_form);
    tcase_add_test(tc, attributes_are_consistent);
    tcase_add_test(tc, names_begin_with_their_mnemonic);
    tcase_add_test(tc, an_instruction_the_cpu_lacks_is_undefined);
    suite_add_tcase(s, tc);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? 1 : 0;
}
