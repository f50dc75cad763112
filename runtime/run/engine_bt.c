/* The translator as an engine, with direct execution beside it and the interpreter for what it does not do.
 *   I1  callouts and helpers are set before anything is translated.    [create]
 *   I2  rt->direct belongs to the bound thread: it traces its processes. [bind, unbind] */
#include "runtime/cpu/cpu_layout.h"
#include "runtime/cpu/cpu_models.h"
#include "runtime/cpu/except.h"
#include "runtime/cpu/state.h"
#include "runtime/direct/direct.h"
#include "runtime/interp/interp.h"
#include "runtime/mem/aspace.h"
#include "runtime/mem/physmem.h"
#include "runtime/mem/window.h"
#include "runtime/run/engine.h"
#include "runtime/run/rt.h"

#include <errno.h>

_Static_assert(offsetof(struct cpu, gpr) == CPU_GPR && offsetof(struct cpu, eip) == CPU_EIP
                   && offsetof(struct cpu, aflags) == CPU_AFLAGS && offsetof(struct cpu, fpu_hot) == CPU_FPU_HOT
                   && offsetof(struct cpu, sse_hot) == CPU_SSE_HOT && offsetof(struct cpu, jump_cache) == CPU_JUMP_CACHE
                   && offsetof(struct cpu, exit_arg) == CPU_EXIT_ARG && offsetof(struct cpu, host_rsp) == CPU_HOST_RSP
                   && offsetof(struct cpu, scratch) == CPU_SCRATCH && offsetof(struct cpu, window) == CPU_WINDOW
                   && offsetof(struct cpu, fx) == CPU_FX && offsetof(struct cpu, context_tag) == CPU_CONTEXT_TAG
                   && offsetof(struct cpu, context_spread) == CPU_CONTEXT_SPREAD,
               "cpu_layout.h");
_Static_assert(offsetof(struct cpu, seg) == CPU_SEG && offsetof(struct cpu, gdtr.base) == CPU_GDTR_BASE
                   && offsetof(struct cpu, gdtr.limit) == CPU_GDTR_LIMIT && offsetof(struct cpu, x87.op) == CPU_X87_OP
                   && offsetof(struct cpu, x87.ds) == CPU_X87_DS && offsetof(struct cpu, mode) == CPU_MODE
                   && offsetof(struct cpu, seg_complex) == CPU_SEG_COMPLEX
                   && offsetof(struct cpu, seg_room) == CPU_SEG_ROOM && offsetof(struct cpu, seg_memo) == CPU_SEG_MEMO
                   && offsetof(struct cpu, helpers[HELPER_MOV_SREG]) == CPU_HELPER_MOV_SREG
                   && CPU_TLB_AT == CPU_TLB_SUP_R && TLB_SUP_R == 0 && TLB_TABLE_BYTES == 1ull << ASM_TLB_TABLE_SHIFT
                   && offsetof(struct cpu, kick) == CPU_KICK,
               "cpu_layout.h");
_Static_assert(offsetof(struct seg_memo, raw) == MEMO_RAW && offsetof(struct seg_memo, key) == MEMO_KEY
                   && offsetof(struct seg_memo, complex) == MEMO_COMPLEX && offsetof(struct seg_memo, seg) == MEMO_SEG
                   && offsetof(struct seg_memo, room) == MEMO_ROOM && sizeof(struct seg_memo) == MEMO_BYTES
                   && SEG_MEMOS == ASM_SEG_MEMOS && SEG_MEMO_MODE == ASM_SEG_MEMO_MODE
                   && SEG_MEMO_VALID == (u32)ASM_SEG_MEMO_VALID && X87_LATCHED == ASM_X87_LATCHED,
               "cpu_layout.h");
_Static_assert(offsetof(struct seg, sel) == 0 && offsetof(struct seg, base) == SEG_BASE
                   && offsetof(struct seg, limit) == SEG_LIMIT && offsetof(struct seg, attr) == SEG_ATTR
                   && sizeof(struct seg) == 16 && ASM_SEG_REAL == (SEG_P | SEG_S | SEG_W | SEG_A)
                   && ASM_SEG_VM86 == (ASM_SEG_REAL | SEG_DPL) && ASM_SEG_SIZES == (SEG_D | SEG_G) && MK_PE == ASM_MK_PE
                   && MK_VM == ASM_MK_VM,
               "cpu_layout.h");
