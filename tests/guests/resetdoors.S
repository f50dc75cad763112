/* A boot sector that leaves by every door a reset has, one after the other, and finds itself booted again: keyboard
 * controller, port 92h, PIIX3's reset control, triple fault. How often it has been there is in a byte of CMOS. Made
 * and judged by firmware.py. */
    .include "boot16.inc"
    boot_sector
    movb $0x70, %al             /* which byte */
    outb %al, $0x70
    inb $0x71, %al
    movb %al, %bl
    incb %al
    xchgb %al, %ah
    movb $0x70, %al
    outb %al, $0x70
    xchgb %al, %ah
    outb %al, $0x71
    movb $'0', %al
    addb %bl, %al
    movb %al, count
    pushw %bx
    movw $text, %si
1:  lodsb
    testb %al, %al
    jz 2f
    movb $0x0e, %ah
    movw $7, %bx
    int $0x10
    jmp 1b
2:  movw $4, %bx                /* SeaBIOS's serial console is a little late */
3:  hlt
    decw %bx
    jnz 3b
    popw %bx
    cmpb $0, %bl
    je keyboard
    cmpb $1, %bl
    je port92
    cmpb $2, %bl
    je piix
    cmpb $3, %bl
    je triple
    movb $0x10, %al
    outb %al, $0xf4
wait:
    hlt
    jmp wait
keyboard:
    inb $0x64, %al
    testb $2, %al
    jnz keyboard
    movb $0xfe, %al
    outb %al, $0x64
    jmp wait
port92:
    inb $0x92, %al
    andb $0xfe, %al
    outb %al, $0x92
    orb $1, %al
    outb %al, $0x92
    jmp wait
piix:
    movw $0xcf9, %dx
    movb $2, %al
    outb %al, %dx
    movb $6, %al
    outb %al, %dx
    jmp wait
triple:
    lidtw none
    int3
    .balign 4
none: .word 0
    .long 0
text: .ascii "\r\nbooted: "
count: .asciz "0\r\n"
    .org 510
    .word 0xaa55
