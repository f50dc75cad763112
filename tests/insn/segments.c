/* Segments: bases and limits at work in every kind of access, expand-down and read-only and execute-only segments, and
 * the checks that loading a segment register makes. SDM vol. 3, 3.4.5, 5.3, 5.6; vol. 2, MOV, LDS, LAR, LSL, VERR,
 * ARPL. QEMU 7.2 departs: it checks neither limits nor types nor null selectors on ordinary accesses. */
#include "rt.h"

const char guest_name[] = "segments";

enum { S0 = TEST_SEL(0), S1 = TEST_SEL(1), S2 = TEST_SEL(2) };

static u8 *memory;                                             /* 64 KiB to lay segments over */
static u32 base;

/* Accesses through FS, which has been loaded by the caller; the offset is the argument. */
static void fs_load8(void *o) { __asm__ volatile("movb %%fs:(%0), %%al" : : "r"(o) : "eax", "memory"); }
static void fs_load32(void *o) { __asm__ volatile("movl %%fs:(%0), %%eax" : : "r"(o) : "eax", "memory"); }
static void fs_store8(void *o) { __asm__ volatile("movb $0x5a, %%fs:(%0)" : : "r"(o) : "memory"); }
static void fs_store32(void *o) { __asm__ volatile("movl $0x5a5a5a5a, %%fs:(%0)" : : "r"(o) : "memory"); }
static void fs_add32(void *o) { __asm__ volatile("addl $1, %%fs:(%0)" : : "r"(o) : "memory", "cc"); }
static void fs_push(void *o) { __asm__ volatile("pushl %%fs:(%0); popl %%eax" : : "r"(o) : "eax", "memory"); }
static void fs_movs(void *o)
{
    u32 d = (u32)user_stack, s = (u32)o, n = 4;
    __asm__ volatile("rep movsl %%fs:(%%esi), %%es:(%%edi)" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
}
static void gs_load32(void *o) { __asm__ volatile("movl %%gs:(%0), %%eax" : : "r"(o) : "eax", "memory"); }
static void es_stos(void *o)
{
    u32 d = (u32)o, n = 4;
    __asm__ volatile("pushl %%es; movl %%fs, %%eax; movl %%eax, %%es; rep stosl; popl %%es" : "+D"(d),
        "+c"(n) : : "eax", "memory");
}

static u32 load_fs(u32 selector)
{
    __asm__ volatile("movl %0, %%fs" : : "r"(selector) : "memory");
    return 0;
}

static u32 fs_peek(u32 offset)
{
    u32 v;
    __asm__ volatile("movl %%fs:(%1), %0" : "=r"(v) : "r"(offset));
    return v;
}

static void fs_poke(u32 offset, u32 v)
{
    __asm__ volatile("movl %0, %%fs:(%1)" : : "r"(v), "r"(offset) : "memory");
}

static void fs(u32 seg_base, u32 limit, u8 access, u8 flags)
{
    gdt[S0 / 8] = descriptor(seg_base, limit, access, flags);
    load_fs(S0);
}

/* caught() gives FS back flat when it unwinds: load it anew each time. */
#define GP(fn, offset) do { load_fs(S0); CHECK_TRAPS(fn, offset, V_GP, 0); } while (0)
#define FINE(fn, offset) do { load_fs(S0); CHECK_EQ(caught(fn, (void *)(offset)), 0); } while (0)

/* A register from memory that it leads to itself: the selector is where the register leads before. What the flat one
 * has there and what the new one has differ. */
static void load_ds_by_ds(void)
{
    u32 got;
    section("DS from memory by DS");
    gdt[S1 / 8] = descriptor(PAGE, 0xfffff, SEG_DATA, SEG_BIG | SEG_GRAN);
    for (u32 i = 0; i < 3; i++) {
        poke(base, S1), poke(base + PAGE, SEL_KDATA);
        __asm__ volatile("movw (%1), %%ds; movl %%ds, %0; pushl %%ss; popl %%ds" : "=&r"(got) : "r"(memory) : "memory");
        CHECK_EQ(got & 0xffff, S1);
    }
    poke(base + PAGE, 0);
}

static void bases(void)
{
    section("bases");
    for (u32 b = 0; b < 64; b += 21) {
        fs(base + b, 0xffff, SEG_DATA, SEG_BIG);
        fs_poke(0x100, 0x11220000 + b);
        CHECK_EQ(peek(base + b + 0x100), 0x11220000 + b);
        poke(base + b + 0x104, b);
        CHECK_EQ(fs_peek(0x104), b);
    }
    /* Base plus offset wraps at 4 GiB. */
    fs(base + 0x1000, 0xfffff, SEG_DATA, SEG_BIG | SEG_GRAN);
    poke(base + 0x10, 0xabcdef01);
    CHECK_EQ(fs_peek(0x10 - 0x1000), 0xabcdef01);
    /* A base that is changed in the descriptor is not seen before the register is loaded again. */
    fs(base, 0xffff, SEG_DATA, SEG_BIG);
    poke(base, 1), poke(base + 0x200, 2);
    gdt[S0 / 8] = descriptor(base + 0x200, 0xffff, SEG_DATA, SEG_BIG);
    CHECK_EQ(fs_peek(0), 1);
    load_fs(S0);
    CHECK_EQ(fs_peek(0), 2);
    /* Hot code with changing bases. */
    for (u32 i = 0; i < 200; i++) {
        poke(base + i * 16, i);
        fs(base + i * 16, 15, SEG_DATA, SEG_BIG);
        CHECK_EQ(fs_peek(0), i);
    }
}

static void limits(void)
{
    section("limits, byte granular");
    fs(base, 0x7ff, SEG_DATA, SEG_BIG);
    for (int twice = 0; twice < 2; twice++) {
        FINE(fs_load8, 0x7ff);
        GP(fs_load8, 0x800);
        FINE(fs_load32, 0x7fc);
        GP(fs_load32, 0x7fd);
        GP(fs_load32, 0x800);
        GP(fs_load32, 0xffffffff);
        FINE(fs_store8, 0x7ff);
        GP(fs_store8, 0x800);
        FINE(fs_store32, 0x7fc);
        GP(fs_store32, 0x7fe);
        FINE(fs_add32, 0x7fc);
        GP(fs_add32, 0x7ff);
        FINE(fs_push, 0x7fc);
        GP(fs_push, 0x7fd);
        FINE(fs_movs, 0x7f0);
        GP(fs_movs, 0x7f4);
        CHECK_EQ(trap.ecx, 1);                                 /* three of four were done */
        CHECK_EQ(trap.esi, 0x800);
        GP(es_stos, 0x7f8);
        CHECK_EQ(trap.ecx, 2);
        CHECK_EQ(trap.edi, 0x800);
    }
    poke(base + 0x7fc, 0x01020304);
    GP(fs_store32, 0x7fe);
    CHECK_EQ(peek(base + 0x7fc), 0x01020304);                  /* nothing of it was written */
    section("limits, page granular");
    fs(base, 1, SEG_DATA, SEG_BIG | SEG_GRAN);
    FINE(fs_load8, 0x1fff);
    GP(fs_load8, 0x2000);
    section("limit of one byte");
    fs(base, 0, SEG_DATA, SEG_BIG);
    FINE(fs_load8, 0);
    GP(fs_load8, 1);
    GP(fs_load32, 0);
    section("expand-down");
    fs(base, 0x7ff, SEG_EXPAND_DOWN, SEG_BIG);                 /* 0x800 to 4 GiB */
    GP(fs_load8, 0x7ff);
    FINE(fs_load8, 0x800);
    GP(fs_load32, 0x7fe);
    FINE(fs_store32, 0x1000);
    fs(base, 0x7ff, SEG_EXPAND_DOWN, 0);                       /* 0x800 to 64 KiB */
    FINE(fs_load8, 0xffff);
    GP(fs_load8, 0x10000);
    GP(fs_load32, 0xfffe);
    GP(fs_load8, 0);
}

static void types(void)
{
    section("read-only, execute-only");
    fs(base, 0xffff, SEG_DATA_RO, SEG_BIG);
    FINE(fs_load32, 0);
    GP(fs_store32, 0);
    GP(fs_add32, 0);
    fs(base, 0xffff, SEG_CODE, SEG_BIG);                       /* readable code */
    FINE(fs_load32, 0);
    GP(fs_store8, 0);
    section("null selector");
    load_fs(0);
    CHECK_TRAPS(fs_load32, 0, V_GP, 0);
    load_fs(3);
    CHECK_TRAPS(fs_store32, 0, V_GP, 0);
    __asm__ volatile("movl %0, %%gs" : : "r"(0));
    CHECK_TRAPS(gs_load32, base, V_GP, 0);
}

static void cs_store(void *o) { __asm__ volatile("movl %%eax, %%cs:(%0)" : : "r"(o) : "memory"); }
static void cs_load(void *o) { __asm__ volatile("movl %%cs:(%0), %%eax" : : "r"(o) : "eax", "memory"); }
static void load_fs_k(void *s) { load_fs((u32)s); }
static void load_ss(void *s) { __asm__ volatile("movl %%ss, %%ecx; movl %0, %%ss; movl %%ecx, %%ss"
        : : "r"(s) : "ecx"); }
static void pop_ds(void *s) { __asm__ volatile("movl %%ds, %%ecx; pushl %0; popl %%ds; movl %%ecx, %%ds"
        : : "r"(s) : "ecx"); }
static void lss(void *s)
{
    struct { u32 offset; u16 selector; } __attribute__((packed)) p = {0, (u16)(u32)s};
    __asm__ volatile("movl %%esp, %0; lss %0, %%esp; movw %1, %%ss" : "+m"(p) : "r"((u16)SEL_KDATA));
}
static void lfs(void *s)
{
    struct { u32 offset; u16 selector; } __attribute__((packed)) p = {0x12345678, (u16)(u32)s};
    u32 v;
    __asm__ volatile("lfs %1, %0" : "=r"(v) : "m"(p));
    if (v != 0x12345678)
        __asm__ volatile("ud2");
}
static void far_jump(void *s)
{
    struct { u32 offset; u16 selector; } __attribute__((packed)) p = {0, (u16)(u32)s};
    __asm__ volatile("movl $1f, %0; ljmp *%0; 1: ljmp %1, $2f; 2:" : "+m"(p) : "i"(SEL_KCODE) : "memory");
}
static void lldt(void *s) { __asm__ volatile("lldt %w0" : : "r"(s)); }
static void ltr(void *s) { __asm__ volatile("ltr %w0" : : "r"(s)); }

static void loads(void)
{
    struct { u32 selector; u64 descriptor; const char *name; } bad[] = {
        {S0, 0, "no descriptor"},
        {S0, descriptor(base, 0xffff, SEG_CODE_XO, SEG_BIG), "execute-only"},
        {S0, descriptor(base, 0xffff, 0x89, 0), "TSS"},
        {S0, gate(SEL_KCODE, 0, 0x8c, 0), "call gate"},
    };

    section("loads that fail with #GP");
    gdt[S1 / 8] = descriptor(base, 0xffff, SEG_CODE, SEG_BIG);
    CHECK_TRAPS(cs_store, base, V_GP, 0);
    CHECK_EQ(caught(cs_load, (void *)base), 0);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        section(bad[i].name);
        gdt[S0 / 8] = bad[i].descriptor;
        CHECK_TRAPS(load_fs_k, bad[i].selector, V_GP, S0);
        CHECK_TRAPS(lfs, bad[i].selector, V_GP, S0);
        CHECK_TRAPS(pop_ds, bad[i].selector, V_GP, S0);
        CHECK_TRAPS(load_ss, bad[i].selector, V_GP, S0);
    }
    section("beyond the table");
    CHECK_TRAPS(load_fs_k, sizeof(gdt), V_GP, sizeof(gdt));
    CHECK_TRAPS(load_fs_k, 0xfffb, V_GP, 0xfff8);
    CHECK_TRAPS(load_fs_k, 0x14, V_GP, 0x14);                  /* no LDT is loaded */
    section("stack segment");
    CHECK_TRAPS(load_ss, 0, V_GP, 0);
    gdt[S0 / 8] = descriptor(0, 0xfffff, SEG_DATA_RO, SEG_BIG | SEG_GRAN);
    CHECK_TRAPS(load_ss, S0, V_GP, S0);
    gdt[S0 / 8] = descriptor(0, 0xfffff, SEG_DATA | SEG_DPL3, SEG_BIG | SEG_GRAN);
    CHECK_TRAPS(load_ss, S0, V_GP, S0);
    CHECK_TRAPS(load_ss, S0 | 3, V_GP, S0);
    CHECK_TRAPS(load_ss, SEL_KDATA | 3, V_GP, SEL_KDATA);
    gdt[S0 / 8] = descriptor(0, 0xfffff, SEG_DATA & 0x7f, SEG_BIG | SEG_GRAN);
    CHECK_TRAPS(load_ss, S0, V_SS, S0);
    CHECK_TRAPS(lss, S0, V_SS, S0);
    gdt[S0 / 8] = descriptor(0, 0xfffff, SEG_DATA, SEG_BIG | SEG_GRAN);
    CHECK_EQ(caught(load_ss, (void *)S0), 0);
    CHECK_EQ(caught(lss, (void *)S0), 0);
    section("not present");
    gdt[S0 / 8] = descriptor(base, 0xffff, SEG_DATA & 0x7f, SEG_BIG);
    CHECK_TRAPS(load_fs_k, S0, V_NP, S0);
    CHECK_TRAPS(lfs, S0, V_NP, S0);
    CHECK_TRAPS(pop_ds, S0, V_NP, S0);
    section("conforming code may be read by all");
    gdt[S0 / 8] = descriptor(base, 0xffff, SEG_CODE_CONF, SEG_BIG);
    CHECK_EQ(ring3(load_fs, S0 | 3), 0);
    gdt[S0 / 8] = descriptor(base, 0xffff, SEG_CODE, SEG_BIG);
    CHECK_EQ(ring3(load_fs, S0 | 3), 1);
    CHECK_EQ(trap.vector, V_GP);
    CHECK_EQ(trap.error, S0);
    CHECK_EQ(ring3(load_fs, SEL_KDATA), 1);
    CHECK_EQ(trap.error, SEL_KDATA);
    gdt[S0 / 8] = descriptor(base, 0xffff, SEG_DATA | SEG_DPL3, SEG_BIG);
    CHECK_EQ(ring3(load_fs, S0), 0);                           /* RPL 0 from CPL 3 is weaker, not stronger */
    CHECK_EQ(ring3(load_fs, 0), 0);
    gdt[S0 / 8] = descriptor(base, 0xffff, 0x92 | 0x20, SEG_BIG);      /* DPL 1 */
    CHECK_EQ(caught(load_fs_k, (void *)(S0 | 1)), 0);
    CHECK_TRAPS(load_fs_k, S0 | 2, V_GP, S0);                  /* RPL 2 > DPL 1 */
    section("accessed bit");
    gdt[S0 / 8] = descriptor(base, 0xffff, 0x92, SEG_BIG);
    load_fs(S0);
    CHECK_EQ((u32)(gdt[S0 / 8] >> 40) & 0xff, 0x93);
    section("code segments");
    gdt[S0 / 8] = descriptor(0, 0xfffff, SEG_CODE & 0x7f, SEG_BIG | SEG_GRAN);
    CHECK_TRAPS(far_jump, S0, V_NP, S0);
    gdt[S0 / 8] = descriptor(0, 0xfffff, SEG_DATA, SEG_BIG | SEG_GRAN);
    CHECK_TRAPS(far_jump, S0, V_GP, S0);
    gdt[S0 / 8] = descriptor(0, 0xfffff, SEG_CODE | SEG_DPL3, SEG_BIG | SEG_GRAN);
    CHECK_TRAPS(far_jump, S0, V_GP, S0);
    CHECK_TRAPS(far_jump, 0, V_GP, 0);
    gdt[S0 / 8] = descriptor(0, 0xff, SEG_CODE, SEG_BIG);      /* the target lies beyond the limit */
    CHECK_TRAPS(far_jump, S0, V_GP, 0);
    gdt[S0 / 8] = descriptor(0, 0xfffff, SEG_CODE, SEG_BIG | SEG_GRAN);
    CHECK_EQ(caught(far_jump, (void *)S0), 0);
    section("LDT and TR");
    CHECK_TRAPS(lldt, S0, V_GP, S0);
    CHECK_TRAPS(ltr, S0, V_GP, S0);
    CHECK_TRAPS(ltr, SEL_TSS, V_GP, SEL_TSS);                  /* busy: it is in use */
    gdt[S0 / 8] = descriptor((u32)ldt, sizeof(ldt) - 1, 0x02, 0);
    CHECK_TRAPS(lldt, S0, V_NP, S0);
    CHECK_EQ(caught(lldt, (void *)SEL_LDT), 0);
    ldt[1] = descriptor(base + 0x300, 0xff, SEG_DATA, SEG_BIG);
    poke(base + 0x300, 0x1d71d7);
    load_fs(1 << 3 | 4);
    CHECK_EQ(fs_peek(0), 0x1d71d7);
    CHECK_TRAPS(load_fs_k, 16 << 3 | 4, V_GP, 16 << 3 | 4);
    load_fs(SEL_KDATA);
    CHECK_EQ(caught(lldt, 0), 0);
}

