/* Owns the making of direct-execution processes: their first program, the page and the socket that they share with the
 * monitor, the clone, and the maker.
 *   I1  What is born touches nothing of its maker's memory but its stack, until it has become another program.   [born]
 *   I2  One birth at a time: the next is asked for when the one before has settled.                     [dx_birth]
 *   I3  The maker takes nothing from who asks but one byte; its memory is a copy, which the asker cannot reach. */
#define _GNU_SOURCE
#include "runtime/direct/dx_birth.h"
#include "core/bug.h"
#include "core/host_ns.h"
#include "core/hostfd.h"
#include "runtime/direct/dx_layout.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define WHY DX_WHY

extern const u8 dx_stub_begin[], dx_stub_end[];

/* ---- waiting ---- */

/* WSTOPPED: one that is not traced yet may be stopped as well. */
int dx_wait(pid_t pid, int *status)
{
    siginfo_t si;
    int r;
    do r = waitid(P_PID, (id_t)pid, &si, WEXITED | WSTOPPED | __WALL);
    while (r < 0 && errno == EINTR);
    if (r < 0) return -errno;
    switch (si.si_code) {
    case CLD_EXITED: *status = (si.si_status & 0xff) << 8; break;
    case CLD_KILLED:
    case CLD_DUMPED: *status = si.si_status & 0x7f; break;
    default: *status = si.si_status << 8 | 0x7f; break; /* stopped, or at a trap */
    }
    return 0;
}

bool dx_is_idle(pid_t pid)
{
    siginfo_t si = { 0 };
    return waitid(P_PID, (id_t)pid, &si, WEXITED | WSTOPPED | WNOHANG | WNOWAIT | __WALL) || si.si_pid;
}

void dx_bury(pid_t pid)
{
    int status;
    siginfo_t si;
    if (waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG | WNOWAIT | __WALL)) return;
    syscall(SYS_tgkill, pid, pid, SIGKILL);
    while (!dx_wait(pid, &status) && !WIFEXITED(status) && !WIFSIGNALED(status)) continue;
}

/* ---- what it is born with ---- */

/* A program of one page: header, two program headers, the stub. */
static int image_new(void)
{
    u8 page[PAGE_SIZE] = { 0 };
    const u64 code = sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Phdr);
    const size_t n = (size_t)(dx_stub_end - dx_stub_begin);
    Elf64_Ehdr *eh = (Elf64_Ehdr *)page;
    Elf64_Phdr *ph = (Elf64_Phdr *)(eh + 1);
    *eh = (Elf64_Ehdr){ .e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
                        .e_type = ET_EXEC,
                        .e_machine = EM_X86_64,
                        .e_version = EV_CURRENT,
                        .e_entry = DX_IMAGE + code,
                        .e_phoff = sizeof *eh,
                        .e_ehsize = sizeof *eh,
                        .e_phentsize = sizeof *ph,
                        .e_phnum = 2 };
    ph[0] = (Elf64_Phdr){ .p_type = PT_LOAD,
                          .p_flags = PF_R | PF_X,
                          .p_vaddr = DX_IMAGE,
                          .p_paddr = DX_IMAGE,
                          .p_filesz = code + n,
                          .p_memsz = code + n,
                          .p_align = PAGE_SIZE };
    ph[1] = (Elf64_Phdr){ .p_type = PT_GNU_STACK, .p_flags = PF_R | PF_W };
    BUG_ON(code + n > PAGE_SIZE || n > DX_OPS);
    memcpy(page + code, dx_stub_begin, n);
    int fd = hostfd(memfd_create("direct-image", MFD_CLOEXEC));
    if (fd < 0) return -errno;
    if (write(fd, page, sizeof page) == (ssize_t)sizeof page) return fd;
    int err = errno ? errno : EIO;
    close(fd);
    return -err;
}

struct birth {
    int image, ram, page, socket;
    pid_t parent;
    bool tsc_faults;
};

/* The new process shares our memory, thread-local variables too, until it executes the image, and we run on meanwhile:
 * it touches nothing but its stack, its descriptors and its attributes, and errno is not its own. Nor does it return,
 * so a sanitizer's marks around its variables would stay behind. */
#define NO_RUNTIME __attribute__((no_sanitize("address", "undefined")))

