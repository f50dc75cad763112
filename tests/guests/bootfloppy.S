/* A floppy disk of 1.44 MB that boots, in 16-bit code, and asks the BIOS for what it knows of it and of a second drive.
 * Each check prints its letter; a small one is a failure. Made and judged by firmware.py. */
    .include "boot16.inc"
    boot_sector
    movb %dl, drive
    movw $0x0211, %ax           /* the rest of the track */
    movw $0x7e00, %bx
    movw $0x0002, %cx
    xorb %dh, %dh
    int $0x13
    jc 1f
    jmp main
1:  hlt
    put_routine
    verdict_routine
drive: .byte 0
    .org 510
    .word 0xaa55

main:
    movw $begin, %si
2:  lodsb
    testb %al, %al
    jz 3f
    call put
    jmp 2b
3:
    cmpw $0x4321, at_8          /* L: the rest has been loaded, from drive A */
    jne 2f
    cmpb $0, drive
    je 1f
2:  stc
1:  movb $'L', %al
    call verdict

    movb $0x08, %ah             /* G: geometry: 80 tracks, 2 heads, 18 sectors, type 4, 2 drives */
    xorb %dl, %dl
    xorw %di, %di
    int $0x13
    jc 1f
    cmpw $0x4f12, %cx
    jne 2f
    cmpw $0x0102, %dx
    jne 2f
    cmpb $4, %bl
    je 1f
2:  stc
1:  movw $0, %ax
    movw %ax, %es
    movb $'G', %al
    call verdict

    movw $0x0201, %ax           /* R: the last sector of the last track is zeroes */
    movw $0x9000, %bx
    movw $0x4f12, %cx
    movw $0x0100, %dx
    movw $0xffff, 0x9000
    int $0x13
    jc 1f
    cmpw $0, 0x9000
    je 1f
    stc
1:  movb $'R', %al
    call verdict

    movw $0xbeef, 0x9000        /* W: what is written is read again, elsewhere */
    movw $0x0301, %ax
    movw $0x9000, %bx
    movw $0x000a, %cx
    xorw %dx, %dx
    int $0x13
    jc 1f
    movw $0x0201, %ax
    movw $0x9200, %bx
    movw $0x000a, %cx
    xorw %dx, %dx
    int $0x13
    jc 1f
    cmpw $0xbeef, 0x9200
    je 1f
    stc
1:  movb $'W', %al
    call verdict

    movw $0x0301, %ax           /* F: a track is formatted: it held a word, and then does not */
    movw $0x9000, %bx
    movw $0x1401, %cx
    xorw %dx, %dx
    int $0x13
    jc 1f
    movw $0x0512, %ax
    movw $ids, %bx
    movw $0x1401, %cx
    xorw %dx, %dx
    int $0x13
    jc 1f
    movw $0x0201, %ax
    movw $0x9200, %bx
    movw $0x1401, %cx
    xorw %dx, %dx
    int $0x13
    jc 1f
    cmpw $0xf6f6, 0x9200
    je 1f
    stc
1:  movb $'F', %al
    call verdict

    movb $0x08, %ah             /* S: the second drive is of 720 KB */
    movb $1, %dl
    int $0x13
    jc 1f
    cmpb $3, %bl
    jne 2f
    cmpb $9, %cl
    je 1f
2:  stc
1:  movw $0, %ax
    movw %ax, %es
    movb $'S', %al
    call verdict

    movw $0x0201, %ax           /* P: it can be read, and not written */
    movw $0x9200, %bx
    movw $0x0501, %cx
    movw $0x0101, %dx
    int $0x13
    jc 1f
    movw $0x0301, %ax
    movw $0x9200, %bx
    movw $0x0501, %cx
    movw $0x0101, %dx
    int $0x13
    cmc
1:  movb $'P', %al
    call verdict

    movw $18, %bp               /* SeaBIOS's serial console is a little late */
4:  hlt
    decw %bp
    jnz 4b
    movb $0x10, %al
    outb %al, $0xf4
    hlt
begin: .asciz "\r\nfloppy: "
ids:
    .set n, 1
    .rept 18
    .byte 0x14, 0, n, 2
    .set n, n + 1
    .endr
    .org 8 * 512
at_8: .word 0x4321
