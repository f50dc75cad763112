/* The file in which perf(1) looks for the names of code that no file holds. */
#ifndef TRANSLATOR_PERF_H
#define TRANSLATOR_PERF_H
#include "translator/store/xl.h"

#define XL_PERF_NAME 200u                   /* bytes of a name, its zero included */
MUST_CHECK int xl_perf_open(struct xl *xl); /* 0 or -errno */
/* A file under a name that can be guessed: a descriptor to read and write it, or -errno. */
MUST_CHECK int xl_perf_create(const char *name);
/* Names it in the map, and in the dump, if they are wanted. */
void xl_perf_block(struct xl *xl, const struct block *b);

#endif
