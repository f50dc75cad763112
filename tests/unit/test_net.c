/* What a description may say of a network, and that there is one behind it. */
#define _GNU_SOURCE
#include "src/net.h"

#include <check.h>
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static sem_t woken;
static void wake(void *arg) { sem_post(arg); }
static const struct netdev_host host = { wake, NULL, &woken };

static u8 got[NETDEV_FRAME_MAX];
static size_t got_len;
static bool room;
static bool on_receive(void *fe UNUSED, const u8 *frame, size_t n)
{
    if (!room) return false;
    memcpy(got, frame, n);
    got_len = n;
    return true;
}

START_TEST(what_makes_no_sense_is_refused_with_the_word)
{
    static const char *const wrong[][2] = {
        { "usr", "'usr'" },
        { "user,colour=red", "'colour=red'" },
        { "user,model=ne3000", "there is no model=ne3000" },
        { "user,port=0x300", "cards on ISA" },
        { "tap:x,tftp=/tmp", "tftp" },
        { "user,mac=1:2:3", "'mac=1:2:3'" },
        { "user,mac=01:00:00:00:00:01", "mac=01" }, /* a group's */
        { "user,mac=00:00:00:00:00:00", "mac=00" },
        { "user,mac=52:54:00:00:00:01x", "mac=52" },
        { "user,hostfwd=sctp::1-:1", "sctp" },
        { "user,hostfwd=tcp::0-:1", "hostfwd" },
        { "user,hostfwd=tcp::2222", "hostfwd" },
        { "user,hostfwd=tcp:nowhere:2222-:22", "hostfwd" },
        { "user,hostfwd=tcp::70000-:22", "hostfwd" },
        { "user:x", "'user:x'" },
        { "socket:unix:x,hostfwd=tcp::1-:1", "hostfwd" },
        { "tap:x,restrict=on", "restrict" },
        { "socket:unix:", "socket:unix:" },
        { "tap:", "1 to 15" },
        { "tap:an-interface-name-that-is-too-long", "1 to 15" },
    };
    for (unsigned i = 0; i < ARRAY_LEN(wrong); i++) {
        struct vm_error err = { "" };
        struct net *n;
        ck_assert_msg(net_open(&n, wrong[i][0], NULL, &host, NULL, &err) == -EINVAL, "%s", wrong[i][0]);
        ck_assert_ptr_null(n);
        ck_assert_msg(!strncmp(err.text, "net: ", 5) && strstr(err.text, wrong[i][1]), "%s: %s", wrong[i][0], err.text);
    }
}
END_TEST

START_TEST(none_is_no_card_and_what_never_runs_is_on_no_wire)
{
    struct vm_error err;
    struct net *n;
    const u8 *mac;
    ck_assert_int_eq(0, net_open(&n, "none", NULL, &host, NULL, &err));
    ck_assert_ptr_null(n);
    ck_assert_int_eq(0, net_open(&n, "user,mac=02:00:00:00:00:09", NULL, NULL, NULL, &err));
    ck_assert_ptr_nonnull(net_dev(n, &mac));
    ck_assert_uint_eq(9, mac[5]);
    netdev_send(net_dev(n, &mac), got, 60);
    net_close(n);
}
END_TEST

START_TEST(the_host_answers_to_arp_and_the_answer_waits_for_room)
{
    static const u8 ask[60] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0,    0x12, 0x34, 0x56, 8,    6,
                                0,    1,    8,    0,    6,    4,    0,    1,    0x52, 0x54, 0,    0x12, 0x34, 0x56,
                                10,   0,    2,    15,   0,    0,    0,    0,    0,    0,    10,   0,    2,    2 };
    static const u8 host_ip[4] = { 10, 0, 2, 2 };
    struct vm_error err = { "" };
    struct net *n;
    const u8 *mac;
    ck_assert_msg(!net_open(&n, "user,restrict=on", NULL, &host, NULL, &err), "%s", err.text);
    struct netdev *d = net_dev(n, &mac);
    ck_assert_uint_eq(0x56, mac[5]);
    d->receive = on_receive;
    netdev_send(d, ask, sizeof ask);
    sem_wait(&woken);
    net_deliver(n);
    ck_assert_uint_eq(0, got_len);
    room = true;
    netdev_ready(d);
    ck_assert_uint_ge(got_len, 42);
    ck_assert_mem_eq(ask + 6, got, 6);
    ck_assert_uint_eq(2, got[21]); /* a reply */
    ck_assert_mem_eq(host_ip, got + 28, 4);
    ck_assert_uint_eq(0, net_dropped(n));
    net_close(n);
}
END_TEST

