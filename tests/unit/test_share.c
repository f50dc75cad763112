/* src/back/share*.c: what guests may do to a shared folder, and that they cannot do it to anything else. */
#define _GNU_SOURCE
#include "core/snap.h"
#include "src/back/share.h"
#include "src/back/share_priv.h"
#include "tests/unit/share_client.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { P9_WRONLY = 1, P9_RDWR = 2, P9_EXCL = 0200, P9_TRUNC = 01000 };
enum { REMOVEDIR = 0x200 };

static char top[64], dir[80]; /* dir is shared, and below top */
static struct share_session *s;

static void give(void)
{
    /* In pieces, as guests have their memory, if it is enough for all of them. */
    const bool pieces = msg_len > 11 && ans_room > 14;
    const struct iovec out[] = { { msg, pieces ? 3 : msg_len },
                                 { msg + 3, 8 },
                                 { msg + 11, pieces ? msg_len - 11 : 0 } };
    const struct iovec in[] = { { ans, pieces ? 9 : ans_room },
                                { ans + 9, 5 },
                                { ans + 14, pieces ? ans_room - 14 : 0 } };
    const unsigned n = pieces ? 3 : 1;
    struct sharedev_req r = { .out = out, .in = in, .nout = n, .nin = n, .out_len = msg_len, .in_len = ans_room };
    share_session_serve(s, &r);
    ck_assert_uint_le(r.written, ans_room);
    ans_len = r.written;
}

static const char *at(const char *name)
{
    static char path[4][512];
    static unsigned n;
    char *p = path[n++ % 4];
    snprintf(p, 512, "%s/%s", dir, name);
    return p;
}

static void host_write(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq((int)strlen(text), (int)write(fd, text, strlen(text)));
    close(fd);
}

static const char *host_read(const char *path)
{
    static char text[4096];
    int fd = open(path, O_RDONLY);
    if (fd < 0) return NULL;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    return text;
}

static int removed(const char *path, const struct stat *st UNUSED, int type UNUSED, struct FTW *f UNUSED)
{
    return remove(path);
}

static void session(bool readonly, unsigned descriptors)
{
    share_session_free(s);
    ck_assert_int_eq(0, share_session_new(&s, dir, readonly, descriptors));
    ans_room = ROOM;
    attach();
}

