/* coherence.c: each event reaches each listener once, in order. */
#include "runtime/mem/coherence.h"

#include <check.h>
#include <string.h>

static struct coherence co;
static char heard[64]; /* who has been told, as letters */
static struct {
    struct cpu *c;
    enum tlb_flush_kind kind;
    laddr la;
    paddr pa;
    unsigned len;
    u8 flags;
    u64 now_ms;
} last;

struct made_up {
    struct coherence_listener l;
    char name;
    bool has_code;
};

static void say(const struct made_up *m)
{
    size_t n = strlen(heard);
    heard[n] = m->name;
    heard[n + 1] = 0;
}
static void flushed(void *arg, struct cpu *c, enum tlb_flush_kind kind, laddr la)
{
    say(arg);
    last.c = c, last.kind = kind, last.la = la;
}
static void protect(void *arg, paddr page)
{
    say(arg);
    last.pa = page;
}
static bool written(void *arg, paddr pa, unsigned len, u8 flags)
{
    const struct made_up *m = arg;
    say(m);
    last.pa = pa, last.len = len, last.flags = flags;
    return m->has_code;
}
static void debug(void *arg, struct cpu *c)
{
    say(arg);
    last.c = c;
}
static void watched(void *arg, laddr la)
{
    say(arg);
    last.la = la;
}
static void forget(void *arg, laddr la, u32 pages)
{
    say(arg);
    last.la = la, last.len = pages;
}
static void table_written(void *arg, paddr pa, unsigned len)
{
    say(arg);
    last.pa = pa, last.len = len;
}
static void remapped(void *arg) { say(arg); }
static void aged(void *arg, u64 now_ms)
{
    say(arg);
    last.now_ms = now_ms;
}

static void join(struct made_up *m, char name, enum coherence_rank rank)
{
    *m = (struct made_up){ { .rank = rank,
                             .arg = m,
                             .flushed = flushed,
                             .protect = protect,
                             .written = written,
                             .debug = debug,
                             .watched = watched,
                             .forget = forget,
                             .table_written = table_written,
                             .remapped = remapped,
                             .aged = aged },
                           name,
                           false };
    coherence_listen(&co, &m->l);
}

static struct made_up tlb, windows, direct, aspace, code, tlb2;

static void setup(void)
{
    memset(&co, 0, sizeof co);
    heard[0] = 0;
    /* in no particular order */
    join(&code, 'c', COHERENCE_CODE);
    join(&tlb, 't', COHERENCE_TLB);
    join(&aspace, 'a', COHERENCE_ASPACE);
    join(&windows, 'w', COHERENCE_WINDOWS);
    join(&tlb2, '2', COHERENCE_TLB); /* another processor's */
    join(&direct, 'd', COHERENCE_DIRECT);
}

START_TEST(each_event_reaches_each_listener_once_in_the_order_of_ranks)
{
    struct cpu *c = (struct cpu *)0x1000;
    coherence_flushed(&co, c, TLB_FLUSH_PAGE, 0x1234);
    ck_assert_str_eq(heard, "t2wdac");
    ck_assert(last.c == c && last.kind == TLB_FLUSH_PAGE && last.la == 0x1234);
    heard[0] = 0;
    coherence_protect(&co, 0x5000);
    ck_assert_str_eq(heard, "t2wdac");
    ck_assert_uint_eq(last.pa, 0x5000);
    heard[0] = 0;
    ck_assert(!coherence_written(&co, 0x5010, 7, 0x42));
    ck_assert_str_eq(heard, "t2wdac");
    ck_assert(last.pa == 0x5010 && last.len == 7 && last.flags == 0x42);
    heard[0] = 0;
    coherence_forget(&co, 0x7000, 3);
    ck_assert_str_eq(heard, "t2wdac");
    ck_assert(last.la == 0x7000 && last.len == 3);
    heard[0] = 0;
    coherence_table_written(&co, 0x8008, 4);
    ck_assert_str_eq(heard, "t2wdac");
    ck_assert(last.pa == 0x8008 && last.len == 4);
    heard[0] = 0;
    coherence_remapped(&co);
    ck_assert_str_eq(heard, "t2wdac");
    heard[0] = 0;
    coherence_aged(&co, 1ull << 40);
    ck_assert_str_eq(heard, "t2wdac");
    ck_assert_uint_eq(last.now_ms, 1ull << 40);
}
END_TEST

START_TEST(a_listener_need_not_care_for_everything)
{
    windows.l.flushed = NULL, windows.l.protect = NULL, windows.l.written = NULL, windows.l.remapped = NULL;
    coherence_flushed(&co, NULL, TLB_FLUSH_ALL, 0);
    coherence_protect(&co, 0);
    coherence_remapped(&co);
    ck_assert(!coherence_written(&co, 0, 1, 0));
    ck_assert_str_eq(heard, "t2dact2dact2dact2dac");
}
END_TEST

START_TEST(there_is_code_as_long_as_one_says_so_and_all_are_asked)
{
    for (unsigned i = 0; i < 2; i++) {
        heard[0] = 0;
        direct.has_code = i == 0, code.has_code = i == 1;
        ck_assert(coherence_written(&co, 0, 1, 0));
        ck_assert_str_eq(heard, "t2wdac");
    }
    code.has_code = false;
    ck_assert(!coherence_written(&co, 0, 1, 0));
}
END_TEST

START_TEST(who_leaves_hears_nothing_more_and_may_come_back)
{
    coherence_unlisten(&co, &direct.l);
    coherence_unlisten(&co, &direct.l); /* twice does no harm */
    coherence_unlisten(&co, &tlb.l);
    coherence_remapped(&co);
    ck_assert_str_eq(heard, "2wac");
    heard[0] = 0;
    coherence_listen(&co, &tlb.l);
    coherence_remapped(&co);
    ck_assert_str_eq(heard, "2twac"); /* the last of its rank now */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("coherence");
    TCase *t = tcase_create("coherence");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, each_event_reaches_each_listener_once_in_the_order_of_ranks);
    tcase_add_test(t, a_listener_need_not_care_for_everything);
    tcase_add_test(t, there_is_code_as_long_as_one_says_so_and_all_are_asked);
    tcase_add_test(t, who_leaves_hears_nothing_more_and_may_come_back);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
