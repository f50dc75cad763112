/* A processor in protected mode with memory, descriptor tables, a TSS and stacks, for the tests of cpu.c, seg.c, far.c
 * and except.c. Paging is off unless fix_page() turns it on (identity, 4 KiB pages, all of them user and writable). One
 * test program, one translation unit: so the definitions are right here. */
#ifndef TESTS_UNIT_CPU_FIXTURE_H
#define TESTS_UNIT_CPU_FIXTURE_H
#include "runtime/mem/coherence.h"
#include "runtime/mem/physmem.h"
#include "runtime/cpu/cpu.h"
#include "runtime/cpu/cpu_models.h"
#include "runtime/mem/mmu.h"

#include <check.h>
#include <string.h>

#define RAM_SIZE (4u << 20)
/* clang-format off */
enum { GDT = 0x1000, IDT = 0x2000, TSS = 0x3000, TSS_B = 0x3200, TSS_16 = 0x3400, LDT = 0x3800, STACK0 = 0x9000,
    STACK3 = 0xb000, CODE = 0x10000,
       PAGE_DIR = 0x20000, PAGE_TABLE = 0x21000 };
/* Selectors, in the order that SYSENTER wants of the first four. */
enum { CS0 = 0x08, SS0 = 0x10, CS3 = 0x1b, DS3 = 0x23, SEL_TSS = 0x28, SEL_TSS_B = 0x30, SEL_LDT = 0x38,
    SEL_GATE = 0x40, SEL_TASK_GATE = 0x48,
       SEL_X = 0x50, SEL_Y = 0x58, SEL_TSS_16 = 0x60, GDT_ENTRIES = 16 };
/* Access bytes. */
enum { AC_CODE = 0x9b, AC_DATA = 0x93, AC_DPL3 = 0x60, AC_TSS = 0x89, AC_LDT = 0x82, AC_CALL32 = 0x8c,
    AC_CALL16 = 0x84, AC_TASK = 0x85, AC_INT32 = 0x8e,
       AC_TRAP32 = 0x8f, AC_INT16 = 0x86 };
enum { FLAT = 0xc /* G, D */, WIDE = 0x4 /* D */ };

static struct cpu *cpu;
static struct bus *bus;

static inline u8 *ram(paddr pa) { return bus_ram_ptr(bus, pa); }
static inline u32 peek32(paddr pa) { u32 v; memcpy(&v, ram(pa), 4); return v; }
static inline u16 peek16(paddr pa) { u16 v; memcpy(&v, ram(pa), 2); return v; }
static inline void poke32(paddr pa, u32 v) { memcpy(ram(pa), &v, 4); }
static inline void poke16(paddr pa, u16 v) { memcpy(ram(pa), &v, 2); }

static inline void put_desc(paddr at, u32 base, u32 limit20, unsigned access, unsigned flags)
{
    poke32(at, (limit20 & 0xffff) | base << 16);
    poke32(at + 4, (base >> 16 & 0xff) | access << 8 | (limit20 & 0xf0000) | flags << 20 | (base & 0xff000000));
}
static inline void gdt_set(u16 sel, u32 base, u32 limit20, unsigned access,
    unsigned flags) { put_desc(GDT + (sel & 0xfff8u), base, limit20, access, flags); }
static inline void put_gate(paddr at, u16 sel, u32 off, unsigned access, unsigned params)
{
    poke32(at, (off & 0xffff) | (u32)sel << 16);
    poke32(at + 4, (off & 0xffff0000) | access << 8 | params);
}
static inline void idt_set(unsigned v, u16 sel, u32 off,
    unsigned access) { put_gate(IDT + 8 * v, sel, off, access, 0); }
static inline u8 gdt_access(u16 sel) { return *ram(GDT + (sel & 0xfff8u) + 5); }

/* Runs the processor at privilege 0 or 3, on flat segments and the stack of that privilege. */
static inline void fix_ring(unsigned cpl)
{
    cpu->cpl = (u8)cpl;
    for (unsigned s = 0; s < S_COUNT; s++) {
        u32 attr = (s == S_CS ? AC_CODE : AC_DATA) | (cpl ? AC_DPL3 : 0) | SEG_D | SEG_G;
        u16 sel = s == S_CS ? cpl ? CS3 : CS0 : cpl ? DS3 : SS0;
        cpu->seg[s] = (struct seg){ .sel = sel, .limit = 0xffffffff, .attr = attr };
    }
    cpu->gpr[G_ESP] = cpl ? STACK3 : STACK0;
    cpu->eip = CODE;
    cpu_update_mode(cpu);
}

