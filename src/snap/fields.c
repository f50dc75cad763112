/* Owns the walk over a chip's table of fields: reset, save, load, info. Knows no chip.
 *
 * In a file each field is: length of its name (1 byte), name, type (1), number of elements (4), elements. Numbers are
 * little-endian, as wide as their type. A timer is "armed" (1 byte) and its deadline (8); a queue its length (4) and
 * its bytes. Before the first field is the table's version (4).
 *   I1  Nothing of a field is written to the chip before it is within its bounds.              [field_load] */
#include "core/snap.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

struct reader {
    const u8 *p, *end;
    char *why;
    size_t room;
};

static PRINTF_LIKE(2, 3) int bad(struct reader *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r->why, r->room, fmt, ap);
    va_end(ap);
    return -EINVAL;
}

/* ---- scalars ---- */

static unsigned width(enum snap_type t)
{
    switch (t) {
    case SNAP_BOOL:
    case SNAP_U8: return 1;
    case SNAP_U16: return 2;
    case SNAP_U32:
    case SNAP_S32: return 4;
    default: return 8;
    }
}

static bool is_signed(enum snap_type t) { return t == SNAP_S32 || t == SNAP_S64; }

static u8 *element(const struct snap_field *f, void *chip, u32 i)
{
    return (u8 *)chip + f->offset + (size_t)f->stride * i;
}

/* The element as 64 bits, sign-extended. */
static u64 scalar_get(const struct snap_field *f, const void *at)
{
    u64 v = 0;
    memcpy(&v, at, width(f->type));
    return f->type == SNAP_S32 ? (u64)(s64)(s32)v : v;
}

static void scalar_set(const struct snap_field *f, void *at, u64 v) { memcpy(at, &v, width(f->type)); }

static bool scalar_in_bounds(const struct snap_field *f, u64 v)
{
    if (f->type == SNAP_BOOL) return v <= 1;
    if (!f->max) return true;
    return is_signed(f->type) ? (s64)v >= f->min && (s64)v <= (s64)f->max : v <= f->max;
}

/* ---- reset ---- */

void snap_reset(const struct snap_table *t, void *chip)
{
    for (const struct snap_field *f = t->fields; f->name; f++) {
        if (f->keep) continue;
        for (u32 i = 0; i < f->count; i++) {
            u8 *at = element(f, chip, i);
            if (f->type == SNAP_TIMER) timer_cancel((struct timer *)at);
            else if (f->type == SNAP_QUEUE) ((struct byte_queue *)at)->head = ((struct byte_queue *)at)->len = 0;
            else scalar_set(f, at, f->reset);
        }
    }
}

void snap_part_reset(const struct snap_part *p)
{
    if (p->table->reset) p->table->reset(p->chip);
    else snap_reset(p->table, p->chip);
}

/* ---- save ---- */

void snap_buf_put(struct snap_buf *b, const void *data, size_t n)
{
    if (b->failed || !n) return;
    if (n > b->room - b->len) {
        size_t room = b->room ? b->room : 1024;
        while (room - b->len < n) room *= 2;
        u8 *grown = realloc(b->data, room);
        if (!grown) {
            b->failed = true;
            return;
        }
        b->data = grown;
        b->room = room;
    }
    memcpy(b->data + b->len, data, n);
    b->len += n;
}

void snap_buf_free(struct snap_buf *b)
{
    free(b->data);
    *b = (struct snap_buf){ 0 };
}

static void put_number(struct snap_buf *out, u64 v, unsigned bytes)
{
    u8 le[8];
    for (unsigned i = 0; i < bytes; i++) le[i] = (u8)(v >> 8 * i);
    snap_buf_put(out, le, bytes);
}

static void element_save(const struct snap_field *f, const u8 *at, struct snap_buf *out)
{
    if (f->type == SNAP_TIMER) {
        const struct timer *t = (const struct timer *)at;
        put_number(out, t->armed, 1);
        put_number(out, t->armed ? t->deadline : 0, 8);
    } else if (f->type == SNAP_QUEUE) {
        const struct byte_queue *q = (const struct byte_queue *)at;
        put_number(out, q->len, 4);
        for (u32 i = 0; i < q->len; i++) snap_buf_put(out, &q->data[(q->head + i) % q->room], 1);
    } else {
        put_number(out, scalar_get(f, at), width(f->type));
    }
}

void snap_save(const struct snap_part *p, struct snap_buf *out)
{
    put_number(out, p->table->version, 4);
    for (const struct snap_field *f = p->table->fields; f->name; f++) {
        size_t n = strlen(f->name);
        BUG_ON(n > 255);
        put_number(out, n, 1);
        snap_buf_put(out, f->name, n);
        put_number(out, f->type, 1);
        put_number(out, f->count, 4);
        for (u32 i = 0; i < f->count; i++) element_save(f, element(f, p->chip, i), out);
    }
}

