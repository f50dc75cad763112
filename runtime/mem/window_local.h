/* The windows that are in this process: address space for them, with guards, and the backend that maps RAM there. */
#ifndef RUNTIME_WINDOW_LOCAL_H
#define RUNTIME_WINDOW_LOCAL_H
#include "runtime/mem/window.h"

struct window_local;

/* Reserves address space for n windows, and guards. ram_fd is borrowed. Returns 0 or -errno. */
MUST_CHECK int window_local_new(struct window_local **out, unsigned n, int ram_fd);
void window_local_free(struct window_local *l);                                 /* copes with NULL */
u64 window_local_base(const struct window_local *l);                            /* host address of the reservation */
u64 window_local_span(const struct window_local *l);                            /* its bytes, windows and guards */
struct window_backend window_local_backend(struct window_local *l, unsigned i); /* of window i */
u64 window_local_at(const struct window_local *l, unsigned i); /* host address of guest linear 0 in it */
#endif
