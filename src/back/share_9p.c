/* Owns what the messages of 9P2000.L mean, save those about names (share_names.c).
 *   I1  A message is copied before it is looked at: the guest may change it meanwhile.          [share_session_serve]
 *   I2  What a message says is used once it has been read to its end without lack.              [message_answer]
 *   I3  A folder that is shared to be read sees no message that changes it.                     [message_answer]
 * Owners are the host's: a file belongs to the user who runs this program, whoever makes it in the guest, and chown()
 * changes nothing. Set-user-ID and set-group-ID bits are left out, for the host would heed them.
 * Enter at share_session_serve(). The protocol: Plan 9's intro(5), and "9P2000.L" of the diod project. */
#define _GNU_SOURCE
#include "core/iov.h"
#include "core/snap.h"
#include "src/back/share_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { HEADER = 7, COUNT = 4, QID = 13 };
enum { R_LERROR = 7, T_READ = 116, T_WRITE = 118, WRITE_HEAD = HEADER + 4 + 8 + 4 };
enum { WALK_MAX = 16, MSIZE_MIN = 4096 };
#define MSIZE_MAX (512u << 10)
#define NO_FID UINT32_MAX
#define V9FS_MAGIC 0x01021997u

/* ---- parts of messages ---- */

struct fid *share_fid(struct share_session *s, struct wire_in *in, int *rc)
{
    struct fid *f = fids_get(s->fids, wire_get32(in));
    *rc = f ? 0 : -EBADF;
    return f;
}

struct fid *share_look(struct share_session *s, struct wire_in *in, int *fd, int *rc)
{
    struct fid *f = share_fid(s, in, rc);
    if (!f) return NULL;
    /* One that is open is there whatever its name is now. */
    *fd = f->io >= 0 ? f->io : fids_look(s->fids, f);
    *rc = *fd < 0 ? *fd : 0;
    return *rc ? NULL : f;
}

/* The path is a number that tells files apart: the inode, and what there is of other file systems below the folder. */
static u64 qid_path(const struct share_session *s, dev_t dev, ino_t ino)
{
    u64 other = dev != s->folder.dev ? (u64)dev * 0x9e3779b97f4a7c15ull : 0;
    return ino ^ (other & ~0xffffffffull);
}

void share_put_qid(const struct share_session *s, struct wire_out *out, const struct stat *st)
{
    wire_put(out, S_ISDIR(st->st_mode) ? 0x80 : S_ISLNK(st->st_mode) ? 0x02 : 0, 1);
    wire_put(out, (u32)(st->st_mtim.tv_sec ^ st->st_mtim.tv_nsec ^ st->st_size << 8), 4);
    wire_put(out, qid_path(s, st->st_dev, st->st_ino), 8);
}

int share_flags(u32 flags)
{
    /* 9P2000.L has Linux's numbers; of those that say more than how a file is accessed, what is safe. O_APPEND is not:
     * the guest writes back its pages in any order, at offsets that it knows. */
    enum { P9_EXCL = 0200, P9_TRUNC = 01000, P9_DSYNC = 010000, P9_DIRECTORY = 0200000, P9_SYNC = 04010000 };
    return (int)(flags & 3) | (flags & P9_TRUNC ? O_TRUNC : 0) | (flags & P9_DIRECTORY ? O_DIRECTORY : 0)
           | (flags & P9_EXCL ? O_EXCL : 0)
           | ((flags & P9_SYNC) == P9_SYNC ? O_SYNC
              : flags & P9_DSYNC           ? O_DSYNC
                                           : 0);
}

bool share_name_is_fine(const char *name)
{
    return *name && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..");
}

/* ---- the session ---- */

static int call_version(struct share_session *s, struct wire_in *in, struct wire_out *out)
{
    u32 msize = wire_get32(in);
    wire_get_string(in, s->name, sizeof s->name);
    if (in->bad || msize < MSIZE_MIN) return -EINVAL;
    share_session_clear(s);
    bool known = !strcmp(s->name, "9P2000.L");
    s->msize = known ? (msize < MSIZE_MAX ? msize : MSIZE_MAX) : 0;
    wire_put(out, known ? s->msize : msize, 4);
    wire_put_string(out, known ? s->name : "unknown");
    return 0;
}

