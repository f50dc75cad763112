/* Owns the protocol of a 93C46: a start bit, two bits of opcode, six of address, and for writes sixteen of data.
 *   I1  bits is 0 until a start bit has come, and counts from there to the end of the command.  [eeprom93_drive]
 * NOT-HW: programming takes no time.
 * Enter at eeprom93_drive(). National Semiconductor NM93C46 (1994). */
#include "src/dev/net/eeprom93.h"

#include <string.h>

enum { OP_OTHER, OP_WRITE, OP_READ, OP_ERASE };
enum { OTHER_OFF, OTHER_WRITE_ALL, OTHER_ERASE_ALL, OTHER_ON }; /* upper two bits of the address */
#define ADDRESS_BITS 6u
#define HEAD (1 + 2 + ADDRESS_BITS) /* bits of a command without its data */
#define DATA 16u

void eeprom93_idle(struct eeprom93 *e)
{
    e->shift = e->out = 0;
    e->bits = e->left = 0;
    e->dout = true;
    e->writable = false;
}

static void program(struct eeprom93 *e, unsigned from, unsigned n, u16 value)
{
    if (!e->writable) return;
    for (unsigned i = 0; i < n; i++) e->word[from + i] = value;
}

/* All of a command is in. */
static void run(struct eeprom93 *e, u32 head, u16 data)
{
    unsigned at = head & (EEPROM93_WORDS - 1), op = head >> ADDRESS_BITS & 3;

    if (op == OP_WRITE) program(e, at, 1, data);
    if (op == OP_ERASE) program(e, at, 1, 0xffff);
    if (op != OP_OTHER) return;
    switch (at >> (ADDRESS_BITS - 2)) {
    case OTHER_OFF: e->writable = false; break;
    case OTHER_ON: e->writable = true; break;
    case OTHER_WRITE_ALL: program(e, 0, EEPROM93_WORDS, data); break;
    case OTHER_ERASE_ALL: program(e, 0, EEPROM93_WORDS, 0xffff); break;
    }
}

static bool has_data(u32 head)
{
    unsigned op = head >> ADDRESS_BITS & 3;

    return op == OP_WRITE || (op == OP_OTHER && (head >> (ADDRESS_BITS - 2) & 3) == OTHER_WRITE_ALL);
}

static void next_word(struct eeprom93 *e)
{
    e->out = e->word[e->at];
    e->left = 16;
    e->at = (e->at + 1) & (EEPROM93_WORDS - 1);
}

static void bit_in(struct eeprom93 *e, bool di)
{
    if (e->left) { /* a read goes on for as long as it is clocked */
        e->dout = e->out >> 15;
        e->out <<= 1;
        if (!--e->left) next_word(e);
        return;
    }
    if (!e->bits && !di) return; /* no start bit yet */
    if (e->bits == HEAD + DATA) return;
    e->shift = e->shift << 1 | di;
    e->bits++;
    if (e->bits == HEAD) {
        unsigned op = e->shift >> ADDRESS_BITS & 3;

        if (op == OP_READ) {
            e->at = e->shift & (EEPROM93_WORDS - 1);
            next_word(e);
            e->dout = false; /* a zero comes before the data */
        } else if (!has_data(e->shift)) {
            run(e, e->shift, 0);
            e->dout = true;
        }
    } else if (e->bits == HEAD + DATA) {
        if (has_data(e->shift >> DATA)) run(e, e->shift >> DATA, (u16)e->shift);
        e->dout = true;
    }
}

void eeprom93_drive(struct eeprom93 *e, bool cs, bool sk, bool di)
{
    bool rise = cs && e->cs && sk && !e->sk;

    if (!cs || !e->cs) { /* a command ends with its select */
        e->bits = e->left = 0;
        e->shift = 0;
        e->dout = true; /* ready */
    }
    e->cs = cs;
    e->sk = sk;
    if (rise) bit_in(e, di);
}
