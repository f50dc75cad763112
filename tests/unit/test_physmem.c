/* The physical address map: what is RAM, what covers it, and how accesses are cut up. */
#include "mem_fixture.h"

#include <errno.h>

#define GIB (1ull << 30)

START_TEST(ram_above_3_gib_goes_on_at_4_gib)
{
    struct bus *b;
    ck_assert_int_eq(bus_new(&b, 7 * GIB / 2), 0);
    ck_assert_uint_eq(bus_ram_size(b), 7 * GIB / 2);
    ck_assert_uint_eq(bus_ram_low(b), 3 * GIB);
    ck_assert_ptr_nonnull(bus_ram_ptr(b, 3 * GIB - 1));
    ck_assert_ptr_null(bus_ram_ptr(b, 3 * GIB));
    ck_assert_ptr_null(bus_ram_ptr(b, 4 * GIB - 1));
    ck_assert_int_eq(bus_ram_offset(b, 4 * GIB), (s64)(3 * GIB));
    ck_assert_int_eq(bus_ram_offset(b, 3 * GIB), -1);
    ck_assert_int_eq(bus_ram_offset(b, 4 * GIB + GIB / 2), -1);
    ck_assert_int_eq(bus_ram_offset(b, UINT64_MAX), -1);
    *bus_ram_ptr(b, 4 * GIB + 5) = 0x5a;
    u8 *alias = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED, bus_ram_fd(b), (off_t)bus_ram_offset(b, 4 * GIB));
    ck_assert_ptr_ne(alias, MAP_FAILED);
    ck_assert_uint_eq(alias[5], 0x5a);
    munmap(alias, PAGE_SIZE);
    bus_free(b);
}
END_TEST

START_TEST(spare_pages_are_in_the_file_and_nowhere_in_memory)
{
    struct bus *b;
    u64 first, again;
    u8 *host, *host2;
    paddr pa;
    ck_assert_int_eq(bus_new(&b, GIB), 0);
    u64 used = bus_file_used(b);
    ck_assert_int_eq(bus_spare(b, 4, &first, &host), 0);
    ck_assert_uint_eq(first, bus_file_pages(b));
    ck_assert_uint_eq(bus_file_used(b), used);
    ck_assert(!bus_page_pa(b, first, &pa));
    host[3 * PAGE_SIZE + 5] = 0x5a;
    u8 *alias = mmap(NULL, 4 * PAGE_SIZE, PROT_READ, MAP_SHARED, bus_ram_fd(b), (off_t)(first << PAGE_SHIFT));
    ck_assert_ptr_ne(alias, MAP_FAILED);
    ck_assert_uint_eq(alias[3 * PAGE_SIZE + 5], 0x5a);
    munmap(alias, 4 * PAGE_SIZE);
    ck_assert_int_eq(bus_spare(b, 4, &again, &host2), 0); /* the same */
    ck_assert_uint_eq(again, first);
    ck_assert_ptr_eq(host2, host);
    bus_free(b);
}
END_TEST

START_TEST(ram_of_an_impossible_size_is_refused)
{
    struct bus *b = NULL;
    ck_assert_int_eq(bus_new(&b, 0), -EINVAL);
    ck_assert_int_eq(bus_new(&b, 4097), -EINVAL);
    ck_assert_int_eq(bus_new(&b, 4 * GIB), -EINVAL);
    ck_assert_ptr_null(b);
}
END_TEST

START_TEST(nothing_there_floats)
{
    ck_assert_uint_eq(bus_mmio_read(bus, 0xe0000000, 4), 0xffffffff);
    ck_assert_uint_eq(bus_mmio_read(bus, FIX_RAM, 2), 0xffff);
    bus_mmio_write(bus, 0xe0000000, 4, 0);
    ck_assert_uint_eq(bus_in(bus, 0x80, 1), 0xff);
    ck_assert_uint_eq(bus_in(bus, 0xffff, 4), 0xffffffff);
    bus_out(bus, 0xffff, 4, 0);
}
END_TEST

