/* Memory of user programs as a kernel manages it: demand paging, copy on write, rights, invalidation, accessed and
 * dirty bits, code that changes, address spaces that take turns, string instructions that fault or are interrupted in
 * their middle. What a monitor that runs user code on the processor itself must see in time. SDM vol. 3, 4.8, 4.10,
 * 8.1.3. */
#include "user.h"

const char guest_name[] = "directmem";

enum { AD = PTE_A | PTE_D, HEAP = 0x20000000, OTHER = 0x30000000 };

static u32 physical(u32 linear) { return (u32)pte_get(linear) & ~0xfffu; }
static void set(u32 linear, u32 entry) { pte_set(linear, entry), invlpg(linear); }

USER(load, movl (%ebx), %eax; DONE);
USER(store, movl %eax, (%ebx); DONE);
USER(enter, call *%ebx; DONE);

/* Runs a program that has its EBX and EAX: what vector it ends with. The programs stay where they are: they are known
 * code. */
enum { AT_LOAD = U_CODE + 0x200, AT_STORE = U_CODE + 0x240, AT_CALL = U_CODE + 0x280 };
static struct frame last;
static u32 run(u32 at, u32 ebx, u32 eax)
{
    last = user_frame(at);
    last.ebx = ebx, last.eax = eax;
    return user_go(&last);
}
static u32 loaded(u32 at) { return run(AT_LOAD, at, 0) == U_DONE ? last.eax : 0xdead0000 | last.vector; }

static void programs(void)
{
    PROGRAM(U_CODE, load);
    user_load(AT_LOAD, load, load_end);
    user_load(AT_STORE, store, store_end);
    user_load(AT_CALL, enter, enter_end);
}

#define CHECK_PF(at, ebx, code, where)    \
    do {                                  \
        CHECK_EQ(run(at, ebx, 0x1234), V_PF); \
        CHECK_EQ(last.error, code);       \
        CHECK_EQ(trap.cr2, where);        \
        CHECK_EQ(last.eip, at);           \
    } while (0)

/* ---- Demand paging and copy on write. */
enum { HEAP_PAGES = 300 };
static u32 faults, last_error;

static bool demand(struct frame *f)
{
    u32 at = read_cr2();

    if (at < HEAP || at >= HEAP + HEAP_PAGES * PAGE || f->error & 1)
        return false;
    faults++;
    last_error = f->error;
    pte_set(at & ~0xfffu, (u32)page_alloc() | P_RW);            /* not present to present: no invalidation is needed */
    return true;
}

USER(touch_heap,
    movl $0x20000000, %edi;
    movl $300, %ecx;
1:  movl %edi, 4(%edi);
    addl $4096, %edi;
    decl %ecx;
    jnz 1b;
    movl $0x20000000, %esi;
    movl $300, %ecx;
    xorl %eax, %eax;
2:  addl 4(%esi), %eax;
    addl $4096, %esi;
    decl %ecx;
    jnz 2b;
    DONE);
USER(touch_again,
    movl $0x20000000, %esi;
    movl $300, %ecx;
    xorl %eax, %eax;
1:  addl 4(%esi), %eax;
    incl 8(%esi);
    addl $4096, %esi;
    decl %ecx;
    jnz 1b;
    DONE);

static u32 copies;
static bool copy_on_write(struct frame *f)
{
    u32 at = read_cr2() & ~0xfffu, old = physical(at);

    if (f->error != 7)
        return false;
    copies++;
    u32 page = (u32)page_alloc();
    memcpy((void *)page, (void *)old, PAGE);
    pte_set(at, page | P_RW);
    invlpg(at);
    return true;
}

