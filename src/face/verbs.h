/* The verbs of the command line and their options: the one table of each. */
#ifndef SRC_VERBS_H
#define SRC_VERBS_H
#include "src/face/options.h"
#include "src/face/probes.h"
#include "src/face/watch.h"

enum verb_id {
    VERB_RUN,
    VERB_NEW,
    VERB_LIST,
    VERB_START,
    VERB_CONSOLE,
    VERB_STOP,
    VERB_RM,
    VERB_INFO,
    VERB_CHECK,
    VERB_TOP,
    VERB_TRANSLATE,
    VERB_BENCH,
    VERB_IMG_CREATE,
    VERB_IMG_INFO,
    VERB_IMG_CONVERT,
    VERB_IMG_CHECK,
    VERB_IMG_COMMIT,
    VERB_COUNT
};

struct verb {
    const char *name, *operand; /* name: one word, or two; operand: as help shows it, or NULL */
    const char *what;           /* one line */
    const char *examples;       /* lines, or NULL */
    bool as_run;                /* takes the options of VERB_RUN, too */
    const struct opt *options;  /* their destinations are in the verb's struct of arguments below */
};
extern const struct verb verbs[VERB_COUNT];

/* What `transvisor VERB --help` prints, or --help-all. */
void verb_help(enum verb_id id, bool all, FILE *out);

/* What --help says of the exit status, for all verbs. */
extern const char verbs_exit_status[];

#define RUN_BUS_UNSAID 0xff    /* of a drive in run_args, until run_args_finish() */
#define RUN_WERROR_UNSAID 0xff /* likewise */

struct run_args {
    struct vm_config cfg; /* engine, direct, entry_cs and debug_exit are set by run_args_finish() */
    struct opt_port debug_exit;
    int engine, direct, entry_cs, tlb;
    int rng, balloon, hpet; /* 0 off, 1 on */
    int tablet;             /* what the pointer of a screen with one is: 0 the mouse */
    bool no_jail;
    const char *stats, *expect;
    u64 timeout_ms;                         /* 0: none */
    unsigned disks;                         /* how many of cfg.disk are described */
    unsigned nets;                          /* how many network cards */
    unsigned serials, roms, smbioses;       /* likewise: COM ports, cfg.option_rom, cfg.smbios */
    unsigned shares;                        /* and cfg.share */
    char usb[64];                           /* what cfg.usb points to */
    char parallel[512];                     /* what cfg.parallel points to */
    const char *load, *save, *save_at_exit; /* files, or NULL */
    const char *screenshot;                 /* file, or NULL */
    u64 screenshot_ms;                      /* since the start; 0: at the end */
    struct watch_typing typing[TYPING_MAX]; /* what is typed, in this order */
    unsigned typings;
    char vnc[512];             /* what cfg.display points to after --vnc */
    const char *monitor;       /* where QMP is spoken, or NULL */
    const char *human_monitor; /* where a person comes in, or NULL */
    const char *gdb;           /* where debuggers come in, or NULL */
    bool gdb_usual;            /* where they expect it */
    bool paused;
    bool count;
    u64 speed; /* MHz; 0: as fast as it goes */
    struct probe_words probe[PROBE_WORDS_MAX];
    unsigned probes;
    const char *stream;         /* where a trace stream goes, or NULL */
    const char *symbols;        /* a file of the guest's, or NULL */
    u64 stop_after;             /* instructions; 0: never */
    const char *preset;         /* a name of preset_name(), "?" to have it guessed, or NULL */
    int disk_bus;               /* of disks that say none: 0 IDE, 1 virtio */
    const char *net_model;      /* of network cards that say none, or NULL */
    char net[VM_NETS_MAX][512]; /* cards with that model, where cfg points to */
    int ready;                  /* a descriptor that gets a byte when the guest runs, or -1 */
    bool print_config;
    const char *config; /* the file that has been read before, or NULL */
    int vga;            /* enum vm_vga, less 1; -1: the default */
};
void run_args_init(struct run_args *a);
/* One more drive. 0, or -EINVAL: there is no room. */
MUST_CHECK int run_args_disk(struct run_args *a, const struct vm_disk *disk, struct vm_error *err);
/* The same, before all others: what is named without an option comes first. */
MUST_CHECK int run_args_first_disk(struct run_args *a, const struct vm_disk *disk, struct vm_error *err);
/* After options_parse(). 0, or -EINVAL with *err set. */
MUST_CHECK int run_args_finish(struct run_args *a, struct vm_error *err);

struct check_args {
    bool json;
};

struct info_args {
    const char *file, *chip; /* chip: NULL: all */
};

struct translate_args {
    struct vm_translate_config cfg;
    int mode;
    u64 cpl, base;
};

#endif
