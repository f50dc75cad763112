/* Runs cases on the processor itself: a freestanding 32-bit program, started by native.c with the shared memory as
 * descriptor 3, requests (number of cases) as 4 and answers as 5.
 *
 * It gives up everything that a wild instruction could find: stack, vDSO and vvar are unmapped, and what it needs lies
 * in CHILD_LO..CHILD_HI. Each case ends in a signal (INT3 at the latest); the signal frame has all registers, the
 * FXSAVE image, vector, error code and CR2 as the processor gave them. The handler never returns to the case: it copies
 * and goes on. */
#include "tests/diff/diff.h"

#define CODE_PAGE_INDEX (__builtin_offsetof(struct diff_shared, code) / PAGE)
#define SHARED_AT 0x51000000u
#define ALT_STACK_AT 0x52000000u
#define ALT_STACK_BYTES 65536u
#define MAIN_STACK_AT 0x53000000u
#define MAIN_STACK_BYTES 65536u

typedef uint8_t u8;
typedef uint32_t u32;

static struct diff_shared *const shared = (struct diff_shared *)SHARED_AT;
static volatile u32 running;
u32 saved_esp;

static inline int sys6(int nr, u32 a, u32 b, u32 c, u32 d, u32 e, u32 f)
{
    volatile u32 regs[3] = { (u32)nr, a, f }; /* EBX and EBP may not be named as operands; nothing may be ESP-relative
                                                 after PUSH */
    int ret;
    __asm__ volatile("push %%ebp\n\tpush %%ebx\n\tmov 4(%%eax), %%ebx\n\tmov 8(%%eax), %%ebp\n\tmov (%%eax), %%eax\n\t"
                     "int $0x80\n\tpop %%ebx\n\tpop %%ebp"
                     : "=a"(ret)
                     : "0"(regs), "c"(b), "d"(c), "S"(d), "D"(e)
                     : "memory");
    return ret;
}
#define sys3(nr, a, b, c) sys6(nr, (u32)(a), (u32)(b), (u32)(c), 0, 0, 0)
/* clang-format off */
enum { NR_exit = 1, NR_read = 3, NR_write = 4, NR_open = 5, NR_munmap = 91, NR_setitimer = 104, NR_mprotect = 125,
    NR_modify_ldt = 123, NR_rt_sigaction = 174,
       NR_sigaltstack = 186, NR_mmap2 = 192, NR_exit_group = 252 };
enum { P_READ = 1, P_WRITE = 2, P_EXEC = 4, M_SHARED = 1, M_PRIVATE = 2, M_FIXED = 0x10, M_ANON = 0x20,
    M_POPULATE = 0x8000 };

static void die(int code)
{
    for (;;) sys3(NR_exit_group, code, 0, 0);
}

static void copy(void *to, const void *from, u32 n)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}
static void fill(void *to, int byte, u32 n)
{
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(byte) : "memory");
}
void *memcpy(void *to, const void *from, unsigned n) { copy(to, from, n); return to; }
void *memset(void *to, int byte, unsigned n) { fill(to, byte, n); return to; }

static void map(u32 at, u32 len, int prot)
{
    u32 got = (u32)sys6(NR_mmap2, at, len, (u32)prot, M_PRIVATE | M_ANON | M_FIXED | M_POPULATE, ~0u, 0);
    if (got != at) die(10);
}

/* The 32-bit signal frame (Linux, asm/sigcontext.h and asm/ucontext.h), as far as it is read here. */
struct sigcontext32 {
    u32 gs, fs, es, ds, edi, esi, ebp, esp, ebx, edx, ecx, eax, trapno, err, eip, cs, eflags, uesp, ss, fpstate,
    oldmask, cr2;
};
/* clang-format on */
struct ucontext32 {
    u32 flags, link, ss_sp, ss_flags, ss_size;
    struct sigcontext32 mc;
};
#define FPSTATE_FXSAVE 112 /* behind the FSAVE header */

void leave_case(void);
static void on_signal(int signo, void *info, struct ucontext32 *uc)
{
    struct diff_result *r = &shared->results[shared->current];
    const struct sigcontext32 *m = &uc->mc;
    (void)info;
    if (!running) die(20 + signo);
    running = 0;
    r->out.gpr[0] = m->eax;
    r->out.gpr[1] = m->ecx;
    r->out.gpr[2] = m->edx;
    r->out.gpr[3] = m->ebx;
    r->out.gpr[4] = m->esp;
    r->out.gpr[5] = m->ebp;
    r->out.gpr[6] = m->esi;
    r->out.gpr[7] = m->edi;
    r->out.seg[0] = (uint16_t)m->es;
    r->out.seg[1] = (uint16_t)m->cs;
    r->out.seg[2] = (uint16_t)m->ss;
    r->out.seg[3] = (uint16_t)m->ds;
    r->out.seg[4] = (uint16_t)m->fs;
    r->out.seg[5] = (uint16_t)m->gs;
    r->out.eip = m->eip;
    r->out.eflags = m->eflags;
    r->out.vector = signo == 14 ? VECTOR_TIMEOUT : m->trapno;
    r->out.error = m->err;
    r->out.cr2 = m->cr2;
    copy(r->out.fx, (const u8 *)m->fpstate + FPSTATE_FXSAVE, 512);
    leave_case();
}

