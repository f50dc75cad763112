/* The runtime's only public face: one guest CPU with its memory, as the board sees it. */
#ifndef RUNTIME_RUNTIME_H
#define RUNTIME_RUNTIME_H
#include "core/bus.h"
#include "core/clock.h"
#include "core/cpu.h"
#include "core/trace.h"

struct rt;
struct decoder;

enum rt_engine { RT_BT, RT_INTERP };
/* Direct execution of user code: where it pays; never; always (for tests: a host that cannot is an error). */
enum rt_direct { RT_DIRECT_ON, RT_DIRECT_OFF, RT_DIRECT_ALWAYS };
struct rt_config {
    u64 ram_size;          /* bytes */
    const char *cpu_model; /* NULL: the default */
    enum rt_engine engine;
    enum rt_direct direct;
    u64 code_cache_size;  /* bytes, 0: the default */
    u32 disabled_classes; /* bit mask over enum insn_class: these are always interpreted */
    bool no_windows;    /* translated code reaches guest memory through the soft TLB only: for tests and measurements */
    bool eager_windows; /* every user address space has a window from the first: for tests */
    bool perf_map;      /* keep /tmp/perf-PID.map */
    struct trace trace;
};
/* Makes CPU, RAM, bus and clock. Returns 0 or -errno; on failure *what names the thing that failed. */
MUST_CHECK int rt_new(struct rt **out, const struct rt_config *cfg, const char **what);
void rt_free(struct rt *rt);

struct bus *rt_bus(struct rt *rt);
struct clock *rt_clock(struct rt *rt);
struct cpu *rt_cpu(struct rt *rt); /* registers; stable while not running */
struct decoder *rt_decoder(struct rt *rt);
struct trace *rt_trace(struct rt *rt);
void rt_update(struct rt *rt); /* after changing registers from outside */

/* Wiring. */
void rt_set_intc(struct rt *rt, const struct intc_ops *ops, void *dev);
struct irq_line rt_intr_line(struct rt *rt); /* INTR: level */
struct irq_line rt_nmi_line(struct rt *rt);  /* NMI: rising edge */

enum rt_exit { RT_STOPPED /* rt_stop */, RT_SHUTDOWN /* triple fault */, RT_RESET /* rt_request_reset */, RT_ERROR };
/* Runs the guest on the calling thread until something ends it. */
enum rt_exit rt_run(struct rt *rt);
/* From a device callback or, thread-safely, from anywhere. */
void rt_stop(struct rt *rt);
void rt_request_reset(struct rt *rt);
/* Thread-safe: fn(arg) runs on the vCPU thread between blocks, soon. Returns 0 or -ENOMEM. */
MUST_CHECK int rt_post(struct rt *rt, void (*fn)(void *), void *arg);
/* Forces a look at timers, posts and interrupts at the next block boundary. Thread-safe, async-signal-safe. */
void rt_kick(struct rt *rt);

/* Translated code for later runs. false: there is none (RT_INTERP), and nothing of this may be called. key names what
 * it is good for. */
bool rt_templates_key(const struct rt *rt, u64 *key);
/* From len bytes of a file, before the guest runs. Returns NULL, or what is wrong with it. They become code that runs
 * here. */
MUST_CHECK const char *rt_templates_load(struct rt *rt, int fd, u64 len);
bool rt_templates_changed(const struct rt *rt); /* there is more than was loaded, and enough to be worth a file */
MUST_CHECK int rt_templates_save(const struct rt *rt, int fd, u64 max); /* at most max bytes; 0 or -errno */

/* Tries whether user code can run directly on this host. Returns 0, with what a stop costs, or -errno and *why. */
MUST_CHECK int rt_direct_probe(u64 *stop_ns, const char **why);

/* Registers, CR0-4, the current instruction and the chain of exceptions: what a dead guest leaves behind. */
void rt_diagnose(struct rt *rt, FILE *out);
/* All counters as one JSON object. */
void rt_stats_json(struct rt *rt, FILE *out);

#endif
