/* Far transfers that are made again and again, and between two of them something that they depend on has changed: the
 * descriptor, its table, the page that this is in, the gate, the stack, the flags that IRET loads. The next one sees
 * it, whatever a monitor remembers. SDM vol. 2, JMP, CALL, RET, INT n, IRET; vol. 3, 5.8.1, 6.12.1. The code lies in a
 * segment that ends below 4 GiB. */
#include "rt.h"

const char guest_name[] = "far";

enum { HERE = TEST_SEL(0), THERE = TEST_SEL(1), STACK16 = TEST_SEL(2), STACK_SHORT = TEST_SEL(3), THERE16 = TEST_SEL(4),
       LOCAL = 1 << 3 | 4 };
enum { VECTOR = 0x60, TABLE = 0x40000000, USER_STACK = 0x40800000, HOT = 6 };
enum { BASE = 0x100000 /* of HERE: what 16 bits of EIP can say lies in it */ };
enum { /* in THERE */
    AT = 0x20, AT_RETF = 0x60, AT_IRET = 0x70, AT_RETFW = 0x80, AT_IRETW = 0x90, AT_OTHER = 0xa0, AT_READ = 0xd0
};
enum { LIMIT = 0xfff }; /* of THERE */

u32 to[2], to16, flags, stack, ss, flat_ss, sp_after, flags_after; /* what the routines below take and leave */

