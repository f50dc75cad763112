/* Owns the screen on our own terminal: a VGA's text, and the terminal's keys as the guest's keyboard.
 *
 * One thread. What has changed since it was last shown is written, and nothing else. The picture is copied before
 * anything is written, so that nobody who draws waits for a slow terminal.
 *   I1  shown is what stands on the terminal, or fresh says that nothing is known of it.      [paint, terminal_look]
 *   I2  ending, on_terminal and said are touched only under lock; on_terminal is set once.
 *   I3  While the user talks (Ctrl-A c) the terminal shows that talk, and its first screen.         [on_own_talk]
 * Enter at text_thread(). */
#include "core/hostfd.h"
#include "core/thread.h"
#include "src/back/frame.h"
#include "src/back/keys.h"
#include "src/back/screen.h"
#include "src/back/term_keys.h"
#include "src/back/terminal.h"
#include "src/back/user_keys.h"
#include "src/error.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define TICK_MS 33
#define ESC_MS 40 /* after so long an Esc was no start of a sequence */
#define NOTICE_MAX 120u

/* The other screen of the terminal, and back. */
static const char enter[] = "\033[?1049h\033[0m\033[2J", leave[] = "\033[0m\033[?25h\033[?1049l";

/* What is on the screen, or on the terminal. */
struct view {
    struct display_shape shape;
    struct display_cell *cells;
    size_t room; /* cells */
    bool cursor;
    u32 column, row;
};

struct text {
    struct screen screen; /* first: the two are cast into each other */
    struct screen_host host;
    int in, out, wake_fd;
    pthread_t thread;
    bool runs;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* ending or on_terminal has come */
    bool ending, on_terminal;
    u8 *said; /* to the user who talks, and not written yet */
    size_t said_n, said_room;
    bool gone; /* the terminal */
    struct frame_viewer viewer;
    struct view now, shown;
    bool fresh;
    unsigned columns, rows, top; /* of the terminal; the guest's row that is its first */
    unsigned resumed;
    bool background;         /* somebody else has it */
    char notice[NOTICE_MAX]; /* a line for the user, until the next key; "": none */
    struct user_keys own;
    struct term_keys keys;
};

/* ---- writing ---- */

static bool is_ending(struct text *t)
{
    pthread_mutex_lock(&t->lock);
    bool ending = t->ending;
    pthread_mutex_unlock(&t->lock);
    return ending;
}

static void put(struct text *t, const char *p, size_t n)
{
    while (n && !t->gone) {
        ssize_t w = write(t->out, p, n);
        if (w > 0) {
            p += w;
            n -= (size_t)w;
        } else if (w < 0 && errno == EAGAIN) {
            struct pollfd pfd = { .fd = t->out, .events = POLLOUT };
            (void)poll(&pfd, 1, TICK_MS);
            if (is_ending(t)) return;
        } else if (w < 0 && errno != EINTR) {
            t->gone = true;
        }
    }
}

/* ---- painting ---- */

static void put_colours(FILE *out, struct display_cell c)
{
    static const u8 ansi[8] = { 0, 4, 2, 6, 1, 5, 3, 7 }; /* a VGA's bit 0 is blue */
    fprintf(out, "\033[0;%u;%u%sm", (c.ink & 8 ? 90u : 30u) + ansi[c.ink & 7],
            (c.paper & 8 ? 100u : 40u) + ansi[c.paper & 7], c.blinks ? ";5" : "");
}

static bool same_colours(struct display_cell a, struct display_cell b)
{
    return a.ink == b.ink && a.paper == b.paper && a.blinks == b.blinks;
}

