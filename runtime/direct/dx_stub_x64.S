/* What runs in a direct-execution process beside the guest: position-independent, without a stack, data or libraries.
 *
 * It is started as a program (dx_process.c writes an ELF header around it), maps the page that it shares with the
 * monitor, continues there, unmaps everything else, and splits in two tasks that share the address space and nothing
 * more:
 *
 *   the runner   is traced; closes all descriptors, lets signals in, forbids itself every system call, and stops. From
 *                then on it has the guest's registers and runs nothing but guest code.
 *   the mapper   keeps the descriptors of guest RAM and of a socket, and may make five system calls. It sleeps until
 *                the monitor, with the runner stopped, has written a list of mappings behind this code; makes them;
 *                says so. All signals are blocked from before its birth: what a terminal sends to all of us is the
 *                monitor's to answer.
 *
 * If root started the monitor, it becomes somebody else; in any case it gives up all capabilities.
 *
 * A step that fails ends the process with its number (rbp, dx_layout.h) as exit status. After `syscall`, rcx and r11
 * are gone. */
#include "runtime/direct/dx_layout.h"

#define SYS_close 3
#define SYS_mmap 9
#define SYS_mprotect 10
#define SYS_munmap 11
#define SYS_rt_sigprocmask 14
#define SYS_sendto 44
#define SYS_recvfrom 45
#define SYS_clone 56
#define SYS_setgroups 116
#define SYS_setresuid 117
#define SYS_setresgid 119
#define SYS_capset 126
#define SYS_prctl 157
#define SYS_exit_group 231

#define PR_SET_PDEATHSIG 1
#define PR_SET_DUMPABLE 4
#define PR_SET_SECCOMP 22
#define PR_SET_NO_NEW_PRIVS 38
#define SECCOMP_MODE_FILTER 2
#define CLONE_VM 0x100
#define CLONE_PARENT_SETTID 0x100000
#define CLONE_PARENT 0x8000             /* the monitor is the mapper's parent too, and buries both */
#define MSG_TRUNC 0x20                  /* the length of a message instead of its text */
#define MSG_NOSIGNAL 0x4000
#define SIGKILL 9
#define TASK_END 0x7ffffffff000

        .intel_syntax noprefix
        .section .rodata
        .globl  dx_stub_begin, dx_stub_end, dx_stub_ready, dx_stub_popf, dx_stub_flags
        .balign 16
#define HERE(label) (DX_PAGE + label - dx_stub_begin)

.macro PRCTL option, arg
        mov     eax, SYS_prctl
        mov     edi, \option
        mov     rsi, \arg
        xor     edx, edx
        xor     r10d, r10d
        xor     r8d, r8d
        mov     ebp, DX_STEP_PRCTL
        syscall
        test    rax, rax
        jnz     failed
.endm
.macro FILTER program
        mov     eax, SYS_prctl
        mov     edi, PR_SET_SECCOMP
        mov     esi, SECCOMP_MODE_FILTER
        lea     rdx, [rip + \program]  /* in the shared page already */
        xor     r10d, r10d
        xor     r8d, r8d
        mov     ebp, DX_STEP_SECCOMP
        syscall
        test    rax, rax
        jnz     failed
.endm

dx_stub_begin:
        mov     ebp, DX_STEP_MMAP
        mov     eax, SYS_mmap
        movabs  rdi, DX_PAGE
        mov     esi, 4096
        mov     edx, 5                  /* PROT_READ | PROT_EXEC */
        mov     r10d, 0x11              /* MAP_SHARED | MAP_FIXED */
        mov     r8d, DX_FD_PAGE
        xor     r9d, r9d
        syscall
        cmp     rax, rdi
        jne     failed
        mov     rax, [rip + alone_there]
        jmp     rax

alone:                                  /* in the shared page from here on */
        mov     eax, SYS_mmap           /* once more, where the kernel can write to it, until the clone is made */
        movabs  rdi, DX_NOTE
        mov     esi, 4096
        mov     edx, 3                  /* PROT_READ | PROT_WRITE */
        mov     r10d, 0x11
        mov     r8d, DX_FD_PAGE
        xor     r9d, r9d
        syscall
        cmp     rax, rdi
        jne     failed
        movabs  rbx, DX_PAGE + DX_USER
        mov     ebx, [rbx]
        test    ebx, ebx
        jz      no_longer_root
        mov     eax, SYS_setgroups      /* each may be refused in a user namespace that has nobody else */
        xor     edi, edi
        xor     esi, esi
        syscall
        mov     eax, SYS_setresgid
        mov     edi, ebx
        mov     esi, ebx
        mov     edx, ebx
        syscall
        mov     eax, SYS_setresuid
        mov     edi, ebx
        mov     esi, ebx
        mov     edx, ebx
        syscall