NO_RUNTIME static long raw(long nr, u64 a, u64 b, u64 c, u64 d, u64 e)
{
    long r;
    register u64 r10 __asm__("r10") = d;
    register u64 r8 __asm__("r8") = e;
    __asm__ volatile("syscall" : "=a"(r) : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
    return r;
}

NO_RUNTIME static void born_if(bool holds, u64 step)
{
    if (!holds) (void)raw(SYS_exit_group, step, 0, 0, 0, 0);
}

NO_RUNTIME static int born(void *arg)
{
    const struct birth *b = arg;
    const int from[4] = { b->ram, b->page, b->socket, b->image };
    const struct rlimit none = { 0, 0 };
    char *const no[] = { NULL };
    long fd[4];
    for (int i = 0; i < 4; i++) { /* clear of 3 to 6 first */
        fd[i] = raw(SYS_fcntl, (u64)from[i], F_DUPFD, DX_FD_RAM + 4, 0, 0);
        born_if(fd[i] >= 0, DX_BORN_DUP);
    }
    for (int i = 0; i < 4; i++)
        born_if(raw(SYS_dup3, (u64)fd[i], DX_FD_RAM + (u64)i, i == 3 ? O_CLOEXEC : 0, 0, 0) >= 0, DX_BORN_DUP3);
    for (u64 i = 0; i < 3; i++) (void)raw(SYS_close, i, 0, 0, 0, 0);
    born_if(!raw(SYS_close_range, DX_FD_RAM + 4, ~0u, 0, 0, 0), DX_BORN_CLOSE_RANGE);
    born_if(!raw(SYS_prlimit64, 0, RLIMIT_CORE, (u64)&none, 0, 0), DX_BORN_PRLIMIT);
    born_if(!raw(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) && raw(SYS_getppid, 0, 0, 0, 0, 0) == b->parent,
            DX_BORN_PRCTL);
    born_if(!b->tsc_faults || !raw(SYS_prctl, PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0), DX_BORN_TSC);
    born_if(!raw(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0, 0), DX_BORN_PTRACE);
    (void)raw(SYS_execveat, DX_FD_RAM + 3, (u64) "", (u64)no, (u64)no, AT_EMPTY_PATH);
    born_if(false, DX_BORN_EXEC);
    return 0;
}

/* ---- the parts ---- */

struct parts {
    int image, page_fd, ours, theirs; /* descriptors, or -1 */
    u8 *page;                         /* MAP_FAILED: none */
};

/* If we are root: nobody (the number that stands for no user in particular), provided that we may signal it then. */
static u32 user_to_become(void)
{
    enum { NOBODY = 65534, CAP_KILL_BIT = 1 << 5 };
    struct {
        u32 version;
        int pid;
    } head = { 0x20080522, 0 };
    u32 data[6] = { 0 }; /* twice effective, permitted, inheritable */
    if (geteuid() || syscall(SYS_capget, &head, data) || !(data[0] & CAP_KILL_BIT)) return 0;
    return NOBODY;
}
static void parts_close(struct parts *p)
{
    if (p->image >= 0) close(p->image);
    if (p->page_fd >= 0) close(p->page_fd);
    if (p->ours >= 0) close(p->ours);
    if (p->theirs >= 0) close(p->theirs);
    if (p->page != MAP_FAILED) munmap(p->page, PAGE_SIZE);
}

static int socket_pair(struct parts *p)
{
    const struct timeval patience = { 0, DX_DOUBT_MS * 1000 };
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) return -errno;
    p->ours = hostfd(pair[0]);
    p->theirs = hostfd(pair[1]);
    if (p->ours < 0 || p->theirs < 0) return -errno;
    return setsockopt(p->ours, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) ? -errno : 0;
}

static int parts_make(struct parts *p, const char **why)
{
    *why = WHY "memory files (memfd_create) are refused";
    if ((p->image = image_new()) < 0) return p->image;
    p->page_fd = hostfd(memfd_create("direct-page", MFD_CLOEXEC));
    if (p->page_fd < 0 || ftruncate(p->page_fd, PAGE_SIZE)) return -errno;
    *why = WHY "sockets (socketpair) are refused";
    int rc = socket_pair(p);
    if (rc) return rc;
    *why = WHY "mmap of a memory file is refused";
    p->page = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, p->page_fd, 0);
    if (p->page == MAP_FAILED) return -errno;
    const u32 user = user_to_become();
    memcpy(p->page, dx_stub_begin, (size_t)(dx_stub_end - dx_stub_begin));
    memcpy(p->page + DX_USER, &user, sizeof user);
    return 0;
}

