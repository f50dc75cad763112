/* decode.c: fields of hand-checked encodings, limits, and capstone as second opinion over the opcode space. */
#include <capstone/capstone.h>
#include <check.h>
#include <string.h>

#include "tests/insn_flags.h"
#include "translator/front/decode.h"

#define ALL_FEATURES (~0u)
#define EXPECT(cond, ...)                       \
    do {                                        \
        if (!(cond)) ck_abort_msg(__VA_ARGS__); \
    } while (0)

static struct decoder *d;
static void setup(void) { ck_assert_int_eq(decoder_new(&d), 0); }
static void teardown(void) { decoder_free(d); }

/* ---- Hand-checked encodings ---- */

/* clang-format off */
#define R(n, sz) {OPK_REG, n, sz}
#define M(sz) {OPK_MEM, 0, sz}
#define I(sz) {OPK_IMM, 0, sz}
#define J(sz) {OPK_REL, 0, sz}
#define X(n, sz) {OPK_XMM, n, sz}
#define Q(n, sz) {OPK_MMX, n, sz}
#define ST(n) {OPK_ST, n, 10}
#define SR(n) {OPK_SREG, n, 2}
/* clang-format on */

/* bytes are hexadecimal. At EIP 0x1000. */
/* clang-format off */
static const struct expected {
    const char *bytes;
    unsigned id;
    u8 nops;
    struct operand opnd[4];
    u8 seg;
    s8 base, index;
    u8 scale;
    u32 disp, imm, imm2, target;
    u8 prefixes;
    bool code16;
} expected[] = {
    /* Addressing forms */
    {"00d8", INSN_ADD_Eb_Gb, 2, {R(0, 1), R(3, 1)}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"8807", INSN_MOV_Eb_Gb, 2, {M(1), R(0, 1)}, S_DS, G_EDI, -1, 1, 0, 0, 0, 0, 0, false},
    {"8a6601", INSN_MOV_Gb_Eb, 2, {R(4, 1), M(1)}, S_DS, G_ESI, -1, 1, 1, 0, 0, 0, 0, false},
    {"8b4508", INSN_MOV_Gv_Ev, 2, {R(0, 4), M(4)}, S_SS, G_EBP, -1, 1, 8, 0, 0, 0, 0, false},
    {"8b45f8", INSN_MOV_Gv_Ev, 2, {R(0, 4), M(4)}, S_SS, G_EBP, -1, 1, 0xfffffff8, 0, 0, 0, 0, false},
    {"8b442408", INSN_MOV_Gv_Ev, 2, {R(0, 4), M(4)}, S_SS, G_ESP, -1, 1, 8, 0, 0, 0, 0, false},
    {"8b0424", INSN_MOV_Gv_Ev, 2, {R(0, 4), M(4)}, S_SS, G_ESP, -1, 1, 0, 0, 0, 0, 0, false},
    {"8b048b", INSN_MOV_Gv_Ev, 2, {R(0, 4), M(4)}, S_DS, G_EBX, G_ECX, 4, 0, 0, 0, 0, 0, false},
    {"8b04cd78563412", INSN_MOV_Gv_Ev, 2, {R(0, 4), M(4)}, S_DS, -1, G_ECX, 8, 0x12345678, 0, 0, 0, 0, false},
    {"8b042d78563412", INSN_MOV_Gv_Ev, 2, {R(0, 4), M(4)}, S_DS, -1, G_EBP, 1, 0x12345678, 0, 0, 0, 0, false},
    {"8b442d00", INSN_MOV_Gv_Ev, 2, {R(0, 4), M(4)}, S_SS, G_EBP, G_EBP, 1, 0, 0, 0, 0, 0, false},
    {"8b0578563412", INSN_MOV_Gv_Ev, 2, {R(0, 4), M(4)}, S_DS, -1, -1, 1, 0x12345678, 0, 0, 0, 0, false},
    {"8b80785634f2", INSN_MOV_Gv_Ev, 2, {R(0, 4), M(4)}, S_DS, G_EAX, -1, 1, 0xf2345678, 0, 0, 0, 0, false},
    {"8b8424785634f2", INSN_MOV_Gv_Ev, 2, {R(0, 4), M(4)}, S_SS, G_ESP, -1, 1, 0xf2345678, 0, 0, 0, 0, false},
    {"658b0d04000000", INSN_MOV_Gv_Ev, 2, {R(1, 4), M(4)}, S_GS, -1, -1, 1, 4, 0, 0, 0, IP_SEG, false},
    {"3e8b4500", INSN_MOV_Gv_Ev, 2, {R(0, 4), M(4)}, S_DS, G_EBP, -1, 1, 0, 0, 0, 0, IP_SEG, false},
    {"2e648b00", INSN_MOV_Gv_Ev, 2, {R(0, 4), M(4)}, S_FS, G_EAX, -1, 1, 0, 0, 0, 0, IP_SEG, false},
    {"678b00", INSN_MOV_Gv_Ev, 2, {R(0, 4), M(4)}, S_DS, G_EBX, G_ESI, 1, 0, 0, 0, 0, IP_ADDRSIZE, false},
    {"678b4380", INSN_MOV_Gv_Ev, 2, {R(0, 4), M(4)}, S_SS, G_EBP, G_EDI, 1, 0xffffff80, 0, 0, 0, IP_ADDRSIZE, false},
    {"678b063412", INSN_MOV_Gv_Ev, 2, {R(0, 4), M(4)}, S_DS, -1, -1, 1, 0x1234, 0, 0, 0, IP_ADDRSIZE, false},
    {"8b87f0ff", INSN_MOV_Gv_Ev, 2, {R(0, 2), M(2)}, S_DS, G_EBX, -1, 1, 0xfffffff0, 0, 0, 0, 0, true},
    {"8b4600", INSN_MOV_Gv_Ev, 2, {R(0, 2), M(2)}, S_SS, G_EBP, -1, 1, 0, 0, 0, 0, 0, true},
    {"66678b0424", INSN_MOV_Gv_Ev, 2, {R(0, 4), M(4)}, S_SS, G_ESP, -1, 1, 0, 0, 0, 0, IP_OPSIZE | IP_ADDRSIZE, true},
    {"8d7426ff", INSN_LEA_Gv_M, 2, {R(6, 4), M(0)}, S_DS, G_ESI, -1, 1, 0xffffffff, 0, 0, 0, 0, false},
    {"8d04c5ffffffff", INSN_LEA_Gv_M, 2, {R(0, 4), M(0)}, S_DS, -1, G_EAX, 8, 0xffffffff, 0, 0, 0, 0, false},
    {"a078563412", INSN_MOV_AL_Ob, 2, {R(0, 1), M(1)}, S_DS, -1, -1, 1, 0x12345678, 0, 0, 0, 0, false},
    {"66a378563412", INSN_MOV_Ov_eAX, 2, {M(2), R(0, 2)}, S_DS, -1, -1, 1, 0x12345678, 0, 0, 0, IP_OPSIZE, false},
    {"64a11400", INSN_MOV_eAX_Ov, 2, {R(0, 2), M(2)}, S_FS, -1, -1, 1, 0x14, 0, 0, 0, IP_SEG, true},
    /* Immediates */
    {"83c4f0", INSN_ADD_Ev_Ibs, 2, {R(4, 4), I(4)}, S_DS, -1, -1, 1, 0, 0xfffffff0, 0, 0, 0, false},
    {"6683c4f0", INSN_ADD_Ev_Ibs, 2, {R(4, 2), I(2)}, S_DS, -1, -1, 1, 0, 0xfff0, 0, 0, IP_OPSIZE, false},
    {"80c4f0", INSN_ADD_Eb_Ib, 2, {R(4, 1), I(1)}, S_DS, -1, -1, 1, 0, 0xf0, 0, 0, 0, false},
    {"82c4f0", INSN_ADD_Eb_Ib_82, 2, {R(4, 1), I(1)}, S_DS, -1, -1, 1, 0, 0xf0, 0, 0, 0, false},
    {"81ec78563412", INSN_SUB_Ev_Iz, 2, {R(4, 4), I(4)}, S_DS, -1, -1, 1, 0, 0x12345678, 0, 0, 0, false},
    {"6681ec34f2", INSN_SUB_Ev_Iz, 2, {R(4, 2), I(2)}, S_DS, -1, -1, 1, 0, 0xf234, 0, 0, IP_OPSIZE, false},
    {"c744240401000000", INSN_MOV_Ev_Iz, 2, {M(4), I(4)}, S_SS, G_ESP, -1, 1, 4, 1, 0, 0, 0, false},
    {"b478", INSN_MOV_Zb_Ib, 2, {R(4, 1), I(1)}, S_DS, -1, -1, 1, 0, 0x78, 0, 0, 0, false},
    {"bf78563412", INSN_MOV_Zv_Iz, 2, {R(7, 4), I(4)}, S_DS, -1, -1, 1, 0, 0x12345678, 0, 0, 0, false},
    {"6aff", INSN_PUSH_Ibs, 1, {I(4)}, S_DS, -1, -1, 1, 0, 0xffffffff, 0, 0, 0, false},
    {"c8341207", INSN_ENTER_Iw_Ib, 2, {I(2), I(1)}, S_DS, -1, -1, 1, 0, 0x1234, 7, 0, 0, false},
    {"9a785634122300", INSN_CALLF_Ap, 1, {{OPK_FAR, 0, 6}}, S_DS, -1, -1, 1, 0, 0x12345678, 0x23, 0, 0, false},
    {"ea5be000f0", INSN_JMPF_Ap, 1, {{OPK_FAR, 0, 4}}, S_DS, -1, -1, 1, 0, 0xe05b, 0xf000, 0, 0, true},
    {"6bc0f6", INSN_IMUL_Gv_Ev_Ibs, 3, {R(0, 4), R(0, 4), I(4)}, S_DS, -1, -1, 1, 0, 0xfffffff6, 0, 0, 0, false},
    {"d1e0", INSN_SHL_Ev_I1, 2, {R(0, 4), I(1)}, S_DS, -1, -1, 1, 0, 1, 0, 0, 0, false},
    {"d1f0", INSN_SAL_Ev_I1, 2, {R(0, 4), I(1)}, S_DS, -1, -1, 1, 0, 1, 0, 0, 0, false},
    {"d3f8", INSN_SAR_Ev_CL, 2, {R(0, 4), R(1, 1)}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"c0c907", INSN_ROR_Eb_Ib, 2, {R(1, 1), I(1)}, S_DS, -1, -1, 1, 0, 7, 0, 0, 0, false},
    {"0fa4c203", INSN_SHLD_Ev_Gv_Ib, 3, {R(2, 4), R(0, 4), I(1)}, S_DS, -1, -1, 1, 0, 3, 0, 0, 0, false},
    {"cc", INSN_INT3, 1, {I(1)}, S_DS, -1, -1, 1, 0, 3, 0, 0, 0, false},
    {"cd80", INSN_INT_Ib, 1, {I(1)}, S_DS, -1, -1, 1, 0, 0x80, 0, 0, 0, false},
    {"f6c801", INSN_TEST_Eb_Ib_1, 2, {R(0, 1), I(1)}, S_DS, -1, -1, 1, 0, 1, 0, 0, 0, false},
    /* Control transfers */
    {"ebfe", INSN_JMP_Jb, 1, {J(4)}, S_DS, -1, -1, 1, 0, 0xfffffffe, 0, 0x1000, 0, false},
    {"7f10", INSN_JCC_Jb, 1, {J(4)}, S_DS, -1, -1, 1, 0, 0x10, 0, 0x1012, 0, false},
    {"0f85fcffffff", INSN_JCC_Jz, 1, {J(4)}, S_DS, -1, -1, 1, 0, 0xfffffffc, 0, 0x1002, 0, false},
    {"e800f0ffff", INSN_CALL_Jz, 1, {J(4)}, S_DS, -1, -1, 1, 0, 0xfffff000, 0, 0x0005, 0, false},
    {"66e900e0", INSN_JMP_Jz, 1, {J(2)}, S_DS, -1, -1, 1, 0, 0xffffe000, 0, 0xf004, IP_OPSIZE, false},
    {"e900e0", INSN_JMP_Jz, 1, {J(2)}, S_DS, -1, -1, 1, 0, 0xffffe000, 0, 0xf003, 0, true},
    {"67e302", INSN_JCXZ_Jb, 1, {J(4)}, S_DS, -1, -1, 1, 0, 2, 0, 0x1005, IP_ADDRSIZE, false},
    {"ff2485a0000000", INSN_JMP_Ev, 1, {M(4)}, S_DS, -1, G_EAX, 4, 0xa0, 0, 0, 0, 0, false},
    {"ffd0", INSN_CALL_Ev, 1, {R(0, 4)}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"ff2d00100000", INSN_JMPF_Mp, 1, {M(6)}, S_DS, -1, -1, 1, 0x1000, 0, 0, 0, 0, false},
    {"c3", INSN_RET, 0, {R(0, 0)}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"c20800", INSN_RET_Iw, 1, {I(2)}, S_DS, -1, -1, 1, 0, 8, 0, 0, 0, false},
    /* Stack, segments, system */
    {"53", INSN_PUSH_Zv, 1, {R(3, 4)}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"6653", INSN_PUSH_Zv, 1, {R(3, 2)}, S_DS, -1, -1, 1, 0, 0, 0, 0, IP_OPSIZE, false},
    {"8f0424", INSN_POP_Ev, 1, {M(4)}, S_SS, G_ESP, -1, 1, 0, 0, 0, 0, 0, false},
    {"0fa0", INSN_PUSH_FS, 1, {SR(S_FS)}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"17", INSN_POP_SS, 1, {SR(S_SS)}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"8ed0", INSN_MOV_SS_Ew, 2, {SR(S_SS), R(0, 2)}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"8e28", INSN_MOV_GS_Ew, 2, {SR(S_GS), M(2)}, S_DS, G_EAX, -1, 1, 0, 0, 0, 0, 0, false},
    {"8cd8", INSN_MOV_RvMw_Sw, 2, {R(0, 4), SR(S_DS)}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"8c18", INSN_MOV_RvMw_Sw, 2, {M(2), SR(S_DS)}, S_DS, G_EAX, -1, 1, 0, 0, 0, 0, 0, false},
    {"c518", INSN_LDS_Gv_Mp, 3, {R(3, 4), M(6), SR(S_DS)}, S_DS, G_EAX, -1, 1, 0, 0, 0, 0, 0, false},
    {"660fb238", INSN_LSS_Gv_Mp, 3, {R(7, 2), M(4), SR(S_SS)}, S_DS, G_EAX, -1, 1, 0, 0, 0, 0, IP_OPSIZE, false},
    {"0f22d8", INSN_MOV_Cd_Rd, 2, {{OPK_CR, 3, 4}, R(0, 4)}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"0f2018", INSN_MOV_Rd_Cd, 2, {R(0, 4), {OPK_CR, 3, 4}}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0,
    false}, /* mod is ignored */
    {"0f2145", INSN_MOV_Rd_Dd, 2, {R(5, 4), {OPK_DR, 0, 4}}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"0f011500100000", INSN_LGDT_Ms, 1, {M(6)}, S_DS, -1, -1, 1, 0x1000, 0, 0, 0, 0, false},
    {"0f0138", INSN_INVLPG_M, 1, {M(0)}, S_DS, G_EAX, -1, 1, 0, 0, 0, 0, 0, false},
    {"0f01c8", INSN_MONITOR, 0, {R(0, 0)}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"0f01e0", INSN_SMSW_RvMw, 1, {R(0, 4)}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"621c24", INSN_BOUND_Gv_Ma, 2, {R(3, 4), M(8)}, S_SS, G_ESP, -1, 1, 0, 0, 0, 0, 0, false},
    /* Strings */
    {"a4", INSN_MOVS_Yb_Xb, 2, {M(1), M(1)}, S_DS, G_ESI, -1, 1, 0, 0, 0, 0, 0, false},
    {"f32ea5", INSN_MOVS_Yv_Xv, 2, {M(4), M(4)}, S_CS, G_ESI, -1, 1, 0, 0, 0, 0, IP_REP | IP_SEG, false},
    {"f26466a7", INSN_CMPS_Xv_Yv, 2, {M(2), M(2)}, S_FS, G_ESI, -1, 1, 0, 0, 0, 0, IP_REPNE | IP_SEG | IP_OPSIZE,
    false},
    {"64f3ab", INSN_STOS_Yv_eAX, 2, {M(4), R(0, 4)}, S_ES, G_EDI, -1, 1, 0, 0, 0, 0, IP_REP | IP_SEG, false},
    {"f2f3ae", INSN_SCAS_AL_Yb, 2, {R(0, 1), M(1)}, S_ES, G_EDI, -1, 1, 0, 0, 0, 0, IP_REP, false},
    {"6f", INSN_OUTS_DX_Xv, 2, {R(2, 2), M(4)}, S_DS, G_ESI, -1, 1, 0, 0, 0, 0, 0, false},
    {"36d7", INSN_XLAT, 0, {R(0, 0)}, S_SS, -1, -1, 1, 0, 0, 0, 0, IP_SEG, false},
    /* Prefix meanings */
    {"90", INSN_NOP, 0, {R(0, 0)}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"f390", INSN_PAUSE, 0, {R(0, 0)}, S_DS, -1, -1, 1, 0, 0, 0, 0, IP_REP, false},
    {"93", INSN_XCHG_Zv_eAX, 2, {R(3, 4), R(0, 4)}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"f00fb10f", INSN_CMPXCHG_Ev_Gv, 2, {M(4), R(1, 4)}, S_DS, G_EDI, -1, 1, 0, 0, 0, 0, IP_LOCK, false},
    {"f00fc70f", INSN_CMPXCHG8B_Mq, 1, {M(8)}, S_DS, G_EDI, -1, 1, 0, 0, 0, 0, IP_LOCK, false},
    {"f001c8", INSN_INVALID, 0, {R(0, 0)}, 0, -1, -1, 1, 0, 0, 0, 0, IP_LOCK, false},
    {"f00308", INSN_INVALID, 0, {R(0, 0)}, 0, -1, -1, 1, 0, 0, 0, 0, IP_LOCK, false},
    {"f08b08", INSN_INVALID, 0, {R(0, 0)}, 0, -1, -1, 1, 0, 0, 0, 0, IP_LOCK, false},
    {"f00fa308", INSN_INVALID, 0, {R(0, 0)}, 0, -1, -1, 1, 0, 0, 0, 0, IP_LOCK, false},
    {"f00fab08", INSN_BTS_Mv_Gv, 2, {M(4), R(1, 4)}, S_DS, G_EAX, -1, 1, 0, 0, 0, 0, IP_LOCK, false},
    {"0fb6c4", INSN_MOVZX_Gv_Eb, 2, {R(0, 4), R(4, 1)}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"f30fbdc1", INSN_BSR_Gv_Ev, 2, {R(0, 4), R(1, 4)}, S_DS, -1, -1, 1, 0, 0, 0, 0, IP_REP, false},
    {"f30fb8c1", INSN_INVALID, 0, {R(0, 0)}, 0, -1, -1, 1, 0, 0, 0, 0, IP_REP, false}, /* POPCNT */
    {"0f1f440000", INSN_NOP_Ev, 1, {M(4)}, S_DS, G_EAX, G_EAX, 1, 0, 0, 0, 0, 0, false},
    {"0f1808", INSN_PREFETCHT0_M, 1, {M(0)}, S_DS, G_EAX, -1, 1, 0, 0, 0, 0, 0, false},
    {"0f38f008", INSN_MOVBE_Gv_Mv, 2, {R(1, 4), M(4)}, S_DS, G_EAX, -1, 1, 0, 0, 0, 0, 0, false},
    {"660f38f108", INSN_MOVBE_Mv_Gv_66, 2, {M(2), R(1, 2)}, S_DS, G_EAX, -1, 1, 0, 0, 0, 0, IP_OPSIZE, false},
    /* x87 */
    {"d8c3", INSN_FADD_ST0_STi, 2, {ST(0), ST(3)}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"dcc3", INSN_FADD_STi_ST0, 2, {ST(3), ST(0)}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"dce1", INSN_FSUBR_STi_ST0, 2, {ST(1), ST(0)}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"dee9", INSN_FSUBP_STi_ST0, 2, {ST(1), ST(0)}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"db6d08", INSN_FLD_Mt, 1, {M(10)}, S_SS, G_EBP, -1, 1, 8, 0, 0, 0, 0, false},
    {"dd06", INSN_FLD_Mq, 1, {M(8)}, S_DS, G_ESI, -1, 1, 0, 0, 0, 0, 0, false},
    {"d930", INSN_FNSTENV_Menv, 1, {M(28)}, S_DS, G_EAX, -1, 1, 0, 0, 0, 0, 0, false},
    {"66dd30", INSN_FNSAVE_Mfpu, 1, {M(94)}, S_DS, G_EAX, -1, 1, 0, 0, 0, 0, IP_OPSIZE, false},
    {"dfe0", INSN_FNSTSW_AX, 1, {R(0, 2)}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"dfe1", INSN_INVALID, 0, {R(0, 0)}, 0, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"d9ee", INSN_FLDZ, 0, {R(0, 0)}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"dfc2", INSN_FFREEP_STi, 1, {ST(2)}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    /* MMX and SSE */
    {"0f6f08", INSN_MOVQ_Pq_Qq, 2, {Q(1, 8), M(8)}, S_DS, G_EAX, -1, 1, 0, 0, 0, 0, 0, false},
    {"0f60c1", INSN_PUNPCKLBW_Pq_Qd, 2, {Q(0, 8), Q(1, 4)}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"660f6f0c24", INSN_MOVDQA_Vx_Wdq, 2, {X(1, 16), M(16)}, S_SS, G_ESP, -1, 1, 0, 0, 0, 0, IP_OPSIZE, false},
    {"f30f6f0c24", INSN_MOVDQU_Vx_Wdq, 2, {X(1, 16), M(16)}, S_SS, G_ESP, -1, 1, 0, 0, 0, 0, IP_REP, false},
    {"66f30f10c1", INSN_MOVSS_Vx_Wd, 2, {X(0, 16), X(1, 4)}, S_DS, -1, -1, 1, 0, 0, 0, 0, IP_OPSIZE | IP_REP, false},
    {"f3f20f1001", INSN_MOVSD_Vx_Wq, 2, {X(0, 16), M(8)}, S_DS, G_ECX, -1, 1, 0, 0, 0, 0, IP_REPNE, false},
    {"0f12c1", INSN_MOVHLPS_Vx_Ux, 2, {X(0, 16), X(1, 16)}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"0f1201", INSN_MOVLPS_Vx_Mq, 2, {X(0, 16), M(8)}, S_DS, G_ECX, -1, 1, 0, 0, 0, 0, 0, false},
    {"f20f2cc1", INSN_CVTTSD2SI_Gd_Wq, 2, {R(0, 4), X(1, 8)}, S_DS, -1, -1, 1, 0, 0, 0, 0, IP_REPNE, false},
    {"660fc4c903", INSN_PINSRW_Vx_RdMw_Ib, 3, {X(1, 16), R(1, 4), I(1)}, S_DS, -1, -1, 1, 0, 3, 0, 0, IP_OPSIZE, false},
    {"660fc40903", INSN_PINSRW_Vx_RdMw_Ib, 3, {X(1, 16), M(2), I(1)}, S_DS, G_ECX, -1, 1, 0, 3, 0, 0, IP_OPSIZE, false},
    {"660f73f907", INSN_PSLLDQ_Ux_Ib, 2, {X(1, 16), I(1)}, S_DS, -1, -1, 1, 0, 7, 0, 0, IP_OPSIZE, false},
    {"0faee8", INSN_LFENCE, 0, {R(0, 0)}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"0fae38", INSN_CLFLUSH_Mb, 1, {M(1)}, S_DS, G_EAX, -1, 1, 0, 0, 0, 0, 0, false},
    {"0fae00", INSN_FXSAVE_Mfx, 1, {M(512)}, S_DS, G_EAX, -1, 1, 0, 0, 0, 0, 0, false},
    {"660f3a0fc105", INSN_PALIGNR_Vx_Wdq_Ib, 3, {X(0, 16), X(1, 16), I(1)}, S_DS, -1, -1, 1, 0, 5, 0, 0, IP_OPSIZE,
    false},
    {"0f3800c1", INSN_PSHUFB_Pq_Qq, 2, {Q(0, 8), Q(1, 8)}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"f20f0fc105", INSN_INVALID, 0, {R(0, 0)}, 0, -1, -1, 1, 0, 0, 0, 0, IP_REPNE, false}, /* 3DNow! */
    /* No such instruction */
    {"0fff00", INSN_INVALID, 0, {R(0, 0)}, 0, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"0fb900", INSN_INVALID, 0, {R(0, 0)}, 0, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"0f0b", INSN_UD2, 0, {R(0, 0)}, S_DS, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"8ec8", INSN_INVALID, 0, {R(0, 0)}, 0, -1, -1, 1, 0, 0, 0, 0, 0, false}, /* MOV CS */
    {"8cf0", INSN_INVALID, 0, {R(0, 0)}, 0, -1, -1, 1, 0, 0, 0, 0, 0, false}, /* segment register 6 */
    {"0f20c8", INSN_INVALID, 0, {R(0, 0)}, 0, -1, -1, 1, 0, 0, 0, 0, 0, false}, /* CR1 */
    {"8dc0", INSN_INVALID, 0, {R(0, 0)}, 0, -1, -1, 1, 0, 0, 0, 0, 0, false}, /* LEA of a register */
    {"c5f877", INSN_INVALID, 0, {R(0, 0)}, 0, -1, -1, 1, 0, 0, 0, 0, 0, false}, /* VZEROUPPER */
    {"fff8", INSN_INVALID, 0, {R(0, 0)}, 0, -1, -1, 1, 0, 0, 0, 0, 0, false},
    {"0f05", INSN_INVALID, 0, {R(0, 0)}, 0, -1, -1, 1, 0, 0, 0, 0, 0, false}, /* SYSCALL */
};
/* clang-format on */

static unsigned hex(const char *s, u8 *out)
{
    unsigned n = 0;
    for (; s[0] && s[1]; s += 2) {
        unsigned byte;
        ck_assert_int_eq(sscanf(s, "%2x", &byte), 1);
        out[n++] = (u8)byte;
    }
    return n;
}

START_TEST(hand_checked_encodings_have_these_fields)
{
    for (unsigned i = 0; i < ARRAY_LEN(expected); i++) {
        const struct expected *e = &expected[i];
        u8 bytes[16];
        unsigned n = hex(e->bytes, bytes);
        struct insn in;
        enum decode_status status = decode(d, bytes, n, 0x1000, !e->code16, ALL_FEATURES, &in);

        EXPECT(status == DECODE_OK, "%s: status %d", e->bytes, status);
        EXPECT(in.id == e->id, "%s: %s", e->bytes, in.row->name);
        EXPECT(in.row == &insn_rows[e->id] && in.op == in.row->op, "%s: row and op", e->bytes);
        EXPECT(in.prefixes == e->prefixes, "%s: prefixes %x", e->bytes, in.prefixes);
        EXPECT(in.nops == e->nops, "%s: %u operands", e->bytes, in.nops);
        if (e->id == INSN_INVALID) continue;
        EXPECT(in.len == n && in.next == 0x1000 + n, "%s: length %u, next %x", e->bytes, in.len, in.next);
        EXPECT(!memcmp(in.bytes, bytes, n), "%s: bytes", e->bytes);
        for (unsigned k = 0; k < e->nops; k++)
            EXPECT(in.opnd[k].kind == e->opnd[k].kind && in.opnd[k].reg == e->opnd[k].reg
                       && in.opnd[k].size == e->opnd[k].size,
                   "%s: operand %u is kind %u reg %u size %u", e->bytes, k, in.opnd[k].kind, in.opnd[k].reg,
                   in.opnd[k].size);
        EXPECT(in.seg == e->seg, "%s: segment %u", e->bytes, in.seg);
        EXPECT(in.base == e->base && in.index == e->index && in.scale == e->scale && in.disp == e->disp,
               "%s: base %d index %d scale %u disp %x", e->bytes, in.base, in.index, in.scale, in.disp);
        EXPECT(in.imm == e->imm && in.imm2 == e->imm2, "%s: imm %x imm2 %x", e->bytes, in.imm, in.imm2);
        EXPECT(in.target == e->target, "%s: target %x", e->bytes, in.target);
    }
}
END_TEST

START_TEST(no_part_of_an_instruction_is_decoded)
{
    for (unsigned i = 0; i < ARRAY_LEN(expected); i++) {
        u8 bytes[16];
        unsigned n = hex(expected[i].bytes, bytes);
        struct insn in;
        if (expected[i].id == INSN_INVALID) continue;
        for (unsigned part = 0; part < n; part++)
            EXPECT(decode(d, bytes, part, 0x1000, !expected[i].code16, ALL_FEATURES, &in) == DECODE_TRUNCATED,
                   "%s: %u bytes", expected[i].bytes, part);
    }
}
END_TEST

START_TEST(sizes_follow_prefixes_and_mode)
{
    static const struct {
        u8 bytes[3];
        bool code32;
        u8 opsize, addrsize;
    } cases[] = {
        { { 0x01, 0x00, 0x00 }, true, 4, 4 },  { { 0x66, 0x01, 0x00 }, true, 2, 4 },
        { { 0x67, 0x01, 0x00 }, true, 4, 2 },  { { 0x01, 0x00, 0x00 }, false, 2, 2 },
        { { 0x66, 0x01, 0x00 }, false, 4, 2 }, { { 0x67, 0x01, 0x00 }, false, 2, 4 },
    };
    struct insn in;

    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        ck_assert_int_eq(decode(d, cases[i].bytes, 3, 0, cases[i].code32, ALL_FEATURES, &in), DECODE_OK);
        ck_assert_uint_eq(in.opsize, cases[i].opsize);
        ck_assert_uint_eq(in.addrsize, cases[i].addrsize);
    }
}
END_TEST

