/* Owns the way between a debugger's socket and its machine.
 *   I1  gdb is used on the machine's thread only, by session_call(), while there is a session; the door's thread waits
 *       meanwhile, and sends what has been answered.                                              [call, flush]
 *   I2  A machine stands from a debugger's coming until that lets it go on; one whose debugger is lost goes on. */
#include "src/face/gdb_door.h"
#include "src/face/gdb.h"
#include "src/face/outbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct gdb_door {
    struct door *door;
    struct session *session;
    struct session_listener listener;
    struct gdb *gdb;  /* NULL: there is no debugger */
    bool stdio, left; /* left: the debugger has said goodbye */
    int status;
    struct outbox out;
    const u8 *in; /* what has come */
    size_t in_n;
};

/* ---- on the machine's thread ---- */

static void on_send(void *arg, const void *bytes, size_t n) { outbox_add(&((struct gdb_door *)arg)->out, bytes, n); }

static enum gdb_stop on_state(void *arg)
{
    static const enum gdb_stop states[] = { [SESSION_RUNS] = GDB_RUNS,
                                            [SESSION_ASKED] = GDB_ASKED,
                                            [SESSION_BREAK] = GDB_BREAK,
                                            [SESSION_STEPPED] = GDB_STEPPED,
                                            [SESSION_DIED] = GDB_DIED };
    return states[((struct gdb_door *)arg)->session->state];
}
static void on_stop(void *arg) { session_stop(((struct gdb_door *)arg)->session); }
static void on_go(void *arg) { session_go(((struct gdb_door *)arg)->session); }
static void on_step(void *arg, bool interrupts) { session_step(((struct gdb_door *)arg)->session, interrupts); }
static void on_kill(void *arg) { session_quit(((struct gdb_door *)arg)->session); }
static void on_leave(void *arg) { ((struct gdb_door *)arg)->left = true; }

static void on_changed(void *arg)
{
    struct gdb_door *g = arg;
    if (g->gdb) door_wake(g->door);
}

static void enter(void *arg)
{
    struct gdb_door *g = arg;
    const struct gdb_host host = { on_send, on_state, on_stop, on_go, on_step, on_kill, on_leave, g };
    g->gdb = gdb_new(g->session->vm, &host);
    if (!g->gdb) return;
    g->session->hold_dead = true;
    session_stop(g->session);
}

static void input(void *arg)
{
    struct gdb_door *g = arg;
    gdb_input(g->gdb, g->in, g->in_n);
}

static void changed(void *arg) { gdb_changed(((struct gdb_door *)arg)->gdb); }

static void away(void *arg)
{
    struct gdb_door *g = arg;
    gdb_free(g->gdb);
    g->gdb = NULL;
    g->session->hold_dead = false;
    if (!g->left && g->stdio) session_quit(g->session); /* whoever started us has gone */
    session_go(g->session);
}

/* ---- on the door's thread ---- */

static void flush(struct gdb_door *g)
{
    outbox_send(&g->out, g->door);
    if (g->left) door_hang_up(g->door);
}

static void call(struct gdb_door *g, void (*fn)(void *arg))
{
    if (session_call(g->session, fn, g)) flush(g);
}

static void on_opened(void *arg)
{
    struct gdb_door *g = arg;
    g->left = false;
    outbox_empty(&g->out);
    call(g, enter);
    if (!g->gdb) door_hang_up(g->door);
}

static void on_input(void *arg, const u8 *bytes, size_t n)
{
    struct gdb_door *g = arg;
    g->in = bytes;
    g->in_n = n;
    if (g->gdb) call(g, input);
}

static void on_closed(void *arg)
{
    struct gdb_door *g = arg;
    if (g->gdb) session_call(g->session, away, g);
}

static void on_woken(void *arg)
{
    struct gdb_door *g = arg;
    if (!g->gdb) return;
    if (!door_ends(g->door)) {
        call(g, changed);
        return;
    }
    gdb_exited(g->gdb, (u8)g->status);
    flush(g);
}

/* ---- life ---- */

int gdb_door_open(struct gdb_door **out, const char *spec, struct vm_error *err)
{
    char what[160];
    struct gdb_door *g = calloc(1, sizeof *g);
    if (!g) {
        snprintf(err->text, sizeof err->text, "--gdb: out of memory");
        return -ENOMEM;
    }
    snprintf(what, sizeof what, "--gdb %s", spec);
    g->stdio = !strcmp(spec, "stdio");
    int rc = door_open(&g->door, spec, what, err);
    if (rc) free(g);
    else *out = g;
    return rc;
}

int gdb_door_start(struct gdb_door *g, struct session *s)
{
    static const struct door_ops ops = { on_opened, on_input, on_closed, on_woken };
    g->session = s;
    g->listener = (struct session_listener){ .changed = on_changed, .arg = g };
    session_listen(s, &g->listener);
    return door_start(g->door, &ops, g);
}

void gdb_door_close(struct gdb_door *g, int status)
{
    if (!g) return;
    g->status = status;
    door_close(g->door);
    gdb_free(g->gdb); /* the session did not take the call for it */
    outbox_free(&g->out);
    free(g);
}
