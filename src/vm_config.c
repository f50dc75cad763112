/* Owns the description of a machine: its copy, its checks, and the names it may use. */
#include "core/trace.h"
#include "runtime/runtime.h"
#include "src/back/audio.h"
#include "src/back/chardev.h"
#include "src/board/sounds.h"
#include "src/board/usb_ports.h"
#include "src/back/screen.h"
#include "src/error.h"
#include "src/parse.h"
#include "src/snapshot.h"
#include "src/vm_clock.h"
#include "src/vm_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <time.h>

_Static_assert(VM_CODE_CACHE_MIN == RT_CODE_CACHE_MIN && VM_CODE_CACHE_MAX == RT_CODE_CACHE_MAX, "what vm.h promises");

/* ---- names ---- */

const char *vm_cpu_name(unsigned i) { return rt_cpu_name(i); }

static const struct {
    const char *name, *what;
} trace_names[] = {
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
static int names_parse(const char *list, size_t n, name_fn *name, const char *field, u32 *mask, struct vm_error *err)
{
    const char *end = list + n;
    for (const char *p = list;; p++) {
        size_t len = 0;
        while (p + len < end && p[len] != ',') len++;
        const char *have;
        unsigned i = 0;
        while ((have = name(i, NULL)) && (strlen(have) != len || memcmp(have, p, len))) i++;
        if (!have) return vm_fail(err, -EINVAL, "%s: there is no '%.*s'", field, (int)len, p);
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
            return vm_fail(err, -EINVAL, "trace: '%s' is not a range of addresses FROM..TO", at + 1);
        t->from = (laddr)lo;
        t->to = (laddr)hi;
    }
    return names_parse(spec, at ? (size_t)(at - spec) : strlen(spec), vm_trace_name, "trace", &t->mask, err);
}

/* ---- description ---- */

int vm_config_cpu(const char *cpu, struct vm_error *err)
{
    char features[160] = "";
    const char *wrong = cpu ? rt_cpu_wrong(cpu) : NULL, *name;
    if (cpu && strlen(cpu) >= sizeof((struct snapshot_head *)0)->cpu)
        return vm_fail(err, -EINVAL, "cpu: '%.40s..' has more than %zu characters", cpu,
                       sizeof((struct snapshot_head *)0)->cpu - 1);
    if (!wrong) return 0;
    int len = (int)strcspn(wrong, ",");
    if (wrong == cpu) return vm_fail(err, -EINVAL, "cpu: there is no '%.*s'", len, wrong);
    for (unsigned i = 0; (name = rt_cpu_feature_name(i)); i++) {
        size_t at = strlen(features);
        snprintf(features + at, sizeof features - at, "%s%s", i ? " " : "", name);
    }
    return vm_fail(err, -EINVAL, "cpu: '%.*s' is not a + or - and a feature that %.*s can have or lack, of %s", len,
                   wrong, (int)strcspn(cpu, ","), cpu, features);
}

/* A list of kinds of drives, and perhaps menu=on. */
static bool boot_is_fine(const char *boot)
{
    static const char *const kinds[] = { "floppy", "disk", "cdrom", "network", "menu=on" };
    for (const char *word = boot;; word++) {
        size_t n = strcspn(word, ",");
        bool known = false;
        for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) known |= strlen(kinds[i]) == n && !memcmp(word, kinds[i], n);
        if (!known) return false;
        word += n;
        if (!*word) return true;
    }
}

