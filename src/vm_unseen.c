/* Owns the look at a screen that nobody sees, every few seconds of guest time, until there has been something to tell:
 * graphics; or text that goes on changing while nothing comes by the serial port, where firmware sends its own. With
 * the display "auto" such text takes the terminal over from the serial port, unless an operating system (paging is on)
 * has used that. */
#include "src/vm_unseen.h"
#include "core/clock.h"
#include "runtime/runtime.h"
#include "src/back/frame.h"
#include "src/board/pc.h"
#include "src/error.h"
#include "src/vm_priv.h"
#include "src/vm_screen.h"

#include <errno.h>

#define LOOK_NS 2000000000u
#define LOOKS 2u /* in a row that find the same, before it is told */

struct vm_unseen {
    struct vm *vm;
    struct frame *frame;
    struct vga_screen *vga;
    struct timer next;
    u64 text;         /* a sum over what stood on the screen */
    u64 sent;         /* bytes on the serial port, then */
    bool paged;       /* paging was on, then */
    bool serial_used; /* by an operating system */
    unsigned graphics, texts;
    bool told; /* of graphics */
};

static u64 text_sum(const struct display_frame *f)
{
    u64 sum = 0;
    for (size_t i = 0, n = (size_t)f->shape.columns * f->shape.rows; i < n; i++) sum = sum * 31 + f->cells[i].code;
    return sum;
}

static void look_later(struct vm_unseen *u) { timer_arm(&u->next, clock_now(rt_clock(u->vm->rt)) + LOOK_NS); }

static void tell(struct vm_unseen *u, const struct vm_error *text)
{
    if (u->vm->cfg.warn) u->vm->cfg.warn(u->vm->cfg.warn_arg, text->text);
}

/* What has been sent since the last look may be firmware's, or a boot loader's by way of it, unless paging was on at
 * both ends. */
static void serial_look(struct vm_unseen *u)
{
    struct cpu_arch cpu;
    rt_get_state(u->vm->rt, &cpu);
    bool paged = cpu.cr0 & CR0_PG;
    u->serial_used |= paged && u->paged && u->vm->tap.sent != u->sent;
    u->paged = paged;
}

/* On the vCPU thread, from a post. */
static void look_now(void *arg)
{
    struct vm_unseen *u = arg;
    struct vm_error text;
    bool automatic = vm_screen_automatic(u->vm);
    vga_screen_draw(u->vga);
    const struct display_frame *f = frame_lock(u->frame, NULL, NULL);
    const struct display_shape shape = f->shape;
    bool graphics = shape.width >= 320 && !shape.columns && !f->blank;
    u64 sum = text_sum(f);
    frame_unlock(u->frame);
    serial_look(u);
    u->graphics = graphics ? u->graphics + 1 : 0;
    u->texts = sum != u->text && u->vm->tap.sent == u->sent ? u->texts + 1 : 0;
    u->text = sum;
    u->sent = u->vm->tap.sent;
    if (u->graphics >= LOOKS && !u->told) {
        vm_fail(&text, 0, "the guest shows graphics, %u x %u: --display vnc lets you look", shape.width, shape.height);
        tell(u, &text);
        u->told = true;
        if (!automatic) return;
    } else if (u->texts >= LOOKS && automatic && !u->serial_used) {
        if (u->vm->talks) { /* the user has the terminal; later */
            look_later(u);
            return;
        }
        if (vm_screen_take_terminal(u->vm, &text)) tell(u, &text);
        return;
    } else if (u->texts >= LOOKS && !automatic) {
        vm_fail(&text, 0, "the guest writes to its screen, not to the serial port: --display text lets you look");
        tell(u, &text);
        return;
    }
    look_later(u);
}

static void unseen_look(void *arg)
{
    struct vm_unseen *u = arg;
    if (rt_post(u->vm->rt, look_now, u)) look_later(u);
}

int vm_unseen_new(struct vm_unseen **out, struct vm *vm)
{
    *out = NULL;
    if (!pc_vga(vm->pc) || vm->cfg.inspect || vm_screen_wanted(vm->cfg.display)) return 0;
    if (!vm->cfg.warn && !vm_screen_automatic(vm)) return 0;
    struct vm_unseen *u = calloc(1, sizeof *u);
    if (!u) return -ENOMEM;
    u->vm = vm;
    timer_init(&u->next, rt_clock(vm->rt), unseen_look, u);
    int rc = frame_new(&u->frame, NULL, NULL);
    if (!rc) rc = vga_screen_new(&u->vga, pc_vga(vm->pc), frame_display(u->frame), true);
    if (rc) vm_unseen_free(u);
    else {
        look_later(u);
        *out = u;
    }
    return rc;
}

void vm_unseen_free(struct vm_unseen *u)
{
    if (!u) return;
    timer_cancel(&u->next);
    vga_screen_free(u->vga);
    frame_free(u->frame);
    free(u);
}
