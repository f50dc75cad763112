/* Owns the addresses of code breakpoints that the translator knows (stops.h).
 *
 *   I1  Each enabled code breakpoint is one, and no LIVE or RETIRED block runs across it or begins there without a look
 *       at cpu->stop_neg[].                                                                            [stop_add]
 *   I2  cpu->stop_neg[] has each that is enabled.                                                      [stops_update]
 *
 * One that no breakpoint needs any more stays, for it will be set again: by a kernel at each switch to the process that
 * is debugged, by a debugger at each continuation. */
#include "runtime/run/stops.h"
#include "runtime/mem/breaks.h"
#include "translator/translator.h"

static bool is_stop(u32 dr7, unsigned i) { return dr7 >> 2 * i & 3 && !(dr7 >> (16 + 4 * i) & 3); }

static bool enabled(const struct cpu *c, laddr la)
{
    for (unsigned i = 0; i < 4; i++)
        if (is_stop(c->dr[7], i) && c->dr[i] == la) return true;
    return false;
}

static void stop_add(struct stops *s, const struct cpu *c, struct xl *xl, laddr la)
{
    for (unsigned i = 0; i < s->n; i++)
        if (s->la[i] == la) return;
    xl_forget_linear(xl, la);
    if (s->n < STOPS_MAX) {
        s->la[s->n++] = la;
        return;
    }
    while (enabled(c, s->la[s->next % STOPS_MAX])) s->next++; /* four at most */
    s->la[s->next++ % STOPS_MAX] = la;
}

void stops_update(struct stops *s, struct cpu *c, struct xl *xl)
{
    for (unsigned i = 0; i < 4; i++) {
        bool now = is_stop(c->dr[7], i);
        c->stop_neg[i] = now ? -c->dr[i] : 0; /* a block at 0 leaves for nothing */
        if (now) stop_add(s, c, xl, c->dr[i]);
    }
}

static void stop_before(struct xl_source *src, laddr la)
{
    src->bound = true;
    if (la > src->la && (!src->stop_before || la < src->stop_before)) src->stop_before = la;
}

void stops_note(const struct stops *s, const struct breaks *b, struct xl_source *src)
{
    if (unlikely(b->code) && breaks_near(b, src->la)) {
        laddr next = breaks_next_code(b, src->la);
        if (next) stop_before(src, next);
    }
    for (unsigned i = 0; i < s->n; i++) {
        laddr la = s->la[i];
        if ((la ^ src->la) & PAGE_MASK) continue;
        stop_before(src, la);
        if (la == src->la) src->stop_here = true;
    }
}
