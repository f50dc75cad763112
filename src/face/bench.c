/* Owns the words of `transvisor bench`, and where its program is: bench/run.py beside the program that has been built,
 * or share/transvisor/bench/run.py beside the directory of the one that has been installed. Enter at bench_become(). */
#define _GNU_SOURCE
#include "src/face/bench.h"
#include "src/error.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BENCH(field) .at = offsetof(struct bench_args, field)
/* clang-format off */
const struct opt bench_options[] = {
    { .name = "quick", .type = OPT_FLAG, .rank = OPT_COMMON, BENCH(quick),
      .help = "a part of it, in less than 3 minutes" },
    { .name = "full", .type = OPT_FLAG, .rank = OPT_COMMON, BENCH(full),
      .help = "all but what takes very long, in less than 40 minutes (the default)" },
    { .name = "only", .type = OPT_STRING, .rank = OPT_COMMON, BENCH(only), .arg = "NAME[,NAME..]",
      .help = "these, or groups: nano, lmbench, compute, young, system, cliffs, programs, shell, build, boot, .." },
    { .name = "against", .type = OPT_STRING, .rank = OPT_COMMON, BENCH(against), .arg = "NAME[,NAME..]",
      .help = "beside bt: native, kvm, qemu-tcg, qemu-kvm, interp, bt-nodirect, v86, or none [all that can be had]" },
    { .name = "runs", .type = OPT_NUMBER, .rank = OPT_COMMON, BENCH(runs), .arg = "N", .min = 1, .max = 1000,
      .help = "how often each is measured [3]" },
    { .name = "json", .type = OPT_STRING, .rank = OPT_COMMON, BENCH(json), .arg = "FILE",
      .help = "write the results there" },
    { .name = "html", .type = OPT_STRING, .rank = OPT_COMMON, BENCH(html), .arg = "FILE",
      .help = "write a page with plots there" },
    { .name = "compare", .type = OPT_STRING, .rank = OPT_COMMON, BENCH(compare), .arg = "OLD.json",
      .help = "say what has become slower since, and how sure that is" },
    { .name = "help", .aliases = "h ? help-all", .type = OPT_HELP },
    { 0 },
};
/* clang-format on */

/* 0, or -errno with *err set: -ENOENT where it is not installed. */
static int find_script(char *program, char *script, size_t size, struct vm_error *err)
{
    static const char *const places[] = { "bench/run.py", "../share/transvisor/bench/run.py" };
    ssize_t n = readlink("/proc/self/exe", program, size - 1);
    if (n < 0) return vm_fail(err, -errno, "bench: /proc/self/exe: %s", strerror(errno));
    program[n] = 0;
    int folder = (int)(strrchr(program, '/') - program);
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        if (snprintf(script, size, "%.*s/%s", folder, program, places[i]) >= (int)size) continue;
        if (!access(script, R_OK)) return 0;
    }
    return vm_fail(err, -ENOENT, "bench: its programs are not installed: there is no %.300s", script);
}

int bench_become(int argc, char **argv, struct vm_error *err)
{
    char program[PATH_MAX], script[PATH_MAX];
    int rc = find_script(program, script, sizeof script, err), n = 0;
    if (rc) return rc;
    char **words = calloc((size_t)argc + 6, sizeof *words);
    if (!words) return vm_fail(err, -ENOMEM, "bench: memory");
    words[n++] = "python3";
    words[n++] = "-B"; /* nothing is written where it is installed */
    words[n++] = script;
    words[n++] = "--transvisor";
    words[n++] = program;
    for (int i = 0; i < argc; i++) words[n++] = argv[i];
    execvp(words[0], words);
    rc = errno == ENOENT ? vm_fail(err, -ENOENT, "bench: python3 is not installed (Debian: python3)")
                         : vm_fail(err, -errno, "bench: python3: %s", strerror(errno));
    free(words);
    return rc;
}
