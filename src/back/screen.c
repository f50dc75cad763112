/* Owns the words that name a screen. Enter at screen_open(). */
#include "src/back/screen.h"
#include "src/back/frame.h"
#include "src/error.h"

#include <errno.h>
#include <string.h>

struct words {
    enum { SCREEN_NONE, SCREEN_TEXT, SCREEN_VNC } kind;
    char address[300];
    const char *password;
};

/* vnc[=HOST:N][,password=FILE]; a file's name may have commas in it. */
static int parse_vnc(struct words *w, const char *spec, const char *rest, struct vm_error *err)
{
    size_t n = 0;
    if (*rest == '=') {
        n = strcspn(++rest, ",");
        if (n >= sizeof w->address) n = 0;
        memcpy(w->address, rest, n);
        if (!n && *rest != ',') return vm_fail(err, -EINVAL, "display %.100s: is not vnc=HOST:N", spec);
        rest += n;
    }
    w->address[n] = 0;
    if (!n) strcpy(w->address, "127.0.0.1:0");
    if (!*rest) return 0;
    if (strncmp(rest, ",password=", 10) || !rest[10])
        return vm_fail(err, -EINVAL, "display %.100s: '%.60s' is not password=FILE", spec, rest + 1);
    w->password = rest + 10;
    return 0;
}

static int parse(struct words *w, const char *spec, struct vm_error *err)
{
    *w = (struct words){ .kind = SCREEN_NONE };
    if (!strcmp(spec, "none") || !strcmp(spec, "auto")) return 0; /* which of the two auto is, comes later */
    if (!strcmp(spec, "text") || !strcmp(spec, "curses")) {
        w->kind = SCREEN_TEXT;
        return 0;
    }
    w->kind = SCREEN_VNC;
    if (!strncmp(spec, "vnc", 3) && strchr("=,", spec[3])) return parse_vnc(w, spec, spec + 3, err);
    return vm_fail(err, -EINVAL, "display: there is no '%.100s'; none, text and vnc[=HOST:N[,password=FILE]] are there",
                   spec);
}

int screen_check(const char *spec, struct vm_error *err)
{
    struct words w;
    return parse(&w, spec, err);
}

int screen_open(struct screen **out, const char *spec, const struct screen_host *host, struct vm_error *err)
{
    struct words w;
    *out = NULL;
    int rc = parse(&w, spec, err);
    if (rc || w.kind == SCREEN_NONE) return rc;
    if (w.kind == SCREEN_VNC) return screen_vnc_open(out, w.address, w.password, host, err);
    rc = screen_stand_by(out, host, err);
    if (!rc && (rc = screen_show(*out, err))) {
        screen_close(*out);
        *out = NULL;
    }
    return rc;
}

int screen_stand_by(struct screen **out, const struct screen_host *host, struct vm_error *err)
{
    return screen_text_open(out, host, err);
}

int screen_show(struct screen *s, struct vm_error *err) { return screen_text_show(s, err); }

void screen_let_in(struct screen *s)
{
    if (s->let_in) s->let_in(s);
}

void screen_close(struct screen *s)
{
    if (s) s->close(s);
}

void screen_say(struct screen *s, const u8 *bytes, size_t n)
{
    if (s->say) s->say(s, bytes, n);
}

const struct display *screen_display(struct screen *s) { return frame_display(s->frame); }
void screen_leds(struct screen *s, unsigned leds) { s->leds = leds; }
