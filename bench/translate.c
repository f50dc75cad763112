/* What a block costs: translated, translated and remembered, cloned from what this run has made, cloned from what an
 * earlier one left. The latter at the same address, and at another. No guest runs; the code of a file is cut into
 * blocks one behind the other.
 *
 *   xl_bench FILE [ROUNDS [warm]]    FILE: raw 32-bit code, such as objcopy -O binary -j .text makes of a program
 *
 * Each round takes a fresh translator, as a run does, and all kinds in turn; what is printed are medians and the least
 * over the rounds, in nanoseconds of CPU time per block, with all that goes with it: look-up, and the host's first
 * touch of each page of the code cache, unless that is warm: used before. */
#include "translator/front/decode.h"
#include "translator/translator.h"

#include <string.h>
#include <time.h>

enum kind { PLAIN, MAKING, CLONED, LOADING, LOADED, MOVED, KINDS };
static const char *const kind_name[KINDS] = { "translated", "translated_and_kept", "cloned",
                                              "loading",    "from_file",           "from_file_moved" };

#define A 0x08048000u
#define B 0xb7a00000u
#define MODE (MK_PE | MK_PG | MK_CS32 | MK_SS32 | MK_CSFLAT | MK_SSFLAT | MK_DSFLAT | MK_ESFLAT | 3)
#define ROUNDS_MAX 1000

struct bench {
    u8 *code;
    u32 len;
    bool warm;
    struct decoder *dec;
    struct counters ctr;
    struct trace trace;
    u64 sample[KINDS][ROUNDS_MAX];
    u64 blocks, insns;
};

static u64 pass(struct bench *b, struct xl *xl, laddr base);

static struct xl *fresh(struct bench *b, bool templates)
{
    struct xl *xl;
    struct xl_config cfg = { .cache_bytes = 256u << 20,
                             .opt.features = ~0u,
                             .no_templates = !templates,
                             .trace = &b->trace,
                             .ctr = &b->ctr,
                             .dec = b->dec };
    BUG_ON(xl_new(&xl, &cfg));
    for (unsigned i = 0; b->warm && i < 2; i++) (void)pass(b, xl, B + i * (64u << 20));
    xl_flush(xl);
    memset(&b->ctr, 0, sizeof b->ctr);
    return xl;
}

/* Of this thread: the host may have other things to do. */
static u64 cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (u64)t.tv_sec * 1000000000u + (u64)t.tv_nsec;
}

/* All blocks of the file, as if it lay at base. */
static u64 pass(struct bench *b, struct xl *xl, laddr base)
{
    u64 begin = cpu_ns();
    for (u32 off = 0; off < b->len;) {
        laddr eip = base + off;
        u32 in_page = PAGE_SIZE - (eip & ~PAGE_MASK);
        if (b->len - off < in_page) break; /* what is left of the last page */
        struct xl_source src = {
            .la = eip, .eip = eip, .pa = eip, .mode = MODE, .bytes = b->code + off, .nbytes = in_page, .pa2 = XL_NO_PAGE
        };
        if (b->len - off > in_page + 16)
            src.bytes2 = b->code + off + in_page, src.nbytes2 = 16, src.pa2 = eip + in_page;
        bool evicted;
        BUG_ON(xl_find(xl, &src)); /* as the dispatcher does */
        struct block *block = xl_translate(xl, &src, &evicted);
        BUG_ON(evicted);
        off += xl_block_bytes(block);
    }
    return cpu_ns() - begin;
}

static void one_round(struct bench *b, unsigned round)
{
    u8 *image;
    u64 len;
    struct xl *xl = fresh(b, false);
    b->sample[PLAIN][round] = pass(b, xl, A);
    xl_free(xl);

    xl = fresh(b, true);
    b->sample[MAKING][round] = pass(b, xl, A);
    b->blocks = b->ctr.blocks;
    b->insns = b->ctr.guest_insns;
    BUG_ON(xl_templates_save(xl, 1u << 30, &image, &len));
    b->sample[CLONED][round] = pass(b, xl, B);
    xl_free(xl);

    xl = fresh(b, true);
    BUG_ON(xl_templates_load(xl, image, len) != NULL);
    b->sample[MOVED][round] = pass(b, xl, B);
    xl_free(xl);

    xl = fresh(b, true);
    u64 begin = cpu_ns();
    BUG_ON(xl_templates_load(xl, image, len) != NULL);
    b->sample[LOADING][round] = cpu_ns() - begin;
    b->sample[LOADED][round] = pass(b, xl, A);
    if (!round)
        printf("clones %.1f %% of blocks, file %llu bytes\n", 100.0 * (double)b->ctr.cloned / (double)b->blocks,
               (unsigned long long)len);
    xl_templates_discard(image, len);
    xl_free(xl);
}

static int by_size(const void *a, const void *b)
{
    u64 x = *(const u64 *)a, y = *(const u64 *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    static struct bench b;
    unsigned rounds = argc > 2 ? (unsigned)atoi(argv[2]) : 15;
    b.warm = argc > 3;
    FILE *f = argc > 1 ? fopen(argv[1], "rb") : NULL;
    if (!f || !rounds || rounds > ROUNDS_MAX) return fprintf(stderr, "usage: xl_bench FILE [ROUNDS [warm]]\n"), 2;
    b.code = malloc(64u << 20);
    b.len = b.code ? (u32)fread(b.code, 1, 64u << 20, f) : 0;
    fclose(f);
    b.trace = (struct trace){ .to = ~0u, .out = stderr };
    BUG_ON(decoder_new(&b.dec));
    for (unsigned i = 0; i < rounds; i++) one_round(&b, i);
    printf("%llu blocks, %llu instructions\n", (unsigned long long)b.blocks, (unsigned long long)b.insns);
    for (unsigned k = 0; k < KINDS && b.blocks; k++) {
        qsort(b.sample[k], rounds, sizeof b.sample[k][0], by_size);
        printf("%-20s median %llu least %llu ns per block\n", kind_name[k],
               (unsigned long long)(b.sample[k][rounds / 2] / b.blocks),
               (unsigned long long)(b.sample[k][0] / b.blocks));
    }
    decoder_free(b.dec);
    free(b.code);
    return 0;
}
