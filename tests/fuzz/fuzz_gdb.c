/* Debuggers that lie, or speak nonsense (src/face/gdb.c). Packets are changed at random, framed rightly or not, cut and
 * joined. Nothing may crash, and what comes back is always a packet with the right sum, or an acknowledgement.
 *
 *   fuzz_gdb [--seed N] [--count N] [--from N] [--seconds N]
 *
 * Built with -DLIBFUZZER by clang -fsanitize=fuzzer it is a libFuzzer target: an input is what a debugger sends; a line
 * of it that begins with ! is framed. */
#include "src/face/gdb.h"
#include "tests/fuzz/fuzz_door.h"

static struct vm *vm;
static enum gdb_stop state;
static u64 answers;

static void send(void *arg UNUSED, const void *bytes, size_t n)
{
    const u8 *b = bytes;
    unsigned told, sum = 0;
    char hex[3] = { 0 };
    answers++;
    if (n == 1 && (*b == '+' || *b == '-')) return;
    bool packet = n >= 4 && b[0] == '$' && b[n - 3] == '#';
    for (size_t i = 1; packet && i < n - 3; i++) sum += b[i];
    if (packet) memcpy(hex, b + n - 2, 2);
    if (packet && sscanf(hex, "%x", &told) == 1 && told == (sum & 0xff)) return;
    fprintf(stderr, "no packet: %.*s\n", (int)(n < 200 ? n : 200), (const char *)bytes);
    abort();
}
static enum gdb_stop get_state(void *arg UNUSED) { return state; }
static void stop(void *arg UNUSED) { state = GDB_ASKED; }
static void go(void *arg UNUSED) { state = GDB_RUNS; }
static void step(void *arg UNUSED, bool interrupts UNUSED) { state = GDB_RUNS; }
static void nothing(void *arg UNUSED) {}

static struct gdb *client(void)
{
    const struct gdb_host host = {
        .send = send, .state = get_state, .stop = stop, .go = go, .step = step, .kill = nothing, .leave = nothing
    };
    if (!vm) vm = door_machine();
    state = GDB_ASKED;
    struct gdb *g = gdb_new(vm, &host);
    BUG_ON(!g);
    return g;
}

static void framed(struct gdb *g, const char *text, size_t n)
{
    static u8 packet[70000];
    unsigned sum = 0;
    char end[4];
    if (n > sizeof packet - 4) n = sizeof packet - 4;
    packet[0] = '$';
    memcpy(packet + 1, text, n);
    for (size_t i = 0; i < n; i++) sum += (u8)text[i];
    snprintf(end, sizeof end, "#%02x", sum & 0xff);
    memcpy(packet + 1 + n, end, 3);
    gdb_input(g, packet, n + 4);
}

/* The machine stands again, for one reason or another. */
static void stands(struct gdb *g, enum gdb_stop why)
{
    if (state != GDB_RUNS) return;
    state = why;
    gdb_changed(g);
}

#ifdef LIBFUZZER
int LLVMFuzzerTestOneInput(const u8 *data, size_t n);
int LLVMFuzzerTestOneInput(const u8 *data, size_t n)
{
    struct gdb *g = client();
    for (size_t at = 0; at < n;) {
        const u8 *end = memchr(data + at, '\n', n - at);
        size_t len = end ? (size_t)(end - data) - at : n - at;
        if (len && data[at] == '!') framed(g, (const char *)data + at + 1, len - 1);
        else gdb_input(g, data + at, len);
        stands(g, len % 2 ? GDB_BREAK : GDB_STEPPED);
        at += len + 1;
    }
    gdb_free(g);
    return 0;
}
#else
static const char *const packets[] = {
    "?",
    "g",
    "p0",
    "p1f",
    "P3=78563412",
    "G00000000",
    "m0,10",
    "m1000,ffff",
    "M1000,4:01020304",
    "X1000,3:abc",
    "X2000,0:",
    "c",
    "s",
    "C05",
    "S05",
    "c1000",
    "vCont?",
    "vCont;c",
    "vCont;s:1;c",
    "vCont;t",
    "vCtrlC",
    "Hg0",
    "Hc-1",
    "T1",
    "D",
    "k",
    "!",
    "R00",
    "qSupported:swbreak+;hwbreak+;xmlRegisters=i386",
    "qXfer:features:read:target.xml:0,ffb",
    "qXfer:features:read:i386.xml:10,20",
    "qXfer:memory-map:read::0,1000",
    "qC",
    "qAttached",
    "qfThreadInfo",
    "qsThreadInfo",
    "qThreadExtraInfo,1",
    "qRcmd,696e666f207265676973746572",
    "qRcmd,68656c70",
    "qRcmd,696e666f206d656d",
    "qOffsets",
    "qSymbol::",
    "QStartNoAckMode",
    "Z0,1000,1",
    "z0,1000,1",
    "Z1,1000,1",
    "Z2,2000,4",
    "z2,2000,4",
    "Z3,2000,1000",
    "Z4,fffffffe,8",
    "qqemu.sstep",
    "qqemu.sstepbits",
    "Qqemu.sstep=7",
    "qqemu.PhyMemMode",
    "Qqemu.PhyMemMode:1",
    "Qqemu.PhyMemMode:0",
    "qCRC:1000,20",
    "qTStatus",
    "vMustReplyEmpty",
    "vKill;1",
    "m,",
    "m0,",
    "Mffffffff,2:0000",
    "P,",
    "Z9,,",
    "qXfer:features:read::,",
    "p",
    "vCont;c;c;c;c",
};

static void one(void)
{
    static char text[4096];
    struct gdb *g = client();
    for (u64 n = 1 + rnd(20); n > 0; n--) {
        size_t len = nearly(packets, ARRAY_LEN(packets), text, sizeof text);
        switch (rnd(8)) {
        case 0: gdb_input(g, (const u8 *)text, len); break;                   /* not framed */
        case 1: gdb_input(g, (const u8 *)"$m0,4#zz+-\x03$#00}#$", 17); break; /* framed wrongly */
        case 2: gdb_input(g, (const u8 *)"\x03", 1); break;
        case 3:
            for (unsigned i = 0; i < 500; i++) gdb_input(g, (const u8 *)text, len); /* too long a packet */
            framed(g, text, len);
            break;
        default: framed(g, text, len);
        }
        if (rnd(3)) stands(g, rnd(2) ? GDB_STEPPED : GDB_BREAK);
    }
    if (!rnd(4)) gdb_exited(g, (u8)rnd(256));
    gdb_free(g);
}

int main(int argc, char **argv)
{
    int status = door_main(argc, argv, one);
    if (vm) {
        vm_free(vm);
        door_clean();
    }
    printf("%llu answers\n", (unsigned long long)answers);
    return status || !answers;
}
#endif