static void on_demand(void)
{
    struct frame f;
    u32 sum = 0, old[HEAP_PAGES];

    section("demand paging");
    faults = 0;
    on_trap(V_PF, demand);
    for (u32 i = 0; i < HEAP_PAGES; i++)
        sum += HEAP + i * PAGE;
    CHECK_EQ(RUN(touch_heap, 0, &f), U_DONE);
    CHECK_EQ(faults, HEAP_PAGES);
    CHECK_EQ(last_error, 6);
    CHECK_EQ(f.eax, sum);
    CHECK_EQ(RUN(touch_again, 0, &f), U_DONE);
    CHECK_EQ(faults, HEAP_PAGES);
    section("copy on write");
    for (u32 i = 0; i < HEAP_PAGES; i++) {
        old[i] = physical(HEAP + i * PAGE);
        pte_set(HEAP + i * PAGE, old[i] | P_RX);
    }
    write_cr3(read_cr3());
    copies = 0;
    on_trap(V_PF, copy_on_write);
    CHECK_EQ(RUN(touch_again, 0, &f), U_DONE);
    CHECK_EQ(f.eax, sum);
    CHECK_EQ(copies, HEAP_PAGES);
    u32 wrong = 0;
    for (u32 i = 0; i < HEAP_PAGES; i++)
        wrong += peek(old[i] + 8) != 1 || peek(physical(HEAP + i * PAGE) + 8) != 2 ||
            physical(HEAP + i * PAGE) == old[i];
    CHECK_EQ(wrong, 0);
    on_trap(V_PF, NULL);
    section("all of it unmapped");
    for (u32 i = 0; i < HEAP_PAGES; i++)
        pte_set(HEAP + i * PAGE, 0);
    write_cr3(read_cr3());
    programs();
    for (u32 i = 0; i < HEAP_PAGES; i += 37) {
        CHECK_PF(AT_LOAD, HEAP + i * PAGE, 4, HEAP + i * PAGE);
        CHECK_PF(AT_STORE, HEAP + i * PAGE, 6, HEAP + i * PAGE);
    }
}

/* ---- What was mapped is not, or otherwise. */
static void invalidation(void)
{
    u32 one = (u32)page_alloc(), two = (u32)page_alloc();

    section("remapped, unmapped");
    programs();
    poke(one, 1), poke(two, 2);
    for (int i = 0; i < 4; i++) {
        set(HEAP, one | P_RW);
        CHECK_EQ(loaded(HEAP), 1);
        CHECK_EQ(run(AT_STORE, HEAP + 8, 100 + i), U_DONE);
        CHECK_EQ(peek(one + 8), 100 + i);
        pte_set(HEAP, two | P_RW);
        if (i & 1)
            invlpg(HEAP + 0xabc);
        else
            write_cr3(read_cr3());
        CHECK_EQ(loaded(HEAP), 2);
        CHECK_EQ(run(AT_STORE, HEAP + 8, 200 + i), U_DONE);
        CHECK_EQ(peek(one + 8), 100 + i);
        CHECK_EQ(peek(two + 8), 200 + i);
        pte_set(HEAP, 0);
        if (i & 1)
            write_cr3(read_cr3());
        else
            invlpg(HEAP);
        CHECK_PF(AT_LOAD, HEAP, 4, HEAP);
        CHECK_PF(AT_STORE, HEAP + 4, 6, HEAP + 4);
    }
    section("remapped while CR4.PGE changes, and while paging is off");
    set(HEAP, one | P_RW | PTE_G);
    CHECK_EQ(loaded(HEAP), 1);
    pte_set(HEAP, two | P_RW | PTE_G);
    write_cr4(read_cr4() ^ CR4_PGE);
    CHECK_EQ(loaded(HEAP), 2);
    write_cr4(read_cr4() ^ CR4_PGE);
    pte_set(HEAP, one | P_RW);
    write_cr0(read_cr0() & ~CR0_PG);
    write_cr0(read_cr0() | CR0_PG);
    CHECK_EQ(loaded(HEAP), 1);
    section("a whole table goes");
    u32 table = (u32)pde_get(HEAP);
    pde_set(HEAP, 0);
    write_cr3(read_cr3());
    CHECK_PF(AT_LOAD, HEAP, 4, HEAP);
    pde_set(HEAP, table);
    CHECK_EQ(loaded(HEAP), 1);
    pde_set(HEAP, table & ~(u32)PTE_U);
    invlpg(HEAP);
    CHECK_PF(AT_LOAD, HEAP, 5, HEAP);
    pde_set(HEAP, table);
    write_cr3(read_cr3());
    CHECK_EQ(loaded(HEAP), 1);
}

