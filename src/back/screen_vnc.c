/* Owns the screen that VNC's clients see (RFB, RFC 6143), by libvncserver.
 *
 * One thread serves all clients. libvncserver reads and sends a copy of the picture that is the thread's own, so that
 * nobody who draws waits for a client. A client that sends half a message, or takes nothing, holds up the others for
 * CLIENT_WAIT_MS or some seconds, and is cut off then.
 *   I1  Once the thread runs, libvncserver is called by it alone.                                    [vnc_thread]
 *   I2  ending and fd are touched only under lock.
 *   I3  pixels has room for any picture, and is never moved: whatever libvncserver thinks of its size is within it.
 * Enter at vnc_thread(). */
#define _GNU_SOURCE /* accept4 */
#include "core/hostfd.h"
#include "src/back/frame.h"
#include "src/back/keys.h"
#include "src/back/screen.h"
#include "src/error.h"
#include "src/parse.h"

#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <rfb/rfb.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS_MAX 16u
#define CLIENT_WAIT_MS 1000
#define TICK_MS 33
#define PORT_BASE 5900u
#define PASSWORD_MAX 8u /* what RFB's authentication looks at */
#define TILE 64u        /* pixels: what is compared, and sent, at once */
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
    __typeof__(rfbLogEnable) *log_enable;
    __typeof__(rfbSetCursor) *set_cursor;
};

struct vnc {
    struct screen screen; /* first: the two are cast into each other */
    struct screen_host host;
    struct library lib;
    rfbScreenInfoPtr rfb;
    u32 *pixels; /* DISPLAY_MAX x DISPLAY_MAX; rfb->width in a row */
    char password[PASSWORD_MAX + 1], *passwords[2];
    int listen_fd, wake_fd;
    pthread_t thread;
    bool runs;
    pthread_mutex_t lock;
    bool ending;
    int fd[CLIENTS_MAX]; /* -1: none */
    unsigned buttons, wheel;
    int x, y; /* of the pointer */
    bool pointed;
};

