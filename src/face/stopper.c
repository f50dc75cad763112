/* Owns the signals that ask the program to stop, to save its machine or to press its power button. */
#include "src/face/stopper.h"
#include "core/types.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define PATIENCE_S 2
#define WAKE SIGWINCH /* of no other use to this process, and harmless */

static bool is_ignored(int sig)
{
    struct sigaction sa;
    return !sigaction(sig, NULL, &sa) && sa.sa_handler == SIG_IGN;
}

/* Asked again, and still here: something is stuck. What the signal would have done without us; if a terminal is ours,
 * its own handler puts it back on the way. */
static void die_of(int sig)
{
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, sig);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    raise(sig);
}

static void take(struct stopper *s, int sig)
{
    pthread_mutex_lock(&s->lock);
    s->caught = sig;
    if (s->vm) vm_stop(s->vm);
    pthread_mutex_unlock(&s->lock);
}

static void save(struct stopper *s)
{
    int rc = 0;
    pthread_mutex_lock(&s->lock);
    if (!s->save) fputs("transvisor: warning: SIGUSR1: there is no --save FILE to save to\n", stderr);
    else if (s->vm) rc = vm_save_soon(s->vm, s->save);
    pthread_mutex_unlock(&s->lock);
    if (rc) fprintf(stderr, "transvisor: warning: --save %s: %s\n", s->save, strerror(-rc));
}

static void press(struct stopper *s)
{
    pthread_mutex_lock(&s->lock);
    int rc = s->vm ? vm_power_button(s->vm) : 0;
    pthread_mutex_unlock(&s->lock);
    if (rc) fprintf(stderr, "transvisor: warning: power button: %s\n", strerror(-rc));
}

static void *stopper_thread(void *arg)
{
    struct stopper *s = arg;
    struct timespec first = { 0 }, now;
    for (;;) {
        int sig = 0;
        if (sigwait(&s->set, &sig)) continue;
        if (s->done) return NULL;
        if (sig == WAKE) continue;
        if (sig == SIGUSR1) {
            save(s);
            continue;
        }
        if (sig == SIGPWR) {
            press(s);
            continue;
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (s->caught && now.tv_sec - first.tv_sec >= PATIENCE_S) die_of(sig);
        if (s->caught) continue;
        first = now;
        take(s, sig);
    }
}

int stopper_start(struct stopper *s, const char *save)
{
    static const int stop_signals[] = { SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGPWR };
    memset(s, 0, sizeof *s);
    s->save = save;
    pthread_mutex_init(&s->lock, NULL);
    sigemptyset(&s->set);
    sigaddset(&s->set, WAKE);
    for (size_t i = 0; i < ARRAY_LEN(stop_signals); i++)
        if (!is_ignored(stop_signals[i])) sigaddset(&s->set, stop_signals[i]);
    pthread_sigmask(SIG_BLOCK, &s->set, NULL);
    return -pthread_create(&s->thread, NULL, stopper_thread, s);
}

void stopper_watch(struct stopper *s, struct vm *vm)
{
    pthread_mutex_lock(&s->lock);
    s->vm = vm;
    if (vm && s->caught) vm_stop(vm);
    pthread_mutex_unlock(&s->lock);
}

bool stopper_asked(void *stopper)
{
    const struct stopper *s = stopper;
    return s->caught != 0;
}

void stopper_end(struct stopper *s)
{
    s->done = true;
    pthread_kill(s->thread, WAKE);
    pthread_join(s->thread, NULL);
    pthread_mutex_destroy(&s->lock);
}
