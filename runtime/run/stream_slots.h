/* A machine's trace stream as data; what is done with it: stream.h. */
#ifndef RUNTIME_STREAM_SLOTS_H
#define RUNTIME_STREAM_SLOTS_H
#include "runtime/runtime.h"

struct vm_stream_header;

struct stream {
    struct rt *rt;
    struct rt_stream cfg;            /* cfg.what is 0: there is none */
    struct vm_stream_header *header; /* cfg.memory's first page; the ring follows */
    u8 *begin;                       /* what has been written since is not published */
    u64 head;                        /* bytes published */
    u8 *nowhere;                     /* memory for what there is no room for */
    bool dropping;                   /* begin is in that */
    u64 lost, untold;                /* records; those of them that no LOST has told of */
    u64 left;                        /* 1 << 32 | address of an instruction that a block was left at, or 0 */
    bool gone;                       /* nobody is waited for any more */
};

static inline bool stream_wants(const struct stream *s, unsigned what) { return (s->cfg.what & what) != 0; }

#endif
