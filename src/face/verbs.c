/* Owns the words of the command line: every verb, every option, what each is called elsewhere, and what is said of what
 * we do not have. Nothing here runs anything. */
#include "src/face/verbs.h"
#include "src/face/bench.h"
#include "src/face/img.h"
#include "src/face/machine_words.h"
#include "src/face/preset.h"
#include "src/face/top.h"
#include "src/error.h"

#include <errno.h>
#include <string.h>

static const char *const engine_names[] = { "bt", "interp", "kvm", NULL }; /* in the order of enum vm_engine */
static const char *const tlb_names[] = { "flushed", "strict", NULL };
static const char *const direct_names[] = { "on", "off", "always", NULL }; /* in the order of enum vm_direct */
static const char *const entry_cs_names[] = { "0x10", "0x08", NULL };
static const char *const mode_names[] = { "32", "16", NULL };
static const char *const machine_names[] = { "pc", "i440fx", NULL };
static const char *const accel_names[] = { "tcg", NULL };
static const char *const one_names[] = { "1", "cpus=1", "boot=1", NULL };
static const char *const vga_names[] = { "none", "std", NULL }; /* in the order of enum vm_vga, without the default */
static const char *const switch_names[] = { "off", "on", NULL };
static const char *const pointer_names[] = { "mouse", "tablet", NULL };
static const char *const disk_bus_names[] = { "ide", "virtio", NULL };

static const char *cpu_name(unsigned i, const char **what)
{
    if (what) *what = NULL;
    return vm_cpu_name(i);
}

static const char *net_model_name(unsigned i, const char **what)
{
    if (what) *what = NULL;
    return vm_net_model(i);
}

/* What other programs call the back ends of ours. */
static const char *back_end_word(const char *value)
{
    static const char *const same[][2] = { { "mon:stdio", "stdio" }, { "tty", "stdio" }, { "none", "null" } };
    for (size_t i = 0; i < ARRAY_LEN(same); i++)
        if (!strcmp(value, same[i][0])) return same[i][1];
    return value;
}

static int parse_serial(void *args, const char *typed, const char *value, struct vm_error *err)
{
    struct run_args *a = args;
    if (a->serials > VM_SERIAL_MORE)
        return vm_fail(err, -EINVAL, "%s: a PC has %u serial ports", typed, 1 + VM_SERIAL_MORE);
    const char **to = a->serials ? &a->cfg.serial_more[a->serials - 1] : &a->cfg.serial;
    a->serials++;
    *to = back_end_word(value);
    return 0;
}

static int parse_console(void *args, const char *typed UNUSED, const char *value, struct vm_error *err UNUSED)
{
    struct run_args *a = args;
    a->cfg.console = strcmp(value, "none") ? back_end_word(value) : NULL;
    return 0;
}

/* A file, or what --serial takes; nothing is printed on the terminal unless that is said. */
static int parse_parallel(void *args, const char *typed, const char *value, struct vm_error *err)
{
    struct run_args *a = args;
    bool named = !strcmp(value, "none");
    const char *shown;
    for (unsigned i = 0; (shown = vm_serial_name(i, NULL)); i++) {
        size_t n = strcspn(shown, ":");
        named |= !strncmp(value, shown, n) && value[n] == shown[n];
    }
    int n = snprintf(a->parallel, sizeof a->parallel, "%s%s", named ? "" : "file:", value);
    if (n >= (int)sizeof a->parallel) return vm_fail(err, -EINVAL, "%s: %.64s.. is too long", typed, value);
    a->cfg.parallel = strcmp(value, "none") ? a->parallel : NULL;
    return 0;
}

static int parse_option_rom(void *args, const char *typed, const char *value, struct vm_error *err)
{
    struct run_args *a = args;
    if (a->roms == VM_OPTION_ROMS_MAX)
        return vm_fail(err, -EINVAL, "%s: there is room for %u", typed, VM_OPTION_ROMS_MAX);
    a->cfg.option_rom[a->roms++] = value;
    return 0;
}

static int parse_smbios(void *args, const char *typed, const char *value, struct vm_error *err)
{
    struct run_args *a = args;
    if (a->smbioses == VM_SMBIOS_MAX) return vm_fail(err, -EINVAL, "%s: there is room for %u", typed, VM_SMBIOS_MAX);
    a->cfg.smbios[a->smbioses++] = value;
    return 0;
}

/* As QEMU has it: base=utc|localtime|DATE and words about where time comes from; or what follows base= alone. */
static int parse_rtc(void *args, const char *typed UNUSED, const char *value, struct vm_error *err UNUSED)
{
    struct run_args *a = args;
    const char *base = strstr(value, "base=");
    if (!strcmp(value, "clock=host")) return 0;
    a->cfg.rtc = base ? base + 5 : value;
    char *comma = strchr(a->cfg.rtc, ',');
    if (comma) *comma = 0; /* where it is, in argv */
    return 0;
}

/* What QEMU wants to know beside the address is so anyway. */
static int parse_monitor(void *args, const char *typed UNUSED, const char *value, struct vm_error *err UNUSED)
{
    struct run_args *a = args;
    char *rest = strstr(value, ",server");
    if (rest) *rest = 0; /* where it is, in argv */
    a->monitor = !strcmp(value, "none") || !strcmp(value, "null") ? NULL : value;
    return 0;
}

static int parse_probe(void *args, const char *typed, const char *value, struct vm_error *err)
{
    struct run_args *a = args;
    if (a->probes == PROBE_WORDS_MAX)
        return vm_fail(err, -EINVAL, "%s: there is room for %u probes", typed, PROBE_WORDS_MAX);
    a->probe[a->probes++] = (struct probe_words){ .event = value };
    return 0;
}

static int parse_call(void *args, const char *typed, const char *value, struct vm_error *err)
{
    struct run_args *a = args;
    if (!a->probes || a->probe[a->probes - 1].call)
        return vm_fail(err, -EINVAL, "%s %.64s: say --probe EVENT before it", typed, value);
    a->probe[a->probes - 1].call = value;
    return 0;
}

static int parse_expect(void *args, const char *typed, const char *value, struct vm_error *err)
{
    struct run_args *a = args;
    if (!*value || strlen(value) > WATCH_TEXT_MAX)
        return vm_fail(err, -EINVAL, "%s: a text has 1 to %d characters", typed, WATCH_TEXT_MAX);
    a->expect = value;
    return 0;
}

int run_args_disk(struct run_args *a, const struct vm_disk *disk, struct vm_error *err)
{
    if (a->disks == VM_DISKS_MAX)
        return vm_fail(err, -EINVAL, "%s: there is room for %u drives", disk->file, VM_DISKS_MAX);
    a->cfg.disk[a->disks++] = *disk;
    return 0;
}

