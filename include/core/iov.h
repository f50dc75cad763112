/* Pieces of memory that stand for one: what a guest's list of buffers comes to. */
#ifndef CORE_IOV_H
#define CORE_IOV_H
#include "core/types.h"

#include <sys/uio.h>

/* Copies from byte off of pieces of memory on, or to there; as much as there is. Returns the bytes. */
size_t iov_read(const struct iovec *iov, unsigned n, size_t off, void *to, size_t len);
size_t iov_write(const struct iovec *iov, unsigned n, size_t off, const void *from, size_t len);
/* The pieces that are bytes [off, off+len) of iov, at most n of them, as many as there are. */
unsigned iov_slice(struct iovec *to, const struct iovec *iov, unsigned n, size_t off, size_t len);

#endif
