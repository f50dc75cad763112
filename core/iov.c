/* Owns what is done with pieces of memory. */
#include "core/iov.h"

#include <string.h>

/* The next piece of iov that has bytes of [*off, *off + *len), and what is left of them after it. false: there is none.
 */
static bool next_piece(struct iovec *to, const struct iovec *iov, unsigned n, unsigned *i, size_t *off, size_t *len)
{
    for (; *i < n && *len; ++*i) {
        if (*off >= iov[*i].iov_len) {
            *off -= iov[*i].iov_len;
            continue;
        }
        size_t m = iov[*i].iov_len - *off < *len ? iov[*i].iov_len - *off : *len;
        *to = (struct iovec){ (u8 *)iov[*i].iov_base + *off, m };
        *len -= m;
        *off = 0;
        ++*i;
        return true;
    }
    return false;
}

unsigned iov_slice(struct iovec *to, const struct iovec *iov, unsigned n, size_t off, size_t len)
{
    unsigned i = 0, k = 0;
    while (next_piece(&to[k], iov, n, &i, &off, &len)) k++;
    return k;
}

size_t iov_read(const struct iovec *iov, unsigned n, size_t off, void *to, size_t len)
{
    struct iovec piece;
    size_t done = 0;
    for (unsigned i = 0; next_piece(&piece, iov, n, &i, &off, &len); done += piece.iov_len)
        memcpy((u8 *)to + done, piece.iov_base, piece.iov_len);
    return done;
}

size_t iov_write(const struct iovec *iov, unsigned n, size_t off, const void *from, size_t len)
{
    struct iovec piece;
    size_t done = 0;
    for (unsigned i = 0; next_piece(&piece, iov, n, &i, &off, &len); done += piece.iov_len)
        memcpy(piece.iov_base, (const u8 *)from + done, piece.iov_len);
    return done;
}
