/* Owns the screen that VNC's clients see (RFB, RFC 6143), by libvncserver.
 *
 * Each client has a seat: a thread, a server of libvncserver's for it alone, and a copy of the picture that this reads
 * and sends. So nobody who draws waits for a client, and a client that sends half a message, or takes nothing, holds up
 * nobody but itself. One more thread takes connections, and asks for the picture while there are clients.
 *   I1  A seat's server is called by its thread alone while that runs, and by nobody while it is free.  [seat_thread]
 *   I2  ending, and each seat's fd and done, are touched only under lock.
 *   I3  pixels has room for any picture, and is never moved: whatever libvncserver thinks of its size is within it.
 *   I4  Servers are made at the start, on one thread: libvncserver has a lock that making one makes anew.  [rfb_make]
 * Enter at hub_thread() and seat_thread(). */
#define _GNU_SOURCE /* accept4 */
#include "core/hostfd.h"
#include "core/thread.h"
#include "src/back/frame.h"
#include "src/back/keys.h"
#include "src/back/screen.h"
#include "src/error.h"
#include "src/parse.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <rfb/rfb.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SEATS 16u
#define CLIENT_WAIT_MS 10000 /* in the middle of a message, and until it has been let in */
#define SHORTAGE_MS 250
#define TICK_MS 33
#define PORT_BASE 5900u
#define PASSWORD_MAX 8u /* what RFB's authentication looks at */
#define TILE 64u        /* pixels: the width of what is compared, and sent, at once; */
#define TILE_ROWS 16u   /* its height */
#define FIRST_WIDTH 720
#define FIRST_HEIGHT 400

struct library {
    __typeof__(rfbGetScreen) *get_screen;
    __typeof__(rfbInitServer) *init;
    __typeof__(rfbShutdownServer) *shutdown;
    __typeof__(rfbScreenCleanup) *cleanup;
    __typeof__(rfbNewClient) *new_client;
    __typeof__(rfbCloseClient) *close_client;
    __typeof__(rfbProcessEvents) *process;
    __typeof__(rfbMarkRectAsModified) *mark;
    __typeof__(rfbNewFramebuffer) *resize;
    __typeof__(rfbCheckPasswordByList) *check_password;
    __typeof__(rfbEncryptBytes) *encrypt;
    __typeof__(rfbLogEnable) *log_enable;
    __typeof__(rfbSetCursor) *set_cursor;
};

struct vnc;
struct seat {
    struct vnc *vnc;
    rfbScreenInfoPtr rfb;
    u32 *pixels;       /* DISPLAY_MAX x DISPLAY_MAX, rfb->width in a row; while it is taken */
    u32 width, height; /* of the picture, when it was last looked at */
    struct frame_viewer viewer;
    int wake_fd;
    pthread_t thread;
    int fd;    /* the client's, which libvncserver has a duplicate of; -1: the seat is free */
    bool done; /* the thread has nothing more to do, and is to be joined */
    /* The client's keyboard and pointer: */
    u64 down[KEY_CODES / 64];
    unsigned buttons, wheel;
    int x, y;
    bool pointed;
};

struct vnc {
    struct screen screen; /* first: the two are cast into each other */
    struct screen_host host;
    struct library lib;
    char password[PASSWORD_MAX + 1], *passwords[2];
    int listen_fd, wake_fd;
    pthread_t thread;
    bool runs;
    pthread_mutex_t lock;
    bool ending;
    _Atomic bool lets_in;
    struct seat seat[SEATS];
};

/* ---- the library ---- */

