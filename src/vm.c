/* Owns a machine's life: description -> files -> CPU and board -> run -> event -> run again, or reset, or end.
 *   I1  cfg's strings are ours, from vm_create() to vm_free().
 *   I2  rt is set and cleared under lock, so that other threads may stop or wake it: they look only under lock.
 *   I3  the reason for leaving is decided once per run: the first event counts.                     [vm_event]
 *   I4  A request to stop or pause is answered once, by the first run that sees it, with no reset due.  [run]
 * A reset resets CPU and chips in place, clears RAM and loads the files anew: what power-on gives is what reset gives.
 */
#define _GNU_SOURCE /* fallocate */
#include "runtime/runtime.h"
#include "src/cache_dir.h"
#include "src/back/audio.h"
#include "src/back/chardev.h"
#include "src/back/netdev.h"
#include "src/disks.h"
#include "src/error.h"
#include "src/wait.h"
#include "src/board/loader.h"
#include "src/board/cpu_part.h"
#include "src/board/pc.h"
#include "src/shares.h"
#include "src/back/entropy.h"
#include "src/snapshot.h"
#include "src/vm_input.h"
#include "src/vm_jail.h"
#include "src/vm_net.h"
#include "src/vm_screen.h"
#include "src/vm_talk.h"
#include "src/vm_stream.h"
#include "src/vm_unseen.h"
#include "src/vm_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>

/* ---- events ---- */

static void vm_event(struct vm *vm, enum vm_exit event)
{
    if (!vm->has_event) {
        vm->has_event = true;
        vm->event = event;
    }
    rt_stop(vm->rt);
}

static void on_poweroff(void *arg, u32 value UNUSED)
{
    struct vm *vm = arg;
    vm->off = true;
    vm_event(vm, VM_EXIT_POWEROFF);
}

static void on_reset(void *arg, u32 value UNUSED)
{
    struct vm *vm = arg;
    rt_request_reset(vm->rt);
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
    if (!vm->has_event) vm->debug_exit_value = value;
    vm_event(vm, VM_EXIT_DEBUG);
}

static void warn(struct vm *vm, const struct vm_error *why)
{
    if (vm->cfg.warn) vm->cfg.warn(vm->cfg.warn_arg, why->text);
}

static void serial_deliver(void *arg)
{
    struct vm *vm = arg;
    if (vm->serial) chardev_deliver(vm->serial);
    lines_deliver(&vm->lines);
}

/* From a back end's thread: fn is to run on the vCPU thread. If the post fails for want of memory, what waits is
 * delivered by the next that succeeds. */
static void post(struct vm *vm, void (*fn)(void *vm))
{
    pthread_mutex_lock(&vm->lock);
    int rc = vm->rt ? rt_post(vm->rt, fn, vm) : 0;
    (void)rc;
    pthread_mutex_unlock(&vm->lock);
}

static void on_serial_wake(void *vm) { post(vm, serial_deliver); }

static bool stop_asked(void *arg);
static void on_serial_quit(void *arg);
static struct chardev_host serial_host(struct vm *vm)
{
    return (struct chardev_host){ on_serial_wake, on_serial_quit, vm, stop_asked, vm_talk_heard(vm) };
}

/* The terminal can be one back end's only: the old one goes first, as far as the new one is concerned. */
int vm_serial_replace(struct vm *vm, const char *spec, struct vm_error *err)
{
    const struct chardev_host host = serial_host(vm);
    struct chardev *none = NULL, *line = NULL, *was;
    int rc = chardev_open(&none, "null", &host, err);
    if (rc) return rc;
    pthread_mutex_lock(&vm->lock);
    was = vm->serial;
    vm->serial = none;
    pthread_mutex_unlock(&vm->lock);
    chardev_tap_behind(&vm->tap, none);
    chardev_close(was); /* not under lock: its thread may wait for that */
    if (!strcmp(spec, "null")) return 0;
    rc = chardev_open(&line, spec, &host, err);
    if (rc) return rc;
    pthread_mutex_lock(&vm->lock);
    vm->serial = line;
    pthread_mutex_unlock(&vm->lock);
    chardev_tap_behind(&vm->tap, line);
    chardev_close(none);
    return 0;
}

