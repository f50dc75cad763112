/* engine_kvm.c and runtime/kvm: the same guests leave the same state and memory under KVM as under the interpreter, and
 * go on under the other at any moment. Where KVM does not run 32-bit guests, that is said soon and in one line, and the
 * translator stands in for it. tests/nested/suite.py runs all of it on a host that has KVM. */
#include "core/host_ns.h"
#include "runtime/run/hostsig.h"
#include "runtime/run/rt.h"

#include <check.h>
#include <signal.h>
#include <string.h>

enum { RAM = 1 << 20, CODE = 0x1000, IDT = 0x2000, DIRECTORY = 0x3000, GDT = 0x4000, DATA = 0x5000, STACK = 0x8000 };
enum { FRAME_BUFFER = 0xe0000000u, ROM = 0xf0000000u, DEVICE = 0xf1000000u, PORT_STOP = 0x80 };

static const char *why_not;            /* NULL: KVM can be had */
static enum rt_engine judged = RT_KVM; /* the translator, where it cannot: so that the tests themselves are tried */

static void stop(void *rt, u32 off, unsigned size, u32 val)
{
    (void)off, (void)size, (void)val;
    rt_stop(rt);
}
static const struct io_ops stop_ops = { .write = stop };

static struct rt *machine(enum rt_engine engine)
{
    struct rt_config cfg = { .ram_size = RAM, .engine = engine, .direct = RT_DIRECT_OFF };
    const char *what;
    struct rt *rt;
    ck_assert_int_eq(rt_new(&rt, &cfg, &what), 0);
    ck_assert_int_eq(bus_map_pio(rt_bus(rt), PORT_STOP, 1, &stop_ops, rt, "stop"), 0);
    return rt;
}

/* Code in flat 32-bit segments of CPL 0, with large pages that map everything to itself. */
static void put_code(struct rt *rt, const void *code, u64 n)
{
    static const u64 gdt[] = { 0, 0x00cf9b000000ffff, 0x00cf93000000ffff };
    const struct seg data = { .sel = 16, .limit = 0xffffffff, .attr = SEG_P | SEG_S | SEG_W | SEG_A | SEG_D | SEG_G };
    struct cpu_arch a;
    const char *field = "";
    u32 directory[1024];
    for (u32 i = 0; i < 1024; i++) directory[i] = i << 22 | 0x83; /* present, writable, large */
    bus_dma_write(rt_bus(rt), CODE, code, n);
    bus_dma_write(rt_bus(rt), GDT, gdt, sizeof gdt);
    bus_dma_write(rt_bus(rt), DIRECTORY, directory, sizeof directory);
    rt_get_state(rt, &a);
    for (unsigned i = 0; i < S_COUNT; i++) a.seg[i] = data;
    a.seg[S_CS].sel = 8;
    a.seg[S_CS].attr |= SEG_CODE;
    a.gdtr = (struct table_reg){ GDT, sizeof gdt - 1 };
    a.idtr = (struct table_reg){ IDT, 0 };
    a.cr0 = CR0_PE | CR0_PG | CR0_NE | CR0_ET | CR0_MP;
    a.cr3 = DIRECTORY;
    a.cr4 = CR4_PSE | CR4_OSFXSR;
    a.eip = CODE;
    a.gpr[G_ESP] = STACK;
    a.gpr[G_EDX] = 0x12345678;
    a.gpr[G_ECX] = 0x9abcdef0;
    a.dr[0] = 0x7000;
    a.fx.fcw = 0x37f;
    a.fx.xmm[1][3] = 0x40; /* 2.0 */
    ck_assert_msg(!rt_set_state(rt, &a, &field), "%s", field);
}
#define PUT_CODE(rt, code) put_code(rt, code, sizeof code)

static void until_stop(struct rt *rt) { ck_assert_int_eq(rt_run(rt), RT_STOPPED); }

/* What the host's kernel or processor keeps in its own way: time, and x87 instruction and operand pointers. */
static struct cpu_arch comparable(struct rt *rt)
{
    struct cpu_arch a;
    rt_get_state(rt, &a);
    a.tsc = 0;
    a.fx.fop = a.fx.fcs = a.fx.fds = 0;
    a.fx.fip = a.fx.fdp = 0;
    return a;
}

static void assert_same_field(const char *name, const void *got, const void *want, size_t n)
{
    const u8 *g = got, *w = want;
    for (size_t i = 0; i < n; i++) ck_assert_msg(g[i] == w[i], "%s, byte %zu: %02x, not %02x", name, i, g[i], w[i]);
}

