/* A debugger's breakpoints, by the API: which accesses and fetches meet them, that guest and guest memory do not
 * notice, steps, and time while a machine stands. Both engines. */
#include "runtime/mem/breaks.h"
#include "runtime/mem/watch.h"
#include "tests/unit/vm_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#define DATA 0x200000u

/* ---- the set ---- */

START_TEST(a_set_knows_pages_fetches_and_accesses)
{
    struct breaks b = { 0 };
    const struct break_point code = { 0x1010, 1, WATCH_FETCHES }, across = { 0x2ffe, 4, WATCH_WRITES },
                             last = { 0xfffffffc, 4, WATCH_READS };
    ck_assert_int_eq(0, breaks_add(&b, across));
    ck_assert_int_eq(0, breaks_add(&b, code));
    ck_assert_int_eq(0, breaks_add(&b, last));
    ck_assert_int_eq(-EEXIST, breaks_add(&b, code));
    ck_assert_int_eq(-EINVAL, breaks_add(&b, (struct break_point){ 0, 0, WATCH_READS }));
    ck_assert_int_eq(-EINVAL, breaks_add(&b, (struct break_point){ 0, BREAK_BYTES_MAX + 1, WATCH_READS }));
    ck_assert_int_eq(-EINVAL, breaks_add(&b, (struct break_point){ 0xffffffff, 2, WATCH_READS }));
    ck_assert_uint_eq(breaks_kinds(&b, 0x1fff), WATCH_FETCHES);
    ck_assert_uint_eq(breaks_kinds(&b, 0x2000), WATCH_WRITES);
    ck_assert_uint_eq(breaks_kinds(&b, 0x3000), WATCH_WRITES);
    ck_assert_uint_eq(breaks_kinds(&b, 0x4000), 0);
    ck_assert_uint_eq(breaks_kinds(&b, 0xfffff000), WATCH_READS);
    ck_assert(breaks_code(&b, 0x1010) && !breaks_code(&b, 0x1011) && !breaks_code(&b, 0x2ffe));
    ck_assert_uint_eq(breaks_next_code(&b, 0x1000), 0x1010);
    ck_assert_uint_eq(breaks_next_code(&b, 0x1010), 0);
    ck_assert_ptr_nonnull(breaks_data(&b, 0x3001, 1, WATCH_WRITES));
    ck_assert_ptr_null(breaks_data(&b, 0x3002, 4, WATCH_WRITES));
    ck_assert_ptr_null(breaks_data(&b, 0x3001, 1, WATCH_READS));
    ck_assert_ptr_null(breaks_data(&b, 0x2ffd, 1, WATCH_WRITES));
    ck_assert_ptr_nonnull(breaks_data(&b, 0x2000, 0x1000, WATCH_WRITES | WATCH_READS));
    ck_assert_ptr_nonnull(breaks_data(&b, 0xffffffff, 1, WATCH_READS));
    ck_assert_int_eq(0, breaks_remove(&b, across));
    ck_assert_int_eq(-ENOENT, breaks_remove(&b, across));
    ck_assert_uint_eq(b.data, 1);
    ck_assert_uint_eq(breaks_kinds(&b, 0x2000), 0);
    breaks_free(&b);
}
END_TEST

/* ---- machines ---- */

static struct vm *new_machine(unsigned engine)
{
    const struct vm_config cfg = vm_fixture_config(engines[engine]);
    return vm_fixture_new(&cfg);
}

static void expect_break(struct vm *vm, unsigned kinds, u32 address, u32 eip)
{
    unsigned k;
    u32 la, bytes;
    vm_fixture_run(vm, VM_EXIT_BREAK);
    vm_break_met(vm, &k, &la, &bytes);
    ck_assert_uint_eq(k, kinds);
    ck_assert_uint_eq(la, address);
    ck_assert_uint_eq(vm_fixture_registers(vm).eip, eip);
}

/*  0: mov ecx,1000   5: inc dword [DATA]   b: mov eax,[DATA+8]   10: dec ecx   11: jnz 5   13: out f4,al */
#define LOOP \
    0xb9, 0xe8, 3, 0, 0, 0xff, 0x05, 0, 0, 0x20, 0, 0xa1, 8, 0, 0x20, 0, 0x49, 0x75, 0xf2, 0xe6, 0xf4, 0xeb, 0xfe