/* Non-flat CS, DS and SS: code that runs at another EIP than linear address, and a stack elsewhere. */
static void other_base_code(void *unused)
{
    u32 eip = 0, popped = 0;

    (void)unused;
    u8 *code = memory + 0x4000;
    static const u8 body[] = {0xe8, 0, 0, 0, 0, 0x58, 0xcb};   /* call next; next: pop eax; lret */
    memcpy(code, body, sizeof(body));
    gdt[S1 / 8] = descriptor(base + 0x4000 - 0x10, 0xfff, SEG_CODE, SEG_BIG);
    struct { u32 offset; u16 selector; } __attribute__((packed)) p = {0x10, S1};
    __asm__ volatile("lcall *%1" : "=a"(eip) : "m"(p) : "memory");
    CHECK_EQ(eip, 0x15);
    gdt[S2 / 8] = descriptor(base + 0x8000, 0xfff, SEG_DATA, SEG_BIG);
    __asm__ volatile("movl %%esp, %%esi; movl %%ss, %%edi; movl %1, %%ss; movl $0x800, %%esp; pushl $0x77; "
        "pushl $0x88; popl %0; "
                     "movl %%edi, %%ss; movl %%esi, %%esp" : "=&a"(popped) : "r"(S2) : "esi", "edi", "memory");
    CHECK_EQ(popped, 0x88);
    CHECK_EQ(peek(base + 0x8000 + 0x7fc), 0x77);
}

