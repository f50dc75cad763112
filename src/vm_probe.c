/* Owns an embedder's probes: their words, their conditions, and what their functions may ask.
 *   I1  now is what a function is being told of, and NULL outside of one.   [on_event] */
#include "core/cpu_arch.h"
#include "runtime/runtime.h"
#include "src/error.h"
#include "src/parse.h"
#include "src/vm_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PROBES_MAX 64u
#define CONDITIONS_MAX 4u
#define WORD_MAX 80u

enum value {
    VALUE_eax, /* the general registers are in the order of enum gpr, */
    VALUE_ecx,
    VALUE_edx,
    VALUE_ebx,
    VALUE_esp,
    VALUE_ebp,
    VALUE_esi,
    VALUE_edi,
    VALUE_eip,
    VALUE_eflags,
    VALUE_es, /* the selectors in that of enum segreg */
    VALUE_cs,
    VALUE_ss,
    VALUE_ds,
    VALUE_fs,
    VALUE_gs,
    VALUE_cr0,
    VALUE_cr2,
    VALUE_cr3,
    VALUE_cr4,
    VALUE_cpl,
    VALUE_la,
    VALUE_address,
    VALUE_size,
    VALUE_value,
    VALUE_vector,
    VALUE_error,
    VALUE_insns,
    VALUE_COUNT
};

/* clang-format off */
static const struct {
    const char *name, *what;
} values[VALUE_COUNT] = {
    [VALUE_eax] = { "eax", "general register" }, [VALUE_ecx] = { "ecx", "general register" },
    [VALUE_edx] = { "edx", "general register" }, [VALUE_ebx] = { "ebx", "general register" },
    [VALUE_esp] = { "esp", "general register" }, [VALUE_ebp] = { "ebp", "general register" },
    [VALUE_esi] = { "esi", "general register" }, [VALUE_edi] = { "edi", "general register" },
    [VALUE_eip] = { "eip", "instruction pointer" }, [VALUE_eflags] = { "eflags", "flags" },
    [VALUE_es] = { "es", "selector" }, [VALUE_cs] = { "cs", "selector" }, [VALUE_ss] = { "ss", "selector" },
    [VALUE_ds] = { "ds", "selector" }, [VALUE_fs] = { "fs", "selector" }, [VALUE_gs] = { "gs", "selector" },
    [VALUE_cr0] = { "cr0", "control register" }, [VALUE_cr2] = { "cr2", "control register" },
    [VALUE_cr3] = { "cr3", "control register" }, [VALUE_cr4] = { "cr4", "control register" },
    [VALUE_cpl] = { "cpl", "privilege level" }, [VALUE_la] = { "la", "linear address of the instruction" },
    [VALUE_address] = { "address", "what the event is about: an address, a port" },
    [VALUE_size] = { "size", "of an access, in bytes" },
    [VALUE_value] = { "value", "read or written; EAX of a system call, and its result" },
    [VALUE_vector] = { "vector", "of an exception or interrupt" },
    [VALUE_error] = { "error", "code of an exception" },
    [VALUE_insns] = { "insns", "instructions done so far, while they are counted" },
};
/* clang-format on */

struct condition {
    enum value value;
    enum { IS_EQUAL, IS_OTHER, IS_LESS, IS_AT_MOST, IS_MORE, IS_AT_LEAST, HAS_BITS } how;
    u64 number;
};
struct vm_probe {
    struct vm *vm;
    bool used;
    unsigned rt_id;
    vm_probe_fn *fn;
    void *arg;
    unsigned conditions;
    struct condition condition[CONDITIONS_MAX];
};
struct vm_probes {
    struct vm_probe probe[PROBES_MAX];
    const struct rt_event *now;
    struct cpu_arch *cpu;
};

void vm_probes_free(struct vm *vm) { free(vm->probes); }

/* ---- what is known ---- */

static bool is_vector(const struct rt_event *e)
{
    const char *name = rt_event_name(e->event, NULL);
    return !strcmp(name, "exception") || !strcmp(name, "interrupt");
}

static u64 value_of(const struct vm *vm, const struct rt_event *e, const struct cpu_arch *a, enum value v)
{
    if (v <= VALUE_edi) return a->gpr[v];
    if (v >= VALUE_es && v <= VALUE_gs) return a->seg[v - VALUE_es].sel;
    switch (v) {
    case VALUE_eip: return a->eip;
    case VALUE_eflags: return arch_eflags(a);
    case VALUE_cr0: return a->cr0;
    case VALUE_cr2: return a->cr2;
    case VALUE_cr3: return a->cr3;
    case VALUE_cr4: return a->cr4;
    case VALUE_cpl: return a->cpl;
    case VALUE_la: return e->la;
    case VALUE_address: return e->address;
    case VALUE_size: return e->size;
    case VALUE_value: return is_vector(e) ? 0 : e->value;
    case VALUE_vector: return is_vector(e) ? e->value : 0;
    case VALUE_error: return e->error;
    default: return rt_instructions(vm->rt);
    }
}