START_TEST(a_range_hides_the_ram_below_it_and_gives_it_back)
{
    struct probe_dev d = { 0 };
    *ram32(0xa0000) = 0x11223344;
    ck_assert_int_eq(bus_map_mmio(bus, 0xa0000, 0x20000, &probe_ops, &d, "vga"), 0);
    ck_assert_ptr_null(bus_ram_ptr(bus, 0xa0000));
    ck_assert_ptr_null(bus_ram_ptr(bus, 0xbffff));
    ck_assert_ptr_null(bus_page_flags(bus, 0xa0000));
    ck_assert_ptr_nonnull(bus_ram_ptr(bus, 0x9ffff));
    ck_assert_ptr_nonnull(bus_ram_ptr(bus, 0xc0000));
    ck_assert_uint_eq(bus_mmio_read(bus, 0xa0004, 4), 0x17161514);
    bus_mmio_write(bus, 0xa0000, 4, 0xaabbccdd);
    ck_assert_uint_eq(d.val, 0xaabbccdd);
    bus_unmap_mmio(bus, 0xa0000);
    ck_assert_uint_eq(*ram32(0xa0000), 0x11223344);
}
END_TEST

START_TEST(a_page_covered_in_part_is_ram_beside_the_range)
{
    struct probe_dev d = { 0 };
    *ram32(0x5000) = 0x01020304;
    ck_assert_int_eq(bus_map_mmio(bus, 0x5010, 8, &probe_ops, &d, "small"), 0);
    ck_assert_ptr_null(bus_ram_ptr(bus, 0x5000));
    ck_assert_uint_eq(bus_mmio_read(bus, 0x5000, 4), 0x01020304);
    bus_mmio_write(bus, 0x5018, 4, 0x55667788);
    ck_assert_uint_eq(bus_mmio_read(bus, 0x5018, 4), 0x55667788);
    ck_assert_uint_eq(d.writes, 0);
    /* astride its end: two bytes each */
    ck_assert_uint_eq(bus_phys_read(bus, 0x5016, 4), 0x77881716);
    u8 buf[32];
    ck_assert_uint_eq(bus_dma_read(bus, 0x5000, buf, 32), 24);
    ck_assert_uint_eq(buf[0], 0x04);
    ck_assert_uint_eq(buf[0x10], 0xff);
    ck_assert_uint_eq(buf[0x17], 0xff);
    ck_assert_uint_eq(buf[0x18], 0x88);
    bus_unmap_mmio(bus, 0x5010);
    ck_assert_uint_eq(*ram32(0x5018), 0x55667788);
}
END_TEST

START_TEST(overlaps_are_refused)
{
    struct probe_dev d = { 0 };
    static const u8 rom[PAGE_SIZE];
    ck_assert_int_eq(bus_map_mmio(bus, 0xfec00000, 0x1000, &probe_ops, &d, "a"), 0);
    ck_assert_int_eq(bus_map_mmio(bus, 0xfec00fff, 1, &probe_ops, &d, "b"), -EBUSY);
    ck_assert_int_eq(bus_map_rom(bus, 0xfebff000, 0x2000, rom, "c"), -EBUSY);
    ck_assert_int_eq(bus_map_mmio(bus, 0xfec01000, 0x1000, &probe_ops, &d, "d"), 0);
    ck_assert_int_eq(bus_map_mmio(bus, 0xfebff000, 0x1000, &probe_ops, &d, "e"), 0);
    ck_assert_int_eq(bus_map_mmio(bus, 0x1000, 0, &probe_ops, &d, "f"), -EINVAL);
    ck_assert_int_eq(bus_map_mmio(bus, UINT64_MAX - 1, 4, &probe_ops, &d, "g"), -EINVAL);
    bus_unmap_mmio(bus, 0xfec00800); /* not a base: nothing happens */
    ck_assert_int_eq(bus_map_mmio(bus, 0xfec00000, 1, &probe_ops, &d, "h"), -EBUSY);
    bus_unmap_mmio(bus, 0xfec00000);
    ck_assert_int_eq(bus_map_mmio(bus, 0xfec00000, 1, &probe_ops, &d, "h"), 0);
}
END_TEST

