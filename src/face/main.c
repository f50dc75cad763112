/* The command line: what becomes of each verb (src/face/verbs.c has their words). Uses the embedding API alone: the
 * first embedder. Exit status: 0 the guest powered off (or the user quit), 1 a host or VMM error, 2 usage, 3 the guest
 * died, 124 after --timeout, (V << 1) | 1 after a write of V to the debug-exit port, 128 + N when signal N ended it. */
#define _GNU_SOURCE /* fopencookie */
#include "src/error.h"
#include "src/face/bench.h"
#include "src/face/doors.h"
#include "src/face/guess.h"
#include "src/face/image.h"
#include "src/face/img.h"
#include "src/face/json.h"
#include "src/face/kaslr.h"
#include "src/face/machines.h"
#include "src/face/preset.h"
#include "src/face/probes.h"
#include "src/face/symbols.h"
#include "src/face/terminal_monitor.h"
#include "src/face/top.h"
#include "src/face/session.h"
#include "src/face/settings.h"
#include "src/face/stopper.h"
#include "src/face/verbs.h"
#include "src/face/watch.h"
#include "src/wait.h"
#include "transvisor/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { STATUS_OK = 0, STATUS_ERROR = 1, STATUS_USAGE = 2, STATUS_DIED = 3, STATUS_TIMEOUT = 124, STATUS_SIGNAL = 128 };

static int fail(int status, const char *text)
{
    fprintf(stderr, "transvisor: %s\n", text);
    return status;
}

static int fail_host(const char *what, int rc)
{
    fprintf(stderr, "transvisor: %s: %s\n", what, strerror(-rc));
    return STATUS_ERROR;
}

/* What was printed is the result: say so if it did not get out. */
static int end_output(void)
{
    return ferror(stdout) || fflush(stdout) ? fail(STATUS_ERROR, "standard output: could not be written") : STATUS_OK;
}

/* ---- what the program needs of its surroundings ---- */

/* No file of ours may take the place of a standard one: what is printed, or a serial line's output, would end up in it.
 */
static int fill_standard_descriptors(void)
{
    for (;;) {
        int fd = open("/dev/null", O_RDWR);
        if (fd < 0) return -1;
        if (fd <= STDERR_FILENO) continue;
        return close(fd);
    }
}

/* A client or reader that goes away is no reason to die, nor is a file that has become too large (RLIMIT_FSIZE). */
static void ignore_signals_of_files(void)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

/* How threads are told to go to jail: started with all signals blocked, they would not hear of it. */
static void let_in_jail_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGURG);
    sigaddset(&set, SIGSYS);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* ---- run ---- */

/* Where warnings and hints go: to standard error, or, while the guest's screen stands on that terminal, to memory. */
struct notes {
    FILE *out;               /* for whoever prints; any thread */
    _Atomic(struct vm *) vm; /* NULL: there is none, or none any more */
    FILE *memory;            /* NULL: nothing is held back */
    char *held;
    size_t n;
};

static ssize_t notes_write(void *arg, const char *text, size_t n)
{
    struct notes *notes = arg;
    struct vm *vm = notes->vm;
    bool hold = notes->memory && vm && vm_display_on_terminal(vm);
    return fwrite(text, 1, n, hold ? notes->memory : stderr) == n ? (ssize_t)n : -1;
}

static void notes_begin(struct notes *n, const char *display)
{
    static const cookie_io_functions_t io = { .write = notes_write };
    bool hold = display && (!strcmp(display, "text") || !strcmp(display, "auto")) && isatty(STDERR_FILENO);
    *n = (struct notes){ .out = stderr };
    if (!hold || !(n->memory = open_memstream(&n->held, &n->n))) return;
    FILE *out = fopencookie(n, "w", io);
    if (!out) return;
    setvbuf(out, NULL, _IOLBF, BUFSIZ);
    n->out = out;
}

/* The terminal is ours again. */
static void notes_end(struct notes *n)
{
    n->vm = NULL;
    if (n->out != stderr) fclose(n->out);
    if (n->memory && !fclose(n->memory)) fputs(n->held, stderr);
    free(n->held);
}

static void print_warning(void *arg, const char *text)
{
    const struct notes *n = arg;
    fprintf(n->out, "transvisor: warning: %s\n", text);
}

static int run_status(struct vm *vm, enum vm_exit how, const struct stopper *s, const struct vm_error *err)
{
    switch (how) {
    case VM_EXIT_POWEROFF:
    case VM_EXIT_LIMIT:
    case VM_EXIT_PROBE:
    case VM_EXIT_RESET: return STATUS_OK;
    case VM_EXIT_STOPPED: return s->caught ? STATUS_SIGNAL + s->caught : STATUS_OK;
    case VM_EXIT_DEBUG: return (int)(vm_debug_exit_value(vm) & 0xff);
    case VM_EXIT_DIED:
        fputs("transvisor: the guest died of a triple fault\n", stderr);
        vm_diagnose(vm, stderr);
        return STATUS_DIED;
    case VM_EXIT_PAUSED: /* a session answers these itself */
    case VM_EXIT_BREAK:
    case VM_EXIT_STEPPED:
    case VM_EXIT_DISK:
    case VM_EXIT_ERROR: break;
    }
    return fail(STATUS_ERROR, err->text);
}