int run_args_first_disk(struct run_args *a, const struct vm_disk *disk, struct vm_error *err)
{
    int rc = run_args_disk(a, disk, err);
    for (unsigned i = a->disks - 1; !rc && i > 0; i--) {
        a->cfg.disk[i] = a->cfg.disk[i - 1];
        a->cfg.disk_serial[i] = a->cfg.disk_serial[i - 1];
    }
    if (rc) return rc;
    a->cfg.disk[0] = *disk;
    a->cfg.disk_serial[0] = NULL;
    return 0;
}

/* What may follow FILE. value: NULL: any. what: how the drive changes, or what is said of it. */
static const struct {
    const char *key, *value;
    enum {
        DISK_AS_IT_IS,
        DISK_CDROM,
        DISK_READONLY,
        DISK_SNAPSHOT,
        DISK_IDE,
        DISK_VIRTIO,
        DISK_FLOPPY,
        DISK_USB,
        DISK_RAW,
        DISK_QCOW2,
        DISK_SERIAL,
        DISK_WERROR,
        DISK_CACHE,
        DISK_LATER
    } what;
} disk_words[] = {
    { "format", "raw", DISK_RAW },
    { "format", "qcow2", DISK_QCOW2 },
    { "format", NULL, DISK_LATER },
    { "bus", "ide", DISK_IDE },
    { "if", "ide", DISK_IDE },
    { "bus", "virtio", DISK_VIRTIO },
    { "if", "virtio", DISK_VIRTIO },
    { "serial", NULL, DISK_SERIAL },
    { "bus", "floppy", DISK_FLOPPY },
    { "if", "floppy", DISK_FLOPPY },
    { "bus", "usb", DISK_USB },
    { "bus", NULL, DISK_LATER },
    { "if", NULL, DISK_LATER },
    { "media", "disk", DISK_AS_IT_IS },
    { "media", "cdrom", DISK_CDROM },
    { "werror", "report", DISK_WERROR },
    { "werror", "stop", DISK_WERROR },
    { "werror", "enospc", DISK_WERROR },
    { "rerror", "report", DISK_AS_IT_IS },
    { "index", NULL, DISK_AS_IT_IS },
    { "id", NULL, DISK_AS_IT_IS },
    { "cache", "writeback", DISK_CACHE },
    { "cache", "writethrough", DISK_CACHE },
    { "cache", "none", DISK_CACHE },
    { "cache", NULL, DISK_LATER },
    { "readonly", "on", DISK_READONLY },
    { "readonly", "off", DISK_AS_IT_IS },
    { "snapshot", "on", DISK_SNAPSHOT },
    { "snapshot", "off", DISK_AS_IT_IS },
};

static u8 werror_named(const char *word)
{
    return !strcmp(word, "stop") ? VM_WERROR_STOP : !strcmp(word, "enospc") ? VM_WERROR_ENOSPC : VM_WERROR_REPORT;
}

static u8 cache_named(const char *word)
{
    if (!strcmp(word, "none")) return VM_CACHE_NONE;
    return !strcmp(word, "writethrough") ? VM_CACHE_WRITETHROUGH : VM_CACHE_WRITEBACK;
}

/* serial: the drive's place for it. */
static int disk_word(struct vm_disk *d, const char **serial, const char *typed, const char *word, struct vm_error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(disk_words); i++) {
        size_t n = strlen(disk_words[i].key);
        if (strncmp(word, disk_words[i].key, n) || word[n] != '=') continue;
        if (disk_words[i].value && strcmp(word + n + 1, disk_words[i].value)) continue;
        switch (disk_words[i].what) {
        case DISK_AS_IT_IS: return 0;
        case DISK_CDROM: d->cdrom = true; return 0;
        case DISK_READONLY: d->readonly = true; return 0;
        case DISK_SNAPSHOT: d->snapshot = true; return 0;
        case DISK_IDE: d->bus = VM_BUS_IDE; return 0;
        case DISK_VIRTIO: d->bus = VM_BUS_VIRTIO; return 0;
        case DISK_FLOPPY: d->bus = VM_BUS_FLOPPY; return 0;
        case DISK_USB: d->bus = VM_BUS_USB; return 0;
        case DISK_RAW: d->format = VM_FORMAT_RAW; return 0;
        case DISK_QCOW2: d->format = VM_FORMAT_QCOW2; return 0;
        case DISK_WERROR: d->werror = werror_named(word + n + 1); return 0;
        case DISK_CACHE: d->cache = cache_named(word + n + 1); return 0;
        case DISK_SERIAL: *serial = word + n + 1; return 0;
        case DISK_LATER:
            return vm_fail(err, -EINVAL, "%s: %s is not supported yet; drives are raw or qcow2 images on IDE or virtio",
                           typed, word);
        }
    }
    return vm_fail(
        err, -EINVAL,
        "%s: '%s' is none of format=raw|qcow2, bus=virtio|usb, snapshot=on, readonly=on, media=cdrom, serial=NAME, "
        "werror=report|stop|enospc, cache=writeback|writethrough|none",
        typed, word);
}

/* FILE[,KEY=VALUE..]; QEMU's file=FILE may stand anywhere. A comma in a file's name is typed twice. The words are taken
 * apart where they are, in argv. */
static int parse_drive(struct run_args *a, struct vm_disk d, const char *typed, const char *value, struct vm_error *err)
{
    char *from = (char *)value, *to = from, *word = from;
    const char *serial = NULL;
    bool first = true;
    int rc = 0;
    for (bool end = false; !end && !rc;) {
        if (from[0] == ',' && from[1] == ',') from++;
        else if (!*from || *from == ',') {
            end = !*from;
            *to = 0;
            if (!strncmp(word, "file=", 5)) d.file = word + 5;
            else if (first) d.file = word;
            else rc = disk_word(&d, &serial, typed, word, err);
            first = false;
            from++;
            to = word = from;
            continue;
        }
        *to++ = *from++;
    }
    if (rc) return rc;
    if (!d.file && (d.cdrom || d.bus == VM_BUS_FLOPPY)) d.file = "";
    if (!d.file || (!*d.file && !d.cdrom && d.bus != VM_BUS_FLOPPY))
        return vm_fail(err, -EINVAL, "%s: a file is missing", typed);
    rc = run_args_disk(a, &d, err);
    if (!rc) a->cfg.disk_serial[a->disks - 1] = serial;
    return rc;
}

static int parse_disk(void *args, const char *typed, const char *value, struct vm_error *err)
{
    return parse_drive(args, (struct vm_disk){ .bus = RUN_BUS_UNSAID, .werror = RUN_WERROR_UNSAID }, typed, value, err);
}
static int parse_cdrom(void *args, const char *typed, const char *value, struct vm_error *err)
{
    return parse_drive(args, (struct vm_disk){ .cdrom = true }, typed, value, err);
}

static int parse_floppy(void *args, const char *typed, const char *value, struct vm_error *err)
{
    return parse_drive(args, (struct vm_disk){ .bus = VM_BUS_FLOPPY }, typed, value, err);
}