START_TEST(conditions_read_only_their_flags)
{
    static const u32 reads[16] = {
        F_OF, F_OF, F_CF, F_CF, F_ZF,        F_ZF,        F_CF | F_ZF,        F_CF | F_ZF,
        F_SF, F_SF, F_PF, F_PF, F_SF | F_OF, F_SF | F_OF, F_ZF | F_SF | F_OF, F_ZF | F_SF | F_OF,
    };
    struct insn in;

    for (unsigned cc = 0; cc < 16; cc++) {
        u8 jcc[2] = { (u8)(0x70 + cc), 0 }, cmov[3] = { 0x0f, (u8)(0x40 + cc), 0xc0 },
           setcc[3] = { 0x0f, (u8)(0x90 + cc), 0xc0 };
        ck_assert_int_eq(decode(d, jcc, 2, 0, true, ALL_FEATURES, &in), DECODE_OK);
        ck_assert_uint_eq(in.cc, cc);
        ck_assert_uint_eq(insn_flags_read(&in), reads[cc]);
        ck_assert_int_eq(decode(d, cmov, 3, 0, true, ALL_FEATURES, &in), DECODE_OK);
        ck_assert_uint_eq(insn_flags_read(&in), reads[cc]);
        ck_assert_int_eq(decode(d, setcc, 3, 0, true, ALL_FEATURES, &in), DECODE_OK);
        ck_assert_uint_eq(insn_flags_read(&in), reads[cc]);
        ck_assert_uint_eq(insn_flags_written(&in) | insn_flags_undef(&in), 0);
    }
}
END_TEST