/* The statistics' file is opened before the machine runs, so that a wrong name is found out at once. */
struct stats_file {
    const char *path; /* NULL: none is wanted */
    int fd;
    const struct wait_end *end;
};

static int stats_fail(const struct stats_file *f, int status, int rc)
{
    char text[512];
    snprintf(text, sizeof text, "--stats %s: %s", f->path, strerror(-rc));
    return fail(status, text);
}

static int stats_open(struct stats_file *f)
{
    f->fd = f->path ? wait_open(f->path, O_WRONLY | O_CREAT | O_TRUNC, 0666, f->end) : -1;
    return f->path && f->fd < 0 ? f->fd : 0;
}

/* Writes and closes it: into a FIFO that nobody empties, for as long as nobody asks us to stop. 0 or -errno. */
static int stats_write(struct stats_file *f, struct vm *vm)
{
    char *text = NULL;
    size_t n = 0;
    if (!f->path) return 0;
    FILE *out = open_memstream(&text, &n);
    int rc = out ? 0 : -ENOMEM;
    if (out) {
        vm_stats(vm, out);
        if (ferror(out)) rc = -ENOMEM;
        if (fclose(out)) rc = -ENOMEM;
    }
    if (!rc) rc = wait_write(f->fd, text, n, f->end);
    if (close(f->fd) && !rc) rc = -errno;
    free(text);
    return rc;
}

/* A machine that has been stopped can go on later; one that is off, or dead, cannot. */
static int save_at_exit(struct vm *vm, enum vm_exit how, const char *path, int status)
{
    struct vm_error err;
    char text[600];
    bool goes_on = how == VM_EXIT_STOPPED || how == VM_EXIT_DEBUG || how == VM_EXIT_LIMIT || how == VM_EXIT_PROBE;
    if (!path || !goes_on || !vm_save_file(vm, path, &err)) return status;
    snprintf(text, sizeof text, "--save-at-exit %.200s: %.250s", path, err.text);
    return fail(STATUS_ERROR, text);
}

/* What stands on the screen at the end; a guest that is off has left it there. */
static int screenshot_at_exit(struct vm *vm, const struct run_args *a, int status)
{
    struct vm_error err;
    char text[600];
    if (!a->screenshot || a->screenshot_ms || !vm_screenshot(vm, a->screenshot, &err)) return status;
    snprintf(text, sizeof text, "--screenshot %.200s: %.250s", a->screenshot, err.text);
    return fail(STATUS_ERROR, text);
}

/* What --timeout and --expect make of a status. */
static int watched_status(int status, enum vm_exit how, const struct watch *w)
{
    if (w->found) return STATUS_OK;
    if (w->timed_out && how == VM_EXIT_STOPPED) return STATUS_TIMEOUT;
    if (!w->cfg.expect || status >= STATUS_SIGNAL || status == STATUS_ERROR) return status;
    fprintf(stderr, "transvisor: --expect: '%s' did not appear\n", w->cfg.expect);
    return STATUS_ERROR;
}

/* Sound that the host plays: the libraries for it open files and start programs when they like. */
static bool plays(const struct run_args *a)
{
    return a->cfg.audio && strcmp(a->cfg.audio, "none") && strncmp(a->cfg.audio, "wav:", 4);
}

/* What a monitor's commands will name nobody knows when the jail is made. */
static bool opens_any_file(const struct run_args *a) { return a->monitor || a->gdb; }

/* Whatever is to be opened later is named here, as far as it is known. */
static int jail(struct vm *vm, const struct run_args *a, struct vm_error *err)
{
    if (a->no_jail) return 0;
    if (plays(a)) {
        fprintf(stderr, "transvisor: warning: no jail: --audio %s needs what it gives up\n", a->cfg.audio);
        return 0;
    }
    if (a->cfg.engine == VM_ENGINE_KVM) {
        fputs("transvisor: warning: no jail: --engine kvm needs what it gives up\n", stderr);
        return 0;
    }
    const char *saves[3] = { NULL }, *const screenshots[] = { a->screenshot, NULL }, *sockets[2] = { NULL };
    if (a->human_monitor && !strncmp(a->human_monitor, "unix:", 5)) sockets[0] = a->human_monitor + 5;
    unsigned n = 0;
    if (a->save) saves[n++] = a->save;
    if (a->save_at_exit) saves[n] = a->save_at_exit;
    const struct vm_jail how = { .size = sizeof how,
                                 .saves = saves,
                                 .screenshots = screenshots,
                                 .any_file = opens_any_file(a),
                                 .sockets = sockets };
    return vm_jail(vm, &how, err);
}

