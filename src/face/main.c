/* The command line: verbs, their options, and what becomes of them. Uses the embedding API alone: the first embedder.
 * Exit status: 0 the guest powered off (or the user quit), 1 a host or VMM error, 2 usage, 3 the guest died,
 * (V << 1) | 1 after a write of V to the debug-exit port, 128 + N when signal N ended it. */
#include "src/face/options.h"
#include "transvisor/vm.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { STATUS_OK = 0, STATUS_ERROR = 1, STATUS_USAGE = 2, STATUS_DIED = 3, STATUS_SIGNAL = 128 };

static int fail(int status, const char *text)
{
    fprintf(stderr, "transvisor: %s\n", text);
    return status;
}

/* ---- signals that ask us to stop ----
 * They are blocked everywhere and taken by one thread with sigwait(), so that no handler has to reach a machine. */
struct stopper {
    pthread_t thread;
    sigset_t set;
    struct vm *vm;
    _Atomic int caught; /* the signal that ended us, or 0 */
    _Atomic bool done;
};

static void *stopper_thread(void *arg)
{
    struct stopper *s = arg;
    struct timespec first = { 0 }, now;
    for (;;) {
        int sig = 0;
        if (sigwait(&s->set, &sig)) continue;
        if (s->done) return NULL;
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (s->caught && now.tv_sec - first.tv_sec >= 2) abort(); /* asked again, and still here: we are stuck */
        if (!s->caught) {
            s->caught = sig;
            first = now;
            vm_stop(s->vm);
        }
    }
}

static void stopper_block(struct stopper *s)
{
    static const int stop_signals[] = { SIGINT, SIGTERM, SIGHUP };
    memset(s, 0, sizeof *s);
    sigemptyset(&s->set);
    for (size_t i = 0; i < ARRAY_LEN(stop_signals); i++) sigaddset(&s->set, stop_signals[i]);
    pthread_sigmask(SIG_BLOCK, &s->set, NULL);
    signal(SIGPIPE, SIG_IGN); /* a serial client that goes away is no reason to die */
}

static int stopper_start(struct stopper *s, struct vm *vm)
{
    s->vm = vm;
    return pthread_create(&s->thread, NULL, stopper_thread, s);
}

static void stopper_end(struct stopper *s)
{
    s->done = true;
    pthread_kill(s->thread, SIGTERM); /* blocked in all threads: it only ends the sigwait */
    pthread_join(s->thread, NULL);
}

/* ---- run ---- */

static void print_warning(void *arg UNUSED, const char *text) { fprintf(stderr, "transvisor: warning: %s\n", text); }

struct run_args {
    struct vm_config cfg;
    struct opt_port debug_exit;
    int engine, direct;
    const char *stats;
};

static const char *const engine_names[] = { "bt", "interp", NULL };        /* in the order of enum vm_engine */
static const char *const direct_names[] = { "on", "off", "always", NULL }; /* in the order of enum vm_direct */

