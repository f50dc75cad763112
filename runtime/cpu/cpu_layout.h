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
#define CPU_SCRATCH 1320
#define CPU_WINDOW 1344
#define CPU_FX 144
#define CPU_CONTEXT_TAG 1512
#define CPU_CONTEXT_SPREAD 1520
/* Offsets into the FXSAVE image. */
#define FX_XMM 160

#define ASM_EXIT_JUMP 0
#define ASM_EXIT_CHAIN 1
#define ASM_EXIT_EMULATE 2
#define ASM_EXIT_FAULT 3
#define ASM_EXIT_SIGNAL 4
#define ASM_EXIT_NEXT 5

#define ASM_HELPER_NEXT 2
#define ASM_HELPER_JUMP 3
#define ASM_HELPER_JUMP_SEGMENTED 4

#endif