/* Loaded when a machine wants it, and never unloaded: it brings libraries that do not like to go. */
static int library_open(struct library *l, struct vm_error *err)
{
#define NAME_(call) #call
#define NAME(call) NAME_(call)
    const struct {
        const char *name;
        void *at;
    } calls[] = {
        { "rfbGetScreen", &l->get_screen },
        { NAME(rfbInitServer), &l->init }, /* a macro: a name for each way the library may have been built */
        { "rfbShutdownServer", &l->shutdown },
        { "rfbScreenCleanup", &l->cleanup },
        { "rfbNewClient", &l->new_client },
        { "rfbCloseClient", &l->close_client },
        { "rfbProcessEvents", &l->process },
        { "rfbMarkRectAsModified", &l->mark },
        { "rfbNewFramebuffer", &l->resize },
        { "rfbCheckPasswordByList", &l->check_password },
        { "rfbEncryptBytes", &l->encrypt },
        { "rfbLogEnable", &l->log_enable },
        { "rfbSetCursor", &l->set_cursor },
    };
#undef NAME
#undef NAME_
    void *handle = dlopen("libvncserver.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!handle)
        return vm_fail(err, -ENOENT,
                       "display vnc: libvncserver.so.1 cannot be loaded (Debian: apt-get install libvncserver1)");
    int rc = 0;
    for (size_t i = 0; i < ARRAY_LEN(calls) && !rc; i++) {
        void *found = dlsym(handle, calls[i].name);
        if (!found) rc = vm_fail(err, -ENOSYS, "display vnc: libvncserver.so.1 has no %s()", calls[i].name);
        else memcpy(calls[i].at, &found, sizeof found);
    }
    dlclose(handle);
    return rc;
}

/* ---- keys and pointer ---- */

static bool is_down(const struct seat *c, unsigned key) { return c->down[key / 64] >> key % 64 & 1; }

static void press(struct seat *c, unsigned key, bool down)
{
    u64 bit = 1ull << key % 64;
    c->down[key / 64] = down ? c->down[key / 64] | bit : c->down[key / 64] & ~bit;
    c->vnc->host.key(c->vnc->host.arg, key, down);
}

/* The user's layout may have a character with Shift that ours has without, or the other way: Shift is as ours wants it
 * while the key goes down. */
static void press_as_character(struct seat *c, struct key_stroke s)
{
    static const unsigned shifts[] = { KEY_SHIFT, KEY_SHIFT_R };
    bool caps = s.letter && c->vnc->screen.leds & 4, want = (s.shift == KEY_SHIFTED) != caps;
    bool held[] = { is_down(c, KEY_SHIFT), is_down(c, KEY_SHIFT_R) }, have = held[0] || held[1];
    if (s.shift == KEY_ANY || want == have) {
        press(c, s.key, true);
        return;
    }
    if (want) press(c, KEY_SHIFT, true);
    for (unsigned i = 0; !want && i < ARRAY_LEN(shifts); i++)
        if (held[i]) press(c, shifts[i], false);
    press(c, s.key, true);
    if (want) press(c, KEY_SHIFT, false);
    for (unsigned i = 0; !want && i < ARRAY_LEN(shifts); i++)
        if (held[i]) press(c, shifts[i], true);
}

static struct seat *seat_of(rfbClientPtr cl) { return cl->screen->screenData; }

static void on_key(rfbBool down, rfbKeySym keysym, rfbClientPtr cl)
{
    struct key_stroke s = key_of_keysym(keysym);
    struct seat *c = seat_of(cl);
    if (!s.key) return;
    if (!down && is_down(c, s.key)) press(c, s.key, false);
    if (down) press_as_character(c, s);
}

/* RFB's places are pixels of the picture that the client has. */
static unsigned place_of(int at, u32 pixels)
{
    u32 last = pixels > 1 ? pixels - 1 : 1, n = at < 0 ? 0 : (u32)at > last ? last : (u32)at;
    return n * 32767u / last;
}

static void pointer_tell(const struct seat *c, int dx, int dy, int dz)
{
    const struct screen_pointer p = { dx, dy, dz, place_of(c->x, c->width), place_of(c->y, c->height), c->buttons };
    c->vnc->host.pointer(c->vnc->host.arg, &p);
}

/* A PS/2 mouse tells how far it has moved. RFB's buttons: 1 left, 2 middle, 4 right, 8 wheel up, 16 wheel down. */
static void on_pointer(int buttons, int x, int y, rfbClientPtr cl)
{
    struct seat *c = seat_of(cl);
    unsigned pressed = (buttons & 1) | (buttons & 4) >> 1 | (buttons & 2) << 1;
    unsigned turned = buttons & 24 & ~(int)c->wheel;
    int dx = c->pointed ? x - c->x : 0, dy = c->pointed ? c->y - y : 0, dz = turned & 8 ? 1 : turned & 16 ? -1 : 0;
    c->x = x;
    c->y = y;
    c->pointed = true;
    c->wheel = buttons & 24;
    if (!dx && !dy && !dz && pressed == c->buttons) return;
    c->buttons = pressed;
    pointer_tell(c, dx, dy, dz);
}

static int led_state(rfbScreenInfoPtr rfb) { return (int)((struct seat *)rfb->screenData)->vnc->screen.leds; }

/* What a client that has gone held down. */
static void let_go(struct seat *c)
{
    for (unsigned key = 1; key < KEY_CODES; key++)
        if (is_down(c, key)) press(c, key, false);
    bool held = c->buttons;
    c->buttons = c->wheel = 0;
    if (held) pointer_tell(c, 0, 0, 0);
    c->pointed = false;
}

/* ---- the picture ---- */

/* 0x00RRGGBB into bytes R, G, B. */
static u32 pixel(u32 p) { return __builtin_bswap32(p) >> 8; }

/* A tile of at most TILE pixels in a row, and rows of them: copied, and told of if it differs. */
static bool tile_copy(const u32 *from, u32 from_pitch, u32 *to, u32 to_pitch, u32 width, u32 height)
{
    bool differs = false;
    for (u32 y = 0; y < height; y++) {
        u32 any = 0;
        for (u32 x = 0; x < width; x++) {
            u32 p = pixel(from[x]);
            any |= p ^ to[x];
            to[x] = p;
        }
        differs |= any;
        from += from_pitch;
        to += to_pitch;
    }
    return differs;
}

static u32 least(u32 a, u32 b) { return a < b ? a : b; }

/* Clients that have asked for a smaller picture than there is would be sent pieces of one that is gone. */
static void drop_scaled(struct seat *c)
{
    for (rfbClientPtr cl = c->rfb->clientHead; cl; cl = cl->next)
        if (cl->scaledScreen != c->rfb && cl->sock >= 0) c->vnc->lib.close_client(cl);
}

/* Its size can be told to a client before it has been told any, and to one that has said that it understands. Others
 * go on with as much of the picture as fits into theirs. */
static bool is_resizable(const struct seat *c)
{
    const struct _rfbClientRec *cl = c->rfb->clientHead;
    return !cl || cl->state != RFB_NORMAL || cl->useNewFBSize || cl->useExtDesktopSize;
}

/* Neighbours are one rectangle. */
static void mark(struct seat *c, u32 row, u64 changed)
{
    u32 width = (u32)c->rfb->width, height = (u32)c->rfb->height;
    for (u32 column = 0, n; changed >> column; column += n) {
        for (n = 0; changed >> (column + n) & 1;) n++;
        u32 x = column * TILE, y = row * TILE_ROWS;
        if (n)
            c->vnc->lib.mark(c->rfb, (int)x, (int)y, (int)least(x + n * TILE, width),
                             (int)least(y + TILE_ROWS, height));
        else n = 1;
    }
}

static void picture_take(struct seat *c)
{
    u64 changed[DISPLAY_MAX / TILE_ROWS] = { 0 }; /* of each row of tiles, a bit for each */
    _Static_assert(DISPLAY_MAX / TILE < 64, "a bit for each, and one that is never set");
    struct display_rect r;
    const struct display_frame *f = frame_lock(c->vnc->screen.frame, &c->viewer, &r);
    u32 width = f->shape.width, height = f->shape.height;
    bool reshaped = width != c->width || height != c->height,
         any = width && width <= DISPLAY_MAX && height <= DISPLAY_MAX;
    bool resized = any && is_resizable(c) && (width != (u32)c->rfb->width || height != (u32)c->rfb->height);
    u32 pitch = resized ? width : (u32)c->rfb->width, rows = resized ? height : (u32)c->rfb->height;
    if (any && (reshaped || resized)) {
        r = (struct display_rect){ 0, 0, width, height };
        memset(c->pixels, 0, (size_t)pitch * rows * sizeof *c->pixels);
        c->width = width;
        c->height = height;
    }
    u32 right = least(r.x + r.width, pitch), bottom = least(r.y + r.height, rows);
    for (u32 y = r.y / TILE_ROWS * TILE_ROWS; any && y < bottom; y += TILE_ROWS)
        for (u32 x = r.x / TILE * TILE; x < right; x += TILE) {
            bool differs = tile_copy(f->pixels + (size_t)y * width + x, width, c->pixels + (size_t)y * pitch + x, pitch,
                                     least(TILE, least(width, pitch) - x), least(TILE_ROWS, least(height, rows) - y));
            changed[y / TILE_ROWS] |= (u64)differs << x / TILE;
        }
    frame_unlock(c->vnc->screen.frame);
    if (resized) {
        drop_scaled(c);
        c->vnc->lib.resize(c->rfb, (char *)c->pixels, (int)width, (int)height, 8, 3, 4);
    } else if (any && reshaped) {
        c->vnc->lib.mark(c->rfb, 0, 0, (int)pitch, (int)rows);
    }
    for (u32 row = 0; row < ARRAY_LEN(changed) && !resized; row++) mark(c, row, changed[row]);
}

/* ---- a client's thread ---- */

static void wake(int fd)
{
    const u64 one = 1;
    (void)!write(fd, &one, sizeof one); /* it can only be full, and then it is awake */
}

static bool is_ending(struct vnc *v)
{
    pthread_mutex_lock(&v->lock);
    bool ending = v->ending;
    pthread_mutex_unlock(&v->lock);
    return ending;
}

static u64 now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000 + (u64)t.tv_nsec / 1000000;
}

