/* Owns what `transvisor img` prints, and its exit status: 0, or of a check 1 it could not be made, 2 there are errors,
 * 3 room is lost only, 63 the format has nothing to check. */
#include "src/face/img.h"
#include "src/face/json.h"

#include <errno.h>
#include <string.h>

enum { STATUS_CORRUPT = 2, STATUS_LEAKS = 3, STATUS_NO_CHECK = 63 };

static const char *const format_names[] = { [VM_FORMAT_RAW] = "raw", [VM_FORMAT_QCOW2] = "qcow2" };

/* "1.5 GiB" */
static const char *human(u64 bytes, char *text, size_t room)
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double v = (double)bytes;
    unsigned i = 0;
    for (; v >= 1024 && i + 1 < ARRAY_LEN(units); i++) v /= 1024;
    snprintf(text, room, "%.3g %s", v, units[i]);
    return text;
}

static void info_print(const char *file, const struct vm_image_info *f)
{
    char size[32], room[32];
    printf("image: %s\nfile format: %s\nvirtual size: %s (%llu bytes)\ndisk size: %s\n", file, format_names[f->format],
           human(f->bytes, size, sizeof size), (unsigned long long)f->bytes, human(f->file_bytes, room, sizeof room));
    if (f->format != VM_FORMAT_QCOW2) return;
    printf("cluster_size: %llu\n", (unsigned long long)f->cluster);
    if (f->backing[0]) printf("backing file: %s\n", f->backing);
    if (f->backing_format[0]) printf("backing file format: %s\n", f->backing_format);
    printf("compat: %s\nlazy refcounts: %s\nrefcount bits: %u\ndirty: %s\ncorrupt: %s\n",
           f->version == 2 ? "0.10" : "1.1", f->lazy_refcounts ? "true" : "false", f->refcount_bits,
           f->dirty ? "true" : "false", f->corrupt ? "true" : "false");
}

static void info_print_json(const char *file, const struct vm_image_info *f)
{
    printf("{\n  \"filename\": ");
    json_print(file);
    printf(",\n  \"format\": \"%s\",\n  \"virtual-size\": %llu,\n  \"actual-size\": %llu", format_names[f->format],
           (unsigned long long)f->bytes, (unsigned long long)f->file_bytes);
    if (f->format == VM_FORMAT_QCOW2) {
        printf(",\n  \"cluster-size\": %llu,\n  \"dirty-flag\": %s", (unsigned long long)f->cluster,
               f->dirty ? "true" : "false");
        if (f->backing[0]) {
            printf(",\n  \"backing-filename\": ");
            json_print(f->backing);
        }
        if (f->backing_format[0]) {
            printf(",\n  \"backing-filename-format\": ");
            json_print(f->backing_format);
        }
        printf(",\n  \"format-specific\": { \"type\": \"qcow2\", \"data\": { \"compat\": \"%s\", \"lazy-refcounts\": "
               "%s, \"refcount-bits\": %u, \"corrupt\": %s } }",
               f->version == 2 ? "0.10" : "1.1", f->lazy_refcounts ? "true" : "false", f->refcount_bits,
               f->corrupt ? "true" : "false");
    }
    puts("\n}");
}

static int run_info(const struct img_args *a, struct vm_error *err)
{
    struct vm_image_info f;
    int rc = vm_image_info(a->file, (enum vm_format)(a->format + 1), &f, err);
    if (rc) return rc;
    if (a->json) info_print_json(a->file, &f);
    else info_print(a->file, &f);
    return 0;
}

static void check_print(const struct img_args *a, const struct vm_image_check *c)
{
    const unsigned long long found = c->corruptions, lost = c->leaks, left = c->corruptions_left;
    if (a->json) {
        printf("{\n  \"filename\": ");
        json_print(a->file);
        printf(",\n  \"format\": \"qcow2\",\n  \"check-errors\": 0,\n  \"corruptions\": %llu,\n  \"leaks\": %llu,\n"
               "  \"corruptions-fixed\": %llu,\n  \"leaks-fixed\": %llu,\n  \"allocated-clusters\": %llu,\n"
               "  \"total-clusters\": %llu\n}\n",
               left, (unsigned long long)c->leaks_left, found - left, lost - c->leaks_left,
               (unsigned long long)c->allocated_clusters, (unsigned long long)c->clusters);
        return;
    }
    if (a->quiet) return;
    if (!found && !lost) puts("No errors were found on the image.");
    if (found)
        printf("%llu errors were found%s.\n", found,
               !a->repair ? ""
               : left     ? ", and some not repaired"
                          : ", and repaired");
    if (lost)
        printf("%llu clusters are counted that nobody uses%s.\n", lost,
               c->leaks_left ? "; no data is lost" : ", and were freed");
    printf("%llu of %llu clusters of the disk are allocated.\n", (unsigned long long)c->allocated_clusters,
           (unsigned long long)c->clusters);
}

static int run_check(struct img_args *a, struct vm_error *err)
{
    struct vm_image_check c;
    if (a->repair_choice >= 0) a->repair = true;
    int rc = vm_image_check(a->file, (enum vm_format)(a->format + 1), a->repair, &c, err);
    if (rc == -EOPNOTSUPP) {
        fprintf(stderr, "transvisor: %s\n", err->text);
        return STATUS_NO_CHECK;
    }
    if (rc) return rc == -EINVAL ? -EIO : rc; /* a damaged image is no wrong use */
    check_print(a, &c);
    return c.corruptions_left ? STATUS_CORRUPT : c.leaks_left ? STATUS_LEAKS : 0;
}

int img_run(enum verb_id id, struct img_args *a, struct vm_error *err)
{
    int format = id == VERB_IMG_CREATE ? a->format : a->output_format;
    a->json |= a->json_choice == 1;
    a->how.format = format < 0 ? VM_FORMAT_RAW : (enum vm_format)(format + 1);
    a->how.backing_format = (enum vm_format)(a->backing_format + 1);
    switch (id) {
    case VERB_IMG_CREATE:
        if (a->how.backing && !(a->backing_format + 1)) {
            snprintf(err->text, sizeof err->text, "--backing %.200s: say its format: -F raw, or -F qcow2",
                     a->how.backing);
            return -EINVAL;
        }
        return vm_image_create(a->file, &a->how, err);
    case VERB_IMG_INFO: return run_info(a, err);
    case VERB_IMG_CONVERT: return vm_image_convert(a->file, (enum vm_format)(a->format + 1), a->to, &a->how, err);
    case VERB_IMG_CHECK: return run_check(a, err);
    default: return vm_image_commit(a->file, err);
    }
}
