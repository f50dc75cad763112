/* Memory from the host, asked for in large pieces: the first touch of a page costs a fault, which may take longer than
 * the translation of several blocks (measured in a virtual machine: 12 us a page, 7 of them even if the kernel has made
 * the page ahead). */
#ifndef TRANSLATOR_HOSTMEM_H
#define TRANSLATOR_HOSTMEM_H
#include "core/types.h"

/* Zeroes, with huge pages where the host has them and the size is worth one. NULL: out of memory. hostmem_unmap takes
 * NULL, too. */
u8 *hostmem_map(u64 bytes);
/* The same for a table of which little is used at first, if ever: without huge pages, the first touch of which would
 * take two megabytes. */
u8 *hostmem_map_small(u64 bytes);
void hostmem_unmap(void *p, u64 bytes);
/* The same zeroes twice, each to be given back: *rw to write, *rx to execute. for_perf: so that perf(1) takes the names
 * of what runs there out of its map. 0, or -errno and two NULLs. */
int hostmem_map_code(u64 bytes, bool for_perf, u8 **rw, u8 **rx);
/* Asks for the pages of base[0..want) ahead of their use, some at a time. *ready is how far that has come. */
enum hostmem_use { HOSTMEM_READ, HOSTMEM_WRITE };
void hostmem_prefault(void *base, u64 size, u64 *ready, u64 want, enum hostmem_use use);

#endif