/* ---- load ---- */

/* Returns false when the data ends first. */
static bool get_number(struct reader *r, unsigned bytes, u64 *v)
{
    if ((size_t)(r->end - r->p) < bytes) return false;
    *v = 0;
    for (unsigned i = 0; i < bytes; i++) *v |= (u64)*r->p++ << 8 * i;
    return true;
}

static int timer_load(struct reader *r, const struct snap_field *f, struct timer *t)
{
    u64 armed, deadline;
    if (!get_number(r, 1, &armed) || !get_number(r, 8, &deadline)) return bad(r, "ends within %s", f->name);
    if (armed > 1) return bad(r, "%s is out of bounds", f->name);
    timer_cancel(t);
    if (armed) timer_arm(t, deadline);
    return 0;
}

static int queue_load(struct reader *r, const struct snap_field *f, struct byte_queue *q)
{
    u64 len;
    if (!get_number(r, 4, &len) || len > (size_t)(r->end - r->p)) return bad(r, "ends within %s", f->name);
    if (len > f->max) return bad(r, "%s is out of bounds", f->name);
    q->head = q->len = 0;
    if (!byte_queue_put(q, r->p, len, f->max)) return -ENOMEM;
    r->p += len;
    return 0;
}

static int element_load(struct reader *r, const struct snap_field *f, u8 *at)
{
    if (f->type == SNAP_TIMER) return timer_load(r, f, (struct timer *)at);
    if (f->type == SNAP_QUEUE) return queue_load(r, f, (struct byte_queue *)at);
    u64 v;
    if (!get_number(r, width(f->type), &v)) return bad(r, "ends within %s", f->name);
    if (f->type == SNAP_S32) v = (u64)(s64)(s32)v;
    if (!scalar_in_bounds(f, v)) return bad(r, "%s is out of bounds", f->name);
    scalar_set(f, at, v);
    return 0;
}

static int field_load(struct reader *r, const struct snap_field *f, void *chip)
{
    u64 len, type, count;
    if (!get_number(r, 1, &len) || (size_t)(r->end - r->p) < len) return bad(r, "ends before %s", f->name);
    if (len != strlen(f->name) || memcmp(r->p, f->name, len))
        return bad(r, "has another field where %s belongs", f->name);
    r->p += len;
    if (!get_number(r, 1, &type) || !get_number(r, 4, &count)) return bad(r, "ends within %s", f->name);
    if (type != f->type || count != f->count) return bad(r, "%s has another type", f->name);
    for (u32 i = 0; i < f->count; i++) {
        int rc = element_load(r, f, element(f, chip, i));
        if (rc) return rc;
    }
    return 0;
}

void snap_unmap(const struct snap_part *p)
{
    if (p->table->unmap) p->table->unmap(p->chip);
}

int snap_load(const struct snap_part *p, const u8 *data, size_t n, char *why, size_t room)
{
    struct reader r = { data, data + n, why, room };
    u64 version;
    if (!get_number(&r, 4, &version)) return bad(&r, "is cut off");
    if (!version || version > p->table->version) return bad(&r, "is of version %llu", (unsigned long long)version);
    snap_unmap(p);
    snap_reset(p->table, p->chip); /* what an older version has not */
    for (const struct snap_field *f = p->table->fields; f->name; f++) {
        if (f->since > version) continue;
        int rc = field_load(&r, f, p->chip);
        if (rc) return rc;
    }
    if (r.p != r.end) return bad(&r, "goes on after its last field");
    if (p->table->check && !p->table->check(p->chip)) return bad(&r, "contradicts itself");
    return p->table->loaded ? p->table->loaded(p->chip) : 0;
}

/* ---- info ---- */

static void element_info(const struct snap_field *f, const u8 *at, FILE *out)
{
    if (f->type == SNAP_TIMER) {
        const struct timer *t = (const struct timer *)at;
        if (t->armed) fprintf(out, " at %llu ns", (unsigned long long)t->deadline);
        else fputs(" off", out);
    } else if (f->type == SNAP_QUEUE) {
        fprintf(out, " %u bytes", ((const struct byte_queue *)at)->len);
    } else if (is_signed(f->type)) {
        fprintf(out, " %lld", (long long)scalar_get(f, at));
    } else {
        fprintf(out, f->type == SNAP_BOOL ? " %llu" : " 0x%llx", (unsigned long long)scalar_get(f, at));
    }
}

void snap_info(const struct snap_part *p, FILE *out)
{
    for (const struct snap_field *f = p->table->fields; f->name; f++) {
        fprintf(out, "%s.%s:", p->name, f->name);
        for (u32 i = 0; i < f->count; i++) element_info(f, element(f, p->chip, i), out);
        fputc('\n', out);
    }
}