START_TEST(device_accesses_arrive_aligned_and_at_most_4_bytes_wide)
{
    struct probe_dev d = { 0 };
    ck_assert_int_eq(bus_map_mmio(bus, 0xd0000000, 0x1000, &probe_ops, &d, "dev"), 0);
    ck_assert_uint_eq(bus_phys_read(bus, 0xd0000008, 8), 0x1f1e1d1c1b1a1918);
    ck_assert_uint_eq(d.reads, 2);
    ck_assert_uint_eq(d.size, 4);
    d.n = 0;
    ck_assert_uint_eq(bus_phys_read(bus, 0xd0000001, 4), 0x14131211);
    ck_assert_uint_eq(d.n, 3);
    ck_assert(d.sizes[0] == 1 && d.sizes[1] == 2 && d.sizes[2] == 1);
    d.n = 0;
    bus_phys_write(bus, 0xd0000002, 3, 0x332211);
    ck_assert_uint_eq(d.n, 2);
    ck_assert(d.sizes[0] == 2 && d.sizes[1] == 1 && d.val == 0x33 && d.off == 4);
}
END_TEST

START_TEST(rom_reads_as_memory_and_ignores_writes)
{
    static u8 rom[2 * PAGE_SIZE];
    for (unsigned i = 0; i < sizeof rom; i++) rom[i] = (u8)(i * 7);
    ck_assert_int_eq(bus_map_rom(bus, 0xe0000, sizeof rom, rom, "bios"), 0);
    u32 expect;
    memcpy(&expect, rom + 0x234, 4);
    ck_assert_uint_eq(bus_mmio_read(bus, 0xe0234, 4), expect);
    bus_mmio_write(bus, 0xe0234, 4, 0);
    ck_assert_uint_eq(bus_mmio_read(bus, 0xe0234, 4), expect);
    u8 buf[16], zeros[16] = { 0 };
    ck_assert_uint_eq(bus_dma_write(bus, 0xdfff8, zeros, 16), 8);
    ck_assert_uint_eq(bus_dma_read(bus, 0xdfff8, buf, 16), 16);
    ck_assert_mem_eq(buf, zeros, 8);
    ck_assert_mem_eq(buf + 8, rom, 8);
}
END_TEST

START_TEST(ram_that_is_read_only_drops_what_processor_and_devices_write)
{
    u8 buf[16], zeros[16] = { 0 };
    u64 len = 2 * PAGE_SIZE;
    bus_phys_write(bus, 0x8000, 8, 0x1122334455667788);
    bus_ram_readonly(bus, 0x8000, PAGE_SIZE, true);
    bus_phys_write(bus, 0x8000, 4, 0);
    ck_assert_uint_eq(bus_phys_read(bus, 0x8000, 8), 0x1122334455667788);
    memset(bus_ram_ptr(bus, 0x7ff8), 7, 8);
    ck_assert_uint_eq(bus_dma_write(bus, 0x7ff8, zeros, 16), 8);
    ck_assert_uint_eq(bus_dma_read(bus, 0x7ff8, buf, 16), 16);
    ck_assert_mem_eq(buf, zeros, 8);
    ck_assert_mem_eq(buf + 8, bus_ram_ptr(bus, 0x8000), 8);
    ck_assert_ptr_null(bus_dma_map(bus, 0x8000, &len));
    ck_assert_ptr_eq(bus_dma_map(bus, 0x7000, &len), bus_ram_ptr(bus, 0x7000));
    ck_assert_uint_eq(len, PAGE_SIZE);
    bus_ram_readonly(bus, 0x8000, PAGE_SIZE, false);
    bus_phys_write(bus, 0x8000, 4, 5);
    ck_assert_uint_eq(bus_phys_read(bus, 0x8000, 4), 5);
}
END_TEST

