/* What a data cache would make of a guest, from its trace stream: hits and misses, least recently used goes first.
 *
 *   cc -O2 cache.c -o cache
 *   ./cache unix:/tmp/s [KIB [WAYS [LINE]]] &
 *   transvisor run .. --trace-stream unix:/tmp/s,what=memory,wait=on
 *
 * It goes by linear addresses, so that of several address spaces it believes that they are one. */
#include "stream_reader.h"

struct cache {
    unsigned line, sets, ways;
    unsigned long long *tags; /* sets * ways: line number + 1, or 0; the last one used first */
    unsigned long long hits, misses;
};

static void touch(struct cache *c, unsigned long long line)
{
    unsigned long long *set = c->tags + line % c->sets * c->ways, tag = line + 1;
    unsigned w = 0;
    while (w + 1 < c->ways && set[w] != tag) w++;
    *(set[w] == tag ? &c->hits : &c->misses) += 1;
    memmove(set + 1, set, w * sizeof *set);
    set[0] = tag;
}

static unsigned number(int argc, char **argv, int i, unsigned otherwise)
{
    long n = i < argc ? strtol(argv[i], NULL, 0) : (long)otherwise;
    return n > 0 && n <= 1 << 20 ? (unsigned)n : 0;
}

int main(int argc, char **argv)
{
    struct stream_reader r;
    struct cache c = { 0 };
    const struct vm_stream_record *at;
    unsigned kib = number(argc, argv, 2, 32);
    c.ways = number(argc, argv, 3, 8), c.line = number(argc, argv, 4, 64);
    c.sets = c.ways && c.line ? (unsigned)(kib * 1024ull / c.ways / c.line) : 0;
    if (argc < 2 || argc > 5 || !c.sets || !(c.tags = calloc((size_t)c.sets * c.ways, sizeof *c.tags))) {
        fprintf(stderr, "usage: %s unix:SOCKET|FILE [KIB [WAYS [LINE]]]\n", argv[0]);
        return 2;
    }
    stream_open(&r, argv[1]);
    for (size_t n; (n = stream_next(&r, &at)); stream_done(&r, n))
        for (size_t i = 0; i < n; i++) {
            if (at[i].kind != VM_STREAM_READ && at[i].kind != VM_STREAM_WRITE) continue;
            touch(&c, at[i].address / c.line);
            unsigned last = at[i].address + at[i].size - 1;
            if (last / c.line != at[i].address / c.line) touch(&c, last / c.line);
        }
    unsigned long long all = c.hits + c.misses;
    printf("%llu accesses, %llu misses (%.2f %%), %llu records lost\n", all, c.misses,
           all ? 100.0 * (double)c.misses / (double)all : 0, (unsigned long long)r.header->lost);
    return 0;
}