START_TEST(counts_decide_which_flags_change)
{
    static const struct {
        const char *bytes;
        u32 read, written, undef;
    } cases[] = {
        { "d1e0", 0, F_CF | F_PF | F_ZF | F_SF | F_OF, F_AF }, /* shl eax,1 */
        { "c1e000", 0, 0, 0 },                                 /* shl eax,0 */
        { "c1e020", 0, 0, 0 },                                 /* shl eax,32: masked to 0 */
        { "c1e001", 0, F_CF | F_PF | F_ZF | F_SF | F_OF, F_AF },
        { "c1e005", 0, F_CF | F_PF | F_ZF | F_SF, F_AF | F_OF },
        { "c0e008", 0, F_PF | F_ZF | F_SF, F_AF | F_OF | F_CF },   /* shl al,8 */
        { "c0f808", 0, F_CF | F_PF | F_ZF | F_SF, F_AF | F_OF },   /* sar al,8: CF is the sign */
        { "66c1e811", 0, F_PF | F_ZF | F_SF, F_AF | F_OF | F_CF }, /* shr ax,17 */
        { "d3e0", F_ARITH, 0, F_AF | F_OF },                       /* shl eax,cl */
        { "d2e0", F_ARITH, 0, F_AF | F_OF | F_CF },                /* shl al,cl */
        { "c1c005", 0, F_CF, F_OF },                               /* rol eax,5 */
        { "c1d005", F_CF, F_CF, F_OF },                            /* rcl eax,5 */
        { "d1d0", F_CF, F_CF | F_OF, 0 },                          /* rcl eax,1 */
        { "d3d8", F_CF | F_OF, 0, F_OF },                          /* rcr eax,cl */
        { "0fa4c203", 0, F_CF | F_PF | F_ZF | F_SF, F_AF | F_OF }, /* shld edx,eax,3 */
        { "660fa4c211", 0, 0, F_ARITH },                           /* shld dx,ax,17 */
        { "f3a6", F_DF | F_ARITH, 0, 0 },                          /* repe cmpsb */
        { "a6", F_DF, F_ARITH, 0 },
        { "f7e1", 0, F_CF | F_OF, F_SF | F_ZF | F_AF | F_PF },         /* mul ecx */
        { "40", 0, F_PF | F_AF | F_ZF | F_SF | F_OF, 0 },              /* inc eax */
        { "11c8", F_CF, F_ARITH, 0 },                                  /* adc eax,ecx */
        { "27", F_CF | F_AF, F_CF | F_AF | F_SF | F_ZF | F_PF, F_OF }, /* daa */
        { "0fbcc1", 0, F_ZF, F_CF | F_OF | F_SF | F_AF | F_PF },       /* bsf eax,ecx */
        { "0fa3c8", 0, F_CF, F_OF | F_SF | F_AF | F_PF },              /* bt eax,ecx */
    };

    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        u8 bytes[16];
        unsigned n = hex(cases[i].bytes, bytes);
        struct insn in;
        ck_assert_int_eq(decode(d, bytes, n, 0, true, ALL_FEATURES, &in), DECODE_OK);
        EXPECT(insn_flags_read(&in) == cases[i].read, "%s reads %x", cases[i].bytes, insn_flags_read(&in));
        EXPECT(insn_flags_written(&in) == cases[i].written, "%s writes %x", cases[i].bytes, insn_flags_written(&in));
        EXPECT(insn_flags_undef(&in) == cases[i].undef, "%s leaves undefined %x", cases[i].bytes,
               insn_flags_undef(&in));
    }
}
END_TEST

