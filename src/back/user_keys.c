/* Owns what Ctrl-A and the key after it mean: x quits, h or ? tells of the keys, c is kept for the monitor. */
#include "src/back/user_keys.h"

#define CTRL_A 1

size_t user_keys_filter(struct user_keys *k, u8 *buf, size_t n)
{
    size_t out = 0;
    for (size_t i = 0; i < n; i++) {
        u8 c = buf[i];
        if (!k->escape) {
            if (c == CTRL_A) k->escape = true;
            else buf[out++] = c;
            continue;
        }
        k->escape = false;
        switch (c) {
        case 'x':
        case 'X': k->quit(k->arg); break;
        case 'c':
        case 'C': k->tell(k->arg, "there is no monitor yet; Ctrl-A x quits"); break;
        case 'h':
        case 'H':
        case '?': k->tell(k->arg, "Ctrl-A x ends the machine, Ctrl-A Ctrl-A sends Ctrl-A, Ctrl-A h shows this"); break;
        case CTRL_A: buf[out++] = c; break;
        }
    }
    return out;
}