/* A code segment with a base and no limit, across the end of a page, round and round. */
static void based_code(void *unused)
{
    u32 calls = 0, eip = 0, fetched;
    (void)unused;
    static const u8 body[] = {0xb9, 0xe8, 3, 0, 0,             /* 10: mov ecx, 1000                 */
                              0xe8, 0x26, 0, 0, 0,             /* 15: call 40h, on the next page    */
                              0xe2, 0xf9,                      /* 1a: loop 15h                      */
                              0xe8, 0, 0, 0, 0, 0x5a,          /* 1c: call 21h; pop edx             */
                              0x2e, 0x8b, 0x1d, 0x10, 0, 0, 0, /* 22: mov ebx, cs:[10h]             */
                              0xcb};                           /* 29: lret                          */
    static const u8 callee[] = {0x40, 0xc3};                   /* 40: inc eax; ret                  */
    memcpy(memory + 0x4fe0, body, sizeof(body));
    memcpy(memory + 0x5010, callee, sizeof(callee));
    gdt[S1 / 8] = descriptor(base + 0x4fd0, 0xfffff, SEG_CODE, SEG_BIG | SEG_GRAN);
    struct { u32 offset; u16 selector; } __attribute__((packed)) p = {0x10, S1};
    __asm__ volatile("lcall *%3" : "+a"(calls), "=d"(eip), "=b"(fetched) : "m"(p) : "ecx", "memory", "cc");
    CHECK_EQ(calls, 1000);
    CHECK_EQ(eip, 0x21);
    CHECK_EQ(fetched, 0x0003e8b9);
}

