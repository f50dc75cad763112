/* The x87 unit's instruction and data pointers between cpu->fx and translated code, which keeps them in cpu->x87 while
 * the rest of the state is in the host's registers: there, the host's own pointers are host addresses. */
#ifndef RUNTIME_X87_H
#define RUNTIME_X87_H
#include "translator/translator.h"

void x87_hot(struct cpu *c);          /* fx is about to be loaded into the host's registers */
void callout_x87_home(struct cpu *c); /* at an exit, called by enter_x64.S: fx has been saved, but for the pointers */
/* After an exit in the middle of a block, at *at: what is due since the block began. */
void x87_recover(struct cpu *c, struct xl *xl, const struct xl_point *at);

#endif
