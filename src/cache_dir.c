/* Owns the files with translated code: their names, whether they are to be trusted, and their number.
 *   I1  a file appears under its name complete: it is written under another, and renamed.          [cache_dir_save]
 *   I2  nothing is opened through a symbolic link, and what is judged is what has been opened.     [file_check]
 *   I3  there are at most FILES_MAX files, each of at most FILE_BYTES_MAX.                         [prune]
 * A file that is torn all the same (the host lost power) is found out by its hash, so none is synchronised. */
#define _GNU_SOURCE
#include "src/cache_dir.h"
#include "core/hostfd.h"
#include "runtime/runtime.h"
#include "src/error.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILE_BYTES_MAX ((u64)64 << 20)
#define FILES_MAX 8
#define STALE_SECONDS 60 /* a file that has been written for so long is nobody's any more */

struct cache_dir {
    int fd;
    char *path;
};

struct file_name {
    char text[40];
};

static struct file_name name_of(u64 key, const char *suffix)
{
    struct file_name n;
    snprintf(n.text, sizeof n.text, "templates-%016llx%s", (unsigned long long)key, suffix);
    return n;
}

static bool is_ours(const char *name)
{
    return !strncmp(name, "templates-", 10) && strlen(name) == 26 && strspn(name + 10, "0123456789abcdef") == 16;
}

int cache_dir_open(struct cache_dir **out, const char *path, struct vm_error *err)
{
    struct cache_dir *d = calloc(1, sizeof *d);
    if (!d || !(d->path = strdup(path))) {
        free(d);
        return vm_fail(err, -ENOMEM, "cache %s: out of memory", path);
    }
    d->fd = hostfd(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (d->fd < 0 && errno == ENOENT && !mkdir(path, 0700))
        d->fd = hostfd(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (d->fd < 0 || faccessat(d->fd, ".", R_OK | W_OK | X_OK, AT_EACCESS)) {
        int rc = vm_fail(err, -errno, "cache %s: %s", path, strerror(errno));
        cache_dir_close(d);
        return rc;
    }
    *out = d;
    return 0;
}

void cache_dir_close(struct cache_dir *d)
{
    if (!d) return;
    if (d->fd >= 0) close(d->fd);
    free(d->path);
    free(d);
}

/* ---- loading ---- */

/* NULL, or why the file must not be taken. */
static const char *file_check(int fd, u64 *len)
{
    struct stat st;
    if (fstat(fd, &st)) return strerror(errno);
    if (!S_ISREG(st.st_mode)) return "is not a regular file";
    if (st.st_uid != geteuid()) return "belongs to another user";
    if (st.st_mode & (S_IWGRP | S_IWOTH)) return "may be written to by others";
    if ((u64)st.st_size > FILE_BYTES_MAX) return "is larger than any of ours";
    *len = (u64)st.st_size;
    return NULL;
}

int cache_dir_load(struct cache_dir *d, struct rt *rt, struct vm_error *err)
{
    u64 key, len = 0;
    if (!rt_templates_key(rt, &key)) return 0;
    struct file_name name = name_of(key, "");
    int fd = hostfd(openat(d->fd, name.text, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)); /* O_NONBLOCK: were it a
                                                                                                  pipe */
    if (fd < 0 && errno == ENOENT) return 0;
    const char *wrong = fd >= 0 ? file_check(fd, &len) : errno == ELOOP ? "is a symbolic link" : strerror(errno);
    if (!wrong) wrong = rt_templates_load(rt, fd, len);
    if (!wrong) (void)futimens(fd, NULL); /* for prune() */
    if (fd >= 0) close(fd);
    return wrong ? vm_fail(err, -EBADMSG, "cache %s/%s: %s; ignored", d->path, name.text, wrong) : 0;
}

/* ---- saving ---- */

/* The name of the oldest, if there are more than there may be. */
static bool one_too_many(const struct cache_dir *d, struct file_name *oldest)
{
    unsigned count = 0;
    struct timespec least = { 0 };
    int fd = hostfd(openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) return fd >= 0 && close(fd) && false;
    for (struct dirent *e; (e = readdir(dir));) {
        struct stat st;
        if (!is_ours(e->d_name) || fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW)) continue;
        bool older = st.st_mtim.tv_sec < least.tv_sec
                     || (st.st_mtim.tv_sec == least.tv_sec && st.st_mtim.tv_nsec < least.tv_nsec);
        if (count++ && !older) continue;
        least = st.st_mtim;
        memcpy(oldest->text, e->d_name, strlen(e->d_name) + 1);
    }
    closedir(dir);
    return count > FILES_MAX;
}

static void prune(const struct cache_dir *d)
{
    struct file_name oldest;
    while (one_too_many(d, &oldest))
        if (unlinkat(d->fd, oldest.text, 0)) return;
}

/* A file to write to. -EEXIST: another process is at it. */
static int create_new(const struct cache_dir *d, const char *name)
{
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    struct stat st;
    int fd = hostfd(openat(d->fd, name, flags, 0600));
    if (fd < 0 && errno == EEXIST && !fstatat(d->fd, name, &st, AT_SYMLINK_NOFOLLOW)
        && st.st_mtime + STALE_SECONDS < time(NULL)) {
        if (!unlinkat(d->fd, name, 0)) fd = hostfd(openat(d->fd, name, flags, 0600));
    }
    return fd < 0 ? -errno : fd;
}

static int write_new(const struct cache_dir *d, const struct rt *rt, const char *name)
{
    int fd = create_new(d, name);
    if (fd < 0) return fd;
    int rc = rt_templates_save(rt, fd, FILE_BYTES_MAX);
    if (close(fd) && !rc) rc = -errno;
    if (rc) (void)unlinkat(d->fd, name, 0);
    return rc;
}

int cache_dir_save(struct cache_dir *d, struct rt *rt, struct vm_error *err)
{
    u64 key;
    if (!rt_templates_key(rt, &key) || !rt_templates_changed(rt)) return 0;
    struct file_name name = name_of(key, ""), fresh = name_of(key, ".new");
    int rc = write_new(d, rt, fresh.text);
    if (rc == -EEXIST) return 0; /* what that one has will do as well */
    if (!rc && renameat(d->fd, fresh.text, d->fd, name.text)) {
        rc = -errno;
        (void)unlinkat(d->fd, fresh.text, 0);
    }
    if (rc) return vm_fail(err, rc, "cache %s/%s: not saved: %s", d->path, name.text, strerror(-rc));
    prune(d);
    return 0;
}
