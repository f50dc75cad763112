/* The link of a request that a back end's thread works on (src/back/worker.h). */
#ifndef CORE_JOB_H
#define CORE_JOB_H
#include <stddef.h>

struct job {
    struct job *next;
};
/* The request of type T whose member `job` is at j. */
#define JOB_OF(j, T) ((T *)((char *)(j)-offsetof(T, job)))

#endif
