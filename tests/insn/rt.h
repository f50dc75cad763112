/* What every Multiboot test guest stands on: descriptor tables, traps that can be caught, paging, checks, output.
 *
 * A guest is one file with a guest_main() full of CHECKs; rt_start() sets the machine up, calls it, prints a summary to
 * COM1 and leaves through the debug-exit port: 0x10 all passed, 0x11 not. Nothing in a guest knows what runs it. */
#ifndef TESTS_INSN_RT_H
#define TESTS_INSN_RT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;

void guest_main(void);
extern const char guest_name[];

/* ---- Output and checks: a failing check says where, what was got and what was wanted, and the guest goes on. */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));      /* %s %c %d %u %x (with width), %llx */
void check_equal(const char *file, int line, const char *what, u32 got, u32 want);
void check_true(const char *file, int line, const char *what, bool holds);
void finish(void) __attribute__((noreturn));
#define CHECK_EQ(got, want) check_equal(__FILE__, __LINE__, #got, (u32)(got), (u32)(want))
#define CHECK(holds) check_true(__FILE__, __LINE__, #holds, (holds))
void section(const char *name);                         /* names what follows in messages */
/* Whether the command line has that word. "tcg": user code is executed by QEMU's TCG, sooner or later, and what that is
 * known not to do is left out: segment limits and null segments, #AC, #XM, #MF before another instruction than WAIT,
 * INT1, the exponent that MMX instructions leave. "svm": all of it is executed by QEMU's emulation of SVM. */
bool told(const char *word);
extern const char *command_line;
extern u32 entry_esp, entry_cs, entry_ds;                        /* as the loader left them */

/* ---- Selectors. TEST_SEL(n), n < 32, are free for the tests. */
enum {
    SEL_KCODE = 0x08, SEL_KDATA = 0x10, SEL_UCODE = 0x18 | 3, SEL_UDATA = 0x20 | 3, SEL_TSS = 0x28, SEL_DFTSS = 0x30,
    SEL_LDT = 0x38, FIRST_TEST_SEL = 0x40, GDT_ENTRIES = 40,
};
#define TEST_SEL(n) (FIRST_TEST_SEL + 8 * (n))
enum {  /* access byte: P, DPL 0, S */
    SEG_CODE = 0x9b, SEG_DATA = 0x93, SEG_DATA_RO = 0x91, SEG_EXPAND_DOWN = 0x97, SEG_CODE_XO = 0x99,
        SEG_CODE_CONF = 0x9f,
    SEG_DPL3 = 0x60, SEG_BIG = 0x4 /* flags nibble: D/B */, SEG_GRAN = 0x8,
};
extern u64 gdt[GDT_ENTRIES], ldt[16];
u64 descriptor(u32 base, u32 limit20, u8 access, u8 flags);
u64 gate(u16 selector, u32 offset, u8 type_dpl_p, u8 params);    /* 0x8e interrupt, 0x8f trap, 0x8c call, 0x85 task */

struct tss {
    u32 link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi;
    u32 es, cs, ss, ds, fs, gs, ldt;
    u16 trap, iomap;
    u8 iobits[32];          /* ports 0..247 */
    u8 ioend;
} __attribute__((packed));
extern struct tss tss, dftss;
extern u64 idt[256];
void idt_set(u8 vector, u64 gate_descriptor);
u32 idt_stub(u8 vector);                                         /* where the run-time's own handler for it is */

/* ---- Traps. */
struct frame {
    u32 edi, esi, ebp, esp_pushad, ebx, edx, ecx, eax;
    u32 ds, es, fs, gs;
    u32 vector, error, eip, cs, eflags, esp, ss;                 /* esp and ss only if cs is of an outer ring */
};
struct trap {   /* the last one that was caught */
    u32 vector, error, eip, cs, eflags, esp, ss, cr2, eax, ecx, edx, ebx, ebp, esi, edi;
};
extern volatile struct trap trap;
/* the same, whole; without esp and ss if there was no change of ring */
extern struct frame trap_frame;
enum { V_DE, V_DB, V_NMI, V_BP, V_OF, V_BR, V_UD, V_NM, V_DF, V_TS = 10, V_NP, V_SS, V_GP, V_PF, V_MF = 16, V_AC,
        V_MC, V_XM };

int user_enter(const struct frame *f);                           /* as caught(), from that frame on */
int caught(void (*fn)(void *arg), void *arg);
int ring3(u32 (*fn)(u32 arg), u32 arg);                          /* as caught(), at CPL 3; the result is in trap.eax */
extern u32 ring3_eflags;
extern u8 user_stack[], user_stack_top[], trap_stack_top[], image_end[];
void unwind_trap(int result) __attribute__((noreturn));
/* fn gets the trap before it counts as caught: true resumes the program (with the frame as fn left it). */
void on_trap(u8 vector, bool (*fn)(struct frame *f));
/* caught(), and it must be this one. */
bool traps(void (*fn)(void *arg), void *arg, u32 vector, u32 error);
#define CHECK_TRAPS(fn, arg, vector, error) check_traps(__FILE__, __LINE__, #fn, fn, (void *)(arg), vector, error)
void check_traps(const char *file, int line, const char *what, void (*fn)(void *), void *arg, u32 vector, u32 error);

