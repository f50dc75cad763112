/* Owns the descriptors of a machine on /dev/kvm: opening them, what CPUID answers, and that every model-specific
 * register but those of SYSENTER comes to us. What a processor of another name than the host's cannot hide:
 * instructions that the host has and the model lacks run. */
#define _GNU_SOURCE
#include "runtime/kvm/kvm_cpu.h"
#include "core/hostfd.h"
#include "runtime/cpu/cpu_models.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* Intel's processors without "unrestricted guest" run real mode by a task and a page table of KVM's, where the guest
 * has nothing: below the firmware's greatest image. */
#define IDENTITY_MAP_AT 0xfeffc000ull
#define TASK_AT 0xfeffd000ull
#define CPUID_MAX 64u
#define LINEAR_BITS \
    48u /* KVM takes no processor whose linear addresses have 32 bits, as leaf 80000008H would say. NOT-HW */
enum { MSR_SYSENTER_FIRST = 0x174, SYSENTER_MSRS = 3 };

static int ask(int fd, unsigned long request, void *arg) { return ioctl(fd, request, arg) < 0 ? -errno : 0; }

/* ---- what it must be able to do ---- */

static int has_all(struct kvm_cpu *k, const char **what)
{
    static const struct {
        int capability;
        const char *what;
    } needed[] = {
        { KVM_CAP_USER_MEMORY, "/dev/kvm without guest memory (KVM_CAP_USER_MEMORY)" },
        { KVM_CAP_IMMEDIATE_EXIT, "/dev/kvm is older than Linux 4.13 (KVM_CAP_IMMEDIATE_EXIT)" },
        { KVM_CAP_READONLY_MEM, "/dev/kvm without ROM (KVM_CAP_READONLY_MEM)" },
        { KVM_CAP_SYNC_REGS, "/dev/kvm is older than Linux 4.17 (KVM_CAP_SYNC_REGS)" },
        { KVM_CAP_VCPU_EVENTS, "/dev/kvm does not tell what is pending (KVM_CAP_VCPU_EVENTS)" },
        { KVM_CAP_DEBUGREGS, "/dev/kvm without debug registers (KVM_CAP_DEBUGREGS)" },
        { KVM_CAP_X86_USER_SPACE_MSR, "/dev/kvm is older than Linux 5.10 (KVM_CAP_X86_USER_SPACE_MSR)" },
        { KVM_CAP_X86_MSR_FILTER, "/dev/kvm is older than Linux 5.10 (KVM_CAP_X86_MSR_FILTER)" },
    };
    for (size_t i = 0; i < ARRAY_LEN(needed); i++)
        if (ioctl(k->vm, KVM_CHECK_EXTENSION, needed[i].capability) <= 0) {
            *what = needed[i].what;
            return -ENOTSUP;
        }
    if (!(ioctl(k->vm, KVM_CHECK_EXTENSION, KVM_CAP_SYNC_REGS) & KVM_SYNC_X86_REGS)) return -ENOTSUP;
    k->has_sregs2 = ioctl(k->vm, KVM_CHECK_EXTENSION, KVM_CAP_SREGS2) > 0;
    return 0;
}

/* ---- the model ---- */

static void cpuid_add(struct kvm_cpu *k, struct kvm_cpuid2 *all, const struct cpuid_leaf *l, u32 subleaf, bool indexed)
{
    u32 r[4];
    cpu_cpuid(k->c, l->leaf, subleaf, r);
    if (l->leaf == 0x80000008) r[0] = (r[0] & ~0xff00u) | LINEAR_BITS << 8;
    all->entries[all->nent++] = (struct kvm_cpuid_entry2){ .function = l->leaf,
                                                           .index = subleaf,
                                                           .flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
                                                           .eax = r[0],
                                                           .ebx = r[1],
                                                           .ecx = r[2],
                                                           .edx = r[3] };
}

/* Rows of one leaf are its subleaves. KVM itself clears the local APIC's bit while that is disabled. */
static int set_cpuid(struct kvm_cpu *k)
{
    const struct cpu_model *m = k->c->model;
    union {
        struct kvm_cpuid2 head; /* its entries follow it */
        u8 room[sizeof(struct kvm_cpuid2) + CPUID_MAX * sizeof(struct kvm_cpuid_entry2)];
    } all = { .room = { 0 } };
    for (unsigned i = 0, sub = 0; i < m->nleaves && i < CPUID_MAX; i++) {
        bool again = i && m->leaves[i - 1].leaf == m->leaves[i].leaf;
        bool more = i + 1 < m->nleaves && m->leaves[i + 1].leaf == m->leaves[i].leaf;
        sub = again ? sub + 1 : 0;
        cpuid_add(k, &all.head, &m->leaves[i], sub, again || more);
    }
    return ask(k->fd, KVM_SET_CPUID2, &all);
}