/* One more network card; "none" is none. */
static int parse_net(void *args, const char *typed, const char *value, struct vm_error *err)
{
    struct run_args *a = args;
    if (a->nets == VM_NETS_MAX)
        return vm_fail(err, -EINVAL, "%s %s: there is room for %u cards", typed, value, VM_NETS_MAX);
    if (!strcmp(value, "none")) {
        if (!a->nets) a->cfg.net = value;
        return 0;
    }
    if (a->nets) a->cfg.more_nets[a->nets - 1] = value;
    else a->cfg.net = value;
    a->nets++;
    return 0;
}

/* Each adds to those before it. storage:FILE.. is a disk with bus=usb. */
static int parse_usb(void *args, const char *typed, const char *value, struct vm_error *err)
{
    static const char storage[] = "storage:";
    struct run_args *a = args;
    if (!strncmp(value, storage, strlen(storage)))
        return parse_drive(a, (struct vm_disk){ .bus = VM_BUS_USB }, typed, value + strlen(storage), err);
    const size_t n = strlen(a->usb);
    if (snprintf(a->usb + n, sizeof a->usb - n, "%s%s", n ? "," : "", value) >= (int)(sizeof a->usb - n))
        return vm_fail(err, -EINVAL, "%s: %.64s is too long", typed, value);
    a->cfg.usb = a->usb;
    return 0;
}

static int parse_share(void *args, const char *typed, const char *value, struct vm_error *err)
{
    struct run_args *a = args;
    if (a->shares == VM_SHARES_MAX)
        return vm_fail(err, -EINVAL, "%s %s: there is room for %u folders", typed, value, VM_SHARES_MAX);
    a->cfg.share[a->shares++] = value;
    return 0;
}

/* A list of kinds, which the machine checks; or as QEMU has it: [order=]LETTERS, a a floppy, c a disk, d a CD, n the
 * network. */
static int parse_boot(void *args, const char *typed UNUSED, const char *value, struct vm_error *err UNUSED)
{
    static const char *const letters[][2] = {
        { "a", "floppy" },      { "c", "disk" },        { "d", "cdrom" },
        { "cd", "disk,cdrom" }, { "dc", "cdrom,disk" }, { "cad", "disk,floppy,cdrom" },
        { "n", "network" },
    };
    struct run_args *a = args;
    const char *order = strncmp(value, "order=", 6) ? value : value + 6;
    a->cfg.boot = order;
    for (size_t i = 0; i < ARRAY_LEN(letters); i++)
        if (!strcmp(order, letters[i][0])) a->cfg.boot = letters[i][1];
    return 0;
}

/* FILE[@SECONDS] */
static int parse_screenshot(void *args, const char *typed, const char *value, struct vm_error *err)
{
    struct run_args *a = args;
    char *at = strrchr(value, '@');
    a->screenshot = value;
    a->screenshot_ms = 0;
    if (at && at[1]) {
        if (parse_seconds(at + 1, &a->screenshot_ms) || !a->screenshot_ms)
            return vm_fail(err, -EINVAL, "%s: '%s' is not a time in seconds", typed, at + 1);
        *at = 0; /* where it is, in argv */
    }
    return *value ? 0 : vm_fail(err, -EINVAL, "%s: a file is missing", typed);
}

/* As QEMU has it: what follows --display vnc= */
static int parse_vnc(void *args, const char *typed, const char *value, struct vm_error *err)
{
    struct run_args *a = args;
    if (snprintf(a->vnc, sizeof a->vnc, "vnc=%s", value) >= (int)sizeof a->vnc)
        return vm_fail(err, -EINVAL, "%s: %.64s.. is too long", typed, value);
    a->cfg.display = a->vnc;
    return 0;
}

/* TEXT[@SECONDS], or TEXT@SAID: once the guest has said that on its serial port. */
static int parse_type(void *args, const char *typed, const char *value, struct vm_error *err)
{
    struct run_args *a = args;
    struct vm_error why;
    char *at = strrchr(value, '@');
    if (a->typings == TYPING_MAX) return vm_fail(err, -EINVAL, "%s: there is room for %u texts", typed, TYPING_MAX);
    struct watch_typing *t = &a->typing[a->typings++];
    *t = (struct watch_typing){ .text = value };
    if (at) {
        *at = 0; /* where it is, in argv */
        if (at[1] && parse_seconds(at + 1, &t->at_ms)) t->said = at + 1;
    }
    if (t->said && strlen(t->said) > WATCH_TEXT_MAX)
        return vm_fail(err, -EINVAL, "%s: what is waited for has at most %d characters", typed, WATCH_TEXT_MAX);
    return vm_type_check(value, &why) ? vm_fail(err, -EINVAL, "%s: %.300s", typed, why.text) : 0;
}

/* What --rng and --balloon give, in QEMU's words; and -device isa-debug-exit[,iobase=PORT][,iosize=N], which kernels'
 * own tests use: QEMU's default port is 501h. */
static int parse_device(void *args, const char *typed, const char *value, struct vm_error *err)
{
    static const struct {
        const char *name;
        size_t at;
    } virtio[] = { { "virtio-rng", offsetof(struct run_args, rng) },
                   { "virtio-rng-pci", offsetof(struct run_args, rng) },
                   { "virtio-balloon", offsetof(struct run_args, balloon) },
                   { "virtio-balloon-pci", offsetof(struct run_args, balloon) } };
    for (size_t i = 0; i < ARRAY_LEN(virtio); i++)
        if (!strcmp(value, virtio[i].name)) {
            *(int *)((char *)args + virtio[i].at) = true;
            return 0;
        }
    static const char device[] = "isa-debug-exit", key[] = ",iobase=";
    struct run_args *a = args;
    size_t n = strlen(device);
    if (strncmp(value, device, n) || (value[n] && value[n] != ','))
        return vm_fail(err, -EINVAL,
                       "%s %s: devices to choose from are not supported yet; the machine is a PC with a "
                       "serial port",
                       typed, value);
    const char *at = strstr(value, key);
    u64 port = 0x501;
    if (at) {
        char digits[16];
        snprintf(digits, sizeof digits, "%.*s", (int)strcspn(at + strlen(key), ","), at + strlen(key));
        if (parse_u64(digits, 0xffff, &port))
            return vm_fail(err, -EINVAL, "%s: '%s' is not a port; say --debug-exit PORT", typed, digits);
    }
    a->debug_exit = (struct opt_port){ true, (u16)port };
    return 0;
}

#define RUN(field) .at = offsetof(struct run_args, field)
#define NETWORK "say --net user[,hostfwd=tcp::2222-:22]"
#define DISPLAY "such displays are not supported yet; --display text and --display vnc are"
#define SOUND "say --sound ac97,speaker --audio pulse|alsa|sdl|wav:FILE"
#define SHARING "say --share DIR[,tag=NAME]; in the guest: mount -t 9p -o trans=virtio,version=9p2000.L NAME /mnt"
#define KVM "no accelerator is needed: leave it out (--engine kvm is there for comparison)"

