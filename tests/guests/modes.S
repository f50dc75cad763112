/* A ROM that goes from the reset vector through every mode of the processor and back, again and again: real, 16-bit and
 * 32-bit protected mode, paging with and without PAE, ring 3, virtual-8086 mode, tasks, call gates, real mode with
 * segments of 4 GiB, real mode. Before each step its number goes to port 80h. Silent if all is right, and then port F4h
 * gets 10h; else COM1 gets the number of each step that found something wrong, in hexadecimal, and F4h gets 11h. Made
 * and judged by firmware.py. SDM vol. 3, 9.1 (reset), 9.9 (switching modes), 20.1 (real mode), 20.2, 20.3 (virtual-8086
 * mode), 7.3 (tasks). QEMU 7.2 (TCG) finds 03, 06, 0A, 0E wrong: it checks no limits (SDM vol. 3, 5.3, 20.1.1). EBP
 * counts what is wrong. */
    .set GDT, 0x2000            /* RAM: tables, TSSs, stacks, page tables */
    .set IDT, 0x1000
    .set TSS, 0x3000
    .set TSS2, 0x3100
    .set PAGES, 0x10000
    .set seen, 0x500            /* what a handler has seen */
    .set seen_error, 0x504
    .set resume, 0x508          /* where handlers return to */
    .set back_esp, 0x50c
    .set back, 0x510
    .set rounds, 0x514
    .set STACK, 0x7000
    .set STACK0, 0x6000
    .set STACK3, 0x5000
    .set CODE16, 0x08
    .set DATA, 0x10
    .set CODE32, 0x18
    .set DATA16, 0x20
    .set UCODE, 0x28 | 3
    .set UDATA, 0x30 | 3
    .set SEL_TSS, 0x38
    .set SEL_TSS2, 0x40
    .set GATE, 0x48 | 3
    .set SMALL, 0x50

    .macro POST n
    .set post, \n
    movb $\n, %al
    outb %al, $0x80
    .endm
    .macro MUST cc
    j\cc 9f
    movb $post, %al
    .ifdef in32
    call fail32
    .else
    call fail16
    .endif
9:
    .endm
    .macro FAIL name
\name:
    pushal
    movb %al, %bl
    movw $0x3fb, %dx
    movb $3, %al
    outb %al, %dx
    movw $0x3f8, %dx
    movb %bl, %al
    shrb $4, %al
    addb $'0', %al
    outb %al, %dx
    movb %bl, %al
    andb $15, %al
    addb $'0', %al
    cmpb $'9', %al
    jbe 1f
    addb $7, %al
1:  outb %al, %dx
    movb $' ', %al
    outb %al, %dx
    popal
    incl %ebp
    cmpl $20, %ebp
    jb 3f
    movb $0x11, %al             /* enough */
    outb %al, $0xf4
2:  hlt
    jmp 2b
3:  ret
    .endm

    .section .text
    .globl _start
    .code16
_start:
    cli
    cld
    movl %edx, %edi
    xorl %ebp, %ebp
    POST 0x01                   /* the state after reset */
    movw %cs, %ax
    cmpw $0xf000, %ax
    MUST e
    movl %cr0, %eax
    andl $~0x60000000, %eax
    cmpl $0x10, %eax
    MUST e
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $STACK, %sp
    testl $0xfff, %edi          /* family, model, stepping */
    MUST nz
    movl $100, rounds
again:
    POST 0x02                   /* the interrupt table; flags come back */
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    xorw %di, %di
    movw $256, %cx
1:  movw $unexpected16, %ax
    stosw
    movw $0xf000, %ax
    stosw
    loop 1b
    movw $int40, 4 * 0x40
    movw $gp16, 4 * 13
    xorl %eax, %eax
    movl %eax, seen
    stc
    int $0x40
    MUST c
    cmpl $0x40, seen
    MUST e
    POST 0x03                   /* a limit of 64 KiB */
    movl $0, seen
    movw $0xffff, %si
    movw $1f, resume
    movw (%si), %ax
