/* Owns a file of frames: libpcap's format with nanoseconds, link type 1 (draft-ietf-opsawg-pcap), which needs no
 * library to write: a header of 24 bytes, and 16 before each frame.
 *   I1  The file ends at the end of a frame, also when the disk is full.                                [pcap_frame]
 * Enter at pcap_frame(). */
#define _GNU_SOURCE
#include "core/host_ns.h"
#include "src/back/netdev.h"
#include "src/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define NS 1000000000u

struct pcap {
    int fd;
    bool regular;
    u64 end;             /* of the last whole frame; a regular file's */
    bool ended;          /* pcap_frame()'s */
    _Atomic int failure; /* -errno, until it has been asked for */
};

static void end_early(struct pcap *p, int rc)
{
    p->ended = true;
    atomic_store(&p->failure, rc);
}

/* FIFOs take it as a whole or not at all: it is shorter than PIPE_BUF, and the descriptor does not block. */
static int put(struct pcap *p, const void *head, size_t head_len, const void *data, size_t len)
{
    struct iovec v[2] = { { (void *)head, head_len }, { (void *)data, len } };
    ssize_t n, all = (ssize_t)(head_len + len);
    do n = writev(p->fd, v, 2);
    while (n < 0 && errno == EINTR);
    if (n == all) {
        p->end += (u64)n;
        return 0;
    }
    int rc = n < 0 ? -errno : -ENOSPC;
    if (p->regular && n > 0) (void)!ftruncate(p->fd, (off_t)p->end);
    return rc;
}

void pcap_frame(struct pcap *p, const void *frame, size_t n)
{
    if (!p || p->ended) return;
    u64 now = host_ns(CLOCK_REALTIME);
    const u32 head[4] = { (u32)(now / NS), (u32)(now % NS), (u32)n, (u32)n };
    int rc = put(p, head, sizeof head, frame, n);
    if (rc && rc != -EAGAIN) end_early(p, rc);
}

int pcap_failure(struct pcap *p) { return p ? atomic_exchange(&p->failure, 0) : 0; }

int pcap_open(struct pcap **out, const char *path, const struct wait_end *end, struct vm_error *err)
{
    /* Magic, version 2.4, time zone and accuracy (0), longest frame, link type: Ethernet. */
    static const u32 head[6] = { 0xa1b23c4d, 4 << 16 | 2, 0, 0, 65535, 1 };
    struct stat st;
    struct pcap *p = calloc(1, sizeof *p);
    if (!p) return vm_fail(err, -ENOMEM, "net_dump: out of memory");
    p->fd = wait_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600, end);
    int rc = p->fd < 0 ? p->fd : 0;
    if (!rc) {
        p->regular = !fstat(p->fd, &st) && S_ISREG(st.st_mode);
        rc = put(p, head, sizeof head, NULL, 0);
    }
    if (rc) {
        pcap_close(p);
        return vm_fail(err, rc, "net_dump: %s: %s", path, strerror(-rc));
    }
    *out = p;
    return 0;
}

void pcap_close(struct pcap *p)
{
    if (!p) return;
    if (p->fd >= 0) close(p->fd);
    free(p);
}
