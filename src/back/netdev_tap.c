/* Owns a TAP interface of the host's. Its frames are those of a wire: the host's side is configured outside (ip link,
 * ip addr, a bridge). Enter at tap_thread(). */
#include "core/hostfd.h"
#include "src/back/netdev.h"
#include "src/error.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define TUN_DEVICE "/dev/net/tun"

struct tap {
    struct netdev_link link; /* first: the two are cast into each other */
    int fd;
};

static void take_sent(struct tap *t)
{
    for (struct frame *f; (f = netdev_link_sent(&t->link)); free(f))
        if (write(t->fd, f->data, f->len) < 0) netdev_link_dropped(&t->link); /* the interface is down, or full */
}

static void take_received(struct tap *t)
{
    u8 frame[NETDEV_FRAME_MAX + 1]; /* a longer one is cut to what is too long as well */
    ssize_t n;
    for (unsigned i = 0; i < NETDEV_BATCH && (n = read(t->fd, frame, sizeof frame)) > 0; i++)
        netdev_link_received(&t->link, frame, (size_t)n);
}

static void *tap_thread(void *arg)
{
    struct tap *t = arg;
    struct pollfd fds[2] = { { .fd = t->link.wake_fd, .events = POLLIN }, { .fd = t->fd, .events = POLLIN } };
    while (!netdev_link_ending(&t->link)) {
        take_sent(t);
        netdev_link_tell(&t->link);
        if (poll(fds, 2, -1) <= 0) continue;
        if (fds[0].revents) netdev_link_awake(&t->link);
        if (fds[1].revents & POLLIN) take_received(t);
        else if (fds[1].revents) fds[1].fd = -1; /* somebody has deleted it: nothing more will come */
    }
    return NULL;
}

static void tap_close(struct netdev_link *l)
{
    struct tap *t = (struct tap *)l;
    netdev_link_stop(l);
    if (t->fd >= 0) close(t->fd);
    netdev_link_fini(l);
    free(t);
}

static int tap_attach(struct tap *t, const char *interface, struct vm_error *err)
{
    struct ifreq r = { .ifr_flags = IFF_TAP | IFF_NO_PI };
    if (!*interface || strlen(interface) >= sizeof r.ifr_name)
        return vm_fail(err, -EINVAL, "net: tap:%s: an interface's name has 1 to %zu characters", interface,
                       sizeof r.ifr_name - 1);
    strcpy(r.ifr_name, interface);
    t->fd = hostfd(open(TUN_DEVICE, O_RDWR | O_CLOEXEC | O_NONBLOCK));
    if (t->fd < 0) return vm_fail(err, -errno, "net: tap: %s: %s", TUN_DEVICE, strerror(errno));
    if (!ioctl(t->fd, TUNSETIFF, &r)) return 0;
    int rc = -errno;
    return vm_fail(err, rc, "net: tap:%s: %s%s%s", interface, strerror(-rc),
                   rc == -EPERM ? "; its owner makes one with `ip tuntap add mode tap user NAME dev " : "",
                   rc == -EPERM ? interface : "");
}

int netdev_tap_open(struct netdev_link **out, const char *interface, const struct netdev_host *host, struct pcap *dump,
                    struct vm_error *err)
{
    struct tap *t = calloc(1, sizeof *t);
    if (!t) return vm_fail(err, -ENOMEM, "net: out of memory");
    t->link.close = tap_close;
    t->fd = -1;
    int rc = netdev_link_init(&t->link, host, dump, err);
    if (!rc) rc = tap_attach(t, interface, err);
    if (!rc) rc = netdev_link_start(&t->link, tap_thread, t, err);
    if (rc) tap_close(&t->link);
    else *out = &t->link;
    return rc;
}
