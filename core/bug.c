/* Owns the process's one handler for our own mistakes. A mistake is found anywhere, also with the guest's x87 and SSE
 * state in the host's registers: those are put in order first. */
#include "core/bug.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define MXCSR_DEFAULT 0x1f80

static struct {
    pthread_mutex_t lock;
    void (*fn)(void *arg, const char *text);
    void *arg;
} handler = { .lock = PTHREAD_MUTEX_INITIALIZER };

void bug_handler(void (*fn)(void *arg, const char *text), void *arg)
{
    pthread_mutex_lock(&handler.lock);
    handler.fn = fn;
    handler.arg = arg;
    pthread_mutex_unlock(&handler.lock);
}

void bug_found(const char *file, int line, const char *what)
{
    char text[256];
    __asm__ volatile("fninit");
    __builtin_ia32_ldmxcsr(MXCSR_DEFAULT);
    snprintf(text, sizeof text, "BUG at %s:%d: %s", file, line, what);
    pthread_mutex_lock(&handler.lock);
    void (*fn)(void *, const char *) = handler.fn;
    void *arg = handler.arg;
    pthread_mutex_unlock(&handler.lock);
    if (fn) fn(arg, text);
    else fprintf(stderr, "transvisor: %s\n", text);
    abort();
}
