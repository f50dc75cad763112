/* Owns the table of keys. Scan codes: IBM PS/2 Hardware Interface TR, "Keyboard (101/102-key)"; keysyms: X11's
 * keysymdef.h; names: those of QEMU's sendkey. */
#include "src/back/keys.h"
#include "src/error.h"

#include <errno.h>
#include <string.h>

#define E0 KEY_E0
/* clang-format off */
static const struct row {
    u16 key;
    const char *name;
    u16 plain, shifted; /* keysyms; 0: none */
} rows[] = {
    { 0x0e, "grave_accent", '`', '~' },
    { 0x16, "1", '1', '!' }, { 0x1e, "2", '2', '@' }, { 0x26, "3", '3', '#' }, { 0x25, "4", '4', '$' },
    { 0x2e, "5", '5', '%' }, { 0x36, "6", '6', '^' }, { 0x3d, "7", '7', '&' }, { 0x3e, "8", '8', '*' },
    { 0x46, "9", '9', '(' }, { 0x45, "0", '0', ')' }, { 0x4e, "minus", '-', '_' }, { 0x55, "equal", '=', '+' },
    { 0x15, "q", 'q', 'Q' }, { 0x1d, "w", 'w', 'W' }, { 0x24, "e", 'e', 'E' }, { 0x2d, "r", 'r', 'R' },
    { 0x2c, "t", 't', 'T' }, { 0x35, "y", 'y', 'Y' }, { 0x3c, "u", 'u', 'U' }, { 0x43, "i", 'i', 'I' },
    { 0x44, "o", 'o', 'O' }, { 0x4d, "p", 'p', 'P' }, { 0x54, "bracket_left", '[', '{' },
    { 0x5b, "bracket_right", ']', '}' }, { 0x5d, "backslash", '\\', '|' },
    { 0x1c, "a", 'a', 'A' }, { 0x1b, "s", 's', 'S' }, { 0x23, "d", 'd', 'D' }, { 0x2b, "f", 'f', 'F' },
    { 0x34, "g", 'g', 'G' }, { 0x33, "h", 'h', 'H' }, { 0x3b, "j", 'j', 'J' }, { 0x42, "k", 'k', 'K' },
    { 0x4b, "l", 'l', 'L' }, { 0x4c, "semicolon", ';', ':' }, { 0x52, "apostrophe", '\'', '"' },
    { 0x1a, "z", 'z', 'Z' }, { 0x22, "x", 'x', 'X' }, { 0x21, "c", 'c', 'C' }, { 0x2a, "v", 'v', 'V' },
    { 0x32, "b", 'b', 'B' }, { 0x31, "n", 'n', 'N' }, { 0x3a, "m", 'm', 'M' }, { 0x41, "comma", ',', '<' },
    { 0x49, "dot", '.', '>' }, { 0x4a, "slash", '/', '?' }, { 0x61, "less", 0, 0 }, { 0x29, "spc", ' ', ' ' },

    { KEY_BACKSPACE, "backspace", 0xff08, 0 }, { KEY_TAB, "tab", 0xff09, 0xfe20 }, { KEY_ENTER, "ret", 0xff0d, 0 },
    { KEY_ESC, "esc", 0xff1b, 0 }, { 0x58, "caps_lock", 0xffe5, 0 },
    { KEY_SHIFT, "shift", 0xffe1, 0 }, { KEY_SHIFT_R, "shift_r", 0xffe2, 0 },
    { KEY_CTRL, "ctrl", 0xffe3, 0 }, { KEY_CTRL_R, "ctrl_r", 0xffe4, 0 },
    { KEY_ALT, "alt", 0xffe9, 0xffe7 /* Meta */ }, { KEY_ALT_R, "alt_r", 0xffea, 0xfe03 /* AltGr */ },
    { E0 | 0x1f, "meta_l", 0xffeb, 0 }, { E0 | 0x27, "meta_r", 0xffec, 0 },
    { E0 | 0x2f, "menu", 0xff67, 0xffe8 /* right Meta */ },

    { KEY_F1, "f1", 0xffbe, 0 }, { KEY_F2, "f2", 0xffbf, 0 }, { KEY_F3, "f3", 0xffc0, 0 },
    { KEY_F4, "f4", 0xffc1, 0 }, { KEY_F5, "f5", 0xffc2, 0 }, { KEY_F6, "f6", 0xffc3, 0 },
    { KEY_F7, "f7", 0xffc4, 0 }, { KEY_F8, "f8", 0xffc5, 0 }, { KEY_F9, "f9", 0xffc6, 0 },
    { KEY_F10, "f10", 0xffc7, 0 }, { KEY_F11, "f11", 0xffc8, 0 }, { KEY_F12, "f12", 0xffc9, 0 },
    { E0 | 0x7c, "print", 0xff61, 0 }, { 0x84, "sysrq", 0xff15, 0 }, { 0x7e, "scroll_lock", 0xff14, 0 },
    { KEY_E1 | 0x77, "pause", 0xff13, 0xff6b },

    { KEY_INSERT, "insert", 0xff63, 0 }, { KEY_DELETE, "delete", 0xffff, 0 }, { KEY_HOME, "home", 0xff50, 0 },
    { KEY_END, "end", 0xff57, 0 }, { KEY_PAGE_UP, "pgup", 0xff55, 0 }, { KEY_PAGE_DOWN, "pgdn", 0xff56, 0 },
    { KEY_UP, "up", 0xff52, 0 }, { KEY_DOWN, "down", 0xff54, 0 }, { KEY_LEFT, "left", 0xff51, 0 },
    { KEY_RIGHT, "right", 0xff53, 0 },

    { 0x77, "num_lock", 0xff7f, 0 }, { E0 | 0x4a, "kp_divide", 0xffaf, 0 }, { 0x7c, "kp_multiply", 0xffaa, 0 },
    { 0x7b, "kp_subtract", 0xffad, 0 }, { 0x79, "kp_add", 0xffab, 0 }, { E0 | 0x5a, "kp_enter", 0xff8d, 0 },
    { 0x71, "kp_decimal", 0xffae, 0xff9f }, { 0x70, "kp_0", 0xffb0, 0xff9e }, { 0x69, "kp_1", 0xffb1, 0xff9c },
    { 0x72, "kp_2", 0xffb2, 0xff99 }, { 0x7a, "kp_3", 0xffb3, 0xff9b }, { 0x6b, "kp_4", 0xffb4, 0xff96 },
    { 0x73, "kp_5", 0xffb5, 0xff9d }, { 0x74, "kp_6", 0xffb6, 0xff98 }, { 0x6c, "kp_7", 0xffb7, 0xff95 },
    { 0x75, "kp_8", 0xffb8, 0xff97 }, { 0x7d, "kp_9", 0xffb9, 0xff9a },
};
/* clang-format on */

