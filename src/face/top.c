/* Owns `transvisor top`: a client of a machine's monitor, that asks for its counters once a screen, and for where the
 * guest is many times, and shows what has become of them since. */
#include "src/face/top.h"
#include "src/error.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SAMPLES 100u
#define PLACES_SHOWN 10u
#define RATES_SHOWN 8u

struct place {
    char text[120];
    unsigned n;
};
struct top {
    FILE *in;
    int out;
    struct place place[SAMPLES];
    unsigned places, samples, idle;
    json_t *before, *now; /* counters */
};

/* ---- the monitor's protocol ---- */

/* The answer to a request; what is told beside it is passed over. NULL: the machine has gone. */
static json_t *answer(struct top *t)
{
    char *line = NULL;
    size_t room = 0;
    json_t *got = NULL;
    while (!got && getline(&line, &room, t->in) > 0) {
        got = json_loads(line, 0, NULL);
        if (json_object_get(got, "return") || json_object_get(got, "QMP") || json_object_get(got, "error")) continue;
        json_decref(got);
        got = NULL;
    }
    free(line);
    return got;
}

static json_t *ask(struct top *t, const char *request)
{
    size_t n = strlen(request);
    return write(t->out, request, n) == (ssize_t)n ? answer(t) : NULL;
}

/* What a command of the human monitor prints: to be freed. NULL: the machine has gone. */
static char *command(struct top *t, const char *line)
{
    char request[160];
    snprintf(request, sizeof request,
             "{\"execute\": \"human-monitor-command\", \"arguments\": {\"command-line\": \"%s\"}}\n", line);
    json_t *got = ask(t, request);
    const char *text = json_string_value(json_object_get(got, "return"));
    char *copy = text ? strdup(text) : NULL;
    json_decref(got);
    return copy;
}

static int connect_to(struct top *t, const char *monitor, struct vm_error *err)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    const char *path = strncmp(monitor, "unix:", 5) ? monitor : monitor + 5;
    if (strlen(path) >= sizeof a.sun_path) return vm_fail(err, -ENAMETOOLONG, "%.200s: the path is too long", path);
    strcpy(a.sun_path, path);
    t->out = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (t->out < 0 || connect(t->out, (const struct sockaddr *)&a, sizeof a))
        return vm_fail(err, -errno, "%.200s: %s", path, strerror(errno));
    if (!(t->in = fdopen(t->out, "r"))) return vm_fail(err, -ENOMEM, "%.200s: out of memory", path);
    json_t *hello = answer(t), *known = hello ? ask(t, "{\"execute\": \"qmp_capabilities\"}\n") : NULL;
    bool good = json_object_get(hello, "QMP") && json_object_get(known, "return");
    json_decref(hello);
    json_decref(known);
    return good ? 0 : vm_fail(err, -EPROTO, "%.200s: no monitor answers there, or it has a client already", path);
}

/* ---- a screen ---- */

static bool counters(struct top *t)
{
    char *text = command(t, "info stats");
    json_decref(t->before);
    t->before = t->now;
    t->now = text ? json_loads(text, 0, NULL) : NULL;
    free(text);
    return t->now != NULL;
}

static double since(const struct top *t, const char *name)
{
    return json_number_value(json_object_get(t->now, name)) - json_number_value(json_object_get(t->before, name));
}

static bool sample(struct top *t)
{
    char *text = command(t, "info where");
    if (!text) return false;
    text[strcspn(text, "\r\n")] = 0;
    t->samples++;
    unsigned i = 0;
    if (!strcmp(text, "idle")) t->idle++;
    else {
        while (i < t->places && strcmp(t->place[i].text, text)) i++;
        if (i == t->places) snprintf(t->place[t->places++].text, sizeof t->place[i].text, "%s", text);
        t->place[i].n++;
    }
    free(text);
    return true;
}

static int by_count(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    return x->n != y->n ? (x->n < y->n ? 1 : -1) : strcmp(x->text, y->text);
}

