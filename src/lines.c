/* Owns the back ends of a machine's ports behind COM1. */
#include "src/lines.h"
#include "src/error.h"

#include <string.h>

const char *lines_spec(const struct vm_config *cfg, unsigned i)
{
    return i == LINE_HVC ? cfg->console : i == LINE_LPT ? cfg->parallel : cfg->serial_more[i];
}

int lines_open(struct lines *l, const struct vm_config *cfg, const struct chardev_host *host, struct vm_error *err)
{
    for (unsigned i = 0; i < LINES; i++) {
        const char *spec = lines_spec(cfg, i);
        struct vm_error why;
        int rc = spec ? chardev_open(&l->line[i], spec, host, &why) : 0;
        if (!rc) continue;
        /* It says "serial ..", whichever it is. */
        const char *text = i >= LINE_LPT && !strncmp(why.text, "serial", 6) ? why.text + 6 : NULL;
        if (!text) return vm_fail(err, rc, "%s", why.text);
        return vm_fail(err, rc, "%s%s", i == LINE_LPT ? "parallel" : "console", text);
    }
    return 0;
}

void lines_deliver(struct lines *l)
{
    for (unsigned i = 0; i < LINES; i++)
        if (l->line[i]) chardev_deliver(l->line[i]);
}

void lines_say(struct lines *l, const void *bytes, size_t n)
{
    for (unsigned i = 0; i < LINES; i++) chardev_say(l->line[i], bytes, n);
}

void lines_cancel(struct lines *l)
{
    for (unsigned i = 0; i < LINES; i++) chardev_cancel(l->line[i]);
}

void lines_close(struct lines *l)
{
    for (unsigned i = 0; i < LINES; i++) chardev_close(l->line[i]);
    *l = (struct lines){ 0 };
}