/* ---- Rights. More of them may be noticed late, by one fault that says what is no longer so (4.10.4.3); fewer may
 * not. */
static void rights(void)
{
    u32 one = (u32)page_alloc();

    section("rights");
    programs();
    poke(one, 0xc3c3c3c3);
    for (int i = 0; i < 3; i++) {
        set(HEAP, one | P_RX);
        CHECK_EQ(loaded(HEAP), 0xc3c3c3c3);
        CHECK_PF(AT_STORE, HEAP, 7, HEAP);
        pte_set(HEAP, one | P_RW);
        if (run(AT_STORE, HEAP + 16, 5) != U_DONE) {
            CHECK_EQ(last.error, 7);
            CHECK_EQ(run(AT_STORE, HEAP + 16, 5), U_DONE);
        }
        set(HEAP, one | P_RX);
        CHECK_PF(AT_STORE, HEAP, 7, HEAP);
        CHECK_EQ(loaded(HEAP), 0xc3c3c3c3);
        CHECK_EQ(run(AT_CALL, HEAP, 0), U_DONE);
        set(HEAP, one | PTE_P | PTE_W);                        /* the supervisor's */
        CHECK_PF(AT_LOAD, HEAP, 5, HEAP);
        CHECK_PF(AT_STORE, HEAP, 7, HEAP);
        CHECK_EQ(run(AT_CALL, HEAP, 0), V_PF);
        CHECK_EQ(last.error & 7, 5);
        CHECK_EQ(last.eip, HEAP);
        set(HEAP, one | P_RW);
        CHECK_EQ(run(AT_STORE, HEAP + 16, 6), U_DONE);
        CHECK_EQ(run(AT_CALL, HEAP, 0), U_DONE);
        if (!paging_is_pae())
            continue;
        pte_set(HEAP, one | P_RW | PTE_NX);
        invlpg(HEAP);
        CHECK_EQ(loaded(HEAP), 0xc3c3c3c3);
        CHECK_EQ(run(AT_STORE, HEAP + 16, 6), U_DONE);
        CHECK_EQ(run(AT_CALL, HEAP, 0), V_PF);
        CHECK_EQ(last.error, 0x15);
        CHECK_EQ(trap.cr2, HEAP);
    }
    section("CR0.WP is no matter of the user's");
    set(HEAP, one | P_RX);
    write_cr0(read_cr0() & ~(u32)CR0_WP);
    CHECK_PF(AT_STORE, HEAP, 7, HEAP);
    write_cr0(read_cr0() | CR0_WP);
    CHECK_PF(AT_STORE, HEAP, 7, HEAP);
}

/* ---- Accessed and dirty: by what user code touches, not before, and nothing beside it. */
static u32 bits(u32 linear) { return (u32)pte_get(linear) & AD; }

static void fresh(u32 flags)
{
    for (u32 i = 0; i < 8; i++)
        pte_set(HEAP + i * PAGE, physical(HEAP + i * PAGE) | flags);
    pde_set(HEAP, pde_get(HEAP) & ~(u64)PTE_A);
    write_cr3(read_cr3());
}