/* The last byte of a segment of 4 GiB lies within its limit; behind it EIP is 0. */
static void last_byte(void *unused)
{
    u32 count = 0;
    struct { u32 offset; u16 selector; } __attribute__((packed)) p = {0xffffffff, S1};
    (void)unused;
    memory[0x6000] = 0x40, memory[0x6001] = 0xcb;              /* ffffffff: inc eax; 0: lret */
    gdt[S1 / 8] = descriptor(base + 0x6001, 0xfffff, SEG_CODE, SEG_BIG | SEG_GRAN);
    __asm__ volatile("lcall *%1" : "+a"(count) : "m"(p) : "memory", "cc");
    CHECK_EQ(count, 1);
}

/* An instruction that begins in it goes on at 0, in 32-bit and in 16-bit code, within a page and across two. */
static void across_last_byte(void *at)
{
    static const u8 body[2][8] = {{0xb8, 0x78, 0x56, 0x34, 0x12, 0xcb},        /* mov eax, 12345678h; lret */
                                  {0x66, 0xb8, 0x78, 0x56, 0x34, 0x12, 0x66, 0xcb}};
    struct { u32 offset; u16 selector; } __attribute__((packed)) p = {0xffffffff, S1};
    for (u32 wide = 0; wide < 2; wide++) {
        u32 loaded = 0;
        memcpy(memory + (u32)at, body[!wide], 8);
        gdt[S1 / 8] = descriptor(base + (u32)at + 1, 0xfffff, SEG_CODE, SEG_GRAN | (wide ? SEG_BIG : 0));
        __asm__ volatile("lcall *%1" : "+a"(loaded) : "m"(p) : "memory", "cc");
        CHECK_EQ(loaded, 0x12345678);
    }
}