static void assert_same(const struct cpu_arch *got, const struct cpu_arch *want)
{
#define ARCH(type, name, dim, text) assert_same_field(#name " (" text ")", &got->name, &want->name, sizeof got->name);
#include "core/cpu_arch.def"
#undef ARCH
}

static void assert_same_data(struct rt *a, struct rt *b)
{
    u8 x[PAGE_SIZE], y[PAGE_SIZE];
    bus_dma_read(rt_bus(a), DATA, x, sizeof x);
    bus_dma_read(rt_bus(b), DATA, y, sizeof y);
    for (unsigned i = 0; i < sizeof x; i++) ck_assert_msg(x[i] == y[i], "byte %x: %02x, not %02x", i, x[i], y[i]);
}

/* ---- guests ---- */

/* Each round uses all kinds of state, and stops. */
static const u8 rounds[] = {
    0xd9, 0xe8,      0xd9, 0xeb, 0xde, 0xc1,       /* fld1; fldpi; faddp */
    0xdd, 0x1d,      0,    0x50, 0,    0,          /* fstp qword [DATA] */
    0x0f, 0x58,      0xc1,                         /* addps xmm0, xmm1 */
    0x01, 0xd0,      0x11, 0xcb,                   /* add eax, edx; adc ebx, ecx */
    0x1e, 0x07,                                    /* push ds; pop es */
    0x0f, 0x21,      0xc6, 0x46, 0x0f, 0x23, 0xc6, /* mov esi, dr0; inc esi; mov dr0, esi */
    0xd1, 0xc2,                                    /* rol edx, 1 */
    0x9c, 0x8f,      0x05, 0x10, 0x50, 0,    0,    /* pushf; pop [DATA+10h] */
    0x45,                                          /* inc ebp */
    0xe6, PORT_STOP,                               /* out */
    0xeb, 0xd6                                     /* jmp to the beginning */
};

/* CPUID and model-specific registers, into memory. */
static const u8 model[] = {
    0xbf, 0,        0x50, 0,    0,                                        /* mov edi, DATA */
    0x31, 0xf6,                                                           /* xor esi, esi */
    0x89, 0xf0,     0x31, 0xc9, 0x0f, 0xa2,                               /* mov eax, esi; xor ecx, ecx; cpuid */
    0xab, 0x89,     0xd8, 0xab, 0x89, 0xc8, 0xab, 0x89, 0xd0, 0xab,       /* store eax, ebx, ecx, edx */
    0x46, 0x83,     0xfe, 0x0c, 0x75, 0xea,                               /* inc esi; cmp esi, 12; jne */
    0xb9, 0x77,     0x02, 0,    0,    0x0f, 0x32, 0xab, 0x89, 0xd0, 0xab, /* rdmsr IA32_PAT */
    0xb9, 0xfe,     0,    0,    0,    0x0f, 0x32, 0xab,                   /* rdmsr IA32_MTRRCAP */
    0xb9, 0x1b,     0,    0,    0,    0x0f, 0x32, 0xab,                   /* rdmsr IA32_APIC_BASE */
    0xb9, 0xa0,     0x01, 0,    0,    0x0f, 0x32, 0xab,                   /* rdmsr IA32_MISC_ENABLE */
    0xb8, 0x78,     0x56, 0x34, 0x12, 0x31, 0xd2,                         /* mov eax, 12345678h; xor edx, edx */
    0xb9, 0x75,     0x01, 0,    0,    0x0f, 0x30,                         /* wrmsr IA32_SYSENTER_ESP */
    0xb8, 0,        0x08, 0,    0,                                        /* mov eax, EFER.NXE */
    0xb9, 0x80,     0,    0,    0xc0, 0x0f, 0x30,                         /* wrmsr IA32_EFER */
    0xe6, PORT_STOP
};

/* A frame buffer, a ROM and a device. */
static const u8 memories[] = { 0xc6, 0x05,     0x10, 0x30, 0,    0xe0, 0x5a, /* mov byte [FRAME_BUFFER+3010h], 5Ah */
                               0xa1, 0x04,     0,    0,    0xf0,             /* mov eax, [ROM+4] */
                               0xc7, 0x05,     0x04, 0,    0,    0xf0, 0,    0, 0, 0, /* mov dword [ROM+4], 0 */
                               0x8b, 0x1d,     0x04, 0,    0,    0xf0,                /* mov ebx, [ROM+4] */
                               0x0f, 0xb7,     0x0d, 0x08, 0,    0,    0xf1,          /* movzx ecx, word [DEVICE+8] */
                               0x88, 0x0d,     0x0c, 0,    0,    0xf1,                /* mov [DEVICE+0Ch], cl */
                               0xe6, PORT_STOP };