no_longer_root:
        mov     ebp, DX_STEP_CAPSET
        mov     eax, SYS_capset
        lea     rdi, [rip + capability_header]
        lea     rsi, [rip + no_capabilities]
        syscall
        test    rax, rax
        jnz     failed
        PRCTL   PR_SET_PDEATHSIG, SIGKILL /* anew: another user's process has none */
        PRCTL   PR_SET_DUMPABLE, 0
        PRCTL   PR_SET_NO_NEW_PRIVS, 1
        mov     ebp, DX_STEP_CLONE
        mov     eax, SYS_clone
        mov     edi, CLONE_VM | CLONE_PARENT | CLONE_PARENT_SETTID
        xor     esi, esi
        movabs  rdx, DX_NOTE + DX_MAPPER
        /* Present before it is needed: the note must be there though we are killed in the call. */
        mov     dword ptr [rdx], 0
        xor     r10d, r10d
        xor     r8d, r8d
        syscall
        test    rax, rax
        js      failed
        jz      mapper

        mov     ebp, DX_STEP_MUNMAP
        mov     eax, SYS_munmap
        xor     edi, edi
        movabs  rsi, DX_PAGE
        syscall
        test    rax, rax
        jnz     failed
        mov     eax, SYS_munmap
        movabs  rdi, DX_PAGE + 4096
        movabs  rsi, TASK_END - DX_PAGE - 4096
        syscall
        test    rax, rax
        jnz     failed
        mov     edi, DX_FD_RAM
        mov     eax, SYS_close
        syscall
        mov     edi, DX_FD_PAGE
        mov     eax, SYS_close
        syscall
        mov     edi, DX_FD_SOCKET
        mov     eax, SYS_close
        syscall
        mov     eax, SYS_rt_sigprocmask /* here no handler of the monitor's can run any more */
        mov     edi, 2                  /* SIG_SETMASK */
        lea     rsi, [rip + no_signals]
        xor     edx, edx
        mov     r10d, 8
        mov     ebp, DX_STEP_SIGPROCMASK
        syscall
        test    rax, rax
        jnz     failed
        FILTER  runner_filter
        int3
dx_stub_ready:
        ud2                             /* never: the monitor has other plans for RIP */

/* ptrace cannot set EFLAGS.ID: the monitor runs this, RSP at one of two constants. */
dx_stub_popf:
        popfq
        int3
        ud2

mapper:
        PRCTL   PR_SET_PDEATHSIG, SIGKILL
        mov     edi, DX_FD_PAGE
        mov     eax, SYS_close
        syscall
        FILTER  mapper_filter
        mov     ebp, DX_STEP_MONITOR_GONE
        movabs  r12, DX_PAGE + DX_OPS
next_list:
        mov     eax, SYS_recvfrom
        mov     edi, DX_FD_SOCKET
        xor     esi, esi
        xor     edx, edx
        mov     r10d, MSG_TRUNC
        xor     r8d, r8d
        xor     r9d, r9d
        syscall
        test    rax, rax
        jle     failed                  /* the monitor is gone */
        mov     r13d, [r12]
        lea     r14, [r12 + 8]
        lea     r15, [rip + said_done]
next_op:
        mov     rax, [r14]
        mov     rdi, [r14 + 8]
        mov     rsi, [r14 + 16]
        mov     rdx, [r14 + 24]
        mov     r10, [r14 + 32]
        mov     r9, [r14 + 40]
        mov     r8d, DX_FD_RAM
        syscall
        cmp     rax, -4096
        ja      refused
        add     r14, DX_OP_BYTES
        dec     r13d
        jnz     next_op
answer:
        mov     eax, SYS_sendto
        mov     edi, DX_FD_SOCKET
        mov     rsi, r15
        mov     edx, 1
        mov     r10d, MSG_NOSIGNAL
        xor     r8d, r8d
        xor     r9d, r9d
        syscall
        jmp     next_list
refused:
        lea     r15, [rip + said_refused]
        jmp     answer

