/* Feeds the translator whatever a hostile guest could, and looks at what comes out (tests/emit/host_check.h): no BUG,
 * no host instruction outside of what is allowed, records that lead back to guest instructions, a graph that survives
 * writes to code. And templates: what one gives elsewhere, for other constants, after an eviction, is what translation
 * gives.
 *
 *   fuzz_translate [--seed N] [--count N] [--verbose]
 *
 * Nothing is executed here: fuzz_exec.c does that. A failure prints the seed and number that make it again, and the
 * bytes. */
#include "tests/emit/clone_check.h"
#include "tests/emit/host_check.h"
#include "tests/fuzz/gen_guest.h"
#include "translator/lower/reloc.h"
#include "translator/store/store.h"
#include "translator/store/template.h"

#include <getopt.h>

struct fuzz {
    struct xlf f[2]; /* window off, on */
    struct xlf t[2]; /* the same, for templates: emptied before each case */
    struct clone_page page, moved_page;
    struct host_check h;
    struct rng rng;
    u64 seed, number;
    u64 insns, host_bytes, equal, relocated, refused;
    u32 largest;
    struct {
        laddr la;
        u32 cs_base;
        paddr pa, pa2;
        u32 mode;
        bool window;
        u8 code[GUEST_MAX];
        unsigned n;
        bool tapped;
        struct xl_tap tap;
    } c;
};

static void describe(const struct fuzz *z, FILE *out)
{
    fprintf(out, "seed %llu number %llu: la %08x cs base %08x pa %llx mode %04x window %d\n",
            (unsigned long long)z->seed, (unsigned long long)z->number, z->c.la, z->c.cs_base,
            (unsigned long long)z->c.pa, z->c.mode, z->c.window);
    for (unsigned i = 0; i < z->c.n; i++) fprintf(out, "%02x", z->c.code[i]);
    fprintf(out, "\n");
}

static u32 any_mode(struct rng *r)
{
    u32 mode = MODE_BARE & ~(u32)MK_PG;
    if (rng_percent(r, 60)) mode = MODE_FLAT & ~(u32)MK_PG;
    else mode |= rng_u32(r) & (MK_SSFLAT | MK_DSFLAT | MK_ESFLAT);
    if (rng_percent(r, 80)) mode |= MK_PG;
    u32 cpl = rng_percent(r, 45) ? 0 : rng_percent(r, 80) ? 3 : 1 + rng_below(r, 2);
    if (cpl == 3 && rng_percent(r, 50)) mode |= MK_UWINDOW;
    return mode | cpl;
}

/* What is to be noticed: every instruction, and some of them by more than their number. */
static u32 tap_insn(const void *arg, const struct insn *in, laddr la, unsigned cpl)
{
    (void)arg, (void)cpl;
    return 1u | (la % 3 ? 0 : 1u << (in->op % TALLIES));
}
static u32 tap_entry(const void *arg, laddr la, unsigned cpl)
{
    (void)arg, (void)cpl;
    return la % 2 ? 0x80000000u : 0;
}
static u32 tap_told(const void *arg, const struct insn *in, laddr la, unsigned cpl)
{
    (void)arg, (void)in, (void)cpl;
    return la % 31 == 0 ? TAP_INTERPRET : la % 3 == 1 ? la % 256 : TAP_NOBODY;
}
/* Nothing: host_check.h knows no stores into the ring. */
static unsigned tap_streams(const void *arg, laddr la, unsigned cpl)
{
    (void)arg, (void)la, (void)cpl;
    return 0;
}
static bool tap_told_entry(const void *arg, laddr la, unsigned cpl)
{
    (void)arg, (void)cpl;
    return la % 5 == 0;
}

static void make_case(struct fuzz *z)
{
    struct rng *r = &z->rng;
    rng_seed(r, z->seed * 1000003 + z->number);
    z->c.mode = any_mode(r);
    z->c.window = rng_percent(r, 50);
    unsigned meant = guest_code(r, z->c.code, sizeof z->c.code);
    u32 page = rng_u32(r) & PAGE_MASK & 0xffffff;
    unsigned off = rng_below(r, PAGE_SIZE - 1);
    if (rng_percent(r, 40))
        off = PAGE_SIZE - 1 - rng_below(r, meant ? meant < 64 ? meant : 64 : 1); /* the page ends inside */
    if (off <= PAGE_SIZE - 16 && rng_percent(r, 10)) z->c.mode |= MK_CHECKED;
    z->c.la = (rng_u32(r) & 0xff000000) | page | off;
    z->c.pa = page | off;
    /* The next linear page: another frame, the same one, or none. */
    u32 kind = rng_below(r, 4);
    z->c.pa2 = kind == 0 ? XL_NO_PAGE : kind == 1 ? page : (paddr)page + 0x1000000;
    z->c.n = sizeof z->c.code;
    z->c.tapped = rng_percent(r, 15);
    z->c.tap = (struct xl_tap){ .limited = rng_percent(r, 50),
                                .insn = tap_insn,
                                .entry = tap_entry,
                                .told = tap_told,
                                .told_entry = tap_told_entry,
                                .streams = tap_streams,
                                .arg = z };
    z->c.cs_base = rng_percent(r, 70) ? 0 : rng_u32(r);
    if (z->c.cs_base) z->c.mode &= ~(u32)MK_CSFLAT;
}

