/* Owns the decision which address spaces have a window, and which a process for direct execution.
 *
 * Each is faster than what comes before it, and costs something to get. Which an address space is better off with
 * depends on how long it will live, which nobody knows, so it is the old problem of renting or buying skis, for each
 * way alike:
 *
 *   - Rent: a share of the CPU time that user code runs without it (loss_share[]). When the rent paid equals the price,
 *     the address space is given the way. That is at most twice the price of knowing. What its system calls and page
 *     faults would cost more with the way is no loss: who would lose by these all the time never pays any rent.
 *   - With it: the gain, less what it goes on costing (faults in a window, stops of a process). When the costs
 *     have lately exceeded the gains by the price, or a part of it (patience[]), and by a share of all that was gained
 *     (LOYALTY), it is taken away: an address space that has gained a second is not given up for a bad moment.
 *   - A burst of runs that do not pay makes a way rest until the next kick, and twice as long each time, until a time
 *     between two kicks has paid: the address space keeps what it has, and does without.
 *   - Risk: what a way costs beyond its gains is never more than a hundredth of all time and a small sum (the purse).
 *     One address space that gets it too early loses a price; a thousand short ones must not lose a thousand.
 *   - Experience: a program that gained twice what it paid makes its texts half as dear for the next process of it; one
 *     that did not gain it makes them twice as dear, one whose way had to be taken away four times. A program of good
 *     experience risks nothing of the purse: what it may lose is what it gained before.
 *   - A text is a page of code. A program is known by several, for a compiler has hundreds that are equally hot.
 *
 *   I1  book.has says what the mechanism said at the last switch, or what has been given and taken since.
 *   I2  Among a record's texts are all that more than one in TEXTS + 1 of its kicks in user code have found.    [vote]
 *   I3  Nothing is decided but at kicks, so that a decision may cost what a mapping does.              [aspaces_kick]
 */
#include "runtime/mem/aspace.h"
#include "core/hash.h"

#include <errno.h>
#include <string.h>

/* CPU time with a way against without, in sixty-fourths. bench/guest's programs took 0.37 to 0.91 of the soft TLB's
 * time in a window, geometric mean 0.54; others touch memory less. What the processor runs itself takes 16/19 of a
 * window's time. */
#define WHOLE 64
static const u8 loss_share[ASPACE_WAYS][2] = {
    /* of time without; [1]: with a window already */
    [ASPACE_WINDOW] = { 24, 0 },
    [ASPACE_DIRECT] = { 38, 10 },
};
/* Quarters of the price that costs may exceed gains by. Faults in a window come in bursts (a process that touches new
 * memory), and do not end by resting, as stops do. */
static const u8 patience[ASPACE_WAYS] = { [ASPACE_WINDOW] = 1, [ASPACE_DIRECT] = 4 };
#define LOYALTY 16 /* one of so many parts of the gain may be lost again */
/* What direct execution gains is an estimate, and part of what it costs (cold caches) goes unseen: not far below its
 * price. */
static const s8 least_level[ASPACE_WAYS] = { [ASPACE_WINDOW] = ASPACE_LEVEL_MIN, [ASPACE_DIRECT] = -1 };
/* Of all CPU time so much may be risked on a way, and of its gains, which are estimates, a half. 0: without limit. */
static const u8 risk_percent[ASPACE_WAYS] = { [ASPACE_DIRECT] = 1 };
#define PURSE_MAX_NS 10000000 /* full at the start: so much may be lost at once after a time without losses */
#define WINDOW_GAIN_SHARE 38  /* of time in a window. What direct execution gains is counted by its runs */

#define SPACE_BITS 6
#define EXPERIENCE_BITS 12
#define TEXTS 8
#define FEW 4 /* of a record's texts those count that have more than one vote for so many of the most frequent's */
#define KICK_MAX_NS 20000000u /* CPU time between two kicks that is believed to have been one process's */
#define FUTILE_MAX 3          /* runs in a row that do not pay before a way rests, */
#define CREDIT_MAX_NS 1000000 /* and do not lose what was gained just before: a half of it, and no more than this */
#define REST_MAX 6            /* doublings */

