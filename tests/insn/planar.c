/* REP STOS into the VGA's planar memory is as many writes: what they leave, where a fault, a trap or the segment's end
 * stops them, and what becomes of the pages' bits. MOV goes there and back with every register. */
#include "rt.h"

const char guest_name[] = "planar";

enum { WINDOW = 0xa0000, AT = 0x10000000, PAGES = 4, LEN = PAGES * PAGE, AD = PTE_A | PTE_D };
static u32 traps_met, trapped_at[8];

static void outw(u16 port, u16 v) { __asm__ volatile("outw %0, %1" : : "a"(v), "d"(port)); }
static void seq(u8 reg, u8 v) { outw(0x3c4, (u16)(v << 8 | reg)); }
static void gr(u8 reg, u8 v) { outw(0x3ce, (u16)(v << 8 | reg)); }

/* A graphics mode's planes at A0000h, all written as they come. */
static void planes(void)
{
    outb(0x3c2, 0xe3);
    seq(2, 15);
    seq(4, 6);
    for (u8 i = 0; i < 5; i++) gr(i, 0);
    gr(5, 0);
    gr(6, 5);
    gr(7, 15);
    gr(8, 0xff);
}

static void map(u32 bits)
{
    for (u32 i = 0; i < PAGES; i++)
        pte_set(AT + i * PAGE, (WINDOW + i * PAGE) | bits);
    write_cr3(read_cr3());
}

/* All four planes' bytes, one after another. */
static void read_planes(u8 *to)
{
    gr(5, 0);
    for (u8 plane = 0; plane < 4; plane++) {
        gr(4, plane);
        memcpy(to + plane * LEN, (void *)AT, LEN);
    }
}

static void prepare(u32 seed)
{
    planes();
    for (u8 plane = 0; plane < 4; plane++) {
        seq(2, (u8)(1 << plane));
        for (u32 i = 0; i < LEN; i += 4)
            poke(AT + i, (i + plane + seed) * 2654435761u);
    }
    seq(2, 15);
}

struct fill {
    u32 edi, ecx, eax, size;
};

static void fill(void *arg)
{
    struct fill *f = arg;
    u32 d = f->edi, n = f->ecx;
    switch (f->size) {
    case 1: __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(f->eax) : "memory"); break;
    case 2: __asm__ volatile("rep stosw" : "+D"(d), "+c"(n) : "a"(f->eax) : "memory"); break;
    default: __asm__ volatile("rep stosl" : "+D"(d), "+c"(n) : "a"(f->eax) : "memory");
    }
    f->edi = d, f->ecx = n;
}
static u32 fill_user(u32 p)
{
    fill((void *)p);
    return 0;
}

static void one_by_one(const struct fill *f)
{
    for (u32 i = 0; i < f->ecx; i++) {
        u32 at = f->edi + i * f->size;
        switch (f->size) {
        case 1: *(volatile u8 *)at = (u8)f->eax; break;
        case 2: *(volatile u16 *)at = (u16)f->eax; break;
        default: poke(at, f->eax);
        }
    }
}

static u32 x = 1;
static u32 any(void)
{
    x = x * 1664525 + 1013904223;
    return x >> 8;
}

static void contents(void)
{
    u8 *got = pages_alloc(4 * PAGES, PAGE), *want = pages_alloc(4 * PAGES, PAGE);

    section("contents");
    map(7);
    for (u32 round = 0; round < 48; round++) {
        struct fill f = { .size = 1u << any() % 3, .eax = any() * 0x10001 };
        f.edi = AT + any() % (LEN / 2);
        f.ecx = 1 + any() % ((AT + LEN - f.edi) / f.size);
        u8 regs[6] = { any() & 15, any() & 15, any() & 31, any() & 15, any() & 3, any() };
        u32 latch = AT + any() % LEN;
        for (u32 slow = 0; slow < 2; slow++) {
            prepare(round);
            if (round & 1)
                seq(2, regs[3]);
            if (round & 2) {
                gr(0, regs[0]);
                gr(1, regs[1]);
                gr(3, regs[2]);
                gr(8, regs[5]);
            }
            gr(5, round & 4 ? regs[4] : 0);
            peek8(latch);
            struct fill g = f;
            if (slow)
                one_by_one(&f);
            else
                fill(&g);
            if (!slow)
                CHECK_EQ(g.edi, f.edi + f.ecx * f.size);
            if (!slow)
                CHECK_EQ(g.ecx, 0);
            read_planes(slow ? want : got);
        }
        CHECK(!memcmp(got, want, 4 * LEN));
    }
}

