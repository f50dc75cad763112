/* Owns where a trace stream goes: its words, its memory, and the socket or the file that this is given away by.
 *   I1  memory of others cannot become shorter under us: it is sealed; a file has its room, and is the user's. [memory]
 */
#define _GNU_SOURCE
#include "core/hostfd.h"
#include "runtime/runtime.h"
#include "src/error.h"
#include "src/parse.h"
#include "src/vm_priv.h"
#include "src/vm_stream.h"
#include "transvisor/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define HEADER 4096u
#define RING_DEFAULT (64u << 20)
#define RING_MIN (64u << 10)
#define RING_MAX (4ull << 30)

struct vm_stream {
    void *memory;
    u64 bytes; /* of address space */
    int reader;
    u64 told, lost; /* after the end */
};

struct words {
    char to[512];
    struct rt_stream s;
};

/* ---- words ---- */

static int parse_what(const char *list, unsigned *what)
{
    static const struct {
        const char *name;
        unsigned bit;
    } names[] = { { "blocks", VM_STREAM_BLOCKS }, { "memory", VM_STREAM_MEMORY }, { "events", VM_STREAM_EVENTS } };
    for (*what = 0; *list; list += *list == '+') {
        size_t n = strcspn(list, "+");
        unsigned bit = 0;
        for (unsigned i = 0; i < ARRAY_LEN(names); i++)
            if (strlen(names[i].name) == n && !memcmp(names[i].name, list, n)) bit = names[i].bit;
        if (!bit) return -EINVAL;
        *what |= bit;
        list += n;
    }
    return *what ? 0 : -EINVAL;
}

static int parse_range(char *range, struct rt_stream *s)
{
    u64 from, to;
    char *dash = strchr(range, '-');
    if (dash) *dash++ = 0;
    if (parse_u64(range, UINT32_MAX, &from)) return -EINVAL;
    to = from;
    if (dash && parse_u64(dash, UINT32_MAX, &to)) return -EINVAL;
    if (to < from) return -EINVAL;
    s->from = (laddr)from, s->to = (laddr)to;
    return 0;
}

static int parse_word(struct rt_stream *s, char *word, struct vm_error *err)
{
    u64 cpl;
    if (!strncmp(word, "what=", 5))
        return parse_what(word + 5, &s->what)
                   ? vm_fail(err, -EINVAL, "%s: not of blocks, memory, events, with a + between them", word)
                   : 0;
    if (!strncmp(word, "size=", 5)) {
        if (parse_size(word + 5, 1, &s->ring) || s->ring < RING_MIN || s->ring > RING_MAX || s->ring & (s->ring - 1))
            return vm_fail(err, -EINVAL, "%s: not a power of two from 64K to 4G", word);
        return 0;
    }
    if (!strncmp(word, "at=", 3))
        return parse_range(word + 3, s) ? vm_fail(err, -EINVAL, "at= is not an address, or a range FROM-TO") : 0;
    if (!strncmp(word, "cpl=", 4)) {
        if (parse_u64(word + 4, 3, &cpl)) return vm_fail(err, -EINVAL, "%s: a privilege level is 0 to 3", word);
        s->cpls = (u8)(1u << cpl);
        return 0;
    }
    if (!strcmp(word, "wait=on") || !strcmp(word, "wait=off")) {
        s->wait = word[6] == 'n';
        return 0;
    }
    return vm_fail(err, -EINVAL, "'%s' is none of what=, size=, at=, cpl=, wait=on", word);
}

static int parse(struct words *w, const char *text, struct vm_error *err)
{
    char word[128];
    size_t n = strcspn(text, ",");
    w->s = (struct rt_stream){ .ring = RING_DEFAULT,
                               .what = VM_STREAM_BLOCKS | VM_STREAM_MEMORY | VM_STREAM_EVENTS,
                               .to = UINT32_MAX,
                               .cpls = 0xf,
                               .reader = -1 };
    if (!n || n >= sizeof w->to) return vm_fail(err, -EINVAL, "does not begin with a FILE or unix:SOCKET");
    snprintf(w->to, sizeof w->to, "%.*s", (int)n, text);
    for (text += n; *text; text += n) {
        n = strcspn(++text, ",");
        if (n >= sizeof word) return vm_fail(err, -EINVAL, "'%.40s..' is too long", text);
        snprintf(word, sizeof word, "%.*s", (int)n, text);
        int rc = parse_word(&w->s, word, err);
        if (rc) return rc;
    }
    return 0;
}

/* ---- where it goes ---- */

static const char *socket_path(const char *to) { return strncmp(to, "unix:", 5) ? NULL : to + 5; }

/* A descriptor of the header and the ring, or -errno. */
static int memory(const char *to, u64 bytes)
{
    struct stat st;
    bool shared = socket_path(to) != NULL;
    int fd = hostfd(shared ? memfd_create("trace-stream", MFD_CLOEXEC | MFD_ALLOW_SEALING)
                           : open(to, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600));
    if (fd < 0) return -errno;
    int rc = fstat(fd, &st) ? -errno : S_ISREG(st.st_mode) ? 0 : -EINVAL;
    if (!rc && (ftruncate(fd, 0) || ftruncate(fd, (off_t)bytes))) rc = -errno;
    if (!rc && shared) rc = fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) ? -errno : 0;
    if (!rc && !shared) rc = -posix_fallocate(fd, 0, (off_t)bytes);
    if (!rc) return fd;
    close(fd);
    return rc;
}

