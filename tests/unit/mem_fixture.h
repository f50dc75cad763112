/* A processor with memory and a soft TLB, nothing else, for the tests of mmu.c and tlb.c; and page tables to fill in.
 *
 * Page tables are at fixed physical addresses: CR3 = PD32 or PDPT. map32() and map_pae() write one leaf and what leads
 * to it. */
#ifndef TESTS_UNIT_MEM_FIXTURE_H
#define TESTS_UNIT_MEM_FIXTURE_H
#include "runtime/cpu/cpu_models.h"
#include "runtime/mem/coherence.h"
#include "runtime/mem/mmu.h"
#include "runtime/mem/physmem.h"

#include <check.h>
#include <string.h>
#include <sys/mman.h>

#define MIB (1u << 20)
#define FIX_RAM (32u * MIB)
#define FIX_PD32 0x1000u
#define FIX_PD_PAE 0x2000u   /* four directories in a row */
#define FIX_TABLES 0x100000u /* page tables: one per 4 MiB of linear space, or per 2 MiB with PAE */
#define P 1u
#define W 2u
#define U 4u
#define A 0x20u
#define D 0x40u
#define PS 0x80u
#define G 0x100u
#define NX (1ull << 63)

static struct cpu *cpu;
static struct bus *bus;

static UNUSED void fix_setup(void)
{
    ck_assert_int_eq(bus_new(&bus, FIX_RAM), 0);
    void *m = mmap(NULL, CPU_MAPPING, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ck_assert_ptr_ne(m, MAP_FAILED);
    cpu = &((struct cpu_area *)m)->cpu;
    cpu->bus = bus;
    cpu->model = cpu_model_at(0);
    ck_assert_int_eq(tlb_init(cpu), 0);
}

static UNUSED void fix_teardown(void)
{
    tlb_fini(cpu);
    munmap(cpu_area(cpu), CPU_MAPPING);
    bus_free(bus);
}

static inline u32 *ram32(paddr pa) { return (u32 *)bus_ram_ptr(bus, pa); }
static inline u64 *ram64(paddr pa) { return (u64 *)bus_ram_ptr(bus, pa); }

static inline void fix_paging(bool pae)
{
    cpu->cr0 = CR0_PE | CR0_PG | CR0_WP;
    cpu->cr4 = CR4_PSE | CR4_PGE | (pae ? CR4_PAE : 0);
    cpu->cr3 = FIX_PD32;
    for (unsigned i = 0; i < 4; i++) cpu->pdpte[i] = (FIX_PD_PAE + i * PAGE_SIZE) | P;
}

/* The entries of la, made if they are not there: pde with upper as its flags. */
static inline u32 *pde32(laddr la) { return ram32(FIX_PD32) + (la >> 22); }
static inline u32 *pte32(laddr la) { return ram32(FIX_TABLES + (la >> 22) * PAGE_SIZE) + (la >> 12 & 1023); }
static inline u64 *pde_pae(laddr la) { return ram64(FIX_PD_PAE + (la >> 30) * PAGE_SIZE) + (la >> 21 & 511); }
static inline u64 *pte_pae(laddr la) { return ram64(FIX_TABLES + (la >> 21) * PAGE_SIZE) + (la >> 12 & 511); }
static inline void map32(laddr la, u32 leaf, u32 upper)
{
    *pde32(la) = (FIX_TABLES + (la >> 22) * PAGE_SIZE) | upper;
    *pte32(la) = leaf;
}
static inline void map_pae(laddr la, u64 leaf, u64 upper)
{
    *pde_pae(la) = (FIX_TABLES + (la >> 21) * PAGE_SIZE) | upper;
    *pte_pae(la) = leaf;
}

static inline u64 rd(laddr la, unsigned n, bool user)
{
    u64 v = 0xdeadbeefdeadbeef;
    ck_assert_msg(!mem_read(cpu, la, n, user, &v), "read of %u at %08x faulted, error %x", n, la, cpu->exc.error);
    return v;
}
static inline void wr(laddr la, unsigned n, bool user, u64 v)
{
    ck_assert_msg(!mem_write(cpu, la, n, user, v), "write of %u at %08x faulted, error %x", n, la, cpu->exc.error);
}
/* The access raised #PF at cr2 with this error code. */
static inline void ck_pf(int status, laddr cr2, u32 error)
{
    ck_assert_int_eq(status, GUEST_FAULT);
    ck_assert(cpu->exc.valid && cpu->exc.has_error);
    ck_assert_uint_eq(cpu->exc.vector, V_PF);
    ck_assert_uint_eq(cpu->exc.error, error);
    ck_assert_uint_eq(cpu->cr2, cr2);
    cpu->exc.valid = false;
}

/* A device that remembers its last access and answers with a pattern made of the offset. */
struct probe_dev {
    unsigned reads, writes;
    u32 off, val;
    unsigned size;
    unsigned sizes[16], n;
};
static u32 probe_read(void *dev, u32 off, unsigned size)
{
    struct probe_dev *d = dev;
    d->reads++;
    d->off = off;
    d->size = size;
    d->sizes[d->n++ % 16] = size;
    u32 v = 0;
    for (unsigned i = 0; i < size; i++) v |= (0x10 + off + i) << i * 8;
    return v;
}
static void probe_write(void *dev, u32 off, unsigned size, u32 val)
{
    struct probe_dev *d = dev;
    d->writes++;
    d->off = off;
    d->size = size;
    d->val = val;
    d->sizes[d->n++ % 16] = size;
}
static const struct io_ops probe_ops UNUSED = { probe_read, probe_write };

static inline int fix_run(Suite *s)
{
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
#endif
