/* A boot sector that shows what is typed, as a program of DOS's time reads it: INT 16h, INT 10h. Keys without a
 * character are shown as their scan code, <48>; Enter shows a picture, and one more key ends it by port F4h. Made and
 * judged by firmware.py and screen.py. */
    .include "boot16.inc"
    .code16
    .section .text
    .globl _start
_start:
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %ss
    movw $0x7c00, %sp
    cld
    movw $0x0003, %ax           /* 80 x 25, cleared */
    int $0x10
    movw $0xb800, %ax           /* the first is yellow on blue */
    movw %ax, %es
    movb $0x1e, %es:1
    movw $ready, %si
1:  lodsb
    testb %al, %al
    jz key
    call put
    jmp 1b
key:
    xorb %ah, %ah
    int $0x16
    testb %al, %al
    jz 2f
    cmpb $0xe0, %al
    je 2f
    cmpb $13, %al
    je done
    call put
    jmp key
2:  movb %ah, %dl
    movb $'<', %al
    call put
    movb %dl, %al
    shrb $4, %al
    call digit
    movb %dl, %al
    call digit
    movb $'>', %al
    call put
    jmp key
done:                           /* a picture, until one more key: byte n at offset n of mode 13h */
    movw $0x0013, %ax
    int $0x10
    movw $0xa000, %ax
    movw %ax, %es
    xorw %di, %di
1:  movw %di, %ax
    stosb
    cmpw $64000, %di
    jne 1b
    xorb %ah, %ah
    int $0x16
    movb $0x10, %al
    outb %al, $0xf4
    hlt
digit:                          /* al: low four bits */
    andb $15, %al
    addb $'0', %al
    cmpb $'9', %al
    jbe put
    addb $'a' - '9' - 1, %al
    put_routine
ready: .asciz "type: "
    .org 510
    .word 0xaa55
