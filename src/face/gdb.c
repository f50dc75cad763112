/* Owns one debugger's side of gdb's remote protocol (gdb manual, appendix E).
 *   I1  in[] holds the data of the packet that is being received, without what frames it.         [byte]
 *   I2  waits is set from a resumption until the machine's next stop has been told: then, and only then, is a stop told
 *       without a question.                                                                       [resume, gdb_changed]
 *   I3  A debugger's breakpoints are in the machine, and nowhere else: they go with it.            [gdb_free]
 * Enter at gdb_input(). Addresses are linear; x86 has no other in gdb's eyes. */
#include "src/face/gdb.h"
#include "src/face/gdb_registers.h"
#include "src/face/inspect.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define PACKET_MAX 16384u
#define REGISTERS_MAX 128u
#define SIGNAL_INT 2
#define SIGNAL_TRAP 5
#define SIGNAL_SEGV 11

enum receiving { IDLE, DATA, ESCAPED, SUM_HIGH, SUM_LOW };
enum step_flag { STEP_NO_INTERRUPTS = 2, STEP_ALL = 7 }; /* as QEMU's sstepbits; its NOTIMER is always so here */

struct gdb {
    struct vm *vm;
    struct gdb_host host;
    enum receiving receiving;
    u8 in[PACKET_MAX + 1], out[PACKET_MAX + 8];
    size_t n, out_n;
    bool overflow; /* the packet is too long: it is not answered to */
    u8 sum, told_sum;
    bool no_ack, says_why; /* says_why: it knows what swbreak and hwbreak mean */
    bool waits, physical, extended;
    unsigned step_flags;
    char *xml;
};

struct gdb *gdb_new(struct vm *vm, const struct gdb_host *host)
{
    struct gdb *g = calloc(1, sizeof *g);
    if (!g) return NULL;
    g->vm = vm;
    g->host = *host;
    g->step_flags = STEP_ALL;
    return g;
}

void gdb_free(struct gdb *g)
{
    if (!g) return;
    vm_break_remove_all(g->vm);
    free(g->xml);
    free(g);
}

/* ---- out ---- */

static const char digits[] = "0123456789abcdef";

static void out_begin(struct gdb *g)
{
    g->out[0] = '$';
    g->out_n = 1;
}
static void out_byte(struct gdb *g, u8 c)
{
    if (g->out_n < PACKET_MAX + 1) g->out[g->out_n++] = c;
}
static void out_hex(struct gdb *g, const u8 *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) out_byte(g, (u8)digits[bytes[i] >> 4]), out_byte(g, (u8)digits[bytes[i] & 15]);
}
static void out_end(struct gdb *g)
{
    u8 sum = 0;
    for (size_t i = 1; i < g->out_n; i++) sum = (u8)(sum + g->out[i]);
    g->out[g->out_n++] = '#';
    g->out[g->out_n++] = (u8)digits[sum >> 4];
    g->out[g->out_n++] = (u8)digits[sum & 15];
    g->host.send(g->host.arg, g->out, g->out_n);
}

static void reply(struct gdb *g, const char *text)
{
    out_begin(g);
    while (*text) out_byte(g, (u8)*text++);
    out_end(g);
}
static void reply_error(struct gdb *g, int rc)
{
    char text[8];
    snprintf(text, sizeof text, "E%02x", -rc & 0xff);
    reply(g, text);
}
static void reply_ok(struct gdb *g, int rc)
{
    if (rc) reply_error(g, rc);
    else reply(g, "OK");
}

/* ---- what is in a packet ---- */

