/* cache.c: blocks by key and by page, retirement, revival, eviction. */
#include "tests/emit/xl_fixture.h"
#include "translator/store/alias.h"
#include "translator/store/hostmem.h"
#include "translator/store/recover.h"

#include <check.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static struct xlf f;
static void setup(void) { xlf_init(&f, 1 << 20, false, 0); }
static void teardown(void) { xlf_free(&f); }

#define EIP 0x00401000u
static u8 code[PAGE_SIZE];

static struct block *make(laddr eip, paddr pa, paddr pa2, u32 mode)
{
    struct xl_source src = xlf_source2(eip, pa, pa2, mode, code, 64);
    bool evicted;
    struct block *b = xl_translate(f.xl, &src, &evicted);
    ck_assert(!evicted);
    return b;
}

/* add eax, 5; ret: four bytes */
static void simple_code(void)
{
    memset(code, 0x90, sizeof code);
    memcpy(code, "\x83\xc0\x05\xc3", 4);
}

/* mov eax, 0x12345678 with two bytes on the first page: five bytes */
#define STRADDLE_EIP (EIP + PAGE_SIZE - 2)
#define STRADDLE_PA 0x5ffe
static void straddling_code(void)
{
    memset(code, 0x90, sizeof code);
    memcpy(code, "\xb8\x78\x56\x34\x12", 5);
}

START_TEST(a_block_is_found_by_its_whole_key)
{
    simple_code();
    struct block *b = make(EIP, 0x5000, XL_NO_PAGE, MODE_FLAT);
    ck_assert_ptr_eq(xlf_find(f.xl, EIP, 0x5000, MODE_FLAT), b);
    ck_assert_ptr_null(xlf_find(f.xl, EIP + 1, 0x5000, MODE_FLAT));
    ck_assert_ptr_null(xlf_find(f.xl, EIP, 0x6000, MODE_FLAT));
    ck_assert_ptr_null(xlf_find(f.xl, EIP, 0x5000, MODE_USER));
    struct block *user = make(EIP, 0x5000, XL_NO_PAGE, MODE_USER), *other = make(EIP, 0x6000, XL_NO_PAGE, MODE_FLAT);
    ck_assert_ptr_eq(xlf_find(f.xl, EIP, 0x5000, MODE_FLAT), b);
    ck_assert_ptr_eq(xlf_find(f.xl, EIP, 0x5000, MODE_USER), user);
    ck_assert_ptr_eq(xlf_find(f.xl, EIP, 0x6000, MODE_FLAT), other);
}
END_TEST

START_TEST(a_write_retires_what_it_overlaps_and_nothing_else)
{
    simple_code();
    const struct {
        int at;
        unsigned len;
        bool hit;
    } write[] = { { -1, 1, false }, { -1, 2, true },   { 0, 1, true },  { 3, 1, true },
                  { 4, 1, false },  { 4, 100, false }, { -8, 20, true } };
    for (unsigned i = 0; i < ARRAY_LEN(write); i++) {
        xl_flush(f.xl);
        struct block *b = make(EIP + 0x100, 0x5100, XL_NO_PAGE, MODE_FLAT),
                     *far = make(EIP + 0x800, 0x5800, XL_NO_PAGE, MODE_FLAT);
        unsigned live = xl_retire(f.xl, (paddr)(0x5100 + write[i].at), write[i].len);
        ck_assert_msg(xl_block_live(b) != write[i].hit, "write of %u at %d", write[i].len, write[i].at);
        ck_assert(xl_block_live(far));
        ck_assert_uint_eq(live, write[i].hit ? 1 : 2);
        ck_assert(xlf_has_live(f.xl, 0x5000));
    }
}
END_TEST

START_TEST(a_page_loses_all_its_blocks_at_once)
{
    simple_code();
    struct block *a = make(EIP, 0x5000, XL_NO_PAGE, MODE_FLAT), *b = make(EIP + 0x800, 0x5800, XL_NO_PAGE, MODE_USER),
                 *c = make(EIP, 0x6000, XL_NO_PAGE, MODE_FLAT);
    xl_retire_page(f.xl, 0x5123);
    ck_assert(!xl_block_live(a) && !xl_block_live(b) && xl_block_live(c));
    ck_assert(!xlf_has_live(f.xl, 0x5000) && xlf_has_live(f.xl, 0x6000));
    ck_assert_uint_eq(f.ctr.retired, 2);
}
END_TEST

