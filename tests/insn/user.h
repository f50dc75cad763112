/* For guests that need user programs of a real kernel's kind: page tables in which the kernel is supervisor's, programs
 * at their own addresses in pages of their own (no page with kernel code on it), IF=1, IOPL 0, flat segments, SSE
 * enabled. Such code is what a monitor may run on the processor itself, without looking at every instruction. */
#ifndef TESTS_INSN_USER_H
#define TESTS_INSN_USER_H
#include "rt.h"

enum { U_CODE = 0x08048000, U_DATA = 0x08080000, U_STACK = 0xbfffe000, U_TOP = U_STACK + PAGE, U_DONE = 0x81,
        U_CALL = 0x80 };
enum { P_RX = PTE_P | PTE_U, P_RW = PTE_P | PTE_U | PTE_W };

/* A program: position-independent, or for the address where it is loaded. It ends with DONE, or by a trap. */
#define USER(name, ...) \
    __asm__(".pushsection .text.user\n.balign 16\n.globl " #name ", " #name "_end\n" #name ":\n" #__VA_ARGS__ "\n" \
        #name "_end:\n.popsection\n"); \
    extern const u8 name[], name##_end[]
__asm__(".macro DONE\nint $0x81\n.endm\n");

/* Paging on, CR0 and CR4 as a modern kernel has them; the kernel's map is the supervisor's. Frees the pages of an
 * earlier one. */
void user_start(bool pae);
void user_stop(void);
u32 user_space(void);                              /* another address space, with pages of U_CODE, U_DATA, U_STACK */
/* maps a new page there; returns its physical (and the kernel's) address */
u32 user_page(u32 linear, u32 flags);
/* so many pages, of which the one taken longest ago is mapped nowhere when its turn comes */
struct ring { u8 *pages; u32 count, next; };
struct ring user_ring(u32 count);
void user_take_from(struct ring *r);               /* user_page() from now on; NULL: pages that nobody has had */
void user_load(u32 linear, const u8 *from, const u8 *end); /* writes a program there, through the kernel's map */
/* the same, in a new page: one that has changed often may not run directly */
void user_program(u32 linear, const u8 *from, const u8 *end);
#define PROGRAM(linear, name) user_program(linear, name, name##_end)

/* Runs from *f until a trap that no handler resumes, and leaves the frame of that in *f. Returns its vector. */
u32 user_go(struct frame *f);
/* A frame for a start at EIP. */
struct frame user_frame(u32 eip);
/* Loads a program at U_CODE and runs it with EAX=arg: vector of its end; *f as above. */
u32 user_run_(const u8 *from, const u8 *end, u32 arg, struct frame *f);
#define RUN(name, arg, f) user_run_(name, name##_end, arg, f)

/* The timer's ticks since user_ticks(), which makes it tick every so many microseconds; 0 stops it. */
void user_ticks(u32 us);
extern void (*user_ticked)(const struct frame *f); /* told of each tick, and of what it has interrupted; or NULL */
extern volatile u32 ticks;
#endif
