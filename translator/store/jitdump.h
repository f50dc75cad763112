/* The file from which `perf inject --jit` makes an object for each block, so that perf annotate has its code. */
#ifndef TRANSLATOR_JITDUMP_H
#define TRANSLATOR_JITDUMP_H
#include "translator/store/xl.h"

MUST_CHECK int xl_jitdump_open(struct xl *xl); /* 0 or -errno */
void xl_jitdump_close(struct xl *xl);
void xl_jitdump_block(struct xl *xl, const struct block *b, const char *name);

#endif
