/* A whole machine to a file and back: what it is made of, its chips, its CPU, its memory (docs/snapshot.md). */
#ifndef SRC_SNAPSHOT_H
#define SRC_SNAPSHOT_H
#include "core/snap.h"
#include "transvisor/vm.h"

struct rt;
struct pc;

/* What a machine must be like to take up a saved state, and what a later reboot of it starts. */
struct snapshot_head {
    u64 memory; /* bytes */
    u64 now_ns; /* guest time */
    u8 cpu[32]; /* zero-padded */
    bool has_debug_exit;
    u16 debug_exit;
    struct byte_queue kernel, initrd, cmdline, firmware, boot, net; /* without a terminating zero; empty: none */
    u8 ports;                                                       /* bit i: line i of src/lines.h */
    u8 vga;                                                         /* enum vm_vga; never the default */
    struct byte_queue disks; /* for each drive: a flag byte (enum snapshot_disk), its path, a zero */
    /* For each drive: its serial number, empty where it has one of ours, and a zero. No bytes: the file is older. */
    struct byte_queue disk_serials;
    struct byte_queue sound;     /* as vm_config.sound; empty: there are no sound cards */
    struct byte_queue more_nets; /* of each further card: its description, a zero */
    struct byte_queue shares;    /* of each shared folder: likewise */
    struct byte_queue usb;       /* as cfg.usb has it */
    u8 paravirt;                 /* of enum snapshot_paravirt */
    bool hpet;
};
enum snapshot_paravirt { SNAPSHOT_RNG = 1, SNAPSHOT_BALLOON = 2 };
enum snapshot_disk {
    SNAPSHOT_DISK = 0x40,
    SNAPSHOT_CDROM = 1,
    SNAPSHOT_READONLY = 2,
    SNAPSHOT_OVERLAY = 4,
    SNAPSHOT_VIRTIO = 8,
    SNAPSHOT_RAW = 0x10, /* a format that was said */
    SNAPSHOT_QCOW2 = 0x20,
    SNAPSHOT_FLOPPY = 0x80,
    SNAPSHOT_USB = SNAPSHOT_VIRTIO | SNAPSHOT_FLOPPY
};
/* Further network cards, into c, which has none. 0 or -ENOMEM. */
MUST_CHECK int snapshot_more_nets(const struct snapshot_head *h, struct vm_config *c);
/* Shared folders, likewise. */
MUST_CHECK int snapshot_shares(const struct snapshot_head *h, struct vm_config *c);
void snapshot_head_free(struct snapshot_head *h);
/* Borrows nothing. false: memory is short. */
MUST_CHECK bool snapshot_head_init(struct snapshot_head *h, const struct vm_config *cfg, const char *cpu);
/* The drives and their serial numbers, into c, which has none; the strings are the caller's to free. 0, -ENOMEM, or
 * -EINVAL: it makes no sense. */
MUST_CHECK int snapshot_disks(const struct snapshot_head *h, struct vm_config *c);
/* A string of the head, or NULL if it is empty; the caller's to free. */
char *snapshot_string(const struct byte_queue *q);

/* State that an embedder has added to a machine, as it is in the file. */
struct snapshot_blob {
    struct snapshot_blob *next;
    char name[VM_STATE_NAME_MAX + 1];
    size_t len; /* at most VM_STATE_MAX */
    u8 data[];
};
struct snapshot_blob *snapshot_blob_new(const char *name, size_t len); /* NULL: memory is short */
void snapshot_blobs_free(struct snapshot_blob *list);

/* Writes rt and its board to fd, between two runs or from a post, with the blobs. h->now_ns is set. 0 or -errno. */
MUST_CHECK int snapshot_save(int fd, struct snapshot_head *h, struct rt *rt, struct pc *pc,
                             const struct snapshot_blob *blobs, struct vm_error *err);

/* Calls save(arg, fd) for a file beside path, which takes path's name once all of it is on disk: whatever happens, path
 * is what it was, or whole. What is no regular file is written to as it is. 0 or -errno. */
MUST_CHECK int snapshot_to_file(const char *path, int (*save)(void *arg, int fd, struct vm_error *err), void *arg,
                                struct vm_error *err);

/* Reads the head. -EBADMSG: the file is not what it should be; else -errno. */
struct snapshot;
MUST_CHECK int snapshot_open(struct snapshot **out, int fd, struct vm_error *err);
void snapshot_close(struct snapshot *s);
const struct snapshot_head *snapshot_head(const struct snapshot *s);
/* The rest, into a machine that is like its head says and has not run. Guest time goes on from here. *blobs: what
 * embedders had added, the caller's to free, also after a failure. */
MUST_CHECK int snapshot_load(struct snapshot *s, struct rt *rt, struct pc *pc, struct snapshot_blob **blobs,
                             struct vm_error *err);

#endif
