/* Owns what Ctrl-A and the key after it mean: x quits, c begins and ends a talk, h or ? tells of the keys. */
#include "src/back/user_keys.h"

#define CTRL_A 1

static void talk(struct user_keys *k, enum vm_talk what)
{
    k->talking = what == VM_TALK_BEGINS;
    k->talk(k->arg, what, NULL, 0);
}

static void tell(struct user_keys *k)
{
    k->tell(k->arg, !k->talk     ? "Ctrl-A x ends the machine, Ctrl-A Ctrl-A sends Ctrl-A, Ctrl-A h shows this"
                    : k->talking ? "Ctrl-A x ends the machine, Ctrl-A c goes back to it, Ctrl-A h shows this"
                                 : "Ctrl-A x ends the machine, Ctrl-A c opens its monitor, Ctrl-A Ctrl-A sends Ctrl-A, "
                                   "Ctrl-A h shows this");
}

/* The key after Ctrl-A, if it is none of the guest's. */
static void own_key(struct user_keys *k, u8 c)
{
    switch (c) {
    case 'x':
    case 'X': k->quit(k->arg); break;
    case 'c':
    case 'C':
        if (k->talk) talk(k, k->talking ? VM_TALK_ENDS : VM_TALK_BEGINS);
        else k->tell(k->arg, "there is no monitor; Ctrl-A x quits");
        break;
    case 'h':
    case 'H':
    case '?': tell(k); break;
    }
}

size_t user_keys_filter(struct user_keys *k, u8 *buf, size_t n)
{
    size_t out = 0;
    for (size_t i = 0; i < n; i++) {
        u8 c = buf[i];
        bool escaped = k->escape;
        k->escape = !escaped && c == CTRL_A;
        if (k->escape) continue;
        if (escaped && c != CTRL_A) own_key(k, c);
        else if (k->talking) k->talk(k->arg, VM_TALK_BYTES, &c, 1);
        else buf[out++] = c;
    }
    return out;
}

void user_keys_end(struct user_keys *k)
{
    if (k->talking) talk(k, VM_TALK_ENDS);
}
