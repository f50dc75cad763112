/* Keys by name, by keysym, as text and from a terminal. */
#include "src/back/keys.h"
#include "src/back/term_keys.h"
#include "src/back/user_keys.h"

#include <check.h>
#include <errno.h>
#include <string.h>

/* What went down and up, as "+1c -1c ". */
static char keys[1024];
static void on_key(void *arg UNUSED, unsigned key, bool down)
{
    size_t n = strlen(keys);
    snprintf(keys + n, sizeof keys - n, "%c%x ", down ? '+' : '-', key);
}
static void setup(void) { *keys = 0; }

START_TEST(a_text_becomes_keys_with_shift_where_it_needs_it)
{
    struct vm_error err;
    ck_assert_int_eq(0, keys_type("aA\n<ctrl-alt-delete><<<f12>", on_key, NULL, &err));
    ck_assert_str_eq(keys, "+1c -1c +12 +1c -1c -12 +5a -5a +14 +11 +171 -171 -11 -14 +12 +41 -41 -12 +7 -7 ");
}
END_TEST

START_TEST(what_no_key_is_for_is_refused_before_anything_is_typed)
{
    static const struct {
        const char *text, *why;
    } wrong[] = {
        { "<nosuch>", "no key 'nosuch'" },           { "<ctrl-nosuch>", "no key 'nosuch'" }, { "a<esc", "has no '>'" },
        { "\xc3\xa4", "no key for character 0xc3" }, { "<a-b-c-d-e-f-g>", "too many keys" }, { "<>", "no key ''" },
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct vm_error err;
        ck_assert_int_eq(-EINVAL, keys_type(wrong[i].text, NULL, NULL, &err));
        ck_assert_msg(strstr(err.text, wrong[i].why), "%s: %s", wrong[i].text, err.text);
    }
}
END_TEST

START_TEST(every_character_of_ascii_has_one_key_and_its_shift)
{
    bool seen[KEY_CODES][2] = { { false } };
    for (u32 c = ' '; c < 0x7f; c++) {
        struct key_stroke s = key_of_keysym(c);
        bool shifted = s.shift == KEY_SHIFTED;
        ck_assert_msg(s.key && !seen[s.key][shifted], "character %c", (int)c);
        seen[s.key][shifted] = true;
        ck_assert_int_eq(s.letter, (c | 0x20) >= 'a' && (c | 0x20) <= 'z');
    }
    ck_assert_uint_eq(key_of_keysym(0xff0d).key, KEY_ENTER);
    ck_assert_uint_eq(key_of_keysym(0xffe1).key, KEY_SHIFT);
    ck_assert_uint_eq(key_of_keysym(0xff9c).key, 0x69); /* the keypad's End */
    ck_assert_uint_eq(key_of_keysym(0x1234).key, 0);
    ck_assert_uint_eq(key_of_keysym(0).key, 0);
}
END_TEST

START_TEST(a_terminals_bytes_are_keys)
{
    static const struct {
        const char *bytes, *want;
    } row[] = {
        { "a", "+1c -1c " },
        { "%", "+12 +2e -2e -12 " },
        { "\r", "+5a -5a " },
        { "\x7f", "+66 -66 " },
        { "\x03", "+14 +21 -21 -14 " },        /* Ctrl-C */
        { "\x1c", "+14 +5d -5d -14 " },        /* Ctrl-\ */
        { "\033[A", "+175 -175 " },            /* up */
        { "\033OP\033[24~", "+5 -5 +7 -7 " },  /* F1, F12 */
        { "\033[[A", "+5 -5 " },               /* the Linux console's F1 */
        { "\033[1;5D", "+14 +16b -16b -14 " }, /* Ctrl with left */
        { "\033[3;2~", "+12 +171 -171 -12 " }, /* Shift with Delete */
        { "\033[Z", "+12 +d -d -12 " },
        { "\033x", "+11 +22 -22 -11 " }, /* Alt with x */
        { "\033\033[B", "+76 -76 +172 -172 " },
        { "\xc3\xa4z", "+1a -1a " },
        { "\033[99;99;99;99;99;99;99qz", "" }, /* longer than any: what is left over is text */
    };
    for (size_t i = 0; i < ARRAY_LEN(row); i++) {
        struct term_keys t = { .key = on_key };
        *keys = 0;
        for (const char *p = row[i].bytes; *p; p++) term_keys_feed(&t, (const u8 *)p, 1);
        if (*row[i].want) ck_assert_msg(!strcmp(keys, row[i].want), "%zu: %s, not %s", i, keys, row[i].want);
        else ck_assert_msg(strstr(keys, "+1a -1a "), "%zu: %s", i, keys);
        ck_assert_uint_eq(t.n, 0);
    }
}
END_TEST

