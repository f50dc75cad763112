/* Owns calls of functions in shared libraries: their words, the check of these against what a library says of itself,
 * and the calls. */
#define _GNU_SOURCE
#include "src/face/probe_call.h"
#include "src/error.h"
#include "src/parse.h"

#include <dlfcn.h>
#include <errno.h>
#include <ffi.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARGS_MAX 8u
#define WORD_MAX 120u
#define TEXT_MAX 4096u /* of a text in the guest, with its zero */

enum type { TYPE_VOID, TYPE_U8, TYPE_U16, TYPE_U32, TYPE_S32, TYPE_U64, TYPE_TEXT, TYPE_VM, TYPE_COUNT };

/* The first name of each is how it is shown. */
static const struct {
    const char *name[4];
    unsigned bytes; /* of one in guest memory; 0: there is none */
} types[TYPE_COUNT] = {
    [TYPE_VOID] = { { "void" }, 0 },
    [TYPE_U8] = { { "uint8_t", "u8", "unsigned char" }, 1 },
    [TYPE_U16] = { { "uint16_t", "u16", "unsigned short" }, 2 },
    [TYPE_U32] = { { "uint32_t", "u32", "unsigned", "unsigned int" }, 4 },
    [TYPE_S32] = { { "int", "int32_t", "s32" }, 4 },
    [TYPE_U64] = { { "uint64_t", "u64", "unsigned long" }, 8 },
    [TYPE_TEXT] = { { "const char *", "const char*", "str" }, 0 },
    [TYPE_VM] = { { "struct vm *", "struct vm*", "vm" }, 0 },
};

static ffi_type *ffi_of(enum type t)
{
    switch (t) {
    case TYPE_U8: return &ffi_type_uint8;
    case TYPE_U16: return &ffi_type_uint16;
    case TYPE_U32: return &ffi_type_uint32;
    case TYPE_S32: return &ffi_type_sint32;
    case TYPE_U64: return &ffi_type_uint64;
    case TYPE_TEXT:
    case TYPE_VM: return &ffi_type_pointer;
    default: return &ffi_type_void;
    }
}

struct arg {
    enum type type;
    bool memory; /* what the guest has at value + disp */
    int value;   /* vm_probe_value(); < 0: disp alone */
    u64 disp;
};
struct probe_call {
    void *library;
    void (*fn)(void);
    ffi_cif cif;
    unsigned n;
    struct arg arg[ARGS_MAX];
    ffi_type *ffi_arg[ARGS_MAX];
    enum type result;
    bool verdict;
    int to;                        /* the value that the result goes to; < 0: none */
    char text[ARGS_MAX][TEXT_MAX]; /* copies of the guest's */
};

/* ---- words ---- */

/* Without blanks at both ends. */
static void trim(const char **text, size_t *n)
{
    while (*n && **text == ' ') ++*text, --*n;
    while (*n && (*text)[*n - 1] == ' ') --*n;
}

/* The longest name of a type that the n characters begin with, and how long it is; TYPE_COUNT: none. */
static enum type type_at(const char *text, size_t n, size_t *len)
{
    enum type best = TYPE_COUNT;
    *len = 0;
    for (enum type t = 0; t < TYPE_COUNT; t++)
        for (unsigned i = 0; i < ARRAY_LEN(types[t].name) && types[t].name[i]; i++) {
            size_t k = strlen(types[t].name[i]);
            bool ends = k == n || (k < n && (text[k] == ' ' || text[k] == '[' || text[k - 1] == '*'));
            if (k <= *len || k > n || memcmp(text, types[t].name[i], k) || !ends) continue;
            *len = k;
            best = t;
        }
    return best;
}

/* NAME, NUMBER, NAME+NUMBER or NAME-NUMBER. */
static bool parse_sum(struct arg *a, const char *text, size_t n)
{
    char word[WORD_MAX];
    snprintf(word, sizeof word, "%.*s", (int)n, text);
    a->value = -1;
    if (!parse_u64(word, UINT64_MAX, &a->disp)) return true;
    size_t name = strcspn(word, "+-");
    char sign = word[name];
    word[name] = 0;
    a->value = vm_probe_value(word);
    a->disp = 0;
    if (a->value < 0 || (sign && parse_u64(word + name + 1, UINT32_MAX, &a->disp))) return false;
    if (sign == '-') a->disp = -a->disp;
    return true;
}