static void accessed_and_dirty(void)
{
    const u32 mine = HEAP + 3 * PAGE;

    section("accessed and dirty");
    programs();
    for (u32 i = 0; i < 8; i++)
        poke(user_page(HEAP + i * PAGE, P_RW), 0xc3c3c3c3);
    for (int i = 0; i < 3; i++) {
        fresh(P_RW);
        CHECK_EQ(pde_get(HEAP) & PTE_A, 0);
        CHECK_EQ(loaded(mine), 0xc3c3c3c3);
        CHECK_EQ(bits(mine), PTE_A);
        CHECK_EQ(pde_get(HEAP) & PTE_A, PTE_A);
        CHECK_EQ(bits(mine - PAGE) | bits(mine + PAGE), 0);
        CHECK_EQ(run(AT_STORE, mine + 8, 1), U_DONE);
        CHECK_EQ(bits(mine), AD);
        CHECK_EQ(run(AT_STORE, mine + PAGE + 8, 1), U_DONE);
        CHECK_EQ(bits(mine + PAGE), AD);
        CHECK_EQ(bits(mine - PAGE) | bits(mine + 2 * PAGE), 0);
        CHECK_EQ(run(AT_CALL, mine + 2 * PAGE, 1), U_DONE);
        CHECK_EQ(bits(mine + 2 * PAGE), PTE_A);
        CHECK_EQ(loaded(mine + 3 * PAGE - 2), 0xc3c30000);     /* two pages at once */
        CHECK_EQ(bits(mine + 3 * PAGE), PTE_A);
    }
    section("cleared and invalidated, they are set again");
    for (int i = 0; i < 3; i++) {
        set(mine, physical(mine) | P_RW);
        CHECK_EQ(run(AT_STORE, mine + 8, 1), U_DONE);
        CHECK_EQ(bits(mine), AD);
        set(mine, physical(mine) | P_RW | PTE_A);              /* clean */
        CHECK_EQ(loaded(mine), 0xc3c3c3c3);
        CHECK_EQ(bits(mine), PTE_A);
        CHECK_EQ(run(AT_STORE, mine + 8, 2), U_DONE);
        CHECK_EQ(bits(mine), AD);
        pte_set(mine, physical(mine) | P_RW | PTE_D);          /* old */
        write_cr3(read_cr3());
        CHECK_EQ(loaded(mine), 0xc3c3c3c3);
        CHECK_EQ(bits(mine), AD);
    }
    section("faults mark nothing dirty");
    fresh(P_RX);
    CHECK_EQ(run(AT_STORE, mine, 0), V_PF);
    CHECK_EQ(bits(mine) & PTE_D, 0);
    fresh(PTE_P | PTE_W);
    CHECK_EQ(run(AT_STORE, mine, 0), V_PF);
    CHECK_EQ(bits(mine) & PTE_D, 0);
    section("a large page");
    u32 step = paging_is_pae() ? 2u << 20 : 4u << 20, memory = (u32)pages_alloc(1, 4u << 20);
    memset((void *)memory, 0, step);
    pde_set(OTHER, memory | P_RW | PTE_PS);
    write_cr3(read_cr3());
    CHECK_EQ(loaded(OTHER + step - 4), 0);
    CHECK_EQ(pde_get(OTHER) & AD, PTE_A);
    CHECK_EQ(run(AT_STORE, OTHER + step - 8, 77), U_DONE);
    CHECK_EQ(pde_get(OTHER) & AD, AD);
    CHECK_EQ(peek(memory + step - 8), 77);
    pde_set(OTHER, 0);
    invlpg(OTHER + 0x5000);
    CHECK_PF(AT_LOAD, OTHER + step - 8, 4, OTHER + step - 8);
}

/* ---- Code that changes. */
USER(patch_self,                                               /* its immediate, each time round */
    xorl %edx, %edx;
    movl $40, %ecx;
1:  movb %cl, 0x08048000 + 3f - patch_self + 1;
    jmp 2f;
2:
3:  movl $0, %eax;
    addl %eax, %edx;
    decl %ecx;
    jnz 1b;
    movl %edx, %eax;
    DONE);
