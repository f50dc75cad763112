/* A client of a shared folder's session: messages of 9P2000.L, good or bad as the test wants them. */
#ifndef TESTS_UNIT_SHARE_CLIENT_H
#define TESTS_UNIT_SHARE_CLIENT_H
#include "core/sharedev.h"
#include "src/back/share_wire.h"

#include <check.h>
#include <stdarg.h>
#include <string.h>

enum {
    T_STATFS = 8,
    T_LOPEN = 12,
    T_LCREATE = 14,
    T_SYMLINK = 16,
    T_MKNOD = 18,
    T_RENAME = 20,
    T_READLINK = 22,
    T_GETATTR = 24,
    T_SETATTR = 26,
    T_XATTRWALK = 30,
    T_READDIR = 40,
    T_FSYNC = 50,
    T_LOCK = 52,
    T_GETLOCK = 54,
    T_LINK = 70,
    T_MKDIR = 72,
    T_RENAMEAT = 74,
    T_UNLINKAT = 76,
    T_VERSION = 100,
    T_ATTACH = 104,
    T_FLUSH = 108,
    T_WALK = 110,
    T_READ = 116,
    T_WRITE = 118,
    T_CLUNK = 120,
    T_REMOVE = 122,
    R_LERROR = 7
};
#define TAG 0x1234u
#define ROOM 0x20000u

static u8 msg[ROOM], ans[ROOM];
static u32 msg_len, ans_len, ans_room = ROOM;

/* Letters: b, w, d, q numbers of 1, 2, 4, 8 bytes; s a string. */
static void vput(const char *form, va_list ap)
{
    struct wire_out out = { msg, msg_len, ROOM, false };
    for (; *form; form++) {
        switch (*form) {
        case 'b': wire_put(&out, va_arg(ap, unsigned), 1); break;
        case 'w': wire_put(&out, va_arg(ap, unsigned), 2); break;
        case 'd': wire_put(&out, va_arg(ap, unsigned), 4); break;
        case 'q': wire_put(&out, va_arg(ap, u64), 8); break;
        case 's': wire_put_string(&out, va_arg(ap, const char *)); break;
        default: ck_abort_msg("form %c", *form);
        }
    }
    msg_len = out.n;
}

static void begin(u8 type)
{
    const u8 head[7] = { 0, 0, 0, 0, type, TAG & 0xff, TAG >> 8 };
    memcpy(msg, head, 7);
    msg_len = 7;
}

static UNUSED void put(const char *form, ...)
{
    va_list ap;
    va_start(ap, form);
    vput(form, ap);
    va_end(ap);
}

static void size_set(void)
{
    for (unsigned i = 0; i < 4; i++) msg[i] = (u8)(msg_len >> 8 * i);
}

/* Gives the message away and gets its answer into ans: the test's. */
static void give(void);

/* What was answered: 0, or the number of an Rlerror. -1: nothing. */
static int verdict(u8 type)
{
    struct wire_in in = { ans, ans_len, false };
    u32 size = wire_get32(&in);
    u8 answer = wire_get8(&in);
    u16 tag = wire_get16(&in);
    if (!ans_len) return -1;
    ck_assert_uint_eq(size, ans_len);
    ck_assert_uint_eq(TAG, tag);
    if (answer == R_LERROR) {
        ck_assert_uint_eq(11, ans_len);
        return (int)wire_get32(&in);
    }
    ck_assert_uint_eq(type + 1u, answer);
    return 0;
}

/* One message and its verdict. */
static int ask(u8 type, const char *form, ...)
{
    va_list ap;
    begin(type);
    va_start(ap, form);
    vput(form, ap);
    va_end(ap);
    size_set();
    give();
    return verdict(type);
}

static u64 answer_at(u32 off, unsigned bytes)
{
    struct wire_in in = { ans + off, ans_len - off, off > ans_len };
    u64 v = wire_get(&in, bytes);
    ck_assert(!in.bad);
    return v;
}

/* Walks from `from` by the names of a path: "" is none of them. */
static int walk(u32 from, u32 to, const char *path)
{
    char name[512];
    unsigned n = 0;
    begin(T_WALK);
    put("ddw", from, to, 0u);
    for (const char *p = path; *p; n++) {
        size_t len = strcspn(p, "/");
        snprintf(name, sizeof name, "%.*s", (int)len, p);
        put("s", name);
        p += len + (p[len] == '/');
    }
    msg[15] = (u8)n;
    size_set();
    give();
    int rc = verdict(T_WALK);
    if (rc) return rc;
    return answer_at(7, 2) == n ? 0 : -2; /* not all the way */
}

static void attach(void)
{
    ck_assert_int_eq(0, ask(T_VERSION, "ds", ROOM, "9P2000.L"));
    ck_assert_int_eq(0, ask(T_ATTACH, "ddssd", 0u, ~0u, "root", "", 0u));
}

#endif
