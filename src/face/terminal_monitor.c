/* Owns the way between the terminal's user and the monitor's commands.
 *
 * What is typed comes on a thread that must not wait for the machine, for the machine may be about to end that thread.
 * So it is noted down, and dealt with on the machine's thread, between two runs.
 *   I1  heard[] and session are touched only under lock; human on the machine's thread alone.        [talk, serve]
 *   I2  Of bytes at most HEARD_MAX wait; a beginning and an end are never lost for want of that room.        [note] */
#include "src/face/terminal_monitor.h"
#include "src/face/human.h"

#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define HEARD_MAX 65536u

struct heard {
    u8 what; /* enum vm_talk */
    u8 byte;
};

struct terminal_monitor {
    pthread_mutex_t lock;
    struct session *session; /* NULL: not yet */
    struct session_call call;
    struct heard *heard;
    size_t n, room;
    struct human *human;
};

/* ---- on the machine's thread ---- */

static void on_put(void *arg, const char *bytes, size_t n)
{
    const struct terminal_monitor *m = arg;
    vm_say(m->session->vm, bytes, n);
}

static void deal_with(struct terminal_monitor *m, struct heard h)
{
    struct winsize size;
    if (m->session->quit) return;
    human_columns(m->human, ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) ? 0 : size.ws_col);
    if (h.what == VM_TALK_BEGINS) human_begins(m->human, m->session);
    if (h.what == VM_TALK_BYTES) human_input(m->human, &h.byte, 1);
}

static void serve(void *arg)
{
    struct terminal_monitor *m = arg;
    pthread_mutex_lock(&m->lock);
    struct heard *heard = m->heard;
    size_t n = m->n;
    m->heard = NULL;
    m->n = m->room = 0;
    pthread_mutex_unlock(&m->lock);
    for (size_t i = 0; i < n; i++) deal_with(m, heard[i]);
    free(heard);
}

/* ---- on the terminal's thread ---- */

/* Under lock. */
static void note(struct terminal_monitor *m, struct heard what)
{
    if (what.what == VM_TALK_BYTES && m->n >= HEARD_MAX) return;
    if (m->n == m->room) {
        size_t room = m->room ? 2 * m->room : 64;
        struct heard *more = realloc(m->heard, room * sizeof *more);
        if (!more) return;
        m->heard = more;
        m->room = room;
    }
    m->heard[m->n++] = what;
}

void terminal_monitor_talk(void *monitor, enum vm_talk what, const u8 *bytes, size_t n)
{
    struct terminal_monitor *m = monitor;
    pthread_mutex_lock(&m->lock);
    if (what != VM_TALK_BYTES) note(m, (struct heard){ (u8)what, 0 });
    for (size_t i = 0; i < n; i++) note(m, (struct heard){ (u8)what, bytes[i] });
    if (m->session) session_post(m->session, &m->call);
    pthread_mutex_unlock(&m->lock);
}

/* ---- life ---- */

struct terminal_monitor *terminal_monitor_new(bool files)
{
    struct terminal_monitor *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->human = human_new(files, on_put, m);
    if (!m->human) {
        free(m);
        return NULL;
    }
    m->call = (struct session_call){ .fn = serve, .arg = m };
    pthread_mutex_init(&m->lock, NULL);
    return m;
}

void terminal_monitor_start(struct terminal_monitor *m, struct session *s)
{
    pthread_mutex_lock(&m->lock);
    m->session = s;
    if (m->n) session_post(s, &m->call);
    pthread_mutex_unlock(&m->lock);
}

void terminal_monitor_free(struct terminal_monitor *m)
{
    if (!m) return;
    human_free(m->human);
    pthread_mutex_destroy(&m->lock);
    free(m->heard);
    free(m);
}
