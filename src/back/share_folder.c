/* Owns confinement: how a path becomes a descriptor.
 *   I1  A path is resolved from the folder's own descriptor down, with no "..", no link, symbolic or of /proc.
 *       [folder_find, folder_step]
 *   I2  What is done, is done to a descriptor: nobody can put another thing in its place meanwhile.
 *       A descriptor with O_PATH cannot be read, changed or linked to as it is: /proc/self/fd has the way to it. */
#define _GNU_SOURCE
#include "src/back/share_folder.h"
#include "core/hostfd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LOOK = O_PATH | O_NOFOLLOW | O_CLOEXEC };

int folder_open(struct folder *f, const char *dir, bool readonly)
{
    *f = (struct folder){ .root = -1, .proc = -1, .readonly = readonly };
    f->root = hostfd(open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC));
    struct stat st;
    if (f->root < 0) return -errno;
    f->proc = hostfd(open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (f->proc >= 0 && !fstat(f->root, &st)) {
        f->dev = st.st_dev;
        return 0;
    }
    int rc = -errno;
    folder_close(f);
    return rc;
}

void folder_close(struct folder *f)
{
    if (f->root >= 0) close(f->root);
    if (f->proc >= 0) close(f->proc);
    f->root = f->proc = -1;
}

/* ---- looking up ---- */

int folder_step(int dir, const char *name)
{
    int fd = hostfd(openat(dir, name, LOOK));
    return fd < 0 ? -errno : fd;
}

/* A component that is a link is one to nowhere, for what follows it. */
static int find_by_steps(int root, const char *path)
{
    int at = root;
    while (*path) {
        char name[NAME_MAX + 1];
        size_t n = strcspn(path, "/");
        if (n >= sizeof name) {
            if (at != root) close(at);
            return -ENAMETOOLONG;
        }
        memcpy(name, path, n);
        name[n] = 0;
        int next = folder_step(at, name);
        if (at != root) close(at);
        if (next < 0) return next;
        at = next;
        path += n + (path[n] == '/');
    }
    return at;
}

int folder_find(struct folder *f, const char *path)
{
    struct open_how how = { .flags = LOOK, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS };
    if (!*path) return folder_step(f->root, ".");
    if (!f->by_steps) {
        int fd = hostfd((int)syscall(SYS_openat2, f->root, path, &how, sizeof how));
        if (fd >= 0) return fd;
        if (errno != ENOSYS && errno != EPERM && errno != EAGAIN) return -errno;
        /* EAGAIN: somebody renames just now. */
        if (errno != EAGAIN) f->by_steps = true;
    }
    return find_by_steps(f->root, path);
}

/* ---- doing ---- */

struct proc_name {
    char text[16];
};
static struct proc_name proc_name(int fd)
{
    struct proc_name n;
    snprintf(n.text, sizeof n.text, "%d", fd);
    return n;
}

int folder_reopen(const struct folder *f, int fd, int flags)
{
    struct stat st;
    if (f->readonly && ((flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC)) return -EROFS;
    if (fstat(fd, &st)) return -errno;
    /* Whoever opens a FIFO or a device meets whatever is behind it. */
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) return S_ISLNK(st.st_mode) ? -ELOOP : -EOPNOTSUPP;
    int got = hostfd(openat(f->proc, proc_name(fd).text, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    return got < 0 ? -errno : got;
}

int folder_chmod(const struct folder *f, int fd, mode_t mode)
{
    struct stat st;
    if (fstat(fd, &st)) return -errno;
    if (S_ISLNK(st.st_mode)) return -EOPNOTSUPP;
    return fchmodat(f->proc, proc_name(fd).text, mode, 0) ? -errno : 0;
}

int folder_set_times(const struct folder *f, int fd, const struct timespec t[2])
{
    return utimensat(f->proc, proc_name(fd).text, t, 0) ? -errno : 0;
}

int folder_link(const struct folder *f, int fd, int dir, const char *name)
{
    return linkat(f->proc, proc_name(fd).text, dir, name, AT_SYMLINK_FOLLOW) ? -errno : 0;
}
