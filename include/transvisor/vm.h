/* The embedding API: one virtual PC as an opaque object. The only header that is installed.
 *
 * A machine is made by vm_create() from a description, run on the calling thread by vm_run(), and freed by vm_free().
 * vm_stop() may be called from any thread, at any time between create and free. A process may hold several machines.
 * Failures come back as -errno, with one line of text that names the thing that failed; nothing is ever printed, save
 * what the description asks for (serial port, trace).
 *
 * What it takes from the process: handlers for SIGSEGV, SIGBUS, SIGFPE, SIGILL (what is no guest's is handed on) and
 * SIGSTKFLT, from the first vm_run() on; in the thread in vm_run() these are unblocked, SIGPIPE and SIGXFSZ blocked,
 * and the mask restored. With serial "stdio" on a terminal, that terminal's settings, and handlers for signals of
 * default action that put them back. Child processes, for direct execution. No descriptor of its own is 0 to 2. */
#ifndef TRANSVISOR_VM_H
#define TRANSVISOR_VM_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

struct vm;

/* The reason of a failure: one line, without the program's name and without a newline. */
struct vm_error {
    char text[512];
};

/* Direct execution of guest user code on the processor, where the host runs 32-bit code: where it pays; never; wherever
 * it can. */
enum vm_direct { VM_DIRECT_ON, VM_DIRECT_OFF, VM_DIRECT_ALWAYS /* an error where the host cannot */ };

enum vm_engine { VM_ENGINE_BT /* binary translator */, VM_ENGINE_INTERP /* reference interpreter */ };

/* A drive on the machine's IDE controller. A disk is a raw image or a block device. It is locked: another machine may
 * use it at the same time only if neither of them writes to it. */
struct vm_disk {
    const char *file; /* NULL: no further drive */
    bool cdrom;       /* an ISO image in a CD-ROM drive */
    bool readonly;
    bool snapshot; /* writes are gone when the machine is freed */
};
#define VM_DISKS_MAX 4u

/* What a machine is made of. Strings are copied. All zeroes, but for kernel, is a working description. */
struct vm_config {
    const char *kernel;   /* Linux bzImage or Multiboot 1 kernel; NULL: firmware runs instead */
    const char *initrd;   /* initial RAM disk, or Multiboot modules: a comma-separated list; NULL: none */
    const char *cmdline;  /* NULL: empty */
    const char *firmware; /* image that starts at the reset vector, 64 KiB to 16 MiB; NULL: SeaBIOS */
    const char *boot;     /* what firmware tries, in this order: disk, cdrom; NULL: "disk,cdrom" */
    struct vm_disk disk[VM_DISKS_MAX];
    const char *cpu;     /* a name of vm_cpu_name(); NULL: the default */
    const char *serial;  /* first serial port: null, stdio, file:PATH, unix:PATH, pty; NULL: null */
    const char *trace;   /* LIST[@FROM..TO], names of vm_trace_name(); to standard error; NULL: none */
    const char *disable; /* instruction classes not to translate, names of vm_class_name(), comma-separated; NULL: none
                          */
    const char *cache_dir; /* keep translated code there between runs; NULL: not at all */
    uint64_t memory;       /* bytes of RAM; 0: VM_MEMORY_DEFAULT */
    uint64_t code_cache;   /* bytes for translated code, 64K to 1G; 0: the default */
    enum vm_engine engine;
    enum vm_direct direct;
    bool has_debug_exit;
    uint16_t debug_exit; /* a write to this port ends the machine (VM_EXIT_DEBUG) */
    bool perf_map;       /* write /tmp/perf-PID.map, so that perf(1) can name translated code by guest address */
    void (*warn)(void *arg, const char *text); /* told, in one line, of what goes wrong without stopping the machine;
                                                  NULL: nobody */
    void *warn_arg;
    /* Selector of CS at a Multiboot kernel's entry: 0x10, as GRUB has it, or 0x08; DS has the next. 0: 0x10. */
    uint16_t entry_cs;
    /* Asked some fifty times a second while vm_create() or a reboot waits for a file (a FIFO that nobody writes to):
     * true ends the wait, and vm_create() with -ECANCELED. NULL: such a wait ends only with vm_stop(). */
    bool (*cancelled)(void *arg);
    void *cancelled_arg;
    /* Told, on the thread in vm_run(), of what the guest sends on its first serial port (and to port E9h), besides what
     * `serial` does with it. NULL: nobody. */
    void (*serial_output)(void *arg, const uint8_t *bytes, size_t n);
    void *serial_output_arg;
    bool no_reboot; /* a guest's reset ends the machine instead of restarting it */
};
#define VM_MEMORY_DEFAULT ((uint64_t)512 << 20)
#define VM_MEMORY_MIN ((uint64_t)16 << 20)
#define VM_MEMORY_MAX ((uint64_t)3584 << 20)
#define VM_CODE_CACHE_MIN ((uint64_t)64 << 10)
#define VM_CODE_CACHE_MAX ((uint64_t)1 << 30)

