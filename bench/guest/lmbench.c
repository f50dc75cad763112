/* Latencies of the kernel's services by the names that lmbench gave them, so that tables in the literature can be set
 * beside: McVoy & Staelin, USENIX 1996. Written anew; each does what lmbench's of that name does. */
#define _GNU_SOURCE
#include "bench.h"
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SELECTED = 100 /* descriptors */, MAPPED = 1 << 20 /* bytes */ };
static const char file[] = "/tmp/lmbench-file";

static void make_file(void)
{
    int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, MAPPED) != 0) die("cannot make a file in /tmp");
    close(fd);
}

static uint64_t null_call(unsigned n)
{
    uint64_t start = now_ns();
    for (unsigned i = 0; i < n; i++) syscall(SYS_getppid);
    return now_ns() - start;
}

static uint64_t stat_call(unsigned n)
{
    struct stat st;
    make_file();
    uint64_t start = now_ns();
    for (unsigned i = 0; i < n; i++)
        if (stat(file, &st) != 0) die("stat");
    return now_ns() - start;
}

static uint64_t open_close(unsigned n)
{
    make_file();
    uint64_t start = now_ns();
    for (unsigned i = 0; i < n; i++) {
        int fd = open(file, O_RDONLY);
        if (fd < 0) die("open");
        close(fd);
    }
    return now_ns() - start;
}

/* None of so many pipes has anything to read. */
static uint64_t select_pipes(unsigned n)
{
    int fd[2], all[SELECTED], most = 0;
    struct timeval none = { 0, 0 };
    fd_set set;
    if (pipe(fd) != 0) die("pipe");
    FD_ZERO(&set);
    for (int i = 0; i < SELECTED; i++) {
        all[i] = dup(fd[0]);
        if (all[i] < 0 || all[i] >= FD_SETSIZE) die("dup");
        FD_SET(all[i], &set);
        if (all[i] > most) most = all[i];
    }
    uint64_t start = now_ns();
    for (unsigned i = 0; i < n; i++) {
        fd_set now = set;
        if (select(most + 1, &now, NULL, NULL, &none) != 0) die("select");
    }
    start = now_ns() - start;
    for (int i = 0; i < SELECTED; i++) close(all[i]);
    close(fd[0]);
    close(fd[1]);
    return start;
}

static void on_signal(int sig) { (void)sig; }

static uint64_t signal_install(unsigned n)
{
    struct sigaction sa = { .sa_handler = on_signal };
    uint64_t start = now_ns();
    for (unsigned i = 0; i < n; i++) sigaction(SIGUSR2, &sa, NULL);
    return now_ns() - start;
}

/* A byte goes to another process and comes back. */
static uint64_t unix_socket(unsigned n)
{
    int fd[2], status;
    char token = 'x';
    share_one_processor();
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd) != 0) die("socketpair");
    pid_t child = fork();
    if (child == 0) {
        close(fd[0]);
        while (read(fd[1], &token, 1) == 1)
            if (write(fd[1], &token, 1) != 1) _exit(1);
        _exit(0);
    }
    close(fd[1]);
    uint64_t start = now_ns();
    for (unsigned i = 0; i < n; i++)
        if (write(fd[0], &token, 1) != 1 || read(fd[0], &token, 1) != 1) die("token lost");
    start = now_ns() - start;
    close(fd[0]);
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) die("child failed");
    return start;
}

/* A page of a file that is in memory, not mapped so far. */
static uint64_t page_fault(unsigned n)
{
    make_file();
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    uint64_t took = 0;
    volatile char sum = 0;
    for (unsigned left = n; left;) {
        unsigned pages = left < MAPPED / 4096 ? left : MAPPED / 4096;
        char *p = mmap(NULL, MAPPED, PROT_READ, MAP_SHARED, fd, 0);
        if (fd < 0 || p == MAP_FAILED) die("mmap");
        madvise(p, MAPPED, MADV_RANDOM); /* no fault brings its neighbours */
        uint64_t start = now_ns();
        for (unsigned i = 0; i < pages; i++) sum += p[i * 4096];
        took += now_ns() - start;
        munmap(p, MAPPED);
        left -= pages;
    }
    close(fd);
    return took;
}

static uint64_t map_unmap(unsigned n)
{
    make_file();
    int fd = open(file, O_RDWR | O_CLOEXEC);
    uint64_t start = now_ns();
    for (unsigned i = 0; i < n; i++) {
        char *p = mmap(NULL, MAPPED, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) die("mmap");
        for (unsigned at = 0; at < MAPPED; at += 16384) p[at] = 1;
        munmap(p, MAPPED);
    }
    start = now_ns() - start;
    close(fd);
    return start;
}

static uint64_t child_of(unsigned n, void (*what)(void))
{
    int status;
    uint64_t start = now_ns();
    for (unsigned i = 0; i < n; i++) {
        pid_t child = fork();
        if (child == 0) {
            if (what) what();
            _exit(what ? 1 : 0);
        }
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0) die("child failed");
    }
    return now_ns() - start;
}

static void become_self(void) { execl("/proc/self/exe", "bench", "--exit", (char *)NULL); }
static void become_shell(void) { execl("/bin/sh", "sh", "-c", "exit 0", (char *)NULL); }
static uint64_t fork_exit(unsigned n) { return child_of(n, NULL); }
static uint64_t fork_exec(unsigned n) { return child_of(n, become_self); }
static uint64_t fork_shell(unsigned n) { return child_of(n, become_shell); }

void bench_lmbench(unsigned units)
{
    (void)units;
    measure("lat_null", 10000, null_call);
    measure("lat_stat", 2000, stat_call);
    measure("lat_open_close", 1000, open_close);
    measure("lat_select_100", 500, select_pipes);
    measure("lat_sig_install", 5000, signal_install);
    measure("lat_unix", 200, unix_socket);
    measure("lat_pagefault", 256, page_fault);
    measure("lat_mmap_1m", 10, map_unmap);
    measure("lat_proc_fork", 10, fork_exit);
    measure("lat_proc_exec", 10, fork_exec);
    measure("lat_proc_sh", 5, fork_shell);
    unlink(file);
}
