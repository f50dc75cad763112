/* emit_x64.c: what a call is named is what is encoded. Capstone reads back every register and address form. */
#include "core/cpu.h"
#include "translator/lower/emit_x64.h"

#include <capstone/capstone.h>
#include <check.h>
#include <signal.h>
#include <string.h>

static csh cs;
static cs_insn *ci;
static u8 buf[64];
static struct emit e;

static void setup(void)
{
    ck_assert_int_eq(cs_open(CS_ARCH_X86, CS_MODE_64, &cs), CS_ERR_OK);
    cs_option(cs, CS_OPT_DETAIL, CS_OPT_ON);
    ci = cs_malloc(cs);
}
static void teardown(void)
{
    cs_free(ci, 1);
    cs_close(&cs);
}

static void start(void) { e = (struct emit){ .start = buf, .p = buf, .end = buf + sizeof buf }; }

/* Disassembles what was emitted: exactly one instruction. */
static const cs_x86 *one(void)
{
    const u8 *code = buf;
    size_t left = (size_t)(e.p - buf);
    u64 addr = 0;
    if (!cs_disasm_iter(cs, &code, &left, &addr, ci))
        ck_abort_msg("does not decode: %02x %02x %02x %02x", buf[0], buf[1], buf[2], buf[3]);
    if (left) ck_abort_msg("%zu bytes behind %s %s", left, ci->mnemonic, ci->op_str);
    return &ci->detail->x86;
}

static const char *text(void)
{
    static char t[256];
    one();
    snprintf(t, sizeof t, *ci->op_str ? "%s %s" : "%s", ci->mnemonic, ci->op_str);
    return t;
}

static const x86_reg reg64[16] = { X86_REG_RAX, X86_REG_RCX, X86_REG_RDX, X86_REG_RBX, X86_REG_RSP, X86_REG_RBP,
                                   X86_REG_RSI, X86_REG_RDI, X86_REG_R8,  X86_REG_R9,  X86_REG_R10, X86_REG_R11,
                                   X86_REG_R12, X86_REG_R13, X86_REG_R14, X86_REG_R15 };
static const x86_reg reg32[16] = { X86_REG_EAX,  X86_REG_ECX,  X86_REG_EDX,  X86_REG_EBX, X86_REG_ESP,  X86_REG_EBP,
                                   X86_REG_ESI,  X86_REG_EDI,  X86_REG_R8D,  X86_REG_R9D, X86_REG_R10D, X86_REG_R11D,
                                   X86_REG_R12D, X86_REG_R13D, X86_REG_R14D, X86_REG_R15D };

static bool is_mem(const cs_x86_op *op, struct hmem m)
{
    x86_reg base = m.base == H_NONE ? X86_REG_INVALID : reg64[m.base],
            index = m.index == H_NONE ? X86_REG_INVALID : reg64[m.index];
    bool none = op->mem.index == X86_REG_INVALID || op->mem.index == X86_REG_RIZ || op->mem.index == X86_REG_EIZ;
    return op->type == X86_OP_MEM && op->mem.base == base
           && (index == X86_REG_INVALID ? none : op->mem.index == index && op->mem.scale == m.scale)
           && op->mem.disp == m.disp && op->mem.segment == X86_REG_INVALID;
}

START_TEST(every_address_form_reads_back)
{
    static const s32 disp[] = { 0, 1, -1, 127, -128, 128, -129, 0x12345678, INT32_MIN, INT32_MAX };
    for (int dst = 0; dst < 16; dst++)
        for (int base = H_NONE; base < 16; base++)
            for (int index = H_NONE; index < 16; index++) {
                if (index == H_SP) continue;
                for (unsigned s = 0; s < 4; s++)
                    for (unsigned d = 0; d < ARRAY_LEN(disp); d++) {
                        struct hmem m = {
                            .base = (s8)base, .index = (s8)index, .scale = (u8)(1u << s), .disp = disp[d]
                        };
                        start();
                        emit_load32(&e, dst, m);
                        const cs_x86 *x = one();
                        if (ci->id != X86_INS_MOV || x->operands[0].reg != reg32[dst] || !is_mem(&x->operands[1], m))
                            ck_abort_msg("load32 %d, base %d index %d scale %u disp %d: %s %s", dst, base, index,
                                         m.scale, m.disp, ci->mnemonic, ci->op_str);
                    }
            }
}
END_TEST

