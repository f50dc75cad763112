/* The serial back ends, each against the other end of its pipe, file, socket or terminal. */
#define _GNU_SOURCE /* posix_openpt */
#include "src/back/chardev.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

/* What the machine would be: it is woken on the back end's thread, and takes its input on this one. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned wakes, quits;
} host = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0 };

static void on_wake(void *arg UNUSED)
{
    pthread_mutex_lock(&host.lock);
    host.wakes++;
    pthread_cond_signal(&host.changed);
    pthread_mutex_unlock(&host.lock);
}
static void on_quit(void *arg UNUSED)
{
    pthread_mutex_lock(&host.lock);
    host.quits++;
    pthread_cond_signal(&host.changed);
    pthread_mutex_unlock(&host.lock);
}
static const struct chardev_host fake_host = { .wake = on_wake, .quit = on_quit };

static u8 got[65536];
static size_t ngot;
static void on_rx(void *fe UNUSED, const u8 *buf, size_t n)
{
    ck_assert_uint_le(ngot + n, sizeof got);
    memcpy(got + ngot, buf, n);
    ngot += n;
}

static struct chardev *be_open(const char *spec)
{
    struct chardev *c = NULL;
    struct vm_error err = { "" };
    ck_assert_msg(!chardev_open(&c, spec, &fake_host, &err), "%s", err.text);
    c->rx = on_rx;
    ngot = 0;
    return c;
}

static struct timespec soon(unsigned seconds)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += seconds;
    return t;
}

/* Takes input until n bytes are there; fails after 10 s. */
static void expect_input(struct chardev *c, const void *want, size_t n)
{
    struct timespec until = soon(10);
    while (chardev_deliver(c), ngot < n) {
        pthread_mutex_lock(&host.lock);
        int rc = 0;
        while (!host.wakes && !rc) rc = pthread_cond_timedwait(&host.changed, &host.lock, &until);
        host.wakes = 0;
        pthread_mutex_unlock(&host.lock);
        ck_assert_msg(!rc, "%zu bytes of %zu came", ngot, n);
    }
    ck_assert_uint_eq(n, ngot);
    ck_assert_int_eq(0, memcmp(want, got, n));
    ngot = 0;
}

static void expect_quit(void)
{
    struct timespec until = soon(10);
    int rc = 0;
    pthread_mutex_lock(&host.lock);
    while (!host.quits && !rc) rc = pthread_cond_timedwait(&host.changed, &host.lock, &until);
    pthread_mutex_unlock(&host.lock);
    ck_assert_int_eq(0, rc);
}

static void expect_read(int fd, const char *want)
{
    char buf[256];
    size_t n = 0;
    while (n < strlen(want)) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        ck_assert_msg(poll(&p, 1, 10000) == 1, "only %zu of %zu bytes came out", n, strlen(want));
        ssize_t r = read(fd, buf + n, sizeof buf - n);
        ck_assert_int_gt(r, 0);
        n += (size_t)r;
    }
    ck_assert_uint_eq(strlen(want), n);
    ck_assert_int_eq(0, memcmp(want, buf, n));
}

static void put_text(struct chardev *c, const char *s) { chardev_write(c, (const u8 *)s, strlen(s)); }

START_TEST(null_takes_output_and_gives_nothing)
{
    struct chardev *c = be_open("null");
    put_text(c, "gone");
    chardev_deliver(c);
    ck_assert_uint_eq(0, ngot);
    chardev_close(c);
}
END_TEST

START_TEST(file_is_truncated_and_written)
{
    char path[] = "/tmp/test_chardev.XXXXXX", spec[64];
    int fd = mkstemp(path);
    ck_assert_int_eq(8, write(fd, "old text", 8));
    snprintf(spec, sizeof spec, "file:%s", path);
    struct chardev *c = be_open(spec);
    put_text(c, "new");
    chardev_close(c);
    char buf[16];
    ck_assert_int_eq(3, pread(fd, buf, sizeof buf, 0));
    ck_assert_int_eq(0, memcmp("new", buf, 3));
    close(fd);
    unlink(path);
}
END_TEST