static int call_auth(struct share_session *s UNUSED, struct wire_in *in UNUSED, struct wire_out *out UNUSED)
{
    return -EOPNOTSUPP; /* nobody has to prove who it is */
}

/* Whoever comes, and whichever tree it asks for: there is one. */
static int call_attach(struct share_session *s, struct wire_in *in, struct wire_out *out)
{
    u32 id = wire_get32(in), auth = wire_get32(in);
    struct stat st;
    wire_get_string(in, s->name, sizeof s->name);
    wire_get_string(in, s->name2, sizeof s->name2);
    if (in->bad || auth != NO_FID || id == NO_FID || !s->msize) return -EINVAL;
    int fd = folder_find(&s->folder, "");
    if (fd < 0) return fd;
    if (fstat(fd, &st)) {
        close(fd);
        return -EIO;
    }
    share_put_qid(s, out, &st);
    return fids_add(s->fids, id, "", fd, &st);
}

static int call_flush(struct share_session *s UNUSED, struct wire_in *in UNUSED, struct wire_out *out UNUSED)
{
    return 0; /* what was to be given up has been answered: messages are done one after another */
}

static int call_clunk(struct share_session *s, struct wire_in *in, struct wire_out *out UNUSED)
{
    int rc;
    struct fid *f = share_fid(s, in, &rc);
    if (f) fids_remove(s->fids, f);
    return rc;
}

/* One name further: *at is closed unless it is `borrowed`. s->path is what was walked. */
static int walk_step(struct share_session *s, int *at, int borrowed, struct stat *st)
{
    bool up = !strcmp(s->name, "..");
    int rc = 0, fd;
    if (up) {
        (void)path_split(s->path, s->name); /* above the folder there is the folder */
        fd = folder_find(&s->folder, s->path);
    } else {
        rc = share_name_is_fine(s->name) ? path_join(s->path, s->path, s->name) : -ENOENT;
        fd = rc ? rc : folder_step(*at, s->name);
    }
    if (fd >= 0 && fstat(fd, st)) {
        close(fd);
        fd = -EIO;
    }
    if (fd < 0) return fd;
    if (*at != borrowed) close(*at);
    *at = fd;
    return 0;
}

/* As far as the names go. Only if it is all the way there is a fid for what was found. */
static int call_walk(struct share_session *s, struct wire_in *in, struct wire_out *out)
{
    int rc, borrowed, at;
    struct fid *from = share_fid(s, in, &rc);
    u32 id = wire_get32(in);
    u16 n = wire_get16(in), done = 0;
    struct stat st = { 0 };
    if (!from) return rc;
    if (n > WALK_MAX || in->bad || id == NO_FID) return -EINVAL;
    if (id == from->id && from->io >= 0) return -EBUSY; /* it is open */
    if (id != from->id && fids_get(s->fids, id)) return -EEXIST;
    strcpy(s->path, from->path);
    const u32 count = out->n;
    wire_put(out, 0, 2);
    if (!n) {
        st.st_dev = from->dev;
        st.st_ino = from->ino;
        return id == from->id ? 0 : fids_add(s->fids, id, s->path, -1, &st);
    }
    borrowed = at = fids_look(s->fids, from);
    if (at < 0) return at;
    for (rc = 0; done < n && !rc; done += !rc) {
        wire_get_string(in, s->name, sizeof s->name);
        rc = in->bad ? -EINVAL : walk_step(s, &at, borrowed, &st);
        if (!rc) share_put_qid(s, out, &st);
    }
    wire_patch(out, count, done, 2);
    if (done == n && id == from->id) return fids_move(s->fids, from, s->path, at, &st);
    if (done == n) return fids_add(s->fids, id, s->path, at, &st);
    if (at != borrowed) close(at);
    return done ? 0 : rc;
}

/* ---- what files are like ---- */

static int call_statfs(struct share_session *s, struct wire_in *in, struct wire_out *out)
{
    struct statfs st;
    int rc, fd;
    if (!share_look(s, in, &fd, &rc)) return rc;
    if (fstatfs(fd, &st)) return -errno;
    wire_put(out, V9FS_MAGIC, 4);
    wire_put(out, (u32)st.f_bsize, 4);
    wire_put(out, st.f_blocks, 8);
    wire_put(out, st.f_bfree, 8);
    wire_put(out, st.f_bavail, 8);
    wire_put(out, st.f_files, 8);
    wire_put(out, st.f_ffree, 8);
    wire_put(out, (u32)st.f_fsid.__val[0] | (u64)(u32)st.f_fsid.__val[1] << 32, 8);
    wire_put(out, NAME_MAX, 4);
    return 0;
}

