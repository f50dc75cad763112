/* Owns how RAM lies in a saved machine: chunks of 256 pages, each a section with a bitmap of the pages that are not all
 * zeroes, and those pages, compressed. A chunk of zeroes only is left out.
 *
 *     u32 number of the chunk, u8[32] bitmap, the pages: LZ4, or as they are where that would be longer */
#define _GNU_SOURCE /* SEEK_DATA */
#include "src/snap/file.h"

#include <errno.h>
#include <lz4.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHUNK_PAGES 256u
#define CHUNK_BYTES (CHUNK_PAGES * PAGE_SIZE)

struct chunk_head {
    u32 number;
    u8 bitmap[CHUNK_PAGES / 8];
};

struct work {
    u8 pages[CHUNK_BYTES];                                              /* those that are not zero, in order */
    u8 out[sizeof(struct chunk_head) + LZ4_COMPRESSBOUND(CHUNK_BYTES)]; /* the section */
};
_Static_assert(sizeof(((struct work *)0)->out) <= SNAP_SECTION_MAX, "a chunk is a section");

/* The chunk at from, n bytes of it. */
static int chunk_save(struct snap_writer *w, struct work *k, u32 number, const u8 *from, u64 n)
{
    static const u8 zeroes[PAGE_SIZE];
    struct chunk_head *h = (struct chunk_head *)k->out;
    size_t len = 0;
    *h = (struct chunk_head){ .number = number };
    for (u32 i = 0; i < n / PAGE_SIZE; i++) {
        const u8 *page = from + (size_t)i * PAGE_SIZE;
        if (!memcmp(page, zeroes, PAGE_SIZE)) continue;
        h->bitmap[i / 8] |= (u8)(1u << i % 8);
        memcpy(k->pages + len, page, PAGE_SIZE);
        len += PAGE_SIZE;
    }
    if (!len) return 0;
    u8 *data = k->out + sizeof *h;
    int packed = LZ4_compress_default((const char *)k->pages, (char *)data, (int)len, LZ4_COMPRESSBOUND(CHUNK_BYTES));
    if (packed <= 0 || (size_t)packed >= len) {
        memcpy(data, k->pages, len);
        packed = (int)len;
    }
    return snap_write(w, "ram", k->out, sizeof *h + (size_t)packed);
}

/* Start of the first chunk at or after from in which something has ever been written; size if there is none. */
static u64 next_data(int fd, u64 from, u64 size)
{
    off_t at = lseek(fd, (off_t)from, SEEK_DATA);
    if (at < 0) return errno == ENXIO ? size : from; /* a file system that cannot tell: look at all of it */
    return (u64)at / CHUNK_BYTES * CHUNK_BYTES;
}

int snap_ram_save(struct snap_writer *w, int fd, u64 size)
{
    struct work *k = malloc(sizeof *k);
    u8 *ram = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    int rc = !k ? -ENOMEM : ram == MAP_FAILED ? -errno : 0;
    for (u64 at = 0; !rc && (at = next_data(fd, at, size)) < size; at += CHUNK_BYTES)
        rc = chunk_save(w, k, (u32)(at / CHUNK_BYTES), ram + at, size - at < CHUNK_BYTES ? size - at : CHUNK_BYTES);
    if (ram != MAP_FAILED) munmap(ram, size);
    free(k);
    return rc;
}

static unsigned bits(const u8 *map)
{
    unsigned n = 0;
    for (unsigned i = 0; i < CHUNK_PAGES / 8; i++) n += (unsigned)__builtin_popcount(map[i]);
    return n;
}

int snap_ram_load(const struct snap_section *s, u8 *ram, u64 size, u64 *next, const char **why)
{
    struct chunk_head h;
    *why = "its memory is damaged";
    if (s->len < sizeof h) return -EINVAL;
    memcpy(&h, s->data, sizeof h);
    size_t len = bits(h.bitmap) * (size_t)PAGE_SIZE, packed = s->len - sizeof h;
    u64 at = (u64)h.number * CHUNK_BYTES;
    if (h.number < *next || at >= size) return -EINVAL;
    *next = (u64)h.number + 1;
    const u8 *data = s->data + sizeof h;
    u8 *pages = NULL;
    if (packed != len) {
        pages = malloc(CHUNK_BYTES);
        if (!pages) return -ENOMEM;
        if (LZ4_decompress_safe((const char *)data, (char *)pages, (int)packed, CHUNK_BYTES) != (int)len) {
            free(pages);
            return -EINVAL;
        }
        data = pages;
    }
    int rc = 0;
    for (u32 i = 0; i < CHUNK_PAGES && !rc; i++) {
        if (!(h.bitmap[i / 8] >> i % 8 & 1)) continue;
        if (at + (u64)i * PAGE_SIZE >= size) rc = -EINVAL;
        else memcpy(ram + at + (u64)i * PAGE_SIZE, data, PAGE_SIZE);
        data += PAGE_SIZE;
    }
    free(pages);
    return rc;
}