#define KINDS "null, stdio, file:PATH, unix:PATH, tcp:[ADDRESS:]PORT, device:PATH, pty"
static const struct {
    const char *spec;
    int rc;
    const char *text;
} bad[] = {
    { "ws:1", -EINVAL, "serial: 'ws:1' is not one of " KINDS },
    { "tcp:0", -EINVAL, "serial tcp:0: is not [ADDRESS:]PORT, the address in numbers" },
    { "tcp:65536", -EINVAL, "serial tcp:65536: is not [ADDRESS:]PORT, the address in numbers" },
    { "tcp:somewhere:1", -EINVAL, "serial tcp:somewhere:1: is not [ADDRESS:]PORT, the address in numbers" },
    { "tcp:[::1:1", -EINVAL, "serial tcp:[::1:1: is not [ADDRESS:]PORT, the address in numbers" },
    { "tcp:[]:1", -EINVAL, "serial tcp:[]:1: is not [ADDRESS:]PORT, the address in numbers" },
    { "device:/dev/null", -ENOTTY, "serial device:/dev/null: is no serial port or terminal" },
    { "device:/nonexistent/s", -ENOENT, "serial device:/nonexistent/s: No such file or directory" },
    { "", -EINVAL, "serial: '' is not one of " KINDS },
    { "file:", -EINVAL, "serial: 'file:' is not one of " KINDS },
    { "file:/nonexistent/f", -ENOENT, "serial file:/nonexistent/f: No such file or directory" },
    { "unix:/nonexistent/s", -ENOENT, "serial unix:/nonexistent/s: No such file or directory" },
};

START_TEST(a_back_end_that_cannot_be_opened_is_named)
{
    struct chardev *c = NULL;
    struct vm_error err;
    ck_assert_int_eq(bad[_i].rc, chardev_open(&c, bad[_i].spec, &fake_host, &err));
    ck_assert_str_eq(bad[_i].text, err.text);
    ck_assert_ptr_null(c);
}
END_TEST

/* ---- tcp ---- */

static int tcp_connect(unsigned port)
{
    const struct sockaddr_in a = { .sin_family = AF_INET,
                                   .sin_port = htons((u16)port),
                                   .sin_addr = { htonl(INADDR_LOOPBACK) } };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(0, connect(fd, (const struct sockaddr *)&a, sizeof a));
    return fd;
}

START_TEST(tcp_serves_one_client_after_another_on_the_loopback)
{
    char spec[32];
    unsigned port = 47200 + (unsigned)getpid() % 1000;
    snprintf(spec, sizeof spec, "tcp:%u", port);
    struct chardev *c = be_open(spec), *d = NULL;
    struct vm_error err;
    put_text(c, "nobody hears this");
    for (int round = 0; round < 3; round++) {
        int fd = tcp_connect(port);
        ck_assert_int_eq(5, write(fd, "hello", 5));
        expect_input(c, "hello", 5);
        put_text(c, "answer");
        expect_read(fd, "answer");
        close(fd);
    }
    ck_assert_int_eq(-EADDRINUSE, chardev_open(&d, spec, &fake_host, &err));
    chardev_close(c);
    c = be_open(spec); /* at once */
    chardev_close(c);
}
END_TEST

/* ---- a device of the host's: the far end of a pseudo-terminal stands for one ---- */

START_TEST(a_device_passes_every_byte_and_gets_its_settings_back)
{
    char spec[64];
    u8 all[256], got[256];
    struct termios before, after;
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    ck_assert(master >= 0 && !grantpt(master) && !unlockpt(master));
    snprintf(spec, sizeof spec, "device:%s", ptsname(master));
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY); /* or its settings end with its last user */
    ck_assert_int_eq(0, tcgetattr(slave, &before));
    struct chardev *c = be_open(spec), *d = NULL;
    struct vm_error err;
    ck_assert_int_eq(-EBUSY, chardev_open(&d, spec, &fake_host, &err));
    for (unsigned i = 0; i < 256; i++) all[i] = (u8)i;
    ck_assert_int_eq(256, write(master, all, 256)); /* a Ctrl-C and a Ctrl-D among them */
    expect_input(c, all, 256);
    chardev_write(c, all, 256);
    for (ssize_t n = 0, k; n < 256; n += k) {
        k = read(master, got + n, (size_t)(256 - n));
        ck_assert_int_gt(k, 0);
    }
    ck_assert_mem_eq(all, got, 256);
    chardev_close(c);
    ck_assert_int_eq(0, tcgetattr(slave, &after));
    ck_assert_uint_eq(before.c_lflag, after.c_lflag);
    ck_assert_uint_eq(before.c_oflag, after.c_oflag);
    close(slave);
    close(master);
}
END_TEST