START_TEST(fifteen_bytes_are_the_limit)
{
    u8 bytes[20];
    struct insn in;

    memset(bytes, 0x66, sizeof(bytes));
    bytes[14] = 0x90;
    ck_assert_int_eq(decode(d, bytes, 15, 0, true, ALL_FEATURES, &in), DECODE_OK);
    ck_assert_uint_eq(in.len, 15);
    ck_assert_uint_eq(in.npfx, 14);
    ck_assert_int_eq(decode(d, bytes, 14, 0, true, ALL_FEATURES, &in), DECODE_TRUNCATED);
    bytes[14] = 0x66;
    bytes[15] = 0x90;
    ck_assert_int_eq(decode(d, bytes, 16, 0, true, ALL_FEATURES, &in), DECODE_TOO_LONG);
    bytes[13] = 0x01; /* add [eax], ax needs its ModRM and a SIB here: 16 bytes */
    bytes[14] = 0x04;
    bytes[15] = 0x00;
    ck_assert_int_eq(decode(d, bytes, 20, 0, true, ALL_FEATURES, &in), DECODE_TOO_LONG);
    ck_assert_int_eq(decode(d, bytes, 15, 0, true, ALL_FEATURES, &in), DECODE_TOO_LONG);
    ck_assert_int_eq(decode(d, bytes, 0, 0, true, ALL_FEATURES, &in), DECODE_TRUNCATED);
}
END_TEST

