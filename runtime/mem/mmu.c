/* Owns the page walk and every access to guest memory by linear address. The soft TLB itself is tlb.c.
 *
 *   I1  A and D are set only by a walk that ends in permission; D only for a write.               [mmu_walk]
 *   I2  An access that spans two pages has both translated before a byte of it is transferred.    [spans_find]
 *   I3  Page-table entries are read and written in RAM; elsewhere they read as ones, writes are dropped.
 *   I4  CR2 changes only with a raised #PF.                                                       [mmu_page_fault]
 *   I5  Nothing here uses a vector register, nor calls what may without fpu_park().
 *
 * Enter at mem_read(), mmu_walk(). SDM vol. 3, chapter 4. NOT-HW: reading page tables from a device. */
#include "runtime/cpu/probe.h"
#include "runtime/cpu/cpu_trace.h"
#include "runtime/mem/directory.h"
#include "runtime/mem/mmu_walk.h"
#include "runtime/mem/watch.h"
#include "runtime/mem/bytes.h"
#include "runtime/mem/physmem.h"
#include "runtime/mem/tables.h"
#include "runtime/cpu/cpu_models.h"
#include "runtime/mem/mmu.h"

#define PTE_NX (1ull << 63)
#define PSE_RSVD 0x3fe000ull /* 4 MiB page: bits 21:13, less those that PSE-36 has from bit 13 on */
#define PSE36_SHIFT 13
#define PAE_2M_RSVD 0x1fe000ull /* 2 MiB page: bits 20:13 */
#define OFFSET(la) ((la) & ~PAGE_MASK)
#define PHYS_BITS_PAE 36 /* without a model */

/* ---- the walk ---- */

struct level {
    paddr pa;
    u8 *host; /* NULL: not in RAM */
    u64 val;
};

struct path {
    struct level level[2];
    unsigned n;
    unsigned page_shift;
};

enum path_end { PATH_LEAF, PATH_ABSENT, PATH_RESERVED };

static bool paging(const struct cpu *c) { return (c->cr0 & CR0_PG) != 0; }
static bool pae(const struct cpu *c) { return (c->cr4 & CR4_PAE) != 0; }
static bool nx_enabled(const struct cpu *c) { return pae(c) && c->efer & EFER_NXE; }

static unsigned phys_bits(const struct cpu *c) { return c->tlb->phys_bits; }

void mmu_model(struct cpu *c)
{
    unsigned bits = c->model ? model_phys_bits(c->model) : PHYS_BITS_PAE;
    c->tlb->phys_bits = (u8)(bits < 32 ? 32 : bits > 52 ? 52 : bits);
    c->tlb->pse36_bits = c->model && model_edx(c->model) & CPUID_PSE36 ? c->tlb->phys_bits - 32 : 0;
}

static u64 level_read(const struct cpu *c, struct path *p, paddr pa, unsigned size)
{
    struct level *l = &p->level[p->n++];
    l->pa = pa;
    l->host = bus_ram_ptr(c->bus, pa);
    if (unlikely(!l->host)) l->val = size == 4 ? 0xffffffff : UINT64_MAX;
    else
        l->val = size == 4 ? __atomic_load_n((u32 *)l->host, __ATOMIC_RELAXED)
                           : __atomic_load_n((u64 *)l->host, __ATOMIC_RELAXED);
    return l->val;
}

/* The bits of a 4 MiB page's entry that are bits 32 and up of its physical address (SDM vol. 3, 4.3). */
static u64 pse36_mask(const struct cpu *c) { return ((1ull << c->tlb->pse36_bits) - 1) << PSE36_SHIFT; }