#define RUN_OPTIONS(a)                                                                                          \
    {                                                                                                           \
        { .name = "kernel",                                                                                     \
          .type = OPT_STRING,                                                                                   \
          .dest = &(a)->cfg.kernel,                                                                             \
          .arg = "FILE",                                                                                        \
          .required = true,                                                                                     \
          .help = "Linux bzImage or Multiboot 1 kernel" },                                                      \
            { .name = "initrd",                                                                                 \
              .type = OPT_STRING,                                                                               \
              .dest = &(a)->cfg.initrd,                                                                         \
              .arg = "FILE[,FILE..]",                                                                           \
              .help = "initial RAM disk, or Multiboot modules" },                                               \
            { .name = "append",                                                                                 \
              .type = OPT_STRING,                                                                               \
              .dest = &(a)->cfg.cmdline,                                                                        \
              .arg = "STR",                                                                                     \
              .help = "kernel command line" },                                                                  \
            { .name = "memory",                                                                                 \
              .type = OPT_SIZE,                                                                                 \
              .dest = &(a)->cfg.memory,                                                                         \
              .arg = "SIZE",                                                                                    \
              .help = "RAM: 16M to 3584M [512M]" },                                                             \
            { .name = "cpu",                                                                                    \
              .type = OPT_STRING,                                                                               \
              .dest = &(a)->cfg.cpu,                                                                            \
              .arg = "MODEL",                                                                                   \
              .help = "processor, see below" },                                                                 \
            { .name = "engine",                                                                                 \
              .type = OPT_CHOICE,                                                                               \
              .dest = &(a)->engine,                                                                             \
              .arg = "bt|interp",                                                                               \
              .choices = engine_names,                                                                          \
              .help = "binary translator, or reference interpreter [bt]" },                                     \
            { .name = "direct",                                                                                 \
              .type = OPT_CHOICE,                                                                               \
              .dest = &(a)->direct,                                                                             \
              .arg = "on|off|always",                                                                           \
              .choices = direct_names,                                                                          \
              .help = "run user code on the processor itself: where it pays, never, or wherever it can [on]" }, \
            { .name = "serial",                                                                                 \
              .type = OPT_STRING,                                                                               \
              .dest = &(a)->cfg.serial,                                                                         \
              .arg = "BACKEND",                                                                                 \
              .help = "stdio, null, file:PATH, unix:PATH or pty [stdio]" },                                     \
            { .name = "debug-exit",                                                                             \
              .type = OPT_PORT,                                                                                 \
              .dest = &(a)->debug_exit,                                                                         \
              .arg = "PORT",                                                                                    \
              .help = "a write of V to this port ends with status (V<<1)|1" },                                  \
            { .name = "perf-map",                                                                               \
              .type = OPT_FLAG,                                                                                 \
              .dest = &(a)->cfg.perf_map,                                                                       \
              .help = "name translated code for perf(1), in /tmp/perf-PID.map" },                               \
            { .name = "no-reboot",                                                                              \
              .type = OPT_FLAG,                                                                                 \
              .dest = &(a)->cfg.no_reboot,                                                                      \
              .help = "end when the guest resets itself" },                                                     \
            { .name = "stats",                                                                                  \
              .type = OPT_STRING,                                                                               \
              .dest = &(a)->stats,                                                                              \
              .arg = "FILE",                                                                                    \
              .help = "write counters there, as JSON" },                                                        \
            { .name = "trace",                                                                                  \
              .type = OPT_STRING,                                                                               \
              .dest = &(a)->cfg.trace,                                                                          \
              .arg = "LIST[@FROM..TO]",                                                                         \
              .help = "trace to standard error, see below; only for EIP in FROM..TO" },                         \
            { .name = "disable",                                                                                \
              .type = OPT_STRING,                                                                               \
              .dest = &(a)->cfg.disable,                                                                        \
              .arg = "CLASS[,CLASS..]",                                                                         \
              .help = "interpret these instructions instead of translating them" },                             \
            { .name = "cache",                                                                                  \
              .type = OPT_STRING,                                                                               \
              .dest = &(a)->cfg.cache_dir,                                                                      \
              .arg = "DIR",                                                                                     \
              .help = "keep translated code there between runs" },                                              \
            { .name = "cache-size",                                                                             \
              .type = OPT_SIZE,                                                                                 \
              .dest = &(a)->cfg.code_cache,                                                                     \
              .arg = "SIZE",                                                                                    \
              .help = "room for translated code" },                                                             \
            { 0 },                                                                                              \
    }

static int run_status(struct vm *vm, enum vm_exit how, const struct stopper *s, const struct vm_error *err)
{
    switch (how) {
    case VM_EXIT_POWEROFF:
    case VM_EXIT_RESET: return STATUS_OK;
    case VM_EXIT_STOPPED: return s->caught ? STATUS_SIGNAL + s->caught : STATUS_OK;
    case VM_EXIT_DEBUG: return (int)(vm_debug_exit_value(vm) & 0xff);
    case VM_EXIT_DIED:
        fputs("transvisor: the guest died of a triple fault\n", stderr);
        vm_diagnose(vm, stderr);
        return STATUS_DIED;
    case VM_EXIT_ERROR: break;
    }
    return fail(STATUS_ERROR, err->text);
}

static int run_machine(struct vm *vm, struct stopper *s, const char *stats_path)
{
    FILE *stats = NULL;
    char text[512];
    if (stats_path && !(stats = fopen(stats_path, "we"))) {
        snprintf(text, sizeof text, "--stats %s: %s", stats_path, strerror(errno));
        vm_free(vm);
        return fail(STATUS_ERROR, text);
    }
    int rc = stopper_start(s, vm);
    if (rc) {
        snprintf(text, sizeof text, "signal thread: %s", strerror(rc));
        vm_free(vm);
        if (stats) fclose(stats);
        return fail(STATUS_ERROR, text);
    }
    struct vm_error err = { "" };
    enum vm_exit how = vm_run(vm, &err);
    stopper_end(s);
    if (stats) vm_stats(vm, stats);
    int status = run_status(vm, how, s, &err);
    vm_free(vm);
    if (stats) {
        bool bad = ferror(stats); /* both: fclose() alone forgets an earlier failure */
        if (fclose(stats) || bad) {
            snprintf(text, sizeof text, "--stats %s: could not be written", stats_path);
            return fail(status == STATUS_OK ? STATUS_ERROR : status, text);
        }
    }
    return status;
}

static int verb_run(int argc, char **argv)
{
    struct run_args a = { .cfg.serial = "stdio", .cfg.memory = VM_MEMORY_DEFAULT, .cfg.warn = print_warning };
    const struct opt table[] = RUN_OPTIONS(&a);
    struct vm_error err;
    if (options_parse(table, argc, argv, &err)) return fail(STATUS_USAGE, err.text);
    if (!a.cfg.memory)
        return fail(STATUS_USAGE, "--memory: a machine without memory"); /* to the API, 0 is the default */
    a.cfg.engine = a.engine ? VM_ENGINE_INTERP : VM_ENGINE_BT;
    a.cfg.direct = (enum vm_direct)a.direct;
    a.cfg.has_debug_exit = a.debug_exit.given;
    a.cfg.debug_exit = a.debug_exit.port;

    struct stopper s;
    stopper_block(&s);
    struct vm *vm;
    int rc = vm_create(&vm, &a.cfg, &err);
    if (rc) return fail(rc == -EINVAL ? STATUS_USAGE : STATUS_ERROR, err.text);
    return run_machine(vm, &s, a.stats);
}

