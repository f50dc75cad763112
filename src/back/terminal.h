/* Our own terminal's settings: raw while a machine has it, as they were whenever somebody else may. */
#ifndef SRC_TERMINAL_H
#define SRC_TERMINAL_H
#include "transvisor/vm.h"

/* Makes the terminal on standard input raw. 0 or -errno; -EBUSY: another machine of this process has it. From here to
 * terminal_restore(), signals that end or stop the process by default put it back first; what else handles a signal
 * then sees to that itself. When the process goes on, the terminal is raw again. */
int terminal_raw(struct vm_error *err);
void terminal_restore(void);

#endif