START_TEST(a_fetch_is_met_before_the_instruction_each_time_and_passed_when_asked)
{
    struct vm *vm = new_machine((unsigned)_i);
    LOAD(vm, LOOP);
    ck_assert_int_eq(0, vm_break_add(vm, VM_BREAK_FETCH, CODE + 0x10, 1));
    for (u32 left = 1000; left > 995; left--) {
        expect_break(vm, VM_BREAK_FETCH, CODE + 0x10, CODE + 0x10);
        ck_assert_uint_eq(vm_fixture_registers(vm).ecx, left);
        vm_break_pass(vm);
    }
    expect_break(vm, VM_BREAK_FETCH, CODE + 0x10, CODE + 0x10);
    expect_break(vm, VM_BREAK_FETCH, CODE + 0x10, CODE + 0x10); /* not passed: met again */
    ck_assert_uint_eq(vm_fixture_registers(vm).ecx, 995);
    ck_assert_int_eq(0, vm_break_remove(vm, VM_BREAK_FETCH, CODE + 0x10, 1));
    ck_assert_int_eq(-ENOENT, vm_break_remove(vm, VM_BREAK_FETCH, CODE + 0x10, 1));
    vm_fixture_run(vm, VM_EXIT_DEBUG);
    ck_assert_uint_eq(vm_fixture_registers(vm).ecx, 0);
    vm_free(vm);
}
END_TEST

START_TEST(accesses_are_met_behind_their_instruction)
{
    struct vm *vm = new_machine((unsigned)_i);
    LOAD(vm, LOOP);
    ck_assert_int_eq(0, vm_break_add(vm, VM_BREAK_WRITE, DATA + 3, 1));
    ck_assert_int_eq(0, vm_break_add(vm, VM_BREAK_READ, DATA + 8, 1));
    for (unsigned i = 0; i < 300; i++) {
        expect_break(vm, VM_BREAK_WRITE, DATA + 3, CODE + 0xb);
        expect_break(vm, VM_BREAK_READ, DATA + 8, CODE + 0x10);
    }
    ck_assert_int_eq(0, vm_break_remove_all(vm));
    ck_assert_int_eq(0, vm_break_add(vm, VM_BREAK_READ, DATA, 1)); /* INC reads as well */
    expect_break(vm, VM_BREAK_READ, DATA, CODE + 0xb);
    ck_assert_int_eq(0, vm_break_remove_all(vm));
    ck_assert_int_eq(0, vm_break_add(vm, VM_BREAK_READ, DATA + 0x20, 16)); /* in the page, and never met */
    vm_fixture_run(vm, VM_EXIT_DEBUG);
    u32 count;
    ck_assert_uint_eq(4, vm_read_physical(vm, DATA, &count, 4));
    ck_assert_uint_eq(count, 1000);
    vm_free(vm);
}
END_TEST

START_TEST(the_guests_own_debug_registers_stay_its_own)
{
    struct vm *vm = new_machine((unsigned)_i);
    LOAD(vm, LOOP);
    ck_assert_int_eq(0, vm_break_add(vm, VM_BREAK_FETCH, CODE + 0x10, 1));
    ck_assert_int_eq(0, vm_break_add(vm, VM_BREAK_WRITE, DATA, 4));
    const struct vm_registers before = vm_fixture_registers(vm);
    expect_break(vm, VM_BREAK_WRITE, DATA, CODE + 0xb);
    expect_break(vm, VM_BREAK_FETCH, CODE + 0x10, CODE + 0x10);
    const struct vm_registers after = vm_fixture_registers(vm);
    ck_assert_mem_eq(before.dr, after.dr, sizeof before.dr);
    vm_free(vm);
}
END_TEST

START_TEST(a_step_is_one_instruction_or_one_iteration)
{
    /* 0: mov ecx,3   5: mov edi,DATA   a: rep stosb   c: hlt-free end: jmp . */
    struct vm *vm = new_machine((unsigned)_i);
    struct vm_error err;
    LOAD(vm, 0xb9, 3, 0, 0, 0, 0xbf, 0, 0, 0x20, 0, 0xf3, 0xaa, 0xeb, 0xfe);
    static const u32 want[][2] = { { 5, 3 }, { 0xa, 3 }, { 0xa, 2 }, { 0xa, 1 }, { 0xc, 0 }, { 0xc, 0 } };
    for (unsigned i = 0; i < ARRAY_LEN(want); i++) {
        ck_assert_int_eq(vm_step(vm, false, &err), VM_EXIT_STEPPED);
        const struct vm_registers r = vm_fixture_registers(vm);
        ck_assert_msg(r.eip == CODE + want[i][0] && r.ecx == want[i][1], "step %u: eip %x ecx %u", i, r.eip, r.ecx);
    }
    vm_free(vm);
}
END_TEST

START_TEST(a_step_that_ends_the_machine_says_so)
{
    struct vm *vm = new_machine((unsigned)_i);
    struct vm_error err;
    LOAD(vm, 0xb0, 9, 0xe6, DEBUG_PORT, 0x90, 0xeb, 0xfe);
    ck_assert_int_eq(vm_step(vm, false, &err), VM_EXIT_STEPPED);
    ck_assert_int_eq(vm_step(vm, false, &err), VM_EXIT_DEBUG);
    ck_assert_int_eq(vm_step(vm, false, &err), VM_EXIT_STEPPED);
    ck_assert_uint_eq(vm_fixture_registers(vm).eip, CODE + 5);
    vm_pause(vm);
    ck_assert_int_eq(vm_step(vm, false, &err), VM_EXIT_PAUSED);
    ck_assert_uint_eq(vm_fixture_registers(vm).eip, CODE + 5);
    vm_free(vm);
}
END_TEST

