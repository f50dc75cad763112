/* Owns a line that is being edited, and those before it.
 *   I1  text[0..n) is UTF-8 (of what is typed the rest is left out); at <= n is the start of a character.
 *                                                                                                        [character]
 *   I2  The row of the terminal shows the prompt, and of the line what fits, with the cursor at `at`.      [refresh]
 *   I3  Lines of the history are at most LINE_HISTORY, and none is like the one before it.                    [keep] */
#include "src/face/line_edit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CTRL = 0x1f, ESC = 0x1b, DEL = 0x7f };
enum state { PLAIN, AFTER_ESC, IN_SEQUENCE };

struct line_edit {
    struct line_edit_host host;
    const char *prompt;
    unsigned columns;
    char text[LINE_MAX_BYTES + 1];
    size_t n, at;
    char cut[LINE_MAX_BYTES + 1];   /* by Ctrl-K, Ctrl-U, Ctrl-W, Alt-D; Ctrl-Y puts it in */
    char *history[LINE_HISTORY];    /* the oldest first */
    unsigned lines, back;           /* back: how many lines up we look; 0: at what is being typed, */
    char typed[LINE_MAX_BYTES + 1]; /* which is kept here meanwhile */
    enum state state;
    char sequence[16]; /* behind Esc [ or Esc O */
    unsigned length;
    char part[4];          /* of a character, */
    unsigned got, missing; /* of which so many bytes have come, and are still to come */
};

/* ---- showing ---- */

static bool inside(char c) { return ((u8)c & 0xc0) == 0x80; } /* a character of UTF-8 */

static size_t after(const struct line_edit *e, size_t i)
{
    if (i < e->n) i++;
    while (i < e->n && inside(e->text[i])) i++;
    return i;
}

static size_t before(const struct line_edit *e, size_t i)
{
    if (i) i--;
    while (i && inside(e->text[i])) i--;
    return i;
}

static void put(struct line_edit *e, const char *text) { e->host.put(e->host.arg, text, strlen(text)); }

/* Each character takes a column. A line that does not fit is shown around the cursor; the last column stays free, so
 * that the terminal does not wrap. */
static void refresh(struct line_edit *e)
{
    char row[sizeof e->text + 128];
    size_t prompt = strlen(e->prompt), from = 0, to, cursor = 0;
    size_t room = e->columns > prompt + 2 ? e->columns - prompt - 1 : 1;
    for (size_t i = 0; i < e->at; i = after(e, i)) cursor++;
    for (; cursor >= room; cursor--) from = after(e, from);
    to = from;
    for (size_t i = 0; i < room && to < e->n; i++) to = after(e, to);
    int n = snprintf(row, sizeof row, "\r%s%.*s\033[K\r\033[%zuC", e->prompt, (int)(to - from), e->text + from,
                     prompt + cursor);
    e->host.put(e->host.arg, row, (size_t)n);
}

void line_edit_show(struct line_edit *e) { refresh(e); }
void line_edit_columns(struct line_edit *e, unsigned columns) { e->columns = columns ? columns : 80; }

/* ---- changing ---- */

static void erase(struct line_edit *e, size_t from, size_t to)
{
    memmove(e->text + from, e->text + to, e->n - to);
    e->n -= to - from;
    e->text[e->n] = 0;
    e->at = from;
}

static void cut(struct line_edit *e, size_t from, size_t to)
{
    if (from == to) return;
    memcpy(e->cut, e->text + from, to - from);
    e->cut[to - from] = 0;
    erase(e, from, to);
}

static void insert(struct line_edit *e, const char *bytes, size_t n)
{
    if (n > LINE_MAX_BYTES - e->n) return;
    memmove(e->text + e->at + n, e->text + e->at, e->n - e->at);
    memcpy(e->text + e->at, bytes, n);
    e->n += n;
    e->at += n;
    e->text[e->n] = 0;
}

static void set(struct line_edit *e, const char *text)
{
    e->n = e->at = strlen(text);
    memcpy(e->text, text, e->n + 1);
}

static size_t word_left(const struct line_edit *e)
{
    size_t i = e->at;
    while (i && e->text[i - 1] == ' ') i--;
    while (i && e->text[i - 1] != ' ') i--;
    return i;
}