START_TEST(a_port_that_is_taken_is_an_error_with_its_reason)
{
    struct vm_error err = { "" };
    struct net *n, *second;
    ck_assert_msg(!net_open(&n, "user,hostfwd=tcp::47113-:22", NULL, &host, NULL, &err), "%s", err.text);
    ck_assert_int_eq(-EADDRINUSE, net_open(&second, "user,hostfwd=tcp::47113-:22", NULL, &host, NULL, &err));
    ck_assert_msg(strstr(err.text, "47113") && strstr(err.text, "in use"), "%s", err.text);
    net_close(n);
}
END_TEST

/* ---- frames of one stream ---- */

/* A frame with n bytes of a stream from `seq` on, each of which says where in the stream it is. */
static struct frame *stream_frame(u32 seq, u16 n, u8 flags)
{
    const u16 ip_len = (u16)(40 + n);
    const u8 head[54] = { 2,
                          0,
                          0,
                          0,
                          0,
                          1,
                          2,
                          0,
                          0,
                          0,
                          0,
                          2,
                          8,
                          0,
                          0x45,
                          0,
                          ip_len >> 8,
                          (u8)ip_len,
                          0,
                          (u8)seq,
                          0x40,
                          0,
                          64,
                          6,
                          (u8)n,
                          (u8)seq,
                          10,
                          0,
                          2,
                          2,
                          10,
                          0,
                          2,
                          15,
                          0,
                          80,
                          4,
                          0,
                          (u8)(seq >> 24),
                          (u8)(seq >> 16),
                          (u8)(seq >> 8),
                          (u8)seq,
                          0,
                          0,
                          0,
                          1,
                          0x50,
                          flags,
                          0xff,
                          0xff,
                          1,
                          2,
                          0,
                          0 };
    struct frame *f = malloc(sizeof *f + sizeof head + n);
    ck_assert_ptr_nonnull(f);
    f->len = sizeof head + n;
    memcpy(f->data, head, sizeof head);
    for (u16 i = 0; i < n; i++) f->data[sizeof head + i] = (u8)((seq + i) * 31 >> 3);
    return f;
}

/* Whether b follows a, of 100 bytes at 1000, with the byte at `at` changed by `by`. */
static bool follows(u32 seq, u16 n, u8 flags, size_t at, u8 by)
{
    struct netdev_merge m = { 0 };
    struct frame *a = stream_frame(1000, 100, 0x10), *b = stream_frame(seq, n, flags);
    b->data[at] ^= by;
    bool yes = netdev_merge_begin(&m, a->data, a->len) && netdev_merge_add(&m, a, b);
    ck_assert_uint_eq(yes ? a->len + n : 0, m.len);
    if (yes) ck_assert_mem_eq(b->data + 54, m.packet + a->len, n);
    free(m.packet);
    free(a);
    free(b);
    return yes;
}

START_TEST(frames_of_a_stream_are_put_together_and_no_others)
{
    enum { ACK = 0x10, PSH = 8, FIN = 1, SYN = 2, RST = 4, URG = 0x20, CWR = 0x80 };
    ck_assert(follows(1100, 100, ACK, 0, 0) && follows(1100, 7, ACK, 0, 0) && follows(1100, 100, ACK | PSH, 0, 0));
    ck_assert(!follows(1101, 100, ACK, 0, 0) && !follows(1000, 100, ACK, 0, 0) && !follows(1100, 101, ACK, 0, 0));
    ck_assert(!follows(1100, 0, ACK, 0, 0));
    for (unsigned flag = 1; flag < 0x100; flag <<= 1)
        if (flag != ACK && flag != PSH) ck_assert_msg(!follows(1100, 100, (u8)(ACK | flag), 0, 0), "flag %x", flag);
    ck_assert(!follows(1100, 100, PSH, 0, 0));
    for (size_t at = 0; at < 54;
         at++) { /* what is the frame's own: number and sum of IP, sum and urgent pointer of TCP */
        bool own = at == 18 || at == 19 || at == 24 || at == 25 || at == 50 || at == 51;
        bool urgent = at == 52 || at == 53; /* nothing without its flag */
        if (!urgent) ck_assert_msg(follows(1100, 100, ACK, at, 4) == own, "byte %zu", at);
    }
}
END_TEST