USER(return_1, movl $1, %eax; ret);
USER(return_2, movl $2, %eax; ret);
/* EBX: code; ESI: times; the kernel is called in between */
USER(call_loop,
    xorl %edx, %edx;
1:  call *%ebx;
    addl %eax, %edx;
    int $0x80;
    decl %esi;
    jnz 1b;
    DONE);
USER(patch_other,                                              /* writes by way of EDI what EBX calls */
    xorl %edx, %edx;
1:  movl %esi, 1(%edi);
    jmp 2f;
2:  call *%ebx;
    addl %eax, %edx;
    decl %esi;
    jnz 1b;
    DONE);

static u32 code_page, round;
static bool kernel_patches(struct frame *f)
{
    round++;
    poke(code_page + 1, round * 10);
    f->eax = 0;
    return true;
}
static bool kernel_replaces(struct frame *f)
{
    round++;
    user_load(OTHER, round & 1 ? return_2 : return_1, round & 1 ? return_2_end : return_1_end);
    f->eax = 0;
    return true;
}
static u32 two_pages[2];
static bool kernel_remaps(struct frame *f)
{
    round++;
    set(OTHER, two_pages[round & 1] | P_RX);
    f->eax = 0;
    return true;
}

static void changing_code(void)
{
    struct frame f;

    section("code that writes itself");
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(RUN(patch_self, 0, &f), U_DONE);
        CHECK_EQ(f.eax, 40 * 41 / 2);
    }
    section("code written through another mapping");
    PROGRAM(OTHER, return_1);
    set(HEAP, physical(OTHER) | P_RW);
    set(OTHER, physical(OTHER) | P_RX);
    PROGRAM(U_CODE, patch_other);
    f = user_frame(U_CODE);
    f.ebx = OTHER, f.edi = HEAP, f.esi = 40;
    CHECK_EQ(user_go(&f), U_DONE);
    CHECK_EQ(f.edx, 40 * 41 / 2);
    section("code written by the kernel");
    PROGRAM(OTHER, return_1);
    code_page = physical(OTHER);
    PROGRAM(U_CODE, call_loop);
    on_trap(0x80, kernel_patches);
    f = user_frame(U_CODE);
    f.ebx = OTHER, f.esi = 12, round = 0;
    CHECK_EQ(user_go(&f), U_DONE);
    CHECK_EQ(f.edx, 1 + 10 * 11 * 12 / 2);
    on_trap(0x80, kernel_replaces);
    PROGRAM(OTHER, return_1);
    f = user_frame(U_CODE);
    f.ebx = OTHER, f.esi = 12, round = 0;
    CHECK_EQ(user_go(&f), U_DONE);
    CHECK_EQ(f.edx, 18);
    section("code remapped");
    for (int i = 0; i < 2; i++) {
        if (i)
            PROGRAM(OTHER, return_2);
        else
            PROGRAM(OTHER, return_1);
        two_pages[i] = physical(OTHER);
    }
    set(OTHER, two_pages[0] | P_RX);
    on_trap(0x80, kernel_remaps);
    f = user_frame(U_CODE);
    f.ebx = OTHER, f.esi = 12, round = 0;
    CHECK_EQ(user_go(&f), U_DONE);
    CHECK_EQ(f.edx, 18);
    on_trap(0x80, NULL);
    /* a page that is written to all the time and executed as well */
    section("data beside code");
    PROGRAM(OTHER, return_1);
    set(OTHER, physical(OTHER) | P_RW);
    PROGRAM(U_CODE, patch_other);
    f = user_frame(U_CODE);
    f.ebx = OTHER, f.edi = OTHER + 0x800, f.esi = 60;
    CHECK_EQ(user_go(&f), U_DONE);
    CHECK_EQ(f.edx, 60);
    CHECK_EQ(peek(physical(OTHER) + 0x801), 1);
}