START_TEST(the_same_bytes_revive_a_block_and_others_do_not)
{
    simple_code();
    struct block *b = make(EIP, 0x5000, XL_NO_PAGE, MODE_FLAT);
    struct xl_source src = xlf_source2(EIP, 0x5000, XL_NO_PAGE, MODE_FLAT, code, 64);
    xl_retire(f.xl, 0x5000, 1);
    ck_assert_ptr_eq(xlf_find(f.xl, EIP, 0x5000, MODE_FLAT), b);
    ck_assert(xl_revive(f.xl, b, &src));
    ck_assert(xl_block_live(b) && xlf_has_live(f.xl, 0x5000));
    xl_retire(f.xl, 0x5000, 1);
    code[2] ^= 1;
    ck_assert(!xl_revive(f.xl, b, &src));
    ck_assert_ptr_null(xlf_find(f.xl, EIP, 0x5000, MODE_FLAT));
    ck_assert(!xlf_has_live(f.xl, 0x5000));
}
END_TEST

START_TEST(bytes_behind_a_block_do_not_matter_to_it)
{
    simple_code();
    struct block *b = make(EIP, 0x5000, XL_NO_PAGE, MODE_FLAT);
    struct xl_source src = xlf_source2(EIP, 0x5000, XL_NO_PAGE, MODE_FLAT, code, 64);
    xl_retire(f.xl, 0x5000, 1);
    code[4] ^= 1;
    ck_assert(xl_revive(f.xl, b, &src));
}
END_TEST

START_TEST(a_straddling_block_belongs_to_both_pages)
{
    straddling_code();
    for (unsigned which = 0; which < 2; which++) {
        xl_flush(f.xl);
        struct block *b = make(STRADDLE_EIP, STRADDLE_PA, 0x9000, MODE_FLAT);
        ck_assert_uint_eq(xl_block_pa2(b), 0x9000);
        ck_assert(xlf_has_live(f.xl, 0x5000) && xlf_has_live(f.xl, 0x9000));
        xl_retire(f.xl, which ? 0x9003 : 0x5ffd, 1); /* beside it */
        ck_assert(xl_block_live(b));
        xl_retire(f.xl, which ? 0x9002 : 0x5fff, 1);
        ck_assert(!xl_block_live(b));
        ck_assert(!xlf_has_live(f.xl, 0x5000) && !xlf_has_live(f.xl, 0x9000));
    }
}
END_TEST

START_TEST(a_straddling_block_is_revived_only_with_the_same_second_page)
{
    straddling_code();
    struct block *b = make(STRADDLE_EIP, STRADDLE_PA, 0x9000, MODE_FLAT);
    struct xl_source src = xlf_source2(STRADDLE_EIP, STRADDLE_PA, 0x9000, MODE_FLAT, code, 64);
    xl_retire(f.xl, 0x9000, 1);
    ck_assert(xl_revive(f.xl, b, &src));
    ck_assert(xlf_has_live(f.xl, 0x9000));
    xl_retire(f.xl, 0x9000, 1);
    src.pa2 = 0xa000;
    ck_assert(!xl_revive(f.xl, b, &src));

    b = make(STRADDLE_EIP, STRADDLE_PA, 0x9000, MODE_FLAT);
    src = xlf_source2(STRADDLE_EIP, STRADDLE_PA, 0x9000, MODE_FLAT, code, 64);
    xl_retire(f.xl, 0x5ffe, 1);
    code[3] ^= 1; /* on the second page */
    ck_assert(!xl_revive(f.xl, b, &src));
}
END_TEST

/* Two linear pages, one frame: the block is on that page's list once. */
START_TEST(a_straddling_block_whose_pages_are_one)
{
    straddling_code();
    for (unsigned which = 0; which < 2; which++) {
        xl_flush(f.xl);
        struct block *before = make(EIP + 0x10, 0x5010, XL_NO_PAGE, MODE_FLAT);
        struct block *b = make(STRADDLE_EIP, STRADDLE_PA, 0x5000, MODE_FLAT);
        struct block *after = make(EIP + 0x20, 0x5020, XL_NO_PAGE, MODE_FLAT);
        ck_assert_uint_eq(xl_retire(f.xl, which ? 0x5001 : 0x5ffe, 1), 2);
        ck_assert(!xl_block_live(b) && xl_block_live(before) && xl_block_live(after));
        xl_forget(f.xl, b);
        xl_retire_page(f.xl, 0x5000);
        ck_assert(!xl_block_live(before) && !xl_block_live(after));
        ck_assert(!xlf_has_live(f.xl, 0x5000));
        xl_forget(f.xl, before);
        xl_forget(f.xl, after);
    }
}
END_TEST

