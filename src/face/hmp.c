/* Owns the words of the human monitor: QEMU's, where it has the same command. */
#include "src/face/hmp.h"
#include "src/face/inspect.h"
#include "src/face/kaslr.h"
#include "src/face/session_actions.h"
#include "src/face/symbols.h"
#include "src/parse.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

#define WORDS_MAX 8u

struct line {
    struct session *s;
    struct vm *vm;
    const char *word[WORDS_MAX]; /* word[0]: the command */
    unsigned n;
    const char *rest; /* the line behind the command */
    FILE *out;
};

static void failed(const struct line *l, int rc, const struct vm_error *err)
{
    if (rc) fprintf(l->out, "%s\n", err->text);
}

/* ---- the commands ---- */

static void do_help(struct line *l);

static void info_status(struct line *l) { fprintf(l->out, "VM status: %s\n", action_status(l->s)); }
static void info_version(struct line *l) { fprintf(l->out, "%s\n", vm_version()); }
static void info_stats(struct line *l) { vm_stats(l->vm, l->out); }

static void info_block(struct line *l)
{
    char name[24];
    struct vm_drive d;
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        if (action_drive_name(l->vm, i, name, &d))
            fprintf(l->out, "%s: %s%s%s%s\n", name, d.disk.file && *d.disk.file ? d.disk.file : "[not inserted]",
                    d.disk.readonly || d.disk.cdrom ? " (read-only)" : "", d.tray_open ? " (tray open)" : "",
                    d.locked ? " (locked)" : "");
}

static void info_balloon(struct line *l)
{
    u64 bytes;
    struct vm_balloon_stats s;
    if (vm_get_balloon(l->vm, &bytes)) fputs("there is no balloon: say --balloon on\n", l->out);
    else fprintf(l->out, "balloon: actual=%llu\n", (unsigned long long)(bytes >> 20));
    if (vm_get_balloon_stats(l->vm, &s) || !s.said) return;
    fprintf(l->out, "the guest, %.1f s ago:", (double)s.age_ns / 1e9);
    for (unsigned i = 0; i < VM_BALLOON_STATS; i++)
        if (s.said >> i & 1) fprintf(l->out, " %s=%llu", action_balloon_stat(i), (unsigned long long)s.value[i]);
    fputc('\n', l->out);
}

/* NAME, or an address: what the other is. */
static void info_symbol(struct line *l)
{
    char text[300];
    u64 at;
    u32 found;
    const char *word = l->n > 2 ? l->word[2] : "";
    if (!l->s->symbols) fputs("there are no symbols: say --symbols FILE\n", l->out);
    else if (symbols_find(l->s->symbols, word, &found)) fprintf(l->out, "%s is at %08x\n", word, found);
    else if (!parse_u64(word, UINT32_MAX, &at) && *symbols_text(l->s->symbols, (u32)at, text, sizeof text))
        fprintf(l->out, "%08x is %s\n", (u32)at, text);
    else fprintf(l->out, "there is no symbol '%s'\n", word);
}

/* Where the guest is, for who asks often: an address, with its function if that is known, and the privilege level. */
static void info_where(struct line *l)
{
    struct vm_registers r;
    u32 offset;
    if (vm_get_registers(l->vm, &r)) return;
    u32 at = r.cs.base + r.eip;
    const char *name = r.cpl < 3 ? symbols_at(l->s->symbols, at, &offset) : NULL;
    if (r.halted) fputs("idle\n", l->out);
    else if (name) fprintf(l->out, "%s\n", name);
    else fprintf(l->out, "%s %08x\n", r.cpl == 3 ? "user" : "kernel", at);
}

/* The registers say where; what that is called comes after them. */
static void info_rest(const struct line *l)
{
    char text[300];
    struct vm_registers r;
    if (l->n < 2 || strcmp(l->word[1], "registers") || vm_get_registers(l->vm, &r) || r.cpl == 3) return;
    if (*symbols_text(l->s->symbols, r.cs.base + r.eip, text, sizeof text)) fprintf(l->out, "eip is %s\n", text);
}