START_TEST(moves_between_all_registers_read_back)
{
    for (int a = 0; a < 16; a++)
        for (int b = 0; b < 16; b++) {
            start();
            emit_mov_rr32(&e, a, b);
            const cs_x86 *x = one();
            ck_assert(ci->id == X86_INS_MOV && x->operands[0].reg == reg32[a] && x->operands[1].reg == reg32[b]);
            start();
            emit_mov_rr64(&e, a, b);
            x = one();
            ck_assert(ci->id == X86_INS_MOV && x->operands[0].reg == reg64[a] && x->operands[1].reg == reg64[b]);
            start();
            emit_movzx16(&e, a, b);
            x = one();
            ck_assert(ci->id == X86_INS_MOVZX && x->operands[0].reg == reg32[a] && x->operands[1].size == 2);
        }
}
END_TEST

START_TEST(flag_neutral_shifts_read_back)
{
    for (int a = 0; a < 16; a++)
        for (int b = 0; b < 16; b++)
            for (int c = 0; c < 16; c++) {
                start();
                emit_shrx32(&e, a, b, c);
                const cs_x86 *x = one();
                ck_assert(ci->id == X86_INS_SHRX && x->operands[0].reg == reg32[a] && x->operands[1].reg == reg32[b]
                          && x->operands[2].reg == reg32[c]);
                start();
                emit_sarx32(&e, a, b, c);
                x = one();
                ck_assert(ci->id == X86_INS_SARX && x->operands[0].reg == reg32[a] && x->operands[1].reg == reg32[b]
                          && x->operands[2].reg == reg32[c]);
                start();
                emit_shlx64(&e, a, b, c);
                x = one();
                ck_assert(ci->id == X86_INS_SHLX && x->operands[0].reg == reg64[a] && x->operands[1].reg == reg64[b]
                          && x->operands[2].reg == reg64[c]);
                start();
                emit_rorx32(&e, a, b, (unsigned)c);
                x = one();
                ck_assert(ci->id == X86_INS_RORX && x->operands[0].reg == reg32[a] && x->operands[1].reg == reg32[b]
                          && x->operands[2].imm == c);
            }
}
END_TEST

#define EMITS(call, expected)               \
    do {                                    \
        start();                            \
        call;                               \
        ck_assert_str_eq(text(), expected); \
    } while (0)

START_TEST(named_forms_are_what_they_say)
{
    EMITS(emit_mov_ri32(&e, H_R9, 0x1234), "mov r9d, 0x1234");
    EMITS(emit_mov_ri8(&e, 5, 0x12), "mov ch, 0x12");
    EMITS(emit_bswap32(&e, H_DX), "bswap edx");
    EMITS(emit_bswap32(&e, H_R14), "bswap r14d");
    EMITS(emit_pushfq(&e), "pushfq");
    EMITS(emit_pop64(&e, H_R11), "pop r11");
    EMITS(emit_load64(&e, H_CX, hmx(H_CPU, H_R9, 8, 0x4000)), "mov rcx, qword ptr [r15 + r9*8 + 0x4000]");
    EMITS(emit_loads32(&e, H_R9, hm(H_CPU, 40)), "movsxd r9, dword ptr [r15 + 0x28]");
    EMITS(emit_loadz(&e, H_R11, hmx(H_R9, H_R8, 1, 0), 1), "movzx r11d, byte ptr [r9 + r8]");
    EMITS(emit_loadz(&e, H_R11, hmx(H_R9, H_R8, 1, 0), 2), "movzx r11d, word ptr [r9 + r8]");
    EMITS(emit_loadz(&e, H_R11, hmx(H_R9, H_R8, 1, 0), 4), "mov r11d, dword ptr [r9 + r8]");
    EMITS(emit_store(&e, hm(H_BX, 0), H_SI, 1), "mov byte ptr [rbx], sil");
    EMITS(emit_store(&e, hm(H_BX, 0), H_R11, 1), "mov byte ptr [rbx], r11b");
    EMITS(emit_store(&e, hm(H_BX, 0), H_AX, 1), "mov byte ptr [rbx], al");
    EMITS(emit_store(&e, hm(H_BX, 0), H_SI, 2), "mov word ptr [rbx], si");
    EMITS(emit_store(&e, hm(H_R14, -4), H_R11, 4), "mov dword ptr [r14 - 4], r11d");
    EMITS(emit_store_imm(&e, hm(H_CPU, 0x34), 1, 1), "mov byte ptr [r15 + 0x34], 1");
    EMITS(emit_store_imm(&e, hm(H_BX, 0), 0x1234, 2), "mov word ptr [rbx], 0x1234");
    EMITS(emit_store_imm(&e, hm(H_BX, 0), 0x12345678, 4), "mov dword ptr [rbx], 0x12345678");
    EMITS(emit_lea32(&e, H_R8, hm(H_NONE, 0x1000)), "mov r8d, 0x1000");
    EMITS(emit_lea32(&e, H_R8, hm(H_BX, 0)), "mov r8d, ebx");
    EMITS(emit_lea32(&e, H_R8, hmx(H_NONE, H_SI, 4, -8)), "lea r8d, [rsi*4 - 8]");
    EMITS(emit_lea64(&e, H_R9, hmx(H_R9, H_R9, 1, 0)), "lea r9, [r9 + r9]");
    EMITS(emit_jmp_m(&e, hmx(H_JC, H_R9, 8, 8)), "jmp qword ptr [r13 + r9*8 + 8]");
    EMITS(emit_call_m(&e, hm(H_CPU, 0x68)), "call qword ptr [r15 + 0x68]");
    EMITS(emit_inc64_m(&e, hm(H_CPU, -8)), "inc qword ptr [r15 - 8]");
    EMITS(emit_add64_mi8(&e, hm(H_CPU, -16), 48), "add qword ptr [r15 - 0x10], 0x30");
    EMITS(emit_op_rm(&e, 0x66, 0x0f6f, 0, 3, hmx(H_WINDOW, H_R8, 1, 0)), "movdqa xmm3, xmmword ptr [r12 + r8]");
}
END_TEST

