/* Implements the embedding API. Owns a machine's life: description -> files -> CPU and board -> run -> again, or end.
 *   I1  cfg's strings are ours, from vm_create() to vm_free().
 *   I2  rt is set and cleared under lock, so that other threads may stop or wake it: they look only under lock.
 *   I3  the reason for leaving is decided once per run: the first event counts.                     [vm_end]
 * A reboot resets CPU and chips in place, clears RAM and loads the files anew: what power-on gives is what reset gives.
 */
#define _GNU_SOURCE /* fallocate */
#include "core/trace.h"
#include "runtime/runtime.h"
#include "src/cache_dir.h"
#include "src/back/chardev.h"
#include "src/back/chardev_tap.h"
#include "src/disks.h"
#include "src/error.h"
#include "src/wait.h"
#include "src/board/firmware.h"
#include "src/board/loader.h"
#include "src/parse.h"
#include "src/board/cpu_part.h"
#include "src/board/pc.h"
#include "src/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>

_Static_assert(VM_CODE_CACHE_MIN == RT_CODE_CACHE_MIN && VM_CODE_CACHE_MAX == RT_CODE_CACHE_MAX, "what vm.h promises");

struct vm {
    struct vm_config cfg;
    struct trace trace;
    u32 disabled_classes;
    struct chardev *serial;
    struct chardev_tap tap;  /* in front of it, if cfg.serial_output is set */
    struct cache_dir *cache; /* NULL: none */
    struct disks *disks;
    struct firmware firmware; /* empty where a kernel is loaded directly */
    struct pc *pc;
    struct cpu_arch power_on; /* what the CPU is like after a reset */

    pthread_mutex_t lock;
    struct rt *rt;
    _Atomic bool stop; /* vm_stop() was called */

    bool cpu_only; /* the reset that has been asked for is the processor's alone */
    bool ended;    /* how holds */
    enum vm_exit how;
    u32 debug_exit_value;
};

/* ---- names ---- */

const char *vm_cpu_name(unsigned i) { return rt_cpu_name(i); }

struct name {
    const char *name, *what;
};

static const struct name trace_names[] = {
#define TRACE_CHANNEL(name, text) { #name, text },
#include "core/trace.def"
#undef TRACE_CHANNEL
};
_Static_assert(ARRAY_LEN(trace_names) == TR_COUNT, "one name per channel");

const char *vm_trace_name(unsigned i, const char **what)
{
    if (i >= ARRAY_LEN(trace_names)) return NULL;
    if (what) *what = trace_names[i].what;
    return trace_names[i].name;
}

const char *vm_serial_name(unsigned i, const char **what) { return chardev_name(i, what); }

const char *vm_class_name(unsigned i, const char **what)
{
    const char *text, *name = rt_class_name(i, &text);
    if (name && what) *what = text;
    return name;
}

typedef const char *name_fn(unsigned i, const char **what);

/* A comma-separated list of n characters into a mask over the names that name() knows. */
static int names_parse(const char *list, size_t n, name_fn *name, const char *option, u32 *mask, struct vm_error *err)
{
    const char *end = list + n;
    for (const char *p = list;; p++) {
        size_t len = 0;
        while (p + len < end && p[len] != ',') len++;
        const char *have;
        unsigned i = 0;
        while ((have = name(i, NULL)) && (strlen(have) != len || memcmp(have, p, len))) i++;
        if (!have) return vm_fail(err, -EINVAL, "%s: there is no '%.*s' (see --help)", option, (int)len, p);
        *mask |= 1u << i;
        p += len;
        if (p == end) return 0;
    }
}

