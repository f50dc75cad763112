/* The trace stream: records of what the guest does, in a ring that another process reads (transvisor/stream.h). */
#ifndef RUNTIME_STREAM_H
#define RUNTIME_STREAM_H
#include "runtime/cpu/probe.h"
#include "runtime/run/stream_slots.h"

struct insn;

void stream_init(struct stream *s, struct rt *rt);
void stream_free(struct stream *s);
/* What struct xl_tap asks: a set of enum vm_stream_what. */
unsigned stream_of(const struct stream *s, laddr la, unsigned cpl);
/* The interpreter begins an instruction; again: not for the first time. */
void stream_insn(struct stream *s, const struct insn *in, laddr la, bool again);
/* The block that began at `block` was left before the instruction at la, the first of so many. */
void stream_left(struct stream *s, laddr block, laddr la, u64 insns);
void stream_access(struct stream *s, laddr la, unsigned n, bool write, const void *bytes);
void stream_event(struct stream *s, enum probe_event what, u64 address, unsigned size, u64 value, u32 error);
void stream_publish(struct stream *s); /* what has been written may be read */
void stream_look(struct stream *s);    /* the same, and whether there is room again */

#endif
