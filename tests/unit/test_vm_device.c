/* The embedding API: devices behind callbacks, serial bytes, and what a callback may call. */
#include "tests/unit/vm_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#define PORT 0x500
#define MMIO 0xd0000000u

/* clang-format off */
#define OUT_DEBUG 0xe6, DEBUG_PORT /* OUT F4h, AL */
/* clang-format on */

/* ---- devices ---- */

struct log {
    struct vm *vm;
    unsigned n;
    struct access {
        bool write;
        u32 offset;
        unsigned size;
        u32 value;
    } at[64];
};

static u32 log_read(void *arg, u32 offset, unsigned size)
{
    struct log *l = arg;
    ck_assert_uint_lt(l->n, ARRAY_LEN(l->at));
    l->at[l->n++] = (struct access){ false, offset, size, 0 };
    return 0xa1b2c3d4 + offset;
}
static void log_write(void *arg, u32 offset, unsigned size, u32 value)
{
    struct log *l = arg;
    ck_assert_uint_lt(l->n, ARRAY_LEN(l->at));
    l->at[l->n++] = (struct access){ true, offset, size, value };
}
static struct vm_device logging(struct log *l) { return (struct vm_device){ log_read, log_write, l }; }

static void expect(const struct log *l, const struct access *want, unsigned n)
{
    for (unsigned i = 0; i < n && i < l->n; i++) {
        const struct access *got = &l->at[i];
        ck_assert_msg(got->write == want[i].write && got->offset == want[i].offset && got->size == want[i].size
                          && got->value == want[i].value,
                      "access %u: %s of %u at %x, value %x; not %s of %u at %x, value %x", i,
                      got->write ? "write" : "read", got->size, got->offset, got->value,
                      want[i].write ? "write" : "read", want[i].size, want[i].offset, want[i].value);
    }
    ck_assert_uint_eq(n, l->n);
}
#define EXPECT(l, ...)                                       \
    do {                                                     \
        static const struct access want[] = { __VA_ARGS__ }; \
        expect(l, want, ARRAY_LEN(want));                    \
    } while (0)

static void map_ports(struct vm *vm, u16 base, u32 n, const struct vm_device *d)
{
    struct vm_error err = { "" };
    ck_assert_msg(!vm_map_ports(vm, base, n, d, &err), "%s", err.text);
}
static void map_memory(struct vm *vm, u64 base, u64 n, const struct vm_device *d)
{
    struct vm_error err = { "" };
    ck_assert_msg(!vm_map_memory(vm, base, n, d, &err), "%s", err.text);
}

START_TEST(a_device_at_ports_gets_every_size_and_its_own_part_of_what_straddles)
{
    struct vm_config cfg = vm_fixture_config(engines[_i]);
    struct vm *vm = vm_fixture_new(&cfg);
    struct log four = { .n = 0 }, two = { .n = 0 };
    const struct vm_device d4 = logging(&four), d2 = logging(&two);
    map_ports(vm, PORT, 4, &d4);
    map_ports(vm, PORT + 4, 2, &d2);
    /* EAX = 11223344h; DX = 500h; OUT AL, AX, EAX; IN EAX -> EBX; IN AX -> ECX; INC DX; IN AL; DX = 504h: OUT EAX */
    LOAD(vm, 0xb8, 0x44, 0x33, 0x22, 0x11, 0xba, 0x00, 0x05, 0, 0, 0xee, 0x66, 0xef, 0xef, 0xed, 0x89, 0xc3, 0x66, 0xed,
         0x89, 0xc1, 0x42, 0xec, 0xba, 0x04, 0x05, 0, 0, 0xef, OUT_DEBUG);
    vm_fixture_run(vm, VM_EXIT_DEBUG);
    EXPECT(&four, { true, 0, 1, 0x44 }, { true, 0, 2, 0x3344 }, { true, 0, 4, 0x11223344 }, { false, 0, 4, 0 },
           { false, 0, 2, 0 }, { false, 1, 1, 0 });
    EXPECT(&two, { true, 0, 1, 0xd5 }, { true, 1, 1, 0xc3 }); /* the other two bytes are nobody's */
    struct vm_registers r = vm_fixture_registers(vm);
    ck_assert_uint_eq(0xa1b2c3d4, r.ebx);
    ck_assert_uint_eq(0xa1b2c3d4, r.ecx);
    ck_assert_uint_eq(0xa1b2c3d5, r.eax);
    vm_free(vm);
}
END_TEST

