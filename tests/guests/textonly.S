/* A boot sector that writes to the text screen itself, and so not to the serial port, where firmware shows what goes
 * through it: a word, and a letter that changes with every tick. A key ends it by port F4h, with what INT 16h gave.
 * Made and judged by screen.py. */
    .include "boot16.inc"
    boot_sector
    movw $0x0003, %ax           /* 80 x 25, cleared */
    int $0x10
    movw $0xb800, %ax
    movw %ax, %es
    xorw %di, %di
    movw $word, %si
    movb $0x2f, %ah
1:  lodsb
    testb %al, %al
    jz tick
    stosw
    jmp 1b
tick:
    sti
    hlt
    movb 0x46c, %al
    andb $0x0f, %al
    addb $'a', %al
    movb %al, %es:160
    movb $1, %ah
    int $0x16
    jz tick
    xorb %ah, %ah
    int $0x16
    outb %al, $0xf4
word:
    .asciz "no serial port"
    .org 510
    .word 0xaa55
