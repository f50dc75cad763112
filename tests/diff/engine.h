/* One of our engines, set up as flat 32-bit protected mode with paging at CPL 3, like a 32-bit Linux process. */
#ifndef TESTS_DIFF_ENGINE_H
#define TESTS_DIFF_ENGINE_H
#include "runtime/runtime.h"
#include "tests/diff/diff.h"

struct engine;
struct engine_config {
    enum rt_engine kind;
    bool kernel; /* cases run at CPL 0, in supervisor pages, with the same flat segments; the exception frame is then on
                  * the case's own stack, below its ESP */
    bool no_windows, eager_windows; /* rt_config */
    bool direct;  /* cases run directly on the processor, where their code may; with RT_BT, not with kernel */
    const u8 *ro; /* the contents of the read-only page */
};
/* Returns 0 or -errno; *what names what failed. */
MUST_CHECK int engine_new(struct engine **out, const struct engine_config *cfg, const char **what);
void engine_free(struct engine *e);
/* again: the code is the one of the last run; translations of it may be used. */
void engine_run(struct engine *e, const struct diff_case *k, const u8 *image, bool again, struct diff_result *r);
struct decoder *engine_decoder(struct engine *e);
struct rt *engine_rt(struct engine *e);
u64 engine_direct_runs(struct engine *e); /* so far: how often it has gone to the processor itself */
#define FRAME_BYTES 16u                   /* at most, of an exception frame on the same stack */
#endif
