/* Owns the words of `transvisor img`. */
#include "src/face/img.h"
#include "src/error.h"

#include <errno.h>
#include <string.h>

static const char *const format_names[] = { "raw", "qcow2", NULL }; /* in the order of enum vm_format */
static const char *const output_names[] = { "human", "json", NULL };
static const char *const repair_names[] = { "all", "leaks", NULL };

static int format_named(const char *name)
{
    for (int i = 0; format_names[i]; i++)
        if (!strcmp(format_names[i], name)) return i;
    return -1;
}

/* One KEY=VALUE of -o. */
static int option_word(struct img_args *a, const char *typed, const char *key, const char *value, struct vm_error *err)
{
    u64 n = 0;
    bool fine = true;
    if (!strcmp(key, "compat") || !strcmp(key, "version")) {
        if (!strcmp(value, "0.10") || !strcmp(value, "v2") || !strcmp(value, "2")) a->how.version = 2;
        else if (!strcmp(value, "1.1") || !strcmp(value, "v3") || !strcmp(value, "3")) a->how.version = 3;
        else fine = false;
    } else if (!strcmp(key, "cluster_size")) {
        fine = !parse_size(value, 1, &a->how.cluster) && a->how.cluster;
    } else if (!strcmp(key, "refcount_bits")) {
        fine = !parse_u64(value, 64, &n) && n;
        a->how.refcount_bits = (unsigned)n;
    } else if (!strcmp(key, "lazy_refcounts")) {
        a->how.lazy_refcounts = !strcmp(value, "on");
        fine = a->how.lazy_refcounts || !strcmp(value, "off");
    } else if (!strcmp(key, "size")) {
        fine = !parse_size(value, 1, &a->how.bytes) && a->how.bytes;
    } else if (!strcmp(key, "backing_file")) {
        a->how.backing = value;
    } else if (!strcmp(key, "backing_fmt")) {
        a->backing_format = format_named(value);
        fine = a->backing_format >= 0;
    } else {
        return vm_fail(err, -EINVAL,
                       "%s: '%.64s' is none of compat, cluster_size, refcount_bits, lazy_refcounts, backing_file, "
                       "backing_fmt, size",
                       typed, key);
    }
    return fine ? 0 : vm_fail(err, -EINVAL, "%s: %s=%.64s is out of range", typed, key, value);
}

/* KEY=VALUE[,KEY=VALUE..], taken apart where they are, in argv. A comma in a value is typed twice. */
static int parse_options(void *args, const char *typed, const char *value, struct vm_error *err)
{
    char *from = (char *)value, *to = from, *word = from;
    int rc = 0;
    for (bool end = false; !end && !rc;) {
        if (from[0] == ',' && from[1] == ',') from++;
        else if (!*from || *from == ',') {
            end = !*from;
            *to = 0;
            char *equals = strchr(word, '=');
            if (!equals) return vm_fail(err, -EINVAL, "%s: '%.64s' is not KEY=VALUE", typed, word);
            *equals = 0;
            rc = option_word(args, typed, word, equals + 1, err);
            to = word = ++from;
            continue;
        }
        *to++ = *from++;
    }
    return rc;
}

#define IMG(field) .at = offsetof(struct img_args, field)
/* clang-format off */
#define FILE_ROW(what) \
    { .name = "file", .type = OPT_STRING, .rank = OPT_COMMON, .required = true, .operand = true, IMG(file), \
      .arg = "FILE", .help = what }
#define FORMAT_ROW(what) \
    { .name = "format", .aliases = "f", .type = OPT_CHOICE, .rank = OPT_COMMON, IMG(format), .arg = "raw|qcow2", \
      .choices = format_names, .help = what }
#define OPTIONS_ROW \
    { .name = "options", .aliases = "o", .type = OPT_CALL, .rank = OPT_COMMON, .parse = parse_options, \
      .arg = "KEY=VALUE,..", \
      .help = "qcow2: compat=0.10|1.1, cluster_size=SIZE, refcount_bits=N, lazy_refcounts=on" }