static enum path_end path_find_32(const struct cpu *c, laddr la, struct path *p)
{
    u64 pde = level_read(c, p, (c->cr3 & PAGE_MASK) + (la >> 22) * 4, 4);
    if (!(pde & PTE_P)) return PATH_ABSENT;
    if (pde & PTE_PS && c->cr4 & CR4_PSE) {
        p->page_shift = 22;
        return pde & PSE_RSVD & ~pse36_mask(c) ? PATH_RESERVED : PATH_LEAF;
    }
    p->page_shift = PAGE_SHIFT;
    return level_read(c, p, (pde & PAGE_MASK) + (la >> 12 & 1023) * 4, 4) & PTE_P ? PATH_LEAF : PATH_ABSENT;
}

static enum path_end path_find_pae(const struct cpu *c, laddr la, struct path *p)
{
    const u64 in_use = (1ull << phys_bits(c)) - 1, frame = in_use & ~(u64)OFFSET(~0u);
    const u64 rsvd = ~in_use & (c->efer & EFER_NXE ? ~PTE_NX : ~0ull);
    u64 pdpte = c->pdpte[la >> 30];
    if (!(pdpte & PTE_P)) return PATH_ABSENT;
    u64 pde = level_read(c, p, (pdpte & frame) + (la >> 21 & 511) * 8, 8);
    if (!(pde & PTE_P)) return PATH_ABSENT;
    if (pde & PTE_PS) {
        p->page_shift = 21;
        return pde & (rsvd | PAE_2M_RSVD) ? PATH_RESERVED : PATH_LEAF;
    }
    p->page_shift = PAGE_SHIFT;
    if (pde & rsvd) return PATH_RESERVED;
    u64 pte = level_read(c, p, (pde & frame) + (la >> 12 & 511) * 8, 8);
    if (!(pte & PTE_P)) return PATH_ABSENT;
    return pte & rsvd ? PATH_RESERVED : PATH_LEAF;
}

static enum path_end path_find(const struct cpu *c, laddr la, struct path *p)
{
    p->n = 0;
    return pae(c) ? path_find_pae(c, la, p) : path_find_32(c, la, p);
}

static paddr path_pa(const struct cpu *c, const struct path *p, laddr la)
{
    u64 in_page = (1ull << p->page_shift) - 1, in_use = pae(c) ? (1ull << phys_bits(c)) - 1 : 0xffffffff;
    u64 leaf = p->level[p->n - 1].val, high = 0;
    if (p->page_shift == 22) high = (leaf & pse36_mask(c)) << (32 - PSE36_SHIFT);
    return (leaf & in_use & ~in_page) | high | (la & in_page);
}

/* An entry in a page that holds code is written like any other: what was translated from it goes first. */
static void level_set(struct cpu *c, struct level *l, u32 bits)
{
    if (likely((l->val & bits) == bits) || !l->host) return;
    u8 *flags = bus_page_flags(c->bus, l->pa);
    if (unlikely(*flags & PG_ROM)) return;
    if (unlikely(*flags & (PG_CODE | PG_CLEAN))) {
        struct fpu_parked f;
        fpu_park(c, &f);
        bus_write_begins(c->bus, l->pa, 4);
        fpu_unpark(&f);
    }
    __atomic_fetch_or((u32 *)l->host, bits, __ATOMIC_RELAXED);
    l->val |= bits;
}

static void tables_in_use(struct cpu *c, laddr la, const struct path *p)
{
    bool global = c->cr4 & CR4_PGE && p->level[p->n - 1].val & PTE_G;
    tables_note(c, la, p->level[0].pa, p->n == 2 ? p->level[1].pa : NO_PAGE_TABLE, global);
}

static bool permitted(const struct cpu *c, const struct walk *w, enum access acc, bool user)
{
    if (user && !w->user) return false;
    if (acc == ACC_W) return w->write || (!user && !(c->cr0 & CR0_WP));
    return acc != ACC_X || !w->nx;
}

static void walk_unpaged(struct walk *w, laddr la)
{
    *w = (struct walk){ .pa = la, .user = true, .write = true, .accessed = true, .dirty = true };
}

