/* Owns templates: blocks that can be had again, at the same address or another, without being translated.
 *
 * The same bytes turn up again when a library is mapped at another address, when a page is another physical copy of one
 * known, after the code cache has been emptied, and in the next run (template_file.c). So do bytes that differ in
 * constants only, when code is relocated: a kernel that chooses its address anew at each boot, a module, a library that
 * is not position-independent.
 *
 *   I1  A template serves a block iff mode, offset in the linear page, state of the sites and all bytes that the
 *       translation depended on are equal, save for fields that reloc.h names, if the code has the same shape with
 *       their new values. Bytes are compared, not only hashed: guests know the hash, and could make one process run
 *       another's code.
 *   I2  What comes of it is byte for byte what would have been translated. [tests/emit/clone_check.h]
 *   I3  Each template has its code in the code cache, made for the EIP that it names (t->eip). That code is also some
 *       block's own, in one of two ways:
 *       - Template i < nloaded was there before any block. Its code and block record i, still BLOCK_NONE, wait
 * together. The first block that it serves takes both over. [take_over]
 *       - Any other template was made of a block that had been translated, and shares that block's code. What becomes
 *         of the block does not matter: code stays until the cache is emptied. [template_add]
 *       Every further block that a template serves gets a copy of the code. [copy]
 *   I4  A template stays in the chain of the key that it had when it was made or loaded; if it was loaded, also in the
 *       chain of the address that it was loaded for. A template that is re-addressed stays where it is in both: it will
 *       be found by address.
 *
 * Equal bytes are found by hash. Others are found by address: code is relocated in large pieces, so that a block is as
 * far from where its template was loaded for as the last one that was found thereabouts (moved_by). */
#include "translator/lower/lower_mem.h"
#include "core/hash.h"
#include "translator/lower/reloc.h"
#include "translator/store/cache.h"
#include "translator/store/hostmem.h"
#include "translator/store/template.h"

#include <errno.h>
#include <string.h>
#include <xxhash.h>

#define KEY_BYTES 16       /* of the code go into the key; the page may end before */
#define CHAIN_MAX 8        /* templates looked at: a guest can make many with one key, */
#define SAME_ADDRESS_MAX 4 /* or for one address */

u32 template_side_len(const struct template *t)
{
    return (t->nrec * (u32)sizeof(struct record) + t->nrel * (u32)sizeof(struct reloc) + t->depends + 3) & ~3u;
}
const struct reloc *template_relocs(const struct template *t, const u8 *side)
{
    return (const struct reloc *)(side + t->nrec * sizeof(struct record));
}

static const struct reloc *relocs_of(const struct xl *xl, const struct template *t)
{
    return template_relocs(t, xl->side + t->side);
}
static const u8 *bytes_of(const struct xl *xl, const struct template *t)
{
    return (const u8 *)(relocs_of(xl, t) + t->nrel);
}

static const struct record *records_of(const struct xl *xl, const struct template *t)
{
    return (const struct record *)(xl->side + t->side);
}

int template_store_init(struct xl *xl)
{
    struct template_store *s = xl->templates = calloc(1, sizeof *s);
    if (!s) return -ENOMEM;
    s->max = xl->max_blocks;
    s->t = (struct template *)hostmem_map((u64)s->max * sizeof *s->t);
    s->head = xl->tables->template_head[0];
    s->head_at = xl->tables->template_head[1];
    return s->t ? 0 : -ENOMEM;
}

void template_store_free(struct xl *xl)
{
    struct template_store *s = xl->templates;
    if (s) hostmem_unmap(s->t, (u64)s->max * sizeof *s->t);
    free(s);
}

void template_prefault(struct xl *xl)
{
    struct template_store *s = xl->templates;
    hostmem_prefault(s->t, (u64)s->max * sizeof *s->t, &xl->ready.templates, (s->n + 1ull) * sizeof *s->t,
                     HOSTMEM_WRITE);
}

static u32 *chain_of(const struct template_store *s, u32 key) { return &s->head[key >> (32 - XL_TEMPLATE_BITS)]; }

void template_chain(struct template_store *s, u32 i)
{
    u32 *head = chain_of(s, s->t[i].key);
    s->t[i].next = *head;
    *head = i + 1;
}

static void unchain(struct template_store *s, u32 i)
{
    u32 *at = chain_of(s, s->t[i].key);
    while (*at != i + 1) at = &s->t[*at - 1].next;
    *at = s->t[i].next;
}

static u32 *chain_at(const struct template_store *s, vaddr eip, u32 mode)
{
    return &s->head_at[hash_slot(eip ^ mode << 19, XL_TEMPLATE_BITS)];
}