/* Where guest instructions start, as the records claim, must be where the decoder finds them. */
static const char *check_recovery(struct fuzz *z, struct xlf *f, const struct block *b)
{
    u8 starts[XL_MAX_INSNS * 16] = { 0 };
    unsigned off = 0;
    for (unsigned i = 0; i < b->ninsns; i++) {
        struct insn in;
        starts[off] = 1;
        if (decode(f->dec, z->c.code + off, z->c.n - off, b->eip + off, true, ~0u, &in) != DECODE_OK) break;
        off += in.len;
    }
    for (u32 at = 0; at < b->host_len; at++) {
        struct xl_point p;
        if (!xl_recover(f->xl, (u64)f->xl->rx + b->host_off + at, &p)) return "a host pc that nothing recovers";
        if (p.block != b || p.eip - b->eip >= b->guest_len || !starts[p.eip - b->eip])
            return "a host pc that recovers to no instruction";
        unsigned first = PAGE_SIZE - (unsigned)(b->pa & (PAGE_SIZE - 1)), guest = p.eip - b->eip;
        if (p.pa != (guest < first ? b->pa + guest : b->pa2 + (guest - first)))
            return "a site's physical address is wrong";
    }
    return NULL;
}

/* Writes to the block's bytes, revival, forgetting: the graph must stay whole. */
static const char *check_life(struct fuzz *z, struct xlf *f, struct block *b, const struct xl_source *src)
{
    struct rng *r = &z->rng;
    enum xl_jump_cache which = (b->mode & MK_CPL) == 3 ? XL_JC_USER : XL_JC_SUPERVISOR;
    if (f->xl->jc_base[which] != b->la - b->eip) xl_jump_flush(f->xl, which); /* as the dispatcher does */
    xl_jump_fill(f->xl, which, b);
    if (xl_find(f->xl, src) != b) return "a block that is not found";
    if (rng_percent(r, 40)) return NULL;
    paddr at = b->pa2 != XL_NO_PAGE && rng_percent(r, 50) ? b->pa2 : b->pa;
    xl_retire(f->xl, at, 1);
    if (xl_block_live(b)) return "a write to its bytes left a block alive";
    if (rng_percent(r, 60)) {
        if (!xl_revive(f->xl, b, src)) return "the same bytes did not revive a block";
    } else {
        xl_forget(f->xl, b);
        if (xl_find(f->xl, src)) return "a forgotten block is found";
    }
    return NULL;
}

/* ---- templates ---- */

/* Other values in the fields that the one template there is knows of, now and then ones that change the shape of the
 * code. */
static bool change_fields(struct fuzz *z, const struct xl *xl, u8 *code)
{
    const struct template *t = &xl->templates->t[0];
    const struct reloc *r = template_relocs(t, xl->side + t->side);
    u32 all = rng_percent(&z->rng, 50) ? rng_below(&z->rng, 0x10000) : rng_u32(&z->rng) & PAGE_MASK;
    bool any = false, together = rng_percent(&z->rng, 70); /* as relocation changes them */
    for (unsigned i = 0; i < t->nrel; i++) {
        u32 v;
        if (!r[i].field) continue;
        memcpy(&v, code + r[i].field, 4);
        v = together ? v + all : rng_percent(&z->rng, 50) ? guest_value(&z->rng) : v ^ rng_below(&z->rng, PAGE_SIZE);
        memcpy(code + r[i].field, &v, 4);
        any = true;
    }
    return any;
}

static void empty(struct xl *xl)
{
    template_drop_all(xl);
    xl_flush(xl);
}

/* Other code behind what the one template depends on. */
static bool change_behind(struct fuzz *z, const struct xl *xl, u8 *code, unsigned n)
{
    unsigned from = xl->templates->t[0].depends;
    for (unsigned i = from; i < n; i++) code[i] = (u8)rng_u32(&z->rng);
    return from < 16; /* then it may not be found */
}

/* The same code at another place, now and then with other constants or other code behind it, and out of what an
 * eviction has left. */
