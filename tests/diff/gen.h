/* Cases out of insn.def: random instruction sequences with a state that makes them worth running. */
#ifndef TESTS_DIFF_GEN_H
#define TESTS_DIFF_GEN_H
#include "tests/diff/diff.h"
#include "tests/diff/rng.h"
#include "translator/front/decode.h"

#define UNITS_MAX 8
#define UNIT_BYTES 48

/* The least that can be dropped from a sequence: an instruction, with what it needs before it (a pointer loaded, a flag
 * defined, an address pushed). */
struct unit {
    u8 bytes[UNIT_BYTES];
    u8 n;
    u8 fix_at, fix_size;       /* a branch target to fill in: relative (1, 2, 4), or absolute (FIX_ABS); 0: none */
    u8 skip;                   /* the target is the unit this many further on, or the end */
    u16 row;                   /* enum insn_id of the instruction proper */
    u32 ignore_at, ignore_len; /* memory that the instruction fills with what may differ (FIP, FDP, FOP) */
    u32 ignore2_at, ignore2_len;
};
#define FIX_ABS 8
#define FIX_ABS16 9 /* an offset of two bytes in LDT_CODE */

struct sequence {
    struct unit unit[UNITS_MAX];
    unsigned n;
    struct diff_state in;
    u32 image;
    bool code16;
};

void gen_fx_state(struct rng *r, u8 fx[512]); /* x87 and SSE state of all kinds */

/* No case has these: what shows the host's tables, clock or identity, what Linux takes for a system call, and loads of
 * segment registers with selectors from memory (see safe_selector). INT1, because hypervisors on AMD reflect it with
 * the wrong EIP. */
bool gen_shows_host(const struct insn_row *row);

struct gen;
/* What the judge says of the x87 unit's pointers. */
enum x87_pointers { POINTERS_NONE, POINTERS_BUT_SELECTORS, POINTERS_ALL };
struct gen_config {
    u64 seed;
    unsigned only; /* OP_* to use alone, or OP_INVALID */
    bool kernel;   /* nothing that behaves differently at CPL 0 */
    bool qemu;     /* what a processor that is QEMU's can be asked */
    enum x87_pointers x87_pointers;
    bool undefined; /* double shifts too, by more than their operand has bits */
};
/* Borrows d. Returns NULL if out of memory or nothing matches. */
struct gen *gen_new(struct decoder *d, const struct gen_config *cfg);
void gen_free(struct gen *g);
void gen_memory(struct gen *g, struct diff_shared *s); /* the initial memory images and the read-only page */
void gen_sequence(struct gen *g, struct sequence *s);
struct rng *gen_rng(struct gen *g);
bool gen_makes(unsigned id, bool kernel); /* a row of insn.def */
/* Lays the units out, branch targets filled in. */
void sequence_to_case(const struct sequence *s, struct diff_case *k);
/* Flags that may be undefined when k has stopped at eip (replays the code without running it). */
u32 case_undefined_flags(struct decoder *d, const struct diff_case *k, u32 eip);
#endif