static void based_fault(void *unused)
{
    (void)unused;
    static const u8 body[] = {0x31, 0xc9, 0xf7, 0xf1, 0xcb};   /* xor ecx, ecx; div ecx; lret */
    memcpy(memory + 0x4fe0, body, sizeof(body));
    struct { u32 offset; u16 selector; } __attribute__((packed)) p = {0x10, S1};
    __asm__ volatile("lcall *%0" : : "m"(p) : "eax", "ecx", "edx", "memory", "cc");
}

static void run_past_limit(void *unused)
{
    struct { u32 offset; u16 selector; } __attribute__((packed)) p = {0, S1};

    (void)unused;
    __asm__ volatile("lcall *%0" : : "m"(p) : "memory");
}

/* A monitor may remember what a load came to: a descriptor that is another, or no longer accessed, is loaded anew. */
static void loads_again(void)
{
    section("the same selector, again and again");
    poke(base, 1), poke(base + 0x200, 2);
    for (u32 i = 0; i < 48; i++) {
        u32 at = i / 4 % 2 ? 0x200 : 0;
        gdt[S0 / 8] = descriptor(base + at, 0xffff, i % 8 == 6 ? SEG_DATA & ~1 : SEG_DATA, SEG_BIG);
        load_fs(S0);
        CHECK_EQ(fs_peek(0), at ? 2 : 1);
        CHECK_EQ((u32)(gdt[S0 / 8] >> 40) & 1, 1);
    }
    gdt[S0 / 8] = descriptor(base, 0xffff, SEG_DATA & 0x7f, SEG_BIG);
    CHECK_TRAPS(load_fs_k, S0, V_NP, S0);
    gdt[S0 / 8] = descriptor(base, 0xffff, SEG_DATA, SEG_BIG);
    load_fs(S0);
    CHECK_EQ(fs_peek(0), 1);
}

