/* Owns the naming of back ends, and what is common to all of them. */
#include "src/back/chardev.h"
#include "src/error.h"

#include <errno.h>
#include <string.h>

int chardev_open(struct chardev **out, const char *spec, const struct chardev_host *host, struct vm_error *err)
{
    struct chardev_be *be = NULL;
    int rc;
    if (!strcmp(spec, "null")) rc = chardev_null_open(&be, err);
    else if (!strcmp(spec, "stdio")) rc = chardev_stdio_open(&be, host, err);
    else if (!strcmp(spec, "pty")) rc = chardev_pty_open(&be, host, err);
    else if (!strncmp(spec, "file:", 5) && spec[5]) rc = chardev_file_open(&be, spec + 5, host, err);
    else if (!strncmp(spec, "unix:", 5) && spec[5]) rc = chardev_unix_open(&be, spec + 5, host, err);
    else return vm_fail(err, -EINVAL, "serial: '%s' is not one of null, stdio, file:PATH, unix:PATH, pty", spec);
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

u64 chardev_dropped(const struct chardev *c)
{
    const struct chardev_be *be = c->be;
    return be->out.dropped;
}
