/* Owns a machine's networks. Enter at vm_nets_open(). */
#include "src/vm_net.h"
#include "src/error.h"
#include "src/net.h"
#include "src/vm_priv.h"

#include <errno.h>
#include <string.h>

struct vm_nets {
    struct net *net[VM_NETS_MAX]; /* NULL: there is no such card */
    struct firmware rom[VM_NETS_MAX];
};

static bool boot_names(const char *boot, const char *what)
{
    const size_t n = strlen(what);
    for (const char *word = boot; word; word = strchr(word, ','), word += !!word)
        if (!strncmp(word, what, n) && (!word[n] || word[n] == ',')) return true;
    return false;
}

/* A card's boot ROM is there if the network is to be booted from, or if there is nothing else. */
static int rom_open(struct vm_nets *n, unsigned i, const struct vm *vm, const struct wait_end *end,
                    struct vm_error *err)
{
    const char *rom = nic_rom(net_card(n->net[i])->model);
    bool asked = boot_names(vm->cfg.boot, "network"), drives = vm->cfg.disk[0].file;
    if (!vm->firmware.data || !rom || (drives && !asked)) return 0;
    int rc = firmware_open_nic(&n->rom[i], rom, end, err);
    return rc == -ENOENT && !asked ? 0 : rc;
}

int vm_nets_open(struct vm_nets **out, struct vm *vm, const struct netdev_host *host, const struct wait_end *end,
                 struct vm_error *err)
{
    struct vm_nets *n = calloc(1, sizeof *n);
    if (!n) return vm_fail(err, -ENOMEM, "net: out of memory");
    *out = n;
    for (unsigned i = 0; i < VM_NETS_MAX; i++) {
        const char *spec = i ? vm->cfg.more_nets[i - 1] : vm->cfg.net;
        int rc = net_open(&n->net[i], spec, i ? NULL : vm->cfg.net_dump, vm->cfg.inspect ? NULL : host, end, err);
        if (rc) return rc;
        if (!n->net[i]) continue;
        net_number(n->net[i], i);
        rc = rom_open(n, i, vm, end, err);
        if (rc) return rc;
    }
    return 0;
}

void vm_nets_close(struct vm_nets *n)
{
    if (!n) return;
    for (unsigned i = 0; i < VM_NETS_MAX; i++) {
        net_close(n->net[i]);
        firmware_close(&n->rom[i]);
    }
    free(n);
}

void vm_nets_deliver(struct vm_nets *n)
{
    for (unsigned i = 0; i < VM_NETS_MAX; i++) net_deliver(n->net[i]);
}

bool vm_nets_card(struct vm_nets *n, unsigned i, struct nic_config *card)
{
    const u8 *mac;
    if (!n->net[i]) return false;
    const struct net_card *c = net_card(n->net[i]);
    *card = (struct nic_config){
        .net = net_dev(n->net[i], &mac), .model = c->model, .port = c->port, .irq = c->irq, .rom = &n->rom[i]
    };
    memcpy(card->mac, mac, sizeof card->mac);
    return true;
}

u64 vm_nets_dropped(const struct vm_nets *n)
{
    u64 sum = 0;
    for (unsigned i = 0; i < VM_NETS_MAX; i++) sum += net_dropped(n->net[i]);
    return sum;
}

bool vm_nets_trouble(struct vm_nets *n, struct vm_error *why)
{
    for (unsigned i = 0; i < VM_NETS_MAX; i++)
        if (net_trouble(n->net[i], why)) return true;
    return false;
}