static void setup(void)
{
    strcpy(top, "/tmp/share-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(top));
    snprintf(dir, sizeof dir, "%s/shared", top);
    ck_assert_int_eq(0, mkdir(dir, 0755));
    ck_assert_int_eq(0, mkdir(at("sub"), 0755));
    host_write(at("file"), "hello");
    host_write(at("sub/deep"), "deep");
    char outside[100];
    snprintf(outside, sizeof outside, "%s/outside", top);
    host_write(outside, "outside");
    s = NULL;
    session(false, 64);
}

static void teardown(void)
{
    share_session_free(s);
    s = NULL;
    nftw(top, removed, 16, FTW_DEPTH | FTW_PHYS);
}

static int read_fid(u32 fid, u64 off, u32 n) { return ask(T_READ, "dqd", fid, off, n); }
static int write_fid(u32 fid, u64 off, const char *text)
{
    begin(T_WRITE);
    put("dqd", fid, off, (u32)strlen(text));
    memcpy(msg + msg_len, text, strlen(text));
    msg_len += (u32)strlen(text);
    size_set();
    give();
    return verdict(T_WRITE);
}
static void open_file(u32 fid, const char *path, u32 flags)
{
    ck_assert_int_eq(0, walk(0, fid, path));
    ck_assert_int_eq(0, ask(T_LOPEN, "dd", fid, flags));
}

/* ---- by the book ---- */

START_TEST(an_unknown_version_is_not_agreed_on_and_a_known_one_begins_anew)
{
    ck_assert_int_eq(0, walk(0, 5, "file"));
    ck_assert_int_eq(0, ask(T_VERSION, "ds", 8192u, "9P2000.u"));
    ck_assert_uint_eq(7, answer_at(11, 2));
    ck_assert_mem_eq("unknown", ans + 13, 7);
    ck_assert_int_eq(EINVAL, ask(T_ATTACH, "ddssd", 0u, ~0u, "", "", 0u));
    ck_assert_int_eq(EINVAL, ask(T_VERSION, "ds", 100u, "9P2000.L"));
    ck_assert_int_eq(0, ask(T_VERSION, "ds", 1u << 30, "9P2000.L"));
    ck_assert_uint_eq(512 << 10, answer_at(7, 4));
    ck_assert_int_eq(EBADF, ask(T_CLUNK, "d", 5u));
}
END_TEST

START_TEST(files_are_read_and_written_where_they_are)
{
    open_file(1, "file", P9_RDWR);
    ck_assert_int_eq(EBUSY, ask(T_LOPEN, "dd", 1u, 0u));
    ck_assert_int_eq(0, read_fid(1, 1, 100));
    ck_assert_uint_eq(4, answer_at(7, 4));
    ck_assert_mem_eq("ello", ans + 11, 4);
    ck_assert_int_eq(0, write_fid(1, 5, " and more"));
    ck_assert_uint_eq(9, answer_at(7, 4));
    ck_assert_str_eq("hello and more", host_read(at("file")));
    ck_assert_int_eq(0, read_fid(1, 100, 10));
    ck_assert_uint_eq(0, answer_at(7, 4));
    ck_assert_int_eq(EINVAL, read_fid(1, 1ull << 63, 10));
    ck_assert_int_eq(0, ask(T_FSYNC, "dd", 1u, 1u));
    ck_assert_int_eq(0, ask(T_CLUNK, "d", 1u));
    ck_assert_int_eq(EBADF, read_fid(1, 0, 1));
}
END_TEST

START_TEST(a_walk_goes_as_far_as_there_are_names)
{
    ck_assert_int_eq(0, walk(0, 1, "sub/deep"));
    ck_assert_int_eq(-2, walk(0, 2, "sub/none"));
    ck_assert_uint_eq(1, answer_at(7, 2));
    ck_assert_int_eq(EBADF, ask(T_CLUNK, "d", 2u)); /* there is no such fid then */
    ck_assert_int_eq(ENOENT, walk(0, 2, "none"));
    ck_assert_int_eq(-2, walk(0, 2, "file/none"));
    ck_assert_int_eq(EEXIST, walk(0, 1, "file"));
    ck_assert_int_eq(EBADF, walk(9, 2, "file"));
    ck_assert_int_eq(0, walk(1, 1, "../.."));
    ck_assert_int_eq(0, walk(1, 1, "file"));
    ck_assert_int_eq(0, walk(1, 3, "")); /* the same once more */
    ck_assert_int_eq(0, ask(T_LOPEN, "dd", 3u, 0u));
    ck_assert_int_eq(0, read_fid(3, 0, 10));
    ck_assert_mem_eq("hello", ans + 11, 5);
}
END_TEST

START_TEST(a_file_is_created_with_the_mode_that_it_was_to_have)
{
    struct stat st;
    umask(077);
    ck_assert_int_eq(0, walk(0, 1, "sub"));
    ck_assert_int_eq(0, ask(T_LCREATE, "dsddd", 1u, "new", (u32)P9_RDWR, 0106664u, 0u));
    ck_assert_int_eq(0, write_fid(1, 0, "x"));
    ck_assert_int_eq(0, stat(at("sub/new"), &st));
    ck_assert_int_eq(0100664, (int)st.st_mode); /* without set-user-ID and set-group-ID */
    ck_assert_int_eq(0, walk(0, 2, "sub"));
    ck_assert_int_eq(EEXIST, ask(T_LCREATE, "dsddd", 2u, "new", (u32)(P9_RDWR | P9_EXCL), 0644u, 0u));
    ck_assert_int_eq(0, ask(T_LCREATE, "dsddd", 2u, "new", (u32)(P9_RDWR | P9_TRUNC), 0600u, 0u));
    ck_assert_str_eq("", host_read(at("sub/new")));
    ck_assert_int_eq(0, ask(T_MKDIR, "dsdd", 0u, "made", 01777u, 0u));
    ck_assert_int_eq(0, stat(at("made"), &st));
    ck_assert_int_eq(041777, (int)st.st_mode);
    umask(022);
}
END_TEST

START_TEST(what_is_renamed_is_found_by_those_who_have_it)
{
    ck_assert_int_eq(0, walk(0, 1, "sub"));
    ck_assert_int_eq(0, walk(0, 2, "sub/deep"));
    ck_assert_int_eq(0, ask(T_MKDIR, "dsdd", 0u, "to", 0755u, 0u));
    ck_assert_int_eq(0, walk(0, 3, "to"));
    ck_assert_int_eq(0, ask(T_RENAMEAT, "dsds", 0u, "sub", 3u, "moved"));
    for (u32 i = 10; i < 60; i++) ck_assert_int_eq(0, walk(0, i, "file")); /* descriptors of before are closed */
    ck_assert_int_eq(0, ask(T_LOPEN, "dd", 2u, 0u));
    ck_assert_int_eq(0, read_fid(2, 0, 10));
    ck_assert_mem_eq("deep", ans + 11, 4);
    ck_assert_int_eq(0, walk(1, 4, "deep"));
    ck_assert_int_eq(0, ask(T_RENAME, "dds", 4u, 0u, "deep2"));
    ck_assert_str_eq("deep", host_read(at("deep2")));
    ck_assert_int_eq(0, ask(T_REMOVE, "d", 4u));
    ck_assert_ptr_null(host_read(at("deep2")));
    ck_assert_int_eq(EBADF, ask(T_CLUNK, "d", 4u));
    ck_assert_int_eq(EBUSY, ask(T_RENAME, "dds", 0u, 3u, "root"));
    ck_assert_int_eq(ENOTEMPTY, ask(T_UNLINKAT, "dsd", 0u, "to", (u32)REMOVEDIR));
    ck_assert_int_eq(0, ask(T_UNLINKAT, "dsd", 3u, "moved", (u32)REMOVEDIR));
}
END_TEST

START_TEST(another_file_of_the_same_name_is_not_taken_for_the_first)
{
    ck_assert_int_eq(0, walk(0, 1, "file"));
    for (u32 i = 10; i < 60; i++) ck_assert_int_eq(0, walk(0, i, "sub"));
    host_write(at("other"), "other");
    ck_assert_int_eq(0, rename(at("other"), at("file")));
    ck_assert_int_eq(ESTALE, ask(T_GETATTR, "dq", 1u, 0x7ffull));
    ck_assert_int_eq(ESTALE, ask(T_LOPEN, "dd", 1u, 0u));
}
END_TEST

START_TEST(a_directory_is_read_in_parts_and_has_each_name_once)
{
    unsigned seen[40] = { 0 }, others = 0;
    char name[32];
    for (unsigned i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "sub/n%u", i);
        host_write(at(name), "");
    }
    open_file(1, "sub", 0);
    for (u64 off = 0;;) {
        ck_assert_int_eq(0, ask(T_READDIR, "dqd", 1u, off, 200u));
        u32 n = (u32)answer_at(7, 4), p = 11;
        ck_assert_uint_le(n, 200);
        if (!n) break;
        while (p < 11 + n) {
            off = answer_at(p + 13, 8);
            u32 len = (u32)answer_at(p + 22, 2);
            memcpy(name, ans + p + 24, len);
            name[len] = 0;
            if (name[0] == 'n') seen[atoi(name + 1)]++;
            else others++;
            p += 24 + len;
        }
        ck_assert_uint_eq(p, 11 + n);
    }
    for (unsigned i = 0; i < 40; i++) ck_assert_uint_eq(1, seen[i]);
    ck_assert_uint_eq(3, others); /* ., .., deep */
    ck_assert_int_eq(EINVAL, ask(T_READDIR, "dqd", 1u, 0ull, 20u));
}
END_TEST