static void put_time(struct wire_out *out, const struct timespec *t)
{
    wire_put(out, (u64)t->tv_sec, 8);
    wire_put(out, (u64)t->tv_nsec, 8);
}

static int call_getattr(struct share_session *s, struct wire_in *in, struct wire_out *out)
{
    enum { BASIC = 0x7ff }; /* all but the time of birth and a generation */
    static const struct timespec none;
    struct stat st;
    int rc, fd;
    if (!share_look(s, in, &fd, &rc)) return rc;
    if (fstat(fd, &st)) return -errno;
    wire_put(out, BASIC, 8);
    share_put_qid(s, out, &st);
    wire_put(out, st.st_mode, 4);
    wire_put(out, st.st_uid, 4);
    wire_put(out, st.st_gid, 4);
    wire_put(out, st.st_nlink, 8);
    wire_put(out, st.st_rdev, 8);
    wire_put(out, (u64)st.st_size, 8);
    wire_put(out, (u64)st.st_blksize, 8);
    wire_put(out, (u64)st.st_blocks, 8);
    put_time(out, &st.st_atim);
    put_time(out, &st.st_mtim);
    put_time(out, &st.st_ctim);
    put_time(out, &none);
    wire_put(out, 0, 8);
    wire_put(out, 0, 8);
    return 0;
}

enum { SET_MODE = 1, SET_SIZE = 8, SET_ATIME = 0x10, SET_MTIME = 0x20, ATIME_GIVEN = 0x80, MTIME_GIVEN = 0x100 };

static int size_set(struct share_session *s, const struct fid *f, int fd, u64 size)
{
    if (size > INT64_MAX) return -EFBIG;
    if (f->io >= 0 && (f->flags & O_ACCMODE) != O_RDONLY) return ftruncate(f->io, (off_t)size) ? -errno : 0;
    int io = folder_reopen(&s->folder, fd, O_WRONLY);
    if (io < 0) return io;
    int rc = ftruncate(io, (off_t)size) ? -errno : 0;
    close(io);
    return rc;
}

static int call_setattr(struct share_session *s, struct wire_in *in, struct wire_out *out UNUSED)
{
    int rc, fd;
    struct fid *f = share_look(s, in, &fd, &rc);
    u32 valid = wire_get32(in), mode = wire_get32(in);
    (void)wire_get64(in); /* owner and group */
    u64 size = wire_get64(in);
    struct timespec t[2];
    for (unsigned i = 0; i < 2; i++) {
        t[i].tv_sec = (time_t)wire_get64(in);
        t[i].tv_nsec = (long)wire_get64(in);
        if (!(valid & (i ? SET_MTIME : SET_ATIME))) t[i].tv_nsec = UTIME_OMIT;
        else if (!(valid & (i ? MTIME_GIVEN : ATIME_GIVEN))) t[i].tv_nsec = UTIME_NOW;
        else if (t[i].tv_nsec < 0 || t[i].tv_nsec > 999999999) in->bad = true;
    }
    if (!f) return rc;
    if (in->bad) return -EINVAL;
    if (valid & SET_MODE) rc = folder_chmod(&s->folder, fd, share_mode(mode));
    if (!rc && valid & SET_SIZE) rc = size_set(s, f, fd, size);
    if (!rc && valid & (SET_ATIME | SET_MTIME)) rc = folder_set_times(&s->folder, fd, t);
    return rc;
}

static int call_xattr(struct share_session *s UNUSED, struct wire_in *in UNUSED, struct wire_out *out UNUSED)
{
    return -EOPNOTSUPP;
}

/* ---- open files ---- */

