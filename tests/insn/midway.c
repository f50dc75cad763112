/* Faults in the middle of instructions with more than one access: PUSHA, POPA, ENTER, far CALL, RET, IRET, LDS, BOUND,
 * FXSAVE, FNSAVE, REP MOVS, .. Their operand lies across the end of a page, or of a segment. What does not fit leaves
 * all registers, ESP and the FPU as they were; and with the page there, the instruction that is resumed gives what it
 * gives without a fault. Then what the processor reads and writes by itself: stacks of inner rings, descriptors, TSSs,
 * on pages that are not there or may not be written. SDM vol. 3, 5.3 (limits), 6.5 (faults), 6.13 (error codes), 4.6
 * (implicit supervisor accesses); vol. 2, the instructions' own pages. QEMU 7.2 departs: no limits; ENTER, FNSAVE,
 * FRSTOR and others have changed registers when they fault. */
#include "rt.h"

const char guest_name[] = "midway";

enum { WINDOW = 0x40000000, BORDER = WINDOW + PAGE, SMALL = TEST_SEL(0) | 3, ELSEWHERE_BYTES = 4096 };
static u8 *pages;                                              /* the two pages, by the kernel's map */
static u8 elsewhere[ELSEWHERE_BYTES] __attribute__((aligned(16))); /* for operands that are not the one in question */

/* Where the operand is: above ESP, below ESP (which it moves down), at EBX, or around EBP. */
enum place { POPPED, PUSHED, AT_EBX, AT_EBP };
struct op {
    const char *name;
    const u8 *code;
    enum place place;
    u16 below, bytes;                                          /* [BORDER - below, BORDER - below + bytes) */
    bool writes, partial /* a string: what is done is done */, at_stack /* the limit is SS's */;
    u32 fill[4];                                               /* what the operand holds */
};