void template_chain_at(struct template_store *s, u32 i)
{
    u32 *head = chain_at(s, s->t[i].eip, s->t[i].mode);
    s->t[i].next_at = *head;
    *head = i + 1;
}

void template_prefetch(const struct xl *xl, u32 i)
{
    const struct template_store *s = xl->templates;
    __builtin_prefetch(chain_of(s, s->t[i].key), 1);
    __builtin_prefetch(chain_at(s, s->t[i].eip, s->t[i].mode), 1);
    __builtin_prefetch(&xl->arena[i], 1);
}

void template_drop_made(struct xl *xl)
{
    struct template_store *s = xl->templates;
    for (; s->n > s->nloaded; s->n--) unchain(s, s->n - 1);
    s->expected = 0;
}

void template_drop_all(struct xl *xl)
{
    struct template_store *s = xl->templates;
    memset(s->head, 0, sizeof *s->head << XL_TEMPLATE_BITS);
    memset(s->head_at, 0, sizeof *s->head_at << XL_TEMPLATE_BITS);
    memset(s->moved_by, 0, sizeof s->moved_by);
    s->n = s->nloaded = s->expected = 0;
    s->loaded_code = s->loaded_side = 0;
}

/* ---- what a template is known by ---- */

/* A source that ends before its page does would let the end of the block depend on more than is compared. */
static bool whole(const struct xl_source *src) { return ((src->la + src->nbytes) & ~PAGE_MASK) == 0; }

static u32 key_of(const struct xl_source *src)
{
    return (u32)XXH3_64bits_withSeed(src->bytes, src->nbytes < KEY_BYTES ? src->nbytes : KEY_BYTES,
                                     (u64)src->mode << PAGE_SHIFT | (src->la & ~PAGE_MASK));
}

/* The state of the sites of the instructions that rec knows of, at pa; 0 if there are none. A collision would cost
 * time, no more. */
static u32 sites_at(const struct xl *xl, const struct record *rec, unsigned nrec, paddr pa)
{
    u32 h = 0;
    int last = -1;
    if (!site_page(&xl->sites, pa)) return 0;
    for (unsigned i = 0; i < nrec; i++) {
        if (rec[i].guest <= last) continue; /* an island of an earlier instruction */
        last = rec[i].guest;
        u32 state = site_get(&xl->sites, pa + rec[i].guest);
        if (state) h = (u32)hash_slot(h + (rec[i].guest << 2 | state), 32);
    }
    return h;
}

/* Whether the code has the same shape with another value of this field: a target stays outside of the page
 * (lower_ctl.c), a displacement on its side of the borders that lower_mem.c knows. */
static bool same_shape(const struct reloc *r, const struct xl_source *src, u32 was)
{
    u32 is = get32(src->bytes + r->field);
    if (r->kind != RELOC_PLAIN) return ((src->la + r->field + 4 + is) ^ src->la) & PAGE_MASK;
    return xl_disp_class((s32)is) == xl_disp_class((s32)was);
}

/* I1, where bytes are not equal: puts the template's values into a copy of the fields, and compares then. */
static bool differs_in_fields(const struct xl *xl, const struct template *t, const struct xl_source *src)
{
    u8 with[XL_MAX_GUEST + XL_LOOKAHEAD];
    const u8 *bytes = bytes_of(xl, t);
    const struct reloc *r = relocs_of(xl, t);
    memcpy(with, src->bytes, t->depends);
    for (unsigned i = 0; i < t->nrel; i++) {
        if (!r[i].field) continue;
        if (!same_shape(&r[i], src, get32(bytes + r[i].field))) return false;
        memcpy(with + r[i].field, bytes + r[i].field, 4);
    }
    return !memcmp(with, bytes, t->depends);
}

enum match { EQUAL, EQUAL_BUT_FIELDS };

static bool serves(const struct xl *xl, u32 i, const struct xl_source *src, enum match match)
{
    const struct template *t = &xl->templates->t[i];
    if (!(t->x87 & BLOCK_X87_DUE) != !src->x87_due) return false;
    if (t->mode != src->mode || t->offset != (src->la & ~PAGE_MASK) || t->depends > src->nbytes) return false;
    bool bytes = match == EQUAL ? !memcmp(bytes_of(xl, t), src->bytes, t->depends) : differs_in_fields(xl, t, src);
    return bytes && t->sites == sites_at(xl, records_of(xl, t), t->nrec, src->pa);
}

/* As good as found by hash or address, without looking there. */
static bool expected_serves(const struct xl *xl, u32 i, const struct xl_source *src, enum match *match)
{
    const struct template_store *s = xl->templates;
    *match = EQUAL;
    if (serves(xl, i, src, EQUAL)) return true;
    *match = EQUAL_BUT_FIELDS;
    return i < s->nloaded && src->eip - s->t[i].eip == s->moved_by[src->eip >> 24]
           && serves(xl, i, src, EQUAL_BUT_FIELDS);
}

