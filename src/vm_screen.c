/* Owns what is between a machine's VGA, keyboard and mouse and the display that shows it.
 *   I1  At most one drawing is on its way to the vCPU thread.                                 [on_draw, draw_now] */
#include "src/vm_screen.h"
#include "runtime/runtime.h"
#include "src/back/screen.h"
#include "src/board/pc.h"
#include "src/error.h"
#include "src/vm_input.h"
#include "src/vm_priv.h"
#include "src/vm_talk.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

struct vm_screen {
    struct vm *vm;
    struct screen *screen;
    struct vga_screen *vga;
    _Atomic bool asked; /* draw_now() is to come */
};

static void draw_now(void *arg)
{
    struct vm_screen *s = arg;
    s->asked = false;
    if (s->vga) vga_screen_draw(s->vga);
}

/* ---- on the display's thread ---- */

static void on_draw(void *arg)
{
    struct vm_screen *s = arg;
    if (!atomic_exchange(&s->asked, true) && rt_post(s->vm->rt, draw_now, s)) s->asked = false;
}

static void on_key(void *arg, unsigned key, bool down)
{
    struct vm_screen *s = arg;
    vm_input_key(s->vm->input, key, down);
}

static void on_pointer(void *arg, const struct screen_pointer *p)
{
    struct vm_screen *s = arg;
    const struct vm_place at = { p->x, p->y };
    vm_input_move(s->vm->input, p->dx, p->dy, p->dz, p->buttons, &at);
}

static void on_talk(void *arg, enum vm_talk what, const u8 *bytes, size_t n)
{
    struct vm_screen *s = arg;
    vm_talk_heard(s->vm)(s->vm, what, bytes, n);
}

static void on_quit(void *arg)
{
    struct vm_screen *s = arg;
    vm_stop(s->vm);
}

/* ---- life ---- */

static void on_leds(void *arg, u32 leds)
{
    struct vm_screen *s = arg;
    if (s->screen) screen_leds(s->screen, leds);
}

bool vm_screen_wanted(const char *spec) { return spec && strcmp(spec, "none") && strcmp(spec, "auto"); }

/* The screen shows the VGA from here on. */
static int screen_attach(struct vm_screen *s, struct vm_error *err)
{
    int rc = vga_screen_new(&s->vga, pc_vga(s->vm->pc), screen_display(s->screen), false);
    if (rc) return vm_fail(err, rc, "display: %s", strerror(-rc));
    i8042_on_leds(pc_keyboard(s->vm->pc), (struct dev_event){ on_leds, s });
    pc_usb_on_leds(s->vm->pc, (struct dev_event){ on_leds, s });
    return 0;
}

static int screen_new(struct vm_screen **out, struct vm *vm, const char *spec, struct vm_error *err)
{
    struct vm_screen *s = calloc(1, sizeof *s);
    if (!s) return vm_fail(err, -ENOMEM, "display: out of memory");
    s->vm = vm;
    const struct screen_host host = { on_draw, on_key, on_pointer, on_quit, s, vm_talk_heard(vm) ? on_talk : NULL };
    int rc = spec ? screen_open(&s->screen, spec, &host, err) : screen_stand_by(&s->screen, &host, err);
    if (!rc && spec) rc = screen_attach(s, err);
    if (rc) vm_screen_free(s);
    else *out = s;
    return rc;
}

int vm_screen_open(struct vm_screen **out, struct vm *vm, struct vm_error *err)
{
    const char *spec = vm->cfg.display;
    *out = NULL;
    if (vm->cfg.inspect) return 0;
    if (vm_screen_automatic(vm) && pc_vga(vm->pc)) return screen_new(out, vm, NULL, err);
    if (!vm_screen_wanted(spec)) return 0;
    if (!pc_vga(vm->pc))
        return vm_fail(err, -ENODEV, "display %.100s: the machine has no screen (--vga std gives it one)", spec);
    vm->screen_on_terminal = !strcmp(spec, "text");
    int rc = screen_new(out, vm, spec, err);
    if (rc) vm->screen_on_terminal = false;
    return rc;
}

bool vm_screen_automatic(const struct vm *vm)
{
    const char *display = vm->cfg.display, *serial = vm->cfg.serial;
    return display && !strcmp(display, "auto") && serial && !strcmp(serial, "stdio") && isatty(STDIN_FILENO)
           && isatty(STDOUT_FILENO);
}

int vm_screen_take_terminal(struct vm *vm, struct vm_error *err)
{
    struct vm_error why;
    int rc = vm_serial_replace(vm, "null", err);
    if (rc) return rc;
    vm->screen_on_terminal = true;
    rc = screen_show(vm->screen->screen, err);
    if (!rc) rc = screen_attach(vm->screen, err);
    if (!rc) return 0;
    vm->screen_on_terminal = false;
    if (vm->confined) return rc; /* the serial port stays without a terminal: a line's thread could not be made */
    if (vm_serial_replace(vm, vm->cfg.serial, &why)) return vm_fail(err, rc, "%.250s; %.200s", err->text, why.text);
    return rc;
}

void vm_screen_say(struct vm_screen *s, const void *bytes, size_t n)
{
    if (s && s->screen) screen_say(s->screen, bytes, n);
}

void vm_screen_let_in(struct vm_screen *s)
{
    if (s && s->screen) screen_let_in(s->screen);
}

void vm_screen_close(struct vm_screen *s)
{
    if (!s) return;
    struct vm *vm = s->vm;
    i8042_on_leds(pc_keyboard(s->vm->pc), (struct dev_event){ 0 });
    pc_usb_on_leds(s->vm->pc, (struct dev_event){ 0 });
    screen_close(s->screen);
    s->screen = NULL;
    vga_screen_free(s->vga);
    s->vga = NULL;
    vm->screen_on_terminal = false;
}

void vm_screen_free(struct vm_screen *s)
{
    vm_screen_close(s);
    free(s);
}
