/* Going to jail: a thread gives up what it needs no more, for good, and its children with it. What a thread keeps is
 * its role's (core/thread.h): the system calls of jail.def, and the files of a set.
 *
 * A system call that is in nobody's table ends the process with one line on standard error and status 1. */
#ifndef SRC_JAIL_H
#define SRC_JAIL_H
#include "core/thread.h"

struct jail;

struct jail_config {
    bool filters;            /* else no system call is refused */
    int files[THREAD_ROLES]; /* what each may open (jail_files.h): borrowed; -1: whatever the user may */
};
/* 0 or -errno. It stays for as long as the process does. */
MUST_CHECK int jail_new(struct jail **out, const struct jail_config *cfg);
/* Whether the host filters system calls. */
bool jail_has_filters(void);

/* What is the process's own: no privileges are gained by running programs, nobody traces it or reads its memory, and
 * descriptors that it was started with, other than 0 to 2, are closed: ours are all marked to be closed by exec(). */
MUST_CHECK int jail_process(void);
/* The calling thread, in two steps: files, and then system calls, after which it is that of its role. 0 or -errno. */
MUST_CHECK int jail_enter_files(struct jail *j);
MUST_CHECK int jail_enter_calls(struct jail *j);
/* Every other thread of the process but those that are vCPU threads, which go by themselves. Each is interrupted, and
 * has gone when this returns. 0 or -errno: -ETIMEDOUT: one does not answer. */
MUST_CHECK int jail_enter_others(struct jail *j);

#endif
