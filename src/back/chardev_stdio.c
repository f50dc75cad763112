/* The serial line on our own standard input and output.
 * Owns the terminal's settings while a machine runs: raw, so that the guest sees every key; the quit key is ours.
 *   I1  the settings found at start are restored by stdio_close(), and by term_guard_signal() when we die of a signal.
 *   I2  keys are looked at only on a terminal: from a pipe or a file every byte is the guest's.
 * Ctrl-A x quits, Ctrl-A c is kept for the monitor, Ctrl-A Ctrl-A is a Ctrl-A. */
#include "src/back/chardev.h"
#include "src/error.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define CTRL_A 1

struct stdio_be {
    struct chardev_be be; /* first: the two are cast into each other */
    struct chardev_host host;
    bool escape; /* the last key was Ctrl-A */
};

/* The one place that needs state outside any object: a signal handler is given none. There is one terminal per process,
 * so there is at most one guard. */
static struct {
    volatile sig_atomic_t armed;
    struct termios saved;
} term_guard;

static const int guarded[] = { SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGQUIT };

/* Of async-signal-safe calls only. Dies of the same signal afterwards. */
static void term_guard_signal(int sig)
{
    if (term_guard.armed) {
        term_guard.armed = 0;
        tcsetattr(STDIN_FILENO, TCSANOW, &term_guard.saved);
    }
    signal(sig, SIG_DFL);
    raise(sig);
}

/* Takes only signals that nobody else handles: the runtime needs SIGSEGV and its like for itself, and restores what it
 * found when it decides that a fault is not the guest's. */
static void term_guard_install(void)
{
    for (size_t i = 0; i < ARRAY_LEN(guarded); i++) {
        struct sigaction old, sa = { .sa_handler = term_guard_signal, .sa_flags = SA_NODEFER };
        sigemptyset(&sa.sa_mask);
        if (!sigaction(guarded[i], NULL, &old) && old.sa_handler == SIG_DFL) sigaction(guarded[i], &sa, NULL);
    }
}

static void term_guard_remove(void)
{
    for (size_t i = 0; i < ARRAY_LEN(guarded); i++) {
        struct sigaction old;
        if (!sigaction(guarded[i], NULL, &old) && old.sa_handler == term_guard_signal) signal(guarded[i], SIG_DFL);
    }
}

static int term_raw(struct vm_error *err)
{
    if (term_guard.armed)
        return vm_fail(err, -EBUSY, "--serial stdio: the terminal belongs to another machine of this process");
    if (tcgetattr(STDIN_FILENO, &term_guard.saved)) return vm_fail(err, -errno, "--serial stdio: %s", strerror(errno));
    struct termios raw = term_guard.saved;
    cfmakeraw(&raw);
    raw.c_oflag = term_guard.saved.c_oflag; /* our own messages still want their newlines, and the guest's CRs do not
                                               mind */
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    term_guard.armed = 1;
    term_guard_install();
    if (tcsetattr(STDIN_FILENO, TCSANOW, &raw)) {
        term_guard.armed = 0;
        return vm_fail(err, -errno, "--serial stdio: %s", strerror(errno));
    }
    return 0;
}

static void term_restore(void)
{
    if (!term_guard.armed) return;
    tcsetattr(STDIN_FILENO, TCSADRAIN, &term_guard.saved);
    term_guard.armed = 0;
    term_guard_remove();
}

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
    term_restore();
    free(s);
}

int chardev_stdio_open(struct chardev_be **out, const struct chardev_host *host, struct vm_error *err)
{
    static const struct chardev_ops ops = { .write = stdio_write };
    struct stdio_be *s = calloc(1, sizeof *s);
    if (!s) return vm_fail(err, -ENOMEM, "--serial stdio: out of memory");
    s->be = (struct chardev_be){ .dev = { .ops = &ops, .be = s }, .close = stdio_close };
    s->host = *host;
    bool tty = isatty(STDIN_FILENO);
    int rc = tty ? term_raw(err) : 0;
    if (rc) {
        free(s);
        return rc;
    }
    struct pump_config cfg = { .in = STDIN_FILENO,
                               .out = STDOUT_FILENO,
                               .listen = -1,
                               .stall_ms = -1,
                               .filter = tty ? stdio_filter : NULL,
                               .filter_arg = s };
    rc = pump_new(&s->be.pump, &cfg, host);
    if (rc) {
        vm_fail(err, rc, "--serial stdio: %s", strerror(-rc));
        stdio_close(&s->be);
        return rc;
    }
    *out = &s->be;
    return 0;
}