struct book {
    bool has;
    u64 rent_ns, asked_ns; /* without: paid so far; the price when it was last asked */
    u64 price_ns;         /* with: what it has cost to get, or was to cost, if that was more: the rest is yet to come */
    u64 gain_ns, cost_ns; /* since, price included */
    u64 gain_now, cost_now; /* since the last kick */
    u64 credit_ns;          /* what runs that do not pay may lose before they count */
    s64 debt_ns;            /* costs less gains since the last time when these were more */
    u8 futile, rest;        /* runs in a row; doublings of the next rest */
    bool rests;
    u32 rest_until; /* kick */
};

struct text {
    u64 text;
    u32 votes; /* 0: free */
};

struct aspace {
    u32 cr3;
    struct text text[TEXTS];
    struct book book[ASPACE_WAYS];
};

struct experience {
    u64 text;
    s8 level[ASPACE_WAYS];
};

struct aspaces {
    const struct trace *trace;
    struct way {
        struct aspace_mech mech;
        bool there, always;
        u64 beyond_ns; /* what giving costs more than its price says: a running average */
        s64 purse_ns;  /* what may be lost yet */
    } way[ASPACE_WAYS];
    struct aspace *here, none; /* none: before the first switch */
    struct aspace slot[1 << SPACE_BITS];
    struct experience known[1 << EXPERIENCE_BITS];
    u32 kicks;
};

static const char *const way_name[ASPACE_WAYS] = { "window", "direct" };
static unsigned us(u64 ns) { return (unsigned)(ns / 1000); }

/* ---- experience ---- */

static struct experience *known_at(const struct aspaces *as, u64 text)
{
    return (struct experience *)&as->known[hash_slot(text, EXPERIENCE_BITS)];
}

int aspaces_level(const struct aspaces *as, enum aspace_way way, u64 text)
{
    const struct experience *e = known_at(as, text);
    return text && e->text == text ? e->level[way] : 0;
}

/* What is known of a program: the mean of its texts, each as often as it was found. */
static int level_of(const struct aspaces *as, enum aspace_way way, const struct aspace *a)
{
    s64 sum = 0, votes = 0;
    for (unsigned i = 0; i < TEXTS; i++) {
        sum += (s64)a->text[i].votes * aspaces_level(as, way, a->text[i].text);
        votes += a->text[i].votes;
    }
    return votes ? (int)((2 * sum + (sum < 0 ? -votes : votes)) / (2 * votes)) : 0;
}

static void learn_text(struct aspaces *as, enum aspace_way way, u64 text, int step)
{
    struct experience *e = known_at(as, text);
    if (e->text != text) *e = (struct experience){ .text = text };
    int level = e->level[way] + step;
    int least = least_level[way];
    e->level[way] = (s8)(level < least ? least : level > ASPACE_LEVEL_MAX ? ASPACE_LEVEL_MAX : level);
}

/* Of all texts but those that few kicks have found: they may be a library's. */
static void learn(struct aspaces *as, enum aspace_way way, const struct aspace *a, int step)
{
    u32 most = 0;
    for (unsigned i = 0; i < TEXTS; i++)
        if (a->text[i].votes > most) most = a->text[i].votes;
    for (unsigned i = 0; i < TEXTS; i++)
        if (a->text[i].votes > most / FEW) learn_text(as, way, a->text[i].text, step);
}

static u64 scaled(u64 ns, int level) { return level < 0 ? ns >> -level : ns << level; }

/* Misra and Gries's frequent items: whom there is no room for costs all others a vote. */
static void vote(struct aspace *a, u64 text)
{
    struct text *free = NULL;
    if (!text) return;
    for (unsigned i = 0; i < TEXTS; i++) {
        struct text *t = &a->text[i];
        if (!t->votes) free = t;
        else if (t->text == text) {
            t->votes++;
            return;
        }
    }
    if (free) *free = (struct text){ text, 1 };
    else
        for (unsigned i = 0; i < TEXTS; i++) a->text[i].votes--;
}

/* ---- risk ---- */

static void purse_add(struct aspaces *as, enum aspace_way way, u64 ns)
{
    s64 *purse = &as->way[way].purse_ns, sum = *purse + (s64)ns;
    *purse = sum < PURSE_MAX_NS ? sum : PURSE_MAX_NS;
}

static bool purse_allows(const struct aspaces *as, enum aspace_way way, u64 ns)
{
    return !risk_percent[way] || as->way[way].purse_ns >= (s64)(ns < PURSE_MAX_NS ? ns : PURSE_MAX_NS);
}

/* ---- getting and losing ---- */

