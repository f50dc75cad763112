/* Owns the order in which a machine is saved and loaded: head, chips, CPU, memory, what embedders have added. The
 * chips' order is the board's.
 *   I1  Time stands still while a machine is loaded, so that each chip finds the clock as it left it; and while it is
 *       saved, so that a guest that runs on has lost no tick. Its wall clock alone goes on.
 *   I2  All chips leave their places on the bus before the first is loaded: one may take what was another's. */
#define _GNU_SOURCE /* asprintf */
#include "src/snapshot.h"
#include "core/host_ns.h"
#include "runtime/runtime.h"
#include "src/board/cpu_part.h"
#include "src/board/pc.h"
#include "src/error.h"
#include "src/lines.h"
#include "src/snap/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOMENT_NS 100000u /* what two clocks may differ by */
#define MOMENT_TRIES 50u
#define STRING_MAX (1u << 20)
#define BLOB_PREFIX "state:" /* of the section's name */
#define BLOBS_MAX 256u
_Static_assert(sizeof BLOB_PREFIX - 1 + VM_STATE_NAME_MAX <= SNAP_NAME_MAX && VM_STATE_MAX <= SNAP_SECTION_MAX,
               "a state is one section");
#define NOW_MAX (1ull << 62) /* ns: 146 years; sums of times stay far from what 64 bits hold */

static const struct snap_field head_fields[] = {
    SNAP(struct snapshot_head, memory),
    SNAP(struct snapshot_head, now_ns, .max = NOW_MAX),
    SNAP_ARRAY(struct snapshot_head, cpu),
    SNAP(struct snapshot_head, has_debug_exit),
    SNAP(struct snapshot_head, debug_exit),
    SNAP(struct snapshot_head, kernel, .max = STRING_MAX),
    SNAP(struct snapshot_head, initrd, .max = STRING_MAX),
    SNAP(struct snapshot_head, cmdline, .max = STRING_MAX),
    SNAP(struct snapshot_head, firmware, .since = 2, .max = STRING_MAX),
    SNAP(struct snapshot_head, boot, .since = 3, .max = STRING_MAX),
    SNAP(struct snapshot_head, disks, .since = 3, .max = STRING_MAX),
    SNAP(struct snapshot_head, net, .since = 4, .max = STRING_MAX),
    SNAP(struct snapshot_head, vga, .since = 5, .reset = VM_VGA_NONE, .max = VM_VGA_STD),
    SNAP(struct snapshot_head, disk_serials, .since = 6, .max = STRING_MAX),
    SNAP(struct snapshot_head, more_nets, .since = 7, .max = STRING_MAX),
    SNAP(struct snapshot_head, ports, .since = 8, .max = (1 << LINES) - 1),
    SNAP(struct snapshot_head, sound, .since = 9, .max = STRING_MAX),
    SNAP(struct snapshot_head, shares, .since = 10, .max = STRING_MAX),
    SNAP(struct snapshot_head, usb, .since = 11, .max = STRING_MAX),
    SNAP(struct snapshot_head, paravirt, .since = 12, .max = SNAPSHOT_RNG | SNAPSHOT_BALLOON),
    SNAP(struct snapshot_head, hpet, .since = 13),
    { 0 },
};

static bool string_whole(const struct byte_queue *q) { return !q->len || !memchr(q->data, 0, q->len); }

static bool head_check(const void *head)
{
    const struct snapshot_head *h = head;
    return h->vga != VM_VGA_DEFAULT && h->memory >= VM_MEMORY_MIN && h->memory <= VM_MEMORY_MAX
           && !(h->memory % PAGE_SIZE) && !h->cpu[sizeof h->cpu - 1] && string_whole(&h->kernel)
           && string_whole(&h->initrd) && string_whole(&h->cmdline) && string_whole(&h->firmware)
           && string_whole(&h->boot) && string_whole(&h->net) && string_whole(&h->sound) && string_whole(&h->usb);
}

static const struct snap_table head_table = { .name = "machine",
                                              .version = 13,
                                              .size = sizeof(struct snapshot_head),
                                              .fields = head_fields,
                                              .check = head_check };

static struct snap_part head_part(struct snapshot_head *h)
{
    return (struct snap_part){ head_table.name, &head_table, h };
}

void snapshot_head_free(struct snapshot_head *h)
{
    byte_queue_free(&h->kernel);
    byte_queue_free(&h->initrd);
    byte_queue_free(&h->cmdline);
    byte_queue_free(&h->firmware);
    byte_queue_free(&h->boot);
    byte_queue_free(&h->disks);
    byte_queue_free(&h->disk_serials);
    byte_queue_free(&h->net);
    byte_queue_free(&h->sound);
    byte_queue_free(&h->more_nets);
    byte_queue_free(&h->shares);
    byte_queue_free(&h->usb);
}

