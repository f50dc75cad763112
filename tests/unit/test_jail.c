/* The jail, from inside: each kind of thread that has gone wrong tries what a guest that has broken out would try. The
 * vCPU thread does it in an embedder's device, the others are started as the product's are. */
#define _GNU_SOURCE
#include "core/thread.h"
#include "src/jail_files.h"
#include "src/jail_filter.h"
#include "vm_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* There is no jail then. */
#ifdef __SANITIZE_ADDRESS__
#define SANITIZED true
#elif defined __has_feature
#define SANITIZED __has_feature(address_sanitizer)
#else
#define SANITIZED false
#endif

static char folder[] = "/tmp/jail-XXXXXX";
static char other_image[64], save_file[64];

/* ---- deeds ---- */

static long deed_open(void) { return open(other_image, O_RDONLY); }
static long deed_write(void) { return open("/etc/jail-was-here", O_WRONLY | O_CREAT, 0600); }
static long deed_socket(void) { return socket(AF_INET, SOCK_STREAM, 0); }
static long deed_exec(void)
{
    char *const words[] = { "/bin/true", NULL };
    return execv(words[0], words);
}
static long deed_fork(void) { return syscall(SYS_fork); }
static long deed_clone(void) { return syscall(SYS_clone, 0, 0, 0, 0, 0); }
static long deed_attach(void) { return ptrace(PTRACE_ATTACH, getppid(), NULL, NULL); }
static long deed_peek(void)
{
    char to[8];
    struct iovec here = { to, sizeof to }, there = { &here, sizeof to };
    return process_vm_readv(getppid(), &here, 1, &there, 1, 0);
}
static long deed_kill(void) { return syscall(SYS_tgkill, 1, 1, SIGTERM); }
static long deed_code(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0;
}
static long deed_keys(void) { return ioctl(0, 0x5412 /* TIOCSTI */, "x"); }

struct deed {
    const char *name;
    long (*fn)(void);
    bool main_may_try; /* the call is among the main thread's, and the files it reaches are not */
};
static const struct deed deeds[] = {
    { "open another machine's image", deed_open, true },
    { "write a file", deed_write, true },
    { "connect", deed_socket, false },
    { "run a program", deed_exec, false },
    { "fork", deed_fork, false },
    { "clone a process", deed_clone, false },
    { "trace", deed_attach, false },
    { "read another process", deed_peek, false },
    { "kill", deed_kill, false },
    { "make code", deed_code, false },
    { "type on the terminal", deed_keys, false },
};

/* ---- machines ---- */

enum { DONE = 42, DID = 43, SETUP = 44 };
#define DEED_PORT 0x77

static const struct deed *now; /* in the child alone */
static sem_t go, did;

static u32 device_read(void *arg UNUSED, u32 offset UNUSED, unsigned size UNUSED)
{
    if (now->fn() >= 0) _exit(DID);
    return 0;
}

static void *stranger(void *arg UNUSED)
{
    sem_wait(&go);
    if (now->fn() >= 0) _exit(DID);
    sem_post(&did);
    return NULL;
}

/* in al, DEED_PORT; out DEBUG_PORT, al; hlt. In a child; the machine is in its jail. */
static struct vm *jailed(enum vm_engine engine)
{
    const struct vm_device device = { .read = device_read };
    const char *const saves[] = { save_file, NULL };
    const struct vm_jail how = { .size = sizeof how, .saves = saves };
    struct vm_config cfg = vm_fixture_config(engine);
    struct vm_error err;
    struct vm *vm;
    static const u8 code[] = { 0xe4, DEED_PORT, 0xe6, DEBUG_PORT, 0xf4 };
    if (vm_create(&vm, &cfg, &err) || vm_map_ports(vm, DEED_PORT, 1, &device, &err)) _exit(SETUP);
    vm_fixture_load(vm, code, sizeof code);
    if (vm_jail(vm, &how, &err)) {
        fprintf(stderr, "%s\n", err.text);
        _exit(SETUP);
    }
    return vm;
}

struct end {
    int status; /* 128 and a signal's number */
    char text[512];
};