START_TEST(attributes_are_the_hosts_but_owners_stay)
{
    struct stat st;
    ck_assert_int_eq(0, walk(0, 1, "file"));
    begin(T_SETATTR);
    put("ddddd", 1u, 1u | 2 | 4 | 8 | 0x20 | 0x100, 04600u, 12345u, 54321u);
    put("qqqqq", 3ull, 0ull, 0ull, 981173106ull, 5ull);
    size_set();
    give();
    ck_assert_int_eq(0, verdict(T_SETATTR));
    ck_assert_int_eq(0, stat(at("file"), &st));
    ck_assert_int_eq(0100600, (int)st.st_mode);
    ck_assert_uint_eq(getuid(), st.st_uid);
    ck_assert_int_eq(3, (int)st.st_size);
    ck_assert_int_eq(981173106, (int)st.st_mtim.tv_sec);
    ck_assert_int_eq(5, (int)st.st_mtim.tv_nsec);
    ck_assert_int_eq(0, ask(T_GETATTR, "dq", 1u, 0x7ffull));
    ck_assert_uint_eq(0100600, answer_at(28, 4));
    ck_assert_uint_eq(3, answer_at(56, 8));
    ck_assert_int_eq(0, ask(T_STATFS, "d", 1u));
    ck_assert_int_eq(EOPNOTSUPP, ask(T_XATTRWALK, "dds", 1u, 2u, "security.capability"));
    ck_assert_int_eq(EOPNOTSUPP, ask(102, "dssd", 1u, "", "", 0u));
    ck_assert_int_eq(0, ask(T_FLUSH, "w", 7u));
}
END_TEST

START_TEST(what_is_neither_file_nor_directory_is_not_opened_and_devices_are_not_made)
{
    ck_assert_int_eq(EPERM, ask(T_MKNOD, "dsdddd", 0u, "null", 020666u, 1u, 3u, 0u));
    ck_assert_int_eq(0, ask(T_MKNOD, "dsdddd", 0u, "fifo", 010600u, 0u, 0u, 0u));
    ck_assert_int_eq(0, walk(0, 1, "fifo"));
    ck_assert_int_eq(EOPNOTSUPP, ask(T_LOPEN, "dd", 1u, 0u)); /* and nobody waits for a writer */
    ck_assert_int_eq(0, walk(0, 2, ""));
    ck_assert_int_eq(EOPNOTSUPP, ask(T_LCREATE, "dsddd", 2u, "fifo", 0u, 0644u, 0u));
}
END_TEST

START_TEST(an_open_file_that_has_been_removed_is_still_there)
{
    open_file(1, "file", P9_RDWR);
    ck_assert_int_eq(0, ask(T_UNLINKAT, "dsd", 0u, "file", 0u));
    ck_assert_int_eq(0, read_fid(1, 0, 5));
    ck_assert_int_eq(0, ask(T_GETATTR, "dq", 1u, 0x7ffull));
    ck_assert_uint_eq(0, answer_at(40, 8)); /* links */
}
END_TEST

static int lock(u32 fid, u8 type)
{
    int rc = ask(T_LOCK, "dbdqqds", fid, type, 1u, 0ull, 0ull, 77u, "guest");
    return rc ? -rc : (int)answer_at(7, 1);
}

