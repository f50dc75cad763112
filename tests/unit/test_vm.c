/* The embedding API: descriptions, runs and what ends them, resets, requests from other threads, bugs. */
#include "core/bug.h"
#include "tests/unit/vm_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* clang-format off */
#define OUT_DEBUG(v) 0xb0, (v), 0xe6, DEBUG_PORT /* MOV AL, v; OUT F4h, AL */
/* clang-format on */

static void sleep_ms(unsigned ms)
{
    const struct timespec t = { 0, (long)ms * 1000000 };
    nanosleep(&t, NULL);
}

/* ---- descriptions ---- */

START_TEST(a_field_that_is_wrong_is_named)
{
    const u64 odd = VM_MEMORY_MIN + 1, small = VM_MEMORY_MIN / 2;
    const struct {
        const char *field;
        struct vm_config cfg;
    } wrong[] = {
        { "memory", { .memory = small } },
        { "memory", { .memory = odd } },
        { "memory", { .memory = VM_MEMORY_MAX + PAGE_SIZE } },
        { "code_cache", { .code_cache = VM_CODE_CACHE_MIN - 1 } },
        { "code_cache", { .code_cache = VM_CODE_CACHE_MAX + 1 } },
        { "speed_mhz", { .speed_mhz = VM_SPEED_MAX + 1 } },
        { "speed_mhz", { .speed_mhz = 100, .direct = VM_DIRECT_ALWAYS } },
        { "cpu", { .cpu = "z80" } },
        { "serial", { .serial = "carrier-pigeon" } },
        { "trace", { .trace = "everything" } },
        { "trace", { .trace = "exec@5..1" } },
        { "disable", { .disable = "magic" } },
        { "debug_exit", { .has_debug_exit = true, .debug_exit = 0x20 } },
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct vm_config cfg = wrong[i].cfg;
        struct vm_error err = { "" };
        struct vm *vm;
        char want[40];
        cfg.size = sizeof cfg;
        if (!cfg.memory) cfg.memory = VM_MEMORY_MIN;
        snprintf(want, sizeof want, "%s: ", wrong[i].field);
        ck_assert_msg(vm_create(&vm, &cfg, &err) == -EINVAL, "%zu: %s", i, err.text);
        ck_assert_msg(!strncmp(err.text, want, strlen(want)), "'%s' does not begin with '%s'", err.text, want);
        ck_assert_msg(!strstr(err.text, "--"), "'%s' speaks of an option", err.text);
    }
    struct vm_config cfg = vm_fixture_config(VM_ENGINE_BT);
    struct vm_error err;
    struct vm *vm;
    cfg.kernel = "/nowhere/kernel";
    ck_assert_int_eq(-ENOENT, vm_create(&vm, &cfg, &err));
    ck_assert_msg(strstr(err.text, "/nowhere/kernel"), "%s", err.text);
    ck_assert_int_eq(-ENOENT, vm_create(&vm, &cfg, NULL)); /* nobody wants to know */
}
END_TEST

/* As a library of a later or an earlier version sees it. */
START_TEST(a_description_may_be_smaller_or_larger_than_ours)
{
    struct {
        struct vm_config cfg;
        u64 later[4];
    } large = { .cfg = vm_fixture_config(VM_ENGINE_BT) };
    struct vm_error err;
    struct vm *vm;

    large.cfg.size = sizeof large;
    ck_assert_msg(!vm_create(&vm, &large.cfg, &err), "%s", err.text);
    vm_free(vm);
    large.later[3] = 1;
    ck_assert_int_eq(-EINVAL, vm_create(&vm, &large.cfg, &err));
    ck_assert_msg(!strncmp(err.text, "size: ", 6), "%s", err.text);

    /* What lies behind is not looked at. */
    struct vm_config small = vm_fixture_config(VM_ENGINE_BT);
    small.size = offsetof(struct vm_config, entry_cs);
    small.entry_cs = 7;
    memset(&small.serial_output, 0xff, sizeof small.serial_output);
    ck_assert_msg(!vm_create(&vm, &small, &err), "%s", err.text);
    LOAD(vm, 0xb0, 'x', 0xe6, 0xe9, OUT_DEBUG(4));
    vm_fixture_run(vm, VM_EXIT_DEBUG);
    ck_assert_uint_eq(9, vm_debug_exit_value(vm));
    vm_free(vm);

    static const size_t none[] = { 0, 4, 8 };
    for (size_t i = 0; i < ARRAY_LEN(none); i++) {
        small.size = none[i];
        ck_assert_int_eq(-EINVAL, vm_create(&vm, &small, &err));
        ck_assert_msg(!strncmp(err.text, "size: ", 6), "%s", err.text);
    }
}
END_TEST