/* Index + 1, or 0. */
static u32 find(const struct xl *xl, const struct xl_source *src, enum match *match)
{
    const struct template_store *s = xl->templates;
    if (xl->cfg.no_templates || !whole(src) || xl_traced(xl, src->eip)) return 0;
    u32 i = s->expected;
    if (i < s->n && expected_serves(xl, i, src, match)) return i + 1;
    u32 key = key_of(src);
    i = *chain_of(s, key);
    *match = EQUAL;
    for (unsigned tries = CHAIN_MAX; i && tries--; i = s->t[i - 1].next)
        if (s->t[i - 1].key == key && serves(xl, i - 1, src, EQUAL)) return i;
    if (!s->nloaded) return 0;
    *match = EQUAL_BUT_FIELDS;
    i = *chain_at(s, src->eip - s->moved_by[src->eip >> 24], src->mode);
    for (unsigned tries = SAME_ADDRESS_MAX; i && tries--; i = s->t[i - 1].next_at)
        if (serves(xl, i - 1, src, EQUAL_BUT_FIELDS)) return i;
    return 0;
}

/* ---- making ---- */

/* Guest bytes that the scanned block depends on; 0: there is more to it, and it can have no template. */
static u32 depends_on(const struct xl_ctx *x, u32 guest_len)
{
    u32 rest = x->src->nbytes - guest_len;
    if (x->scan.bound || x->scan.straddles || !whole(x->src)) return 0;
    bool looked_ahead = x->scan.looked_ahead && x->n == x->scan.n;
    return !looked_ahead ? guest_len : guest_len + (rest < XL_LOOKAHEAD ? rest : XL_LOOKAHEAD);
}

static void came_from(const struct xl *xl, struct block *b, u32 i)
{
    const struct template *t = &xl->templates->t[i];
    b->template = i + 1;
    b->nmoving = t->nmoving;
    b->bytes = (u32)(bytes_of(xl, t) - xl->side);
}

bool template_add(struct xl *xl, const struct xl_ctx *x, struct block *b)
{
    struct template_store *s = xl->templates;
    u32 depends = xl->cfg.no_templates ? 0 : depends_on(x, b->guest_len);
    if (!depends || s->n == s->max) return false;
    template_prefault(xl);
    struct template *t = &s->t[s->n];
    *t = (struct template){ .key = key_of(x->src),
                            .code = b->host_off,
                            .side = b->rec_off,
                            .eip = b->eip,
                            .offset = (u16)(b->la & ~PAGE_MASK),
                            .mode = (u16)b->mode,
                            .sites = sites_at(xl, x->rec, x->nrec, b->pa),
                            .host_len = (u16)b->host_len,
                            .nrec = b->nrec,
                            .nrel = (u16)x->relocs.n,
                            .guest_len = b->guest_len,
                            .ninsns = b->ninsns,
                            .depends = (u16)depends,
                            .nedges = (u8)x->nedges,
                            .x87 = x->x87_kind,
                            .used = true };
    for (unsigned i = 0; i < x->nedges; i++) {
        t->patch[i] = (u16)(b->edge[i].patch - b->host_off);
        t->thunk[i] = (u16)(b->edge[i].thunk - b->host_off);
        t->target[i] = b->edge[i].target;
    }
    for (unsigned i = 0; i < t->nrel; i++) t->nmoving += x->relocs.r[i].kind != RELOC_PLAIN;
    u8 *to = xl->side + xl->side_used; /* after the records */
    memcpy(to, x->relocs.r, t->nrel * sizeof(struct reloc));
    memcpy(to + t->nrel * sizeof(struct reloc), x->src->bytes, depends);
    memset(to + t->nrel * sizeof(struct reloc) + depends, 0, -depends & 3);
    xl->side_used = t->side + template_side_len(t);
    template_chain(s, s->n++);
    came_from(xl, b, s->n - 1);
    s->made++;
    xl->cfg.ctr->templates++;
    return true;
}

/* ---- using ---- */

/* The edges of a copy, in the block of that index: not linked, whatever those of the original are. */
void template_edges(const struct template *t, u8 *code, u32 block)
{
    for (unsigned k = 0; k < t->nedges; k++) {
        emit_patch32(code + t->patch[k], code + t->thunk[k]);
        emit_patch_edge(code + t->thunk[k], block, k);
    }
}

static void prefetch(const void *p, u32 bytes)
{
    for (u32 i = 0; i < bytes; i += 64) __builtin_prefetch((const u8 *)p + i);
}

