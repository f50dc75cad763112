/* Owns the way between a terminal that is behind a socket and the human monitor.
 *   I1  human is used on the machine's thread only, by session_call(); the door's thread waits meanwhile, and sends
 *       what has been answered. It stays while people come and go, and with it the lines that were typed.    [call] */
#include "src/face/human_door.h"
#include "src/face/human.h"
#include "src/face/outbox.h"

#include <errno.h>
#include <stdlib.h>

struct human_door {
    struct door *door;
    struct session *session;
    struct human *human;
    struct outbox out;
    const u8 *in; /* what has come */
    size_t in_n;
};

static void on_put(void *arg, const char *bytes, size_t n) { outbox_add(&((struct human_door *)arg)->out, bytes, n); }

/* ---- on the machine's thread ---- */

static void enter(void *arg)
{
    struct human_door *h = arg;
    human_columns(h->human, 0);
    human_begins(h->human, h->session);
}

/* A byte at a time: what is behind a `quit` is not done. */
static void input(void *arg)
{
    struct human_door *h = arg;
    for (size_t i = 0; i < h->in_n && !h->session->quit; i++) human_input(h->human, h->in + i, 1);
}

/* ---- on the door's thread ---- */

static void call(struct human_door *h, void (*fn)(void *arg))
{
    if (session_call(h->session, fn, h)) outbox_send(&h->out, h->door);
}

static void on_opened(void *arg)
{
    struct human_door *h = arg;
    outbox_empty(&h->out);
    call(h, enter);
}

static void on_input(void *arg, const u8 *bytes, size_t n)
{
    struct human_door *h = arg;
    h->in = bytes;
    h->in_n = n;
    call(h, input);
}

static void on_nothing(void *arg UNUSED) {}

/* ---- life ---- */

int human_door_open(struct human_door **out, const char *spec, bool files, struct vm_error *err)
{
    char what[160];
    struct human_door *h = calloc(1, sizeof *h);
    if (h) h->human = human_new(files, on_put, h);
    snprintf(what, sizeof what, "--human-monitor %s", spec);
    int rc = h && h->human ? door_open(&h->door, spec, what, err) : -ENOMEM;
    if (!rc) {
        *out = h;
        return 0;
    }
    if (!h || !h->human) snprintf(err->text, sizeof err->text, "--human-monitor: out of memory");
    else human_free(h->human);
    free(h);
    return rc;
}

int human_door_start(struct human_door *h, struct session *s)
{
    static const struct door_ops ops = { on_opened, on_input, on_nothing, on_nothing };
    h->session = s;
    return door_start(h->door, &ops, h);
}

void human_door_close(struct human_door *h)
{
    if (!h) return;
    door_close(h->door);
    human_free(h->human);
    outbox_free(&h->out);
    free(h);
}
