/* What one operation costs in cycles of the TSC, with its distribution: shared by the guest (nano.c) and by the program
 * that does the same operations natively (bench/guest/nano.c). Whoever includes it has u32, u64, rdtsc() and
 * nano_print(). */
#ifndef BENCH_KERNEL_NANO_H
#define BENCH_KERNEL_NANO_H

enum { NANO_BATCHES = 41, NANO_BATCH = 300000 /* cycles at least */, NANO_MOST = 1 << 20 /* operations */ };

static void nano_sort(u32 *v, unsigned n)
{
    for (unsigned i = 1; i < n; i++)
        for (unsigned k = i; k > 0 && v[k - 1] > v[k]; k--) {
            u32 t = v[k];
            v[k] = v[k - 1];
            v[k - 1] = t;
        }
}

/* Of so many batches, in tenths of a cycle for an operation. */
static void nano_report(const char *name, u32 *tenths)
{
    static const unsigned at[] = { NANO_BATCHES / 2, 0, NANO_BATCHES / 4, NANO_BATCHES / 2, 3 * NANO_BATCHES / 4,
                                   NANO_BATCHES - 1 };
    nano_sort(tenths, NANO_BATCHES);
    nano_print("BENCH %s", name);
    for (unsigned i = 0; i < sizeof at / sizeof at[0]; i++)
        nano_print(i == 0 ? " %u.%u cycles" : " %u.%u", tenths[at[i]] / 10, tenths[at[i]] % 10);
    nano_print("\n");
}

/* op(arg, n) does n operations. As many as take NANO_BATCH cycles are a batch, found by doubling, which warms up what
 * there is to warm up. */
static void nano_measure(const char *name, void (*op)(void *arg, u32 n), void *arg)
{
    u32 tenths[NANO_BATCHES], n = 16;
    for (;; n *= 2) {
        u64 start = rdtsc();
        op(arg, n);
        if (rdtsc() - start >= NANO_BATCH || n >= NANO_MOST) break;
    }
    for (unsigned i = 0; i < NANO_BATCHES; i++) {
        u64 start = rdtsc();
        op(arg, n);
        tenths[i] = (u32)((rdtsc() - start) * 10 / n);
    }
    nano_report(name, tenths);
}

/* took(n) does n operations and says what these have taken: one that times by itself what it wants to have timed. */
static __attribute__((unused)) void nano_measure_own(const char *name, u32 (*took)(u32 n), u32 n)
{
    u32 tenths[NANO_BATCHES];
    took(n);
    for (unsigned i = 0; i < NANO_BATCHES; i++) tenths[i] = (u32)((u64)took(n) * 10 / n);
    nano_report(name, tenths);
}

/* ---- what a program may do: the same instructions in the guest's ring 3 and natively ---- */

typedef u32 nano_target(u32 x);
/* clang-format off */
#define NANO_TARGET(i) static __attribute__((noinline, noclone)) u32 nano_target_##i(u32 x) { return x + i; }
#define NANO_8(macro, i) \
    macro(i##0) macro(i##1) macro(i##2) macro(i##3) macro(i##4) macro(i##5) macro(i##6) macro(i##7)
#define NANO_64(macro) \
    NANO_8(macro, 1) NANO_8(macro, 2) NANO_8(macro, 3) NANO_8(macro, 4) NANO_8(macro, 5) NANO_8(macro, 6) \
    NANO_8(macro, 7) NANO_8(macro, 8)
/* clang-format on */
NANO_64(NANO_TARGET)
#define NANO_NAME(i) nano_target_##i,
static nano_target *const nano_targets[64] = { NANO_64(NANO_NAME) };
static volatile u32 nano_sum;

static u32 nano_call(u32 n)
{
    u32 x = 0;
    for (; n; n--) x = nano_target_10(x);
    return nano_sum = x;
}
/* Targets in turn, of which there are as many as the mask says, and one. */
static u32 nano_indirect(u32 n, u32 mask)
{
    u32 x = 0;
    for (; n; n--) x = nano_targets[n & mask](x);
    return nano_sum = x;
}
static u32 nano_indirect_1(u32 n) { return nano_indirect(n, 0); }
static u32 nano_indirect_4(u32 n) { return nano_indirect(n, 3); }
static u32 nano_indirect_64(u32 n) { return nano_indirect(n, 63); }
#define NANO_ASM(name, text, ...)                                \
    static u32 name(u32 n)                                       \
    {                                                            \
        for (; n; n--) __asm__ volatile(text : : : __VA_ARGS__); \
        return 0;                                                \
    }
NANO_ASM(nano_loop, "", "memory")
NANO_ASM(nano_rdtsc, "rdtsc", "eax", "edx")
NANO_ASM(nano_cpuid, "xorl %%eax, %%eax; cpuid", "eax", "ebx", "ecx", "edx")
NANO_ASM(nano_segment, "movl %%ds, %%eax; movl %%eax, %%es", "eax", "memory")
NANO_ASM(nano_popf, "pushfl; popfl", "cc", "memory")

static const struct nano_user {
    const char *name;
    u32 (*fn)(u32 n);
} nano_user[] = {
    { "user_loop", nano_loop },
    { "user_call", nano_call },
    { "user_indirect_1", nano_indirect_1 },
    { "user_indirect_4", nano_indirect_4 },
    { "user_indirect_64", nano_indirect_64 },
    { "user_rdtsc", nano_rdtsc },
    { "user_cpuid", nano_cpuid },
    { "user_segment_load", nano_segment },
    { "user_pushf_popf", nano_popf },
};
#endif