START_TEST(a_packet_that_was_put_together_is_what_was_sent_up_to_where_it_ends)
{
    struct netdev_merge m = { 0 };
    struct frame *first = stream_frame(UINT32_MAX - 2000, 1448, 0x10);
    u32 seq = UINT32_MAX - 2000 + 1448;
    unsigned n = 1;
    ck_assert(netdev_merge_begin(&m, first->data, first->len));
    for (bool more = true; more; n += more, seq += 1448) {
        struct frame *f = stream_frame(seq, 1448, 0x10);
        more = netdev_merge_add(&m, first, f);
        free(f);
    }
    ck_assert_uint_eq((NETDEV_LARGE_MAX - 54) / 1448, n);
    ck_assert_uint_eq(54 + n * 1448, m.len);
    ck_assert_uint_eq(1448, m.part);
    for (u32 i = 0; i < n * 1448; i++) ck_assert_uint_eq((u8)((UINT32_MAX - 2000 + i) * 31 >> 3), m.packet[54 + i]);
    ck_assert(netdev_merge_begin(&m, first->data, first->len));
    struct frame *last = stream_frame(UINT32_MAX - 2000 + 1448, 1448, 0x18),
                 *beyond = stream_frame(UINT32_MAX - 2000 + 2896, 1448, 0x10);
    ck_assert(netdev_merge_add(&m, first, last));
    ck_assert_uint_eq(0x18, m.packet[47]); /* a push is seen, and ends it */
    ck_assert(!netdev_merge_add(&m, first, beyond));
    first->data[14] = 0x46; /* options of IP, which nobody puts together */
    ck_assert(!netdev_merge_begin(&m, first->data, first->len));
    free(m.packet);
    free(first);
    free(last);
    free(beyond);
}
END_TEST

/* ---- a wire at a socket ---- */

enum { ENDS = 3, FRAMES = 2000, GREETING = 0xfe };
struct end {
    struct net *net;
    struct netdev *dev;
    unsigned got, wrong;  /* frames; those that are not the next in order, or not as they were sent */
    unsigned heard[ENDS]; /* greetings, by who sent them */
    unsigned stalls;      /* 0: it always has room; else it has none at first for each frame of so many */
    bool stalled;
};
static struct end ends[ENDS];
static char wire_dir[64], wire_spec[128];

