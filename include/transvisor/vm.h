/* The embedding API: one virtual PC as an opaque object. The only header that is installed.
 *
 * A machine is made from a description by vm_create(), run by vm_run(), which returns at the next event and can be
 * called again, and freed by vm_free(). Between runs its registers and memory can be read and written.
 *
 * Threads. A machine is one thread's at a time, whichever that is: calls for one machine must not overlap, save those
 * that are called thread-safe. A process may hold several machines, and run each on a thread of its own. Callbacks are
 * made on the thread that is in vm_run(), vm_create(), vm_load() or vm_reset(), and, of a state that has been added, in
 * vm_save(), vm_save_file() or vm_add_state(). They may call what is thread-safe and vm_read_*(), vm_write_*(); what
 * else needs a machine that does not run fails with -EBUSY.
 *
 * Failures. They come back as -errno, with one line of text that begins with the name of what failed. Nothing is
 * printed, save what the description asks for (serial port, trace), and no failure of guest or host ends the process.
 * A bug of ours does, by way of vm_on_fatal().
 *
 * What machines take from the process:
 *
 * Signals. Handlers for SIGSEGV, SIGBUS, SIGFPE, SIGILL (what is no guest's is handed on to the handlers that were
 * there before) and SIGSTKFLT, from the first vm_run() on. These are unblocked in the thread in vm_run(), and SIGPIPE
 * and SIGXFSZ blocked in all calls; the mask is restored. With serial "stdio" on a terminal, that terminal's settings,
 * and handlers for signals of default action that put them back.
 *
 * Address space. Some 140 GiB for each machine, nearly all of it reserved and not used: it costs no memory. Where there
 * is less (RLIMIT_AS) a machine makes do with its RAM and 2 GiB, and is slower.
 *
 * Descriptors. For RAM, for translated code, for the serial port, and a few for each process of direct execution. None
 * of them is 0 to 2; all are closed by exec().
 *
 * Processes and threads. Direct execution runs guest user code in a few child processes, which end with the machine; a
 * wait for any child may find one of them. A serial port with input, a network, a display and sound have a thread each,
 * in which all signals are blocked. Two POSIX timers for each thread that runs machines. */
#ifndef TRANSVISOR_VM_H
#define TRANSVISOR_VM_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

struct vm;

/* The reason of a failure: one line, without the program's name and without a newline. Where a description is wrong it
 * begins with the name of the field, perhaps its value, and a colon: "memory: ..", "serial file:/x: ..". */
struct vm_error {
    char text[512];
};

/* Direct execution of guest user code on the processor, where the host runs 32-bit code: where it pays; never; wherever
 * it can. */
enum vm_direct { VM_DIRECT_ON, VM_DIRECT_OFF, VM_DIRECT_ALWAYS /* an error where the host cannot */ };

/* What the machine has for a screen. */
enum vm_vga {
    VM_VGA_DEFAULT, /* VM_VGA_STD where firmware runs and finds the VGA's BIOS, or there is a display; else none */
    VM_VGA_NONE,
    VM_VGA_STD /* a VGA with VESA modes up to 1920x1200 */
};

/* How guest code is run; what a guest sees is the same. KVM: by hardware virtualization, where the host's /dev/kvm runs
 * 32-bit guests and the guest's processor has CPUID; it cannot be jailed (vm_jail()), and instructions that the host's
 * processor has run though the guest's lacks them. */
enum vm_engine {
    VM_ENGINE_BT,     /* binary translator */
    VM_ENGINE_INTERP, /* reference interpreter */
    VM_ENGINE_KVM
};

/* VIRTIO: for guests with a driver for it; no CD-ROM drives. FLOPPY: a floppy disk drive, two at most; the image has
 * one of the sizes that vm_floppy_size() knows, or it is shorter than a disk of 1.44 or 2.88 MB, which is then blank
 * behind its end. USB: a stick in a port of a USB 1.1 controller, of which there are four in all. */
enum vm_bus { VM_BUS_IDE, VM_BUS_VIRTIO, VM_BUS_FLOPPY, VM_BUS_USB };

/* What a disk image is. PROBE: its first bytes say; an image that is raw by them refuses the guest a write of sector 0
 * that would make it look like another format from then on. Say RAW where a guest may write what it likes. */
enum vm_format { VM_FORMAT_PROBE, VM_FORMAT_RAW, VM_FORMAT_QCOW2 };

/* When a write of the guest's is done. WRITEBACK: once the host has it, which may lose it in a power cut until the
 * guest has flushed, as with a disk that has a cache. WRITETHROUGH: once it would outlive that; the guest sees a disk
 * without a cache. NONE: as WRITEBACK, but without the host's page cache (O_DIRECT), where its file system can. */
enum vm_cache { VM_CACHE_WRITEBACK, VM_CACHE_WRITETHROUGH, VM_CACHE_NONE };

/* A drive of the machine's. A disk is a raw or qcow2 image (versions 2 and 3, which may be based on other images), a
 * block device, or what an NBD server has: nbd:unix:SOCKET, nbd:HOST:PORT, nbd://HOST[:PORT]/NAME. A file is locked:
 * another machine may use it at the same time only if neither of them writes to it. */
/* What becomes of a write that the host has refused. Who stops ends vm_run() with VM_EXIT_DISK, and the guest hears of
 * nothing: the write is made once more by the next run. */