static int call_lopen(struct share_session *s, struct wire_in *in, struct wire_out *out)
{
    struct stat st;
    int rc;
    struct fid *f = share_fid(s, in, &rc);
    int flags = share_flags(wire_get32(in)) & ~O_EXCL;
    if (!f) return rc;
    if (in->bad) return -EINVAL;
    if (f->io >= 0) return -EBUSY;
    if (!fids_may_open(s->fids)) return -ENFILE;
    int fd = fids_look(s->fids, f);
    if (fd < 0) return fd;
    int io = folder_reopen(&s->folder, fd, flags);
    if (io < 0) return io;
    fids_open(s->fids, f, io, (u32)flags & ~(u32)O_TRUNC);
    if (fstat(io, &st)) return -errno;
    share_put_qid(s, out, &st);
    wire_put(out, 0, 4); /* any number of bytes at a time */
    return 0;
}

static struct fid *open_fid(struct share_session *s, struct wire_in *in, int *rc)
{
    struct fid *f = share_fid(s, in, rc);
    if (f && f->io >= 0) return f;
    *rc = -EBADF;
    return NULL;
}

/* Straight into the guest's memory, behind the answer's header. */
static int call_read(struct share_session *s, struct wire_in *in, struct wire_out *out)
{
    const struct sharedev_req *r = s->req;
    int rc;
    struct fid *f = open_fid(s, in, &rc);
    u64 off = wire_get64(in);
    u32 count = wire_get32(in), head = HEADER + COUNT, room = r->in_len < s->msize ? r->in_len : s->msize;
    if (!f) return rc;
    if (in->bad || off > INT64_MAX || room < head) return -EINVAL;
    if (count > room - head) count = room - head;
    unsigned n = r->nin < SHARE_PIECES ? r->nin : SHARE_PIECES;
    n = iov_slice(s->piece, r->in, n, head, count);
    ssize_t got = count ? preadv(f->io, s->piece, (int)n, (off_t)off) : 0;
    if (got < 0) return -errno;
    wire_put(out, (u64)got, COUNT);
    s->moved = (u32)got;
    return 0;
}

static int call_write(struct share_session *s, struct wire_in *in, struct wire_out *out)
{
    const struct sharedev_req *r = s->req;
    int rc;
    struct fid *f = open_fid(s, in, &rc);
    u64 off = wire_get64(in);
    u32 count = wire_get32(in);
    if (!f) return rc;
    if (in->bad || off > INT64_MAX || count > r->out_len - WRITE_HEAD) return -EINVAL;
    unsigned n = r->nout < SHARE_PIECES ? r->nout : SHARE_PIECES;
    n = iov_slice(s->piece, r->out, n, WRITE_HEAD, count);
    ssize_t put = count ? pwritev(f->io, s->piece, (int)n, (off_t)off) : 0;
    if (put < 0) return -errno;
    wire_put(out, (u64)put, COUNT);
    return 0;
}

/* As many of the host's entries as fit, of those from the place on that the guest has seen last. */
static int entries_put(struct share_session *s, struct fid *f, u32 room, struct wire_out *out)
{
    enum { ENTRY = QID + 8 + 1 + 2, HOST_HEAD = offsetof(struct dirent64, d_name) };
    struct stat st;
    u8 host[0x4000];
    u32 had = out->n;
    if (fstat(f->io, &st)) return -errno;
    for (;;) {
        long got = syscall(SYS_getdents64, f->io, host, sizeof host);
        if (got < 0) return out->n > had ? 0 : -errno;
        if (!got) return 0;
        for (long at = 0; at < got;) {
            const struct dirent64 *d = (const struct dirent64 *)(host + at);
            u32 n = (u32)strlen(d->d_name);
            if (out->n - had + ENTRY + n > room) return out->n > had ? 0 : -EINVAL;
            wire_put(out, d->d_type == DT_DIR ? 0x80 : d->d_type == DT_LNK ? 0x02 : 0, 1);
            wire_put(out, 0, 4);
            wire_put(out, qid_path(s, st.st_dev, d->d_ino), 8);
            wire_put(out, (u64)d->d_off, 8);
            wire_put(out, d->d_type, 1);
            wire_put_string(out, d->d_name);
            at += d->d_reclen;
        }
    }
}

static int call_readdir(struct share_session *s, struct wire_in *in, struct wire_out *out)
{
    int rc;
    struct fid *f = open_fid(s, in, &rc);
    u64 off = wire_get64(in);
    u32 count = wire_get32(in), room = s->msize < out->room ? s->msize : out->room;
    if (!f) return rc;
    if (in->bad || off > INT64_MAX || room < out->n + COUNT) return -EINVAL;
    room -= out->n + COUNT;
    if (lseek(f->io, (off_t)off, SEEK_SET) < 0) return -errno;
    wire_put(out, 0, COUNT);
    const u32 at = out->n;
    rc = entries_put(s, f, count < room ? count : room, out);
    if (rc) return rc;
    wire_patch(out, at - COUNT, out->n - at, COUNT);
    return 0;
}