START_TEST(dma_crosses_pages_and_stops_at_the_end_of_ram)
{
    u8 out[3 * PAGE_SIZE], in[3 * PAGE_SIZE];
    for (unsigned i = 0; i < sizeof out; i++) out[i] = (u8)(i ^ i >> 8);
    ck_assert_uint_eq(bus_dma_write(bus, 0x7123, out, sizeof out), sizeof out);
    ck_assert_uint_eq(bus_dma_read(bus, 0x7123, in, sizeof in), sizeof in);
    ck_assert_mem_eq(in, out, sizeof out);
    ck_assert_uint_eq(bus_dma_write(bus, FIX_RAM - 5, out, 10), 5);
    ck_assert_uint_eq(bus_dma_read(bus, FIX_RAM - 5, in, 10), 5);
    ck_assert_mem_eq(in, out, 5);
    ck_assert_uint_eq(in[9], 0xff);
}
END_TEST

struct code_log {
    unsigned calls;
    paddr pa;
    u64 len;
    u8 before;
    bool stays;
};
static bool on_code(void *arg, paddr pa, unsigned len, u8 flags)
{
    (void)flags;
    struct code_log *l = arg;
    l->calls++;
    l->pa = pa;
    l->len = len;
    l->before = *bus_ram_ptr(bus, pa);
    return l->stays;
}

START_TEST(writes_to_code_are_announced_before_they_happen)
{
    struct code_log log = { .stays = true };
    struct coherence_listener l = { .rank = COHERENCE_CODE, .arg = &log, .written = on_code };
    coherence_listen(bus_coherence(bus), &l);
    bus_mark_code(bus, 0x8000);
    bus_phys_write(bus, 0x7ffc, 4, ~0u);
    ck_assert_uint_eq(log.calls, 0);
    bus_phys_write(bus, 0x8010, 4, 0x12345678);
    ck_assert(log.calls == 1 && log.pa == 0x8010 && log.len == 4 && log.before == 0);
    u8 buf[PAGE_SIZE];
    memset(buf, 0x77, sizeof buf);
    bus_dma_write(bus, 0x7800, buf, sizeof buf);
    ck_assert(log.calls == 2 && log.pa == 0x8000 && log.len == 0x800 && log.before == 0);
    ck_assert_uint_eq(*bus_page_flags(bus, 0x8000) & PG_CODE, PG_CODE);
    log.stays = false; /* it was the last */
    bus_phys_write(bus, 0x8ffc, 4, 0);
    ck_assert_uint_eq(log.calls, 3);
    ck_assert_uint_eq(*bus_page_flags(bus, 0x8000) & PG_CODE, 0);
    bus_phys_write(bus, 0x8ffc, 4, 0);
    ck_assert_uint_eq(log.calls, 3);
}
END_TEST

START_TEST(covering_ram_retires_code_and_tells_whoever_caches_pointers)
{
    struct code_log log = { 0 };
    struct probe_dev d = { 0 };
    struct coherence_listener l = { .rank = COHERENCE_CODE, .arg = &log, .written = on_code };
    coherence_listen(bus_coherence(bus), &l);
    wr(0xb8000, 4, false, 1);
    bus_mark_code(bus, 0xb8000);
    ck_assert_uint_ne(cpu_tlb(cpu, TLB_SUP_R)[0xb8], 0);
    u32 generation = cpu->tlb_generation;
    ck_assert_int_eq(bus_map_mmio(bus, 0xb8000, 0x1000, &probe_ops, &d, "text"), 0);
    ck_assert_uint_eq(log.calls, 1);
    ck_assert_uint_ne(cpu->tlb_generation, generation);
    ck_assert_uint_eq(cpu_tlb(cpu, TLB_SUP_R)[0xb8], 0);
    wr(0xb8000, 4, false, 2);
    ck_assert_uint_eq(d.val, 2);
    generation = cpu->tlb_generation;
    ck_assert_int_eq(bus_map_mmio(bus, 0xfee00000, 0x1000, &probe_ops, &d, "apic"), 0);
    ck_assert_uint_eq(cpu->tlb_generation, generation);
}
END_TEST