1:  cmpl $13, seen
    MUST e
    movb (%si), %al
    POST 0x04                   /* A20 */
    inb $0x92, %al
    andb $~3, %al
    outb %al, $0x92
    movw $0xffff, %ax
    movw %ax, %es
    movl $0x12345678, 0x520
    movl %es:0x530, %eax
    cmpl $0x12345678, %eax
    MUST e
    inb $0x92, %al
    orb $2, %al
    andb $~1, %al
    outb %al, $0x92
    movl $0x87654321, %es:0x530
    cmpl $0x12345678, 0x520
    MUST e
    POST 0x05                   /* 16-bit protected mode */
    movw $gdt, %si
    movw $GDT, %di
    xorw %ax, %ax
    movw %ax, %es
    movw $(gdt_end - gdt), %cx
    rep movsb %cs:(%si), %es:(%di)
    lgdtl %cs:gdtr
    lidtl %cs:idtr
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmp $CODE16, $1f
1:  movw $DATA16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $SMALL, %ax
    lsll %eax, %ecx
    MUST z
    cmpl $15, %ecx
    MUST e
    call near16
    cmpw $0x1234, %ax
    MUST e
    lcall $CODE16, $far16
    cmpw $0x4321, %ax
    MUST e
    POST 0x06                   /* 32-bit protected mode: segments, exceptions */
    ljmpl $CODE32, $enter32
near16:
    movw $0x1234, %ax
    ret
far16:
    movw $0x4321, %ax
    lret
int40:
    movl $0x40, seen
    iret
gp16:                           /* goes on at resume */
    pushw %bp
    movw %sp, %bp
    pushw %ax
    movw resume, %ax
    movw %ax, 2(%bp)
    movl $13, seen
    popw %ax
    popw %bp
    iret
unexpected16:
    movb $0xee, %al
    call fail16
    movb $0x11, %al
    outb %al, $0xf4
    hlt
    FAIL fail16

    .code32
    .set in32, 1
enter32:
    movl $DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $STACK, %esp
    movl $IDT, %edi             /* gates: all the same, then those that are expected */
    movl $256, %ecx
1:  movl $(CODE32 << 16 | unexpected_offset), (%edi)
    movl $0x8e00, 4(%edi)
    addl $8, %edi
    loop 1b
    movl $(CODE32 << 16 | h6_offset), IDT + 8 * 6
    movl $(CODE32 << 16 | h13_offset), IDT + 8 * 13
    movl $(CODE32 << 16 | h14_offset), IDT + 8 * 14
    movl $(CODE32 << 16 | h80_offset), IDT + 8 * 0x80
    movl $0xee00, IDT + 8 * 0x80 + 4
    movl $TSS, %edi
    movl $0x200, %ecx
    xorl %eax, %eax
    rep stosb
    movl $STACK0, TSS + 4
    movl $DATA, TSS + 8
    movl $0x680000, TSS + 0x64  /* every port is open to ring 3 */
    movb $0x89, GDT + SEL_TSS + 5
    movl $SEL_TSS, %eax
    ltr %ax
    movl $1f, resume
    movl $0, seen
    ud2
1:  cmpl $6, seen
    MUST e
    movl $SMALL, %eax
    movl %eax, %fs
    movl %fs:12, %eax
    movl $1f, resume
    movl %fs:13, %eax
1:  cmpl $13, seen
    MUST e
    movl $1f, resume
    movl $0xfff0, %eax
    movl %eax, %gs
1:  cmpl $0xfff0, seen_error
    MUST e
    POST 0x07                   /* paging: the first 4 MiB, less one page; the ROM's last megabyte is in them */
    call clear_pages
    movl $(PAGES + 0x1000 + 7), PAGES
    movl $(PAGES + 0x1000), %edi
    movl $7, %eax
    movl $1024, %ecx
1:  movl %eax, (%edi)
    addl $4, %edi
    addl $0x1000, %eax
    loop 1b
    movl $0, PAGES + 0x1000 + 4 * 0x300
    movl $PAGES, %eax
    movl %eax, %cr3
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    call page_fault
    POST 0x08                   /* ring 3 and back */
    movl $1f, back
    movl %esp, back_esp
    pushl $UDATA
    pushl $STACK3
    pushl $2
    pushl $UCODE
    pushl $user
    iretl
