/* A folder of the host's for a guest: a session of the 9P protocol with a thread that does what it asks. */
#ifndef SRC_SHARE_H
#define SRC_SHARE_H
#include "core/sharedev.h"
#include "transvisor/vm.h"

/* What a description of one says: DIR[,tag=TAG][,readonly=on]; a comma in DIR is typed twice. */
struct share_spec {
    char *dir; /* to be freed */
    char tag[SHARE_TAG_MAX + 1];
    bool readonly;
};
/* number: of the share, for the tag of one that says none. 0, -EINVAL, -ENOMEM, with *err set; nothing is to be freed
 * then. */
MUST_CHECK int share_parse(struct share_spec *out, const char *text, unsigned number, struct vm_error *err);

/* wake: called on the share's thread: answers are there, arrange for share_complete() on the vCPU thread, soon. */
struct share_host {
    void (*wake)(void *arg);
    void *arg;
    unsigned descriptors; /* how many it may have open */
};
#define SHARE_DESCRIPTORS_MIN 32u
/* 0 or -errno, with *err set. */
MUST_CHECK int share_open(struct sharedev **out, const struct share_spec *spec, const struct share_host *host,
                          struct vm_error *err);
void share_close(struct sharedev *d); /* copes with NULL */
/* Calls done() for all that has been answered. On the vCPU thread. */
void share_complete(struct sharedev *d);
/* Waits until nothing is under way, and completes it: before a save, a reset, the end. */
void share_drain(struct sharedev *d);

#endif
