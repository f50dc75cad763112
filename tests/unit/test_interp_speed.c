/* How fast the interpreter is: million guest instructions a second in typical loops, printed. The bounds are a tenth of
 * what is usual, to find the day when every instruction is decoded anew, not a busy host. */
#include "tests/unit/interp_fixture.h"

#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static const struct {
    const char *what;
    double least;
    u8 code[32];
} loops[] = {
    /* add eax, ecx; xor edx, eax; dec ecx; jnz */
    { "registers", 4, { 0x01, 0xc8, 0x31, 0xc2, 0x49, 0x75, 0xf9 } },
    /* mov eax, [esi+ecx*4]; add [edi], eax; movzx edx, al; lea ebx, [edx+edx*2]; inc ecx; and ecx, 0xff; jmp */
    { "memory", 4, { 0x8b, 0x04, 0x8e, 0x01, 0x07, 0x0f, 0xb6, 0xd0, 0x8d, 0x1c,
                     0x52, 0x41, 0x81, 0xe1, 0xff, 0,    0,    0,    0xeb, 0xec } },
    /* call f; jmp; f: push ebx; mov ebx, eax; shl ebx, 3; pop ebx; ret */
    { "calls", 3, { 0xe8, 2, 0, 0, 0, 0xeb, 0xf9, 0x53, 0x89, 0xc3, 0xc1, 0xe3, 3, 0x5b, 0xc3 } },
    /* bytes, shifts by CL, ADC, SETcc, CMOV */
    { "others", 3, { 0x88, 0xc2, 0xd3, 0xe8, 0x11, 0xd0, 0x0f, 0x92, 0xc3, 0x0f, 0x44, 0xf7, 0x66, 0x42, 0xeb, 0xf0 } },
    /* addsd xmm0, xmm1; jmp */
    { "scalar SSE", 0.3, { 0xf2, 0x0f, 0x58, 0xc1, 0xeb, 0xfa } },
};

START_TEST(loops_run_at_a_decent_speed)
{
    bus_dma_write(bus, CODE, loops[_i].code, sizeof loops[_i].code);
    cpu->cr4 |= CR4_OSFXSR;
    cpu->fx.mxcsr = 0x1f80;
    cpu->eip = CODE;
    cpu->gpr[G_ECX] = 0;
    cpu->gpr[G_ESI] = 0x30000;
    cpu->gpr[G_EDI] = 0x38000;
    u64 n = loops[_i].least < 1 ? 1000000 : 20000000;
    double begin = now();
    ck_assert_int_eq(interp_run(ip, n), INTERP_BUDGET);
    double mips = (double)n / (now() - begin) * 1e-6;
    printf("interp %-10s %7.1f MIPS\n", loops[_i].what, mips);
    fflush(stdout);
    ck_assert_msg(mips > loops[_i].least, "%s: %.1f MIPS", loops[_i].what, mips);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("interp_speed");
    TCase *t = tcase_create("interp_speed");
    tcase_add_checked_fixture(t, interp_setup, interp_teardown);
    tcase_add_loop_test(t, loops_run_at_a_decent_speed, 0, ARRAY_LEN(loops));
    tcase_set_timeout(t, 60);
    suite_add_tcase(s, t);
    return fix_run(s);
}
