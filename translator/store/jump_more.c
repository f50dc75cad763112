/* Owns what is behind the user's jump cache: buckets of four entries, where rt_exit_jump in enter_x64.S looks before it
 * leaves. A compiler has more targets than a jump cache has entries: cc1 66,000 in one run, of which each that drove
 * another one out cost a way out and a look-up.
 *
 *   I1  Each user entry that is put into the jump cache, or finds its place there taken, is put in here. What is found
 *       here is copied to its place in the jump cache, which therefore is on that one's list.
 *       [xl_jump_fill, xl_jump_fill_page]
 *   I2  A bucket is on the list iff its first entry has code. An entry with neg_tag 0 matches no EIP. */
#include "translator/store/jump_more.h"

#include <string.h>

static struct jump_entry *bucket_of(struct xl *xl, vaddr eip) { return xl->more->bucket[jump_more_index(eip)]; }

static struct jump_entry *find(struct xl *xl, vaddr eip)
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
    return &e[xl->more->turn++ % JUMP_MORE_WAYS];
}

void jump_more_put(struct xl *xl, const struct block *b)
{
    struct jump_more *m = xl->more;
    if (!bucket_of(xl, b->eip)->code) m->list[m->count++] = (u16)jump_more_index(b->eip);
    struct jump_entry *e = find(xl, b->eip);
    if (!e) e = room(xl, b->eip);
    *e = (struct jump_entry){ .neg_tag = jump_more_tag(b->eip), .code = xl->rx + b->host_off };
}

void jump_more_remove(struct xl *xl, vaddr eip, const void *code)
{
    struct jump_entry *e = find(xl, eip);
    if (e && (!code || e->code == code)) e->neg_tag = 0;
}

void jump_more_drop(struct xl *xl, bool (*drops)(void *arg, vaddr eip), void *arg)
{
    struct jump_more *m = xl->more;
    for (u32 n = 0; n < m->count; n++)
        for (unsigned i = 0; i < JUMP_MORE_WAYS; i++) {
            struct jump_entry *e = &m->bucket[m->list[n]][i];
            if (e->neg_tag && drops(arg, jump_more_eip(e->neg_tag))) e->neg_tag = 0;
        }
}

void jump_more_flush(struct xl *xl)
{
    struct jump_more *m = xl->more;
    for (u32 n = 0; n < m->count; n++) memset(m->bucket[m->list[n]], 0, sizeof m->bucket[0]);
    m->count = 0;
}
