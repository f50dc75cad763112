/* Owns the trace stream's ring, as its writer.
 *
 * Translated code and this file write records at cpu->stream.at, and never look whether there is room but at the
 * beginning of a block, or before a record: then there is STREAM_RESERVE more than is asked for, which is enough for
 * any block. What has been granted is published as a whole, when it is used up or the loop comes by.
 *
 *   I1  From cpu->stream.at on there are STREAM_RESERVE bytes whenever it is below the limit (cpu->stream.neg_limit);
 *       with records of this file's it is at most one record beyond that.                          [grant, put]
 *   I2  The reader can make the stream wrong, and nothing else: of what it may write only tail is read, and tail is
 *       taken for what it can be.                                                                  [room]
 *   I3  The guest waits for the reader only where that has been asked for, as long as it is there, and until somebody
 *       wants something of the machine.                                                            [wait_for_room]
 *
 * The ring is mapped twice in a row (rt_stream.memory), so that what is granted never wraps around. */
#include "runtime/run/stream.h"
#include "runtime/run/probes.h"
#include "runtime/run/rt.h"
#include "translator/front/insn.h"
#include "transvisor/stream.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define GRANT (64u << 10)
#define RECORD sizeof(struct vm_stream_record)
#define LEAST (2u * STREAM_RESERVE) /* room for less is none */

_Static_assert(RECORD == STREAM_RECORD && offsetof(struct vm_stream_record, address) == STREAM_RECORD_ADDRESS
                   && offsetof(struct vm_stream_record, value) == STREAM_RECORD_VALUE,
               "as translated code writes it");
_Static_assert(offsetof(struct vm_stream_header, head) == 64 && offsetof(struct vm_stream_header, tail) == 128,
               "in cache lines of their own");
_Static_assert((int)VM_STREAM_BLOCK == (int)STREAM_KIND_BLOCK && (int)VM_STREAM_READ == (int)STREAM_KIND_READ
                   && (int)VM_STREAM_WRITE == (int)STREAM_KIND_WRITE && (int)VM_STREAM_BLOCKS == (int)STREAM_BLOCKS
                   && (int)VM_STREAM_MEMORY == (int)STREAM_MEMORY,
               "core/cpu.h");

void stream_init(struct stream *s, struct rt *rt) { s->rt = rt; }
void stream_free(struct stream *s) { free(s->nowhere); }

static u64 records_since(const struct stream *s) { return (u64)(s->rt->cpu->stream.at - s->begin) / RECORD; }

void stream_publish(struct stream *s)
{
    u64 n = records_since(s);
    if (s->dropping) {
        s->lost += n, s->untold += n;
        __atomic_store_n(&s->header->lost, s->lost, __ATOMIC_RELAXED);
        s->rt->cpu->stream.at = s->begin;
        return;
    }
    s->head += n * RECORD;
    s->begin = s->rt->cpu->stream.at;
    __atomic_store_n(&s->header->head, s->head, __ATOMIC_RELEASE);
}

static u64 room(const struct stream *s)
{
    u64 used = s->head - __atomic_load_n(&s->header->tail, __ATOMIC_ACQUIRE);
    return used <= s->cfg.ring ? s->cfg.ring - used : 0;
}

/* Somebody wants something of the machine. */
static bool wanted(struct rt *rt)
{
    pthread_mutex_lock(&rt->lock);
    bool is = rt->posts || rt->requests;
    pthread_mutex_unlock(&rt->lock);
    return is;
}

static void wait_for_room(struct stream *s)
{
    struct pollfd p = { .fd = s->cfg.reader, .events = 0 };
    while (room(s) < LEAST && !s->gone && !wanted(s->rt)) {
        if (poll(&p, 1, 1) <= 0 || !(p.revents & (POLLHUP | POLLERR))) continue;
        s->gone = true;
        rt_warn(s->rt, "--trace-stream: the reader has gone; what comes now is lost");
    }
}

static void write_record(struct stream *s, const struct vm_stream_record *r)
{
    memcpy(s->rt->cpu->stream.at, r, RECORD);
    s->rt->cpu->stream.at += RECORD;
}

/* More room, once what there was is used up. */
static void grant(struct stream *s)
{
    struct cpu *c = s->rt->cpu;
    stream_publish(s);
    if (s->cfg.wait) wait_for_room(s);
    u64 n = room(s);
    s->dropping = n < LEAST;
    if (n > GRANT || s->dropping) n = GRANT;
    s->begin = s->dropping ? s->nowhere : (u8 *)s->header + s->header->header_bytes + s->head % s->cfg.ring;
    c->stream.at = s->begin;
    c->stream.neg_limit = -((u64)s->begin + n - STREAM_RESERVE);
    if (s->dropping || !s->untold) return;
    write_record(s, &(struct vm_stream_record){ .kind = VM_STREAM_LOST, .value = s->untold });
    s->untold = 0;
}

