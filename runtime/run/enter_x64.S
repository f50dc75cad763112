/* In and out of translated code, and the stubs it calls.
 *
 * In translated code: guest EAX ECX EDX EBX EBP ESI EDI in their namesakes, ESP in r14d, flags in RFLAGS;
 * r15 struct cpu, r13 jump cache, r12 window base or 10; r8-r11 scratch; rsp as rt_enter left it:
 *
 *     rsp+56  return address of rt_enter
 *     rsp+8   rbx rbp r12 r13 r14 r15 (pushed in the order rbx .. r15)
 *     rsp     alignment, 16-aligned
 *
 * A stub reached by `call` finds its return address on top of that. */
#include "runtime/cpu/cpu_layout.h"

        .intel_syntax noprefix
        .text

/* Flags of the guest to and from RFLAGS by way of LAHF/SAHF and OF, a third of the cost of PUSHF/POPF. Both use rax,
 * and rcx as a temporary. */
.macro SAVE_FLAGS
        lahf
        seto    al
        movzx   ecx, ah
        movzx   eax, al
        shl     eax, 11
        or      eax, ecx
        mov     [r15 + CPU_AFLAGS], eax
.endm
.macro LOAD_FLAGS
        mov     eax, [r15 + CPU_AFLAGS]
        mov     ecx, eax
        shr     ecx, 11
        and     ecx, 1
        shl     eax, 8
        mov     al, cl
        add     al, 0x7f                /* OF = old bit 11 */
        sahf
.endm
.macro SAVE_GPRS_FLAGS
        mov     [r15 + CPU_GPR + 0], eax
        mov     [r15 + CPU_GPR + 4], ecx
        mov     [r15 + CPU_GPR + 8], edx
        mov     [r15 + CPU_GPR + 12], ebx
        mov     [r15 + CPU_GPR + 16], r14d
        mov     [r15 + CPU_GPR + 20], ebp
        mov     [r15 + CPU_GPR + 24], esi
        mov     [r15 + CPU_GPR + 28], edi
        SAVE_FLAGS
.endm
.macro LOAD_GPRS_FLAGS
        LOAD_FLAGS
        mov     eax, [r15 + CPU_GPR + 0]
        mov     ecx, [r15 + CPU_GPR + 4]
        mov     edx, [r15 + CPU_GPR + 8]
        mov     ebx, [r15 + CPU_GPR + 12]
        mov     r14d, [r15 + CPU_GPR + 16]
        mov     ebp, [r15 + CPU_GPR + 20]
        mov     esi, [r15 + CPU_GPR + 24]
        mov     edi, [r15 + CPU_GPR + 28]
.endm

/* int rt_enter(struct cpu *c, const void *code): runs translated code until an exit; returns enum exit_reason. The look
 * at kick comes after host_rsp says that code runs: a kick before it is seen here, and the handler sees to a later one.
 */
        .globl  rt_enter
        .type   rt_enter, @function
rt_enter:
        push    rbx
        push    rbp
        push    r12
        push    r13
        push    r14
        push    r15
        sub     rsp, 8
        mov     r15, rdi
        mov     r11, rsi
        mov     [r15 + CPU_HOST_RSP], rsp
        mov     r9d, ASM_EXIT_KICKED
        cmp     dword ptr [r15 + CPU_KICK], 0
        jne     exit_home
        mov     r13, [r15 + CPU_JUMP_CACHE]
        mov     r12, [r15 + CPU_WINDOW]
        LOAD_GPRS_FLAGS
        jmp     r11
        .size   rt_enter, . - rt_enter

/* ---- ways out ---- */

/* r8d: EIP. Goes where the entry at jump_index() + after says, if it is that EIP's; goes on otherwise. Changes r9 and
 * r10, and no flags. */
.macro JUMP_IF_CACHED after
        rorx    r9d, r8d, 12
        lea     r9, [r9 + r8 + \after]
        movzx   r9d, r9w
        lea     r9, [r9 + r9]
        mov     r10, rcx
        mov     ecx, [r13 + r9*8]
        lea     ecx, [rcx + r8]
        jrcxz   7f
        mov     rcx, r10
        jmp     8f
