/* The serial line on our own standard input and output. On a terminal the guest sees every key, but for the quit key.
 *   I1  keys are looked at only on a terminal: from a pipe or a file every byte is the guest's.
 * The keys are those of user_keys.c. */
#include "src/back/chardev.h"
#include "src/back/terminal.h"
#include "src/back/user_keys.h"
#include "src/error.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

struct stdio_be {
    struct chardev_be be; /* first: the two are cast into each other */
    struct chardev_host host;
    struct user_keys keys;
    int tty; /* a description of the terminal that is ours alone; -1: none */
};

static void stdio_quit(void *arg)
{
    struct stdio_be *s = arg;
    s->host.quit(s->host.arg);
}

static void stdio_tell(void *arg UNUSED, const char *text) { fprintf(stderr, "\r\ntransvisor: %s\r\n", text); }

static size_t stdio_filter(void *arg, u8 *buf, size_t n)
{
    struct stdio_be *s = arg;
    return user_keys_filter(&s->keys, buf, n);
}

static void stdio_talk(void *arg, enum vm_talk what, const u8 *bytes, size_t n)
{
    struct stdio_be *s = arg;
    if (what == VM_TALK_ENDS) fputs("\r\n", stderr); /* the guest goes on in a line of its own */
    s->host.talk(s->host.arg, what, bytes, n);
}

static void stdio_say(struct chardev_be *be, const u8 *bytes, size_t n)
{
    struct stdio_be *s = (struct stdio_be *)be;
    if (s->keys.talking) pump_write(be->pump, bytes, n);
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
    user_keys_end(&s->keys);
    terminal_restore();
    if (s->tty >= 0) close(s->tty);
    free(s);
}

int chardev_stdio_open(struct chardev_be **out, const char *none UNUSED, const struct chardev_host *host,
                       struct vm_error *err)
{
    static const struct chardev_ops ops = { .write = stdio_write };
    struct stdio_be *s = calloc(1, sizeof *s);
    if (!s) return vm_fail(err, -ENOMEM, "serial stdio: out of memory");
    s->be = (struct chardev_be){
        .dev = { .ops = &ops, .be = s }, .out.stall_ms = -1, .say = stdio_say, .close = stdio_close
    };
    s->host = *host;
    s->keys =
        (struct user_keys){ .quit = stdio_quit, .tell = stdio_tell, .talk = host->talk ? stdio_talk : NULL, .arg = s };
    bool tty = isatty(STDIN_FILENO);
    int rc = tty ? terminal_raw("serial stdio", NULL, NULL, err) : 0;
    if (rc) {
        free(s);
        return rc;
    }
    s->tty = tty ? terminal_open(STDIN_FILENO) : -1;
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