/* Restores the stack of run_case() and returns from it. */
__asm__(".globl leave_case\n"
        "leave_case:\n\t"
        "mov saved_esp, %esp\n\t"
        "pop %edi\n\tpop %esi\n\tpop %ebp\n\tpop %ebx\n\t"
        "ret\n"
        /* run_case(state in EAX): loads everything and jumps to the code. Flags go through the own stack, ESP comes
         * late. */
        ".globl run_case\n"
        "run_case:\n\t"
        "push %ebx\n\tpush %ebp\n\tpush %esi\n\tpush %edi\n\t"
        "mov %esp, saved_esp\n\t"
        "xor %ecx, %ecx\n\tmov %ecx, %fs\n\tmov %ecx, %gs\n\t" /* DS, ES and SS: the kernel set them for the handler */
        "fxrstor 64(%eax)\n\t"
        "pushl 36(%eax)\n\tpopfl\n\t"
        "mov 4(%eax), %ecx\n\tmov 8(%eax), %edx\n\tmov 12(%eax), %ebx\n\t"
        "mov 16(%eax), %esp\n\tmov 20(%eax), %ebp\n\tmov 24(%eax), %esi\n\tmov 28(%eax), %edi\n\t"
        "mov (%eax), %eax\n\t"
        "jmp 0x00100000\n");
_Static_assert(__builtin_offsetof(struct diff_state, fx) == 64 && __builtin_offsetof(struct diff_state, eflags) == 36,
               "run_case");
_Static_assert(CODE_BASE == 0x00100000u, "run_case");
void run_case(const struct diff_state *s) __attribute__((regparm(1)));
/* The same, in the segments that the state names; DS, SS and CS go last, in this order. */
void run_case16(const struct diff_state *s) __attribute__((regparm(1)));
u32 entry_ds, entry_stack[2], entry_code[2];
__asm__(".globl run_case16\n"
        "run_case16:\n\t"
        "push %ebx\n\tpush %ebp\n\tpush %esi\n\tpush %edi\n\t"
        "mov %esp, saved_esp\n\t"
        "fxrstor 64(%eax)\n\t"
        "mov 16(%eax), %ecx\n\tmov %ecx, entry_stack\n\tmovzwl 56(%eax), %ecx\n\tmov %ecx, entry_stack+4\n\t"
        "mov 32(%eax), %ecx\n\tmov %ecx, entry_code\n\tmovzwl 54(%eax), %ecx\n\tmov %ecx, entry_code+4\n\t"
        "movzwl 58(%eax), %ecx\n\tmov %ecx, entry_ds\n\t"
        "movw 60(%eax), %fs\n\tmovw 62(%eax), %gs\n\tmovw 52(%eax), %es\n\t"
        "pushl 36(%eax)\n\tpopfl\n\t"
        "mov 4(%eax), %ecx\n\tmov 8(%eax), %edx\n\tmov 12(%eax), %ebx\n\t"
        "mov 20(%eax), %ebp\n\tmov 24(%eax), %esi\n\tmov 28(%eax), %edi\n\t"
        "movw %cs:entry_ds, %ds\n\tmov %cs:(%eax), %eax\n\t"
        "lss %cs:entry_stack, %esp\n\tljmp *%cs:entry_code\n");
_Static_assert(__builtin_offsetof(struct diff_state, seg) == 52 && __builtin_offsetof(struct diff_state, eip) == 32,
               "run_case16");

/* Linux's struct user_desc. */
static void set_ldt(void)
{
    static const struct diff_segment ldt[LDT_ENTRIES] = DIFF_LDT;
    for (u32 i = 0; i < LDT_ENTRIES; i++) {
        u32 desc[4] = { i, ldt[i].base, ldt[i].limit, (u32)ldt[i].contents << 1 | (u32)ldt[i].fixed << 3 };
        shared->ldt_missing |= sys3(NR_modify_ldt, 0x11, desc, sizeof desc) != 0;
    }
}