static void faults(void)
{
    section("faults, and the bits of pages");
    prepare(0);
    for (u32 user = 0; user < 2; user++) {
        static struct fill f;
        map(7);
        pte_set(AT + 2 * PAGE, 0);
        write_cr3(read_cr3());
        f = (struct fill){ AT + 0x801, 0x4000, 0x5a, 1 };
        CHECK_EQ(user ? ring3(fill_user, (u32)&f) : caught(fill, &f), 1);
        CHECK_EQ(trap.vector, V_PF);
        CHECK_EQ(trap.error, 2 | user * 4);
        CHECK_EQ(trap.cr2, AT + 2 * PAGE);
        CHECK_EQ(trap.edi, AT + 2 * PAGE);
        CHECK_EQ(trap.ecx, 0x4000 - (2 * PAGE - 0x801));
        CHECK_EQ(pte_get(AT) & AD, AD);
        CHECK_EQ(pte_get(AT + PAGE) & AD, AD);
        CHECK_EQ(pte_get(AT + 3 * PAGE) & AD, 0);
        CHECK_EQ(peek8(AT + 2 * PAGE - 1), 0x5a);
        map(5);
        write_cr0(read_cr0() | CR0_WP);
        f = (struct fill){ AT + 0x10, 8, 0xa5, 4 };
        CHECK_EQ(user ? ring3(fill_user, (u32)&f) : caught(fill, &f), 1);
        CHECK_EQ(trap.error, 3 | user * 4);
        CHECK_EQ(trap.ecx, 8);
        CHECK_EQ(pte_get(AT) & AD, 0);
        CHECK(peek8(AT + 0x10) != 0xa5);
        write_cr0(read_cr0() & ~(u32)CR0_WP);
    }
    map(7);
    section("the other direction, and none");
    poke(AT + 0x100, 0);
    u32 d = AT + 0x103, n = 3;
    __asm__ volatile("std; rep stosb; cld" : "+D"(d), "+c"(n) : "a"(0x11) : "memory");
    CHECK_EQ(d, AT + 0x100);
    CHECK_EQ(peek(AT + 0x100), 0x11111100);
    map(7);
    d = AT, n = 0;
    __asm__ volatile("rep stosl" : "+D"(d), "+c"(n) : "a"(0) : "memory");
    CHECK_EQ(pte_get(AT) & AD, 0);
}

static u32 segment_fill(u32 edi, u32 ecx)
{
    __asm__ volatile("pushl %%es; movw %w2, %%es; rep stosb; popl %%es"
                     : "+D"(edi), "+c"(ecx) : "r"(TEST_SEL(0)), "a"(0x77) : "memory");
    return ecx;
}
static void over_the_limit(void *arg)
{
    (void)arg;
    segment_fill(0xf00, 0x300);
}

static void limits(void)
{
    section("a segment's end");
    prepare(3);
    poke8(AT + 0x1080, 0);
    gdt[(TEST_SEL(0)) / 8] = descriptor(AT, 0x107f, SEG_DATA, SEG_BIG);
    CHECK_TRAPS(over_the_limit, NULL, V_GP, 0);
    CHECK_EQ(trap.edi, 0x1080);
    CHECK_EQ(trap.ecx, 0x300 - 0x180);
    CHECK_EQ(peek8(AT + 0x107f), 0x77);
    CHECK_EQ(peek8(AT + 0x1080), 0);
    __asm__ volatile("movw %w0, %%es" : : "r"(SEL_KDATA));
}

