/* Owns the messages of 9P2000.L that make, move, read or remove names. Enter by the table in share_9p.c. */
#define _GNU_SOURCE
#include "src/back/share_priv.h"

#include "core/hostfd.h"

#include <stdio.h>
#include <string.h>

/* The process's umask may take bits away that the guest's has left: they are put back. */
mode_t share_mode(u32 mode) { return mode & 01777; }

static void mode_settle(struct share_session *s, int fd, const struct stat *st, u32 mode)
{
    if ((st->st_mode & 01777) != share_mode(mode))
        (void)!folder_chmod(&s->folder, fd, share_mode(mode) | (st->st_mode & S_ISGID));
}

/* A directory and a name in it, as messages have them. */
static int get_place(struct share_session *s, struct wire_in *in, struct fid **dir, int *fd)
{
    int rc;
    *dir = share_look(s, in, fd, &rc);
    wire_get_string(in, s->name, sizeof s->name);
    if (!*dir) return rc;
    return in->bad ? -EINVAL : share_name_is_fine(s->name) ? 0 : -EINVAL;
}

/* What has just been made, with the mode that it was to have; mode 0: whatever it has. */
static int put_made(struct share_session *s, int dir, const char *name, u32 mode, struct wire_out *out)
{
    struct stat st;
    int fd = folder_step(dir, name), rc = 0;
    if (fd < 0) return fd;
    if (fstat(fd, &st)) rc = -errno;
    if (!rc && mode && !S_ISLNK(st.st_mode)) mode_settle(s, fd, &st, mode);
    if (!rc) share_put_qid(s, out, &st);
    close(fd);
    return rc;
}

/* The file exists: it is opened as it is, if it is one that may be. */
static int open_existing(struct share_session *s, int dir, int flags)
{
    int fd = folder_step(dir, s->name);
    if (fd < 0) return fd;
    int io = folder_reopen(&s->folder, fd, flags);
    close(fd);
    return io;
}

/* The fid, a directory before, is the file afterwards. */
int share_lcreate(struct share_session *s, struct wire_in *in, struct wire_out *out)
{
    struct fid *f;
    struct stat st;
    int dir, rc = get_place(s, in, &f, &dir);
    int flags = share_flags(wire_get32(in)) & ~O_DIRECTORY;
    u32 mode = wire_get32(in);
    if (rc) return rc;
    if (in->bad) return -EINVAL;
    if (f->io >= 0) return -EBUSY;
    if (!fids_may_open(s->fids)) return -ENFILE;
    if ((rc = path_join(s->path, f->path, s->name))) return rc;
    int io =
        hostfd(openat(dir, s->name, flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, share_mode(mode)));
    bool made = io >= 0;
    if (!made && (errno != EEXIST || flags & O_EXCL)) return -errno;
    if (!made) io = open_existing(s, dir, flags);
    if (io < 0) return io;
    if (fstat(io, &st)) rc = -errno;
    if (!rc && made) mode_settle(s, io, &st, mode);
    if (!rc) rc = fids_move(s->fids, f, s->path, -1, &st);
    if (rc) {
        close(io);
        return rc;
    }
    share_put_qid(s, out, &st);
    wire_put(out, 0, 4);
    fids_open(s->fids, f, io, (u32)flags & ~(u32)(O_TRUNC | O_EXCL));
    return 0;
}

int share_mkdir(struct share_session *s, struct wire_in *in, struct wire_out *out)
{
    struct fid *f;
    int dir, rc = get_place(s, in, &f, &dir);
    u32 mode = wire_get32(in);
    if (rc) return rc;
    if (in->bad) return -EINVAL;
    if (mkdirat(dir, s->name, share_mode(mode))) return -errno;
    return put_made(s, dir, s->name, mode, out);
}

/* Devices are the host's business. */
int share_mknod(struct share_session *s, struct wire_in *in, struct wire_out *out)
{
    struct fid *f;
    int dir, rc = get_place(s, in, &f, &dir);
    u32 mode = wire_get32(in);
    (void)wire_get64(in); /* major and minor */
    if (rc) return rc;
    if (in->bad) return -EINVAL;
    if (!S_ISREG(mode) && !S_ISFIFO(mode) && !S_ISSOCK(mode)) return -EPERM;
    if (mknodat(dir, s->name, (mode & S_IFMT) | share_mode(mode), 0)) return -errno;
    return put_made(s, dir, s->name, mode, out);
}