enum vm_werror {
    VM_WERROR_REPORT, /* an error of the guest's disk */
    VM_WERROR_STOP,
    VM_WERROR_ENOSPC, /* stops if the host has no room, else reports */
};
struct vm_disk {
    const char *file; /* NULL: no further drive; "": a CD-ROM or floppy drive that is empty */
    bool cdrom;       /* an ISO image in a CD-ROM drive */
    bool readonly;
    bool snapshot;  /* writes are gone when the machine is freed */
    uint8_t bus;    /* enum vm_bus */
    uint8_t format; /* enum vm_format */
    uint8_t werror; /* enum vm_werror */
    uint8_t cache;  /* enum vm_cache */
};
#define VM_DISKS_MAX 4u
#define VM_NETS_MAX 8u /* network cards */
#define VM_SERIAL_MORE 3u
#define VM_SHARES_MAX 4u /* shared folders */
#define VM_USB_MAX 4u    /* what is plugged into USB: disks, a tablet, a keyboard */
#define VM_OPTION_ROMS_MAX 4u
#define VM_SMBIOS_MAX 4u

/* What a user at the machine's terminal types to somebody other than the guest. */
enum vm_talk {
    VM_TALK_BEGINS, /* by Ctrl-A c */
    VM_TALK_BYTES,
    VM_TALK_ENDS /* by another, or because the terminal is the machine's no more */
};

/* What a machine is made of. Strings are copied. All zeroes, but for size, is a working description. Fields are added
 * at the end, where 0 asks for what was before: a program that was built with an older header goes on working. */
