/* Owns what a machine's user does with keyboard and mouse, on its way from any thread to the chip.
 *   I1  ring, head, waiting, moved and posted are touched only under lock.
 *   I2  A key reaches the keyboard when the one before has been taken, and KEY_NS have passed: texts come as fast as a
 *       quick hand types, and nothing is lost in the 16 bytes of a keyboard or the 15 keys of a BIOS.  [keys_deliver]
 *   I3  next is armed only while keys wait.                                          [keys_deliver, input_on_room]
 * Enter at vm_input_key() and input_deliver(). */
#include "src/vm_input.h"
#include "core/clock.h"
#include "runtime/runtime.h"
#include "src/back/keys.h"
#include "src/board/pc.h"
#include "src/error.h"
#include "src/vm_priv.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#define KEYS_MAX 4096u
#define KEY_NS 10000000u
#define MOVES_MAX 64u

struct key_event {
    u16 key;
    bool down;
};
struct move {
    int dx, dy, dz;
    unsigned buttons;
    bool placed; /* at `at` */
    struct vm_place at;
};

struct vm_input {
    struct vm *vm;
    pthread_mutex_t lock;
    struct key_event ring[KEYS_MAX];
    unsigned head, waiting;
    struct move move[MOVES_MAX];
    unsigned moves;
    bool placed; /* somebody has said where the pointer is: */
    struct vm_place at;
    bool posted;       /* input_deliver() is to come */
    struct timer next; /* the vCPU thread's */
    u64 quiet_until;   /* guest ns: when the next key may come; the vCPU thread's */
};

/* ---- on the vCPU thread ---- */

static void keys_deliver(void *arg)
{
    struct vm_input *in = arg;
    struct i8042 *kbd = pc_keyboard(in->vm->pc);
    struct usb_hid *usb = pc_usb_keyboard(in->vm->pc); /* a guest that has one listens to it */
    u64 now = clock_now(rt_clock(in->vm->rt));
    if (in->next.armed || !(usb ? usb_hid_has_room(usb) : i8042_has_room(kbd))) return;
    pthread_mutex_lock(&in->lock);
    bool due = now >= in->quiet_until, any = in->waiting;
    struct key_event e = in->ring[in->head];
    if (any && due) {
        in->head = (in->head + 1) % KEYS_MAX;
        in->waiting--;
    }
    bool more = in->waiting;
    pthread_mutex_unlock(&in->lock);
    if (any && due) {
        in->quiet_until = now + KEY_NS;
        if (usb) usb_keyboard_key(usb, e.key, e.down);
        else i8042_key(kbd, e.key, e.down);
    }
    if (more) timer_arm(&in->next, in->quiet_until);
}

/* The keyboard's buffer is empty; it must not be called from here. */
static void input_on_room(void *arg, u32 value UNUSED)
{
    struct vm_input *in = arg;
    if (in->next.armed) return;
    pthread_mutex_lock(&in->lock);
    bool any = in->waiting;
    pthread_mutex_unlock(&in->lock);
    if (any) timer_arm(&in->next, in->quiet_until);
}

static void input_deliver(void *arg)
{
    struct vm_input *in = arg;
    struct move move[MOVES_MAX];
    pthread_mutex_lock(&in->lock);
    unsigned moves = in->moves;
    memcpy(move, in->move, moves * sizeof *move);
    in->moves = 0;
    in->posted = false;
    pthread_mutex_unlock(&in->lock);
    struct usb_hid *tablet = pc_usb_tablet(in->vm->pc);
    for (unsigned i = 0; i < moves; i++) {
        const struct move *m = &move[i];
        if (tablet && m->placed) usb_tablet_move(tablet, m->at.x, m->at.y, m->dz, m->buttons);
        else i8042_mouse(pc_keyboard(in->vm->pc), m->dx, m->dy, m->dz, m->buttons);
    }
    keys_deliver(in);
}

/* ---- on any thread ---- */

/* Under lock. Without memory for it, what waits is delivered by the next post that succeeds. */
static void post(struct vm_input *in)
{
    if (!in->posted) in->posted = !rt_post(in->vm->rt, input_deliver, in);
}