int share_symlink(struct share_session *s, struct wire_in *in, struct wire_out *out)
{
    struct fid *f;
    int dir, rc = get_place(s, in, &f, &dir);
    wire_get_string(in, s->name2, sizeof s->name2);
    if (rc) return rc;
    if (in->bad) return -EINVAL;
    if (symlinkat(s->name2, dir, s->name)) return -errno;
    return put_made(s, dir, s->name, 0, out);
}

/* Where it leads is for the guest to find out. */
int share_readlink(struct share_session *s, struct wire_in *in, struct wire_out *out)
{
    int fd, rc;
    if (!share_look(s, in, &fd, &rc)) return rc;
    ssize_t n = readlinkat(fd, "", s->name, sizeof s->name - 1);
    if (n < 0) return errno == ENOENT ? -EINVAL : -errno; /* it is no link */
    s->name[n] = 0;
    wire_put_string(out, s->name);
    return 0;
}

int share_link(struct share_session *s, struct wire_in *in, struct wire_out *out UNUSED)
{
    int dir, fd, rc, rc2;
    const struct fid *to = share_look(s, in, &dir, &rc);
    const struct fid *f = share_look(s, in, &fd, &rc2);
    wire_get_string(in, s->name, sizeof s->name);
    if (!to || !f) return to ? rc2 : rc;
    if (in->bad || !share_name_is_fine(s->name)) return -EINVAL;
    return folder_link(&s->folder, fd, dir, s->name);
}

/* From s->path, the last name of which is in `from`, to s->name2 in directory `to`, whose path is to_path. */
static int rename_to(struct share_session *s, int from, const char *name, int to, const char *to_path)
{
    int rc = path_join(s->path2, to_path, s->name2);
    if (rc) return rc;
    if (renameat(from, name, to, s->name2)) return -errno;
    fids_renamed(s->fids, s->path, s->path2);
    return 0;
}

int share_renameat(struct share_session *s, struct wire_in *in, struct wire_out *out UNUSED)
{
    struct fid *from, *to;
    int fd, fd2, rc2, rc = get_place(s, in, &from, &fd);
    to = share_look(s, in, &fd2, &rc2);
    wire_get_string(in, s->name2, sizeof s->name2);
    if (rc) return rc;
    if (!to) return rc2;
    if (in->bad || !share_name_is_fine(s->name2)) return -EINVAL;
    rc = path_join(s->path, from->path, s->name);
    return rc ? rc : rename_to(s, fd, s->name, fd2, to->path);
}

/* The directory that a fid is in: a descriptor of its own, and the fid's name there, in s->name. s->path is the fid's.
 */
static int parent_of(struct share_session *s, const struct fid *f)
{
    strcpy(s->path, f->path);
    strcpy(s->path2, f->path);
    if (!path_split(s->path2, s->name)) return -EBUSY; /* the folder itself */
    return folder_find(&s->folder, s->path2);
}

int share_rename(struct share_session *s, struct wire_in *in, struct wire_out *out UNUSED)
{
    int fd2, rc, rc2;
    const struct fid *f = share_fid(s, in, &rc);
    const struct fid *to = share_look(s, in, &fd2, &rc2);
    wire_get_string(in, s->name2, sizeof s->name2);
    if (!f || !to) return f ? rc2 : rc;
    if (in->bad || !share_name_is_fine(s->name2)) return -EINVAL;
    int fd = parent_of(s, f);
    if (fd < 0) return fd;
    rc = rename_to(s, fd, s->name, fd2, to->path);
    close(fd);
    return rc;
}

int share_unlinkat(struct share_session *s, struct wire_in *in, struct wire_out *out UNUSED)
{
    enum { P9_REMOVEDIR = 0x200 };
    struct fid *f;
    int dir, rc = get_place(s, in, &f, &dir);
    u32 flags = wire_get32(in);
    if (rc) return rc;
    if (in->bad) return -EINVAL;
    return unlinkat(dir, s->name, flags & P9_REMOVEDIR ? AT_REMOVEDIR : 0) ? -errno : 0;
}

/* The fid is gone in any case. */
int share_remove(struct share_session *s, struct wire_in *in, struct wire_out *out UNUSED)
{
    struct stat st;
    int rc;
    struct fid *f = share_fid(s, in, &rc);
    if (!f) return rc;
    int dir = parent_of(s, f), fd = fids_look(s->fids, f);
    rc = dir < 0 ? dir : fd < 0 ? fd : 0;
    if (!rc && fstat(fd, &st)) rc = -errno;
    if (!rc && unlinkat(dir, s->name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0)) rc = -errno;
    if (dir >= 0) close(dir);
    fids_remove(s->fids, f);
    return rc;
}
