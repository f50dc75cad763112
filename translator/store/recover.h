/* From host code back to blocks. */
#ifndef TRANSLATOR_RECOVER_H
#define TRANSLATOR_RECOVER_H
#include "translator/store/xl.h"

struct block *xl_block_at(struct xl *xl, u64 host_pc); /* NULL: none. Async-signal-safe */

#endif
