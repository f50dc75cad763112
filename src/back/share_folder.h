/* A folder of the host's that nothing gets out of: names are looked up below it and never by a symbolic link, whatever
 * other processes do to it meanwhile. All calls return -errno when they fail. */
#ifndef SRC_SHARE_FOLDER_H
#define SRC_SHARE_FOLDER_H
#include "core/types.h"

#include <sys/stat.h>
#include <time.h>

struct folder {
    int root;      /* O_PATH */
    dev_t dev;     /* its file system */
    int proc;      /* /proc/self/fd: by which what is open with O_PATH is opened */
    bool readonly; /* nothing is opened to be written to */
    bool by_steps; /* openat2() is refused here (Linux before 5.6, some containers): one component at a time */
};

/* dir: whatever its name leads to, by links too. 0 or -errno. */
MUST_CHECK int folder_open(struct folder *f, const char *dir, bool readonly);
void folder_close(struct folder *f);

/* A descriptor (O_PATH) of what has that path below the folder, "" being the folder; of a symbolic link itself. Paths
 * are names with single slashes between them, none of them "." or "..". */
int folder_find(struct folder *f, const char *path);
/* The same of one name in a directory. */
int folder_step(int dir, const char *name);
/* Opens the very thing that fd is, a regular file or a directory: else -EOPNOTSUPP. -EROFS: see readonly. */
int folder_reopen(const struct folder *f, int fd, int flags);
int folder_chmod(const struct folder *f, int fd, mode_t mode);
int folder_set_times(const struct folder *f, int fd, const struct timespec t[2]);
int folder_link(const struct folder *f, int fd, int dir, const char *name); /* of the very thing that fd is */

#endif
