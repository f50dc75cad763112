/* What this host does with 32-bit user code that a tracer runs by PTRACE_SYSEMU: each way into the kernel, each
 * exception, segments, and what a stop costs. Direct execution rests on these answers; --check says in its status alone
 * whether the host has what it needs at all.
 *
 * A case is some bytes, run at CODE in a traced child, with the registers of fresh_regs() but for what the case
 * changes. The child is a 64-bit process whose memory below 4 GiB is TEXT, DATA and a read-only page; CS selects the
 * mode. */
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <cpuid.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef PTRACE_SYSEMU
#define PTRACE_SYSEMU 31
#endif
#define PTRACE_SET_THREAD_AREA 26

enum { PAGE = 4096 };
enum { TEXT = 0x10000000, DATA = 0x20000000, STACK = DATA + 0x8000, READONLY = 0x30000000, NOWHERE = 0x70000000 };
enum { CS32 = 0x23, CS64 = 0x33, DS = 0x2b, TLS0 = 0x63 /* entry 12 */, LDT0 = 0x07, LDT_SHORT = 0x0f, LDT_16 = 0x17 };
enum { TF = 0x100, AC = 0x40000, NT = 0x4000, OF = 0x800 };

/* How a stop came about. */
enum { SYSTEM_CALL = SIGTRAP | 0x80 };
enum { ANY = -1000, SAME = -1001 }; /* no expectation; rip where the case started */
enum {
    HARDWARE_ONLY = 1, /* TCG is known not to do it */
    NOT_TCG_INTEL = 2, /* a #UD on Intel's processors; TCG does it there too, and Linux has no entry for it */
};

#define BYTES(...) (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ })
struct test {
    const char *name;
    const uint8_t *code;
    unsigned len;
    int sig, si_code, rip; /* expected; rip relative to the start */
    long addr;             /* expected si_addr, or ANY; relative to the start if below PAGE */
    int flags;
};