START_TEST(a_machine_without_a_kernel_begins_where_reset_leaves_the_processor)
{
    struct vm_config cfg = vm_fixture_config(engines[_i]);
    struct vm *vm = vm_fixture_new(&cfg);
    struct vm_registers r = vm_fixture_registers(vm);
    ck_assert_uint_eq(0xfff0, r.eip);
    ck_assert_uint_eq(0xf000, r.cs.selector);
    ck_assert_uint_eq(0xffff0000, r.cs.base);
    ck_assert_uint_eq(0x60000010, r.cr0);
    ck_assert_uint_eq(2, r.eflags);

    /* From there, in real mode: where the embedder says, at 0000:7c00. */
    static const u8 boot[] = { 0xb8, 0x34, 0x12, 0x8e, 0xd8, 0xe6, DEBUG_PORT }; /* MOV AX, 1234h; MOV DS, AX; OUT */
    struct vm_error err;
    ck_assert_uint_eq(sizeof boot, vm_write_physical(vm, 0x7c00, boot, sizeof boot));
    r.cs.selector = 0;
    r.cs.base = 0;
    r.eip = 0x7c00;
    ck_assert_msg(!vm_set_registers(vm, &r, &err), "%s", err.text);
    vm_fixture_run(vm, VM_EXIT_DEBUG);
    r = vm_fixture_registers(vm);
    ck_assert_uint_eq(0x1234, r.eax & 0xffff);
    ck_assert_uint_eq(0x1234, r.ds.selector);
    ck_assert_uint_eq(0x12340, r.ds.base);
    ck_assert_uint_eq(0x7c00 + sizeof boot, r.eip);
    vm_free(vm);
}
END_TEST

/* ---- runs ---- */

START_TEST(a_machine_runs_again_a_thousand_times)
{
    struct vm_config cfg = vm_fixture_config(engines[_i]);
    struct vm *vm = vm_fixture_new(&cfg);
    LOAD(vm, 0x40, 0xe6, DEBUG_PORT, 0xeb, 0xfb); /* INC EAX; OUT; JMP to the INC */
    struct vm_registers r = vm_fixture_registers(vm);
    u32 eax = r.eax;
    for (u32 i = 1; i <= 1000; i++) {
        vm_fixture_run(vm, VM_EXIT_DEBUG);
        ck_assert_uint_eq(((eax + i) & 0xff) << 1 | 1, vm_debug_exit_value(vm));
        r = vm_fixture_registers(vm);
        ck_assert_uint_eq(eax + i, r.eax);
        ck_assert_uint_eq(CODE + 3, r.eip);
    }
    vm_free(vm);
}
END_TEST

static void *run_once(void *vm)
{
    vm_fixture_run(vm, VM_EXIT_DEBUG);
    return NULL;
}

START_TEST(a_machine_runs_on_one_thread_after_the_other)
{
    struct vm_config cfg = vm_fixture_config(engines[_i]);
    struct vm *vm = vm_fixture_new(&cfg);
    LOAD(vm, 0x40, 0xd9, 0xe8, 0xe6, DEBUG_PORT, 0xeb, 0xf9); /* INC EAX; FLD1; OUT; JMP */
    struct vm_error err;
    struct vm_registers begin = vm_fixture_registers(vm);
    u32 eax = begin.eax;
    begin.fx[4] = 0; /* the x87 stack is empty */
    ck_assert_int_eq(0, vm_set_registers(vm, &begin, &err));
    for (u32 i = 1; i <= 6; i++) {
        pthread_t thread;
        ck_assert_int_eq(0, pthread_create(&thread, NULL, run_once, vm));
        pthread_join(thread, NULL);
        struct vm_registers r = vm_fixture_registers(vm);
        ck_assert_uint_eq(eax + i, r.eax);
        ck_assert_uint_eq(0xff & ~((1u << (8 - i)) - 1), r.fx[4]); /* the tags: one more each time */
    }
    vm_free(vm);
}
END_TEST