/* ---- unix ---- */

static char sock_dir[32], sock_path[48], sock_spec[64];

static void sock_setup(void)
{
    strcpy(sock_dir, "/tmp/test_chardev.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(sock_dir));
    snprintf(sock_path, sizeof sock_path, "%s/serial", sock_dir);
    snprintf(sock_spec, sizeof sock_spec, "unix:%s", sock_path);
}
static void sock_teardown(void)
{
    unlink(sock_path);
    rmdir(sock_dir);
}

static int sock_connect(void)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    strcpy(a.sun_path, sock_path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(0, connect(fd, (struct sockaddr *)&a, sizeof a));
    return fd;
}

START_TEST(unix_serves_one_client_after_another)
{
    struct chardev *c = be_open(sock_spec);
    put_text(c, "nobody hears this");
    for (int round = 0; round < 3; round++) {
        int fd = sock_connect();
        ck_assert_int_eq(5, write(fd, "hello", 5));
        expect_input(c, "hello", 5); /* so it has been accepted */
        put_text(c, "answer");
        expect_read(fd, "answer");
        close(fd);
    }
    chardev_close(c);
    ck_assert_int_eq(-1, access(sock_path, F_OK));
}
END_TEST

START_TEST(unix_loses_nothing_when_the_guest_is_slow)
{
    static u8 data[20000];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (u8)(i * 11 + i / 256);
    struct chardev *c = be_open(sock_spec);
    int fd = sock_connect();
    ck_assert_int_eq(sizeof data, write(fd, data, sizeof data)); /* five times the buffer, before any is taken */
    expect_input(c, data, sizeof data);
    close(fd);
    chardev_close(c);
}
END_TEST

START_TEST(unix_drops_output_that_a_client_does_not_take)
{
    struct chardev *c = be_open(sock_spec);
    int fd = sock_connect();
    ck_assert_int_eq(1, write(fd, "x", 1));
    expect_input(c, "x", 1);
    static u8 much[4 << 20];
    chardev_write(c, much, sizeof much); /* must come back: the alarm of the test case would say otherwise */
    close(fd);
    chardev_close(c);
}
END_TEST

START_TEST(unix_takes_over_the_name_of_a_dead_process_but_not_of_a_living_one)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    strcpy(a.sun_path, sock_path);
    int dead = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(0, bind(dead, (struct sockaddr *)&a, sizeof a));
    close(dead);
    struct chardev *c = be_open(sock_spec), *d = NULL;
    struct vm_error err;
    ck_assert_int_eq(-EADDRINUSE, chardev_open(&d, sock_spec, &fake_host, &err));
    int fd = sock_connect(); /* the first one is unharmed */
    ck_assert_int_eq(2, write(fd, "ok", 2));
    expect_input(c, "ok", 2);
    close(fd);
    chardev_close(c);
}
END_TEST

START_TEST(unix_never_removes_a_file_that_is_no_socket)
{
    int fd = open(sock_path, O_CREAT | O_WRONLY, 0600);
    close(fd);
    struct chardev *c = NULL;
    struct vm_error err;
    ck_assert_int_eq(-EADDRINUSE, chardev_open(&c, sock_spec, &fake_host, &err));
    ck_assert_int_eq(0, access(sock_path, F_OK));
}
END_TEST

/* ---- pty ---- */

START_TEST(pty_carries_bytes_both_ways_unchanged)
{
    struct chardev *c = be_open("pty");
    const char *name = chardev_terminal(c);
    ck_assert_ptr_nonnull(name);
    int fd = open(name, O_RDWR | O_NOCTTY);
    ck_assert_int_ge(fd, 0);
    put_text(c, "a\r\n\x03z");
    expect_read(fd, "a\r\n\x03z");
    ck_assert_int_eq(4, write(fd, "q\n\x04w", 4));
    expect_input(c, "q\n\x04w", 4); /* and no echo of what went out */
    close(fd);
    fd = open(name, O_RDWR | O_NOCTTY); /* a second user finds it alive */
    ck_assert_int_eq(1, write(fd, "!", 1));
    expect_input(c, "!", 1);
    close(fd);
    chardev_close(c);
}
END_TEST

