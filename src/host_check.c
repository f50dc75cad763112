/* Owns the questions that `transvisor check` asks the host: each is tried, not looked up, and each has a cure.
 * Enter at vm_host_check(). */
#define _GNU_SOURCE /* memfd_create, MAP_32BIT */
#include "src/host_check.h"
#include "runtime/runtime.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef PTRACE_SYSEMU
#define PTRACE_SYSEMU 31
#endif

enum { APART_LATE = 126, APART_UNBORN = 127, APART_SIGNAL = 128 };
#define ADDRESS_SPACE ((u64)141 << 30) /* what windows for the guest's address spaces reserve */
#define MAPS_WANTED 65530              /* the kernel's default */
#define DESCRIPTORS_WANTED 256
#define CHECK_RAM ((u64)16 << 20)

static void say(struct vm_host_item *item, enum vm_host_state state, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void say(struct vm_host_item *item, enum vm_host_state state, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    item->state = state;
    vsnprintf(item->text, sizeof item->text, fmt, ap);
    va_end(ap);
}

int host_check_apart(int (*fn)(void *arg), void *arg, unsigned seconds)
{
    int status;
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) return APART_UNBORN;
    if (!pid) {
        signal(SIGALRM, SIG_DFL);
        alarm(seconds);
        _exit(fn(arg));
    }
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return APART_UNBORN;
    if (WIFEXITED(status)) return WEXITSTATUS(status);
    return WTERMSIG(status) == SIGALRM ? APART_LATE : APART_SIGNAL + WTERMSIG(status);
}

/* ---- the processor ---- */

static void check_bmi2(struct vm_host_item *item)
{
    if (__builtin_cpu_supports("bmi2")) say(item, VM_HOST_GOOD, "the processor has it");
    else
        say(item, VM_HOST_WORSE,
            "the processor (or the virtual machine around us) lacks it: no translation, only --engine interp");
}

/* By a far return into CS 23h, and back to the kernel by INT 80h: exit(42). */
static int run_32_bit(void *arg UNUSED)
{
    static const u8 code[] = { 0xb8, 1, 0, 0, 0, 0xbb, 42, 0, 0, 0, 0xcd, 0x80 };
    u8 *page = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (page == MAP_FAILED) return 1;
    memcpy(page, code, sizeof code);
    if (mprotect(page, PAGE_SIZE, PROT_READ | PROT_EXEC)) return 1;
    __asm__ volatile("pushq $0x23; pushq %0; lretq" : : "r"((u64)(uintptr_t)page) : "memory");
    return 1;
}

static void check_32_bit(struct vm_host_item *item)
{
    if (host_check_apart(run_32_bit, NULL, 2) == 42) say(item, VM_HOST_GOOD, "the host runs it");
    else say(item, VM_HOST_WORSE, "the host does not run it: guest programs are translated, not run directly");
}

/* ---- the kernel ---- */

static int trace_a_child(void *arg UNUSED)
{
    int status;
    pid_t pid = fork();
    if (pid < 0) return 2;
    if (!pid) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL)) _exit(1);
        raise(SIGSTOP);
        syscall(SYS_exit_group, 1); /* never reaches the kernel */
        _exit(1);
    }
    if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status)) return 1;
    bool good = !ptrace(PTRACE_SYSEMU, pid, NULL, NULL) && waitpid(pid, &status, 0) == pid && WIFSTOPPED(status);
    kill(pid, SIGKILL);
    return good ? 0 : 1;
}

static void check_ptrace(struct vm_host_item *item)
{
    if (!host_check_apart(trace_a_child, NULL, 2)) say(item, VM_HOST_GOOD, "children can be traced (PTRACE_SYSEMU)");
    else say(item, VM_HOST_WORSE, "children cannot be traced: no direct execution");
}