static void disks_deliver(void *arg)
{
    struct vm *vm = arg;
    disks_complete(vm->disks);
}

static void on_disk_wake(void *vm) { post(vm, disks_deliver); }

static void on_disk_failed(void *arg, unsigned drive, bool write, int err, bool held)
{
    struct vm *vm = arg;
    if (vm->cfg.disk_failed) vm->cfg.disk_failed(vm->cfg.disk_failed_arg, drive, write, -err, held);
    if (held) vm_event(vm, VM_EXIT_DISK);
}

static void shares_deliver(void *arg)
{
    struct vm *vm = arg;
    shares_complete(vm->shares);
}

static void on_share_wake(void *vm) { post(vm, shares_deliver); }

static void entropy_deliver(void *arg)
{
    struct vm *vm = arg;
    entropy_complete(vm->entropy);
}

static void on_entropy_wake(void *vm) { post(vm, entropy_deliver); }

/* What the chips have asked of back ends that always answer. */
static void back_ends_drain(struct vm *vm)
{
    shares_drain(vm->shares);
    entropy_drain(vm->entropy);
}

static void frames_deliver(void *arg)
{
    struct vm *vm = arg;
    struct vm_error why;
    vm_nets_deliver(vm->nets);
    if (vm_nets_trouble(vm->nets, &why)) warn(vm, &why);
}

static void on_net_wake(void *vm) { post(vm, frames_deliver); }
#define NET_ANSWER_NS 100000u
static void on_net_asked(void *vm) { rt_expect(((struct vm *)vm)->rt, NET_ANSWER_NS); }
static void on_disk_asked(void *vm, u64 ns) { rt_expect(((struct vm *)vm)->rt, ns); }

static void audio_tell(void *arg)
{
    struct vm *vm = arg;
    struct vm_error why;
    if (audio_trouble(vm->audio, &why)) warn(vm, &why);
}

static void on_audio_wake(void *vm) { post(vm, audio_tell); }

static void press_power_button(void *arg)
{
    struct vm *vm = arg;
    pc_power_button(vm->pc);
}

int vm_balloon(struct vm *vm, u64 bytes) { return vm->running ? -EBUSY : !bytes ? -EINVAL : pc_balloon(vm->pc, bytes); }
int vm_get_balloon(const struct vm *vm, u64 *bytes) { return pc_balloon_now(vm->pc, bytes); }

int vm_get_balloon_stats(struct vm *vm, struct vm_balloon_stats *out)
{
    struct balloon_stats s;
    if (vm->running) return -EBUSY;
    int rc = pc_balloon_stats(vm->pc, &s);
    if (rc) return rc;
    _Static_assert(sizeof out->value == sizeof s.value, "by tag");
    *out = (struct vm_balloon_stats){ .said = s.said, .age_ns = clock_now(rt_clock(vm->rt)) - s.said_at };
    memcpy(out->value, s.value, sizeof out->value);
    return 0;
}

int vm_power_button(struct vm *vm) { return rt_post(vm->rt, press_power_button, vm); }

static void on_serial_quit(void *arg) { vm_stop(arg); }

void vm_pause(struct vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    vm->pause = true;
    if (vm->rt) rt_stop(vm->rt);
    pthread_mutex_unlock(&vm->lock);
}