/* Frame number k from end `from`: a length and bytes that depend on both. */
static size_t frame_make(u8 *f, unsigned from, unsigned k)
{
    size_t n = NETDEV_FRAME_MIN + (k * 7919 + from) % (NETDEV_FRAME_MAX - NETDEV_FRAME_MIN + 1);
    for (size_t i = 0; i < n; i++) f[i] = (u8)(k + from + i);
    f[0] = (u8)from;
    return n;
}
static bool end_receive(void *fe, const u8 *frame, size_t n)
{
    struct end *e = fe;
    u8 want[NETDEV_FRAME_MAX];
    if (frame[0] == GREETING) {
        e->heard[frame[1]]++;
        return true;
    }
    e->stalled = e->stalls && e->got % e->stalls == 0 && !e->stalled;
    if (e->stalled) return false;
    e->wrong += frame_make(want, frame[0], e->got++) != n || memcmp(want, frame, n);
    return true;
}
static void end_open(struct end *e, const char *dump)
{
    struct vm_error err = { "" };
    const u8 *mac;
    *e = (struct end){ 0 };
    ck_assert_msg(!net_open(&e->net, wire_spec, dump, &host, NULL, &err), "%s", err.text);
    e->dev = net_dev(e->net, &mac);
    e->dev->fe = e;
    e->dev->receive = end_receive;
}
/* Waits up to ten seconds for end e to have n frames, or more. */
static void await_least(struct end *e, unsigned n)
{
    for (unsigned ms = 0; e->got < n && ms < 10000; ms++) {
        net_deliver(e->net);
        if (e->got < n) usleep(1000);
    }
    ck_assert_uint_ge(e->got, n);
    ck_assert_uint_eq(0, e->wrong);
}
static void await(struct end *e, unsigned n)
{
    await_least(e, n);
    ck_assert_uint_eq(n, e->got);
}
static void send_frame(struct end *e, unsigned from, unsigned k)
{
    u8 f[NETDEV_FRAME_MAX];
    netdev_send(e->dev, f, frame_make(f, from, k));
}
/* Until all the other ends hear this one: what is sent before they have joined is lost. */
static void greet(unsigned from, unsigned n)
{
    const u8 f[NETDEV_FRAME_MIN] = { GREETING, (u8)from };
    unsigned missing = n;
    for (unsigned k = 0; k < n; k++) ends[k].heard[from] = 0;
    for (unsigned i = 0; i < 200 && missing; i++) {
        netdev_send(ends[from].dev, f, sizeof f);
        usleep(20000);
        missing = 0;
        for (unsigned k = 0; k < n; k++) {
            if (!ends[k].net || k == from) continue;
            net_deliver(ends[k].net);
            missing += !ends[k].heard[from];
        }
    }
    ck_assert_uint_eq(0, missing);
}
static void end_close(struct end *e)
{
    net_close(e->net);
    e->net = NULL;
}
static void wire_setup(void)
{
    strcpy(wire_dir, "/tmp/test_net-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(wire_dir));
    snprintf(wire_spec, sizeof wire_spec, "socket:unix:%s/wire", wire_dir);
}
static void wire_teardown(void)
{
    ck_assert_msg(!rmdir(wire_dir), "%s: the socket or its lock is left behind", wire_dir);
}

START_TEST(each_frame_on_a_wire_reaches_all_others_in_order)
{
    for (unsigned i = 0; i < ENDS; i++) end_open(&ends[i], NULL);
    for (unsigned i = 0; i < ENDS; i++) greet(i, ENDS);
    for (unsigned from = 0; from < ENDS; from++) {
        for (unsigned i = 0; i < ENDS; i++) ends[i].got = 0;
        for (unsigned k = 0; k < FRAMES; k++) {
            send_frame(&ends[from], from, k);
            if (k % 256 == 255)
                for (unsigned i = 0; i < ENDS; i++)
                    if (i != from) await(&ends[i], k + 1);
        }
        for (unsigned i = 0; i < ENDS; i++)
            if (i != from) await(&ends[i], FRAMES);
        ck_assert_uint_eq(0, ends[from].got);
    }
    for (unsigned i = 0; i < ENDS; i++) {
        ck_assert_uint_eq(0, net_dropped(ends[i].net));
        end_close(&ends[i]);
    }
}
END_TEST

/* As many frames as the environment says: a million in unit/net-million-long. */
START_TEST(two_ends_lose_nothing_while_both_send_and_often_have_no_room)
{
    enum { AHEAD = 1024 }; /* frames: fewer than the queues on their way hold */
    const char *said = getenv("TRANSVISOR_WIRE_FRAMES");
    const unsigned n = said ? (unsigned)strtoul(said, NULL, 10) : 20000;
    for (unsigned i = 0; i < 2; i++) end_open(&ends[i], NULL);
    for (unsigned i = 0; i < 2; i++) greet(i, 2);
    for (unsigned i = 0; i < 2; i++) ends[i].stalls = 37 + i;
    for (unsigned k = 0; k < n; k++) {
        for (unsigned i = 0; i < 2; i++) {
            send_frame(&ends[i], i, k);
            if (k % 64 == 0) net_deliver(ends[i].net);
        }
        for (unsigned i = 0; i < 2 && k >= AHEAD; i++)
            if (ends[i].got < k - AHEAD) await_least(&ends[i], k - AHEAD / 2);
    }
    for (unsigned i = 0; i < 2; i++) await(&ends[i], n);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_uint_eq(0, net_dropped(ends[i].net));
        end_close(&ends[i]);
    }
}
END_TEST