1:  cmpl $0x1357, %ebx
    MUST e
    POST 0x09                   /* a call gate with a parameter */
    cmpl $0xabcd, %ecx
    MUST e
    POST 0x0a                   /* virtual-8086 mode */
    movl $1f, back
    movl %esp, back_esp
    pushl $0                    /* GS FS DS ES SS ESP EFLAGS CS EIP */
    pushl $0
    pushl $0x40
    pushl $0
    pushl $0
    pushl $STACK3
    pushl $0x23002              /* VM, IOPL 3 */
    pushl $0xf000
    pushl $virtual
    iretl
1:  cmpw $0x2468, %bx
    MUST e
    POST 0x0b                   /* a task and back */
    movl %cr3, %eax
    movl %eax, TSS + 0x1c
    movl %eax, TSS2 + 0x1c
    movl $task, TSS2 + 0x20
    movl $2, TSS2 + 0x24
    movl $STACK3, TSS2 + 0x38
    movl $DATA, TSS2 + 0x48
    movl $CODE32, TSS2 + 0x4c
    movl $DATA, TSS2 + 0x50
    movl $DATA, TSS2 + 0x54
    movb $0x89, GDT + SEL_TSS2 + 5
    movl $0, seen
    lcall $SEL_TSS2, $0
    cmpl $0x7a5c, seen
    MUST e
    cmpw $SEL_TSS, TSS2
    MUST e
    movl %cr0, %eax
    testb $8, %al
    MUST nz
    clts
    movl %cr0, %eax
    andl $0x7fffffff, %eax
    movl %eax, %cr0
    POST 0x0c                   /* PAE */
    pushfl                      /* no CPUID, no PAE */
    popl %ecx
    movl %ecx, %eax
    xorl $0x200000, %eax
    pushl %eax
    popfl
    pushfl
    popl %eax
    xorl %ecx, %eax
    testl $0x200000, %eax
    jz no_pae
    movl $1, %eax
    cpuid
    testb $0x40, %dl
    jz no_pae
    call clear_pages
    movl $(PAGES + 0x1000 + 1), PAGES
    movl $(PAGES + 0x2000 + 7), PAGES + 0x1000
    movl $0x200087, PAGES + 0x1008      /* a large page behind it */
    movl $(PAGES + 0x2000), %edi
    movl $7, %eax
    movl $512, %ecx
1:  movl %eax, (%edi)
    addl $8, %edi
    addl $0x1000, %eax
    loop 1b
    movl $0, PAGES + 0x1008             /* from 2 MiB on there is nothing */
    movl $PAGES, %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orb $0x20, %al
    movl %eax, %cr4
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    call page_fault
    movl %cr0, %eax
    andl $0x7fffffff, %eax
    movl %eax, %cr0
    movl %cr4, %eax
    andb $~0x20, %al
    movl %eax, %cr4
no_pae:
    POST 0x0d                   /* real mode, FS as large as it was */
    movl $0xcafe0001, 0x200000
    movl $DATA, %eax
    movl %eax, %fs
    ljmp $CODE16, $leave

clear_pages:
    movl $PAGES, %edi
    movl $0xc00, %ecx
    xorl %eax, %eax
    rep stosl
    ret
/* A read of 300000h, which is not there. */
page_fault:
    .set post, 0x07
    movl $1f, resume
    movl $0, seen
    movl 0x300004, %eax
1:  cmpl $14, seen
    MUST e
    cmpl $0, seen_error
    MUST e
    movl %cr2, %eax
    cmpl $0x300004, %eax
    MUST e
    ret
    .set post, 0x08
user:                           /* ring 3: CLI is #GP there; the gate adds up */
    movl $UDATA, %eax
    movl %eax, %ds
    movl $1f, resume
    movl $0, seen
    cli
