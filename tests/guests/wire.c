/* Traffic between two guests (net.py): for the i386 program to be small and of no library.
 *
 *   wire NAME packets ADDRESS PORT COUNT
 *                                       that many UDP datagrams of all sizes to ADDRESS while as many are taken from
 *                                       it; each has its number and bytes made of that
 *   wire NAME stream listen PORT        a TCP stream both ways, of bytes that their place tells, until the peer has
 *                                       enough
 *   wire NAME stream ADDRESS PORT       the peer, which has enough some time after /tmp/enough is there
 *
 * All it says begins with NAME. Nothing is sent again: a datagram that is lost ends `packets` with its number. No more
 * are under way than a socket's buffer holds. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define DATAGRAM_MAX 1472u
#define DATAGRAM_MIN 8u
#define UNDER_WAY 32u  /* datagrams */
#define PATIENCE_S 60  /* for the next one */
#define PIECE 16384u   /* bytes of a stream at a time */
#define BEGUN 65536u   /* when a stream is well under way, */
#define MORE 262144u   /* and what goes on behind /tmp/enough */
#define PAUSE_US 1000u /* between pieces: others share the processor */

static const char *name;

static void die(const char *what)
{
    printf("NET %s: %s: %s\n", name, what, strerror(errno));
    exit(1);
}

static struct sockaddr_in place(const char *address, const char *port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };
    if (address && !inet_aton(address, &a.sin_addr)) die(address);
    return a;
}

static uint32_t mixed(uint32_t v)
{
    v = (v ^ v >> 16) * 0x45d9f3bu;
    v = (v ^ v >> 16) * 0x45d9f3bu;
    return v ^ v >> 16;
}

/* ---- packets ---- */

/* Datagram number n; returns its length. */
static size_t make(uint8_t *to, uint32_t n)
{
    uint32_t v = mixed(n + 1);
    size_t len = DATAGRAM_MIN + v % (DATAGRAM_MAX - DATAGRAM_MIN + 1);
    memcpy(to, &n, sizeof n);
    for (size_t i = sizeof n; i < len; i++) {
        v = v * 1664525u + 1013904223u;
        to[i] = (uint8_t)(v >> 24);
    }
    return len;
}

/* Until the peer is heard of. What it hears of us says that nothing has come. */
static void meet(int s)
{
    const struct timeval often = { 0, 200000 };
    const uint32_t none = 0;
    uint8_t any;
    if (setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &often, sizeof often)) die("setsockopt");
    do {
        if (send(s, &none, sizeof none, 0) < 0 && errno != ECONNREFUSED) die("send");
    } while (recv(s, &any, 1, MSG_PEEK) < 0);
}

/* A datagram that is shorter says how many have come: so many more may be sent. */
static int packets(const char *address, const char *port, uint32_t count)
{
    const struct sockaddr_in here = place(NULL, port), peer = place(address, port);
    const struct timeval patience = { PATIENCE_S, 0 };
    uint8_t got[DATAGRAM_MAX + 1], want[DATAGRAM_MAX];
    uint32_t sent = 0, taken = 0, arrived = 0, told = 0;
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    if (s < 0 || bind(s, (const void *)&here, sizeof here) || connect(s, (const void *)&peer, sizeof peer))
        die("socket");
    meet(s);
    if (setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience)) die("setsockopt");
    while (taken < count || arrived < count) {
        while (sent < count && sent - arrived < UNDER_WAY) {
            size_t len = make(want, sent);
            if (send(s, want, len, 0) == (ssize_t)len) sent++;
            else if (errno != ENOBUFS) die("send");
            else usleep(PAUSE_US);
        }
        ssize_t n = recv(s, got, sizeof got, 0);
        if (n < 0 && errno == ECONNREFUSED) continue; /* the peer has all, and has gone: its last word is on its way */
        if (n < 0) {
            printf("NET %s: packet %u has not come, %u of %u are there\n", name, taken, arrived, sent);
            return 1;
        }
        if (n == sizeof told) {
            memcpy(&arrived, got, sizeof arrived);
            continue;
        }
        if ((size_t)n != make(want, taken) || memcmp(got, want, (size_t)n)) {
            printf("NET %s: packet %u is another\n", name, taken);
            return 1;
        }
        if (++taken - told < UNDER_WAY / 4 && taken < count) continue;
        told = taken;
        if (send(s, &told, sizeof told, 0) < 0 && errno != ECONNREFUSED) die("send"); /* it has all, and has gone */
    }
    printf("NET %s: %u packets\n", name, taken);
    return 0;
}