void vm_stop(struct vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    vm->stop = true;
    chardev_cancel(vm->serial);
    lines_cancel(&vm->lines);
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

static void machine_free(struct vm *vm)
{
    struct vm_error why;
    if (vm->disks && vm->pc) disks_drain(vm->disks);
    if (vm->pc) back_ends_drain(vm);
    if (vm->cache && vm->rt && cache_dir_save(vm->cache, vm->rt, &why)) warn(vm, &why);
    pthread_mutex_lock(&vm->lock);
    struct rt *rt = vm->rt;
    vm->rt = NULL;
    pthread_mutex_unlock(&vm->lock);
    vm_unseen_free(vm->unseen);
    vm_screen_free(vm->screen);
    vm_input_free(vm->input);
    pc_free(vm->pc);
    vm->pc = NULL;
    chardev_tap_fini(&vm->tap);
    rt_free(rt);
    vm_probes_free(vm);
    vm_mapped_free(vm);
    vm_added_free(vm);
}

/* The CPU as reset leaves it, but for what outlives a reset, and as the boot protocol wants it. */
static int machine_boot(struct vm *vm, struct boot *boot, struct vm_error *err)
{
    struct cpu_arch now, cpu = vm->power_on;
    const char *field;
    rt_get_state(vm->rt, &now);
    cpu.tsc = now.tsc; /* NOT-HW: it would be 0 */
    cpu.intr_line = now.intr_line;
    int rc = boot ? boot_load(boot, rt_bus(vm->rt), &cpu, pc_memory_map(vm->pc), err) : 0;
    if (rc) return rc;
    BUG_ON(rt_set_state(vm->rt, &cpu, &field)); /* a boot protocol asks for nothing impossible */
    return 0;
}

/* What the guest is started with: a kernel and its files (*boot), or firmware, or nothing. */
static int machine_files(struct vm *vm, struct boot **boot, struct vm_error *err)
{
    const struct wait_end end = { stop_asked, vm };
    *boot = NULL;
    if (vm->cfg.kernel) return boot_open(boot, &vm->cfg, &end, err);
    bool none = vm->cfg.firmware && !strcmp(vm->cfg.firmware, VM_FIRMWARE_NONE);
    return vm->firmware.data || none ? 0 : firmware_open(&vm->firmware, vm->cfg.firmware, &end, err);
}

/* The VGA's BIOS, if there is to be a VGA: cfg.vga says so from here on. */
static int machine_vga(struct vm *vm, struct vm_error *err)
{
    const struct wait_end end = { stop_asked, vm };
    enum vm_vga *vga = &vm->cfg.vga;
    bool asked = *vga == VM_VGA_STD;
    bool wanted = vm->firmware.data || vm_screen_wanted(vm->cfg.display);
    if (*vga == VM_VGA_DEFAULT) *vga = wanted ? VM_VGA_STD : VM_VGA_NONE;
    if (*vga == VM_VGA_NONE) return 0;
    int rc = firmware_open_vga(&vm->vga_rom, &end, err);
    if (rc != -ENOENT || asked) return rc;
    *vga = VM_VGA_NONE;
    return 0;
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
    struct boot *boot;
    int rc = machine_files(vm, &boot, err);
    if (rc) return rc;
    disks_settle(vm->disks);
    back_ends_drain(vm);
    /* Firmware finds memory as it was: a reset is no power cut. */
    if (!vm->firmware.data) rc = ram_clear(vm->rt);
    if (!rc && !vm->cpu_only) rc = pc_reset(vm->pc);
    vm->cpu_only = false;
    if (rc) vm_fail(err, rc, "reset: %s", strerror(-rc));
    else rc = machine_boot(vm, boot, err);
    boot_free(boot);
    if (!rc) vm->over = vm->off = vm->reset_due = vm->has_event = false;
    return rc;
}

/* For rt_config.symbol. */
static const char *name_of(void *arg, u32 address, u32 *offset)
{
    struct vm *vm = arg;
    vm->naming = true;
    const char *name = vm->cfg.symbol(vm->cfg.symbol_arg, address, offset);
    vm->naming = false;
    return name;
}

/* from: the saved machine to take up; NULL: a new one, which boots. */
static int machine_new(struct vm *vm, struct snapshot *from, struct vm_error *err)
{
    const struct rt_config rc_cfg = {
        .ram_size = vm->cfg.memory,
        .cpu_model = vm->cfg.cpu,
        .engine = vm->cfg.engine == VM_ENGINE_INTERP ? RT_INTERP
                  : vm->cfg.engine == VM_ENGINE_KVM  ? RT_KVM
                                                     : RT_BT,
        .direct = vm->cfg.direct == VM_DIRECT_OFF      ? RT_DIRECT_OFF
                  : vm->cfg.direct == VM_DIRECT_ALWAYS ? RT_DIRECT_ALWAYS
                                                       : RT_DIRECT_ON,
        .code_cache_size = vm->cfg.code_cache,
        .tlb_strict = vm->cfg.tlb_strict,
        .speed_mhz = vm->cfg.speed_mhz,
        .perf_map = vm->cfg.perf_map,
        .symbol = vm->cfg.symbol ? name_of : NULL,
        .symbol_arg = vm,
        .jitdump = vm->cfg.jitdump,
        .disabled_classes = vm->disabled_classes,
        .trace = vm->trace,
        .warn = vm->cfg.warn,
        .warn_arg = vm->cfg.warn_arg,
    };
    struct boot *boot = NULL;
    struct rt *rt = NULL;
    const char *what = "machine";
    int rc = from && vm->cfg.kernel ? 0 : machine_files(vm, &boot, err);
    if (!rc) rc = machine_vga(vm, err);
    if (rc) goto out;
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
    const struct chardev_host host = serial_host(vm);
    struct chardev *serial = NULL;
    rc = chardev_open(&serial, vm->cfg.serial ? vm->cfg.serial : "null", &host, err);
    if (rc) goto out;
    pthread_mutex_lock(&vm->lock);
    vm->serial = serial;
    pthread_mutex_unlock(&vm->lock);
    struct lines lines = { 0 };
    rc = lines_open(&lines, &vm->cfg, &host, err);
    pthread_mutex_lock(&vm->lock);
    vm->lines = lines;
    pthread_mutex_unlock(&vm->lock);
    if (rc) goto out;
    chardev_tap_init(&vm->tap, serial, vm->cfg.serial_output, vm->cfg.serial_output_arg);
    const struct disks_host disk_host = { on_disk_wake, on_disk_asked, on_disk_failed, vm };
    rc = disks_open(&vm->disks, &vm->cfg, vm->cfg.inspect ? NULL : &disk_host, err);
    if (rc) goto out;
    const struct wait_end net_end = { stop_asked, vm };
    const struct netdev_host net_host = { on_net_wake, on_net_asked, vm };
    rc = vm_nets_open(&vm->nets, vm, &net_host, &net_end, err);
    if (rc) goto out;
    const struct audio_host audio_host = { on_audio_wake, vm };
    const char *audio = vm->cfg.audio && !vm->cfg.inspect ? vm->cfg.audio : "none";
    if (vm->sounds && (rc = audio_open(&vm->audio, audio, &audio_host, err))) goto out;
    rc = shares_open(&vm->shares, &vm->cfg, vm->cfg.inspect ? NULL : on_share_wake, vm, err);
    if (rc) goto out;
    if (vm->cfg.rng && !vm->cfg.inspect && (rc = entropy_open(&vm->entropy, on_entropy_wake, vm, err))) goto out;
    struct pc_config board = {
        .sounds = vm->sounds,
        .audio = vm->audio ? audio_dev(vm->audio) : NULL,
        .serial = { &vm->tap.dev },
        .parallel = lines.line[LINE_LPT],
        .hpet = vm->cfg.hpet,
        .paravirt = { .kinds = (vm->cfg.rng ? PARAVIRT_RNG : 0) | (vm->cfg.balloon ? PARAVIRT_BALLOON : 0)
                               | (lines.line[LINE_HVC] ? PARAVIRT_CONSOLE : 0),
                      .rng = entropy_dev(vm->entropy),
                      .console = lines.line[LINE_HVC] },
        .option_rom = vm->cfg.option_rom,
        .smbios = vm->cfg.smbios,
        .end = { stop_asked, vm },
        .rtc_offset = vm->rtc_offset,
        .has_debug_exit = vm->cfg.has_debug_exit,
        .debug_exit = vm->cfg.debug_exit,
        .boot = vm->cfg.boot,
        .firmware = vm->firmware.data ? &vm->firmware : NULL,
        .vga = vm->cfg.vga == VM_VGA_STD,
        .usb = vm->usb,
        .vga_rom = &vm->vga_rom,
        .poweroff = { on_poweroff, vm },
        .reset = { on_reset, vm },
        .init = { on_init, vm },
        .debug = { on_debug_exit, vm },
    };
    for (unsigned i = 0; i < VM_SERIAL_MORE; i++) board.serial[i + 1] = lines.line[i];
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) board.disk[i] = *disks_get(vm->disks, i);
    for (unsigned i = 0; i < VM_SHARES_MAX; i++) board.share[i] = shares_get(vm->shares, i);
    for (unsigned i = 0; i < VM_NETS_MAX; i++) (void)vm_nets_card(vm->nets, i, &board.nic[i]);
    rc = pc_new(&vm->pc, rt, &board, err);
    if (rc) goto out;
    rc = vm_input_new(&vm->input, vm);
    if (rc) {
        vm_fail(err, rc, "keyboard: out of memory");
        goto out;
    }
    rc = vm_screen_open(&vm->screen, vm, err);
    if (rc) goto out;
    rc = vm_unseen_new(&vm->unseen, vm);
    if (rc) {
        vm_fail(err, rc, "display: out of memory");
        goto out;
    }
    rt_get_state(rt, &vm->power_on);
    rc = from ? snapshot_load(from, rt, vm->pc, &vm->waiting, err) : machine_boot(vm, boot, err);
    if (rc) goto out;
    if (from && !vm->cfg.inspect) i8042_let_go(pc_keyboard(vm->pc));
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
    int rc = vm_config_copy(&vm->cfg, cfg, err);
    if (!rc && from) rc = vm_config_load(&vm->cfg, snapshot_head(from), err);
    if (!rc) rc = vm_config_check(vm, err);
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
    if (vm->over || vm->off || vm->reset_due)
        return vm_fail(err, -ESRCH, "the guest has ended: there is nothing that could go on");
    chardev_deliver(vm->serial); /* what has come in is the machine's */
    lines_deliver(&vm->lines);
    chardev_tap_deliver(&vm->tap);
    disks_drain(vm->disks);
    if (disks_hold(vm->disks))
        return vm_fail(err, -EBUSY, "a write that has failed waits to be made once more: let the machine go on first");
    back_ends_drain(vm);
    pc_before_save(vm->pc);
    struct snapshot_blob *blobs = NULL;
    int rc = snapshot_head_init(&h, &vm->cfg, vm->cfg.cpu ? vm->cfg.cpu : vm_cpu_name(0)) ? 0 : -ENOMEM;
    if (rc) vm_fail(err, rc, "out of memory");
    else rc = vm_added_save(vm, &blobs, err);
    if (!rc) rc = snapshot_save(fd, &h, vm->rt, vm->pc, blobs, err);
    snapshot_blobs_free(blobs);
    snapshot_head_free(&h);
    return rc;
}