/* clang-format off */
static const struct opt run_options[] = {
    { .group = "What to boot", .name = "kernel", .aliases = "k", .type = OPT_STRING, .rank = OPT_COMMON,
      .operand = true, RUN(cfg.kernel), .arg = "FILE",
      .help = "Linux bzImage or Multiboot 1 kernel; FILE alone may be a disk image or an ISO as well" },
    { .group = "What to boot", .name = "initrd", .aliases = "i initramfs", .type = OPT_STRING, .rank = OPT_COMMON,
      RUN(cfg.initrd), .arg = "FILE[,FILE..]", .help = "initial RAM disk, or Multiboot modules" },
    { .group = "What to boot", .name = "append", .field = "cmdline", .aliases = "p params cmdline", .type = OPT_STRING,
      .rank = OPT_COMMON, RUN(cfg.cmdline), .arg = "STR", .help = "kernel command line" },
    { .group = "What to boot", .name = "entry-cs", .field = "entry_cs", .type = OPT_CHOICE, RUN(entry_cs),
      .arg = "0x10|0x08", .choices = entry_cs_names,
      .help = "CS at a Multiboot kernel's entry (DS is the next): as GRUB has it, or as QEMU [0x10]" },

    { .group = "What to boot", .name = "firmware", .aliases = "bios", .type = OPT_STRING,
      RUN(cfg.firmware), .arg = "FILE", .help = "BIOS image that starts at the reset vector [SeaBIOS]" },
    { .group = "What to boot", .name = "option-rom", .field = "option_rom", .type = OPT_CALL, .rank = OPT_PLAIN,
      .parse = parse_option_rom, .repeats = true, .arg = "FILE",
      .help = "a further ROM that firmware starts; up to four" },
    { .group = "What to boot", .name = "load", .aliases = "restore", .type = OPT_STRING, .rank = OPT_COMMON, RUN(load),
      .arg = "FILE", .help = "instead: go on with a saved machine; its memory, processor and kernel are the file's" },

    { .group = "What to boot", .name = "disk", .aliases = "hda hdb hdc hdd d drive", .type = OPT_CALL,
      .rank = OPT_COMMON, .parse = parse_disk, .repeats = true, .arg = "FILE[,KEY=VALUE..]",
      .help = "raw or qcow2, up to four; bus=virtio, format=.., snapshot=on, readonly=on, cache=.., serial=.." },
    { .group = "What to boot", .name = "cdrom", .type = OPT_CALL, .rank = OPT_COMMON, .parse = parse_cdrom,
      .repeats = true, .arg = "FILE", .help = "ISO image in a CD-ROM drive" },
    { .group = "What to boot", .name = "floppy", .aliases = "fda fdb", .type = OPT_CALL, .rank = OPT_PLAIN,
      .parse = parse_floppy, .repeats = true, .arg = "FILE",
      .help = "floppy disk image of 160K to 2.88M; two at most" },
    { .group = "What to boot", .name = "disk-bus", .type = OPT_CHOICE, RUN(disk_bus), .arg = "ide|virtio",
      .choices = disk_bus_names, .help = "where disks are that say no bus= [ide]" },
    { .group = "What to boot", .name = "boot", .type = OPT_CALL, .rank = OPT_COMMON, .parse = parse_boot,
      .arg = "KIND,..",
      .help = "what firmware tries, in order: floppy, disk, cdrom, network; menu=on as well: Esc shows a menu" },

    { .group = "The machine", .name = "for", .type = OPT_NAME, .rank = OPT_COMMON, RUN(preset), .arg = "GUEST",
      .names = preset_name, .own_question = true,
      .help = "the machine it expects: win98, linux, ..; `--for help` lists them, `--for '?'` guesses" },
    { .group = "The machine", .name = "config", .aliases = "config-file", .type = OPT_STRING, .rank = OPT_COMMON,
      .only_typed = true, RUN(config), .arg = "FILE", .help = "options from a JSON file; what is typed counts more" },
    { .group = "The machine", .name = "print-config", .type = OPT_FLAG, .only_typed = true, RUN(print_config),
      .help = "run nothing, but print such a file of all options given" },
    { .group = "The machine", .name = "memory", .aliases = "m mem", .type = OPT_SIZE, .rank = OPT_COMMON,
      RUN(cfg.memory), .arg = "SIZE", .min = VM_MEMORY_MIN, .max = VM_MEMORY_MAX, .unit = (u64)1 << 20,
      .help = "RAM: 16M to 3584M; a number alone is MiB [512M]" },
    { .group = "The machine", .name = "cpu", .type = OPT_NAME, .rank = OPT_COMMON, RUN(cfg.cpu), .arg = "MODEL",
      .names = cpu_name, .extended = true,
      .help = "processor; `--cpu help` lists them. MODEL,+FEATURE,-FEATURE.. has features that the part lacks, or "
              "lacks some that it has, with those that need them: n270,-ssse3" },
    { .group = "The machine", .name = "serial", .aliases = "console", .type = OPT_CALL, .rank = OPT_COMMON,
      .parse = parse_serial, .repeats = true, .names = vm_serial_name, .arg = "BACKEND",
      .help = "what is at its other end: file:PATH, a terminal, ..; `--serial help` lists them [stdio]; up to four" },
    { .group = "The machine", .name = "virtio-console", .field = "console", .aliases = "virtioconsole",
      .type = OPT_CALL, .rank = OPT_PLAIN, .parse = parse_console, .names = vm_serial_name, .arg = "BACKEND",
      .help = "a console for guests with a driver for it (Linux: hvc0), with what --serial takes behind it [none]" },
    { .group = "The machine", .name = "parallel", .type = OPT_CALL, .rank = OPT_PLAIN, .parse = parse_parallel,
      .arg = "FILE", .help = "a printer at LPT1, whose bytes go to FILE, or to what --serial takes [none]" },
    { .group = "The machine", .name = "rtc", .type = OPT_CALL, .rank = OPT_PLAIN, .parse = parse_rtc,
      .arg = "utc|localtime|DATE", .help = "what its clock shows at first; DATE: 2024-02-29T12:00:00 [utc]" },
    { .group = "The machine", .name = "smbios", .type = OPT_CALL, .rank = OPT_PLAIN, .parse = parse_smbios,
      .repeats = true, .arg = "type=1,KEY=VALUE..",
      .help = "what firmware's tables say: manufacturer, product, version, serial, uuid, sku, family; type=0: vendor, "
              "version, date" },
    { .group = "The machine", .name = "net", .aliases = "nic", .type = OPT_CALL, .rank = OPT_COMMON, .parse = parse_net,
      .repeats = true,
      .arg = "WIRE[,KEY=VALUE..]",
      .help = "network card on: user (hostfwd=tcp::2222-:22, ..), socket:unix:PATH, tap:IF; model=.., mac=.. [none]" },
    { .group = "The machine", .name = "net-model", .type = OPT_NAME, RUN(net_model), .arg = "MODEL",
      .names = net_model_name, .help = "of network cards that say no model=; `--net-model help` lists them [virtio]" },
    { .group = "The machine", .name = "net-dump", .field = "net_dump", .type = OPT_STRING, .rank = OPT_PLAIN,
      RUN(cfg.net_dump), .arg = "FILE.pcap", .help = "record all frames of the network, for tcpdump and Wireshark" },
    { .group = "The machine", .name = "sound", .aliases = "soundhw", .type = OPT_STRING, .rank = OPT_PLAIN,
      RUN(cfg.sound), .arg = "CARD[,CARD..]", .names = vm_sound_name,
      .help = "sound cards, and the speaker with any; `--sound help` lists them [none; speaker with --audio]" },
    { .group = "The machine", .name = "audio", .type = OPT_STRING, .rank = OPT_PLAIN, RUN(cfg.audio),
      .arg = "none|wav:FILE|pulse|alsa|sdl", .names = vm_audio_name,
      .help = "where they are heard: in a recording, or by what the host plays with [none]" },
    { .group = "The machine", .name = "usb", .aliases = "usbdevice", .type = OPT_CALL, .rank = OPT_PLAIN,
      .parse = parse_usb, .repeats = true, .arg = "tablet,keyboard|storage:FILE",
      .help = "plugged into a USB port, of four: a tablet's pointer is where VNC's is [none, and no controller]" },
    { .group = "The machine", .name = "pointer", .type = OPT_CHOICE, RUN(tablet), .arg = "mouse|tablet",
      .choices = pointer_names, .help = "tablet: with --display vnc, `--usb tablet` is understood [mouse]" },
    { .group = "The machine", .name = "share", .type = OPT_CALL, .rank = OPT_PLAIN, .parse = parse_share,
      .repeats = true, .arg = "DIR[,tag=NAME][,readonly=on]",
      .help = "folder that the guest may mount: mount -t 9p -o trans=virtio NAME /mnt; up to four [tag=share0, ..]" },
    { .group = "The machine", .name = "rng", .type = OPT_CHOICE, .rank = OPT_PLAIN, RUN(rng), .arg = "on|off",
      .choices = switch_names, .help = "random numbers of the host's, for guests with a driver (virtio) [off]" },
    { .group = "The machine", .name = "hpet", .type = OPT_CHOICE, .rank = OPT_PLAIN, RUN(hpet), .arg = "on|off",
      .choices = switch_names, .help = "high precision event timers, which ACPI tells the guest of [off]" },
    { .group = "The machine", .name = "balloon", .type = OPT_CHOICE, .rank = OPT_PLAIN, RUN(balloon), .arg = "on|off",
      .choices = switch_names, .help = "lets the monitor's `balloon` take memory from a guest with a driver [off]" },
    { .group = "The machine", .name = "debug-exit", .field = "debug_exit", .type = OPT_PORT,
      RUN(debug_exit), .arg = "PORT", .help = "a write of V to this port ends with status (V<<1)|1" },
    { .group = "The machine", .name = "no-reboot", .field = "no_reboot", .type = OPT_FLAG,
      RUN(cfg.no_reboot), .help = "end when the guest resets itself" },

    { .group = "The screen", .name = "vga", .type = OPT_CHOICE, RUN(vga), .arg = "std|none",
      .choices = vga_names, .cure = "std is a VGA with VESA modes",
      .help = "a VGA, or none [std where firmware runs, none where a kernel is loaded without]" },
    { .group = "The screen", .name = "display", .type = OPT_STRING, .rank = OPT_COMMON, RUN(cfg.display),
      .arg = "none|text|vnc..",
      .help = "show it, and take keys: on this terminal, or by VNC; vnc=HOST:N,password=FILE: port 5900 + N [none]" },
    { .group = "The screen", .name = "screenshot", .type = OPT_CALL, .rank = OPT_COMMON, .parse = parse_screenshot,
      .arg = "FILE[@S]",
      .help = "write the screen to FILE, after S seconds or at the end: a PNG, or text if it is named .txt" },

    { .group = "The screen", .name = "type", .aliases = "sendkey", .type = OPT_CALL, .rank = OPT_COMMON,
      .parse = parse_type, .repeats = true, .arg = "TEXT[@S|@SAID]",
      .help = "type it, after S seconds or once the serial port has SAID that; <ret>, <ctrl-alt-delete>" },

    { .group = "When it ends", .name = "timeout", .type = OPT_SECONDS, .rank = OPT_COMMON, RUN(timeout_ms), .arg = "S",
      .min = 1, .max = (u64)UINT32_MAX * 1000, .help = "end after so many seconds, with status 124" },
    { .group = "When it ends", .name = "expect", .type = OPT_CALL, .rank = OPT_COMMON, .parse = parse_expect,
      .arg = "TEXT", .help = "end with status 0 once this appears on the serial port; if it never does, with 1" },
    { .group = "When it ends", .name = "stop-after", .type = OPT_NUMBER, RUN(stop_after), .arg = "N", .min = 1,
      .max = INT64_MAX, .help = "end it, with status 0, after exactly N instructions of the guest's" },

    { .group = "How guest code is run", .name = "engine", .type = OPT_CHOICE, .rank = OPT_COMMON, RUN(engine),
      .arg = "bt|interp|kvm", .choices = engine_names,
      .help = "binary translator, reference interpreter, or the host's KVM, where it has one [bt]" },
    { .group = "How guest code is run", .name = "direct", .type = OPT_CHOICE, RUN(direct), .arg = "on|off|always",
      .choices = direct_names,
      .help = "run user code on the processor itself: where it pays, never, or wherever it can [on]" },
    { .group = "How guest code is run", .name = "tlb", .type = OPT_CHOICE, RUN(tlb), .arg = "flushed|strict",
      .choices = tlb_names,
      .help = "changes of page tables are seen once the TLB is flushed, or by the next access (Windows 98) [flushed]" },
    { .group = "How guest code is run", .name = "speed", .field = "speed_mhz", .type = OPT_NUMBER, RUN(speed),
      .arg = "MHZ", .min = 1, .max = VM_SPEED_MAX,
      .help = "a processor of so many MHz, an instruction a cycle, for programs that fail on fast ones" },
    { .group = "How guest code is run", .name = "cache", .field = "cache_dir", .type = OPT_STRING, .rank = OPT_COMMON,
      RUN(cfg.cache_dir), .arg = "DIR", .help = "keep translated code there between runs" },
    { .group = "How guest code is run", .name = "cache-size", .field = "code_cache", .type = OPT_SIZE,
      RUN(cfg.code_cache), .arg = "SIZE", .min = VM_CODE_CACHE_MIN, .max = VM_CODE_CACHE_MAX, .unit = 1,
      .help = "room for translated code: 64K to 1G" },
    { .group = "How guest code is run", .name = "no-jail", .type = OPT_FLAG, RUN(no_jail),
      .help = "keep the rights to files and system calls that it needs no more once all is open: for strace and gdb" },
    { .group = "How guest code is run", .name = "disable", .type = OPT_STRING, RUN(cfg.disable),
      .arg = "CLASS[,CLASS..]", .names = vm_class_name,
      .help = "interpret these instructions instead of translating them; `--disable help` lists them" },

    { .group = "Saving the machine", .name = "save", .type = OPT_STRING, RUN(save), .arg = "FILE",
      .help = "where signal SIGUSR1 saves it, as often as it comes; the machine goes on" },
    { .group = "Saving the machine", .name = "save-at-exit", .type = OPT_STRING, RUN(save_at_exit),
      .arg = "FILE", .help = "save it when the user, a signal or the debug-exit port ends it" },

    { .group = "Looking inside", .name = "stats", .type = OPT_STRING, RUN(stats), .arg = "FILE",
      .help = "write counters there, as JSON" },
    { .group = "Looking inside", .name = "count", .type = OPT_FLAG, RUN(count),
      .help = "count the guest's instructions, exactly: --stats has them as instructions_retired" },
    { .group = "Looking inside", .name = "probe", .type = OPT_CALL, .repeats = true, .only_typed = true,
      .parse = parse_probe, .names = vm_probe_event_name, .arg = "EVENT[,at=A-B][,if=..][,do=..]",
      .help = "count what the guest does, print it, stop there, or call a function; `--probe help` lists events" },
    { .group = "Looking inside", .name = "call", .type = OPT_CALL, .repeats = true, .only_typed = true,
      .parse = parse_call, .arg = "[eax=]LIB.so:FUNCTION(TYPE VALUE,..)",
      .help = "what the --probe before it calls (docs/instruments.md)" },
    { .group = "Looking inside", .name = "symbols", .type = OPT_STRING, RUN(symbols), .arg = "FILE[,slide=ADDR|auto]",
      .help = "names of the guest kernel's addresses: a System.map, /proc/kallsyms, or an ELF file" },
    { .group = "Looking inside", .name = "trace-stream", .type = OPT_STRING, RUN(stream), .only_typed = true,
      .arg = "FILE|unix:SOCKET[,what=..][,at=A-B][,wait=on]",
      .help = "records of blocks, memory and events, in shared memory for another process (docs/instruments.md)" },
    { .group = "Looking inside", .name = "trace", .type = OPT_STRING, RUN(cfg.trace), .arg = "LIST[@FROM..TO]",
      .names = vm_trace_name,
      .help = "trace to standard error, only for EIP in FROM..TO; `--trace help` lists what" },
    { .group = "Looking inside", .name = "monitor", .aliases = "qmp", .type = OPT_CALL, .parse = parse_monitor,
      .arg = "tcp:[ADDRESS:]PORT|unix:PATH|stdio", .help = "a door for programs that speak QMP, as they do with QEMU" },
    { .group = "Looking inside", .name = "human-monitor", .type = OPT_STRING, RUN(human_monitor),
      .arg = "tcp:[ADDRESS:]PORT|unix:PATH|stdio",
      .help = "a door for a person's terminal: what Ctrl-A c opens" },
    { .group = "Looking inside", .name = "gdb", .type = OPT_STRING, RUN(gdb),
      .arg = "tcp:[ADDRESS:]PORT|unix:PATH|stdio",
      .help = "a door for gdb's `target remote`, on the host's loopback if no ADDRESS is said" },
    { .group = "Looking inside", .name = "s", .type = OPT_FLAG, RUN(gdb_usual),
      .help = "--gdb tcp:127.0.0.1:1234, as QEMU has it" },
    { .group = "Looking inside", .name = "paused", .aliases = "S", .type = OPT_FLAG, RUN(paused),
      .help = "wait before the first instruction, for gdb to let it go on" },
    { .group = "Looking inside", .name = "perf-map", .field = "perf_map", .type = OPT_FLAG, RUN(cfg.perf_map),
      .help = "name translated code for perf(1), in /tmp/perf-PID.map" },
    { .group = "Looking inside", .name = "jitdump", .type = OPT_FLAG, RUN(cfg.jitdump),
      .help = "write translated code with its names to /tmp/jit-PID.dump, for perf inject --jit" },
    { .name = "help", .aliases = "h ?", .type = OPT_HELP, .help = "the options in common use" },
    { .name = "help-all", .type = OPT_HELP, .help = "all options" },

    /* What a PC without a display is anyway. */
    { .name = "nographic", .type = OPT_NOTHING, .rank = OPT_FOREIGN,
      .help = "the serial port is on the terminal anyway" },
    { .name = "nodefaults", .type = OPT_NOTHING, .rank = OPT_FOREIGN, .help = "there is nothing to leave out" },
    { .name = "no-user-config", .type = OPT_NOTHING, .rank = OPT_FOREIGN, .help = "no file is read but --config FILE" },
    { .name = "name", .type = OPT_NOTHING, .rank = OPT_FOREIGN, .arg = "NAME", .help = "has no effect" },
    { .name = "machine", .aliases = "M", .type = OPT_NOTHING, .rank = OPT_FOREIGN, .arg = "pc",
      .choices = machine_names, .cure = "the only machine is pc", .help = "the only machine is pc" },
    { .name = "cpus", .aliases = "c smp", .type = OPT_NOTHING, .rank = OPT_FOREIGN, .arg = "1", .choices = one_names,
      .cure = "more than one processor is not supported yet", .help = "one processor" },
    { .name = "accel", .type = OPT_NOTHING, .rank = OPT_FOREIGN, .arg = "tcg", .choices = accel_names, .cure = KVM,
      .help = KVM },
    { .name = "enable-kvm", .type = OPT_LATER, .rank = OPT_FOREIGN, .help = KVM },
    { .name = "device", .type = OPT_CALL, .rank = OPT_FOREIGN, .parse = parse_device, .arg = "DEVICE",
      .help = "isa-debug-exit,iobase=PORT is --debug-exit PORT; virtio-rng is --rng on, virtio-balloon --balloon on" },

    /* What is not there yet. */
    { .name = "blockdev", .aliases = "sd pflash mtdblock", .type = OPT_LATER, .rank = OPT_FOREIGN, .arg = "FILE",
      .help = "such drives are not supported yet; --disk FILE and --cdrom FILE are" },
    { .name = "network", .aliases = "n netdev", .type = OPT_LATER, .rank = OPT_FOREIGN, .arg = "NET",
      .help = NETWORK },
    { .name = "vnc", .type = OPT_CALL, .rank = OPT_FOREIGN, .parse = parse_vnc, .arg = "HOST:N[,password=FILE]",
      .help = "--display vnc=HOST:N[,password=FILE]" },
    { .name = "curses", .type = OPT_LATER, .rank = OPT_FOREIGN, .help = "say --display text" },
    { .name = "sdl", .aliases = "gtk spice full-screen", .type = OPT_LATER, .rank = OPT_FOREIGN, .help = DISPLAY },
    { .name = "dtb", .type = OPT_LATER, .rank = OPT_FOREIGN, .arg = "FILE", .help = "a PC has no device tree" },
    { .name = "chardev", .aliases = "mon api-sock api-socket", .type = OPT_LATER, .rank = OPT_FOREIGN, .arg = "DEVICE",
      .help = "say --monitor unix:PATH for a QMP monitor" },
    { .name = "readconfig", .type = OPT_LATER, .rank = OPT_FOREIGN, .arg = "FILE",
      .help = "QEMU's configuration files are not read; --config FILE reads JSON, and --print-config writes it" },
    { .name = "no-api", .type = OPT_NOTHING, .rank = OPT_FOREIGN, .help = "there is none" },
    { .name = "audiodev", .type = OPT_LATER, .rank = OPT_FOREIGN, .arg = "DEVICE",
      .help = SOUND },
    { .name = "virtfs", .aliases = "fsdev 9p", .type = OPT_LATER, .rank = OPT_FOREIGN, .arg = "FOLDER",
      .help = SHARING },
    { .name = "loadvm", .aliases = "snapshot incoming", .type = OPT_LATER, .rank = OPT_FOREIGN, .arg = "NAME",
      .help = "a saved machine is a file: --save FILE, --load FILE" },
    { .name = "daemonize", .type = OPT_LATER, .rank = OPT_FOREIGN,
      .help = "running in the background is the shell's: transvisor run .. --serial file:LOG &" },
    { 0 },
};

