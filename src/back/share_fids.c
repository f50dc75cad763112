/* Owns the table of fids and their descriptors.
 *   I1  A fid is a file: by device and inode. Its path is how that is found again once its descriptor has been closed;
 *       if another file has the path then, the fid is stale.                                             [fids_look]
 *   I2  Of descriptors with O_PATH those that were used last are kept, at most look_max; at most open_max are open.
 *       [look_keep, fids_may_open]
 *   I3  The bytes of all paths are at most FIDS_PATHS_MAX, the fids FIDS_MAX: a guest cannot take more. [path_set] */
#define _GNU_SOURCE
#include "src/back/share_fids.h"
#include "core/sharedev.h"
#include "core/snap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHAINS 1024u

struct fids {
    struct folder *folder;
    struct fid *chain[CHAINS];
    struct fid *last, *first; /* of those with fd >= 0: by when they were used */
    unsigned n, looks, look_max, opens, open_max;
    size_t paths; /* bytes */
};

/* ---- paths ---- */

int path_join(char out[PATH_MAX], const char *dir, const char *name)
{
    size_t d = strlen(dir), n = strlen(name), at = d ? d + 1 : 0;
    if (at + n >= PATH_MAX) return -ENAMETOOLONG;
    memmove(out, dir, d); /* it may be the same */
    if (d) out[d] = '/';
    memcpy(out + at, name, n + 1);
    return 0;
}

bool path_split(char *path, char *name)
{
    char *slash = strrchr(path, '/');
    if (!*path) return false;
    strcpy(name, slash ? slash + 1 : path);
    *(slash ? slash : path) = 0;
    return true;
}

static int path_set(struct fids *all, struct fid *f, const char *path)
{
    size_t had = f->path ? strlen(f->path) : 0, n = strlen(path);
    if (all->paths - had + n > FIDS_PATHS_MAX) return -ENFILE;
    char *copy = strdup(path);
    if (!copy) return -ENOMEM;
    all->paths += n - had;
    free(f->path);
    f->path = copy;
    return 0;
}

/* ---- descriptors ---- */

static void look_unlink(struct fids *all, struct fid *f)
{
    *(f->before ? &f->before->after : &all->first) = f->after;
    *(f->after ? &f->after->before : &all->last) = f->before;
}

static void look_link(struct fids *all, struct fid *f)
{
    f->before = all->last;
    f->after = NULL;
    *(all->last ? &all->last->after : &all->first) = f;
    all->last = f;
}

static void look_drop(struct fids *all, struct fid *f)
{
    if (f->fd < 0) return;
    look_unlink(all, f);
    close(f->fd);
    f->fd = -1;
    all->looks--;
}

static void look_keep(struct fids *all, struct fid *f, int fd)
{
    look_drop(all, f);
    if (fd < 0) return;
    if (all->looks == all->look_max) look_drop(all, all->first);
    f->fd = fd;
    look_link(all, f);
    all->looks++;
}

int fids_look(struct fids *all, struct fid *f)
{
    struct stat st;
    if (f->fd >= 0) {
        look_unlink(all, f);
        look_link(all, f);
        return f->fd;
    }
    if (!f->ino) return -ESTALE;
    int fd = folder_find(all->folder, f->path);
    if (fd < 0) return fd;
    if (fstat(fd, &st) || st.st_dev != f->dev || st.st_ino != f->ino) {
        close(fd);
        return -ESTALE;
    }
    look_keep(all, f, fd);
    return fd;
}

static void io_close(struct fids *all, struct fid *f)
{
    if (f->io < 0) return;
    close(f->io);
    f->io = -1;
    f->locked = false;
    all->opens--;
}

bool fids_may_open(const struct fids *all) { return all->opens < all->open_max; }

void fids_open(struct fids *all, struct fid *f, int fd, u32 flags)
{
    BUG_ON(f->io >= 0 || !fids_may_open(all));
    all->opens++;
    f->io = fd;
    f->flags = flags;
}

/* ---- the table ---- */

static struct fid **chain_of(struct fids *all, u32 id) { return &all->chain[id * 2654435761u % CHAINS]; }

struct fids *fids_new(struct folder *f, unsigned descriptors)
{
    struct fids *all = calloc(1, sizeof *all);
    if (!all) return NULL;
    all->folder = f;
    all->look_max = descriptors / 4;
    all->open_max = descriptors - all->look_max;
    return all;
}

struct fid *fids_get(const struct fids *all, u32 id)
{
    struct fid *f = *chain_of((struct fids *)all, id);
    while (f && f->id != id) f = f->next;
    return f;
}

static struct fid *fid_new(struct fids *all, u32 id, const char *path, int *rc)
{
    struct fid *f = NULL;
    *rc = fids_get(all, id) ? -EEXIST : all->n == FIDS_MAX ? -ENFILE : 0;
    if (!*rc && !(f = calloc(1, sizeof *f))) *rc = -ENOMEM;
    if (*rc) return NULL;
    *f = (struct fid){ .id = id, .io = -1, .fd = -1 };
    *rc = path_set(all, f, path);
    if (*rc) {
        free(f);
        return NULL;
    }
    struct fid **chain = chain_of(all, id);
    f->next = *chain;
    *chain = f;
    all->n++;
    return f;
}

