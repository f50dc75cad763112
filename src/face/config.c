/* Owns what a JSON object is as a list of options, and the other way round. Knows no option by name.
 *   I1  root is an object, without a key twice.            [config_new, config_load]
 * Enter at config_load(). */
#include "src/face/config.h"
#include "src/error.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#define FILE_MAX_BYTES ((size_t)1 << 20)

struct config {
    json_t *root;
    const char *folder; /* what files are relative to; NULL: the current directory */
    char *file, *text;  /* NULL: it was not read from a file */
    char **words;       /* values as texts, which options_parse() may take apart */
    size_t n_words;
};

static int no_memory(struct vm_error *err) { return vm_fail(err, -ENOMEM, "configuration: out of memory"); }

int config_new(struct config **out, struct vm_error *err)
{
    struct config *c = calloc(1, sizeof *c);
    if (c) c->root = json_object();
    if (!c || !c->root) {
        config_free(c);
        return no_memory(err);
    }
    *out = c;
    return 0;
}

void config_free(struct config *c)
{
    if (!c) return;
    for (size_t i = 0; i < c->n_words; i++) free(c->words[i]);
    free(c->words);
    free(c->file);
    free(c->text);
    json_decref(c->root);
    free(c);
}

/* ---- from a file ---- */

static int file_read(struct config *c, const char *file, size_t *n, struct vm_error *err)
{
    FILE *in = fopen(file, "re");
    if (!in) return vm_fail(err, errno == EINVAL ? -EIO : -errno, "%.300s: %s", file, strerror(errno));
    c->text = malloc(FILE_MAX_BYTES + 1);
    c->file = strdup(file);
    errno = 0;
    *n = c->text ? fread(c->text, 1, FILE_MAX_BYTES, in) : 0;
    int rc = ferror(in) ? -EIO : 0, why = errno;
    bool more = !rc && *n == FILE_MAX_BYTES && fgetc(in) != EOF;
    fclose(in);
    if (!c->text || !c->file) return no_memory(err);
    if (rc) return vm_fail(err, rc, "%.300s: %s", file, strerror(why ? why : EIO));
    if (more) return vm_fail(err, -EINVAL, "%.300s: is larger than 1 MiB, and no configuration", file);
    c->text[*n] = 0;
    return 0;
}

int config_load(struct config **out, const char *file, struct vm_error *err)
{
    struct config *c = NULL;
    json_error_t why;
    size_t n = 0;
    int rc = config_new(&c, err);
    if (rc) return rc;
    rc = file_read(c, file, &n, err);
    json_t *root = rc ? NULL : json_loadb(c->text, n, JSON_REJECT_DUPLICATES, &why);
    if (!rc && !root) rc = vm_fail(err, -EINVAL, "%.200s:%d: %.160s", file, why.line, why.text);
    else if (!rc && !json_is_object(root)) rc = vm_fail(err, -EINVAL, "%.200s:1: is no JSON object", file);
    if (rc) {
        json_decref(root);
        config_free(c);
        return rc;
    }
    json_decref(c->root);
    c->root = root;
    *out = c;
    return 0;
}

/* Behind the text that begins at p, a quotation mark. */
static const char *text_end(const char *p)
{
    for (p++; *p && *p != '"'; p++)
        if (*p == '\\' && p[1]) p++;
    return *p ? p + 1 : p;
}

/* The line of a key of the outermost object. The text is JSON. 0: not found, as the key has escapes. */
static unsigned key_line(const struct config *c, const char *key)
{
    unsigned line = 1, depth = 0;
    size_t n = strlen(key);
    for (const char *p = c->text; p && *p;) {
        if (*p == '\n') line++;
        if (*p == '{' || *p == '[') depth++;
        if (*p == '}' || *p == ']') depth--;
        if (*p != '"') {
            p++;
            continue;
        }
        const char *end = text_end(p);
        bool is_it = depth == 1 && (size_t)(end - p) == n + 2 && !memcmp(p + 1, key, n);
        if (is_it && end[strspn(end, " \t\r\n")] == ':') return line;
        p = end;
    }
    return 0;
}

/* *err about a setting: where it stands goes before it, and the option's dashes go. Returns rc. */
static int key_fail(const struct config *c, const char *key, int rc, struct vm_error *err)
{
    struct vm_error said = *err;
    const char *text = said.text + strspn(said.text, "-");
    unsigned line = key_line(c, key);
    if (!c->file) return vm_fail(err, rc, "%.350s", text);
    if (!line) return vm_fail(err, rc, "%.100s: %.350s", c->file, text);
    return vm_fail(err, rc, "%.100s:%u: %.350s", c->file, line, text);
}

