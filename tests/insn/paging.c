/* The permission matrix: every combination of P, W, U and NX in both levels, for every kind of access, with WP on and
 * off, without PAE, with PAE, and with NX; large pages; reserved bits; accesses and instructions across a page border.
 * SDM vol. 3, 4.3, 4.4, 4.6, 4.7. QEMU 7.2 departs: reserved-bit faults come without P, and PDPTEs are neither checked
 * nor held by MOV CR3. */
#include "rt.h"

const char guest_name[] = "paging";

enum { T = 0x40000000, RET = 0xc3 };
enum { ERR_P = 1, ERR_W = 2, ERR_U = 4, ERR_RSVD = 8, ERR_I = 16 };
enum access { READ, WRITE, EXEC, USER = 4 };

static bool nx_on;

static void sup_read(void *p) { (void)*(volatile u32 *)p; }
static void sup_write(void *p) { *(volatile u32 *)p = RET; }
static void sup_exec(void *p) { __asm__ volatile("call *%0" : : "r"(p) : "memory"); }
static u32 user_read(u32 p) { return *(volatile u32 *)p; }
static u32 user_write(u32 p) { *(volatile u32 *)p = RET; return 0; }
static u32 user_exec(u32 p) { __asm__ volatile("call *%0" : : "r"(p) : "memory"); return 0; }

/* Does the access; checks that it faults just so (error), or not at all (error is -1). */
static void access_check(int line, u32 address, unsigned access, u32 error, u32 detail)
{
    static void (*const sup[])(void *) = {sup_read, sup_write, sup_exec};
    static u32 (*const user[])(u32) = {user_read, user_write, user_exec};
    bool faulted = access & USER ? ring3(user[access & 3], address) : caught(sup[access & 3], (void *)address);
    bool want = error != ~0u;
    bool right = faulted == want && (!faulted || (trap.vector == V_PF && trap.error == error && trap.cr2 == address &&
                                                 (access & 3) != EXEC) ||
                                     (faulted && trap.vector == V_PF && trap.error == error && trap.cr2 == address &&
                                         trap.eip == address));
    check_true(__FILE__, line, "access", right);
    if (!right)
        print("  access %u at 0x%x, entries 0x%x: faulted %d vector %u error 0x%x cr2 0x%x eip 0x%x, want error 0x%x\n"
            "", access, address,
              detail, faulted, trap.vector, trap.error, trap.cr2, trap.eip, error);
}

/* What the manual says of an access through entries with these combined rights. */
static u32 expected(unsigned access, bool present, bool write, bool user, bool nx, bool wp)
{
    unsigned kind = access & 3;
    bool by_user = access & USER;
    u32 error = (kind == WRITE ? ERR_W : 0) | (by_user ? ERR_U : 0) | (kind == EXEC && nx_on ? ERR_I : 0);

    if (!present)
        return error;
    if ((by_user && !user) || (kind == WRITE && !write && (by_user || wp)) || (kind == EXEC && nx))
        return error | ERR_P;
    return ~0u;
}

static const unsigned all_accesses[] = {READ, WRITE, EXEC, READ | USER, WRITE | USER, EXEC | USER};

static void matrix(void)
{
    u32 page = (u32)page_alloc();
    u64 table;

    poke(page, RET);
    pte_set(T, page | PTE_P);
    table = pde_get(T) & ~0xfffull;
    for (unsigned wp = 0; wp < 2; wp++) {
        write_cr0((read_cr0() & ~(u32)CR0_WP) | (wp ? CR0_WP : 0));
        for (u32 pde = 0; pde < 8; pde++)
            for (u32 pte = 0; pte < 8; pte++)
                for (unsigned nx = 0; nx < (nx_on ? 4 : 1); nx++) {
                    pde_set(T, table | 1);           /* so that the PTE can be reached */
                    pte_set(T, page | pte | (nx & 1 ? PTE_NX : 0));
                    pde_set(T, table | pde | (nx & 2 ? PTE_NX : 0));
                    for (unsigned i = 0; i < 6; i++) {
                        invlpg(T);
                        access_check(__LINE__, T, all_accesses[i],
                                     expected(all_accesses[i], pde & pte & 1, pde & pte & 2, pde & pte & 4, nx, wp),
                                     wp << 16 | nx << 8 | pde << 4 | pte);
                    }
                }
    }
    pde_set(T, table | 7);
    write_cr0(read_cr0() & ~(u32)CR0_WP);
}

