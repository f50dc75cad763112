/* probes.c and what tells it: each engine tells of the same events, in the same order, with the same values; what is
 * counted in line is what is counted one by one; and what a function answers happens. */
#include "tests/unit/small_guest.h"

#include <errno.h>

#define EVENTS_MAX 4096u

struct told {
    struct rt_event e;
    u32 eax;
    u64 insns; /* retired before */
};
static struct told told[2][EVENTS_MAX];
static unsigned ntold, into; /* told[into] has ntold */
static bool counting;        /* or the translator does not know how many */

static unsigned event_of(const char *name)
{
    unsigned i = 0;
    for (const char *n; (n = rt_event_name(i, NULL)) && strcmp(n, name);) i++;
    ck_assert_msg(rt_event_name(i, NULL) != NULL, "there is no event %s", name);
    return i;
}

static enum rt_verdict note(void *arg, const struct rt_event *e, struct cpu_arch *cpu)
{
    (void)arg;
    ck_assert_uint_lt(ntold, EVENTS_MAX);
    told[into][ntold].e = *e;
    told[into][ntold].insns = counting ? rt_instructions(rt) : 0;
    told[into][ntold++].eax = cpu->gpr[G_EAX];
    return RT_GO;
}

static struct rt_probe probe_of(const char *event)
{
    return (struct rt_probe){ .event = event_of(event), .to = UINT64_MAX, .cpls = 0xf, .cls = -1, .vector = -1 };
}

static unsigned add(const struct rt_probe *p)
{
    unsigned id = ~0u;
    ck_assert_int_eq(rt_probe_add(rt, p, &id), 0);
    return id;
}

static unsigned tell_of(const char *event)
{
    struct rt_probe p = probe_of(event);
    p.fn = note;
    return add(&p);
}

/* A loop with memory, REP, CPUID, a page fault that is repaired, user code with a system call, a port. */
__asm__(".pushsection .rodata\n"
        "probe_guest:\n"
        ".code32\n"
        "        movl $7, %ecx\n"
        "1:      addl %ecx, 0x30010\n"
        "        leal 1(%eax), %eax\n"
        "        decl %ecx\n"
        "        jnz 1b\n"
        "        movl $0x30010, %esi\n"
        "        movl $0x30800, %edi\n"
        "        movl $3, %ecx\n"
        "        rep movsl\n"
        "        cpuid\n"
        "        movl $5, %eax\n"
        "        addl 0x50000, %eax\n" /* #PF, repaired */
        "        movl %cr3, %edx\n"
        "        movl %edx, %cr3\n"
        "        fld1\n"
        "        fstp %st(0)\n"
        "        movl $0x33, %edx\n"
        "        movl %edx, %ds\n"
        "        pushl $0x33\n"
        "        pushl $0x38000\n"
        "        pushl $0x3202\n" /* IOPL 3 */
        "        pushl $0x2b\n"
        "        pushl $(3f - probe_guest + 0x10000)\n"
        "        iretl\n"
        "3:      movl $20, %eax\n" /* CPL 3 */
        "        int $0x80\n"
        "        addl $1, %eax\n"
        "        movb %al, 0x30011\n"
        "        outl %eax, $0xf4\n"
        "        jmp .\n"
        "4:      movl $77, %eax\n" /* INT 80h */
        "        iretl\n"
        "5:      movl $0x50007, 0x21140\n" /* #PF */
        "        addl $4, %esp\n"
        "        iretl\n"
        "probe_end:\n"
        ".globl probe_handlers\n"
        "probe_handlers: .long 4b - probe_guest, 5b - probe_guest, 3b - probe_guest, 1b - probe_guest\n"
        ".code64\n"
        ".popsection\n");
extern const u8 probe_guest[], probe_end[];
extern const u32 probe_handlers[];

static void start_probed(int which)
{
    start(which);
    put(CODE, probe_guest, (unsigned)(probe_end - probe_guest));
    with_user_code(CODE + probe_handlers[0], CODE + probe_handlers[1]);
    ntold = 0;
}

