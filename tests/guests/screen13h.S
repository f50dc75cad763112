/* A boot sector: mode 13h by the video BIOS, byte n at offset n of the screen, and out by port F4h with 11h. */
.code16
.globl _start
_start:
    cli
    xorw %ax, %ax
    movw %ax, %ss
    movw $0x7c00, %sp
    sti
    cld
    movw $0x13, %ax
    int $0x10
    movw $0xa000, %ax
    movw %ax, %es
    xorw %di, %di
    movw $64000, %cx
1:  movw %di, %ax
    stosb
    loop 1b
    movb $0x11, %al
    outb %al, $0xf4
    hlt
.org 510
.word 0xaa55
