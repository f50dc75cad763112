/* The line editor: keys give the line that they should, and the terminal shows it. */
#include "src/face/line_edit.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define PROMPT "> "
#define COLUMNS 20u

static struct line_edit *edit;
static char done[4096];          /* lines that have been entered, each in brackets */
static char row[COLUMNS + 1][5]; /* what the terminal's row shows: a character of UTF-8 each */
static unsigned column, listed;

/* A terminal that knows what the editor may send: text, CR, LF, and two sequences. */
static void on_put(void *arg UNUSED, const char *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        if (p[i] == '\r') column = 0, i++;
        else if (p[i] == '\n') {
            memset(row, 0, sizeof row);
            listed++;
            i++;
        } else if (p[i] == '\033') {
            char *end;
            ck_assert(i + 2 < n && p[i + 1] == '[');
            unsigned long number = strtoul(p + i + 2, &end, 10);
            if (*end == 'C') column += (unsigned)number;
            else if (*end == 'K')
                for (unsigned k = column; k <= COLUMNS; k++) *row[k] = 0;
            else ck_assert_msg(*end == 'H' || *end == 'J', "Esc [ %c", *end);
            i = (size_t)(end + 1 - p);
        } else {
            size_t len = 1;
            while (i + len < n && ((u8)p[i + len] & 0xc0) == 0x80 && len < 4) len++;
            if (column > COLUMNS) ck_abort_msg("it writes to column %u", column);
            memcpy(row[column], p + i, len);
            row[column++][len] = 0;
            i += len;
        }
    }
}

static void on_done(void *arg UNUSED, const char *line)
{
    size_t n = strlen(done);
    snprintf(done + n, sizeof done - n, "[%s]", line);
}

static void on_complete(void *arg UNUSED, const char *before, struct line_words *words)
{
    static const char *const known[] = { "stop", "step", "screendump", "folder/", "quit" };
    const char *space = strrchr(before, ' '), *word = space ? space + 1 : before;
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (!strncmp(known[i], word, strlen(word))) line_words_add(words, known[i]);
}

static void setup(void)
{
    static const struct line_edit_host host = { on_put, on_done, on_complete, NULL };
    *done = 0;
    memset(row, 0, sizeof row);
    column = listed = 0;
    edit = line_edit_new(PROMPT, &host);
    ck_assert_ptr_nonnull(edit);
    line_edit_columns(edit, COLUMNS);
    line_edit_show(edit);
}

static void teardown(void) { line_edit_free(edit); }

static void type(const char *keys) { line_edit_input(edit, (const u8 *)keys, strlen(keys)); }

/* The row is text, with the cursor at a column. */
static void shows(const char *text, unsigned at)
{
    char have[sizeof row] = "";
    for (unsigned i = 0; i <= COLUMNS; i++) strcat(have, row[i]);
    ck_assert_str_eq(have, text);
    ck_assert_uint_eq(column, at);
}

static void gives(const char *keys, const char *line)
{
    *done = 0;
    type(keys);
    type("\r");
    ck_assert_msg(strlen(done) == strlen(line) + 2 && !strncmp(done + 1, line, strlen(line)), "%s, not [%s]", done,
                  line);
}

START_TEST(keys_edit_a_line)
{
    gives("abc", "abc");
    gives("abd\033[Dc", "abcd");
    gives("abd\002c", "abcd");
    gives("bc\033[Ha\033[Fd", "abcd");
    gives("bc\001a\005d", "abcd");
    gives("bc\033[1~a\033[4~d", "abcd");
    gives("bc\033OHa\033OFd", "abcd");
    gives("abx\177c", "abc");
    gives("abx\010c", "abc");
    gives("xabc\001\004", "abc");
    gives("xabc\001\033[3~", "abc");
    gives("abc\002\002\006\006\006d", "abcd");
    gives("ab cd\013", "ab cd");
    gives("ab cd\002\002\013\001\031", "cdab ");
    gives("ab cd\002\002\025", "cd");
    gives("ab cd\027ef", "ab ef");
    gives("ab cd \027\031", "ab cd ");
    gives("ab cd\033bX\033b\033bY\033fZ", "YabZ Xcd");
    gives("ab cd\033[1;5DX", "ab Xcd");
    gives("ab cd\001\033dX", "X cd");
    gives("ab cd\033\177X", "ab X");
    gives("nonsense\003abc", "abc");
    gives("a\033[99~b\033[Zc\033[1234567890123456789~d", "abcd");
    gives("\303\244\303\266\002\177", "\303\266"); /* a character of two bytes is one */
    gives("a\014b", "ab");
}
END_TEST