/* What a client holds down. */
struct client {
    u64 down[KEY_CODES / 64];
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

static bool is_down(const struct client *c, unsigned key) { return c->down[key / 64] >> key % 64 & 1; }

static void press(struct vnc *v, struct client *c, unsigned key, bool down)
{
    u64 bit = 1ull << key % 64;
    c->down[key / 64] = down ? c->down[key / 64] | bit : c->down[key / 64] & ~bit;
    v->host.key(v->host.arg, key, down);
}

/* The user's layout may have a character with Shift that ours has without, or the other way: Shift is as ours wants it
 * while the key goes down. */
static void press_as_character(struct vnc *v, struct client *c, struct key_stroke s)
{
    static const unsigned shifts[] = { KEY_SHIFT, KEY_SHIFT_R };
    bool caps = s.letter && v->screen.leds & 4, want = (s.shift == KEY_SHIFTED) != caps;
    bool held[] = { is_down(c, KEY_SHIFT), is_down(c, KEY_SHIFT_R) }, have = held[0] || held[1];
    if (s.shift == KEY_ANY || want == have) {
        press(v, c, s.key, true);
        return;
    }
    if (want) press(v, c, KEY_SHIFT, true);
    for (unsigned i = 0; !want && i < ARRAY_LEN(shifts); i++)
        if (held[i]) press(v, c, shifts[i], false);
    press(v, c, s.key, true);
    if (want) press(v, c, KEY_SHIFT, false);
    for (unsigned i = 0; !want && i < ARRAY_LEN(shifts); i++)
        if (held[i]) press(v, c, shifts[i], true);
}

static struct vnc *vnc_of(rfbClientPtr cl) { return cl->screen->screenData; }

static void on_key(rfbBool down, rfbKeySym keysym, rfbClientPtr cl)
{
    struct key_stroke s = key_of_keysym(keysym);
    struct client *c = cl->clientData;
    if (!s.key || !c) return;
    if (!down && is_down(c, s.key)) press(vnc_of(cl), c, s.key, false);
    if (down) press_as_character(vnc_of(cl), c, s);
}

/* A PS/2 mouse tells how far it has moved. RFB's buttons: 1 left, 2 middle, 4 right, 8 wheel up, 16 wheel down. */
static void on_pointer(int buttons, int x, int y, rfbClientPtr cl)
{
    struct vnc *v = vnc_of(cl);
    unsigned pressed = (buttons & 1) | (buttons & 4) >> 1 | (buttons & 2) << 1;
    unsigned turned = buttons & 24 & ~(int)v->wheel;
    int dx = v->pointed ? x - v->x : 0, dy = v->pointed ? v->y - y : 0, dz = turned & 8 ? 1 : turned & 16 ? -1 : 0;
    v->x = x;
    v->y = y;
    v->pointed = true;
    v->wheel = buttons & 24;
    if (!dx && !dy && !dz && pressed == v->buttons) return;
    v->buttons = pressed;
    v->host.pointer(v->host.arg, dx, dy, dz, pressed);
}

static int led_state(rfbScreenInfoPtr rfb) { return (int)((struct vnc *)rfb->screenData)->screen.leds; }

/* ---- clients ---- */

static void on_gone(rfbClientPtr cl)
{
    struct vnc *v = vnc_of(cl);
    struct client *c = cl->clientData;
    for (unsigned key = 1; c && key < KEY_CODES; key++)
        if (is_down(c, key)) press(v, c, key, false);
    free(c);
    cl->clientData = NULL;
}

static enum rfbNewClientAction on_client(rfbClientPtr cl)
{
    cl->clientData = calloc(1, sizeof(struct client));
    cl->clientGoneHook = on_gone;
    return cl->clientData ? RFB_CLIENT_ACCEPT : RFB_CLIENT_REFUSE;
}

/* Its place is free again once libvncserver has closed it: the list has those that are there. */
static void clients_note(struct vnc *v)
{
    unsigned n = 0;
    pthread_mutex_lock(&v->lock);
    for (rfbClientPtr cl = v->rfb->clientHead; cl && n < CLIENTS_MAX; cl = cl->next)
        if (cl->sock >= 0) v->fd[n++] = cl->sock;
    while (n < CLIENTS_MAX) v->fd[n++] = -1;
    pthread_mutex_unlock(&v->lock);
}

static unsigned clients_count(const struct vnc *v)
{
    unsigned n = 0;
    for (rfbClientPtr cl = v->rfb->clientHead; cl; cl = cl->next) n++;
    return n;
}

static void client_take(struct vnc *v)
{
    int fd = hostfd(accept4(v->listen_fd, NULL, NULL, SOCK_CLOEXEC));
    if (fd < 0) return;
    if (fd >= FD_SETSIZE || clients_count(v) >= CLIENTS_MAX) close(fd);
    else (void)v->lib.new_client(v->rfb, fd); /* closes fd if it fails */
    clients_note(v);
}

/* ---- the picture ---- */

/* 0x00RRGGBB into bytes R, G, B. */
static u32 pixel(u32 p) { return __builtin_bswap32(p) >> 8; }

/* A tile of at most TILE pixels in a row, and rows of them: copied, and told of if it differs. */
static bool tile_copy(const u32 *from, u32 *to, u32 pitch, u32 width, u32 height)
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
        from += pitch;
        to += pitch;
    }
    return differs;
}

static u32 least(u32 a, u32 b) { return a < b ? a : b; }

/* Clients that have asked for a smaller picture than there is would be sent pieces of one that is gone. */
static void drop_scaled(struct vnc *v)
{
    for (rfbClientPtr cl = v->rfb->clientHead; cl; cl = cl->next)
        if (cl->scaledScreen != v->rfb && cl->sock >= 0) v->lib.close_client(cl);
}