static int digit(u8 c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Hexadecimal, at least one digit. */
static bool number(const char **p, u64 *out)
{
    const char *begin = *p;
    u64 v = 0;
    for (int d; (d = digit((u8) * *p)) >= 0; ++*p) {
        if (v >> 60) return false;
        v = v << 4 | (unsigned)d;
    }
    *out = v;
    return *p > begin;
}
static bool comes(const char **p, char c)
{
    if (**p != c) return false;
    ++*p;
    return true;
}
/* ADDR,LENGTH */
static bool range(const char **p, u64 *address, u64 *n) { return number(p, address) && comes(p, ',') && number(p, n); }

static bool unhex(const char *p, u8 *out, size_t n)
{
    for (size_t i = 0; i < n; i++, p += 2) {
        int high = digit((u8)p[0]), low = high < 0 ? -1 : digit((u8)p[1]);
        if (low < 0) return false;
        out[i] = (u8)(high << 4 | low);
    }
    return true;
}

static const char *after(const char *text, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(text, prefix, n) ? NULL : text + n;
}

/* ---- why it stands ---- */

static void reply_stop(struct gdb *g)
{
    char text[80];
    unsigned kinds, signal = SIGNAL_TRAP;
    u32 la, bytes;
    const char *why = "";
    char at[32] = "";
    switch (g->host.state(g->host.arg)) {
    case GDB_ASKED: signal = SIGNAL_INT; break;
    case GDB_DIED: signal = SIGNAL_SEGV; break;
    case GDB_BREAK:
        vm_break_met(g->vm, &kinds, &la, &bytes);
        if (kinds == VM_BREAK_FETCH) {
            why = g->says_why ? "swbreak:;" : "";
            break;
        }
        why = kinds == VM_BREAK_WRITE ? "watch:" : kinds == VM_BREAK_READ ? "rwatch:" : "awatch:";
        snprintf(at, sizeof at, "%x;", la);
        break;
    default: break;
    }
    snprintf(text, sizeof text, "T%02x%s%sthread:01;", signal, why, at);
    reply(g, text);
}

void gdb_changed(struct gdb *g)
{
    if (!g->waits || g->host.state(g->host.arg) == GDB_RUNS) return;
    g->waits = false;
    reply_stop(g);
}

void gdb_exited(struct gdb *g, u8 status)
{
    char text[8];
    snprintf(text, sizeof text, "W%02x", status);
    if (g->waits) reply(g, text);
    g->waits = false;
}

/* ---- registers ---- */

static void get_registers(struct gdb *g)
{
    struct vm_registers r;
    u8 v[GDB_REGISTER_BYTES_MAX];
    int rc = vm_get_registers(g->vm, &r);
    if (rc) {
        reply_error(g, rc);
        return;
    }
    out_begin(g);
    for (unsigned i = 0; i < gdb_registers(); i++) {
        gdb_register_get(&r, i, v);
        out_hex(g, v, gdb_register_bytes(i));
    }
    out_end(g);
}

/* from: hexadecimal, of registers from the first on, as many as there are. */
static int set_registers(struct gdb *g, const char *from)
{
    struct vm_registers r;
    struct vm_error err;
    u8 v[GDB_REGISTER_BYTES_MAX];
    int rc = vm_get_registers(g->vm, &r);
    for (unsigned i = 0; !rc && *from && i < gdb_registers(); i++) {
        unsigned n = gdb_register_bytes(i);
        if (!unhex(from, v, n)) return -EINVAL;
        gdb_register_set(&r, i, v);
        from += 2 * n;
    }
    return rc ? rc : vm_set_registers(g->vm, &r, &err);
}

static void get_register(struct gdb *g, const char *p)
{
    struct vm_registers r;
    u8 v[GDB_REGISTER_BYTES_MAX];
    u64 i;
    if (!number(&p, &i) || *p || i >= gdb_registers() || vm_get_registers(g->vm, &r)) {
        reply_error(g, -EINVAL);
        return;
    }
    gdb_register_get(&r, (unsigned)i, v);
    out_begin(g);
    out_hex(g, v, gdb_register_bytes((unsigned)i));
    out_end(g);
}

static int set_register(struct gdb *g, const char *p)
{
    struct vm_registers r;
    struct vm_error err;
    u8 v[GDB_REGISTER_BYTES_MAX];
    u64 i;
    if (!number(&p, &i) || !comes(&p, '=') || i >= gdb_registers()) return -EINVAL;
    if (!unhex(p, v, gdb_register_bytes((unsigned)i))) return -EINVAL;
    int rc = vm_get_registers(g->vm, &r);
    if (rc) return rc;
    gdb_register_set(&r, (unsigned)i, v);
    return vm_set_registers(g->vm, &r, &err);
}

/* ---- memory ---- */

static void get_memory(struct gdb *g, const char *p)
{
    static const u64 most = PACKET_MAX / 2;
    u8 bytes[PACKET_MAX / 2];
    u64 address, n;
    if (!range(&p, &address, &n) || *p || (!g->physical && address > UINT32_MAX)) {
        reply_error(g, -EINVAL);
        return;
    }
    if (n > most) n = most;
    u64 got = g->physical ? vm_read_physical(g->vm, address, bytes, n) : vm_read_linear(g->vm, (u32)address, bytes, n);
    if (n && !got) {
        reply_error(g, -EFAULT);
        return;
    }
    out_begin(g);
    out_hex(g, bytes, g->physical ? n : got);
    out_end(g);
}

/* ADDR,LENGTH:DATA, in hexadecimal or as it is. */
static int set_memory(struct gdb *g, const char *p, bool hex)
{
    u8 bytes[PACKET_MAX];
    u64 address, n;
    if (!range(&p, &address, &n) || !comes(&p, ':')) return -EINVAL;
    size_t left = g->n - (size_t)(p - (const char *)g->in);
    if (!g->physical && address > UINT32_MAX) return -EINVAL;
    if (hex ? left != 2 * n || n > PACKET_MAX / 2 : left != n) return -EINVAL;
    if (hex && !unhex(p, bytes, n)) return -EINVAL;
    if (!hex) memcpy(bytes, p, n);
    u64 got =
        g->physical ? vm_write_physical(g->vm, address, bytes, n) : vm_write_linear(g->vm, (u32)address, bytes, n);
    return got == n ? 0 : -EFAULT;
}

/* ---- breakpoints ---- */

/* TYPE,ADDR,KIND[;conditions]; the kind of a watchpoint is its length. */
static void breakpoint(struct gdb *g, const char *p, bool add)
{
    static const unsigned kinds[] = { VM_BREAK_FETCH, VM_BREAK_FETCH, VM_BREAK_WRITE, VM_BREAK_READ,
                                      VM_BREAK_READ | VM_BREAK_WRITE };
    u64 type, address, n;
    if (!number(&p, &type) || !comes(&p, ',') || !range(&p, &address, &n) || address > UINT32_MAX) {
        reply_error(g, -EINVAL);
        return;
    }
    if (type >= ARRAY_LEN(kinds)) {
        reply(g, "");
        return;
    }
    u32 bytes = kinds[type] == VM_BREAK_FETCH ? 1 : n > VM_BREAK_BYTES_MAX ? 0 : (u32)n;
    int rc = add ? vm_break_add(g->vm, kinds[type], (u32)address, bytes)
                 : vm_break_remove(g->vm, kinds[type], (u32)address, bytes);
    reply_ok(g, rc == -EEXIST || (!add && rc == -ENOENT) ? 0 : rc); /* saying it twice is as good as once */
}

/* ---- running ---- */

static void resume(struct gdb *g, bool step)
{
    g->waits = true;
    if (step) g->host.step(g->host.arg, !(g->step_flags & STEP_NO_INTERRUPTS));
    else {
        vm_break_pass(g->vm);
        g->host.go(g->host.arg);
    }
}

/* c and s may name an address; after a signal, which means nothing here, it stands behind a semicolon. */
static void resume_at(struct gdb *g, const char *p, bool step, bool has_signal)
{
    struct vm_registers r;
    struct vm_error err;
    u64 v;
    if (has_signal && (!number(&p, &v) || (*p && !comes(&p, ';')))) {
        reply_error(g, -EINVAL);
        return;
    }
    if (*p) {
        int rc = number(&p, &v) && !*p && v <= UINT32_MAX ? vm_get_registers(g->vm, &r) : -EINVAL;
        if (!rc) r.eip = (u32)v, rc = vm_set_registers(g->vm, &r, &err);
        if (rc) {
            reply_error(g, rc);
            return;
        }
    }
    resume(g, step);
}

/* ;ACTION[:THREAD]..: there is one thread, so the first action counts. */
static void v_cont(struct gdb *g, const char *p)
{
    if (!comes(&p, ';')) reply(g, "");
    else if (*p == 'c' || *p == 'C') resume(g, false);
    else if (*p == 's' || *p == 'S') resume(g, true);
    else reply_error(g, -EINVAL);
}

static void restart(struct gdb *g)
{
    struct vm_error err;
    g->host.stop(g->host.arg);
    (void)!vm_reset(g->vm, &err); /* there is no reply to R; what has failed shows when it is to go on */
}

/* ---- queries ---- */

/* Part of a document: OFFSET,LENGTH. */
static void transfer(struct gdb *g, const char *text, const char *p)
{
    u64 from, n, size = strlen(text);
    if (!range(&p, &from, &n) || *p || from > size) {
        reply_error(g, -EINVAL);
        return;
    }
    if (n > PACKET_MAX / 2) n = PACKET_MAX / 2;
    bool last = size - from <= n;
    if (last) n = size - from;
    out_begin(g);
    out_byte(g, last ? 'l' : 'm');
    for (u64 i = 0; i < n; i++) {
        u8 c = (u8)text[from + i];
        bool escape = c == '}' || c == '#' || c == '$' || c == '*';
        if (escape) out_byte(g, '}');
        out_byte(g, escape ? c ^ 0x20 : c);
    }
    out_end(g);
}

static void features(struct gdb *g, const char *p)
{
    struct vm_registers r;
    size_t n;
    FILE *out = g->xml ? NULL : open_memstream(&g->xml, &n);
    if (out) {
        bool code16 = !vm_get_registers(g->vm, &r) && !(r.cs.attributes >> 14 & 1);
        gdb_registers_xml(out, code16);
        if (fclose(out)) {
            free(g->xml);
            g->xml = NULL;
        }
    }
    if (g->xml) transfer(g, g->xml, p);
    else reply_error(g, -ENOMEM);
}

/* All of linear address space may be looked at: what is mapped in it changes. */
static void memory_map(struct gdb *g, const char *p)
{
    transfer(g,
             "<?xml version=\"1.0\"?><!DOCTYPE memory-map PUBLIC \"+//IDN gnu.org//DTD GDB Memory Map V1.0//EN\" "
             "\"http://sourceware.org/gdb/gdb-memory-map.dtd\"><memory-map>"
             "<memory type=\"ram\" start=\"0x0\" length=\"0x100000000\"/></memory-map>",
             p);
}

/* `monitor WORDS` at gdb's prompt. */
static void command(struct gdb *g, const char *p)
{
    char words[128], *text = NULL;
    size_t n = strlen(p) / 2, size = 0;
    if (n >= sizeof words || !unhex(p, (u8 *)words, n)) {
        reply_error(g, -EINVAL);
        return;
    }
    words[n] = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out) {
        reply_error(g, -ENOMEM);
        return;
    }
    const char *what = after(words, "info ");
    (void)inspect(g->vm, what ? what : words, out);
    int rc = fclose(out) ? -ENOMEM : 0;
    for (size_t at = 0, k; !rc && at < size; at += k) {
        k = size - at < PACKET_MAX / 4 ? size - at : PACKET_MAX / 4;
        out_begin(g);
        out_byte(g, 'O');
        out_hex(g, (const u8 *)text + at, k);
        out_end(g);
    }
    free(text);
    reply_ok(g, rc);
}

