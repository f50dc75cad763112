/* Option tables: what is accepted, what is refused, and in which words. */
#include "src/face/verbs.h"

#include <check.h>
#include <errno.h>
#include <string.h>

static const char *const colours[] = { "red", "green", NULL };

struct got {
    bool flag, called;
    const char *string, *name, *file;
    u64 size, seconds, num;
    struct opt_port port;
    int choice;
};

static const char *name_at(unsigned i, const char **what)
{
    static const char *const names[] = { "alpha", "beta" };
    if (what) *what = "a letter";
    return i < ARRAY_LEN(names) ? names[i] : NULL;
}

static int call(void *args, const char *typed, const char *value, struct vm_error *err UNUSED)
{
    struct got *g = args;
    g->called = !strcmp(typed, "--call") && !strcmp(value, "it");
    return 0;
}

#define AT(field) .at = offsetof(struct got, field)
static const struct opt table[] = {
    { .name = "flag",
      .aliases = "f",
      .type = OPT_FLAG,
      .rank = OPT_COMMON,
      AT(flag),
      .group = "One",
      .help = "raises" },
    { .name = "string",
      .aliases = "text s",
      .type = OPT_STRING,
      AT(string),
      .arg = "STR",
      .group = "One",
      .help = "ties" },
    { .name = "size", .type = OPT_SIZE, AT(size), .arg = "SIZE", .unit = 1024, .group = "Two", .help = "measures" },
    { .name = "bounded", .type = OPT_SIZE, AT(size), .arg = "SIZE", .unit = 1, .min = 64 << 10, .max = 3 << 20 },
    { .name = "port", .type = OPT_PORT, AT(port), .arg = "PORT" },
    { .name = "num", .type = OPT_NUMBER, AT(num), .arg = "N", .max = 9, .cure = "count on your fingers" },
    { .name = "seconds", .type = OPT_SECONDS, AT(seconds), .arg = "S", .min = 1000, .max = 60000 },
    { .name = "choice", .field = "colour", .type = OPT_CHOICE, AT(choice), .arg = "red|green", .choices = colours },
    { .name = "name", .type = OPT_NAME, AT(name), .arg = "NAME", .names = name_at },
    { .name = "call", .type = OPT_CALL, .parse = call, .arg = "IT" },
    { .name = "quiet", .type = OPT_NOTHING, .rank = OPT_FOREIGN, .help = "is quiet" },
    { .name = "net",
      .type = OPT_NOTHING,
      .rank = OPT_FOREIGN,
      .arg = "none",
      .choices = (const char *const[]){ "none", NULL },
      .cure = "nets are not supported yet" },
    { .name = "disk",
      .aliases = "hda",
      .type = OPT_LATER,
      .rank = OPT_FOREIGN,
      .arg = "FILE",
      .help = "not supported yet" },
    { .name = "help", .aliases = "h", .type = OPT_HELP },
    { .name = "file", .type = OPT_STRING, AT(file), .arg = "FILE", .operand = true, .required = true },
    { 0 },
};
/* The same without a row that must be there. */
static const struct opt optional[] = {
    { .name = "size", .type = OPT_SIZE, AT(size), .arg = "SIZE" },
    { 0 },
};

static const struct opt *asked;

static int parse_with(const struct opt *rows, struct got *g, struct vm_error *err, const char *const *words)
{
    char *argv[20];
    int argc = 0;
    for (; words[argc]; argc++) argv[argc] = (char *)words[argc];
    memset(g, 0, sizeof *g);
    strcpy(err->text, "");
    asked = NULL;
    return options_parse(rows, g, argc, argv, &asked, err);
}
static int parse(struct got *g, struct vm_error *err, const char *const *words)
{
    return parse_with(table, g, err, words);
}
#define WORDS(...) \
    (const char *const[]) { __VA_ARGS__, NULL }