/* ---- translate ---- */

struct translate_args {
    struct vm_translate_config cfg;
    int mode;
    u32 cpl;
};

static const char *const mode_names[] = { "32", "16", NULL };

#define TRANSLATE_OPTIONS(a)                                                                                         \
    {                                                                                                                \
        { .name = "file",                                                                                            \
          .type = OPT_STRING,                                                                                        \
          .dest = &(a)->cfg.file,                                                                                    \
          .arg = "FILE",                                                                                             \
          .required = true,                                                                                          \
          .help = "raw code" },                                                                                      \
            { .name = "base", .type = OPT_U32, .dest = &(a)->cfg.base, .arg = "ADDR", .help = "where it lies [0]" }, \
            { .name = "mode",                                                                                        \
              .type = OPT_CHOICE,                                                                                    \
              .dest = &(a)->mode,                                                                                    \
              .arg = "16|32",                                                                                        \
              .choices = mode_names,                                                                                 \
              .help = "size of its code segment [32]" },                                                             \
            { .name = "cpl", .type = OPT_U32, .dest = &(a)->cpl, .arg = "N", .help = "privilege level [0]" },        \
            { .name = "cpu",                                                                                         \
              .type = OPT_STRING,                                                                                    \
              .dest = &(a)->cfg.cpu,                                                                                 \
              .arg = "MODEL",                                                                                        \
              .help = "processor, as for run" },                                                                     \
            { 0 },                                                                                                   \
    }

static int verb_translate(int argc, char **argv)
{
    struct translate_args a = { 0 };
    const struct opt table[] = TRANSLATE_OPTIONS(&a);
    struct vm_error err;
    if (options_parse(table, argc, argv, &err)) return fail(STATUS_USAGE, err.text);
    a.cfg.code16 = a.mode == 1;
    a.cfg.cpl = a.cpl;
    int rc = vm_translate(&a.cfg, stdout, &err);
    if (rc) return fail(rc == -EINVAL ? STATUS_USAGE : STATUS_ERROR, err.text);
    return ferror(stdout) || fflush(stdout) ? fail(STATUS_ERROR, "standard output: could not be written") : STATUS_OK;
}

static void translate_help(FILE *out)
{
    struct translate_args a;
    const struct opt table[] = TRANSLATE_OPTIONS(&a);
    options_help(table, out);
}

/* ---- verbs ---- */

static void run_help(FILE *out)
{
    struct run_args a;
    const struct opt table[] = RUN_OPTIONS(&a);
    const char *name, *what;
    options_help(table, out);
    fputs("\nProcessors (the first is the default):", out);
    for (unsigned i = 0; (name = vm_cpu_name(i)); i++) fprintf(out, " %s", name);
    fputs("\n\nTrace channels:\n", out);
    for (unsigned i = 0; (name = vm_trace_name(i, &what)); i++) fprintf(out, "  %-10s %s\n", name, what);
    fputs("\nInstruction classes:\n", out);
    for (unsigned i = 0; (name = vm_class_name(i, &what)); i++) fprintf(out, "  %-10s %s\n", name, what);
    fputs("\nOn a terminal: Ctrl-A x quits, Ctrl-A Ctrl-A sends Ctrl-A.\n", out);
}

static const struct verb {
    const char *name, *what;
    int (*run)(int argc, char **argv);
    void (*help)(FILE *out);
} verbs[] = {
    { "run", "runs a virtual machine", verb_run, run_help },
    { "translate", "prints guest code and the host code it becomes, side by side", verb_translate, translate_help },
};

static int help(FILE *out)
{
    fputs("usage: transvisor VERB [OPTIONS]\n       transvisor --help | --version\n", out);
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        fprintf(out, "\ntransvisor %s: %s\n", verbs[i].name, verbs[i].what);
        verbs[i].help(out);
    }
    fputs("\nExit status: 0 the guest powered off, 1 error, 2 usage, 3 the guest died (triple fault),\n"
          "(V<<1)|1 after a write of V to the debug-exit port, 128+N when signal N ended it.\n",
          out);
    return ferror(out) || fflush(out) ? STATUS_ERROR : STATUS_OK;
}

int main(int argc, char **argv)
{
    if (argc < 2) return fail(STATUS_USAGE, "no verb given; try transvisor --help");
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) return help(stdout);
    if (!strcmp(argv[1], "--version"))
        return printf("transvisor %s\n", vm_version()) < 0 || fflush(stdout) ? STATUS_ERROR : STATUS_OK;
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        if (strcmp(argv[1], verbs[i].name)) continue;
        if (argc > 2 && !strcmp(argv[2], "--help")) return help(stdout);
        return verbs[i].run(argc - 2, argv + 2);
    }
    char text[256];
    snprintf(text, sizeof text, "there is no verb '%.100s'; try transvisor --help", argv[1]);
    return fail(STATUS_USAGE, text);
}
