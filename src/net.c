/* Owns the words that describe a machine's network. Enter at net_open(). */
#include "src/net.h"
#include "src/error.h"

#include <errno.h>
#include <string.h>

struct net {
    struct netdev_link *link; /* NULL: on no wire */
    struct netdev none;
    struct pcap *dump;
    u8 mac[6];
    struct netdev_user_config user;
    char words[]; /* the description, taken apart */
};

/* ---- what there is: the word that names it, up to where its argument begins ---- */

static int open_user(struct net *n, const char *arg UNUSED, const struct netdev_host *host, struct vm_error *err)
{
    return netdev_user_open(&n->link, &n->user, host, n->dump, err);
}
static int open_socket(struct net *n, const char *path, const struct netdev_host *host, struct vm_error *err)
{
    return netdev_socket_open(&n->link, path, host, n->dump, err);
}
static int open_tap(struct net *n, const char *interface, const struct netdev_host *host, struct vm_error *err)
{
    return netdev_tap_open(&n->link, interface, host, n->dump, err);
}
struct kind {
    const char *name;
    int (*open)(struct net *n, const char *arg, const struct netdev_host *host, struct vm_error *err);
    bool arg;
};
static const struct kind kinds[] = {
    { "user", open_user, false },
    { "socket:unix:", open_socket, true },
    { "tap:", open_tap, true },
};

static const struct kind *kind_of(const char *word, const char **arg)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        size_t n = strlen(kinds[i].name);
        if (kinds[i].arg ? strncmp(word, kinds[i].name, n) : strcmp(word, kinds[i].name)) continue;
        *arg = word + n;
        return &kinds[i];
    }
    return NULL;
}

/* ---- the other words ---- */

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

static int word(struct net *n, const struct kind *kind, const char *w, struct vm_error *err)
{
    if (kind->open != open_user && (!strncmp(w, "hostfwd=", 8) || !strncmp(w, "restrict=", 9)))
        return vm_fail(err, -EINVAL, "net: '%s' is for user networks", w);
    if (!strncmp(w, "hostfwd=", 8)) {
        if (n->user.forwards == NETDEV_FORWARDS_MAX)
            return vm_fail(err, -EINVAL, "net: there is room for %u hostfwd", NETDEV_FORWARDS_MAX);
        n->user.forward[n->user.forwards++] = w + 8;
        return 0;
    }
    if (!strcmp(w, "restrict=on") || !strcmp(w, "restrict=off")) {
        n->user.restricted = !strcmp(w, "restrict=on");
        return 0;
    }
    if (!strncmp(w, "mac=", 4))
        return parse_mac(w + 4, n->mac) ? 0 : vm_fail(err, -EINVAL, "net: '%s' is not a card's address", w);
    if (!strcmp(w, "model=virtio")) return 0;
    if (!strncmp(w, "model=", 6)) return vm_fail(err, -EINVAL, "net: %s is not supported yet; model=virtio is", w);
    return vm_fail(err, -EINVAL, "net: '%s' is none of model=virtio, mac=, hostfwd=, restrict=on", w);
}

/* ---- life ---- */

int net_open(struct net **out, const char *spec, const char *dump, const struct netdev_host *host,
             const struct wait_end *end, struct vm_error *err)
{
    static const struct netdev_ops none_ops = { none_send, none_ready };
    static const u8 mac[6] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 };
    *out = NULL;
    if (!spec || !strcmp(spec, "none"))
        return dump ? vm_fail(err, -EINVAL, "net_dump: there is no network to record") : 0;
    struct net *n = calloc(1, sizeof *n + strlen(spec) + 1);
    if (!n) return vm_fail(err, -ENOMEM, "net: out of memory");
    strcpy(n->words, spec);
    memcpy(n->mac, mac, sizeof mac);
    n->none.ops = &none_ops;
    char *rest = n->words, *name = strsep(&rest, ",");
    const char *arg = NULL;
    const struct kind *kind = kind_of(name, &arg);
    int rc = kind ? 0
                  : vm_fail(err, -EINVAL,
                            "net: there is no '%s'; there are user, socket:unix:PATH, tap:INTERFACE, none", name);
    while (!rc && rest) rc = word(n, kind, strsep(&rest, ","), err);
    if (!rc && host && dump) rc = pcap_open(&n->dump, dump, end, err);
    if (!rc && host) rc = kind->open(n, arg, host, err);
    if (rc) net_close(n);
    else *out = n;
    return rc;
}

void net_close(struct net *n)
{
    if (!n) return;
    if (n->link) n->link->close(n->link);
    pcap_close(n->dump);
    free(n);
}

void net_deliver(struct net *n)
{
    if (n && n->link) netdev_link_deliver(n->link);
}

struct netdev *net_dev(const struct net *n, const u8 **mac)
{
    if (!n) return NULL;
    *mac = n->mac;
    return n->link ? &n->link->dev : (struct netdev *)&n->none;
}

u64 net_dropped(const struct net *n) { return n && n->link ? netdev_link_lost(n->link) : 0; }

bool net_trouble(struct net *n, struct vm_error *why)
{
    int rc = n ? pcap_failure(n->dump) : 0;
    if (rc) vm_fail(why, rc, "net_dump: it has ended early: %s", strerror(-rc));
    return rc;
}
