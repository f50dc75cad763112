/* A screen that somebody looks at while the machine runs, and types at: none, text (our own terminal), vnc.
 *
 * Each has a thread of its own, which asks for the picture as often as anybody looks, some thirty times a second at
 * most, and tells of keys. Whatever a viewer does, or does not, the vCPU thread waits for a copy of the picture at
 * most. */
#ifndef SRC_BACK_SCREEN_H
#define SRC_BACK_SCREEN_H
#include "core/display.h"
#include "transvisor/vm.h"

/* What the user's pointer has done, for guests with a mouse, and where it is, for those with a tablet. */
struct screen_pointer {
    int dx, dy, dz;   /* pixels, up is positive; turns of the wheel */
    unsigned x, y;    /* of 0 to 32767 from the top left */
    unsigned buttons; /* 1 left, 2 right, 4 middle */
};

/* Called on the screen's own thread. */
struct screen_host {
    void (*draw)(void *arg);                         /* the chip is to draw into screen_display(), soon */
    void (*key)(void *arg, unsigned key, bool down); /* as src/back/keys.h has it */
    void (*pointer)(void *arg, const struct screen_pointer *p);
    void (*quit)(void *arg); /* the user has pressed the quit key */
    void *arg;
    void (*talk)(void *arg, enum vm_talk what, const u8 *bytes, size_t n); /* as chardev_host's; NULL: nobody listens */
};

/* spec: none, text, vnc[=HOST:N[,password=FILE]]. *out is NULL for none. 0; -EINVAL: it is none of these; else -errno
 * of what failed. */
struct screen;
MUST_CHECK int screen_open(struct screen **out, const char *spec, const struct screen_host *host, struct vm_error *err);
/* 0 or -EINVAL, as screen_open() would say it. */
int screen_check(const char *spec, struct vm_error *err);
/* A text screen that has all it needs but the terminal, and that then takes it. screen_show() makes no thread and opens
 * nothing. 0 or -errno. */
MUST_CHECK int screen_stand_by(struct screen **out, const struct screen_host *host, struct vm_error *err);
MUST_CHECK int screen_show(struct screen *s, struct vm_error *err);
/* From now on viewers are let in; those who have come wait. Until then threads may go to jail (src/jail.h), which would
 * interrupt what is said to a viewer. As often as one likes. */
void screen_let_in(struct screen *s);
void screen_close(struct screen *s); /* copes with NULL; no host function is called once it has returned */
const struct display *screen_display(struct screen *s);
/* To the user who talks (screen_host.talk), if this is on the terminal and he does. Thread-safe. */
void screen_say(struct screen *s, const u8 *bytes, size_t n);
/* The keyboard's lamps: bit 0 Scroll Lock, 1 Num Lock, 2 Caps Lock. On the vCPU thread. */
void screen_leds(struct screen *s, unsigned leds);

/* ---- between the back ends ---- */

struct frame;
/* As the front sees it: every screen begins with one. */
struct screen {
    struct frame *frame;
    void (*close)(struct screen *s);
    void (*let_in)(struct screen *s);                         /* NULL: nobody comes */
    void (*say)(struct screen *s, const u8 *bytes, size_t n); /* NULL: nobody talks here */
    _Atomic unsigned leds;
};
int screen_text_open(struct screen **out, const struct screen_host *host, struct vm_error *err); /* stands by */
int screen_text_show(struct screen *s, struct vm_error *err);
/* address: HOST:N, which is taken apart; password: a file, or NULL. */
int screen_vnc_open(struct screen **out, const char *address, const char *password, const struct screen_host *host,
                    struct vm_error *err);

#endif