/* vm_stream()'s words, as users know them. */
static void stream_explain(struct vm_error *err)
{
    char text[sizeof err->text];
    snprintf(text, sizeof text, "%s", err->text);
    if (!strncmp(text, "trace stream ", 13)) snprintf(err->text, sizeof err->text, "--trace-stream %.480s", text + 13);
}

static void stream_report(struct vm *vm)
{
    u64 told, lost;
    if (vm_stream_end(vm, &told, &lost)) return;
    fprintf(stderr, "trace stream: %llu records", (unsigned long long)told);
    if (lost) fprintf(stderr, ", %llu lost", (unsigned long long)lost);
    fputc('\n', stderr);
}

/* What looks into the machine. 0 or -errno. */
static int attach_instruments(struct vm *vm, const struct run_args *a, struct probes *probes,
                              const struct symbols *symbols, FILE *out, struct vm_error *err)
{
    char stream[1024];
    struct vm_error why;
    int rc = vm_count(vm, a->count || a->stop_after);
    if (!rc && a->stop_after) rc = vm_limit(vm, a->stop_after);
    if (rc) snprintf(err->text, sizeof err->text, "--count: %s", strerror(-rc));
    if (!rc && (rc = probes_attach(probes, vm, symbols, out, err))) options_explain(verbs[VERB_RUN].options, err);
    if (rc || !a->stream) return rc;
    if ((rc = symbols_words(symbols, a->stream, stream, sizeof stream, &why)))
        return vm_fail(err, rc, "--trace-stream %.200s: %.250s", a->stream, why.text);
    if ((rc = vm_stream(vm, stream, err))) stream_explain(err);
    return rc;
}

static int run_machine(struct vm *vm, struct stopper *s, struct watch *w, struct stats_file *stats, struct doors *doors,
                       const struct run_args *a, struct probes *probes, struct symbols *symbols, struct notes *notes,
                       struct terminal_monitor *terminal)
{
    struct vm_error err = { "" };
    struct session session;
    session_init(&session, vm, a->paused);
    static const char *const ports[] = { "serial port",      "serial port COM2", "serial port COM3",
                                         "serial port COM4", "parallel port",    "virtio console" };
    for (unsigned i = 0; i < ARRAY_LEN(ports); i++) {
        const char *terminal = vm_port_terminal(vm, i);
        if (terminal) fprintf(stderr, "transvisor: %s on %s\n", ports[i], terminal);
    }
    session.symbols = symbols;
    if (terminal) terminal_monitor_start(terminal, &session);
    int refused = attach_instruments(vm, a, probes, symbols, notes->out, &err), rc = refused ? 0 : watch_start(w, vm);
    if (!rc && !refused) rc = doors_start(doors, &session);
    if (!rc && !refused) refused = jail(vm, a, &err);
    if (rc || refused) {
        watch_end(w);
        session_end(&session);
        doors_close(doors, VM_EXIT_ERROR, STATUS_ERROR);
        notes->vm = NULL;
        vm_free(vm);
        if (refused == -EINVAL) return fail(STATUS_USAGE, err.text);
        return refused ? fail(STATUS_ERROR, err.text) : fail_host("watching thread (pthread_create)", rc);
    }
    stopper_watch(s, vm);
    if (a->ready >= 0) {
        if (write(a->ready, "+", 1) != 1) fputs("transvisor: warning: nobody waits for the machine\n", stderr);
        close(a->ready);
    }
    enum vm_exit how = session_run(&session, &err);
    session_end(&session);
    vm_display_close(vm);
    notes->vm = NULL; /* it is freed below, and nothing stands on the terminal any more */
    int status = save_at_exit(vm, how, a->save_at_exit, watched_status(run_status(vm, how, s, &err), how, w));
    status = screenshot_at_exit(vm, a, status);
    doors_close(doors, how, status);
    probes_report(probes, stderr);
    stream_report(vm);
    rc = stats_write(stats, vm);
    stopper_watch(s, NULL);
    watch_end(w);
    vm_free(vm);
    if (rc && rc != -ECANCELED) return stats_fail(stats, status == STATUS_OK ? STATUS_ERROR : status, rc);
    return status;
}

/* What becomes of a machine that a signal has ended before it was there. */
static int create_failed(const struct stopper *s, int rc, struct vm_error *err)
{
    if (rc == -ECANCELED && s->caught) return STATUS_SIGNAL + s->caught;
    options_explain(verbs[VERB_RUN].options, err);
    return fail(rc == -EINVAL ? STATUS_USAGE : STATUS_ERROR, err->text);
}