static void code_limits(void)
{
    section("code beyond the limit");
    gdt[S1 / 8] = descriptor(base + 0x4000, 0x1f, SEG_CODE, SEG_BIG);
    memset(memory + 0x4000, 0x90, 0x40);
    /* lret: where no limit is checked, this is how it ends */
    memory[0x4040] = 0xcb;
    CHECK_TRAPS(run_past_limit, 0, V_GP, 0);
    CHECK_EQ(trap.eip, 0x20);
    CHECK_EQ(trap.cs, S1);
    memory[0x4000 + 0x1e] = 0xb8;                              /* an instruction that reaches over the limit */
    CHECK_TRAPS(run_past_limit, 0, V_GP, 0);
    CHECK_EQ(trap.eip, 0x1e);
    memory[0x4000 + 0x1e] = 0xeb, memory[0x4000 + 0x1f] = 0x10;        /* a jump beyond it: the jump faults */
    CHECK_TRAPS(run_past_limit, 0, V_GP, 0);
    CHECK_EQ(trap.eip, 0x1e);
    /* That no processor knows it is decided by bytes within the limit, whatever lies behind. */
    memcpy(memory + 0x4000 + 0x1c, "\x66\x0f\xae\x5e", 4);
    for (int i = 0; i < 3; i++) {
        CHECK_TRAPS(run_past_limit, 0, V_UD, 0);
        CHECK_EQ(trap.eip, 0x1c);
    }
}

