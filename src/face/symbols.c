/* Owns a guest's symbols: reading them, and looking them up.
 *   I1  by_address is sorted, and has code only; all names are in text, each with its zero.   [finish]
 *   I2  An ELF file is looked at within its bytes alone: it may be anybody's.                 [part]
 *   I3  Addresses here are the file's: the slide comes to them where they are looked up. Once found it stays.
 *                                                                                             [symbols_settle] */
#include "src/face/symbols.h"
#include "core/hostfd.h"
#include "src/error.h"
#include "src/parse.h"

#include <ctype.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_MAX ((size_t)1 << 30)
#define REACH (1u << 20) /* nothing is further than that into a function */
#define NAME_MAX_ 256u
#define ENOUGH_HANDLERS 8u    /* that are functions' beginnings: chance makes one of them one */
#define SLIDE_UNKNOWN (~0ull) /* no address */

struct symbol {
    u32 at;
    bool code;
    const char *name;
};
struct symbols {
    char *text; /* the file */
    size_t len, n, room, codes;
    u64 slide;                       /* added to all addresses; SLIDE_UNKNOWN */
    u32 tried[SYMBOLS_HANDLERS_MAX]; /* the handlers that have not told it */
    struct symbol *all;              /* by name */
    struct symbol *by_address;       /* those of code */
};

/* ---- reading ---- */

static int add(struct symbols *s, u64 at, bool code, const char *name)
{
    if (!*name || at > UINT32_MAX) return 0;
    if (s->n == s->room) {
        size_t room = s->room ? 2 * s->room : 4096;
        struct symbol *more = realloc(s->all, room * sizeof *more);
        if (!more) return -ENOMEM;
        s->all = more, s->room = room;
    }
    s->all[s->n++] = (struct symbol){ (u32)at, code, name };
    s->codes += code;
    return 0;
}

/* ADDRESS TYPE NAME [MODULE], a line each. What is none is skipped. */
static int read_text(struct symbols *s)
{
    char *save = NULL;
    bool any = false;
    for (char *line = strtok_r(s->text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *end, *name;
        unsigned long long at = strtoull(line, &end, 16);
        if (end == line || end[0] != ' ' || !isalpha((unsigned char)end[1]) || end[2] != ' ') continue;
        name = end + 3;
        name[strcspn(name, " \t\r")] = 0;
        any |= at != 0;
        int rc = add(s, at, strchr("tTwW", end[1]) != NULL, name);
        if (rc) return rc;
    }
    return any ? 0 : s->n ? -EACCES : -ENOEXEC;
}

/* n bytes from off on; NULL: they are not there. */
static const void *part(const struct symbols *s, u64 off, u64 n)
{
    return off <= s->len && n <= s->len - off ? s->text + off : NULL;
}

/* All that is needed of a section, whatever the file's class. */
struct section {
    u32 type, link;
    u64 off, size;
};

static bool section(const struct symbols *s, bool wide, u64 table, unsigned i, struct section *out)
{
    u64 each = wide ? sizeof(Elf64_Shdr) : sizeof(Elf32_Shdr);
    const void *p = part(s, table + i * each, each);
    Elf64_Shdr h64;
    Elf32_Shdr h32;
    if (!p) return false;
    if (wide) {
        memcpy(&h64, p, sizeof h64);
        *out = (struct section){ h64.sh_type, h64.sh_link, h64.sh_offset, h64.sh_size };
    } else {
        memcpy(&h32, p, sizeof h32);
        *out = (struct section){ h32.sh_type, h32.sh_link, h32.sh_offset, h32.sh_size };
    }
    return true;
}

static int read_table(struct symbols *s, bool wide, const struct section *t, const struct section *names)
{
    u64 each = wide ? sizeof(Elf64_Sym) : sizeof(Elf32_Sym);
    const char *text = part(s, names->off, names->size);
    if (!part(s, t->off, t->size) || !text || !names->size || text[names->size - 1]) return -ENOEXEC;
    for (u64 at = t->off; at + each <= t->off + t->size; at += each) {
        Elf64_Sym y;
        Elf32_Sym y32;
        if (wide) memcpy(&y, s->text + at, sizeof y);
        else {
            memcpy(&y32, s->text + at, sizeof y32);
            y = (Elf64_Sym){ y32.st_name, y32.st_info, y32.st_other, y32.st_shndx, y32.st_value, y32.st_size };
        }
        unsigned type = ELF64_ST_TYPE(y.st_info);
        if (y.st_name >= names->size || y.st_shndx == SHN_UNDEF || type > STT_FUNC) continue;
        int rc = add(s, y.st_value, type != STT_OBJECT, text + y.st_name);
        if (rc) return rc;
    }
    return 0;
}

static int read_elf(struct symbols *s)
{
    Elf64_Ehdr h;
    Elf32_Ehdr h32;
    bool wide = s->text[EI_CLASS] == ELFCLASS64;
    if (s->text[EI_DATA] != ELFDATA2LSB || !part(s, 0, wide ? sizeof h : sizeof h32)) return -ENOEXEC;
    memcpy(&h, s->text, wide ? sizeof h : 0);
    memcpy(&h32, s->text, wide ? 0 : sizeof h32);
    u64 table = wide ? h.e_shoff : h32.e_shoff;
    for (unsigned i = 0; i < (wide ? h.e_shnum : h32.e_shnum); i++) {
        struct section t, names;
        if (!section(s, wide, table, i, &t)) return -ENOEXEC;
        if (t.type != SHT_SYMTAB) continue;
        return section(s, wide, table, t.link, &names) ? read_table(s, wide, &t, &names) : -ENOEXEC;
    }
    return -ENOEXEC;
}

static int read_file(struct symbols *s, const char *file)
{
    size_t room = 1 << 16;
    int fd = hostfd(open(file, O_RDONLY | O_CLOEXEC)), rc = fd < 0 ? -errno : 0;
    for (ssize_t got = 1; !rc && got;) {
        char *more = s->len + 1 >= room || !s->text ? realloc(s->text, room *= 2) : s->text;
        if (!more) rc = -ENOMEM;
        else if ((s->text = more, got = read(fd, s->text + s->len, room - s->len - 1)) < 0) rc = -errno;
        else if ((s->len += (size_t)got) > FILE_MAX) rc = -EFBIG;
    }
    if (fd >= 0) close(fd);
    if (!rc) s->text[s->len] = 0;
    return rc;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct symbol *)a)->name, ((const struct symbol *)b)->name);
}
static int by_place(const void *a, const void *b)
{
    const struct symbol *x = a, *y = b;
    return x->at < y->at ? -1 : x->at > y->at ? 1 : by_name(a, b);
}