static bool is_character(u32 keysym) { return keysym > 0x20 && keysym < 0x7f; }

struct key_stroke key_of_keysym(u32 keysym)
{
    for (size_t i = 0; keysym && i < ARRAY_LEN(rows); i++) {
        const struct row *r = &rows[i];
        if (keysym != r->plain && keysym != r->shifted) continue;
        enum key_shift shift = !is_character(keysym) ? KEY_ANY : keysym == r->plain ? KEY_PLAIN : KEY_SHIFTED;
        return (struct key_stroke){ r->key, shift, r->plain >= 'a' && r->plain <= 'z' };
    }
    return (struct key_stroke){ 0 };
}

unsigned key_of_name(const char *name, size_t n)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (strlen(rows[i].name) == n && !memcmp(rows[i].name, name, n)) return rows[i].key;
    return 0;
}

/* ---- texts ---- */

#define CHORD_MAX 6u

struct typist {
    void (*key)(void *arg, unsigned key, bool down);
    void *arg;
};

static void press(const struct typist *t, unsigned key, bool down)
{
    if (t->key) t->key(t->arg, key, down);
}

/* The keys whose names, with dashes between them, are the n bytes at names: down in this order, up in the other. */
static int type_chord(const struct typist *t, const char *names, size_t n, struct vm_error *err)
{
    unsigned key[CHORD_MAX], count = 0;
    for (const char *p = names, *end = names + n; p <= end;) {
        const char *dash = memchr(p, '-', (size_t)(end - p));
        size_t len = (size_t)((dash ? dash : end) - p);
        if (count == CHORD_MAX) return vm_fail(err, -EINVAL, "'<%.*s>' is too many keys at once", (int)n, names);
        if (!(key[count++] = key_of_name(p, len)))
            return vm_fail(err, -EINVAL,
                           "there is no key '%.*s'; they are called ret, esc, f1, ctrl, up, .. as in "
                           "QEMU's sendkey, and << is <",
                           (int)len, p);
        p += len + 1;
    }
    for (unsigned i = 0; i < count; i++) press(t, key[i], true);
    while (count) press(t, key[--count], false);
    return 0;
}

static int type_character(const struct typist *t, u8 c, struct vm_error *err)
{
    struct key_stroke s = key_of_keysym(c == '\n' || c == '\r' ? 0xff0d : c == '\t' ? 0xff09 : c);
    if (!s.key || c >= 0x7f) return vm_fail(err, -EINVAL, "a US keyboard has no key for character 0x%02x", c);
    if (s.shift == KEY_SHIFTED) press(t, KEY_SHIFT, true);
    press(t, s.key, true);
    press(t, s.key, false);
    if (s.shift == KEY_SHIFTED) press(t, KEY_SHIFT, false);
    return 0;
}

int keys_type(const char *text, void (*key)(void *arg, unsigned key, bool down), void *arg, struct vm_error *err)
{
    const struct typist t = { key, arg };
    int rc = 0;
    while (*text && !rc) {
        if (text[0] != '<' || text[1] == '<') {
            rc = type_character(&t, (u8)*text, err);
            text += text[0] == '<' ? 2 : 1;
            continue;
        }
        size_t n = strcspn(text, ">");
        if (!text[n]) return vm_fail(err, -EINVAL, "'%.40s' has no '>'; << is <", text);
        rc = type_chord(&t, text + 1, n - 1, err);
        text += n + 1;
    }
    return rc;
}
