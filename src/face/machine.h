/* Machines by name, of one user: each is a configuration file, a folder for its images and its log, and a socket for
 * its console while it runs. Where they are: XDG's base directories (specifications.freedesktop.org/basedir-spec). */
#ifndef SRC_MACHINE_H
#define SRC_MACHINE_H
#include "core/types.h"
#include "transvisor/vm.h"

#include <limits.h>

#define MACHINE_NAME_MAX 40u

struct machine {
    char name[MACHINE_NAME_MAX + 1];
    char config[PATH_MAX]; /* NAME.json */
    char folder[PATH_MAX]; /* images, log, state */
};

/* Where a machine of that name has its files, whether there is one or not. 0; -EINVAL: that is no name. */
MUST_CHECK int machine_named(struct machine *m, const char *name, struct vm_error *err);
/* The same, and there is one; else -ENOENT. */
MUST_CHECK int machine_find(struct machine *m, const char *name, struct vm_error *err);
/* Makes the folders that its files go to. 0 or -errno. */
MUST_CHECK int machine_make_folders(const struct machine *m, struct vm_error *err);
/* A file in its folder. 0 or -ENAMETOOLONG. */
MUST_CHECK int machine_file(const struct machine *m, const char *name, char *path, size_t room, struct vm_error *err);
/* Where its console listens: in a directory that is this user's alone, which is made. 0 or -errno. Beside it, with
 * MACHINE_MONITOR behind the path, its human monitor does. */
#define MACHINE_MONITOR "+monitor" /* no name has a + */
MUST_CHECK int machine_console(const struct machine *m, char *path, size_t room, struct vm_error *err);
/* Calls fn with each machine's name, in alphabetical order. 0, what fn has returned, or -errno. */
MUST_CHECK int machine_each(int (*fn)(void *arg, const char *name), void *arg, struct vm_error *err);

/* ---- what it does ---- */

enum machine_state {
    MACHINE_OFF,     /* it has never run, has powered off, or was ended */
    MACHINE_RUNNING, /* or is about to */
    MACHINE_DIED,    /* a triple fault */
    MACHINE_FAILED,  /* an error, which its log has */
    MACHINE_CRASHED  /* its process is gone, and has not said why */
};
struct machine_status {
    enum machine_state state;
    int pid;           /* MACHINE_RUNNING; 0 if it is not known */
    int exit;          /* MACHINE_FAILED */
    char console[108]; /* MACHINE_RUNNING: the socket; "": it has none */
};
/* Looks. 0 or -errno. */
MUST_CHECK int machine_status(const struct machine *m, struct machine_status *out, struct vm_error *err);
/* From now on, and until it ends, this process is the machine, whose folder exists. console: its socket, or ""; NULL:
 * it is none, but nobody else is to be. Returns a descriptor for machine_release(), -EBUSY: another process is, or
 * -errno. */
MUST_CHECK int machine_claim(const struct machine *m, const char *console, struct vm_error *err);
/* How it has ended, as an exit status of transvisor's. The claim ends with the process. */
void machine_release(int claim, int status);

#endif
