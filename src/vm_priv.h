/* What the files of the embedding API share: struct vm. */
#ifndef SRC_VM_PRIV_H
#define SRC_VM_PRIV_H
#include "core/cpu_arch.h"
#include "core/trace.h"
#include "src/back/chardev_tap.h"
#include "src/board/firmware.h"
#include "src/lines.h"
#include "transvisor/vm.h"

#include <pthread.h>

struct snapshot_head;
struct snapshot_blob;
struct vm_confined; /* vm_jail.h */
struct vm_mapped;   /* an embedder's device: vm_device.c */
struct audio;
struct entropy;
struct vm_probes; /* vm_probe.c */
struct vm_stream; /* vm_stream.c */
struct vm_added;  /* an embedder's state: vm_device.c */

struct vm {
    struct vm_config cfg;
    struct trace trace;
    u32 disabled_classes;
    struct chardev *serial;
    struct chardev_tap tap;  /* in front of it */
    struct lines lines;      /* the ports behind it; its back ends are like serial, under lock */
    s64 rtc_offset;          /* seconds that the clock is ahead of UTC at first */
    struct cache_dir *cache; /* NULL: none */
    struct disks *disks;
    struct vm_nets *nets;
    struct audio *audio;      /* NULL: there are no sound cards */
    unsigned sounds;          /* which there are: bits of enum sound_kind */
    unsigned usb;             /* what is plugged in: bits of enum usb_kind */
    struct shares *shares;    /* NULL: there are none */
    struct entropy *entropy;  /* NULL: no device gets any */
    struct firmware firmware; /* empty where a kernel is loaded directly */
    struct firmware vga_rom;  /* the VGA's BIOS; empty: there is no VGA */
    struct pc *pc;
    struct vm_input *input;
    struct vm_screen *screen; /* NULL: nobody looks */
    struct vm_unseen *unseen; /* NULL: there is nothing to tell */
    _Atomic bool screen_on_terminal;
    _Atomic bool talks; /* the user at the terminal, with cfg.talk() */
    struct vm_mapped *mapped;
    struct vm_added *added;
    struct snapshot_blob *waiting; /* states of the file that nobody has added yet */
    struct cpu_arch power_on;      /* what the CPU is like after a reset */

    struct vm_stream *stream; /* vm_stream.c; NULL: there is none */
    struct vm_probes *probes; /* vm_probe.c; NULL: there have never been any */

    struct vm_confined *confined; /* its own thread, in jail; NULL: whoever calls vm_run() */

    pthread_mutex_t lock; /* of rt and serial as pointers: other threads look only under it */
    struct rt *rt;
    _Atomic bool stop, pause; /* asked for, and not answered yet */

    bool running;       /* in vm_run() or vm_reset() */
    bool naming;        /* in cfg.symbol, on the thread that runs the guest */
    bool has_event;     /* of the present run: the first counts */
    enum vm_exit event; /* if has_event, or over */
    bool off;           /* the guest has switched itself off */
    bool over;          /* event has ended the guest, until a reset */
    bool reset_due;     /* the guest has asked for it: */
    bool cpu_only;      /* of the processor alone */
    u32 debug_exit_value;
};

/* vm_config.c. Returns 0 or -errno, with err filled in. */
MUST_CHECK int vm_config_copy(struct vm_config *to, const struct vm_config *from, struct vm_error *err);
/* What a saved machine says of itself, where c does not. */
MUST_CHECK int vm_config_load(struct vm_config *c, const struct snapshot_head *h, struct vm_error *err);
/* Completes vm->cfg, and what vm has of it in another form. */
MUST_CHECK int vm_config_check(struct vm *vm, struct vm_error *err);
/* Whether there is such a processor, as in struct vm_config. 0 or -EINVAL. */
MUST_CHECK int vm_config_cpu(const char *cpu, struct vm_error *err);
void vm_config_free(struct vm_config *c);

/* Another back end at the first serial port: on the vCPU thread, from a post. 0 or -errno: it is as it was, or there is
 * none any more. */
MUST_CHECK int vm_serial_replace(struct vm *vm, const char *spec, struct vm_error *err);

void vm_probes_free(struct vm *vm); /* vm_probe.c */
/* vm_device.c */
void vm_mapped_free(struct vm *vm); /* after the bus */
void vm_added_free(struct vm *vm);
/* What embedders have added, and what waits: *out is the caller's, also after a failure. 0 or -errno. */
MUST_CHECK int vm_added_save(struct vm *vm, struct snapshot_blob **out, struct vm_error *err);
/* 0, or -ENODEV: a state waits. */
MUST_CHECK int vm_added_check(const struct vm *vm, struct vm_error *err);

#endif
