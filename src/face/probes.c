/* Owns what becomes of --probe: counting, histograms, lines of text, a stop, calls.
 *   I1  hist is sorted by value.   [bucket] */
#include "src/face/probes.h"
#include "src/error.h"
#include "src/face/probe_call.h"
#include "src/face/symbols.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN_MAX 8u
#define BUCKETS_MAX 65536u
#define BUCKETS_SHOWN 32u

enum action { DO_COUNT, DO_STOP, DO_PRINT, DO_HISTOGRAM, DO_CALL };

struct bucket {
    u64 value, n;
};
struct face_probe {
    char event[256]; /* as typed, without do= */
    enum action action;
    unsigned value[SHOWN_MAX], values; /* what is printed, or counted by its value */
    struct probe_call *call;
    FILE *out;
    int id;
    struct vm *vm;
    struct bucket *hist;
    size_t buckets, room;
    u64 lost; /* values that there was no room for */
};
struct probes {
    unsigned n;
    struct face_probe probe[PROBE_WORDS_MAX];
};

/* ---- words ---- */

/* NAME[+NAME].. */
static int parse_values(struct face_probe *p, const char *list, struct vm_error *err)
{
    for (; *list; list += list[0] == '+') {
        char name[32];
        size_t n = strcspn(list, "+");
        snprintf(name, sizeof name, "%.*s", (int)n, list);
        int v = vm_probe_value(name);
        if (v < 0) return vm_fail(err, -EINVAL, "there is no value '%s'", name);
        if (p->values == SHOWN_MAX) return vm_fail(err, -EINVAL, "more than %u values", SHOWN_MAX);
        p->value[p->values++] = (unsigned)v;
        list += n;
    }
    return 0;
}

static int parse_action(struct face_probe *p, const char *word, struct vm_error *err)
{
    static const char *const names[] = { "count", "stop", "print", "histogram" }; /* in the order of enum action */
    size_t n = strcspn(word, ":");
    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        if (strlen(names[i]) != n || memcmp(names[i], word, n)) continue;
        p->action = (enum action)i;
        if (word[n] && i != DO_PRINT && i != DO_HISTOGRAM)
            return vm_fail(err, -EINVAL, "do=%s takes no values", names[i]);
        int rc = word[n] ? parse_values(p, word + n + 1, err) : 0;
        if (!rc && i == DO_HISTOGRAM && p->values != 1)
            return vm_fail(err, -EINVAL, "do=histogram:VALUE is of one value");
        return rc;
    }
    return vm_fail(err, -EINVAL, "'do=%s' is none of count, stop, print[:VALUE+VALUE..], histogram:VALUE", word);
}

static int parse(struct face_probe *p, const struct probe_words *w, struct vm_error *err)
{
    const char *action = strstr(w->event, ",do=");
    size_t n = action ? (size_t)(action - w->event) : strlen(w->event);
    struct vm_error why;
    if (n >= sizeof p->event) return vm_fail(err, -EINVAL, "--probe %.64s..: is too long", w->event);
    memcpy(p->event, w->event, n);
    if (action && w->call) return vm_fail(err, -EINVAL, "--probe %.150s: either do= or --call", w->event);
    if (action && parse_action(p, action + 4, &why))
        return vm_fail(err, -EINVAL, "--probe %.150s: %.200s", w->event, why.text);
    if (!w->call) return 0;
    p->action = DO_CALL;
    int rc = probe_call_open(&p->call, w->call, &why);
    return rc ? vm_fail(err, rc, "--call %.100s: %.350s", w->call, why.text) : 0;
}

int probes_open(struct probes **out, const struct probe_words *words, unsigned n, struct vm_error *err)
{
    struct probes *p = *out = calloc(1, sizeof *p);
    if (!p) return vm_fail(err, -ENOMEM, "--probe: out of memory");
    for (p->n = 0; p->n < n; p->n++) {
        int rc = parse(&p->probe[p->n], &words[p->n], err);
        if (!rc) continue;
        p->n++;
        probes_close(p);
        *out = NULL;
        return rc;
    }
    return 0;
}

void probes_close(struct probes *p)
{
    if (!p) return;
    for (unsigned i = 0; i < p->n; i++) {
        probe_call_close(p->probe[i].call);
        free(p->probe[i].hist);
    }
    free(p);
}

/* ---- what is done ---- */