/* ---- streams ---- */

static void fill(uint8_t *to, uint32_t at, size_t n)
{
    for (size_t i = 0; i < n; i++) to[i] = (uint8_t)(mixed((at + (uint32_t)i) >> 2) >> (at + i) % 4 * 8);
}

static int joined(const char *address, const char *port)
{
    const struct sockaddr_in at = place(address, port);
    const int one = 1;
    int s = socket(AF_INET, SOCK_STREAM, 0), peer = s;
    if (s < 0 || setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one)) die("socket");
    if (!address) {
        if (bind(s, (const void *)&at, sizeof at) || listen(s, 1) || (peer = accept(s, NULL, NULL)) < 0) die("listen");
    } else {
        while (connect(s, (const void *)&at, sizeof at)) {
            close(s);
            usleep(200000);
            if ((peer = s = socket(AF_INET, SOCK_STREAM, 0)) < 0) die("socket");
        }
    }
    if (fcntl(peer, F_SETFL, O_NONBLOCK)) die("fcntl");
    return peer;
}

/* What has come, checked: its bytes, 0 at the end, -1 when there is nothing now. */
static ssize_t take(int s, uint32_t at)
{
    static uint8_t got[PIECE], want[PIECE];
    ssize_t n = recv(s, got, sizeof got, 0);
    if (n < 0 && errno != EAGAIN) die("recv");
    if (n <= 0) return n;
    fill(want, at, (size_t)n);
    if (!memcmp(got, want, (size_t)n)) return n;
    printf("NET %s: stream is another behind %u bytes\n", name, at);
    exit(1);
}

static int stream(const char *address, const char *port)
{
    static uint8_t piece[PIECE];
    uint32_t in = 0, out = 0, until = 0;
    int s = joined(address, port), open = 1, begun = 0;
    for (;;) {
        struct pollfd p = { .fd = s, .events = (short)(POLLIN | (open ? POLLOUT : 0)) };
        if (poll(&p, 1, 100) < 0) die("poll");
        ssize_t n = p.revents & (POLLIN | POLLHUP | POLLERR) ? take(s, in) : -1;
        if (n > 0) in += (uint32_t)n;
        if (!n && !open) break;
        if (open && p.revents & POLLOUT) {
            fill(piece, out, sizeof piece);
            ssize_t k = send(s, piece, sizeof piece, 0);
            if (k < 0 && errno != EAGAIN) die("send");
            if (k > 0) out += (uint32_t)k;
        }
        if (!begun && in >= BEGUN) {
            begun = 1;
            printf("NET %s: begun\n", name);
            fflush(stdout);
        }
        if (address && !until && !access("/tmp/enough", F_OK)) until = in + MORE;
        if (open && (!n || (until && in >= until))) {
            open = 0;
            if (shutdown(s, SHUT_WR)) die("shutdown");
            if (!n) break;
        }
        usleep(PAUSE_US);
    }
    printf("NET %s: whole\n", name);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 5) return 2;
    name = argv[1];
    if (argc == 6 && !strcmp(argv[2], "packets")) return packets(argv[3], argv[4], (uint32_t)atoi(argv[5]));
    if (argc == 5 && !strcmp(argv[2], "stream")) return stream(strcmp(argv[3], "listen") ? argv[3] : NULL, argv[4]);
    return 2;
}