/* Beside those of inspect(). */
static const struct {
    const char *name, *what;
    void (*show)(struct line *l);
} infos[] = {
    { "status", "whether it runs", info_status },
    { "block", "its drives", info_block },
    { "balloon", "the MiB that the guest has left", info_balloon },
    { "version", "this program's", info_version },
    { "stats", "its counters, as JSON", info_stats },
    { "where", "the function that the guest is in", info_where },
    { "symbol", "an address of a name, or a name of an address", info_symbol },
};

static void do_info(struct line *l)
{
    for (size_t i = 0; i < ARRAY_LEN(infos); i++) {
        if (l->n < 2 || strcmp(l->word[1], infos[i].name)) continue;
        infos[i].show(l);
        return;
    }
    if (inspect(l->vm, l->rest, l->out)) info_rest(l);
    else
        for (size_t i = 0; i < ARRAY_LEN(infos); i++)
            fprintf(l->out, "  info %-10s %s\n", infos[i].name, infos[i].what);
}

static void do_stop(struct line *l) { session_stop(l->s); }
static void do_cont(struct line *l) { session_go(l->s); }
static void do_step(struct line *l) { session_step(l->s, false); }
static void do_quit(struct line *l) { session_quit(l->s); }
static void do_power(struct line *l) { (void)!vm_power_button(l->vm); }
static void do_reset(struct line *l)
{
    struct vm_error err;
    failed(l, action_reset(l->s, &err), &err);
}
static void do_screendump(struct line *l)
{
    struct vm_error err;
    failed(l, vm_screenshot(l->vm, l->word[1], &err), &err);
}
static void do_save(struct line *l)
{
    struct vm_error err;
    failed(l, vm_save_file(l->vm, l->word[1], &err), &err);
}
/* MiB */
static void do_balloon(struct line *l)
{
    u64 mib;
    if (parse_u64(l->word[1], VM_MEMORY_MAX >> 20, &mib) || !mib) fputs("that is no number of MiB\n", l->out);
    else if (vm_balloon(l->vm, mib << 20)) fputs("there is no balloon: say --balloon on\n", l->out);
}
static void do_sendkey(struct line *l)
{
    char text[128];
    struct vm_error err = { "too long" };
    bool fits = snprintf(text, sizeof text, "<%s>", l->word[1]) < (int)sizeof text;
    failed(l, fits ? vm_type(l->vm, text, &err) : -EINVAL, &err);
}
static void do_type(struct line *l)
{
    struct vm_error err;
    failed(l, vm_type(l->vm, l->rest, &err), &err);
}

/* ADDRESS BYTES FILE */
static void memory_to_file(struct line *l, bool physical)
{
    struct vm_error err = { "that is no number" };
    u64 address, bytes;
    int rc = parse_u64(l->word[1], UINT64_MAX, &address);
    if (!rc) rc = parse_u64(l->word[2], UINT64_MAX, &bytes);
    failed(l, rc ? rc : action_memory(l->vm, physical, address, bytes, l->word[3], &err), &err);
}
static void do_memsave(struct line *l) { memory_to_file(l, false); }
static void do_pmemsave(struct line *l) { memory_to_file(l, true); }

/* ADDRESS [BYTES] */
static void dump(struct line *l, bool physical)
{
    u8 bytes[4096];
    u64 at, n = 64;
    if (parse_u64(l->word[1], UINT64_MAX, &at) || (l->n > 2 && parse_u64(l->word[2], sizeof bytes, &n))) {
        fputs("that is no number\n", l->out);
        return;
    }
    u64 got = physical           ? vm_read_physical(l->vm, at, bytes, n)
              : at <= UINT32_MAX ? vm_read_linear(l->vm, (u32)at, bytes, n)
                                 : 0;
    if (physical && got) got = n;
    for (u64 i = 0; i < got; i += 16) {
        fprintf(l->out, "%08llx:", (unsigned long long)(at + i));
        for (u64 k = i; k < i + 16 && k < got; k++) fprintf(l->out, " %02x", bytes[k]);
        fputc('\n', l->out);
    }
    if (got < n) fprintf(l->out, "%08llx: there is no memory\n", (unsigned long long)(at + got));
}
static void do_x(struct line *l) { dump(l, false); }
static void do_xp(struct line *l) { dump(l, true); }

