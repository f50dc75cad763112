/* The trace stream (docs/instruments.md): what `--trace-stream` and vm_stream() write, for readers in other processes.
 * This header needs no library.
 *
 * A file, or shared memory that comes over a Unix socket, with the header at its beginning and a ring of records
 * header_bytes behind that. The machine adds records at `head`, the reader takes them at `tail`; both are bytes since
 * the beginning, so a record is at the ring's offset `% ring_bytes`. The reader loads `head` with acquire semantics,
 * and stores `tail` with release semantics when it is done with what is before. It polls: nothing wakes it up.
 *
 * Over a socket: the reader listens, the machine connects before its guest runs, and sends one byte with the memory's
 * descriptor (SCM_RIGHTS). It closes the connection when it ends. */
#ifndef TRANSVISOR_STREAM_H
#define TRANSVISOR_STREAM_H
#include <stdint.h>

#define VM_STREAM_MAGIC "tvstream"
#define VM_STREAM_VERSION 1u

enum vm_stream_what { VM_STREAM_BLOCKS = 1, VM_STREAM_MEMORY = 2, VM_STREAM_EVENTS = 4 }; /* and sets of them */

/* Little endian, as the host is. */
struct vm_stream_header {
    char magic[8]; /* without a final zero */
    uint32_t version, header_bytes, record_bytes;
    uint32_t what; /* a set of enum vm_stream_what */
    uint64_t ring_bytes;
    uint64_t reserved[4];
    /* The machine's; 64 bytes in. */
    uint64_t head;
    uint64_t lost;  /* records that there was no room for */
    uint32_t ended; /* 1: head and lost are final */
    uint32_t reserved2[11];
    /* The reader's; 128 bytes in. */
    uint64_t tail;
    uint64_t reserved3[7];
};

/* What a record is; what its address and value are. All addresses are linear but where something else is said. */
enum vm_stream_kind {
    VM_STREAM_BLOCK = 1, /* code runs from address on: instructions << 16 | bytes; bits 32 to 33: privilege level */
    VM_STREAM_LEFT = 2,  /* that did not run to its end: the first instruction that was not done; how many were not */
    VM_STREAM_READ = 3,  /* data in memory; what they are */
    VM_STREAM_WRITE = 4, /* likewise */
    VM_STREAM_LOST = 5,  /* 0; how many records are missing here */
    VM_STREAM_IN = 6,    /* a port; what has been read */
    VM_STREAM_OUT = 7,   /* a port; what is about to be written */
    VM_STREAM_MMIO_READ = 8,  /* a device's memory, physical (32 bits of it); what has been read */
    VM_STREAM_MMIO_WRITE = 9, /* likewise; what is about to be written */
    VM_STREAM_EXCEPTION = 10, /* CR2 of a page fault, else the instruction's; error code << 32 | vector */
    VM_STREAM_INTERRUPT = 11, /* the next instruction's; vector */
    VM_STREAM_CR3 = 12,       /* the new value, twice: another address space from here on */
    VM_STREAM_TASK = 13,      /* the new TSS's selector, twice */
};

struct vm_stream_record {
    uint8_t kind; /* enum vm_stream_kind */
    uint8_t size; /* of an access: 1, 2, 4 or 8 bytes; what is longer is told of in several records */
    uint16_t at;  /* low half of the linear address of the instruction; of LOST 0 */
    uint32_t address;
    uint64_t value;
};

#endif