START_TEST(locks_are_seen_by_the_host_and_the_hosts_by_the_guest)
{
    struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    int host = open(at("file"), O_RDWR);
    open_file(1, "file", P9_RDWR);
    open_file(2, "file", P9_RDWR);
    ck_assert_int_eq(0, lock(1, 1));
    ck_assert_int_eq(-1, fcntl(host, F_OFD_SETLK, &l));
    ck_assert_int_eq(0, lock(2, 1)); /* by another descriptor of a guest that has sorted out who may */
    ck_assert_int_eq(0, ask(T_GETLOCK, "dbqqds", 2u, 1u, 0ull, 0ull, 5u, "guest"));
    ck_assert_int_eq(0, lock(1, 2));
    ck_assert_int_eq(0, lock(2, 2));
    ck_assert_int_eq(0, ask(T_CLUNK, "d", 1u));
    ck_assert_int_eq(0, fcntl(host, F_OFD_SETLK, &l));
    ck_assert_int_eq(1, lock(2, 1)); /* blocked */
    ck_assert_int_eq(0, ask(T_GETLOCK, "dbqqds", 2u, 0u, 0ull, 0ull, 5u, "guest"));
    ck_assert_uint_eq(1, answer_at(7, 1)); /* by a writer */
    ck_assert_int_eq(-EINVAL, lock(2, 9));
    close(host);
    ck_assert_int_eq(0, lock(2, 0));
}
END_TEST

START_TEST(a_folder_to_be_read_stays_as_it_is)
{
    session(true, 64);
    ck_assert_int_eq(0, walk(0, 1, "file"));
    ck_assert_int_eq(EROFS, ask(T_LOPEN, "dd", 1u, (u32)P9_WRONLY));
    ck_assert_int_eq(EROFS, ask(T_LOPEN, "dd", 1u, (u32)P9_RDWR));
    ck_assert_int_eq(EROFS, ask(T_LOPEN, "dd", 1u, (u32)P9_TRUNC));
    ck_assert_int_eq(0, ask(T_LOPEN, "dd", 1u, 0u));
    ck_assert_int_eq(EROFS, write_fid(1, 0, "x"));
    ck_assert_int_eq(0, walk(0, 2, ""));
    ck_assert_int_eq(EROFS, ask(T_LCREATE, "dsddd", 2u, "new", 0u, 0644u, 0u));
    ck_assert_int_eq(EROFS, ask(T_MKDIR, "dsdd", 0u, "new", 0755u, 0u));
    ck_assert_int_eq(EROFS, ask(T_MKNOD, "dsdddd", 0u, "new", 010644u, 0u, 0u, 0u));
    ck_assert_int_eq(EROFS, ask(T_SYMLINK, "dssd", 0u, "new", "x", 0u));
    ck_assert_int_eq(EROFS, ask(T_LINK, "dds", 0u, 1u, "new"));
    ck_assert_int_eq(EROFS, ask(T_RENAMEAT, "dsds", 0u, "file", 0u, "new"));
    ck_assert_int_eq(EROFS, ask(T_RENAME, "dds", 1u, 0u, "new"));
    ck_assert_int_eq(EROFS, ask(T_UNLINKAT, "dsd", 0u, "file", 0u));
    ck_assert_int_eq(EROFS, ask(T_REMOVE, "d", 1u));
    begin(T_SETATTR);
    put("ddddd", 2u, 1u, 0777u, 0u, 0u);
    put("qqqqq", 0ull, 0ull, 0ull, 0ull, 0ull);
    size_set();
    give();
    ck_assert_int_eq(EROFS, verdict(T_SETATTR));
    ck_assert_str_eq("hello", host_read(at("file")));
}
END_TEST

/* ---- the wall ---- */

START_TEST(no_name_leads_out_of_the_folder)
{
    static const char *const names[] = { "..", ".", "", "/", "../outside", "/etc", "sub/../..", "a/b" };
    for (unsigned steps = 0; steps < 2; steps++) {
        s->folder.by_steps = steps;
        ck_assert_int_eq(0, walk(0, 1, "../../..")); /* the folder's parent is the folder */
        ck_assert_int_eq(0, walk(1, 2, "file"));
        ck_assert_int_eq(ENOENT, walk(1, 3, "outside"));
        ck_assert_int_eq(0, ask(T_CLUNK, "d", 1u));
        ck_assert_int_eq(0, ask(T_CLUNK, "d", 2u));
    }
    ck_assert_int_eq(0, walk(0, 1, "file"));
    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        ck_assert_int_eq(0, walk(0, 5, ""));
        if (strcmp(names[i], "..")) { /* one name, with a slash in it */
            begin(T_WALK);
            put("ddws", 0u, 6u, 1u, names[i]);
            size_set();
            give();
            ck_assert_int_eq(ENOENT, verdict(T_WALK));
        }
        ck_assert_int_eq(EINVAL, ask(T_LCREATE, "dsddd", 5u, names[i], (u32)P9_RDWR, 0644u, 0u));
        ck_assert_int_eq(EINVAL, ask(T_MKDIR, "dsdd", 0u, names[i], 0755u, 0u));
        ck_assert_int_eq(EINVAL, ask(T_SYMLINK, "dssd", 0u, names[i], "x", 0u));
        ck_assert_int_eq(EINVAL, ask(T_MKNOD, "dsdddd", 0u, names[i], 010644u, 0u, 0u, 0u));
        ck_assert_int_eq(EINVAL, ask(T_LINK, "dds", 0u, 1u, names[i]));
        ck_assert_int_eq(EINVAL, ask(T_RENAMEAT, "dsds", 0u, "file", 0u, names[i]));
        ck_assert_int_eq(EINVAL, ask(T_RENAMEAT, "dsds", 0u, names[i], 0u, "x"));
        ck_assert_int_eq(EINVAL, ask(T_RENAME, "dds", 1u, 0u, names[i]));
        ck_assert_int_eq(EINVAL, ask(T_UNLINKAT, "dsd", 0u, names[i], 0u));
        ck_assert_int_eq(0, ask(T_CLUNK, "d", 5u));
    }
    ck_assert_str_eq("hello", host_read(at("file")));
}
END_TEST

