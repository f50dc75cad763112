/* The host's own use of x87 and SSE registers while the guest's state is in them. */
#ifndef RUNTIME_CPU_FPU_PARK_H
#define RUNTIME_CPU_FPU_PARK_H
#include "core/cpu.h"

/* The guest's x87/SSE state may be live in the host's registers. Code that may use those (devices, the code-write hook)
 * is called between these two. */
struct fpu_parked {
    bool parked;
    u8 image[512] __attribute__((aligned(16)));
};
static inline void fpu_park(const struct cpu *c, struct fpu_parked *f)
{
    static const u32 host_mxcsr = 0x1f80;
    f->parked = c->fpu_hot != 0;
    if (likely(!f->parked)) return;
    __asm__ volatile("fxsave64 %0" : "=m"(f->image));
    __asm__ volatile("fninit; ldmxcsr %0" : : "m"(host_mxcsr));
}
static inline void fpu_unpark(const struct fpu_parked *f)
{
    if (unlikely(f->parked)) __asm__ volatile("fxrstor64 %0" : : "m"(f->image));
}

#endif