/* Each ends at back, or behind its CALL or INT, with ESP on the stack that it has been given. */
#define ROUTINE(name, before, transfer)                                                                \
    __asm__(".pushsection .text\n" #name ": movl %esp, %esi; movl ss, %eax; movl stack, %ecx\n"        \
            "movl %eax, %ss; movl %ecx, %esp; xorl %eax, %eax; xorl %ecx, %ecx; stc\n" before "\n"    \
            #name "_does: " transfer "\n" #name "_next: movl %esp, sp_after; jmp back\n.popsection\n"); \
    extern const u8 name[], name##_does[], name##_next[]
__asm__(".pushsection .text\nback: movl flat_ss, %ebx; movl %ebx, %ss; movl %esi, %esp; pushfl; popl flags_after\n"
        "pushl $2; popfl; lret\n"
        ".popsection\n");
extern const u8 back[];
ROUTINE(jmp32, "", "ljmp *to");
ROUTINE(call32, "", "lcall *to");
ROUTINE(ret32, "pushl to+4; pushl to", "lret");
ROUTINE(iret32, "pushl flags; pushl to+4; pushl to", "iretl");
ROUTINE(int32, "", "int $0x60");
ROUTINE(jmp16, "", "ljmpw *to16");
ROUTINE(call16, "", "lcallw *to16");
ROUTINE(ret16, "pushl to16", "lretw");
ROUTINE(iret16, "pushw flags; pushl to16", "iretw");

enum what { JMP, CALL, RET, IRET, INT };
static const struct way {
    const char *name;
    enum what what;
    u32 size, at;
    const u8 *code, *does, *next;
} ways[] = {
#define WAY(name, what, size, at) { #name, what, size, at, name, name##_does, name##_next }
    WAY(jmp32, JMP, 4, AT),         WAY(call32, CALL, 4, AT),       WAY(ret32, RET, 4, AT), WAY(iret32, IRET, 4, AT),
    WAY(int32, INT, 4, AT),         WAY(jmp16, JMP, 2, AT),         WAY(call16, CALL, 2, AT), WAY(ret16, RET, 2, AT),
    WAY(iret16, IRET, 2, AT),       WAY(int32, INT, 2, AT),         WAY(call32, CALL, 4, AT_RETF),
    WAY(int32, INT, 4, AT_IRET),    WAY(call16, CALL, 2, AT_RETFW), WAY(int32, INT, 2, AT_IRETW),
};
enum { WAYS = sizeof ways / sizeof ways[0] };

static u8 *pages[2];               /* code for THERE: the first gives 1, the second 2 */
static u8 *own_stack;              /* 64 KiB and a page */
static u64 *tables[2];             /* copies of the GDT */
static u32 there, ring, landed, words[2], landed_flags;
static u32 elsewhere;              /* if not 0, the offset that it goes to */
static const struct way *way;

static bool comes_back(void) { return way->at == AT; }

/* mov eax, number; mov ecx, [esp]; mov edx, [esp+4]; pushfd; pop edi; cld; ljmp HERE:back; and at the others,
 * mov eax, number and a return */
static void put_code(u8 *page, u8 number)
{
    static const u8 arrival[] = { 0xb8, 0, 0, 0, 0, 0x8b, 0x0c, 0x24, 0x8b, 0x54, 0x24, 4, 0x9c, 0x5f, 0xfc, 0xea };
    static const u8 ends[][3] = {
        { AT_RETF, 0xcb }, { AT_IRET, 0xcf }, { AT_RETFW, 0x66, 0xcb }, { AT_IRETW, 0x66, 0xcf }
    };
    u32 target = (u32)back - BASE;
    for (u32 at = AT; at <= AT_OTHER; at += AT_OTHER - AT) {
        u8 *p = page + at;
        memcpy(p, arrival, sizeof arrival);
        memcpy(p + sizeof arrival, &target, 4);
        p[sizeof arrival + 4] = HERE, p[sizeof arrival + 5] = 0;
        p[1] = at == AT ? number : number + 2;
    }
    for (u32 i = 0; i < 4; i++) {
        u8 *p = page + ends[i][0];
        memset(p, 0, 10);
        p[0] = 0xb8, p[1] = number, p[5] = 0x50, p[6] = 0x58; /* push eax; pop eax */
        memcpy(p + 7, ends[i] + 1, 2);
    }
    memcpy(page + AT_READ, "\x2e\xa1\x00\x10\x00\x00\xcb", 7); /* mov eax, cs:[LIMIT + 1]; lret */
}

static u8 of_ring(u8 access) { return ring ? access | SEG_DPL3 : access; }
static u64 there_is(u32 page, u8 access, u32 limit) { return descriptor((u32)pages[page], limit, access, SEG_BIG); }
static u64 plain(u32 page) { return there_is(page, of_ring(SEG_CODE), LIMIT); }
static void set_gate(u8 type, u32 at, u8 dpl)
{
    idt_set(VECTOR, gate(there, at, (way->size == 2 ? type & ~8 : type) | 0x80 | dpl << 5, 0));
}

static u32 go(u32 unused)
{
    struct {
        u32 offset;
        u16 selector;
    } __attribute__((packed)) entry = { (u32)way->code - BASE, HERE };
    (void)unused;
    __asm__ volatile("lcall *%4" : "=&a"(landed), "=c"(words[0]), "=d"(words[1]), "=D"(landed_flags) : "m"(entry)
                     : "ebx", "esi", "cc", "memory");
    return landed;
}
static void go_here(void *unused) { go((u32)unused); }
static int pass(void)
{
    landed = 0;
    to[0] = elsewhere ? elsewhere : way->at, to[1] = there | ring, to16 = to[0] | to[1] << 16;
    return ring ? ring3(go, 0) : caught(go_here, NULL);
}

static void lands(u32 number)
{
    CHECK_EQ(pass(), 0);
    CHECK_EQ(landed, number);
    if (!comes_back()) CHECK_EQ(flags_after & F_CF, F_CF);
    if (!comes_back() || way->what < CALL || way->what == RET || way->what == IRET) return;
    u32 sel = HERE | ring, eip = (u32)way->next - BASE; /* what lies on the stack */
    CHECK_EQ(way->size == 4 ? words[0] : words[0] & 0xffff, way->size == 4 ? eip : eip & 0xffff);
    CHECK_EQ(way->size == 4 ? words[1] & 0xffff : words[0] >> 16, sel);
}
static void fails(u32 vector, u32 error)
{
    CHECK_EQ(pass(), 1);
    CHECK_EQ(landed, 0);
    CHECK_EQ(trap.vector, vector);
    CHECK_EQ(trap.error, error);
    CHECK_EQ(trap.eip, (u32)way->does - BASE);
    CHECK_EQ(trap.cs, HERE | ring);
}
static void hot(void)
{
    for (u32 i = 0; i < HOT; i++) lands(1);
}

/* To the first byte that is not in it any more, from where the last one is reached at once. */
static void beyond(void)
{
    hot();
    elsewhere = LIMIT + 1;
    if (way->what == INT) set_gate(0xe, elsewhere, 3);
    fails(V_GP, 0), fails(V_GP, 0);
    elsewhere = 0;
    if (way->what == INT) set_gate(0xe, way->at, 3);
    hot();
}

/* CS is the new one to accesses, too: its limit, and whether it may be read. */
static void reads(void)
{
    if (way->at != AT_RETF || way->what != CALL) return;
    for (u32 i = 0; i < 3; i++) {
        lands(1);
        elsewhere = AT_READ;
        CHECK_EQ(pass(), 1);
        CHECK_EQ(trap.vector, V_GP);
        CHECK_EQ(trap.error, 0);
        CHECK_EQ(trap.cs, there | ring);
        CHECK_EQ(trap.eip, AT_READ);
        elsewhere = 0;
    }
}

/* ---- what changes ---- */

static void stored(void)
{
    u64 *d = there == LOCAL ? &ldt[1] : &gdt[THERE / 8];
    for (u32 i = 0; i < 8; i++) *d = plain(i & 1), lands(1 + (i & 1));
    *d = plain(0);
    hot();
    *d = plain(0) & ~(1ull << 40);
    lands(1);
    CHECK_EQ(*d >> 40 & 1, 1);
    hot();
    *d = plain(0) & ~(1ull << 47);
    fails(V_NP, there);
    *d = there_is(0, of_ring(SEG_DATA), LIMIT);
    fails(V_GP, there);
    *d = there_is(0, of_ring(SEG_CODE), way->at - 1);
    fails(V_GP, 0);
    *d = there_is(0, of_ring(SEG_CODE), LIMIT);
    hot();
    if (!(ring && way->what == INT)) { /* that would be a change of privilege */
        *d = there_is(0, ring ? SEG_CODE : SEG_CODE | SEG_DPL3, LIMIT);
        fails(V_GP, there);
    }
    *d = there_is(1, SEG_CODE_CONF, LIMIT); /* of ring 0: for all */
    lands(2), lands(2), lands(2);
    *d = there_is(0, of_ring(SEG_CODE_XO), LIMIT);
    lands(1), lands(1);
    reads();
    *d = plain(0);
}

static void load_gdt(const u64 *table, u32 limit)
{
    struct {
        u16 limit;
        u32 base;
    } __attribute__((packed)) t = { limit, (u32)table };
    __asm__ volatile("lgdt %0" : : "m"(t));
}
static void load_idt(u32 limit)
{
    struct {
        u16 limit;
        u32 base;
    } __attribute__((packed)) t = { limit, (u32)idt };
    __asm__ volatile("lidt %0" : : "m"(t));
}
static void copy_tables(void)
{
    for (u32 i = 0; i < 2; i++) {
        memcpy(tables[i], gdt, sizeof gdt);
        tables[i][THERE / 8] = plain(i);
    }
}

static void another_table(void)
{
    copy_tables();
    for (u32 i = 0; i < 4; i++) {
        hot();
        load_gdt(tables[1], sizeof gdt - 1);
        lands(2), lands(2);
        load_gdt(gdt, sizeof gdt - 1);
    }
    hot();
    load_gdt(gdt, THERE + 6);
    fails(V_GP, THERE);
    load_gdt(gdt, sizeof gdt - 1);
    hot();
}

static void lldt(u16 selector) { __asm__ volatile("lldt %0" : : "r"(selector)); }
static void local_table(void)
{
    static u64 other[2];
    there = LOCAL;
    set_gate(0xe, way->at, 3);
    ldt[1] = plain(0), other[1] = plain(1);
    gdt[SEL_LDT / 8] = descriptor((u32)ldt, sizeof ldt - 1, 0x82, 0);
    lldt(SEL_LDT);
    stored();
    hot();
    gdt[SEL_LDT / 8] = descriptor((u32)other, sizeof other - 1, 0x82, 0);
    lldt(SEL_LDT);
    lands(2);
    gdt[SEL_LDT / 8] = descriptor((u32)ldt, sizeof ldt - 1, 0x82, 0);
    lldt(SEL_LDT);
    hot();
    lldt(0);
    fails(V_GP, LOCAL);
    there = THERE;
    set_gate(0xe, way->at, 3);
}

/* The table's page is another, for all that the table's base is the same. */
static void remapped(void)
{
    copy_tables();
    pte_set(TABLE, (u32)tables[0] | 3);
    invlpg(TABLE);
    load_gdt((const u64 *)TABLE, sizeof gdt - 1);
    for (u32 i = 1; i < 7; i++) {
        hot();
        pte_set(TABLE, (u32)tables[1] | 3);
        if (i & 1) invlpg(TABLE);
        else write_cr3(read_cr3());
        lands(2);
        pte_set(TABLE, (u32)tables[0] | 3);
        invlpg(TABLE);
        lands(1);
    }
    load_gdt(gdt, sizeof gdt - 1);
}

static void gates(void)
{
    const u32 error = VECTOR * 8 + 2;
    hot();
    if (comes_back()) {
        set_gate(0xe, AT_OTHER, 3);
        lands(3);
        set_gate(0xe, way->at, 3);
        hot();
        for (u32 i = 0; i < 4 && !ring; i++) { /* an interrupt gate clears IF, a trap gate does not */
            set_gate(0xe + (i & 1), way->at, 3);
            write_eflags(2 | F_IF);
            lands(1);
            write_eflags(2);
            CHECK_EQ(landed_flags & F_IF, i & 1 ? F_IF : 0);
        }
    }
    set_gate(0xe, way->at, 0);
    if (ring) fails(V_GP, error);
    else lands(1);
    idt_set(VECTOR, gate(there, way->at, 0x6e, 0));
    fails(V_NP, error);
    idt_set(VECTOR, gate(there, way->at, 0xe0, 0));
    fails(V_GP, error);
    idt_set(VECTOR, gate(0, way->at, 0xee, 0));
    fails(V_GP, 0);
    set_gate(0xe, way->at, 3);
    hot();
    load_idt(VECTOR * 8 + 6);
    fails(V_GP, error);
    load_idt(sizeof idt - 1);
    hot();
}

/* IRET loads what its frame and its privilege say. */
static void loaded_flags(void)
{
    static const u32 bits[] = { F_CF, F_SF, F_DF, F_IF, F_IOPL, F_NT, F_AC, F_ID, F_RF, F_CF | F_OF | F_ZF };
    const u32 all = F_CF | F_SF | F_DF | F_NT | F_OF | F_ZF | F_AC | F_ID | F_IF | F_IOPL | F_RF;
    for (u32 i = 0; i < sizeof bits / sizeof bits[0]; i++) {
        u32 may = F_CF | F_SF | F_DF | F_NT | F_OF | F_ZF | (way->size == 4 ? F_AC | F_ID : 0);
        if (!ring) may |= F_IF | F_IOPL;
        flags = 2;
        hot();
        flags = 2 | bits[i];
        for (u32 twice = 0; twice < 2; twice++) {
            lands(1);
            CHECK_EQ(landed_flags & all, bits[i] & may);
        }
    }
    flags = 2 | F_TF; /* one step */
    CHECK_EQ(pass(), 1);
    CHECK_EQ(trap.vector, V_DB);
    CHECK_EQ(trap.eip, AT + 5);
    flags = 2;
    hot();
    if (ring) return;
    write_eflags(2 | F_NT); /* it is the return from a task then, and there is none */
    fails(V_TS, 0);
    flags = 2 | F_NT;
    write_eflags(2 | F_NT);
    fails(V_TS, 0);
    flags = 2;
    write_eflags(2);
    hot();
}

/* A frame across the end of a 16-bit stack: SP wraps around, and the upper half of ESP stays. */
static void small_stack(void)
{
    u32 before = stack;
    ss = STACK16 | ring;
    for (u32 i = 0; i < 3 * HOT; i++) {
        stack = 0x12340000 | (i % 3 ? 0x8000 : 4 * way->size);
        lands(1);
        CHECK_EQ(sp_after, stack);
    }
    for (u32 i = 0; i < 2; i++) { /* two words fit below it, three do not */
        stack = 0x12340000 | 2 * way->size;
        if (way->what == CALL) lands(1);
        stack = 0x12340000 | way->size;
        poke((u32)own_stack + 0x100, 0);
        if (way->what == CALL) { /* one of them below its end */
            lands(1);
            CHECK_EQ(peek((u32)own_stack + 0x100) & 0xffff, HERE | ring);
            CHECK_EQ(peek((u32)own_stack + 0x10100 - way->size) & 0xffff, (u32)way->next - BASE);
        }
        stack = 0x12340000;
        lands(1);
        CHECK_EQ(sp_after, stack);
    }
    stack = before, ss = flat_ss;
}

/* Where it goes to is there, but what it pushes or pops is not, or is beyond the limit: in ring 3, whose stack is not
 * the one that the fault is pushed to. */
static void no_stack(void)
{
    u32 before = stack;
    hot();
    if (way->what != CALL && way->what != INT) return;
    ss = STACK_SHORT | 3; /* nothing below 1000h */
    stack = 0x1000;
    fails(V_SS, 0), fails(V_SS, 0);
    ss = flat_ss;
    stack = before;
    hot();
    if (!(read_cr0() & CR0_PG)) return;
    pte_set(USER_STACK, 0);
    pte_set(USER_STACK + PAGE, (u32)own_stack | 7);
    invlpg(USER_STACK);
    for (u32 i = 0; i < HOT; i++) {
        static const u32 offset[HOT] = { 2, 2, 2, 0, 0x20, 0x20 };
        stack = USER_STACK + PAGE + offset[i];
        if (i == 3) { /* there, but the kernel's */
            pte_set(USER_STACK, (u32)own_stack | 3);
            invlpg(USER_STACK);
            poke(USER_STACK + PAGE - 0x10, 0);
        }
        if (i >= 4) lands(1);
        else fails(V_PF, i == 3 ? 7 : 6);
    }
    stack = before;
}

/* The segmented code itself changes what it will go through next. */
static u64 turns[2];
static u32 sum;
__asm__(".pushsection .text\nturning: movl %esp, %esi; movl $2000, %ecx\n"
        "1: movl %ecx, %ebx; andl $1, %ebx; movl turns(,%ebx,8), %eax; movl turns+4(,%ebx,8), %edx\n"
        "movl %eax, gdt+0x48; movl %edx, gdt+0x4c; lcall *to; addl %eax, sum; loop 1b\n"
        "lret\n.popsection\n");
extern const u8 turning[];
static void turn(void *unused)
{
    struct {
        u32 offset;
        u16 selector;
    } __attribute__((packed)) entry = { (u32)turning - BASE, HERE };
    (void)unused;
    __asm__ volatile("lcall *%0" : : "m"(entry) : "eax", "ebx", "ecx", "edx", "esi", "cc", "memory");
}
static void by_itself(void)
{
    section("changed by the code itself");
    ring = 0;
    gdt[HERE / 8] = descriptor(BASE, 0xffff, SEG_CODE, SEG_BIG);
    turns[0] = plain(0), turns[1] = plain(1);
    to[0] = AT_RETF, to[1] = THERE;
    sum = 0;
    CHECK_EQ(caught(turn, NULL), 0);
    CHECK_EQ(sum, 3000);
    sum = 0, turns[1] &= ~(1ull << 40); /* one of them never accessed */
    CHECK_EQ(caught(turn, NULL), 0);
    CHECK_EQ(sum, 3000);
    turns[0] = plain(0) & ~(1ull << 47);
    CHECK_TRAPS(turn, 0, V_NP, THERE);
}
_Static_assert(THERE == 0x48, "as the instructions above have it");

/* Of 32 and of 16 bits; IN is nothing that a monitor translates. */
static void of_two_sizes(void)
{
    static const u8 body16[] = { 0xb8, 5, 0, 0xe4, 0x61, 0xb8, 6, 0, 0x66, 0xcb };
    section("of two sizes");
    way = &ways[10], ring = 0, flat_ss = ss = SEL_KDATA;
    memcpy(pages[1] + AT_RETF, body16, sizeof body16);
    gdt[THERE / 8] = plain(0);
    gdt[THERE16 / 8] = descriptor((u32)pages[1], LIMIT, SEG_CODE, 0);
    for (u32 i = 0; i < 60; i++) {
        there = i & 1 ? THERE16 : THERE;
        lands(i & 1 ? 6 : 1);
    }
    put_code(pages[1], 2);
}

/* More segments than a monitor will keep account of, and then the first ones again. */
static void many(void)
{
    enum { MANY = 1500 };
    section("many code segments");
    way = &ways[10], ring = 0, flat_ss = ss = SEL_KDATA;
    for (u32 i = 0; i < 2 * MANY; i++) {
        u32 n = i < MANY ? i : i % 7;
        to[0] = AT_RETF + 16 * n, to[1] = THERE;
        gdt[THERE / 8] = descriptor((u32)pages[n & 1] - 16 * n, 0xffff, SEG_CODE, SEG_BIG);
        landed = 0;
        CHECK_EQ(caught(go_here, NULL), 0);
        CHECK_EQ(landed, 1 + (n & 1));
    }
}

static void everything(void)
{
    section(way->name);
    gdt[HERE / 8] = descriptor(BASE, 0xffff, of_ring(SEG_CODE), SEG_BIG);
    gdt[THERE / 8] = plain(0);
    gdt[STACK16 / 8] = descriptor((u32)own_stack + 0x100, 0x10eff, of_ring(SEG_DATA), 0);
    gdt[STACK_SHORT / 8] = descriptor((u32)own_stack, 0xfff, of_ring(SEG_EXPAND_DOWN), SEG_BIG);
    there = THERE;
    flags = 2;
    flat_ss = ss = ring ? SEL_UDATA : SEL_KDATA;
    stack = (u32)own_stack + PAGE;
    set_gate(0xe, way->at, 3);
    hot();
    beyond();
    reads();
    stored();
    another_table();
    local_table();
    if (read_cr0() & CR0_PG) remapped();
    if (way->what == INT) gates();
    if (way->what == IRET) loaded_flags();
    if (!comes_back()) small_stack();
    if (ring) no_stack();
}

void guest_main(void)
{
    for (u32 i = 0; i < 2; i++) {
        pages[i] = page_alloc();
        put_code(pages[i], (u8)(i + 1));
        tables[i] = page_alloc();
    }
    own_stack = pages_alloc(17, PAGE);
    for (u32 paging = 0; paging < 2; paging++) {
        if (paging) paging_start(false, false);
        for (ring = 0; ring <= 3; ring += 3)
            for (u32 i = 0; i < WAYS; i++) {
                way = &ways[i];
                everything();
            }
        by_itself();
        of_two_sizes();
        many();
    }
}
