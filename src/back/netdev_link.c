/* Owns the thread of a network back end, and the queues between it and the vCPU thread.
 *   I1  out, in, ending and dropped are touched only under lock; host.wake() is not called under it.
 *   I2  taken and merge are the vCPU thread's: frames that the card had no room for.            [netdev_link_deliver]
 *   I3  The dump is the back end's thread's, so that no file keeps the guest waiting.
 * Enter at netdev_link_sent(), netdev_link_received(), netdev_link_deliver(). */
#include "core/hostfd.h"
#include "core/thread.h"
#include "src/back/netdev.h"
#include "src/error.h"

#include <string.h>
#include <sys/eventfd.h>

#define QUEUE_MAX (4u << 20) /* bytes of frames each way */

void netdev_link_wake(struct netdev_link *l)
{
    const u64 one = 1;
    (void)!write(l->wake_fd, &one, sizeof one); /* it can only be full, and then it is awake */
}

/* ---- the back end's thread ---- */

void netdev_link_awake(struct netdev_link *l)
{
    u64 count;
    (void)!read(l->wake_fd, &count, sizeof count);
}

bool netdev_link_ending(struct netdev_link *l)
{
    pthread_mutex_lock(&l->lock);
    bool ending = l->ending;
    pthread_mutex_unlock(&l->lock);
    return ending;
}

struct frame *netdev_link_sent(struct netdev_link *l)
{
    pthread_mutex_lock(&l->lock);
    struct frame *f = frame_queue_take(&l->out);
    pthread_mutex_unlock(&l->lock);
    if (f) pcap_frame(l->dump, f->data, f->len);
    return f;
}

void netdev_link_received(struct netdev_link *l, const void *frame, size_t n)
{
    bool fits = n >= NETDEV_FRAME_MIN && n <= NETDEV_FRAME_MAX;
    if (fits) pcap_frame(l->dump, frame, n);
    pthread_mutex_lock(&l->lock);
    bool first = !l->in.first, fine = fits && frame_queue_put(&l->in, frame, n);
    l->dropped += !fine;
    pthread_mutex_unlock(&l->lock);
    l->untold |= first && fine;
}

void netdev_link_tell(struct netdev_link *l)
{
    if (l->untold) l->host.wake(l->host.arg);
    l->untold = false;
}

void netdev_link_dropped(struct netdev_link *l)
{
    pthread_mutex_lock(&l->lock);
    l->dropped++;
    pthread_mutex_unlock(&l->lock);
}

/* ---- the card's side ---- */

static void link_send(void *be, const u8 *frame, size_t n)
{
    struct netdev_link *l = be;
    pthread_mutex_lock(&l->lock);
    bool first = !l->out.first;
    if (!frame_queue_put(&l->out, frame, n)) l->dropped++;
    pthread_mutex_unlock(&l->lock);
    if (!first) return;
    netdev_link_wake(l);
    if (l->host.asked) l->host.asked(l->host.arg);
}

static void link_ready(void *be) { netdev_link_deliver(be); }

/* What has come in is the vCPU thread's then. */
static void take_in(struct netdev_link *l)
{
    pthread_mutex_lock(&l->lock);
    if (l->in.first) {
        l->taken = l->in;
        frame_queue_init(&l->in, l->in.max);
    }
    pthread_mutex_unlock(&l->lock);
}

/* As many of the frames as follow the first of them. */
static void merge(struct netdev_link *l)
{
    struct frame *first = l->taken.first;
    if (!netdev_merge_begin(&l->merge, first->data, first->len)) return;
    while (first->next && netdev_merge_add(&l->merge, first, first->next)) {
        struct frame *next = first->next;
        l->taken.bytes -= next->len;
        if (!(first->next = next->next)) l->taken.last = &first->next;
        free(next);
    }
    if (l->merge.len) free(frame_queue_take(&l->taken));
}

void netdev_link_deliver(struct netdev_link *l)
{
    const struct netdev *d = &l->dev;
    while (d->receive) {
        if (l->merge.len) {
            if (d->large && !d->large->receive(d->fe, l->merge.packet, l->merge.len, l->merge.part)) return;
            l->merge.len = 0;
            continue;
        }
        if (!l->taken.first) take_in(l);
        if (!l->taken.first) return;
        if (l->sums && d->large && d->large->takes(d->fe)) merge(l);
        if (l->merge.len) continue;
        if (!d->receive(d->fe, l->taken.first->data, l->taken.first->len)) return;
        free(frame_queue_take(&l->taken));
    }
}

u64 netdev_link_lost(struct netdev_link *l)
{
    pthread_mutex_lock(&l->lock);
    u64 n = l->dropped;
    pthread_mutex_unlock(&l->lock);
    return n;
}

/* ---- life ---- */

int netdev_link_init(struct netdev_link *l, const struct netdev_host *host, struct pcap *dump, struct vm_error *err)
{
    static const struct netdev_ops ops = { link_send, link_ready };
    l->dev = (struct netdev){ .ops = &ops, .be = l };
    l->host = *host;
    l->dump = dump;
    frame_queue_init(&l->out, QUEUE_MAX);
    frame_queue_init(&l->in, QUEUE_MAX);
    frame_queue_init(&l->taken, QUEUE_MAX);
    pthread_mutex_init(&l->lock, NULL);
    l->wake_fd = hostfd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    return l->wake_fd < 0 ? vm_fail(err, -errno, "net: %s", strerror(errno)) : 0;
}

int netdev_link_start(struct netdev_link *l, void *(*thread)(void *), void *arg, struct vm_error *err)
{
    int rc = thread_start(&l->thread, THREAD_NET, thread, arg);
    l->runs = !rc;
    return rc ? vm_fail(err, rc, "net: its thread could not be made") : 0;
}

void netdev_link_stop(struct netdev_link *l)
{
    if (!l->runs) return;
    pthread_mutex_lock(&l->lock);
    l->ending = true;
    pthread_mutex_unlock(&l->lock);
    netdev_link_wake(l);
    pthread_join(l->thread, NULL);
    l->runs = false;
}

void netdev_link_fini(struct netdev_link *l)
{
    if (l->wake_fd >= 0) close(l->wake_fd);
    frame_queue_free(&l->out);
    frame_queue_free(&l->in);
    frame_queue_free(&l->taken);
    free(l->merge.packet);
    pthread_mutex_destroy(&l->lock);
}