START_TEST(two_machines_run_in_turn_on_one_thread)
{
    struct vm_config a = vm_fixture_config(VM_ENGINE_BT), b = vm_fixture_config(VM_ENGINE_INTERP);
    struct vm *vm[2] = { vm_fixture_new(&a), vm_fixture_new(&b) };
    for (int k = 0; k < 2; k++) LOAD(vm[k], 0x40, 0xe6, DEBUG_PORT, 0xeb, 0xfb);
    u32 eax = vm_fixture_registers(vm[0]).eax;
    for (u32 i = 1; i <= 20; i++)
        for (int k = 0; k < 2; k++) {
            vm_fixture_run(vm[k], VM_EXIT_DEBUG);
            ck_assert_uint_eq(eax + i, vm_fixture_registers(vm[k]).eax);
        }
    vm_free(vm[0]);
    vm_free(vm[1]);
}
END_TEST

START_TEST(what_has_ended_stays_so_until_the_reset)
{
    struct vm_config cfg = vm_fixture_config(engines[_i]);
    struct vm *vm = vm_fixture_new(&cfg);
    struct vm_error err;
    LOAD(vm, 0x0f, 0x0b); /* UD2, without an IDT */
    struct vm_registers r = vm_fixture_registers(vm);
    r.idtr.limit = 0;
    ck_assert_int_eq(0, vm_set_registers(vm, &r, &err));
    for (int i = 0; i < 3; i++) vm_fixture_run(vm, VM_EXIT_DIED);
    ck_assert_int_eq(-ESRCH, vm_save(vm, STDERR_FILENO, &err));

    ck_assert_msg(!vm_reset(vm, &err), "%s", err.text);
    r = vm_fixture_registers(vm);
    ck_assert_uint_eq(0xfff0, r.eip);
    ck_assert_uint_eq(0xffff, r.idtr.limit);
    u8 byte = 1;
    ck_assert_uint_eq(1, vm_read_physical(vm, CODE, &byte, 1));
    ck_assert_uint_eq(0, byte); /* RAM, too */
    LOAD(vm, OUT_DEBUG(3));
    vm_fixture_run(vm, VM_EXIT_DEBUG);
    ck_assert_uint_eq(7, vm_debug_exit_value(vm));
    vm_free(vm);
}
END_TEST

START_TEST(a_guests_reset_is_an_event_if_it_is_wanted)
{
    struct vm_config cfg = vm_fixture_config(engines[_i]);
    cfg.no_reboot = true;
    struct vm *vm = vm_fixture_new(&cfg);
    LOAD(vm, 0xb0, 0xfe, 0xe6, 0x64, 0xf4); /* the keyboard controller's reset line; HLT */
    vm_fixture_run(vm, VM_EXIT_RESET);
    ck_assert_uint_ne(0xfff0, vm_fixture_registers(vm).eip); /* as it was */
    vm_pause(vm);
    vm_fixture_run(vm, VM_EXIT_PAUSED); /* begins with the reset */
    ck_assert_uint_eq(0xfff0, vm_fixture_registers(vm).eip);
    vm_free(vm);
}
END_TEST

/* ---- requests of other threads ---- */

struct asker {
    struct vm *vm;
    void (*ask)(struct vm *vm);
    pthread_t thread;
};
static void *ask_soon(void *arg)
{
    const struct asker *a = arg;
    sleep_ms(20);
    a->ask(a->vm);
    return NULL;
}
/* On a busy host the request may come before the guest has done anything: whoever wants that runs it again, up to
 * TRIES times. */
enum { TRIES = 100 };
static void run_until_asked(struct vm *vm, void (*ask)(struct vm *), enum vm_exit want)
{
    struct asker a = { .vm = vm, .ask = ask };
    ck_assert_int_eq(0, pthread_create(&a.thread, NULL, ask_soon, &a));
    vm_fixture_run(vm, want);
    pthread_join(a.thread, NULL);
}

START_TEST(a_busy_guest_is_paused_and_stopped_by_another_thread_and_goes_on)
{
    struct vm_config cfg = vm_fixture_config(engines[_i]);
    struct vm *vm = vm_fixture_new(&cfg);
    LOAD(vm, 0x40, 0xeb, 0xfd); /* INC EAX; JMP */
    u32 before = vm_fixture_registers(vm).eax;
    for (int i = 0; i < 6; i++) {
        struct vm_registers r = { .eax = before };
        for (int k = 0; k < TRIES && r.eax == before; k++) {
            run_until_asked(vm, i & 1 ? vm_stop : vm_pause, i & 1 ? VM_EXIT_STOPPED : VM_EXIT_PAUSED);
            r = vm_fixture_registers(vm);
            ck_assert_msg(r.eip == CODE || r.eip == CODE + 1, "eip %08x", r.eip);
        }
        ck_assert_uint_ne(before, r.eax);
        before = r.eax;
    }
    vm_free(vm);
}
END_TEST

