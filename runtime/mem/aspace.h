/* Address spaces of the guest: one record each, by CR3, of what it has beyond the soft TLB, what that has cost and
 * gained, and one rule by which it gets and loses that. The rule knows no mechanism: who maps windows (window.c) and
 * who runs processes (direct.c) give it a table of calls. All costs and gains are nanoseconds of host time.
 *
 * What programs have gained is remembered by their text, and outlives their address spaces. */
#ifndef RUNTIME_ASPACE_H
#define RUNTIME_ASPACE_H
#include "core/trace.h"

struct aspaces;

/* What an address space can have beyond the soft TLB. */
enum aspace_way { ASPACE_WINDOW, ASPACE_DIRECT, ASPACE_WAYS };

/* Calls concern the present address space. */
struct aspace_mech {
    void *arg;
    bool (*has)(void *arg);  /* asked at every switch: it may have been taken away, or the page directory reused */
    bool (*fits)(void *arg); /* what runs now could use it */
    u64 (*price)(void *arg); /* what giving it would cost, ns. To look costs something, too */
    /* What entries of the guest's kernel since the last call would have cost with it, ns, beyond what they do cost.
     * NULL: nothing. */
    u64 (*stops)(void *arg);
    u64 (*give)(void *arg); /* what giving it has cost, ns, at least 1; 0: it cannot be had now */
    void (*take)(void *arg);
    void (*resume)(void *arg); /* a rest is over (aspace_rests()); may be NULL */
};

MUST_CHECK int aspaces_new(struct aspaces **out, const struct trace *trace); /* trace is borrowed. 0 or -ENOMEM */
void aspaces_free(struct aspaces *as);
/* always: whoever can have it has it, whatever it costs (for tests). mech is copied; NULL: nobody has this way any
 * more. */
void aspaces_way(struct aspaces *as, enum aspace_way way, const struct aspace_mech *mech, bool always);

/* CR3 has been written, or what it leads to may have changed. */
void aspaces_switch(struct aspaces *as, u32 cr3);
/* A kick, and cpu_ns of this thread's time since the one before; user: it has found user code, text being the identity
 * of the code there (a hash of its page; 0: unknown). Here it is decided who gets and loses what. */
void aspaces_kick(struct aspaces *as, u64 cpu_ns, bool user, u64 text);
/* Of the present address space: what a way has cost beside its price, and what it has gained beside time in it. */
void aspaces_cost(struct aspaces *as, enum aspace_way way, u64 ns);
/* A run that gained so much and cost so much; a burst of runs that do not pay makes the way rest. cut_short: a kick has
 * ended it, so that it did not pay says nothing of the program. */
void aspaces_ran(struct aspaces *as, enum aspace_way way, u64 gain_ns, u64 cost_ns, bool cut_short);
bool aspaces_rests(const struct aspaces *as, enum aspace_way way); /* not to be used until a later kick */
/* Gives the way to the present address space now, if it is one that everybody has. */
void aspaces_want(struct aspaces *as, enum aspace_way way);
/* It has been lost by no fault of its own, or is not to be had again soon (blame). The mechanism has taken it. */
void aspaces_lost(struct aspaces *as, enum aspace_way way, bool blame);

/* What is known of a text: how many times the price, as a power of two, its next address space must have lost. */
int aspaces_level(const struct aspaces *as, enum aspace_way way, u64 text);
#define ASPACE_LEVEL_MIN (-2) /* direct execution: -1 */
#define ASPACE_LEVEL_MAX 6

#endif
