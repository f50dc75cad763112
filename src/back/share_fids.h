/* What a guest has a hold of in a shared folder: fids, the 9P protocol's numbers for files and directories. */
#ifndef SRC_SHARE_FIDS_H
#define SRC_SHARE_FIDS_H
#include "src/back/share_folder.h"

#include <limits.h>

#define FIDS_MAX 65536u
#define FIDS_PATHS_MAX (3u << 20) /* bytes of all their paths; with the above they fit into a saved machine */

struct fid {
    u32 id;
    char *path;         /* below the folder; where it was, if somebody else has moved it */
    dev_t dev;          /* which file it is */
    ino_t ino;          /* 0: it was not there any more when the machine was loaded */
    int io;             /* the file, if it is open; else -1 */
    u32 flags;          /* by which it has been opened: the host's */
    bool locked;        /* a lock of it has been taken once */
    int fd;             /* O_PATH; -1: none at present */
    struct fid *next;   /* in its hash chain */
    struct fid *before; /* of those with fd >= 0: the one that was used before this, */
    struct fid *after;  /* and after it */
};

struct fids;
/* Borrows f. descriptors: how many they may have, at least FIDS_DESCRIPTORS_MIN. NULL: no memory. */
#define FIDS_DESCRIPTORS_MIN 32u
struct fids *fids_new(struct folder *f, unsigned descriptors);
void fids_free(struct fids *all); /* copes with NULL */
void fids_clear(struct fids *all);

struct fid *fids_get(const struct fids *all, u32 id); /* NULL: there is none */
/* fd (O_PATH, or -1 if st->st_ino is known without) becomes the fid's in any case. path is copied. 0, -EEXIST, -ENFILE,
 * -ENOMEM. */
MUST_CHECK int fids_add(struct fids *all, u32 id, const char *path, int fd, const struct stat *st);
/* The fid is another file from now on. As fids_add(). */
MUST_CHECK int fids_move(struct fids *all, struct fid *f, const char *path, int fd, const struct stat *st);
void fids_remove(struct fids *all, struct fid *f);

/* Its file with O_PATH: the fid's own, until another call for fids. -ESTALE: another file has its name now; -errno. */
int fids_look(struct fids *all, struct fid *f);
bool fids_may_open(const struct fids *all); /* one more file; else too many are open */
/* A descriptor is the fid's `io` from now on. */
void fids_open(struct fids *all, struct fid *f, int fd, u32 flags);
/* The guest has renamed what was called `from`: paths that begin with it follow. */
void fids_renamed(struct fids *all, const char *from, const char *to);
/* Somebody else of the guest's has a lock of f's file. */
bool fids_locked_by_other(const struct fids *all, const struct fid *f);

/* Directory and name as one path. 0 or -ENAMETOOLONG. */
MUST_CHECK int path_join(char out[PATH_MAX], const char *dir, const char *name);
/* Moves the last name of a path to name, which has PATH_MAX bytes. false: there is none. */
bool path_split(char *path, char *name);

struct byte_queue;
/* All of them, to be opened again by their paths. false: no memory. */
MUST_CHECK bool fids_save(const struct fids *all, struct byte_queue *to);
/* n bytes of that. 0; -EINVAL: they are none. */
MUST_CHECK int fids_load(struct fids *all, const u8 *p, u32 n);

#endif
