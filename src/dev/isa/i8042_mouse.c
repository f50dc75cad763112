/* Owns the PS/2 mouse behind the keyboard controller. It speaks IntelliMouse (a wheel) when asked.
 *   I1  In stream mode no more reports are sent in a second than the sample rate says.       [mouse_stream, mouse_pace]
 * Enter at mouse_command() and i8042_mouse(). IBM PS/2 Hardware Interface TR, "Mouse".
 * NOT-HW: what moves is told in steps of the screen it moves on: the resolution changes nothing; what does not fit into
 * a report goes into the next, instead of being lost with an overflow bit. */
#include "src/dev/isa/i8042_priv.h"

#define NS_PER_S 1000000000ull
#define REPORT_MAX 4u

static int clamp(int v, int lo, int hi) { return v < lo ? lo : v > hi ? hi : v; }

static void mouse_defaults(struct mouse *m)
{
    m->rate = 100;
    m->resolution = 2;
    m->scaling21 = m->remote = m->wrap = false;
    m->port.enabled = false;
    m->port.events.len = 0;
    m->dx = m->dy = m->dz = 0;
    timer_cancel(&m->pace);
}

/* Scaling 2:1, of what stream mode reports. */
static int scaled(const struct mouse *m, int d)
{
    static const int few[] = { 0, 1, 1, 3, 6, 9 };
    int n = d < 0 ? -d : d;

    if (!m->scaling21) return d;
    n = n < (int)ARRAY_LEN(few) ? few[n] : 2 * n;
    return clamp(d < 0 ? -n : n, -255, 255);
}

/* One movement report; more than fits stays for the next. */
static void mouse_report(struct mouse *m, struct queue *q, bool stream)
{
    int dx = clamp(m->dx, -255, 255), dy = clamp(m->dy, -255, 255), dz = clamp(m->dz, -8, 7);

    queue_put(q, 0x08 | (m->buttons & 7) | (dx < 0) << 4 | (dy < 0) << 5);
    queue_put(q, stream ? scaled(m, dx) : dx);
    queue_put(q, stream ? scaled(m, dy) : dy);
    if (m->id == 3) queue_put(q, -dz);
    m->dx -= dx;
    m->dy -= dy;
    m->dz -= dz;
    m->reported = m->buttons;
}

/* IntelliMouse: sample rates 200, 100, 80 in a row say that the host knows about the wheel. */
static void mouse_set_rate(struct mouse *m, u8 val)
{
    if (m->knock[0] == 200 && m->knock[1] == 100 && val == 80) m->id = 3;
    m->knock[0] = m->knock[1];
    m->knock[1] = val;
    m->rate = val;
}

static void mouse_status(const struct mouse *m, struct queue *q)
{
    u8 buttons = (m->buttons & 1) << 2 | (m->buttons & 4) >> 1 | (m->buttons & 2) >> 1;

    queue_put(q, m->remote << 6 | m->port.enabled << 5 | m->scaling21 << 4 | buttons);
    queue_put(q, m->resolution);
    queue_put(q, m->rate);
}

void mouse_command(struct mouse *m, u8 val)
{
    struct queue *reply = &m->port.reply;
    u8 param_of = m->port.param_of;

    reply->len = 0;
    m->port.param_of = PENDING_NONE;
    if (m->wrap && val != 0xff && val != 0xec) {
        queue_put(reply, val);
        return;
    }
    if (param_of) {
        if (param_of == 0xf3) mouse_set_rate(m, val);
        else m->resolution = val & 3;
        queue_put(reply, ACK);
        return;
    }
    if (val == 0xfe) {
        queue_put(reply, m->port.last);
        return;
    }
    queue_put(reply, ACK);
    switch (val) {
    case 0xe6:
    case 0xe7: m->scaling21 = val & 1; break;
    case 0xe8:
    case 0xf3: m->port.param_of = val; break;
    case 0xe9: mouse_status(m, reply); break;
    case 0xea: m->remote = false; break;
    case 0xeb: mouse_report(m, reply, false); break;
    case 0xec: m->wrap = false; break;
    case 0xee: m->wrap = true; break;
    case 0xf0: m->remote = true; break;
    case 0xf2: queue_put(reply, m->id); break;
    case 0xf4: m->port.enabled = true; break;
    case 0xf5: m->port.enabled = false; break;
    case 0xf6: mouse_defaults(m); break;
    case 0xff:
        mouse_defaults(m);
        m->id = 0;
        queue_put(reply, BAT_OK);
        queue_put(reply, m->id);
        break;
    default: reply->len = 0; queue_put(reply, RESEND);
    }
}

static bool mouse_has_news(const struct mouse *m)
{
    return m->port.enabled && !m->remote && (m->dx || m->dy || m->dz || m->buttons != m->reported);
}

/* Sends a report, unless the last one was too short a time ago or nobody has taken it yet. */
static void mouse_stream(struct i8042 *k)
{
    struct mouse *m = &k->mouse;

    if (m->pace.armed || !mouse_has_news(m)) return;
    if (m->port.events.len + REPORT_MAX <= QUEUE_LEN) mouse_report(m, &m->port.events, true);
    timer_arm(&m->pace, clock_now(k->clk) + NS_PER_S / (m->rate ? m->rate : 1));
}

void mouse_pace(void *chip)
{
    struct i8042 *k = chip;

    mouse_stream(k);
    kbc_update(k);
}

void i8042_mouse(struct i8042 *k, int dx, int dy, int dz, unsigned buttons)
{
    struct mouse *m = &k->mouse;

    m->dx = clamp(m->dx + clamp(dx, -MOUSE_FAR, MOUSE_FAR), -MOUSE_FAR, MOUSE_FAR);
    m->dy = clamp(m->dy + clamp(dy, -MOUSE_FAR, MOUSE_FAR), -MOUSE_FAR, MOUSE_FAR);
    m->dz = clamp(m->dz + clamp(dz, -MOUSE_FAR, MOUSE_FAR), -MOUSE_FAR, MOUSE_FAR);
    m->buttons = buttons & 7;
    mouse_stream(k);
    kbc_update(k);
}
