/* What is known of an open qcow2 image's tables, and the order in which they reach the file. For qcow2.c and its parts
 * alone. */
#ifndef SRC_QCOW2_TABLES_H
#define SRC_QCOW2_TABLES_H
#include "src/back/image_base.h"
#include "src/back/qcow2_format.h"

/* Tables of a cluster each, the least recently used goes. */
struct qcow2_slot {
    u64 offset; /* in the file; 0: empty */
    u64 used;   /* when */
    bool dirty;
    u8 *data;
};
struct qcow2_cache {
    struct qcow2_slot *slot;
    unsigned n;
    u64 clock;
};

/* A table that is in memory as a whole, in the host's byte order. [from, to): entries that the file has not got yet. */
struct qcow2_array {
    u64 *entry, size, from, to;
};

struct qcow2 {
    struct image_file file;
    struct qcow2_header h;
    bool writable;
    bool opened; /* header bits that a writer changes have been: see qcow2_begin() */
    int broken;  /* -errno of all writes from now on; 0: none */
    struct qcow2_array l1, reftable;
    struct qcow2_cache l2, blocks; /* blocks: of refcounts */
    u64 *meta;                     /* hash set: clusters that hold L2 tables and refcount blocks; 0: free */
    u64 meta_room, meta_n;
    u64 next;   /* cluster from which a free one is looked for */
    u64 end;    /* nothing has been written from here on: it reads as zeroes */
    u64 *freed; /* what a durable L2 table no longer leads to; references to be dropped then: offsets of clusters */
    unsigned freed_n;
    struct image backing;
    u8 *whole, *packed; /* a cluster; a compressed one */
    u64 unpacked;       /* the entry of the compressed cluster that is in `whole`; 0: none */
};
#define QCOW2_FREED_MAX 8192u

MUST_CHECK int qcow2_tables_open(struct qcow2 *q);
void qcow2_tables_close(struct qcow2 *q);

/* The table at offset, in memory: until the next call. fresh: it is new, and all zeroes. Where room has to be made a
 * dirty table reaches the file by way of qcow2_flush(). */
MUST_CHECK int qcow2_table(struct qcow2 *q, struct qcow2_cache *c, u64 offset, bool fresh, struct qcow2_slot **out);
/* Sets an entry, to be written by qcow2_flush(). */
void qcow2_array_set(struct qcow2_array *a, u64 i, u64 value);

/* Whether the cluster at offset is one of the file's own tables. */
bool qcow2_is_table(const struct qcow2 *q, u64 offset);
MUST_CHECK int qcow2_table_note(struct qcow2 *q, u64 offset); /* it becomes one; -EEXIST: it is already */

/* All that has been written before outlives a power cut. */
MUST_CHECK int qcow2_flush(struct qcow2 *q);
/* The image contradicts itself: nobody writes to it any more. -EIO. */
int qcow2_corrupt(struct qcow2 *q);
/* Before the first write. */
MUST_CHECK int qcow2_begin(struct qcow2 *q);
MUST_CHECK int qcow2_end(struct qcow2 *q);

/* ---- clusters (qcow2_alloc.c) ---- */

/* A free cluster, whose refcount is 1 from now on. *zero: it reads as zeroes. */
MUST_CHECK int qcow2_alloc(struct qcow2 *q, u64 *offset, bool *zero);
/* Undoes an allocation of which no table tells. */
void qcow2_alloc_undo(struct qcow2 *q, u64 offset);
/* What an L2 entry led to before it was changed is given back, once the change is durable. */
MUST_CHECK int qcow2_free(struct qcow2 *q, u64 entry);
/* Drops the references of q->freed. Called by qcow2_flush(). */
MUST_CHECK int qcow2_free_now(struct qcow2 *q);
MUST_CHECK int qcow2_refcount_of(struct qcow2 *q, u64 cluster, u64 *count);

#endif