/* ---- Address spaces that take turns: the same addresses, different pages. */
enum { SPACES = 8, TURNS = 6 };                                /* more than a monitor may like to keep */
/* adds EBP, which is its number, to its word, and looks whether it was as left */
USER(own_data,
    xorl %ebx, %ebx;
1:  addl %ebp, 0x08080000;
    addl %ebp, %ebx;
    int $0x80;
    cmpl %ebx, 0x08080000;
    je 2f;
    ud2;
2:  jmp 1b);

static struct process { u32 root, data; struct frame f; } process[SPACES];
static u32 current, turns_left;

static bool next_process(struct frame *f)
{
    process[current].f = *f;
    if (turns_left-- == 0)
        return false;
    current = (current + 1) % SPACES;
    paging_use(process[current].root);
    *f = process[current].f;
    return true;
}

static void make_process(u32 i)
{
    struct process *p = &process[i];

    if (!p->root)
        p->root = user_space();
    paging_use(p->root);
    PROGRAM(U_CODE, own_data);
    p->data = user_page(U_DATA, P_RW);
    p->f = user_frame(U_CODE);
    p->f.ebp = i + 1;
}

static void address_spaces(void)
{
    u32 own = paging_root();
    struct frame f;

    section("address spaces");
    memset(process, 0, sizeof(process));
    /* the second time, new programs in the old page directories */
    for (int again = 0; again < 2; again++) {
        for (u32 i = 0; i < SPACES; i++)
            make_process(i);
        on_trap(0x80, next_process);
        turns_left = SPACES * TURNS - 1, current = 0;
        paging_use(process[0].root);
        f = process[0].f;
        CHECK_EQ(user_go(&f), 0x80);
        for (u32 i = 0; i < SPACES; i++) {
            CHECK_EQ(peek(process[i].data), (i + 1) * TURNS);
            CHECK_EQ(process[i].f.ebx, (i + 1) * TURNS);
        }
    }
    on_trap(0x80, NULL);
    paging_use(own);
    section("a page changed in the other address space");
    programs();
    user_page(HEAP, P_RW);
    poke(physical(HEAP), 5);
    CHECK_EQ(loaded(HEAP), 5);
    u32 shared = physical(HEAP);
    paging_use(process[0].root);
    programs();
    set(HEAP, shared | P_RW);
    CHECK_EQ(run(AT_STORE, HEAP, 6), U_DONE);
    paging_use(own);
    CHECK_EQ(loaded(HEAP), 6);
    u32 *table = (u32 *)((u32)pde_get(HEAP) & ~0xfffu);         /* and unmapped here, while the other is in use */
    paging_use(process[0].root);
    CHECK_EQ(loaded(HEAP), 6);
    table[0] = 0, table[1] = 0;
    paging_use(own);
    CHECK_PF(AT_LOAD, HEAP, 4, HEAP);
}

/* ---- Code that another address space has run before, in pages that the guest maps together, as Linux does around a
 * fault. How often a run is stopped for them is counted: run_insn.py. */
enum { LIBRARY = 0x40000000, HOPS = 256 };
USER(hop,
    incl %eax;
    jmp hop + 0x1000);
USER(last_hop, DONE);

static void shared_code(void)
{
    static u32 page[HOPS + 1];
    u32 own = paging_root();

    section("code that others have run");
    programs();
    for (u32 i = 0; i <= HOPS; i++) {
        page[i] = user_page(LIBRARY + i * PAGE, P_RW);
        if (i < HOPS)
            user_load(LIBRARY + i * PAGE, hop, hop_end);
        else
            user_load(LIBRARY + i * PAGE, last_hop, last_hop_end);
    }
    CHECK_EQ(run(LIBRARY, 0, 5), U_DONE);
    CHECK_EQ(last.eax, 5 + HOPS);
    for (u32 k = 0; k < 3; k++) {
        paging_use(user_space());
        programs();
        user_page(HEAP, P_RW);
        CHECK_EQ(loaded(HEAP), 0);
        for (u32 i = 0; i <= HOPS; i++)
            pte_set(LIBRARY + i * PAGE, page[i] | P_RX | PTE_A);
        CHECK_EQ(run(LIBRARY, 0, k), U_DONE);
        CHECK_EQ(last.eax, k + HOPS);
    }
    paging_use(own);
}

