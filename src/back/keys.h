/* The keys of a PC's keyboard (US layout, 104 keys), and what others call them. One table for all who have keys to
 * press: texts, terminals, VNC's clients.
 *
 * A key is its make code in scan code set 2, with KEY_E0 where that has the prefix; the keyboard makes of it what the
 * guest has asked for. */
#ifndef SRC_BACK_KEYS_H
#define SRC_BACK_KEYS_H
#include "core/types.h"
#include "transvisor/vm.h"

/* clang-format off */
enum {
    KEY_E0 = 0x100, KEY_E1 = 0x200,
    KEY_BACKSPACE = 0x66, KEY_TAB = 0x0d, KEY_ENTER = 0x5a, KEY_ESC = 0x76,
    KEY_SHIFT = 0x12, KEY_SHIFT_R = 0x59, KEY_CTRL = 0x14, KEY_CTRL_R = KEY_E0 | 0x14,
    KEY_ALT = 0x11, KEY_ALT_R = KEY_E0 | 0x11,
    KEY_UP = KEY_E0 | 0x75, KEY_DOWN = KEY_E0 | 0x72, KEY_LEFT = KEY_E0 | 0x6b, KEY_RIGHT = KEY_E0 | 0x74,
    KEY_HOME = KEY_E0 | 0x6c, KEY_END = KEY_E0 | 0x69, KEY_PAGE_UP = KEY_E0 | 0x7d, KEY_PAGE_DOWN = KEY_E0 | 0x7a,
    KEY_INSERT = KEY_E0 | 0x70, KEY_DELETE = KEY_E0 | 0x71,
    KEY_F1 = 0x05, KEY_F2 = 0x06, KEY_F3 = 0x04, KEY_F4 = 0x0c, KEY_F5 = 0x03, KEY_F6 = 0x0b, KEY_F7 = 0x83,
    KEY_F8 = 0x0a, KEY_F9 = 0x01, KEY_F10 = 0x09, KEY_F11 = 0x78, KEY_F12 = 0x07,
    KEY_CODES = 0x300, /* all codes are below */
};
/* clang-format on */

/* How Shift has to be for a key to mean what is wanted. */
enum key_shift {
    KEY_ANY,    /* it does not matter */
    KEY_PLAIN,  /* not pressed */
    KEY_SHIFTED /* pressed */
};
struct key_stroke {
    unsigned key; /* 0: there is no such key */
    enum key_shift shift;
    bool letter; /* Caps Lock turns shift around */
};

/* By the number that X11 and RFB know it by; for a character that is its code in Latin-1. */
struct key_stroke key_of_keysym(u32 keysym);
/* By the name that QEMU's sendkey has for it, of n bytes. 0: there is none. */
unsigned key_of_name(const char *name, size_t n);

/* Takes a text apart into keys that go down and up: characters; <NAME> for a key or <ctrl-alt-delete> for several at
 * once; << for a <; a newline is Enter. key: NULL: the text is only checked. 0; -EINVAL: there is no key for it. */
MUST_CHECK int keys_type(const char *text, void (*key)(void *arg, unsigned key, bool down), void *arg,
                         struct vm_error *err);

#endif