/* ---- a setting ---- */

static bool is_setting(const struct opt *o)
{
    return !o->only_typed && o->type != OPT_NOTHING && o->type != OPT_LATER && o->type != OPT_HELP;
}

/* The row of a key; NULL, with *err set, if there is none. */
static const struct opt *key_row(const struct opt *table, const char *key, struct vm_error *err)
{
    struct closest near = { .word = key };
    for (const struct opt *o = table; o->name; o++) {
        if (!is_setting(o)) continue;
        if (!strcmp(o->name, key)) return o;
        closest_offer(&near, o->name);
    }
    /* Another spelling on the command line, perhaps. */
    char word[64];
    const char *ignored;
    snprintf(word, sizeof word, "%s%.50s", key[0] && key[1] ? "--" : "-", key);
    const struct opt *o = strchr(key, '=') ? NULL : options_find(table, word, &ignored);
    if (o && is_setting(o)) near.best = o->name;
    if (near.best) vm_fail(err, -EINVAL, "there is no setting '%.64s'; did you mean %s?", key, near.best);
    else vm_fail(err, -EINVAL, "there is no setting '%.64s'; transvisor run --help-all shows what there is", key);
    return NULL;
}

/* A value as it would be typed, allocated. NULL: it is none, or there is no memory. */
static char *value_text(const json_t *v)
{
    char number[40];
    if (json_is_string(v))
        return strlen(json_string_value(v)) == json_string_length(v) ? strdup(json_string_value(v)) : NULL;
    if (json_is_integer(v)) snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    else if (json_is_real(v)) snprintf(number, sizeof number, "%.15g", json_real_value(v));
    else return NULL;
    return strdup(number);
}

void config_set_folder(struct config *c, const char *folder) { c->folder = folder; }

static bool is_path(const struct opt *o) { return o->arg && (!strncmp(o->arg, "FILE", 4) || !strcmp(o->arg, "DIR")); }