/* The registers of SYSENTER are the processor's own, where the model has them; all others come to us. */
static int filter_msrs(struct kvm_cpu *k)
{
    u8 none[SYSENTER_MSRS] = { 0 }, all[SYSENTER_MSRS];
    memset(all, 0xff, sizeof all);
    struct kvm_enable_cap cap = { .cap = KVM_CAP_X86_USER_SPACE_MSR,
                                  .args = { KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER
                                            | KVM_MSR_EXIT_REASON_INVAL } };
    struct kvm_msr_filter filter = {
        .flags = KVM_MSR_FILTER_DEFAULT_DENY,
        .ranges[0] = { .flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE,
                       .nmsrs = SYSENTER_MSRS,
                       .base = MSR_SYSENTER_FIRST,
                       .bitmap = model_edx(k->c->model) & CPUID_SEP ? all : none },
    };
    int rc = ask(k->vm, KVM_ENABLE_CAP, &cap);
    return rc ? rc : ask(k->vm, KVM_X86_SET_MSR_FILTER, &filter);
}

static bool can_offset_tsc(struct kvm_cpu *k)
{
    struct kvm_device_attr attr = { .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET };
    return !ioctl(k->fd, KVM_HAS_DEVICE_ATTR, &attr);
}

/* ---- lifetime ---- */

static int make_vm(struct kvm_cpu *k, const char **what)
{
    u64 identity_map = IDENTITY_MAP_AT;
    int rc;
    *what = "/dev/kvm";
    k->dev = hostfd(open("/dev/kvm", O_RDWR | O_CLOEXEC));
    if (k->dev < 0) return -errno;
    if (ioctl(k->dev, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) return -ENOTSUP;
    *what = "/dev/kvm: a machine (KVM_CREATE_VM)";
    if ((k->vm = hostfd(ioctl(k->dev, KVM_CREATE_VM, 0))) < 0) return -errno;
    if ((rc = has_all(k, what))) return rc;
    *what = "/dev/kvm: real mode (KVM_SET_IDENTITY_MAP_ADDR, KVM_SET_TSS_ADDR)";
    if ((rc = ask(k->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map))) return rc;
    return ioctl(k->vm, KVM_SET_TSS_ADDR, TASK_AT) < 0 ? -errno : 0;
}

static int make_processor(struct kvm_cpu *k, const char **what)
{
    int rc, len = ioctl(k->dev, KVM_GET_VCPU_MMAP_SIZE, 0);
    *what = "/dev/kvm: a processor (KVM_CREATE_VCPU)";
    if ((k->fd = hostfd(ioctl(k->vm, KVM_CREATE_VCPU, 0))) < 0) return -errno;
    if (len < (int)sizeof *k->run) return -ENOTSUP;
    void *run = mmap(NULL, (size_t)len, PROT_READ | PROT_WRITE, MAP_SHARED, k->fd, 0);
    if (run == MAP_FAILED) return -errno;
    k->run = run;
    k->run_len = (u64)len;
    k->run->kvm_valid_regs = KVM_SYNC_X86_REGS;
    k->has_tsc_offset = can_offset_tsc(k);
    *what = "/dev/kvm: this processor (KVM_SET_CPUID2)";
    if ((rc = set_cpuid(k))) return rc;
    *what = "/dev/kvm: model-specific registers (KVM_X86_SET_MSR_FILTER)";
    return filter_msrs(k);
}

int kvm_cpu_new(struct kvm_cpu *k, struct cpu *c, const char **what)
{
    *k = (struct kvm_cpu){ .c = c, .dev = -1, .vm = -1, .fd = -1, .home = true, .remapped = true };
    *what = "a processor without CPUID under KVM: --cpu pentium or a later one has it";
    if (!c->model->nleaves) return -ENOTSUP;
    int rc = make_vm(k, what);
    if (!rc) rc = make_processor(k, what);
    if (!rc) kvm_memory_listen(k);
    return rc;
}

void kvm_cpu_free(struct kvm_cpu *k)
{
    kvm_memory_unlisten(k);
    if (k->run) munmap(k->run, k->run_len);
    if (k->fd >= 0) close(k->fd);
    if (k->vm >= 0) close(k->vm);
    if (k->dev >= 0) close(k->dev);
    free(k->dirty);
}

int kvm_cpu_enter(struct kvm_cpu *k)
{
    k->home = false;
    return ioctl(k->fd, KVM_RUN, 0) < 0 ? -errno : 0;
}