static void walk_rights(const struct cpu *c, const struct path *p, struct walk *w)
{
    u64 first = p->level[0].val, leaf = p->level[p->n - 1].val, all = first & leaf;
    w->user = (all & PTE_U) != 0;
    w->write = (all & PTE_W) != 0;
    w->nx = nx_enabled(c) && (first | leaf) & PTE_NX;
}

static void walk_rest(const struct cpu *c, const struct path *p, laddr la, struct walk *w)
{
    u64 first = p->level[0].val, leaf = p->level[p->n - 1].val;
    w->pa = path_pa(c, p, la);
    w->accessed = (first & leaf & PTE_A) != 0;
    w->dirty = (leaf & PTE_D) != 0;
    w->global = c->cr4 & CR4_PGE && leaf & PTE_G;
    w->large = p->page_shift > PAGE_SHIFT;
}

bool mmu_walk(struct cpu *c, laddr la, enum access acc, bool user, struct walk *w)
{
    if (!paging(c)) {
        walk_unpaged(w, la);
        return true;
    }
    struct path p;
    w->error = (acc == ACC_W ? PF_W : 0) | (user ? PF_U : 0) | (acc == ACC_X && nx_enabled(c) ? PF_I : 0);
    enum path_end end = path_find(c, la, &p);
    if (end != PATH_LEAF) {
        if (end == PATH_RESERVED) w->error |= PF_P | PF_RSVD;
        return false;
    }
    walk_rights(c, &p, w);
    if (!permitted(c, w, acc, user)) {
        w->error |= PF_P;
        return false;
    }
    if (unlikely(c->tables != NULL)) tables_in_use(c, la, &p); /* first: it may end what is cached */
    if (p.n == 2) level_set(c, &p.level[0], PTE_A);
    level_set(c, &p.level[p.n - 1], acc == ACC_W ? PTE_A | PTE_D : PTE_A);
    walk_rest(c, &p, la, w);
    if (w->large) tlb_note_large(c, la);
    return true;
}

bool mmu_look(const struct cpu *c, laddr la, struct walk *w)
{
    struct path p;
    w->error = 0;
    if (!paging(c)) {
        walk_unpaged(w, la);
        return true;
    }
    if (path_find(c, la, &p) != PATH_LEAF) return false;
    walk_rights(c, &p, w);
    walk_rest(c, &p, la, w);
    return true;
}

void mmu_watch_tables(struct cpu *c, laddr la)
{
    struct path p;
    if (c->tables && paging(c) && path_find(c, la, &p) == PATH_LEAF) tables_in_use(c, la, &p);
}

/* ---- the tables themselves ---- */

void mmu_tables(const struct cpu *c, laddr la, struct mmu_tables *out)
{
    *out = (struct mmu_tables){ .pae = pae(c) };
    if (!paging(c)) return;
    la &= ~((1u << MMU_REGION_SHIFT) - 1);
    const u64 frame = pae(c) ? ((1ull << phys_bits(c)) - 1) & ~(u64)OFFSET(~0u) : PAGE_MASK;
    for (unsigned i = 0; i < (pae(c) ? 2 : 1); i++) {
        u64 pdpte = pae(c) ? c->pdpte[la >> 30] : 0, *dir = &out->dir[i];
        if (!pae(c)) *dir = directory_read(c, (c->cr3 & PAGE_MASK) + (la >> 22) * 4, 4);
        else if (pdpte & PTE_P) *dir = directory_read(c, (pdpte & frame) + ((la >> 21 & 511) + i) * 8, 8);
        bool large = *dir & PTE_PS && (pae(c) || c->cr4 & CR4_PSE);
        if (*dir & PTE_P && !large) out->table[i] = bus_ram_ptr(c->bus, *dir & frame);
    }
}

void mmu_watch_region(struct cpu *c, laddr la)
{
    if (!c->tables) return;
    for (unsigned i = 0; i < 1u << (MMU_REGION_SHIFT - directory_shift(c)); i++) {
        laddr at = la + (i << directory_shift(c));
        paddr page, table;
        if (directory_entry(c, at, &table) && directory_page(c, at, &page)) tables_note(c, at, page, table, false);
    }
}