/* Waits for the client, or for something to do. A connection that does not say within a while that it is a client with
 * the right to be one is closed: there are not many seats. */
static void seat_wait(struct seat *c, u64 begin)
{
    struct pollfd fds[2] = { { .fd = c->wake_fd, .events = POLLIN }, { .fd = c->fd, .events = POLLIN } };
    u64 count, passed = now_ms() - begin;
    bool greeted = c->rfb->clientHead->state == RFB_NORMAL;
    if (!greeted && passed >= CLIENT_WAIT_MS) c->vnc->lib.close_client(c->rfb->clientHead);
    else if (poll(fds, 2, greeted ? -1 : CLIENT_WAIT_MS - (int)passed) > 0 && fds[0].revents)
        (void)!read(c->wake_fd, &count, sizeof count);
}

static void *seat_thread(void *arg)
{
    struct seat *c = arg;
    struct vnc *v = c->vnc;
    int theirs = hostfd(fcntl(c->fd, F_DUPFD_CLOEXEC, 3));
    u64 begin = now_ms();
    frame_viewer_add(v->screen.frame, &c->viewer);
    if (theirs >= FD_SETSIZE) close(theirs);
    else if (theirs >= 0) (void)v->lib.new_client(c->rfb, theirs); /* which closes it, at once or in the end */
    while (c->rfb->clientHead && !is_ending(v)) {
        picture_take(c);
        v->lib.process(c->rfb, 0);
        if (c->rfb->clientHead) seat_wait(c, begin);
    }
    frame_viewer_remove(v->screen.frame, &c->viewer);
    let_go(c);
    pthread_mutex_lock(&v->lock);
    c->done = true;
    pthread_mutex_unlock(&v->lock);
    wake(v->wake_fd);
    return NULL;
}

