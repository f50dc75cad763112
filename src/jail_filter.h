/* The system calls of jail.def, as programs for the kernel. */
#ifndef SRC_JAIL_FILTER_H
#define SRC_JAIL_FILTER_H
#include "core/thread.h"

struct sock_filter;
struct jail_filter {
    struct sock_filter *code; /* to be freed */
    unsigned short n;
};

/* One call that is not in the table ends in SIGSYS. 0, or -errno of libseccomp. */
MUST_CHECK int jail_filter_make(struct jail_filter *out, enum thread_role role);
/* How many calls the roles of a set (1 << enum thread_role) may make, together. */
unsigned jail_filter_calls(unsigned roles);
/* What a number means; NULL: none of the table's. Async-signal-safe. */
const char *jail_filter_name(int nr);

#endif