static int parse_arg(struct arg *a, const char *text, size_t n, struct vm_error *err)
{
    size_t len;
    trim(&text, &n);
    a->type = type_at(text, n, &len);
    const char *value = text + len;
    size_t rest = n - len;
    if (a->type == TYPE_COUNT || a->type == TYPE_VOID)
        return vm_fail(err, -EINVAL, "argument '%.*s' does not begin with a type: u8 u16 u32 s32 u64 str vm", (int)n,
                       text);
    trim(&value, &rest);
    if (a->type == TYPE_VM)
        return rest ? vm_fail(err, -EINVAL, "argument '%.*s': there is only one vm", (int)n, text) : 0;
    a->memory = rest > 2 && value[0] == '[' && value[rest - 1] == ']';
    if (a->memory) value++, rest -= 2;
    if (rest >= WORD_MAX || !rest || !parse_sum(a, value, rest))
        return vm_fail(err, -EINVAL, "argument '%.*s' names no value: a register, a number, [esp+4], .. (--probe help)",
                       (int)n, text);
    return 0;
}

static int parse_args(struct probe_call *c, const char *text, size_t n, struct vm_error *err)
{
    const char *none = text;
    size_t left = n;
    trim(&none, &left);
    for (c->n = 0; left;) {
        size_t len = strcspn(text, ",)");
        if (c->n == ARGS_MAX) return vm_fail(err, -EINVAL, "more than %u arguments", ARGS_MAX);
        int rc = parse_arg(&c->arg[c->n++], text, len, err);
        if (rc) return rc;
        if (len >= n) break;
        text += len + 1, n -= len + 1;
    }
    return 0;
}

static int parse_result(struct probe_call *c, const char **text, struct vm_error *err)
{
    char word[WORD_MAX];
    size_t n = strcspn(*text, "=:/(");
    c->to = -1;
    c->result = TYPE_S32;
    if ((*text)[n] != '=') return 0;
    snprintf(word, sizeof word, "%.*s", (int)n, *text);
    c->verdict = !strcmp(word, "verdict");
    c->to = c->verdict ? -1 : vm_probe_value(word);
    int last = vm_probe_value("edi");
    if (!c->verdict && (c->to < 0 || (c->to > last && strcmp(word, "eflags"))))
        return vm_fail(err, -EINVAL, "'%s=': a result goes to a general register, eflags or verdict", word);
    *text += n + 1;
    return 0;
}

/* ---- what a library says of its function ---- */

static void show(const struct probe_call *c, char *to, size_t n)
{
    size_t at = 0;
    for (unsigned i = 0; i < c->n && at < n; i++)
        at += (size_t)snprintf(to + at, n - at, "%s%s", i ? ", " : "", types[c->arg[i].type].name[0]);
    if (!c->n) snprintf(to, n, "void");
}

/* "int (uint32_t, const char *)" */
static int check_signature(struct probe_call *c, const char *signature, struct vm_error *err)
{
    char said[300];
    size_t len, n = strcspn(signature, "(");
    const char *at = signature, *args = signature + n;
    trim(&at, &n);
    enum type result = type_at(at, n, &len);
    bool same = *args == '(' && strchr(args, ')') && len == n && result != TYPE_COUNT;
    unsigned i = 0;
    for (args++; same && *args && *args != ')'; i++) {
        const char *one = args;
        size_t k = strcspn(args, ",)"), whole = k;
        trim(&one, &k);
        enum type t = type_at(one, k, &len);
        args += whole + (args[whole] == ',');
        if (t == TYPE_VOID && !c->n && !i) break;
        same = i < c->n && t == c->arg[i].type;
    }
    same = same && (i == c->n || (!i && !c->n));
    show(c, said, sizeof said);
    if (!same) return vm_fail(err, -EINVAL, "it is declared as %.120s, not for (%.150s)", signature, said);
    if ((c->verdict || c->to >= 0) && (result == TYPE_VOID || result == TYPE_TEXT || result == TYPE_VM))
        return vm_fail(err, -EINVAL, "it is declared as %.120s: there is no result to be used", signature);
    c->result = result;
    return 0;
}

