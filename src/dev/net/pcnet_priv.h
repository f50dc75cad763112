/* What the files of the Am79C973 share. */
#ifndef SRC_DEV_NET_PCNET_PRIV_H
#define SRC_DEV_NET_PCNET_PRIV_H
#include "src/dev/net/eeprom93.h"
#include "src/dev/net/ether.h"
#include "src/dev/pc_devices.h"

/* clang-format off */
enum {
    CSR0_ERR = 0x8000, CSR0_BABL = 0x4000, CSR0_CERR = 0x2000, CSR0_MISS = 0x1000, CSR0_MERR = 0x800, CSR0_RINT = 0x400,
    CSR0_TINT = 0x200, CSR0_IDON = 0x100, CSR0_INTR = 0x80, CSR0_IENA = 0x40, CSR0_RXON = 0x20, CSR0_TXON = 0x10,
    CSR0_TDMD = 8, CSR0_STOP = 4, CSR0_STRT = 2, CSR0_INIT = 1,
};
enum { CSR4_STRIP = 0x400, CSR4_MFCO = 0x200, CSR4_UINTCMD = 0x80, CSR4_UINT = 0x40, CSR4_RCVCCO = 0x20,
       CSR4_TXSTRT = 8, CSR4_JAB = 2 };
/* Flags of CSR5 and CSR7 have their enable below them. */
enum { CSR5_LTINTEN = 0x4000, CSR5_ENABLES = 0x0548, CSR5_SPND = 1 };
enum { CSR7_RDMD = 0x2000, CSR7_STINT = 0x800, CSR7_STINTE = 0x400, CSR7_ENABLES = 0x0555 };
enum { MODE_PROM = 0x8000, MODE_NO_BROADCAST = 0x4000, MODE_NO_PHYSICAL = 0x2000, MODE_NO_FCS = 8, MODE_LOOP = 4,
       MODE_DTX = 2, MODE_DRX = 1 };
/* clang-format on */
#define PCNET_CSRS 128u
#define PCNET_BCRS 50u
#define PCNET_APROM 16u
#define PCNET_PHY_REGS 32u

struct pcnet {
    struct bus *bus;
    struct clock *clk;
    struct pci_fn *fn;
    struct irq_line intx;
    struct netdev *net;
    const char *name;
    u16 csr[PCNET_CSRS], bcr[PCNET_BCRS];
    u8 aprom[PCNET_APROM];
    u16 phy[PCNET_PHY_REGS];
    u16 rap;
    bool rx_waits;       /* a frame is there and no descriptor: */
    struct timer poll;   /* the ring is looked at again */
    struct timer stimer; /* CSR7.STINT */
    struct eeprom93 eeprom;
};
extern const struct snap_table pcnet_table;

void pcnet_interrupt(struct pcnet *p); /* after flags or masks have changed */

/* ---- pcnet_ring.c ---- */

void pcnet_init_block(struct pcnet *p);
u16 pcnet_ring_lengths(const struct pcnet *p); /* as CSR6 has them */
void pcnet_transmit(struct pcnet *p);          /* what the driver has given; sets flags only */
bool pcnet_receive(void *fe, const u8 *frame, size_t len);
/* The driver has done something: there may be descriptors again. anyway: ask even if none was missing. */
void pcnet_poll(struct pcnet *p, bool anyway);
void pcnet_on_poll(void *arg);

#endif