/* The cells of a row that differ. */
static void paint_row(struct text *t, FILE *out, u32 row)
{
    u32 columns = t->now.shape.columns, last = columns < t->columns ? columns : t->columns;
    const struct display_cell *want = t->now.cells + (size_t)row * columns;
    const struct display_cell *have = t->fresh ? want : t->shown.cells + (size_t)row * columns;
    const struct display_cell *before = NULL; /* the one written last */
    for (u32 x = 0; x < last; x++) {
        char utf8[CP437_MAX];
        if (!t->fresh && want[x].code == have[x].code && same_colours(want[x], have[x])) continue;
        if (!before || before != &want[x - 1]) fprintf(out, "\033[%u;%uH", row - t->top + 1, x + 1);
        if (!before || !same_colours(*before, want[x])) put_colours(out, want[x]);
        cp437_utf8(want[x].code, utf8);
        fputs(utf8, out);
        before = &want[x];
    }
}

static void paint_graphics(struct text *t, FILE *out)
{
    if (t->fresh)
        fprintf(
            out,
            "\033[0m\033[2J\033[?25l\033[HThe guest shows graphics, %u x %u pixels.\r\n--display vnc shows them, and "
            "--screenshot FILE.png takes a picture.\r\nCtrl-A x ends the machine.\r\n",
            t->now.shape.width, t->now.shape.height);
}

static void paint_text(struct text *t, FILE *out)
{
    u32 rows = t->now.shape.rows;
    /* Of a screen with more rows than the terminal the part with the cursor is shown. */
    u32 top = t->now.cursor && t->now.row >= t->rows ? t->now.row - t->rows + 1 : 0;
    if (top != t->top) t->fresh = true;
    t->top = top;
    if (t->fresh) fputs("\033[0m\033[2J", out);
    for (u32 y = top; y < rows && y - top < t->rows; y++) paint_row(t, out, y);
    bool moved =
        t->fresh || t->now.cursor != t->shown.cursor || t->now.column != t->shown.column || t->now.row != t->shown.row;
    if (*t->notice && t->rows)
        fprintf(out, "\033[%u;1H\033[0;7m\033[2K%.*s\033[0m", t->rows, (int)t->columns, t->notice);
    if (!t->now.cursor || t->now.column >= t->columns) {
        if (moved) fputs("\033[?25l", out);
    } else {
        fprintf(out, "\033[%u;%uH%s", t->now.row - top + 1, t->now.column + 1, moved ? "\033[?25h" : "");
    }
}

/* Brings the terminal to what the picture was at the last look. */
static void paint(struct text *t)
{
    char *bytes = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&bytes, &n);
    if (!out) return;
    if (t->now.shape.columns) paint_text(t, out);
    else if (t->now.shape.width) paint_graphics(t, out);
    bool fine = !ferror(out);
    if (fclose(out) || !fine) {
        free(bytes);
        t->fresh = true;
        return;
    }
    put(t, bytes, n);
    free(bytes);
    struct view was = t->shown;
    t->shown = t->now;
    t->now = was;
    t->fresh = false;
}

/* ---- looking ---- */

/* Takes a copy of the picture. Returns whether there is anything to paint. */
static bool look(struct text *t)
{
    struct display_rect changed;
    const struct display_frame *f = frame_lock(t->screen.frame, &t->viewer, &changed);
    size_t n = (size_t)f->shape.columns * f->shape.rows;
    bool fine = true;
    if (n > t->now.room) {
        struct display_cell *cells = realloc(t->now.cells, n * sizeof *cells);
        fine = cells;
        if (fine) {
            t->now.cells = cells;
            t->now.room = n;
        }
    }
    if (fine) {
        t->now.shape = f->shape;
        if (n) memcpy(t->now.cells, f->cells, n * sizeof *f->cells);
        t->now.cursor = f->cursor && !f->blank;
        t->now.column = f->cursor_column;
        t->now.row = f->cursor_row;
    }
    frame_unlock(t->screen.frame);
    if (!fine || !t->now.shape.width) return false;
    if (memcmp(&t->now.shape, &t->shown.shape, sizeof t->now.shape)) t->fresh = true;
    return t->fresh || changed.width || t->now.cursor != t->shown.cursor || t->now.column != t->shown.column
           || t->now.row != t->shown.row;
}

