/* What the files of the keyboard controller share: the chip, and the keyboard and mouse behind it. */
#ifndef SRC_DEV_ISA_I8042_PRIV_H
#define SRC_DEV_ISA_I8042_PRIV_H
#include "src/dev/pc_devices.h"

enum { ACK = 0xfa, RESEND = 0xfe, BAT_OK = 0xaa };
enum { PENDING_NONE = 0 };
/* What a key does in set 3, beside its make code. SET3_DEFAULT: what the keyboard has it do after a reset. */
enum { SET3_DEFAULT, SET3_MAKE, SET3_BREAK, SET3_REPEAT, SET3_ALL, SET3_TYPES };
#define TYPEMATIC_DEFAULT 0x2b /* after 500 ms, 10.9 a second */

#define QUEUE_LEN 32u /* a power of two */
#define MOUSE_FAR (1 << 20)
#define SET3_CODES 0x90u

struct queue {
    u8 data[QUEUE_LEN];
    unsigned head, len;
};

/* What keyboard and mouse have in common: bytes on their way, and a command whose parameter is awaited. */
struct ps2_port {
    struct queue reply, events;
    u8 param_of, last; /* last: the byte sent last, as it left the device */
    bool enabled;      /* scanning, or stream mode reporting */
};

struct mouse {
    struct ps2_port port;
    u8 rate, resolution, id;
    u8 knock[2]; /* the sample rates set before the present one */
    bool scaling21, remote, wrap;
    int dx, dy, dz; /* moved since the last report */
    unsigned buttons, reported;
    struct timer pace; /* armed: the next report is due then at the soonest */
};

/* What a keyboard has beside its port and scan code set. */
struct typing {
    u8 leds, typematic; /* as commands EDh and F3h have set them */
    u16 held;           /* the key that repeats; 0: none */
    bool overrun;       /* the buffer has been full, and its last byte says so */
    struct timer repeat;
    u8 set3[SET3_CODES]; /* by code: SET3_DEFAULT, or what else the guest wants of the key */
};

struct i8042 {
    u8 ctr, ram[32]; /* ram[0] is ctr's place and unused */
    u8 pending;      /* command whose parameter the next write to 0x60 is */
    bool last_was_command;
    u8 out_port;     /* its A20 bit is port 0x92's, too */
    bool fast_reset; /* port 0x92 bit 0 */
    bool a20_level;
    u8 buf, buf_from;
    bool full;
    struct queue own; /* the controller's answers: low byte only */
    struct ps2_port kbd;
    u8 scan_set;
    struct mouse mouse;
    struct typing typing;
    struct clock *clk;
    struct irq_line irq1, irq12, a20;
    struct dev_event reset, room, leds;
};

static inline bool queue_put(struct queue *q, u8 v)
{
    if (q->len == QUEUE_LEN) return false;
    q->data[(q->head + q->len++) % QUEUE_LEN] = v;
    return true;
}
static inline u8 queue_take(struct queue *q)
{
    u8 v = q->data[q->head];

    q->head = (q->head + 1) % QUEUE_LEN;
    q->len--;
    return v;
}

/* i8042.c: a device has something to send, or has had; takes up what it may and drives the wires. */
void kbc_update(struct i8042 *k);
u8 kbc_translate(u8 set2); /* set 2 to set 1, as the controller does it */

/* i8042_keyboard.c: a byte for the keyboard; its fields are as reset leaves them; its timer's function. */
void kbd_command(struct i8042 *k, u8 val);
void kbd_reset(struct i8042 *k);
void kbd_repeat(void *chip);

/* i8042_mouse.c: the same for the mouse. */
void mouse_command(struct mouse *m, u8 val);
void mouse_pace(void *chip);

#endif