static void supported(struct gdb *g, const char *p)
{
    g->says_why = strstr(p, "swbreak+") != NULL;
    reply(g, "PacketSize=4000;qXfer:features:read+;qXfer:memory-map:read+;QStartNoAckMode+;vContSupported+;swbreak+;"
             "hwbreak+");
}

static void number_reply(struct gdb *g, const char *format, unsigned v)
{
    char text[64];
    snprintf(text, sizeof text, format, v);
    reply(g, text);
}

static void query(struct gdb *g, const char *p)
{
    const char *rest;
    if ((rest = after(p, "Supported"))) supported(g, rest);
    else if ((rest = after(p, "Xfer:features:read:target.xml:"))) features(g, rest);
    else if (after(p, "Xfer:features:read:")) reply(g, "E00");
    else if ((rest = after(p, "Xfer:memory-map:read::"))) memory_map(g, rest);
    else if ((rest = after(p, "Rcmd,"))) command(g, rest);
    else if (!strcmp(p, "C")) reply(g, "QC01");
    else if (!strcmp(p, "fThreadInfo")) reply(g, "m01");
    else if (!strcmp(p, "sThreadInfo")) reply(g, "l");
    else if (after(p, "Attached")) reply(g, "1");
    else if (!strcmp(p, "qemu.PhyMemMode")) reply(g, g->physical ? "1" : "0");
    else if (!strcmp(p, "qemu.sstepbits")) reply(g, "ENABLE=1,NOIRQ=2,NOTIMER=4");
    else if (!strcmp(p, "qemu.sstep")) number_reply(g, "0x%x", g->step_flags);
    else reply(g, "");
}