static void large_pages(void)
{
    u32 size = paging_is_pae() ? 2u << 20 : 4u << 20;
    u32 memory = (u32)pages_alloc(1, size);
    u32 at = T + 2 * (4u << 20), offset = 0x5000;

    poke(memory + offset, RET);
    for (unsigned wp = 0; wp < 2; wp++) {
        write_cr0((read_cr0() & ~(u32)CR0_WP) | (wp ? CR0_WP : 0));
        for (u32 pde = 0; pde < 8; pde++)
            for (unsigned nx = 0; nx < (nx_on ? 2 : 1); nx++) {
                pde_set(at, memory | pde | PTE_PS | (nx ? PTE_NX : 0));
                for (unsigned i = 0; i < 6; i++) {
                    invlpg(at + offset);
                    access_check(__LINE__, at + offset, all_accesses[i],
                                 expected(all_accesses[i], pde & 1, pde & 2, pde & 4, nx, wp), wp << 16 | nx << 8 |
                                     pde);
                }
            }
    }
    write_cr0(read_cr0() & ~(u32)CR0_WP);
    /* The offset within the page is as wide as the page. */
    poke(memory + 0x1fe000, 0x600d600d);
    pde_set(at, memory | 7 | PTE_PS);
    invlpg(at);
    CHECK_EQ(peek(at + 0x1fe000), 0x600d600d);
    pde_set(at, 0);
    invlpg(at);
}

static void reserved_check(int line, u32 address, u32 detail)
{
    for (unsigned i = 0; i < 6; i++) {
        u32 error = ERR_P | ERR_RSVD | ((all_accesses[i] & 3) == WRITE ? ERR_W : 0) |
            (all_accesses[i] & USER ? ERR_U : 0) |
                    ((all_accesses[i] & 3) == EXEC && nx_on ? ERR_I : 0);
        invlpg(address);
        access_check(line, address, all_accesses[i], error, detail);
    }
}

static void set_cr3(void *value)
{
    write_cr3((u32)value);
}

static void reserved_bits(void)
{
    u32 page = (u32)page_alloc(), at = T + (4u << 20);

    poke(page, RET);
    if (!paging_is_pae()) {
        /* 4 MiB page: bit 21 is reserved whatever MAXPHYADDR */
        pde_set(at, 0 | 1 << 21 | PTE_P | PTE_W | PTE_U | PTE_PS);
        reserved_check(__LINE__, at, 21);
        pde_set(at, 0);
        pte_set(at, page | 0xe00 | PTE_P | PTE_W | PTE_U);               /* available to software */
        invlpg(at);
        access_check(__LINE__, at, READ | USER, ~0u, 0);
        return;
    }
    pte_set(at, page | 7);
    u64 table = pde_get(at);
    static const u8 bits[] = {52, 57, 62};                               /* above any MAXPHYADDR */
    for (unsigned i = 0; i < sizeof(bits); i++) {
        pte_set(at, (page | 7) | 1ull << bits[i]);
        reserved_check(__LINE__, at, bits[i]);
        pte_set(at, page | 7);
        pde_set(at, table | 1ull << bits[i]);
        reserved_check(__LINE__, at, bits[i] | 0x100);
        pde_set(at, table);
    }
    if (!nx_on) {                                                        /* without EFER.NXE, bit 63 is reserved too */
        pte_set(at, (page | 7) | PTE_NX);
        reserved_check(__LINE__, at, 63);
        pte_set(at, page | 7);
    }

    pde_set(at, 0 | 1 << 13 | 7 | PTE_PS);                               /* 2 MiB page: bits 20:13 */
    reserved_check(__LINE__, at, 13);
    pde_set(at, 0 | 1 << 20 | 7 | PTE_PS);
    reserved_check(__LINE__, at, 20);
    pde_set(at, table);
    invlpg(at);
    access_check(__LINE__, at, WRITE | USER, ~0u, 0);

    /* A PDPTE with a reserved bit: #GP(0) by MOV CR3, which then changes nothing. */
    u64 *pdpt = page_alloc();
    memcpy(pdpt, (void *)paging_root(), 32);
    u32 before = read_cr3();
    static const u64 pdpte_bits[] = {2, 4, 0x20, 0x40, 0x80, 0x100, 1ull << 52, 1ull << 63};
    for (unsigned i = 0; i < sizeof(pdpte_bits) / sizeof(pdpte_bits[0]); i++) {
        u64 good = pdpt[2];
        pdpt[2] |= pdpte_bits[i];
        CHECK_TRAPS(set_cr3, pdpt, V_GP, 0);
        CHECK_EQ(read_cr3(), before);
        pdpt[2] = good;
    }
    pdpt[2] = 0xffffffffffffffc0ull & ~1ull;                             /* not present: nothing in it is looked at */
    CHECK_EQ(caught(set_cr3, pdpt), 0);
    CHECK_EQ(read_cr3(), (u32)pdpt);
    access_check(__LINE__, 0x80000000u, READ, 0, 0);
    write_cr3(before);
    access_check(__LINE__, at, WRITE | USER, ~0u, 0);
}