bool mmu_tables_user_accessed(const struct mmu_tables *t, unsigned k)
{
    const u64 want = PTE_P | PTE_U | PTE_A;
    unsigned half = t->pae ? k / 512 : 0;
    const u8 *table = t->table[half];
    if ((t->dir[half] & want) != want) return false;
    if (!table) return true; /* large */
    u64 pte = t->pae ? ((const u64 *)table)[k % 512] : ((const u32 *)table)[k];
    return (pte & want) == want;
}

int mmu_page_fault(struct cpu *c, laddr la, u32 error)
{
    tlb_drop(c, la);
    c->cr2 = la;
    c->exc = (struct pending_exc){ .valid = true, .has_error = true, .vector = V_PF, .error = error };
    return GUEST_FAULT;
}

int mmu_translate(struct cpu *c, laddr la, enum access acc, bool user, paddr *out)
{
    struct walk w;
    if (!mmu_walk(c, la, acc, user, &w)) return mmu_page_fault(c, la, w.error);
    *out = w.pa;
    return 0;
}

bool mmu_try(struct cpu *c, laddr la, enum access acc, bool user, paddr *out)
{
    struct walk w;
    if (!mmu_walk(c, la, acc, user, &w)) return false;
    *out = w.pa;
    return true;
}

bool mmu_probe(const struct cpu *c, laddr la, paddr *out)
{
    struct walk w;
    if (!mmu_look(c, la, &w)) return false;
    *out = w.pa;
    return true;
}

/* ---- soft TLB, or the bus ---- */

static inline u64 tlb_entry(struct cpu *c, laddr la, bool write, bool user)
{
    return cpu_tlb(c, user ? write ? TLB_USER_W : TLB_USER_R : write ? TLB_SUP_W : TLB_SUP_R)[la >> PAGE_SHIFT];
}

/* Device, ROM, writes to code, and what a breakpoint watches. */
static u64 phys_read(struct cpu *c, paddr pa, unsigned n)
{
    struct fpu_parked f;
    if (!bus_ram_ptr(c->bus, pa)) c->ctr.mmio++;
    fpu_park(c, &f);
    u64 v = bus_phys_read(c->bus, pa, n);
    fpu_unpark(&f);
    if (!bus_ram_ptr(c->bus, pa)) probe_tell(c, EV_MMIO_READ, pa, n, v, 0);
    CPU_TRACE(c, io, "read  %llx.%u = %llx at %08x\n", (unsigned long long)pa, n, (unsigned long long)v, c->eip);
    return v;
}

static void phys_write(struct cpu *c, paddr pa, unsigned n, u64 v)
{
    struct fpu_parked f;
    if (!bus_ram_ptr(c->bus, pa)) {
        c->ctr.mmio++;
        probe_tell(c, EV_MMIO_WRITE, pa, n, v, 0);
        CPU_TRACE(c, io, "write %llx.%u = %llx at %08x\n", (unsigned long long)pa, n, (unsigned long long)v, c->eip);
    }
    fpu_park(c, &f);
    bus_phys_write(c->bus, pa, n, v);
    fpu_unpark(&f);
}

/* ---- accesses by linear address: the general way, for up to PAGE_SIZE bytes in at most two pages ---- */

struct span {
    unsigned n;
    u8 *host; /* NULL: go by pa */
    paddr pa;
};

static int span_find(struct cpu *c, laddr la, enum access acc, bool user, struct span *s)
{
    u64 entry = tlb_entry(c, la, acc == ACC_W, user);
    if (entry) {
        s->host = (u8 *)(entry + la);
        return 0;
    }
    bool fault;
    s->host = tlb_fill(c, la, acc, user, &fault);
    if (s->host) return 0;
    return fault ? GUEST_FAULT : mmu_translate(c, la, acc, user, &s->pa);
}