START_TEST(a_device_in_memory_gets_every_size_wherever_it_lies)
{
    static const u64 places[] = { MMIO, 0x180000 /* over RAM */ };
    for (size_t k = 0; k < ARRAY_LEN(places); k++) {
        struct vm_config cfg = vm_fixture_config(engines[_i]);
        struct vm *vm = vm_fixture_new(&cfg);
        struct log log = { .n = 0 };
        const struct vm_device d = logging(&log);
        /* MOV [ESI], AL; MOV [ESI+2], AX; MOV [ESI+4], EAX; MOV EBX, [ESI+8]; MOVZX ECX, BYTE [ESI+1];
         * MOVZX EDX, WORD [ESI+2]; MOV [ESI+0Dh], EAX; MOVQ MM0, [ESI+10h]; OUT */
        LOAD(vm, 0x88, 0x06, 0x66, 0x89, 0x46, 2, 0x89, 0x46, 4, 0x8b, 0x5e, 8, 0x0f, 0xb6, 0x4e, 1, 0x0f, 0xb7, 0x56,
             2, 0x89, 0x46, 0x0d, 0x0f, 0x6f, 0x46, 0x10, OUT_DEBUG);
        struct vm_registers r = vm_fixture_registers(vm), again = r;
        struct vm_error err;
        again.esi = (u32)places[k];
        again.eax = 0x55667788;
        map_memory(vm, places[k], 0x20, &d);
        for (int twice = 0; twice < 2; twice++) {
            log.n = 0;
            ck_assert_int_eq(0, vm_set_registers(vm, &again, &err));
            vm_fixture_run(vm, VM_EXIT_DEBUG);
            EXPECT(&log, { true, 0, 1, 0x88 }, { true, 2, 2, 0x7788 }, { true, 4, 4, 0x55667788 }, { false, 8, 4, 0 },
                   { false, 1, 1, 0 }, { false, 2, 2, 0 }, { true, 0xd, 1, 0x88 }, { true, 0xe, 2, 0x6677 },
                   { true, 0x10, 1, 0x55 }, { false, 0x10, 4, 0 }, { false, 0x14, 4, 0 });
            r = vm_fixture_registers(vm);
            ck_assert_uint_eq(0xa1b2c3dc, r.ebx);
            ck_assert_uint_eq(0xd5, r.ecx);
            ck_assert_uint_eq(0xc3d6, r.edx);
            ck_assert(!memcmp(r.fx + 32, "\xe4\xc3\xb2\xa1\xe8\xc3\xb2\xa1", 8));
        }
        vm_free(vm);
    }
}
END_TEST

START_TEST(a_device_stays_after_a_reset_and_may_be_silent)
{
    struct vm_config cfg = vm_fixture_config(engines[_i]);
    struct vm *vm = vm_fixture_new(&cfg);
    struct log log = { .n = 0 };
    struct vm_error err;
    {
        struct vm_device d = logging(&log); /* is copied */
        map_ports(vm, PORT, 1, &d);
        map_memory(vm, MMIO, 4, &d);
        memset(&d, 0, sizeof d);
        map_ports(vm, PORT + 8, 8, &d);
    }
    for (int i = 0; i < 2; i++) {
        /* DX = 500h: OUT DX, AL; MOV [MMIO], EAX; DX = 508h: OUT DX, EAX; IN EAX, DX */
        LOAD(vm, 0xb8, 7, 0, 0, 0, 0xba, 0x00, 0x05, 0, 0, 0xee, 0xa3, 0, 0, 0, 0xd0, 0xb2, 0x08, 0xef, 0xed,
             OUT_DEBUG);
        vm_fixture_run(vm, VM_EXIT_DEBUG);
        EXPECT(&log, { true, 0, 1, 7 }, { true, 0, 4, 7 });
        ck_assert_uint_eq(0xffffffff, vm_fixture_registers(vm).eax);
        log.n = 0;
        ck_assert_msg(!vm_reset(vm, &err), "%s", err.text);
    }
    vm_free(vm);
}
END_TEST