struct rate {
    const char *what;
    double n;
};
static int by_rate(const void *a, const void *b)
{
    double x = ((const struct rate *)a)->n, y = ((const struct rate *)b)->n;
    return x < y ? 1 : x > y ? -1 : 0;
}

static void show_rates(const struct top *t, double seconds)
{
    static const char *const names[][2] = {
        { "interrupts", "interrupts" },
        { "pf", "page faults" },
        { "exceptions", "exceptions" },
        { "cr3_writes", "address spaces" },
        { "pio", "ports" },
        { "mmio", "device memory" },
        { "halts", "HLT" },
        { "emulated", "interpreted" },
        { "jc_misses", "jump-cache misses" },
        { "tlb_fills", "soft-TLB fills" },
        { "fault_window", "window faults" },
        { "code_writes", "writes to code" },
        { "blocks", "blocks translated" },
        { "direct_syscalls", "direct: system calls" },
        { "direct_faults", "direct: faults" },
        { "direct_traps", "direct: traps" },
    };
    struct rate r[ARRAY_LEN(names)];
    for (size_t i = 0; i < ARRAY_LEN(names); i++) r[i] = (struct rate){ names[i][1], since(t, names[i][0]) / seconds };
    qsort(r, ARRAY_LEN(r), sizeof *r, by_rate);
    puts("exits a second");
    for (size_t i = 0; i < RATES_SHOWN; i += 2)
        printf("  %-22s %12.0f      %-22s %12.0f\n", r[i].what, r[i].n, r[i + 1].what, r[i + 1].n);
}

static void show(struct top *t, double seconds, const char *status)
{
    double all = since(t, "run_cycles"), of = all > 0 ? 100 / all : 0;
    printf("%s  idle %.1f %%  kernel %.1f %%  user %.1f %%\n", status, of * since(t, "idle_cycles"),
           of * since(t, "kernel_cycles"), of * since(t, "user_cycles"));
    printf("engines  direct %.1f %%  translating %.1f %%  devices %.1f %%  interpreted %.0f instructions a second\n",
           of * since(t, "direct_cycles"), of * (since(t, "xl_cycles") + since(t, "clone_cycles")),
           of * since(t, "dev_cycles"), since(t, "interp_insns") / seconds);
    show_rates(t, seconds);
    printf("where the guest is, %u samples, %u of them idle\n", t->samples, t->idle);
    qsort(t->place, t->places, sizeof *t->place, by_count);
    for (unsigned i = 0; i < t->places && i < PLACES_SHOWN; i++)
        printf("  %5.1f %%  %s\n", 100.0 * t->place[i].n / t->samples, t->place[i].text);
    fflush(stdout);
}

static bool screen(struct top *t, const struct top_args *a)
{
    const u64 each = a->ms * 1000000 / SAMPLES;
    t->places = t->samples = t->idle = 0;
    if (!counters(t)) return false;
    for (unsigned i = 0; i < SAMPLES; i++) {
        nanosleep(&(struct timespec){ (time_t)(each / 1000000000), (long)(each % 1000000000) }, NULL);
        if (!sample(t)) return false;
    }
    char *status = counters(t) ? command(t, "info status") : NULL;
    if (!status) return false;
    status[strcspn(status, "\r\n")] = 0;
    double ns = since(t, "guest_ns");
    if (!a->once) fputs("\033[H\033[2J", stdout);
    show(t, ns > 0 ? ns / 1e9 : (double)a->ms / 1e3, status);
    free(status);
    return true;
}

int top_run(const struct top_args *a, struct vm_error *err)
{
    struct top *t = calloc(1, sizeof *t);
    if (!t) return vm_fail(err, -ENOMEM, "top: out of memory");
    int rc = connect_to(t, a->monitor, err);
    bool goes_on = !rc && screen(t, a);
    if (!rc && !goes_on) rc = vm_fail(err, -EPIPE, "%.200s: the machine has ended", a->monitor);
    while (goes_on && !a->once) goes_on = screen(t, a);
    if (t->in) fclose(t->in);
    else if (t->out >= 0) close(t->out);
    json_decref(t->before);
    json_decref(t->now);
    free(t);
    return rc;
}