static void set_query(struct gdb *g, const char *p)
{
    const char *rest;
    u64 v;
    if (!strcmp(p, "StartNoAckMode")) {
        reply(g, "OK");
        g->no_ack = true;
    } else if ((rest = after(p, "qemu.PhyMemMode:"))) {
        bool fits = number(&rest, &v) && v <= 1;
        if (fits) g->physical = v;
        reply_ok(g, fits ? 0 : -EINVAL);
    } else if ((rest = after(p, "qemu.sstep="))) {
        bool fits = number(&rest, &v) && v <= STEP_ALL;
        if (fits) g->step_flags = (unsigned)v;
        reply_ok(g, fits ? 0 : -EINVAL);
    } else reply(g, "");
}

/* ---- packets ---- */

static void leave(struct gdb *g)
{
    vm_break_remove_all(g->vm);
    reply(g, "OK");
    g->waits = false;
    g->host.go(g->host.arg);
    g->host.leave(g->host.arg);
}

static void packet(struct gdb *g)
{
    const char *p = (const char *)g->in + 1;
    const char *rest;
    g->in[g->n] = 0;
    switch (g->in[0]) {
    case '?': reply_stop(g); break;
    case 'g': get_registers(g); break;
    case 'G': reply_ok(g, set_registers(g, p)); break;
    case 'p': get_register(g, p); break;
    case 'P': reply_ok(g, set_register(g, p)); break;
    case 'm': get_memory(g, p); break;
    case 'M': reply_ok(g, set_memory(g, p, true)); break;
    case 'X': reply_ok(g, set_memory(g, p, false)); break;
    case 'c': resume_at(g, p, false, false); break;
    case 's': resume_at(g, p, true, false); break;
    case 'C': resume_at(g, p, false, true); break;
    case 'S': resume_at(g, p, true, true); break;
    case 'Z': breakpoint(g, p, true); break;
    case 'z': breakpoint(g, p, false); break;
    case 'H':
    case 'T': reply(g, "OK"); break; /* there is one thread */
    case '!':
        g->extended = true;
        reply(g, "OK");
        break;
    case 'R': restart(g); break;
    case 'D': leave(g); break;
    case 'k': g->host.kill(g->host.arg); break;
    case 'q': query(g, p); break;
    case 'Q': set_query(g, p); break;
    case 'v':
        if (!strcmp(p, "Cont?")) reply(g, "vCont;c;C;s;S");
        else if ((rest = after(p, "Cont"))) v_cont(g, rest);
        else if (after(p, "Kill")) {
            reply(g, "OK");
            g->host.kill(g->host.arg);
        } else reply(g, "");
        break;
    default: reply(g, ""); break;
    }
}