/* Makes a machine and loads its kernel. Returns 0 or -errno; -EINVAL says that the description itself is wrong (an
 * unknown name, a size out of range), anything else that a file, the host or memory did not serve. */
int vm_create(struct vm **out, const struct vm_config *cfg, struct vm_error *err);
void vm_free(struct vm *vm); /* NULL is fine */

/* Saves the whole machine to fd, between runs; the file is docs/snapshot.md's. fd may be a pipe. Returns 0 or -errno.
 */
int vm_save(struct vm *vm, int fd, struct vm_error *err);
/* The same to a file beside path, which takes its name once it is whole and on disk. */
int vm_save_file(struct vm *vm, const char *path, struct vm_error *err);
/* The same while the machine runs, soon. Thread-safe. What goes wrong is told to cfg.warn. -ENOMEM: it cannot even be
 * asked for; -ESRCH: there is no machine yet, or none any more. */
int vm_save_soon(struct vm *vm, const char *path);
/* Makes the machine that is saved in fd, ready to go on where it was; guest time goes on from there, and the wall clock
 * is the host's. Memory, processor and debug-exit port are the file's: what cfg says of them must be nothing (NULL, 0)
 * or the same, else -EINVAL. kernel, initrd and cmdline are for later reboots, and taken from the file where cfg says
 * nothing. Returns 0 or -errno; -EBADMSG: the file is damaged, cut off, of another version or no saved machine. */
int vm_load(struct vm **out, const struct vm_config *cfg, int fd, struct vm_error *err);

enum vm_exit {
    VM_EXIT_POWEROFF, /* the guest switched itself off */
    VM_EXIT_RESET,    /* the guest reset itself, and no_reboot is set */
    VM_EXIT_STOPPED,  /* vm_stop(), or the user's quit key on the serial console */
    VM_EXIT_DEBUG,    /* a write to the debug-exit port: see vm_debug_exit_value() */
    VM_EXIT_DIED,     /* triple fault: see vm_diagnose() */
    VM_EXIT_ERROR,    /* ours or the host's failure; err says which */
};
/* Runs until one of these. Once it has returned, the machine can be asked and freed, but not run again. */
enum vm_exit vm_run(struct vm *vm, struct vm_error *err);
void vm_stop(struct vm *vm); /* thread-safe */

uint32_t vm_debug_exit_value(const struct vm *vm);
/* Registers, control registers, the current instruction, and the exceptions that led there. */
void vm_diagnose(struct vm *vm, FILE *out);
/* All counters as one JSON object. */
void vm_stats(struct vm *vm, FILE *out);
/* The state of a chip, of the "cpu", or of all if chip is NULL: a line for each field. -ENOENT if there is no such. */
int vm_info(struct vm *vm, const char *chip, FILE *out);

/* Translates the raw code in file as if it lay at base, and prints guest instructions and the host code they become.
 * Runs nothing. Returns 0 or -errno, -EINVAL as for vm_create(). */
struct vm_translate_config {
    const char *file;
    uint32_t base;   /* linear address of the first byte */
    const char *cpu; /* as in struct vm_config */
    unsigned cpl;    /* 0 to 3 */
    bool code16;     /* CS.D is 0 */
};
int vm_translate(const struct vm_translate_config *cfg, FILE *out, struct vm_error *err);

/* What this host has of what a machine needs. The text of an item is one line; the cure, too, and NULL if there is
 * nothing to cure. */
enum vm_host_state {
    VM_HOST_GOOD,
    VM_HOST_WORSE,   /* machines run without it, slower or with less */
    VM_HOST_MISSING, /* no machine can run */
    VM_HOST_UNKNOWN
};
struct vm_host_item {
    const char *name, *cure;
    enum vm_host_state state;
    char text[200];
};
/* Tries each thing out, in a few seconds at most, and tells of it. Makes child processes: for programs with a single
 * thread. Returns 0 if machines can run here, else -ENOTSUP. */
int vm_host_check(void (*tell)(void *arg, const struct vm_host_item *item), void *arg);

/* The names a description may use; NULL past the last. */
const char *vm_cpu_name(unsigned i);
const char *vm_serial_name(unsigned i, const char **what); /* as "file:PATH" */
const char *vm_trace_name(unsigned i, const char **what);
const char *vm_class_name(unsigned i, const char **what);
const char *vm_version(void);
/* What it was made of: revision, compiler, libraries; NULL past the last. *what names the part. */
const char *vm_version_part(unsigned i, const char **what);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