static void give(struct aspaces *as, enum aspace_way way, u64 price)
{
    struct way *w = &as->way[way];
    struct aspace *a = as->here;
    struct book *b = &a->book[way];
    u64 rent = b->rent_ns, cost = w->mech.give(w->mech.arg);
    if (!cost) { /* asked again when as much has been lost once more */
        b->rent_ns = 0;
        return;
    }
    TRACE(as->trace, window, 0, "aspace: cr3 %08x gets its %s for %u us, after losing %u us; level %d\n", a->cr3,
          way_name[way], us(cost), us(rent), level_of(as, way, a));
    if (price && cost < 4 * price) /* else the host has run something else meanwhile */
        w->beyond_ns = w->beyond_ns - w->beyond_ns / 4 + (cost > price ? cost - price : 0) / 4;
    *b = (struct book){ .has = true, .price_ns = cost > price ? cost : price, .cost_ns = cost };
    w->purse_ns -= (s64)cost;
}

/* It has it no more: was it worth it? */
static void settle(struct aspaces *as, struct aspace *a, enum aspace_way way, bool given_up)
{
    struct book *b = &a->book[way];
    int step = b->gain_ns >= 2 * b->cost_ns ? -1 : b->gain_ns >= b->cost_ns ? 0 : 1;
    TRACE(as->trace, window, 0, "aspace: cr3 %08x has lost its %s%s: it cost %u us and gained %u us\n", a->cr3,
          way_name[way], given_up ? ", given up" : "", us(b->cost_ns), us(b->gain_ns));
    learn(as, way, a, given_up ? 2 : step);
    *b = (struct book){ .has = false };
}

static void give_up(struct aspaces *as, enum aspace_way way)
{
    struct way *w = &as->way[way];
    w->mech.take(w->mech.arg);
    settle(as, as->here, way, true);
}

void aspaces_lost(struct aspaces *as, enum aspace_way way, bool blame)
{
    if (!as->here->book[way].has) return;
    settle(as, as->here, way, blame);
}

/* ---- kicks ---- */

/* Asking for the price costs something itself, so it is done when the rent may be enough. */
static void consider_giving(struct aspaces *as, enum aspace_way way, u64 cpu_ns, u64 stops_ns)
{
    struct way *w = &as->way[way];
    struct aspace *a = as->here;
    struct book *b = &a->book[way];
    if (!w->mech.fits(w->mech.arg)) return;
    b->rent_ns += cpu_ns * loss_share[way][a->book[ASPACE_WINDOW].has] / WHOLE;
    b->rent_ns -= stops_ns < b->rent_ns ? stops_ns : b->rent_ns;
    int level = level_of(as, way, a);
    if (b->rent_ns < scaled(b->asked_ns, level)) return;
    if (level >= 0 && !purse_allows(as, way, 1)) return;
    u64 price = w->mech.price(w->mech.arg);
    b->asked_ns = price + w->beyond_ns;
    if (b->rent_ns >= scaled(b->asked_ns, level) && (level < 0 || purse_allows(as, way, price))) give(as, way, price);
}

static void consider_taking(struct aspaces *as, enum aspace_way way)
{
    struct book *b = &as->here->book[way];
    b->debt_ns += (s64)b->cost_now - (s64)b->gain_now;
    if (b->debt_ns < 0) b->debt_ns = 0;
    if (b->gain_now > b->cost_now) b->rest = 0;
    b->gain_now = b->cost_now = 0;
    if (as->way[way].always) return;
    if (b->debt_ns > (s64)(b->price_ns * patience[way] / 4 + b->gain_ns / LOYALTY)) {
        give_up(as, way);
        return;
    }
    if (!b->rests || (s32)(as->kicks - b->rest_until) < 0) return;
    b->rests = false;
    if (as->way[way].mech.resume) as->way[way].mech.resume(as->way[way].mech.arg);
}

static void gain(struct book *b, u64 ns)
{
    b->gain_ns += ns;
    b->gain_now += ns;
}

