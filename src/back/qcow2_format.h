/* The qcow2 format, versions 2 and 3, as its specification has it (docs/interop/qcow2 of QEMU's documentation): numbers
 * in a file are big-endian, tables are arrays of 64-bit entries. */
#ifndef SRC_QCOW2_FORMAT_H
#define SRC_QCOW2_FORMAT_H
#include "src/back/image_file.h"

#include <endian.h>
#include <string.h>

#define QCOW2_MAGIC "QFI\xfb"

/* Entries of L1 and L2 tables. */
#define QCOW2_OFFSET 0x00fffffffffffe00ull
#define QCOW2_COPIED (1ull << 63) /* the cluster's refcount is 1: it may be written to where it is */
#define QCOW2_COMPRESSED (1ull << 62)
#define QCOW2_ZERO 1ull /* version 3: reads as zeroes, whether there is a cluster or not */

/* Incompatible features. */
#define QCOW2_DIRTY 1ull   /* refcounts may be wrong */
#define QCOW2_CORRUPT 2ull /* nobody may write to it */
/* Compatible ones. */
#define QCOW2_LAZY 1ull /* refcounts need not be right while QCOW2_DIRTY is set */

/* Where header fields that change lie. */
#define QCOW2_AT_REFTABLE 48u /* offset, 64 bits; clusters, 32 */
#define QCOW2_AT_INCOMPATIBLE 72u
#define QCOW2_AT_AUTOCLEAR 88u

#define QCOW2_L1_MAX (32u << 20)      /* bytes; 2 PiB at 64 KiB a cluster */
#define QCOW2_REFTABLE_MAX (8u << 20) /* bytes */
#define QCOW2_BACKING_MAX 1023u

struct qcow2_header {
    u32 version, cluster_bits;
    u64 size;                /* of the disk, bytes */
    u32 l1_entries, l1_size; /* in the file; that the disk needs */
    u64 l1_offset;
    u64 reftable_offset;
    u32 reftable_clusters;
    u32 snapshots, refcount_order; /* refcounts have 1 << order bits */
    u64 incompatible, compatible, autoclear;
    bool bitmaps;                        /* has persistent ones */
    char backing[QCOW2_BACKING_MAX + 1]; /* "": none */
    char backing_format[16];             /* "": not said */
};
/* Reads and checks it: every size is bounded, every table begins in the file, and none overlaps another or the header.
 * 0 or -errno; errors name path. */
MUST_CHECK int qcow2_header_read(const struct image_file *f, const char *path, struct qcow2_header *h,
                                 struct vm_error *err);

static inline u64 qcow2_cluster(const struct qcow2_header *h) { return (u64)1 << h->cluster_bits; }
/* Clusters that so many bytes take. */
static inline u64 qcow2_clusters(const struct qcow2_header *h, u64 bytes)
{
    return (bytes >> h->cluster_bits) + !!(bytes & (qcow2_cluster(h) - 1));
}
static inline u64 qcow2_l2_entries(const struct qcow2_header *h) { return qcow2_cluster(h) / 8; }
/* Refcounts in a block. */
static inline u64 qcow2_block_entries(const struct qcow2_header *h)
{
    return qcow2_cluster(h) * 8 >> h->refcount_order;
}

static inline u64 qcow2_get64(const void *p)
{
    u64 v;
    memcpy(&v, p, 8);
    return be64toh(v);
}
static inline u32 qcow2_get32(const void *p)
{
    u32 v;
    memcpy(&v, p, 4);
    return be32toh(v);
}
static inline void qcow2_put64(void *p, u64 v)
{
    v = htobe64(v);
    memcpy(p, &v, 8);
}
static inline void qcow2_put32(void *p, u32 v)
{
    v = htobe32(v);
    memcpy(p, &v, 4);
}

/* Refcount i of a block. Widths below a byte are counted from its lowest bit. */
static inline u64 qcow2_refcount(const u8 *block, u64 i, unsigned order)
{
    u64 v = 0;
    if (order < 3) return block[i >> (3 - order)] >> (i << order & 7) & ((1u << (1u << order)) - 1);
    for (unsigned k = 0; k < 1u << (order - 3); k++) v = v << 8 | block[(i << (order - 3)) + k];
    return v;
}
static inline void qcow2_refcount_set(u8 *block, u64 i, unsigned order, u64 v)
{
    if (order < 3) {
        u8 mask = (u8)(((1u << (1u << order)) - 1) << (i << order & 7)), *p = &block[i >> (3 - order)];
        *p = (u8)((*p & ~mask) | (v << (i << order & 7) & mask));
        return;
    }
    for (unsigned k = 1u << (order - 3); k-- > 0; v >>= 8) block[(i << (order - 3)) + k] = (u8)v;
}
static inline u64 qcow2_refcount_max(unsigned order) { return order == 6 ? UINT64_MAX : ((u64)1 << (1u << order)) - 1; }

/* Where a compressed cluster's bytes lie: from *at on, *n of them at most, to the end of a sector. */
static inline void qcow2_compressed(const struct qcow2_header *h, u64 entry, u64 *at, u64 *n)
{
    unsigned bits = 62 - (h->cluster_bits - 8);
    *at = entry & (((u64)1 << bits) - 1);
    *n = (((entry & ~(QCOW2_COPIED | QCOW2_COMPRESSED)) >> bits) + 1) * 512 - (*at & 511);
}

#endif