/* What becomes of a child that does body(arg), and what it says. */
static struct end child(void (*body)(unsigned arg), unsigned arg)
{
    struct end e = { 0 };
    int ends[2], status = 0;
    ck_assert_int_eq(0, pipe(ends));
    pid_t pid = fork();
    if (!pid) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        body(arg);
        _exit(DONE);
    }
    close(ends[1]);
    size_t n = 0;
    for (ssize_t r; n + 1 < sizeof e.text && (r = read(ends[0], e.text + n, sizeof e.text - 1 - n)) > 0; n += (size_t)r)
        continue;
    close(ends[0]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    e.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return e;
}

static void must_be_refused(const struct end *e, const char *who, const char *what)
{
    const char *line = strchr(e->text, '\n');
    ck_assert_msg(e->status == 1 && strstr(e->text, "transvisor: jail: the ") == e->text && strstr(e->text, who) && line
                      && !line[1],
                  "%s, %s: status %d, '%s'", who, what, e->status, e->text);
}

/* ---- tests ---- */

static void on_vcpu(unsigned i)
{
    struct vm_error err;
    now = &deeds[i];
    (void)vm_run(jailed(engines[i % ARRAY_LEN(engines)]), &err);
}

START_TEST(a_vcpu_thread_that_has_gone_wrong_ends_the_machine_with_one_line)
{
    struct end e = child(on_vcpu, (unsigned)_i);
    must_be_refused(&e, "vCPU thread", deeds[_i].name);
}
END_TEST

static enum thread_role role;
static void on_other(unsigned i)
{
    pthread_t t;
    now = &deeds[i];
    sem_init(&go, 0, 0);
    sem_init(&did, 0, 0);
    if (thread_start(&t, role, stranger, NULL)) _exit(SETUP);
    (void)jailed(VM_ENGINE_BT);
    sem_post(&go);
    sem_wait(&did);
}

START_TEST(a_disk_thread_that_has_gone_wrong_ends_the_machine_with_one_line)
{
    role = THREAD_DISK;
    struct end e = child(on_other, (unsigned)_i);
    must_be_refused(&e, "disk thread", deeds[_i].name);
}
END_TEST

/* None of them opens, connects, runs or makes anything. */
START_TEST(nor_does_a_thread_of_another_kind_get_away_with_it)
{
    static const struct {
        enum thread_role role;
        const char *name;
    } others[] = { { THREAD_NBD, "NBD thread" }, { THREAD_SERIAL, "serial thread" }, { THREAD_TEXT, "display thread" },
                   { THREAD_VNC, "VNC thread" }, { THREAD_AUDIO, "sound thread" },   { THREAD_RNG, "entropy thread" } };
    for (unsigned i = 0; i < ARRAY_LEN(others); i++) {
        role = others[i].role;
        struct end e = child(on_other, (unsigned)_i);
        must_be_refused(&e, others[i].name, deeds[_i].name);
    }
}
END_TEST

static void on_main(unsigned i)
{
    (void)jailed(VM_ENGINE_BT);
    if (deeds[i].fn() >= 0) _exit(DID);
}

START_TEST(the_main_thread_opens_nothing_that_was_not_named)
{
    struct end e = child(on_main, (unsigned)_i);
    if (!deeds[_i].main_may_try) must_be_refused(&e, "main thread", deeds[_i].name);
    else
        ck_assert_msg(e.status == (jail_files_version() ? DONE : DID), "%s: status %d, '%s'", deeds[_i].name, e.status,
                      e.text);
}
END_TEST

/* All that is free at its end makes the C library think of a smaller heap. */
static long deed_heap(void)
{
    enum { PIECES = 480, SIZE = 65536 };
    static void *piece[PIECES];
    for (unsigned i = 0; i < PIECES; i++) {
        if (!(piece[i] = malloc(SIZE))) _exit(SETUP);
        memset(piece[i], 1, SIZE);
    }
    for (unsigned i = PIECES; i--;) free(piece[i]);
    return -1;
}
static const struct deed fine = { "use memory", deed_heap, false };

