/* Our own terminal's settings: raw while a machine has it, as they were whenever somebody else may. */
#ifndef SRC_TERMINAL_H
#define SRC_TERMINAL_H
#include "transvisor/vm.h"

/* Makes the terminal on standard input raw. 0 or -errno; -EBUSY: another machine of this process has it. From here to
 * terminal_restore(), signals that end or stop the process by default put it back first; what else handles a signal
 * then sees to that itself. When the process goes on, the terminal is raw again.
 * what: who wants it, for err. enter, leave: written to standard output when it is taken and given back; static, or
 * NULL. */
int terminal_raw(const char *what, const char *enter, const char *leave, struct vm_error *err);
void terminal_restore(void);
/* Whether what enter and leave bring about (another screen, perhaps) is there: at first it is. */
void terminal_show(bool shown);
/* How often it has been taken up again after a stop: what stood on it is gone then. */
unsigned terminal_resumed(void);
/* A description of the terminal at fd (0 or 1) that is ours alone, and does not block: what poll() has seen may be gone
 * when it is read, for a shell reads the terminal too while we are stopped; and O_NONBLOCK on fd itself would be the
 * shell's as well. -1: there is none. */
int terminal_open(int fd);

#endif