START_TEST(a_symbolic_link_is_a_file_of_its_own_that_leads_nowhere)
{
    struct stat st;
    char outside[100];
    snprintf(outside, sizeof outside, "%s/outside", top);
    ck_assert_int_eq(0, symlink(outside, at("link")));
    ck_assert_int_eq(0, symlink("/", at("root")));
    ck_assert_int_eq(0, symlink("..", at("sub/up")));
    ck_assert_int_eq(0, walk(0, 1, "link"));
    ck_assert_int_eq(0, ask(T_READLINK, "d", 1u));
    ck_assert_mem_eq(outside, ans + 9, strlen(outside));
    ck_assert_int_eq(ELOOP, ask(T_LOPEN, "dd", 1u, (u32)P9_RDWR));
    begin(T_SETATTR); /* size, mode */
    put("ddddd", 1u, 8u, 0u, 0u, 0u);
    put("qqqqq", 0ull, 0ull, 0ull, 0ull, 0ull);
    size_set();
    give();
    ck_assert_int_eq(ELOOP, verdict(T_SETATTR));
    msg[11] = 1;
    give();
    ck_assert_int_eq(EOPNOTSUPP, verdict(T_SETATTR));
    msg[11] = 0x30; /* now: the link's own times */
    ck_assert_int_eq(0, stat(outside, &st));
    give();
    ck_assert_int_eq(0, verdict(T_SETATTR));
    struct stat now;
    ck_assert_int_eq(0, stat(outside, &now));
    ck_assert_mem_eq(&st.st_ctim, &now.st_ctim, sizeof st.st_ctim);
    ck_assert_int_eq(-2, walk(0, 2, "root/etc"));
    ck_assert_int_eq(-2, walk(0, 2, "sub/up/file"));
    ck_assert_int_eq(0, walk(0, 2, "root"));
    ck_assert_int_eq(ENOTDIR, ask(T_MKDIR, "dsdd", 2u, "made", 0755u, 0u));
    ck_assert_int_eq(ENOTDIR, ask(T_UNLINKAT, "dsd", 2u, "etc", (u32)REMOVEDIR));
    ck_assert_int_eq(0, walk(0, 3, ""));
    ck_assert_int_eq(ELOOP, ask(T_LCREATE, "dsddd", 3u, "link", (u32)(P9_RDWR | P9_TRUNC), 0644u, 0u));
    ck_assert_int_eq(0, ask(T_LINK, "dds", 0u, 1u, "hard")); /* of the link */
    ck_assert_int_eq(0, lstat(at("hard"), &now));
    ck_assert(S_ISLNK(now.st_mode));
    ck_assert_str_eq("outside", host_read(outside));
}
END_TEST

/* A directory that is a link to outside every other moment. Below top: swap/ has inside, which the folder's has. */
static _Atomic bool ending;
static void *swapper(void *arg UNUSED)
{
    char a[128], b[128];
    snprintf(a, sizeof a, "%s", at("swap"));
    snprintf(b, sizeof b, "%s", at("link"));
    while (!ending) {
        ck_assert_int_eq(0, renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE));
    }
    return NULL;
}

START_TEST(a_directory_that_becomes_a_link_while_it_is_walked_leads_nowhere_else)
{
    char path[128];
    pthread_t t;
    unsigned found = 0, refused = 0, wrote = 0;
    snprintf(path, sizeof path, "%s/swap", top);
    ck_assert_int_eq(0, mkdir(path, 0755));
    ck_assert_int_eq(0, symlink(path, at("link")));
    strcat(path, "/inside");
    host_write(path, "the host's");
    ck_assert_int_eq(0, mkdir(at("swap"), 0755));
    host_write(at("swap/inside"), "the guest's");
    s->folder.by_steps = _i;
    ending = false;
    ck_assert_int_eq(0, pthread_create(&t, NULL, swapper, NULL));
    for (unsigned i = 0; i < 5000 || (found < 10 || refused < 10 || wrote < 10); i++) {
        ck_assert_uint_lt(i, 2000000);
        if (!(i % 40)) attach(); /* forget */
        u32 fid = 1 + i % 40;
        if (i % 3) {
            int rc = walk(0, fid, "swap/inside");
            refused += rc != 0;
            if (rc || ask(T_LOPEN, "dd", fid, (u32)P9_RDWR)) continue;
            ck_assert_int_eq(0, read_fid(fid, 0, 100));
            ck_assert_mem_eq("the guest's", ans + 11, 11);
            ck_assert_int_eq(0, write_fid(fid, 11, "x"));
            found++;
        } else {
            if (walk(0, fid, "swap")) continue;
            for (u32 k = 100; k < 120; k++) (void)walk(0, k, "sub"); /* its descriptor is closed, and opened again */
            wrote += !ask(T_LCREATE, "dsddd", fid, "new", (u32)P9_RDWR, 0644u, 0u);
        }
        (void)ask(T_MKDIR, "dsdd", fid, "made", 0755u, 0u);
        (void)ask(T_UNLINKAT, "dsd", fid, "inside2", 0u);
    }
    ending = true;
    pthread_join(t, NULL);
    ck_assert_str_eq("the host's", host_read(path));
    *strrchr(path, '/') = 0;
    DIR *d = opendir(path);
    unsigned entries = 0;
    while (readdir(d)) entries++;
    closedir(d);
    ck_assert_uint_eq(3, entries); /* ., .., inside: nothing was made there */
}
END_TEST

