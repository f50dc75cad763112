/* Offsets into struct cpu for enter_x64.S; run.c asserts each of them. */
#ifndef RUNTIME_CPU_LAYOUT_H
#define RUNTIME_CPU_LAYOUT_H

#define CPU_GPR 80
#define CPU_EIP 112
#define CPU_AFLAGS 128
#define CPU_FPU_HOT 4
#define CPU_SSE_HOT 8
#define CPU_JUMP_CACHE 1296
#define CPU_EXIT_ARG 1304
#define CPU_HOST_RSP 1312
#define CPU_KICK 0
#define CPU_SCRATCH 1320
#define CPU_WINDOW 1344
#define CPU_FX 144
#define CPU_CONTEXT_TAG 1512
#define CPU_CONTEXT_SPREAD 1520
#define CPU_SEG 656
#define CPU_GDTR_BASE 784
#define CPU_GDTR_LIMIT 788
#define CPU_X87_OP 1352
#define CPU_X87_DS 1364
#define CPU_MODE 1384
#define CPU_SEG_COMPLEX 1388
#define CPU_SEG_ROOM 1416
#define CPU_HELPER_MOV_SREG 1536
#define CPU_SEG_MEMO 1680
#define CPU_TLB_SUP_R 16384 /* behind struct cpu_area: CPU_TLB_AT */
#define ASM_TLB_TABLE_SHIFT 27
/* Offsets into struct seg, and attributes as real and virtual-8086 mode make them. */
#define SEG_BASE 4
#define SEG_LIMIT 8
#define SEG_ATTR 12
#define ASM_SEG_REAL 0x93
#define ASM_SEG_VM86 0xf3
#define ASM_SEG_SIZES 0xc000
#define ASM_MK_PE 4
#define ASM_MK_VM 8
/* Offsets into struct seg_memo, and its size. */
#define MEMO_RAW 0
#define MEMO_KEY 8
#define MEMO_COMPLEX 12
#define MEMO_SEG 16
#define MEMO_ROOM 32
#define MEMO_BYTES 48
#define ASM_SEG_MEMOS 4
#define ASM_SEG_MEMO_MODE 0x30f
#define ASM_SEG_MEMO_VALID -0x80000000
#define ASM_X87_LATCHED 0x10000
/* Offsets into the FXSAVE image. */
#define FX_XMM 160

#define ASM_EXIT_JUMP 0
#define ASM_EXIT_CHAIN 1
#define ASM_EXIT_EMULATE 2
#define ASM_EXIT_FAULT 3
#define ASM_EXIT_SIGNAL 4
#define ASM_EXIT_NEXT 5
#define ASM_EXIT_KICKED 6

#define ASM_HELPER_NEXT 2
#define ASM_HELPER_JUMP 3
#define ASM_HELPER_JUMP_SEGMENTED 4

#endif
