/* Owns the naming of back ends, and what is common to all of them. */
#include "src/back/chardev.h"
#include "src/error.h"

#include <errno.h>
#include <string.h>

/* One row each: opening, help and error messages read it. */
static const struct kind {
    const char *name, *shown, *what;
    int (*open)(struct chardev_be **out, const char *arg, const struct chardev_host *host, struct vm_error *err);
    bool takes_arg; /* what follows a colon */
} kinds[] = {
    { "null", "null", "nobody is at the other end", chardev_null_open, false },
    { "stdio", "stdio", "standard input and output; on a terminal with keys of its own", chardev_stdio_open, false },
    { "file", "file:PATH", "output goes to a file, which is emptied first", chardev_file_open, true },
    { "unix", "unix:PATH", "a listening Unix socket, for one client at a time", chardev_unix_open, true },
    { "tcp", "tcp:[ADDRESS:]PORT", "a listening TCP socket, for one client at a time; on the loopback if not said",
      chardev_tcp_open, true },
    { "device", "device:PATH", "a serial port of the host's, at the speed that it has", chardev_device_open, true },
    { "pty", "pty", "a new pseudo-terminal, whose name is told", chardev_pty_open, false },
};

const char *chardev_name(unsigned i, const char **what)
{
    if (i >= ARRAY_LEN(kinds)) return NULL;
    if (what) *what = kinds[i].what;
    return kinds[i].shown;
}

static const struct kind *kind_of(const char *spec, const char **arg)
{
    const char *colon = strchr(spec, ':');
    size_t n = colon ? (size_t)(colon - spec) : strlen(spec);
    *arg = colon ? colon + 1 : "";
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        const struct kind *k = &kinds[i];
        if (strlen(k->name) != n || memcmp(k->name, spec, n)) continue;
        return k->takes_arg == (**arg != 0) && k->takes_arg == (colon != NULL) ? k : NULL;
    }
    return NULL;
}

int chardev_open(struct chardev **out, const char *spec, const struct chardev_host *host, struct vm_error *err)
{
    struct chardev_be *be = NULL;
    const char *arg;
    const struct kind *k = kind_of(spec, &arg);
    if (!k) {
        char list[160] = "";
        for (size_t i = 0, n = 0; i < ARRAY_LEN(kinds) && n < sizeof list; i++)
            n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", kinds[i].shown);
        return vm_fail(err, -EINVAL, "serial: '%s' is not one of %s", spec, list);
    }
    int rc = k->open(&be, arg, host, err);
    if (!rc) *out = &be->dev;
    return rc;
}

static struct chardev_be *be_of(struct chardev *c) { return c->be; }

void chardev_close(struct chardev *c)
{
    if (c) be_of(c)->close(be_of(c));
}

void chardev_deliver(struct chardev *c)
{
    u8 buf[512];
    size_t n;
    if (!be_of(c)->pump) return;
    while ((n = pump_take(be_of(c)->pump, buf, sizeof buf)) > 0)
        if (c->rx) c->rx(c->fe, buf, n);
}

void chardev_cancel(struct chardev *c)
{
    if (c) be_of(c)->out.cancelled = true;
}

void chardev_say(struct chardev *c, const u8 *bytes, size_t n)
{
    if (c && be_of(c)->say) be_of(c)->say(be_of(c), bytes, n);
}

u64 chardev_dropped(const struct chardev *c)
{
    const struct chardev_be *be = c->be;
    return be->out.dropped;
}

const char *chardev_terminal(const struct chardev *c)
{
    const struct chardev_be *be = c->be;
    return be->terminal;
}
