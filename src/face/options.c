/* Owns the parsing of typed option tables; knows no option by name.
 *   I1  a destination is written only with a value that parsed completely.   [only opt_store writes]
 * Enter at options_parse(). */
#include "src/face/options.h"
#include "src/error.h"

#include <errno.h>
#include <string.h>

int parse_u64(const char *s, u64 max, u64 *out)
{
    /* strtoull would take a sign, leading blanks and octal: none of them is a number here. */
    unsigned base = 10;
    if (s[0] == '0' && (s[1] == 'x' || s[1] == 'X')) {
        base = 16;
        s += 2;
    }
    u64 v = 0;
    if (!*s) return -EINVAL;
    for (; *s; s++) {
        unsigned d;
        if (*s >= '0' && *s <= '9') d = (unsigned)(*s - '0');
        else if (base == 16 && *s >= 'a' && *s <= 'f') d = (unsigned)(*s - 'a') + 10;
        else if (base == 16 && *s >= 'A' && *s <= 'F') d = (unsigned)(*s - 'A') + 10;
        else return -EINVAL;
        if (v > (UINT64_MAX - d) / base) return -EINVAL;
        v = v * base + d;
    }
    if (v > max) return -EINVAL;
    *out = v;
    return 0;
}

int parse_size(const char *s, u64 *out)
{
    char digits[32];
    size_t n = strlen(s);
    unsigned shift = 0;
    if (!n || n >= sizeof digits) return -EINVAL;
    switch (s[n - 1]) {
    case 'k':
    case 'K':
        shift = 10;
        n--;
        break;
    case 'm':
    case 'M':
        shift = 20;
        n--;
        break;
    case 'g':
    case 'G':
        shift = 30;
        n--;
        break;
    }
    memcpy(digits, s, n);
    digits[n] = 0;
    u64 v;
    if (parse_u64(digits, UINT64_MAX >> shift, &v)) return -EINVAL;
    *out = v << shift;
    return 0;
}

static int opt_store(const struct opt *o, const char *val, struct vm_error *err)
{
    u64 v;
    switch (o->type) {
    case OPT_FLAG: *(bool *)o->dest = true; return 0;
    case OPT_STRING: *(const char **)o->dest = val; return 0;
    case OPT_SIZE:
        if (parse_size(val, &v))
            return vm_fail(err, -EINVAL, "--%s: '%s' is not a size (a number, with K, M or G)", o->name, val);
        *(u64 *)o->dest = v;
        return 0;
    case OPT_PORT:
        if (parse_u64(val, 0xffff, &v))
            return vm_fail(err, -EINVAL, "--%s: '%s' is not a port (0 to 0xffff)", o->name, val);
        *(struct opt_port *)o->dest = (struct opt_port){ true, (u16)v };
        return 0;
    case OPT_U32:
        if (parse_u64(val, UINT32_MAX, &v))
            return vm_fail(err, -EINVAL, "--%s: '%s' is not a number up to 0xffffffff", o->name, val);
        *(u32 *)o->dest = (u32)v;
        return 0;
    case OPT_CHOICE:
        for (int i = 0; o->choices[i]; i++)
            if (!strcmp(o->choices[i], val)) {
                *(int *)o->dest = i;
                return 0;
            }
        return vm_fail(err, -EINVAL, "--%s: '%s' is not one of %s", o->name, val, o->arg);
    }
    BUG_ON("no such option type");
    return -EINVAL;
}

int options_parse(const struct opt *table, int argc, char **argv, struct vm_error *err)
{
    u64 seen = 0; /* by index in the table */
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (strncmp(word, "--", 2) || !word[2]) return vm_fail(err, -EINVAL, "unexpected argument '%s'", word);
        const char *name = word + 2, *eq = strchr(name, '=');
        size_t len = eq ? (size_t)(eq - name) : strlen(name);
        const struct opt *o = table;
        while (o->name && (strlen(o->name) != len || memcmp(o->name, name, len))) o++;
        if (!o->name) return vm_fail(err, -EINVAL, "unknown option '--%.*s'", (int)len, name);
        const char *val = NULL;
        if (o->type == OPT_FLAG) {
            if (eq) return vm_fail(err, -EINVAL, "--%s takes no argument", o->name);
        } else if (eq) {
            val = eq + 1;
        } else {
            if (++i >= argc) return vm_fail(err, -EINVAL, "--%s needs an argument: %s", o->name, o->arg);
            val = argv[i];
        }
        int rc = opt_store(o, val, err);
        if (rc) return rc;
        seen |= (u64)1 << (o - table);
    }
    for (const struct opt *o = table; o->name; o++)
        if (o->required && !(seen >> (o - table) & 1))
            return vm_fail(err, -EINVAL, "--%s %s is missing", o->name, o->arg);
    return 0;
}

void options_help(const struct opt *table, FILE *out)
{
    for (const struct opt *o = table; o->name; o++) {
        char left[80];
        snprintf(left, sizeof left, "--%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
        if (strlen(left) > 26) fprintf(out, "  %s\n  %-26s %s\n", left, "", o->help);
        else fprintf(out, "  %-26s %s\n", left, o->help);
    }
}
