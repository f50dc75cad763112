/* What is to be translated, and what besides its bytes decides how: the input of every pass. */
#ifndef TRANSLATOR_SOURCE_H
#define TRANSLATOR_SOURCE_H
#include "core/cpu.h"
#include "core/types.h"

struct insn;

#define XL_NO_PAGE (~(paddr)0)
#define XL_CHECKED_MAX 480 /* guest bytes, at most, of a block that compares them (MK_CHECKED) */

/* What is to be noticed of the code that runs, besides what it does. Who asks for nothing (xl_source.tap is NULL) gets
 * code that knows nothing of it. Masks are of cpu_tally()[]: bit i asks for a one more in [i].
 *
 * A block adds what its instructions come to at once: when it is entered, or before one of the first that set flags,
 * where adding is cheaper. Who leaves it in the middle, or does the rest of it another way, sets that right
 * (xl_tallies_undo). An instruction that is left to the interpreter is counted there. */
#define TAP_NOBODY 0xffffffffu
#define TAP_INTERPRET 0xfffffffeu
struct xl_tap {
    /* Before cpu_tally()[TALLY_INSNS] becomes more than cpu->insns_limit, it leaves for the interpreter. */
    bool limited;
    u32 (*insn)(const void *arg, const struct insn *in, laddr la, unsigned cpl); /* what each one at la adds to */
    u32 (*entry)(const void *arg, laddr la, unsigned cpl); /* what each time adds to that a block is entered at la */
    /* Who is to be told that it begins: a number for HELPER_TELL, TAP_NOBODY, or TAP_INTERPRET where it is to be left
     * to the interpreter. What the interpreter does anyway it tells. */
    u32 (*told)(const void *arg, const struct insn *in, laddr la, unsigned cpl);
    bool (*told_entry)(const void *arg, laddr la, unsigned cpl); /* HELPER_ENTRY tells that it is entered */
    /* What of it goes into the trace stream: a set of enum stream_what. Then each instruction counts (TALLY_INSNS). */
    unsigned (*streams)(const void *arg, laddr la, unsigned cpl);
    const void *arg;
};

/* Code at eip, whose linear address is la: they differ by the base of CS. What guest code can see (return addresses,
 * targets of jumps) are EIPs; what pages are about (which one code is on, whether a target is on the same) are linear
 * addresses. How wide code, stack and addresses are says the mode.
 * bytes: from la to the end of its page; bytes2: the first of the next linear page, if that is mapped (nbytes2 0
 * otherwise), needed only when the first instruction straddles. */
struct xl_source {
    laddr la;
    vaddr eip;
    paddr pa;
    u32 mode; /* enum mode_key bits */
    /* Of segmented code only (mode_segmented): */
    u32 context; /* context_of_paragraph(), or xl_context() */
    u32 limit;   /* of CS */
    const u8 *bytes, *bytes2;
    unsigned nbytes, nbytes2;
    paddr pa2; /* physical address of bytes2, or XL_NO_PAGE */
    /* The second copy of a loop, come to from the end of the first or of its own: what such an end leaves to be stored
     * of the x87 unit's pointers is still to be stored (xl_turns). */
    bool x87_due;

    /* Stops: addresses where the embedder may want to be asked before what is there runs (cpu->stop_neg). */
    bool bound;     /* there are some in its page: code for other places does not serve here, nor this elsewhere */
    bool stop_here; /* la is one */
    const struct xl_tap *tap; /* NULL: nothing. Else bound is set: there is no other code like it */
    laddr stop_before; /* the next one in the page: the block ends before the instruction that it is in; 0: none */
};

/* With the source, all that decides what host code comes of it: a file of templates is good for one set of these only
 * (xl_templates_key). */
struct xl_options {
    u32 disabled; /* classes (1 << enum insn_class) to be interpreted instead */
    u32 features; /* of the CPU model: 1 << enum insn_feature */
    bool shared;  /* others use the guest's memory while it runs: what is locked stays locked, and fences stay */
    bool window;  /* data accesses in modes that can have a window start out through it */
};

#endif
