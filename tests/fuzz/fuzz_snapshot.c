/* Saved machines that lie. A file's checksums are made to fit after it has been changed, so that what is behind them is
 * reached: each is refused with a reason or loaded, and what has been loaded runs for a moment, whatever state it is
 * in. Nothing may crash, or stop for ever.
 *
 *   fuzz_snapshot [--seed N] [--count N] [--from N] [--seconds N] [--verbose]
 *
 * Built with -DLIBFUZZER by clang -fsanitize=fuzzer it is a libFuzzer target: an input is sections, each a length of
 * the name (1 byte), the name, a length (4 bytes) and the contents. --write FILE makes the first input of a corpus. */
#define _GNU_SOURCE
#include "src/snap/file.h"
#include "transvisor/vm.h"

#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SECTIONS_MAX 64u
#define RUN_MS 3

struct section {
    char name[SNAP_NAME_MAX + 1];
    u8 *data;
    size_t len;
};
struct file {
    struct section s[SECTIONS_MAX];
    unsigned n;
};

/* ---- files ---- */

static void file_free(struct file *f)
{
    for (unsigned i = 0; i < f->n; i++) free(f->s[i].data);
    f->n = 0;
}

static void file_add(struct file *f, const char *name, const u8 *data, size_t len)
{
    if (f->n == SECTIONS_MAX) return;
    struct section *s = &f->s[f->n++];
    size_t n = strnlen(name, SNAP_NAME_MAX);
    memmove(s->name, name, n);
    s->name[n] = '\0';
    s->data = malloc(len + 1);
    BUG_ON(!s->data);
    memcpy(s->data, data, len);
    s->len = len;
}

/* With checksums that fit. */
static int file_write(const struct file *f)
{
    int fd = memfd_create("snapshot", MFD_CLOEXEC);
    struct snap_writer *w = NULL;
    BUG_ON(fd < 0 || snap_writer_new(&w, fd));
    for (unsigned i = 0; i < f->n; i++) BUG_ON(snap_write(w, f->s[i].name, f->s[i].data, f->s[i].len));
    snap_writer_free(w);
    lseek(fd, 0, SEEK_SET);
    return fd;
}

/* ---- one case ---- */

/* Stops the machine that runs, after RUN_MS. */
static struct {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct vm *vm;
} stopper = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void *stopper_thread(void *arg UNUSED)
{
    const struct timespec moment = { 0, RUN_MS * 1000000 };
    pthread_mutex_lock(&stopper.lock);
    for (;;) {
        while (!stopper.vm) pthread_cond_wait(&stopper.changed, &stopper.lock);
        pthread_mutex_unlock(&stopper.lock);
        nanosleep(&moment, NULL);
        pthread_mutex_lock(&stopper.lock);
        vm_stop(stopper.vm);
        stopper.vm = NULL;
        pthread_cond_signal(&stopper.changed);
    }
    return NULL;
}

static void run_a_moment(struct vm *vm)
{
    struct vm_error err;
    if (!stopper.thread) BUG_ON(pthread_create(&stopper.thread, NULL, stopper_thread, NULL));
    pthread_mutex_lock(&stopper.lock);
    stopper.vm = vm;
    pthread_cond_signal(&stopper.changed);
    pthread_mutex_unlock(&stopper.lock);
    (void)vm_run(vm, &err);
    pthread_mutex_lock(&stopper.lock);
    while (stopper.vm) pthread_cond_wait(&stopper.changed, &stopper.lock);
    pthread_mutex_unlock(&stopper.lock);
}

/* 0: it was loaded, and ran. */
static int load_and_run(int fd, bool interp, struct vm_error *err)
{
    struct vm_config cfg = { .size = sizeof cfg,
                             .serial = "null",
                             .engine = interp ? VM_ENGINE_INTERP : VM_ENGINE_BT,
                             .direct = VM_DIRECT_OFF,
                             .code_cache = 4u << 20,
                             .no_reboot = true };
    struct vm *vm = NULL;
    *err->text = 0;
    int rc = vm_load(&vm, &cfg, fd, err);
    if (rc) {
        BUG_ON(!*err->text); /* each refusal has a reason */
        return rc;
    }
    run_a_moment(vm);
    vm_free(vm);
    return 0;
}