/* What a verb's words have come to: -1 to go on, or the status to end with. */
static int words_status(enum verb_id id, int rc, const struct opt *asked, const struct vm_error *err)
{
    if (!rc) return -1;
    if (rc < 0) return fail(rc == -EINVAL ? STATUS_USAGE : STATUS_ERROR, err->text);
    if (asked->type == OPT_HELP) verb_help(id, !strcmp(asked->name, "help-all"), stdout);
    else if (asked->own_question) preset_print(stdout);
    else options_names(asked, stdout);
    return end_output();
}

/* Reads a verb's words. Returns -1 to go on, or the status to end with: help was asked for, or a word is wrong. */
static int read_words(enum verb_id id, void *args, int argc, char **argv)
{
    const struct opt *asked;
    struct vm_error err;
    int rc = options_parse(verbs[id].options, args, argc, argv, &asked, &err);
    return words_status(id, rc, asked, &err);
}

/* What was named as a kernel, but is something else that can be booted, goes where it belongs; of the rest, what is
 * well known is told with what to do about it. Returns -1 to go on, or the status. */
static int look_at_kernel(struct run_args *a, enum image_kind *kind)
{
    const char *what, *path = a->cfg.kernel;
    char text[512];
    struct vm_error err;
    *kind = image_probe(path, &what);
    if (*kind == IMAGE_DISK || *kind == IMAGE_CDROM || *kind == IMAGE_FLOPPY) {
        const struct vm_disk disk = { .file = path,
                                      .cdrom = *kind == IMAGE_CDROM,
                                      .bus = *kind == IMAGE_FLOPPY ? VM_BUS_FLOPPY : RUN_BUS_UNSAID,
                                      .werror = RUN_WERROR_UNSAID };
        a->cfg.kernel = NULL;
        return run_args_first_disk(a, &disk, &err) ? fail(STATUS_USAGE, err.text) : -1;
    }
    if (*kind == IMAGE_DISK_FORMAT)
        snprintf(text, sizeof text,
                 "%.200s is a disk image (%s), which is not supported yet; make a raw one: qemu-img convert -O raw "
                 "%.200s disk.img",
                 path, what, path);
    else if (*kind == IMAGE_RAM_DISK)
        snprintf(text, sizeof text,
                 "%.200s is no kernel but an initial RAM disk (%s): transvisor run --kernel FILE --initrd %.200s", path,
                 what, path);
    else return -1;
    return fail(STATUS_USAGE, text);
}

static struct watch_config watch_config(const struct run_args *a, enum image_kind kind, FILE *notes)
{
    bool shown = a->cfg.display && strcmp(a->cfg.display, "none") && strcmp(a->cfg.display, "auto");
    const char *words = a->cfg.cmdline ? a->cfg.cmdline : "";
    struct watch_config cfg = { .timeout_ms = a->timeout_ms,
                                .expect = a->expect,
                                .screenshot = a->screenshot,
                                .screenshot_ms = a->screenshot_ms,
                                .typings = a->typings,
                                .notes = notes,
                                .wants_console = kind == IMAGE_LINUX && !shown && !strstr(words, "console=ttyS") };
    memcpy(cfg.typing, a->typing, sizeof cfg.typing);
    return cfg;
}

static int load_machine(struct vm **vm, const struct vm_config *cfg, const char *path, struct vm_error *err)
{
    struct vm_error why;
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc;
    if (fd < 0) {
        rc = -errno;
        snprintf(err->text, sizeof err->text, "--load %.200s: %s", path, strerror(-rc));
        return rc == -EINVAL ? -EIO : rc;
    }
    rc = vm_load(vm, cfg, fd, &why);
    close(fd);
    if (!rc) return 0;
    options_explain(verbs[VERB_RUN].options, &why);
    snprintf(err->text, sizeof err->text, "--load %.200s: %.250s", path, why.text);
    return rc;
}

/* --for '?': what the first of its files looks like. */
static int print_guess(const struct run_args *a)
{
    struct guess g;
    struct vm_error err;
    const char *file = a->cfg.kernel;
    for (unsigned i = 0; !file && i < a->disks; i++)
        if (a->cfg.disk[i].file && *a->cfg.disk[i].file) file = a->cfg.disk[i].file;
    if (!file) return fail(STATUS_USAGE, "--for '?': say FILE, --disk FILE or --cdrom FILE to guess by");
    if (guess_preset(file, &g, &err)) return fail(STATUS_ERROR, err.text);
    printf("%s: --for %s, as %s\n", file, g.preset, g.why);
    return end_output();
}

static int print_config(const struct config *c)
{
    return config_print(c, stdout) ? fail(STATUS_ERROR, "standard output: could not be written") : end_output();
}