void aspaces_kick(struct aspaces *as, u64 cpu_ns, bool user, u64 text)
{
    struct aspace *a = as->here;
    if (cpu_ns > KICK_MAX_NS) cpu_ns = KICK_MAX_NS;
    as->kicks++;
    if (user) vote(a, text);
    if (user && a->book[ASPACE_WINDOW].has) gain(&a->book[ASPACE_WINDOW], cpu_ns * WINDOW_GAIN_SHARE / WHOLE);
    for (enum aspace_way way = 0; way < ASPACE_WAYS; way++) {
        const struct aspace_mech *m = &as->way[way].mech;
        if (!as->way[way].there) continue;
        const u64 stops_ns = m->stops ? m->stops(m->arg) : 0;
        purse_add(as, way, cpu_ns * risk_percent[way] / 100);
        if (a->book[way].has) consider_taking(as, way);
        else if (user && !as->way[way].always) consider_giving(as, way, cpu_ns, stops_ns);
    }
}

void aspaces_cost(struct aspaces *as, enum aspace_way way, u64 ns)
{
    struct book *b = &as->here->book[way];
    b->cost_ns += ns;
    b->cost_now += ns;
    as->way[way].purse_ns -= (s64)ns;
}

/* Whether a run has cost more than it gained, and more than is left of what those before it gained. A program that
 * works for a millisecond and is stopped four times then is better off with its way than resting until the next kick.
 */
static bool ran_in_vain(struct book *b, u64 gain_ns, u64 cost_ns)
{
    if (gain_ns >= cost_ns) {
        u64 sum = b->credit_ns + (gain_ns - cost_ns) / 2;
        b->credit_ns = sum < CREDIT_MAX_NS ? sum : CREDIT_MAX_NS;
        b->futile = 0;
        return false;
    }
    if (b->credit_ns < cost_ns - gain_ns) return true;
    b->credit_ns -= cost_ns - gain_ns;
    return false;
}

void aspaces_ran(struct aspaces *as, enum aspace_way way, u64 gain_ns, u64 cost_ns, bool cut_short)
{
    struct book *b = &as->here->book[way];
    gain(b, gain_ns);
    aspaces_cost(as, way, cost_ns);
    purse_add(as, way, gain_ns / 2);
    if (!ran_in_vain(b, gain_ns, cost_ns) || cut_short) return;
    b->futile++;
    if (b->futile < FUTILE_MAX || as->way[way].always) return;
    b->futile = 0;
    b->rests = true;
    b->rest_until = as->kicks + (1u << b->rest);
    if (b->rest < REST_MAX) b->rest++;
}

bool aspaces_rests(const struct aspaces *as, enum aspace_way way) { return as->here->book[way].rests; }

/* ---- following the guest ---- */

static struct aspace *aspace_at(struct aspaces *as, u32 cr3)
{
    struct aspace *a = &as->slot[hash_slot(cr3 >> 5, SPACE_BITS)];
    if (a->cr3 != cr3) *a = (struct aspace){ .cr3 = cr3 };
    return a;
}

void aspaces_want(struct aspaces *as, enum aspace_way way)
{
    struct way *w = &as->way[way];
    if (w->there && w->always && !as->here->book[way].has && w->mech.fits(w->mech.arg)) give(as, way, 0);
}

void aspaces_switch(struct aspaces *as, u32 cr3)
{
    struct aspace *a = as->here = aspace_at(as, cr3);
    bool gone = false; /* most likely its page directory serves another process, whose texts are others */
    for (enum aspace_way way = 0; way < ASPACE_WAYS; way++) {
        if (!as->way[way].there) continue;
        bool has = as->way[way].mech.has(as->way[way].mech.arg);
        if (a->book[way].has && !has) {
            settle(as, a, way, false);
            gone = true;
        }
        if (has && !a->book[way].has)
            a->book[way] = (struct book){ .has = true }; /* another took its record meanwhile */
        aspaces_want(as, way);
    }
    if (gone) memset(a->text, 0, sizeof a->text);
}

/* ---- lifetime ---- */

int aspaces_new(struct aspaces **out, const struct trace *trace)
{
    struct aspaces *as = calloc(1, sizeof *as);
    if (!as) return -ENOMEM;
    as->trace = trace;
    as->here = &as->none;
    *out = as;
    return 0;
}

void aspaces_free(struct aspaces *as) { free(as); }

void aspaces_way(struct aspaces *as, enum aspace_way way, const struct aspace_mech *mech, bool always)
{
    as->way[way] = (struct way){ .there = mech != NULL, .always = always, .purse_ns = PURSE_MAX_NS };
    if (mech) as->way[way].mech = *mech;
    for (unsigned i = 0; i < 1u << SPACE_BITS; i++) as->slot[i].book[way] = (struct book){ .has = false };
}
