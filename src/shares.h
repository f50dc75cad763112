/* The folders that a machine shares with its host. */
#ifndef SRC_SHARES_H
#define SRC_SHARES_H
#include "src/back/share.h"

struct shares;
/* As cfg describes them. wake: called on a share's thread when shares_complete() is wanted; NULL: the machine never
 * runs, and its folders are not looked for. 0 or -errno, with *err set. */
MUST_CHECK int shares_open(struct shares **out, const struct vm_config *cfg, void (*wake)(void *vm), void *vm,
                           struct vm_error *err);
/* All functions cope with NULL. */
void shares_close(struct shares *s);                       /* after the board */
struct sharedev *shares_get(struct shares *s, unsigned i); /* NULL: there is none */
void shares_complete(struct shares *s);
void shares_drain(struct shares *s);

#endif