struct vm_config {
    size_t size;          /* sizeof(struct vm_config) */
    const char *kernel;   /* Linux bzImage or Multiboot 1 kernel; NULL: firmware runs instead */
    const char *initrd;   /* initial RAM disk, or Multiboot modules: a comma-separated list; NULL: none */
    const char *cmdline;  /* NULL: empty */
    const char *firmware; /* image that starts at the reset vector, 64 KiB to 16 MiB; NULL: SeaBIOS; VM_FIRMWARE_NONE:
                             nothing is there, and the processor starts in the state that vm_set_registers() gives it */
    /* What firmware tries, in this order: floppy, disk, cdrom; menu=on among them: Esc shows a menu; NULL:
     * "floppy,disk,cdrom". */
    const char *boot;
    struct vm_disk disk[VM_DISKS_MAX];
    /* A name of vm_cpu_name(), and ,+FEATURE or ,-FEATURE as often as wanted, where FEATURE is as Linux has it in
     * /proc/cpuinfo: "n270,-ssse3"; at most 31 characters; NULL: the default. */
    const char *cpu;
    /* First serial port: null, stdio, file:PATH, unix:PATH, tcp:[ADDRESS:]PORT, device:PATH, pty; NULL: null. */
    const char *serial;
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
    /* Told of what the guest sends on its first serial port (and to port E9h), besides what `serial` does with it.
     * NULL: nobody. The other way is vm_serial_send(). */
    void (*serial_output)(void *arg, const uint8_t *bytes, size_t n);
    void *serial_output_arg;
    bool no_reboot; /* a guest's reset is an event (VM_EXIT_RESET), instead of restarting it */
    bool inspect;   /* for vm_load(): only to be looked at, not run; its disks need not be there */
    /* What drives say that they are called, up to 20 characters; NULL: a name of ours. */
    const char *disk_serial[VM_DISKS_MAX];
    /* A network card and what it is connected to: "none", or one of these, with ",KEY=VALUE.." behind it. NULL: "none".
     *   user               a network of this process's own (10.0.2.0/24, DHCP) that reaches the host's; 10.0.2.2 is the
     *                      host itself, with its loopback. hostfwd=tcp|udp:[ADDRESS]:PORT-[GUEST]:PORT (several;
     *                      ADDRESS is the host's, its loopback if not said), restrict=on (nothing but hostfwd)
     *   socket:unix:PATH   a wire of several machines: the first listens at PATH, the others connect to it; or one that
     *                      QEMU (-netdev stream) or passt listens at
     *   tap:INTERFACE      a TAP interface of the host's that this user may have
     * user also has tftp=DIR (the guest may fetch the files of that directory by TFTP, from 10.0.2.2) and bootfile=FILE
     * (DHCP tells the guest to boot from that one of them).
     * For all: model=, one of vm_net_model(); mac=XX:XX:XX:XX:XX:XX (several machines on a wire need different ones);
     * for a card on ISA port=0x300 and irq=3. */
    const char *net;
    enum vm_vga vga;
    /* Where the screen is shown while the machine runs, and the keyboard's keys come from: "none"; "text", on this
     * process's own terminal; "vnc[=HOST:N[,password=FILE]]", to VNC clients at port 5900 + N, of this host alone if no
     * HOST is said. Other than none it gives the machine a VGA, unless vga says VM_VGA_NONE. "auto" is none, but where
     * serial is stdio and this process has a terminal: then, if the guest goes on writing to its text screen, sends
     * nothing on its serial port meanwhile, and no operating system has used that, it is text from then on, and nobody
     * is at the other end of the serial port. NULL: "none". */
    const char *display;
    const char *net_dump;                   /* a file for all frames of the network (pcap); written over. NULL: none */
    const char *more_nets[VM_NETS_MAX - 1]; /* further cards; net_dump is of the first, net */
    void (*was_reset)(void *arg); /* told of each reset that the guest has asked for, once it is done; NULL: nobody */
    void *was_reset_arg;
    /* COM2 to COM4, as serial; NULL: there is no such port. The parallel port, LPT1: likewise, what is printed. */
    const char *serial_more[VM_SERIAL_MORE];
    const char *parallel;
    /* What the clock shows at first: "utc", "localtime" (the host's), or a date as 2024-02-29 or 2024-02-29T12:00:00.
     * NULL: "utc". A loaded machine's clock goes on as it was set. */
    const char *rtc;
    /* Where firmware runs: further ROMs, of at most 256 KiB in whole units of 512 bytes, that it starts; and what its
     * SMBIOS tables say, in QEMU's words: "type=1,product=NAME,..". type=0: vendor, version, date; type=1:
     * manufacturer, product, version, serial, uuid, sku, family. NULL: no further one. Not kept in a saved machine. */
    const char *option_rom[VM_OPTION_ROMS_MAX];
    const char *smbios[VM_SMBIOS_MAX];
    /* A change of a page table is seen by the next access, whether or not the guest flushes its TLB: for guests that
     * forget to (Windows 98 and Me). */
    bool tlb_strict;
    /* What there is to be heard of: a comma-separated list of vm_sound_name()s, and the speaker with any; "none". NULL:
     * the speaker where audio is said, else none. */
    const char *sound;
    /* Where it is heard: "none"; "wav:FILE", a recording in guest time from the first sound on, of 48 kHz and two
     * channels, whole at any moment, and at most 4 GiB; "pulse", "alsa", "sdl": played by the host, through a library
     * that is loaded then. NULL: "none". Not kept in a saved machine. */
    const char *audio;
    /* Folders of the host's that the guest may mount, by virtio 9P: DIR[,tag=TAG][,readonly=on]; a comma in DIR is
     * typed twice. TAG, of at most 32 bytes, is what the guest knows it by: share0, share1, .. if nothing is said.
     * Nothing outside of DIR can be reached, nor what links in it lead to; its files belong to the user of this
     * process. NULL: no such folder. */
    const char *share[VM_SHARES_MAX];
    /* The guest measures and gets a processor of so many MHz that does an instruction a cycle (a repeated one counts
     * once), and the host's is idle the rest: for programs whose timing loops fail on fast ones. On a host that cannot
     * do so many, guest time is slower. Not with VM_DIRECT_ALWAYS; user code runs translated. 0: as fast as it goes. */
    unsigned speed_mhz;
    /* What is plugged into a USB 1.1 controller: a list of "tablet", a pointer that is where the user's is, and
     * "keyboard"; or "none". NULL: "none", and there is no controller. */
    const char *usb;
    /* Told, where the guest runs, of what a drive was asked for and could not do: err is an errno; stops: as werror has
     * it. NULL: nobody. */
    void (*disk_failed)(void *arg, unsigned drive, int write, int err, int stops);
    void *disk_failed_arg;
    bool jitdump; /* write /tmp/jit-PID.dump: translated code with its names, for perf inject --jit */
    /* Devices for guests with a driver for them (virtio): random numbers of the host's; a balloon, by which
     * vm_balloon() takes memory from the guest; a console (Linux: hvc0), as serial, NULL: there is none. */
    bool rng, balloon;
    const char *console;
    /* Names the guest's kernel code, for perf_map and jitdump: the function that a linear address is in, and how far,
     * or NULL. It lives as long as the machine. On the thread that runs the guest, and it may read registers and
     * memory. NULL: names are addresses. */
    const char *(*symbol)(void *arg, uint32_t address, uint32_t *offset);
    void *symbol_arg;
    bool hpet; /* high precision event timers, and the ACPI table that tells of them */
    /* Told of what a user types between a Ctrl-A c and the next at a terminal that the machine has (a port's stdio, or
     * display text); vm_say() answers. On a thread of the machine's, which must not wait for the one that runs it.
     * NULL: nobody listens. */
    void (*talk)(void *arg, enum vm_talk what, const uint8_t *bytes, size_t n);
    void *talk_arg;
};
#define VM_CONFIG_INIT                   \
    {                                    \
        .size = sizeof(struct vm_config) \
    }
#define VM_FIRMWARE_NONE "none"
#define VM_MEMORY_DEFAULT ((uint64_t)512 << 20)
#define VM_MEMORY_MIN ((uint64_t)16 << 20)
#define VM_MEMORY_MAX ((uint64_t)3584 << 20)
#define VM_CODE_CACHE_MIN ((uint64_t)64 << 10)
#define VM_CODE_CACHE_MAX ((uint64_t)1 << 30)
#define VM_SPEED_MAX 10000u /* MHz */

/* Models of network cards, NULL past the last; the first is what a card is if nothing is said. */
const char *vm_net_model(unsigned i);

/* Sound cards, and what plays them; NULL past the last. *what explains one. */
const char *vm_sound_name(unsigned i, const char **what);
const char *vm_audio_name(unsigned i, const char **what);

/* Whether there are floppy disks of so many bytes: 160K to 2.88M. */
bool vm_floppy_size(uint64_t bytes);

/* Makes a machine and loads its kernel. Returns 0 or -errno; -EINVAL says that the description itself is wrong (an
 * unknown name, a size out of range), anything else that a file, the host or memory did not serve. */