/* The terminal may have another size, or have been somebody else's. */
static void terminal_look(struct text *t)
{
    struct winsize size;
    unsigned resumed = terminal_resumed();
    if (ioctl(t->out, TIOCGWINSZ, &size) || !size.ws_col || !size.ws_row) size = (struct winsize){ 25, 80, 0, 0 };
    if (size.ws_col != t->columns || size.ws_row != t->rows || resumed != t->resumed) t->fresh = true;
    t->columns = size.ws_col;
    t->rows = size.ws_row;
    t->resumed = resumed;
    pid_t group = tcgetpgrp(t->in); /* -1: it is not our controlling terminal, and has no background */
    t->background = group >= 0 && group != getpgrp();
}

/* ---- the talk ---- */

static void wake(void *arg)
{
    struct text *t = arg;
    const u64 one = 1;
    (void)!write(t->wake_fd, &one, sizeof one); /* it can only be full, and then it is awake */
}

static void text_say(struct screen *s, const u8 *bytes, size_t n)
{
    struct text *t = (struct text *)s;
    pthread_mutex_lock(&t->lock);
    if (t->said_n + n > t->said_room) {
        size_t room = 2 * (t->said_n + n);
        u8 *more = realloc(t->said, room);
        if (more) {
            t->said = more;
            t->said_room = room;
        } else n = 0; /* the user will ask again */
    }
    if (n) memcpy(t->said + t->said_n, bytes, n);
    t->said_n += n;
    pthread_mutex_unlock(&t->lock);
    wake(t);
}

/* Writes what has been said. */
static void talk(struct text *t)
{
    pthread_mutex_lock(&t->lock);
    u8 *bytes = t->said;
    size_t n = t->said_n;
    t->said = NULL;
    t->said_n = t->said_room = 0;
    pthread_mutex_unlock(&t->lock);
    put(t, (const char *)bytes, n);
    free(bytes);
}

/* ---- keys ---- */

static void on_own_quit(void *arg)
{
    struct text *t = arg;
    t->host.quit(t->host.arg);
}

static void on_own_tell(void *arg, const char *line)
{
    struct text *t = arg;
    if (t->own.talking) {
        text_say(&t->screen, (const u8 *)"\r\n", 2);
        text_say(&t->screen, (const u8 *)line, strlen(line));
        text_say(&t->screen, (const u8 *)"\r\n", 2);
        return;
    }
    snprintf(t->notice, sizeof t->notice, "%s", line);
    t->fresh = true;
}

/* Forgets what has been said. */
static void unsay(struct text *t)
{
    pthread_mutex_lock(&t->lock);
    t->said_n = 0;
    pthread_mutex_unlock(&t->lock);
}

static void on_own_talk(void *arg, enum vm_talk what, const u8 *bytes, size_t n)
{
    struct text *t = arg;
    if (what == VM_TALK_BEGINS) terminal_show(false);
    t->host.talk(t->host.arg, what, bytes, n);
    if (what != VM_TALK_ENDS) return;
    unsay(t);
    terminal_show(true);
    t->fresh = true;
}

static void on_key(void *arg, unsigned key, bool down)
{
    struct text *t = arg;
    t->host.key(t->host.arg, key, down);
}

static void keys_read(struct text *t)
{
    u8 buf[256];
    ssize_t n = read(t->in, buf, sizeof buf);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
        t->gone = true;
        return;
    }
    if (*t->notice) t->fresh = true;
    *t->notice = 0;
    term_keys_feed(&t->keys, buf, user_keys_filter(&t->own, buf, (size_t)n));
}

/* ---- the thread ---- */

static u64 now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000 + (u64)t.tv_nsec / 1000000;
}