/* LIST[@FROM..TO] */
static int trace_parse(struct trace *t, const char *spec, struct vm_error *err)
{
    t->from = 0;
    t->to = UINT32_MAX;
    t->out = stderr;
    if (!spec) return 0;
    const char *at = strchr(spec, '@');
    if (at) {
        const char *dots = strstr(at, "..");
        char from[24] = "";
        u64 lo, hi;
        if (dots && (size_t)(dots - at - 1) < sizeof from) memcpy(from, at + 1, (size_t)(dots - at - 1));
        if (!dots || parse_u64(from, UINT32_MAX, &lo) || parse_u64(dots + 2, UINT32_MAX, &hi) || lo > hi)
            return vm_fail(err, -EINVAL, "--trace: '%s' is not a range of addresses FROM..TO", at + 1);
        t->from = (laddr)lo;
        t->to = (laddr)hi;
    }
    return names_parse(spec, at ? (size_t)(at - spec) : strlen(spec), vm_trace_name, "--trace", &t->mask, err);
}

/* ---- description ---- */

static bool cpu_exists(const char *name)
{
    const char *have;
    for (unsigned i = 0; (have = vm_cpu_name(i)); i++)
        if (!strcmp(have, name)) return true;
    return false;
}

/* A list of kinds of drives. */
static bool boot_is_fine(const char *boot)
{
    static const char *const kinds[] = { "disk", "cdrom" };
    for (const char *word = boot;; word++) {
        size_t n = strcspn(word, ",");
        bool known = false;
        for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) known |= strlen(kinds[i]) == n && !memcmp(word, kinds[i], n);
        if (!known) return false;
        word += n;
        if (!*word) return true;
    }
}

static int config_check(struct vm *vm, struct vm_error *err)
{
    struct vm_config *c = &vm->cfg;
    if (!c->memory) c->memory = VM_MEMORY_DEFAULT;
    if (c->memory < VM_MEMORY_MIN || c->memory > VM_MEMORY_MAX)
        return vm_fail(err, -EINVAL, "--memory: a machine has %u to %u MiB", (unsigned)(VM_MEMORY_MIN >> 20),
                       (unsigned)(VM_MEMORY_MAX >> 20));
    if (c->memory % PAGE_SIZE)
        return vm_fail(err, -EINVAL, "--memory: %llu bytes are not a multiple of 4 KiB", (unsigned long long)c->memory);
    if (c->code_cache && (c->code_cache < VM_CODE_CACHE_MIN || c->code_cache > VM_CODE_CACHE_MAX))
        return vm_fail(err, -EINVAL, "--cache-size: translated code has room of %uK to %uM",
                       (unsigned)(VM_CODE_CACHE_MIN >> 10), (unsigned)(VM_CODE_CACHE_MAX >> 20));
    if (c->cpu && !cpu_exists(c->cpu)) return vm_fail(err, -EINVAL, "--cpu: there is no '%s' (see --help)", c->cpu);
    if (c->boot && !boot_is_fine(c->boot))
        return vm_fail(err, -EINVAL, "boot: '%.64s' is not a list of disk and cdrom", c->boot);
    int rc = trace_parse(&vm->trace, c->trace, err);
    if (!rc && c->disable)
        rc = names_parse(c->disable, strlen(c->disable), vm_class_name, "--disable", &vm->disabled_classes, err);
    if (rc) return rc;
    struct sysinfo si;
    if (!sysinfo(&si) && c->memory > (u64)si.totalram * si.mem_unit)
        return vm_fail(err, -ENOMEM, "--memory: %llu MiB asked for, the host has %llu",
                       (unsigned long long)(c->memory >> 20),
                       (unsigned long long)((u64)si.totalram * si.mem_unit >> 20));
    return 0;
}

static const char **config_strings(struct vm_config *c, unsigned i)
{
    const char **all[] = { &c->kernel, &c->initrd, &c->cmdline, &c->firmware, &c->boot,
                           &c->cpu,    &c->serial, &c->trace,   &c->disable,  &c->cache_dir };
    if (i < ARRAY_LEN(all)) return all[i];
    i -= ARRAY_LEN(all);
    return i < VM_DISKS_MAX ? &c->disk[i].file : NULL;
}