u64 vm_probe_get(const struct vm *vm, unsigned value)
{
    const struct vm_probes *p = vm->probes;
    return p && p->now && value < VALUE_COUNT ? value_of(vm, p->now, p->cpu, (enum value)value) : 0;
}

int vm_probe_set(struct vm *vm, unsigned value, u32 to)
{
    struct vm_probes *p = vm->probes;
    if (!p || !p->now) return -ENOENT;
    if (value == VALUE_eflags) p->cpu->aflags = to & F_ARITH;
    else if (value <= VALUE_edi) p->cpu->gpr[value] = to;
    else return -EINVAL;
    return 0;
}

const char *vm_probe_value_name(unsigned i, const char **what)
{
    if (i >= VALUE_COUNT) return NULL;
    if (what) *what = values[i].what;
    return values[i].name;
}

int vm_probe_value(const char *name)
{
    for (unsigned i = 0; i < VALUE_COUNT; i++)
        if (!strcmp(values[i].name, name)) return (int)i;
    return -ENOENT;
}

const char *vm_probe_event_name(unsigned i, const char **what) { return rt_event_name(i, what); }

/* ---- on the vCPU's thread ---- */

static bool holds(const struct condition *c, u64 v)
{
    switch (c->how) {
    case IS_EQUAL: return v == c->number;
    case IS_OTHER: return v != c->number;
    case IS_LESS: return v < c->number;
    case IS_AT_MOST: return v <= c->number;
    case IS_MORE: return v > c->number;
    case IS_AT_LEAST: return v >= c->number;
    case HAS_BITS: return (v & c->number) != 0;
    }
    return false;
}

static enum rt_verdict on_event(void *arg, const struct rt_event *e, struct cpu_arch *cpu)
{
    struct vm_probe *p = arg;
    struct vm_probes *all = p->vm->probes;
    for (unsigned i = 0; i < p->conditions; i++)
        if (!holds(&p->condition[i], value_of(p->vm, e, cpu, p->condition[i].value))) return RT_PASS;
    if (!p->fn) return RT_GO;
    const struct rt_event *before = all->now; /* what it does to memory may be an event as well */
    all->now = e;
    all->cpu = cpu;
    enum vm_probe_verdict v = p->fn(p->vm, p->arg);
    all->now = before;
    return v == VM_PROBE_SKIP ? RT_SKIP : v == VM_PROBE_STOP ? RT_STOP : RT_GO;
}

/* ---- words ---- */

static int parse_which(struct rt_probe *p, const char *event, const char *which, struct vm_error *err)
{
    const char *what, *name;
    u64 v;
    if (!strcmp(event, "insn")) {
        for (unsigned i = 0; (name = rt_class_name(i, &what)); i++)
            if (!strcmp(name, which)) p->cls = (s8)i;
        if (p->cls < 0 && !(p->op = rt_mnemonic(which)))
            return vm_fail(err, -EINVAL, "there is no instruction, and no class of them, '%s'", which);
        return 0;
    }
    if (strcmp(event, "exception") && strcmp(event, "interrupt") && strcmp(event, "syscall") && strcmp(event, "sysret"))
        return vm_fail(err, -EINVAL, "there is only one %s", event);
    if (parse_u64(which, 255, &v)) return vm_fail(err, -EINVAL, "'%s' is not a vector (0 to 255)", which);
    p->vector = (int)v;
    return 0;
}

static int parse_event(struct rt_probe *p, const char *word, struct vm_error *err)
{
    char event[WORD_MAX];
    size_t n = strcspn(word, "=");
    const char *name;
    snprintf(event, sizeof event, "%.*s", (int)n, word);
    for (p->event = 0; (name = rt_event_name(p->event, NULL)) && strcmp(name, event);) p->event++;
    if (!name) return vm_fail(err, -EINVAL, "there is no event '%s'; `--probe help` lists them", event);
    return word[n] ? parse_which(p, event, word + n + 1, err) : 0;
}

static int parse_where(struct rt_probe *p, const char *range, struct vm_error *err)
{
    char from[WORD_MAX];
    const char *dash = strchr(range, '-');
    snprintf(from, sizeof from, "%.*s", (int)(dash ? dash - range : (ptrdiff_t)strlen(range)), range);
    bool wrong = parse_u64(from, UINT64_MAX, &p->from);
    p->to = p->from;
    if (wrong || (dash && parse_u64(dash + 1, UINT64_MAX, &p->to)) || p->to < p->from)
        return vm_fail(err, -EINVAL, "at=%s is not an address, or a range FROM-TO", range);
    return 0;
}