int vm_create(struct vm **out, const struct vm_config *cfg, struct vm_error *err);
void vm_free(struct vm *vm); /* NULL is fine */

/* ---- running ---- */

/* Events. There may be more of them one day: what a program does not know it takes for an error. */
enum vm_exit {
    VM_EXIT_POWEROFF, /* the guest switched itself off */
    VM_EXIT_RESET,    /* the guest reset itself, and no_reboot is set: the next run begins with the reset */
    VM_EXIT_STOPPED,  /* vm_stop(), or the user's quit key on the serial console */
    VM_EXIT_DEBUG,    /* a write to the debug-exit port: see vm_debug_exit_value() */
    VM_EXIT_DIED,     /* triple fault: see vm_diagnose() */
    VM_EXIT_ERROR,    /* ours or the host's failure; err says which */
    VM_EXIT_PAUSED,   /* vm_pause() */
    VM_EXIT_BREAK,    /* a breakpoint of vm_break_add()'s: see vm_break_met() */
    VM_EXIT_STEPPED,  /* vm_step() has done what it was to do */
    VM_EXIT_LIMIT,    /* as many instructions as vm_limit() has said */
    VM_EXIT_PROBE,    /* a probe's function has asked for it: see vm_probe_met() */
    VM_EXIT_DISK,     /* a write has failed, and is held: see enum vm_werror */
};
/* Runs until one of these, on the calling thread. Called again, the guest goes on where it was. After POWEROFF, DIED
 * and ERROR it cannot: the same comes back at once, until vm_reset(). Many short runs are cheap if one thread makes
 * them. Guest time goes on between runs, but not after VM_EXIT_BREAK and VM_EXIT_STEPPED, nor in vm_wait(). */
enum vm_exit vm_run(struct vm *vm, struct vm_error *err);
/* Runs one instruction, or one iteration of a repeated one, with the exception that it raises. An interrupt is
 * delivered only with interrupts true (which is a step as well), and to a guest in HLT, for whose interrupt it waits.
 * Events are those of vm_run(). */
enum vm_exit vm_step(struct vm *vm, bool interrupts, struct vm_error *err);
/* Until vm_pause() or vm_stop(): the guest does nothing, but its screen is shown, and what is asked for by vm_*_soon()
 * is done. For a machine that somebody is looking at. */
enum vm_exit vm_wait(struct vm *vm, struct vm_error *err);
/* Both end the present vm_run(), or else the next one before the guest does anything; if the guest is in a callback, as
 * soon as the instruction is done. Thread-safe. After vm_stop() the serial port waits for no slow reader any more: it
 * is for the end. */
void vm_pause(struct vm *vm);
void vm_stop(struct vm *vm);
/* The reset button: processor and chips are as vm_create() has made them, and where no firmware runs memory too, with
 * the kernel's files read anew. Returns 0 or -errno; what has failed can be tried again. */
int vm_reset(struct vm *vm, struct vm_error *err);

/* ---- the jail ---- */

/* Devices and image formats are where virtual machine monitors get broken into. Once everything is open, a program that
 * does nothing but run one machine can give up what that needs no more, for the whole process and for good: it opens no
 * file but those named here and in the machine's description, connects to nothing but where the description says,
 * starts no program, and traces and signals nobody. docs/security.md has what each thread keeps. What breaks in ends
 * the process with one line on standard error, and status 1.
 *
 * The calling thread keeps the machine: it alone calls what is not thread-safe. The guest runs on a new one, and
 * callbacks are made there. The process's other threads take part; none may block SIGURG. Where the host has not all it
 * takes (seccomp, Landlock), what there is is used, and cfg.warn is told what is missing. A build with sanitizers does
 * nothing. */
struct vm_jail {
    size_t size;              /* sizeof(struct vm_jail) */
    const char *const *saves; /* files that vm_save_file() and vm_save_soon() will write; NULL ends them; or NULL */
    const char *const *screenshots; /* the same for vm_screenshot() and vm_screenshot_soon() */
    int any_file;                   /* the calling thread may open whatever the user may: for a monitor's commands */
    const char *const *sockets; /* paths of sockets that the calling thread will take away; NULL ends them; or NULL */
};
/* Between runs, once. 0, or -errno: the process may be in its jail or not, and had better end. */
int vm_jail(struct vm *vm, const struct vm_jail *how, struct vm_error *err);

uint32_t vm_debug_exit_value(const struct vm *vm);
/* Registers, control registers, the current instruction, and the exceptions that led there. */
void vm_diagnose(struct vm *vm, FILE *out);
/* All counters as one JSON object. */
void vm_stats(struct vm *vm, FILE *out);
/* The state of a chip, of the "cpu", or of all if chip is NULL: a line for each field. -ENOENT if there is no such. */
int vm_info(struct vm *vm, const char *chip, FILE *out);

/* ---- registers and memory ---- */

