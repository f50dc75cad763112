/* Where the processor tells of what happens, if somebody asks: cpu->probes is NULL if nobody does. */
#ifndef RUNTIME_CPU_PROBE_H
#define RUNTIME_CPU_PROBE_H
#include "core/cpu.h"

struct insn;

enum probe_event {
#define EVENT(name, spelling, what, address) EV_##name,
#include "core/events.def"
#undef EVENT
    EV_COUNT
};

struct probe_hooks {
    void *arg;
    bool insns;    /* some are of instructions: the interpreter does one at a time, and tells of it by these three */
    bool blocks;   /* some are of blocks */
    bool accesses; /* accessed() is to be called: the soft TLB serves nobody but translated code, which tells itself */
    /* Before it runs; cpu->eip is its. again: it has begun before, and goes on (REP). True: it is to be skipped. */
    bool (*begins)(void *arg, struct cpu *c, const struct insn *in, bool again);
    void (*done)(void *arg, struct cpu *c, const struct insn *in, laddr la, u8 cpl); /* they and cpl: as it began */
    void (*entered)(void *arg, struct cpu *c);                                       /* a block, at cpu->eip */
    /* With `accesses`: each access to data in linear memory, to all of them, but those that direct execution makes. */
    void (*accessed)(void *arg, struct cpu *c, laddr la, unsigned size, bool write, const void *bytes);
    /* Anything else. size, value: of an access; value is also a vector, or what has been written to CR3. */
    void (*happens)(void *arg, struct cpu *c, enum probe_event what, u64 address, unsigned size, u64 value, u32 error);
};

static inline void probe_tell(struct cpu *c, enum probe_event what, u64 address, unsigned size, u64 value, u32 error)
{
    if (unlikely(c->probes != NULL)) c->probes->happens(c->probes->arg, c, what, address, size, value, error);
}

#endif