1:  cmpl $13, seen
    MUST e
    movl %esp, %edx
    pushl $0xabcd
    lcall $GATE, $0
    cmpl %esp, %edx
    MUST e
    movl $0x1357, %ebx
    int $0x80
gate_target:
    movl 8(%esp), %ecx
    lret $4
task:
    movl $0x7a5c, seen
    iretl
    .macro STUB n error
h\n:
    .if \error == 0
    pushl $0
    .endif
    pushl %eax
    pushl %ds
    movl $DATA, %eax
    movl %eax, %ds
    movl $\n, seen
    movl 8(%esp), %eax
    movl %eax, seen_error
    movl resume, %eax
    movl %eax, 12(%esp)
    popl %ds
    popl %eax
    addl $4, %esp
    iretl
    .set h\n\()_offset, h\n - _start
    .endm
    STUB 6 0
    STUB 13 1
    STUB 14 1
h80:                            /* the end of ring 3 and of virtual-8086 mode */
    movl $DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl back_esp, %esp
    jmp *back
    .set h80_offset, h80 - _start
unexpected:
    movb $0xef, %al
    call fail32
    movb $0x11, %al
    outb %al, $0xf4
    hlt
    FAIL fail32
    .set unexpected_offset, unexpected - _start

    .code16
    .macro NOT32
    .purgem MUST
    .macro MUST cc
    j\cc 9f
    movb $post, %al
    call fail16
9:
    .endm
    .endm
    NOT32
    .set post, 0x0a
/* Virtual-8086 mode at F000: segments are paragraphs; HLT is #GP whatever IOPL. */
virtual:
    movw $0x50, %ax             /* seen is at 50h:0 */
    movw %ax, %ds
    movl $0, 0
    movl $1f, 8
    hlt
1:  cmpl $13, 0
    MUST e
    movw $0xffff, %si
    movl $1f, 8
    movl $0, 0
    movw %es:(%si), %ax
1:  cmpl $13, 0
    MUST e
    movw $0x2468, %bx
    int $0x80
    .set post, 0x0d
leave:                          /* 16-bit protected mode, and out of it */
    movw $DATA16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw %ax, %gs
    lidtl %cs:real_idtr
    movl %cr0, %eax
    andb $~1, %al
    movl %eax, %cr0
    ljmp $0xf000, $1f
1:  xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $STACK, %sp
    movl $0x200000, %esi
    movl %fs:(%esi), %eax
    cmpl $0xcafe0001, %eax
    MUST e
    movw %ax, %fs               /* another paragraph, the same limit */
    xorw %ax, %ax
    movw %ax, %fs
    movl %fs:(%esi), %eax
    cmpl $0xcafe0001, %eax
    MUST e
    POST 0x0e                   /* and limits of 64 KiB for the others */
    movw $1f, resume
    movl $0, seen
    movl (%esi), %eax
1:  cmpl $13, seen
    MUST e
    decl rounds
    jnz again
    movb $0x10, %al
    testl %ebp, %ebp
    jz 1f
    incb %al
1:  outb %al, $0xf4
1:  hlt
    jmp 1b

    .balign 8
gdt:
    .quad 0
    .quad 0x00009b0f0000ffff    /* CODE16: F0000h, 64 KiB */
    .quad 0x00cf93000000ffff    /* DATA: 4 GiB */
    .quad 0x00409b0f0000ffff    /* CODE32 */
    .quad 0x000093000000ffff    /* DATA16 */
    .quad 0x0040fb0f0000ffff    /* UCODE */
    .quad 0x00cff3000000ffff    /* UDATA */
    .quad 0x00008900300000e8    /* TSS, with an I/O bitmap */
    .quad 0x0000890031000067    /* TSS2 */
    .word gate_target, CODE32, 0xec01, 0
    .quad 0x004093000500000f    /* SMALL: 16 bytes at 500h */
gdt_end:
gdtr:
    .word gdt_end - gdt - 1
    .long GDT
idtr:
    .word 0x7ff
    .long IDT
real_idtr:
    .word 0x3ff
    .long 0

    .org 0xfff0
    ljmp $0xf000, $_start
    .org 0xffff
    .byte 0
