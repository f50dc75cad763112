/* Owns a libslirp.
 *   I1  Once the thread runs, libslirp is called by it alone.                                          [user_thread]
 * Enter at user_thread(). */
#define _GNU_SOURCE
#include "core/host_ns.h"
#include "src/back/netdev.h"
#include "src/error.h"
#include "src/parse.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <slirp/libslirp.h>
#include <string.h>

#define POLL_MAX 4096u
#define NS_OF_MS 1000000u
#define WATCH_NS 50000
#define SHORT_WAIT_NS 200000

struct user_timer {
    SlirpTimerCb fn;
    void *arg;
    s64 deadline_ms;
    bool armed;
    struct user_timer *next;
};

/* libslirp is loaded when a machine wants it: it exists as a shared library only, and a program that is linked
 * statically is to be had without. */
struct library {
    void *handle;
    __typeof__(slirp_new) *new;
    __typeof__(slirp_cleanup) *cleanup;
    __typeof__(slirp_input) *input;
    __typeof__(slirp_pollfds_fill) *pollfds_fill;
    __typeof__(slirp_pollfds_poll) *pollfds_poll;
    __typeof__(slirp_add_hostfwd) *add_hostfwd;
};

static int library_open(struct library *l, struct vm_error *err)
{
    const struct {
        const char *name;
        void *at;
    } calls[] = {
        { "slirp_new", &l->new },
        { "slirp_cleanup", &l->cleanup },
        { "slirp_input", &l->input },
        { "slirp_pollfds_fill", &l->pollfds_fill },
        { "slirp_pollfds_poll", &l->pollfds_poll },
        { "slirp_add_hostfwd", &l->add_hostfwd },
    };
    l->handle = dlopen("libslirp.so.0", RTLD_NOW | RTLD_LOCAL);
    if (!l->handle)
        return vm_fail(err, -ENOENT, "net user: libslirp.so.0 cannot be loaded (Debian: apt-get install libslirp0)");
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        void *found = dlsym(l->handle, calls[i].name);
        if (!found) return vm_fail(err, -ENOSYS, "net user: libslirp.so.0 has no %s()", calls[i].name);
        memcpy(calls[i].at, &found, sizeof found);
    }
    return 0;
}

struct user {
    struct netdev_link link; /* first: the two are cast into each other */
    struct library lib;
    Slirp *slirp;
    struct user_timer *timers;
    struct pollfd fds[POLL_MAX];
    unsigned nfds;
    bool watches; /* the next wait begins with watching for its end */
};

static s64 now_ns(void *opaque UNUSED) { return (s64)host_ns(CLOCK_MONOTONIC); }

/* ---- what libslirp calls ---- */

static ssize_t on_packet(const void *data, size_t n, void *opaque)
{
    struct user *u = opaque;
    netdev_link_received(&u->link, data, n);
    return (ssize_t)n;
}

static void on_guest_error(const char *text UNUSED, void *opaque UNUSED) {}

static void *on_timer_new(SlirpTimerCb fn, void *arg, void *opaque)
{
    struct user *u = opaque;
    struct user_timer *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    *t = (struct user_timer){ .fn = fn, .arg = arg, .next = u->timers };
    return u->timers = t;
}

static void on_timer_free(void *timer, void *opaque)
{
    struct user *u = opaque;
    struct user_timer **at = &u->timers;
    while (*at && *at != timer) at = &(*at)->next;
    if (*at) *at = (*at)->next;
    free(timer);
}

static void on_timer_mod(void *timer, int64_t deadline_ms, void *opaque UNUSED)
{
    struct user_timer *t = timer;
    if (!t) return;
    t->deadline_ms = deadline_ms;
    t->armed = true;
}

static void on_fd(int fd UNUSED, void *opaque UNUSED) {}
static void on_notify(void *opaque) { netdev_link_wake(&((struct user *)opaque)->link); }

static int add_poll(int fd, int events, void *opaque)
{
    struct user *u = opaque;
    if (u->nfds == POLL_MAX) return -1;
    int want = (events & SLIRP_POLL_IN ? POLLIN : 0) | (events & SLIRP_POLL_OUT ? POLLOUT : 0)
               | (events & SLIRP_POLL_PRI ? POLLPRI : 0);
    u->fds[u->nfds] = (struct pollfd){ .fd = fd, .events = (short)want };
    return (int)u->nfds++;
}

static int get_revents(int i, void *opaque)
{
    const struct user *u = opaque;
    int got = i >= 0 ? u->fds[i].revents : 0;
    return (got & POLLIN ? SLIRP_POLL_IN : 0) | (got & POLLOUT ? SLIRP_POLL_OUT : 0)
           | (got & POLLPRI ? SLIRP_POLL_PRI : 0) | (got & POLLERR ? SLIRP_POLL_ERR : 0)
           | (got & POLLHUP ? SLIRP_POLL_HUP : 0);
}

/* ---- the thread ---- */

static void timers_run(struct user *u)
{
    s64 now = now_ns(u) / NS_OF_MS;
    for (struct user_timer *t = u->timers; t;) {
        bool due = t->armed && t->deadline_ms <= now;
        if (due) {
            t->armed = false;
            t->fn(t->arg);
        }
        t = due ? u->timers : t->next; /* it may have changed the list */
    }
}

static int timeout_ms(const struct user *u, u32 most)
{
    s64 now = now_ns(NULL) / NS_OF_MS, left = most > INT32_MAX ? INT32_MAX : most;
    for (const struct user_timer *t = u->timers; t; t = t->next)
        if (t->armed && t->deadline_ms - now < left) left = t->deadline_ms > now ? t->deadline_ms - now : 0;
    return (int)left;
}

