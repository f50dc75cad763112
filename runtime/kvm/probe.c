/* Whether /dev/kvm does what it promises: a guest in 32-bit protected mode with paging counts, leaves and reloads CR3.
 * Some hosts have a /dev/kvm that is software, or that fails at the first instruction. Enter at rt_kvm_probe(). */
#include "runtime/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GUEST_RAM (64u << 10)
enum { CODE = 0x1000, PAGE_DIRECTORY = 0x2000, LOOPS = 100000, EXITS = 100, PORT_LOOPED = 0x10, PORT_EXIT = 0x11 };
enum { LATE = 10 /* seconds, of a KVM that sleeps */ };
enum { FAILED_OPEN = 1, FAILED_MAKE, FAILED_RUN, FAILED_RESULT };

/* What the child measures; shared with it. */
struct measured {
    int error;
    u64 loop_ns, exit_ns;
};

struct guest {
    int vm, vcpu;
    u8 *ram;
    struct kvm_run *run;
};

/* DEC ECX is 49h, which in 64-bit code would be a prefix: that the loop ends shows the mode. */
static const u8 code[] = {
    0xb9, 0xa0,        0x86, 0x01, 0x00, /* mov ecx, LOOPS */
    0x49, 0x75,        0xfd,             /* dec ecx; jnz */
    0xe6, PORT_LOOPED,                   /* out */
    0xb9, 0x64,        0x00, 0x00, 0x00, /* mov ecx, EXITS */
    0x0f, 0x20,        0xd8,             /* mov eax, cr3 */
    0x0f, 0x22,        0xd8,             /* mov cr3, eax */
    0xe6, PORT_EXIT,                     /* out */
    0x49, 0x75,        0xf5,             /* dec ecx; jnz */
    0xf4,                                /* hlt */
};

static u64 now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000000000 + (u64)t.tv_nsec;
}

static bool guest_make(struct guest *g, int kvm)
{
    g->vm = ioctl(kvm, KVM_CREATE_VM, 0);
    if (g->vm < 0) return false;
    g->ram = mmap(NULL, GUEST_RAM, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (g->ram == MAP_FAILED) return false;
    struct kvm_userspace_memory_region region = { .memory_size = GUEST_RAM, .userspace_addr = (u64)(uintptr_t)g->ram };
    if (ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &region)) return false;
    if ((g->vcpu = ioctl(g->vm, KVM_CREATE_VCPU, 0)) < 0) return false;
    int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (size < (int)sizeof *g->run) return false;
    g->run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, g->vcpu, 0);
    return g->run != MAP_FAILED;
}

/* Flat segments, one page of 4 MiB that is mapped to itself. */
static bool guest_start(struct guest *g)
{
    static const u32 entry = 0x83; /* present, writable, large */
    struct kvm_sregs s;
    struct kvm_regs r = { .rip = CODE, .rflags = 2 };
    memcpy(g->ram + CODE, code, sizeof code);
    memcpy(g->ram + PAGE_DIRECTORY, &entry, sizeof entry);
    if (ioctl(g->vcpu, KVM_GET_SREGS, &s)) return false;
    struct kvm_segment data = {
        .limit = 0xffffffff, .selector = 0x18, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1
    };
    s.ds = s.es = s.fs = s.gs = s.ss = data;
    s.cs = data;
    s.cs.selector = 0x10;
    s.cs.type = 11;
    s.cr4 = 0x10;
    s.cr3 = PAGE_DIRECTORY;
    s.cr0 = 0x80000011;
    s.efer = 0;
    return !ioctl(g->vcpu, KVM_SET_SREGS, &s) && !ioctl(g->vcpu, KVM_SET_REGS, &r);
}

/* Until the guest writes to port, or halts (0). */
static bool guest_until(struct guest *g, unsigned port)
{
    if (ioctl(g->vcpu, KVM_RUN, 0)) return false;
    if (!port) return g->run->exit_reason == KVM_EXIT_HLT;
    return g->run->exit_reason == KVM_EXIT_IO && g->run->io.port == port;
}

static int measure(void *arg)
{
    struct measured *m = arg;
    struct guest g;
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0 || ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
        m->error = errno;
        return FAILED_OPEN;
    }
    if (!guest_make(&g, kvm) || !guest_start(&g)) {
        m->error = errno;
        return FAILED_MAKE;
    }
    u64 begin = now_ns();
    errno = 0; /* an exit of another kind than awaited is no failure of the call */
    if (!guest_until(&g, PORT_LOOPED)) {
        m->error = errno;
        return FAILED_RUN;
    }
    u64 looped = now_ns();
    for (unsigned i = 0; i < EXITS; i++)
        if (!guest_until(&g, PORT_EXIT)) return FAILED_RESULT;
    m->loop_ns = looped - begin;
    m->exit_ns = (now_ns() - looped) / EXITS;
    return guest_until(&g, 0) ? 0 : FAILED_RESULT;
}

/* In a process of its own: a KVM that never comes back is ended with that. Returns what measure() does, or -1. */
static int measure_apart(struct measured *m)
{
    int status;
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) return -1;
    if (!pid) {
        const struct itimerval second = { .it_value.tv_sec = 1 };
        sigset_t both;
        sigemptyset(&both);
        sigaddset(&both, SIGALRM);
        sigaddset(&both, SIGPROF);
        signal(SIGALRM, SIG_DFL);
        signal(SIGPROF, SIG_DFL);
        sigprocmask(SIG_UNBLOCK, &both, NULL);
        alarm(LATE);
        setitimer(ITIMER_PROF, &second, NULL); /* a second of a processor: others may have it meanwhile */
        _exit(measure(m));
    }
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int rt_kvm_probe(struct rt_kvm *out, const char **why)
{
    struct measured *m = mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    *why = "KVM could not be tried";
    if (m == MAP_FAILED) return -errno;
    int how = measure_apart(m), error = m->error ? m->error : EIO;
    *out = (struct rt_kvm){ .loop_ns = (double)m->loop_ns / LOOPS, .exit_ns = (double)m->exit_ns };
    out->hardware =
        !how && out->loop_ns < 10 && out->exit_ns < 20000; /* a processor takes a cycle or two for a round */
    munmap(m, sizeof *m);
    switch (how) {
    case 0: return 0;
    case FAILED_OPEN: *why = "/dev/kvm cannot be opened"; return -error;
    case FAILED_MAKE: *why = "KVM here makes no machine"; return -error;
    case FAILED_RUN: *why = "KVM here does not run a 32-bit guest with paging (it stops at once)"; return -error;
    case FAILED_RESULT: *why = "KVM here does not run a 32-bit guest with paging (it stops in the middle)"; return -EIO;
    default: *why = "KVM here does not run a 32-bit guest with paging (it takes more than a second)"; return -EIO;
    }
}