START_TEST(when_the_first_goes_another_takes_its_place)
{
    for (unsigned i = 0; i < ENDS; i++) end_open(&ends[i], NULL);
    greet(1, ENDS);
    end_close(&ends[0]);
    greet(1, ENDS);
    greet(2, ENDS);
    end_close(&ends[2]);
    end_close(&ends[1]);
}
END_TEST

static void wire_address(struct sockaddr_un *a)
{
    *a = (struct sockaddr_un){ .sun_family = AF_UNIX };
    strcpy(a->sun_path, wire_spec + strlen("socket:unix:"));
}

START_TEST(a_socket_left_behind_by_the_dead_is_taken_over)
{
    struct sockaddr_un a;
    wire_address(&a);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(0, bind(fd, (struct sockaddr *)&a, sizeof a));
    close(fd);
    end_open(&ends[0], NULL);
    end_open(&ends[1], NULL);
    greet(1, 2);
    end_close(&ends[1]);
    end_close(&ends[0]);
}
END_TEST

START_TEST(a_file_in_its_place_is_not_touched)
{
    struct sockaddr_un a;
    struct vm_error err = { "" };
    struct net *n;
    wire_address(&a);
    FILE *f = fopen(a.sun_path, "w");
    fputs("mine", f);
    fclose(f);
    ck_assert_int_ne(0, net_open(&n, wire_spec, NULL, &host, NULL, &err));
    ck_assert_msg(strstr(err.text, a.sun_path), "%s", err.text);
    ck_assert_int_eq(0, unlink(a.sun_path));
}
END_TEST

/* A peer that is none: it says nonsense, sends frames that are too short or too long, stops in the middle, does not
 * read. What two honest ends send each other meanwhile arrives. */
START_TEST(a_peer_that_talks_nonsense_or_does_not_read_harms_nobody)
{
    static u8 big[4 + 70000] = { 0, 1, 0x11, 0x70 };
    static const u8 nonsense[] = { 0xff, 0xff, 0xff, 0xff, 1, 2, 3 }, none[] = { 0, 0, 0, 0 },
                    small[] = { 0, 0, 0, 3, 1, 2, 3 }, half[] = { 0, 0, 1, 0, 1 };
    const struct {
        const u8 *p;
        size_t n;
    } say[] = { { nonsense, sizeof nonsense }, { none, sizeof none }, { small, sizeof small },
                { half, sizeof half },         { big, sizeof big },   { small, 0 } };
    int fd[ARRAY_LEN(say)];
    struct sockaddr_un a;
    wire_address(&a);
    for (unsigned i = 0; i < 2; i++) end_open(&ends[i], NULL);
    greet(1, 2);
    for (unsigned i = 0; i < ARRAY_LEN(say); i++) {
        fd[i] = socket(AF_UNIX, SOCK_STREAM, 0);
        ck_assert_int_eq(0, connect(fd[i], (struct sockaddr *)&a, sizeof a));
        ck_assert_int_eq((ssize_t)say[i].n, send(fd[i], say[i].p, say[i].n, MSG_NOSIGNAL));
    }
    ends[0].got = 0;
    for (unsigned k = 0; k < FRAMES; k++) { /* 1.5 MB: more than waits for a peer */
        send_frame(&ends[1], 1, k);
        if (k % 256 == 255) await(&ends[0], k + 1);
    }
    await(&ends[0], FRAMES);
    ck_assert_uint_ge(net_dropped(ends[0].net), 2); /* the short one, and the long one */
    for (unsigned i = 0; i < ARRAY_LEN(say); i++) close(fd[i]);
    end_close(&ends[1]);
    end_close(&ends[0]);
}
END_TEST

/* ---- the dump ---- */