/* What a debugger watches has no entry, and comes here. */
static int spans_find(struct cpu *c, laddr la, unsigned n, enum access acc, bool user, struct span s[2])
{
    unsigned room = PAGE_SIZE - OFFSET(la);
    BUG_ON(n > PAGE_SIZE);
    s[0].n = n < room ? n : room;
    s[1].n = n - s[0].n;
    if (span_find(c, la, acc, user, &s[0])) return GUEST_FAULT;
    if (s[1].n && span_find(c, la + s[0].n, acc, user, &s[1])) return GUEST_FAULT;
    if (unlikely(c->watch->breaks.data)) watch_access(c, la, n, acc == ACC_W);
    return 0;
}

static u64 span_read(struct cpu *c, const struct span *s)
{
    return s->host ? bytes_load(s->host, s->n) : phys_read(c, s->pa, s->n);
}

static void span_write(struct cpu *c, const struct span *s, u64 v)
{
    if (s->host) bytes_store(s->host, s->n, v);
    else phys_write(c, s->pa, s->n, v);
}

static inline bool told_of_all(const struct cpu *c) { return unlikely(c->probes != NULL) && c->probes->accesses; }

static inline void tell(struct cpu *c, laddr la, unsigned n, bool write, const void *bytes)
{
    if (unlikely(c->watch->probes.data)) watch_probe(c, la, n, write, bytes_load(bytes, n < 8 ? n : 8));
    if (told_of_all(c)) c->probes->accessed(c->probes->arg, c, la, n, write, bytes);
}

static int read_general(struct cpu *c, laddr la, unsigned n, bool user, u64 *out)
{
    struct span s[2];
    if (spans_find(c, la, n, ACC_R, user, s)) return GUEST_FAULT;
    u64 v = span_read(c, &s[0]);
    if (s[1].n) v |= span_read(c, &s[1]) << s[0].n * 8;
    tell(c, la, n, false, &v);
    *out = v;
    return 0;
}

static int write_general(struct cpu *c, laddr la, unsigned n, bool user, u64 v)
{
    struct span s[2];
    if (spans_find(c, la, n, ACC_W, user, s)) return GUEST_FAULT;
    tell(c, la, n, true, &v);
    span_write(c, &s[0], v);
    if (s[1].n) span_write(c, &s[1], v >> s[0].n * 8);
    return 0;
}

int mem_read(struct cpu *c, laddr la, unsigned n, bool user, u64 *out)
{
    u64 entry = tlb_entry(c, la, false, user);
    if (unlikely(!entry || OFFSET(la) + n > PAGE_SIZE || told_of_all(c))) return read_general(c, la, n, user, out);
    *out = bytes_load((u8 *)(entry + la), n);
    return 0;
}

int mem_write(struct cpu *c, laddr la, unsigned n, bool user, u64 val)
{
    u64 entry = tlb_entry(c, la, true, user);
    if (unlikely(!entry || OFFSET(la) + n > PAGE_SIZE || told_of_all(c))) return write_general(c, la, n, user, val);
    bytes_store((u8 *)(entry + la), n, val);
    return 0;
}

bool mem_fill_device(struct cpu *c, laddr la, unsigned size, bool user, u32 val, u32 n)
{
    struct fpu_parked f;
    struct walk w;
    if (c->probes || c->watch->probes.data || c->watch->breaks.data) return false; /* who wants each write */
    if (OFFSET(la) % size || OFFSET(la) + (u64)n * size > PAGE_SIZE) return false;
    /* The first write to a page sets its bits. */
    if (!mmu_walk(c, la, ACC_W, user, &w) || !w.accessed || !w.dirty) return false;
    fpu_park(c, &f);
    bool done = bus_mmio_fill(c->bus, w.pa, size, val, n);
    fpu_unpark(&f);
    if (!done) return false;
    c->ctr.mmio += n;
    CPU_TRACE(c, io, "write %llx.%u = %x at %08x, %u times\n", (unsigned long long)w.pa, size, val, c->eip, n);
    return true;
}

