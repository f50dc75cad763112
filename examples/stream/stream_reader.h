/* The reader's end of a trace stream, for programs of one file: transvisor/stream.h says what is in it. */
#ifndef STREAM_READER_H
#define STREAM_READER_H
#include <transvisor/stream.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct stream_reader {
    struct vm_stream_header *header;
    const unsigned char *ring;
    unsigned long long ring_bytes, tail; /* ring_bytes: read once, since the writer could change it */
    int socket;                          /* -1: a file */
};

static inline void stream_fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

/* Listens at path for one machine, and takes the descriptor that it sends. */
static inline int stream_accept(const char *path, int *connection)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    char byte;
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = { &byte, 1 };
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room
    };
    int fd = -1, s = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    if (s < 0 || bind(s, (struct sockaddr *)&a, sizeof a) || listen(s, 1)) stream_fail(path);
    *connection = accept(s, NULL, NULL);
    close(s);
    unlink(path);
    if (*connection < 0 || recvmsg(*connection, &m, 0) != 1) stream_fail(path);
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    if (c && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof fd)) memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return fd;
}

/* from: unix:SOCKET, where it waits for the machine, or a FILE. Ends the program if there is no stream. */
static inline void stream_open(struct stream_reader *r, const char *from)
{
    struct stat st;
    r->socket = -1;
    r->tail = 0;
    int fd = strncmp(from, "unix:", 5) ? open(from, O_RDWR) : stream_accept(from + 5, &r->socket);
    if (fd < 0 || fstat(fd, &st)) stream_fail(from);
    struct vm_stream_header *h = NULL;
    if (st.st_size > (off_t)sizeof *h) h = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (!h || h == MAP_FAILED || memcmp(h->magic, VM_STREAM_MAGIC, 8) || h->version != VM_STREAM_VERSION
        || h->record_bytes != sizeof(struct vm_stream_record)
        || h->header_bytes + h->ring_bytes > (unsigned long long)st.st_size) {
        fprintf(stderr, "%s: no trace stream of version %u\n", from, VM_STREAM_VERSION);
        exit(1);
    }
    r->header = h;
    r->ring = (const unsigned char *)h + h->header_bytes;
    r->ring_bytes = h->ring_bytes;
}

static inline bool stream_ended(const struct stream_reader *r)
{
    char byte;
    if (__atomic_load_n(&r->header->ended, __ATOMIC_ACQUIRE)) return true;
    return r->socket >= 0 && !recv(r->socket, &byte, 1, MSG_DONTWAIT); /* it was killed */
}

/* How many records there are at *first, in a row; 0: the stream has ended. Waits for some. */
static inline size_t stream_next(struct stream_reader *r, const struct vm_stream_record **first)
{
    for (;;) {
        bool ended = stream_ended(r);
        unsigned long long head = __atomic_load_n(&r->header->head, __ATOMIC_ACQUIRE), n = head - r->tail;
        unsigned long long at = r->tail % r->ring_bytes;
        if (n > r->ring_bytes - at) n = r->ring_bytes - at;
        *first = (const struct vm_stream_record *)(r->ring + at);
        if (n || ended) return n / sizeof **first;
        nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
    }
}

/* Of these, n are done with: their place is the writer's. */
static inline void stream_done(struct stream_reader *r, size_t n)
{
    r->tail += n * sizeof(struct vm_stream_record);
    __atomic_store_n(&r->header->tail, r->tail, __ATOMIC_RELEASE);
}

#endif