START_TEST(a_dump_holds_every_frame_both_ways_as_pcap_has_it)
{
    char path[128];
    u32 head[6], record[4];
    u8 f[NETDEV_FRAME_MAX], want[NETDEV_FRAME_MAX];
    snprintf(path, sizeof path, "%s/dump", wire_dir);
    end_open(&ends[0], path);
    end_open(&ends[1], NULL);
    greet(0, 2);
    for (unsigned k = 0; k < 3; k++) send_frame(&ends[0], 0, k);
    await(&ends[1], 3);
    for (unsigned k = 0; k < 3; k++) send_frame(&ends[1], 1, k);
    await(&ends[0], 3);
    end_close(&ends[1]);
    end_close(&ends[0]);
    FILE *file = fopen(path, "rb");
    ck_assert_uint_eq(1, fread(head, sizeof head, 1, file));
    ck_assert_uint_eq(0xa1b23c4d, head[0]);
    ck_assert_uint_eq(4 << 16 | 2, head[1]);
    ck_assert_uint_eq(1, head[5]);
    unsigned k = 0;
    while (fread(record, sizeof record, 1, file) == 1) {
        ck_assert_uint_le(record[2], sizeof f);
        ck_assert_uint_eq(record[2], record[3]);
        ck_assert_uint_lt(record[1], 1000000000);
        ck_assert_uint_eq(1, fread(f, record[2], 1, file));
        if (f[0] == GREETING) continue;
        ck_assert_uint_eq(record[2], frame_make(want, k / 3, k % 3));
        ck_assert_mem_eq(want, f, record[2]);
        k++;
    }
    ck_assert_uint_eq(6, k);
    fclose(file);
    ck_assert_int_eq(0, unlink(path));
}
END_TEST

START_TEST(a_dump_that_cannot_go_on_says_so_once_and_the_network_goes_on)
{
    struct vm_error why = { "" };
    if (access("/dev/full", W_OK)) return;
    struct net *n;
    ck_assert_int_eq(-ENOSPC, net_open(&n, wire_spec, "/dev/full", &host, NULL, &why));
    ck_assert_msg(strstr(why.text, "net_dump: /dev/full"), "%s", why.text);
    ck_assert_int_eq(-EINVAL, net_open(&n, "none", "x", &host, NULL, &why));

    char path[128];
    struct rlimit old, small = { 100, 100 };
    snprintf(path, sizeof path, "%s/dump", wire_dir);
    end_open(&ends[0], path);
    end_open(&ends[1], NULL);
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    greet(0, 2);
    for (unsigned k = 0; k < 10; k++) send_frame(&ends[0], 0, k);
    await(&ends[1], 10);
    setrlimit(RLIMIT_FSIZE, &old);
    ck_assert(net_trouble(ends[0].net, &why));
    ck_assert_msg(!strncmp(why.text, "net_dump: ", 10), "%s", why.text);
    ck_assert(!net_trouble(ends[0].net, &why));
    end_close(&ends[1]);
    end_close(&ends[0]);
    struct stat st;
    ck_assert_int_eq(0, stat(path, &st));
    ck_assert_int_ge(100, st.st_size);
    ck_assert_int_eq(0, unlink(path));
}
END_TEST

/* ---- a TAP interface ---- */

#define TEST_PROTOCOL 0x88b5 /* IEEE 802: for experiments */
static unsigned tap_frames;
static u8 tap_frame[NETDEV_FRAME_MAX];
static bool tap_receive(void *fe UNUSED, const u8 *frame, size_t n)
{
    if (n < NETDEV_FRAME_MIN || frame[12] != TEST_PROTOCOL >> 8 || frame[13] != (TEST_PROTOCOL & 0xff)) return true;
    memcpy(tap_frame, frame, n); /* others are the host's own */
    tap_frames++;
    return true;
}