/* Each register, from where translated code stores it, and back: plane 0 alone, so that it is as memory is. */
#define MOVES(store, load, want)                                                                                   \
    do {                                                                                                           \
        u32 got_;                                                                                                  \
        poke(AT + 0x400, 0), poke(AT + 0x404, 0);                                                                  \
        __asm__ volatile("pushal; movl %%esp, %%fs:0; movl $0x14131211, %%eax; movl $0x24232221, %%ecx; "          \
                         "movl $0x34333231, %%edx; movl $0x44434241, %%ebx; movl $0x54535251, %%esp; "             \
                         "movl $0x64636261, %%ebp; movl $0x74737271, %%esi; movl $0x84838281, %%edi; stc; "        \
                         store "; sbbl %%eax, %%eax; " load "; movl %%fs:0, %%esp; movl %%edx, 20(%%esp); popal"   \
                         : "=d"(got_) : : "memory", "cc");                                                         \
        CHECK_EQ(got_, want);                                                                                      \
    } while (0)
#define PLACE "0x10000400" /* AT + 400h */
#define MOVE4(reg, want) MOVES("movl %%" #reg ", " PLACE, "movl " PLACE ", %%edx; addl %%eax, %%edx", (want) - 1)
#define MOVE2(reg, want) MOVES("movw %%" #reg ", " PLACE, "movzwl " PLACE ", %%edx; addl %%eax, %%edx", (want) - 1)
#define MOVE1(reg, want)                                                                                           \
    MOVES("movb %%" #reg ", " PLACE, "xorl %%edx, %%edx; movb " PLACE ", %%dl; addl %%eax, %%edx", (want) - 1)
static u32 esp_kept;
static void moves(void)
{
    section("MOV of each register");
    map(7);
    planes();
    seq(2, 1), gr(1, 0), gr(3, 0), gr(4, 0), gr(5, 0), gr(8, 0xff);
    gdt[TEST_SEL(1) / 8] = descriptor((u32)&esp_kept, 3, SEG_DATA, SEG_BIG);
    __asm__ volatile("movw %w0, %%fs" : : "r"(TEST_SEL(1)));
    for (int i = 0; i < 3; i++) {
        MOVE4(eax, 0x14131211); MOVE4(ecx, 0x24232221); MOVE4(edx, 0x34333231); MOVE4(ebx, 0x44434241);
        MOVE4(esp, 0x54535251); MOVE4(ebp, 0x64636261); MOVE4(esi, 0x74737271); MOVE4(edi, 0x84838281);
        MOVE2(ax, 0x1211); MOVE2(cx, 0x2221); MOVE2(dx, 0x3231); MOVE2(bx, 0x4241);
        MOVE2(sp, 0x5251); MOVE2(bp, 0x6261); MOVE2(si, 0x7271); MOVE2(di, 0x8281);
        MOVE1(al, 0x11); MOVE1(cl, 0x21); MOVE1(dl, 0x31); MOVE1(bl, 0x41);
        MOVE1(ah, 0x12); MOVE1(ch, 0x22); MOVE1(dh, 0x32); MOVE1(bh, 0x42);
    }
    __asm__ volatile("movw %w0, %%fs" : : "r"(SEL_KDATA));
}

#define CONST4(value)                                                                  \
    do {                                                                               \
        __asm__ volatile("movl $" #value ", (%0)" : : "r"(AT + 0x400) : "memory");     \
        CHECK_EQ(peek(AT + 0x400), value);                                             \
        __asm__ volatile("movl $" #value ", 0x100(%0)" : : "r"(AT + 0x400) : "memory"); \
        CHECK_EQ(peek(AT + 0x500), value);                                             \
        __asm__ volatile("movl $" #value ", 0x10000600" : : : "memory");               \
        CHECK_EQ(peek(AT + 0x600), value);                                             \
    } while (0)
#define CONST2(value)                                                              \
    do {                                                                           \
        poke(AT + 0x400, 0x77777777);                                              \
        __asm__ volatile("movw $" #value ", (%0)" : : "r"(AT + 0x401) : "memory"); \
        CHECK_EQ(peek(AT + 0x400), 0x77000077u | (value) << 8);                    \
    } while (0)
#define CONST1(value)                                                              \
    do {                                                                           \
        poke(AT + 0x400, 0x77777777);                                              \
        __asm__ volatile("movb $" #value ", (%0)" : : "r"(AT + 0x402) : "memory"); \
        CHECK_EQ(peek(AT + 0x400), 0x77007777u | (value) << 16);                   \
    } while (0)
/* The same code again, but for its constant, once all translations have been evicted (--cache-size=1M): a translator
 * may make one of the other then, which equal code before it leads to. */
static u8 copies[4][PAGE] __attribute__((aligned(PAGE)));
static u8 flood[64 * PAGE] __attribute__((aligned(PAGE)));
static void evict(void)
{
    for (u32 i = 0; i < sizeof flood; i += 4)
        memcpy(flood + i, "\x40\x90\xeb\x00", 4); /* inc eax; nop; jmp to the next */
    flood[sizeof flood - 4] = 0xc3;
    __asm__ volatile("call *%0" : : "r"(flood) : "eax", "memory", "cc");
}
static void copy_to(u32 i, u32 value)
{
    static const u8 code[] = "\x40\x43\x45\x46\x47\x4f\x4e\x4d\x4b\x48\xeb\x00" /* inc .., dec ..; jmp to the */
                             "\xc7\x01\0\0\0\0\xc3";                            /* mov dword [ecx], value; ret */
    memcpy(copies[i] + 0x40, code, sizeof code);
    memcpy(copies[i] + 0x40 + 14, &value, 4);
}
static void copy_stores(u32 i, u32 value)
{
    u32 ram = 0;
    u32 *const to[] = { (u32 *)(AT + 0x400), &ram, (u32 *)(AT + 0x404), (u32 *)((u8 *)AT + 0x409) };
    for (u32 k = 0; k < 4; k++) {
        __asm__ volatile("call *%0" : : "r"(copies[i] + 0x40), "c"(to[k]) : "memory");
        CHECK_EQ(*(volatile u32 *)to[k], value);
    }
}
static void constants_of_copies(void)
{
    section("MOV of a constant, once evicted");
    for (u32 round = 0; round < 4; round++) {
        for (u32 i = 0; i < 4; i++)
            copy_to(i, 0x89abcdef + round * 0x10203 + i * 0x01010101);
        for (u32 again = 0; again < 3; again++)
            for (u32 i = 0; i < 4; i++)
                copy_stores(i, 0x89abcdef + round * 0x10203 + i * 0x01010101);
        evict();
    }
}

static void constants(void)
{
    section("MOV of a constant");
    for (int i = 0; i < 4; i++) {
        CONST4(0x11223344); CONST4(0x89abcdef); CONST4(0x80000001); CONST4(0xfffffff0);
        CONST2(0x1122); CONST2(0x89ab); CONST2(0xfff0);
        CONST1(0x11); CONST1(0x89); CONST1(0xf0);
    }
}

/* One element, either way: what is stored or loaded, and where the register is then. */
static void one_element(u32 size, bool down)
{
    u32 d = AT + 0x404, value = any() * 0x10003, got = any(), want = got;
    u32 step = down ? -size : size, mask = size == 4 ? ~0u : (1u << 8 * size) - 1;
    poke(d - 4, 0x66666666), poke(d, 0x77777777), poke(d + 4, 0x88888888);
    if (down)
        __asm__ volatile("std");
    switch (size) {
    case 1: __asm__ volatile("stosb" : "+D"(d) : "a"(value) : "memory"); break;
    case 2: __asm__ volatile("stosw" : "+D"(d) : "a"(value) : "memory"); break;
    default: __asm__ volatile("stosl" : "+D"(d) : "a"(value) : "memory");
    }
    __asm__ volatile("cld");
    CHECK_EQ(d, AT + 0x404 + step);
    CHECK_EQ(peek(AT + 0x400), 0x66666666);
    CHECK_EQ(peek(AT + 0x404), (0x77777777 & ~mask) | (value & mask));
    CHECK_EQ(peek(AT + 0x408), 0x88888888);
    d = AT + 0x404;
    want = (want & ~mask) | (value & mask);
    if (down)
        __asm__ volatile("std");
    switch (size) {
    case 1: __asm__ volatile("lodsb" : "+S"(d), "+a"(got) : : "memory"); break;
    case 2: __asm__ volatile("lodsw" : "+S"(d), "+a"(got) : : "memory"); break;
    default: __asm__ volatile("lodsl" : "+S"(d), "+a"(got) : : "memory");
    }
    __asm__ volatile("cld");
    CHECK_EQ(d, AT + 0x404 + step);
    CHECK_EQ(got, want);
}
static void elements(void)
{
    section("STOS and LODS of one element");
    for (u32 i = 0; i < 48; i++)
        one_element(1u << i % 3, i / 3 & 1);
}

static bool on_db(struct frame *f)
{
    if (traps_met < 8)
        trapped_at[traps_met] = f->edi;
    traps_met++;
    return true;
}

static void debugged(void)
{
    section("between two elements");
    on_trap(V_DB, on_db);
    traps_met = 0;
    u32 d = AT + 0x200, n = 4;
    __asm__ volatile("pushfl; orl $0x100, (%%esp); popfl; rep stosb; pushfl; andl $~0x100, (%%esp); popfl"
                     : "+D"(d), "+c"(n) : "a"(0x33) : "memory", "cc");
    CHECK(traps_met >= 4);
    for (u32 i = 0; i < 4; i++)
        CHECK_EQ(trapped_at[i], AT + 0x201 + i);
    u32 watched = AT + 0x300, dr7 = 0x10402; /* DR0: writes of a byte, in every task */
    __asm__ volatile("movl %0, %%dr0; movl %1, %%dr7" : : "r"(watched), "r"(dr7));
    traps_met = 0;
    struct fill f = { AT + 0x200, 0x400, 0x44, 1 };
    fill(&f);
    CHECK_EQ(traps_met, 1);
    CHECK_EQ(trapped_at[0], watched + 1);
    dr7 = 0x400;
    __asm__ volatile("movl %0, %%dr7" : : "r"(dr7));
}

static volatile u32 ticks, left_at_tick;
static bool on_timer(struct frame *f)
{
    ticks++;
    left_at_tick = f->ecx;
    pic_eoi(0);
    return true;
}

static void interrupted(void)
{
    section("an interrupt in the midst");
    on_trap(IRQ_BASE, on_timer);
    pic_unmask(0);
    u32 whole = 0, midway = 0;
    for (u32 round = 0; round < 4000 && !midway; round++) {
        u32 d = AT, n = LEN;
        pit_oneshot(10 + round % 200);
        ticks = 0;
        __asm__ volatile("sti; nop; rep stosb; cli" : "+D"(d), "+c"(n) : "a"(0x66) : "memory");
        CHECK_EQ(d, AT + LEN);
        CHECK_EQ(n, 0);
        whole += !ticks;
        midway += ticks && left_at_tick > 0 && left_at_tick < LEN;
        while (!ticks)
            __asm__ volatile("sti; hlt; cli" : : : "memory");
    }
    CHECK_EQ(midway, 1);
    pic_mask(0);
}

void guest_main(void)
{
    paging_start(false, false);
    contents();
    faults();
    limits();
    moves();
    constants();
    constants_of_copies();
    elements();
    debugged();
    interrupted();
}