static int parts_new(struct parts *p, const char **why)
{
    *p = (struct parts){ -1, -1, -1, -1, MAP_FAILED };
    int rc = parts_make(p, why);
    if (rc == -EMFILE || rc == -ENFILE) *why = WHY "too few descriptors (RLIMIT_NOFILE, ulimit -n)";
    if (rc) parts_close(p);
    return rc;
}

/* ---- the clone ---- */

enum { STACK = 64 << 10 };

/* flags beside CLONE_VM. The pid or -errno. No CLONE_VFORK: one that somebody stops would hold us for good. */
static pid_t parts_clone(const struct parts *p, u8 *stack, int flags, int ram_fd, pid_t parent, bool tsc_faults,
                         const char **why)
{
    const u64 all = ~0ull; /* a handler of ours must not run in the child while it shares our memory */
    u64 before;
    struct birth *b = (struct birth *)stack; /* the far end of it */
    *b = (struct birth){ p->image, ram_fd, p->page_fd, p->theirs, parent, tsc_faults };
    *why = WHY "clone is refused";
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof all);
    pid_t pid = clone(born, stack + STACK, CLONE_VM | flags, b);
    int err = pid < 0 ? -errno : 0;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof all);
    return err ? err : pid;
}

static u8 *stack_new(void) { return mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }

static int birth_here(struct dx_born *out, int ram_fd, bool tsc_faults, const char **why)
{
    struct parts p;
    int rc = parts_new(&p, why);
    if (rc) return rc;
    u8 *stack = stack_new();
    pid_t pid = stack == MAP_FAILED ? -errno : parts_clone(&p, stack, 0, ram_fd, getpid(), tsc_faults, why);
    if (pid < 0) {
        if (stack != MAP_FAILED) munmap(stack, STACK);
        parts_close(&p);
        return pid;
    }
    close(p.image);
    close(p.theirs);
    *out = (struct dx_born){ pid, p.page_fd, p.ours, p.page, stack };
    return 0;
}

void dx_birth_settled(struct dx_born *b)
{
    if (b->stack) munmap(b->stack, STACK);
    b->stack = NULL;
}

/* ---- the maker ---- */

struct dx_maker {
    pid_t pid;
    int socket;
};

/* The maker has our program's memory as it was, so a text of ours is at the same place there. */
struct answer {
    int pid; /* or -errno */
    const char *why;
};
union rights {
    struct cmsghdr head; /* for its alignment */
    char bytes[CMSG_SPACE(2 * sizeof(int))];
};

enum { MAKER_SOCKET = 3, MAKER_RAM = 4, MAKER_CLEAR = 16 };

static void answer_send(const struct answer *a, const struct parts *p)
{
    union rights r;
    struct iovec v = { (void *)a, sizeof *a };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
    if (a->pid > 0) {
        const int fd[2] = { p->page_fd, p->ours };
        m.msg_control = r.bytes;
        m.msg_controllen = sizeof r.bytes;
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        *c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd) };
        memcpy(CMSG_DATA(c), fd, sizeof fd);
    }
    while (sendmsg(MAKER_SOCKET, &m, MSG_NOSIGNAL) < 0 && errno == EINTR) continue;
}

static bool maker_setup(int socket, int ram_fd, pid_t parent)
{
    int s = fcntl(socket, F_DUPFD, MAKER_CLEAR), r = fcntl(ram_fd, F_DUPFD, MAKER_CLEAR);
    if (s < 0 || r < 0 || dup3(s, MAKER_SOCKET, O_CLOEXEC) < 0 || dup3(r, MAKER_RAM, O_CLOEXEC) < 0) return false;
    for (int i = 0; i <= STDERR_FILENO; i++) close(i);
    if (syscall(SYS_close_range, MAKER_RAM + 1, ~0u, 0)) return false;
    return !prctl(PR_SET_DUMPABLE, 0) && !prctl(PR_SET_PDEATHSIG, SIGKILL) && getppid() == parent;
}

/* Beside other threads nobody else runs here, and no lock of theirs is to be waited for: system calls only. It never
 * returns. */
