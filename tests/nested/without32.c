/* Runs a command as on a host that runs no 32-bit code:
 *
 *   without32 COMMAND [ARGUMENT]...
 *
 * No system call of a 32-bit program gets through (such a program dies of its first one, as it does where the
 * processor's compatibility mode is not to be had), and nobody is traced with PTRACE_SYSEMU, without which there is no
 * direct execution. The command and its children cannot take that back. Exits with 126 if this could not be brought
 * about. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define UNLESS(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip)
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, action)

int main(int argc, char **argv)
{
    struct sock_filter filter[] = {
        LOAD(arch),
        UNLESS(AUDIT_ARCH_I386, 1),
        RETURN(SECCOMP_RET_KILL_PROCESS),
        LOAD(nr),
        UNLESS(SYS_ptrace, 5),
        LOAD(args[0]),
        UNLESS(PTRACE_SYSEMU, 1),
        RETURN(SECCOMP_RET_ERRNO | EIO),
        UNLESS(PTRACE_SYSEMU_SINGLESTEP, 1),
        RETURN(SECCOMP_RET_ERRNO | EIO),
        RETURN(SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof filter / sizeof *filter, filter };

    if (argc < 2) {
        fprintf(stderr, "usage: without32 COMMAND [ARGUMENT]...\n");
        return 126;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
        perror("without32: seccomp");
        return 126;
    }
    execvp(argv[1], argv + 1);
    fprintf(stderr, "without32: %s: %s\n", argv[1], strerror(errno));
    return 127;
}