/* -1 to go on, or the status. What was joined before is printed only if all of it is right. */
static int read_machine(struct run_args *a, struct config **config, const struct config *joined, int argc, char **argv,
                        const char *folder)
{
    const struct opt *asked = NULL;
    struct vm_error err;
    int rc = settings_read(a, config, argc, argv, folder, &asked, &err);
    int status = words_status(VERB_RUN, rc, asked, &err);
    if (status >= 0) return status;
    if (a->preset && !strcmp(a->preset, "?")) return print_guess(a);
    return a->print_config ? print_config(joined) : -1;
}

/* For vm_config.symbol. */
struct naming {
    struct symbols *symbols;
    struct vm *vm;
};
static const char *find_symbol(void *arg, u32 address, u32 *offset)
{
    const struct naming *n = arg;
    if (n->vm) kaslr_look(n->symbols, n->vm);
    return symbols_at(n->symbols, address, offset);
}

/* Runs what has been described. */
static int run_described(struct run_args *a)
{
    struct vm_error err;
    char text[200];
    int status;
    enum image_kind kind = IMAGE_UNKNOWN;
    if (a->cfg.kernel && (status = look_at_kernel(a, &kind)) >= 0) return status;
    bool terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    if (terminal && !a->cfg.serial && !a->cfg.display) a->cfg.display = "auto";
    if (run_args_finish(a, &err)) return fail(STATUS_USAGE, err.text);
    for (unsigned i = 0; settings_doubt(a, i, text, sizeof text); i++)
        fprintf(stderr, "transvisor: warning: %s\n", text);

    struct stopper s;
    struct vm *vm;
    struct doors doors;
    ignore_signals_of_files();
    if (!a->no_jail) let_in_jail_signals();
    struct probes *probes;
    struct symbols *symbols = NULL;
    int rc = a->symbols ? symbols_open(&symbols, a->symbols, &err) : 0;
    if (rc) return fail(rc == -EINVAL ? STATUS_USAGE : STATUS_ERROR, err.text);
    rc = probes_open(&probes, a->probe, a->probes, &err);
    if (rc) {
        symbols_close(symbols);
        return fail(rc == -EINVAL ? STATUS_USAGE : STATUS_ERROR, err.text);
    }
    const bool files = a->no_jail || opens_any_file(a);
    const struct doors_config where = { a->gdb, a->monitor, a->human_monitor, files };
    if ((rc = doors_open(&doors, &where, &err))) {
        probes_close(probes);
        symbols_close(symbols);
        return fail(rc == -EINVAL ? STATUS_USAGE : STATUS_ERROR, err.text);
    }
    rc = stopper_start(&s, a->save);
    if (rc) {
        doors_close(&doors, VM_EXIT_ERROR, STATUS_ERROR);
        probes_close(probes);
        symbols_close(symbols);
        return fail_host("signal thread (pthread_create)", rc);
    }
    struct notes notes;
    notes_begin(&notes, a->cfg.display);
    a->cfg.warn = print_warning;
    a->cfg.warn_arg = &notes;
    struct watch watch;
    const struct watch_config watched = watch_config(a, kind, notes.out);
    watch_init(&watch, &watched);
    a->cfg.serial_output = watch_console;
    a->cfg.serial_output_arg = &watch;
    const struct wait_end end = { stopper_asked, &s };
    struct stats_file stats = { .path = a->stats, .end = &end };
    struct naming naming = { .symbols = symbols };
    if (symbols) {
        a->cfg.symbol = find_symbol;
        a->cfg.symbol_arg = &naming;
    }
    a->cfg.cancelled = stopper_asked;
    a->cfg.cancelled_arg = &s;
    a->cfg.was_reset = doors_was_reset;
    a->cfg.was_reset_arg = &doors;
    a->cfg.disk_failed = doors_disk_failed;
    a->cfg.disk_failed_arg = &doors;
    /* Without memory for it Ctrl-A c says that there is none. */
    struct terminal_monitor *monitor = terminal_monitor_new(files);
    a->cfg.talk = monitor ? terminal_monitor_talk : NULL;
    a->cfg.talk_arg = monitor;
    if ((rc = a->load ? load_machine(&vm, &a->cfg, a->load, &err) : vm_create(&vm, &a->cfg, &err))) {
        watch_end(&watch);
        doors_close(&doors, VM_EXIT_ERROR, STATUS_ERROR);
        status = create_failed(&s, rc, &err);
    } else if ((rc = stats_open(&stats))) {
        watch_end(&watch);
        doors_close(&doors, VM_EXIT_ERROR, STATUS_ERROR);
        vm_free(vm);
        status = rc == -ECANCELED ? STATUS_SIGNAL + s.caught : stats_fail(&stats, STATUS_ERROR, rc);
    } else {
        naming.vm = vm;
        notes.vm = vm;
        status = run_machine(vm, &s, &watch, &stats, &doors, a, probes, symbols, &notes, monitor);
    }
    terminal_monitor_free(monitor);
    notes_end(&notes);
    stopper_end(&s);
    probes_close(probes);
    symbols_close(symbols);
    return status;
}

