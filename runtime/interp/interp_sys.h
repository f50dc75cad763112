/* Port I/O as the interpreter's instructions do it. */
#ifndef RUNTIME_INTERP_SYS_H
#define RUNTIME_INTERP_SYS_H
#include "core/types.h"
struct interp;

/* May the present code access [port, port+size)? IOPL, else the TSS's I/O bitmap (SDM vol. 1, 18.5): #GP(0). */
MUST_CHECK int interp_io_check(struct interp *ip, u16 port, unsigned size);
u32 interp_io_in(struct interp *ip, u16 port, unsigned size);
void interp_io_out(struct interp *ip, u16 port, unsigned size, u32 val);
u32 interp_io_in_string(struct interp *ip, u16 port, unsigned size, u8 *to, u32 n);
u32 interp_io_out_string(struct interp *ip, u16 port, unsigned size, const u8 *from, u32 n);
/* Notes I/O breakpoints (interp_mem.c). */
void interp_watch_io(struct interp *ip, u16 port, unsigned size);
#endif
