/* Entry from Multiboot, the 256 trap stubs, and the ways into and out of code that is expected to trap (rt.h). */
    .section .multiboot, "a"
    .balign 4
    .long 0x1BADB002, 0x00000003, -(0x1BADB002 + 0x00000003)   /* page-aligned modules, memory information */

    .text
    .globl start
start:
    movl %esp, entry_esp                /* as the loader left it */
    movw %cs, entry_cs
    movw %ds, entry_ds
    cli
    cld
    movl $boot_stack_top, %esp
    pushl $0
    popfl
    pushl %ebx                          /* Multiboot information */
    pushl %eax                          /* magic */
    call rt_start
1:  hlt
    jmp 1b

/* Every stub leaves the same frame: vectors without an error code push a zero for it. */
    .macro stub n
    .balign 16
    .if (\n == 8) || ((\n >= 10) && (\n <= 14)) || (\n == 17)
    .else
    pushl $0
    .endif
    pushl $\n
    jmp trap_common
    .endm

    .balign 16
    .globl trap_stubs
trap_stubs:
    .set i, 0
    .rept 256
    stub i
    .set i, i + 1
    .endr

    .globl trap_common
trap_common:
    pushl %gs
    pushl %fs
    pushl %es
    pushl %ds
    pushal
    cld
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    pushl %esp                          /* struct frame * */
    call trap_dispatch                  /* returns only when a handler resumed the program */
    addl $4, %esp
    popal
    popl %ds
    popl %es
    popl %fs
    popl %gs
    addl $8, %esp
    iretl

/* int caught(void (*fn)(void *), void *arg): 1 if fn trapped (struct trap has it), 0 if it returned. */
    .globl caught
caught:
    movl 4(%esp), %eax
    movl 8(%esp), %edx
    pushl %ebp
    pushl %ebx
    pushl %esi
    pushl %edi
    pushfl
    pushl unwind_esp
    movl %esp, unwind_esp
    pushl %edx
    call *%eax
    xorl %eax, %eax
    jmp unwind

/* int ring3(u32 (*fn)(u32), u32 arg): the same at CPL 3, flat, on the user stack; fn's result in trap.eax. */
    .globl ring3
ring3:
    movl 4(%esp), %eax
    movl 8(%esp), %edx
    pushl %ebp
    pushl %ebx
    pushl %esi
    pushl %edi
    pushfl
    pushl unwind_esp
    movl %esp, unwind_esp
    movl $user_stack_top - 8, %ecx
    movl $ring3_return, (%ecx)
    movl %edx, 4(%ecx)
    pushl $0x23
    pushl %ecx
    pushl ring3_eflags
    pushl $0x1b
    pushl %eax
    movl $0x23, %ecx
    movl %ecx, %ds
    movl %ecx, %es
    movl %ecx, %fs
    movl %ecx, %gs
    iretl
ring3_return:
    int $0x81                           /* trap_dispatch takes it for the end of ring3() */

/* int user_enter(const struct frame *f): continues from that frame; returns as ring3() does. Nothing may interrupt
 * meanwhile: the frame is popped from where it is. */
    .globl user_enter
user_enter:
    movl 4(%esp), %eax
    pushl %ebp
    pushl %ebx
    pushl %esi
    pushl %edi
    pushfl
    pushl unwind_esp
    movl %esp, unwind_esp
    movl %eax, %esp
    popal
    popl %ds
    popl %es
    popl %fs
    popl %gs
    addl $8, %esp
    iretl

/* void unwind_trap(int result): leaves the innermost caught(), ring3() or user_enter() with that result. */
    .globl unwind_trap
unwind_trap:
    movl 4(%esp), %eax
unwind:
    movl $0x10, %ecx
    movl %ecx, %ds
    movl %ecx, %es
    movl %ecx, %fs
    movl %ecx, %gs
    movl %ecx, %ss
    movl unwind_esp, %esp
    popl unwind_esp
    popfl
    popl %edi
    popl %esi
    popl %ebx
    popl %ebp
    ret

    .data
    .globl unwind_esp, ring3_eflags
unwind_esp: .long 0
ring3_eflags: .long 2

    .bss
    .balign 4096
    .skip 65536
boot_stack_top:
    .skip 4096
    .globl user_stack, user_stack_top
user_stack:
    .skip 16384
user_stack_top:
    .globl trap_stack_top
    .skip 16384
trap_stack_top:
    .balign 4
    .globl entry_esp, entry_cs, entry_ds
entry_esp: .long 0
entry_cs: .long 0
entry_ds: .long 0
    .section .note.GNU-stack, "", @progbits
