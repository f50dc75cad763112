/* tools/perf/Documentation/jit-interface.txt: "START SIZE symbolname", hexadecimal. */
#define _GNU_SOURCE
#include "translator/store/perf.h"
#include "core/hostfd.h"
#include "translator/store/jitdump.h"

#include <sys/stat.h>

/* Anybody may put something in /tmp under a name that can be guessed. What is there is never written to: a file of ours
 * that an earlier process of the same number has left makes room, anything else stays, and is an error. */
int xl_perf_create(const char *name)
{
    struct stat st;
    if (!lstat(name, &st)) {
        if (!S_ISREG(st.st_mode) || st.st_uid != geteuid()) return -EEXIST;
        if (unlink(name)) return -errno;
    }
    int fd = hostfd(open(name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
    return fd < 0 ? -errno : fd;
}

int xl_perf_open(struct xl *xl)
{
    char name[64];
    snprintf(name, sizeof name, "/tmp/perf-%ld.map", (long)getpid());
    int fd = xl_perf_create(name);
    if (fd < 0) return fd;
    if (!(xl->perf = fdopen(fd, "w"))) {
        int err = -errno;
        close(fd);
        return err;
    }
    setvbuf(xl->perf, NULL, _IONBF, 0); /* perf(1) may read it at any moment; a buffer would be asked for in jail */
    return 0;
}

void xl_perf_block(struct xl *xl, const struct block *b)
{
    char name[XL_PERF_NAME];
    u32 offset;
    if (likely(!xl->perf && !xl->jitdump)) return;
    bool user = (b->mode & MK_CPL) == 3;
    const char *known = user || !xl->cfg.symbol ? NULL : xl->cfg.symbol(xl->cfg.symbol_arg, b->la, &offset);
    if (known) snprintf(name, sizeof name, "%.150s+0x%x", known, offset);
    else snprintf(name, sizeof name, "guest_%s_%08x", user ? "user" : "kernel", b->eip);
    if (xl->perf) fprintf(xl->perf, "%llx %x %s\n", (unsigned long long)((u64)xl->rx + b->host_off), b->host_len, name);
    xl_jitdump_block(xl, b, name);
}
