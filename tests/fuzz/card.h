/* What the fuzzers of cards share: where a lying driver's lists and buffers are, the values that it writes, and a card
 * that is saved and loaded at any moment. */
#ifndef TESTS_FUZZ_CARD_H
#define TESTS_FUZZ_CARD_H
#include "core/snap.h"
#include "tests/fuzz/choice.h"

#include <stdio.h>
#include <string.h>

#define RAM (16u << 20)
#define AREA 0x100000u /* where lists, rings and buffers are, all over each other */
#define AREA_SIZE 0x4000u
#define MEM_BASE 0xe0000000u
#define IO_BASE 0xc000u

static u32 address(void)
{
    static const u32 odd[] = { 0, RAM - 8, RAM, 0xf0000000, ~0u, ~0u - 15 };
    return rnd(30) ? AREA + rnd(AREA_SIZE / 16) * 16 : odd[rnd(ARRAY_LEN(odd))];
}
static u32 value(void)
{
    switch (rnd(5)) {
    case 0: return rnd(256);
    case 1: return address();
    case 2: return 1u << rnd(32);
    case 3: return rnd(0x10000);
    default: return rnd(0xffffffff);
    }
}

/* What `to` has loaded of `from` is the same. */
static void check_handed_over(struct snap_part from, struct snap_part to)
{
    struct snap_buf a = { 0 }, c = { 0 };
    char why[128];
    snap_save(&from, &a);
    snap_unmap(&to);
    int rc = snap_load(&to, a.data, a.len, why, sizeof why);
    if (rc) fprintf(stderr, "%s: %d %s\n", from.name, rc, why);
    BUG_ON(rc);
    snap_save(&to, &c);
    BUG_ON(a.len != c.len || memcmp(a.data, c.data, a.len));
    snap_buf_free(&a);
    snap_buf_free(&c);
}
#endif
