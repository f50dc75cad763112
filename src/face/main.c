/* The command line: what becomes of each verb (src/face/verbs.c has their words). Uses the embedding API alone: the
 * first embedder. Exit status: 0 the guest powered off (or the user quit), 1 a host or VMM error, 2 usage, 3 the guest
 * died, (V << 1) | 1 after a write of V to the debug-exit port, 128 + N when signal N ended it. */
#include "src/face/verbs.h"
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

/* What was printed is the result: say so if it did not get out. */
static int end_output(void)
{
    return ferror(stdout) || fflush(stdout) ? fail(STATUS_ERROR, "standard output: could not be written") : STATUS_OK;
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

/* Reads a verb's words. Returns -1 to go on, or the status to end with: help was asked for, or a word is wrong. */
static int read_words(enum verb_id id, void *args, int argc, char **argv)
{
    const struct opt *asked;
    struct vm_error err;
    int rc = options_parse(verbs[id].options, args, argc, argv, &asked, &err);
    if (!rc) return -1;
    if (rc < 0) return fail(STATUS_USAGE, err.text);
    if (asked->type == OPT_HELP) verb_help(id, !strcmp(asked->name, "help-all"), stdout);
    else options_names(asked, stdout);
    return end_output();
}

static int verb_run(int argc, char **argv)
{
    struct run_args a;
    struct vm_error err;
    run_args_init(&a);
    int status = read_words(VERB_RUN, &a, argc, argv);
    if (status >= 0) return status;
    run_args_finish(&a);
    a.cfg.warn = print_warning;

    struct stopper s;
    stopper_block(&s);
    struct vm *vm;
    int rc = vm_create(&vm, &a.cfg, &err);
    if (rc) return fail(rc == -EINVAL ? STATUS_USAGE : STATUS_ERROR, err.text);
    return run_machine(vm, &s, a.stats);
}

/* ---- translate ---- */

static int verb_translate(int argc, char **argv)
{
    struct translate_args a = { 0 };
    struct vm_error err;
    int status = read_words(VERB_TRANSLATE, &a, argc, argv);
    if (status >= 0) return status;
    a.cfg.code16 = a.mode == 1;
    a.cfg.cpl = (unsigned)a.cpl;
    a.cfg.base = (u32)a.base;
    int rc = vm_translate(&a.cfg, stdout, &err);
    if (rc) return fail(rc == -EINVAL ? STATUS_USAGE : STATUS_ERROR, err.text);
    return end_output();
}

/* ---- verbs ---- */

static int (*const verb_runs[VERB_COUNT])(int argc, char **argv) = {
    [VERB_RUN] = verb_run,
    [VERB_TRANSLATE] = verb_translate,
};

static int help(void)
{
    puts("usage: transvisor VERB [OPTIONS]\n       transvisor FILE       runs it, as `transvisor run FILE`\n");
    for (int i = 0; i < VERB_COUNT; i++)
        printf("  transvisor %-10s %s; `transvisor %s --help`\n", verbs[i].name, verbs[i].what, verbs[i].name);
    printf("  transvisor --version\n\n%s", verbs_exit_status);
    return end_output();
}

/* Options without a verb: what would have been typed with it. */
static int no_verb(int argc, char **argv)
{
    char text[400];
    int n = snprintf(text, sizeof text, "options follow a verb: transvisor run");
    for (int i = 1; i < argc && n < (int)sizeof text; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, " %s", argv[i]);
    return fail(STATUS_USAGE, text);
}

int main(int argc, char **argv)
{
    const char *ignored;
    if (argc < 2) return fail(STATUS_USAGE, "no verb given; try transvisor --help");
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "-help") || !strcmp(argv[1], "help"))
        return help();
    if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-version"))
        return printf("transvisor %s\n", vm_version()) < 0 || fflush(stdout) ? STATUS_ERROR : STATUS_OK;
    struct closest near = { .word = argv[1] };
    for (int i = 0; i < VERB_COUNT; i++) {
        if (!strcmp(argv[1], verbs[i].name)) return verb_runs[i](argc - 2, argv + 2);
        closest_offer(&near, verbs[i].name);
    }
    if (options_find(verbs[VERB_RUN].options, argv[1], &ignored)) return no_verb(argc, argv);
    if (argv[1][0] != '-' && !access(argv[1], F_OK)) return verb_run(argc - 1, argv + 1);
    char text[256];
    if (near.best) snprintf(text, sizeof text, "there is no verb '%.100s'; did you mean %s?", argv[1], near.best);
    else snprintf(text, sizeof text, "there is no verb '%.100s', nor a file; try transvisor --help", argv[1]);
    return fail(STATUS_USAGE, text);
}