static void check_same(const char *what)
{
    for (unsigned i = 0; i < ntold; i++) {
        const struct told *a = &told[0][i], *b = &told[1][i];
        ck_assert_msg(
            a->e.event == b->e.event && a->e.la == b->e.la && a->e.address == b->e.address && a->e.value == b->e.value
                && a->e.size == b->e.size && a->e.error == b->e.error && a->eax == b->eax,
            "%s %u: event %u at %x address %llx value %llx size %u eax %x instead of %u %x %llx %llx %u %x", what, i,
            b->e.event, b->e.la, (unsigned long long)b->e.address, (unsigned long long)b->e.value, b->e.size, b->eax,
            a->e.event, a->e.la, (unsigned long long)a->e.address, (unsigned long long)a->e.value, a->e.size, a->eax);
        ck_assert_msg(a->insns == b->insns, "%s %u at %x: after %llu instructions instead of %llu", what, i, b->e.la,
                      (unsigned long long)b->insns, (unsigned long long)a->insns);
    }
}

/* What n probes are told under the interpreter and under engine `which`; how often is returned. */
static unsigned compare(int which, const struct rt_probe *p, unsigned n, const char *what)
{
    unsigned first = 0;
    for (into = 0; into < 2; into++) {
        start_probed(into ? which : 0);
        rt_count(rt, counting);
        for (unsigned i = 0; i < n; i++) (void)add(&p[i]);
        (void)run();
        ck_assert_uint_eq(out_value, 78);
        if (!into) first = ntold;
        end();
    }
    into = 0;
    ck_assert_msg(ntold == first, "%s: told %u times instead of %u", what, ntold, first);
    check_same(what);
    return first;
}

START_TEST(each_engine_tells_the_same_of_each_event)
{
    static const struct {
        const char *event;
        u64 from, to;
        unsigned times;
    } of[] = {
        { "insn", 0, ~0ull, 0 },
        { "read", 0x30010, 0x3001f, 7 + 3 },  /* the loop, and REP MOVSD's source */
        { "write", 0x30010, 0x30013, 7 + 1 }, /* the loop, and the byte */
        { "write", 0x30804, 0x30807, 1 },     /* REP MOVSD */
        { "out", 0xf4, 0xf4, 1 },
        { "exception", 0, ~0ull, 1 },
        { "cr3", 0, ~0ull, 1 },
        { "syscall", 0, ~0ull, 1 },
        { "sysret", 0, ~0ull, 1 },
        { "in", 0, ~0ull, 0 + 0 },
    };
    for (unsigned i = 0; i < 2 * ARRAY_LEN(of); i++) {
        counting = i >= ARRAY_LEN(of);
        unsigned k = i % ARRAY_LEN(of);
        struct rt_probe p = probe_of(of[k].event);
        p.from = of[k].from, p.to = of[k].to, p.fn = note;
        unsigned n = compare(_i, &p, 1, of[k].event);
        if (of[k].times) ck_assert_msg(n == of[k].times, "%s: %u times instead of %u", of[k].event, n, of[k].times);
    }
}
END_TEST

START_TEST(many_probes_are_told_in_one_order)
{
    struct rt_probe p[] = { probe_of("insn"), probe_of("insn"), probe_of("read"), probe_of("exception"),
                            probe_of("sysret") };
    for (unsigned i = 0; i < ARRAY_LEN(p); i++) p[i].fn = note;
    p[1].cls = -1, p[1].op = rt_mnemonic("ADD");
    p[2].from = 0x30000, p[2].to = 0x30fff;
    ck_assert_uint_gt(compare(_i, p, ARRAY_LEN(p), "all"), 60);
}
END_TEST

START_TEST(what_an_event_says_is_what_happens)
{
    start_probed(_i);
    (void)tell_of("syscall");
    (void)tell_of("sysret");
    (void)tell_of("exception");
    (void)run();
    ck_assert_uint_eq(ntold, 3);
    ck_assert_uint_eq(told[0][0].e.value, V_PF);
    ck_assert_uint_eq(told[0][0].e.address, 0x50000);
    ck_assert_uint_eq(told[0][1].e.la, CODE + probe_handlers[2] + 5);
    ck_assert_uint_eq(told[0][1].e.value, 20);
    ck_assert_uint_eq(told[0][2].e.la, CODE + probe_handlers[2] + 7);
    ck_assert_uint_eq(told[0][2].e.value, 77);
    end();
}
END_TEST

