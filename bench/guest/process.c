/* Whole processes as the thing measured: many short ones one after another, or one command. */
#define _GNU_SOURCE
#include "bench.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* Starts the program, waits for its end, and dies unless that was a good one. Its output goes to `output`. */
static void run_program(const char *file, char **argv, int output)
{
    int status;
    pid_t child = vfork();

    if (child == 0) {
        dup2(output, STDOUT_FILENO);
        execvp(file, argv);
        _exit(127);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) die("cannot start a process");
    if (status != 0) die("a process failed");
}

void run_young(const char *label, unsigned count, const char *name, const char *units)
{
    char *argv[] = { "bench", "--units", (char *)units, (char *)name, NULL };
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    uint64_t start = now_ns();

    if (null < 0) die("cannot open /dev/null");
    for (unsigned i = 0; i < count; i++) run_program("/proc/self/exe", argv, null);
    report(label, (double)(now_ns() - start) / 1e6 / count, "ms");
}

void run_timed(const char *name, char **command)
{
    uint64_t start = now_ns();

    run_program(command[0], command, STDOUT_FILENO);
    report(name, (double)(now_ns() - start) / 1e6, "ms");
}
