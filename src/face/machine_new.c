/* Owns how a machine of a name is made: `transvisor new`. */
#define _GNU_SOURCE /* asprintf */
#include "src/error.h"
#include "src/face/machine.h"
#include "src/face/machines.h"
#include "src/face/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define IMAGES_MAX VM_DISKS_MAX

/* What becomes of the words. */
struct making {
    const struct machine *m;
    char *here; /* the current directory */
    struct image_to_be {
        char name[16]; /* in the machine's folder */
        u64 bytes;
    } image[IMAGES_MAX];
    unsigned images;
};

/* A disk that is a size: 10G, or 10G,bus=virtio. The length of the size, or 0. */
static size_t disk_size(const char *text, u64 *bytes)
{
    char size[24];
    size_t n = strcspn(text, ",");
    if (n >= sizeof size) return 0;
    memcpy(size, text, n);
    size[n] = 0;
    if (!strpbrk(size, "kmgtKMGT") || parse_size(size, 1, bytes) || !*bytes || !access(size, F_OK)) return 0;
    return n;
}

static int disk_to_be(struct making *k, const char *text, size_t n, u64 bytes, char **other, struct vm_error *err)
{
    if (k->images == IMAGES_MAX) return vm_fail(err, -EINVAL, "--disk: there is room for %u drives", VM_DISKS_MAX);
    struct image_to_be *i = &k->image[k->images++];
    i->bytes = bytes;
    if (k->images == 1) snprintf(i->name, sizeof i->name, "disk.qcow2");
    else snprintf(i->name, sizeof i->name, "disk%u.qcow2", k->images);
    return asprintf(other, "%s%s", i->name, text + n) < 0 ? vm_fail(err, -ENOMEM, "machine: out of memory") : 0;
}

static int text_change(void *arg, const struct opt *row, const char *text, char **other, struct vm_error *err)
{
    struct making *k = arg;
    u64 bytes;
    size_t n = strcmp(row->name, "disk") ? 0 : disk_size(text, &bytes);
    if (n) return disk_to_be(k, text, n, bytes, other, err);
    *other = config_path(row, text, k->here);
    return 0;
}

/* Whether transvisor would take these settings: *c as it is written. */
static int settings_try(struct config *c, struct vm_error *err)
{
    struct run_args *a = calloc(1, sizeof *a);
    if (!a) return vm_fail(err, -ENOMEM, "machine: out of memory");
    run_args_init(a);
    int rc = config_apply(c, verbs[VERB_RUN].options, a, err);
    if (!rc) rc = run_args_finish(a, err);
    free(a);
    return rc;
}

/* All of them, or none. */
static int images_make(struct making *k, struct vm_error *err)
{
    char path[PATH_MAX];
    int rc = 0;
    unsigned made = 0;
    for (; made < k->images && !rc; made++) {
        const struct vm_image how = { .size = sizeof how, .format = VM_FORMAT_QCOW2, .bytes = k->image[made].bytes };
        rc = machine_file(k->m, k->image[made].name, path, sizeof path, err);
        if (!rc && !access(path, F_OK)) rc = vm_fail(err, -EEXIST, "%.300s is there already, of another machine", path);
        if (!rc) rc = vm_image_create(path, &how, err);
        if (rc) break;
    }
    while (rc && made--)
        if (!machine_file(k->m, k->image[made].name, path, sizeof path, &(struct vm_error){ "" })) unlink(path);
    return rc;
}

static int config_write(const struct machine *m, const struct config *c, struct vm_error *err)
{
    int fd = open(m->config, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FILE *out = fd < 0 ? NULL : fdopen(fd, "w");
    if (fd < 0 && errno == EEXIST) return vm_fail(err, -EEXIST, "there is a machine '%s' already", m->name);
    if (!out) return vm_fail(err, -errno, "%.300s: %s", m->config, strerror(errno));
    int rc = config_print(c, out);
    if (fclose(out)) rc = -errno;
    if (!rc) return 0;
    unlink(m->config);
    return vm_fail(err, rc, "%.300s: %s", m->config, strerror(-rc));
}

static int make(struct making *k, struct config *c, struct vm_error *err)
{
    int rc = config_each(c, verbs[VERB_RUN].options, text_change, k, err);
    if (!rc) rc = settings_try(c, err);
    if (!rc) rc = machine_make_folders(k->m, err);
    if (!rc) rc = images_make(k, err);
    return rc ? rc : config_write(k->m, c, err);
}

int machine_new(const char *name, int argc, char **argv, struct vm_error *err)
{
    struct machine m;
    struct config *c = NULL;
    struct making k = { .m = &m };
    int rc = machine_named(&m, name, err);
    if (!rc && !access(m.config, F_OK)) rc = vm_fail(err, -EEXIST, "there is a machine '%s' already", name);
    if (!rc) rc = settings_join(&c, argc, argv, err);
    if (!rc && !(k.here = getcwd(NULL, 0))) rc = vm_fail(err, -errno, "the current directory: %s", strerror(errno));
    if (!rc) rc = make(&k, c, err);
    free(k.here);
    config_free(c);
    if (rc) return rc;
    printf("%s: transvisor start %s --console runs it; it is described in %s\n", name, name, m.config);
    return 0;
}