struct vm_segment {
    uint16_t selector, reserved; /* reserved: 0 */
    uint32_t base, limit;        /* the hidden part; limit in bytes, inclusive */
    uint32_t attributes;         /* bytes 5 and 6 of the descriptor, without the limit; 1 << 16: a null selector */
};
struct vm_table {
    uint32_t base;
    uint16_t limit, reserved;
};
/* What the manuals call registers, but for MSRs, and what lies between two instructions. */
struct vm_registers {
    uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi, eip, eflags;
    struct vm_segment es, cs, ss, ds, fs, gs, ldtr, tr;
    struct vm_table gdtr, idtr;
    uint32_t cr0, cr2, cr3, cr4;
    uint32_t dr[8];           /* 4 and 5 are 0 */
    uint64_t pdpte[4];        /* what the processor has read of CR3's table, with CR0.PG and CR4.PAE */
    uint8_t cpl;              /* current privilege level */
    uint8_t halted;           /* 1: HLT waits for an interrupt */
    uint8_t interrupt_shadow; /* until the next instruction is done: 1 after STI, 2 after MOV SS or POP SS; else 0 */
    uint8_t nmi_blocked;      /* 1: until IRET */
    uint8_t reserved[4];      /* 0 */
    uint8_t fx[512];          /* x87, MMX and SSE: a 32-bit FXSAVE image */
};
/* Between runs, or in vm_config.symbol. 0, or -EBUSY. */
int vm_get_registers(struct vm *vm, struct vm_registers *out);
/* The registers, as if they had always been so. Bits that are fixed in EFLAGS, DR6 and DR7 are so afterwards. 0 or
 * -EBUSY; -EINVAL: the processor could not hold that, err begins with the name of the register, nothing has been done.
 */
int vm_set_registers(struct vm *vm, const struct vm_registers *in, struct vm_error *err);
/* As RDMSR and WRMSR, between runs. 0 or -EBUSY; -EINVAL: that would be #GP, and nothing has been done. */
int vm_get_msr(struct vm *vm, uint32_t msr, uint64_t *value);
int vm_set_msr(struct vm *vm, uint32_t msr, uint64_t value);

/* Guest memory, RAM and ROM, without the side effects of an access: no device is asked, no accessed or dirty bit set,
 * no permission looked at. Writes reach RAM only, and are seen by code that has been translated. They return how many
 * bytes were there. Physical: others read as ones, and writes to them are dropped. Linear, as the page tables have it:
 * up to the first byte that is not there. */
uint64_t vm_read_physical(struct vm *vm, uint64_t address, void *to, uint64_t n);
uint64_t vm_write_physical(struct vm *vm, uint64_t address, const void *from, uint64_t n);
uint64_t vm_read_linear(struct vm *vm, uint32_t address, void *to, uint64_t n);
uint64_t vm_write_linear(struct vm *vm, uint32_t address, const void *from, uint64_t n);

/* ---- counting instructions ----
 *
 * Those that the guest has retired, as processors count them: a repeated string instruction is one, when it is done;
 * one that faults is none. INT n and HLT count; an interrupt that is delivered does not. The number is exact, and each
 * engine has the same. Code is slower while it counts, and nothing runs directly (VM_DIRECT_ON); while it does not, it
 * costs nothing. */

/* Counts from now on, or no more. Between runs. 0 or -EBUSY. */
int vm_count(struct vm *vm, bool on);
/* How many so far. Between runs; in callbacks it is about where the guest is: up to the end of a piece of code that has
 * begun. */
uint64_t vm_instructions(const struct vm *vm);
/* So many more, then vm_run() ends with VM_EXIT_LIMIT, and there is no limit any more. UINT64_MAX: none. Counts
 * meanwhile. Between runs. 0 or -EBUSY. */
int vm_limit(struct vm *vm, uint64_t instructions);

/* ---- probes ----
 *
 * A function of the embedder's is called, or a number goes up, whenever the guest does something. What nobody asks for
 * costs nothing: the guest's code is translated anew when a probe comes or goes. While there are probes of
 * instructions, blocks or system calls, no user code runs directly (VM_DIRECT_ON). docs/instruments.md tells of the
 * events, of what each costs, and of what is the same in both engines. */

/* What becomes of the guest. */
enum vm_probe_verdict {
    VM_PROBE_GO,
    VM_PROBE_SKIP, /* of insn, syscall, hlt: the instruction is not done, and the guest goes on behind it */
    VM_PROBE_STOP, /* vm_run() ends with VM_EXIT_PROBE, once the present instruction is done */
};
/* Called on the thread that is in vm_run(). Of vm's functions it may call these of probes and those that are
 * thread-safe, vm_read_*() and vm_write_*(). */
typedef enum vm_probe_verdict vm_probe_fn(struct vm *vm, void *arg);

/* event: EVENT[=WHICH][,at=FROM[-TO]][,cpl=N][,if=VALUE OP NUMBER]..
 *   EVENT    of vm_probe_event_name(). insn=MNEMONIC or insn=CLASS (vm_class_name()), exception=VECTOR,
 *            interrupt=VECTOR, syscall=VECTOR: these alone
 *   at       where: linear addresses of data for read and write, 16 MiB at most; ports for in and out; physical
 *            addresses for mmio-read and mmio-write; else linear addresses of instructions
 *   cpl      at that privilege level
 *   if       a value of vm_probe_value_name(), one of == != < <= > >= &, and a number; all of them have to hold
 * fn: NULL: it is counted only, for which instructions and blocks without `if` do not leave translated code.
 * Between runs. Returns a number, 0 or more, or -errno: -EINVAL: event is wrong; -ENOSPC: there are too many, which 64
 * are not; -EBUSY: the machine runs. */