/* The medium of a drive: FILE, or none. */
static void medium(struct line *l, const char *name, const char *file, bool force)
{
    struct vm_error err;
    struct vm_drive now;
    int drive = action_drive(l->vm, name);
    if (drive < 0 || vm_get_drive(l->vm, (unsigned)drive, &now)) {
        fprintf(l->out, "there is no drive '%s'; `info block` names them\n", name);
        return;
    }
    struct vm_disk disk = now.disk;
    disk.file = file;
    failed(l, vm_change_medium(l->vm, (unsigned)drive, file ? &disk : NULL, force, &err), &err);
}
static void do_eject(struct line *l)
{
    bool force = l->n > 2 && !strcmp(l->word[1], "-f");
    medium(l, l->word[force ? 2 : 1], NULL, force);
}
static void do_change(struct line *l) { medium(l, l->word[1], l->word[2], false); }

/* ---- the table ---- */

static const struct command {
    const char *name, *alias, *args;
    unsigned least; /* how many words there must be behind it */
    const char *what;
    void (*run)(struct line *l);
} commands[] = {
    { "balloon", NULL, "MIB", 1, "asks the guest to do with so much memory", do_balloon },
    { "change", NULL, "DRIVE FILE", 2, "puts another medium into a drive", do_change },
    { "cont", "c", "", 0, "lets the machine go on", do_cont },
    { "eject", NULL, "[-f] DRIVE", 1, "takes the medium out; -f: though the guest has locked it", do_eject },
    { "help", "?", "[COMMAND]", 0, "this", do_help },
    { "info", NULL, "THING", 0, "shows a part of the machine; `info` alone lists them", do_info },
    { "memsave", NULL, "ADDR BYTES FILE", 3, "writes memory to a file, by linear address", do_memsave },
    { "pmemsave", NULL, "ADDR BYTES FILE", 3, "the same by physical address", do_pmemsave },
    { "quit", "q", "", 0, "ends the machine", do_quit },
    { "save", NULL, "FILE", 1, "saves the machine, for --load", do_save },
    { "screendump", NULL, "FILE", 1, "writes the screen: a PNG, or text if FILE ends in .txt", do_screendump },
    { "sendkey", NULL, "KEY[-KEY..]", 1, "presses keys at once: ctrl-alt-delete", do_sendkey },
    { "step", "s", "", 0, "runs one instruction", do_step },
    { "stop", NULL, "", 0, "the machine stands, and its time with it", do_stop },
    { "system_powerdown", NULL, "", 0, "presses the power button", do_power },
    { "system_reset", NULL, "", 0, "presses the reset button", do_reset },
    { "type", NULL, "TEXT", 1, "types it on the keyboard; <ret> is a key", do_type },
    { "x", NULL, "ADDR [BYTES]", 1, "shows memory, by linear address", do_x },
    { "xp", NULL, "ADDR [BYTES]", 1, "the same by physical address", do_xp },
};

static bool is_called(const struct command *c, const char *word)
{
    return !strcmp(c->name, word) || (c->alias && !strcmp(c->alias, word));
}

static void do_help(struct line *l)
{
    bool any = false;
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        const struct command *c = &commands[i];
        char how[64];
        if (l->n > 1 && !is_called(c, l->word[1])) continue;
        snprintf(how, sizeof how, "%s%s%s %s", c->name, c->alias ? "|" : "", c->alias ? c->alias : "", c->args);
        fprintf(l->out, "%-26s %s\n", how, c->what);
        any = true;
    }
    if (!any) fprintf(l->out, "there is no command '%s'\n", l->word[1]);
}

/* ---- completion ---- */

struct words {
    void (*offer)(void *arg, const char *word);
    void *arg;
    const char *word; /* what is typed of it */
};

static void offer(const struct words *w, const char *word)
{
    if (!strncmp(word, w->word, strlen(w->word))) w->offer(w->arg, word);
}

static void offer_commands(const struct words *w)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) offer(w, commands[i].name);
}

