/* Whether /dev/kvm does what it promises: a guest in 32-bit protected mode with paging counts, leaves and reloads CR3.
 * Some hosts have a /dev/kvm that is software, or that fails at the first instruction.
 * Owns nothing of the product: no engine uses KVM. */
#include "src/host_check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define GUEST_RAM (64u << 10)
enum { CODE = 0x1000, PAGE_DIRECTORY = 0x2000, LOOPS = 1000000, EXITS = 1000, PORT_LOOPED = 0x10, PORT_EXIT = 0x11 };
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
    0xb9, 0x40,        0x42, 0x0f, 0x00, /* mov ecx, LOOPS */
    0x49, 0x75,        0xfd,             /* dec ecx; jnz */
    0xe6, PORT_LOOPED,                   /* out */
    0xb9, 0xe8,        0x03, 0x00, 0x00, /* mov ecx, EXITS */
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

void host_check_kvm(struct vm_host_item *item)
{
    struct measured *m = mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    item->state = VM_HOST_UNKNOWN;
    snprintf(item->text, sizeof item->text, "could not be tried");
    if (m == MAP_FAILED) return;
    int how = host_check_apart(measure, m, 2);
    /* A loop of two instructions: a processor takes a cycle or two for a round. */
    bool hardware = !how && m->loop_ns < LOOPS * 10ull && m->exit_ns < 20000;
    if (!how)
        snprintf(item->text, sizeof item->text,
                 "runs 32-bit guests%s: %.1f ns for a round of a loop, %.1f us for an exit; not used",
                 hardware ? "" : ", but slowly", (double)m->loop_ns / LOOPS, (double)m->exit_ns / 1000);
    else if (how == FAILED_OPEN) snprintf(item->text, sizeof item->text, "none (%s); not needed", strerror(m->error));
    else
        snprintf(item->text, sizeof item->text,
                 "is there, but does not run a 32-bit guest with paging (%s); not needed",
                 how == FAILED_MAKE  ? "no machine can be made"
                 : how == FAILED_RUN ? "it stops at once"
                 : how == 126        ? "it takes more than 2 s"
                                     : "it stops in the middle");
    munmap(m, sizeof *m);
}