static int finish(struct symbols *s)
{
    size_t n = 0;
    if (!s->n) return -ENOEXEC;
    if (!(s->by_address = malloc((s->codes + 1) * sizeof *s->by_address))) return -ENOMEM;
    for (size_t i = 0; i < s->n; i++)
        if (s->all[i].code) s->by_address[n++] = s->all[i];
    qsort(s->by_address, n, sizeof *s->by_address, by_place);
    qsort(s->all, s->n, sizeof *s->all, by_name);
    return 0;
}

int symbols_open(struct symbols **out, const char *spec, struct vm_error *err)
{
    char file[4096];
    const char *comma = strstr(spec, ",slide=");
    bool found = comma && !strcmp(comma + 7, "auto");
    u64 slide = found ? SLIDE_UNKNOWN : 0;
    snprintf(file, sizeof file, "%.*s", comma ? (int)(comma - spec) : (int)strlen(spec), spec);
    if (comma && !found && parse_u64(comma + 7, UINT32_MAX, &slide))
        return vm_fail(err, -EINVAL, "--symbols %.200s: slide= is neither an address nor auto", spec);
    struct symbols *s = calloc(1, sizeof *s);
    if (!s) return vm_fail(err, -ENOMEM, "--symbols: out of memory");
    s->slide = slide;
    int rc = read_file(s, file);
    if (!rc) rc = s->len > EI_NIDENT && !memcmp(s->text, ELFMAG, SELFMAG) ? read_elf(s) : read_text(s);
    if (!rc) rc = finish(s);
    if (!rc) {
        *out = s;
        return 0;
    }
    symbols_close(s);
    return vm_fail(err, rc, "--symbols %.200s: %s", file,
                   rc == -ENOEXEC  ? "neither a System.map nor an ELF file with a symbol table"
                   : rc == -EACCES ? "all addresses are 0: only root may read them there"
                                   : strerror(-rc));
}

void symbols_close(struct symbols *s)
{
    if (!s) return;
    free(s->all);
    free(s->by_address);
    free(s->text);
    free(s);
}

/* ---- where the kernel is ---- */

/* The first symbol at the file's address `at` or above. */
static size_t first_from(const struct symbols *s, u32 at)
{
    size_t low = 0, high = s->codes;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (s->by_address[mid].at < at) low = mid + 1;
        else high = mid;
    }
    return low;
}

static bool begins_code(const struct symbols *s, u32 at)
{
    size_t i = first_from(s, at);
    return i < s->codes && s->by_address[i].at == at;
}

static const struct symbol *named(const struct symbols *s, const char *name)
{
    const struct symbol key = { .name = name };
    return bsearch(&key, s->all, s->n, sizeof key, by_name);
}