/* ---- Pages that begin with the end of an instruction, which by itself would be four times POP ES: translated before
 * the address space may run directly, for IOPL is 3, and known to be code when it may. How many of them are found unfit
 * is counted: run_insn.py. */
enum { STEPS = 64 };
USER(straddle,
    movl $0x07070707, %ecx;
    incl %eax;
    jmp straddle + 0x1000);

/* A loop that goes back by a jump across two pages: nothing else is run on the second. */
USER(jump_back,
    jmp 2f;
1:  DONE;
2:  decl %eax;
    jz 1b;
    {disp32} jmp 2b);

static void middle_of_an_instruction(void)
{
    u32 own = paging_root(), first = LIBRARY + PAGE - 2;

    section("pages that begin in the middle of an instruction");
    paging_use(user_space());
    programs();
    for (u32 i = 0; i <= STEPS; i++)
        user_page(LIBRARY + i * PAGE, P_RW);
    for (u32 i = 0; i < STEPS; i++)
        user_load(first + i * PAGE, straddle, straddle_end);
    user_load(first + STEPS * PAGE, last_hop, last_hop_end);
    for (u32 k = 0; k < 3; k++) {
        last = user_frame(first);
        last.eax = k;
        last.eflags |= k ? 0 : F_IOPL;
        CHECK_EQ(user_go(&last), U_DONE);
        CHECK_EQ(last.eax, k + STEPS);
    }
    section("a jump across two pages");
    user_page(OTHER, P_RW), user_page(OTHER + PAGE, P_RW);
    user_load(OTHER + PAGE - 9, jump_back, jump_back_end);
    CHECK_EQ(run(OTHER + PAGE - 9, 0, 20000), U_DONE);
    CHECK_EQ(last.eax, 0);
    paging_use(own);
}

/* ---- String instructions: faulting and interrupted in their middle. */
USER(copy,
    int $0x80;
    rep movsl;
    DONE);
USER(fill_back,
    std;
    rep stosb;
    cld;
    DONE);
USER(scan_long,
    repne scasb;
    DONE);