static int config_copy(struct vm_config *to, const struct vm_config *from)
{
    *to = *from;
    bool ok = true;
    const char **s;
    for (unsigned i = 0; (s = config_strings(to, i)); i++)
        if (*s && !(*s = strdup(*s))) ok = false;
    return ok ? 0 : -ENOMEM;
}

/* What a saved machine says of itself, where cfg does not. */
static int config_load(struct vm_config *c, const struct snapshot_head *h, struct vm_error *err)
{
    if (c->memory && c->memory != h->memory)
        return vm_fail(err, -EINVAL, "--memory: the saved machine has %llu MiB", (unsigned long long)(h->memory >> 20));
    if (c->cpu && strcmp(c->cpu, (const char *)h->cpu))
        return vm_fail(err, -EINVAL, "--cpu: the saved machine has '%s'", (const char *)h->cpu);
    if (c->has_debug_exit && !h->has_debug_exit)
        return vm_fail(err, -EINVAL, "--debug-exit: the saved machine has no such port");
    if (c->has_debug_exit && c->debug_exit != h->debug_exit)
        return vm_fail(err, -EINVAL, "--debug-exit: the saved machine has it at 0x%x", h->debug_exit);
    const struct {
        const char **own;
        const struct byte_queue *saved;
    } string[] = { { &c->kernel, &h->kernel },
                   { &c->initrd, &h->initrd },
                   { &c->cmdline, &h->cmdline },
                   { &c->firmware, &h->firmware } };
    c->memory = h->memory;
    c->has_debug_exit = h->has_debug_exit;
    c->debug_exit = h->debug_exit;
    if (!c->cpu && !(c->cpu = strdup((const char *)h->cpu))) return vm_fail(err, -ENOMEM, "machine: out of memory");
    for (size_t i = 0; i < ARRAY_LEN(string); i++)
        if (!*string[i].own && string[i].saved->len && !(*string[i].own = snapshot_string(string[i].saved)))
            return vm_fail(err, -ENOMEM, "machine: out of memory");
    return 0;
}

static void config_free(struct vm_config *c)
{
    const char **s;
    for (unsigned i = 0; (s = config_strings(c, i)); i++) free((void *)*s);
}

/* ---- events ---- */

static void vm_end(struct vm *vm, enum vm_exit how)
{
    if (!vm->ended) {
        vm->ended = true;
        vm->how = how;
    }
    rt_stop(vm->rt);
}

static void on_poweroff(void *arg, u32 value UNUSED) { vm_end(arg, VM_EXIT_POWEROFF); }

static void on_reset(void *arg, u32 value UNUSED)
{
    struct vm *vm = arg;
    if (vm->cfg.no_reboot) vm_end(vm, VM_EXIT_RESET);
    else rt_request_reset(vm->rt);
}

/* The processor alone: memory and chips stay, and firmware finds out why. */
static void on_init(void *arg, u32 value UNUSED)
{
    struct vm *vm = arg;
    vm->cpu_only = true;
    on_reset(vm, 0);
}

static void on_debug_exit(void *arg, u32 value)
{
    struct vm *vm = arg;
    if (!vm->ended) vm->debug_exit_value = value;
    vm_end(vm, VM_EXIT_DEBUG);
}

static void serial_deliver(void *arg)
{
    struct vm *vm = arg;
    chardev_deliver(vm->serial);
}

/* From the serial back end's thread. If the post fails for want of memory, the bytes wait for the next. */
static void on_serial_wake(void *arg)
{
    struct vm *vm = arg;
    pthread_mutex_lock(&vm->lock);
    int rc = vm->rt && vm->serial ? rt_post(vm->rt, serial_deliver, vm) : 0;
    (void)rc;
    pthread_mutex_unlock(&vm->lock);
}