static enum vm_probe_verdict do_stop(struct vm *vm UNUSED, void *arg UNUSED) { return VM_PROBE_STOP; }

static enum vm_probe_verdict do_print(struct vm *vm, void *arg)
{
    const struct face_probe *p = arg;
    fprintf(p->out, "%s:", p->event);
    for (unsigned i = 0; i < p->values; i++)
        fprintf(p->out, " %s=%llx", vm_probe_value_name(p->value[i], NULL),
                (unsigned long long)vm_probe_get(vm, p->value[i]));
    putc('\n', p->out);
    return VM_PROBE_GO;
}

/* The value's place, with room for it; NULL: there is none any more. */
static struct bucket *bucket(struct face_probe *p, u64 v)
{
    size_t low = 0, high = p->buckets;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (p->hist[mid].value < v) low = mid + 1;
        else high = mid;
    }
    if (low < p->buckets && p->hist[low].value == v) return &p->hist[low];
    if (p->buckets == p->room) {
        size_t room = p->room ? 2 * p->room : 64;
        struct bucket *more = room > BUCKETS_MAX ? NULL : realloc(p->hist, room * sizeof *more);
        if (!more) return NULL;
        p->hist = more;
        p->room = room;
    }
    memmove(&p->hist[low + 1], &p->hist[low], (p->buckets++ - low) * sizeof *p->hist);
    p->hist[low] = (struct bucket){ .value = v };
    return &p->hist[low];
}

static enum vm_probe_verdict do_histogram(struct vm *vm, void *arg)
{
    struct face_probe *p = arg;
    struct bucket *b = bucket(p, vm_probe_get(vm, p->value[0]));
    if (b) b->n++;
    else p->lost++;
    return VM_PROBE_GO;
}

int probes_attach(struct probes *p, struct vm *vm, const struct symbols *symbols, FILE *out, struct vm_error *err)
{
    static vm_probe_fn *const functions[] = { [DO_COUNT] = NULL,
                                              [DO_STOP] = do_stop,
                                              [DO_PRINT] = do_print,
                                              [DO_HISTOGRAM] = do_histogram,
                                              [DO_CALL] = probe_call_make };
    for (unsigned i = 0; i < p->n; i++) {
        struct face_probe *f = &p->probe[i];
        if (f->action == DO_PRINT && !f->values && parse_values(f, "la+address+value+eax", err)) return -EINVAL;
        f->out = out;
        f->vm = vm;
        struct vm_error why;
        char event[512];
        if (symbols_words(symbols, f->event, event, sizeof event, &why))
            return vm_fail(err, -EINVAL, "--probe %.150s: %.300s", f->event, why.text);
        f->id = vm_probe_add(vm, event, functions[f->action], f->action == DO_CALL ? (void *)f->call : f, err);
        if (f->id < 0) return f->id;
    }
    return 0;
}

/* ---- what has come of it ---- */

static int by_count(const void *a, const void *b)
{
    const struct bucket *x = a, *y = b;
    if (x->n != y->n) return x->n < y->n ? 1 : -1;
    return x->value < y->value ? -1 : x->value > y->value;
}

static void report_histogram(const struct face_probe *p, FILE *out)
{
    size_t n = p->buckets;
    struct bucket *sorted = malloc((n + !n) * sizeof *sorted);
    if (!sorted) return;
    memcpy(sorted, p->hist ? p->hist : sorted, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_count);
    for (size_t i = 0; i < n && i < BUCKETS_SHOWN; i++)
        fprintf(out, "  %s %llx: %llu\n", vm_probe_value_name(p->value[0], NULL), (unsigned long long)sorted[i].value,
                (unsigned long long)sorted[i].n);
    if (n > BUCKETS_SHOWN) fprintf(out, "  %zu more values\n", n - BUCKETS_SHOWN);
    if (p->lost) fprintf(out, "  %llu times a further value\n", (unsigned long long)p->lost);
    free(sorted);
}

void probes_report(const struct probes *p, FILE *out)
{
    for (unsigned i = 0; i < p->n; i++) {
        const struct face_probe *f = &p->probe[i];
        fprintf(out, "probe %s: %llu\n", f->event, (unsigned long long)vm_probe_hits(f->vm, f->id));
        if (f->action == DO_HISTOGRAM) report_histogram(f, out);
    }
}