static int filter_calls(void *arg UNUSED)
{
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = { 1, &allow };
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static void check_seccomp(struct vm_host_item *item)
{
    if (!host_check_apart(filter_calls, NULL, 2)) say(item, VM_HOST_GOOD, "system calls can be filtered");
    else say(item, VM_HOST_WORSE, "system calls cannot be filtered: no direct execution");
}

static void check_memfd(struct vm_host_item *item)
{
    int fd = memfd_create("check", MFD_CLOEXEC);
    if (fd < 0)
        say(item, VM_HOST_WORSE, "memfd_create: %s; guest RAM will be a file in /dev/shm or /tmp", strerror(errno));
    else say(item, VM_HOST_GOOD, "memory files can be made");
    if (fd >= 0) close(fd);
}

static void check_timer(struct vm_host_item *item)
{
    timer_t timer;
    if (timer_create(CLOCK_MONOTONIC, NULL, &timer)) {
        say(item, VM_HOST_WORSE, "timer_create: %s", strerror(errno));
        return;
    }
    timer_delete(timer);
    say(item, VM_HOST_GOOD, "timers can be made");
}

/* ---- limits ---- */

static void check_address_space(struct vm_host_item *item)
{
    struct rlimit as = { RLIM_INFINITY, RLIM_INFINITY };
    getrlimit(RLIMIT_AS, &as);
    void *p = mmap(NULL, ADDRESS_SPACE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p != MAP_FAILED) {
        munmap(p, ADDRESS_SPACE);
        say(item, VM_HOST_GOOD, "%u GiB can be reserved", (unsigned)(ADDRESS_SPACE >> 30));
    } else if (as.rlim_cur == RLIM_INFINITY) {
        say(item, VM_HOST_WORSE, "%u GiB cannot be reserved (%s): memory accesses are slower",
            (unsigned)(ADDRESS_SPACE >> 30), strerror(errno));
    } else {
        say(item, VM_HOST_WORSE, "limited to %llu MiB (RLIMIT_AS): memory accesses are slower",
            (unsigned long long)(as.rlim_cur >> 20));
    }
}

static void check_descriptors(struct vm_host_item *item)
{
    struct rlimit n = { 0, 0 };
    getrlimit(RLIMIT_NOFILE, &n);
    say(item, n.rlim_cur < DESCRIPTORS_WANTED ? VM_HOST_WORSE : VM_HOST_GOOD, "%llu may be open (RLIMIT_NOFILE)",
        (unsigned long long)n.rlim_cur);
}

static void check_map_count(struct vm_host_item *item)
{
    unsigned long n = 0;
    FILE *f = fopen("/proc/sys/vm/max_map_count", "re");
    bool known = f && fscanf(f, "%lu", &n) == 1;
    if (f) fclose(f);
    if (!known) say(item, VM_HOST_UNKNOWN, "vm.max_map_count cannot be read");
    else say(item, n < MAPS_WANTED ? VM_HOST_WORSE : VM_HOST_GOOD, "%lu mappings a process (vm.max_map_count)", n);
}

/* ---- the whole ---- */

static void check_direct(struct vm_host_item *item)
{
    const char *why = NULL;
    u64 ns = 0;
    int rc = rt_direct_probe(&ns, &why);
    if (!rc)
        say(item, VM_HOST_GOOD, "guest programs run on the processor itself; a system call of theirs costs %.1f us",
            (double)ns / 1000);
    else say(item, VM_HOST_WORSE, "guest programs are translated: %s (%s)", why, strerror(-rc));
}

static void check_machine(struct vm_host_item *item)
{
    static const char *const engines[] = { [RT_BT] = "bt", [RT_INTERP] = "interp" };
    const char *what = "machine", *first = NULL;
    for (enum rt_engine engine = RT_BT; engine <= RT_INTERP; engine++) {
        struct rt *rt = NULL;
        const struct rt_config cfg = { .ram_size = CHECK_RAM, .engine = engine, .direct = RT_DIRECT_OFF };
        int rc = rt_new(&rt, &cfg, &what);
        rt_free(rt);
        if (!rc && engine == RT_BT)
            say(item, VM_HOST_GOOD, "this host can run transvisor, at its best: --engine %s", engines[engine]);
        else if (!rc)
            say(item, VM_HOST_WORSE, "this host can run transvisor with --engine %s only, slowly: %s", engines[engine],
                first);
        if (!rc) return;
        if (!first) first = what;
        say(item, VM_HOST_MISSING, "this host cannot run transvisor: %s: %s", what, strerror(-rc));
    }
}

static const struct {
    const char *name, *cure;
    void (*check)(struct vm_host_item *item);
} items[] = {
    { "BMI2", "a processor of 2013 or later; in a virtual machine, a CPU model that shows it (-cpu host)", check_bmi2 },
    { "32-bit code", "a kernel with CONFIG_IA32_EMULATION and without ia32_emulation=off; some clouds never run it",
      check_32_bit },
    { "ptrace",
      "kernel.yama.ptrace_scope below 3; in a container, --cap-add=SYS_PTRACE or a seccomp profile that allows ptrace",
      check_ptrace },
    { "seccomp", "a kernel with CONFIG_SECCOMP_FILTER", check_seccomp },
    { "memfd", "a seccomp profile that allows memfd_create", check_memfd },
    { "timers", "ulimit -i unlimited; a seccomp profile that allows timer_create", check_timer },
    { "address space", "ulimit -v unlimited; vm.overcommit_memory other than 2", check_address_space },
    { "descriptors", "ulimit -n 1024", check_descriptors },
    { "map count", "sysctl vm.max_map_count=65530", check_map_count },
    { "direct execution", "what is missing above", check_direct },
    { "/dev/kvm", "not needed", host_check_kvm },
    { "machine", "what is missing above", check_machine },
};

int vm_host_check(void (*tell)(void *arg, const struct vm_host_item *item), void *arg)
{
    bool can = true;
    for (size_t i = 0; i < ARRAY_LEN(items); i++) {
        struct vm_host_item item = { .name = items[i].name, .cure = items[i].cure };
        items[i].check(&item);
        if (item.state == VM_HOST_GOOD || item.state == VM_HOST_UNKNOWN) item.cure = NULL;
        can &= item.state != VM_HOST_MISSING;
        tell(arg, &item);
    }
    return can ? 0 : -ENOTSUP;
}