static const struct opt check_options[] = {
    { .name = "json", .type = OPT_FLAG, .rank = OPT_COMMON, .at = offsetof(struct check_args, json),
      .help = "as one JSON object" },
    { .name = "help", .aliases = "h ? help-all", .type = OPT_HELP },
    { 0 },
};

static const struct opt top_options[] = {
    { .name = "monitor", .type = OPT_STRING, .rank = OPT_COMMON, .required = true, .operand = true,
      .at = offsetof(struct top_args, monitor), .arg = "unix:PATH", .help = "the machine's --monitor" },
    { .name = "once", .type = OPT_FLAG, .rank = OPT_COMMON, .at = offsetof(struct top_args, once),
      .help = "one screen, and no more" },
    { .name = "help", .aliases = "h ? help-all", .type = OPT_HELP },
    { 0 },
};

static const struct opt info_options[] = {
    { .name = "load", .type = OPT_STRING, .rank = OPT_COMMON, .required = true, .operand = true,
      .at = offsetof(struct info_args, file), .arg = "FILE", .help = "the saved machine" },
    { .name = "chip", .type = OPT_STRING, .rank = OPT_COMMON, .at = offsetof(struct info_args, chip), .arg = "NAME",
      .help = "only this: cpu, pic, lapic, ioapic, pit, rtc, i8042, com1, dma, acpi, pci, .." },
    { .name = "help", .aliases = "h ? help-all", .type = OPT_HELP },
    { 0 },
};

