/* Network cards by name, whatever chip is on them. */
#ifndef SRC_BOARD_NICS_H
#define SRC_BOARD_NICS_H
#include "src/board/firmware.h"

#define NIC_ISA_IRQS 0x9eb8u /* what a card on ISA may have: 3, 4, 5, 7, 9, 10, 11, 12, 15 */

struct nic;
struct nic_config {
    struct netdev *net; /* borrowed; NULL: there is no card */
    const char *model;  /* one of nic_model(); borrowed */
    u8 mac[6];
    u16 port; /* of a card on ISA: its first port and interrupt */
    u8 irq;
    const struct firmware *rom; /* its boot ROM; borrowed as long as the card; empty or NULL: none */
};
/* What is behind the board's slots. */
struct nic_buses {
    struct bus *bus;
    struct clock *clk;
    struct pci *pci;
    const struct irq_line *isa; /* 16; those that a card may have */
};

/* ---- nic_models.c: their names ---- */

enum nic_kind { NIC_VIRTIO, NIC_E1000, NIC_PCNET, NIC_RTL8139, NIC_NE2K, NIC_NE2K_ISA, NIC_KINDS };
int nic_kind(const char *model);   /* enum nic_kind; -1: there is no such */
const char *nic_model(unsigned i); /* NULL: there are no more. The first is what a card is if nothing is said */
bool nic_is_model(const char *name);
bool nic_is_isa(const char *model);
/* The word for the model in the name of its boot ROM, as ipxe-qemu has it; NULL: there is none. */
const char *nic_rom(const char *model);

/* ---- nics.c: the cards ---- */

/* Makes card number `at` of a board, at 00:slot.0 if it is one on PCI. 0 or -errno, with *err set. */
MUST_CHECK int nic_new(struct nic **out, const struct nic_buses *on, unsigned at, u8 slot, const struct nic_config *cfg,
                       struct vm_error *err);
void nic_free(struct nic *n); /* copes with NULL */
struct snap_part nic_part(struct nic *n);

#endif
