/* Owns the descriptions of shared folders, and the thread that a session has.
 *   I1  The session is the thread's, but for save and load, when the thread has nothing to do.   [share_run] */
#include "src/back/share.h"
#include "src/back/share_9p.h"
#include "src/back/share_fids.h"
#include "src/back/worker.h"
#include "src/error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(SHARE_DESCRIPTORS_MIN == FIDS_DESCRIPTORS_MIN, "the same, for who opens one");

struct share {
    struct sharedev dev; /* dev.be points back here */
    struct share_session *session;
    struct worker *worker;
    struct sharedev_req end; /* that clears the session: done is NULL */
    bool ending, end_again;  /* it is under way; it is wanted once more */
};

/* ---- descriptions ---- */

static int parse_word(struct share_spec *s, const char *word, struct vm_error *err)
{
    if (!strncmp(word, "tag=", 4)) {
        size_t n = strlen(word + 4);
        if (!n || n > SHARE_TAG_MAX)
            return vm_fail(err, -EINVAL, "share %s: a tag has 1 to %u characters", s->dir, SHARE_TAG_MAX);
        memcpy(s->tag, word + 4, n + 1);
        return 0;
    }
    if (!strcmp(word, "readonly=on") || !strcmp(word, "readonly")) s->readonly = true;
    else if (strcmp(word, "readonly=off") != 0)
        return vm_fail(err, -EINVAL, "share %s: '%s' is none of tag=NAME, readonly=on", s->dir, word);
    return 0;
}

int share_parse(struct share_spec *out, const char *text, unsigned number, struct vm_error *err)
{
    struct share_spec s = { .dir = strdup(text) };
    if (!s.dir) return vm_fail(err, -ENOMEM, "share: out of memory");
    snprintf(s.tag, sizeof s.tag, "share%u", number);
    char *from = s.dir, *to = s.dir;
    while (*from && (*from != ',' || from[1] == ',')) {
        from += *from == ',';
        *to++ = *from++;
    }
    char *words = *from ? from + 1 : NULL;
    *to = 0;
    int rc = *s.dir ? 0 : vm_fail(err, -EINVAL, "share: a folder is missing");
    for (char *word; !rc && words && (word = strsep(&words, ","));) rc = parse_word(&s, word, err);
    if (rc) free(s.dir);
    else *out = s;
    return rc;
}

/* ---- messages ---- */

static void share_run(void *owner, struct job *j)
{
    struct share *s = owner;
    struct sharedev_req *r = JOB_OF(j, struct sharedev_req);
    if (r->done) share_session_serve(s->session, r);
    else share_session_clear(s->session);
}

static void share_finished(void *owner, struct job *j)
{
    struct share *s = owner;
    struct sharedev_req *r = JOB_OF(j, struct sharedev_req);
    if (r->done) {
        r->done(r);
        return;
    }
    s->ending = s->end_again;
    s->end_again = false;
    if (s->ending) worker_submit(s->worker, &s->end.job);
}

static void dev_submit(void *be, struct sharedev_req *r) { worker_submit(((struct share *)be)->worker, &r->job); }

static void dev_settle(void *be) { worker_settle(((struct share *)be)->worker); }

static void dev_reset(void *be)
{
    struct share *s = be;
    s->end_again = s->ending;
    if (!s->ending) worker_submit(s->worker, &s->end.job);
    s->ending = true;
}

static void dev_save(void *be, struct byte_queue *to) { share_session_save(((struct share *)be)->session, to); }
static void dev_load(void *be, const struct byte_queue *from)
{
    struct share *s = be;
    worker_drain(s->worker); /* a reset before this may still be under way, and would clear what is loaded */
    share_session_load(s->session, from);
}

/* ---- life ---- */

int share_open(struct sharedev **out, const struct share_spec *spec, const struct share_host *host,
               struct vm_error *err)
{
    static const struct sharedev_ops ops = { dev_submit, dev_settle, dev_reset, dev_save, dev_load };
    static const struct worker_ops work = { share_run, share_finished };
    struct share *s = calloc(1, sizeof *s);
    if (!s) return vm_fail(err, -ENOMEM, "share: out of memory");
    s->dev = (struct sharedev){ .ops = &ops, .be = s };
    memcpy(s->dev.tag, spec->tag, sizeof s->dev.tag);
    int rc = share_session_new(&s->session, spec->dir, spec->readonly, host->descriptors);
    if (!rc) rc = worker_new(&s->worker, THREAD_SHARE, &work, s, host->wake, host->arg);
    if (!rc) {
        *out = &s->dev;
        return 0;
    }
    share_session_free(s->session);
    free(s);
    return vm_fail(err, rc, "share %s: %s", spec->dir, strerror(-rc));
}

void share_close(struct sharedev *d)
{
    if (!d) return;
    struct share *s = d->be;
    worker_free(s->worker);
    share_session_free(s->session);
    free(s);
}

void share_complete(struct sharedev *d) { worker_complete(((struct share *)d->be)->worker); }
void share_drain(struct sharedev *d) { worker_drain(((struct share *)d->be)->worker); }
