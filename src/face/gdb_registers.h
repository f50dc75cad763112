/* The machine's registers as gdb numbers them, and the description of that which it is given. */
#ifndef SRC_FACE_GDB_REGISTERS_H
#define SRC_FACE_GDB_REGISTERS_H
#include "core/types.h"
#include "transvisor/vm.h"

#define GDB_REGISTER_BYTES_MAX 16u

unsigned gdb_registers(void);            /* how many there are */
unsigned gdb_register_bytes(unsigned n); /* 0: there is no such */
/* In the order of the target's memory: the lowest byte first. */
void gdb_register_get(const struct vm_registers *r, unsigned n, u8 out[GDB_REGISTER_BYTES_MAX]);
void gdb_register_set(struct vm_registers *r, unsigned n, const u8 *in);
/* target.xml. code16: what runs now is 16-bit code, so that is what gdb takes it for. */
void gdb_registers_xml(FILE *out, bool code16);

#endif