static int parse_condition(struct vm_probe *p, const char *text, struct vm_error *err)
{
    static const char *const hows[] = { "==", "!=", "<", "<=", ">", ">=", "&" }; /* in the order of how */
    char name[WORD_MAX];
    if (p->conditions == CONDITIONS_MAX)
        return vm_fail(err, -EINVAL, "if=%s: there is room for %u conditions", text, CONDITIONS_MAX);
    struct condition *c = &p->condition[p->conditions];
    size_t n = strcspn(text, "=!<>& "), skip = n + strspn(text + n, " "), len = strspn(text + skip, "=!<>&");
    const char *number = text + skip + len + strspn(text + skip + len, " ");
    snprintf(name, sizeof name, "%.*s", (int)n, text);
    int v = vm_probe_value(name);
    if (v < 0) return vm_fail(err, -EINVAL, "if=%s: there is no value '%s'", text, name);
    c->value = (enum value)v;
    for (unsigned i = 0; i < ARRAY_LEN(hows); i++) {
        if (strlen(hows[i]) != len || memcmp(text + skip, hows[i], len)) continue;
        c->how = i;
        if (parse_u64(number, UINT64_MAX, &c->number)) break;
        p->conditions++;
        return 0;
    }
    return vm_fail(err, -EINVAL, "if=%s: not one of == != < <= > >= & and a number", text);
}

static int parse_word(struct vm_probe *p, struct rt_probe *r, const char *word, struct vm_error *err)
{
    u64 cpl;
    if (!strncmp(word, "at=", 3)) return parse_where(r, word + 3, err);
    if (!strncmp(word, "if=", 3)) return parse_condition(p, word + 3, err);
    if (strncmp(word, "cpl=", 4)) return vm_fail(err, -EINVAL, "'%s' is none of at=, cpl=, if=", word);
    if (parse_u64(word + 4, 3, &cpl)) return vm_fail(err, -EINVAL, "%s: a privilege level is 0 to 3", word);
    r->cpls = (u8)(1u << cpl);
    return 0;
}

static int parse(struct vm_probe *p, struct rt_probe *r, const char *text, struct vm_error *err)
{
    bool first = true;
    for (;; text++) {
        char word[WORD_MAX];
        size_t n = strcspn(text, ",");
        if (n >= sizeof word) return vm_fail(err, -EINVAL, "'%.40s..' is too long", text);
        snprintf(word, sizeof word, "%.*s", (int)n, text);
        int rc = first ? parse_event(r, word, err) : parse_word(p, r, word, err);
        if (rc) return rc;
        first = false;
        text += n;
        if (!*text) return 0;
    }
}

/* Of memory there is no "everywhere". */
static int check_where(const struct rt_probe *r, struct vm_error *err)
{
    const char *name = rt_event_name(r->event, NULL);
    if ((!strcmp(name, "read") || !strcmp(name, "write")) && r->to == UINT64_MAX)
        return vm_fail(err, -EINVAL, "%s needs at=FROM[-TO], 16 MiB at most", name);
    return 0;
}

int vm_probe_add(struct vm *vm, const char *event, vm_probe_fn *fn, void *arg, struct vm_error *err)
{
    struct vm_error why;
    int i = 0;
    if (vm->running) return vm_fail(err, -EBUSY, "the machine runs");
    if (!vm->probes && !(vm->probes = calloc(1, sizeof *vm->probes))) return vm_fail(err, -ENOMEM, "out of memory");
    while (i < (int)PROBES_MAX && vm->probes->probe[i].used) i++;
    if (i == (int)PROBES_MAX) return vm_fail(err, -ENOSPC, "probe %.100s: there is room for %u", event, PROBES_MAX);
    struct vm_probe *p = &vm->probes->probe[i];
    *p = (struct vm_probe){ .vm = vm, .fn = fn, .arg = arg };
    struct rt_probe r = { .to = UINT64_MAX, .cpls = 0xf, .cls = -1, .vector = -1 };
    int rc = parse(p, &r, event, &why);
    if (!rc) rc = check_where(&r, &why);
    if (rc) return vm_fail(err, rc, "probe %.100s: %.300s", event, why.text);
    if (fn || p->conditions) r.fn = on_event, r.arg = p;
    rc = rt_probe_add(vm->rt, &r, &p->rt_id);
    if (rc == -E2BIG) return vm_fail(err, -EINVAL, "probe %.100s: more than 16 MiB", event);
    if (rc) return vm_fail(err, rc, "probe %.100s: %s", event, strerror(-rc));
    p->used = true;
    return i;
}

static struct vm_probe *find(const struct vm *vm, int probe)
{
    bool known = vm->probes && probe >= 0 && probe < (int)PROBES_MAX && vm->probes->probe[probe].used;
    return known ? &vm->probes->probe[probe] : NULL;
}

int vm_probe_remove(struct vm *vm, int probe)
{
    struct vm_probe *p = find(vm, probe);
    if (vm->running) return -EBUSY;
    if (!p) return -ENOENT;
    p->used = false;
    return rt_probe_remove(vm->rt, p->rt_id);
}

u64 vm_probe_hits(const struct vm *vm, int probe)
{
    const struct vm_probe *p = find(vm, probe);
    return p ? rt_probe_hits(vm->rt, p->rt_id) : 0;
}

int vm_probe_met(const struct vm *vm)
{
    unsigned met = rt_probe_met(vm->rt);
    for (unsigned i = 0; vm->probes && i < PROBES_MAX; i++)
        if (vm->probes->probe[i].used && vm->probes->probe[i].rt_id == met) return (int)i;
    return -1;
}