/* Until the terminal is ours, or the end. */
static void stand_by(struct text *t)
{
    pthread_mutex_lock(&t->lock);
    while (!t->on_terminal && !t->ending) pthread_cond_wait(&t->changed, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

static void *text_thread(void *arg)
{
    struct text *t = arg;
    u64 tick = 0, typed = 0, count;
    stand_by(t);
    while (!is_ending(t)) {
        u64 now = now_ms();
        struct pollfd fds[2] = { { .fd = t->wake_fd, .events = POLLIN }, { .fd = t->in, .events = POLLIN } };
        /* A terminal that is gone wants no picture; the machine goes on without. */
        int rc = poll(fds, t->gone || t->background ? 1 : 2, t->gone ? -1 : tick > now ? (int)(tick - now) : 0);
        if (rc < 0) continue;
        if (fds[0].revents) (void)!read(t->wake_fd, &count, sizeof count);
        if (t->gone) continue;
        if (fds[1].revents) {
            keys_read(t);
            typed = now_ms();
        } else if (t->keys.n && now_ms() - typed >= ESC_MS) {
            term_keys_pause(&t->keys);
        }
        if (now_ms() >= tick) {
            terminal_look(t);
            if (!t->own.talking) t->host.draw(t->host.arg);
            tick = now_ms() + TICK_MS;
        }
        if (t->background) continue;
        if (t->own.talking) talk(t);
        else if (look(t)) paint(t);
    }
    return NULL;
}

/* ---- life ---- */

static void text_close(struct screen *s)
{
    struct text *t = (struct text *)s;
    if (t->runs) {
        pthread_mutex_lock(&t->lock);
        t->ending = true;
        pthread_cond_signal(&t->changed);
        pthread_mutex_unlock(&t->lock);
        wake(t);
        pthread_join(t->thread, NULL);
        if (t->own.talking) talk(t); /* what came of the last command */
        if (t->on_terminal) terminal_restore();
        user_keys_end(&t->own);
    }
    if (t->in >= 0) close(t->in);
    if (t->out >= 0) close(t->out);
    if (t->wake_fd >= 0) close(t->wake_fd);
    frame_free(t->screen.frame);
    free(t->now.cells);
    free(t->shown.cells);
    free(t->said);
    pthread_mutex_destroy(&t->lock);
    pthread_cond_destroy(&t->changed);
    free(t);
}

static int text_start(struct text *t, struct vm_error *err)
{
    int rc = thread_start(&t->thread, THREAD_TEXT, text_thread, t);
    t->runs = !rc;
    return rc ? vm_fail(err, rc, "display text: its thread could not be made") : 0;
}

int screen_text_show(struct screen *s, struct vm_error *err)
{
    struct text *t = (struct text *)s;
    int rc = terminal_raw("display text", enter, leave, err);
    if (rc) return rc;
    t->resumed = terminal_resumed();
    pthread_mutex_lock(&t->lock);
    t->on_terminal = true;
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->lock);
    return 0;
}

int screen_text_open(struct screen **out, const struct screen_host *host, struct vm_error *err)
{
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
        return vm_fail(err, -ENOTTY, "display text: standard input and output are no terminal");
    struct text *t = calloc(1, sizeof *t);
    if (!t) return vm_fail(err, -ENOMEM, "display text: out of memory");
    t->screen.close = text_close;
    t->screen.say = text_say;
    t->host = *host;
    t->own = (struct user_keys){
        .quit = on_own_quit, .tell = on_own_tell, .talk = host->talk ? on_own_talk : NULL, .arg = t
    };
    t->keys = (struct term_keys){ .key = on_key, .arg = t };
    t->fresh = true;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->changed, NULL);
    t->in = terminal_open(STDIN_FILENO);
    t->out = terminal_open(STDOUT_FILENO);
    t->wake_fd = hostfd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    int rc = t->in < 0 || t->out < 0 || t->wake_fd < 0 ? -errno : 0;
    if (rc) vm_fail(err, rc, "display text: %s", strerror(-rc));
    else if ((rc = frame_new(&t->screen.frame, wake, t))) vm_fail(err, rc, "display text: out of memory");
    else {
        frame_viewer_add(t->screen.frame, &t->viewer);
        rc = text_start(t, err);
    }
    if (rc) text_close(&t->screen);
    else *out = &t->screen;
    return rc;
}