int vm_probe_add(struct vm *vm, const char *event, vm_probe_fn *fn, void *arg, struct vm_error *err);
int vm_probe_remove(struct vm *vm, int probe); /* between runs; 0, -ENOENT or -EBUSY */
/* How often it was met, `if` having held. An instruction that is only counted counts when it is done. */
uint64_t vm_probe_hits(const struct vm *vm, int probe);
int vm_probe_met(const struct vm *vm); /* after VM_EXIT_PROBE: which has asked for it */

/* In a vm_probe_fn: what is known. value: its index among vm_probe_value_name(). Nothing of the event's own is 0. */
uint64_t vm_probe_get(const struct vm *vm, unsigned value);
/* A general register, or of eflags the arithmetic flags, gets another value. 0; -EINVAL: it is another one; -ENOENT:
 * nothing is told of just now. */
int vm_probe_set(struct vm *vm, unsigned value, uint32_t to);
const char *vm_probe_event_name(unsigned i, const char **what);
const char *vm_probe_value_name(unsigned i, const char **what);
int vm_probe_value(const char *name); /* its index, or -ENOENT */

/* ---- the trace stream ----
 *
 * What the guest does, as records in memory that another process reads while it runs: transvisor/stream.h. User code
 * does not run directly (VM_DIRECT_ON) while there are blocks or accesses to memory in it. */

/* where: FILE or unix:SOCKET, and [,what=blocks+memory+events][,size=BYTES][,at=FROM-TO][,cpl=N][,wait=on], as
 * docs/instruments.md tells. Between runs. 0 or -errno: -EINVAL: where is wrong; -EEXIST: there is one; -EBUSY. */
int vm_stream(struct vm *vm, const char *where, struct vm_error *err);
/* Between runs; vm_free() does it, too. told, lost: how many records there were, and how many more there was no room
 * for. 0; -ENOENT: there is none; -EBUSY. */
int vm_stream_end(struct vm *vm, uint64_t *told, uint64_t *lost);

/* ---- breakpoints ---- */

/* Any number of them, in linear address space, whichever it is that is in use. Guest memory and the guest's own debug
 * registers are as they were. VM_BREAK_FETCH is met before the instruction at that address runs, the others after the
 * one that made the access. Code that meets none runs as fast as ever. */
enum vm_break { VM_BREAK_READ = 1, VM_BREAK_WRITE = 2, VM_BREAK_FETCH = 4 }; /* and sets of them */
#define VM_BREAK_BYTES_MAX 4096u
/* Between runs. 0; -EINVAL: no bytes, or more than there may be; -EEXIST, -ENOENT: there is one like it, or none;
 * -ENOMEM; -EBUSY: the machine runs. */
int vm_break_add(struct vm *vm, unsigned kinds, uint32_t address, uint32_t bytes);
int vm_break_remove(struct vm *vm, unsigned kinds, uint32_t address, uint32_t bytes);
int vm_break_remove_all(struct vm *vm); /* 0 or -EBUSY */
/* After VM_EXIT_BREAK: which it was. */
void vm_break_met(const struct vm *vm, unsigned *kinds, uint32_t *address, uint32_t *bytes);
/* The next vm_run() does not stop at its very first instruction. */
void vm_break_pass(struct vm *vm);

/* ---- devices and the serial port ---- */

/* offset is from the start of the range; size is 1, 2 or 4 bytes, a larger access comes in pieces; a value is in the
 * low bytes. A function may be NULL: reads give ones, writes are dropped. */
struct vm_device {
    uint32_t (*read)(void *arg, uint32_t offset, unsigned size);
    void (*write)(void *arg, uint32_t offset, unsigned size, uint32_t value);
    void *arg;
};
/* The device, which is copied, answers at n ports from base on, or at n bytes of physical memory, also after resets.
 * Where RAM is, the device lies over it. Saved machines do not have it: whoever loads one maps it again, and
 * vm_add_state() gives it its state. Between runs. 0 or -errno; -EBUSY: another device is there, or the machine
 * runs. */
int vm_map_ports(struct vm *vm, uint16_t base, uint32_t n, const struct vm_device *device, struct vm_error *err);
int vm_map_memory(struct vm *vm, uint64_t base, uint64_t n, const struct vm_device *device, struct vm_error *err);

/* The state of a device, or of whatever else of the embedder's belongs to a machine. */
struct vm_state {
    size_t size; /* sizeof(struct vm_state) */
    /* Writes the state to `to` and returns how many bytes it has. If they are more than room, up to VM_STATE_MAX, it is
     * called again, with room for so many; they must be as many then. Called in vm_save(), vm_save_file(), or, after
     * vm_save_soon(), in vm_run(). */
    size_t (*save)(void *arg, void *to, size_t room);
    /* Takes up a state that save() has given, perhaps in another version of the program, or that somebody has forged.
     * 0, or -errno to refuse it. */
    int (*load)(void *arg, const void *bytes, size_t n);
    void *arg;
};
#define VM_STATE_MAX ((size_t)4 << 20)
#define VM_STATE_NAME_MAX 24
/* From here on the machine is saved with this state, under that name: 1 to VM_STATE_NAME_MAX printable characters. If
 * the machine has been loaded and its file has a state of that name, load() is called with it before this returns;
 * nothing is called if it has none. A machine does not run (VM_EXIT_ERROR, and it can be run again) until each state in
 * its file has been added. Between runs. 0 or -errno: what load() has returned; -EEXIST: there is one of that name;
 * -EBUSY: the machine runs. After a failure nothing has been added. */
