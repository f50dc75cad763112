/* A directory that keeps translated code between runs, one file for each kind of processor, set of options and version
 * of the translator. What is read from it will be executed: a file is taken only if it is a regular file of the
 * effective user that nobody else may write to, and whole. Whoever can write such a file as that user is that user. */
#ifndef SRC_CACHE_DIR_H
#define SRC_CACHE_DIR_H
#include "core/types.h"
#include "transvisor/vm.h"

struct cache_dir;
struct rt;

/* Makes the directory, mode 0700, if there is none. Returns 0 or -errno. */
MUST_CHECK int cache_dir_open(struct cache_dir **out, const char *path, struct vm_error *err);
void cache_dir_close(struct cache_dir *d); /* NULL is fine */
/* Into a machine that has not run. Finding nothing is no failure. Returns 0, or -errno: err says what has been ignored,
 * and why. */
MUST_CHECK int cache_dir_load(struct cache_dir *d, struct rt *rt, struct vm_error *err);
/* If the machine has translated enough that was not there. Returns 0 or -errno; the file is replaced as a whole, or not
 * at all. */
MUST_CHECK int cache_dir_save(struct cache_dir *d, struct rt *rt, struct vm_error *err);

#endif