int vm_save(struct vm *vm, int fd, struct vm_error *err)
{
    struct held_signals held;
    if (vm->running) return vm_fail(err, -EBUSY, "the machine runs");
    signals_hold(&held);
    int rc = save_to(vm, fd, err);
    signals_release(&held);
    return rc;
}

int vm_save_file(struct vm *vm, const char *path, struct vm_error *err)
{
    struct held_signals held;
    if (vm->running) return vm_fail(err, -EBUSY, "the machine runs");
    signals_hold(&held);
    int rc = snapshot_to_file(path, save_to, vm, err);
    signals_release(&held);
    return rc;
}

struct save_request {
    struct vm *vm;
    char path[];
};

static void save_do(void *arg)
{
    struct save_request *r = arg;
    struct vm_error why, text;
    if (!snapshot_to_file(r->path, save_to, r->vm, &why)) return;
    vm_fail(&text, 0, "saving to %s: %.300s", r->path, why.text);
    warn(r->vm, &text);
}

static void save_soon(void *arg)
{
    struct save_request *r = arg;
    struct cpu_arch now;
    rt_get_state(r->vm->rt, &now); /* here: of what runs directly, its tracer alone gets the registers */
    vm_errand(r->vm->confined, save_do, r);
    free(r);
}

int vm_save_soon(struct vm *vm, const char *path)
{
    struct save_request *r = malloc(sizeof *r + strlen(path) + 1);
    if (!r) return -ENOMEM;
    r->vm = vm;
    strcpy(r->path, path);
    int rc = rt_post(vm->rt, save_soon, r);
    if (rc) free(r);
    return rc;
}