/* A machine_run_fn. */
static int run_words(int argc, char **argv, const char *folder, int ready)
{
    struct run_args a;
    struct vm_error err;
    struct config *config = NULL, *joined = NULL;
    bool printed = options_peek(verbs[VERB_RUN].options, "print-config", argc, argv);
    run_args_init(&a);
    a.ready = ready;
    /* Before the words are parsed, which takes them apart. */
    int rc = printed ? settings_join(&joined, argc, argv, &err) : 0;
    int status = rc ? fail(rc == -EINVAL ? STATUS_USAGE : STATUS_ERROR, err.text)
                    : read_machine(&a, &config, joined, argc, argv, folder);
    if (status < 0) status = run_described(&a);
    config_free(config);
    config_free(joined);
    return status;
}

static int verb_run(int argc, char **argv) { return run_words(argc, argv, NULL, -1); }

/* ---- machines by name ---- */

static int verb_named_machine(enum verb_id id, int argc, char **argv)
{
    struct machine_args a = { .timeout_ms = 60000 };
    struct vm_error err;
    int rc, status = read_words(id, &a, argc, argv);
    if (status >= 0) return status;
    ignore_signals_of_files();
    switch (id) {
    case VERB_LIST: rc = machine_list(&a, &err); break;
    case VERB_STOP: rc = machine_stop(&a, &err); break;
    case VERB_RM: rc = machine_rm(&a, &err); break;
    default: rc = machine_console_of(&a, &err); break;
    }
    if (rc < 0) return fail(rc == -EINVAL ? STATUS_USAGE : STATUS_ERROR, err.text);
    return end_output() ? STATUS_ERROR : rc;
}
static int verb_list(int argc, char **argv) { return verb_named_machine(VERB_LIST, argc, argv); }
static int verb_stop(int argc, char **argv) { return verb_named_machine(VERB_STOP, argc, argv); }
static int verb_rm(int argc, char **argv) { return verb_named_machine(VERB_RM, argc, argv); }
static int verb_console(int argc, char **argv) { return verb_named_machine(VERB_CONSOLE, argc, argv); }

/* The verb's own words go to the front, and from there to *a; the others are a machine's. Returns how many are the
 * verb's, or less than 0, with the status to end with in *status. */
static int read_name(enum verb_id id, struct machine_args *a, int argc, char **argv, int *status)
{
    int own = 0;
    const char *ignored;
    char text[100];
    if (argc && argv[0][0] == '-' && !options_find(verbs[id].options, argv[0], &ignored)) {
        snprintf(text, sizeof text, "the name comes first: transvisor %s NAME [OPTIONS]", verbs[id].name);
        *status = fail(STATUS_USAGE, text);
        return -1;
    }
    for (int i = 0; i < argc; i++) {
        const struct opt *o = argv[i][0] == '-' ? options_find(verbs[id].options, argv[i], &ignored) : NULL;
        bool is_own = i == 0 || (o && (o->type == OPT_FLAG || o->type == OPT_HELP));
        if (!is_own) continue;
        char *word = argv[i];
        memmove(argv + own + 1, argv + own, (size_t)(i - own) * sizeof *argv);
        argv[own++] = word;
    }
    *status = read_words(id, a, own, argv);
    return *status >= 0 ? -1 : own;
}

static int verb_new(int argc, char **argv)
{
    struct machine_args a = { 0 };
    struct vm_error err;
    int status, own = read_name(VERB_NEW, &a, argc, argv, &status);
    if (own < 0) return status;
    int rc = machine_new(a.name, argc - own, argv + own, &err);
    return rc ? fail(rc == -EINVAL ? STATUS_USAGE : STATUS_ERROR, err.text) : end_output();
}

static int verb_start(int argc, char **argv)
{
    struct machine_args a = { 0 };
    struct vm_error err;
    int status, own = read_name(VERB_START, &a, argc, argv, &status);
    if (own < 0) return status;
    ignore_signals_of_files();
    int rc = machine_start(&a, argc - own, argv + own, run_words, &err);
    if (rc < 0) return fail(rc == -EINVAL ? STATUS_USAGE : STATUS_ERROR, err.text);
    return end_output() ? STATUS_ERROR : rc;
}

/* ---- check ---- */

static const char *const host_state_names[] = { [VM_HOST_GOOD] = "ok",
                                                [VM_HOST_WORSE] = "worse",
                                                [VM_HOST_MISSING] = "missing",
                                                [VM_HOST_UNKNOWN] = "unknown" };