static void disks_deliver(void *arg)
{
    struct vm *vm = arg;
    disks_complete(vm->disks);
}

/* From a disk's thread. If the post fails for want of memory, the next that succeeds completes this one, too. */
static void on_disk_wake(void *arg)
{
    struct vm *vm = arg;
    pthread_mutex_lock(&vm->lock);
    int rc = vm->rt ? rt_post(vm->rt, disks_deliver, vm) : 0;
    (void)rc;
    pthread_mutex_unlock(&vm->lock);
}

static void on_serial_quit(void *arg) { vm_stop(arg); }

void vm_stop(struct vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    vm->stop = true;
    chardev_cancel(vm->serial);
    if (vm->rt) rt_stop(vm->rt);
    pthread_mutex_unlock(&vm->lock);
}

static bool stop_asked(void *arg)
{
    struct vm *vm = arg;
    return vm->stop || (vm->cfg.cancelled && vm->cfg.cancelled(vm->cfg.cancelled_arg));
}

/* ---- signals of files ----
 * Writing into a connection that has gone, or beyond RLIMIT_FSIZE, raises a signal in the thread that writes. The call
 * fails as well, which is all that is wanted: within the API's functions the signals are blocked, and one that has come
 * is taken before they are let in again. */
struct held_signals {
    sigset_t before, pending;
};
static const int file_signals[] = { SIGPIPE, SIGXFSZ };

static void signals_hold(struct held_signals *h)
{
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_LEN(file_signals); i++) sigaddset(&set, file_signals[i]);
    sigpending(&h->pending);
    pthread_sigmask(SIG_BLOCK, &set, &h->before);
}

static void signals_release(const struct held_signals *h)
{
    const struct timespec now = { 0, 0 };
    for (size_t i = 0; i < ARRAY_LEN(file_signals); i++) {
        sigset_t one;
        sigemptyset(&one);
        sigaddset(&one, file_signals[i]);
        if (!sigismember(&h->pending, file_signals[i])) (void)sigtimedwait(&one, NULL, &now);
    }
    pthread_sigmask(SIG_SETMASK, &h->before, NULL);
}

/* ---- life ---- */

/* Why the host refused, with the limit that may be behind it. */
static int fail_host(struct vm_error *err, const char *what, int rc)
{
    struct rlimit as;
    const char *why = strerror(-rc);
    if (rc == -EFBIG) return vm_fail(err, rc, "%s: %s (RLIMIT_FSIZE, ulimit -f)", what, why);
    if (rc == -EMFILE) return vm_fail(err, rc, "%s: %s (RLIMIT_NOFILE, ulimit -n)", what, why);
    if (rc == -ENOMEM && !getrlimit(RLIMIT_AS, &as) && as.rlim_cur != RLIM_INFINITY)
        return vm_fail(err, rc,
                       "%s: %s: the limit of address space (RLIMIT_AS, ulimit -v) is %llu MiB; "
                       "guest RAM and 2048 MiB will do",
                       what, why, (unsigned long long)(as.rlim_cur >> 20));
    return vm_fail(err, rc, "%s: %s", what, why);
}

static void warn(struct vm *vm, const struct vm_error *why)
{
    if (vm->cfg.warn) vm->cfg.warn(vm->cfg.warn_arg, why->text);
}

static void machine_free(struct vm *vm)
{
    struct vm_error why;
    if (vm->disks && vm->pc) disks_drain(vm->disks);
    if (vm->cache && vm->rt && cache_dir_save(vm->cache, vm->rt, &why)) warn(vm, &why);
    pthread_mutex_lock(&vm->lock);
    struct rt *rt = vm->rt;
    vm->rt = NULL;
    pthread_mutex_unlock(&vm->lock);
    if (vm->serial) vm->serial->rx = NULL;
    pc_free(vm->pc);
    vm->pc = NULL;
    rt_free(rt);
}