static const char *check_templates(struct fuzz *z)
{
    struct xlf *f = &z->t[z->c.window];
    struct rng *r = &z->rng;
    unsigned off = z->c.la & ~PAGE_MASK, n = PAGE_SIZE + 16 - off < z->c.n ? PAGE_SIZE + 16 - off : z->c.n;
    bool evicted, changed = false;
    memcpy(z->page.bytes + off, z->c.code, n);
    empty(f->xl);
    struct xl_source at = clone_source(&z->page, z->c.la, z->c.pa, z->c.mode);
    at.eip -= z->c.cs_base;
    struct block *b = xl_translate(f->xl, &at, &evicted);
    if (!f->xl->templates->n) {
        z->refused++;
        bool free = !(z->c.mode & MK_CHECKED) && !b->partial; /* to be had elsewhere */
        return free && at.nbytes >= 16 && b->guest_len <= at.nbytes && b->ninsns > 1 ? "a block without a template"
                                                                                     : NULL;
    }
    struct xl_source to = clone_source(&z->moved_page, rng_percent(r, 20) ? at.la : (rng_u32(r) & PAGE_MASK) | off,
                                       rng_u32(r) & 0xfff000, z->c.mode);
    to.eip -= z->c.cs_base;
    memcpy(z->moved_page.bytes + off, z->page.bytes + off, PAGE_SIZE + 16 - off);
    if (rng_percent(r, 50)) {
        xl_evict(f->xl);
        if (rng_percent(r, 60)) changed = change_fields(z, f->xl, z->moved_page.bytes + off);
        f->xl->templates->moved_by[to.eip >> 24] = to.eip - at.eip;
    }
    if (rng_percent(r, 50)) changed |= change_behind(z, f->xl, z->moved_page.bytes + off, PAGE_SIZE + 16 - off);
    u64 before = f->ctr.cloned;
    b = xl_translate(f->xl, &to, &evicted);
    if (f->ctr.cloned == before) return changed ? NULL : "the same bytes are translated once more";
    *(changed ? &z->relocated : &z->equal) += 1;
    const char *err = host_check_block(&z->h, f, b);
    return err ? err : clone_check(f, b, &to);
}

static const char *run_case(struct fuzz *z)
{
    struct xlf *f = &z->f[z->c.window];
    struct xl_source src = xlf_source2(z->c.la, z->c.pa, z->c.pa2, z->c.mode, z->c.code, z->c.n);
    src.eip -= z->c.cs_base;
    struct block *old = xl_find(f->xl, &src);
    if (old) xl_forget(f->xl, old);
    if (rng_percent(&z->rng, 20)) xl_site_fault(f->xl, src.pa + rng_below(&z->rng, 8), rng_percent(&z->rng, 50));
    bool evicted;
    if (z->c.tapped) src.tap = &z->c.tap, src.bound = true;
    struct block *b = xl_translate(f->xl, &src, &evicted);
    z->insns += b->ninsns;
    z->host_bytes += b->host_len;
    if (b->host_len > z->largest) z->largest = b->host_len;
    const char *err = host_check_block(&z->h, f, b);
    if (!err) err = check_recovery(z, f, b);
    if (!err) err = check_life(z, f, b, &src);
    return err ? err : check_templates(z);
}

int main(int argc, char **argv)
{
    static const struct option options[] = { { "seed", required_argument, 0, 's' },
                                             { "count", required_argument, 0, 'c' },
                                             { "from", required_argument, 0, 'f' },
                                             { "verbose", no_argument, 0, 'v' },
                                             { 0 } };
    struct fuzz *z = calloc(1, sizeof *z);
    u64 count = 20000, from = 0;
    bool verbose = false;
    int failed = 0;
    BUG_ON(!z);
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) >= 0;) switch (o) {
        case 's': z->seed = strtoull(optarg, NULL, 0); break;
        case 'c': count = strtoull(optarg, NULL, 0); break;
        case 'f': from = strtoull(optarg, NULL, 0); break;
        case 'v': verbose = true; break;
        default: return 2;
        }
    for (unsigned i = 0; i < 2; i++) xlf_init(&z->f[i], 4 << 20, i, 0);
    for (unsigned i = 0; i < 2; i++) xlf_init(&z->t[i], 256 << 10, i, 0);
    memset(z->page.bytes, 0x90, sizeof z->page.bytes);
    host_check_init(&z->h);
    for (z->number = from; z->number < from + count && failed < 10; z->number++) {
        make_case(z);
        if (verbose) describe(z, stderr);
        const char *err = run_case(z);
        if (!err) continue;
        printf("FAIL %s\n", err);
        describe(z, stdout);
        failed++;
    }
    printf("%llu blocks, %llu instructions, %llu host bytes (at most %u for one block), %d failures\n",
           (unsigned long long)(z->number - from), (unsigned long long)z->insns, (unsigned long long)z->host_bytes,
           z->largest, failed);
    host_check_free(&z->h);
    printf("templates: %llu blocks had with the same bytes, %llu with other constants, %llu blocks without one\n",
           (unsigned long long)z->equal, (unsigned long long)z->relocated, (unsigned long long)z->refused);
    for (unsigned i = 0; i < 2; i++) xlf_free(&z->f[i]);
    for (unsigned i = 0; i < 2; i++) xlf_free(&z->t[i]);
    free(z);
    return failed != 0;
}
