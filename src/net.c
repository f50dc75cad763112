/* Owns the words that describe a machine's network. Enter at net_open(). */
#include "src/net.h"
#include "src/error.h"

#include <errno.h>
#include <string.h>

struct net {
    struct netdev *user; /* NULL: on no wire */
    struct netdev none;
    u8 mac[6];
    struct netdev_user_config cfg;
    char words[]; /* the description, taken apart */
};

static void none_send(void *be UNUSED, const u8 *frame UNUSED, size_t n UNUSED) {}
static void none_ready(void *be UNUSED) {}

/* A card's own address: not a group's, and not all zeroes. */
static bool parse_mac(const char *text, u8 mac[6])
{
    unsigned v[6];
    int end = 0;
    if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &end) != 6 || text[end])
        return false;
    for (unsigned i = 0; i < 6; i++) mac[i] = (u8)v[i];
    return !(mac[0] & 1) && (v[0] | v[1] | v[2] | v[3] | v[4] | v[5]);
}

static int word(struct net *n, const char *w, struct vm_error *err)
{
    if (!strncmp(w, "hostfwd=", 8)) {
        if (n->cfg.forwards == NETDEV_FORWARDS_MAX)
            return vm_fail(err, -EINVAL, "net: there is room for %u hostfwd", NETDEV_FORWARDS_MAX);
        n->cfg.forward[n->cfg.forwards++] = w + 8;
        return 0;
    }
    if (!strcmp(w, "restrict=on") || !strcmp(w, "restrict=off")) {
        n->cfg.restricted = !strcmp(w, "restrict=on");
        return 0;
    }
    if (!strncmp(w, "mac=", 4))
        return parse_mac(w + 4, n->mac) ? 0 : vm_fail(err, -EINVAL, "net: '%s' is not a card's address", w);
    if (!strcmp(w, "model=virtio")) return 0;
    if (!strncmp(w, "model=", 6)) return vm_fail(err, -EINVAL, "net: %s is not supported yet; model=virtio is", w);
    return vm_fail(err, -EINVAL, "net: '%s' is none of model=virtio, mac=, hostfwd=, restrict=on", w);
}

int net_open(struct net **out, const char *spec, const struct netdev_host *host, struct vm_error *err)
{
    static const struct netdev_ops none_ops = { none_send, none_ready };
    static const u8 mac[6] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 };
    *out = NULL;
    if (!spec || !strcmp(spec, "none")) return 0;
    struct net *n = calloc(1, sizeof *n + strlen(spec) + 1);
    if (!n) return vm_fail(err, -ENOMEM, "net: out of memory");
    strcpy(n->words, spec);
    memcpy(n->mac, mac, sizeof mac);
    n->none.ops = &none_ops;
    char *rest = n->words, *name = strsep(&rest, ",");
    int rc = strcmp(name, "user") ? vm_fail(err, -EINVAL, "net: there is no '%s'; user and none are there", name) : 0;
    while (!rc && rest) rc = word(n, strsep(&rest, ","), err);
    if (!rc && host) rc = netdev_user_open(&n->user, &n->cfg, host, err);
    if (rc) net_close(n);
    else *out = n;
    return rc;
}

void net_close(struct net *n)
{
    if (!n) return;
    netdev_user_close(n->user);
    free(n);
}

void net_deliver(struct net *n)
{
    if (n && n->user) netdev_user_deliver(n->user);
}

struct netdev *net_dev(const struct net *n, const u8 **mac)
{
    if (!n) return NULL;
    *mac = n->mac;
    return n->user ? n->user : (struct netdev *)&n->none;
}

u64 net_dropped(const struct net *n) { return n && n->user ? netdev_user_dropped(n->user) : 0; }
