/* A disk that boots, in 16-bit code: the first sector loads the rest by INT 13h, which asks the BIOS for what programs
 * of its time asked it for. Each check prints its letter; a small one is a failure. The last sector of the program is
 * data to be found. Made and judged by firmware.py. */
    .include "boot16.inc"
    boot_sector
    movb %dl, drive
    movw $0x0207, %ax           /* seven sectors from the second on */
    movw $0x7e00, %bx
    movw $0x0002, %cx
    xorb %dh, %dh
    int $0x13
    jc 1f
    jmp main
1:  movw $unread, %si
    call print
    hlt
print:                          /* si: text */
    lodsb
    testb %al, %al
    jz 1f
    call put
    jmp print
1:  ret
    put_routine
    verdict_routine
drive: .byte 0
unread: .asciz "the rest could not be read\r\n"
    .org 510
    .word 0xaa55

main:
    movw $begin, %si
    call print

    movb $0x08, %ah             /* G: geometry: sectors on a track, and this is the only disk */
    movb drive, %dl
    xorw %di, %di
    int $0x13
    jc 1f
    andb $0x3f, %cl
    cmpb $63, %cl
    jne 2f
    cmpb $1, %dl
    je 1f
2:  stc
1:  movb $'G', %al
    call verdict

    movb $0x41, %ah             /* X: the extensions are there */
    movw $0x55aa, %bx
    movb drive, %dl
    int $0x13
    jc 1f
    cmpw $0xaa55, %bx
    je 1f
    stc
1:  movb $'X', %al
    call verdict

    movw $8, packet_lba         /* R: read by LBA finds what the image has */
    movb $0x42, %ah
    call extended
    jc 1f
    cmpw $0x4321, buffer
    jne 2f
    cmpw $0x8765, buffer + 510
    je 1f
2:  stc
1:  movb $'R', %al
    call verdict

    movw $0xbeef, buffer        /* W: what has been written by LBA is read by cylinder, head and sector */
    movw $9, packet_lba
    movw $0x4300, %ax
    call extended
    jc 1f
    movw $0, buffer
    movw $0x0201, %ax
    movw $buffer, %bx
    movw $10, %cx
    xorb %dh, %dh
    movb drive, %dl
    int $0x13
    jc 1f
    cmpw $0xbeef, buffer
    je 1f
    stc
1:  movb $'W', %al
    call verdict

    movw $0xffff, packet_lba    /* E: beyond the end is an error */
    movb $0x42, %ah
    call extended
    cmc
    movb $'E', %al
    call verdict

    xorl %ebx, %ebx             /* M: a memory map with RAM at 0 */
    movl $0xe820, %eax
    movl $0x534d4150, %edx
    movl $24, %ecx
    movw $buffer, %di
    int $0x15
    jc 1f
    cmpl $0x534d4150, %eax
    jne 2f
    cmpl $0, buffer
    jne 2f
    cmpw $1, buffer + 16
    je 1f
2:  stc
1:  movb $'M', %al
    call verdict

    movw $0xe801, %ax           /* A: 64 MiB in the older words */
    int $0x15
    jc 1f
    cmpw $15 * 1024, %ax
    jne 2f
    cmpw $48 * 16 - 2, %bx      /* less what the tables take, 128 KiB at most */
    jae 1f
2:  stc
1:  movb $'A', %al
    call verdict

    int $0x12                   /* L: low memory */
    subw $600, %ax
    cmpw $40, %ax
    cmc
    movb $'L', %al
    call verdict

    movb $0x02, %ah             /* C: the clock shows an hour in BCD, at most 23h */
    int $0x1a
    jc 1f
    cmpb $0x24, %ch
    cmc
1:  movb $'C', %al
    call verdict

    movw $0xffff, %bx           /* Z: with A20 off, ffff:0510 is 0000:0500, with A20 on it is not */
    movw %bx, %fs
    movw $0x1234, 0x500
    movw $0x2400, %ax
    int $0x15
    jc 1f
    movw $0x5678, %fs:0x510
    cmpw $0x5678, 0x500
    jne 2f
    movw $0x2401, %ax
    int $0x15
    jc 1f
    movw $0x4321, %fs:0x510
    cmpw $0x5678, 0x500
    jne 2f
    cmpw $0x4321, %fs:0x510
    je 1f
2:  stc
1:  movb $'Z', %al
    call verdict

    call ticks                  /* T: three ticks of 55 ms come in the time that the runner waits */
    clc
    movb $'T', %al
    call verdict

    movw $ask, %si              /* and a key, with its scan code */
    call print
    xorb %ah, %ah
    int $0x16
    movb %al, key
    movw $answer, %si
    call print
    movb key, %al
    call put
    movw $done, %si
    call print
    call ticks                  /* SeaBIOS's serial console is a little late */
    movb $0x10, %al
    outb %al, $0xf4
    hlt

ticks:                          /* waits for three */
    xorb %ah, %ah
    int $0x1a
    movw %dx, %si
1:  hlt
    xorb %ah, %ah
    int $0x1a
    subw %si, %dx
    cmpw $3, %dx
    jb 1b
    ret
extended:                       /* ah: function */
    movb drive, %dl
    movw $packet, %si
    int $0x13
    ret
    .balign 4
packet: .byte 16, 0
    .word 1, buffer, 0
packet_lba: .word 0, 0, 0, 0
begin: .asciz "\r\nBIOS: "
ask: .asciz "\r\npress a key\r\n"
answer: .asciz "key: "
done: .asciz "\r\n"
key: .byte 0
    .org 8 * 512
    .word 0x4321
    .org 9 * 512 - 2
    .word 0x8765
    .set buffer, 0x9000