static const struct test tests[] = {
    { "int 0x80", BYTES(0xcd, 0x80), SYSTEM_CALL, ANY, 2, ANY, 0 },
    { "sysenter, EBP readable", BYTES(0x0f, 0x34), ANY, ANY, ANY, ANY, 0 },
    { "sysenter, EBP unmapped", BYTES(0xbd, 0, 0, 0, 0x70, 0x0f, 0x34), ANY, ANY, ANY, ANY, 0 },
    { "syscall", BYTES(0x0f, 0x05), ANY, ANY, ANY, ANY, NOT_TCG_INTEL },
    { "int 0x21", BYTES(0xcd, 0x21), SIGSEGV, SI_KERNEL, 0, 0, 0 },
    { "int 0xff", BYTES(0xcd, 0xff), SIGSEGV, SI_KERNEL, 0, 0, 0 },
    { "int 1", BYTES(0xcd, 0x01), SIGSEGV, SI_KERNEL, 0, 0, 0 },
    { "int 2", BYTES(0xcd, 0x02), SIGSEGV, SI_KERNEL, 0, 0, 0 },
    { "int 3, two bytes", BYTES(0xcd, 0x03), SIGTRAP, SI_KERNEL, 2, 0, 0 },
    { "int3", BYTES(0xcc), SIGTRAP, SI_KERNEL, 1, 0, 0 },
    { "int 4", BYTES(0xcd, 0x04), SIGSEGV, SI_KERNEL, 2, 0, 0 },
    { "into, OF", BYTES(0xb0, 0x7f, 0x04, 1, 0xce), SIGSEGV, SI_KERNEL, 5, 0, 0 },
    { "bound", BYTES(0xb8, 5, 0, 0, 0, 0x62, 0x05, 0, 0, 0, 0x20), SIGSEGV, SI_KERNEL, 5, 0, 0 },
    { "icebp", BYTES(0xf1), SIGTRAP, TRAP_BRKPT, 1, 1, HARDWARE_ONLY },
    { "ud2", BYTES(0x0f, 0x0b), SIGILL, ILL_ILLOPN, 0, 0, 0 },
    { "lock nop", BYTES(0xf0, 0x90), SIGILL, ILL_ILLOPN, 0, 0, 0 },
    { "div by 0", BYTES(0x31, 0xc9, 0xf7, 0xf1), SIGFPE, FPE_INTDIV, 2, 2, 0 },
    { "hlt", BYTES(0xf4), SIGSEGV, SI_KERNEL, 0, 0, 0 },
    { "cli", BYTES(0xfa), SIGSEGV, SI_KERNEL, 0, 0, 0 },
    { "sti", BYTES(0xfb), SIGSEGV, SI_KERNEL, 0, 0, 0 },
    { "in al,0x60", BYTES(0xe4, 0x60), SIGSEGV, SI_KERNEL, 0, 0, 0 },
    { "out dx,eax", BYTES(0xef), SIGSEGV, SI_KERNEL, 0, 0, 0 },
    { "insb", BYTES(0x6c), SIGSEGV, SI_KERNEL, 0, 0, 0 },
    { "mov eax,cr0", BYTES(0x0f, 0x20, 0xc0), SIGSEGV, SI_KERNEL, 0, 0, 0 },
    { "mov eax,dr7", BYTES(0x0f, 0x21, 0xf8), SIGSEGV, SI_KERNEL, 0, 0, 0 },
    { "rdmsr", BYTES(0x0f, 0x32), SIGSEGV, SI_KERNEL, 0, 0, 0 },
    { "clts", BYTES(0x0f, 0x06), SIGSEGV, SI_KERNEL, 0, 0, 0 },
    { "invlpg", BYTES(0x0f, 0x01, 0x38), SIGSEGV, SI_KERNEL, 0, 0, 0 },
    { "lgdt", BYTES(0x0f, 0x01, 0x10), SIGSEGV, SI_KERNEL, 0, 0, 0 },
    { "sgdt; int3", BYTES(0x0f, 0x01, 0x05, 0, 1, 0, 0x20, 0xcc), ANY, ANY, ANY, ANY, 0 },
    { "smsw eax; int3", BYTES(0x0f, 0x01, 0xe0, 0xcc), ANY, ANY, ANY, ANY, 0 },
    { "str eax; int3", BYTES(0x0f, 0x00, 0xc8, 0xcc), ANY, ANY, ANY, ANY, 0 },
    { "sldt eax; int3", BYTES(0x0f, 0x00, 0xc0, 0xcc), ANY, ANY, ANY, ANY, 0 },
    { "lar eax,[0x10]; int3", BYTES(0xb9, 0x10, 0, 0, 0, 0x0f, 0x02, 0xc1, 0xcc), SIGTRAP, SI_KERNEL, 9, 0, 0 },
    { "cpuid(0); int3", BYTES(0x31, 0xc0, 0x0f, 0xa2, 0xcc), ANY, ANY, ANY, ANY, 0 },
    { "rdtsc; int3", BYTES(0x0f, 0x31, 0xcc), SIGTRAP, SI_KERNEL, 3, 0, 0 },
    { "rdpmc", BYTES(0x31, 0xc9, 0x0f, 0x33), ANY, ANY, ANY, ANY, 0 },
    { "monitor", BYTES(0x0f, 0x01, 0xc8), ANY, ANY, ANY, ANY, 0 },
    { "vmcall", BYTES(0x0f, 0x01, 0xc1), ANY, ANY, ANY, ANY, 0 },
    { "vmmcall", BYTES(0x0f, 0x01, 0xd9), ANY, ANY, ANY, ANY, 0 },
    { "xbegin; int3", BYTES(0xc7, 0xf8, 0, 0, 0, 0, 0xcc), ANY, ANY, ANY, ANY, 0 },

    { "read, unmapped", BYTES(0xa1, 4, 0, 0, 0x70), SIGSEGV, SEGV_MAPERR, 0, NOWHERE + 4, 0 },
    { "write, unmapped", BYTES(0xa3, 4, 0, 0, 0x70), SIGSEGV, SEGV_MAPERR, 0, NOWHERE + 4, 0 },
    { "write, read-only", BYTES(0xa3, 8, 0, 0, 0x30), SIGSEGV, SEGV_ACCERR, 0, READONLY + 8, 0 },
    { "read across into unmapped", BYTES(0xa1, 0xfe, 0xff, 0, 0x20), SIGSEGV, SEGV_MAPERR, 0, DATA + 0x10000, 0 },
    { "execute, unmapped", BYTES(0xb9, 4, 0, 0, 0x70, 0xff, 0xe1), SIGSEGV, SEGV_MAPERR, NOWHERE + 4 - TEXT,
      NOWHERE + 4, 0 },
    { "execute, no-execute", BYTES(0xb9, 4, 0, 0, 0x30, 0xff, 0xe1), SIGSEGV, SEGV_ACCERR, READONLY + 4 - TEXT,
      READONLY + 4, 0 },
    { "read 0xffffe000", BYTES(0xa1, 0, 0xe0, 0xff, 0xff), SIGSEGV, SEGV_MAPERR, 0, 0xffffe000, 0 },
    { "rep movsb into unmapped", BYTES(0xbe, 0, 0, 0, 0x20, 0xbf, 0xf0, 0xff, 0, 0x20, 0xb9, 64, 0, 0, 0, 0xf3, 0xa4),
      SIGSEGV, SEGV_MAPERR, 15, DATA + 0x10000, 0 },
    { "push, stack unmapped", BYTES(0xbc, 0x10, 0, 0, 0x70, 0x50), SIGSEGV, SEGV_MAPERR, 5, NOWHERE + 12, 0 },

    { "popf TF; nop; nop", BYTES(0x9c, 0x58, 0x0d, 0, 1, 0, 0, 0x50, 0x9d, 0x90, 0x90), SIGTRAP, TRAP_TRACE, 10, 10,
      0 },
    { "popf TF; int 0x80", BYTES(0x9c, 0x58, 0x0d, 0, 1, 0, 0, 0x50, 0x9d, 0xcd, 0x80), SYSTEM_CALL, ANY, 11, ANY, 0 },
    { "popf IF=0 IOPL=3; int3", BYTES(0x9c, 0x58, 0x25, 0xff, 0xfd, 0xff, 0xff, 0x0d, 0, 0x30, 0, 0, 0x50, 0x9d, 0xcc),
      SIGTRAP, SI_KERNEL, 15, 0, 0 },
    { "popf NT; int 0x80", BYTES(0x9c, 0x58, 0x0d, 0, 0x40, 0, 0, 0x50, 0x9d, 0xcd, 0x80), SYSTEM_CALL, ANY, 11, ANY,
      0 },
    { "popf NT; iret", BYTES(0x9c, 0x58, 0x0d, 0, 0x40, 0, 0, 0x50, 0x9d, 0xcf), SIGSEGV, SI_KERNEL, 9, 0,
      HARDWARE_ONLY },
    { "popf AC; mov eax,[1]", BYTES(0x9c, 0x58, 0x0d, 0, 0, 4, 0, 0x50, 0x9d, 0xa1, 1, 0, 0, 0x20), SIGBUS, BUS_ADRALN,
      9, 0, HARDWARE_ONLY },
    { "x87 1/0, unmasked; fwait",
      BYTES(0x9b, 0xdb, 0xe3, 0xd9, 0x2d, 0x20, 0, 0, 0x20, 0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9, 0x9b), SIGFPE,
      FPE_FLTDIV, 15, 15, 0 },
    { "SSE 1/0, unmasked",
      BYTES(0x0f, 0xae, 0x15, 0x24, 0, 0, 0x20, 0x0f, 0x28, 0x05, 0x30, 0, 0, 0x20, 0x0f, 0x57, 0xc9, 0x0f, 0x5e, 0xc1),
      SIGFPE, FPE_FLTDIV, 17, 17, HARDWARE_ONLY },
    { "movaps, misaligned", BYTES(0x0f, 0x28, 0x05, 4, 0, 0, 0x20), SIGSEGV, SI_KERNEL, 0, 0, HARDWARE_ONLY },

    { "mov gs,TLS; mov eax,gs:[0x10]; int 0x80",
      BYTES(0xb8, TLS0, 0, 0, 0, 0x8e, 0xe8, 0x65, 0xa1, 0x10, 0, 0, 0, 0xcd, 0x80), SYSTEM_CALL, ANY, 15, ANY, 0 },
    { "mov fs,LDT; mov eax,fs:[0x10]; int 0x80",
      BYTES(0xb8, LDT0, 0, 0, 0, 0x8e, 0xe0, 0x64, 0xa1, 0x10, 0, 0, 0, 0xcd, 0x80), SYSTEM_CALL, ANY, 15, ANY, 0 },
    { "mov es,LDT; mov eax,es:[0x10]; int 0x80",
      BYTES(0xb8, LDT0, 0, 0, 0, 0x8e, 0xc0, 0x26, 0xa1, 0x10, 0, 0, 0, 0xcd, 0x80), SYSTEM_CALL, ANY, 15, ANY, 0 },
    { "mov ds,LDT short; mov eax,[0x1000]", BYTES(0xb8, LDT_SHORT, 0, 0, 0, 0x8e, 0xd8, 0xa1, 0, 0x10, 0, 0), SIGSEGV,
      SI_KERNEL, 7, 0, HARDWARE_ONLY },
    { "mov gs,0; mov eax,gs:[0]", BYTES(0x31, 0xc0, 0x8e, 0xe8, 0x65, 0xa1, 0, 0, 0, 0), SIGSEGV, SI_KERNEL, 4, 0,
      HARDWARE_ONLY },
    { "mov ds,0; mov eax,[DATA]", BYTES(0x31, 0xc0, 0x8e, 0xd8, 0xa1, 0, 0, 0, 0x20), SIGSEGV, SI_KERNEL, 4, 0,
      HARDWARE_ONLY },
    { "mov ds,0x10", BYTES(0xb8, 0x10, 0, 0, 0, 0x8e, 0xd8), SIGSEGV, SI_KERNEL, 5, 0, 0 },
    { "mov es,0x23; int3", BYTES(0xb8, 0x23, 0, 0, 0, 0x8e, 0xc0, 0xcc), SIGTRAP, SI_KERNEL, 8, 0, 0 },
    { "mov es,0x33; int3", BYTES(0xb8, 0x33, 0, 0, 0, 0x8e, 0xc0, 0xcc), SIGTRAP, SI_KERNEL, 8, 0, 0 },
    { "mov gs,0x7b; int3", BYTES(0xb8, 0x7b, 0, 0, 0, 0x8e, 0xe8, 0xcc), SIGTRAP, SI_KERNEL, 8, 0, 0 },
    { "mov es,LDT empty", BYTES(0xb8, 0x27, 0, 0, 0, 0x8e, 0xc0), SIGSEGV, SI_KERNEL, 5, 0, 0 },
    { "mov ss,0", BYTES(0x31, 0xc0, 0x8e, 0xd0), SIGSEGV, SI_KERNEL, 2, 0, 0 },
    { "mov ss,LDT; push; int3", BYTES(0xb8, LDT0, 0, 0, 0, 0x8e, 0xd0, 0xbc, 0, 8, 0, 0, 0x50, 0xcc), SIGTRAP,
      SI_KERNEL, 14, 0, 0 },
    { "mov ss,LDT 16 bits; int 0x80", BYTES(0xb8, LDT_16, 0, 0, 0, 0x8e, 0xd0, 0xcd, 0x80), SYSTEM_CALL, ANY, 9, ANY,
      0 },

    { "far jmp 0x33; syscall", BYTES(0xea, 7, 0, 0, 0x10, CS64, 0, 0x0f, 0x05), SYSTEM_CALL, ANY, 9, ANY, 0 },
    { "far jmp 0x33; int 0x80", BYTES(0xea, 7, 0, 0, 0x10, CS64, 0, 0xcd, 0x80), SYSTEM_CALL, ANY, 9, ANY, 0 },
    { "far jmp 0x33; sysenter", BYTES(0xea, 7, 0, 0, 0x10, CS64, 0, 0x0f, 0x34), ANY, ANY, ANY, ANY, 0 },
    { "far jmp 0x33; wrgsbase r15; int3", BYTES(0xea, 7, 0, 0, 0x10, CS64, 0, 0xf3, 0x49, 0x0f, 0xae, 0xdf, 0xcc),
      SIGTRAP, SI_KERNEL, 13, 0, 0 },
    { "far jmp 0x33; mov eax,[2^40]", BYTES(0xea, 7, 0, 0, 0x10, CS64, 0, 0xa1, 0, 0, 0, 0, 0, 1, 0, 0), SIGSEGV,
      SEGV_MAPERR, 7, 1L << 40, 0 },
    { "far jmp 0x33; mov eax,[2^63]", BYTES(0xea, 7, 0, 0, 0x10, CS64, 0, 0xa1, 0, 0, 0, 0, 0, 0, 0, 0x80), SIGSEGV,
      SI_KERNEL, 7, 0, 0 },
    { "far jmp 0x33; call vsyscall; int3",
      BYTES(0xea, 7, 0, 0, 0x10, CS64, 0, 0x31, 0xff, 0x31, 0xf6, 0x48, 0xc7, 0xc0, 0, 4, 0x60, 0xff, 0xff, 0xd0, 0xcc),
      ANY, ANY, ANY, ANY, 0 },
    { "retf to 0x33; int3", BYTES(0x6a, CS64, 0x68, 8, 0, 0, 0x10, 0xcb, 0xcc), SIGTRAP, SI_KERNEL, 9, 0, 0 },
    { "iret to 0x33; int3", BYTES(0x9c, 0x6a, CS64, 0x68, 9, 0, 0, 0x10, 0xcf, 0xcc), SIGTRAP, SI_KERNEL, 10, 0, 0 },
    { "far jmp to 0x10", BYTES(0xea, 7, 0, 0, 0x10, 0x10, 0), SIGSEGV, SI_KERNEL, 0, 0, 0 },
};

