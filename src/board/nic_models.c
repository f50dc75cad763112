/* Owns the names of network cards. */
#include "src/board/nics.h"

#include <string.h>

static const struct {
    const char *name, *rom; /* see nic_rom() */
    bool isa;
} models[NIC_KINDS] = {
    [NIC_VIRTIO] = { "virtio", "virtio", false }, [NIC_E1000] = { "e1000", "e1000", false },
    [NIC_PCNET] = { "pcnet", "pcnet", false },    [NIC_RTL8139] = { "rtl8139", "rtl8139", false },
    [NIC_NE2K] = { "ne2k", "ne2k_pci", false },   [NIC_NE2K_ISA] = { "ne2k-isa", NULL, true },
};

int nic_kind(const char *model)
{
    for (int i = 0; i < NIC_KINDS; i++)
        if (!strcmp(models[i].name, model)) return i;
    return -1;
}

const char *nic_model(unsigned i) { return i < NIC_KINDS ? models[i].name : NULL; }
bool nic_is_model(const char *name) { return nic_kind(name) >= 0; }
bool nic_is_isa(const char *model) { return models[nic_kind(model)].isa; }
const char *nic_rom(const char *model) { return models[nic_kind(model)].rom; }
