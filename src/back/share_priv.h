/* What the files of a 9P session share. */
#ifndef SRC_SHARE_PRIV_H
#define SRC_SHARE_PRIV_H
#include "src/back/share_9p.h"
#include "src/back/share_fids.h"
#include "src/back/share_wire.h"

#define SHARE_PIECES 1024u        /* of memory in one call to the host: IOV_MAX */
#define SHARE_MESSAGE_MAX 0x4000u /* bytes of a message, without what Twrite writes */
#define SHARE_ANSWER_MAX 0x10000u /* of an answer, without what Tread has read */

struct share_session {
    struct folder folder;
    struct fids *fids;
    u32 msize; /* bytes of the longest message, as agreed on; 0: nothing has been, yet */
    /* The message that is being answered. */
    const struct sharedev_req *req;
    u32 moved; /* bytes that are in the answer already, behind what is in `answer` */
    char name[WIRE_NAME_MAX], name2[WIRE_NAME_MAX];
    char path[PATH_MAX], path2[PATH_MAX];
    struct iovec piece[SHARE_PIECES];
    u8 message[SHARE_MESSAGE_MAX], answer[SHARE_ANSWER_MAX];
};

/* What a message asks for; the answer's body goes to out. 0 or -errno, which is the answer then. */
typedef int share_call_fn(struct share_session *s, struct wire_in *in, struct wire_out *out);

/* share_names.c: messages that make, move or remove names. */
share_call_fn share_lcreate, share_symlink, share_mknod, share_rename, share_readlink, share_link, share_mkdir,
    share_renameat, share_unlinkat, share_remove;

/* The next number of a message, as a fid. NULL with *rc set: there is none such. */
struct fid *share_fid(struct share_session *s, struct wire_in *in, int *rc);
/* The same, and a descriptor of it (O_PATH) in *fd. */
struct fid *share_look(struct share_session *s, struct wire_in *in, int *fd, int *rc);
void share_put_qid(const struct share_session *s, struct wire_out *out, const struct stat *st);
/* The host's flags for those of a message. */
int share_flags(u32 flags);
/* The bits of a mode that are the guest's to set. */
mode_t share_mode(u32 mode);
/* A name of one component, that is neither the directory nor its parent. */
bool share_name_is_fine(const char *name);

#endif
