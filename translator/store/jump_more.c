/* Owns what is behind the user's jump cache: buckets of four entries, where rt_exit_jump in enter_x64.S looks before it
 * leaves. A compiler has more targets than a jump cache has entries: cc1 66,000 in one run, of which each that drove
 * another one out cost a way out and a look-up. A small program's find their places, and it lives briefly: nothing is
 * put in here before JUMP_MORE_FROM have been driven out since the last flush, and nobody looks before that.
 *
 *   I1  Whatever is in here has been in the jump cache since the last flush, so that its place there is on that one's
 *       list: what rt_exit_jump finds here it copies to that place.                                    [xl_jump_fill]
 *   I2  A bucket is on the list iff its first entry has code. An entry with neg_tag 0 matches no EIP. */
#include "translator/store/jump_more.h"
#include "translator/store/hostmem.h"

#include <errno.h>
#include <string.h>

#define JUMP_MORE_FROM 256u
#define BUCKET_BYTES ((u64)JUMP_MORE_BUCKETS * JUMP_MORE_WAYS * sizeof(struct jump_entry))
#define LIST_BYTES (JUMP_MORE_BUCKETS * sizeof(u16))

int jump_more_init(struct xl *xl)
{
    struct jump_more *m = &xl->more;
    m->bucket = (struct jump_entry(*)[JUMP_MORE_WAYS])hostmem_map(BUCKET_BYTES);
    m->list = (u16 *)hostmem_map_small(LIST_BYTES);
    return m->bucket && m->list ? 0 : -ENOMEM;
}

void jump_more_free(struct xl *xl)
{
    hostmem_unmap(xl->more.bucket, BUCKET_BYTES);
    hostmem_unmap(xl->more.list, LIST_BYTES);
}

void *xl_jump_more(struct xl *xl, enum xl_jump_cache which)
{
    return which == XL_JC_USER && xl->more.count ? xl->more.bucket : NULL;
}

static struct jump_entry *bucket_of(const struct xl *xl, vaddr eip) { return xl->more.bucket[jump_more_index(eip)]; }

static struct jump_entry *find(const struct xl *xl, vaddr eip)
{
    struct jump_entry *e = bucket_of(xl, eip);
    for (unsigned i = 0; i < JUMP_MORE_WAYS; i++)
        if (e[i].neg_tag == jump_more_tag(eip)) return &e[i];
    return NULL;
}

static struct jump_entry *room(struct xl *xl, vaddr eip)
{
    struct jump_entry *e = bucket_of(xl, eip);
    for (unsigned i = 0; i < JUMP_MORE_WAYS; i++)
        if (!e[i].neg_tag) return &e[i];
    return &e[xl->more.turn++ % JUMP_MORE_WAYS];
}

void jump_more_put(struct xl *xl, vaddr eip, void *code)
{
    struct jump_more *m = &xl->more;
    if (m->displaced < JUMP_MORE_FROM) {
        m->displaced++;
        return;
    }
    if (!bucket_of(xl, eip)->code) m->list[m->count++] = (u16)jump_more_index(eip);
    struct jump_entry *e = find(xl, eip);
    if (!e) e = room(xl, eip);
    *e = (struct jump_entry){ .neg_tag = jump_more_tag(eip), .code = code };
}

void jump_more_remove(struct xl *xl, vaddr eip, const void *code)
{
    struct jump_entry *e = xl->more.count ? find(xl, eip) : NULL;
    if (e && (!code || e->code == code)) e->neg_tag = 0;
}

void jump_more_drop(struct xl *xl, bool (*drops)(void *arg, vaddr eip), void *arg)
{
    struct jump_more *m = &xl->more;
    for (u32 n = 0; n < m->count; n++)
        for (unsigned i = 0; i < JUMP_MORE_WAYS; i++) {
            struct jump_entry *e = &m->bucket[m->list[n]][i];
            if (e->neg_tag && drops(arg, jump_more_eip(e->neg_tag))) e->neg_tag = 0;
        }
}

void jump_more_flush(struct xl *xl)
{
    struct jump_more *m = &xl->more;
    for (u32 n = 0; n < m->count; n++) memset(m->bucket[m->list[n]], 0, sizeof m->bucket[0]);
    m->count = m->displaced = 0;
}
