/* Owns the making of network cards. Enter at nic_new(). */
#include "src/board/nics.h"
#include "core/netdev.h"
#include "src/error.h"

#include <errno.h>
#include <string.h>

#define ROM_MAX (1u << 18)

struct model {
    int (*make)(void **card, const struct nic_buses *on, const struct nic_desc *d);
    void (*free)(void *card);
    struct snap_part (*part)(void *card);
};

struct nic {
    const struct model *model;
    void *card;
    char name[24]; /* in a snapshot */
    u8 *rom;
};

/* The calls of a chip on PCI, as rows of the table want them. */
#define PCI_CARD(chip, ...)                                                                   \
    static int chip##_make(void **card, const struct nic_buses *on, const struct nic_desc *d) \
    {                                                                                         \
        return chip##_new((struct chip **)card, on->bus, __VA_ARGS__ on->pci, d);             \
    }                                                                                         \
    CARD(chip)
#define CARD(chip)                                            \
    static void chip##_end(void *card) { chip##_free(card); } \
    static struct snap_part chip##_saved(void *card) { return chip##_part(card); }

PCI_CARD(virtio_net, )
PCI_CARD(e1000, on->clk, )
PCI_CARD(pcnet, on->clk, )
PCI_CARD(rtl8139, on->clk, )
PCI_CARD(ne2000, )

static int ne2000_isa_make(void **card, const struct nic_buses *on, const struct nic_desc *d)
{
    return ne2000_isa_new((struct ne2000 **)card, on->bus, on->isa[d->irq], d);
}

static const struct model models[NIC_KINDS] = {
    [NIC_VIRTIO] = { virtio_net_make, virtio_net_end, virtio_net_saved },
    [NIC_E1000] = { e1000_make, e1000_end, e1000_saved },
    [NIC_PCNET] = { pcnet_make, pcnet_end, pcnet_saved },
    [NIC_RTL8139] = { rtl8139_make, rtl8139_end, rtl8139_saved },
    [NIC_NE2K] = { ne2000_make, ne2000_end, ne2000_saved },
    [NIC_NE2K_ISA] = { ne2000_isa_make, ne2000_end, ne2000_saved },
};

/* A ROM fills its decoder, which is a power of two. */
static int rom_fill(struct nic *n, struct nic_desc *d, const struct firmware *rom)
{
    if (!rom || !rom->len) return 0;
    d->rom_size = PAGE_SIZE;
    while (d->rom_size < rom->len) d->rom_size *= 2;
    if (d->rom_size > ROM_MAX) return -E2BIG;
    n->rom = malloc(d->rom_size);
    if (!n->rom) return -ENOMEM;
    memset(n->rom, 0xff, d->rom_size);
    memcpy(n->rom, rom->data, rom->len);
    d->rom = n->rom;
    return 0;
}

int nic_new(struct nic **out, const struct nic_buses *on, unsigned at, u8 slot, const struct nic_config *cfg,
            struct vm_error *err)
{
    struct nic *n = calloc(1, sizeof *n);
    if (!n) return vm_fail(err, -ENOMEM, "net: out of memory");
    BUG_ON(!nic_is_model(cfg->model));
    n->model = &models[nic_kind(cfg->model)];
    /* The only card there was at first kept its name. */
    const char *name = strcmp(cfg->model, "virtio") ? cfg->model : "virtio-net";
    if (at) snprintf(n->name, sizeof n->name, "%s-%u", name, at);
    else snprintf(n->name, sizeof n->name, "%s", name);
    struct nic_desc d = { .slot = slot, .net = cfg->net, .name = n->name, .port = cfg->port, .irq = cfg->irq };
    memcpy(d.mac, cfg->mac, sizeof d.mac);
    int rc = rom_fill(n, &d, cfg->rom);
    if (!rc) rc = n->model->make(&n->card, on, &d);
    if (!rc) {
        *out = n;
        return 0;
    }
    nic_free(n);
    if (rc == -EBUSY && nic_is_isa(cfg->model))
        return vm_fail(err, -EINVAL, "net: model=%s: port 0x%x belongs to another device", cfg->model, cfg->port);
    return vm_fail(err, rc, "net: model=%s: %s", cfg->model, strerror(-rc));
}

void nic_free(struct nic *n)
{
    if (!n) return;
    if (n->card) n->model->free(n->card);
    free(n->rom);
    free(n);
}

struct snap_part nic_part(struct nic *n) { return n->model->part(n->card); }