/* The CPU as reset leaves it, but for what outlives a reset, and as the boot protocol wants it. */
static int machine_boot(struct vm *vm, struct boot *boot, struct vm_error *err)
{
    struct cpu_arch now, cpu = vm->power_on;
    const char *field;
    rt_get_state(vm->rt, &now);
    cpu.tsc = now.tsc; /* NOT-HW: it would be 0 */
    cpu.intr_line = now.intr_line;
    int rc = !boot ? 0 : boot_load(boot, rt_bus(vm->rt), &cpu, pc_memory_map(vm->pc), err);
    if (rc) return rc;
    BUG_ON(rt_set_state(vm->rt, &cpu, &field)); /* a boot protocol asks for nothing impossible */
    return 0;
}

/* What the guest is started with: a kernel and its files (*boot), or firmware. */
static int machine_files(struct vm *vm, struct boot **boot, struct vm_error *err)
{
    const struct wait_end end = { stop_asked, vm };
    *boot = NULL;
    if (vm->cfg.kernel) return boot_open(boot, &vm->cfg, &end, err);
    return vm->firmware.data ? 0 : firmware_open(&vm->firmware, vm->cfg.firmware, &end, err);
}

/* All of RAM to zero, by giving its pages back to the host. */
static int ram_clear(struct rt *rt)
{
    if (fallocate(rt_ram_fd(rt), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)bus_ram_size(rt_bus(rt))))
        return -errno;
    rt_flush(rt);
    return 0;
}

static int machine_reset(struct vm *vm, struct vm_error *err)
{
    struct boot *boot = NULL;
    int rc = machine_files(vm, &boot, err);
    if (rc) return rc;
    disks_drain(vm->disks);
    /* Firmware finds memory as it was: a reset is no power cut. */
    if (boot) rc = ram_clear(vm->rt);
    if (!rc && !(vm->cpu_only && !boot)) rc = pc_reset(vm->pc);
    vm->cpu_only = false;
    if (rc) vm_fail(err, rc, "reset: %s", strerror(-rc));
    else rc = machine_boot(vm, boot, err);
    boot_free(boot);
    return rc;
}

/* from: the saved machine to take up; NULL: a new one, which boots. */
static int machine_new(struct vm *vm, struct snapshot *from, struct vm_error *err)
{
    const struct rt_config rc_cfg = {
        .ram_size = vm->cfg.memory,
        .cpu_model = vm->cfg.cpu,
        .engine = vm->cfg.engine == VM_ENGINE_INTERP ? RT_INTERP : RT_BT,
        .direct = vm->cfg.direct == VM_DIRECT_OFF      ? RT_DIRECT_OFF
                  : vm->cfg.direct == VM_DIRECT_ALWAYS ? RT_DIRECT_ALWAYS
                                                       : RT_DIRECT_ON,
        .code_cache_size = vm->cfg.code_cache,
        .perf_map = vm->cfg.perf_map,
        .disabled_classes = vm->disabled_classes,
        .trace = vm->trace,
        .warn = vm->cfg.warn,
        .warn_arg = vm->cfg.warn_arg,
    };
    struct boot *boot = NULL;
    struct rt *rt = NULL;
    const char *what = "machine";
    int rc = from && vm->cfg.kernel ? 0 : machine_files(vm, &boot, err);
    if (rc) return rc;
    rc = rt_new(&rt, &rc_cfg, &what);
    if (rc) {
        /* The description has been checked: this is the host's. */
        rc = fail_host(err, what, rc == -EINVAL ? -ENOTSUP : rc);
        goto out;
    }
    pthread_mutex_lock(&vm->lock);
    vm->rt = rt;
    pthread_mutex_unlock(&vm->lock);
    struct vm_error why;
    if (vm->cache && cache_dir_load(vm->cache, rt, &why)) warn(vm, &why);
    if (!vm->serial) {
        const struct chardev_host host = { on_serial_wake, on_serial_quit, vm, stop_asked };
        struct chardev *serial = NULL;
        rc = chardev_open(&serial, vm->cfg.serial ? vm->cfg.serial : "null", &host, err);
        if (rc) goto out;
        pthread_mutex_lock(&vm->lock);
        vm->serial = serial;
        pthread_mutex_unlock(&vm->lock);
    }
    if (vm->cfg.serial_output) chardev_tap_init(&vm->tap, vm->serial, vm->cfg.serial_output, vm->cfg.serial_output_arg);
    const struct blockdev_host disk_host = { on_disk_wake, vm };
    rc = disks_open(&vm->disks, &vm->cfg, &disk_host, err);
    if (rc) goto out;
    struct pc_config board = {
        .serial = vm->cfg.serial_output ? &vm->tap.dev : vm->serial,
        .has_debug_exit = vm->cfg.has_debug_exit,
        .debug_exit = vm->cfg.debug_exit,
        .boot = vm->cfg.boot,
        .firmware = vm->firmware.data ? &vm->firmware : NULL,
        .poweroff = { on_poweroff, vm },
        .reset = { on_reset, vm },
        .init = { on_init, vm },
        .debug = { on_debug_exit, vm },
    };
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) board.disk[i].dev = disks_drive(vm->disks, i, &board.disk[i].cdrom);
    rc = pc_new(&vm->pc, rt, &board, err);
    if (rc) goto out;
    rt_get_state(rt, &vm->power_on);
    rc = from ? snapshot_load(from, rt, vm->pc, err) : machine_boot(vm, boot, err);
    if (rc) goto out;
    on_serial_wake(vm); /* what came in before there was a machine */
