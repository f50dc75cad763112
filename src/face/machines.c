/* Owns what is done to machines that have a name: list, start, stop, rm, console. */
#define _GNU_SOURCE /* pipe2 */
#include "src/face/machines.h"
#include "src/error.h"
#include "src/face/console.h"
#include "src/face/json.h"
#include "src/face/machine.h"
#include "src/face/settings.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define POLL_MS 50
#define KILL_MS 5000 /* how long a machine has that is to end at once */
#define LOG_SHOWN 4096

static void sleep_ms(u64 ms)
{
    nanosleep(&(struct timespec){ (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 }, NULL);
}

/* ---- list ---- */

static const char *const state_names[] = { [MACHINE_OFF] = "off",
                                           [MACHINE_RUNNING] = "running",
                                           [MACHINE_DIED] = "died",
                                           [MACHINE_FAILED] = "failed",
                                           [MACHINE_CRASHED] = "crashed" };

struct listing {
    bool json;
    unsigned machines;
    unsigned disks; /* of the present machine */
    const struct machine *m;
};

/* A drive's file, without what follows it, allocated. */
static char *drive_file(const char *text)
{
    char *file = strdup(strncmp(text, "file=", 5) ? text : text + 5), *to = file;
    for (const char *p = file; p && *p && (*p != ',' || p[1] == ','); p++) {
        if (*p == ',') p++;
        *to++ = *p;
    }
    if (file) *to = 0;
    return file;
}

static int list_disk(void *arg, const struct opt *row, const char *text, char **other UNUSED, struct vm_error *err)
{
    struct listing *l = arg;
    struct vm_image_info info;
    if (strcmp(row->name, "disk")) return 0;
    char *inside = config_path(row, text, l->m->folder), *file = drive_file(inside ? inside : text);
    free(inside);
    if (!file) return vm_fail(err, -ENOMEM, "machine: out of memory");
    bool known = !vm_image_info(file, VM_FORMAT_PROBE, &info, &(struct vm_error){ "" });
    if (l->json) {
        printf(l->disks ? ", { \"file\": " : "{ \"file\": ");
        json_print(file);
        if (known) printf(", \"size\": %llu", (unsigned long long)info.bytes);
        printf(" }");
    } else {
        const char *name = strrchr(file, '/');
        printf("%s%s ", l->disks ? ", " : "", name ? name + 1 : file);
        if (known && info.bytes >> 30) printf("%.4gG", (double)info.bytes / (1 << 30));
        else if (known) printf("%.4gM", (double)info.bytes / (1 << 20));
        else printf("?");
    }
    l->disks++;
    free(file);
    return 0;
}

static int list_one(void *arg, const char *name)
{
    struct listing *l = arg;
    struct machine m;
    struct machine_status s;
    struct vm_error err;
    struct config *c = NULL;
    int rc = machine_named(&m, name, &err);
    if (!rc) rc = machine_status(&m, &s, &err);
    if (rc) {
        fprintf(stderr, "transvisor: %s\n", err.text);
        return 0;
    }
    struct vm_error wrong = { "" };
    rc = config_load(&c, m.config, &wrong);
    const char *preset = c ? config_value(c, "for") : NULL;
    l->m = &m;
    l->disks = 0;
    if (l->json) {
        printf("%s  { \"name\": \"%s\", \"state\": \"%s\"", l->machines ? ",\n" : "", name, state_names[s.state]);
        if (s.pid) printf(", \"pid\": %d", s.pid);
        if (s.console[0]) {
            printf(", \"console\": ");
            json_print(s.console);
        }
        if (s.exit) printf(", \"status\": %d", s.exit);
        if (preset) {
            printf(", \"for\": ");
            json_print(preset);
        }
        printf(", \"disks\": [");
    } else {
        if (!l->machines) printf("%-20s %-8s %-8s %s\n", "NAME", "STATE", "FOR", "DISKS");
        printf("%-20s %-8s %-8s ", name, state_names[s.state], preset ? preset : "-");
    }
    if (!rc) rc = config_each(c, verbs[VERB_RUN].options, list_disk, l, &wrong);
    printf(l->json ? "] }" : "\n");
    if (rc) fprintf(stderr, "transvisor: %s\n", wrong.text);
    config_free(c);
    l->machines++;
    return 0;
}

int machine_list(const struct machine_args *a, struct vm_error *err)
{
    struct listing l = { .json = a->json };
    if (l.json) puts("[");
    int rc = machine_each(list_one, &l, err);
    if (l.json) puts(l.machines ? "\n]" : "]");
    return rc;
}

/* ---- start ---- */

/* What a machine that did not start has said. */
static void log_show(const char *log)
{
    char text[LOG_SHOWN];
    FILE *in = fopen(log, "re");
    size_t n = in ? fread(text, 1, sizeof text, in) : 0;
    if (in) fclose(in);
    fwrite(text, 1, n, stderr);
}

/* Standard input is nothing, output the log, and no terminal is ours. */
static int leave_terminal(const char *log)
{
    char old[PATH_MAX + 8];
    snprintf(old, sizeof old, "%s.old", log);
    if (rename(log, old) && errno != ENOENT) return -errno;
    int in = open("/dev/null", O_RDONLY | O_CLOEXEC),
        out = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    if (in < 0 || out < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0) return -errno;
    close(in);
    close(out);
    return 0;
}

/* The machine's process; it does not come back. */
static _Noreturn void be_machine(const struct machine *m, const char *log, int argc, char **argv, machine_run_fn *run,
                                 int ready)
{
    struct vm_error err;
    char console[sizeof((struct machine_status *)0)->console] = "", serial[sizeof console + 8],
                                               monitor[sizeof serial + sizeof MACHINE_MONITOR];
    struct config *c = NULL;
    setsid();
    int rc = config_load(&c, m->config, &err);
    bool own = !rc && !config_value(c, "serial") && !options_peek(verbs[VERB_RUN].options, "serial", argc, argv);
    config_free(c);
    if (!rc && own) rc = machine_console(m, console, sizeof console, &err);
    int claim = rc ? rc : machine_claim(m, console, &err);
    if (claim >= 0 && (rc = leave_terminal(log))) {
        vm_fail(&err, rc, "%.300s: %s", log, strerror(-rc));
        machine_release(claim, 1);
    }
    char **words = calloc((size_t)argc + 7, sizeof *words);
    if (claim < 0 || rc || !words) {
        if (!words) vm_fail(&err, -ENOMEM, "machine: out of memory");
        fprintf(stderr, "transvisor: %s\n", err.text);
        _exit(write(ready, "!", 1) == 1 ? 1 : 2); /* it has been told */
    }
    int n = 0;
    words[n++] = "--config";
    words[n++] = (char *)m->config;
    if (own) {
        snprintf(serial, sizeof serial, "unix:%s", console);
        words[n++] = "--serial";
        words[n++] = serial;
        snprintf(monitor, sizeof monitor, "%s" MACHINE_MONITOR, serial);
        words[n++] = "--human-monitor";
        words[n++] = monitor;
    }
    for (int i = 0; i < argc; i++) words[n++] = argv[i];
    int status = run(n, words, m->folder, ready);
    machine_release(claim, status);
    fflush(NULL);
    _exit(status);
}

int machine_start(const struct machine_args *a, int argc, char **argv, machine_run_fn *run, struct vm_error *err)
{
    struct machine m;
    char log[PATH_MAX], told = 0;
    int ends[2], rc = machine_find(&m, a->name, err);
    if (!rc) rc = machine_make_folders(&m, err);
    if (!rc) rc = machine_file(&m, "log", log, sizeof log, err);
    if (rc) return rc;
    if (pipe2(ends, O_CLOEXEC)) return vm_fail(err, -errno, "pipe: %s", strerror(errno));
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) return vm_fail(err, -errno, "fork: %s", strerror(errno));
    if (!pid) {
        close(ends[0]);
        be_machine(&m, log, argc, argv, run, ends[1]);
    }
    close(ends[1]);
    ssize_t n;
    while ((n = read(ends[0], &told, 1)) < 0 && errno == EINTR) {}
    close(ends[0]);
    if (n == 1 && told != '!') {
        if (a->console) return machine_console_of(a, err);
        printf("%s runs, as process %d; its log is %s\n", m.name, pid, log);
        return 0;
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    if (n != 1) log_show(log);
    if (WIFEXITED(status) && WEXITSTATUS(status)) return WEXITSTATUS(status);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : 0; /* it may have been over at once */
}

/* ---- stop ---- */

/* Until it does not run, or ms have passed. 1: it runs; 0: not; or -errno. */
static int wait_for_end(const struct machine *m, u64 ms, struct vm_error *err)
{
    struct machine_status s;
    for (;; ms = ms > POLL_MS ? ms - POLL_MS : 0) {
        int rc = machine_status(m, &s, err);
        if (rc || s.state != MACHINE_RUNNING || !ms) return rc ? rc : s.state == MACHINE_RUNNING;
        sleep_ms(POLL_MS);
    }
}

static int send(const struct machine *m, int sig, struct vm_error *err)
{
    struct machine_status s;
    int rc = machine_status(m, &s, err);
    if (rc) return rc;
    if (s.state != MACHINE_RUNNING) return vm_fail(err, -ESRCH, "%s does not run", m->name);
    if (s.pid <= 0) return vm_fail(err, -ESRCH, "%s runs where this process cannot reach it", m->name);
    return kill(s.pid, sig) ? vm_fail(err, -errno, "%s, process %d: %s", m->name, s.pid, strerror(errno)) : 0;
}

int machine_stop(const struct machine_args *a, struct vm_error *err)
{
    struct machine m;
    int rc = machine_find(&m, a->name, err);
    if (!rc) rc = send(&m, a->force ? SIGTERM : SIGPWR, err);
    if (!rc) rc = wait_for_end(&m, a->force ? KILL_MS : a->timeout_ms, err);
    if (rc == 1 && a->force) {
        rc = send(&m, SIGKILL, err);
        if (rc == -ESRCH) rc = 0;
        if (!rc) rc = wait_for_end(&m, KILL_MS, err);
    }
    if (rc != 1) return rc;
    if (a->force) return vm_fail(err, -EBUSY, "%s has not ended", a->name);
    return vm_fail(err, -ETIMEDOUT,
                   "%s has not powered off %llu s after its power button was pressed; it may not listen to it: "
                   "transvisor stop %s --force",
                   a->name, (unsigned long long)(a->timeout_ms / 1000), a->name);
}

/* ---- rm ---- */

/* What is the machine's own: it goes without a question. */
static bool is_record(const char *file)
{
    return !strcmp(file, "log") || !strcmp(file, "log.old") || !strcmp(file, "state");
}

/* Names the files in the folder that somebody may miss. Returns how many there are. */
static unsigned name_images(const struct machine *m, FILE *out)
{
    DIR *folder = opendir(m->folder);
    unsigned n = 0;
    for (struct dirent *e; folder && (e = readdir(folder));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") && !is_record(e->d_name))
            fprintf(out, "%s%s", n++ ? ", " : "", e->d_name);
    if (folder) closedir(folder);
    return n;
}

static bool agreed(const struct machine *m, const char *images)
{
    char answer[16] = "";
    printf("remove %s, with %s in %s? [y/N] ", m->name, images, m->folder);
    fflush(stdout);
    return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

/* The files in its folder, and the folder. A directory in it stays, and with it the folder. */
static int folder_remove(const struct machine *m, struct vm_error *err)
{
    char path[PATH_MAX];
    DIR *folder = opendir(m->folder);
    int rc = 0;
    for (struct dirent *e; folder && !rc && (e = readdir(folder));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        rc = machine_file(m, e->d_name, path, sizeof path, err);
        if (!rc && unlink(path)) rc = vm_fail(err, -errno, "%.300s: %s", path, strerror(errno));
    }
    if (folder) closedir(folder);
    if (rc || !rmdir(m->folder) || errno == ENOENT) return rc;
    return vm_fail(err, -errno, "%.300s: %s", m->folder, strerror(errno));
}

int machine_rm(const struct machine_args *a, struct vm_error *err)
{
    struct machine m;
    char *images = NULL;
    size_t room;
    int rc = machine_find(&m, a->name, err);
    if (!rc) rc = machine_make_folders(&m, err);
    if (rc) return rc;
    int claim = machine_claim(&m, NULL, err); /* nobody starts it meanwhile */
    if (claim < 0) return claim;
    FILE *names = open_memstream(&images, &room);
    unsigned n = names ? name_images(&m, names) : 0;
    if (!names || fclose(names)) rc = vm_fail(err, -ENOMEM, "machine: out of memory");
    if (!rc && n && !a->force) {
        bool asked = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
        if (!asked) rc = vm_fail(err, -EPERM, "%s has %.200s; --force removes that, too", a->name, images);
        else if (!agreed(&m, images)) rc = vm_fail(err, -ECANCELED, "%s stays", a->name);
    }
    free(images);
    if (!rc) rc = folder_remove(&m, err);
    if (!rc && unlink(m.config)) rc = vm_fail(err, -errno, "%.300s: %s", m.config, strerror(errno));
    close(claim);
    return rc;
}

/* ---- console ---- */

int machine_console_of(const struct machine_args *a, struct vm_error *err)
{
    struct machine m;
    struct machine_status s;
    char monitor[sizeof s.console + sizeof MACHINE_MONITOR];
    int rc = machine_find(&m, a->name, err);
    if (!rc) rc = machine_status(&m, &s, err);
    if (rc) return rc;
    if (s.state != MACHINE_RUNNING) return vm_fail(err, -ESRCH, "%s does not run; transvisor start %s", m.name, m.name);
    if (!s.console[0])
        return vm_fail(err, -ENOENT, "%s has its serial port elsewhere (\"serial\" in %.300s)", m.name, m.config);
    snprintf(monitor, sizeof monitor, "%s" MACHINE_MONITOR, s.console);
    return console_run(s.console, monitor, err);
}