/* ---- the thread that takes connections ---- */

/* Something has been drawn; on the vCPU thread. */
static void on_drawn(void *arg)
{
    struct vnc *v = arg;
    pthread_mutex_lock(&v->lock);
    for (unsigned i = 0; i < SEATS; i++)
        if (v->seat[i].fd >= 0) wake(v->seat[i].wake_fd);
    pthread_mutex_unlock(&v->lock);
}

/* Makes seats free whose threads are done. Returns how many are taken. */
static unsigned seats_clear(struct vnc *v)
{
    unsigned taken = 0;
    for (unsigned i = 0; i < SEATS; i++) {
        struct seat *c = &v->seat[i];
        pthread_mutex_lock(&v->lock);
        bool done = c->done, there = c->fd >= 0;
        if (done) {
            close(c->fd);
            c->fd = -1;
            c->done = false;
        }
        pthread_mutex_unlock(&v->lock);
        taken += there && !done;
        if (!done) continue;
        pthread_join(c->thread, NULL);
        free(c->pixels);
        c->pixels = NULL;
        c->rfb->frameBuffer = NULL;
    }
    return taken;
}

/* Who finds no seat is sent away. While there is no descriptor for him the port stays readable: then a while passes. */
static void client_take(struct vnc *v)
{
    int fd = hostfd(accept4(v->listen_fd, NULL, NULL, SOCK_CLOEXEC));
    struct seat *c = v->seat;
    while (c < v->seat + SEATS && c->fd >= 0) c++;
    if (fd < 0) {
        struct pollfd wake = { .fd = v->wake_fd, .events = POLLIN };
        if (errno != EAGAIN && errno != ECONNABORTED) (void)poll(&wake, 1, SHORTAGE_MS);
        return;
    }
    if (c < v->seat + SEATS && (c->pixels = calloc((size_t)DISPLAY_MAX * DISPLAY_MAX, sizeof *c->pixels))) {
        c->rfb->frameBuffer = (char *)c->pixels;
        pthread_mutex_lock(&v->lock);
        c->fd = fd;
        pthread_mutex_unlock(&v->lock);
        c->width = c->height = 0;
        if (!thread_start(&c->thread, THREAD_VNC, seat_thread, c)) return;
        pthread_mutex_lock(&v->lock);
        c->fd = -1;
        pthread_mutex_unlock(&v->lock);
        free(c->pixels);
        c->pixels = NULL;
    }
    close(fd);
}

