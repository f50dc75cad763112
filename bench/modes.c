/* What segmented code costs: the same loops in real mode and as flat 32-bit code, in the translator and in the
 * interpreter. Prints nanoseconds for one pass of each loop. Bytes are what both modes decode alike, but for addresses:
 * these are assembled for each.
 *
 *   modes [PASSES]      thousands of passes [2000] */
#include <string.h>

#include "core/host_ns.h"
#include "runtime/cpu/cpu.h"
#include "runtime/run/rt.h"

#define CODE_AT 0x8000u
#define DATA_AT 0x20000u

struct loop {
    const char *name;
    const u8 *narrow, *wide; /* up to its count-down, which is added; NULL: there is none */
    unsigned narrow_len, wide_len;
};
#define LOOP(name, n, w)                                                     \
    {                                                                        \
        name, (const u8 *)(n), (const u8 *)(w), sizeof(n) - 1, sizeof(w) - 1 \
    }

static const struct loop loops[] = {
    /* add ax, dx; rol ax, 1; xor ax, bx: twice */
    LOOP("registers", "\x01\xd0\xd1\xc0\x31\xd8\x01\xd0\xd1\xc0\x31\xd8",
         "\x01\xd0\xd1\xc0\x31\xd8\x01\xd0\xd1\xc0\x31\xd8"),
    /* mov ax, [si]; add ax, [si+2]; mov [di], ax; add [di+4], dx */
    LOOP("memory", "\x8b\x04\x03\x44\x02\x89\x05\x01\x55\x04", "\x8b\x06\x03\x46\x02\x89\x07\x01\x57\x04"),
    /* call +1; jmp +1; ret */
    LOOP("near call", "\xe8\x02\x00\xeb\x01\xc3", "\xe8\x02\x00\x00\x00\xeb\x01\xc3"),
    /* push ax; push dx; pop dx; pop ax */
    LOOP("push, pop", "\x50\x52\x5a\x58", "\x50\x52\x5a\x58"),
    /* push cx; mov cx, 32; mov si, 0; mov di, 200h; rep movsw; pop cx */
    LOOP("rep movsw", "\x51\xb9\x20\x00\xbe\x00\x00\xbf\x00\x02\xf3\xa5\x59",
         "\x51\xb9\x20\x00\x00\x00\xbe\x00\x00\x02\x00\xbf\x00\x02\x02\x00\x66\xf3\xa5\x59"),
    /* call 0:CODE_AT+800h, where there is a RETF */
    LOOP("far call", "\x9a\x00\x88\x00\x00", ""),
    /* int 60h, which is an IRET */
    LOOP("int", "\xcd\x60", ""),
    /* mov ax, ds; mov es, ax; push ds; pop es */
    LOOP("segment load", "\x8c\xd8\x8e\xc0\x1e\x07", ""),
    /* les bx, [si] */
    LOOP("les", "\xc4\x1c", ""),
    /* pusha; popa */
    LOOP("pusha, popa", "\x60\x61", "\x60\x61"),
    /* pushf; popf */
    LOOP("pushf, popf", "\x9c\x9d", "\x9c\x9d"),
};

static void stop(void *rt, u32 off, unsigned size, u32 val)
{
    (void)off, (void)size, (void)val;
    rt_stop(rt);
}
static const struct io_ops stop_ops = { .write = stop };

static double pass_ns(const struct loop *l, enum rt_engine engine, bool wide, u32 passes)
{
    struct rt_config cfg = { .ram_size = 1 << 20, .engine = engine };
    const char *what;
    struct rt *rt;
    if (rt_new(&rt, &cfg, &what) || bus_map_pio(rt_bus(rt), 0x80, 1, &stop_ops, rt, "stop")) exit(2);
    u8 code[64];
    unsigned n = wide ? l->wide_len : l->narrow_len;
    memcpy(code, wide ? l->wide : l->narrow, n);
    u8 *p = code + n;
    if (wide) *p++ = 0x4d; /* dec ebp */
    else memcpy(p, "\x66\x4d", 2), p += 2;
    *p++ = 0x75, *p = (u8)(-(int)(p + 1 - code)), p++; /* jnz */
    memcpy(p, "\xe6\x80\xeb\xfe", 4), p += 4;          /* out 80h, al */
    bus_dma_write(rt_bus(rt), CODE_AT, code, (u64)(p - code));
    bus_dma_write(rt_bus(rt), CODE_AT + 0x800, "\xcb\xcf", 2);
    bus_dma_write(rt_bus(rt), 4 * 0x60, "\x01\x88\x00\x00", 4);
    struct cpu *c = rt_cpu(rt);
    c->eip = CODE_AT;
    for (unsigned i = 0; i < 8; i++) c->gpr[i] = wide ? DATA_AT : 0;
    c->gpr[G_EDI] += 0x100;
    c->gpr[G_ESP] = wide ? DATA_AT + 0xf000 : 0xf000;
    c->gpr[G_EBP] = passes;
    for (unsigned i = 0; i < S_COUNT; i++) {
        struct seg s = { .sel = DATA_AT >> 4, .base = DATA_AT, .limit = 0xffff, .attr = SEG_P | SEG_S | SEG_W | SEG_A };
        if (i == S_CS) s.sel = 0, s.base = 0;
        if (wide)
            s = (struct seg){ .sel = 8, .limit = 0xffffffff, .attr = SEG_P | SEG_S | SEG_W | SEG_A | SEG_D | SEG_G };
        if (wide && i == S_CS) s.attr |= SEG_CODE;
        c->seg[i] = s;
    }
    if (wide) c->cr0 |= CR0_PE;
    rt_update(rt);
    u64 begin = host_ns(CLOCK_THREAD_CPUTIME_ID);
    enum rt_exit why = rt_run(rt);
    u64 ns = host_ns(CLOCK_THREAD_CPUTIME_ID) - begin;
    if (why != RT_STOPPED || c->gpr[G_EBP]) printf("%s: ended badly\n", l->name);
    rt_free(rt);
    return (double)ns / passes;
}

int main(int argc, char **argv)
{
    u32 passes = 1000 * (u32)(argc > 1 ? strtoul(argv[1], NULL, 0) : 2000);
    printf("%-14s %12s %12s %12s %12s\n", "ns a pass", "translated", "interpreted", "flat, tr.", "flat, int.");
    for (unsigned i = 0; i < ARRAY_LEN(loops); i++) {
        const struct loop *l = &loops[i];
        double bt = pass_ns(l, RT_BT, false, passes), in = pass_ns(l, RT_INTERP, false, passes / 4);
        printf("%-14s %12.2f %12.2f", l->name, bt, in);
        if (l->wide_len)
            printf(" %12.2f %12.2f", pass_ns(l, RT_BT, true, passes), pass_ns(l, RT_INTERP, true, passes / 4));
        printf("\n");
    }
    return 0;
}