/* ---- stdio; each test runs in a process of its own, so its descriptors 0 and 1 may be replaced ---- */

START_TEST(stdio_on_pipes_takes_every_byte_as_it_is_and_survives_end_of_input)
{
    int in[2], out[2], stdout_was = dup(STDOUT_FILENO);
    ck_assert_int_eq(0, pipe(in));
    ck_assert_int_eq(0, pipe(out));
    dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    struct chardev *c = be_open("stdio");
    ck_assert_int_eq(4, write(in[1], "\x01x\x03y", 4));
    expect_input(c, "\x01x\x03y", 4);
    close(in[1]);
    put_text(c, "still here");
    expect_read(out[0], "still here");
    chardev_close(c);
    dup2(stdout_was, STDOUT_FILENO);
    ck_assert_uint_eq(0, host.quits);
}
END_TEST

static void *cancel_soon(void *c)
{
    usleep(100000); /* so that the write is under way; if it is not yet, it must not start */
    chardev_cancel(c);
    return NULL;
}

START_TEST(stdio_blocked_by_its_reader_can_be_cancelled)
{
    int out[2], stdout_was = dup(STDOUT_FILENO), null = open("/dev/null", O_RDONLY);
    ck_assert_int_eq(0, pipe(out));
    dup2(out[1], STDOUT_FILENO);
    dup2(null, STDIN_FILENO);
    struct chardev *c = be_open("stdio");
    static const u8 much[1 << 20]; /* more than the pipe holds, and nobody reads */
    pthread_t t;
    ck_assert_int_eq(0, pthread_create(&t, NULL, cancel_soon, c));
    chardev_write(c, much, sizeof much);
    pthread_join(t, NULL);
    chardev_close(c);
    dup2(stdout_was, STDOUT_FILENO);
}
END_TEST

/* A machine that is stopped to be saved goes on for a few instructions: what they print is in no file. */
START_TEST(stdio_that_is_cancelled_loses_nothing_that_goes_at_once)
{
    int out[2], stdout_was = dup(STDOUT_FILENO), null = open("/dev/null", O_RDONLY);
    ck_assert_int_eq(0, pipe(out));
    dup2(out[1], STDOUT_FILENO);
    dup2(null, STDIN_FILENO);
    struct chardev *c = be_open("stdio");
    chardev_cancel(c);
    put_text(c, "\r\n");
    expect_read(out[0], "\r\n");
    chardev_close(c);
    dup2(stdout_was, STDOUT_FILENO);
}
END_TEST

/* A terminal of our own as descriptors 0 and 1. Returns its master side. */
static int tty_make(int *stdout_was)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    ck_assert_int_ge(master, 0);
    ck_assert_int_eq(0, grantpt(master) | unlockpt(master));
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    ck_assert_int_ge(slave, 0);
    *stdout_was = dup(STDOUT_FILENO);
    dup2(slave, STDIN_FILENO);
    dup2(slave, STDOUT_FILENO);
    return master;
}

static bool tty_raw(int fd)
{
    struct termios t;
    ck_assert_int_eq(0, tcgetattr(fd, &t));
    return !(t.c_lflag & (ICANON | ECHO | ISIG));
}

START_TEST(stdio_on_a_terminal_is_raw_and_puts_it_back)
{
    int stdout_was, master = tty_make(&stdout_was);
    struct termios before, after;
    tcgetattr(STDIN_FILENO, &before);
    ck_assert(!tty_raw(STDIN_FILENO));
    struct chardev *c = be_open("stdio");
    ck_assert(tty_raw(STDIN_FILENO));
    ck_assert_int_eq(3, write(master, "\x03\x04z", 3)); /* what would interrupt or end us is the guest's */
    expect_input(c, "\x03\x04z", 3);
    put_text(c, "out");
    expect_read(master, "out");
    chardev_close(c);
    tcgetattr(STDIN_FILENO, &after);
    dup2(stdout_was, STDOUT_FILENO);
    ck_assert_uint_eq(before.c_iflag, after.c_iflag);
    ck_assert_uint_eq(before.c_oflag, after.c_oflag);
    ck_assert_uint_eq(before.c_lflag, after.c_lflag);
}
END_TEST