/* ---- */

START_TEST(a_host_without_it_says_so_within_a_second)
{
    struct rt_config cfg = { .ram_size = RAM, .engine = RT_KVM };
    const char *what = NULL;
    struct rt *rt = NULL;
    u64 begin = host_ns(CLOCK_MONOTONIC);
    int rc = rt_new(&rt, &cfg, &what);
    ck_assert_int_lt((int)((host_ns(CLOCK_MONOTONIC) - begin) / 1000000), 20000); /* of a host that may be busy */
    ck_assert_int_eq(rc != 0, why_not != NULL);
    if (rc) ck_assert_msg(strstr(what, "KVM") || strstr(what, "/dev/kvm"), "%s", what);
    rt_free(rt);
}
END_TEST

START_TEST(the_same_program_leaves_the_same_state_and_memory)
{
    struct rt *kvm = machine(judged), *interp = machine(RT_INTERP);
    PUT_CODE(kvm, rounds);
    PUT_CODE(interp, rounds);
    for (unsigned i = 0; i < 20; i++) {
        until_stop(kvm);
        until_stop(interp);
        struct cpu_arch got = comparable(kvm), want = comparable(interp);
        assert_same(&got, &want);
        assert_same_data(kvm, interp);
    }
    rt_free(kvm);
    rt_free(interp);
}
END_TEST

START_TEST(a_machine_goes_on_under_another_engine_and_back)
{
    const enum rt_engine engines[] = { judged, RT_BT, RT_INTERP };
    struct rt *rt[3], *alone = machine(RT_INTERP);
    const char *field = "";
    for (unsigned i = 0; i < 3; i++) {
        rt[i] = machine(engines[i]);
        PUT_CODE(rt[i], rounds);
    }
    PUT_CODE(alone, rounds);
    struct rt *now = rt[0];
    for (unsigned i = 0; i < 30; i++) {
        u8 page[PAGE_SIZE];
        struct cpu_arch a;
        until_stop(now);
        until_stop(alone);
        struct cpu_arch got = comparable(now), want = comparable(alone);
        assert_same(&got, &want);
        rt_get_state(now, &a);
        bus_dma_read(rt_bus(now), DATA, page, sizeof page);
        now = rt[(i + 1) % 3];
        bus_dma_write(rt_bus(now), DATA, page, sizeof page);
        ck_assert_msg(!rt_set_state(now, &a, &field), "%s", field);
    }
    ck_assert_uint_eq(comparable(now).gpr[G_EBP], 30);
    for (unsigned i = 0; i < 3; i++) rt_free(rt[i]);
    rt_free(alone);
}
END_TEST

START_TEST(cpuid_and_model_specific_registers_are_the_models)
{
    struct rt *kvm = machine(judged), *interp = machine(RT_INTERP);
    PUT_CODE(kvm, model);
    PUT_CODE(interp, model);
    until_stop(kvm);
    until_stop(interp);
    struct cpu_arch got = comparable(kvm), want = comparable(interp);
    assert_same_data(kvm, interp);
    assert_same(&got, &want);
    ck_assert_uint_eq(got.efer, EFER_NXE);
    rt_free(kvm);
    rt_free(interp);
}
END_TEST

static u32 device_read(void *dev, u32 off, unsigned size) { return off == 8 && size == 2 ? *(u32 *)dev : 0; }
static void device_write(void *dev, u32 off, unsigned size, u32 val) { *(u32 *)dev = off << 16 | size << 8 | val; }

START_TEST(rom_devices_and_dirty_logs_are_served)
{
    static const struct io_ops ops = { .read = device_read, .write = device_write };
    static u8 rom[PAGE_SIZE] = { [4] = 0x44, 0x33, 0x22, 0x11 };
    struct rt *rt = machine(judged);
    struct bus *b = rt_bus(rt);
    struct bus_ram *frame;
    struct dirty_log *log;
    u64 bits = 0;
    u32 register_of = 0xbeef;
    ck_assert_int_eq(bus_ram_new(&frame, b, 16 * PAGE_SIZE), 0);
    ck_assert_int_eq(bus_map_ram(b, FRAME_BUFFER, frame, "frame"), 0);
    ck_assert_int_eq(bus_map_rom(b, ROM, sizeof rom, rom, "rom"), 0);
    ck_assert_int_eq(bus_map_mmio(b, DEVICE, PAGE_SIZE, &ops, &register_of, "device"), 0);
    ck_assert_int_eq(dirty_log_new(&log, b, frame), 0);
    PUT_CODE(rt, memories);
    until_stop(rt);
    struct cpu_arch a = comparable(rt);
    ck_assert_uint_eq(a.gpr[G_EAX], 0x11223344);
    ck_assert_uint_eq(a.gpr[G_EBX], 0x11223344);
    ck_assert_uint_eq(a.gpr[G_ECX], 0xbeef);
    ck_assert_uint_eq(register_of, 0xc << 16 | 1 << 8 | 0xef);
    ck_assert_uint_eq(bus_ram_host(frame)[0x3010], 0x5a);
    ck_assert_uint_eq(dirty_log_take(log, &bits), 1);
    ck_assert_uint_eq(bits, 1 << 3);
    dirty_log_free(log);
    bus_ram_free(frame);
    rt_free(rt);
}
END_TEST

