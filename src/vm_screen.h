/* The display of a machine that somebody looks at while it runs. */
#ifndef SRC_VM_SCREEN_H
#define SRC_VM_SCREEN_H
#include "core/types.h"
#include "transvisor/vm.h"

struct vm_screen;
/* Whether spec asks for one. */
bool vm_screen_wanted(const char *spec);
struct vm;
/* The display is "auto", and the serial port is on this process's terminal. */
bool vm_screen_automatic(const struct vm *vm);
/* Then: the screen's text takes that terminal, and nobody is at the serial port's other end any more. On the vCPU
 * thread, from a post. 0 or -errno: things are as they were, but for a jail, where the port stays at nothing. */
MUST_CHECK int vm_screen_take_terminal(struct vm *vm, struct vm_error *err);
/* As vm->cfg.display says; *out is NULL for none. Automatic: it stands by. Once the machine has its board. 0 or -errno.
 */
int vm_screen_open(struct vm_screen **out, struct vm *vm, struct vm_error *err);
/* As vm_say(), where the screen is on the terminal. Copes with NULL. */
void vm_screen_say(struct vm_screen *s, const void *bytes, size_t n);
/* The machine is about to run: viewers may come. Copes with NULL. */
void vm_screen_let_in(struct vm_screen *s);
/* The display is gone; what is on its way to it ends there. Copes with NULL. */
void vm_screen_close(struct vm_screen *s);
void vm_screen_free(struct vm_screen *s); /* before the board; copes with NULL */

#endif