START_TEST(lines_before_come_back)
{
    type("one\rtwo\rtwo\r\rthree\r");
    gives("\033[A", "three");
    gives("\033[A\033[A", "two");
    gives("\020\020\020\020\020\020\020", "one"); /* past the first it stays there */
    gives("typed\033[A\033[B", "typed");
    gives("typed\033[A\016!", "typed!");
    gives("\033[A\033[A-changed", "typed-changed");
    for (unsigned i = 0; i < 3 * LINE_HISTORY; i++) {
        char line[32];
        snprintf(line, sizeof line, "line %u\r", i);
        type(line);
    }
    for (unsigned i = 0; i < LINE_HISTORY; i++) type("\020");
    type("\020\020");
    char oldest[32];
    snprintf(oldest, sizeof oldest, "line %u", 2 * LINE_HISTORY);
    gives("", oldest);
}
END_TEST

START_TEST(a_tab_completes)
{
    gives("q\t", "quit ");
    gives("sc\tx", "screendump x");
    gives("fol\tx", "folder/x");
    gives("st\t\to\t", "stop ");
    gives("x\ty", "xy");
    gives("help st\t", "help st");
    gives("q x\002\002\tz", "quit z x");
    unsigned before = listed;
    type("st\t");
    ck_assert_uint_eq(listed, before + 2);
    shows("> st", 4);
}
END_TEST

START_TEST(the_row_shows_the_line_at_the_cursor)
{
    shows("> ", 2);
    type("abc");
    shows("> abc", 5);
    type("\002\002");
    shows("> abc", 3);
    type("\303\244");
    shows("> a\303\244bc", 4);
    type("\005\025");
    shows("> ", 2);
    type("0123456789abcdefghij");
    shows("> 456789abcdefghij", 18);
    type("\001");
    shows("> 0123456789abcdefg", 2);
    line_edit_columns(edit, 3); /* too narrow for anything */
    type("\005");
    ck_assert_uint_eq(column, 2);
}
END_TEST

/* Whatever comes, the line stays within its bounds, and the row shows its part of it. */
START_TEST(random_keys_keep_the_row_in_order)
{
    static const char *const some[] = { "\033[A", "\033[B",  "\033[C", "\033[D",   "\033[H", "\033[3~",
                                        "\177",   "\011",    "\013",   "\025",     "\027",   "\031",
                                        "\r",     "\033b",   "\033d",  "\303\244", "a",      "b c",
                                        "\200",   "\033[1;", "\003",   "\014",     "st",     "\001" };
    u32 x = 27182818;
    for (unsigned i = 0; i < 20000; i++) {
        x = x * 1664525 + 1013904223;
        if (x >> 28) type(some[(x >> 12) % ARRAY_LEN(some)]);
        else {
            const u8 c = (u8)(x >> 16);
            line_edit_input(edit, &c, 1);
        }
        *done = 0;
        /* The last column stays free: it would wrap. */
        if (*row[0] != '>' || *row[COLUMNS - 1] || column < 2 || column >= COLUMNS)
            ck_abort_msg("key %u: '%s'..'%s', cursor at %u", i, row[0], row[COLUMNS - 1], column);
    }
    for (unsigned i = 0; i < 2 * LINE_MAX_BYTES; i++) type("x");
    type("\025\031\031\031\r");
    ck_assert_uint_le(strlen(done), LINE_MAX_BYTES + 2);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("line_edit");
    TCase *t = tcase_create("line_edit");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, keys_edit_a_line);
    tcase_add_test(t, lines_before_come_back);
    tcase_add_test(t, a_tab_completes);
    tcase_add_test(t, the_row_shows_the_line_at_the_cursor);
    tcase_add_test(t, random_keys_keep_the_row_in_order);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
