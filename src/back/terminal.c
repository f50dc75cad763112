/* Owns the terminal's settings while a machine runs.
 *
 *   I1  The settings found at start are restored by terminal_restore(), and by on_end() and on_stop() before a signal
 *       ends or stops us. SIGKILL and SIGSTOP leave no time for that.
 *   I2  Only signals that nobody else handles or ignores are taken: the runtime needs SIGSEGV and its like for itself,
 *       and hands on what is not the guest's.                                                      [take]
 *   I3  The terminal is touched only from the foreground: from the background that would stop us.
 *       [give_back, take_up] */
#include "src/back/terminal.h"
#include "core/types.h"
#include "core/hostfd.h"
#include "src/error.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

/* The one place that needs state outside any object: a signal handler is given none. There is one terminal per process,
 * so there is at most one guard. */
static struct {
    volatile sig_atomic_t armed;
    volatile sig_atomic_t resumed; /* how often */
    volatile sig_atomic_t hidden;  /* enter and leave are not said */
    struct termios saved, raw;
    pid_t group; /* ours */
    const char *enter, *leave;
} guard;

static const int stopping[] = { SIGTSTP, SIGTTIN, SIGTTOU };

/* Whether sig ends the process unless something is done about it. */
static bool is_deadly(int sig)
{
    static const int harmless[] = { SIGKILL, SIGSTOP, SIGCONT, SIGCHLD, SIGURG, SIGWINCH, SIGTSTP, SIGTTIN, SIGTTOU };
    for (size_t i = 0; i < ARRAY_LEN(harmless); i++)
        if (sig == harmless[i]) return false;
    return true;
}

/* One that is not our controlling terminal has no background. */
static bool in_foreground(void)
{
    pid_t group = tcgetpgrp(STDIN_FILENO);
    return group < 0 || group == guard.group;
}

static void say(const char *text)
{
    if (text && !guard.hidden)
        (void)!write(STDOUT_FILENO, text, strlen(text)); /* a terminal that is gone needs nothing */
}

/* From handlers as well: async-signal-safe calls only. */
static void give_back(void)
{
    if (!guard.armed || !in_foreground()) return;
    say(guard.leave);
    tcsetattr(STDIN_FILENO, TCSANOW, &guard.saved);
}

static void take_up(void)
{
    if (!guard.armed || !in_foreground()) return;
    tcsetattr(STDIN_FILENO, TCSANOW, &guard.raw);
    say(guard.enter);
    guard.resumed++;
}

static void on_end(int sig)
{
    give_back();
    guard.armed = 0;
    signal(sig, SIG_DFL);
    raise(sig);
}

static void on_stop(int sig)
{
    int saved_errno = errno;
    struct sigaction ours, dfl = { .sa_handler = SIG_DFL };
    give_back();
    sigaction(sig, &dfl, &ours);
    raise(sig); /* stops here, and goes on from here */
    sigaction(sig, &ours, NULL);
    take_up();
    errno = saved_errno;
}

static void on_continue(int sig)
{
    (void)sig;
    int saved_errno = errno;
    take_up(); /* after SIGSTOP, or brought into the foreground */
    errno = saved_errno;
}

static bool is_ours(void (*handler)(int)) { return handler == on_end || handler == on_stop || handler == on_continue; }

static void take(int sig, void (*handler)(int))
{
    struct sigaction old, sa = { .sa_handler = handler, .sa_flags = SA_NODEFER | SA_RESTART };
    sigemptyset(&sa.sa_mask);
    if (!sigaction(sig, NULL, &old) && !(old.sa_flags & SA_SIGINFO) && old.sa_handler == SIG_DFL)
        sigaction(sig, &sa, NULL);
}

static void take_all(void)
{
    for (int sig = 1; sig <= SIGRTMAX; sig++)
        if (is_deadly(sig)) take(sig, on_end);
    for (size_t i = 0; i < ARRAY_LEN(stopping); i++) take(stopping[i], on_stop);
    take(SIGCONT, on_continue);
}

static void leave_all(void)
{
    for (int sig = 1; sig <= SIGRTMAX; sig++) {
        struct sigaction old;
        if (!sigaction(sig, NULL, &old) && is_ours(old.sa_handler)) signal(sig, SIG_DFL);
    }
}

int terminal_raw(const char *what, const char *enter, const char *leave, struct vm_error *err)
{
    if (guard.armed)
        return vm_fail(err, -EBUSY, "%s: the terminal is in use already, by this or another machine of the process",
                       what);
    if (tcgetattr(STDIN_FILENO, &guard.saved)) return vm_fail(err, -errno, "%s: %s", what, strerror(errno));
    if (!guard.group) guard.group = getpgrp(); /* in a jail there is no asking again */
    guard.enter = enter;
    guard.leave = leave;
    guard.raw = guard.saved;
    cfmakeraw(&guard.raw);
    guard.raw.c_oflag = guard.saved.c_oflag; /* our own messages still want their newlines, and the guest's CRs do not
                                                mind */
    guard.raw.c_cc[VMIN] = 1;
    guard.raw.c_cc[VTIME] = 0;
    guard.hidden = 0;
    guard.armed = 1;
    take_all();
    if (tcsetattr(STDIN_FILENO, TCSANOW, &guard.raw)) { /* in the background it stops us until we are not */
        int rc = vm_fail(err, -errno, "%s: %s", what, strerror(errno));
        guard.armed = 0;
        leave_all();
        return rc;
    }
    say(enter);
    return 0;
}

void terminal_restore(void)
{
    if (!guard.armed) return;
    give_back(); /* in the background it is as its present owner wants it */
    guard.armed = 0;
    leave_all();
}

void terminal_show(bool shown)
{
    if (!guard.armed || shown == !guard.hidden) return;
    if (!shown && in_foreground()) say(guard.leave);
    guard.hidden = !shown;
    if (shown && in_foreground()) say(guard.enter);
}

unsigned terminal_resumed(void) { return (unsigned)guard.resumed; }

int terminal_open(int fd)
{
    const char *path = fd == STDIN_FILENO ? "/proc/self/fd/0" : "/proc/self/fd/1";
    return hostfd(open(path, (fd == STDIN_FILENO ? O_RDONLY : O_WRONLY) | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
}