/* In a network namespace of this process's own, which an unprivileged user may make on most hosts. */
START_TEST(a_tap_interface_carries_frames_both_ways)
{
    struct vm_error err = { "" };
    struct net *n;
    const u8 *mac;
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) || access("/dev/net/tun", R_OK | W_OK)) {
        printf("test_net: no TAP interface here: %s\n", strerror(errno));
        return;
    }
    ck_assert_msg(!net_open(&n, "tap:tvtest0", NULL, &host, NULL, &err), "%s", err.text);
    struct netdev *d = net_dev(n, &mac);
    d->receive = tap_receive;
    struct ifreq r = { .ifr_flags = IFF_UP };
    strcpy(r.ifr_name, "tvtest0");
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(TEST_PROTOCOL));
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(0, ioctl(fd, SIOCSIFFLAGS, &r));
    ck_assert_int_eq(0, ioctl(fd, SIOCGIFINDEX, &r));
    const struct sockaddr_ll at = { .sll_family = AF_PACKET,
                                    .sll_ifindex = r.ifr_ifindex,
                                    .sll_protocol = htons(TEST_PROTOCOL) };
    ck_assert_int_eq(0, bind(fd, (const struct sockaddr *)&at, sizeof at));

    u8 out[60] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, TEST_PROTOCOL >> 8, TEST_PROTOCOL & 0xff, 'o', 'u', 't' },
       in[128];
    ssize_t k = -1;
    netdev_send(d, out, sizeof out);
    for (unsigned ms = 0; ms < 5000 && k < 0; ms++, usleep(1000)) k = recv(fd, in, sizeof in, 0);
    ck_assert_int_eq((ssize_t)sizeof out, k);
    ck_assert_mem_eq(out, in, sizeof out);

    memcpy(out + 14, "in!", 3);
    ck_assert_int_eq((ssize_t)sizeof out, send(fd, out, sizeof out, 0));
    for (unsigned ms = 0; ms < 5000 && !tap_frames; ms++, usleep(1000)) net_deliver(n);
    ck_assert_uint_eq(1, tap_frames);
    ck_assert_mem_eq(out, tap_frame, sizeof out);

    struct net *second;
    ck_assert_int_eq(-EBUSY, net_open(&second, "tap:tvtest0", NULL, &host, NULL, &err));
    ck_assert_msg(strstr(err.text, "tap:tvtest0"), "%s", err.text);
    close(fd);
    net_close(n);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("net");
    TCase *t = tcase_create("net");
    sem_init(&woken, 0, 0);
    tcase_add_test(t, what_makes_no_sense_is_refused_with_the_word);
    tcase_add_test(t, none_is_no_card_and_what_never_runs_is_on_no_wire);
    tcase_add_test(t, the_host_answers_to_arp_and_the_answer_waits_for_room);
    tcase_add_test(t, a_port_that_is_taken_is_an_error_with_its_reason);
    tcase_add_test(t, frames_of_a_stream_are_put_together_and_no_others);
    tcase_add_test(t, a_packet_that_was_put_together_is_what_was_sent_up_to_where_it_ends);
    suite_add_tcase(s, t);
    t = tcase_create("wire");
    tcase_add_checked_fixture(t, wire_setup, wire_teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, each_frame_on_a_wire_reaches_all_others_in_order);
    suite_add_tcase(s, t);
    t = tcase_create("wire-million");
    tcase_add_checked_fixture(t, wire_setup, wire_teardown);
    tcase_set_timeout(t, 900);
    tcase_add_test(t, two_ends_lose_nothing_while_both_send_and_often_have_no_room);
    suite_add_tcase(s, t);
    t = tcase_create("wire-changes");
    tcase_add_checked_fixture(t, wire_setup, wire_teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, when_the_first_goes_another_takes_its_place);
    tcase_add_test(t, a_socket_left_behind_by_the_dead_is_taken_over);
    tcase_add_test(t, a_file_in_its_place_is_not_touched);
    tcase_add_test(t, a_peer_that_talks_nonsense_or_does_not_read_harms_nobody);
    tcase_add_test(t, a_dump_holds_every_frame_both_ways_as_pcap_has_it);
    tcase_add_test(t, a_dump_that_cannot_go_on_says_so_once_and_the_network_goes_on);
    suite_add_tcase(s, t);
    t = tcase_create("tap");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_tap_interface_carries_frames_both_ways);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
