/* Owns the connection to an NBD server (libnbd(3), which is loaded when a machine wants it).
 *   I1  dead: the server has gone, or has been silent for too long. Nothing is sent or received any more then, so that
 *       no late answer lands in memory that is somebody else's again.     [wait_for]
 * Enter at nbd_each(). */
#include "src/back/image_nbd.h"
#include "src/error.h"

#include <dlfcn.h>
#include <errno.h>
#include <libnbd.h>
#include <string.h>
#include <time.h>

#define CONNECT_S 10
#define ANSWER_S 30      /* without a sign of life for so long a server has gone */
#define PIECE (1u << 20) /* bytes; servers take 32 MiB at least */

/* clang-format off */
#define NBD_CALLS(X)                                                                                                \
    X(create) X(close) X(get_error) X(get_errno) X(set_export_name) X(aio_connect_uri) X(aio_connect_unix)          \
    X(aio_connect_tcp) X(aio_is_connecting) X(aio_is_ready) X(poll) X(aio_command_completed) X(aio_pread)           \
    X(aio_pwrite) X(aio_flush) X(aio_trim) X(aio_zero) X(get_size) X(is_read_only) X(can_flush) X(can_trim)         \
    X(can_zero)
/* clang-format on */

struct calls {
#define CALL(name) __typeof__(&nbd_##name) name;
    NBD_CALLS(CALL)
#undef CALL
};
struct nbd {
    struct calls call;
    void *library;
    struct nbd_handle *h;
    bool dead, flushes, trims, zeroes;
};