int vm_add_state(struct vm *vm, const char *name, const struct vm_state *state, struct vm_error *err);

/* The guest receives these bytes on its first serial port, as fast as it reads them, besides what `serial` brings. Of
 * more than 1 MiB that it has not read the rest is lost. Thread-safe. 0 or -ENOMEM. */
int vm_serial_send(struct vm *vm, const void *bytes, size_t n);
/* To a user who talks (vm_config.talk); nobody hears it where none does. Between runs. */
void vm_say(struct vm *vm, const void *bytes, size_t n);
/* With serial "pty": the terminal's name; else NULL. */
const char *vm_serial_terminal(const struct vm *vm);
/* The same of the serial port number port, 0 to 3; 4: the parallel port; 5: the virtio console. */
const char *vm_port_terminal(const struct vm *vm, unsigned port);

/* ---- the screen ---- */

/* Writes what the screen shows to a file: a PNG; or, where path ends in .txt, the text that stands there, in UTF-8.
 * Between runs. 0 or -errno; -ENODEV: there is no screen; -ENOTSUP: it shows graphics, and no text. */
int vm_screenshot(struct vm *vm, const char *path, struct vm_error *err);
/* The same while the machine runs, soon. Thread-safe. What goes wrong is told to cfg.warn. */
int vm_screenshot_soon(struct vm *vm, const char *path);

/* Ends the display, and gives the terminal back if it had it: for what is to be printed before vm_free(). Between runs.
 * 0 or -EBUSY. */
int vm_display_close(struct vm *vm);
/* Whether the screen stands on the terminal of this process now: what is printed there spoils it. Thread-safe. */
bool vm_display_on_terminal(const struct vm *vm);

/* ---- disks that can be changed ---- */

/* Another medium comes into a CD-ROM or floppy drive, as a guest sees it when somebody presses the button, changes the
 * disk and closes the tray. drive: as it was numbered in the description. Of medium file, readonly, snapshot and format
 * count; NULL, or a file "": the drive becomes empty. force: even if the guest has locked the tray. Between runs.
 * 0 or -errno, and nothing has changed: -ENODEV: there is no such drive, or its disk is fixed; -EBUSY: the machine
 * runs; -EPERM: the guest has locked the tray; it is told that somebody has pressed the button, and may open it. */
int vm_change_medium(struct vm *vm, unsigned drive, const struct vm_disk *medium, bool force, struct vm_error *err);

/* A drive as it is now. */
struct vm_drive {
    struct vm_disk disk; /* file: borrowed, until the next vm_change_medium() */
    bool removable, tray_open, locked;
};
/* Between runs, or in a callback. 0; -ENODEV: there is no such drive. */
int vm_get_drive(const struct vm *vm, unsigned drive, struct vm_drive *out);

/* ---- the keyboard ---- */

/* Types text on the machine's keyboard, which is a US one; the guest gets the keys one by one, as it takes them. <NAME>
 * is a key by the name that QEMU's sendkey has for it, <ctrl-alt-delete> several at once, << a <, a newline Enter.
 * Thread-safe. 0; -EINVAL: there is no such key, and nothing is typed; -ENOSPC: too much has been typed before that the
 * guest has not taken. */
int vm_type(struct vm *vm, const char *text, struct vm_error *err);
/* Whether vm_type() could type it. 0 or -EINVAL. */
int vm_type_check(const char *text, struct vm_error *err);
/* One key, by that name, goes down or up. Thread-safe. 0; -EINVAL: there is no such key. */
int vm_key(struct vm *vm, const char *name, bool down);
/* The mouse moves (up is positive), its wheel turns, and these buttons are pressed: 1 left, 2 right, 4 middle.
 * Thread-safe. */
void vm_pointer(struct vm *vm, int dx, int dy, int wheel, unsigned buttons);
/* The pointer is at x, y: 0 to 32767 from the left and from the top. For a guest with a driver for its USB tablet; from
 * what others get the mouse moves as far as it is from the place before. Thread-safe. */
void vm_pointer_at(struct vm *vm, unsigned x, unsigned y, int wheel, unsigned buttons);
/* How many bytes of its memory the guest should do with, and does with as it says itself, when it has a balloon and a
 * driver for it. Not while the machine runs, but in a callback. 0; -ENODEV: there is no balloon; -EINVAL: 0 bytes;
 * -EBUSY. */
int vm_balloon(struct vm *vm, uint64_t bytes);
int vm_get_balloon(const struct vm *vm, uint64_t *bytes);
/* What a guest's driver for the balloon knows of the guest's memory: bytes, but for the two that count faults and the
 * two that count huge pages. */
enum vm_balloon_stat {
    VM_BALLOON_SWAP_IN,
    VM_BALLOON_SWAP_OUT,
    VM_BALLOON_MAJOR_FAULTS,
    VM_BALLOON_MINOR_FAULTS,
    VM_BALLOON_FREE,
    VM_BALLOON_TOTAL,
    VM_BALLOON_AVAILABLE, /* what programs could have without swapping */
    VM_BALLOON_CACHES,    /* of disks */
    VM_BALLOON_HUGE_HAD,
    VM_BALLOON_HUGE_FAILED,
    VM_BALLOON_STATS
};
struct vm_balloon_stats {
    uint64_t value[VM_BALLOON_STATS];
    uint32_t said;   /* bits: which the guest has said; 0: none, there is no driver or it does not know how */
    uint64_t age_ns; /* of the guest's time: how long ago */
};
/* As the guest said it last; it is asked to say it again, which is there by the next call, a moment later. When and how
 * it may be called, and what it returns, is as for vm_balloon(). */