static void picture_take(struct vnc *v)
{
    struct display_rect r;
    const struct display_frame *f = frame_lock(v->screen.frame, &r);
    u32 width = f->shape.width, height = f->shape.height;
    bool fits = width && width <= DISPLAY_MAX && height <= DISPLAY_MAX;
    bool resized = fits && (width != (u32)v->rfb->width || height != (u32)v->rfb->height);
    if (resized) {
        r = (struct display_rect){ 0, 0, width, height };
        memset(v->pixels, 0, (size_t)width * height * sizeof *v->pixels);
    }
    u32 right = r.x + r.width, bottom = r.y + r.height;
    u64 changed[DISPLAY_MAX / TILE]; /* a row of tiles each, a bit for each */
    _Static_assert(DISPLAY_MAX / TILE <= 64, "a bit for each");
    memset(changed, 0, sizeof changed);
    for (u32 y = r.y / TILE * TILE; fits && y < bottom; y += TILE) {
        for (u32 x = r.x / TILE * TILE; x < right; x += TILE) {
            size_t at = (size_t)y * width + x;
            bool differs =
                tile_copy(f->pixels + at, v->pixels + at, width, least(TILE, width - x), least(TILE, height - y));
            changed[y / TILE] |= (u64)differs << x / TILE;
        }
    }
    frame_unlock(v->screen.frame);
    if (resized) {
        drop_scaled(v);
        v->lib.resize(v->rfb, (char *)v->pixels, (int)width, (int)height, 8, 3, 4);
        return;
    }
    for (u32 row = 0; row < ARRAY_LEN(changed); row++)
        for (u32 column = 0; changed[row] >> column; column++) {
            u32 x = column * TILE, y = row * TILE, n = 0;
            while (column + n < 64 && changed[row] >> (column + n) & 1) n++; /* neighbours are one rectangle */
            if (n) v->lib.mark(v->rfb, (int)x, (int)y, (int)least(x + n * TILE, width), (int)least(y + TILE, height));
            column += n;
            if (column >= 64) break;
        }
}

/* ---- the thread ---- */

static u64 now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000 + (u64)t.tv_nsec / 1000000;
}

static void wake(struct vnc *v)
{
    const u64 one = 1;
    (void)!write(v->wake_fd, &one, sizeof one); /* it can only be full, and then it is awake */
}

/* Something has been drawn; on the vCPU thread. */
static void on_drawn(void *arg) { wake(arg); }

static bool is_ending(struct vnc *v)
{
    pthread_mutex_lock(&v->lock);
    bool ending = v->ending;
    pthread_mutex_unlock(&v->lock);
    return ending;
}

/* Waits for a client, for one that says something, for a picture, or for the time to ask for one. */
static void vnc_wait(struct vnc *v, u64 tick)
{
    struct pollfd fds[2 + CLIENTS_MAX] = { { .fd = v->wake_fd, .events = POLLIN },
                                           { .fd = v->listen_fd, .events = POLLIN } };
    unsigned n = 2;
    u64 now = now_ms(), count;
    for (unsigned i = 0; i < CLIENTS_MAX; i++)
        if (v->fd[i] >= 0) fds[n++] = (struct pollfd){ .fd = v->fd[i], .events = POLLIN };
    int rc = poll(fds, n, !v->rfb->clientHead ? -1 : tick > now ? (int)(tick - now) : 0);
    if (rc <= 0) return;
    if (fds[0].revents) (void)!read(v->wake_fd, &count, sizeof count);
    if (fds[1].revents) client_take(v);
}