static size_t word_right(const struct line_edit *e)
{
    size_t i = e->at;
    while (i < e->n && e->text[i] == ' ') i++;
    while (i < e->n && e->text[i] != ' ') i++;
    return i;
}

/* ---- history ---- */

static void keep(struct line_edit *e)
{
    if (!e->n || (e->lines && !strcmp(e->history[e->lines - 1], e->text))) return;
    char *line = strdup(e->text);
    if (!line) return;
    if (e->lines == LINE_HISTORY) {
        free(e->history[0]);
        memmove(e->history, e->history + 1, (LINE_HISTORY - 1) * sizeof e->history[0]);
        e->lines--;
    }
    e->history[e->lines++] = line;
}

static void look_back(struct line_edit *e, unsigned back)
{
    if (back > e->lines) return;
    if (!e->back) strcpy(e->typed, e->text);
    e->back = back;
    set(e, back ? e->history[e->lines - back] : e->typed);
}

static void enter(struct line_edit *e)
{
    char line[sizeof e->text];
    strcpy(line, e->text);
    put(e, "\r\n");
    keep(e);
    set(e, "");
    e->back = 0;
    e->host.done(e->host.arg, line);
}

/* ---- completion ---- */

struct line_words {
    char **word;
    size_t n, room;
};

void line_words_add(struct line_words *w, const char *word)
{
    if (w->n == w->room) {
        size_t room = w->room ? 2 * w->room : 32;
        char **more = realloc(w->word, room * sizeof *more);
        if (!more) return;
        w->word = more;
        w->room = room;
    }
    char *copy = strdup(word);
    if (copy) w->word[w->n++] = copy;
}

/* What all of them begin with. */
static size_t common(const struct line_words *w)
{
    size_t n = strlen(w->word[0]);
    for (size_t i = 1; i < w->n; i++) {
        size_t k = 0;
        while (k < n && w->word[i][k] == w->word[0][k]) k++;
        n = k;
    }
    while (n && inside(w->word[0][n])) n--;
    return n;
}

static void list(struct line_edit *e, const struct line_words *w)
{
    size_t width = 0, column = 0;
    for (size_t i = 0; i < w->n; i++)
        if (strlen(w->word[i]) > width) width = strlen(w->word[i]);
    size_t columns = e->columns / (width + 2);
    put(e, "\r\n");
    for (size_t i = 0; i < w->n; i++) {
        put(e, w->word[i]);
        bool last = i + 1 == w->n || ++column >= columns;
        if (last) put(e, "\r\n");
        else
            for (size_t k = strlen(w->word[i]); k < width + 2; k++) put(e, " ");
        if (last) column = 0;
    }
}

static void complete(struct line_edit *e)
{
    struct line_words w = { 0 };
    char until[sizeof e->text];
    snprintf(until, sizeof until, "%.*s", (int)e->at, e->text);
    const char *space = strrchr(until, ' ');
    size_t typed = strlen(space ? space + 1 : until);
    e->host.complete(e->host.arg, until, &w);
    size_t n = w.n ? common(&w) : 0;
    if (n > typed) insert(e, w.word[0] + typed, n - typed);
    if (w.n == 1 && (!n || w.word[0][n - 1] != '/')) insert(e, " ", 1);
    if (w.n > 1 && n <= typed) list(e, &w);
    for (size_t i = 0; i < w.n; i++) free(w.word[i]);
    free(w.word);
}

/* ---- keys ---- */

static void control(struct line_edit *e, u8 c)
{
    switch (c) {
    case 'A' & CTRL: e->at = 0; break;
    case 'B' & CTRL: e->at = before(e, e->at); break;
    case 'C' & CTRL:
        put(e, "^C\r\n");
        set(e, "");
        e->back = 0;
        break;
    case 'D' & CTRL: erase(e, e->at, after(e, e->at)); break;
    case 'E' & CTRL: e->at = e->n; break;
    case 'F' & CTRL: e->at = after(e, e->at); break;
    case 'H' & CTRL:
    case DEL: erase(e, before(e, e->at), e->at); break;
    case '\t': complete(e); break;
    case '\r':
    case '\n': enter(e); break;
    case 'K' & CTRL: cut(e, e->at, e->n); break;
    case 'L' & CTRL: put(e, "\033[H\033[2J"); break;
    case 'N' & CTRL:
        if (e->back) look_back(e, e->back - 1);
        break;
    case 'P' & CTRL: look_back(e, e->back + 1); break;
    case 'U' & CTRL: cut(e, 0, e->at); break;
    case 'W' & CTRL: cut(e, word_left(e), e->at); break;
    case 'Y' & CTRL: insert(e, e->cut, strlen(e->cut)); break;
    }
}

