/* Owns the shared folders of a machine. */
#include "src/shares.h"
#include "src/error.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#define DESCRIPTORS_MAX 4096u
#define DESCRIPTORS_ELSE 256u /* left for what else the process has open */

struct shares {
    struct sharedev *dev[VM_SHARES_MAX];   /* NULL: there is none */
    struct sharedev closed[VM_SHARES_MAX]; /* what dev points to where the machine never runs */
    bool inspect;
};

static void closed_submit(void *be UNUSED, struct sharedev_req *r UNUSED) { BUG_ON("the machine never runs"); }
static void closed_settle(void *be UNUSED) {}
static void closed_reset(void *be UNUSED) {}
static void closed_save(void *be UNUSED, struct byte_queue *to UNUSED) {}
static void closed_load(void *be UNUSED, const struct byte_queue *from UNUSED) {}

/* Of those that the process may have, each gets a part. */
static unsigned descriptors(unsigned shares)
{
    struct rlimit l;
    u64 n = getrlimit(RLIMIT_NOFILE, &l) ? 0 : l.rlim_cur;
    n = n > 2 * DESCRIPTORS_ELSE ? n - DESCRIPTORS_ELSE : n / 2;
    n /= shares;
    return n > DESCRIPTORS_MAX ? DESCRIPTORS_MAX : n < SHARE_DESCRIPTORS_MIN ? SHARE_DESCRIPTORS_MIN : (unsigned)n;
}

static int one_open(struct shares *s, unsigned i, const char *text, const struct share_host *host, struct vm_error *err)
{
    static const struct sharedev_ops closed_ops = { closed_submit, closed_settle, closed_reset, closed_save,
                                                    closed_load };
    struct share_spec spec;
    int rc = share_parse(&spec, text, i, err);
    if (rc) return rc;
    for (unsigned k = 0; k < i; k++)
        if (s->dev[k] && !strcmp(s->dev[k]->tag, spec.tag))
            rc = vm_fail(err, -EINVAL, "share %s: another folder has the tag %s", spec.dir, spec.tag);
    if (!rc && s->inspect) {
        s->closed[i] = (struct sharedev){ .ops = &closed_ops };
        memcpy(s->closed[i].tag, spec.tag, sizeof spec.tag);
        s->dev[i] = &s->closed[i];
    } else if (!rc) {
        rc = share_open(&s->dev[i], &spec, host, err);
    }
    free(spec.dir);
    return rc;
}

int shares_open(struct shares **out, const struct vm_config *cfg, void (*wake)(void *vm), void *vm,
                struct vm_error *err)
{
    unsigned n = 0;
    int rc = 0;
    for (unsigned i = 0; i < VM_SHARES_MAX; i++) n += cfg->share[i] != NULL;
    if (!n) return 0;
    struct shares *s = calloc(1, sizeof *s);
    if (!s) return vm_fail(err, -ENOMEM, "share: out of memory");
    s->inspect = !wake;
    const struct share_host host = { wake, vm, descriptors(n) };
    for (unsigned i = 0; i < VM_SHARES_MAX && !rc; i++)
        if (cfg->share[i]) rc = one_open(s, i, cfg->share[i], &host, err);
    if (rc) shares_close(s);
    else *out = s;
    return rc;
}

void shares_close(struct shares *s)
{
    if (!s) return;
    for (unsigned i = 0; i < VM_SHARES_MAX && !s->inspect; i++) share_close(s->dev[i]);
    free(s);
}

struct sharedev *shares_get(struct shares *s, unsigned i) { return s ? s->dev[i] : NULL; }

void shares_complete(struct shares *s)
{
    for (unsigned i = 0; s && !s->inspect && i < VM_SHARES_MAX; i++)
        if (s->dev[i]) share_complete(s->dev[i]);
}

void shares_drain(struct shares *s)
{
    for (unsigned i = 0; s && !s->inspect && i < VM_SHARES_MAX; i++)
        if (s->dev[i]) share_drain(s->dev[i]);
}
