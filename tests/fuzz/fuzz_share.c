/* Guests that lie to a shared folder: messages of 9P2000.L, by the book, nearly so, and not at all. Nothing may crash,
 * stop for ever, or reach what is beside the folder; what is answered has the size that it says; and at any moment the
 * session can be saved and loaded.
 *
 *   fuzz_share [--seed N] [--count N]
 *   libfuzzer_share (-DTRANSVISOR_FUZZER=ON): the input is the choices that a seed makes otherwise. */
#define _GNU_SOURCE
#include "core/snap.h"
#include "src/back/share_9p.h"
#include "src/back/share_wire.h"
#include "tests/fuzz/choice.h"

#include <fcntl.h>
#include <ftw.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char top[64], dir[80];
static u64 answers, errors;

static int removed(const char *path, const struct stat *st UNUSED, int type UNUSED, struct FTW *f)
{
    return f->level ? remove(path) : 0;
}

static void file_make(const char *folder, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    BUG_ON(fd < 0 || write(fd, "kept", 4) != 4);
    close(fd);
}

static void folder_make(void)
{
    char path[128];
    nftw(dir, removed, 16, FTW_DEPTH | FTW_PHYS);
    (void)!mkdir(dir, 0700);
    file_make(dir, "a");
    snprintf(path, sizeof path, "%s/d", dir);
    (void)!mkdir(path, 0700);
    file_make(path, "b");
    snprintf(path, sizeof path, "%s/l", dir);
    (void)!symlink("../outside", path);
    snprintf(path, sizeof path, "%s/u", dir);
    (void)!symlink("..", path);
}

/* What is beside the folder is as it was. */
static void check_outside(void)
{
    char path[128], text[8] = "";
    struct stat st;
    snprintf(path, sizeof path, "%s/outside", top);
    int fd = open(path, O_RDONLY);
    BUG_ON(fd < 0 || read(fd, text, 7) != 4 || strcmp(text, "kept"));
    BUG_ON(fstat(fd, &st) || (st.st_mode & 0777) != 0600 || st.st_nlink != 1);
    close(fd);
    BUG_ON(stat(top, &st) || st.st_nlink != 3); /* one folder */
}

/* The fields of each message: numbers of 1, 2, 4 and 8 bytes, f a fid, s a name, e the bytes of a write. */
static const struct {
    u8 type;
    const char *form;
} messages[] = { { 100, "ds" },     { 104, "fdssd" },     { 110, "ffws" },  { 110, "ffwss" }, { 12, "fd" },
                 { 14, "fsddd" },   { 16, "fssd" },       { 18, "fsdddd" }, { 20, "ffs" },    { 22, "f" },
                 { 24, "fq" },      { 26, "fddddqqqqq" }, { 30, "ffs" },    { 40, "fqd" },    { 50, "fd" },
                 { 52, "fbdqqds" }, { 54, "fbqqds" },     { 70, "ffs" },    { 72, "fsdd" },   { 74, "fsfs" },
                 { 76, "fsd" },     { 8, "f" },           { 102, "fssd" },  { 108, "w" },     { 116, "fqd" },
                 { 118, "fqde" },   { 120, "f" },         { 122, "f" } };

static u64 number(unsigned bytes)
{
    static const u64 odd[] = { 0,     1,       2,          3,          0100644, 0100,      0200,
                               01000, 0200000, 0x7fffffff, 0xffffffff, ~0ull,   1ull << 63 };
    u64 v = rnd(3) ? rnd(64) : odd[rnd(ARRAY_LEN(odd))];
    return bytes == 8 ? v : v & ((1ull << 8 * bytes) - 1);
}

static void name_put(struct wire_out *m)
{
    static const char *const names[] = { "a", "b", "d", "l",          "u",        "n",  "..",
                                         ".", "",  "/", "../outside", "9P2000.L", "d/b" };
    u32 k = rnd(3) ? rnd(6) : rnd(ARRAY_LEN(names) + 2);
    if (k < ARRAY_LEN(names)) wire_put_string(m, names[k]);
    else if (rnd(2)) wire_put(m, rnd(0x10000), 2);
    else {
        char name[300];
        memset(name, 'x', sizeof name);
        name[rnd(sizeof name)] = 0;
        name[sizeof name - 1] = 0;
        wire_put_string(m, name);
    }
}