static void well_behaved(unsigned i)
{
    struct vm_error err = { "" };
    now = &fine;
    struct vm *vm = jailed(engines[i]);
    for (unsigned round = 0; round < 3; round++) {
        struct vm_registers r;
        if (vm_run(vm, &err) != VM_EXIT_DEBUG || vm_debug_exit_value(vm) != 1) _exit(1);
        if (vm_get_registers(vm, &r) || r.eax & 0xff) _exit(2);
        r.eip = CODE;
        if (vm_set_registers(vm, &r, &err) || vm_save_file(vm, save_file, &err)) {
            fprintf(stderr, "%s\n", err.text);
            _exit(3);
        }
    }
    vm_free(vm);
}

START_TEST(a_machine_in_jail_runs_saves_to_its_file_and_ends)
{
    unlink(save_file);
    struct end e = child(well_behaved, (unsigned)_i);
    ck_assert_msg(e.status == DONE, "status %d, '%s'", e.status, e.text);
    ck_assert_int_eq(0, access(save_file, R_OK));
}
END_TEST

static void *deaf(void *arg UNUSED)
{
    const struct timespec t = { 0, 200 * 1000000L };
    nanosleep(&t, NULL);
    return NULL;
}

/* As one that ends does, the C library's last words in it: a signal that comes then is never heard. */
static void with_one_that_ends(unsigned i UNUSED)
{
    pthread_t t;
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, THREAD_SIGNAL);
    pthread_sigmask(SIG_BLOCK, &one, NULL);
    if (pthread_create(&t, NULL, deaf, NULL)) _exit(SETUP);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    (void)jailed(VM_ENGINE_BT);
}

START_TEST(a_thread_that_ends_meanwhile_is_not_waited_for)
{
    struct end e = child(with_one_that_ends, 0);
    ck_assert_msg(e.status == DONE, "status %d, '%s'", e.status, e.text);
}
END_TEST

/* docs/security.md says so, too. */
START_TEST(the_vcpu_thread_has_25_calls_and_a_machine_without_network_nbd_vnc_and_shares_40)
{
    const unsigned all = (1u << THREAD_ROLES) - 1,
                   some = 1u << THREAD_VNC | 1u << THREAD_NET | 1u << THREAD_NBD | 1u << THREAD_SHARE;
    ck_assert_uint_le(jail_filter_calls(1u << THREAD_VCPU), 25);
    ck_assert_uint_le(jail_filter_calls(all & ~some), 40);
    for (unsigned i = 0; i < THREAD_ROLES; i++) ck_assert_uint_le(jail_filter_calls(1u << i), 40);
}
END_TEST

int main(void)
{
    if (!mkdtemp(folder)) return 1;
    snprintf(other_image, sizeof other_image, "%s/image", folder);
    mkdir(strcat(strcpy(save_file, folder), "/saves"), 0700); /* images of others are not where a machine saves to */
    strcat(save_file, "/machine");
    close(open(other_image, O_WRONLY | O_CREAT, 0600));
    Suite *s = suite_create("jail");
    TCase *t = tcase_create("jail");
    tcase_add_test(t, the_vcpu_thread_has_25_calls_and_a_machine_without_network_nbd_vnc_and_shares_40);
    if (!SANITIZED) {
        tcase_add_loop_test(t, a_vcpu_thread_that_has_gone_wrong_ends_the_machine_with_one_line, 0, ARRAY_LEN(deeds));
        tcase_add_loop_test(t, a_disk_thread_that_has_gone_wrong_ends_the_machine_with_one_line, 0, ARRAY_LEN(deeds));
        tcase_add_loop_test(t, nor_does_a_thread_of_another_kind_get_away_with_it, 0, 4);
        tcase_add_loop_test(t, the_main_thread_opens_nothing_that_was_not_named, 0, ARRAY_LEN(deeds));
    }
    tcase_add_test(t, a_thread_that_ends_meanwhile_is_not_waited_for);
    tcase_add_loop_test(t, a_machine_in_jail_runs_saves_to_its_file_and_ends, 0, ARRAY_LEN(engines));
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    unlink(save_file);
    unlink(other_image);
    *strrchr(save_file, '/') = 0;
    rmdir(save_file);
    rmdir(folder);
    return failed != 0;
}
