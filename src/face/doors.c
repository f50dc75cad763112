/* Owns which doors there are, and what is told at the end. */
#include "src/face/doors.h"
#include "src/face/gdb_door.h"
#include "src/face/human_door.h"
#include "src/face/monitor_door.h"

int doors_open(struct doors *d, const struct doors_config *cfg, struct vm_error *err)
{
    *d = (struct doors){ 0 };
    int rc = cfg->gdb ? gdb_door_open(&d->gdb, cfg->gdb, err) : 0;
    if (!rc && cfg->monitor) rc = monitor_door_open(&d->monitor, cfg->monitor, err);
    if (!rc && cfg->human) rc = human_door_open(&d->human, cfg->human, cfg->files, err);
    if (rc) doors_close(d, VM_EXIT_ERROR, 0);
    return rc;
}

int doors_start(struct doors *d, struct session *s)
{
    d->session = s;
    int rc = d->gdb ? gdb_door_start(d->gdb, s) : 0;
    if (!rc && d->monitor) rc = monitor_door_start(d->monitor, s);
    return rc || !d->human ? rc : human_door_start(d->human, s);
}

void doors_was_reset(void *doors)
{
    const struct doors *d = doors;
    if (d->session) session_was_reset(d->session, true);
}

void doors_disk_failed(void *doors, unsigned drive, int write, int err, int stops)
{
    const struct doors *d = doors;
    const struct session_failure f = { drive, write, stops, err };
    if (d->session) session_disk_failed(d->session, &f);
}

void doors_close(struct doors *d, enum vm_exit how, int status)
{
    static const struct {
        bool guest;
        const char *reason; /* QMP's ShutdownCause */
    } ends[] = {
        [VM_EXIT_POWEROFF] = { true, "guest-shutdown" }, [VM_EXIT_RESET] = { true, "guest-reset" },
        [VM_EXIT_STOPPED] = { false, "host-signal" },    [VM_EXIT_DEBUG] = { true, "guest-shutdown" },
        [VM_EXIT_DIED] = { true, "guest-panic" },        [VM_EXIT_ERROR] = { false, "host-error" },
    };
    bool quit = how == VM_EXIT_STOPPED && d->session && d->session->quit;
    bool known = how < sizeof ends / sizeof ends[0] && ends[how].reason;
    gdb_door_close(d->gdb, status);
    monitor_door_close(d->monitor, known && ends[how].guest,
                       quit    ? "host-qmp-quit"
                       : known ? ends[how].reason
                               : "host-error");
    human_door_close(d->human);
    *d = (struct doors){ 0 };
}
