/* Owns the process that runs cases natively, and restarts it when a case kills it.
 * Memory is shared through a memfd; requests and answers are one word each through pipes. */
#define _GNU_SOURCE
#include "tests/diff/native.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/wait.h>
#include <unistd.h>

struct native {
    char *program;
    int memfd;
    struct diff_shared *shared;
    pid_t pid;
    int request, answer; /* our ends of the pipes */
};

/* In the new process of native_probe(): only a failing execl() leaves something in the pipe. */
static void become_probe(const char *program, int report)
{
    int err;
    execl(program, program, (char *)NULL);
    err = errno;
    if (write(report, &err, sizeof(err)) != sizeof(err)) _exit(126);
    _exit(127);
}

int native_probe(const char *program)
{
    int report[2], status = 0, err = 0;
    pid_t pid;

    if (pipe2(report, O_CLOEXEC)) return -errno;
    pid = fork();
    if (pid == 0) become_probe(program, report[1]);
    if (pid < 0) err = errno;
    close(report[1]);
    if (pid > 0 && read(report[0], &err, sizeof(err)) < 0) err = errno;
    close(report[0]);
    if (pid > 0 && waitpid(pid, &status, 0) != pid) err = errno;
    if (err) return -err;
    if (WIFSIGNALED(status)) return -ENOEXEC; /* it starts, but 32-bit code or its system calls are not to be had */
    return WEXITSTATUS(status) == PROBE_STATUS ? 0 : -EPROTO;
}

static void stop(struct native *n)
{
    if (n->pid <= 0) return;
    close(n->request);
    close(n->answer);
    kill(n->pid, SIGKILL);
    waitpid(n->pid, NULL, 0);
    n->pid = 0;
}

/* In the new process: descriptors 3, 4, 5 as native_child wants them. */
static void become_child(const struct native *n, int in, int out)
{
    int fds[3] = { n->memfd, in, out };
    for (int i = 0; i < 3; i++) { /* clear of 3..5 first */
        fds[i] = fcntl(fds[i], F_DUPFD, 16);
        if (fds[i] < 0) _exit(127);
    }
    for (int i = 0; i < 3; i++)
        if (dup2(fds[i], 3 + i) < 0) _exit(127);
    for (int fd = 6; fd < 64; fd++) close(fd);
    personality(ADDR_NO_RANDOMIZE);
    execl(n->program, n->program, (char *)NULL);
    _exit(127);
}

static int start(struct native *n)
{
    int in[2], out[2];
    if (pipe2(in, O_CLOEXEC)) return -errno;
    if (pipe2(out, O_CLOEXEC)) return -errno;
    n->pid = fork();
    if (n->pid < 0) return -errno;
    if (n->pid == 0) become_child(n, in[0], out[1]);
    close(in[0]);
    close(out[1]);
    n->request = in[1];
    n->answer = out[0];
    return 0;
}

int native_new(struct native **out, const char *program)
{
    struct native *n = calloc(1, sizeof(*n));
    int err;
    if (!n) return -ENOMEM;
    signal(SIGPIPE, SIG_IGN);
    n->program = strdup(program);
    n->memfd = memfd_create("diff", MFD_CLOEXEC);
    if (!n->program || n->memfd < 0 || ftruncate(n->memfd, sizeof(struct diff_shared))) goto fail;
    n->shared = mmap(NULL, sizeof(struct diff_shared), PROT_READ | PROT_WRITE, MAP_SHARED, n->memfd, 0);
    if (n->shared == MAP_FAILED) goto fail;
    *out = n;
    return 0;
fail:
    err = -errno;
    native_free(n);
    return err;
}

void native_free(struct native *n)
{
    if (!n) return;
    stop(n);
    if (n->shared && n->shared != MAP_FAILED) munmap(n->shared, sizeof(struct diff_shared));
    if (n->memfd >= 0) close(n->memfd);
    free(n->program);
    free(n);
}

struct diff_shared *native_shared(struct native *n) { return n->shared; }

/* Sends a request and waits for the answer. Returns false if the process died over it. */
static int exchange(struct native *n, uint32_t count)
{
    uint32_t answer;
    ssize_t got;
    if (write(n->request, &count, sizeof(count)) != sizeof(count)) return 0;
    do got = read(n->answer, &answer, sizeof(answer));
    while (got < 0 && errno == EINTR);
    return got == sizeof(answer) && answer == count;
}

/* After a death: the cases behind the fatal one are moved to the front, run, and moved back. */
static int run_rest(struct native *n, unsigned from, unsigned count)
{
    unsigned rest = count - from;
    struct diff_case *cases = malloc(count * sizeof(*cases));
    struct diff_result *results = malloc(count * sizeof(*results));
    int err = -ENOMEM;
    if (cases && results) {
        memcpy(cases, n->shared->cases, count * sizeof(*cases));
        memcpy(results, n->shared->results, from * sizeof(*results));
        memmove(n->shared->cases, n->shared->cases + from, rest * sizeof(*cases));
        err = native_run(n, rest);
        memcpy(results + from, n->shared->results, rest * sizeof(*results));
        memcpy(n->shared->cases, cases, count * sizeof(*cases));
        memcpy(n->shared->results, results, count * sizeof(*results));
    }
    free(cases);
    free(results);
    return err;
}

int native_run(struct native *n, unsigned count)
{
    int err;
    unsigned fatal;
    if (!n->pid && (err = start(n))) return err;
    n->shared->current = ~0u;
    if (exchange(n, count)) return 0;
    stop(n);
    fatal = n->shared->current;
    if (fatal >= count) return -ENOEXEC; /* died before the first case: the program cannot run here */
    n->shared->results[fatal].out.vector = VECTOR_CRASH;
    return fatal + 1 < count ? run_rest(n, fatal + 1, count) : 0;
}
