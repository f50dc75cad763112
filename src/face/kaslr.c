/* Where a guest's kernel is that chooses its place at boot: its IDT is the one table of its functions' addresses that
 * any kernel has, from early on, where the processor says (SDM vol. 3, 6.11: figure 6-2). */
#include "src/face/kaslr.h"

#include <string.h>

#define CR0_PAGING 0x80000000u
#define EXCEPTIONS 20 /* vectors 0 to 19: those that all processors have */

/* 0: neither an interrupt nor a trap gate of 32 bits. */
static u32 handler_of(const u8 gate[8])
{
    bool is = (gate[5] & 0x8e) == 0x8e;
    return is ? gate[0] | (u32)gate[1] << 8 | (u32)gate[6] << 16 | (u32)gate[7] << 24 : 0;
}

void kaslr_look(struct symbols *s, struct vm *vm)
{
    struct vm_registers r;
    u8 idt[EXCEPTIONS][8];
    u32 handler[EXCEPTIONS];
    if (symbols_settled(s) || vm_get_registers(vm, &r) || !(r.cr0 & CR0_PAGING) || r.idtr.limit < sizeof idt - 1)
        return;
    if (vm_read_linear(vm, r.idtr.base, idt, sizeof idt) != sizeof idt) return;
    for (unsigned i = 0; i < EXCEPTIONS; i++) handler[i] = handler_of(idt[i]);
    symbols_settle(s, handler, EXCEPTIONS);
}