static void file_set(struct fids *all, struct fid *f, int fd, const struct stat *st)
{
    look_keep(all, f, fd);
    f->dev = st->st_dev;
    f->ino = st->st_ino;
}

int fids_add(struct fids *all, u32 id, const char *path, int fd, const struct stat *st)
{
    int rc;
    struct fid *f = fid_new(all, id, path, &rc);
    if (f) file_set(all, f, fd, st);
    else if (fd >= 0) close(fd);
    return rc;
}

int fids_move(struct fids *all, struct fid *f, const char *path, int fd, const struct stat *st)
{
    int rc = path_set(all, f, path);
    if (!rc) file_set(all, f, fd, st);
    else if (fd >= 0) close(fd);
    return rc;
}

void fids_remove(struct fids *all, struct fid *f)
{
    struct fid **at = chain_of(all, f->id);
    while (*at != f) at = &(*at)->next;
    *at = f->next;
    io_close(all, f);
    look_drop(all, f);
    all->paths -= strlen(f->path);
    all->n--;
    free(f->path);
    free(f);
}

void fids_clear(struct fids *all)
{
    for (unsigned i = 0; i < CHAINS; i++)
        while (all->chain[i]) fids_remove(all, all->chain[i]);
}

void fids_free(struct fids *all)
{
    if (!all) return;
    fids_clear(all);
    free(all);
}

/* A path that would get too long stays: it leads nowhere then, and the fid is stale once its descriptor is closed. */
void fids_renamed(struct fids *all, const char *from, const char *to)
{
    size_t n = strlen(from);
    char path[PATH_MAX];
    for (unsigned i = 0; i < CHAINS; i++)
        for (struct fid *f = all->chain[i]; f; f = f->next) {
            if (strncmp(f->path, from, n) || (f->path[n] && f->path[n] != '/')) continue;
            if (f->path[n] ? path_join(path, to, f->path + n + 1) : path_join(path, "", to)) continue;
            (void)!path_set(all, f, path);
        }
}

bool fids_locked_by_other(const struct fids *all, const struct fid *f)
{
    for (unsigned i = 0; i < CHAINS; i++)
        for (const struct fid *o = all->chain[i]; o; o = o->next)
            if (o != f && o->locked && o->dev == f->dev && o->ino == f->ino) return true;
    return false;
}

/* ---- in a saved machine ----
 * For each fid: its number and the flags it was opened with, or NOT_OPEN (4 bytes each), the length of its path (2),
 * and the path. */

#define NOT_OPEN UINT32_MAX
enum { RECORD = 10 };

bool fids_save(const struct fids *all, struct byte_queue *to)
{
    bool fine = true;
    for (unsigned i = 0; i < CHAINS; i++)
        for (const struct fid *f = all->chain[i]; f && fine; f = f->next) {
            const u32 flags = f->io < 0 ? NOT_OPEN : f->flags;
            const u16 len = (u16)strlen(f->path);
            u8 head[RECORD];
            memcpy(head, &f->id, 4);
            memcpy(head + 4, &flags, 4);
            memcpy(head + 8, &len, 2);
            fine = byte_queue_put(to, head, RECORD, SHARE_STATE_MAX)
                   && byte_queue_put(to, (const u8 *)f->path, len, SHARE_STATE_MAX);
        }
    return fine;
}

/* Names that folder_find() takes. */
static bool path_is_sane(const char *path)
{
    for (const char *p = path; *p; p += *p == '/') {
        size_t n = strcspn(p, "/");
        if (!n || n > NAME_MAX || (n == 1 && *p == '.') || (n == 2 && p[0] == '.' && p[1] == '.')) return false;
        p += n;
        if (*p == '/' && !p[1]) return false;
    }
    return true;
}

/* What is there now, is what the guest had; whatever is not, is stale. */
static int fid_load(struct fids *all, u32 id, const char *path, u32 flags)
{
    const u32 known = O_ACCMODE | O_DSYNC | O_SYNC;
    struct stat st = { 0 };
    int fd = folder_find(all->folder, path);
    if (fd >= 0 && fstat(fd, &st)) {
        close(fd);
        fd = -1;
    }
    int rc = fids_add(all, id, path, fd, &st);
    if (rc || flags == NOT_OPEN || fd < 0 || !fids_may_open(all)) return rc;
    int io = folder_reopen(all->folder, fd, (int)(flags & known));
    if (io >= 0) fids_open(all, fids_get(all, id), io, flags & known);
    return 0;
}

int fids_load(struct fids *all, const u8 *p, u32 n)
{
    while (n) {
        char path[PATH_MAX];
        u32 id, flags;
        u16 len;
        if (n < RECORD) return -EINVAL;
        memcpy(&id, p, 4);
        memcpy(&flags, p + 4, 4);
        memcpy(&len, p + 8, 2);
        p += RECORD;
        n -= RECORD;
        if (len > n || len >= PATH_MAX || memchr(p, 0, len)) return -EINVAL;
        memcpy(path, p, len);
        path[len] = 0;
        p += len;
        n -= len;
        int rc = path_is_sane(path) ? fid_load(all, id, path, flags) : -EINVAL;
        if (rc) return rc;
    }
    return 0;
}