#define TRANSLATE(field) .at = offsetof(struct translate_args, field)
static const struct opt translate_options[] = {
    { .name = "file", .type = OPT_STRING, .rank = OPT_COMMON, .required = true, .operand = true, TRANSLATE(cfg.file),
      .arg = "FILE", .help = "raw code" },
    { .name = "base", .type = OPT_NUMBER, .rank = OPT_COMMON, TRANSLATE(base), .arg = "ADDR", .min = 0,
      .max = UINT32_MAX, .help = "where it lies [0]" },
    { .name = "mode", .type = OPT_CHOICE, .rank = OPT_COMMON, TRANSLATE(mode), .arg = "16|32", .choices = mode_names,
      .help = "size of its code segment [32]" },
    { .name = "cpl", .type = OPT_NUMBER, .rank = OPT_COMMON, TRANSLATE(cpl), .arg = "N", .min = 0, .max = 3,
      .help = "privilege level [0]" },
    { .name = "cpu", .type = OPT_NAME, .rank = OPT_COMMON, TRANSLATE(cfg.cpu), .arg = "MODEL", .names = cpu_name,
      .extended = true, .help = "processor, as for run" },
    { .name = "help", .aliases = "h ? help-all", .type = OPT_HELP },
    { 0 },
};
/* clang-format on */