static void take_sent(struct user *u)
{
    for (struct frame *f; (f = netdev_link_sent(&u->link)); free(f)) u->lib.input(u->slirp, f->data, (int)f->len);
}

/* poll(). After a wait that was short it watches for a moment before it sleeps: what follows closely takes less than it
 * takes to put a thread to sleep and to wake it. */
static int wait_for(struct user *u, int ms)
{
    const s64 begin = now_ns(NULL);
    int rc = 0;
    while (u->watches && ms && (rc = poll(u->fds, u->nfds, 0)) == 0) u->watches = now_ns(NULL) - begin < WATCH_NS;
    if (!rc) rc = poll(u->fds, u->nfds, ms);
    u->watches = rc > 0 && now_ns(NULL) - begin < SHORT_WAIT_NS;
    return rc;
}

static void *user_thread(void *arg)
{
    struct user *u = arg;
    while (!netdev_link_ending(&u->link)) {
        u32 most = UINT32_MAX;
        take_sent(u);
        netdev_link_tell(&u->link);
        u->fds[0] = (struct pollfd){ .fd = u->link.wake_fd, .events = POLLIN };
        u->nfds = 1;
        u->lib.pollfds_fill(u->slirp, &most, add_poll, u);
        int rc = wait_for(u, timeout_ms(u, most));
        if (rc > 0 && u->fds[0].revents) netdev_link_awake(&u->link);
        u->lib.pollfds_poll(u->slirp, rc < 0, get_revents, u);
        timers_run(u);
    }
    return NULL;
}

/* ---- life ---- */

/* [ADDRESS]:PORT, up to `end`. An address that is not said is addr as it is. */
static bool parse_place(const char *text, const char *end, struct in_addr *addr, int *port)
{
    char word[64];
    u64 v;
    size_t n = (size_t)(end - text);
    if (n >= sizeof word) return false;
    memcpy(word, text, n);
    word[n] = 0;
    char *colon = strchr(word, ':');
    if (!colon || parse_u64(colon + 1, 65535, &v) || !v) return false;
    *colon = 0;
    *port = (int)v;
    return !*word || inet_aton(word, addr);
}

/* Who names no address of the host's opens the port to this host alone. */
static int forward(struct user *u, const char *text, struct vm_error *err)
{
    struct in_addr host = { htonl(INADDR_LOOPBACK) }, guest = { inet_addr("10.0.2.15") };
    int host_port, guest_port;
    bool udp = !strncmp(text, "udp:", 4);
    const char *from = text + 4, *dash = strchr(text, '-');
    if ((!udp && strncmp(text, "tcp:", 4)) || !dash || dash < from || !parse_place(from, dash, &host, &host_port)
        || !parse_place(dash + 1, text + strlen(text), &guest, &guest_port))
        return vm_fail(err, -EINVAL, "net: hostfwd=%s is not tcp|udp:[ADDRESS]:PORT-[GUEST]:PORT", text);
    errno = 0;
    if (!u->lib.add_hostfwd(u->slirp, udp, host, host_port, guest, guest_port)) return 0;
    int rc = errno ? -errno : -EADDRINUSE;
    return vm_fail(err, rc, "net: hostfwd=%s: %s", text, strerror(-rc));
}

static int slirp_start(struct user *u, const struct netdev_user_config *cfg, struct vm_error *err)
{
    static const SlirpCb calls = {
        .send_packet = on_packet,
        .guest_error = on_guest_error,
        .clock_get_ns = now_ns,
        .timer_new = on_timer_new,
        .timer_free = on_timer_free,
        .timer_mod = on_timer_mod,
        .register_poll_fd = on_fd,
        .unregister_poll_fd = on_fd,
        .notify = on_notify,
    };
    const SlirpConfig sc = {
        .version = 1,
        .restricted = cfg->restricted,
        .in_enabled = true,
        .vnetwork = { inet_addr("10.0.2.0") },
        .vnetmask = { inet_addr("255.255.255.0") },
        .vhost = { inet_addr("10.0.2.2") },
        .vdhcp_start = { inet_addr("10.0.2.15") },
        .tftp_path = cfg->tftp,
        .bootfile = cfg->bootfile,
        .vnameserver = { inet_addr("10.0.2.3") },
    };
    int rc = library_open(&u->lib, err);
    if (rc) return rc;
    u->slirp = u->lib.new(&sc, &calls, u);
    rc = u->slirp ? 0 : vm_fail(err, -ENOMEM, "net user: libslirp does not start");
    for (unsigned i = 0; i < cfg->forwards && !rc; i++) rc = forward(u, cfg->forward[i], err);
    return rc;
}

static void user_close(struct netdev_link *l)
{
    struct user *u = (struct user *)l;
    netdev_link_stop(l);
    if (u->slirp) u->lib.cleanup(u->slirp);
    while (u->timers) on_timer_free(u->timers, u);
    if (u->lib.handle) dlclose(u->lib.handle);
    netdev_link_fini(l);
    free(u);
}

int netdev_user_open(struct netdev_link **out, const struct netdev_user_config *cfg, const struct netdev_host *host,
                     struct pcap *dump, struct vm_error *err)
{
    struct user *u = calloc(1, sizeof *u);
    if (!u) return vm_fail(err, -ENOMEM, "net: out of memory");
    u->link.close = user_close;
    int rc = netdev_link_init(&u->link, host, dump, err);
    if (!rc) rc = slirp_start(u, cfg, err);
    u->link.sums = true;
    u->link.dev.sends_large = !dump; /* a dump has frames as they are on a wire */
    if (!rc) rc = netdev_link_start(&u->link, user_thread, u, err);
    if (rc) user_close(&u->link);
    else *out = &u->link;
    return rc;
}
