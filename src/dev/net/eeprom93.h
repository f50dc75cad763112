/* A serial EEPROM on a card (93C46 and its larger kin, x16): three wires in, one out. */
#ifndef SRC_DEV_NET_EEPROM93_H
#define SRC_DEV_NET_EEPROM93_H
#include "core/snap.h"

#define EEPROM93_WORDS 64u
struct eeprom93 {
    u16 word[EEPROM93_WORDS];
    u32 shift;     /* bits of the present command, the last one lowest */
    u16 out;       /* what is still to be shifted out, the next bit highest */
    u8 bits;       /* how many bits of a command have come since its start bit */
    u8 left;       /* bits in out */
    u8 at;         /* the word after the one in out */
    bool cs, sk;   /* as they were last driven */
    bool dout;     /* DO */
    bool writable; /* EWEN */
};
/* Drives the wires; reads of DO are e->dout. A rise of sk is what takes di. */
void eeprom93_drive(struct eeprom93 *e, bool cs, bool sk, bool di);
/* Ready for a command, its words as they are: as on power-on. */
void eeprom93_idle(struct eeprom93 *e);

/* Its rows in the table of a card that has one as member m. A reset leaves what is in it, and what is on its wires. */
#define EEPROM93_FIELDS(T, m)                                                                          \
    SNAP_ARRAY(T, m.word, .keep = true), SNAP(T, m.shift, .keep = true), SNAP(T, m.out, .keep = true), \
        SNAP(T, m.bits, .keep = true, .max = 25), SNAP(T, m.left, .keep = true, .max = 16),            \
        SNAP(T, m.at, .keep = true, .max = EEPROM93_WORDS - 1), SNAP(T, m.cs, .keep = true),           \
        SNAP(T, m.sk, .keep = true), SNAP(T, m.dout, .keep = true), SNAP(T, m.writable, .keep = true)

#endif
