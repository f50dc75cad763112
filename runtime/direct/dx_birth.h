/* How a direct-execution process is born: up to where its stub begins (dx_stub_x64.S). What comes of it then, and its
 * burial, is dx_process.c's.
 *
 * A thread makes it itself, by clone(), or has a maker do it: a process of its own, made before the thread went to
 * jail, which makes children of the thread's. So the thread needs none of the system calls that this takes. */
#ifndef RUNTIME_DX_BIRTH_H
#define RUNTIME_DX_BIRTH_H
#include "core/types.h"

#include <sys/types.h>

#define DX_WHY "direct: "

struct dx_maker;
/* ram_fd: the file that its processes map from. The calling thread is their parent, and the only one to use it. 0 or
 * -errno, with *why; borrows ram_fd during the call. */
MUST_CHECK int dx_maker_new(struct dx_maker **out, int ram_fd, const char **why);
void dx_maker_free(struct dx_maker *m); /* copes with NULL */

/* Steps that may be refused to it: exit statuses, above the stub's own (dx_layout.h). */
enum dx_birth_step {
    DX_BORN_DUP = 100,
    DX_BORN_DUP3,
    DX_BORN_CLOSE_RANGE,
    DX_BORN_PRLIMIT,
    DX_BORN_PRCTL,
    DX_BORN_PTRACE,
    DX_BORN_EXEC,
    DX_BORN_TSC
};

struct dx_born {
    pid_t pid;           /* a child of the calling thread, which will be its tracer */
    int page_fd, socket; /* of the shared page; our end of the mapper's socket */
    u8 *page;            /* our view of it: the stub's code is there */
    void *stack;         /* that it is on until it has become another program; NULL: not in our memory */
};
/* m: who makes it; NULL: the calling thread. ram_fd as in dx_maker_new(). 0 or -errno, with *why; nothing is left then.
 */
MUST_CHECK int dx_birth(struct dx_born *out, struct dx_maker *m, int ram_fd, bool tsc_faults, const char **why);
/* It has become another program, or is dead. */
void dx_birth_settled(struct dx_born *b);

/* A list of mappings, or a birth, takes some ten microseconds; a host may be busy, however. After the first of these a
 * process that should answer is looked at, and given up at once if somebody has stopped it; after the second it is
 * given up though nothing is known. */
#define DX_DOUBT_MS 50
#define DX_PATIENCE_MS 5000

/* What dx_process.c and dx_birth.c wait with: waitid(2) is all they need of the host. *status is as waitpid() has it. 0
 * or -errno. */
int dx_wait(pid_t pid, int *status);
/* Somebody has stopped it, or it is gone. */
bool dx_is_idle(pid_t pid);
/* Kills it and waits for its end. If this program ignores SIGCHLD the kernel may have buried it, and its pid be
 * another's: then it is no child of ours. */
void dx_bury(pid_t pid);

#endif
