# A guest for single steps and breakpoints: each round has what is easily stepped over wrongly. No device has a part in
# it, so that every run is the same. Symbols are the debugger's.
# EBX counts rounds down; at the end 7 goes to the debug-exit port.
        .set    ROUNDS, 320
        .text
        .globl  _start
header: .long   0x1badb002, 0, -0x1badb002
_start: cli
        movl    $stack_end, %esp
        lgdt    gdtr
        lidt    idtr
        ljmp    $0x08, $1f
1:      movw    $0x10, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movb    $0xff, %al              # no interrupts from the 8259s
        outb    %al, $0x21
        outb    %al, $0xa1
        movl    $int80, %eax
        movl    $idt + 8 * 0x80, %edi
        call    gate
        movl    $undefined, %eax
        movl    $idt + 8 * 6, %edi
        call    gate
        movl    %cr4, %eax
        orl     $0x600, %eax            # OSFXSR, OSXMMEXCPT
        movl    %eax, %cr4
        movl    %cr0, %eax
        andl    $~4, %eax               # EM
        orl     $2, %eax                # MP
        movl    %eax, %cr0
        xorl    %edx, %edx
        movl    $0x174, %ecx            # IA32_SYSENTER_CS
        movl    $0x08, %eax
        wrmsr
        incl    %ecx                    # ESP
        movl    $stack_end, %eax
        wrmsr
        incl    %ecx                    # EIP
        movl    $system_call, %eax
        wrmsr
        fninit
        movl    $ROUNDS, %ebx
round:  incl    counter
after_counter:
        int     $0x80
after_int:
        sti
        nop
        cli
        movw    %ss, %ax
        movw    %ax, %ss
        movl    $stack_end, %esp
        pushl   %ebx
        popl    %edx
        movl    $text, %esi
        movl    $copy, %edi
        movl    $7, %ecx
        rep movsb
        movl    $5, %ecx
        movl    $copy, %edi
        movl    %ebx, %eax
        rep stosl
        cmpl    %ebx, copy
        pushfl
        popl    %eax
        addl    %eax, sum
        call    leaf
        ud2
        fld1
        faddp   %st, %st(1)
        fldz
        movups  text, %xmm1
        addps   %xmm1, %xmm2
        movl    watched, %eax
after_read:
        movl    $user_stack_end, %ecx
        movl    $user, %edx
        sysexit
back:   decl    %ebx
        jnz     round
end:    movb    $7, %al
        outb    %al, $0xf4
1:      hlt
        jmp     1b

leaf:   xchgl   %ecx, %edi
        lock incl locked
        xorl    %eax, %eax
        xorl    %edx, %edx
        ret
int80:  addl    $3, sum
        iret
undefined:
        addl    $2, (%esp)
        iret
# At CPL 3, as SYSEXIT leaves it.
user:   movl    $1, %eax
        nop
        sysenter
system_call:
        movl    $stack_end, %esp
        movw    $0x10, %ax
        movw    %ax, %ds
        jmp     back

# An interrupt gate at EDI, to EAX.
gate:   movw    %ax, (%edi)
        movw    $0x08, 2(%edi)
        movw    $0x8e00, 4(%edi)
        shrl    $16, %eax
        movw    %ax, 6(%edi)
        ret

        .data
        .balign 8
gdt:    .quad   0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00cffb000000ffff, 0x00cff3000000ffff
gdtr:   .word   . - gdt - 1
        .long   gdt
idtr:   .word   idt_end - idt - 1
        .long   idt
text:   .ascii  "watchpoint here."
        .balign 4096
counter:.long   0
        .balign 4096
watched:.long   0
sum:    .long   0
locked: .long   0
copy:   .fill   64, 1, 0
idt:    .fill   0x81 * 8, 1, 0
idt_end:
        .fill   4096, 1, 0
stack_end:
        .fill   4096, 1, 0
user_stack_end:
        .long   0
