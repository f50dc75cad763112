/* Owns the table and the pending bits.
 *   I1  A vector is pending only while it, or all, are masked.                                       [msix_update]
 * Enter at msix_send(). PCI 3.0, 6.8.2. */
#include "src/dev/pci/msix.h"

#include <string.h>

enum { CAP_ID = 0x11, CONTROL = 2, TABLE = 4, PBA = 8 };
enum { CONTROL_HIGH_ENABLE = 0x80, CONTROL_HIGH_MASK = 0x40, ENTRY_MASKED = 1 };
enum { ENTRY_ADDRESS = 0, ENTRY_ADDRESS_HIGH = 1, ENTRY_DATA = 2, ENTRY_CONTROL = 3, PBA_AT = 0x800 };

void msix_init(struct msix *x, struct pci *p, struct pci_fn *fn, u8 cap, u8 next, u8 bar, u16 n)
{
    u8 *config = pci_fn_config(fn) + cap;

    BUG_ON(!n || n > MSIX_MAX);
    x->pci = p;
    x->fn = fn;
    x->cap = cap;
    x->n = n;
    config[0] = CAP_ID;
    config[1] = next;
    config[CONTROL] = (u8)(n - 1);
    config[TABLE] = bar;
    config[PBA] = bar;
    config[PBA + 1] = PBA_AT >> 8;
    pci_fn_writable(fn)[cap + CONTROL + 1] = CONTROL_HIGH_ENABLE | CONTROL_HIGH_MASK;
    msix_reset(x);
}

void msix_reset(struct msix *x)
{
    memset(x->table, 0, sizeof x->table);
    for (unsigned i = 0; i < MSIX_MAX; i++) x->table[4 * i + ENTRY_CONTROL] = ENTRY_MASKED;
    x->pending = 0;
}

static u8 control(const struct msix *x) { return pci_fn_config(x->fn)[x->cap + CONTROL + 1]; }

bool msix_enabled(const struct msix *x) { return control(x) & CONTROL_HIGH_ENABLE; }

static bool masked(const struct msix *x, unsigned i)
{
    return (control(x) & CONTROL_HIGH_MASK) || (x->table[4 * i + ENTRY_CONTROL] & ENTRY_MASKED);
}

void msix_send(struct msix *x, u16 vector)
{
    if (vector >= x->n || !msix_enabled(x) || !pci_fn_bus_master(x->fn)) return;
    if (masked(x, vector)) x->pending |= 1u << vector;
    else if (!x->table[4 * vector + ENTRY_ADDRESS_HIGH])
        pci_msi(x->pci, x->table[4 * vector + ENTRY_ADDRESS], x->table[4 * vector + ENTRY_DATA]);
}

void msix_update(struct msix *x)
{
    if (!msix_enabled(x)) return;
    for (u16 i = 0; i < x->n; i++) {
        if (!(x->pending >> i & 1) || masked(x, i)) continue;
        x->pending &= ~(1u << i);
        msix_send(x, i);
    }
}

u32 msix_read(const struct msix *x, u32 off, unsigned size)
{
    u32 v = off / 16 < x->n ? x->table[off / 4] : off / 4 == PBA_AT / 4 ? x->pending : 0;

    v >>= off % 4 * 8;
    return size == 4 ? v : v & ((1u << size * 8) - 1);
}

/* 6.8.2: software writes whole dwords. */
void msix_write(struct msix *x, u32 off, unsigned size, u32 val)
{
    if (size != 4 || off % 4 || off / 16 >= x->n) return;
    if (off / 4 % 4 == ENTRY_ADDRESS) val &= ~3u;
    if (off / 4 % 4 == ENTRY_CONTROL) val &= ENTRY_MASKED;
    x->table[off / 4] = val;
    msix_update(x);
}