int vm_config_check(struct vm *vm, struct vm_error *err)
{
    struct vm_config *c = &vm->cfg;
    if (!c->memory) c->memory = VM_MEMORY_DEFAULT;
    if (c->memory < VM_MEMORY_MIN || c->memory > VM_MEMORY_MAX)
        return vm_fail(err, -EINVAL, "memory: a machine has %u to %u MiB", (unsigned)(VM_MEMORY_MIN >> 20),
                       (unsigned)(VM_MEMORY_MAX >> 20));
    if (c->memory % PAGE_SIZE)
        return vm_fail(err, -EINVAL, "memory: %llu bytes are not a multiple of 4 KiB", (unsigned long long)c->memory);
    if (c->code_cache && (c->code_cache < VM_CODE_CACHE_MIN || c->code_cache > VM_CODE_CACHE_MAX))
        return vm_fail(err, -EINVAL, "code_cache: translated code has room of %uK to %uM",
                       (unsigned)(VM_CODE_CACHE_MIN >> 10), (unsigned)(VM_CODE_CACHE_MAX >> 20));
    if (c->speed_mhz > VM_SPEED_MAX)
        return vm_fail(err, -EINVAL, "speed_mhz: %u is more than %u", c->speed_mhz, VM_SPEED_MAX);
    if (c->speed_mhz && c->direct == VM_DIRECT_ALWAYS)
        return vm_fail(err, -EINVAL, "speed_mhz: what runs directly is as fast as the host; not with direct=always");
    if (vm_config_cpu(c->cpu, err)) return -EINVAL;
    if (c->boot && !boot_is_fine(c->boot))
        return vm_fail(err, -EINVAL, "boot: '%.64s' is not a list of floppy, disk, cdrom, network and menu=on",
                       c->boot);
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        if (c->disk[i].file && c->disk[i].bus > VM_BUS_USB)
            return vm_fail(err, -EINVAL, "disk %s: there is no bus %u", c->disk[i].file, c->disk[i].bus);
        else if (c->disk[i].file && c->disk[i].format > VM_FORMAT_QCOW2)
            return vm_fail(err, -EINVAL, "disk %s: there is no format %u", c->disk[i].file, c->disk[i].format);
        else if (c->disk[i].file && c->disk[i].werror > VM_WERROR_ENOSPC)
            return vm_fail(err, -EINVAL, "disk %s: there is no werror %u", c->disk[i].file, c->disk[i].werror);
        else if (c->disk[i].file && c->disk[i].cache > VM_CACHE_NONE)
            return vm_fail(err, -EINVAL, "disk %s: there is no cache %u", c->disk[i].file, c->disk[i].cache);
    bool no_firmware = c->kernel || (c->firmware && !strcmp(c->firmware, VM_FIRMWARE_NONE));
    if (no_firmware && (c->option_rom[0] || c->smbios[0]))
        return vm_fail(err, -EINVAL, "%s: is for firmware, and none runs here",
                       c->option_rom[0] ? "option_rom" : "smbios");
    if (c->audio && audio_check(c->audio, err)) return -EINVAL;
    if (!c->sound && c->audio && strcmp(c->audio, "none") && !(c->sound = strdup("speaker")))
        return vm_fail(err, -ENOMEM, "machine: out of memory");
    if (c->usb && usb_parse(c->usb, &vm->usb, err)) return -EINVAL;
    if (c->sound && sounds_parse(c->sound, &vm->sounds, err)) return -EINVAL;
    if (vm_clock_parse(c->rtc, (s64)time(NULL), &vm->rtc_offset, err)) return -EINVAL;
    int rc = c->display ? screen_check(c->display, err) : 0;
    if (!rc) rc = trace_parse(&vm->trace, c->trace, err);
    if (!rc && c->disable)
        rc = names_parse(c->disable, strlen(c->disable), vm_class_name, "disable", &vm->disabled_classes, err);
    if (rc) return rc;
    struct sysinfo si;
    if (!sysinfo(&si) && c->memory > (u64)si.totalram * si.mem_unit)
        return vm_fail(err, -ENOMEM, "memory: %llu MiB asked for, the host has %llu",
                       (unsigned long long)(c->memory >> 20),
                       (unsigned long long)((u64)si.totalram * si.mem_unit >> 20));
    return 0;
}

static const char **config_strings(struct vm_config *c, unsigned i)
{
    const char **all[] = { &c->kernel, &c->initrd,  &c->cmdline,  &c->firmware, &c->boot,
                           &c->cpu,    &c->serial,  &c->trace,    &c->disable,  &c->cache_dir,
                           &c->net,    &c->display, &c->net_dump, &c->parallel, &c->rtc,
                           &c->sound,  &c->audio,   &c->usb,      &c->console };
    if (i < ARRAY_LEN(all)) return all[i];
    i -= ARRAY_LEN(all);
    if (i < VM_DISKS_MAX) return &c->disk[i].file;
    i -= VM_DISKS_MAX;
    const struct {
        const char **first;
        unsigned n;
    } list[] = { { c->disk_serial, VM_DISKS_MAX },      { c->more_nets, ARRAY_LEN(c->more_nets) },
                 { c->share, VM_SHARES_MAX },           { c->serial_more, VM_SERIAL_MORE },
                 { c->option_rom, VM_OPTION_ROMS_MAX }, { c->smbios, VM_SMBIOS_MAX } };
    for (size_t k = 0; k < ARRAY_LEN(list); i -= list[k++].n)
        if (i < list[k].n) return &list[k].first[i];
    return NULL;
}

