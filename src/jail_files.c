/* Owns what we need of Landlock: its three system calls, which Debian 12's libc does not have, and its rights up to
 * version 6, of which its headers have half. Linux, Documentation/userspace-api/landlock.rst. */
#define _GNU_SOURCE
#include "src/jail_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CREATE_RULESET 444
#define ADD_RULE 445
#define RESTRICT_SELF 446
#define CREATE_VERSION 1u
#define RULE_PATH_BENEATH 1u

enum {
    FS_EXECUTE = 1 << 0,
    FS_WRITE_FILE = 1 << 1,
    FS_READ_FILE = 1 << 2,
    FS_READ_DIR = 1 << 3,
    FS_REMOVE_DIR = 1 << 4,
    FS_REMOVE_FILE = 1 << 5,
    FS_MAKE_DIR = 1 << 7,
    FS_MAKE_REG = 1 << 8,
    FS_MAKE_SOCK = 1 << 9,
    FS_MAKE_FIFO = 1 << 10,
    FS_MAKE_SYM = 1 << 12,
    FS_VERSION_1 = (1 << 13) - 1,
    FS_REFER = 1 << 13,    /* 2 */
    FS_TRUNCATE = 1 << 14, /* 3 */
    FS_IOCTL = 1 << 15,    /* 5 */
    FS_TREE = FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR | FS_MAKE_REG | FS_MAKE_SOCK | FS_MAKE_FIFO | FS_MAKE_SYM
              | FS_REFER,
    FS_OF_FILE = FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL,
    NET_TCP = 3,        /* 4: bind, connect */
    SCOPE_ABSTRACT = 1, /* 6: sockets of the abstract name space */
    SCOPE_SIGNAL = 2
};

struct ruleset {
    u64 fs, net, scope;
};
struct path_rule {
    u64 access;
    s32 parent;
} __attribute__((packed));

int jail_files_version(void)
{
    long v = syscall(CREATE_RULESET, NULL, 0, CREATE_VERSION);
    return v < 0 ? 0 : (int)v;
}

static u64 rights_known(int version)
{
    return FS_VERSION_1 | (version >= 2 ? FS_REFER : 0) | (version >= 3 ? FS_TRUNCATE : 0)
           | (version >= 5 ? FS_IOCTL : 0);
}

int jail_files_new(const struct jail_files_config *cfg)
{
    int version = jail_files_version();
    if (!version) return -ENOSYS;
    const struct ruleset r = { .fs = rights_known(version),
                               .net = version >= 4 && !cfg->tcp ? NET_TCP : 0,
                               .scope = version >= 6 ? SCOPE_ABSTRACT | (cfg->signals ? 0 : SCOPE_SIGNAL) : 0 };
    size_t size = version >= 6 ? sizeof r : version >= 4 ? 2 * sizeof(u64) : sizeof(u64);
    long fd = syscall(CREATE_RULESET, &r, size, 0);
    return fd < 0 ? -errno : (int)fd;
}

int jail_files_add(int set, const char *path, unsigned access)
{
    struct stat st;
    u64 rights = (access & JAIL_READ ? FS_READ_FILE : 0) | (access & JAIL_WRITE ? FS_WRITE_FILE | FS_TRUNCATE : 0)
                 | (access & JAIL_MAKE ? FS_MAKE_REG | FS_MAKE_SOCK : 0) | (access & JAIL_REMOVE ? FS_REMOVE_FILE : 0)
                 | (access & JAIL_LIST ? FS_READ_DIR : 0) | (access & JAIL_TREE ? FS_TREE : 0);
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT ? 0 : -errno;
    int rc = fstat(fd, &st) ? -errno : 0;
    if (!S_ISDIR(st.st_mode)) rights &= FS_OF_FILE;
    const struct path_rule rule = { rights & rights_known(jail_files_version()), fd };
    if (!rc && rule.access && syscall(ADD_RULE, set, RULE_PATH_BENEATH, &rule, 0)) rc = -errno;
    close(fd);
    return rc;
}

int jail_files_add_folder_of(int set, const char *path, unsigned access)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    int rc = folder ? jail_files_add(set, folder, access) : -ENOMEM;
    free(folder);
    return rc;
}

int jail_files_enter(int set) { return syscall(RESTRICT_SELF, set, 0) ? -errno : 0; }
