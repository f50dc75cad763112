/* MSI-X of a PCI function: interrupts as memory writes, from a table that the guest fills. */
#ifndef SRC_DEV_PCI_MSIX_H
#define SRC_DEV_PCI_MSIX_H
#include "core/snap.h"
#include "src/dev/pc_devices.h"

#define MSIX_MAX 4u      /* vectors */
#define MSIX_BAR 0x1000u /* bytes of the memory BAR that the table and the pending bits are in, and nothing else */
#define MSIX_CAP 12u     /* bytes in configuration space */
#define MSIX_NONE 0xffffu

struct msix {
    struct pci *pci;
    struct pci_fn *fn;
    u8 cap; /* where it is in configuration space */
    u16 n;  /* vectors */
    u32 table[4 * MSIX_MAX];
    u32 pending; /* a bit for each */
};
/* For the owner's table of fields. */
#define MSIX_FIELDS(T, m) SNAP_ARRAY(T, m.table), SNAP(T, m.pending, .max = (1u << MSIX_MAX) - 1)

/* Puts the capability at cap, with next as the one after it, and the table into that BAR. */
void msix_init(struct msix *x, struct pci *p, struct pci_fn *fn, u8 cap, u8 next, u8 bar, u16 n);
void msix_reset(struct msix *x);
bool msix_enabled(const struct msix *x);
u32 msix_read(const struct msix *x, u32 off, unsigned size);
void msix_write(struct msix *x, u32 off, unsigned size, u32 val);
void msix_send(struct msix *x, u16 vector); /* MSIX_NONE and what is not in the table: nothing */
void msix_update(struct msix *x);           /* configuration space has been written: what was masked may be sent */

#endif
