/* User programs for test guests: see user.h. */
#include "user.h"

static u32 mark, first_mark;
volatile u32 ticks;
void (*user_ticked)(const struct frame *f);
static u32 period;
static struct ring *ring;              /* where user_page() takes pages from */

static void pages_of_a_program(void)
{
    user_page(U_CODE, P_RW);
    user_page(U_DATA, P_RW);
    user_page(U_STACK, P_RW);
    user_page(U_STACK - PAGE, P_RW);
}

static bool tick(struct frame *f)
{
    ticks++;
    if (user_ticked)
        user_ticked(f);
    pic_eoi(0);
    if (period)
        pit_oneshot(period);
    return true;
}

void user_start(bool pae)
{
    const u32 step = pae ? 2u << 20 : 4u << 20;

    ring = NULL;
    if (first_mark)
        pages_release(first_mark);
    first_mark = mark = pages_mark();
    paging_start(pae, pae);
    for (u32 a = 0; a < RAM_SIZE; a += step)
        pde_set(a, pde_get(a) & ~(u64)PTE_U);
    write_cr3(read_cr3());
    write_cr0((read_cr0() & ~(u32)(CR0_TS | CR0_EM)) | CR0_MP | CR0_NE | CR0_WP | CR0_AM);
    write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT);
    on_trap(IRQ_BASE, tick);
    pages_of_a_program();
}

void user_stop(void)
{
    user_ticks(0);
    paging_stop();
}

u32 user_space(void)
{
    u32 before = paging_root(), root = paging_new_space();

    paging_use(root);
    pages_of_a_program();
    paging_use(before);
    return root;
}

u32 user_page(u32 linear, u32 flags)
{
    u32 page = (u32)(ring ? ring->pages + ring->next++ % ring->count * PAGE : page_alloc());

    memset((void *)page, 0, PAGE);
    pte_set(linear, page | flags);
    invlpg(linear);
    return page;
}

struct ring user_ring(u32 count)
{
    return (struct ring){ pages_alloc(count, PAGE), count, 0 };
}

void user_take_from(struct ring *r)
{
    ring = r;
}

void user_load(u32 linear, const u8 *from, const u8 *end)
{
    for (; from < end; from++, linear++)
        poke8(((u32)pte_get(linear) & ~0xfffu) | (linear & 0xfff), *from);
}

void user_program(u32 linear, const u8 *from, const u8 *end)
{
    user_page(linear & ~0xfffu, P_RW);
    user_load(linear, from, end);
}

struct frame user_frame(u32 eip)
{
    return (struct frame){ .eip = eip, .cs = SEL_UCODE, .ss = SEL_UDATA, .ds = SEL_UDATA, .es = SEL_UDATA,
        .fs = SEL_UDATA, .gs = SEL_UDATA,
                           .eflags = F_IF | 2, .esp = U_TOP - 16 };
}

u32 user_go(struct frame *f)
{
    user_enter(f);
    *f = trap_frame;
    return f->vector;
}

u32 user_run_(const u8 *from, const u8 *end, u32 arg, struct frame *f)
{
    user_program(U_CODE, from, end);
    *f = user_frame(U_CODE);
    f->eax = arg;
    return user_go(f);
}

void user_ticks(u32 us)
{
    period = (u32)((u64)us * PIT_HZ / 1000000);
    ticks = 0;
    if (!period) {
        pic_mask(0);
        return;
    }
    pit_oneshot(period);
    pic_unmask(0);
}