/* Linux's first IDT (arch/x86/kernel/head_32.S): small entries, one after the other, of one symbol. */
static bool settle_early(struct symbols *s, const u32 *handler, size_t n)
{
    const struct symbol *first = named(s, "early_idt_handler_array");
    u32 each = handler[1] - handler[0];
    for (size_t i = 0; i < n; i++)
        if (handler[i] != handler[0] + i * each) return false;
    if (!first || !each || each > 16) return false;
    s->slide = handler[0] - first->at;
    return true;
}

bool symbols_settled(const struct symbols *s) { return !s || s->slide != SLIDE_UNKNOWN; }

bool symbols_settle(struct symbols *s, const u32 *handler, size_t n)
{
    u32 place = 0, ways = 0;
    size_t last = n;
    if (symbols_settled(s)) return true;
    if (!memcmp(handler, s->tried, n * sizeof *handler)) return false;
    memcpy(s->tried, handler, n * sizeof *handler);
    if (settle_early(s, handler, n)) return true;
    while (last && !handler[last - 1]) last--;
    if (!last) return false;
    for (size_t i = 0; i < s->codes; i++) {
        u32 slide = handler[last - 1] - s->by_address[i].at, fit = 0, are = 0;
        if (slide % 4096 || (i && s->by_address[i].at == s->by_address[i - 1].at)) continue;
        for (size_t k = 0; k < last; k++) {
            are += handler[k] != 0;
            fit += handler[k] && begins_code(s, handler[k] - slide);
        }
        if (fit == are && fit >= ENOUGH_HANDLERS) place = slide, ways++;
    }
    if (ways == 1) s->slide = place;
    return ways == 1;
}

/* ---- looking up ---- */

bool symbols_find(const struct symbols *s, const char *name, u32 *address)
{
    char alone[NAME_MAX_];
    u64 more = 0;
    size_t n = strcspn(name, "+");
    u64 slide = s ? s->slide : SLIDE_UNKNOWN;
    if (slide == SLIDE_UNKNOWN || n >= sizeof alone || (name[n] && parse_u64(name + n + 1, UINT32_MAX, &more)))
        return false;
    snprintf(alone, sizeof alone, "%.*s", (int)n, name);
    const struct symbol *found = named(s, alone);
    if (found) *address = found->at + (u32)(slide + more);
    return found != NULL;
}

const char *symbols_at(const struct symbols *s, u32 address, u32 *offset)
{
    u64 slide = s ? s->slide : SLIDE_UNKNOWN;
    if (slide == SLIDE_UNKNOWN) return NULL;
    address -= (u32)slide;
    size_t low = address == UINT32_MAX ? s->codes : first_from(s, address + 1);
    if (!low || address - s->by_address[low - 1].at >= REACH) return NULL;
    while (low > 1 && s->by_address[low - 2].at == s->by_address[low - 1].at) low--; /* of several, always the same */
    *offset = address - s->by_address[low - 1].at;
    return s->by_address[low - 1].name;
}

const char *symbols_text(const struct symbols *s, u32 address, char *text, size_t room)
{
    u32 offset;
    const char *name = symbols_at(s, address, &offset);
    if (name) snprintf(text, room, "%s+0x%x", name, offset);
    else *text = 0;
    return text;
}

/* One end of a range: a number stays what it is. */
static int put_end(const struct symbols *s, const char *end, size_t n, char *out, size_t room, struct vm_error *err)
{
    char name[NAME_MAX_];
    u32 at;
    snprintf(name, sizeof name, "%.*s", (int)n, end);
    if (!s || isdigit((unsigned char)name[0])) return snprintf(out, room, "%s", name);
    if (!symbols_settled(s))
        return vm_fail(err, -EINVAL, "where '%.100s' is, is known once the kernel runs (slide=auto)", name);
    if (!symbols_find(s, name, &at)) return vm_fail(err, -EINVAL, "there is no symbol '%.100s'", name);
    return snprintf(out, room, "0x%x", at);
}

int symbols_words(const struct symbols *s, const char *words, char *out, size_t room, struct vm_error *err)
{
    size_t to = 0;
    for (const char *w = words;; w++) {
        size_t n = strcspn(w, ","), from = 0;
        for (bool at = !strncmp(w, "at=", 3); from < n;) {
            size_t k = at && from >= 3 ? strcspn(w + from, ",-") : at ? 3 : n;
            int put = at && from >= 3 ? put_end(s, w + from, k, out + to, room - to, err)
                                      : snprintf(out + to, room - to, "%.*s", (int)k, w + from);
            if (put < 0) return put;
            to += (size_t)put, from += k;
            if (to + 2 >= room) return vm_fail(err, -EINVAL, "'%.40s..' is too long", words);
            if (from < n && w[from] == '-' && at) out[to++] = '-', out[to] = 0, from++;
        }
        w += n;
        if (!*w) break;
        if (to + 2 >= room) return vm_fail(err, -EINVAL, "'%.40s..' is too long", words);
        out[to++] = ',', out[to] = 0;
    }
    out[to] = 0;
    return 0;
}
