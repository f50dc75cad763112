/* The runtime's only public face: one guest CPU with its memory, as the board sees it. */
#ifndef RUNTIME_RUNTIME_H
#define RUNTIME_RUNTIME_H
#include "core/bus.h"
#include "core/clock.h"
#include "core/counters.h"
#include "core/cpu_arch.h"
#include "core/trace.h"

struct rt;

enum rt_engine { RT_BT, RT_INTERP, RT_KVM };
/* Direct execution of user code: where it pays; never; always (for tests: a host that cannot is an error). */
enum rt_direct { RT_DIRECT_ON, RT_DIRECT_OFF, RT_DIRECT_ALWAYS };
struct rt_config {
    u64 ram_size;          /* bytes */
    const char *cpu_model; /* MODEL[,+FEATURE|,-FEATURE]..; NULL: the default */
    enum rt_engine engine;
    enum rt_direct direct;
    u64 code_cache_size;  /* bytes, RT_CODE_CACHE_MIN to MAX; 0: the default */
    u32 disabled_classes; /* bit mask over enum insn_class: these are always interpreted */
    bool no_windows;    /* translated code reaches guest memory through the soft TLB only: for tests and measurements */
    bool eager_windows; /* every user address space has a window from the first: for tests */
    bool tlb_strict;    /* a change of a page table is seen by the next access, without a flush */
    /* So many million instructions are done in a second of guest time, and the TSC counts them; what the host could do
     * beside that it sleeps. User code does not run directly then. 0: as fast as it goes. */
    unsigned speed_mhz;
    bool perf_map; /* keep /tmp/perf-PID.map */
    bool jitdump;  /* and /tmp/jit-PID.dump */
    /* Names kernel code in both, by linear address; NULL: nobody does. */
    const char *(*symbol)(void *arg, u32 address, u32 *offset);
    void *symbol_arg;
    struct trace trace;
    /* Told, in one line, of what goes wrong without stopping the machine; NULL: nobody. On the vCPU's thread. */
    void (*warn)(void *arg, const char *text);
    void *warn_arg;
};
#define RT_CODE_CACHE_MIN (64u << 10)
#define RT_CODE_CACHE_MAX (1u << 30)
/* Makes CPU, RAM, bus and clock. Returns 0 or -errno; on failure *what names the thing that failed. */
MUST_CHECK int rt_new(struct rt **out, const struct rt_config *cfg, const char **what);
void rt_free(struct rt *rt);

struct bus *rt_bus(struct rt *rt);
struct clock *rt_clock(struct rt *rt);
struct trace *rt_trace(struct rt *rt);

/* ---- the CPU's state and guest memory: between runs, and on the vCPU thread from a post ---- */

/* Everything of the CPU that a snapshot, a debugger or another engine needs, as one piece: x87/SSE state and flags that
 * live elsewhere for speed are brought home first. TSC: its value now. */
void rt_get_state(struct rt *rt, struct cpu_arch *out);
/* Puts it back, here or into another machine of the same CPU model, whatever its engine: the guest goes on from there,
 * as if nothing had been. Address translations are forgotten, translated code stays. in->tsc as rt_get_state() gave it
 * last leaves the counter counting; another value is what it shows now. INTR's level comes with the state, so the
 * interrupt controllers must be of the same moment. Returns 0; or -EINVAL with *field naming what no CPU of this model
 * could hold, and nothing done: a state may come from anywhere. */
MUST_CHECK int rt_set_state(struct rt *rt, const struct cpu_arch *in, const char **field);
/* As RDMSR and WRMSR. Returns 0, or -EINVAL where they would raise #GP. */
MUST_CHECK int rt_get_msr(struct rt *rt, u32 msr, u64 *val);
MUST_CHECK int rt_set_msr(struct rt *rt, u32 msr, u64 val);
/* Guest memory, RAM and ROM, without the side effects of an access: no device is asked, no accessed or dirty bit set,
 * no permission looked at. Writes reach RAM only and are seen by code that has been translated. Linear addresses are as
 * the page tables in memory have them now. Returns how many bytes, from the first, were there: physical ones are
 * skipped where there is no memory (reads give ones), linear ones end there. */
u64 rt_read_phys(struct rt *rt, paddr pa, void *buf, u64 len);
u64 rt_write_phys(struct rt *rt, paddr pa, const void *buf, u64 len);
u64 rt_read_linear(struct rt *rt, laddr la, void *buf, u64 len);
u64 rt_write_linear(struct rt *rt, laddr la, const void *buf, u64 len);
/* Forgets everything that was made of guest memory: for whoever has changed RAM behind the bus's back, as the loading
 * of a whole snapshot may. */
void rt_flush(struct rt *rt);
/* RAM as a file: what is above the PCI hole follows what is below. Borrowed. */
int rt_ram_fd(const struct rt *rt);
u64 rt_ram_len(const struct rt *rt); /* bytes of the file: RAM, and after it the memories of devices that there are */

