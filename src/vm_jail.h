/* A machine in its jail: the vCPU thread that it then has of its own, and who opens files for it. */
#ifndef SRC_VM_JAIL_H
#define SRC_VM_JAIL_H
#include "core/types.h"

struct vm;
struct vm_confined;

/* Runs fn(arg) where the machine runs: on its own thread if it has one, else here. Returns once it is done. */
void vm_confined_run(struct vm_confined *c, void (*fn)(void *arg), void *arg);
/* The other way round, from anywhere: fn(arg) opens files or does what else the vCPU thread may not. */
void vm_errand(struct vm_confined *c, void (*fn)(void *arg), void *arg);
/* Ends the thread. Copes with NULL. */
void vm_confined_free(struct vm_confined *c);

#endif