START_TEST(a_device_that_cannot_be_there_is_refused)
{
    struct vm_config cfg = vm_fixture_config(VM_ENGINE_BT);
    struct vm *vm = vm_fixture_new(&cfg);
    struct log log = { .n = 0 };
    const struct vm_device d = logging(&log);
    struct vm_error err;
    map_ports(vm, 0xfffe, 2, &d); /* the last ones */
    map_memory(vm, MMIO, 0x1000, &d);
    const struct {
        int rc;
        bool port;
        u64 base, n;
    } wrong[] = { { -EBUSY, true, 0x3f8, 1 },          { -EBUSY, true, 0xfffd, 2 },
                  { -EINVAL, true, 0xffff, 2 },        { -EINVAL, true, 0x500, 0 },
                  { -EBUSY, false, MMIO + 0xfff, 16 }, { -EBUSY, false, 0xfee00000, 4 },
                  { -EINVAL, false, MMIO, 0 },         { -EINVAL, false, 0xfffffffff, 2 },
                  { -EINVAL, false, (u64)-4, 8 },      { -EINVAL, false, (u64)1 << 32, ((u64)1 << 32) + 1 } };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        int rc = wrong[i].port ? vm_map_ports(vm, (u16)wrong[i].base, (u32)wrong[i].n, &d, &err)
                               : vm_map_memory(vm, wrong[i].base, wrong[i].n, &d, &err);
        ck_assert_msg(rc == wrong[i].rc, "%zu: %d, not %d", i, rc, wrong[i].rc);
        ck_assert_msg(!strncmp(err.text, "device at ", 10), "%s", err.text);
    }
    vm_free(vm);
}
END_TEST

/* ---- state ---- */

/* Bytes that are saved, and what has been loaded. */
struct kept {
    u8 bytes[300], loaded[300];
    size_t n, nloaded, shrinks;
    unsigned saves, loads;
    int refuses;
};

static size_t kept_save(void *arg, void *to, size_t room)
{
    struct kept *k = arg;
    k->saves++;
    if (room < k->n) return k->n;
    if (k->n) memcpy(to, k->bytes, k->n);
    return k->n - k->shrinks;
}
static int kept_load(void *arg, const void *bytes, size_t n)
{
    struct kept *k = arg;
    k->loads++;
    if (k->refuses) return k->refuses;
    ck_assert_uint_le(n, sizeof k->loaded);
    memcpy(k->loaded, bytes, k->nloaded = n);
    return 0;
}

static int add(struct vm *vm, const char *name, struct kept *k, struct vm_error *err)
{
    const struct vm_state s = { sizeof s, kept_save, kept_load, k };
    return vm_add_state(vm, name, &s, err);
}

static struct vm *copy_of(struct vm *vm)
{
    struct vm_config cfg = vm_fixture_config(VM_ENGINE_INTERP);
    struct vm *copy = NULL;
    struct vm_error err;
    FILE *f = tmpfile();
    ck_assert_msg(!vm_save(vm, fileno(f), &err), "%s", err.text);
    rewind(f);
    ck_assert_msg(!vm_load(&copy, &cfg, fileno(f), &err), "%s", err.text);
    fclose(f);
    return copy;
}

