/* What the judge of diff_test lets pass of instructions with two memory operands, and what it still refuses. */
#include "tests/diff/operands.h"

#include <check.h>
#include <string.h>

#include "translator/front/decode.h"

static struct decoder *dec;
static struct insn in;
static struct diff_state before;

static void setup(void)
{
    ck_assert_int_eq(decoder_new(&dec), 0);
    memset(&before, 0, sizeof(before));
    before.seg[S_CS] = USER_CS;
    before.seg[S_ES] = before.seg[S_SS] = before.seg[S_DS] = USER_DS;
    before.gpr[G_ESP] = STACK_BASE + 64;
}
static void teardown(void) { decoder_free(dec); }

static void insn(const char *hex)
{
    u8 bytes[15];
    unsigned n = 0, v;
    for (int len; sscanf(hex, "%x%n", &v, &len) == 1; hex += len) bytes[n++] = (u8)v;
    ck_assert_int_eq(decode(dec, bytes, n, CODE_BASE, true, ~0u, &in), DECODE_OK);
}

static struct diff_state reporting(u32 vector, u32 error, u32 cr2)
{
    struct diff_state s = before;
    s.vector = vector;
    s.error = error;
    s.cr2 = cr2;
    return s;
}

static bool open(struct diff_state a, struct diff_state b)
{
    bool there = operand_order_differs(&in, &a, &b, false);
    ck_assert_msg(there == operand_order_differs(&in, &b, &a, false), "the order of the arguments decides");
    return there;
}

START_TEST(either_of_two_faulting_operands_may_be_reported)
{
    before.gpr[G_ESI] = 0x400000;
    before.gpr[G_EDI] = 0x500ffe;
    insn("64 a7"); /* cmpsd fs:[esi], es:[edi]; FS is null */
    ck_assert(open(reporting(V_PF, PF_U, 0x500ffe), reporting(V_GP, 0, 0)));
    insn("a7");
    ck_assert(open(reporting(V_PF, PF_U, 0x500ffe), reporting(V_PF, PF_U, 0x400000)));
    before.seg[S_DS] = 7; /* of the LDT: its limit is anything */
    ck_assert(open(reporting(V_PF, PF_U, 0x500ffe), reporting(V_GP, 0, 0)));
    ck_assert(!open(reporting(V_PF, PF_U, 0x500ffe), reporting(V_GP, 4, 0)));
    before.seg[S_DS] = USER_DS;
    insn("f3 a5"); /* rep movsd */
    ck_assert(open(reporting(V_PF, PF_U | PF_W, 0x500ffe), reporting(V_PF, PF_U, 0x400000)));
    insn("ff 36"); /* push dword [esi] */
    before.gpr[G_ESP] = 0x600000;
    ck_assert(open(reporting(V_PF, PF_U | PF_W, 0x5ffffc), reporting(V_PF, PF_U, 0x400000)));
    insn("8f 04 24"); /* pop dword [esp]: of the ESP after it */
    ck_assert(open(reporting(V_PF, PF_U, 0x600000), reporting(V_PF, PF_U | PF_W, 0x600004)));
}
END_TEST

START_TEST(an_operand_across_4_gib_may_violate_its_limit_or_not)
{
    before.gpr[G_ESI] = 0x400000;
    before.gpr[G_EDI] = 0xfffffffe;
    insn("a7");
    ck_assert(open(reporting(V_GP, 0, 0), reporting(V_PF, PF_U, 0x400000)));
    ck_assert(open(reporting(V_PF, PF_U, 0xfffffffe), reporting(V_PF, PF_U, 0x400000)));
}
END_TEST

START_TEST(a_fault_that_no_operand_raises_is_refused)
{
    before.gpr[G_ESI] = 0x400000;
    before.gpr[G_EDI] = 0x500000;
    insn("a7");
    const struct diff_state right = reporting(V_PF, PF_U, 0x400000);
    ck_assert_msg(!open(right, reporting(V_PF, PF_U, 0x500004)), "CR2 is no operand's");
    ck_assert_msg(!open(right, reporting(V_PF, PF_U | PF_W, 0x500000)), "error code of a write");
    ck_assert_msg(!open(right, reporting(V_GP, 0, 0)), "no segment is at fault");
    ck_assert_msg(!open(right, reporting(V_SS, 0, 0)), "nor the stack's");
    ck_assert_msg(!open(right, reporting(3, 0, 0)), "it did not fault");
    ck_assert_msg(!open(right, right), "the same operand");
}
END_TEST

START_TEST(where_one_operand_faults_there_is_one_right_answer)
{
    before.gpr[G_ESI] = DATA_BASE;
    before.gpr[G_EDI] = 0x500000;
    insn("a7");
    ck_assert(!open(reporting(V_PF, PF_U, 0x500000), reporting(V_PF, PF_U, DATA_BASE)));
    insn("64 a7");
    before.gpr[G_EDI] = DATA_BASE;
    ck_assert(!open(reporting(V_GP, 0, 0), reporting(V_PF, PF_U, DATA_BASE)));
    before.gpr[G_EDI] = RO_BASE; /* readable: CMPS does not fault there, MOVS does */
    ck_assert(!open(reporting(V_GP, 0, 0), reporting(V_PF, PF_U | PF_P, RO_BASE)));
    insn("64 a5");
    ck_assert(open(reporting(V_GP, 0, 0), reporting(V_PF, PF_U | PF_W | PF_P, RO_BASE)));
}
END_TEST

START_TEST(instructions_with_one_memory_operand_have_one_right_answer)
{
    before.gpr[G_ESI] = 0x400000;
    before.gpr[G_EDI] = 0x500000;
    insn("8b 06"); /* mov eax, [esi] */
    ck_assert(!open(reporting(V_PF, PF_U, 0x400000), reporting(V_PF, PF_U, 0x500000)));
    insn("ad"); /* lodsd */
    ck_assert(!open(reporting(V_PF, PF_U, 0x400000), reporting(V_PF, PF_U, 0x500000)));
    insn("ff d6"); /* call esi */
    ck_assert(!open(reporting(V_PF, PF_U, 0x400000), reporting(V_PF, PF_U | PF_W, STACK_BASE + 60)));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("operands");
    TCase *t = tcase_create("operands");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, either_of_two_faulting_operands_may_be_reported);
    tcase_add_test(t, an_operand_across_4_gib_may_violate_its_limit_or_not);
    tcase_add_test(t, a_fault_that_no_operand_raises_is_refused);
    tcase_add_test(t, where_one_operand_faults_there_is_one_right_answer);
    tcase_add_test(t, instructions_with_one_memory_operand_have_one_right_answer);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
