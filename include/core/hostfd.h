/* Descriptors of our own are never 0 to 2: if standard output is closed, what somebody prints must not land in the
 * guest's memory. Whoever opens something that outlives the call passes it through here. */
#ifndef CORE_HOSTFD_H
#define CORE_HOSTFD_H
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* Takes what open(2) or the like returned, and returns the same or a duplicate above 2, to be closed on exec. -1 with
 * errno if there was none, or there is no descriptor left. */
static inline int hostfd(int fd)
{
    if (fd < 0 || fd > 2) return fd;
    int above = fcntl(fd, F_DUPFD_CLOEXEC, 3), err = errno;
    close(fd);
    errno = err;
    return above;
}

#endif
