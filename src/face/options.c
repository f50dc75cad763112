/* Owns the parsing of typed option tables; knows no option by name.
 *   I1  a destination is written only with a value that parsed completely.   [only opt_store writes]
 *   I2  an error names the option as it was typed.
 * Enter at options_parse(). */
#include "src/face/options.h"
#include "src/error.h"

#include <errno.h>
#include <string.h>

/* ---- did you mean ---- */

#define WORD_MAX 32u

/* Optimal string alignment: insertions, deletions, replacements and swaps of neighbours, each one step. */
static unsigned word_distance(const char *a, const char *b)
{
    unsigned n = (unsigned)strlen(a), m = (unsigned)strlen(b), d[WORD_MAX + 1][WORD_MAX + 1];
    if (n > WORD_MAX || m > WORD_MAX) return UINT32_MAX;
    for (unsigned i = 0; i <= n; i++) d[i][0] = i;
    for (unsigned j = 0; j <= m; j++) d[0][j] = j;
    for (unsigned i = 1; i <= n; i++) {
        for (unsigned j = 1; j <= m; j++) {
            unsigned best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    }
    return d[n][m];
}

void closest_offer(struct closest *c, const char *candidate)
{
    unsigned distance = word_distance(c->word, candidate), limit = 1 + (unsigned)strlen(c->word) / 4;
    if (distance > limit || (c->best && distance >= c->distance)) return;
    c->best = candidate;
    c->distance = distance;
}

/* ---- values ---- */

/* The message of a refused value, and what to do about it. */
static int refuse(const struct opt *o, struct vm_error *err, const char *text)
{
    return vm_fail(err, -EINVAL, "%s%s%s", text, o->cure ? "; " : "", o->cure ? o->cure : "");
}

static void size_text(u64 bytes, char *text, size_t room)
{
    unsigned i = 0;
    while (i < 3 && bytes && bytes % 1024 == 0) {
        bytes /= 1024;
        i++;
    }
    snprintf(text, room, "%llu%.1s", (unsigned long long)bytes, &"\0KMG"[i]);
}

static int check_bounds(const struct opt *o, const char *typed, const char *val, u64 v, struct vm_error *err)
{
    if (!o->max || (v >= o->min && v <= o->max)) return 0;
    char text[256], lo[32], hi[32];
    if (o->type == OPT_SIZE) {
        size_text(o->min, lo, sizeof lo);
        size_text(o->max, hi, sizeof hi);
    } else {
        u64 unit = o->type == OPT_SECONDS ? 1000 : 1;
        snprintf(lo, sizeof lo, "%llu", (unsigned long long)(o->min / unit));
        snprintf(hi, sizeof hi, "%llu", (unsigned long long)(o->max / unit));
    }
    if (o->min == o->max) snprintf(text, sizeof text, "%s: %.64s is not %s", typed, val, lo);
    else snprintf(text, sizeof text, "%s: %.64s is not within %s to %s", typed, val, lo, hi);
    return refuse(o, err, text);
}

static int store_name(const struct opt *o, const char *typed, const char *val, const char **to, struct vm_error *err)
{
    struct closest near = { .word = val };
    const char *name;
    if (o->own_question && !strcmp(val, "?")) {
        *to = val;
        return 0;
    }
    size_t len = o->extended ? strcspn(val, ",") : strlen(val);
    for (unsigned i = 0; (name = o->names(i, NULL)); i++) {
        if (strlen(name) == len && !memcmp(name, val, len)) {
            *to = val;
            return 0;
        }
        closest_offer(&near, name);
    }
    if (near.best) return vm_fail(err, -EINVAL, "%s: there is no '%s'; did you mean %s?", typed, val, near.best);
    return vm_fail(err, -EINVAL, "%s: there is no '%s'; `%s help` lists them", typed, val, typed);
}

/* to: NULL if only the check is wanted. */
static int store_choice(const struct opt *o, const char *typed, const char *val, int *to, struct vm_error *err)
{
    for (int i = 0; o->choices[i]; i++)
        if (!strcmp(o->choices[i], val)) {
            if (to) *to = i;
            return 0;
        }
    char text[256];
    snprintf(text, sizeof text, "%s: '%.64s' is not one of %s", typed, val, o->arg);
    return refuse(o, err, text);
}

static int opt_store(const struct opt *o, void *args, const char *typed, const char *val, struct vm_error *err)
{
    void *to = (char *)args + o->at;
    char text[256];
    u64 v;
    int rc;
    switch (o->type) {
    case OPT_FLAG: *(bool *)to = true; return 0;
    case OPT_STRING: *(const char **)to = val; return 0;
    case OPT_NAME: return store_name(o, typed, val, to, err);
    case OPT_CHOICE: return store_choice(o, typed, val, to, err);
    case OPT_CALL: return o->parse(args, typed, val, err);
    case OPT_SIZE:
        snprintf(text, sizeof text, "%s: '%.64s' is not a size (a number, with K, M, G or T)", typed, val);
        if (parse_size(val, o->unit ? o->unit : 1, &v)) return refuse(o, err, text);
        rc = check_bounds(o, typed, val, v, err);
        if (!rc) *(u64 *)to = v;
        return rc;
    case OPT_SECONDS:
        snprintf(text, sizeof text, "%s: '%.64s' is not a number of seconds", typed, val);
        if (parse_seconds(val, &v)) return refuse(o, err, text);
        rc = check_bounds(o, typed, val, v, err);
        if (!rc) *(u64 *)to = v;
        return rc;
    case OPT_NUMBER:
        snprintf(text, sizeof text, "%s: '%.64s' is not a number (decimal, or 0x and hexadecimal)", typed, val);
        if (parse_u64(val, UINT64_MAX, &v)) return refuse(o, err, text);
        rc = check_bounds(o, typed, val, v, err);
        if (!rc) *(u64 *)to = v;
        return rc;
    case OPT_PORT:
        snprintf(text, sizeof text, "%s: '%.64s' is not a port (0 to 0xffff)", typed, val);
        if (parse_u64(val, 0xffff, &v)) return refuse(o, err, text);
        *(struct opt_port *)to = (struct opt_port){ true, (u16)v };
        return 0;
    case OPT_NOTHING: return o->choices ? store_choice(o, typed, val, NULL, err) : 0;
    case OPT_LATER: return vm_fail(err, -EINVAL, "%s: %s", typed, o->help);
    case OPT_HELP: return 0;
    }
    BUG_ON("no such option type");
    return -EINVAL;
}

/* ---- words ---- */

/* Whether the n characters at word are one of the blank-separated words of list. */
static bool list_has(const char *list, const char *word, size_t n)
{
    for (const char *p = list; p && *p;) {
        size_t len = strcspn(p, " ");
        if (len == n && !memcmp(p, word, n)) return true;
        p += len;
        p += strspn(p, " ");
    }
    return false;
}

const struct opt *options_find(const struct opt *table, const char *word, const char **value)
{
    size_t dashes = strspn(word, "-");
    const char *name = word + dashes, *eq = strchr(name, '=');
    size_t n = eq ? (size_t)(eq - name) : strlen(name);
    *value = eq ? eq + 1 : NULL;
    if (!n || !dashes || dashes > 2 || (n == 1 && dashes == 2)) return NULL; /* --m is nobody's */
    for (const struct opt *o = table; o->name; o++)
        if (list_has(o->name, name, n) || list_has(o->aliases, name, n)) return o;
    return NULL;
}

static int unknown(const struct opt *table, const char *word, struct vm_error *err)
{
    char name[WORD_MAX + 1];
    size_t dashes = strspn(word, "-"), n = strcspn(word, "=");
    snprintf(name, sizeof name, "%.*s", (int)(n - dashes), word + dashes);
    struct closest near = { .word = name };
    if (n - dashes > 2 && n - dashes < sizeof name)
        for (const struct opt *o = table; o->name; o++) closest_offer(&near, o->name);
    if (near.best) return vm_fail(err, -EINVAL, "unknown option '%.*s'; did you mean --%s?", (int)n, word, near.best);
    return vm_fail(err, -EINVAL, "unknown option '%.*s'", (int)n, word);
}

static bool takes_argument(const struct opt *o)
{
    return o->type != OPT_FLAG && o->type != OPT_HELP && (o->type != OPT_NOTHING || o->arg);
}

/* The row of operand n; of the last one if there are fewer. NULL: there is none. */
static const struct opt *operand_of(const struct opt *table, unsigned n)
{
    const struct opt *last = NULL;
    for (; table->name; table++) {
        if (!table->operand) continue;
        last = table;
        if (!n--) break;
    }
    return last;
}

/* An option with its value, or an operand. */
struct word {
    const struct opt *row;
    const char *value; /* NULL: none */
    char typed[WORD_MAX + 3];
    bool operand;
};

/* Reads the word at argv[*i]; if its value is the next one, *i moves there. operands: so many came before. Returns 0 or
 * -EINVAL. */
static int next_word(const struct opt *table, int argc, char **argv, int *i, unsigned operands, struct word *w,
                     struct vm_error *err)
{
    const char *text = argv[*i];
    *w = (struct word){ .operand = text[0] != '-' };
    if (w->operand) {
        w->row = operand_of(table, operands);
        w->value = text;
        if (w->row) snprintf(w->typed, sizeof w->typed, "%s", w->row->arg);
        return w->row ? 0 : vm_fail(err, -EINVAL, "unexpected argument '%s'", text);
    }
    if (!text[strspn(text, "-")]) return vm_fail(err, -EINVAL, "unexpected argument '%s'", text);
    w->row = options_find(table, text, &w->value);
    if (!w->row) return unknown(table, text, err);
    snprintf(w->typed, sizeof w->typed, "%.*s", (int)strcspn(text, "="), text);
    if (w->row->type == OPT_LATER) return 0;
    if (!takes_argument(w->row)) return w->value ? vm_fail(err, -EINVAL, "%s takes no argument", w->typed) : 0;
    if (!w->value && *i + 1 < argc) w->value = argv[++*i];
    return w->value ? 0 : vm_fail(err, -EINVAL, "%s needs an argument: %s", w->typed, w->row->arg);
}

#define ROWS_MAX 256

int options_parse(const struct opt *table, void *args, int argc, char **argv, const struct opt **asked,
                  struct vm_error *err)
{
    bool seen[ROWS_MAX] = { false }; /* by index in the table */
    unsigned operands = 0;
    for (int i = 0; i < argc; i++) {
        struct word w;
        int rc = next_word(table, argc, argv, &i, operands, &w, err);
        if (rc) return rc;
        if (w.operand && operands && w.row == operand_of(table, operands - 1))
            return vm_fail(err, -EINVAL, "unexpected argument '%s': there is one %s already", w.value, w.row->arg);
        operands += w.operand;
        BUG_ON(w.row - table >= ROWS_MAX);
        if (w.row->type == OPT_HELP
            || (w.row->names && (!strcmp(w.value, "help") || (!strcmp(w.value, "?") && !w.row->own_question)))) {
            *asked = w.row;
            return 1;
        }
        if ((rc = opt_store(w.row, args, w.typed, w.value, err))) return rc;
        seen[w.row - table] = true;
    }
    for (const struct opt *o = table; o->name; o++)
        if (o->required && !seen[o - table]) return vm_fail(err, -EINVAL, "--%s %s is missing", o->name, o->arg);
    return 0;
}

int options_each(const struct opt *table, int argc, char **argv, options_word_fn *fn, void *arg, struct vm_error *err)
{
    unsigned operands = 0;
    int rc = 0;
    for (int i = 0; i < argc && !rc; i++) {
        struct word w;
        rc = next_word(table, argc, argv, &i, operands, &w, err);
        operands += w.operand;
        if (!rc) rc = fn(arg, w.row, w.value, err);
    }
    return rc;
}

struct peek {
    const char *name, *value;
};

static int peek_word(void *arg, const struct opt *row, const char *value, struct vm_error *err UNUSED)
{
    struct peek *p = arg;
    if (!strcmp(row->name, p->name)) p->value = value ? value : "";
    return 0;
}

const char *options_peek(const struct opt *table, const char *name, int argc, char **argv)
{
    struct peek p = { .name = name };
    struct vm_error ignored;
    return options_each(table, argc, argv, peek_word, &p, &ignored) ? NULL : p.value;
}

void options_explain(const struct opt *table, struct vm_error *err)
{
    size_t n = strcspn(err->text, ": ");
    for (const struct opt *o = table; o->name; o++) {
        const char *field = o->field ? o->field : o->name;
        if (o->rank == OPT_FOREIGN || o->operand || strlen(field) != n || memcmp(field, err->text, n)) continue;
        struct vm_error said = *err;
        vm_fail(err, 0, "--%s%s", o->name, said.text + n);
        return;
    }
}