7:      mov     rcx, r10
        jmp     [r13 + r9*8 + 8]
8:
.endm

        .globl  rt_exit_jump, rt_exit_jump_segmented, rt_exit_chain, rt_exit_emulate, rt_exit_fault, rt_exit_signal
/* r8d: target EIP. The entry of its index is not its own; it may be in the next one (chain.c, I4). */
rt_exit_jump:
        JUMP_IF_CACHED 1
rt_exit_jump_segmented:                 /* the jump cache is not one by EIP alone */
        mov     [r15 + CPU_EIP], r8d
        mov     r9d, ASM_EXIT_JUMP
        jmp     exit_save
rt_exit_chain:                          /* r8: the edge's number */
        mov     [r15 + CPU_EXIT_ARG], r8
        mov     r9d, ASM_EXIT_CHAIN
        jmp     exit_save
rt_exit_emulate:                        /* called: the return address tells the instruction */
        pop     r8
        lea     r8, [r8 - 1]
        mov     [r15 + CPU_EXIT_ARG], r8
        mov     r9d, ASM_EXIT_EMULATE
        jmp     exit_save
rt_exit_fault:                          /* from the signal handler, which has set exit_arg */
        mov     r9d, ASM_EXIT_FAULT
        jmp     exit_save
rt_exit_signal:
        mov     r9d, ASM_EXIT_SIGNAL
exit_save:
        SAVE_GPRS_FLAGS
exit_saved:                             /* r9d: reason; guest GPRs and flags are in struct cpu */
        cmp     dword ptr [r15 + CPU_FPU_HOT], 0
        je      1f
        fxsave64 [r15 + CPU_FX]
        fninit
        ldmxcsr [rip + host_mxcsr]
        mov     rsp, [r15 + CPU_HOST_RSP]
        mov     rbx, r9
        mov     rdi, r15
        call    callout_x87_home        /* FIP and FDP are host addresses: not the guest's to see */
        mov     r9, rbx
        mov     dword ptr [r15 + CPU_FPU_HOT], 0
        mov     dword ptr [r15 + CPU_SSE_HOT], 0
1:      mov     rsp, [r15 + CPU_HOST_RSP]
exit_home:
        mov     eax, r9d
        mov     qword ptr [r15 + CPU_HOST_RSP], 0
        add     rsp, 8
        pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     rbp
        pop     rbx
        ret

/* ---- stubs that come back ---- */

/* Everything a C function may clobber, except rax, rcx and flags. */
.macro SAVE_VOLATILE
        mov     [r15 + CPU_GPR + 4], r10d       /* guest ECX */
        mov     [r15 + CPU_GPR + 8], edx
        mov     [r15 + CPU_GPR + 24], esi
        mov     [r15 + CPU_GPR + 28], edi
        mov     [r15 + CPU_SCRATCH + 8], r8
        mov     [r15 + CPU_SCRATCH + 16], r11
.endm
.macro LOAD_VOLATILE
        mov     r10d, [r15 + CPU_GPR + 4]
        mov     edx, [r15 + CPU_GPR + 8]
        mov     esi, [r15 + CPU_GPR + 24]
        mov     edi, [r15 + CPU_GPR + 28]
        mov     r8, [r15 + CPU_SCRATCH + 8]
        mov     r11, [r15 + CPU_SCRATCH + 16]
.endm
/* The guest's XMM registers, if they are in the host's: C code uses them for copies, and so does the C library. While
 * the state is hot, its image in struct cpu is free to hold them. x87 and MMX registers are used by no C code here. */