void stream_look(struct stream *s)
{
    stream_publish(s);
    if (s->dropping && room(s) >= LEAST) grant(s);
}

static void put(struct stream *s, u8 kind, u8 size, u16 at, u32 address, u64 value)
{
    const struct vm_stream_record r = { kind, size, at, address, value };
    struct cpu *c = s->rt->cpu;
    if ((s64)((u64)c->stream.at + c->stream.neg_limit) >= 0) grant(s);
    write_record(s, &r);
}

int helper_stream(struct cpu *c, u32 arg);
int helper_stream(struct cpu *c, u32 arg UNUSED)
{
    grant(&c->rt->stream);
    return HELPER_DONE;
}

/* ---- what is told ---- */

static bool covers(const struct stream *s, laddr la, unsigned cpl)
{
    return la >= s->cfg.from && la <= s->cfg.to && s->cfg.cpls >> cpl & 1;
}

unsigned stream_of(const struct stream *s, laddr la, unsigned cpl)
{
    return covers(s, la, cpl) ? s->cfg.what & (STREAM_BLOCKS | STREAM_MEMORY) : 0;
}

/* Of a block the beginning says whether it is told of. */
void stream_left(struct stream *s, laddr block, laddr la, u64 insns)
{
    if (!stream_wants(s, VM_STREAM_BLOCKS) || !covers(s, block, s->rt->cpu->cpl) || !insns) return;
    put(s, VM_STREAM_LEFT, 0, (u16)la, la, insns);
    s->left = 1ull << 32 | la;
}

/* An instruction that probes have been told of by a block that was then left has begun before, but is in no block. */
void stream_insn(struct stream *s, const struct insn *in, laddr la, bool again)
{
    bool in_none = s->left == (1ull << 32 | la);
    s->left = 0;
    if ((again && !in_none) || !stream_wants(s, VM_STREAM_BLOCKS) || !covers(s, la, s->rt->cpu->cpl)) return;
    put(s, VM_STREAM_BLOCK, 0, (u16)la, la, (u64)s->rt->cpu->cpl << 32 | 1u << 16 | in->len);
}

void stream_access(struct stream *s, laddr la, unsigned n, bool write, const void *bytes)
{
    const struct cpu *c = s->rt->cpu;
    laddr at = c->eip + c->seg[S_CS].base;
    const u8 *from = bytes;
    if (!covers(s, at, c->cpl)) return;
    for (unsigned piece; n; n -= piece, la += piece, from += piece) {
        u64 v = 0;
        piece = stream_piece(n);
        memcpy(&v, from, piece);
        put(s, write ? VM_STREAM_WRITE : VM_STREAM_READ, (u8)piece, (u16)at, la, v);
    }
}

void stream_event(struct stream *s, enum probe_event what, u64 address, unsigned size, u64 value, u32 error)
{
    static const u8 kinds[EV_COUNT] = {
        [EV_IN] = VM_STREAM_IN,
        [EV_OUT] = VM_STREAM_OUT,
        [EV_MMIO_READ] = VM_STREAM_MMIO_READ,
        [EV_MMIO_WRITE] = VM_STREAM_MMIO_WRITE,
        [EV_EXCEPTION] = VM_STREAM_EXCEPTION,
        [EV_INTERRUPT] = VM_STREAM_INTERRUPT,
        [EV_CR3] = VM_STREAM_CR3,
        [EV_TASK] = VM_STREAM_TASK,
    };
    const struct cpu *c = s->rt->cpu;
    laddr at = c->eip + c->seg[S_CS].base;
    if (!kinds[what] || !covers(s, at, c->cpl)) return;
    bool access = kinds[what] <= VM_STREAM_MMIO_WRITE;
    put(s, kinds[what], access ? (u8)size : 0, (u16)at, (u32)address, (u64)error << 32 | value);
}

/* ---- beginning and end ---- */

int rt_stream_begin(struct rt *rt, const struct rt_stream *cfg)
{
    struct stream *s = &rt->stream;
    if (s->cfg.what) return -EEXIST;
    if (!(s->nowhere = malloc(GRANT))) return -ENOMEM;
    s->cfg = *cfg;
    s->header = cfg->memory;
    s->head = s->lost = s->untold = s->left = 0;
    s->dropping = s->gone = false;
    s->begin = rt->cpu->stream.at = s->nowhere;
    grant(s);
    return probes_stream_changed(&rt->probes);
}

void rt_stream_end(struct rt *rt)
{
    struct stream *s = &rt->stream;
    if (!s->cfg.what) return;
    stream_publish(s);
    __atomic_store_n(&s->header->ended, 1, __ATOMIC_RELEASE);
    s->cfg.what = 0;
    free(s->nowhere);
    s->nowhere = NULL;
    (void)!probes_stream_changed(&rt->probes); /* there is less of it */
}

u64 rt_stream_told(const struct rt *rt) { return rt->stream.head / RECORD; }
u64 rt_stream_lost(const struct rt *rt) { return rt->stream.lost; }