/* A file of that name beside us comes first, as for a program that is named. */
static int load(struct probe_call *c, const char *library, const char *function, struct vm_error *err)
{
    char here[WORD_MAX + 3], declared[WORD_MAX + 16];
    snprintf(here, sizeof here, "./%s", library);
    bool beside = !strchr(library, '/') && !access(here, R_OK);
    c->library = dlopen(beside ? here : library, RTLD_NOW | RTLD_LOCAL);
    if (!c->library) return vm_fail(err, -EINVAL, "%.300s", dlerror());
    void *symbol = dlsym(c->library, function);
    if (!symbol) return vm_fail(err, -EINVAL, "%.100s has no function %.100s", library, function);
    memcpy(&c->fn, &symbol, sizeof symbol);
    snprintf(declared, sizeof declared, "%s_signature", function);
    const char *signature = dlsym(c->library, declared);
    return signature ? check_signature(c, signature, err) : 0;
}

static int parse(struct probe_call *c, const char *text, struct vm_error *err)
{
    char library[WORD_MAX], function[WORD_MAX];
    int rc = parse_result(c, &text, err);
    if (rc) return rc;
    const char *open = strchr(text, '('), *close = open ? strrchr(open, ')') : NULL, *colon = open;
    while (colon && colon > text && *colon != ':') colon--;
    if (!close || close[1] || colon == text || (size_t)(colon - text) >= sizeof library
        || (size_t)(open - colon) >= sizeof function || open - colon < 2)
        return vm_fail(err, -EINVAL, "not of the form LIB.so:FUNCTION(TYPE VALUE, ..)");
    snprintf(library, sizeof library, "%.*s", (int)(colon - text), text);
    snprintf(function, sizeof function, "%.*s", (int)(open - colon - 1), colon + 1);
    rc = parse_args(c, open + 1, (size_t)(close - open - 1), err);
    if (!rc) rc = load(c, library, function, err);
    return rc;
}

int probe_call_open(struct probe_call **out, const char *text, struct vm_error *err)
{
    struct probe_call *c = calloc(1, sizeof *c);
    if (!c) return vm_fail(err, -ENOMEM, "out of memory");
    int rc = parse(c, text, err);
    for (unsigned i = 0; i < c->n; i++) c->ffi_arg[i] = ffi_of(c->arg[i].type);
    if (!rc && ffi_prep_cif(&c->cif, FFI_DEFAULT_ABI, c->n, ffi_of(c->result), c->ffi_arg) != FFI_OK)
        rc = vm_fail(err, -EINVAL, "cannot be called");
    if (rc) {
        probe_call_close(c);
        return rc;
    }
    *out = c;
    return 0;
}

void probe_call_close(struct probe_call *c)
{
    if (c && c->library) dlclose(c->library);
    free(c);
}

/* ---- calls ---- */

union cell {
    u64 number;
    const void *pointer;
};

static void fetch(struct probe_call *c, struct vm *vm, unsigned i, union cell *to)
{
    const struct arg *a = &c->arg[i];
    to->number = 0;
    if (a->type == TYPE_VM) {
        to->pointer = vm;
        return;
    }
    u64 v = (a->value >= 0 ? vm_probe_get(vm, (unsigned)a->value) : 0) + a->disp;
    unsigned pointed = a->type == TYPE_TEXT ? 4 : types[a->type].bytes;
    if (a->memory && vm_read_linear(vm, (u32)v, &to->number, pointed) < pointed) to->number = 0;
    if (a->memory) v = to->number;
    if (a->type != TYPE_TEXT) {
        to->number = v; /* little-endian: the low bytes are what libffi takes */
        return;
    }
    c->text[i][vm_read_linear(vm, (u32)v, c->text[i], TEXT_MAX - 1)] = 0;
    to->pointer = c->text[i];
}

enum vm_probe_verdict probe_call_make(struct vm *vm, void *arg)
{
    struct probe_call *c = arg;
    union cell cell[ARGS_MAX];
    void *at[ARGS_MAX];
    ffi_arg result = 0;
    for (unsigned i = 0; i < c->n; i++) fetch(c, vm, i, &cell[i]), at[i] = &cell[i];
    ffi_call(&c->cif, c->fn, &result, at);
    if (c->to >= 0) (void)vm_probe_set(vm, (unsigned)c->to, (u32)result);
    if (!c->verdict) return VM_PROBE_GO;
    return (u32)result == VM_PROBE_SKIP ? VM_PROBE_SKIP : (u32)result == VM_PROBE_STOP ? VM_PROBE_STOP : VM_PROBE_GO;
}
