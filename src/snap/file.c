/* Owns the sections of a saved machine: their framing and their checksums.
 *   I1  sum is the xxh3-128 of all that has been written or read, section by section: each section's is over the one
 *       before it, its header and its contents. So none can be left out, doubled or moved. [section_sum]
 *   I2  Nothing of a section is handed out before its checksum has been found right.           [snap_read] */
#include "src/snap/file.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

static const char magic[16] = "transvisor snap\n"; /* without a terminating zero */

/* As in the file, little-endian like everything there. */
struct file_head {
    char magic[16];
    u32 format, reserved;
};
struct section_head {
    char name[SNAP_NAME_MAX + 1];
    u32 len, reserved;
};
struct sum {
    u8 byte[16];
};

static struct sum sum_of(XXH128_hash_t h)
{
    XXH128_canonical_t c;
    struct sum s;
    XXH128_canonicalFromHash(&c, h);
    memcpy(&s, &c, sizeof s);
    return s;
}

static struct sum section_sum(XXH3_state_t *x, const struct sum *before, const struct section_head *h, const void *data,
                              size_t n)
{
    XXH3_128bits_reset(x);
    XXH3_128bits_update(x, before, sizeof *before);
    XXH3_128bits_update(x, h, sizeof *h);
    if (n) XXH3_128bits_update(x, data, n);
    return sum_of(XXH3_128bits_digest(x));
}

/* An embedder's pipe or socket may be one that does not wait by itself. */
static bool wait_until(int fd, short what)
{
    struct pollfd p = { .fd = fd, .events = what };
    return poll(&p, 1, -1) >= 0 || errno == EINTR;
}

/* ---- writing ---- */

struct snap_writer {
    int fd;
    struct sum sum;
    XXH3_state_t *x;
};

static int put(int fd, const void *data, size_t n)
{
    for (const u8 *p = data; n;) {
        ssize_t w = write(fd, p, n);
        if (w < 0 && (errno == EINTR || (errno == EAGAIN && wait_until(fd, POLLOUT)))) continue;
        if (w < 0) return -errno;
        p += w;
        n -= (size_t)w;
    }
    return 0;
}

int snap_writer_new(struct snap_writer **out, int fd)
{
    struct file_head h = { .format = SNAP_FORMAT };
    struct snap_writer *w = calloc(1, sizeof *w);
    if (!w) return -ENOMEM;
    w->fd = fd;
    w->x = XXH3_createState();
    memcpy(h.magic, magic, sizeof magic);
    w->sum = sum_of(XXH3_128bits(&h, sizeof h));
    int rc = w->x ? put(fd, &h, sizeof h) : -ENOMEM;
    if (rc) snap_writer_free(w);
    else *out = w;
    return rc;
}

void snap_writer_free(struct snap_writer *w)
{
    if (!w) return;
    XXH3_freeState(w->x);
    free(w);
}

int snap_write(struct snap_writer *w, const char *name, const void *data, size_t n)
{
    struct section_head h = { .len = (u32)n };
    BUG_ON(strlen(name) > SNAP_NAME_MAX || n > SNAP_SECTION_MAX);
    memcpy(h.name, name, strlen(name));
    w->sum = section_sum(w->x, &w->sum, &h, data, n);
    int rc = put(w->fd, &h, sizeof h);
    if (!rc) rc = put(w->fd, data, n);
    return rc ? rc : put(w->fd, &w->sum, sizeof w->sum);
}

int snap_write_end(struct snap_writer *w) { return snap_write(w, "end", NULL, 0); }

/* ---- reading ---- */

struct snap_reader {
    int fd;
    struct sum sum;
    XXH3_state_t *x;
    u8 *data;
    size_t room;
};

static int get(int fd, void *data, size_t n, const char **why)
{
    for (u8 *p = data; n;) {
        ssize_t r = read(fd, p, n);
        if (r < 0 && (errno == EINTR || (errno == EAGAIN && wait_until(fd, POLLIN)))) continue;
        if (r < 0) return -errno;
        if (!r) {
            *why = "it is cut off";
            return -EINVAL;
        }
        p += r;
        n -= (size_t)r;
    }
    return 0;
}

static int head_read(struct snap_reader *r, const char **why)
{
    struct file_head h;
    int rc = get(r->fd, &h, sizeof h, why);
    if (rc) return rc;
    *why = "it is no saved machine";
    if (memcmp(h.magic, magic, sizeof magic)) return -EINVAL;
    *why = "it is of a version that this program does not read";
    if (h.format != SNAP_FORMAT || h.reserved) return -EINVAL;
    r->sum = sum_of(XXH3_128bits(&h, sizeof h));
    return 0;
}

int snap_reader_new(struct snap_reader **out, int fd, const char **why)
{
    struct snap_reader *r = calloc(1, sizeof *r);
    if (!r) return -ENOMEM;
    r->fd = fd;
    r->x = XXH3_createState();
    int rc = r->x ? head_read(r, why) : -ENOMEM;
    if (rc) snap_reader_free(r);
    else *out = r;
    return rc;
}

void snap_reader_free(struct snap_reader *r)
{
    if (!r) return;
    XXH3_freeState(r->x);
    free(r->data);
    free(r);
}

static int damaged(const char **why)
{
    *why = "it is damaged";
    return -EINVAL;
}

static int room_make(struct snap_reader *r, size_t n)
{
    if (n <= r->room) return 0;
    u8 *grown = realloc(r->data, n);
    if (!grown) return -ENOMEM;
    r->data = grown;
    r->room = n;
    return 0;
}

int snap_read(struct snap_reader *r, struct snap_section *out, const char **why)
{
    struct section_head h;
    struct sum sum;
    int rc = get(r->fd, &h, sizeof h, why);
    if (rc) return rc;
    if (h.len > SNAP_SECTION_MAX || h.reserved || h.name[SNAP_NAME_MAX]) return damaged(why);
    rc = room_make(r, h.len + 1); /* so that there is always a pointer */
    if (!rc) rc = get(r->fd, r->data, h.len, why);
    if (!rc) rc = get(r->fd, &sum, sizeof sum, why);
    if (rc) return rc;
    r->sum = section_sum(r->x, &r->sum, &h, r->data, h.len);
    if (memcmp(&sum, &r->sum, sizeof sum)) return damaged(why);
    memcpy(out->name, h.name, sizeof out->name);
    out->data = r->data;
    out->len = h.len;
    return 0;
}
