/* The serial line on our own standard input and output. On a terminal the guest sees every key, but for the quit key.
 *   I1  keys are looked at only on a terminal: from a pipe or a file every byte is the guest's.
 * Ctrl-A x quits, Ctrl-A h or ? tells of the keys, Ctrl-A c is kept for the monitor, Ctrl-A Ctrl-A is a Ctrl-A. */
#include "src/back/chardev.h"
#include "core/hostfd.h"
#include "src/back/terminal.h"
#include "src/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define CTRL_A 1

struct stdio_be {
    struct chardev_be be; /* first: the two are cast into each other */
    struct chardev_host host;
    bool escape; /* the last key was Ctrl-A */
    int tty;     /* a description of the terminal that is ours alone; -1: none */
};

static const char keys_help[] =
    "\r\ntransvisor: Ctrl-A x ends the machine, Ctrl-A Ctrl-A sends Ctrl-A, Ctrl-A h shows this\r\n";

static size_t stdio_filter(void *arg, u8 *buf, size_t n)
{
    struct stdio_be *s = arg;
    size_t out = 0;
    for (size_t i = 0; i < n; i++) {
        u8 c = buf[i];
        if (!s->escape) {
            if (c == CTRL_A) s->escape = true;
            else buf[out++] = c;
            continue;
        }
        s->escape = false;
        switch (c) {
        case 'x':
        case 'X': s->host.quit(s->host.arg); break;
        case 'c':
        case 'C': fputs("\r\ntransvisor: there is no monitor yet; Ctrl-A x quits\r\n", stderr); break;
        case 'h':
        case 'H':
        case '?': fputs(keys_help, stderr); break;
        case CTRL_A: buf[out++] = c; break;
        }
    }
    return out;
}

static void stdio_write(void *arg, const u8 *buf, size_t n)
{
    struct stdio_be *s = arg;
    pump_write(s->be.pump, buf, n);
}

static void stdio_close(struct chardev_be *be)
{
    struct stdio_be *s = (struct stdio_be *)be;
    pump_free(s->be.pump);
    terminal_restore();
    if (s->tty >= 0) close(s->tty);
    free(s);
}

/* What poll() has seen may be gone when it is read: a shell reads the terminal too, while we are stopped. A read that
 * waited then would not end with the machine. O_NONBLOCK on descriptor 0 itself would be the shell's as well. */
static int terminal_open(void) { return hostfd(open("/proc/self/fd/0", O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)); }

int chardev_stdio_open(struct chardev_be **out, const char *none UNUSED, const struct chardev_host *host,
                       struct vm_error *err)
{
    static const struct chardev_ops ops = { .write = stdio_write };
    struct stdio_be *s = calloc(1, sizeof *s);
    if (!s) return vm_fail(err, -ENOMEM, "serial stdio: out of memory");
    s->be = (struct chardev_be){ .dev = { .ops = &ops, .be = s }, .out.stall_ms = -1, .close = stdio_close };
    s->host = *host;
    bool tty = isatty(STDIN_FILENO);
    int rc = tty ? terminal_raw(err) : 0;
    if (rc) {
        free(s);
        return rc;
    }
    s->tty = tty ? terminal_open() : -1;
    struct pump_config cfg = { .in = s->tty >= 0 ? s->tty : STDIN_FILENO,
                               .out = STDOUT_FILENO,
                               .listen = -1,
                               .outlet = &s->be.out,
                               .filter = tty ? stdio_filter : NULL,
                               .filter_arg = s };
    rc = pump_new(&s->be.pump, &cfg, host);
    if (rc) {
        vm_fail(err, rc, "serial stdio: %s", strerror(-rc));
        stdio_close(&s->be);
        return rc;
    }
    *out = &s->be;
    return 0;
}
