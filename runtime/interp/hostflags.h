/* Integer arithmetic done by the host's processor, with the guest's flags before and after it.
 *
 * The manual leaves flags undefined after shifts, multiplications, divisions and bit scans, and processors differ in
 * them. Translated and directly executed code has those of the host, so the interpreter takes them from there as well:
 * a guest does not see which engine ran it. */
#ifndef RUNTIME_HOSTFLAGS_H
#define RUNTIME_HOSTFLAGS_H
#include "core/cpu.h"
#include "translator/front/insn.h"

/* Between EFLAGS and AX as LAHF and SETO AL leave it. */
static inline u32 hostflags_pack(u32 flags) { return (flags & F_ARITH & 0xff) << 8 | (flags >> 11 & 1); }
static inline u32 hostflags_unpack(u32 ax) { return (ax >> 8 & F_ARITH & 0xff) | (ax & 1) << 11; }
#define HOSTFLAGS_IN "addb $0x7f, %%al\n\tsahf\n\t" /* OF: that of 7F + AL */
#define HOSTFLAGS_OUT "\n\tlahf\n\tseto %%al"

/* By size: 4, 2 or 1 bytes. */
#define HOSTFLAGS_SIZED(size, one)           \
    do {                                     \
        if ((size) == 4) one("l", "k");      \
        else if ((size) == 2) one("w", "w"); \
        else one("b", "b");                  \
    } while (0)

/* SHL SHR SAR ROL ROR RCL RCR of a by count (1 to 31). */
static inline __attribute__((always_inline)) u32 host_shift(unsigned op, unsigned size, u32 a, unsigned count,
                                                            u32 *flags)
{
    u32 ax = hostflags_pack(*flags);
#define DO(name, l, k) \
    __asm__(HOSTFLAGS_IN name l " %%cl, %" k "1" HOSTFLAGS_OUT : "+a"(ax), "+r"(a) : "c"(count) : "cc")
#define SHL_(l, k) DO("shl", l, k)
#define SHR_(l, k) DO("shr", l, k)
#define SAR_(l, k) DO("sar", l, k)
#define ROL_(l, k) DO("rol", l, k)
#define ROR_(l, k) DO("ror", l, k)
#define RCL_(l, k) DO("rcl", l, k)
#define RCR_(l, k) DO("rcr", l, k)
    switch (op) {
    case OP_SHL: HOSTFLAGS_SIZED(size, SHL_); break;
    case OP_SHR: HOSTFLAGS_SIZED(size, SHR_); break;
    case OP_SAR: HOSTFLAGS_SIZED(size, SAR_); break;
    case OP_ROL: HOSTFLAGS_SIZED(size, ROL_); break;
    case OP_ROR: HOSTFLAGS_SIZED(size, ROR_); break;
    case OP_RCL: HOSTFLAGS_SIZED(size, RCL_); break;
    default: HOSTFLAGS_SIZED(size, RCR_); break;
    }
#undef SHL_
#undef SHR_
#undef SAR_
#undef ROL_
#undef ROR_
#undef RCL_
#undef RCR_
#undef DO
    *flags = hostflags_unpack(ax);
    return a;
}

/* SHLD, SHRD of a with bits of b, by count (1 to 31); size 2 or 4. Beyond 16, the result of 16 bits is the host's too.
 */
static inline u32 host_double_shift(bool left, unsigned size, u32 a, u32 b, unsigned count, u32 *flags)
{
    u32 ax = hostflags_pack(*flags);
#define DO(name, l, k)                                                  \
    __asm__(HOSTFLAGS_IN name l " %%cl, %" k "2, %" k "1" HOSTFLAGS_OUT \
            : "+a"(ax), "+r"(a)                                         \
            : "r"(b), "c"(count)                                        \
            : "c"                                                       \
              "c")
    if (left && size == 4) DO("shld", "l", "k");
    else if (left) DO("shld", "w", "w");
    else if (size == 4) DO("shrd", "l", "k");
    else DO("shrd", "w", "w");
#undef DO
    *flags = hostflags_unpack(ax);
    return a;
}

/* BSF, BSR of v, whose upper half is zero if the operand has 16 bits; dst is what the register holds, and keeps if v is
 * 0. */
static inline u32 host_bit_scan(bool forward, u32 v, u32 dst, u32 *flags)
{
    u32 ax = hostflags_pack(*flags);
    if (forward) __asm__(HOSTFLAGS_IN "bsfl %2, %1" HOSTFLAGS_OUT : "+a"(ax), "+r"(dst) : "r"(v) : "cc");
    else __asm__(HOSTFLAGS_IN "bsrl %2, %1" HOSTFLAGS_OUT : "+a"(ax), "+r"(dst) : "r"(v) : "cc");
    *flags = hostflags_unpack(ax);
    return dst;
}

/* MUL, IMUL, DIV and IDIV with their implicit operands: *lo and *hi are the host's EAX and EDX (of size 1, AX alone) on
 * the way in and out. A division must not raise #DE. */
static inline void host_muldiv(unsigned op, unsigned size, u32 b, u32 *lo, u32 *hi, u32 *flags)
{
    u32 ax = hostflags_pack(*flags);
#define DO(name, l, k)                                                                            \
    __asm__(HOSTFLAGS_IN "movl %k1, %%eax\n\t" name l " %" k "3\n\tmovl %%eax, %k1" HOSTFLAGS_OUT \
            : "+&a"(ax), "+&r"(*lo), "+&d"(*hi)                                                   \
            : "r"(b)                                                                              \
            : "cc")
#define MUL_(l, k) DO("mul", l, k)
#define IMUL_(l, k) DO("imul", l, k)
#define DIV_(l, k) DO("div", l, k)
#define IDIV_(l, k) DO("idiv", l, k)
    switch (op) {
    case OP_MUL: HOSTFLAGS_SIZED(size, MUL_); break;
    case OP_IMUL: HOSTFLAGS_SIZED(size, IMUL_); break;
    case OP_DIV: HOSTFLAGS_SIZED(size, DIV_); break;
    default: HOSTFLAGS_SIZED(size, IDIV_); break;
    }
#undef MUL_
#undef IMUL_
#undef DIV_
#undef IDIV_
#undef DO
    *flags = hostflags_unpack(ax);
}

/* IMUL of two operands, 16 or 32 bits: a * b. */
static inline u32 host_imul(unsigned size, u32 a, u32 b, u32 *flags)
{
    u32 ax = hostflags_pack(*flags);
    if (size == 4) __asm__(HOSTFLAGS_IN "imull %2, %1" HOSTFLAGS_OUT : "+a"(ax), "+r"(a) : "r"(b) : "cc");
    else __asm__(HOSTFLAGS_IN "imulw %w2, %w1" HOSTFLAGS_OUT : "+a"(ax), "+r"(a) : "r"(b) : "cc");
    *flags = hostflags_unpack(ax);
    return a;
}
#endif