/* ---- Memory and paging. RAM is 64 MiB; pages come from above the image, below 32 MiB. */
enum { PAGE = 4096, RAM_SIZE = 64 << 20 };
void *page_alloc(void);                                          /* zeroed */
void *pages_alloc(u32 count, u32 alignment);                     /* contiguous */
/* pages_release(mark) frees all that was allocated since */
u32 pages_mark(void);
void pages_release(u32 mark);
enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_PCD = 0x10, PTE_A = 0x20, PTE_D = 0x40, PTE_PS = 0x80, PTE_G = 0x100 };
#define PTE_NX (1ull << 63)
/* Turns paging on: RAM identity-mapped by large pages, writable from ring 3, and the APICs' page mapped. */
void paging_start(bool pae, bool nx);
void paging_stop(void);
/* The entry that maps a linear address, made by allocating tables as needed. Only where no large page is. */
void pte_set(u32 linear, u64 entry);
u64 pte_get(u32 linear);
void pde_set(u32 linear, u64 entry);
u64 pde_get(u32 linear);
u32 paging_root(void);
/* Another address space with the large pages of the present one; the one that the functions above are about, and
 * CR3. */
u32 paging_new_space(void);
void paging_use(u32 root);
void paging_of(u32 root); /* without CR3 */
bool paging_is_pae(void);
static inline void invlpg(u32 linear) { __asm__ volatile("invlpg (%0)" : : "r"(linear) : "memory"); }

/* ---- The processor. */
#define DEFINE_CR(n)                                                                                          \
    static inline u32 read_cr##n(void) { u32 v; __asm__ volatile("movl %%cr" #n ", %0" : "=r"(v)); return v; } \
    static inline void write_cr##n(u32 v) { __asm__ volatile("movl %0, %%cr" #n : : "r"(v) : "memory"); }
DEFINE_CR(0)
DEFINE_CR(2)
DEFINE_CR(3)
DEFINE_CR(4)
enum { CR0_WP = 1 << 16, CR0_AM = 1 << 18, CR0_TS = 8, CR0_EM = 4, CR0_MP = 2, CR0_NE = 32 };
#define CR0_PG 0x80000000u
enum { CR4_TSD = 4, CR4_DE = 8, CR4_PSE = 0x10, CR4_PAE = 0x20, CR4_PGE = 0x80, CR4_OSFXSR = 0x200,
        CR4_OSXMMEXCPT = 0x400 };
enum { F_CF = 1, F_PF = 4, F_AF = 16, F_ZF = 64, F_SF = 128, F_TF = 256, F_IF = 512, F_DF = 1024, F_OF = 2048,
        F_IOPL = 0x3000,
       F_NT = 0x4000, F_RF = 0x10000, F_AC = 0x40000, F_ID = 0x200000 };
static inline u32 read_eflags(void) { u32 v; __asm__ volatile("pushfl; popl %0" : "=r"(v)); return v; }
static inline void write_eflags(u32 v) { __asm__ volatile("pushl %0; popfl" : : "r"(v) : "cc", "memory"); }
static inline u64 rdtsc(void) { u64 v; __asm__ volatile("rdtsc" : "=A"(v)); return v; }
static inline u64 rdmsr(u32 msr) { u64 v; __asm__ volatile("rdmsr" : "=A"(v) : "c"(msr)); return v; }
static inline void wrmsr(u32 msr, u64 v) { __asm__ volatile("wrmsr" : : "A"(v), "c"(msr) : "memory"); }
static inline void cpuid(u32 leaf, u32 r[4])
{
    __asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "0"(leaf), "2"(0));
}
static inline void outb(u16 port, u8 v) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }
static inline void outl(u16 port, u32 v) { __asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port)); }
static inline u8 inb(u16 port) { u8 v; __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline u16 inw(u16 port) { u16 v; __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline u32 inl(u16 port) { u32 v; __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline u8 peek8(u32 a) { return *(volatile u8 *)a; }
static inline u32 peek(u32 a) { return *(volatile u32 *)a; }
static inline void poke(u32 a, u32 v) { *(volatile u32 *)a = v; }
static inline void poke8(u32 a, u8 v) { *(volatile u8 *)a = v; }
void *memset(void *d, int c, size_t n);
void *memcpy(void *d, const void *s, size_t n);
int memcmp(const void *a, const void *b, size_t n);

/* ---- Interrupt controllers: both 8259A at 0x20 and 0x28, all lines masked, by rt_start(). */
enum { IRQ_BASE = 0x20 };
void pic_unmask(unsigned irq);
void pic_mask(unsigned irq);
void pic_eoi(unsigned irq);
u16 pic_irr(void);
enum { APIC_BASE = 0xfee00000, IOAPIC_BASE = 0xfec00000 };
static inline u32 apic_read(u32 reg) { return peek(APIC_BASE + reg); }
static inline void apic_write(u32 reg, u32 v) { poke(APIC_BASE + reg, v); }

/* ---- Time. */
enum { PIT_HZ = 1193182 };
void pit_oneshot(u32 ticks);                                     /* channel 0, mode 0: IRQ 0 after so many ticks */
u64 tsc_hz(void);                                                /* measured once against PIT channel 2 */
void delay_us(u32 us);
#endif