bool mem_passive_access(struct cpu *c, laddr la, unsigned size, bool write, bool user, u64 *val)
{
    paddr pa;
    if (c->probes || OFFSET(la) + size > PAGE_SIZE) return false;
    if (!mmu_try(c, la, write ? ACC_W : ACC_R, user, &pa) || !bus_is_passive(c->bus, pa, size)) return false;
    if (write) phys_write(c, pa, size, *val);
    else *val = phys_read(c, pa, size);
    return true;
}

/* How much of a device access goes into one call: no more than to the next multiple of 8. */
static unsigned piece(paddr pa, unsigned left)
{
    unsigned n = 8 - (unsigned)(pa & 7);
    return n < left ? n : left;
}

int mem_read_buf(struct cpu *c, laddr la, void *buf, unsigned n, bool user)
{
    struct span s[2];
    u8 *to = buf;
    if (!n) return 0;
    if (spans_find(c, la, n, ACC_R, user, s)) return GUEST_FAULT;
    for (unsigned i = 0; i < 2 && s[i].n; to += s[i++].n) {
        if (s[i].host) {
            bytes_copy(to, s[i].host, s[i].n);
            continue;
        }
        for (unsigned done = 0, k; done < s[i].n; done += k) {
            k = piece(s[i].pa + done, s[i].n - done);
            u64 v = phys_read(c, s[i].pa + done, k);
            bytes_copy(to + done, &v, k);
        }
    }
    tell(c, la, n, false, buf);
    return 0;
}

int mem_write_buf(struct cpu *c, laddr la, const void *buf, unsigned n, bool user)
{
    struct span s[2];
    const u8 *from = buf;
    if (!n) return 0;
    if (spans_find(c, la, n, ACC_W, user, s)) return GUEST_FAULT;
    tell(c, la, n, true, buf);
    for (unsigned i = 0; i < 2 && s[i].n; from += s[i++].n) {
        if (s[i].host) {
            bytes_copy(s[i].host, from, s[i].n);
            continue;
        }
        for (unsigned done = 0, k; done < s[i].n; done += k) {
            k = piece(s[i].pa + done, s[i].n - done);
            phys_write(c, s[i].pa + done, k, bytes_load(from + done, k));
        }
    }
    return 0;
}

/* A fill that finds neither RAM nor a fault has found a device, ROM or code: permitted, and A/D set. */
static int probe(struct cpu *c, laddr la, unsigned n, enum access acc, bool user)
{
    for (unsigned done = 0; done < n; done += PAGE_SIZE - OFFSET(la + done)) {
        bool fault;
        if (tlb_entry(c, la + done, acc == ACC_W, user)) continue;
        if (!tlb_fill(c, la + done, acc, user, &fault) && fault) return GUEST_FAULT;
    }
    return 0;
}

int mem_probe_write(struct cpu *c, laddr la, unsigned n, bool user) { return probe(c, la, n, ACC_W, user); }
int mem_probe_read(struct cpu *c, laddr la, unsigned n, bool user) { return probe(c, la, n, ACC_R, user); }

/* ---- code ---- */

static void fetch_from(struct cpu *c, const u8 *host, paddr pa, u8 *buf, unsigned n)
{
    for (unsigned i = 0; i < n; i++) buf[i] = host ? host[i] : (u8)phys_read(c, pa + i, 1);
}

int mem_fetch(struct cpu *c, laddr la, u8 *buf, unsigned n, unsigned *got)
{
    bool user = c->cpl == 3;
    *got = 0;
    while (*got < n) {
        laddr at = la + *got;
        paddr page;
        const u8 *host;
        u32 error;
        if (!tlb_exec(c, at, user, &page, &host, &error)) return *got ? 0 : mmu_page_fault(c, at, error);
        unsigned room = PAGE_SIZE - OFFSET(at), k = n - *got < room ? n - *got : room;
        fetch_from(c, host ? host + OFFSET(at) : NULL, page + OFFSET(at), buf + *got, k);
        *got += k;
    }
    return 0;
}
