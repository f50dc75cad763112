/* Option tables: what is accepted, what is refused, and in which words. */
#include "src/face/options.h"

#include <check.h>
#include <errno.h>
#include <string.h>

static const char *const colours[] = { "red", "green", NULL };

struct got {
    bool flag;
    const char *string;
    u64 size;
    struct opt_port port;
    u32 num;
    int choice;
};

static int parse(struct got *g, struct vm_error *err, const char *const *words, bool required)
{
    const struct opt table[] = {
        { .name = "flag", .type = OPT_FLAG, .dest = &g->flag },
        { .name = "string", .type = OPT_STRING, .dest = &g->string, .arg = "STR", .required = required },
        { .name = "size", .type = OPT_SIZE, .dest = &g->size, .arg = "SIZE" },
        { .name = "port", .type = OPT_PORT, .dest = &g->port, .arg = "PORT" },
        { .name = "num", .type = OPT_U32, .dest = &g->num, .arg = "N" },
        { .name = "choice", .type = OPT_CHOICE, .dest = &g->choice, .arg = "red|green", .choices = colours },
        { 0 },
    };
    char *argv[16];
    int argc = 0;
    for (; words[argc]; argc++) argv[argc] = (char *)words[argc];
    memset(g, 0, sizeof *g);
    strcpy(err->text, "");
    return options_parse(table, argc, argv, err);
}
#define WORDS(...) \
    (const char *const[]) { __VA_ARGS__, NULL }

START_TEST(values_of_every_type_arrive)
{
    struct got g;
    struct vm_error err;
    ck_assert_int_eq(0, parse(&g, &err,
                              WORDS("--flag", "--string", "a b", "--size=3M", "--port", "0xf4", "--num", "4294967295",
                                    "--choice=green"),
                              false));
    ck_assert(g.flag);
    ck_assert_str_eq("a b", g.string);
    ck_assert_uint_eq(3u << 20, g.size);
    ck_assert(g.port.given);
    ck_assert_uint_eq(0xf4, g.port.port);
    ck_assert_uint_eq(0xffffffff, g.num);
    ck_assert_int_eq(1, g.choice);
}
END_TEST

START_TEST(the_last_of_two_counts_and_an_empty_string_is_one)
{
    struct got g;
    struct vm_error err;
    ck_assert_int_eq(0, parse(&g, &err, WORDS("--string", "a", "--string=", "--num", "1", "--num", "2"), true));
    ck_assert_str_eq("", g.string);
    ck_assert_uint_eq(2, g.num);
}
END_TEST

static const struct {
    const char *words[4];
    const char *text;
} bad[] = {
    { { "--nonsense" }, "unknown option '--nonsense'" },
    { { "--strin", "x" }, "unknown option '--strin'" },
    { { "--strings=x" }, "unknown option '--strings'" },
    { { "--=x" }, "unknown option '--'" },
    { { "word" }, "unexpected argument 'word'" },
    { { "--" }, "unexpected argument '--'" },
    { { "-f" }, "unexpected argument '-f'" },
    { { "--flag=1" }, "--flag takes no argument" },
    { { "--string" }, "--string needs an argument: STR" },
    { { "--size", "" }, "--size: '' is not a size (a number, with K, M or G)" },
    { { "--size", "M" }, "--size: 'M' is not a size (a number, with K, M or G)" },
    { { "--size", "-1" }, "--size: '-1' is not a size (a number, with K, M or G)" },
    { { "--size", "12MB" }, "--size: '12MB' is not a size (a number, with K, M or G)" },
    { { "--size", "99999999999G" }, "--size: '99999999999G' is not a size (a number, with K, M or G)" },
    { { "--port", "65536" }, "--port: '65536' is not a port (0 to 0xffff)" },
    { { "--port", "0x" }, "--port: '0x' is not a port (0 to 0xffff)" },
    { { "--num", "4294967296" }, "--num: '4294967296' is not a number up to 0xffffffff" },
    { { "--num", " 1" }, "--num: ' 1' is not a number up to 0xffffffff" },
    { { "--choice", "blue" }, "--choice: 'blue' is not one of red|green" },
    { { "--string", "a\nb", "c\x1b[2J" }, "unexpected argument 'c?[2J'" },
};

START_TEST(a_bad_word_is_named_in_one_line)
{
    struct got g;
    struct vm_error err;
    ck_assert_int_eq(-EINVAL, parse(&g, &err, bad[_i].words, false));
    ck_assert_str_eq(bad[_i].text, err.text);
}
END_TEST

START_TEST(a_missing_required_option_is_named)
{
    struct got g;
    struct vm_error err;
    ck_assert_int_eq(-EINVAL, parse(&g, &err, WORDS("--flag"), true));
    ck_assert_str_eq("--string STR is missing", err.text);
}
END_TEST

START_TEST(a_refused_value_leaves_the_destination_alone)
{
    struct got g;
    struct vm_error err;
    ck_assert_int_eq(-EINVAL, parse(&g, &err, WORDS("--size", "5K", "--size", "5Q"), false));
    ck_assert_uint_eq(5 << 10, g.size);
}
END_TEST

START_TEST(help_names_every_option)
{
    static u32 num;
    const struct opt table[] = {
        { .name = "short", .type = OPT_U32, .dest = &num, .arg = "N", .help = "helps" },
        { .name = "a-very-long-option-name", .type = OPT_U32, .dest = &num, .arg = "NUMBER", .help = "helps too" },
        { 0 },
    };
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    options_help(table, out);
    fclose(out);
    ck_assert_ptr_nonnull(strstr(text, "--short N"));
    ck_assert_ptr_nonnull(strstr(text, "helps\n"));
    ck_assert_ptr_nonnull(strstr(text, "--a-very-long-option-name NUMBER\n"));
    free(text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("options");
    TCase *t = tcase_create("options");
    tcase_add_test(t, values_of_every_type_arrive);
    tcase_add_test(t, the_last_of_two_counts_and_an_empty_string_is_one);
    tcase_add_loop_test(t, a_bad_word_is_named_in_one_line, 0, (int)ARRAY_LEN(bad));
    tcase_add_test(t, a_missing_required_option_is_named);
    tcase_add_test(t, a_refused_value_leaves_the_destination_alone);
    tcase_add_test(t, help_names_every_option);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
