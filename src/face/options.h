/* Command-line options as typed tables. Parsing, help, suggestions, the man page and shell completion all read the
 * same rows (src/face/verbs.c); nothing else knows an option. */
#ifndef SRC_OPTIONS_H
#define SRC_OPTIONS_H
#include "core/types.h"
#include "src/parse.h"
#include "transvisor/vm.h"

#include <stddef.h>

enum opt_type {
    OPT_FLAG,    /* bool; takes no argument */
    OPT_STRING,  /* const char *: points into argv */
    OPT_NAME,    /* const char *: one of what names() lists */
    OPT_SIZE,    /* u64: bytes; a number with K, M, G or KiB, MiB, GiB; without: in units of unit */
    OPT_SECONDS, /* u64: milliseconds; seconds with an optional fraction */
    OPT_NUMBER,  /* u64: decimal or 0x */
    OPT_PORT,    /* struct opt_port: 0..0xffff, decimal or 0x */
    OPT_CHOICE,  /* int: index into choices */
    OPT_CALL,    /* what parse() makes of it */
    OPT_HELP,    /* asks for help: see options_parse() */
    OPT_NOTHING, /* accepted: things are so anyway. Takes an argument if arg is set, one of choices if there are any */
    OPT_LATER,   /* refused: help says why and what to type instead; no further word is read */
};
struct opt_port {
    bool given;
    u16 port;
};

enum opt_rank {
    OPT_PLAIN,  /* named in the verb's help, explained in its full help */
    OPT_COMMON, /* explained in the verb's help */
    OPT_FOREIGN /* what users of other programs type: in the man page only */
};

struct opt {
    const char *name;    /* long name, without dashes; NULL ends a table */
    const char *aliases; /* other spellings, without dashes, blank-separated; single letters take one dash; or NULL */
    enum opt_type type;
    enum opt_rank rank;
    bool required;
    bool repeats;               /* each one adds to those before it */
    bool only_typed;            /* no setting of a configuration file */
    bool own_question;          /* `?` is a value like others, and does not ask for names() */
    bool operand;               /* a word without dashes is this option's value: the first such row's the first, .. */
    size_t at;                  /* offset of the destination in the verb's arguments */
    const char *arg;            /* how help shows the argument */
    u64 min, max;               /* OPT_SIZE (bytes), OPT_SECONDS (ms), OPT_NUMBER: inclusive; max 0: no bounds */
    u64 unit;                   /* OPT_SIZE: bytes that a number without a letter counts */
    const char *const *choices; /* NULL-terminated */
    bool extended;              /* OPT_NAME: more may follow the name, after a comma, for the library to judge */
    /* The names a value is made of, NULL past the last; *what explains one. The value `help` lists them. */
    const char *(*names)(unsigned i, const char **what);
    int (*parse)(void *args, const char *typed, const char *value, struct vm_error *err); /* OPT_CALL; 0 or -EINVAL */
    const char *field; /* what a library calls it in its errors, if that is not name; or NULL */
    const char *group; /* a heading; rows of a group stand together */
    const char *help;
    const char *cure; /* said after a value that is refused; or NULL */
};

/* Parses words into *args. A word is --name VALUE, --name=VALUE, the same with one dash, or an operand. Returns 0, or
 * -EINVAL with *err set, or 1 if help was asked for: *asked is then the row of type OPT_HELP, or the row whose value
 * was `help`. An option given twice: the last one counts. */
MUST_CHECK int options_parse(const struct opt *table, void *args, int argc, char **argv, const struct opt **asked,
                             struct vm_error *err);
/* What becomes of one word: an option with its value (NULL: it takes none), or an operand. Nonzero ends the walk. */
typedef int options_word_fn(void *arg, const struct opt *row, const char *value, struct vm_error *err);
/* Tells of each word, in order, and changes nothing. Returns 0, what fn has returned, or -EINVAL with *err set. */
MUST_CHECK int options_each(const struct opt *table, int argc, char **argv, options_word_fn *fn, void *arg,
                            struct vm_error *err);
/* The value that the last option of that long name has among words, "" if it takes none; NULL if it is not among them,
 * or the words are wrong. */
const char *options_peek(const struct opt *table, const char *name, int argc, char **argv);
/* The row that is called word (with its dashes), or NULL. *value is what follows an equals sign, or NULL. */
const struct opt *options_find(const struct opt *table, const char *word, const char **value);

/* Errors of the library begin with the field of a description: `memory: ..`, `serial unix:PATH: ..`. Puts the option
 * that sets it in its place, with its dashes. An error about an operand, or about nothing in the table, stays as it is.
 */
void options_explain(const struct opt *table, struct vm_error *err);

/* The closest of candidate words, or NULL if none is close: for "did you mean". */
struct closest {
    const char *word, *best; /* best: NULL while nothing is close */
    unsigned distance;
};
void closest_offer(struct closest *c, const char *candidate);

/* The verb's help: common rows one by one, the others by name. all: every row but OPT_FOREIGN, by group. */
void options_help(const struct opt *table, bool all, FILE *out);
void options_names(const struct opt *o, FILE *out); /* what names() lists, one a line */

#endif