const struct verb verbs[VERB_COUNT] = {
    [VERB_RUN] = { "run", "[FILE]", "runs a virtual machine",
                   "  transvisor run vmlinuz --initrd initrd.img --append console=ttyS0 --memory 512\n"
                   "On a terminal: Ctrl-A x quits, Ctrl-A c opens a monitor, Ctrl-A h shows the other keys.\n",
                   .options = run_options },
    [VERB_NEW] = { "new", "NAME", "makes a machine that is started by its name",
                   "  transvisor new old --for win98 --disk 4G --cdrom win98.iso\n"
                   "A --disk that is a size becomes a qcow2 image in the machine's folder.\n",
                   .as_run = true, .options = machine_new_options },
    [VERB_LIST] = { "list", NULL, "shows the machines that have names, and what they do",
                    .options = machine_list_options },
    [VERB_START] = { "start", "NAME", "starts a machine, which goes on in the background",
                     "  transvisor start old --console\n", .as_run = true, .options = machine_start_options },
    [VERB_CONSOLE] = { "console", "NAME", "connects this terminal with a machine's serial port; Ctrl-A x leaves it",
                       .options = machine_console_options },
    [VERB_STOP] = { "stop", "NAME", "presses a machine's power button, and waits until it is off",
                    .options = machine_stop_options },
    [VERB_RM] = { "rm", "NAME", "removes a machine, and the disk images in its folder", .options = machine_rm_options },
    [VERB_INFO] = { "info", "FILE", "prints the state of a saved machine, chip by chip", NULL,
                    .options = info_options },
    [VERB_CHECK] = { "check", NULL, "tells whether this host can run machines, how well, and what would help",
                     "Exit status: 0 if it can, 1 if not.\n", .options = check_options },
    [VERB_TOP] = { "top", "unix:PATH", "shows what a running machine does, live, through its --monitor", NULL,
                   .options = top_options },
    [VERB_TRANSLATE] = { "translate", "FILE", "prints guest code and the host code it becomes, side by side", NULL,
                         .options = translate_options },
    [VERB_BENCH] = { "bench", NULL, "measures what guests cost here, beside the host itself, KVM and QEMU",
                     "  transvisor bench --quick --json today.json\n"
                     "Exit status: 0, 1 if something failed, 3 if --compare found something slower.\n",
                     .options = bench_options },
    [VERB_IMG_CREATE] = { "img create", "FILE [SIZE]", "makes an empty disk image",
                          "  transvisor img create -f qcow2 disk.qcow2 10G\n"
                          "  transvisor img create -f qcow2 -b disk.qcow2 -F qcow2 trial.qcow2\n",
                          .options = img_create_options },
    [VERB_IMG_INFO] = { "img info", "FILE", "tells what a disk image is", NULL, .options = img_info_options },
    [VERB_IMG_CONVERT] = { "img convert", "FILE TO", "copies a disk image into another format",
                           "  transvisor img convert -O qcow2 disk.img disk.qcow2\n", .options = img_convert_options },
    [VERB_IMG_CHECK] = { "img check", "FILE", "looks for errors in a qcow2 image, and repairs them",
                         "Exit status: 0 none (left), 1 it could not be checked, 2 errors, 3 room that nobody uses, "
                         "63 a raw image.\n",
                         .options = img_check_options },
    [VERB_IMG_COMMIT] = { "img commit", "FILE", "writes a qcow2 image into what it is based on, and empties it", NULL,
                          .options = img_commit_options },
};