static void strings(void)
{
    struct frame f;
    enum { N = 5 * PAGE / 4 };

    section("REP MOVS, a page missing in the middle");
    for (u32 i = 0; i < 6; i++) {
        u32 p = user_page(HEAP + i * PAGE, P_RW);
        for (u32 k = 0; k < PAGE; k += 4)
            poke(p + k, i * PAGE + k);
        user_page(OTHER + i * PAGE, P_RW);
    }
    u32 missing = physical(OTHER + 3 * PAGE);
    set(OTHER + 3 * PAGE, 0);
    PROGRAM(U_CODE, copy);
    f = user_frame(U_CODE + 2);
    f.esi = HEAP + 0x20, f.edi = OTHER + 0x40, f.ecx = N;
    CHECK_EQ(user_go(&f), V_PF);
    CHECK_EQ(f.eip, U_CODE + 2);
    CHECK_EQ(f.error, 6);
    CHECK_EQ(trap.cr2, OTHER + 3 * PAGE);
    CHECK_EQ(f.edi, OTHER + 3 * PAGE);
    CHECK_EQ(f.esi, HEAP + 3 * PAGE - 0x20);
    CHECK_EQ(f.ecx, N - (3 * PAGE - 0x40) / 4);
    pte_set(OTHER + 3 * PAGE, missing | P_RW);
    CHECK_EQ(user_go(&f), U_DONE);
    CHECK_EQ(f.ecx, 0);
    CHECK_EQ(f.edi, OTHER + 0x40 + N * 4);
    u32 wrong = 0;
    for (u32 i = 0; i < N; i++)
        wrong += peek(physical(OTHER + 0x40 + i * 4) + ((0x40 + i * 4) & 0xfff)) != 0x20 + i * 4;
    CHECK_EQ(wrong, 0);
    section("REP STOS backwards, the page below not writable");
    set(OTHER + PAGE, physical(OTHER + PAGE) | P_RX);
    PROGRAM(U_CODE, fill_back);
    f = user_frame(U_CODE);
    f.edi = OTHER + 2 * PAGE + 99, f.ecx = 200, f.eax = 0xee;
    CHECK_EQ(user_go(&f), V_PF);
    CHECK_EQ(f.error, 7);
    CHECK_EQ(trap.cr2, OTHER + 2 * PAGE - 1);
    CHECK_EQ(f.ecx, 100);
    CHECK_EQ(f.edi, OTHER + 2 * PAGE - 1);
    CHECK_EQ(f.eflags & F_DF, F_DF);
    CHECK_EQ(peek(physical(OTHER + 2 * PAGE)), 0xeeeeeeee);
    section("REP, interrupted by the timer");
    const u32 big = paging_is_pae() ? 2u << 20 : 4u << 20, memory = (u32)pages_alloc(1, 4u << 20); /* one large page */
    memset((void *)memory, 0, big);
    pde_set(0x40000000, memory | P_RW | PTE_PS);
    write_cr3(read_cr3());
    PROGRAM(U_CODE, scan_long);
    user_ticks(200);
    for (u32 i = 0; i < 20; i++) {
        poke8(memory + big - 1 - i, 0x5a);
        f = user_frame(U_CODE);
        f.edi = 0x40000000, f.ecx = big, f.eax = 0x5a;
        CHECK_EQ(user_go(&f), U_DONE);
        CHECK_EQ(f.edi, 0x40000000 + big - i);
        CHECK_EQ(f.ecx, i);
    }
    CHECK(ticks > 3);
    user_ticks(0);
    pde_set(0x40000000, 0);
    write_cr3(read_cr3());
}

/* ---- Addresses at the edges of what user code may have. */
/* The kernel's first large page as small ones, so that a program's can be among them. */
static void small_pages_below(void)
{
    void *table = page_alloc();

    for (u32 i = 0; i < 1024; i++)
        if (!paging_is_pae())
            ((u32 *)table)[i] = i * PAGE | PTE_P | PTE_W;
        else if (i < 512)
            ((u64 *)table)[i] = i * PAGE | PTE_P | PTE_W;
    pde_set(0, (u32)table | P_RW);
    write_cr3(read_cr3());
}

static void edges(void)
{
    static const u32 at[] = {0x1000, 0x7000, 0xf000, 0x10000, 0xbfff0000, 0xbffff000, 0xc0000000, 0xfffe0000,
        0xfffff000};

    section("edges");
    small_pages_below();
    programs();
    for (u32 round = 0; round < 3; round++)
        for (u32 i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
            if (!round)
                PROGRAM(at[i], return_2);
            CHECK_EQ(run(AT_STORE, at[i] + 0xffc, i), U_DONE);
            CHECK_EQ(loaded(at[i] + 0xffc), i);
            CHECK_EQ(peek(physical(at[i]) + 0xffc), i);
            CHECK_EQ(run(AT_CALL, at[i], 0), U_DONE);
            CHECK_EQ(last.eax, 2);
            CHECK_EQ(bits(at[i]), AD);
        }
    for (u32 i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
        set(at[i], 0);
        CHECK_PF(AT_LOAD, at[i], 4, at[i]);
    }
}

void guest_main(void)
{
    for (int pae = 0; pae < 2; pae++) {
        user_start(pae);
        on_demand();
        invalidation();
        rights();
        accessed_and_dirty();
        changing_code();
        address_spaces();
        shared_code();
        middle_of_an_instruction();
        strings();
        edges();
        user_stop();
    }
}
