/* Owns the decoding of a terminal's input. Enter at term_keys_feed(). */
#include "src/back/term_keys.h"
#include "src/back/keys.h"

#include <stdlib.h>
#include <string.h>

enum { MOD_SHIFT = 1, MOD_ALT = 2, MOD_CTRL = 4 };
#define ESC 0x1b

/* Of CSI and SS3. number: of a sequence that ends in ~; 0: its end is `final`. */
static const struct {
    u8 number;
    char final;
    u16 key;
} sequences[] = {
    { 0, 'A', KEY_UP },        { 0, 'B', KEY_DOWN },   { 0, 'C', KEY_RIGHT }, { 0, 'D', KEY_LEFT },
    { 0, 'H', KEY_HOME },      { 0, 'F', KEY_END },    { 0, 'M', KEY_ENTER }, { 0, 'P', KEY_F1 },
    { 0, 'Q', KEY_F2 },        { 0, 'R', KEY_F3 },     { 0, 'S', KEY_F4 },    { 1, '~', KEY_HOME },
    { 2, '~', KEY_INSERT },    { 3, '~', KEY_DELETE }, { 4, '~', KEY_END },   { 5, '~', KEY_PAGE_UP },
    { 6, '~', KEY_PAGE_DOWN }, { 7, '~', KEY_HOME },   { 8, '~', KEY_END },   { 11, '~', KEY_F1 },
    { 12, '~', KEY_F2 },       { 13, '~', KEY_F3 },    { 14, '~', KEY_F4 },   { 15, '~', KEY_F5 },
    { 17, '~', KEY_F6 },       { 18, '~', KEY_F7 },    { 19, '~', KEY_F8 },   { 20, '~', KEY_F9 },
    { 21, '~', KEY_F10 },      { 23, '~', KEY_F11 },   { 24, '~', KEY_F12 },
};

static void stroke(struct term_keys *t, unsigned key, unsigned mods)
{
    static const unsigned held[] = { KEY_SHIFT, KEY_ALT, KEY_CTRL };
    for (unsigned i = 0; i < ARRAY_LEN(held); i++)
        if (mods >> i & 1) t->key(t->arg, held[i], true);
    t->key(t->arg, key, true);
    t->key(t->arg, key, false);
    for (unsigned i = ARRAY_LEN(held); i-- > 0;)
        if (mods >> i & 1) t->key(t->arg, held[i], false);
}

/* Bytes above 7Eh are of characters that a US keyboard has no key for. */
static void character(struct term_keys *t, u8 c, unsigned mods)
{
    struct key_stroke s = { 0 };
    switch (c) {
    case '\r':
    case '\n': s.key = KEY_ENTER; break;
    case '\t': s.key = KEY_TAB; break;
    case '\b':
    case 0x7f: s.key = KEY_BACKSPACE; break;
    case ESC: s.key = KEY_ESC; break;
    default:
        if (c >= 0x80) return;
        if (c < 0x20) mods |= MOD_CTRL;
        /* Ctrl-A to Ctrl-Z are letters, what is around them @ (from the space bar) and [\]^_. */
        s = key_of_keysym(!c ? ' ' : c <= 26 ? c + 'a' - 1u : c < 0x20 ? c + '@' + 0u : c);
    }
    if (s.shift == KEY_SHIFTED) mods |= MOD_SHIFT;
    if (s.key) stroke(t, s.key, mods);
}

/* What follows Esc [ or Esc O, up to its last byte. Modifiers are the second parameter, less 1. */
static void sequence(struct term_keys *t)
{
    char *at = (char *)t->seq + 2, final = (char)t->seq[t->n - 1];
    unsigned long number = strtoul(at, &at, 10), mods = *at == ';' ? strtoul(at + 1, NULL, 10) : 1;
    mods = mods ? (mods - 1) & 7 : 0;
    if (final == 'Z') { /* Shift-Tab */
        stroke(t, KEY_TAB, MOD_SHIFT);
        return;
    }
    if (t->seq[2] == '[' && final >= 'A' && final <= 'E') { /* the Linux console's F1 to F5 */
        static const unsigned f[] = { KEY_F1, KEY_F2, KEY_F3, KEY_F4, KEY_F5 };
        stroke(t, f[final - 'A'], 0);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(sequences); i++)
        if (sequences[i].final == final && sequences[i].number == (final == '~' ? number : 0))
            stroke(t, sequences[i].key, (unsigned)mods);
}

/* Whether the sequence so far is whole. */
static bool is_whole(const struct term_keys *t)
{
    u8 last = t->seq[t->n - 1];
    if (t->n < 3) return false;
    if (t->n == 3 && last == '[') return false; /* the Linux console's */
    return last >= 0x40 && last <= 0x7e;
}

static void feed(struct term_keys *t, u8 c)
{
    if (!t->n && c != ESC) {
        character(t, c, 0);
        return;
    }
    if (t->n == 1 && c == ESC) { /* the first was a key */
        character(t, ESC, 0);
        return;
    }
    if (t->n == 1 && c != '[' && c != 'O') { /* Alt with a character */
        t->n = 0;
        character(t, c, MOD_ALT);
        return;
    }
    t->seq[t->n++] = c;
    bool whole = is_whole(t);
    if (!whole && t->n < sizeof t->seq - 1) return;
    t->seq[t->n] = 0;
    if (whole) sequence(t);
    t->n = 0;
}

void term_keys_feed(struct term_keys *t, const u8 *buf, size_t n)
{
    for (size_t i = 0; i < n; i++) feed(t, buf[i]);
}

void term_keys_pause(struct term_keys *t)
{
    unsigned n = t->n;
    t->n = 0;
    if (n == 1) character(t, ESC, 0);
    if (n == 2) character(t, t->seq[1], MOD_ALT);
}