struct child {
    pid_t pid;
    int status; /* of the last stop */
    struct user_regs_struct regs;
    siginfo_t info;
};

/* What ptrace does not give, vector, error code and CR2, is in the frame of a signal that is delivered: to a 64-bit
 * handler of the child, on a stack that the tracer sees too. */
struct frame_copy {
    greg_t regs[NGREG];
    uint8_t stack[16384];
};
static struct frame_copy *frame;

static void die(const char *what)
{
    fprintf(stderr, "probe: %s: %s\n", what, strerror(errno));
    exit(2);
}

static void map_low(void)
{
    static const struct {
        long at;
        unsigned len;
        int prot;
    } areas[] = {
        { TEXT, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC },
        { DATA, 0x10000, PROT_READ | PROT_WRITE },
        { READONLY, PAGE, PROT_READ },
    };
    frame = mmap(NULL, sizeof(*frame), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (frame == MAP_FAILED) die("mmap");
    for (unsigned i = 0; i < sizeof(areas) / sizeof(areas[0]); i++) {
        void *at = mmap((void *)areas[i].at, areas[i].len, areas[i].prot,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (at != (void *)areas[i].at) die("mmap");
    }
}

static int ldt_write(unsigned entry, unsigned base, unsigned limit, int bits32)
{
    struct user_desc d = {
        .entry_number = entry, .base_addr = base, .limit = limit, .seg_32bit = !!bits32, .useable = 1
    };
    return (int)syscall(SYS_modify_ldt, 0x11, &d, sizeof(d));
}

/* ---- Signal frames ---- */

enum { AFTER = TEXT + 0x800 }; /* where the handler sends the 32-bit code: to an INT3 */

static void handler(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    (void)sig;
    (void)info;
    memcpy(frame->regs, uc->uc_mcontext.gregs, sizeof(frame->regs));
    uc->uc_mcontext.gregs[REG_RIP] = AFTER;
    __asm__ volatile("int3");
}

static void catch_faults(void)
{
    static const int signals[] = { SIGSEGV, SIGFPE, SIGILL, SIGBUS };
    stack_t stack = { .ss_sp = frame->stack, .ss_size = sizeof(frame->stack) };
    struct sigaction sa = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };
    if (sigaltstack(&stack, NULL)) die("sigaltstack");
    for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        if (sigaction(signals[i], &sa, NULL)) die("sigaction");
}

static void child_main(void)
{
    catch_faults();
    if (ldt_write(LDT0 >> 3, DATA, 0xfffff, 1)) printf("modify_ldt: %s\n", strerror(errno));
    if (ldt_write(LDT_SHORT >> 3, DATA, 0xfff, 1)) printf("modify_ldt: %s\n", strerror(errno));
    if (ldt_write(LDT_16 >> 3, DATA, 0xffff, 0)) printf("modify_ldt, 16 bits: %s\n", strerror(errno));
    fflush(stdout);
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    _exit(1);
}

static void child_start(struct child *c)
{
    c->pid = fork();
    if (c->pid < 0) die("fork");
    if (c->pid == 0) child_main();
    if (waitpid(c->pid, &c->status, 0) != c->pid || !WIFSTOPPED(c->status)) die("no stop");
    if (ptrace(PTRACE_SETOPTIONS, c->pid, 0, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD)) die("PTRACE_SETOPTIONS");
    struct user_desc tls = { .entry_number = TLS0 >> 3,
                             .base_addr = DATA + 0x100,
                             .limit = 0xfffff,
                             .seg_32bit = 1,
                             .limit_in_pages = 1,
                             .useable = 1 };
    if (ptrace((enum __ptrace_request)PTRACE_SET_THREAD_AREA, c->pid, TLS0 >> 3, &tls))
        printf("PTRACE_SET_THREAD_AREA: %s\n", strerror(errno));
}

static void fresh_regs(struct user_regs_struct *r)
{
    memset(r, 0, sizeof(*r));
    r->cs = CS32;
    r->ss = r->ds = r->es = DS;
    r->rip = TEXT;
    r->rsp = STACK;
    r->rbp = STACK - 64;
    r->rax = 20;
    r->rbx = 0xb0b0b0b0;
    r->rcx = 0xc0c0c0c0;
    r->rdx = 0xd0d0d0d0;
    r->rsi = DATA + 0x40;
    r->rdi = DATA + 0x80;
    r->orig_rax = (unsigned long long)-1;
    r->eflags = 0x202;
}

/* Lets the child go on by request until it stops. deliver: a signal that it gets first, or 0. */
static int child_go(struct child *c, int request, int deliver)
{
    if (ptrace((enum __ptrace_request)request, c->pid, 0, deliver)) die("ptrace");
    if (waitpid(c->pid, &c->status, __WALL) != c->pid) die("waitpid");
    return WIFSTOPPED(c->status) ? WSTOPSIG(c->status) : -1;
}

static void data_reset(void)
{
    uint8_t *data = (uint8_t *)(long)DATA;
    memset(data, 0, 0x1000);
    memcpy(data + 0x10, "\x44\x33\x22\x11", 4);  /* what LDT0 shows at 0x10 */
    memcpy(data + 0x110, "\x88\x77\x66\x55", 4); /* what TLS0 shows at 0x10 */
    memcpy(data + 0x20, "\x7b\x03", 2);          /* FCW: zero divide unmasked */
    memcpy(data + 0x24, "\x80\x1d\0\0", 4);      /* MXCSR: likewise */
    for (int i = 0; i < 4; i++) memcpy(data + 0x30 + 4 * i, "\0\0\x80\x3f", 4);
}

/* Runs a case in a child that is at a stop; says what came. */
static int run_case(struct child *c, const struct test *t)
{
    memset((void *)(long)TEXT, 0xcc, PAGE);
    memcpy((void *)(long)TEXT, t->code, t->len);
    data_reset();
    fresh_regs(&c->regs);
    if (ptrace(PTRACE_SETREGS, c->pid, 0, &c->regs)) die("PTRACE_SETREGS");
    int sig = child_go(c, PTRACE_SYSEMU, 0);
    if (sig < 0) return sig;
    if (ptrace(PTRACE_GETREGS, c->pid, 0, &c->regs)) die("PTRACE_GETREGS");
    memset(&c->info, 0, sizeof(c->info));
    if (ptrace(PTRACE_GETSIGINFO, c->pid, 0, &c->info)) die("PTRACE_GETSIGINFO");
    return sig;
}

static const char *sig_name(int sig)
{
    static char buf[24];
    switch (sig) {
    case SYSTEM_CALL: return "system call";
    case SIGSEGV: return "SEGV";
    case SIGTRAP: return "TRAP";
    case SIGILL: return "ILL";
    case SIGFPE: return "FPE";
    case SIGBUS: return "BUS";
    default: snprintf(buf, sizeof(buf), "signal %d", sig); return buf;
    }
}

static void show(const struct child *c, const struct test *t, int sig)
{
    const struct user_regs_struct *r = &c->regs;
    printf("%-42s %-11s", t->name, sig_name(sig));
    if (sig != SYSTEM_CALL) printf(" code %3d addr %-9lx", c->info.si_code, (unsigned long)c->info.si_addr);
    printf(" rip %+lld cs %llx ax %llx orig %llx cx %llx bp %llx sp %+lld fl %llx", (long long)r->rip - TEXT, r->cs,
           r->rax, r->orig_rax, r->rcx, r->rbp, (long long)r->rsp - STACK, r->eflags);
    printf(" ss %llx ds %llx es %llx fs %llx:%llx gs %llx:%llx\n", r->ss, r->ds, r->es, r->fs, r->fs_base, r->gs,
           r->gs_base);
}

static int as_expected(const struct child *c, const struct test *t, int sig)
{
    long addr = (long)c->info.si_addr, want = t->addr;
    if (want != ANY && want > 0 && want < PAGE) want += TEXT;
    if (t->sig == SIGILL) want = TEXT;
    return (t->sig == ANY || t->sig == sig) && (t->si_code == ANY || t->si_code == c->info.si_code)
           && (t->rip == ANY || (long long)c->regs.rip == TEXT + (long long)t->rip) && (t->addr == ANY || addr == want);
}

static int is_tcg(void)
{
    unsigned a, b = 0, c = 0, d = 0;
    __cpuid(0x40000000, a, b, c, d);
    return b == 0x54474354 && c == 0x43544743 && d == 0x47435447; /* "TCGTCGTCGTCG" */
}

static int is_intel(void)
{
    unsigned a, b = 0, c, d;
    __cpuid(0, a, b, c, d);
    return b == signature_INTEL_ebx;
}

static int run_cases(struct child *c, const char *only)
{
    int failed = 0;
    for (unsigned i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        const struct test *t = &tests[i];
        if (only && !strstr(t->name, only)) continue;
        if ((t->flags & NOT_TCG_INTEL) && is_tcg() && is_intel()) continue;
        int sig = run_case(c, t);
        if (sig < 0) {
            printf("%-42s the child is gone: %x\n", t->name, c->status);
            child_start(c);
            failed++;
            continue;
        }
        show(c, t, sig);
        if (as_expected(c, t, sig)) continue;
        if ((t->flags & HARDWARE_ONLY) && is_tcg()) {
            printf("    not as on hardware: TCG\n");
        } else {
            printf("    NOT AS EXPECTED: %s code %d rip %+d addr %lx\n", sig_name(t->sig), t->si_code, t->rip, t->addr);
            failed++;
        }
    }
    return failed;
}

struct frame_test {
    const char *name;
    const uint8_t *code;
    unsigned len;
    unsigned trapno, err;
    unsigned long cr2;
    int flags;
};
static const struct frame_test frame_tests[] = {
    { "int 0x21", BYTES(0xcd, 0x21), 13, 0x21 << 3 | 2, 0, HARDWARE_ONLY }, /* QEMU 7.2: 0x21 << 4 | 2 */
    { "mov ds,0x10", BYTES(0xb8, 0x10, 0, 0, 0, 0x8e, 0xd8), 13, 0x10, 0, 0 },
    { "hlt", BYTES(0xf4), 13, 0, 0, 0 },
    { "read, unmapped", BYTES(0xa1, 4, 0, 0, 0x70), 14, 4, NOWHERE + 4, 0 },
    { "write, unmapped", BYTES(0xa3, 4, 0, 0, 0x70), 14, 6, NOWHERE + 4, 0 },
    { "write, read-only", BYTES(0xa3, 8, 0, 0, 0x30), 14, 7, READONLY + 8, 0 },
    { "execute, no-execute", BYTES(0xb9, 4, 0, 0, 0x30, 0xff, 0xe1), 14, 0x15, READONLY + 4, 0 },
    { "div by 0", BYTES(0x31, 0xc9, 0xf7, 0xf1), 0, 0, 0, 0 },
    { "ud2", BYTES(0x0f, 0x0b), 6, 0, 0, 0 },
};

static int run_frame_test(struct child *c, const struct frame_test *t)
{
    const struct test as_test = { .name = t->name, .code = t->code, .len = t->len };
    struct user_regs_struct in_handler, after;
    const greg_t *g = frame->regs;
    int sig = run_case(c, &as_test), good;

    memset(frame->regs, 0, sizeof(frame->regs));
    good = child_go(c, PTRACE_SYSEMU, sig) == SIGTRAP;
    ptrace(PTRACE_GETREGS, c->pid, 0, &in_handler);
    good &= child_go(c, PTRACE_CONT, 0) == SIGTRAP; /* rt_sigreturn is a system call that must be one */
    ptrace(PTRACE_GETREGS, c->pid, 0, &after);
    good &= in_handler.cs == CS64 && after.cs == CS32 && after.rip == AFTER + 1 && after.rbx == 0xb0b0b0b0;
    good &= g[REG_TRAPNO] == t->trapno && (g[REG_ERR] == t->err || ((t->flags & HARDWARE_ONLY) && is_tcg()))
            && (t->trapno != 14 || (unsigned long)g[REG_CR2] == t->cr2);
    printf("frame: %-35s trapno %lld err %llx cr2 %llx csgsfs %llx eip %+lld; handler's cs %llx; after it cs %llx rip "
           "%llx%s\n",
           t->name, g[REG_TRAPNO], g[REG_ERR], g[REG_CR2], g[REG_CSGSFS], g[REG_RIP] - TEXT, in_handler.cs, after.cs,
           after.rip, good ? "" : "\n    NOT AS EXPECTED");
    return !good;
}

/* In compatibility mode a 64-bit tracer's PTRACE_GETREGSET shows the registers of a 32-bit process. */
static void show_regset(struct child *c)
{
    static const uint8_t int3[] = { 0xcc };
    const struct test as_test = { .name = "int3", .code = int3, .len = 1 };
    struct user_regs_struct regs;
    struct iovec v = { &regs, sizeof(regs) };
    run_case(c, &as_test);
    if (ptrace(PTRACE_GETREGSET, c->pid, 1 /* NT_PRSTATUS */, &v)) die("PTRACE_GETREGSET");
    printf("PTRACE_GETREGSET in compatibility mode: %zu bytes of registers\n", v.iov_len);
}

/* Whether the processor has that segment (LAR: SDM vol. 2). */
static int is_there(unsigned selector)
{
    unsigned rights;
    unsigned char yes;
    __asm__ volatile("lar %2, %0; setz %1" : "=r"(rights), "=q"(yes) : "r"(selector) : "cc");
    return yes;
}

/* Where 32-bit code could run: the kernel's own segment, or one of the LDT. */
static void show_segments(void)
{
    enum { ENTRY = 8, CODE = 2 };
    struct user_desc d = { .entry_number = ENTRY, .limit = 0xfffff, .seg_32bit = 1, .limit_in_pages = 1, .useable = 1 };
    unsigned short ldtr;
    d.contents = CODE;
    int refused = syscall(SYS_modify_ldt, 0x11, &d, sizeof(d)) ? errno : 0;
    __asm__ volatile("sldt %0" : "=m"(ldtr));
    printf("segments: %x %s, ", CS32, is_there(CS32) ? "is there" : "is missing");
    if (refused) printf("modify_ldt is refused: %s\n", strerror(refused));
    else printf("the LDT's %s (LDTR %x)\n", is_there(ENTRY << 3 | 7) ? "is there" : "is written but not loaded", ldtr);
}

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void costs(struct child *c)
{
    enum { N = 1000 };
    static const uint8_t loop[] = { 0xcd, 0x80, 0xeb, 0xfc }, fault[] = { 0xa1, 0, 0, 0, 0x70 };
    struct user_fpregs_struct fp;
    double t;
    memcpy((void *)(long)TEXT, loop, sizeof(loop));
    fresh_regs(&c->regs);
    ptrace(PTRACE_SETREGS, c->pid, 0, &c->regs);
    child_go(c, PTRACE_SYSEMU, 0);
    t = now_us();
    for (int i = 0; i < N; i++) child_go(c, PTRACE_SYSEMU, 0);
    printf("cost: int 0x80 stop and go %.2f us\n", (now_us() - t) / N);
    t = now_us();
    for (int i = 0; i < N; i++) {
        ptrace(PTRACE_GETREGS, c->pid, 0, &c->regs);
        ptrace(PTRACE_SETREGS, c->pid, 0, &c->regs);
        child_go(c, PTRACE_SYSEMU, 0);
    }
    printf("cost: the same with GETREGS, SETREGS %.2f us\n", (now_us() - t) / N);
    t = now_us();
    for (int i = 0; i < N; i++) ptrace(PTRACE_GETFPREGS, c->pid, 0, &fp), ptrace(PTRACE_SETFPREGS, c->pid, 0, &fp);
    printf("cost: GETFPREGS, SETFPREGS %.2f us\n", (now_us() - t) / N);
    memcpy((void *)(long)TEXT, fault, sizeof(fault));
    fresh_regs(&c->regs);
    ptrace(PTRACE_SETREGS, c->pid, 0, &c->regs);
    t = now_us();
    for (int i = 0; i < N; i++) child_go(c, PTRACE_SYSEMU, 0);
    printf("cost: page fault stop and go %.2f us\n", (now_us() - t) / N);
}

int main(int argc, char **argv)
{
    struct child c;
    cpu_set_t one;
    int failed, check = argc > 1 && !strcmp(argv[1], "--check");
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    if (!check) sched_setaffinity(0, sizeof(one), &one);
    map_low();
    child_start(&c);
    if (check)
        return run_case(&c, &tests[0]) != SYSTEM_CALL || !as_expected(&c, &tests[0], SYSTEM_CALL)
               || !(getauxval(AT_HWCAP2) & 2);
    printf("AT_HWCAP2 %lx, %s\n", getauxval(AT_HWCAP2), is_tcg() ? "TCG" : "not TCG");
    show_segments();
    failed = run_cases(&c, argc > 1 ? argv[1] : NULL);
    for (unsigned i = 0; i < sizeof(frame_tests) / sizeof(frame_tests[0]); i++)
        failed += run_frame_test(&c, &frame_tests[i]);
    show_regset(&c);
    costs(&c);
    printf("probe: %zu cases, %d not as expected\n",
           sizeof(tests) / sizeof(tests[0]) + sizeof(frame_tests) / sizeof(frame_tests[0]), failed);
    return failed != 0;
}