START_TEST(values_of_every_type_arrive)
{
    struct got g;
    struct vm_error err;
    ck_assert_int_eq(0, parse(&g, &err,
                              WORDS("--flag", "--string", "a b", "--size=3M", "--port", "0xf4", "--num", "0x9",
                                    "--seconds", "1.25", "--choice=green", "--name", "beta", "--call", "it", "word")));
    ck_assert(g.flag && g.called);
    ck_assert_str_eq("a b", g.string);
    ck_assert_str_eq("beta", g.name);
    ck_assert_str_eq("word", g.file);
    ck_assert_uint_eq(3u << 20, g.size);
    ck_assert(g.port.given);
    ck_assert_uint_eq(0xf4, g.port.port);
    ck_assert_uint_eq(9, g.num);
    ck_assert_uint_eq(1250, g.seconds);
    ck_assert_int_eq(1, g.choice);
}
END_TEST

START_TEST(other_spellings_are_the_same_option)
{
    struct got g;
    struct vm_error err;
    ck_assert_int_eq(0, parse(&g, &err, WORDS("-f", "-text", "a", "-size", "5", "--file=x")));
    ck_assert(g.flag);
    ck_assert_str_eq("a", g.string);
    ck_assert_str_eq("x", g.file);
    ck_assert_uint_eq(5 * 1024, g.size);
    ck_assert_int_eq(0, parse(&g, &err, WORDS("-s", "b", "x", "--text=c", "-quiet", "--net", "none")));
    ck_assert_str_eq("c", g.string);
}
END_TEST

START_TEST(sizes_have_letters_or_the_options_unit)
{
    static const struct {
        const char *text;
        u64 bytes;
    } size[] = { { "7", 7 * 1024 },  { "7k", 7 << 10 },        { "7K", 7 << 10 },    { "7KiB", 7 << 10 },
                 { "7MB", 7 << 20 }, { "7GiB", (u64)7 << 30 }, { "0x10M", 16 << 20 } };
    for (size_t i = 0; i < ARRAY_LEN(size); i++) {
        struct got g;
        struct vm_error err;
        ck_assert_int_eq(0, parse(&g, &err, WORDS("x", "--size", size[i].text)));
        ck_assert_msg(g.size == size[i].bytes, "%s: %llu", size[i].text, (unsigned long long)g.size);
    }
}
END_TEST

START_TEST(the_last_of_two_counts_and_an_empty_string_is_one)
{
    struct got g;
    struct vm_error err;
    ck_assert_int_eq(0, parse(&g, &err, WORDS("x", "--string", "a", "--string=", "--num", "1", "--num", "2")));
    ck_assert_str_eq("", g.string);
    ck_assert_uint_eq(2, g.num);
}
END_TEST