out:
    boot_free(boot);
    return rc;
}

static int vm_new(struct vm **out, const struct vm_config *cfg, struct snapshot *from, struct vm_error *err)
{
    struct vm *vm = calloc(1, sizeof *vm);
    if (!vm) return vm_fail(err, -ENOMEM, "machine: out of memory");
    pthread_mutex_init(&vm->lock, NULL);
    int rc = config_copy(&vm->cfg, cfg);
    if (rc) vm_fail(err, rc, "machine: out of memory");
    if (!rc && from) rc = config_load(&vm->cfg, snapshot_head(from), err);
    if (!rc) rc = config_check(vm, err);
    struct held_signals held;
    signals_hold(&held);
    if (!rc && vm->cfg.cache_dir) rc = cache_dir_open(&vm->cache, vm->cfg.cache_dir, err);
    if (!rc) rc = machine_new(vm, from, err);
    signals_release(&held);
    if (rc) {
        vm_free(vm);
        return rc;
    }
    *out = vm;
    return 0;
}

int vm_create(struct vm **out, const struct vm_config *cfg, struct vm_error *err)
{
    return vm_new(out, cfg, NULL, err);
}

int vm_load(struct vm **out, const struct vm_config *cfg, int fd, struct vm_error *err)
{
    struct snapshot *s = NULL;
    int rc = snapshot_open(&s, fd, err);
    if (!rc) rc = vm_new(out, cfg, s, err);
    snapshot_close(s);
    return rc;
}

/* ---- save ---- */

static int save_to(void *arg, int fd, struct vm_error *err)
{
    struct vm *vm = arg;
    struct snapshot_head h;
    chardev_deliver(vm->serial); /* what has come in is the machine's */
    disks_drain(vm->disks);
    int rc = snapshot_head_init(&h, &vm->cfg, vm->cfg.cpu ? vm->cfg.cpu : vm_cpu_name(0)) ? 0 : -ENOMEM;
    if (rc) vm_fail(err, rc, "out of memory");
    else rc = snapshot_save(fd, &h, vm->rt, vm->pc, err);
    snapshot_head_free(&h);
    return rc;
}

int vm_save(struct vm *vm, int fd, struct vm_error *err) { return save_to(vm, fd, err); }