.macro SAVE_XMM
        cmp     dword ptr [r15 + CPU_FPU_HOT], 0
        je      99f
        movaps  [r15 + CPU_FX + FX_XMM + 0], xmm0
        movaps  [r15 + CPU_FX + FX_XMM + 16], xmm1
        movaps  [r15 + CPU_FX + FX_XMM + 32], xmm2
        movaps  [r15 + CPU_FX + FX_XMM + 48], xmm3
        movaps  [r15 + CPU_FX + FX_XMM + 64], xmm4
        movaps  [r15 + CPU_FX + FX_XMM + 80], xmm5
        movaps  [r15 + CPU_FX + FX_XMM + 96], xmm6
        movaps  [r15 + CPU_FX + FX_XMM + 112], xmm7
99:
.endm
.macro LOAD_XMM
        cmp     dword ptr [r15 + CPU_FPU_HOT], 0
        je      99f
        movaps  xmm0, [r15 + CPU_FX + FX_XMM + 0]
        movaps  xmm1, [r15 + CPU_FX + FX_XMM + 16]
        movaps  xmm2, [r15 + CPU_FX + FX_XMM + 32]
        movaps  xmm3, [r15 + CPU_FX + FX_XMM + 48]
        movaps  xmm4, [r15 + CPU_FX + FX_XMM + 64]
        movaps  xmm5, [r15 + CPU_FX + FX_XMM + 80]
        movaps  xmm6, [r15 + CPU_FX + FX_XMM + 96]
        movaps  xmm7, [r15 + CPU_FX + FX_XMM + 112]
99:
.endm
.macro STASH_FLAGS
        mov     [r15 + CPU_GPR + 0], eax
        lahf
        seto    al
        mov     [r15 + CPU_SCRATCH], ax
.endm
.macro UNSTASH_FLAGS
        movzx   eax, word ptr [r15 + CPU_SCRATCH]
        add     al, 0x7f
        sahf
        mov     eax, [r15 + CPU_GPR + 0]
.endm

/* Soft-TLB miss. r8d linear address, r9 TLB_DESC, r10d guest ECX. Back with rcx = addend. What is stored may be any
 * register. A misaligned access within a page that the TLB has, as a copy of network packets makes them by the
 * thousand, is answered here, as callout_tlb() would. */
        .globl  rt_stub_tlb
rt_stub_tlb:                            /* nothing changes flags up to the first call */
        mov     [r15 + CPU_GPR + 0], eax
        movzx   eax, r9b                /* size */
        lea     eax, [r8 + rax - 1]
        mov     ecx, 12
        shrx    eax, eax, ecx
        shrx    ecx, r8d, ecx
        not     eax
        lea     ecx, [rcx + rax + 1]    /* 0: it ends in the page in which it begins */
        jrcxz   3f
2:      mov     eax, [r15 + CPU_GPR + 0]
        jmp     rt_stub_tlb_miss
3:      mov     ecx, 22
        shlx    eax, r9d, ecx           /* kind, at the top */
        mov     ecx, 30
        shrx    eax, eax, ecx
        mov     ecx, ASM_TLB_TABLE_SHIFT
        shlx    rax, rax, rcx
        mov     ecx, 12
        shrx    ecx, r8d, ecx
        lea     rax, [rax + rcx*8]
        mov     rcx, [r15 + rax + CPU_TLB_SUP_R]
        jrcxz   2b
        mov     eax, [r15 + CPU_GPR + 0]
        ret
rt_stub_tlb_miss:
        STASH_FLAGS
        SAVE_VOLATILE
        mov     [r15 + CPU_GPR + 12], ebx
        mov     [r15 + CPU_GPR + 16], r14d
        mov     [r15 + CPU_GPR + 20], ebp
        SAVE_XMM
        mov     rdi, r15
        mov     esi, r8d
        mov     rdx, r9
        sub     rsp, 8
        call    callout_tlb
        add     rsp, 8
        mov     rcx, rax
        LOAD_XMM
        LOAD_VOLATILE
        mov     r13, [r15 + CPU_JUMP_CACHE]
        test    rcx, rcx
        jz      2f
        UNSTASH_FLAGS
        ret
2:      UNSTASH_FLAGS
        mov     ecx, r10d
        jmp     rt_exit_emulate

/* First FPU use since the last exit. r9d: 1 for SSE; r10d: guest ECX. */
        .globl  rt_stub_fpu
