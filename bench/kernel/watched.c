/* Loops for what looks into a guest (bench/instruments.py), as a Multiboot guest. The command line has a loop's name;
 * the guest finds how many passes take a while, and says when they begin and end; the time is taken outside. `brief`
 * makes it a short while. */
#include "tests/insn/rt.h"

const char guest_name[] = "watched";

enum { WORDS = 1024, COM1 = 0x3f8, ENOUGH = 300000000 /* cycles of the TSC */, BRIEF = ENOUGH / 30, TIMES = 4 };
static u32 data[WORDS], work[WORDS];

/* Each of these has a label where its loop begins, NAME_again, and one in the same page where nothing is run. */
__asm__(".text\n"
        ".globl short_passes, short_again, hash_passes, hash_again, never_run\n"
        ".type short_passes, @function\n"
        ".type hash_passes, @function\n"
        ".balign 128\n"
        /* The shortest there is: two instructions. */
        "short_passes: movl 4(%esp), %ecx\n"
        "short_again: decl %ecx; jnz short_again; ret\n"
        ".size short_passes, . - short_passes\n"
        "never_run: nop; ret\n"
        /* A step of a hash over words in memory: nine instructions, three accesses. */
        "hash_passes: pushl %ebx; movl 8(%esp), %ecx; movl $5381, %eax; xorl %edx, %edx\n"
        "hash_again: movl data(,%edx,4), %ebx; roll $5, %eax; xorl %ebx, %eax; imull $0x9e3779b1, %eax\n"
        "addl %eax, work(,%edx,4); incl %edx; andl $1023, %edx; decl %ecx; jnz hash_again\n"
        "popl %ebx; ret\n"
        ".size hash_passes, . - hash_passes\n");
extern void short_passes(u32 n), hash_passes(u32 n);
void sort_passes(u32 n);

/* A sort, as compilers make it: a pass is one of all words. */
void sort_passes(u32 n)
{
    while (n--) {
        for (u32 i = 0; i < WORDS; i++) work[i] = data[i];
        for (u32 gap = 364; gap; gap /= 3)
            for (u32 i = gap; i < WORDS; i++) {
                u32 v = work[i], k = i;
                for (; k >= gap && work[k - gap] > v; k -= gap) work[k] = work[k - gap];
                work[k] = v;
            }
    }
}

static const struct loop {
    const char *name;
    void (*run)(u32 n);
} loops[] = { { "short", short_passes }, { "hash", hash_passes }, { "sort", sort_passes } };

static void await_byte(void)
{
    while (!(inb(COM1 + 5) & 1)) continue;
    (void)inb(COM1);
}

static void let_measure(const struct loop *l)
{
    u32 n = 1;
    u64 start, took, enough = told("brief") ? BRIEF : ENOUGH;
    do {
        n *= 2;
        start = rdtsc();
        l->run(n);
        took = rdtsc() - start;
    } while (took < enough && n < 1u << 29);
    n *= TIMES;
    print("BEGINS %s\n", l->name);
    await_byte();
    l->run(n);
    print("ENDS %u\n", n);
    await_byte();
}

void guest_main(void)
{
    u32 v = 1, measured = 0;
    for (u32 i = 0; i < WORDS; i++) data[i] = v = v * 1664525 + 1013904223;
    for (u32 i = 0; i < sizeof loops / sizeof loops[0]; i++) {
        if (!told(loops[i].name)) continue;
        let_measure(&loops[i]);
        measured++;
    }
    CHECK(measured == 1);
}