START_TEST(state_that_was_added_is_saved_and_loaded_by_its_name)
{
    struct vm_config cfg = vm_fixture_config(VM_ENGINE_INTERP);
    struct vm *vm = vm_fixture_new(&cfg);
    struct vm_error err;
    struct kept empty = { .n = 0 }, some = { .n = 300 }, other = { .n = 1, .bytes = { 9 } };
    for (unsigned i = 0; i < some.n; i++) some.bytes[i] = (u8)(i * 7);
    LOAD(vm, OUT_DEBUG);
    ck_assert_int_eq(0, add(vm, "empty", &empty, &err));
    ck_assert_int_eq(0, add(vm, "a name of 24 characters.", &some, &err));
    ck_assert_uint_eq(0, empty.loads + some.loads);
    struct vm *copy = copy_of(vm), *third;
    vm_free(vm);
    struct kept empty2 = { .n = 1 }, some2 = { .n = 4 };
    ck_assert_int_eq(VM_EXIT_ERROR, vm_run(copy, &err)); /* before its states are there */
    ck_assert_msg(!strncmp(err.text, "state ", 6), "%s", err.text);
    ck_assert_int_eq(0, add(copy, "empty", &empty2, &err));
    ck_assert_int_eq(0, add(copy, "other", &other, &err)); /* is not in the file */
    third = copy_of(copy);                                 /* what nobody has taken up goes on */
    ck_assert_int_eq(0, add(copy, "a name of 24 characters.", &some2, &err));
    vm_fixture_run(copy, VM_EXIT_DEBUG);
    vm_free(copy);
    ck_assert_uint_eq(1, empty2.loads);
    ck_assert_uint_eq(0, empty2.nloaded);
    ck_assert_uint_eq(0, other.loads);
    ck_assert_uint_eq(300, some2.nloaded);
    ck_assert(!memcmp(some2.loaded, some.bytes, 300));
    struct kept last[3] = { { .n = 0 } };
    ck_assert_int_eq(0, add(third, "a name of 24 characters.", &last[0], &err));
    ck_assert_int_eq(0, add(third, "other", &last[1], &err));
    ck_assert_int_eq(VM_EXIT_ERROR, vm_run(third, &err));
    ck_assert_int_eq(0, add(third, "empty", &last[2], &err));
    vm_fixture_run(third, VM_EXIT_DEBUG);
    vm_free(third);
    ck_assert(last[0].nloaded == 300 && !memcmp(last[0].loaded, some.bytes, 300));
    ck_assert(last[1].nloaded == 1 && last[1].loaded[0] == 9);
    ck_assert(last[2].nloaded == 1 && last[2].loaded[0] == empty2.bytes[0]);
}
END_TEST

START_TEST(a_state_that_cannot_be_is_refused_and_can_be_added_later)
{
    struct vm_config cfg = vm_fixture_config(VM_ENGINE_INTERP);
    struct vm *vm = vm_fixture_new(&cfg);
    struct vm_error err;
    struct kept k = { .n = 3, .bytes = { 1, 2, 3 } };
    struct vm_state s = { sizeof s - 1, kept_save, kept_load, &k };
    ck_assert_int_eq(-EINVAL, vm_add_state(vm, "short", &s, &err));
    s = (struct vm_state){ sizeof s, kept_save, NULL, &k };
    ck_assert_int_eq(-EINVAL, vm_add_state(vm, "without load", &s, &err));
    ck_assert_int_eq(-EINVAL, add(vm, "", &k, &err));
    ck_assert_int_eq(-EINVAL, add(vm, "a name of 25 characters..", &k, &err));
    ck_assert_int_eq(-EINVAL, add(vm, "line\n", &k, &err));
    ck_assert_int_eq(0, add(vm, "k", &k, &err));
    ck_assert_int_eq(-EEXIST, add(vm, "k", &k, &err));
    LOAD(vm, OUT_DEBUG);
    struct vm *copy = copy_of(vm);
    struct kept fussy = { .refuses = -ERANGE };
    ck_assert_int_eq(-ERANGE, add(copy, "k", &fussy, &err));
    ck_assert_msg(!strncmp(err.text, "state k:", 8), "%s", err.text);
    fussy.refuses = 0;
    ck_assert_int_eq(0, add(copy, "k", &fussy, &err));
    ck_assert_uint_eq(3, fussy.nloaded);
    vm_free(copy);
    FILE *f = tmpfile();
    k.shrinks = 1;
    ck_assert_int_eq(-EIO, vm_save(vm, fileno(f), &err));
    k.shrinks = 0;
    k.n = VM_STATE_MAX + 1;
    ck_assert_int_eq(-EFBIG, vm_save(vm, fileno(f), &err));
    fclose(f);
    vm_free(vm);
}
END_TEST