static int call_fsync(struct share_session *s, struct wire_in *in, struct wire_out *out UNUSED)
{
    int rc;
    const struct fid *f = open_fid(s, in, &rc);
    bool data_only = in->left >= 4 && wire_get32(in);
    if (!f) return rc;
    if (data_only ? fdatasync(f->io) : fsync(f->io))
        return errno == EINVAL ? 0 : -errno; /* EINVAL: no disk behind it */
    return 0;
}

/* ---- locks ----
 * The guest's kernel has sorted out its own processes before it asks: what it wants to know is whether somebody outside
 * has the file. Locks belong to the fid's open file. */

enum { LOCK_SUCCESS, LOCK_BLOCKED, LOCK_ERROR };

/* false: the range is none. */
static bool get_lock(struct wire_in *in, struct flock *l)
{
    u8 type = wire_get8(in);
    *l = (struct flock){ .l_type = type == 0 ? F_RDLCK : type == 1 ? F_WRLCK : F_UNLCK, .l_whence = SEEK_SET };
    return type <= 2;
}

static bool get_range(struct wire_in *in, struct flock *l)
{
    u64 start = wire_get64(in), len = wire_get64(in);
    l->l_start = (off_t)start;
    l->l_len = (off_t)len;
    return start <= INT64_MAX && len <= INT64_MAX && start + len <= INT64_MAX;
}

static int call_lock(struct share_session *s, struct wire_in *in, struct wire_out *out)
{
    struct flock l;
    int rc, status = LOCK_SUCCESS;
    struct fid *f = open_fid(s, in, &rc);
    bool fine = get_lock(in, &l);
    (void)wire_get32(in); /* whether it would wait: it asks again */
    fine &= get_range(in, &l);
    (void)wire_get32(in);
    wire_get_string(in, s->name, sizeof s->name);
    if (!f) return rc;
    if (in->bad || !fine) return -EINVAL;
    if (!fcntl(f->io, F_OFD_SETLK, &l)) f->locked |= l.l_type != F_UNLCK;
    else if (errno != EAGAIN && errno != EACCES) status = LOCK_ERROR;
    else if (!fids_locked_by_other(s->fids, f)) status = LOCK_BLOCKED; /* else it is the guest's, which has asked it */
    wire_put(out, (u64)status, 1);
    return 0;
}

static int call_getlock(struct share_session *s, struct wire_in *in, struct wire_out *out)
{
    struct flock l;
    int rc;
    struct fid *f = open_fid(s, in, &rc);
    bool fine = get_lock(in, &l) && get_range(in, &l);
    u32 process = wire_get32(in);
    wire_get_string(in, s->name, sizeof s->name);
    if (!f) return rc;
    if (in->bad || !fine || l.l_type == F_UNLCK) return -EINVAL;
    if (fcntl(f->io, F_OFD_GETLK, &l)) return -errno;
    if (l.l_type != F_UNLCK) process = l.l_pid > 0 ? (u32)l.l_pid : 0;
    wire_put(out, l.l_type == F_RDLCK ? 0 : l.l_type == F_WRLCK ? 1 : 2, 1);
    wire_put(out, (u64)l.l_start, 8);
    wire_put(out, (u64)l.l_len, 8);
    wire_put(out, process, 4);
    wire_put_string(out, s->name);
    return 0;
}

/* ---- messages ---- */

/* clang-format off */
static const struct call {
    share_call_fn *fn;
    bool changes; /* the folder */
} calls[128] = {
    [8] = { call_statfs, false },     [12] = { call_lopen, false },      [14] = { share_lcreate, true },
    [16] = { share_symlink, true },   [18] = { share_mknod, true },      [20] = { share_rename, true },
    [22] = { share_readlink, false }, [24] = { call_getattr, false },    [26] = { call_setattr, true },
    [30] = { call_xattr, false },     [32] = { call_xattr, true },       [40] = { call_readdir, false },
    [50] = { call_fsync, false },     [52] = { call_lock, false },       [54] = { call_getlock, false },
    [70] = { share_link, true },      [72] = { share_mkdir, true },      [74] = { share_renameat, true },
    [76] = { share_unlinkat, true },  [100] = { call_version, false },   [102] = { call_auth, false },
    [104] = { call_attach, false },   [108] = { call_flush, false },     [110] = { call_walk, false },
    [T_READ] = { call_read, false },  [T_WRITE] = { call_write, true },  [120] = { call_clunk, false },
    [122] = { share_remove, true },
};
/* clang-format on */

