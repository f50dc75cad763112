/* Owns the way between the terminal's user and the monitor's commands.
 *
 * What is typed comes on a thread that must not wait for the machine, for the machine may be about to end that thread.
 * So it is noted down, and dealt with on the machine's thread, between two runs.
 *   I1  heard[] and session are touched only under lock; edit on the machine's thread alone.          [talk, serve]
 *   I2  Of bytes at most HEARD_MAX wait; a beginning and an end are never lost for want of that room.        [note] */
#include "src/face/terminal_monitor.h"
#include "src/face/hmp.h"
#include "src/face/line_edit.h"

#include <stdlib.h>
#include <string.h>
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
    struct line_edit *edit;
    bool files, greeted;
};

/* ---- on the machine's thread ---- */

static void on_put(void *arg, const char *bytes, size_t n)
{
    const struct terminal_monitor *m = arg;
    vm_say(m->session->vm, bytes, n);
}

/* Lines end as terminals want it. */
static void say(struct terminal_monitor *m, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, "\n");
        on_put(m, text, n);
        text += n;
        if (!*text) break;
        on_put(m, "\r\n", 2);
        text++;
    }
}

static void on_done(void *arg, const char *line)
{
    struct terminal_monitor *m = arg;
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    if (out) hmp_line(m->session, line, out);
    if (!out || fclose(out)) say(m, "out of memory\n");
    else say(m, text);
    free(text);
}

static void on_word(void *arg, const char *word) { line_words_add(arg, word); }

static void on_complete(void *arg, const char *before, struct line_words *words)
{
    const struct terminal_monitor *m = arg;
    hmp_complete(m->session, before, on_word, words);
}

static void begin(struct terminal_monitor *m)
{
    say(m, "\n");
    if (!m->greeted) {
        say(m, "The machine's monitor: `help` lists its commands, Ctrl-A c goes back.\n");
        if (!m->files)
            say(m, "In its jail it opens the files of --save and --screenshot alone; --monitor or --no-jail: any.\n");
    }
    m->greeted = true;
    line_edit_show(m->edit);
}

static void deal_with(struct terminal_monitor *m, struct heard h)
{
    struct winsize size;
    if (m->session->quit) return;
    line_edit_columns(m->edit, ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) ? 0 : size.ws_col);
    if (h.what == VM_TALK_BEGINS) begin(m);
    if (h.what == VM_TALK_BYTES) line_edit_input(m->edit, &h.byte, 1);
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
    const struct line_edit_host host = { .put = on_put, .done = on_done, .complete = on_complete, .arg = m };
    m->edit = line_edit_new("(transvisor) ", &host);
    if (!m->edit) {
        free(m);
        return NULL;
    }
    m->files = files;
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
    line_edit_free(m->edit);
    pthread_mutex_destroy(&m->lock);
    free(m->heard);
    free(m);
}