START_TEST(steps_and_breakpoints_are_met)
{
    struct rt *kvm = machine(judged), *interp = machine(RT_INTERP);
    PUT_CODE(kvm, rounds);
    PUT_CODE(interp, rounds);
    until_stop(kvm);
    until_stop(interp);
    for (unsigned i = 0; i < 10; i++) {
        ck_assert_int_eq(rt_step(kvm, false), RT_STEPPED);
        ck_assert_int_eq(rt_step(interp, false), RT_STEPPED);
        struct cpu_arch got = comparable(kvm), want = comparable(interp);
        assert_same(&got, &want);
    }
    ck_assert_int_eq(rt_break_add(kvm, RT_BREAK_FETCH, CODE, 1), 0);
    until_stop(kvm);
    ck_assert_int_eq(rt_run(kvm), RT_BREAK);
    ck_assert_uint_eq(comparable(kvm).eip, CODE);
    rt_break_remove_all(kvm);
    until_stop(kvm);
    ck_assert_uint_eq(comparable(kvm).gpr[G_EBP], 3);
    rt_free(kvm);
    rt_free(interp);
}
END_TEST

/* One that comes after the last look at cpu->kick and before the guest is entered: KVM looks at this byte. */
START_TEST(a_kick_by_signal_is_left_where_kvm_sees_it)
{
    volatile u8 leave = 0;
    struct rt *rt = machine(judged);
    ck_assert_int_eq(hostsig_install(), 0);
    ck_assert_int_eq(hostsig_attach(&(struct hostsig_cpu){ .cpu = rt_cpu(rt), .leave = &leave }), 0);
    rt_cpu(rt)->kick = 0;
    ck_assert_int_eq(raise(hostsig_kick_signo()), 0);
    ck_assert_uint_eq(rt_cpu(rt)->kick, 1);
    ck_assert_uint_eq(leave, 1);
    hostsig_detach();
    rt_free(rt);
}
END_TEST

START_TEST(a_triple_fault_ends_it)
{
    static const u8 code[] = { 0x0f, 0x0b };
    struct rt *rt = machine(judged);
    PUT_CODE(rt, code);
    ck_assert_int_eq(rt_run(rt), RT_SHUTDOWN);
    rt_free(rt);
}
END_TEST

START_TEST(a_processor_without_cpuid_is_refused)
{
    struct rt_config cfg = { .ram_size = RAM, .engine = RT_KVM, .cpu_model = "386" };
    const char *what = "";
    struct rt *rt;
    ck_assert_int_ne(rt_new(&rt, &cfg, &what), 0);
    ck_assert_msg(strstr(what, "CPUID"), "%s", what);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("kvm");
    TCase *t = tcase_create("kvm");
    struct rt_kvm probe;
    const char *why;
    if (rt_kvm_probe(&probe, &why)) why_not = why, judged = RT_BT;
    if (why_not) printf("the translator stands in: %s\n", why_not);
    tcase_add_test(t, a_host_without_it_says_so_within_a_second);
    tcase_add_test(t, the_same_program_leaves_the_same_state_and_memory);
    tcase_add_test(t, a_machine_goes_on_under_another_engine_and_back);
    tcase_add_test(t, cpuid_and_model_specific_registers_are_the_models);
    tcase_add_test(t, rom_devices_and_dirty_logs_are_served);
    tcase_add_test(t, steps_and_breakpoints_are_met);
    tcase_add_test(t, a_kick_by_signal_is_left_where_kvm_sees_it);
    tcase_add_test(t, a_triple_fault_ends_it);
    if (!why_not) tcase_add_test(t, a_processor_without_cpuid_is_refused);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