int vm_config_copy(struct vm_config *to, const struct vm_config *from, struct vm_error *err)
{
    size_t known = from->size < sizeof *to ? from->size : sizeof *to;
    bool ok = true;
    const char **s;
    *to = (struct vm_config){ 0 };
    if (known < offsetof(struct vm_config, kernel) + sizeof from->kernel)
        return vm_fail(err, -EINVAL, "size: %zu is not sizeof(struct vm_config)", from->size);
    for (size_t i = sizeof *to; i < from->size; i++)
        if (((const u8 *)from)[i])
            return vm_fail(err, -EINVAL, "size: the description asks for something that this library does not have");
    memcpy(to, from, known);
    to->size = sizeof *to;
    for (unsigned i = 0; (s = config_strings(to, i)); i++)
        if (*s && !(*s = strdup(*s))) ok = false;
    return ok ? 0 : vm_fail(err, -ENOMEM, "machine: out of memory");
}

static bool same_kind(const struct vm_disk *a, const struct vm_disk *b)
{
    return b->file && a->cdrom == b->cdrom && a->bus == b->bus;
}

/* That of the saved machine's drive which is c's drive i: as many of its kind come before it (disks.c). NULL: there is
 * none. */
static const char **saved_serial(const struct vm_config *c, unsigned i, struct vm_config *saved)
{
    unsigned before = 0;
    for (unsigned k = 0; k < i; k++) before += same_kind(&c->disk[i], &c->disk[k]);
    for (unsigned k = 0; k < VM_DISKS_MAX; k++)
        if (same_kind(&c->disk[i], &saved->disk[k]) && !before--) return &saved->disk_serial[k];
    return NULL;
}

/* The drives, where c names none; and what they are called, which a guest has seen. */
static int disks_load(struct vm_config *c, struct vm_config *saved, bool has_serials, struct vm_error *err)
{
    bool named = c->disk[0].file;
    for (unsigned i = 0; i < VM_DISKS_MAX && !named; i++) {
        c->disk[i] = saved->disk[i];
        if (c->disk[i].file && !(c->disk[i].file = strdup(c->disk[i].file)))
            return vm_fail(err, -ENOMEM, "machine: out of memory");
    }
    for (unsigned i = 0; i < VM_DISKS_MAX && c->disk[i].file && has_serials; i++) {
        const char **own = &c->disk_serial[i], **was = saved_serial(c, i, saved);
        if (!was) continue;
        if (*own && (!*was || strcmp(*own, *was)))
            return vm_fail(err, -EINVAL, "disk %s: the saved machine's has %s%s, not %s", c->disk[i].file,
                           *was ? "the serial number " : "a serial number of ours", *was ? *was : "", *own);
        if (!*own) *own = *was, *was = NULL;
    }
    return 0;
}

/* A saved machine's ports are those that it had; where cfg does not say, nobody is at the other end. */
static int ports_load(struct vm_config *c, unsigned ports, struct vm_error *err)
{
    for (unsigned i = 0; i < LINES; i++) {
        const char **line = i == LINE_HVC ? &c->console : i == LINE_LPT ? &c->parallel : &c->serial_more[i];
        bool had = ports >> i & 1;
        if (*line && !had && i >= LINE_LPT)
            return vm_fail(err, -EINVAL, "%s: the saved machine has no such port",
                           i == LINE_LPT ? "parallel" : "console");
        if (*line && !had) return vm_fail(err, -EINVAL, "serial: the saved machine has no COM%u", i + 2);
        if (had && !*line && !(*line = strdup("null"))) return vm_fail(err, -ENOMEM, "machine: out of memory");
    }
    return 0;
}

/* Devices that are there or not. */
static int switches_load(struct vm_config *c, const struct snapshot_head *h, struct vm_error *err)
{
    const struct {
        const char *name;
        bool *own, saved;
    } all[] = { { "rng", &c->rng, h->paravirt & SNAPSHOT_RNG },
                { "balloon", &c->balloon, h->paravirt & SNAPSHOT_BALLOON },
                { "hpet", &c->hpet, h->hpet } };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (*all[i].own && !all[i].saved) return vm_fail(err, -EINVAL, "%s: the saved machine has none", all[i].name);
        *all[i].own = all[i].saved;
    }
    return 0;
}

