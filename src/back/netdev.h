/* Networks outside of the machine.
 *
 * Threads. A back end has a thread of its own, which does all that waits or asks the host. The vCPU thread puts frames
 * into one bounded queue and takes them from another, and shares nothing else with it. What does not fit is dropped, as
 * on a wire, and counted. */
#ifndef SRC_NETDEV_H
#define SRC_NETDEV_H
#include "core/netdev.h"
#include "src/wait.h"
#include "transvisor/vm.h"

#include <pthread.h>

/* wake: called on the back end's own thread: frames wait, arrange for netdev_link_deliver() on the vCPU thread, soon.
 * asked: on the vCPU thread: the back end's has been woken for a frame, which may soon be answered; or NULL. */
struct netdev_host {
    void (*wake)(void *arg);
    void (*asked)(void *arg);
    void *arg;
};

/* ---- frame_queue.c: frames in order, up to a number of bytes; the caller locks ---- */

struct frame {
    struct frame *next;
    size_t len;
    u8 data[];
};
struct frame_queue {
    struct frame *first, **last;
    size_t bytes, max;
};
void frame_queue_init(struct frame_queue *q, size_t max);
void frame_queue_free(struct frame_queue *q);
bool frame_queue_put(struct frame_queue *q, const void *data, size_t n); /* false: there is no room, or no memory */
struct frame *frame_queue_take(struct frame_queue *q);                   /* the caller's to free; NULL: it is empty */

/* ---- netdev_merge.c: frames of one TCP stream as one packet ---- */

/* What has been put together, and what it takes for more to follow. */
struct netdev_merge {
    u8 *packet; /* NETDEV_LARGE_MAX bytes, or NULL */
    size_t len; /* 0: nothing waits */
    u16 part;   /* bytes of data of each frame but the last */
    u32 next;   /* the sequence number that follows */
    bool ended; /* nothing can follow */
};
/* Whether one may begin with that frame: TCP over IPv4 with data, and nothing unusual. Nothing is copied yet. */
bool netdev_merge_begin(struct netdev_merge *m, const u8 *frame, size_t n);
/* Whether `next` follows; then it is put behind `first`, that it began with, or what has been put together. */
bool netdev_merge_add(struct netdev_merge *m, const struct frame *first, const struct frame *next);

/* ---- netdev_link.c: what all back ends have: a thread, and the queues between it and the vCPU thread ---- */

struct pcap;
struct netdev_link {
    struct netdev dev;                       /* dev.be points back here */
    void (*close)(struct netdev_link *link); /* ends the thread and frees; host is not called any more */
    struct netdev_host host;
    struct pcap *dump; /* NULL: nobody records; the owner's */
    int wake_fd;       /* readable: something came to out, or ending */
    pthread_t thread;
    bool runs;
    pthread_mutex_t lock;
    struct frame_queue out, in; /* from the guest, to it */
    bool ending;
    bool untold; /* the back end's thread's: something has been received since netdev_link_tell() */
    u64 dropped;
    struct frame_queue taken;  /* out of `in`, and not handed over yet */
    struct netdev_merge merge; /* of these, likewise */
    bool sums;                 /* set by who opens it: checksums of what comes in are its own, and right */
};
/* To be closed by netdev_link_fini() whatever comes back. err: "net: ..". */
MUST_CHECK int netdev_link_init(struct netdev_link *l, const struct netdev_host *host, struct pcap *dump,
                                struct vm_error *err);
MUST_CHECK int netdev_link_start(struct netdev_link *l, void *(*thread)(void *), void *arg, struct vm_error *err);
void netdev_link_stop(struct netdev_link *l); /* waits for the thread, if it was started */
void netdev_link_fini(struct netdev_link *l);
/* On the back end's thread. It takes at most NETDEV_BATCH frames from outside before it tells of them. */
#define NETDEV_BATCH 64u
bool netdev_link_ending(struct netdev_link *l);
struct frame *netdev_link_sent(struct netdev_link *l); /* the guest's next frame, to be freed; NULL: none */
void netdev_link_received(struct netdev_link *l, const void *frame, size_t n);
void netdev_link_tell(struct netdev_link *l); /* wakes the vCPU thread if there is something new; before each poll() */
void netdev_link_dropped(struct netdev_link *l);
void netdev_link_awake(struct netdev_link *l); /* wake_fd has been seen */
void netdev_link_wake(struct netdev_link *l);  /* for any thread */
/* On the vCPU thread: hands over what has come in, as far as the card takes it. */
void netdev_link_deliver(struct netdev_link *l);
u64 netdev_link_lost(struct netdev_link *l); /* frames dropped, both ways */

/* ---- pcap.c: what passes, into a file that tcpdump and Wireshark read ---- */

/* A FIFO whose reader is slow loses whole frames. open: as wait_open() waits. */
MUST_CHECK int pcap_open(struct pcap **out, const char *path, const struct wait_end *end, struct vm_error *err);
void pcap_close(struct pcap *p);                              /* copes with NULL */
void pcap_frame(struct pcap *p, const void *frame, size_t n); /* p may be NULL; one thread only */
/* 0, or once, for any thread, the -errno for which it has ended early. */
int pcap_failure(struct pcap *p);

/* A network of the process's own, 10.0.2.0/24, which reaches the host's (libslirp): 10.0.2.2 is the host, with its
 * loopback, 10.0.2.3 answers to DNS, 10.0.2.15 is given to the guest by DHCP. */
#define NETDEV_FORWARDS_MAX 16u
struct netdev_user_config {
    bool restricted;                          /* the guest reaches nothing outside, only what is forwarded comes in */
    const char *forward[NETDEV_FORWARDS_MAX]; /* PROTOCOL:[ADDRESS]:PORT-[GUEST]:PORT */
    unsigned forwards;
    const char *tftp;     /* a directory whose files the guest may fetch from 10.0.2.2 by TFTP; NULL: none */
    const char *bootfile; /* which of them DHCP tells it to boot from; NULL: none */
};
MUST_CHECK int netdev_user_open(struct netdev_link **out, const struct netdev_user_config *cfg,
                                const struct netdev_host *host, struct pcap *dump, struct vm_error *err);

/* A wire of several machines, at a Unix socket: whoever comes first listens there and passes on what the others send;
 * when it ends, one of the others takes its place. Frames have their length in front, in four bytes, big end first, as
 * QEMU's `-netdev stream` and passt have it: either may listen there instead. */
MUST_CHECK int netdev_socket_open(struct netdev_link **out, const char *path, const struct netdev_host *host,
                                  struct pcap *dump, struct vm_error *err);

/* A TAP interface of the host's, which is there or which this user may make. */
MUST_CHECK int netdev_tap_open(struct netdev_link **out, const char *interface, const struct netdev_host *host,
                               struct pcap *dump, struct vm_error *err);

#endif
