/* Owns how a table of options is shown on a terminal. */
#include "src/face/options.h"

#include <string.h>

#define LEFT 26 /* columns of the left half */
#define WIDTH 120

static bool is_shown(const struct opt *o, bool all)
{
    return o->rank != OPT_FOREIGN && (all || o->rank == OPT_COMMON) && o->type != OPT_HELP;
}

/* "--memory SIZE, -m": the name, its argument, and its single-letter spelling. */
static void left_text(const struct opt *o, char *text, size_t room)
{
    int n = snprintf(text, room, "--%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
    const char *a = o->aliases;
    if (a && a[0] && (!a[1] || a[1] == ' ')) snprintf(text + n, room - (size_t)n, ", -%c", a[0]);
}

static void print_row(const struct opt *o, FILE *out)
{
    char left[96];
    left_text(o, left, sizeof left);
    if (strlen(left) > LEFT) fprintf(out, "  %s\n  %-*s %s\n", left, LEFT, "", o->help);
    else fprintf(out, "  %-*s %s\n", LEFT, left, o->help);
}

/* The names of the rows that were not explained. */
static void print_others(const struct opt *table, FILE *out)
{
    int column = 0;
    for (const struct opt *o = table; o->name; o++) {
        if (o->rank != OPT_PLAIN || o->type == OPT_HELP) continue;
        int n = (int)strlen(o->name) + 3;
        if (!column) column = fprintf(out, "\nMore:");
        if (column + n > WIDTH) column = fprintf(out, "\n     ") - 1;
        column += n;
        fprintf(out, " --%s", o->name);
    }
    if (column) fputs("\n", out);
}

void options_help(const struct opt *table, bool all, FILE *out)
{
    const char *group = "";
    for (const struct opt *o = table; o->name; o++) {
        if (!is_shown(o, all)) continue;
        if (all && o->group && strcmp(group, o->group)) fprintf(out, "\n%s:\n", group = o->group);
        print_row(o, out);
    }
    if (!all) print_others(table, out);
}

void options_names(const struct opt *o, FILE *out)
{
    const char *name, *what;
    for (unsigned i = 0; (name = o->names(i, &what)); i++) fprintf(out, what ? "%-10s %s\n" : "%s\n", name, what);
}
