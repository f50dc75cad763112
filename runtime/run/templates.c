/* Translated code from one run to the next: the translator's templates to and from a file that somebody else has
 * opened. */
#include "runtime/run/rt.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <x86intrin.h>

bool rt_templates_key(const struct rt *rt, u64 *key)
{
    if (!rt->xl) return false;
    *key = xl_templates_key(rt->xl);
    return true;
}

static int read_all(int fd, u8 *to, u64 len)
{
    for (u64 at = 0; at < len;) {
        ssize_t n = read(fd, to + at, len - at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n ? -errno : -ENODATA;
        at += (u64)n;
    }
    return 0;
}

static int write_all(int fd, const u8 *from, u64 len)
{
    for (u64 at = 0; at < len;) {
        ssize_t n = write(fd, from + at, len - at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n ? -errno : -EIO;
        at += (u64)n;
    }
    return 0;
}

const char *rt_templates_load(struct rt *rt, int fd, u64 len)
{
    u64 begin = __rdtsc();
    u8 *image = xl_templates_buffer(len);
    if (!image) return strerror(ENOMEM);
    int err = read_all(fd, image, len); /* all of it, and then it is looked at: what is checked is what will run */
    const char *wrong = err == -ENODATA ? "is truncated" : err ? strerror(-err) : xl_templates_load(rt->xl, image, len);
    xl_templates_discard(image, len);
    rt->cpu->ctr.template_cycles += __rdtsc() - begin;
    return wrong;
}

bool rt_templates_changed(const struct rt *rt) { return rt->xl && xl_templates_changed(rt->xl); }

int rt_templates_save(const struct rt *rt, int fd, u64 max)
{
    u8 *image;
    u64 len;
    int err = xl_templates_save(rt->xl, max, &image, &len);
    if (err) return err;
    err = write_all(fd, image, len);
    xl_templates_discard(image, len);
    return err;
}