int vm_get_balloon_stats(struct vm *vm, struct vm_balloon_stats *out);
/* The power button is pressed and let go: a guest with ACPI switches itself off. Thread-safe. 0 or -ENOMEM. */
int vm_power_button(struct vm *vm);

/* ---- saved machines ---- */

/* Saves the whole machine to fd, between runs; the file is docs/snapshot.md's. fd may be a pipe. Returns 0 or -errno;
 * -ESRCH: the guest has ended. */
int vm_save(struct vm *vm, int fd, struct vm_error *err);
/* The same to a file beside path, which takes its name once it is whole and on disk. */
int vm_save_file(struct vm *vm, const char *path, struct vm_error *err);
/* The same while the machine runs, soon. Thread-safe. What goes wrong is told to cfg.warn. -ENOMEM: it cannot even be
 * asked for. */
int vm_save_soon(struct vm *vm, const char *path);
/* Makes the machine that is saved in fd, ready to go on where it was; guest time goes on from there, and the wall clock
 * is the host's. Memory, processor and debug-exit port are the file's: what cfg says of them must be nothing (NULL, 0)
 * or the same, else -EINVAL. kernel, initrd and cmdline are for later reboots, and taken from the file where cfg says
 * nothing. Returns 0 or -errno; -EBADMSG: the file is damaged, cut off, of another version or no saved machine. */
int vm_load(struct vm **out, const struct vm_config *cfg, int fd, struct vm_error *err);

/* ---- without a machine ---- */

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

/* ---- disk images ---- */

/* What becomes of images as files: no machine is needed. They are locked meanwhile, as by a machine. All return 0 or
 * -errno, with one line; -EINVAL: what was asked for cannot be. */

/* What an image is to be. */
struct vm_image {
    size_t size;           /* sizeof(struct vm_image) */
    enum vm_format format; /* raw if not said */
    uint64_t bytes;        /* of the disk; 0: as many as what it is based on, or is made of, has */
    const char *backing;   /* qcow2: the file that it is based on, relative to its own folder; NULL: none */
    enum vm_format backing_format;
    uint64_t cluster;       /* qcow2: bytes, 512 to 2 MiB; 0: 64 KiB */
    unsigned version;       /* qcow2: 2 or 3; 0: 3 */
    unsigned refcount_bits; /* qcow2: 0: 16 */
    bool lazy_refcounts;    /* qcow2: faster flushes, and a repair after a crash */
};
/* An empty image. What file holds already is lost. */
int vm_image_create(const char *file, const struct vm_image *how, struct vm_error *err);
/* A copy of `from`, with what that is based on; zeroes take no room in it. how->backing is not looked at. */
int vm_image_convert(const char *from, enum vm_format format, const char *to, const struct vm_image *how,
                     struct vm_error *err);

struct vm_image_info {
    enum vm_format format;
    uint64_t bytes, file_bytes; /* of the disk; that the file takes on the host */
    uint64_t cluster;           /* from here on: qcow2 */
    unsigned version, refcount_bits;
    bool lazy_refcounts, dirty, corrupt;
    char backing[1024], backing_format[16]; /* "": none; not said */
};
int vm_image_info(const char *file, enum vm_format format, struct vm_image_info *out, struct vm_error *err);

/* n bytes of the disk, from offset at on; behind its end zeroes are read. */
int vm_image_read(const char *file, enum vm_format format, uint64_t at, void *to, size_t n, struct vm_error *err);

struct vm_image_check {
    uint64_t corruptions, leaks;           /* found: what leads to a loss of data; room that nobody uses */
    uint64_t corruptions_left, leaks_left; /* not repaired */
    uint64_t allocated_clusters, clusters; /* of the disk's */
};
/* Checks a qcow2 image, and repairs it if that is wanted. -EOPNOTSUPP: it is raw. */
int vm_image_check(const char *file, enum vm_format format, bool repair, struct vm_image_check *out,
                   struct vm_error *err);
/* Writes what a qcow2 image holds itself to what it is based on, and empties it. */
int vm_image_commit(const char *file, struct vm_error *err);

/* ---- names ---- */

/* The names a description may use; NULL past the last. */
const char *vm_cpu_name(unsigned i);
const char *vm_serial_name(unsigned i, const char **what); /* as "file:PATH" */
const char *vm_trace_name(unsigned i, const char **what);
const char *vm_class_name(unsigned i, const char **what);
const char *vm_version(void);
/* What it was made of: revision, compiler, libraries; NULL past the last. *what names the part. */
const char *vm_version_part(unsigned i, const char **what);

/* Told, in one line, that the library has found itself in a state that cannot be. Of the whole process; on the thread
 * that found it. If fn returns, the process ends with abort(). It may leave by longjmp() or pthread_exit() instead: the
 * machine of that thread must not be touched again, not even freed; others are as they were. NULL: the line goes to
 * standard error. Thread-safe. */
void vm_on_fatal(void (*fn)(void *arg, const char *text), void *arg);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