/* ---- limits and nonsense ---- */

START_TEST(descriptors_are_bounded_and_fids_are_more)
{
    unsigned opened = 0;
    for (u32 i = 1; i <= 2000; i++) ck_assert_int_eq(0, walk(0, i, i % 2 ? "file" : "sub/deep"));
    for (u32 i = 1; i <= 2000; i++) {
        int rc = ask(T_LOPEN, "dd", i, 0u);
        opened += !rc;
        if (rc) ck_assert_int_eq(ENFILE, rc);
    }
    ck_assert_uint_eq(48, opened);
    unsigned fds = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d)) fds++;
    closedir(d);
    ck_assert_uint_lt(fds, 64 + 30);
    for (u32 i = 1; i <= 2000; i++) ck_assert_int_eq(0, ask(T_CLUNK, "d", i));
    open_file(1, "file", 0);
}
END_TEST

START_TEST(paths_take_a_bounded_amount_of_memory)
{
    int rc = 0;
    char name[256] = "";
    memset(name, 'x', 255);
    ck_assert_int_eq(0, mkdir(at(name), 0755));
    ck_assert_int_eq(0, walk(0, 1, name));
    u32 n = 2;
    for (; !rc && n < FIDS_MAX + 10; n++) rc = walk(1, n, "");
    ck_assert_int_eq(ENFILE, rc);
    ck_assert_uint_le(n, FIDS_PATHS_MAX / 255 + 10);
    struct byte_queue state = { 0 };
    share_session_save(s, &state);
    ck_assert_uint_gt(state.len, FIDS_PATHS_MAX / 2);
    byte_queue_free(&state);
}
END_TEST

START_TEST(a_message_that_is_cut_short_or_lies_about_its_size_is_an_error)
{
    for (unsigned type = 0; type < 256; type++) {
        begin((u8)type);
        put("ddddqqqq", 0u, 1u, 0u, 0u, 0ull, 0ull, 0ull, 0ull);
        u32 whole = msg_len;
        for (msg_len = 0; msg_len <= whole; msg_len++) {
            for (unsigned i = 0; i < 4; i++) msg[i] = (u8)(msg_len >> 8 * i);
            give();
            if (msg_len < 7) ck_assert_uint_eq(0, ans_len);
            else (void)verdict((u8)type);
        }
    }
    begin(T_STATFS);
    put("d", 0u);
    const u32 sizes[] = { 0, 6, 7, 10, 12, 1000, 0x7fffffff, 0xffffffff };
    attach();
    for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
        begin(T_STATFS);
        put("d", 0u);
        for (unsigned k = 0; k < 4; k++) msg[k] = (u8)(sizes[i] >> 8 * k);
        give();
        ck_assert_int_gt(verdict(T_STATFS), 0);
    }
    ck_assert_int_eq(EINVAL, ask(T_WALK, "ddw", 0u, 1u, 17u));
    ck_assert_int_eq(EBADF, ask(T_WRITE, "dqd", 0u, 0ull, 1000u));
    begin(T_WALK); /* a name with a zero in it */
    put("ddws", 0u, 1u, 1u, "fileX");
    msg[msg_len - 1] = 0;
    size_set();
    give();
    ck_assert_int_eq(EINVAL, verdict(T_WALK));
    begin(T_SYMLINK); /* more than any message has */
    msg_len = 0x8000;
    size_set();
    give();
    ck_assert_int_eq(EMSGSIZE, verdict(T_SYMLINK));
}
END_TEST

START_TEST(a_write_of_more_than_there_is_and_an_answer_without_room_are_errors)
{
    open_file(1, "file", P9_RDWR);
    ck_assert_int_eq(EINVAL, ask(T_WRITE, "dqd", 1u, 0ull, 1000u));
    ck_assert_int_eq(EINVAL, ask(T_WRITE, "dqd", 1u, 0ull, ~0u));
    for (ans_room = 0; ans_room < 200; ans_room++) {
        int rc = ask(T_GETATTR, "dq", 1u, 0x7ffull);
        ck_assert_int_eq(ans_room < 11 ? -1 : ans_room < 160 ? EMSGSIZE : 0, rc);
        rc = read_fid(1, 0, 100);
        if (ans_room >= 16) ck_assert_int_eq(0, rc);
        else if (ans_room > 11) ck_assert_uint_eq(ans_room - 11, answer_at(7, 4));
    }
    ans_room = ROOM;
    ck_assert_str_eq("hello", host_read(at("file")));
}
END_TEST