/* Wiring. */
void rt_set_intc(struct rt *rt, const struct intc_ops *ops, void *dev);
struct irq_line rt_intr_line(struct rt *rt); /* INTR: level */
struct irq_line rt_nmi_line(struct rt *rt);  /* NMI: rising edge */
/* With CR0.NE clear an unmasked x87 exception asserts FERR#, and the next x87 instruction that waits does not begin
 * before an interrupt, unless IGNNE# is asserted. Until FERR# is wired such exceptions are ignored. */
void rt_set_ferr(struct rt *rt, struct irq_line line);
struct irq_line rt_ignne_line(struct rt *rt);

enum rt_exit {
    RT_STOPPED,  /* rt_stop */
    RT_SHUTDOWN, /* triple fault */
    RT_RESET,    /* rt_request_reset */
    RT_ERROR,
    RT_BREAK, /* rt_break_met() says which */
    RT_STEPPED,
    RT_LIMIT, /* rt_limit() */
    RT_PROBE, /* rt_probe_met() has asked for it */
};
/* Runs the guest on the calling thread until something ends it. */
enum rt_exit rt_run(struct rt *rt);
/* Runs one instruction, or one iteration of a repeated one. Without interrupts none is delivered before it, unless the
 * guest is in HLT; with them, the delivery of one is a step as well. */
enum rt_exit rt_step(struct rt *rt, bool interrupts);
/* As rt_run(), but no instruction is run and guest time stands: posts are done, and requests end it. */
enum rt_exit rt_wait(struct rt *rt);

/* ---- a debugger's breakpoints: between runs ----
 *
 * Any number, by linear address in whatever address space. They are no debug registers of the guest's, and change none
 * of its memory. One for fetches is met before its instruction; one for data after the instruction that made the
 * access, string instructions being cut behind it. Guest time stands from then on until the next run. */
enum rt_break { RT_BREAK_READ = 1, RT_BREAK_WRITE = 2, RT_BREAK_FETCH = 4 }; /* as enum watch_kind */
/* kinds: a set of them. 0; -EINVAL: len is 0 or more than RT_BREAK_MAX; -EEXIST: there is one like it; -ENOMEM. */
#define RT_BREAK_MAX 4096u
MUST_CHECK int rt_break_add(struct rt *rt, unsigned kinds, laddr la, u32 len);
MUST_CHECK int rt_break_remove(struct rt *rt, unsigned kinds, laddr la, u32 len); /* 0 or -ENOENT */
void rt_break_remove_all(struct rt *rt);
/* After RT_BREAK: as it was added, but for fetches, where kinds is RT_BREAK_FETCH. */
void rt_break_met(const struct rt *rt, unsigned *kinds, laddr *la, u32 *len);
/* The next run does not stop for one at its first instruction. */
void rt_break_pass(struct rt *rt);

/* ---- counting instructions: between runs ----
 *
 * Retired ones, as a processor counts them: a repeated string instruction is one, when it is done; one that faults is
 * none; INT n and HLT are, an interrupt is not. Exact in both engines, and the same. Translated code is made anew when
 * counting begins or ends; user code does not run directly meanwhile. */
void rt_count(struct rt *rt, bool on);
/* Since rt_new(). While it is off, translated code's are not in it. On the vCPU thread while it runs: those of the
 * present block are in it. */
u64 rt_instructions(const struct rt *rt);
/* So many more from now on, then the run ends with RT_LIMIT, and the limit is gone. UINT64_MAX: there is none. Counts
 * meanwhile as with rt_count(). */
void rt_limit(struct rt *rt, u64 more);

/* ---- probes: between runs ----
 *
 * Somebody is told of what the guest does, as it does it, on the vCPU's thread; or it is counted. What nobody asks for
 * costs nothing. User code does not run directly while there are probes of instructions, blocks or system calls. */

struct rt_event {
    unsigned event; /* index of rt_event_name() */
    laddr la;       /* of the instruction, linear */
    u64 address;    /* as core/events.def has it */
    u8 size;        /* of an access, in bytes; else 0 */
    u64 value;      /* of an access, CR3, the TSS's selector; a vector; EAX of a system call and of its result */
    u32 error;      /* of an exception */
};
enum rt_verdict {
    RT_GO,
    RT_SKIP, /* of an instruction that begins: it is not done, control goes on behind it */
    RT_STOP, /* the run ends with RT_PROBE, once the present instruction is done */
    RT_PASS, /* as RT_GO, but it is not counted: the probe was not about this one */
};
struct rt_probe {
    unsigned event; /* index of rt_event_name() */
    /* Where, inclusive: of read and write, linear addresses, 16 MiB at most; of in and out, ports; of mmio, physical
     * ones; of all others, linear addresses of instructions. */
    u64 from, to;
    u8 cpls;    /* bit n: at CPL n */
    u16 op;     /* insn: rt_mnemonic(), or 0: any */
    s8 cls;     /* insn: index of rt_class_name(), or -1: any */
    int vector; /* exception, interrupt, syscall: that one, or -1: any, or 80h */
    /* May change registers and arithmetic flags in *cpu, and guest memory (rt_write_linear()). NULL: it is counted. */
    enum rt_verdict (*fn)(void *arg, const struct rt_event *e, struct cpu_arch *cpu);
    void *arg;
};
/* 0, with *id; -EINVAL; -E2BIG: the range of memory; -ENOSPC: there are too many; -ENOMEM. */
MUST_CHECK int rt_probe_add(struct rt *rt, const struct rt_probe *p, unsigned *id);
MUST_CHECK int rt_probe_remove(struct rt *rt, unsigned id); /* 0 or -ENOENT */
u64 rt_probe_hits(const struct rt *rt, unsigned id);        /* how often it was met */
unsigned rt_probe_met(const struct rt *rt);                 /* after RT_PROBE: which */
const char *rt_event_name(unsigned i, const char **what);