/* ---- devices' memory ---- */

#define FB 0xe0000000u

START_TEST(a_devices_memory_is_ram_where_it_is_mapped_and_keeps_its_contents)
{
    struct bus_ram *r, *other;
    ck_assert_int_eq(bus_ram_new(&r, bus, 0x123), -EINVAL);
    ck_assert_int_eq(bus_ram_new(&r, bus, 3 * PAGE_SIZE), 0);
    ck_assert_int_eq(bus_ram_new(&other, bus, PAGE_SIZE), 0);
    memset(bus_ram_host(other), 0x99, PAGE_SIZE);
    ck_assert_uint_eq(rd(FB, 4, false), ~0u); /* nothing is there */
    ck_assert_int_eq(bus_map_ram(bus, FB + 1, r, "fb"), -EINVAL);
    ck_assert_int_eq(bus_map_ram(bus, FB, r, "fb"), 0);
    ck_assert_int_eq(bus_map_ram(bus, FB + 0x10000, r, "fb"), -EBUSY);
    ck_assert_int_eq(bus_map_ram(bus, FB + PAGE_SIZE, other, "in the way"), -EBUSY);
    ck_assert_uint_eq(rd(FB, 4, false), 0);
    wr(FB + 2 * PAGE_SIZE + 4, 4, false, 0x1234);
    ck_assert_uint_ne(cpu_tlb(cpu, TLB_SUP_W)[FB / PAGE_SIZE + 2], 0); /* as RAM */
    ck_assert_uint_eq(*(u32 *)(bus_ram_host(r) + 2 * PAGE_SIZE + 4), 0x1234);
    ck_assert_uint_eq(rd(FB + 3 * PAGE_SIZE, 4, false), ~0u);
    ck_assert_uint_eq((u64)bus_ram_offset(bus, FB), FIX_RAM);
    bus_unmap_ram(r);
    ck_assert_uint_eq(rd(FB + 2 * PAGE_SIZE + 4, 4, false), ~0u);
    ck_assert_int_eq(bus_map_ram(bus, 0xb8000, r, "fb"), 0); /* over RAM */
    wr(0xb8000, 4, false, 7);
    ck_assert_uint_eq(*(u32 *)bus_ram_host(r), 7);
    ck_assert_uint_eq(rd(0xba004, 4, false), 0x1234);
    bus_ram_free(r);
    ck_assert_uint_eq(rd(0xb8000, 4, false), 0); /* what is below */
    ck_assert_uint_eq(bus_ram_host(other)[0], 0x99);
    ck_assert_int_eq(bus_ram_new(&r, bus, 2 * PAGE_SIZE), 0); /* in the same place, and zero again */
    for (unsigned i = 0; i < 2 * PAGE_SIZE; i++) ck_assert_uint_eq(bus_ram_host(r)[i], 0);
    bus_ram_free(r);
    ck_assert_int_eq(bus_ram_new(&r, bus, BUS_DEVICE_RAM_MAX), -ENOSPC);
    bus_ram_free(other);
    ck_assert_int_eq(bus_ram_new(&r, bus, BUS_DEVICE_RAM_MAX), 0);
    bus_ram_free(r);
}
END_TEST

START_TEST(code_in_a_devices_memory_is_retired_when_it_is_written_or_goes)
{
    struct code_log log = { .stays = true };
    struct coherence_listener l = { .rank = COHERENCE_CODE, .arg = &log, .written = on_code };
    coherence_listen(bus_coherence(bus), &l);
    struct bus_ram *r;
    ck_assert_int_eq(bus_ram_new(&r, bus, 2 * PAGE_SIZE), 0);
    ck_assert_int_eq(bus_map_ram(bus, FB, r, "fb"), 0);
    bus_mark_code(bus, FB + PAGE_SIZE);
    wr(FB + PAGE_SIZE + 8, 4, false, 1);
    ck_assert(log.calls == 1 && log.pa == FB + PAGE_SIZE + 8 && log.len == 4);
    bus_ram_written(r, PAGE_SIZE - 4, 8); /* by the device itself */
    ck_assert(log.calls == 2 && log.pa == FB + PAGE_SIZE && log.len == 4);
    bus_unmap_ram(r);
    ck_assert(log.calls == 3 && log.pa == FB + PAGE_SIZE && log.len == PAGE_SIZE);
    bus_ram_written(r, 0, 2 * PAGE_SIZE);
    ck_assert_uint_eq(log.calls, 3);
    bus_ram_free(r);
}
END_TEST