int vm_info(struct vm *vm, const char *chip, FILE *out)
{
    struct snap_part part[PC_PARTS_MAX + 1];
    struct cpu_arch cpu;
    if (vm->running) return -EBUSY;
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
    vm_confined_free(vm->confined);
    vm->confined = NULL;
    vm_stream_free(vm);
    signals_hold(&held);
    machine_free(vm);
    signals_release(&held);
    chardev_close(vm->serial);
    lines_close(&vm->lines);
    vm_nets_close(vm->nets);
    audio_close(vm->audio);
    shares_close(vm->shares);
    entropy_close(vm->entropy);
    disks_close(vm->disks);
    firmware_close(&vm->firmware);
    firmware_close(&vm->vga_rom);
    cache_dir_close(vm->cache);
    vm_config_free(&vm->cfg);
    pthread_mutex_destroy(&vm->lock);
    free(vm);
}

/* ---- run ---- */

static enum vm_exit end_of_guest(struct vm *vm, enum vm_exit event)
{
    vm->over = true;
    return vm->event = event;
}

static enum vm_exit host_failed(struct vm *vm, struct vm_error *err)
{
    const char *what;
    int rc = rt_trouble(vm->rt, &what);
    (void)fail_host(err, what, rc);
    return end_of_guest(vm, VM_EXIT_ERROR);
}

