/* void hostexec_enter(struct hostexec_regs *r, const void *code)
 *
 * Runs one instruction (code: it, and RET) on the guest's x87/SSE state: rdi is its memory operand, eax its
 * general-purpose register, RFLAGS the guest's arithmetic flags. The host's own x87 and SSE control words are as before
 * afterwards. Nothing here waits for a pending x87 exception: FXSAVE, FXRSTOR and FNINIT do not. */
#define REGS_FX 0
#define REGS_MEM 8
#define REGS_FLAGS 16
#define REGS_GPR 24

        .intel_syntax noprefix
        .text
        .globl  hostexec_enter
        .type   hostexec_enter, @function
hostexec_enter:
        push    rbx
        sub     rsp, 16
        stmxcsr [rsp]
        fnstcw  [rsp + 4]
        mov     rbx, rdi
        mov     r11, rsi
        mov     rax, [rbx + REGS_FX]
        fxrstor [rax]
        mov     rdi, [rbx + REGS_MEM]
        push    qword ptr [rbx + REGS_FLAGS]
        popfq
        mov     rax, [rbx + REGS_GPR]
        call    r11
        mov     [rbx + REGS_GPR], rax
        pushfq
        pop     qword ptr [rbx + REGS_FLAGS]
        mov     rax, [rbx + REGS_FX]
        fxsave64 [rax]
        fninit
        fldcw   [rsp + 4]
        ldmxcsr [rsp]
        add     rsp, 16
        pop     rbx
        ret
        .size   hostexec_enter, . - hostexec_enter
        .section .note.GNU-stack,"",@progbits
