/* Which code a guest has run, from its trace stream, as a drcov file: what coverage viewers read.
 *
 *   cc -O2 drcov.c -o drcov
 *   ./drcov unix:/tmp/s guest.cov &
 *   transvisor run .. --trace-stream unix:/tmp/s,what=blocks
 *
 * All of linear memory is one module, at 0. Blocks are told apart by address and length; the privilege level and the
 * address space are not looked at: `cpl=` and `at=` choose. */
#include "stream_reader.h"

struct set { /* open addressing; 0 is an empty place */
    unsigned long long *at;
    size_t room, n;
};

static void set_add(struct set *s, unsigned long long v);

static void set_grow(struct set *s)
{
    struct set old = *s;
    s->room = old.room ? old.room * 2 : 65536;
    s->n = 0;
    if (!(s->at = calloc(s->room, sizeof *s->at))) stream_fail("memory");
    for (size_t i = 0; i < old.room; i++)
        if (old.at[i]) set_add(s, old.at[i]);
    free(old.at);
}

static void set_add(struct set *s, unsigned long long v)
{
    if (s->n * 2 >= s->room) set_grow(s);
    size_t i = (size_t)(v * 0x9e3779b97f4a7c15ull >> 32) & (s->room - 1);
    while (s->at[i] && s->at[i] != v) i = (i + 1) & (s->room - 1);
    s->n += !s->at[i];
    s->at[i] = v;
}

/* A block is known as a whole when the next one begins: before that it may be told that it was left. */
static void block(struct set *s, unsigned long long *last, const struct vm_stream_record *r)
{
    unsigned address = (unsigned)(*last >> 16), bytes = *last & 0xffff;
    if (r->kind == VM_STREAM_LEFT && r->address - address < bytes) bytes = r->address - address;
    if (bytes) set_add(s, (unsigned long long)address << 16 | bytes);
    *last = r->kind == VM_STREAM_BLOCK ? (unsigned long long)r->address << 16 | (r->value & 0xffff) : 0;
}

static void write_drcov(const struct set *s, FILE *out)
{
    fprintf(out,
            "DRCOV VERSION: 2\nDRCOV FLAVOR: drcov\nModule Table: version 2, count 1\n"
            "Columns: id, base, end, entry, path\n"
            "0, 0x0000000000000000, 0x00000000ffffffff, 0x0000000000000000, guest\nBB Table: %zu bbs\n",
            s->n);
    for (size_t i = 0; i < s->room; i++) {
        struct {
            unsigned start;
            unsigned short size, module;
        } bb = { (unsigned)(s->at[i] >> 16), (unsigned short)s->at[i], 0 };
        if (s->at[i]) fwrite(&bb, sizeof bb, 1, out);
    }
}

int main(int argc, char **argv)
{
    struct stream_reader r;
    struct set s = { 0 };
    unsigned long long last = 0;
    const struct vm_stream_record *at, none = { .kind = VM_STREAM_BLOCK };
    if (argc != 3) {
        fprintf(stderr, "usage: %s unix:SOCKET|FILE OUT.cov\n", argv[0]);
        return 2;
    }
    stream_open(&r, argv[1]);
    for (size_t n; (n = stream_next(&r, &at)); stream_done(&r, n))
        for (size_t i = 0; i < n; i++)
            if (at[i].kind == VM_STREAM_BLOCK || at[i].kind == VM_STREAM_LEFT) block(&s, &last, &at[i]);
    block(&s, &last, &none);
    FILE *out = fopen(argv[2], "w");
    if (!out) stream_fail(argv[2]);
    write_drcov(&s, out);
    if (fclose(out)) stream_fail(argv[2]);
    printf("%zu blocks, %llu records lost\n", s.n, (unsigned long long)r.header->lost);
    return 0;
}
