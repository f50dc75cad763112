/* Offsets into struct cpu for enter_x64.S; run.c asserts each of them. */
#ifndef RUNTIME_CPU_LAYOUT_H
#define RUNTIME_CPU_LAYOUT_H

#define CPU_GPR 0
#define CPU_EIP 32
#define CPU_AFLAGS 36
#define CPU_FPU_HOT 52
#define CPU_SSE_HOT 64
#define CPU_JUMP_CACHE 72
#define CPU_EXIT_ARG 144
#define CPU_HOST_RSP 152
#define CPU_SCRATCH 160
#define CPU_WINDOW 184
#define CPU_FX 192

#define ASM_EXIT_JUMP 0
#define ASM_EXIT_CHAIN 1
#define ASM_EXIT_EMULATE 2
#define ASM_EXIT_FAULT 3
#define ASM_EXIT_SIGNAL 4
#define ASM_EXIT_NEXT 5

#endif
