/* Owns the slots: which runs of guest physical memory are which host memory, as the bus has it. The rest of the address
 * space is devices', and comes to us access by access. Writes that KVM's guest makes are noticed afterwards, in the
 * pages of those slots that a dirty log is about; code is not looked for, since nothing of ours keeps any while KVM
 * runs the guest. */
#define _GNU_SOURCE
#include "runtime/kvm/kvm_cpu.h"
#include "runtime/mem/dirty.h"
#include "runtime/mem/physmem.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

static void on_remapped(void *arg) { ((struct kvm_cpu *)arg)->remapped = true; }

/* A page that becomes clean may be of a log that is new. One that becomes read-only is another kind of slot; that it is
 * not any more is found out at the next write to it (kvm_memory_written). */
static void on_protect(void *arg, paddr page)
{
    struct kvm_cpu *k = arg;
    u8 *flags = bus_page_flags(k->c->bus, page);
    u64 want = !flags ? 0 : *flags & PG_ROM ? KVM_MEM_READONLY : *flags & PG_CLEAN ? KVM_MEM_LOG_DIRTY_PAGES : 0;
    for (unsigned i = 0; i < KVM_SLOTS && want; i++)
        if (page - k->slot[i].pa < k->slot[i].len && k->slot[i].flags != want) k->remapped = true;
}

void kvm_memory_written(struct kvm_cpu *k, paddr pa)
{
    const u8 *flags = bus_page_flags(k->c->bus, pa);
    if (flags && !(*flags & PG_ROM)) k->remapped = true;
}

void kvm_memory_listen(struct kvm_cpu *k)
{
    k->listener = (struct coherence_listener){
        .rank = COHERENCE_WINDOWS, .arg = k, .remapped = on_remapped, .protect = on_protect
    };
    coherence_listen(bus_coherence(k->c->bus), &k->listener);
}

void kvm_memory_unlisten(struct kvm_cpu *k)
{
    if (k->listener.arg) coherence_unlisten(bus_coherence(k->c->bus), &k->listener);
    k->listener.arg = NULL;
    for (unsigned i = 0; i < KVM_SLOTS; i++)
        if (k->slot[i].copy) munmap(k->slot[i].copy, k->slot[i].len);
}

static int slot_tell(struct kvm_cpu *k, unsigned i, u64 len)
{
    const struct kvm_slot *s = &k->slot[i];
    struct kvm_userspace_memory_region r = { .slot = i,
                                             .flags = len ? (u32)k->slot[i].flags : 0,
                                             .guest_phys_addr = k->slot[i].pa,
                                             .memory_size = len,
                                             .userspace_addr = (u64)(s->copy ? s->copy : s->host) };
    return ioctl(k->vm, KVM_SET_USER_MEMORY_REGION, &r) < 0 ? -errno : 0;
}

static bool slot_same(const struct kvm_slot *a, const struct kvm_slot *b)
{
    return a->pa == b->pa && a->len == b->len && a->host == b->host && a->flags == b->flags;
}

/* The slots that there should be, at most KVM_SLOTS. */
static unsigned wanted_slots(struct bus *b, struct kvm_slot *out)
{
    struct bus_extent e;
    unsigned n = 0;
    for (paddr pa = 0; n < KVM_SLOTS && bus_extent(b, pa, &e); pa = e.pa + e.len) {
        u64 flags = e.rom                                                          ? KVM_MEM_READONLY
                    : dirty_logged(bus_dirty_logs(b), e.page, e.len >> PAGE_SHIFT) ? KVM_MEM_LOG_DIRTY_PAGES
                                                                                   : 0;
        out[n++] = (struct kvm_slot){ .pa = e.pa, .len = e.len, .flags = flags, .host = e.host };
    }
    return n;
}

static void slot_free(struct kvm_slot *s)
{
    if (s->copy) munmap(s->copy, s->len);
    *s = (struct kvm_slot){ .len = 0 };
}

static int slot_remove(struct kvm_cpu *k, unsigned i)
{
    int rc = slot_tell(k, i, 0);
    slot_free(&k->slot[i]);
    return rc;
}

/* KVM maps whole pages of the host's; what is in a ROM stays what it is while it is mapped. */
static int slot_align(struct kvm_slot *s)
{
    if (!((u64)s->host % PAGE_SIZE)) return 0;
    void *p = mmap(NULL, s->len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return -errno;
    memcpy(p, s->host, s->len);
    s->copy = p;
    return 0;
}

static int slot_add(struct kvm_cpu *k, const struct kvm_slot *s)
{
    unsigned i = 0;
    while (i < KVM_SLOTS && k->slot[i].len) i++;
    if (i == KVM_SLOTS) return -ENOSPC;
    k->slot[i] = *s;
    int rc = slot_align(&k->slot[i]);
    if (!rc) rc = slot_tell(k, i, s->len);
    if (rc) slot_free(&k->slot[i]);
    return rc;
}

/* Old ones go before new ones come: they must not overlap. */
int kvm_memory_update(struct kvm_cpu *k)
{
    struct kvm_slot want[KVM_SLOTS];
    bool there[KVM_SLOTS] = { false };
    int rc = 0;
    if (!k->remapped) return 0;
    if ((rc = kvm_memory_dirty(k))) return rc; /* what the old ones know is lost with them */
    unsigned n = wanted_slots(k->c->bus, want);
    for (unsigned i = 0; i < KVM_SLOTS && !rc; i++) {
        unsigned w = 0;
        if (!k->slot[i].len) continue;
        while (w < n && !slot_same(&k->slot[i], &want[w])) w++;
        if (w < n) there[w] = true;
        else rc = slot_remove(k, i);
    }
    for (unsigned w = 0; w < n && !rc; w++)
        if (!there[w]) rc = slot_add(k, &want[w]);
    k->remapped = rc != 0;
    return rc;
}

static int slot_dirty(struct kvm_cpu *k, unsigned i)
{
    struct bus *b = k->c->bus;
    u64 pages = k->slot[i].len >> PAGE_SHIFT;
    struct kvm_dirty_log log = { .slot = i, .dirty_bitmap = k->dirty };
    if (ioctl(k->vm, KVM_GET_DIRTY_LOG, &log) < 0) return -errno;
    for (u64 w = 0; w < (pages + 63) / 64; w++)
        for (u64 left = k->dirty[w]; left; left &= left - 1) {
            u64 page = w * 64 + (u64)__builtin_ctzll(left);
            bus_mark_dirty(b, k->slot[i].pa + (page << PAGE_SHIFT));
        }
    return 0;
}

int kvm_memory_dirty(struct kvm_cpu *k)
{
    int rc = 0;
    for (unsigned i = 0; i < KVM_SLOTS && !rc; i++) {
        if (!k->slot[i].len || !(k->slot[i].flags & KVM_MEM_LOG_DIRTY_PAGES)) continue;
        if (!k->dirty) k->dirty = calloc((bus_file_pages(k->c->bus) + 63) / 64, sizeof *k->dirty);
        rc = k->dirty ? slot_dirty(k, i) : -ENOMEM;
    }
    return rc;
}