/* Code that came in one order often comes in the same order again. By then its templates are in no cache any more: all
 * that the next one consists of is asked for, and the record that says where the one after that is. */
static void expect_next(struct xl *xl, u32 i)
{
    struct template_store *s = xl->templates;
    s->expected = i + 1;
    if (i + 2 >= s->n) return;
    const struct template *t = &s->t[i + 1];
    prefetch(t + 1, sizeof *t);
    prefetch(xl->side + t->side, 192);
    prefetch(xl->rw + t->code, 256);
    prefetch(&xl->arena[i + 1], sizeof(struct block));
}

/* Fills in a new record, all zeroes but for host_off, for the block at src out of template i, whose code is at
 * host_off. Records are the template's own. Edges never leave the page (lower_ctl.c), so that the offset of a target in
 * it is enough. */
static void fill_block(const struct template *t, const struct xl_source *src, struct block *b)
{
    b->la = src->la;
    b->eip = src->eip;
    b->mode = src->mode;
    b->pa = src->pa;
    b->pa2 = XL_NO_PAGE;
    b->host_len = t->host_len;
    b->rec_off = t->side;
    b->nrec = t->nrec;
    b->guest_len = t->guest_len;
    b->ninsns = t->ninsns;
    b->x87 = t->x87;
    for (unsigned i = 0; i < t->nedges; i++)
        b->edge[i] = (struct edge){
            .from = b, .patch = b->host_off + t->patch[i], .thunk = b->host_off + t->thunk[i], .target = t->target[i]
        };
}

/* Re-addresses the code of template i, and gives it the constants of src. */
static void make_right(struct xl *xl, u32 i, const struct xl_source *src, enum match match)
{
    struct template_store *s = xl->templates;
    struct template *t = &s->t[i];
    u8 *bytes = xl->side + t->side + t->nrec * sizeof(struct record) + t->nrel * sizeof(struct reloc);
    bool other = match == EQUAL_BUT_FIELDS;
    if (other || t->eip != src->eip)
        reloc_apply(xl->rw + t->code, relocs_of(xl, t), t->nrel, src->eip - t->eip, other ? bytes : NULL, src->bytes);
    t->eip = src->eip;
    if (!other) return;
    memcpy(bytes, src->bytes, t->depends);
    t->key = key_of(src);
}

/* The code that lies there already becomes the block's. */
static struct block *take_over(struct xl *xl, u32 i, const struct xl_source *src, enum match match)
{
    struct template_store *s = xl->templates;
    struct block *b = &xl->arena[i];
    bool sure = match == EQUAL_BUT_FIELDS || s->t[i].depends >= KEY_BYTES; /* a RET is found anywhere */
    if (sure) s->moved_by[src->eip >> 24] = src->eip - s->t[i].eip;
    make_right(xl, i, src, match);
    fill_block(&s->t[i], src, b);
    return b;
}

static struct block *copy(struct xl *xl, u32 i, const struct xl_source *src, enum match match)
{
    const struct template *t = &xl->templates->t[i];
    struct block *b = &xl->arena[xl->nblocks];
    u8 *code = xl->rw + xl->used;
    bool other = match == EQUAL_BUT_FIELDS;
    b->host_off = (u32)xl->used;
    fill_block(t, src, b);
    memcpy(code, xl->rw + t->code, t->host_len);
    template_edges(t, code, xl->nblocks);
    reloc_apply(code, relocs_of(xl, t), t->nrel, src->eip - t->eip, other ? bytes_of(xl, t) : NULL, src->bytes);
    xl->used = xl_align(xl->used + t->host_len);
    xl->nblocks++;
    return b;
}

void template_readdress(struct xl *xl, const struct block *b, u32 delta)
{
    if (!b->nmoving) return;
    struct template *t = &xl->templates->t[b->template - 1];
    reloc_apply(xl->rw + b->host_off, relocs_of(xl, t), t->nrel, delta, NULL, NULL);
    if (t->code == b->host_off) t->eip += delta;
}

struct block *template_block(struct xl *xl, const struct xl_source *src)
{
    enum match match;
    u32 i = find(xl, src, &match);
    if (!i--) return NULL;
    struct template_store *s = xl->templates;
    expect_next(xl, i);
    s->t[i].used = true;
    bool waits = i < s->nloaded && xl->arena[i].state == BLOCK_NONE;
    struct block *b = waits ? take_over(xl, i, src, match) : copy(xl, i, src, match);
    came_from(xl, b, i);
    if (!waits && match == EQUAL_BUT_FIELDS) xl_keep_bytes(xl, b, src); /* they are not the template's */
    xl_block_add(xl, b);
    return b;
}
