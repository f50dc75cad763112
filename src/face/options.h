/* Command-line options as typed tables. */
#ifndef SRC_OPTIONS_H
#define SRC_OPTIONS_H
#include "core/types.h"
#include "transvisor/vm.h"

enum opt_type {
    OPT_FLAG,   /* bool; takes no argument */
    OPT_STRING, /* const char *: points into argv */
    OPT_SIZE,   /* u64: bytes, with an optional K, M or G */
    OPT_PORT,   /* struct opt_port: 0..0xffff, decimal or 0x */
    OPT_U32,    /* u32: decimal or 0x */
    OPT_CHOICE, /* int: index into choices */
};
struct opt_port {
    bool given;
    u16 port;
};

struct opt {
    const char *name; /* without the dashes; NULL ends a table */
    enum opt_type type;
    void *dest;
    const char *arg; /* how help shows the argument */
    const char *help;
    const char *const *choices; /* OPT_CHOICE: names, NULL-terminated */
    bool required;
};

/* Parses "--name value" and "--name=value"; anything else is an error. Returns 0, or -EINVAL with *err set.
 * An option given twice: the last one counts. */
MUST_CHECK int options_parse(const struct opt *table, int argc, char **argv, struct vm_error *err);
void options_help(const struct opt *table, FILE *out);

/* The parsers of single values, for those who have only a string. Return 0 or -EINVAL. */
MUST_CHECK int parse_u64(const char *s, u64 max, u64 *out);
MUST_CHECK int parse_size(const char *s, u64 *out);

#endif