static void offer_things(const struct words *w)
{
    const char *name, *what;
    for (size_t i = 0; i < ARRAY_LEN(infos); i++) offer(w, infos[i].name);
    for (unsigned i = 0; (name = inspect_name(i, &what)); i++) offer(w, name);
}

static void offer_drives(const struct words *w, struct vm *vm)
{
    char name[24];
    struct vm_drive d;
    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        if (action_drive_name(vm, i, name, &d)) offer(w, name);
}

/* A word has no blanks, and a name that would move the cursor is not shown. */
static bool is_word(const char *name)
{
    for (; *name; name++)
        if ((unsigned char)*name <= ' ' || *name == 0x7f) return false;
    return true;
}

static void offer_files(const struct words *w)
{
    char path[1100];
    const char *slash = strrchr(w->word, '/');
    int n = slash ? (int)(slash + 1 - w->word) : 0;
    snprintf(path, sizeof path, "%.*s", n, w->word);
    DIR *dir = opendir(n ? path : ".");
    for (struct dirent *e; dir && (e = readdir(dir));) {
        bool hidden = e->d_name[0] == '.' && w->word[n] != '.';
        if (hidden || !strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") || !is_word(e->d_name)) continue;
        snprintf(path, sizeof path, "%.*s%s%s", n, w->word, e->d_name, e->d_type == DT_DIR ? "/" : "");
        offer(w, path);
    }
    if (dir) closedir(dir);
}

/* kind: an argument as a command's row has it. */
static void offer_arguments(const struct words *w, struct vm *vm, const char *kind, size_t n)
{
    static const char optional[] = "[-f]";
    if (!strncmp(kind, "DRIVE", n)) offer_drives(w, vm);
    else if (!strncmp(kind, "FILE", n)) offer_files(w);
    else if (!strncmp(kind, "THING", n)) offer_things(w);
    else if (!strncmp(kind, "[COMMAND]", n)) offer_commands(w);
    else if (!strncmp(kind, optional, n)) {
        offer(w, "-f");
        kind += n + 1; /* or what comes behind it */
        offer_arguments(w, vm, kind, strcspn(kind, " "));
    }
}

void hmp_complete(struct session *s, const char *before, void (*fn)(void *arg, const char *word), void *arg)
{
    before += strspn(before, " ");
    const char *space = strrchr(before, ' ');
    const struct words w = { fn, arg, space ? space + 1 : before };
    size_t n = strcspn(before, " ");
    if (!space) {
        offer_commands(&w);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        const char *kind = commands[i].args, *at = before + n;
        char name[32];
        snprintf(name, sizeof name, "%.*s", (int)(n < sizeof name ? n : 0), before);
        if (!is_called(&commands[i], name)) continue;
        /* As many arguments further as words are complete. */
        for (at += strspn(at, " "); at < w.word && *kind; at += strcspn(at, " "), at += strspn(at, " ")) {
            kind += strcspn(kind, " ");
            kind += *kind == ' ';
        }
        if (*kind) offer_arguments(&w, s->vm, kind, strcspn(kind, " "));
    }
}

void hmp_line(struct session *s, const char *text, FILE *out)
{
    char words[1024], *save = NULL;
    struct line l = { .s = s, .vm = s->vm, .out = out };
    text += strspn(text, " \t");
    size_t n = strcspn(text, " \t");
    l.rest = text + n + strspn(text + n, " \t");
    if (snprintf(words, sizeof words, "%s", text) >= (int)sizeof words) {
        fputs("that line is too long\n", out);
        return;
    }
    for (char *w = strtok_r(words, " \t\r\n", &save); w && l.n < WORDS_MAX; w = strtok_r(NULL, " \t\r\n", &save))
        l.word[l.n++] = w;
    if (!l.n) return;
    kaslr_look(s->symbols, s->vm);
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (!is_called(&commands[i], l.word[0])) continue;
        if (l.n - 1 < commands[i].least) fprintf(out, "usage: %s %s\n", commands[i].name, commands[i].args);
        else commands[i].run(&l);
        return;
    }
    fprintf(out, "unknown command: '%s'; `help` lists them\n", l.word[0]);
}
