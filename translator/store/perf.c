/* tools/perf/Documentation/jit-interface.txt: "START SIZE symbolname", hexadecimal. */
#define _GNU_SOURCE
#include "translator/store/perf.h"

#include <errno.h>
#include <unistd.h>

int xl_perf_open(struct xl *xl)
{
    char name[64];
    snprintf(name, sizeof name, "/tmp/perf-%ld.map", (long)getpid());
    xl->perf = fopen(name, "we");
    return xl->perf ? 0 : -errno;
}

void xl_perf_block(struct xl *xl, const struct block *b)
{
    if (!xl->perf) return;
    fprintf(xl->perf, "%llx %x guest_%s_%08x\n", (unsigned long long)((u64)xl->rx + b->host_off), b->host_len,
            (b->mode & MK_CPL) == 3 ? "user" : "kernel", b->eip);
}