#ifdef LIBFUZZER

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    static struct file f;
    const u8 *p = data, *end = data + size;
    struct vm_error err;
    f.n = 0;
    while (p < end) {
        char name[SNAP_NAME_MAX + 1] = "";
        size_t n = *p++;
        u32 len;
        if (n > SNAP_NAME_MAX || (size_t)(end - p) < n + 4) break;
        memcpy(name, p, n);
        memcpy(&len, p + n, 4);
        p += n + 4;
        if (len > (size_t)(end - p)) len = (u32)(end - p);
        file_add(&f, name, p, len);
        p += len;
    }
    int fd = file_write(&f);
    (void)load_and_run(fd, size & 1, &err);
    close(fd);
    file_free(&f);
    return 0;
}

#else

static u64 rng;
static u64 rnd(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return rng * 0x2545f4914f6cdd1dull;
}

static void file_copy(struct file *to, const struct file *from)
{
    to->n = 0;
    for (unsigned i = 0; i < from->n; i++) file_add(to, from->s[i].name, from->s[i].data, from->s[i].len);
}

/* ---- the file that the others are made of ---- */

/* Multiboot: counts in memory and speaks to a few chips, for ever. */
static const u8 guest[] = {
    0x02, 0xb0, 0xad, 0x1b, 0x00, 0x00, 0x01, 0x00, 0xfe, 0x4f, 0x51, 0xe4, 0x00,
    0x00, 0x10, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x20, 0x00, 0x10, 0x00, 0xff, 0x05, 0x00, 0x00, 0x20, 0x00, /* inc [200000h] */
    0xe4, 0x40, 0xe6, 0x80, 0xe4, 0x71, 0xe4, 0x60, /* in al,40h; out 80h,al; in al,71h; in al,60h */
    0xd9, 0xe8, 0xdd, 0xd8,                         /* fld1; fstp st0 */
    0xeb, 0xec,
};

static void base_make(struct file *f)
{
    char path[] = "/tmp/fuzz-snapshot-XXXXXX";
    struct vm_error err = { "" };
    struct vm *vm = NULL;
    int kernel = mkstemp(path), fd = memfd_create("base", MFD_CLOEXEC);
    BUG_ON(kernel < 0 || fd < 0 || write(kernel, guest, sizeof guest) != (ssize_t)sizeof guest);
    close(kernel);
    struct vm_config cfg = {
        .size = sizeof cfg, .kernel = path, .serial = "null", .memory = VM_MEMORY_MIN, .engine = VM_ENGINE_INTERP
    };
    if (vm_create(&vm, &cfg, &err)) fprintf(stderr, "fuzz_snapshot: %s\n", err.text);
    BUG_ON(!vm);
    run_a_moment(vm);
    if (vm_save(vm, fd, &err)) fprintf(stderr, "fuzz_snapshot: %s\n", err.text);
    vm_free(vm);
    unlink(path);
    lseek(fd, 0, SEEK_SET);
    struct snap_reader *r = NULL;
    struct snap_section s;
    const char *why;
    BUG_ON(snap_reader_new(&r, fd, &why));
    do {
        BUG_ON(snap_read(r, &s, &why));
        file_add(f, s.name, s.data, s.len);
    } while (strcmp(s.name, "end"));
    snap_reader_free(r);
    close(fd);
}

/* ---- changes ---- */

static u64 strange(void)
{
    static const u64 values[] = { 0,
                                  1,
                                  2,
                                  7,
                                  8,
                                  0xf,
                                  0x10,
                                  0x20,
                                  0x7f,
                                  0x80,
                                  0xff,
                                  0x100,
                                  0xfff,
                                  0x1000,
                                  0x7fff,
                                  0xffff,
                                  0x10000,
                                  0xfee00000,
                                  0x7fffffff,
                                  0x80000000,
                                  0xffffffff,
                                  0x100000000,
                                  0x7fffffffffffffff,
                                  0x8000000000000000,
                                  ~0ull };
    u64 v = values[rnd() % ARRAY_LEN(values)];
    switch (rnd() % 4) {
    case 0: return v;
    case 1: return v - 1;
    case 2: return rnd() >> rnd() % 64;
    default: return 1ull << rnd() % 64;
    }
}