/* A key that is not pressed, for want of room, is not let go either: that does no harm. */
void vm_input_key(struct vm_input *in, unsigned key, bool down)
{
    BUG_ON(key >= KEY_CODES);
    pthread_mutex_lock(&in->lock);
    if (in->waiting < (down ? KEYS_MAX - KEYS_MAX / 4 : KEYS_MAX)) {
        in->ring[(in->head + in->waiting++) % KEYS_MAX] = (struct key_event){ (u16)key, down };
        post(in);
    }
    pthread_mutex_unlock(&in->lock);
}

void vm_input_move(struct vm_input *in, int dx, int dy, int dz, unsigned buttons, const struct vm_place *at)
{
    pthread_mutex_lock(&in->lock);
    struct move *last = in->moves ? &in->move[in->moves - 1] : NULL;
    if (last && ((last->buttons == buttons && last->placed == !!at) || in->moves == MOVES_MAX)) {
        last->dx += dx;
        last->dy += dy;
        last->dz += dz;
        last->buttons = buttons;
    } else {
        last = &in->move[in->moves++];
        *last = (struct move){ .dx = dx, .dy = dy, .dz = dz, .buttons = buttons, .placed = at };
    }
    if (at && last->placed) last->at = *at;
    post(in);
    pthread_mutex_unlock(&in->lock);
}

static void count_key(void *arg, unsigned key UNUSED, bool down UNUSED) { ++*(unsigned *)arg; }
static void type_key(void *arg, unsigned key, bool down) { vm_input_key(arg, key, down); }

int vm_type(struct vm *vm, const char *text, struct vm_error *err)
{
    struct vm_input *in = vm->input;
    unsigned n = 0;
    int rc = keys_type(text, count_key, &n, err);
    if (rc) return rc;
    pthread_mutex_lock(&in->lock);
    bool fits = n <= KEYS_MAX - KEYS_MAX / 4 - in->waiting && in->waiting <= KEYS_MAX / 2;
    pthread_mutex_unlock(&in->lock);
    if (!fits) return vm_fail(err, -ENOSPC, "the guest has not taken what has been typed so far");
    return keys_type(text, type_key, in, err);
}

int vm_key(struct vm *vm, const char *name, bool down)
{
    unsigned key = key_of_name(name, strlen(name));
    if (!key) return -EINVAL;
    vm_input_key(vm->input, key, down);
    return 0;
}

void vm_pointer(struct vm *vm, int dx, int dy, int wheel, unsigned buttons)
{
    vm_input_move(vm->input, dx, dy, wheel, buttons, NULL);
}

void vm_pointer_at(struct vm *vm, unsigned x, unsigned y, int wheel, unsigned buttons)
{
    struct vm_input *in = vm->input;
    const struct vm_place at = { x, y };
    pthread_mutex_lock(&in->lock);
    const struct vm_place was = in->placed ? in->at : at;
    in->placed = true;
    in->at = at;
    pthread_mutex_unlock(&in->lock);
    /* A mouse counts in steps of its own: some thousand over the screen. */
    vm_input_move(in, ((int)x - (int)was.x) / 32, ((int)was.y - (int)y) / 32, wheel, buttons, &at);
}

int vm_type_check(const char *text, struct vm_error *err) { return keys_type(text, NULL, NULL, err); }

/* ---- life ---- */

int vm_input_new(struct vm_input **out, struct vm *vm)
{
    struct vm_input *in = calloc(1, sizeof *in);
    if (!in) return -ENOMEM;
    in->vm = vm;
    pthread_mutex_init(&in->lock, NULL);
    timer_init(&in->next, rt_clock(vm->rt), keys_deliver, in);
    i8042_on_room(pc_keyboard(vm->pc), (struct dev_event){ input_on_room, in });
    pc_usb_on_room(vm->pc, (struct dev_event){ input_on_room, in });
    *out = in;
    return 0;
}

void vm_input_free(struct vm_input *in)
{
    if (!in) return;
    timer_cancel(&in->next);
    pthread_mutex_destroy(&in->lock);
    free(in);
}