int vm_save_file(struct vm *vm, const char *path, struct vm_error *err)
{
    return snapshot_to_file(path, save_to, vm, err);
}

struct save_request {
    struct vm *vm;
    char path[];
};

static void save_soon(void *arg)
{
    struct save_request *r = arg;
    struct vm_error why, text;
    if (vm_save_file(r->vm, r->path, &why)) {
        vm_fail(&text, 0, "saving to %s: %.300s", r->path, why.text);
        warn(r->vm, &text);
    }
    free(r);
}

int vm_save_soon(struct vm *vm, const char *path)
{
    struct save_request *r = malloc(sizeof *r + strlen(path) + 1);
    if (!r) return -ENOMEM;
    r->vm = vm;
    strcpy(r->path, path);
    pthread_mutex_lock(&vm->lock);
    int rc = vm->rt ? rt_post(vm->rt, save_soon, r) : -ESRCH;
    pthread_mutex_unlock(&vm->lock);
    if (rc) free(r);
    return rc;
}

int vm_info(struct vm *vm, const char *chip, FILE *out)
{
    struct snap_part part[PC_PARTS_MAX + 1];
    struct cpu_arch cpu;
    unsigned n = pc_parts(vm->pc, part, PC_PARTS_MAX), shown = 0;
    rt_get_state(vm->rt, &cpu);
    part[n++] = cpu_part(&cpu);
    for (unsigned i = 0; i < n; i++) {
        if (chip && strcmp(chip, part[i].name)) continue;
        snap_info(&part[i], out);
        shown++;
    }
    return shown ? 0 : -ENOENT;
}

void vm_free(struct vm *vm)
{
    if (!vm) return;
    struct held_signals held;
    signals_hold(&held);
    machine_free(vm);
    signals_release(&held);
    chardev_close(vm->serial);
    disks_close(vm->disks);
    firmware_close(&vm->firmware);
    cache_dir_close(vm->cache);
    config_free(&vm->cfg);
    pthread_mutex_destroy(&vm->lock);
    free(vm);
}

static enum vm_exit run(struct vm *vm, struct vm_error *err)
{
    for (;;) {
        enum rt_exit why = vm->stop ? RT_STOPPED : rt_run(vm->rt);
        if (vm->ended) return vm->how;
        switch (why) {
        case RT_STOPPED: return VM_EXIT_STOPPED;
        case RT_SHUTDOWN:
            /* The PIIX3 answers a shutdown cycle with INIT; without firmware nobody would be there to see it. */
            if (!vm->firmware.data || vm->cfg.no_reboot) return VM_EXIT_DIED;
            vm->cpu_only = true;
            if (machine_reset(vm, err)) return vm->stop ? VM_EXIT_STOPPED : VM_EXIT_ERROR;
            break;
        case RT_RESET:
            if (machine_reset(vm, err)) return vm->stop ? VM_EXIT_STOPPED : VM_EXIT_ERROR;
            break;
        case RT_ERROR: {
            const char *what;
            int rc = rt_trouble(vm->rt, &what);
            (void)fail_host(err, what, rc);
            return VM_EXIT_ERROR;
        }
        }
    }
}

enum vm_exit vm_run(struct vm *vm, struct vm_error *err)
{
    struct held_signals held;
    signals_hold(&held);
    enum vm_exit how = run(vm, err);
    signals_release(&held);
    return how;
}

u32 vm_debug_exit_value(const struct vm *vm) { return vm->debug_exit_value; }

void vm_diagnose(struct vm *vm, FILE *out)
{
    if (vm->rt) rt_diagnose(vm->rt, out);
}

void vm_stats(struct vm *vm, FILE *out)
{
    if (!vm->rt) return;
    if (vm->serial) rt_counters(vm->rt)->serial_dropped = chardev_dropped(vm->serial);
    rt_stats_json(vm->rt, out);
}
