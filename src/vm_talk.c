/* Owns the way from a terminal's user to the embedder, and back. */
#include "src/vm_talk.h"
#include "src/vm_priv.h"
#include "src/vm_screen.h"

static void heard(void *arg, enum vm_talk what, const u8 *bytes, size_t n)
{
    struct vm *vm = arg;
    vm->talks = what != VM_TALK_ENDS;
    vm->cfg.talk(vm->cfg.talk_arg, what, bytes, n);
}

vm_talk_fn *vm_talk_heard(const struct vm *vm) { return vm->cfg.talk ? heard : NULL; }

void vm_say(struct vm *vm, const void *bytes, size_t n)
{
    if (vm->screen_on_terminal) vm_screen_say(vm->screen, bytes, n);
    else {
        chardev_say(vm->serial, bytes, n);
        lines_say(&vm->lines, bytes, n);
    }
}
