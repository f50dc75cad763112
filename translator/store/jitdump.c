/* tools/perf/Documentation/jitdump-specification.txt, version 1. perf record notices the file by its executable
 * mapping, and wants the times of its clock (perf record -k 1). */
#define _GNU_SOURCE
#include "translator/store/jitdump.h"
#include "translator/store/perf.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MAGIC 0x4a695444u /* "JiTD", as this processor stores it */
#define VERSION 1
#define EM_X86_64 62
#define PAGE 4096u

enum { CODE_LOAD = 0 };

struct head {
    u32 magic, version, bytes, machine, pad, pid;
    u64 time, flags;
};
struct record_head {
    u32 id, bytes;
    u64 time;
};
struct code_load {
    struct record_head head;
    u32 pid, tid;
    u64 vma, address, bytes, index;
    /* the name with its zero, and the code */
};
_Static_assert(sizeof(struct head) == 40 && sizeof(struct code_load) == 56, "what the specification says");

static u64 now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000000000 + (u64)t.tv_nsec;
}

int xl_jitdump_open(struct xl *xl)
{
    char name[64];
    snprintf(name, sizeof name, "/tmp/jit-%ld.dump", (long)getpid());
    int fd = xl_perf_create(name);
    if (fd < 0) return fd;
    xl->jit_marker = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    if (xl->jit_marker == MAP_FAILED) xl->jit_marker = NULL;
    if (!xl->jit_marker || !(xl->jitdump = fdopen(fd, "w"))) {
        int err = -errno;
        close(fd);
        return err;
    }
    setvbuf(xl->jitdump, NULL, _IONBF, 0); /* as perf.c */
    const struct head h = {
        .magic = MAGIC, .version = VERSION, .bytes = sizeof h, .machine = EM_X86_64, .pid = (u32)getpid(), .time = now()
    };
    fwrite(&h, sizeof h, 1, xl->jitdump);
    return ferror(xl->jitdump) ? -EIO : 0;
}

void xl_jitdump_close(struct xl *xl)
{
    if (xl->jitdump) fclose(xl->jitdump);
    if (xl->jit_marker) munmap(xl->jit_marker, PAGE);
}

void xl_jitdump_block(struct xl *xl, const struct block *b, const char *name)
{
    u8 record[sizeof(struct code_load) + XL_PERF_NAME];
    size_t n = strlen(name) + 1;
    if (!xl->jitdump) return;
    const u64 at = (u64)xl->rx + b->host_off;
    const struct code_load l = { .head = { CODE_LOAD, (u32)(sizeof l + n + b->host_len), now() },
                                 .pid = (u32)getpid(),
                                 .tid = (u32)getpid(),
                                 .vma = at,
                                 .address = at,
                                 .bytes = b->host_len,
                                 .index = xl->jit_index++ };
    BUG_ON(n > sizeof record - sizeof l);
    memcpy(record, &l, sizeof l);
    memcpy(record + sizeof l, name, n);
    fwrite(record, sizeof l + n, 1, xl->jitdump);
    fwrite(xl->rw + b->host_off, b->host_len, 1, xl->jitdump);
}