START_TEST(the_next_eip_has_32_bits_and_only_targets_are_cut_to_the_operand_size)
{
    static const u8 nop = 0x90, jmp[2] = { 0xeb, 0x02 };
    struct insn in;

    ck_assert_int_eq(decode(d, &nop, 1, 0xffffffff, true, ALL_FEATURES, &in), DECODE_OK);
    ck_assert_uint_eq(in.next, 0);
    ck_assert_int_eq(decode(d, &nop, 1, 0xffff, false, ALL_FEATURES, &in), DECODE_OK);
    ck_assert_uint_eq(in.next, 0x10000);
    ck_assert_int_eq(decode(d, jmp, 2, 0xfffe, false, ALL_FEATURES, &in), DECODE_OK);
    ck_assert_uint_eq(in.next, 0x10000);
    ck_assert_uint_eq(in.target, 2);
    ck_assert_int_eq(decode(d, jmp, 2, 0xfffffffe, true, ALL_FEATURES, &in), DECODE_OK);
    ck_assert_uint_eq(in.target, 2);
}
END_TEST

/* ---- Capstone over the opcode space ---- */

/* Where capstone 4.0.2 refuses or mis-measures what processors execute. */
enum when { ALWAYS, IN_16BIT /* or with 67, or with 66 beside F2 or F3 */, WITH_66_AND_REP };
static const struct {
    unsigned id;
    enum when when;
    const char *why;
} capstone_wrong[] = {
    { INSN_NOP_18_0, ALWAYS, "hint space 0F 18-1F, register forms" },
    { INSN_NOP_18_1, ALWAYS, "same" },
    { INSN_NOP_18_2, ALWAYS, "same" },
    { INSN_NOP_18_3, ALWAYS, "same" },
    { INSN_NOP_Ev, ALWAYS, "same" },
    { INSN_LFENCE, ALWAYS, "ModRM.rm is ignored by processors" },
    { INSN_MFENCE, ALWAYS, "same" },
    { INSN_SFENCE, ALWAYS, "same" },
    { INSN_PUNPCKLQDQ_Vx_Wdq, IN_16BIT, "known only with 32-bit operand and address size" },
    { INSN_PUNPCKHQDQ_Vx_Wdq, IN_16BIT, "same" },
    { INSN_PSLLDQ_Ux_Ib, IN_16BIT, "same" },
    { INSN_PSRLDQ_Ux_Ib, IN_16BIT, "same" },
    { INSN_HADDPD_Vx_Wdq, IN_16BIT, "same" },
    { INSN_HSUBPD_Vx_Wdq, IN_16BIT, "same" },
    { INSN_ADDSUBPD_Vx_Wdq, IN_16BIT, "same" },
    { INSN_HADDPS_Vx_Wdq, IN_16BIT, "same" },
    { INSN_HSUBPS_Vx_Wdq, IN_16BIT, "same" },
    { INSN_ADDSUBPS_Vx_Wdq, IN_16BIT, "same" },
    { INSN_MOVQ_Wq_Vx, IN_16BIT, "same" },
    { INSN_MOVQ2DQ_Vx_Nq, IN_16BIT, "same" },
    { INSN_MOVDQ2Q_Pq_Ux, IN_16BIT, "same" },
    { INSN_CVTTPD2DQ_Vx_Wdq, IN_16BIT, "same" },
    { INSN_CVTDQ2PD_Vx_Wq, IN_16BIT, "same" },
    { INSN_CVTPD2DQ_Vx_Wdq, IN_16BIT, "same" },
    { INSN_LDDQU_Vx_Mdq, IN_16BIT, "same" },
    { INSN_MOV_AL_Ob, WITH_66_AND_REP, "a REP prefix without meaning hides the operand size" },
    { INSN_MOV_eAX_Ov, WITH_66_AND_REP, "same" },
    { INSN_MOV_Ob_AL, WITH_66_AND_REP, "same" },
    { INSN_MOV_Ov_eAX, WITH_66_AND_REP, "same" },
    { INSN_CALL_Jz, WITH_66_AND_REP, "same: measured as if without 66" },
};