/* ---- what a callback may call ---- */

static void pause_write(void *arg, u32 offset UNUSED, unsigned size UNUSED, u32 value UNUSED)
{
    vm_pause(((struct log *)arg)->vm);
}

START_TEST(a_pause_in_a_callback_comes_right_after_the_instruction)
{
    struct vm_config cfg = vm_fixture_config(engines[_i]);
    struct vm *vm = vm_fixture_new(&cfg);
    struct log log = { .vm = vm };
    const struct vm_device d = { .write = pause_write, .arg = &log };
    map_ports(vm, PORT, 4, &d);
    map_memory(vm, MMIO, 4, &d);
    LOAD(vm, 0x40, 0x66, 0xba, 0x00, 0x05, 0xef, 0x40, 0xa3, 0, 0, 0, 0xd0, 0x40, 0xeb, 0xf1);
    u32 eax = vm_fixture_registers(vm).eax;
    for (u32 i = 0; i < 100; i++) {
        vm_fixture_run(vm, VM_EXIT_PAUSED);
        struct vm_registers r = vm_fixture_registers(vm);
        ck_assert_uint_eq(CODE + 6, r.eip);
        ck_assert_uint_eq(eax + 3 * i + 1, r.eax);
        vm_fixture_run(vm, VM_EXIT_PAUSED);
        r = vm_fixture_registers(vm);
        ck_assert_uint_eq(CODE + 12, r.eip);
        ck_assert_uint_eq(eax + 3 * i + 2, r.eax);
    }
    vm_free(vm);
}
END_TEST

static void try_everything(void *arg, u32 offset UNUSED, unsigned size UNUSED, u32 value)
{
    struct log *l = arg;
    struct vm_registers r;
    struct vm_error err;
    u64 v;
    l->n++;
    memset(&r, 0, sizeof r);
    ck_assert_int_eq(-EBUSY, vm_get_registers(l->vm, &r));
    ck_assert_int_eq(-EBUSY, vm_set_registers(l->vm, &r, &err));
    ck_assert_int_eq(-EBUSY, vm_get_msr(l->vm, 0x10, &v));
    ck_assert_int_eq(-EBUSY, vm_set_msr(l->vm, 0x10, 0));
    ck_assert_int_eq(-EBUSY, vm_reset(l->vm, &err));
    ck_assert_int_eq(-EBUSY, vm_save(l->vm, 2, &err));
    ck_assert_int_eq(-EBUSY, vm_save_file(l->vm, "/nowhere/file", &err));
    ck_assert_int_eq(-EBUSY, vm_info(l->vm, NULL, stderr));
    ck_assert_int_eq(-EBUSY, vm_map_ports(l->vm, 0x600, 1, &(struct vm_device){ 0 }, &err));
    ck_assert_int_eq(-EBUSY, vm_map_memory(l->vm, MMIO + 0x1000, 1, &(struct vm_device){ 0 }, &err));
    ck_assert_int_eq(-EBUSY, add(l->vm, "state", &(struct kept){ .n = 0 }, &err));
    ck_assert_int_eq(VM_EXIT_ERROR, vm_run(l->vm, &err));
    u32 word = 0;
    ck_assert_uint_eq(4, vm_read_linear(l->vm, 0x6000, &word, 4));
    ck_assert_uint_eq(value, word);
    word++;
    ck_assert_uint_eq(4, vm_write_physical(l->vm, 0x6000, &word, 4));
}