/* As when a shell has read what poll() saw, while its job was stopped: here read() waits for four more bytes. */
START_TEST(stdio_ends_in_the_middle_of_a_read_that_waits)
{
    int stdout_was, master = tty_make(&stdout_was);
    struct chardev *c = be_open("stdio");
    struct termios t;
    ck_assert_int_eq(0, tcgetattr(STDIN_FILENO, &t));
    t.c_cc[VMIN] = 5;
    t.c_cc[VTIME] = 255; /* tenths of a second */
    ck_assert_int_eq(0, tcsetattr(STDIN_FILENO, TCSANOW, &t));
    ck_assert_int_eq(1, write(master, "x", 1));
    usleep(100000);
    time_t begin = time(NULL);
    chardev_close(c);
    dup2(stdout_was, STDOUT_FILENO);
    ck_assert_int_lt(time(NULL) - begin, 10);
    close(master);
}
END_TEST

START_TEST(stdio_on_a_terminal_keeps_its_own_keys)
{
    int stdout_was, master = tty_make(&stdout_was);
    struct chardev *c = be_open("stdio");
    ck_assert_int_eq(6, write(master,
                              "a\x01\x01"
                              "b\x01x",
                              6));
    expect_quit();
    expect_input(c,
                 "a\x01"
                 "b",
                 3);
    chardev_close(c);
    dup2(stdout_was, STDOUT_FILENO);
    ck_assert_uint_eq(1, host.quits);
}
END_TEST

static const int deadly[] = { SIGABRT, SIGSEGV, SIGFPE, SIGQUIT };

START_TEST(stdio_puts_the_terminal_back_when_a_signal_kills_us)
{
    int stdout_was, master = tty_make(&stdout_was);
    (void)master;
    pid_t pid = fork();
    if (!pid) {
        for (size_t i = 0; i < ARRAY_LEN(deadly); i++) signal(deadly[i], SIG_DFL); /* not a sanitizer's, nor Check's */
        struct chardev *c = NULL;
        struct vm_error err;
        if (chardev_open(&c, "stdio", &fake_host, &err) || !tty_raw(STDIN_FILENO)) _exit(1);
        raise(deadly[_i]);
        _exit(2);
    }
    int status;
    waitpid(pid, &status, 0);
    bool raw = tty_raw(STDIN_FILENO);
    dup2(stdout_was, STDOUT_FILENO);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == deadly[_i], "status 0x%x", status);
    ck_assert(!raw);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("chardev");
    TCase *t = tcase_create("chardev");
    tcase_set_timeout(t, 30);
    tcase_add_checked_fixture(t, sock_setup, sock_teardown);
    tcase_add_test(t, null_takes_output_and_gives_nothing);
    tcase_add_test(t, file_is_truncated_and_written);
    tcase_add_loop_test(t, a_back_end_that_cannot_be_opened_is_named, 0, (int)ARRAY_LEN(bad));
    tcase_add_test(t, tcp_serves_one_client_after_another_on_the_loopback);
    tcase_add_test(t, a_device_passes_every_byte_and_gets_its_settings_back);
    tcase_add_test(t, unix_serves_one_client_after_another);
    tcase_add_test(t, unix_loses_nothing_when_the_guest_is_slow);
    tcase_add_test(t, unix_drops_output_that_a_client_does_not_take);
    tcase_add_test(t, unix_takes_over_the_name_of_a_dead_process_but_not_of_a_living_one);
    tcase_add_test(t, unix_never_removes_a_file_that_is_no_socket);
    tcase_add_test(t, pty_carries_bytes_both_ways_unchanged);
    tcase_add_test(t, stdio_on_pipes_takes_every_byte_as_it_is_and_survives_end_of_input);
    tcase_add_test(t, stdio_blocked_by_its_reader_can_be_cancelled);
    tcase_add_test(t, stdio_that_is_cancelled_loses_nothing_that_goes_at_once);
    tcase_add_test(t, stdio_ends_in_the_middle_of_a_read_that_waits);
    tcase_add_test(t, stdio_on_a_terminal_is_raw_and_puts_it_back);
    tcase_add_test(t, stdio_on_a_terminal_keeps_its_own_keys);
    tcase_add_loop_test(t, stdio_puts_the_terminal_back_when_a_signal_kills_us, 0, (int)ARRAY_LEN(deadly));
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