/* What capstone knows and this CPU does not have: #UD here. */
/* clang-format off */
static const char *const beyond_our_cpu[] = {
    "xabort", "xbegin", "clac", "clgi", "encls", "enclu", "invlpga", "rdtscp", "skinit", "stac", "stgi", "swapgs",
    "vmcall", "vmfunc",
    "vmlaunch", "vmload", "vmmcall", "vmresume", "vmrun", "vmsave", "vmxoff", "xend", "xgetbv", "xsetbv", "xtest",
    "syscall", "sysret",
    "prefetchw", "prefetch", "femms", "getsec", "vmread", "vmwrite", "montmul", "xsha1", "xsha256", "xcryptcbc",
    "xcryptcfb", "xcryptctr",
    "xcryptecb", "xcryptofb", "xstorerng", "xstore", "rsm", "xrstor", "xsave", "xsaveopt", "ud2b", "ud0", "rdrand",
    "rdseed", "vmptrld",
    "vmptrst", "vmclear", "vmxon", "xrstors", "xsavec", "xsaves", "sha1nexte", "sha1msg1", "sha1msg2", "sha256rnds2",
    "sha256msg1",
    "sha256msg2", "sha1rnds4", "movntss", "movntsd", "popcnt", "crc32", "pblendvb", "blendvps", "blendvpd", "ptest",
    "pmovsxbw",
    "pmovsxbd", "pmovsxbq", "pmovsxwd", "pmovsxwq", "pmovsxdq", "pmuldq", "pcmpeqq", "movntdqa", "packusdw",
    "pmovzxbw", "pmovzxbd",
    "pmovzxbq", "pmovzxwd", "pmovzxwq", "pmovzxdq", "pcmpgtq", "pminsb", "pminsd", "pminuw", "pminud", "pmaxsb",
    "pmaxsd", "pmaxuw",
    "pmaxud", "pmulld", "phminposuw", "invept", "invvpid", "invpcid", "aesimc", "aesenc", "aesenclast", "aesdec",
    "aesdeclast", "adcx",
    "adox", "roundps", "roundpd", "roundss", "roundsd", "blendps", "blendpd", "pblendw", "pextrb", "pextrd",
    "extractps", "pinsrb",
    "insertps", "pinsrd", "dpps", "dppd", "mpsadbw", "pclmulqdq", "pcmpestrm", "pcmpestri", "pcmpistrm", "pcmpistri",
    "aeskeygenassist", "extrq", "insertq", "clflushopt", "clwb", "pcommit", "pextrw" /* to memory */, "rdfsbase",
    "rdgsbase", "wrfsbase", "wrgsbase",
};
/* clang-format on */

static bool known_wrong(const struct insn *in, bool code32)
{
    bool addr16_or_16bit = !code32 || (in->prefixes & IP_ADDRSIZE);
    bool both = (in->prefixes & IP_OPSIZE) && (in->prefixes & (IP_REP | IP_REPNE));

    for (unsigned i = 0; i < ARRAY_LEN(capstone_wrong); i++)
        if (capstone_wrong[i].id == in->id)
            return capstone_wrong[i].when == ALWAYS || (capstone_wrong[i].when == IN_16BIT && (addr16_or_16bit || both))
                   || (capstone_wrong[i].when == WITH_66_AND_REP && both);
    return false;
}

static bool known_beyond(const char *mnemonic)
{
    for (unsigned i = 0; i < ARRAY_LEN(beyond_our_cpu); i++)
        if (!strcmp(mnemonic, beyond_our_cpu[i])) return true;
    return false;
}

