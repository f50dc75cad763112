/* The breakpoints of a debugger outside of the machine: any number of them, by linear address, in every address space.
 * The guest's own debug registers are not touched, and guest memory neither. What heeds debug registers heeds these
 * beside them: watch.h says which pages have some, stops.h where code has some. */
#ifndef RUNTIME_BREAKS_H
#define RUNTIME_BREAKS_H
#include "core/types.h"

#define BREAK_BYTES_MAX 4096u

struct break_point {
    laddr la;
    u32 len;  /* bytes: 1 to BREAK_BYTES_MAX */
    u8 kinds; /* a set of enum watch_kind */
};
struct breaks {
    struct break_point *point; /* sorted by la */
    u32 n, room;
    u32 code, data; /* how many are for fetches, and for other accesses */
    u64 filter;     /* bit n: there may be one in a page whose number has n as its low bits */
    bool met;       /* what has been met, and not been told yet: */
    struct break_point at;
    void (*notify)(void *arg); /* called when one is met: the guest is to stop behind the present instruction */
    void *arg;
};

/* 0; -EINVAL: len; -EEXIST: there is one like it; -ENOMEM. */
MUST_CHECK int breaks_add(struct breaks *b, struct break_point p);
MUST_CHECK int breaks_remove(struct breaks *b, struct break_point p); /* 0 or -ENOENT */
void breaks_free(struct breaks *b);

/* Whether a page has some, at the price of one look: false is certain. */
static inline bool breaks_near(const struct breaks *b, laddr la) { return b->filter >> (la >> PAGE_SHIFT) % 64 & 1; }
unsigned breaks_kinds(const struct breaks *b, laddr la);  /* of those that touch la's page: a set of enum watch_kind */
bool breaks_code(const struct breaks *b, laddr la);       /* there is one for what is fetched from la */
laddr breaks_next_code(const struct breaks *b, laddr la); /* the next such in la's page, beyond la; 0: none */
/* The one that data access [la, la + size) of one of these kinds meets, or NULL. */
const struct break_point *breaks_data(const struct breaks *b, laddr la, u32 size, unsigned kinds);

/* One has been met by an access, or is about to be by a fetch: the first counts. */
void breaks_meet(struct breaks *b, struct break_point p);
/* The instruction has not been done after all. */
static inline void breaks_forget(struct breaks *b) { b->met = false; }

#endif
