/* Owns what an embedder sees of a machine's screen: pictures, and when its display ends. */
#include "runtime/runtime.h"
#include "src/back/frame.h"
#include "src/board/pc.h"
#include "src/error.h"
#include "src/snapshot.h"
#include "src/vm_jail.h"
#include "src/vm_priv.h"
#include "src/vm_screen.h"

#include <errno.h>
#include <string.h>

/* ---- pictures ---- */

static bool ends_with(const char *path, const char *end)
{
    size_t n = strlen(path), m = strlen(end);
    return n >= m && !strcmp(path + n - m, end);
}

struct picture {
    const struct display_frame *frame;
    bool text;
};

static int picture_to(void *arg, int fd, struct vm_error *err)
{
    const struct picture *p = arg;
    int rc = picture_write(p->frame, p->text, fd);
    if (rc == -ENOTSUP) return vm_fail(err, rc, "the screen shows graphics: there is no text");
    return rc ? vm_fail(err, rc, "%s", strerror(-rc)) : 0;
}

static int screenshot(struct vm *vm, const char *path, struct vm_error *err)
{
    struct frame *frame = NULL;
    struct vga_screen *screen = NULL;
    if (!pc_vga(vm->pc)) return vm_fail(err, -ENODEV, "the machine has no screen (--vga std gives it one)");
    int rc = frame_new(&frame, NULL, NULL);
    if (!rc) rc = vga_screen_new(&screen, pc_vga(vm->pc), frame_display(frame), true);
    if (rc) {
        vm_fail(err, rc, "%s", strerror(-rc));
    } else {
        vga_screen_draw(screen);
        struct picture p = { frame_lock(frame, NULL, NULL), ends_with(path, ".txt") };
        rc = p.frame->pixels ? snapshot_to_file(path, picture_to, &p, err) : vm_fail(err, -ENOMEM, "out of memory");
        frame_unlock(frame);
    }
    vga_screen_free(screen);
    frame_free(frame);
    return rc;
}

int vm_screenshot(struct vm *vm, const char *path, struct vm_error *err)
{
    if (vm->running) return vm_fail(err, -EBUSY, "the machine runs");
    return screenshot(vm, path, err);
}

struct screenshot_request {
    struct vm *vm;
    char path[];
};

static void screenshot_do(void *arg)
{
    struct screenshot_request *r = arg;
    struct vm_error why, text;
    if (!screenshot(r->vm, r->path, &why)) return;
    vm_fail(&text, 0, "screenshot %s: %.300s", r->path, why.text);
    if (r->vm->cfg.warn) r->vm->cfg.warn(r->vm->cfg.warn_arg, text.text);
}

static void screenshot_soon(void *arg)
{
    struct screenshot_request *r = arg;
    vm_errand(r->vm->confined, screenshot_do, r);
    free(r);
}

int vm_screenshot_soon(struct vm *vm, const char *path)
{
    struct screenshot_request *r = malloc(sizeof *r + strlen(path) + 1);
    if (!r) return -ENOMEM;
    r->vm = vm;
    strcpy(r->path, path);
    int rc = rt_post(vm->rt, screenshot_soon, r);
    if (rc) free(r);
    return rc;
}

/* ---- the display ---- */

bool vm_display_on_terminal(const struct vm *vm) { return vm->screen_on_terminal; }

int vm_display_close(struct vm *vm)
{
    if (vm->running) return -EBUSY;
    vm_screen_close(vm->screen);
    return 0;
}