/* ---- DMA by pointer ---- */

START_TEST(dma_pointers_reach_as_far_as_memory_is_contiguous)
{
    u64 len = 5 * PAGE_SIZE;
    struct probe_dev d = { 0 };
    ck_assert_int_eq(bus_map_mmio(bus, 0xa4000, 0x1000, &probe_ops, &d, "dev"), 0);
    ck_assert_ptr_eq(bus_dma_map(bus, 0xa0123, &len), bus_ram_ptr(bus, 0xa0123));
    ck_assert_uint_eq(len, 0x4000 - 0x123);
    len = 10;
    ck_assert_ptr_nonnull(bus_dma_map(bus, 0xa5000, &len));
    ck_assert_uint_eq(len, 10);
    ck_assert_ptr_null(bus_dma_map(bus, 0xa4000, &len));
    ck_assert_ptr_null(bus_dma_map(bus, 0xf0000000, &len));
    len = 2 * PAGE_SIZE;
    ck_assert_ptr_nonnull(bus_dma_map(bus, FIX_RAM - PAGE_SIZE, &len));
    ck_assert_uint_eq(len, PAGE_SIZE);
}
END_TEST

START_TEST(what_dma_writes_counts_from_the_unmap_on)
{
    struct code_log log = { .stays = true };
    struct coherence_listener l = { .rank = COHERENCE_CODE, .arg = &log, .written = on_code };
    coherence_listen(bus_coherence(bus), &l);
    u64 len = 2 * PAGE_SIZE;
    u8 *p = bus_dma_map(bus, 0x8800, &len);
    ck_assert_uint_eq(len, 2 * PAGE_SIZE);
    memset(p, 0x90, len);
    bus_mark_code(bus, 0x9000); /* translated meanwhile */
    bus_dma_unmap(bus, p, len, DMA_FROM_GUEST);
    ck_assert_uint_eq(log.calls, 0);
    bus_dma_unmap(bus, p, len, DMA_TO_GUEST);
    ck_assert(log.calls == 1 && log.pa == 0x9000 && log.len == PAGE_SIZE);
}
END_TEST

START_TEST(lists_of_pieces_read_and_write_as_one)
{
    const struct dma_seg sg[] = { { 0x10ffe, 4 }, { 0x20000, 0 }, { 0x30000, 0x2000 }, { 0x32000, 3 } };
    u8 out[0x2007], in[0x2007];
    for (unsigned i = 0; i < sizeof out; i++) out[i] = (u8)(i ^ i >> 7);
    ck_assert_uint_eq(bus_sg_write(bus, sg, 4, 0, out, sizeof out), sizeof out);
    ck_assert_uint_eq(bus_sg_read(bus, sg, 4, 0, in, sizeof in), sizeof in);
    ck_assert_mem_eq(in, out, sizeof in);
    ck_assert_uint_eq(bus_sg_read(bus, sg, 4, 3, in, 5), 5);
    ck_assert_mem_eq(in, out + 3, 5);
    ck_assert_uint_eq(bus_sg_read(bus, sg, 4, 0x2000, in, 100), 7);
    ck_assert_uint_eq(*bus_ram_ptr(bus, 0x32002), out[0x2006]);
    struct iovec iov[4];
    ck_assert_int_eq(bus_sg_map(bus, sg, 4, iov, 4), 2); /* the last two are neighbours */
    ck_assert(iov[0].iov_base == bus_ram_ptr(bus, 0x10ffe) && iov[0].iov_len == 4);
    ck_assert(iov[1].iov_base == bus_ram_ptr(bus, 0x30000) && iov[1].iov_len == 0x2003);
    bus_sg_unmap(bus, iov, 2, DMA_TO_GUEST);
    ck_assert_int_eq(bus_sg_map(bus, sg, 4, iov, 1), -E2BIG);
    const struct dma_seg beyond[] = { { FIX_RAM - 4, 8 } };
    ck_assert_int_eq(bus_sg_map(bus, beyond, 1, iov, 4), -EFAULT);
}
END_TEST

