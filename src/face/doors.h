/* The doors of a machine of the command line: gdb's and the monitors', where they are wanted. */
#ifndef SRC_FACE_DOORS_H
#define SRC_FACE_DOORS_H
#include "src/face/session.h"

struct gdb_door;
struct monitor_door;
struct human_door;
struct doors {
    struct gdb_door *gdb;         /* NULL: none */
    struct monitor_door *monitor; /* NULL: none */
    struct human_door *human;     /* NULL: none */
    struct session *session;      /* NULL: not started */
};

/* Where they are to be; NULL: there is none. */
struct doors_config {
    const char *gdb, *monitor, *human;
    bool files; /* the human monitor's commands may open any */
};
/* Listens. 0 or -errno, with nothing open. */
MUST_CHECK int doors_open(struct doors *d, const struct doors_config *cfg, struct vm_error *err);
MUST_CHECK int doors_start(struct doors *d, struct session *s);                     /* 0 or -errno */
void doors_was_reset(void *doors);                                                  /* for vm_config.was_reset */
void doors_disk_failed(void *doors, unsigned drive, int write, int err, int stops); /* for vm_config.disk_failed */
/* Tells who is there how the machine has ended, and with which status the program will; session_end() has been called,
 * if they were started. */
void doors_close(struct doors *d, enum vm_exit how, int status);

#endif
