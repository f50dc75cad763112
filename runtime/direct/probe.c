/* Whether this host can do direct execution at all: by making a process for it. */
#define _GNU_SOURCE /* memfd_create */
#include "runtime/direct/dx_process.h"
#include "runtime/run/rt.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

int rt_direct_probe(u64 *stop_ns, const char **why)
{
    struct dx *dx = NULL;
    *why = "memory file";
    int fd = memfd_create("probe", MFD_CLOEXEC);
    if (fd < 0) return -errno;
    int rc = ftruncate(fd, PAGE_SIZE) ? -errno : dx_new(&dx, NULL, fd, false, why);
    if (!rc) {
        *stop_ns = dx_round_trip_ns(dx);
        dx_free(dx);
    }
    close(fd);
    return rc;
}
