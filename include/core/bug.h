/* What becomes of our own mistakes, in every build: an assertion that vanishes from release builds would hide exactly
 * the failures that guests can reach. */
#ifndef CORE_BUG_H
#define CORE_BUG_H

#define BUG_ON(cond)                                                             \
    do {                                                                         \
        if (__builtin_expect(!!(cond), 0)) bug_found(__FILE__, __LINE__, #cond); \
    } while (0)

/* Tells bug_handler()'s function where and what; without one, standard error. Then abort(). */
__attribute__((noreturn, cold)) void bug_found(const char *file, int line, const char *what);
/* Of the whole process; NULL: nobody. Thread-safe. fn is called on the thread that found the bug, and may leave it for
 * good (longjmp, pthread_exit). */
void bug_handler(void (*fn)(void *arg, const char *text), void *arg);

#endif