static int library_open(struct nbd *n, const char *name, struct vm_error *err)
{
    static const char *const names[] = {
#define CALL(name) "nbd_" #name,
        NBD_CALLS(CALL)
#undef CALL
    };
    void **to = (void **)&n->call;
    n->library = dlopen("libnbd.so.0", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    for (size_t i = 0; n->library && i < ARRAY_LEN(names); i++)
        if (!(to[i] = dlsym(n->library, names[i])))
            return vm_fail(err, -ENOTSUP, "disk %s: libnbd is too old: it has no %s", name, names[i]);
    if (!n->library)
        return vm_fail(err, -ENOTSUP, "disk %s: libnbd is not installed (Debian: apt-get install libnbd0)", name);
    return 0;
}

/* ---- requests ---- */

static time_t now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

/* What has been asked for is done, or the server is as good as gone. 0 or -errno. */
static int wait_for(struct nbd *n, int64_t cookie)
{
    time_t last = now_s();
    int rc = cookie < 0 ? -1 : n->call.aio_command_completed(n->h, (uint64_t)cookie);
    while (!rc) {
        int polled = n->call.poll(n->h, 1000);
        if (polled > 0) last = now_s();
        if (polled < 0 || now_s() - last >= ANSWER_S) {
            n->dead = true;
            return -EIO;
        }
        rc = n->call.aio_command_completed(n->h, (uint64_t)cookie);
    }
    if (rc > 0) return 0;
    int why = n->call.get_errno();
    if (!n->call.aio_is_ready(n->h)) n->dead = true;
    return why > 0 && why != ENOTCONN ? -why : -EIO;
}

static int nbd_each(struct nbd *n, bool write, u64 offset, const struct iovec *iov, unsigned niov)
{
    int rc = 0;
    for (unsigned i = 0; i < niov; i++) {
        u8 *p = iov[i].iov_base;
        for (size_t left = iov[i].iov_len, k; left && !rc; p += k, offset += k, left -= k) {
            k = left < PIECE ? left : PIECE;
            if (n->dead) return -EIO;
            rc = wait_for(n, write ? n->call.aio_pwrite(n->h, p, k, offset, NBD_NULL_COMPLETION, 0)
                                   : n->call.aio_pread(n->h, p, k, offset, NBD_NULL_COMPLETION, 0));
        }
    }
    return rc;
}

static int nbd_image_read(void *image, u64 offset, const struct iovec *iov, unsigned niov)
{
    return nbd_each(image, false, offset, iov, niov);
}
static int nbd_image_write(void *image, u64 offset, const struct iovec *iov, unsigned niov)
{
    return nbd_each(image, true, offset, iov, niov);
}

static int nbd_image_flush(void *image)
{
    struct nbd *n = image;
    if (n->dead) return -EIO;
    return n->flushes ? wait_for(n, n->call.aio_flush(n->h, NBD_NULL_COMPLETION, 0)) : 0;
}

/* Where the server cannot do it by itself, zeroes are written. */
static int nbd_image_zero(void *image, u64 offset, u64 len)
{
    static const u8 zeroes[64u << 10];
    struct nbd *n = image;
    int rc = 0;
    for (u64 k; len && !rc; offset += k, len -= k) {
        u64 most = n->zeroes ? PIECE : sizeof zeroes;
        k = len < most ? len : most;
        const struct iovec iov = { (void *)zeroes, k };
        if (n->dead) return -EIO;
        rc = n->zeroes ? wait_for(n, n->call.aio_zero(n->h, k, offset, NBD_NULL_COMPLETION, 0))
                       : nbd_each(n, true, offset, &iov, 1);
    }
    return rc;
}

/* A hint. */
static int nbd_image_discard(void *image, u64 offset, u64 len)
{
    struct nbd *n = image;
    int rc = 0;
    for (u64 k; n->trims && !n->dead && len && !rc; offset += k, len -= k) {
        k = len < PIECE ? len : PIECE;
        rc = wait_for(n, n->call.aio_trim(n->h, k, offset, NBD_NULL_COMPLETION, 0));
    }
    return 0;
}

static const struct block_image_ops nbd_ops = { nbd_image_read, nbd_image_write, nbd_image_flush, nbd_image_zero,
                                                nbd_image_discard };

/* ---- connecting ---- */

bool image_nbd_named(const char *name) { return !strncmp(name, "nbd:", 4) || !strncmp(name, "nbd+unix:", 9); }

/* nbd:unix:SOCKET and nbd:HOST:PORT, taken apart where they are. */
static int connect_words(struct nbd *n, char *rest)
{
    static const char key[] = ":exportname=";
    char *export = strstr(rest, key), *port;
    if (export) *export = 0;
    if (n->call.set_export_name(n->h, export ? export + strlen(key) : "")) return -1;
    if (!strncmp(rest, "unix:", 5)) return n->call.aio_connect_unix(n->h, rest + 5);
    port = strrchr(rest, ':');
    if (port) *port++ = 0;
    return n->call.aio_connect_tcp(n->h, rest, port ? port : "10809");
}

static int connect_to(struct nbd *n, const char *name)
{
    bool uri = !strncmp(name, "nbd://", 6) || !strncmp(name, "nbd+unix:", 9);
    char *words = uri ? NULL : strdup(name + 4);
    int rc = uri ? n->call.aio_connect_uri(n->h, name) : words ? connect_words(n, words) : -1;
    free(words);
    time_t begin = now_s();
    while (rc >= 0 && n->call.aio_is_connecting(n->h) > 0)
        if (n->call.poll(n->h, 1000) < 0 || now_s() - begin >= CONNECT_S) return -1;
    return rc >= 0 && n->call.aio_is_ready(n->h) > 0 ? 0 : -1;
}

static void nbd_image_close(void *image)
{
    struct nbd *n = image;
    if (n->h) n->call.close(n->h);
    if (n->library) dlclose(n->library);
    free(n);
}

int image_nbd_open(struct image *out, const char *name, bool write, struct vm_error *err)
{
    struct nbd *n = calloc(1, sizeof *n);
    if (!n) return vm_fail(err, -ENOMEM, "disk %s: out of memory", name);
    int rc = library_open(n, name, err);
    if (!rc && !(n->h = n->call.create())) rc = vm_fail(err, -ENOMEM, "disk %s: out of memory", name);
    if (!rc && connect_to(n, name)) {
        const char *why = n->call.get_error();
        int code = n->call.get_errno();
        rc = vm_fail(err, code > 0 ? -code : -ETIMEDOUT, "disk %s: %.300s", name, why ? why : "the server is silent");
        if (rc == -EINVAL) rc = -EIO; /* the server's, not the description's */
    }
    if (!rc && write && n->call.is_read_only(n->h) > 0)
        rc = vm_fail(err, -EROFS, "disk %s: the server takes no writes (readonly=on)", name);
    int64_t size = rc ? 0 : n->call.get_size(n->h);
    if (!rc && size < 0) rc = vm_fail(err, -EIO, "disk %s: the server does not tell its size", name);
    if (rc) {
        nbd_image_close(n);
        return rc;
    }
    n->flushes = n->call.can_flush(n->h) > 0;
    n->trims = n->call.can_trim(n->h) > 0;
    n->zeroes = n->call.can_zero(n->h) > 0;
    *out = (struct image){ &nbd_ops, n, (u64)size, nbd_image_close };
    return 0;
}