START_TEST(forgetting_is_for_good_and_may_be_repeated)
{
    simple_code();
    struct block *b[5];
    for (unsigned i = 0; i < 5; i++) b[i] = make(EIP + 16 * i, 0x5000 + 16 * i, XL_NO_PAGE, MODE_FLAT);
    const unsigned order[5] = { 2, 0, 4, 1, 3 };
    for (unsigned i = 0; i < 5; i++) {
        xl_forget(f.xl, b[order[i]]);
        xl_forget(f.xl, b[order[i]]);
        ck_assert_ptr_null(xlf_find(f.xl, EIP + 16 * order[i], 0x5000 + 16 * order[i], MODE_FLAT));
        ck_assert_uint_eq(xl_page(f.xl, 0x5000)->live, 4 - i);
        for (unsigned k = i + 1; k < 5; k++)
            ck_assert_ptr_eq(xlf_find(f.xl, EIP + 16 * order[k], 0x5000 + 16 * order[k], MODE_FLAT), b[order[k]]);
    }
}
END_TEST

START_TEST(many_blocks_are_all_found_and_all_recovered)
{
    enum { N = 2000 };
    static struct block *b[N];
    simple_code();
    for (unsigned i = 0; i < N; i++) b[i] = make(EIP + 0x40 * i, 0x100000 + 0x40 * i, XL_NO_PAGE, MODE_FLAT);
    for (unsigned i = 0; i < N; i++) {
        ck_assert_ptr_eq(xlf_find(f.xl, EIP + 0x40 * i, 0x100000 + 0x40 * i, MODE_FLAT), b[i]);
        ck_assert_ptr_eq(xl_block_at(f.xl, (u64)xl_entry(f.xl, b[i])), b[i]);
        ck_assert_ptr_eq(xl_block_at(f.xl, (u64)xl_entry(f.xl, b[i]) + b[i]->host_len - 1), b[i]);
        ck_assert_ptr_ne(xl_block_at(f.xl, (u64)xl_entry(f.xl, b[i]) + b[i]->host_len), b[i]);
    }
}
END_TEST

START_TEST(addresses_outside_of_the_cache_are_no_blocks)
{
    simple_code();
    ck_assert_ptr_null(xl_block_at(f.xl, (u64)f.xl->rx));
    struct block *b = make(EIP, 0x5000, XL_NO_PAGE, MODE_FLAT);
    const u64 outside[] = { 0,
                            1,
                            (u64)f.xl->rx - 1,
                            (u64)f.xl->rx + b->host_len,
                            (u64)f.xl->rx + f.xl->cfg.cache_bytes,
                            (u64)f.xl->rw,
                            ~0ull,
                            (u64)&f };
    for (unsigned i = 0; i < ARRAY_LEN(outside); i++)
        ck_assert_msg(!xl_block_at(f.xl, outside[i]), "%llx", (unsigned long long)outside[i]);
}
END_TEST

START_TEST(a_flush_leaves_nothing)
{
    simple_code();
    struct block *b = make(EIP, 0x5000, XL_NO_PAGE, MODE_FLAT);
    xl_jump_fill(f.xl, XL_JC_SUPERVISOR, b);
    u64 host = (u64)xl_entry(f.xl, b);
    xl_flush(f.xl);
    ck_assert_ptr_null(xlf_find(f.xl, EIP, 0x5000, MODE_FLAT));
    ck_assert_ptr_null(xl_block_at(f.xl, host));
    ck_assert(!xlf_has_live(f.xl, 0x5000));
    ck_assert_ptr_null(f.xl->jc[XL_JC_SUPERVISOR][jump_index(EIP)].code);
    ck_assert_uint_eq(xl_usage(f.xl).blocks, 0);
    ck_assert_ptr_nonnull(make(EIP, 0x5000, XL_NO_PAGE, MODE_FLAT));
}
END_TEST

START_TEST(code_is_never_both_writable_and_executable)
{
    char line[256];
    FILE *maps = fopen("/proc/self/maps", "r");
    unsigned views = 0;
    ck_assert_ptr_nonnull(maps);
    while (fgets(line, sizeof line, maps)) {
        char perm[5];
        unsigned long from;
        if (sscanf(line, "%lx-%*x %4s", &from, perm) != 2) continue;
        ck_assert_msg(!(perm[1] == 'w' && perm[2] == 'x'), "%s", line);
        if (from == (unsigned long)f.xl->rw) views += perm[1] == 'w';
        if (from == (unsigned long)f.xl->rx) views += perm[2] == 'x';
    }
    fclose(maps);
    ck_assert_uint_eq(views, 2);
}
END_TEST