static void catch (int signo)
{
    struct {
        void (*handler)(int, void *, struct ucontext32 *);
        u32 flags, restorer, mask[2];
    } sa;
    sa.handler = on_signal;
    sa.flags = 4u /* SIGINFO */ | 0x08000000u /* ONSTACK */ | 0x40000000u /* NODEFER */ | 0x04000000u /* RESTORER */;
    sa.restorer = (u32)die;
    sa.mask[0] = sa.mask[1] = 0;
    if (sys6(NR_rt_sigaction, (u32)signo, (u32)&sa, 0, 8, 0, 0)) die(11);
}

/* Everything outside CHILD_LO..CHILD_HI goes: a case must find nothing but its own pages. */
static u32 hex(const char **p)
{
    u32 val = 0;
    for (;; ++*p) {
        char ch = **p;
        if (ch >= '0' && ch <= '9') val = val << 4 | (u32)(ch - '0');
        else if (ch >= 'a' && ch <= 'f') val = val << 4 | (u32)(ch - 'a' + 10);
        else return val;
    }
}

static void unmap_the_rest(void)
{
    char *buf = (char *)MAIN_STACK_AT;
    u32 n = 0;
    int fd = sys3(NR_open, "/proc/self/maps", 0, 0), got;
    if (fd < 0) die(12);
    while (n < 16384 && (got = sys3(NR_read, fd, buf + n, 16384 - n)) > 0) n += (u32)got;
    buf[n] = 0;
    for (const char *p = buf; *p;) {
        u32 from = hex(&p), to;
        ++p;
        to = hex(&p);
        if (from < CHILD_LO || from >= CHILD_HI) sys3(NR_munmap, from, to - from, 0);
        while (*p && *p != '\n') ++p;
        if (*p) ++p;
    }
}

static void set_timer(u32 seconds)
{
    u32 it[4] = { 0, 0, seconds, 0 };
    sys3(NR_setitimer, 0, it, 0);
}

static void run_one(u32 i)
{
    const struct diff_case *k = &shared->cases[i];
    struct diff_result *r = &shared->results[i];
    const u8 *image = shared->images[k->image % IMAGES];

    shared->current = i;
    copy((void *)DATA_BASE, image, DATA_BYTES);
    copy((void *)STACK_BASE, image + DATA_BYTES, PAGE);
    fill(shared->code, 0xcc, PAGE);
    copy(shared->code, k->code, k->ncode);
    running = 1;
    if (k->code16) run_case16(&k->in);
    else run_case(&k->in);
    copy(r->memory, (void *)DATA_BASE, DATA_BYTES);
    copy(r->memory + DATA_BYTES, (void *)STACK_BASE, PAGE);
}

__attribute__((used)) static void child_main(void)
{
    static const u8 signals[] = { 4, 5, 7, 8, 11, 14 };
    u32 alt[3] = { ALT_STACK_AT, 0, ALT_STACK_BYTES };
    u32 count;

    unmap_the_rest();
    if ((u32)sys6(NR_mmap2, CODE_BASE, PAGE, P_READ | P_EXEC, M_SHARED | M_FIXED | M_POPULATE, 3, CODE_PAGE_INDEX)
        != CODE_BASE)
        die(16);
    map(DATA_BASE, DATA_BYTES, P_READ | P_WRITE);
    map(STACK_BASE, PAGE, P_READ | P_WRITE);
    map(RO_BASE, PAGE, P_READ | P_WRITE);
    copy((void *)RO_BASE, shared->ro, PAGE);
    sys3(NR_mprotect, RO_BASE, PAGE, P_READ);
    map(ALT_STACK_AT, ALT_STACK_BYTES, P_READ | P_WRITE);
    if (sys3(NR_sigaltstack, alt, 0, 0)) die(13);
    set_ldt();
    for (u32 i = 0; i < sizeof(signals); i++) catch (signals[i]);
    while (sys3(NR_read, 4, &count, 4) == 4) {
        set_timer(5);
        for (u32 i = 0; i < count && i < BATCH; i++) run_one(i);
        set_timer(0);
        if (sys3(NR_write, 5, &count, 4) != 4) die(14);
    }
    die(0);
}

/* Maps the shared memory and a stack of its own before the first C function that needs them. */
void start_c(void);
void start_c(void)
{
    if ((u32)sys6(NR_mmap2, SHARED_AT, sizeof(struct diff_shared), P_READ | P_WRITE, M_SHARED | M_FIXED, 3, 0)
        != SHARED_AT)
        die(15);
    map(MAIN_STACK_AT, MAIN_STACK_BYTES, P_READ | P_WRITE);
    __asm__ volatile("mov %0, %%esp\n\txor %%ebp, %%ebp\n\tcall *%1\n\tud2"
                     :
                     : "r"(MAIN_STACK_AT + MAIN_STACK_BYTES - 64), "r"(child_main)
                     : "memory");
}
__asm__(".globl _start\n_start:\n\tjmp start_c\n");
