/* Owns the list of listeners, and with it the order in which they hear of an event.
 *
 *   I1  The list is sorted by rank; listeners of one rank stand in the order in which they came.  [coherence_listen]
 *   I2  A listener is in the list at most once.                                                   [coherence_listen] */
#include "runtime/mem/coherence.h"

void coherence_listen(struct coherence *co, struct coherence_listener *l)
{
    struct coherence_listener **p = &co->first;
    for (; *p && (*p)->rank <= l->rank; p = &(*p)->next) BUG_ON(*p == l);
    l->next = *p;
    *p = l;
}

void coherence_unlisten(struct coherence *co, struct coherence_listener *l)
{
    struct coherence_listener **p = &co->first;
    while (*p && *p != l) p = &(*p)->next;
    if (!*p) return;
    *p = l->next;
    l->next = NULL;
}

void coherence_flushed(const struct coherence *co, struct cpu *c, enum tlb_flush_kind kind, laddr la)
{
    for (const struct coherence_listener *l = co->first; l; l = l->next)
        if (l->flushed) l->flushed(l->arg, c, kind, la);
}

void coherence_protect(const struct coherence *co, paddr page)
{
    for (const struct coherence_listener *l = co->first; l; l = l->next)
        if (l->protect) l->protect(l->arg, page);
}

bool coherence_written(const struct coherence *co, paddr pa, unsigned len, u8 flags)
{
    bool code = false;
    for (const struct coherence_listener *l = co->first; l; l = l->next)
        if (l->written) code |= l->written(l->arg, pa, len, flags);
    return code;
}

void coherence_debug(const struct coherence *co, struct cpu *c)
{
    for (const struct coherence_listener *l = co->first; l; l = l->next)
        if (l->debug) l->debug(l->arg, c);
}

void coherence_watched(const struct coherence *co, laddr la)
{
    for (const struct coherence_listener *l = co->first; l; l = l->next)
        if (l->watched) l->watched(l->arg, la);
}

void coherence_forget(const struct coherence *co, laddr la, u32 pages)
{
    for (const struct coherence_listener *l = co->first; l; l = l->next)
        if (l->forget) l->forget(l->arg, la, pages);
}

void coherence_table_written(const struct coherence *co, paddr pa, unsigned len)
{
    for (const struct coherence_listener *l = co->first; l; l = l->next)
        if (l->table_written) l->table_written(l->arg, pa, len);
}

void coherence_remapped(const struct coherence *co)
{
    for (const struct coherence_listener *l = co->first; l; l = l->next)
        if (l->remapped) l->remapped(l->arg);
}

void coherence_aged(const struct coherence *co, u64 now_ms)
{
    for (const struct coherence_listener *l = co->first; l; l = l->next)
        if (l->aged) l->aged(l->arg, now_ms);
}