_Static_assert(offsetof(struct fxstate, xmm) == FX_XMM, "cpu_layout.h");
_Static_assert(EXIT_JUMP == ASM_EXIT_JUMP && EXIT_CHAIN == ASM_EXIT_CHAIN && EXIT_EMULATE == ASM_EXIT_EMULATE
                   && EXIT_FAULT == ASM_EXIT_FAULT && EXIT_SIGNAL == ASM_EXIT_SIGNAL && EXIT_NEXT == ASM_EXIT_NEXT
                   && EXIT_KICKED == ASM_EXIT_KICKED && HELPER_DONE == 0 && HELPER_NEXT == ASM_HELPER_NEXT
                   && HELPER_JUMP == ASM_HELPER_JUMP && HELPER_JUMP_SEGMENTED == ASM_HELPER_JUMP_SEGMENTED,
               "cpu_layout.h");
_Static_assert(RT_CODE_CACHE_MIN == XL_CACHE_MIN && RT_CODE_CACHE_MAX == XL_CACHE_MAX, "what runtime.h promises");

/* Address space, until it is used: building a C program went through 64 MiB five times. */
#define DEFAULT_CACHE_BYTES (256u << 20)
#define LEAST_CACHE_BYTES (16u << 20) /* of what is chosen here */
#define INTERPRETED_SLICE 64          /* instructions: until code that can be translated may have come back */

extern char rt_exit_jump[], rt_exit_jump_segmented[], rt_exit_chain[], rt_exit_emulate[], rt_stub_tlb[], rt_stub_fpu[],
    rt_stub_helper[], rt_stub_mov_sreg[];

#define HELPER(name, fn, text) int fn(struct cpu *c, u32 arg);
#include "core/helpers.def"
#undef HELPER

static void set_stubs(struct cpu *c)
{
#define HELPER(name, fn, text) c->helpers[HELPER_##name] = fn;
#include "core/helpers.def"
#undef HELPER
    c->callouts[CALLOUT_JUMP] = rt_exit_jump;
    c->callouts[CALLOUT_JUMP_SEGMENTED] = rt_exit_jump_segmented;
    c->callouts[CALLOUT_CHAIN] = rt_exit_chain;
    c->callouts[CALLOUT_EMULATE] = rt_exit_emulate;
    c->callouts[CALLOUT_TLB] = rt_stub_tlb;
    c->callouts[CALLOUT_FPU] = rt_stub_fpu;
    c->callouts[CALLOUT_HELPER] = rt_stub_helper;
    c->callouts[CALLOUT_MOV_SREG] = rt_stub_mov_sreg;
}

/* Where the host lends too little address space the soft TLB does. Without windows there are no books of what is
 * mapped, and so no direct execution. */
static int make_windows(struct rt *rt, const char **what)
{
    if (rt->cfg.no_windows) return 0;
    *what = "windows";
    int err = windows_new(&rt->windows, rt->cpu);
    if (err != -ENOMEM || rt->cfg.direct == RT_DIRECT_ALWAYS) return err;
    rt->no_direct = "off: there is no address space for windows";
    rt_warn(rt, "the host lends too little address space (RLIMIT_AS, ulimit -v): 135 GiB are wanted, and 23 GiB beside "
                "guest RAM will do; it is slower so, and direct execution is off");
    return 0;
}

/* A code cache of the size asked for; of the default, as much as the host has address space for. */
static int make_translator(struct rt *rt, struct xl_config *cfg)
{
    int err;
    cfg->cache_bytes = rt->cfg.code_cache_size ? rt->cfg.code_cache_size : DEFAULT_CACHE_BYTES;
    while ((err = xl_new(&rt->xl, cfg)) == -ENOMEM && !rt->cfg.code_cache_size && cfg->cache_bytes > LEAST_CACHE_BYTES)
        cfg->cache_bytes /= 2;
    return err;
}

