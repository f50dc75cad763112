/* gdb's remote protocol: what a debugger sends, and what it is answered. Knows no socket: bytes come in
 * and go out. */
#ifndef SRC_FACE_GDB_H
#define SRC_FACE_GDB_H
#include "core/types.h"
#include "transvisor/vm.h"

struct gdb;

/* Why the machine stands. */
enum gdb_stop { GDB_RUNS, GDB_ASKED, GDB_BREAK, GDB_STEPPED, GDB_DIED };

struct gdb_host {
    void (*send)(void *arg, const void *bytes, size_t n);
    enum gdb_stop (*state)(void *arg);
    void (*stop)(void *arg);
    void (*go)(void *arg);
    void (*step)(void *arg, bool interrupts);
    void (*kill)(void *arg);  /* the machine is to end */
    void (*leave)(void *arg); /* the debugger has said goodbye */
    void *arg;
};

/* One for each client. vm and what host needs outlive it. NULL: out of memory. */
struct gdb *gdb_new(struct vm *vm, const struct gdb_host *host);
/* Takes its breakpoints back. The machine stands or runs as it does. Between runs. */
void gdb_free(struct gdb *g);
/* What has come from the client. Between runs, as what follows. */
void gdb_input(struct gdb *g, const u8 *bytes, size_t n);
/* The machine's state has changed, perhaps. */
void gdb_changed(struct gdb *g);
void gdb_exited(struct gdb *g, u8 status); /* the machine has ended */

#endif