START_TEST(a_guest_in_hlt_is_paused_and_sleeps_on)
{
    struct vm_config cfg = vm_fixture_config(engines[_i]);
    struct vm *vm = vm_fixture_new(&cfg);
    LOAD(vm, 0xf4, 0x40, 0xf4); /* HLT; INC EAX; HLT */
    u32 eax = vm_fixture_registers(vm).eax;
    for (int i = 0; i < 3; i++) {
        struct vm_registers r = { 0 };
        for (int k = 0; k < TRIES && !r.halted; k++) {
            run_until_asked(vm, vm_pause, VM_EXIT_PAUSED);
            r = vm_fixture_registers(vm);
        }
        ck_assert_uint_eq(1, r.halted);
        ck_assert_uint_eq(CODE + 1, r.eip);
        ck_assert_uint_eq(eax, r.eax);
    }
    vm_free(vm);
}
END_TEST

START_TEST(a_request_between_runs_ends_the_next_one_once)
{
    struct vm_config cfg = vm_fixture_config(engines[_i]);
    struct vm *vm = vm_fixture_new(&cfg);
    LOAD(vm, OUT_DEBUG(1));
    vm_pause(vm);
    vm_pause(vm);
    vm_fixture_run(vm, VM_EXIT_PAUSED);
    ck_assert_uint_eq(CODE, vm_fixture_registers(vm).eip);
    vm_stop(vm);
    vm_pause(vm);
    vm_fixture_run(vm, VM_EXIT_STOPPED);
    vm_fixture_run(vm, VM_EXIT_PAUSED);
    ck_assert_uint_eq(CODE, vm_fixture_registers(vm).eip);
    vm_fixture_run(vm, VM_EXIT_DEBUG);
    vm_free(vm);
}
END_TEST

/* ---- saved machines ---- */

START_TEST(a_machine_is_saved_between_runs_and_goes_on_under_the_other_engine)
{
    struct vm_config cfg = vm_fixture_config(engines[_i]), other = vm_fixture_config(engines[!_i]);
    struct vm *vm = vm_fixture_new(&cfg), *copy;
    struct vm_error err;
    char path[] = "/tmp/test_vm.XXXXXX";
    int fd = mkstemp(path);
    LOAD(vm, 0x40, 0xe6, DEBUG_PORT, 0xeb, 0xfb);
    vm_fixture_run(vm, VM_EXIT_DEBUG);
    ck_assert_msg(!vm_save_file(vm, path, &err), "%s", err.text);
    close(fd);
    fd = open(path, O_RDONLY);
    ck_assert_msg(!vm_load(&copy, &other, fd, &err), "%s", err.text);
    close(fd);
    vm_fixture_run(vm, VM_EXIT_DEBUG);
    vm_fixture_run(copy, VM_EXIT_DEBUG);
    ck_assert_uint_eq(vm_fixture_registers(vm).eax, vm_fixture_registers(copy).eax);
    ck_assert_uint_eq(CODE + 3, vm_fixture_registers(copy).eip);
    vm_free(copy);

    other.memory = 2 * VM_MEMORY_MIN;
    fd = open(path, O_RDONLY);
    ck_assert_int_eq(-EINVAL, vm_load(&copy, &other, fd, &err));
    ck_assert_msg(!strncmp(err.text, "memory: ", 8), "%s", err.text);
    close(fd);

    /* By another thread, while it runs. */
    struct stat st;
    unlink(path);
    vm_fixture_load(vm, "\x40\xeb\xfd", 3);
    ck_assert_int_eq(0, vm_save_soon(vm, path));
    run_until_asked(vm, vm_pause, VM_EXIT_PAUSED);
    ck_assert_int_eq(0, stat(path, &st));
    ck_assert_int_gt(st.st_size, 4096);
    unlink(path);
    vm_free(vm);
}
END_TEST

/* ---- what is told ---- */

START_TEST(state_and_counters_are_told_as_text)
{
    struct vm_config cfg = vm_fixture_config(engines[_i]);
    struct vm *vm = vm_fixture_new(&cfg);
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    LOAD(vm, 0xb8, 0x78, 0x56, 0x34, 0x12, OUT_DEBUG(0));
    vm_fixture_run(vm, VM_EXIT_DEBUG);
    ck_assert_int_eq(0, vm_info(vm, "cpu", out));
    ck_assert_int_eq(0, vm_info(vm, "com1", out));
    ck_assert_int_eq(-ENOENT, vm_info(vm, "flux", out));
    vm_diagnose(vm, out);
    vm_stats(vm, out);
    fclose(out);
    static const char *const words[] = { "cpu.eip: 0x100009", "com1.", "eax 12345600", "\"run_cycles\":" };
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        ck_assert_msg(strstr(text, words[i]), "no '%s' in %s", words[i], text);
    free(text);
    vm_free(vm);
}
END_TEST