failed:
        mov     edi, ebp
        mov     eax, SYS_exit_group
        syscall
        ud2

        .balign 8
alone_there:                            /* a constant: not every assembler takes it as an operand */
        .quad   HERE(alone)
dx_stub_flags:
        .quad   0x202, 0x200202         /* without ID, with ID */
no_signals:
no_capabilities:                        /* effective, permitted, inheritable: twice 32 bits each */
        .quad   0, 0, 0
capability_header:
        .long   0x20080522, 0           /* _LINUX_CAPABILITY_VERSION_3, this task */
said_done:
        .byte   0
said_refused:
        .byte   1

/* struct sock_filter: code, jt, jf, k; jumps are counted in statements from the next one. struct seccomp_data: nr at 0,
 * arch at 4, arguments from 16. */
#define STATEMENT(code, k) .short code; .byte 0, 0; .long k
#define JUMP(code, k, jt, jf) .short code; .byte jt, jf; .long k
#define JUMP_EQ(k, jt, jf) JUMP(0x15, k, jt, jf)
#define JUMP_SET(k, jt, jf) JUMP(0x45, k, jt, jf)
#define JUMP_GE_X(k, jt, jf) JUMP(0x3d, k, jt, jf)
#define LOAD(off) STATEMENT(0x20, off)
#define AND(k) STATEMENT(0x54, k)
#define TAX STATEMENT(0x07, 0)
#define ADD_X STATEMENT(0x0c, 0)
#define RETURN(k) STATEMENT(0x06, k)
#define NR 0
#define ARCH 4
#define ARG(n) (16 + 8 * n)             /* its lower half */
#define HIGH(n) (20 + 8 * n)
#define RET_KILL_PROCESS 0x80000000
#define RET_TRAP 0x00030000             /* SIGSYS, which the monitor sees first */
#define RET_ALLOW 0x7fff0000
#define ARCH_X86_64 0xc000003e
#define MAP_OF_RAM 0x8011               /* MAP_SHARED | MAP_FIXED | MAP_POPULATE */

        .balign 8
runner_program:
        RETURN(RET_TRAP)
runner_program_end:
mapper_program:
        LOAD(ARCH)
        JUMP_EQ(ARCH_X86_64, 0, 32)
        LOAD(NR)
        JUMP_EQ(SYS_mmap, 5, 0)
        JUMP_EQ(SYS_munmap, 12, 0)
        JUMP_EQ(SYS_mprotect, 7, 0)
        JUMP_EQ(SYS_recvfrom, 25, 0)
        JUMP_EQ(SYS_sendto, 24, 0)
        JUMP_EQ(SYS_exit_group, 26, 25)
                                        /* mmap: of guest RAM, in place */
        LOAD(ARG(3))
        JUMP_EQ(MAP_OF_RAM, 0, 23)
        LOAD(ARG(4))
        JUMP_EQ(DX_FD_RAM, 0, 21)
                                        /* prot: never writable and executable */
        LOAD(ARG(2))
        JUMP_SET(~7, 19, 0)
        AND(6)
        JUMP_EQ(6, 17, 0)
                                        /* range: below 4 GiB: all of it, or address + length */
        LOAD(HIGH(0))
        JUMP_EQ(0, 0, 15)
        LOAD(HIGH(1))
        JUMP_EQ(0, 5, 0)
        JUMP_EQ(1, 0, 12)
        LOAD(ARG(1))
        JUMP_EQ(0, 0, 10)
        LOAD(ARG(0))
        JUMP_EQ(0, 9, 8)
                                        /* sum: does not pass 4 GiB */
        LOAD(ARG(0))
        TAX
        LOAD(ARG(1))
        ADD_X
        JUMP_EQ(0, 4, 0)
        JUMP_GE_X(0, 3, 2)
                                        /* socket */
        LOAD(ARG(0))
        JUMP_EQ(DX_FD_SOCKET, 1, 0)
                                        /* kill */
        RETURN(RET_KILL_PROCESS)
                                        /* allow */
        RETURN(RET_ALLOW)
mapper_program_end:

        .balign 8
runner_filter:                          /* struct sock_fprog */
        .short  (runner_program_end - runner_program) / 8, 0, 0, 0
        .quad   HERE(runner_program)
mapper_filter:
        .short  (mapper_program_end - mapper_program) / 8, 0, 0, 0
        .quad   HERE(mapper_program)
dx_stub_end:
        .section .note.GNU-stack,"",@progbits
