/* Owns the file `state` in a machine's folder: who the machine is, and how the last one ended.
 *   I1  the process that is the machine holds a lock on it, from machine_claim() until it ends, however that comes.
 *       It is one of fcntl(), so that others can ask whose it is: a process number in a file may be somebody else's by
 *       now. Such a lock goes when any descriptor of the file is closed: the process opens it only once.
 *   I2  its first line is `running CONSOLE`, or `ended STATUS`. What is neither counts as a crash, but for an empty
 *       file. What is behind that line is of an earlier, longer one: from its jail a machine cuts off no file.
 * Enter at machine_claim(), machine_status(). */
#define _DEFAULT_SOURCE
#include "src/face/machine.h"
#include "src/error.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define RUNNING "running "
#define ENDED "ended "

static const struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

static int state_open(const struct machine *m, int flags, struct vm_error *err)
{
    char path[PATH_MAX];
    int rc = machine_file(m, "state", path, sizeof path, err);
    if (rc) return rc;
    int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd >= 0 ? fd : vm_fail(err, -errno, "%.300s: %s", path, strerror(errno));
}

static void state_write(int fd, const char *text)
{
    /* If it cannot be written, it says that the machine has crashed: nobody is left to be told more. */
    if (pwritev(fd, &(struct iovec){ (char *)text, strlen(text) }, 1, 0) < 0) return;
}

int machine_claim(const struct machine *m, const char *console, struct vm_error *err)
{
    struct flock lock = whole;
    char text[sizeof((struct machine_status *)0)->console + 16];
    int fd = state_open(m, O_RDWR | O_CREAT, err);
    if (fd < 0) return fd;
    if (fcntl(fd, F_SETLK, &lock)) {
        int rc = errno == EAGAIN || errno == EACCES
                     ? vm_fail(err, -EBUSY, "%s runs already", m->name)
                     : vm_fail(err, -errno, "%s: its state: %s", m->name, strerror(errno));
        close(fd);
        return rc;
    }
    snprintf(text, sizeof text, RUNNING "%s\n", console ? console : "");
    if (console) state_write(fd, text);
    return fd;
}

void machine_release(int claim, int status)
{
    char text[32];
    snprintf(text, sizeof text, ENDED "%d\n", status);
    state_write(claim, text);
}

/* What an exit status says (src/face/main.c). */
static enum machine_state ended(int status)
{
    bool asked = status == 128 + SIGTERM || status == 128 + SIGINT || status == 128 + SIGHUP;
    if (!status || asked) return MACHINE_OFF;
    return status == 3 ? MACHINE_DIED : MACHINE_FAILED;
}

int machine_status(const struct machine *m, struct machine_status *out, struct vm_error *err)
{
    struct flock lock = whole;
    char text[sizeof out->console + 16];
    *out = (struct machine_status){ .state = MACHINE_OFF };
    int fd = state_open(m, O_RDONLY, err);
    if (fd == -ENOENT) return 0;
    if (fd < 0) return fd;
    int rc = fcntl(fd, F_GETLK, &lock) ? -errno : 0;
    ssize_t n = rc ? -1 : preadv(fd, &(struct iovec){ text, sizeof text - 1 }, 1, 0);
    if (!rc && n < 0) rc = -errno;
    close(fd);
    if (rc) return vm_fail(err, rc, "%s: its state: %s", m->name, strerror(-rc));
    text[n] = 0;
    text[strcspn(text, "\n")] = 0;
    bool running = !strncmp(text, RUNNING, strlen(RUNNING));
    if (lock.l_type != F_UNLCK) {
        out->state = MACHINE_RUNNING;
        out->pid = lock.l_pid;
        if (running) snprintf(out->console, sizeof out->console, "%.107s", text + strlen(RUNNING));
    } else if (!n) { /* claimed, but never run */
        out->state = MACHINE_OFF;
    } else if (!strncmp(text, ENDED, strlen(ENDED))) {
        out->exit = atoi(text + strlen(ENDED));
        out->state = ended(out->exit);
    } else {
        out->state = MACHINE_CRASHED;
    }
    return 0;
}
