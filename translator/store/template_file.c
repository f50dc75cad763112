/* Owns templates outside of the code cache: as one piece of memory, which the embedder may keep in a file, and over
 * evictions.
 *
 *   head, templates, sides (records, relocations and guest bytes of each), code (of each, as it will lie in the cache)
 *
 * What is loaded is code that will be run. The hash tells damage from sense, and so do the checks of all that the
 * translator relies on; neither tells friend from foe, and nothing could: whoever can write such a file decides what
 * this process runs. So whoever keeps one must make sure that only its own user can (src/cache_dir.c). There are no
 * host addresses in it. */
#define _GNU_SOURCE
#include "translator/store/cache.h"
#include "translator/store/hostmem.h"
#include "translator/store/template.h"
#include "translator/store/template_file.h"

#include <translator_version.h> /* made by CMake */

#include <errno.h>
#include <string.h>
#include <xxhash.h>

#define MAGIC 0x31706d7472736e78ull /* "xnsrtmp1" */

struct head {
    u64 magic;
    u64 check[2]; /* xxh3-128 of all that follows */
    u64 key;      /* xl_templates_key() */
    u64 n;
    u64 side_bytes, code_bytes;
    u64 reserved;
};
#define CHECKED offsetof(struct head, key)
_Static_assert(sizeof(struct head) % 16 == 0 && sizeof(struct template) % 16 == 0, "what follows is aligned");

/* The version, which is made from the sources when they are compiled (CMakeLists.txt), stands for all that is not an
 * option. */
u64 xl_templates_key(const struct xl *xl)
{
    const struct xl_options *o = &xl->cfg.opt;
    const u64 of[] = { o->disabled, o->features, o->shared, o->window };
    return XXH3_64bits_withSeed(TRANSLATOR_VERSION, sizeof TRANSLATOR_VERSION, XXH3_64bits(of, sizeof of));
}

/* ---- saving ---- */

static u64 code_room(const struct template *t) { return xl_align(t->host_len); }

/* The order in which templates are kept: what this run has used, then the others. So a limit drops what has not been
 * used for longest. */
static void keep_order(const struct template_store *s, u32 *order)
{
    u32 n = 0;
    for (u32 i = 0; i < s->n; i++)
        if (s->t[i].used) order[n++] = i;
    for (u32 i = 0; i < s->n; i++)
        if (!s->t[i].used) order[n++] = i;
}

/* As many of the first as fit into max bytes. */
static struct head plan(const struct xl *xl, const u32 *order, u64 max)
{
    const struct template_store *s = xl->templates;
    struct head h = { .magic = MAGIC, .key = xl_templates_key(xl) };
    u64 bytes = sizeof h + 16;
    for (; h.n < s->n; h.n++) {
        const struct template *t = &s->t[order[h.n]];
        bytes += sizeof *t + template_side_len(t) + code_room(t);
        if (bytes > max) break;
        h.side_bytes += template_side_len(t);
        h.code_bytes += code_room(t);
    }
    h.side_bytes = xl_align(h.side_bytes);
    return h;
}

static u64 image_bytes(const struct head *h)
{
    return sizeof *h + h->n * sizeof(struct template) + h->side_bytes + h->code_bytes;
}

static void put_templates(const struct xl *xl, const struct head *h, const u32 *order, u8 *image)
{
    struct template *t = (struct template *)(image + sizeof *h);
    u8 *sides = (u8 *)(t + h->n), *code = sides + h->side_bytes;
    u32 side = 0, at = 0;
    for (u32 i = 0; i < h->n; i++) {
        const struct template *from = &xl->templates->t[order[i]];
        t[i] = *from;
        t[i].next = t[i].next_at = t[i].used = 0;
        t[i].side = side;
        t[i].code = at;
        memcpy(sides + side, xl->side + from->side, template_side_len(from));
        memcpy(code + at, xl->rw + from->code, from->host_len);
        template_edges(from, code + at, i);
        side += template_side_len(from);
        at += (u32)code_room(from);
    }
    memcpy(image, h, sizeof *h);
}

/* NULL: out of memory. */
u8 *template_collect(const struct xl *xl, u64 max, u64 *len)
{
    u32 *order = malloc((xl->templates->n + 1) * sizeof *order);
    if (!order) return NULL;
    keep_order(xl->templates, order);
    struct head h = plan(xl, order, max);
    *len = image_bytes(&h);
    u8 *image = hostmem_map(*len);
    if (image) put_templates(xl, &h, order, image);
    free(order);
    return image;
}

int xl_templates_save(const struct xl *xl, u64 max, u8 **out, u64 *len)
{
    u8 *image = template_collect(xl, max, len);
    if (!image) return -ENOMEM;
    XXH128_hash_t check = XXH3_128bits(image + CHECKED, *len - CHECKED);
    memcpy(image + offsetof(struct head, check), &(u64[]){ check.low64, check.high64 }, 16);
    *out = image;
    return 0;
}

/* One in a hundred is not worth a file: no run is quite like the last. */
bool xl_templates_changed(const struct xl *xl) { return xl->templates->made > xl->templates->nloaded / 100; }

/* ---- loading ---- */

u8 *xl_templates_buffer(u64 len) { return hostmem_map(len); }
void xl_templates_discard(u8 *image, u64 len) { hostmem_unmap(image, len); }