static void *hub_thread(void *arg)
{
    struct vnc *v = arg;
    u64 tick = 0, count;
    while (!is_ending(v)) {
        struct pollfd fds[2] = { { .fd = v->wake_fd, .events = POLLIN },
                                 { .fd = v->lets_in ? v->listen_fd : -1, .events = POLLIN } };
        u64 now = now_ms();
        int rc = poll(fds, 2, !seats_clear(v) ? -1 : tick > now ? (int)(tick - now) : 0);
        if (rc > 0 && fds[0].revents) (void)!read(v->wake_fd, &count, sizeof count);
        if (rc > 0 && fds[1].revents) client_take(v);
        if (now_ms() < tick) continue;
        v->host.draw(v->host.arg);
        tick = now_ms() + TICK_MS;
    }
    return NULL;
}

/* ---- life ---- */

static int password_read(struct vnc *v, const char *path, struct vm_error *err)
{
    char line[64] = "";
    FILE *file = fopen(path, "re");
    if (!file)
        return vm_fail(err, errno == EINVAL ? -EIO : -errno, "display vnc: password %s: %s", path, strerror(errno));
    bool got = fgets(line, sizeof line, file);
    fclose(file);
    line[strcspn(line, "\r\n")] = 0;
    if (!got || !*line || strlen(line) > PASSWORD_MAX)
        return vm_fail(err, -EBADMSG, "display vnc: password %s: its first line has to be 1 to %u characters long",
                       path, PASSWORD_MAX);
    strcpy(v->password, line);
    v->passwords[0] = v->password;
    return 0;
}

