/* The probes of a machine of the command line: --probe and --call. */
#ifndef SRC_FACE_PROBES_H
#define SRC_FACE_PROBES_H
#include "core/types.h"
#include "transvisor/vm.h"

#define PROBE_WORDS_MAX 32u

/* As they were typed. */
struct probe_words {
    const char *event; /* EVENT[,at=..][,if=..][,do=ACTION] */
    const char *call;  /* NULL: none */
};

struct probes;
struct symbols;

/* Everything about them that can be wrong without a machine, but for the events. 0 or -errno, with *err set. */
MUST_CHECK int probes_open(struct probes **out, const struct probe_words *words, unsigned n, struct vm_error *err);
/* symbols: what names in at=.. mean, or NULL. 0 or -errno. */
MUST_CHECK int probes_attach(struct probes *p, struct vm *vm, const struct symbols *symbols, FILE *out,
                             struct vm_error *err);
void probes_report(const struct probes *p, FILE *out); /* what has come of them, while the machine is there */
void probes_close(struct probes *p);                   /* NULL is fine */

#endif