/* ---- saved machines ---- */

START_TEST(what_a_guest_has_open_is_opened_again_and_what_has_gone_is_stale)
{
    struct byte_queue state = { 0 };
    open_file(1, "file", P9_RDWR);
    ck_assert_int_eq(0, walk(0, 2, "sub/deep"));
    ck_assert_int_eq(0, walk(0, 3, "sub"));
    host_write(at("gone"), "");
    open_file(4, "gone", 0);
    share_session_save(s, &state);
    ck_assert_int_eq(0, unlink(at("gone")));
    share_session_free(s);
    s = NULL;
    ck_assert_int_eq(0, share_session_new(&s, dir, _i, 64));
    share_session_load(s, &state);
    byte_queue_free(&state);
    ck_assert_int_eq(_i ? EBADF : 0, read_fid(1, 0, 5)); /* it is to be read only now */
    if (!_i) ck_assert_int_eq(0, write_fid(1, 0, "J"));
    ck_assert_int_eq(0, ask(T_LOPEN, "dd", 2u, 0u));
    ck_assert_int_eq(0, read_fid(2, 0, 5));
    ck_assert_mem_eq("deep", ans + 11, 4);
    ck_assert_int_eq(0, walk(3, 7, "deep"));
    ck_assert_int_eq(EBADF, read_fid(4, 0, 1));
    ck_assert_int_eq(ESTALE, ask(T_GETATTR, "dq", 4u, 0x7ffull));
    ck_assert_int_eq(0, ask(T_CLUNK, "d", 4u));
}
END_TEST

START_TEST(a_state_that_lies_opens_nothing_outside)
{
    static const char *const paths[] = { "../outside", "/etc/passwd", "sub/../../outside", "sub//deep", "link", "." };
    char outside[100];
    snprintf(outside, sizeof outside, "%s/outside", top);
    ck_assert_int_eq(0, symlink(outside, at("link")));
    for (unsigned i = 0; i < ARRAY_LEN(paths); i++) {
        struct byte_queue state = { 0 };
        const u32 head[] = { 8192, 1, O_RDWR | O_TRUNC | O_CREAT | O_PATH };
        const u16 len = (u16)strlen(paths[i]);
        ck_assert(byte_queue_put(&state, (const u8 *)head, sizeof head, 4096));
        ck_assert(byte_queue_put(&state, (const u8 *)&len, 2, 4096));
        ck_assert(byte_queue_put(&state, (const u8 *)paths[i], len, 4096));
        for (u32 n = 0; n <= state.len; n++) {
            struct byte_queue part = state;
            part.len = n;
            share_session_load(s, &part);
            ck_assert_int_eq(EBADF, read_fid(1, 0, 5));
        }
        byte_queue_free(&state);
    }
    ck_assert_str_eq("outside", host_read(outside));
}
END_TEST

/* ---- descriptions, and the thread ---- */

START_TEST(a_description_is_a_folder_and_words)
{
    const struct {
        const char *text, *dir, *tag;
        bool readonly;
        int rc;
    } rows[] = { { "/a/b", "/a/b", "share2", false, 0 },
                 { "/a,,b,tag=x,readonly=on", "/a,b", "x", true, 0 },
                 { "d,readonly=off", "d", "share2", false, 0 },
                 { "", NULL, NULL, false, -EINVAL },
                 { ",tag=x", NULL, NULL, false, -EINVAL },
                 { "d,tag=", NULL, NULL, false, -EINVAL },
                 { "d,tag=123456789012345678901234567890123", NULL, NULL, false, -EINVAL },
                 { "d,rw", NULL, NULL, false, -EINVAL } };
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        struct share_spec spec;
        struct vm_error err = { "" };
        ck_assert_int_eq(rows[i].rc, share_parse(&spec, rows[i].text, 2, &err));
        ck_assert_int_eq(rows[i].rc != 0, *err.text != 0);
        if (rows[i].rc) continue;
        ck_assert_str_eq(rows[i].dir, spec.dir);
        ck_assert_str_eq(rows[i].tag, spec.tag);
        ck_assert_int_eq(rows[i].readonly, spec.readonly);
        free(spec.dir);
    }
}
END_TEST

static sem_t woken;
static void wake(void *arg UNUSED) { sem_post(&woken); }
static unsigned answers;
static void answered(struct sharedev_req *r UNUSED) { answers++; }