static void *vnc_thread(void *arg)
{
    struct vnc *v = arg;
    u64 tick = 0;
    while (!is_ending(v)) {
        vnc_wait(v, tick);
        if (!v->rfb->clientHead) continue;
        if (now_ms() >= tick) {
            v->host.draw(v->host.arg);
            tick = now_ms() + TICK_MS;
        }
        picture_take(v);
        v->lib.process(v->rfb, 0);
        clients_note(v);
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

static int rfb_start(struct vnc *v, struct vm_error *err)
{
    int rc = library_open(&v->lib, err);
    if (rc) return rc;
    v->lib.log_enable(0);
    v->pixels = calloc((size_t)DISPLAY_MAX * DISPLAY_MAX, sizeof *v->pixels);
    v->rfb = v->pixels ? v->lib.get_screen(NULL, NULL, FIRST_WIDTH, FIRST_HEIGHT, 8, 3, 4) : NULL;
    if (!v->rfb) return vm_fail(err, -ENOMEM, "display vnc: out of memory");
    rfbScreenInfoPtr s = v->rfb;
    s->desktopName = "transvisor";
    s->frameBuffer = (char *)v->pixels;
    s->screenData = v;
    s->autoPort = FALSE; /* connections are ours to take */
    s->port = s->ipv6port = 0;
    s->ignoreSIGPIPE = FALSE; /* signals are the program's business */
    s->alwaysShared = TRUE;
    s->deferUpdateTime = 0;
    s->maxClientWait = CLIENT_WAIT_MS;
    s->kbdAddEvent = on_key;
    s->ptrAddEvent = on_pointer;
    s->newClientHook = on_client;
    s->getKeyboardLedStateHook = led_state;
    v->lib.set_cursor(s, NULL);
    if (*v->password) {
        s->authPasswdData = v->passwords;
        s->passwordCheck = v->lib.check_password;
    }
    v->lib.init(s);
    return 0;
}

/* A client that takes nothing would hold up the thread: it is hung up on. */
static void vnc_end(struct vnc *v)
{
    pthread_mutex_lock(&v->lock);
    v->ending = true;
    for (unsigned i = 0; i < CLIENTS_MAX; i++)
        if (v->fd[i] >= 0) shutdown(v->fd[i], SHUT_RDWR);
    pthread_mutex_unlock(&v->lock);
    wake(v);
    pthread_join(v->thread, NULL);
}

static void vnc_close(struct screen *s)
{
    struct vnc *v = (struct vnc *)s;
    if (v->runs) vnc_end(v);
    if (v->rfb) {
        v->lib.shutdown(v->rfb, TRUE);
        v->rfb->frameBuffer = NULL; /* ours */
        v->lib.cleanup(v->rfb);
    }
    if (v->listen_fd >= 0) close(v->listen_fd);
    if (v->wake_fd >= 0) close(v->wake_fd);
    frame_free(v->screen.frame);
    pthread_mutex_destroy(&v->lock);
    free(v->pixels);
    free(v);
}

int screen_vnc_open(struct screen **out, const char *address, const char *password, const struct screen_host *host,
                    struct vm_error *err)
{
    struct vnc *v = calloc(1, sizeof *v);
    if (!v) return vm_fail(err, -ENOMEM, "display vnc: out of memory");
    v->screen.close = vnc_close;
    v->host = *host;
    v->listen_fd = -1;
    for (unsigned i = 0; i < CLIENTS_MAX; i++) v->fd[i] = -1;
    pthread_mutex_init(&v->lock, NULL);
    v->wake_fd = hostfd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    int rc = v->wake_fd < 0 ? vm_fail(err, -errno, "display vnc: %s", strerror(errno)) : 0;
    if (!rc && (rc = frame_new(&v->screen.frame, on_drawn, v))) vm_fail(err, rc, "display vnc: out of memory");
    if (!rc && password) rc = password_read(v, password, err);
    if (!rc) rc = listen_at(v, address, err);
    if (!rc) rc = rfb_start(v, err);
    if (!rc) {
        /* Signals are the business of the thread that set them up. */
        sigset_t all, old;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        rc = -pthread_create(&v->thread, NULL, vnc_thread, v);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        v->runs = !rc;
        if (rc) vm_fail(err, rc, "display vnc: its thread could not be made");
    }
    if (rc) vnc_close(&v->screen);
    else *out = &v->screen;
    return rc;
}