/* Capstone takes some encodings that processors do not: operands that do not exist, LOCK on what it cannot lock, and
 * mandatory prefixes that select nothing (it then reports the form without the prefix, or with only 66). */
static bool capstone_too_lenient(const struct insn *in, const u8 *bytes, bool code32)
{
    unsigned skip = in->npfx, opcode = bytes[in->npfx];

    if (opcode == 0x8e || (opcode == 0x0f && (bytes[skip + 1] & 0xfd) == 0x20)) return true; /* MOV CS; CR1, CR5... */
    if (in->prefixes & IP_LOCK) return true;
    if (!(in->prefixes & (IP_OPSIZE | IP_REP | IP_REPNE)) || opcode != 0x0f) return false;
    for (unsigned with66 = 0; with66 < 2; with66++) {
        u8 other[15] = { 0x66 };
        struct insn form;
        memcpy(other + with66, bytes + skip, 15 - skip - with66);
        if (decode(d, other, 15, 0, code32, ALL_FEATURES, &form) == DECODE_OK && form.id != INSN_INVALID) return true;
    }
    return false;
}

START_TEST(capstone_agrees_except_where_listed)
{
    static const u8 prefixes[][3] = {
        { 0 },          { 0x66 },       { 0xf3 }, { 0xf2 }, { 0x67 },       { 0x66, 0x67 },
        { 0x66, 0xf3 }, { 0x66, 0xf2 }, { 0xf0 }, { 0x2e }, { 0xf2, 0xf3 }, { 0xf3, 0xf2, 0x66 },
    };
    static const u8 escapes[4][2] = { { 0 }, { 0x0f }, { 0x0f, 0x38 }, { 0x0f, 0x3a } };
    csh handles[2];
    cs_insn *text;
    unsigned long compared = 0;

    ck_assert_int_eq(cs_open(CS_ARCH_X86, CS_MODE_16, &handles[0]), CS_ERR_OK);
    ck_assert_int_eq(cs_open(CS_ARCH_X86, CS_MODE_32, &handles[1]), CS_ERR_OK);
    text = cs_malloc(handles[0]);
    for (unsigned code32 = 0; code32 < 2; code32++)
        for (unsigned p = 0; p < ARRAY_LEN(prefixes); p++)
            for (unsigned i = 0; i < 4 * 256 * 256; i++) {
                unsigned map = i >> 16, opcode = i >> 8 & 0xff, modrm = i & 0xff, n = 0;
                u8 bytes[24] = { 0 };
                const uint8_t *code = bytes;
                size_t left = 15;
                uint64_t address = 0x1000;
                struct insn in;
                bool known;

                for (unsigned k = 0; k < 3 && prefixes[p][k]; k++) bytes[n++] = prefixes[p][k];
                for (unsigned k = 0; k < 2 && escapes[map][k]; k++) bytes[n++] = escapes[map][k];
                bytes[n++] = (u8)opcode;
                bytes[n++] = (u8)modrm;
                if (map == 0
                    && (opcode == 0x0f || opcode == 0x26 || opcode == 0x2e || opcode == 0x36 || opcode == 0x3e
                        || (opcode >= 0x64 && opcode <= 0x67) || opcode == 0xf0 || opcode == 0xf2 || opcode == 0xf3))
                    continue; /* escapes and prefixes: covered by the other loops */
                if (map == 1 && (opcode == 0x38 || opcode == 0x3a)) continue;
                EXPECT(decode(d, bytes, 15, 0x1000, code32, ALL_FEATURES, &in) == DECODE_OK, "map %u opcode %02x", map,
                       opcode);
                known = cs_disasm_iter(handles[code32], &code, &left, &address, text);
                compared++;
                if (in.id == INSN_INVALID)
                    EXPECT(!known || known_beyond(text->mnemonic) || capstone_too_lenient(&in, bytes, code32),
                           "%u-bit prefix %u map %u opcode %02x ModRM %02x is refused, and %s %s to capstone",
                           code32 ? 32 : 16, p, map, opcode, modrm, text->mnemonic, text->op_str);
                else
                    EXPECT((known && text->size == in.len) || known_wrong(&in, code32),
                           "%u-bit prefix %u map %u opcode %02x ModRM %02x is %s (%u bytes), and %s (%u bytes) to "
                           "capstone",
                           code32 ? 32 : 16, p, map, opcode, modrm, in.row->name, in.len,
                           known ? text->mnemonic : "nothing", known ? text->size : 0);
            }
    ck_assert_uint_gt(compared, 4000000);
    cs_free(text, 1);
    cs_close(&handles[0]);
    cs_close(&handles[1]);
}
END_TEST

/* Every addressing form, against capstone's lengths. */
START_TEST(address_forms_have_capstones_length)
{
    csh handles[2];
    cs_insn *text;

    ck_assert_int_eq(cs_open(CS_ARCH_X86, CS_MODE_16, &handles[0]), CS_ERR_OK);
    ck_assert_int_eq(cs_open(CS_ARCH_X86, CS_MODE_32, &handles[1]), CS_ERR_OK);
    text = cs_malloc(handles[0]);
    for (unsigned code32 = 0; code32 < 2; code32++)
        for (unsigned addr = 0; addr < 2; addr++)
            for (unsigned i = 0; i < 65536; i++) {
                u8 bytes[15] = { 0x67, 0x81, (u8)(i >> 8), (u8)i, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 };
                const uint8_t *code = bytes + !addr;
                size_t left = 14;
                uint64_t address = 0;
                struct insn in;
                EXPECT(decode(d, bytes + !addr, 14, 0, code32, ALL_FEATURES, &in) == DECODE_OK, "%04x", i);
                EXPECT(cs_disasm_iter(handles[code32], &code, &left, &address, text), "%04x", i);
                EXPECT(text->size == in.len, "%u-bit, 67 %u, ModRM and SIB %04x: %u bytes, capstone %u",
                       code32 ? 32 : 16, addr, i, in.len, text->size);
            }
    cs_free(text, 1);
    cs_close(&handles[0]);
    cs_close(&handles[1]);
}
END_TEST

/* ---- Flags against capstone ---- */

static const struct {
    u64 cs;
    u32 flag;
} modifies[] = {
    { X86_EFLAGS_MODIFY_AF, F_AF },    { X86_EFLAGS_MODIFY_CF, F_CF },    { X86_EFLAGS_MODIFY_SF, F_SF },
    { X86_EFLAGS_MODIFY_ZF, F_ZF },    { X86_EFLAGS_MODIFY_PF, F_PF },    { X86_EFLAGS_MODIFY_OF, F_OF },
    { X86_EFLAGS_RESET_OF, F_OF },     { X86_EFLAGS_RESET_CF, F_CF },     { X86_EFLAGS_RESET_SF, F_SF },
    { X86_EFLAGS_RESET_AF, F_AF },     { X86_EFLAGS_RESET_ZF, F_ZF },     { X86_EFLAGS_RESET_PF, F_PF },
    { X86_EFLAGS_SET_CF, F_CF },       { X86_EFLAGS_UNDEFINED_OF, F_OF }, { X86_EFLAGS_UNDEFINED_SF, F_SF },
    { X86_EFLAGS_UNDEFINED_ZF, F_ZF }, { X86_EFLAGS_UNDEFINED_PF, F_PF }, { X86_EFLAGS_UNDEFINED_AF, F_AF },
    { X86_EFLAGS_UNDEFINED_CF, F_CF },
};
static const struct {
    u64 cs;
    u32 flag;
} tests[] = {
    { X86_EFLAGS_TEST_OF, F_OF }, { X86_EFLAGS_TEST_SF, F_SF }, { X86_EFLAGS_TEST_ZF, F_ZF },
    { X86_EFLAGS_TEST_PF, F_PF }, { X86_EFLAGS_TEST_CF, F_CF }, { X86_EFLAGS_TEST_AF, F_AF },
};