static const struct {
    const char *words[4];
    const char *text;
} bad[] = {
    { { "--nonsense" }, "unknown option '--nonsense'" },
    { { "--strin", "x" }, "unknown option '--strin'; did you mean --string?" },
    { { "--strign=x" }, "unknown option '--strign'; did you mean --string?" },
    { { "-chioce" }, "unknown option '-chioce'; did you mean --choice?" },
    { { "--f" }, "unknown option '--f'" },
    { { "---flag" }, "unknown option '---flag'; did you mean --flag?" },
    { { "--=x" }, "unknown option '--'" },
    { { "word", "more" }, "unexpected argument 'more': there is one FILE already" },
    { { "--" }, "unexpected argument '--'" },
    { { "-" }, "unexpected argument '-'" },
    { { "-x" }, "unknown option '-x'" },
    { { "--flag=1" }, "--flag takes no argument" },
    { { "--quiet=1" }, "--quiet takes no argument" },
    { { "--string" }, "--string needs an argument: STR" },
    { { "--net" }, "--net needs an argument: none" },
    { { "-net", "tap" }, "-net: 'tap' is not one of none; nets are not supported yet" },
    { { "-hda", "a", "b" }, "-hda: not supported yet" },
    { { "-hda" }, "-hda: not supported yet" },
    { { "--disk=x" }, "--disk: not supported yet" },
    { { "--size", "" }, "--size: '' is not a size (a number, with K, M, G or T)" },
    { { "--size", "M" }, "--size: 'M' is not a size (a number, with K, M, G or T)" },
    { { "--size", "-1" }, "--size: '-1' is not a size (a number, with K, M, G or T)" },
    { { "--size", "12MX" }, "--size: '12MX' is not a size (a number, with K, M, G or T)" },
    { { "--size", "12Q" }, "--size: '12Q' is not a size (a number, with K, M, G or T)" },
    { { "--size", "99999999999G" }, "--size: '99999999999G' is not a size (a number, with K, M, G or T)" },
    { { "--bounded", "63K" }, "--bounded: 63K is not within 64K to 3M" },
    { { "--bounded", "3145729" }, "--bounded: 3145729 is not within 64K to 3M" },
    { { "--port", "65536" }, "--port: '65536' is not a port (0 to 0xffff)" },
    { { "--port", "0x" }, "--port: '0x' is not a port (0 to 0xffff)" },
    { { "--num", "10" }, "--num: 10 is not within 0 to 9; count on your fingers" },
    { { "--num", " 1" }, "--num: ' 1' is not a number (decimal, or 0x and hexadecimal); count on your fingers" },
    { { "--seconds", "0.5" }, "--seconds: 0.5 is not within 1 to 60" },
    { { "--seconds", "2." }, "--seconds: '2.' is not a number of seconds" },
    { { "--seconds", "soon" }, "--seconds: 'soon' is not a number of seconds" },
    { { "--choice", "blue" }, "--choice: 'blue' is not one of red|green" },
    { { "--name", "gamma" }, "--name: there is no 'gamma'; `--name help` lists them" },
    { { "--name", "beat" }, "--name: there is no 'beat'; did you mean beta?" },
    { { "--string", "a\nb", "x", "c\x1b[2J" }, "unexpected argument 'c?[2J': there is one FILE already" },
    { { "--flag" }, "--file FILE is missing" },
};

START_TEST(a_bad_word_is_named_as_it_was_typed_in_one_line)
{
    struct got g;
    struct vm_error err;
    ck_assert_int_eq(-EINVAL, parse(&g, &err, bad[_i].words));
    ck_assert_str_eq(bad[_i].text, err.text);
}
END_TEST

START_TEST(a_table_without_an_operand_takes_none)
{
    struct got g;
    struct vm_error err;
    ck_assert_int_eq(-EINVAL, parse_with(optional, &g, &err, WORDS("word")));
    ck_assert_str_eq("unexpected argument 'word'", err.text);
}
END_TEST

START_TEST(a_refused_value_leaves_the_destination_alone)
{
    struct got g;
    struct vm_error err;
    ck_assert_int_eq(-EINVAL, parse(&g, &err, WORDS("--size", "5K", "--size", "5Q")));
    ck_assert_uint_eq(5 << 10, g.size);
    ck_assert_int_eq(-EINVAL, parse(&g, &err, WORDS("--size", "5K", "--bounded", "4M")));
    ck_assert_uint_eq(5 << 10, g.size);
}
END_TEST

START_TEST(asking_for_help_ends_the_parsing)
{
    struct got g;
    struct vm_error err;
    ck_assert_int_eq(1, parse(&g, &err, WORDS("--flag", "-h", "--nonsense")));
    ck_assert_str_eq("help", asked->name);
    ck_assert_int_eq(1, parse(&g, &err, WORDS("--name", "help")));
    ck_assert_str_eq("name", asked->name);
}
END_TEST

static const struct {
    const char *said, *shown;
} explained[] = {
    { "size: too large", "--size: too large" },
    { "colour: 'mauve' is not known", "--choice: 'mauve' is not known" },
    { "string unix:/x: No such file", "--string unix:/x: No such file" },
    { "file /x: No such file", "file /x: No such file" }, /* an operand: there need be no option */
    { "sizes: many", "sizes: many" },
    { "net: down", "net: down" },
    { "--size: as ever", "--size: as ever" },
    { "", "" },
};