#define OUTPUT_ROWS \
    { .name = "json", .type = OPT_FLAG, .rank = OPT_COMMON, IMG(json), .help = "as one JSON object" }, \
    { .name = "output", .type = OPT_CHOICE, .rank = OPT_FOREIGN, IMG(json_choice), \
      .arg = "human|json", .choices = output_names, .help = "json is --json" }
#define LAST_ROWS \
    { .name = "quiet", .aliases = "q", .type = OPT_FLAG, .rank = OPT_COMMON, IMG(quiet), \
      .help = "print nothing but errors" }, \
    { .name = "progress", .aliases = "p", .type = OPT_NOTHING, .rank = OPT_FOREIGN, .help = "has no effect" }, \
    { .name = "help", .aliases = "h ? help-all", .type = OPT_HELP }, \
    { 0 }

const struct opt img_create_options[] = {
    FILE_ROW("the image; what it holds already is lost"),
    { .name = "size", .type = OPT_SIZE, .rank = OPT_COMMON, .operand = true, IMG(how.bytes), .arg = "SIZE", .min = 1,
      .max = INT64_MAX, .unit = 1, .help = "of the disk: bytes, or with K, M, G, T [as what it is based on]" },
    FORMAT_ROW("format of the image [raw]"),
    { .name = "backing", .aliases = "b", .type = OPT_STRING, .rank = OPT_COMMON, IMG(how.backing), .arg = "FILE",
      .help = "what a qcow2 image is based on, from its own folder" },
    { .name = "backing-format", .aliases = "F", .type = OPT_CHOICE, .rank = OPT_COMMON, IMG(backing_format),
      .arg = "raw|qcow2", .choices = format_names, .help = "and the format of that" },
    OPTIONS_ROW,
    LAST_ROWS
};

const struct opt img_info_options[] = {
    FILE_ROW("the image"),
    FORMAT_ROW("its format [what its first bytes say]"),
    OUTPUT_ROWS,
    LAST_ROWS
};

const struct opt img_convert_options[] = {
    FILE_ROW("the image; what it is based on is copied, too"),
    { .name = "to", .type = OPT_STRING, .rank = OPT_COMMON, .required = true, .operand = true, IMG(to), .arg = "TO",
      .help = "the new image; what it holds already is lost" },
    FORMAT_ROW("format of FILE [what its first bytes say]"),
    { .name = "output-format", .aliases = "O", .type = OPT_CHOICE, .rank = OPT_COMMON, IMG(output_format),
      .arg = "raw|qcow2", .choices = format_names, .cure = "qemu-img convert makes others",
      .help = "format of the new image [raw]" },
    OPTIONS_ROW,
    { .name = "c", .type = OPT_LATER, .rank = OPT_FOREIGN,
      .help = "compressed images are read, but not made yet; qemu-img convert -c makes them" },
    LAST_ROWS
};

const struct opt img_check_options[] = {
    FILE_ROW("the image"),
    FORMAT_ROW("its format [what its first bytes say]"),
    { .name = "repair", .type = OPT_FLAG, .rank = OPT_COMMON, IMG(repair), .help = "mend what can be mended" },
    { .name = "r", .type = OPT_CHOICE, .rank = OPT_FOREIGN, IMG(repair_choice), .arg = "all|leaks",
      .choices = repair_names, .help = "either is --repair" },
    OUTPUT_ROWS,
    LAST_ROWS
};

const struct opt img_commit_options[] = {
    FILE_ROW("the qcow2 image: its contents go to what it is based on, and it is empty then"),
    LAST_ROWS
};
/* clang-format on */

void img_args_init(struct img_args *a)
{
    *a = (struct img_args){
        .format = -1, .output_format = -1, .backing_format = -1, .repair_choice = -1, .how = { .size = sizeof a->how }
    };
}