/* The limit comes before the page behind it, which is not there (SDM vol. 3, 6.9). */
static void limit_before_page(void)
{
    enum { AT = 0x50000000 };

    section("code beyond the limit, and no page there");
    pte_set(AT, (base + 0x4000) | 3);
    memset(memory + 0x4000, 0x90, PAGE);
    gdt[S1 / 8] = descriptor(AT + 0xff0, 0xf, SEG_CODE, SEG_BIG);
    for (int i = 0; i < 3; i++) {
        CHECK_TRAPS(run_past_limit, 0, V_GP, 0);
        CHECK_EQ(trap.eip, 0x10);
    }
    memory[0x4ffe] = 0xb8; /* an instruction that reaches over both */
    for (int i = 0; i < 3; i++) {
        CHECK_TRAPS(run_past_limit, 0, V_GP, 0);
        CHECK_EQ(trap.eip, 0xe);
    }
    gdt[S1 / 8] = descriptor(AT + 0xff0, 0x10, SEG_CODE, SEG_BIG);
    CHECK_TRAPS(run_past_limit, 0, V_PF, 0);
    CHECK_EQ(trap.cr2, AT + PAGE);
}

static void data_segment(void *unused)
{
    u32 direct, stringed;

    (void)unused;
    /* DS and ES of their own: plain accesses and string instructions go where the bases say. */
    gdt[S0 / 8] = descriptor(base + 0x1000, 0xfff, SEG_DATA, SEG_BIG);
    gdt[S2 / 8] = descriptor(base + 0x2000, 0xfff, SEG_DATA, SEG_BIG);
    poke(base + 0x1010, 0xc0de0001);
    __asm__ volatile("movl %2, %%ds; movl %3, %%es; movl 0x10, %%eax; movl $0x10, %%esi; movl $0x20, %%edi; movsl; "
        "movl %%es:0x20, %%ecx; "
                     "movl %4, %%ds; movl %4, %%es" : "=&a"(direct), "=&c"(stringed) : "r"(S0), "r"(S2),
                         "r"(SEL_KDATA) : "esi", "edi", "memory");
    CHECK_EQ(direct, 0xc0de0001);
    CHECK_EQ(stringed, 0xc0de0001);
    CHECK_EQ(peek(base + 0x2020), 0xc0de0001);
}

static void ds_over_limit(void *offset)
{
    __asm__ volatile("movl %1, %%ds; movl (%0), %%eax; movl %2, %%ds" : : "r"(offset), "r"(S0), "r"(SEL_KDATA) : "eax");
}

static void query(void)
{
    u32 value, zf;

    section("LAR, LSL, VERR, VERW, ARPL");
#define ASK(insn, selector) \
    (value = 0xdead, ({ __asm__ volatile(insn " %2, %0; sete %b1" : "+r"(value), \
        "=q"(zf) : "r"((u32)(selector)) : "cc"); }), zf & 1)
    gdt[S0 / 8] = descriptor(base, 0x12345, SEG_DATA, SEG_BIG | SEG_GRAN);
    CHECK_EQ(ASK("lar", S0), 1);
    CHECK_EQ(value & 0xf0ff00, 0xc09300);                       /* bits 16-19 are left undefined */
    CHECK_EQ(ASK("lsl", S0), 1);
    CHECK_EQ(value, 0x12345fff);
    gdt[S0 / 8] = descriptor(base, 0x345, SEG_CODE_XO, SEG_BIG);
    CHECK_EQ(ASK("lsl", S0), 1);
    CHECK_EQ(value, 0x345);
    CHECK_EQ(ASK("lar", 0), 0);
    CHECK_EQ(value, 0xdead);
    CHECK_EQ(ASK("lsl", 0xfff8), 0);
    CHECK_EQ(value, 0xdead);
    gdt[S0 / 8] = gate(SEL_KCODE, 0, 0x8c, 0);
    CHECK_EQ(ASK("lar", S0), 1);
    CHECK_EQ(ASK("lsl", S0), 0);
    gdt[S0 / 8] = gate(SEL_KCODE, 0, 0x8e, 0);                 /* an interrupt gate: neither */
    CHECK_EQ(ASK("lar", S0), 0);
    CHECK_EQ(ASK("lar", SEL_TSS), 1);
    CHECK_EQ(ASK("lsl", SEL_TSS), 1);
    CHECK_EQ(value, sizeof(struct tss) - 1);
#define VERIFY(insn, selector) ({ __asm__ volatile(insn " %w1; sete %b0" : "=q"(zf) : "r"((u32)(selector)) : "cc"); \
    zf & 1; })
    gdt[S0 / 8] = descriptor(base, 0, SEG_DATA_RO, 0);
    CHECK_EQ(VERIFY("verr", S0), 1);
    CHECK_EQ(VERIFY("verw", S0), 0);
    gdt[S0 / 8] = descriptor(base, 0, SEG_CODE_XO, 0);
    CHECK_EQ(VERIFY("verr", S0), 0);
    CHECK_EQ(VERIFY("verr", 0), 0);
    CHECK_EQ(VERIFY("verw", SEL_KDATA), 1);
    CHECK_EQ(VERIFY("verw", SEL_KDATA | 3), 0);
    u16 selector = 0x10;
    __asm__ volatile("arpl %w2, %w0; sete %b1" : "+r"(selector), "=q"(zf) : "r"(3) : "cc");
    CHECK_EQ(selector, 0x13);
    CHECK_EQ(zf & 1, 1);
    __asm__ volatile("arpl %w2, %w0; sete %b1" : "+r"(selector), "=q"(zf) : "r"(1) : "cc");
    CHECK_EQ(selector, 0x13);
    CHECK_EQ(zf & 1, 0);
}

