/* CPU models: instructions that a model lacks are #UD, bits of CR0, CR4 and EFLAGS that it lacks are not there. The
 * command line says which model runs this ("model=NAME"). Compiled for a 386. Sources: 80386 PRM, chapters 4, 17 and
 * 10; Intel486 PRM, 25 (differences to the 386); SDM vol. 3, 22 (architecture compatibility); SDM vol. 2, CPUID. */
#include "rt.h"

const char guest_name[] = "model";

enum { I486 = 1, CPUID_ = 2, TSC = 4, MSR = 8, CX8 = 16, CMOV = 32, SEP = 64, MMX = 128, FXSR = 256, SSE = 512,
        SSE2 = 1024,
       SSE3 = 2048, SSSE3 = 4096, MOVBE = 8192, NO_FPU = 16384 };
#define P5 (I486 | CPUID_ | TSC | MSR | CX8)
#define P2 (P5 | CMOV | SEP | MMX | FXSR)
#define P4 (P2 | SSE | SSE2)
static const struct { const char *word; u32 has, cr4; } models[] = {
    {"model=386", 0, 0},
    {"model=486", I486, 0},
    {"model=486,-fpu", I486 | NO_FPU, 0},
    {"model=pentium", P5, 0x5f},
    {"model=pentium-mmx", P5 | MMX, 0x15f},
    {"model=k6", P5 | MMX, 0x5f},
    {"model=pentium2", P2, 0x3ff},
    {"model=pentium3", P2 | SSE, 0x7ff},
    {"model=pentium4", P4, 0x7ff},
    {"model=core-duo", P4 | SSE3, 0x7ff},
    {"model=n270", P4 | SSE3 | SSSE3 | MOVBE, 0x7ff},
    {"model=athlon", P2 | SSE, 0x7ff},
    {"model=n270,-sse2,-tsc,-cx8", (P4 & ~(SSE2 | TSC | CX8)) | MOVBE, 0x7fb},
    {"model=pentium,+cmov,-pse,-vme", P5 | CMOV, 0x4c},
};

/* Each does it twice, so that translated code has it, too. */
#define PROBE(name, insns) \
    extern const u8 name[]; \
    __asm__(".text\n.globl " #name "\n" #name ": pushl %ebx\n\tpushl %esi\n\tpushl %edi\n\tmovl $scratch, %esi\n\t" \
        "xorl %eax, %eax\n\t" \
            "xorl %ecx, %ecx\n\txorl %edx, %edx\n\t" insns "\n\tpopl %edi\n\tpopl %esi\n\tpopl %ebx\n\tret\n");
u8 scratch[512] __attribute__((aligned(16)));
PROBE(p_invlpg, "invlpg (%esi)")
PROBE(p_wbinvd, "wbinvd")
PROBE(p_bswap, "bswap %eax")
PROBE(p_xadd, "xaddl %eax, (%esi)")
PROBE(p_cmpxchg, "cmpxchgl %ecx, (%esi)")
PROBE(p_cpuid, "cpuid")
PROBE(p_cr4, "movl %cr4, %eax")
PROBE(p_rdtsc, "rdtsc")
PROBE(p_cmpxchg8b, "cmpxchg8b (%esi)")
PROBE(p_cmov, "cmovel %ecx, %eax")
PROBE(p_fcomi, "fninit\n\tfldz\n\tfcomi %st(0)")
PROBE(p_mmx, "paddd %mm0, %mm1\n\temms")
PROBE(p_fxsave, "fxsave (%esi)")
PROBE(p_sse, "addps %xmm0, %xmm1")
PROBE(p_sfence, "sfence")
PROBE(p_sse2, "addpd %xmm0, %xmm1")
PROBE(p_movdqa, "movdqa %xmm0, (%esi)")
PROBE(p_clflush, "clflush (%esi)")
PROBE(p_lfence, "lfence")
PROBE(p_sse3, "haddps %xmm0, %xmm1")
PROBE(p_fisttp, "fninit\n\tfldz\n\tfisttpl (%esi)")
PROBE(p_ssse3, "pshufb %xmm0, %xmm1")
PROBE(p_movbe, "movbe (%esi), %eax")
PROBE(p_popcnt, ".byte 0xf3, 0x0f, 0xb8, 0xc0")                 /* SSE4.2: none has it */
PROBE(p_syscall, ".byte 0x0f, 0x05")                          /* none announces it */
PROBE(p_fadd, "fninit\n\tfldz\n\tfadd %st(0)")

static const struct { const char *name; const u8 *code; u32 needs; } probes[] = {
    {"INVLPG", p_invlpg, I486}, {"WBINVD", p_wbinvd, I486}, {"BSWAP", p_bswap, I486}, {"XADD", p_xadd, I486},
    {"CMPXCHG", p_cmpxchg, I486},
    {"CPUID", p_cpuid, CPUID_}, {"MOV CR4", p_cr4, CPUID_}, {"RDTSC", p_rdtsc, TSC}, {"CMPXCHG8B", p_cmpxchg8b, CX8},
    {"CMOV", p_cmov, CMOV}, {"FCOMI", p_fcomi, CMOV}, {"MMX", p_mmx, MMX}, {"FXSAVE", p_fxsave, FXSR},
    {"SSE", p_sse, SSE},
    {"SFENCE", p_sfence, SSE}, {"SSE2", p_sse2, SSE2}, {"MOVDQA", p_movdqa, SSE2}, {"LFENCE", p_lfence, SSE2},
    {"SSE3", p_sse3, SSE3}, {"FISTTP", p_fisttp, SSE3}, {"SSSE3", p_ssse3, SSSE3}, {"MOVBE", p_movbe, MOVBE},
    {"POPCNT", p_popcnt, 1u << 31}, {"SYSCALL", p_syscall, 1u << 31},
};

