/* The one page that a direct-execution process has above 4 GiB: the stub's code, then the list of mappings to make.
 * Shared between dx_stub_x64.S and dx_process.c. */
#ifndef RUNTIME_DX_LAYOUT_H
#define RUNTIME_DX_LAYOUT_H

#define DX_PAGE 0x6a0000000000  /* where it is in the process: no 32-bit code can name it */
#define DX_IMAGE 0x6a0000100000 /* where the image that brings it there is loaded, and gone soon after */
#define DX_NOTE 0x6a0000101000  /* where the page can be written to, until its writer has split in two */
#define DX_OPS 1536             /* offset in the page: u32 count, u32 0, then the operations */
#define DX_OP_BYTES 48
#define DX_OPS_MAX 52
#define DX_USER 4084   /* offset in the page: u32, the user and group that the process becomes; 0: stays what it is */
#define DX_MAPPER 4088 /* offset in the page: u32, the mapper's pid, from the moment that there is a mapper */

/* Descriptors that the process is born with; only the mapper keeps them. */
#define DX_FD_RAM 3
#define DX_FD_PAGE 4
#define DX_FD_SOCKET 5

/* What the stub was at when it ended: its exit status, if something was refused. */
#define DX_STEP_MMAP 1
#define DX_STEP_CAPSET 2
#define DX_STEP_PRCTL 3
#define DX_STEP_CLONE 4
#define DX_STEP_MUNMAP 5
#define DX_STEP_SIGPROCMASK 6
#define DX_STEP_SECCOMP 7
#define DX_STEP_MONITOR_GONE 8

#endif
