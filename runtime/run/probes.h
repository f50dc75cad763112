/* A machine's probes: whoever wants to be told of what the guest does (runtime.h, rt_probe_add). */
#ifndef RUNTIME_PROBES_H
#define RUNTIME_PROBES_H
#include "runtime/run/probe_slots.h"

struct insn;

void probes_init(struct probes *p, struct rt *rt);
MUST_CHECK int probes_stream_changed(struct probes *p); /* rt->stream is another: 0 or -ENOMEM */
/* What struct xl_tap asks. */
u32 probes_tally_insn(const struct probes *p, const struct insn *in, laddr la, unsigned cpl);
u32 probes_tally_entry(const struct probes *p, laddr la, unsigned cpl);
u32 probes_told(struct probes *p, const struct insn *in, laddr la, unsigned cpl);
bool probes_told_entry(const struct probes *p, laddr la, unsigned cpl);

#endif
