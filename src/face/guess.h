/* Which preset a kernel, disk image or ISO looks like. */
#ifndef SRC_GUESS_H
#define SRC_GUESS_H
#include "transvisor/vm.h"

struct guess {
    const char *preset; /* "generic" if nothing is known */
    char why[200];      /* one line */
};
/* 0 or -errno: the file cannot be read. */
int guess_preset(const char *file, struct guess *out, struct vm_error *err);

#endif