/* What stands where a file may stand and is none: nothing, a back end, or an address, as nbd:unix:PATH. */
static bool is_no_file(const char *word)
{
    static const char *const names[] = { "", "none", "null", "stdio", "pty" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (!strcmp(word, names[i])) return true;
    size_t n = strspn(word, "abcdefghijklmnopqrstuvwxyz");
    return n && word[n] == ':';
}

/* A word of n characters, relative to folder. doubled: of a drive, where a comma in a name is two. */
static void path_print(FILE *out, const char *word, size_t n, const char *folder, bool doubled)
{
    if (doubled && !strncmp(word, "file=", 5)) {
        fputs("file=", out);
        word += 5;
        n -= 5;
    }
    if (n && *word != '/') {
        for (const char *p = folder; *p; p++) fputs(*p == ',' && doubled ? ",," : (char[]){ *p, 0 }, out);
        fputc('/', out);
    }
    fwrite(word, 1, n, out);
}

char *config_path(const struct opt *row, const char *text, const char *folder)
{
    char *other = NULL;
    size_t room;
    bool drive = row->repeats, list = row->arg && strstr(row->arg, "FILE[,FILE");
    if (!is_path(row) || is_no_file(text)) return NULL;
    FILE *out = open_memstream(&other, &room);
    if (!out) return NULL;
    for (const char *p = text;; p++) {
        size_t n = list || drive ? strcspn(p, ",") : strlen(p);
        while (drive && p[n] == ',' && p[n + 1] == ',') n += 2 + strcspn(p + n + 2, ",");
        if (p == text || list || (drive && !strncmp(p, "file=", 5))) path_print(out, p, n, folder, drive);
        else fwrite(p, 1, n, out);
        p += n;
        if (!*p) break;
        fputc(',', out);
    }
    bool failed = ferror(out);
    if (fclose(out) || failed || !strcmp(other, text)) {
        free(other);
        return NULL;
    }
    return other;
}

/* The text is c's, and lives as long. */
static char *keep(struct config *c, char *text)
{
    char **words = realloc(c->words, (c->n_words + 1) * sizeof *words);
    if (!words) {
        free(text);
        return NULL;
    }
    c->words = words;
    return c->words[c->n_words++] = text;
}

static int value_apply(struct config *c, const struct opt *table, const struct opt *row, const json_t *v, void *args,
                       struct vm_error *err)
{
    char name[64];
    const struct opt *asked;
    char *text = NULL;
    snprintf(name, sizeof name, "--%s", row->name);
    if (row->type == OPT_FLAG) {
        if (!json_is_boolean(v)) return vm_fail(err, -EINVAL, "%s: is true or false", row->name);
        if (json_is_false(v)) return 0;
    } else {
        text = value_text(v);
        if (!text) return vm_fail(err, -EINVAL, "%s: wants a text or a number: %s", row->name, row->arg);
        char *inside = c->folder ? config_path(row, text, c->folder) : NULL;
        if (inside) free(text), text = inside;
        if (!(text = keep(c, text))) return no_memory(err);
    }
    char *argv[] = { name, text };
    int rc = options_parse(table, args, text ? 2 : 1, argv, &asked, err);
    return rc <= 0 ? rc : vm_fail(err, -EINVAL, "%s: '%s' is a question, and no setting", row->name, text);
}

static int setting_apply(struct config *c, const struct opt *table, const char *key, const json_t *v, void *args,
                         struct vm_error *err)
{
    const struct opt *row = key_row(table, key, err);
    if (!row) return -EINVAL;
    if (!json_is_array(v)) return value_apply(c, table, row, v, args, err);
    if (!row->repeats) return vm_fail(err, -EINVAL, "%s: takes one value, and no array", key);
    int rc = 0;
    for (size_t i = 0; i < json_array_size(v) && !rc; i++)
        rc = value_apply(c, table, row, json_array_get(v, i), args, err);
    return rc;
}

int config_apply(struct config *c, const struct opt *table, void *args, struct vm_error *err)
{
    const char *key;
    json_t *v;
    json_object_foreach(c->root, key, v)
    {
        int rc = setting_apply(c, table, key, v, args, err);
        if (rc) return key_fail(c, key, rc, err);
    }
    return 0;
}

/* ---- from words ---- */

/* One more value of a setting that may be repeated. */
static int value_join(struct config *c, const char *key, json_t *value)
{
    json_t *had = json_object_get(c->root, key);
    if (!had) return json_object_set(c->root, key, value);
    if (json_is_array(had)) return json_array_append(had, value);
    json_t *both = json_array();
    int rc = !both || json_array_append(both, had) || json_array_append(both, value);
    if (!rc) rc = json_object_set(c->root, key, both);
    json_decref(both);
    return rc;
}

static int word_add(void *arg, const struct opt *row, const char *value, struct vm_error *err)
{
    struct config *c = arg;
    if (!is_setting(row)) return 0;
    json_t *v = value ? json_string(value) : json_true();
    if (!v && value && strlen(value) < FILE_MAX_BYTES)
        return vm_fail(err, -EINVAL, "--%s: '%.64s' is not UTF-8", row->name, value);
    int rc = !v || (row->repeats ? value_join(c, row->name, v) : json_object_set(c->root, row->name, v));
    json_decref(v);
    return rc ? no_memory(err) : 0;
}

int config_add_words(struct config *c, const struct opt *table, int argc, char **argv, struct vm_error *err)
{
    return options_each(table, argc, argv, word_add, c, err);
}

/* ---- what it says ---- */

const char *config_value(const struct config *c, const char *key)
{
    const json_t *v = json_object_get(c->root, key);
    return json_string_value(json_is_array(v) ? json_array_get(v, 0) : v);
}

static int text_visit(json_t *v, const struct opt *row, config_text_fn *fn, void *arg, struct vm_error *err)
{
    char *other = NULL;
    if (!json_is_string(v)) return 0;
    int rc = fn(arg, row, json_string_value(v), &other, err);
    if (!rc && other && json_string_set(v, other)) rc = no_memory(err);
    free(other);
    return rc;
}

int config_each(struct config *c, const struct opt *table, config_text_fn *fn, void *arg, struct vm_error *err)
{
    const char *key;
    json_t *v;
    int rc = 0;
    json_object_foreach(c->root, key, v)
    {
        const struct opt *row = key_row(table, key, err);
        if (!row) return key_fail(c, key, -EINVAL, err);
        if (!json_is_array(v)) rc = text_visit(v, row, fn, arg, err);
        for (size_t i = 0; json_is_array(v) && i < json_array_size(v) && !rc; i++)
            rc = text_visit(json_array_get(v, i), row, fn, arg, err);
        if (rc) return rc;
    }
    return 0;
}

int config_print(const struct config *c, FILE *out)
{
    return json_dumpf(c->root, out, JSON_INDENT(4) | JSON_ENSURE_ASCII) || fputc('\n', out) == EOF ? -EIO : 0;
}