/* ---- bugs ---- */

struct fatal {
    jmp_buf back;
    char text[300];
};
static void on_fatal(void *arg, const char *text)
{
    struct fatal *f = arg;
    snprintf(f->text, sizeof f->text, "%s", text);
    longjmp(f->back, 1);
}
static void find_a_bug(void *arg, u32 offset UNUSED, unsigned size UNUSED, u32 value)
{
    (void)arg;
    BUG_ON(value == 7);
}

/* There if this is built with ASan, which need not tell that the machine with the bug is never freed. */
void __lsan_disable(void) __attribute__((weak));

START_TEST(a_bug_of_ours_goes_to_the_embedder_whose_other_machines_go_on)
{
    static struct fatal fatal;
    const struct vm_device device = { .write = find_a_bug };
    struct vm_config cfg = vm_fixture_config(engines[_i]);
    if (__lsan_disable) __lsan_disable();
    struct vm *bad = vm_fixture_new(&cfg), *good = vm_fixture_new(&cfg);
    struct vm_error err;
    ck_assert_msg(!vm_map_ports(bad, 0x500, 1, &device, &err), "%s", err.text);
    LOAD(bad, 0xd9, 0xe8, 0xb0, 7, 0xba, 0x00, 0x05, 0, 0, 0xee); /* FLD1; AL = 7; DX = 500h; OUT */
    LOAD(good, 0x40, 0xe6, DEBUG_PORT, 0xeb, 0xfb);
    vm_on_fatal(on_fatal, &fatal);
    if (!setjmp(fatal.back)) {
        vm_run(bad, &err);
        ck_abort_msg("the bug was not found");
    }
    vm_on_fatal(NULL, NULL);
    ck_assert_msg(strstr(fatal.text, "test_vm.c:") && strstr(fatal.text, "value == 7"), "%s", fatal.text);
    for (int i = 0; i < 3; i++) vm_fixture_run(good, VM_EXIT_DEBUG);
    LOAD(good, 0x40, 0xeb, 0xfd);
    run_until_asked(good, vm_pause, VM_EXIT_PAUSED);
    vm_free(good);
    struct vm *next = vm_fixture_new(&cfg);
    LOAD(next, OUT_DEBUG(5));
    vm_fixture_run(next, VM_EXIT_DEBUG);
    vm_free(next);
}
END_TEST

START_TEST(a_bug_that_nobody_wants_to_know_of_ends_the_process)
{
    close(STDERR_FILENO); /* what it says */
    vm_on_fatal(NULL, NULL);
    bug_found("file.c", 1, "never");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("vm");
    TCase *t = tcase_create("vm");
    const int n = ARRAY_LEN(engines);
    tcase_add_test(t, a_field_that_is_wrong_is_named);
    tcase_add_test(t, a_description_may_be_smaller_or_larger_than_ours);
    tcase_add_loop_test(t, a_machine_without_a_kernel_begins_where_reset_leaves_the_processor, 0, n);
    tcase_add_loop_test(t, a_machine_runs_again_a_thousand_times, 0, n);
    tcase_add_loop_test(t, a_machine_runs_on_one_thread_after_the_other, 0, n);
    tcase_add_test(t, two_machines_run_in_turn_on_one_thread);
    tcase_add_loop_test(t, what_has_ended_stays_so_until_the_reset, 0, n);
    tcase_add_loop_test(t, a_guests_reset_is_an_event_if_it_is_wanted, 0, n);
    tcase_add_loop_test(t, a_busy_guest_is_paused_and_stopped_by_another_thread_and_goes_on, 0, n);
    tcase_add_loop_test(t, a_guest_in_hlt_is_paused_and_sleeps_on, 0, n);
    tcase_add_loop_test(t, a_request_between_runs_ends_the_next_one_once, 0, n);
    tcase_add_loop_test(t, a_machine_is_saved_between_runs_and_goes_on_under_the_other_engine, 0, n);
    tcase_add_loop_test(t, state_and_counters_are_told_as_text, 0, n);
    tcase_add_loop_test(t, a_bug_of_ours_goes_to_the_embedder_whose_other_machines_go_on, 0, n);
    tcase_add_test_raise_signal(t, a_bug_that_nobody_wants_to_know_of_ends_the_process, SIGABRT);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