/* [HOST]:N, and [HOST] may be in brackets, as IPv6 wants it. */
static int listen_at(struct vnc *v, const char *address, struct vm_error *err)
{
    char host[300], port[16];
    u64 n;
    const char *colon = strrchr(address, ':');
    if (!colon || parse_u64(colon + 1, 65535 - PORT_BASE, &n))
        return vm_fail(err, -EINVAL, "display vnc=%s: is not HOST:N, where port 5900 + N is listened at", address);
    snprintf(host, sizeof host, "%.*s", (int)(colon - address), address);
    size_t len = strlen(host);
    char *name = host;
    if (len > 2 && host[0] == '[' && host[len - 1] == ']') {
        host[len - 1] = 0;
        name++;
    }
    snprintf(port, sizeof port, "%llu", (unsigned long long)(PORT_BASE + n));
    const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(*name ? name : "127.0.0.1", port, &hints, &found);
    if (rc) return vm_fail(err, -EADDRNOTAVAIL, "display vnc=%s: %s", address, gai_strerror(rc));
    const int on = 1;
    v->listen_fd = hostfd(socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (v->listen_fd < 0 || setsockopt(v->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on)
        || bind(v->listen_fd, found->ai_addr, found->ai_addrlen) || listen(v->listen_fd, 8))
        rc = -errno;
    freeaddrinfo(found);
    return rc ? vm_fail(err, rc, "display vnc=%s: port %s: %s", address, port, strerror(-rc)) : 0;
}

static int rfb_make(struct vnc *v, struct seat *c, struct vm_error *err)
{
    c->wake_fd = hostfd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (c->wake_fd < 0) return vm_fail(err, -errno, "display vnc: %s", strerror(errno));
    rfbScreenInfoPtr s = c->rfb = v->lib.get_screen(NULL, NULL, FIRST_WIDTH, FIRST_HEIGHT, 8, 3, 4);
    if (!s) return vm_fail(err, -ENOMEM, "display vnc: out of memory");
    s->desktopName = "transvisor";
    s->screenData = c;
    s->autoPort = FALSE; /* connections are ours to take */
    s->port = s->ipv6port = 0;
    s->ignoreSIGPIPE = FALSE; /* signals are the program's business */
    s->alwaysShared = TRUE;
    s->deferUpdateTime = 0;
    s->maxClientWait = CLIENT_WAIT_MS;
    s->kbdAddEvent = on_key;
    s->ptrAddEvent = on_pointer;
    s->getKeyboardLedStateHook = led_state;
    v->lib.set_cursor(s, NULL);
    if (*v->password) {
        s->authPasswdData = v->passwords;
        s->passwordCheck = v->lib.check_password;
    }
    v->lib.init(s);
    return 0;
}

static int hub_start(struct vnc *v, struct vm_error *err)
{
    int rc = library_open(&v->lib, err);
    if (rc) return rc;
    v->lib.log_enable(0);
    /* Its cipher's library looks around in the host's files when it is first used: now, and not in jail. */
    u8 nothing[CHALLENGESIZE] = { 0 };
    if (*v->password) v->lib.encrypt(nothing, v->password);
    for (unsigned i = 0; i < SEATS && !rc; i++) rc = rfb_make(v, &v->seat[i], err);
    if (rc) return rc;
    rc = thread_start(&v->thread, THREAD_VNC, hub_thread, v);
    v->runs = !rc;
    return rc ? vm_fail(err, rc, "display vnc: its thread could not be made") : 0;
}

/* A client that takes nothing would hold up its thread: all are hung up on. */
static void hub_end(struct vnc *v)
{
    pthread_mutex_lock(&v->lock);
    v->ending = true;
    pthread_mutex_unlock(&v->lock);
    wake(v->wake_fd);
    pthread_join(v->thread, NULL);
    for (unsigned i = 0; i < SEATS; i++) {
        struct seat *c = &v->seat[i];
        pthread_mutex_lock(&v->lock);
        bool there = c->fd >= 0;
        if (there) shutdown(c->fd, SHUT_RDWR);
        pthread_mutex_unlock(&v->lock);
        wake(c->wake_fd);
        if (there) pthread_join(c->thread, NULL);
    }
}

static void vnc_let_in(struct screen *s)
{
    struct vnc *v = (struct vnc *)s;
    if (!atomic_exchange(&v->lets_in, true)) wake(v->wake_fd);
}

static void vnc_close(struct screen *s)
{
    struct vnc *v = (struct vnc *)s;
    if (v->runs) hub_end(v);
    for (unsigned i = 0; i < SEATS; i++) {
        struct seat *c = &v->seat[i];
        if (c->rfb) {
            v->lib.shutdown(c->rfb, TRUE);
            c->rfb->frameBuffer = NULL; /* ours */
            v->lib.cleanup(c->rfb);
        }
        free(c->pixels);
        if (c->fd >= 0) close(c->fd);
        if (c->wake_fd >= 0) close(c->wake_fd);
    }
    if (v->listen_fd >= 0) close(v->listen_fd);
    if (v->wake_fd >= 0) close(v->wake_fd);
    frame_free(v->screen.frame);
    pthread_mutex_destroy(&v->lock);
    free(v);
}

int screen_vnc_open(struct screen **out, const char *address, const char *password, const struct screen_host *host,
                    struct vm_error *err)
{
    struct vnc *v = calloc(1, sizeof *v);
    if (!v) return vm_fail(err, -ENOMEM, "display vnc: out of memory");
    v->screen.close = vnc_close;
    v->screen.let_in = vnc_let_in;
    v->host = *host;
    v->listen_fd = -1;
    for (unsigned i = 0; i < SEATS; i++) v->seat[i] = (struct seat){ .vnc = v, .fd = -1, .wake_fd = -1 };
    pthread_mutex_init(&v->lock, NULL);
    v->wake_fd = hostfd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    int rc = v->wake_fd < 0 ? vm_fail(err, -errno, "display vnc: %s", strerror(errno)) : 0;
    if (!rc && (rc = frame_new(&v->screen.frame, on_drawn, v))) vm_fail(err, rc, "display vnc: out of memory");
    if (!rc && password) rc = password_read(v, password, err);
    if (!rc) rc = listen_at(v, address, err);
    if (!rc) rc = hub_start(v, err);
    if (rc) vnc_close(&v->screen);
    else *out = &v->screen;
    return rc;
}