START_TEST(a_librarys_error_is_told_in_the_words_of_the_command_line)
{
    struct vm_error err;
    strcpy(err.text, explained[_i].said);
    options_explain(table, &err);
    ck_assert_str_eq(explained[_i].shown, err.text);
}
END_TEST

static char *text_of(void (*print)(FILE *out))
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    print(out);
    fclose(out);
    return text;
}
static void print_short(FILE *out) { options_help(table, false, out); }
static void print_all(FILE *out) { options_help(table, true, out); }
static void print_names(FILE *out) { options_names(asked, out); }

START_TEST(help_explains_the_common_and_names_the_others)
{
    char *text = text_of(print_short);
    ck_assert_ptr_nonnull(strstr(text, "--flag, -f"));
    ck_assert_ptr_nonnull(strstr(text, "raises\n"));
    ck_assert_ptr_nonnull(strstr(text, "More: --string --size"));
    ck_assert_ptr_null(strstr(text, "ties"));
    ck_assert_ptr_null(strstr(text, "quiet"));
    free(text);
    text = text_of(print_all);
    ck_assert_ptr_nonnull(strstr(text, "\nOne:\n  --flag, -f"));
    ck_assert_ptr_nonnull(strstr(text, "\nTwo:\n  --size SIZE"));
    ck_assert_ptr_nonnull(strstr(text, "ties\n"));
    ck_assert_ptr_null(strstr(text, "quiet"));
    free(text);
}
END_TEST

START_TEST(names_are_listed_with_what_they_mean)
{
    struct got g;
    struct vm_error err;
    ck_assert_int_eq(1, parse(&g, &err, WORDS("--name", "?")));
    char *text = text_of(print_names);
    ck_assert_str_eq("alpha      a letter\nbeta       a letter\n", text);
    free(text);
}
END_TEST

/* The program's own tables: what no single row can promise. */
START_TEST(every_verbs_help_fits_on_a_screen_and_no_spelling_is_two_options)
{
    const struct opt *rows = verbs[_i].options;
    char *text = NULL;
    size_t len = 0, lines = 0;
    FILE *out = open_memstream(&text, &len);
    verb_help((enum verb_id)_i, false, out);
    fclose(out);
    for (const char *p = text; *p; p++) lines += *p == '\n';
    ck_assert_uint_le(lines, 30);
    free(text);
    for (const struct opt *o = rows; o->name; o++) {
        ck_assert_msg(o->help || o->type == OPT_HELP, "%s has no help", o->name);
        char spellings[512], *save = NULL;
        snprintf(spellings, sizeof spellings, "%s %s", o->name, o->aliases ? o->aliases : "");
        for (char *w = strtok_r(spellings, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
            char word[64];
            const char *value;
            snprintf(word, sizeof word, "-%s", w);
            const struct opt *found = options_find(rows, word, &value);
            ck_assert_msg(found == o, "%s is %s and %s", word, o->name, found ? found->name : "nothing");
        }
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("options");
    TCase *t = tcase_create("options");
    tcase_add_test(t, values_of_every_type_arrive);
    tcase_add_test(t, other_spellings_are_the_same_option);
    tcase_add_test(t, sizes_have_letters_or_the_options_unit);
    tcase_add_test(t, the_last_of_two_counts_and_an_empty_string_is_one);
    tcase_add_loop_test(t, a_bad_word_is_named_as_it_was_typed_in_one_line, 0, (int)ARRAY_LEN(bad));
    tcase_add_test(t, a_table_without_an_operand_takes_none);
    tcase_add_test(t, a_refused_value_leaves_the_destination_alone);
    tcase_add_test(t, asking_for_help_ends_the_parsing);
    tcase_add_loop_test(t, a_librarys_error_is_told_in_the_words_of_the_command_line, 0, (int)ARRAY_LEN(explained));
    tcase_add_test(t, help_explains_the_common_and_names_the_others);
    tcase_add_test(t, names_are_listed_with_what_they_mean);
    tcase_add_loop_test(t, every_verbs_help_fits_on_a_screen_and_no_spelling_is_two_options, 0, VERB_COUNT);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