static u64 tsc_of(struct vm *vm)
{
    u64 v;
    ck_assert_int_eq(0, vm_get_msr(vm, 0x10, &v));
    return v;
}

START_TEST(time_stands_while_the_machine_does)
{
    /* 0: rdtsc   2: mov ebx,eax   4: nop   5: rdtsc   7: sub eax,ebx   9: out */
    struct vm *vm = new_machine((unsigned)_i);
    LOAD(vm, 0x0f, 0x31, 0x89, 0xc3, 0x90, 0x0f, 0x31, 0x29, 0xd8, 0xe6, DEBUG_PORT, 0xeb, 0xfe);
    ck_assert_int_eq(0, vm_break_add(vm, VM_BREAK_FETCH, CODE + 4, 1));
    expect_break(vm, VM_BREAK_FETCH, CODE + 4, CODE + 4);
    u64 before = tsc_of(vm);
    usleep(300000);
    ck_assert_uint_eq(tsc_of(vm), before);
    vm_break_pass(vm);
    vm_fixture_run(vm, VM_EXIT_DEBUG);
    u32 eax = vm_fixture_registers(vm).eax; /* cycles: 300 ms are more than 200 million */
    ck_assert_msg(eax < 200000000, "%u cycles", eax);
    vm_free(vm);
}
END_TEST

static void *pause_soon(void *arg)
{
    usleep(50000);
    vm_pause(arg);
    return NULL;
}

START_TEST(a_machine_that_waits_does_what_is_asked_of_it_soon_and_runs_nothing)
{
    struct vm *vm = new_machine((unsigned)_i);
    struct vm_error err;
    pthread_t t;
    char path[] = "/tmp/transvisor-test-XXXXXX";
    LOAD(vm, LOOP);
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(0, vm_save_soon(vm, path));
    ck_assert_int_eq(0, pthread_create(&t, NULL, pause_soon, vm));
    ck_assert_int_eq(vm_wait(vm, &err), VM_EXIT_PAUSED);
    pthread_join(t, NULL);
    ck_assert_uint_eq(vm_fixture_registers(vm).eip, CODE);
    close(fd);
    FILE *saved = fopen(path, "r");
    ck_assert_ptr_nonnull(saved);
    ck_assert_int_eq(0, fseek(saved, 0, SEEK_END));
    ck_assert_int_gt(ftell(saved), 1000);
    fclose(saved);
    unlink(path);
    vm_stop(vm);
    ck_assert_int_eq(vm_wait(vm, &err), VM_EXIT_STOPPED);
    vm_free(vm);
}
END_TEST

START_TEST(what_no_breakpoint_can_be_is_refused)
{
    struct vm *vm = new_machine((unsigned)_i);
    ck_assert_int_eq(-EINVAL, vm_break_add(vm, 0, DATA, 1));
    ck_assert_int_eq(-EINVAL, vm_break_add(vm, 8, DATA, 1));
    ck_assert_int_eq(-EINVAL, vm_break_add(vm, VM_BREAK_READ, DATA, 0));
    ck_assert_int_eq(-EINVAL, vm_break_add(vm, VM_BREAK_READ, DATA, VM_BREAK_BYTES_MAX + 1));
    ck_assert_int_eq(0, vm_break_add(vm, VM_BREAK_READ, DATA, VM_BREAK_BYTES_MAX));
    ck_assert_int_eq(-EEXIST, vm_break_add(vm, VM_BREAK_READ, DATA, VM_BREAK_BYTES_MAX));
    vm_free(vm);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("breaks");
    TCase *t = tcase_create("all");
    tcase_add_test(t, a_set_knows_pages_fetches_and_accesses);
    tcase_add_loop_test(t, a_fetch_is_met_before_the_instruction_each_time_and_passed_when_asked, 0, 2);
    tcase_add_loop_test(t, accesses_are_met_behind_their_instruction, 0, 2);
    tcase_add_loop_test(t, the_guests_own_debug_registers_stay_its_own, 0, 2);
    tcase_add_loop_test(t, a_step_is_one_instruction_or_one_iteration, 0, 2);
    tcase_add_loop_test(t, a_step_that_ends_the_machine_says_so, 0, 2);
    tcase_add_loop_test(t, time_stands_while_the_machine_does, 0, 2);
    tcase_add_loop_test(t, a_machine_that_waits_does_what_is_asked_of_it_soon_and_runs_nothing, 0, 2);
    tcase_add_loop_test(t, what_no_breakpoint_can_be_is_refused, 0, 2);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