static inline void fix_setup_model(const char *model)
{
    ck_assert_int_eq(bus_new(&bus, RAM_SIZE), 0);
    ck_assert_int_eq(cpu_new(&cpu, bus, cpu_model_find(model)), 0);
    gdt_set(CS0, 0, 0xfffff, AC_CODE, FLAT);
    gdt_set(SS0, 0, 0xfffff, AC_DATA, FLAT);
    gdt_set(CS3, 0, 0xfffff, AC_CODE | AC_DPL3, FLAT);
    gdt_set(DS3, 0, 0xfffff, AC_DATA | AC_DPL3, FLAT);
    gdt_set(SEL_TSS, TSS, 0x67, AC_TSS | 2, 0);
    gdt_set(SEL_TSS_B, TSS_B, 0x67, AC_TSS, 0);
    gdt_set(SEL_TSS_16, TSS_16, 0x2b, 0x81, 0);
    gdt_set(SEL_LDT, LDT, 0x3f, AC_LDT, 0);
    for (unsigned v = 0; v < 256; v++) idt_set(v, CS0, 0x40000 + v * 16, AC_INT32);
    poke32(TSS + 4, STACK0);
    poke16(TSS + 8, SS0);
    cpu->gdtr = (struct table_reg){ GDT, GDT_ENTRIES * 8 - 1 };
    cpu->idtr = (struct table_reg){ IDT, 0x7ff };
    cpu->tr = (struct seg){ .sel = SEL_TSS, .base = TSS, .limit = 0x67, .attr = AC_TSS | 2 };
    cpu->ldtr = (struct seg){ .attr = SEG_UNUSABLE };
    cpu->cr0 = CR0_PE | CR0_ET | CR0_WP;
    fix_ring(0);
}
static inline void fix_setup(void) { fix_setup_model("n270"); }
static inline void fix_teardown(void)
{
    cpu_free(cpu);
    bus_free(bus);
}

/* Identity paging; unmap one page with fix_pte(). */
static inline void fix_page(void)
{
    poke32(PAGE_DIR, PAGE_TABLE | 7);
    for (u32 i = 0; i < 1024; i++) poke32(PAGE_TABLE + 4 * i, i << 12 | 7);
    cpu->cr3 = PAGE_DIR;
    ck_assert_int_eq(cpu_write_cr(cpu, 0, cpu->cr0 | CR0_PG), 0);
}
static inline void fix_pte(laddr la, u32 flags)
{
    poke32(PAGE_TABLE + 4 * (la >> 12), (la & PAGE_MASK) | flags);
    tlb_flush_all(cpu);
}

/* The exception that expr raised, as vector << 16 | error; 0 if it raised none. */
#define RAISED(expr) ({ int r_ = (expr); u32 x_ = 0;                                                              \
        if (r_) { if (r_ != GUEST_FAULT || !cpu->exc.valid) ck_abort_msg(#expr " returned %d", r_);               \
                  x_ = (u32)cpu->exc.vector << 16 | cpu->exc.error; cpu->exc.valid = false; }                      \
        x_; })
#define EXC(v, error) ((u32)(v) << 16 | (error))
#define ASSERT_RAISED(expr, x) \
    ck_assert_msg((fix_got = RAISED(expr)) == (x), "%s: raised %05x, expected %05x", #expr, fix_got, (unsigned)(x))
static u32 fix_got UNUSED;

/* The registers that a faulting instruction must not change. */
struct regs {
    u32 gpr[8], eip, eflags, mode, complexity[S_COUNT], cr0, cr3, dr7;
    u8 cpl;
    struct seg seg[S_COUNT], ldtr, tr;
};
/* clang-format on */
static inline void regs_get(struct regs *r)
{
    memset(r, 0, sizeof *r);
    memcpy(r->gpr, cpu->gpr, sizeof r->gpr);
    memcpy(r->seg, cpu->seg, sizeof r->seg);
    memcpy(r->complexity, cpu->seg_complex, sizeof r->complexity);
    r->eip = cpu->eip;
    r->eflags = cpu_eflags(cpu);
    r->mode = cpu->mode;
    r->cr0 = cpu->cr0;
    r->cr3 = cpu->cr3;
    r->dr7 = cpu->dr[7];
    r->cpl = cpu->cpl;
    r->ldtr = cpu->ldtr;
    r->tr = cpu->tr;
}
static inline bool regs_same(const struct regs *a)
{
    struct regs b;
    regs_get(&b);
    return !memcmp(a, &b, sizeof b);
}

/* The mode key, kept piece by piece, is what cpu_update_mode() makes of the whole. */
static inline void assert_mode_consistent(void)
{
    u32 mode = cpu->mode, complexity[S_COUNT];
    u64 room[2][S_COUNT];
    memcpy(room, cpu->seg_room, sizeof room);
    memcpy(complexity, cpu->seg_complex, sizeof complexity);
    cpu_update_mode(cpu);
    ck_assert_uint_eq(mode, cpu->mode);
    ck_assert_mem_eq(complexity, cpu->seg_complex, sizeof complexity);
    ck_assert_mem_eq(room, cpu->seg_room, sizeof room);
}

static inline int fix_run(Suite *s)
{
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}

#endif