static void packet_done(struct gdb *g)
{
    bool good = g->no_ack || g->sum == g->told_sum;
    if (!g->no_ack) g->host.send(g->host.arg, good && !g->overflow ? "+" : "-", 1);
    if (good && !g->overflow && g->n) packet(g);
    else if (good && !g->overflow) reply(g, "");
}

static void idle(struct gdb *g, u8 c)
{
    if (c == '$') {
        g->receiving = DATA;
        g->n = 0;
        g->sum = 0;
        g->overflow = false;
    } else if (c == 3) { /* Ctrl-C */
        g->host.stop(g->host.arg);
        gdb_changed(g);
    } else if (c == '-' && g->out_n) { /* once more */
        g->host.send(g->host.arg, g->out, g->out_n);
    }
}

static void data(struct gdb *g, u8 c)
{
    if (g->n < PACKET_MAX) g->in[g->n++] = c;
    else g->overflow = true;
}

static void byte(struct gdb *g, u8 c)
{
    int d;
    switch (g->receiving) {
    case IDLE: idle(g, c); break;
    case DATA:
        if (c == '#') {
            g->receiving = SUM_HIGH;
            break;
        }
        if (c == '$') { /* the one before was cut off */
            idle(g, c);
            break;
        }
        g->sum = (u8)(g->sum + c);
        if (c == '}') g->receiving = ESCAPED;
        else data(g, c);
        break;
    case ESCAPED:
        g->sum = (u8)(g->sum + c);
        data(g, c ^ 0x20);
        g->receiving = DATA;
        break;
    case SUM_HIGH:
        d = digit(c);
        g->told_sum = (u8)((unsigned)d << 4);
        g->receiving = d < 0 ? IDLE : SUM_LOW;
        break;
    case SUM_LOW:
        d = digit(c);
        g->receiving = IDLE;
        g->told_sum |= (u8)(d & 15);
        if (d >= 0) packet_done(g);
        break;
    }
}

void gdb_input(struct gdb *g, const u8 *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) byte(g, bytes[i]);
}