START_TEST(messages_are_answered_by_a_thread_and_a_reset_forgets)
{
    const struct share_spec spec = { .dir = dir, .tag = "t" };
    const struct share_host host = { wake, NULL, 64 };
    struct sharedev *d;
    struct vm_error err;
    sem_init(&woken, 0, 0);
    answers = 0;
    ck_assert_int_eq(0, share_open(&d, &spec, &host, &err));
    ck_assert_str_eq("t", d->tag);
    begin(T_VERSION);
    put("ds", ROOM, "9P2000.L");
    size_set();
    const struct iovec out = { msg, msg_len }, in = { ans, ROOM };
    struct sharedev_req r = {
        .out = &out, .in = &in, .nout = 1, .nin = 1, .out_len = msg_len, .in_len = ROOM, .done = answered
    };
    sharedev_submit(d, &r);
    sem_wait(&woken);
    ck_assert_uint_eq(0, answers);
    share_complete(d);
    ck_assert_uint_eq(1, answers);
    struct byte_queue state = { 0 };
    sharedev_save(d, &state);
    ck_assert_uint_eq(4, state.len);
    sharedev_reset(d);
    sharedev_load(d, &state); /* which outlives a reset of before */
    share_drain(d);
    sharedev_save(d, &state);
    ck_assert_uint_eq(4, state.len);
    sharedev_reset(d);
    sharedev_reset(d);
    sharedev_submit(d, &r);
    sharedev_reset(d);
    share_drain(d);
    ck_assert_uint_eq(2, answers);
    sharedev_save(d, &state);
    ck_assert_uint_eq(0, state.len);
    byte_queue_free(&state);
    share_close(d);
    const struct share_spec none = { .dir = (char *)at("file"), .tag = "t" };
    ck_assert_int_eq(-ENOTDIR, share_open(&d, &none, &host, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "file: Not a directory"));
}
END_TEST

/* Whoever watches is not woken for what it sees, and is for what it does not. */
START_TEST(an_answer_is_found_by_watching_or_by_being_woken)
{
    struct sharedev *d;
    struct vm_error err;
    const struct share_host host = { wake, NULL, 64 };
    const struct share_spec spec = { .dir = (char *)at("top"), .tag = "t" };
    const struct iovec out = { msg, sizeof msg }, in = { ans, sizeof ans };
    struct sharedev_req r = { &out, &in, 1, 1, 0, sizeof ans, 0, answered, NULL, { 0 } };
    const bool several = sysconf(_SC_NPROCESSORS_ONLN) > 1; /* processors: else nothing happens meanwhile */
    unsigned watched = 0;
    ck_assert_int_eq(0, mkdir(at("top"), 0755));
    ck_assert_int_eq(0, share_open(&d, &spec, &host, &err));
    begin(T_VERSION);
    put("ds", 8192u, "9P2000.L");
    size_set();
    r.out_len = msg_len;
    answers = 0;
    sem_init(&woken, 0, 0);
    for (unsigned i = 1; i <= 200 || (several && !watched); i++) {
        sharedev_submit(d, &r);
        sharedev_settle(d);
        watched += answers == i;
        while (answers < i) {
            while (sem_wait(&woken)) {}
            share_complete(d);
        }
    }
    sharedev_settle(d); /* with nothing under way */
    share_close(d);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("share");
    TCase *t = tcase_create("share");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, an_unknown_version_is_not_agreed_on_and_a_known_one_begins_anew);
    tcase_add_test(t, files_are_read_and_written_where_they_are);
    tcase_add_test(t, a_walk_goes_as_far_as_there_are_names);
    tcase_add_test(t, a_file_is_created_with_the_mode_that_it_was_to_have);
    tcase_add_test(t, what_is_renamed_is_found_by_those_who_have_it);
    tcase_add_test(t, another_file_of_the_same_name_is_not_taken_for_the_first);
    tcase_add_test(t, a_directory_is_read_in_parts_and_has_each_name_once);
    tcase_add_test(t, attributes_are_the_hosts_but_owners_stay);
    tcase_add_test(t, what_is_neither_file_nor_directory_is_not_opened_and_devices_are_not_made);
    tcase_add_test(t, an_open_file_that_has_been_removed_is_still_there);
    tcase_add_test(t, locks_are_seen_by_the_host_and_the_hosts_by_the_guest);
    tcase_add_test(t, a_folder_to_be_read_stays_as_it_is);
    tcase_add_test(t, no_name_leads_out_of_the_folder);
    tcase_add_test(t, a_symbolic_link_is_a_file_of_its_own_that_leads_nowhere);
    tcase_add_loop_test(t, a_directory_that_becomes_a_link_while_it_is_walked_leads_nowhere_else, 0, 2);
    tcase_add_test(t, descriptors_are_bounded_and_fids_are_more);
    tcase_add_test(t, paths_take_a_bounded_amount_of_memory);
    tcase_add_test(t, a_message_that_is_cut_short_or_lies_about_its_size_is_an_error);
    tcase_add_test(t, a_write_of_more_than_there_is_and_an_answer_without_room_are_errors);
    tcase_add_loop_test(t, what_a_guest_has_open_is_opened_again_and_what_has_gone_is_stale, 0, 2);
    tcase_add_test(t, a_state_that_lies_opens_nothing_outside);
    tcase_add_test(t, a_description_is_a_folder_and_words);
    tcase_add_test(t, messages_are_answered_by_a_thread_and_a_reset_forgets);
    tcase_add_test(t, an_answer_is_found_by_watching_or_by_being_woken);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