/* Without branches: there are a dozen of each to a template, and a program waits for them to begin. */
static bool records_valid(const struct template *t, const struct record *r)
{
    u32 last = 0, wrong = !t->nrec || r[0].host;
    for (unsigned i = 0; i < t->nrec; last = r[i++].host)
        wrong |= (u32)(r[i].host > t->host_len) | (u32)(r[i].guest >= t->guest_len) | (u32)(r[i].host < last);
    return !wrong;
}

static bool relocs_valid(const struct template *t, const struct reloc *r)
{
    u32 wrong = 0;
    for (unsigned i = 0; i < t->nrel; i++)
        wrong |= (u32)(r[i].kind >= RELOC_KINDS) | (u32)(r[i].at + 4u > t->host_len)
                 | (u32)(r[i].field && r[i].field + 4u > t->guest_len);
    return !wrong;
}

static bool fields_valid(const struct template *t)
{
    if (!t->host_len || t->host_len > XL_MAX_CODE || t->nrec > XL_MAX_RECORDS || t->nrel > XL_MAX_RELOCS) return false;
    if (t->x87 > BLOCK_X87_ALL) return false;
    if (!t->ninsns || t->ninsns > XL_MAX_INSNS || !t->guest_len || t->guest_len > XL_MAX_GUEST) return false;
    if (t->depends < t->guest_len || t->depends > t->guest_len + XL_LOOKAHEAD || t->offset + t->depends > PAGE_SIZE)
        return false;
    if (!xl_can_translate(t->mode) || mode_segmented(t->mode) || t->nedges > 2) return false;
    for (unsigned i = 0; i < t->nedges; i++)
        if (t->patch[i] + 4u > t->host_len || t->thunk[i] + 6u > t->host_len || t->target[i] >= PAGE_SIZE) return false;
    return true;
}

/* side, at: where its parts have to be, and those of the next one. */
static bool template_valid(const struct template *t, const struct head *h, const u8 *sides, u64 *side, u64 *at)
{
    if (!fields_valid(t) || t->side != *side || t->code != *at) return false;
    *side += template_side_len(t);
    *at += code_room(t);
    if (*side > h->side_bytes || *at > h->code_bytes) return false;
    return records_valid(t, (const struct record *)(sides + t->side))
           && relocs_valid(t, template_relocs(t, sides + t->side));
}

static const char *image_wrong(const struct xl *xl, const u8 *image, u64 len)
{
    const struct head *h = (const struct head *)image;
    const struct template *t = (const struct template *)(h + 1);
    if (len < sizeof *h || h->magic != MAGIC) return "is no file of templates";
    if (h->key != xl_templates_key(xl)) return "is of another version, processor or set of options";
    if (h->n > len / sizeof *t || h->side_bytes > len || h->code_bytes > len || image_bytes(h) != len)
        return "is truncated";
    XXH128_hash_t check = XXH3_128bits(image + CHECKED, len - CHECKED);
    if (check.low64 != h->check[0] || check.high64 != h->check[1]) return "is damaged";
    u64 side = 0, at = 0;
    if (h->side_bytes % 16) return "is malformed";
    for (u64 i = 0; i < h->n; i++)
        if (!template_valid(&t[i], h, (const u8 *)(t + h->n), &side, &at)) return "is malformed";
    return NULL;
}

/* How many of the templates fill half of a code cache. */
static u32 room_for(const struct xl *xl, const struct template *t, u64 have)
{
    u32 n = 0;
    while (n < have && n < xl->max_blocks / 2 && t[n].code + code_room(&t[n]) <= xl->cfg.cache_bytes / 2
           && t[n].side + template_side_len(&t[n]) <= xl->side_max / 2)
        n++;
    return n;
}

/* Makes an image that is known to be right the only templates there are, or as much of it as an empty code cache has
 * room for. */
void template_take(struct xl *xl, const u8 *image)
{
    struct template_store *s = xl->templates;
    const struct head *h = (const struct head *)image;
    const struct template *t = (const struct template *)(h + 1);
    const u8 *sides = (const u8 *)(t + h->n);
    u32 n = room_for(xl, t, h->n);
    BUG_ON(xl->nblocks || xl->used || s->n);
    if (!n) return;
    s->nloaded = s->n = xl->nblocks = n;
    s->loaded_code = xl->used = t[n - 1].code + code_room(&t[n - 1]);
    s->loaded_side = xl->side_used = t[n - 1].side + template_side_len(&t[n - 1]);
    xl_prefault(xl);
    template_prefault(xl);
    memcpy(xl->rw, sides + h->side_bytes, xl->used);
    memcpy(xl->side, sides, xl->side_used);
    memcpy(s->t, t, n * sizeof *t);
    for (u32 i = 0; i < n; i++) {
        template_prefetch(xl, i + 16 < n ? i + 16 : i);
        template_chain(s, i);
        template_chain_at(s, i);
        xl->arena[i].host_off = t[i].code;
    }
}

const char *xl_templates_load(struct xl *xl, const u8 *image, u64 len)
{
    const char *wrong = xl->nblocks ? "comes too late" : image_wrong(xl, image, len);
    if (wrong) return wrong;
    template_take(xl, image);
    xl->cfg.ctr->templates_loaded += xl->templates->n;
    return NULL;
}