/* The PDPTEs are registers: they change by MOV CR3, not by a store (vol. 3, 4.4.1). */
static void pdpte_registers(void)
{
    u64 *root = (u64 *)paging_root(), old = root[1];
    u32 page = (u32)page_alloc();

    pte_set(T, page | 7);
    poke(page, 0x11112222);
    root[1] = 0;
    invlpg(T);
    CHECK_EQ(caught(sup_read, (void *)T), 0);
    root[1] = old;
}

static void write_dword(void *p) { *(volatile u32 *)p = 0xaabbccdd; }

static void borders(void)
{
    u32 at = T + (8u << 20), first = (u32)pages_alloc(2, 2 * PAGE), second = (u32)page_alloc();

    /* A store across the border whose second half may not be written changes nothing; CR2 is the second page's
     * start. */
    write_cr0(read_cr0() | CR0_WP);
    pde_set(at, 0);
    pte_set(at, first | 7);
    pte_set(at + PAGE, second | 5);
    write_cr3(read_cr3());
    poke(first + PAGE - 4, 0x01020304);
    poke(second, 0x05060708);
    CHECK_TRAPS(write_dword, at + PAGE - 2, V_PF, ERR_P | ERR_W);
    CHECK_EQ(trap.cr2, at + PAGE);
    CHECK_EQ(peek(first + PAGE - 4), 0x01020304);
    CHECK_EQ(peek(second), 0x05060708);
    pte_set(at + PAGE, second | 7);
    invlpg(at + PAGE);
    CHECK_EQ(caught(write_dword, (void *)(at + PAGE - 2)), 0);
    CHECK_EQ(peek(first + PAGE - 4), 0xccdd0304);
    CHECK_EQ(peek(second), 0x0506aabb);
    /* The first half is what may not be written: CR2 is the access's own address. */
    pte_set(at, first | 5);
    invlpg(at);
    CHECK_TRAPS(write_dword, at + PAGE - 2, V_PF, ERR_P | ERR_W);
    CHECK_EQ(trap.cr2, at + PAGE - 2);
    write_cr0(read_cr0() & ~(u32)CR0_WP);

    /* An instruction across the border: EIP is its start, CR2 where the missing bytes are. */
    pte_set(at, first | 7);
    pte_set(at + PAGE, 0);
    write_cr3(read_cr3());
    static const u8 code[] = {0xb8, 1, 2, 3, 4, 0xc3};                   /* mov eax, 0x04030201; ret */
    memcpy((void *)(first + PAGE - 3), code, 3);
    memcpy((void *)second, code + 3, 3);
    CHECK_TRAPS(sup_exec, at + PAGE - 3, V_PF, nx_on ? ERR_I : 0);
    CHECK_EQ(trap.cr2, at + PAGE);
    CHECK_EQ(trap.eip, at + PAGE - 3);
    pte_set(at + PAGE, second | 7);
    CHECK_EQ(caught(sup_exec, (void *)(at + PAGE - 3)), 0);

    /* Two linear pages on one physical page are one memory. */
    pte_set(at + 2 * PAGE, first | 7);
    poke(at + 2 * PAGE + 16, 0xfeedf00d);
    CHECK_EQ(peek(at + 16), 0xfeedf00d);
    poke(at + 16, 0xdeadd00d);
    CHECK_EQ(peek(at + 2 * PAGE + 16), 0xdeadd00d);
}

/* Without CR4.PSE, bit 7 of a directory entry means nothing. */
static void pse_off(void)
{
    u32 *directory = page_alloc(), *tables = pages_alloc(16, PAGE);

    for (u32 i = 0; i < 16 * 1024; i++)
        tables[i] = i * PAGE | 7;
    for (u32 i = 0; i < 16; i++)
        directory[i] = (u32)&tables[i * 1024] | 7 | PTE_PS;
    poke(0x3000000, 0x13572468);
    paging_stop();
    write_cr4(read_cr4() & ~(u32)(CR4_PSE | CR4_PAE));
    write_cr3((u32)directory);
    write_cr0(read_cr0() | CR0_PG);
    CHECK_EQ(peek(0x3000000), 0x13572468);
    access_check(__LINE__, 0x3000000, WRITE | USER, ~0u, 0);
    paging_stop();
}

void guest_main(void)
{
    static const char *const names[] = {"32-bit", "PAE", "PAE with NX"};

    for (int mode = 0; mode < 3; mode++) {
        section(names[mode]);
        nx_on = mode == 2;
        paging_start(mode > 0, nx_on);
        matrix();
        large_pages();
        reserved_bits();
        borders();
        if (mode > 0)
            pdpte_registers();
        paging_stop();
    }
    section("PSE off");
    nx_on = false;
    pse_off();
}