START_TEST(counts_in_line_are_what_one_by_one_gives)
{
    static const char *const names[] = { NULL, "add", "DEC", "int", "iret", "cpuid", "movs", "lea", "fld1" };
    u64 one_by_one[ARRAY_LEN(names)];
    for (unsigned pass = 0; pass < 2; pass++) {
        unsigned id[ARRAY_LEN(names)];
        start_probed(pass ? _i : 0);
        for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
            struct rt_probe p = probe_of("insn");
            p.op = names[i] ? rt_mnemonic(names[i]) : 0;
            ck_assert(!names[i] || p.op);
            id[i] = add(&p);
        }
        rt_count(rt, true);
        (void)run();
        for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
            if (!pass) one_by_one[i] = rt_probe_hits(rt, id[i]);
            ck_assert_msg(rt_probe_hits(rt, id[i]) == one_by_one[i], "%s: %llu instead of %llu",
                          names[i] ? names[i] : "all", (unsigned long long)rt_probe_hits(rt, id[i]),
                          (unsigned long long)one_by_one[i]);
        }
        ck_assert_uint_eq(rt_probe_hits(rt, id[0]), rt_instructions(rt));
        ck_assert_uint_eq(rt_probe_hits(rt, id[2]), 7);
        ck_assert_uint_eq(rt_probe_hits(rt, id[6]), 1);
        end();
    }
}
END_TEST

START_TEST(blocks_are_counted_and_told_alike)
{
    struct rt_probe p = probe_of("block");
    start_probed(_i);
    unsigned counted = add(&p);
    p.fn = note;
    unsigned called = add(&p);
    p.from = p.to = CODE + probe_handlers[3]; /* the loop: it is entered by its jump */
    unsigned loop = add(&p);
    (void)run();
    ck_assert_uint_eq(out_value, 78);
    ck_assert_uint_eq(rt_probe_hits(rt, counted), rt_probe_hits(rt, called));
    ck_assert_uint_ge(rt_probe_hits(rt, counted), 12);
    ck_assert_uint_eq(rt_probe_hits(rt, loop), 6);
    end();
}
END_TEST

/* With a limit all is counted when a block is entered, else where flags do not matter: behind what may fault. */
START_TEST(a_block_that_is_left_early_was_entered)
{
    u64 hits[2], insns[2];
    for (unsigned limited = 0; limited < 2; limited++) {
        start_probed(_i);
        struct rt_probe p = probe_of("block");
        unsigned blocks = add(&p);
        p = probe_of("insn");
        unsigned all = add(&p);
        if (limited) rt_limit(rt, 1u << 20);
        (void)run();
        hits[limited] = rt_probe_hits(rt, blocks);
        insns[limited] = rt_probe_hits(rt, all);
        end();
    }
    ck_assert_uint_eq(hits[0], hits[1]);
    ck_assert_uint_eq(insns[0], insns[1]);
}
END_TEST

static enum rt_verdict skip(void *arg, const struct rt_event *e, struct cpu_arch *cpu)
{
    (void)arg, (void)e;
    cpu->gpr[G_EAX] = 1234;
    return RT_SKIP;
}

START_TEST(an_instruction_that_is_skipped_is_not_done_and_not_counted)
{
    static const char *const names[] = { "int", "lea" };
    for (unsigned i = 0; i < 2; i++) {
        start_probed(_i);
        struct rt_probe p = probe_of("insn"), counted = p;
        p.op = counted.op = rt_mnemonic(names[i]);
        p.fn = skip;
        unsigned count = add(&counted), id = add(&p);
        rt_count(rt, true);
        (void)run();
        ck_assert_uint_eq(rt_probe_hits(rt, id), i ? 7 : 1);
        ck_assert_uint_eq(rt_probe_hits(rt, count), 0);
        ck_assert_uint_eq(out_value, i ? 78 : 1235);
        end();
    }
}
END_TEST

