/* Owns the terminal while it is a machine's console.
 *   I1  the terminal's settings are put back on every way out: the signals that would end us are only noted. */
#include "src/face/console.h"
#include "src/error.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#define ESCAPE 1 /* Ctrl-A */

static volatile sig_atomic_t caught;
static void note(int sig) { caught = sig; }

struct console {
    const char *monitor_path;
    int serial, monitor; /* sockets; monitor: -1 while the terminal is the serial port's */
    bool terminal;       /* we have one */
    bool input;          /* there may be more to read */
    bool escaped;        /* Ctrl-A came last */
};

static int socket_connect(const char *path, struct vm_error *err)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof a.sun_path) return vm_fail(err, -ENAMETOOLONG, "%.200s: the path is too long", path);
    strcpy(a.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && !connect(fd, (const struct sockaddr *)&a, sizeof a)) return fd;
    int rc = -errno;
    if (fd >= 0) close(fd);
    return vm_fail(err, rc, "%.200s: %s", path, strerror(-rc));
}

static int write_all(int fd, const u8 *bytes, size_t n)
{
    while (n && !caught) {
        ssize_t done = write(fd, bytes, n);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return -errno;
        bytes += done;
        n -= (size_t)done;
    }
    return 0;
}

/* ---- what is typed ---- */

enum key { KEY_NONE, KEY_LEAVE, KEY_MONITOR };

/* What Ctrl-A and this byte mean; a byte that goes to where the terminal is connected is left in *n bytes. */
static enum key typed(struct console *c, u8 byte, u8 *out, size_t *n)
{
    bool escaped = c->escaped;
    c->escaped = !escaped && byte == ESCAPE;
    if (c->escaped) return KEY_NONE;
    if (escaped && (byte | 0x20) == 'x') return KEY_LEAVE;
    if (escaped && (byte | 0x20) == 'c') return KEY_MONITOR;
    if (escaped && byte != ESCAPE)
        fputs("\r\ntransvisor: Ctrl-A x leaves the console, Ctrl-A c opens and closes the machine's monitor, "
              "Ctrl-A Ctrl-A is a Ctrl-A\r\n",
              stderr);
    else out[(*n)++] = byte;
    return KEY_NONE;
}

/* ---- the monitor ---- */

static void monitor_close(struct console *c)
{
    if (c->monitor >= 0) close(c->monitor);
    c->monitor = -1;
}

/* Opens it, or goes back to the machine. The monitor is told how wide the terminal is, as xterm would. */
static void monitor_toggle(struct console *c)
{
    struct winsize size;
    struct vm_error err;
    char text[48];
    bool was = c->monitor >= 0;
    monitor_close(c);
    if (was) {
        fputs("\r\n", stderr);
        return;
    }
    if ((c->monitor = socket_connect(c->monitor_path, &err)) < 0) {
        fprintf(stderr, "\r\ntransvisor: no monitor: %s\r\n", err.text);
        return;
    }
    if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size)) return;
    int n = snprintf(text, sizeof text, "\033[8;%u;%ut", size.ws_row, size.ws_col);
    if (write_all(c->monitor, (const u8 *)text, (size_t)n)) monitor_close(c);
}

/* ---- copying ---- */

/* From a socket to the terminal. 1: it goes on; 0: it has ended; or -errno. */
static int copy_out(int socket)
{
    u8 bytes[4096];
    ssize_t n = read(socket, bytes, sizeof bytes);
    if (n == 0 || (n < 0 && errno == ECONNRESET)) return 0;
    if (n < 0) return errno == EINTR ? 1 : -errno;
    int rc = write_all(STDOUT_FILENO, bytes, (size_t)n);
    return rc == -EPIPE ? 0 : rc ? rc : 1;
}

/* What has been typed for whoever the terminal is connected with now. */
static int send_typed(struct console *c, const u8 *bytes, size_t n)
{
    if (c->monitor < 0) return write_all(c->serial, bytes, n);
    if (write_all(c->monitor, bytes, n)) monitor_close(c);
    return 0;
}

static int copy_in(struct console *c)
{
    u8 bytes[4096], out[sizeof bytes];
    size_t sent = 0;
    ssize_t n = read(STDIN_FILENO, bytes, sizeof bytes);
    if (n < 0) return errno == EINTR ? 1 : -errno;
    if (n == 0 && c->terminal) return 0;
    if (n == 0) c->input = false; /* what the machine says is still wanted */
    int rc = c->terminal ? 0 : send_typed(c, bytes, (size_t)n);
    for (ssize_t i = 0; c->terminal && i < n && !rc; i++) {
        enum key key = typed(c, bytes[i], out, &sent);
        if (key == KEY_NONE && i + 1 < n) continue;
        rc = send_typed(c, out, sent);
        sent = 0;
        if (key == KEY_LEAVE) return rc == -EPIPE ? 0 : rc;
        if (key == KEY_MONITOR && !rc) monitor_toggle(c);
    }
    return rc == -EPIPE ? 0 : rc ? rc : 1;
}

/* As copy_out(). What the guest says is shown while the monitor is there, too, as on the machine's own terminal. */
static int copy_once(struct console *c)
{
    struct pollfd from[3] = { { .fd = c->serial, .events = POLLIN },
                              { .fd = c->monitor, .events = POLLIN },
                              { .fd = c->input ? STDIN_FILENO : -1, .events = POLLIN } };
    if (poll(from, ARRAY_LEN(from), -1) < 0) return errno == EINTR ? 1 : -errno;
    int rc = from[0].revents ? copy_out(c->serial) : 1;
    if (rc > 0 && from[1].revents && copy_out(c->monitor) != 1) monitor_close(c);
    return rc > 0 && from[2].revents ? copy_in(c) : rc;
}

int console_run(const char *path, const char *monitor, struct vm_error *err)
{
    static const int ends[] = { SIGINT, SIGTERM, SIGHUP };
    struct sigaction was[ARRAY_LEN(ends)];
    const struct sigaction noted = { .sa_handler = note };
    struct termios old, raw;
    struct console c = { .monitor_path = monitor, .serial = socket_connect(path, err), .monitor = -1, .input = true };
    int rc = 1;
    if (c.serial < 0) return c.serial;
    c.terminal = !tcgetattr(STDIN_FILENO, &old);
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) sigaction(ends[i], &noted, &was[i]);
    if (c.terminal) {
        raw = old;
        cfmakeraw(&raw);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
        fputs("transvisor: Ctrl-A x leaves the console, the machine goes on; Ctrl-A c opens its monitor\r\n", stderr);
    }
    while (rc > 0 && !caught) rc = copy_once(&c);
    if (c.terminal) tcsetattr(STDIN_FILENO, TCSADRAIN, &old);
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) sigaction(ends[i], &was[i], NULL);
    monitor_close(&c);
    close(c.serial);
    if (caught) raise(caught);
    return rc < 0 ? vm_fail(err, rc, "console: %s", strerror(-rc)) : 0;
}