#define OP_CODE(name, insns) \
    extern const u8 name[]; \
    __asm__(".text\n.globl " #name "\n" #name ": " insns "\n\tint $0x81\n");
extern const u8 arrived[];
__asm__(".text\n.globl arrived\narrived: int $0x81\n");

OP_CODE(op_pusha, "pushal")
OP_CODE(op_pusha16, "pushaw")
OP_CODE(op_popa, "popal")
OP_CODE(op_popa16, "popaw")
OP_CODE(op_enter, "enter $24, $3")
OP_CODE(op_enter16, ".byte 0x66, 0xc8, 24, 0, 3")
OP_CODE(op_enter_room, "enter $4096, $0")
OP_CODE(op_leave, "leave")
OP_CODE(op_callf, ".byte 0x9a\n\t.long arrived\n\t.word 0x1b")
OP_CODE(op_callf_mem, "lcall *(%ebx)")
OP_CODE(op_jmpf_mem, "ljmp *(%ebx)")
OP_CODE(op_retf, "lret")
OP_CODE(op_retf_imm, "lret $8")
OP_CODE(op_iret, "iretl")
OP_CODE(op_les, "les (%ebx), %ecx")
OP_CODE(op_lfs, "lfs (%ebx), %ecx")
OP_CODE(op_lss, "lss (%ebx), %esp")
OP_CODE(op_bound, "boundl %eax, (%ebx)")
OP_CODE(op_sgdt, "sgdt (%ebx)")
OP_CODE(op_sidt, "sidt (%ebx)")
OP_CODE(op_fxsave, "fxsave (%ebx)")
OP_CODE(op_fxrstor, "fxrstor (%ebx)")
OP_CODE(op_fnsave, "fnsave (%ebx)")
OP_CODE(op_fnsave16, "fnsaves (%ebx)")
OP_CODE(op_frstor, "frstor (%ebx)")
OP_CODE(op_fnstenv, "fnstenv (%ebx)")
OP_CODE(op_fldenv, "fldenv (%ebx)")
OP_CODE(op_fld80, "fldt (%ebx)")
OP_CODE(op_fstp80, "fstpt (%ebx)")
OP_CODE(op_fbstp, "fbstp (%ebx)")
OP_CODE(op_fistp64, "fistpll (%ebx)")
OP_CODE(op_movdqu_load, "movdqu (%ebx), %xmm1")
OP_CODE(op_movdqu_store, "movdqu %xmm1, (%ebx)")
OP_CODE(op_movq_store, "movq %xmm1, (%ebx)")
OP_CODE(op_cmpxchg8b, "cmpxchg8b (%ebx)")
OP_CODE(op_xadd, "lock xaddl %eax, (%ebx)")
OP_CODE(op_rep_movs, "movl %ebx, %edi\n\tmovl $elsewhere, %esi\n\tmovl $16, %ecx\n\trep movsl")
OP_CODE(op_rep_stos, "movl %ebx, %edi\n\tmovl $16, %ecx\n\trep stosl")
OP_CODE(op_rep_lods, "movl %ebx, %esi\n\tmovl $16, %ecx\n\trep lodsl")

static const struct op ops[] = {
    {"PUSHA", op_pusha, PUSHED, 20, 32, true, false, true, {0}},
    {"PUSHA, within a word", op_pusha, PUSHED, 18, 32, true, false, true, {0}},
    {"PUSHA, 16 bits", op_pusha16, PUSHED, 6, 16, true, false, true, {0}},
    {"POPA", op_popa, POPPED, 20, 32, false, false, true, {1, 2, 3, 4}},
    {"POPA, within a word", op_popa, POPPED, 19, 32, false, false, true, {1, 2, 3, 4}},
    {"POPA, 16 bits", op_popa16, POPPED, 6, 16, false, false, true, {1, 2, 3, 4}},
    {"ENTER, 3 levels", op_enter, PUSHED, 24, 40, true, false, true, {0}},
    {"ENTER, 3 levels, display", op_enter, AT_EBP, 4, 8, false, false, true, {5, 6}},
    {"ENTER, 16 bits", op_enter16, PUSHED, 4, 8, true, false, true, {0}},
    {"ENTER, the new top", op_enter_room, PUSHED, 4096, 4100, true, false, true, {0}},
    {"LEAVE", op_leave, AT_EBP, 2, 4, false, false, true, {0x87654321}},
    {"CALL far", op_callf, PUSHED, 4, 8, true, false, true, {0}},
    {"CALL far, within a word", op_callf, PUSHED, 6, 8, true, false, true, {0}},
    {"CALL far, pointer", op_callf_mem, AT_EBX, 4, 6, false, false, false, {(u32)arrived, SEL_UCODE}},
    {"JMP far, pointer", op_jmpf_mem, AT_EBX, 3, 6, false, false, false, {(u32)arrived, SEL_UCODE}},
    {"RET far", op_retf, POPPED, 4, 8, false, false, true, {(u32)arrived, SEL_UCODE}},
    {"RET far n", op_retf_imm, POPPED, 2, 8, false, false, true, {(u32)arrived, SEL_UCODE}},
    {"IRET", op_iret, POPPED, 8, 12, false, false, true, {(u32)arrived, SEL_UCODE, 2 | F_CF | F_ZF}},
    {"LES", op_les, AT_EBX, 4, 6, false, false, false, {0x12345678, SEL_UDATA}},
    {"LFS", op_lfs, AT_EBX, 2, 6, false, false, false, {0x12345678, SEL_UDATA}},
    {"LSS", op_lss, AT_EBX, 4, 6, false, false, false, {0x12345678, SEL_UDATA}},
    {"BOUND", op_bound, AT_EBX, 4, 8, false, false, false, {0, 0x7fffffff}},
    {"SGDT", op_sgdt, AT_EBX, 2, 6, true, false, false, {0}},
    {"SIDT", op_sidt, AT_EBX, 4, 6, true, false, false, {0}},
    {"FXSAVE", op_fxsave, AT_EBX, 256, 512, true, false, false, {0}},
    {"FXSAVE, the last 16 bytes", op_fxsave, AT_EBX, 496, 512, true, false, false, {0}},
    {"FXRSTOR", op_fxrstor, AT_EBX, 256, 512, false, false, false, {0x37f, 0, 0, 0}},
    {"FNSAVE", op_fnsave, AT_EBX, 50, 108, true, false, false, {0}},
    {"FNSAVE, 16 bits", op_fnsave16, AT_EBX, 90, 94, true, false, false, {0}},
    {"FRSTOR", op_frstor, AT_EBX, 50, 108, false, false, false, {0x27f, 0, 0xffff, 0}},
    {"FNSTENV", op_fnstenv, AT_EBX, 14, 28, true, false, false, {0}},
    {"FLDENV", op_fldenv, AT_EBX, 14, 28, false, false, false, {0x27f, 0, 0xffff, 0}},
    {"FLD m80", op_fld80, AT_EBX, 8, 10, false, false, false, {1, 0x80000000, 0x3fff}},
    {"FSTP m80", op_fstp80, AT_EBX, 8, 10, true, false, false, {0}},
    {"FBSTP", op_fbstp, AT_EBX, 4, 10, true, false, false, {0}},
    {"FISTP m64", op_fistp64, AT_EBX, 4, 8, true, false, false, {0}},
    {"MOVDQU load", op_movdqu_load, AT_EBX, 8, 16, false, false, false, {9, 8, 7, 6}},
    {"MOVDQU store", op_movdqu_store, AT_EBX, 8, 16, true, false, false, {0}},
    {"MOVQ store", op_movq_store, AT_EBX, 4, 8, true, false, false, {0}},
    {"CMPXCHG8B", op_cmpxchg8b, AT_EBX, 4, 8, true, false, false, {0x11111111, 0x22222222}},
    {"LOCK XADD", op_xadd, AT_EBX, 2, 4, true, false, false, {1}},
    {"REP MOVS", op_rep_movs, AT_EBX, 30, 64, true, true, false, {0}},
    {"REP STOS", op_rep_stos, AT_EBX, 32, 64, true, true, false, {0}},
    {"REP LODS", op_rep_lods, AT_EBX, 34, 64, false, true, false, {1, 2, 3, 4}},
};

/* ---- One run: state before, state after. */
static u8 fpu_before[512] __attribute__((aligned(16))), fpu_after[512] __attribute__((aligned(16)));
static inline void fxsave(u8 *to) { __asm__ volatile("fxsave (%0)" : : "r"(to) : "memory"); }
static inline void fxrstor(const u8 *from) { __asm__ volatile("fxrstor (%0)" : : "r"(from) : "memory"); }

struct outcome {
    u32 eax, ecx, edx, ebx, esp, ebp, esi, edi, eip, eflags, cs, ss, ds, es, fs;
    u8 fpu[512] __attribute__((aligned(16))), memory[2 * PAGE];
};
static struct outcome plain, resumed;

static struct frame frame_of(const struct op *o, u32 ss, u32 ds)
{
    u32 at = BORDER - o->below, top = (u32)elsewhere + ELSEWHERE_BYTES - 256;
    struct frame f = {.eax = 0x11111111, .ecx = 0x33333333, .edx = 0x22222222, .ebx = 0x44444444, .ebp = top,
        .esi = 0x66666666,
                      .edi = 0x77777777, .ds = ds, .es = SEL_UDATA, .fs = SEL_UDATA, .gs = SEL_UDATA,
                          .eip = (u32)o->code,
                      .cs = SEL_UCODE, .eflags = 2 | F_CF | F_PF, .esp = top, .ss = ss};

    switch (o->place) {
    case POPPED: f.esp = at; break;
    case PUSHED: f.esp = at + o->bytes; break;
    case AT_EBX: f.ebx = at; break;
    /* LEAVE pops from EBP; ENTER reads the words below it. */
    case AT_EBP: f.ebp = o->code == op_leave ? at : at + o->bytes; break;
    }
    return f;
}

static void fill(const struct op *o)
{
    for (u32 i = 0; i < 2 * PAGE; i++)
        pages[i] = (u8)(i * 7 + (i >> 8));
    if (o->code == op_fxrstor || o->code == op_frstor || o->code == op_fldenv)
        memset(pages + PAGE - o->below, 0, o->bytes);          /* MXCSR has reserved bits */
    u8 *p = pages + PAGE - o->below;
    if (o->fill[0] | o->fill[1] | o->fill[2])
        memcpy(p, o->fill, o->bytes < sizeof(o->fill) ? o->bytes : sizeof(o->fill));
    fxrstor(fpu_before);
}

static void note(struct outcome *to)
{
    fxsave(to->fpu);
    *(u32 *)(to->fpu + 28) = 0;                                /* the mask of MXCSR */
    to->eax = trap.eax, to->ecx = trap.ecx, to->edx = trap.edx, to->ebx = trap.ebx, to->esp = trap.esp,
        to->ebp = trap.ebp;
    to->esi = trap.esi, to->edi = trap.edi, to->eip = trap.eip, to->cs = trap.cs, to->ss = trap.ss;
    to->eflags = trap.eflags & 0xcd5, to->ds = trap_frame.ds & 0xffff, to->es = trap_frame.es & 0xffff;
    to->fs = trap_frame.fs & 0xffff;
    memcpy(to->memory, pages, sizeof(to->memory));
}

static void map(u64 low, u64 high)
{
    pte_set(WINDOW, low ? (u32)pages | low : 0);
    pte_set(BORDER, high ? ((u32)pages + PAGE) | high : 0);
    write_cr3(read_cr3());
}

static void same(const char *name, const char *what, u32 got, u32 want)
{
    check_equal(__FILE__, __LINE__, what, got, want);
    if (got != want)
        print("  in %s\n", name);
}

/* All registers as before the instruction, and EIP at it. */
static void check_unchanged(const struct op *o, const struct frame *f)
{
    fxsave(fpu_after);
    if (!o->partial) {
        same(o->name, "eax", trap.eax, f->eax);
        same(o->name, "ecx", trap.ecx, f->ecx);
        same(o->name, "edx", trap.edx, f->edx);
        same(o->name, "esi", trap.esi, f->esi);
        same(o->name, "edi", trap.edi, f->edi);
        same(o->name, "eip", trap.eip, f->eip);
    } else {
        u32 done = 16 - trap.ecx;
        CHECK(done < 16 && trap.eip > f->eip);
        same(o->name, "edi or esi", o->code == op_rep_lods ? trap.esi : trap.edi, f->ebx + 4 * done);
    }
    same(o->name, "ebx", trap.ebx, f->ebx);
    same(o->name, "ebp", trap.ebp, f->ebp);
    same(o->name, "esp", trap.esp, f->esp);
    same(o->name, "ss", trap.ss, f->ss);
    same(o->name, "cs", trap.cs, f->cs);
    same(o->name, "ds", trap_frame.ds & 0xffff, f->ds);
    same(o->name, "fs", trap_frame.fs & 0xffff, f->fs);
    same(o->name, "eflags", trap.eflags & 0xcd5, f->eflags & 0xcd5);
    same(o->name, "FPU", memcmp(fpu_after, fpu_before, 24) || memcmp(fpu_after + 32, fpu_before + 32, 256), 0);
}

static void resume(const struct op *o)
{
    struct frame f = trap_frame;

    map(7, 7);
    same(o->name, "resumed", user_enter(&f), 0);
    note(&resumed);
    same(o->name, "state after it", memcmp(&resumed, &plain, __builtin_offsetof(struct outcome, fpu)), 0);
    same(o->name, "FPU after it", memcmp(resumed.fpu, plain.fpu, sizeof(plain.fpu)), 0);
    same(o->name, "memory after it", memcmp(resumed.memory, plain.memory, sizeof(plain.memory)), 0);
}

static void page_case(const struct op *o, u64 low, u64 high)
{
    struct frame f = frame_of(o, SEL_UDATA, SEL_UDATA);
    bool absent = !low || !high, first = !(low & 2) || !low;
    u32 bad = (absent ? !low : first) ? WINDOW : BORDER;

    fill(o);
    map(low, high);
    same(o->name, "faulted", user_enter(&f), 1);
    f = frame_of(o, SEL_UDATA, SEL_UDATA);                     /* user_enter() has popped it, in place */
    same(o->name, "vector", trap.vector, V_PF);
    same(o->name, "error", trap.error & ~2u, absent ? 4 : 5);
    same(o->name, "page", trap.cr2 & ~0xfffu, bad);
    if (o->writes && !absent)
        same(o->name, "a write", trap.error & 2, 2);
    check_unchanged(o, &f);
    resume(o);
}

/* Neither part of the operand outside the segment, then one. */
static void limit_case(const struct op *o, u64 descriptor_)
{
    u32 ss = o->at_stack ? SMALL : SEL_UDATA, ds = o->at_stack ? SEL_UDATA : SMALL;
    struct frame f = frame_of(o, ss, ds);

    /* A source or destination through ES is not DS's. */
    if (o->code == op_rep_movs || o->code == op_rep_stos)
        f.es = SMALL, f.ds = SEL_UDATA;
    gdt[SMALL / 8] = descriptor_;
    fill(o);
    map(7, 7);
    struct frame before = f;
    same(o->name, "faulted", user_enter(&f), 1);
    same(o->name, "vector", trap.vector, o->at_stack ? V_SS : V_GP);
    same(o->name, "error", trap.error, 0);
    check_unchanged(o, &before);
}

static void operands(void)
{
    for (u32 i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        const struct op *o = &ops[i];
        struct frame f = frame_of(o, SEL_UDATA, SEL_UDATA);

        section("across a page");
        fill(o);
        map(7, 7);
        same(o->name, "without a fault", user_enter(&f), 0);
        note(&plain);
        page_case(o, 0, 7);
        page_case(o, 7, 0);
        if (o->writes) {
            page_case(o, 5, 7);
            page_case(o, 7, 5);
        }
        if (told("tcg"))
            continue;
        section("beyond an expand-up limit");
        limit_case(o, descriptor(0, BORDER / PAGE - 1, SEG_DATA | SEG_DPL3, SEG_BIG | SEG_GRAN));
        section("below an expand-down limit");
        limit_case(o, descriptor(0, BORDER / PAGE - 1, SEG_EXPAND_DOWN | SEG_DPL3, SEG_BIG | SEG_GRAN));
    }
}

/* ---- What the processor does by itself, as the supervisor. */
enum { GATE1 = TEST_SEL(1) | 3, CODE1 = TEST_SEL(2) | 1, DATA1 = TEST_SEL(3) | 1, FRESH = TEST_SEL(4) };

extern const u8 ring1_entry[], call_ring1[], call_ring1_at[];
__asm__(".text\n.globl ring1_entry, call_ring1, call_ring1_at\n"
        "ring1_entry: lret $8\n"
        "call_ring1: pushl $0x2222\n\tpushl $0x1111\ncall_ring1_at: lcall $0x4b, $0\n\tint $0x81\n");
_Static_assert(GATE1 == 0x4b, "call_ring1");

/* Calls ring 1 through the gate from ring 3 with the given stacks; two parameters. */
static int call_inner(u32 esp3)
{
    struct frame f = {.ds = SEL_UDATA, .es = SEL_UDATA, .fs = SEL_UDATA, .gs = SEL_UDATA, .eip = (u32)call_ring1,
        .cs = SEL_UCODE,
                      .eflags = 2, .esp = esp3, .ss = SEL_UDATA};
    return user_enter(&f);
}

static void inner_stacks(void)
{
    u32 top3 = (u32)elsewhere + ELSEWHERE_BYTES - 64;

    gdt[CODE1 / 8] = descriptor(0, 0xfffff, SEG_CODE | 0x20, SEG_BIG | SEG_GRAN);
    gdt[DATA1 / 8] = descriptor(0, 0xfffff, SEG_DATA | 0x20, SEG_BIG | SEG_GRAN);
    gdt[GATE1 / 8] = gate(CODE1, (u32)ring1_entry, 0xec, 2);
    tss.ss1 = DATA1;
    section("call gate: a new stack on two pages");
    for (u32 bad = 0; bad < 4; bad++) {
        u32 present = bad < 2 ? 0 : 1;                         /* not there; not writable, with CR0.WP */
        tss.esp1 = BORDER + 12;                                /* 24 bytes: 12 on either page */
        map(bad & 1 ? 7 : present, bad & 1 ? present : 7);
        write_cr0(read_cr0() | CR0_WP);
        CHECK_EQ(call_inner(top3), 1);
        CHECK_EQ(trap.vector, V_PF);
        CHECK_EQ(trap.error, 2 | present);                     /* by ring 1: the supervisor's */
        CHECK_EQ(trap.cr2 & ~0xfffu, bad & 1 ? BORDER : WINDOW);
        CHECK_EQ(trap.eip, (u32)call_ring1_at);
        CHECK_EQ(trap.cs, SEL_UCODE);
        CHECK_EQ(trap.esp, top3 - 8);
        CHECK_EQ(trap.ss, SEL_UDATA);
        map(3, 3);
        struct frame f = trap_frame;
        CHECK_EQ(user_enter(&f), 0);
        CHECK_EQ(trap.esp, top3);                              /* both parameters are gone */
        CHECK_EQ(peek((u32)pages + PAGE - 12), (u32)call_ring1_at + 7);
        CHECK_EQ(peek((u32)pages + PAGE - 4), 0x1111);
        CHECK_EQ(peek((u32)pages + PAGE), 0x2222);
        CHECK_EQ(peek((u32)pages + PAGE + 4), top3 - 8);
        write_cr0(read_cr0() & ~(u32)CR0_WP);
    }
    section("call gate: parameters on two pages");
    for (u32 bad = 0; bad < 2; bad++) {
        map(7, 7);
        tss.esp1 = (u32)elsewhere + 1024;
        struct frame f = {.ds = SEL_UDATA, .es = SEL_UDATA, .fs = SEL_UDATA, .gs = SEL_UDATA,
            .eip = (u32)call_ring1_at, .cs = SEL_UCODE,
                          .eflags = 2, .esp = BORDER - 4, .ss = SEL_UDATA};
        *(u32 *)(pages + PAGE - 4) = 0xaaaa, *(u32 *)(pages + PAGE) = 0xbbbb;
        map(bad ? 7 : 0, bad ? 0 : 7);
        CHECK_EQ(user_enter(&f), 1);
        CHECK_EQ(trap.vector, V_PF);
        CHECK_EQ(trap.cr2 & ~0xfffu, bad ? BORDER : WINDOW);
        CHECK_EQ(trap.eip, (u32)call_ring1_at);
        CHECK_EQ(trap.esp, BORDER - 4);
        map(7, 7);
        f = trap_frame;
        CHECK_EQ(user_enter(&f), 0);
        CHECK_EQ(trap.esp, BORDER + 4);
        CHECK_EQ(peek((u32)elsewhere + 1024 - 12), 0xbbbb);
        CHECK_EQ(peek((u32)elsewhere + 1024 - 16), 0xaaaa);
    }
    if (told("tcg"))
        return;
    section("call gate: a new stack that is too small");
    gdt[DATA1 / 8] = descriptor(WINDOW, 19, SEG_DATA | 0x20, SEG_BIG);         /* room for five words of six */
    tss.esp1 = 20;
    map(7, 7);
    CHECK_EQ(call_inner(top3), 1);
    CHECK_EQ(trap.vector, V_SS);
    CHECK_EQ(trap.error, DATA1 & ~3u);
    CHECK_EQ(trap.esp, top3 - 8);
    gdt[DATA1 / 8] = descriptor(WINDOW, PAGE - 5, SEG_EXPAND_DOWN | 0x20, SEG_BIG); /* the same, expand-down */
    tss.esp1 = PAGE + 16;
    CHECK_EQ(call_inner(top3), 1);
    CHECK_EQ(trap.vector, V_SS);
    CHECK_EQ(trap.error, DATA1 & ~3u);
    tss.esp1 = PAGE + 20;                                      /* just fits */
    CHECK_EQ(call_inner(top3), 0);
    section("call gate: a bad stack in the TSS");
    gdt[DATA1 / 8] = descriptor(0, 0xfffff, SEG_DATA_RO | 0x20, SEG_BIG | SEG_GRAN);
    CHECK_EQ(call_inner(top3), 1);
    CHECK_EQ(trap.vector, V_TS);
    CHECK_EQ(trap.error, DATA1 & ~3u);
    gdt[DATA1 / 8] = descriptor(0, 0xfffff, (SEG_DATA | 0x20) & 0x7f, SEG_BIG | SEG_GRAN);
    CHECK_EQ(call_inner(top3), 1);
    CHECK_EQ(trap.vector, V_SS);
    CHECK_EQ(trap.error, DATA1 & ~3u);
    gdt[DATA1 / 8] = descriptor(0, 0xfffff, SEG_DATA | 0x40, SEG_BIG | SEG_GRAN);
    CHECK_EQ(call_inner(top3), 1);
    CHECK_EQ(trap.vector, V_TS);
    tss.ss1 = 0;
    CHECK_EQ(call_inner(top3), 1);
    CHECK_EQ(trap.vector, V_TS);
    CHECK_EQ(trap.error, 0);
    tss.ss1 = GDT_ENTRIES * 8 | 1;                             /* beyond the table */
    CHECK_EQ(call_inner(top3), 1);
    CHECK_EQ(trap.vector, V_TS);
    CHECK_EQ(trap.error, GDT_ENTRIES * 8);
}

static void load_fs(void *selector) { __asm__ volatile("movl %0, %%fs" : : "r"(selector)); }

static void use_gdt(u32 base)
{
    struct { u16 limit; u32 base; } __attribute__((packed)) gdtr = {sizeof(gdt) - 1, base};
    __asm__ volatile("lgdt %0" : : "m"(gdtr) : "memory");
}

/* A descriptor table on two pages: the entry that the second has is not there, or may not be written. */
static void descriptors(void)
{
    u32 at = BORDER - 4 - FRESH;                               /* FRESH lies across the border */

    section("a descriptor on two pages");
    map(3, 3);
    gdt[FRESH / 8] = descriptor(0, 0xfffff, SEG_DATA & ~1, SEG_BIG | SEG_GRAN);   /* not accessed yet */
    memcpy(pages + (at - WINDOW), gdt, sizeof(gdt));
    use_gdt(at);
    map(3, 0);
    CHECK_TRAPS(load_fs, FRESH, V_PF, 0);
    CHECK_EQ(trap.cr2, BORDER);
    write_cr0(read_cr0() | CR0_WP);
    map(3, 1);                                                 /* its accessed bit is to be set */
    CHECK_TRAPS(load_fs, FRESH, V_PF, 3);
    CHECK_EQ(trap.cr2 & ~0xfffu, BORDER);
    map(3, 3);
    CHECK_EQ(caught(load_fs, (void *)FRESH), 0);
    map(3, 1);                                                 /* is set: nothing to write */
    CHECK_EQ(caught(load_fs, (void *)FRESH), 0);
    write_cr0(read_cr0() & ~(u32)CR0_WP);
    use_gdt((u32)gdt);
}

static u32 user_reload_cs(u32 unused)
{
    __asm__ volatile("ljmp $0x1b, $1f\n1:");
    return unused;
}

/* The TSS on two pages, SS1 on the second. */
static void tss_pages(void)
{
    struct tss *moved = (struct tss *)(pages + PAGE - __builtin_offsetof(struct tss, ss1));
    u64 saved = gdt[SEL_TSS / 8];
    u32 top3 = (u32)elsewhere + ELSEWHERE_BYTES - 64;

    section("a TSS on two pages");
    gdt[DATA1 / 8] = descriptor(0, 0xfffff, SEG_DATA | 0x20, SEG_BIG | SEG_GRAN);
    tss.ss1 = DATA1, tss.esp1 = (u32)elsewhere + 1024;
    memcpy(moved, &tss, sizeof(tss));
    map(3, 3);
    gdt[SEL_TSS / 8] = descriptor(BORDER - __builtin_offsetof(struct tss, ss1), sizeof(tss) - 1, 0x89, 0);
    __asm__ volatile("ltr %w0" : : "r"(SEL_TSS));
    map(3, 0);                                                 /* ESP0 and SS0, for the page fault, are on the first */
    CHECK_EQ(call_inner(top3), 1);
    CHECK_EQ(trap.vector, V_PF);
    CHECK_EQ(trap.error, 0);
    CHECK_EQ(trap.cr2, BORDER);
    CHECK_EQ(trap.eip, (u32)call_ring1_at);
    CHECK_EQ(trap.esp, top3 - 8);
    map(3, 3);
    CHECK_EQ(call_inner(top3), 0);
    CHECK_EQ(ring3(user_reload_cs, 3), 0);
    section("an I/O bitmap on a page that is not there");
    map(3, 0);
    CHECK_EQ(ring3((u32 (*)(u32))(u32)inb, 0x80), 1);
    CHECK_EQ(trap.vector, V_PF);
    CHECK_EQ(trap.error, 0);
    map(3, 3);
    gdt[SEL_TSS / 8] = saved & ~(2ull << 40);                  /* not busy */
    __asm__ volatile("ltr %w0" : : "r"(SEL_TSS));
    tss.ss1 = 0;
}

void guest_main(void)
{
    pages = pages_alloc(2, 2 * PAGE);
    write_cr4(read_cr4() | CR4_OSFXSR);
    __asm__ volatile("fninit; fld1; fldpi; fldl2e; pcmpeqw %xmm1, %xmm1");
    fxsave(fpu_before);
    for (int pae = 0; pae < 2; pae++) {
        paging_start(pae, false);
        operands();
        inner_stacks();
        descriptors();
        tss_pages();
        paging_stop();
    }
}