/* The ring twice in a row behind the header; NULL, with errno. */
static void *map(int fd, u64 ring, u64 *bytes)
{
    const int rw = PROT_READ | PROT_WRITE, over = MAP_SHARED | MAP_FIXED;
    *bytes = HEADER + 2 * ring;
    u8 *at = mmap(NULL, *bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return NULL;
    if (mmap(at, HEADER + ring, rw, over, fd, 0) == at
        && mmap(at + HEADER + ring, ring, rw, over, fd, HEADER) == at + HEADER + ring)
        return at;
    int why = errno;
    munmap(at, *bytes);
    errno = why;
    return NULL;
}

/* A descriptor, or -errno. */
static int connect_to(const char *path)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof a.sun_path) return -ENAMETOOLONG;
    strcpy(a.sun_path, path);
    int fd = hostfd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (fd < 0) return -errno;
    if (!connect(fd, (const struct sockaddr *)&a, sizeof a)) return fd;
    int rc = -errno;
    close(fd);
    return rc;
}

static int send_descriptor(int to, int fd)
{
    char byte = 's';
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = { .head = { .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
    struct iovec iov = { &byte, 1 };
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room
    };
    memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
    return sendmsg(to, &m, MSG_NOSIGNAL) == 1 ? 0 : -errno;
}

static void header_init(struct vm_stream_header *h, const struct rt_stream *s)
{
    h->version = VM_STREAM_VERSION;
    h->header_bytes = HEADER;
    h->record_bytes = sizeof(struct vm_stream_record);
    h->what = s->what;
    h->ring_bytes = s->ring;
    __atomic_thread_fence(__ATOMIC_RELEASE); /* who finds the magic finds the rest */
    memcpy(h->magic, VM_STREAM_MAGIC, sizeof h->magic);
}

/* fd: the memory's. 0 or -errno, with *err. */
static int begin(struct vm *vm, struct words *w, int fd, struct vm_error *err)
{
    struct vm_stream *v = vm->stream;
    const char *path = socket_path(w->to);
    if (!(v->memory = map(fd, w->s.ring, &v->bytes))) return vm_fail(err, -errno, "memory: %s", strerror(errno));
    header_init(v->memory, &w->s);
    if (path) {
        v->reader = connect_to(path);
        int rc = v->reader < 0 ? v->reader : send_descriptor(v->reader, fd);
        if (rc) return vm_fail(err, rc, "%s (the reader listens there before the machine is started)", strerror(-rc));
    }
    w->s.memory = v->memory;
    w->s.reader = v->reader;
    int rc = rt_stream_begin(vm->rt, &w->s);
    return rc ? vm_fail(err, rc, "%s", strerror(-rc)) : 0;
}

int vm_stream(struct vm *vm, const char *where, struct vm_error *err)
{
    struct words w;
    struct vm_error why = { "" };
    if (vm->running) return vm_fail(err, -EBUSY, "the machine runs");
    if (vm->stream) return vm_fail(err, -EEXIST, "trace stream %.100s: there is one", where);
    int rc = parse(&w, where, &why), fd = -1;
    if (!rc && (fd = memory(w.to, HEADER + w.s.ring)) < 0)
        rc = vm_fail(&why, fd == -EINVAL ? -ENODEV : fd, "%s", fd == -EINVAL ? "not a regular file" : strerror(-fd));
    if (!rc && !(vm->stream = calloc(1, sizeof *vm->stream))) rc = vm_fail(&why, -ENOMEM, "out of memory");
    if (!rc) {
        vm->stream->reader = -1;
        rc = begin(vm, &w, fd, &why);
    }
    if (fd >= 0) close(fd);
    if (!rc) return 0;
    vm_stream_free(vm);
    return vm_fail(err, rc, "trace stream %.100s: %.300s", where, why.text);
}

static void finish(struct vm *vm)
{
    struct vm_stream *v = vm->stream;
    if (!v->memory) return;
    rt_stream_end(vm->rt);
    v->told = rt_stream_told(vm->rt), v->lost = rt_stream_lost(vm->rt);
    munmap(v->memory, v->bytes);
    v->memory = NULL;
    if (v->reader >= 0) close(v->reader);
}

int vm_stream_end(struct vm *vm, u64 *told, u64 *lost)
{
    if (vm->running) return -EBUSY;
    if (!vm->stream) return -ENOENT;
    finish(vm);
    *told = vm->stream->told, *lost = vm->stream->lost;
    vm_stream_free(vm);
    return 0;
}

void vm_stream_free(struct vm *vm)
{
    if (!vm->stream) return;
    finish(vm);
    free(vm->stream);
    vm->stream = NULL;
}