/* Files are read anew, and the guest's memory is given back to the host. */
struct reset_job {
    struct vm *vm;
    struct vm_error *err;
    int rc;
};
static void reset_do(void *arg)
{
    struct reset_job *j = arg;
    j->rc = machine_reset(j->vm, j->err);
}
static int reset_errand(struct vm *vm, struct vm_error *err)
{
    struct reset_job j = { .vm = vm, .err = err };
    vm_errand(vm->confined, reset_do, &j);
    return j.rc;
}

enum way { WAY_RUN, WAY_STEP, WAY_STEP_WITH_INTERRUPTS, WAY_WAIT };

static enum rt_exit run_once(struct vm *vm, enum way way)
{
    switch (way) {
    case WAY_STEP: return rt_step(vm->rt, false);
    case WAY_STEP_WITH_INTERRUPTS: return rt_step(vm->rt, true);
    case WAY_WAIT: return rt_wait(vm->rt);
    case WAY_RUN: break;
    }
    return rt_run(vm->rt);
}

static enum vm_exit run(struct vm *vm, enum way way, struct vm_error *err)
{
    if (vm->off) end_of_guest(vm, VM_EXIT_POWEROFF); /* beside the last run's event, perhaps */
    if (vm->over && way != WAY_WAIT) {
        if (vm->event == VM_EXIT_ERROR) vm_fail(err, -EIO, "the machine has failed before, and cannot go on");
        return vm->event;
    }
    if (way != WAY_WAIT) disks_retry(vm->disks);
    for (vm->has_event = false;;) {
        bool reset = vm->reset_due && way != WAY_WAIT;
        if (reset && reset_errand(vm, err))
            return atomic_exchange(&vm->stop, false) ? VM_EXIT_STOPPED : end_of_guest(vm, VM_EXIT_ERROR);
        if (reset && vm->cfg.was_reset) vm->cfg.was_reset(vm->cfg.was_reset_arg);
        if (atomic_exchange(&vm->stop, false)) return VM_EXIT_STOPPED;
        if (atomic_exchange(&vm->pause, false)) return VM_EXIT_PAUSED;
        enum rt_exit why = run_once(vm, way);
        if (why == RT_RESET) vm->reset_due = true;
        /* The PIIX3 answers a shutdown cycle with INIT; without firmware nobody would be there to see it. */
        bool init = why == RT_SHUTDOWN && vm->firmware.data && !vm->cfg.no_reboot;
        if (init) vm->cpu_only = vm->reset_due = true;
        if (vm->has_event) return vm->event;
        if (why == RT_SHUTDOWN && !init) return end_of_guest(vm, VM_EXIT_DIED);
        if (why == RT_ERROR) return host_failed(vm, err);
        if (why == RT_RESET && vm->cfg.no_reboot) return VM_EXIT_RESET;
        if (why == RT_BREAK) return VM_EXIT_BREAK;
        if (why == RT_STEPPED) return VM_EXIT_STEPPED;
        if (why == RT_LIMIT) return VM_EXIT_LIMIT;
        if (why == RT_PROBE) return VM_EXIT_PROBE;
        /* Else stopped: by whom is seen above, unless it has been answered already. */
    }
}

