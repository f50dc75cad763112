/* This terminal as the one at the other end of a machine's serial port. */
#ifndef SRC_CONSOLE_H
#define SRC_CONSOLE_H
#include "core/types.h"
#include "transvisor/vm.h"

/* Connects standard input and output with the socket at path, until it ends, or the user types Ctrl-A x (on a
 * terminal), and what is typed there between a Ctrl-A c and the next with the socket at monitor, a human monitor's
 * door. What ends is only the connection. 0 or -errno. */
MUST_CHECK int console_run(const char *path, const char *monitor, struct vm_error *err);

#endif