START_TEST(a_callback_reaches_memory_and_is_told_that_the_machine_runs)
{
    struct vm_config cfg = vm_fixture_config(engines[_i]);
    struct vm *vm = vm_fixture_new(&cfg);
    struct log log = { .vm = vm };
    const struct vm_device d = { .write = try_everything, .arg = &log };
    map_ports(vm, PORT, 4, &d);
    /* FNINIT; FLD1; MOV [6000h], EAX; OUT DX, EAX; MOV EBX, [6000h]; FADD ST0, ST0; OUT */
    LOAD(vm, 0xdb, 0xe3, 0xd9, 0xe8, 0xb8, 0x34, 0x12, 0, 0, 0xa3, 0, 0x60, 0, 0, 0xba, 0x00, 0x05, 0, 0, 0xef, 0x8b,
         0x1d, 0, 0x60, 0, 0, 0xdc, 0xc0, OUT_DEBUG);
    vm_fixture_run(vm, VM_EXIT_DEBUG);
    struct vm_registers r = vm_fixture_registers(vm);
    ck_assert_uint_eq(1, log.n);
    ck_assert_uint_eq(0x1235, r.ebx);
    ck_assert_uint_eq(0x4000, r.fx[41] << 8 | r.fx[40]); /* 2.0 */
    vm_free(vm);
}
END_TEST

/* ---- the serial port ---- */

/* Polls COM1's line status, sends back what comes with 1 added; ends at FFh. */
static const u8 echo[] = {
    0x66,      0xba, 0xfd, 0x03, /* MOV DX, 3FDh */
    0xec,      0xa8, 0x01,       /* IN AL, DX; TEST AL, 1 */
    0x74,      0xfb,             /* JZ to the IN */
    0x66,      0xba, 0xf8, 0x03, /* MOV DX, 3F8h */
    0xec,      0xfe, 0xc0,       /* IN AL, DX; INC AL */
    0x74,      0x03,             /* JZ to the end */
    0xee,      0xeb, 0xeb,       /* OUT DX, AL; JMP to the start */
    OUT_DEBUG,
};

struct line {
    struct vm *vm;
    u8 got[6000];
    size_t n;
    bool answers; /* by itself: the next number */
    u8 last;
};
static void on_output(void *arg, const u8 *bytes, size_t n)
{
    struct line *l = arg;
    for (size_t i = 0; i < n; i++) {
        ck_assert_uint_lt(l->n, sizeof l->got);
        l->got[l->n++] = bytes[i];
        if (!l->answers) continue;
        u8 next = bytes[i] == l->last ? 0xff : bytes[i];
        ck_assert_int_eq(0, vm_serial_send(l->vm, &next, 1));
    }
}

static struct vm *line_new(struct line *l, enum vm_engine engine)
{
    struct vm_config cfg = vm_fixture_config(engine);
    cfg.serial_output = on_output;
    cfg.serial_output_arg = l;
    l->vm = vm_fixture_new(&cfg);
    ck_assert_ptr_null(vm_serial_terminal(l->vm));
    vm_fixture_load(l->vm, echo, sizeof echo);
    return l->vm;
}

START_TEST(serial_bytes_go_both_ways_by_callbacks)
{
    struct line l = { .answers = true, .last = 200 };
    struct vm *vm = line_new(&l, engines[_i]);
    ck_assert_int_eq(0, vm_serial_send(vm, "\x10", 1)); /* before there is a run */
    vm_fixture_run(vm, VM_EXIT_DEBUG);
    ck_assert_uint_eq(200 - 16, l.n);
    for (size_t i = 0; i < l.n; i++) ck_assert_uint_eq(17 + i, l.got[i]);
    vm_free(vm);
}
END_TEST