static void check_print(void *arg UNUSED, const struct vm_host_item *item)
{
    printf("%-8s %-17s %s%s%s\n", host_state_names[item->state], item->name, item->text, item->cure ? "; cure: " : "",
           item->cure ? item->cure : "");
    fflush(stdout);
}

static void check_print_json(void *arg, const struct vm_host_item *item)
{
    bool *first = arg;
    printf(*first ? "  " : ",\n  ");
    *first = false;
    json_print(item->name);
    printf(": { \"state\": \"%s\", \"text\": ", host_state_names[item->state]);
    json_print(item->text);
    if (item->cure) {
        printf(", \"cure\": ");
        json_print(item->cure);
    }
    printf(" }");
}

static int verb_check(int argc, char **argv)
{
    struct check_args a = { 0 };
    bool first = true;
    int status = read_words(VERB_CHECK, &a, argc, argv);
    if (status >= 0) return status;
    if (a.json) puts("{");
    int rc = a.json ? vm_host_check(check_print_json, &first) : vm_host_check(check_print, NULL);
    if (a.json) printf(",\n  \"can_run\": %s\n}\n", rc ? "false" : "true");
    return end_output() || rc ? STATUS_ERROR : STATUS_OK;
}

/* ---- info ---- */

static int verb_info(int argc, char **argv)
{
    struct info_args a = { 0 };
    struct vm_error err;
    struct vm *vm;
    int status = read_words(VERB_INFO, &a, argc, argv);
    if (status >= 0) return status;
    const struct vm_config cfg = { .size = sizeof cfg, .engine = VM_ENGINE_INTERP, .inspect = true };
    if (load_machine(&vm, &cfg, a.file, &err)) return fail(STATUS_ERROR, err.text);
    int rc = vm_info(vm, a.chip, stdout);
    vm_free(vm);
    if (!rc) return end_output();
    snprintf(err.text, sizeof err.text, "--chip: the machine has no '%.100s'", a.chip);
    return fail(STATUS_USAGE, err.text);
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
    if (rc) options_explain(verbs[VERB_TRANSLATE].options, &err);
    if (rc) return fail(rc == -EINVAL ? STATUS_USAGE : STATUS_ERROR, err.text);
    return end_output();
}

/* ---- bench ---- */

static int verb_bench(int argc, char **argv)
{
    struct bench_args a = { 0 };
    struct vm_error err;
    int status = read_words(VERB_BENCH, &a, argc, argv);
    if (status >= 0) return status;
    if (a.quick && a.full) return fail(STATUS_USAGE, "--quick: it cannot be --full as well");
    bench_become(argc, argv, &err);
    return fail(STATUS_ERROR, err.text);
}

/* ---- img ---- */

static int verb_img(enum verb_id id, int argc, char **argv)
{
    struct img_args a;
    struct vm_error err;
    img_args_init(&a);
    int status = read_words(id, &a, argc, argv);
    if (status >= 0) return status;
    ignore_signals_of_files();
    int rc = img_run(id, &a, &err);
    if (rc < 0) return fail(rc == -EINVAL ? STATUS_USAGE : STATUS_ERROR, err.text);
    return end_output() ? STATUS_ERROR : rc;
}
static int verb_img_create(int argc, char **argv) { return verb_img(VERB_IMG_CREATE, argc, argv); }
static int verb_img_info(int argc, char **argv) { return verb_img(VERB_IMG_INFO, argc, argv); }
static int verb_img_convert(int argc, char **argv) { return verb_img(VERB_IMG_CONVERT, argc, argv); }
static int verb_img_check(int argc, char **argv) { return verb_img(VERB_IMG_CHECK, argc, argv); }
static int verb_img_commit(int argc, char **argv) { return verb_img(VERB_IMG_COMMIT, argc, argv); }

static int verb_top(int argc, char **argv)
{
    struct top_args a = { .ms = 1000 };
    struct vm_error err;
    int status = read_words(VERB_TOP, &a, argc, argv);
    if (status >= 0) return status;
    ignore_signals_of_files();
    if (top_run(&a, &err)) return fail(STATUS_ERROR, err.text);
    return end_output();
}

/* ---- verbs ---- */

static int (*const verb_runs[VERB_COUNT])(int argc, char **argv) = {
    [VERB_RUN] = verb_run,
    [VERB_NEW] = verb_new,
    [VERB_LIST] = verb_list,
    [VERB_START] = verb_start,
    [VERB_CONSOLE] = verb_console,
    [VERB_STOP] = verb_stop,
    [VERB_RM] = verb_rm,
    [VERB_INFO] = verb_info,
    [VERB_CHECK] = verb_check,
    [VERB_TOP] = verb_top,
    [VERB_TRANSLATE] = verb_translate,
    [VERB_BENCH] = verb_bench,
    [VERB_IMG_CREATE] = verb_img_create,
    [VERB_IMG_INFO] = verb_img_info,
    [VERB_IMG_CONVERT] = verb_img_convert,
    [VERB_IMG_CHECK] = verb_img_check,
    [VERB_IMG_COMMIT] = verb_img_commit,
};

