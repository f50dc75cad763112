/* Owns the words that describe a machine's network. Enter at net_open(). */
#include "src/net.h"
#include "src/board/nics.h"
#include "src/error.h"
#include "src/parse.h"

#include <errno.h>
#include <string.h>

struct net {
    struct netdev_link *link; /* NULL: on no wire */
    struct netdev none;
    struct pcap *dump;
    u8 mac[6];
    bool has_mac, has_place; /* said */
    struct net_card card;
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

/* The value of KEY=VALUE, if that is the key. */
static const char *value_of(const char *w, const char *key)
{
    size_t n = strlen(key);
    return !strncmp(w, key, n) && w[n] == '=' ? w + n + 1 : NULL;
}

static int model_word(struct net *n, const char *model, struct vm_error *err)
{
    char list[128] = "";
    if (nic_is_model(model)) {
        n->card.model = model;
        return 0;
    }
    for (unsigned i = 0; nic_model(i); i++)
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", nic_model(i));
    return vm_fail(err, -EINVAL, "net: there is no model=%s; there are %s", model, list);
}

/* Where a card on ISA is: its jumpers. */
static int place_word(struct net *n, const char *port, const char *irq, struct vm_error *err)
{
    u64 v;
    n->has_place = true;
    if (port) {
        if (parse_u64(port, 0x3e0, &v) || v < 0x200 || v % 0x20)
            return vm_fail(err, -EINVAL, "net: port=%s is not one of 0x200, 0x220 .. 0x3e0", port);
        n->card.port = (u16)v;
        return 0;
    }
    if (parse_u64(irq, 15, &v) || !(1u << v & NIC_ISA_IRQS))
        return vm_fail(err, -EINVAL, "net: irq=%s is none of 3, 4, 5, 7, 9, 10, 11, 12, 15", irq);
    n->card.irq = (u8)v;
    return 0;
}

static int word(struct net *n, const struct kind *kind, const char *w, struct vm_error *err)
{
    static const char *const of_user[] = { "hostfwd", "restrict", "tftp", "bootfile" };
    for (size_t i = 0; i < ARRAY_LEN(of_user); i++)
        if (kind->open != open_user && value_of(w, of_user[i]))
            return vm_fail(err, -EINVAL, "net: '%s' is for user networks", w);
    if (value_of(w, "tftp")) {
        n->user.tftp = value_of(w, "tftp");
        return 0;
    }
    if (value_of(w, "bootfile")) {
        n->user.bootfile = value_of(w, "bootfile");
        return 0;
    }
    if (value_of(w, "port") || value_of(w, "irq")) return place_word(n, value_of(w, "port"), value_of(w, "irq"), err);
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
    n->has_mac |= !strncmp(w, "mac=", 4);
    if (!strncmp(w, "mac=", 4))
        return parse_mac(w + 4, n->mac) ? 0 : vm_fail(err, -EINVAL, "net: '%s' is not a card's address", w);
    if (value_of(w, "model")) return model_word(n, value_of(w, "model"), err);
    return vm_fail(err, -EINVAL, "net: '%s' is none of model=, mac=, hostfwd=, restrict=on, tftp=, bootfile=", w);
}

static int words_check(const struct net *n, struct vm_error *err)
{
    if (n->has_place && !nic_is_isa(n->card.model))
        return vm_fail(err, -EINVAL, "net: port= and irq= are for cards on ISA; a card on PCI is told by firmware");
    return 0;
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
    n->card = (struct net_card){ .model = nic_model(0), .port = 0x300, .irq = 3 };
    n->none.ops = &none_ops;
    char *rest = n->words, *name = strsep(&rest, ",");
    const char *arg = NULL;
    const struct kind *kind = kind_of(name, &arg);
    int rc = kind ? 0
                  : vm_fail(err, -EINVAL,
                            "net: there is no '%s'; there are user, socket:unix:PATH, tap:INTERFACE, none", name);
    while (!rc && rest) rc = word(n, kind, strsep(&rest, ","), err);
    if (!rc) rc = words_check(n, err);
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

const struct net_card *net_card(const struct net *n) { return &n->card; }

void net_number(struct net *n, unsigned at)
{
    if (!n->has_mac) n->mac[5] = (u8)(n->mac[5] + at);
}

u64 net_dropped(const struct net *n) { return n && n->link ? netdev_link_lost(n->link) : 0; }

bool net_trouble(struct net *n, struct vm_error *why)
{
    int rc = n ? pcap_failure(n->dump) : 0;
    if (rc) vm_fail(why, rc, "net_dump: it has ended early: %s", strerror(-rc));
    return rc;
}