rt_stub_fpu:
        STASH_FLAGS
        SAVE_VOLATILE
        SAVE_XMM
        mov     rdi, r15
        mov     esi, r9d
        sub     rsp, 8
        call    callout_fpu
        add     rsp, 8
        mov     ecx, eax
        LOAD_XMM
        LOAD_VOLATILE
        mov     r13, [r15 + CPU_JUMP_CACHE]
        test    ecx, ecx
        jz      2b
        cmp     dword ptr [r15 + CPU_FPU_HOT], 2  /* 2: to be loaded */
        jne     3f
        fxrstor [r15 + CPU_FX]          /* pointers of 32 bits, as the guest left them */
        mov     dword ptr [r15 + CPU_FPU_HOT], 1
3:      UNSTASH_FLAGS
        ret

/* r9: int (*)(struct cpu *, u32); r8d: its argument. All guest integer state is in struct cpu meanwhile. */
        .globl  rt_stub_helper
rt_stub_helper:
        SAVE_GPRS_FLAGS
        SAVE_XMM
        mov     rdi, r15
        mov     esi, r8d
        sub     rsp, 8
        call    r9
        add     rsp, 8
        LOAD_XMM
        mov     r13, [r15 + CPU_JUMP_CACHE]
        test    eax, eax
        jnz     4f
        LOAD_GPRS_FLAGS
        ret
4:      pop     r8
        cmp     eax, ASM_HELPER_JUMP_SEGMENTED
        je      6f
        cmp     eax, ASM_HELPER_JUMP    /* as lower_ctl.c does for an indirect jump */
        jne     5f
        mov     r12, [r15 + CPU_WINDOW] /* dispatch_prepare() has seen the new mode */
        LOAD_GPRS_FLAGS
        mov     r8d, [r15 + CPU_EIP]
        JUMP_IF_CACHED 0
        jmp     rt_exit_jump
6:      mov     r12, [r15 + CPU_WINDOW]
        LOAD_GPRS_FLAGS
        mov     r8d, [r15 + CPU_EIP]
        mov     r9d, [r15 + CPU_CONTEXT_SPREAD]
        lea     r9d, [r9 + r8]
        movzx   r9d, r9w
        lea     r9, [r9 + r9]
        mov     r10, rcx
        mov     r11, [r15 + CPU_CONTEXT_TAG]
        lea     r11, [r11 + r8]
        mov     rcx, [r13 + r9*8]
        lea     rcx, [rcx + r11]
        jrcxz   7f
        mov     rcx, r10
        jmp     rt_exit_jump_segmented
7:      mov     rcx, r10
        jmp     [r13 + r9*8 + 8]
5:      lea     r8, [r8 - 1]
        mov     [r15 + CPU_EXIT_ARG], r8
        mov     r9d, ASM_EXIT_NEXT
        cmp     eax, ASM_HELPER_NEXT
        je      exit_saved
        mov     r9d, ASM_EXIT_EMULATE
        jmp     exit_saved

/* r8d: selector << 8 | ES, DS, FS or GS. A kernel loads the same few selectors all the time: what came of that is
 * remembered (struct seg_memo) and holds while the descriptor in the GDT, which is looked at, is the same one. Real and
 * virtual-8086 mode have no descriptors. */
        .globl  rt_stub_mov_sreg
rt_stub_mov_sreg:
        push    rax
        lahf
        seto    al
        push    rax
        push    rcx
        cmp     dword ptr [r15 + CPU_FPU_HOT], 0
        je      1f
        test    dword ptr [r15 + CPU_X87_OP], ASM_X87_LATCHED   /* else a selector is to be kept first */
        jz      9f
        test    dword ptr [r15 + CPU_X87_DS], ASM_X87_LATCHED
        jz      9f