/* Behind Esc. */
static void alt(struct line_edit *e, u8 c)
{
    switch (c) {
    case 'b': e->at = word_left(e); break;
    case 'f': e->at = word_right(e); break;
    case 'd': cut(e, e->at, word_right(e)); break;
    case DEL: cut(e, word_left(e), e->at); break;
    }
}

/* Of ECMA-48, as xterm and the Linux console send them; xterm's CSI 8 t. */
static void sequence(struct line_edit *e, char final)
{
    static const struct {
        u8 number; /* of a sequence that ends in ~; 0: its end is `final` */
        char final, as;
    } keys[] = {
        { 0, 'A', 'P' & CTRL }, { 0, 'B', 'N' & CTRL }, { 0, 'C', 'F' & CTRL }, { 0, 'D', 'B' & CTRL },
        { 0, 'H', 'A' & CTRL }, { 0, 'F', 'E' & CTRL }, { 1, '~', 'A' & CTRL }, { 3, '~', 'D' & CTRL },
        { 4, '~', 'E' & CTRL }, { 7, '~', 'A' & CTRL }, { 8, '~', 'E' & CTRL },
    };
    e->sequence[e->length] = 0;
    unsigned long number = strtoul(e->sequence, NULL, 10);
    const char *modifier = strchr(e->sequence, ';');
    if (modifier && (final == 'C' || final == 'D')) { /* with Ctrl or Alt */
        alt(e, final == 'C' ? 'f' : 'b');
        return;
    }
    if (final == 't' && number == 8 && modifier) { /* the size of a terminal: rows and columns */
        const char *columns = strchr(modifier + 1, ';');
        unsigned long n = columns ? strtoul(columns + 1, NULL, 10) : 0;
        line_edit_columns(e, n < 10000 ? (unsigned)n : 0);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (keys[i].final == final && (final != '~' || keys[i].number == number)) control(e, (u8)keys[i].as);
}

/* A byte of UTF-8. */
static void character(struct line_edit *e, u8 c)
{
    unsigned more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
    if (inside((char)c)) {
        bool wrong = !e->missing || (e->got == 1 && (u8)e->part[0] == 0xc2 && c < 0xa0); /* the latter: controls */
        if (wrong) {
            e->missing = 0;
            return;
        }
        e->missing--;
    } else {
        e->got = 0;
        e->missing = c < 0x80 ? 0 : more;
    }
    e->part[e->got++] = (char)c;
    bool lead = c >= 0xc0 && (c < 0xc2 || c > 0xf4); /* of nothing */
    if (lead) e->missing = e->got = 0;
    else if (!e->missing) insert(e, e->part, e->got);
}

static void byte(struct line_edit *e, u8 c)
{
    const char one = (char)c;
    switch (e->state) {
    case PLAIN:
        if (c == ESC) e->state = AFTER_ESC;
        else if (c < ' ' || c == DEL) control(e, c);
        else character(e, c);
        return;
    case AFTER_ESC:
        e->state = c == '[' || c == 'O' ? IN_SEQUENCE : c == ESC ? AFTER_ESC : PLAIN;
        e->length = 0;
        if (e->state == PLAIN) alt(e, c);
        return;
    case IN_SEQUENCE:
        if (c >= 0x40 && c <= 0x7e) {
            e->state = PLAIN;
            sequence(e, one);
        } else if (e->length < sizeof e->sequence - 1) e->sequence[e->length++] = one;
        return;
    }
}

void line_edit_input(struct line_edit *e, const u8 *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) byte(e, bytes[i]);
    refresh(e);
}

/* ---- life ---- */

struct line_edit *line_edit_new(const char *prompt, const struct line_edit_host *host)
{
    struct line_edit *e = calloc(1, sizeof *e);
    if (!e) return NULL;
    e->host = *host;
    e->prompt = prompt;
    e->columns = 80;
    return e;
}

void line_edit_free(struct line_edit *e)
{
    if (!e) return;
    for (unsigned i = 0; i < e->lines; i++) free(e->history[i]);
    free(e);
}
