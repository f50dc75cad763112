/* Listening sockets, by the addresses that users give. */
#ifndef SRC_LISTEN_H
#define SRC_LISTEN_H
#include "core/types.h"
#include "transvisor/vm.h"

/* A socket that does not block, above descriptor 2, or -errno; an error begins with what. -EINVAL: the address is none.
 *
 * [ADDRESS:]PORT: an address in numbers (one of version 6 stands in brackets), or localhost. Who names none listens on
 * the loopback alone. */
MUST_CHECK int listen_tcp(const char *address, const char *what, struct vm_error *err);
/* A name left behind by a dead process is taken over. */
MUST_CHECK int listen_unix(const char *path, const char *what, struct vm_error *err);
/* Closes it and removes its name. fd may be -1. */
void listen_unix_close(int fd, const char *path);

#endif