static void stores(void)
{
    u32 v;

    section("stores of segment registers");
    __asm__ volatile("movl %%cs, %0" : "=r"(v));
    CHECK_EQ(v, SEL_KCODE);
    u32 word = 0xffffffff;
    __asm__ volatile("movw %%ds, %0" : "+m"(word));
    CHECK_EQ(word, 0xffff0000 | SEL_KDATA);
    __asm__ volatile("pushl %%es; popl %0" : "=r"(v));
    CHECK_EQ(v & 0xffff, SEL_KDATA);
    struct { u16 limit; u32 base; } __attribute__((packed)) t;
    __asm__ volatile("sgdt %0" : "=m"(t));
    CHECK_EQ(t.limit, sizeof(gdt) - 1);
    CHECK_EQ(t.base, (u32)gdt);
    __asm__ volatile("sidt %0" : "=m"(t));
    CHECK_EQ(t.limit, sizeof(idt) - 1);
    CHECK_EQ(t.base, (u32)idt);
    __asm__ volatile("str %w0" : "=r"(v));
    CHECK_EQ(v & 0xffff, SEL_TSS);
    __asm__ volatile("sldt %w0" : "=r"(v));
    CHECK_EQ(v & 0xffff, 0);
    __asm__ volatile("smsw %w0" : "=r"(v));
    CHECK_EQ(v & 0xffff, read_cr0() & 0xffff);
}

void guest_main(void)
{
    memory = pages_alloc(16, PAGE);
    base = (u32)memory;
    for (int paging = 0; paging < 2; paging++) {
        if (paging)
            paging_start(false, false);
        memset(memory, 0, 16 * PAGE);
        load_ds_by_ds();
        bases();
        limits();
        types();
        loads();
        loads_again();
        section("code and stack elsewhere");
        for (int i = 0; i < 3; i++) {
            CHECK_EQ(caught(other_base_code, NULL), 0);
            CHECK_EQ(caught(data_segment, NULL), 0);
            CHECK_EQ(caught(last_byte, NULL), 0);
            CHECK_EQ(caught(across_last_byte, (void *)0x6000), 0);
            CHECK_EQ(caught(across_last_byte, (void *)0x6ffd), 0);
            CHECK_EQ(caught(based_code, NULL), 0);
            CHECK_TRAPS(based_fault, 0, V_DE, 0);
            CHECK_EQ(trap.eip, 0x12);
            CHECK_EQ(trap.cs, S1);
        }
        code_limits();
        if (paging)
            limit_before_page();
        section("plain accesses beyond the limit");
        gdt[S0 / 8] = descriptor(base, 0xfff, SEG_DATA, SEG_BIG);
        CHECK_EQ(caught(ds_over_limit, (void *)0xffc), 0);
        CHECK_TRAPS(ds_over_limit, 0xffd, V_GP, 0);
        CHECK_EQ(caught(ds_over_limit, (void *)0), 0);
        query();
        stores();
        if (paging)
            paging_stop();
    }
    section("null TSS");
    CHECK_TRAPS(ltr, 0, V_GP, 0);
}