START_TEST(a_start_is_told_once_however_often_its_page_is_mapped)
{
    u16 off[8];
    simple_code();
    for (u32 i = 0; i < 3; i++)
        for (u32 at = 0; at < 3; at++) make(EIP + i * PAGE_SIZE + at * 0x40, 0x5000 + at * 0x40, XL_NO_PAGE, MODE_FLAT);
    u8 page[PAGE_SIZE] = { 0 };
    for (u32 at = 0; at < 3; at++) memcpy(page + at * 0x40, code, 4);
    ck_assert_uint_eq(xl_page_starts(f.xl, 0x5000, page, off, 8), 3);
    page[0x43] ^= 1; /* one of them was of other code */
    xl_retire(f.xl, 0x5043, 1);
    ck_assert_uint_eq(xl_page_starts(f.xl, 0x5000, page, off, 8), 2);
    for (u32 i = 0; i < 2; i++) ck_assert_uint_ne(off[i], 0x40);
}
END_TEST

/* systemd's MemoryDenyWriteExecute: what was mapped without it never becomes executable. */
START_TEST(a_process_that_may_make_nothing_executable_afterwards_has_a_code_cache)
{
    enum { SET_MDWE = 65, REFUSE_EXEC_GAIN = 1, NOT_KNOWN = 77 };
    int status;
    pid_t pid = fork();
    if (!pid) {
        u8 *rw, *rx;
        if (prctl(SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0)) _exit(NOT_KNOWN); /* before Linux 6.3 */
        _exit(-hostmem_map_code(XL_CACHE_MIN, false, &rw, &rx));
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    ck_assert_msg(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == NOT_KNOWN, "%s", strerror(WEXITSTATUS(status)));
}
END_TEST

START_TEST(blocks_are_found_however_many_there_are)
{
    enum { MANY = 300000 }; /* the table that finds them has grown by then */
    xlf_free(&f);
    xlf_init(&f, 128 << 20, false, 0);
    simple_code();
    u64 sum = 0;
    for (u32 i = 0; i < MANY; i++)
        sum += (u64)make(0x1000 * (i % 0x1000) + 0x100, 0x5100 + 0x1000ull * i, XL_NO_PAGE, MODE_FLAT)->host_off;
    for (u32 i = 0; i < MANY; i++) {
        struct block *b = xlf_find(f.xl, 0x1000 * (i % 0x1000) + 0x100, 0x5100 + 0x1000ull * i, MODE_FLAT);
        ck_assert_msg(b != NULL, "block %u", i);
        sum -= b->host_off;
    }
    ck_assert_uint_eq(sum, 0);
    ck_assert_ptr_null(xlf_find(f.xl, 0x1000 * 7 + 0x100, 0x5100 + 0x1000ull * MANY, MODE_FLAT));
}
END_TEST

/* One short block on each page: records of pages run out long before the cache is full. */
START_TEST(a_guest_whose_code_is_all_over_its_memory_evicts_and_goes_on)
{
    bool evicted = false;
    u32 pages = 0;
    for (; !evicted && pages < 100000; pages++) {
        struct xl_source src = xlf_source(0x1000 * (pages % 0x80000), MODE_FLAT, (const u8 *)"\xc3", 1);
        src.pa = 0x1000ull * pages;
        (void)xl_translate(f.xl, &src, &evicted);
    }
    ck_assert(evicted);
    ck_assert_uint_ge(pages, f.xl->max_pages - 2);
    ck_assert_uint_le(pages, f.xl->max_pages + 1);
    ck_assert_ptr_nonnull(xlf_find(f.xl, 0x1000 * (pages - 1), 0x1000ull * (pages - 1), MODE_FLAT));
    ck_assert_ptr_null(xlf_find(f.xl, 0, 0, MODE_FLAT));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cache");
    TCase *t = tcase_create("blocks");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_block_is_found_by_its_whole_key);
    tcase_add_test(t, a_write_retires_what_it_overlaps_and_nothing_else);
    tcase_add_test(t, a_page_loses_all_its_blocks_at_once);
    tcase_add_test(t, the_same_bytes_revive_a_block_and_others_do_not);
    tcase_add_test(t, bytes_behind_a_block_do_not_matter_to_it);
    tcase_add_test(t, a_straddling_block_belongs_to_both_pages);
    tcase_add_test(t, a_straddling_block_is_revived_only_with_the_same_second_page);
    tcase_add_test(t, a_straddling_block_whose_pages_are_one);
    tcase_add_test(t, forgetting_is_for_good_and_may_be_repeated);
    tcase_add_test(t, many_blocks_are_all_found_and_all_recovered);
    tcase_add_test(t, addresses_outside_of_the_cache_are_no_blocks);
    tcase_add_test(t, a_flush_leaves_nothing);
    tcase_add_test(t, code_is_never_both_writable_and_executable);
    tcase_add_test(t, a_start_is_told_once_however_often_its_page_is_mapped);
    tcase_add_test(t, a_process_that_may_make_nothing_executable_afterwards_has_a_code_cache);
    tcase_add_test(t, a_guest_whose_code_is_all_over_its_memory_evicts_and_goes_on);
    tcase_add_test(t, blocks_are_found_however_many_there_are);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
