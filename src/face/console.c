/* Owns the terminal while it is a machine's console.
 *   I1  the terminal's settings are put back on every way out: the signals that would end us are only noted. */
#include "src/face/console.h"
#include "src/error.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#define ESCAPE 1 /* Ctrl-A */

static volatile sig_atomic_t caught;
static void note(int sig) { caught = sig; }

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

/* What of n typed bytes goes to the machine; *escaped: Ctrl-A came last. True: the user wants to leave. */
static bool typed(u8 *bytes, size_t *n, bool *escaped)
{
    size_t to = 0;
    for (size_t i = 0; i < *n; i++) {
        u8 c = bytes[i];
        if (!*escaped && c == ESCAPE) {
            *escaped = true;
            continue;
        }
        if (*escaped && (c == 'x' || c == 'X')) {
            *n = to;
            return true;
        }
        if (*escaped && c != ESCAPE)
            fputs("\r\ntransvisor: Ctrl-A x leaves the console, Ctrl-A Ctrl-A is a Ctrl-A\r\n", stderr);
        else bytes[to++] = c;
        *escaped = false;
    }
    *n = to;
    return false;
}

/* 1: it goes on; 0: it has ended; or -errno. */
static int copy_once(struct pollfd from[2], int socket, bool terminal, bool *escaped)
{
    u8 bytes[4096];
    if (poll(from, 2, -1) < 0) return errno == EINTR ? 1 : -errno;
    if (from[0].revents) {
        ssize_t n = read(socket, bytes, sizeof bytes);
        if (n == 0 || (n < 0 && errno == ECONNRESET)) return 0;
        if (n < 0) return errno == EINTR ? 1 : -errno;
        int rc = write_all(STDOUT_FILENO, bytes, (size_t)n);
        if (rc) return rc == -EPIPE ? 0 : rc;
    }
    if (!from[1].revents) return 1;
    ssize_t n = read(STDIN_FILENO, bytes, sizeof bytes);
    if (n < 0) return errno == EINTR ? 1 : -errno;
    if (n == 0 && terminal) return 0;
    if (n == 0) from[1].fd = -1; /* what the machine says is still wanted */
    size_t len = (size_t)n;
    bool leave = terminal && typed(bytes, &len, escaped);
    int rc = write_all(socket, bytes, len);
    return rc == -EPIPE || leave ? 0 : rc ? rc : 1;
}

int console_run(const char *path, struct vm_error *err)
{
    static const int ends[] = { SIGINT, SIGTERM, SIGHUP };
    struct sigaction was[ARRAY_LEN(ends)];
    const struct sigaction noted = { .sa_handler = note };
    struct termios old, raw;
    int fd = socket_connect(path, err), rc = 1;
    if (fd < 0) return fd;
    bool terminal = !tcgetattr(STDIN_FILENO, &old), escaped = false;
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) sigaction(ends[i], &noted, &was[i]);
    if (terminal) {
        raw = old;
        cfmakeraw(&raw);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
        fputs("transvisor: Ctrl-A x leaves the console; the machine goes on\r\n", stderr);
    }
    struct pollfd from[2] = { { .fd = fd, .events = POLLIN }, { .fd = STDIN_FILENO, .events = POLLIN } };
    while (rc > 0 && !caught) rc = copy_once(from, fd, terminal, &escaped);
    if (terminal) tcsetattr(STDIN_FILENO, TCSADRAIN, &old);
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) sigaction(ends[i], &was[i], NULL);
    close(fd);
    if (caught) raise(caught);
    return rc < 0 ? vm_fail(err, rc, "console: %s", strerror(-rc)) : 0;
}
