/* Watches a running machine's console and the clock: --timeout, --expect, and hints for guests that seem to hang. */
#ifndef SRC_WATCH_H
#define SRC_WATCH_H
#include "core/types.h"
#include "transvisor/vm.h"

#include <pthread.h>

#define WATCH_TEXT_MAX 255

/* A text that is looked for in a stream of bytes. */
struct matcher {
    const char *text; /* at most WATCH_TEXT_MAX bytes; NULL: nothing is looked for */
    unsigned n, at;
    u8 back[WATCH_TEXT_MAX + 1]; /* how much of the text still matches where the byte after so many does not */
};
void matcher_init(struct matcher *m, const char *text);
bool matcher_feed(struct matcher *m, const u8 *buf, size_t n); /* the text is complete; then it starts anew */

/* What is typed on the guest's keyboard. */
struct watch_typing {
    const char *text;
    u64 at_ms; /* since the start, and not before */
    /* After the guest has sent this, at most WATCH_TEXT_MAX bytes, on its serial port; NULL: at once. */
    const char *said;
};
#define TYPING_MAX 16u

struct watch_config {
    u64 timeout_ms;                         /* 0: none */
    const char *expect;                     /* NULL: nothing */
    const char *screenshot;                 /* file; NULL: none */
    u64 screenshot_ms;                      /* when it is made; 0: not here */
    struct watch_typing typing[TYPING_MAX]; /* each after the one before */
    unsigned typings;
    FILE *notes;        /* for warnings and hints, until watch_end() */
    bool wants_console; /* a Linux kernel that was not told to use the serial port: hint if it stays silent */
};
struct watch {
    struct watch_config cfg;
    struct matcher expect, panic;
    struct matcher said;  /* what typing[typed] waits for */
    unsigned typed;       /* how many have been */
    bool heard;           /* typing[typed] waits for nothing but its time */
    _Atomic bool listens; /* said looks for something */
    struct vm *vm;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool running, done, spoke, panicked;
    _Atomic bool timed_out, found;
};

void watch_init(struct watch *w, const struct watch_config *cfg);
/* What the guest sends on its serial port; for vm_config.serial_output, with the watch as its argument. */
void watch_console(void *watch, const uint8_t *bytes, size_t n);
/* From now on the clock counts. Returns 0 or -errno. */
int watch_start(struct watch *w, struct vm *vm);
void watch_end(struct watch *w); /* before vm_free(); copes with a watch that was never started */

#endif