/* The values of one field, chosen at random: names and types stay, else little would come of it. */
static void change_value(struct section *s)
{
    static const u8 width[] = { 0, 1, 1, 2, 4, 8, 4, 8, 9 };
    u8 *at[256];
    unsigned n = 0, w[256], count[256];
    size_t p = 4;
    while (p + 6 < s->len && n < ARRAY_LEN(at)) {
        size_t name = s->data[p], type, values;
        u32 many;
        if (p + 1 + name + 5 > s->len) break;
        type = s->data[p + 1 + name];
        memcpy(&many, s->data + p + 2 + name, 4);
        values = p + 6 + name;
        if (!type || type >= sizeof width) { /* a queue: its length, then as many bytes */
            u32 len;
            if (values + 4 > s->len) break;
            memcpy(&len, s->data + values, 4);
            p = values + 4 + len;
            continue;
        }
        if (values + (size_t)many * width[type] > s->len || !many) break;
        at[n] = s->data + values;
        w[n] = width[type];
        count[n++] = many;
        p = values + (size_t)many * width[type];
    }
    if (!n) return;
    unsigned i = (unsigned)(rnd() % n);
    u64 v = strange();
    memcpy(at[i] + (rnd() % count[i]) * w[i] + (w[i] == 9), &v, w[i] == 9 ? 8 : w[i]);
    if (w[i] == 9) at[i][0] = rnd() & 1;
}

static void change(struct file *f)
{
    struct section *s = &f->s[rnd() % f->n];
    unsigned kind = (unsigned)(rnd() % 32);
    if (!s->len) return;
    if (kind < 24 && strcmp(s->name, "ram")) change_value(s);
    else if (kind < 29) s->data[rnd() % s->len] = (u8)strange();
    else if (kind == 29) s->len = rnd() % s->len;
    else if (kind == 30) {
        struct section t = *s, *other = &f->s[rnd() % f->n];
        *s = *other;
        *other = t;
    } else {
        file_add(f, s->name, s->data, s->len);
    }
}

static u64 now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec;
}

static int write_input(const struct file *f, const char *path)
{
    FILE *out = fopen(path, "we");
    if (!out) return 1;
    for (unsigned i = 0; i < f->n; i++) {
        u32 len = (u32)f->s[i].len;
        fputc((int)strlen(f->s[i].name), out);
        fputs(f->s[i].name, out);
        fwrite(&len, 4, 1, out);
        fwrite(f->s[i].data, len, 1, out);
    }
    return fclose(out) != 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = { { "seed", required_argument, 0, 's' },
                                             { "count", required_argument, 0, 'c' },
                                             { "from", required_argument, 0, 'f' },
                                             { "seconds", required_argument, 0, 't' },
                                             { "verbose", no_argument, 0, 'v' },
                                             { "write", required_argument, 0, 'w' },
                                             { 0 } };
    static struct file base, f;
    u64 seed = 1, count = ~0ull, from = 0, seconds = 1u << 30, loaded = 0, number;
    const char *path = NULL;
    bool verbose = false;
    struct vm_error err;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) >= 0;) switch (o) {
        case 's': seed = strtoull(optarg, NULL, 0); break;
        case 'c': count = strtoull(optarg, NULL, 0); break;
        case 'f': from = strtoull(optarg, NULL, 0); break;
        case 't': seconds = strtoull(optarg, NULL, 0); break;
        case 'v': verbose = true; break;
        case 'w': path = optarg; break;
        default: return 2;
        }
    base_make(&base);
    if (path) return write_input(&base, path);
    u64 begin = now_s();
    for (number = from; number - from < count && now_s() - begin < seconds; number++) {
        rng = (seed << 40 | (number + 1)) * 0x9e3779b97f4a7c15ull | 1;
        for (unsigned i = 0; i < 8; i++) (void)rnd();
        file_copy(&f, &base);
        for (unsigned i = (unsigned)(rnd() % 4); number && i < 4; i++) change(&f);
        int fd = file_write(&f);
        if (verbose) fprintf(stderr, "case %llu\n", (unsigned long long)number);
        int rc = load_and_run(fd, rnd() & 1, &err);
        if (verbose) fprintf(stderr, "case %llu: %d %s\n", (unsigned long long)number, rc, err.text);
        loaded += !rc;
        close(fd);
        file_free(&f);
        if (!number && rc) {
            printf("the file as it was made is refused: %s\n", err.text);
            return 1;
        }
    }
    printf("%llu cases, %llu of them loaded and run\n", (unsigned long long)(number - from),
           (unsigned long long)loaded);
    return number - from > 100 && (loaded * 20 < number - from || loaded == number - from); /* both must be reached */
}
#endif