static enum rt_verdict change(void *arg, const struct rt_event *e, struct cpu_arch *cpu)
{
    (void)arg, (void)e;
    cpu->gpr[G_EAX] = 100;
    return RT_GO;
}

START_TEST(a_register_that_is_changed_is_changed)
{
    start_probed(_i);
    struct rt_probe p = probe_of("sysret");
    p.fn = change;
    (void)add(&p);
    (void)run();
    ck_assert_uint_eq(out_value, 101);
    end();
}
END_TEST

static enum rt_verdict stop(void *arg, const struct rt_event *e, struct cpu_arch *cpu)
{
    (void)arg, (void)e, (void)cpu;
    return RT_STOP;
}

START_TEST(a_stop_is_behind_the_instruction_and_the_guest_goes_on)
{
    static const char *const events[] = { "insn", "write", "out", "block" };
    for (unsigned i = 0; i < ARRAY_LEN(events); i++) {
        start_probed(_i);
        struct rt_probe p = probe_of(events[i]);
        p.fn = stop;
        if (!i) p.op = rt_mnemonic("LEA");
        if (i == 1) p.from = 0x30010, p.to = 0x30013;
        if (i == 3) p.from = p.to = CODE + probe_handlers[3];
        unsigned id = add(&p), times = 0;
        rt_update(rt);
        enum rt_exit why;
        while ((why = rt_run(rt)) == RT_PROBE) {
            ck_assert_uint_eq(rt_probe_met(rt), id);
            if (i == 1 && times < 7) ck_assert_uint_eq(c->eip, CODE + probe_handlers[3] + 6);
            if (!i) ck_assert_uint_eq(c->gpr[G_EAX], times + 1);
            times++;
            ck_assert_uint_lt(times, 20);
        }
        ck_assert_int_eq(why, RT_STOPPED);
        ck_assert_uint_eq(out_value, 78);
        /* The end, by the port, is before its stop. */
        ck_assert_uint_eq(times, i == 0 ? 7 : i == 1 ? 8 : i == 2 ? 0 : 6);
        end();
    }
}
END_TEST

START_TEST(a_probe_that_is_gone_leaves_nothing)
{
    start_probed(_i);
    unsigned a = tell_of("insn"), b = tell_of("exception");
    ck_assert_int_eq(rt_probe_remove(rt, a), 0);
    ck_assert_int_eq(rt_probe_remove(rt, b), 0);
    ck_assert_int_eq(rt_probe_remove(rt, b), -ENOENT);
    ck_assert(!rt->cpu->probes && !rt->tap.on);
    (void)run();
    ck_assert_uint_eq(ntold, 0);
    end();
}
END_TEST

START_TEST(what_cannot_be_is_refused)
{
    unsigned id;
    start_probed(_i);
    struct rt_probe p = probe_of("read");
    ck_assert_int_eq(rt_probe_add(rt, &p, &id), -E2BIG);
    p.from = 2, p.to = 1;
    ck_assert_int_eq(rt_probe_add(rt, &p, &id), -EINVAL);
    p = probe_of("insn");
    for (unsigned i = 0; i < PROBES_MAX; i++) (void)add(&p);
    ck_assert_int_eq(rt_probe_add(rt, &p, &id), -ENOSPC);
    end();
}
END_TEST

SMALL_GUEST_SUITE("probes", 60, each_engine_tells_the_same_of_each_event, many_probes_are_told_in_one_order,
                  what_an_event_says_is_what_happens, counts_in_line_are_what_one_by_one_gives,
                  blocks_are_counted_and_told_alike, a_block_that_is_left_early_was_entered,
                  an_instruction_that_is_skipped_is_not_done_and_not_counted, a_register_that_is_changed_is_changed,
                  a_stop_is_behind_the_instruction_and_the_guest_goes_on, a_probe_that_is_gone_leaves_nothing,
                  what_cannot_be_is_refused)
