/* Machines made by the API alone, without a kernel: flat 32-bit code at CODE, of either engine. */
#ifndef TESTS_VM_FIXTURE_H
#define TESTS_VM_FIXTURE_H
#include "core/types.h"
#include "transvisor/vm.h"

#include <check.h>
#include <string.h>

#define CODE 0x100000u
#define DEBUG_PORT 0xf4

static const enum vm_engine engines[] = { VM_ENGINE_BT, VM_ENGINE_INTERP };

static inline struct vm_config vm_fixture_config(enum vm_engine engine)
{
    return (struct vm_config){ .size = sizeof(struct vm_config),
                               .firmware = VM_FIRMWARE_NONE,
                               .memory = VM_MEMORY_MIN,
                               .engine = engine,
                               .has_debug_exit = true,
                               .debug_exit = DEBUG_PORT };
}

static inline struct vm *vm_fixture_new(const struct vm_config *cfg)
{
    struct vm_error err;
    struct vm *vm = NULL;
    ck_assert_msg(!vm_create(&vm, cfg, &err), "%s", err.text);
    return vm;
}

/* Protected mode without paging, interrupts off: as a boot loader leaves it. */
static inline struct vm_registers vm_fixture_flat(struct vm *vm, u32 eip)
{
    const struct vm_segment code = { 0x08, 0, 0, 0xffffffff, 0xc09b }, data = { 0x10, 0, 0, 0xffffffff, 0xc093 };
    struct vm_registers r;
    ck_assert_int_eq(0, vm_get_registers(vm, &r));
    r.cs = code;
    r.ds = r.es = r.fs = r.gs = r.ss = data;
    r.cr0 = 0x60000011; /* CD NW ET PE */
    r.eip = eip;
    r.esp = 0x90000;
    r.eflags = 2;
    return r;
}

/* The machine is about to run these bytes. */
static inline void vm_fixture_load(struct vm *vm, const void *code, size_t n)
{
    struct vm_error err;
    struct vm_registers r = vm_fixture_flat(vm, CODE);
    ck_assert_uint_eq(n, vm_write_physical(vm, CODE, code, n));
    ck_assert_msg(!vm_set_registers(vm, &r, &err), "%s", err.text);
}
#define LOAD(vm, ...)                              \
    do {                                           \
        static const u8 bytes[] = { __VA_ARGS__ }; \
        vm_fixture_load(vm, bytes, sizeof bytes);  \
    } while (0)

static inline struct vm_registers vm_fixture_registers(struct vm *vm)
{
    struct vm_registers r;
    ck_assert_int_eq(0, vm_get_registers(vm, &r));
    return r;
}

static inline void vm_fixture_run(struct vm *vm, enum vm_exit want)
{
    struct vm_error err = { "" };
    enum vm_exit got = vm_run(vm, &err);
    ck_assert_msg(got == want, "event %d instead of %d (%s)", (int)got, (int)want, err.text);
}

#endif
