/* Prints what is made of the tables of verbs and options besides the program itself; run by the build.
 * Usage: face_docs man|bash VERSION FILE */
#include "src/face/verbs.h"

#include <string.h>

/* ---- transvisor(1) ---- */

/* roff takes a dash for a hyphen, a dot or quote at the beginning of a line for a request. */
static void roff(const char *text)
{
    for (const char *p = text; *p; p++) {
        if ((*p == '.' || *p == '\'') && (p == text || p[-1] == '\n')) fputs("\\&", stdout);
        if (*p == '-') fputs("\\-", stdout);
        else if (*p == '\\') fputs("\\e", stdout);
        else putchar(*p);
    }
}

static void man_spelling(const char *name, size_t n, const char *arg, bool first)
{
    if (!first) fputs(", ", stdout);
    printf("\\fB%s", n == 1 ? "\\-" : "\\-\\-");
    for (size_t i = 0; i < n; i++) printf(name[i] == '-' ? "\\-" : "%c", name[i]);
    fputs("\\fR", stdout);
    if (arg) {
        fputs(" \\fI", stdout);
        roff(arg);
        fputs("\\fR", stdout);
    }
}

static void man_option(const struct opt *o)
{
    fputs(".TP\n", stdout);
    man_spelling(o->name, strlen(o->name), o->arg, true);
    for (const char *p = o->aliases; p && *p;) {
        size_t n = strcspn(p, " ");
        man_spelling(p, n, NULL, false);
        p += n;
        p += strspn(p, " ");
    }
    putchar('\n');
    roff(o->help ? o->help : "shows the options");
    fputs(".\n", stdout);
    const char *name, *what;
    for (unsigned i = 0; o->names && (name = o->names(i, &what)); i++) {
        fputs(i ? ".br\n" : ".RS\n.PP\n", stdout);
        printf("\\fB");
        roff(name);
        fputs("\\fR", stdout);
        if (what) {
            fputs(": ", stdout);
            roff(what);
        }
        putchar('\n');
    }
    if (o->names) fputs(".RE\n", stdout);
}

static void man_options(const struct opt *table, bool foreign)
{
    const char *group = "";
    for (const struct opt *o = table; o->name; o++) {
        if ((o->rank == OPT_FOREIGN) != foreign) continue;
        if (o->group && strcmp(group, o->group)) {
            fputs(".SS ", stdout);
            roff(group = o->group);
            putchar('\n');
        }
        man_option(o);
    }
}

static void man(const char *version)
{
    printf(
        ".TH TRANSVISOR 1 \"\" \"transvisor %s\" \"User Commands\"\n"
        ".SH NAME\ntransvisor \\- run 32\\-bit x86 operating systems without hardware virtualization\n.SH SYNOPSIS\n",
        version);
    for (int i = 0; i < VERB_COUNT; i++)
        printf(verbs[i].as_run ? "%s.B transvisor %s\n%s [\\fIOPTIONS\\fR]\n"
                               : "%s.B transvisor %s\n[\\fIOPTIONS\\fR] %s\n",
               i ? ".br\n" : "", verbs[i].name, verbs[i].operand ? verbs[i].operand : "");
    fputs(".br\n.B transvisor\n.I FILE\n", stdout);
    fputs(
        ".SH DESCRIPTION\nA virtual PC as an ordinary process: guest code is translated to 64\\-bit host code, or runs "
        "directly where the host runs 32\\-bit code.\nNo kernel module, no root, no VT\\-x.\n.PP\n"
        "An option may be given with one dash or two, its argument as the next word or after an equals sign.\n",
        stdout);
    for (int i = 0; i < VERB_COUNT; i++) {
        fputs(".SH \"TRANSVISOR ", stdout);
        for (const char *p = verbs[i].name; *p; p++) putchar(*p == ' ' ? ' ' : *p & ~0x20);
        fputs("\"\n", stdout);
        roff(verbs[i].what);
        fputs(".\n", stdout);
        if (verbs[i].examples) {
            fputs(".PP\n.nf\n", stdout);
            roff(verbs[i].examples);
            fputs(".fi\n", stdout);
        }
        if (verbs[i].as_run) fputs("It takes the options of \\fBtransvisor run\\fR, too.\n", stdout);
        man_options(verbs[i].options, false);
    }
    fputs(".SH \"SPELLINGS OF OTHER PROGRAMS\"\nWhat users of QEMU, kvmtool and Firecracker type, and what becomes of "
          "it.\n",
          stdout);
    man_options(verbs[VERB_RUN].options, true);
    fputs(".SH \"EXIT STATUS\"\n", stdout);
    roff(verbs_exit_status);
    fputs(".SH \"SEE ALSO\"\n.BR libtransvisor (3),\n.BR qemu\\-system\\-i386 (1)\n", stdout);
}