static void *send_slowly(void *arg)
{
    struct line *l = arg;
    u8 piece[50];
    for (u32 at = 0; at < 5000; at += sizeof piece) {
        const struct timespec t = { 0, 200000 };
        for (u32 i = 0; i < sizeof piece; i++) piece[i] = (u8)((at + i) % 251);
        ck_assert_int_eq(0, vm_serial_send(l->vm, piece, sizeof piece));
        nanosleep(&t, NULL);
    }
    ck_assert_int_eq(0, vm_serial_send(l->vm, "\xff", 1));
    return NULL;
}

START_TEST(serial_bytes_of_another_thread_arrive_in_order_and_complete)
{
    struct line l = { .n = 0 };
    struct vm *vm = line_new(&l, engines[_i]);
    pthread_t thread;
    ck_assert_int_eq(0, pthread_create(&thread, NULL, send_slowly, &l));
    vm_fixture_run(vm, VM_EXIT_DEBUG);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(5000, l.n);
    for (size_t i = 0; i < l.n; i++) ck_assert_msg(l.got[i] == (u8)(i % 251 + 1), "byte %zu is %u", i, l.got[i]);
    vm_free(vm);
}
END_TEST

START_TEST(serial_bytes_that_wait_are_saved_with_the_machine)
{
    struct line l = { .n = 0 }, m = { .n = 0 };
    struct vm *vm = line_new(&l, engines[_i]), *copy;
    struct vm_config cfg = vm_fixture_config(engines[_i]);
    struct vm_error err;
    FILE *f = tmpfile();
    cfg.serial_output = on_output;
    cfg.serial_output_arg = &m;
    ck_assert_int_eq(0, vm_serial_send(vm, "abc\xff", 4));
    ck_assert_msg(!vm_save(vm, fileno(f), &err), "%s", err.text);
    rewind(f);
    ck_assert_msg(!vm_load(&copy, &cfg, fileno(f), &err), "%s", err.text);
    fclose(f);
    vm_fixture_run(vm, VM_EXIT_DEBUG);
    vm_fixture_run(copy, VM_EXIT_DEBUG);
    ck_assert_uint_eq(3, l.n);
    ck_assert_uint_eq(3, m.n);
    ck_assert(!memcmp(m.got, "bcd", 3));
    vm_free(vm);
    vm_free(copy);
}
END_TEST

START_TEST(a_new_terminal_is_named)
{
    struct vm_config cfg = vm_fixture_config(VM_ENGINE_INTERP);
    cfg.serial = "pty";
    struct vm *vm = vm_fixture_new(&cfg);
    ck_assert_msg(!strncmp(vm_serial_terminal(vm), "/dev/", 5), "%s", vm_serial_terminal(vm));
    vm_free(vm);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("vm_device");
    TCase *t = tcase_create("vm_device");
    const int n = ARRAY_LEN(engines);
    tcase_add_loop_test(t, a_device_at_ports_gets_every_size_and_its_own_part_of_what_straddles, 0, n);
    tcase_add_loop_test(t, a_device_in_memory_gets_every_size_wherever_it_lies, 0, n);
    tcase_add_loop_test(t, a_device_stays_after_a_reset_and_may_be_silent, 0, n);
    tcase_add_test(t, a_device_that_cannot_be_there_is_refused);
    tcase_add_test(t, state_that_was_added_is_saved_and_loaded_by_its_name);
    tcase_add_test(t, a_state_that_cannot_be_is_refused_and_can_be_added_later);
    tcase_add_loop_test(t, a_pause_in_a_callback_comes_right_after_the_instruction, 0, n);
    tcase_add_loop_test(t, a_callback_reaches_memory_and_is_told_that_the_machine_runs, 0, n);
    tcase_add_loop_test(t, serial_bytes_go_both_ways_by_callbacks, 0, n);
    tcase_add_loop_test(t, serial_bytes_of_another_thread_arrive_in_order_and_complete, 0, n);
    tcase_add_loop_test(t, serial_bytes_that_wait_are_saved_with_the_machine, 0, n);
    tcase_add_test(t, a_new_terminal_is_named);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
