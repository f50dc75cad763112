/* What a differential test case is: processor state and code in, processor state, memory and exception out.
 *
 * Shared between the tester (64-bit) and the program that runs cases on the real processor (32-bit, freestanding):
 * fixed-width fields only, and the guest's linear addresses are the same on every side. */
#ifndef TESTS_DIFF_DIFF_H
#define TESTS_DIFF_DIFF_H
#include <stdint.h>

#define PAGE 4096u

/* The address space of a case. Pages not named here are not present. */
#define CODE_BASE 0x00100000u /* one page, read-only; what the code does not fill holds INT3 */
#define DATA_BASE \
    0x00200000u /* writable, and behind it one read-only page; long enough for runtime/mem/window.c to map it as a run \
                 */
#define DATA_BYTES (16 * PAGE)
#define RO_BASE (DATA_BASE + DATA_BYTES)
#define STACK_BASE 0x00300000u          /* one page, writable */
#define IMAGE_BYTES (DATA_BYTES + PAGE) /* data, stack: what a case may change */
#define CODE_MAX 512u

/* Where the native program itself lives: an engine that faults here would have found memory there. */
#define CHILD_LO 0x50000000u
#define CHILD_HI 0x58000000u

#define USER_CS 0x23u /* Linux's flat selectors of a 32-bit process, which the engines' GDT has too */
#define USER_DS 0x2bu

/* Segments of an LDT, for cases of 16-bit code. All lie on pages that are there. */
struct diff_segment {
    uint32_t base, limit;
    uint8_t contents; /* of a data segment 0, expand-down 1, of a code segment 2: as modify_ldt() has it */
    uint8_t fixed;    /* data that may not be written, code that may not be read */
};
#define DIFF_LDT                                                                                            \
    {                                                                                                       \
        { CODE_BASE, PAGE - 1, 2, 0 }, { STACK_BASE, PAGE - 1, 0, 0 }, { DATA_BASE, DATA_BYTES - 1, 0, 0 }, \
            { DATA_BASE + 0x1234, 0x7ffe, 0, 0 }, { DATA_BASE, 0x7ff, 1, 0 }, { RO_BASE, PAGE - 1, 0, 1 },  \
    }
enum { LDT_CODE = 0x07, LDT_STACK = 0x0f, LDT_DATA = 0x17, LDT_EXTRA = 0x1f, LDT_DOWN = 0x27, LDT_READ_ONLY = 0x2f };
#define LDT_ENTRIES 6u

#define PROBE_STATUS 42 /* of native_probe */

/* vector of a result beyond the processor's own */
#define VECTOR_TIMEOUT 0x100u
#define VECTOR_CRASH 0x101u /* no result: the native program died, or the engine shut down */

struct diff_state {
    uint32_t gpr[8]; /* EAX ECX EDX EBX ESP EBP ESI EDI */
    uint32_t eip, eflags;
    uint32_t vector, error, cr2; /* results: the exception that ended the case (INT3 normally) */
    uint16_t seg[6]; /* results: selectors of ES CS SS DS FS GS. Cases of 32-bit code start with USER_DS, USER_CS, and
                        FS and GS null */
    uint8_t fx[512];
} __attribute__((aligned(16)));

struct diff_case {
    struct diff_state in;
    uint32_t image; /* which of the initial memory images */
    uint32_t ncode;
    uint32_t code16; /* in.seg has its selectors, of the LDT; EIP begins at 0 */
    uint32_t pad;
    uint8_t code[CODE_MAX];
};

struct diff_result {
    struct diff_state out;
    uint8_t memory[IMAGE_BYTES];
};

#define BATCH 64
#define IMAGES 32
struct diff_shared {    /* the memory both processes see */
    uint8_t code[PAGE]; /* first: the native program maps it a second time, executable, at CODE_BASE */
    uint8_t ro[PAGE];
    uint8_t images[IMAGES][IMAGE_BYTES];
    struct diff_case cases[BATCH];
    struct diff_result results[BATCH];
    uint32_t ldt_missing; /* the host has no modify_ldt(): 16-bit cases die */
    uint32_t current;     /* case being run, for whoever finds the native program dead */
};
#endif