static int help(void)
{
    puts("usage: transvisor VERB [OPTIONS]\n       transvisor FILE       runs it, as `transvisor run FILE`\n");
    for (int i = 0; i < VERB_COUNT; i++)
        printf("  transvisor %-11s %s; `transvisor %s --help`\n", verbs[i].name, verbs[i].what, verbs[i].name);
    printf("  transvisor --version\n\n%s", verbs_exit_status);
    return end_output();
}

static int version(void)
{
    const char *value, *what;
    printf("transvisor %s\n", vm_version());
    for (unsigned i = 0; (value = vm_version_part(i, &what)); i++) printf("%s %s\n", what, value);
    return end_output();
}

/* Options without a verb: what would have been typed with it, unless that would not help. */
static int no_verb(int argc, char **argv)
{
    char text[400];
    const char *ignored;
    for (int i = 1; i < argc; i++) {
        const struct opt *o = options_find(verbs[VERB_RUN].options, argv[i], &ignored);
        if (!o || o->type != OPT_LATER) continue;
        snprintf(text, sizeof text, "%.100s: %s", argv[i], o->help);
        return fail(STATUS_USAGE, text);
    }
    int n = snprintf(text, sizeof text, "options follow a verb: transvisor run");
    for (int i = 1; i < argc && n < (int)sizeof text; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, " %s", argv[i]);
    return fail(STATUS_USAGE, text);
}

/* The verb that words begin with, and how many of them are its own; VERB_COUNT if there is none. */
static enum verb_id verb_named(int argc, char **argv, int *words)
{
    char two[64] = "";
    enum verb_id id = 0;
    if (argc > 1) snprintf(two, sizeof two, "%.30s %.30s", argv[0], argv[1]);
    while (id < VERB_COUNT && strcmp(argv[0], verbs[id].name) && strcmp(two, verbs[id].name)) id++;
    *words = id < VERB_COUNT && strchr(verbs[id].name, ' ') ? 2 : 1;
    return id;
}

/* `transvisor img` alone, or with a word that is none of its own. */
static int img_alone(int argc, char **argv)
{
    char text[256];
    bool help = argc > 1 && argv[1][0] == '-';
    for (int i = VERB_IMG_CREATE; i < VERB_COUNT && help; i++)
        printf("  transvisor %-11s %s; `transvisor %s --help`\n", verbs[i].name, verbs[i].what, verbs[i].name);
    if (help) return end_output();
    if (argc < 2) snprintf(text, sizeof text, "img: a verb is missing: create, info, convert, check, commit");
    else
        snprintf(text, sizeof text, "img: there is no '%.100s'; there are create, info, convert, check, commit",
                 argv[1]);
    return fail(STATUS_USAGE, text);
}

static bool is_one_of(const char *word, const char *a, const char *b, const char *c)
{
    return !strcmp(word, a) || !strcmp(word, b) || !strcmp(word, c);
}

static int unknown_verb(const char *word)
{
    char text[256];
    struct closest near = { .word = word };
    for (int i = 0; i < VERB_COUNT; i++) closest_offer(&near, verbs[i].name);
    if (near.best) snprintf(text, sizeof text, "there is no verb '%.100s'; did you mean %s?", word, near.best);
    else snprintf(text, sizeof text, "there is no verb '%.100s', nor a file; try transvisor --help", word);
    return fail(STATUS_USAGE, text);
}

int main(int argc, char **argv)
{
    if (fill_standard_descriptors()) return STATUS_ERROR; /* and nowhere to say so, perhaps */
    if (argc < 2) return fail(STATUS_USAGE, "no verb given; try transvisor --help");
    const char *word = argv[1], *ignored;
    int words;
    enum verb_id id = verb_named(argc - 1, argv + 1, &words);
    if (id != VERB_COUNT) return verb_runs[id](argc - 1 - words, argv + 1 + words);
    if (!strcmp(word, "img")) return img_alone(argc - 1, argv + 1);
    if (is_one_of(word, "--help", "-help", "-h") || !strcmp(word, "help")) {
        id = argc > 2 ? verb_named(argc - 2, argv + 2, &words) : VERB_COUNT;
        if (id == VERB_COUNT) return help();
        verb_help(id, true, stdout);
        return end_output();
    }
    if (is_one_of(word, "--version", "-version", "version")) return version();
    if (options_find(verbs[VERB_RUN].options, word, &ignored)) return no_verb(argc, argv);
    if (word[0] != '-' && (!access(word, F_OK) || image_probe(word, &ignored) != IMAGE_UNKNOWN))
        return verb_run(argc - 1, argv + 1);
    return unknown_verb(word);
}