struct run_job {
    struct vm *vm;
    enum way way;
    struct vm_error *err;
    enum vm_exit how;
};
static void run_do(void *arg)
{
    struct run_job *j = arg;
    j->how = run(j->vm, j->way, j->err);
}

static enum vm_exit run_alone(struct vm *vm, enum way way, struct vm_error *err)
{
    struct held_signals held;
    if (vm->running) {
        vm_fail(err, -EBUSY, "the machine runs");
        return VM_EXIT_ERROR;
    }
    if (vm_added_check(vm, err)) return VM_EXIT_ERROR;
    signals_hold(&held);
    vm->running = true;
    vm_screen_let_in(vm->screen);
    struct run_job job = { .vm = vm, .way = way, .err = err };
    vm_confined_run(vm->confined, run_do, &job);
    enum vm_exit how = job.how;
    vm->running = false;
    signals_release(&held);
    return how;
}

enum vm_exit vm_run(struct vm *vm, struct vm_error *err) { return run_alone(vm, WAY_RUN, err); }
enum vm_exit vm_step(struct vm *vm, bool interrupts, struct vm_error *err)
{
    return run_alone(vm, interrupts ? WAY_STEP_WITH_INTERRUPTS : WAY_STEP, err);
}
enum vm_exit vm_wait(struct vm *vm, struct vm_error *err) { return run_alone(vm, WAY_WAIT, err); }

int vm_reset(struct vm *vm, struct vm_error *err)
{
    struct held_signals held;
    if (vm->running) return vm_fail(err, -EBUSY, "the machine runs");
    signals_hold(&held);
    vm->running = true;
    vm->cpu_only = false;
    int rc = machine_reset(vm, err);
    vm->running = false;
    signals_release(&held);
    return rc;
}

void vm_on_fatal(void (*fn)(void *arg, const char *text), void *arg) { bug_handler(fn, arg); }

/* ---- what has become of it ---- */

const char *vm_net_model(unsigned i) { return nic_model(i); }
const char *vm_sound_name(unsigned i, const char **what) { return sound_name(i, what); }
const char *vm_audio_name(unsigned i, const char **what) { return audio_name(i, what); }

u32 vm_debug_exit_value(const struct vm *vm) { return vm->debug_exit_value; }

void vm_diagnose(struct vm *vm, FILE *out) { rt_diagnose(vm->rt, out); }

void vm_stats(struct vm *vm, FILE *out)
{
    rt_counters(vm->rt)->net_dropped = vm_nets_dropped(vm->nets);
    if (vm->audio) rt_counters(vm->rt)->audio_dropped = audio_dropped(vm->audio);
    rt_counters(vm->rt)->serial_dropped = chardev_dropped(vm->serial);
    rt_stats_json(vm->rt, out);
}
