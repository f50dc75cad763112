/* Owns the numbers of contexts: of a mode of segmented code with a base and a limit of CS.
 *
 *   I1  A number stands for one context for as long as xl lives.   [xl_context: numbered only grows]
 *   I2  The table is half empty. One that is not is emptied; whoever comes back gets a new number. */
#include "core/hash.h"
#include "translator/store/xl.h"

#include <string.h>

u32 xl_context(struct xl *xl, u32 mode, u32 base, u32 limit)
{
    struct context_set *s = &xl->contexts;
    u32 i = (u32)hash_slot((u64)base << 32 ^ limit ^ mode * 0x9e3779b9u, 32) % XL_CONTEXTS;
    for (; s->slot[i].number; i = (i + 1) % XL_CONTEXTS) {
        const struct context *c = &s->slot[i];
        if (c->base == base && c->limit == limit && c->mode == mode) return c->number;
    }
    if (s->used >= XL_CONTEXTS / 2) {
        memset(s->slot, 0, sizeof s->slot);
        s->used = 0;
    }
    BUG_ON(s->numbered == CONTEXT_PARAGRAPHS - 1);
    s->used++;
    s->slot[i] = (struct context){ mode, base, limit, ++s->numbered };
    return s->numbered;
}