static bool string_set(struct byte_queue *q, const char *s)
{
    return !s || byte_queue_put(q, (const u8 *)s, strlen(s), STRING_MAX);
}

static bool disks_set(struct byte_queue *q, const struct vm_disk *disk)
{
    bool fine = true;
    for (unsigned i = 0; i < VM_DISKS_MAX && disk[i].file; i++) {
        const u8 flags =
            (u8)(SNAPSHOT_DISK | (disk[i].cdrom ? SNAPSHOT_CDROM : 0) | (disk[i].readonly ? SNAPSHOT_READONLY : 0)
                 | (disk[i].snapshot ? SNAPSHOT_OVERLAY : 0) | (disk[i].bus == VM_BUS_VIRTIO ? SNAPSHOT_VIRTIO : 0)
                 | (disk[i].bus == VM_BUS_FLOPPY ? SNAPSHOT_FLOPPY : 0) | (disk[i].bus == VM_BUS_USB ? SNAPSHOT_USB : 0)
                 | (disk[i].format == VM_FORMAT_RAW ? SNAPSHOT_RAW : 0)
                 | (disk[i].format == VM_FORMAT_QCOW2 ? SNAPSHOT_QCOW2 : 0));
        fine = fine && byte_queue_put(q, &flags, 1, STRING_MAX)
               && byte_queue_put(q, (const u8 *)disk[i].file, strlen(disk[i].file) + 1, STRING_MAX);
    }
    return fine;
}

static bool serials_set(struct byte_queue *q, const struct vm_config *cfg)
{
    bool fine = true;
    for (unsigned i = 0; i < VM_DISKS_MAX && cfg->disk[i].file; i++) {
        const char *serial = cfg->disk_serial[i] ? cfg->disk_serial[i] : "";
        fine = fine && byte_queue_put(q, (const u8 *)serial, strlen(serial) + 1, STRING_MAX);
    }
    return fine;
}

/* Of a queue of strings that end in a zero: the one at *p, which moves on. NULL: there is no zero. */
static const char *string_take(const u8 **p, const u8 *end)
{
    const char *s = (const char *)*p;
    const u8 *zero = *p < end ? memchr(*p, 0, (size_t)(end - *p)) : NULL;
    if (!zero) return NULL;
    *p = zero + 1;
    return s;
}

static int serials_get(const struct byte_queue *q, struct vm_config *c)
{
    const u8 *p = q->data, *end = p + q->len;
    for (unsigned i = 0; p < end; i++) {
        const char *serial = string_take(&p, end);
        if (i == VM_DISKS_MAX || !serial || !c->disk[i].file) return -EINVAL;
        if (*serial && !(c->disk_serial[i] = strdup(serial))) return -ENOMEM;
    }
    return 0;
}

int snapshot_disks(const struct snapshot_head *h, struct vm_config *c)
{
    const u8 *p = h->disks.data, *end = p + h->disks.len;
    for (unsigned i = 0; p < end; i++) {
        const u8 flags = *p;
        const char *typed = string_take(&p, end);
        if (i == VM_DISKS_MAX || !typed || !typed[0] || !typed[1]) return -EINVAL;
        c->disk[i] = (struct vm_disk){ .file = strdup(typed + 1),
                                       .cdrom = flags & SNAPSHOT_CDROM,
                                       .readonly = flags & SNAPSHOT_READONLY,
                                       .snapshot = flags & SNAPSHOT_OVERLAY,
                                       .bus = (flags & SNAPSHOT_USB) == SNAPSHOT_USB ? VM_BUS_USB
                                              : flags & SNAPSHOT_VIRTIO              ? VM_BUS_VIRTIO
                                              : flags & SNAPSHOT_FLOPPY              ? VM_BUS_FLOPPY
                                                                                     : VM_BUS_IDE,
                                       .format = flags & SNAPSHOT_RAW     ? VM_FORMAT_RAW
                                                 : flags & SNAPSHOT_QCOW2 ? VM_FORMAT_QCOW2
                                                                          : VM_FORMAT_PROBE };
        if (!c->disk[i].file) return -ENOMEM;
    }
    return serials_get(&h->disk_serials, c);
}