static void message_make(struct wire_out *m)
{
    u32 k = rnd(ARRAY_LEN(messages) + 1);
    if (k < 2 && rnd(20)) k = 2; /* seldom a new session, often a walk */
    wire_put(m, 0, 4);
    wire_put(m, k < ARRAY_LEN(messages) && rnd(50) ? messages[k].type : rnd(256), 1);
    wire_put(m, rnd(4), 2);
    for (const char *f = k < ARRAY_LEN(messages) ? messages[k].form : "dddd"; *f; f++) {
        switch (*f) {
        case 'b': wire_put(m, rnd(4), 1); break;
        case 'w': wire_put(m, rnd(4), 2); break;
        case 'd': wire_put(m, number(4), 4); break;
        case 'q': wire_put(m, number(8), 8); break;
        case 'f': wire_put(m, rnd(30) ? rnd(4) : number(4), 4); break;
        case 's': name_put(m); break;
        case 'e':
            for (u32 n = rnd(64); n; n--) wire_put(m, n, 1);
            break;
        }
    }
    if (!rnd(20) && m->n) m->n -= rnd(m->n);
    wire_patch(m, 0, rnd(20) ? m->n : number(4), 4);
}

static void step(struct share_session *s)
{
    static u8 message[0x1000], answer[0x4000];
    struct wire_out m = { message, 0, sizeof message, false };
    message_make(&m);
    const u32 room = rnd(10) ? sizeof answer : rnd(64), cut = rnd(m.n + 1), cut2 = rnd(room + 1);
    const struct iovec out[] = { { message, cut }, { message + cut, m.n - cut } };
    const struct iovec in[] = { { answer, cut2 }, { answer + cut2, room - cut2 } };
    struct sharedev_req r = { .out = out, .in = in, .nout = 2, .nin = 2, .out_len = m.n, .in_len = room };
    share_session_serve(s, &r);
    BUG_ON(r.written > room);
    if (!r.written) return;
    struct wire_in head = { answer, r.written, false };
    BUG_ON(r.written < 7 || wire_get32(&head) != r.written);
    answers++;
    errors += answer[4] == 7;
    if (rnd(200)) return;
    struct byte_queue state = { 0 }; /* the machine is saved, and loaded, perhaps from a file that lies */
    share_session_save(s, &state);
    if (state.len && !rnd(4)) state.data[rnd(state.len)] ^= (u8)(1u << rnd(8));
    share_session_load(s, &state);
    byte_queue_free(&state);
}

static void guest(unsigned steps)
{
    struct share_session *s;
    static const u8 version[] = { 21, 0, 0, 0, 100, 0, 0, 0, 64, 0, 0, 8, 0, '9', 'P', '2', '0', '0', '0', '.', 'L' };
    static const u8 attach[] = { 23, 0, 0, 0, 104, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0 };
    u8 answer[64];
    folder_make();
    BUG_ON(share_session_new(&s, dir, !rnd(8), 32));
    for (unsigned i = 0; i < 2; i++) {
        const struct iovec out = { (u8 *)(i ? attach : version), i ? sizeof attach : sizeof version };
        const struct iovec in = { answer, sizeof answer };
        struct sharedev_req r = {
            .out = &out, .in = &in, .nout = 1, .nin = 1, .out_len = (u32)out.iov_len, .in_len = 64
        };
        share_session_serve(s, &r);
        BUG_ON(answer[4] == 7);
    }
    while (steps-- && (!input || left)) step(s);
    share_session_free(s);
    check_outside();
}

static void top_make(void)
{
    strcpy(top, "/tmp/fuzz-share-XXXXXX");
    BUG_ON(!mkdtemp(top));
    snprintf(dir, sizeof dir, "%s/shared", top);
    BUG_ON(mkdir(dir, 0700));
    file_make(top, "outside");
}

#ifdef LIBFUZZER
int LLVMFuzzerTestOneInput(const u8 *data, size_t n);
int LLVMFuzzerTestOneInput(const u8 *data, size_t n)
{
    if (!*top) top_make();
    choose_by_input(data, n);
    guest(1000);
    return 0;
}
#else
int main(int argc, char **argv)
{
    u64 count = 1000;
    if (!choose_by_options(argc, argv, &count)) return 2;
    top_make();
    for (u64 n = 0; n < count; n++) guest(rnd(200));
    nftw(top, removed, 16, FTW_DEPTH | FTW_PHYS);
    rmdir(top);
    printf("%llu guests, %llu messages answered, %llu of them with an error\n", (unsigned long long)count,
           (unsigned long long)answers, (unsigned long long)errors);
    return count >= 100 && (errors > answers - answers / 50 || !errors); /* both must be reached */
}
#endif