static int create(struct rt *rt, const char **what)
{
    int err;
    *what = "host processor without BMI2 (the interpreter does without)";
    if (!__builtin_cpu_supports("bmi2")) return -ENOTSUP;
    if ((err = make_windows(rt, what))) return err;
    if (rt->windows && (err = aspaces_new(&rt->aspaces, &rt->trace))) return err;
    *what = "direct";
    if (rt->cfg.direct == RT_DIRECT_ALWAYS && (err = direct_probe(bus_ram_fd(rt->bus), what))) return err;
    set_stubs(rt->cpu);
    struct xl_config cfg = { .opt = { .disabled = rt->cfg.disabled_classes,
                                      .features = rt->cpu->model->features,
                                      .window = rt->windows != NULL },
                             .perf_map = rt->cfg.perf_map,
                             .symbol = rt->cfg.symbol,
                             .symbol_arg = rt->cfg.symbol_arg,
                             .jitdump = rt->cfg.jitdump,
                             .miss = rt_exit_jump,
                             .trace = &rt->trace,
                             .ctr = &rt->cpu->ctr,
                             .dec = rt->dec };
    *what = "code cache";
    if ((err = make_translator(rt, &cfg))) {
        if (err == -EEXIST)
            *what = "perf_map: what is there under /tmp/perf-PID.map, or jit-PID.dump, is no file of ours";
        return err;
    }
    if (!rt->windows) return 0;
    const struct aspace_mech windows = windows_mech(rt->windows);
    aspaces_way(rt->aspaces, ASPACE_WINDOW, &windows, rt->cfg.eager_windows);
    account_listen(rt);
    return 0;
}

static void destroy(struct rt *rt)
{
    xl_free(rt->xl);
    aspaces_free(rt->aspaces);
    windows_free(rt->windows);
}

static int bind(struct rt *rt)
{
    if (!rt->windows || rt->cfg.direct == RT_DIRECT_OFF || rt->cfg.speed_mhz) return 0;
    return direct_new(&rt->direct, rt, rt->cfg.direct);
}

static void confine(struct rt *rt)
{
    if (rt->direct) direct_confine(rt->direct);
}

static void retimed(struct rt *rt)
{
    if (rt->direct) direct_retimed(rt->direct);
}

static void unbind(struct rt *rt)
{
    direct_free(rt->direct);
    rt->direct = NULL;
}

/* One instruction under an interrupt shadow, so that what is pending can be delivered after it. */
static enum engine_event run(struct rt *rt)
{
    struct cpu *c = rt->cpu;
    if (!cpu_shadow_is_idle(c)) return soft_interpret(rt, 1);
    if (!xl_can_translate(c->mode)) return soft_interpret(rt, INTERPRETED_SLICE);
    return dispatch_translated(rt) == EXC_SHUTDOWN ? ENGINE_SHUTDOWN : ENGINE_AGAIN;
}

static void state_out(struct rt *rt) { vcpu_sync(rt->cpu); }
static void state_in(struct rt *rt) { (void)rt; } /* cpu_set_arch() has told everybody */

static void flush(struct rt *rt)
{
    interp_flush(rt->interp);
    xl_flush(rt->xl);
}

static void report(const struct rt *rt, FILE *out)
{
    struct xl_usage u = xl_usage(rt->xl);
    fprintf(out,
            "  \"cache_bytes\": %llu,\n  \"cache_used\": %llu,\n  \"cache_blocks\": %llu,\n  "
            "\"block_records_bytes\": %llu,\n  \"sites_soft_now\": %llu,\n",
            (unsigned long long)u.cache_bytes, (unsigned long long)u.cache_used, (unsigned long long)u.blocks,
            (unsigned long long)u.meta_bytes, (unsigned long long)u.soft_sites);
    fprintf(out, "  \"direct\": \"%s\",\n",
            rt->direct      ? direct_status(rt->direct)
            : rt->no_direct ? rt->no_direct
                            : "off");
    const struct counters *n = &rt->cpu->ctr;
    double user = n->user_cycles ? (double)n->user_cycles : 1; /* sampled at kicks */
    fprintf(out, "  \"direct_share_of_user\": %.4f,\n  \"direct_runs_per_gcycle_of_user\": %.1f,\n",
            (double)n->direct_cycles / user, 1e9 * (double)n->direct_runs / user);
}

const struct engine_ops engine_bt = {
    .name = "bt",
    .create = create,
    .destroy = destroy,
    .bind = bind,
    .unbind = unbind,
    .confine = confine,
    .retimed = retimed,
    .run = run,
    .step = soft_step,
    .kick = soft_kick,
    .kicked = account_kick,
    .open = soft_open,
    .inject = soft_inject,
    .state_out = state_out,
    .state_in = state_in,
    .flush = flush,
    .report = report,
};