START_TEST(an_escape_that_nothing_follows_is_the_key)
{
    struct term_keys t = { .key = on_key };
    term_keys_feed(&t, (const u8 *)"\033", 1);
    ck_assert_str_eq(keys, "");
    term_keys_pause(&t);
    ck_assert_str_eq(keys, "+76 -76 ");
    term_keys_pause(&t);
    ck_assert_str_eq(keys, "+76 -76 ");
    term_keys_feed(&t, (const u8 *)"\033[", 2); /* Alt with [ */
    *keys = 0;
    term_keys_pause(&t);
    ck_assert_str_eq(keys, "+11 +54 -54 -11 ");
}
END_TEST

START_TEST(random_bytes_press_and_release_in_pairs)
{
    struct term_keys t = { .key = on_key };
    u32 x = 31415926;
    for (unsigned i = 0; i < 20000; i++) {
        x = x * 1664525 + 1013904223;
        u8 c = x >> 30 ? (u8)(x >> 16) : (u8) "\033[O;19~A"[x >> 16 & 7];
        term_keys_feed(&t, &c, 1);
        if (x >> 8 & 1) term_keys_pause(&t);
        unsigned down = 0, up = 0;
        for (const char *p = keys; *p; p++) {
            down += *p == '+';
            up += *p == '-';
        }
        ck_assert_uint_eq(down, up);
        *keys = 0;
    }
}
END_TEST

static unsigned quits, told;
static void on_quit(void *arg UNUSED) { quits++; }
static void on_tell(void *arg UNUSED, const char *text) { told += strstr(text, "Ctrl-A") != NULL; }

START_TEST(our_own_keys_are_taken_out)
{
    struct user_keys k = { .quit = on_quit, .tell = on_tell };
    u8 text[] = "a\001hb\001\001c\001", x[] = "xd";
    ck_assert_uint_eq(4, user_keys_filter(&k, text, sizeof text - 1));
    ck_assert_int_eq(0, memcmp(text, "ab\001c", 4));
    ck_assert_uint_eq(1, told);
    ck_assert_uint_eq(1, user_keys_filter(&k, x, 2));
    ck_assert_uint_eq('d', x[0]);
    ck_assert_uint_eq(1, quits);
}
END_TEST

static char talked[64]; /* bytes, < and > */
static void on_talk(void *arg UNUSED, enum vm_talk what, const u8 *bytes, size_t n)
{
    size_t at = strlen(talked);
    if (what == VM_TALK_BYTES) memcpy(talked + at, bytes, n);
    else talked[at] = what == VM_TALK_BEGINS ? '<' : '>';
}

START_TEST(what_is_typed_in_a_talk_is_not_the_guests)
{
    struct user_keys k = { .quit = on_quit, .tell = on_tell, .talk = on_talk };
    u8 text[] = "a\001cbc\001\001d\001he\001cf\001C";
    memset(talked, 0, sizeof talked);
    told = quits = 0;
    ck_assert_uint_eq(2, user_keys_filter(&k, text, sizeof text - 1));
    ck_assert_int_eq(0, memcmp(text, "af", 2));
    ck_assert_str_eq(talked, "<bc\001de><");
    ck_assert_uint_eq(told, 1);
    user_keys_end(&k);
    user_keys_end(&k);
    ck_assert_str_eq(talked, "<bc\001de><>");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("keys");
    TCase *t = tcase_create("keys");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, a_text_becomes_keys_with_shift_where_it_needs_it);
    tcase_add_test(t, what_no_key_is_for_is_refused_before_anything_is_typed);
    tcase_add_test(t, every_character_of_ascii_has_one_key_and_its_shift);
    tcase_add_test(t, a_terminals_bytes_are_keys);
    tcase_add_test(t, an_escape_that_nothing_follows_is_the_key);
    tcase_add_test(t, random_bytes_press_and_release_in_pairs);
    tcase_add_test(t, our_own_keys_are_taken_out);
    tcase_add_test(t, what_is_typed_in_a_talk_is_not_the_guests);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
