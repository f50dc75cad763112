/* Byte streams to the outside, as --serial names them: chardev_name() has the list.
 *
 * Input arrives on a thread of the back end's own, which buffers it and calls host.wake; the host then calls
 * chardev_deliver() on the vCPU thread, which hands the bytes to the chip. Output is written by the vCPU thread itself.
 */
#ifndef SRC_CHARDEV_H
#define SRC_CHARDEV_H
#include "core/chardev.h"
#include "src/back/chardev_out.h"
#include "transvisor/vm.h"

/* Functions are called on a back end's own thread. */
struct chardev_host {
    void (*wake)(void *arg); /* input is waiting: arrange for chardev_deliver() */
    void (*quit)(void *arg); /* the user pressed the quit key */
    void *arg;
    bool (*stopping)(void *arg); /* asked while chardev_open() waits for a FIFO's reader: true ends that. NULL: nothing
                                  */
    /* What the user types at a terminal, but not to the guest (user_keys.h). On the back end's own thread, but for the
     * end that chardev_close() brings. NULL: nobody listens. */
    void (*talk)(void *arg, enum vm_talk what, const u8 *bytes, size_t n);
};

/* Opens spec. -EINVAL: it names no back end; else -errno of what failed. */
MUST_CHECK int chardev_open(struct chardev **out, const char *spec, const struct chardev_host *host,
                            struct vm_error *err);
/* What a spec may be, "file:PATH" and the like, and what that is; NULL past the last. */
const char *chardev_name(unsigned i, const char **what);
void chardev_close(struct chardev *c); /* copes with NULL; no host function is called any more once it has returned */
void chardev_deliver(struct chardev *c);
/* Lets go of a writer that waits for a slow reader: the machine is to stop. Thread-safe; for good. */
void chardev_cancel(struct chardev *c);
u64 chardev_dropped(const struct chardev *c); /* bytes of output that no reader took, and no file */
/* To the user who talks (chardev_host.talk), if the terminal is this one's and he does. As a guest's output. */
void chardev_say(struct chardev *c, const u8 *bytes, size_t n);
/* The terminal that has been made for it, or NULL. Borrowed. */
const char *chardev_terminal(const struct chardev *c);

/* ---- between the back ends ---- */

struct pump;
/* A back end as the front sees it: every be is one of these. */
struct chardev_be {
    struct chardev dev; /* dev.be points back here */
    struct chardev_out out;
    struct pump *pump;                                             /* NULL if there is never any input */
    const char *terminal;                                          /* NULL but for a pty */
    void (*say)(struct chardev_be *be, const u8 *bytes, size_t n); /* NULL: nobody talks here */
    void (*close)(struct chardev_be *be);
};
int chardev_null_open(struct chardev_be **out, const char *none, const struct chardev_host *host, struct vm_error *err);
int chardev_file_open(struct chardev_be **out, const char *path, const struct chardev_host *host, struct vm_error *err);
int chardev_stdio_open(struct chardev_be **out, const char *none, const struct chardev_host *host,
                       struct vm_error *err);
int chardev_unix_open(struct chardev_be **out, const char *path, const struct chardev_host *host, struct vm_error *err);
int chardev_tcp_open(struct chardev_be **out, const char *address, const struct chardev_host *host,
                     struct vm_error *err);
int chardev_device_open(struct chardev_be **out, const char *path, const struct chardev_host *host,
                        struct vm_error *err);
int chardev_pty_open(struct chardev_be **out, const char *none, const struct chardev_host *host, struct vm_error *err);

/* chardev_pump.c: one thread that reads a descriptor into a bounded buffer, and a writer beside it. */
struct pump_config {
    int in, out;                /* descriptors, borrowed; out may equal in. With listen: -1 */
    int listen;                 /* -1, or a listening socket: one connection at a time is both in and out */
    struct chardev_out *outlet; /* the back end's, stall_ms set */
    /* May drop or replace bytes that were read (the quit key); returns how many of buf are left. NULL: none do. */
    size_t (*filter)(void *arg, u8 *buf, size_t n);
    void *filter_arg;
};
MUST_CHECK int pump_new(struct pump **out, const struct pump_config *cfg, const struct chardev_host *host);
void pump_free(struct pump *p);
void pump_write(struct pump *p, const u8 *buf, size_t n);
size_t pump_take(struct pump *p, u8 *buf, size_t room);

#endif