START_TEST(prefixes_come_before_REX)
{
    start();
    emit_op_rm(&e, 0x66, 0x0f38f0, 0, H_AX, hmx(H_WINDOW, H_R14, 1, 0));
    ck_assert_str_eq(text(), "movbe ax, word ptr [r12 + r14]");
    const u8 expected[] = { 0x66, 0x43, 0x0f, 0x38, 0xf0, 0x04, 0x34 };
    ck_assert_mem_eq(buf, expected, sizeof expected);
}
END_TEST

START_TEST(branches_reach_their_targets)
{
    static u8 code[300];
    for (int from = 0; from < 2; from++)
        for (unsigned distance = 0; distance <= 127; distance++) {
            e = (struct emit){ .start = code, .p = code + 140, .end = code + sizeof code };
            u8 *at = from ? emit_jrcxz(&e) : emit_jmp8(&e);
            u8 *behind = e.p;
            emit_patch8(&e, at, behind + distance);
            ck_assert_int_eq((s8)*at, (int)distance);
            emit_patch8(&e, at, behind - distance - 1);
            ck_assert_int_eq((s8)*at, -(int)distance - 1);
        }
    e = (struct emit){ .start = code, .p = code, .end = code + sizeof code };
    u8 *at = emit_jcc32(&e, 5);
    emit_patch32(at, code + 200);
    const u8 *p = code;
    size_t left = 6;
    u64 addr = 0x1000;
    ck_assert(cs_disasm_iter(cs, &p, &left, &addr, ci));
    ck_assert_int_eq(ci->id, X86_INS_JNE);
    ck_assert_int_eq(ci->detail->x86.operands[0].imm, 0x1000 + 200);
}
END_TEST

START_TEST(a_short_branch_too_far_is_a_BUG)
{
    start();
    u8 *at = emit_jmp8(&e);
    emit_patch8(&e, at, e.p + 128);
}
END_TEST

START_TEST(emission_past_the_end_is_dropped_and_remembered)
{
    u8 small[32];
    static u8 code_far[5000];
    memset(small, 0xcc, sizeof small);
    e = (struct emit){ .start = small, .p = small, .end = small + 20 };
    emit_mov_ri32(&e, H_R8, 0x11223344);
    ck_assert(!e.overflow);
    ck_assert_ptr_eq(e.p, small + 6);
    emit_mov_ri32(&e, H_R8, 0x11223344);
    ck_assert(e.overflow);
    ck_assert_ptr_eq(e.p, small + 6); /* as a whole */
    for (unsigned i = 6; i < sizeof small; i++) ck_assert_uint_eq(small[i], 0xcc);
    emit_patch8(&e, code_far, code_far + 4000); /* not a BUG any more: nothing of this will run */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("emit");
    TCase *t = tcase_create("forms");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, every_address_form_reads_back);
    tcase_add_test(t, moves_between_all_registers_read_back);
    tcase_add_test(t, flag_neutral_shifts_read_back);
    tcase_add_test(t, named_forms_are_what_they_say);
    tcase_add_test(t, prefixes_come_before_REX);
    tcase_add_test(t, branches_reach_their_targets);
    tcase_add_test_raise_signal(t, a_short_branch_too_far_is_a_BUG, SIGABRT);
    tcase_add_test(t, emission_past_the_end_is_dropped_and_remembered);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