/* Where capstone 4.0.2 reports other arithmetic flags than the manual. changes: what capstone adds to or takes from
 * written | undefined; reads: the same for what is read. */
static const struct {
    unsigned op;
    u32 reads, changes;
    const char *why;
} capstone_flags_wrong[] = {
    { OP_ADC, F_CF, 0, "reads forgotten" },
    { OP_SBB, F_CF, 0, "same" },
    { OP_RCL, F_CF, 0, "same" },
    { OP_RCR, F_CF, 0, "same" },
    { OP_CMC, F_CF, 0, "same" },
    { OP_SALC, F_CF, 0, "same" },
    { OP_DAA, F_CF | F_AF, 0, "same" },
    { OP_DAS, F_CF | F_AF, 0, "same" },
    { OP_AAA, F_AF, 0, "same" },
    { OP_AAS, F_AF, 0, "same" },
    { OP_LAHF, F_SF | F_ZF | F_AF | F_PF | F_CF, 0, "same" },
    { OP_PUSHF, F_ARITH, 0, "same" },
    { OP_INT, F_ARITH, 0, "stores EFLAGS" },
    { OP_INT1, F_ARITH, 0, "same" },
    { OP_INT3, F_ARITH, 0, "same" },
    { OP_INTO, F_ARITH, 0, "same" },
    { OP_CALLF, F_ARITH, 0, "a task switch stores EFLAGS" },
    { OP_JMPF, F_ARITH, 0, "same" },
    { OP_MOV_TO_CR, 0, F_ARITH, "undefined after it" },
    { OP_MOV_FROM_CR, 0, F_ARITH, "same" },
    { OP_MOV_TO_DR, 0, F_ARITH, "same" },
    { OP_MOV_FROM_DR, 0, F_ARITH, "same" },
    { OP_SYSENTER, 0, F_ARITH, "changes IF, VM and RF only" },
    { OP_SYSEXIT, 0, F_ARITH, "changes none" },
};

static void flags_known_wrong(unsigned op, u32 *reads, u32 *changes)
{
    *reads = *changes = 0;
    for (unsigned i = 0; i < ARRAY_LEN(capstone_flags_wrong); i++)
        if (capstone_flags_wrong[i].op == op) {
            *reads = capstone_flags_wrong[i].reads;
            *changes = capstone_flags_wrong[i].changes;
        }
}

START_TEST(flags_agree_with_capstone_except_where_listed)
{
    csh handle;
    cs_insn *text;

    ck_assert_int_eq(cs_open(CS_ARCH_X86, CS_MODE_32, &handle), CS_ERR_OK);
    ck_assert_int_eq(cs_option(handle, CS_OPT_DETAIL, CS_OPT_ON), CS_ERR_OK);
    text = cs_malloc(handle);
    for (unsigned map = 0; map < 2; map++)
        for (unsigned i = 0; i < 65536; i++) {
            /* The immediate is 2: no shift by zero or one among them. */
            u8 bytes[15] = { 0x0f, (u8)(i >> 8), (u8)i, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2 };
            const uint8_t *code = bytes + !map;
            size_t left = 14;
            uint64_t address = 0;
            struct insn in;
            u32 reads = 0, changes = 0, wrong_reads, wrong_changes, our_reads, our_changes;

            if (decode(d, code, 14, 0, true, ALL_FEATURES, &in) != DECODE_OK || in.id == INSN_INVALID || in.npfx)
                continue;
            if (in.row->attr & A_FPU) continue; /* the same field holds FPU flags there */
            if (!cs_disasm_iter(handle, &code, &left, &address, text)) continue;
            for (unsigned k = 0; k < ARRAY_LEN(modifies); k++)
                if (text->detail->x86.eflags & modifies[k].cs) changes |= modifies[k].flag;
            for (unsigned k = 0; k < ARRAY_LEN(tests); k++)
                if (text->detail->x86.eflags & tests[k].cs) reads |= tests[k].flag;
            our_reads = (in.row->attr & A_CC ? insn_flags_read(&in) : in.row->reads) & F_ARITH;
            our_changes = (in.row->writes | in.row->undef) & F_ARITH;
            flags_known_wrong(in.op, &wrong_reads, &wrong_changes);
            EXPECT(!((reads ^ our_reads) & ~wrong_reads), "{OP_%s, 0x%x, 0x%x}: %s reads %x, capstone (%s) %x",
                   in.row->mnemonic, reads ^ our_reads, changes ^ our_changes, in.row->name, our_reads, text->mnemonic,
                   reads);
            EXPECT(!((changes ^ our_changes) & ~wrong_changes), "{OP_%s, 0x%x, 0x%x}: %s changes %x, capstone (%s) %x",
                   in.row->mnemonic, reads ^ our_reads, changes ^ our_changes, in.row->name, our_changes,
                   text->mnemonic, changes);
        }
    cs_free(text, 1);
    cs_close(&handle);
}
END_TEST

START_TEST(text_is_intel_syntax)
{
    static const struct {
        const char *bytes, *text;
    } cases[] = {
        { "8b442408", "mov eax, dword ptr [esp + 8]" },
        { "ebfe", "jmp 0x1000" },
        { "c3", "ret" },
        { "0faee9", "lfence ; db 0x0f, 0xae, 0xe9" }, /* not in capstone */
        { "0f0a", "db 0x0f, 0x0a" },
        { "0fa20f", "cpuid" },
        { "81", "db 0x81" },
    };
    char buf[96], tiny[4];

    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        u8 bytes[16];
        unsigned n = hex(cases[i].bytes, bytes);
        insn_text(d, bytes, n, 0x1000, true, buf, sizeof(buf));
        ck_assert_str_eq(buf, cases[i].text);
        insn_text(d, bytes, n, 0x1000, true, tiny, sizeof(tiny));
        ck_assert_uint_lt(strlen(tiny), sizeof(tiny));
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("decode");
    TCase *tc = tcase_create("decode");
    SRunner *sr;
    int failed;

    tcase_set_timeout(tc, 100);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, hand_checked_encodings_have_these_fields);
    tcase_add_test(tc, no_part_of_an_instruction_is_decoded);
    tcase_add_test(tc, sizes_follow_prefixes_and_mode);
    tcase_add_test(tc, conditions_read_only_their_flags);
    tcase_add_test(tc, counts_decide_which_flags_change);
    tcase_add_test(tc, fifteen_bytes_are_the_limit);
    tcase_add_test(tc, the_next_eip_has_32_bits_and_only_targets_are_cut_to_the_operand_size);
    tcase_add_test(tc, capstone_agrees_except_where_listed);
    tcase_add_test(tc, address_forms_have_capstones_length);
    tcase_add_test(tc, flags_agree_with_capstone_except_where_listed);
    tcase_add_test(tc, text_is_intel_syntax);
    suite_add_tcase(s, tc);
    sr = srunner_create(s);
    srunner_run_all(sr, CK_NORMAL);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? 1 : 0;
}