static void read_msr(void *msr) { rdmsr((u32)msr); }
static void write_cr4_with(void *v) { write_cr4((u32)v); }

static u32 toggles(u32 bit)
{
    u32 before = read_eflags(), after;

    write_eflags(before ^ bit);
    after = read_eflags();
    write_eflags(before);
    return (before ^ after) & bit;
}

static u32 iret_with(u32 flags)
{
    u32 got;
    __asm__ volatile("pushl %1; pushl %%cs; pushl $1f; iretl; 1: pushfl; popl %0"
        : "=&r"(got) : "r"(flags) : "memory", "cc");
    write_eflags(2);
    return got;
}

static void control_registers(u32 has, u32 cr4)
{
    const u32 i486 = has & I486 ? ~0u : 0;

    section("CR0");
    u32 cr0 = read_cr0();
    write_cr0(cr0 | CR0_WP | CR0_AM | CR0_NE);
    CHECK_EQ(read_cr0() & (CR0_WP | CR0_AM | CR0_NE), (CR0_WP | CR0_AM | CR0_NE) & i486);
    write_cr0(cr0 | 0x60000000);
    CHECK_EQ(read_cr0() & 0x60000000, 0x60000000 & i486);
    write_cr0(cr0);
    section("EFLAGS");
    CHECK_EQ(toggles(F_AC), F_AC & i486);
    CHECK_EQ(toggles(F_ID), has & CPUID_ ? F_ID : 0);
    CHECK_EQ(iret_with(2 | F_AC | F_ID) & (F_AC | F_ID), (F_AC & i486) | (has & CPUID_ ? F_ID : 0));
    section("CR4");
    if (!(has & CPUID_))
        return;
    u32 before = read_cr4();
    for (u32 bit = 0; bit < 32; bit++) {
        bool there = cr4 >> bit & 1;
        CHECK_EQ(caught(write_cr4_with, (void *)(1u << bit)), !there);
        if (!there) {
            CHECK_EQ(trap.vector, V_GP);
            CHECK_EQ(trap.error, 0);
        }
    }
    write_cr4(before);
}

static void store(void *p) { *(volatile u32 *)p = 1; }

/* Without WP, the supervisor writes wherever it likes. */
static void write_protection(u32 has)
{
    static u32 directory[1024] __attribute__((aligned(4096))), table[1024] __attribute__((aligned(4096)));
    static u32 more[7][1024] __attribute__((aligned(4096)));

    section("a 4 KiB page that is read-only");
    for (u32 i = 0; i < 1024; i++)
        table[i] = i * PAGE | 3;
    for (u32 k = 0; k < 7; k++)
        for (u32 i = 0; i < 1024; i++)
            more[k][i] = ((k + 1) << 22) + i * PAGE + 3;
    directory[0] = (u32)table | 3;
    for (u32 k = 0; k < 7; k++)
        directory[k + 1] = (u32)more[k] | 3;
    u32 at = (u32)scratch >> 12;
    (at < 1024 ? table : more[(at >> 10) - 1])[at & 1023] &= ~2u;
    write_cr3((u32)directory);
    write_cr0(read_cr0() | CR0_PG | CR0_WP);
    CHECK_EQ(caught(store, scratch), has & I486 ? 1 : 0);
    if (has & I486)
        CHECK_EQ(trap.vector, V_PF);
    write_cr0(read_cr0() & ~(CR0_PG | CR0_WP));
}

void guest_main(void)
{
    u32 n = sizeof(models) / sizeof(models[0]), i = 0;

    while (i < n && !told(models[i].word))
        i++;
    CHECK(i < n);
    if (i == n)
        return;
    u32 has = models[i].has;
    control_registers(has, models[i].cr4);
    if (has & FXSR)
        write_cr4(read_cr4() | CR4_OSFXSR);
    section("instructions");
    for (u32 twice = 0; twice < 2; twice++)
        for (u32 k = 0; k < sizeof(probes) / sizeof(probes[0]); k++) {
            bool there = has & probes[k].needs;
            u32 trapped = caught((void (*)(void *))(u32)probes[k].code, NULL), vector = trapped ? trap.vector : ~0u;
            if (vector != (there ? ~0u : (u32)V_UD))
                print("%s:\n", probes[k].name);
            CHECK_EQ(vector, there ? ~0u : (u32)V_UD);
        }
    CHECK_EQ(caught((void (*)(void *))(u32)p_clflush, NULL), !(has & SSE2) && !told("model=n270,-sse2,-tsc,-cx8"));
    CHECK_EQ(caught((void (*)(void *))(u32)p_fadd, NULL), has & NO_FPU ? 1 : 0);
    section("MSRs");
    CHECK_EQ(caught(read_msr, (void *)0x12345678), 1);
    CHECK_EQ(trap.vector, has & MSR ? V_GP : V_UD);
    write_protection(has);
}