START_TEST(port_accesses_wider_than_a_device_are_split)
{
    struct probe_dev a = { 0 }, b = { 0 };
    ck_assert_int_eq(bus_map_pio(bus, 0x60, 1, &probe_ops, &a, "a"), 0);
    ck_assert_int_eq(bus_map_pio(bus, 0x61, 2, &probe_ops, &b, "b"), 0);
    ck_assert_uint_eq(bus_in(bus, 0x60, 4), 0xff111010);
    ck_assert(a.size == 1 && b.size == 1 && b.reads == 2);
    ck_assert_uint_eq(bus_in(bus, 0x61, 2), 0x1110);
    ck_assert_uint_eq(b.size, 2);
    bus_out(bus, 0x60, 2, 0xbeef);
    ck_assert(a.val == 0xef && b.val == 0xbe && b.off == 0);
    ck_assert_int_eq(bus_map_pio(bus, 0x62, 1, &probe_ops, &a, "c"), -EBUSY);
    ck_assert_int_eq(bus_map_pio(bus, 0xffff, 2, &probe_ops, &a, "d"), -EINVAL);
    bus_unmap_pio(bus, 0x61);
    ck_assert_uint_eq(bus_in(bus, 0x61, 2), 0xffff);
    ck_assert_int_eq(bus_map_pio(bus, 0x62, 1, &probe_ops, &a, "c"), 0);
    ck_assert_uint_eq(bus_in(bus, 0x60, 1), 0x10);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("physmem");
    TCase *t = tcase_create("physmem");
    tcase_add_checked_fixture(t, fix_setup, fix_teardown);
    tcase_add_test(t, ram_above_3_gib_goes_on_at_4_gib);
    tcase_add_test(t, spare_pages_are_in_the_file_and_nowhere_in_memory);
    tcase_add_test(t, ram_of_an_impossible_size_is_refused);
    tcase_add_test(t, nothing_there_floats);
    tcase_add_test(t, a_range_hides_the_ram_below_it_and_gives_it_back);
    tcase_add_test(t, a_page_covered_in_part_is_ram_beside_the_range);
    tcase_add_test(t, overlaps_are_refused);
    tcase_add_test(t, device_accesses_arrive_aligned_and_at_most_4_bytes_wide);
    tcase_add_test(t, rom_reads_as_memory_and_ignores_writes);
    tcase_add_test(t, ram_that_is_read_only_drops_what_processor_and_devices_write);
    tcase_add_test(t, dma_crosses_pages_and_stops_at_the_end_of_ram);
    tcase_add_test(t, writes_to_code_are_announced_before_they_happen);
    tcase_add_test(t, covering_ram_retires_code_and_tells_whoever_caches_pointers);
    tcase_add_test(t, a_devices_memory_is_ram_where_it_is_mapped_and_keeps_its_contents);
    tcase_add_test(t, code_in_a_devices_memory_is_retired_when_it_is_written_or_goes);
    tcase_add_test(t, dma_pointers_reach_as_far_as_memory_is_contiguous);
    tcase_add_test(t, what_dma_writes_counts_from_the_unmap_on);
    tcase_add_test(t, lists_of_pieces_read_and_write_as_one);
    tcase_add_test(t, port_accesses_wider_than_a_device_are_split);
    suite_add_tcase(s, t);
    return fix_run(s);
}