/* What is plugged in is what was. */
static int usb_load(struct vm_config *c, const struct snapshot_head *h, struct vm_error *err)
{
    char *saved = h->usb.len ? snapshot_string(&h->usb) : strdup("none");
    unsigned had = 0, asked = 0;
    struct vm_error why;
    if (!saved) return vm_fail(err, -ENOMEM, "machine: out of memory");
    int rc = usb_parse(saved, &had, &why) ? vm_fail(err, -EBADMSG, "its USB devices: %.300s", why.text) : 0;
    if (!rc && c->usb) rc = usb_parse(c->usb, &asked, err);
    if (!rc && c->usb && asked != had) rc = vm_fail(err, -EINVAL, "usb: the saved machine has %.64s", saved);
    if (rc || c->usb) free(saved);
    else c->usb = saved;
    return rc;
}

static int sound_load(struct vm_config *c, const struct snapshot_head *h, struct vm_error *err)
{
    char *saved = h->sound.len ? snapshot_string(&h->sound) : strdup("none");
    unsigned had = 0, asked = 0;
    struct vm_error why;
    int rc = saved ? 0 : vm_fail(err, -ENOMEM, "machine: out of memory");
    if (!rc && sounds_parse(saved, &had, &why)) rc = vm_fail(err, -EBADMSG, "its sound cards: %.300s", why.text);
    if (!rc && c->sound) rc = sounds_parse(c->sound, &asked, err);
    if (!rc && c->sound && asked != had) rc = vm_fail(err, -EINVAL, "sound: the saved machine has %.64s", saved);
    if (rc || c->sound) free(saved);
    else c->sound = saved;
    return rc;
}

/* What a saved machine says of itself, where cfg does not. */
int vm_config_load(struct vm_config *c, const struct snapshot_head *h, struct vm_error *err)
{
    if (c->memory && c->memory != h->memory)
        return vm_fail(err, -EINVAL, "memory: the saved machine has %llu MiB", (unsigned long long)(h->memory >> 20));
    if (c->cpu && strcmp(c->cpu, (const char *)h->cpu))
        return vm_fail(err, -EINVAL, "cpu: the saved machine has '%s'", (const char *)h->cpu);
    if (c->has_debug_exit && !h->has_debug_exit)
        return vm_fail(err, -EINVAL, "debug_exit: the saved machine has no such port");
    if (c->has_debug_exit && c->debug_exit != h->debug_exit)
        return vm_fail(err, -EINVAL, "debug_exit: the saved machine has it at 0x%x", h->debug_exit);
    if (c->vga && c->vga != (enum vm_vga)h->vga)
        return vm_fail(err, -EINVAL, "vga: the saved machine has %s", h->vga == VM_VGA_STD ? "one" : "none");
    const struct {
        const char **own;
        const struct byte_queue *saved;
    } string[] = { { &c->kernel, &h->kernel },     { &c->initrd, &h->initrd }, { &c->cmdline, &h->cmdline },
                   { &c->firmware, &h->firmware }, { &c->boot, &h->boot },     { &c->net, &h->net } };
    int rc = ports_load(c, h->ports, err);
    if (!rc) rc = switches_load(c, h, err);
    if (!rc) rc = sound_load(c, h, err);
    if (!rc) rc = usb_load(c, h, err);
    if (rc) return rc;
    struct vm_config saved = { 0 };
    rc = snapshot_disks(h, &saved);
    if (rc) rc = vm_fail(err, rc == -EINVAL ? -EBADMSG : rc, "its list of drives: %s", strerror(-rc));
    else rc = disks_load(c, &saved, h->disk_serials.len, err);
    vm_config_free(&saved);
    if (!rc && !c->net) rc = snapshot_more_nets(h, c);
    if (!rc && !c->share[0]) rc = snapshot_shares(h, c);
    if (rc == -ENOMEM) vm_fail(err, rc, "machine: out of memory");
    if (rc) return rc;
    c->memory = h->memory;
    c->vga = (enum vm_vga)h->vga;
    c->has_debug_exit = h->has_debug_exit;
    c->debug_exit = h->debug_exit;
    if (!c->cpu && !(c->cpu = strdup((const char *)h->cpu))) return vm_fail(err, -ENOMEM, "machine: out of memory");
    for (size_t i = 0; i < ARRAY_LEN(string); i++)
        if (!*string[i].own && string[i].saved->len && !(*string[i].own = snapshot_string(string[i].saved)))
            return vm_fail(err, -ENOMEM, "machine: out of memory");
    return 0;
}

void vm_config_free(struct vm_config *c)
{
    const char **s;
    for (unsigned i = 0; (s = config_strings(c, i)); i++) free((void *)*s);
}