1:      mov     ecx, r8d
        shr     ecx, 8                          /* selector */
        movzx   eax, r8b                        /* register */
        mov     r9d, [r15 + CPU_MODE]
        and     r9d, ASM_MK_PE | ASM_MK_VM
        cmp     r9d, ASM_MK_PE
        jne     3f
        mov     r9d, ecx
        shr     r9d, 3
        and     r9d, ASM_SEG_MEMOS - 1
        lea     r9d, [r9 + rax*ASM_SEG_MEMOS]
        imul    r9d, r9d, MEMO_BYTES
        lea     r9, [r15 + r9 + CPU_SEG_MEMO]
        mov     r10d, [r15 + CPU_MODE]
        and     r10d, ASM_SEG_MEMO_MODE
        shl     r10d, 16
        lea     r10d, [r10 + rcx + ASM_SEG_MEMO_VALID]
        cmp     r10d, [r9 + MEMO_KEY]
        jne     9f
        xor     r11d, r11d
        test    ecx, 0xfffc
        jz      2f                              /* null */
        or      ecx, 7
        cmp     ecx, [r15 + CPU_GDTR_LIMIT]
        ja      9f
        mov     r10d, [r15 + CPU_GDTR_BASE]
        lea     r10d, [r10 + rcx - 7]
        mov     r11d, r10d
        shr     r11d, 12
        mov     r11, [r15 + r11*8 + CPU_TLB_SUP_R]
        test    r11, r11
        jz      9f
        mov     ecx, r10d
        and     ecx, 0xfff
        cmp     ecx, 0xff8
        ja      9f
        mov     r11, [r11 + r10]
2:      cmp     r11, [r9 + MEMO_RAW]
        jne     9f
        mov     r10d, eax
        shl     r10d, 4
        mov     rcx, [r9 + MEMO_SEG]
        mov     [r15 + r10 + CPU_SEG], rcx
        mov     rcx, [r9 + MEMO_SEG + 8]
        mov     [r15 + r10 + CPU_SEG + 8], rcx
        mov     ecx, [r9 + MEMO_COMPLEX]
        mov     [r15 + rax*4 + CPU_SEG_COMPLEX], ecx
        mov     rcx, [r9 + MEMO_ROOM]
        mov     [r15 + rax*8 + CPU_SEG_ROOM], rcx
        mov     rcx, [r9 + MEMO_ROOM + 8]
        mov     [r15 + rax*8 + CPU_SEG_ROOM + 48], rcx
        jmp     6f
        /* A paragraph number, in a register that has been loaded so before: selector and base change, and nothing that
         * follows from the rest. Not of a segment of 4 GiB, which is flat or not by its base. */
3:      cmp     dword ptr [r15 + rax*4 + CPU_SEG_COMPLEX], 0
        je      9f
        mov     r11d, eax
        shl     r11d, 4
        mov     r10d, [r15 + r11 + CPU_SEG + SEG_ATTR]
        test    r9d, ASM_MK_VM
        jnz     4f
        and     r10d, ~ASM_SEG_SIZES            /* which stay */
        cmp     r10d, ASM_SEG_REAL
        jne     9f
        jmp     5f
4:      cmp     r10d, ASM_SEG_VM86
        jne     9f
        cmp     dword ptr [r15 + r11 + CPU_SEG + SEG_LIMIT], 0xffff
        jne     9f
5:      mov     [r15 + r11 + CPU_SEG], cx
        shl     ecx, 4
        mov     [r15 + r11 + CPU_SEG + SEG_BASE], ecx
6:      pop     rcx
        pop     rax
        add     al, 0x7f
        sahf
        pop     rax
        ret
9:      pop     rcx
        pop     rax
        add     al, 0x7f
        sahf
        pop     rax
        mov     r9, [r15 + CPU_HELPER_MOV_SREG]
        jmp     rt_stub_helper

/* void rt_probe(const void *where): reads a byte. Where there is none, the handler sends control on to
 * rt_probe_after. */
        .globl  rt_probe, rt_probe_load, rt_probe_after
rt_probe:
rt_probe_load:
        mov     al, [rdi]
rt_probe_after:
        ret

        .section .rodata
        .align 4
host_mxcsr:
        .long   0x1f80
        .section .note.GNU-stack,"",@progbits
