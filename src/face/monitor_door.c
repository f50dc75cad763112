/* Owns the way between a monitor's socket and its machine.
 *   I1  qmp is used on the machine's thread only, by session_call(), while there is a session.        [call]
 *   I2  What happens to the machine is noted on its thread, under lock, and told in this order by the door's; what
 *       does not fit any more is left out.                                            [note, tell_events] */
#include "src/face/monitor_door.h"
#include "src/face/outbox.h"
#include "src/face/qmp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define EVENTS_MAX 64u

struct noted {
    enum qmp_event event;
    bool guest;
    const char *reason;             /* NULL: there is nothing to say of it */
    struct session_failure failure; /* of QMP_DISK */
};

struct monitor_door {
    struct door *door;
    struct session *session;
    struct session_listener listener;
    struct qmp *qmp; /* NULL: there is no client */
    bool stood;      /* what has been noted last; the machine's thread's */
    pthread_mutex_t lock;
    struct noted noted[EVENTS_MAX];
    unsigned n;
    struct outbox out;
    const u8 *in; /* what has come */
    size_t in_n;
};

/* ---- on the machine's thread ---- */

static void on_send(void *arg, const void *bytes, size_t n)
{
    outbox_add(&((struct monitor_door *)arg)->out, bytes, n);
}

static void note_down(struct monitor_door *m, const struct noted *what)
{
    pthread_mutex_lock(&m->lock);
    if (m->n < EVENTS_MAX) m->noted[m->n++] = *what;
    pthread_mutex_unlock(&m->lock);
    door_wake(m->door);
}

static void note(struct monitor_door *m, enum qmp_event event, bool guest, const char *reason)
{
    const struct noted what = { .event = event, .guest = guest, .reason = reason };
    note_down(m, &what);
}

static void on_disk_failed(void *arg, const struct session_failure *f)
{
    const struct noted what = { .event = QMP_DISK, .failure = *f };
    note_down(arg, &what);
}

static void on_changed(void *arg)
{
    struct monitor_door *m = arg;
    bool stands = m->session->state != SESSION_RUNS;
    if (stands != m->stood) note(m, stands ? QMP_STOP : QMP_RESUME, false, NULL);
    m->stood = stands;
}

static void on_reset(void *arg, bool guest)
{
    note(arg, QMP_RESET, guest, guest ? "guest-reset" : "host-qmp-system-reset");
}

static void tell_events(void *arg)
{
    struct monitor_door *m = arg;
    pthread_mutex_lock(&m->lock);
    for (unsigned i = 0; i < m->n && m->qmp; i++)
        if (m->noted[i].event == QMP_DISK) qmp_disk_failed(m->qmp, &m->noted[i].failure);
        else qmp_event(m->qmp, m->noted[i].event, m->noted[i].guest, m->noted[i].reason);
    m->n = 0;
    pthread_mutex_unlock(&m->lock);
}

static void enter(void *arg)
{
    struct monitor_door *m = arg;
    m->n = 0; /* what has been before is none of its business */
    m->qmp = qmp_new(m->session, on_send, m);
}

/* What a request has brought about comes before the next request is read. */
static void input(void *arg)
{
    struct monitor_door *m = arg;
    qmp_input(m->qmp, m->in, m->in_n);
    tell_events(m);
}

/* ---- on the door's thread ---- */

static void flush(struct monitor_door *m) { outbox_send(&m->out, m->door); }

static void call(struct monitor_door *m, void (*fn)(void *arg))
{
    if (session_call(m->session, fn, m)) flush(m);
}

static void on_opened(void *arg)
{
    struct monitor_door *m = arg;
    outbox_empty(&m->out);
    call(m, enter);
    if (!m->qmp) door_hang_up(m->door);
}

static void on_input(void *arg, const u8 *bytes, size_t n)
{
    struct monitor_door *m = arg;
    m->in = bytes;
    m->in_n = n;
    if (m->qmp) call(m, input);
}

static void on_closed(void *arg)
{
    struct monitor_door *m = arg;
    qmp_free(m->qmp);
    m->qmp = NULL;
}

static void on_woken(void *arg)
{
    struct monitor_door *m = arg;
    if (!m->qmp) return;
    if (!door_ends(m->door)) {
        call(m, tell_events);
        return;
    }
    tell_events(m);
    flush(m);
}

/* ---- life ---- */

int monitor_door_open(struct monitor_door **out, const char *spec, struct vm_error *err)
{
    char what[160];
    struct monitor_door *m = calloc(1, sizeof *m);
    if (!m) {
        snprintf(err->text, sizeof err->text, "--monitor: out of memory");
        return -ENOMEM;
    }
    snprintf(what, sizeof what, "--monitor %s", spec);
    pthread_mutex_init(&m->lock, NULL);
    int rc = door_open(&m->door, spec, what, err);
    if (rc) {
        pthread_mutex_destroy(&m->lock);
        free(m);
    } else *out = m;
    return rc;
}

int monitor_door_start(struct monitor_door *m, struct session *s)
{
    static const struct door_ops ops = { on_opened, on_input, on_closed, on_woken };
    m->session = s;
    m->stood = s->state != SESSION_RUNS;
    m->listener = (struct session_listener){
        .changed = on_changed, .was_reset = on_reset, .disk_failed = on_disk_failed, .arg = m
    };
    session_listen(s, &m->listener);
    return door_start(m->door, &ops, m);
}

void monitor_door_close(struct monitor_door *m, bool guest, const char *reason)
{
    if (!m) return;
    if (m->session) note(m, QMP_SHUTDOWN, guest, reason);
    door_close(m->door);
    qmp_free(m->qmp);
    pthread_mutex_destroy(&m->lock);
    outbox_free(&m->out);
    free(m);
}