static bool list_set(struct byte_queue *q, const char *const *list, size_t n)
{
    bool fine = true;
    for (size_t i = 0; i < n; i++)
        if (list[i]) fine = fine && byte_queue_put(q, (const u8 *)list[i], strlen(list[i]) + 1, STRING_MAX);
    return fine;
}

/* A string without its zero is none. */
static int list_get(const struct byte_queue *q, const char **list, size_t n)
{
    const u8 *p = q->data, *end = p + q->len;
    for (size_t i = 0; i < n && p < end; i++) {
        const char *text = string_take(&p, end);
        if (!text) return 0;
        if (!list[i] && !(list[i] = strdup(text))) return -ENOMEM;
    }
    return 0;
}

int snapshot_more_nets(const struct snapshot_head *h, struct vm_config *c)
{
    return list_get(&h->more_nets, c->more_nets, ARRAY_LEN(c->more_nets));
}

int snapshot_shares(const struct snapshot_head *h, struct vm_config *c)
{
    return list_get(&h->shares, c->share, VM_SHARES_MAX);
}

bool snapshot_head_init(struct snapshot_head *h, const struct vm_config *cfg, const char *cpu)
{
    *h = (struct snapshot_head){
        .memory = cfg->memory, .has_debug_exit = cfg->has_debug_exit, .debug_exit = cfg->debug_exit, .vga = (u8)cfg->vga
    };
    for (unsigned i = 0; i < LINES; i++)
        if (lines_spec(cfg, i)) h->ports |= (u8)(1u << i);
    h->paravirt = (u8)((cfg->rng ? SNAPSHOT_RNG : 0) | (cfg->balloon ? SNAPSHOT_BALLOON : 0));
    h->hpet = cfg->hpet;
    BUG_ON(strlen(cpu) >= sizeof h->cpu);
    memcpy(h->cpu, cpu, strlen(cpu));
    return string_set(&h->kernel, cfg->kernel) && string_set(&h->initrd, cfg->initrd)
           && string_set(&h->cmdline, cfg->cmdline) && string_set(&h->firmware, cfg->firmware)
           && string_set(&h->boot, cfg->boot) && string_set(&h->net, cfg->net) && string_set(&h->sound, cfg->sound)
           && string_set(&h->usb, cfg->usb) && disks_set(&h->disks, cfg->disk) && serials_set(&h->disk_serials, cfg)
           && list_set(&h->more_nets, cfg->more_nets, ARRAY_LEN(cfg->more_nets))
           && list_set(&h->shares, cfg->share, VM_SHARES_MAX);
}

char *snapshot_string(const struct byte_queue *q) { return q->len ? strndup((const char *)q->data, q->len) : NULL; }

/* ---- what embedders have added ---- */

struct snapshot_blob *snapshot_blob_new(const char *name, size_t len)
{
    BUG_ON(strlen(name) > VM_STATE_NAME_MAX || len > VM_STATE_MAX);
    struct snapshot_blob *b = malloc(sizeof *b + len);
    if (!b) return NULL;
    b->next = NULL;
    b->len = len;
    strcpy(b->name, name);
    return b;
}

void snapshot_blobs_free(struct snapshot_blob *list)
{
    while (list) {
        struct snapshot_blob *next = list->next;
        free(list);
        list = next;
    }
}

static int blobs_save(struct snap_writer *w, const struct snapshot_blob *list)
{
    int rc = 0;
    for (; list && !rc; list = list->next) {
        char section[SNAP_NAME_MAX + 1];
        snprintf(section, sizeof section, BLOB_PREFIX "%s", list->name);
        rc = snap_write(w, section, list->data, list->len);
    }
    return rc;
}

/* Adds a section to the list, if its name is that of a blob. -EINVAL: it is not, or the file makes no sense. */
static int blob_load(const struct snap_section *sec, struct snapshot_blob **list, const char **why)
{
    const size_t prefix = strlen(BLOB_PREFIX);
    const char *name = sec->name + prefix;
    *why = "it has an unknown section at its end";
    if (strncmp(sec->name, BLOB_PREFIX, prefix) || !*name || strlen(name) > VM_STATE_NAME_MAX) return -EINVAL;
    *why = "it has too many states of devices, or one of them twice";
    unsigned n = 0;
    for (; *list; list = &(*list)->next, n++)
        if (!strcmp((*list)->name, name)) return -EINVAL;
    if (n == BLOBS_MAX) return -EINVAL;
    if (!(*list = snapshot_blob_new(name, sec->len))) return -ENOMEM;
    memcpy((*list)->data, sec->data, sec->len);
    return 0;
}

/* ---- save ---- */

