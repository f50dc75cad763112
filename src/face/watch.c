/* Owns what is concluded from a guest's console and from time that passes.
 *   I1  the thread alone prints and waits; the vCPU thread only notes what it saw, under lock.
 * Enter at watch_console() and watch_thread(). */
#include "src/face/watch.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define SILENCE_MS 5000 /* a Linux kernel has said something by then */
#define PANIC_MS 200    /* time for the line to be finished */
#define NEVER UINT64_MAX

/* Linux prints this after all else, and only if it neither reboots nor counts down to it (panic=0). */
static const char panic_text[] = "---[ end Kernel panic";

/* ---- texts in a stream: Knuth, Morris, Pratt ---- */

void matcher_init(struct matcher *m, const char *text)
{
    *m = (struct matcher){ .text = text, .n = text ? (unsigned)strlen(text) : 0 };
    BUG_ON(m->n > WATCH_TEXT_MAX);
    for (unsigned i = 1, k = 0; i < m->n; i++) {
        while (k && text[i] != text[k]) k = m->back[k];
        if (text[i] == text[k]) k++;
        m->back[i + 1] = (u8)k;
    }
}

bool matcher_feed(struct matcher *m, const u8 *buf, size_t n)
{
    bool complete = false;
    if (!m->n) return false;
    for (size_t i = 0; i < n; i++) {
        while (m->at && buf[i] != (u8)m->text[m->at]) m->at = m->back[m->at];
        if (buf[i] == (u8)m->text[m->at]) m->at++;
        if (m->at < m->n) continue;
        complete = true;
        m->at = m->back[m->n];
    }
    return complete;
}

/* ---- the console ---- */

void watch_console(void *watch, const uint8_t *bytes, size_t n)
{
    struct watch *w = watch;
    bool found = matcher_feed(&w->expect, bytes, n), panicked = matcher_feed(&w->panic, bytes, n);
    if (w->spoke && !found && !panicked && !w->listens) return; /* only this thread sets the first */
    pthread_mutex_lock(&w->lock);
    w->spoke = true;
    w->heard |= matcher_feed(&w->said, bytes, n);
    w->panicked |= panicked;
    w->found |= found;
    if (found && w->vm) vm_stop(w->vm);
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

/* Under lock, or before there is a thread: typing[typed] is the next. */
static void typing_next(struct watch *w)
{
    const char *said = w->typed < w->cfg.typings ? w->cfg.typing[w->typed].said : NULL;
    matcher_init(&w->said, said);
    w->heard = !said;
    w->listens = said;
}

/* ---- the clock ---- */

static u64 now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000 + (u64)t.tv_nsec / 1000000;
}

static void hint(const struct watch *w, const char *text) { fprintf(w->cfg.notes, "transvisor: hint: %s\n", text); }

/* Under lock. Waits until something changes or the time comes. */
static void wait_until(struct watch *w, u64 ms)
{
    struct timespec t = { (time_t)(ms / 1000), (long)(ms % 1000 * 1000000) };
    if (ms == NEVER) pthread_cond_wait(&w->changed, &w->lock);
    else pthread_cond_timedwait(&w->changed, &w->lock, &t);
}

static u64 earlier(u64 a, u64 b) { return a < b ? a : b; }

/* Under lock. Types what is due. Returns when to look again. */
static u64 type_due(struct watch *w, u64 begin, u64 now)
{
    while (w->typed < w->cfg.typings && w->heard) {
        const struct watch_typing *t = &w->cfg.typing[w->typed];
        struct vm_error why;
        if (begin + t->at_ms > now) return begin + t->at_ms;
        if (vm_type(w->vm, t->text, &why))
            fprintf(w->cfg.notes, "transvisor: warning: --type '%s': %s\n", t->text, why.text);
        w->typed++;
        typing_next(w);
    }
    return NEVER;
}

static void *watch_thread(void *arg)
{
    struct watch *w = arg;
    u64 begin = now_ms(), silent_at = w->cfg.wants_console ? begin + SILENCE_MS : NEVER, panic_at = NEVER;
    u64 timeout_at = w->cfg.timeout_ms ? begin + w->cfg.timeout_ms : NEVER;
    u64 picture_at = w->cfg.screenshot_ms ? begin + w->cfg.screenshot_ms : NEVER;
    bool panic_told = false;
    pthread_mutex_lock(&w->lock);
    while (!w->done) {
        u64 now = now_ms();
        if (w->spoke) silent_at = NEVER;
        if (w->panicked && !panic_told && panic_at == NEVER) panic_at = now + PANIC_MS;
        if (now >= silent_at) {
            hint(w, "the guest is silent; a Linux kernel uses the serial port if told so: --append console=ttyS0");
            silent_at = NEVER;
        }
        if (now >= panic_at) {
            hint(w, "the guest has panicked and waits for ever; with panic=-1 in --append it would reboot, and with "
                    "--no-reboot that ends the machine");
            panic_at = NEVER;
            panic_told = true;
        }
        if (now >= picture_at) {
            int rc = vm_screenshot_soon(w->vm, w->cfg.screenshot);
            if (rc)
                fprintf(w->cfg.notes, "transvisor: warning: --screenshot %s: %s\n", w->cfg.screenshot, strerror(-rc));
            picture_at = NEVER;
        }
        if (now >= timeout_at) {
            w->timed_out = true;
            vm_stop(w->vm);
            timeout_at = NEVER;
        }
        u64 typing_at = type_due(w, begin, now);
        wait_until(w, earlier(earlier(earlier(silent_at, panic_at), earlier(timeout_at, picture_at)), typing_at));
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* ---- life ---- */

void watch_init(struct watch *w, const struct watch_config *cfg)
{
    pthread_condattr_t monotonic;
    *w = (struct watch){ .cfg = *cfg };
    matcher_init(&w->expect, cfg->expect);
    matcher_init(&w->panic, panic_text);
    typing_next(w);
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

int watch_start(struct watch *w, struct vm *vm)
{
    w->vm = vm;
    int rc = -pthread_create(&w->thread, NULL, watch_thread, w);
    w->running = !rc;
    return rc;
}

void watch_end(struct watch *w)
{
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
    if (w->running) pthread_join(w->thread, NULL);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->changed);
}
