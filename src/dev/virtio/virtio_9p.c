/* Owns the messages between a virtio 9P device's ring and a shared folder, and what a saved machine has of the session.
 *   I1  A message is free, or the folder's. The folder has it until done(), also beyond a reset by the driver: it is
 *       stale then, and goes back to nobody.                                                         [share_reset]
 * Enter at share_notify(). Virtual I/O Device (VIRTIO) 1.3, 5.15 (9P transport). */
#include "core/sharedev.h"
#include "src/dev/virtio/virtio.h"

#include <errno.h>
#include <string.h>

#define F_MOUNT_TAG (1ull << 0)
#define REQUESTS 64u
enum { CONFIG_LEN = 2 + SHARE_TAG_MAX };
_Static_assert(CONFIG_LEN <= VIRTIO_CONFIG_MAX, "the tag is in the configuration");

struct request {
    struct sharedev_req req;
    struct vchain chain;
    struct virtio_9p *dev;
    struct request *next; /* that is free */
    u32 epoch;
};

/* What a saved machine has of the folder's session: taken when it is saved, given when it is loaded. */
struct session {
    struct sharedev *folder;
    struct byte_queue state;
};

struct virtio_9p {
    struct virtio *v;
    struct bus *bus;
    struct sharedev *folder;
    u8 config[CONFIG_LEN];
    struct request request[REQUESTS];
    struct request *idle;
    u32 epoch; /* of resets */
    unsigned under_way, stale;
    struct session session;
    char session_name[24];
};

static void idle_put(struct virtio_9p *d, struct request *r)
{
    r->next = d->idle;
    d->idle = r;
}

static void share_take(struct virtio_9p *d);
static void share_done(struct sharedev_req *req)
{
    struct request *r = req->arg;
    struct virtio_9p *d = r->dev;

    if (r->epoch != d->epoch) {
        d->stale--;
        vchain_unmap(d->bus, &r->chain, req->written);
        idle_put(d, r);
        return;
    }
    d->under_way--;
    if (req->written) virtio_push(d->v, 0, &r->chain, req->written);
    else virtio_break(d->v); /* no message, or no room for an answer */
    idle_put(d, r);
    share_take(d); /* there may have been more than there was room for */
}

static void share_take(struct virtio_9p *d)
{
    while (d->idle) {
        struct request *r = d->idle;
        struct vchain *c = &r->chain;

        if (!virtio_pop(d->v, 0, c)) return;
        d->idle = r->next;
        r->req = (struct sharedev_req){ .out = vchain_out(c),
                                        .in = vchain_in(c),
                                        .nout = c->nout,
                                        .nin = c->nin,
                                        .out_len = c->out_len,
                                        .in_len = c->in_len,
                                        .done = share_done,
                                        .arg = r };
        r->epoch = d->epoch;
        d->under_way++;
        sharedev_submit(d->folder, &r->req);
    }
}

/* A driver waits for most answers, and they take less than it takes to put it to sleep. */
static void share_notify(void *dev, unsigned queue UNUSED)
{
    struct virtio_9p *d = dev;

    share_take(d);
    if (d->under_way) sharedev_settle(d->folder);
}

static void share_reset(void *dev)
{
    struct virtio_9p *d = dev;

    d->stale += d->under_way;
    d->under_way = 0;
    d->epoch++;
    sharedev_reset(d->folder);
}

static bool share_busy(const void *dev) { return ((const struct virtio_9p *)dev)->stale; }

/* ---- the session in a saved machine ---- */

static int session_loaded(void *chip)
{
    struct session *s = chip;
    sharedev_load(s->folder, &s->state);
    byte_queue_free(&s->state);
    s->state = (struct byte_queue){ 0 };
    return 0;
}

static const struct snap_field session_fields[] = {
    SNAP(struct session, state, .max = SHARE_STATE_MAX),
    { 0 },
};
static const struct snap_table session_table = { .name = "9p-session",
                                                 .version = 1,
                                                 .size = sizeof(struct session),
                                                 .fields = session_fields,
                                                 .loaded = session_loaded };

void virtio_9p_save(struct virtio_9p *d) { sharedev_save(d->folder, &d->session.state); }

unsigned virtio_9p_parts(struct virtio_9p *d, struct snap_part *out, unsigned room)
{
    unsigned n = 0;
    if (n < room) out[n++] = virtio_part(d->v);
    if (n < room) out[n++] = (struct snap_part){ d->session_name, &session_table, &d->session };
    return n;
}

/* ---- life ---- */

int virtio_9p_new(struct virtio_9p **out, struct bus *bus, struct pci *p, u8 slot, const char *name,
                  struct sharedev *folder)
{
    static const struct virtio_ops ops = { .notify = share_notify, .reset = share_reset, .busy = share_busy };
    struct virtio_9p *d = calloc(1, sizeof *d);
    const u16 tag_len = (u16)strlen(folder->tag);
    int err;

    if (!d) return -ENOMEM;
    d->bus = bus;
    d->folder = d->session.folder = folder;
    snprintf(d->session_name, sizeof d->session_name, "%s-session", name);
    for (unsigned i = 0; i < REQUESTS; i++) {
        d->request[i].dev = d;
        idle_put(d, &d->request[i]);
    }
    virtio_le(d->config, tag_len, 2);
    memcpy(d->config + 2, folder->tag, tag_len);
    const struct virtio_desc desc = {
        .slot = slot,
        .type = 9,
        .class_code = 0, /* none of the classes there were */
        .subclass = 2,
        .name = name,
        .queues = 1,
        .features = F_MOUNT_TAG,
        .config = d->config,
        .config_len = 2u + tag_len,
        .ops = &ops,
        .dev = d,
    };
    err = virtio_new(&d->v, bus, p, &desc);
    if (err) {
        free(d);
        return err;
    }
    *out = d;
    return 0;
}

void virtio_9p_free(struct virtio_9p *d)
{
    if (!d) return;
    virtio_free(d->v);
    byte_queue_free(&d->session.state);
    free(d);
}