const char verbs_exit_status[] =
    "Exit status: 0 the guest powered off or --expect was met, 1 error or it was not, 2 usage, 3 the guest died "
    "(triple fault),\n"
    "(V<<1)|1 after a write of V to the debug-exit port, 124 after --timeout, 128+N when signal N ended it.\n";

void run_args_init(struct run_args *a)
{
    *a = (struct run_args){ .cfg = { .size = sizeof a->cfg }, .vga = -1, .ready = -1 };
}

/* The model of a card that says none. */
static int finish_net(struct run_args *a, unsigned i, struct vm_error *err)
{
    const char **net = i ? &a->cfg.more_nets[i - 1] : &a->cfg.net;
    if (!*net || !a->net_model || !strcmp(*net, "none") || strstr(*net, ",model=")) return 0;
    int n = snprintf(a->net[i], sizeof a->net[i], "%s,model=%s", *net, a->net_model);
    if (n >= (int)sizeof a->net[i]) return vm_fail(err, -EINVAL, "--net %.64s..: is too long", *net);
    *net = a->net[i];
    return 0;
}

/* A tablet that nobody has asked for by name takes no port that a disk needs. */
static int finish_pointer(struct run_args *a, struct vm_error *err)
{
    unsigned used = strstr(a->usb, "keyboard") != NULL;
    bool screen = a->cfg.display && !strncmp(a->cfg.display, "vnc", 3);
    for (unsigned i = 0; i < a->disks; i++) used += a->cfg.disk[i].bus == VM_BUS_USB;
    bool said = strstr(a->usb, "tablet") || strstr(a->usb, "none");
    if (!a->tablet || !screen || a->load || said || used >= VM_USB_MAX) return 0;
    return parse_usb(a, "--pointer tablet", "tablet", err);
}

int run_args_finish(struct run_args *a, struct vm_error *err)
{
    if (finish_pointer(a, err)) return -EINVAL;
    for (unsigned i = 0; i < VM_NETS_MAX && !a->load; i++)
        if (finish_net(a, i, err)) return -EINVAL;
    if (a->cfg.kernel && a->cfg.firmware)
        return vm_fail(err, -EINVAL, "--kernel loads a kernel without firmware: leave out --firmware");
    bool network = a->cfg.boot && strstr(a->cfg.boot, "network");
    if (!a->cfg.kernel && !a->load && !a->cfg.firmware && !a->disks && !network)
        return vm_fail(err, -EINVAL, "nothing to boot: say FILE, a kernel, disk image or ISO");
    for (unsigned i = 0; i < a->disks; i++)
        if (a->cfg.disk[i].bus == RUN_BUS_UNSAID)
            a->cfg.disk[i].bus = !a->cfg.disk[i].cdrom && a->disk_bus ? VM_BUS_VIRTIO : VM_BUS_IDE;
    for (unsigned i = 0; i < a->disks; i++) {
        u8 *werror = &a->cfg.disk[i].werror;
        if (*werror == RUN_WERROR_UNSAID) *werror = a->monitor ? VM_WERROR_ENOSPC : VM_WERROR_REPORT;
        if (*werror != VM_WERROR_REPORT && !a->monitor)
            return vm_fail(err, -EINVAL,
                           "--disk %s: werror=stop and enospc need --monitor, by which it is told to go on",
                           a->cfg.disk[i].file);
    }
    /* The terminal can be one thing only. */
    if (!a->gdb && a->gdb_usual) a->gdb = "tcp:127.0.0.1:1234";
    const struct {
        const char *option, *value, *taken;
    } users[] = { { "--display", a->cfg.display, "text" },
                  { "--gdb", a->gdb, "stdio" },
                  { "--monitor", a->monitor, "stdio" },
                  { "--human-monitor", a->human_monitor, "stdio" },
                  { "--virtio-console", a->cfg.console, "stdio" },
                  { "--serial", a->cfg.serial, "stdio" } };
    const char *user = NULL;
    for (size_t i = 0; i < ARRAY_LEN(users); i++) {
        if (!users[i].value || strcmp(users[i].value, users[i].taken)) continue;
        if (user)
            return vm_fail(err, -EINVAL, "%s %s: standard input and output are %s's already", users[i].option,
                           users[i].value, user);
        user = users[i].option;
    }
    if (!a->cfg.serial) a->cfg.serial = user ? "null" : "stdio";
    a->cfg.engine = (enum vm_engine)a->engine;
    a->cfg.direct = (enum vm_direct)a->direct;
    a->cfg.tlb_strict = a->tlb != 0;
    a->cfg.rng = a->rng != 0;
    a->cfg.balloon = a->balloon != 0;
    a->cfg.hpet = a->hpet != 0;
    a->cfg.speed_mhz = (unsigned)a->speed;
    a->cfg.vga = (enum vm_vga)(a->vga + 1);
    a->cfg.entry_cs = a->entry_cs ? 0x08 : 0x10;
    a->cfg.has_debug_exit = a->debug_exit.given;
    a->cfg.debug_exit = a->debug_exit.port;
    return 0;
}

void verb_help(enum verb_id id, bool all, FILE *out)
{
    const struct verb *v = &verbs[id];
    const char *operand = v->operand ? v->operand : "";
    if (v->as_run) fprintf(out, "usage: transvisor %s %s [OPTIONS]\n", v->name, operand);
    else fprintf(out, "usage: transvisor %s [OPTIONS]%s%s\n", v->name, *operand ? " " : "", operand);
    fprintf(out, "%s%s", v->examples ? v->examples : "", all ? "" : "\n");
    options_help(v->options, all, out);
    if (v->as_run) fputs("Besides, the options of `transvisor run`.\n", out);
    if (!all && id == VERB_RUN) fputs("`transvisor run --help-all` explains all of them.\n", out);
}