static void maker_run(int socket, int ram_fd, u8 *stack, pid_t parent)
{
    u8 tsc_faults;
    if (!maker_setup(socket, ram_fd, parent)) _exit(1);
    for (;;) {
        ssize_t n = read(MAKER_SOCKET, &tsc_faults, 1);
        if (n < 0 && errno == EINTR) continue;
        if (n != 1) _exit(0); /* the monitor is gone */
        struct parts p;
        struct answer a = { 0 };
        a.pid = parts_new(&p, &a.why);
        bool made = !a.pid;
        if (made) a.pid = parts_clone(&p, stack, CLONE_PARENT, MAKER_RAM, parent, tsc_faults, &a.why);
        answer_send(&a, &p);
        if (made) parts_close(&p);
    }
}

int dx_maker_new(struct dx_maker **out, int ram_fd, const char **why)
{
    struct parts p = { -1, -1, -1, -1, MAP_FAILED };
    const u64 all = ~0ull;
    u64 before;
    struct dx_maker *m = calloc(1, sizeof *m);
    u8 *stack = stack_new();
    *why = WHY "out of memory";
    int rc = m && stack != MAP_FAILED ? 0 : -ENOMEM;
    if (!rc) {
        *why = WHY "sockets (socketpair) are refused";
        rc = socket_pair(&p);
    }
    if (!rc) {
        const pid_t parent = getpid();
        *why = WHY "clone is refused (RLIMIT_NPROC, ulimit -u?)";
        syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof all);
        pid_t pid = (pid_t)syscall(SYS_clone, 0, 0, 0, 0, 0); /* as fork() does, but no handler runs, and no signal */
        if (!pid) maker_run(p.theirs, ram_fd, stack, parent);
        rc = pid < 0 ? -errno : 0;
        syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof all);
        if (m) *m = (struct dx_maker){ pid, p.ours };
    }
    if (!rc) p.ours = -1; /* the maker's now */
    parts_close(&p);
    if (stack != MAP_FAILED) munmap(stack, STACK);
    if (rc) free(m);
    else *out = m;
    return rc;
}

void dx_maker_free(struct dx_maker *m)
{
    if (!m) return;
    close(m->socket);
    dx_bury(m->pid);
    free(m);
}

/* What the maker says, and the descriptors that come with it. 0, or -ESRCH: it is gone, or does not answer. */
static int answer_take(struct dx_maker *m, struct answer *a, int fd[2])
{
    union rights r;
    struct iovec v = { a, sizeof *a };
    for (u64 begin = host_ns(CLOCK_MONOTONIC);;) {
        struct msghdr h = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = r.bytes, .msg_controllen = sizeof r.bytes };
        ssize_t n = recvmsg(m->socket, &h, MSG_CMSG_CLOEXEC);
        if (n == (ssize_t)sizeof *a) {
            struct cmsghdr *c = CMSG_FIRSTHDR(&h);
            if (c) memcpy(fd, CMSG_DATA(c), 2 * sizeof fd[0]);
            return 0;
        }
        if (n >= 0 || (errno != EINTR && errno != EAGAIN)) return -ESRCH;
        u64 waited = (host_ns(CLOCK_MONOTONIC) - begin) / 1000000;
        if (waited > DX_PATIENCE_MS || (waited >= DX_DOUBT_MS && dx_is_idle(m->pid))) return -ESRCH;
    }
}

static int birth_there(struct dx_born *out, struct dx_maker *m, bool tsc_faults, const char **why)
{
    const u8 ask = tsc_faults;
    struct answer a;
    int fd[2] = { -1, -1 };
    *why = WHY "somebody has stopped or killed the process that makes its processes";
    if (write(m->socket, &ask, 1) != 1 || answer_take(m, &a, fd)) return -EPERM; /* for good */
    *why = a.why;
    if (a.pid < 0) return a.pid;
    *out = (struct dx_born){ .pid = a.pid, .page_fd = fd[0], .socket = fd[1] };
    out->page = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd[0], 0);
    if (out->page != MAP_FAILED) return 0;
    int rc = -errno;
    dx_bury(a.pid);
    close(fd[0]);
    close(fd[1]);
    return rc;
}

int dx_birth(struct dx_born *out, struct dx_maker *m, int ram_fd, bool tsc_faults, const char **why)
{
    return m ? birth_there(out, m, tsc_faults, why) : birth_here(out, ram_fd, tsc_faults, why);
}