/* Of size bytes, the first `have` of which are in s->message. The body of the answer, or -errno. */
static int message_answer(struct share_session *s, u8 type, u32 size, u32 have, struct wire_out *out)
{
    const struct call *c = type < ARRAY_LEN(calls) ? &calls[type] : NULL;
    struct wire_in in = { s->message + HEADER, have - HEADER, false };
    s->moved = 0;
    if (!c || !c->fn) return -EOPNOTSUPP;
    if (have < size && type != T_WRITE) return -EMSGSIZE;
    if (c->changes && s->folder.readonly) return -EROFS;
    int rc = c->fn(s, &in, out);
    if (!rc && in.bad) rc = -EINVAL;
    if (!rc && out->full) rc = -EMSGSIZE;
    return rc;
}

static void header_put(u8 *p, u32 size, u8 type, const u8 tag[2])
{
    for (unsigned i = 0; i < 4; i++) p[i] = (u8)(size >> 8 * i);
    p[4] = type;
    memcpy(p + 5, tag, 2);
}

void share_session_serve(struct share_session *s, struct sharedev_req *r)
{
    u32 max = r->out_len < sizeof s->message ? r->out_len : (u32)sizeof s->message;
    u32 room = r->in_len < sizeof s->answer ? r->in_len : (u32)sizeof s->answer;
    u32 have = (u32)iov_read(r->out, r->nout, 0, s->message, max), size;
    struct wire_in head = { s->message, have, false };
    r->written = 0;
    size = wire_get32(&head);
    const u8 type = wire_get8(&head), tag[2] = { wire_get8(&head), wire_get8(&head) };
    if (head.bad || room < HEADER + 4) return;
    if (have > size) have = size;
    struct wire_out out = { s->answer, HEADER, room, false };
    s->req = r;
    int rc = size < HEADER || size > r->out_len ? -EINVAL : message_answer(s, type, size, have, &out);
    u8 answer = (u8)(type + 1);
    if (rc) {
        out = (struct wire_out){ s->answer, HEADER, room, false };
        s->moved = 0;
        wire_put(&out, (u32)-rc, 4);
        answer = R_LERROR;
    }
    r->written = out.n + s->moved;
    header_put(s->answer, r->written, answer, tag);
    iov_write(r->in, r->nin, 0, s->answer, out.n);
}

/* ---- life ---- */

int share_session_new(struct share_session **out, const char *dir, bool readonly, unsigned descriptors)
{
    struct share_session *s = calloc(1, sizeof *s);
    if (!s) return -ENOMEM;
    int rc = folder_open(&s->folder, dir, readonly);
    if (!rc && !(s->fids = fids_new(&s->folder, descriptors))) rc = -ENOMEM;
    if (rc) share_session_free(s);
    else *out = s;
    return rc;
}

void share_session_free(struct share_session *s)
{
    if (!s) return;
    fids_free(s->fids);
    folder_close(&s->folder);
    free(s);
}

void share_session_clear(struct share_session *s)
{
    fids_clear(s->fids);
    s->msize = 0;
}

void share_session_save(const struct share_session *s, struct byte_queue *to)
{
    to->head = to->len = 0;
    if (!s->msize) return;
    if (!byte_queue_put(to, (const u8 *)&s->msize, sizeof s->msize, SHARE_STATE_MAX) || !fids_save(s->fids, to))
        to->len = 0;
}

void share_session_load(struct share_session *s, const struct byte_queue *from)
{
    const u32 head = sizeof s->msize;
    share_session_clear(s);
    if (from->len < head || from->head) return;
    memcpy(&s->msize, from->data, head);
    bool sane = s->msize >= MSIZE_MIN && s->msize <= MSIZE_MAX;
    if (!sane || fids_load(s->fids, from->data + head, from->len - head)) share_session_clear(s);
}