/* ---- the trace stream (transvisor/stream.h): between runs ---- */
struct rt_stream {
    void *memory;   /* a struct vm_stream_header in header_bytes, and behind them the ring, twice: borrowed */
    u64 ring;       /* bytes: a power of two */
    unsigned what;  /* a set of enum vm_stream_what */
    laddr from, to; /* of instructions, inclusive */
    u8 cpls;        /* bit n: at CPL n */
    bool wait;      /* for the reader, where there is no room */
    int reader;     /* a socket that is at its end when the reader has gone; or -1 */
};
/* User code does not run directly while it has blocks or memory. 0; -EEXIST; -ENOMEM. */
MUST_CHECK int rt_stream_begin(struct rt *rt, const struct rt_stream *s);
void rt_stream_end(struct rt *rt);       /* memory is not used any more */
u64 rt_stream_told(const struct rt *rt); /* records in the ring so far, also after the end */
u64 rt_stream_lost(const struct rt *rt); /* and those that there was no room for */
u16 rt_mnemonic(const char *name);       /* in either case; 0: there is none */

/* Makes what the calling thread will need of the host to run the guest: signal handlers, timers, a process that makes
 * processes. From then on its rt_run() makes no system call but those of src/jail.def, until another thread makes one.
 * 0 or -errno, with *what. */
MUST_CHECK int rt_confine(struct rt *rt, const char **what);
int rt_trouble(const struct rt *rt, const char **what); /* after RT_ERROR: -errno, and of what */
/* From a device callback or, thread-safely, from anywhere. */
void rt_stop(struct rt *rt);
void rt_request_reset(struct rt *rt);
/* Thread-safe: fn(arg) runs on the vCPU thread between blocks, soon. Returns 0 or -ENOMEM. */
MUST_CHECK int rt_post(struct rt *rt, void (*fn)(void *), void *arg);
/* From a device callback: somebody has been asked for what will be posted within so many host ns, perhaps: some hundred
 * thousand at most. A HLT that follows watches for it that long before it sleeps. */
void rt_expect(struct rt *rt, u64 ns);
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

/* Tries whether /dev/kvm runs a 32-bit guest with paging, in a process of its own and for a second of its time: some
 * hosts have one that is software, or that fails at the first instruction. Returns 0 with what it costs, or -errno and
 * *why. */
struct rt_kvm {
    double loop_ns, exit_ns; /* a round of a loop of two instructions; leaving the guest for a port and coming back */
    bool hardware;           /* a processor's, by these figures */
};
MUST_CHECK int rt_kvm_probe(struct rt_kvm *out, const char **why);
/* Tries whether user code can run directly on this host. Returns 0, with what a stop costs, or -errno and *why. */
MUST_CHECK int rt_direct_probe(u64 *stop_ns, const char **why);

/* The names a description may use; NULL past the last. The first CPU is the default; class i is bit i of
 * disabled_classes. */
const char *rt_cpu_name(unsigned i);
const char *rt_cpu_feature_name(unsigned i);
/* Where in a description of a CPU the word is that names nothing, or what the model cannot have. NULL: it is fine. */
const char *rt_cpu_wrong(const char *description);
const char *rt_class_name(unsigned i, const char **what);

/* The translator without a machine: prints raw code and the host code it becomes, as if it lay at base in flat
 * segments. Returns 0 or -errno, with *what naming the thing that failed. */
struct rt_listing {
    const u8 *code;
    u64 len; /* bytes, more than 0; base + len is within 4 GiB */
    laddr base;
    const char *cpu_model; /* as in struct rt_config */
    unsigned cpl;          /* 0 to 3 */
    bool code16;           /* CS.D is 0 */
};
MUST_CHECK int rt_list_code(const struct rt_listing *in, FILE *out, const char **what);

/* Registers, CR0-4, the current instruction and the chain of exceptions: what a dead guest leaves behind. */
void rt_diagnose(struct rt *rt, FILE *out);
struct counters *rt_counters(struct rt *rt); /* for those whose owner is outside of the runtime */
/* All counters as one JSON object. */
void rt_stats_json(struct rt *rt, FILE *out);

#endif