static int part_save(struct snap_writer *w, const struct snap_part *p)
{
    struct snap_buf b = { 0 };
    snap_save(p, &b);
    int rc = b.failed ? -ENOMEM : snap_write(w, p->name, b.data, b.len);
    snap_buf_free(&b);
    return rc;
}

/* The state, with its TSC, and guest time at one moment: a guest compares its clocks, and Linux gives up a TSC that is
 * half a millisecond off. The host may take the processor away between the two readings, so they are made again. */
static void moment_get(struct rt *rt, struct cpu_arch *cpu, u64 *now_ns)
{
    for (unsigned i = 0; i < MOMENT_TRIES; i++) {
        u64 before = clock_now(rt_clock(rt));
        rt_get_state(rt, cpu);
        *now_ns = clock_now(rt_clock(rt));
        if (*now_ns - before < MOMENT_NS) return;
    }
}

/* The other way: guest time goes on from now_ns, and the TSC from the state's. */
static int moment_set(struct rt *rt, const struct cpu_arch *cpu, u64 now_ns, const char **field)
{
    int rc = 0;
    for (unsigned i = 0; i < MOMENT_TRIES && !rc; i++) {
        struct cpu_arch looked_at;
        rt_get_state(rt, &looked_at); /* a TSC that nobody has looked at since it was set would not be set again */
        clock_set_manual(rt_clock(rt), now_ns);
        clock_go_on(rt_clock(rt));
        rc = rt_set_state(rt, cpu, field);
        if (clock_now(rt_clock(rt)) - now_ns < MOMENT_NS) break;
    }
    return rc;
}

static int parts_save(struct snap_writer *w, struct snapshot_head *h, struct rt *rt, struct pc *pc,
                      struct cpu_arch *cpu, const struct snapshot_blob *blobs)
{
    struct snap_part part[PC_PARTS_MAX];
    unsigned n = pc_parts(pc, part, PC_PARTS_MAX);
    const struct snap_part head = head_part(h), processor = cpu_part(cpu);
    int rc = part_save(w, &head);
    for (unsigned i = 0; i < n && !rc; i++) rc = part_save(w, &part[i]);
    if (!rc) rc = part_save(w, &processor);
    if (!rc) rc = snap_ram_save(w, rt_ram_fd(rt), rt_ram_len(rt));
    if (!rc) rc = blobs_save(w, blobs);
    return rc ? rc : snap_write_end(w);
}

int snapshot_save(int fd, struct snapshot_head *h, struct rt *rt, struct pc *pc, const struct snapshot_blob *blobs,
                  struct vm_error *err)
{
    struct snap_writer *w = NULL;
    struct clock *clk = rt_clock(rt);
    struct cpu_arch cpu;
    const char *field = "";
    moment_get(rt, &cpu, &h->now_ns);
    u64 wall = clock_wall_ns(clk), begun = host_ns(CLOCK_MONOTONIC);
    clock_set_manual(clk, h->now_ns); /* I1 */
    int rc = snap_writer_new(&w, fd);
    if (!rc) rc = parts_save(w, h, rt, pc, &cpu, blobs);
    snap_writer_free(w);
    BUG_ON(moment_set(rt, &cpu, h->now_ns, &field));
    clock_set_wall(clk, wall + host_ns(CLOCK_MONOTONIC) - begun);
    return rc ? vm_fail(err, rc, "%s", strerror(-rc)) : 0;
}

/* The directory entry is on disk once this has returned. */
static int directory_sync(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    if (!dir) return -ENOMEM;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
    if (fd < 0 || (fdatasync(fd) && errno != EINVAL)) rc = -errno; /* EINVAL: a file system without a disk */
    if (fd >= 0) close(fd);
    free(dir);
    return rc;
}

int snapshot_to_file(const char *path, int (*save)(void *, int, struct vm_error *), void *arg, struct vm_error *err)
{
    struct stat st;
    bool plain = lstat(path, &st) || S_ISREG(st.st_mode);
    char *name = NULL;
    if (asprintf(&name, plain ? "%s.%d.tmp" : "%s", path, (int)getpid()) < 0)
        return vm_fail(err, -ENOMEM, "out of memory");
    if (plain) unlinkat(AT_FDCWD, name, 0); /* of a process that had our number and was killed */
    int fd = open(name, plain ? O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC : O_WRONLY | O_CLOEXEC, 0600), rc = 0;
    if (fd < 0) {
        rc = vm_fail(err, -errno, "%s: %s", name, strerror(errno));
        free(name);
        return rc;
    }
    rc = save(arg, fd, err);
    if (!rc && plain && fdatasync(fd)) rc = vm_fail(err, -errno, "%s", strerror(errno));
    if (close(fd) && !rc) rc = vm_fail(err, -errno, "%s", strerror(errno));
    if (!rc && plain && renameat(AT_FDCWD, name, AT_FDCWD, path)) rc = vm_fail(err, -errno, "%s", strerror(errno));
    if (rc && plain) unlinkat(AT_FDCWD, name, 0);
    free(name);
    if (!rc && plain && (rc = directory_sync(path))) vm_fail(err, rc, "%s", strerror(-rc));
    return rc;
}