/* ---- completion in bash ---- */

static void bash_words(const struct opt *table)
{
    for (const struct opt *o = table; o->name; o++)
        if (o->rank != OPT_FOREIGN) printf(" --%s", o->name);
}

/* What may follow an option: a case for each that takes an argument. */
static void bash_values(const struct opt *table)
{
    const char *name;
    for (const struct opt *o = table; o->name; o++) {
        if (o->rank == OPT_FOREIGN || !o->arg) continue;
        printf("            --%s)\n                ", o->name);
        if (o->choices || o->names) {
            fputs("COMPREPLY=($(compgen -W '", stdout);
            for (unsigned i = 0; o->choices && o->choices[i]; i++) printf("%s ", o->choices[i]);
            for (unsigned i = 0; o->names && (name = o->names(i, &(const char *){ NULL })); i++) printf("%s ", name);
            fputs("' -- \"$word\"))", stdout);
        } else if (!strncmp(o->arg, "FILE", 4)) {
            fputs("COMPREPLY=($(compgen -f -- \"$word\"))", stdout);
        } else if (!strcmp(o->arg, "DIR")) {
            fputs("COMPREPLY=($(compgen -d -- \"$word\"))", stdout);
        } else {
            fputs("COMPREPLY=()", stdout);
        }
        fputs("\n                return ;;\n", stdout);
    }
}

static void bash(void)
{
    fputs("# bash completion for transvisor\n_transvisor()\n{\n"
          "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} words\n"
          "    if [[ $COMP_CWORD -eq 1 ]]; then\n        COMPREPLY=($(compgen -W '",
          stdout);
    for (int i = 0; i < VERB_COUNT; i++)
        if (!strchr(verbs[i].name, ' ')) printf("%s ", verbs[i].name);
    fputs("img --help --version' -- \"$word\") $(compgen -f -- \"$word\"))\n        return\n    fi\n"
          "    local verb=${COMP_WORDS[1]}\n    if [[ $verb == img ]]; then\n        verb=\"img ${COMP_WORDS[2]}\"\n"
          "        if [[ $COMP_CWORD -eq 2 ]]; then\n            COMPREPLY=($(compgen -W '",
          stdout);
    for (int i = 0; i < VERB_COUNT; i++)
        if (!strncmp(verbs[i].name, "img ", 4)) printf("%s ", verbs[i].name + 4);
    fputs("' -- \"$word\"))\n            return\n        fi\n    fi\n    case $verb in\n", stdout);
    for (int i = 0; i < VERB_COUNT; i++) {
        printf("        \"%s\")\n            case $before in\n", verbs[i].name);
        bash_values(verbs[i].options);
        if (verbs[i].as_run) bash_values(verbs[VERB_RUN].options);
        fputs("            esac\n            words='", stdout);
        bash_words(verbs[i].options);
        if (verbs[i].as_run) bash_words(verbs[VERB_RUN].options);
        fputs("' ;;\n", stdout);
    }
    fputs("    esac\n    if [[ $word == -* ]]; then\n        COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n    "
          "else\n"
          "        COMPREPLY=($(compgen -f -- \"$word\"))\n    fi\n}\n"
          "complete -o filenames -F _transvisor transvisor\n",
          stdout);
}

int main(int argc, char **argv)
{
    if (argc != 4 || !freopen(argv[3], "w", stdout)) return 2;
    if (!strcmp(argv[1], "man")) man(argv[2]);
    else if (!strcmp(argv[1], "bash")) bash();
    else return 2;
    return ferror(stdout) || fflush(stdout) ? 1 : 0;
}