/* ---- load ---- */

struct snapshot {
    struct snap_reader *reader;
    struct snapshot_head head;
};

static int load_fail(struct vm_error *err, int rc, const char *why)
{
    return rc == -EINVAL && why ? vm_fail(err, -EBADMSG, "%s", why) : vm_fail(err, rc, "%s", strerror(-rc));
}

/* The next section, which is to be p's. */
static int part_load(struct snapshot *s, const struct snap_part *p, struct vm_error *err)
{
    struct snap_section sec;
    const char *why = NULL;
    char text[160] = "";
    int rc = snap_read(s->reader, &sec, &why);
    if (rc) return load_fail(err, rc, why);
    if (strcmp(sec.name, p->name))
        return vm_fail(err, -EBADMSG, "it has '%s' where this machine has '%s'", sec.name, p->name);
    rc = snap_load(p, sec.data, sec.len, text, sizeof text);
    if (rc == -EINVAL) return vm_fail(err, -EBADMSG, "its '%s' %s", p->name, text);
    return rc ? vm_fail(err, rc == -EBUSY ? -EBADMSG : rc, "its '%s': %s", p->name, strerror(-rc)) : 0;
}

int snapshot_open(struct snapshot **out, int fd, struct vm_error *err)
{
    const char *why = NULL;
    struct snapshot *s = calloc(1, sizeof *s);
    if (!s) return load_fail(err, -ENOMEM, NULL);
    const struct snap_part head = head_part(&s->head);
    int rc = snap_reader_new(&s->reader, fd, &why);
    if (rc) rc = load_fail(err, rc, why);
    else rc = part_load(s, &head, err);
    if (rc) snapshot_close(s);
    else *out = s;
    return rc;
}

void snapshot_close(struct snapshot *s)
{
    if (!s) return;
    snap_reader_free(s->reader);
    snapshot_head_free(&s->head);
    free(s);
}

const struct snapshot_head *snapshot_head(const struct snapshot *s) { return &s->head; }

/* Memory, and what comes behind it. */
static int ram_load(struct snapshot *s, struct rt *rt, struct snapshot_blob **blobs, struct vm_error *err)
{
    struct snap_section sec;
    const char *why = NULL;
    u64 size = rt_ram_len(rt), next = 0;
    u8 *ram = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, rt_ram_fd(rt), 0);
    if (ram == MAP_FAILED) return load_fail(err, -errno, NULL);
    int rc;
    while (!(rc = snap_read(s->reader, &sec, &why)) && strcmp(sec.name, "end")) {
        rc = strcmp(sec.name, "ram") ? blob_load(&sec, blobs, &why) : snap_ram_load(&sec, ram, size, &next, &why);
        if (rc) break;
    }
    munmap(ram, size);
    return rc ? load_fail(err, rc, why) : 0;
}

int snapshot_load(struct snapshot *s, struct rt *rt, struct pc *pc, struct snapshot_blob **blobs, struct vm_error *err)
{
    struct snap_part part[PC_PARTS_MAX];
    struct cpu_arch cpu;
    const char *field = "";
    const struct snap_part processor = cpu_part(&cpu);
    unsigned n = pc_parts(pc, part, PC_PARTS_MAX);
    int rc = 0;
    rt_get_state(rt, &cpu); /* what a file of an older version does not say */
    clock_set_manual(rt_clock(rt), s->head.now_ns);
    for (unsigned i = 0; i < n; i++) snap_unmap(&part[i]);
    for (unsigned i = 0; i < n && !rc; i++) rc = part_load(s, &part[i], err);
    if (!rc) rc = part_load(s, &processor, err);
    if (!rc) rc = ram_load(s, rt, blobs, err);
    if (rc) return rc;
    rt_flush(rt);
    rc = moment_set(rt, &cpu, s->head.now_ns, &field);
    return rc ? vm_fail(err, -EBADMSG, "its 'cpu' has a value of %s that no such processor can have", field) : 0;
}
